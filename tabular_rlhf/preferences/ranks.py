r"""Ranks with intervals: which places of an order are compatible with the comparisons.

Item i is *surely below* j where the interval of r_j - r_i lies above 0.  Its rank is at least one more than the items that it is surely
below, and at most N less those that are surely below it:

    low_i = 1 + #{j : r_j - r_i > z s_ij},      high_i = N - #{j : r_i - r_j > z s_ij},      s_ij^2 = C_ii + C_jj - 2 C_ij.

With z of one difference, each pair of items is told apart wrongly with probability 1 - level; with z of all N(N - 1)/2 of them at once
(Bonferroni), all true ranks lie in their intervals together with probability at least `level`.

Source: Mogstad, Romano, Shaikh and Wilhelm (2024), Inference for ranks, Review of Economic Studies 91.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.errors import as_floats
from tabular_rlhf.logspace import Array
from tabular_rlhf.mdp import Indices
from tabular_rlhf.preferences.likelihood import normal_quantile


def rank_intervals(r: Any, covariance: Any, level: float = 0.95, *, together: bool = False) -> tuple[Indices, Indices]:
    """The least and the largest rank of each item, 1 the best, (N,) each.

    Args: r (N,); covariance (N, N), of r in any gauge; together, whether the level is of all items at once.

    >>> rank_intervals([2.0, 0.1, 0.0], np.eye(3) * 0.01)[0].tolist(), rank_intervals([2.0, 0.1, 0.0], np.eye(3) * 0.01)[1].tolist()
    ([1, 2, 2], [1, 3, 3])
    """
    r = as_floats(r, "r")
    C = as_floats(covariance, "covariance", (len(r), len(r)))
    N = len(r)
    pairs = max(1, N * (N - 1) // 2)
    z = normal_quantile(1.0 - (1.0 - level) / pairs if together else level)
    above = r[None, :] - r[:, None] > z * difference_errors(C)
    return np.asarray(1 + np.sum(above, axis=1)), np.asarray(N - np.sum(above, axis=0))


def difference_errors(covariance: Any) -> Array:
    """Standard errors of all differences r_i - r_j, (N, N).

    >>> difference_errors([[1.0, 0.5], [0.5, 1.0]]).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    C = as_floats(covariance, "covariance")
    variance = np.diag(C)[:, None] + np.diag(C) - 2.0 * C
    return np.asarray(np.sqrt(np.maximum(variance, 0.0)))


def simultaneous(level: float, N: int) -> float:
    """z such that N normal intervals hold together with probability at least `level` (Bonferroni).

    >>> round(simultaneous(0.95, 1), 4), round(simultaneous(0.95, 10), 4)
    (1.96, 2.807)
    """
    return normal_quantile(1.0 - (1.0 - level) / max(1, N))
