"""The one place where text is printed: what a file or a function says may not command the terminal that shows it.

Control characters (ESC begins a terminal's commands), characters that turn the direction of writing, and halves of characters are
shown as JSON escapes, which leave a printed JSON object what it was.  Characters that the reader's encoding does not have are spelled:
Windows gives a pipe cp1252, in which there is no β.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from typing import TextIO

from tabular_rlhf.layout import fold

HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode's categories of control, format, surrogate, and separators of lines and paragraphs."""
KEPT = "\n\t\u200c\u200d"
"""Of these, what is printed: line ends, tabs, and the joiners that some scripts are written with."""
SPELLED: dict[str, str] = dict(
    re.findall(
        r"(\S) (\S+)",
        """
    ≤ <=  ≥ >=  ≠ !=  ≈ ~  → ->  ← <-  ⇒ =>  ∝ ~  ∞ inf  ∑ sum  ∏ prod  ✓ ok  ✗ NO  ▶ >
    − -  – -  — -  · *  × x  √ sqrt  ∈ in  ∇ grad  ‘ '  ’ '  “ "  ” "  \u0302 ^  \u0303 ~
    \u0304 -  ∂ d  ∫ int  ∀ all  ± +-  ⟨ <  ⟩ >  ∥ |  ‖ ||
    """,
    )
)
"""Characters in ASCII; Greek letters have names, and others are made of ASCII letters and marks."""


def visible(text: str) -> str:
    r"""The text with what is not to reach a terminal escaped.

    >>> visible("\x1b[31mred"), visible("a\tb\u202e")
    ('\\u001b[31mred', 'a\tb\\u202e')
    """
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join(_escaped(c) if unicodedata.category(c) in HIDDEN and c not in KEPT else c for c in text)


def _escaped(c: str) -> str:
    units = c.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def spelled(text: str, encoding: str | None) -> str:
    r"""The text in an encoding's own characters (None: it has them all).

    >>> spelled("β log Z ≤ V", "ascii"), spelled("naïve ∎", "cp1252")
    ('beta log Z <= V', 'naïve \\u220e')
    """
    if can_say(text, encoding):
        return text
    return "".join(c if can_say(c, encoding) else _spelled(c) for c in text)


def can_say(text: str, encoding: str | None) -> bool:
    try:
        text.encode(encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _spelled(c: str) -> str:
    word = unicodedata.name(c, "").split()
    if word[:1] == ["GREEK"] and "LETTER" in word:
        letter = word[word.index("LETTER") + 1].lower().replace("lamda", "lambda")
        return letter.capitalize() if word[1] == "CAPITAL" else letter
    plain = SPELLED.get(c) or "".join(p for p in unicodedata.normalize("NFKD", c) if p.isascii())
    return plain or _escaped(c)


def say(what: object, file: TextIO | None = None) -> None:
    """Print a line, or lines, on stdout (or `file`), if it is open."""
    out = file or sys.stdout
    if out is not None:
        print(spelled(visible(str(what)), out.encoding), file=out)


def show(what: object) -> None:
    """Print text for people on stdout, within the width of their page."""
    say(fold(spelled(visible(str(what)), getattr(sys.stdout, "encoding", None))))
