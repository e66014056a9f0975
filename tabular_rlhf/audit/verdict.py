"""What is said of a function: the nearest named form, and what is wrong with it."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from tabular_rlhf.audit.handed import Handed
from tabular_rlhf.logspace import Array

EXACT = 1e-7
COARSE = 2e-4
"""Residuals below these are rounding: of 64 bits, and of functions that compute in 32."""
SIGN = "the sign is flipped"


@dataclass(frozen=True, eq=False)
class Nearest:
    """words, what it is; slips, what is wrong with it; scale c; penalty, its name and b, if it has one; residual; exact."""

    words: str
    slips: tuple[str, ...]
    scale: float
    penalty: tuple[str, float] | None
    residual: float
    exact: bool

    def __str__(self) -> str:
        if not self.exact:
            return f"none of the named; nearest {self.words}, residual {self.residual:.3g}"
        return self.words + (f", but {'; '.join(self.slips)}" if self.slips else "")


def judged(words: str, slips: Iterable[str], scale: float, penalty: tuple[str, float] | None, residual: float, exact: bool) -> Nearest:
    """The nearest form; what is only near has no slips, it may be hinted at."""
    slips = tuple(dict.fromkeys(slips))
    if exact:
        return Nearest(words, slips, scale, penalty, residual, True)
    return Nearest(words + (f" with {'; '.join(slips)}" if slips else ""), (), scale, penalty, residual, False)


def multiple(y: Array, x: Array) -> tuple[float, float]:
    """The factor by which one table comes nearest to another, and what that leaves of the other, as a share."""
    y, x = np.ravel(y), np.ravel(x)
    c, size = float(x @ y / (x @ x)) if np.any(x) else 0.0, float(np.linalg.norm(y))
    return c, float(np.linalg.norm(y - c * x)) / size if size else 0.0


def differ(a: Array, b: Array, share: float) -> bool:
    """Whether two tables are apart by more than a share of the largest entry of either."""
    size = max(float(np.max(np.abs(a), initial=0.0)), float(np.max(np.abs(b), initial=0.0)))
    return float(np.max(np.abs(a - b), initial=0.0)) > share * size


def named_numbers(handed: Handed) -> dict[str, float]:
    """The numbers among its settings and defaults, by name."""
    values = {p.name: p.default for p in inspect.signature(handed.function).parameters.values()} | dict(handed.settings)
    known = {n: v for n, v in values.items() if isinstance(v, int | float) and not isinstance(v, bool) and n not in handed.roles}
    return {n: float(v) for n, v in known.items() if np.isfinite(v)}


def numbers_of(handed: Handed) -> list[float]:
    """The numbers alone."""
    return list(named_numbers(handed).values())
