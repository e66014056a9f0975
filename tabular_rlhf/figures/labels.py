"""The name of a curve at its end, instead of a legend: nobody has to carry a color from a box to a line.

Names stand beside the panel at the heights at which their curves leave it, in that order, moved apart where they would lie on one
another; a hair leads from a name that had to move to its curve.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tabular_rlhf.figures.glyphs import GRAY

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

APART = 0.068
"""Least distance of two names, of the height of a panel that is some three inches high."""


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
    found = [0.0] * len(heights)
    for i, y in zip(order, placed, strict=True):
        found[i] = y
    return found


def _middle(group: Sequence[float], apart: float) -> float:
    """Where the middle of a group stands: the mean of its heights, unless it would reach beyond the panel."""
    half = min(0.5, apart * (len(group) - 1) / 2)
    return min(1.0 - half, max(half, sum(group) / len(group)))


def ends(ax: Axes, named: Iterable[tuple[Line2D, str]], *, apart: float = APART) -> list[Artist]:
    """Write the name of each line where it ends, right of the panel.  To be called when the limits of the axes are settled."""
    labelled = list(named)
    ax.autoscale_view()
    places = [_end(ax, drawn) for drawn, _ in labelled]
    heights = spread([y for _, y in places], apart)
    return [_name(ax, words, place, y) for (_, words), place, y in zip(labelled, places, heights, strict=True)]


def _end(ax: Axes, drawn: Line2D) -> tuple[float, float]:
    """Where a line is seen last, as shares of the panel."""
    xy = np.asarray(drawn.get_xydata(), dtype=float)
    xy = xy[np.isfinite(xy).all(axis=1)]
    at = ax.transAxes.inverted().transform(ax.transData.transform(xy))
    x, y = at[-1]
    return float(np.clip(x, 0.0, 1.0)), float(np.clip(y, 0.0, 1.0))


def _name(ax: Axes, words: str, place: tuple[float, float], height: float) -> Artist:
    look: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "axes fraction", "ha": "left", "va": "center", "fontsize": 8}
    hair = {"arrowstyle": "-", "color": GRAY, "linewidth": 0.5, "shrinkA": 0.0, "shrinkB": 1.0}
    return ax.annotate(words, place, (1.035, height), annotation_clip=False, arrowprops=hair, **look)
