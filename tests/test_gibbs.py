"""Laws of the Gibbs optimum: against the oracle, against each other, and at the ends of the range of beta."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabular_rlhf import InputError, World, kl, objective, random_world, regret, soft_bellman, solve
from tabular_rlhf.gibbs import _by_weights, greedy_limit, log_gibbs, multiplier, policy_gradient, policy_objective
from tabular_rlhf.policy import dirichlet
from tabular_rlhf.world import worlds
from tests import oracle
from tests.laws import EPS, WORLDS, assert_close, in_order, nats, size, tell, units

over_worlds = pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS.keys())
EXTREMES = [1e-300, 1e-10, 1.0, 1e10, 1e300]


def another_law(world: World, seed: int = 0) -> np.ndarray:
    """A distribution with the reference's support."""
    logits = np.where(np.isneginf(world.log_p_ref), -np.inf, np.random.default_rng(seed).standard_normal(world.r.shape))
    log_p: np.ndarray = logits - np.log(np.sum(np.exp(logits), axis=1, keepdims=True))
    return log_p


# ---------------------------------------------------------------------------------------------------- the optimum


@over_worlds
def test_gibbs_optimum_against_enumeration(world: World) -> None:
    g = solve(world)
    for x in range(world.mdp.P):
        told = tell(world, x)
        V, law = oracle.tilt(told.ref, told.r, world.beta)
        assert_close(g.V[x], V, 8 * units(world), "V")
        assert_close(g.p[x], in_order(told, law), 8 * nats(world), "p*")
        assert_close(g.log_Z[x], V / world.beta, 8 * units(world) / world.beta, "log Z")
        assert_close(g.expected_reward[x], oracle.mean(law, told.r), 8 * nats(world) * (1 + size(world.r)), "E[r]")
        assert_close(g.kl[x], oracle.kl(law, told.ref), 8 * nats(world) * (1 + size(world.log_p_ref)), "KL")
    mean = math.fsum(m * v for m, v in zip(world.mu, g.V, strict=True))
    assert_close(g.value, mean, EPS * world.mdp.P * (1 + size(g.V)))


@over_worlds
def test_the_optimum_in_logarithms_and_in_probabilities_is_one(world: World) -> None:
    g = solve(world)
    assert_close(np.exp(g.log_p), g.p, 8 * nats(world))
    assert_close(np.exp(g.log_pi), g.pi, 16 * nats(world))
    assert_close(log_gibbs(world.log_p_ref, world.r, world.beta), g.log_p, 8 * nats(world) * (1 + size(g.log_p)))
    assert_close(np.sum(g.p, axis=1), 1.0, 8 * nats(world))
    assert_close(np.sum(g.pi, axis=-1), 1.0, 16 * nats(world))
    assert np.array_equal(np.isneginf(g.log_p), np.isneginf(world.log_p_ref))  # p* > 0 exactly where p_ref > 0


@over_worlds
def test_the_two_routes_of_solve_agree(world: World) -> None:
    """Sums of weights up the tree, and the recursion in log space, are two computations of one thing."""
    g, b = solve(world), soft_bellman(world.mdp, world.log_ref, world.r, world.beta)
    assert_close(g.V, b.V[:, 0], 16 * units(world))
    assert_close(g.pi, np.exp(b.log_pi), 16 * nats(world))
    assert_close(g.V_s, b.V, 16 * units(world))


def test_both_routes_of_solve_are_taken() -> None:
    """The lists of worlds above exercise both: the tree of weights where it is safe, logarithms elsewhere."""
    taken = {_by_weights(w) is not None for w in WORLDS.values()}
    assert taken == {True, False}


@over_worlds
def test_soft_bellman_against_the_recursion_in_plain_words(world: World) -> None:
    b = soft_bellman(world.mdp, world.log_ref, world.r, world.beta)
    for x in range(world.mdp.P):
        told = tell(world, x)
        values = oracle.soft_bellman(told.pi, told.r, world.beta)
        assert_close(b.V[x], [values[s] for s in told.states], 16 * units(world), "V(s)")
        after = [[values[(*s, a)] for a in range(world.mdp.V)] for s in told.states]
        assert_close(b.Q[x], after, 16 * units(world), "Q(s, a)")


@over_worlds
def test_the_token_level_soft_policy_is_the_trajectory_optimum(world: World) -> None:
    g = solve(world)
    assert_close(np.exp(world.mdp.path_sum(g.log_pi)), g.p, 16 * nats(world))
    assert_close(g.V_s[:, 0], g.V, 16 * units(world))
    for x in range(world.mdp.P):
        told = tell(world, x)
        pi = oracle.policy_of(dict(zip(told.order, g.p[x].tolist(), strict=True)), world.mdp.V)
        for s, row in zip(told.states, g.pi[x], strict=True):
            if s in pi and sum(p for t, p in zip(told.order, g.p[x], strict=True) if t[: len(s)] == s) > 1e-6:
                assert_close(row, pi[s], 1e6 * 16 * nats(world), f"pi* in {s}")  # divided by p(s) > 1e-6


