r"""Derivatives of plain NumPy functions: one backward walk over the tape, and what is built from it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import tabular_rlhf.autodiff.composites  # noqa: F401  with the rules, it fills the tables
from tabular_rlhf.autodiff.backward import backward
from tabular_rlhf.autodiff.rules import dense
from tabular_rlhf.autodiff.table import keep, shape_of
from tabular_rlhf.autodiff.trace import Departure, Tape, Traced
from tabular_rlhf.errors import InputError, quoted


def vjp(f: Callable[..., Any], *args: Any, argnums: int | tuple[int, ...] = 0, **kwargs: Any) -> tuple[Any, Callable[[Any], Any]]:
    """Evaluate `f(*args)` and return (value, pullback); `pullback(g)` is g contracted with the Jacobian.

    Args: f, plain NumPy code that returns one array or number; args and kwargs, its arguments; argnums, the position(s) to differentiate.
    Returns: (value, pullback): pullback takes g of the value's shape, any number of times, and returns an array of the shape of the
    argument (a tuple of them where argnums is one).
    Raises: TypeError for an operation without a rule, or an argument that is no real number; InputError for a g of another shape.
    Source: Griewank and Walther (2008), ch. 3.

    >>> y, back = vjp(lambda x: x**2, np.array([1.0, 3.0]))
    >>> [float(d) for d in back(np.ones(2))]
    [2.0, 6.0]
    """
    return _vjp(f, args, kwargs, argnums, once=False)


def _vjp(
    f: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], argnums: int | tuple[int, ...], *, once: bool
) -> tuple[Any, Any]:
    """See `vjp`; once: the pullback will be called once, and may use the tape up."""
    several = isinstance(argnums, (tuple, list))
    wanted = [_position(n, args) for n in argnums] if isinstance(argnums, (tuple, list)) else [_position(argnums, args)]
    tape = Tape()
    traced = list(args)
    for n in wanted:
        x = _parameter(args[n], n)
        traced[n] = tape.input(x if once else keep(x))
    inputs = [traced[n] for n in wanted]
    try:
        y = f(*traced, **kwargs)
    except ValueError as e:
        if isinstance(e.__cause__, Departure):
            raise e.__cause__ from None
        raise
    finally:
        tape.open = False
    inside = type(y) is Traced and y.tape is tape
    if not inside and not isinstance(y, (Traced, np.ndarray, np.number, float, int)):
        raise TypeError(f"the differentiated function must return one array or number, got {type(y).__name__}; return a single array")

    def pullback(g: Any) -> Any:
        if shape_of(g) != shape_of(y):
            raise InputError(
                f"a pullback takes one sensitivity for each output, an array of shape {shape_of(y)}",
                got=f"shape {shape_of(g)}",
                remedy="np.ones_like(y) pulls back the sum",
            )
        g = np.asarray(g) if type(g) is list else g
        gs = backward(tape, y.index, g, once=once) if inside else {}
        out = tuple(dense(gs.get(x.index), x.value) for x in inputs)
        return out if several else out[0]

    value = y.value if inside else y
    return (value.copy(order="K") if isinstance(value, np.ndarray) else value), pullback


def _position(n: Any, args: tuple[Any, ...]) -> int:
    """`n` as one of the positions 0, 1, ... of the arguments."""
    if not isinstance(n, (int, np.integer)):
        raise TypeError(f"argnums must be the position of one argument here, got {n!r}; ask for one at a time")
    if not -len(args) <= n < len(args):
        raise TypeError(f"argnums={n} must name one of the {len(args)} positional arguments")
    return int(n) % len(args)


def _parameter(x: Any, n: int) -> Any:
    if type(x) is Traced:
        return x
    a = np.asarray(x)
    if a.dtype.kind not in "fiu":
        raise TypeError(f"argument {n} must be real numbers to be differentiated, got dtype {a.dtype}; pass a float array")
    a = a.astype(np.float64, copy=False)
    return a if isinstance(x, np.ndarray) else a[()]  # a number stays a number


def value_and_grad(f: Callable[..., Any], argnums: int | tuple[int, ...] = 0) -> Callable[..., tuple[Any, Any]]:
    """The function that returns (f, gradient of f) for a scalar f; see `grad`.

    Args: f, plain NumPy code that returns a number; argnums, the position(s) to differentiate.
    Returns: a function of f's arguments: (value, gradient of the shape of the argument, or a tuple of them where argnums is one).
    Raises: TypeError, when that is called, for an f that is no scalar and for an operation without a rule.

    >>> value_and_grad(lambda x: x**2)(3.0)
    (np.float64(9.0), np.float64(6.0))
    """

    def value_and_gradient(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        y, pullback = _vjp(f, args, kwargs, argnums, once=True)
        if shape_of(y) != ():
            raise TypeError(f"grad needs a scalar function, got an output of shape {np.shape(y)}; sum it, or use jacobian")
        return y, pullback(1.0)

    return value_and_gradient


def grad(f: Callable[..., Any], argnums: int | tuple[int, ...] = 0) -> Callable[..., Any]:
    """The gradient of a scalar function of NumPy arrays, as a function with the same arguments.

    Args: f, plain NumPy code that returns a number; argnums, which positional argument(s) to differentiate (a tuple gives a tuple).
    Returns: a function of f's arguments: the gradient, of the shape of that argument, in the unit of f per unit of the argument.
    Raises: TypeError, when that is called, for an f that is no scalar and for an operation without a rule.

    >>> float(grad(lambda x: np.log1p(np.exp(x)))(0.0))
    0.5
    """
    both = value_and_grad(f, argnums)

    def gradient(*args: Any, **kwargs: Any) -> Any:
        return both(*args, **kwargs)[1]

    return gradient


def jacobian(f: Callable[..., Any], argnums: int = 0) -> Callable[..., Any]:
    """J[i..., j...] = d f_i / d x_j, one backward pass an output.

    Args: f, plain NumPy code; argnums, the position to differentiate.
    Returns: a function of f's arguments: an array of the shape of f's value followed by that of the argument.
    Raises: TypeError, when that is called, for an operation without a rule and for several argnums.

    >>> jacobian(lambda x: x**2)(np.array([1.0, 2.0])).tolist()
    [[2.0, 0.0], [0.0, 4.0]]
    """

    def jacobian_of_f(*args: Any, **kwargs: Any) -> Any:
        n = _position(argnums, args)
        y, pullback = vjp(f, *args, argnums=n, **kwargs)
        shape = np.shape(y)
        outputs = math.prod(shape)
        rows = [pullback(unit) for unit in np.eye(outputs).reshape(outputs, *shape)]
        inner = np.shape(args[n])
        return np.reshape(np.stack(rows), shape + inner) if rows else np.zeros(shape + inner)

    return jacobian_of_f


def hessian(f: Callable[..., Any], argnums: int = 0) -> Callable[..., Any]:
    """The matrix of second derivatives of a scalar function, as jacobian(grad(f)).

    Args: f, plain NumPy code that returns a number; argnums, the position to differentiate.
    Returns: a function of f's arguments: an array of the argument's shape, twice.
    Raises: TypeError, when that is called, as `grad` does.

    >>> hessian(lambda x: x[0] * x[1] ** 2)(np.array([1.0, 2.0])).tolist()
    [[0.0, 4.0], [4.0, 2.0]]
    """
    return jacobian(grad(f, argnums), argnums)


def hvp(f: Callable[..., Any], argnums: int = 0) -> Callable[..., Any]:
    """Hessian-vector products: `hvp(f)(x, v)` = H(x) v at the cost of a few evaluations, without forming H.

    Args: f, plain NumPy code that returns a number; argnums, the position to differentiate.
    Returns: a function of f's arguments and, last, a direction v of the argument's shape: H v, of that shape too.
    Raises: InputError for a direction of another shape; TypeError as `grad` does.
    Source: Pearlmutter (1994), Fast exact multiplication by the Hessian.

    >>> hvp(lambda x: np.sum(x**3))(np.array([1.0, 2.0]), np.array([1.0, 1.0])).tolist()
    [6.0, 12.0]
    """

    def product(*args: Any, **kwargs: Any) -> Any:
        *primals, v = args
        x = primals[_position(argnums, tuple(primals))]
        if np.shape(v) != np.shape(x):
            raise InputError(
                f"the direction v must have the shape of what is differentiated, {np.shape(x)}",
                got=f"shape {np.shape(v)}",
                remedy="hvp(f)(x, v) takes v last",
            )
        v = np.asarray(v) if isinstance(v, (list, tuple)) else v
        along_v = grad(lambda *a: np.sum(grad(f, argnums)(*a, **kwargs) * v), argnums)
        return along_v(*primals)

    return product


def check_grad(
    f: Callable[..., Any], *args: Any, rng: np.random.Generator, argnums: int = 0, method: str = "finite", step: float | None = None
) -> float:
    """Relative difference between u.(J v) by the gradient core and by stepping f along v, for random u and v.

    One random inner product witnesses the whole Jacobian (it vanishes with probability 0 for a wrong one).

    Args: f and args, the function and what it is called with; rng, draws u and v; argnums, the position to differentiate; method, "finite"
    (fourth-order central differences) or "complex" (exact to rounding, for functions that are analytic and accept complex numbers);
    step, the step length.
    Returns: |traced - stepped| / max(1, |stepped|): about 1e-10 (finite) or 1e-15 (complex) for a right rule.
    Raises: InputError for another method; TypeError for an operation without a rule.

    >>> check_grad(lambda x: np.sum(np.exp(x)), np.arange(3.0), rng=np.random.default_rng(0)) < 1e-9
    True
    """
    if method not in ("finite", "complex"):
        raise InputError("method must be 'finite' or 'complex'", got=quoted(method), remedy="complex steps need an analytic f")
    n = _position(argnums, args)
    x = np.asarray(args[n], dtype=np.float64)
    v = rng.standard_normal(x.shape)

    def moved(t: Any) -> Any:
        return f(*args[:n], x + t * v, *args[n + 1 :])

    y, pullback = vjp(f, *args, argnums=n)
    u = rng.standard_normal(np.shape(y))
    traced = np.sum(pullback(u) * v)
    if method == "complex":
        h = 1e-30 if step is None else step
        stepped = np.sum(u * np.imag(moved(1j * h))) / h
    else:
        stepped = np.sum(u * central(moved, 1e-3 if step is None else step))
    return float(abs(traced - stepped) / max(1.0, abs(stepped)))


def central(f: Callable[[float], Any], h: float) -> Any:
    """The derivative of f at 0 by central differences of step h, a witness for every exact one.

        (8 (f(h) - f(-h)) - (f(2h) - f(-2h)))/(12 h) = f'(0) - h^4 f^(5)/30 + O(h^6)

    >>> round(float(central(np.exp, 1e-3)), 12)
    1.0
    """
    return (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h)
