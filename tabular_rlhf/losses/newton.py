r"""Newton's method on the simplex, for objectives that may be flat, unbounded, or smallest at infinity.

**Symbols.**  theta (n,) logits, on which the objective depends only through softmax; g, H its gradient and Hessian; d the root of how
much each coordinate counts.  We work with c = g/d and H/(d d^T), so that rare coordinates are solved in their own measure, and add
curvature along theta -> theta + const, which changes nothing.

**Directions.**  An eigenvector is *dead* when both its curvature and its slope are below rounding; the others are *live*.  Steps are
Newton's on the live ones, shifted where the curvature is negative, and cut to a trust radius in nats.

**Ends.**  Settled: all live curvature is positive and the step is below 1e-10 nats (or, after a hundred
steps whose effect is below rounding, moves less than 1e-9 of the probability).  Gone: theta is farther than `escape`.  Dead
directions tell the caller where the objective is flat, or has been left behind on the way to infinity.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tabular_rlhf.errors import SolveError
from tabular_rlhf.logspace import Array, log_softmax

DEAD = 1e-13
"""A curvature or slope this small beside the largest met counts as none."""
FAINT = 1e-9
"""Where curvature has become so small and theta has moved, theta is on its way to infinity: an exponential tail has no minimum."""
FLOOR = 1e-2
"""The objective's terms are taken to be at least of this size: beginning on a plateau, slopes of 1e-16 are rounding all the same."""
STEP = 1e-10
"""Nats: a settled step."""
Quadratic = Callable[[Array], tuple[float, Array, Array]]