# ---------------------------------------------------------------------------------------------------- objective and regret


@over_worlds
def test_regret_is_beta_kl_and_the_objective_is_the_oracle_s(world: World) -> None:
    g, log_p = solve(world), another_law(world)
    got = float(objective(log_p, world.log_p_ref, world.r, world.beta, world.mu))
    want, loss = 0.0, 0.0
    for x, m in enumerate(world.mu):
        told = tell(world, x)
        p = dict(zip(told.order, np.exp(log_p[x]).tolist(), strict=True))
        want += m * oracle.objective(p, told.ref, told.r, world.beta)
        loss += m * world.beta * oracle.kl(p, oracle.tilt(told.ref, told.r, world.beta)[1])
    tol = 16 * units(world) * (1 + size(world.log_p_ref))
    assert_close(got, want, tol)
    assert_close(g.value - got, loss, tol)
    assert_close(regret(log_p, world), loss, tol)
    assert_close(regret(g.log_p, world), 0.0, tol)
    assert_close(objective(g.log_p, world.log_p_ref, world.r, world.beta, world.mu), g.value, tol)


@given(world=worlds(), seed=st.integers(0, 99))
def test_nothing_beats_the_optimum(world: World, seed: int) -> None:
    log_p = another_law(world, seed)
    tol = 16 * units(world)
    assert objective(log_p, world.log_p_ref, world.r, world.beta, world.mu) <= solve(world).value + tol
    assert regret(log_p, world) >= -tol


@over_worlds
def test_kl_chain_rule_makes_the_policy_objective(world: World) -> None:
    """KL(p_pi, p_ref) = sum over states of d(s) KL(pi, pi_ref), and J through the policy is J of its law."""
    rng = np.random.default_rng(2)
    pi = np.where(np.isneginf(world.log_ref), -np.inf, dirichlet(world.mdp, rng=rng))
    log_pi = pi - np.log(np.sum(np.exp(pi), axis=-1, keepdims=True))
    log_p = world.mdp.path_sum(log_pi)
    d = np.exp(world.mdp.prefix_sum(log_pi))
    per_state = np.sum(d * kl(log_pi, world.log_ref), axis=1)
    scale = world.mdp.H * (1 + size(log_pi) + size(world.log_ref))
    tol = EPS * (world.mdp.N + 8 * world.mdp.H) * scale
    assert_close(kl(log_p, world.log_p_ref), per_state, tol)
    want = np.sum(world.mu * (np.sum(np.exp(log_p) * world.r, axis=1) - world.beta * per_state))
    assert_close(policy_objective(world, log_pi), want, world.beta * tol + EPS * world.mdp.N * (1 + size(world.r)))


@over_worlds
def test_the_multiplier_makes_the_objective_stationary(world: World) -> None:
    g = solve(world)
    lam = multiplier(g.V, world.beta)
    possible = ~np.isneginf(world.log_p_ref)
    with np.errstate(invalid="ignore"):
        residual = world.r - world.beta * (g.log_p - world.log_p_ref) - world.beta + lam[:, None]
    assert_close(residual[possible], 0.0, 16 * units(world))


# ---------------------------------------------------------------------------------------------------- prompts


def test_every_prompt_is_solved_by_itself() -> None:
    world = random_world(rng=np.random.default_rng(9), V=3, H=3, P=3, eos=True, beta=0.4)
    g = solve(world)
    for x in range(3):
        alone = random_world(rng=np.random.default_rng(9), V=3, H=3, P=1)
        alone = World(alone.mdp, world.log_ref[x : x + 1], world.r[x : x + 1], world.beta)
        assert_close(solve(alone).p, g.p[x : x + 1], 8 * nats(world))
        assert_close(solve(alone).V, g.V[x : x + 1], 8 * units(world))
    shifted = world.with_reward(world.r + np.array([[1.0], [-2.0], [100.0]]))  # r + c(x): the same p*, V moves by c(x)
    assert_close(solve(shifted).p, g.p, 64 * nats(shifted))
    assert_close(solve(shifted).V, g.V + [1.0, -2.0, 100.0], 64 * units(shifted))


def test_one_unlikely_prompt_does_not_matter_and_a_likely_one_does() -> None:
    world = WORLDS["a prompt never asked"]
    changed = world.with_reward(world.r + np.array([[0.0], [10.0], [0.0]]))
    assert_close(solve(changed).value, solve(world).value, 8 * units(changed))
    assert solve(world.with_reward(world.r + np.array([[0.0], [0.0], [1.0]]))).value > solve(world).value + 0.7


# ---------------------------------------------------------------------------------------------------- extremes and limits


