r"""What a derivation is: an ordered list of lines, each a formula that is run, and how each stands to the line before.

    Line(tex, reason, relation="=", slips=("beta dropped",), wrong={"forward for reverse KL": "beta*KL(p_star, p)"})

`tex` is what a person reads *and what runs* (`reading`), `reason` the sentence that allows the step.  `slips` are rules of
`formula.slips`, each of which makes a wrong line of this one; `wrong` the lines that readers write in its place beside those: each must be
refuted *at this line*.  A line that cannot be read, or that goes another road to its number, has a `value`, a function of symbols by name
(`tabular_rlhf.symbols`); what it prints is then executed beside it (`prints`).

**Relations** (the table `RELATIONS`).  Two lines may be equal, or only as equal as an argument needs: equal up to a constant in
pi, of the same gradient, with the same maximizer, equal on average over samples, or equal in a limit.  A relation looks at both
lines through one *view* (the value; its differences between policies; its gradient; ...) and measures the gap between what it sees
(`tolerance.py`).  `so` opens a new chain: what is derived from the lines above, not equal to them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np

from tabular_rlhf.autodiff import grad
from tabular_rlhf.errors import InputError
from tabular_rlhf.formula.reading import Reading, told_apart
from tabular_rlhf.ledger.record import LEDGER, Function, fits
from tabular_rlhf.logspace import log_softmax
from tabular_rlhf.optimize import minimize
from tabular_rlhf.registry import Registry
from tabular_rlhf.sampling import population, sample
from tabular_rlhf.symbols import Scope, unknown_names
from tabular_rlhf.tolerance import EPS, Gap, between, distance, largest, rounding, roundings

DRAWS = 4_000
"""Draws with which an expectation is tried."""


@dataclass(frozen=True, eq=False)
class Line:
    """One line of a derivation.

    tex, LaTeX.  reason, why it follows from the line before.  value, a function of symbols by name where the formula does not run.
    relation, a key of RELATIONS.  wrong, diagnosis -> a wrong line, a formula or a function.  slips, mistakes by their
    names.  law: where given, `value` is a table over responses, (P, N) or
    (P, N, ...), and the line is its mean under that law (the name of a log-probability symbol), over prompts too.
    of: the symbol that gradients, constants and maximizers are about.  along: (symbol, values) of a limit.
    error: what a truncated route leaves, as a share of a term, instead of rounding.  foreign: whether it stands in another's place.
    source: the line of the text that it was read from, if it was.
    """

    tex: str
    reason: str = ""
    value: Any = None
    relation: str = "="
    wrong: Mapping[str, Any] = field(default_factory=dict)
    slips: tuple[str, ...] = ()
    law: str | None = None
    of: str = "logits"
    along: tuple[str, tuple[float, ...]] | None = None
    error: float = 0.0
    foreign: bool = False
    source: int = 0

    def __call__(self, scope: Scope) -> Any:
        """The line's value: what its function returns, or the mean of the table that it returns."""
        value = scope.call(self.value)
        return value if self.law is None else mean(scope, self.law, value)

    def read(self, reading: Reading, k: int) -> Line:
        """The same line, line k of a reading, whose formulas are functions."""
        value = reading.value(k) if self.value is None else self.value
        slips = ((words, slipped) for words, _, slipped in reading.mistakes({k - 1: self.slips}))
        wrong = ((words, reading.function(other, k)) for words, other in self.wrong.items())
        return replace(self, value=value, wrong=told_apart((*slips, *wrong), self.tex), slips=())

    def instead(self, value: Function) -> Line:
        """The same line with another function."""
        return replace(self, value=value, foreign=True)


@dataclass(frozen=True, eq=False)
class Kept(Line):
    """A line whose value on one world is computed once: it stands in two relations."""

    at: Scope | None = None

    def __call__(self, scope: Scope) -> Any:
        return self._there if scope is self.at else super().__call__(scope)

    @cached_property
    def _there(self) -> Any:
        assert self.at is not None
        return super().__call__(self.at)


def mean(scope: Scope, law: str, table: Any) -> Any:
    """The exact mean of a table (P, N, ...) over prompts and responses."""
    weight = population(scope.world, scope[law]).weight
    table = np.asarray(table, dtype=np.float64)
    never = (weight == 0).reshape(*weight.shape, *[1] * (table.ndim - 2))  # where it may be 0/0
    return np.einsum("pn,pn...->...", weight, np.where(never, 0.0, table))


