r"""Everything about a flag in one record: what it estimates, how noisily, what it pushes, what it descends and where that leads.

    bias = E[g] - KL(pi, ref);   cosine, share = <g, G>/(|g||G|), <g, G>/|G|^2   with G = grad KL(pi, ref), in tabular logits.

A share of 1 with cosine 1 is the true gradient.  `sampled` runs the same table over draws.  What a flag descends is said as
`verdict` measures it, and an optimum is given only where the flag is measured to be at rest (`rest`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tabular_rlhf.estimators.claims import honest
from tabular_rlhf.estimators.evaluate import Moments, exact_gradient, gradient_noise, moments, score_gradient, table
from tabular_rlhf.estimators.record import Flag
from tabular_rlhf.estimators.rest import resting
from tabular_rlhf.estimators.theorem import FlagOptimum, as_responses, optimum_of
from tabular_rlhf.estimators.verdict import verdict
from tabular_rlhf.gibbs import regret
from tabular_rlhf.logspace import Array, expect, kl
from tabular_rlhf.sampling import population, sample
from tabular_rlhf.world import World

TRUE = Flag("k1", "reward")
"""The flag whose expected update is grad KL(pi, ref)."""


@dataclass(frozen=True, eq=False)
class FlagReport:
    """What a flag does at one policy.

    exact, sampled: moments of what one draw contributes; bias, against KL(pi, ref), nats; gradient (P, S, V); cosine, share:
    against the true gradient, None where either vanishes; noise, E|g|^2 - |E g|^2 of one draw (None off-policy or for partial
    ratios); descends, as measured, and where that is none of the named the nearest; optimum of E[r] - beta times it, with its E[r],
    KL and regret: None where no closed form is known, or where the flag does not rest there.
    """

    flag: Flag
    kl: float
    exact: Moments
    sampled: Moments | None
    gradient: Array
    cosine: float | None
    share: float | None
    noise: float | None
    descends: str
    nearest: str
    optimum: FlagOptimum | None
    at_optimum: tuple[float, float, float] | None

    @property
    def bias(self) -> float:
        return self.exact.mean - self.kl

    @property
    def z(self) -> float | None:
        """How many exact standard errors the sample lies from the exact mean."""
        return None if self.sampled is None else self.sampled.estimate.z(self.exact.estimate)


def against(g: Array, truth: Array) -> tuple[float | None, float | None]:
    """(cosine, share) of a gradient against the true one; None where they have no direction."""
    gg, tt, gt = (float(np.sum(a * b)) for a, b in ((g, g), (truth, truth), (g, truth)))
    tiny = 1e-24 * max(1.0, gg, tt)
    return (None if min(gg, tt) <= tiny else gt / (np.sqrt(gg) * np.sqrt(tt)).item(), None if tt <= tiny else gt / tt)


def analyse(
    flag: Flag,
    world: World,
    log_pi: Any,
    log_pi_old: Any = None,
    *,
    draws: int = 0,
    rng: np.random.Generator | None = None,
) -> FlagReport:
    """The report of a flag at a policy, on its own samples or on those of log_pi_old.

    Args: log_pi, log_pi_old (P, S, V); draws and rng, for the sampled column.  Raises InputError off the reference's support.

    >>> from tabular_rlhf.gibbs import solve
    >>> from tabular_rlhf.world import rational
    >>> w = rational(); report = analyse(Flag("k3", "loss"), w, solve(w).log_pi)
    >>> round(report.kl, 4), abs(round(report.bias, 9)), round(report.cosine, 4), report.descends
    (0.0926, 0.0, 0.9898, 'KL(ref, pi)')
    """
    asked, flag = flag, honest(flag)
    mdp, old = world.mdp, log_pi if log_pi_old is None else log_pi_old
    log_p_old = mdp.path_sum(old)
    g = table(flag, world, log_pi, log_pi_old)
    exact = moments(population(world, log_p_old), g)
    drawn = moments(sample(world, log_p_old, draws, rng=rng), g) if draws and rng is not None else None
    by_hand = log_pi_old is None and (flag.level == "sequence" or flag.ratio == "sequence")
    gradient = score_gradient(flag, world, log_pi) if by_hand else exact_gradient(flag, world, log_pi, log_pi_old)
    said = verdict(asked, world, log_pi, log_pi_old)
    best = optimum_of(said.found, world)
    whole = (as_responses(flag) if said.claimed else None) or flag
    if best is not None and not ((said.claimed or log_pi_old is None) and resting(whole, world, best.log_pi)):
        best = None
    cosine, share = against(gradient, score_gradient(TRUE, world, log_pi))
    return FlagReport(
        asked,
        float(np.sum(world.mu * kl(mdp.path_sum(log_pi), world.log_p_ref))),
        exact,
        drawn,
        gradient,
        cosine,
        share,
        gradient_noise(flag, world, log_pi) if by_hand and flag.ratio == "sequence" else None,
        said.words,
        said.nearest,
        best,
        None if best is None else measure(world, best.log_p),
    )


def measure(world: World, log_p: Array) -> tuple[float, float, float]:
    """(E[r], KL to the reference, regret beta KL(p, p*)) of a law, averaged over prompts."""
    reward, distance = (float(np.sum(world.mu * row)) for row in (expect(log_p, world.r), kl(log_p, world.log_p_ref)))
    return reward, distance, float(regret(log_p, world))
