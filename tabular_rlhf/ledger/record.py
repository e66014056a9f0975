r"""The records of the ledger: a claim, the sides that must agree, and the near misses that must not.

A row has two or more *sides*, functions of the world's symbols by name.  The first is the closed form; the others reach the
same answer by other roads (the gradient core, another formula, enumeration, a finite difference).  All are compared with the
first.  A side may return one array or a tuple of parts.

**Tolerance.**  Errors are counted in units of what rounding explains in a world (`tolerance`), for terms of a size that the row may state
(`scale`; default: the largest entry compared, at least 1).  Truncated routes (finite differences, iterations) state their own error with
`Approximately`.

**Near misses** are what readers write.  Each must be *refuted*: on some world of at most three responses it differs more than
rounding or a truncated route explains (`Gap.clear`).  A row whose near misses cannot be told from the truth is not a check.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from inspect import CO_VARARGS, CO_VARKEYWORDS, isfunction
from typing import Any

import numpy as np

from tabular_rlhf.errors import InputError, quoted
from tabular_rlhf.ledger.tolerance import EPS, Gap, between, distance, in_units, largest, rounding, roundings
from tabular_rlhf.symbols import Scope, unknown_names

Function = Callable[..., Any]
_STARRED = CO_VARARGS | CO_VARKEYWORDS


@dataclass(frozen=True)
class Approximately:
    """A side that is exact only up to `error` times the scale, by a stated argument (say, the order of a difference)."""

    side: Function
    error: float


@dataclass(frozen=True)
class Miss:
    """A plausible wrong line: its function returns what the reader would compute for one part of the claim."""

    diagnosis: str
    wrong: Function
    part: int = 0


@dataclass(frozen=True)
class Sampled:
    """The claim as an average over samples: the mean of `value` (a (P, N) table) under `law` must be `equals`.

    law: the name of a log-distribution symbol.  equals: the exact answer, averaged over prompts, a scalar.
    """

    law: str
    value: Function
    equals: Function


@dataclass(frozen=True, eq=False)
class Row:
    """One claim of the book.

    slug: public name.  chapter.  statement: LaTeX.  source: where it is from.  sides: name -> function.  misses: diagnosis ->
    function (or Miss).  parts: names of the parts when sides return tuples.  scale: function of symbols, the size of a term.
    largest: most trajectories (all prompts) for which the row is affordable; most: most worlds on which it is run.
    where: function of symbols, where it applies.  free: part -> what a reader's answer may leave open (see exercises/record.py).
    formerly: slugs of before, which still find it.
    """

    slug: str
    chapter: int
    statement: str
    source: str
    sides: Mapping[str, Function | Approximately]
    misses: Mapping[str, Function | Miss]
    parts: tuple[str, ...] = ("",)
    scale: Function | None = None
    sampled: Sampled | None = None
    largest: int = 2**62
    most: int = 2**62
    where: Function | None = None
    note: str = field(default="")
    free: Mapping[str, str] = field(default_factory=dict)
    formerly: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        def require(holds: bool, must: str, got: Any) -> None:
            if not holds:
                raise InputError(must, got=got, where=f"row {self.slug!r}", remedy="see ledger/record.py")

        require(len(self.sides) >= 2, "a row must have at least two sides", len(self.sides))
        require(len(self.misses) >= 2, "a row must ship with at least two near misses", len(self.misses))
        require(bool(self.statement and self.source), "a row must have a statement and a source", self.source)
        beyond = [m.diagnosis for m in self.near_misses if m.part not in range(len(self.parts))]
        require(not beyond, f"a near miss must be of one of the {len(self.parts)} parts", beyond)
        for function in self.functions:
            plain = isfunction(function) and not function.__code__.co_kwonlyargcount and not function.__code__.co_flags & _STARRED
            require(plain, "a function of a row must be a plain one of named symbols, as lambda r: np.sum(r)", repr(function))
            unknown = unknown_names(function)
            require(not unknown, "parameters must be names of symbols", unknown)

    @property
    def functions(self) -> list[Function]:
        """Every function of the row that is called by name."""
        sides = [s.side if isinstance(s, Approximately) else s for s in self.sides.values()]
        sampled = [self.sampled.value, self.sampled.equals] if self.sampled else []
        return sides + [m.wrong for m in self.near_misses] + sampled + [f for f in (self.scale, self.where) if f]

    @cached_property
    def near_misses(self) -> tuple[Miss, ...]:
        return tuple(m if isinstance(m, Miss) else Miss(d, m) for d, m in self.misses.items())

    def applies(self, scope: Scope) -> bool:
        """Whether the claim can be checked in this world: affordable, and within its hypotheses."""
        return fits(scope, self.largest, self.where)

    def evaluate(self, scope: Scope, side: str) -> tuple[Any, ...]:
        """The parts of one side."""
        s = self.sides[side]
        parts = as_parts(scope.call(s.side if isinstance(s, Approximately) else s))
        return self._all_parts(parts, f"side {side!r}")

    def _all_parts(self, parts: tuple[Any, ...], what: str) -> tuple[Any, ...]:
        if len(parts) != len(self.parts):
            must = f"{what} must return {len(self.parts)} parts"
            raise InputError(must, got=len(parts), where=f"row {self.slug!r}", remedy="return a tuple of them, or name them in `parts`")
        return parts

    def unit(self, scope: Scope, parts: Iterable[Any]) -> list[float]:
        """For each part, the error that rounding alone explains."""
        scales = as_parts(scope.call(self.scale)) if self.scale else tuple(max(1.0, largest(x)) for x in parts)
        scales = self._all_parts(scales * len(self.parts) if len(scales) == 1 else scales, "the scale")
        return [float(np.max(np.abs(s), initial=0.0)) * EPS * roundings(scope) for s in scales]

    def truth(self, scope: Scope) -> tuple[tuple[Any, ...], list[float]]:
        """The parts of the first side, with which all else is compared, and the unit of error of each: computed once a scope."""
        if self not in scope.memo:
            right = self.evaluate(scope, next(iter(self.sides)))
            scope.memo[self] = right, self.unit(scope, right)
        return scope.memo[self]

    def gap(self, scope: Scope, part: int, value: Any) -> Gap:
        """How far a value is from the truth of a part."""
        right, unit = self.truth(scope)
        first = next(iter(self.sides.values()))
        error = first.error if isinstance(first, Approximately) else 0.0
        term = unit[part] / (EPS * roundings(scope))
        return between(distance(value, right[part]), scope, scale=largest(right[part]), term=term, eps=rounding(value), error=error)

    def errors(self, scope: Scope) -> dict[str, list[float]]:
        """For each side after the first, the error of each part in units of its tolerance: at most 1 if the claim holds."""
        right, unit = self.truth(scope)
        out = {}
        for name in list(self.sides)[1:]:
            s = self.sides[name]
            widen = s.error / (EPS * roundings(scope)) if isinstance(s, Approximately) else 0.0
            got = self.evaluate(scope, name)
            out[name] = [in_units(distance(a, b), u * max(1.0, widen)) for a, b, u in zip(got, right, unit, strict=True)]
        return out


def as_parts(x: Any) -> tuple[Any, ...]:
    return x if isinstance(x, tuple) else (x,)


def fits(scope: Scope, most: int, where: Function | None) -> bool:
    """Whether a world has at most so many responses, over all prompts, and lies within a hypothesis."""
    mdp = scope.world.mdp
    return mdp.P * mdp.N <= most and (where is None or bool(scope.call(where)))


LEDGER: dict[str, Row] = {}


def add(row: Row) -> Row:
    """Enter a row into the ledger, refusing a second one of the same name."""
    if row.slug in LEDGER:
        raise InputError("a row must have a name of its own", got=quoted(row.slug), remedy="choose another slug")
    LEDGER[row.slug] = row
    return row
