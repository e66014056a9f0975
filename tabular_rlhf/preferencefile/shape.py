"""What a reader of one shape is, and what all of them share: a row's own columns, weight and annotator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tabular_rlhf.preferencefile.record import Collector, Malformed
from tabular_rlhf.preferencefile.roles import Columns
from tabular_rlhf.preferencefile.values import name_or_text, text, weight_of
from tabular_rlhf.registry import Registry, entered

Row = Mapping[str, Any]
Take = Callable[[int, Any, Collector], None]
Finish = Callable[[Collector], None]


def nothing_left(out: Collector) -> None:
    """What is to be done after the last row, for most shapes."""


@dataclass(frozen=True)
class Reader:
    """How rows of a file are read.  used, the columns that are; needed, those that a row must have; take, one row; finish, after the last
    one; notes, what is to be said of every file that is read so."""

    used: frozenset[str]
    needed: tuple[str, ...]
    take: Take
    finish: Finish = nothing_left
    notes: tuple[str, ...] = ()


Make = Callable[[Columns, Sequence[Any]], Reader | None]


@dataclass(frozen=True)
class Shape:
    """name; title, in words; example, a file in JSON lines or CSV; make, the reader for some columns and first rows, or None."""

    name: str
    title: str
    example: str
    make: Make


SHAPES: Registry[Shape] = Registry("shape")
"""Every shape that is read, by name."""
shape = entered(Shape, SHAPES.add)


class Extras:
    """What any shape may have besides: a weight, an annotator."""

    def __init__(self, columns: Columns, taken: set[str]) -> None:
        self.weight, self.judge = (c if c not in taken else None for c in (columns.get("weight"), columns.get("annotator")))
        self.used = {c for c in (self.weight, self.judge) if c is not None}

    def of(self, row: Row) -> tuple[float, str | None]:
        """Weight (1 where there is none) and annotator of a row."""
        weight = 1.0
        if self.weight is None and self.judge is None:
            return weight, None
        if self.weight is not None and self.weight in row:
            value = row[self.weight]
            weight = 1.0 if value is None and not isinstance(value, bool) else weight_of(value)
        judge = None if self.judge is None else row.get(self.judge)
        if isinstance(judge, list | dict):
            judge = None
        return weight, None if judge is None else str(judge)


Each = Callable[[int, Any, Collector, Extras], None]


def reader(
    columns: Columns, needed: Sequence[str], each: Each, *notes: str, also: Sequence[str | None] = (), finish: Finish = nothing_left
) -> Reader:
    """A reader of rows that have the needed columns.  Args: each, what is made of one; also, other columns that it looks at, if any."""
    taken = {*needed, *(c for c in also if c is not None)}
    asked, extras = frozenset(needed), Extras(columns, taken)

    def take(number: int, row: Any, out: Collector) -> None:
        if not asked <= row.keys():
            missing = [name for name in needed if name not in row]
            raise Malformed(f"no {' and no '.join(map(repr, missing))}; it has {', '.join(map(repr, row)) or 'nothing'}")
        each(number, row, out, extras)

    return Reader(frozenset(taken | extras.used), tuple(needed), take, finish, notes)


def prompt_of(row: Row, column: str | None) -> str:
    """The text of a row's prompt; of items that are compared without one, the empty text."""
    return "" if column is None else text(row[column], column)


def candidate(value: Any, column: str) -> str:
    """A response or an item's name."""
    return name_or_text(value, column)


def each_pair(out: Collector, number: int, prompt: str, best: Sequence[tuple[str, float]], weight: float, judge: str | None) -> None:
    """All pairs of some responses with values, the larger one wins, equal ones tie."""
    for k, (one, high) in enumerate(best):
        for other, low in best[k + 1 :]:
            if high >= low:
                out.add(number, prompt, one, other, weight, high == low, 0, judge)
            else:
                out.add(number, prompt, other, one, weight, False, 0, judge)


ALL_PAIRS = "every list counts as all of its pairs, which depend on one another: intervals are too narrow"
EQUAL = "equal values are ties"
