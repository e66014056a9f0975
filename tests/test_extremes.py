"""Laws at the ends: relative precision at large beta, zeros that underflow, prompts never asked, worlds that nobody can write into."""

from __future__ import annotations

import ast
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tabular_rlhf
from tabular_rlhf import (
    Estimate,
    InputError,
    TokenMDP,
    Trajectories,
    World,
    check_grad,
    estimate,
    expect,
    grad,
    hessian,
    kl,
    log_softmax,
    logsumexp,
    objective,
    population,
    random_world,
    regret,
    sample,
    solve,
)
from tabular_rlhf.divergences import DIVERGENCES, alpha
from tabular_rlhf.estimators.evaluate import moments, table
from tabular_rlhf.estimators.record import ESTIMATORS, Flag
from tabular_rlhf.gibbs import frontier, greedy_limit, log_policy_of, mirror_step, policy_gradient, reward_variance, soft_bellman
from tabular_rlhf.logspace import CANCELS, log_ratio, mean_log_ratio
from tabular_rlhf.losses.fast import logistic_sums
from tabular_rlhf.penalties import f_divergence_optimum, ptx_optimum
from tabular_rlhf.policy import uniform
from tabular_rlhf.reports.solution import report
from tabular_rlhf.reports.solution_text import passed
from tabular_rlhf.world import coin
from tests.extremes import ROOMS
from tests.laws import EPS, WORLDS, assert_close, size

NEVER = -np.inf
LARGE = [1e3, 1e5, 1e8, 1e15, 1e30, 1e70]


# ---------------------------------------------------------------------------------------------------- relative precision


@pytest.mark.parametrize("beta", LARGE)
def test_the_coin_s_kl_and_regret_in_fractions(beta: float) -> None:
    """With d = 1/beta: KL(p*, p_ref) = d^2/8 - d^4/64 + ...; regret of p_ref = V - 1/2 = d/8 - d^3/192 + ..."""
    w, d = coin(beta=beta), 1 / Fraction(beta)
    g = solve(w)
    assert_close(g.kl[0] / float(d**2 / 8 - d**4 / 64), 1.0, 32 * EPS + 1 / beta**4)
    assert_close(regret(w.log_p_ref, w) / float(d / 8 - d**3 / 192), 1.0, 32 * EPS + 1 / beta**4)
    assert_close(objective(g.log_p, w.log_p_ref, w.r, beta, w.mu), float(Fraction(1, 2) + d / 8), 4 * EPS + 1 / beta**3)
    assert_close(frontier(w, [beta]).kl[0], g.kl[0], 0.0)


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("beta", [1e6, 1e12, 1e100])
def test_at_large_beta_kl_is_half_the_variance(name: str, beta: float) -> None:
    """KL(p*, p_ref) = Var(r)/(2 beta^2) + O(beta^-3); so is KL(p_ref, p*); the token level says the same of log pi*/pi_ref."""
    w = WORLDS[name].at(beta)
    g, spread = solve(w), float(np.ptp(w.r))
    want = reward_variance(w.log_p_ref, w.r) / 2
    slack = 4 * (spread**3 / beta + 64 * EPS * w.mdp.N * (spread**2 + EPS))
    assert_close(g.kl * beta * beta, want, slack)
    assert_close(regret(w.log_p_ref, w) * beta, np.sum(w.mu * want), slack)
    b = soft_bellman(w.mdp, w.log_ref, w.r, beta)
    assert_close(
        w.mdp.path_sum(b.log_weight) * beta,
        np.where(np.isneginf(w.log_p_ref), w.mdp.path_sum(b.log_weight) * beta, g.log_weight * beta),
        64 * EPS * w.mdp.H * (1 + size(w.r)) + spread**2 / beta,
    )


def test_kl_of_laws_that_nearly_agree() -> None:
    """q = 1/2 (1, 1), p = q (1 + e, 1 - e): KL = e^2/2 + e^4/12 + ...; the plain sum knows it to EPS only."""
    for e in (1e-3, 1e-6, 1e-9, 1e-12):
        x = np.log1p([e, -e])
        p = np.exp(x) / 2
        want = e * e / 2 + e**4 / 12
        assert_close(mean_log_ratio(p, x) / want, 1.0, 64 * EPS + e**4)
        if e < 1e-7:
            assert abs(np.sum(p * x) / want - 1) > 1e-10  # the tolerance is far smaller than the effect
    assert mean_log_ratio(np.full(2, 0.5), np.zeros(2)) == 0.0


