"""An answer that is not right and has some of the points all the same.

Its numbers are right and its shape is not, by axes of length one only: (P, 1) where (P,) is asked for.  The formula is right and one word
of NumPy is missing: `fair` judges as `check` does, and where the shape is the only fault it says so, and gives a share of the points.  The
status stays "shape": the answer is not what was asked for.  Or a derivation breaks, or a sheet has points for the form.
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
    """A report of `check` on an answer that is not right, and the share of the points that it is worth."""

    report: Report
    share: float

    def __getattr__(self, name: str) -> Any:
        return getattr(self.report, name)

    def __str__(self) -> str:
        return str(self.report)


def as_told(status: str, share: float) -> float:
    """The share of the points that a report's own share is, without a sheet that says otherwise."""
    return share


def fair(slug: str, function: Callable[..., Any], share: float = SHARE, worth: Callable[[str, float], float] = as_told) -> Any:
    """A report of `check`; a `NearlyRight` one where the answer is not right, and has a share of the points.

    Args: share, where a reshape would make the answer right on every world it is tried on; worth, of a status and a share, as an item of a
    sheet has it.

    >>> found = fair("regret", lambda value, J_x: (value - J_x)[:, None])
    >>> found.status, found.share, found.told
    ('shape', 0.5, '(P, 1) where (P,) is expected: reshape; the numbers are right.')
    """
    report = check(slug, function)
    if report.ok:
        return report
    reached = report.share
    if slug not in PROOFS and report.status == "shape" and (told := only_the_shape(slug, function)) is not None:
        report, reached = replace(report, told=told), share
    whole = worth(report.status, reached)
    return NearlyRight(report, whole) if whole else report


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
