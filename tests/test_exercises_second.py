"""Exercises of notebooks 06 to 10 from the reader's side: other right answers are taken, wrong ones refuted on small worlds and named."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from tabular_rlhf.check import check
from tabular_rlhf.exercises import EXERCISES
from tests import answers_direct, answers_gradients, answers_selection
from tests.answers_selection import by_minorizing, divergence, tilted

RIGHT = answers_direct.RIGHT | answers_gradients.RIGHT | answers_selection.RIGHT
WRONG = answers_direct.WRONG | answers_gradients.WRONG | answers_selection.WRONG


def named(table):
    return [pytest.param(slug, answer, id=f"{slug}-{k}") for slug, answers in table.items() for k, answer in enumerate(answers)]


def test_every_exercise_of_these_lessons_is_tried():
    ours = {e.slug for e in EXERCISES.values() if e.notebook in ("06", "07", "08", "09", "10")}
    assert set(RIGHT) == set(WRONG) <= ours
    assert all(len(answers) >= 3 for answers in (*RIGHT.values(), *WRONG.values()))


def test_three_exercises_or_more_belong_to_each_lesson():
    count = Counter(e.notebook for e in EXERCISES.values())
    assert all(3 <= count[f"{k:02}"] for k in range(6, 11))


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


def test_prompts_weighed_wrongly_need_two_prompts_of_two_responses():
    report = check("logit-gradient", lambda p, r, score_rows: np.einsum("xn,xn,xnsv->xsv", p, r, score_rows))
    assert report.counterexample is not None
    assert report.counterexample.responses == 4  # with one prompt mu is 1; with one response each there is nothing to choose
    assert "mu dropped" in str(report.diagnosis)
    report = check("training-regret", lambda p_ref, scores, p_star, beta: beta * np.mean(divergence(tilted(p_ref, scores, beta), p_star)))
    assert report.counterexample is not None
    assert report.counterexample.responses == 4
    assert "mu averaged over prompts evenly" in str(report.diagnosis)


def test_an_answer_that_is_right_wherever_it_is_a_number_looks_like_no_mistake():
    def spoilt(L, log_p):
        mean = np.sum(np.exp(log_p) * L, axis=1, keepdims=True)
        return np.sum(np.exp(log_p) * (L - mean) ** 2, axis=1) + (0.0 if L.shape[1] > 2 else np.nan)

    report = check("k1-variance", spoilt)
    assert (report.status, report.diagnosis) == ("nan", None)


def test_fits_found_by_iteration_may_be_off_by_rounding_but_not_by_a_hundredth():
    assert check("fitted-reward", lambda wins_ring: by_minorizing(wins_ring) * (1 + 1e-6)).ok
    assert not check("fitted-reward", lambda wins_ring: by_minorizing(wins_ring) * 1.01).ok


def test_the_law_of_the_best_of_n_is_asked_for_and_not_given():
    report = check("best-of-n-law", lambda log_p_best_of_n: np.exp(log_p_best_of_n))
    assert report.status == "names"
    assert "give the answer away" in report.told