@pytest.mark.parametrize("spread", [1e-8, 1e-3, 0.1, 1.0, 30.0])
def test_both_forms_of_kl_agree_are_not_negative_and_have_one_gradient(spread: float, rng: np.random.Generator) -> None:
    for _ in range(20):
        x, y = rng.standard_normal((2, 3, 5))
        log_p, log_q = log_softmax(x + spread * y), log_softmax(x)
        plain = np.sum(np.exp(log_p) * (log_p - log_q), axis=-1)
        got = kl(log_p, log_q)
        assert (got >= 0).all()
        assert_close(got, plain, 16 * EPS * (size(log_p) + size(log_q)))
        by_hand = np.exp(log_p) * (log_p - log_q - plain[:, None])
        assert_close(grad(lambda t, q=log_q: np.sum(kl(log_softmax(t), q)))(x + spread * y), by_hand, 32 * EPS * (1 + size(log_p - log_q)))
    fisher = np.diag(np.exp(log_p[0])) - np.outer(np.exp(log_p[0]), np.exp(log_p[0]))
    there = log_p[0]
    assert_close(hessian(lambda t: kl(log_softmax(t), there))(there), fisher, 64 * EPS * (1 + size(there)))  # at p = q
    assert check_grad(lambda t, q: kl(t, log_softmax(q)), log_p, log_q, rng=rng) < 1e-8  # also off the simplex


def test_sums_that_differ_are_meant() -> None:
    """Where p and q do not sum to the same, sum p log(p/q) stands as it is, though its terms cancel."""
    p, q = np.array([0.5, 0.5]), np.array([0.5 + 1e-6, 0.5 - 1.02e-6])
    x = np.log(p / q)
    assert np.sum(np.abs(p * x)) > CANCELS * np.sum(p * x) > 0
    assert_close(kl(np.log(p), np.log(q)), math.fsum(p * x), 4 * EPS)


def test_the_report_of_a_large_beta() -> None:
    r = report(coin(beta=1e15), samples=10_000)
    assert_close(r["totals"]["kl"]["exact"], 1.25e-31, 1e-44)
    assert_close(r["totals"]["regret_before"]["exact"], 1.25e-16, 1e-29)
    assert_close(r["totals"]["J_after"]["exact"], 0.5, 4 * EPS)
    assert all(row["kl"]["exact"] >= 0 for row in r["frontier"])
    for row in r["first_tokens"]:  # one response behind each token: V(s) is its reward, whatever is drawn
        assert_close(row["value"]["sampled"], row["value"]["exact"], 64 * EPS)
    assert r["checks"]["largest_z"] < 5


# ---------------------------------------------------------------------------------------------------- zeros and infinities


def test_what_underflows_is_still_possible() -> None:
    log_p, log_q = np.array([-1000.0, 0.0]), np.array([NEVER, 0.0])
    assert kl(log_p, log_q) == np.inf
    assert log_ratio(log_p, log_q)[0] == np.inf
    assert expect(log_p, np.array([np.inf, 1.0])) == np.inf
    assert expect(log_p, np.array([-np.inf, 1.0])) == -np.inf
    assert objective(log_p[None], log_q[None], np.ones((1, 2)), 1.0, np.ones(1)) == -np.inf
    world = World(TokenMDP(2, 1), log_q[None, None], np.ones((1, 2)), 1.0)
    assert regret(log_p[None], world) == np.inf
    with pytest.raises(InputError, match=r"must be finite to have a gradient.*forbid in p"):
        grad(lambda x: kl(x, log_q))(log_p)
    with pytest.raises(InputError, match="must be finite to have a gradient"):
        grad(lambda x: expect(x, np.array([np.inf, 1.0])))(log_p)
    with pytest.raises(InputError, match=r"an expectation must exist.*inf and -inf"):
        expect(np.array([-1000.0, -1000.0, 0.0]), np.array([np.inf, -np.inf, 0.0]))


