"""Direct alignment losses: laws over the registry, closed-form optima, and what the records claim of themselves."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tabular_rlhf.autodiff import check_grad, grad
from tabular_rlhf.errors import InputError
from tabular_rlhf.gibbs import solve
from tabular_rlhf.logspace import log_softmax
from tabular_rlhf.losses import LOSSES, TRAITS, DirectLoss, register
from tabular_rlhf.losses.analyse import analyse, family_table
from tabular_rlhf.losses.closed import win_rate
from tabular_rlhf.losses.evaluate import gradient, logit_gradient, slope_gradient, token_gradient, value
from tabular_rlhf.losses.optimum import minima, minimize, starts
from tabular_rlhf.losses.traits import BETAS, TESTS, draw_pairs, faults
from tabular_rlhf.preferences import Pairs, bradley_terry, noisy, population_pairs, sample_pairs, sure
from tabular_rlhf.registry import parameters
from tabular_rlhf.world import World, coin, generated_worlds, random_world, rational

EPS = float(np.finfo(float).eps)
EACH = pytest.mark.parametrize("name", list(LOSSES))


def pairs_of(world: World) -> Pairs:
    return population_pairs(world, bradley_terry(world.r)).distinct()


def small_worlds() -> list[World]:
    """Worlds of two to sixteen responses, those whose reference leaves a prompt one response left out."""
    drawn = generated_worlds(40, rng=np.random.default_rng(9), largest=16)
    return [w for w in drawn if np.all(np.sum(~np.isneginf(w.log_p_ref), axis=1) > 1)]


WORLDS = small_worlds()


def policy(world: World, seed: int = 1) -> Any:
    """A policy that is neither p_ref nor p*."""
    noise = np.random.default_rng(seed).standard_normal(world.log_p_ref.shape)
    return log_softmax(world.log_p_ref + noise)


# ---------------------------------------------------------------------------------------------------- code and equation


@EACH
@pytest.mark.parametrize("beta", [0.05, *BETAS])
def test_code_is_the_equation_in_plain_math(name: str, beta: float, rng: np.random.Generator) -> None:
    loss = LOSSES[name]
    s = draw_pairs(loss, beta, rng=rng, n=300)
    s |= {"a": s["p"] - s["ref_w"], "b": s["q"] - s["ref_l"]}
    got = np.broadcast_to(loss(**s), s["p"].shape)
    names = parameters(loss.oracle)
    for i, g in enumerate(got):
        want = loss.oracle(**{k: float(s[k][i]) if np.ndim(s[k]) else s[k] for k in names})
        assert math.isclose(g, want, rel_tol=1e-12, abs_tol=1e-12)


@EACH
def test_gradient_three_ways(name: str) -> None:
    """The core, the hand slope where there is one, and steps of the value at frozen parameters held."""
    loss = LOSSES[name]
    for world in WORLDS[:6]:
        pairs, log_p = pairs_of(world), policy(world)
        by_core = gradient(loss, world, log_p, pairs)
        if loss.slope is not None:
            np.testing.assert_allclose(slope_gradient(loss, world, log_p, pairs), by_core, atol=1e-11 * (1 + np.max(np.abs(by_core))))
        held = {k: rule(world, log_p, pairs, loss.settings(world.beta)) for k, rule in loss.frozen.items()}
        if {"p0", "q0"} & set(loss.needs):
            continue  # its frozen part is each pair's own: see the test below
        allowed = ~np.isneginf(log_p)
        v = np.where(allowed, np.random.default_rng(3).standard_normal(log_p.shape), 0.0)
        h = 1e-5

        def along(t: float, world: World = world, v: Any = v, held: Any = held, pairs: Pairs = pairs, log_p: Any = log_p) -> float:
            return float(value(loss, world, log_p + t * v, pairs, **held))

        stepped = (8 * (along(h) - along(-h)) - along(2 * h) + along(-2 * h)) / (12 * h)
        # a corner crossed within the step would spoil this; none is, at a policy drawn at random
        size = 1 + abs(along(0.0))
        assert abs(stepped - np.sum(np.where(allowed, by_core * v, 0.0))) < 1e-8 * size / min(1.0, world.beta) ** 2


def test_weights_of_wpo_are_frozen(rng: np.random.Generator) -> None:
    """Its gradient is that of a sum with constant weights, not of the product."""
    world = random_world(rng=rng, V=3, H=2)
    pairs, log_p = pairs_of(world), policy(world)
    lengths, ref = world.mdp.lengths, world.log_p_ref

    def by_hand(q: Any, q0: Any) -> Any:
        weight = np.exp(q0[0, pairs.w] / lengths[pairs.w] + q0[0, pairs.l] / lengths[pairs.l])
        D = q[0, pairs.w] - q[0, pairs.l] - (ref[0, pairs.w] - ref[0, pairs.l])
        return np.sum(pairs.weight * weight * np.logaddexp(0.0, -world.beta * D))

    np.testing.assert_allclose(gradient("wpo", world, log_p, pairs), grad(by_hand)(log_p, log_p), atol=1e-14)


@EACH
def test_second_derivatives_are_right(name: str) -> None:
    """Newton's Hessian against the gradient's own steps: in response logits, by one random inner product."""
    from tabular_rlhf.losses.evaluate import settings_at
    from tabular_rlhf.losses.problem import prompt_problem

    world = random_world(rng=np.random.default_rng(2), V=3, H=2, beta=0.8)
    loss, pairs, log_p = LOSSES[name], pairs_of(world), policy(world)
    problem = prompt_problem(loss, world, pairs, 0, np.arange(world.mdp.N), log_p, settings_at(loss, world, log_p, pairs, {}))
    assert problem is not None
    theta, v, h = log_p[0], np.random.default_rng(4).standard_normal(world.mdp.N), 1e-4
    width = 0.3  # corners rounded, where there are any
    at = [problem.quadratic(theta + k * h * v, width)[1] for k in (-2, -1, 1, 2)]
    stepped = (8 * (at[2] - at[1]) - at[3] + at[0]) / (12 * h)
    H = problem.quadratic(theta, width)[2]
    np.testing.assert_allclose(H @ v, stepped, atol=1e-7 * (1 + np.max(np.abs(H))))
    np.testing.assert_allclose(H, H.T, atol=1e-12 * (1 + np.max(np.abs(H))))


# ---------------------------------------------------------------------------------------------------- what records claim


@EACH
def test_traits_hold_and_absent_ones_fail(name: str) -> None:
    assert faults(name, rng=np.random.default_rng(5)) == []


def test_every_trait_has_a_test_and_losses_with_and_without_it() -> None:
    assert TESTS.keys() == TRAITS.keys()
    for trait in TRAITS:
        assert 0 < sum(trait in loss.traits for loss in LOSSES.values()) < len(LOSSES)


def test_the_registry_refuses() -> None:
    dpo = LOSSES["dpo"]
    with pytest.raises(InputError, match="name of its own"):
        register(dpo)
    with pytest.raises(InputError, match="vocabulary"):
        replace(dpo, traits=frozenset({"good"}))
    with pytest.raises(InputError, match="a source"):
        replace(dpo, source="")
    with pytest.raises(InputError, match="an oracle"):
        replace(dpo, oracle=None)
    with pytest.raises(InputError, match="apart from fn"):
        replace(dpo, oracle=dpo.fn)
    with pytest.raises(InputError, match="given or have a default"):
        replace(dpo, fn=lambda a, c: a * c)
    with pytest.raises(InputError, match="a change must be of a parameter"):
        dpo.settings(1.0, eps=0.1)
    with pytest.raises(InputError, match="variant"):
        register(replace(dpo, name="other", variant_of="nothing"))


def test_a_wrong_record_is_found_out() -> None:
    """Claims that are not so, and modesty that is not called for."""
    ipo = LOSSES["ipo"]
    boastful = replace(ipo, traits=ipo.traits | {"saturates"})
    assert any("is not saturates" in f for f in faults(boastful, rng=np.random.default_rng(0)))
    modest = replace(ipo, traits=ipo.traits - {"convex"})
    assert any("does not claim" in f for f in faults(modest, rng=np.random.default_rng(0)))


@pytest.mark.parametrize("name", ["dpo", "ipo", "r-dpo", "chi-po", "simpo", "sppo-hard", "apo-zero"])
def test_a_planted_lie_in_any_claim_is_found(name: str) -> None:
    """Another equation in plain math, another slope, another closed form, a trait too many or too few."""
    true = LOSSES[name]
    oracle = eval(f"lambda {', '.join(parameters(true.oracle))}: 1e-6 + f({', '.join(parameters(true.oracle))})", {"f": true.oracle})
    slope, optimum, trait = true.slope, true.optimum, sorted(TRAITS)[len(name) % len(TRAITS)]
    lie = replace(
        true,
        oracle=oracle,
        slope=eval(f"lambda {', '.join(parameters(slope))}: -f({', '.join(parameters(slope))})", {"f": slope}) if slope else None,
        optimum=(lambda world, s: optimum(world.with_reward(1.01 * world.r), s)) if optimum else None,
        traits=true.traits ^ {trait},
    )
    found = faults(lie, rng=np.random.default_rng(5))
    assert [f for f in found if "another" in f] == [
        f"{name} has another {what}" for what in ("oracle", "slope", "optimum") if what == "oracle" or getattr(true, what) is not None
    ]
    assert len([f for f in found if "another" not in f]) == 1, trait


def test_the_objective_of_an_optimum_is_measured() -> None:
    """What each loss's optimum maximizes, by stationarity on three worlds; by hand from the papers."""
    kl, chi = "E[r] - beta KL(p, p_ref)", "E[r] - beta (chi^2/2 + KL)(p, p_ref)"
    want = {"dpo": kl, "wpo": kl, "ipo": "E[P(y beats p_ref)] - tau KL(p, p_ref)", "r-dpo": "E[r - alpha |y|] - beta KL(p, p_ref)"}
    want |= {"chi-po": chi, "f-dpo-forward-kl": "E[r] - beta D_f(p, p_ref), f of forward-kl"}
    for name in (*want, "dpo-averaged", "cdpo", "robust-dpo", "simpo", "sppo-hard", "nca-pair"):
        assert analyse(name, rational()).objective == want.get(name), name
    squeezed = analyse("chi-po-clipped", rational().with_reward(100.0 * rational().r))
    assert squeezed.objective is None, "rewards further apart than the clip"


