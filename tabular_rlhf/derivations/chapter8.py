r"""Chapter 8 as derivations: k1, k2 and k3 of one response, their means, their variances, and whether they can be negative. What it does
to the variance to sum the exact KL of every state instead of sampling the token's.

L = log(p_pi/p_ref) of a response drawn from p_pi; E averages over prompts x ~ mu too.

Of one prompt: k1 = sum over t of L_t, X = sum over t of KL(s_t), their difference M = sum over t of m_t, m_t = L_t - KL(s_t),
and W(s, a), the KL still to come after a token, a mean.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.derivations.record import derivation
from tabular_rlhf.estimators.evaluate import NEGATIVE
from tabular_rlhf.logspace import expect, log_ratio
from tabular_rlhf.terms.conditions import SMALL
from tabular_rlhf.terms.sizes import gain_scale, term_scale
from tabular_rlhf.terms.sources import AMINI, SCHULMAN

AFFORDABLE = 256
"""Responses over all prompts."""


def squares_of(log_p: Any, L: Any) -> float:
    """The size of a square inside a variance."""
    return term_scale(log_p, L)[1]


def below(p: Any, p_ref: Any) -> Any:
    """Where p < p_ref, by more than rounding."""
    return p < p_ref * np.exp(NEGATIVE)


# ---------------------------------------------------------------------------------------------------- k1


derivation(
    slug="k1",
    title="k1 = log(p/p_ref): unbiased, and negative wherever p falls below p_ref",
    chapter=8,
    rows=("k1",),
    source=SCHULMAN,
    largest=AFFORDABLE,
    scale=squares_of,
    named={
        "line_7": lambda log_p, L: expect(log_p, np.where(L < NEGATIVE, 1.0, 0.0)),
        "line_8": lambda p, p_ref: np.sum(np.where(below(p, p_ref), p, 0.0), axis=1),
    },
    text=r"""
    \mathbb{E}\left[ k_1 \right], \quad k_1 = -\log\frac{p_{ref}}{p_\pi}
        # k1 is minus the logarithm of the ratio p_ref/p_pi of a response that pi itself has drawn.
      law log_p
    in expectation \mathbb{E}\left[ L \right], \quad L = \log\frac{p_\pi}{p_{ref}}  # Minus a logarithm is the logarithm of the inverse.
      law log_p
      slip sign flipped
      not \frac{L}{\log 2}  # log base 2: bits for nats
      not e^{-L}  # the ratio without its logarithm
    = \sum_x \mu(x) \sum_\tau p_\pi(\tau \mid x) \log\frac{p_\pi(\tau \mid x)}{p_{ref}(\tau \mid x)}
        # A mean is a sum with weights: the draws come from p_pi.
      slip p_ref for p
      not \sum_x \mu(x)\, \frac{1}{N} \sum_\tau \log\frac{p_\pi(\tau \mid x)}{p_{ref}(\tau \mid x)}  # all responses weighted alike
    = \sum_x \mu(x)\, \mathrm{KL}(p_\pi, p_{ref})  # That is the definition: k1 is unbiased.
      slip arguments of KL swapped
    so \mathrm{Var}(k_1) = \mathbb{E}\left[ \left( L - \mathrm{KL} \right)^2 \mid x \right]  # Its variance, for each prompt.
    = \mathbb{E}\left[ L^2 \mid x \right] - \mathrm{KL}^2
        # Multiply out; E[L] = KL.  Near p_ref this is about 2 KL: the standard deviation is far larger than what is estimated.
      slip the term KL^2 dropped
      not E[L^2 | x] - KL  # KL for its square
    so P(k_1 < 0 \mid x)  # How often the estimate of a distance is negative.
      value @line_7
    = \sum_{\tau:\, p_\pi < p_{ref}} p_\pi(\tau \mid x)  # The logarithm of p_pi/p_ref is negative where p_pi < p_ref.
      value @line_8
      not 0 \cdot \mathrm{KL}(p_\pi, p_{ref})  # never: a KL is never negative
      not \sum_\tau p_\pi(\tau)\, 1[p_\pi(\tau) > p_{ref}(\tau)]  # where p_pi > p_ref
      not \sum_\tau p_{ref}(\tau)\, 1[p_\pi(\tau) < p_{ref}(\tau)]  # drawn from p_ref
    <= \sum_{\tau:\, p_\pi < p_{ref}} p_{ref}(\tau \mid x)
        # On those responses p_pi < p_ref, term by term.  Unless pi = pi_ref there are some: both sum to one.
      slip p_ref for p
    """,
)

# ---------------------------------------------------------------------------------------------------- k2


def curve_scale(log_p: Any, L: Any, f: Any) -> float:
    """The size of a term, and of a squared test function."""
    return max(term_scale(log_p, L)[1], 8.0 + float(np.max(np.square(f))))


derivation(
    slug="k2",
    title="k2 = L^2/2: biased, but right to second order at the reference",
    chapter=8,
    rows=("k2",),
    source=SCHULMAN,
    largest=AFFORDABLE,
    scale=curve_scale,
    text=r"""
    \sum_x \mu(x)\, \mathbb{E}_{ref}\left[ \frac{u (\log u)^2}{2} \mid x \right], \quad u = \frac{p_\pi}{p_{ref}}
        # The sum of p_ref f(p_pi/p_ref) with f(u) = u (log u)^2 / 2 and f(1) = 0.
    = \sum_x \mu(x) \sum_\tau p_\pi(\tau \mid x) \frac{(\log u)^2}{2}
        # p_ref u = p_pi: the law of the mean changes, and the factor u is used up.
      slip p_ref for p
      not \sum_x \mu(x) \sum_\tau p_\pi(\tau \mid x)\, u\, \frac{(\log u)^2}{2}  # u kept as well
    in expectation \mathbb{E}\left[ k_2 \right], \quad k_2 = \frac{L^2}{2}
        # log u = L.  So k2 estimates a distance, though another one than KL.
      law log_p
      slip 2 dropped
      not L  # k1: unbiased for KL
      not exp(-L) - 1 + L  # k3
    so \mathbb{E}\left[ k_2 \mid x \right] - \mathrm{KL}(p_\pi, p_{ref})  # Its bias, for each prompt.
    = \sum_\tau p_\pi \left( \frac{L^2}{2} - L + 1 - e^{-L} \right) + p_{ref}(p_\pi > 0) - 1
        # KL = E[L]; then add and subtract E[1 - exp(-L)], which is 1 - p_ref(p_pi > 0).
      slip the term L^2/2 - L dropped
      not \frac{\mathrm{KL}^2}{2} - \mathrm{KL}  # half of the square of KL: the square of the mean
    = \sum_\tau p_\pi \left( \frac{L^2}{2} - L + 1 - e^{-L} \right)
        # pi can make every response that pi_ref can.  The bracket is L^3/6 - L^4/24 + ...: no second order is left.
      slip arguments of the difference swapped
      not \sum_\tau p_\pi \frac{L^3}{6}  # cut after the first term: L^3/6
    so \frac{d^2}{dt^2}\, \mathbb{E}_{p_t}\left[ \frac{1}{2} \left( \log\frac{p_t}{p_{ref}} \right)^2 \right] \text{ at } t = 0, \quad p_t
        \propto p_{ref}\, e^{t f}
        # At the reference: the curvature of E[k2] along an exponential arc through p_ref, any f, by the gradient core.
    = \mathrm{Var}_{ref}(f)  # L = t f - log E_ref[exp(t f)] = t (f - E_ref f) + ..., so E[L^2]/2 = t^2 Var_ref(f)/2 + ....
      slip a factor 1/2 too many
      not E_{p_ref}[f^2]  # second moment for variance
    = \frac{d^2}{dt^2}\, \mathrm{KL}(p_t, p_{ref}) \text{ at } t = 0  # KL has that curvature too: there k2 and KL agree to second order.
      slip a factor 2 too many
    """,
)

# ---------------------------------------------------------------------------------------------------- k3


def short_scale(log_p: Any, L: Any, log_p_short: Any, log_p_ref: Any) -> float:
    """The size of a square, at pi and at the policy that falls short."""
    return max(term_scale(log_p, L)[1], term_scale(log_p_short, log_ratio(log_p_short, log_p_ref))[0])


derivation(
    slug="k3",
    title="k3 = ratio - 1 - log ratio: never negative, unbiased if the reference is covered",
    chapter=8,
    rows=("k3",),
    source=SCHULMAN,
    largest=AFFORDABLE,
    scale=short_scale,
    text=r"""
    let q = p_short
    \mathbb{E}_q\left[ \frac{p_{ref}}{q} - 1 - \log\frac{p_{ref}}{q} \right]
        # k3 of draws from a law q that may forbid some responses of p_ref.
      law log_p_short
    = \mathbb{E}_\mu\left[ \mathbb{E}_q\left[ \log\frac{q}{p_{ref}} \right] + \mathbb{E}_q\left[ \frac{p_{ref}}{q} \right] - 1 \right]
        # A mean is linear.
      slip q/p_ref inverted; p_ref/q inverted
    = \mathbb{E}_\mu\left[ \mathrm{KL}(q, p_{ref}) + p_{ref}(q > 0) - 1 \right]
        # E_q[p_ref/q] = sum of p_ref over the responses that q can make; the first mean is KL.
      not \mathbb{E}_\mu\left[ \mathrm{KL}(q, p_{ref}) \right]  # E_q[p_ref/q] = 1 always: unbiased
      not \mathbb{E}_\mu\left[ \mathrm{KL}(q, p_{ref}) - p_{ref}(q > 0) + 1 \right]  # the mass that is not covered added
    <= \mathbb{E}_\mu\left[ \mathrm{KL}(q, p_{ref}) \right]
        # p_ref(q > 0) is at most 1, and 1 exactly where q covers what p_ref can do: only then is k3 unbiased.
      slip a factor 1/2 too many
    so 0  # Can k3 be negative?  For each response that a policy pi can draw:
    <= e^{-L} - 1 + L
        # k3 of a response, L = log(p_pi/p_ref).  log x <= x - 1: a line that touches a concave curve lies above it.  Never negative,
        response by response.
      not L  # k1 in its place
      not e^{-L} - 1  # without the logarithm
    so \mathrm{Var}(k_3), \quad k_3 = \frac{p_{ref}}{p_\pi} - 1 + L, \quad L = \log\frac{p_\pi}{p_{ref}}
        # And its variance, for each prompt, where pi covers pi_ref?
    = \mathrm{Var}(L) + \mathrm{Var}\left( \frac{p_{ref}}{p_\pi} \right) + 2\, \mathrm{Cov}\left( L, \frac{p_{ref}}{p_\pi} \right)
        # The variance of a sum; the -1 does not vary.
      slip the term 2*Cov[L, p_ref/p] dropped; 2 dropped
    = \mathrm{Var}(k_1) + X - 2 \left( \mathrm{KL}(p_\pi, p_{ref}) + \mathrm{KL}(p_{ref}, p_\pi) \right), \quad X = \mathbb{E}\left[
        \frac{p_{ref}^2}{p_\pi^2} \mid x \right] - 1
        # The ratio has mean 1 and the variance X, chi^2(p_ref, p_pi); E[L p_ref/p_pi] = -KL(p_ref, p_pi).  Near p_ref less than k1's; in
        heavy tails more.
      slip the term 1 dropped
      not \mathrm{Var}(k_1) + X - 4\, \mathrm{KL}(p_\pi, p_{ref})  # reverse KL twice
      not \mathrm{Var}(k_1)  # the variance of k1
    """,
)


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
