"""What an exercise is: a statement, the names a reader may use, a reference answer, and the wrong answers that readers give."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from tabular_rlhf.errors import InputError, nearest
from tabular_rlhf.exercises.conventions import Other, others
from tabular_rlhf.formula.printed import Stacked
from tabular_rlhf.formula.reading import Clause, Reading, Slips, told_apart
from tabular_rlhf.formula.written import written
from tabular_rlhf.ledger.record import CHAPTERS, LEDGER, SLUG, Function, fits
from tabular_rlhf.registry import Registry, entered, one_of, settle
from tabular_rlhf.symbols import SYMBOLS, Scope, is_formula, parameters, unknown_names

FREE = ("", "constant per prompt", "constant", "positive factor")
"""What an answer may leave open: nothing, an additive constant for each prompt, one constant, one positive factor."""
FORBIDDEN = {"allowed": "", "refused": "(The reference forbids no token: every response has positive probability.)"}
"""Whether an exercise is asked where the reference forbids tokens, and what its statement says of it."""

GIBBS = {"gibbs(z)": "p_ref*exp(z)/sum_tau p_ref*exp(z)"}
"""A letter for formulas: the reference, tilted by exp(z)."""


@dataclass(frozen=True, eq=False)
class Asked:
    """What all exercises say.

    slug: its name; a submission's function is named alike, `-` turned into `_`.  chapter, title.  notebook: where it belongs,
    as "04"; "" for one that stands in none.  statement: Markdown with LaTeX.  hint.  rows: ledger rows behind it.
    """

    slug: str
    chapter: int
    notebook: str
    title: str
    statement: str
    hint: str
    rows: tuple[str, ...]

    def __post_init__(self) -> None:
        self.require(bool(SLUG.fullmatch(self.slug)), "a slug must be words joined by -", self.slug)
        self.require(self.chapter in CHAPTERS, f"the chapter must be one of {CHAPTERS[0]} to {CHAPTERS[-1]}", self.chapter)
        said = all((self.title, self.statement, self.hint, self.rows))
        self.require(said, "an exercise must have title, statement, hint and rows", self.title)
        self.require(all(row in LEDGER for row in self.rows), "rows must be in the ledger", self.rows)

    def require(self, holds: bool, must: str, got: Any) -> None:
        """Refuse the record where something does not hold of it."""
        if not holds:
            kind = type(self).__name__.lower()
            raise InputError(must, got=got, where=f"{kind} {self.slug!r}", remedy=f"see {type(self).__module__}")

    @property
    def name(self) -> str:
        """The name of a submission's function."""
        return self.slug.replace("-", "_")