# ---------------------------------------------------------------------------------------------------- weighted data


def rearranged(pairs: Pairs, order: Any) -> Pairs:
    shape = np.broadcast_shapes(*(np.shape(k) for k in (pairs.x, pairs.w, pairs.l, pairs.weight)))
    x, w, l, weight = (np.ravel(np.broadcast_to(k, shape))[order] for k in (pairs.x, pairs.w, pairs.l, pairs.weight))
    return Pairs(x, w, l, weight, pairs.n)


@EACH
def test_order_copies_and_splits_of_the_data_change_nothing(name: str, rng: np.random.Generator) -> None:
    world = random_world(rng=rng, V=3, H=2, P=2)
    pairs, log_p = pairs_of(world), policy(world)
    count = rearranged(pairs, slice(None)).weight.size
    shuffled = rearranged(pairs, rng.permutation(count))
    twice = rearranged(pairs, np.concatenate([np.arange(count)] * 2))
    share = rng.random(count)
    split = replace(twice, weight=twice.weight * np.concatenate([share, 1.0 - share]))
    want, slope = value(name, world, log_p, pairs), gradient(name, world, log_p, pairs)
    for data in (shuffled, replace(twice, weight=twice.weight / 2.0), split):
        tol = 4 * EPS * count * (1.0 + abs(want))
        assert abs(value(name, world, log_p, data) - want) <= tol
        np.testing.assert_allclose(gradient(name, world, log_p, data), slope, atol=tol * (1 + np.max(np.abs(slope))))


