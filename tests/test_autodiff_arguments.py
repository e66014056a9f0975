"""Laws of calling: every way to call an operation that NumPy allows is differentiated rightly, or refused by name; and what the
program does with its arrays after a call changes no gradient."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import special

from tabular_rlhf import check_grad, grad, hessian, hvp, jacobian, vjp
from tabular_rlhf.autodiff import primitive
from tabular_rlhf.autodiff.table import SMALL
from tests.laws import EPS, assert_close

X = np.array([0.5, -1.5, 2.0])
M = np.random.default_rng(5).standard_normal((3, 4))
W = np.random.default_rng(6).standard_normal(12)
NEW_CLIP = np.lib.NumpyVersion(np.__version__) >= "2.1.0"  # np.clip has the names min and max since then

# ---------------------------------------------------------------------------------------------------- what is understood

CALLS: dict[str, tuple[Callable[[Any], Any], np.ndarray]] = {
    "ravel order": (lambda x: np.ravel(x, order="F") * W, M),
    "ravel order by position": (lambda x: np.ravel(x, "F") * W, M),
    "ravel method": (lambda x: x.ravel("F") * W, M),
    "flatten": (lambda x: x.T.flatten() * W, M),
    "flatten order": (lambda x: x.flatten(order="F") * W, M),
    "reshape order by position": (lambda x: np.reshape(x, 12, "F") * W, M),
    "reshape order": (lambda x: np.reshape(x.T, (2, 6), order="F") * W.reshape(2, 6), M),
    "reshape method": (lambda x: x.reshape(2, 6, order="F") * W.reshape(2, 6), M),
    "clip method": (lambda x: x.clip(max=1.0), X),
    "clip method, both": (lambda x: x.clip(-1.0, 1.0), X),
    "clip names": (lambda x: np.clip(x, a_min=None, a_max=1.0), X),
    "moveaxis names": (lambda x: np.moveaxis(x, source=0, destination=1) * W.reshape(4, 3), M),
    "swapaxes names": (lambda x: np.swapaxes(x, axis1=0, axis2=1) * W.reshape(4, 3), M),
    "dot list": (lambda x: np.dot(x, [1.0, 2.0, 3.0]), X),
    "dot tuple": (lambda x: np.dot((1.0, 2.0, 3.0), x), X),
    "dot list of lists": (lambda x: np.dot(x, [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), X),
    "inner list": (lambda x: np.inner([1.0, 2.0, 3.0], x), X),
    "matmul list": (lambda x: x @ [1.0, 2.0, 3.0], X),
    "matmul tuple": (lambda x: (1.0, 2.0, 3.0) @ x, X),
    "power list": (lambda x: x ** [2, 3, 1], X),
    "times list": (lambda x: [1.0, 2.0, 3.0] * x, X),
    "where lists": (lambda x: np.where([True, False, True], x, [1.0, 2.0, 3.0]), X),
    "list index": (lambda x: x[[0, 0, 2]] * X, X),
    "empty list index": (lambda x: np.sum(x[[]]) + x, X),
    "nonzero index": (lambda x: x[np.where(x > 0)], X),
    "where of itself": (lambda x: x[np.where(x)] * X, X),
    "nonzero method": (lambda x: x[x.nonzero()] * X, X),
    "argmax method": (lambda x: x[x.argmax()], X),
    "any method": (lambda x: x * (x > 0).any() * x.any(), X),
    "take method": (lambda x: x.take([0, 2, 2]), X),
    "take wraps": (lambda x: np.take(x, [5, -7], mode="wrap") ** 2, X),
    "repeat method": (lambda x: x.repeat([1, 0, 2]) ** 2, X),
    "roll axes": (lambda x: np.roll(x, (1, 2), axis=(0, 1)) * W.reshape(3, 4), M),
    "broadcasting take_along_axis": (lambda x: np.take_along_axis(x, np.array([[0, 1]]), axis=1) ** 2, M),
    "take_along_axis, other axis": (lambda x: np.take_along_axis(x, np.array([[2], [0], [0], [1]]), axis=0) ** 2, M),
    "take_along_axis of a short array": (lambda x: np.take_along_axis(x[:1], np.array([[0, 3], [1, 1]]), axis=1) ** 2, M),
    "einsum stretches the first": (lambda x: np.einsum("ij,ij->ij", x[:1], M) ** 2, M),
    "einsum stretches a sum": (lambda x: np.einsum("ij,ij->i", x[:, :1], M) ** 2, M),
    "einsum stretches the other": (lambda x: np.einsum("ij,ij->i", M[:, :1], x) ** 2, M),
    "einsum plans": (lambda x: np.einsum("ij,kj,k->i", x, M, X, optimize=True) ** 2, M),
    "defaults said aloud": (lambda x: np.mean(x, axis=None, dtype=None, out=None), X),
    "copy order": (lambda x: np.copy(x, order="F") ** 2, M),
    "a display": (lambda x: x * len(f"{x[0]:.2f}"), X),
}
if NEW_CLIP:
    CALLS["clip by NumPy 2.1's names"] = (lambda x: np.clip(x, min=-1.0, max=1.0), X)
    CALLS["clip by one of them"] = (lambda x: np.clip(x, min=-1.0), X)


@pytest.mark.parametrize("name", CALLS)
def test_a_call_that_is_understood_has_the_value_and_the_gradient(name: str, rng: np.random.Generator) -> None:
    f, x = CALLS[name]
    assert_close(vjp(f, x)[0], f(x), 16 * EPS * 12)
    assert check_grad(f, x, rng=rng) < 1e-9  # fourth-order differences of polynomials: rounding EPS/h of values of order ten


# ---------------------------------------------------------------------------------------------------- broadcasting

SHAPES = [(), (1,), (3,), (1, 3), (2, 1), (2, 3), (4, 1, 1), (4, 2, 3)]
PAIRS: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "power": np.power,
    "logaddexp": np.logaddexp,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "xlogy": special.xlogy,
    "where": lambda a, b: np.where(np.arange(3) > 1, a, b),
    "clip": lambda a, b: np.clip(a, 0.0, b) if type(b) is np.ndarray or not np.shape(b) else a * b,
}


@pytest.mark.parametrize("name", PAIRS)
def test_every_pair_of_shapes_broadcasts(name: str, rng: np.random.Generator) -> None:
    f = PAIRS[name]
    for sa in SHAPES:
        for sb in SHAPES:
            a, b = rng.uniform(0.5, 2, sa), rng.uniform(0.5, 2, sb) + 2 * (name in ("clip", "maximum", "minimum"))
            assert check_grad(f, a, b, rng=rng, argnums=0) < 1e-8
            if name != "clip":
                assert check_grad(f, a, b, rng=rng, argnums=1) < 1e-8


# ---------------------------------------------------------------------------------------------------- what is refused, by name

KEYWORDS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "mean": (lambda x: np.mean(x, dtype=float), r"numpy\.mean: the keyword dtype= "),
    "sum": (lambda x: np.sum(x, where=X > 0), r"numpy\.sum: the keyword where= .*np\.where selects"),
    "sum from": (lambda x: np.sum(x, initial=3.0), r"numpy\.sum: the keyword initial= "),
    "reduce": (lambda x: np.add.reduce(x, where=X > 0), r"numpy\.sum: the keyword where= "),
    "max": (lambda x: np.max(x, initial=3.0), r"numpy\.max: the keyword initial= "),
    "exp": (lambda x: np.exp(x, dtype=float), r"numpy\.exp: the keyword dtype= "),
    "add": (lambda x: np.add(x, 1.0, where=X > 0), r"numpy\.add: the keyword where= "),
    "var": (lambda x: np.var(x, correction=1), r"numpy\.var: the keyword correction= "),
    "diff": (lambda x: np.diff(x, prepend=0.0), r"numpy\.diff: the keyword prepend= "),
    "method": (lambda x: x.mean(dtype=float), r"numpy\.mean: the keyword dtype= "),
    "matmul": (lambda x: np.matmul(x, x, axes=[0, 0, ()]), r"numpy\.matmul: the keyword axes= "),
    "too many for a rule": (lambda x: np.sum(x, None, float), r"numpy\.sum takes at most 2 arguments by position .*, got 3"),
    "too many for a composite": (lambda x: np.std(x, 0, None, None, 1), r"numpy\.std takes at most 2 arguments by position"),
    "order of memory": (lambda x: np.ravel(np.outer(x, x).T, order="K"), r"order='K' depends on .*order='C' or 'F'"),
    "order of memory, maybe": (lambda x: np.reshape(np.outer(x, x).T, 9, "A"), r"order='A' depends on .*order='C' or 'F'"),
    "einsum's lists": (lambda x: np.einsum(x, [0], []), "explicit letters"),
    "a traced condition": (lambda x: np.where(x, 1.0, 2.0), r"numpy\.where: argument 0 has no gradient rule"),
    "a method without rule": (lambda x: x.prod(), r"no gradient rule for numpy\.prod,"),
    "floor": (lambda x: x // 1, r"no gradient rule for numpy\.floor_divide,"),
    "remainder": (lambda x: 5.0 % x, r"no gradient rule for numpy\.remainder,"),
    "round": (lambda x: round(x[0]), r"no gradient rule for numpy\.round,"),
    "bits": (lambda x: ~x, r"no gradient rule for numpy\.invert,"),
    "sort in place": (lambda x: x.sort(), r"x\.sort\(\.\.\.\) writes into a traced array.*new array"),
    "floor in place": (lambda x: x.__ifloordiv__(2.0), r"numpy\.floor_divide\(\.\.\., out=\.\.\.\) writes"),
    "SciPy's logsumexp": (special.logsumexp, r"tabular_rlhf\.logsumexp"),
}


@pytest.mark.parametrize("name", KEYWORDS)
def test_a_call_that_is_not_understood_is_refused_by_name(name: str) -> None:
    f, message = KEYWORDS[name]
    with pytest.raises(TypeError, match=message):
        grad(lambda x: np.sum(f(x)))(X)


def test_attributes_that_are_not_functions_say_so() -> None:
    with pytest.raises(AttributeError, match="a traced array has no 'real'; write it with NumPy's functions"):
        grad(lambda x: np.sum(x.real))(X)


def test_a_primitive_is_called_as_its_rule_says() -> None:
    f = primitive(lambda x, power=1: x**power, lambda g, y, x, power=1: g * power * x ** (power - 1))
    assert grad(lambda x: np.sum(f(x, power=3)))(X).tolist() == (3 * X**2).tolist()
    careless = primitive(lambda x, power=1: x**power, lambda g, y, x: g)
    with pytest.raises(TypeError, match="the keyword power= has no gradient rule"):
        grad(lambda x: np.sum(careless(x, power=3)))(X)


# ---------------------------------------------------------------------------------------------------- sums that grow, buffers reused


def test_a_sum_may_grow_as_in_plain_numpy() -> None:
    def total(x: Any) -> Any:
        tot = 0.0
        for v in x:
            tot += v * v
        tot -= 1.0
        tot *= 3.0
        tot /= 2.0
        tot **= 1
        return tot

    assert grad(total)(X).tolist() == (3 * X).tolist()
    assert hessian(total)(X).tolist() == (3 * np.eye(3)).tolist()

    def doubled(x: Any) -> Any:
        x += x
        return x

    assert grad(doubled)(2.0) == 2.0
    with pytest.raises(TypeError, match=r"write x = x \+ y"):
        grad(doubled)(np.array(2.0))  # an array, even of no axes, can be shared


@pytest.mark.parametrize("n", [3, SMALL + 1])
@pytest.mark.parametrize(
    "f",
    [
        lambda x, m: x * m,
        lambda x, m: m / x,
        lambda x, m: x**m,
        lambda x, m: np.clip(x, None, m),
        lambda x, m: np.where(m > 1, x, 0.0) * np.where(x > 0, m, x),
        lambda x, m: np.dot(m, x),
        lambda x, m: np.einsum("i,i->i", x, m),
        lambda x, m: np.take(x, m.astype(int)) * m[::-1],
        lambda x, m: (x * m[:, None]) * m.reshape(-1, 1),
    ],
)
def test_a_buffer_may_be_reused_after_the_call(n: int, f: Any) -> None:
    x = np.linspace(1.0, 2.0, n if f(np.ones(3), np.ones(3)).ndim < 2 else 3)
    fills = [1.0, 2.0, 0.5]

    def reusing(x: Any) -> Any:
        m, tot = np.zeros(len(x)), 0.0
        for fill in fills:
            m[:] = fill
            tot = tot + np.sum(f(x, m))
        return tot

    assert_close(grad(reusing)(x), sum(grad(lambda x, c=c: np.sum(f(x, np.full(len(x), c))))(x) for c in fills), 64 * EPS * n)


def test_the_index_the_bound_and_the_view_may_be_reused() -> None:
    def f(x: Any) -> Any:
        where, bound, buffer, tot = np.zeros(1, int), np.zeros(3), np.zeros((2, 3)), 0.0
        row = np.broadcast_to(buffer[0], (3,))  # read-only, but a view of what is not
        for i in range(3):
            where[0], bound[:], buffer[:] = i, i, i + 1
            tot = tot + np.sum(x[where]) + np.sum(x[(where,)]) + np.sum(np.clip(x, None, a_max=bound)) + np.sum(x * row)
        return tot

    assert grad(f)(X).tolist() == [2 + 2 + 6, 2 + 3 + 6, 2 + 1 + 6]


def test_what_a_vjp_returned_and_was_given_is_the_caller_s() -> None:
    x = X.copy()
    y, back = vjp(np.exp, x)
    y *= 2
    x *= 0
    assert np.array_equal(back(np.ones(3)), np.exp(X))
    x = X.copy()
    y, back = vjp(lambda x: x[:], x)
    x[:] = y[:] = 7.0
    assert np.array_equal(vjp(np.square, X)[1](np.ones(3)), 2 * X)
    y, back = vjp(np.square, x)
    x[:] = 0.0
    assert np.array_equal(back(np.ones(3)), np.full(3, 14.0))


def test_an_array_that_nobody_can_write_to_is_not_copied() -> None:
    seen: list[Any] = []
    peek = primitive(lambda x, c: x * c, lambda g, y, x, c: seen.append(c) or g * c)
    c = np.array([1.0, 2.0, 3.0])
    grad(lambda x: np.sum(peek(x, c)))(X)
    c.flags.writeable = False
    grad(lambda x: np.sum(peek(x, c)))(X)
    assert [s is c for s in seen] == [False, True]
    assert not c.flags.writeable


# ---------------------------------------------------------------------------------------------------- the family


def test_the_family_checks_its_arguments(rng: np.random.Generator) -> None:
    def f(a: Any, b: Any) -> Any:
        return np.sum(a * b**2)

    assert grad(f, np.int64(1))(X, X).tolist() == (2 * X * X).tolist()  # type: ignore[arg-type]
    assert check_grad(f, X, X + 1, rng=rng, argnums=-1) < 1e-9
    assert_close(hvp(f, -1)(X, X, np.ones(3)), 2 * X, 0.0)
    assert hvp(f, 1)(X, X, [1.0, 0.0, 1.0]).tolist() == [1.0, 0.0, 4.0]
    for family in (jacobian, hessian):
        with pytest.raises(TypeError, match=r"position of one argument here, got \(0, 1\); ask for one at a time"):
            family(f, (0, 1))(X, X)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"an array of shape \(3,\): got shape \(2,\); np.ones_like"):
        vjp(np.exp, X)[1](np.ones(2))
    assert vjp(np.square, X)[1]([1.0, 0.0, 1.0]).tolist() == [1.0, 0.0, 4.0]
    with pytest.raises(ValueError, match=r"direction v must have the shape .*\(3,\): got shape \(\); hvp"):
        hvp(lambda x: np.sum(x**3))(X, 2.0)


def test_the_corners_of_xlogy_and_of_the_standard_deviation() -> None:
    assert grad(lambda b: special.xlogy(0.0, b))(0.0) == 0.0
    assert grad(lambda a: grad(lambda b: special.xlogy(a, b))(2.0))(0.0) == 0.5  # d/da (a/b)
    assert grad(lambda b: special.xlogy(2.0, b))(4.0) == 0.5
    constant = np.full((2, 3), 7.0)
    constant[1, 2] = 10.0
    assert grad(np.std)(constant[0]).tolist() == [0.0, 0.0, 0.0]
    s = math.sqrt(2.0)  # of the second row: d std / d x_i = (x_i - mean) / (3 std), with mean 8
    assert_close(grad(lambda x: np.sum(np.std(x, axis=1)))(constant), [[0, 0, 0], [-1 / (3 * s), -1 / (3 * s), 2 / (3 * s)]], 8 * EPS)
    assert hessian(np.std)(constant[0]).tolist() == np.zeros((3, 3)).tolist()
