"""The loss zoo (value, slope, optimal margin by preference probability), and where DPO's mass goes (displacement)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from tabular_rlhf.autodiff import grad
from tabular_rlhf.figures.glyphs import GLYPHS, GRAY, line
from tabular_rlhf.figures.labels import ends
from tabular_rlhf.figures.record import Data, Figure
from tabular_rlhf.figures.trace import trace
from tabular_rlhf.logspace import Array, log_softmax
from tabular_rlhf.losses.evaluate import slope_gradient, value
from tabular_rlhf.preferences import Pairs
from tabular_rlhf.world import World, coin

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

SHOWN = ("dpo", "cdpo", "ipo", "exo-pair", "slic-reference", "discopop")
WITH_OPTIMUM = ("dpo", "cdpo", "ipo", "exo-pair", "slic-reference")
"""Those whose optimal margin is one number for each preference probability."""


def one_pair(first: float) -> Pairs:
    """One comparison of the coin's two responses, "heads" winning a share `first` of the time."""
    return Pairs(np.zeros(2, dtype=np.intp), np.array([1, 0]), np.array([0, 1]), np.array([first, 1.0 - first]), None)


def at_margin(world: World, D: float) -> Array:
    """The policy on two responses whose margin against p_ref is D."""
    return np.asarray(log_softmax(world.log_p_ref + np.array([[0.0, D]])))


ROUNDING, FARTHEST = 1e-12, 8.0
"""A slope that is 0, and a margin beyond every optimum that is drawn."""
PANELS = (
    ("value", "loss of one pair", "margin D, nats", (-0.2, 6.0)),
    ("slope", "slope", "margin D, nats", (-3.0, 2.5)),
    ("optimum", "optimal margin", "P(first beats second)", (-3.0, 3.0)),
)
"""Key in the data, title, what is across, and the heights that are seen."""


def compute(beta: float = 1.0, reach: float = 4.0) -> Data:
    """Value and slope over margins, for one pair; the optimal margin over preference probabilities, for two responses.

    A curve is a list of places and one of heights, with None in the place of a jump.
    """
    world, sure = coin(beta), one_pair(1.0)
    law = {
        "value": lambda name, D: float(value(name, world, at_margin(world, D), sure)),
        "slope": lambda name, D: float(slope_gradient(name, world, at_margin(world, D), sure)[0, 1]),
        "optimum": lambda name, c: _margin(world, name, c),
    }
    out: Data = {"beta": beta}
    for what, _, _, heights in PANELS:
        if what == "optimum":  # found by a search: fewer points, and a jump is seen to a third of a pixel
            out[what] = {name: trace(partial(law[what], name), 0.06, 0.94, heights, steps=12, least=1e-3) for name in WITH_OPTIMUM}
        else:
            out[what] = {name: trace(partial(law[what], name), -reach, reach, heights) for name in SHOWN}
    return out


def _margin(world: World, name: str, chance: float) -> float:
    """The margin at which a pair rests: where the slope changes its sign, or in the middle where it is 0 all around."""
    from scipy.optimize import brentq

    def slope(D: float) -> float:
        return float(slope_gradient(name, world, at_margin(world, D), one_pair(chance))[0, 1])

    return 0.0 if abs(slope(0.0)) < ROUNDING else float(brentq(slope, -FARTHEST, FARTHEST, xtol=1e-10))


def draw(axes: list[Axes], data: Data) -> list[Artist]:
    """Three panels: the loss, its slope, its optimum; each curve is named where it ends."""
    artists: list[Artist] = []
    for ax, (what, title, across, heights) in zip(axes, PANELS, strict=True):
        for name, curve in data[what].items():
            artists += line(ax, name, curve["x"], curve["y"], linewidth=1.6, label=GLYPHS[name].label)
        ax.set_title(title)
        ax.set_xlabel(across)
        ax.set_ylim(heights)
        artists += ends(ax, [(curve, str(curve.get_label())) for curve in ax.lines])
        ax.axhline(0, color=GRAY, linewidth=0.6, zorder=0)
    return artists


# ---------------------------------------------------------------------------------------------------- displacement

FEATURES = np.array([[1.0], [0.5], [3.0]])
"""Winner, loser and a response in no pair, which has more of the feature that tells the first two apart."""
NAMES = ("winner", "loser", "bystander")


def flow(features: Array, steps: int, step: float, beta: float = 1.0) -> list[list[float]]:
    """Probabilities along DPO's gradient descent on one pair, log p = log_softmax(features theta), from the uniform reference."""
    theta, out = np.zeros(features.shape[1]), []

    def loss(t: Any) -> Any:
        log_p = log_softmax(np.matmul(features, t))
        return np.log1p(np.exp(-beta * (log_p[0] - log_p[1])))

    for _ in range(steps + 1):
        out.append([float(q) for q in np.exp(log_softmax(features @ theta))])
        theta = theta - step * grad(loss)(theta)
    return out


def compute_displacement(steps: int = 60, step: float = 0.25) -> Data:
    """The same pair in the tabular class, and in a log-linear one."""
    return {
        "time": [step * k for k in range(steps + 1)],
        "tabular": flow(np.eye(3), steps, step),
        "log-linear": flow(FEATURES, steps, step),
    }


def draw_displacement(axes: list[Axes], data: Data) -> list[Artist]:
    """Two panels: the classes; three lines each."""
    artists: list[Artist] = []
    for ax, name, title in zip(axes, ("tabular", "log-linear"), ("a number for each answer", "one feature for all three"), strict=True):
        for glyph, p in zip(NAMES, zip(*data[name], strict=True), strict=True):
            artists += line(ax, glyph, data["time"], p, label=GLYPHS[glyph].label)
        ax.set_title(title)
        ax.set_xlabel("gradient flow time")
        ax.set_ylim(0, 1)
        artists += ends(ax, [(curve, str(curve.get_label())) for curve in ax.lines], apart=0.085)
    axes[0].set_ylabel("probability")
    return artists


FIGURES = (
    Figure(
        name="loss-zoo",
        title="At certainty DPO never stops pushing; IPO, cDPO and EXO come to rest",
        caption="DPO never stops pushing and has no optimal margin at certainty; IPO, cDPO and EXO do; DiscoPOP begins the wrong way.",
        rows=("direct-family", "ipo-two-arms", "dpo-deterministic-labels"),
        compute=compute,
        draw=draw,
        widths=(1.0, 1.0, 1.0),
        size=(11.6, 3.9),
    ),
    Figure(
        name="displacement",
        title="With a number for each answer the winner rises; with a shared feature it falls with the loser",
        caption="One pair, one loss: a tabular policy raises the winner; a log-linear one lowers both and feeds a response never compared.",
        rows=("likelihood-displacement", "logit-conservation"),
        compute=compute_displacement,
        draw=draw_displacement,
        widths=(1.0, 1.0),
        size=(8.4, 3.4),
    ),
)
