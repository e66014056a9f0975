r"""Chapter 10, policies that have moved: truncated and cumulative ratios, clips under random rewards, samplers that are another law.

The old policy is drawn apart from pi (`p_2`), so that a gradient in the logits of pi leaves it where it is.
"""

from __future__ import annotations

from string import Template
from typing import Any

import numpy as np

from tabular_rlhf.ledger.record import claim
from tabular_rlhf.logspace import log_ratio
from tabular_rlhf.policy_gradient import Recipe, stale
from tabular_rlhf.policy_gradient.groups import Credit
from tabular_rlhf.policy_gradient.updates import surrogate, update_of
from tabular_rlhf.terms.conditions import full, off_the_edges
from tabular_rlhf.terms.letters import FAIR, OLD, PULL, RATIO
from tabular_rlhf.terms.policies import best_of_gain, mean_slope
from tabular_rlhf.terms.sizes import moved_size


def by_score(p_law: Any, weight: Any, score: Any) -> Any:
    """E of weight times score under a law, for each prompt: (P, P, S, V)."""
    return np.einsum("xn,xnysv->xysv", p_law * weight, score)


# ---------------------------------------------------------------------------------------------------- truncated-ratio

claim(
    slug="truncated-ratio",
    chapter=10,
    text=r"""
    \mathbb{E}_{p_{old}}[\min(\rho, C)\, r\, \mathrm{score}] = \nabla\, \mathbb{E}_{p_{old}}[r\, (\min(\rho, C) + C \max(0,
        \log\frac{\rho}{C}))], \quad \rho = \frac{p}{p_{old}}
      not nabla(E_p[r])  # truncation is unbiased
      not E_p_old[1[rho <= C]*rho*r*score]  # truncation is masking
      not E_p_old[min(rho, C)*(r - E_p_old[r])*score]  # a baseline is free
      not nabla(E_p_old[r*min(rho, C)])  # the truncated surrogate's own gradient
    \mathbb{E}_{p_{old}}[1[\rho \le C]\, \rho\, r\, \mathrm{score}] = \nabla\, \mathbb{E}_{p_{old}}[r \min(\rho, C)]
        # so neither truncating nor masking a ratio ascends E_p[r]
      not nabla(E_p[r])  # masking is unbiased
      not E_p_old[min(rho, C)*r*score]  # masking is truncation
    """,
    source="Ionides (2008); as in Yao et al. (2025) for samplers of another precision; by integrating the slope.",
    parts=("truncated", "masked"),
    letters={**OLD, "C": "cap"},
    sides={
        "gradient of what is ascended": 1,
        "scores weighed": 0,
        "weights in plain arrays": lambda p, log_p_2, r, cap, score: (
            by_score(np.minimum(p, cap * np.exp(log_p_2)), r, score),
            by_score(p * (p <= cap * np.exp(log_p_2)), r, score),
        ),
    },
    where=full,
    scale=moved_size,
    largest=60,
    most=20,
)

# ---------------------------------------------------------------------------------------------------- prefix-ratio


def cumulative(mdp: Any, p: Any, log_p_2: Any, r: Any, pi: Any) -> Any:
    """sum_h rho_{0..h} r score_h under pi_old: the mass of old responses through (s, a) with their reward, times the ratio so far."""
    mass, old = mdp.subtree_sum(p), np.exp(log_p_2)
    ratio = mass / mdp.subtree_sum(old)
    update = stale.pulled_tokens(ratio * mdp.subtree_sum(old * r), pi)
    return np.einsum("xsv,xy->xysv", update, np.eye(len(update)))


PREFIX = r"\rho(s, a) = \frac{p(s + a)}{p_{old}(s + a)}"

