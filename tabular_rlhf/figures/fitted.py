"""The picture of a person's own comparisons, as `tabular-rlhf fit --figure FILE` draws it.

Where a prompt was asked more than once: rewards, and policies by beta.  Where each was asked once: what the preference is about.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tabular_rlhf.figures import page
from tabular_rlhf.figures.glyphs import GLYPHS, GRAY, points, rung
from tabular_rlhf.figures.record import Data, Panel, Panels, Said, readable
from tabular_rlhf.layout import clip

Record = dict[str, Any]


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


def draw(axes: Panels, data: Data) -> None:
    """Left: rewards with their intervals.  Right: the policy at each beta, and the reference."""
    left, right = axes
    places = list(range(len(data["response"])))
    intervals(left, data["reward"], data["interval"], 0.0)
    left.set_yticks(places, data["response"])
    left.set_xlabel(f"reward, nats, with {100 * data['level']:g} % intervals")
    left.set_title(readable(data["prompt"], 60), loc="left")
    for k, beta in enumerate(data["beta"]):
        points(right, rung(k), [cell[k] for cell in data["policy"]], places, label=rf"$\beta = {beta:g}$")
    points(right, "reference", data["p_ref"], places, label=GLYPHS["reference"].label, zorder=1)
    right.set_yticks(places, [""] * len(places))
    alone = "" if data["beta"] else " (no single finite maximum: the reference alone)"
    right.set(xlim=(-0.03, 1.03), xlabel=f"probability{alone}")
    right.legend(loc="best")
    for ax in axes:
        ax.set_ylim(len(places) - 0.4, -0.6)


def intervals(ax: Panel, values: Sequence[float | None], ends: Sequence[Any], none: float) -> None:
    """Values with their intervals from the top down, those that are known; a dotted line where there would be no effect."""
    known = [k for k, value in enumerate(values) if value is not None]
    x: list[Any] = [values[k] for k in known]
    if known:
        arms = [[abs(values[k] - ends[k][side]) for k in known] for side in (0, 1)]
        ax.errorbar(x, known, xerr=arms, fmt="none", ecolor=GRAY, capsize=3)
        points(ax, "reward", x, known)
    ax.axvline(none, color=GRAY, linewidth=0.8, linestyle=":")


def compute_about(report: Record) -> Data:
    """Features of the pooled model, the surest first."""
    rows = report["about"]["features"][:MOST]
    columns = {key: [row[key] for row in rows] for key in ("feature", "coefficient", "interval", "share", "share_interval")}
    return {**columns, "level": report["level"], "comparisons": report["about"]["comparisons"]}


def draw_about(axes: Panels, data: Data) -> None:
    """Left: what a doubling of each feature is worth.  Right: how often the response with more of it won."""
    places = list(range(len(data["feature"])))
    told = f"with {100 * data['level']:g} % intervals"
    sides = (("coefficient", "interval", 0.0, f"nats a doubling, {told}"), ("share", "share_interval", 0.5, f"more of it won, {told}"))
    for ax, (value, interval, none, label) in zip(axes, sides, strict=True):
        intervals(ax, data[value], data[interval], none)
        ax.set_yticks(places, data["feature"] if value == "coefficient" else [""] * len(places))
        ax.set(xlabel=label, ylim=(len(places) - 0.4, -0.6))


def draw_report(report: Record, path: Path) -> None:
    """Write the picture of a report."""
    alone = report["about"] and report["about"]["features"] and report["prompts"][0]["rows"] == 1
    data = compute_about(report) if alone else compute(report)
    size = (9.6, 2.0 + 0.34 * max(3, len(data["feature" if alone else "response"])))
    page.save(draw_about if alone else draw, data, [path], (1.4, 1.0), size, said_about(data) if alone else said(data))


def said(data: Data) -> Said:
    """Who leads, and whether that is sure."""
    sure = sum(not low <= 0.0 <= high for low, high in data["interval"])
    count = f"{sure} of {len(data['interval'])} rewards are" if sure else "no reward is"
    lead = f"“{data['response'][0]}” leads; {count} surely off the mean" if data["response"] else "No response has a likeliest reward"
    fitted = f"Left, fitted rewards with {100 * data['level']:g} % intervals, best first."
    return Said(lead, f"{fitted} Right, the policy at each beta, and the reference.")


def said_about(data: Data) -> Said:
    """How many features tell winners from losers."""
    sure = sum(not low <= 0.0 <= high for low, high in data["interval"])
    told = f"In {data['comparisons']:,} comparisons {sure} of {len(data['feature'])} features tell the winner from the loser"
    return Said(told, "Left, what a doubling of each feature is worth, with intervals. Right, how often the response with more of it won.")