# ---------------------------------------------------------------------------------------------------- relations


@dataclass(frozen=True)
class Seen:
    """What a relation sees of two lines: of each what it compares, the largest difference that it does not allow, and the size of both."""

    before: Any
    after: Any
    gap: float
    scale: float


@dataclass(frozen=True)
class Relation:
    """How two lines stand to each other.

    mark, what is printed before the line.  compare, what it sees of them.  view, what that is, in words.  error, of the route to it.
    cost, about how many times it evaluates a line.
    """

    name: str
    mark: str
    meaning: str
    compare: Callable[[Line, Line, Scope], Seen]
    view: str = "value"
    error: float = 0.0
    cost: int = 1


RELATIONS: dict[str, Relation] = {}


def relation(name: str, mark: str, meaning: str, view: str = "value", error: float = 0.0, cost: int = 1) -> Callable[[Any], Any]:
    """Enter the decorated comparison into the table."""

    def enter(compare: Any) -> Any:
        RELATIONS[name] = Relation(name, mark, meaning, compare, view, error, cost)
        return compare

    return enter


def size(*values: Any) -> float:
    """The largest finite entry, at least 1."""
    return max(1.0, largest(*values))


def both(view: Callable[[Line, Scope], Any]) -> Callable[[Line, Line, Scope], Seen]:
    """The distance between two lines seen through one view."""

    def compare(before: Line, after: Line, scope: Scope) -> Seen:
        a, b = view(before, scope), view(after, scope)
        return Seen(a, b, distance(a, b), size(a, b))

    return compare


relation("=", "=", "equal")(both(lambda line, scope: line(scope)))


@relation(">=", "≥", "at least")
def _at_least(before: Line, after: Line, scope: Scope) -> Seen:
    found = _at_most(after, before, scope)
    return Seen(found.after, found.before, found.gap, found.scale)


@relation("<=", "≤", "at most")
def _at_most(before: Line, after: Line, scope: Scope) -> Seen:
    a, b = np.asarray(before(scope), dtype=np.float64), np.asarray(after(scope), dtype=np.float64)
    over = np.where(a == b, 0.0, np.maximum(a, b) - b) if a.shape == b.shape else np.array(np.inf)
    return Seen(a, b, float(np.max(np.where(np.isnan(over), np.inf, over), initial=0.0)), size(a, b))


@relation("up to a constant", "≃", "equal up to a constant: differences agree", "difference between two policies", cost=3)
def _constant(before: Line, after: Line, scope: Scope) -> Seen:
    others = [scope.given(**{after.of: scope.redrawn(after.of, k)}) for k in (1, 2)]
    a, b = (np.array([line(scope) - line(other) for other in others]) for line in (before, after))
    return Seen(a, b, distance(a, b), size(a, b, before(scope), after(scope)))


def gradient(line: Line, scope: Scope) -> Any:
    """The gradient of a line, summed over its entries, in the symbol that it is about; by the gradient core."""
    return grad(lambda x: np.sum(line(scope.given(**{line.of: x}))))(np.asarray(scope[line.of], dtype=np.float64))


relation("same gradient", "∇=", "of the same gradient", "gradient", 1e-9, cost=4)(both(gradient))


def maximizer(line: Line, scope: Scope, sign: float = 1.0) -> Any:
    """The policy (or the centered scores) that makes a line largest, found by ascent from the drawn one."""
    start = np.asarray(scope[line.of], dtype=np.float64)
    found = minimize(lambda x: -sign * np.sum(line(scope.given(**{line.of: x}))), start).x
    if line.of == "logits":
        return np.exp(log_softmax(found))
    return found - np.mean(found, axis=-1, keepdims=True)


relation("same maximizer", "argmax=", "with the same maximizer", "maximizer", 1e-5, cost=40)(both(maximizer))
relation("same minimizer", "argmin=", "with the same minimizer", "minimizer", 1e-5, cost=40)(
    both(lambda line, scope: maximizer(line, scope, -1.0))
)


