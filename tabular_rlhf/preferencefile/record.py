r"""What a file of comparisons says, whatever its shape: candidates by prompt, comparisons of two of them, and an account of every row.

A comparison is (winner, loser, weight), or a tie; perhaps with who judged, and which of the two was shown first.  Rows are gathered into
arrays as they come, each text kept once, so that a million of them fit.
"""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tabular_rlhf.logspace import Array
from tabular_rlhf.mdp import Indices


@dataclass(frozen=True)
class Fault:
    """A row that could not be used, by its number in the file (from 1), and why."""

    line: int
    reason: str


class Malformed(Exception):
    """Why a row cannot be used."""


@dataclass(frozen=True, eq=False)
class Preferences:
    """What a file says.

    prompts, in order of appearance; responses, the candidates, prompt after prompt; of (N,), the prompt of each; w, l, weight (M,), of
    each comparison; tie (M,), whether neither won (w and l are then the two as they came); first (M,), 1 where w was shown first, -1 where
    l was, 0 where nobody says; judge (M,), number of the annotator or -1; judges, their names; line (M,), where each comparison stands.

    faults; same, numbers of rows with two equal responses; idle, rows that say nothing for another reason; blank and lines, how many rows
    are blank, and how many there are; unit, what the numbers count; container and shape, how it was read; ignored, rows by column that was
    not read; notes, conversions.
    """

    prompts: tuple[str, ...]
    responses: tuple[str, ...]
    of: Indices
    w: Indices
    l: Indices
    weight: Array
    tie: Indices
    first: Indices
    judge: Indices
    judges: tuple[str, ...]
    line: Indices
    faults: tuple[Fault, ...]
    same: tuple[int, ...]
    idle: tuple[Fault, ...]
    blank: int
    lines: int
    unit: str
    container: str
    shape: str
    ignored: dict[str, int]
    notes: tuple[str, ...]


@dataclass(eq=False)
class Collector:
    """Comparisons on their way into arrays, and the account of rows."""

    texts: dict[str, int] = field(default_factory=dict)
    prompts: dict[str, int] = field(default_factory=dict)
    judges: dict[str, int] = field(default_factory=dict)
    same: list[int] = field(default_factory=list)
    idle: list[Fault] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.x, self.w, self.l = array("q"), array("q"), array("q")
        self.weight, self.line = array("d"), array("q")
        self.tie, self.first, self.judge = array("b"), array("b"), array("q")

    def add(
        self,
        number: int,
        prompt: str,
        winner: str,
        loser: str,
        weight: float = 1.0,
        tie: bool = False,
        first: int = 0,
        judge: str | None = None,
    ) -> None:
        """One comparison of two responses to a prompt."""
        if winner == loser:
            if not self.same or self.same[-1] != number:
                self.same.append(number)
            return
        texts = self.texts
        self.x.append(self.prompts.setdefault(prompt, len(self.prompts)))
        self.w.append(texts.setdefault(winner, len(texts)))
        self.l.append(texts.setdefault(loser, len(texts)))
        self.weight.append(weight)
        self.line.append(number)
        self.tie.append(tie)
        self.first.append(first)
        self.judge.append(-1 if judge is None else self.judges.setdefault(judge, len(self.judges)))

    def candidates(self) -> tuple[tuple[str, ...], Indices, Indices, Indices]:
        """The responses, those of a prompt next to each other in order of appearance; the prompt of each; w and l, numbered so."""
        names, T = list(self.texts), max(1, len(self.texts))
        self.texts.clear()  # a million keys take much room
        x = _of(self.x)
        keys = np.stack([x * T + _of(self.w), x * T + _of(self.l)], axis=1).ravel()
        found, seen, place = np.unique(keys, return_index=True, return_inverse=True)
        order = np.lexsort((seen, found // T))
        number = np.empty(len(order), dtype=np.intp)
        number[order] = np.arange(len(order))
        responses = tuple(names[t] for t in (found % T)[order].tolist())
        return responses, (found // T)[order], number[place[0::2]], number[place[1::2]]


def _of(numbers: array[int]) -> Indices:
    """An array's numbers in the memory that they have."""
    return np.frombuffer(numbers, dtype=np.int64) if len(numbers) else np.zeros(0, dtype=np.int64)


def gathered(found: Collector, faults: list[Fault], unit: str, notes: tuple[str, ...], **account: Any) -> Preferences:
    """The record of what was collected, which the collector gives up.

    Args: notes, what is to be said besides the collector's own; account, blank, lines, container, shape and ignored of the record.
    """
    prompts = tuple(found.prompts)
    found.prompts.clear()
    responses, of, w, l = found.candidates()
    whole: dict[str, Any] = {"of": of, "w": w, "l": l}
    whole |= {name: np.array(getattr(found, name), dtype=np.int64) for name in ("tie", "first", "judge", "line")}
    return Preferences(
        prompts=prompts,
        responses=responses,
        weight=np.array(found.weight, dtype=np.float64),
        judges=tuple(found.judges),
        faults=tuple(sorted(faults, key=lambda fault: fault.line)),
        same=tuple(found.same),
        idle=tuple(found.idle),
        unit=unit,
        notes=notes + tuple(f"{text} ({n:,} {unit if n == 1 else unit + 's'})" for text, n in found.notes.items()),
        **whole,
        **account,
    )
