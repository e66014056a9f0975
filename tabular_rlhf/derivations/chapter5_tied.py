r"""Chapter 5 as derivations: imitation by a class too small, its closed form by counts, and the covariate shift that it leaves.

Policies of the class share a row pi(. given c) among all states s of a context c (an n-gram).  n(c, a) is the expected number of
times that p* says a in the context c, d_p*(c) their sum over a; prompts are averaged over mu throughout.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.derivations.record import derivation
from tabular_rlhf.terms.policies import averaged_policy, visited
from tabular_rlhf.terms.sizes import deepest
from tabular_rlhf.terms.sources import CSISZAR

# ---------------------------------------------------------------------------------------------------- m-projection-counts


def state_rows(mu: Any, visits: Any, log_pi_star: Any) -> Any:
    """mu(x) d(s) pi*(a given s), (P, S, V)."""
    return mu[:, None, None] * visits[:, :, None] * np.exp(log_pi_star)


def ratio_of_counts(tied: Any, mu: Any, log_pi_star: Any, d_star: Any) -> Any:
    """The sum over the states of c of E_mu d*(s) pi*(a given s), over the sum of E_mu d*(s); uniform in contexts never visited."""
    rows = np.sum(state_rows(mu, d_star, log_pi_star), axis=0)
    count, total = np.zeros(tied.shape), np.zeros(tied.shape[0])
    np.add.at(count, tied.context, rows)
    np.add.at(total, tied.context, np.sum(mu[:, None] * d_star, axis=0))
    seen = (total > 0)[:, None]
    return np.where(seen, count / np.where(seen, total[:, None], 1.0), 1.0 / tied.shape[1])


def countable(log_p_star: Any, p_star: Any) -> bool:
    """Whether every response that p* can make has a probability that floats can hold: else its tokens are not counted."""
    return bool(np.all((p_star > 0) | np.isneginf(log_p_star)))


def rarely_visited(tied: Any, log_p_star: Any) -> float:
    """The smallest positive n(c)."""
    seen = visited(tied, log_p_star)
    return float(np.min(seen, initial=1.0, where=seen > 0))


derivation(
    slug="m-projection-counts",
    formerly=("m-projection",),
    title="Imitation by a tied class: the M-projection is a ratio of counts",
    chapter=5,
    rows=("m-projection-counts",),
    source="Maximum likelihood of a multinomial; " + CSISZAR,
    where=lambda tied, log_p_star, p_star: countable(log_p_star, p_star) and rarely_visited(tied, log_p_star) > 1e-9,
    scale=lambda mdp, tied, log_p_star, log_p_tied: mdp.H * deepest(log_p_star, log_p_tied) / rarely_visited(tied, log_p_star),
    named={
        "ratio_of_counts": ratio_of_counts,
        "states_averaged_without_visits": lambda tied, mu, log_pi_star, d_ref: averaged_policy(tied, mu, log_pi_star, np.ones_like(d_ref)),
        "unconditional_for_conditional": lambda n_star: n_star,
    },
    text=r"""
    let p = p_tied; p_pi_hat = p_hat; pi = pi_tied; n = n_star; theta = theta_tied; c = context
    \mathbb{E}_\mu\, \mathrm{KL}(p^*, p_\pi) = \mathbb{E}_\mu \sum_\tau p^*(\tau) \left( \log p^*(\tau) - \log p_\pi(\tau) \right)
        # The forward KL of a policy of the class, whose states share a row pi(. given c) in each context c; mu averages the prompts.
    up to a constant -\mathbb{E}_\mu \sum_\tau p^*(\tau) \log p_\pi(\tau)  # The entropy of p* does not mention pi.
      of theta_tied
      slip sign flipped
      not -E_{mu}[sum_{tau} log(p_star(tau))*p(tau)]  # reverse for forward KL
    = -\mathbb{E}_\mu \sum_\tau p^*(\tau) \sum_h \log \pi(a_h \mid s_h)
        # p_pi is a product over tokens, so its logarithm is a sum; pi(a given s) is the row of the context of s.
      not -E_{mu}[sum_tau p_star(tau)*(sum_h log(pi(a_h | s_h)))/lengths(tau)]  # the mean over tokens for their sum
    = -\mathbb{E}_\mu \sum_s d_{p^*}(s) \sum_a \pi^*(a \mid s) \log \pi(a \mid s)
        # Exchange the sums: the p* of all responses through s and then a adds up to d_p*(s) pi*(a given s).
      slip d_ref for d_star
      not -E_{mu}[sum_s p(s)*(sum_a pi_star(a | s)*log(pi(a | s)))]  # the policy's own visits for those of p*
      not -E_{mu}[sum_s sum_a pi_star(a | s)*log(pi(a | s))]  # states not weighed by visits
    = -\sum_c \sum_a n(c, a) \log \pi(a \mid c)
        # All states of a context share a row, so their weights add up: n(c, a) is the sum over s in c of E_mu d_p*(s) pi*(a given s).
      not -(sum_c sum_a pi_hat(a | c)*log(pi(a | c)))  # conditional for joint: n(c, a)/n(c)
    so -\frac{\partial}{\partial \theta(c, a)} \mathbb{E}_\mu \sum_\tau p^*(\tau) \log p_\pi(\tau)
        # To find the minimizer, move one logit of pi(. given c), the softmax of theta(c, .); by the gradient core, from line 2.
    = -\sum_{a'} n(c, a') \left( 1[a' = a] - \pi(a \mid c) \right)
        # Raising theta(c, a) raises log pi(a given c) by 1 - pi(a given c) and lowers every other log pi(a' given c) by pi(a given c).
      slip sign flipped
      not -n(c, a)  # the normalizer forgotten
    = d_{p^*}(c)\, \pi(a \mid c) - n(c, a)  # The n(c, a') of one context add up to d_p*(c), how often p* comes to it.
      not pi(a | c) - n(c, a)  # the visits forgotten
    so -\frac{\partial}{\partial \hat\theta(c, a)} \mathbb{E}_\mu \sum_\tau p^*(\tau) \log p_{\hat\pi}(\tau)
        # The same slope, by the gradient core, at the policy of the counts, pi_hat: d_p*(c) times it is n(c, a).
    = 0  # It vanishes; and line 2 is convex in the logits, so nothing else is a minimum (contexts that p* never visits are free).
      not d_star(c)*pi(a | c) - n(c, a)  # the slope of a policy that is not of the counts
    so \frac{n(c, a)}{d_{p^*}(c)} = \hat\pi(a \mid c)  # Its rows: line 8 is 0, solved.
    = \frac{\sum_{s:\, c(s) = c} \mathbb{E}_\mu[d_{p^*}(s)\, \pi^*(a \mid s)]}{\sum_{s:\, c(s) = c} \mathbb{E}_\mu[d_{p^*}(s)]}
        # Put in what the counts are: rows of pi*, averaged over the states of the context with the visits of p*.
      value @ratio_of_counts
      not \frac{\sum_{s:\, c(s) = c} \mathbb{E}_\mu[d_{ref}(s)\, \pi^*(a \mid s)]}{\sum_{s:\, c(s) = c} \mathbb{E}_\mu[d_{ref}(s)]}
        # d_ref for d_p*
      not @states_averaged_without_visits  # states averaged without visits
      not @unconditional_for_conditional  # unconditional for conditional
    """,
)
# ---------------------------------------------------------------------------------------------------- m-projection-gap


derivation(
    slug="m-projection-gap",
    title="How far a policy lags behind the projection is weighed by the visits of p*: covariate shift",
    chapter=5,
    rows=("m-projection-gap",),
    source=CSISZAR,
    where=lambda log_p_star, p_star: countable(log_p_star, p_star),
    scale=lambda mdp, log_p_star, log_p_hat, log_p_tied: mdp.H * deepest(log_p_star, log_p_hat, log_p_tied),
    text=r"""
    let p_pi_hat = p_hat; p = p_tied; pi = pi_tied; n = n_star; d_pi_hat = d_hat
    \mathbb{E}_\mu \left[ \mathrm{KL}(p^*, p_\pi) - \mathrm{KL}(p^*, p_{\hat\pi}) \right]
        # pi is any policy of the tied class, and pi_hat that of the counts, as in m-projection-counts.
    = \mathbb{E}_\mu \sum_\tau p^*(\tau) \log\frac{p_{\hat\pi}(\tau)}{p_\pi(\tau)}
        # Both are averages under p*, and its own logarithm cancels.
      slip p_pi_hat(tau)/p(tau) inverted
      not E_{mu}[KL(p_hat, p)]  # averaged under the projection, not under p*
    = \mathbb{E}_\mu \sum_s d_{p^*}(s) \sum_a \pi^*(a \mid s) \log\frac{\hat\pi(a \mid s)}{\pi(a \mid s)}
        # Logarithms of products are sums over tokens; all responses through s and then a carry d_p*(s) pi*(a given s) together.
      slip d_ref for d_star
      not E_{mu}[sum_s d_hat(s)*(sum_a pi_star(a | s)*log(pi_hat(a | s)/pi(a | s)))]  # the projection's own visits for those of p*
    = \sum_c \sum_a n(c, a) \log\frac{\hat\pi(a \mid c)}{\pi(a \mid c)}
        # States of one context share both rows; their weights add up to the count n(c, a).
      not sum_c sum_a d_star(c)*1[pi_hat(a | c) > 0]*log(pi_hat(a | c)/pi(a | c))  # a count of contexts alone: n(c) for n(c, a)
    = \sum_c d_{p^*}(c) \sum_a \hat\pi(a \mid c) \log\frac{\hat\pi(a \mid c)}{\pi(a \mid c)}
        # n(c, a) = d_p*(c) pi_hat(a given c), where d_p*(c) is the sum over the states of c of E_mu d_p*(s): that pi_hat is the policy of
        the counts is used here, and only here.
      not sum_c d_star(c)*(sum_a pi(a | c)*1[pi_hat(a | c) > 0]*log(pi_hat(a | c)/pi(a | c)))  # rows of pi for rows of pi_hat
    = \sum_c d_{p^*}(c)\, \mathrm{KL}(\hat\pi(\cdot \mid c), \pi(\cdot \mid c))
        # The inner sum is a KL of rows, weighed by the visits of the target.
      slip arguments of KL swapped
      not E_{mu}[sum_s p(s)*KL(\hat\pi(\cdot | s), \pi(\cdot | s))]  # the policy's own visits
    so \mathbb{E}_\mu\, \mathrm{KL}(p_{\hat\pi}, p_\pi)
        # Pythagoras would have this in its place: the divergence between the two policies themselves.
    = \sum_c d_{\hat\pi}(c)\, \mathrm{KL}(\hat\pi(\cdot \mid c), \pi(\cdot \mid c))
        # The chain rule of KL: the same rows, but at the states that the first of the two laws visits.
      not sum_c d_star(c)*KL(\hat\pi(\cdot | c), \pi(\cdot | c))  # the visits of p*: Pythagoras
      not E_{mu}[sum_s p(s)*KL(\hat\pi(\cdot | s), \pi(\cdot | s))]  # the visits of the second law
    so \mathbb{E}_\mu \left[ \mathrm{KL}(p^*, p_\pi) - \mathrm{KL}(p^*, p_{\hat\pi}) - \mathrm{KL}(p_{\hat\pi}, p_\pi) \right]
        # So Pythagoras misses by the difference of lines 6 and 8.
    = \sum_c \left( d_{p^*}(c) - d_{\hat\pi}(c) \right) \mathrm{KL}(\hat\pi(\cdot \mid c), \pi(\cdot \mid c))
        # Rows that are wrong where p* goes but the policy does not, or the reverse: 0 if both visit contexts equally often.
      slip arguments of the difference swapped
      not 0  # Pythagoras without defect
    """,
)
