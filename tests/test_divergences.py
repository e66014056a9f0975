"""Laws of the other penalties: every f-divergence and the ptx term, against bisection and against their own duality."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabular_rlhf import InputError, grad, kl, objective, random_world, solve
from tabular_rlhf.divergences import DIVERGENCES, Divergence, alpha
from tabular_rlhf.losses.closed import CHI_KL
from tabular_rlhf.penalties import f_divergence_optimum, ptx_optimum
from tabular_rlhf.world import World, worlds
from tests import oracle
from tests.laws import EDGES, EPS, GENERATED, assert_close, nats, size, tell, units

SMALL = {k: w for k, w in {**EDGES, **GENERATED}.items() if w.mdp.P * w.mdp.N <= 20}
over_small = pytest.mark.parametrize("world", SMALL.values(), ids=SMALL.keys())
FAMILY = {**DIVERGENCES, "alpha=2": alpha(2.0), "alpha=-1": alpha(-1.0), "alpha=1.5": alpha(1.5), "alpha=0.9": alpha(0.9), "chi-kl": CHI_KL}
over_family = pytest.mark.parametrize("name", FAMILY)
U = np.array([1e-3, 0.1, 0.5, 1.0, 1.5, 4.0, 50.0])


def slack(world: World) -> float:
    """The tolerance of a probability: the root makes the sum of N terms one to EPS N, and a term moves with the sum at most in
    proportion; its argument (r - lam)/beta is rounded to EPS of itself and exponentiated."""
    return 64 * EPS * (world.mdp.N + 8) * (1 + size(world.r) / world.beta) + 64 * nats(world)


# ---------------------------------------------------------------------------------------------------- the records


def test_every_record_has_an_oracle() -> None:
    assert set(DIVERGENCES) == set(oracle.SLOPES) == set(oracle.CONVEX)
    assert all(d.name == name and d.latex for name, d in DIVERGENCES.items())


@pytest.mark.parametrize("name", DIVERGENCES)
def test_records_say_what_the_oracle_says(name: str) -> None:
    d = DIVERGENCES[name]
    assert_close(d.f(U), [oracle.CONVEX[name](u) for u in U], 16 * EPS * 250)
    assert_close(d.slope(np.log(U)), [oracle.SLOPES[name](u) for u in U], 16 * EPS * 1000)


@over_family
def test_f_is_convex_zero_at_one_and_its_slope_is_its_derivative(name: str) -> None:
    d = FAMILY[name]
    assert d.f(np.ones(1))[0] == 0.0
    assert (np.diff(d.slope(np.log(U))) > 0).all()
    for u in U:
        slope = float(d.slope(np.log(np.array([u])))[0])
        assert_close(grad(d.f)(u), slope, 64 * EPS * (1 + abs(slope) / min(u, 1.0)))


def bend(d: Divergence, u: float) -> float:
    """u f''(u): how much the slope rises with log u."""
    return float(u * grad(grad(d.f))(u))


@over_family
def test_the_inverse_inverts_the_slope(name: str) -> None:
    d = FAMILY[name]
    slope = d.slope(np.log(U))
    rises = np.array([bend(d, u) for u in U])
    # the slope is a difference of terms of size 1 and its own: so is its rounding, and log u moves by it over u f''
    assert_close(np.log(d.inverse(slope)), np.log(U), 64 * EPS * (1 + (1 + np.abs(slope)) / rises))


@over_family
@pytest.mark.parametrize("gap", [-20.0, -0.3, 0.0, 1e-9, 0.3, 20.0])
def test_the_tilt_lowers_the_slope_by_the_gap_and_knows_its_own_slope(name: str, gap: float) -> None:
    d, v = FAMILY[name], np.log(np.array([1.0, 1.5, 4.0, 50.0]))
    if gap < 0 and d.growth == 0:
        return
    log_u, steep = d.tilt(v, np.full(4, gap))
    there = ~np.isneginf(log_u)
    low, t = d.slope(v) - gap, np.where(there, log_u, 0.0)
    tol = 64 * EPS * (1 + np.abs(d.slope(v)) + abs(gap) + np.array([bend(d, float(u)) for u in np.exp(t)]))
    assert_close(np.where(there, d.slope(t), low), low, tol)
    assert np.all(there | (low <= float(d.slope(np.array(-300.0))) + 1e-9)), "a weight is 0 only where its slope would be below f'(0)"
    steps = (d.tilt(v + 1e-5, gap + 0.0 * v)[0][there] - d.tilt(v - 1e-5, gap + 0.0 * v)[0][there]) / 2e-5
    assert_close(np.exp(steep)[there], steps, 1e-4 * (1 + np.exp(steep)[there]))


@over_family
@given(a=st.lists(st.integers(1, 9), min_size=3, max_size=3), b=st.lists(st.integers(1, 9), min_size=3, max_size=3))
def test_divergences_are_not_negative_and_vanish_only_at_equality(name: str, a: list[int], b: list[int]) -> None:
    p, q = np.array(a) / sum(a), np.array(b) / sum(b)
    value = float(FAMILY[name](np.log(p), np.log(q)))
    distance = float(np.sum(np.abs(p - q)))
    assert value >= -1e-14
    assert value > 1e-9 or distance < 1e-2
    if name in oracle.CONVEX:
        assert_close(value, math.fsum(y * oracle.CONVEX[name](x / y) for x, y in zip(p, q, strict=True)), 64 * EPS * (1 + value))
    if name == "alpha=2":
        assert_close(value, DIVERGENCES["chi-squared"](np.log(p), np.log(q)), 64 * EPS * (1 + value))
    if name == "reverse-kl":
        assert_close(value, kl(np.log(p), np.log(q)), 64 * EPS)
    if name == "forward-kl":
        assert_close(value, kl(np.log(q), np.log(p)), 64 * EPS)


@over_family
def test_the_tail_is_f_without_its_growth(name: str) -> None:
    d = FAMILY[name]
    if d.tail is not None:
        u = np.array([1.5, 4.0, 50.0, 1e6])
        assert_close(u ** (1.0 + d.growth) * d.tail(np.log(u)), d.f(u), 64 * EPS * (1.0 + np.abs(d.f(u)) + u))


USUAL: dict[str, Callable[[Any, Any], Any]] = {
    "chi-squared": lambda p, q: np.sum((p - q) ** 2 / q),
    "jensen-shannon": lambda p, q: sum(np.sum(a * np.log(2.0 * a / (p + q))) for a in (p, q)) / 2.0,
    "alpha=0.5": lambda p, q: 1.0 - np.sum(np.sqrt(p * q)),
}


@pytest.mark.parametrize("name", DIVERGENCES)
def test_the_factor_to_common_use_is_as_told(name: str) -> None:
    d, p, q = FAMILY[name], np.array([0.2, 0.5, 0.3]), np.array([0.6, 0.1, 0.3])
    assert (name in USUAL) == bool(d.usual[1])
    if name in USUAL:
        assert_close(d(np.log(p), np.log(q)), d.usual[0] * USUAL[name](p, q), 64 * EPS)


LIES: dict[str, Callable[[Divergence], Any]] = {
    "f": lambda d: lambda u: d.f(u) * 1.001,
    "slope": lambda d: lambda v: d.slope(v) * 1.001,
    "inverse": lambda d: lambda y: d.inverse(y) * 1.001,
    "tilt": lambda d: lambda v, gap: (d.tilt(v, gap)[0] + 1e-3, d.tilt(v, gap)[1]),
    "tail": lambda d: d.tail and (lambda v: d.tail(v) * 1.001),  # type: ignore[misc]
    "growth": lambda d: d.growth + 0.5,
    "usual": lambda d: (d.usual[0] * 2.0, d.usual[1]),
}


@pytest.mark.parametrize("name", DIVERGENCES)
@pytest.mark.parametrize("claim", LIES)
def test_a_planted_lie_in_any_claim_fails_a_law(name: str, claim: str, monkeypatch: pytest.MonkeyPatch) -> None:
    d = DIVERGENCES[name]
    if claim == "usual" and not d.usual[1]:
        return
    monkeypatch.setitem(FAMILY, name, replace(d, **{claim: LIES[claim](d)}))
    laws: list[Callable[[], None]] = [
        partial(law, name)
        for law in (
            test_f_is_convex_zero_at_one_and_its_slope_is_its_derivative,
            test_the_inverse_inverts_the_slope,
            test_the_tail_is_f_without_its_growth,
            test_the_factor_to_common_use_is_as_told,
        )
    ]
    laws += [partial(test_the_tilt_lowers_the_slope_by_the_gap_and_knows_its_own_slope, name, 0.3)]
    assert any(map(fails, laws))


def fails(law: Callable[[], None]) -> bool:
    try:
        law()
    except AssertionError:
        return True
    return False


def test_a_divergence_wants_p_covered_by_q() -> None:
    half, sure = np.log([0.5, 0.5]), np.array([0.0, -np.inf])
    with pytest.raises(InputError, match=r"p must be covered by q.*p > 0 = q.*smooth"):
        DIVERGENCES["chi-squared"](half, sure)
    assert DIVERGENCES["reverse-kl"](sure, half) == math.log(2)
    assert DIVERGENCES["reverse-kl"](sure, sure) == 0.0


# ---------------------------------------------------------------------------------------------------- f-divergence optima


@over_family
@over_small
def test_optima_satisfy_the_kkt_conditions(name: str, world: World) -> None:
    """Normalized; r - lam = beta f'(u) where p > 0; r - lam <= beta f'(0) where p = 0 < p_ref; zero where p_ref is."""
    d = FAMILY[name]
    best = f_divergence_optimum(d, world.log_p_ref, world.r, world.beta)
    assert_close(np.sum(np.exp(best.log_p), axis=1), 1.0, slack(world))
    assert np.isneginf(best.log_p[np.isneginf(world.log_p_ref)]).all()
    with np.errstate(invalid="ignore"):
        log_u = best.log_p - world.log_p_ref
    inside = ~np.isneginf(best.log_p) & (log_u > -30)
    u = np.exp(log_u[inside])
    gap = world.r - best.lam[:, None]
    curvature = np.array([float(grad(grad(d.f))(v)) for v in u])
    tol = slack(world) * world.beta * (1 + curvature * u + np.abs(d.slope(log_u[inside])))
    assert_close(gap[inside], world.beta * d.slope(log_u[inside]), tol)
    clipped = np.isneginf(best.log_p) & ~np.isneginf(world.log_p_ref)
    if clipped.any():
        edge = float(d.slope(np.array(-300.0))) if name in ("chi-squared", "alpha=2", "alpha=1.5") else -600.0
        assert (gap[clipped] <= world.beta * edge + slack(world) * (1 + world.beta)).all()


@pytest.mark.parametrize("name", DIVERGENCES)
@over_small
def test_optima_against_bisection(name: str, world: World) -> None:
    for x in range(world.mdp.P):
        told = tell(world, x)
        ref, r = [told.ref[s] for s in told.order], [told.r[s] for s in told.order]
        want, lam = oracle.f_optimum(ref, r, world.beta, name)
        got = f_divergence_optimum(DIVERGENCES[name], world.log_p_ref[x : x + 1], world.r[x : x + 1], world.beta)
        assert_close(np.exp(got.log_p[0]), want, 16 * slack(world), "p")
        assert_close(got.lam[0], lam, 64 * slack(world) * world.beta + 8 * EPS * size(world.r), "lam")


@over_family
@given(world=worlds(), seed=st.integers(0, 99))
def test_duality_certifies_the_optimum(name: str, world: World, seed: int) -> None:
    """Weak duality: E_p[r] - beta D_f(p) <= lam + beta E_ref[f*((r - lam)/beta)] for every p and every lam; equality at the optimum."""
    d, rng = FAMILY[name], np.random.default_rng(seed)
    best = f_divergence_optimum(d, world.log_p_ref, world.r, world.beta)
    for x in range(world.mdp.P):
        kept = ~np.isneginf(world.log_p_ref[x])
        log_ref, r = world.log_p_ref[x, kept], world.r[x, kept]
        primal = float(np.sum(np.exp(best.log_p[x, kept]) * r)) - world.beta * float(d_of(d, best.log_p[x, kept], log_ref))
        scale = (1 + size(r) + world.beta) * (1 + size(r) / world.beta) * 1e2
        assert_close(primal, dual(d, log_ref, r, world.beta, float(best.lam[x])), 64 * EPS * scale * (8 + world.mdp.N))
        other = np.log(rng.dirichlet(np.ones(len(r))))
        value = float(np.sum(np.exp(other) * r)) - world.beta * float(d(other, log_ref))
        assert value <= primal + 64 * EPS * scale * (8 + world.mdp.N)


def d_of(d: Divergence, log_p: np.ndarray, log_ref: np.ndarray) -> float:
    """D_f with f(0) taken as its limit; only clipped families reach p = 0, and theirs is finite."""
    with np.errstate(divide="ignore"):
        return float(d(log_p, log_ref))


def dual(d: Divergence, log_ref: np.ndarray, r: np.ndarray, beta: float, lam: float) -> float:
    """lam + beta E_ref[f*(y)], y = (r - lam)/beta, f*(y) = u y - f(u) at the u >= 0 with f'(u) = y."""
    y = (r - lam) / beta
    u = d.inverse(y)
    return lam + beta * float(np.sum(np.exp(log_ref) * (u * y - d.f(u))))


