r"""Chapter 7, lengths: what summing or averaging over tokens makes of the policy gradient."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.ledger.record import claim
from tabular_rlhf.policy_gradient import Recipe
from tabular_rlhf.terms.conditions import few
from tabular_rlhf.terms.policies import by_counts, by_groups, score_mean
from tabular_rlhf.terms.sizes import update_size

# ---------------------------------------------------------------------------------------------------- aggregation


def pooled(mdp: Any, mu: Any, log_p: Any, logits: Any, p: Any, graded: Any, G: int) -> Any:
    """E[sum_i r_i score_i / sum_j L_j] with the others' lengths summed over their law: (G - 1)-fold convolution."""
    law = np.stack([np.bincount(mdp.lengths, row, mdp.H + 1) for row in p])
    others = np.ones((mdp.P, 1))
    for _ in range(G - 1):
        others = np.stack([np.convolve(a, b) for a, b in zip(others, law, strict=True)])
    total = mdp.lengths[:, None] + np.arange(others.shape[1])
    return score_mean(mdp, mu, log_p, logits, G * graded * np.einsum("xk,nk->xn", others, 1.0 / total))


def aggregated(how: Any) -> Any:
    """The three parts by counts or by all groups."""
    return lambda world, logits, graded, G: (
        how(world, logits, Recipe("none", "ppo-clip", "sequence-sum", G=G), graded),
        how(world, logits, Recipe("constant", "ppo-clip", "sequence-mean", G=G, baseline=0.5), graded),
        how(world, logits, Recipe("none", "ppo-clip", "token-mean", G=G), graded),
    )


claim(
    slug="aggregation",
    chapter=7,
    text=r"""
    let r = graded
    \mathbb{E}\Big[\sum_t r(y)\, \nabla \log \pi(a_t \mid s_t)\Big] = \nabla\, \mathbb{E}[r]
      not \nabla \mathbb{E}[r/|y|]  # mean over tokens where the sum was due
    \mathbb{E}\Big[\frac{1}{|y|} \sum_t \Big(r(y) - \frac{1}{2}\Big) \nabla \log \pi(a_t \mid s_t)\Big] = \nabla\, \mathbb{E}\Big[\frac{r -
        1/2}{|y|}\Big]
      slip lengths(tau) dropped; the term 1/2 dropped
      not \nabla \mathbb{E}[\frac{r - 1/2}{|y| + 1}]  # n + 1 for n: the prompt's end counted as a token
    \mathbb{E}_{x \sim \mu, y \sim p, y' \sim p}\Big[\frac{r(y)\, \nabla \log p(y) + r(y')\, \nabla \log p(y')}{|y| + |y'|}\Big] = 2\,
        \mathbb{E}_{x \sim \mu, y \sim p, y' \sim p}\Big[\frac{r(y)\, \nabla \log p(y)}{|y| + |y'|}\Big]
        # the mean over a group of sums over tokens, of means over tokens, and the pooled mean over all tokens, here of groups of two
      not \mathbb{E}_{x \sim \mu}[\nabla \mathbb{E}_p[r]/\mathbb{E}_p[|y|]]  # pooled mean taken for grad E[r]/E[L]
    """,
    source="Ahmadian et al. (2024), arXiv:2402.14740; Yu et al. (2025), arXiv:2503.14476; Liu et al. (2025), arXiv:2503.20783.",
    note="b = 1/2 in the second part: a constant.  A baseline that follows the policy makes it the gradient of nothing.",
    parts=("sum over tokens", "mean over tokens", "pooled mean"),
    sides={
        "closed form": (
            1,
            1,
            pooled,
        ),
        "counts": aggregated(by_counts),
        "all groups": aggregated(by_groups),
    },
    where=few,
    scale=update_size,
    largest=200,
)
