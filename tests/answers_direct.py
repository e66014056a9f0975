"""Readers' answers to the exercises of notebook 06: right ones written otherwise, and wrong ones."""

from __future__ import annotations

import math
import statistics
from typing import Any

import numpy as np
import scipy.sparse.csgraph
import scipy.special

from tabular_rlhf.autodiff import grad

sigma = scipy.special.expit
RIGHT: dict[str, list[Any]] = {}
WRONG: dict[str, list[tuple[Any, str]]] = {}
"""A wrong answer, and a word that its diagnosis must hold ("" where it is more than one slip, or none that has a name)."""

# ---------------------------------------------------------------------------------------------------- notebook 06


def dpo_one_by_one(beta, log_p_w, log_p_l, log_p_ref_w, log_p_ref_l):
    total = 0.0
    for a, b, c, d in zip(log_p_w, log_p_l, log_p_ref_w, log_p_ref_l, strict=True):
        odds = (math.exp(a - c) / math.exp(b - d)) ** beta
        total -= math.log(odds / (1 + odds))
    return total / len(log_p_w)


def dpo_slopes_by_a_complex_step(beta, log_p_w, log_p_l, log_p_ref_w, log_p_ref_l):
    """A step so small that nothing but the slope is left in the imaginary part: exact, where a difference is not."""

    def loss(both):
        odds = np.exp(beta * (both[0] - log_p_ref_w - both[1] + log_p_ref_l))
        return np.mean(np.log(1.0 + 1.0 / odds))

    at, out = np.stack([log_p_w, log_p_l]), np.zeros((2, len(log_p_w)))
    for k in np.ndindex(out.shape):
        e = np.zeros(out.shape, dtype=complex)
        e[k] = 1e-30j
        out[k] = np.imag(loss(at + e)) / 1e-30
    return out


def ipo_expanded(beta, log_p_w, log_p_l, log_p_ref_w, log_p_ref_l):
    h = np.log(np.exp(log_p_w) * np.exp(log_p_ref_l) / np.exp(log_p_ref_w) / np.exp(log_p_l))
    return np.mean(h**2) - np.mean(h) / beta + 1 / (4 * beta**2)


def islands_by_scipy(compared, P, N):
    total = 0
    for x in range(P):
        met = np.zeros((N, N))
        for y, i, j in compared:
            met[i, j] += y == x
        total += scipy.sparse.csgraph.connected_components(met, directed=False)[0] - 1
    return total


def rank_of_differences(compared, P, N):
    rows = np.zeros((len(compared), P * N))
    for k, (x, i, j) in enumerate(compared):
        rows[k, x * N + i] += 1
        rows[k, x * N + j] -= 1
    return P * (N - 1) - np.linalg.matrix_rank(rows)


def flood(compared, P, N):
    left, count = {(x, y) for x in range(P) for y in range(N)}, -P
    while left:
        count, todo = count + 1, [left.pop()]
        while todo:
            x, y = todo.pop()
            near = {(x, b) for z, i, j in compared.tolist() if z == x for a, b in ((i, j), (j, i)) if a == y} & left
            left -= near
            todo += near
    return count


