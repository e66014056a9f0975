r"""Chapter 4 as derivations: the Gibbs optimum by the Lagrangian, its value, and what every other policy gives away. The KL-regularized
objective is a reverse-KL projection, in whatever policy class one has.

p_theta is the law of a policy whose parameters theta several states share (an n-gram), so that it can seldom be p*.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.derivations.record import derivation
from tabular_rlhf.terms.sizes import reward_units
from tabular_rlhf.terms.sources import KORBAK


def terms_of_J(r: Any, beta: float, log_p: Any, log_p_ref: Any, log_p_star: Any) -> float:
    """The size of a term of J, at the drawn policy and at the optimum."""
    return max(reward_units(r, beta, log_q, log_p_ref) for log_q in (log_p, log_p_star))


def full_support(log_p_ref: Any) -> bool:
    """Every response is possible under the reference."""
    return not np.isneginf(log_p_ref).any()


def mild(log_p_ref: Any, r: Any, beta: float) -> bool:
    """Full support, and a tilt that floats hold without logarithms."""
    return full_support(log_p_ref) and bool(np.max(np.abs(r)) / beta < 80 and np.min(log_p_ref) > -300)


# ---------------------------------------------------------------------------------------------------- gibbs-optimum

derivation(
    slug="gibbs-optimum",
    title="The Gibbs optimum by the Lagrangian",
    chapter=4,
    rows=("gibbs-optimum", "lagrange-multiplier"),
    source=KORBAK,
    where=full_support,
    scale=terms_of_J,
    text=r"""
    let lambda = beta*(1 - log(Z))
    \frac{\partial}{\partial p(\tau)} \sum_{\tau'} p(\tau') \left( r(\tau') - \beta \log\frac{p(\tau')}{p_{ref}(\tau')} \right)
        # The slope of the objective in the probability of one response, where none is 0, by the gradient core.
    = r(\tau) - \beta \log\frac{p(\tau)}{p_{ref}(\tau)} - \beta\, p(\tau) \cdot \frac{1}{p(\tau)}
        # Only the term of tau moves; the product rule differentiates p and then log p.
      slip the term beta*p(tau)*(1/p(tau)) dropped
      not r(tau) + beta*log(p(tau)/p_ref(tau)) + beta*p(tau)*(1/p(tau))  # sign of the KL term
    = r(\tau) - \beta \log\frac{p(\tau)}{p_{ref}(\tau)} - \beta  # p times 1/p is 1.
      not r(tau) - beta*log(p(tau)/p_ref(tau)) - 1  # beta dropped from the constant
    so r(\tau) - \beta \log\frac{p^*(\tau)}{p_{ref}(\tau)} - \beta + \lambda
        # The sum of p is held at 1 by a multiplier lambda, one for each prompt.
    = 0  # At the optimum the slope of the Lagrangian vanishes for every response: p > 0 is never in the way.
    so p^*(\tau)  # Line 5, solved for p:
    = p_{ref}(\tau)\, e^{r(\tau)/\beta}\, e^{\lambda/\beta - 1}  # Divide by beta and exponentiate.
      slip p_ref(tau) dropped
      not p_ref(tau)*exp(r(tau))*exp(beta*(lambda/beta - 1))  # not divided by beta
    so \lambda  # Which lambda? The one with which p* sums to 1.
    = \beta\,(1 - \log Z), \quad Z = \sum_\tau p_{ref}(\tau)\, e^{r(\tau)/\beta}
        # Summed over tau the line above is 1 = Z exp(lambda/beta - 1).
      slip beta dropped; arguments of the difference swapped
    so p^*(\tau)  # Put lambda back.
    = \frac{p_{ref}(\tau)\, e^{r(\tau)/\beta}}{Z}  # exp(lambda/beta - 1) is 1/Z.
      slip Z dropped; beta squared
      not p_ref(tau)*exp(r(tau)/beta)/E_{mu}[Z]  # one Z for all prompts
    """,
)

# ---------------------------------------------------------------------------------------------------- regret-is-kl

derivation(
    slug="regret-is-kl",
    title="What a policy gives away is its distance to the optimum",
    chapter=4,
    rows=("regret-is-kl", "optimal-value"),
    source=KORBAK,
    scale=terms_of_J,
    text=r"""
    J_x(p) = \mathbb{E}_p[r] - \beta\,\mathrm{KL}(p, p_{ref})  # The objective, for each prompt.
    = \mathbb{E}_p\!\left[ r - \beta \log\frac{p}{p_{ref}} \right]  # KL is itself a mean under p.
      slip sign of beta*log(p/p_ref) flipped
      not E_{p}[r] - beta*E_{p_ref}[log(p/p_ref)]  # the log-ratio averaged under p_ref
    = \mathbb{E}_p\!\left[ \beta \log\frac{Z\, p^*}{p_{ref}} - \beta \log\frac{p}{p_{ref}} \right]
        # Read p* = p_ref exp(r/beta)/Z backwards: r = beta log(Z p*/p_ref).
      slip Z dropped; beta dropped
    = \beta \log Z - \beta\, \mathbb{E}_p\!\left[ \log\frac{p}{p^*} \right]  # p_ref cancels, and Z does not depend on the response.
      slip sign of beta*E_{p}[log(p/p_star)] flipped
    = \beta \log Z - \beta\,\mathrm{KL}(p, p^*)  # That mean is the reverse KL.
      slip arguments of KL swapped
      not beta*log(Z) - KL(p, p_star)  # beta dropped
    <= \beta \log Z  # KL is never negative, and is 0 only at p = p*.
      not E_{p_ref}[r]  # the value of p_ref, E_ref[r]
    """,
)

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
