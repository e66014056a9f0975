"""The path of a step on the simplex of the `rational` world: from the reference to where it leads, in the style of the figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tabular_rlhf.audit.report import Audit
from tabular_rlhf.figures import page
from tabular_rlhf.figures.geometry import CORNERS
from tabular_rlhf.figures.glyphs import GLYPHS, GRAY, line, points, rung
from tabular_rlhf.figures.marks import note, spread
from tabular_rlhf.figures.record import Data, Panels, Said, readable
from tabular_rlhf.gibbs import regret, solve
from tabular_rlhf.logspace import Array
from tabular_rlhf.told import number


def on_simplex(log_p: Array) -> Array:
    """Laws of three responses (T, 1, 3) as points of a triangle, (T, 2)."""
    return np.asarray(np.exp(log_p[:, 0]) @ CORNERS)


def compute(found: Audit) -> Data:
    """The ways of a step by the place at which it stands, each with its end in words and whether that is a place of rest."""
    world = found.ends[0][1]
    ways = [
        {
            "name": f"{where}: {end.words}",
            "path": on_simplex(end.path).tolist(),
            "rests": bool(end.rests),
            "regret": float(regret(end.path[-1], world)),
        }
        for where, _, end, _ in found.ends
    ]
    reference, optimum = (on_simplex(log_p[None])[0].tolist() for log_p in (world.log_p_ref, solve(world).log_p))
    responses = [world.mdp.text(k) for k in range(len(CORNERS))]
    return {"function": found.handed.name, "response": responses, "ways": ways, "reference": reference, "optimum": optimum}


def draw(axes: Panels, data: Data) -> None:
    """The triangle; lines: the ways; crosses: where they rest (or, hollow, have got to); each is named beside its end."""
    (ax,) = axes
    ax.fill(*CORNERS.T, facecolor="none", edgecolor=GRAY, linewidth=0.8)
    for name, corner in zip(data["response"], CORNERS, strict=True):
        note(ax, f"always {readable(name)!r}", corner, (0, -14) if corner[1] == 0 else (0, 6), ha="center", fontsize=9)
    heights = spread([way["path"][-1][1] for way in data["ways"]], 0.09)
    hair = {"arrowstyle": "-", "color": GRAY, "linewidth": 0.5, "shrinkB": 4.0}
    for k, (way, height) in enumerate(zip(data["ways"], heights, strict=True)):
        line(ax, rung(k), *zip(*way["path"], strict=True))
        end = {} if way["rests"] else {"markerfacecolor": "white"}
        points(ax, "end", *([x] for x in way["path"][-1]), zorder=4, **end)
        ax.annotate(readable(way["name"], 60), way["path"][-1], (1.12, height), va="center", fontsize=8, arrowprops=hair)
    for name, side in (("reference", (-9, 0)), ("optimum", (9, -10))):
        points(ax, name, *([x] for x in data[name]), zorder=5)
        ax.annotate(GLYPHS[name].label, data[name], side, textcoords="offset points", ha="right" if side[0] < 0 else "left")
    ax.set_aspect("equal")
    ax.set_axis_off()


def said(data: Data) -> Said:
    """What is given away where the function leads."""
    found = sorted(way["regret"] for way in data["ways"])
    cost = number(found[0], ".4f") + (f" to {number(found[-1], '.4f')}" if found[-1] - found[0] > 5e-5 else "")
    verb = "ends" if all(way["rests"] for way in data["ways"]) else "has got to a place"
    told = f"From p_ref, {data['function']} {verb} with a regret of {cost}"
    return Said(told, "The triangle of all policies over three responses, with the path of the step from the reference to where it ends.")


def draw_path(found: Audit, file: Path) -> None:
    """Draw and write."""
    page.save(draw, data := compute(found), [file], (1.0,), (8.4, 4.6), said(data))
