"""A number printed at a mark: the place, the words, and where they stand beside it, kept with the figure's data.

`compute` makes marks from the very numbers that place them; `draw` writes them and no other number.  tests/test_figures_marks.py
recomputes every one from its place, by formulas of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

    from tabular_rlhf.figures.record import Data

SIDES = {
    "right": ((7, 0), "left", "center"),
    "far right": ((17, 0), "left", "center"),
    "left": ((-9, 0), "right", "center"),
    "above": ((0, 8), "center", "bottom"),
    "below": ((0, -8), "center", "top"),
    "below right": ((7, -5), "left", "top"),
    "below left": ((-7, -5), "right", "top"),
    "above right": ((5, 6), "left", "bottom"),
    "above left": ((-5, 6), "right", "bottom"),
    "on": ((0, 0), "center", "center"),
}
"""Where words may stand: their shift from the mark in points, and the edges that face it."""


def mark(x: float, y: float, says: str, *, beside: str = "right", panel: int = 0) -> Data:
    """The words at (x, y) of a panel, in its coordinates.

    >>> mark(0.5, 1.0, "V = 0.089", beside="on")
    {'panel': 0, 'x': 0.5, 'y': 1.0, 'says': 'V = 0.089', 'beside': 'on'}
    """
    return {"panel": panel, "x": x, "y": y, "says": says, "beside": beside}


def write(axes: list[Axes], marks: Iterable[Data], **style: Any) -> list[Artist]:
    """Write marks on their panels."""
    return [_write(axes[m["panel"]], m, style) for m in marks]


def _write(ax: Axes, m: Data, style: dict[str, Any]) -> Artist:
    shift, ha, va = SIDES[m["beside"]]
    return ax.annotate(
        m["says"], (m["x"], m["y"]), shift, textcoords="offset points", ha=ha, va=va, **{"fontsize": 8, "zorder": 6, **style}
    )
