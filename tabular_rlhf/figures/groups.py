"""Groups: what dividing by a group's standard deviation weighs, and what each aggregation does to length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tabular_rlhf.figures.glyphs import GLYPHS, line, rung
from tabular_rlhf.figures.marks import name_ends
from tabular_rlhf.figures.record import Data, Figure, Panels
from tabular_rlhf.logspace import log_softmax
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.policy import uniform
from tabular_rlhf.policy_gradient import AGGREGATIONS, Recipe, success_objective, success_weight
from tabular_rlhf.policy_gradient.updates import expected_update
from tabular_rlhf.world import World

# ---------------------------------------------------------------------------------------------------- group normalization


def compute_weight(sizes: Sequence[int] = (2, 4, 8, 64), points: int = 801) -> Data:
    """c_G(q) and F_G(q) of 0/1 rewards, and their limits."""
    q = np.linspace(0.0, 1.0, points)
    inner = q[1:-1]
    return {
        "q": q.tolist(),
        "sizes": list(sizes),
        "weight": [success_weight(q, Recipe("grpo", G=G)).tolist() for G in sizes],
        "objective": [success_objective(q, Recipe("grpo", G=G)).tolist() for G in sizes],
        "limit": {"q": inner.tolist(), "weight": (1.0 / np.sqrt(inner * (1.0 - inner))).tolist()},
        "arcsine": (2.0 * np.arcsin(np.sqrt(q))).tolist(),
    }


def draw_weight(axes: Panels, data: Data) -> None:
    """Left: the weight of the gradient.  Right: the objective that is ascended."""
    left, right = axes
    for k, (G, weight, objective) in enumerate(zip(data["sizes"], data["weight"], data["objective"], strict=True)):
        for ax, heights in ((left, weight), (right, objective)):
            line(ax, rung(k), data["q"], heights, label=f"$G = {G}$")
    line(left, "bound", data["limit"]["q"], data["limit"]["weight"], linewidth=1.0, label=r"$1/\sqrt{q(1-q)}$")
    line(right, "bound", data["q"], data["arcsine"], linewidth=1.0, label=r"$2\,\arcsin\sqrt{q}$")
    left.set(ylim=(0.0, 8.5), ylabel=r"$c_G(q)$: update $= c_G(q)\, \nabla q$")
    right.set_ylabel(r"$F_G(q)$, the objective ascended")
    for ax in axes:
        ax.set(xlim=(0.0, 1.0), xlabel="success probability $q$")
        name_ends(ax)


# ---------------------------------------------------------------------------------------------------- length


def lengths_world(horizon: int = 8) -> World:
    """One word and EOS: a response is its length.  Half of the responses are right, at random and equally at every length."""
    mdp = TokenMDP(("word", "."), horizon, eos=".")
    return World(mdp, uniform(mdp), np.zeros((1, mdp.N)), 1.0, name="lengths")


def compute_length(horizon: int = 8, G: int = 4, steps: int = 240, rate: float = 0.5) -> Data:
    """The mean length as plain ascent goes on, for each aggregation, when every response is right (r = 1) or wrong (r = -1).

    The reward does not depend on length, so nothing should move; the constant baseline 0 leaves what an aggregation does.
    """
    world = lengths_world(horizon)
    curves = {
        rule: {
            sign: ascend_lengths(world.with_reward(np.full_like(world.r, value)), Recipe("none", aggregation=rule, G=G), steps, rate)
            for sign, value in (("right", 1.0), ("wrong", -1.0))
        }
        for rule in AGGREGATIONS
        if rule in GLYPHS
    }
    return {"step": list(range(steps + 1)), "start": curves["sequence-sum"]["right"][0], "curves": curves}


def ascend_lengths(world: World, recipe: Recipe, steps: int, rate: float) -> list[float]:
    """The mean length at every step of ascent along the exact expected update."""
    logits, out = np.array(world.log_ref), []
    for _ in range(steps + 1):
        log_p = world.mdp.path_sum(log_softmax(logits))
        out.append(float(np.sum(np.exp(log_p) * world.mdp.lengths)))
        logits = logits + rate * expected_update(world, logits, recipe)
    return out


def draw_length(axes: Panels, data: Data) -> None:
    """Left: every response right.  Right: every response wrong."""
    for ax, sign in zip(axes, ("right", "wrong"), strict=True):
        for rule, curve in data["curves"].items():  # two of them coincide: the wide one under the narrow
            wide = 3.6 if rule == "sequence-sum" else 1.6
            line(ax, rule, data["step"], curve[sign], linewidth=wide, label=GLYPHS[rule].label)
        name_ends(ax)
        ax.set(title=f"every response is {sign}", xlabel="step")
    axes[0].set_ylabel("mean length, tokens")


FIGURES = (
    Figure(
        name="group-normalization",
        title="Dividing by the group's deviation pushes hardest where nearly all fail or all succeed",
        caption="Dividing by the group's standard deviation weighs the gradient by c(q): most where all fail or all succeed.",
        rows=("grpo",),
        compute=compute_weight,
        draw=draw_weight,
        widths=(1.0, 1.0),
        size=(9.2, 4.0),
    ),
    Figure(
        name="length-by-aggregation",
        title="Unasked, means over tokens shorten what is right and lengthen what is wrong",
        caption="A reward that does not depend on length, no baseline: token means shorten what is right and lengthen what is wrong.",
        rows=("aggregation",),
        compute=compute_length,
        draw=draw_length,
        widths=(1.0, 1.0),
        size=(9.2, 4.0),
    ),
)