RIGHT |= {
    "policy-reward": [
        lambda beta, p, p_ref: beta * np.log(p / p_ref),
        lambda mdp, beta, log_pi, log_pi_ref: beta * mdp.path_sum(log_pi - log_pi_ref) + 17,
        lambda beta, L, value: [[beta * u + v for u in row] for row, v in zip(L, value, strict=True)],
        lambda beta, logits, log_pi_ref, mdp: mdp.path_sum(beta * (scipy.special.log_softmax(logits, axis=-1) - log_pi_ref)),
    ],
    "dpo-data-loss": [
        dpo_one_by_one,
        lambda rhat_w, rhat_l: np.logaddexp(0, rhat_l - rhat_w).mean(),
        lambda beta, compared, p, p_ref: (
            -np.mean([np.log(sigma(beta * np.log(p[x, i] * p_ref[x, j] / p_ref[x, i] / p[x, j]))) for x, i, j in compared])
        ),
        lambda rhat_w, rhat_l: sum(math.log1p(math.exp(b - a)) for a, b in zip(rhat_w, rhat_l, strict=True)) / len(rhat_w),
    ],
    "dpo-slopes": [
        dpo_slopes_by_a_complex_step,
        lambda beta, rhat_w, rhat_l: (-beta * sigma(rhat_l - rhat_w) / len(rhat_w), beta * sigma(rhat_l - rhat_w) / len(rhat_l)),
        lambda beta, rhat_w, rhat_l: [
            [s * beta / len(rhat_w) * math.exp(b) / (math.exp(a) + math.exp(b)) for a, b in zip(rhat_w, rhat_l, strict=True)]
            for s in (-1, 1)
        ],
        lambda beta, log_p_w, log_p_l, log_p_ref_w, log_p_ref_l: grad(
            lambda t: np.mean(np.log(1.0 + np.exp(-beta * (t[0] - log_p_ref_w - t[1] + log_p_ref_l))))
        )(np.stack([log_p_w, log_p_l])),
    ],
    "ipo-loss": [
        ipo_expanded,
        lambda beta, rhat_w, rhat_l: np.mean((rhat_w - rhat_l - 0.5) ** 2) / beta**2,
        lambda beta, compared, L: statistics.fmean((L[x, i] - L[x, j] - 1 / (2 * beta)) ** 2 for x, i, j in compared),
    ],
    "undetermined": [islands_by_scipy, rank_of_differences, flood],
}
WRONG |= {
    "policy-reward": [
        (lambda beta, log_p, log_p_ref: beta**2 * (log_p - log_p_ref), "beta"),
        (lambda beta, p, p_ref: beta * np.log2(p / p_ref), "log base 2"),
        (lambda beta, log_p, log_p_ref: beta * (log_p + log_p_ref), "multiplied by p_ref"),
        (lambda beta, log_p_star, log_p_ref: beta * (log_p_star - log_p_ref), "the reward of p*"),
        (lambda beta, L, lengths: beta * L / lengths, "lengths"),
    ],
    "dpo-data-loss": [
        (lambda rhat_w, rhat_l: np.mean(np.log(1 + np.exp(rhat_w - rhat_l))), "swapped"),
        (lambda rhat_w, rhat_l: np.sum(np.log(1 + np.exp(rhat_l - rhat_w))), "sum where the mean"),
        (lambda rhat_w, rhat_l: -np.mean(np.log2(sigma(rhat_w - rhat_l))), "log base 2"),
        (lambda beta, log_p_w, log_p_l: -np.mean(np.log(sigma(beta * (log_p_w - log_p_l)))), "p_ref omitted"),
        (
            lambda beta, log_p_w, log_p_l, log_p_ref_w, log_p_ref_l: np.mean(
                np.log1p(np.exp(-beta * (log_p_w + log_p_ref_w - log_p_l - log_p_ref_l)))
            ),
            "sign of log p_ref flipped",
        ),
        (lambda beta, rhat_w, rhat_l: -np.mean(np.log(sigma(beta * (rhat_w - rhat_l)))), "beta"),
        (lambda r_w, r_l: np.mean(np.log1p(np.exp(r_l - r_w))), "write rhat"),
    ],
    "dpo-slopes": [
        (
            lambda beta, rhat_w, rhat_l: beta * np.stack([-sigma(rhat_w - rhat_l), sigma(rhat_w - rhat_l)]) / len(rhat_w),
            "sigma(rhat_w - rhat_l) for",
        ),
        (lambda beta, rhat_w, rhat_l: beta * np.stack([sigma(rhat_l - rhat_w), -sigma(rhat_l - rhat_w)]) / len(rhat_w), "swapped"),
        (lambda beta, rhat_w, rhat_l: (-beta * sigma(rhat_l - rhat_w), beta * sigma(rhat_l - rhat_w)), "sum where the mean"),
        (lambda rhat_w, rhat_l: np.stack([-sigma(rhat_l - rhat_w), sigma(rhat_l - rhat_w)]) / len(rhat_w), "beta dropped"),
        (lambda beta, rhat_w, rhat_l: beta * np.stack([-sigma(rhat_l - rhat_w), 0 * rhat_l]) / len(rhat_w), "loser's slope omitted"),
    ],
    "ipo-loss": [
        (lambda beta, compared, L: np.mean([(L[x, i] - L[x, j] - 1 / beta) ** 2 for x, i, j in compared]), "a 2 is missing"),
        (lambda beta, compared, L: np.mean([(L[x, j] - L[x, i] - 1 / (2 * beta)) ** 2 for x, i, j in compared]), "swapped"),
        (lambda beta, compared, L: np.mean([L[x, i] - L[x, j] - 1 / (2 * beta) for x, i, j in compared]) ** 2, "square of the mean"),
        (lambda beta, compared, L: 0.5 * np.mean([(L[x, i] - L[x, j] - 1 / (2 * beta)) ** 2 for x, i, j in compared]), "1/2 too many"),
        (lambda compared, L: np.mean([(L[x, i] - L[x, j] - 0.5) ** 2 for x, i, j in compared]), "beta"),
    ],
    "undetermined": [
        (lambda compared, P, N: P + islands_by_scipy(compared, P, N), "n - 1 for n"),
        (lambda compared, P, N: P * N - len({tuple(c) for c in compared.tolist()}), ""),
        (lambda compared, P, N: P * N - len(np.unique(compared[:, 1:])), ""),
        (lambda compared, P, N: P * (N - 1), "comparisons ignored"),
        (lambda compared, P, N: P * (N - 1) - len(compared), "every comparison"),
    ],
}
