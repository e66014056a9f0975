"""Readers' answers to the exercises of notebooks 07 and 08: right ones written otherwise, and wrong ones."""

from __future__ import annotations

import math
import statistics
from typing import Any

import numpy as np
import scipy.special
import scipy.stats

from tabular_rlhf.autodiff import grad, jacobian
from tabular_rlhf.logspace import log_softmax

softmax = scipy.special.softmax
RIGHT: dict[str, list[Any]] = {}
WRONG: dict[str, list[tuple[Any, str]]] = {}
"""A wrong answer, and a word that its diagnosis must hold ("" where it is more than one slip, or none that has a name)."""

# ---------------------------------------------------------------------------------------------------- notebook 07


def expected_reward_gradient(mdp, mu, logits, r):
    return grad(lambda t: np.sum(mu * np.sum(np.exp(mdp.path_sum(log_softmax(t))) * r, axis=1)))(logits)


def gradient_over_states(mdp, mu, d_pi, pi, r):
    levels = mdp.levels(pi)
    V, Q = mdp.backup(r, lambda h, Q: np.sum(levels[h] * Q, axis=1))
    return np.einsum("x,xs,xsa,xsa->xsa", mu, d_pi, pi, Q - V[..., None])


def baseline_by_search(p, r, score_rows):
    size = (score_rows**2).sum((2, 3))

    def best(x):
        """The slope of a parabola at two places gives its root."""
        at = [-2 * float(np.sum(p[x] * size[x] * (r[x] - b))) for b in (0.0, 1.0)]
        return -at[0] / (at[1] - at[0])

    return [best(x) for x in range(len(r))]


def clipped_by_cases(importance, advantage, clip):
    total = 0.0
    for rho, A in zip(importance, advantage, strict=True):
        total += min(rho, 1 + clip) * A if A > 0 else max(rho, 1 - clip) * A
    return total / len(importance)


def others_by_deleting(rewards):
    return [[row[i] - statistics.fmean(np.delete(row, i)) for i in range(len(row))] for row in rewards]


def standardized(row):
    mean, spread = statistics.fmean(row), statistics.pstdev(row)
    return [(u - mean) / spread for u in row]


