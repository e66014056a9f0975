r"""Of what objective a loss's population optimum is the maximizer: tried, not declared.

A law p maximizes a smooth objective F over all laws only if the velocity of ascent is 0 there,

    p_i (dF/dp_i - sum_j p_j dF/dp_j) = 0     for all responses i of every prompt.

Each named objective is tried on the world at hand and on others of other rewards and references: on one world alone too much agrees.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tabular_rlhf import gibbs
from tabular_rlhf.autodiff import grad
from tabular_rlhf.divergences import DIVERGENCES, Divergence, alpha_divergence
from tabular_rlhf.errors import InputError, SolveError
from tabular_rlhf.logspace import Array, expect, log_softmax
from tabular_rlhf.losses.closed import win_rate
from tabular_rlhf.losses.optimum import minimize
from tabular_rlhf.losses.record import DirectLoss
from tabular_rlhf.preferences import bradley_terry, population_pairs
from tabular_rlhf.world import World, random_world

Objective = Callable[[World, Mapping[str, Any], Any], Any]
"""(world, settings of the loss, log p (P, N)) -> a scalar, traceable in log p."""
STILL = 1e-6
"""A velocity below this share of the reward's own is that of an optimum found to rounding."""


def _kl(world: World, log_p: Any) -> Any:
    return -gibbs.objective(log_p, world.log_p_ref, np.zeros(world.r.shape), 1.0, world.mdp.mu)


def _reward(world: World, log_p: Any, r: Array) -> Any:
    return np.sum(world.mu * expect(log_p, r))


def _divergence(d: Divergence, world: World, log_p: Any) -> Any:
    """E_mu D_f(p, p_ref), traceable where p is positive wherever p_ref is."""
    there = ~np.isneginf(world.log_p_ref)
    u = np.exp(np.where(there, log_p, 0.0) - np.where(there, world.log_p_ref, 0.0))
    return np.sum(world.mu[:, None] * np.exp(world.log_p_ref) * np.where(there, d.f(u), 0.0))


def _penalized(d: Divergence) -> Objective:
    return lambda world, s, log_p: _reward(world, log_p, world.r) - s["beta"] * _divergence(d, world, log_p)


OBJECTIVES: Mapping[str, Objective] = {
    "E[r] - beta KL(p, p_ref)": lambda world, s, log_p: _reward(world, log_p, world.r) - s["beta"] * _kl(world, log_p),
    "E[P(y beats p_ref)] - tau KL(p, p_ref)": lambda w, s, log_p: _reward(w, log_p, win_rate(w)) - s["tau"] * _kl(w, log_p),
    "E[r - alpha |y|] - beta KL(p, p_ref)": lambda world, s, log_p: (
        _reward(world, log_p, world.r - s.get("alpha", 0.0) * world.mdp.lengths) - s["beta"] * _kl(world, log_p)
    ),
    "E[r] - beta (chi^2/2 + KL)(p, p_ref)": lambda world, s, log_p: (
        _reward(world, log_p, world.r) - s["beta"] * (_kl(world, log_p) + _divergence(DIVERGENCES["chi-squared"], world, log_p))
    ),
    **{f"E[r] - beta D_f(p, p_ref), f of {d.told}": _penalized(d) for name, d in DIVERGENCES.items() if name != "reverse-kl"},
    "E[r] - beta D_f(p, p_ref), f of the alpha family": lambda world, s, log_p: _penalized(alpha_divergence(s.get("alpha", 1.0)))(
        world, s, log_p
    ),
}


def velocity(objective: Objective, world: World, settings: Mapping[str, Any], log_p: Array) -> float:
    """The largest |p_i (dF/dp_i - mean)|, as a share of the same for E[r] alone at its largest possible: 0 at a maximizer.

    >>> from tabular_rlhf.world import rational
    >>> w = rational(); velocity(OBJECTIVES["E[r] - beta KL(p, p_ref)"], w, {"beta": w.beta}, gibbs.solve(w).log_p) < 1e-14
    True
    """
    with np.errstate(all="ignore"):  # a law beyond floats maximizes nothing that is measured here
        pull = np.asarray(grad(lambda z: objective(world, settings, log_softmax(z)))(log_p))
    p = np.exp(log_p)
    size = float(np.max(world.mu[:, None] * p * np.maximum(np.ptp(world.r, axis=1, keepdims=True), settings["beta"])))
    worst = float(np.max(np.abs(pull)))
    return worst / size if np.isfinite(worst) and size > 0 else np.inf


def maximized(
    loss: DirectLoss,
    world: World,
    log_p: Array,
    settings: Mapping[str, Any],
    changes: Mapping[str, Any],
    drawn: Callable[[World], Array | None] = lambda world: None,
) -> str | None:
    """The first named objective that the loss's population optimum maximizes here and on other worlds; None where there is none.

    Args: log_p (P, N), the optimum on this world, attained; settings, the loss's there; changes, of its parameters; drawn, log q (P, N) of
    the responses that are compared in a world, p_ref by default.
    """
    left = [name for name, f in OBJECTIVES.items() if velocity(f, world, settings, log_p) <= STILL]
    for seed in (0, 1):
        if not left:
            return None
        other = random_world(rng=np.random.default_rng(seed), V=2, H=2, beta=world.beta)
        try:
            found = minimize(loss, other, population_pairs(other, bradley_terry(other.r), drawn(other)).distinct(), **changes)
        except (SolveError, InputError):  # not solved, or the sampler says one response only
            return None
        left = [name for name in left if velocity(OBJECTIVES[name], other, settings, found.log_p) <= STILL]
    return left[0] if left else None
