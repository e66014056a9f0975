r"""The tree of a formula: rows of nodes, six kinds of them over leaves.

A leaf has a class, as TeX's atoms do (letter, relation, opening bracket, ...), and the class alone decides how it is spaced.

**Neighbors.**  `atoms` says what a node is to its neighbors, which both writers need: whether a minus is a sign, which side of |w| a bar
is, what space asks.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Leaf:
    """A symbol: its class, its text in a terminal, how it is drawn where that differs, its size in em where it is not natural."""

    kind: str
    text: str
    drawn: str = ""
    size: float = 0.0


@dataclass(frozen=True)
class Fraction:
    """One row over another; without a bar, in brackets, the ways to choose."""

    over: Row
    under: Row
    bar: bool = field(default=True, repr=False)


@dataclass(frozen=True)
class Root:
    inside: Row
    degree: Row


@dataclass(frozen=True)
class Scripts:
    base: Row
    sub: Row
    sup: Row


@dataclass(frozen=True)
class Accent:
    """A base with a mark: `name` in words, `combining` as a character that joins the letter before it."""

    base: Row
    name: str
    combining: str
    drawn: str


@dataclass(frozen=True)
class Brace:
    """A base with a brace below (`under`) or above, and what the brace says."""

    base: Row
    note: Row
    under: bool


@dataclass(frozen=True)
class Fenced:
    r"""What stands from `\left(` to `\right)`, brackets and all."""

    inside: Row


Node = Leaf | Fraction | Root | Scripts | Accent | Brace | Fenced
Row = tuple[Node, ...]


# ---------------------------------------------------------------------------------------------------- what a node is to its neighbors


OPERATORS = frozenset({"open", "bin", "rel", "punct", "function", "limit", "sum", "slash", "sign"})
"""Classes after which a minus is a sign."""

WORD_SPACE = Leaf("space", " ", "0.25em")

NAMED = frozenset({"function", "limit"})


@dataclass(frozen=True)
class Atom:
    """A node, its class among its neighbors, whether the source has space before it, and the spaces that it asks for."""

    node: Node
    kind: str
    gap: bool = False
    spaces: tuple[Leaf, ...] = ()

    @property
    def width(self) -> int:
        """Characters of space asked for."""
        return max((len(s.text) for s in self.spaces), default=0)


def kind_of(node: Node) -> str:
    """The class of a node alone; what bears scripts is of the class of its base."""
    match node:
        case Leaf():
            return node.kind
        case Scripts():
            kind = kind_of(node.base[0]) if len(node.base) == 1 else _kind_of_group(node.base)
            return {"prefix": "function", "fraction": "letter"}.get(kind, kind)
        case Fenced():
            return "fenced"
        case Fraction():
            return "fraction"
        case Root() | Accent() | Brace():
            return "letter"


def _kind_of_group(row: Row) -> str:
    ends = [node.kind if isinstance(node, Leaf) else "" for node in (row[0], row[-1])] if row else []
    return "fenced" if ends == ["open", "close"] else "letter"


def atoms(row: Row) -> list[Atom]:
    """The nodes of a row but its spaces, each with its class."""
    found, gap, spaces = list[Atom](), False, list[Leaf]()
    for node in row:
        if isinstance(node, Leaf) and node.kind in {"gap", "space"}:
            gap, spaces = True, spaces + ([node] if node.kind == "space" else [])
            continue
        after = list[Leaf]()
        if isinstance(node, Leaf) and node.kind == "text":
            spaces, after = spaces + _ends(node.text[:1]), _ends(node.text.strip() and node.text[-1:])
            node = replace(node, text=node.text.strip())
        kind = kind_of(node)
        if kind == "bin" and (not found or found[-1].kind in OPERATORS):
            kind = "sign" if isinstance(node, Leaf) and node.text in "+-±∓" else "letter"
        found.append(Atom(node, kind, gap, tuple(spaces)))
        gap, spaces = bool(after), after
    return _bars(found)


def _ends(character: str) -> list[Leaf]:
    """Words bring their own space: the first or last character, if it is one."""
    return [WORD_SPACE] if character.isspace() else []


def _bars(found: list[Atom]) -> list[Atom]:
    """Bars open and close in turn; where their number is odd one is no bracket, as in "the value at", and all are letters."""
    places = [i for i, atom in enumerate(found) if atom.kind == "bar"]
    for k, i in enumerate(places):
        kind = "letter" if len(places) % 2 else ("open", "close")[k % 2]
        found[i] = Atom(found[i].node, kind, found[i].gap, found[i].spaces)
    return found
