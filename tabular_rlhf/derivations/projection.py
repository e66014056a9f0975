r"""Chapter 4 as a derivation: the KL-regularized objective is a reverse-KL projection, in whatever policy class one has.

p_theta is the law of a policy whose parameters theta several states share (an n-gram), so that it can seldom be p*.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.derivations.optimum import mild
from tabular_rlhf.derivations.record import derivation
from tabular_rlhf.terms.sizes import reward_units
from tabular_rlhf.terms.sources import KORBAK

# ---------------------------------------------------------------------------------------------------- reverse-kl-projection


def terms(r: Any, beta: float, log_p_tied: Any, log_p_ref: Any, log_p_star: Any) -> float:
    """The size of a term of the KL or of J, with what a gradient adds up along a response."""
    return 4 * max(reward_units(r, beta, log_q, log_p_ref) for log_q in (log_p_tied, log_p_star))


derivation(
    slug="reverse-kl-projection",
    title="KL-regularized RL is a reverse-KL projection onto the policies one has",
    chapter=4,
    rows=("reverse-kl-projection", "regret-is-kl"),
    source=KORBAK,
    where=lambda log_p_ref, r, beta: mild(log_p_ref, r, beta) and np.ptp(r) / beta < 6,
    largest=24,
    scale=terms,
    text=r"""
    let p_theta = p_tied; J = E_mu[E_{p_tied}[r] - beta*KL(p_tied, p_ref)]
    \beta\, \mathbb{E}_\mu\left[ \mathrm{KL}(p_\theta, p^*) \right]
        # The policy has parameters theta that several states share, a class that need not hold p*. The policy comes first: reverse.
      of theta_tied
    = \beta\, \mathbb{E}_\mu \mathbb{E}_{p_\theta}\left[ \log p_\theta - \log p^* \right]  # A KL is a mean under its first argument.
      of theta_tied
      slip the term log(p_theta) dropped
      not beta*E_{mu}[E_{p_star}[log(p_star) - log(p_theta)]]  # the mean under p*: forward KL
    = \beta\, \mathbb{E}_\mu \mathbb{E}_{p_\theta}\left[ \log p_\theta - \log p_{ref} - \frac{r}{\beta} + \log Z \right]
        # Put p* = p_ref exp(r/beta)/Z in; the minus sign turns all three of its logarithms.
      of theta_tied
      slip sign of log(Z) flipped; the term log(p_ref) dropped
      not beta*E_{mu}[E_{p_theta}[log(p_theta) - log(p_ref) - r + log(Z)]]  # r for r/beta
    = \beta\, \mathbb{E}_\mu\left[ \mathrm{KL}(p_\theta, p_{ref}) \right] - \mathbb{E}_\mu \mathbb{E}_{p_\theta}[r] + \beta\,
        \mathbb{E}_\mu[\log Z(x)]
        # Split the mean in three; log Z(x) is the same for every response to x.
      of theta_tied
      slip log taken out of the mean
      not beta*E_{mu}[KL(p_theta, p_ref)] - beta*E_{mu}[E_{p_theta}[r]] + beta*E_{mu}[log(Z(x))]  # beta left on the reward
    up to a constant \beta\, \mathbb{E}_\mu\left[ \mathrm{KL}(p_\theta, p_{ref}) \right] - \mathbb{E}_\mu \mathbb{E}_{p_\theta}[r] =
        -J(\theta)
        # Z is made of p_ref, r and beta alone: a constant in theta.
      of theta_tied
      slip sign flipped
      not -E_{mu}[E_{p_theta}[r]]  # the KL term taken for a constant too
    so \beta\, \mathbb{E}_\mu\left[ \mathrm{KL}(p_\theta, p^*) \right]  # So for a gradient method: where we began,
      of theta_tied
    same gradient -J(\theta)
        # has at every theta the gradient of -J, because a constant has none: the same steps, though p* is never computed.
      of theta_tied
      not beta*E_{mu}[KL(p_star, p_theta)]  # forward for reverse KL
      not E_{mu}[KL(p_theta, p_star)]  # beta dropped
      not beta*E_{mu}[sum_s d_ref(s)*KL(pi_tied(\cdot | s), pi_star(\cdot | s))]  # each state's KL at the reference's visits
    so -\mathbb{E}_\mu\left[ \mathrm{KL}(p_\theta, p^*) \right]
        # And for the best of the class: the nearest to p* (beta > 0 is a scale and may go)
      of theta_tied
    same maximizer J(\theta)  # is the best by the objective, whether or not the class holds p* itself.
      of theta_tied
      not E_{mu}[E_{p_star}[log(p_theta)]]  # the class made likeliest under p*: forward KL
      not E_{mu}[E_{p_theta}[r] - 2*beta*KL(p_theta, p_ref)]  # twice the KL weight
    """,
)
