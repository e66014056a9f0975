r"""KL estimators on a world that is not listed: what each is worth as an estimate of KL(p*, p_ref), by sweeps.

Of whole responses, h(L) has a sweep where it is made of sums, powers and exponentials (`path`).  Token by token, the sum of h(L_t) along a
response is additive whatever h is, so its mean and variance are the plainest sweep, |L_t| and the state's own divergence included.  What
has no sweep is told by name, with the mean of draws and their own standard error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tabular_rlhf.errors import InputError
from tabular_rlhf.estimators.record import Estimator
from tabular_rlhf.lattice import LatticeWorld
from tabular_rlhf.lattice.linear import moments
from tabular_rlhf.lattice.policy import Policy
from tabular_rlhf.logspace import Array, remainder
from tabular_rlhf.path.sweep import by_prompt
from tabular_rlhf.reports.lattice_solution import Solved, of_ratio
from tabular_rlhf.reports.solution import Record

SCHEMA = "tabular-rlhf/kl-lattice/1"
NO_SWEEP = "no sweep: mean and std are those of the draws"


def report(world: LatticeWorld, estimators: Sequence[Estimator], level: str, *, samples: int, seed: int) -> Record:
    """Each estimator's mean, bias, deviation of one draw, and the draws' mean in exact standard errors.

    Args: level, "sequence" or "token" (summed over tokens).
    """
    s = Solved(world, samples, np.random.default_rng(seed))
    kl = float(np.sum(world.mu * s.kl))
    rows = [row(s, estimator, "token" if estimator.per_state else level, kl) for estimator in estimators]
    found = {"world": world.name, "beta": world.beta, "responses": world.responses, "samples": len(s.after.drawn.x), "kl": kl}
    return {"schema": SCHEMA, **found, "rows": rows}


def row(s: Solved, estimator: Estimator, level: str, kl: float) -> Record:
    """One estimator as plain numbers; what is not known is None."""
    mu, drawn, z, remark = s.world.mu, None, None, ""
    n = len(s.after.drawn.x)
    with np.errstate(over="ignore", invalid="ignore"):
        seen: Any = None if level == "token" else estimator.h(s.after.drawn.L)
    try:
        means, within = by_token(estimator, s.optimum) if level == "token" else by_prompt(of_ratio(estimator.h), s.optimum)
        mean = float(np.sum(mu * means))
        std = float(np.sqrt(np.sum(mu * (within + np.square(means - mean)))))
    except InputError as refused:  # no sweep, or beyond floats
        mean, std, remark = float(np.mean(seen)), float(np.std(seen)), f"{NO_SWEEP} ({refused.got})"
    if seen is not None:
        drawn = float(np.mean(seen))
        z = (drawn - mean) / (std / np.sqrt(n)) if std > 0 and not remark else None
    named = {"estimator": estimator.name, "level": level, "mean": mean, "std": std, "sampled": drawn}
    return {**named, "z": z, "bias": mean - kl, "standard_error": std / float(np.sqrt(n)), "exact": not remark, "remark": remark}


def by_token(estimator: Estimator, policy: Policy) -> tuple[Array, Array]:
    """Mean and variance of the sum over tokens of h(L_t), or of the divergence of the state met, for each prompt: (P,) each."""

    def summand(h: int) -> Array:
        L = policy.ratio(h)
        if not estimator.per_state:
            return np.asarray(estimator.h(L))
        pi, ref = policy.pi(h), policy.world.levels[h].ref
        small = np.abs(L) < 0.5
        gap = pi * np.where(small, remainder(-L, 2), L) + np.where(small, 0.0, ref - pi)
        return np.broadcast_to(np.sum(np.where(pi > 0, gap, ref), axis=0), L.shape)

    found = moments(policy, 1, lambda h: {(0, -1): summand(h), (0, 0): 1.0})
    assert found.covariance is not None
    return found.mean[:, 0], found.covariance[:, 0, 0]