def test_reverse_kl_is_gibbs() -> None:
    for world in SMALL.values():
        got = f_divergence_optimum(DIVERGENCES["reverse-kl"], world.log_p_ref, world.r, world.beta)
        assert_close(np.exp(got.log_p), solve(world).p, 16 * slack(world))
        assert_close(got.lam, solve(world).V - world.beta, 16 * slack(world) * (1 + world.beta))


@over_family
@pytest.mark.parametrize("beta", [1e-300, 1e-10, 1.0, 1e10, 1e300])
@pytest.mark.parametrize("scale", [1e6, 1.0, 1e-10])
def test_optima_are_distributions_at_every_beta(name: str, beta: float, scale: float) -> None:
    world = random_world(rng=np.random.default_rng(8), V=3, H=2, P=2, beta=beta, reward_scale=scale, forbidden=0.3)
    best = f_divergence_optimum(FAMILY[name], world.log_p_ref, world.r, beta)
    assert not np.isnan(best.log_p).any()
    assert_close(np.sum(np.exp(best.log_p), axis=1), 1.0, 1e-9)
    if beta >= 1e10 * scale:
        # u = 1 + (r - E r)/(beta f''(1)) + ..., and the root is known to EPS times its conditioning
        assert_close(np.exp(best.log_p), np.exp(world.log_p_ref), 4 * size(world.r) / beta + 256 * EPS * world.mdp.N)
    if beta <= 1e-10 * scale:
        reward = np.sum(np.exp(best.log_p) * world.r, axis=1)
        top = np.max(np.where(np.isneginf(world.log_p_ref), -np.inf, world.r), axis=1)
        assert_close(reward, top, 1e-3 * scale)  # heavy tails (alpha = -1) give up E[r] like sqrt(beta)


