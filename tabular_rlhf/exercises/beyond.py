"""Exercises on chapter 10, where no list is: what a format costs, how a few draws mislead, and what sums over paths still say."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.exercises.record import exercise
from tabular_rlhf.logspace import remainder


def mean(p: Any, x: Any) -> Any:
    return np.sum(p * x, axis=1)


def spread(p: Any, x: Any) -> Any:
    """The variance of x under p, of each prompt."""
    return mean(p, np.square(x - mean(p, x)[:, None]))


exercise(
    slug="format-law",
    chapter=10,
    notebook="12",
    title="The reference, given a format",
    statement=(
        "Responses have probabilities `p_ref`, and `success` is 1 for those that have a required format, both of shape `(P, N)`. "
        "Return the law of a response of the reference given that it has the format: shape `(P, N)`."
    ),
    hint="Bayes: what does not have the format drops out, and the rest keeps its proportions.",
    rows=("masking-is-not-conditioning",),
    answer=lambda p_ref, success: p_ref * success / mean(p_ref, success)[:, None],
    misses={
        "not normalized": lambda p_ref, success: p_ref * success,
        "uniform over what has the format": lambda success: success / np.sum(success, axis=1, keepdims=True),
        "the optimum for the reward f": lambda p_ref, success, beta: (
            p_ref * np.exp(success / beta) / mean(p_ref, np.exp(success / beta))[:, None]
        ),
        "normalized by how many have it": lambda p_ref, success: p_ref * success / np.sum(success, axis=1, keepdims=True),
    },
    forbidden="refused",
)

exercise(
    slug="k3-spread",
    chapter=10,
    notebook="12",
    title="How k3 scatters",
    statement=(
        "A response drawn from `p`, of shape `(P, N)`, has the log-ratio `L` $= \\log(p/p_{ref})$. Return the variance of one draw of "
        "$k_3 = e^{-L} - 1 + L$, for each prompt: shape `(P,)`, nats squared."
    ),
    hint="Its mean is KL(p, p_ref). Square the distance from the mean before you average.",
    rows=("lattice-k3",),
    answer=lambda p, L: spread(p, remainder(-L, 2)),
    misses={
        "the second moment": lambda p, L: mean(p, np.square(remainder(-L, 2))),
        "the variance of k1": lambda p, L: spread(p, L),
        "draws of the reference": lambda p_ref, L: spread(p_ref, remainder(-L, 2)),
        "the deviation": lambda p, L: np.sqrt(spread(p, remainder(-L, 2))),
    },
    forbidden="refused",
)

exercise(
    slug="effective-share",
    chapter=10,
    notebook="12",
    title="What a draw of the reference is worth",
    statement=(
        "Draws of `p_ref` are to tell means under `p_star`, both of shape `(P, N)`, by weights $w = p^*/p_{ref}$. Of n draws, about "
        "$n / \\mathbb{E}_{p_{ref}}[w^2]$ count: the effective sample size. Return this share, $1/\\mathbb{E}_{p_{ref}}[w^2]$, for "
        "each prompt: shape `(P,)`."
    ),
    hint="The mean of the squared weights under p_ref is the mean of the weights under p*.",
    rows=("beyond-lists",),
    answer=lambda p_ref, p_star: 1.0 / np.sum(np.square(p_star) / p_ref, axis=1),
    misses={
        "weights not squared": lambda p_ref, p_star: 1.0 / np.sum(p_star, axis=1),
        "weights squared, and averaged under p*": lambda p_ref, p_star: 1.0 / np.sum(p_star**3 / p_ref**2, axis=1),
        "the mean square, not its inverse": lambda p_ref, p_star: np.sum(np.square(p_star) / p_ref, axis=1),
        "the effective number of responses": lambda p_star: 1.0 / np.sum(np.square(p_star), axis=1),
        "exp(-KL), a bound on it": lambda p_ref, p_star: np.exp(-np.sum(p_star * np.log(p_star / p_ref), axis=1)),
    },
    forbidden="refused",
)
