"""Laws of sampling: exact = the weighted population, and samples agree with it within exact standard errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabular_rlhf import Estimate, InputError, World, estimate, population, sample, solve
from tabular_rlhf.sampling import draw
from tabular_rlhf.world import coin, long_tail, worlds
from tests import oracle
from tests.laws import EPS, WORLDS, assert_close, nats, size, tell, units

SOME = {k: WORLDS[k] for k in ("coin", "only EOS", "a prompt never asked", "a forbidden token", "one word and EOS", "ties", "generated 3")}
over_some = pytest.mark.parametrize("world", SOME.values(), ids=SOME.keys())


def chi_squared_z(counts: np.ndarray, p: np.ndarray, n: int) -> float:
    """Pearson's statistic in units of its standard deviation: mean k - 1 and variance about 2 (k - 1) over k cells of mass > 0."""
    kept = p > 0
    assert not counts[~kept].any(), "an impossible event was drawn"
    k = int(kept.sum())
    if k == 1:
        return 0.0
    expected = n * p[kept]
    statistic = float(np.sum((counts[kept] - expected) ** 2 / expected))
    variance = 2 * (k - 1) + float(np.sum(1 / expected)) - (k * k + 2 * k - 2) / n  # exact, Haldane (1937)
    return (statistic - (k - 1)) / math.sqrt(variance)


# ---------------------------------------------------------------------------------------------------- the population


@given(world=worlds())
def test_the_population_gives_exact_expectations(world: World) -> None:
    g = solve(world)
    for log_p in (world.log_p_ref, g.log_p):
        data = population(world, log_p)
        got = estimate(data, data[world.r])
        mean, second = 0.0, 0.0
        for x, m in enumerate(world.mu):
            told = tell(world, x)
            law = dict(zip(told.order, np.exp(log_p[x]).tolist(), strict=True))
            mean += m * oracle.mean(law, told.r)
            second += m * oracle.mean(law, {s: v * v for s, v in told.r.items()})
        tol = 8 * EPS * (world.mdp.N * world.mdp.P + 8) * (1 + size(world.r)) ** 2 + 8 * nats(world)
        assert_close(got.mean, mean, tol)
        assert_close(got.variance, second - mean**2, tol)
        assert got.n is None
        assert got.standard_error == 0.0
        assert_close(np.sum(data.weight), 1.0, 8 * EPS * (world.mdp.N * world.mdp.P + 8) + 8 * nats(world))
    assert_close(got.mean, np.sum(world.mu * g.expected_reward), 16 * units(world))


def test_values_on_impossible_trajectories_are_ignored() -> None:
    world = WORLDS["a forbidden token"]
    data = population(world, world.log_p_ref)
    assert estimate(data, np.where(np.isneginf(world.log_p_ref), np.inf, 2.0)) == estimate(data, np.full(world.r.shape, 2.0))
    assert_close(estimate(data, np.full(world.r.shape, 2.0)).mean, 2.0, 64 * EPS)


# ---------------------------------------------------------------------------------------------------- samples


@over_some
def test_samples_follow_the_law_and_know_their_log_probability(world: World, rng: np.random.Generator) -> None:
    g = solve(world)
    n = 20_000
    data = sample(world, g.log_p, n, rng=rng)
    x, tau = np.broadcast_arrays(data.x, data.tau)
    assert (data.n, tau.shape) == (n, (n,))
    assert np.array_equal(data.log_p, g.log_p[x, tau])
    assert np.array_equal(data[world.r], world.r[x, tau])
    assert_close(np.sum(np.broadcast_to(data.weight, n)), 1.0, EPS * n)
    counts = np.bincount(x * world.mdp.N + tau, minlength=g.p.size)
    assert abs(chi_squared_z(counts, np.ravel(world.mu[:, None] * g.p), n)) < 5


@over_some
def test_estimates_agree_with_the_population_within_exact_standard_errors(world: World, rng: np.random.Generator) -> None:
    data, exact = sample(world, world.log_p_ref, 20_000, rng=rng), population(world, world.log_p_ref)
    for f in (world.r, world.r**2, np.cos(3 * world.r)):
        got, want = estimate(data, data[f]), estimate(exact, exact[f])
        assert abs(got.z(want)) < 5
        assert got.n == 20_000
        fourth = estimate(exact, np.square(exact[f] - want.mean)).variance  # the variance of the squared deviation
        assert abs(got.variance - want.variance) <= 5 * math.sqrt(fourth / 20_000) + 1e-12 + 25 * want.variance / 20_000


def test_the_seed_decides_the_sample() -> None:
    world = WORLDS["generated 3"]
    a, b, c = (sample(world, world.log_p_ref, 50, rng=np.random.default_rng(s)) for s in (1, 1, 2))
    assert np.array_equal(a.tau, b.tau)
    assert not np.array_equal(a.tau, c.tau)


