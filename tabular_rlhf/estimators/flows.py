r"""Exact flows: where gradient ascent of E[r] - beta times a flag goes, with no noise and no step length.

    d logits / dt = grad E[r] - beta g(logits),      g the flag's exact expected update (`score_gradient`);
    natural:        the same divided by mu d_pi(s) pi(a given s): the natural gradient in tabular logits.

A flag that descends a divergence (`theorem.descent`) leads to its optimum; one that does not may lead anywhere, and a wrong
one may run away.  No line search can be used, because there may be no objective; so it is an ordinary differential equation.

Source: Kakade (2001) (natural gradient); the integrator is LSODA (Petzold 1983), by way of scipy.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tabular_rlhf.errors import SolveError
from tabular_rlhf.estimators.evaluate import centre, check_cover, score_gradient
from tabular_rlhf.estimators.record import Flag
from tabular_rlhf.gibbs import solve
from tabular_rlhf.logspace import Array, expect, kl, log_softmax
from tabular_rlhf.sweeps import WIDEST
from tabular_rlhf.world import World


@dataclass(frozen=True, eq=False)
class Flow:
    """A flow at its times (T,): E[r] (reward units), KL to the reference (nats), regret beta KL(p, p*) (reward units), log p (T, P, N)."""

    time: Array
    reward: Array
    kl: Array
    regret: Array
    log_p: Array

    @property
    def end(self) -> Array:
        """log p at the last time, (P, N)."""
        return np.asarray(self.log_p[-1])


CORNER = 1e-3
"""Nats over which the jump of |L|'s slope is rounded: a flow that slides along it cannot be followed otherwise."""
EVALUATIONS = 100_000
Velocity = Callable[[float, Array], Array]


def field(flag: Flag | None, world: World, log_pi: Any, *, natural: bool = False, width: float = 0.0) -> Array:
    """grad E[r] - beta g in tabular logits, (P, S, V); flag None: of E[r] alone."""
    mdp, pi = world.mdp, np.exp(log_pi)
    p = world.mu[:, None] * np.exp(mdp.path_sum(log_pi))
    out = centre(pi, mdp.subtree_sum(p * world.r))
    if flag is not None:
        out = out - world.beta * score_gradient(flag, world, log_pi, width)
    if not natural:
        return out
    mass = mdp.subtree_sum(p)
    return np.asarray(np.divide(out, mass, out=np.zeros_like(out), where=mass > 0))


def flow(
    flag: Flag | None, world: World, *, horizon: float = 1e4, points: int = 61, natural: bool = False, start: Any = None, rtol: float = 1e-8
) -> Flow:
    """The flow from `start` (the reference by default) to time `horizon`, at 0 and at times spaced evenly in their logarithm.

    rtol: relative error of a step.  A natural flow may reach the edge of the simplex in finite time: there it stops.

    Raises: SolveError where the field cannot be followed.

    >>> from tabular_rlhf.world import rational
    >>> round(float(flow(Flag("k2", "loss"), rational()).regret[-1]), 6)
    0.0
    """
    time = np.concatenate([[0.0], np.geomspace(horizon * 1e-7, horizon, points - 1)])
    steps = steps_of(flag, world, time, natural=natural, start=start, rtol=rtol)
    path = [log_pi for _, log_pi in steps]
    if len(path) < len(time) and not natural:
        raise SolveError(
            f"the flow of {_name(flag)} could not be followed to time {horizon:.3g}: it takes more than {EVALUATIONS} evaluations"
        )
    return _measured(world, time[: len(path)], np.stack([world.mdp.path_sum(log_pi) for log_pi in path]))


def steps_of(
    flag: Flag | None,
    world: World,
    time: Array,
    *,
    natural: bool = False,
    start: Any = None,
    rtol: float = 1e-8,
    evaluations: int | None = None,
) -> Iterator[tuple[float, Array]]:
    """(t, log_pi) at those times, (P, S, V), until so many evaluations of the field have been made (EVALUATIONS by default).

    What is followed is log pi, because logits may run away together; below the floor the field is at its limit (see `rest`), and
    a token goes on falling there, as it would.
    """
    log_start = world.log_ref if start is None else start
    check_cover(world.mdp, log_start, world.log_ref, "the policy", "the reference")
    free, deepest = ~np.isneginf(log_start), WIDEST / world.mdp.H

    def policy(y: Array) -> Array:
        log_pi = np.full(log_start.shape, -np.inf)
        log_pi[free] = y
        top = np.max(log_pi, axis=-1, keepdims=True)
        log_pi[free] = np.maximum(log_pi, top - deepest)[free]
        return np.asarray(log_softmax(log_pi))

    def velocity(_: float, y: Array) -> Array:
        log_pi = policy(y)
        v = field(flag, world, log_pi, natural=natural, width=CORNER)
        return np.asarray(v - np.sum(np.exp(log_pi) * v, axis=-1, keepdims=True))[free]

    def at_edge(y: Array) -> bool:
        return natural and bool(np.min(policy(y)[free]) <= 1.0 - deepest)

    for t, y in _integrate(velocity, log_start[free], time, at_edge, _name(flag), rtol, evaluations or EVALUATIONS):
        yield t, policy(y)


def _name(flag: Flag | None) -> str:
    return flag.label if flag is not None else "E[r]"


def _integrate(
    velocity: Velocity, y: Array, time: Array, done: Callable[[Array], bool], name: str, rtol: float, evaluations: int
) -> Iterator[tuple[float, Array]]:
    """The solution at `time`, or up to where it is done; raises SolveError where it cannot be followed."""
    from scipy.integrate import LSODA

    solver, k = LSODA(velocity, 0.0, y, float(time[-1]), rtol=rtol, atol=rtol / 100.0, first_step=0.01 * float(time[1])), 1
    yield 0.0, y
    while solver.status == "running" and solver.nfev <= evaluations:
        with np.errstate(all="ignore"), warnings.catch_warnings():  # a trial step may go too far; the integrator takes it back
            warnings.simplefilter("ignore")  # what it warns of is in the message
            message = solver.step()
        if message is not None or not np.isfinite(solver.y).all():
            why = message or "it reaches infinity"
            raise SolveError(f"the flow of {name} could not be followed beyond time {solver.t_old or 0.0:.3g}: {why}")
        between = solver.dense_output()
        while k < len(time) and time[k] <= solver.t:
            yield float(time[k]), np.asarray(between(time[k]))
            k += 1
        if done(solver.y):
            break


def _measured(world: World, time: Array, log_p: Array) -> Flow:
    best = solve(world).log_p
    rows = [(expect(q, world.r), kl(q, world.log_p_ref), np.maximum(0.0, world.beta * kl(q, best))) for q in log_p]
    reward, distance, regret = (np.array([float(np.sum(world.mu * row[k])) for row in rows]) for k in range(3))
    return Flow(time, reward, distance, regret, log_p)
