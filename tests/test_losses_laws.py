"""Laws of direct alignment that single numbers do not see: frozen shifts pair by pair, descent as a derivative, prompts side by side."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tabular_rlhf.gibbs import solve
from tabular_rlhf.logspace import log_softmax
from tabular_rlhf.losses import LOSSES
from tabular_rlhf.losses.analyse import analyse, direction
from tabular_rlhf.losses.evaluate import gradient, logit_gradient, value
from tabular_rlhf.losses.family_anchored import mean_implicit_reward, mismatched_ratio, on_policy_kl, shares_of
from tabular_rlhf.losses.optimum import minima, minimize, starts
from tabular_rlhf.losses.record import corner
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.policy import uniform
from tabular_rlhf.preferences import Pairs, bradley_terry, population_pairs
from tabular_rlhf.world import World, coin, random_world, rational
from tests.laws import assert_close


def unequal(rng: np.random.Generator) -> tuple[World, Any, Pairs]:
    """Two prompts, a policy, and pairs in which some responses only lose, some only win, and prompts are asked unequally often."""
    world = random_world(rng=rng, V=3, H=2, P=2, beta=0.6)
    log_p = log_softmax(world.log_p_ref + rng.standard_normal(world.log_p_ref.shape))
    x, w, l = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 3, 2, 5]), np.array([1, 2, 1, 6, 6])
    weight = np.array([0.3, 0.25, 0.2, 0.15, 0.1])
    return world, log_p, Pairs(x, w, l, weight, 20)


def test_frozen_shifts_are_sums_over_pairs(rng: np.random.Generator) -> None:
    """BCO's delta is the mean of (beta a + beta b)/2, pair by pair, losers as winners; KTO's z0 pairs every prompt with every response."""
    world, log_p, pairs = unequal(rng)
    ratio = log_p - world.log_p_ref
    rows = list(zip(pairs.x.tolist(), pairs.w.tolist(), pairs.l.tolist(), pairs.weight.tolist(), strict=True))
    delta = math.fsum(n * world.beta * (ratio[x, w] + ratio[x, l]) / 2 for x, w, l, n in rows)
    s = {"beta": world.beta}
    assert_close(mean_implicit_reward(world, log_p, pairs, s), delta, 1e-14)
    for sign in (1.0, -1.0):  # z0 is not negative
        far = log_softmax(world.log_p_ref + 3 * sign * np.isin(np.arange(world.mdp.N), [1, 2, 6]))
        apart = far - world.log_p_ref
        z0 = math.fsum(m * n * (apart[x, w] + apart[x, l]) / 2 for x, _, _, m in rows for _, w, l, n in rows)
        assert_close(mismatched_ratio(world, far, pairs, s), world.beta * max(0.0, z0), 1e-14)
        assert (z0 > 0) is (sign > 0)
    p = np.exp(log_p)
    assert_close(on_policy_kl(world, log_p, pairs, s), world.beta * float(world.mu @ np.sum(p * ratio, axis=1)), 1e-14)
    wins, losses = shares_of(world, pairs)
    assert (wins[0, 0], losses[0, 1], losses[1, 6], wins[0, 1]) == (0.55, 0.5, 0.25, 0.0)
    assert_close([np.sum(wins), np.sum(losses)], 1.0, 1e-15)


@pytest.mark.parametrize("name", ["dpo", "ipo", "nca-pair", "apo-zero"])
def test_descent_is_the_derivative_of_log_p(name: str) -> None:
    """winner_rate and loser_rate: d/dt of E log p(y_w) and E log p(y_l) as response logits flow down the loss from p_ref."""
    world, h = random_world(rng=np.random.default_rng(3), V=2, H=2, P=2, beta=0.7), 1e-5
    pairs = population_pairs(world, bradley_terry(world.r)).distinct()
    report = analyse(name, world)
    slope = logit_gradient(world.log_p_ref, gradient(name, world, world.log_p_ref, pairs))
    assert_close(report.gradient_at_ref, slope, 1e-14)
    ends = [log_softmax(world.log_p_ref - t * slope) for t in (h, -h)]
    for y, rate in ((pairs.w, report.winner_rate), (pairs.l, report.loser_rate)):
        means = [float(np.sum(pairs.weight * e[pairs.x, y])) for e in ends]
        assert math.isclose((means[0] - means[1]) / (2 * h), rate, rel_tol=1e-7, abs_tol=1e-9)
    assert_close(report.value_at_ref, value(name, world, world.log_p_ref, pairs), 1e-14)
    p = np.exp(report.optimum.log_p)
    far = np.sum(world.mu[:, None] * p * np.where(p > 0, report.optimum.log_p - solve(world).log_p, 0.0))
    assert_close([report.regret, report.kl_to_gibbs], [world.beta * far, far], 1e-12)


@pytest.mark.parametrize("name", ["dpo", "ipo", "slic-reference", "chi-po"])
def test_prompts_are_minimized_side_by_side(name: str) -> None:
    """The minimum of several prompts is theirs alone: laws side by side, values added, the longest last step, iterations in all."""
    rng = np.random.default_rng(8)
    mdp = TokenMDP(4, 1, prompts=("x", "y", "z"), mu=[0.5, 0.2, 0.3])
    world = World(mdp, log_softmax(rng.standard_normal((3, 1, 4))), rng.standard_normal((3, 4)), 0.8)
    pairs = population_pairs(world, bradley_terry(world.r)).distinct()
    whole = minimize(name, world, pairs)
    alone = [minimize(name, world, replace(pairs, weight=np.where(np.arange(3)[:, None, None] == x, pairs.weight, 0.0))) for x in range(3)]
    assert_close(np.exp(whole.log_p), np.exp([m.log_p[x] for x, m in enumerate(alone)]), 1e-12)
    assert math.isclose(whole.value, math.fsum(m.value for m in alone), rel_tol=1e-12)
    steps = [m.step for m in alone]
    assert name != "dpo" or len(set(steps)) > 1
    assert whole.step == max(steps)
    assert whole.iterations == sum(m.iterations for m in alone)
    assert whole.dimension == sum(m.dimension for m in alone)
    assert (whole.attained, whole.vanishing.any()) == (True, False)


def test_one_prompt_that_runs_off_leaves_the_others_where_they_are() -> None:
    mdp = TokenMDP(2, 1, prompts=("x", "y"))
    world = World(mdp, uniform(mdp), np.array([[0.0, 1.0], [0.0, 1.0]]), 1.0)
    pairs = Pairs(np.array([0, 1, 1]), np.array([1, 1, 0]), np.array([0, 0, 1]), np.array([0.5, 0.3, 0.2]), None)
    found = minimize("dpo", world, pairs)
    assert not found.attained
    assert found.vanishing.tolist() == [[True, False], [False, False]]
    assert_close(np.exp(found.log_p[1]), [0.4, 0.6], 1e-12)
    assert found.words == "not attained: 1 responses vanish"
    assert direction(world, found) == [("vanishing", "x 0")]
    # the loss there is the infimum: log 2 on no pair of the first prompt
    assert found.value == pytest.approx(-0.3 * math.log(0.6) - 0.2 * math.log(0.4), abs=1e-10)


def test_starts_are_the_reference_and_both_tilts() -> None:
    """By min(5, 3/beta) nats towards what wins, and away from it, in proportion to how often; shown is what was compared."""
    for beta, far in ((0.1, 5.0), (2.0, 1.5)):
        world = coin(beta).with_reward([[0.0, 1.0]])
        pairs = Pairs(np.zeros(2, dtype=int), np.array([1, 0]), np.array([0, 1]), np.array([0.75, 0.25]), None)
        here, towards, away = starts(world, pairs)
        assert_close(here, world.log_p_ref, 1e-15)
        assert_close(np.diff(towards)[0, 0], far * (0.75 - 0.25) * 2, 1e-12)
        assert_close(np.diff(away)[0, 0], -far * (0.75 - 0.25) * 2, 1e-12)


@pytest.mark.parametrize("name", ["discopop", "apo-down"])
def test_minima_are_each_once_lowest_first(name: str) -> None:
    """Two of them here, and the one reached from p_ref is the higher one for discopop."""
    world = rational(0.3)
    pairs = population_pairs(world, bradley_terry(world.r)).distinct()
    found = minima(name, world, pairs)
    assert [m.value for m in found] == sorted(m.value for m in found)
    assert np.max(np.abs(np.exp(found[0].log_p) - np.exp(found[1].log_p))) > 0.1
    assert len(found) == 2
    assert minimize(name, world, pairs).value == pytest.approx(found[name == "discopop"].value, rel=1e-14)


@pytest.mark.parametrize("width", [1.0, 0.1, 1e-4, 1e-9])
def test_a_rounded_corner_lies_above_by_at_most_width_log_two(width: float) -> None:
    x = width * np.array([-800.0, -3.0, -0.1, 0.0, 0.1, 3.0, 800.0])
    gap = corner(x, width) - np.maximum(0.0, x)
    assert (gap >= 0).all()
    assert np.max(gap) == pytest.approx(width * math.log(2.0))
    assert np.argmax(gap) == 3
    assert corner(x, 0.0).tolist() == np.maximum(0.0, x).tolist()


def test_a_kink_ends_within_its_width_of_the_minimum() -> None:
    """The value at a corner is the paper's, not the rounded one: slic on the coin by a fine grid."""
    world = coin(1.0)
    pairs = population_pairs(world, bradley_terry(world.r)).distinct()
    for name in ("slic", "slic-reference"):
        found = minimize(name, world, pairs)
        grid = [value(name, world, log_softmax(np.array([[0.0, z]])), pairs) for z in np.linspace(-8, 8, 4001)]
        assert found.corners is bool(LOSSES[name].kinks)
        assert found.value <= min(grid) + 1e-7