SLOPES: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "reverse-kl": (lambda t: t, lambda t: 1),
    "jensen-shannon": (lambda t: -mpmath.log1p(mpmath.exp(-t)), lambda t: 1 / (1 + mpmath.exp(t))),
    "chi-kl": (lambda t: mpmath.exp(t) + t, lambda t: mpmath.exp(t) + 1),
}
"""f' of t = log u up to a constant, so that it does not cancel, and u f''.  Of the alpha family they are u^(alpha - 1), divided and not
divided by alpha - 1."""
ALPHAS = {"forward-kl": 0.0, "chi-squared": 2.0, "alpha=0.5": 0.5, "alpha=2": 2.0, "alpha=-1": -1.0, "alpha=1.5": 1.5, "alpha=0.9": 0.9}
STEEP = [0.3, 5.0, 300.0, 1500.0]


def improbable(rng: np.random.Generator, steep: float, reward: float) -> tuple[np.ndarray, np.ndarray]:
    """A reference over at most five responses whose log-probabilities differ by about `steep` nats, some forbidden, rewards with ties."""
    N = int(rng.integers(1, 6))
    logits = steep * rng.standard_normal(N)
    logits[(rng.random(N) < 0.2) & (np.arange(N) != N // 2)] = -np.inf
    r = rng.standard_normal(N)
    return (logits - np.logaddexp.reduce(logits))[None], reward * (np.round(r) if rng.random() < 0.3 else r)[None]


@over_family
@pytest.mark.parametrize("beta", [1e-300, 1e-10, 0.03, 1.0, 30.0, 1e10, 1e300])
def test_optima_are_stationary_however_improbable_the_best(name: str, beta: float) -> None:
    """f'(u_i) = f'(u_best) - (max r - r_i)/beta in 40 digits of mpmath, or as good as log p's own rounding; sums to one; lam fits."""
    power = ALPHAS.get(name, 1.0) - 1
    slope, rise = SLOPES.get(name) or ((lambda t: mpmath.exp(power * t) / power), (lambda t: mpmath.exp(power * t)))
    lowest = 0.0 if power > 0 else -math.inf
    rng = np.random.default_rng(17)
    for steep, reward, _ in itertools.product(STEEP, [1e-6, 1.0, 1e6], range(3)):
        log_ref, r = improbable(rng, steep, reward)
        found = f_divergence_optimum(FAMILY[name], log_ref, r, beta)
        assert_close(np.logaddexp.reduce(found.log_p, axis=1), 0.0, 4 * EPS)
        kept = ~np.isneginf(log_ref[0])
        assert np.isneginf(found.log_p[0, ~kept]).all()
        best = int(np.argmax(np.where(kept, r[0], -np.inf)))
        log_u = found.log_p[0] - np.where(kept, log_ref[0], 0.0)
        with mpmath.workdps(40):
            top = slope(mpmath.mpf(log_u[best]))
            for i in np.flatnonzero(kept).tolist():
                want = top - (mpmath.mpf(r[0, best]) - mpmath.mpf(r[0, i])) / mpmath.mpf(beta)
                if np.isneginf(found.log_p[0, i]):
                    assert want <= lowest + 64 * EPS * abs(top)
                    continue
                t = mpmath.mpf(log_u[i])
                error, size = abs(slope(t) - want), 1 + abs(log_ref[0, i]) + abs(found.log_p[0, i]) + abs(log_ref[0, best])
                assert error <= 16 * EPS * size * (rise(t) + rise(mpmath.mpf(log_u[best]))), (steep, reward, i)
            constant = float(FAMILY[name].slope(np.array(0.0))) - slope(mpmath.mpf(0))
            lam = mpmath.mpf(r[0, best]) - mpmath.mpf(beta) * (top + constant)
            spare = mpmath.mpf(beta) * (abs(top) + 1) * size + abs(r[0, best]) + np.max(np.abs(r))
            assert abs(lam - mpmath.mpf(found.lam[0])) <= 64 * EPS * spare


# ---------------------------------------------------------------------------------------------------- the ptx term


def data_law(world: World, seed: int = 0, sparse: bool = True) -> np.ndarray:
    """A data distribution D on the reference's support, zero on some of it."""
    rng = np.random.default_rng(seed)
    kept = ~np.isneginf(world.log_p_ref)
    weight = np.where(kept, rng.integers(0 if sparse else 1, 4, world.r.shape), 0).astype(float)
    weight = np.where(weight.sum(axis=1, keepdims=True) > 0, weight, np.where(kept, 1.0, 0.0))
    d = weight / weight.sum(axis=1, keepdims=True)
    log_d: np.ndarray = np.log(d, out=np.full_like(d, -np.inf), where=d > 0)
    return log_d


@pytest.mark.parametrize("gamma", [1e-6, 0.5, 20.0])
@over_small
def test_ptx_optimum_against_bisection_and_kkt(gamma: float, world: World) -> None:
    log_d = data_law(world)
    got = ptx_optimum(world.log_p_ref, world.r, world.beta, gamma, log_d)
    tol = 16 * slack(world) * (1 + gamma / world.beta)
    assert_close(np.sum(np.exp(got.log_p), axis=1), 1.0, tol)
    kept = ~np.isneginf(got.log_p)
    assert np.array_equal(kept, ~np.isneginf(world.log_p_ref))
    lam, p = np.broadcast_to(got.lam[:, None], kept.shape)[kept], np.exp(got.log_p[kept])
    pull = gamma * np.exp(log_d[kept]) / p
    tilt = world.r[kept] - world.beta * (got.log_p - np.where(kept, world.log_p_ref, 0.0))[kept]
    assert_close(tilt - world.beta + pull + lam, 0.0, tol * (world.beta + pull + np.abs(lam) + np.abs(tilt)), "stationarity")
    for x in range(world.mdp.P):
        told = tell(world, x)
        ref, r, d = [told.ref[s] for s in told.order], [told.r[s] for s in told.order], np.exp(log_d[x]).tolist()
        want, multiplier = oracle.ptx_optimum(ref, r, world.beta, gamma, d)
        assert_close(np.exp(got.log_p[x]), want, tol, "p")
        assert_close(got.lam[x], multiplier, 16 * tol * (world.beta + gamma + size(world.r)), "lam")


@given(world=worlds(), gamma=st.sampled_from([0.1, 1.0, 10.0]), seed=st.integers(0, 99))
def test_nothing_beats_the_ptx_optimum(world: World, gamma: float, seed: int) -> None:
    log_d = data_law(world, seed)
    best = ptx_optimum(world.log_p_ref, world.r, world.beta, gamma, log_d).log_p

    def J(log_p: np.ndarray) -> float:
        seen = np.exp(log_d) > 0
        fit = np.sum(world.mu[:, None] * np.exp(log_d) * np.where(seen, log_p, 0.0))
        return float(objective(log_p, world.log_p_ref, world.r, world.beta, world.mu) + gamma * fit)

    logits = np.where(np.isneginf(world.log_p_ref), -np.inf, np.random.default_rng(seed).standard_normal(world.r.shape))
    other = logits - np.log(np.sum(np.exp(logits), axis=1, keepdims=True))
    assert J(other) <= J(best) + 64 * (units(world) + gamma * EPS * world.mdp.N) * (1 + size(best))


@over_small
def test_each_of_the_three_terms_can_be_removed(world: World) -> None:
    """gamma = 0: Gibbs.  gamma -> infinity: D.  r = 0 and D = p_ref: p_ref, for the terms no longer pull apart."""
    log_d = data_law(world, sparse=False)
    none = ptx_optimum(world.log_p_ref, world.r, world.beta, 0.0, log_d)
    assert_close(np.exp(none.log_p), solve(world).p, 8 * slack(world))
    tiny = ptx_optimum(world.log_p_ref, world.r, world.beta, 1e-12 * world.beta, log_d)
    assert_close(np.exp(tiny.log_p), solve(world).p, 1e-11 + 16 * slack(world))
    huge = 1e8 * (world.beta * (1 + size(world.log_p_ref)) + size(world.r))
    all_data = ptx_optimum(world.log_p_ref, world.r, world.beta, huge, log_d)
    assert_close(np.exp(all_data.log_p), np.exp(log_d), 1e-7 + 16 * slack(world))
    still = ptx_optimum(world.log_p_ref, np.zeros_like(world.r), world.beta, 3.0 * world.beta, np.array(world.log_p_ref))
    assert_close(np.exp(still.log_p), np.exp(world.log_p_ref), 64 * slack(world))


@pytest.mark.parametrize("beta", [1e-10, 1.0, 1e10])
@pytest.mark.parametrize("scale", [1e6, 1e-10])
def test_ptx_at_the_extremes_is_a_distribution(beta: float, scale: float) -> None:
    world = random_world(rng=np.random.default_rng(8), V=3, H=2, P=2, beta=beta, reward_scale=scale, forbidden=0.3)
    for gamma in (1e-6, 1.0, 1e6):
        best = ptx_optimum(world.log_p_ref, world.r, beta, gamma, data_law(world)).log_p
        assert not np.isnan(best).any()
        assert_close(np.sum(np.exp(best), axis=1), 1.0, 1e-6)
