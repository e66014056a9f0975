"""Laws of every picture: what is printed at a mark is true of its place, one glyph is one object, and nothing hides what it says.

The pictures are drawn from the committed data, which tests/test_figures.py proves to be today's.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Sheet
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter

from tabular_rlhf.explore import svg
from tabular_rlhf.explore.triangle import MARKS
from tabular_rlhf.figures import all_figures, glyphs, page
from tabular_rlhf.figures.glyphs import GLYPHS
from tabular_rlhf.losses.evaluate import slope_gradient, value
from tabular_rlhf.page.fragments import PATHS, SHAPES
from tabular_rlhf.world import coin, zen_world
from tests.test_figures import COMMITTED, P_REF, REWARD, soft

NAMES = list(all_figures())
Mark = dict[str, Any]


@cache
def shown(name: str) -> dict[str, Any]:
    return dict(json.loads((COMMITTED / f"{name}.json").read_text(encoding="utf-8"))["data"])


@cache
def sheet_of(name: str) -> Sheet:
    """The figure, laid out."""
    figure = all_figures()[name]
    with matplotlib.style.context(page.STYLE):
        sheet = page.on_paper(figure.draw, shown(name), figure.widths, figure.size)
        FigureCanvasAgg(sheet).draw()
    return sheet


def lines(name: str) -> Iterator[tuple[int, str, Line2D]]:
    """(panel, object, artist) of everything drawn as a line or as marks."""
    for panel, ax in enumerate(sheet_of(name).axes):
        for drawn in ax.lines:
            if drawn.get_gid() is not None:
                yield panel, str(drawn.get_gid()).partition(".")[0], drawn


# ---------------------------------------------------------------------------------------------------- numbers at marks


def tilted(data: dict[str, Any], m: Mark) -> str:
    """The bar's length is p; p is p_ref exp(r/beta)/Z of the response named at its height."""
    text, beta = data["response"][m["y"]], data["beta"][m["panel"]]
    p = P_REF[text] * (1.0 if beta is None else math.exp((REWARD[text] - soft(beta)) / beta))
    assert m["x"] == pytest.approx(p, rel=1e-6, abs=1e-12)
    return f"{m['x']:.2f}" if m["x"] >= 0.005 else "<0.01"


@cache
def levels() -> tuple[Any, Any]:
    """The rewards of the zen world, and the mass of p_ref on each."""
    world = zen_world()
    r, place = np.unique(world.r, return_inverse=True)
    return r, np.bincount(np.ravel(place), np.exp(np.ravel(world.log_p_ref)))


def on_frontier(data: dict[str, Any], m: Mark) -> str:
    """beta of the Gibbs law whose KL is the mark's, by bisection: KL falls as beta rises."""
    r, q = levels()
    kl, low, high = (m["x"] if m["panel"] == 0 else m["x"] ** 2), 1e-2, 1e2

    def law(beta: float) -> tuple[float, float]:
        w = q * np.exp((r - r.max()) / beta)
        p = w / w.sum()
        seen = p > 0
        return float(np.sum(p[seen] * np.log(p[seen] / q[seen]))), float(p @ r)

    for _ in range(80):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if law(middle)[0] > kl else (low, middle)
    assert law(low)[1] == pytest.approx(m["y"], rel=1e-5), "the mark lies on the frontier"
    words = "$p^*$, slope " if m["says"].startswith("$p^*$") else "$"
    return f"{words}$\\beta = {low:.3g}$".replace("$$", "$")


def in_tree(data: dict[str, Any], m: Mark) -> str:
    """What stands at a place of the tree: laid out anew from the responses, told by the definition of V over responses."""
    return told_in_tree()[(round(m["x"], 4), round(m["y"], 4))]


