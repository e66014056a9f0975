r"""The records of the ledger: a claim, the sides that must agree, and the near misses that must not.

    claim(
        slug="regret-is-kl",
        text=r'''
        V(x) - J_x = \beta\,\mathrm{KL}(p, p^*)  # for every policy
          slip beta dropped
          not \beta\,\mathrm{KL}(p^*, p)  # forward for reverse KL
        ''',
        sides={"what is given away": 0, "the divergence": 1, "token by token": lambda ...}, ...)

**Clauses are what is printed, and what runs.**  A row's statement is its clauses, formulas with their relations, and words beside them.
Every relation of every clause is executed; a clause for each part of the answer, if it has several.

A row has two or more *sides*.  The first is the closed form; the others reach the same answer by other roads (the gradient core,
another formula, enumeration, a finite difference).  All are compared with the first.  A side is the number of a side of the clauses,
from 0; or a formula, one for each part; or, where it is another road, a function of the world's symbols by name, which returns one array
or a tuple of parts.

**Tolerance.**  Errors are counted in units of what rounding explains in a world (`tolerance`), for terms of a size that the row may state
(`scale`; default: the largest entry compared, at least 1).  Truncated routes (finite differences, iterations) state their own error with
`Approximately`.

**Near misses** are what readers write: `slips` of the last side of a clause, by the names that their rules give them (`formula.slips`),
or formulas, or functions.  Each must be *refuted*: on some world of at most three responses it differs more than
rounding or a truncated route explains (`Gap.clear`).  A row whose near misses cannot be told from the truth is not a check.

Slugs that changed: a record keeps the names that it once bore, and whoever asks by an old one is told the new.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from inspect import CO_VARARGS, CO_VARKEYWORDS, isfunction
from typing import Any, Protocol

import numpy as np

from tabular_rlhf.errors import InputError, quoted
from tabular_rlhf.formula.reading import Reading, Slips, told_apart
from tabular_rlhf.formula.written import written
from tabular_rlhf.registry import Registry, entered, settle
from tabular_rlhf.symbols import Scope, is_formula, unknown_names
from tabular_rlhf.tolerance import EPS, Gap, between, distance, in_units, largest, rounding, roundings

Function = Callable[..., Any]
SLUG = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
CHAPTERS = range(1, 11)
_STARRED = CO_VARARGS | CO_VARKEYWORDS


@dataclass(frozen=True)
class Approximately:
    """A side that is exact only up to `error` times the scale, by a stated argument (say, the order of a difference)."""

    side: Function
    error: float


def bare(side: Any) -> Function:
    """A side as a function."""
    return side.side if isinstance(side, Approximately) else side


def error_of(side: Any) -> float:
    """What a side leaves, as a share of the scale."""
    return side.error if isinstance(side, Approximately) else 0.0


@dataclass(frozen=True)
class Miss:
    """A plausible wrong line: what the reader would compute for one part of the claim; diagnosis, what it is called."""

    wrong: Any
    part: int = 0
    diagnosis: str = ""


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

    slug: public name.  chapter.  text: the clauses, words on them, letters, slips and wrong formulas, as the book writes them
    (`formula.written`), each mistake below the clause of its part; or each by itself: clauses: LaTeX that runs, words: what is said beside
    them; statement: both, or LaTeX that does not run.
    source: where it is from.  sides: name -> see above.  slips: mistakes by name, of the first clause, or by the number of the part.
    misses: diagnosis -> formula, function, or Miss.  letters: what those of the clauses stand for, where the notation says otherwise.
    parts: names of the parts when sides have several.  scale: function of symbols, the size of a term.
    largest: most trajectories (all prompts) for which the row is affordable; most: most worlds on which it is run.
    where: function of symbols, where it applies.  free: part -> what a reader's answer may leave open (see exercises/record.py).
    formerly: slugs of before, which still find it.
    """

    slug: str
    chapter: int
    source: str
    sides: Mapping[str, Any]
    misses: Mapping[str, Any] = field(default_factory=dict)
    statement: str = ""
    clauses: tuple[str, ...] = ()
    words: str = ""
    letters: Mapping[str, str] = field(default_factory=dict)
    slips: Slips = ()
    parts: tuple[str, ...] = ("",)
    scale: Function | None = None
    sampled: Sampled | None = None
    largest: int = 2**62
    most: int = 2**62
    where: Function | None = None
    note: str = field(default="")
    free: Mapping[str, str] = field(default_factory=dict)
    formerly: tuple[str, ...] = ()
    text: str = ""

    def __post_init__(self) -> None:
        if self.text:
            letters, found = written(self.text, f"row {self.slug!r}")
            wrong = {words: Miss(formula, k) for k, clause in enumerate(found) for words, formula in clause.wrong.items()}
            settle(
                self,
                letters={**self.letters, **letters},
                clauses=tuple(clause.formula for clause in found),
                words=" ".join(clause.words for clause in found if clause.words),
                slips={k: clause.slips for k, clause in enumerate(found)},
                misses={**wrong, **self.misses},
                text="",
            )

        def require(holds: bool, must: str, got: Any) -> None:
            if not holds:
                raise InputError(must, got=got, where=f"row {self.slug!r}", remedy="see ledger/record.py")

        if self.clauses:
            said = rf" \quad \text{{{self.words}}}" if self.words else ""
            settle(self, statement=r", \qquad ".join(self.clauses) + said)
        printed = [side for side in self.sides.values() if isinstance(side, int | str)]
        require(len(set(printed)) == len(printed), "sides must be different ones", ", ".join(map(str, printed)))
        near_misses = told_apart(self._near_misses(), f"row {self.slug!r}")
        settle(self, sides={name: self._side(side) for name, side in self.sides.items()}, misses=near_misses, slips=())
        require(bool(SLUG.fullmatch(self.slug)), "a slug must be words joined by -", quoted(self.slug))
        require(self.chapter in CHAPTERS, f"the chapter must be one of {CHAPTERS[0]} to {CHAPTERS[-1]}", self.chapter)
        require(len(self.sides) >= 2, "a row must have at least two sides", len(self.sides))
        require(len(self.misses) >= 2, "a row must ship with at least two near misses", len(self.misses))
        require(bool(self.statement and self.source), "a row must have a statement and a source", self.source)
        beyond = [m.diagnosis for m in self.near_misses if m.part not in range(len(self.parts))]
        require(not beyond, f"a near miss must be of one of the {len(self.parts)} parts", beyond)
        for function in self.functions:
            if is_formula(function):
                continue
            plain = isfunction(function) and not function.__code__.co_kwonlyargcount and not function.__code__.co_flags & _STARRED
            require(plain, "a function of a row must be a plain one of named symbols, as lambda r: np.sum(r)", repr(function))
            unknown = unknown_names(function)
            require(not unknown, "parameters must be names of symbols", unknown)

    @cached_property
    def reading(self) -> Reading:
        """The clauses, read."""
        texts = self.clauses or (self.statement,)
        return Reading(texts, tuple(range(len(texts))), self.letters, name=f"row {self.slug!r}, clause")

    def _side(self, side: Any, k: int = 0) -> Any:
        """A side as a function, of part k (from 1; 0: of all); a number stands for that side of the clause of every part."""
        every = isinstance(side, int) and not k and len(self.parts) > 1
        return self.reading.function((side,) * len(self.parts) if every else side, k)

    def _near_misses(self) -> Iterator[tuple[str, Miss]]:
        """Every near miss as a function, by what it is called."""
        for words, k, slipped in self.reading.mistakes(self.slips, self.parts):
            yield words, Miss(slipped, k, words)
        for words, miss in self.misses.items():
            made = miss if isinstance(miss, Miss) else Miss(miss)
            yield words, Miss(self._side(made.wrong, made.part + 1), made.part, words)

    @property
    def functions(self) -> list[Function]:
        """Every function of the row that is called by name."""
        sides = [bare(side) for side in self.sides.values()]
        sampled = [self.sampled.value, self.sampled.equals] if self.sampled else []
        return sides + [m.wrong for m in self.near_misses] + sampled + [f for f in (self.scale, self.where) if f]

    @property
    def near_misses(self) -> tuple[Miss, ...]:
        return tuple(self.misses.values())

    def applies(self, scope: Scope) -> bool:
        """Whether the claim can be checked in this world: affordable, and within its hypotheses."""
        return fits(scope, self.largest, self.where)

    def evaluate(self, scope: Scope, side: str) -> tuple[Any, ...]:
        """The parts of one side."""
        return self._all_parts(as_parts(scope.call(bare(self.sides[side]))), f"side {side!r}")

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
        value = filled(value, right[part], scope)
        error, term = error_of(next(iter(self.sides.values()))), unit[part] / (EPS * roundings(scope))
        return between(distance(value, right[part]), scope, scale=largest(right[part]), term=term, eps=rounding(value), error=error)

    def errors(self, scope: Scope) -> dict[str, list[float]]:
        """For each side after the first, the error of each part in units of its tolerance: at most 1 if the claim holds."""
        right, unit = self.truth(scope)
        out = {}
        for name in list(self.sides)[1:]:
            widen = error_of(self.sides[name]) / (EPS * roundings(scope))
            got = self.evaluate(scope, name)
            found = [distance(filled(a, b, scope), b) for a, b in zip(got, right, strict=True)]
            out[name] = [in_units(gap, u * max(1.0, widen)) for gap, u in zip(found, unit, strict=True)]
        return out


