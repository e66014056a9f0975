"""The registry law: every rule of the gradient core has a case here, and every case has several witnesses.

A case is a function of one array and a sampler of points away from kinks.  Witnesses: fourth-order differences (step h = 1e-3: the
truncation is about h^4 = 1e-12 times the fifth derivative, the rounding EPS/h = 2e-13 times the value; 1e-8 leaves room for fifth
derivatives of 1e4), complex steps where the function is analytic (no cancellation: rounding only), and the same for derivatives of
order two and three.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from scipy import special

from tabular_rlhf import TokenMDP, check_grad, grad, log_sigmoid, log_softmax, logsumexp
from tabular_rlhf.autodiff import RULES, rules
from tabular_rlhf.autodiff.table import COMPOSITES, PLAIN
from tabular_rlhf.autodiff.trace import get_item, plain
from tabular_rlhf.lattice import Reference, unmerged
from tabular_rlhf.lattice.draws import sample
from tabular_rlhf.lattice.listing import listing
from tabular_rlhf.logspace import _pull_log_softmax, mean_gain, mean_log_ratio
from tabular_rlhf.world import fork
from tests.laws import EPS, assert_close

Points = Callable[[np.random.Generator], np.ndarray]


class Case(NamedTuple):
    """`f` at `points`; `analytic` says that complex numbers pass through it."""

    f: Callable[[Any], Any]
    points: Points
    analytic: bool = False


def normal(*shape: int) -> Points:
    return lambda rng: rng.standard_normal(shape)


def between(low: float, high: float, *shape: int) -> Points:
    return lambda rng: rng.uniform(low, high, shape or (4,))


def apart(*shape: int) -> Points:
    """Numbers at least 1/2 apart from each other and from the kinks at whole numbers and a half, in random order."""
    return lambda rng: (rng.permutation(int(np.prod(shape))).reshape(shape) + rng.uniform(0.1, 0.4, shape)) - np.prod(shape) // 2


def binary(f: Callable[[Any, Any], Any], left: Points, right: Points, analytic: bool = False) -> list[Case]:
    """A function of two arrays as a function of the first, of the second, and of one array used twice."""
    a0, b0 = left(np.random.default_rng(1)), right(np.random.default_rng(2))
    return [Case(lambda x: f(x, b0), left, analytic), Case(lambda x: f(a0, x), right, analytic), Case(lambda x: f(x, x), right, analytic)]


def unary(f: Callable[[Any], Any], low: float, high: float, analytic: bool = True) -> list[Case]:
    return [Case(f, between(low, high), analytic), Case(f, between(low, high, 2, 3), analytic)]


PICK = np.array([0, 2, 2, -1])
MDP = TokenMDP(("a", "b", "."), 3, eos=".", prompts=("x", "y"))
LATTICE = unmerged(fork())
LISTED = listing(LATTICE, sample(Reference(LATTICE), 3, rng=np.random.default_rng(0), tokens=True), 1.0).world.mdp
M23, M34, CUBE, V3 = normal(2, 3), normal(3, 4), normal(2, 3, 4), normal(3)


def const(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).standard_normal(shape)


CASES: dict[str, list[Case]] = {
    "add": binary(np.add, M23, M23, True),
    "subtract": binary(np.subtract, M23, M23, True),
    "multiply": binary(np.multiply, M23, M23, True),
    "divide": binary(np.divide, M23, between(0.5, 2, 2, 3), True),
    "power": [
        *binary(np.power, between(0.5, 2, 3), between(0.5, 2, 3), True),
        *(Case(lambda x, n=n: x**n, between(0.5, 2), True) for n in (0, 1, 2, 3, -1, 0.5, 2.5)),
        *(Case(lambda x, n=n: x**n, between(-2, -0.5)) for n in (0, 1, 2, 3, -1)),
    ],
    "negative": unary(np.negative, -2, 2),
    "positive": unary(np.positive, -2, 2),
    "absolute": [Case(np.absolute, apart(5)), Case(abs, apart(2, 3))],
    "exp": unary(np.exp, -2, 2),
    "exp2": unary(np.exp2, -2, 2),
    "expm1": unary(np.expm1, -2, 2),
    "log": unary(np.log, 0.5, 3),
    "log2": unary(np.log2, 0.5, 3),
    "log10": unary(np.log10, 0.5, 3),
    "log1p": unary(np.log1p, -0.5, 3),
    "sqrt": unary(np.sqrt, 0.5, 3),
    "square": unary(np.square, -2, 2),
    "reciprocal": unary(np.reciprocal, 0.5, 2),
    "tanh": unary(np.tanh, -2, 2),
    "sin": unary(np.sin, -2, 2),
    "cos": unary(np.cos, -2, 2),
    "arcsin": unary(np.arcsin, -0.7, 0.7),
    "logaddexp": binary(np.logaddexp, M23, M23),
    "maximum": binary(np.maximum, apart(6), lambda rng: np.linspace(-3, 3, 6))[:2],
    "minimum": binary(np.minimum, apart(6), lambda rng: np.linspace(-3, 3, 6))[:2],
    "where": binary(lambda a, b: np.where(const(2, 3) > 0, a, b), M23, M23, True),
    "expit": unary(special.expit, -3, 3, False),
    "log_expit": unary(special.log_expit, -3, 3, False),
    "xlogy": binary(special.xlogy, between(0.5, 2, 3), between(0.5, 2, 3), True),
    "clip": [
        Case(lambda x: np.clip(x, -1.0, 1.0), apart(6)),
        Case(lambda x: np.clip(x, None, 1.0), apart(6)),
        Case(lambda x: np.clip(x, -1.0, None), apart(6)),
        Case(lambda x: np.clip(x, np.linspace(-3, 0, 6), 2.0), apart(6)),
        Case(lambda x: x.clip(-1.0, 1.0), apart(6)),
    ],
    "sum": [
        *(Case(lambda x, a=a, k=k: np.sum(x, axis=a, keepdims=k), CUBE, True) for a in (None, 0, 1, -1, (0, 2)) for k in (False, True)),
        Case(lambda x: x.sum(axis=1), CUBE, True),
        Case(lambda x: np.add.reduce(x), CUBE, True),
        Case(np.sum, normal(), True),
    ],
    "max": [
        *(Case(lambda x, a=a, k=k: np.max(x, axis=a, keepdims=k), apart(2, 3, 2)) for a in (None, 0, -1, (0, 2)) for k in (False, True)),
        Case(lambda x: np.maximum.reduce(x), apart(5)),
    ],
    "cumsum": [
        Case(lambda x: np.cumsum(x), V3, True),
        *(Case(lambda x, a=a: np.cumsum(x, axis=a), CUBE, True) for a in (0, 1, -1)),
        Case(lambda x: np.cumsum(x), M23, True),
    ],
    "ravel": [Case(np.ravel, M23, True), Case(lambda x: np.transpose(x).ravel(), M23, True)],
    "squeeze": [Case(np.squeeze, normal(1, 3, 1), True), Case(lambda x: np.squeeze(x, axis=0), normal(1, 3, 1), True)],
    "expand_dims": [Case(lambda x: np.expand_dims(x, 1), M23, True), Case(lambda x: np.expand_dims(x, (0, -1)), M23, True)],
    "reshape": [
        Case(lambda x: np.reshape(x, (3, 2)), M23, True),
        Case(lambda x: np.reshape(x, (-1,)), CUBE, True),
        Case(lambda x: np.reshape(x, (4, 6), order="F"), CUBE, True),
        Case(lambda x: x.reshape(3, -1), M23, True),
    ],
    "transpose": [
        Case(np.transpose, CUBE, True),
        Case(lambda x: np.transpose(x, (1, 2, 0)), CUBE, True),
        Case(lambda x: np.transpose(x, (-1, 0, 1)), CUBE, True),
        Case(lambda x: x.T, CUBE, True),
        Case(lambda x: x.transpose(2, 0, 1), CUBE, True),
    ],
    "swapaxes": [Case(lambda x: np.swapaxes(x, 0, 2), CUBE, True), Case(lambda x: x.swapaxes(-1, 1), CUBE, True)],
    "moveaxis": [
        Case(lambda x: np.moveaxis(x, 0, -1), CUBE, True),
        Case(lambda x: np.moveaxis(x, 2, 0), CUBE, True),
        Case(lambda x: np.moveaxis(x, (0, 1), (2, 0)), CUBE, True),
    ],
    "broadcast_to": [
        Case(lambda x: np.broadcast_to(x, (4, 2, 3)), M23, True),
        Case(lambda x: np.broadcast_to(x, (2, 3)), normal(2, 1), True),
        Case(lambda x: np.broadcast_to(x, (2, 3)), normal(), True),
    ],
    "get_item": [
        Case(lambda x, i=i: x[i], CUBE, True)
        for i in (
            1,
            -1,
            slice(None, None, -2),
            (slice(None), 0),
            (Ellipsis, 2),
            (slice(None), None, 1),
            (0, 1, 2),
            np.array([1, 0, 1]),
            (np.array([0, 1]), np.array([2, 2])),
            (slice(None), PICK[:3], slice(1, 3)),
            np.array([True, False]),
            const(2, 3, 4) > 0,
            [0, 0],
        )
    ]
    + [
        Case(lambda x: x[PICK], V3, True),
        Case(lambda x: x[PICK.reshape(2, 2)], V3, True),
        Case(lambda x: x[0] * x[-1] * x[PICK], V3, True),
    ],
    "_scatter_plain": [
        Case(lambda x: rules.scatter(x, PICK, np.zeros(3)), normal(4)),
        Case(lambda x: rules.scatter(x, PICK, np.zeros((3, 2))), normal(4, 2)),
        Case(lambda x: rules.scatter(x, (slice(None), 1), np.zeros((3, 2))), V3),
    ],
    "join": [
        Case(lambda x: np.concatenate([x, const(2, 3), x * 2], axis=0), M23, True),
        Case(lambda x: np.concatenate([const(2, 1), x], axis=-1), M23, True),
    ],
    "matmul": [
        case
        for a, b in [((2, 3), (3, 4)), ((3,), (3,)), ((3,), (3, 4)), ((2, 3), (3,)), ((5, 2, 3), (3, 4)), ((2, 3), (5, 3, 4))]
        + [((5, 2, 3), (5, 3, 4)), ((5, 2, 3), (3,)), ((3,), (5, 3, 4)), ((5, 1, 2, 3), (1, 4, 3, 2))]
        for case in binary(np.matmul, normal(*a), normal(*b), True)[:2]
    ],
    "einsum": [
        case
        for spec, a, b in [("ij,jk->ik", (2, 3), (3, 4)), ("ij,ij->", (2, 3), (2, 3)), ("ij,k->j", (2, 3), (4,)), ("i,j->ij", (2,), (3,))]
        + [("bij,jk->bk", (5, 2, 3), (3, 4)), ("ij,jk", (2, 3), (3, 4)), ("ij, j -> i", (2, 3), (3,))]
        for case in binary(lambda a, b, spec=spec: np.einsum(spec, a, b), normal(*a), normal(*b), True)[:2]
    ]
    + [Case(lambda x: np.einsum("ij->j", x), M23, True), Case(lambda x: np.einsum("ij->ji", x), M23, True)]
    + [Case(lambda x: np.einsum("i,i,i->i", x, x, const(3)), V3, True)],
    "_logsumexp": [
        *(Case(lambda x, a=a, k=k: logsumexp(x, axis=a, keepdims=k), CUBE) for a in (0, 1, -1) for k in (False, True)),
        Case(logsumexp, V3),
    ],
    "_log_sigmoid": [Case(log_sigmoid, V3)],
    "log_softmax": [*(Case(lambda x, a=a: log_softmax(x, axis=a), CUBE) for a in (0, 1, -1)), Case(log_softmax, V3)],
    "softmax_pull": binary(lambda g, y: _pull_log_softmax(g, y, 1), CUBE, CUBE)[:2],
    "_mean_log_ratio": [
        *binary(mean_log_ratio, between(0.1, 1, 2, 3), M23)[:2],
        *binary(lambda p, x: mean_log_ratio(p, x, 0), between(0.1, 1, 2, 3), M23)[:2],
    ],
    "_mean_gain": [
        *binary(lambda p, x: mean_gain(p, x, const(2, 3), 0.7), between(0.1, 1, 2, 3), M23)[:2],
        *binary(lambda r, beta: mean_gain(np.abs(const(2, 3)), const(2, 3), r, beta), M23, normal())[:2],
    ],
    "_path_sum_plain": [Case(MDP.path_sum, normal(2, MDP.S, 3))],
    "_subtree_sum_plain": [Case(MDP.subtree_sum, normal(2, MDP.N))],
    "_along": [Case(LISTED.path_sum, normal(1, LISTED.S, LISTED.V))],
    "_through": [Case(LISTED.subtree_sum, normal(1, LISTED.N))],
    # ------------------------------------------------------------------------------------------------ composites
    "mean": [
        *(Case(lambda x, a=a: np.mean(x, axis=a), CUBE, True) for a in (None, 0, (1, 2))),
        Case(lambda x: x.mean(0, keepdims=True), CUBE),
    ],
    "var": [Case(lambda x: np.var(x, axis=1), CUBE), Case(lambda x: x.var(ddof=1), M23)],
    "std": [Case(lambda x: np.std(x, axis=1, ddof=1), CUBE), Case(lambda x: x.std(), M23)],
    "min": [Case(lambda x: np.min(x, axis=1), apart(2, 3)), Case(lambda x: x.min(), apart(5)), Case(np.minimum.reduce, apart(5))],
    "concatenate": [
        Case(lambda x: np.concatenate((x, x**2), axis=1), M23, True),
        Case(lambda x: np.concatenate([x, x], axis=None), M23, True),
    ],
    "stack": [Case(lambda x, a=a: np.stack([x, const(2, 3), x * x], axis=a), M23, True) for a in (0, 1, -1)],
    "split": [Case(lambda x: np.split(x, 2, axis=-1)[1], CUBE, True), Case(lambda x: np.split(x, [1, 3])[1] * 2, normal(4), True)],
    "take": [Case(lambda x: np.take(x, PICK, axis=1), CUBE, True), Case(lambda x: np.take(x, PICK), M23, True)],
    "take_along_axis": [
        Case(lambda x: np.take_along_axis(x, np.array([[0, 0], [2, 1]]), axis=1), M23, True),
        Case(lambda x: np.take_along_axis(x, PICK, axis=None), M23, True),
    ],
    "flip": [Case(lambda x, a=a: np.flip(x, a), CUBE, True) for a in (None, 0, (-1, 1))],
    "diff": [Case(lambda x: np.diff(x), M34, True), Case(lambda x: np.diff(x, n=2, axis=0), M34, True)],
    "dot": [Case(lambda x: np.dot(x, const(3)), M23, True), Case(lambda x: x.dot(x), V3, True), Case(lambda x: np.dot(2.0, x), V3, True)],
    "inner": [Case(lambda x: np.inner(x, const(4, 3)), M23, True), Case(lambda x: np.inner(x, x), V3, True)],
    "outer": [Case(lambda x: np.outer(x, x), V3, True)],
    "repeat": [Case(lambda x: np.repeat(x, 2, axis=1), M23, True), Case(lambda x: np.repeat(x, [1, 0, 2]), V3, True)],
    "roll": [Case(lambda x: np.roll(x, 1, axis=1), M23, True), Case(lambda x: np.roll(x, -2), M23, True)],
    "float_power": [Case(lambda x: np.float_power(x, 1.5), between(0.5, 2), True)],
    "copy": [Case(np.copy, M23, True), Case(lambda x: x.copy(), M23, True)],
}

FLAT = [(f"{name} {i}", case) for name, cases in CASES.items() for i, case in enumerate(cases)]
over_cases = pytest.mark.parametrize("case", [c for _, c in FLAT], ids=[n for n, _ in FLAT])


def contracted(f: Callable[[Any], Any], order: int, x: np.ndarray) -> Callable[[Any], Any]:
    """The derivative of f of some order, contracted with fixed random weights at every stage."""
    for k in range(order):
        w = np.random.default_rng(k).standard_normal(np.shape(f(x)))
        f = grad(lambda x, f=f, w=w: np.sum(w * f(x)))
    return f


def name_of(func: Any) -> str:
    return str(getattr(func, "__name__", func))


REGISTERED = {name_of(f) for f in RULES} | {name_of(f) for f in COMPOSITES}  # now: tests may give themselves rules of their own later


def test_every_rule_has_a_case_and_every_case_a_rule() -> None:
    assert set(CASES) == REGISTERED
    assert not set(RULES) & PLAIN
    assert not set(RULES) & set(COMPOSITES)


@over_cases
def test_traced_values_are_the_plain_values(case: Case, rng: np.random.Generator) -> None:
    x = case.points(rng)
    seen: list[Any] = []
    grad(lambda x: np.sum(seen.append(y := case.f(x)) or y))(x)
    assert_close(plain(seen[0]), case.f(x), 8 * EPS * (1 + np.max(np.abs(case.f(x)))) * x.size)
    assert np.shape(seen[0]) == np.shape(case.f(x))


@over_cases
@pytest.mark.parametrize("order", [1, 2, 3])
def test_rules_against_differences(case: Case, order: int, rng: np.random.Generator) -> None:
    x = case.points(rng)
    assert check_grad(contracted(case.f, order - 1, x), x, rng=rng) < 1e-8


@pytest.mark.parametrize("case", [c for _, c in FLAT if c.analytic], ids=[n for n, c in FLAT if c.analytic])
def test_rules_against_complex_steps(case: Case, rng: np.random.Generator) -> None:
    """A complex step of 1e-30 has no truncation and no cancellation: what remains is the rounding of a hundred terms."""
    assert check_grad(case.f, case.points(rng), rng=rng, method="complex") < 100 * EPS * 4


@over_cases
def test_gradients_have_the_shape_and_type_of_the_argument(case: Case, rng: np.random.Generator) -> None:
    x = case.points(rng)
    g = grad(lambda x: np.sum(case.f(x)))(x)
    assert np.shape(g) == x.shape
    assert np.asarray(g).dtype == np.float64


# ---------------------------------------------------------------------------------------------------- nothing is silently constant

ARRAY = np.array([1.5, -0.5, 2.5])
PLAIN_CALLS: dict[str, Callable[[Any], Any]] = {
    **{f: (lambda x, f=f: getattr(np, f)(x, 0.25)) for f in ("greater", "greater_equal", "less", "less_equal", "equal", "not_equal")},
    **{f: (lambda x, f=f: getattr(np, f)(x, ARRAY > 0)) for f in ("logical_and", "logical_or")},
    **{f: (lambda x, f=f: getattr(np, f)(x, ARRAY + 1.0)) for f in ("allclose", "isclose", "array_equal")},
}


@pytest.mark.parametrize("func", sorted(PLAIN, key=name_of), ids=name_of)
def test_plain_operations_have_discrete_answers(func: Any) -> None:
    """What is computed on plain values must be locally constant, or its derivative would be lost: step, and nothing moves."""
    call = PLAIN_CALLS.get(name_of(func), func)
    kept: list[Any] = []
    grad(lambda x: np.sum(x) * (kept.append(call(x)) is None))(ARRAY)
    there, moved = call(ARRAY), call(ARRAY + 1e-6)
    assert repr(kept[0]) == repr(there) == repr(moved)


@pytest.mark.parametrize("name", ["floor", "ceil", "round", "cbrt", "arctan", "sinh", "hypot", "arctan2", "fmax", "heaviside", "remainder"])
def test_an_ufunc_or_function_without_rule_names_itself(name: str) -> None:
    func = getattr(np, name)
    two = isinstance(func, np.ufunc) and func.nin == 2
    with pytest.raises(TypeError, match=rf"no gradient rule for numpy\.{name}.*autodiff\.primitive"):
        grad(lambda x: np.sum(func(x, x) if two else func(x)))(ARRAY)


def test_get_item_is_the_indexing_operator() -> None:
    assert np.array_equal(get_item(ARRAY, slice(1, 3)), ARRAY[1:3])