@cache
def told_in_tree() -> dict[tuple[float, float], str]:
    beta, said = 0.5, {}
    leaves = list(P_REF)

    def mass(prefix: str) -> float:
        return math.fsum(P_REF[t] for t in leaves if t.startswith(prefix))

    def star(prefix: str) -> float:
        return math.fsum(P_REF[t] * math.exp((REWARD[t] - soft(beta)) / beta) for t in leaves if t.startswith(prefix))

    def common(group: list[str]) -> str:
        same = itertools.takewhile(lambda words: len(set(words)) == 1, zip(*(t.split() for t in group), strict=False))
        return " ".join(words[0] for words in same)

    def place(group: list[str], prefix: str, depth: int) -> float:
        """Put a node and all below it; its height."""
        if len(group) == 1:
            height = float(leaves.index(group[0]))
            said[depth, height] = f"{group[0]}   r = {REWARD[group[0]]:g}\n$p^*$ = {star(group[0]):.3f}"
            return height
        n = len(prefix.split())
        parts = [list(g) for _, g in itertools.groupby(group, key=lambda t: t.split()[n])]
        below = [(common(part) if len(part) > 1 else part[0]) for part in parts]
        heights = [place(part, child, depth + 1) for part, child in zip(parts, below, strict=True)]
        height = (heights[0] + heights[-1]) / 2
        for child, h in zip(below, heights, strict=True):
            at = (round(depth + 0.58, 4), round(height + 0.58 * (h - height), 4))
            said[at] = f"{child[len(prefix) :].strip()}\n{mass(child) / mass(prefix):.2f} → {star(child) / star(prefix):.2f}"
        title = f"“{prefix}”" if prefix else "start"
        said[depth, height] = f"{title}\nV = {soft(beta, prefix):.3f}"
        return height

    place(leaves, "", 0)
    return said


def regret_there(data: dict[str, Any], m: Mark) -> str:
    """beta KL(p, p*) of the law at the place in the triangle."""
    top = m["y"] / 0.75**0.5
    p = [1.0 - m["x"] - top / 2, m["x"] - top / 2, top]
    weight = [q * math.exp(r / data["beta"]) for q, r in zip(data["p_ref"], data["reward"], strict=True)]
    terms = [v * math.log(v * math.fsum(weight) / w) for v, w in zip(p, weight, strict=True) if v > 1e-6]
    return f"{data['beta'] * math.fsum(terms):.4f}"


def fits_there(data: dict[str, Any], m: Mark) -> str:
    """How many data sets have a mark of their own above the place on the axis."""
    small = [drawn for panel, _, drawn in lines("regret-by-comparisons") if panel == m["panel"] and drawn.get_markersize() < 4]
    xs = np.concatenate([np.asarray(drawn.get_xdata(), dtype=float) for drawn in small])
    return f"DPO: {int(np.sum(np.isclose(xs, m['x'])))} of 12\nhave a fit"


RECOMPUTED: dict[str, Callable[[dict[str, Any], Mark], str]] = {
    "tilt": tilted,
    "frontier": on_frontier,
    "soft-value-tree": in_tree,
    "kl-flags": regret_there,
    "regret-by-comparisons": fits_there,
}
"""What must be printed at a mark, from its own place: a figure that prints numbers at marks has a line here."""
SETTINGS = ("beta", "lam", "sizes", "draws", "reward")
"""Entries of the data that a title, a legend or a name may repeat: they are what the figure was asked for, and measured nowhere."""


def settings(data: dict[str, Any]) -> set[float]:
    found = [data.get(key, []) for key in SETTINGS]
    return {float(v) for entry in found for v in (entry if isinstance(entry, list) else [entry]) if isinstance(v, int | float)}


def numerals(text: str) -> list[float]:
    """The numbers in words; in mathematics the digits 0, 1, 2 of a formula are none, unless they follow an equals sign."""
    number, spans = r"-?\d+(?:,\d{3})*(?:\.\d+)?", re.split(r"(?<!\\)\$", text)
    found = [n for said in spans[::2] for n in re.findall(rf"(?<![\w.]){number}", said)]
    found += [n for said in spans[1::2] for n in re.findall(rf"(?<![\w.^_{{]){number}", said) if n not in {"0", "1", "2"}]
    found += [n for said in spans[1::2] for n in re.findall(rf"= ?({number})", said)]
    return [float(n.replace(",", "")) for n in found]


