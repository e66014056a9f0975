r"""Chapter 8 as a derivation: what it does to the variance to sum the exact KL of every state instead of sampling the token's.

Of one prompt: k1 = sum over t of L_t, X = sum over t of KL(s_t), their difference M = sum over t of m_t, m_t = L_t - KL(s_t),
and W(s, a), the KL still to come after a token, a mean.
"""

from __future__ import annotations

from typing import Any

from tabular_rlhf.derivations.record import derivation
from tabular_rlhf.terms.conditions import SMALL
from tabular_rlhf.terms.sizes import gain_scale
from tabular_rlhf.terms.sources import AMINI


def scale(mdp: Any, log_pi: Any, log_pi_ref: Any, log_pi_cut: Any) -> float:
    """The size of a square, at pi and at the cut reference."""
    return max(gain_scale(mdp, log_pi, log_pi_ref), gain_scale(mdp, log_pi_cut, log_pi_ref))


derivation(
    slug="rao-blackwell",
    title="Exact KLs of states: quieter step by step, but NOT always in sum, though it is published so",
    chapter=8,
    rows=("rao-blackwell",),
    source=AMINI,
    scale=scale,
    largest=SMALL,
    text=r"""
    let q = p_cut; W = KL_to_come
    \mathrm{Var}(k_1) - \mathrm{Var}(X), \quad k_1 = \sum_t L_t,\ X = \sum_t \mathrm{KL}(s_t)
        # What is gained, for each prompt, by the exact KL of the tokens in every state that is visited.
    = \mathrm{Var}(M) + 2\, \mathrm{Cov}(M, X), \quad M = k_1 - X = \sum_t m_t,\ m_t = L_t - \mathrm{KL}(s_t)
        # k1 = X + M, and the variance of a sum.
      slip the term 2*Cov[M, X] dropped; 2 dropped
    = \sum_s d_\pi(s)\, \mathrm{Var}_{a \sim \pi(\cdot \mid s)}(L(s, a)) + 2\, \mathrm{Cov}(M, X)
        # In every state m has mean 0, whatever came before: products of two steps vanish, and squares are variances of L.
      slip d_ref for d_pi
    = \sum_s d_\pi(s) \left[ \mathrm{Var}_{a \sim \pi(\cdot \mid s)}(L(s, a)) + 2\, \mathrm{Cov}_{a \sim \pi(\cdot \mid s)}(L(s, a), W(s,
        a)) \right]
        # KLs paid up to s are known before m_t is drawn, and vanish with its mean; those to come have the mean W(s, a). The first term is
        never negative, the second may be: where L is large, less may be left to come.
      not \sum_s d_\pi(s)\, \mathrm{Var}_{a \sim \pi(\cdot \mid s)}(L(s, a))  # each step is quieter, so the sum is
    so \mathrm{Var}_q(X), \quad X = \sum_t \mathrm{KL}(\pi_{cut}(\cdot \mid s_t), \pi_{ref}(\cdot \mid s_t))
        # Does it come to that? Draw from q, p_ref restricted to some responses B and renormalized; pi_cut is its policy.
    = \mathrm{Var}_q(X) - \mathrm{Var}_q(k_1), \quad k_1 = \log\frac{q}{p_{ref}}
        # There k1 = log(q/p_ref) = -log p_ref(B) is constant: it has no variance at all, while X has. Three of four leaves, all even: 0
        against (2/9) log^2 2. And a thousandth on the fourth leaf, full support, leaves 0.034 against 0.101.
      not \min\left( 0, \mathrm{Var}_q(X) - \mathrm{Var}_q(k_1) \right)  # never more variance than k1, as published
    """,
)
