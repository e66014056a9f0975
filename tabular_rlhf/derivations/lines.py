r"""A line of a derivation, a formula that is run, and how it stands to the line before.

**Relations** (the table `RELATIONS`).  Two lines may be equal, or only as equal as an argument needs: equal up to a constant in
pi, of the same gradient, with the same maximizer, equal on average over samples, or equal in a limit.  A relation looks at both
lines through one *view* (the value; its differences between policies; its gradient; ...) and measures the gap between what it sees
(`tolerance.py`).  `so` opens a new chain: what is derived from the lines above, not equal to them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from tabular_rlhf.autodiff import grad
from tabular_rlhf.formula.reading import Reading, told_apart
from tabular_rlhf.formula.written import Written
from tabular_rlhf.ledger.record import Function
from tabular_rlhf.logspace import log_softmax
from tabular_rlhf.optimize import minimize
from tabular_rlhf.sampling import population, sample
from tabular_rlhf.symbols import Scope
from tabular_rlhf.tolerance import EPS, distance, largest, roundings

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

    @classmethod
    def of_text(cls, said: Written) -> Line:
        """The line that a text of the book says."""
        options = {name: OPTIONS[name](value) for name, value in said.options.items()}
        return cls(said.formula, said.words, relation=said.relation or "=", wrong=said.wrong, slips=said.slips, **options)

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


def _along(said: str) -> tuple[str, tuple[float, ...]]:
    name, *values = said.split()
    return name, tuple(map(float, values))


OPTIONS: dict[str, Callable[[Any], Any]] = {"value": lambda f: f, "law": str, "of": str, "along": _along, "error": float}
"""What a text may say of a line, and how it is read."""


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
