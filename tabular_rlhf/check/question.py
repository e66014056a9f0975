"""What is asked: a row of the ledger (or one part of it), an exercise, or one line of a derivation, behind one face.

A question knows its answer on any world, the worlds it applies to, what it leaves free, and the wrong answers that it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import numpy as np

from tabular_rlhf.check.calling import named, quietly, supply
from tabular_rlhf.derivations import DERIVATIONS
from tabular_rlhf.derivations.lines import Line
from tabular_rlhf.derivations.record import Derivation
from tabular_rlhf.errors import InputError, did_you_mean, quoted
from tabular_rlhf.exercises import EXERCISES, Exercise
from tabular_rlhf.exercises.conventions import Other
from tabular_rlhf.exercises.proof import PROOFS
from tabular_rlhf.ledger import LEDGER, Row
from tabular_rlhf.ledger.record import Approximately, as_parts, bare, error_of, today
from tabular_rlhf.symbols import Scope, parameters
from tabular_rlhf.tolerance import EPS, Gap, between, distance, largest, rounding, roundings

Function = Callable[..., Any]


@dataclass(frozen=True, eq=False)
class Question:
    """One thing asked.

    slug and part, for people.  truths: functions that all give the answer, the reference first.  pick: which of the
    parts that they return (None: the whole).  misses: (diagnosis, function).  free: what the answer leaves open.
    without: symbols that would give it away.  most: worlds on which it is affordable.  scale: the size of a term.  error: what is asked
    for, as a share of that, where not the exact answer is.  line: of a derivation, judged by its neighbors.  others: choices that an
    answer may make in the place of the reference's.  own: a reader's world, on which it is tried after all others.  given:
    what an answer may be computed from, where that is not what the truth is.
    """

    slug: str
    part: str
    truths: tuple[Function, ...]
    misses: tuple[tuple[str, Function], ...]
    applies: Callable[[Scope], bool]
    pick: int | None = None
    free: str = ""
    without: tuple[str, ...] = ()
    most: int = 2**62
    scale: Callable[[Scope], float] | None = None
    error: float = 0.0
    line: tuple[Derivation, int] | None = None
    others: tuple[Other, ...] = ()
    own: Scope | None = None
    given: tuple[str, ...] = ()

    @property
    def away(self) -> frozenset[str]:
        """Symbols that would give the answer away: with the solution, also the world, since it can be solved."""
        return frozenset((*self.without, *(["world"] if "solution" in self.without else [])))

    @cached_property
    def chosen(self) -> tuple[tuple[str, Question], ...]:
        """What is asked under each other choice, by the choice in words."""
        return tuple((o.words, replace(self, truths=(o.answer,), misses=tuple(o.misses.items()), others=())) for o in self.others)

    def asked(self, function: Function) -> Function:
        """An answer that asks for what it may ask for, and so does what it returns; raises BadNames."""
        return named(function, self.away, ", ".join(self.given or parameters(self.truths[0])))

    def picked(self, value: Any) -> Any:
        """The part in question of what a truth returned."""
        return value if self.pick is None else as_parts(value)[self.pick]

    def truth(self, scope: Scope) -> Any:
        """The exact answer, computed once a scope."""
        if self not in scope.memo:
            with quietly() if self.line else nullcontext():  # a derivation may be the reader's own, and its line no number here
                scope.memo[self] = np.asarray(self.picked(supply(self.truths[0], scope)), dtype=np.float64)
        return scope.memo[self]

    def gap(self, value: Any, scope: Scope, function: Function) -> Gap:
        """How far a value of the right shape is from the answer; of a line, how far it is from its relations to its neighbors."""
        return self._apart(value, scope) if self.line is None else self.relation(function, scope)[1]

    def differs(self, value: Any, scope: Scope) -> bool:
        """Whether a value is another than the answer; of a line, than the derivation's own, which need not be wrong."""
        return not self._apart(value, scope).same

    def _apart(self, value: Any, scope: Scope) -> Gap:
        right = self.truth(scope)
        gap = distance(opened(value, self.free), opened(right, self.free))
        term = self.scale(scope) if self.scale else 0.0
        return between(gap, scope, scale=largest(right), term=term, eps=rounding(value), error=self.error)

    def wrong(self, value: Any, scope: Scope, function: Function) -> bool:
        """Whether a value of the right shape is not the answer, not even to rounding."""
        return not self.gap(value, scope, function).same

    def relation(self, function: Function, scope: Scope) -> tuple[int, Gap]:
        """Of a line in place of the derivation's own, the worse of its relations to the line before and to the line after.

        Returns: the number of the line whose relation to the one before it is, and how far it is from holding.
        """
        assert self.line is not None
        derivation, k = self.line
        lines = self.placed(function)
        related = [j for j in (k, k + 1) if 1 < j <= len(lines) and lines[j - 1].relation != "so"]
        found = [(j, derivation.step(j, scope, lines)) for j in related]
        return max(found, key=lambda step: (step[1].clear, not step[1].same, step[1].units), default=(k, between(0.0, scope, scale=1.0)))

    def placed(self, function: Function) -> tuple[Line, ...]:
        """The lines of the derivation with a function in the place of the one asked for."""
        assert self.line is not None
        derivation, k = self.line
        return tuple(line.instead(function) if j == k else line for j, line in enumerate(derivation.lines, 1))


