r"""Pictures as text: bars, lines, marks and words in SVG, written by hand because a slider must redraw at once.

A matplotlib figure takes about 100 ms to draw and has colors of its own; a string takes less than one, and what is written in
`currentColor` follows the notebook's theme, light or dark.  Nothing is told by color alone: what differs in color differs in
outline, dash or shape, and has its name beside it.

Coordinates are pixels, x to the right and y downwards.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from tabular_rlhf.figures.glyphs import BLACK, GLYPHS

INK = "currentColor"
SIZE = 14.0
"""Of letters, in pixels."""
WIDE = 8.0
"""Room for one letter of that size, in pixels: most are narrower."""
RADIUS = 6.0
"""Of a mark, in pixels."""
Point = tuple[float, float]


def element(name: str, content: str = "", **attributes: object) -> str:
    """One element; attributes that are None are left out, `_` stands for `-`, content is taken as it is.

    >>> element("circle", cx=1.0, cy=2.5, stroke_width=2, fill=None)
    '<circle cx="1" cy="2.5" stroke-width="2"/>'
    """
    given = [(key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items() if value is not None]
    words = "".join(f' {key}="{escape(place(value) if isinstance(value, float) else str(value))}"' for key, value in given)
    return f"<{name}{words}>{content}</{name}>" if content else f"<{name}{words}/>"


def place(x: float) -> str:
    """A coordinate with two decimals, the last zeros left out."""
    return f"{x:.2f}".rstrip("0").rstrip(".") or "0"


def spoken(words: str) -> str:
    """Text safe between tags: characters that XML cannot hold are replaced."""
    return escape(re.sub("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", words), quote=False)


def lowered(words: str, tag: str = "sub") -> str:
    """Safe text in which p_ref is set as p with a small ref below the line."""
    small = "<sub>ref</sub>" if tag == "sub" else '<tspan dy="3" font-size="75%">ref</tspan><tspan dy="-3">&#8203;</tspan>'
    return spoken(words).replace("p_ref", f"p{small}")


def text(x: float, y: float, words: str, *, anchor: str = "start", bold: bool = False, title: str = "") -> str:
    """Words whose base line is at y; the title, if they are clipped, shows where a pointer rests."""
    whole = element("title", spoken(title)) if title not in ("", words) else ""
    return element("text", lowered(words, "tspan") + whole, x=x, y=y, text_anchor=anchor, font_weight="bold" if bold else None, fill=INK)


def clipped(words: str, width: float) -> str:
    """The words, or as many letters as fit into a width and an ellipsis."""
    room = max(1, int(width / WIDE))
    return words if len(words) <= room else words[: room - 1].rstrip() + "…"


def bar(x: float, y: float, width: float, height: float, color: str, *, hollow: bool = False, title: str = "") -> str:
    """A filled bar, or a hollow one with a dashed outline; the title shows where a pointer rests."""
    name = element("title", spoken(title)) if title else ""
    dash = "4 2" if hollow else None
    fill = "none" if hollow else color
    return element(
        "rect", name, x=x, y=y, width=max(0.0, width), height=height, fill=fill, stroke=color, stroke_dasharray=dash, stroke_width=1.5
    )


def path(points: Iterable[Point], color: str = INK, *, dash: str | None = None, width: float = 1.5, closed: bool = False) -> str:
    """A line through points, or a closed one."""
    steps = " ".join(f"{place(x)},{place(y)}" for x, y in points)
    name = "polygon" if closed else "polyline"
    return element(name, points=steps, fill="none", stroke=color, stroke_width=width, stroke_dasharray=dash, stroke_linejoin="round")


RIGHT = ((0.45, -0.6), (1.8, -0.6), (0.72, 0.25), (1.1, 1.5))
"""The right half of a star, from its tip to its foot."""
SHAPES: dict[str, Sequence[Point]] = {
    "diamond": ((0, -1.35), (1.35, 0), (0, 1.35), (-1.35, 0)),
    "star": ((0, -1.9), *RIGHT, (0, 0.75), *((-x, y) for x, y in reversed(RIGHT))),
}


MARKERS = {"o": "circle", "D": "diamond", "*": "star"}
"""The markers of the figures' table as shapes."""


