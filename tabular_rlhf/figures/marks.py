"""Words in a picture: a number at its mark, a note beside a place, and the name of a curve at its end, instead of a legend.

A mark's place, its words, and where they stand are kept with the figure's data: `compute` makes marks from the very numbers that place
them; `draw` writes them and no other number.  tests/test_figures_marks.py recomputes every one from its place, by formulas of its own.

Names of curves stand beside the panel at the heights at which their curves leave it, in that order, moved apart where they would lie on one
another; a hair leads from a name that had to move to its curve.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tabular_rlhf.figures.glyphs import GRAY
from tabular_rlhf.figures.record import Data, Panel, Panels

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
APART = 0.068
"""Least distance of two names, of the height of a panel that is some three inches high."""


def mark(x: float, y: float, says: str, *, beside: str = "right", panel: int = 0) -> Data:
    """The words at (x, y) of a panel, in its coordinates.

    >>> mark(0.5, 1.0, "V = 0.089", beside="on")
    {'panel': 0, 'x': 0.5, 'y': 1.0, 'says': 'V = 0.089', 'beside': 'on'}
    """
    return {"panel": panel, "x": x, "y": y, "says": says, "beside": beside}


def write(axes: Panels, marks: Iterable[Data], **style: Any) -> None:
    """Write marks on their panels."""
    for m in marks:
        shift, ha, va = SIDES[m["beside"]]
        note(axes[m["panel"]], m["says"], (m["x"], m["y"]), shift, ha=ha, va=va, **{"zorder": 6, **style})


def note(ax: Panel, words: str, at: tuple[float, float], shift: tuple[float, float], **look: Any) -> None:
    """Write words beside a place, so many points off."""
    ax.annotate(words, at, shift, textcoords="offset points", **{"fontsize": 8, **look})


# ---------------------------------------------------------------------------------------------------- names at ends


def spread(heights: Sequence[float], apart: float = APART) -> list[float]:
    """Heights in [0, 1] moved as little as it takes to be `apart`, in the order in which they are: neighbors that meet share the way.

    >>> [round(y, 2) for y in spread([0.5, 0.5, 0.9], 0.1)]
    [0.45, 0.55, 0.9]
    """
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    groups: list[list[float]] = []  # neighbors that share the way: their heights
    for i in order:
        groups.append([heights[i]])
        while len(groups) > 1 and _middle(groups[-1], apart) - _middle(groups[-2], apart) < apart * (len(groups[-1]) + len(groups[-2])) / 2:
            groups[-2:] = [groups[-2] + groups[-1]]
    placed = [_middle(group, apart) + apart * (k - (len(group) - 1) / 2) for group in groups for k in range(len(group))]
    return [y for _, y in sorted(zip(order, placed, strict=True))]


def _middle(group: Sequence[float], apart: float) -> float:
    """Where the middle of a group stands: the mean of its heights, unless it would reach beyond the panel."""
    half = min(0.5, apart * (len(group) - 1) / 2)
    return min(1.0 - half, max(half, sum(group) / len(group)))


def name_ends(ax: Panel, *, apart: float = APART) -> None:
    """Write the label of each line where it ends, right of the panel.  To be called when the limits of the axes are settled."""
    labelled = [drawn for drawn in ax.lines if not str(drawn.get_label()).startswith("_")]
    ax.autoscale_view()
    places = [_end(ax, drawn) for drawn in labelled]
    hair = {"arrowstyle": "-", "color": GRAY, "linewidth": 0.5, "shrinkA": 0.0, "shrinkB": 1.0}
    look: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "axes fraction", "ha": "left", "va": "center", "fontsize": 8}
    for drawn, place, height in zip(labelled, places, spread([y for _, y in places], apart), strict=True):
        ax.annotate(str(drawn.get_label()), place, (1.035, height), annotation_clip=False, arrowprops=hair, **look)


def _end(ax: Panel, drawn: Any) -> tuple[float, float]:
    """Where a line is seen last, as shares of the panel."""
    xy = np.asarray(drawn.get_xydata(), dtype=float)
    xy = xy[np.isfinite(xy).all(axis=1)]
    at = ax.transAxes.inverted().transform(ax.transData.transform(xy))
    x, y = at[-1]
    return float(np.clip(x, 0.0, 1.0)), float(np.clip(y, 0.0, 1.0))
