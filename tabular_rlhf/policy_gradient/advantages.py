r"""Advantages from a group of G rewards.

r, n and lengths have shape (..., K): the K kinds of member of a group, their rewards, multiplicities and lengths; sum_k n_k = G.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from scipy import special

from tabular_rlhf.policy_gradient.record import ADVANTAGES, Advantage
from tabular_rlhf.policy_gradient.spread import all_equal, total, whitened
from tabular_rlhf.registry import entered


def _mean(r: Any, n: Any, G: int) -> Any:
    return total(n, r) / G


def _leave_one_out_std(r: Any, n: Any, G: int, ddof: float, epsilon: float) -> Any:
    # (..., k, j): what is left of kind j when one member of kind k is taken out
    r = np.broadcast_to(r, np.broadcast_shapes(np.shape(r), np.shape(n)))
    others = np.maximum(0.0, n[..., None, :] - np.eye(r.shape[-1]))
    mean = np.sum(others * r[..., None, :], axis=-1) / (G - 1)
    squares = np.sum(others * np.square(r[..., None, :] - mean[..., None]), axis=-1)
    equal = all_equal(np.broadcast_to(r[..., None, :], others.shape), others)[..., 0]
    at_edge = equal & (epsilon == 0)
    spread = np.where(equal, 0.0, np.sqrt(squares / (G - 1 - ddof)))
    return np.where(at_edge, 0.0, r - mean) / np.where(at_edge, 1.0, spread + epsilon)


def _length_weighted_others(r: Any, n: Any, lengths: Any) -> Any:
    left = total(n, lengths) - lengths
    return r - (total(n, lengths * r) - lengths * r) / np.where(left > 0, left, 1.0)


def _over_mean(a: Any, mean: Any) -> Any:
    """a over the mean, 0 where that is 0 to rounding."""
    there = np.abs(mean) > 1e-12
    return np.where(there, a, 0.0) / np.where(there, mean, 1.0)


def _centered(b: Any, n: Any, G: int) -> Any:
    return b - _mean(b, n, G)


def _scaled(b: Any, n: Any, G: int) -> Any:
    """b less its mean over its standard deviation, 0 where all are equal to rounding."""
    apart = _centered(b, n, G)
    spread = np.sqrt(total(n, np.square(apart)) / G)
    equal = spread <= 1e-12 * (1.0 + np.max(np.abs(b), axis=-1, keepdims=True))
    return np.where(equal, 0.0, apart) / np.where(equal, 1.0, spread)


def _best_with(r: Any, n: Any, G: int, k: int) -> Any:
    """The mean of max over S of r over the sets S of k members that hold member i, (..., K): with m of the others at most at a level,
    C(m, k - 1) of the C(G - 1, k - 1) sets stay below it."""
    r, n = np.broadcast_arrays(r, n)
    upper, lower = r[..., None, :], r[..., :, None]  # levels (last axis), members
    below = np.sum(n[..., None, :] * (r[..., None, :] <= r[..., :, None]), axis=-1)[..., None, :] - 1.0  # others of a member at most there
    share = special.binom(np.maximum(below, 0.0), k - 1) / special.binom(G - 1, k - 1) * (below >= k - 1) * (lower <= upper)
    order = np.argsort(r, axis=-1)
    level = np.take_along_axis(r, order, axis=-1)
    at = np.take_along_axis(share, order[..., None, :], axis=-1)  # P(max <= level)
    return np.sum(level[..., None, :] * np.diff(at, axis=-1, prepend=0.0), axis=-1)


# ---------------------------------------------------------------------------------------------------- one group in plain Python


def _plain_best_with(i: int, r: list[float], k: int) -> float:
    sets = [s for s in itertools.combinations(range(len(r)), k) if i in s]
    return math.fsum(max(r[j] for j in s) for s in sets) / len(sets)


def _plain_credits(r: list[float], k: float) -> list[float]:
    return [k * _plain_best_with(i, r, int(k)) for i in range(len(r))]


def _plain_scaled(i: int, b: list[float]) -> float:
    spread = _std(b, 0.0)
    return 0.0 if spread <= 1e-12 * (1.0 + max(map(abs, b))) else (b[i] - math.fsum(b) / len(b)) / spread


def _std(values: list[float], ddof: float) -> float:
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - ddof))


def _plain_loo_std(i: int, r: list[float], ddof: float, epsilon: float) -> float:
    others = r[:i] + r[i + 1 :]
    spread = 0.0 if len(set(others)) == 1 else _std(others, ddof)
    return 0.0 if spread + epsilon == 0 else (r[i] - math.fsum(others) / len(others)) / (spread + epsilon)


def _plain_opo(i: int, r: list[float], lengths: list[int], leave: bool) -> float:
    members = [j for j in range(len(r)) if not (leave and j == i)]
    return r[i] - math.fsum(lengths[j] * r[j] for j in members) / sum(lengths[j] for j in members)


advantage = entered(Advantage, ADVANTAGES.add)
advantage(
    "none",
    r"A_i = r_i",
    "Williams (1992).",
    lambda r: r,
    lambda i, r: r[i],
    remark="No baseline: the mean reward is paid for in variance",
)
advantage(
    "constant",
    r"A_i = r_i - b",
    "Williams (1992).",
    lambda r, baseline: r - baseline,
    lambda i, r, baseline: r[i] - baseline,
    defaults={"baseline": 0.5},
    remark="A baseline that does not look at the response",
)
advantage(
    "group-mean",
    r"A_i = r_i - \bar r",
    "Shao et al. (2024), arXiv:2402.03300, without its standard deviation; Liu et al. (2025), arXiv:2503.20783 (Dr. GRPO).",
    lambda r, n, G: r - _mean(r, n, G),
    lambda i, r: r[i] - math.fsum(r) / len(r),
    smallest=2,
    remark="Its own reward is in its baseline",
)
advantage(
    "rloo",
    r"A_i = r_i - \frac{1}{G-1} \sum_{j \ne i} r_j",
    "Kool, van Hoof and Welling (2019); Ahmadian et al. (2024), arXiv:2402.14740.",
    lambda r, n, G: r - (total(n, r) - r) / (G - 1),
    lambda i, r: r[i] - (math.fsum(r) - r[i]) / (len(r) - 1),
    smallest=2,
    remark="The baseline is made of the others' rewards",
)
advantage(
    "grpo",
    r"A_i = (r_i - \bar r)/(s + \epsilon), \quad s^2 = \sum_j (r_j - \bar r)^2 / (G - \mathrm{ddof}); \quad 0 \text{ if all equal}",
    "Shao et al. (2024), arXiv:2402.03300.",
    lambda r, n, ddof, epsilon: whitened(r, n, ddof, epsilon),
    lambda i, r, ddof, epsilon: 0.0 if len(set(r)) == 1 else (r[i] - math.fsum(r) / len(r)) / (_std(r, ddof) + epsilon),
    defaults={"ddof": 0, "epsilon": 0.0},
    smallest=2,
    remark="The difference from the group's mean, in units of the group's standard deviation",
)
advantage(
    "loo-std",
    r"A_i = (r_i - \bar r_{-i}) / (s_{-i} + \epsilon); \quad 0 \text{ if } s_{-i} + \epsilon = 0",
    "NVIDIA NeMo-RL, nemo_rl/algorithms/utils.py (2025), with ddof = 1; there r_i - mean of the others, undivided, if s_{-i} = 0.",
    _leave_one_out_std,
    _plain_loo_std,
    defaults={"ddof": 0, "epsilon": 0.0},
    smallest=3,
    remark="The difference from the mean of the others, in units of their standard deviation",
)
advantage(
    "remax",
    r"A_i = r_i - r(\text{greedy response})",
    "Li et al. (2023), arXiv:2310.10505.",
    lambda r, greedy: r - greedy,
    lambda i, r, greedy: r[i] - greedy,
    remark="The baseline is the reward of the likeliest tokens' response, which does not depend on the sample",
)
advantage(
    "opo",
    r"A_i = r_i - \sum_j L_j r_j / \sum_j L_j",
    "Hao et al. (2025), arXiv:2505.23585.",
    lambda r, n, lengths: r - total(n, lengths * r) / total(n, lengths),
    lambda i, r, lengths: _plain_opo(i, r, lengths, False),
    smallest=2,
    remark="Its own reward is in its baseline, weighted by its length",
)
advantage(
    "opo-others",
    r"A_i = r_i - \sum_{j \ne i} L_j r_j / \sum_{j \ne i} L_j",
    "The leave-one-out form of Hao et al. (2025), arXiv:2505.23585.",
    _length_weighted_others,
    lambda i, r, lengths: _plain_opo(i, r, lengths, True),
    smallest=2,
    remark="The baseline is made of the others' rewards",
)
advantage(
    "optimal",
    r"A_i = r_i - \mathbb{E}[|\mathrm{score}|^2 r] / \mathbb{E}[|\mathrm{score}|^2]",
    "Weaver and Tao (2001); Greensmith, Bartlett and Baxter (2004).",
    lambda r, best: r - best,
    lambda i, r, best: r[i] - best,
    remark="The constant baseline of least summed variance, for every prompt",
)
advantage(
    "max-rl",
    r"A_i = (r_i - \bar r)/\bar r",
    "Tajwar et al. (2026), arXiv:2602.02710, as trainers code it: without a right response, nothing.",
    lambda r, n, G: _over_mean(r - _mean(r, n, G), _mean(r, n, G)),
    lambda i, r: (r[i] - math.fsum(r) / len(r)) / (math.fsum(r) / len(r)) if abs(math.fsum(r)) > 1e-12 * len(r) else 0.0,
    smallest=2,
    remark="The difference from the group's mean, in units of that mean; 0 where the mean is 0",
)
advantage(
    "max-rl-raw",
    r"A_i = r_i/\bar r",
    "Tajwar et al. (2026), arXiv:2602.02710: (1/m) sum of r score.",
    lambda r, n, G: _over_mean(r, _mean(r, n, G)),
    lambda i, r: r[i] / (math.fsum(r) / len(r)) if abs(math.fsum(r)) > 1e-12 * len(r) else 0.0,
    remark="The mean of the right responses' scores; 0 where the mean is 0",
)
advantage(
    "pass-at-k",
    r"A_i = k \cdot \text{mean of } \max_{j \in S} r_j \text{ over the sets } S \ni i \text{ of } k",
    "Walder and Karkhanis (2025), arXiv:2505.15201.",
    lambda r, n, G, k: k * _best_with(r, n, G, int(k)),
    lambda i, r, k: k * _plain_best_with(i, r, int(k)),
    defaults={"k": 2},
    smallest=2,
    remark="Unbiased for the best of k: E[max of k]",
)
advantage(
    "pass-at-k-centered",
    r"A_i = B_i - \bar B, \quad B_i = k \cdot \text{mean of } \max_{j \in S} r_j \text{ over the sets } S \ni i \text{ of } k",
    "The same, less the group's mean.",
    lambda r, n, G, k: _centered(k * _best_with(r, n, G, int(k)), n, G),
    lambda i, r, k: _plain_credits(r, k)[i] - math.fsum(_plain_credits(r, k)) / len(r),
    defaults={"k": 2},
    smallest=3,
    remark="Centring multiplies by 1 - k/G: nothing is left at k = G",
)
advantage(
    "pass-at-k-std",
    r"A_i = (B_i - \bar B)/s_B; \quad 0 \text{ if all equal}, \quad B_i \text{ of pass-at-k}",
    "Chen et al. (2025), arXiv:2508.10751, by all sets of k.",
    lambda r, n, G, k: _scaled(k * _best_with(r, n, G, int(k)), n, G),
    lambda i, r, k: _plain_scaled(i, _plain_credits(r, k)),
    defaults={"k": 2},
    smallest=3,
    remark="The share of sets that a response saves, in units of the group's standard deviation",
)
