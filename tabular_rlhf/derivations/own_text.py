r"""A reader's own derivation as text: plain typing, Markdown or LaTeX, cut into steps that are read one by one.

    # what a policy gives away                     a comment
    let u = p_ref/p                                a definition, for the whole text
    free ddof                                      a convention that is left open (`formula.freedoms`)
    J_x = E_p[r] - beta*KL(p, p_ref)               an equation of its own: its left side begins a chain
     = E_p[r - beta*log(p/p_ref)]                  a relation to the line above
    so log p_star = log p_ref + r/beta - log Z     a new chain, said in so many words

In Markdown what stands in `$...$`, `$$...$$` or a display of LaTeX is the chain, and the words around it are comments; a text
without a dollar is plain.  Of LaTeX the surroundings (`\begin{align}`, `&`, `\\`, labels) are left out.  A line goes on with the next
one while a bracket is open, and where the next begins with + or -.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tabular_rlhf.errors import InputError, quoted

MOST = 400
"""Lines of formulas that a chain may have."""
WORDS = {
    r"(?:=|equals?|is)?\s*up to a constant(?: in (?:pi|p|theta|the policy))?\s*:?": "up to a constant",
    r"(?:has |with |of )?(?:the )?same gradient(?: in theta)?(?: as)?\s*:?": "same gradient",
    r"(?:has |with )?(?:the )?same maximizer(?: as)?\s*:?": "same maximizer",
    r"(?:has |with )?(?:the )?same minimizer(?: as)?\s*:?": "same minimizer",
    r"(?:so|hence|thus|therefore|then)\b[,:]?": "so",
    r"\\(?:Rightarrow|implies|Longrightarrow|iff|Leftrightarrow|therefore)(?![A-Za-z])": "so",
    r"<=|≤|\\leq?(?:slant)?(?![A-Za-z])": "<=",
    r">=|≥|\\geq?(?:slant)?(?![A-Za-z])": ">=",
    r"\\simeq(?![A-Za-z])|≃": "up to a constant",
    r":?=|\\(?:equiv|coloneqq)(?![A-Za-z])": "=",
}
"""How a relation may be written where a line begins."""
OPENING = re.compile("|".join(f"(?P<r{k}>{words})" for k, words in enumerate(WORDS)), re.IGNORECASE)
FURNITURE = re.compile(
    r"\\(?:begin|end)\{(?:align|aligned|equation|displaymath|gather|split|eqnarray|multline|flalign|alignat|document|proof)\*?\}(?:\{\d+\})?"
    r"|\\(?:nonumber|notag|displaystyle|allowdisplaybreaks)(?![A-Za-z])|\\(?:label|tag)\*?\{[^}]*\}|\\[\[\]]|(?<!\\)&"
)
"""What LaTeX wraps around formulas."""
PROSE = re.compile(r"(?!.*[\\=<>$])(?:[A-Za-z']+[,:;]? ){2,}[A-Za-z']+$")
"""A line of words, without a sign of mathematics."""
ASIDE = ("let", "free")
"""What is said beside a chain, and is no line of it."""
COMMENT = re.compile(r"\s*(?:#|//|>(?!=)|<!--)|(?<![\\%])%")


@dataclass(frozen=True)
class Piece:
    """One line of a chain.  relation: as in RELATIONS, "let" for a definition, "free" for a convention that is left
    open, "" where an equation of its own begins.

    line: of the text, from 1.  about: the words beside it.
    """

    relation: str
    formula: str
    line: int
    about: str = ""


def pieces(text: str) -> list[Piece]:
    r"""The lines of a chain, in order.

    Raises: InputError for a text without a formula, one that is too long, or whose first line is a relation without a left side.

    >>> [(p.relation, p.formula) for p in pieces("let u = p/p_ref\nE_p[log(u)]\n = KL(p, p_ref)  # by definition")]
    [('let', 'u = p/p_ref'), ('', 'E_p[log(u)]'), ('=', 'KL(p, p_ref)')]
    >>> [p.relation for p in pieces(r"\begin{align} J &= a \\ &\le b \end{align}")]
    ['', '<=']
    """
    found: list[Piece] = []
    for line, formula, about in joined(lines_of(text)):
        if PROSE.match(formula) and opening(formula)[0] != "free":
            remedy = "put # before words, or $ around formulas"
            raise InputError("a line must be a formula, not a sentence", got=quoted(formula), where=f"line {line}", remedy=remedy)
        relation, rest = opening(formula)
        if not rest:
            if relation == "so":
                continue  # the word alone, on a line of its own: the next line begins a chain anyway
            raise InputError(
                "a relation must have a right side", got=quoted(formula), where=f"line {line}", remedy="write what it is equal to"
            )
        if relation not in ("", "so", *ASIDE) and all(p.relation in ASIDE for p in found):
            remedy = f"write A {relation} B, or put the left side on a line before"
            raise InputError("a relation must have a left side", got=quoted(formula), where=f"line {line}", remedy=remedy)
        found.append(Piece("" if relation == "so" else relation, rest, line, about))
        if len(found) > MOST:
            raise InputError(f"a chain must have at most {MOST} lines", got=f"{len(text.splitlines())} lines", remedy="cut it into parts")
    if all(p.relation in ASIDE for p in found):
        raise InputError("a chain must hold a formula", got=quoted(text), remedy="write E_p[r] = sum_tau p*r, one relation a line")
    return found


def unread(text: str) -> list[str]:
    r"""The formulas of a Markdown text that stand within sentences: they are part of the sentence, and not of the chain.

    >>> unread("We see that $p = q$ here.\n$r = r$")
    ['p = q']
    """
    if "$" not in text:
        return []
    taken = {number for number, _, _ in lines_of(text)}
    return [m for n, raw in enumerate(text.splitlines(), 1) if n not in taken for m in re.findall(r"\$([^$]*[=<>][^$]*)\$", raw)]


def opening(formula: str) -> tuple[str, str]:
    """The relation that a line begins with, "" if it has none, and what stands behind it."""
    if m := re.match(r"(?:let|define|set|where|with|put)\b\s*:?", formula, re.IGNORECASE):
        return "let", formula[m.end() :].strip()
    if m := re.match(r"free\b:?\s+", formula, re.IGNORECASE):
        return "free", formula[m.end() :].strip()
    m = OPENING.match(formula)
    if m is None:
        return "", formula
    relation, rest = list(WORDS.values())[int(str(m.lastgroup)[1:])], formula[m.end() :].strip()
    if relation == "so":  # "so = ..." and "so that = ..." go on
        following, behind = opening(rest)
        return (following, behind) if following not in ("", "so") else ("so", behind)
    return relation, rest


def lines_of(text: str) -> Iterator[tuple[int, str, str]]:
    """(number, formula, words beside it) of every line that holds a formula."""
    markdown = "$" in text
    displayed = False
    text = whole_rows(text)
    for number, raw in enumerate((in_dollars(text) if markdown else text).splitlines(), 1):
        if markdown:
            inside, outside, displayed = dollars(raw, displayed)
            found, about = [inside], outside
        else:
            code, about = uncommented(raw)
            found = [code]
        for part in found:
            for formula in re.split(r"\\\\(?:\[[^\]]*\])?", part):
                formula = FURNITURE.sub(" ", formula).strip().rstrip(".,;").strip()
                if formula:
                    yield number, formula, about.strip()


ENVIRONMENT = r"(?:align|equation|gather|eqnarray|multline|flalign|alignat|displaymath)\*?"
DISPLAY = re.compile(rf"\$\$|\\\\\[|\\(?P<open>\[|begin\{{{ENVIRONMENT}\}}(?:\{{\d+\}})?)|\\(?P<close>\]|end\{{{ENVIRONMENT}\}})")
"""What begins and ends a display; a line break with a length, \\\\[2pt], is none."""


ROWS = re.compile(rf"(\\begin\{{{ENVIRONMENT}\}})(.*?)(\\end\{{{ENVIRONMENT}\}})", re.DOTALL)
"""An environment, in which rows end with two backslashes and not with the line."""


def whole_rows(text: str) -> str:
    r"""A text whose rows of LaTeX each stand on one line; the lines after them keep their numbers.

    >>> whole_rows("\\begin{align} a &= b\n + c \\\\\n &= d \\end{align}")
    '\\begin{align} a &= b  + c \\\\\n\n &= d \\end{align}'
    """

    def rows(m: re.Match[str]) -> str:
        if r"\\" not in m[2]:
            return m[0]
        out, row = "", list[str]()
        for line in m[2].split("\n"):
            row.append(line)
            if re.search(r"\\\\(?:\[[^\]]*\])?\s*$", line):
                out, row = out + " ".join(row) + "\n" * len(row), []
        return m[1] + out + " ".join(row) + m[3] + "\n" * max(0, len(row) - 1)

    return ROWS.sub(rows, text)


def in_dollars(text: str) -> str:
    r"""A text whose displays all stand in $$: \begin{align} and \[ begin one, where none is open.

    >>> in_dollars(r"We have \[ a = b \] and $$\begin{align} c &= d \end{align}$$")
    'We have $$ a = b $$ and $$\\begin{align} c &= d \\end{align}$$'
    """
    within = ""

    def dollar(m: re.Match[str]) -> str:
        nonlocal within
        if m[0] == "$$":
            within = "" if within else "$$"
        elif m["open"] and not within:
            within = "\\]"
            return "$$"
        elif m["close"] and within == "\\]":
            within = ""
            return "$$"
        return m[0]

    return DISPLAY.sub(dollar, text)


def uncommented(raw: str) -> tuple[str, str]:
    """A line without its comment, and the comment."""
    m = COMMENT.search(raw) if COMMENT.match(raw) else re.search(r"\s#|(?<![\\%])%", raw)
    return (raw, "") if m is None else (raw[: m.start()], raw[m.start() :].strip(" \t#/%>"))


INLINE = re.compile(
    r"\s*(?:[-*>]\s+|\d+[.)]\s+)?(?P<word>(?:=|<=|>=|(?:so|hence|thus|therefore|then|let|free|define|set|with|where)\b(?: that)?)?)[,:]?\s*"
    r"\$(?P<formula>[^$]+)\$\s*(?P<about>[.,;:]?\s*(?:\(.*\)|#.*|by .*|because .*|since .*|[.,;:])?)\s*",
    re.IGNORECASE,
)
"""A line of Markdown that is one formula; a formula within a sentence is part of the sentence."""


def dollars(raw: str, displayed: bool) -> tuple[str, str, bool]:
    """The formula of a line of Markdown, the words beside it; displayed: whether the line begins, and the next one, inside of $$."""
    if displayed or "$$" in raw:
        parts = raw.split("$$")
        formula = " ".join(part.strip() for part in parts[0 if displayed else 1 :: 2])
        return formula, " ".join(part.strip() for part in parts[1 if displayed else 0 :: 2]), displayed == (len(parts) % 2 == 1)
    if m := INLINE.fullmatch(raw):
        return f"{m['word'].removesuffix(' that')} {m['formula']}".strip(), m["about"].strip(" .,;:()#"), False
    return "", raw.strip(" #*_-"), False


def joined(lines: Iterator[tuple[int, str, str]]) -> Iterator[tuple[int, str, str]]:
    """Lines that go on put together: while a bracket is open, or where the next begins with + or -."""
    held: tuple[int, str, str] | None = None
    for number, formula, about in lines:
        if held is not None and (is_open(held[1]) or re.match(r"[+\-*/−·]|\\cdot|\\times", formula)):
            held = held[0], f"{held[1]} {formula}", f"{held[2]} {about}".strip()
            continue
        if held is not None:
            yield held
        held = number, formula, about
    if held is not None:
        yield held


def is_open(formula: str) -> bool:
    """Whether a line ends inside a bracket, or with a sign that wants more."""
    plain = re.sub(r"\\[{}]", "", formula)
    return any(plain.count(a) > plain.count(b) for a, b in ("()", "[]", "{}")) or bool(re.search(r"[+\-*/=,]$", plain.rstrip()))
