"""Policy gradients: records against their papers' equations, exact updates against all groups, samples against exact."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from tabular_rlhf.autodiff import grad
from tabular_rlhf.errors import InputError
from tabular_rlhf.logspace import log_softmax
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.policy import NGram, uniform
from tabular_rlhf.policy_gradient import ADVANTAGES, AGGREGATIONS, LOSSES, Recipe, analyse, success_weight
from tabular_rlhf.policy_gradient import groups as g
from tabular_rlhf.policy_gradient.analysis import TWO
from tabular_rlhf.policy_gradient.record import Advantage
from tabular_rlhf.policy_gradient.updates import covariance, expected_update, surrogate, true_gradient, update_of, updates
from tabular_rlhf.registry import parameters
from tabular_rlhf.world import World, coin, random_world
from tests.laws import EPS, assert_close

LEVELS = np.array([-1.0, 0.0, 0.1, 0.3])


def small_world(seed: int = 0, P: int = 2, forbidden: float = 0.0) -> World:
    """Three responses a prompt, lengths 1 and 2, rewards of few levels."""
    world = random_world(rng=np.random.default_rng(seed), V=2, H=2, P=P, forbidden=forbidden)
    return world.with_reward(np.random.default_rng(seed).choice(LEVELS, world.r.shape))


def policy_near(world: World, seed: int = 1, spread: float = 0.5) -> Any:
    return world.log_ref + spread * np.random.default_rng(seed).standard_normal(world.log_ref.shape)


def recipes(G: int) -> list[Recipe]:
    """Every advantage with every loss and aggregation that G allows."""
    fits = [a for a in ADVANTAGES.values() if a.smallest <= G]
    return [Recipe(a, loss, rule, G=G) for a, loss, rule in itertools.product(fits, LOSSES, AGGREGATIONS)]


# ---------------------------------------------------------------------------------------------------- records


@pytest.mark.parametrize("name", list(ADVANTAGES))
def test_an_advantage_is_its_equation(name: str, rng: np.random.Generator) -> None:
    record = ADVANTAGES[name]
    for G, settings in itertools.product((1, 2, 3, 5), ({}, {"ddof": 1}, {"epsilon": 1e-4})):
        kept = {k: v for k, v in settings.items() if k in record.defaults}
        if record.smallest > G or (name == "loo-std" and kept.get("ddof") == 1 and G == 2):
            continue
        recipe = Recipe(name, G=G, **kept)
        for _ in range(20):
            r, lengths = rng.choice(LEVELS, G), rng.integers(1, 6, G).astype(float)
            given = {"greedy": np.array(0.25), "best": np.array(-0.5), "lengths": lengths}
            got = np.broadcast_to(record(r=r, n=np.ones(G), G=G, **given, **recipe.settings), (G,))
            plain = {"r": r.tolist(), "lengths": lengths.tolist(), "greedy": 0.25, "best": -0.5, **recipe.settings}
            names = [k for k in parameters(record.oracle) if k != "i"]
            want = [record.oracle(i=i, **{k: plain[k] for k in names}) for i in range(G)]
            # (r - mean)/s: the spread of distinct levels is at least 0.1/G
            assert_close(got, np.array(want), 64 * G * EPS * (1 + np.max(np.abs(want))) * 10 * G, name)


@pytest.mark.parametrize("name", list(LOSSES))
def test_a_policy_loss_is_its_equation(name: str, rng: np.random.Generator) -> None:
    record = LOSSES[name]
    settings = {**record.defaults, **({"low": 0.2, "high": 0.3} if "low" in record.defaults else {})}
    for _ in range(200):
        supply = dict(zip(("log_pi", "log_old", "log_now"), -rng.exponential(1.0, 3), strict=True))
        supply |= {"A": float(rng.choice([-2.0, -0.5, 0.7, 1.5])), **settings}
        want = record.oracle(**{k: supply[k] for k in parameters(record.oracle)})
        assert_close(record(**supply), want, 32 * EPS * (1 + abs(want)) * (1 + math.exp(abs(supply["log_pi"] - supply["log_old"]))), name)


@pytest.mark.parametrize("name", list(LOSSES))
def test_a_policy_loss_is_homogeneous_in_the_advantage(name: str, rng: np.random.Generator) -> None:
    """The credit of a response rests on this: f(rho, A) = |A| f(rho, sign A); a linear one also f(rho, -A) = -f(rho, A)."""
    record = LOSSES[name]
    log_pi, log_old, log_now = -rng.exponential(1.0, (3, 50))
    for A in (2.5, -0.3):
        whole = record(log_pi=log_pi, log_old=log_old, log_now=log_now, A=A, **record.defaults)
        sign = record(log_pi=log_pi, log_old=log_old, log_now=log_now, A=np.sign(A), **record.defaults)
        assert_close(whole, abs(A) * sign, 8 * EPS * (1 + np.abs(whole)))
        other = record(log_pi=log_pi, log_old=log_old, log_now=log_now, A=-A, **record.defaults)
        assert record.linear == bool(np.allclose(other, -whole, rtol=1e-12, atol=0.0))


@pytest.mark.parametrize("name", list(AGGREGATIONS))
def test_an_aggregation_is_its_equation(name: str, rng: np.random.Generator) -> None:
    record = AGGREGATIONS[name]
    for G in (1, 2, 5):
        lengths = rng.integers(1, 6, G).astype(float)
        got = record(lengths=lengths, n=np.ones(G), G=G, H=5, **record.defaults)
        supply = {"lengths": lengths.tolist(), "G": G, "H": 5, **record.defaults}
        want = [record.oracle(**{k: supply[k] for k in parameters(record.oracle) if k != "i"}, i=i) for i in range(G)]
        assert_close(got, np.array(want), 4 * EPS)


@pytest.mark.parametrize("name", ["grpo", "loo-std"])
def test_equal_rewards_are_worth_nothing_not_their_rounding(name: str) -> None:
    """The mean of 0.1, 0.1, 0.1 is not 0.1 in binary; a division by its rounding would make an advantage of size one."""
    for epsilon in (0.0, 1e-4):
        for G in (3, 7, 10):
            recipe = Recipe(name, G=G, epsilon=epsilon)
            A = recipe.advantage(r=np.full(G, 0.1), n=np.ones(G), G=G, **recipe.settings)
            assert np.max(np.abs(A)) <= (0.0 if name == "grpo" or epsilon == 0 else 4 * EPS / epsilon)


# ---------------------------------------------------------------------------------------------------- exact against all groups


@pytest.mark.parametrize("G", [1, 2, 3, 4])
@pytest.mark.parametrize("off_policy", [False, True])
def test_counts_are_all_groups(G: int, off_policy: bool) -> None:
    """Mean by credit, mean of every group's update, and covariance: to 1e-12, for every recipe of the three tables."""
    world = small_world(G)
    logits, old = policy_near(world), world.log_ref if off_policy else None
    log_old = log_softmax(logits) if old is None else old
    everything = g.population(world, world.mdp.path_sum(log_old), G)
    for recipe in recipes(G):
        exact = expected_update(world, logits, recipe, log_old=old)
        one_by_one = updates(world, everything, logits, recipe, log_old=old)
        credited = update_of(world, g.credit_of(world, everything, recipe, log_old), logits, recipe, log_old=old)
        assert_close(exact.ravel(), one_by_one.mean, 1e-12, recipe.name)
        assert_close(exact, credited, 1e-12, recipe.name)
        assert_close(covariance(world, logits, recipe, log_old=old), one_by_one.covariance, 1e-12, recipe.name)


