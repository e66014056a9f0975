"""What a hand moves, and what a person asked: rewards of comparisons, a policy that is drawn, exercises counted, answers folded."""

from __future__ import annotations

import html
import itertools
import math
import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabular_rlhf import explore
from tabular_rlhf.check import check
from tabular_rlhf.check.report import STATUS
from tabular_rlhf.errors import InputError
from tabular_rlhf.exercises import EXERCISES
from tabular_rlhf.explore import comparing, triangle
from tabular_rlhf.explore.svg import spoken
from tabular_rlhf.logspace import kl
from tabular_rlhf.world import named_world
from tests.test_explore import PANELS

# ---------------------------------------------------------------------------------------------------- comparisons in, rewards out


@given(st.integers(2, 5), st.integers(1, 30), st.data())
def test_rewards_of_comparisons_explain_the_wins_or_it_is_said_why_none_do(count: int, each: int, given_: st.DataObject) -> None:
    names = tuple("abcde"[:count])
    pairs = list(itertools.combinations(range(count), 2))
    won = given_.draw(st.tuples(*[st.integers(0, each)] * len(pairs)))
    beats = {(i, j) for (i, j), w in zip(pairs, won, strict=True) if w} | {(j, i) for (i, j), w in zip(pairs, won, strict=True) if w < each}
    reach = {(i, j) for i, j in beats}
    for k, i, j in itertools.product(range(count), repeat=3):  # Warshall: k outermost
        reach |= {(i, j)} if (i, k) in reach and (k, j) in reach else set()
    shown = comparing.data(names, won, each)
    assert (shown["reward"] is not None) == all((i, j) in reach for i in range(count) for j in range(count) if i != j), "Ford 1957"
    assert bool(shown["reasons"]) == (shown["reward"] is None)
    said = " ".join(comparing.words(shown))
    assert ("no likeliest reward" in said) == (shown["reward"] is None)
    if shown["reward"] is not None:
        assert math.fsum(shown["reward"]) == pytest.approx(0.0, abs=1e-9)
        for i in range(count):  # the score equations
            expected = math.fsum(each / (1 + math.exp(shown["reward"][j] - shown["reward"][i])) for j in range(count) if j != i)
            assert expected == pytest.approx(shown["rate"][i] * each * (count - 1), abs=1e-6)
        rates = [w / each for w in won]
        nats = [
            f * math.log(f / q)
            for w, p in zip(rates, shown["pairs"], strict=True)
            for f, q in ((w, p["fitted"]), (1 - w, 1 - p["fitted"]))
            if f
        ]
        assert shown["missed"] == pytest.approx(each * math.fsum(nats), abs=1e-6)


def test_a_cycle_is_a_polite_fiction_and_bad_comparisons_are_refused() -> None:
    shown = comparing.data(("a", "b", "c"), (15, 5, 15), 20)
    assert shown["reward"] == pytest.approx([0.0] * 3, abs=1e-12)
    assert shown["missed"] == pytest.approx(60 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5)))
    for bad in ({"names": ("a",)}, {"names": ("a", "a")}, {"names": tuple("abcdef")}, {"first_wins": (1, 2)}, {"first_wins": (1, 2, 21)}):
        with pytest.raises(InputError):
            explore.compare(**bad)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------- a policy drawn by hand


@pytest.mark.parametrize("world", ["rational", "fork", "zen"])
def test_what_a_game_starts_from_is_the_world_given_its_three_heaviest(world: str) -> None:
    made, shown = explore.aim(world, kl=0.1), triangle.data(named_world(world))
    assert np.exp(made.log_ref).tolist() == pytest.approx(shown["p_ref"], abs=1e-15)
    assert [list(made.names), list(made.r), made.beta] == [shown["response"], shown["r"], shown["beta"]]
    told = made._repr_html_()
    assert "<img" in told, "where no script runs, a picture remains"
    sheet = ET.fromstring(made.picture().svg())
    assert made.goal in (sheet.get("aria-label") or "")
    page = html.unescape(re.search('srcdoc="([^"]*)"', told)[1])  # type: ignore[index]
    assert 'role="slider"' in page
    assert page.count('id="policy"') == page.count('id="board"') == 1
    assert "http" not in page.replace("http://www.w3.org/2000/svg", ""), "no network"


def test_a_game_has_one_goal_that_can_be_reached() -> None:
    farthest = -math.log(2 / 9)  # rational: p_ref = 1/3, 4/9, 2/9
    explore.aim(kl=farthest)
    for bad in (
        {"kl": 0.1, "regret": 0.1},
        {"kl": 0.0},
        {"kl": farthest + 1e-9},
        {"kl": math.nan},
        {"regret": 0.0},
        {"regret": -1.0},
        {"world": "coin"},
    ):
        with pytest.raises(InputError):
            explore.aim(**bad)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------- exercises, and what is folded


def test_progress_is_what_the_checker_says_of_what_is_there() -> None:
    answers = {
        "regret": lambda beta, log_p, log_p_star: beta * kl(log_p, log_p_star),
        "best_value": lambda beta: beta,
        "token_policy": lambda: ...,
    }
    made = explore.progress(answers=answers)
    assert {slug: ok for slug, _, ok, _ in made.rows} == {"regret": True, "best-value": False, "token-policy": None}
    for slug, title, _, told in made.rows:
        assert (title, told) == (EXERCISES[slug].title, STATUS[check(slug, answers[EXERCISES[slug].name]).status])
    assert made.headline == "■□□ 1 of 3 solved"
    assert all(word in made._repr_html_() for word in (made.headline, "best-value", STATUS["unanswered"]))
    assert {slug for slug, *_ in explore.progress("04", {}).rows} == {e.slug for e in EXERCISES.values() if e.notebook == "04"}
    for bad in (lambda: explore.progress(), lambda: explore.progress("99", {}), lambda: explore.progress(answers={})):
        with pytest.raises(InputError):
            bad()


@given(st.text())
def test_what_is_folded_is_there_and_escaped(words: str) -> None:
    shown = ET.fromstring(explore.folded(spoken(words.replace("\r", "")))._repr_html_())
    assert shown.tag == "details"
    assert shown[0].tag == "summary"
    assert (shown[1].text or "") == spoken(words.replace("\r", ""))
    assert "<table>" in explore.folded(explore.progress("04", {}))._repr_html_()
    with pytest.raises(InputError):
        explore.folded(1, " ")


@pytest.mark.parametrize("name", PANELS)
def test_every_slider_is_given_the_name_of_its_control(name: str) -> None:
    """In the browser (tests/browser) it is seen that it gets it; here, that every panel carries what gives it, after its picture."""
    *_, picture, namer = PANELS[name][0]().children
    assert "<svg" in picture.value or "<table" in picture.value
    assert "aria-label" in namer.value
