r"""Named objectives: what an update might ascend, each a function of the policy whose gradient the core computes.

**Symbols.**  log_pi (P, S, V), the live policy; p its law of responses; r, L a response's reward and length; G the size of a group;
pi_old the policy that drew the samples, where that is another one (here held).  Means are over prompts, then under p (E) or p_old (E_old).

    E[max of k] = E_mu sum over levels l of  l (F(l)^k - F(l-)^k),     F(l) = P(r <= l):  the best of k independent responses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tabular_rlhf.autodiff import grad
from tabular_rlhf.fields.case import Case
from tabular_rlhf.logspace import Array, expect, kl, log_softmax
from tabular_rlhf.world import World

Objective = Callable[[Any], Any]
"""log_pi (P, S, V) -> a scalar, traceable."""
BEST = 8
"""The largest k of E[max of k]."""
LEVELS = 64
"""Reward levels up to which the best of k is among the objectives."""


def gradient(objective: Objective, logits: Array) -> Array:
    """The gradient of an objective in tabular logits, (P, S, V)."""
    return np.asarray(grad(lambda t: objective(log_softmax(t)))(logits))


def objectives(case: Case, G: int = 1) -> dict[str, Objective]:
    """The named objectives of a case, plainest first; E[max of k] for k up to G.

    >>> from tabular_rlhf.world import coin
    >>> ref = coin().log_ref; named = objectives(Case(coin(), ref), G=3)
    >>> {name: round(float(named[name](ref)), 4) for name in ("E[r]", "E[max of 3]", "H")}
    {'E[r]': 0.5, 'E[max of 3]': 0.875, 'H': 0.6931}
    """
    world, mdp, r = case.world, case.world.mdp, case.world.r
    lengths = mdp.lengths.astype(float)
    top = float(np.max(r))

    def mean(f: Array) -> Objective:
        return lambda log_pi: np.sum(world.mu[:, None] * np.exp(mdp.path_sum(log_pi)) * f)

    def over_prompts(f: Callable[[Any], Any]) -> Objective:
        """The mean over prompts of a function of E[r given x]."""
        return lambda log_pi: np.sum(world.mu * f(np.sum(np.exp(mdp.path_sum(log_pi)) * r, axis=-1)))

    named: dict[str, Objective] = {"E[r]": mean(r), "E[r^2]": mean(np.square(r))}
    if np.ptp(lengths):
        named |= {"E[r/L]": mean(r / lengths), "E[1/L]": mean(np.broadcast_to(1.0 / lengths, r.shape))}
        named |= {"E[r L]": mean(r * lengths), "E[L]": mean(np.broadcast_to(lengths, r.shape))}
    named["H"] = lambda log_pi: -np.sum(world.mu * expect(mdp.path_sum(log_pi), mdp.path_sum(log_pi)))
    named["KL(pi, ref)"] = lambda log_pi: np.sum(world.mu * kl(mdp.path_sum(log_pi), world.log_p_ref))
    named["KL(ref, pi)"] = lambda log_pi: np.sum(world.mu * kl(world.log_p_ref, mdp.path_sum(log_pi)))
    if len(np.unique(r)) <= LEVELS:
        named |= {f"E[max of {k}]": _best(world, k) for k in range(2, min(G, BEST) + 1)}
    if np.min(r) >= 0 < top:
        named["E_x log E[r]"] = over_prompts(np.log)
    if np.min(r) >= 0 and 0 < top <= 1:
        named["2 arcsin sqrt E[r]"] = over_prompts(lambda q: 2.0 * np.arcsin(np.sqrt(q)))
    return named | ({} if case.log_held is None else _of_samples(world, case.log_held))


def _best(world: World, k: int) -> Objective:
    levels = np.unique(world.r)
    below = (world.r[..., None] <= levels).astype(float)  # (P, N, levels)
    rise = np.diff(levels)

    def objective(log_pi: Any) -> Any:
        p = np.exp(world.mdp.path_sum(log_pi))
        F = np.sum(p[..., None] * below, axis=1)
        return levels[-1] - np.sum(world.mu[:, None] * rise * F[:, :-1] ** k)  # by parts: the sum of rises where not all k are below

    return objective


def _of_samples(world: World, log_old: Array) -> dict[str, Objective]:
    """What samples of another policy can ascend: imitation, weighed by the reward or not, and the mean of Q_old at its visits."""
    mdp = world.mdp
    mass = world.mu[:, None] * np.exp(mdp.path_sum(log_old))
    drawn = mdp.subtree_sum(mass) > 0
    through, weighed = mdp.subtree_sum(mass), mdp.subtree_sum(mass * world.r)
    centered = mdp.subtree_sum(mass * (world.r - np.sum(np.exp(mdp.path_sum(log_old)) * world.r, axis=1, keepdims=True)))
    held = np.where(drawn, weighed / np.where(drawn, np.exp(log_old), 1.0), 0.0)  # d_old(s) Q_old(s, a)
    return {
        "E_old[r log pi]": lambda log_pi: np.sum(weighed * np.where(drawn, log_pi, 0.0)),
        "E_old[(r - V_old) log pi]": lambda log_pi: np.sum(centered * np.where(drawn, log_pi, 0.0)),
        "E_old[log pi]": lambda log_pi: np.sum(through * np.where(drawn, log_pi, 0.0)),
        "E[Q_old] at old visits": lambda log_pi: np.sum(held * np.exp(log_pi)),
    }
