"""DPO at speed: equal to the plain route, and the interpolation within its stated bound."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tabular_rlhf.errors import InputError
from tabular_rlhf.logspace import log_softmax
from tabular_rlhf.losses.evaluate import gradient, token_gradient, value
from tabular_rlhf.losses.fast import WIDEST, logistic_sums, population_dpo, token_dpo, win_rates
from tabular_rlhf.preferences import bradley_terry, matrix, population_pairs, sample_pairs, sure
from tabular_rlhf.world import random_world

EPS = float(np.finfo(float).eps)


def plain_sums(m: list[float], q: list[float]) -> tuple[list[float], list[float]]:
    """Both sums in plain math."""

    def softplus(z: float) -> float:
        return max(z, 0.0) + math.log1p(math.exp(-abs(z)))

    def sigma(z: float) -> float:
        return 1 / (1 + math.exp(-z)) if z > 0 else math.exp(z) / (1 + math.exp(z))

    return (
        [sum(b * sigma(x - y) for y, b in zip(m, q, strict=True)) for x in m],
        [sum(b * softplus(x - y) for y, b in zip(m, q, strict=True)) for x in m],
    )


@pytest.mark.parametrize("width", [0.0, 1e-6, 0.5, 10.0, 60.0, 3 * WIDEST])
@pytest.mark.parametrize("tolerance", [None, 1e-13, 1e-6])
def test_sums_are_within_the_bound(width: float, tolerance: float | None, rng: np.random.Generator) -> None:
    """Against plain math on a few of many points; rounding: N terms, and the size of log(u + u') beside it."""
    N = 3000
    m, q = width * rng.random(N), rng.dirichlet(np.ones(N))
    S, T = logistic_sums(m, q, tolerance=tolerance)
    for i in rng.integers(0, N, 5):
        z = m[i] - m
        sigma = np.where(z > 0, 1.0, np.exp(-np.abs(z))) / (1.0 + np.exp(-np.abs(z)))
        softplus = np.maximum(z, 0.0) + np.log1p(np.exp(-np.abs(z)))
        allowed = (tolerance or 0.0) + EPS * (20 + math.log2(N)) * (1.0 + width)
        assert abs(S[i] - np.sum(q * sigma)) <= allowed
        assert abs(T[i] - np.sum(q * softplus)) <= allowed


def test_sums_against_plain_math(rng: np.random.Generator) -> None:
    m, q = rng.standard_normal(7), rng.dirichlet(np.ones(7))
    for got, want in zip(logistic_sums(m, q), plain_sums(m.tolist(), q.tolist()), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-15 * 10)


def test_the_interpolation_is_really_used_and_its_error_is_real(rng: np.random.Generator) -> None:
    """With few nodes the error is visible, and still within the bound that asked for so few."""
    m, q = 20.0 * rng.random(4000), rng.dirichlet(np.ones(4000))
    exact = logistic_sums(m, q, tolerance=None)[0]
    errors = {tol: float(np.max(np.abs(logistic_sums(m, q, tolerance=tol)[0] - exact))) for tol in (1e-2, 1e-5, 1e-13)}
    assert errors[1e-2] > 1e-9 > 1e-12 > errors[1e-13]
    assert all(error <= tol for tol, error in errors.items())


@pytest.mark.parametrize("tolerance", [None, 1e-13])
def test_sums_over_any_range_in_any_order(tolerance: float | None, rng: np.random.Generator) -> None:
    """Where e^m is beyond floats: sorted, so that many neighbors lie in the middle, the sums are those of the same numbers shuffled."""
    m, q = 4000.0 * np.sort(rng.random(2000)), rng.dirichlet(np.ones(2000))
    order = rng.permutation(2000)
    for got, want in zip(*(logistic_sums(m[k], q[k], tolerance=tolerance) for k in (order, slice(None))), strict=True):
        assert np.all(np.isfinite(want))
        np.testing.assert_allclose(got, want[order], rtol=2000 * EPS)


@pytest.mark.parametrize("law", ["bt", "sure", "matrix"])
def test_population_loss_is_the_sum_over_pairs(law: str, rng: np.random.Generator) -> None:
    world = random_world(rng=rng, V=4, H=3, P=2, beta=0.7, forbidden=0.2)
    N = world.mdp.N
    M = rng.random((2, N, N))
    M = np.tril(M, -1) + np.triu(1 - np.swapaxes(M, 1, 2), 1) + 0.5 * np.eye(N)
    people = {"bt": bradley_terry(world.r), "sure": sure(world.r), "matrix": matrix(M)}[law]
    log_p = log_softmax(world.log_p_ref + rng.standard_normal(world.log_p_ref.shape))
    pairs, wins = population_pairs(world, people), win_rates(people, world.log_p_ref)
    for tolerance in (None, 1e-13):
        loss, slope = population_dpo(world, log_p, wins, tolerance=tolerance)
        assert abs(loss - value("dpo", world, log_p, pairs)) < 1e-12
        np.testing.assert_allclose(slope, gradient("dpo", world, log_p, pairs), atol=1e-13)
    lame = np.where(np.arange(N) == int(np.argmax(world.log_p_ref[0])), -np.inf, log_p)
    with pytest.raises(InputError, match="able to make"):
        population_dpo(world, lame, wins)


@pytest.mark.parametrize("P", [1, 3])
def test_sampled_loss_is_the_gradient_cores(P: int, rng: np.random.Generator) -> None:
    world = random_world(rng=rng, V=4, H=4, P=P, beta=0.5)
    pairs = sample_pairs(world, bradley_terry(world.r), 500, rng=rng)
    logits = np.array(world.log_ref) + rng.standard_normal(world.log_ref.shape)
    got, want = token_dpo(world, logits, pairs), token_gradient("dpo", world, logits, pairs)
    assert abs(got[0] - want[0]) < 1e-13
    np.testing.assert_allclose(got[1], want[1], atol=1e-14)