@EACH
def test_population_is_the_mean_of_samples(name: str, rng: np.random.Generator) -> None:
    """Each pair's loss over draws, within five exact standard errors of the population's."""
    world = random_world(rng=rng, V=3, H=2)
    log_p, n = policy(world), 20_000
    law = bradley_terry(world.r)
    everyone, some = population_pairs(world, law), sample_pairs(world, law, n, rng=rng)
    held = {k: rule(world, log_p, everyone, LOSSES[name].settings(world.beta)) for k, rule in LOSSES[name].frozen.items()}
    exact = value(name, world, log_p, everyone, **held)
    square = sum(
        float(everyone.weight[0, i, j]) * value(name, world, log_p, one(i, j), **held) ** 2
        for i in range(world.mdp.N)
        for j in range(world.mdp.N)
    )
    error = math.sqrt(max(0.0, square - exact**2) / n)
    assert abs(value(name, world, log_p, some, **held) - exact) <= 5 * error


def one(w: int, l: int) -> Pairs:
    return Pairs(np.zeros(1, dtype=int), np.array([w]), np.array([l]), np.ones(1), None)


@EACH
def test_forbidden_tokens_give_no_nan(name: str) -> None:
    world = random_world(rng=np.random.default_rng(1), V=4, H=2, forbidden=0.5)
    assert np.isneginf(world.log_p_ref).any()
    pairs, log_p = pairs_of(world), policy(world)
    assert np.isfinite(value(name, world, log_p, pairs))
    g = gradient(name, world, log_p, pairs)
    assert np.all(np.isfinite(g))
    assert np.all(g[np.isneginf(world.log_p_ref)] == 0)
    found = minimize(name, world, pairs)
    assert not np.isnan(found.log_p).any()
    assert np.all(np.isneginf(found.log_p[np.isneginf(world.log_p_ref)]))


