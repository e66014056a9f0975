"""Memory on the way back: on arrays large enough for the shortcuts, gradients are right, and nobody's array is written over."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tabular_rlhf.autodiff import grad, vjp
from tabular_rlhf.autodiff.table import SMALL
from tabular_rlhf.logspace import log_softmax

N = SMALL + 100
RNG = np.random.default_rng(0)
X, B = RNG.standard_normal((2, 2, N))


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x)
    return np.asarray(e / np.sum(e, axis=0))


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.sum(x * B),
        lambda x: np.sum(np.reshape(x, -1) * np.reshape(B, -1)),
        lambda x: 2.0 * np.sum(B * x),
        lambda x: np.sum(x),
        lambda x: np.sum(x - B),
    ],
)
def test_a_gradient_is_the_caller_s_to_write_into(f: Any) -> None:
    before = B.copy()
    g = grad(f)(X)
    first = g.copy()
    g += 1.0
    assert np.array_equal(before, B)
    assert np.array_equal(grad(f)(X), first)


def test_two_gradients_do_not_share_memory() -> None:
    a, b = grad(lambda x, y: np.sum(np.exp(x + y)), argnums=(0, 1))(X, B)
    assert np.array_equal(a, b)
    assert not np.shares_memory(a, b)


def test_the_seed_of_a_pullback_is_not_written_over() -> None:
    for f in (
        lambda x: x,
        lambda x: log_softmax(x, axis=0),
        lambda x: np.concatenate(np.split(log_softmax(x, axis=0), [7], axis=1), axis=1),
    ):
        seed = B.copy()
        back = vjp(f, X)[1]
        first = back(seed)
        assert np.array_equal(seed, B)
        assert np.array_equal(back(seed), first)  # and a pullback may be called again
        assert not np.shares_memory(first, seed)


def test_a_sensitivity_that_two_steps_share_is_not_written_over() -> None:
    g = vjp(lambda x: log_softmax(x, axis=0) + x, X)[1](B)
    expected = 2 * B - softmax(X) * np.sum(B, axis=0)
    assert np.allclose(g, expected, rtol=0, atol=64 * np.finfo(float).eps)  # values of a few units, a handful of roundings


def test_second_derivatives_do_not_see_what_was_written_over() -> None:
    def f(x: Any) -> Any:
        halves = np.split(log_softmax(x, axis=0), [N // 2], axis=1)
        return np.sum(np.exp(halves[0]) * B[:, : N // 2]) + np.sum(np.square(halves[1]))

    v = RNG.standard_normal(X.shape)
    along = grad(lambda x: np.sum(grad(f)(x) * v))(X)
    h = 1e-4
    stepped = (grad(f)(X + h * v) - grad(f)(X - h * v)) / (2 * h)
    assert np.allclose(along, stepped, rtol=0, atol=1e-5)  # error h^2 times third derivatives of order 100


@pytest.mark.parametrize(
    "slices",
    [
        [(0, 50), (50, N)],
        [(50, N), (0, 50)],
        [(0, 50), (40, N)],  # overlapping
        [(0, 50), (60, N)],  # a gap
        [(0, N // 2), (0, N // 2)],  # twice the same
        [(0, 50), (0, 50), (100, N)],  # as many elements as there are, but not all
        [(1, N)],
        [(-60, None), (0, -60)],
        [(0, N), (5, 5)],
    ],
)
def test_slices_add_up_however_they_lie(slices: list[tuple[int, int | None]]) -> None:
    expected = np.zeros_like(X)
    for k, (a, b) in enumerate(slices):
        expected[:, a:b] += (k + 1) * B[:, a:b]
    g = grad(lambda x: sum((k + 1) * np.sum(x[:, a:b] * B[:, a:b]) for k, (a, b) in enumerate(slices)))(X)
    assert np.array_equal(g, expected)
