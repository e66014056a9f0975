"""Laws of the worlds on which answers are judged: whatever a formula depends on varies, so that no constant can stand for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tabular_rlhf.check import check, fault, tried
from tabular_rlhf.check.calling import quietly, supply
from tabular_rlhf.check.question import Question, of_exercise, of_line, of_row
from tabular_rlhf.check.trial import forbids, sound
from tabular_rlhf.derivations import DERIVATIONS
from tabular_rlhf.errors import InputError
from tabular_rlhf.exercises import EXERCISES
from tabular_rlhf.grading.sheet import read_sheet, verified
from tabular_rlhf.ledger import LEDGER, Scope, worlds
from tabular_rlhf.ledger.worlds import tied
from tabular_rlhf.symbols import SYMBOLS, is_formula, parameters
from tests.overlaid import Overlaid

# ---------------------------------------------------------------------------------------------------- everything varies

SIZES = {"observed": 4, "G": 3, "draws": 4, "rounds": 3, "P": 3, "N": 3, "V": 3, "H": 3, "beta": 7}
"""How many values each takes, at least."""
CASES: dict[str, Callable[[Scope], bool]] = {
    "prompts of unequal odds": lambda s: len(set(s["mu"].tolist())) > 1,
    "a prompt of probability 0": lambda s: bool((s["mu"] == 0).any()),
    "a tie for the best on an uneven reference": lambda s: any(
        _best_tied(r) and np.ptp(q) > 0.1 for r, q in zip(s["r"], s["p_ref"], strict=True)
    ),
    "all rewards tied on an uneven reference": lambda s: s["N"] > 1 and bool(np.ptp(s["r"]) == 0 and np.ptp(s["p_ref"]) > 0.1),
    "no tie": lambda s: s["N"] > 2 and all(len(set(r)) == len(r) for r in s["r"].tolist()),
    "a forbidden response": forbids,
    "a forbidden response that would be best": lambda s: bool(
        (s["r"] > np.max(s["r"], axis=1, where=s["p_ref"] > 0, initial=-9)[:, None]).any()
    ),
    "rewards over beta in the hundreds": lambda s: bool(100 < np.ptp(s["r"]) / s["beta"] < 500),
    "rewards over beta near zero": lambda s: bool(0 < np.ptp(s["r"]) / s["beta"] < 0.1),
    "a uniform reference": lambda s: s["N"] > 1 and bool(np.ptp(s["p_ref"]) < 1e-12),
}


def _best_tied(r: Any) -> bool:
    return len(r) > 1 and np.sort(r)[-1] == np.sort(r)[-2]


@pytest.mark.parametrize("seed", [0, 5])
def test_whatever_a_formula_depends_on_varies(seed: int) -> None:
    scopes = worlds.everywhere(seed)
    assert len(scopes) <= 312
    for name, values in SIZES.items():
        assert len({float(s[name]) for s in scopes}) >= values, name
    for words, holds in CASES.items():
        small = [s for s in scopes if s["P"] * s["N"] <= 3 and holds(s)]
        assert len(small) >= 3, words


def test_worlds_are_tried_smallest_first_and_those_that_forbid_last() -> None:
    scopes = worlds.everywhere()
    assert [forbids(s) for s in scopes] == sorted(forbids(s) for s in scopes)
    sizes = [s["P"] * s["N"] for s in worlds.tiny()]
    assert max(sizes) == 3
    assert sizes[:60] == sorted(sizes[:60])  # in each round


@pytest.mark.parametrize("which", ["best", "worst", "all", ""])
def test_ties_are_made_where_they_are_asked_for(which: str) -> None:
    for N in (1, 2, 3, 5):
        r = np.random.default_rng(N).standard_normal((4, N))
        made = tied(r, which)
        levels = {"": N, "best": max(1, N - 1), "worst": max(1, N - 1), "all": 1}[which]
        assert [len(set(row)) for row in made.tolist()] == [levels] * 4
        if which == "best" and N > 2:
            assert [np.sum(row == row.max()) for row in made] == [2] * 4
        if which == "worst" and N > 2:
            assert [np.sum(row == row.min()) for row in made] == [2] * 4


# ---------------------------------------------------------------------------------------------------- no constant stands for a symbol

VALUES = (0.25, 0.5, 1.0, 2.0, 3.0, 4.0)
WHOLE = {name for name, symbol in SYMBOLS.items() if symbol.shape == "int"}
NUMBERS = WHOLE | {name for name, symbol in SYMBOLS.items() if symbol.shape == "scalar" and symbol.level != "tool"} - {"J"}


def asked() -> Iterator[Any]:
    """Every exercise and part of a row that is affordable."""
    for exercise in EXERCISES.values():
        yield pytest.param(of_exercise(exercise), id=exercise.slug)
    for row in LEDGER.values():
        if row.most == 2**62:
            for k in range(len(row.parts)):
                yield pytest.param(of_row(row, k), id=f"{row.slug}-{k}")


def refuted(question: Question, value: Callable[[Scope], Any]) -> bool:
    """Whether a wrong value fails on some world on which answers are tried, or cannot even be computed there."""
    for scope in tried(question):
        with quietly():
            try:
                found = np.asarray(value(scope), dtype=np.float64)
            except (ArithmeticError, ValueError, TypeError, IndexError):
                return True
        if fault(question, value, found, scope) is not None:
            return True
    return False


def with_constant(question: Question, name: str, constant: Any) -> Callable[[Scope], Any]:
    """The right answer where a symbol is given a value of its own on all worlds."""
    truth = question.truths[0]

    def value(scope: Scope) -> Any:
        there = constant(scope) if callable(constant) else constant
        if is_formula(truth):
            return question.picked(truth(Overlaid(scope, {name: lambda _: there})))
        return question.picked(supply(truth, scope, {name: there}))

    return value


def needs(question: Question) -> set[str]:
    """The symbols that the right answer asks for, also as a function that it returns."""
    first = tried(question)[0]
    value, names = question.truths[0], set()
    while callable(value):
        names |= set(parameters(value))
        if is_formula(value):
            break
        value = value(*(first[n] for n in parameters(value)))
    return names


@pytest.mark.parametrize("question", list(asked()))
def test_a_constant_in_the_place_of_a_number_is_refuted(question: Question) -> None:
    """G = 4, n = 3, beta = 1: whatever the constant, the right answer with it fails on some world, unless any other would do as well."""
    for name in sorted(needs(question) & NUMBERS):
        constants = [int(v) if name in WHOLE else v for v in VALUES if name not in WHOLE or v >= 2]
        constants = [v for v in constants if name != "clip" or v < 1]  # 1 and more clip no ratio from below
        found = [refuted(question, with_constant(question, name, c)) for c in constants]
        assert all(found) or not any(found), (name, list(zip(constants, found, strict=True)))


@pytest.mark.parametrize("question", list(asked()))
def test_prompts_taken_to_be_equally_likely_are_refuted(question: Question) -> None:
    if "mu" in needs(question):
        even = with_constant(question, "mu", lambda scope: np.full(scope["P"], 1.0 / scope["P"]))
        tilted = with_constant(question, "mu", lambda scope: np.eye(scope["P"])[0])
        assert refuted(question, even) == refuted(question, tilted)  # both, or mu does not matter


def test_a_number_of_data_is_refuted_wherever_data_are_counted() -> None:
    counted = [q.values[0] for q in asked() if any(SYMBOLS[n].shape.startswith("(n") for n in needs(q.values[0]) & set(SYMBOLS))]
    assert len(counted) >= 10
    for question in counted:
        for n in (2, 3, 4, 5):
            assert refuted(question, lambda scope, n=n, q=question: q.truth(scope) * scope["observed"] / n), (question.slug, n)


PLANTED: dict[str, list[Callable[..., Any]]] = {
    "best-of-n-law": [lambda p_ref, r, draws: at_most(p_ref, r) ** draws - (at_most(p_ref, r) - p_ref) ** draws],
    "comparison-loss": [lambda r_w, r_l: np.sum(np.log1p(np.exp(r_l - r_w))) / 3],
    "dpo-data-loss": [lambda rhat_w, rhat_l: np.sum(np.log1p(np.exp(rhat_l - rhat_w))) / 3],
    "leave-one-out": [lambda rewards: rewards - (np.sum(rewards, axis=1, keepdims=True) - rewards) / 3],
    "acceptance": [lambda log_Z, r, beta: np.exp(log_Z - np.max(r, axis=1) / beta)],
    "training-regret": [lambda beta, p_ref, scores, p_star: beta * np.mean(divergence(tilted(p_ref, scores / beta), p_star))],
    "estimated-objective": [lambda r_drawn, log_ratio, beta: with_error(r_drawn - beta * log_ratio, 3)],
}
"""Answers with a habit of the world baked in: no ties within a level, three data, groups of four, nothing forbidden, even prompts."""


def at_most(p: Any, r: Any) -> Any:
    return np.sum(p[:, None, :] * (r[:, None, :] <= r[:, :, None]), axis=2)


def tilted(p: Any, u: Any) -> Any:
    return p * np.exp(u) / np.sum(p * np.exp(u), axis=1, keepdims=True)


def divergence(p: Any, q: Any) -> Any:
    return np.sum(p * np.log(p / q), axis=1)


def with_error(g: Any, n: int) -> Any:
    return np.array([np.sum(g) / n, np.std(g, ddof=1) / np.sqrt(n)])


@pytest.mark.parametrize("slug", list(PLANTED))
def test_answers_with_a_habit_of_the_worlds_are_refuted_small(slug: str) -> None:
    for answer in PLANTED[slug]:
        report = check(slug, answer)
        assert report.status == "wrong", report
        assert report.counterexample is not None
        assert report.counterexample.responses <= 4, report  # two prompts with a choice each are four


# ------------------------------------------------------------------------------------------- nothing of ours fails where it is asked


@pytest.mark.parametrize("slug", list(EXERCISES))
def test_the_answer_to_an_exercise_is_a_number_wherever_it_is_asked(slug: str) -> None:
    question = of_exercise(EXERCISES[slug])
    sound(question)
    assert all(np.isfinite(question.gap(question.truth(s), s, question.truths[0]).allowed) for s in tried(question))


@pytest.mark.parametrize("slug", [slug for slug, row in LEDGER.items() if row.most == 2**62])
def test_every_side_of_a_row_is_a_number_wherever_it_applies(slug: str) -> None:
    row = LEDGER[slug]
    for k in range(len(row.parts)):
        sound(of_row(row, k))
    for scope in tried(of_row(row, 0))[::7]:  # all worlds and all exact sides are compared in test_check
        for name in row.sides:
            with quietly():
                assert not any(np.isnan(np.asarray(part, dtype=np.float64)).any() for part in row.evaluate(scope, name)), (
                    name,
                    scope.world,
                )


@pytest.mark.parametrize("slug", [slug for slug, d in DERIVATIONS.items() if slug != "all-roads"])
def test_every_line_follows_wherever_it_is_judged(slug: str) -> None:
    derivation = DERIVATIONS[slug]
    for scope in tried(of_line(derivation, 1))[::41]:
        for k in range(2, len(derivation.lines) + 1):
            with quietly():
                assert not derivation.step(k, scope).clear, (k, scope.world)


def test_where_an_exercise_is_not_asked_it_says_so() -> None:
    for exercise in EXERCISES.values():
        everywhere = any(exercise.applies(s) for s in worlds.gaps())
        assert everywhere != ("forbids no token" in exercise.asked), exercise.slug
        assert everywhere == (exercise.forbidden == "allowed"), exercise.slug


EXERCISE = """
import numpy as np
from tabular_rlhf.exercises import EXERCISES, add
from tabular_rlhf.exercises.record import Exercise
e = EXERCISES["acceptance"]
fields = {k: getattr(e, k) for k in e.__dataclass_fields__}
add(Exercise(**(fields | dict(slug="mine", CHANGE))))
"""


@pytest.mark.parametrize(
    ("change", "must"),
    [
        ("where=lambda p_ref: bool((p_ref == 0).any())", ""),
        ("where=lambda p_ref: bool((p_ref == 0).all())", "must apply to some world"),
        ("answer=lambda p_ref, beta: np.sum(p_ref * np.log(p_ref), axis=1)", "must be a number where it is asked"),
        ("answer=lambda p_ref, beta: 1 / 0 * p_ref", "must not raise where it is asked"),
        ('forbidden="refused", where=lambda p_ref: bool((p_ref == 0).any())', "must apply to some world"),
        ('forbidden="perhaps"', "`forbidden` must be one of allowed, refused"),
    ],
)
def test_an_exercise_that_no_answer_could_pass_is_refused_before_anybody_loses_points(
    change: str, must: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for slug in ("mine",):
        monkeypatch.delitem(EXERCISES, slug, raising=False)
    file = tmp_path / "set.py"
    file.write_text(EXERCISE.replace("CHANGE", change))
    try:
        if must:
            with pytest.raises(InputError, match=must):
                verified(read_sheet(file), file)
        else:
            sheet = read_sheet(file)
            verified(sheet, file)
            assert sheet.points == {"mine": 1.0}
            assert check("mine", EXERCISES["mine"].answer).ok
            assert check("mine", lambda log_Z, r, beta: np.exp(log_Z - r.max(1) / beta)).status == "wrong"
    finally:
        EXERCISES.pop("mine", None)