def test_an_impossible_pair_is_refused() -> None:
    world = random_world(rng=np.random.default_rng(1), V=4, H=2, forbidden=0.5)
    dead = int(np.argmax(np.isneginf(world.log_p_ref[0])))
    with pytest.raises(InputError, match="the reference must be able to make"):
        value("dpo", world, world.log_p_ref, one(dead, 0))
    alive = np.flatnonzero(~np.isneginf(world.log_p_ref[0]))[:2]
    lame = world.log_p_ref.copy()
    lame[0, alive[0]] = -np.inf
    with pytest.raises(InputError, match="the policy must be able to make"):
        value("dpo", world, lame, one(*(int(i) for i in alive)))


def test_token_gradient_is_the_chain_through_the_tree(rng: np.random.Generator) -> None:
    world = random_world(rng=rng, V=3, H=3)
    logits = np.array(world.log_ref) + 0.3 * rng.standard_normal(world.log_ref.shape)
    pairs = pairs_of(world)
    _, g = token_gradient("ipo", world, logits, pairs)
    error = check_grad(lambda t: value("ipo", world, world.mdp.path_sum(log_softmax(t)), pairs), logits, rng=rng)
    assert error < 1e-8
    assert np.max(np.abs(np.sum(g, axis=-1))) < 1e-12


# ---------------------------------------------------------------------------------------------------- optima


CLOSED = [name for name, loss in LOSSES.items() if loss.optimum is not None and not loss.kinks]


@pytest.mark.parametrize("name", CLOSED)
def test_population_optimum_is_the_closed_form(name: str) -> None:
    """To 1e-8 in total variation on every world where the form reaches, and from a second start."""
    loss, reached = LOSSES[name], 0
    changes = {"gamma": 0.0} if name == "simpo" else {}
    arms = [coin(b) for b in (0.3, 1.0, 4.0)] + [coin(0.7).with_reward([[0.4, 0.1]])]
    for world in [*WORLDS[:12], *arms]:
        closed = loss.optimum(world, loss.settings(world.beta, **changes)) if loss.optimum else None
        if closed is None:
            continue
        reached += 1
        pairs = pairs_of(world)
        for start in (None, starts(world, pairs)[1]):
            found = minimize(loss, world, pairs, start=start, **changes)
            assert found.attained
            assert found.dimension == 0
            assert np.max(0.5 * np.sum(np.abs(np.exp(found.log_p) - np.exp(closed)), axis=1)) <= 1e-8
    assert reached >= 3


def test_clipped_chi_po_agrees_where_no_rewards_are_far_apart() -> None:
    world = random_world(rng=np.random.default_rng(8), V=2, H=2, reward_scale=0.5)
    loss = LOSSES["chi-po-clipped"]
    assert np.ptp(world.r) < 2 * loss.defaults["R"]
    closed = loss.optimum(world, loss.settings(world.beta)) if loss.optimum else None
    assert closed is not None
    assert np.max(np.abs(np.exp(minimize(loss, world, pairs_of(world)).log_p) - np.exp(closed))) < 1e-8


@EACH
def test_optimum_is_stationary_or_said_not_to_be_attained(name: str) -> None:
    loss = LOSSES[name]
    world = rational(0.7)
    found = minimize(loss, world, pairs_of(world))
    if found.attained and not loss.kinks:
        g = logit_gradient(found.log_p, gradient(loss, world, found.log_p, pairs_of(world)))
        assert np.max(np.abs(g)) < 1e-9
    if found.attained:
        for seed in range(5):
            nudged = log_softmax(found.log_p + 0.01 * np.random.default_rng(seed).standard_normal(found.log_p.shape))
            held = {k: rule(world, found.log_p, pairs_of(world), loss.settings(0.7)) for k, rule in loss.frozen.items()}
            if not {"p0", "q0"} & set(loss.needs):
                assert value(loss, world, nudged, pairs_of(world), **held) >= found.value - 1e-6 * (1 if loss.kinks else 1e-6)
    else:
        assert found.vanishing.any() or found.value == -np.inf