@dataclass(frozen=True, eq=False)
class End:
    """Where Newton ended: theta, value; dead, how many directions are; faint (n, n), the projector on those of hardly any curvature;
    step, nats; iterations; gone, past `escape` with the objective still falling."""

    theta: Array
    value: float
    dead: int
    faint: Array
    step: float
    iterations: int
    gone: bool


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The quadratic model in scaled eigenvectors: curvature, slope c, which are live, U, and d."""

    curve: Array
    c: Array
    live: Any
    U: Array
    d: Array

    @property
    def bowl(self) -> bool:
        return bool(np.all(self.curve[self.live] > 0))

    def step(self, shift: float) -> Array:
        """The Newton step with `shift` added to the curvature, in theta."""
        bent = np.where(self.live, self.curve + shift, 1.0)
        return np.asarray(self.U @ np.where(self.live, -self.c / np.where(bent > 0, bent, 1e-300), 0.0)) / self.d

    def unsettled(self, size: float) -> float:
        """The longest move still to be made, in nats, not counting slopes that are mere rounding; inf if the model is no bowl."""
        heard = replace(self, live=self.live & (np.abs(self.c) > 0.1 * DEAD * size))
        return float(np.max(np.abs(heard.step(0.0)), initial=0.0)) if self.bowl else np.inf

    def mass(self, theta: Array) -> float:
        """The probability that the full Newton step would move; inf if the model is no bowl."""
        return float(np.sum(np.exp(log_softmax(theta)) * np.abs(self.step(0.0)))) if self.bowl else np.inf

    def bounded_step(self, radius: float, size: float) -> Array:
        """The step of the least shift that makes the model a bowl and keeps every logit within the radius."""
        shift = 0.0 if self.bowl else max(DEAD * size, -1.5 * float(np.min(self.curve[self.live])))
        step = self.step(shift)
        while not (longest := float(np.max(np.abs(step)))) <= radius:
            shift = max(shift * (1.5 if longest < 4 * radius else 4.0), DEAD * size)
            step = self.step(shift)
        return step


def spectrum(g: Array, H: Array, d: Array, size: float) -> Spectrum:
    """The eigenvectors of the scaled Hessian, the direction that changes nothing lifted out of the way."""
    ones = d / np.linalg.norm(d)
    curve, U = np.linalg.eigh(H / np.outer(d, d) + size * np.outer(ones, ones))
    c = U.T @ (g / d)
    return Spectrum(curve, c, (np.abs(curve) > DEAD * size) | (np.abs(c) > DEAD * size), U, d)


def newton(quadratic: Quadratic, theta: Array, share: Array, *, escape: float, rounds: int = 500) -> End:
    """Minimize from theta.

    Args: quadratic, theta -> (value, gradient, Hessian); share (n,), how much each coordinate counts, 0 for not at all.
    Raises: SolveError where the rounds run out.

    >>> bowl = lambda t: (float(np.sum(np.square(t - t.mean() - [1.0, -1.0]))), *quadratic_parts(t))
    >>> quadratic_parts = lambda t: (2 * (t - t.mean() - [1.0, -1.0]), 2 * (np.eye(2) - 0.5))
    >>> newton(bowl, np.zeros(2), np.ones(2), escape=1e3).theta.round(6).tolist()
    [1.0, -1.0]
    """
    d = np.sqrt(np.where(share > 0, share, np.min(share[share > 0])))
    radius, first, quiet = 1.0, theta, 0
    with np.errstate(all="ignore"):  # a trial step may overflow; it is then refused
        at = quadratic(theta)
        if not _finite(at):
            raise SolveError(f"the objective or its derivatives are no floats where it begins: its value is {at[0]:.3g}")
        size = max(float(np.max(np.abs(at[1] / d))), float(np.max(np.abs(at[2] / np.outer(d, d)))), FLOOR)
        for iteration in range(rounds):
            model = spectrum(at[1], at[2], d, size)
            full = model.unsettled(size)
            if full <= STEP * (1.0 + 1e-3 * np.max(np.abs(theta))) or (quiet > 100 and model.mass(theta) < 1e-9):
                return _end(theta + model.step(0.0), at, model, full, iteration, False)
            if np.max(np.abs(theta - first)) > escape:
                return _end(theta, at, model, radius, iteration, bool(np.max(np.abs(model.c)) > 1e-9 * size))
            step = model.bounded_step(radius, size)
            trial = quadratic(theta + step)
            ratio, tiny = _judge(at, trial, step, d)
            quiet += tiny
            if ratio > 1e-4:
                theta, at = theta + step, trial
            radius = _next_radius(radius, ratio, step)
    raise SolveError(f"no minimum was found in {rounds} Newton steps: the next would be of {full:.3g} nats")


def _finite(at: Any) -> bool:
    return bool(np.isfinite(at[0]) and np.all(np.isfinite(at[1])) and np.all(np.isfinite(at[2])))


def _judge(at: Any, trial: Any, step: Array, d: Array) -> tuple[float, bool]:
    """The fall over the fall expected, and whether that was below the rounding of the value: then slopes are the judge."""
    if not _finite(trial):
        return -1.0, False
    gain = -float(at[1] @ step + 0.5 * step @ at[2] @ step)
    if abs(gain) > 1e-12 * max(1.0, abs(at[0])):
        return ((at[0] - trial[0]) / gain if gain > 0 else -1.0), False
    falls = np.linalg.norm(trial[1] / d) <= np.linalg.norm(at[1] / d) * (1 + 1e-9)
    return (1.0 if falls or trial[0] < at[0] else -1.0), True


def _next_radius(radius: float, ratio: float, step: Array) -> float:
    """Double after a good step, cut after a refused one."""
    if ratio > 0.7:
        return min(2.0 * radius, 1e8)
    return radius if ratio > 1e-4 else 0.25 * float(np.max(np.abs(step)))


def _end(theta: Array, at: Any, model: Spectrum, step: float, iteration: int, gone: bool) -> End:
    faint = model.U[:, model.curve < FAINT * np.max(np.abs(model.curve))]
    # Newton's steps are orthogonal to dead directions in scaled coordinates: so must the projection on them be
    return End(theta, at[0], int(np.sum(~model.live)), (faint @ faint.T) * (model.d / model.d[:, None]), step, iteration, gone)