@dataclass(frozen=True, eq=False)
class Exercise(Asked):
    r"""One exercise that asks for a number or a table; its statement says what to return, its shape and unit.

        text=r'''
        \beta\,\mathrm{KL}(p, p^*)
          slip beta dropped
          not \beta\,\mathrm{KL}(p^*, p)  # forward for reverse KL
        '''

    text: the answer, a formula or one for each row of it, letters, slips and wrong formulas, as the book writes them (`formula.written`).
    Or else
    answer: a formula; a side of the first of its rows, by number as in a row, or as `Clause(2, 1)` where it is not of the first clause;
    several of these, a row each; or a function of symbols by name (it may return another one, if a function is asked for).
    slips: mistakes in it by name (`formula.slips`), of several formulas by their number.  misses: diagnosis -> wrong answer, written alike.
    letters: what those of the formulas stand for, where the notation says otherwise.
    given: the parameters that are suggested (a reader may use others), where they are not the symbols of the answer.
    free: what the answer leaves open, one of FREE.
    without: symbols that would give the answer away.  where, largest, scale: as of a row of the ledger.
    error: how far an answer may be off, as a share of its size, where the statement asks for so many decimals and not for the exact answer.
    forbidden: "allowed" if it is asked of references that forbid tokens too (an answer that fails there is wrong), else "refused".
    conventions, also, under: what an answer may choose, other answers that are right by a choice of theirs, and the wrong answers that go
    with such a choice (`exercises.conventions`).
    """

    answer: Any = None
    misses: Mapping[str, Any] = field(default_factory=dict)
    slips: Slips = ()
    letters: Mapping[str, str] = field(default_factory=dict)
    given: tuple[str, ...] = ()
    free: str = ""
    without: tuple[str, ...] = ()
    where: Function | None = None
    largest: int = 4096
    scale: Function | None = None
    error: float = 0.0
    minutes: int = 10
    forbidden: str = "allowed"
    conventions: tuple[str, ...] = ()
    also: Mapping[str, Any] = field(default_factory=dict)
    under: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    text: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.text:
            letters, found = written(self.text, f"exercise {self.slug!r}")
            miswritten = {words: formula for said in found for words, formula in said.wrong.items()}
            settle(
                self,
                letters={**self.letters, **letters},
                answer=found[0].formula if len(found) == 1 else tuple(said.formula for said in found),
                slips={k: said.slips for k, said in enumerate(found)},
                misses={**miswritten, **self.misses},
                text="",
            )
        reading, lines = self._stands()
        settle(
            self,
            misses=told_apart(self._near_misses(reading, lines), f"exercise {self.slug!r}"),
            also={words: reading.function(other, several=Stacked) for words, other in self.also.items()},
            under={
                choice: {words: reading.function(wrong, several=Stacked) for words, wrong in misses.items()}
                for choice, misses in self.under.items()
            },
            answer=reading.function(self.answer, several=Stacked),
            slips=(),
        )
        self.require(len(self.misses) >= 3, "an exercise must ship with at least three wrong answers", len(self.misses))
        foreign = [name for name in self.given if name not in SYMBOLS]
        self.require(not foreign, "suggested parameters must be names of symbols", ", ".join(map(near, foreign)))
        self.require(self.free in FREE, f"what is free must be one of {FREE}", self.free)
        self.require(self.forbidden in FORBIDDEN, f"`forbidden` must be one of {', '.join(FORBIDDEN)}", self.forbidden)
        wrong = (miss for misses in (self.misses, *self.under.values()) for miss in misses.values())
        for function in (self.answer, *wrong, *self.also.values(), *(f for f in (self.where, self.scale) if f)):
            unknown = unknown_names(function)
            self.require(not unknown, "parameters must be names of symbols", ", ".join(map(near, unknown)))
        _ = self.others  # a convention that is none is refused here

    def _stands(self) -> tuple[Reading, tuple[Clause, ...]]:
        """What the formulas are read in, the answer's own or the clauses of the row that holds it; and where there the answer stands."""
        parts = self.answer if isinstance(self.answer, tuple) else (self.answer,)
        if all(isinstance(part, int | Clause) for part in parts):
            return LEDGER[self.rows[0]].reading, tuple(Clause(1, part) if isinstance(part, int) else part for part in parts)
        texts = tuple(part for part in parts if isinstance(part, str))
        return Reading(texts, (0,) * len(texts), self.letters, name=f"exercise {self.slug!r}, formula"), tuple(
            map(Clause, range(1, len(texts) + 1))
        )

    def _near_misses(self, reading: Reading, lines: tuple[Clause, ...]) -> Iterator[tuple[str, Any]]:
        """Every near miss as a function, by what it is called."""
        right = tuple(map(reading.function, lines))
        for words, k, slipped in reading.mistakes(self.slips, [f"row {k}" for k in range(1, len(lines) + 1)], lines):
            yield words, Stacked((*right[:k], slipped, *right[k + 1 :])) if isinstance(self.answer, tuple) else slipped
        for words, wrong in self.misses.items():
            yield words, reading.function(wrong, lines[0].number if lines else 0, Stacked)

    def applies(self, scope: Scope) -> bool:
        """Whether it can be asked in this world: affordable, and within its hypotheses."""
        refused = self.forbidden == "refused" and np.isneginf(scope.world.log_ref).any()
        return not refused and fits(scope, self.largest, self.where)

    @cached_property
    def others(self) -> tuple[Other, ...]:
        """Answers that are as right as the reference, each by a choice in words."""
        return tuple(others(self.answer, self.misses, self.conventions, self.also, self.under))

    @property
    def asked(self) -> str:
        """The statement with the domain on which an answer is judged, and what it may choose."""
        chosen = (*self.conventions, *self.also)
        free = f"You choose: {', '.join(chosen)}." if chosen else ""
        return " ".join(filter(None, (self.statement, FORBIDDEN[self.forbidden], free)))

    @cached_property
    def suggested(self) -> tuple[str, ...]:
        """The parameters that are suggested: the symbols of the answer, those of a formula in the order in which they occur in it; where it
        may be computed from a law or from its logarithm, as the statement calls it."""
        asked = parameters(self.answer)
        return self.given or tuple(n for n in asked if not is_formula(self.answer) or self._called(n, asked))

    def _called(self, name: str, asked: tuple[str, ...]) -> bool:
        other = name.removeprefix("log_") if name.startswith("log_") else f"log_{name}"
        if other not in asked:
            return True
        said = [f"`{n}`" in self.statement for n in (name, other)]
        return said[0] if any(said) else other.startswith("log_")

    @cached_property
    def signature(self) -> str:
        """The suggested first line of an answer.

        >>> from tabular_rlhf.exercises import EXERCISES
        >>> EXERCISES["regret"].signature
        'def regret(beta, log_p, log_p_star):'
        """
        return f"def {self.name}({', '.join(self.suggested)}):"


def near(name: str) -> str:
    """An unknown name, with the symbols that are nearest to it.

    >>> near("valeu")
    'valeu (did you mean value?)'
    """
    close = nearest(name, SYMBOLS)
    return f"{name} (did you mean {' or '.join(close)}?)" if close else name


EXERCISES: Registry[Exercise] = Registry("exercise", key="slug")
exercise = entered(Exercise, EXERCISES.add)
"""An exercise of the book, entered."""


def find(slug: str) -> Exercise:
    """The exercise of a name.  Raises InputError with the nearest names."""
    return EXERCISES[one_of(EXERCISES, slug, "an exercise must be in the table", remedy="`tabular-rlhf exercises` lists them")]


add = EXERCISES.add
