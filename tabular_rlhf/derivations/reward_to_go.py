r"""Chapter 7 as derivations, continued: reward to go.

Past rewards have no covariance with later scores, so they may be dropped.  That this *always* lowers the variance is false: the last
lines say exactly what it saves, and the cross term there may be negative.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.derivations.gradients import AFFORDABLE
from tabular_rlhf.derivations.record import derivation


def token_terms(r_token: Any, H: int) -> float:
    """The size of a squared update."""
    return float(1.0 + np.max(np.abs(r_token))) ** 2 * H**3


derivation(
    slug="reward-to-go",
    title="Reward to go: the past may be dropped, which saves variance unless past and future cancel",
    chapter=7,
    rows=("reward-to-go",),
    source="Sutton et al. (2000); Baxter and Bartlett (2001).",
    largest=AFFORDABLE,
    scale=token_terms,
    text=r"""
    \mathbb{E}\left[ \sum_t s_t\, G \right], \quad s_t = \nabla \log \pi(a_t \mid s_t), \quad G = \sum_t r_t
        # Every token earns r_t, and at first each is credited with the whole return G.
      law log_p
    = \mathbb{E}\left[ \sum_t s_t\, \left( B_t + F_t \right) \right], \quad B_t = \sum_{u < t} r_u, \quad F_t = \sum_{u \ge t} r_u
        # Split the return at the token: B_t was earned before it, and F_t is earned from it on.
      law log_p
      slip sign of F(t) flipped
      not \sum_t s_t \left( B_t + \sum_{u > t} r_u \right)  # the token's own reward lost between past and future
    = \sum_x \mu(x) \sum_s d_\pi(s)\, \mathbb{E}[B_t \mid s_t = s] \sum_a \pi(a \mid s)\, \nabla \log \pi(a \mid s) + \mathbb{E}\left[
        \sum_t s_t\, F_t \right]
        # The past is a function of the state: collect the first part by states, as in the policy-gradient theorem.
      not \sum_x \mu(x) \sum_s d_\pi(s)\, \mathbb{E}[B_t \mid s_t = s] \sum_a 1[\pi(a \mid s) > 0]\, \nabla \log \pi(a \mid s) +
        \mathbb{E}\left[ \sum_t s_t\, F_t \right]
        # the next token not weighted by pi
    in expectation \mathbb{E}\left[ \sum_t s_t\, F_t \right]
        # In every state sum over a of pi grad log pi = grad 1 = 0: past rewards have no covariance with later scores.
      law log_p
      slip sign flipped
      not \sum_t s_t\, r_t  # the immediate reward only
      not \sum_t s_t \sum_{u > t} r_u  # G_>t: the token's own reward dropped too
    = \sum_x \mu(x) \sum_s d_\pi(s) \sum_a Q(s, a)\, \nabla \pi(a \mid s), \quad Q(s, a) = \mathbb{E}\left[ F_t \mid s_t = s, a_t = a
        \right]
        # Q(s, a) is the mean of the reward to go: the same theorem, for rewards of tokens.
      slip d_ref for d_pi
    so \mathbb{E}\left[ \left| g - \mathbb{E}[g \mid x] \right|^2 \mid x \right] - \mathbb{E}\left[ \left| f - \mathbb{E}[f \mid x]
        \right|^2 \mid x \right], \quad g = \sum_t s_t\, G, \quad f = \sum_t s_t\, F_t
        # Does it save variance?  For each prompt; the variances of all coordinates of an update, added up.
    = \mathbb{E}\left[ |g|^2 \mid x \right] - \mathbb{E}\left[ |f|^2 \mid x \right]
        # Both updates have the same mean, so their squared means cancel.
      slip arguments of the difference swapped
      not \mathbb{E}\left[ |g - f|^2 \mid x \right]  # the square of the difference for the difference of squares
    = \mathbb{E}\left[ \sum_t |s_t|^2 \left( G^2 - F_t^2 \right) \mid x \right]
        # Tabular logits of different states are different coordinates, so |sum over t|^2 is a sum over t of squares.
      not \mathbb{E}\left[ \sum_t \left( |s_t|\, G^2 - |s_t|^2 F_t^2 \right) \mid x \right]  # |s_t| for |s_t|^2
    = \mathbb{E}\left[ \sum_t |s_t|^2 \left( B_t^2 + 2\, B_t\, F_t \right) \mid x \right]
        # G = B_t + F_t, squared.  Where past and future cancel, the cross term is negative: it costs variance to drop the past.
      slip the term 2*B(t)*F(t) dropped; 2 dropped
    """,
)
