"""Numerical solves that say how they ended.  A solve that fails raises `SolveError`; it never returns its last iterate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tabular_rlhf.errors import SolveError
from tabular_rlhf.logspace import Array

Function = Callable[[Any], tuple[Any, Any]]


def monotone_root(f: Function, low: Any, high: Any, *, steps: int = 200) -> Array:
    """The roots of increasing functions, many at once: Newton's method kept inside a bracket by bisection.

    Args: f, maps points (P,) to values and slopes (P,), nan or inf allowed in the slopes; low and high, (P,), with
    f(low) <= 0 <= f(high) up to rounding.  Returns: (P,), to the last bits.  Raises SolveError if steps run out.

    >>> monotone_root(lambda x: (x**3 - 2.0, 3 * x**2), np.zeros(1), np.ones(1) * 2).round(6).tolist()
    [1.259921]
    """
    low, high = np.array(low, dtype=np.float64), np.array(high, dtype=np.float64)
    x = 0.5 * (low + high)
    for _ in range(steps):
        value, slope = f(x)
        low, high = np.where(value <= 0, x, low), np.where(value >= 0, x, high)
        with np.errstate(all="ignore"):
            newton = x - value / slope
        inside = (newton > low) & (newton < high)
        new = np.where(inside, newton, 0.5 * low + 0.5 * high)
        done = (np.abs(new - x) <= 2 * np.spacing(np.abs(x))) | (high - low <= 2 * np.spacing(np.maximum(np.abs(low), np.abs(high))))
        x = np.where(value == 0, x, new)
        if np.all(done | (value == 0)):
            return np.asarray(x)
    raise SolveError(f"a root was not found in {steps} steps: it lies between {low.min():.17g} and {high.max():.17g}")
