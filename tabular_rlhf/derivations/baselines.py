r"""Chapter 7 as derivations, continued: what may be subtracted from a reward for nothing, and what is best subtracted."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.derivations.gradients import AFFORDABLE, reward_term
from tabular_rlhf.derivations.record import derivation
from tabular_rlhf.terms.sources import WILLIAMS

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
