"""One glyph an object, in every picture: its color, its line, its marker, and the word that names it.

The colors are Okabe and Ito's, and Tol's wine: readers who do not tell red from green tell these apart.  Color is never the only
difference: in a picture any two objects also differ in line or marker (tests/test_figures_seen.py).  ★ is p* and its kin, ◇ the reference,
● a policy on its way; an estimator keeps its marker wherever it is placed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tabular_rlhf.figures.record import Panel

if TYPE_CHECKING:
    from matplotlib.lines import Line2D


BLUE, ORANGE, GREEN, PINK, BLACK, GRAY, WINE = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#6E6E6E", "#882255"
Dashes = str | tuple[float, tuple[float, ...]]
SOLID, DASH, DASHDOT, DOT = "-", "--", "-.", ":"
LONG: Dashes = (0.0, (7.0, 2.0))
TWO_DOTS: Dashes = (0.0, (5.0, 1.5, 1.0, 1.5, 1.0, 1.5))


@dataclass(frozen=True)
class Glyph:
    """How one object is drawn.  label, its name in legends; marker "" where it is only ever a line; size of the marker, in points."""

    label: str
    color: str
    line: Dashes
    marker: str = ""
    hollow: bool = False
    size: float = 6.0

    def trail(self) -> dict[str, Any]:
        """Its line, as keywords of matplotlib."""
        return {"color": self.color, "linestyle": self.line}

    def point(self) -> dict[str, Any]:
        """Its marker alone, as keywords of matplotlib."""
        face = "white" if self.hollow else self.color
        edge = {"markeredgecolor": self.color, "markerfacecolor": face}
        return {"color": self.color, "linestyle": "none", "marker": self.marker, "markersize": self.size, **edge}

    def both(self) -> dict[str, Any]:
        """Its line with its marker on it."""
        return {**self.point(), **self.trail()}


GLYPHS: Mapping[str, Glyph] = MappingProxyType(
    {
        # laws
        "reference": Glyph(r"$p_{\mathrm{ref}}$", BLACK, DOT, "D", hollow=True),
        "optimum": Glyph(r"$p^*$", BLUE, SOLID, "*", size=12.0),
        "tilted": Glyph(r"$p_\beta$", BLUE, SOLID, "*", hollow=True, size=9.0),
        "policy": Glyph("policy", ORANGE, SOLID, "o"),
        "ascent": Glyph("exact ascent", BLACK, DASH),
        "end": Glyph("where it ends", BLACK, SOLID, "X", size=8.0),
        "class": Glyph("policies without context", BLACK, DASHDOT),
        "forward": Glyph("forward projection", GREEN, DOT, "P", size=8.0),
        "reverse": Glyph("reverse projection", ORANGE, DASH, "h", size=8.0),
        "reverse-local": Glyph("another minimum of the reverse", ORANGE, DASH, "h", hollow=True, size=8.0),
        # what bounds and what is measured
        "bound": Glyph("bound", GRAY, SOLID),
        "tangent": Glyph("tangent", GRAY, DASH),
        "reward": Glyph("reward", GREEN, SOLID, "p"),
        # estimators of the KL, and where they are placed (in the loss: as the estimator itself)
        "k1": Glyph("k1", PINK, SOLID, "v"),
        "k2": Glyph("k2", ORANGE, DASH, "s"),
        "k3": Glyph("k3", GREEN, DASHDOT, "^"),
        "k3-inverted": Glyph("inverted k3", BLACK, LONG, "<"),
        "abs": Glyph("|L|", GRAY, TWO_DOTS, ">"),
        "k1-reward": Glyph("k1 in the reward", PINK, DOT, "v", hollow=True),
        "k3-reward": Glyph("k3 in the reward", WINE, DOT, "^", hollow=True),
        "k3-ratio": Glyph("k3 times a live ratio", BLUE, LONG, "^"),
        # losses and roads
        "dpo": Glyph("DPO", ORANGE, DASH, "o", hollow=True),
        "rlhf": Glyph("RLHF", WINE, SOLID, "s"),
        "cdpo": Glyph("cDPO", PINK, DOT),
        "ipo": Glyph("IPO", GREEN, DASHDOT),
        "exo-pair": Glyph("EXO", GRAY, TWO_DOTS),
        "slic-reference": Glyph("SLiC", BLACK, LONG),
        "discopop": Glyph("DiscoPOP", WINE, SOLID),
        # selection
        "best-of-n": Glyph("best of $n$", PINK, DASH, ">", size=4.5),
        "soft-best-of-n": Glyph("soft best of $n$", WINE, DOT, ">", hollow=True, size=4.5),
        # responses
        "winner": Glyph("winner", GREEN, SOLID),
        "loser": Glyph("loser", PINK, DASH),
        "bystander": Glyph("never compared", BLACK, DOT),
        # aggregations over tokens
        "sequence-sum": Glyph("sequence-sum", ORANGE, SOLID),
        "sequence-mean": Glyph("sequence-mean", WINE, DASH),
        "token-mean": Glyph("token-mean", GREEN, DOT),
        "constant": Glyph("constant", BLACK, TWO_DOTS),
        # one thing at growing settings (group sizes, weights): darker and longer
        "rung-0": Glyph("", "#E08A3C", DOT, "o"),
        "rung-1": Glyph("", "#C0641C", DASHDOT, "s"),
        "rung-2": Glyph("", "#944008", DASH, "^"),
        "rung-3": Glyph("", "#5E2500", LONG, "v"),
    }
)


def rung(k: int) -> str:
    """The name of the k-th of several settings of one thing; the ladder has four rungs, and begins anew above."""
    return f"rung-{k % 4}"


def line(ax: Panel, name: str, x: Any, y: Any, **more: Any) -> list[Line2D]:
    """Draw an object as its line; None in y is a gap."""
    return _named(ax, name, ax.plot(x, [float("nan") if v is None else v for v in y], **{**GLYPHS[name].trail(), **more}))


def points(ax: Panel, name: str, x: Any, y: Any, **more: Any) -> list[Line2D]:
    """Draw an object as its marks."""
    return _named(ax, name, ax.plot(x, y, **{**GLYPHS[name].point(), **more}))


def dotted(ax: Panel, name: str, x: Any, y: Any, **more: Any) -> list[Line2D]:
    """Draw an object as its line with its marks on it."""
    return _named(ax, name, ax.plot(x, y, **{**GLYPHS[name].both(), **more}))


def _named(ax: Panel, name: str, lines: list[Line2D]) -> list[Line2D]:
    """The artists with the object's name as their id, so that a picture tells what is what (an id occurs once in a file)."""
    sheet = ax.get_figure()
    panel = sheet.axes.index(ax) if sheet is not None else 0
    for drawn in lines:
        drawn.set_gid(f"{name}.{panel}.{list(ax.lines).index(drawn)}")
    return lines
