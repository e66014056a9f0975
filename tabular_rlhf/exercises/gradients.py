"""Exercises on chapter 7: the policy gradient and its baselines, groups of responses, and the clipped surrogate."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.exercises.record import Exercise, add

SCORES = (
    "`score_rows[x, i, s, a]` is the slope of the log-probability of response $i$ to prompt $x$ in the logit of token $a$ in state $s$ of "
    "that prompt (the score), of shape `(P, N, S, V)`. "
)

# ---------------------------------------------------------------------------------------------------- logit-gradient


def along_scores(mu: Any, p: Any, weight: Any, score_rows: Any) -> Any:
    """E_mu E_p[weight score]."""
    return np.einsum("x,xn,xnsv->xsv", mu, p * weight, score_rows)


def visited_scores(mdp: Any, mu: Any, p: Any, r: Any) -> Any:
    """E[r score] with the score taken for the chosen tokens themselves."""
    return mdp.subtree_sum(mu[:, None] * p * r)


add(
    Exercise(
        slug="logit-gradient",
        chapter=7,
        notebook="07",
        title="The policy gradient",
        statement=(
            SCORES + "Prompts have probabilities `mu`, `(P,)`, responses have probabilities `p` under the policy and rewards `r`, both "
            "`(P, N)`. Return the gradient of the mean reward $\\mathbb{E}_{x \\sim \\mu} \\mathbb{E}_p[r]$ in the logits: shape "
            "`(P, S, V)`, reward units."
        ),
        hint="The slope of p is p times the slope of log p; np.einsum keeps the axes apart.",
        rows=("policy-gradient",),
        answer=lambda mu, p, r, score_rows: np.einsum("x,xn,xn,xnsv->xsv", mu, p, r, score_rows),
        largest=200,
        misses={
            "sign flipped": lambda mu, p, r, score_rows: -along_scores(mu, p, r, score_rows),
            "p omitted: every response counts alike": lambda mu, p, r, score_rows: along_scores(mu, np.ones_like(p), r, score_rows),
            "responses drawn from p_ref": lambda mu, p_ref, r, score_rows: along_scores(mu, p_ref, r, score_rows),
            "r omitted: the mean score": lambda mu, p, r, score_rows: along_scores(mu, p, np.ones_like(r), score_rows),
            "the score without its normalization": visited_scores,
            "the gradient of J: a KL penalty that was not asked for": lambda mu, p, r, beta, L, score_rows: along_scores(
                mu, p, r - beta * L, score_rows
            ),
            "mean where the sum was due: divided by N": lambda mu, p, r, score_rows: along_scores(mu, p, r, score_rows) / r.shape[1],
        },
        scale=lambda r: 1.0 + np.max(np.abs(r)),
    )
)

# ---------------------------------------------------------------------------------------------------- best-baseline


def squared(score_rows: Any) -> Any:
    """|score|^2 of every response."""
    return np.sum(np.square(score_rows), axis=(2, 3))


def weighted_mean(weight: Any, r: Any) -> Any:
    return np.sum(weight * r, axis=1) / np.sum(weight, axis=1)


add(
    Exercise(
        slug="best-baseline",
        chapter=7,
        notebook="07",
        title="The quietest baseline",
        statement=(
            SCORES + "A response drawn with probability `p` moves the logits by $(r - b)\\,\\mathrm{score}$; the mean of this does not "
            "depend on the number $b$, its size does. Return the $b$ of each prompt for which the mean of the squared length "
            "$(r - b)^2\\, |\\mathrm{score}|^2$ is smallest: shape `(P,)`, reward units. (`p` and `r` have shape `(P, N)`.)"
        ),
        hint="A parabola in b: set its slope to zero, and read the result as a weighted mean of r.",
        rows=("optimal-baseline",),
        answer=lambda p, r, score_rows: (
            np.sum(p * r * np.sum(score_rows**2, axis=(2, 3)), axis=1) / np.sum(p * np.sum(score_rows**2, axis=(2, 3)), axis=1)
        ),
        largest=100,
        misses={
            "the mean reward: |score|^2 omitted": lambda E_r: E_r,
            "|score| for |score|^2": lambda p, r, score_rows: weighted_mean(p * np.sqrt(squared(score_rows)), r),
            "responses drawn from p_ref": lambda p_ref, r, score_rows: weighted_mean(p_ref * squared(score_rows), r),
            "the weights omitted: responses averaged evenly": lambda r: np.mean(r, axis=1),
            "p omitted: every response counts alike": lambda r, score_rows: weighted_mean(squared(score_rows), r),
            "sign flipped": lambda p, r, score_rows: -weighted_mean(p * squared(score_rows), r),
            "not normalized: E[|score|^2 r] alone": lambda p, r, score_rows: np.sum(p * r * squared(score_rows), axis=1),
        },
        where=lambda p, score_rows: float(np.min(np.sum(p * squared(score_rows), axis=1))) > 1e-2,
        # the quotient divides by at least 1/100
        scale=lambda r: 100.0 * (1.0 + np.max(np.abs(r))),
    )
)

# ---------------------------------------------------------------------------------------------------- leave-one-out


def centered(rewards: Any, axis: int | None = 1) -> Any:
    """Less the group's mean (axis None: less the mean of all groups)."""
    return rewards - np.mean(rewards, axis=axis, keepdims=True)


def others_total(rewards: Any) -> Any:
    return np.sum(rewards, axis=1, keepdims=True) - rewards