claim(
    slug="prefix-ratio",
    chapter=10,
    text=Template(r"""
    \mathbb{E}_{p_{old}}[\sum_h \rho(s_h, a_h)\, A_\pi(s_h, a_h)\, \nabla \log\pi(a_h \mid s_h)] = \nabla\, \mathbb{E}_p[r], \quad ${PREFIX}
      not E_p_old[sum_h pi(a_h|s_h)/pi_old(a_h|s_h)*A_pi(s_h,a_h)*nabla(log(pi(a_h|s_h)))]  # ratios of single tokens suffice
      not E_p_old[sum_h A_pi(s_h,a_h)*nabla(log(pi(a_h|s_h)))]  # no ratio at all
    \mathbb{E}_{p_{old}}[\sum_h \rho(s_h, a_h)\, r\, \nabla \log\pi(a_h \mid s_h)] = \sum_s d_\pi(s) \sum_a \nabla\pi(a \mid s)\, Q_{old}(s,
        a)
        # where rho is the ratio of the response so far: exact with the advantages of pi, and with rewards of the old policy's ends it
        answers what would follow if pi chose one token and the old policy all others
      not nabla(E_p[r])  # unbiased with outcomes
      not sum_s p_old(s)*sum_a nabla(pi(a|s))*Q_old(s,a)  # the old policy's visits
      not sum_s d_pi(s)*sum_a nabla(pi(a|s))*Q_pi(s,a)  # the values of pi
    """).substitute(PREFIX=PREFIX),
    source="Zhang et al. (2026), arXiv:2605.07331; per-decision importance sampling, Precup, Sutton and Singh (2000).",
    parts=("with advantages", "with outcomes"),
    letters={**OLD, "Q_old": "E_p_2[r | s, a]"},
    sides={
        "gradient, visits": 1,
        "responses of the old policy": 0,
        "gradient core, masses": lambda world, logits, mdp, p, log_p_2, r, pi: (
            mean_slope(world, logits, r),
            cumulative(mdp, p, log_p_2, r, pi),
        ),
    },
    where=full,
    scale=moved_size,
    largest=40,
    most=12,
)

# ---------------------------------------------------------------------------------------------------- random-rewards-clip


def halves(world: Any, mu: Any, log_p_2: Any) -> Credit:
    """Every old response rewarded with +1 and with -1, half of the time each."""
    mass = 0.5 * mu[:, None] * np.exp(log_p_2)
    return Credit(mass, mass)


def recipe(clip: float) -> Recipe:
    return Recipe("none", "ppo-clip", G=1, clip=clip)


claim(
    slug="random-rewards-clip",
    chapter=10,
    text=Template(r"""
    ${FAIR} = ${PULL}, \quad ${RATIO}
      not 0*E_mu[beta]  # random rewards average out
      not 2*(${PULL})  # 1/2 forgotten
    \nabla\, ${FAIR} = \nabla\, (${PULL})  # PPO-clip under rewards of +1 and -1 at random: a pull back towards the old policy, and 0 at it
      not 0*nabla(E[r])  # random rewards do not move pi
      not -\nabla\, (${PULL})  # pushed away from the old policy
    """).substitute(FAIR=FAIR, PULL=PULL, RATIO=RATIO),
    source="of random rewards that seem to help: arXiv:2506.10947, 2512.16912; the mean over both signs.",
    note="At a pi that does not depend on these rewards.  A batch that is used again breaks this premise.",
    parts=("surrogate", "gradient"),
    letters={**OLD, "c": "clip"},
    sides={
        "distance from the clip": 1,
        "both signs, averaged": 0,
        "the recipe's surrogate, swept": lambda world, mdp, mu, log_pi, logits, log_pi_2, log_p_2, clip: (
            surrogate(mdp, halves(world, mu, log_p_2), recipe(clip), log_pi, log_old=log_pi_2, log_now=log_pi),
            update_of(world, halves(world, mu, log_p_2), logits, recipe(clip), log_old=log_pi_2),
        ),
    },
    misses={
        "it amplifies likely tokens: the sign flipped": f"-({PULL})".replace(r"\,", ""),
        "no clip below": PULL.replace("|\\rho(s_h, a_h) - k(s_h, a_h)|", "\\max(0, \\rho(s_h, a_h) - k(s_h, a_h))"),
    },
    where=off_the_edges,
    scale=lambda H, log_pi, log_pi_2: H * np.exp(np.max(log_ratio(log_pi, log_pi_2))),
    largest=60,
    most=20,
)

# ---------------------------------------------------------------------------------------------------- off-policy-reinforce


