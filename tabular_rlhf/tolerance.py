r"""One tolerance: when two numbers, computed on two roads, are the same number.

**The unit.**  A side that exponentiates log-probabilities carries the relative error eps |log p| of its arguments, and a sum of n terms by
pairs eps log2 n.  So differences are counted in units of

    eps * (16 + 4 log2(P N) + 2 H + max |log p| + (max r - min r)/beta) * term,

where `term` is the size of a term (by default the largest entry compared, at least 1) and eps the rounding of the coarser of the two
numbers: of float64, or of float32 where a reader computes in that.  A side or a line of ours must stay within one unit, or within the
error that it states (`Approximately`; an optimizer; an exercise that asks for four decimals).

**What a reader may leave.**  A reader may take a road on which terms up to a thousand times larger than the answer cancel: ROADS units,
but in coarse numbers no more than COARSE of the values' size, or one unit.  Of all right answers that the tests know, those in closed form
stay within two units.

**The three verdicts** of a `Gap`, everywhere the same (`check`, `derive`, the near misses of `verify`, `grade`):

    same        within what a road may leave: right;
    near        beyond that, but within NEAR of the size of the values: right to six digits or more, and not exact.  So is a difference
                quotient, or a search that stops early; the exact answer was asked for, so it is told what it is and gets no mark;
    different   anything else: wrong.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from tabular_rlhf.symbols import Scope

EPS = float(np.finfo(np.float64).eps)
ROADS = 1e3
"""Units that a right answer in another form may be off."""
COARSE = 1e-4
"""The share of the values' size beyond which no long road is an excuse, however coarse the numbers."""
NEAR = 1e-6
"""The share of the values' size up to which an answer that is not exact is near."""


@dataclass(frozen=True)
class Gap:
    """How far two values are apart.

    gap, the largest difference; unit, what rounding explains on a good road; room, what it explains on any; scale, the size of the values,
    at least 1; error, what a stated route leaves instead of rounding.
    """

    gap: float
    unit: float
    room: float
    scale: float
    error: float = 0.0

    @property
    def allowed(self) -> float:
        """What a side or a line of ours may be off."""
        return max(self.unit, self.error)

    @property
    def units(self) -> float:
        """The gap in units of what is allowed: at most 1 for a side or a line of ours."""
        return in_units(self.gap, self.allowed)

    @property
    def same(self) -> bool:
        """Whether the two are one number."""
        return self.gap <= max(self.room, self.error)

    @property
    def clear(self) -> bool:
        """Whether they are clearly two: not even near."""
        return not self.same and not self.gap <= max(NEAR * self.scale, 10.0 * self.error)

    @property
    def verdict(self) -> str:
        """same, near or different.

        >>> [Gap(gap, 1e-14, 1e-11, 1.0).verdict for gap in (0.0, 1e-12, 1e-9, 3e-7, 1e-5, np.inf, np.nan)]
        ['same', 'same', 'near', 'near', 'different', 'different', 'different']
        """
        return "same" if self.same else "different" if self.clear else "near"

    @property
    def digits(self) -> int:
        """Digits to which the two agree, of the size of the values.

        >>> Gap(3e-7, 1e-14, 1e-11, 1.0).digits, Gap(1.0, 1e-14, 1e-11, 1.0).digits
        (6, 0)
        """
        return max(0, math.floor(-math.log10(self.gap / self.scale))) if 0 < self.gap < math.inf else 0


def between(gap: float, scope: Scope, *, scale: float, term: float = 0.0, eps: float = EPS, error: float = 0.0) -> Gap:
    """The gap between two values computed in a world.

    Args: gap, the largest difference; scale, the size of the values; term, that of a term where it is larger; eps, the rounding of the
    coarser of the two; error, what a stated route leaves, as a share of a term.
    """
    scale = max(1.0, scale)
    term = max(scale, term)
    unit = eps * roundings(scope) * term
    return Gap(gap, unit, min(ROADS * unit, max(COARSE * scale, unit)), scale, error * term)


def rounding(*values: Any) -> float:
    """The relative rounding of the coarsest of some values.

    >>> rounding([1.0, 2]) == EPS, rounding(1.0, np.float32(1.0)) == float(np.finfo(np.float32).eps)
    (True, True)
    """
    kinds = [np.asarray(v).dtype for v in values]
    return max([EPS, *(float(np.finfo(kind).eps) for kind in kinds if kind.kind == "f")])


def roundings(scope: Scope) -> float:
    """How many relative roundings a number may have suffered in this world; see the module's text."""
    if "roundings" not in scope.memo:
        w = scope.world
        deepest = largest(scope["log_p_ref"], scope["log_p"])
        spread = float(w.r.max() - w.r.min()) / w.beta
        scope.memo["roundings"] = 16 + 4 * math.log2(w.responses) + 2 * w.mdp.H + deepest + spread
    return scope.memo["roundings"]


def largest(*values: Any) -> float:
    """The largest finite entry of some arrays, in size; 0 where there is none.

    >>> largest([1.0, -np.inf], [[-2.0]]), largest([])
    (2.0, 0.0)
    """
    entries = [np.abs(np.asarray(v, dtype=np.float64)) for v in values]
    return max((float(np.max(a, initial=0.0, where=np.isfinite(a))) for a in entries), default=0.0)


def distance(a: Any, b: Any) -> float:
    """Largest |a - b|; equal infinities agree, nan agrees with nothing, different shapes are infinitely far apart."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape:
        return np.inf
    same = a == b
    gap = np.abs(np.where(same, 0.0, a) - np.where(same, 0.0, b))
    return float(np.max(np.where(np.isnan(gap), np.inf, gap), initial=0.0))


def in_units(gap: float, unit: float) -> float:
    """An error in units of its tolerance.  Where all terms are zero nothing is allowed, and no difference is no error.

    >>> in_units(0.0, 0.0), in_units(1.0, 0.0), in_units(1.0, 4.0)
    (0.0, inf, 0.25)
    """
    return gap / unit if unit else np.inf if gap else 0.0
