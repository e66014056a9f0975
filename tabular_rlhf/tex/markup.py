r"""A formula as HTML that needs neither script nor network: MathML, which browsers draw themselves.

Long statements break between their clauses: each clause is a `<math>` of its own, and words between them are words of the page.
Every `<math>` has its terminal line as `alttext`, for readers that cannot see it drawn.

>>> html(r"x^2").partition("alttext=")[2]
'"x²"><msup><mi>x</mi><mn>2</mn></msup></math></span>'
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from tabular_rlhf.tex.line import line
from tabular_rlhf.tex.read import parse
from tabular_rlhf.tex.symbols import GAP, PRIME
from tabular_rlhf.tex.tree import NAMED, Accent, Atom, Brace, Fenced, Fraction, Leaf, Root, Row, Scripts, atoms, kind_of

INFIX, TIGHT = 'form="infix"', 'stretchy="false" lspace="0" rspace="0"'
TAGS: dict[str, tuple[str, str]] = {
    **dict.fromkeys(("letter", "word", "function", "limit"), ("mi", "")),
    "number": ("mn", ""),
    "text": ("mtext", ""),
    "code": ("mtext", 'style="font-family: monospace"'),
    "rel": ("mo", f'{INFIX} stretchy="false"'),
    "bin": ("mo", f'{INFIX} stretchy="false"'),
    "sum": ("mo", 'form="prefix"'),
    "prefix": ("mo", f'form="prefix" {TIGHT}'),
    "sign": ("mo", f'form="prefix" {TIGHT}'),
    "open": ("mo", f'form="prefix" {TIGHT}'),
    "close": ("mo", f'form="postfix" {TIGHT}'),
    "slash": ("mo", f"{INFIX} {TIGHT}"),
    "punct": ("mo", f'{INFIX} stretchy="false" lspace="0" rspace="0.1667em"'),
    "mark": ("mo", f'form="postfix" {TIGHT}'),
}
"""The element of a class of leaf, and its attributes: the writer knows the form of every sign, so browsers need not guess it."""

STYLE = "font-family: 'STIX Two Math', 'Cambria Math', 'Latin Modern Math', 'DejaVu Math TeX Gyre', math; padding: 0.2em 0"
"""Mathematical fonts of the common systems, for only these say how brackets and sums grow; room between lines."""

THIN = '<mspace width="0.1667em"/>'


def html(tex: str) -> str:
    r"""A formula of LaTeX as a fragment of HTML: one `<span class="tex">`, well-formed as XML, too.

    tex, without dollars.  Raises InputError, with the place, for what is malformed or not in the table of commands.

    >>> html(r"\text{if } p < q").count("<math")
    1
    """
    return f'<span class="tex">{"".join(_clauses(atoms(parse(tex))))}</span>'


def _clauses(row: list[Atom]) -> Iterator[str]:
    """Words, and the formulas between them; a wide space ends a formula, too."""
    clause, words = list[Atom](), False
    for atom in row:
        plain_words = atom.kind in {"text", "code"}
        if plain_words or atom.width > 1:
            yield _clause(clause)
            clause = []
        if atom.spaces and not clause:
            yield " " if atom.width < 2 else "\u2003" * (atom.width - 1)  # a browser may break the line here
        if atom.kind == "punct" and words and not clause and isinstance(atom.node, Leaf):
            yield atom.node.text  # a line must not begin with it
            continue
        words = plain_words
        if plain_words and isinstance(atom.node, Leaf):
            yield f"<code>{escape(atom.node.text)}</code>" if atom.kind == "code" else escape(atom.node.text)
        else:
            clause.append(Atom(atom.node, atom.kind, atom.gap) if not clause else atom)
    yield _clause(clause)


def _clause(row: list[Atom]) -> str:
    if not row:
        return ""
    words = escape(line(tuple(node for atom in row for node in (*atom.spaces, *([GAP] if atom.gap else []), atom.node))))
    return f'<math displaystyle="true" style="{STYLE}" alttext="{words}">{_row(row)}</math>'


def _row(row: list[Atom]) -> str:
    """Elements side by side, with the spaces that were asked for and those that named functions need."""
    text, before = "", ""
    for atom in row:
        text += "".join(f'<mspace width="{s.drawn}"/>' for s in atom.spaces)
        if before and not atom.spaces and _thin(before, atom.kind):
            text += THIN
        text += _node(atom)
        before = atom.kind
    return text


def _thin(a: str, b: str) -> bool:
    """Whether a named function stands beside what is neither its bracket nor a sign with its own space."""
    loose = {"letter", "number", "word", "fraction", "text", *NAMED}
    return (a in NAMED and b in loose) or (b in NAMED and a in loose | {"close", "fenced"}) or ("word" in (a, b) and {a, b} <= loose)


def _box(row: Row) -> str:
    """A row as one element."""
    found = atoms(row)
    return _node(found[0]) if len(found) == 1 and not found[0].spaces else f"<mrow>{_row(found)}</mrow>"


def _element(tag: str, *inside: str, attributes: str = "") -> str:
    return f"<{tag}{' ' + attributes if attributes else ''}>{''.join(inside)}</{tag}>"


def _node(atom: Atom) -> str:
    match atom.node:
        case Leaf():
            return _leaf(atom.node, atom.kind)
        case Fraction(over, under, bar):
            return _element("mfrac", _box(over), _box(under), attributes="" if bar else 'linethickness="0"')
        case Root(inside, degree):
            return _element("mroot", _box(inside), _box(degree)) if degree else _element("msqrt", _row(atoms(inside)))
        case Fenced(inside):
            return _element("mrow", *(_stretched(a) for a in atoms(inside)))
        case Accent(base, _, _, drawn):
            near = "" if drawn == "¯" else 'accent="true"'  # as an accent a bar touches its letter
            return _element("mover", _box(base), f'<mo stretchy="false">{escape(drawn)}</mo>', attributes=near)
        case Brace():
            return _braced(atom.node)
        case Scripts():
            return _scripted(atom.node, atom.kind)


def _leaf(leaf: Leaf, kind: str) -> str:
    tag, attributes = TAGS[kind]
    shown = leaf.drawn or leaf.text
    if tag == "mi" and leaf.kind in {"rel", "bin", "bar"}:
        tag, attributes = "mo", TAGS["slash"][1]
    if kind == "word" and len(shown) == 1:
        attributes = 'mathvariant="normal"'
    if leaf.size:
        attributes = attributes.replace('stretchy="false"', f'stretchy="true" minsize="{leaf.size:g}em" maxsize="{leaf.size:g}em"')
    return _element(tag, escape(shown), attributes=attributes)


def _stretched(atom: Atom) -> str:
    r"""An atom between `\left` and `\right`: brackets grow with what they hold."""
    return _node(atom).replace('stretchy="false"', 'stretchy="true"') if atom.kind in {"open", "close"} else _row([atom])


def _scripted(node: Scripts, kind: str) -> str:
    """Limits stand under and over a sum, scripts beside all else, primes on the line, where fonts draw them high."""
    base = _node(Atom(node.base[0], kind)) if len(node.base) == 1 and kind_of(node.base[0]) != "prefix" else _box(node.base)
    primes = sum(n == PRIME for n in node.sup)
    if primes:
        base = _element("mrow", base, *(_leaf(PRIME, "mark") for _ in range(primes)))
    sup, limits = node.sup[primes:], kind in {"sum", "limit"}
    if not node.sub and not sup:
        return base
    tags = ("munder", "mover", "munderover") if limits else ("msub", "msup", "msubsup")
    return _element(tags[2 if node.sub and sup else 0 if node.sub else 1], base, *(_box(s) for s in (node.sub, sup) if s))


def _braced(node: Brace) -> str:
    tag, drawn = ("munder", "⏟") if node.under else ("mover", "⏞")
    brace = _element(tag, _box(node.base), f'<mo stretchy="true">{drawn}</mo>')
    return _element(tag, brace, _box(node.note)) if node.note else brace
