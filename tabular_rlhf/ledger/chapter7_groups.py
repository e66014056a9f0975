r"""Chapter 7, groups: leave-one-out and group means, the group's standard deviation, length-weighted baselines.

Every expected update is computed by counts of kinds (`groups.expected_credit`) and again over all N^G groups.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tabular_rlhf.autodiff.derivatives import central
from tabular_rlhf.ledger.record import Miss, claim
from tabular_rlhf.policy_gradient import Recipe, success_objective, success_weight
from tabular_rlhf.policy_gradient import groups as g
from tabular_rlhf.terms.conditions import few
from tabular_rlhf.terms.policies import by_counts, by_groups, success_probability
from tabular_rlhf.terms.sizes import update_size


def update(advantage: str, loss: str = "reinforce", aggregation: str = "sequence-sum", **settings: Any) -> Any:
    """A near miss: the expected update of another recipe on the graded reward."""
    return lambda world, logits, graded, G: by_counts(world, logits, Recipe(advantage, loss, aggregation, G=G, **settings), graded)


# ---------------------------------------------------------------------------------------------------- rloo

claim(
    slug="rloo",
    chapter=7,
    text=r"""
    let r = graded
    \mathbb{E}_{x \sim \mu, y \sim p, y' \sim p}[(r(y) - r(y'))\, \nabla \log p(y)] = \nabla\, \mathbb{E}[r]
      slip sign flipped
      not G \nabla \mathbb{E}[r]  # sum for mean over the group
    \mathbb{E}_{x \sim \mu, y \sim p, y' \sim p}\Big[\Big(r(y) - \frac{r(y) + (G - 1)\, r(y')}{G}\Big) \nabla \log p(y)\Big] = \frac{G -
        1}{G} \nabla\, \mathbb{E}[r]
        # a baseline of the other responses, in the mean that of one, is unbiased; with the own reward in it the update shrinks
      slip (G - 1)/G dropped
      not \frac{G}{G + 1} \nabla \mathbb{E}[r]  # n for n - 1
    """,
    source="Kool, van Hoof and Welling (2019); Ahmadian et al. (2024), arXiv:2402.14740.",
    parts=("leave one out", "group mean"),
    sides={
        "closed form": 1,
        # the clip's loss keeps advantages of either sign apart, so that it must sum over counts; at pi_old nothing is clipped
        "counts of reward levels": lambda world, logits, graded, G: (
            by_counts(world, logits, Recipe("rloo", "ppo-clip", G=G), graded),
            by_counts(world, logits, Recipe("group-mean", "ppo-clip", G=G), graded),
        ),
        "all groups": lambda world, logits, graded, G: (
            by_groups(world, logits, Recipe("rloo", G=G), graded),
            by_groups(world, logits, Recipe("group-mean", G=G), graded),
        ),
    },
    misses={"divided by the group's standard deviation": update("grpo")},
    where=few,
    scale=update_size,
    largest=200,
)

# ---------------------------------------------------------------------------------------------------- grpo


def weight_in_words(q: float, G: int, ddof: int = 0) -> float:
    """c_G(q) in plain Python: E[A given success] - E[A given failure], over the successes m among the G - 1 others."""
    total = 0.0
    for m in range(G):
        chance = math.comb(G - 1, m) * q**m * (1 - q) ** (G - 1 - m)
        for k, sign, mine in ((m + 1, 1, 1.0), (m, -1, 0.0)):
            if 0 < k < G:
                total += sign * chance * (mine - k / G) / math.sqrt(k * (G - k) / G / (G - ddof))
    return total


def slope_of_objective(q: Any, recipe: Recipe) -> Any:
    """dF/dq by a central difference of a polynomial's integral: 5 points, h = 1/64, exact up to degree 4."""
    h = 1.0 / 64.0
    q = np.clip(q, 2 * h, 1 - 2 * h)
    return central(lambda t: success_objective(q + t, recipe), h)


def inside(q: Any) -> Any:
    return np.clip(q, 1.0 / 32.0, 31.0 / 32.0)


def grpo(G: int) -> Recipe:
    return Recipe("grpo", G=G)


