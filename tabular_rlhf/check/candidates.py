"""The mistakes that an answer is compared with, simplest first: each is words, and a claim that can be executed on any world.

1. the wrong answers that come with the question;
2. the right answer seen through a common slip: sign, factor, logarithm, transposition, normalization (`slips.OUTPUTS` and `FACTORS`);
3. the right formula with one of its symbols changed: omitted, inverted, exchanged with another (`changes`);
4. the reader's own formula with one of its symbols changed, which would then be right: what to mend;
5. another quantity of the notation, returned in place of the one asked for;
6. the right formula spoiled on the inside: another tool, or a symbol changed in one place only (`spoil`);
7. another quantity left over or missing, as a term or a factor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np

from tabular_rlhf.check.calling import Through, supply
from tabular_rlhf.check.quantities import QUANTITIES
from tabular_rlhf.check.question import Function, Question, opened
from tabular_rlhf.check.slips import COSTLY, FACTORS, OTHER_WORLDS, OUTPUTS, Change, changes, mends
from tabular_rlhf.check.spoil import retooled, single_uses
from tabular_rlhf.check.trial import Probe
from tabular_rlhf.formula.printed import Printed, Together
from tabular_rlhf.ledger.record import as_parts
from tabular_rlhf.symbols import SYMBOLS, Scope, is_formula
from tabular_rlhf.tolerance import rounding

Value = Callable[[Scope], Any]
Claim = Callable[[Scope, Any, Any], bool | None]
"""Of a world, the answer's value on it and the right one: whether what is said is so there; None where it says nothing."""
Candidate = tuple[str, Claim]


ALIKE = 1e-8
"""The share of its size to which an answer is a candidate: nobody makes two mistakes as near as that."""


def evaluate(value: Value, scope: Scope) -> Any:
    """A candidate's value as numbers, or None: a change of symbols may make a formula meaningless."""
    try:
        return np.asarray(value(scope), dtype=np.float64)
    except Exception:
        return None


def close(a: Any, b: Any, free: str) -> bool:
    """Whether two values are the same but for what is free."""
    if a is None or np.shape(a) != np.shape(b):
        return False
    share = max(ALIKE, 64.0 * rounding(b))
    a, b = opened(a, free), opened(b, free)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    size = max(1e-3, float(np.max(np.abs(b), initial=0.0, where=np.isfinite(b))))
    return bool(np.all(same | (np.abs(np.where(same, 0.0, a) - np.where(same, 0.0, b)) <= share * size)))


def agrees(claim: Claim, probes: Sequence[Probe]) -> bool:
    """Whether a claim is so on every probe."""
    return all(claim(p.scope, p.yours, p.right) is not False for p in probes)


def equals(value: Value, free: str) -> Claim:
    """That the answer is a candidate's value."""
    return lambda scope, yours, right: close(evaluate(value, scope), yours, free)


def mended(value: Value, free: str) -> Claim:
    """That the answer, changed, is the right one."""
    return lambda scope, yours, right: close(evaluate(value, scope), right, free)


def called(function: Function, question: Question | None, change: Change | None = None) -> Value:
    """A function's value, some of its symbols changed; with a question, the part of it that is asked for."""

    def value(scope: Scope) -> Any:
        found = supply(function, scope, change(scope) if change else None)
        return question.picked(found) if question else as_parts(found)[0]

    return value


def elsewhere(question: Question, world: Callable[[Scope], Scope]) -> Value:
    """The right answer to the same question in another world."""
    return lambda scope: question.picked(world(scope).call(question.truths[0]))


def times(value: Value, factor: Value) -> Value:
    """A value and a factor."""
    return lambda scope: value(scope) * factor(scope)


def candidates(question: Question, function: Function, probes: Sequence[Probe]) -> Iterator[Candidate]:
    """Every candidate, in the order of the module's text."""
    for words, value in _values(question, probes[0]):
        yield words, equals(value, question.free)
    if isinstance(function, Through):
        for slip, edited in function.misprints():
            yield f"with {slip.change} it would be right: {slip.mends}", mended(called(edited, None), question.free)
    for words, change in () if is_formula(function) else mends(function):
        if not any(f"write {name} " in words for name in question.without):  # that would give the answer away
            yield words, mended(called(function, None, change), question.free)
    first = probes[0]
    for words, value in chain(_leftovers(question, first, INSTEAD), _spoiled(question, first), _leftovers(question, first, MIXES)):
        yield words, equals(value, question.free)


def _values(question: Question, first: Probe) -> Iterator[tuple[str, Value]]:
    for words, wrong in question.misses:
        yield words, called(wrong, None)
    yield from _same_everywhere(question, first)
    for words, output in OUTPUTS:
        yield words, _after(question, output)
    for words, factor in FACTORS:
        yield words, times(question.truth, factor)
    yield from _whole_number(question, first)
    yield from changed(question, first.scope)


def changed(question: Question, scope: Scope) -> Iterator[tuple[str, Value]]:
    """The right formula with one symbol changed everywhere, or in another world."""
    for truth in question.truths:
        if isinstance(truth, Printed):
            yield from misprinted(question, truth)
        for words, change in changes(_part(question, truth), scope):  # what another part alone asks for changes nothing here
            yield words, called(truth, question, change)
    for words, world in OTHER_WORLDS:
        yield words, elsewhere(question, world)


