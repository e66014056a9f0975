"""Figures as a table of records, each `draw(axes, data)` of `data = compute()`.

A room of this package defines its figures in a tuple `FIGURES`; to add a room, name it in `ROOMS`.  `record` says what a
figure is, `glyphs` how an object looks in all of them, `marks` how a number is printed at its place, `trace` how a function becomes a
curve; `page` puts a figure on paper, `cell` into a notebook.
"""

from __future__ import annotations

from importlib import import_module

from tabular_rlhf.figures.cell import Shown, show
from tabular_rlhf.figures.record import Figure
from tabular_rlhf.registry import Registry

ROOMS = ("tilt", "frontier", "tree", "geometry", "zoo", "groups", "kl", "selection")


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


__all__ = ["ROOMS", "Figure", "Shown", "all_figures", "show"]
