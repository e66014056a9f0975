"""The picture of a simulation, as `tabular-rlhf run --figure FILE` draws it: learning curves of all seeds beside the exact ascent."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tabular_rlhf.figures import page
from tabular_rlhf.figures.record import BLUE, GRAY, ORANGE, Data

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes


def compute(found: dict[str, Any]) -> Data:
    """What is seen, of a report."""
    keys = ("curves", "exact", "frontier", "beta")
    predicted = [r for r in found["rows"] if r["name"] == "predicted"]
    return {**{key: found[key] for key in keys}, "title": found["options"]["algorithm"], "predicted": predicted}


def draw(axes: list[Axes], data: Data) -> list[Artist]:
    """Left: regret against steps.  Right: the way through the plane of reward and KL, under the frontier."""
    left, right = axes
    artists: list[Artist] = []
    for kind, color, style, name in (("curves", ORANGE, "-", "sampled"), ("exact", BLUE, "--", "exact ascent")):
        for k, curve in enumerate(data[kind]):
            label = name if k == 0 else None
            width = 1.6 if kind == "exact" else 0.9
            for ax, x, y in ((left, "step", "regret"), (right, "kl", "reward")):
                artists += ax.plot(curve[x], curve[y], label=label, color=color, linestyle=style, linewidth=width)
    farthest = 1.15 * max(max(c["kl"]) for kind in ("curves", "exact") for c in data[kind])
    artists += right.plot(data["frontier"]["kl"], data["frontier"]["reward"], ":", color=GRAY, label="Gibbs frontier", zorder=0)
    for row in data["predicted"]:
        artists += right.plot([row["kl"]], [row["reward"]], "*", color=BLUE, markersize=11, label="predicted")
        artists.append(left.axhline(row["regret"], color=GRAY, linestyle=":", label="regret there"))
        farthest = max(farthest, 1.15 * row["kl"])
    left.set_yscale("symlog", linthresh=1e-6)
    left.set_xlabel("step")
    left.set_ylabel(r"regret $\beta\,\mathrm{KL}(\pi, p^*)$")
    left.set_title(data["title"])
    right.set_xlim(0.0, farthest or 1.0)
    right.set_xlabel(r"$\mathrm{KL}(\pi, \pi_{\mathrm{ref}})$, nats")
    right.set_ylabel(r"$\mathrm{E}[r]$, reward units")
    return [*artists, left.legend(fontsize=8), right.legend(fontsize=8, loc="lower right")]


def draw_curves(found: dict[str, Any], path: Path) -> None:
    """Write the picture of a report."""
    page.save(draw, compute(found), [path], widths=(1.0, 1.0), size=(9.4, 4.0))
