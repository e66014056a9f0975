"""Which known mistake an answer looks like: it is compared with every candidate on many worlds, never on one.

Candidates, in this order:

1. the wrong answers that come with the question;
2. the right answer seen through a common slip: sign, factor, logarithm, transposition, normalization (`slips.OUTPUTS` and `FACTORS`);
3. the right formula with one of its symbols changed: omitted, inverted, exchanged with another (`changes`);
4. the reader's own formula with one of its symbols changed, which would then be right: what to mend;
5. another quantity of the notation, returned in place of the one asked for, or left over as a term or a factor;
6. the right formula spoiled on the inside: another tool, or a symbol changed in one place only (`spoil`);
7. two of these at once;
8. where none fits, a fact: where alone it is right or wrong, what normalization it lacks (`facts`).

A diagnosis is given only where the answer and the candidate agree on every probe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, islice
from operator import itemgetter
from typing import Any

import numpy as np

from tabular_rlhf.check.calling import Through, quietly, supply
from tabular_rlhf.check.facts import entry, places, shared
from tabular_rlhf.check.quantities import QUANTITIES
from tabular_rlhf.check.question import Function, Question, opened
from tabular_rlhf.check.slips import COSTLY, FACTORS, OTHER_WORLDS, OUTPUTS, Change, changes
from tabular_rlhf.check.spoil import retooled, single_uses
from tabular_rlhf.ledger.record import as_parts
from tabular_rlhf.ledger.symbols import SYMBOLS, Scope

ENOUGH = 5
"""Fewer probes than this are no evidence."""
Value = Callable[[Scope], Any]


@dataclass(frozen=True)
class Probe:
    """A world on which the answer was wrong or right, with both values."""

    scope: Scope
    yours: Any
    right: Any


@dataclass(frozen=True)
class Diagnosis:
    """What the answer looks like, and the number of worlds on which it agrees."""

    words: str
    worlds: int


def diagnose(question: Question, function: Function, probes: Sequence[Probe]) -> Diagnosis | None:
    """The first candidate that agrees with the answer on every probe, or None."""
    if len(probes) < ENOUGH:
        return None
    with quietly():
        for words, value in candidates(question, function, probes):
            if agrees(value, question, probes):
                return Diagnosis(words, len(probes))
        return _of_entry(question, function, probes) or _several(question, function, probes) or _fact(question, probes)


def _of_entry(question: Question, function: Function, probes: Sequence[Probe]) -> Diagnosis | None:
    """Where one entry of a list alone is wrong: what mistake was made in that one."""
    k = entry([(p.scope, p.yours, p.right) for p in probes])
    if k is None:
        return None
    truths = tuple(Through(t, lambda value: question.picked(value)[k]) for t in question.truths)
    misses = tuple((words, Through(f, lambda value: as_parts(value)[0][k])) for words, f in question.misses)
    yours = Through(function, lambda value: as_parts(value)[0][k])
    alone = replace(question, truths=truths, misses=misses, pick=None)
    found = diagnose(alone, yours, [Probe(p.scope, p.yours[k], p.right[k]) for p in probes])
    return None if found is None else replace(found, words=f"{found.words} (in entry {k + 1}; all others are right)")


def _fact(question: Question, probes: Sequence[Probe]) -> Diagnosis | None:
    """Something true of the answer on every probe."""
    pairs = [(p.scope, opened(p.yours, question.free), opened(p.right, question.free)) for p in probes]
    words = places(pairs) or shared(pairs)
    return Diagnosis(words, len(probes)) if words else None


def agrees(value: Value, question: Question, probes: Sequence[Probe], target: str = "yours") -> bool:
    """Whether a candidate equals the answer (or, for a mended answer, the truth) on every probe."""
    return all(_close(_evaluate(value, p.scope), getattr(p, target), question.free) for p in probes)


def _evaluate(value: Value, scope: Scope) -> Any:
    try:
        return np.asarray(value(scope), dtype=np.float64)
    except Exception:  # a change of symbols may make a formula meaningless: then it is no candidate
        return None


def _close(a: Any, b: Any, free: str) -> bool:
    if a is None or np.shape(a) != np.shape(b):
        return False
    a, b = opened(a, free), opened(b, free)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    size = max(1e-3, float(np.max(np.abs(b), initial=0.0, where=np.isfinite(b))))
    return bool(np.all(same | (np.abs(np.where(same, 0.0, a) - np.where(same, 0.0, b)) <= 1e-8 * size)))


def candidates(question: Question, function: Function, probes: Sequence[Probe]) -> Iterator[tuple[str, Value]]:
    """(words, value) in the order of the module's text."""
    first = probes[0]
    for words, wrong in question.misses:
        yield words, _call(wrong, None)
    yield from _same_everywhere(probes)
    for words, output in OUTPUTS:
        yield words, _after(question, output)
    for words, factor in FACTORS:
        yield words, _times(question.truth, factor)
    yield from _whole_number(question, first)
    for truth in question.truths:
        for words, change in changes(truth, first.scope):
            yield words, _call(truth, question, change)
    for words, world in OTHER_WORLDS:
        yield words, _call_in(question, world)
    for words, change in changes(function, first.scope, yours=True):
        gives_away = any(f"write {name} " in words for name in question.without)
        if not gives_away and agrees(_call(function, None, change), question, probes, "right"):
            yield words, _call(function, None)
    yield from _leftovers(question, first)
    for truth in question.truths:
        for words, spoiled in retooled(truth):
            yield words, _call(spoiled, question)
        for words, change in single_uses(truth, first.scope):
            yield words, _call(truth, question, change)


