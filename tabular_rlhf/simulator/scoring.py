r"""Exact scores of a policy, where a core is predicted to lead, and how far chance may keep it from there.

**Symbols.**  log p (P, N) the policy's law; r the world's reward ("gold"), r_hat what the core was told to raise ("proxy").

    reward E[r], proxy E[r_hat], kl KL(p, p_ref), J = E[r] - beta KL, regret = beta KL(p, p*),   all averaged over prompts.

**Theorem** (the price of n comparisons).  The Gibbs law of r + delta has regret Var_{p*}(delta)/(2 beta) to second order.  With delta the
error of the Bradley-Terry fit, covariance L^+/n_x, where L is the Laplacian with weights 2 q_i q_j p_ij p_ji (pairs drawn from q = p_ref),

    E[regret] = sum_x mu(x) tr(C_x L_x^+) / (2 beta n_x),   its variance  sum_x 2 mu(x)^2 tr((C_x L_x^+)^2) / (2 beta n_x)^2,

C_x the covariance of p*, n_x = n mu(x).  The same holds for DPO on a tabular policy: its rewards are that fit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass
from functools import lru_cache
from typing import overload

import numpy as np

from tabular_rlhf.gibbs import Gibbs, solve
from tabular_rlhf.lattice import Policy, Reference
from tabular_rlhf.lattice import solve as solve_lattice
from tabular_rlhf.lattice.depths import ByDepth
from tabular_rlhf.lattice.flow import kl as kl_of_paths
from tabular_rlhf.logspace import Array, expect, kl, log_sigmoid
from tabular_rlhf.simulator.record import CORES, Data, Learner, PathTask, Task
from tabular_rlhf.world import World, coin

LARGEST = 1024
"""Responses a prompt up to which a Laplacian is inverted."""


@dataclass(frozen=True)
class Score:
    """One policy, exactly: reward, proxy, J, regret in reward units, kl in nats."""

    reward: float
    proxy: float
    kl: float
    J: float
    regret: float

    @property
    def row(self) -> tuple[float, ...]:
        return tuple(map(float, astuple(self)))


@lru_cache(maxsize=4)
def solved(world: World) -> Gibbs:
    """The world's optimum, kept because every step is scored against it."""
    return solve(world)


def score(world: World, log_p: Array, proxy: Array) -> Score:
    """The exact score of a law.

    >>> from tabular_rlhf.world import coin
    >>> s = score(coin(), coin().log_p_ref, coin().r); round(s.J, 6), round(s.regret, 6)
    (0.5, 0.120115)
    """
    mu, best = world.mu, solved(world)
    reward, told, far = (float(np.sum(mu * f)) for f in (expect(log_p, world.r), expect(log_p, proxy), kl(log_p, world.log_p_ref)))
    return Score(reward, told, float(np.maximum(0.0, far)), reward - world.beta * far, float(best.regret(log_p)))


def score_on_paths(task: PathTask, policy: Policy) -> Score:
    """The exact score of a policy of a lattice, by sweeps.

    >>> from tabular_rlhf.lattice import Reference
    >>> from tabular_rlhf.simulator.record import Options
    >>> from tabular_rlhf.simulator.stages import begin
    >>> from tabular_rlhf.world import coin
    >>> task = begin(Reference(coin()).world, Options(algorithm="rloo")).task
    >>> s = score_on_paths(task, Reference(task.world)); round(s.J, 6), round(s.regret, 6)
    (0.5, 0.120115)
    """
    world = task.world
    reward = float(np.sum(world.mu * policy.mean({id(level): level.r for level in world.distinct})))
    far, regret = (float(np.sum(world.mu * kl_of_paths(policy, other))) for other in (Reference(world), task.optimum))
    return Score(reward, task.paid * reward, far, reward - world.beta * far, world.beta * regret)


def score_of(task: Task | PathTask, s: Learner) -> Score:
    """The exact score of what was learned."""
    if isinstance(task, PathTask):
        return score_on_paths(task, ByDepth(task.world, s.log_pi))
    return score(task.world, task.world.mdp.path_sum(s.log_pi), task.data.reward)


