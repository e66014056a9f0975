r"""How far the noise of batches keeps a learner from its destination, to first order: nothing is fitted.

**Symbols.**  theta the logits at the destination, U(theta) the update of one step there, random; m its mean, A = -dm/dtheta, C = Cov(U).

    Sigma_{t+1} = (I - eta_t A) Sigma_t (I - eta_t A)^T + eta_t^2 C,     Sigma_0 = 0,
    E KL(p_theta, p) = tr(F Sigma)/2,                                     F the Fisher information of p in the logits,

the covariance of stochastic ascent near its fixed point (Robbins and Monro 1951; Polyak 1963).  m and A come from the exact step, C from
one batch drawn again and again with a generator of its own.  Where advantages vanish at the destination C is 0, and so is the noise.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tabular_rlhf.errors import InputError
from tabular_rlhf.gibbs import log_policy_of
from tabular_rlhf.logspace import Array, expect
from tabular_rlhf.policy_gradient.updates import paths
from tabular_rlhf.simulator.record import CORES, Learner, Task, learner

LARGEST = 256
"""Logits up to which a Jacobian is taken."""
STEP = 1e-5
BATCHES = 400
"""Drawn to estimate C: its trace has a relative error of about sqrt(2/400) = 7 %."""


def noise_of_steps(task: Task, log_p: Array, steps: int) -> float | None:
    """E KL(p_theta, p) after so many steps begun at p, nats.

    None where p is on the border, the step is no ascent, the world is large, or squares of the steps are no floats.
    """
    usual = "lr" in CORES[task.options.core].uses and task.options.optimizer == "sgd"
    inside = bool(np.all((np.exp(log_p) > 1e-9) | np.isneginf(task.world.log_p_ref)))
    still = task.options.core == "dpo" and not task.options.online and task.batch == 0
    if not usual or not inside or steps < 1 or np.size(task.world.log_ref) > LARGEST:
        return None
    if still:
        return 0.0
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            noise = _noise(task, log_p, steps)
    except InputError:  # a population that would not fit
        return None
    return noise if np.isfinite(noise) else None


def _noise(task: Task, log_p: Array, steps: int) -> float:
    at = learner(task.world, log_policy_of(task.world.mdp, log_p))
    R = task.data.reward - (task.kl_coef * task.kl.phi(log_p - task.world.log_p_ref) if task.kl.in_reward else 0.0)
    at = replace(at, baseline=np.asarray(expect(log_p, R)))
    rng = np.random.default_rng(0)
    C = np.atleast_2d(np.cov(np.array([_update(task, at, rng) for _ in range(BATCHES)]).T))
    A, Sigma = -_jacobian(task, at), np.zeros_like(C)
    for t in range(steps):
        eta = task.step_size(t)
        shrink = np.eye(len(C)) - eta * A
        Sigma = shrink @ Sigma @ shrink.T + eta**2 * C
    return float(0.5 * np.trace(_fisher(task, at) @ Sigma))


def _update(task: Task, s: Learner, rng: np.random.Generator | None) -> Array:
    """What one step adds to the logits, per unit of step size."""
    after = CORES[task.options.core].step(task, s, rng)
    moved = np.where(np.isneginf(s.logits), 0.0, after.logits) - np.where(np.isneginf(s.logits), 0.0, s.logits)
    return np.ravel(moved) / task.step_size(s.step)


def _jacobian(task: Task, s: Learner) -> Array:
    """dm/dtheta by central differences of the exact step."""
    columns = []
    for k in range(s.logits.size):
        nudge = np.reshape(np.eye(1, s.logits.size, k) * STEP, s.logits.shape)
        ends = [_update(task, replace(s, logits=s.logits + sign * nudge), None) for sign in (1.0, -1.0)]
        columns.append((ends[0] - ends[1]) / (2.0 * STEP))
    return np.stack(columns, axis=1)


def _fisher(task: Task, s: Learner) -> Array:
    """E_mu of the covariance of scores, over flattened logits."""
    mdp, pi = task.world.mdp, np.exp(s.log_pi)
    went = paths(mdp)
    p = np.exp(mdp.path_sum(s.log_pi))
    size = mdp.S * mdp.V
    F = np.zeros((mdp.P, size, mdp.P, size))
    for x in range(mdp.P):
        scores = np.reshape(went - pi[x] * np.sum(went, axis=-1, keepdims=True), (mdp.N, size))
        F[x, :, x] = task.world.mu[x] * (scores.T * p[x]) @ scores
    return F.reshape(mdp.P * size, mdp.P * size)
