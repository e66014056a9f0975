"""Which known mistake an answer looks like: it is compared with every candidate on many worlds, never on one.

The candidates are those of `candidates`, the simplest first.  Where none fits, two mistakes at once; and where no two do, a fact: in which
entries or on which worlds alone the answer is right, what normalization it lacks (`facts`).

A diagnosis is given only where it is so on every probe, and it carries what it claims, so that it can be tried on worlds that were
not used to find it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, islice, product
from typing import Any

import numpy as np

from tabular_rlhf.check.calling import Through, quietly, watched
from tabular_rlhf.check.candidates import Claim, agrees, called, candidates, changed, close, equals, evaluate, mended, times
from tabular_rlhf.check.facts import Fact, Pair, condition, entry, not_a_law, places, shape_claim, shared
from tabular_rlhf.check.question import Function, Question, opened
from tabular_rlhf.check.slips import FACTORS, NUMBERS, Change, Factor, mends
from tabular_rlhf.check.trial import Probe, comparable, fault, forbids, probes, tried
from tabular_rlhf.ledger.record import as_parts
from tabular_rlhf.symbols import Scope

ENOUGH = 5
"""Fewer probes than this are no evidence."""


@dataclass(frozen=True)
class Diagnosis:
    """What the answer looks like, the number of worlds on which that is so, and the claim itself, to be tried on others."""

    words: str
    worlds: int
    claim: Claim


def diagnosis(question: Question, function: Function, failed: Scope) -> Diagnosis | None:
    """What a wrong answer looks like, `failed` a world on which it is wrong; None where nothing is true of it on all worlds."""
    if np.shape(watched(function, failed)) != np.shape(question.truth(failed)):
        return _of_shape(question, function)
    known = probes(question, function, failed)
    if any(question.differs(p.yours, p.scope) for p in known):  # else it is right wherever it is a number
        return diagnose(question, function, known)
    return _of_condition(question, function)


def one_mistake(question: Question, function: Function, failed: Scope) -> Diagnosis | None:
    """The one known mistake that a wrong answer of the right shape looks like, or None."""
    known = probes(question, function, failed)
    with quietly():
        return _of_candidates(question, function, known) if len(known) >= ENOUGH else None


def diagnose(question: Question, function: Function, probes: Sequence[Probe]) -> Diagnosis | None:
    """The first candidate that is so on every probe, or None."""
    if len(probes) < ENOUGH:
        return None
    with quietly():
        return (
            _of_candidates(question, function, probes)
            or _of_entry(question, function, probes)
            or _of_a_number(probes, question.free)
            or _fact(places, question, probes)
            or _of_condition(question, function)
            or _fact(shared, question, probes)
            or _several(question, function, probes)
            or _constant(probes)
            or _fact(not_a_law, question, probes)
        )


def _of_candidates(question: Question, function: Function, probes: Sequence[Probe]) -> Diagnosis | None:
    """The first candidate that is so on every probe; failing that, the first that is so wherever the reference forbids no token."""
    plain, gaps = [p for p in probes if not forbids(p.scope)], [p for p in probes if forbids(p.scope)]
    found = candidates(question, function, plain or gaps)
    plain, gaps = (sorted(some, key=lambda p: close(p.yours, p.right, question.free)) for some in (plain, gaps))  # wrong first: they tell
    if not plain or close(plain[0].yours, plain[0].right, question.free):  # right where no token is forbidden: there no mistake is seen
        return next((Diagnosis(words, len(probes), claim) for words, claim in found if agrees(claim, [*gaps, *plain])), None)
    careless = None
    for words, claim in found:
        if agrees(claim, plain):
            if agrees(claim, gaps):
                return Diagnosis(words, len(probes), claim)
            careless = careless or (_where_allowed(words, claim, len(plain)) if len(plain) >= ENOUGH else None)
    return careless


def _where_allowed(words: str, claim: Claim, worlds: int) -> Diagnosis:
    said = f"{words} (where the reference forbids no token)"
    return Diagnosis(said, worlds, lambda scope, yours, right: None if forbids(scope) else claim(scope, yours, right))


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
    if found is None:
        return None

    def claim(scope: Scope, yours: object, right: object) -> bool | None:
        a, b = np.asarray(yours), np.asarray(right)
        others = close(np.delete(a, k, 0), np.delete(b, k, 0), question.free)
        return others and found.claim(scope, a[k], b[k])

    return Diagnosis(f"{found.words} (in entry {k + 1}; all others are right)", found.worlds, claim)


def _fact(find: Callable[[Sequence[Pair]], Fact | None], question: Question, probes: Sequence[Probe]) -> Diagnosis | None:
    """Something true of the answer on every probe."""
    found = find([(p.scope, opened(p.yours, question.free), opened(p.right, question.free)) for p in probes])
    if found is None:
        return None
    words, so = found
    return Diagnosis(words, len(probes), lambda scope, a, b: so(scope, opened(a, question.free), opened(b, question.free)))


# ---------------------------------------------------------------------------------------------------- two at once, or a plain ratio

SINGLE = 600
"""Wrong answers to which a factor is joined."""
PAIRS = 2000
"""Pairs of changes of the reader's own formula."""


