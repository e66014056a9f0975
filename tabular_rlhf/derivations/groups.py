r"""Chapter 7 as derivations, groups: leave one out, and the group mean.

A group is G responses drawn independently from p_pi(. given x) for one prompt x ~ mu.  The updates g
and m are sums over all N^G groups, one by one.
"""

from __future__ import annotations

from tabular_rlhf.derivations.record import derivation
from tabular_rlhf.terms.conditions import few
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
