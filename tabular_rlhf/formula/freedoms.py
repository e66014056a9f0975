r"""What a course may leave open: conventions under any of which a formula is right, as rewrites of its tree.

    free ddof                 a standard deviation divides by n, or by n - 1
    free sign of lambda       a letter is what it is, or its negative
    free eps -> 0             a small number stands for itself, or for nothing

A choice holds for a whole derivation: with two lines that choose differently none is made.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product

from tabular_rlhf.errors import InputError, quoted
from tabular_rlhf.formula.read import key_of
from tabular_rlhf.formula.tree import Node, num, sym

NOTHING = 1e-300
"""What stands for an epsilon that is left out: 0/0 is 0, and all else is as without it, to rounding."""


@dataclass(frozen=True)
class Choice:
    """One way to read a formula: in words ("" as it stands), and the rewrite of its tree."""

    words: str
    rewrite: Callable[[Node], Node]


def mapped(tree: Node, change: Callable[[Node], Node]) -> Node:
    """The tree with every node changed, the lowest first."""
    return change(tree.over(*(mapped(kid, change) for kid in tree.kids)))


def _everywhere(words: str, change: Callable[[Node], Node]) -> Choice:
    return Choice(words, lambda tree: mapped(tree, change))


AS_IT_STANDS = Choice("", lambda tree: tree)
REMEDY = "write ddof, sign of LETTER, or LETTER -> 0"


def freedom(text: str) -> tuple[Choice, ...]:
    """The choices that one convention leaves.

    >>> from tabular_rlhf.formula.read import read
    >>> from tabular_rlhf.formula.say import say
    >>> [say(choice.rewrite(read("r + lambda"))) for choice in freedom("sign of lambda")]
    ['r + lambda', 'r + (-lambda)']
    """
    words = " ".join(text.split())
    if words in ("ddof", "std"):
        change = _everywhere("std divides by n - 1", lambda n: Node("std", n.kids, 1) if n.op == "std" else n)
    elif m := re.fullmatch(r"(?:the )?sign of (\S+)", words):
        name = key_of(m[1])
        change = _everywhere(f"{name} has the other sign", lambda n: Node("neg", (n,)) if n == sym(name) else n)
    elif m := re.fullmatch(r"(\S+) ?(?:->|→|\\to) ?0", words):
        name = key_of(m[1])
        change = _everywhere(f"{name} is left out", lambda n: num(NOTHING) if n == sym(name) else n)
    else:
        raise InputError("what is free must be a convention", got=quoted(text), remedy=REMEDY)
    return AS_IT_STANDS, change


def choices(free: Iterable[str]) -> list[Choice]:
    """Every way to choose, as it stands first.

    Raises InputError for what is no convention.
    """

    def joined(of: tuple[Choice, ...]) -> Choice:
        def rewrite(tree: Node) -> Node:
            for choice in of:
                tree = choice.rewrite(tree)
            return tree

        return Choice(", ".join(choice.words for choice in of if choice.words), rewrite)

    return [joined(of) for of in product(*map(freedom, free))]
