"""KL flags: how noisily they estimate, where each of them leads, and how a wrong placement runs away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tabular_rlhf.errors import SolveError
from tabular_rlhf.estimators import Flag, analyse, end, flow, measure, normal_table
from tabular_rlhf.estimators.normal import PUBLISHED
from tabular_rlhf.figures.record import BLACK, BLUE, GRAY, GREEN, ORANGE, PINK, Data, Figure
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.world import World

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

LOOKS = {"k1": (BLUE, "-", "o"), "k2": (ORANGE, "--", "s"), "k3": (GREEN, "-.", "^")}
SIX = (
    (Flag("k1", "loss"), "k1 in the loss", PINK, "v"),
    (Flag("k2", "loss"), "k2 in the loss", BLUE, "o"),
    (Flag("k3", "loss"), "k3 in the loss", GREEN, "^"),
    (Flag("k3-inverted", "loss"), "inverted k3 in the loss", ORANGE, "s"),
    (Flag("abs", "loss"), "|L| in the loss", GRAY, "D"),
    (Flag("k3", "reward"), "k3 in the reward", BLACK, "X"),
)
"""Six flags, each with its name, color and marker."""


def three(beta: float = 0.4) -> World:
    """Three responses: the likeliest is the worst, so every penalty has something to hold back."""
    return World(TokenMDP(("a", "b", "c"), 1), np.log([[[0.5, 0.3, 0.2]]]), np.array([[0.0, 0.6, 1.0]]), beta, name="three")


# ---------------------------------------------------------------------------------------------------- bias and spread


def compute_spread(shifts: int = 25, cells: int = 2**14) -> Data:
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
        "std": {name: [row[i].std for row in rows] for i, name in enumerate(LOOKS)},
        "bias": {name: [round(row[i].bias, 9) for row in rows] for i, name in enumerate(LOOKS)},
        "published": published,
    }


def draw_spread(axes: list[Axes], data: Data) -> list[Artist]:
    """Left: standard deviation over KL.  Right: bias over KL.  Open markers: the published table."""
    left, right = axes
    artists: list[Artist] = []
    for ax, key in ((left, "std"), (right, "bias")):
        for name, (color, style, marker) in LOOKS.items():
            artists += ax.plot(data["kl"], data[key][name], color=color, linestyle=style, label=name)
            dots = [(p["kl"], p[key]) for p in data["published"] if p["estimator"] == name]
            artists += ax.plot(*zip(*dots, strict=True), marker, color=color, markerfacecolor="white", linestyle="none", zorder=4)
        ax.set_xscale("log")
        ax.set_xlabel(r"$\mathrm{KL}(\mathcal{N}(0, 1), \mathcal{N}(m, 1)) = m^2/2$, nats")
    left.set_yscale("log")
    left.set_ylabel("standard deviation of one draw / KL")
    right.set_ylabel("bias / KL")
    artists.append(left.legend(frameon=False, title="markers: published"))
    return artists


# ---------------------------------------------------------------------------------------------------- where they lead


def compute_optima() -> Data:
    """The flow of each flag from p_ref on the simplex of three responses, the place where it ends, and the regret there."""
    world, rows = three(), []
    for flag, label, color, marker in SIX:
        path = flow(flag, world, horizon=1e3, points=80)
        there = end(flag, world, analyse(flag, world, world.log_ref).optimum)
        if there.log_p is None or not there.rests:
            raise SolveError(f"{flag.label} must be at rest where its mark is drawn: {there.remark}")
        rows.append(
            {
                "label": label,
                "color": color,
                "marker": marker,
                "path": np.exp([*path.log_p[:, 0], there.log_p[0]]).tolist(),
                "end": np.exp(there.log_p[0]).tolist(),
                "regret": measure(world, there.log_p)[2],
            }
        )
    return {"p_ref": np.exp(world.log_p_ref[0]).tolist(), "reward": world.r[0].tolist(), "beta": world.beta, "flags": rows}


def _under(rows: list[dict[str, Any]], k: int) -> int:
    """How many marks are drawn later at the place of mark k: so many rings it must show around them."""
    return sum(float(np.max(np.abs(np.subtract(row["end"], rows[k]["end"])))) < 0.01 for row in rows[k + 1 :])


def _place(p: list[float]) -> tuple[float, float]:
    """Barycentric to plane: a at the left, b at the right, c on top."""
    return p[1] + 0.5 * p[2], p[2] * 3.0**0.5 / 2.0


def draw_optima(axes: list[Axes], data: Data) -> list[Artist]:
    """The simplex; lines: the flows; markers: where they end, the larger under the smaller where several do."""
    (ax,) = axes
    corners = [_place([1.0, 0.0, 0.0]), _place([0.0, 1.0, 0.0]), _place([0.0, 0.0, 1.0])]
    artists: list[Artist] = [*ax.plot(*zip(*corners, corners[0], strict=True), color=BLACK, linewidth=0.8)]
    for (x, y), name, r, shift in zip(corners, "abc", data["reward"], ((-6, -14), (-10, -14), (8, -2)), strict=True):
        artists.append(ax.annotate(f"{name}, r = {r:g}", (x, y), shift, textcoords="offset points", fontsize=8))
    for k, row in enumerate(data["flags"]):
        artists += ax.plot(*zip(*map(_place, row["path"]), strict=True), color=row["color"], linewidth=1.2, alpha=0.8)
        size = 8 + 8 * _under(data["flags"], k)
        style: dict[str, Any] = {"linestyle": "none", "markersize": size, "markeredgecolor": "white", "clip_on": False, "zorder": 4}
        label = f"{row['label']}, regret {row['regret']:.3f}"
        artists += ax.plot(*_place(row["end"]), row["marker"], color=row["color"], label=label, **style)
    artists += ax.plot(*_place(data["p_ref"]), "*", color=BLACK, markersize=10, linestyle="none", label=r"$p_{\mathrm{ref}}$", zorder=5)
    ax.set_aspect("equal")
    ax.set_axis_off()
    legend = ax.legend(frameon=False, loc="center left", bbox_to_anchor=(0.88, 0.62), fontsize=8)
    for handle in legend.legend_handles[:-1]:
        handle.set_markersize(8)  # type: ignore[union-attr]
    artists.append(legend)
    return artists


# ---------------------------------------------------------------------------------------------------- the runaway

PLACED = (
    (Flag("k1", "reward"), "k1 in the reward", BLUE, "-"),
    (Flag("k3", "ratio"), "k3 times a live ratio", GREEN, "-."),
    (Flag("k3", "loss"), "k3 in the loss", ORANGE, "--"),
    (Flag("k3", "reward"), "k3 in the reward", BLACK, ":"),
)


def compute_runaway() -> Data:
    """Regret and KL along the exact flows of four flags, the last of which is a wrong placement."""
    world, rows = three(), []
    for flag, label, color, style in PLACED:
        path = flow(flag, world, horizon=300.0, points=70)
        late = path.time >= 1e-2
        row = {"label": label, "color": color, "style": style, "time": path.time[late].tolist()}
        rows.append({**row, "regret": path.regret[late].tolist(), "kl": path.kl[late].tolist()})
    greatest = float(-np.min(world.log_p_ref[0][np.argmax(world.r[0])]))
    return {"flags": rows, "vertex_kl": greatest}


def draw_runaway(axes: list[Axes], data: Data) -> list[Artist]:
    """Left: regret against the time of the flow.  Right: KL to the reference."""
    left, right = axes
    artists: list[Artist] = []
    for row in data["flags"]:
        look = {"color": row["color"], "linestyle": row["style"], "label": row["label"]}
        artists += left.plot(row["time"], row["regret"], **look)
        artists += right.plot(row["time"], row["kl"], **look)
    artists.append(right.axhline(data["vertex_kl"], color=GRAY, linewidth=0.8))
    artists.append(right.text(0.03, 0.92, "all on the best response", transform=right.transAxes, color=GRAY, fontsize=8))
    for ax in axes:
        ax.set_xscale("log")
        ax.set_xlabel("time of the flow")
    left.set_ylabel(r"regret $\beta\, \mathrm{KL}(p, p^*)$, reward units")
    right.set_ylabel(r"$\mathrm{KL}(p, p_{\mathrm{ref}})$, nats")
    right.set_ylim(0, 1.12 * data["vertex_kl"])
    artists.append(left.legend(frameon=False, fontsize=8))
    return artists


FIGURES = (
    Figure(
        name="kl-estimators",
        caption="Close by, k1 is wild and k2 and k3 are tame; far off k3 is the wildest, and k2's bias grows. Markers: published.",
        rows=("k1", "k2", "k3"),
        compute=compute_spread,
        draw=draw_spread,
        widths=(1.0, 1.0),
        size=(8.4, 3.8),
    ),
    Figure(
        name="kl-flags",
        caption="Six KL flags, the same beta and reward, five destinations: only k2 in the loss ends at the Gibbs optimum.",
        rows=("kl-estimator-theorem", "kl-placement"),
        compute=compute_optima,
        draw=draw_optima,
        size=(8.0, 4.2),
    ),
    Figure(
        name="kl-runaway",
        caption="k3 is unbiased wherever it stands, but as a detached reward penalty it runs away; with a live ratio it is right.",
        rows=("kl-placement",),
        compute=compute_runaway,
        draw=draw_runaway,
        widths=(1.0, 1.0),
        size=(8.4, 3.8),
    ),
)
