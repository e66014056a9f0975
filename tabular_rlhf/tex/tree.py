r"""The tree of a formula: rows of nodes, six kinds of them over leaves.

A leaf has a class, as TeX's atoms do (letter, relation, opening bracket, ...), and the class alone decides how it is spaced.
"""

from __future__ import annotations

from dataclasses import dataclass, field


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
