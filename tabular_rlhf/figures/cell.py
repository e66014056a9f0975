"""A figure of the gallery in a notebook cell, by one call."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from functools import cached_property
from html import escape

from tabular_rlhf.figures.page import STYLE, in_bytes, on_paper
from tabular_rlhf.figures.record import Data, Figure, Said, all_figures


@dataclass(frozen=True)
class Shown:
    """A drawn figure: `png` and `svg` are its bytes, `data` what it shows, `said` its title and what to see in it."""

    figure: Figure = field(repr=False)
    name: str
    said: Said

    @cached_property
    def data(self) -> Data:
        """The numbers that are drawn."""
        return self.figure.compute()

    @cached_property
    def png(self) -> bytes:
        """The picture in pixels."""
        return self._bytes("png")

    @cached_property
    def svg(self) -> str:
        """The picture in lines."""
        return self._bytes("svg").decode()

    def _bytes(self, kind: str) -> bytes:
        import matplotlib.style

        with matplotlib.style.context(STYLE):
            sheet = on_paper(self.figure.draw, self.data, self.figure.widths, self.figure.size, self.said.title)
            return in_bytes(sheet, kind, self.said)

    def _repr_html_(self) -> str:
        """The picture with its caption under it; on white, whatever the theme."""
        caption = escape(self.said.caption)
        source = f"data:image/png;base64,{base64.b64encode(self.png).decode()}"
        picture = f'<img src="{source}" alt="{caption}" style="max-width:100%;background:#fff">'
        return f'<figure style="margin:0">{picture}<figcaption>{caption}</figcaption></figure>'


def show(name: str) -> Shown:
    """A figure of the gallery, computed and drawn now.  Raises InputError for an unknown name.

    >>> show("tilt").png[1:4]
    b'PNG'
    """
    figure = all_figures().find(name)
    return Shown(figure, figure.name, figure.said)
