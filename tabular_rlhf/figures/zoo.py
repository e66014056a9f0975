"""The loss zoo (value, slope, optimal margin by preference probability), and where DPO's mass goes (displacement)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from tabular_rlhf.autodiff import grad
from tabular_rlhf.figures.glyphs import GLYPHS, GRAY, line
from tabular_rlhf.figures.marks import name_ends
from tabular_rlhf.figures.record import Data, Figure, Panels
from tabular_rlhf.logspace import Array, log_softmax
from tabular_rlhf.losses.evaluate import slope_gradient, value
from tabular_rlhf.preferences import Pairs
from tabular_rlhf.world import World, coin

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


FINE = 1e-3
"""How far a curve may run beside its chords, of the height that is seen."""


def trace(f: Callable[[float], float], low: float, high: float, seen: tuple[float, float], *, steps: int = 48, least: float = 1e-5) -> Data:
    """Places and heights of a curve from low to high, over `steps` chords to begin with.

    A chord is halved while the curve leaves it by more than FINE of the heights `seen`; one that still rises by as much when it is
    narrower than `least` of the width is a jump, and stands as None.

    >>> curve = trace(lambda x: float(x > 0.3), 0.0, 1.0, (0.0, 1.0)); at = curve["y"].index(None)
    >>> [round(x, 3) for x in curve["x"][at - 1 : at + 2]], curve["y"][at - 1 : at + 2]
    ([0.3, 0.3, 0.3], [0.0, None, 1.0])
    """
    fine, least = FINE * (seen[1] - seen[0]), least * (high - low)
    grid = np.linspace(low, high, steps + 1).tolist()
    x: list[float] = grid[:1]
    y: list[float | None] = [f(grid[0])]

    def reach(b: float, v: float) -> None:
        """Go on from the last point to (b, v)."""
        a, u = x[-1], y[-1]
        assert u is not None  # a gap is never the last point
        middle, flat = 0.5 * (a + b), b - a < least
        height = 0.5 * (u + v) if flat else f(middle)
        if not flat and abs(height - 0.5 * (u + v)) > fine:
            reach(middle, height)
            reach(b, v)
            return
        if flat and abs(v - u) > fine:
            x.append(middle)
            y.append(None)
        x.append(b)
        y.append(v)

    for b in grid[1:]:
        reach(b, f(b))
    return {"x": x, "y": y}


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


def draw(axes: Panels, data: Data) -> None:
    """Three panels: the loss, its slope, its optimum; each curve is named where it ends."""
    for ax, (what, title, across, heights) in zip(axes, PANELS, strict=True):
        for name, curve in data[what].items():
            line(ax, name, curve["x"], curve["y"], linewidth=1.6, label=GLYPHS[name].label)
        ax.set(title=title, xlabel=across, ylim=heights)
        name_ends(ax)
        ax.axhline(0, color=GRAY, linewidth=0.6, zorder=0)


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


def draw_displacement(axes: Panels, data: Data) -> None:
    """Two panels: the classes; three lines each."""
    for ax, name, title in zip(axes, ("tabular", "log-linear"), ("a number for each answer", "one feature for all three"), strict=True):
        for glyph, p in zip(NAMES, zip(*data[name], strict=True), strict=True):
            line(ax, glyph, data["time"], p, label=GLYPHS[glyph].label)
        ax.set(title=title, xlabel="gradient flow time", ylim=(0, 1))
        name_ends(ax, apart=0.085)
    axes[0].set_ylabel("probability")


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