def test_a_prompt_never_asked_does_not_count_however_bad_it_is() -> None:
    mdp = TokenMDP(2, 1, prompts=("x", "y"), mu=[1.0, 0.0])
    log_ref = np.array([[[math.log(0.5)] * 2], [[0.0, NEVER]]])
    w = World(mdp, log_ref, np.array([[0.0, 1.0], [2.0, 3.0]]), 1.0)
    log_p = np.log(np.full((2, 2), 0.5))
    alone = World(TokenMDP(2, 1), log_ref[:1], w.r[:1], 1.0)
    assert objective(log_p, w.log_p_ref, w.r, 1.0, w.mu) == 0.5
    assert_close(regret(log_p, w), regret(log_p[:1], alone), 0.0)
    slope = grad(lambda x: objective(log_softmax(x), w.log_p_ref, w.r, 1.0, w.mu))(log_p)
    assert_close(slope, [[-0.25, 0.25], [0.0, 0.0]], 4 * EPS)
    assert_close(policy_gradient(w, log_p[:, None]), slope[:, None], 4 * EPS)


@pytest.mark.parametrize("d", [*DIVERGENCES.values(), alpha(3.0), alpha(-1.0)], ids=lambda d: d.name)
def test_divergences_beyond_the_range_of_weights(d: Any) -> None:
    """u = exp(800) on the first event, 0 on the second: the limits, by hand."""
    far = {"reverse-kl": 800.0, "jensen-shannon": 2 * math.log(2), "alpha=0.5": 4.0}
    assert_close(d(np.array([0.0, NEVER]), np.array([-800.0, 0.0])), far.get(d.name, np.inf), 8 * EPS * 800)
    assert not np.isnan(d(np.array([-800.0, 0.0]), np.array([-1600.0, 0.0])))
    v = np.array([1.0, 5.0, 20.0])
    assert_close(d.tail(v) / (d.f(np.exp(v)) / np.exp((1 + d.growth) * v)), 1.0, 64 * EPS)


def test_undefined_limits_are_refused() -> None:
    with pytest.raises(InputError, match=r"allow some event.*index \(1,\)"):
        greedy_limit(np.array([[0.0, NEVER], [NEVER, NEVER]]), np.zeros((2, 2)))
    assert logsumexp(np.array([np.inf, 0.0, 1e4])) == np.inf
    with pytest.raises(InputError, match="must be finite to have a gradient"):
        grad(logsumexp)(np.array([np.inf, 0.0]))
    for log_p, log_q, got in (([[0.0, NEVER]], [[-1.0, -1.0]], "p = 0 < p_ref"), ([[-1.0, -1.0]], [[0.0, NEVER]], "p > 0 = p_ref")):
        with pytest.raises(InputError, match=rf"support of p_ref: at index \(0, 1\): got {got}; start from p_ref"):
            mirror_step(np.array(log_p), np.array(log_q), np.zeros((1, 2)), 1.0, 1.0)


@pytest.mark.parametrize("beta", [1e20, 1e100, 1e300])
@pytest.mark.parametrize("name", ["chi-squared", "alpha=3", "alpha=1.5"])
def test_roots_at_zero_are_found(name: str, beta: float) -> None:
    d = {**DIVERGENCES, "alpha=3": alpha(3.0), "alpha=1.5": alpha(1.5)}[name]
    for seed in range(20):
        w = random_world(rng=np.random.default_rng(seed), V=4, H=2, beta=beta)
        assert_close(np.exp(f_divergence_optimum(d, w.log_p_ref, w.r, beta).log_p), np.exp(w.log_p_ref), 64 * EPS)


@pytest.mark.parametrize(("beta", "gamma"), [(1e10, 1e-10), (1e300, 1e6), (1.0, 1e-300), (1e300, 1e300), (1e-300, 1e-6)])
def test_ptx_where_the_root_is_at_zero_or_far_away(beta: float, gamma: float) -> None:
    w = random_world(rng=np.random.default_rng(0), V=4, H=2, beta=beta)
    still = ptx_optimum(w.log_p_ref, np.zeros_like(w.r), beta, gamma, np.array(w.log_p_ref))
    assert_close(np.exp(still.log_p), np.exp(w.log_p_ref), 256 * EPS)
    assert not np.isnan(ptx_optimum(w.log_p_ref, w.r, beta, gamma, np.array(w.log_p_ref)).log_p).any()
    with pytest.raises(InputError, match=r"gamma/beta must be below 1e300"):
        ptx_optimum(w.log_p_ref, w.r, 1e-305, 1e6, np.array(w.log_p_ref))


# ---------------------------------------------------------------------------------------------------- nothing is swallowed