RIGHT |= {
    "logit-gradient": [
        expected_reward_gradient,
        gradient_over_states,
        lambda mu, p, r, E_r, score_rows: ((mu[:, None] * p * (r - E_r[:, None]))[:, :, None, None] * score_rows).sum(axis=1),
        lambda mu, p, r, score: np.tensordot(mu[:, None] * p * r, score, axes=2),
    ],
    "best-baseline": [
        baseline_by_search,
        lambda log_p, r, score_rows: np.sum(softmax(log_p + np.log(np.maximum((score_rows**2).sum((2, 3)), 1e-300)), axis=1) * r, axis=1),
        lambda p, r, score_rows: [
            np.average(b, weights=a * np.linalg.norm(s.reshape(len(a), -1), axis=1) ** 2) for a, b, s in zip(p, r, score_rows, strict=True)
        ],
    ],
    "leave-one-out": [
        others_by_deleting,
        lambda rewards, G: G / (G - 1) * (rewards - rewards.mean(1, keepdims=True)),
        lambda rewards, G: rewards @ (np.eye(G) - (1 - np.eye(G)) / (G - 1)),
        lambda rewards, G: ((2 * rewards).astype(int) * G - (2 * rewards).astype(int).sum(1, keepdims=True)) / (2 * (G - 1)),
    ],
    "grpo-advantage": [
        lambda successes: scipy.stats.zscore(successes, axis=1),
        lambda successes: [standardized(row) for row in successes.tolist()],
        lambda successes, G: (successes - successes.sum(1)[:, None] / G) / np.sqrt(successes.sum(1) * (G - successes.sum(1)))[:, None] * G,
        lambda successes: np.where(
            successes.astype(int) == 1, np.sqrt(1 / successes.mean(1) - 1)[:, None], -np.sqrt(1 / (1 / successes.mean(1) - 1))[:, None]
        ),
    ],
    "clipped-surrogate": [
        clipped_by_cases,
        lambda importance, advantage, clip: np.mean(
            np.where(advantage > 0, np.minimum(importance, 1 + clip), np.maximum(importance, 1 - clip)) * advantage
        ),
        lambda importance, advantage, clip: (
            (importance @ advantage - np.sum(np.maximum(0, importance * advantage - np.clip(importance, 1 - clip, 1 + clip) * advantage)))
            / len(advantage)
        ),
        lambda importance, advantage, clip: np.mean(advantage + np.minimum((importance - 1) * advantage, clip * abs(advantage))),
    ],
}
WRONG |= {
    "logit-gradient": [
        (lambda mdp, mu, d_ref, pi, r: gradient_over_states(mdp, mu, d_ref, pi, r), "write d_pi where you write d_ref"),
        (lambda mu, p, r, score_rows: -np.einsum("x,xn,xn,xnsv->xsv", mu, p, r, score_rows), "sign flipped"),
        (lambda mu, p_ref, r, score_rows: np.einsum("x,xn,xnsv->xsv", mu, p_ref * r, score_rows), "p_ref"),
        (lambda mu, p, r, beta, score_rows: np.einsum("x,xn,xnsv->xsv", mu, p * r / beta, score_rows), "beta"),
        (lambda mu, log_p, r, score_rows: np.einsum("x,xn,xnsv->xsv", mu, log_p * r, score_rows), "log"),
    ],
    "best-baseline": [
        (lambda p, r: (p * r).sum(1), "mean reward"),
        (lambda p, r, score_rows: (p * r * np.abs(score_rows).sum((2, 3))).sum(1) / (p * np.abs(score_rows).sum((2, 3))).sum(1), ""),
        (lambda r: r.mean(1), "averaged evenly"),
        (
            lambda p_ref, r, score_rows: (
                np.sum(p_ref * r * (score_rows**2).sum((2, 3)), 1) / np.sum(p_ref * (score_rows**2).sum((2, 3)), 1)
            ),
            "p_ref",
        ),
    ],
    "leave-one-out": [
        (lambda rewards: rewards - rewards.mean(1, keepdims=True), "n for n - 1"),
        (lambda rewards: rewards - rewards.mean(), ""),
        (lambda rewards, G: (rewards.sum(1, keepdims=True) - G * rewards) / (G - 1), "sign flipped"),
        (lambda rewards: rewards - np.median(rewards, axis=1, keepdims=True), ""),
        (lambda rewards: (rewards - rewards.mean(1, keepdims=True)) / (rewards.std(1, keepdims=True) + 1e-6), ""),
    ],
    "grpo-advantage": [
        (lambda successes: (successes - successes.mean(1, keepdims=True)) / successes.std(1, ddof=1, keepdims=True), "n - 1 for n"),
        (lambda successes: (successes - successes.mean(1, keepdims=True)) / successes.var(1, keepdims=True), "variance"),
        (lambda successes: (successes - successes.mean(0)) / (successes.std(0) + 1e-4), ""),
        (lambda successes: (successes - successes.mean(1, keepdims=True)) / successes.mean(1, keepdims=True), ""),
        (lambda successes: (1 - successes - (1 - successes).mean(1, keepdims=True)) / successes.std(1, keepdims=True), "sign flipped"),
    ],
    "clipped-surrogate": [
        (lambda importance, advantage: np.dot(importance, advantage) / len(advantage), "clipping omitted"),
        (lambda importance, advantage, clip: np.mean(np.clip(importance, 1 - clip, 1 + clip) * advantage), "always clipped"),
        (lambda importance, advantage, clip: np.mean(np.minimum(importance, 1 + clip) * advantage), "smaller ratio"),
        (lambda importance, advantage, clip: -clipped_by_cases(importance, advantage, clip), "sign flipped"),
        (lambda importance, advantage, clip: len(advantage) * clipped_by_cases(importance, advantage, clip), "sum where the mean"),
        (
            lambda importance, advantage, clip: np.mean(np.minimum(importance * advantage, np.clip(importance, -clip, clip) * advantage)),
            "",  # no mistake that is known
        ),
    ],
}

