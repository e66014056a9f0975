"""KL flags: how noisily they estimate, where each of them leads, and how a wrong placement runs away."""

from __future__ import annotations

import numpy as np

from tabular_rlhf.errors import SolveError
from tabular_rlhf.estimators import Flag, analyse, end, flow, measure, normal_table
from tabular_rlhf.estimators.normal import PUBLISHED
from tabular_rlhf.figures.glyphs import GLYPHS, GRAY, dotted, line, points
from tabular_rlhf.figures.marks import mark, name_ends, note, write
from tabular_rlhf.figures.record import Data, Figure, Panel, Panels
from tabular_rlhf.gibbs import solve
from tabular_rlhf.logspace import Array
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.world import World

THREE = ("k1", "k2", "k3")
SIX = (
    (Flag("k1", "loss"), "k1", "k1 in the loss"),
    (Flag("k2", "loss"), "k2", "k2 in the loss"),
    (Flag("k3", "loss"), "k3", "k3 in the loss"),
    (Flag("k3-inverted", "loss"), "k3-inverted", "inverted k3 in the loss"),
    (Flag("abs", "loss"), "abs", "|L| in the loss"),
    (Flag("k3", "reward"), "k3-reward", "k3 in the reward"),
)
"""Six flags, each with its glyph and its name."""


def three(beta: float = 0.4) -> World:
    """Three responses: the likeliest is the worst, so every penalty has something to hold back."""
    return World(TokenMDP(("a", "b", "c"), 1), np.log([[[0.5, 0.3, 0.2]]]), np.array([[0.0, 0.6, 1.0]]), beta, name="three")


# ---------------------------------------------------------------------------------------------------- bias and spread


def compute_spread(shifts: int = 97, cells: int = 2**14) -> Data:
    """|bias|/KL and std/KL of k1, k2, k3 between N(0, 1) and N(m, 1), with the published points."""
    shift = np.geomspace(0.05, 3.0, shifts).tolist()
    rows = [normal_table(m, cells=cells) for m in shift]
    published = [
        {"kl": 0.5 * m * m, "estimator": name, "bias": float(bias), "std": float(std)}
        for m, printed in PUBLISHED.items()
        for name, (bias, std) in printed.items()
    ]
    return {
        "kl": [row[0].kl for row in rows],
        "std": {name: [row[i].std for row in rows] for i, name in enumerate(THREE)},
        "bias": {name: [round(row[i].bias, 9) for row in rows] for i, name in enumerate(THREE)},
        "published": published,
    }


def draw_spread(axes: Panels, data: Data) -> None:
    """Left: standard deviation over KL.  Right: bias over KL.  Markers: the published table, the smaller on the larger where they meet."""
    left, right = axes
    for ax, key in ((left, "std"), (right, "bias")):
        for size, name in zip((14, 9, 5), THREE, strict=True):
            line(ax, name, data["kl"], data[key][name], label=GLYPHS[name].label)
            dots = [(p["kl"], p[key]) for p in data["published"] if p["estimator"] == name]
            points(ax, name, *zip(*dots, strict=True), markersize=size, markeredgecolor="white", zorder=4)
        ax.set(xscale="log", xlabel=r"$\mathrm{KL}(\mathcal{N}(0, 1), \mathcal{N}(m, 1)) = m^2/2$, nats")
    left.set(yscale="log", ylabel="standard deviation of one draw / KL")
    right.set_ylabel("bias / KL")
    right.text(0.04, 0.94, "marks: published by Schulman", transform=right.transAxes, fontsize=8)
    for ax in axes:
        name_ends(ax)


# ---------------------------------------------------------------------------------------------------- where they lead


def ends(world: World) -> list[Array]:
    """log p of the place where each of the six flags rests."""
    found = []
    for flag, _, _ in SIX:
        there = end(flag, world, analyse(flag, world, world.log_ref).optimum)
        if there.log_p is None or not there.rests:
            raise SolveError(f"{flag.label} must be at rest where its mark is drawn: {there.remark}")
        found.append(there.log_p)
    return found


def meet(p: list[float], q: list[float]) -> bool:
    """Whether two laws have one mark."""
    return max(abs(a - b) for a, b in zip(p, q, strict=True)) < 0.01