def test_nan_is_not_clipped_to_zero() -> None:
    """Python's max(0.0, nan) is 0.0; np.maximum passes nan on.  Oracles in plain math are exempt: they meet plain numbers."""
    package, found = Path(tabular_rlhf.__file__).parent, []
    for path in [p for room in (*ROOMS, "reports") for p in (*package.glob(f"{room}.py"), *package.glob(f"{room}/**/*.py"))]:
        tree = ast.parse(path.read_text())
        plain = [k.value for k in ast.walk(tree) if isinstance(k, ast.keyword) and k.arg == "oracle"]
        exempt = {id(n) for part in plain for n in ast.walk(part)}
        for n in ast.walk(tree):
            if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id in ("max", "min") and id(n) not in exempt:
                zeros = [a for a in n.args if isinstance(a, ast.Constant) and type(a.value) is float and a.value == 0.0]
                found += [f"{path.name}: {ast.unparse(n)}"] if zeros else []
    assert found == ["divergences.py: max(0.0, float(a) - 1.0)"]  # a is finite: it was checked


@pytest.mark.parametrize("gap", [1e9, 1e15, 1e300])
@pytest.mark.parametrize("beta", [1e-300, 1e-100, 1e-9])
def test_kl_of_a_policy_that_is_sure_is_log_two(beta: float, gap: float) -> None:
    """Two responses, p* on one of them: KL(p*, p_ref) = log 2, whether log p* of the other is -1e9 or beyond floats."""
    g = solve(World(TokenMDP(2, 1), uniform(TokenMDP(2, 1)), np.array([[0.0, gap]]), beta))
    assert_close(g.kl, math.log(2.0), 2 * EPS)
    assert_close(kl(g.log_p, g.world.log_p_ref), math.log(2.0), 2 * EPS)
    assert_close(objective(g.log_p, g.world.log_p_ref, g.world.r, beta, np.ones(1)) / gap, 1.0, 4 * EPS)
    assert_close(regret(g.world.log_p_ref, g.world) / gap, 0.5, 4 * EPS)


@pytest.mark.parametrize("scale", [1e-300, 1e-150, 1e-8, 1e8, 1e150, 1e300])
@pytest.mark.parametrize("draws", [None, 7])
def test_an_estimate_scales_with_its_values(scale: float, draws: int | None) -> None:
    """mean, size and error of c f are c times those of f, and z is the same, though c^2 be no float."""
    w = random_world(rng=np.random.default_rng(3))
    known = population(w, w.log_p_ref)
    data = known if draws is None else sample(w, w.log_p_ref, draws, rng=np.random.default_rng(1))
    one, many = estimate(data, data[w.r]), estimate(data, scale * data[w.r])
    assert_close(np.array([many.mean, many.size, many.error_of(7)]) / scale, [one.mean, one.size, one.error_of(7)], 64 * EPS)
    exact = estimate(known, known[w.r]), estimate(known, scale * known[w.r])
    assert_close(many.z(exact[1]), one.z(exact[0]), 256 * EPS * (1 + abs(one.z(exact[0]))))


@pytest.mark.parametrize("beta", [1e-300, 1e300])
def test_every_check_of_solve_is_within_five_standard_errors_at_the_ends(beta: float) -> None:
    assert passed(report(coin(beta=beta), samples=1000))


@pytest.mark.parametrize("logit", [300.0, 600.0, 709.0, 1000.0, 1e5])
@pytest.mark.parametrize("name", [e for e in ESTIMATORS if not ESTIMATORS[e].per_state])
def test_moments_of_an_estimator_are_right_or_refused(name: str, logit: float) -> None:
    """The mean on the coin at logits (0, l) by fractions of e^-l; sampled draws of the rare response too."""
    w = coin()
    log_pi = log_softmax(np.array([[[0.0, logit]]]))
    try:
        g = table(Flag(name, "loss"), w, log_pi)
    except InputError:
        assert logit > 700
        assert "e^{-L}" in ESTIMATORS[name].latex
        return
    rare = math.exp(-logit)
    h = ESTIMATORS[name].oracle
    value = (1 - rare) * h(math.log(2)) + (rare * h(math.log(2) - logit) if rare else 0.0)
    assert_close(moments(population(w, w.mdp.path_sum(log_pi)), g).mean, value, 1e-12 + rare * logit**2)
    both = Trajectories(np.zeros(2, dtype=int), np.arange(2), np.zeros(2), np.full(2, 0.5), 2)
    m = moments(both, g)
    assert_close(m.mean, np.mean(g), 4 * EPS * size(g))
    assert m.variance == np.inf or math.isclose(m.variance, 0.5 * float(np.diff(g[0])[0]) ** 2, rel_tol=1e-12)
    assert (m.variance == np.inf) == (size(g) > 1e154)


