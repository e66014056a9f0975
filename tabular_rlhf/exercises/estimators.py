"""Exercises on chapter 8: k1, k2 and k3 on draws and on average, how noisy they are, what they push, and tokens."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.exercises.record import exercise

# ---------------------------------------------------------------------------------------------------- three-estimators


NAMED = "$k_1 = L$, $k_2 = L^2/2$ and $k_3 = p_{ref}/p - 1 + L$"

exercise(
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
    misses={
        "k3 with the ratio inverted": (0, 0, "e^L - 1 - L"),
        "the ratio inverted in all three": ("-L", 0, "e^L - 1 - L"),
        "k1 with its sign flipped": ("-L", 0, 0),
        "k2 without its half": (0, "L^2", 0),
        "k3 with the log's sign flipped": (0, 0, "e^{-L} - 1 - L"),
        "k3 with p/p_ref where p_ref/p was due": (0, 0, "e^L - 1 + L"),
        "k3 with k2's square": (0, 0, r"e^{-L} - 1 + \frac{L^2}{2}"),
        "k3 without its - 1": (0, 0, "e^{-L} + L"),
        "log base 2": (r"\frac{L}{\log 2}", r"\frac{L^2}{2 (\log 2)^2}", r"e^{-L/\log 2} - 1 + \frac{L}{\log 2}"),
    },
    text=r"""
    let L = log_ratio
    L
    \frac{L^2}{2}
    e^{-L} - 1 + L
    """,
)

# ---------------------------------------------------------------------------------------------------- estimator-means


exercise(
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
    given=("p", "L"),
    misses={
        "all three taken for unbiased: KL": (0, r"\mathbb{E}_p[L]", r"\mathbb{E}_p[L]"),
        "k2 without its half": (0, r"\mathbb{E}_p[L^2]", 0),
        "square of the mean for mean of the square": (0, r"\frac{(\mathbb{E}_p[L])^2}{2}", 0),
        "k3 with the ratio inverted": (0, 0, r"\mathbb{E}_p[e^L - 1 - L]"),
        "k3 with the log's sign flipped": (0, 0, r"\mathbb{E}_p[e^{-L} - 1 - L]"),
        "draws of p_ref": (r"\mathbb{E}_{p_{ref}}[L]", r"\mathbb{E}_{p_{ref}}[\frac{L^2}{2}]", r"\mathbb{E}_{p_{ref}}[e^{-L} - 1 + L]"),
        "p omitted: responses averaged evenly": (
            r"\frac{1}{N} \sum_y L",
            r"\frac{1}{N} \sum_y \frac{L^2}{2}",
            r"\frac{1}{N} \sum_y (e^{-L} - 1 + L)",
        ),
        "k1 with its sign flipped": (r"-\mathbb{E}_p[L]", 0, 0),
    },
    scale=lambda p, L: _terms(p, L),
    text=r"""
    \mathbb{E}_p[L]
    \mathbb{E}_p[\frac{L^2}{2}]
    \mathbb{E}_p[e^{-L} - 1 + L]
    """,
)


def _terms(p: Any, L: Any) -> float:
    """What is added up inside an estimator."""
    return float(np.max(np.sum(p * (1.0 + np.abs(L) + L**2 + np.exp(-L)), axis=1)))


# ---------------------------------------------------------------------------------------------------- k1-variance


exercise(
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
    given=("p", "L"),
    scale=lambda p, L: _terms(p, L),
    text=r"""
    \mathrm{Var}_p(L)
      not \mathbb{E}_p[L^2]  # second moment for variance
      not \sqrt{\mathrm{Var}_p(L)}  # standard deviation for variance
      not \frac{1}{N} \sum_y L^2 - (\frac{1}{N} \sum_y L)^2  # p omitted: responses averaged evenly
      not \mathrm{Var}_{p_{ref}}(L)  # draws of p_ref
      not \mathrm{Var}_p(e^{-L} - 1 + L)  # k3's variance for k1's
      not \mathrm{Var}_p(\frac{L^2}{2})  # k2's variance for k1's
      not \mathbb{E}_p[L^2] - \mathbb{E}_p[L]  # the mean not squared
    """,
)

# ---------------------------------------------------------------------------------------------------- pathwise-gradient


exercise(
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
    given=("mu", "p", "p_ref", "score_rows"),
    minutes=20,
    largest=200,
    text=r"""
    \mu \sum_y (p(y) - p_{ref}(y))\, score_rows(y, s, a)
      not \mu \sum_y p(y)\, L(y)\, score_rows(y, s, a)  # reverse for forward KL: the gradient of KL(p, p_ref)
      not \mu \sum_y (p_{ref}(y) - p(y))\, score_rows(y, s, a)  # sign flipped
      not \mu \sum_y p(y)\, (e^{-L(y)} - 1 + L(y))\, score_rows(y, s, a)  # the sampling term alone: E[k3 score]
      not \mu \sum_y p(y)\, (e^{L(y)} - 1)\, score_rows(y, s, a)  # k3 with the ratio inverted
      not \mu\, d_\pi(s)\, (\pi(a \mid s) - \pi_{ref}(a \mid s))  # d_pi for d_ref
      not \mu\, (\pi(a \mid s) - \pi_{ref}(a \mid s))  # visits omitted: every state counts alike
      not 0  # k1 for k3: nothing
    """,
)

# ---------------------------------------------------------------------------------------------------- token-k3

exercise(
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
    given=("mdp", "L_s"),
    text=r"""
    \sum_t (e^{-L(s_t, a_t)} - 1 + L(s_t, a_t))
      not e^{-L} - 1 + L  # k3 of the sum for the sum of k3
      not \frac{1}{|\tau|} \sum_t (e^{-L(s_t, a_t)} - 1 + L(s_t, a_t))  # mean over tokens where the sum was due
      not \sum_t (e^{L(s_t, a_t)} - 1 - L(s_t, a_t))  # the ratio inverted
      not \sum_t (e^{-L(s_t, a_t)} + L(s_t, a_t)) - 1  # 1 subtracted once, not for every token
      not \sum_t \frac{L(s_t, a_t)^2}{2}  # k2 for k3
      not L  # k1 for k3
      not \sum_t (e^{-L(s_t, a_t)} - 1 - L(s_t, a_t))  # k3 with the log's sign flipped
      not \sum_s \sum_a (e^{-L(s, a)} - 1 + L(s, a))  # all states for those on the way
    """,
)
