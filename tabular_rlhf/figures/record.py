"""What a figure is: what it claims, the data it shows, and how the data are drawn.

`compute` returns a dictionary of plain numbers, strings and lists; everything that is seen comes from it.  `draw` computes
nothing: it puts the data on axes, so that tests compare data and readers can replot them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

from tabular_rlhf.errors import InputError, quoted
from tabular_rlhf.registry import Registry

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Data = dict[str, Any]
Panel: TypeAlias = "Axes"
Panels: TypeAlias = "list[Axes]"
Draw = Callable[["Panels", Data], object]

WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def readable(text: str, width: int = 40) -> str:
    """A person's text as a label: clipped, and with dollars that are dollars (matplotlib would read mathematics).

    >>> readable("5 $ or 6 $", 9)
    '5 \\\\$ or 6…'
    """
    shown = text if len(text) <= width else text[: width - 1].rstrip() + "…"
    return shown.replace("$", r"\$")


def ceiling(largest: float) -> float:
    """The next of 1, 0.5, 0.2, 0.1, 0.05, ... above a probability: where an axis ends."""
    steps = (digit * 10.0**-k for k in range(1, 20) for digit in (1, 2, 5))
    return min((step for step in steps if step >= 0.999 * largest), default=1.0)


@dataclass(frozen=True)
class Said:
    """What a picture says in words: its title, the finding, stands above it; the caption is what is read where it cannot be seen."""

    title: str
    caption: str


@dataclass(frozen=True)
class Figure:
    """One figure.

    Args: name, of its files; title, the finding, in a line; caption, what a reader should see in it, both with {names} where `counts` has
    numbers for them; rows, the slugs of the claims it shows; compute and draw, as above; widths, of its panels relative to each other
    (`draw` gets one axes each);
    size, in inches.
    """

    name: str
    title: str
    caption: str
    rows: tuple[str, ...]
    compute: Callable[[], Data]
    draw: Draw
    widths: tuple[float, ...] = (1.0,)
    size: tuple[float, float] = (7.2, 4.2)
    counts: Callable[[], Mapping[str, int]] = dict

    def __post_init__(self) -> None:
        for what, word in [("name", self.name), *(("slug", row) for row in self.rows)]:
            if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", word):
                must = f"a figure's {what} must be lower-case words joined by -"
                raise InputError(must, got=quoted(word), where=self.name, remedy="rename it")
        if not all((self.title, self.caption, self.rows)):
            must = "a figure must have a title, a caption and the claims it shows"
            raise InputError(must, got="none", where=self.name, remedy="write them")

    @cached_property
    def said(self) -> Said:
        """Title and caption, with their counts as they are now, in words."""
        words = {key: WORDS[n] if n < len(WORDS) else f"{n:,}" for key, n in self.counts().items()}
        told = [text.format_map(words) for text in (self.title, self.caption)]
        return Said(
            *(new[0].upper() + new[1:] if text.startswith("{") else new for text, new in zip((self.title, self.caption), told, strict=True))
        )


ROOMS = ("tilt", "frontier", "tree", "geometry", "zoo", "groups", "kl", "selection", "lattice", "merged")
"""The modules of this package that define figures, in the order of the gallery."""


def all_figures() -> Registry[Figure]:
    """Every figure by name, in the order of the rooms.

    >>> list(all_figures())[:3]
    ['tilt', 'frontier', 'soft-value-tree']
    """
    found: Registry[Figure] = Registry("figure")
    for room in ROOMS:
        for figure in import_module(f"tabular_rlhf.figures.{room}").FIGURES:
            found.add(figure)
    return found
