"""The path of a step on the simplex of the `rational` world: from the reference to where it leads."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from tabular_rlhf.audit.report import Audit
from tabular_rlhf.files import write_bytes
from tabular_rlhf.gibbs import solve
from tabular_rlhf.logspace import Array

CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(0.75)]])


def on_simplex(log_p: Array) -> Array:
    """Laws of three responses (T, 1, 3) as points of a triangle, (T, 2)."""
    return np.asarray(np.exp(log_p[:, 0]) @ CORNERS)


def draw(found: Audit, file: Path) -> None:
    """Draw and write."""
    from matplotlib.figure import Figure

    world = found.ends[0][1]
    figure = Figure(figsize=(5.0, 4.6), layout="constrained")
    ax = figure.add_subplot()
    ax.plot(*np.vstack([CORNERS, CORNERS[:1]]).T, color="0.6", lw=1)
    for k, corner in enumerate(CORNERS):
        ax.annotate(repr(world.mdp.text(k)), corner, xytext=(0, -12 if corner[1] == 0 else 6), textcoords="offset points", ha="center")
    for where, _, end, _ in found.ends:
        points = on_simplex(end.path)
        ax.plot(*points.T, marker=".", ms=3, label=f"{where}: {end.words}")
        ax.plot(*points[-1], marker="o" if end.rests else "x", color="k")
    for name, log_p, marker in (("p_ref", world.log_p_ref, "s"), ("p*", solve(world).log_p, "*")):
        ax.plot(*on_simplex(log_p[None])[0], marker=marker, color="k", ls="", label=name)
    ax.set_title(found.handed.name)
    ax.set_aspect("equal")
    ax.set_axis_off()
    ax.legend(loc="upper right", fontsize=7)
    buffer = io.BytesIO()
    figure.savefig(buffer, format=file.suffix[1:], metadata={"Date": None} if file.suffix == ".svg" else None)
    write_bytes(file, buffer.getvalue())
