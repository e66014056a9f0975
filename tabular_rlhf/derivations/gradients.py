r"""Chapter 7 as derivations: the policy gradient by the log-derivative trick, from responses to tokens to states; then the KL term.

E averages over prompts x ~ mu and responses tau ~ p_pi(. given x); theta are the logits of pi in every state.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.derivations.record import derivation
from tabular_rlhf.policy_gradient.updates import paths
from tabular_rlhf.terms.sizes import loudness
from tabular_rlhf.terms.sources import WILLIAMS

AFFORDABLE = 40
"""Responses over all prompts: tables of gradients hold P N P S V numbers."""


def reward_term(r: Any, H: int) -> float:
    """The largest term of a gradient of E[r]: a reward times a sum of H scores."""
    return float(1.0 + np.max(np.abs(r))) * (1.0 + H)


# ---------------------------------------------------------------------------------------------------- policy-gradient


derivation(
    slug="policy-gradient",
    title="The policy-gradient theorem by the log-derivative trick",
    chapter=7,
    rows=("policy-gradient",),
    source=WILLIAMS,
    largest=AFFORDABLE,
    scale=reward_term,
    named={
        "the_score_of_a_token_without_the": lambda mdp, r: (
            r[..., None, None, None] * np.einsum("xnsv,xy->xnysv", np.broadcast_to(paths(mdp), (mdp.P, mdp.N, mdp.S, mdp.V)), np.eye(mdp.P))
        )
    },
    text=r"""
    let Q = E_p[r | s, a]
    \nabla_\theta\, \mathbb{E}[r] = \nabla_\theta \sum_x \mu(x) \sum_\tau p_\pi(\tau \mid x)\, r(x, \tau)
        # The gradient, in the logits of pi, of the mean reward over prompts x ~ mu and responses tau ~ p_pi, by the gradient core.
    = \sum_x \mu(x) \sum_\tau r(x, \tau)\, \nabla p_\pi(\tau \mid x)
        # The gradient of a finite sum is the sum of the gradients; mu and r do not depend on theta.
      slip r(x, tau) dropped
      not sum_x mu(x)*sum_tau p(tau | x)*r(x, tau)*nabla(p(tau | x))  # p kept beside its own gradient
    = \sum_x \mu(x) \sum_\tau r(x, \tau)\, p_\pi(\tau \mid x)\, \nabla \log p_\pi(\tau \mid x)
        # The log-derivative trick: grad log p = grad p / p, so grad p = p grad log p.  An impossible response stays impossible.
      slip p(tau | x) dropped; log dropped; p_ref for p
    in expectation \mathbb{E}\left[ r(x, \tau)\, \nabla \log p_\pi(\tau \mid x) \right]
        # A sum with weights mu p is a mean: draws estimate it, and that is what makes the trick useful.
      law log_p
      slip log dropped; sign flipped; r(x, tau) dropped
    = \mathbb{E}\left[ r(x, \tau) \sum_t \nabla \log \pi(a_t \mid s_t) \right]
        # The chain rule of probability: log p_pi is the sum of log pi along the response, EOS counted.
      law log_p
      slip log dropped
      not \mathbb{E}\left[ \frac{r(x, \tau)}{|\tau|} \sum_t \nabla \log \pi(a_t \mid s_t) \right]
        # the mean over tokens where the sum was due
      not @the_score_of_a_token_without_the  # the score of a token without the normalization of pi
    = \sum_x \mu(x) \sum_s \sum_a \left( \sum_{\tau \ni (s, a)} p_\pi(\tau \mid x)\, r(x, \tau) \right) \nabla \log \pi(a \mid s)
        # Exchange the sums: collect, for each state s and token a, all responses that take a in s.
      slip p(tau | x) dropped; r(x, tau) dropped
    = \sum_x \mu(x) \sum_s d_\pi(s) \sum_a \pi(a \mid s)\, Q(s, a)\, \nabla \log \pi(a \mid s)
        # p_pi passes (s, a) with probability d_pi(s) pi(a given s); Q(s, a) is the mean reward of what passes there.
      slip d_ref for d_pi; d_pi(s) dropped
      not \sum_x \mu(x) \sum_s d_\pi(s) \sum_a \pi(a \mid s)\, V_\pi(s)\, \nabla \log \pi(a \mid s)  # V for Q
    = \sum_x \mu(x) \sum_s d_\pi(s) \sum_a Q(s, a)\, \nabla \pi(a \mid s)
        # The trick backwards, state by state: pi grad log pi = grad pi.  No gradient of d_pi or of Q is needed.
      slip d_pi(s) dropped
      not \sum_x \mu(x) \sum_s d_\pi(s) \sum_a Q(s, a)\, \pi(a \mid s)\, \nabla \pi(a \mid s)  # pi kept beside its own gradient
    = \mu(x)\, d_\pi(s)\, \pi(a \mid s) \left( Q(s, a) - V(s) \right), \quad V(s) = \sum_b \pi(b \mid s)\, Q(s, b)
        # For tabular logits the slope of pi(b given s) in the logit of a is pi(a)(1 - pi(a)) for b = a and -pi(a) pi(b) otherwise.
      slip the term V(s) dropped; pi(a | s) dropped
    """,
)

# ---------------------------------------------------------------------------------------------------- kl-regularized-gradient


derivation(
    slug="kl-regularized-gradient",
    formerly=("kl-regularised-gradient",),
    title="The gradient of the KL-regularized objective",
    chapter=7,
    rows=("kl-regularized-gradient",),
    source="Ziegler et al. (2019), arXiv:1909.08593; Stiennon et al. (2020), arXiv:2009.01325.",
    largest=AFFORDABLE,
    scale=loudness,
    text=r"""
    \nabla J = \nabla \sum_x \mu(x) \sum_\tau p_\pi \left( r - \beta \log\frac{p_\pi}{p_{ref}} \right)
        # pi stands in two places: in the law of the draws, and inside the penalty.
    = \sum_x \mu(x) \sum_\tau \left( r - \beta \log\frac{p_\pi}{p_{ref}} \right) \nabla p_\pi - \beta \sum_x \mu(x) \sum_\tau p_\pi \nabla
        \log p_\pi
        # The product rule: first the law moves, then the penalty; r and p_ref do not.
      slip p_ref for p; sign of beta*log(p/p_ref) flipped
      not sum_{x} mu(x)*sum_{tau} (r - beta*log(p/p_ref))*nabla(p) - beta*sum_{x} mu(x)*sum_{tau} nabla(log(p))
        # p dropped in the second sum
    = \mathbb{E}\left[ \left( r - \beta \log\frac{p_\pi}{p_{ref}} \right) \nabla \log p_\pi \right] - \beta\, \mathbb{E}\left[ \nabla \log
        p_\pi \right]
        # grad p = p grad log p in the first sum; both sums are means.
      slip beta dropped
      not \mathbb{E}_\mu\left[ \mathbb{E}_{ref}\left[ \left( r - \beta \log\frac{p_\pi}{p_{ref}} \right) \nabla \log p_\pi \right] - \beta\,
        \mathbb{E}_{ref}\left[ \nabla \log p_\pi \right] \right]
        # drawn from p_ref
    in expectation \mathbb{E}\left[ \left( r - \beta \log\frac{p_\pi}{p_{ref}} \right) \nabla \log p_\pi \right]
        # E[grad log p_pi] = sum of grad p_pi = grad 1 = 0: the penalty may be frozen, as if it were a reward.
      law log_p
      slip p_ref dropped
      not \mathbb{E}\left[ \left( r - \beta \log\frac{p_\pi}{p_{ref}} \right) \nabla \log p_\pi - \beta \right]
        # the vanishing term kept as -beta
      not \left( r - \frac{\beta}{\log 2} \log\frac{p_\pi}{p_{ref}} \right) \nabla \log p_\pi  # log base 2
    = \mathbb{E}\left[ \sum_t \left( r - \beta \sum_u \log\frac{\pi(a_u \mid s_u)}{\pi_{ref}(a_u \mid s_u)} \right) \nabla \log \pi(a_t \mid
        s_t) \right]
        # Both logarithms are sums along the response.
      law log_p
      not \sum_t \left( r - \beta \log\frac{\pi(a_t \mid s_t)}{\pi_{ref}(a_t \mid s_t)} \right) \nabla \log \pi(a_t \mid s_t)
        # the penalty of the token itself only
      not \sum_t \left( r - \frac{\beta}{|\tau|} \sum_u \log\frac{\pi(a_u \mid s_u)}{\pi_{ref}(a_u \mid s_u)} \right) \nabla \log \pi(a_t
        \mid s_t)
        # the mean penalty of the tokens
    in expectation \mathbb{E}\left[ \sum_t \left( r - \beta \sum_{u \ge t} \log\frac{\pi(a_u \mid s_u)}{\pi_{ref}(a_u \mid s_u)} \right)
        \nabla \log \pi(a_t \mid s_t) \right]
        # Penalties paid before s_t are known there, and the mean of the next score is 0: a token answers for what follows.
      law log_p
      not \sum_t \left( r - \beta \sum_{u > t} \log\frac{\pi(a_u \mid s_u)}{\pi_{ref}(a_u \mid s_u)} \right) \nabla \log \pi(a_t \mid s_t)
        # the token's own penalty left out: u > t
      not \sum_t \left( \frac{r}{|\tau|} - \beta \sum_{u \ge t} \log\frac{\pi(a_u \mid s_u)}{\pi_{ref}(a_u \mid s_u)} \right) \nabla \log
        \pi(a_t \mid s_t)
        # the reward spread over the tokens
    = \sum_x \mu(x) \sum_s d_\pi(s) \sum_a Q(s, a)\, \nabla \pi(a \mid s), \quad Q(s, a) = \mathbb{E}\left[ r - \beta \sum_{u \ge t}
        \log\frac{\pi(a_u \mid s_u)}{\pi_{ref}(a_u \mid s_u)} \mid s_t = s, a_t = a \right]
        # Collected by states, as in the policy-gradient theorem.
      slip Q_pi for Q; d_ref for d_pi
    """,
)
