"""A study as it goes on: cells that are done are written down at once, one line each, and never run again.

A line is {"key", "rows"}; a key says all that the numbers depend on, and numbers are written so that they are read back to the bit.
What an interruption leaves of a last line is cut off.  A cell that failed is not written down: the next time it is tried again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tabular_rlhf.cells import Place, run_cells
from tabular_rlhf.errors import InputError, quoted, shown
from tabular_rlhf.files import check_output, read_bytes
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
    known = {} if path is None else _known(path)
    rows = {cell.number: known[key] for cell, key in zip(cells, keys, strict=True) if key in known}
    on_done(len(rows), None)
    left = [cell for cell in cells if cell.number not in rows]
    faults: dict[int, str] = {}
    with _Pen(path) as pen:
        for done in run_cells(run_cell, left, place):
            cell = left[done.number]
            if done.fault is None:
                rows[cell.number] = done.value
                pen.write(keys[cell.number], done.value)
            else:
                faults[cell.number] = done.fault
            on_done(1, done.fault)
    return rows, faults


def _known(path: Path) -> dict[str, Rows]:
    """What a journal holds; its last line may have been cut off, and is then removed."""
    if not path.exists():
        check_output(path)
        return {}
    data = read_bytes(path, "the study's journal")
    whole, _, rest = data.rpartition(b"\n")
    found: dict[str, Rows] = {}
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            told = json.loads(line)
            found[told["key"]] = told["rows"]
        except (ValueError, KeyError, TypeError, RecursionError):
            remedy = "give --out another folder, or remove the file"
            got = quoted(line[:60].decode("utf-8", "replace"))
            raise InputError("a study's journal must be its own", got=got, where=f"{path}, line {number}", remedy=remedy) from None
    if rest:
        os.truncate(path, len(data) - len(rest))
    return found


class _Pen:
    """Writes lines at the end of a journal, each at once."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.handle: int | None = None

    def __enter__(self) -> _Pen:
        if self.path is not None:
            try:
                self.handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
            except OSError as e:
                got = f"{quoted(str(self.path))} ({e.strerror or shown(e)})"
                raise InputError("a file must be writable", got=got, remedy="check its path, and its disk") from None
        return self

    def write(self, key: str, rows: Sequence[Any]) -> None:
        """One cell, in one writing: an interruption falls before or after it."""
        if self.handle is not None:
            os.write(self.handle, (json.dumps({"key": key, "rows": rows}) + "\n").encode())

    def __exit__(self, *_: object) -> None:
        if self.handle is not None:
            os.close(self.handle)


def undone(cells: Sequence[Cell], faults: dict[int, str]) -> list[str]:
    """What failed, in words, one line a cell."""
    seed = [("exact ascent" if cell.seed is None else f"seed {cell.seed}") for cell in cells]
    return [f"{c.name}, {c.options.algorithm}, {s}: {faults[c.number]}" for c, s in zip(cells, seed, strict=True) if c.number in faults]
