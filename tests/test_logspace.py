"""Laws of log space: what happens at -inf, at every scale, and under differentiation."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabular_rlhf import InputError, check_grad, expect, grad, hessian, kl, log_sigmoid, log_softmax, logsumexp, soft_value
from tabular_rlhf.logspace import log_ratio, soft_parts
from tests import oracle
from tests.laws import EPS, assert_close, size

NEVER = -np.inf
logits = st.lists(st.one_of(st.floats(-50, 50), st.just(NEVER)), min_size=1, max_size=6)
odds = st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any)
BETAS = (1e-300, 1e-10, 1e-3, 1.0, 1e3, 1e10, 1e300)


def law(weights: list[int]) -> tuple[np.ndarray, list[float]]:
    p = [w / sum(weights) for w in weights]
    return np.array([math.log(q) if q > 0 else NEVER for q in p]), p


@given(x=logits)
def test_logsumexp_is_the_log_of_the_sum(x: list[float]) -> None:
    got = float(logsumexp(np.array(x)))
    if max(x) == NEVER:
        assert got == NEVER
    else:
        want = max(x) + math.log(math.fsum(math.exp(v - max(x)) for v in x))
        assert_close(got, want, EPS * (len(x) + 2 + abs(want) + max(x) - min(v for v in x if v > NEVER)))


@given(x=logits.filter(lambda x: max(x) > NEVER), shift=st.floats(-1e6, 1e6))
def test_log_softmax_normalizes_keeps_order_and_ignores_shifts(x: list[float], shift: float) -> None:
    y = log_softmax(np.array(x))
    assert_close(math.fsum(np.exp(y)), 1.0, EPS * (len(x) + 4) * (1 + 100))
    assert [v == NEVER for v in x] == np.isneginf(y).tolist()
    assert_close(log_softmax(np.array(x) + shift), y, 2 * EPS * (len(x) + abs(shift) + 100))


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("order", ["C", "F"])
def test_the_axis_is_any_axis(axis: int, order: Literal["C", "F"], rng: np.random.Generator) -> None:
    x = np.asarray(rng.standard_normal((3, 4, 5)), order=order)
    tol = EPS * 20
    rows = np.moveaxis(x, axis, -1)
    want = np.array([math.log(math.fsum(map(math.exp, row))) for row in rows.reshape(-1, rows.shape[-1])]).reshape(rows.shape[:-1])
    assert_close(logsumexp(x, axis=axis), want, tol)
    assert_close(logsumexp(x, axis=axis, keepdims=True), np.expand_dims(want, axis), tol)
    assert_close(log_softmax(x, axis=axis), x - np.expand_dims(want, axis), tol)
    w = log_softmax(rng.standard_normal((3, 4, 5)), axis=axis)
    assert_close(soft_value(w, x, 1.0, axis=axis), np.log(np.sum(np.exp(w + x), axis=axis)), 2 * tol)


def test_logsumexp_where_nothing_is_possible() -> None:
    x = np.array([[NEVER, NEVER], [0.0, NEVER]])
    assert logsumexp(x, axis=1).tolist() == [NEVER, 0.0]
    g = grad(lambda x: np.sum(np.where(np.array([False, True]), logsumexp(x, axis=1), 0.0)))(x)
    assert g.tolist() == [[0.0, 0.0], [1.0, 0.0]]


def test_log_softmax_refuses_a_row_without_events() -> None:
    with pytest.raises(InputError, match=r"allow some event.*index \(1,\).*allow a token"):
        log_softmax(np.array([[0.0, 0.0], [NEVER, NEVER]]))


@given(m=st.floats(-1e3, 1e3))
def test_log_sigmoid(m: float) -> None:
    want = -math.log1p(math.exp(-m)) if m > 0 else m - math.log1p(math.exp(m))
    assert_close(log_sigmoid(m), want, 4 * EPS * (1 + abs(want)))
    slope = 1 / (1 + math.exp(min(m, 700.0))) if m < 700 else 0.0
    assert_close(grad(log_sigmoid)(m), slope, 8 * EPS * (1 + abs(m)) * slope + 1e-300 if m != 0 else EPS)


def test_log_sigmoid_at_the_ends() -> None:
    assert log_sigmoid(np.array([-1e308, 1e308])).tolist() == [-1e308, 0.0]
    assert grad(lambda m: np.sum(log_sigmoid(m)))(np.array([-1e4, 0.0, 1e4])).tolist() == [1.0, 0.5, 0.0]


@given(a=odds, b=odds, f=st.lists(st.floats(-5, 5), min_size=6, max_size=6))
def test_expectation_and_kl_against_the_oracle(a: list[int], b: list[int], f: list[float]) -> None:
    n = min(len(a), len(b))
    a, b = [max(v, i == 0) for i, v in enumerate(a[:n])], [max(v, i == 0) for i, v in enumerate(b[:n])]
    (log_p, p), (log_q, q) = law(a), law(b)
    keys = [(i,) for i in range(n)]
    want = oracle.kl(dict(zip(keys, p, strict=True)), dict(zip(keys, q, strict=True)))
    assert_close(kl(log_p, log_q), want, 8 * EPS * n * (1 + math.log(9 * n)))
    values = np.array([v if w > 0 else np.inf for v, w in zip(f, a, strict=False)])  # infinite where impossible: ignored
    assert_close(expect(log_p, values), math.fsum(x * y for x, y in zip(p, f, strict=False) if x > 0), 8 * EPS * n * 5 * math.log(99))


def test_kl_and_log_ratio_at_zero() -> None:
    half, sure = np.log([0.5, 0.5]), np.array([0.0, NEVER])
    assert kl(sure, half) == math.log(2)
    assert kl(sure, sure) == 0.0
    assert log_ratio(sure, half).tolist() == [math.log(2), 0.0]
    assert kl(half, sure) == np.inf
    assert log_ratio(half, sure).tolist() == [-math.log(2), np.inf]


@pytest.mark.parametrize("pair", [([1, 3], [2, 2]), ([1, 0, 3], [2, 5, 2]), ([1, 0, 3], [2, 0, 2])])
def test_gradient_of_kl_in_logits_is_finite_and_right(pair: tuple[list[int], list[int]]) -> None:
    (theta, p), (log_q, _) = law(pair[0]), law(pair[1])
    loss = kl(theta, log_q)
    want = [q * (t - lq - loss) if q > 0 else 0.0 for q, t, lq in zip(p, theta, log_q, strict=True)]
    assert_close(grad(lambda t: kl(log_softmax(t), log_q))(theta), want, 8 * EPS)


# ---------------------------------------------------------------------------------------------------- the soft maximum


@given(w=odds, halves=st.lists(st.integers(-6, 6), min_size=6, max_size=6))
def test_soft_value_lies_between_mean_and_maximum_and_falls_with_beta(w: list[int], halves: list[int]) -> None:
    log_w, p = law(w)
    q = np.array(halves[: len(w)]) / 2
    best = max(v for v, m in zip(q, p, strict=True) if m > 0)
    mean = math.fsum(m * v for m, v in zip(p, q, strict=True))
    tol = 8 * EPS * len(w) * (1 + size(q))
    values = [float(soft_value(log_w, q, b)) for b in BETAS]
    assert all(mean - tol <= v <= best + tol for v in values)
    assert all(a >= b - tol for a, b in itertools.pairwise(values))
    assert_close(values[0], best, tol)
    assert_close(values[-1], mean, tol)


@given(w=odds, halves=st.lists(st.integers(-6, 6), min_size=6, max_size=6), beta=st.sampled_from([1e-3, 0.1, 1.0, 7.0, 40.0, 1e3]))
def test_soft_value_against_the_oracle(w: list[int], halves: list[int], beta: float) -> None:
    log_w, p = law(w)
    q = [v / 2 for v in halves[: len(w)]]
    keys = [(i,) for i in range(len(w))]
    want, _ = oracle.tilt(dict(zip(keys, p, strict=True)), dict(zip(keys, q, strict=True)), beta)
    assert_close(soft_value(log_w, np.array(q), beta), want, 8 * EPS * (beta * len(w) + size(q) * 2))


def test_soft_value_keeps_the_second_order_at_large_beta() -> None:
    """V = E[q] + Var(q)/(2 beta) + kappa_3/(6 beta^2) + O(range^4/beta^3).

    The naive beta log(sum w exp(q/beta)) loses everything below EPS beta; here the error is EPS of q itself, because the weights
    sum to one only to EPS and q is taken relative to its maximum.
    """
    log_w, q = np.log([0.25, 0.75]), np.array([0.0, 1.0])
    mean, var, third = Fraction(3, 4), Fraction(3, 16), Fraction(3, 16) * Fraction(1, 4) * -2
    for beta in (1e6, 1e9, 1e12):
        b = Fraction(beta)
        assert_close(soft_value(log_w, q, beta), float(mean + var / (2 * b) + third / (6 * b * b)), 8 * EPS + 1 / beta**3)
    naive = 1e12 * math.log(0.25 + 0.75 * math.exp(1e-12))
    assert abs(naive - 0.75) > 1e6 * EPS  # the tolerance above is far smaller than the effect


def test_soft_value_scales_with_its_units() -> None:
    """beta and q in other units: V(c q, c beta) = c V(q, beta), from 1e-300 to 1e300, in both branches and mixed."""
    log_w = np.log([[0.25, 0.5, 0.25]] * 3)
    q = np.array([[0.0, 0.1, 0.2], [0.0, 3.0, 9.0], [1.0, 1.0, 1.0]])
    for rows in ([0], [1], [0, 1, 2]):
        base = soft_value(log_w[rows], q[rows], 1.0)
        for c in (1e-290, 1e-10, 1e10, 1e290):
            assert_close(soft_value(log_w[rows], c * q[rows], c) / c, base, 16 * EPS * (1 + size(q)))


def test_soft_value_ignores_the_values_of_impossible_events() -> None:
    log_w = np.log(np.array([0.5, 0.5, 1.0])) + np.array([0.0, 0.0, NEVER])
    assert soft_value(log_w, np.array([0.0, 1.0, 1e6]), 1.0) == soft_value(log_w[:2], np.array([0.0, 1.0]), 1.0)
    assert soft_value(log_w, np.array([0.0, 1.0, 50.0]), 1e-300) == 1.0


@pytest.mark.parametrize("beta", [0.05, 1.0, 1e4])
def test_gradient_of_the_soft_value_is_the_tilted_law(beta: float, rng: np.random.Generator) -> None:
    log_w = np.where(np.array([False, True, False, False]), NEVER, np.log(0.25))
    log_w = log_w - np.log(np.sum(np.exp(log_w)))
    q = rng.standard_normal(4)
    V = soft_value(log_w, q, beta)
    p = np.where(np.isneginf(log_w), 0.0, np.exp(log_w + (q - V) / beta))
    tol = 16 * EPS * (1 + 2 * size(q) / beta)
    assert_close(grad(lambda q: soft_value(log_w, q, beta))(q), p, tol)
    assert_close(hessian(lambda q: soft_value(log_w, q, beta))(q), (np.diag(p) - np.outer(p, p)) / beta, tol / beta)
    assert check_grad(lambda w, q: soft_value(w, q, beta), np.log([0.25] * 4), q, rng=rng) < 1e-9 * max(1.0, 1 / beta)


@pytest.mark.parametrize("m", [0.0, 1e-9, -1.5, 30.0, -600.0])
def test_log_sigmoid_is_smooth_also_at_zero(m: float) -> None:
    """Slopes sigma(-m), -sigma(m) sigma(-m) and the third derivative, by hand: a tie must not look like a kink."""
    s, t = 1.0 / (1.0 + math.exp(-m)), 1.0 / (1.0 + math.exp(m))
    for order, wanted in ((1, t), (2, -s * t), (3, -s * t * (t - s))):
        f = log_sigmoid
        for _ in range(order):
            f = grad(f)
        assert_close(f(m), wanted, 8 * EPS * (1 + abs(m)) * max(abs(wanted), 1e-10))  # exp carries the rounding of m


@given(st.lists(st.tuples(st.lists(st.integers(0, 4), min_size=3, max_size=3).filter(any), st.integers(-12, 12)), min_size=2, max_size=5))
def test_rows_of_any_span_stand_side_by_side(rows: list[tuple[list[int], int]]) -> None:
    """soft_parts takes narrow rows by log1p and wide ones by logsumexp: in a table of both every row is what it is alone, and right."""
    log_w = np.array([law(w)[0] for w, _ in rows])
    q = np.array([np.array([0.0, 0.3, 1.0]) * 10.0**k for _, k in rows])
    for axis, turn in ((-1, lambda a: a), (0, np.transpose)):
        best, nats = soft_parts(turn(log_w), turn(q), 1.0, axis=axis)
        for i, ((w, _), here) in enumerate(zip(rows, q.tolist(), strict=True)):
            alone = soft_parts(log_w[i], q[i], 1.0)
            assert_close([best[i], nats[i]], list(alone), 8 * EPS * (1 + abs(float(alone[1]))))
            top = max(x for x, n in zip(here, w, strict=True) if n)
            terms = [Fraction(n, sum(w)) * Fraction(math.expm1(max(x - top, -745.0))) for x, n in zip(here, w, strict=True) if n]
            want = math.log1p(float(sum(terms))) if sum(terms) > -1 else -np.inf
            assert best[i] == top
            assert_close(nats[i], want, 64 * EPS * (abs(want) + float(max(map(abs, terms)))))


def test_nan_is_not_swallowed_by_a_sum_of_weights() -> None:
    for x in ([np.nan, 0.0], [np.nan, -np.inf], [0.0, np.nan, 1.0]):
        assert np.isnan(logsumexp(np.array(x)))
