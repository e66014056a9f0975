"""Laws of the one tolerance: three verdicts, the same in `check`, `derive`, near misses and `grade`; every right form is right."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tabular_rlhf.check import check, tried
from tabular_rlhf.check.calling import Through, watched
from tabular_rlhf.check.question import find
from tabular_rlhf.derivations import DERIVATIONS, derive
from tabular_rlhf.exercises import EXERCISES
from tabular_rlhf.ledger import LEDGER, worlds
from tabular_rlhf.ledger.audit import refute
from tabular_rlhf.ledger.record import Approximately, Miss
from tabular_rlhf.tolerance import ROADS
from tests import answers_direct, answers_geometry, answers_gradients, answers_language, answers_selection

OTHERS = answers_direct.RIGHT | answers_geometry.RIGHT | answers_gradients.RIGHT | answers_language.RIGHT | answers_selection.RIGHT
PLAIN = [slug for slug, e in EXERCISES.items() if not callable(tried(find(slug)[0])[-1].call(e.answer))]
"""Exercises whose answer is a value, and no function of others."""
OFF = 1.0 + 3e-7
"""As a number of float64 more than any rounding; as a number of float32 no more than its rounding."""
GRADED = b"""
import numpy as np
def regret(beta, log_p, log_p_star):
    return beta * np.sum(np.exp(log_p) * (log_p - log_p_star), axis=1) * (1.0 + 3e-7)
"""


def after(function: Callable[..., Any], output: Callable[[Any], Any]) -> Callable[..., Any]:
    return Through(function, output)


@pytest.mark.parametrize("slug", PLAIN[::3])
def test_an_exact_answer_a_little_off_is_near_and_not_right(slug: str) -> None:
    e = EXERCISES[slug]
    whole = np.issubdtype(np.asarray(find(slug)[0].truth(tried(find(slug)[0])[-1])).dtype, np.integer)
    report = check(slug, after(e.answer, lambda value: np.asarray(value) * OFF))
    loose = e.error > 0 or e.free == "positive factor" or whole
    assert (report.status, report.ok) == (("right", True) if loose else ("approximate", False)), report
    assert loose or any(f"right to {digits} digits" in report.told for digits in (6, 7))


@pytest.mark.parametrize("slug", PLAIN[1::5])
def test_an_answer_in_float32_gets_the_rounding_of_float32(slug: str) -> None:
    answer = after(EXERCISES[slug].answer, lambda value: np.asarray(value, dtype=np.float32))
    report = check(slug, answer)
    assert report.ok, report
    assert "float32" in " ".join(report.notes)
    assert not check(slug, after(answer, lambda value: value * 1.01)).ok or EXERCISES[slug].free == "positive factor"


def test_check_derive_and_the_near_misses_are_of_one_mind() -> None:
    """Over factors from rounding to one in a hundred: the same verdict on the same line, wherever it is asked."""
    row, line = LEDGER["regret-is-kl"], DERIVATIONS["regret-is-kl"].lines[4]
    side = next(s for s in row.sides.values() if not isinstance(s, Approximately))
    for off in (0.0, 1e-15, 1e-13, 1e-9, 3e-7, 3e-6, 1e-2):
        scaled = functools.partial(np.multiply, 1.0 + off)
        status = check("regret-is-kl", after(side, scaled)).status
        of_line = check("regret-is-kl/5", after(line.value, scaled)).status
        read = derive("regret-is-kl", lines={5: after(line.value, scaled)})
        assert (read.holds, read.steps[-1].verdict) == {"right": (True, ""), "approximate": (False, "near"), "wrong": (False, "different")}[
            of_line
        ]
        assert status == of_line, off
        assert (refute(row, Miss(after(side, scaled), diagnosis="off"), worlds.tiny()) is not None) == (status == "wrong")


@pytest.mark.parametrize("slug", list(OTHERS)[::4])
def test_right_answers_in_other_forms_are_far_within(slug: str) -> None:
    """On worlds of another seed: at most two units for what is closed, and a fifth of what is allowed for the rest."""
    question = find(slug)[0]
    scopes = [s for s in (*worlds.tiny(3)[::23], *worlds.generic(3)[::3]) if question.applies(s)]
    for answer in OTHERS[slug]:
        rows = Through(answer, lambda value: list(value) if isinstance(value, tuple) else value)
        for scope in scopes:
            gap = question.gap(watched(rows, scope), scope, rows)
            assert gap.units <= ROADS / 5
            assert gap.same


def test_a_difference_quotient_is_told_what_it_is() -> None:
    """J by central differences of the logits: right to several digits, and not exact."""

    def quotient(mdp: Any, logits: Any, log_p_ref: Any, r: Any, beta: Any, mu: Any) -> Any:
        def J(theta: Any) -> Any:
            log_pi = theta - np.log(np.sum(np.exp(theta), axis=-1, keepdims=True))
            log_p = mdp.path_sum(log_pi)
            return np.sum(mu[:, None] * np.exp(log_p) * (r - beta * np.where(np.isneginf(log_p), 0.0, log_p - log_p_ref)))

        out, h = np.zeros(logits.shape), 1e-3
        for at in np.ndindex(*logits.shape):
            step = np.zeros(logits.shape)
            step[at] = h
            out[at] = (J(logits + step) - J(logits - step)) / (2 * h)
        return out

    report = check("kl-regularized-gradient", quotient)
    assert (report.ok, report.status) == (False, "approximate"), report
    assert "digits" in report.told
    assert report.headline.endswith("right to some digits, but not exact")


def test_what_is_near_gets_no_mark() -> None:
    from tabular_rlhf.grading.marks import grade
    from tabular_rlhf.grading.submission import of

    (mark,) = grade(of("near.py", GRADED), {"regret": 2.0}, check).marks
    assert (mark.points, mark.status) == (0.0, "approximate")
    assert "right to 6 digits" in mark.reason
