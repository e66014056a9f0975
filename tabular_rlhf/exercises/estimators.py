"""Exercises on chapter 8: k1, k2 and k3 on draws and on average, how noisy they are, what they push, and tokens."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.exercises.record import Exercise, add
from tabular_rlhf.logspace import expect

# ---------------------------------------------------------------------------------------------------- three-estimators


def k2(L: Any) -> Any:
    return L**2 / 2.0


def k3(L: Any) -> Any:
    return np.exp(-L) - 1.0 + L


def three(L: Any) -> Any:
    """k1, k2 and k3, a row each."""
    return np.stack([L, k2(L), k3(L)])


NAMED = "$k_1 = L$, $k_2 = L^2/2$ and $k_3 = p_{ref}/p - 1 + L$"

add(
    Exercise(
        slug="three-estimators",
        chapter=8,
        notebook="08",
        title="Three numbers for a draw",
        statement=(
            "`log_ratio` holds $L = \\log (p/p_{ref})$ of $n$ responses drawn from $p$: shape `(n,)`. Return the estimates of "
            f"$\\mathrm{{KL}}(p, p_{{ref}})$ that each draw makes, {NAMED}: a row each, shape `(3, n)`, nats."
        ),
        hint="p_ref/p is exp(-L); k2 and k3 are never negative, and they agree near L = 0.",
        rows=("k1", "k2", "k3"),
        answer=lambda log_ratio: np.stack([log_ratio, log_ratio**2 / 2.0, np.exp(-log_ratio) - 1.0 + log_ratio]),
        misses={
            "k3 with the ratio inverted": lambda log_ratio: np.stack([log_ratio, k2(log_ratio), np.exp(log_ratio) - 1.0 - log_ratio]),
            "the ratio inverted in all three": lambda log_ratio: three(-log_ratio),
            "k1 with its sign flipped": lambda log_ratio: np.stack([-log_ratio, k2(log_ratio), k3(log_ratio)]),
            "k2 without its half": lambda log_ratio: np.stack([log_ratio, log_ratio**2, k3(log_ratio)]),
            "k3 with the log's sign flipped": lambda log_ratio: np.stack([log_ratio, k2(log_ratio), np.exp(-log_ratio) - 1.0 - log_ratio]),
            "k3 with p/p_ref where p_ref/p was due": lambda log_ratio: np.stack(
                [log_ratio, k2(log_ratio), np.exp(log_ratio) - 1.0 + log_ratio]
            ),
            "k3 with k2's square": lambda log_ratio: np.stack([log_ratio, k2(log_ratio), np.exp(-log_ratio) - 1.0 + k2(log_ratio)]),
            "k3 without its - 1": lambda log_ratio: np.stack([log_ratio, k2(log_ratio), np.exp(-log_ratio) + log_ratio]),
            "log base 2": lambda log_ratio: three(log_ratio / np.log(2.0)),
        },
    )
)

# ---------------------------------------------------------------------------------------------------- estimator-means


def means(weight: Any, k: Any) -> Any:
    """The mean over responses of three tables: (3, P)."""
    return np.sum(weight * k, axis=2)


add(
    Exercise(
        slug="estimator-means",
        chapter=8,
        notebook="08",
        title="What they estimate",
        statement=(
            f"With $L = \\log (p/p_{{ref}})$ the estimators are {NAMED}. `L` and the probabilities `p` have shape `(P, N)`. Return the "
            "exact means over draws from $p$ for each prompt: a row for each estimator, shape `(3, P)`, nats. (Which two agree?)"
        ),
        hint="A mean over draws is a sum over responses, weighted with the law that they are drawn from.",
        rows=("k1", "k2", "k3"),
        forbidden="refused",
        answer=lambda p, L: np.stack([np.sum(p * L, axis=1), np.sum(p * L**2 / 2.0, axis=1), np.sum(p * (np.exp(-L) - 1.0 + L), axis=1)]),
        misses={
            "all three taken for unbiased: KL": lambda KL: np.stack([KL, KL, KL]),
            "k2 without its half": lambda p, L: means(p, np.stack([L, L**2, k3(L)])),
            "square of the mean for mean of the square": lambda KL: np.stack([KL, KL**2 / 2.0, KL]),
            "k3 with the ratio inverted": lambda p, L: means(p, np.stack([L, k2(L), np.exp(L) - 1.0 - L])),
            "k3 with the log's sign flipped": lambda p, L: means(p, np.stack([L, k2(L), np.exp(-L) - 1.0 - L])),
            "draws of p_ref": lambda p_ref, L: means(p_ref, three(L)),
            "p omitted: responses averaged evenly": lambda L: np.mean(three(L), axis=2),
            "k1 with its sign flipped": lambda p, L: means(p, np.stack([-L, k2(L), k3(L)])),
        },
        scale=lambda p, L: _terms(p, L),
    )
)


def _terms(p: Any, L: Any) -> float:
    """What is added up inside an estimator."""
    return float(np.max(np.sum(p * (1.0 + np.abs(L) + L**2 + np.exp(-L)), axis=1)))


# ---------------------------------------------------------------------------------------------------- k1-variance


def variance(log_p: Any, f: Any) -> Any:
    return expect(log_p, np.square(f - expect(log_p, f)[:, None]))


add(
    Exercise(
        slug="k1-variance",
        chapter=8,
        notebook="08",
        title="How noisy is k1?",
        statement=(
            "`L` holds $\\log (p/p_{ref})$ of every response and `p` its probability, both of shape `(P, N)`. Return the variance of $k_1 "
            "= L$ of one draw from $p$, for each prompt: shape `(P,)`, nats squared. (Compare its root with `KL`, its mean.)"
        ),
        hint="Mean of the square less the square of the mean, both under p.",
        rows=("k1",),
        forbidden="refused",
        answer=lambda p, L: np.sum(p * L**2, axis=1) - np.sum(p * L, axis=1) ** 2,
        misses={
            "second moment for variance": lambda p, L: np.sum(p * L**2, axis=1),
            "standard deviation for variance": lambda log_p, L: np.sqrt(variance(log_p, L)),
            "p omitted: responses averaged evenly": lambda L: np.var(L, axis=1),
            "draws of p_ref": lambda log_p_ref, L: variance(log_p_ref, L),
            "k3's variance for k1's": lambda log_p, L: variance(log_p, k3(L)),
            "k2's variance for k1's": lambda log_p, L: variance(log_p, k2(L)),
            "the mean not squared": lambda p, L, KL: np.sum(p * L**2, axis=1) - KL,
        },
        scale=lambda p, L: _terms(p, L),
    )
)

# ---------------------------------------------------------------------------------------------------- pathwise-gradient


def per_state(mu: Any, d: Any, pi: Any, slope: Any) -> Any:
    """mu d slope, with `slope` made to sum to zero under pi."""
    return mu[:, None, None] * d[..., None] * pi * (slope - np.sum(pi * slope, axis=2, keepdims=True))


def along_scores(mu: Any, weight: Any, score_rows: Any) -> Any:
    return np.einsum("x,xn,xnsv->xsv", mu, weight, score_rows)


add(
    Exercise(
        slug="pathwise-gradient",
        chapter=8,
        notebook="08",
        title="What k3 in the loss really pushes",
        statement=(
            "Draw responses from $p$, hold the draws fixed, and differentiate their $k_3 = p_{ref}/p - 1 + \\log (p/p_{ref})$ in the "
            "logits of $p$. Return the mean of this gradient over prompts $x \\sim \\mu$ and draws from $p$: shape `(P, S, V)`. It is the "
            "gradient of a divergence; of which? (`score_rows[x, i, s, a]` is the slope of $\\log p$ of response $i$ to prompt $x$ in "
            "the logit of token $a$ in state $s$; `mu`, `(P,)`, are the prompts' probabilities; `p` and `p_ref` have shape `(P, N)`; the "
            "policies `pi` and `pi_ref` have shape `(P, S, V)`; their visits `d_pi` and `d_ref` have shape `(P, S)`.)"
        ),
        hint="The slope of k3 is (1 - p_ref/p) times the score; multiply by p and sum: the score of p has mean zero under p.",
        rows=("kl-gradients", "kl-estimator-theorem"),
        forbidden="refused",
        answer=lambda mu, p, p_ref, score_rows: np.einsum("x,xn,xnsv->xsv", mu, p - p_ref, score_rows),
        minutes=20,
        largest=200,
        misses={
            "reverse for forward KL: the gradient of KL(p, p_ref)": lambda mu, p, L, score_rows: along_scores(mu, p * L, score_rows),
            "sign flipped": lambda mu, p, p_ref, score_rows: along_scores(mu, p_ref - p, score_rows),
            "the sampling term alone: E[k3 score]": lambda mu, p, L, score_rows: along_scores(mu, p * k3(L), score_rows),
            "k3 with the ratio inverted": lambda mu, p, L, score_rows: along_scores(mu, p * np.expm1(L), score_rows),
            "d_pi for d_ref": lambda mu, d_pi, pi, pi_ref: mu[:, None, None] * d_pi[..., None] * (pi - pi_ref),
            "visits omitted: every state counts alike": lambda mu, pi, pi_ref: mu[:, None, None] * (pi - pi_ref),
            "k1 for k3: nothing": lambda pi: 0.0 * pi,
        },
    )
)

# ---------------------------------------------------------------------------------------------------- token-k3

add(
    Exercise(
        slug="token-k3",
        chapter=8,
        notebook="08",
        title="Token by token",
        statement=(
            "`L_s[x, s, a]` is $\\log (\\pi(a \\mid s)/\\pi_{ref}(a \\mid s))$ after prompt $x$, of shape `(P, S, V)`. Most code estimates "
            "the divergence of a response as a sum over its tokens of $k_3 = \\pi_{ref}/\\pi - 1 + \\log(\\pi/\\pi_{ref})$. Return that "
            "sum for every response: shape `(P, N)`, nats. (`mdp.path_sum(x)` sums a table of shape `(P, S, V)` along every response.)"
        ),
        hint="First k3, then the sum; the other way round it is the k3 of the whole response.",
        rows=("token-vs-sequence",),
        forbidden="refused",
        answer=lambda mdp, L_s: mdp.path_sum(np.exp(-L_s) - 1.0 + L_s),
        misses={
            "k3 of the sum for the sum of k3": lambda mdp, L_s: k3(mdp.path_sum(L_s)),
            "mean over tokens where the sum was due": lambda mdp, L_s, lengths: mdp.path_sum(k3(L_s)) / lengths,
            "the ratio inverted": lambda mdp, L_s: mdp.path_sum(k3(-L_s)),
            "1 subtracted once, not for every token": lambda mdp, L_s: mdp.path_sum(np.exp(-L_s) + L_s) - 1.0,
            "k2 for k3": lambda mdp, L_s: mdp.path_sum(k2(L_s)),
            "k1 for k3": lambda mdp, L_s: mdp.path_sum(L_s),
            "k3 with the log's sign flipped": lambda mdp, L_s: mdp.path_sum(np.exp(-L_s) - 1.0 - L_s),
            "all states for those on the way": lambda mdp, L_s: 0.0 * mdp.path_sum(L_s) + np.sum(k3(L_s), axis=(1, 2))[:, None],
        },
    )
)
