r"""Chapter 3 as derivations: maximum likelihood as a projection, and the saturation of log sigma.

P(i, j) = sigma(r_i - r_j) is the law of the labels, P^(i, j) = sigma(r^_i - r^_j) that of the fitted scores.  Pairs are drawn as the
data are: the prompt from mu, two responses from p_ref.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.autodiff import grad
from tabular_rlhf.derivations.record import Derivation, Line, add
from tabular_rlhf.ledger.chapter3 import TERRY, moderate, sigma, softplus, weights
from tabular_rlhf.logspace import kl, log_sigmoid

# ---------------------------------------------------------------------------------------------------- mle-is-forward-kl


def both_outcomes(gaps: Any) -> Any:
    """log of the probabilities of the two labels, on a last axis."""
    return np.stack([log_sigmoid(gaps), log_sigmoid(-gaps)], axis=-1)


def over_pairs(log_p_ref: Any, mu: Any, table: Any) -> Any:
    """The mean of a table (P, N, N) over drawn pairs."""
    return np.sum(weights(log_p_ref, mu) * table)


def cross(gaps: Any, score_gaps: Any) -> Any:
    """-P log P^ - (1 - P) log(1 - P^)."""
    return -sigma(gaps) * log_sigmoid(score_gaps) - sigma(-gaps) * log_sigmoid(-score_gaps)


def log_odds_against(gaps: Any, score_gaps: Any) -> Any:
    """P log(P/P^) + (1 - P) log((1 - P)/(1 - P^)), written out."""
    won = sigma(gaps) * (log_sigmoid(gaps) - log_sigmoid(score_gaps))
    return won + sigma(-gaps) * (log_sigmoid(-gaps) - log_sigmoid(-score_gaps))


def pair_kl(gaps: Any, score_gaps: Any) -> Any:
    """KL(P, P^) of the two labels of every pair."""
    return kl(both_outcomes(gaps), both_outcomes(score_gaps))


add(
    Derivation(
        slug="mle-is-forward-kl",
        title="Maximum likelihood is the forward-KL projection onto Bradley-Terry laws",
        chapter=3,
        rows=("mle-is-forward-kl", "reward-shift-invariance"),
        source="Kullback and Leibler (1951); Swamy et al. (2025), arXiv:2503.01067, for RLHF.",
        where=moderate,
        largest=100,
        scale=lambda gaps, score_gaps: 1.0 + np.max(np.abs(gaps)) + np.max(np.abs(score_gaps)),
        lines=(
            Line(
                r"\mathbb{E}_{(w, l)}\left[ -\log \sigma(\hat r_w - \hat r_l) \right]",
                "The loss on endless data: the prompt from mu, two responses from p_ref, the winner w by the law of r.",
            ),
            Line(
                r"\mathbb{E}_{(i, j)}\left[ -P_{ij} \log \hat P_{ij} - (1 - P_{ij}) \log(1 - \hat P_{ij}) \right]",
                "Average over the label first: with probability P_ij it is (i, j), otherwise (j, i); sigma(-D) is 1 - sigma(D).",
                slips=("a factor 1/2 too many",),
                wrong={
                    "winner and loser swapped": "E_{i, j}[P(i, j)*log(P_hat(i, j)) - (1 + P(i, j))*log(1 - P_hat(i, j))]",
                    "sigma of each score alone": lambda gaps, scores, log_p_ref, mu: over_pairs(
                        log_p_ref, mu, cross(gaps, scores[:, :, None] + 0.0 * gaps)
                    ),
                },
            ),
            Line(
                r"\mathbb{E}_{(i, j)}\left[ P_{ij} \log\frac{P_{ij}}{\hat P_{ij}} + (1 - "
                r"P_{ij}) \log\frac{1 - P_{ij}}{1 - \hat P_{ij}} \right]"
                r" + \mathbb{E}_{(i, j)}\left[ -P_{ij} \log P_{ij} - (1 - P_{ij}) \log(1 - P_{ij}) \right]",
                "Add P log P and (1 - P) log(1 - P), and take them away again.",
                slips=("sign of E_{i, j}[-P(i, j)*log(P(i, j)) - (1 - P(i, j))*log(1 - P(i, j))] flipped",),
                wrong={
                    "entropy of the fitted law for that of the labels": lambda gaps, score_gaps, log_p_ref, mu: (
                        over_pairs(log_p_ref, mu, log_odds_against(gaps, score_gaps))
                        + over_pairs(log_p_ref, mu, cross(score_gaps, score_gaps))
                    )
                },
            ),
            Line(
                r"\mathbb{E}_{(i, j)}\left[ \mathrm{KL}(P_{ij}, \hat P_{ij}) \right] + "
                r"\mathbb{E}_{(i, j)}\left[ \mathcal{H}(P_{ij}) \right]",
                "The first mean is a KL of two outcomes, the labels' law first: forward. The second is the labels' entropy.",
                slips=("arguments of KL swapped",),
                wrong={
                    "log base 2 in the entropy": lambda gaps, score_gaps, log_p_ref, mu: (
                        over_pairs(log_p_ref, mu, pair_kl(gaps, score_gaps)) + over_pairs(log_p_ref, mu, cross(gaps, gaps)) / np.log(2.0)
                    )
                },
            ),
            Line(
                r"\mathbb{E}_{(i, j)}\left[ \mathrm{KL}(P_{ij}, \hat P_{ij}) \right]",
                "The labels' entropy does not depend on the scores: minimizing the loss is minimizing the forward KL.",
                relation="up to a constant",
                of="scores",
                slips=("arguments of KL swapped", "a factor 1/2 too many"),
            ),
            Line(
                r"\mathbb{E}_{(i, j)}\left[ \mathrm{KL}(P_{ij}, \hat P_{ij}) \right] \text{ at } \hat r = r + c(x)",
                "Now try the true reward, moved by any number c(x) for each prompt.",
                lambda r, shift, gaps, log_p_ref, mu: over_pairs(
                    log_p_ref, mu, pair_kl(gaps, (r + shift)[:, :, None] - (r + shift)[:, None, :])
                ),
                relation="so",
            ),
            Line(
                "0",
                "c(x) cancels in every difference within a prompt, so both laws are the same.",
                wrong={
                    "the entropy of the labels: that belongs to the loss": lambda gaps, log_p_ref, mu: over_pairs(
                        log_p_ref, mu, cross(gaps, gaps)
                    ),
                    "log 2, a coin's entropy": lambda: float(np.log(2.0)),
                },
            ),
            Line(
                r"\mathbb{E}_{(i, j)}\left[ \mathrm{KL}(P_{ij}, \hat P_{ij}) \right]",
                "No scores do better, since a KL is never negative: r + c(x) is the maximum of the likelihood.",
                relation="<=",
                slips=("sign flipped",),
                wrong={
                    "won labels alone: not a KL": lambda gaps, score_gaps, log_p_ref, mu: over_pairs(
                        log_p_ref, mu, sigma(score_gaps) * (log_sigmoid(gaps) - log_sigmoid(score_gaps))
                    )
                },
            ),
        ),
        letters={"P": "P_beats", "P_hat": "sigma(scores(i) - scores(j))"},
    )
)

# ---------------------------------------------------------------------------------------------------- bt-saturation


def push(gaps: Any) -> Any:
    """d log sigma(D)/dD at D = gaps, by the gradient core."""
    return grad(lambda D: np.sum(-softplus(-D)))(gaps)


add(
    Derivation(
        slug="bt-saturation",
        title="The saturation of log sigma: pairs far apart are hardly pushed",
        chapter=3,
        rows=("bt-saturation",),
        source=TERRY,
        where=moderate,
        largest=100,
        lines=(
            Line(
                r"\frac{d}{dD} \log \sigma(D), \quad D = r_i - r_j",
                "How fast the log-likelihood of 'i beat j' rises as the scores move apart: by the gradient core, for every pair.",
            ),
            Line(
                r"\frac{1}{\sigma(D)} \cdot \frac{d}{dD} \frac{1}{1 + e^{-D}}",
                "The chain rule: the slope of log y is 1/y times the slope of y.",
                slips=("1/sigma(D) dropped",),
                wrong={"log base 2": lambda gaps: grad(lambda d: np.sum(1.0 / (1.0 + np.exp(-d))))(gaps) / sigma(gaps) / np.log(2.0)},
            ),
            Line(
                r"(1 + e^{-D}) \cdot \frac{e^{-D}}{(1 + e^{-D})^2}",
                "1/y has the slope -y'/y^2, and 1 + e^{-D} the slope -e^{-D}: two minus signs make a plus.",
                slips=("the exponent 2 dropped",),
                wrong={"one minus sign lost": "-(1 + exp(-D))*(exp(-D)/(1 + exp(-D))^2)"},
            ),
            Line(r"\frac{e^{-D}}{1 + e^{-D}}", "One factor 1 + e^{-D} cancels.", slips=("1 + exp(-D) dropped",)),
            Line(
                r"\sigma(-D)",
                "Above and below times e^D: 1/(e^D + 1). It is the probability of the label that was not seen.",
                slips=("sign within sigma flipped",),
                wrong={"sigma(D) sigma(-D): the slope of sigma": lambda gaps: sigma(gaps) * sigma(-gaps)},
            ),
            Line(
                r"e^{-D}",
                "Drop the 1 below in line 4's 1 + e^{-D} >= 1: the push decays exponentially.",
                relation="<=",
                slips=("a factor 1/2 too many",),
                wrong={"e^{-2D}: faster than it is": "exp(2*(-D))"},
            ),
            Line(r"\sigma(-D)\, e^{D}", "Is the bound tight?", lambda gaps: np.exp(gaps) / (1.0 + np.exp(gaps)), relation="so"),
            Line(
                "1",
                "As D grows: yes, sigma(-D) = e^{-D} - e^{-2D} + ...",
                lambda: 1.0,
                relation="in the limit",
                along=("gaps", (1.0, 10.0, 40.0)),
                wrong={"1/2, its value at D = 0": lambda: 0.5, "0: the slope's own limit": lambda: 0.0},
            ),
            Line(
                r"\frac{d^2}{dD^2} \log \sigma(D)", "And how fast does the push itself change? By the gradient core, twice.", relation="so"
            ),
            Line(
                r"-\sigma(D)\, \sigma(-D)",
                "The slope of sigma(-D) is sigma'(-D) times -1, and sigma' = sigma(D) sigma(-D) is the same at D and -D.",
                slips=("sign flipped", "sign within sigma flipped"),
            ),
            Line(
                "0",
                "So log sigma is concave: a sum of such losses is convex in the scores, and one minimum is the minimum.",
                relation="<=",
                wrong={"-1/4: that bounds it from below": lambda gaps: np.full_like(gaps, -0.25)},
            ),
        ),
    )
)
