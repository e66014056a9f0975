"""Problems on preferences, and on RLHF as inference: does a fit exist, soft labels, one pair's loss, Gibbs by hand, expansions."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.exercises.direct import PAIRS as OBSERVED_PAIRS
from tabular_rlhf.exercises.record import exercise
from tabular_rlhf.terms.comparisons import sigma

# ---------------------------------------------------------------------------------------------------- fit-exists


def reached(wins: Any) -> Any:
    """Whether a chain of wins leads from i to j, or i = j."""
    paths = np.eye(wins.shape[-1]) + (wins > 0)
    return np.linalg.matrix_power(paths, max(1, wins.shape[-1])) > 0


def compared(wins: Any) -> Any:
    return wins + np.swapaxes(wins, 1, 2)


exercise(
    slug="fit-exists",
    chapter=3,
    notebook="",
    title="Does Bradley-Terry have a best fit?",
    statement=(
        "`wins_some[x, i, j]` says how often response i beat response j, `(P, N, N)`. Return 1 for each prompt whose likeliest "
        "Bradley-Terry scores are finite and unique up to a constant, and 0 for the others: shape `(P,)`."
    ),
    hint="If nobody outside a group ever beat one of the group, its scores run away. What does that forbid, as paths of wins?",
    rows=("bt-existence",),
    largest=20,
    minutes=15,
    answer=lambda wins_some, N: 1.0 * np.all(np.linalg.matrix_power(np.eye(N) + (wins_some > 0), N) > 0, axis=(1, 2)),
    misses={
        "connected by comparisons, not by wins": lambda wins_some: 1.0 * np.all(reached(compared(wins_some)), axis=(1, 2)),
        "everybody won once": lambda wins_some, N: 1.0 * (np.all(np.sum(wins_some, axis=2) > 0, axis=1) | (N == 1)),
        "every pair was compared": lambda wins_some, N: 1.0 * np.all(compared(wins_some) + np.eye(N) > 0, axis=(1, 2)),
        "always": lambda P: np.ones(P),
        "every pair won both ways": lambda wins_some, N: 1.0 * np.all(wins_some + np.eye(N) > 0, axis=(1, 2)),
    },
)

# ---------------------------------------------------------------------------------------------------- soft-label-slope


exercise(
    slug="soft-label-slope",
    chapter=3,
    notebook="",
    title="Soft labels on features",
    statement=(
        "A linear reward gives n pairs the gaps `feature_gaps @ weights`, of `feature_gaps`, `(n, 2)`, first less second, and "
        "`weights`, `(2,)`. A share `soft_labels`, `(n,)`, of the judges prefers the first. The loss is the mean cross-entropy of "
        "these shares and $\\sigma$ of the gaps. Return its slope in the weights: shape `(2,)`."
    ),
    hint="The slope of the cross-entropy in the gap is prediction less label.",
    rows=("bt-score-hessian", "label-noise"),
    answer=lambda feature_gaps, soft_labels, weights: (
        feature_gaps.T @ (1.0 / (1.0 + np.exp(-feature_gaps @ weights)) - soft_labels) / len(soft_labels)
    ),
    misses={
        "sign flipped: label less prediction": lambda feature_gaps, soft_labels, weights: (
            feature_gaps.T @ (soft_labels - sigma(feature_gaps @ weights)) / len(soft_labels)
        ),
        "sum where the mean was due": lambda feature_gaps, soft_labels, weights: (
            feature_gaps.T @ (sigma(feature_gaps @ weights) - soft_labels)
        ),
        "hard labels: the majority has won": lambda feature_gaps, soft_labels, weights: (
            feature_gaps.T @ (sigma(feature_gaps @ weights) - (soft_labels > 0.5)) / len(soft_labels)
        ),
        "the slope of the squared error": lambda feature_gaps, soft_labels, weights: (
            feature_gaps.T
            @ ((sigma(feature_gaps @ weights) - soft_labels) * sigma(feature_gaps @ weights) * sigma(-feature_gaps @ weights))
            / len(soft_labels)
        ),
        "the gap for its sigmoid": lambda feature_gaps, soft_labels, weights: (
            feature_gaps.T @ (feature_gaps @ weights - soft_labels) / len(soft_labels)
        ),
        "the first always wins: labels forgotten": lambda feature_gaps, soft_labels, weights: (
            feature_gaps.T @ (sigma(feature_gaps @ weights) - 1.0) / len(soft_labels)
        ),
    },
    scale=lambda: 16.0,
)

# ---------------------------------------------------------------------------------------------------- pair-loss, smoothed-pair-loss


PAIRS = (
    "Of n pairs, the winner has log-probability `log_p_w` under the policy and `log_p_ref_w` under the reference, the loser `log_p_l` and "
    "`log_p_ref_l`, all `(n,)`. The margin is $\\beta$ = `beta` times the winner's log-ratio of policy to reference less the loser's. "
)


exercise(
    slug="pair-loss",
    chapter=6,
    notebook="",
    title="DPO's loss, pair by pair",
    statement=PAIRS + "Return DPO's loss of every pair, minus the logarithm of $\\sigma$ of the margin: shape `(n,)`, nats.",
    hint="Write it as log(1 + exp(-margin)), with np.logaddexp; then a large margin does no harm.",
    rows=("dpo-loss",),
    letters=OBSERVED_PAIRS,
    given=("beta", "log_p_w", "log_p_ref_w", "log_p_l", "log_p_ref_l"),
    forbidden="refused",
    scale=lambda beta, log_p, log_p_ref: 1.0 + beta * (np.max(np.abs(log_p)) + np.max(np.abs(log_p_ref))),
    text=r"""
    -\log\sigma(\beta \Delta)
      slip beta dropped
      not -\log\sigma(-\beta \Delta)  # winner and loser swapped
      not -\log\sigma(\beta (\ell_w - \ell_l))  # the reference forgotten
      not -\log\sigma(\beta ((\ell_w + \ell_w^{ref}) - (\ell_l + \ell_l^{ref})))  # the sign of the reference flipped
      not \sigma(-\beta \Delta)  # the logarithm forgotten: 1 minus the probability
    """,
)

exercise(
    slug="smoothed-pair-loss",
    chapter=6,
    notebook="",
    title="DPO with smoothed labels",
    statement=(
        PAIRS + "A label is wrong with probability `flip`. Return the loss of every pair as the cross-entropy of that: 1 - flip times the "
        "loss of the pair as it is, plus flip times that of the pair swapped: shape `(n,)`, nats."
    ),
    hint="Swapping the pair changes the sign of the margin.",
    rows=("dpo-loss", "label-noise"),
    forbidden="refused",
    letters={**OBSERVED_PAIRS, "epsilon": "flip"},
    given=("beta", "log_p_w", "log_p_ref_w", "log_p_l", "log_p_ref_l", "flip"),
    scale=lambda beta, log_p, log_p_ref: 1.0 + beta * (np.max(np.abs(log_p)) + np.max(np.abs(log_p_ref))),
    text=r"""
    -(1 - \epsilon) \log\sigma(\beta \Delta) - \epsilon \log\sigma(-\beta \Delta)
      not -\log\sigma(\beta \Delta)  # not smoothed
      not -\epsilon \log\sigma(\beta \Delta) - (1 - \epsilon) \log\sigma(-\beta \Delta)  # flip and 1 - flip exchanged
      not -\log\sigma(\beta \Delta) - \frac{\epsilon\, \beta \Delta}{1 - 2 \epsilon}  # the unbiased loss: minus flip, over 1 - 2 flip
      not -\log((1 - \epsilon)\, \sigma(\beta \Delta) + \epsilon\, \sigma(-\beta \Delta))  # probabilities mixed, then the logarithm
      not -(1 - \frac{\epsilon}{2}) \log\sigma(\beta \Delta) - \frac{\epsilon}{2} \log\sigma(-\beta \Delta)
        # half of flip: smoothed towards 1/2
    """,
)

# ---------------------------------------------------------------------------------------------------- gibbs-by-hand

GIVEN_P, GIVEN_R, GIVEN_BETA = np.array([0.5, 0.3, 0.2]), np.array([1.0, 0.0, 2.0]), 0.5


def shares(weight: Any) -> Any:
    return weight / np.sum(weight)


exercise(
    slug="gibbs-by-hand",
    chapter=4,
    notebook="",
    title="The optimum of three responses",
    statement=(
        "Three responses have probabilities 0.5, 0.3, 0.2 under the reference and rewards 1, 0, 2. The weight of the KL divergence is "
        "1/2. Return the probabilities of the policy that maximizes the mean reward less the weighted divergence to the reference: "
        "shape `(3,)`; six decimals are enough."
    ),
    hint="Multiply each probability by exp(r/beta), and divide by the sum.",
    rows=("gibbs-optimum",),
    error=1e-5,
    answer=lambda: shares(GIVEN_P * np.exp(GIVEN_R / GIVEN_BETA)),
    misses={
        "beta for 1/beta": lambda: shares(GIVEN_P * np.exp(GIVEN_R * GIVEN_BETA)),
        "the reference forgotten": lambda: shares(np.exp(GIVEN_R / GIVEN_BETA)),
        "not normalized": lambda: GIVEN_P * np.exp(GIVEN_R / GIVEN_BETA),
        "sign flipped": lambda: shares(GIVEN_P * np.exp(-GIVEN_R / GIVEN_BETA)),
        "beta dropped": lambda: shares(GIVEN_P * np.exp(GIVEN_R)),
        "the best response": lambda: np.array([0.0, 0.0, 1.0]),
        "the reference in the exponent: exp(p_ref + r/beta)": lambda: shares(np.exp(GIVEN_P + GIVEN_R / GIVEN_BETA)),
    },
)

# ---------------------------------------------------------------------------------------------------- kl-to-second-order


exercise(
    slug="kl-to-second-order",
    chapter=8,
    notebook="",
    title="How far a small step is",
    statement=(
        "The logits of a policy `pi`, `(P, S, V)`, move to logits + t v, v = `direction`, `(P, S, V)`. For small t, the divergence "
        "in each state from the policy to the moved one is $c\\, t^2$ and terms of higher order. Return c: shape `(P, S)`, nats. "
        "(The divergence the other way round has the same c.)"
    ),
    hint="KL(p, q) of q = softmax(log p + t v) is log E_p[exp(t v)] - t E_p[v]: expand it.",
    rows=("second-order",),
    given=("pi", "direction"),
    scale=lambda: 16.0,
    text=r"""
    let v = direction; V = V
    \frac{1}{2} \mathrm{Var}_a(v(s, a))
      not \mathrm{Var}_a(v(s, a))  # 1/2 forgotten
      not \frac{1}{2} \sum_a \pi(a \mid s)\, v(s, a)^2  # the second moment: not centered
      not \frac{1}{2} \sum_a v(s, a)^2  # Euclid's length: pi omitted
      not \frac{1}{2} (\frac{1}{V} \sum_a v(s, a)^2 - (\frac{1}{V} \sum_a v(s, a))^2)  # under the uniform policy
      not \sum_a \pi(a \mid s)\, v(s, a)  # of first order: the mean of v
      not \frac{1}{2} \sum_a \pi(a \mid s)^2\, (v(s, a) - \sum_b \pi(b \mid s)\, v(s, b))^2  # pi squared
    """,
)

# ---------------------------------------------------------------------------------------------------- value-to-first-order


exercise(
    slug="value-at-large-beta",
    chapter=4,
    notebook="",
    title="The optimum's value under strong regularization",
    statement=(
        "For large $\\beta$ the value $\\beta \\log Z$ of the optimum is the reference's mean reward, and a correction. Return both: "
        "the value up to and including the term of order $1/\\beta$, from `p_ref`, `r`, `(P, N)`, and `beta`, for each prompt: shape "
        "`(P,)`, reward units."
    ),
    hint="log Z is the cumulant function of r at 1/beta: mean, then half of the variance.",
    rows=("free-energy-derivatives",),
    given=("p_ref", "r", "beta"),
    scale=lambda r, beta: (1.0 + np.max(np.abs(r))) ** 2 * (1.0 + 1.0 / beta),
    text=r"""
    \mathbb{E}_{p_{ref}}[r] + \frac{\mathrm{Var}_{p_{ref}}(r)}{2 \beta}
      not \mathbb{E}_{p_{ref}}[r] + \frac{\mathrm{Var}_{p_{ref}}(r)}{\beta}  # 1/2 forgotten
      not \mathbb{E}_{p_{ref}}[r]  # the first term alone
      not \mathbb{E}_{p_{ref}}[r] + \frac{\mathbb{E}_{p_{ref}}[r^2]}{2 \beta}  # the second moment for the variance
      not \mathbb{E}_{p_{ref}}[r] + \frac{\beta}{2} \mathrm{Var}_{p_{ref}}(r)  # beta for 1/beta
      not \mathbb{E}_{p_{ref}}[r] - \frac{\mathrm{Var}_{p_{ref}}(r)}{2 \beta}  # sign flipped: the value under a mean
      not \frac{1}{\beta} (\mathbb{E}_{p_{ref}}[r] + \frac{\mathrm{Var}_{p_{ref}}(r)}{2 \beta})  # log Z, not beta times it
      not \mathbb{E}_{p^*}[r]  # the optimum's mean reward: twice the correction, of p*
    """,
)