def destinations(laws: list[list[float]]) -> list[list[int]]:
    """The flags by destination."""
    found: list[list[int]] = []
    for k, p in enumerate(laws):
        group = next((group for group in found if meet(laws[group[0]], p)), None)
        found = [*found, [k]] if group is None else [[*g, k] if g is group else g for g in found]
    return found


def compute_optima() -> Data:
    """The flow of each flag from p_ref on the simplex of three responses, the place where it ends, and the regret there."""
    world, rows = three(), []
    places = ends(world)
    for (flag, glyph, label), log_p in zip(SIX, places, strict=True):
        path = flow(flag, world, horizon=1e3, points=160)
        laws = np.exp([*path.log_p[:, 0], log_p[0]]).tolist()
        rows.append({"label": label, "glyph": glyph, "path": laws, "end": laws[-1], "regret": measure(world, log_p)[2]})
    groups = destinations([row["end"] for row in rows])
    marks = [mark(*_place(rows[k]["end"]), f"{rows[k]['regret']:.4f}", beside=_side(rows[k]["end"])) for k, *_ in groups]
    return {
        "p_ref": np.exp(world.log_p_ref[0]).tolist(),
        "p_star": solve(world).p[0].tolist(),
        "reward": world.r[0].tolist(),
        "beta": world.beta,
        "flags": rows,
        "destinations": groups,
        "marks": marks,
    }


def counts() -> dict[str, int]:
    """How many flags, and how many places they lead to."""
    laws = [np.exp(log_p[0]).tolist() for log_p in ends(three())]
    return {"flags": len(laws), "places": len(destinations(laws))}


def _side(p: list[float]) -> str:
    """Where there is room for words: left of what says the worst response often, else right, past marks that share a place."""
    return "left" if p[0] > 1 / 7 else "far right"


def _place(p: list[float]) -> tuple[float, float]:
    """Barycentric to plane: a at the left, b at the right, c on top."""
    return p[1] + 0.5 * p[2], p[2] * 3.0**0.5 / 2.0


def draw_optima(axes: Panels, data: Data) -> None:
    """The simplex; lines: the flows; markers: where they end, the larger under the smaller where several do; numbers: the regret."""
    (ax,) = axes
    corners = [_place([1.0, 0.0, 0.0]), _place([0.0, 1.0, 0.0]), _place([0.0, 0.0, 1.0])]
    ax.fill(*zip(*corners, strict=True), facecolor="none", edgecolor=GRAY, linewidth=0.8)
    for (x, y), name, r, shift in zip(corners, "abc", data["reward"], ((-6, -14), (-10, -14), (-75, 0)), strict=True):
        note(ax, f"{name}, r = {r:g}", (x, y), shift)
    star = data["p_star"]
    for k, row in enumerate(data["flags"]):
        line(ax, row["glyph"], *zip(*map(_place, row["path"]), strict=True), linewidth=1.3, alpha=0.85)
        over = sum(meet(row["end"], later["end"]) for later in data["flags"][k + 1 :]) + meet(row["end"], star)
        look: Data = {"markersize": 8 + 10 * over, "markeredgewidth": 1.4, "clip_on": False, "zorder": 4}
        points(ax, row["glyph"], *([v] for v in _place(row["end"])), **look)
    for name, p in (("optimum", star), ("reference", data["p_ref"])):
        points(ax, name, *([v] for v in _place(p)), zorder=5)
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.8}
    write(axes, data["marks"], bbox=box)
    ax.set_aspect("equal")
    ax.set_axis_off()
    ax.set_xlim(-0.05, 1.55)
    ax.text(1.0, 0.2, "numbers: regret, reward units", fontsize=8, color=GRAY, ha="left")
    _destinations(ax, data)