def _whole_number(question: Question, first: Probe) -> Iterator[tuple[str, Value]]:
    """1 too many, 1/2 too few: a small number added to the answer."""
    gap = np.ravel(first.yours - first.right)
    c = round(2.0 * float(gap[0])) / 2.0 if gap.size and np.isfinite(gap[0]) else 0.0
    if c and abs(c) <= 2.0 and np.allclose(gap, c):
        yield f"off by a constant: {c:g} is {'left over' if c > 0 else 'missing, or subtracted'}", lambda s: question.truth(s) + c


def _same_everywhere(probes: Sequence[Probe]) -> Iterator[tuple[str, Value]]:
    """One number in every entry on every world: no formula at all."""
    number = float(np.ravel(probes[0].yours)[0]) if np.size(probes[0].yours) else np.nan
    if number:
        yield f"the same number everywhere: {number:.6g}", lambda scope: np.full(np.shape(_right_on(probes, scope)), number)


def _right_on(probes: Sequence[Probe], scope: Scope) -> Any:
    """The right answer on a world of the probes."""
    return next(p.right for p in probes if p.scope is scope)


def _call(function: Function, question: Question | None, change: Change | None = None) -> Value:
    def value(scope: Scope) -> Any:
        found = supply(function, scope, change(scope) if change else None)
        return question.picked(found) if question else as_parts(found)[0]

    return value


def _times(value: Value, factor: Value) -> Value:
    return lambda scope: value(scope) * factor(scope)


def _call_in(question: Question, world: Callable[[Scope], Scope]) -> Value:
    return lambda scope: question.picked(world(scope).call(question.truths[0]))


def _after(question: Question, output: Callable[[Any, Scope], Any]) -> Value:
    return lambda scope: output(question.truth(scope), scope)


# ---------------------------------------------------------------------------------------------------- another quantity, or a leftover


def _fitted(symbol: Any, like: Any) -> Any:
    """A symbol spread over the shape of a value: axes are matched from the left, as (P,) over (P, N)."""
    s = np.asarray(symbol, dtype=np.float64)
    if s.shape == np.shape(like) or not s.ndim:
        return s
    if s.ndim < np.ndim(like) and s.shape == np.shape(like)[: s.ndim]:
        return s.reshape(*s.shape, *[1] * (np.ndim(like) - s.ndim))
    return s if s.shape == np.shape(like)[np.ndim(like) - s.ndim :] else None


def _leftovers(question: Question, first: Probe) -> Iterator[tuple[str, Value]]:
    """A symbol returned in place of the answer; added to it, taken from it, or multiplied with it."""
    for name, symbol in SYMBOLS.items():
        if symbol.level == "tool" or name in COSTLY:
            continue
        yield from _mixtures(question, first, f"{name} ({symbol.meaning})", itemgetter(name))
    for words, quantity in QUANTITIES:
        yield from _mixtures(question, first, words, quantity)


def _mixtures(question: Question, first: Probe, name: str, quantity: Value) -> Iterator[tuple[str, Value]]:
    here = _evaluate(quantity, first.scope)  # once: the ways to mix it in are many
    fitted = None if here is None else _fitted(here, first.yours)
    if fitted is None:
        return
    for also, output in SCALES:
        right = output(question.truth(first.scope))
        for words, mix in MIXES:
            if _close(mix(right, fitted, first.scope["beta"]), first.yours, question.free):
                yield also + words.format(name), _mixed(question, quantity, output, mix)


