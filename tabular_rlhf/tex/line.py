r"""A formula as one line of Unicode, for a terminal.

A fraction is a quotient with brackets where a reader could misread it, and only there.  A script is raised or lowered where Unicode
has its characters, else it follows ^ or _.  A star or a prime stands right after its letter, before any subscript: `p*_θ` is
(p*) with θ, `E_p*` is E with p*.

>>> print(plain(r"\frac{\partial\, \beta \log Z}{\partial r(\tau)} = p^*(\tau)"))
(∂ β log Z)/∂r(τ) = p*(τ)
>>> print(plain(r"\log\frac{p}{p_{ref}} \le \tfrac{1}{G} \sum_{i=1}^{n} x_i^2"))
log(p/p_ref) ≤ (1/G) Σ_(i=1)ⁿ x_i²
"""

from __future__ import annotations

import re
import unicodedata

from tabular_rlhf.tex.read import parse
from tabular_rlhf.tex.tree import NAMED, Accent, Atom, Brace, Fenced, Fraction, Leaf, Root, Row, Scripts, atoms

RAISED: dict[int, int] = str.maketrans("0123456789+-abcdefghijklmnoprstuvwxyz", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻ")
LOWERED: dict[int, int] = str.maketrans("0123456789+-aehijklmnoprstuvx", "₀₁₂₃₄₅₆₇₈₉₊₋ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓ")
FACTORS = frozenset({"letter", "number", "word", "prefix", "fraction", "text", "code"})
"""Classes that multiply what stands beside them."""


def plain(tex: str) -> str:
    r"""A formula of LaTeX as one readable line.

    tex, without dollars.  Raises InputError, with the place, for what is malformed or not in the table of commands.

    >>> print(plain(r"\beta \log Z - J(p) = \beta\, \mathrm{KL}(p, p^*)"))
    β log Z - J(p) = β KL(p, p*)
    """
    return line(parse(tex))


def prose(markdown: str) -> str:
    r"""Text with formulas between dollars, for a terminal.

    >>> prose(r"Return $\beta \log Z$ for each prompt.")
    'Return β log Z for each prompt.'
    """
    return re.sub(r"\$([^$]+)\$", lambda found: plain(found[1]), markdown)


def line(row: Row, *, tight: bool = False) -> str:
    """A row of nodes; `tight` without spaces around signs, as in scripts."""
    text, before, here = "", "", atoms(row)
    for i, atom in enumerate(here):
        after = here[i + 1].kind if i + 1 < len(here) else ""
        kind, shown = atom.kind, _node(atom)
        if kind == "fraction" and _wrapped(before, after):
            kind, shown = "fenced", f"({shown})"
        room = _room(before, kind, atom.gap, tight=tight)
        if atom.width > 1 or (atom.width and not {before, kind} & {"rel", "bin", "punct"} and before != "open" and kind != "close"):
            room = " " * atom.width
        text += (room if text else "") + shown
        before = kind
    return text


def _room(a: str, b: str, gap: bool, *, tight: bool) -> str:
    """The space between two neighbors, by their classes and by whether the source has any."""
    if not a or a in {"open", "slash", "sign"} or b in {"close", "punct", "slash", "mark"}:
        return ""
    if {a, b} & {"rel", "bin", "punct"}:
        return "" if tight else " "
    if "text" in (a, b):
        return " " if a in NAMED | {"sum"} else ""
    if b in {"open", "fenced"}:
        return " " if a == "sum" or (gap and a not in NAMED | {"prefix"}) else ""
    if a in NAMED | {"sum"} or b in NAMED | {"sum", "fraction"} or ("word" in (a, b) and FACTORS >= {a, b}):
        return " "
    return " " if gap and a != "prefix" else ""


def _wrapped(before: str, after: str) -> bool:
    """Whether a quotient would be misread between these neighbors: log a/b, 1/a/b, a/b c."""
    tight = before in NAMED | {"prefix", "slash", "number"}
    return tight or after in NAMED | {"letter", "number", "word", "prefix", "fraction", "open", "fenced", "sum", "slash"}


def _node(atom: Atom) -> str:
    match atom.node:
        case Leaf():
            return atom.node.text
        case Fraction(over, under, False):
            return f"{line(over)} over {line(under)}"
        case Fraction(over, under):
            return f"{_numerator(over)}/{_one(under, call=True)}"
        case Root(inside, degree):
            return f"{line(degree).translate(RAISED)}√{_one(inside, call=False)}"
        case Fenced(inside):
            return line(inside)
        case Accent():
            return _accented(atom.node)
        case Brace(base, note, _):
            return f"({line(base)}: {line(note)})" if note else line(base)
        case Scripts():
            return _scripted(atom.node)


def _numerator(row: Row) -> str:
    """What may stand before a slash: a product, in brackets where it holds a sum, a list, a quotient or a named function."""
    loose = {atom.kind for atom in _outside(row)} & (NAMED | {"bin", "rel", "punct", "sum", "slash", "fraction", "text"})
    return f"({line(row)})" if loose or not row else line(row)


def _one(row: Row, *, call: bool) -> str:
    """A row as one factor: as it stands if it is one, else in brackets."""
    return line(row) if _is_one(row, call=call) else f"({line(row)})"


def _is_one(row: Row, *, call: bool) -> bool:
    """Whether a row is one factor, which may be a differential, as dβ is, or (`call`) a value, as p(x) is."""
    found = _outside(row)
    while len(found) > 1 and (found[0].kind == "prefix" or found[0].node == Leaf("letter", "d")) and not found[1].spaces:
        found = found[1:]
    kinds = [atom.kind for atom in found]
    if call and kinds[1:] in (["open", "close"], ["fenced"]) and not found[1].gap and kinds[0] in {"letter", "word"}:
        return not any(atom.kind == "bin" for atom in atoms(row))  # q(1 - q) may be a product
    return kinds in (["open", "close"], ["fenced"]) or (len(kinds) == 1 and kinds[0] in FACTORS - {"fraction", "text"})


def _outside(row: Row) -> list[Atom]:
    """The atoms of a row that stand in no brackets, with the outermost brackets."""
    found, depth = list[Atom](), 0
    for atom in atoms(row):
        depth -= atom.kind == "close"
        if depth <= 0:
            found.append(atom)
        depth += atom.kind == "open"
    return found


def _accented(node: Accent) -> str:
    base = line(node.base)
    return base + node.combining if len(_bare(base)) == 1 else f"{node.name.removeprefix('wide')}({base})"


def _scripted(node: Scripts) -> str:
    """The base, its stars and primes, its subscript, its power."""
    base = line(node.base)
    if len(node.base) > 1 or not isinstance(node.base[0], Leaf | Accent | Fenced):
        called = [atom.kind for atom in _outside(node.base)] in (["open", "close"], ["fenced"])
        base = base if called else f"({base})"
    sub, sup = (line(s, tight=not any(isinstance(n, Leaf) and n.kind == "open" for n in s)) for s in (node.sub, node.sup))
    marks = re.match(r"[*']*", sup)
    lead = marks[0] if marks else ""
    sup = sup[len(lead) :].strip()
    above, below = (_script(sup, "^", RAISED) if sup else ""), (_script(sub, "_", LOWERED) if sub else "")
    return base + lead + below + above


def _script(text: str, mark: str, table: dict[int, int]) -> str:
    """Digits, signs and at most one letter in Unicode's small characters, other words after the mark, the rest in brackets.

    A lone letter is lowered by its mark alone (`x_i`), for the small letters are few and a formula should not mix the two.
    """
    letters = sum(c.isalpha() for c in text)
    if letters <= (mark == "^" or len(text) > 1) and all(ord(c) in table for c in text):
        return text.translate(table)
    bare = _bare(text)
    word = re.fullmatch(r"[^\W_]+[*']*" if mark == "_" else r"[^\W_]", bare) and not {ord(c) for c in bare} & set(RAISED.values())
    return mark + text if word or re.fullmatch(r"\([^()]*\)", text) else f"{mark}({text})"


def _bare(text: str) -> str:
    """Without accents."""
    return "".join(c for c in text if not unicodedata.combining(c))
