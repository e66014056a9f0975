"""Readers' answers to the exercises of notebooks 09 and 10: right ones written otherwise, and wrong ones."""

from __future__ import annotations

import itertools
import math
import statistics
from itertools import compress
from typing import Any

import numpy as np
import scipy.optimize
import scipy.special
import scipy.stats

sigma, softmax, logsumexp = scipy.special.expit, scipy.special.softmax, scipy.special.logsumexp
RIGHT: dict[str, list[Any]] = {}
WRONG: dict[str, list[tuple[Any, str]]] = {}
"""A wrong answer, and a word that its diagnosis must hold ("" where it is more than one slip, or none that has a name)."""

# ---------------------------------------------------------------------------------------------------- notebook 09


def best_by_all_draws(p_ref, r):
    def law(draws):
        """Every sequence of draws where they are few enough; otherwise the formula, in another form."""
        P, N = r.shape
        return np.array([sequences(p_ref[x], r[x], draws) if N**draws <= 300 else by_levels(p_ref[x], r[x], draws) for x in range(P)])

    return law


def sequences(p, r, n):
    out = np.zeros(len(p))
    for tau in itertools.product(range(len(p)), repeat=n):
        best = [y for y in tau if r[y] == max(r[z] for z in tau)]
        for y in best:
            out[y] += math.prod(p[z] for z in tau) / len(best)
    return out


def by_levels(p, r, n):
    out = np.zeros(len(p))
    for level in set(r.tolist()):
        here, F_, F = r == level, p[r < level].sum(), p[r <= level].sum()
        out[here] = (F**n - F_**n) * p[here] / p[here].sum()
    return out


def selected(p_ref, r, n):
    return np.array([by_levels(p, row, n) for p, row in zip(p_ref, r, strict=True)])


def possible(p_ref, r):
    """Rewards, -inf where the reference never goes."""
    return np.where(p_ref > 0, r, -np.inf)


def divergence(p, q):
    return np.array([scipy.special.rel_entr(a, b).sum() for a, b in zip(p, q, strict=True)])


def fitted_to_weights(p, earned):
    """The likeliest law for weighted draws: natural gradient ascent arrives in a step."""
    weight = p * earned
    return [list(np.array(row) / math.fsum(row)) for row in weight]


