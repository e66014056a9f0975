"""The worlds on which an answer is compared with known mistakes: wherever two explanations differ, some probe tells them apart.

Among them are several prompts, ties on uneven references, betas other than 1, data of several sizes, and tokens that are forbidden.
Extremes of beta are not: there a wrong formula and the same one written otherwise overflow in different ways.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tabular_rlhf.check.calling import Problem, watched
from tabular_rlhf.check.question import Function, Question
from tabular_rlhf.ledger import worlds
from tabular_rlhf.symbols import Scope

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
