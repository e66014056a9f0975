r"""Chapter 3 as derivations, continued: labels that are wrong, the loss that undoes them and the smoothing that does not.

e < 1/2 is the probability that a label is flipped, l(D) = -log sigma(D) the plain loss of a pair whose fitted scores differ by D.
"""

from __future__ import annotations

import numpy as np

from tabular_rlhf.derivations.record import derivation
from tabular_rlhf.terms.conditions import moderate

# ---------------------------------------------------------------------------------------------------- label-noise


derivation(
    slug="label-noise",
    title="Flipped labels: the loss that undoes them, and the smoothing that repeats them",
    chapter=3,
    rows=("label-noise",),
    source="Natarajan et al. (2013), Learning with noisy labels; Chowdhury et al. (2024), arXiv:2403.00409.",
    where=lambda gaps, N: moderate(gaps) and N >= 2,
    largest=40,
    scale=lambda gaps, score_gaps: 10.0 * (1.0 + np.max(np.abs(gaps)) + np.max(np.abs(score_gaps))),
    text=r"""
    let e = flip; D = scores(i) - scores(j); ell(z) = -log(sigma(z))
    (1 - e)\, \tilde\ell(D) + e\, \tilde\ell(-D), \quad \tilde\ell(D) = \frac{(1 - e)\, \ell(D) - e\, \ell(-D)}{1 - 2 e}, \quad \ell(D) =
        -\log \sigma(D)
        # A pair of fitted margin D comes with its label flipped with probability e < 1/2: the mean over the flip of the loss.
    = \frac{(1 - e) \left( (1 - e)\, \ell(D) - e\, \ell(-D) \right) + e \left( (1 - e)\, \ell(-D) - e\, \ell(D) \right)}{1 - 2 e}
        # Put the definition in twice; a flipped label turns D into -D everywhere.
      not ((1 - e)*ell(D) - e*ell(-D))/(1 - 2*e)  # D not turned in the flipped term
      not (1 - e)*((1 - e)*ell(D) + e*ell(-D)) + e*((1 - e)*ell(-D) + e*ell(D))  # plus for minus: label smoothing
    = \frac{(1 - e)^2 - e^2}{1 - 2 e}\, \ell(D) + \frac{e (1 - e) - (1 - e) e}{1 - 2 e}\, \ell(-D)  # Collect l(D) and l(-D).
      slip sign of e^2 flipped; sign of (1 - e)*e flipped
    = \ell(D)  # (1 - e)^2 - e^2 = 1 - 2 e, and the second bracket is 0: on average the flips are undone, whatever D.
      slip sign within sigma flipped
      not (1 - 2*e)*ell(D)  # 1 - 2 e forgotten below
    so \mathbb{E}_{(w, l)}\left[ (1 - e)\, \tilde\ell(\hat r_w - \hat r_l) + e\, \tilde\ell(\hat r_l - \hat r_w) \right]
        # So over all pairs of the population, labeled by the law of r and then flipped with probability e:
    = \mathbb{E}_{(w, l)}\left[ -\log \sigma(\hat r_w - \hat r_l) \right]
        # Line 4 holds for each label that was there before the flip; average it.
      not E_{w, l}[(1 - e)*ell(r_hat(w) - r_hat(l)) + e*ell(r_hat(l) - r_hat(w))]  # the plain loss of the flipped labels
      not E_{w, l}[((1 - e)^2 + e^2)*ell(r_hat(w) - r_hat(l)) + 2*e*(1 - e)*ell(r_hat(l) - r_hat(w))]
        # the smoothed loss of the flipped labels
    so q\, \ell_e(D) + (1 - q)\, \ell_e(-D), \quad \ell_e(D) = (1 - e)\, \ell(D) + e\, \ell(-D), \quad q = (1 - e)\, \sigma(r_i - r_j) + e\,
        \sigma(r_j - r_i)
        # Is label smoothing a cure too? Its mean for one pair, where q is the probability that 'i beat j' is what one hears.
    = \left( q (1 - e) + (1 - q) e \right) \ell(D) + \left( q e + (1 - q)(1 - e) \right) \ell(-D)  # Collect l(D) and l(-D) again.
      not sigma(r(i) - r(j))*ell(D) + sigma(r(j) - r(i))*ell(-D)  # smoothing undoes the noise: sigma for q'
      not q*ell(D) + (1 - q)*ell(-D)  # smoothing changes nothing: q for q'
    = q'\, \ell(D) + (1 - q')\, \ell(-D), \quad q' = (1 - e)\, q + e\, (1 - q)
        # The plain loss of labels q' that were flipped twice: smoothing repeats the noise instead of undoing it.
      not (q - e)/(1 - 2*e)*ell(D) + (1 - e - q)/(1 - 2*e)*ell(-D)  # flipped back instead of again
      not q'*ell(D) - (-q')*ell(-D)  # the rest taken as q' too
    """,
)