def by_bisection(gain: Any) -> Any:
    """max(0, gain - kappa)/W with kappa halved in, 200 times."""
    low, high = np.min(gain, axis=1) - np.sum(gain, axis=1), np.max(gain, axis=1)
    for _ in range(200):
        mid = (low + high) / 2.0
        above = np.sum(np.maximum(0.0, gain - mid[:, None]), axis=1) > np.sum(gain, axis=1)
        low, high = np.where(above, mid, low), np.where(above, high, mid)
    return np.maximum(0.0, gain - low[:, None]) / np.sum(gain, axis=1, keepdims=True)


claim(
    slug="off-policy-reinforce",
    chapter=10,
    text=r"""
    let p_infty = p_limit; m = p_2; b = E_p_2[r] - below; kappa = level
    p_\infty = \frac{\max(0, m (r - b) - \kappa)}{W}, \quad W = \mathbb{E}_m[r] - b
        # where the flow of sum m (r - b) grad log p over responses ends for a baseline b below the mean reward of the data's law m; kappa
        makes it sum to one; for b above it p collapses
      not max(0, m*(r - b))/W  # kappa forgotten: clipped and not normalized
      not max(0, m*(r - b))/(sum_tau max(0, m*(r - b)))  # kappa forgotten: clipped and normalized
      not m  # the data's law
      not p_star  # the Gibbs optimum
    """,
    source="Arnal et al. (2025), arXiv:2506.20520; velocities of logits.",
    sides={
        "closed form": 1,
        "every support tried": 0,
        "kappa by bisection": by_bisection,
    },
    misses={"always the best response": best_of_gain},
    scale=lambda r, below: (1.0 + np.max(np.abs(r))) / below,
    largest=8,
    most=20,
)

# ---------------------------------------------------------------------------------------------------- sampler-mismatch


def by_tokens(mdp: Any, p_sampler: Any, r: Any, pi: Any, pi_sampler: Any) -> Any:
    ratio = np.where(pi_sampler > 0, pi / np.where(pi_sampler > 0, pi_sampler, 1.0), 0.0)
    update = stale.pulled_tokens(ratio * mdp.subtree_sum(p_sampler * r), pi)
    return np.einsum("xsv,xy->xysv", update, np.eye(len(update)))


claim(
    slug="sampler-mismatch",
    chapter=10,
    text=r"""
    let q = p_sampler; pi_q = pi_sampler; Q_q = E_p_sampler[r | s, a]
    \mathbb{E}_q[\frac{p}{q}\, r\, \mathrm{score}] = \nabla\, \mathbb{E}_p[1[q > 0]\, r]
      not E_q[r*score]  # harmless
      not nabla(E_p[r])  # mended though q cannot say everything
      not E_q[q/p*r*score]  # the ratio upside down
    \mathbb{E}_q[\sum_h \frac{\pi(a_h \mid s_h)}{\pi_q(a_h \mid s_h)}\, r\, \nabla \log\pi(a_h \mid s_h)] = \sum_s q(s) \sum_a 1[q(s + a) >
        0]\, \nabla\pi(a \mid s)\, Q_q(s, a)
        # for a sampler q, pi at another temperature or without unlikely tokens: the ratio of the response mends what q can say, the ratios
        of tokens do not
      not nabla(E_p[1[q > 0]*r])  # ratios of tokens mend it
      not sum_s d_pi(s)*sum_a 1[q(s + a) > 0]*nabla(pi(a|s))*Q_q(s,a)  # the visits of pi
    """,
    source="by enumeration; of the practice, Yao et al. (2025), on inference engines that differ from the trainer.",
    parts=("ratio of the response", "ratios of tokens"),
    sides={
        "gradient, visits": 1,
        "responses of the sampler": 0,
        "gradient core, masses": lambda world, logits, log_p_sampler, mdp, r, pi, log_pi_sampler: (
            mean_slope(world, logits, r * (log_p_sampler > -np.inf)),
            by_tokens(mdp, np.exp(log_p_sampler), r, pi, np.exp(log_pi_sampler)),
        ),
    },
    where=full,
    scale=lambda r, H: (1.0 + np.max(np.abs(r))) * H * 64.0,
    largest=40,
    most=12,
)
