r"""Chapter 7, lengths: what summing or averaging over tokens makes of the policy gradient."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.autodiff import grad
from tabular_rlhf.ledger.chapter7 import score_mean
from tabular_rlhf.ledger.chapter7_groups import by_counts, by_groups, few, size, update
from tabular_rlhf.ledger.record import Miss, Row, add
from tabular_rlhf.logspace import log_softmax
from tabular_rlhf.policy_gradient import Recipe
from tabular_rlhf.policy_gradient.updates import true_gradient

# ---------------------------------------------------------------------------------------------------- aggregation


def per_length(mdp: Any, mu: Any, logits: Any, r: Any, b: Any, lengths: Any) -> Any:
    """grad E[(r - b)/L] by the gradient core."""
    return grad(lambda t: np.sum(mu[:, None] * np.exp(mdp.path_sum(log_softmax(t))) * (r - b) / lengths))(logits)


def pooled(mdp: Any, mu: Any, log_p: Any, logits: Any, p: Any, r: Any, G: int) -> Any:
    """E[sum_i r_i score_i / sum_j L_j] with the others' lengths summed over their law: (G - 1)-fold convolution."""
    law = np.stack([np.bincount(mdp.lengths, row, mdp.H + 1) for row in p])
    others = np.ones((mdp.P, 1))
    for _ in range(G - 1):
        others = np.stack([np.convolve(a, b) for a, b in zip(others, law, strict=True)])
    total = mdp.lengths[:, None] + np.arange(others.shape[1])
    return score_mean(mdp, mu, log_p, logits, G * r * np.einsum("xk,nk->xn", others, 1.0 / total))


def aggregated(how: Any) -> Any:
    """The three parts by counts or by all groups."""
    return lambda world, logits, graded, G: (
        how(world, logits, Recipe("none", "ppo-clip", "sequence-sum", G=G), graded),
        how(world, logits, Recipe("constant", "ppo-clip", "sequence-mean", G=G, baseline=0.5), graded),
        how(world, logits, Recipe("none", "ppo-clip", "token-mean", G=G), graded),
    )


add(
    Row(
        slug="aggregation",
        chapter=7,
        statement=(
            r"\tfrac{1}{G}\sum_i \sum_t:\ \nabla\, \mathbb{E}[r]; \qquad \tfrac{1}{G}\sum_i \tfrac{1}{L_i}\sum_t:\ "
            r"\nabla\, \mathbb{E}\Big[\tfrac{r - b}{L}\Big]; \qquad \tfrac{1}{\sum_j L_j} \sum_i \sum_t:\ "
            r"\mathbb{E}\Big[\tfrac{\sum_i r_i\, \mathrm{score}_i}{\sum_j L_j}\Big]"
        ),
        source="Ahmadian et al. (2024), arXiv:2402.14740; Yu et al. (2025), arXiv:2503.14476; Liu et al. (2025), arXiv:2503.20783.",
        note="b = 1/2 in the second part: a constant.  A baseline that follows the policy makes it the gradient of nothing.",
        parts=("sum over tokens", "mean over tokens", "pooled mean"),
        sides={
            "closed form": lambda world, mdp, mu, log_p, log_pi, logits, p, graded, G, lengths: (
                true_gradient(world, log_pi, graded),
                per_length(mdp, mu, logits, graded, 0.5, lengths),
                pooled(mdp, mu, log_p, logits, p, graded, G),
            ),
            "counts": aggregated(by_counts),
            "all groups": aggregated(by_groups),
        },
        misses={
            "mean over tokens where the sum was due": update("none", aggregation="sequence-mean"),
            "sum over tokens where the mean was due": Miss(
                "sum over tokens where the mean was due", update("constant", baseline=0.5), part=1
            ),
            "a free baseline: b dropped": Miss("a free baseline: b dropped", update("none", aggregation="sequence-mean"), part=1),
            "pooled mean taken for grad E[r]/E[L]": Miss(
                "pooled mean taken for grad E[r]/E[L]",
                lambda world, log_pi, p, graded, lengths: true_gradient(world, log_pi, graded) / np.sum(p * lengths, axis=1)[:, None, None],
                part=2,
            ),
            "n + 1 for n: the prompt's end counted as a token": Miss(
                "n + 1 for n: the prompt's end counted as a token",
                lambda mdp, mu, logits, graded, lengths: per_length(mdp, mu, logits, graded, 0.5, lengths + 1.0),
                part=1,
            ),
        },
        where=few,
        scale=size,
        largest=200,
    )
)