@pytest.mark.parametrize("depth", [0.0, 1e3, 1e9, 1e15])
def test_policies_of_laws_normalize_however_improbable(depth: float, rng: np.random.Generator) -> None:
    mdp = TokenMDP(("a", "b", "."), 3, eos=".")
    for _ in range(10):
        log_p = depth * -np.sort(rng.random((1, mdp.N))) + rng.standard_normal((1, mdp.N))
        assert_close(np.sum(np.exp(log_policy_of(mdp, log_p)), axis=-1), 1.0, 8 * EPS)
        assert_close(np.sum(np.exp(greedy_limit(log_p, np.round(rng.random((1, mdp.N))))), axis=-1), 1.0, 16 * EPS)


@pytest.mark.parametrize("shift", [0.0, -1e3, 1e3, 1e6, 1e12])
@pytest.mark.parametrize("N", [3, 600])
@pytest.mark.parametrize("tolerance", [None, 1e-6])
def test_sums_over_pairs_see_differences_only(shift: float, N: int, tolerance: float | None, rng: np.random.Generator) -> None:
    """logistic_sums(m + c) = logistic_sums(m): the rewards of DPO have no level, and e^m none of its own."""
    m, q = 0.5 * rng.integers(0, 9, N), rng.dirichlet(np.ones(N))  # halves, so that m + shift is exact
    for moved, still in zip(logistic_sums(m + shift, q, tolerance=tolerance), logistic_sums(m, q, tolerance=tolerance), strict=True):
        assert_close(moved, still, (tolerance or 0.0) + 64 * EPS)


# ---------------------------------------------------------------------------------------------------- facts stay facts


def test_nobody_can_write_into_a_world_or_its_solution() -> None:
    log_ref, r = np.log([[[0.5, 0.5]]]), np.array([[0.0, 1.0]])
    w = World(TokenMDP(2, 1), log_ref, r, 1.0)
    r[0, 0], log_ref[0, 0, 0] = 7.0, 7.0
    assert w.r.tolist() == [[0.0, 1.0]]
    assert_close(np.exp(w.log_ref), 0.5, EPS)
    for world in (w, coin(), coin(1e-300), coin(1e300)):
        g = solve(world)
        b = soft_bellman(world.mdp, world.log_ref, world.r, world.beta)
        found = [world.mu, world.mdp.log_mu, world.mdp.lengths, world.mdp.lexicographic, b.V, b.Q, b.log_pi]
        for array in (*found, g.V, g.p, g.pi, g.log_p, g.log_pi, g.V_s, g.log_Z, g.kl, g.expected_reward, g.log_weight):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 7


def test_a_tiny_number_can_be_wrong() -> None:
    """The rounding floor of z is relative to the values averaged: a KL of 1e-15 may be off by 1e-16."""
    exact = Estimate(1e-15, 1e-36, None, size=1e-15)
    assert Estimate(1.1e-15, 1e-36, 100, size=1e-15).z(exact) > 100
    assert Estimate(1e-15 * (1 + EPS), 0.0, 100, size=1e-15).z(Estimate(1e-15, 0.0, None)) == 0.0
    w = random_world(rng=np.random.default_rng(0)).with_reward(np.full((1, 15), 1e-14))
    drawn, known = sample(w, w.log_p_ref, 1000, rng=np.random.default_rng(1)), population(w, w.log_p_ref)
    assert estimate(drawn, drawn[w.r]).z(estimate(known, known[w.r])) == 0.0
    assert estimate(drawn, drawn[w.r] * 1.01).z(estimate(known, known[w.r])) > 5


def test_a_long_tree_without_branches_fits() -> None:
    mdp = TokenMDP(("a", "."), 5000, eos=".")
    assert (mdp.N, mdp.S) == (5001, 5000)
    assert_close(np.sum(np.exp(mdp.path_sum(uniform(mdp)))), 1.0, 8 * EPS)
