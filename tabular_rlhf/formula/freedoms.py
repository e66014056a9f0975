r"""What a course may leave open: conventions under any of which a formula is right, as rewrites of its tree.

    free ddof                 a standard deviation divides by n, or by n - 1
    free sign of lambda       a letter is what it is, or its negative
    free eps -> 0             a small number stands for itself, or for nothing

A choice holds for a whole derivation: with two lines that choose differently none is made.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np

from tabular_rlhf.errors import InputError, quoted
from tabular_rlhf.formula.read import key_of
from tabular_rlhf.formula.tree import Node, num, sym

NOTHING = 1e-300
"""What stands for an epsilon that is left out: 0/0 is 0, and all else is as without it, to rounding."""


@dataclass(frozen=True)
class Choice:
    """One way to read a formula: in words ("" as it stands), and the rewrite of its tree.

    values: what becomes of the values of letters, where that says the same; of_values, whether it does.
    """

    words: str
    rewrite: Callable[[Node], Node]
    values: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    of_values: bool = True


def mapped(tree: Node, change: Callable[[Node], Node]) -> Node:
    """The tree with every node changed, the lowest first."""
    return change(tree.over(*(mapped(kid, change) for kid in tree.kids)))


def _of_a_letter(words: str, name: str, become: Callable[[Node], Node], value: Callable[[Any], Any]) -> Choice:
    change = lambda tree: mapped(tree, lambda n: become(n) if n == sym(name) else n)  # noqa: E731
    return Choice(f"{name} {words}", change, {name: value})


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
        sample = lambda n: Node("std", n.kids, 1) if n.op == "std" else n  # noqa: E731
        change = Choice("std divides by n - 1", lambda tree: mapped(tree, sample), of_values=False)
    elif m := re.fullmatch(r"(?:the )?sign of (\S+)", words):
        change = _of_a_letter("has the other sign", key_of(m[1]), lambda n: Node("neg", (n,)), lambda x: -x)
    elif m := re.fullmatch(r"(\S+) ?(?:->|→|\\to) ?0", words):
        change = _of_a_letter("is left out", key_of(m[1]), lambda n: num(NOTHING), lambda x: np.full(np.shape(x), NOTHING)[()])
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

        words = ", ".join(choice.words for choice in of if choice.words)
        values = {name: change for choice in of for name, change in choice.values.items()}
        return Choice(words, rewrite, values, all(choice.of_values for choice in of))

    return [joined(of) for of in product(*map(freedom, free))]
