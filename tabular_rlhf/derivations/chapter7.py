r"""Chapter 7 as derivations: the policy gradient by the log-derivative trick, from responses to tokens to states; then the KL term. What
may be subtracted from a reward for nothing, and what is best subtracted. Reward to go.

E averages over prompts x ~ mu and responses tau ~ p_pi(. given x); theta are the logits of pi in every state.

Past rewards have no covariance with later scores, so they may be dropped.  That this *always* lowers the variance is false: the last
lines say exactly what it saves, and the cross term there may be negative.
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

# ---------------------------------------------------------------------------------------------------- zero-mean-score


def with_baseline(r: Any, b_x: Any, H: int) -> float:
    """The largest term: a reward less its baseline, times a sum of H scores."""
    return reward_term(r, H) + float(np.max(np.abs(b_x))) * (1.0 + H)


derivation(
    slug="zero-mean-score",
    formerly=("baselines",),
    title="A baseline of the prompt is free",
    chapter=7,
    rows=("zero-mean-score",),
    source=WILLIAMS,
    largest=AFFORDABLE,
    scale=with_baseline,
    text=r"""
    let b = b_x
    \mathbb{E}\left[ b(x)\, \nabla \log p_\pi(\tau \mid x) \right]
        # What a baseline b adds to the update on average, b any number that depends on the prompt but not on the response.
      law log_p
    = \sum_x \mu(x)\, b(x) \sum_\tau p_\pi(\tau \mid x)\, \nabla \log p_\pi(\tau \mid x)
        # The mean written out; b(x) does not depend on the response, so it leaves the inner sum.
      slip p_ref for p; p(tau | x) dropped
    = \sum_x \mu(x)\, b(x) \sum_\tau \nabla p_\pi(\tau \mid x)  # p grad log p = grad p.
      not sum_{x} mu(x)*b(x)*E_{tau ~ p}[nabla(p(tau | x))]  # p kept beside its own gradient
      not sum_{x} mu(x)*b(x)*sum_{tau} nabla(log(p(tau | x)))  # grad log p for grad p
    = \sum_x \mu(x)\, b(x)\, \nabla \sum_\tau p_\pi(\tau \mid x)  # The sum of finitely many gradients is the gradient of the sum.
      not sum_{x} mu(x)*b(x)*nabla(E_{tau ~ p}[p(tau | x)])  # the sum of squares, which is not 1
    = 0  # Probabilities sum to one for every theta, and the gradient of a constant is 0.
      not \sum_x \mu(x)\, b(x)  # the sum taken for its gradient: b times 1
    so \mathbb{E}\left[ (r - b(x))\, \nabla \log p_\pi(\tau \mid x) \right]  # In the update of a policy that is rewarded by r:
      law log_p
    = \mathbb{E}\left[ r\, \nabla \log p_\pi \right] - \mathbb{E}\left[ b(x)\, \nabla \log p_\pi \right]  # A mean is linear.
      not \mathbb{E}\left[ r\, \nabla \log p_\pi \right] - \mathbb{E}\left[ f(\tau)\, \nabla \log p_\pi \right]
        # the response's own baseline f(tau) subtracted
      not \mathbb{E}\left[ \max(0, r - b(x))\, \nabla \log p_\pi \right]  # only what beats the baseline is counted
    = \nabla\, \mathbb{E}[r]  # The second mean is 0, by the lines above; the first is the policy gradient.
      slip sign flipped
      not \mathbb{E}_\mu\left[ \nabla\, \frac{\mathbb{E}_p[r]^2}{2} \right]  # the gradient of E[r]^2/2, as if b were E[r] and moved
    """,
)

# ---------------------------------------------------------------------------------------------------- optimal-baseline


def sizes(score: Any) -> Any:
    """|score|^2 of every response: (P, N)."""
    return np.sum(np.square(score), axis=(-3, -2, -1))


def noise_term(r: Any, b_x: Any, H: int) -> float:
    """The size of a squared update, with b* instead of b perhaps."""
    return with_baseline(r, b_x, H) ** 2 * (1.0 + H)


derivation(
    slug="optimal-baseline",
    title="The baseline of least variance, where some response can be told from another",
    chapter=7,
    rows=("optimal-baseline",),
    source="Weaver and Tao (2001); Greensmith, Bartlett and Baxter (2004).",
    largest=AFFORDABLE,
    where=lambda p, score: np.min(np.sum(p * sizes(score), axis=1)) > 1e-2,
    scale=noise_term,
    setting={"prompts": "given"},
    text=r"""
    let b = b_x
    \mathbb{E}\left| g - \mathbb{E}[g] \right|^2, \quad g = (r - b)\, \nabla \log p_\pi
        # How much one draw's update g varies, for each prompt: the variances of all its coordinates, added up.
    = \mathbb{E}\left| (r - b)\, \nabla \log p_\pi \right|^2 - \left| \mathbb{E}\left[ (r - b)\, \nabla \log p_\pi \right] \right|^2
        # Variance is the mean square less the squared mean, coordinate by coordinate.
      slip the mean of a product split
      not \mathbb{E}\left[ (r - b)^2 \right]  # the mean square of r - b, without the score
    up to a constant \mathbb{E}\left[ |\nabla \log p_\pi|^2\, (r - b)^2 \right]
        # A number leaves a norm squared; the mean update does not depend on b (baselines are free), so it is a constant in b.
      of b_x
      slip the exponent 2 dropped; abs(nabla(log(p)))^2 dropped
    = \mathbb{E}\left[ |s|^2 r^2 \right] - 2 b\, \mathbb{E}\left[ |s|^2 r \right] + b^2\, \mathbb{E}\left[ |s|^2 \right], \quad s = \nabla
        \log p_\pi
        # Multiply the square out: a parabola in b.
      slip 2 dropped; E[abs(s)^2] dropped
    so \frac{\partial}{\partial b}\, \mathbb{E}\left[ |s|^2 (r - b)^2 \right]  # Where is it lowest?  Its slope in b, by the gradient core.
    = 2\, \mathbb{E}\left[ |s|^2 \right] (b - b^*), \quad b^* = \frac{\mathbb{E}[|s|^2 r]}{\mathbb{E}[|s|^2]}
        # Differentiate the parabola and take 2 E|s|^2 out: the slope is 0 at b* only, negative before it and positive after it.
      slip the mean of a product split; sign of b_star flipped
      not 2\, \mathbb{E}\left[ |s|^2 \right] \left( b - \frac{\mathbb{E}[|s|\, r]}{\mathbb{E}[|s|]} \right)  # |s| for |s|^2 in b*
    so \mathbb{E}\left[ |s|^2 (r - b^*)^2 \right]  # The least second moment.
    = \mathbb{E}\left[ |s|^2 r^2 \right] - \frac{\mathbb{E}[|s|^2 r]^2}{\mathbb{E}[|s|^2]}  # Put b* into the parabola.
      slip the term E[abs(s)^2*r]^2/E[abs(s)^2] dropped; E[abs(s)^2] dropped
    <= \mathbb{E}\left[ |s|^2 (r - b)^2 \right]  # A parabola that opens upward is nowhere lower than at b*: this is what any other b costs.
      not \mathbb{E}\left[ |s|^2 \right] \mathrm{Var}(r)  # as if score and reward were independent: E|s|^2 Var(r)
    """,
)


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
