"""Which known mistake an answer looks like: it is compared with every candidate on many worlds, never on one.

Candidates, in this order:

1. the wrong answers that come with the question;
2. the right answer seen through a common slip: sign, factor, logarithm, transposition, normalization (`slips.OUTPUTS` and `FACTORS`);
3. the right formula with one of its symbols changed: omitted, inverted, exchanged with another (`changes`);
4. the reader's own formula with one of its symbols changed, which would then be right: what to mend;
5. another quantity of the notation, returned in place of the one asked for, or left over as a term or a factor;
6. two of these at once.

A diagnosis is given only where the answer and the candidate agree on every probe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from operator import itemgetter
from typing import Any

import numpy as np

from tabular_rlhf.check.calling import quietly, supply
from tabular_rlhf.check.question import Function, Question, opened
from tabular_rlhf.check.slips import COSTLY, FACTORS, OTHER_WORLDS, OUTPUTS, Change, changes
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
    """What the answer looks like, the number of worlds on which it agrees, and whether the words come with the question."""

    words: str
    worlds: int
    known: bool


def diagnose(question: Question, function: Function, probes: Sequence[Probe]) -> Diagnosis | None:
    """The first candidate that agrees with the answer on every probe, or None."""
    if len(probes) < ENOUGH:
        return None
    with quietly():
        for known, words, value in candidates(question, function, probes):
            if agrees(value, question, probes):
                return Diagnosis(words, len(probes), known)
        return _several(question, function, probes)


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


def candidates(question: Question, function: Function, probes: Sequence[Probe]) -> Iterator[tuple[bool, str, Value]]:
    """(comes with the question, words, value) in the order of the module's text."""
    first = probes[0]
    for words, wrong in question.misses:
        yield True, words, _call(wrong, None)
    for words, output in OUTPUTS:
        yield False, words, _after(question, output)
    for words, factor in FACTORS:
        yield False, words, _times(question.truth, factor)
    for truth in question.truths:
        for words, change in changes(truth, first.scope):
            yield False, words, _call(truth, question, change)
    for words, world in OTHER_WORLDS:
        yield False, words, _call_in(question, world)
    for words, change in changes(function, first.scope, yours=True):
        gives_away = any(f"write {name} " in words for name in question.without)
        if not gives_away and agrees(_call(function, None, change), question, probes, "right"):
            yield False, words, _call(function, None)
    yield from _leftovers(question, first)


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


def _leftovers(question: Question, first: Probe) -> Iterator[tuple[bool, str, Value]]:
    """A symbol returned in place of the answer; added to it, taken from it, or multiplied with it."""
    for name, symbol in SYMBOLS.items():
        if symbol.level == "tool" or name in COSTLY:
            continue
        here = _evaluate(itemgetter(name), first.scope)
        spread = None if here is None else _fitted(here, first.yours)
        if spread is None:
            continue
        for (also, output), (words, mix) in product(SCALES, MIXES):
            value = _mixed(question, name, output, mix)
            if _close(_evaluate(value, first.scope), first.yours, question.free):
                yield False, also + words.format(name=name, meaning=symbol.meaning), value


def _mixed(question: Question, name: str, output: Callable[[Any], Any], mix: Callable[[Any, Any, float], Any]) -> Value:
    def value(scope: Scope) -> Any:
        right = output(question.truth(scope))
        return mix(right, _fitted(scope[name], right), scope["beta"])

    return value


SCALES: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    ("", lambda v: v),
    ("the logarithm of the answer, and ", np.log),
    ("the answer with its sign flipped, and ", np.negative),
)
MIXES: tuple[tuple[str, Callable[[Any, Any, float], Any]], ...] = (
    ("that is {name} ({meaning})", lambda v, s, beta: s + 0.0 * v),
    ("that is minus {name} ({meaning})", lambda v, s, beta: 0.0 * v - s),
    ("the term {name} ({meaning}) is missing", lambda v, s, beta: v - s),
    ("the term {name} ({meaning}) is left over, or has the wrong sign", lambda v, s, beta: v + s),
    ("the term beta {name} ({meaning}) is missing", lambda v, s, beta: v - beta * s),
    ("the term beta {name} ({meaning}) is left over, or has the wrong sign", lambda v, s, beta: v + beta * s),
    ("the factor {name} ({meaning}) is missing", lambda v, s, beta: v / s),
    ("the factor {name} ({meaning}) is left over", lambda v, s, beta: v * s),
    ("the term {name} ({meaning}) has the wrong sign", lambda v, s, beta: v - 2.0 * s),
    ("the term beta {name} ({meaning}) has the wrong sign", lambda v, s, beta: v - 2.0 * beta * s),
)

# ---------------------------------------------------------------------------------------------------- two at once, or a plain ratio


def _several(question: Question, function: Function, probes: Sequence[Probe]) -> Diagnosis | None:
    """A known wrong answer or a changed symbol, off by a factor as well; or a constant ratio or difference."""
    first = probes[0]
    wrong = [(words, _call(f, None)) for words, f in question.misses]
    wrong += [(words, _call(t, question, change)) for t in question.truths for words, change in changes(t, first.scope)]
    wrong += [(words, _call_in(question, world)) for words, world in OTHER_WORLDS]
    for words, value in wrong:
        here = _evaluate(value, first.scope)  # once: the factors are many
        for also, factor in FACTORS if here is not None else ():
            near = _close(here * factor(first.scope), first.yours, question.free)
            if near and agrees(_times(value, factor), question, probes):
                return Diagnosis(f"two mistakes: {words}; and {also}", len(probes), False)
    return mended_twice(question, function, probes) or _constant(probes)


VAGUE = ("omitted", "write ", "averaged")
"""Changes too free to be one of two: nearly anything can be mended by them."""


def mended_twice(question: Question, function: Function, probes: Sequence[Probe]) -> Diagnosis | None:
    """Two changes of the reader's own symbols that together make it right."""
    single = [c for c in changes(function, probes[0].scope, yours=True) if not any(w in c[0] for w in VAGUE)]
    for (words, change), (other_words, other) in combinations(single, 2):
        if agrees(_call(function, None, _both(change, other)), question, probes, "right"):
            return Diagnosis(f"two mistakes: {words}; {other_words.removeprefix('mend it: ')}", len(probes), False)
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
    for words, values in (("everywhere {:.6g} times the answer", ratios), ("everywhere the answer plus {:.6g}", gaps)):
        if len(values) >= ENOUGH and np.ptp(values) <= 1e-8 * max(1.0, abs(values[0])) and np.isfinite(values[0]):
            return Diagnosis(words.format(float(values[0])), len(probes), False)
    return None