@pytest.mark.parametrize("name", [a for a in ADVANTAGES if a != "none"])
def test_counts_are_all_groups_where_tokens_are_forbidden(name: str) -> None:
    world = small_world(5, forbidden=0.5)
    recipe = Recipe(name, "ppo-clip", "token-mean", G=3)
    everything = g.population(world, world.log_p_ref, 3)
    assert_close(expected_update(world, world.log_ref, recipe).ravel(), updates(world, everything, world.log_ref, recipe).mean, 1e-12)


@pytest.mark.parametrize("G", [2, 5, 16, 64])
def test_group_weights_are_fractions(G: int) -> None:
    """q = 1/3: binomial chances as fractions; only the square roots are floats."""
    q, others = Fraction(1, 3), G - 1
    chance = [math.comb(others, m) * q**m * (1 - q) ** (others - m) for m in range(G)]
    success = math.fsum(float(c) * math.sqrt((G - m - 1) / (m + 1)) for m, c in enumerate(chance))
    failure = math.fsum(-float(c) * math.sqrt(m / (G - m)) for m, c in enumerate(chance))
    assert_close(success_weight(1 / 3, Recipe("grpo", G=G)), success - failure, 1e-12)


@pytest.mark.parametrize("name", ["rloo", "group-mean"])
def test_sixty_four_responses_of_three_levels(name: str) -> None:
    """The clip's loss forces the sum over 2145 counts; the closed form is (G - 1)/G of the gradient, or all of it."""
    mdp = TokenMDP(3, 1)
    world = World(mdp, uniform(mdp), np.array([[0.0, 0.5, 1.0]]), 1.0)
    logits = np.array([[[0.3, -0.2, 0.5]]])
    got = expected_update(world, logits, Recipe(name, "ppo-clip", G=64))
    factor = 1.0 if name == "rloo" else 63 / 64
    assert_close(got, factor * true_gradient(world, log_softmax(logits)), 1e-12)


