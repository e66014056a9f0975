"""The one place where text is printed: what a file or a function says may not command the terminal that shows it.

Control characters (ESC begins a terminal's commands), characters that turn the direction of writing, and halves of characters are
shown as JSON escapes, which leave a printed JSON object what it was.
"""

from __future__ import annotations

import sys
import unicodedata
from typing import TextIO

HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode's categories of control, format, surrogate, and separators of lines and paragraphs."""
KEPT = "\n\t\u200c\u200d"
"""Of these, what is printed: line ends, tabs, and the joiners that some scripts are written with."""


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


def say(what: object, file: TextIO | None = None) -> None:
    """Print a line, or lines, on stdout (or `file`)."""
    print(visible(str(what)), file=file or sys.stdout)
