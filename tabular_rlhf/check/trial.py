"""An answer on trial: the worlds on which it is tried, and what is wrong with what it returns on one of them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from tabular_rlhf.check.calling import Problem, quietly
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
