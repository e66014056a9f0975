"""The reward-KL frontier: the most reward that any policy can have at each KL from the reference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tabular_rlhf.figures.glyphs import BLACK, GRAY, line, points
from tabular_rlhf.figures.marks import mark, note, write
from tabular_rlhf.figures.record import Data, Figure, Panel, Panels
from tabular_rlhf.gibbs import frontier, greedy_limit
from tabular_rlhf.logspace import Array, expect, kl, log_of
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.world import World, zen_world


def by_reward(world: World) -> World:
    """The world whose responses are the reward levels: the same Z, KL and E[r] at every beta, with far fewer responses.

    p*/p_ref = exp(r/beta)/Z depends on a response through its reward alone, so levels may be merged.
    """
    levels, place = np.unique(world.r, return_inverse=True)
    place = np.reshape(place, world.r.shape)
    mass: Array = np.stack([np.bincount(place[x], np.exp(world.log_p_ref[x]), len(levels)) for x in range(world.mdp.P)])
    mass = mass / np.sum(mass, axis=1, keepdims=True)
    log_ref = log_of(mass)
    mdp = TokenMDP(len(levels), 1, prompts=world.mdp.prompts, mu=world.mu)
    return World(mdp, log_ref[:, None], np.broadcast_to(levels, mass.shape), world.beta, name=world.name)


def compute(world: World, marked: Sequence[float], steps: int = 151, decades: float = 1.5) -> Data:
    """The frontier between its limits, with the betas `marked`, and the tangent of slope beta at the world's own."""
    small = by_reward(world)
    betas = world.beta * 10.0 ** np.linspace(-decades, decades, steps)
    betas = betas[(betas > 0) & np.isfinite(betas)]
    curve, marks, own = frontier(small, betas), frontier(small, marked), frontier(small, [world.beta])
    reference, greedy = _point(small, small.log_p_ref), _point(small, greedy_limit(small.log_p_ref, small.r))
    ends = [max(0.0, own.kl[0] - (own.reward[0] - reference[1]) / world.beta), own.kl[0] + (greedy[1] - own.reward[0]) / world.beta]
    kls = [greedy[0], *curve.kl.tolist(), reference[0]]
    data: Data = {
        "beta": [0.0, *betas.tolist(), None],
        "kl": kls,
        "root_kl": np.sqrt(kls).tolist(),
        "reward": [greedy[1], *curve.reward.tolist(), reference[1]],
        "marked": {"beta": list(marked), "kl": marks.kl.tolist(), "root_kl": np.sqrt(marks.kl).tolist(), "reward": marks.reward.tolist()},
        "own": {"beta": world.beta, "kl": float(own.kl[0]), "root_kl": float(np.sqrt(own.kl[0])), "reward": float(own.reward[0])},
        "tangent": {"kl": [float(k) for k in ends], "reward": [float(own.reward[0] + world.beta * (k - own.kl[0])) for k in ends]},
    }
    return {**data, "marks": [*_betas(data, "kl", 0), *_betas(data, "root_kl", 1)]}


def _betas(data: Data, x: str, panel: int) -> list[Data]:
    """beta at its point of a panel, where there is room for it; at the world's own, that it is the slope."""
    own, most = data["own"], data["kl"][0]
    said = [mark(own["kl"], own["reward"], rf"$p^*$, slope $\beta = {own['beta']:g}$", beside="below right")] if x == "kl" else []
    for beta, k, far, r in zip(*(data["marked"][key] for key in ("beta", "kl", x, "reward")), strict=True):
        if x == "root_kl" or (0.04 * most < k < 0.9 * most and beta != own["beta"]):
            said.append(mark(far, r, rf"$\beta = {beta:g}$", beside="below right", panel=panel))
    return said


def _point(world: World, log_p: Array) -> tuple[float, float]:
    """(KL, E[r]) of one law, averaged over prompts."""
    return float(np.sum(world.mu * kl(log_p, world.log_p_ref))), float(np.sum(world.mu * expect(log_p, world.r)))


def draw_plane(ax: Panel, data: Data, x: str) -> None:
    """The curve, its limits and its marked betas, against `kl` or `root_kl`."""
    kls, rewards, marked, own = data[x], data["reward"], data["marked"], data["own"]
    others = [(k, r) for beta, k, r in zip(marked["beta"], marked[x], marked["reward"], strict=True) if beta != own["beta"]]
    span = rewards[0] - rewards[-1] or 1.0  # a constant reward still gets a plane
    top = rewards[0] + 0.12 * span
    ax.fill_between(kls, rewards, [top] * len(kls), color="#EEEEEE", linewidth=0)
    line(ax, "tilted", kls, rewards)
    points(ax, "tilted", [k for k, r in others], [r for k, r in others])
    points(ax, "optimum", [own[x]], [own["reward"]], zorder=4)
    points(ax, "tilted", kls[:1], rewards[:1], clip_on=False, zorder=4)
    points(ax, "reference", kls[-1:], rewards[-1:], clip_on=False, zorder=4)
    ax.set_ylim(rewards[-1] - 0.06 * span, top)
    ax.set_xlim(0, 1.04 * kls[0] or 1.0)
    ax.set_xlabel(r"$\mathrm{KL}(p, p_{\mathrm{ref}})$, nats" if x == "kl" else r"$\sqrt{\mathrm{KL}}$")


def draw(axes: Panels, data: Data) -> None:
    """Left: reward against KL, with its tangent.  Right: against the square root of KL, which shows the small tilts."""
    ax, right = axes
    draw_annotated(ax, data)
    draw_plane(right, data, "root_kl")
    right.tick_params(labelleft=False)
    right.set_title("the same, small KL magnified")
    write(axes, (m for m in data["marks"] if m["panel"] == 1))


def draw_annotated(ax: Panel, data: Data) -> None:
    """Reward against KL, with the tangent of slope beta and words."""
    draw_plane(ax, data, "kl")
    rewards, kls = data["reward"], data["kl"]
    line(ax, "tangent", data["tangent"]["kl"], data["tangent"]["reward"], linewidth=1.2)
    write([ax], (m for m in data["marks"] if m["panel"] == 0))
    note(ax, r"$p_{\mathrm{ref}}$", (kls[-1], rewards[-1]), (9, -4), color=BLACK)
    note(ax, r"greedy, $\beta \to 0$", (kls[0], rewards[0]), (-4, 7), ha="right")
    ax.text(0.06, 0.93, "out of reach", transform=ax.transAxes, color=GRAY, style="italic", fontsize=8)
    ax.set_ylabel(r"$\mathrm{E}_p[r]$, reward units")


FIGURES = (
    Figure(
        name="frontier",
        title="The most that can be earned at each distance: the last nat earns just β",
        caption="The best reward at every KL from the reference, on the zen world: its slope is beta, from p_ref to the greedy limit.",
        rows=("free-energy-derivatives", "beta-limits"),
        compute=lambda: compute(zen_world(), marked=(0.2, 0.3, 0.4, 0.5, 1.0, 2.0)),
        draw=draw,
        widths=(1.25, 1.0),
        size=(8.4, 4.0),
    ),
)
