"""The ledger's work as cells: parts of the worlds, and shares of the mistakes; the verdicts come home and are put together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from tabular_rlhf.cells import HERE, Place, run_cells
from tabular_rlhf.errors import SolveError
from tabular_rlhf.ledger.audit import Claim, Progress, RowClaim, Verdict, audit, compared, mistaken, parts
from tabular_rlhf.ledger.record import Row

WORTHWHILE = 8
"""Fewer claims than this are audited at home: starting a process costs more than it saves."""
Cell = Callable[[Progress], list[Verdict]]
"""Told of the checks done -> verdicts."""


def audit_in_parallel(
    claims: Sequence[Row | Claim[Any]], *, worlds: int, seed: int, on_progress: Progress, place: Place = HERE
) -> list[Verdict]:
    """`audit` with the same answers, on several processes.  Raises: SolveError where a cell could not be done."""
    made = [RowClaim(c) if isinstance(c, Row) else c for c in claims]
    here = place == HERE and (HERE.processes == 1 or len(made) < WORTHWHILE)
    if here or not all(c.known for c in made):  # one that only this process knows cannot be sent
        return audit(made, worlds=worlds, seed=seed, on_progress=on_progress)
    of, shares = parts(made, worlds), min(len(made), 2 * place.processes)
    cells: list[Cell] = [partial(compared, made, worlds, seed, k, of) for k in range(of)]
    cells += [partial(mistaken, made[k::shares], seed) for k in range(shares)]
    whose = [range(len(made))] * of + [range(k, len(made), shares) for k in range(shares)]
    found: dict[int, list[Verdict]] = {}
    for done in run_cells(_of_cell, cells, place):
        if done.fault is not None:
            raise SolveError(f"a part of the audit could not be done: {done.fault}")
        found[done.number], checks = done.value
        on_progress(checks)
    total = [Verdict(c.slug) for c in made]
    for number, verdicts in sorted(found.items()):  # in order, so that of equal errors the same is the worst
        for k, verdict in zip(whose[number], verdicts, strict=True):
            total[k] += verdict
    return total


def _of_cell(cell: Cell) -> tuple[list[Verdict], int]:
    """The verdicts of a cell, and how many checks they took."""
    checks: list[int] = []
    return cell(checks.append), sum(checks)
