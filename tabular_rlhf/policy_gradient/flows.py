r"""Population flows: where a direction leads, as a trajectory of (E[r], KL, regret) beside the closed-form optimum.

**Symbols.**  logits' = direction(logits), continuous ascent.  Directions here are expected updates, exact:

    recipe:   E[update of the recipe] - beta grad KL(p, p_ref) + gamma grad E_D[log p];
    natural:  F^{-1} of a direction U, with F the Fisher information; in tabular logits U(s, a)/(mu(x) d_pi(s) pi(a given s)).

**Theorem** (`natural-gradient`).  For U = grad J the natural direction is, up to a constant in each state, the soft Q minus
beta log pi; a step of length eta makes pi proportional to pi^(1 - eta beta) (pi_ref exp(Q/beta))^(eta beta).

Source: Kakade (2001); Cen et al. (2022), arXiv:2007.06558.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tabular_rlhf.autodiff import grad
from tabular_rlhf.errors import InputError, SolveError
from tabular_rlhf.gibbs import regret
from tabular_rlhf.logspace import Array, expect, kl, log_softmax
from tabular_rlhf.policy_gradient.record import Recipe
from tabular_rlhf.policy_gradient.updates import expected_update
from tabular_rlhf.world import World

Direction = Callable[[Array], Array]
STEEPEST = 1e150
"""A slope that the integrator can square: of others it would never come back."""


@dataclass(frozen=True, eq=False)
class Flow:
    """A trajectory: time (T,); reward E[r] and regret (reward units), kl (nats), averages over prompts; logits at the end."""

    time: Array
    reward: Array
    kl: Array
    regret: Array
    logits: Array


def recipe_direction(world: World, recipe: Recipe, *, gamma: float = 0.0, log_d: Array | None = None) -> Direction:
    """The expected update of a recipe on-policy, with the exact KL penalty of the world and perhaps a ptx term."""
    if gamma and log_d is None:
        raise InputError("a ptx term needs a data distribution", got="log_d = None", remedy="pass log D, (P, N)")

    def direction(logits: Array) -> Array:
        update = expected_update(world, logits, recipe)
        return update + np.asarray(grad(lambda theta: penalty(world, log_softmax(theta), gamma=gamma, log_d=log_d))(logits))

    return direction


def penalty(world: World, log_pi: Any, *, gamma: float = 0.0, log_d: Array | None = None) -> Any:
    """-beta E_mu KL(p, p_ref) + gamma E_mu E_D[log p], to be ascended in log_pi: traceable."""
    log_p = world.mdp.path_sum(log_pi)
    total = -world.beta * np.sum(world.mu * kl(log_p, world.log_p_ref))
    if log_d is not None and gamma:
        total = total + gamma * np.sum(world.mu * expect(log_d, log_p))
    return total


def natural(world: World, direction: Direction) -> Direction:
    """The natural form of a direction, centered in each state: 0 where the policy never goes."""

    def natural_direction(logits: Array) -> Array:
        log_pi = log_softmax(logits)
        log_visit = world.mdp.log_mu[:, None, None] + world.mdp.prefix_sum(log_pi)[..., None] + log_pi
        there = log_visit > -300.0  # beyond, the visit is rounding in its own update
        step = np.where(there, direction(logits) / np.exp(np.where(there, log_visit, 0.0)), 0.0)
        return np.asarray(step)

    return natural_direction


def flow(world: World, logits: Array, direction: Direction, times: Sequence[float] | Array, *, tolerance: float = 1e-8) -> Flow:
    """Integrate logits' = direction(logits) and score every time exactly.

    Args: times, increasing, from 0.  Raises: InputError for times that do not increase, SolveError where the integrator fails.

    >>> from tabular_rlhf.world import coin
    >>> f = flow(coin(), np.zeros((1, 1, 2)), recipe_direction(coin(), Recipe("rloo")), [0.0, 60.0])
    >>> bool(f.regret[-1] < 1e-6)
    True
    """
    from scipy.integrate import solve_ivp

    t = np.asarray(times, dtype=np.float64)
    if t.ndim != 1 or len(t) < 2 or t[0] != 0 or np.any(np.diff(t) <= 0):
        raise InputError("times must increase from 0", got=t.tolist(), remedy="pass, say, np.linspace(0, 10, 50)")
    free = np.isfinite(logits)

    def slope(time: float, y: Array) -> Array:
        found = direction(_filled(logits, free, y))[free]
        if not np.max(np.abs(found), initial=0.0) < STEEPEST:
            raise SolveError(f"the flow was not followed beyond time {time:.3g}: its slope is no number whose square is a float")
        return found

    found = solve_ivp(slope, (t[0], t[-1]), logits[free], t_eval=t, rtol=tolerance, atol=tolerance)
    if not found.success:
        raise SolveError(f"the flow was not followed beyond time {found.t[-1] if len(found.t) else 0.0:.3g}: {found.message}")
    path = [_filled(logits, free, y) for y in found.y.T]
    reward, far, regret = np.array([score(world, log_softmax(at)) for at in path]).T
    return Flow(t, reward, far, regret, path[-1])


def _filled(logits: Array, free: Array, y: Array) -> Array:
    out = np.array(logits, dtype=np.float64)
    out[free] = y
    return out


def score(world: World, log_pi: Array) -> tuple[float, float, float]:
    """(E[r], KL, regret) of a policy, averaged over prompts."""
    log_p = world.mdp.path_sum(log_pi)
    return (
        float(np.sum(world.mu * expect(log_p, world.r))),
        float(np.sum(world.mu * kl(log_p, world.log_p_ref))),
        float(regret(log_p, world)),
    )
