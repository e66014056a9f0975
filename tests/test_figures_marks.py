"""Laws of what a picture says: a number at a mark is recomputed from its place, a count is counted, a width and a gap are measured."""

from __future__ import annotations

import html
import itertools
import json
import math
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter

from tabular_rlhf.figures import all_figures
from tabular_rlhf.losses.evaluate import slope_gradient, value
from tabular_rlhf.world import coin, zen_world
from tests.pictures import NAMES, lines, sheet_of, shown
from tests.test_figures import COMMITTED, P_REF, REWARD, soft

Mark = dict[str, Any]

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


@cache
def passed() -> dict[tuple[int, str], list[float]]:
    """How likely a response of the zen world passes each depth after each word, under p_ref and p*: by listing all of them."""
    world, told = zen_world(), {}
    mdp = world.mdp
    weight = np.exp(world.log_p_ref + world.r / world.beta)
    for k, p in enumerate((np.exp(world.log_p_ref), weight / weight.sum())):
        through = mdp.subtree_sum(p)[0]
        for h, (a, b) in enumerate(itertools.pairwise(mdp.offsets)):
            for token, mass in zip(mdp.vocabulary, through[a:b].sum(axis=0), strict=True):
                told.setdefault((h + 1, token), [0.0, 0.0])[k] += float(mass)
    return told


LIKE = {
    "beautiful +5": ("beautiful", "explicit", "simple", "flat", "sparse", "now"),
    "is": ("is",),
    "better": ("better",),
    "than": ("than",),
}
LIKE |= {"ugly +5": ("ugly", "implicit", "complicated", "nested", "dense", "never"), "complex": ("complex",)}


def in_lattice(data: dict[str, Any], m: Mark) -> str:
    """The words that are one state there, and the mass of all responses that say one of them at that depth."""
    said, name = passed(), m["says"].split("\n")[0]
    if (m["x"], name) == (0, "start"):
        both = [1.0, 1.0]
    elif name == "the end":
        words = zen_world().mdp.vocabulary if m["x"] == 5 else (".",)
        both = [sum(said[m["x"], word][k] for word in words) for k in range(2)]
    else:
        assert list(LIKE).index(name) == m["y"], "a state keeps its row"
        both = [sum(said[m["x"], word][k] for word in LIKE[name]) for k in range(2)]
    return f"{name}\n" + " → ".join(f"{p:.2f}" if p >= 0.005 else "<0.01" for p in both)


def mean_there(data: dict[str, Any], m: Mark) -> str:
    """The mean of the law whose curve passes through the place."""
    (name,) = (key for key in ("reference", "given", "masked") if data[key][m["x"] - 1] == m["y"])
    label = {"reference": "the reference", "given": "given the format", "masked": "dead ends masked"}[name]
    return f"{label}\nmean length {math.fsum(n * p for n, p in enumerate(data[name], 1)):.1f}"


RECOMPUTED: dict[str, Callable[[dict[str, Any], Mark], str]] = {
    "tilt": tilted,
    "frontier": on_frontier,
    "soft-value-tree": in_tree,
    "kl-flags": regret_there,
    "regret-by-comparisons": fits_there,
    "merged-states": in_lattice,
    "masking": mean_there,
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
    committed = json.loads((COMMITTED / f"{name}.json").read_text(encoding="utf-8"))
    for what in ("title", "caption"):
        assert not re.search(rf"\b({words.replace(' ', '|')})\b", getattr(figure, what), re.IGNORECASE)
        assert numerals(getattr(figure, what)) == []
        assert committed[what] == getattr(figure.said, what)


@pytest.mark.parametrize("name", NAMES)
def test_a_title_says_the_finding_and_a_picture_says_it_to_those_who_cannot_see_it(name: str) -> None:
    """A sentence or more: it has a verb.  It stands above the panels; the SVG carries it, with the caption, where a screen reader looks."""
    figure, sheet = all_figures()[name], sheet_of(name)
    title = sheet.get_suptitle()
    assert " ".join(title.split()) == figure.said.title
    assert len(figure.said.title.split()) >= 6
    svg = (COMMITTED / f"{name}.svg").read_text(encoding="utf-8")
    assert re.search(r'<svg role="img" aria-labelledby="title" aria-describedby="desc"', svg)
    assert f'<title id="title">{html.escape(figure.said.title)}</title><desc id="desc">{html.escape(figure.said.caption)}</desc>' in svg


@pytest.mark.parametrize("name", NAMES)
def test_curves_are_named_where_they_are(name: str) -> None:
    """No legend: where curves cross, nobody should have to carry a color from a box to a line."""
    sheet = sheet_of(name)
    assert [legend for legend in (*(ax.get_legend() for ax in sheet.axes), *sheet.legends) if legend is not None] == []


def test_the_caption_of_the_flags_counts_what_is_drawn() -> None:
    data = shown("kl-flags")
    places = {tuple(np.round(row["end"], 2)) for row in data["flags"]}
    at_star = [row["label"] for row in data["flags"] if np.allclose(row["end"], data["p_star"], atol=1e-6)]
    assert (len(data["flags"]), len(places), at_star) == (6, 5, ["k2 in the loss"])
    assert all_figures()["kl-flags"].said.caption.startswith(
        "Six KL flags, the same beta and reward, five destinations: only k2 in the loss"
    )


def test_the_readme_says_what_the_figures_say() -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    pictures = re.findall(r"!\[[^\]]*\]\(figures/([a-z-]+)\.png\)\n\n\*(.*?)\*\n\n", readme, re.DOTALL)
    assert len(pictures) >= 3
    for name, said in pictures:
        assert " ".join(said.replace("\\*", "*").split()) == all_figures()[name].said.caption


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


@pytest.mark.parametrize("name", ["dpo", "cdpo", "ipo", "exo-pair", "slic-reference"])
def test_the_optimal_margins_that_are_drawn_are_those_of_the_minimizer(name: str) -> None:
    from tabular_rlhf.figures.zoo import one_pair
    from tabular_rlhf.losses.optimum import minimize

    curve, world = shown("loss-zoo")["optimum"][name], coin(1.0)
    for at in (0, 3):
        log_p = minimize(name, world, one_pair(curve["x"][at])).log_p[0]
        assert curve["y"][at] == pytest.approx(float(log_p[1] - log_p[0]), abs=2e-5), (name, curve["x"][at])


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


def test_a_lattice_is_drawn_as_wide_as_its_flow() -> None:
    """What flows into a state of p* flows out of it, and widths are that flow."""
    data = shown("merged-states")
    bands = [drawn.get_linewidth() for _, _, drawn in lines("merged-states") if drawn.get_alpha() is not None]
    assert sorted(bands) == pytest.approx(sorted(26.0 * edge["mass"] for edge in data["edges"]))
    inward: dict[tuple[int, int], float] = {(0, 0): 1.0}
    outward: dict[tuple[int, int], float] = {}
    for edge in data["edges"]:
        inward[tuple(edge["to"])] = inward.get(tuple(edge["to"]), 0.0) + edge["mass"]
        outward[tuple(edge["from"])] = outward.get(tuple(edge["from"]), 0.0) + edge["mass"]
    assert all(inward[node] == pytest.approx(mass, abs=1e-6) for node, mass in outward.items())
    ended = [mass for node, mass in inward.items() if node not in outward]
    assert math.fsum(ended) == pytest.approx(1.0, abs=1e-6)
    assert len(outward) == 25


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
    assert "lines: asymptotes" in words
