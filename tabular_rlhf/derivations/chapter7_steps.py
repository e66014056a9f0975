r"""Chapter 7 as derivations, continued: a natural-gradient step multiplies pi by exp(eta Q), state by state."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.derivations.chapter7 import AFFORDABLE
from tabular_rlhf.derivations.record import derivation
from tabular_rlhf.terms.sizes import loudness


def visited(mu: Any, d: Any, pi: Any) -> Any:
    """mu(x) d_pi(s) pi(a given s)."""
    return mu[:, None, None] * d[..., None] * pi


def mildly(log_p_ref: Any, log_p: Any, mu: Any, r: Any, beta: float) -> bool:
    """Every state is visited often enough for its visits to be divided by."""
    return bool(np.isfinite(log_p_ref).all() and min(mu) > 1e-3 and np.min(log_p) > -12 and np.ptp(r) < 6 * beta)


def step_scale(r: Any, beta: float, log_p: Any, log_p_ref: Any, H: int, mu: Any) -> float:
    """The size of a term, divided by the least visits."""
    return loudness(r, beta, log_p, log_p_ref, H) * max(1.0, 1.0 / beta) * float(np.exp(-np.min(log_p)) / np.min(mu))


derivation(
    slug="natural-gradient",
    title="The natural gradient step is exponentiated Q in every state (tabular logits, every response possible)",
    chapter=7,
    rows=("natural-gradient",),
    source="Kakade (2001); Cen et al. (2022), arXiv:2007.06558.",
    largest=AFFORDABLE,
    where=mildly,
    scale=step_scale,
    named={
        "the_mean_of_v_over_all_tokens_al": lambda mu, d_pi, pi, direction: (
            visited(mu, d_pi, pi) * (direction - np.mean(direction, axis=-1, keepdims=True))
        )
    },
    text=r"""
    let v = direction; u = natural_gradient
    \mathbb{E}\left[ s\, \langle s, v \rangle \right], \quad s = \nabla \log p_\pi
        # F v, the Fisher matrix of pi applied to any direction v in the logits; s is the score of a response.
    = \sum_x \mu(x) \sum_s d_\pi(s) \sum_a \pi(a \mid s) \langle \nabla \log \pi(a \mid s), v \rangle\, \nabla \log \pi(a \mid s)
        # Scores of different tokens are uncorrelated: the mean of a later one is 0 given the earlier.  So collect by states.
      not \sum_x \mu(x) \sum_s \sum_a \pi(a \mid s) \langle \nabla \log \pi(a \mid s), v \rangle\, \nabla \log \pi(a \mid s)
        # visits forgotten
      not \sum_x \mu(x) \sum_s d_\pi(s) \sum_a \langle \nabla \log \pi(a \mid s), v \rangle\, \nabla \log \pi(a \mid s)
        # tokens not weighted by pi
    = \mu(x)\, d_\pi(s)\, \pi(a \mid s) \left( v(s, a) - \sum_b \pi(b \mid s)\, v(s, b) \right)
        # For tabular logits grad log pi(a given s) is the one-hot of a less pi.
      slip the term sum_{b} pi(b | s)*v(s, b) dropped
      not @the_mean_of_v_over_all_tokens_al  # the mean of v over all tokens alike
    so \nabla J  # The plain gradient of the KL-regularized objective, by the gradient core.
    = \mu(x)\, d_\pi(s)\, \pi(a \mid s)\, A(s, a), \quad A(s, a) = Q(s, a) - \sum_b \pi(b \mid s)\, Q(s, b), \quad Q(s, a) =
        \mathbb{E}\left[ r - \beta \sum_{u \ge t} L_u \mid s_t = s, a_t = a \right]
        # The policy-gradient theorem with the KL penalty of the tokens, L = log(pi/pi_ref); the mean of Q in a state is V.
      not \mu(x)\, d_\pi(s)\, \pi(a \mid s)\, A_\pi(s, a)  # Q without the penalty
      not \mu(x)\, d_\pi(s)\, \pi(a \mid s)\, Q(s, a)  # Q without V
      not \mu(x)\, d_{ref}(s)\, \pi(a \mid s)\, A(s, a)  # d_ref for d_pi
    = \mathbb{E}\left[ s\, \langle s, A \rangle \right]
        # F A: the mean of A in a state is 0, so this is the formula for F v with v = A, and the equation F v = grad J is solved by A.
      slip sign flipped
      not \mathbb{E}\left[ s \sum_t \sum_b \pi(b \mid s_t)\, Q(s_t, b) \right]  # V for A: the worth of states, not of tokens
    so \frac{\pi(a \mid s)\, e^{\eta\, u(s, a)}}{\sum_b \pi(b \mid s)\, e^{\eta\, u(s, b)}}
        # A step of length eta in the logits, along the natural gradient u = F^-1 grad J; the inverse is computed numerically, state by
        state.
    = \frac{\pi(a \mid s)\, e^{\eta A(s, a)}}{\sum_b \pi(b \mid s)\, e^{\eta A(s, b)}}
        # F^-1 grad J = A: visits and pi cancel, so rarely visited states move as fast as others.
      not \frac{\pi(a \mid s)\, e^{\eta \mu(x) d_\pi(s) \pi(a \mid s) A(s, a)}}{\sum_b \pi(b \mid s)\, e^{\eta \mu(x) d_\pi(s) \pi(b \mid s)
        A(s, b)}}
        # the plain gradient
      not \frac{\pi(a \mid s)\, e^{\eta \mu(x) d_\pi(s) A(s, a)}}{\sum_b \pi(b \mid s)\, e^{\eta \mu(x) d_\pi(s) A(s, b)}}
        # visits not canceled
      not \frac{\pi(a \mid s)\, e^{\eta A(s, a)/\beta}}{\sum_b \pi(b \mid s)\, e^{\eta A(s, b)/\beta}}  # eta for eta beta
    = \frac{\pi(a \mid s)\, e^{\eta Q(s, a)}}{\sum_b \pi(b \mid s)\, e^{\eta Q(s, b)}}
        # V(s) does not depend on the token: it cancels in the quotient.
      slip arguments of the difference swapped
      not \frac{e^{\eta Q(s, a)}}{\sum_b e^{\eta Q(s, b)}}  # pi dropped: exp(eta Q) alone
    = \frac{\pi(a \mid s)^{1 - \eta\beta} \left( \pi_{ref}(a \mid s)\, e^{\bar{Q}(s, a)/\beta} \right)^{\eta\beta}}{\sum_b \pi(b \mid s)^{1
        - \eta\beta} \left( \pi_{ref}(b \mid s)\, e^{\bar{Q}(s, b)/\beta} \right)^{\eta\beta}}, \quad \bar{Q}(s, a) = Q(s, a) + \beta L(s,
        a)
        # Take the token's own penalty out of Q.  With eta = 1/beta pi is forgotten: soft policy iteration.
      slip the term beta*L(s, a) dropped
      not \frac{\pi(a \mid s)^{1 - \eta\beta} e^{\eta \bar{Q}(s, a)}}{\sum_b \pi(b \mid s)^{1 - \eta\beta} e^{\eta \bar{Q}(s, b)}}
        # pi_ref dropped
      not \frac{\pi(a \mid s) \left( \pi_{ref}(a \mid s)\, e^{\bar{Q}(s, a)/\beta} \right)^{\eta\beta}}{\sum_b \pi(b \mid s) \left(
        \pi_{ref}(b \mid s)\, e^{\bar{Q}(s, b)/\beta} \right)^{\eta\beta}}
        # pi to the power 1
    """,
)