def _part(question: Question, truth: Function) -> Function:
    """Of a formula for each part, the one in question."""
    return truth.parts[question.pick] if isinstance(truth, Together) and question.pick is not None else truth


def misprinted(question: Question, truth: Printed) -> Iterator[tuple[str, Value]]:
    """The right formula with one slip, at every place where a rule fits."""
    part = _part(question, truth)
    if isinstance(part, Printed):
        for slip, wrong in part.misprints():
            yield slip.makes, wrong


def _spoiled(question: Question, first: Probe) -> Iterator[tuple[str, Value]]:
    """The right formula with another tool, or with a symbol changed in one place."""
    for truth in question.truths:
        if isinstance(truth, Printed):
            continue
        for words, spoiled in retooled(truth):
            yield words, called(spoiled, question)
        for words, change in single_uses(truth, first.scope):
            yield words, called(truth, question, change)


def _whole_number(question: Question, first: Probe) -> Iterator[tuple[str, Value]]:
    """1 too many, 1/2 too few: a small number added to the answer."""
    gap = np.ravel(first.yours - first.right)
    c = round(2.0 * float(gap[0])) / 2.0 if gap.size and np.isfinite(gap[0]) else 0.0
    if c and abs(c) <= 2.0 and np.allclose(gap, c):
        yield f"off by a constant: {c:g} is {'left over' if c > 0 else 'missing, or subtracted'}", lambda s: question.truth(s) + c


def _same_everywhere(question: Question, first: Probe) -> Iterator[tuple[str, Value]]:
    """One number in every entry on every world: no formula at all."""
    number = float(np.ravel(first.yours)[0]) if np.size(first.yours) else np.nan
    if number:
        yield f"the same number everywhere: {number:.6g}", lambda scope: np.full(np.shape(question.truth(scope)), number)


def _after(question: Question, output: Callable[[Any, Scope], Any]) -> Value:
    return lambda scope: output(question.truth(scope), scope)


# ---------------------------------------------------------------------------------------------------- another quantity, or a leftover

Mix = tuple[str, Callable[[Any, Any, float], Any]]
INSTEAD: tuple[Mix, ...] = (
    ("that is {}", lambda v, s, beta: s + 0.0 * v),
    ("that is minus {}", lambda v, s, beta: 0.0 * v - s),
)
MIXES: tuple[Mix, ...] = (
    ("the term {} is missing", lambda v, s, beta: v - s),
    ("{} too much: left over, or minus it is missing", lambda v, s, beta: v + s),
    ("the term beta {} is missing", lambda v, s, beta: v - beta * s),
    ("beta times {} too much: left over, or minus it is missing", lambda v, s, beta: v + beta * s),
    ("the factor {} is missing", lambda v, s, beta: v / s),
    ("the factor {} is left over", lambda v, s, beta: v * s),
    ("the term {} has the wrong sign", lambda v, s, beta: v - 2.0 * s),
    ("the term beta {} has the wrong sign", lambda v, s, beta: v - 2.0 * beta * s),
)
SCALES: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    ("", lambda v: v),
    ("the logarithm of the answer, and ", np.log),
    ("the answer with its sign flipped, and ", np.negative),
)


def _leftovers(question: Question, first: Probe, mixes: Sequence[Mix]) -> Iterator[tuple[str, Value]]:
    """A symbol returned in place of the answer; added to it, taken from it, or multiplied with it."""
    for name, symbol in SYMBOLS.items():
        if symbol.level != "tool" and name not in COSTLY:
            yield from _mixtures(question, first, f"{name} ({symbol.meaning})", itemgetter(name), mixes)
    for words, quantity in QUANTITIES:
        yield from _mixtures(question, first, words, quantity, mixes)


def _mixtures(question: Question, first: Probe, name: str, quantity: Value, mixes: Sequence[Mix]) -> Iterator[tuple[str, Value]]:
    here = evaluate(quantity, first.scope)  # once: the ways to mix it in are many
    fitted = None if here is None else _fitted(here, first.yours)
    if fitted is None:
        return
    for also, output in SCALES[: None if mixes is MIXES else 1]:
        right = output(question.truth(first.scope))
        for words, mix in mixes:
            if close(mix(right, fitted, first.scope["beta"]), first.yours, question.free):
                yield also + words.format(name), _mixed(question, quantity, output, mix)


def _mixed(question: Question, quantity: Value, output: Callable[[Any], Any], mix: Callable[[Any, Any, float], Any]) -> Value:
    def value(scope: Scope) -> Any:
        right = output(question.truth(scope))
        return mix(right, _fitted(quantity(scope), right), scope["beta"])

    return value


def _fitted(symbol: Any, like: Any) -> Any:
    """A symbol spread over the shape of a value: axes are matched from the left, as (P,) over (P, N)."""
    s = np.asarray(symbol, dtype=np.float64)
    if s.shape == np.shape(like) or not s.ndim:
        return s
    if s.ndim < np.ndim(like) and s.shape == np.shape(like)[: s.ndim]:
        return s.reshape(*s.shape, *[1] * (np.ndim(like) - s.ndim))
    return s if s.shape == np.shape(like)[np.ndim(like) - s.ndim :] else None
