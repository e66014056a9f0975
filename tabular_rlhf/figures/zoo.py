"""The loss zoo (value, slope, optimal margin by preference probability), and where DPO's mass goes (displacement)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tabular_rlhf.autodiff import grad
from tabular_rlhf.figures.record import BLACK, BLUE, GRAY, GREEN, ORANGE, PINK, Data, Figure
from tabular_rlhf.logspace import Array, log_softmax
from tabular_rlhf.losses.evaluate import slope_gradient, value
from tabular_rlhf.losses.optimum import minimize
from tabular_rlhf.preferences import Pairs
from tabular_rlhf.world import World, coin

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

STYLES = {
    "dpo": (BLUE, "-"),
    "cdpo": (ORANGE, "--"),
    "ipo": (GREEN, "-."),
    "exo-pair": (PINK, ":"),
    "slic-reference": (BLACK, "--"),
    "discopop": (GRAY, "-"),
}
WITH_OPTIMUM = ("dpo", "cdpo", "ipo", "exo-pair", "slic-reference")
"""Those whose optimal margin is one number for each preference probability."""


def one_pair(first: float) -> Pairs:
    """One comparison of the coin's two responses, "heads" winning a share `first` of the time."""
    return Pairs(np.zeros(2, dtype=np.intp), np.array([1, 0]), np.array([0, 1]), np.array([first, 1.0 - first]), None)


def at_margin(world: World, D: float) -> Array:
    """The policy on two responses whose margin against p_ref is D."""
    return np.asarray(log_softmax(world.log_p_ref + np.array([[0.0, D]])))


def compute(beta: float = 1.0, reach: float = 4.0, points: int = 161, shares: int = 15) -> Data:
    """Value and slope over margins, for one pair; the optimal margin over preference probabilities, for two responses."""
    world, sure = coin(beta), one_pair(1.0)
    margins = np.linspace(-reach, reach, points)
    chances = np.linspace(0.06, 0.94, shares)
    return {
        "beta": beta,
        "margin": margins.tolist(),
        "value": {name: [float(value(name, world, at_margin(world, D), sure)) for D in margins] for name in STYLES},
        "slope": {name: [float(slope_gradient(name, world, at_margin(world, D), sure)[0, 1]) for D in margins] for name in STYLES},
        "chance": chances.tolist(),
        "optimum": {name: [_margin(world, name, float(c)) for c in chances] for name in WITH_OPTIMUM},
    }


def _margin(world: World, name: str, chance: float) -> float:
    log_p = minimize(name, world, one_pair(chance)).log_p[0]
    return float(log_p[1] - log_p[0])


def draw(axes: list[Axes], data: Data) -> list[Artist]:
    """Three panels: the loss, its slope, its optimum."""
    artists: list[Artist] = []
    panels = (("value", "margin", "loss of one pair"), ("slope", "margin", "slope"), ("optimum", "chance", "optimal margin"))
    for ax, (what, against, title) in zip(axes, panels, strict=True):
        for name, y in data[what].items():
            color, line = STYLES[name]
            artists += ax.plot(data[against], y, color=color, linestyle=line, label=name)
        ax.axhline(0, color=GRAY, linewidth=0.6)
        ax.set_title(title)
        ax.set_xlabel("margin D, nats" if against == "margin" else "P(first beats second)")
    axes[0].set_ylim(-0.2, 6.0)
    axes[1].set_ylim(-3.0, 2.5)
    axes[0].legend(fontsize=7.5)
    return artists


# ---------------------------------------------------------------------------------------------------- displacement

FEATURES = np.array([[1.0], [0.5], [3.0]])
"""Winner, loser and a response in no pair, which has more of the feature that tells the first two apart."""
NAMES = ("winner", "loser", "never compared")


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
        "names": list(NAMES),
    }


def draw_displacement(axes: list[Axes], data: Data) -> list[Artist]:
    """Two panels: the classes; three lines each."""
    artists: list[Artist] = []
    for ax, name in zip(axes, ("tabular", "log-linear"), strict=True):
        looks = zip(data["names"], (BLUE, ORANGE, GREEN), ("-", "--", ":"), strict=True)
        for (label, color, line), p in zip(looks, zip(*data[name], strict=True), strict=True):
            artists += ax.plot(data["time"], p, color=color, linestyle=line, label=label)
        ax.set_title(f"{name} policy")
        ax.set_xlabel("gradient flow time")
        ax.set_ylim(0, 1)
    axes[0].set_ylabel("probability")
    axes[0].legend()
    return artists


FIGURES = (
    Figure(
        name="loss-zoo",
        caption="DPO never stops pushing and has no optimal margin at certainty; IPO, cDPO and EXO do; DiscoPOP begins the wrong way.",
        rows=("direct-family", "ipo-two-arms", "dpo-deterministic-labels"),
        compute=compute,
        draw=draw,
        widths=(1.0, 1.0, 1.0),
        size=(10.0, 3.4),
    ),
    Figure(
        name="displacement",
        caption="One pair, one loss: a tabular policy raises the winner; a log-linear one lowers both and feeds a response never compared.",
        rows=("likelihood-displacement", "logit-conservation"),
        compute=compute_displacement,
        draw=draw_displacement,
        widths=(1.0, 1.0),
        size=(7.2, 3.2),
    ),
)