@relation("in expectation", "=E", "equal on average over samples (exactly, and for samples within five standard errors)", cost=4)
def _in_expectation(before: Line, after: Line, scope: Scope) -> Seen:
    a, b = before(scope), after(scope)
    return Seen(a, b, distance(a, b) if sampled_z(after, scope) <= 5.0 else np.inf, size(a, b))


def sampled_z(line: Line, scope: Scope) -> float:
    """How far the mean of a line's table over draws lies from its exact mean, in exact standard errors: the worst entry.

    Five is the edge of Bernstein's inequality, 5 sqrt(spread/n) + (25/3) largest/n, which an entry of a right line oversteps with
    probability 2 exp(-25/2) at most: where a rare response makes up most of the spread, one draw of it is no evidence.
    """
    assert line.law is not None
    table = np.asarray(scope.call(line.value), dtype=np.float64)
    exact = mean(scope, line.law, table)
    spread = mean(scope, line.law, (table - exact) ** 2)
    possible = population(scope.world, scope[line.law]).weight > 0
    largest = np.max(np.abs(table - exact)[possible], axis=0)
    draws = sample(scope.world, scope[line.law], DRAWS, rng=np.random.default_rng([scope.seed, 5]))
    # a draw that rounding alone moves is no draw: the spread has a floor, the roundings of a sum of all draws among it
    floor = (EPS * (roundings(scope) + DRAWS) * size(table)) ** 2 * DRAWS
    error = np.sqrt((spread + floor) / DRAWS) + (5.0 / 3.0) * largest / DRAWS
    return float(np.max(np.abs(np.mean(draws[table], axis=0) - exact) / error, initial=0.0))


@relation("in the limit", "→", "what the line before tends to", "value near the limit", cost=4)
def _limit(before: Line, after: Line, scope: Scope) -> Seen:
    assert after.along is not None
    name, values = after.along
    limit, near = after(scope), [before(scope.given(**{name: v})) for v in values]
    gaps = [distance(value, limit) for value in near]
    least = max(EPS * roundings(scope), after.error) * size(limit)  # below this a gap may grow: it is rounding, or the route's own error
    return Seen(near[-1], limit, gaps[-1] if gaps[-1] <= max(gaps[0], least) else np.inf, size(limit))


@relation("so", "so", "what follows from the lines above: a new chain begins")
def _so(before: Line, after: Line, scope: Scope) -> Seen:
    value = after(scope)
    return Seen(value, value, 0.0, 1.0)


# ---------------------------------------------------------------------------------------------------- derivations


@dataclass(frozen=True, eq=False)
class Derivation:
    """A derivation: slug, title, chapter, source, the ledger rows that it proves, and its lines.

    where: function of symbols, its hypotheses.  largest: most responses over all prompts for which it is affordable; most: most worlds.
    scale: function of symbols, the size of a term (default: the largest entry compared, at least 1).  formerly: slugs of before.
    letters: what its letters stand for where the notation table says otherwise, "p": "p_star" (see `prints.py`); setting: the laws of a
    mean that names none; averaged, whether all lines are means over prompts, though they do not say it (it is printed above them).

    The slug is that of the first of the rows; a second derivation of a row adds a suffix.  A reader's own has no rows.
    """

    slug: str
    title: str
    chapter: int
    rows: tuple[str, ...]
    source: str
    lines: tuple[Line, ...]
    where: Function | None = None
    largest: int = 4096
    scale: Function | None = None
    formerly: tuple[str, ...] = ()
    most: int = 2**62
    letters: Mapping[str, str] = field(default_factory=dict)
    setting: Mapping[str, str] = field(default_factory=dict)
    averaged: bool = False
    reading: Reading = field(init=False, repr=False)

    def __post_init__(self) -> None:
        starts = accumulate(line.relation == "so" for line in self.lines)
        chains = tuple(
            None if line.value is not None or line.law is not None else start for start, line in zip(starts, self.lines, strict=True)
        )
        tables = frozenset(k for k, line in enumerate(self.lines, 1) if line.law is not None)
        reading = Reading(tuple(line.tex for line in self.lines), chains, self.letters, self.setting, tables, self.averaged)
        object.__setattr__(self, "reading", reading)
        object.__setattr__(self, "lines", tuple(line.read(reading, k) for k, line in enumerate(self.lines, 1)))

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
