"""A study as it goes on: cells that are done are written down in its journal, and never run again.

A cell that failed is not written down: the next time it is tried again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tabular_rlhf.cells import Place, run_cells
from tabular_rlhf.journal import Pen, known
from tabular_rlhf.studies.record import Cell, Study, run_cell

Rows = list[list[Any]]
Ended = tuple[dict[int, Rows], dict[int, str]]
"""Rows of cells that are done, and faults of those that are not, by number."""


def conduct(study: Study, path: Path | None, place: Place, on_done: Callable[[int, str | None], object] = lambda n, fault: None) -> Ended:
    """All cells of a study, those done before from its journal.

    Args: path, of the journal, or None; on_done, told how many cells are done now, and of a fault.  Returns: rows and faults by cell.
    """
    cells = list(study.cells())
    keys = [cell.key() for cell in cells]
    before = known(path, "a study's journal")
    rows = {cell.number: before[key] for cell, key in zip(cells, keys, strict=True) if key in before}
    on_done(len(rows), None)
    left = [cell for cell in cells if cell.number not in rows]
    faults: dict[int, str] = {}
    with Pen(path) as pen:
        for done in run_cells(run_cell, left, place):
            cell = left[done.number]
            if done.fault is None:
                rows[cell.number] = done.value
                pen.write(keys[cell.number], done.value)
            else:
                faults[cell.number] = done.fault
            on_done(1, done.fault)
    return rows, faults


def undone(cells: Sequence[Cell], faults: dict[int, str]) -> list[str]:
    """What failed, in words, one line a cell."""
    seed = [("exact ascent" if cell.seed is None else f"seed {cell.seed}") for cell in cells]
    return [f"{c.name}, {c.options.algorithm}, {s}: {faults[c.number]}" for c, s in zip(cells, seed, strict=True) if c.number in faults]
