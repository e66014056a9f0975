"""An answer whose numbers are right and whose shape is not, by axes of length one only: (P, 1) where (P,) is asked for.

The formula is right and one word of NumPy is missing.  `fair` judges as `check` does; where the shape is the only fault it says so, and
gives a share of the points.  The status stays "shape": the answer is not what was asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tabular_rlhf.check import Report, check, find, tried
from tabular_rlhf.check.calling import quietly, watched
from tabular_rlhf.check.facts import spelled
from tabular_rlhf.exercises.proof import PROOFS

SHARE = 0.5
"""Of the points, where only the shape is wrong."""


@dataclass(frozen=True)
class NearlyRight:
    """A report of `check` on an answer of which only the shape is wrong, and the share of the points that this is worth."""

    report: Report
    share: float

    def __getattr__(self, name: str) -> Any:
        return getattr(self.report, name)

    def __str__(self) -> str:
        return str(self.report)


def fair(slug: str, function: Callable[..., Any], share: float = SHARE) -> Any:
    """A report of `check`; a `NearlyRight` one where a reshape would make the answer right on every world it is tried on.

    >>> found = fair("regret", lambda value, J_x: (value - J_x)[:, None])
    >>> found.status, found.share, found.told
    ('shape', 0.5, '(P, 1) where (P,) is expected: reshape; the numbers are right.')
    """
    report = check(slug, function)
    if slug in PROOFS or report.status != "shape" or (told := only_the_shape(slug, function)) is None:
        return report
    return NearlyRight(replace(report, told=told), share)


def only_the_shape(slug: str, function: Callable[..., Any]) -> str | None:
    """What shape came in the place of which, if all else is right; else None."""
    question, pairs = find(slug)[0], []
    function = question.asked(function)
    for scope in tried(question):
        value, right = watched(function, scope), question.truth(scope)
        if not isinstance(value, np.ndarray) or _long_axes(value.shape) != _long_axes(right.shape):
            return None
        with quietly():
            if np.isnan(value).any() or question.wrong(value.reshape(right.shape), scope, function):
                return None
        pairs.append((scope, value.shape, right.shape))
    came, asked = (spelled([(s, shapes[k]) for s, *shapes in pairs]) or str(pairs[-1][1 + k]) for k in (0, 1))
    return f"{came} where {asked} is expected: reshape; the numbers are right."


def _long_axes(shape: tuple[int, ...]) -> list[int]:
    return [n for n in shape if n != 1]
