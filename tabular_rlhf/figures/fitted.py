"""The picture of a person's own comparisons, as `tabular-rlhf fit --figure FILE` draws it: rewards, and policies by beta."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tabular_rlhf.figures import page
from tabular_rlhf.figures.glyphs import GLYPHS, GRAY, points, rung
from tabular_rlhf.figures.record import Data
from tabular_rlhf.layout import clip

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

    from tabular_rlhf.reports.preferences import Record

MOST = 12
"""Responses that fit on the picture."""


def compute(report: Record) -> Data:
    """The best responses of the prompt with most comparisons."""
    row = report["prompts"][0]
    known = [cell for cell in row["responses"] if cell["reward"] is not None]
    cells = sorted(known, key=lambda cell: -cell["reward"])[:MOST]
    return {
        "prompt": clip(" ".join(row["prompt"].split()), 60),
        "response": [clip(" ".join(cell["response"].split()), 32) for cell in cells],
        "reward": [cell["reward"] for cell in cells],
        "interval": [cell["interval"] for cell in cells],
        "level": report["level"],
        "beta": report["betas"] if row["kl"] is not None else [],
        "policy": [cell["policy"] or [] for cell in cells],
        "p_ref": [cell["p_ref"] for cell in cells],
        "finite_maximum": row["finite_maximum"],
        "left_out": len(row["responses"]) - len(cells),
    }


def draw(axes: list[Axes], data: Data) -> list[Artist]:
    """Left: rewards with their intervals.  Right: the policy at each beta, and the reference."""
    left, right = axes
    places = list(range(len(data["response"])))
    ends = [[r - low for r, (low, _) in zip(data["reward"], data["interval"], strict=True)]]
    ends += [[high - r for r, (_, high) in zip(data["reward"], data["interval"], strict=True)]]
    artists: list[Artist] = []
    if places:
        artists += left.errorbar(data["reward"], places, xerr=ends, fmt="none", ecolor=GRAY, capsize=3).get_children()
        artists += points(left, "reward", data["reward"], places)
    artists.append(left.axvline(0.0, color=GRAY, linewidth=0.8, linestyle=":"))
    left.set_yticks(places, data["response"])
    left.set_xlabel(f"reward, nats, with {100 * data['level']:g} % intervals")
    artists.append(left.set_title(data["prompt"], loc="left"))
    for k, beta in enumerate(data["beta"]):
        artists += points(right, rung(k), [cell[k] for cell in data["policy"]], places, label=rf"$\beta = {beta:g}$")
    artists += points(right, "reference", data["p_ref"], places, label=GLYPHS["reference"].label, zorder=1)
    right.set_yticks(places, [""] * len(places))
    right.set_xlim(-0.03, 1.03)
    right.set_xlabel("probability" if data["beta"] else "probability (no single finite maximum: the reference alone)")
    artists.append(right.legend(loc="best"))
    for ax in axes:
        ax.set_ylim(len(places) - 0.4, -0.6)
    return artists


def draw_report(report: Record, path: Path) -> None:
    """Write the picture of a report."""
    data = compute(report)
    page.save(draw, data, [path], widths=(1.4, 1.0), size=(9.6, 1.6 + 0.34 * max(3, len(data["response"]))))
