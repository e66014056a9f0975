r"""Operations written with other traced operations, which need no rule of their own; and those whose answer is discrete."""

from __future__ import annotations

import itertools
from collections.abc import Callable
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


def _mean(x: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    return np.sum(x, axis=axis, keepdims=keepdims) / _count(x, axis)


def _var(x: Any, axis: Any = None, *, ddof: float = 0, keepdims: bool = False) -> Any:
    return np.sum(np.square(x - _mean(x, axis, keepdims=True)), axis=axis, keepdims=keepdims) / (_count(x, axis) - ddof)


def _std(x: Any, axis: Any = None, *, ddof: float = 0, keepdims: bool = False) -> Any:
    v = _var(x, axis, ddof=ddof, keepdims=keepdims)
    constant = np.equal(v, 0)  # the bottom of a cone, where the root has no slope
    return np.where(constant, 0.0, np.sqrt(np.where(constant, 1.0, v)))


def _along(axis: int, index: Any) -> tuple[Any, ...]:
    return (slice(None),) * axis + (index,)


def _rearranged(func: Callable[..., Any], x: Any, *args: Any, **kwargs: Any) -> Any:
    """NumPy itself says which elements `func` picks, when it is given their positions."""
    return np.ravel(x)[func(np.reshape(np.arange(x.size), x.shape), *args, **kwargs)]


def _diff(x: Any, n: int = 1, axis: int = -1) -> Any:
    for _ in range(n):
        x = x[_along(axis % x.ndim, slice(1, None))] - x[_along(axis % x.ndim, slice(None, -1))]
    return x


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
        np.std: _std,
        np.min: lambda x, axis=None, *, keepdims=False: -np.max(-x, axis=axis, keepdims=keepdims),
        np.concatenate: _concatenate,
        np.stack: lambda arrays, axis=0: _concatenate([np.expand_dims(a, axis) for a in arrays], axis),
        np.split: _split,
        np.take: lambda x, indices, axis=None, *, mode="raise": _rearranged(np.take, x, indices, axis, mode=mode),
        np.take_along_axis: lambda x, indices, axis=-1: _rearranged(np.take_along_axis, x, indices, axis),
        np.flip: _flip,
        np.diff: _diff,
        np.dot: _dot,
        np.inner: lambda a, b: _dot(a, b if len(shape_of(b)) < 2 else np.transpose(b)),
        np.outer: lambda a, b: np.ravel(a)[:, None] * np.ravel(b)[None, :],
        np.repeat: lambda x, repeats, axis=None: _rearranged(np.repeat, x, repeats, axis),
        np.roll: lambda x, shift, axis=None: _rearranged(np.roll, x, shift, axis),
        np.float_power: lambda a, b: np.power(a, b),
        np.copy: lambda x, order="K", subok=False: x,
    }
)


PLAIN.update(
    [np.greater, np.greater_equal, np.less, np.less_equal, np.equal, np.not_equal, np.sign, np.isnan, np.isfinite, np.isinf]
    + [np.isneginf, np.isposinf, np.argmax, np.argmin, np.argsort, np.shape, np.ndim, np.size, np.zeros_like, np.ones_like]
    + [np.any, np.all, np.logical_and, np.logical_or, np.logical_not, np.count_nonzero, np.result_type, np.iscomplexobj]
    + [np.allclose, np.isclose, np.array_equal, np.nonzero, np.signbit]
)
