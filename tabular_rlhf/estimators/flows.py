r"""Exact flows: where gradient ascent of E[r] - beta times a flag goes, with no noise and no step length.

    d logits / dt = grad E[r] - beta g(logits),      g the flag's exact expected update (`score_gradient`);
    natural:        the same divided by mu d_pi(s) pi(a given s): the natural gradient in tabular logits.

A flag that descends a divergence (`theorem.descent`) leads to its optimum; one that does not may lead anywhere, and a wrong
one may run away.  No line search can be used, because there may be no objective; so it is an ordinary differential equation.

Source: Kakade (2001) (natural gradient); the integrator is LSODA (Petzold 1983), by way of scipy.
"""

from __future__ import annotations

from collections.abc import Callable
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
        """log p where it stopped, (P, N)."""
        return np.asarray(self.log_p[-1])

    @property
    def ends_at_vertex(self) -> bool:
        """Whether it stopped where one response of every prompt has all but a millionth of the mass."""
        return bool(np.all(np.max(np.exp(self.end), axis=1) > 1.0 - 1e-6))


CORNER = 1e-3
"""Nats over which the jump of |L|'s slope is rounded: a flow that slides along it cannot be followed otherwise."""
EVALUATIONS = 100_000
FOLLOWED = 32
"""Responses (over all prompts) up to which a report follows a flag without a closed form."""
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

    rtol: relative error of a step; 1e-5 moves no regret by more than 1e-6, and is a third of the time.

    It stops early where a token's log-probability has fallen to -WIDEST/H: it has run away to a vertex.

    Raises: SolveError where the field cannot be followed (a natural flow may reach infinity in finite time).

    >>> from tabular_rlhf.world import rational
    >>> round(float(flow(Flag("k2", "loss"), rational()).regret[-1]), 6)
    0.0
    """
    log_start = world.log_ref if start is None else start
    check_cover(world.mdp, log_start, world.log_ref, "the policy", "the reference")
    time = np.concatenate([[0.0], np.geomspace(horizon * 1e-7, horizon, points - 1)])
    free, deepest = ~np.isneginf(log_start), WIDEST / world.mdp.H

    def policy(z: Array) -> Array:
        logits = np.full(log_start.shape, -np.inf)
        logits[free] = z
        # a trial step may go further than the flow does
        logits[free] = np.maximum(logits, np.max(logits, axis=-1, keepdims=True) - deepest - 50.0 / world.mdp.H)[free]
        return np.asarray(log_softmax(logits))

    def velocity(_: float, z: Array) -> Array:
        return field(flag, world, policy(z), natural=natural, width=CORNER)[free]

    def at_vertex(z: Array) -> bool:
        return bool(np.min(policy(z)[free]) < -deepest)

    path = _integrate(velocity, log_start[free], time, at_vertex, flag.label if flag is not None else "E[r]", rtol)
    return _measured(world, time[: len(path)], np.stack([world.mdp.path_sum(policy(z)) for z in path]))


def follow(flag: Flag, world: World, *, rtol: float = 1e-8) -> Flow:
    """The flow from the reference for a long time: 1000 units of 1/beta, or 1000 where beta is above 1.

    >>> from tabular_rlhf.world import coin
    >>> np.exp(follow(Flag("k2", "loss"), coin()).end).round(6).tolist()  # p*(heads) = sigma(1/beta)
    [[0.268941, 0.731059]]
    """
    return flow(flag, world, horizon=1e3 / max(1e-6, min(1.0, world.beta)), rtol=rtol)


def _integrate(velocity: Velocity, z: Array, time: Array, done: Callable[[Array], bool], name: str, rtol: float) -> list[Array]:
    """The solution at `time`, or up to where it is done; raises SolveError where it cannot be followed."""
    from scipy.integrate import LSODA

    solver, path = LSODA(velocity, 0.0, z, float(time[-1]), rtol=rtol, atol=rtol / 100.0), [z]
    while solver.status == "running":
        with np.errstate(all="ignore"):  # a trial step may go too far; the integrator takes it back
            message = solver.step()
        if message is not None or not np.isfinite(solver.y).all() or solver.nfev > EVALUATIONS:
            why = message or ("it reaches infinity" if solver.nfev <= EVALUATIONS else f"it takes more than {EVALUATIONS} evaluations")
            raise SolveError(f"the flow of {name} could not be followed beyond time {solver.t_old or 0.0:.3g}: {why}")
        between = solver.dense_output()
        while len(path) < len(time) and time[len(path)] <= solver.t:
            path.append(np.asarray(between(time[len(path)])))
        if done(solver.y):
            break
    return path


def _measured(world: World, time: Array, log_p: Array) -> Flow:
    best = solve(world).log_p
    rows = [(expect(q, world.r), kl(q, world.log_p_ref), np.maximum(0.0, world.beta * kl(q, best))) for q in log_p]
    reward, distance, regret = (np.array([float(np.sum(world.mu * row[k])) for row in rows]) for k in range(3))
    return Flow(time, reward, distance, regret, log_p)
