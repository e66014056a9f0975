r"""Chapter 7 as derivations, groups: leave one out, and the group mean.

A group is G responses drawn independently from p_pi(. given x) for one prompt x ~ mu.  Sums over all N^G groups are done one by one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.derivations.record import Derivation, Line, add
from tabular_rlhf.derivations.scores import of_mean, times, weigh
from tabular_rlhf.ledger.chapter7_groups import few, size
from tabular_rlhf.logspace import expect
from tabular_rlhf.policy_gradient.groups import Groups, population

# ---------------------------------------------------------------------------------------------------- sums over groups


def everyone(world: Any, log_p: Any, G: int) -> Groups:
    """All groups with their probabilities."""
    return population(world, log_p, G)


def updated(world: Any, log_p: Any, score: Any, A: Any, G: int, i: int | None = None) -> Any:
    """E[(1/G) sum over i of A_i score_i] over all groups, A of shape (n, G); or E[A_i score_i] for one i."""
    groups = everyone(world, log_p, G)
    members = range(G) if i is None else [i]
    total = np.zeros(np.shape(score)[:1] + np.shape(score)[1:2])
    for k in members:
        np.add.at(total, (groups.x, groups.tau[:, k]), groups.weight * A[:, k] / len(members))
    return np.einsum("xn,xnysv->ysv", total, score)


def seen(world: Any, log_p: Any, reward: Any, G: int) -> Any:
    """The rewards of the members of every group: (n, G)."""
    groups = everyone(world, log_p, G)
    return reward[groups.x[:, None], groups.tau]


def others(rewards: Any) -> Any:
    """The mean reward of the other members, for every member."""
    G = rewards.shape[1]
    return (np.sum(rewards, axis=1, keepdims=True) - rewards) / (G - 1)


def group_mean(rewards: Any) -> Any:
    return np.mean(rewards, axis=1, keepdims=True)


def product_mean(world: Any, log_p: Any, reward: Any, score: Any, G: int, i: int, j: int) -> Any:
    """E[r_j score_i] over all groups."""
    shifted = np.roll(seen(world, log_p, reward, G), i - j, axis=1)  # column i holds r_j
    return updated(world, log_p, score, shifted, G, i)


# ---------------------------------------------------------------------------------------------------- rloo

add(
    Derivation(
        slug="rloo",
        title="Leave one out is unbiased, the group mean gives (G - 1)/G",
        chapter=7,
        rows=("rloo", "group-identities"),
        source="Kool, van Hoof and Welling (2019); Ahmadian et al. (2024), arXiv:2402.14740.",
        where=few,
        scale=size,
        largest=40,
        lines=(
            Line(
                r"\mathbb{E}\left[ \frac{1}{G} \sum_i \left( r_i - \frac{1}{G-1} \sum_{j \ne i} r_j \right) s_i \right], "
                r"\quad s_i = \nabla \log p_\pi(\tau_i \mid x)",
                "RLOO: each response of a group is compared with the mean reward of the others.  Over all groups, one by one.",
                lambda world, log_p, graded, score, G: updated(
                    world, log_p, score, seen(world, log_p, graded, G) - others(seen(world, log_p, graded, G)), G
                ),
            ),
            Line(
                r"\mathbb{E}\left[ r_1 s_1 \right] - \frac{1}{G-1} \sum_{j \ne 1} \mathbb{E}\left[ r_j s_1 \right]",
                "All members of a group are alike, so the mean over i is the mean for i = 1; and a mean is linear.",
                lambda world, log_p, graded, score, G: (
                    product_mean(world, log_p, graded, score, G, 0, 0)
                    - sum(product_mean(world, log_p, graded, score, G, 0, j) for j in range(1, G)) / (G - 1)
                ),
                wrong={
                    "sum for mean over the group": lambda world, log_p, graded, score, G: (
                        G * product_mean(world, log_p, graded, score, G, 0, 0)
                        - G * sum(product_mean(world, log_p, graded, score, G, 0, j) for j in range(1, G)) / (G - 1)
                    ),
                    "its own reward left in the mean of the others": lambda world, log_p, graded, score, G: (
                        product_mean(world, log_p, graded, score, G, 0, 0)
                        - sum(product_mean(world, log_p, graded, score, G, 0, j) for j in range(G)) / G
                    ),
                },
            ),
            Line(
                r"\mathbb{E}\left[ r s \right] - \sum_x \mu(x)\, \mathbb{E}\left[ r \mid x \right] \mathbb{E}\left[ s \mid x \right]",
                "Given the prompt, r_j and s_1 are independent for j not 1: the mean of their product is the product of their means.",
                lambda mu, p, graded, score: (
                    weigh(mu, p * graded, score) - np.einsum("x,x,xn,xnysv->ysv", mu, np.sum(p * graded, axis=1), p, score)
                ),
                wrong={
                    "the other rewards taken for the same as its own": lambda mu, p, graded, score: 0.0 * weigh(mu, p * graded, score),
                    "added": lambda mu, p, graded, score: (
                        2.0 * weigh(mu, p * graded, score) + np.einsum("x,x,xn,xnysv->ysv", mu, np.sum(p * graded, axis=1), p, score)
                    ),
                },
            ),
            Line(
                r"\mathbb{E}\left[ r s \right]",
                "E[s given x] = 0, for every prompt: the mean of the others is a free baseline.",
                lambda graded, score: times(graded, score),
                relation="in expectation",
                law="log_p",
                wrong={
                    "sign flipped": lambda graded, score: times(-graded, score),
                    "(G - 1)/G of it: the group mean's factor": lambda graded, score, G: times((G - 1) / G * graded, score),
                },
            ),
            Line(
                r"\nabla\, \mathbb{E}[r]",
                "The policy gradient, by the gradient core: RLOO is unbiased.",
                wrong={
                    "sum over the group": lambda world, logits, graded, G: of_mean(world, logits, lambda log_p: G * expect(log_p, graded))
                },
            ),
            Line(
                r"\mathbb{E}\left[ \frac{1}{G} \sum_i \left( r_i - \bar{r} \right) s_i \right], \quad \bar{r} = \frac{1}{G} \sum_j r_j",
                "Now the group mean, which each response is itself a part of.",
                lambda world, log_p, graded, score, G: updated(
                    world, log_p, score, seen(world, log_p, graded, G) - group_mean(seen(world, log_p, graded, G)), G
                ),
                relation="so",
            ),
            Line(
                r"\mathbb{E}\left[ r_1 s_1 \right] - \frac{1}{G} \sum_j \mathbb{E}\left[ r_j s_1 \right]",
                "The members are alike, a mean is linear.",
                lambda world, log_p, graded, score, G: (
                    product_mean(world, log_p, graded, score, G, 0, 0)
                    - sum(product_mean(world, log_p, graded, score, G, 0, j) for j in range(G)) / G
                ),
                wrong={
                    "divided by G - 1": lambda world, log_p, graded, score, G: (
                        product_mean(world, log_p, graded, score, G, 0, 0)
                        - sum(product_mean(world, log_p, graded, score, G, 0, j) for j in range(G)) / (G - 1)
                    ),
                },
            ),
            Line(
                r"\mathbb{E}\left[ r s \right] - \frac{1}{G}\, \mathbb{E}\left[ r s \right]",
                "The terms with j not 1 vanish as before; the term j = 1, its own reward, stays.",
                lambda mu, p, graded, score, G: weigh(mu, p * graded, score) - weigh(mu, p * graded, score) / G,
                wrong={
                    "its own reward forgotten: unbiased": lambda mu, p, graded, score: weigh(mu, p * graded, score),
                    "only its own reward kept": lambda mu, p, graded, score, G: weigh(mu, p * graded, score) / G / (G + 1),
                },
            ),
            Line(
                r"\frac{G-1}{G}\, \nabla\, \mathbb{E}[r]",
                "The right direction, a little short; the group mean is RLOO's advantage times (G - 1)/G.",
                slips=("(G - 1)/G inverted",),
                wrong={"n for n - 1": "G/(G + 1)*nabla(E[r])"},
            ),
        ),
        letters={"r": "graded"},
    )
)
