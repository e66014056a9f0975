r"""Chapter 3 as derivations, continued: labels that are wrong, the loss that undoes them and the smoothing that does not.

e < 1/2 is the probability that a label is flipped, l(D) = -log sigma(D) the plain loss of a pair whose fitted scores differ by D.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.derivations.record import Derivation, Line, add
from tabular_rlhf.ledger.chapter3 import moderate, sigma, softplus
from tabular_rlhf.ledger.chapter3_fitting import pairs_nll
from tabular_rlhf.ledger.chapter3_limits import mean_of, noisy_pairs
from tabular_rlhf.logspace import log_sigmoid
from tabular_rlhf.preferences.label_noise import smoothed_loss, unbiased_loss

# ---------------------------------------------------------------------------------------------------- label-noise


def clean(D: Any) -> Any:
    """l(D) = -log sigma(D)."""
    return softplus(-D)


def heard(gaps: Any, e: float) -> Any:
    """The probability of the label 'i beat j' after flips."""
    return (1.0 - e) * sigma(gaps) + e * sigma(-gaps)


def twice(gaps: Any, e: float) -> Any:
    """The same after a second round of flips."""
    return (1.0 - e) * heard(gaps, e) + e * (1.0 - heard(gaps, e))


add(
    Derivation(
        slug="label-noise",
        title="Flipped labels: the loss that undoes them, and the smoothing that repeats them",
        chapter=3,
        rows=("label-noise",),
        source="Natarajan et al. (2013), Learning with noisy labels; Chowdhury et al. (2024), arXiv:2403.00409.",
        where=lambda gaps, N: moderate(gaps) and N >= 2,
        largest=40,
        scale=lambda gaps, score_gaps: 10.0 * (1.0 + np.max(np.abs(gaps)) + np.max(np.abs(score_gaps))),
        lines=(
            Line(
                r"(1 - e)\, \tilde\ell(D) + e\, \tilde\ell(-D), \quad \tilde\ell(D) = \frac{(1 - e)\, \ell(D) - e\, \ell(-D)}{1 - 2 e}, "
                r"\quad \ell(D) = -\log \sigma(D)",
                "A pair of fitted margin D comes with its label flipped with probability e < 1/2: the mean over the flip of the loss.",
            ),
            Line(
                r"\frac{(1 - e) \left( (1 - e)\, \ell(D) - e\, \ell(-D) \right) + e \left( "
                r"(1 - e)\, \ell(-D) - e\, \ell(D) \right)}{1 - 2 e}",
                "Put the definition in twice; a flipped label turns D into -D everywhere.",
                wrong={
                    "D not turned in the flipped term": lambda score_gaps, flip: (
                        ((1 - flip) * clean(score_gaps) - flip * clean(-score_gaps)) / (1 - 2 * flip)
                    ),
                    "plus for minus: label smoothing": lambda score_gaps, flip: (
                        (1 - flip) * smoothed_loss(score_gaps, flip) + flip * smoothed_loss(-score_gaps, flip)
                    ),
                },
            ),
            Line(
                r"\frac{(1 - e)^2 - e^2}{1 - 2 e}\, \ell(D) + \frac{e (1 - e) - (1 - e) e}{1 - 2 e}\, \ell(-D)",
                "Collect l(D) and l(-D).",
                slips=("sign of e^2 flipped", "sign of (1 - e)*e flipped"),
            ),
            Line(
                r"\ell(D)",
                "(1 - e)^2 - e^2 = 1 - 2 e, and the second bracket is 0: on average the flips are undone, whatever D.",
                slips=("sign within sigma flipped",),
                wrong={"1 - 2 e forgotten below": lambda score_gaps, flip: -(1 - 2 * flip) * log_sigmoid(score_gaps)},
            ),
            Line(
                r"\mathbb{E}_{\text{flipped labels}}\left[ \tilde\ell(\hat r_w - \hat r_l) \right]",
                "So over all pairs of the population, labeled by the law of r and then flipped:",
                lambda world, law, scores, flip: mean_of(unbiased_loss, noisy_pairs(world, law, flip), scores, flip),
                relation="so",
            ),
            Line(
                r"\mathbb{E}_{\text{clean labels}}\left[ -\log \sigma(\hat r_w - \hat r_l) \right]",
                "Line 4 holds for each label that was there before the flip; average it.",
                lambda pairs, scores: pairs_nll(pairs, scores),
                wrong={
                    "the plain loss of the flipped labels": lambda world, law, scores, flip: pairs_nll(
                        noisy_pairs(world, law, flip), scores
                    ),
                    "the smoothed loss of the flipped labels": lambda world, law, scores, flip: mean_of(
                        smoothed_loss, noisy_pairs(world, law, flip), scores, flip
                    ),
                },
            ),
            Line(
                r"q\, \ell_e(D) + (1 - q)\, \ell_e(-D), \quad \ell_e(D) = (1 - e)\, \ell(D) + e\, \ell(-D), "
                r"\quad q = (1 - e)\, \sigma(r_i - r_j) + e\, \sigma(r_j - r_i)",
                "Is label smoothing a cure too? Its mean for one pair, where q is the probability that 'i beat j' is what one hears.",
                relation="so",
            ),
            Line(
                r"\left( q (1 - e) + (1 - q) e \right) \ell(D) + \left( q e + (1 - q)(1 - e) \right) \ell(-D)",
                "Collect l(D) and l(-D) again.",
                wrong={
                    "smoothing undoes the noise: sigma for q'": lambda gaps, score_gaps: (
                        sigma(gaps) * clean(score_gaps) + sigma(-gaps) * clean(-score_gaps)
                    ),
                    "smoothing changes nothing: q for q'": lambda gaps, score_gaps, flip: (
                        heard(gaps, flip) * clean(score_gaps) + (1 - heard(gaps, flip)) * clean(-score_gaps)
                    ),
                },
            ),
            Line(
                r"q'\, \ell(D) + (1 - q')\, \ell(-D), \quad q' = (1 - e)\, q + e\, (1 - q)",
                "The plain loss of labels q' that were flipped twice: smoothing repeats the noise instead of undoing it.",
                wrong={
                    "flipped back instead of again": lambda gaps, score_gaps, flip: (
                        (heard(gaps, flip) - flip) / (1 - 2 * flip) * clean(score_gaps)
                        + (1 - flip - heard(gaps, flip)) / (1 - 2 * flip) * clean(-score_gaps)
                    ),
                    "the rest taken as q' too": "q'*ell(D) - (-q')*ell(-D)",
                },
            ),
        ),
        letters={"e": "flip", "D": "scores(i) - scores(j)", "ell(z)": "-log(sigma(z))"},
    )
)