RIGHT |= {
    "best-of-n-law": [
        best_by_all_draws,
        lambda p_ref, r: lambda draws: selected(p_ref, r, draws),
        lambda p_ref, r, draws: selected(p_ref, r, int(draws)),
        lambda p_ref, r, draws: selected(p_ref, (2 * r).round().astype(int) if np.array_equal(2 * r, (2 * r).round()) else r, draws),
    ],
    "best-of-n-slack": [
        lambda draws, log_p_best_of_n, p_ref: np.log(draws) - 1 + 1 / draws - divergence(np.exp(log_p_best_of_n), p_ref),
        lambda draws, p_ref, r: math.log(draws) - (draws - 1) / draws - divergence(selected(p_ref, r, draws), p_ref),
        lambda draws, log_p_best_of_n, log_p_ref: [
            math.log(draws) - (draws - 1) / draws - math.fsum(math.exp(a) * (a - b) for a, b in zip(u, v, strict=True))
            for u, v in zip(log_p_best_of_n, log_p_ref, strict=True)
        ],
    ],
    "acceptance": [
        lambda log_Z, p_ref, r, beta: np.exp(log_Z - possible(p_ref, r).max(1) / beta),
        lambda value, p_ref, r, beta: np.exp((value - np.max(r, axis=1, where=p_ref > 0, initial=-np.inf)) / beta),
        lambda p_ref, r, beta: [
            sum(q * math.exp((a - max(compress(rs, qs))) / beta) for q, a in zip(qs, rs, strict=True) if q)
            for qs, rs in zip(p_ref, r, strict=True)
        ],
        lambda p_ref, p_star, r: [q[k] / s[k] for q, s, k in zip(p_ref, p_star, possible(p_ref, r).argmax(1), strict=True)],
    ],
    "imitation-round": [
        fitted_to_weights,
        lambda log_p, earned: softmax(log_p + np.log(earned), axis=1),
        lambda p, earned: np.stack([np.diag(a) @ b / (a @ b) for a, b in zip(p, earned, strict=True)]),
        lambda p, earned: p * (2 * earned).astype(int) / np.sum(p * (2 * earned).astype(int), axis=1)[:, None],
    ],
    "proxy-selection": [
        lambda p_ref, proxy, r, draws: np.einsum("xn,xn->x", selected(p_ref, proxy, draws), r) - np.einsum("xn,xn->x", p_ref, r),
        lambda p_ref, proxy, r, draws: [a @ c - b @ c for a, b, c in zip(best_by_all_draws(p_ref, proxy)(draws), p_ref, r, strict=True)],
        lambda p_ref, proxy, r, draws: np.sum(selected(p_ref, proxy, draws) * (r - np.sum(p_ref * r, axis=1, keepdims=True)), axis=1),
    ],
}
WRONG |= {
    "best-of-n-law": [
        (lambda p_ref, r: lambda draws: selected(p_ref, -r, draws), "worst of n"),
        (lambda p_ref, r: lambda draws: selected(p_ref, r, draws - 1), "n - 1"),
        (lambda p_ref, r: lambda draws: p_ref**draws / (p_ref**draws).sum(1, keepdims=True), ""),
        (lambda p_ref, r: lambda draws: np.array([1.0 * (row == row.max()) / (row == row.max()).sum() for row in r]), ""),
        (lambda p_ref, r: lambda draws: np.log(selected(p_ref, r, draws)), "logarithm"),
        (lambda p_ref, r: lambda draws: selected(p_ref, r, draws + 1), ""),
    ],
    "best-of-n-slack": [
        (
            lambda draws, log_p_best_of_n, log_p_ref: (
                divergence(np.exp(log_p_best_of_n), np.exp(log_p_ref)) - np.log(draws) + (draws - 1) / draws
            ),
            "sign flipped",
        ),
        (lambda draws, log_p_best_of_n, p_ref: np.log(draws) - (draws - 1) / draws - divergence(p_ref, np.exp(log_p_best_of_n)), "forward"),
        (lambda draws, log_p_best_of_n, p_ref: np.log(draws) - divergence(np.exp(log_p_best_of_n), p_ref), "log n alone"),
        (
            lambda draws, log_p_best_of_n, log_p_ref: np.log(draws) - (draws - 1) / draws - (log_p_best_of_n - log_p_ref).mean(1),
            "averaged evenly",
        ),
        (lambda draws, P: [np.log(draws) - (draws - 1) / draws] * P, "bound alone"),
    ],
    "acceptance": [
        (lambda p_ref, r, beta: (p_ref * np.exp(r / beta)).sum(1), "max r omitted"),
        (lambda log_Z, r, beta: np.exp(r.max(1) / beta - log_Z), "inverted"),
        (lambda p_ref, r: (p_ref * np.exp(r - r.max(1, keepdims=True))).sum(1), "beta dropped"),
        (lambda r, beta: np.exp((r - r.max(1, keepdims=True)) / beta).mean(1), "a uniform distribution for p_ref"),
        (lambda p_ref, r, beta: (p_ref * np.exp((r - r.max()) / beta)).sum(1), "all prompts"),
        (lambda log_Z, p_ref, r, beta: log_Z - possible(p_ref, r).max(1) / beta, "logarithm"),
        (lambda log_Z, r, beta: np.exp(log_Z - r.max(1) / beta), ""),
    ],
    "imitation-round": [
        (lambda log_p, earned: softmax(log_p + earned, axis=1), "tilt"),
        (lambda p, earned: p * earned / p.sum(1, keepdims=True), "not normalized"),
        (lambda p, earned: p * earned / (p * earned).sum(), "all prompts"),
        (lambda p, earned: p * earned**3 / (p * earned**3).sum(1, keepdims=True), ""),
        (lambda log_p, earned: log_p + np.log(earned) - logsumexp(log_p + np.log(earned), axis=1, keepdims=True), "logarithm"),
        (lambda p, r: p * r / (p * r).sum(1, keepdims=True), "r for earned"),
    ],
    "proxy-selection": [
        (lambda p_ref, proxy, draws: ((selected(p_ref, proxy, draws) - p_ref) * proxy).sum(1), "judged by what was measured"),
        (lambda p_ref, r, draws: ((selected(p_ref, r, draws) - p_ref) * r).sum(1), "true reward"),
        (lambda p_ref, proxy, r, draws: (selected(p_ref, proxy, draws) * r).sum(1), "not subtracted"),
        (lambda p_ref, proxy, r, draws: np.maximum(0, ((selected(p_ref, proxy, draws) - p_ref) * r).sum(1)), ""),
        (lambda p_ref, proxy, r, draws: ((selected(p_ref, proxy, draws) - p_ref) * (proxy - r)).sum(1), ""),
    ],
}

# ---------------------------------------------------------------------------------------------------- notebook 10


def off_diagonal(wins):
    return wins * (1 - np.eye(wins.shape[1]))


