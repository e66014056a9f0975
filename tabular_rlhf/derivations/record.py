r"""What a derivation is: an ordered list of lines (`lines.py`), each a formula that is run, and how each stands to the line before.

    = \beta \log Z - \beta\,\mathrm{KL}(p, p^*)  # That mean is the reverse KL.
      slip arguments of KL swapped
      not \beta \log Z - \mathrm{KL}(p, p^*)  # beta dropped

The formula is what a person reads *and what runs* (`reading`), the words behind it are the reason that allows the step.  `slip` names rules
of `formula.slips`, each of which makes a wrong line of this one; `not` the lines that readers write in its place beside those: each must be
refuted *at this line*.  A line that cannot be read, or that goes another road to its number, has a `value`, a function of symbols by name
(`tabular_rlhf.symbols`); what it prints is then executed beside it (`prints`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np

from tabular_rlhf.derivations.lines import OPTIONS, RELATIONS, Line, Seen
from tabular_rlhf.errors import InputError
from tabular_rlhf.formula.reading import Reading
from tabular_rlhf.formula.written import written
from tabular_rlhf.ledger.record import LEDGER, Function, fits
from tabular_rlhf.registry import Registry, entered, settle
from tabular_rlhf.symbols import Scope, unknown_names
from tabular_rlhf.tolerance import Gap, between, rounding


@dataclass(frozen=True, eq=False)
class Derivation:
    """A derivation: slug, title, chapter, source, the ledger rows that it proves, and its lines.

    where: function of symbols, its hypotheses.  largest: most responses over all prompts for which it is affordable; most: most worlds.
    scale: function of symbols, the size of a term (default: the largest entry compared, at least 1).  formerly: slugs of before.
    letters: what its letters stand for where the notation table says otherwise, "p": "p_star" (see `prints.py`); setting: the laws of a
    mean that names none; averaged, whether all lines are means over prompts, though they do not say it (it is printed above them).

    The slug is that of the first of the rows; a second derivation of a row adds a suffix.  A reader's own has no rows.
    text: letters and lines as the book writes them (`formula.written`); named: the functions that it names.
    """

    slug: str
    title: str
    chapter: int
    rows: tuple[str, ...]
    source: str
    lines: tuple[Line, ...] = ()
    where: Function | None = None
    largest: int = 4096
    scale: Function | None = None
    formerly: tuple[str, ...] = ()
    most: int = 2**62
    letters: Mapping[str, str] = field(default_factory=dict)
    setting: Mapping[str, str] = field(default_factory=dict)
    averaged: bool = False
    text: str = ""
    named: Mapping[str, Function] = field(default_factory=dict)
    reading: Reading = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.text:
            letters, lines = written(self.text, f"derivation {self.slug!r}", relations=RELATIONS, options=OPTIONS, named=self.named)
            settle(self, letters={**self.letters, **letters}, lines=tuple(map(Line.of_text, lines)), text="", named={})
        starts = accumulate(line.relation == "so" for line in self.lines)
        chains = tuple(
            None if line.value is not None or line.law is not None else start for start, line in zip(starts, self.lines, strict=True)
        )
        tables = frozenset(k for k, line in enumerate(self.lines, 1) if line.law is not None)
        name = f"derivation {self.slug!r}, line" if self.rows else ""  # a reader's own chain counts its lines otherwise
        reading = Reading(tuple(line.tex for line in self.lines), chains, self.letters, self.setting, tables, self.averaged, name)
        settle(self, reading=reading, lines=tuple(line.read(reading, k) for k, line in enumerate(self.lines, 1)))

        def require(holds: bool, must: str, got: Any) -> None:
            if not holds:
                raise InputError(must, got=got, where=f"derivation {self.slug!r}", remedy="see derivations/record.py")

        if self.rows:
            self._belongs(require)
        for k, line in enumerate(self.lines[1:], 2):
            require(line.relation in RELATIONS, f"the relation of line {k} must be one of {', '.join(RELATIONS)}", line.relation)
            require(line.relation != "in expectation" or line.law is not None, f"line {k} must name its law", line.law)
            require(line.relation != "in the limit" or line.along is not None, f"line {k} must say along what", line.along)
        for function in self.functions:
            unknown = unknown_names(function)
            require(not unknown, "parameters must be names of symbols", unknown)

    def _belongs(self, require: Callable[[bool, str, Any], None]) -> None:
        """What a derivation of the book must be."""
        require(4 <= len(self.lines) <= 12, "a derivation must have 4 to 12 lines", len(self.lines))
        wrong = sum(len(line.wrong) for line in self.lines)
        require(wrong >= 2, "a derivation must have at least two wrong lines", wrong)
        require(bool(self.title and self.source), "a derivation must have a title and a source", self.title)
        require(all(row in LEDGER for row in self.rows), "rows must be in the ledger", self.rows)
        own = f"{self.slug}-".startswith(f"{self.rows[0]}-")
        require(own, "the slug must be that of the first row, or begin with it and a hyphen", self.rows[0])
        require(not self.lines[0].wrong, "the first line must have no wrong lines: nothing stands before it", self.lines[0].wrong)
        for k, line in enumerate(self.lines[1:], 2):
            require(bool(line.reason), f"line {k} must have a reason", line.reason)
            require(line.relation != "so" or not line.wrong, f"line {k} opens a chain: a wrong line there cannot be refuted", line.wrong)

    @property
    def declared(self) -> dict[str, str]:
        """What is printed above the lines: what letters stand for, and what all lines are."""
        return {**self.letters, **({"every line": "a mean over prompts"} if self.averaged else {})}

    @property
    def functions(self) -> list[Function]:
        """Every function of the derivation that is called by name."""
        lines = [f for line in self.lines for f in (line.value, *line.wrong.values())]
        return lines + [f for f in (self.where, self.scale) if f]

    def applies(self, scope: Scope) -> bool:
        """Whether it can be executed in this world: affordable, and within its hypotheses."""
        return fits(scope, self.largest, self.where)

    def seen(self, k: int, scope: Scope, lines: tuple[Line, ...] | None = None) -> Seen:
        """What the relation of line k (counted from 1) sees of that line and of the one before."""
        before, after = (lines or self.lines)[k - 2 : k]
        return RELATIONS[after.relation].compare(before, after, scope)

    def step(self, k: int, scope: Scope, lines: tuple[Line, ...] | None = None) -> Gap:
        """The gap between line k and the one before."""
        lines = lines or self.lines
        found, after = self.seen(k, scope, lines), lines[k - 1]
        term = float(np.max(np.abs(scope.call(self.scale)))) if self.scale else 0.0
        foreign = [line(scope) for line in lines[k - 2 : k] if line.foreign]  # it may be of coarser numbers than ours
        error = max(RELATIONS[after.relation].error, after.error)
        return between(found.gap, scope, scale=found.scale, term=term, eps=rounding(*foreign), error=error)


DERIVATIONS: Registry[Derivation] = Registry("derivation", key="slug")


def add(derivation: Derivation) -> Derivation:
    """Enter a derivation of the book: it must say what it proves."""
    if not derivation.rows:
        raise InputError("a derivation of the book must name its rows", got="none", where=derivation.slug, remedy="name what it proves")
    return DERIVATIONS.add(derivation)


derivation = entered(Derivation, add)
"""A derivation of the book, entered."""
