"""An answer on trial: the worlds on which it is tried, and what is wrong with what it returns on one of them.

**Probes** are the worlds on which an answer is compared with known mistakes: wherever two explanations differ, some probe tells them apart.
Among them are several prompts, ties on uneven references, betas other than 1, data of several sizes, and tokens that are forbidden.
Extremes of beta are not: there a wrong formula and the same one written otherwise overflow in different ways.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from tabular_rlhf.check.calling import Problem, quietly, watched
from tabular_rlhf.check.question import Function, Question
from tabular_rlhf.errors import InputError
from tabular_rlhf.ledger import worlds
from tabular_rlhf.symbols import Scope


def tried(question: Question) -> list[Scope]:
    """The worlds on which answers to a question are tried: all that fit, or an even choice of them where each is dear;
    then a world of the reader's own.

    Raises InputError where none fits: then no answer could be judged.
    """
    fits = _fits(question)
    if not fits:
        must, remedy = "what is asked must apply to some world on which answers are tried", "widen `where`, `largest`, `forbidden`"
        raise InputError(must, got="none", where=question.slug, remedy=remedy)
    return [*fits[:: max(1, len(fits) // (4 * question.most))], *([question.own] if question.own else [])]


@lru_cache(maxsize=1024)
def _fits(question: Question) -> tuple[Scope, ...]:
    return tuple(s for s in worlds.everywhere() if question.applies(s))


def first_world(question: Question) -> Scope:
    """A small world on which to look at an answer for the first time: the first with a choice to make."""
    scopes = tried(question)
    return next((s for s in scopes if s.world.mdp.N > 1), scopes[0])


def forbids(scope: Scope) -> bool:
    """Whether the reference of a world forbids a token: some log-probabilities are -inf."""
    return bool(np.isneginf(scope.world.log_ref).any())


def sound(question: Question) -> None:
    """Raise InputError where the question's own answer fails on a world on which answers are tried: a fault of whoever asks."""
    for scope in tried(question):
        world = scope.world
        shown = f"beta {world.beta:g}, r {world.r.tolist()}, p_ref {np.exp(world.log_p_ref).round(4).tolist()}"
        remedy = "mend the answer, or exclude such worlds: `forbidden`, `where`"
        try:
            with quietly():
                got = question.truth(scope)
        except Exception as e:
            told = f"{type(e).__name__}: {e}, on {shown}"
            raise InputError("the answer must not raise where it is asked", got=told, where=question.slug, remedy=remedy) from e
        if np.isnan(got).any():
            raise InputError("the answer must be a number where it is asked", got=f"nan on {shown}", where=question.slug, remedy=remedy)


def fault(question: Question, function: Function, value: Any, scope: Scope) -> str | None:
    """What is wrong with a value on a world: a status, or None."""
    if isinstance(value, Problem):
        return value.kind
    right = question.truth(scope)
    if np.shape(value) != np.shape(right):
        return "shape"
    if np.isnan(value).any() and not np.isnan(right).any():
        return "nan"
    with quietly():
        try:
            return VERDICTS[question.gap(value, scope, function).verdict]
        except Exception:  # a line that has a value may have no gradient
            return "raises"


VERDICTS = {"same": None, "near": "approximate", "different": "wrong"}
"""The status that goes with a gap (`tolerance.py`)."""


# -------------------------------------------------------------------------------------------------- worlds on which mistakes are compared


FEW = 14
"""Probes where each world is dear."""
EVERY_TINY, EVERY_GAP = 9, 5
"""One in so many of the tiny worlds, and of those that forbid tokens."""


@dataclass(frozen=True)
class Probe:
    """A world on which the answer was wrong or right, with both values."""

    scope: Scope
    yours: Any
    right: Any


def moderate(scope: Scope) -> bool:
    """Whether changed symbols, too, keep exponentials of r/beta within the numbers."""
    return 0.02 <= scope.world.beta <= 50.0


def comparable(seed: int = 0) -> Iterator[Scope]:
    """The worlds for probes: larger ones first, the most telling of all in front."""
    larger = worlds.generic(seed)
    chosen = (*larger[1:], larger[0], *worlds.tiny(seed)[::EVERY_TINY], *worlds.gaps(seed)[::EVERY_GAP])
    return (s for s in chosen if moderate(s))


def probe(question: Question, function: Function, scope: Scope) -> Probe | None:
    """Both values on a world, or None where the answer has none to compare: an answer of nan agrees with anything that is nan."""
    value = watched(function, scope)
    right = question.truth(scope)
    if isinstance(value, Problem | tuple) or np.shape(value) != np.shape(right):
        return None
    return None if np.isnan(value).any() and not np.isnan(right).any() else Probe(scope, value, right)


def probes(question: Question, function: Function, failed: Scope) -> list[Probe]:
    """Both values on every world to compare, that of the counterexample last."""
    scopes = [s for s in comparable() if question.applies(s)]
    chosen = scopes if question.most == 2**62 else scopes[:: max(1, len(scopes) // FEW)]
    found = [probe(question, function, s) for s in (*chosen, failed)]
    return [p for p in found if p is not None]
