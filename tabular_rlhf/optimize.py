"""Numerical solves that say how they ended.  A solve that fails raises `SolveError`; it never returns its last iterate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tabular_rlhf.autodiff import grad, hessian, value_and_grad
from tabular_rlhf.errors import SolveError
from tabular_rlhf.logspace import Array

Function = Callable[[Any], tuple[Any, Any]]


def monotone_root(f: Function, low: Any, high: Any, *, start: Any = None, noise: Any = 0.0, steps: int = 200) -> Array:
    """The roots of increasing functions, many at once: Newton's method kept inside a bracket by bisection.

    Args: f, maps points (P,) to values and slopes (P,), nan or inf allowed in the slopes; low and high, (P,), with
    f(low) <= 0 <= f(high) up to rounding; start, between them (the middle); noise, the rounding of the values.
    Returns: (P,), to the last bits or to where the value is noise (near a root of 0 there may be no last bits).
    Raises: SolveError if steps run out.

    >>> monotone_root(lambda x: (x**3 - 2.0, 3 * x**2), np.zeros(1), np.ones(1) * 2).round(6).tolist()
    [1.259921]
    """
    low, high = np.array(low, dtype=np.float64), np.array(high, dtype=np.float64)
    x = 0.5 * low + 0.5 * high if start is None else np.array(start, dtype=np.float64)
    for _ in range(steps):
        value, slope = f(x)
        low, high = np.where(value <= 0, x, low), np.where(value >= 0, x, high)
        with np.errstate(all="ignore"):
            newton = x - value / slope
            still = np.isfinite(slope) & (
                np.abs(newton - x) <= 2 * np.spacing(np.abs(x))
            )  # also where rounding puts the step on an end of the bracket
        inside = (newton > low) & (newton < high)
        new = np.where(inside, newton, 0.5 * low + 0.5 * high)
        done = still | (high - low <= 2 * np.spacing(np.maximum(np.abs(low), np.abs(high))))
        found = still | (np.abs(value) <= noise)
        x = np.where(found, x, new)
        if np.all(done | found):
            return np.asarray(x)
    raise SolveError(f"a root was not found in {steps} steps: it lies between {low.min():.17g} and {high.max():.17g}")


FEW = 15
"""Steps at one value of a parameter: where they do not suffice, the way from the last value is made shorter."""


def followed(
    settle: Callable[[float, Array, int], tuple[Array, Any]], x: Array, start: float, end: float, *, first: int
) -> tuple[Array, Any]:
    """A solution followed as a parameter falls from start to end, by as much at a time as can be followed in a few steps.

    Args: settle, (parameter, x to begin from, steps allowed) -> (solution, what is told of it), raising SolveError where the steps do not
    suffice; first, the steps allowed at the start.  Returns: the last solution and what is told of it.

    >>> x, told = followed(lambda t, x, steps: (np.array([t**2]), f"t = {t:g}"), np.zeros(1), 1.0, 0.01, first=10)
    >>> x.round(6).tolist(), told
    ([0.0001], 't = 0.01')
    """
    (x, told), at, ratio = settle(start, x, first), start, 2.0
    while at > end:
        lower = max(end, at / ratio)
        try:
            x, told = settle(lower, x, FEW)
        except SolveError as e:
            ratio = ratio**0.25
            if ratio < 1.0 + 1e-9:
                raise SolveError(f"followed from {start:g} to {at:g} of {end:g}: {e}") from None
        else:
            at, ratio = lower, ratio**1.5
    return x, told


# ---------------------------------------------------------------------------------------------------- many parameters

NULL = 1e-13
"""Curvatures below this share of the largest (or 64 roundings of the value) are zero: flat directions are left alone."""


@dataclass(frozen=True, eq=False)
class Minimum:
    """A local minimum.

    x; fun, the value; jac, the gradient there; hess, the matrix of second derivatives, over the flattened x; nit, iterations;
    drift, how far x went after the value had stopped falling (large where the infimum lies at infinity); message, how it ended.
    """

    x: Array
    fun: float
    jac: Array
    hess: Array
    nit: int
    drift: float
    message: str

    @property
    def gradient_norm(self) -> float:
        """The largest entry of the gradient."""
        return float(np.max(np.abs(self.jac), initial=0.0))


def minimize(f: Callable[[Any], Any], start: Any, *, steps: int = 200) -> Minimum:
    r"""A local minimum of a smooth function written in plain NumPy: BFGS, then Newton's method with exact derivatives.

    f is taken in a unit, a power of two, in which its slopes and curvatures at the start are below one: a first step of the size of a
    slope of 1e6 would lead nowhere.  In the eigenvectors of the Hessian, with curvatures c_i and slopes g_i, a Newton step is
    -g_i/|c_i| (so it leaves saddles), halved while the value does not fall; it is 0 where the slope is rounding.  It ends when every
    step is below 1e-8 of x (the error is then its square), or for six steps the value had nothing left to fall but rounding.  Raises
    SolveError where it does not end so, or not at a minimum.

    >>> m = minimize(lambda x: np.sum((x - 1.0) ** 2) + x[0] ** 4, np.zeros(2))
    >>> m.x.round(6).tolist(), m.gradient_norm < 1e-12
    ([0.589755, 1.0], True)
    """
    from scipy.optimize import minimize as quasi_newton

    start = np.asarray(start, dtype=np.float64)
    if not start.size:
        return Minimum(start, float(f(start)), start, np.zeros((0, 0)), 0, 0.0, "nothing to choose")
    unit = _unit(f, start)
    slope = value_and_grad(lambda x: f(x) / unit)

    def flat(x: Array) -> tuple[float, Array]:
        value, jac = slope(np.reshape(x, start.shape))
        return float(value), np.ravel(jac)

    first = quasi_newton(flat, np.ravel(start), jac=True, method="BFGS", options={"gtol": 1e-5, "maxiter": steps})
    x, value, jac, hess, nit, drift = _newton(lambda x: f(x) / unit, flat, np.asarray(first.x), start.shape, steps)
    message = f"stationary to {unit * np.max(np.abs(jac)):.1e} after {first.nit} BFGS and {nit} Newton steps"
    x, jac = np.reshape(x, start.shape), np.reshape(unit * jac, start.shape)
    return Minimum(x, unit * value, jac, unit * hess, int(first.nit) + nit, drift, message)


def _unit(f: Callable[[Any], Any], start: Array) -> float:
    """The power of two above the slopes and curvatures at the start, at least 1."""
    size = max(float(np.max(np.abs(grad(f)(start)))), float(np.max(np.abs(hessian(f)(start)))))
    return float(np.ldexp(1.0, max(0, int(np.frexp(size)[1]))))


def _newton(f: Any, flat: Any, x: Array, shape: tuple[int, ...], steps: int) -> tuple[Array, float, Array, Array, int, float]:
    """Polish; returns x, f, gradient, Hessian, iterations, and the way gone after the value had stopped falling."""
    value, jac = flat(x)
    settled: Array | None = None
    idle, fell = 0, np.inf
    for nit in range(steps):
        hess = np.reshape(hessian(f)(np.reshape(x, shape)), (x.size, x.size))
        curvature, axes = np.linalg.eigh(0.5 * (hess + hess.T))
        size = float(np.max(np.abs(curvature)))
        noise = np.finfo(float).eps * (1.0 + abs(value))  # rounding of terms of the value's size
        curved = np.abs(curvature) > max(NULL * size, 64 * noise)
        along = axes.T @ jac
        step = np.where(curved, -along / np.where(curved, np.abs(curvature), 1.0), -np.sign(along))  # straight: go down the ramp
        step = np.where(np.abs(along) > np.where(curved, 4 * noise, 1e-12 * (1.0 + abs(value))), step, 0.0)
        near = 1.0 + float(np.max(np.abs(x)))
        small = (np.abs(step) <= 1e-8 * near) & (curved | (step == 0))
        gain = float(np.sum(np.abs(along * step)))  # twice what the value can still fall
        if settled is None and gain <= 1e-8 * (1.0 + abs(value)):
            settled = x
        idle = idle + 1 if min(gain, fell) <= 4 * noise else 0
        if small.all() or idle == 6:
            if curvature[0] < -max(1e-7 * size, 64 * noise):  # a saddle: leave it along the steepest way down
                step = 1e-2 * near * (np.arange(x.size) == 0)
            else:
                x, value, jac = _last_step(flat, x, axes @ np.where(small, step, 0.0), value, jac)
                return x, value, jac, hess, nit, 0.0 if settled is None else float(np.max(np.abs(x - settled)))
        before = value
        x, value, jac = _step(flat, x, axes @ step, value, jac)
        fell = before - value
    raise SolveError(f"no minimum was found in {steps} Newton steps: the gradient is still {np.max(np.abs(jac)):.2e} at value {value:.6g}")


def _last_step(flat: Any, x: Array, step: Array, value: float, jac: Array) -> tuple[Array, float, Array]:
    """One more step, too short for the value to tell, if the gradient can."""
    new_value, new_jac = flat(x + step)
    better = np.max(np.abs(new_jac)) < np.max(np.abs(jac))
    return (x + step, new_value, new_jac) if better else (x, value, jac)


def _step(flat: Any, x: Array, step: Array, value: float, jac: Array) -> tuple[Array, float, Array]:
    """The step, halved until the value falls (as far as rounding can tell)."""
    longest = float(np.max(np.abs(step)))
    step = step * min(1.0, 8.0 / longest) if longest > 0 else step
    noise = 1e-14 * (1.0 + abs(value))
    for _ in range(40):
        with np.errstate(all="ignore"):
            new_value, new_jac = flat(x + step)
        if new_value <= value + noise and np.isfinite(new_jac).all():
            return x + step, new_value, new_jac
        step = 0.5 * step
    return x, value, jac