def _destinations(ax: Panel, data: Data) -> None:
    """Which flags end at a mark, beyond its number; and what the reference is."""
    look: Data = {"va": "center", "zorder": 6, "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 0.8}}
    note(ax, GLYPHS["reference"].label, _place(data["p_ref"]), (-10, 0), ha="right", **look)
    for group in data["destinations"]:
        end = data["flags"][group[0]]["end"]
        labels = [data["flags"][k]["label"] for k in group] + [GLYPHS["optimum"].label] * meet(end, data["p_star"])
        shift, edge = ((-48, 0), "right") if _side(end) == "left" else ((56, 0), "left")
        note(ax, ", ".join(labels), _place(end), shift, ha=edge, **look)


# ---------------------------------------------------------------------------------------------------- the runaway

PLACED = (
    (Flag("k1", "reward"), "k1-reward"),
    (Flag("k3", "ratio"), "k3-ratio"),
    (Flag("k3", "loss"), "k3"),
    (Flag("k3", "reward"), "k3-reward"),
)


LAST = 60.0
"""When all four have come to rest.  The axis is linear: a logarithm would show most of the time before anything happens."""


def compute_runaway() -> Data:
    """Regret and KL along the exact flows of four flags, the last of which is a wrong placement."""
    world, rows = three(), []
    for flag, glyph in PLACED:
        path = flow(flag, world, horizon=LAST, points=260)
        late = path.time >= 1e-2
        row = {"glyph": glyph, "time": path.time[late].tolist()}
        rows.append({**row, "regret": path.regret[late].tolist(), "kl": path.kl[late].tolist()})
    greatest = float(-np.min(world.log_p_ref[0][np.argmax(world.r[0])]))
    return {"flags": rows, "vertex_kl": greatest}


def draw_runaway(axes: Panels, data: Data) -> None:
    """Left: regret against the time of the flow.  Right: KL to the reference."""
    left, right = axes
    line(right, "bound", [0, LAST], [data["vertex_kl"]] * 2, linewidth=0.8)
    right.text(0.03, 0.93, "all on the best response", transform=right.transAxes, color=GRAY, fontsize=8)
    for k, (row, together) in enumerate(zip(data["flags"], (None, None, "the other three", "k3 in the reward"), strict=True)):
        every = [int(np.argmin(np.abs(np.array(row["time"]) - t))) for t in np.arange(2.0 + 3 * k, LAST - 2.0, 12.0)]
        look: Data = {"markersize": 5, "markevery": every}
        alone = GLYPHS[row["glyph"]].label if row["glyph"] != "k3" else "k3 in the loss"
        dotted(left, row["glyph"], row["time"], row["regret"], label=alone, **look)
        dotted(right, row["glyph"], row["time"], row["kl"], label=together, **look)
    left.set(ylabel=r"regret $\beta\, \mathrm{KL}(p, p^*)$, reward units", ylim=(-0.008, 0.24))
    left.axhline(data["flags"][0]["regret"][0], color=GRAY, linewidth=0.6, zorder=0)
    left.text(0.98, 0.82, "untrained", transform=left.transAxes, color=GRAY, fontsize=8, ha="right", va="top")
    right.set(ylabel=r"$\mathrm{KL}(p, p_{\mathrm{ref}})$, nats", ylim=(0, 1.12 * data["vertex_kl"]))
    for ax in axes:
        ax.set(xlim=(0, LAST), xlabel="time of the flow")
        name_ends(ax)


FIGURES = (
    Figure(
        name="kl-estimators",
        title="Near the reference k1 is the noisiest; far from it k3 is, and k2 is biased",
        caption="Close by, k1 is wild and k2 and k3 are tame; far off k3 is the wildest, and k2's bias grows. Markers: published.",
        rows=("k1", "k2", "k3"),
        compute=compute_spread,
        draw=draw_spread,
        widths=(1.0, 1.0),
        size=(8.4, 3.8),
    ),
    Figure(
        name="kl-flags",
        title="{flags} KL flags, {places} destinations: only k2 in the loss ends at p*",
        caption="{flags} KL flags, the same beta and reward, {places} destinations: only k2 in the loss ends at the Gibbs optimum p*.",
        rows=("kl-estimator-theorem", "kl-placement"),
        compute=compute_optima,
        draw=draw_optima,
        size=(8.4, 4.8),
        counts=counts,
    ),
    Figure(
        name="kl-runaway",
        title="k3 in the reward comes within a hair of p*, then walks on until it is worse than no training",
        caption="k3 is unbiased wherever it stands, but as a detached reward penalty it runs away; with a live ratio it is right.",
        rows=("kl-placement",),
        compute=compute_runaway,
        draw=draw_runaway,
        widths=(1.0, 1.0),
        size=(9.6, 4.0),
    ),
)
