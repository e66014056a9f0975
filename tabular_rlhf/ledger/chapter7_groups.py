r"""Chapter 7, groups: leave-one-out and group means, the group's standard deviation, length-weighted baselines.

Every expected update is computed by counts of kinds (`groups.expected_credit`) and again over all N^G groups.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tabular_rlhf.autodiff import grad
from tabular_rlhf.ledger.record import Miss, Row, add
from tabular_rlhf.logspace import log_softmax
from tabular_rlhf.policy_gradient import Recipe, success_objective, success_weight
from tabular_rlhf.policy_gradient import groups as g
from tabular_rlhf.policy_gradient.updates import expected_update, true_gradient, update_of


def few(P: int, N: int, G: int) -> bool:
    """Whether all groups are few enough to be written out."""
    return P * N**G <= 4000


def by_counts(world: Any, logits: Any, recipe: Recipe, reward: Any) -> Any:
    return expected_update(world, logits, recipe, reward=reward)


def by_groups(world: Any, logits: Any, recipe: Recipe, reward: Any) -> Any:
    """The mean over all groups, one by one."""
    log_pi = log_softmax(logits)
    everything = g.population(world, world.mdp.path_sum(log_pi), recipe.G)
    return update_of(world, g.credit_of(world, everything, recipe, log_pi, reward), logits, recipe)


def update(advantage: str, loss: str = "reinforce", aggregation: str = "sequence-sum", **settings: float) -> Any:
    """A near miss: the expected update of another recipe on the graded reward."""
    return lambda world, logits, graded, G: by_counts(world, logits, Recipe(advantage, loss, aggregation, G=G, **settings), graded)


def size(H: int) -> float:
    """Advantages are of the size of rewards, a gradient sums H scores."""
    return 4.0 * H


# ---------------------------------------------------------------------------------------------------- rloo

add(
    Row(
        slug="rloo",
        chapter=7,
        statement=(
            r"\mathbb{E}\Big[\tfrac{1}{G}\sum_i \Big(r_i - \tfrac{1}{G-1}\sum_{j \ne i} r_j\Big) \mathrm{score}_i\Big] "
            r"= \nabla\, \mathbb{E}[r], \qquad "
            r"\mathbb{E}\Big[\tfrac{1}{G}\sum_i (r_i - \bar r)\, \mathrm{score}_i\Big] = \tfrac{G-1}{G} \nabla\, \mathbb{E}[r]"
        ),
        source="Kool, van Hoof and Welling (2019); Ahmadian et al. (2024), arXiv:2402.14740.",
        parts=("leave one out", "group mean"),
        sides={
            "closed form": lambda world, log_pi, graded, G: (
                true_gradient(world, log_pi, graded),
                (G - 1) / G * true_gradient(world, log_pi, graded),
            ),
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
        misses={
            "group mean including self taken as unbiased": Miss(
                "group mean including self taken as unbiased", lambda world, log_pi, graded: true_gradient(world, log_pi, graded), part=1
            ),
            "n for n - 1": Miss("n for n - 1", lambda world, log_pi, graded, G: G / (G + 1) * true_gradient(world, log_pi, graded), part=1),
            "sum for mean over the group": lambda world, log_pi, graded, G: G * true_gradient(world, log_pi, graded),
            "sign flipped": lambda world, log_pi, graded: -true_gradient(world, log_pi, graded),
            "divided by the group's standard deviation": update("grpo"),
        },
        where=few,
        scale=size,
        largest=200,
    )
)

# ---------------------------------------------------------------------------------------------------- grpo


def success_probability(p: Any, success: Any) -> Any:
    return np.minimum(1.0, np.sum(p * success, axis=1))


def weighted_gradient(world: Any, log_pi: Any, success: Any, weight: Any) -> Any:
    """c(q(x)) grad q(x), in the logits of each prompt."""
    return weight[:, None, None] * true_gradient(world, log_pi, success)


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
    at = {k: success_objective(q + k * h, recipe) for k in (-2, -1, 1, 2)}
    return (8 * (at[1] - at[-1]) - (at[2] - at[-2])) / (12 * h)


def inside(q: Any) -> Any:
    return np.clip(q, 1.0 / 32.0, 31.0 / 32.0)


def grpo(G: int) -> Recipe:
    return Recipe("grpo", G=G)


add(
    Row(
        slug="grpo",
        chapter=7,
        statement=(
            r"r \in \{0, 1\}:\quad \mathbb{E}\Big[\tfrac{1}{G}\sum_i \tfrac{r_i - \bar r}{s}\, \mathrm{score}_i\Big] "
            r"= c_G(q) \nabla q = \nabla F(q), "
            r"\qquad c_2 = 1, \quad c_G \to \frac{1}{\sqrt{q(1-q)}}, \quad F \to 2 \arcsin\sqrt{q}"
        ),
        source="Shao et al. (2024), arXiv:2402.03300.",
        note="s divides by G (ddof 0); a group whose rewards are all equal gets 0.  dF/dq is taken at q moved into [1/32, 31/32].",
        parts=("update", "c(q)", "dF/dq"),
        sides={
            "binomial sum": lambda world, log_pi, p, success, G: (
                weighted_gradient(world, log_pi, success, success_weight(success_probability(p, success), grpo(G))),
                success_weight(success_probability(p, success), grpo(G)),
                success_weight(inside(success_probability(p, success)), grpo(G)),
            ),
            "counts; plain Python": lambda world, logits, p, success, G: (
                by_counts(world, logits, grpo(G), success),
                np.array([weight_in_words(float(q), G) for q in success_probability(p, success)]),
                np.array([weight_in_words(float(q), G) for q in inside(success_probability(p, success))]),
            ),
            "all groups; difference of F": lambda world, logits, p, success, G: (
                by_groups(world, logits, grpo(G), success),
                np.array([weight_in_words(float(q), G) for q in success_probability(p, success)]),
                slope_of_objective(inside(success_probability(p, success)), grpo(G)),
            ),
        },
        misses={
            "the limit 1/sqrt(q (1 - q)) for c_G": Miss(
                "the limit 1/sqrt(q (1 - q)) for c_G",
                lambda p, success: 1.0 / np.sqrt(success_probability(p, success) * (1.0 - success_probability(p, success))),
                part=1,
            ),
            "n - 1 for n: the sample's standard deviation": Miss(
                "n - 1 for n: the sample's standard deviation",
                lambda p, success, G: success_weight(success_probability(p, success), Recipe("grpo", G=G, ddof=1)),
                part=1,
            ),
            "all-equal groups drawn again: conditional for unconditional": Miss(
                "all-equal groups drawn again: conditional for unconditional",
                lambda p, success, G: (
                    success_weight(success_probability(p, success), grpo(G))
                    / (1.0 - success_probability(p, success) ** G - (1.0 - success_probability(p, success)) ** G)
                ),
                part=1,
            ),
            "taken for the gradient of the success probability": lambda world, log_pi, success, G: (
                (G / 2.0) * true_gradient(world, log_pi, success)
            ),
            "variance for standard deviation": lambda world, log_pi, p, success, G: weighted_gradient(
                world, log_pi, success, success_weight(success_probability(p, success), grpo(G)) ** 2 * 2.0
            ),
            "sign flipped": lambda world, logits, success, G: -by_counts(world, logits, grpo(G), success),
        },
        where=few,
        # c_G is at most sqrt(G - 1)
        scale=lambda H, G: (2.0 * H * G, 2.0 * G, 64.0 * G),
        largest=200,
    )
)

# ---------------------------------------------------------------------------------------------------- group-identities

THREE = 3
"""The size of the groups written out here: the smallest whose leave-one-out standard deviation exists."""


def all_groups(world: Any, log_pi: Any) -> g.Groups:
    return g.population(world, world.mdp.path_sum(log_pi), THREE)


def advantages(world: Any, log_pi: Any, graded: Any, name: str) -> Any:
    """A_i of every member of every group: (n, G)."""
    return THREE * g.group_advantages(world, all_groups(world, log_pi), Recipe(name, G=THREE), log_pi, graded)


def mean_scale(p: Any, graded: Any) -> Any:
    """E[1/s] of two draws, 0 where they are equal, for each prompt: s = |r_1 - r_2|/2."""
    gap = np.abs(graded[:, :, None] - graded[:, None, :]) / 2.0
    inverse = np.where(gap > 0, 1.0 / np.where(gap > 0, gap, 1.0), 0.0)
    return np.einsum("xi,xj,xij->x", p, p, inverse)


def opo_objective(world: Any, logits: Any, graded: Any) -> Any:
    """grad of E[r] - E[b]/G, with b the length-weighted mean of all groups, by the gradient core."""
    mdp = world.mdp
    tau = np.stack([np.ravel(i) for i in np.indices((mdp.N,) * THREE)], axis=1)
    lengths = mdp.lengths[tau]
    b = np.sum(graded[:, tau] * lengths, axis=2) / np.sum(lengths, axis=1)

    def objective(t: Any) -> Any:
        log_p = mdp.path_sum(log_softmax(t))
        log_group = sum(log_p[:, tau[:, k]] for k in range(THREE))
        return np.sum(world.mu * (np.sum(np.exp(log_p) * graded, axis=1) - np.sum(np.exp(log_group) * b, axis=1) / THREE))

    return grad(objective)(logits)


add(
    Row(
        slug="group-identities",
        chapter=7,
        statement=(
            r"r_i - \bar r_{-i} = \tfrac{G}{G-1} (r_i - \bar r); \quad "
            r"\mathbb{E}\Big[\tfrac{r_i - \bar r_{-i}}{s_{-i}} \mathrm{score}_i\Big] "
            r"= \mathbb{E}\Big[\tfrac{1}{s_{-i}}\Big] \nabla\, \mathbb{E}[r \mid x]; \quad "
            r"b \text{ symmetric in the group}:\ \nabla \big(\mathbb{E}[r] - \tfrac{1}{G} \mathbb{E}[b]\big)"
        ),
        source="Kool, van Hoof and Welling (2019); Hao et al. (2025), arXiv:2505.23585 (the length-weighted b).",
        note="Groups of three.  1/s is 0 where the others are equal.  The last part: OPO's baseline, which includes the response itself.",
        parts=("leave one out", "scaled by others", "length-weighted"),
        sides={
            "closed form": lambda world, log_pi, logits, p, graded: (
                THREE / (THREE - 1) * advantages(world, log_pi, graded, "group-mean"),
                mean_scale(p, graded)[:, None, None] * true_gradient(world, log_pi, graded),
                opo_objective(world, logits, graded),
            ),
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
            "scaled by others, taken as the gradient itself": Miss(
                "scaled by others, taken as the gradient itself", lambda world, log_pi, graded: true_gradient(world, log_pi, graded), part=1
            ),
            "the group's standard deviation for the others'": Miss(
                "the group's standard deviation for the others'",
                lambda world, logits, graded: by_counts(world, logits, Recipe("grpo", G=THREE), graded),
                part=1,
            ),
            "length-weighted mean including self taken as unbiased": Miss(
                "length-weighted mean including self taken as unbiased",
                lambda world, log_pi, graded: true_gradient(world, log_pi, graded),
                part=2,
            ),
            "length-weighted mean taken for the group mean": Miss(
                "length-weighted mean taken for the group mean",
                lambda world, log_pi, graded: (THREE - 1) / THREE * true_gradient(world, log_pi, graded),
                part=2,
            ),
        },
        where=lambda P, N: P * N**THREE <= 4000,
        scale=lambda H: (4.0, size(H), size(H)),
        largest=50,
    )
)
