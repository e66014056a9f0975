r"""Chapter 8 as derivations, continued: a KL added up token by token, and a KL measured on other people's samples.

L_t = log(pi/pi_ref) of the token taken in s_t, so that L = sum of L_t; E averages over prompts x ~ mu and responses tau ~ p_pi.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.derivations.chapter8_gradients import AFFORDABLE
from tabular_rlhf.derivations.record import derivation
from tabular_rlhf.logspace import expect, log_ratio
from tabular_rlhf.terms.sizes import term_scale
from tabular_rlhf.terms.sources import TANG

# ---------------------------------------------------------------------------------------------------- token-vs-sequence


def token_scale(log_p: Any, L: Any, L_s: Any, log_pi: Any) -> float:
    """The size of a term: of the whole response, and of all states together."""
    return term_scale(log_p, L)[0] + float(np.max(L_s.shape[1] * expect(log_pi, 1.0 + np.abs(L_s) + np.exp(-L_s))))


derivation(
    slug="token-vs-sequence",
    title="KL token by token: the sum of the tokens' k3 is unbiased, the gradient of their k2 is not that of the sequence",
    chapter=8,
    rows=("token-vs-sequence",),
    source="Tang and Munos (2025), arXiv:2506.09477; Cover and Thomas (2006), theorem 2.5.3 (the chain rule).",
    largest=AFFORDABLE,
    scale=token_scale,
    averaged=True,
    text=r"""
    let k_3(z) = exp(-z) - 1 + z
    \mathrm{KL}(p_\pi, p_{ref})  # The KL of whole responses, averaged over prompts.
    in expectation \mathbb{E}\left[ \sum_t L_t \right]  # The log-probability of a response is the sum of those of its tokens, EOS counted.
      law log_p
      slip sign flipped
      not \frac{1}{|\tau|} \sum_t L_t  # the mean over tokens where the sum was due
    = \sum_x \mu(x) \sum_s d_\pi(s) \sum_a \pi(a \mid s)\, L(s, a)
        # Collect the tokens by state: p_pi passes (s, a) with probability d_pi(s) pi(a given s).
      slip d_ref for d_pi; d_pi(s) dropped; pi_ref for pi
    = \sum_x \mu(x) \sum_s d_\pi(s) \sum_a \pi(a \mid s) \left( e^{-L(s, a)} - 1 + L(s, a) \right)
        # In every state the mean of exp(-L) = pi_ref/pi is 1, because pi can say whatever pi_ref can.
      slip sign of the exponent flipped
      not \sum_x \mu(x) \sum_s d_\pi(s) \sum_a \pi(a \mid s) \frac{L(s, a)^2}{2}  # k2's square
    in expectation \mathbb{E}\left[ \sum_t k_3(L_t) \right]
        # Back from states to responses.  So adding up the tokens' k3 estimates the KL of the sequence without bias.
      law log_p
      not \frac{1}{|\tau|} \sum_t k_3(L_t)  # the mean over tokens
      not \sum_t \frac{L_t^2}{2}  # k2 for k3
    so \nabla\, \mathrm{KL}(p_\pi, p_{ref})  # Its gradient, by the gradient core.
    = \sum_x \mu(x) \sum_s \left( \nabla d_\pi(s) \right) \mathrm{KL}(s) + \sum_x \mu(x) \sum_s d_\pi(s)\, \nabla\, \mathrm{KL}(s)
        # KL(s) is that of the tokens in s: the chain rule of KL, and then the product rule, because visits move too.
      slip d_ref for d_pi; the term sum_{x} mu(x)*sum_{s} d_pi(s)*nabla(KL(s)) dropped
      not \sum_x \mu(x) \sum_s \nabla d_\pi(s)\, \mathrm{KL}(s) + \sum_x \mu(x) \sum_s d_{ref}(s)\, \nabla\, \mathrm{KL}(s)
        # d_ref for d_pi in the second part
    so \mathbb{E}\left[ \nabla \sum_t \frac{L_t^2}{2} \right]  # And what the tokens' k2 in the loss descends:
      law log_p
    in expectation \mathbb{E}\left[ \sum_t L_t\, \nabla \log \pi(a_t \mid s_t) \right]
        # The chain rule, token by token: no token's L multiplies another token's score.
      law log_p
      slip the mean of a product split; a factor 1/2 too many
    = \sum_x \mu(x) \sum_s d_\pi(s) \sum_a \pi(a \mid s)\, L(s, a)\, \nabla \log \pi(a \mid s)  # Collected by states.
      slip d_pi(s) dropped; d_ref for d_pi
    = \sum_x \mu(x) \sum_s d_\pi(s)\, \nabla\, \mathrm{KL}(s)
        # In one state that is grad KL(s), by kl-gradients.  Only the second part of the gradient: the visits are not moved.
      slip nabla taken out of the sum; d_pi(s) dropped
    """,
)

# ---------------------------------------------------------------------------------------------------- importance-ratio


def off_scale(log_p: Any, log_p_2: Any, L: Any) -> float:
    """The size of a term: what is added up, times the largest mean of a ratio."""
    return term_scale(log_p, L)[0] * (1.0 + float(np.max(expect(log_p, np.abs(log_ratio(log_p, log_p_2))))))


derivation(
    slug="importance-ratio",
    title="KL on samples of an older policy: what the ratios must multiply",
    chapter=8,
    rows=("importance-ratio",),
    source=f"Precup, Sutton and Singh (2000) (per decision); {TANG}",
    largest=AFFORDABLE,
    scale=off_scale,
    averaged=True,
    text=r"""
    let old = p_2; p_old = p_2; pi_old = pi_2
    \mathbb{E}_\mu[\mathrm{KL}(p_\pi, p_{ref})] = \sum_x \mu(x) \sum_\tau p_\pi L
        # The mean of L under pi; but the samples are those of pi_old.
    = \sum_x \mu(x) \sum_\tau p_{old}\, \frac{p_\pi}{p_{old}}\, L  # Multiply and divide by p_old, which can make whatever p_pi can.
      slip p/p_old inverted; p_old dropped
    in expectation \mathbb{E}_{old}\left[ \rho L \right], \quad \rho = \frac{p_\pi}{p_{old}}
        # A mean under the policy that made the samples.
      law log_p_2
      slip p_2 for p; p/p_old inverted
    so \nabla\, \mathrm{KL}(p_\pi, p_{ref})  # Its gradient, by the gradient core.
    in expectation \mathbb{E}_{old}\left[ \nabla (\rho L) \right]
        # The samples do not move with theta, so the gradient enters their mean; rho and L do move.
      law log_p_2
      slip L dropped; p_2 for p
    = \mathbb{E}_{old}\left[ \rho L \cdot \mathrm{score} \right] + \mathbb{E}_{old}\left[ \rho \cdot \mathrm{score} \right]
        # The product rule, with grad rho = rho score and grad L = score.
      slip rho dropped
    in expectation \mathbb{E}_{old}\left[ \rho L \cdot \mathrm{score} \right]
        # Under the ratio the samples count as those of pi, for which the mean score is 0.
      law log_p_2
      slip p_2 for p
      not \min(1, \rho)\, L \cdot \mathrm{score}  # the ratio clipped at 1
    = \mathbb{E}_{old}\left[ \sum_t \rho\, L_t \sum_{u \le t} \nabla \log \pi(a_u \mid s_u) \right]
        # L and the score are sums along the response; a cost L_t that is paid before a token does not count for it (reward-to-go).
      law log_p_2
      not \rho \sum_t L_t\, \nabla \log \pi(a_t \mid s_t)  # each token's cost with its own score only
    in expectation \mathbb{E}_{old}\left[ \sum_t R_t\, L_t \sum_{u \le t} \nabla \log \pi(a_u \mid s_u) \right], \quad R_t = \prod_{u \le t}
        \frac{\pi(a_u \mid s_u)}{\pi_{old}(a_u \mid s_u)}
        # Given the first t tokens, the mean of the later ratios is 1: only R_t, the ratios up to t, are needed, per decision.
      law log_p_2
      not \sum_t \frac{\pi(a_t \mid s_t)}{\pi_{old}(a_t \mid s_t)}\, L_t \sum_{u \le t} \nabla \log \pi(a_u \mid s_u)
        # each token's own ratio
      not \sum_t \left( \prod_{u < t} \frac{\pi(a_u \mid s_u)}{\pi_{old}(a_u \mid s_u)} \right) L_t \sum_{u \le t} \nabla \log \pi(a_u \mid
        s_u)
        # ratios before t only
    """,
)
