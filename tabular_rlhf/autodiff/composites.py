r"""Operations written with other traced operations, which need no rule of their own; and those whose answer is discrete."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from tabular_rlhf.autodiff.rules import join
from tabular_rlhf.autodiff.table import COMPOSITES, PLAIN, shape_of
from tabular_rlhf.autodiff.trace import Traced, apply


def _concatenate(arrays: Any, axis: int | None = 0) -> Any:
    parts = tuple(arrays) if axis is not None else tuple(np.ravel(a) for a in arrays)
    parts = tuple(a if type(a) is Traced else np.asarray(a) for a in parts)
    return apply(join, parts, {"axis": axis or 0}) if any(type(a) is Traced for a in parts) else np.concatenate(parts, axis or 0)


def _count(x: Any, axis: Any) -> float:
    axes = range(len(shape_of(x))) if axis is None else (axis if isinstance(axis, tuple) else (axis,))
    return float(np.prod([shape_of(x)[a] for a in axes]))


def _mean(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    return np.sum(x, axis=axis, keepdims=keepdims) / _count(x, axis)


def _var(x: Any, axis: Any = None, ddof: float = 0, keepdims: bool = False) -> Any:
    return np.sum(np.square(x - _mean(x, axis, True)), axis=axis, keepdims=keepdims) / (_count(x, axis) - ddof)


def _along(axis: int, index: Any) -> tuple[Any, ...]:
    return (slice(None),) * axis + (index,)


def _take(x: Any, indices: Any, axis: int | None = None) -> Any:
    return np.ravel(x)[indices] if axis is None else x[_along(axis % x.ndim, indices)]


def _take_along_axis(x: Any, indices: Any, axis: int | None = -1) -> Any:
    if axis is None:
        return np.ravel(x)[indices]
    grid = list(np.ogrid[tuple(slice(n) for n in indices.shape)])
    grid[axis % x.ndim] = indices
    return x[tuple(grid)]


def _split(x: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    if isinstance(indices_or_sections, (int, np.integer)):
        n, rest = divmod(x.shape[axis], int(indices_or_sections))
        if rest:
            raise ValueError("array split does not result in an equal division")
        cuts = [n * k for k in range(1, int(indices_or_sections))]
    else:
        cuts = [int(i) for i in indices_or_sections]
    return [x[_along(axis % x.ndim, slice(a, b))] for a, b in itertools.pairwise([0, *cuts, x.shape[axis]])]


def _flip(x: Any, axis: Any = None) -> Any:
    axes = range(x.ndim) if axis is None else [a % x.ndim for a in (axis if isinstance(axis, tuple) else (axis,))]
    return x[tuple(slice(None, None, -1) if a in axes else slice(None) for a in range(x.ndim))]


def _dot(a: Any, b: Any) -> Any:
    if not shape_of(a) or not shape_of(b):
        return a * b
    if max(len(shape_of(a)), len(shape_of(b))) > 2:
        raise TypeError("np.dot on traced arrays of more than two dimensions has no rule; use matmul or einsum")
    return np.matmul(a, b)


COMPOSITES.update(
    {
        np.mean: _mean,
        np.var: _var,
        np.std: lambda x, axis=None, ddof=0, keepdims=False: np.sqrt(_var(x, axis, ddof, keepdims)),
        np.min: lambda x, axis=None, keepdims=False: -np.max(-x, axis=axis, keepdims=keepdims),
        np.concatenate: _concatenate,
        np.stack: lambda arrays, axis=0: _concatenate([np.expand_dims(a, axis) for a in arrays], axis),
        np.split: _split,
        np.take: _take,
        np.take_along_axis: _take_along_axis,
        np.flip: _flip,
        np.diff: lambda x, n=1, axis=-1: _flat_diff(x, n, axis),
        np.dot: _dot,
        np.inner: lambda a, b: _dot(a, b if len(shape_of(b)) < 2 else np.transpose(b)),
        np.outer: lambda a, b: np.ravel(a)[:, None] * np.ravel(b)[None, :],
        np.repeat: lambda x, repeats, axis=None: _take(x, np.repeat(np.arange(x.size if axis is None else x.shape[axis]), repeats), axis),
        np.roll: lambda x, shift, axis=None: np.reshape(
            _take(x, np.roll(np.arange(x.size if axis is None else x.shape[axis]), shift), axis), x.shape
        ),
        np.float_power: lambda a, b: np.power(a, b),
        np.copy: lambda x, **_: x,
    }
)


def _flat_diff(x: Any, n: int, axis: int) -> Any:
    for _ in range(n):
        x = _take(x, np.arange(1, x.shape[axis]), axis) - _take(x, np.arange(x.shape[axis] - 1), axis)
    return x


PLAIN.update(
    [np.greater, np.greater_equal, np.less, np.less_equal, np.equal, np.not_equal, np.sign, np.isnan, np.isfinite, np.isinf]
    + [np.isneginf, np.isposinf, np.argmax, np.argmin, np.argsort, np.shape, np.ndim, np.size, np.zeros_like, np.ones_like]
    + [np.any, np.all, np.logical_and, np.logical_or, np.logical_not, np.count_nonzero, np.result_type, np.iscomplexobj]
    + [np.allclose, np.isclose, np.array_equal, np.nonzero, np.signbit]
)
