"""Derivations of chapters 1 to 3: what stands at their ends, by plain enumeration, so that none drifts from the claim it proves."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import pytest

from tabular_rlhf.derivations import DERIVATIONS, derive
from tabular_rlhf.ledger.chapter3_fitting import exists_by_subsets
from tabular_rlhf.ledger.record import LEDGER
from tabular_rlhf.preferences.likelihood import fit
from tabular_rlhf.symbols import Scope
from tabular_rlhf.terms.comparisons import wins_table
from tabular_rlhf.world import random_world
from tests import oracle
from tests.ends import (
    DIFFERENCE,
    EXACT,
    SCOPES,
    Ends,
    averaged,
    central,
    check_ends,
    check_parts,
    line,
    log_sigma,
    optimum,
    p_star,
    rows,
    sigma,
    table,
    told_law,
)
from tests.laws import Told

# ---------------------------------------------------------------------------------------------------- chapters 1 and 2


def said_with_its_policy(scope: Scope) -> Any:
    def of_prompt(x: int, told: Told) -> dict[oracle.Prefix, float]:
        pi = oracle.policy_of(optimum(scope, x, told)[1], scope["V"])
        return oracle.law_of(pi, told.order)

    return rows(scope, of_prompt)


def objective_gap(scope: Scope) -> float:
    def gap(x: int, told: Told) -> float:
        return oracle.mean(told_law(scope, x, "log_pi"), told.r) - oracle.mean(told_law(scope, x, "log_pi_2"), told.r)

    return averaged(scope, gap)


def expected_mistakes(V: int, H: int, eps: Fraction, lost: Fraction) -> Fraction:
    """Mistakes of a learner who slips with probability eps on the path, and, once off it, with probability `lost` at each step."""
    total = Fraction(0)
    for slips in itertools.product((0, 1), repeat=H):
        chance, on_path = Fraction(1), True
        for slip in slips:
            rate = eps if on_path else lost
            chance *= rate if slip else 1 - rate
            on_path = on_path and not slip
        total += chance * sum(slips)
    return total


def mistakes(scope: Scope, gap: bool) -> float:
    V, H, eps = scope["V"], scope["H"], Fraction(scope["eps"])
    own = expected_mistakes(V, H, eps, Fraction(1))
    return float(own - expected_mistakes(V, H, eps, eps)) if gap else float(own)


# ---------------------------------------------------------------------------------------------------- chapter 3


def pair_mean(scope: Scope, of_pair: Callable[[float, float], float]) -> float:
    """The mean over prompts and pairs of a function of the true and of the fitted difference."""

    def of_prompt(x: int, told: Told) -> float:
        r, s = table(scope, "r", x), table(scope, "scores", x)
        return math.fsum(told.ref[i] * told.ref[j] * of_pair(r[i] - r[j], s[i] - s[j]) for i in told.order for j in told.order)

    return averaged(scope, of_prompt)


def cross_entropy(true: float, fitted: float) -> float:
    return -sigma(true) * log_sigma(fitted) - sigma(-true) * log_sigma(-fitted)


def pair_table(scope: Scope, source: str, of_difference: Callable[[float], float]) -> Any:
    return np.array([[[of_difference(float(a - b)) for b in row] for a in row] for row in scope[source]])


def heard_and_smoothed(scope: Scope) -> Any:
    """The loss of every pair, averaged over its true label, the flip of the annotator and the flip of the smoothing."""
    e = scope["flip"]

    def of_pair(true: float, fitted: float) -> float:
        total = 0.0
        for won, flipped, smoothed in itertools.product((True, False), repeat=3):
            chance = (sigma(true) if won else sigma(-true)) * (e if flipped else 1 - e) * (e if smoothed else 1 - e)
            total -= chance * log_sigma(fitted if won ^ flipped ^ smoothed else -fitted)
        return total

    gaps, fitted = scope["gaps"], scope["score_gaps"]
    return np.array(
        [[[of_pair(*pair) for pair in zip(*ab, strict=True)] for ab in zip(*xy, strict=True)] for xy in zip(gaps, fitted, strict=True)]
    )


def nll(scores: Any, wins: Any) -> float:
    n = range(len(scores))
    return -math.fsum(float(wins[i][j]) * log_sigma(scores[i] - scores[j]) for i in n for j in n)


def moved(scope: Scope, x: int, direction: Any, step: float) -> list[float]:
    return [float(s) + step * float(v) for s, v in zip(scope["scores"][x], direction, strict=True)]


def score_by_difference(scope: Scope) -> Any:
    def slope(x: int, i: int) -> float:
        axis = [float(i == k) for k in range(scope["N"])]
        return central(lambda h: nll(moved(scope, x, axis, h), scope["wins_ij"][x]))

    return np.array([[slope(x, i) for i in range(scope["N"])] for x in range(scope["P"])])


def curvature_by_difference(scope: Scope) -> Any:
    out = []
    for x in range(scope["P"]):
        low, here, high = (nll(moved(scope, x, scope["f"][x], h), scope["wins_ij"][x]) for h in (-1e-3, 0.0, 1e-3))
        out.append((low - 2 * here + high) / 1e-6)
    return np.array(out)


def fall_by_difference(scope: Scope) -> Any:
    def slope(x: int) -> float:
        return central(lambda h: nll(moved(scope, x, scope["group_A"][x], scope["far"] + h), scope["wins_A"][x]))

    return np.array([slope(x) for x in range(scope["P"])])


def least(wins: Any) -> float:
    return float(min(w for row in wins for w in row if w > 0))


def largest_upset(scope: Scope) -> Any:
    """The least count times the loss of the worst explained win."""
    out = []
    for scores, wins in zip(scope["scores"], scope["wins_ring"], strict=True):
        observed = [(i, j) for i, row in enumerate(wins) for j, w in enumerate(row) if w > 0]
        out.append(least(wins) * max(-log_sigma(scores[i] - scores[j]) for i, j in observed))
    return np.array(out)


def smallest_upset(scope: Scope) -> Any:
    """The least count times the loss of a win against a lead of the average gap between neighbors."""
    out = []
    for scores, wins in zip(scope["scores"], scope["wins_ring"], strict=True):
        lead = (max(scores) - min(scores)) / (len(scores) - 1)
        out.append(-least(wins) * log_sigma(-lead))
    return np.array(out)


ENDS: dict[str, Ends] = {
    "policies-are-distributions": {1: (said_with_its_policy, EXACT), -1: (p_star, EXACT)},
    "performance-difference": {1: (objective_gap, EXACT), -1: (objective_gap, EXACT)},
    "compounding-error": {
        1: (partial(mistakes, gap=False), EXACT),
        6: (lambda s: math.fsum(s["eps"] * h for h in range(1, s["H"] + 1)), EXACT),
        -1: (partial(mistakes, gap=True), EXACT),
    },
    "mle-is-forward-kl": {
        1: (lambda s: pair_mean(s, cross_entropy), EXACT),
        -1: (lambda s: pair_mean(s, lambda a, b: cross_entropy(a, b) - cross_entropy(a, a)), EXACT),
    },
    "bt-saturation": {
        1: (lambda s: pair_table(s, "r", lambda d: central(lambda h: log_sigma(d + h))), DIFFERENCE),
        6: (lambda s: pair_table(s, "r", lambda d: math.exp(-d)), EXACT),
        9: (lambda s: pair_table(s, "r", lambda d: central(lambda h: 1 / (1 + math.exp(d + h)))), DIFFERENCE),
    },
    "label-noise": {
        1: (lambda s: pair_table(s, "scores", lambda d: -log_sigma(d)), EXACT),
        6: (lambda s: pair_mean(s, cross_entropy), EXACT),
        -1: (heard_and_smoothed, EXACT),
    },
    "bt-score-hessian": {1: (score_by_difference, DIFFERENCE), 5: (score_by_difference, DIFFERENCE), -1: (curvature_by_difference, 1e-3)},
    "bt-existence": {
        1: (fall_by_difference, DIFFERENCE),
        4: (fall_by_difference, DIFFERENCE),
        6: (lambda s: [nll(moved(s, x, s["group_A"][x], s["far"]), s["wins_A"][x]) for x in range(s["P"])], EXACT),
        8: (smallest_upset, EXACT),
        9: (largest_upset, EXACT),
        10: (lambda s: [nll(s["scores"][x], s["wins_ring"][x]) for x in range(s["P"])], EXACT),
    },
}


@pytest.mark.parametrize("slug", ENDS)
def test_the_ends_are_what_enumeration_says(slug: str) -> None:
    check_ends(slug, ENDS[slug])


@pytest.mark.parametrize("slug", ENDS)
def test_the_rows_that_are_proved_are_in_the_ledger_and_of_the_chapter(slug: str) -> None:
    assert DERIVATIONS[slug].chapter in {LEDGER[row].chapter for row in DERIVATIONS[slug].rows}


SAME_AS_THE_LEDGER: dict[str, dict[int, tuple[str, int]]] = {
    "policies-are-distributions": {},
    "performance-difference": {1: ("performance-difference", 0), -1: ("performance-difference", 0)},
    "compounding-error": {1: ("compounding-error", 0), 8: ("compounding-error", 1), -1: ("compounding-error", 2)},
    "mle-is-forward-kl": {1: ("mle-is-forward-kl", 0), 4: ("mle-is-forward-kl", 0)},
    "bt-saturation": {1: ("bt-saturation", 0), 5: ("bt-saturation", 0)},
    "label-noise": {5: ("label-noise", 1), 6: ("label-noise", 1)},
    "bt-score-hessian": {1: ("bt-score-hessian", 0), 5: ("bt-score-hessian", 0)},
}


@pytest.mark.parametrize("slug", SAME_AS_THE_LEDGER)
def test_lines_are_the_parts_of_the_rows_that_they_prove(slug: str) -> None:
    check_parts(slug, SAME_AS_THE_LEDGER[slug])


def test_the_designs_of_existence_are_what_they_are_called() -> None:
    for scope in SCOPES:
        assert not exists_by_subsets(scope["wins_A"]).any(), "a group that was never beaten"
        if scope["N"] <= 8:
            assert exists_by_subsets(scope["wins_ring"]).all(), "a chain of wins from each to each"


def test_the_limit_of_existence_is_reached_far_along_the_way_and_not_before() -> None:
    for scope in SCOPES:
        limit = line("bt-existence", 7, scope)
        for x in range(scope["P"]):
            there, before = (nll(moved(scope, x, scope["group_A"][x], t), scope["wins_A"][x]) for t in (60.0, 3.0))
            assert abs(there - limit[x]) < 1e-9
            assert before >= limit[x]


def test_the_fit_of_existence_is_lower_than_what_is_near() -> None:
    rng = np.random.default_rng(0)
    for scope in SCOPES:
        for wins in scope["wins_ring"]:
            best = fit(wins_table(wins)).r
            others = [nll(best + 0.1 * rng.standard_normal(len(best)), wins) for _ in range(5)]
            assert nll(best, wins) <= min(others)


@pytest.mark.parametrize("slug", [*ENDS])
def test_one_token_and_one_step_are_no_exception(slug: str) -> None:
    for V, H in ((1, 1), (1, 2), (2, 1)):
        world = random_world(rng=np.random.default_rng(V + H), V=V, H=H, P=2, eos=False)
        if DERIVATIONS[slug].applies(Scope(world, 0)):
            assert derive(slug, world).holds, (slug, V, H)
        else:
            assert V == 1
            assert slug in ("compounding-error", "label-noise", "bt-existence")


def test_worlds_with_forbidden_tokens_are_inside_the_hypotheses() -> None:
    gaps = random_world(rng=np.random.default_rng(0), V=3, H=2, P=2, forbidden=0.5)
    assert np.isneginf(gaps.log_p_ref).any()
    assert not DERIVATIONS["policies-are-distributions"].applies(Scope(gaps, 0))
    for slug in ENDS:
        assert slug == "policies-are-distributions" or derive(slug, gaps).holds, slug