# ---------------------------------------------------------------------------------------------------- notebook 08


def frozen_draws_gradient(mdp, mu, p, logits, log_p_ref):
    """Every response's own gradient by the gradient core, averaged over draws."""

    def each(t):
        L = mdp.path_sum(log_softmax(t)) - log_p_ref
        return np.exp(-L) - 1.0 + L

    return np.einsum("xn,xnysv->ysv", mu[:, None] * p, jacobian(each)(logits))


def forward_kl_gradient(mdp, mu, p_ref, log_p_ref, logits):
    return grad(lambda t: np.sum(mu * np.sum(p_ref * (log_p_ref - mdp.path_sum(log_softmax(t))), axis=1)))(logits)


def reverse_kl_gradient(mdp, mu, log_p_ref, logits):
    def objective(t):
        log_p = mdp.path_sum(log_softmax(t))
        return np.sum(mu * np.sum(np.exp(log_p) * (log_p - log_p_ref), axis=1))

    return grad(objective)(logits)


def token_k3_by_walking(mdp, pi, pi_ref):
    number = {tuple(a for a in row if a >= 0): s for s, row in enumerate(mdp.state_tokens().tolist())}
    out = np.zeros((mdp.P, mdp.N))
    for tau, row in enumerate(mdp.tokens().tolist()):
        words = [a for a in row if a >= 0]
        for h, a in enumerate(words):
            s = number[tuple(words[:h])]
            ratio = pi_ref[:, s, a] / pi[:, s, a]
            out[:, tau] += ratio - 1 - np.log(ratio)
    return out


