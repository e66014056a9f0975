r"""Newton's method on the simplex, for objectives that may be flat, unbounded, or smallest at infinity.

**Symbols.**  theta (n,) logits, on which the objective depends only through softmax; g, H its gradient and Hessian; d the root of how
much each coordinate counts.  We work with c = g/d and H/(d d^T), so that rare coordinates are solved in their own measure, and add
curvature along theta -> theta + const, which changes nothing.

**Directions.**  An eigenvector is *dead* when both its curvature and its slope are below rounding; the others are *live*.  Steps are
-slope/|curvature| on the live ones, which is Newton's where it descends to a minimum and goes on where it would climb to a saddle; they
are cut to a trust radius in nats.  Where no slope is left but some curvature is negative (by symmetry, say), theta sits on a saddle or a
ridge: it is pushed off, to the lower side.

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
LOUD = 0.03
"""Of the largest curvature met here, what counts as met: rounding of curvatures is rounding of their largest."""
STEP = 1e-10
"""Nats: a settled step."""
Quadratic = Callable[[Array], tuple[float, Array, Array]]


@dataclass(frozen=True, eq=False)
class End:
    """Where Newton ended: theta, value; dead, how many directions are; faint (n, k), directions of hardly any curvature, orthonormal in
    coordinates scaled by d (n,); step, nats; iterations; gone, past `escape` with the objective still falling."""

    theta: Array
    value: float
    dead: int
    faint: Array
    d: Array
    step: float
    iterations: int
    gone: bool

    def run_off(self, base: Array, g: Array, H: Array) -> Array:
        """How far theta has gone from a base along faint directions, those left out along which the objective, of gradient g and Hessian
        H at the base, is flat even there.

        Newton's steps are orthogonal to flat directions in scaled coordinates: so must the projection on the others be.
        """
        if not self.faint.shape[1]:
            return np.zeros_like(base)
        bend = np.vstack([H / np.outer(self.d, self.d), g / self.d])
        _, sizes, axes = np.linalg.svd(bend @ self.faint, full_matrices=False)
        ways = self.faint @ axes[sizes > FAINT * np.max(np.abs(bend))].T
        return np.asarray(ways @ (ways.T @ (self.d * (self.theta - base))) / self.d)


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
        """The step with `shift` added to the size of the curvature, in theta."""
        bent = np.where(self.live, np.abs(self.curve) + shift, 1.0)
        return np.asarray(self.U @ np.where(self.live, -self.c / np.where(bent > 0, bent, 1e-300), 0.0)) / self.d

    def heard(self, size: float) -> Spectrum:
        """Without the slopes that are mere rounding."""
        return replace(self, live=self.live & (np.abs(self.c) > 0.1 * DEAD * size))

    def unsettled(self, size: float) -> float:
        """The longest move still to be made, in nats, on what is heard; inf if the model is no bowl."""
        return float(np.max(np.abs(self.heard(size).step(0.0)), initial=0.0)) if self.bowl else np.inf

    def saddle(self, size: float, value: float) -> Array | None:
        """The steepest way down from a saddle, one nat long, if all that slopes still promise is below the rounding of the value."""
        quiet = self.heard(size)
        gain = float(np.sum(np.where(quiet.live, np.square(self.c) / np.maximum(np.abs(self.curve), 1e-300), 0.0)))
        if self.bowl or gain > 1e-15 * max(1.0, abs(value)):
            return None
        way = self.U[:, int(np.argmin(np.where(self.live, self.curve, np.inf)))] / self.d
        return np.asarray(way / np.max(np.abs(way)))

    def mass(self, theta: Array) -> float:
        """The probability that the full Newton step would move; inf if the model is no bowl."""
        return float(np.sum(np.exp(log_softmax(theta)) * np.abs(self.step(0.0)))) if self.bowl else np.inf

    def bounded_step(self, radius: float, size: float) -> Array:
        """The step of the least shift that keeps every logit within the radius."""
        shift, step = 0.0, self.step(0.0)
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
        begun = max(float(np.max(np.abs(at[1] / d))), FLOOR)
        full = np.inf
        for iteration in range(rounds):
            bend = float(np.max(np.abs(at[2] / np.outer(d, d))))
            begun = max(begun, bend) if iteration == 0 else begun
            size = max(begun, LOUD * bend)
            model = spectrum(at[1], at[2], d, size)
            full = model.unsettled(size)
            if full <= STEP * (1.0 + 1e-3 * np.max(np.abs(theta))) or (quiet > 100 and model.mass(theta) < 1e-9):
                return _end(theta + model.step(0.0), at, model, full, iteration, False)
            if np.max(np.abs(theta - first)) > escape:
                return _end(theta, at, model, radius, iteration, bool(np.max(np.abs(model.c)) > 1e-9 * size))
            way = model.saddle(size, at[0])
            if way is not None:
                lower = _off(quadratic, theta, at, way)
                if lower is None:  # what curvature says, the value does not: flat
                    return _end(theta, at, model, 0.0, iteration, False)
                theta, at = lower
                continue
            step = model.bounded_step(radius, size)
            trial = quadratic(theta + step)
            ratio, tiny = _judge(at, trial, step, d)
            quiet += tiny
            if ratio > 1e-4:
                theta, at = theta + step, trial
            radius = _next_radius(radius, ratio, step)
    corners = "a loss with a corner must take `width`, over which that is rounded"
    raise SolveError(f"no minimum was found in {rounds} Newton steps: the next would be of {full:.3g} nats ({corners})")


def _finite(at: Any) -> bool:
    return bool(np.isfinite(at[0]) and np.all(np.isfinite(at[1])) and np.all(np.isfinite(at[2])))


def _off(quadratic: Quadratic, theta: Array, at: Any, way: Array) -> tuple[Array, Any] | None:
    """The lower of the points on both sides along a way, as far as the value falls visibly; None if it does not."""
    for length in 0.5 ** np.arange(0.0, 20.0):
        trials = [(theta + t * way, quadratic(theta + t * way)) for t in (length, -length)]
        best = min(trials, key=lambda trial: trial[1][0] if np.isfinite(trial[1][0]) else np.inf)
        if best[1][0] < at[0] - 1e-14 * max(1.0, abs(at[0])):
            return best
    return None


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
    return End(theta, at[0], int(np.sum(~model.live)), faint, model.d, step, iteration, gone)