def mark(x: float, y: float, glyph: str, *, title: str = "") -> str:
    """A point as the glyph of its object in the figures' table (`figures.glyphs`); what is black there has the theme's color."""
    g = GLYPHS[glyph]
    color = INK if g.color == BLACK else g.color
    look = {"fill": "none" if g.hollow else color, "stroke": color, "stroke_width": 2.0 if g.hollow else 1.0}
    name, shape = element("title", spoken(title)) if title else "", MARKERS[g.marker]
    if shape == "circle":
        return element("circle", name, cx=x, cy=y, r=RADIUS, **look)
    corners = " ".join(f"{place(x + RADIUS * dx)},{place(y + RADIUS * dy)}" for dx, dy in SHAPES[shape])
    return element("polygon", name, points=corners, **look)


# ---------------------------------------------------------------------------------------------------- words beside points

AROUND = ((12, 5, "start"), (-12, 5, "end"), (10, -9, "start"), (-10, -9, "end"), (10, 19, "start"), (-10, 19, "end"))
"""Where the name of a point may stand, as shifts from the point."""


def names(points: Sequence[tuple[Point, str]], taken: Sequence[Point] = ()) -> list[str]:
    """The points' names, each beside its point on the side where it meets the fewest points, lines (`taken`) and names."""
    out: list[str] = []
    boxes: list[tuple[float, float, float, float]] = []
    for (x, y), words in points:
        choices = [(_box(x + dx, y + dy, words, anchor), dx, dy, anchor) for dx, dy, anchor in AROUND]
        crowd = [10 * sum(_meet(box, other) for other in boxes) + _inside(box, points, taken) for box, *_ in choices]
        box, dx, dy, anchor = choices[crowd.index(min(crowd))]
        boxes.append(box)
        out.append(text(x + dx, y + dy, words, anchor=anchor, bold=True))
    return out


def _box(x: float, y: float, words: str, anchor: str) -> tuple[float, float, float, float]:
    width = WIDE * len(words)
    left = x if anchor == "start" else x - width
    return left, y - SIZE, left + width, y + 4


def _meet(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _inside(box: tuple[float, float, float, float], points: Sequence[tuple[Point, str]], taken: Sequence[Point]) -> float:
    """How much a box covers: 5 for every point, 1 in all for lines."""
    left, top, right, bottom = box
    covers = sum(5 for (x, y), _ in points if left - 8 < x < right + 8 and top - 8 < y < bottom + 8)
    return covers + any(left < x < right and top < y < bottom for x, y in taken)


# ---------------------------------------------------------------------------------------------------- the sheet


@dataclass(frozen=True)
class Picture:
    """A drawing: its parts on a sheet of a size, a title, and in words what is seen (for those who hear it)."""

    width: float
    height: float
    title: str
    description: str
    parts: tuple[str, ...]

    def svg(self, *, paper: bool = False) -> str:
        """The drawing as one element: of the theme's color without ground, or (`paper`) black on white wherever it is shown."""
        edge = 10.0 if paper else 0.0
        ground = element("rect", x=-edge, width="100%", height="100%", fill="#ffffff") if paper else ""
        return element(
            "svg",
            element("title", spoken(self.title)) + ground + "".join(self.parts),
            xmlns="http://www.w3.org/2000/svg",
            viewBox=f"{place(-edge)} 0 {place(self.width + 2 * edge)} {place(self.height)}",
            width=self.width + 2 * edge,
            height=self.height,
            role="img",
            aria_label=spoken_attribute(f"{self.title}. {self.description}"),
            font_family="system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif",
            font_size=SIZE,
            style="color:#000000" if paper else "max-width:100%;height:auto;display:block",
        )

    def image(self) -> str:
        """The drawing on paper as an HTML image that carries its own bytes: what shows where no widget runs."""
        data = base64.b64encode(self.svg(paper=True).encode()).decode()
        return element("img", src=f"data:image/svg+xml;base64,{data}", alt=spoken_attribute(self.description), width=self.width)


def spoken_attribute(words: str) -> str:
    """Text for an attribute, before it is escaped: without characters that XML cannot hold."""
    return re.sub("[^ -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", " ", words)