def by_minorizing(wins_ring):
    """Zermelo's iteration on strengths, until the score equation holds."""
    won = off_diagonal(wins_ring)
    met, s = won + np.swapaxes(won, 1, 2), np.ones(won.shape[:2])
    for _ in range(3000):
        new = won.sum(2) / np.maximum((met / (s[:, :, None] + s[:, None, :])).sum(2), 1e-300)
        new /= np.exp(np.log(np.maximum(new, 1e-300)).mean(1, keepdims=True))
        if np.max(np.abs(new / s - 1)) < 1e-9:
            break
        s = new
    return np.log(s)


def by_scipy(wins_ring):
    """As a student would: hand the loss to an optimizer, without its gradient."""
    out = []
    for won in off_diagonal(wins_ring):
        found = scipy.optimize.minimize(lambda r, won=won: np.sum(won * np.logaddexp(0, r[None, :] - r[:, None])), np.zeros(len(won)))
        out.append(found.x)
    return out


def by_descent(wins_ring):
    """Plain gradient steps, as long as the curvature allows."""
    won = off_diagonal(wins_ring)
    met, r = won + np.swapaxes(won, 1, 2), np.zeros(won.shape[:2])
    for _ in range(20_000):
        step = (won - met * sigma(r[:, :, None] - r[:, None, :])).sum(2)
        r = r + 2 * step / np.maximum(met.sum(2).max(), 1)
        if np.max(np.abs(step)) < 1e-7:
            break
    return r


def tilted(p_ref, scores, beta):
    return softmax(np.log(p_ref) + scores / beta, axis=1)


def conditionals(mdp, p):
    mass = mdp.subtree_sum(p)
    return mass / np.einsum("xsa->xs", mass)[..., None]


def soft_backward(mdp, pi_ref, scores, beta):
    """Token by token: weights of what is still to come."""
    levels = mdp.levels(pi_ref)
    _, W = mdp.backup(np.exp(scores / beta), lambda h, W: np.sum(levels[h] * W, axis=1))
    return pi_ref * W / np.sum(pi_ref * W, axis=2, keepdims=True)


def objective(mu, p, p_ref, r, beta):
    return mu @ ((p * r).sum(1) - beta * divergence(p, p_ref))


def regret_by_values(mu, beta, p_ref, scores, r):
    best = beta * np.log((p_ref * np.exp(r / beta)).sum(1))
    return mu @ best - objective(mu, tilted(p_ref, scores, beta), p_ref, r, beta)