def opened(value: Any, free: str) -> Any:
    """A value with what is free taken out of it.

    >>> opened([[1.0, 3.0]], "constant per prompt").tolist()
    [[-1.0, 1.0]]
    """
    a = np.asarray(value, dtype=np.float64)
    if not free or not a.size:
        return a
    on = np.isfinite(a)
    axis = -1 if free == "constant per prompt" and a.ndim else None
    if free == "positive factor":
        return a / max(largest(a), 1e-300)
    count = np.maximum(np.sum(on, axis=axis, keepdims=True), 1)
    return a - np.sum(np.where(on, a, 0.0), axis=axis, keepdims=True) / count


# ---------------------------------------------------------------------------------------------------- where questions come from


@cache  # the same question each time: its answers on the worlds that are kept are then computed once
def of_exercise(exercise: Exercise) -> Question:
    """An exercise as a question."""
    return Question(
        exercise.slug,
        "",
        (exercise.answer,),
        tuple(exercise.misses.items()),
        exercise.applies,
        free=exercise.free,
        without=exercise.without,
        scale=_scale(exercise),
        error=exercise.error,
        others=exercise.others,
        given=exercise.suggested,
    )


@cache
def of_row(row: Row, k: int) -> Question:
    """Part k of a row as a question."""
    sides = tuple(s for s in row.sides.values() if not isinstance(s, Approximately))
    misses = tuple((m.diagnosis, m.wrong) for m in row.near_misses if m.part == k)
    part = row.parts[k]
    free = dict(row.free).get(part, "")
    first = next(iter(row.sides.values()))
    truths = tuple(dict.fromkeys((bare(first), *sides)))
    scale = None if row.scale is None else lambda scope: row.unit(scope, row.truth(scope)[0])[k] / (EPS * roundings(scope))
    pick = k if len(row.parts) > 1 else None
    return Question(row.slug, part, truths, misses, row.applies, pick, free, (), row.most, scale, error_of(first))


@cache
def of_line(derivation: Derivation, k: int) -> Question:
    """Line k of a derivation as a question: any line that keeps the relations to its neighbors is right."""
    line = derivation.lines[k - 1]
    misses = tuple(line.wrong.items())
    return Question(derivation.slug, f"line {k}", (line.value,), misses, derivation.applies, line=(derivation, k))


def _scale(exercise: Exercise) -> Callable[[Scope], float] | None:
    scale = exercise.scale
    return None if scale is None else lambda scope: float(np.max(np.abs(scope.call(scale))))


def questions() -> Iterator[str]:
    """Every name that `check` knows, exercises first."""
    yield from EXERCISES
    yield from PROOFS
    yield from (slug for slug in LEDGER if slug not in EXERCISES)
    yield from (f"{d.slug}/{k}" for d in DERIVATIONS.values() for k in range(1, len(d.lines) + 1))


def find(slug: str, part: int | str | None = None) -> list[Question]:
    """The questions of a name: one, or all parts of a row where no part is named.

    A slug is an exercise's, a row's, or "derivation/line".  Raises InputError with the nearest names.
    """
    slug = slug if slug in EXERCISES else today(slug, LEDGER)
    if part is not None and slug not in LEDGER and (slug in EXERCISES or "/" in slug):
        raise InputError("only a row of the ledger has parts", got=quoted(part), where=slug, remedy="leave the part out")
    if slug in EXERCISES and part is None:
        return [of_exercise(EXERCISES[slug])]
    if slug in LEDGER:
        row = LEDGER[slug]
        return [of_row(row, k) for k in (range(len(row.parts)) if part is None else [_part(row, part)])]
    name, _, number = slug.partition("/")
    name = today(name, DERIVATIONS)
    if name in DERIVATIONS and number.isdigit() and 1 <= int(number) <= len(DERIVATIONS[name].lines):
        return [of_line(DERIVATIONS[name], int(number))]
    remedy = did_you_mean(slug, questions(), "`tabular-rlhf exercises` and `verify --list` show the names")
    raise InputError("what is checked must be an exercise, a row, or derivation/line", got=quoted(slug), remedy=remedy)


def _part(row: Row, part: int | str) -> int:
    if isinstance(part, int) and part in range(len(row.parts)):
        return part
    if part in row.parts:
        return row.parts.index(str(part))
    raise InputError(
        f"the part must be one of {', '.join(map(repr, row.parts))}", got=quoted(part), where=row.slug, remedy="or leave it out"
    )
