"""Laws of what is seen of a picture: one glyph is one object, and nothing hides what another says."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.lines import Line2D
from matplotlib.text import Text

from tabular_rlhf.explore import svg
from tabular_rlhf.explore.triangle import MARKS
from tabular_rlhf.figures import glyphs, page
from tabular_rlhf.figures.glyphs import GLYPHS
from tabular_rlhf.page.fragments import PATHS, SHAPES
from tests.pictures import NAMES, lines, sheet_of

# ---------------------------------------------------------------------------------------------------- glyphs


def look(name: str) -> tuple[Any, ...]:
    g = GLYPHS[name]
    return g.color, g.line, g.marker, g.hollow


def test_no_two_objects_have_one_glyph() -> None:
    for one, other in itertools.combinations(GLYPHS, 2):
        assert look(one) != look(other), (one, other)


@pytest.mark.parametrize("name", NAMES)
def test_one_glyph_is_one_object_in_every_picture(name: str) -> None:
    """Every line and mark is of the table; in a picture, two objects differ in more than color."""
    seen: dict[str, list[Line2D]] = {}
    for _, what, drawn in lines(name):
        g = GLYPHS[what]
        seen.setdefault(what, []).append(drawn)
        assert drawn.get_color() == g.color, (name, what)
        if drawn.get_marker() not in ("None", "", None):
            assert drawn.get_marker() == g.marker, (name, what)
            assert (drawn.get_markerfacecolor() == "white") == g.hollow, (name, what)
        if drawn.get_linestyle() not in ("None", "", None):
            assert drawn.get_linestyle() == Line2D([], [], linestyle=g.line).get_linestyle(), (name, what)
    frame = [drawn for ax in sheet_of(name).axes for drawn in ax.lines if drawn.get_gid() is None]
    assert all(drawn.get_linewidth() < 0.7 for drawn in frame), "only the zero line is of no object"
    for panel in range(len(sheet_of(name).axes)):
        here = [what for what in seen if any(drawn.axes is sheet_of(name).axes[panel] for drawn in seen[what])]
        for one, other in itertools.combinations(here, 2):
            kinds = [{(d.get_linestyle() != "None", d.get_marker() != "None") for d in seen[what]} for what in (one, other)]
            a, b = GLYPHS[one], GLYPHS[other]
            for lined, marked in kinds[0] & kinds[1]:
                assert (lined and a.line != b.line) or (marked and (a.marker, a.hollow) != (b.marker, b.hollow)), (name, one, other)


def test_the_page_and_the_panels_draw_the_same_glyphs() -> None:
    """The page's marks and lines by its style sheet, the triangle of `explore` by its elements."""
    css = (Path(page.__file__).parent.parent / "page" / "page.css").read_text(encoding="utf-8")
    inks = {"var(--ink)": glyphs.BLACK, "var(--blue)": glyphs.BLUE, "var(--orange)": glyphs.ORANGE, "var(--green)": glyphs.GREEN}
    kinds = {"ref": "reference", "star": "optimum", "forward": "forward", "reverse": "reverse", "end": "end"}
    for kind, name in kinds.items():
        fill, stroke = re.findall(rf"path\.{kind} {{ fill: ([^;]+); stroke: ([^;]+);", css)[0]
        assert inks[stroke if GLYPHS[name].hollow else fill] == GLYPHS[name].color
        assert (fill == "var(--paper)") == GLYPHS[name].hollow
        assert SHAPES[name] == PATHS[GLYPHS[name].marker]
    for kind, name in {"path.arc": "tilted", "path.curve": "class", "path.path": "policy", ".line.dpo": "dpo"}.items():
        rule = re.findall(rf"{re.escape(kind)} {{ ([^}}]+)}}", css)[0]
        assert inks[re.findall(r"stroke: ([^;]+);", rule)[0]] == GLYPHS[name].color
        assert ("stroke-dasharray" in rule) == (GLYPHS[name].line != glyphs.SOLID)
    drawn = [svg.mark(0.0, 0.0, glyph) for _, _, glyph, _ in MARKS]
    for said, (_, _, glyph, _) in zip(drawn, MARKS, strict=True):
        color = svg.INK if GLYPHS[glyph].color == glyphs.BLACK else GLYPHS[glyph].color
        assert f'stroke="{color}"' in said
        assert ('fill="none"' in said) == GLYPHS[glyph].hollow
    assert len(set(drawn)) == len(drawn)


# ---------------------------------------------------------------------------------------------------- what can be seen


def way(drawn: Line2D) -> np.ndarray:
    """The points of a line in pixels, gaps as nan."""
    return np.asarray(drawn.get_transform().transform(np.asarray(drawn.get_xydata(), dtype=float)))