add(
    Exercise(
        slug="leave-one-out",
        chapter=7,
        notebook="07",
        title="What the others earned",
        statement=(
            "`rewards` holds the rewards of $n$ groups of $G$ responses, a group a row: shape `(n, G)`. RLOO compares each response with "
            "the others of its group: its advantage is its reward less the mean reward of the other $G - 1$. Return the advantages: "
            "shape `(n, G)`, reward units."
        ),
        hint="The total of the others is the total of the group less one's own reward.",
        rows=("rloo", "group-identities"),
        answer=lambda rewards, G: rewards - (np.sum(rewards, axis=1, keepdims=True) - rewards) / (G - 1),
        misses={
            "n for n - 1: the group mean including self": lambda rewards: centered(rewards),
            "sum for mean of the others": lambda rewards: rewards - others_total(rewards),
            "n for n - 1: the others' total divided by G": lambda rewards, G: rewards - others_total(rewards) / G,
            "sign flipped": lambda rewards, G: others_total(rewards) / (G - 1) - rewards,
            "all groups together": lambda rewards: rewards - (np.sum(rewards) - rewards) / (np.size(rewards) - 1),
            "the best of the group for the mean of the others": lambda rewards: rewards - np.max(rewards, axis=1, keepdims=True),
            "own reward omitted: the baseline alone": lambda rewards, G: others_total(rewards) / (G - 1),
        },
    )
)

# ---------------------------------------------------------------------------------------------------- grpo-advantage


def deviation(rewards: Any, ddof: int = 0, axis: int | None = 1) -> Any:
    return np.std(rewards, axis=axis, ddof=ddof, keepdims=True)


add(
    Exercise(
        slug="grpo-advantage",
        chapter=7,
        notebook="07",
        title="Divided by the group's spread",
        statement=(
            "`successes` holds the 0/1 rewards of $n$ groups of $G$ responses, a group a row, each with a success and a failure: shape "
            "`(n, G)`. GRPO's advantage is the reward less the mean of its group, divided by the group's standard deviation (the "
            "population one, which divides by $G$). Return the advantages: shape `(n, G)`."
        ),
        hint="In every group the squares of the advantages have mean one.",
        rows=("grpo",),
        answer=lambda successes: (successes - np.mean(successes, axis=1, keepdims=True)) / np.std(successes, axis=1, keepdims=True),
        misses={
            "n - 1 for n: the sample's standard deviation": lambda successes: centered(successes) / deviation(successes, ddof=1),
            "variance for standard deviation": lambda successes: centered(successes) / deviation(successes) ** 2,
            "the standard deviation omitted": lambda successes: centered(successes),
            "the mean omitted": lambda successes: successes / deviation(successes),
            "the leave-one-out mean for the group's": lambda successes, G: centered(successes) / deviation(successes) * G / (G - 1),
            "the standard deviation of all groups together": lambda successes: centered(successes) / deviation(successes, axis=None),
            "all groups together": lambda successes: centered(successes, None) / deviation(successes, axis=None),
            "sign flipped": lambda successes: -centered(successes) / deviation(successes),
            "times for divided by the standard deviation": lambda successes: centered(successes) * deviation(successes),
        },
    )
)

# ---------------------------------------------------------------------------------------------------- clipped-surrogate


def held(importance: Any, clip: float) -> Any:
    return np.clip(importance, 1.0 - clip, 1.0 + clip)


def smaller(importance: Any, advantage: Any, clip: float) -> Any:
    return np.minimum(importance * advantage, held(importance, clip) * advantage)


add(
    Exercise(
        slug="clipped-surrogate",
        chapter=7,
        notebook="07",
        title="PPO's clipped surrogate",
        statement=(
            "Of $n$ draws from an old policy, `importance` holds the ratios $\\rho = \\pi/\\pi_{old}$ and `advantage` the advantages $A$, "
            "both of shape `(n,)`. With $c$ = `clip`, a draw is worth the smaller of $\\rho A$ and $\\rho_c A$, where $\\rho_c$ is "
            "$\\rho$ moved into $[1 - c, 1 + c]$. Return the mean over the draws: a scalar, reward units (to be maximized)."
        ),
        hint="Take the smaller one of the two products, not of the two ratios: A may be negative.",
        rows=("ppo-clip",),
        answer=lambda importance, advantage, clip: np.mean(
            np.minimum(importance * advantage, np.clip(importance, 1.0 - clip, 1.0 + clip) * advantage)
        ),
        misses={
            "clipping omitted": lambda importance, advantage: np.mean(importance * advantage),
            "the minimum omitted: always clipped": lambda importance, advantage, clip: np.mean(held(importance, clip) * advantage),
            "max for min": lambda importance, advantage, clip: np.mean(
                np.maximum(importance * advantage, held(importance, clip) * advantage)
            ),
            "the smaller ratio for the smaller product": lambda importance, advantage, clip: np.mean(
                np.minimum(importance, held(importance, clip)) * advantage
            ),
            "sign flipped: the loss": lambda importance, advantage, clip: -np.mean(smaller(importance, advantage, clip)),
            "sum where the mean was due": lambda importance, advantage, clip: np.sum(smaller(importance, advantage, clip)),
            "the ratio inverted": lambda importance, advantage, clip: np.mean(smaller(1.0 / importance, advantage, clip)),
            "the advantage clipped, not the ratio": lambda importance, advantage, clip: np.mean(
                np.minimum(importance * advantage, importance * np.clip(advantage, 1.0 - clip, 1.0 + clip))
            ),
        },
    )
)
