"""What makes the walk backwards fast: factors that wait, slices put together in one pass, and memory that is written into again.

A sensitivity is linear, so a factor (the -1 of a subtraction, the beta of a penalty) is carried along as one number and multiplied in
where arrays must be added anyway.  `lent` are the arrays that somebody else holds, by way of the rules that hand on an array as it is:
those are not written into.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from tabular_rlhf.autodiff.rules import Scaled, Scatter, room_like, scatter, scatter_into, unbroadcast
from tabular_rlhf.autodiff.table import SMALL, shape_of
from tabular_rlhf.autodiff.trace import Traced, plain


def add(have: Any, g: Any, factor: float, argument: Any, source: Any, lent: set[int]) -> Any:
    """What had come back to a step, and factor * g: one array where that costs nothing, else a `Sensitivity`.

    Args: argument, the one that g is sent to (None: g has its shape); source, what the rule was given that g came from.
    """
    if (type(g) is np.ndarray or type(g) is np.float64) and factor == 1.0 and (argument is None or g.shape == argument.shape):
        if have is None:
            return g
        if g.size <= SMALL and (type(have) is np.ndarray or type(have) is np.float64):
            return have + g
    there = have if type(have) is Sensitivity else Sensitivity(have)
    there.add(g, factor, argument, source, lent)
    return there


class Sensitivity:
    """What has come back to one step so far: factor * whole + the scattered pieces."""

    __slots__ = ("factor", "owned", "pieces", "whole")

    def __init__(self, whole: Any) -> None:
        self.whole, self.factor = whole, 1.0
        self.owned = False  # whether `whole` is a buffer of ours, which we may add into
        self.pieces: list[tuple[Scatter, float]] = []

    def add(self, g: Any, factor: float, argument: Any, source: Any, lent: set[int]) -> None:
        if type(g) is Scaled:
            if g.g is not source:  # the rule keeps its other argument
                lent.add(root(g.g))
            g, factor = g.g, factor * g.factor
        if argument is not None and shape_of(g) != shape_of(argument):
            g = unbroadcast(g, shape_of(argument))
        if not 1e-90 < abs(factor) < 1e90:  # near the ends of the range the order of multiplications matters
            g, factor = g * factor, 1.0
        if type(g) is Scatter:
            self.pieces.append((g, factor))
        elif self.whole is None:
            self.whole, self.factor = g, factor
        elif type(self.whole) is Traced or type(g) is Traced:
            self.whole, self.factor = scaled(self.whole, self.factor) + scaled(g, factor), 1.0
        else:
            have = self.whole if self.owned else self.whole * self.factor
            have += scaled(g, factor)
            self.whole, self.factor, self.owned = have, 1.0, isinstance(have, np.ndarray)

    def total(self, like: Any) -> tuple[Any, float]:
        """(g, factor), with g of the shape of `like`; afterwards `owned` says whether g is a buffer of ours."""
        if not self.pieces:
            shape = shape_of(like)
            return self.whole if shape_of(self.whole) == shape else np.broadcast_to(self.whole, shape), self.factor
        pieces = [(scaled(s.g, factor), s.index) for s, factor in self.pieces]
        whole = None if self.whole is None else scaled(self.whole, self.factor)
        traced = Traced in [type(whole), *(type(g) for g, _ in pieces)]
        self.owned = not traced
        return (_sum_traced if traced else _sum_plain)(whole, pieces, plain(like)), 1.0


def scaled(g: Any, factor: float) -> Any:
    """factor * g."""
    return g if factor == 1.0 else g * factor


def _sum_traced(whole: Any, pieces: list[tuple[Any, Any]], like: Any) -> Any:
    for g, index in pieces:
        part = scatter(g, index, like)
        whole = part if whole is None else whole + part
    return whole


def _sum_plain(whole: Any, pieces: list[tuple[Any, Any]], like: Any) -> Any:
    if whole is None and like.size > SMALL and _tiles([index for _, index in pieces], shape_of(like)):
        out = room_like(like)
        for g, index in pieces:
            out[index] = g
        return out
    if whole is None:
        (g, index), *pieces = pieces
        whole = scatter(g, index, like)
    else:
        whole = np.array(whole, order="K")
    for g, index in pieces:
        scatter_into(whole, g, index)
    return whole


def _tiles(indices: list[Any], shape: tuple[int, ...]) -> bool:
    """Whether the slices are neighbors along one axis and cover it, as those of np.split do."""
    axis = len(indices[0]) - 1 if isinstance(indices[0], tuple) else -1
    for index in indices:
        if axis < 0 or not isinstance(index, tuple) or len(index) != axis + 1 or any(type(i) is not slice for i in index):
            return False
        if any(i != slice(None) for i in index[:axis]) or index[axis].step not in (None, 1):
            return False
    cuts = sorted(index[axis].indices(shape[axis])[:2] for index in indices)
    return cuts[0][0] == 0 and cuts[-1][1] == shape[axis] and all(a[1] == b[0] for a, b in itertools.pairwise(cuts))


def root(x: Any) -> int:
    """Which memory an array is a view of."""
    while isinstance(x, np.ndarray) and x.base is not None:
        x = x.base
    return id(x)


def private(g: Any, lent: set[int]) -> Any:
    """`g`, copied if it may be a view of an array that somebody else holds; from now on, `g` is held by our caller."""
    if not isinstance(g, np.ndarray):
        return g
    if g.size <= SMALL or not g.flags.writeable or root(g) in lent:
        return np.array(g, order="K")
    lent.add(root(g))
    return g
