r"""Chapter 3 as derivations: maximum likelihood as a projection, and the saturation of log sigma. Labels that are wrong, the loss that
undoes them and the smoothing that does not.

P(i, j) = sigma(r_i - r_j) is the law of the labels, P^(i, j) = sigma(r^_i - r^_j) that of the fitted scores.  Pairs are drawn as the
data are: the prompt from mu, two responses from p_ref.

e < 1/2 is the probability that a label is flipped, l(D) = -log sigma(D) the plain loss of a pair whose fitted scores differ by D.
"""

from __future__ import annotations

import numpy as np

from tabular_rlhf.derivations.record import derivation
from tabular_rlhf.terms.conditions import moderate
from tabular_rlhf.terms.sources import TERRY

# ---------------------------------------------------------------------------------------------------- mle-is-forward-kl


derivation(
    slug="mle-is-forward-kl",
    title="Maximum likelihood is the forward-KL projection onto Bradley-Terry laws",
    chapter=3,
    rows=("mle-is-forward-kl", "reward-shift-invariance"),
    source="Kullback and Leibler (1951); Swamy et al. (2025), arXiv:2503.01067, for RLHF.",
    where=moderate,
    largest=100,
    scale=lambda gaps, score_gaps: 1.0 + np.max(np.abs(gaps)) + np.max(np.abs(score_gaps)),
    text=r"""
    let P = P_beats; P_hat = sigma(scores(i) - scores(j))
    \mathbb{E}_{(w, l)}\left[ -\log \sigma(\hat r_w - \hat r_l) \right]
        # The loss on endless data: the prompt from mu, two responses from p_ref, the winner w by the law of r.
    = \mathbb{E}_{(i, j)}\left[ -P_{ij} \log \hat P_{ij} - (1 - P_{ij}) \log(1 - \hat P_{ij}) \right]
        # Average over the label first: with probability P_ij it is (i, j), otherwise (j, i); sigma(-D) is 1 - sigma(D).
      slip a factor 1/2 too many
      not E_{i, j}[P(i, j)*log(P_hat(i, j)) - (1 + P(i, j))*log(1 - P_hat(i, j))]  # winner and loser swapped
      not E_{i, j}[-P(i, j)*log(sigma(r_hat(i))) - (1 - P(i, j))*log(1 - sigma(r_hat(i)))]  # sigma of each score alone
    = \mathbb{E}_{(i, j)}\left[ P_{ij} \log\frac{P_{ij}}{\hat P_{ij}} + (1 - P_{ij}) \log\frac{1 - P_{ij}}{1 - \hat P_{ij}} \right] +
        \mathbb{E}_{(i, j)}\left[ -P_{ij} \log P_{ij} - (1 - P_{ij}) \log(1 - P_{ij}) \right]
        # Add P log P and (1 - P) log(1 - P), and take them away again.
      slip sign of E_{i, j}[-P(i, j)*log(P(i, j)) - (1 - P(i, j))*log(1 - P(i, j))] flipped
      not E_{i, j}[KL(P(i, j), P_hat(i, j)) + H(P_hat(i, j))]  # entropy of the fitted law for that of the labels
    = \mathbb{E}_{(i, j)}\left[ \mathrm{KL}(P_{ij}, \hat P_{ij}) \right] + \mathbb{E}_{(i, j)}\left[ \mathcal{H}(P_{ij}) \right]
        # The first mean is a KL of two outcomes, the labels' law first: forward. The second is the labels' entropy.
      slip arguments of KL swapped
      not E_{i, j}[KL(P(i, j), P_hat(i, j))] + E_{i, j}[H(P(i, j))]/log(2)  # log base 2 in the entropy
    up to a constant \mathbb{E}_{(i, j)}\left[ \mathrm{KL}(P_{ij}, \hat P_{ij}) \right]
        # The labels' entropy does not depend on the scores: minimizing the loss is minimizing the forward KL.
      of scores
      slip arguments of KL swapped; a factor 1/2 too many
    so \mathbb{E}_{(i, j)}\left[ \mathrm{KL}(P_{ij}, \sigma(u_i - u_j)) \right], \quad u_i = r_i + c(x)
        # Now try the true reward, moved by any number c(x) for each prompt.
    = 0  # c(x) cancels in every difference within a prompt, so both laws are the same.
      not E_{i, j}[H(P(i, j))]  # the entropy of the labels: that belongs to the loss
      not log(2)  # log 2, a coin's entropy
    <= \mathbb{E}_{(i, j)}\left[ \mathrm{KL}(P_{ij}, \hat P_{ij}) \right]
        # No scores do better, since a KL is never negative: r + c(x) is the maximum of the likelihood.
      slip sign flipped
      not E_{i, j}[P_hat(i, j)*log(P(i, j)/P_hat(i, j))]  # won labels alone: not a KL
    """,
)

# ---------------------------------------------------------------------------------------------------- bt-saturation


derivation(
    slug="bt-saturation",
    title="The saturation of log sigma: pairs far apart are hardly pushed",
    chapter=3,
    rows=("bt-saturation",),
    source=TERRY,
    where=moderate,
    largest=100,
    named={"line_7": lambda gaps: np.exp(gaps) / (1.0 + np.exp(gaps))},
    text=r"""
    \frac{d}{dD} \log \sigma(D), \quad D = r_i - r_j
        # How fast the log-likelihood of 'i beat j' rises as the scores move apart: by the gradient core, for every pair.
    = \frac{1}{\sigma(D)} \cdot \frac{d}{dD} \frac{1}{1 + e^{-D}}  # The chain rule: the slope of log y is 1/y times the slope of y.
      slip 1/sigma(D) dropped
      not 1/sigma(D)*\frac{d}{dD} \sigma(D)/log(2)  # log base 2
    = (1 + e^{-D}) \cdot \frac{e^{-D}}{(1 + e^{-D})^2}
        # 1/y has the slope -y'/y^2, and 1 + e^{-D} the slope -e^{-D}: two minus signs make a plus.
      slip the exponent 2 dropped
      not -(1 + exp(-D))*(exp(-D)/(1 + exp(-D))^2)  # one minus sign lost
    = \frac{e^{-D}}{1 + e^{-D}}  # One factor 1 + e^{-D} cancels.
      slip 1 + exp(-D) dropped
    = \sigma(-D)  # Above and below times e^D: 1/(e^D + 1). It is the probability of the label that was not seen.
      slip sign within sigma flipped
      not sigma(D)*sigma(-D)  # sigma(D) sigma(-D): the slope of sigma
    <= e^{-D}  # Drop the 1 below in line 4's 1 + e^{-D} >= 1: the push decays exponentially.
      slip a factor 1/2 too many
      not exp(2*(-D))  # e^{-2D}: faster than it is
    so \sigma(-D)\, e^{D}  # Is the bound tight?
      value @line_7
    in the limit 1  # As D grows: yes, sigma(-D) = e^{-D} - e^{-2D} + ...
      along gaps 1 10 40
      not 1/2  # 1/2, its value at D = 0
      not 0  # 0: the slope's own limit
    so \frac{d^2}{dD^2} \log \sigma(D)  # And how fast does the push itself change? By the gradient core, twice.
    = -\sigma(D)\, \sigma(-D)  # The slope of sigma(-D) is sigma'(-D) times -1, and sigma' = sigma(D) sigma(-D) is the same at D and -D.
      slip sign flipped; sign within sigma flipped
    <= 0  # So log sigma is concave: a sum of such losses is convex in the scores, and one minimum is the minimum.
      not -1/4  # -1/4: that bounds it from below
    """,
)

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
