"""Information geometry on the simplex of three responses, and the regret of both roads against the number of comparisons."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tabular_rlhf.errors import SolveError
from tabular_rlhf.figures.record import BLACK, BLUE, GRAY, GREEN, ORANGE, PINK, Data, Figure
from tabular_rlhf.gibbs import log_gibbs, solve
from tabular_rlhf.logspace import Array, kl
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.policy import NGram, Tabular, uniform
from tabular_rlhf.preferences import Pairs, bradley_terry, population_pairs, sample_pairs
from tabular_rlhf.projection import forward_projection, reverse_projection
from tabular_rlhf.roads import Arrival, Linear, dpo, rlhf
from tabular_rlhf.world import World

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

# ---------------------------------------------------------------------------------------------------- the simplex

CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, 0.75**0.5]])
ODDS = {".": 9.0, "a a": 5.0, "a .": 0.1}
"""exp(r/beta) of the three responses: saying nothing is good, saying all is better, stopping half-way is bad."""


def three_responses() -> World:
    """One word and EOS, two tokens: ".", "a a", "a .", with p_ref = (3, 4.9, 2.1)/10 and two good responses far apart."""
    mdp = TokenMDP(("a", "."), horizon=2, eos=".")
    log_ref = np.broadcast_to(np.log([0.7, 0.3]), (1, mdp.S, 2))
    return World(mdp, log_ref, np.log([[ODDS[mdp.text(i)] for i in range(mdp.N)]]), 1.0, name="three")


def compute_simplex(world: World, points: int = 121) -> Data:
    """Points of the triangle (x, y): the Gibbs arc, the curve of policies without context, both projections of p* onto it, and
    the level sets through them, {p : KL(p*, p) = forward value} and {p : KL(p, p*) = reverse value}."""
    mdp, tied = world.mdp, NGram(world.mdp, 0)
    target = solve(world).log_p
    forward = forward_projection(tied, target)
    reverse = reverse_projection(tied, target, rng=np.random.default_rng(0))
    s = np.concatenate([np.linspace(0.0, 1.0, points // 2), np.linspace(1.0, 8.0, points // 2)[1:]])
    arc = [np.exp(log_gibbs(world.log_p_ref, world.r, 1.0 / t))[0] if t > 0 else np.exp(world.log_p_ref[0]) for t in s]
    q = np.linspace(1e-6, 1 - 1e-6, points)
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
        "forward_level": _xy(level_set(lambda log_p: kl(target, log_p), p_star, forward.value, 3 * points)),
        "reverse_level": _xy(level_set(lambda log_p: kl(log_p, target), p_star, reverse.value, 3 * points)),
    }


def _pi(log_pi: Any) -> float:
    return float(np.exp(log_pi[0, 0, 0]))


def _xy(p: Array) -> dict[str, list[float]]:
    xy = p @ CORNERS
    return {"x": xy[:, 0].tolist(), "y": xy[:, 1].tolist()}


def level_set(divergence: Callable[[Any], Any], center: Array, value: float, points: int) -> Array:
    """The closed curve of laws at a given divergence from the center, by bisection along rays: both divergences are convex in p,
    so each ray meets it once; a ray that leaves the simplex before ends at the edge.  (points, 3)."""
    angle = np.linspace(0.0, 2 * np.pi, points)
    plane = np.array([[1.0, -0.5, -0.5], [0.0, 0.75**0.5, -(0.75**0.5)]])
    way = np.cos(angle)[:, None] * plane[0] + np.sin(angle)[:, None] * plane[1]
    with np.errstate(divide="ignore"):
        far = np.min(np.where(way < 0, -center / np.where(way < 0, way, -1.0), np.inf), axis=1) * (1 - 1e-12)
    low, high = np.zeros(points), far
    for _ in range(60):
        middle = 0.5 * (low + high)
        inside = divergence(np.log(center + middle[:, None] * way)) <= value
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return center + low[:, None] * way


def draw_simplex(axes: list[Axes], data: Data) -> list[Artist]:
    """The triangle with its corners named, the arc, the class, and where each projection lands."""
    (ax,) = axes
    corners = data["corners"]
    artists: list[Artist] = [*ax.fill(corners["x"], corners["y"], facecolor="none", edgecolor=GRAY, linewidth=1.0)]
    for name, x, y in zip(corners["response"], corners["x"], corners["y"], strict=True):
        shift = (0, 8) if y > 0.5 else (0, -14)
        artists.append(ax.annotate(f"always {name!r}", (x, y), shift, textcoords="offset points", ha="center", fontsize=9))
    artists += ax.plot(data["forward_level"]["x"], data["forward_level"]["y"], color=GREEN, linestyle=":", linewidth=1.2)
    artists += ax.plot(data["reverse_level"]["x"], data["reverse_level"]["y"], color=ORANGE, linestyle="--", linewidth=1.0)
    artists += ax.plot(data["class"]["x"], data["class"]["y"], color=BLACK, linewidth=1.6, label="policies without context")
    artists += ax.plot(data["arc"]["x"], data["arc"]["y"], color=BLUE, linewidth=1.6, linestyle="-.", label=r"$p_\beta$, all $\beta$")
    marks = [("reference", "s", BLACK, r"$p_{\mathrm{ref}}$"), ("optimum", "*", BLUE, r"$p^*$"), ("forward", "o", GREEN, "forward: covers")]
    for key, marker, color, label in marks:
        size = 13 if marker == "*" else 7
        artists += ax.plot(data[key]["x"], data[key]["y"], marker, color=color, markersize=size, linestyle="none", label=label, zorder=5)
    for i, found in enumerate(data["reverse"]):
        face, label = (ORANGE, "reverse: best") if i == 0 else ("white", "reverse: local optimum")
        artists += ax.plot(found["x"], found["y"], "D", color=ORANGE, markerfacecolor=face, linestyle="none", label=label, zorder=5)
    ax.set_aspect("equal")
    ax.set_xlim(-0.14, 1.14)
    ax.set_axis_off()
    artists.append(ax.legend(loc="upper left", bbox_to_anchor=(-0.12, 1.0), fontsize=8, frameon=False))
    return artists


# ---------------------------------------------------------------------------------------------------- regret

SIZES = (100, 400, 1600, 6400)


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
    """Regret beta KL(p, p*) of each road on data sets drawn, and what theory says: its limit, the mean limit + curvature/n where the
    limit is stationary (else the limit: first-order errors are symmetric), and the standard deviation of one data set.

    Where the likelihood of a data set has no maximum there is no policy: it is counted in `without`.
    """
    law = bradley_terry(world.r)
    data: Data = {"n": list(sizes), "draws": draws, "roads": []}
    samples = [[sample_pairs(world, law, n, rng=np.random.default_rng([i, n])) for i in range(draws)] for n in sizes]
    for name, road in the_roads(world, features).items():
        limit = road(population_pairs(world, law), np.random.default_rng(0)).regret
        stationary = limit.deviation < 1e-6
        found = [[_regret(road, pairs) for pairs in group] for group in samples]
        kept = [[value for value in group if value is not None] for group in found]
        data["roads"].append(
            {
                "name": name,
                "limit": limit.value,
                "expected": [limit.value + (limit.curvature / n if stationary else 0.0) for n in sizes],
                "deviation": [limit.at(n) for n in sizes],
                "sets": kept,
                "mean": [float(np.mean(group)) if len(group) == draws else None for group in kept],
                "without": [draws - len(group) for group in kept],
            }
        )
    return data


def _regret(road: Road, pairs: Pairs) -> float | None:
    try:
        there = road(pairs, np.random.default_rng(0))
    except SolveError:
        return None
    world = there.world
    return float(world.beta * np.sum(world.mu * kl(there.log_p, solve(world).log_p)))


def draw_regret(axes: list[Axes], data: Data) -> list[Artist]:
    """One panel a class: lines are theory, small dots data sets, large ones their means."""
    artists: list[Artist] = []
    for ax, where, title in zip(axes, ("small class", "every policy"), ("a class without p*", "every policy"), strict=True):
        for road in (r for r in data["roads"] if r["name"].endswith(where)):
            rlhf_ = road["name"].startswith("RLHF")
            color, marker, line, shift = (BLUE, "o", "-", 0.93) if rlhf_ else (PINK, "s", "--", 1.07)
            name = road["name"].partition(",")[0]
            artists += ax.plot(data["n"], road["expected"], color=color, linestyle=line, label=f"{name}, theory")
            dots = [(shift * n, value) for n, group in zip(data["n"], road["sets"], strict=True) for value in group]
            artists += ax.plot(*zip(*dots, strict=True), marker, color=color, markersize=2.5, alpha=0.4, linestyle="none")
            means = [(shift * n, m) for n, m in zip(data["n"], road["mean"], strict=True) if m is not None]
            artists += ax.plot(*zip(*means, strict=True), marker, color=color, linestyle="none", label=f"{name}, mean of {data['draws']}")
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_title(title)
        ax.set_xlabel("comparisons")
        artists.append(ax.legend(fontsize=8, frameon=False))
    axes[0].set_ylabel(r"regret $\beta\,\mathrm{KL}(p, p^*)$, reward units")
    return artists


FIGURES = (
    Figure(
        name="simplex",
        caption="p* and what a policy without context makes of it: the forward projection covers both modes, the reverse picks one.",
        rows=("e-geodesic", "m-projection-counts", "mode-seeking"),
        compute=lambda: compute_simplex(three_responses()),
        draw=draw_simplex,
        size=(6.4, 5.2),
    ),
    Figure(
        name="regret-by-comparisons",
        caption="RLHF with the right reward class finds the best policy of any class; DPO pays for what its class cannot say.",
        rows=("all-roads", "reverse-kl-projection"),
        compute=lambda: compute_regret(*small_talk()),
        draw=draw_regret,
        widths=(1.0, 1.0),
        size=(9.0, 4.0),
    ),
)