RIGHT |= {
    "three-estimators": [
        lambda log_ratio: (log_ratio, 0.5 * np.square(log_ratio), np.expm1(-log_ratio) + log_ratio),
        lambda ratio: [-np.log(ratio), np.log(ratio) ** 2 / 2, ratio - 1 - np.log(ratio)],
        lambda drawn, p, p_ref: (
            np.array([[math.log(u), math.log(u) ** 2 / 2, 1 / u - 1 + math.log(u)] for u in (p[x, i] / p_ref[x, i] for x, i in drawn)]).T
        ),
    ],
    "estimator-means": [
        lambda KL, p, L: (KL, 0.5 * np.einsum("xn,xn,xn->x", p, L, L), KL),
        lambda p, p_ref: np.stack(
            [scipy.stats.entropy(p, p_ref, axis=1), np.sum(p * np.log(p / p_ref) ** 2, 1) / 2, scipy.special.kl_div(p, p_ref).sum(1)]
        ),
        lambda p, p_ref: [
            [sum(a * k(math.log(a / b)) for a, b in zip(u, v, strict=True)) for u, v in zip(p, p_ref, strict=True)]
            for k in (lambda L: L, lambda L: L * L / 2, lambda L: math.exp(-L) - 1 + L)
        ],
    ],
    "k1-variance": [
        lambda p, L, KL: (p * (L - KL[:, None]) ** 2).sum(1),
        lambda p, p_ref: [np.cov(np.log(a / b), aweights=a, ddof=0) if len(a) > 1 else 0.0 for a, b in zip(p, p_ref, strict=True)],
        lambda p, L: 0.5 * np.einsum("xi,xj,xij->x", p, p, (L[:, :, None] - L[:, None]) ** 2),
    ],
    "pathwise-gradient": [
        frozen_draws_gradient,
        forward_kl_gradient,
        lambda mu, d_ref, pi, pi_ref: (mu[:, None] * d_ref)[:, :, None] * (pi - pi_ref),
        lambda mu, p_ref, score_rows: -np.einsum("x,xn,xnsv->xsv", mu, p_ref, score_rows),
        lambda mu, p, L, score_rows: ((mu[:, None] * p * (1 - np.exp(-L)))[..., None, None] * score_rows).sum(1),
    ],
    "token-k3": [
        token_k3_by_walking,
        lambda mdp, L_s: mdp.path_sum(np.expm1(-L_s)) + mdp.path_sum(L_s),
        lambda mdp, pi, pi_ref, L: mdp.path_sum(pi_ref / pi) - mdp.lengths + L,
    ],
}
WRONG |= {
    "three-estimators": [
        (lambda log_ratio: (log_ratio, log_ratio**2 / 2, np.exp(log_ratio) - log_ratio - 1), "inverted"),
        (lambda ratio: (np.log(ratio), np.log(ratio) ** 2 / 2, ratio - 1 - np.log(ratio)), "sign flipped"),
        (lambda log_ratio: (log_ratio, log_ratio**2, np.exp(-log_ratio) - 1 + log_ratio), "half"),
        (lambda log_ratio: (log_ratio, log_ratio**2 / 2, 1 - np.exp(-log_ratio) + log_ratio), ""),
        (lambda log_ratio: [log_ratio] * 3, ""),
    ],
    "estimator-means": [
        (lambda KL: [KL] * 3, "unbiased"),
        (lambda p, L: ((p * L).sum(1), (p * L).sum(1) ** 2 / 2, (p * L).sum(1)), "square of the mean"),
        (lambda p_ref, L: (-(p_ref * L).sum(1), (p_ref * L**2).sum(1) / 2, (p_ref * (np.exp(-L) - 1 + L)).sum(1)), ""),
        (lambda p, L: ((p * L).sum(1), (p * L**2).sum(1) / 2, (p * (np.exp(L) - 1 - L)).sum(1)), "inverted"),
    ],
    "k1-variance": [
        (lambda p, L: (p * L * L).sum(1), "second moment"),
        (lambda L: L.var(axis=1), "evenly"),
        (lambda p, L: np.sqrt((p * L**2).sum(1) - (p * L).sum(1) ** 2), "standard deviation"),
        (lambda p, L: (p * (L - L.mean(1, keepdims=True)) ** 2).sum(1), ""),
        (lambda p, L: np.var(p * L, axis=1), ""),
        (lambda p, L: (p * L).sum(1) ** 2 - (p * L**2).sum(1), "sign flipped"),
    ],
    "pathwise-gradient": [
        (reverse_kl_gradient, "reverse for forward"),
        (lambda mu, d_ref, pi, pi_ref: mu[:, None, None] * d_ref[..., None] * (pi_ref - pi), "sign flipped"),
        (lambda mu, d_pi, pi, pi_ref: mu[:, None, None] * d_pi[..., None] * (pi - pi_ref), "d_pi for d_ref"),
        (lambda pi: np.zeros_like(pi), "nothing"),
        (lambda mu, p, L, score_rows: np.einsum("x,xn,xnsv->xsv", mu, p * (1 - np.exp(L)), score_rows), "its sign is flipped"),
        (lambda beta, mu, d_ref, pi, pi_ref: beta * mu[:, None, None] * d_ref[..., None] * (pi - pi_ref), "beta"),
    ],
    "token-k3": [
        (lambda L: np.exp(-L) - 1 + L, "k3 of the sum"),
        (lambda mdp, L_s: mdp.path_sum(np.exp(L_s) - 1 - L_s), "inverted"),
        (lambda mdp, L_s, H: mdp.path_sum(np.exp(-L_s) - 1 + L_s) / H, "mean where the sum"),
        (lambda mdp, L_s: mdp.path_sum(np.exp(-L_s) + L_s), "the term 1 dropped"),
        (lambda mdp, L_s: mdp.path_sum(np.exp(-L_s)) - 1 + mdp.path_sum(L_s), "subtracted once"),
    ],
}