def test_what_counts_as_a_number() -> None:
    assert numerals(r"k3 in the loss") == numerals(r"$\log n - (n - 1)/n$") == numerals(r"$\mathcal{N}(0, 1) = m^2/2$") == []
    assert numerals("regret 0.2255, 12 sets") == [0.2255, 12.0]
    assert set(numerals(r"$\beta = 0.5$ of $G = 2$")) == {0.5, 2.0}


@pytest.mark.parametrize("name", NAMES)
def test_every_number_at_a_mark_is_recomputed_from_its_place(name: str) -> None:
    data, sheet = shown(name), sheet_of(name)
    marks = data.get("marks", [])
    assert bool(marks) <= (name in RECOMPUTED), f"{name} prints numbers at marks: recompute them here"
    for m in marks:
        assert m["says"] == RECOMPUTED[name](data, m), (name, m)
    written = []
    for panel, ax in enumerate(sheet.axes):
        ticks = {id(text) for axis in (ax.xaxis, ax.yaxis) for text in scale(axis)}
        for text in ax.findobj(Text):
            x, y = getattr(text, "xy", (None, None))
            if any((panel, x, y, text.get_text()) == (m["panel"], m["x"], m["y"], m["says"]) for m in marks):
                written.append((panel, x, y, text.get_text()))
            elif id(text) not in ticks:
                strange = [n for n in numerals(text.get_text()) if n not in settings(data)]
                assert strange == [], f"{name}: {text.get_text()!r} is neither a mark of the record nor a setting"
    assert sorted(written) == sorted((m["panel"], m["x"], m["y"], m["says"]) for m in marks), "every mark is drawn, once, at its place"


def scale(axis: Any) -> Iterator[Text]:
    """The numbers of an axis: matplotlib's own, or written by hand where they stand; names of rows are not among them."""
    by_hand = isinstance(axis.get_major_formatter(), FixedFormatter)
    yield axis.get_offset_text()
    for tick in (*axis.majorTicks, *axis.minorTicks):
        for label in (tick.label1, tick.label2):
            if not by_hand:
                yield label
            elif re.fullmatch(r"[\d.]+", label.get_text()):
                assert float(label.get_text()) == pytest.approx(tick.get_loc())
                yield label


def test_the_regrets_of_the_flags_are_those_of_their_limits() -> None:
    said = {m["says"] for m in shown("kl-flags")["marks"]}
    assert said == {"0.2255", "0.0524", "0.0352", "0.0112", "0.0000"}


@pytest.mark.parametrize("name", NAMES)
def test_counts_in_captions_are_counted(name: str) -> None:
    """A caption has no digit and no number word but those that its record counts."""
    figure, words = all_figures()[name], "two three four five six seven eight nine ten eleven twelve"
    assert not re.search(rf"\b({words.replace(' ', '|')})\b", figure.caption, re.IGNORECASE)
    assert numerals(figure.caption) == []
    committed = json.loads((COMMITTED / f"{name}.json").read_text(encoding="utf-8"))
    assert committed["caption"] == figure.told


def test_the_caption_of_the_flags_counts_what_is_drawn() -> None:
    data = shown("kl-flags")
    places = {tuple(np.round(row["end"], 2)) for row in data["flags"]}
    at_star = [row["label"] for row in data["flags"] if np.allclose(row["end"], data["p_star"], atol=1e-6)]
    assert (len(data["flags"]), len(places), at_star) == (6, 5, ["k2 in the loss"])
    assert all_figures()["kl-flags"].told.startswith("Six KL flags, the same beta and reward, five destinations: only k2 in the loss")


def test_the_readme_says_what_the_figures_say() -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    pictures = re.findall(r"!\[[^\]]*\]\(figures/([a-z-]+)\.png\)\n\n\*(.*?)\*\n\n", readme, re.DOTALL)
    assert len(pictures) >= 3
    for name, said in pictures:
        assert " ".join(said.replace("\\*", "*").split()) == all_figures()[name].told


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


