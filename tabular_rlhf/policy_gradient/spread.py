r"""Mean and standard deviation of a group, or of a batch of groups, whose members stand in kinds.

f and n have shape (..., K): a number of every kind, and how many (or how much) of it there is.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def total(n: Any, f: Any) -> Any:
    """Sum over the members of f, (..., 1)."""
    return np.sum(n * f, axis=-1, keepdims=True)


def all_equal(f: Any, n: Any) -> Any:
    """Whether f is the same of all members that are there, (..., 1): also where there are none."""
    low, high = np.where(n > 0, f, np.inf), np.where(n > 0, f, -np.inf)
    return ~(np.max(high, axis=-1, keepdims=True) > np.min(low, axis=-1, keepdims=True))


def spread(f: Any, n: Any, ddof: float) -> tuple[Any, Any]:
    """The mean and the standard deviation of f, (..., 1): of at most ddof members the latter is 0.

    >>> mean, deviation = spread(np.array([0.0, 1.0]), np.array([1.0, 3.0]), 0)
    >>> mean.tolist(), deviation.round(4).tolist()
    ([0.75], [0.433])
    """
    size = np.maximum(total(n, 1.0), 1e-300)
    mean = total(n, f) / size
    return mean, np.sqrt(total(n, np.square(f - mean)) / np.where(size > ddof, size - ddof, np.inf))


def over_spread(a: Any, deviation: Any, equal: Any, epsilon: float) -> Any:
    """a / (deviation + epsilon), and 0 where all are equal: there a mean's rounding over a deviation's rounding would be noise."""
    return np.where(equal, 0.0, a) / np.where(equal, 1.0, deviation + epsilon)


def whitened(f: Any, n: Any, ddof: float, epsilon: float) -> Any:
    """f less its mean, in units of its standard deviation.

    >>> whitened(np.array([0.0, 1.0]), np.array([2.0, 2.0]), 0, 0.0).tolist()
    [-1.0, 1.0]
    """
    mean, deviation = spread(f, n, ddof)
    return over_spread(f - mean, deviation, all_equal(f, n), epsilon)
