"""A function as a curve: as many points as its bends need, and a gap where it jumps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tabular_rlhf.figures.record import Data

FINE = 1e-3
"""How far a curve may run beside its chords, of the height that is seen."""


def trace(f: Callable[[float], float], low: float, high: float, seen: tuple[float, float], *, steps: int = 48, least: float = 1e-5) -> Data:
    """Places and heights of a curve from low to high, over `steps` chords to begin with.

    A chord is halved while the curve leaves it by more than FINE of the heights `seen`; one that still rises by as much when it is
    narrower than `least` of the width is a jump, and stands as None.

    >>> curve = trace(lambda x: float(x > 0.3), 0.0, 1.0, (0.0, 1.0)); at = curve["y"].index(None)
    >>> [round(x, 3) for x in curve["x"][at - 1 : at + 2]], curve["y"][at - 1 : at + 2]
    ([0.3, 0.3, 0.3], [0.0, None, 1.0])
    """
    fine, least = FINE * (seen[1] - seen[0]), least * (high - low)
    grid = np.linspace(low, high, steps + 1).tolist()
    x: list[float] = grid[:1]
    y: list[float | None] = [f(grid[0])]

    def reach(b: float, v: float) -> None:
        """Go on from the last point to (b, v)."""
        a, u = x[-1], y[-1]
        assert u is not None  # a gap is never the last point
        middle, flat = 0.5 * (a + b), b - a < least
        height = 0.5 * (u + v) if flat else f(middle)
        if not flat and abs(height - 0.5 * (u + v)) > fine:
            reach(middle, height)
            reach(b, v)
            return
        if flat and abs(v - u) > fine:
            x.append(middle)
            y.append(None)
        x.append(b)
        y.append(v)

    for b in grid[1:]:
        reach(b, f(b))
    return {"x": x, "y": y}
