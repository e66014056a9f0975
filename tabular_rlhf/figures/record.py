"""What a figure is: what it claims, the data it shows, and how the data are drawn.

`compute` returns a dictionary of plain numbers, strings and lists; everything that is seen comes from it.  `draw` computes
nothing: it puts the data on axes and returns the artists, so that tests compare data and readers can replot them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tabular_rlhf.errors import InputError, quoted

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

Data = dict[str, Any]
Draw = Callable[["list[Axes]", Data], "list[Artist]"]

BLUE, ORANGE, GREEN, PINK, BLACK, GRAY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#6E6E6E"
"""Okabe and Ito's colors, which color-blind readers can tell apart; never the only difference between two things."""


def readable(text: str, width: int = 40) -> str:
    """A person's text as a label: clipped, and with dollars that are dollars (matplotlib would read mathematics).

    >>> readable("5 $ or 6 $", 9)
    '5 \\\\$ or 6…'
    """
    shown = text if len(text) <= width else text[: width - 1].rstrip() + "…"
    return shown.replace("$", r"\$")


@dataclass(frozen=True)
class Figure:
    """One figure.

    Args: name, of its files; caption, what a reader should see in it; rows, the slugs of the claims it shows; compute and
    draw, as above; widths, of its panels relative to each other (`draw` gets one axes each); size, in inches.
    """

    name: str
    caption: str
    rows: tuple[str, ...]
    compute: Callable[[], Data]
    draw: Draw
    widths: tuple[float, ...] = (1.0,)
    size: tuple[float, float] = (7.2, 4.2)

    def __post_init__(self) -> None:
        for what, word in [("name", self.name), *(("slug", row) for row in self.rows)]:
            if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", word):
                raise InputError(
                    f"a figure's {what} must be lower-case words joined by -", got=quoted(word), where=self.name, remedy="rename it"
                )
        if not self.caption or not self.rows:
            raise InputError("a figure must have a caption and the claims it shows", got="none", where=self.name, remedy="write them")