CONVEX = [name for name, loss in LOSSES.items() if "convex" in loss.traits and not loss.kinks]


@pytest.mark.parametrize("name", CONVEX)
def test_a_convex_loss_has_one_minimum(name: str) -> None:
    world = rational(1.5)
    assert len(minima(name, world, pairs_of(world))) == 1


def test_ipo_on_two_arms_is_a_logistic() -> None:
    """pi(y_w) = sigma(1/(2 tau)) under certain labels, where DPO runs to a vertex."""
    for tau in (0.1, 1.0, 5.0):
        world = coin(tau)
        pairs = population_pairs(world, sure(world.r)).distinct()
        assert math.isclose(math.exp(minimize("ipo", world, pairs).log_p[0, 1]), 1 / (1 + math.exp(-1 / (2 * tau))), abs_tol=1e-12)
        dpo = minimize("dpo", world, pairs)
        assert not dpo.attained
        assert dpo.vanishing.tolist() == [[True, False]]
        assert "vanish" in dpo.words


def test_robust_dpo_recovers_gibbs_from_flipped_labels_and_dpo_does_not() -> None:
    world = rational()
    flipped = population_pairs(world, noisy(bradley_terry(world.r), 0.1)).distinct()
    p_star = solve(world).p
    assert np.max(np.abs(np.exp(minimize("robust-dpo", world, flipped).log_p) - p_star)) < 1e-9
    assert np.max(np.abs(np.exp(minimize("dpo", world, flipped).log_p) - p_star)) > 1e-2
    # cDPO on clean labels is DPO on flipped ones; on flipped labels it shrinks once more
    clean = pairs_of(world)
    both = [np.exp(minimize(*how).log_p) for how in (("cdpo", world, clean), ("dpo", world, flipped))]
    assert np.max(np.abs(both[0] - both[1])) < 1e-9
    again = np.exp(minimize("cdpo", world, flipped).log_p)
    assert np.max(np.abs(again - world_p_ref(world))) < np.max(np.abs(both[1] - world_p_ref(world)))


def world_p_ref(world: World) -> Any:
    return np.exp(world.log_p_ref)


def test_robust_dpo_is_unbounded_below_on_clean_certain_data() -> None:
    world = rational()
    found = minimize("robust-dpo", world, population_pairs(world, sure(world.r)).distinct())
    assert found.value == -np.inf
    assert found.words == "unbounded below"


def test_cdpo_margins_of_three_responses_are_not_smoothed_logits() -> None:
    """The closed form in words, "margins are the logit of the smoothed probability", is a fact of two responses only."""
    world = rational()
    found = minimize("cdpo", world, pairs_of(world))
    a = (found.log_p - world.log_p_ref)[0]
    P = 1 / (1 + np.exp(-(world.r[0, 0] - world.r[0, 1])))
    smoothed = 0.9 * P + 0.1 * (1 - P)
    assert abs(world.beta * (a[0] - a[1]) - math.log(smoothed / (1 - smoothed))) > 1e-3


def test_discopop_first_lowers_the_winner() -> None:
    """Descent from the reference goes the wrong way: the slope at margin 0 is (1 - log 2)/(4 tau) - 3/4 > 0."""
    D = np.zeros(1)
    slope = LOSSES["discopop"].slope
    assert slope is not None
    assert math.isclose(float(slope(D, 1.0, 0.05)[0]), (1 - math.log(2)) / (4 * 0.05) - 0.75, rel_tol=1e-12)
    assert analyse("discopop", rational()).winner_rate < 0 < analyse("dpo", rational()).winner_rate


def test_win_rate_by_enumeration() -> None:
    world = rational()
    r, p = [float(v) for v in world.r[0]], [float(v) for v in np.exp(world.log_p_ref[0])]
    want = [sum(pj / (1 + math.exp(rj - ri)) for pj, rj in zip(p, r, strict=True)) for ri in r]
    np.testing.assert_allclose(win_rate(world)[0], want, atol=1e-14)


def test_kto_reference_point_is_not_the_kl() -> None:
    from tabular_rlhf.losses.family_anchored import mismatched_ratio, on_policy_kl

    world = random_world(rng=np.random.default_rng(0), V=3, H=2, P=2)
    log_p, s = solve(world).log_p, LOSSES["kto"].settings(world.beta)
    z0, kl = mismatched_ratio(world, log_p, pairs_of(world), s), on_policy_kl(world, log_p, pairs_of(world), s)
    assert z0 < kl - 1e-3
    # and it is never negative: a policy that shuns every response of the data but one has a negative mean ratio
    away = log_softmax(world.log_p_ref + 20.0 * (np.arange(world.mdp.N) == int(np.argmin(world.log_p_ref[0]))))
    assert mismatched_ratio(world, away, pairs_of(world), s) == 0.0


