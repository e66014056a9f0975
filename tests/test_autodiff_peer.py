"""Composed programs: random expression trees, differentiated here and by HIPS autograd, must agree to rounding.

A program maps an array (2, 3) to an array (2, 3) by operations that keep values of order one, so both sides round within
EPS times the number of operations times the growth of the derivative; a derivative of depth-5 programs of these operations
stays below 1e6, and we ask for agreement to 1e-9 of the largest entry.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import autograd
import autograd.numpy as anp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabular_rlhf import grad, hvp
from tests.laws import assert_close, size

W = np.array([[0.3, -0.7, 0.2], [1.1, 0.4, -0.5]])
M = np.array([[0.2, 0.5, -0.3], [0.1, -0.4, 0.6], [0.7, 0.1, 0.2]])
Program = Callable[[Any, Any], Any]  # (namespace, x) -> array

ONE: dict[str, Callable[[Any, Any], Any]] = {
    "tanh": lambda n, x: n.tanh(x),
    "sin": lambda n, x: n.sin(x),
    "exp tanh": lambda n, x: n.exp(n.tanh(x)),
    "softplus": lambda n, x: n.log1p(n.exp(-n.abs(x))) + n.maximum(x, 0.0),
    "root": lambda n, x: n.sqrt(1.0 + n.square(x)),
    "reciprocal": lambda n, x: 1.0 / (1.5 + n.tanh(x)),
    "power": lambda n, x: (1.2 + n.tanh(x)) ** 2.5,
    "center": lambda n, x: x - n.mean(x, axis=1, keepdims=True),
    "cumsum": lambda n, x: n.cumsum(x, axis=1) / 3.0,
    "transpose": lambda n, x: n.reshape(n.transpose(x), (2, 3)),
    "flip": lambda n, x: x[::-1, :] * W,
    "gather": lambda n, x: x[np.array([[0, 1, 1], [0, 0, 1]]), np.array([[2, 0, 0], [1, 1, 2]])],
    "join": lambda n, x: n.concatenate([x[:, 1:], x[:, :1] * 0.5], axis=1),
    "stack": lambda n, x: n.stack([x[1], n.sin(x[0])], axis=0),
    "matmul": lambda n, x: n.matmul(x, M),
    "einsum": lambda n, x: n.einsum("ij,jk->ik", x, M) * 0.5,
    "max": lambda n, x: x - 0.5 * n.max(x, axis=0, keepdims=True),
    "softmax": lambda n, x: n.exp(x - n.max(x)) / n.sum(n.exp(x - n.max(x)), axis=1, keepdims=True),
    "where": lambda n, x: n.where(W > 0, x, 0.3 * x * x / (1.0 + x * x)),
    "var": lambda n, x: x / (1.0 + n.var(x)),
    "clip": lambda n, x: n.clip(x, -1.3, 1.7),
}
TWO: dict[str, Callable[[Any, Any, Any], Any]] = {
    "add": lambda n, x, y: x + y,
    "subtract": lambda n, x, y: x - 0.5 * y,
    "multiply": lambda n, x, y: x * n.tanh(y),
    "divide": lambda n, x, y: x / (2.0 + n.sin(y)),
    "logaddexp": lambda n, x, y: n.logaddexp(x, y),
    "maximum": lambda n, x, y: n.maximum(x, y + 0.123),
    "minimum": lambda n, x, y: n.minimum(x, y - 0.321),
    "outer scale": lambda n, x, y: x * n.sum(y, axis=0) / 3.0,
}


def compose(children: st.SearchStrategy[tuple[str, Program]]) -> st.SearchStrategy[tuple[str, Program]]:
    def one(name: str, a: tuple[str, Program]) -> tuple[str, Program]:
        return f"{name}({a[0]})", lambda n, x: ONE[name](n, a[1](n, x))

    def two(name: str, a: tuple[str, Program], b: tuple[str, Program]) -> tuple[str, Program]:
        return f"{name}({a[0]}, {b[0]})", lambda n, x: TWO[name](n, a[1](n, x), b[1](n, x))

    return st.one_of(
        st.builds(one, st.sampled_from(sorted(ONE)), children), st.builds(two, st.sampled_from(sorted(TWO)), children, children)
    )


programs = st.recursive(st.just(("x", lambda n, x: x)), compose, max_leaves=5)
points = st.integers(0, 2**31).map(lambda seed: np.random.default_rng(seed).standard_normal((2, 3)))


def agree(program: Program, x: np.ndarray) -> None:
    def loss(n: Any, x: Any) -> Any:
        y = program(n, x)
        return n.sum(W * y + 0.1 * y * y)  # not linear even where the program is, so that it has a second derivative

    ours, theirs = (lambda x: loss(np, x)), (lambda x: loss(anp, x))
    want = autograd.grad(theirs)(x)
    assert_close(ours(x), theirs(x), 1e-12 * (1 + abs(float(ours(x)))))
    assert_close(grad(ours)(x), want, 1e-9 * (1e-3 + size(want)))
    v = np.cos(np.arange(6.0)).reshape(2, 3)
    second = autograd.grad(lambda x: anp.sum(autograd.grad(theirs)(x) * v))(x)
    assert_close(hvp(ours)(x, v), second, 1e-9 * (1e-3 + size(second) + size(want)))


@given(program=programs, x=points)
def test_random_programs_agree_with_autograd(program: tuple[str, Program], x: np.ndarray) -> None:
    agree(program[1], x)


@pytest.mark.parametrize("name", [*ONE, *TWO])
def test_each_building_block_agrees_with_autograd(name: str) -> None:
    x = np.random.default_rng(4).standard_normal((2, 3))
    agree((lambda n, x: ONE[name](n, x)) if name in ONE else (lambda n, x: TWO[name](n, n.sin(x), x)), x)