def test_pushes_at_sixty_four_are_the_success_weight() -> None:
    recipe = Recipe("grpo", G=64)
    up, down = g.pushes(TWO, recipe, {})
    assert_close((up - down)[1] / 64 - (up - down)[0] / 64, success_weight(0.5, recipe), 1e-12)


def test_counts_are_complete_and_their_law_sums_to_one() -> None:
    for G, K in ((1, 1), (4, 3), (64, 3)):
        n = g.counts(G, K)
        assert len(n) == math.comb(G + K - 1, K - 1) == len(np.unique(n, axis=0))
        assert np.all(np.sum(n, axis=1) == G)
        q = np.arange(1.0, K + 1) / np.sum(np.arange(1.0, K + 1))
        assert_close(np.sum(g.count_probabilities(n, q)), 1.0, 1e-12)


# ---------------------------------------------------------------------------------------------------- samples against exact

DRAWS = 20_000


@pytest.mark.parametrize("loss", list(LOSSES))
@pytest.mark.parametrize("name", list(ADVANTAGES))
def test_samples_agree_within_five_exact_standard_errors(name: str, loss: str, rng: np.random.Generator) -> None:
    """Mean against the exact covariance; each entry of the covariance against its own exact variance, from all groups."""
    world, recipe = small_world(3), Recipe(name, loss, "token-mean", G=3)
    logits, old = policy_near(world), world.log_ref
    drawn = updates(world, g.sample(world, world.log_p_ref, 3, DRAWS, rng=rng), logits, recipe, log_old=old)
    exact, spread = expected_update(world, logits, recipe, log_old=old).ravel(), covariance(world, logits, recipe, log_old=old)
    variance = np.maximum(0.0, np.diag(spread))
    assert_close(drawn.mean, exact, 5 * np.sqrt(variance / DRAWS) + 1e-12)
    every = updates(world, g.population(world, world.log_p_ref, 3), logits, recipe, log_old=old)
    centered = every.value - exact
    products = centered[:, :, None] * centered[:, None, :]
    fourth = np.einsum("n,nab->ab", every.weight, np.square(products)) - np.square(spread)
    # the sample is centered at its own mean: an error of the order of its squared standard error
    slack = 25 * np.sqrt(np.outer(variance, variance)) / DRAWS + 1e-12
    assert_close(drawn.covariance, spread, 5 * np.sqrt(np.maximum(0.0, fourth) / DRAWS) + slack)


def test_sampled_credit_makes_the_sampled_mean(rng: np.random.Generator) -> None:
    world, recipe = small_world(4), Recipe("grpo", "clip-higher", "sequence-mean", G=5)
    drawn, logits = g.sample(world, world.log_p_ref, 5, 500, rng=rng), policy_near(world)
    credited = update_of(world, g.credit_of(world, drawn, recipe, world.log_ref), logits, recipe, log_old=world.log_ref)
    assert_close(credited.ravel(), updates(world, drawn, logits, recipe, log_old=world.log_ref).mean, 1e-12)
    assert set(np.unique(drawn.x)) == {0, 1}


# ---------------------------------------------------------------------------------------------------- losses


@pytest.mark.parametrize("loss", list(LOSSES))
def test_the_update_is_a_finite_difference_of_the_surrogate(loss: str) -> None:
    """No stop-gradient: frozen quantities are arguments, so a difference at fixed arguments is a witness."""
    world, recipe = small_world(6), Recipe("rloo", loss, G=4)
    logits = policy_near(world, spread=0.8)
    log_pi = log_softmax(logits)
    credit = g.expected_credit(world, world.log_ref, recipe)

    def value(t: Any) -> float:
        return float(surrogate(world.mdp, credit, recipe, log_softmax(t), log_old=world.log_ref, log_now=log_pi))

    got, h = expected_update(world, logits, recipe, log_old=world.log_ref), 1e-4
    for i in itertools.product(*map(range, logits.shape)):
        e = np.zeros_like(logits)
        e[i] = h
        slope = (8 * (value(logits + e) - value(logits - e)) - value(logits + 2 * e) + value(logits - 2 * e)) / (12 * h)
        assert_close(got[i], slope, 1e-10)


def test_at_the_behavior_policy_all_losses_are_one_policy_gradient() -> None:
    world = small_world(7)
    logits = policy_near(world)
    want = expected_update(world, logits, Recipe("rloo", "reinforce"))
    for loss in LOSSES:
        rule = "sequence-mean" if LOSSES[loss].level == "geometric" else "sequence-sum"
        same = expected_update(world, logits, Recipe("rloo", "reinforce", rule))
        assert_close(expected_update(world, logits, Recipe("rloo", loss)), same, 1e-14, loss)
        if LOSSES[loss].level != "geometric":
            assert_close(same, want, 0.0)
    assert_close(want, true_gradient(world, log_softmax(logits)), 1e-14)