# ---------------------------------------------------------------------------------------------------- single figures


def test_a_jump_of_a_loss_is_a_gap_and_a_curve_follows_its_loss() -> None:
    """SLiC's slope goes from -1 to 0 at D = 1 and its optimum from -1 to 1 at even odds; between drawn points every curve is straight."""
    data, world = shown("loss-zoo"), coin(1.0)
    from tabular_rlhf.figures.zoo import at_margin, one_pair

    def law(what: str, name: str, D: float) -> float:
        here = at_margin(world, D)
        return float(value(name, world, here, one_pair(1.0)) if what == "value" else slope_gradient(name, world, here, one_pair(1.0))[0, 1])

    for what, height in (("value", 6.2), ("slope", 5.5)):
        for name, curve in data[what].items():
            for (a, u), (b, v) in itertools.pairwise(zip(curve["x"], curve["y"], strict=True)):
                if u is not None and v is not None:
                    assert law(what, name, (2 * a + b) / 3) == pytest.approx((2 * u + v) / 3, abs=0.01 * height), (what, name, a)
    gaps = {
        (what, name): [x for x, y in zip(c["x"], c["y"], strict=True) if y is None]
        for what in ("value", "slope", "optimum")
        for name, c in data[what].items()
    }
    jumps = {key: [round(x, 2) for x in places] for key, places in gaps.items() if places}
    assert {key: set(places) for key, places in jumps.items()} == {("slope", "slic-reference"): {1.0}, ("optimum", "slic-reference"): {0.5}}
    slic = data["optimum"]["slic-reference"]
    for c, D in zip(slic["x"], slic["y"], strict=True):
        assert D is None or D == pytest.approx(0.0 if c == 0.5 else math.copysign(1.0, c - 0.5), abs=1e-5), c
    for c, D in zip(*data["optimum"]["dpo"].values(), strict=True):
        assert D == pytest.approx(math.log(c / (1 - c)), abs=1e-6)


def test_branches_are_as_wide_as_the_mass_of_p_star() -> None:
    """Widths are proportional to p*, and what flows into a state flows out of it."""
    data = shown("soft-value-tree")
    bands = [drawn.get_linewidth() for _, _, drawn in lines("soft-value-tree") if drawn.get_alpha() is not None]
    *widths, half = bands
    nodes = [n["text"] for n in data["nodes"]]
    mass = [
        math.fsum(P_REF[t] * math.exp((REWARD[t] - soft(0.5)) / 0.5) for t in P_REF if t.startswith(nodes[e["to"]])) for e in data["edges"]
    ]
    assert [w / (2 * half) for w in widths] == pytest.approx(mass, rel=1e-5)
    out: dict[int, float] = {}
    for edge, m in zip(data["edges"], mass, strict=True):
        out[edge["from"]] = out.get(edge["from"], 0.0) + m
    assert all(total == pytest.approx(1.0 if k == 0 else data["nodes"][k]["p"], abs=1e-6) for k, total in out.items())
    legend = " ".join(t.get_text() for t in sheet_of("soft-value-tree").findobj(Text))
    assert "the mass of $p^*$ that flows through" in legend


def test_a_mean_is_taken_of_all_data_sets_or_not_at_all() -> None:
    data = shown("regret-by-comparisons")
    for road in data["roads"]:
        for n, group, mean, without in zip(data["n"], road["sets"], road["mean"], road["without"], strict=True):
            assert len(group) + without == data["draws"]
            assert (mean is None) == (without > 0)
            assert mean is None or mean == pytest.approx(math.fsum(group) / len(group), rel=1e-6)
            told = [m for m in data["marks"] if m["says"].startswith(road["name"].split(",")[0]) and m["x"] == pytest.approx(1.07 * n)]
            assert without == 0 or len(told) == 1
    words = " ".join(t.get_text() for t in sheet_of("regret-by-comparisons").findobj(Text))
    assert "theory" not in words
    assert words.count("asymptote") == 4
