r"""Chapter 7 as derivations: groups: leave one out, and the group mean. The weight that GRPO gives to every prompt, and what it ascends
when groups are large.

A group is G responses drawn independently from p_pi(. given x) for one prompt x ~ mu.  The updates g
and m are sums over all N^G groups, one by one.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tabular_rlhf.derivations.record import derivation
from tabular_rlhf.terms.conditions import few
from tabular_rlhf.terms.policies import success_probability
from tabular_rlhf.terms.sizes import update_size

# ---------------------------------------------------------------------------------------------------- rloo

derivation(
    slug="rloo",
    title="Leave one out is unbiased, the group mean gives (G - 1)/G",
    chapter=7,
    rows=("rloo", "group-identities"),
    source="Kool, van Hoof and Welling (2019); Ahmadian et al. (2024), arXiv:2402.14740.",
    where=few,
    scale=update_size,
    largest=40,
    setting={"pairs": "p"},
    text=r"""
    let r = graded; g = sum_tau graded_rloo_pull(tau)*score(tau); m = sum_tau graded_centered_pull(tau)*score(tau)
    \mathbb{E}_\mu[g]
        # RLOO's update g, the mean of (1/G) sum of (r_i - mean of the others) s_i over all groups, one by one: each response of a group is
        compared with the mean reward of the others.
    = \mathbb{E}_i[r_i\, s_i] - \frac{1}{G-1} (G - 1)\, \mathbb{E}_{i, j}[r_j\, s_i], \quad s(\tau) = \nabla \log p_\pi(\tau)
        # All members of a group are alike, so the mean over i is that of any one; and a mean is linear. The others are G - 1, each drawn by
        itself: j with i a pair of draws.
      not G \left( \mathbb{E}_i[r_i\, s_i] - \mathbb{E}_{i, j}[r_j\, s_i] \right)  # sum for mean over the group
      not \mathbb{E}_i[r_i\, s_i] - \frac{1}{G} \left( \mathbb{E}_i[r_i\, s_i] + (G - 1)\, \mathbb{E}_{i, j}[r_j\, s_i] \right)
        # its own reward left in the mean of the others
    = \mathbb{E}\left[ r\, s(\tau) \right] - \sum_x \mu(x)\, \mathbb{E}\left[ r \mid x \right] \mathbb{E}\left[ s(\tau) \mid x \right]
        # Given the prompt, r_j and s_1 are independent for j not 1: the mean of their product is the product of their means.
      not \mathbb{E}\left[ r\, s(\tau) \right] - \mathbb{E}\left[ r\, s(\tau) \right]  # the other rewards taken for the same as its own
      not 2\, \mathbb{E}\left[ r\, s(\tau) \right] + \sum_x \mu(x)\, \mathbb{E}\left[ r \mid x \right] \mathbb{E}\left[ s(\tau) \mid x
        \right]
        # added
    in expectation \mathbb{E}\left[ r\, s(\tau) \right]  # E[s given x] = 0, for every prompt: the mean of the others is a free baseline.
      law log_p
      slip sign flipped
      not \frac{G-1}{G}\, r\, s(\tau)  # (G - 1)/G of it: the group mean's factor
    = \nabla\, \mathbb{E}[r]  # The policy gradient, by the gradient core: RLOO is unbiased.
      not G\, \nabla\, \mathbb{E}[r]  # sum over the group
    so \mathbb{E}_\mu[m]  # Now the update m with the group mean, which each response is itself a part of; again over all groups.
    = \mathbb{E}_i[r_i\, s_i] - \frac{1}{G} \left( \mathbb{E}_i[r_i\, s_i] + (G - 1)\, \mathbb{E}_{i, j}[r_j\, s_i] \right)
        # The members are alike, a mean is linear.
      not \mathbb{E}_i[r_i\, s_i] - \frac{1}{G - 1} \left( \mathbb{E}_i[r_i\, s_i] + (G - 1)\, \mathbb{E}_{i, j}[r_j\, s_i] \right)
        # divided by G - 1
    = \mathbb{E}\left[ r\, s(\tau) \right] - \frac{1}{G}\, \mathbb{E}\left[ r\, s(\tau) \right]
        # The terms of the others vanish as before; that of its own reward stays.
      not \mathbb{E}\left[ r\, s(\tau) \right]  # its own reward forgotten: unbiased
      not \frac{1}{G (G + 1)}\, \mathbb{E}\left[ r\, s(\tau) \right]  # only its own reward kept
    = \frac{G-1}{G}\, \nabla\, \mathbb{E}[r]  # The right direction, a little short; the group mean is RLOO's advantage times (G - 1)/G.
      slip (G - 1)/G inverted
      not G/(G + 1)*nabla(E[r])  # n for n - 1
    """,
)

# ---------------------------------------------------------------------------------------------------- c_G(q)


def chances(q: Any, G: int) -> Any:
    """P(m successes among the G - 1 others), m = 0 to G - 1: (P, G).  In logarithms, so that G may be large."""
    m = np.arange(G)
    ways = np.array([math.lgamma(G) - math.lgamma(k + 1) - math.lgamma(G - k) for k in m])
    logs = ways + m * np.log(q)[:, None] + (G - 1 - m) * np.log1p(-q)[:, None]
    return np.where(logs > -600.0, np.exp(np.maximum(logs, -600.0)), 0.0)


def advantage(mine: float, k: Any, G: int, ddof: int = 0) -> Any:
    """(mine - k/G)/s in a group with k successes, s^2 = G/(G - ddof) k/G (1 - k/G); 0 where all are equal."""
    spread = np.sqrt(k / G * (1.0 - k / G) * G / (G - ddof))
    return np.where(spread > 0, mine - k / G, 0.0) / np.where(spread > 0, spread, 1.0)


def by_binomial(q: Any, G: int, ddof: int = 0) -> Any:
    """sum over m of P(m) (A of a success with m others - A of a failure with m others): (P,)."""
    m = np.arange(G)
    return np.sum(chances(q, G) * (advantage(1.0, m + 1, G, ddof) - advantage(0.0, m, G, ddof)), axis=1)


def by_roots(q: Any, G: int) -> Any:
    """The same with A written out: sqrt((G - k)/k) for a success, -sqrt(k/(G - k)) for a failure."""
    m = np.arange(G)
    return np.sum(chances(q, G) * (np.sqrt((G - 1 - m) / (m + 1)) + np.sqrt(m / (G - m))), axis=1)


def some_of_both(p: Any, success: Any) -> bool:
    """Every prompt has successes and failures."""
    q = success_probability(p, success)
    return bool(np.all((q > 0.02) & (q < 0.98)))


derivation(
    slug="grpo",
    formerly=("grpo-weight",),
    title="The weight that GRPO gives to a prompt (0/1 rewards, success neither sure nor hopeless)",
    chapter=7,
    rows=("grpo",),
    source="Shao et al. (2024), arXiv:2402.03300.",
    where=lambda P, N, G, p, success: few(P, N, G) and some_of_both(p, success),
    scale=update_size,
    largest=40,
    named={
        "line_6": lambda p, success, G: by_roots(success_probability(p, success), G),
    },
    text=r"""
    let r = success; g = sum_tau grpo_pull(tau)*score(tau); c = credit_right; c' = credit_wrong
    \mathbb{E}_\mu[g]
        # Rewards 0 or 1. g is the mean of (1/G) sum of A_i s_i over all groups, A_i = (r_i - mean)/std, s_i the score of response i; std
        divides by G (ddof 0), and a group whose rewards are all equal gets 0.
    = \sum_x \mu(x) \left( c(x)\, \mathbb{E}\left[ r\, s \mid x \right] + c'(x)\, \mathbb{E}\left[ (1-r)\, s \mid x \right] \right), \quad s
        = \nabla \log p_\pi
        # The members are alike.  Given its own reward, A_1 depends on the others only, which are independent of s_1: c is the mean of A_1
        given r_1 = 1, c' that given r_1 = 0.
      not \sum_x \mu(x)\, c(x)\, \mathbb{E}\left[ r\, s \mid x \right]  # failures forgotten: only successes push
      not \sqrt{\frac{G-1}{G}} \sum_x \mu(x) \left( c(x)\, \mathbb{E}\left[ r\, s \mid x \right] + c'(x)\, \mathbb{E}\left[ (1-r)\, s \mid x
        \right] \right)
        # n - 1 for n in the standard deviation
    = \sum_x \mu(x) \left( c(x) - c'(x) \right) \nabla q(x), \quad q(x) = \mathbb{E}[r \mid x]
        # E[r s] is the gradient of q, and E[(1 - r) s] that of 1 - q.  So GRPO follows grad q with a weight c_G = c - c'.
      slip sign of c'(x) flipped
      not 2 \sum_x \mu(x) \left( c(x) - c'(x) \right)^2 \nabla q(x)  # twice the weight squared
    so c - c'  # The weight c_G of each prompt, over all groups.
    = \sum_{m=0}^{G-2} B(m)\, \frac{1 - (m+1)/G}{\omega(m+1)} - \sum_{m=1}^{G-1} B(m)\, \frac{0 - m/G}{\omega(m)}, \quad B(m) =
        \binom{G-1}{m} q^m (1-q)^{G-1-m}, \quad \omega(k) = \sqrt{\frac{k}{G} \left( 1 - \frac{k}{G} \right)}
        # m of the G - 1 others succeed; with one's own the group has m + 1 or m successes. omega is its standard deviation; where it is 0,
        so is the advantage.
      not \sqrt{\frac{G-1}{G}} \left( \sum_{m=0}^{G-2} B(m)\, \frac{1 - (m+1)/G}{\omega(m+1)} - \sum_{m=1}^{G-1} B(m)\, \frac{0 -
        m/G}{\omega(m)} \right)
        # n - 1 for n: the sample's standard deviation
      not \sum_{m=1}^{G-1} B(m) \left( \frac{1 - m/G}{\omega(m)} - \frac{0 - m/G}{\omega(m)} \right)
        # one's own success not counted in the mean
      not \frac{1}{1 - q^G - (1-q)^G} \left( \sum_{m=0}^{G-2} B(m)\, \frac{1 - (m+1)/G}{\omega(m+1)} - \sum_{m=1}^{G-1} B(m)\, \frac{0 -
        m/G}{\omega(m)} \right)
        # all-equal groups drawn again: conditional for unconditional
    = \sum_{m=0}^{G-1} B(m) \left( \sqrt{\frac{G-1-m}{m+1}} + \sqrt{\frac{m}{G-m}} \right)
        # With k successes a success gets (1 - k/G)/sigma_k = sqrt((G-k)/k), and a failure -sqrt(k/(G-k)).
      value @line_6
      not \sum_{m=0}^{G-1} B(m) \left( \frac{G-1-m}{m+1} + \frac{m}{G-m} \right)  # the odds for their square roots
      not \sum_{m=0}^{G-1} B(m) \left( \sqrt{\frac{m+1}{G-m}} + \sqrt{\frac{m}{G-m}} \right)  # upside down where it can be
    in the limit \sqrt{\frac{1-q}{q}} + \sqrt{\frac{q}{1-q}}
        # As G grows, the share m/G of successes settles at q: the law of large numbers.
      error 0.02
      along G 16 256 4096
      slip the term sqrt(q/(1 - q)) dropped
      not 1  # the limit of the gradient itself: 1
    = \frac{1}{\sqrt{q(1-q)}}  # Over a common denominator: ((1 - q) + q)/sqrt(q (1 - q)).
      slip sqrt dropped; 1/sqrt(q*(1 - q)) inverted
    = 2\, \frac{d}{dq} \arcsin\sqrt{q}  # So with large groups GRPO ascends the mean of 2 arcsin sqrt q over prompts, not that of q.
      slip 2 dropped
    so c_2 = \sum_{m=0}^{1} q^m (1-q)^{1-m} \left( \sqrt{\frac{1-m}{m+1}} + \sqrt{\frac{m}{2-m}} \right)  # The smallest group, G = 2.
    = (1 - q) \cdot 1 + q \cdot 1  # Two that differ get +1 and -1; two that agree get 0.
      slip 2 for 1
      not \frac{1}{\sqrt 2}  # ddof 1: divided by sqrt 2 more
    = 1  # So with G = 2 GRPO is the policy gradient itself: standardizing changes nothing on average.
      slip 0.5 for 1
    """,
)
