r"""Passes over arrays too large for the cache, block by block: log_softmax, its pullback, and sums of products.

What they compute is one line each, and stands in `logspace` and beside them for small arrays; here it is done without temporaries as
large as the array.  A block is a piece of the last axis that stays in the cache while several passes go over it.

    log_softmax   y = x - log sum exp(x - max x) - max x            pullback   g - exp(y) sum g            sums   sum p f, sum |p f|
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NoReturn

import numpy as np

from tabular_rlhf.autodiff.table import SMALL
from tabular_rlhf.errors import InputError

BLOCK = 1 << 16
"""Elements that stay in the cache while several passes go over them."""


def blocks(shape: tuple[int, ...]) -> Iterator[tuple[Any, ...]]:
    """Indices that cut an array along its last axis into pieces of about BLOCK elements, but at least 4096 columns."""
    width = max(4096, BLOCK // max(1, math.prod(shape[:-1])))
    return ((..., slice(start, start + width)) for start in range(0, shape[-1], width))


def block_of(x: Any, part: Any) -> Any:
    """One block, with neighbors along the last axis next to each other: copied in the cache if they are not."""
    return x[part] if x.strides[-1] == x.itemsize else np.ascontiguousarray(x[part])


def room(x: Any, have: Any) -> Any:
    """Room for one block and two rows: what we have, if it fits, because fresh memory costs more than the arithmetic done in it."""
    shape = (x.shape[0] + 2, *x.shape[1:])
    return have if have is not None and have.shape == shape else np.empty(shape, np.result_type(x, 1.0))


class NoDistribution(ValueError):
    """A block with logits that make no distribution; who has all the logits can say where (`refuse_logits`)."""


def softmax_block(x: Any, y: Any, e: Any, rows: Any) -> Any:
    """log_softmax along the first axis: write x - logsumexp(x) to y, exp(x - max) to e; return the sum of the latter, a row.

    Raises NoDistribution where some distribution does not exist: all logits -inf, or one that is nan or inf.
    """
    top, total = rows[0], rows[1]
    np.max(x, axis=0, out=top)
    if not (np.min(top, initial=0.0) > -np.inf and np.max(top, initial=0.0) < np.inf):
        raise NoDistribution
    np.subtract(x, top, out=y)
    np.sum(np.exp(y, out=e), axis=0, out=total)
    y -= np.log(total, out=top)
    return total


def refuse_logits(top: Any) -> NoReturn:
    """Say which distribution does not exist, from the largest logit of each."""
    first = tuple(int(i) for i in np.argwhere(~np.isfinite(top))[0])
    if top[first] == -np.inf:
        raise InputError(
            "every distribution must allow some event", got="all logits -inf", where=f"at index {first}", remedy="allow a token there"
        )
    raise InputError(
        "logits must be finite or -inf", got=float(top[first]), where=f"at index {first}", remedy="check the computation that made them"
    )


def _rows_first(x: Any, axis: int) -> Any:
    """The axis in front, the rest behind it."""
    return np.moveaxis(x, axis, 0) if x.ndim > 1 else x[:, None]


def log_softmax(x: Any, axis: int = -1) -> Any:
    """x - logsumexp(x) along the axis.  Raises InputError where some distribution does not exist."""
    x = np.asarray(x)
    if x.size <= SMALL:
        top = np.maximum.reduce(x, axis=axis, keepdims=True)
        if not np.isfinite(top).all():
            refuse_logits(np.squeeze(top, axis))
        y = x - top
        return y - np.log(np.add.reduce(np.exp(y), axis=axis, keepdims=True))
    rows = _rows_first(x, axis)
    out = np.empty(rows.shape, np.result_type(x, 1.0))  # token-major, whatever the order of x: passes along states are the fast ones
    scratch = None
    for part in blocks(rows.shape):
        block = block_of(rows, part)
        scratch = room(block, scratch)
        try:
            softmax_block(block, out[part], scratch[2:], scratch[:2])
        except NoDistribution:
            refuse_logits(np.max(rows, axis=0))
    return np.moveaxis(out, 0, axis) if x.ndim > 1 else out[:, 0]


def softmax_pull(g: Any, y: Any, axis: int, overwrite: bool = False) -> Any:
    """g - exp(y) sum g along the axis: the pullback of y = log_softmax(x); overwrite: into g."""
    if y.size <= SMALL:
        return g - np.exp(y) * np.add.reduce(g, axis=axis, keepdims=True)
    g_rows, y_rows = _rows_first(g, axis), _rows_first(y, axis)
    out = g_rows if overwrite else np.empty(y_rows.shape, y.dtype)
    scratch = None
    for part in blocks(out.shape):
        scratch = room(y_rows[part], scratch)
        pi = np.exp(y_rows[part], out=scratch[2:])
        pi *= np.sum(g_rows[part], axis=0, out=scratch[0])
        np.subtract(g_rows[part], pi, out=out[part])
    return np.moveaxis(out, 0, axis) if y.ndim > 1 else out[:, 0]


def masses(log_p: Any) -> Iterator[tuple[int, Any]]:
    """sum exp(log_p) along the last axis of (..., n), block by block: where along the axis before the block starts, and its sums."""
    rows, scratch = _rows_first(log_p, -1), None
    for part in blocks(rows.shape):
        block = block_of(rows, part)
        scratch = room(block, scratch)
        with np.errstate(over="ignore"):
            yield part[-1].start, np.sum(np.exp(block, out=scratch[2:]), axis=0, out=scratch[0])


def sums(p: Any, f: Any, axis: int | None) -> tuple[Any, Any]:
    """sum p f and sum |p f|, in blocks where that saves memory."""
    if f.size <= BLOCK or p.shape != f.shape or axis not in (-1, f.ndim - 1):
        terms = p * f
        return np.add.reduce(terms, axis=axis), np.add.reduce(np.abs(terms), axis=axis)
    mean, total = np.zeros(f.shape[:-1]), np.zeros(f.shape[:-1])
    for part in blocks(f.shape):
        terms = p[part] * f[part]
        mean += np.sum(terms, axis=-1)
        total += np.sum(np.abs(terms, out=terms), axis=-1)
    return mean, total