@pytest.mark.parametrize("beta", EXTREMES)
@pytest.mark.parametrize("scale", [1e6, 1.0, 1e-10, 0.0])
@pytest.mark.parametrize("forbidden", [0.0, 0.4])
def test_nothing_is_nan_at_any_beta(beta: float, scale: float, forbidden: float) -> None:
    world = random_world(rng=np.random.default_rng(8), V=3, H=3, P=2, beta=beta, reward_scale=scale, forbidden=forbidden)
    g = solve(world)
    best = np.max(np.where(np.isneginf(world.log_p_ref), -np.inf, world.r), axis=1)
    for name in ("V", "V_s", "p", "pi", "expected_reward", "kl"):
        assert np.isfinite(getattr(g, name)).all(), name
    for name in ("log_Z", "log_p", "log_pi"):
        assert not np.isnan(getattr(g, name)).any(), name
    assert not (g.log_p > 0).any()
    # V and p are each right to EPS of r; the ratio (r - V)/beta then knows p* to EPS r/beta, unless it is exact or hopeless
    assert_close(np.sum(g.p, axis=1), 1.0, 64 * EPS * world.mdp.N)
    assert_close(np.sum(g.pi, axis=-1), 1.0, 64 * EPS * world.mdp.N)
    p_ref = np.exp(world.log_p_ref)
    mean = np.sum(p_ref * world.r, axis=1)
    tol = 64 * EPS * world.mdp.N * (1 + size(world.r))
    assert (mean - tol <= g.V).all()
    assert (g.V <= best + tol).all()


@pytest.mark.parametrize("scale", [1e6, 1.0, 1e-10])
def test_beta_to_zero_is_greedy_with_the_reference_s_odds(scale: float) -> None:
    world = random_world(rng=np.random.default_rng(8), V=3, H=3, P=2, beta=1e-300, reward_scale=scale, forbidden=0.3)
    tied = world.with_reward(np.round(world.r / scale) * scale)
    for w in (world, tied):
        limit = greedy_limit(w.log_p_ref, w.r)
        for x in range(2):
            told = tell(w, x)
            best = max(r for s, r in told.r.items() if told.ref[s] > 0)
            mass = math.fsum(p for s, p in told.ref.items() if told.r[s] == best)
            want = [told.ref[s] / mass if told.r[s] == best else 0.0 for s in told.order]
            assert_close(np.exp(limit[x]), want, 16 * EPS * w.mdp.H * (1 + size(w.log_ref)))
            assert_close(solve(w).V[x], best, 4 * EPS * best)
        assert_close(solve(w).p, np.exp(limit), 64 * EPS * w.mdp.N)
        assert_close(np.exp(solve(w).log_p), np.exp(limit), 64 * EPS * w.mdp.N)
    assert np.sum(np.isfinite(greedy_limit(tied.log_p_ref, tied.r))) > 2  # there were ties


@pytest.mark.parametrize("scale", [1e6, 1.0, 1e-10])
def test_beta_to_infinity_is_the_reference(scale: float) -> None:
    world = random_world(rng=np.random.default_rng(8), V=3, H=3, P=2, beta=1e300, reward_scale=scale, forbidden=0.3)
    g, p_ref = solve(world), np.exp(world.log_p_ref)
    assert_close(g.p, p_ref, 16 * EPS * world.mdp.H * (1 + size(world.log_ref)))
    assert_close(g.V, np.sum(p_ref * world.r, axis=1), 16 * EPS * world.mdp.N * size(world.r))
    assert_close(g.pi, np.exp(world.log_ref), 16 * EPS * world.mdp.H)
    assert_close(g.V_s[:, 0], g.V, 16 * EPS * world.mdp.N * size(world.r))


def test_large_beta_keeps_the_variance_term() -> None:
    """V = E[r] + Var(r)/(2 beta) + ...; exact fractions for the coin: 1/2 + 1/(8 beta) - 1/(192 beta^3)."""
    for beta in (1e3, 1e5, 1e7):
        b = Fraction(beta)
        want = Fraction(1, 2) + 1 / (8 * b) - 1 / (192 * b**3)
        world = WORLDS["coin"].at(beta)
        assert_close(solve(world).V, float(want), 4 * EPS)
        assert_close(soft_bellman(world.mdp, world.log_ref, world.r, beta).V[0, 0], float(want), 4 * EPS)


@given(world=worlds(), c=st.sampled_from([1e-12, 1e-3, 1e3, 1e12]))
def test_units_of_reward_do_not_matter(world: World, c: float) -> None:
    scaled = World(world.mdp, world.log_ref, world.r * c, world.beta * c)
    assert_close(solve(scaled).p, solve(world).p, 64 * nats(world))
    assert_close(solve(scaled).V / c, solve(world).V, 64 * units(world))


def test_the_state_without_a_token_is_named() -> None:
    """A token forbidden elsewhere is no fault: the first state in which nothing is left is."""
    world = random_world(rng=np.random.default_rng(0), V=2, H=2, P=1, eos=False)
    logits = np.zeros((1, 3, 2))
    logits[0, 0, 0] = -np.inf
    logits[0, 2] = -np.inf
    with pytest.raises(InputError, match=r"at index \(0, 2\)"):
        policy_gradient(world, logits)
