r"""Chapter 8 as a derivation: what it does to the variance to sum the exact KL of every state instead of sampling the token's.

Of one prompt: k1 = sum over t of L_t, X = sum over t of KL(s_t), their difference M = sum over t of m_t, m_t = L_t - KL(s_t),
and W(s), the KL still to come after s, a mean.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.derivations.record import Derivation, Line, add
from tabular_rlhf.ledger.chapter8 import SMALL, variance
from tabular_rlhf.ledger.chapter8_tokens import AMINI, full_table, gain_over_states, gain_over_trajectories, gain_scale
from tabular_rlhf.logspace import expect, log_ratio


def excess(mdp: Any, log_pi: Any, log_pi_ref: Any) -> Any:
    """M = k1 - X of every response, (P, N)."""
    return mdp.path_sum(log_ratio(log_pi, log_pi_ref)) - full_table(mdp, log_pi, log_pi_ref)


def covariance(log_p: Any, x: Any, y: Any) -> Any:
    """Cov(x, y) under log_p, for each prompt."""
    return expect(log_p, x * (y - np.expand_dims(expect(log_p, y), -1)))


def variance_of_sum(mdp: Any, log_pi: Any, log_pi_ref: Any) -> Any:
    """Var(X), for each prompt."""
    return variance(mdp.path_sum(log_pi), full_table(mdp, log_pi, log_pi_ref))


def scale(mdp: Any, log_pi: Any, log_pi_ref: Any, log_pi_cut: Any) -> float:
    """The size of a square, at pi and at the cut reference."""
    return max(gain_scale(mdp, log_pi, log_pi_ref), gain_scale(mdp, log_pi_cut, log_pi_ref))


add(
    Derivation(
        slug="rao-blackwell",
        title="Exact KLs of states: quieter step by step, but NOT always in sum, though it is published so",
        chapter=8,
        rows=("rao-blackwell",),
        source=AMINI,
        scale=scale,
        largest=SMALL,
        lines=(
            Line(
                r"\mathrm{Var}(k_1) - \mathrm{Var}(X), \quad k_1 = \sum_t L_t,\ X = \sum_t \mathrm{KL}(s_t)",
                "What is gained, for each prompt, by the exact KL of the tokens in every state that is visited.",
            ),
            Line(
                r"\mathrm{Var}(M) + 2\, \mathrm{Cov}(M, X), \quad M = k_1 - X = \sum_t m_t,\ m_t = L_t - \mathrm{KL}(s_t)",
                "k1 = X + M, and the variance of a sum.",
                slips=("the term 2*Cov[M, X] dropped", "2 dropped"),
            ),
            Line(
                r"\sum_s d_\pi(s)\, \mathrm{Var}_a(L) + 2\, \mathrm{Cov}(M, X)",
                "In every state m has mean 0, whatever came before: products of two steps vanish, and squares are variances of L.",
                lambda mdp, log_p, log_pi, log_pi_ref, d_pi, L_s: (
                    np.sum(d_pi * variance(log_pi, L_s), axis=1)
                    + 2.0 * covariance(log_p, excess(mdp, log_pi, log_pi_ref), full_table(mdp, log_pi, log_pi_ref))
                ),
                wrong={
                    "d_ref for d_pi": lambda mdp, log_p, log_pi, log_pi_ref, d_ref, L_s: (
                        np.sum(d_ref * variance(log_pi, L_s), axis=1)
                        + 2.0 * covariance(log_p, excess(mdp, log_pi, log_pi_ref), full_table(mdp, log_pi, log_pi_ref))
                    ),
                },
            ),
            Line(
                r"\sum_s d_\pi(s) \left[ \mathrm{Var}_a(L) + 2\, \mathrm{Cov}_a(L, W(s + a)) \right]",
                "KLs paid up to s are known before m_t is drawn, and vanish with its mean; those to come have the mean W(s + a). "
                "The first term is never negative, the second may be: where L is large, less may be left to come.",
                gain_over_states,
                wrong={
                    "each step is quieter, so the sum is": lambda d_pi, log_pi, L_s: np.sum(d_pi * variance(log_pi, L_s), axis=1),
                },
            ),
            Line(
                r"\mathrm{Var}_q(X), \quad q = p_{ref} \text{ cut to a set of responses}",
                "Does it come to that? Draw from q, p_ref restricted to some responses B and renormalized.",
                lambda mdp, log_pi_cut, log_pi_ref: variance_of_sum(mdp, log_pi_cut, log_pi_ref),
                relation="so",
            ),
            Line(
                r"\mathrm{Var}_q(X) - \mathrm{Var}_q(k_1)",
                "There k1 = log(q/p_ref) = -log p_ref(B) is constant: it has no variance at all, while X has. Three of four leaves, all "
                "even: 0 against (2/9) log^2 2. And a thousandth on the fourth leaf, full support, leaves 0.034 against 0.101.",
                lambda mdp, log_pi_cut, log_pi_ref: -gain_over_trajectories(mdp, log_pi_cut, log_pi_ref),
                wrong={
                    "never more variance than k1, as published": lambda mdp, log_pi_cut, log_pi_ref: np.minimum(
                        0.0, -gain_over_trajectories(mdp, log_pi_cut, log_pi_ref)
                    ),
                },
            ),
        ),
    )
)
