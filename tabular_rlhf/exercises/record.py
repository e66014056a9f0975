"""What an exercise is: a statement, the names a reader may use, a reference answer, and the wrong answers that readers give."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from tabular_rlhf.errors import InputError, nearest
from tabular_rlhf.exercises.conventions import Other, others
from tabular_rlhf.ledger.record import LEDGER, Function, fits
from tabular_rlhf.registry import Registry, one_of
from tabular_rlhf.symbols import SYMBOLS, Scope, parameters, unknown_names

FREE = ("", "constant per prompt", "constant", "positive factor")
"""What an answer may leave open: nothing, an additive constant for each prompt, one constant, one positive factor."""
FORBIDDEN = {"allowed": "", "refused": "(The reference forbids no token: every response has positive probability.)"}
"""Whether an exercise is asked where the reference forbids tokens, and what its statement says of it."""


@dataclass(frozen=True, eq=False)
class Exercise:
    """One exercise.

    slug: its name; a submission's function is named alike, `-` turned into `_`.  chapter, title.  notebook: where it belongs,
    as "04"; "" for one that stands in none.  statement: Markdown with LaTeX, says what to return, its shape and unit.  hint.
    rows: ledger rows behind it.
    answer: the reference, a function of symbols by name (it may return another one, if a function is asked for); its parameters are the
    suggested signature (a reader may use others).
    misses: diagnosis -> wrong answer, at least three.  free: what the answer leaves open, one of FREE.
    without: symbols that would give the answer away.  where, largest, scale: as of a row of the ledger.
    error: how far an answer may be off, as a share of its size, where the statement asks for so many decimals and not for the exact answer.
    forbidden: "allowed" if it is asked of references that forbid tokens too (an answer that fails there is wrong), else "refused".
    conventions, also, under: what an answer may choose, other answers that are right by a choice of theirs, and the wrong answers that go
    with such a choice (`exercises.conventions`).
    """

    slug: str
    chapter: int
    notebook: str
    title: str
    statement: str
    hint: str
    rows: tuple[str, ...]
    answer: Function
    misses: Mapping[str, Function]
    free: str = ""
    without: tuple[str, ...] = ()
    where: Function | None = None
    largest: int = 4096
    scale: Function | None = None
    error: float = 0.0
    minutes: int = 10
    forbidden: str = "allowed"
    conventions: tuple[str, ...] = ()
    also: Mapping[str, Function] = field(default_factory=dict)
    under: Mapping[str, Mapping[str, Function]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        def require(holds: bool, must: str, got: Any) -> None:
            if not holds:
                raise InputError(must, got=got, where=f"exercise {self.slug!r}", remedy="see exercises/record.py")

        require(bool(re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", self.slug)), "a slug must be words joined by -", self.slug)
        require(
            all((self.title, self.statement, self.hint, self.rows)), "an exercise must have title, statement, hint and rows", self.title
        )
        require(len(self.misses) >= 3, "an exercise must ship with at least three wrong answers", len(self.misses))
        require(self.free in FREE, f"what is free must be one of {FREE}", self.free)
        require(self.forbidden in FORBIDDEN, f"`forbidden` must be one of {', '.join(FORBIDDEN)}", self.forbidden)
        require(all(row in LEDGER for row in self.rows), "rows must be in the ledger", self.rows)
        wrong = (miss for misses in (self.misses, *self.under.values()) for miss in misses.values())
        for function in (self.answer, *wrong, *self.also.values(), *(f for f in (self.where, self.scale) if f)):
            unknown = unknown_names(function)
            require(not unknown, "parameters must be names of symbols", ", ".join(map(near, unknown)))
        _ = self.others  # a convention that is none is refused here

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

    @property
    def name(self) -> str:
        """The name of a submission's function."""
        return self.slug.replace("-", "_")

    @cached_property
    def signature(self) -> str:
        """The suggested first line of an answer.

        >>> from tabular_rlhf.exercises import EXERCISES
        >>> EXERCISES["regret"].signature
        'def regret(beta, log_p, log_p_star):'
        """
        return f"def {self.name}({', '.join(parameters(self.answer))}):"


def near(name: str) -> str:
    """An unknown name, with the symbols that are nearest to it.

    >>> near("valeu")
    'valeu (did you mean value?)'
    """
    close = nearest(name, SYMBOLS)
    return f"{name} (did you mean {' or '.join(close)}?)" if close else name


EXERCISES: Registry[Exercise] = Registry("exercise", key="slug")
add = EXERCISES.add


def find(slug: str) -> Exercise:
    """The exercise of a name.  Raises InputError with the nearest names."""
    return EXERCISES[one_of(EXERCISES, slug, "an exercise must be in the table", remedy="`tabular-rlhf exercises` lists them")]
