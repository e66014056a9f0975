r"""A tree compiled once: its axes, and a function of a scope.

The plain closure is called first; where its answer is not finite, the careful one (see `axes`) is.  What is undefined even then (0/0
outside every mean) is nan here, for whoever compares two formulas entry by entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from tabular_rlhf.autodiff import plain
from tabular_rlhf.formula import indices, laws, slopes, sums  # noqa: F401  they enter their rules
from tabular_rlhf.formula.axes import axis_kind, fitted, in_order
from tabular_rlhf.formula.lexicon import Lexicon
from tabular_rlhf.formula.meaning import SETTING, Meaning, length
from tabular_rlhf.formula.tree import Node


@dataclass(frozen=True)
class Compiled:
    """A formula that runs: `compiled(scope)` is an array over `axes`; `assumed` says what its letters were taken for."""

    tree: Node
    axes: tuple[str, ...]
    plainly: Any
    carefully: Any
    assumed: Mapping[str, str] = field(default_factory=dict)
    bound: Mapping[str, Any] | None = None
    setting: Mapping[str, str] = field(default_factory=dict)
    spans: frozenset[tuple[str, ...]] = frozenset()

    @cached_property
    def meaning(self) -> Any:
        """What tells it from another formula: its tree, and what its letters and its means stand for."""
        return self.tree, *sorted((name, str(what)) for name, what in {**(self.bound or {}), **self.setting}.items())

    def needs(self, scope: Any) -> int:
        """How many numbers the largest table has that is made on the way; ranges are not counted."""
        known = ([a for axis in span if axis_kind(a := axis.rstrip(".")) in ("x", "tau", "s", "a")] for span in self.spans)
        return max((prod(length(axis, scope) for axis in span) for span in known), default=1)

    def __call__(self, scope: Any) -> Any:
        with np.errstate(all="ignore"):
            y = self.plainly(scope)
            return y if np.isfinite(plain(y)).all() else self.carefully(scope)


def compile(tree: Node, bound: Mapping[str, Any] | None = None, text: str = "", **setting: str) -> Compiled:
    """The tree as a function of a scope of symbols.

    Args: tree; bound, letters and what they stand for: a formula as text, or a `lexicon.Given` table that the scope holds; text, from
    which it was read; setting, laws of means that name none (law="p", prompts="mu", pairs="p_ref", people="P_beats").

    >>> from tabular_rlhf.formula.read import read
    >>> from tabular_rlhf.symbols import Scope
    >>> from tabular_rlhf.world import coin
    >>> compile(read("beta*log(sum_tau p_ref*exp(r/beta)) - V(x)"))(Scope(coin(), 0)).round(12).tolist()
    [0.0]
    """
    lexicon = Lexicon(bound)
    made, careful = (Meaning(text, lexicon, {**SETTING, **setting}, careful=careful) for careful in (False, True))
    fast, safe = made(tree), careful(tree)
    axes = in_order(fast.axes)
    plainly, carefully = (fitted(value.of, value.axes, axes) for value in (fast, safe))
    return Compiled(tree, axes, plainly, carefully, dict(lexicon.assumed), bound, setting, frozenset(made.spans))
