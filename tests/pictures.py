"""The figures as they are laid out, drawn from the committed data, which tests/test_figures.py proves to be today's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import matplotlib.style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Sheet
from matplotlib.lines import Line2D

from tabular_rlhf.figures import all_figures, page
from tests.test_figures import COMMITTED

NAMES = list(all_figures())


@cache
def shown(name: str) -> dict[str, Any]:
    return dict(json.loads((COMMITTED / f"{name}.json").read_text(encoding="utf-8"))["data"])


@cache
def sheet_of(name: str) -> Sheet:
    """The figure, laid out."""
    figure = all_figures()[name]
    with matplotlib.style.context(page.STYLE):
        sheet = page.on_paper(figure.draw, shown(name), figure.widths, figure.size, figure.said.title)
        FigureCanvasAgg(sheet).draw()
    return sheet


def lines(name: str) -> Iterator[tuple[int, str, Line2D]]:
    """(panel, object, artist) of everything drawn as a line or as marks."""
    for panel, ax in enumerate(sheet_of(name).axes):
        for drawn in ax.lines:
            if drawn.get_gid() is not None:
                yield panel, str(drawn.get_gid()).partition(".")[0], drawn
