"""Information geometry on the simplex of three responses, and the regret of both roads against the number of comparisons."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tabular_rlhf.errors import SolveError
from tabular_rlhf.figures.glyphs import GLYPHS, GRAY, line, points
from tabular_rlhf.figures.marks import mark, name_ends, note, write
from tabular_rlhf.figures.record import Data, Figure, Panel, Panels
from tabular_rlhf.gibbs import log_gibbs, solve
from tabular_rlhf.logspace import Array, kl
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.policy import NGram, Tabular, uniform
from tabular_rlhf.preferences import Pairs, bradley_terry, population_pairs, sample_pairs
from tabular_rlhf.projection import forward_projection, reverse_projection
from tabular_rlhf.roads import Arrival, Linear, dpo, rlhf
from tabular_rlhf.world import World

# ---------------------------------------------------------------------------------------------------- the simplex

CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, 0.75**0.5]])
ODDS = {".": 9.0, "a a": 5.0, "a .": 0.1}
"""exp(r/beta) of the three responses: saying nothing is good, saying all is better, stopping half-way is bad."""


def three_responses() -> World:
    """One word and EOS, two tokens: ".", "a a", "a .", with p_ref = (3, 4.9, 2.1)/10 and two good responses far apart."""
    mdp = TokenMDP(("a", "."), horizon=2, eos=".")
    log_ref = np.broadcast_to(np.log([0.7, 0.3]), (1, mdp.S, 2))
    return World(mdp, log_ref, np.log([[ODDS[mdp.text(i)] for i in range(mdp.N)]]), 1.0, name="three")


def compute_simplex(world: World, steps: int = 241) -> Data:
    """Points of the triangle (x, y): the Gibbs arc, the curve of policies without context, both projections of p* onto it, and
    the level sets through them, {p : KL(p*, p) = forward value} and {p : KL(p, p*) = reverse value}."""
    mdp, tied = world.mdp, NGram(world.mdp, 0)
    target = solve(world).log_p
    forward = forward_projection(tied, target)
    reverse = reverse_projection(tied, target, rng=np.random.default_rng(0))
    s = np.concatenate([np.linspace(0.0, 1.0, steps // 2), np.linspace(1.0, 8.0, steps // 2)[1:]])
    arc = [np.exp(log_gibbs(world.log_p_ref, world.r, 1.0 / t))[0] if t > 0 else np.exp(world.log_p_ref[0]) for t in s]
    q = np.linspace(1e-6, 1 - 1e-6, steps)
    curve = [np.exp(mdp.path_sum(tied.log_pi(np.log([[p, 1 - p]]))))[0] for p in q]
    p_star = np.exp(target[0])
    return {
        "corners": {"response": [mdp.text(i) for i in range(mdp.N)], **_xy(np.eye(3))},
        "reference": _xy(np.exp(world.log_p_ref)),
        "optimum": _xy(p_star[None]),
        "arc": _xy(np.array(arc)),
        "class": _xy(np.array(curve)),
        "forward": {**_xy(np.exp(forward.log_p)), "pi": _pi(forward.log_pi), "kl": forward.value},
        "reverse": [{**_xy(np.exp(mdp.path_sum(o.log_pi))), "pi": _pi(o.log_pi), "kl": o.value} for o in reverse.optima],
        "forward_level": _xy(level_set(lambda log_p: kl(target, log_p), p_star, forward.value, 3 * steps)),
        "reverse_level": _xy(level_set(lambda log_p: kl(log_p, target), p_star, reverse.value, 3 * steps)),
    }


def _pi(log_pi: Any) -> float:
    return float(np.exp(log_pi[0, 0, 0]))


def _xy(p: Array) -> dict[str, list[float]]:
    xy = p @ CORNERS
    return {"x": xy[:, 0].tolist(), "y": xy[:, 1].tolist()}


def level_set(divergence: Callable[[Any], Any], center: Array, value: float, rays: int) -> Array:
    """The closed curve of laws at a given divergence from the center, by bisection along rays: both divergences are convex in p,
    so each ray meets it once; a ray that leaves the simplex before ends at the edge.  (rays, 3)."""
    angle = np.linspace(0.0, 2 * np.pi, rays)
    plane = np.array([[1.0, -0.5, -0.5], [0.0, 0.75**0.5, -(0.75**0.5)]])
    way = np.cos(angle)[:, None] * plane[0] + np.sin(angle)[:, None] * plane[1]
    with np.errstate(divide="ignore"):
        far = np.min(np.where(way < 0, -center / np.where(way < 0, way, -1.0), np.inf), axis=1) * (1 - 1e-12)
    low, high = np.zeros(rays), far
    for _ in range(60):
        middle = 0.5 * (low + high)
        inside = divergence(np.log(center + middle[:, None] * way)) <= value
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return center + low[:, None] * way


def draw_simplex(axes: Panels, data: Data) -> None:
    """The triangle with its corners named, the arc, the class, where each projection lands, and all laws that are as far in its KL."""
    (ax,) = axes
    corners = data["corners"]
    ax.fill(corners["x"], corners["y"], facecolor="none", edgecolor=GRAY, linewidth=1.0)
    for name, x, y in zip(corners["response"], corners["x"], corners["y"], strict=True):
        note(ax, f"always {name!r}", (x, y), (0, 8) if y > 0.5 else (0, -14), ha="center", fontsize=9)
    line(ax, "class", data["class"]["x"], data["class"]["y"], linewidth=1.6)
    line(ax, "tilted", data["arc"]["x"], data["arc"]["y"], linewidth=1.6)
    best, *local = data["reverse"]
    for way, place in (("forward", data["forward"]), ("reverse", best)):
        points(ax, way, place["x"], place["y"], zorder=5)
        line(ax, way, data[f"{way}_level"]["x"], data[f"{way}_level"]["y"], linewidth=1.1, zorder=1)
    for name, place in (("reference", data["reference"]), ("optimum", data["optimum"]), *(("reverse-local", place) for place in local)):
        points(ax, name, place["x"], place["y"], zorder=5, clip_on=False)
    _names(ax, data)
    ax.set_aspect("equal")
    ax.set_xlim(-0.14, 1.14)
    ax.set_axis_off()


def _names(ax: Panel, data: Data) -> None:
    """Each mark and line is named where there is room for it, a hair leading to it."""
    best, *local = data["reverse"]
    third = {key: data["class"][key][len(data["class"][key]) // 3] for key in ("x", "y")}
    arc = {key: data["arc"][key][len(data["arc"][key]) // 2] for key in ("x", "y")}
    said = [
        (data["reference"], GLYPHS["reference"].label, (14, 12)),
        (data["optimum"], GLYPHS["optimum"].label, (-4, -24)),
        (data["forward"], "forward projection:\nleast $\\mathrm{KL}(p^*, p)$ (dotted: equal)", (-14, 62)),
        (best, "reverse projection:\nleast $\\mathrm{KL}(p, p^*)$\n(dashed: equal)", (52, 44)),
        *((place, "another minimum\nof the reverse", (-22, 40)) for place in local),
        (third, "policies\nwithout context", (-86, 56)),
        (arc, r"$p_\beta$, all $\beta$", (-30, 20)),
    ]
    hair = {"arrowstyle": "-", "color": GRAY, "linewidth": 0.5, "shrinkA": 1.0, "shrinkB": 3.0}
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
    for at, words, shift in said:
        note(ax, words, (np.ravel(at["x"])[0], np.ravel(at["y"])[0]), shift, ha="center", arrowprops=hair, bbox=box)


# ---------------------------------------------------------------------------------------------------- regret

SIZES = (100, 400, 1600, 6400)
PANELS = ("small class", "every policy")


def small_talk() -> tuple[World, Array]:
    """Two words and EOS, three tokens: 15 responses, whose reward is linear in three counts (features (1, 15, 3))."""
    mdp = TokenMDP(("hm", "yes", "."), horizon=3, eos=".")
    features = np.stack([mdp.phrase_count(p) for p in ("hm", "hm yes", ".")], axis=-1)[None]
    return World(mdp, uniform(mdp), features @ np.array([-1.5, 2.0, 0.5]), 0.3, name="small talk"), features


Road = Callable[[Pairs, np.random.Generator], Arrival]


def the_roads(world: World, features: Array) -> dict[str, Road]:
    """RLHF with a linear reward, and DPO, each to a class that holds p* (tabular) and to one that does not (no context)."""
    small, full = NGram(world.mdp, 0), Tabular(world.mdp)
    return {
        "RLHF, small class": lambda pairs, rng: rlhf(world, pairs, Linear(features), small, rng=rng, starts=1),
        "DPO, small class": lambda pairs, rng: dpo(world, pairs, small, rng=rng, starts=1),
        "RLHF, every policy": lambda pairs, rng: rlhf(world, pairs, Linear(features), full, rng=rng, starts=1),
        "DPO, every policy": lambda pairs, rng: dpo(world, pairs, full, rng=rng, starts=1),
    }


def compute_regret(world: World, features: Array, sizes: Sequence[int] = SIZES, draws: int = 12) -> Data:
    """Regret beta KL(p, p*) of each road on data sets drawn, and its first-order asymptote as n grows: the limit, and where the limit is
    stationary the mean of what is added to it, limit + curvature/n (elsewhere errors are symmetric to first order).

    Where the likelihood of a data set has no maximum there is no policy: it is counted in `without`, and no mean is taken of the rest.
    """
    law, n_line = bradley_terry(world.r), np.geomspace(min(sizes), max(sizes), 61)
    data: Data = {"n": list(sizes), "draws": draws, "line": n_line.tolist(), "roads": []}
    samples = [[sample_pairs(world, law, n, rng=np.random.default_rng([i, n])) for i in range(draws)] for n in sizes]
    for name, road in the_roads(world, features).items():
        limit = road(population_pairs(world, law), np.random.default_rng(0)).regret
        slope = limit.curvature if limit.deviation < 1e-6 else 0.0
        found = [[_regret(road, pairs) for pairs in group] for group in samples]
        kept = [[value for value in group if value is not None] for group in found]
        data["roads"].append(
            {
                "name": name,
                "limit": limit.value,
                "slope": slope,
                "asymptote": (limit.value + slope / n_line).tolist(),
                "sets": kept,
                "mean": [float(np.mean(group)) if len(group) == draws else None for group in kept],
                "without": [draws - len(group) for group in kept],
            }
        )
    return {**data, "marks": [m for k, where in enumerate(PANELS) for road in _on(data, where) for m in _missing(data, road, k)]}


def _on(data: Data, where: str) -> list[Data]:
    """The roads of a panel."""
    return [road for road in data["roads"] if road["name"].endswith(where)]


def _missing(data: Data, road: Data, panel: int) -> list[Data]:
    """At every size at which some data sets have no fit: how many of them have one, above the highest (or on the asymptote)."""
    said = []
    for n, group, without in zip(data["n"], road["sets"], road["without"], strict=True):
        if without:
            y = max(group, default=road["limit"] + road["slope"] / n)
            says = f"{_label(road)}: {data['draws'] - without} of {data['draws']}\nhave a fit"
            said.append(mark(_beside(road, n), y, says, beside="above", panel=panel))
    return said


def _beside(road: Data, n: int) -> float:
    """Where the data sets of size n of a road stand, so that two roads do not cover each other."""
    return (0.93 if _label(road) == "RLHF" else 1.07) * n


def _label(road: Data) -> str:
    """RLHF or DPO."""
    return str(road["name"].partition(",")[0])


def _regret(road: Road, pairs: Pairs) -> float | None:
    try:
        there = road(pairs, np.random.default_rng(0))
    except SolveError:
        return None
    world = there.world
    return float(world.beta * np.sum(world.mu * kl(there.log_p, solve(world).log_p)))


def draw_regret(axes: Panels, data: Data) -> None:
    """One panel a class: lines are the first-order asymptotes, small marks data sets, large ones the means where every set has a fit."""
    for ax, where, title in zip(axes, PANELS, ("a class without p*: a floor", "every policy: no floor"), strict=True):
        for road in _on(data, where):
            glyph = _label(road).lower()
            line(ax, glyph, data["line"], road["asymptote"], label=_label(road))
            dots = [(_beside(road, n), value) for n, group in zip(data["n"], road["sets"], strict=True) for value in group]
            points(ax, glyph, *zip(*dots, strict=True), markersize=2.5, alpha=0.45)
            means = [(_beside(road, n), m) for n, m in zip(data["n"], road["mean"], strict=True) if m is not None]
            points(ax, glyph, *zip(*means, strict=True), markersize=7, zorder=4)
        ax.set_xscale("log")
        if where == PANELS[1]:
            ax.set_yscale("log")
        else:  # a floor is seen on a linear axis that begins at nothing
            ax.set_ylim(0.0, 0.85)
        ax.set(title=title, xlabel="comparisons $n$")
        ax.margins(x=0.12, y=0.16)
        name_ends(ax)
    told = f"lines: asymptotes\nlarge marks: means of {data['draws']}\nsmall: each data set"
    axes[0].text(0.97, 0.97, told, transform=axes[0].transAxes, ha="right", va="top", fontsize=8, linespacing=1.4)
    axes[0].set_ylabel(r"regret $\beta\,\mathrm{KL}(p, p^*)$, reward units")
    write(axes, data["marks"], fontsize=7.5)


FIGURES = (
    Figure(
        name="simplex",
        title="The forward projection covers both good answers, the reverse picks one",
        caption="p* and what a policy without context makes of it: the forward projection covers both modes, the reverse picks one.",
        rows=("e-geodesic", "m-projection-counts", "mode-seeking"),
        compute=lambda: compute_simplex(three_responses()),
        draw=draw_simplex,
        size=(6.4, 5.2),
    ),
    Figure(
        name="regret-by-comparisons",
        title="More comparisons help both roads, but only as far as their class of policies goes",
        caption="RLHF with the right reward class finds the best policy of any class; DPO pays for what its class cannot say, and over "
        "every policy few comparisons often leave it without a fit. Lines: first-order asymptotes.",
        rows=("all-roads", "reverse-kl-projection"),
        compute=lambda: compute_regret(*small_talk()),
        draw=draw_regret,
        widths=(1.0, 1.0),
        size=(9.0, 4.0),
    ),
)
