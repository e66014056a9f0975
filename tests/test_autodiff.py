"""Laws of derivatives: what grad, jacobian, hessian, hvp and vjp promise, at kinks, at -inf, nested, and when refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tabular_rlhf as tr
from tabular_rlhf import check_grad, grad, hessian, hvp, jacobian, value_and_grad, vjp
from tabular_rlhf.autodiff import Traced, primitive
from tests.laws import EPS, assert_close

X = np.array([0.5, -1.5, 2.0])


def smooth(x: Any) -> Any:
    return np.sum(np.exp(x) * np.sin(x)) + x[0] * x[1] ** 2 * np.tanh(x[2])


# ---------------------------------------------------------------------------------------------------- the family of derivatives


def test_the_derivatives_agree_with_each_other(rng: np.random.Generator) -> None:
    v, u = rng.standard_normal(3), rng.standard_normal(3)
    tol = 64 * EPS * math.exp(2)
    value, gradient = value_and_grad(smooth)(X)
    assert value == smooth(X)
    assert np.array_equal(gradient, grad(smooth)(X))
    assert np.array_equal(gradient, jacobian(smooth)(X))
    H = hessian(smooth)(X)
    assert_close(H, H.T, tol)
    assert_close(hvp(smooth)(X, v), H @ v, tol)
    y, back = vjp(np.exp, X)
    assert np.array_equal(y, np.exp(X))
    assert_close(back(u), u * np.exp(X), tol)
    J = jacobian(lambda x: np.outer(x, x**2))(X)
    assert J.shape == (3, 3, 3)
    assert_close(np.einsum("ijk,i,j->k", J, u, v), vjp(lambda x: np.outer(x, x**2), X)[1](np.outer(u, v)), tol * 8)


def test_argnums_choose_the_argument() -> None:
    def f(a: Any, b: Any, scale: float = 1.0) -> Any:
        return scale * np.sum(a**2 * b)

    a, b = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    assert grad(f, 1)(a, b).tolist() == [1.0, 4.0]
    assert grad(f, -1)(a, b).tolist() == [1.0, 4.0]
    both = grad(f, (0, 1))(a, b, scale=2.0)
    assert [g.tolist() for g in both] == [[12.0, 32.0], [2.0, 8.0]]
    assert jacobian(f, 1)(a, b).tolist() == [1.0, 4.0]
    assert hessian(f)(a, b).tolist() == [[6.0, 0.0], [0.0, 8.0]]
    with pytest.raises(TypeError, match=r"argnums=2 must name one of the 2"):
        grad(f, 2)(a, b)


def test_constants_have_gradient_zero_of_the_right_shape() -> None:
    assert grad(lambda x: 3.0)(X).tolist() == [0.0, 0.0, 0.0]
    assert grad(lambda x: np.sum(x[:1]))(X).tolist() == [1.0, 0.0, 0.0]
    assert jacobian(lambda x: np.zeros((2, 2)))(X).shape == (2, 2, 3)
    assert grad(lambda x, y: np.sum(y), (0, 1))(X, X)[0].tolist() == [0.0, 0.0, 0.0]
    assert jacobian(lambda x: x[:0])(X).shape == (0, 3)


def test_numbers_and_whole_numbers_are_parameters() -> None:
    assert grad(lambda x: x**3)(2) == 12.0
    assert grad(lambda x: x**3)(np.int64(2)) == 12.0
    assert grad(lambda x: np.sum(x * x))(np.array([1, 2])).tolist() == [2.0, 4.0]


def test_an_array_used_in_many_ways_collects_every_sensitivity() -> None:
    """Shared pieces must be added, not overwritten, and a buffer that is shared must not be added into."""
    assert grad(lambda x: np.sum(x + x + x))(X).tolist() == [3.0] * 3
    assert grad(lambda x: np.sum(x) + x[0] + x[0] + x[1:].sum())(X).tolist() == [3.0, 2.0, 2.0]
    two = grad(lambda a, b: np.sum((a + b) * 1.0) + np.sum(a), (0, 1))(X, X)
    assert [g.tolist() for g in two] == [[2.0] * 3, [1.0] * 3]

    def diamond(x: Any) -> Any:
        y = x * 1.0
        return np.sum(y + y) + np.sum(y[::-1] * np.array([1.0, 2.0, 3.0])) + y[0]

    assert grad(diamond)(X).tolist() == [6.0, 4.0, 3.0]


def test_a_pullback_can_be_used_again() -> None:
    _, back = vjp(lambda x: x[:2] * x[0] + x[1:], X)
    u, w = np.array([1.0, 2.0]), np.array([-3.0, 0.5])
    once = back(u)
    assert np.array_equal(once, back(u))
    assert_close(back(u + w), back(u) + back(w), 16 * EPS)
    assert np.array_equal(u, [1.0, 2.0])


def test_the_arguments_are_not_written_to() -> None:
    x = X.copy()
    grad(lambda x: np.sum(np.exp(x[::-1]) + x))(x)
    hessian(smooth)(x)
    assert np.array_equal(x, X)


def test_many_axes_and_memory_orders(rng: np.random.Generator) -> None:
    x = np.asfortranarray(rng.standard_normal((3, 4)))

    def f(x: Any) -> Any:
        return np.sum(np.cumsum(x.T[1:], axis=0)[:, ::2] ** 3)

    assert check_grad(f, x, rng=rng) < 1e-9  # see test_autodiff_rules for the tolerance of fourth-order differences
    assert_close(grad(f)(x), grad(f)(np.ascontiguousarray(x)), EPS * 100)


def test_one_random_inner_product_finds_a_wrong_rule(rng: np.random.Generator) -> None:
    wrong = primitive(lambda x: x**2, lambda g, y, x: g * x)
    right = primitive(lambda x: x**2, lambda g, y, x: g * 2 * x)
    assert check_grad(wrong, X, rng=rng) > 1e-3
    assert check_grad(right, X, rng=rng) < 1e-10
    assert check_grad(right, X, rng=rng, method="complex") < 8 * EPS
    with pytest.raises(ValueError, match="'finite' or 'complex': got 'magic'"):
        check_grad(right, X, rng=rng, method="magic")


# ---------------------------------------------------------------------------------------------------- nesting


def test_perturbations_are_not_confused() -> None:
    """d/dx [x d/dy (x + y)] = 1: the classic trap (Siskind and Pearlmutter 2005) gives 2."""
    assert grad(lambda x: x * grad(lambda y: x + y)(1.0))(1.0) == 1.0
    assert grad(lambda x: x * grad(lambda y: x * y)(2.0))(3.0) == 6.0
    assert grad(lambda x: grad(lambda y: x * y**2)(x))(3.0) == 12.0  # d/dx (2 x y at y = x) = d/dx 2 x^2
    assert grad(lambda x: grad(lambda y: grad(lambda z: x * y**2 * z**3)(y))(x))(2.0) == 48 * 2.0**3  # d/dx (12 x y^3 at y = x)


def test_closures_over_an_outer_array_differentiate(rng: np.random.Generator) -> None:
    def inner_optimum(x: Any) -> Any:
        y = np.zeros(3)
        for _ in range(3):  # three steps of descent on |y - x|^2/2, differentiated through
            y = y - 0.5 * grad(lambda y: 0.5 * np.sum((y - x) ** 2))(y)
        return np.sum(y * np.array([1.0, 2.0, 3.0]))

    assert grad(inner_optimum)(X).tolist() == [0.875, 1.75, 2.625]  # 1 - (1/2)^3 of each weight
    A = rng.standard_normal((3, 3))
    nested = grad(lambda x: np.sum(hvp(lambda y: np.sum(np.sin(A @ y) * x))(x, x)))
    assert check_grad(lambda x: np.sum(hvp(lambda y: np.sum(np.sin(A @ y) * x))(x, x)), X, rng=rng) < 1e-8
    assert nested(X).shape == (3,)


def test_derivatives_of_every_order_of_exp_are_exp() -> None:
    f: Callable[[Any], Any] = np.exp
    for _ in range(6):
        f = grad(f)
        assert f(1.0) == math.exp(1.0)


def test_third_derivative_of_log_sigmoid() -> None:
    """(log sigma)''' = -s(1-s)(1-2s) with s = sigma(m)."""
    for m in (-2.0, 0.5, 3.0):
        s = 1 / (1 + math.exp(-m))
        assert_close(grad(grad(grad(tr.log_sigmoid)))(m), -s * (1 - s) * (1 - 2 * s), 16 * EPS)


def test_the_hessian_of_a_derivative_taken_with_kwargs() -> None:
    def f(x: Any, n: int = 2) -> Any:
        return np.sum(x**n)

    assert hvp(f)(X, np.ones(3), n=3).tolist() == (6 * X).tolist()
    assert np.diag(hessian(f)(X, n=3)).tolist() == (6 * X).tolist()


# ---------------------------------------------------------------------------------------------------- kinks and infinities


def test_subgradients_at_kinks_are_those_stated() -> None:
    tie = np.array([1.0, 1.0])
    assert grad(lambda x: np.maximum(x, 1.0))(1.0) == 0.5
    assert grad(lambda x: np.minimum(1.0, x))(1.0) == 0.5
    assert grad(np.max)(tie).tolist() == [0.5, 0.5]
    assert grad(np.min)(tie).tolist() == [0.5, 0.5]
    assert grad(lambda x: np.sum(np.max(x, axis=0)))(np.array([[1.0, 2.0], [1.0, 0.0], [1.0, 2.0]])).tolist() == [
        [1 / 3, 0.5],
        [1 / 3, 0.0],
        [1 / 3, 0.5],
    ]
    assert grad(abs)(0.0) == 0.0
    assert [float(grad(lambda x: np.clip(x, 0.0, 1.0))(x)) for x in (-0.1, 0.0, 0.5, 1.0, 1.1)] == [0.0, 1.0, 1.0, 1.0, 0.0]
    assert grad(lambda x: x**0)(0.0) == 0.0
    assert grad(lambda x: x**1)(0.0) == 1.0
    assert grad(lambda x: x**2)(0.0) == 0.0


NEVER = -np.inf


def test_impossible_events_have_gradient_zero_and_never_nan() -> None:
    x = np.array([0.0, NEVER, math.log(3.0)])
    assert_close(grad(tr.logsumexp)(x), [0.25, 0.0, 0.75], 4 * EPS)
    assert_close(jacobian(tr.log_softmax)(x)[::2], [[0.75, 0, -0.75], [-0.25, 0, 0.25]], 4 * EPS)
    assert_close(hessian(tr.logsumexp)(x), [[3 / 16, 0, -3 / 16], [0, 0, 0], [-3 / 16, 0, 3 / 16]], 4 * EPS)
    assert grad(lambda x: np.logaddexp(x, 1.0))(NEVER) == 0.0
    assert grad(lambda x: np.logaddexp(x, NEVER))(1.0) == 1.0
    assert grad(lambda x: np.logaddexp(x, NEVER))(NEVER) == 0.0
    assert grad(np.exp)(NEVER) == 0.0
    assert grad(lambda x: np.sum(np.where(np.isneginf(x), 0.0, x)))(x).tolist() == [1.0, 0.0, 1.0]
    assert grad(lambda x: tr.expect(x, np.array([1.0, 5.0, 2.0])))(x).tolist()[1] == 0.0
    assert grad(lambda x: tr.kl(tr.log_softmax(x), np.log([0.5, 0.25, 0.25])))(x)[1] == 0.0


# ---------------------------------------------------------------------------------------------------- refusals

STORED: list[Any] = []


def _branch(x: Any) -> Any:
    return x if x > 0 and bool(np.sum(x) * 1.0) else -x


def _write(x: Any) -> Any:
    x[0] = 1.0
    return np.sum(x)


def _in_place(x: Any) -> Any:
    x += 1.0
    return np.sum(x)


REFUSALS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "float": (lambda x: float(np.sum(x)), "plain number, bool or array.*np.where"),
    "int": (lambda x: int(np.sum(x)), "plain number, bool or array"),
    "complex": (lambda x: complex(np.sum(x)), "plain number, bool or array"),
    "bool": (lambda x: np.sum(x) if np.sum(x) else 0.0, "plain number, bool or array"),
    "index": (lambda x: [1, 2, 3][np.sum(x)], "plain number, bool or array"),
    "math": (lambda x: math.exp(np.sum(x)), "NumPy functions instead of math's"),
    "np.array": (lambda x: np.sum(np.array([x[0], x[1]])), "np.stack"),
    "np.asarray": (lambda x: np.sum(np.asarray(x)), "plain number, bool or array"),
    "item": (lambda x: np.sum(x).item(), "plain number"),
    "tolist": (lambda x: x.tolist(), "plain number"),
    "astype": (lambda x: x.astype(np.float32), "plain number"),
    "assignment": (_write, r"x\[\.\.\.\] = .*np.where"),
    "in place": (_in_place, r"x \+= y writes into a traced array.*write x = x \+ y"),
    "a plain array grows in place": (lambda x: np.add(x, 1.0, out=np.zeros(3)), r"numpy.add\(\.\.\., out=\.\.\.\)"),
    "out of a reduction": (lambda x: np.sum(x, out=np.zeros(())), r"numpy.sum\(\.\.\., out=\.\.\.\)"),
    "no rule": (lambda x: np.sum(np.arctan(x)), r"no gradient rule for numpy.arctan,"),
    "no rule in a submodule": (lambda x: np.linalg.det(np.outer(x, x)), r"no gradient rule for numpy.linalg.det,"),
    "no rule for a method of a ufunc": (lambda x: np.sum(np.multiply.accumulate(x)), r"numpy.multiply.accumulate"),
    "ellipsis in einsum": (lambda x: np.einsum("...i->...", x), "explicit letters"),
    "diagonal in einsum": (lambda x: np.einsum("ii->", np.outer(x, x)), "repeated within one operand"),
    "keyword": (lambda x: np.sum(np.sum(a=x)), "by position"),
    "keyword beside a traced array": (lambda x: np.sum(np.clip(x, a_min=x, a_max=2.0)), "by keyword"),
    "an exponent of where": (lambda x: np.where(x, 1.0, 2.0).sum(), "no gradient"),
    "several results": (lambda x: (x, x), "return one array or number, got tuple"),
    "no result": (lambda x: None, "return one array or number, got NoneType"),
    "not a scalar": (lambda x: x, r"scalar function, got an output of shape \(3,\)"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_would_lose_the_gradient_is_refused(name: str) -> None:
    f, message = REFUSALS[name]
    with pytest.raises(TypeError, match=message):
        grad(f)(X)


def test_a_plain_array_cannot_take_a_traced_element() -> None:
    """NumPy asks the element for its number and wraps our refusal in a ValueError of its own, which we take off again."""
    for index in (0, slice(None)):
        with pytest.raises(TypeError, match=r"element of one.*np.stack \(also instead of filling np.zeros\)"):
            grad(lambda x, index=index: np.zeros(3).__setitem__(index, x[0]))(X)
    with pytest.raises(ValueError, match="mine"):
        grad(lambda x: [].index("mine"))(X)


def test_an_escaped_array_is_refused_afterwards() -> None:
    grad(lambda x: STORED.append(x) or np.sum(x))(X)
    with pytest.raises(TypeError, match="finished derivative; return values"):
        np.sum(STORED[0] * 2)
    with pytest.raises(TypeError, match="finished derivative"):
        grad(lambda x: np.sum(x * STORED[0]))(X)


@pytest.mark.parametrize("bad", [np.array([1j]), np.array(["a"]), np.array([None]), np.array([True])])
def test_only_real_numbers_can_be_parameters(bad: np.ndarray) -> None:
    with pytest.raises(TypeError, match=r"argument 0 must be real numbers to be differentiated, got dtype"):
        grad(lambda x: np.sum(x))(bad)


def test_comparisons_are_plain_and_branching_on_them_is_honest() -> None:
    """A comparison's derivative is zero wherever it exists, so it may be used to branch."""
    assert grad(lambda x: np.sum(x**2) if np.all(x > -5) else np.sum(x))(X).tolist() == (2 * X).tolist()
    seen: list[Any] = []
    grad(lambda x: seen.extend([x < 0, x <= 0.5, x > 0, x >= 0.5, x == 0.5, x != 0.5]) or np.sum(x))(X)
    assert [s.tolist() for s in seen] == [(X < 0).tolist(), (X <= 0.5).tolist(), (X > 0).tolist()] + [
        [True, False, True],
        [True, False, False],
        [False, True, True],
    ]


def test_a_traced_array_shows_its_value_and_has_no_hash() -> None:
    seen: list[str] = []

    def f(x: Any) -> Any:
        seen.append(repr(x))
        assert (len(x), x.shape, x.ndim, x.size, x.dtype) == (3, (3,), 1, 3, np.float64)
        with pytest.raises(TypeError, match="unhashable"):
            hash(x)
        return sum(part for part in x)  # iteration yields traced parts

    assert grad(f)(X).tolist() == [1.0, 1.0, 1.0]
    assert seen == ["Traced(array([ 0.5, -1.5,  2. ]))"]


def test_plain_functions_stay_plain() -> None:
    for f in (tr.logsumexp, tr.log_softmax, tr.log_sigmoid):
        assert not isinstance(f(X), Traced)
        assert np.asarray(f(X)).dtype == np.float64