def _several(question: Question, function: Function, probes: Sequence[Probe]) -> Diagnosis | None:
    """A known wrong answer or a changed symbol, off by a factor as well.

    Each alone has been tried before, so both are needed.
    """
    first = probes[0]
    if question.most < 2**62:  # each evaluation is dear
        return None
    wrong = [(words, called(f, None)) for words, f in question.misses] + [*changed(question, first.scope)]
    for words, value in wrong[:SINGLE]:
        here = evaluate(value, first.scope)  # once: the factors are many
        for also, factor in FACTORS if here is not None else ():
            if close(here * factor(first.scope), first.yours, question.free):
                claim = equals(times(value, factor), question.free)
                if agrees(claim, probes):
                    return Diagnosis(f"two mistakes: {words}; and {also}", len(probes), claim)
    return mended_twice(question, function, probes)


def mended_twice(question: Question, function: Function, probes: Sequence[Probe]) -> Diagnosis | None:
    """Two changes of the reader's own symbols that together make it right."""
    single = mends(function, vague=False)
    for (words, change), (other_words, other) in islice(combinations(single, 2), PAIRS):
        claim = mended(called(function, None, _both(change, other)), question.free)
        if agrees(claim, probes):
            return Diagnosis(f"two mistakes: {words}; {other_words.removeprefix('mend it: ')}", len(probes), claim)
    return None


def _both(one: Change, other: Change) -> Change:
    return lambda scope: one(scope) | other(scope)


def _of_a_number(probes: Sequence[Probe], free: str) -> Diagnosis | None:
    """A number of its own where a size of the data belongs: 3 for n, in a factor or in its root."""
    told = [(p.scope, r) for p in probes for r in _ratios(p)[:1] if r > 0]
    for (letter, meaning, size), k in product(NUMBERS[1:], (1.0, -1.0, 0.5, -0.5) if told else ()):
        scope, ratio = told[0]
        own = round(float(size(scope)) / ratio ** (1.0 / k), 6)
        if own == round(own) and own > 0:
            claim = _off_by(size, own, k, free)
            if agrees(claim, probes):
                return Diagnosis(f"{own:g} for {letter} ({meaning}): a number of its own", len(probes), claim)
    return None


def _off_by(size: Factor, own: float, k: float, free: str) -> Claim:
    return lambda scope, yours, right: close(np.asarray(right) * (float(size(scope)) / own) ** k, yours, free)


def _ratios(p: Probe) -> list[float]:
    """What the answer is of the right one, where both are numbers and the right one is not 0."""
    yours, right = np.ravel(p.yours), np.ravel(p.right)
    on = np.isfinite(yours) & np.isfinite(right) & (np.abs(right) > 1e-9)
    return [float(x) for x in yours[on] / right[on]]


def _constant(probes: Sequence[Probe]) -> Diagnosis | None:
    """The same ratio to the truth, or the same difference from it, everywhere."""
    ratios = [r for p in probes for r in _ratios(p)]
    gaps = [d for p in probes for d in np.ravel(p.yours - p.right).tolist() if np.isfinite(d)]
    for found, nothing, how, words in (
        (ratios, 1.0, np.multiply, "everywhere {:.6g} times the answer"),
        (gaps, 0.0, np.add, "everywhere the answer plus {:.6g}"),
    ):
        if len(found) >= ENOUGH and abs(found[0] - nothing) > 1e-8:  # else it is right wherever it is a number
            claim = _off_everywhere(how, found[0])
            if agrees(claim, probes):
                return Diagnosis(words.format(found[0]), len(probes), claim)
    return None


def _off_everywhere(how: Callable[[Any, float], Any], by: float) -> Claim:
    return lambda scope, yours, right: close(how(np.asarray(right), by), yours, "")


# ---------------------------------------------------------------------------------------------------- of shapes and of worlds


def _of_shape(question: Question, function: Function) -> Diagnosis | None:
    """What was done too much or too little to the right answer, where the shape is wrong."""
    scopes = [s for s in comparable() if question.applies(s)]
    pairs = [(s, watched(function, s), question.truth(s)) for s in scopes]
    if not all(isinstance(yours, np.ndarray) for _, yours, _ in pairs):
        return None
    with quietly():
        found = shape_claim(pairs)
    return Diagnosis(found[0], len(pairs), found[1]) if found else None


def _of_condition(question: Question, function: Function) -> Diagnosis | None:
    """On which worlds alone it is right, if they have something in common."""
    scopes = tried(question)
    found = condition([(s, fault(question, function, watched(function, s), s) is None) for s in scopes])
    if found is None:
        return None
    words, holds = found
    return Diagnosis(words, len(scopes), lambda scope, yours, right: close(yours, right, question.free) if holds(scope) else None)