def total_variation(world: World, log_p: Array, log_q: Array) -> float:
    """E_mu of half the L1 distance: 0 where the laws agree, finite where one of them is a vertex."""
    return float(0.5 * np.sum(world.mu[:, None] * np.abs(np.exp(log_p) - np.exp(log_q))))


@dataclass(frozen=True, eq=False)
class Destination:
    """Where a core is predicted to lead: in words, log p (P, N), and its score (a wrong place has a regret of its own)."""

    words: str
    log_p: Array
    score: Score


@dataclass(frozen=True, eq=False)
class PathDestination:
    """The same on a lattice, with the policy."""

    words: str
    policy: Policy
    score: Score


@overload
def destination(task: Task) -> Destination | None: ...
@overload
def destination(task: PathTask) -> PathDestination | None: ...
def destination(task: Task | PathTask) -> Destination | PathDestination | None:
    """The predicted destination of a task's core, None where no closed form is known."""
    if isinstance(task, PathTask):
        return _on_paths(task)
    found = CORES[task.options.core].predict(task)
    return None if found is None else Destination(found[0], found[1], score(task.world, found[1], task.data.reward))


def _on_paths(task: PathTask) -> PathDestination | None:
    """By what the core leads to on a world of two responses, if that is a law that every world has."""
    small = Data(np.zeros((1, 2)), None, coin().r * task.paid)
    asked = Task(world=coin(), data=small, options=task.options, batch=task.batch, lr=task.lr, kl=task.kl, kl_coef=task.kl_coef)
    found = CORES[task.options.core].predict(asked)
    if found is None or found[0] not in LAWS or not task.paid:
        return None
    policy = solve_lattice(task.world.at(LAWS[found[0]](task.kl_coef)))
    return PathDestination(found[0], policy, score_on_paths(task, policy))


VANISHING = 1e-300
"""The beta of the greedy limit."""
LAWS: Mapping[str, Callable[[float], float]] = {"Gibbs": lambda c: c, "argmax r": lambda c: VANISHING}
"""Predictions that are the optimum at some beta, by the KL term's weight."""

# ---------------------------------------------------------------------------------------------------- chance


@dataclass(frozen=True)
class Chance:
    """Mean and standard deviation of a regret that is due to chance alone, reward units."""

    mean: float
    deviation: float


def price_of_comparisons(world: World, n: int) -> Chance | None:
    """The regret that n comparisons of responses of p_ref leave, to first order in 1/n; None for a world too large.

    >>> from tabular_rlhf.world import coin
    >>> c = price_of_comparisons(coin(), 1000); f"{c.mean:.6f} {c.deviation:.6f}"
    '0.001000 0.001414'
    """
    if world.mdp.N > LARGEST:
        return None
    mean = variance = 0.0
    for x in np.flatnonzero(world.mu > 0):
        M = _spread(world, int(x)) / (2.0 * world.beta * n)  # n_x = n mu(x) and the weight mu(x) cancel
        mean, variance = mean + float(np.trace(M)), variance + 2.0 * float(np.trace(M @ M))
    return Chance(mean, float(np.sqrt(variance)))


def _spread(world: World, x: int) -> Array:
    """C L^+ of one prompt, on the responses that the reference makes."""
    live = np.flatnonzero(~np.isneginf(world.log_p_ref[x]))
    q, p, r = np.exp(world.log_p_ref[x, live]), solve(world).p[x, live], world.r[x, live]
    gap = r[:, None] - r
    weight = 2.0 * q[:, None] * q * np.exp(log_sigmoid(gap) + log_sigmoid(-gap))
    L = np.diag(np.sum(weight, axis=1)) - weight
    return np.asarray((np.diag(p) - np.outer(p, p)) @ np.linalg.pinv(L, hermitian=True))


def price_of_draws(log_p: Array, n: float) -> float:
    """E KL(p_hat, p) of an empirical law of n draws, to first order: (K - 1)/(2 n) nats, K the possible responses of the largest prompt."""
    return float((np.max(np.sum(np.exp(log_p) > 0, axis=1)) - 1.0) / (2.0 * n))
