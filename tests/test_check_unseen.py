"""Laws of the checker on answers by other hands: none that is wrong passes, none that is right is refused, small worlds, named mistakes.

The answers are data (`unseen_first` and its sequels).  Nothing in the package knows them: what is counted here is how far its general
tables reach.
"""

from __future__ import annotations

from functools import cache

import pytest

from tabular_rlhf.check import Report, check
from tests import unseen_first, unseen_fourth, unseen_second, unseen_third
from tests.unseen_support import ANSWERS, Answer

TABLES = (unseen_first, unseen_second, unseen_third, unseen_fourth)
WRONG = [a for a in ANSWERS if a.verdict == "wrong"]
SMALL = 3
"""Responses of a counterexample that can be taken in at a glance."""


@cache
def reported(k: int) -> Report:
    return check(ANSWERS[k].slug, ANSWERS[k].function, part=ANSWERS[k].part)


def label(k: int) -> str:
    a = ANSWERS[k]
    return f"{k} {a.slug} {a.mistake or a.verdict}"


def share(good: int, of: int) -> float:
    return good / of


def test_the_answers_are_many_and_spread() -> None:
    verdicts = [a.verdict for a in ANSWERS]
    assert len(TABLES) == 4
    assert [verdicts.count(v) >= n for v, n in (("wrong", 90), ("odd", 25), ("right", 35), ("careless", 5))] == [True] * 4
    assert len({a.slug for a in WRONG}) >= 40
    assert all(a.mistake and a.words for a in WRONG)


@pytest.mark.parametrize("k", range(len(ANSWERS)), ids=label)
def test_the_verdict_is_just(k: int) -> None:
    report = reported(k)
    assert report.ok == (ANSWERS[k].verdict == "right"), str(report)
    if ANSWERS[k].verdict == "careless":
        assert any("p_ref > 0" in note for note in report.notes), str(report)
    else:
        assert report.status in ("right", "wrong", "shape"), str(report)


def test_counterexamples_are_small() -> None:
    shown = [reported(k).counterexample for k, a in enumerate(ANSWERS) if a.verdict != "right"]
    sizes = [c.responses for c in shown if c is not None]
    assert len(sizes) == len(shown)
    assert share(sum(n <= SMALL for n in sizes), len(sizes)) >= 0.95


def test_single_mistakes_are_named() -> None:
    missed = [
        (label(k), reported(k).diagnosis) for k, a in enumerate(ANSWERS) if a.verdict == "wrong" and not a.named(reported(k).diagnosis)
    ]
    assert share(len(WRONG) - len(missed), len(WRONG)) >= 0.9, missed


def test_reports_do_not_depend_on_when_they_are_made() -> None:
    for k in range(0, len(ANSWERS), 25):
        assert str(check(ANSWERS[k].slug, ANSWERS[k].function, part=ANSWERS[k].part)) == str(reported(k))


def test_words_are_alternatives_of_words() -> None:
    answer = Answer("wrong", "regret", len, "sign", "sign flipped|minus&too much")
    said = ("Sign flipped", "minus it is too much", "minus", None)
    assert [answer.named(diagnosis) for diagnosis in said] == [True, True, False, False]