claim(
    slug="grpo",
    chapter=7,
    text=r"""
    let r = success
    \mathbb{E}_{x \sim \mu, y \sim p}\Big[\sum_{m=0}^{G-1} \binom{G-1}{m} q^m (1 - q)^{G-1-m} \Big(r(y) \sqrt{\frac{G-1-m}{m+1}} - (1 -
        r(y)) \sqrt{\frac{m}{G-m}}\Big) \nabla \log p(y)\Big] = \mathbb{E}_{x \sim \mu}[c\, \nabla q], \quad q = \mathbb{E}_p[r], \quad c =
        \sum_{m=1}^{G-1} \binom{G}{m} q^{m-1} (1 - q)^{G-m-1} \frac{\sqrt{m (G - m)}}{G}
      slip sign flipped
      not \frac{G}{2} \nabla \mathbb{E}_{x \sim \mu}[q]  # taken for the gradient of the success probability
      not 2 \mathbb{E}_{x \sim \mu}[c^2 \nabla q]  # variance for standard deviation
    \sum_{m=0}^{G-1} \binom{G-1}{m} q^m (1 - q)^{G-1-m} \Big(\sqrt{\frac{G-1-m}{m+1}} + \sqrt{\frac{m}{G-m}}\Big) = c
        # with 0/1 rewards, m of the other G - 1 a success, the update is c times the gradient of the success probability q: c is 1 in
        groups of two, and in large ones the update ascends 2 arcsin of the root of q
      not \frac{1}{\sqrt{q (1 - q)}}  # the limit 1/sqrt(q (1 - q)) for c_G
      not \frac{c}{1 - q^G - (1 - q)^G}  # all-equal groups drawn again
    """,
    source="Shao et al. (2024), arXiv:2402.03300.",
    note="s divides by G (ddof 0); a group whose rewards are all equal gets 0.  dF/dq is taken at q moved into [1/32, 31/32].",
    parts=("update", "c(q)", "dF/dq"),
    sides={
        "binomial sum": (1, 1, lambda p, success, G: success_weight(inside(success_probability(p, success)), grpo(G))),
        "counts; the others'": (
            lambda world, logits, success, G: by_counts(world, logits, grpo(G), success),
            0,
            lambda p, success, G: np.array([weight_in_words(float(q), G) for q in inside(success_probability(p, success))]),
        ),
        "all groups; difference of F": lambda world, logits, p, success, G: (
            by_groups(world, logits, grpo(G), success),
            success_weight(success_probability(p, success), grpo(G)),
            slope_of_objective(inside(success_probability(p, success)), grpo(G)),
        ),
    },
    misses={"n - 1 for n: the sample's standard deviation": Miss(r"\sqrt{\frac{G-1}{G}} c", part=1)},
    where=few,
    scale=lambda H, G: (2.0 * H * G, 2.0 * G, 64.0 * G),
    largest=200,
)

# ---------------------------------------------------------------------------------------------------- group-identities

THREE = 3
"""The size of the groups written out here: the smallest whose leave-one-out standard deviation exists."""


def all_groups(world: Any, log_pi: Any) -> g.Groups:
    return g.population(world, world.mdp.path_sum(log_pi), THREE)


def advantages(world: Any, log_pi: Any, graded: Any, name: str) -> Any:
    """A_i of every member of every group: (n, G)."""
    return THREE * g.group_advantages(world, all_groups(world, log_pi), Recipe(name, G=THREE), log_pi, graded)


claim(
    slug="group-identities",
    chapter=7,
    text=r"""
    let r = graded
    r(y) - \frac{r(y') + r(y'')}{2} = \frac{3}{2} \Big(r(y) - \frac{r(y) + r(y') + r(y'')}{3}\Big)
    \mathbb{E}_{x \sim \mu, y \sim p, y' \sim p, y'' \sim p}\Big[1[r(y') \ne r(y'')] \frac{2 r(y) - r(y') - r(y'')}{|r(y') - r(y'')|} \nabla
        \log p(y)\Big] = \mathbb{E}_{x \sim \mu}[S(x)\, \nabla\, \mathbb{E}_p[r]], \quad S(x) = \sum_{y, y'} p(y)\, p(y')\, 1[r(y) \ne
        r(y')] \frac{2}{|r(y) - r(y')|}
      slip S(x) dropped
    \mathbb{E}_{x \sim \mu, y \sim p, y' \sim p, y'' \sim p}[(r(y) - b(y, y', y''))\, \nabla \log p(y)] = \nabla\, \mathbb{E}_{x \sim \mu, y
        \sim p, y' \sim p, y'' \sim p}[r(y) - \tfrac13 b(y, y', y'')], \quad b(y, y', y'') = \frac{|y| r(y) + |y'| r(y') + |y''| r(y'')}{|y|
        + |y'| + |y''|}
        # groups of three; a baseline b that is symmetric in the group, OPO's here, takes the gradient of a third of its mean away
      slip the term 1/3*b(tau, tau', tau'') dropped
      not \frac{2}{3} \nabla \mathbb{E}[r]  # taken for the group mean
    """,
    source="Kool, van Hoof and Welling (2019); Hao et al. (2025), arXiv:2505.23585 (the length-weighted b).",
    note="1/s, s the standard deviation of the others, is 0 where they are equal.",
    parts=("leave one out", "scaled by others", "length-weighted"),
    sides={
        "closed form": (lambda world, log_pi, graded: THREE / (THREE - 1) * advantages(world, log_pi, graded, "group-mean"), 1, 1),
        "counts": lambda world, log_pi, logits, graded: (
            advantages(world, log_pi, graded, "rloo"),
            by_counts(world, logits, Recipe("loo-std", G=THREE), graded),
            by_counts(world, logits, Recipe("opo", G=THREE), graded),
        ),
        "all groups": lambda world, log_pi, logits, graded: (
            advantages(world, log_pi, graded, "rloo"),
            by_groups(world, logits, Recipe("loo-std", G=THREE), graded),
            by_groups(world, logits, Recipe("opo", G=THREE), graded),
        ),
    },
    misses={
        "n for n - 1": lambda world, log_pi, graded: (THREE + 1) / THREE * advantages(world, log_pi, graded, "group-mean"),
        "leave-one-out taken for the group mean": lambda world, log_pi, graded: advantages(world, log_pi, graded, "group-mean"),
        "the group's standard deviation for the others'": Miss(
            lambda world, logits, graded: by_counts(world, logits, Recipe("grpo", G=THREE), graded), part=1
        ),
    },
    where=lambda P, N: P * N**THREE <= 4000,
    scale=lambda H: (4.0, update_size(H), update_size(H)),
    largest=50,
)
