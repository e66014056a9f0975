"""Laws of change: derivatives of the free energy, the frontier, gradients of J, shaping and mirror descent."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabular_rlhf import InputError, Tabular, World, check_grad, grad, hessian, kl, log_softmax, solve
from tabular_rlhf.gibbs import (
    donsker_varadhan,
    free_energy_hessian,
    frontier,
    log_gibbs,
    mirror_step,
    policy_gradient,
    policy_objective,
    reward_variance,
    shape_reward,
)
from tabular_rlhf.logspace import soft_value
from tabular_rlhf.policy import uniform
from tabular_rlhf.world import coin, worlds
from tests import oracle
from tests.laws import EPS, WORLDS, assert_close, nats, size, tell, units

over_worlds = pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS.keys())
SMALL = {k: w for k, w in WORLDS.items() if w.mdp.P * w.mdp.N <= 40}
over_small = pytest.mark.parametrize("world", SMALL.values(), ids=SMALL.keys())


# ---------------------------------------------------------------------------------------------------- free energy


@over_small
def test_the_free_energy_s_gradient_is_the_optimum_and_its_hessian_the_covariance(world: World) -> None:
    g = solve(world)
    for x in range(world.mdp.P):

        def V(r: Any, x: int = x) -> Any:
            return soft_value(world.log_p_ref[x], r, world.beta)

        p = g.p[x]
        cov = np.diag(p) - np.outer(p, p)
        assert_close(grad(V)(world.r[x]), p, 16 * nats(world))
        assert_close(hessian(V)(world.r[x]), cov / world.beta, 64 * nats(world) / world.beta)
        assert_close(free_energy_hessian(g.log_p[x], world.beta), cov / world.beta, 16 * nats(world) / world.beta)


def slopes_in_beta(log_p_ref: np.ndarray, r: np.ndarray, beta: float) -> tuple[float, float, float]:
    """dE[r]/dbeta, dKL/dbeta and dV/dbeta by the gradient core."""
    kept = ~np.isneginf(log_p_ref)

    def reward(b: Any) -> Any:
        return np.sum(np.exp(log_gibbs(log_p_ref, r, b)) * r)

    def divergence(b: Any) -> Any:
        return kl(log_gibbs(log_p_ref, r, b)[kept], log_p_ref[kept])

    return grad(reward)(beta), grad(divergence)(beta), grad(lambda b: soft_value(log_p_ref, r, b))(beta)


@over_small
def test_derivatives_in_beta_are_variances(world: World) -> None:
    """dE[r]/dbeta = -Var/beta^2, dKL/dbeta = -Var/beta^3, dV/dbeta = -KL; so dE[r]/dKL = beta."""
    g, b = solve(world), world.beta
    for x in range(world.mdp.P):
        told = tell(world, x)
        _, law = oracle.tilt(told.ref, told.r, b)
        mean = oracle.mean(law, told.r)
        var = math.fsum(p * (told.r[s] - mean) ** 2 for s, p in law.items())
        scale = nats(world) * (1 + size(world.r)) ** 2
        assert_close(reward_variance(g.log_p[x], world.r[x]), var, 32 * scale)
        slope_r, slope_kl, slope_V = slopes_in_beta(world.log_p_ref[x], world.r[x], b)
        assert_close(slope_r, -var / b**2, 64 * scale / b**2)
        assert_close(slope_kl, -var / b**3, 64 * scale * (1 + size(g.log_p)) * (1 + 1 / b) / b**2)
        assert_close(slope_V, -oracle.kl(law, told.ref), 64 * nats(world) * (1 + size(world.r) / b))


@given(world=worlds())
def test_the_frontier_is_monotone_concave_and_has_slope_beta(world: World) -> None:
    betas = np.geomspace(50.0, 0.02, 40)
    front = frontier(world, betas)
    tol = 16 * size(world.r) * EPS * world.mdp.N + 32 * EPS * world.mdp.N
    d_reward, d_kl = np.diff(front.reward), np.diff(front.kl)
    assert (d_reward >= -tol * 50).all()
    assert (d_kl >= -tol * 50).all()
    assert (np.diff(front.value) >= -tol * 50).all()
    # a chord of a concave curve has a slope between those at its ends: beta_{i+1} dKL <= dE[r] <= beta_i dKL
    assert (d_reward <= betas[:-1] * d_kl + 50 * 64 * tol).all()
    assert (d_reward >= betas[1:] * d_kl - 50 * 64 * tol).all()
    assert_close(front.value, front.reward - betas * front.kl, 50 * 64 * tol)


# ---------------------------------------------------------------------------------------------------- gradients of J


def logits_of(world: World, seed: int = 3) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(world.log_ref.shape)
    return np.where(np.isneginf(world.log_ref), -np.inf, noise)


@over_worlds
def test_policy_gradient_in_closed_form_is_the_gradient_core_s(world: World) -> None:
    logits = logits_of(world)

    def J(theta: Any) -> Any:
        return policy_objective(world, log_softmax(theta))

    scale = 1 + size(world.r) + world.beta * (1 + world.mdp.H * (size(logits) + size(world.log_ref)))
    tol = 8 * EPS * (world.mdp.N + 8 * world.mdp.H) * scale
    closed = policy_gradient(world, logits)
    assert_close(closed, grad(J)(logits), tol)
    assert_close(np.sum(closed, axis=-1), 0.0, tol)  # softmax logits are shift invariant
    assert not closed[np.isneginf(logits)].any()
    if not np.isneginf(logits).any():
        assert check_grad(J, logits, rng=np.random.default_rng(1)) < 1e-9 * scale


@over_worlds
def test_the_gradient_of_the_objective_vanishes_at_the_optimum_only(world: World) -> None:
    tol = 64 * EPS * (world.mdp.N + 8 * world.mdp.H) * (1 + size(world.r) + world.beta * (1 + world.mdp.H * size(world.log_ref)))
    tol *= 1 + size(world.r) / world.beta
    assert_close(policy_gradient(world, solve(world).log_pi), 0.0, tol)
    V = np.sum(world.mu * np.max(world.r, axis=1) - world.mu * np.min(world.r, axis=1))
    if world.mdp.N > 1 and V > 0.5 and not np.isneginf(world.log_ref).any():
        assert size(policy_gradient(world, logits_of(world))) > 1e-4


def test_policy_gradient_by_hand_on_the_coin() -> None:
    """J(q) = q - beta KL(q, 1/2): dJ/dlogit(heads) = q (1 - q) (1 - beta log(q/(1-q)))."""
    beta, q = 0.7, 0.8
    got = policy_gradient(coin(beta), np.array([[[0.0, math.log(4)]]]))[0, 0]
    want = q * (1 - q) * (1 - beta * math.log(q / (1 - q)))
    assert_close(got, [-want, want], 8 * EPS)


def test_policy_gradient_refuses_what_the_reference_forbids() -> None:
    world = WORLDS["a forbidden token"]
    with pytest.raises(InputError, match=r"J must be finite.*p > 0 = p_ref.*forbid in pi"):
        policy_gradient(world, np.zeros(world.log_ref.shape))


def test_policy_gradient_weighs_prompts_by_mu() -> None:
    world = WORLDS["a prompt never asked"]
    got = policy_gradient(world, logits_of(world))
    assert not got[1].any()
    assert size(got[2]) > 0


@over_small
def test_gradient_ascent_ends_at_the_optimum(world: World) -> None:
    """The soft natural gradient step on logits is mirror ascent; its fixed point solves soft Bellman."""
    theta = solve(world).log_pi
    J = policy_objective(world, Tabular(world.mdp).log_pi(theta))
    assert_close(J, solve(world).value, 32 * units(world) * (1 + size(world.log_p_ref)))


# ---------------------------------------------------------------------------------------------------- identities as tools


@given(world=worlds(), seed=st.integers(0, 99))
def test_donsker_varadhan_is_a_bound_and_is_attained(world: World, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for x in range(world.mdp.P):
        told = tell(world, x)
        f = {s: v / world.beta for s, v in told.r.items()}
        top = max(v for s, v in f.items() if told.ref[s] > 0)
        want = top + math.log(math.fsum(p * math.exp(min(0.0, f[s] - top)) for s, p in told.ref.items()))
        tol = 64 * nats(world)
        logits = np.where(np.isneginf(world.log_p_ref[x]), -np.inf, rng.standard_normal(world.mdp.N))
        other = log_softmax(logits)
        values = world.r[x] / world.beta
        assert donsker_varadhan(other, world.log_p_ref[x], values) <= want + tol
        assert_close(donsker_varadhan(solve(world).log_p[x], world.log_p_ref[x], values), want, tol * (1 + size(world.log_p_ref)))


@over_worlds
def test_potential_shaping_moves_v_and_leaves_the_optimum(world: World) -> None:
    rng = np.random.default_rng(6)
    phi = rng.integers(-8, 9, (world.mdp.P, world.mdp.S)) / 4.0  # quarters: the sums that telescope are exact
    shaped = world.with_reward(shape_reward(world.mdp, world.r, phi))
    tol = 64 * (nats(world) + nats(shaped))
    assert_close(solve(shaped).p, solve(world).p, tol)
    assert_close(solve(shaped).V, solve(world).V - phi[:, 0], 64 * (units(world) + units(shaped)))
    assert_close(shaped.r, world.r - phi[:, :1], 4 * EPS * (1 + size(world.r) + 4))
    b, base = solve(shaped).V_s, solve(world).V_s
    assert_close(b, base - phi[:, :1], 64 * (units(world) + units(shaped)))  # the shaped *trajectory* reward moves every value by -Phi(x)


@over_worlds
@pytest.mark.parametrize("rate", [0.25, 0.5, 1.0])
def test_a_mirror_step_contracts_by_exactly_one_minus_eta_beta(world: World, rate: float) -> None:
    eta = rate / world.beta
    log_p = log_softmax(np.where(np.isneginf(world.log_p_ref), -np.inf, np.random.default_rng(4).standard_normal(world.r.shape)))
    g = solve(world)
    stepped = mirror_step(log_p, world.log_p_ref, world.r, world.beta, eta)
    for x in range(world.mdp.P):
        kept = ~np.isneginf(world.log_p_ref[x])
        before, after = log_p[x, kept] - g.log_p[x, kept], stepped[x, kept] - g.log_p[x, kept]
        tol = 64 * (nats(world) + EPS * (size(log_p) + size(g.log_p)))
        assert_close(after - after[0], (1 - rate) * (before - before[0]), tol)
    assert np.array_equal(np.isneginf(stepped), np.isneginf(world.log_p_ref))


def test_mirror_steps_converge_to_the_optimum() -> None:
    world = WORLDS["generated 3"]
    log_p = np.array(world.log_p_ref)
    for _ in range(60):
        log_p = mirror_step(log_p, world.log_p_ref, world.r, world.beta, 0.5 / world.beta)
    assert_close(np.exp(log_p), solve(world).p, 64 * nats(world) * 8)  # 2^-60 of the start is below rounding


def test_uniform_reference_makes_j_the_entropy_regularized_return() -> None:
    """With a uniform reference, J = E[r] + beta H(p) - beta log N: the optimum is softmax(r/beta)."""
    world = WORLDS["horizon 1"]
    flat = World(world.mdp, uniform(world.mdp), world.r, 0.5)
    assert_close(solve(flat).log_p, log_softmax(flat.r / 0.5), 32 * nats(flat))
