"""The picture of a simulation, as `tabular-rlhf run --figure FILE` draws it: learning curves of all seeds beside the exact ascent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tabular_rlhf.figures import page
from tabular_rlhf.figures.glyphs import line, points
from tabular_rlhf.figures.record import Data, Panels, Said


def compute(found: dict[str, Any]) -> Data:
    """What is seen, of a report."""
    keys = ("curves", "exact", "frontier", "beta")
    predicted = [r for r in found["rows"] if r["name"] == "predicted"]
    return {**{key: found[key] for key in keys}, "title": found["options"]["algorithm"], "predicted": predicted}


def draw(axes: Panels, data: Data) -> None:
    """Left: regret against steps.  Right: the way through the plane of reward and KL, under the frontier."""
    left, right = axes
    for kind, glyph, name, width in (("curves", "policy", "sampled", 0.9), ("exact", "ascent", "exact ascent", 1.6)):
        for k, curve in enumerate(data[kind]):
            for ax, x, y in ((left, "step", "regret"), (right, "kl", "reward")):
                line(ax, glyph, curve[x], curve[y], linewidth=width, label=name if k == 0 else None)
    farthest = 1.15 * max(max(c["kl"]) for kind in ("curves", "exact") for c in data[kind])
    line(right, "tilted", data["frontier"]["kl"], data["frontier"]["reward"], label=r"Gibbs frontier, $p_\beta$", zorder=0)
    for row in data["predicted"]:
        points(right, "end", [row["kl"]], [row["reward"]], label="predicted end", zorder=4)
        last = max(c["step"][-1] for c in data["exact"])
        line(left, "bound", [0, last], [row["regret"]] * 2, linewidth=0.8, label="regret of the predicted end")
        farthest = max(farthest, 1.15 * row["kl"])
    left.set_yscale("symlog", linthresh=1e-6)
    left.set(xlabel="step", ylabel=r"regret $\beta\,\mathrm{KL}(\pi, p^*)$")
    left.legend(fontsize=8)
    right.set(xlim=(0.0, farthest or 1.0), xlabel=r"$\mathrm{KL}(\pi, \pi_{\mathrm{ref}})$, nats", ylabel=r"$\mathrm{E}[r]$, reward units")
    right.legend(fontsize=8, loc="lower right")


def draw_curves(found: dict[str, Any], path: Path) -> None:
    """Write the picture of a report."""
    page.save(draw, data := compute(found), [path], (1.0, 1.0), (9.4, 4.2), said(data))


def said(data: Data) -> Said:
    """From which regret to which."""
    first, last = ([curve["regret"][at] for curve in data["curves"]] for at in (0, -1))
    told = f"{data['title']}: regret from {max(first):.3g} to {max(last):.3g}" + (
        f" at worst, of {len(last)} runs" if len(last) > 1 else ""
    )
    return Said(
        told, "Left, regret against steps, sampled and by exact ascent. Right, reward against KL, under the frontier of the best policies."
    )
