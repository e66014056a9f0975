"""The picture of a study: what was measured against what varied, with intervals, the exact ascent beside the samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tabular_rlhf.figures import page
from tabular_rlhf.figures.glyphs import GLYPHS, rung
from tabular_rlhf.figures.record import Data, Panels, Said
from tabular_rlhf.studies.record import Study
from tabular_rlhf.studies.report import Point, last_of

MOST = 12
"""Lines that a picture holds."""


def compute(study: Study, points: Sequence[Point]) -> Data:
    """Lines: x, mean, low and high of every combination of what is not on the axis."""
    axis = study.x or ("step" if study.curve else next((k for k, v in study.settings.items() if len(v) > 1), "algorithm"))
    shown = list(points) if axis == "step" else last_of(points)
    places: list[Any] = []
    lines: dict[str, dict[str, Any]] = {}
    for p in shown:
        x: Any = p.step if axis == "step" else dict(p.where)[axis]
        if x not in places:
            places.append(x)
        told = [f"{k} {v}" if k not in ("world", "algorithm") else str(v) for k, v in p.where if k in study.varied and k != axis]
        line = lines.setdefault(
            ", ".join([*told, *(["exact"] if p.kind == "exact" else [])]) or "sampled", {"x": [], "mean": [], "half": []}
        )
        line["x"].append(x)
        line["mean"].append(p.mean[study.measure])
        line["half"].append(p.half[study.measure] or 0.0)
    numbers = all(isinstance(x, int | float) and not isinstance(x, bool) for x in places)
    for line in lines.values():
        line["x"] = line["x"] if numbers else [places.index(x) for x in line["x"]]
    kept = dict(list(lines.items())[:MOST])
    return {
        "title": study.title,
        "axis": axis,
        "measure": study.measure,
        "places": None if numbers else [str(x) for x in places],
        "lines": kept,
        "left_out": len(lines) - len(kept),
    }


def draw(axes: Panels, data: Data) -> None:
    """Lines with intervals; the exact ascent dashed."""
    (ax,) = axes
    for k, (name, line) in enumerate(data["lines"].items()):
        style = {**GLYPHS[rung(k)].both(), "linestyle": "--" if name.endswith("exact") else "-", "label": name}
        ax.errorbar(line["x"], line["mean"], yerr=line["half"], capsize=2, **style)
    if data["places"] is not None:
        ax.set_xticks(range(len(data["places"])), data["places"])
    ax.set(xlabel=data["axis"], ylabel=f"{data['measure']}, with 95 % intervals")
    if data["lines"]:
        ax.legend(fontsize=8)


def draw_study(study: Study, points: Sequence[Point], path: Path) -> None:
    """Write the picture of a study."""
    said = Said(study.title, f"{study.measure} with 95 % intervals, sampled and by exact ascent.")
    page.save(draw, compute(study, points), [path], (1.0,), (6.4, 4.4), said)