def test_off_policy_only_the_sequence_ratio_is_unbiased() -> None:
    world = small_world(8)
    logits = policy_near(world, spread=1.0)
    truth = true_gradient(world, log_softmax(logits))
    for loss in LOSSES:
        tight = {"cap": 1.0} if "cap" in LOSSES[loss].defaults else {}
        error = np.max(np.abs(expected_update(world, logits, Recipe("none", loss, **tight), log_old=world.log_ref) - truth))
        assert (error < 1e-14) == (loss == "sequence-ratio"), (loss, error)


def test_any_policy_class_by_the_chain_rule() -> None:
    """A bigram class: the surrogate's own gradient is the tabular update summed over the states that share a row."""
    world, recipe = random_world(rng=np.random.default_rng(2), V=3, H=3).with_reward(np.ones((1, 15))), Recipe("none", "ppo-clip", G=1)
    world = world.with_reward(np.round(np.random.default_rng(3).standard_normal((1, 15))))
    tied = NGram(world.mdp, 1)
    theta = np.random.default_rng(4).standard_normal(tied.shape)
    log_pi = np.array(tied.log_pi(theta))
    credit = g.expected_credit(world, world.log_ref, recipe)
    got = grad(lambda t: surrogate(world.mdp, credit, recipe, tied.log_pi(t), log_old=world.log_ref, log_now=log_pi))(theta)
    want = np.zeros(tied.shape)
    np.add.at(want, tied.context, np.sum(expected_update(world, log_pi, recipe, log_old=world.log_ref), axis=0))
    assert_close(got, want, 1e-13)


# ---------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("build", "must"),
    [
        (lambda: Recipe("rloo", G=1), "at least 2 responses"),
        (lambda: Recipe("loo-std", G=2), "at least 3 responses"),
        (lambda: Recipe("none", G=0), "whole number"),
        (lambda: Recipe("none", G=2.5), "whole number"),  # type: ignore[arg-type]
        (lambda: Recipe("grpo", epsilon=-1e-4), "epsilon must be at least 0"),
        (lambda: Recipe("grpo", epsilon=float("nan")), "epsilon must be at least 0"),
        (lambda: Recipe("grpo", ddof=2), "ddof must be 0 or 1"),
        (lambda: Recipe("rloo", "ppo-clip", clip=1.5), "clip must be between 0 and 1"),
        (lambda: Recipe("rloo", "dual-clip", dual=0.5), "dual must be above 1"),
        (lambda: Recipe("rloo", aggregation="constant", scale=0.0), "scale must be positive"),
        (lambda: Recipe("rloo", epsilon=0.1), "change must be of a setting"),
        (lambda: Recipe("ppo"), "advantage must be a known one"),
        (lambda: g.counts(64, 12), "counts of kinds must fit"),
        (lambda: g.population(coin(), coin().log_p_ref, 40), "all groups must fit"),
        (lambda: g.sample(coin(), coin().log_p_ref, 2, 0, rng=np.random.default_rng(0)), "at least one group"),
        (lambda: success_weight(1.5, Recipe("grpo")), "q must be a probability"),
        (lambda: ADVANTAGES.add(ADVANTAGES["rloo"]), "name of its own"),
        (lambda: Advantage("x", "x", "", lambda r: r, lambda i, r: r[i]), "equation and a source"),
        (lambda: Advantage("x", "x", "x", lambda nonsense: nonsense, lambda i, r: r[i]), "must be given or have a default"),
    ],
)
def test_bad_options_are_refused_in_four_parts(build: Any, must: str) -> None:
    with pytest.raises(InputError, match=must) as refusal:
        build()
    assert refusal.value.must
    assert refusal.value.got
    assert refusal.value.remedy


def test_a_policy_that_forbids_what_was_drawn_is_refused() -> None:
    with pytest.raises(InputError, match="pi must allow what the sampler draws"):
        expected_update(coin(), np.array([[[0.0, -np.inf]]]), Recipe("rloo"), log_old=coin().log_ref)


def test_where_nothing_can_be_gained_there_is_no_direction() -> None:
    """A large reward that is the same for all: what rounding leaves of the gradient is no gradient."""
    world = random_world(rng=np.random.default_rng(1), V=3, H=2)
    found = analyse(world.with_reward(np.full_like(world.r, 1e3 / 3.0)), world.log_ref, Recipe("none", G=2))
    assert (found.cosine, found.ratio) == (None, None)
