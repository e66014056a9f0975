r"""The table of rules: for each operation, how a sensitivity passes back through it.  One line each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from tabular_rlhf.autodiff.table import SMALL, Blank, elementwise, shape_of, structural, variadic
from tabular_rlhf.autodiff.trace import Traced, get_item, primitive


def unbroadcast(g: Any, shape: tuple[int, ...]) -> Any:
    """Sum g over the axes along which an argument of this shape was repeated."""
    have = shape_of(g)
    if have == shape:
        return g
    extra = len(have) - len(shape)
    if extra < 0:  # g itself is smaller: a constant such as 1.0
        return np.broadcast_to(g, shape)
    if extra:
        g = np.add.reduce(g, axis=tuple(range(extra)) if extra > 1 else 0)
        if shape_of(g) == shape:
            return g
    repeated = tuple(i for i, n in enumerate(shape) if n == 1 and shape_of(g)[i] != 1)
    return np.add.reduce(g, axis=repeated, keepdims=True) if repeated else g


class Scaled(NamedTuple):
    """The sensitivity factor * g, not yet multiplied out."""

    g: Any
    factor: float


def _negated(g: Any) -> Any:
    return -g if type(g) is np.ndarray and g.size <= SMALL else Scaled(g, -1.0)


def _times(g: Any, b: Any) -> Any:
    """g * b: a number waits as a factor; and where g is one number repeated, as at the start of a walk, it is b that is kept."""
    if type(g) is np.ndarray and g.size <= SMALL:
        return g * b
    if type(b) is float and 1e-90 < abs(b) < 1e90:
        return Scaled(g, b)
    if type(g) is np.ndarray and type(b) is np.ndarray and g.shape == b.shape and not any(g.strides) and g.ndim:
        c = float(g[(0,) * g.ndim]) if g.size else 0.0
        return Scaled(b, c) if 1e-90 < abs(c) < 1e90 else g * b
    return g * b


def _pull_share(g: Any, y: Any, part: Any) -> Any:
    """g exp(part - y), the softmax weight of a part of a log-sum; 0 where the whole sum is empty (y = -inf)."""
    return g * np.exp(part - np.where(np.isneginf(y), 0.0, y))


def _power_base(g: Any, y: Any, a: Any, b: Any) -> Any:
    flat = np.equal(b, 0)
    return g * np.where(flat, 0.0, b * a ** np.where(flat, 1.0, b - 1))


elementwise(np.add, lambda g, y, a, b: g, lambda g, y, a, b: g, keeps="shapes")
elementwise(np.subtract, lambda g, y, a, b: g, lambda g, y, a, b: _negated(g), keeps="shapes")
elementwise(np.multiply, lambda g, y, a, b: _times(g, b), lambda g, y, a, b: _times(g, a), keeps="others")
elementwise(np.divide, lambda g, y, a, b: g / b, lambda g, y, a, b: -g * y / b)
elementwise(np.power, _power_base, lambda g, y, a, b: g * special.xlogy(y, a))
elementwise(np.negative, lambda g, y, a: _negated(g), keeps="shapes")
elementwise(np.positive, lambda g, y, a: g)
elementwise(np.absolute, lambda g, y, a: g * np.sign(a))
elementwise(np.exp, lambda g, y, a: g * y, keeps="out")
elementwise(np.exp2, lambda g, y, a: g * y * np.log(2.0))
elementwise(np.expm1, lambda g, y, a: g * (y + 1.0))
elementwise(np.log, lambda g, y, a: g / a)
elementwise(np.log2, lambda g, y, a: g / (a * np.log(2.0)))
elementwise(np.log10, lambda g, y, a: g / (a * np.log(10.0)))
elementwise(np.log1p, lambda g, y, a: g / (1.0 + a))
elementwise(np.sqrt, lambda g, y, a: g / (2.0 * y))
elementwise(np.square, lambda g, y, a: g * (2.0 * a))
elementwise(np.reciprocal, lambda g, y, a: -g * y * y)
elementwise(np.tanh, lambda g, y, a: g * (1.0 - y * y))
elementwise(np.sin, lambda g, y, a: g * np.cos(a))
elementwise(np.cos, lambda g, y, a: -g * np.sin(a))
elementwise(np.arcsin, lambda g, y, a: g / np.sqrt(1.0 - a * a))
elementwise(np.logaddexp, lambda g, y, a, b: _pull_share(g, y, a), lambda g, y, a, b: _pull_share(g, y, b))
elementwise(np.maximum, lambda g, y, a, b: g * _wins(a > b, a == b), lambda g, y, a, b: g * _wins(b > a, a == b))
elementwise(np.minimum, lambda g, y, a, b: g * _wins(a < b, a == b), lambda g, y, a, b: g * _wins(b < a, a == b))
elementwise(np.where, None, lambda g, y, c, a, b: np.where(c, g, 0.0), lambda g, y, c, a, b: np.where(c, 0.0, g))
elementwise(special.expit, lambda g, y, a: g * (y * (1.0 - y)))
elementwise(special.log_expit, lambda g, y, a: g * special.expit(-a))
elementwise(special.xlogy, lambda g, y, a, b: g * np.log(b), lambda g, y, a, b: g * (a / np.where(_both_zero(a, b), 1.0, b)))


def _both_zero(a: Any, b: Any) -> Any:
    return np.logical_and(np.equal(a, 0), np.equal(b, 0))


def _wins(strictly: Any, tied: Any) -> Any:
    return np.where(tied, 0.5, np.where(strictly, 1.0, 0.0))


def _pull_clip(g: Any, y: Any, x: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Any:
    """NumPy 2.1 has two names for each bound."""
    for low in (a_min, min):
        g = g if low is None else np.where(np.greater_equal(x, low), g, 0.0)
    for high in (a_max, max):
        g = g if high is None else np.where(np.less_equal(x, high), g, 0.0)
    return g


elementwise(np.clip, _pull_clip, None, None)


def _restore(g: Any, x: Any, axis: Any, keepdims: bool) -> Any:
    """A reduced sensitivity with its summed axes back as axes of length one."""
    if keepdims or axis is None or not shape_of(g):
        return g if shape_of(g) or not shape_of(x) else np.reshape(g, (1,) * x.ndim)
    return np.expand_dims(g, axis)


def _pull_sum(g: Any, y: Any, x: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    if axis is None and x.size <= SMALL and type(g) is not Traced:
        return np.full(x.shape, g)  # broadcast_to takes longer than that
    return np.broadcast_to(_restore(g, x, axis, keepdims), shape_of(x))


def _pull_max(g: Any, y: Any, x: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    at_max = np.equal(x, _restore(y, x, axis, keepdims))
    return at_max * (_restore(g, x, axis, keepdims) / np.sum(at_max, axis=axis, keepdims=True))


def _pull_cumsum(g: Any, y: Any, x: Any, axis: Any = None) -> Any:
    axis_ = 0 if axis is None else axis
    return np.reshape(np.flip(np.cumsum(np.flip(g, axis_), axis=axis_), axis_), shape_of(x))


def _pull_reshape(g: Any, y: Any, x: Any, shape: Any, order: Any) -> Any:
    if order not in ("C", "F"):
        raise TypeError(f"order={order!r} depends on how a traced array lies in memory, which is not its business; use order='C' or 'F'")
    return g.reshape(shape_of(x), order=order)


structural(np.sum, _pull_sum, keeps="shapes")
structural(np.max, _pull_max)
structural(np.cumsum, _pull_cumsum)
for _func in (np.squeeze, np.expand_dims):
    structural(_func, lambda g, y, x, axis=None: np.reshape(g, shape_of(x)), keeps="shapes")
structural(np.ravel, lambda g, y, x, order="C": _pull_reshape(g, y, x, -1, order), keeps="shapes")
structural(np.reshape, lambda g, y, x, shape=-1, order="C": _pull_reshape(g, y, x, shape, order), keeps="shapes")
structural(
    np.transpose, lambda g, y, x, axes=None: np.transpose(g, None if axes is None else tuple(np.argsort([a % x.ndim for a in axes])))
)
structural(np.swapaxes, lambda g, y, x, axis1, axis2: np.swapaxes(g, axis1, axis2), keeps="shapes")
structural(np.moveaxis, lambda g, y, x, source, destination: np.moveaxis(g, destination, source), keeps="shapes")
structural(np.broadcast_to, lambda g, y, x, shape: unbroadcast(g, shape_of(x)), keeps="shapes")


class Scatter(NamedTuple):
    """The sensitivity of x from y = x[index]: g at those positions, zero elsewhere.  Kept apart until it is added, so that
    H slices of one array cost one buffer and not H."""

    g: Any
    index: Any


def dense(g: Any, like: Any) -> Any:
    """`g` as an array of the shape of `like`: zeros for None, scattered for a Scatter."""
    if g is None:
        return np.zeros(shape_of(like)) if shape_of(like) else 0.0
    if shape_of(g) != shape_of(like):
        return np.broadcast_to(g, shape_of(like)) + 0.0
    return g


def _scatter_plain(g: Any, index: Any, like: Any) -> Any:
    if like.ndim == 1 and isinstance(index, np.ndarray) and index.dtype.kind in "iu":
        flat = np.where(index < 0, index + like.size, index).ravel()
        return np.bincount(flat, weights=np.broadcast_to(g, index.shape).ravel(), minlength=like.size)
    out = room_like(like)
    out.fill(0.0)
    scatter_into(out, g, index)
    return out


def room_like(x: Any) -> Any:
    """An empty array of the shape of x and, where its values were kept, of its order in memory."""
    return np.empty(x.shape) if type(x) is Blank else np.empty_like(x)


BASIC = {slice, int, np.intp, type(None), type(Ellipsis)}
"""What an index is made of that takes no element twice."""


def scatter_into(out: Any, g: Any, index: Any) -> None:
    if BASIC.issuperset(map(type, index) if type(index) is tuple else (type(index),)):
        out[index] += g
    else:
        np.add.at(out, index, g)


structural(get_item, lambda g, y, x, index: Scatter(g, index))
scatter = primitive(_scatter_plain, lambda g, y, g0, index, like: np.reshape(g[index], shape_of(g0)))


def join(*arrays: Any, axis: int = 0) -> Any:
    return np.concatenate(arrays, axis=axis)


def _pull_join(i: int) -> Callable[..., Any]:
    def piece(g: Any, y: Any, *arrays: Any, axis: int = 0) -> Any:
        start = sum(shape_of(a)[axis] for a in arrays[:i])
        at = (slice(None),) * (axis % g.ndim) + (slice(start, start + shape_of(arrays[i])[axis]),)
        return g[at]

    return piece


variadic(join, _pull_join)


def _transposed(x: Any) -> Any:
    return np.swapaxes(x, -1, -2)


def _pull_matmul(i: int) -> Callable[..., Any]:
    """Vectors are promoted to one-row or one-column matrices, as matmul itself does."""

    def piece(g: Any, y: Any, a: Any, b: Any) -> Any:
        g_ = np.expand_dims(g, -1) if b.ndim == 1 else g
        g_ = np.expand_dims(g_, -2) if a.ndim == 1 else g_
        a_ = a[None, :] if a.ndim == 1 else a
        b_ = b[:, None] if b.ndim == 1 else b
        out = np.matmul(g_, _transposed(b_)) if i == 0 else np.matmul(_transposed(a_), g_)
        return np.reshape(unbroadcast(out, shape_of((a_, b_)[i])), shape_of((a, b)[i]))

    return piece


variadic(np.matmul, _pull_matmul)


def _pull_einsum(i: int) -> Callable[..., Any]:
    """The sensitivity of one operand is an einsum of g with the others; letters found nowhere else are repeated by ones."""

    def piece(g: Any, y: Any, subscripts: Any, *operands: Any, optimize: Any = False) -> Any:
        ins, out = _einsum_subscripts(subscripts)
        mine = ins[i - 1]
        others = [s for k, s in enumerate(ins) if k != i - 1]
        missing = "".join(c for c in mine if c not in out and not any(c in s for s in others))
        ones = np.ones([shape_of(operands[i - 1])[mine.index(c)] for c in missing])
        args = [o for k, o in enumerate(operands) if k != i - 1]
        pulled = np.einsum(",".join([out, *others, missing]) + "->" + mine, g, *args, ones, optimize=optimize)
        shape = shape_of(operands[i - 1])  # an axis of length one may have been stretched, here or in the others
        return pulled if shape_of(pulled) == shape else np.broadcast_to(unbroadcast(pulled, shape), shape)

    return piece


def _einsum_subscripts(subscripts: Any) -> tuple[list[str], str]:
    if not isinstance(subscripts, str) or "." in subscripts:
        raise TypeError("einsum on traced arrays needs explicit letters such as 'ij,jk->ik' (no lists, no ellipsis)")
    left, arrow, out = subscripts.replace(" ", "").partition("->")
    ins = left.split(",")
    if any(len(set(s)) != len(s) for s in ins):
        raise TypeError(f"einsum on traced arrays has no rule for a letter repeated within one operand: {subscripts!r}")
    return ins, out if arrow else "".join(sorted(c for c in set(left) - {","} if left.count(c) == 1))


variadic(np.einsum, _pull_einsum)