def filled(value: Any, right: Any, scope: Scope) -> Any:
    """A table over responses in which what is undefined (0/0) at a response that the reference forbids is as it should be."""
    a, b = np.asarray(value), np.asarray(right)
    forbidden = np.isneginf(scope["log_p_ref"])
    if not forbidden.any() or a.shape != b.shape or a.shape[:2] != forbidden.shape:
        return value
    return np.where(np.isnan(a) & forbidden.reshape(*forbidden.shape, *[1] * (a.ndim - 2)), b, a)


def as_parts(x: Any) -> tuple[Any, ...]:
    return x if isinstance(x, tuple) else (x,)


def fits(scope: Scope, most: int, where: Function | None) -> bool:
    """Whether a world has at most so many responses, over all prompts, and lies within a hypothesis."""
    return scope.world.responses <= most and (where is None or bool(scope.call(where)))


LEDGER: Registry[Row] = Registry("row", key="slug")
claim = entered(Row, LEDGER.add)
"""A claim of the book, entered."""


# ---------------------------------------------------------------------------------------------------- slugs that changed


class Slugged(Protocol):
    """A row or a derivation: its slug, and its slugs of before."""

    @property
    def slug(self) -> str: ...
    @property
    def formerly(self) -> tuple[str, ...]: ...


def today(slug: str, records: Mapping[str, Slugged]) -> str:
    """What a slug is called now: itself, or the slug of the record that once bore it, with a FutureWarning that says so.

    >>> from tabular_rlhf.derivations import DERIVATIONS
    >>> today("dpo-loss", DERIVATIONS), today("nothing", DERIVATIONS)
    ('dpo-loss', 'nothing')
    """
    if slug in records:
        return slug
    for record in records.values():
        if slug in record.formerly:
            warnings.warn(f"the {type(record).__name__.lower()} {slug} is now {record.slug}", FutureWarning, stacklevel=3)
            return record.slug
    return slug
