"""The picture of a person's own comparisons, as `tabular-rlhf fit --figure FILE` draws it.

Where a prompt was asked more than once: rewards, and policies by beta.  Where each was asked once: what the preference is about.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tabular_rlhf.figures import page
from tabular_rlhf.figures.glyphs import GLYPHS, GRAY, points, rung
from tabular_rlhf.figures.record import Data, Said, readable
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
    artists.append(left.set_title(readable(data["prompt"], 60), loc="left"))
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


def compute_about(report: Record) -> Data:
    """Features of the pooled model, the surest first."""
    rows = report["about"]["features"][:MOST]
    return {
        "feature": [row["feature"] for row in rows],
        "coefficient": [row["coefficient"] for row in rows],
        "interval": [row["interval"] for row in rows],
        "share": [row["share"] for row in rows],
        "share_interval": [row["share_interval"] for row in rows],
        "level": report["level"],
        "comparisons": report["about"]["comparisons"],
    }


def draw_about(axes: list[Axes], data: Data) -> list[Artist]:
    """Left: what a doubling of each feature is worth.  Right: how often the response with more of it won."""
    artists: list[Artist] = []
    places = list(range(len(data["feature"])))
    told = f"with {100 * data['level']:g} % intervals"
    sides = (("coefficient", "interval", 0.0, f"nats a doubling, {told}"), ("share", "share_interval", 0.5, f"more of it won, {told}"))
    for ax, (value, interval, none, label) in zip(axes, sides, strict=True):
        known = [k for k in places if data[value][k] is not None]
        x = [data[value][k] for k in known]
        ends = [[abs(data[value][k] - data[interval][k][side]) for k in known] for side in (0, 1)]
        artists += ax.errorbar(x, known, xerr=ends, fmt="none", ecolor=GRAY, capsize=3).get_children()
        artists += points(ax, "reward", x, known)
        artists.append(ax.axvline(none, color=GRAY, linewidth=0.8, linestyle=":"))
        ax.set_yticks(places, data["feature"] if value == "coefficient" else [""] * len(places))
        ax.set_xlabel(label)
        ax.set_ylim(len(places) - 0.4, -0.6)
    return artists


def draw_report(report: Record, path: Path) -> None:
    """Write the picture of a report."""
    if report["about"] and report["about"]["features"] and report["prompts"][0]["rows"] == 1:
        about = compute_about(report)
        page.save(draw_about, about, [path], (1.4, 1.0), (9.6, 2.0 + 0.34 * max(3, len(about["feature"]))), said_about(about))
        return
    data = compute(report)
    page.save(draw, data, [path], (1.4, 1.0), (9.6, 2.0 + 0.34 * max(3, len(data["response"]))), said(data))


def said(data: Data) -> Said:
    """Who leads, and whether that is sure."""
    sure = sum(not low <= 0.0 <= high for low, high in data["interval"])
    count = f"{sure} of {len(data['interval'])} rewards are" if sure else "no reward is"
    lead = f"“{data['response'][0]}” leads; {count} surely off the mean" if data["response"] else "No response has a likeliest reward"
    caption = (
        f"Left, fitted rewards with {100 * data['level']:g} % intervals, best first. Right, the policy at each beta, and the reference."
    )
    return Said(lead, caption)


def said_about(data: Data) -> Said:
    """How many features tell winners from losers."""
    sure = sum(not low <= 0.0 <= high for low, high in data["interval"])
    told = f"In {data['comparisons']:,} comparisons {sure} of {len(data['feature'])} features tell the winner from the loser"
    return Said(told, "Left, what a doubling of each feature is worth, with intervals. Right, how often the response with more of it won.")
