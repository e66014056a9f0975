"""The picture of a world of your own, as `tabular-rlhf solve --figure FILE` draws it: before, after, and the frontier."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tabular_rlhf.figures import frontier, page, tilt
from tabular_rlhf.figures.record import Data, Panels, Said
from tabular_rlhf.world import World


def compute(world: World) -> Data:
    """The tilt at the world's own beta, each response given its prompt as in the report, and the frontier around it."""
    marked = [world.beta * step for step in (0.25, 0.5, 1.0, 2.0) if 0 < world.beta * step < np.inf]
    return {"tilt": tilt.compute(world, (None, world.beta), given=True), "frontier": frontier.compute(world, marked, steps=81)}


def draw(axes: Panels, data: Data) -> None:
    """Bars before and after; reward against KL."""
    *bars, plane = axes
    tilt.draw(bars, data["tilt"])
    frontier.draw_annotated(plane, data["frontier"])


def draw_world(world: World, path: Path) -> None:
    """Write the picture of a world."""
    page.save(draw, data := compute(world), [path], (1.0, 1.0, 2.0), (11.0, 4.0), said(data))


def said(data: Data) -> Said:
    """What training gains and what it costs, and what is drawn."""
    own, reference = data["frontier"]["own"], data["frontier"]["reward"][-1]
    gain = f"At β = {own['beta']:.3g} the best policy earns {own['reward']:.3g} instead of {reference:.3g}, for {own['kl']:.3g} nats"
    caption = "Left, the probabilities of the likeliest responses under p_ref and under p*. Right, the most that can be earned at each KL."
    return Said(gain, caption)