# ---------------------------------------------------------------------------------------------------- reports


@pytest.mark.parametrize("name", ["dpo", "cdpo", "ipo"])
def test_sandwich_covariance_by_simulation(name: str) -> None:
    """n E KL of optima fitted to samples, against the report: within five standard errors of the simulation and 15 % for O(1/n)."""
    world = rational()
    report = analyse(name, world)
    assert report.noise is not None
    rng, n, runs = np.random.default_rng(6), 2000, 200
    law, losses = bradley_terry(world.r), []
    p = np.exp(report.optimum.log_p)
    for _ in range(runs):
        drawn = sample_pairs(world, law, n, rng=rng)
        drawn = Pairs(drawn.x, drawn.w, drawn.l, np.where(drawn.w == drawn.l, 0.0, 1.0), n)
        kept = drawn.distinct()
        m = int(np.sum(drawn.w != drawn.l))
        fitted = minimize(name, world, counted(kept, world))
        losses.append(m * float(np.sum(p * (report.optimum.log_p - fitted.log_p))))
    error = np.std(losses) / math.sqrt(runs)
    assert abs(np.mean(losses) - report.noise) < 5 * error + 0.15 * report.noise


def test_covariance_of_dpo_is_the_inverse_fisher_information() -> None:
    """Bradley-Terry labels make DPO a maximum likelihood: sandwich = (beta^2 Laplacian)^+, by hand, seen through log p."""
    world = random_world(rng=np.random.default_rng(12), V=3, H=2, beta=0.6, concentration=0.5)
    report, pairs = analyse("dpo", world), pairs_of(world)
    assert report.covariance is not None
    r, N, weight = world.r[0], world.mdp.N, pairs.weight[0]
    L = np.zeros((N, N))
    for i in range(N):
        for j in range(N):
            e = (np.arange(N) == i).astype(float) - (np.arange(N) == j)
            s = 1 / (1 + math.exp(-(r[i] - r[j])))
            L += world.beta**2 * weight[i, j] * s * (1 - s) * np.outer(e, e)
    J = np.eye(N) - solve(world).p[0]
    want = J @ np.linalg.pinv(L, rcond=1e-11, hermitian=True) @ J.T
    np.testing.assert_allclose(report.covariance[0], want, rtol=1e-6, atol=1e-8 * np.max(np.abs(want)))


def counted(pairs: Pairs, world: World) -> Pairs:
    """Equal pairs put together: the same data in N^2 rows."""
    N = world.mdp.N
    table = np.bincount(pairs.w * N + pairs.l, np.broadcast_to(pairs.weight, pairs.w.shape), N * N)
    i = np.arange(N * N)
    return Pairs(np.zeros(1, dtype=int), i // N, i % N, table, pairs.n)


def test_reports_read_well() -> None:
    text = str(analyse("apo-zero", rational()))
    assert "not attained" in text
    assert "vanishing" in text
    assert "nan" not in text
    table = family_table(coin(0.5))
    assert all(name in table for name in LOSSES)
    assert "nan" not in table


def test_adding_a_loss_is_fifteen_lines() -> None:
    """The README's example, measured and solved; never entered into the registry."""
    loss = squared_hinge()
    assert faults(loss, rng=np.random.default_rng(0)) == []
    report = analyse(loss, rational())
    assert report.optimum.attained
    # under certain labels every margin beyond 1/beta will do: a set, not an escape
    assert report.certain.words.startswith("attained on a set of dimension at least")
    assert report.certain.value == pytest.approx(0.0, abs=1e-12)


def squared_hinge() -> DirectLoss:
    return DirectLoss(
        name="squared-hinge",
        latex=r"\max(0, 1 - \beta D)^2",
        source="an exercise",
        fn=lambda a, b, beta: np.square(np.maximum(0.0, 1.0 - beta * (a - b))),
        oracle=lambda a, b, beta: max(0.0, 1 - beta * (a - b)) ** 2,
        slope=lambda D, beta: -2.0 * beta * np.maximum(0.0, 1.0 - beta * D),
        traits=frozenset({"shift-invariant", "convex", "saturates", "bounded-below", "prefers-winner", "finite-under-certainty"}),
        kinks="D = 1/beta",
    )
