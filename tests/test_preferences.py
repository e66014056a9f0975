"""Laws of preference laws, pairs, rankings and label noise: against plain math, enumeration, and samples at five standard errors."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabular_rlhf import InputError, World, grad
from tabular_rlhf.optimize import monotone_root
from tabular_rlhf.preferences import (
    Law,
    bradley_terry,
    log_plackett_luce,
    matrix,
    noisy,
    population_pairs,
    sample_pairs,
    sample_rankings,
    sure,
    thurstone,
)
from tabular_rlhf.preferences.label_noise import log_flipped, naive_margin, smoothed_loss, unbiased_loss
from tabular_rlhf.world import coin, random_world
from tests.laws import EPS, WORLDS, assert_close

SMALL = {name: w for name, w in WORLDS.items() if w.mdp.N <= 64}
over_worlds = pytest.mark.parametrize("world", SMALL.values(), ids=SMALL.keys())
LAWS = {
    "Bradley-Terry": bradley_terry,
    "Thurstone": thurstone,
    "sure": sure,
    "noisy": lambda r: noisy(bradley_terry(r), 0.2),
    "always flipped": lambda r: noisy(sure(r), 1.0),
}
IN_PLAIN_MATH = {
    "Bradley-Terry": lambda a, b: 1 / (1 + math.exp(b - a)),
    "Thurstone": lambda a, b: 0.5 * math.erfc((b - a) / math.sqrt(2)),
    "sure": lambda a, b: 0.5 * (int(a > b) + int(a >= b)),
    "noisy": lambda a, b: 0.8 / (1 + math.exp(b - a)) + 0.2 / (1 + math.exp(a - b)),
    "always flipped": lambda a, b: 0.5 * (int(a < b) + int(a <= b)),
}


@pytest.mark.parametrize("name", LAWS)
def test_laws_against_plain_math(name: str) -> None:
    r = np.array([[0.0, 1.5, -2.0, 1.5, 30.0], [0.0, 0.0, 1.0, 2.0, 3.0]])
    table = LAWS[name](r).table()
    for x, i, j in itertools.product(range(2), range(5), range(5)):
        assert_close(table[x, i, j], IN_PLAIN_MATH[name](r[x, i], r[x, j]), 64 * EPS)


@pytest.mark.parametrize("name", LAWS)
@over_worlds
def test_one_of_two_wins(world: World, name: str) -> None:
    table = LAWS[name](world.r).table()
    assert_close(table + np.swapaxes(table, 1, 2), 1.0, 8 * EPS)
    assert_close(np.diagonal(table, axis1=1, axis2=2), 0.5, 4 * EPS)


def test_extreme_rewards_are_certain_without_nan() -> None:
    for law in (bradley_terry([[0.0, 1e6]]), thurstone([[0.0, 1e6]]), noisy(bradley_terry([[0.0, 1e6]]), 0.0)):
        assert law.table()[0].tolist() == [[0.5, 0.0], [1.0, 0.5]]
    assert law.log_beats(0, 0, 1) == -1e6


@over_worlds
def test_the_population_is_a_weighted_data_set(world: World) -> None:
    law = bradley_terry(world.r)
    pairs = population_pairs(world, law)
    assert pairs.n is None
    assert_close(np.sum(pairs.weight), 1.0, 64 * EPS * world.mdp.N)
    # by enumeration: two draws from p_ref, one question
    p, mu = np.exp(world.log_p_ref), world.mu
    want = np.zeros(pairs.weight.shape)
    N = min(world.mdp.N, 12)
    for x, i, j in itertools.product(range(world.mdp.P), range(N), range(N)):
        for winner, loser in ((i, j), (j, i)):
            said = 1 / (1 + math.exp(min(700.0, world.r[x, loser] - world.r[x, winner])))
            want[x, winner, loser] += mu[x] * p[x, i] * p[x, j] * said
    assert_close(pairs.weight[:, :N, :N], want[:, :N, :N], 1e-13)


@over_worlds
def test_samples_agree_with_the_population(world: World, rng: np.random.Generator) -> None:
    law = noisy(bradley_terry(world.r), 0.1)
    everything, some = population_pairs(world, law), sample_pairs(world, law, 20_000, rng=rng)
    assert type(some) is type(everything)
    f = rng.standard_normal(world.r.shape)
    g = rng.standard_normal(world.r.shape)
    for value in (lambda d: d.margin(f), lambda d: f[d.x, d.w] * g[d.x, d.l], lambda d: g[d.x, d.w]):
        exact = np.sum(everything.weight * value(everything))
        variance = np.sum(everything.weight * value(everything) ** 2) - exact**2
        got = np.sum(np.broadcast_to(some.weight, 20_000) * value(some))
        assert abs(got - exact) <= 5 * math.sqrt(max(0.0, variance) / 20_000) + 1e-12


def test_pairs_can_come_from_another_law(rng: np.random.Generator) -> None:
    world = random_world(rng=rng, V=3, H=1, eos=False, P=2)
    q = np.log(np.array([[0.5, 0.5, 0.0], [0.1, 0.2, 0.7]]) + 1e-300)
    q[0, 2] = -np.inf
    pairs = population_pairs(world, bradley_terry(world.r), q)
    assert np.sum(pairs.weight[0, 2]) == 0
    some = sample_pairs(world, bradley_terry(world.r), 1000, rng=rng, log_q=q)
    assert not ((some.x == 0) & ((some.w == 2) | (some.l == 2))).any()
    with pytest.raises(InputError, match="normalize"):
        population_pairs(world, bradley_terry(world.r), q - 1.0)
    with pytest.raises(InputError, match="world's responses"):
        population_pairs(world, bradley_terry(world.r[:, :2]))


def test_a_response_against_itself_says_nothing() -> None:
    world = coin()
    pairs = population_pairs(world, bradley_terry(world.r))
    apart = pairs.distinct()
    assert_close(np.diagonal(apart.weight[0]), 0.0, 0.0)
    assert_close(apart.weight[0, 1, 0], 1 / (1 + math.exp(-1)), 4 * EPS)
    slopes = [grad(lambda s, d=d: np.sum(d.weight * np.exp(d.margin(s))))(world.r) for d in (pairs, apart)]
    assert_close(slopes[0] * 2, slopes[1], 16 * EPS)  # half of all pairs were of one response
    with pytest.raises(InputError, match="two responses"):
        population_pairs(world, sure(world.r), np.array([[0.0, -np.inf]])).distinct()


@pytest.mark.parametrize("M", [[[0.5, 0.7], [0.7, 0.5]], [[0.4, 0.5], [0.5, 0.5]], [[0.5, 1.2], [-0.2, 0.5]], [0.5], [[0.5, 0.5]]])
def test_impossible_people_are_refused(M: Any) -> None:
    with pytest.raises(InputError):
        matrix(M)


def test_bad_numbers_are_refused(rng: np.random.Generator) -> None:
    for bad in (
        lambda: noisy(sure([[0.0]]), 1.5),
        lambda: sample_pairs(coin(), sure(coin().r), 0, rng=rng),
        lambda: bradley_terry([0.0, 1.0]),
    ):
        with pytest.raises(InputError):
            bad()
    with pytest.raises(InputError, match="flip"):
        log_flipped(0.0, 0.5)


# ---------------------------------------------------------------------------------------------------- rankings


@given(st.lists(st.integers(-6, 6), min_size=1, max_size=5))
def test_rankings_are_a_distribution_whose_pairs_are_bradley_terry(halves: list[int]) -> None:
    r = np.array(halves) / 2
    rankings = np.array(list(itertools.permutations(range(len(r)))))
    p = np.exp(log_plackett_luce(r, rankings))
    assert_close(np.sum(p), 1.0, 1e-13)
    law: Law = bradley_terry(r[None])
    for i, j in itertools.combinations(range(len(r)), 2):
        first = np.argmax(rankings == i, axis=1) < np.argmax(rankings == j, axis=1)
        assert_close(np.sum(p[first]), law.table()[0, i, j], 1e-13)


def test_a_ranking_of_the_best_few() -> None:
    """Leaving out the tail of a ranking of all is a sum over what may follow; among those offered only, it is a smaller choice."""
    r = np.array([0.3, -1.0, 0.7])
    pair = float(np.exp(log_plackett_luce(r, [0, 2])))
    assert abs(pair - 1 / (1 + math.exp(0.4))) < 1e-15


def test_sampled_rankings(rng: np.random.Generator) -> None:
    r, n = np.array([0.0, 1.0, -0.5]), 40_000
    drawn = sample_rankings(r, n, rng=rng)
    for ranking in itertools.permutations(range(3)):
        p = float(np.exp(log_plackett_luce(r, list(ranking))))
        assert abs(np.mean(np.all(drawn == ranking, axis=1)) - p) < 5 * math.sqrt(p * (1 - p) / n)


# ---------------------------------------------------------------------------------------------------- label noise


def best_margin(loss: Any, q: float, e: float) -> float:
    """The margin that minimizes q loss(D) + (1 - q) loss(-D): a root of its slope, by differences of closed forms."""

    def slope(D: Any) -> Any:
        value = q * grad(lambda d: loss(d, e))(float(D[0])) - (1 - q) * grad(lambda d: loss(d, e))(-float(D[0]))
        return np.array([value]), np.array([np.nan])

    return float(monotone_root(slope, np.array([-30.0]), np.array([30.0]))[0])


@pytest.mark.parametrize("D", [-3.0, -0.5, 0.25, 2.0, 5.0])
@pytest.mark.parametrize("e", [0.05, 0.2, 0.4])
def test_what_each_loss_makes_of_flipped_labels(D: float, e: float) -> None:
    q = (1 - e) / (1 + math.exp(-D)) + e / (1 + math.exp(D))
    assert abs(best_margin(lambda d, _: unbiased_loss(d, 0.0), q, e) - naive_margin(D, e)) < 1e-9
    assert abs(best_margin(unbiased_loss, q, e) - D) < 1e-9
    assert abs(best_margin(lambda d, e: -log_flipped(d, e), q, e) - D) < 1e-9
    assert abs(best_margin(smoothed_loss, q, e) - naive_margin(D, e, 2)) < 1e-9
    assert abs(naive_margin(D, e, 2)) < abs(naive_margin(D, e)) < abs(D)


def test_losses_in_plain_math() -> None:
    for D, e in itertools.product((-4.0, -1.0, 0.0, 0.5, 6.0), (0.0, 0.1, 0.45)):
        plus, minus = math.log1p(math.exp(-D)), math.log1p(math.exp(D))
        assert_close(unbiased_loss(D, e), ((1 - e) * plus - e * minus) / (1 - 2 * e), 1e-12)
        assert_close(smoothed_loss(D, e), (1 - e) * plus + e * minus, 1e-12)
        assert_close(log_flipped(D, e), math.log((1 - e) * math.exp(-plus) + e * math.exp(-minus)), 1e-12)


def test_the_likelihood_of_flipped_labels_has_no_kink_at_zero() -> None:
    for e in (0.0, 0.1, 0.45):
        assert_close(grad(lambda d, e=e: log_flipped(d, e))(0.0), (1 - 2 * e) / 2, 4 * EPS)


def test_the_unbiased_loss_is_not_bounded_below_on_one_pair() -> None:
    assert unbiased_loss(1e4, 0.1) < -1000
    assert smoothed_loss(1e4, 0.1) > 0