def test_a_sample_s_variance_is_unbiased() -> None:
    """E[s^2] = variance: over 4000 samples of 2, five standard errors of the mean of (a - b)^2/2."""
    world = WORLDS["coin"]
    rng = np.random.default_rng(5)
    got = []
    for _ in range(4000):
        data = sample(world, world.log_p_ref, 2, rng=rng)
        got.append(estimate(data, data[world.r]).variance)
    assert abs(np.mean(got) - 0.25) < 5 * 0.25 / math.sqrt(4000)  # (a - b)^2/2 is 0 or 1/2, with standard deviation 1/4
    assert estimate(sample(world, world.log_p_ref, 1, rng=rng), np.ones(1)).standard_error == np.inf  # one draw says nothing of it


def test_z_counts_exact_standard_errors() -> None:
    exact = Estimate(mean=1.0, variance=4.0, n=None)
    assert Estimate(1.5, 123.0, 100).z(exact) == 2.5
    assert Estimate(0.5, 0.0, 100).z(exact) == -2.5
    assert Estimate(1.0, 0.0, 7).z(Estimate(1.0, 0.0, None)) == 0.0
    assert Estimate(1.1, 0.0, 7).z(Estimate(1.0, 0.0, None)) == np.inf
    assert Estimate(mean=0.4, variance=0.25, n=100).standard_error == 0.05


# ---------------------------------------------------------------------------------------------------- the guide table


@given(
    weights=st.lists(st.sampled_from([0.0, 1e-300, 1e-12, 0.1, 1.0, 7.0, 1e12]), min_size=1, max_size=40).filter(any),
    seed=st.integers(0, 99),
)
def test_draws_invert_the_cumulative_sum(weights: list[float], seed: int) -> None:
    """The same uniforms, inverted by plain search: the first index whose cumulative share exceeds u."""
    w = np.array(weights)
    got = draw(w, 200, rng=np.random.default_rng(seed))
    u = np.random.default_rng(seed).random(200)
    c = np.cumsum(w)
    want = np.searchsorted(c / c[-1], u, side="right")
    shared = np.abs(np.subtract.outer(u, c / c[-1])).min(axis=1) < 4 * EPS * len(w)  # a boundary within rounding may go either way
    assert np.array_equal(got[~shared], want[~shared])
    assert (w[got] > 0).all()


class Fixed:
    """A generator that returns the uniforms it was given."""

    def __init__(self, u: list[float]) -> None:
        self.u = np.array(u)

    def random(self, n: int) -> np.ndarray:
        return self.u[:n].copy()


@pytest.mark.parametrize("weights", [[1.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0, 0.0, 1.0, 0.0], [1e-18, 1.0, 1e-18], [1.0] * 10])
def test_the_ends_of_the_unit_interval_are_drawn_rightly(weights: list[float]) -> None:
    w = np.array(weights)
    c = np.cumsum(w) / np.sum(w)
    u = [0.0, 0.5, 1 - 2**-53, *(v for v in c if v < 1), *(np.nextafter(v, 0) for v in c)]
    got = draw(w, len(u), rng=Fixed(u))  # type: ignore[arg-type]
    assert (w[got] > 0).all()
    assert (np.diff(got[np.argsort(u, kind="stable")]) >= 0).all()


def test_crowded_cells_are_finished_by_search(rng: np.random.Generator) -> None:
    """One giant and thousands of dwarfs share a cell: more steps than the guide table takes."""
    w = np.full(5000, 1e-9)
    w[0] = 1.0
    n = 200_000
    dwarfs = draw(w, n, rng=rng) > 0
    share = 4999e-9 / (1 + 4999e-9)
    assert abs(dwarfs.mean() - share) < 5 * math.sqrt(share / n)
    w = np.geomspace(1, 1e-12, 3000)
    counts = np.bincount(draw(w, n, rng=rng), minlength=3000)
    p = w / w.sum()
    big = p * n > 20
    pooled, law = np.append(counts[big], counts[~big].sum()), np.append(p[big], p[~big].sum())
    assert abs(chi_squared_z(pooled, law, n)) < 5


def test_long_tail_is_sampled_with_its_lengths(rng: np.random.Generator) -> None:
    world = long_tail()
    data = sample(world, world.log_p_ref, 50_000, rng=rng)
    lengths = world.mdp.lengths.astype(float)[None]
    exact = population(world, world.log_p_ref)
    assert abs(estimate(data, data[lengths]).z(estimate(exact, exact[lengths]))) < 5


@pytest.mark.parametrize("n", [0, -3])
def test_a_sample_needs_a_draw(n: int) -> None:
    world = WORLDS["coin"]
    with pytest.raises(InputError, match=rf"draws must be a whole number .*: got {n}; ask for n >= 1"):
        sample(world, world.log_p_ref, n, rng=np.random.default_rng(0))


def test_the_spread_of_values_whose_squares_are_no_floats() -> None:
    """1e300 times small numbers: the spread is 1e300 times theirs, though the variance is no float."""
    data = population(coin(), np.log([[0.25, 0.75]]))
    plain, huge = (estimate(data, scale * np.array([1.0, 3.0])[None]) for scale in (1.0, 1e300))
    assert plain.spread is None
    assert np.isinf(huge.variance)
    assert huge.spread is not None
    assert huge.error_of(4) == pytest.approx(1e300 * plain.error_of(4))