def inside(box: Any, xy: np.ndarray) -> bool:
    return bool(np.any((xy[:, 0] > box.x0) & (xy[:, 0] < box.x1) & (xy[:, 1] > box.y0) & (xy[:, 1] < box.y1)))


def dense(xy: np.ndarray) -> np.ndarray:
    """Points along a line, at most some two pixels apart on the sheet."""
    t = np.linspace(0.0, 1.0, 200)[:, None]
    return np.concatenate([xy, *(a + t * (b - a) for a, b in itertools.pairwise(xy))])


@pytest.mark.parametrize("name", NAMES)
def test_a_legend_crosses_nothing(name: str) -> None:
    sheet = sheet_of(name)
    boxes = [legend.get_window_extent() for legend in (*(ax.get_legend() for ax in sheet.axes), *sheet.legends) if legend is not None]
    for _, what, drawn in lines(name):
        clip = drawn.axes.get_window_extent()  # type: ignore[union-attr]
        xy = way(drawn) if drawn.get_linestyle() == "None" else dense(way(drawn))
        xy = xy[(xy[:, 0] >= clip.x0) & (xy[:, 0] <= clip.x1) & (xy[:, 1] >= clip.y0) & (xy[:, 1] <= clip.y1)]
        for box in boxes:
            assert not inside(box, xy), f"{name}: the legend lies on {what}"


@pytest.mark.parametrize("name", NAMES)
def test_words_do_not_lie_on_words(name: str) -> None:
    sheet = sheet_of(name)
    texts = [t for t in sheet.findobj(Text) if t.get_text().strip() and t.get_visible()]
    boxes = [
        (t.get_text(), Text.get_window_extent(t)) for t in texts if not any(t is hidden for ax in sheet.axes for hidden in out_of_sight(ax))
    ]
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        wide, high = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert min(wide, high) <= 1.0, f"{name}: {one!r} lies on {other!r}"


def out_of_sight(ax: Any) -> list[Text]:
    """Tick labels of an axis that is off, or outside what is seen of it."""
    labels = [*ax.get_xticklabels(which="both"), *ax.get_yticklabels(which="both")]
    if not ax.axison:
        return [*labels, ax.xaxis.label, ax.yaxis.label]
    (x0, x1), (y0, y1) = sorted(ax.get_xlim()), sorted(ax.get_ylim())
    x = [t for t in ax.get_xticklabels(which="both") if not x0 <= t.get_position()[0] <= x1]
    return [*x, *(t for t in ax.get_yticklabels(which="both") if not y0 <= t.get_position()[1] <= y1)]


@pytest.mark.parametrize("name", NAMES)
def test_no_mark_hides_under_another(name: str) -> None:
    """Of two marks at one place, the one that is drawn later is smaller by 3 points at least; clouds of data sets may touch."""
    marks = [
        (xy, drawn.get_zorder(), k, float(drawn.get_markersize()), what)
        for k, (_, what, drawn) in enumerate(lines(name))
        if drawn.get_linestyle() == "None" and drawn.get_markersize() > 3
        for xy in way(drawn)
    ]
    for (p, z, k, size, one), (q, y, n, other_size, other) in itertools.permutations(marks, 2):
        if (z, k) < (y, n) and np.hypot(*(p - q)) * 72 / 100 < 0.5 * min(size, other_size):
            assert size >= other_size + 3, f"{name}: {one} hides under {other}"


@pytest.mark.parametrize("name", NAMES)
def test_a_curve_is_no_polygon(name: str) -> None:
    """No two neighbors on a line without marks both lie more than a pixel beside the chord around them: one alone is a corner."""
    for _, what, drawn in lines(name):
        if drawn.get_marker() == "None" and len(drawn.get_xydata()) > 3:
            xy, seen = way(drawn), drawn.axes.get_window_extent()  # type: ignore[union-attr]
            a, b, c = xy[:-2], xy[1:-1], xy[2:]
            chord = c - a
            long = np.maximum(np.hypot(*chord.T), 1e-9)
            beside = np.abs(chord[:, 0] * (b - a)[:, 1] - chord[:, 1] * (b - a)[:, 0]) / long
            within = (b[:, 0] >= seen.x0 - 1) & (b[:, 0] <= seen.x1 + 1) & (b[:, 1] >= seen.y0 - 1) & (b[:, 1] <= seen.y1 + 1)
            turns = np.where(within, np.nan_to_num(beside), 0.0)
            worst = float(np.max(np.minimum(turns[:-1], turns[1:])))
            assert worst <= 1.0, f"{name}: {what} turns by {worst:.1f} pixels at two points in a row"