RIGHT |= {
    "fitted-reward": [by_minorizing, by_scipy, by_descent, lambda wins_ring: by_minorizing(wins_ring.astype(int)) + 5],
    "shipped-policy": [
        lambda mdp, p_ref, scores, beta: conditionals(mdp, tilted(p_ref, scores, beta)),
        soft_backward,
        lambda mdp, log_p_ref, scores, beta: softmax(np.log(mdp.subtree_sum(np.exp(log_p_ref + (scores - scores.max()) / beta))), axis=-1),
    ],
    "training-regret": [
        regret_by_values,
        lambda mu, beta, p_ref, scores, p_star: beta * np.dot(mu, divergence(tilted(p_ref, scores, beta), p_star)),
        lambda mu, value, p_ref, scores, r, beta: sum(
            m * (v - a @ b + beta * d)
            for m, v, a, b, d in zip(mu, value, tilted(p_ref, scores, beta), r, divergence(tilted(p_ref, scores, beta), p_ref), strict=True)
        ),
    ],
    "illusory-gain": [
        lambda p_ref, proxy, r, beta: ((tilted(p_ref, proxy, beta) - p_ref) * (proxy - r)).sum(1),
        lambda p_ref, proxy, r, beta: [
            (a - q) @ f - (a - q) @ g for a, q, f, g in zip(tilted(p_ref, proxy, beta), p_ref, proxy, r, strict=True)
        ],
        lambda p_ref, proxy, r, beta: (
            np.sum(p_ref * np.exp(proxy / beta) * (proxy - r), 1) / np.sum(p_ref * np.exp(proxy / beta), 1) - np.sum(p_ref * (proxy - r), 1)
        ),
    ],
    "estimated-objective": [
        lambda r_drawn, log_ratio, beta: (lambda g: [statistics.fmean(g), statistics.stdev(g) / math.sqrt(len(g))])(
            (r_drawn - beta * log_ratio).tolist()
        ),
        lambda r_drawn, log_ratio, beta: np.array(
            [np.mean(r_drawn) - beta * np.mean(log_ratio), scipy.stats.sem(r_drawn - beta * log_ratio)]
        ),
        lambda r_drawn, ratio, beta: (
            np.mean(r_drawn + beta * np.log(ratio)),
            np.sqrt(np.var(r_drawn + beta * np.log(ratio)) / (len(ratio) - 1)),
        ),
        lambda drawn, r, p, p_ref, beta: (lambda g: np.array([g.mean(), g.std(ddof=1) / len(g) ** 0.5]))(
            np.array([r[x, i] - beta * np.log(p[x, i] / p_ref[x, i]) for x, i in drawn])
        ),
    ],
}
WRONG |= {
    "fitted-reward": [
        (lambda wins_ring: by_minorizing(np.swapaxes(wins_ring, 1, 2)), "swapped"),
        (lambda wins_ring: np.log(off_diagonal(wins_ring).sum(2) / np.maximum(off_diagonal(wins_ring).sum(1), 1e-9)), "log odds"),
        (lambda wins_ring: np.exp(by_minorizing(wins_ring)), "exponentiated"),
        (lambda wins_ring: off_diagonal(wins_ring).sum(2), ""),
        (lambda r: r, ""),
    ],
    "shipped-policy": [
        (lambda mdp, p_ref, scores, beta: mdp.subtree_sum(tilted(p_ref, scores, beta)), "unconditional"),
        (lambda mdp, scores, beta: conditionals(mdp, softmax(scores / beta, axis=1)), "p_ref omitted"),
        (lambda mdp, p_ref, scores: conditionals(mdp, tilted(p_ref, scores, 1.0)), "beta dropped"),
        (lambda mdp, pi_ref, scores, beta: np.log(soft_backward(mdp, pi_ref, scores, beta)), "logarithm"),
        (lambda mdp, p_ref, r, beta: conditionals(mdp, tilted(p_ref, r, beta)), "true reward"),
        (lambda mdp, p_ref, scores, beta: conditionals(mdp, tilted(p_ref, 2 * scores, beta)), "doubled"),
    ],
    "training-regret": [
        (lambda mu, p_ref, scores, p_star, beta: mu @ divergence(tilted(p_ref, scores, beta), p_star), "beta dropped"),
        (lambda mu, p_ref, scores, p_star, beta: beta * mu @ divergence(p_star, tilted(p_ref, scores, beta)), "forward"),
        (lambda p_ref, scores, mu, p_star, beta, r: mu @ ((p_star - tilted(p_ref, scores, beta)) * r).sum(1), "penalty omitted"),
        (lambda mu, beta, p_ref, scores, r: -regret_by_values(mu, beta, p_ref, scores, r), "sign flipped"),
        (lambda mu, p_ref, scores, p_star, beta: beta * mu @ divergence(tilted(p_ref, scores, 1.0), p_star), "beta dropped in the tilt"),
        (lambda mu, p_ref, scores, r, beta: objective(mu, tilted(p_ref, scores, beta), p_ref, r, beta), ""),
    ],
    "illusory-gain": [
        (lambda p_ref, proxy, r, beta: (tilted(p_ref, proxy, beta) * (proxy - r)).sum(1), "start forgotten"),
        (lambda p_ref, p_star, proxy, r: ((p_star - p_ref) * (proxy - r)).sum(1), "optimum of r"),
        (lambda p_ref, proxy, r, beta: ((tilted(p_ref, proxy, beta) - p_ref) * (r - proxy)).sum(1), "sign flipped"),
        (lambda p_ref, proxy, r: ((tilted(p_ref, proxy, 1.0) - p_ref) * (proxy - r)).sum(1), "beta dropped"),
        (lambda p_ref, proxy, r, beta: abs(((tilted(p_ref, proxy, beta) - p_ref) * (proxy - r)).sum(1)), "absolute"),
        (lambda p_ref, proxy, r, beta: ((tilted(p_ref, proxy, beta) - p_ref) * (proxy + r)).sum(1), "sign of r flipped"),
    ],
    "estimated-objective": [
        (
            lambda r_drawn, log_ratio, beta: [
                np.mean(r_drawn - beta * log_ratio),
                np.std(r_drawn - beta * log_ratio) / np.sqrt(len(r_drawn)),
            ],
            "n for n - 1",
        ),
        (
            lambda r_drawn, log_ratio, beta: [np.mean(r_drawn - beta * log_ratio), np.std(r_drawn - beta * log_ratio, ddof=1)],
            "standard deviation for",
        ),
        (lambda r_drawn, log_ratio, beta: [np.mean(r_drawn + beta * log_ratio), scipy.stats.sem(r_drawn + beta * log_ratio)], "+ KL"),
        (lambda r_drawn, log_ratio: [np.mean(r_drawn - log_ratio), scipy.stats.sem(r_drawn - log_ratio)], "beta dropped"),
        (lambda J, r_drawn, log_ratio, beta: [J, scipy.stats.sem(r_drawn - beta * log_ratio)], ""),
        (lambda r_drawn, log_ratio, beta: [np.mean(r_drawn - beta * log_ratio), scipy.stats.sem(r_drawn)], ""),
    ],
}
