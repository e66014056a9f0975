"""Exercises of notebooks 01 to 05 from the reader's side: other right answers are taken, wrong ones refuted on small worlds and named."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from tabular_rlhf.check import check
from tabular_rlhf.exercises import EXERCISES
from tests import answers_geometry, answers_language
from tests.answers_geometry import divergence

RIGHT = answers_language.RIGHT | answers_geometry.RIGHT
WRONG = answers_language.WRONG | answers_geometry.WRONG


def named(table):
    return [pytest.param(slug, answer, id=f"{slug}-{k}") for slug, answers in table.items() for k, answer in enumerate(answers)]


def test_every_exercise_of_these_lessons_is_tried():
    ours = {e.slug for e in EXERCISES.values() if e.notebook in ("01", "02", "03", "04", "05")} - {"regret", "best-value"}
    assert set(RIGHT) == set(WRONG) <= ours
    assert all(len(answers) >= 3 for answers in (*RIGHT.values(), *WRONG.values()))


def test_three_exercises_or_more_belong_to_each_lesson():
    count = Counter(e.notebook for e in EXERCISES.values())
    assert all(3 <= count[f"0{k}"] for k in range(1, 6))


@pytest.mark.parametrize(("slug", "answer"), named(RIGHT))
def test_other_right_answers_are_taken(slug, answer):
    report = check(slug, answer)
    assert report.ok, report


@pytest.mark.parametrize(("slug", "wrong"), named(WRONG))
def test_wrong_answers_are_refuted_on_three_responses_and_named(slug, wrong):
    answer, word = wrong
    report = check(slug, answer)
    assert report.status in ("wrong", "nan", "shape"), report
    assert report.counterexample is not None
    assert report.counterexample.responses <= 3, report
    assert word in (report.diagnosis or ""), report


def test_a_tuple_is_the_rows_of_one_array():
    report = check("both-directions", lambda p, p_star: (divergence(p_star, p), divergence(p, p_star)))
    assert report.diagnosis == "forward for reverse KL"
    assert report.counterexample is not None
    assert report.counterexample.yours == pytest.approx(report.counterexample.exact[::-1], abs=1e-12)
    ragged = check("regret", lambda r, mu: (r, mu))
    assert (ragged.status, ragged.ok) == ("shape", False)


def test_prompts_weighed_wrongly_are_refuted_on_two_responses():
    report = check("optimal-value", lambda value: np.mean(value))
    assert report.counterexample is not None
    assert report.counterexample.responses == 2
    assert "mu" in str(report.diagnosis)


def test_a_search_that_does_not_repeat_itself_keeps_what_it_found():
    from tabular_rlhf.check.shrink import smallest

    calls = iter(range(10**6))

    def fails(scope):
        return bool(next(calls) % 3 == 2 or np.size(scope["f"]))

    found = smallest(fails, 4)
    assert found is not None
    assert found.world.mdp.P * found.world.mdp.N <= 4
