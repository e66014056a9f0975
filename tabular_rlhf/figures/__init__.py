"""Figures as a table of records, each `draw(axes, data)` of `data = compute()`.

A room of this package defines its figures in a tuple `FIGURES`; to add a room, name it in `record.ROOMS`.  `record` says what a figure
is, `glyphs` how an object looks in all of them, `marks` how words stand at their places; `page` puts a figure on paper,
and into a notebook.
"""

from __future__ import annotations

from tabular_rlhf.figures.page import Shown, show
from tabular_rlhf.figures.record import ROOMS, Figure, all_figures

__all__ = ["ROOMS", "Figure", "Shown", "all_figures", "show"]
