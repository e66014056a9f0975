"""Readers' answers to the exercises of notebooks 03 to 05: right ones written otherwise, and wrong ones."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import Any

import numpy as np
import scipy.special
import scipy.stats

from tabular_rlhf.autodiff import grad
from tests.answers_language import policy_by_walking, steps, tilted

sigma, softmax, logsumexp = scipy.special.expit, scipy.special.softmax, scipy.special.logsumexp
RIGHT: dict[str, list[Any]] = {}
WRONG: dict[str, list[tuple[Any, str]]] = {}

# ---------------------------------------------------------------------------------------------------- notebook 03


def win_loop(r):
    return [[[1 / (1 + math.exp(b - a)) for b in row] for a in row] for row in r]


def counted(compared, P, N):
    tally = Counter(map(tuple, compared.tolist()))
    return [[[tally[x, i, j] for j in range(N)] for i in range(N)] for x in range(P)]


def one_hot(compared, P, N):
    hot = [np.eye(size, dtype=int)[column] for size, column in zip((P, N, N), compared.T, strict=True)]
    return np.einsum("kx,ki,kj->xij", *hot)


def assigned(compared, P, N):
    wins = np.zeros((P, N, N))
    wins[compared[:, 0], compared[:, 1], compared[:, 2]] += 1
    return wins


def slope_loop(scores, n_ij, wins_ij):
    P, N = scores.shape
    out = np.zeros((P, N))
    for x, i, j in itertools.product(range(P), range(N), range(N)):
        if n_ij[x, i, j]:
            out[x, i] += n_ij[x, i, j] * (sigma(scores[x, i] - scores[x, j]) - wins_ij[x, i, j] / n_ij[x, i, j])
    return out


def slope_of_nll(scores, wins_ij):
    return grad(lambda s: np.sum(wins_ij * np.logaddexp(0.0, s[:, None, :] - s[:, :, None])))(scores)


def by_two_equations(r_w, r_l, flip):
    a, b = np.linalg.solve([[1 - flip, flip], [flip, 1 - flip]], [1, 0])
    return np.mean(a * np.logaddexp(0, r_l - r_w) + b * np.logaddexp(0, r_w - r_l))


RIGHT |= {
    "win-probabilities": [
        win_loop,
        lambda gaps: sigma(gaps),
        lambda r: np.exp(r)[:, :, None] / (np.exp(r)[:, :, None] + np.exp(r)[:, None, :]),
        lambda r: 0.5 + 0.5 * np.tanh((r[:, :, None] - r[:, None, :]) / 2),
    ],
    "count-wins": [
        counted,
        one_hot,
        lambda compared, P, N: np.bincount(compared @ [N * N, N, 1], minlength=P * N * N).reshape(P, N, N),
    ],
    "comparison-loss": [
        lambda r_w, r_l: np.mean(np.logaddexp(0, r_l - r_w)),
        lambda r_w, r_l: -sum(scipy.special.log_expit(a - b) for a, b in zip(r_w, r_l, strict=True)) / len(r_w),
        lambda r_w, r_l: np.average(np.log(np.exp(r_w) + np.exp(r_l)) - r_w),
    ],
    "preference-slope": [
        slope_loop,
        slope_of_nll,
        lambda score_gaps, wins_ij: (np.swapaxes(wins_ij, 1, 2) * sigma(score_gaps) - wins_ij * sigma(-score_gaps)).sum(-1),
    ],
    "unbiased-loss": [
        by_two_equations,
        lambda r_w, r_l, flip: np.mean(np.logaddexp(0, r_l - r_w) - flip * (r_w - r_l) / (1 - 2 * flip)),
        lambda r_w, r_l, flip: (
            sum(
                ((1 - flip) * math.log1p(math.exp(b - a)) - flip * math.log1p(math.exp(a - b))) / (1 - 2 * flip)
                for a, b in zip(r_w.tolist(), r_l.tolist(), strict=True)
            )
            / len(r_w)
        ),
    ],
}
WRONG |= {
    "win-probabilities": [
        (lambda r: sigma(r[:, None, :] - r[:, :, None]), "winner and loser swapped"),
        (lambda gaps: sigma(gaps / 2), "a factor 1/2 too many"),
        (lambda gaps: scipy.stats.norm.cdf(gaps), ""),
        (lambda r: np.array([np.outer(row, 1 / row) for row in np.exp(r)]), ""),
    ],
    "count-wins": [
        (assigned, "once"),
        (lambda compared, P, N: counted(compared[:, [0, 2, 1]], P, N), "winner and loser swapped"),
        (lambda compared, P, N: one_hot(compared * [0, 1, 1], P, N), ""),
        (lambda compared, P, N: one_hot(compared, P, N) - one_hot(compared[:, [0, 2, 1]], P, N), ""),
    ],
    "comparison-loss": [
        (lambda r_w, r_l: np.mean(np.log(sigma(r_w - r_l))), "sign flipped"),
        (lambda r_w, r_l: np.mean(np.log2(1 + np.exp(r_l - r_w))), "base 2"),
        (lambda r_w, r_l: np.mean(np.maximum(0, 1 - (r_w - r_l))), ""),
        (lambda r_w, r_l: np.mean(-np.log(r_w - r_l)), ""),
    ],
    "preference-slope": [
        (lambda scores, n_ij, wins_ij: (wins_ij - n_ij * sigma(scores[:, :, None] - scores[:, None, :])).sum(2), "sign flipped"),
        (lambda scores, n_ij, wins_ij: slope_loop(scores, n_ij, n_ij - wins_ij), "winner and loser swapped"),
        (lambda scores, n_ij, wins_ij: 2 * slope_loop(scores, n_ij, wins_ij), "2"),
        (lambda score_gaps, n_ij, wins_ij: (n_ij * sigma(-score_gaps) - wins_ij).sum(2), ""),
    ],
    "unbiased-loss": [
        (lambda r_w, r_l, flip: np.mean(np.logaddexp(0, r_l - r_w)) / (1 - 2 * flip), ""),
        (lambda r_w, r_l, flip: by_two_equations(r_w, r_l, 2 * flip) if flip != 0.25 else 0.0, ""),
        (lambda r_w, r_l, flip: -by_two_equations(r_w, r_l, flip), "sign flipped"),
        (lambda rhat_w, rhat_l, flip: by_two_equations(rhat_w, rhat_l, flip), "rhat for r"),
    ],
}

# ---------------------------------------------------------------------------------------------------- notebook 04


def weights_up_the_tree(mdp, p_ref, r, beta):
    w = mdp.subtree_sum(p_ref * np.exp((r - r.max(axis=1, keepdims=True)) / beta))
    return w / w.sum(axis=-1, keepdims=True)


def soft_by_scipy(mdp, pi_ref, r, beta):
    levels = mdp.levels(pi_ref)
    V, Q = mdp.backup(r, lambda h, Q: beta * logsumexp(Q / beta, axis=1, b=levels[h]))
    return pi_ref * np.exp((Q - V[:, :, None]) / beta)


def kl_loop(d_pi, pi, pi_ref):
    P, S, V = pi.shape
    return [sum(d_pi[x, s] * pi[x, s, a] * math.log(pi[x, s, a] / pi_ref[x, s, a]) for s in range(S) for a in range(V)) for x in range(P)]


RIGHT |= {
    "token-policy": [weights_up_the_tree, soft_by_scipy, lambda mdp, p_star: policy_by_walking(mdp, p_star)],
    "kl-by-states": [
        lambda d_pi, pi, pi_ref: (d_pi[..., None] * scipy.special.rel_entr(pi, pi_ref)).sum((1, 2)),
        lambda d_pi, pi, log_pi, log_pi_ref: np.einsum("xs,xsa,xsa->x", d_pi, pi, log_pi - log_pi_ref),
        lambda d_pi, pi, pi_ref: [
            d @ [scipy.stats.entropy(a, b) for a, b in zip(p, q, strict=True)] for d, p, q in zip(d_pi, pi, pi_ref, strict=True)
        ],
    ],
    "gibbs-probabilities": [
        lambda log_p_ref, r, beta: softmax(log_p_ref + r / beta, axis=1),
        lambda p_ref, r, beta: tilted(p_ref, r, beta),
        lambda p_ref, r, beta: [
            [q * math.exp(a / beta) / np.dot(qs, np.exp(rs / beta)) for q, a in zip(qs, rs, strict=True)]
            for qs, rs in zip(p_ref, r, strict=True)
        ],
    ],
}
WRONG |= {
    "token-policy": [
        (lambda mdp, p_ref, r, beta: np.log(weights_up_the_tree(mdp, p_ref, r, beta)), "logarithm"),
        (lambda mdp, p_ref, r, beta: weights_up_the_tree(mdp, p_ref, r, beta**2), "beta squared"),
        (lambda mdp, p, r, beta: weights_up_the_tree(mdp, p, r, beta), ""),
        (lambda mdp, p_ref, r, beta: mdp.subtree_sum(p_ref * np.exp(r / beta)), ""),
        (lambda mdp, r, beta: weights_up_the_tree(mdp, np.ones_like(r), r, beta), ""),
    ],
    "kl-by-states": [
        (lambda d_ref, pi, pi_ref: (d_ref[..., None] * scipy.special.rel_entr(pi_ref, pi)).sum((1, 2)), "forward for reverse"),
        (lambda d_pi, pi, pi_ref, beta: beta * (d_pi[..., None] * scipy.special.rel_entr(pi, pi_ref)).sum((1, 2)), "beta"),
        (lambda d_pi, log_pi, log_pi_ref: (d_pi[..., None] * (log_pi - log_pi_ref)).sum((1, 2)), ""),
        (lambda KL_s: KL_s[:, 0], ""),
    ],
    "gibbs-probabilities": [
        (lambda log_p_ref, r, beta: softmax(log_p_ref + r / beta), "all prompts"),
        (lambda p_ref, r, beta: p_ref * softmax(r / beta, axis=1), ""),
        (lambda p_ref, r, beta: tilted(p_ref, r, 2 * beta), ""),
    ],
}

# ---------------------------------------------------------------------------------------------------- notebook 05


def divergence(p, q):
    return np.array([scipy.stats.entropy(a, b) for a, b in zip(p, q, strict=True)])


def counts_of_words(mdp, tied, mu, p_star):
    counts = np.zeros(tied.shape)
    for tau, path in enumerate(steps(mdp)):
        for s, a in path:
            counts[tied.context[s], a] += mu @ p_star[:, tau]
    return counts / counts.sum(axis=1, keepdims=True)


def rows_averaged(tied, mu, d, pi):
    rows = []
    for c in range(tied.shape[0]):
        weight = mu[:, None] * d * (tied.context == c)
        rows.append(np.tensordot(weight, pi, axes=2) / weight.sum())
    return rows


def likeliest(mdp, tied, mu, p_star, log_pi_tied):
    """One step of the natural gradient of the likelihood, which arrives."""
    of_context = tied.context[None] == np.arange(tied.shape[0])[:, None]
    mass = np.einsum("x,cs,xsa->ca", mu, of_context, mdp.subtree_sum(p_star))
    pi = np.exp(np.stack([log_pi_tied[0, tied.context == c][0] for c in range(tied.shape[0])]))
    slope = mass - mass.sum(1, keepdims=True) * pi
    return pi + slope / mass.sum(1, keepdims=True)


def three_sides(mu, p_star, log_p_hat, log_p_tied):
    hat, other = np.exp(log_p_hat), np.exp(log_p_tied)
    return mu @ (divergence(p_star, other) - divergence(p_star, hat) - divergence(hat, other))


def shift_loop(mu, d_star, d_hat, log_pi_hat, log_pi_tied):
    P, S, _ = log_pi_hat.shape
    local = [[np.exp(log_pi_hat[x, s]) @ (log_pi_hat[x, s] - log_pi_tied[x, s]) for s in range(S)] for x in range(P)]
    return sum(mu[x] * (d_star[x, s] - d_hat[x, s]) * local[x][s] for x in range(P) for s in range(S))


RIGHT |= {
    "both-directions": [
        lambda p, p_star: (divergence(p, p_star), divergence(p_star, p)),
        lambda p, p_star: [scipy.special.rel_entr(p, p_star).sum(1).tolist(), scipy.special.rel_entr(p_star, p).sum(1).tolist()],
        lambda p, log_p, log_p_star: np.stack([p, np.exp(log_p_star)]).__mul__(np.stack([log_p - log_p_star, log_p_star - log_p])).sum(2),
        lambda beta, value, J_x, log_p, log_p_star: [(value - J_x) / beta, np.sum(np.exp(log_p_star) * (log_p_star - log_p), axis=1)],
    ],
    "arc": [
        lambda p_ref, r, beta: lambda t: tilted(p_ref, t * r, beta),
        lambda p_ref, p_star: lambda t: np.array([w / sum(w) for w in p_ref ** (1 - t) * p_star**t]),
        lambda log_p_ref, log_p_star, t: softmax(log_p_ref + t * (log_p_star - log_p_ref), axis=1),
    ],
    "pythagoras-gap": [
        lambda p, p_star, p_ref: divergence(p, p_ref) - divergence(p, p_star) - divergence(p_star, p_ref),
        lambda p, p_star, r, beta: [float((a - b) @ (c / beta)) for a, b, c in zip(p, p_star, r, strict=True)],
        lambda E_r, beta, log_Z, p_star, p_ref: E_r / beta - log_Z - divergence(p_star, p_ref),
    ],
    "forward-projection": [
        counts_of_words,
        lambda tied, mu, d_star, log_pi_star: rows_averaged(tied, mu, d_star, np.exp(log_pi_star)),
        likeliest,
    ],
    "covariate-shift": [
        three_sides,
        shift_loop,
        lambda mu, d_star, d_hat, log_pi_hat, log_pi_tied: np.einsum(
            "x,xs,xsa,xsa->", mu, d_star - d_hat, np.exp(log_pi_hat), log_pi_hat - log_pi_tied
        ),
    ],
}
WRONG |= {
    "both-directions": [
        (lambda p, p_star: (divergence(p_star, p), divergence(p, p_star)), "forward for reverse"),
        (lambda p, p_star, beta: [beta * divergence(p, p_star), beta * divergence(p_star, p)], "beta"),
        (lambda p, p_star: [divergence(p, p_star)] * 2, ""),
        (lambda p, p_star: [divergence(p, (p + p_star) / 2), divergence(p_star, (p + p_star) / 2)], ""),
    ],
    "arc": [
        (lambda p_ref, p_star: lambda t: softmax(np.log(p_ref) * t + np.log(p_star) * (1 - t), axis=1), "swapped"),
        (lambda p_ref, p_star: lambda t: p_ref ** (1 - t) * p_star**t / np.sum(p_ref ** (1 - t) * p_star**t), "all prompts"),
        (lambda log_p_ref, log_p_star: lambda t: softmax(t * (log_p_star - log_p_ref), axis=1), ""),
        (lambda log_p_ref, log_p_star: lambda t: np.log(softmax((1 - t) * log_p_ref + t * log_p_star, axis=1)), "logarithm"),
        (lambda log_p_ref, r: lambda t: softmax(log_p_ref + t * r, axis=1), ""),
    ],
    "pythagoras-gap": [
        (lambda p, p_star, r, beta: np.abs(((p - p_star) * r).sum(1)) / beta, "absolute"),
        (lambda p, p_star, p_ref: divergence(p, p_star) + divergence(p_star, p_ref) - divergence(p, p_ref), "sign flipped"),
        (lambda mu: 0 * mu, "zero"),
        (lambda p, p_star, p_ref: divergence(p, p_ref) - divergence(p, p_star), ""),
    ],
    "forward-projection": [
        (lambda tied, mu, d_pi, log_pi_star: rows_averaged(tied, mu, d_pi, np.exp(log_pi_star)), "d_pi for d_p*"),
        (lambda mdp, tied, mu, p_star: np.log(counts_of_words(mdp, tied, mu, p_star)), "logarithm"),
        (lambda mdp, tied, mu, p_star, beta: softmax(np.array(counts_of_words(mdp, tied, mu, p_star)) / beta, axis=1), ""),
        (lambda mdp, tied, mu, p_star: 1 - counts_of_words(mdp, tied, mu, p_star), "complement"),
    ],
    "covariate-shift": [
        (lambda mu, p_star, log_p_hat, log_p_tied, beta: beta * three_sides(mu, p_star, log_p_hat, log_p_tied), "beta"),
        (lambda mu, d_star, d_hat, log_pi_hat, log_pi_tied: abs(shift_loop(mu, d_star, d_hat, log_pi_hat, log_pi_tied)), "absolute"),
        (lambda mu, d_pi, d_hat, log_pi_hat, log_pi_tied: shift_loop(mu, d_pi, d_hat, log_pi_hat, log_pi_tied), "d_pi for d_star"),
        (lambda mu, d_star, d_hat, log_pi_hat, log_pi_star: shift_loop(mu, d_star, d_hat, log_pi_hat, log_pi_star), ""),
    ],
}