def _mixed(question: Question, quantity: Value, output: Callable[[Any], Any], mix: Callable[[Any, Any, float], Any]) -> Value:
    def value(scope: Scope) -> Any:
        right = output(question.truth(scope))
        return mix(right, _fitted(quantity(scope), right), scope["beta"])

    return value


SCALES: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    ("", lambda v: v),
    ("the logarithm of the answer, and ", np.log),
    ("the answer with its sign flipped, and ", np.negative),
)
MIXES: tuple[tuple[str, Callable[[Any, Any, float], Any]], ...] = (
    ("that is {}", lambda v, s, beta: s + 0.0 * v),
    ("that is minus {}", lambda v, s, beta: 0.0 * v - s),
    ("the term {} is missing", lambda v, s, beta: v - s),
    ("{} too much: left over, or minus it is missing", lambda v, s, beta: v + s),
    ("the term beta {} is missing", lambda v, s, beta: v - beta * s),
    ("beta times {} too much: left over, or minus it is missing", lambda v, s, beta: v + beta * s),
    ("the factor {} is missing", lambda v, s, beta: v / s),
    ("the factor {} is left over", lambda v, s, beta: v * s),
    ("the term {} has the wrong sign", lambda v, s, beta: v - 2.0 * s),
    ("the term beta {} has the wrong sign", lambda v, s, beta: v - 2.0 * beta * s),
)

# ---------------------------------------------------------------------------------------------------- two at once, or a plain ratio


PAIRS = 8000
"""Pairs of mistakes that are tried; fewer where each is dear to compute."""


def _several(question: Question, function: Function, probes: Sequence[Probe]) -> Diagnosis | None:
    """A known wrong answer or a changed symbol, off by a factor as well; or a constant ratio or difference."""
    first = probes[0]
    wrong = [(words, _call(f, None)) for words, f in question.misses]
    wrong += [(words, _call(t, question, change)) for t in question.truths for words, change in changes(t, first.scope)]
    wrong += [(words, _call_in(question, world)) for words, world in OTHER_WORLDS]
    for words, value in wrong[: question.affordable(len(wrong))]:
        here = _evaluate(value, first.scope)  # once: the factors are many
        for also, factor in FACTORS if here is not None else ():
            near = _close(here * factor(first.scope), first.yours, question.free)
            if near and agrees(_times(value, factor), question, probes):
                return Diagnosis(f"two mistakes: {words}; and {also}", len(probes))
    return mended_twice(question, function, probes) or _constant(probes)


VAGUE = ("omitted", "write ", "averaged")
"""Changes too free to be one of two: nearly anything can be mended by them."""


def mended_twice(question: Question, function: Function, probes: Sequence[Probe]) -> Diagnosis | None:
    """Two changes of the reader's own symbols that together make it right."""
    single = [c for c in changes(function, probes[0].scope, yours=True) if not any(w in c[0] for w in VAGUE)]
    for (words, change), (other_words, other) in islice(combinations(single, 2), question.affordable(PAIRS)):
        if agrees(_call(function, None, _both(change, other)), question, probes, "right"):
            return Diagnosis(f"two mistakes: {words}; {other_words.removeprefix('mend it: ')}", len(probes))
    return None


def _both(one: Change, other: Change) -> Change:
    return lambda scope: one(scope) | other(scope)


def _constant(probes: Sequence[Probe]) -> Diagnosis | None:
    """The same ratio to the truth, or the same difference from it, everywhere."""
    ratios, gaps = [], []
    for p in probes:
        if np.shape(p.yours) != np.shape(p.right):
            return None
        on = np.isfinite(p.yours) & np.isfinite(p.right)
        ratios += list(np.ravel((p.yours / p.right)[on & (np.abs(p.right) > 1e-9)]))
        gaps += list(np.ravel((p.yours - p.right)[on]))
    for words, values, right in (("everywhere {:.6g} times the answer", ratios, 1.0), ("everywhere the answer plus {:.6g}", gaps, 0.0)):
        even = len(values) >= ENOUGH and np.ptp(values) <= 1e-8 * max(1.0, abs(values[0])) and np.isfinite(values[0])
        if even and abs(values[0] - right) > 1e-8:  # else it is right wherever it is a number
            return Diagnosis(words.format(float(values[0])), len(probes))
    return None
