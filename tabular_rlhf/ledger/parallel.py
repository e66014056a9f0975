"""The ledger's work as cells: slugs are dealt out, each cell runs its own on the same worlds, and the verdicts come home."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tabular_rlhf.cells import HERE, Place, run_cells
from tabular_rlhf.errors import SolveError
from tabular_rlhf.ledger.audit import Verdict, audit, select
from tabular_rlhf.ledger.record import LEDGER, Row

WORTHWHILE = 8
"""Fewer slugs than this are run at home: starting a process costs more than it saves."""
LARGE = 20_000
"""Checks of a cell: each makes its worlds anew, and progress is told by cells."""
Progress = Callable[[int], object]
Work = Callable[[Sequence[str], int, int, Progress], list[Any]]
"""(slugs, worlds, seed, told of the checks done) -> a verdict each, with a `slug`.  A function of a module, so that it can be sent."""
Cell = tuple[Work, Sequence[str], int, int]


def audit_in_parallel(rows: Sequence[Row], *, worlds: int, seed: int, on_progress: Progress, place: Place = HERE) -> list[Verdict]:
    """`audit` with the same answers, on several processes."""
    if any(LEDGER.get(row.slug) is not row for row in rows):  # a row that only this process knows
        return audit(rows, worlds=worlds, seed=seed, on_progress=on_progress)
    return in_parallel(_audit_slugs, [row.slug for row in rows], worlds, seed, on_progress, place)


def _audit_slugs(slugs: Sequence[str], worlds: int, seed: int, on_progress: Progress) -> list[Verdict]:
    return audit(select(slugs) if slugs else [], worlds=worlds, seed=seed, on_progress=on_progress)


def in_parallel(work: Work, slugs: Sequence[str], worlds: int, seed: int, on_progress: Progress, place: Place = HERE) -> list[Any]:
    """The verdicts of `work` on every slug, in order.  Raises: SolveError where a cell could not be done."""
    if place == HERE and (HERE.processes == 1 or len(slugs) < WORTHWHILE):
        return work(slugs, worlds, seed, on_progress)
    count = min(len(slugs), max(2 * place.processes, worlds * len(slugs) // LARGE))
    cells: list[Cell] = [(work, slugs[k::count], worlds, seed) for k in range(count)]
    found: dict[str, Any] = {}
    for done in run_cells(_of_cell, cells, place):
        if done.fault is not None:
            raise SolveError(f"the audit of {', '.join(cells[done.number][1])} could not be done: {done.fault}")
        verdicts, checks = done.value
        found |= {v.slug: v for v in verdicts}
        on_progress(checks)
    return [found[slug] for slug in slugs]


def _of_cell(cell: Cell) -> tuple[list[Any], int]:
    """The verdicts of a cell, and how many checks they took."""
    work, slugs, worlds, seed = cell
    checks: list[int] = []
    return work(slugs, worlds, seed, checks.append), sum(checks)
