"""What a study found: the tidy table of all runs, the means over seeds with their intervals, and a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tabular_rlhf.layout import table
from tabular_rlhf.simulator.report import FIELDS
from tabular_rlhf.studies.record import Ended, Study, undone
from tabular_rlhf.told import as_csv as told_as_csv
from tabular_rlhf.told import number, parts

SCHEMA = "tabular-rlhf/study/1"
LEVEL = 0.95
SHOWN = 40
"""Rows of the summary that a page shows; the files have all."""
Record = dict[str, Any]


@dataclass(frozen=True)
class Point:
    """One point of the grid at one step, over its seeds: where; kind, sampled or exact; step; n, runs; mean and half of the interval of
    each field, by name (half is None for one run)."""

    where: tuple[tuple[str, Any], ...]
    kind: str
    step: int
    n: int
    mean: dict[str, float]
    half: dict[str, float | None]


def as_csv(study: Study, ended: Ended) -> str:
    """Every run at every step told, one row each, in the order of the grid; of a cell that failed, the fault."""
    rows, faults = ended

    def told() -> Iterator[list[Any]]:
        yield ["world", "algorithm", *study.settings, "seed", "kind", "step", *FIELDS, "fault"]
        for cell, where in _places(study):
            head = [*dict(where).values(), "" if cell.seed is None else cell.seed, _kind(cell)]
            yield from ([*head, row[0], *map(repr, row[1:]), ""] for row in rows.get(cell.number, []))
            if cell.number in faults:
                yield [*head, "", *[""] * len(FIELDS), faults[cell.number]]

    return told_as_csv(told())


def summary_csv(points: Sequence[Point]) -> str:
    """Means over seeds with the ends of their intervals, one row a point of the grid and a field."""
    names = [name for name, _ in points[0].where] if points else []
    rows: list[list[Any]] = [[*names, "kind", "step", "runs", "measure", "mean", "low", "high"]]
    for p in points:
        for name in FIELDS:
            half = p.half[name]
            ends = ["", ""] if half is None else [repr(p.mean[name] - half), repr(p.mean[name] + half)]
            rows.append([*(v for _, v in p.where), p.kind, p.step, p.n, name, repr(p.mean[name]), *ends])
    return told_as_csv(rows)


def _places(study: Study) -> Any:
    """Every cell, and its place in the grid by name."""
    for cell in study.cells():
        told = {name: cell.world.beta if name == "beta" else getattr(cell.options, name) for name in study.settings}
        yield cell, (("world", cell.name), ("algorithm", cell.options.algorithm), *told.items())


def _kind(cell: Any) -> str:
    return "exact" if cell.seed is None else "sampled"


def summarize(study: Study, ended: Ended) -> list[Point]:
    """Means over the seeds that were done, with 95 % intervals by Student's t; the exact ascent has none."""
    groups: dict[Any, list[list[Any]]] = {}
    for cell, where in _places(study):
        for row in ended[0].get(cell.number, []):
            groups.setdefault((where, _kind(cell), row[0]), []).append(row[1:])
    return [_point(where, kind, step, np.array(rows)) for (where, kind, step), rows in groups.items()]


def _point(where: Any, kind: str, step: int, rows: Any) -> Point:
    from scipy.special import stdtrit

    n = len(rows)
    mean = [float(x) for x in np.mean(rows, axis=0)]
    half: list[float | None] = [None] * len(FIELDS)
    if n > 1:
        spread = np.std(rows, axis=0, ddof=1) / np.sqrt(n)
        half = [float(x) for x in stdtrit(n - 1, 0.5 + LEVEL / 2) * spread]
    return Point(where, kind, step, n, dict(zip(FIELDS, mean, strict=True)), dict(zip(FIELDS, half, strict=True)))


def report(study: Study, ended: Ended, points: Sequence[Point]) -> Record:
    """Everything as plain values."""
    rows, faults = ended
    points_told = [{**dict(p.where), **parts(p, "kind", "step"), "runs": p.n, **parts(p, "mean", "half")} for p in points]
    head = {"schema": SCHEMA, "title": study.title, "cells": study.size, "done": len(rows)}
    return {**head, "faults": undone(list(study.cells()), faults), **parts(study, "measure", "x"), "points": points_told}


def last_of(points: Sequence[Point]) -> list[Point]:
    """Of each curve, its last step."""
    found: dict[Any, Point] = {}
    for p in points:
        found[p.where, p.kind] = p
    return list(found.values())


def render(study: Study, ended: Ended, points: Sequence[Point], files: Sequence[str]) -> str:
    """The page: the measure at the end of every point of the grid, what failed, and which files were written."""
    rows, faults = ended
    last = last_of(points)
    varied = study.varied
    body = [
        [*(str(dict(p.where)[name]) for name in varied), p.kind, f"{p.step:,}", str(p.n), *_interval(p, study.measure)]
        for p in last[:SHOWN]
    ]
    header = [*varied, "kind", "step", "runs", study.measure, f"+- ({100 * LEVEL:g} %)"]
    left = tuple(range(len(varied) + 1))
    parts = [f"{study.title}\n{len(rows):,} of {study.size:,} cells are done.", table("", header, body, left=left)] if body else []
    parts += [f"{len(last) - SHOWN:,} more rows in the files."] if len(last) > SHOWN else []
    if faults:
        told = undone(list(study.cells()), faults)
        more = [f"  and {len(told) - 5:,} more"] if len(told) > 5 else []
        parts.append(
            "\n".join([f"{len(told):,} cells failed; run the study again to try them again:", *(f"  {line}" for line in told[:5]), *more])
        )
    parts += ["Written: " + ", ".join(files) + "."] if files else []
    return "\n\n".join(parts or [f"{study.title}\nNo cell is done."])


def _interval(p: Point, measure: str) -> list[str]:
    half = p.half[measure]
    return [number(p.mean[measure], ".5g"), "-" if half is None else number(half, ".2g")]
