"""Readers' answers to the exercises of notebooks 01 and 02: right ones written otherwise, and wrong ones."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import scipy.special
import scipy.stats

from tabular_rlhf.autodiff import grad

softmax, logsumexp = scipy.special.softmax, scipy.special.logsumexp
RIGHT: dict[str, list[Any]] = {}
WRONG: dict[str, list[tuple[Any, str]]] = {}
"""A wrong answer, and a word that its diagnosis must hold ("" where it is more than one slip, or none that has a name)."""

# ---------------------------------------------------------------------------------------------------- notebook 01


def enumerated(V, K, H):
    strings = [s for n in range(1, H + 1) for s in itertools.product(range(V), repeat=n)]
    finished = [s for s in strings if all(a < K for a in s[:-1]) and (len(s) == H or s[-1] >= K)]
    return [len({s[:h] for s in finished for h in range(len(s))}), len(finished)]


def recursive(V, K, H):
    if H == 1:
        return np.array([1, V])
    below = recursive(V, K, H - 1)
    return np.array([1 + K * below[0], (V - K) + K * below[1]])


def steps(mdp):
    """The (state, token) pairs of every response, from its words."""
    number = {tuple(a for a in row if a >= 0): s for s, row in enumerate(mdp.state_tokens().tolist())}
    said = [[a for a in row if a >= 0] for row in mdp.tokens().tolist()]
    return [[(number[tuple(words[:h])], a) for h, a in enumerate(words)] for words in said]


def log_p_by_walking(mdp, log_pi):
    return np.array([[sum(row[s, a] for s, a in path) for path in steps(mdp)] for row in log_pi])


def visits_by_walking(mdp, p):
    d = np.zeros((mdp.P, mdp.S))
    for tau, path in enumerate(steps(mdp)):
        for s, _ in path:
            d[:, s] += p[:, tau]
    return d


def policy_by_walking(mdp, p):
    mass = np.zeros((mdp.P, mdp.S, mdp.V))
    for tau, path in enumerate(steps(mdp)):
        for s, a in path:
            mass[:, s, a] += p[:, tau]
    return mass / np.einsum("xsa->xs", mass)[..., None]


def policy_in_logs(mdp, log_p):
    mass = mdp.subtree_sum(np.exp(log_p))
    return np.exp(np.log(mass) - logsumexp(np.log(mass), axis=2, keepdims=True))


def advantages_by_masses(mdp, log_p_2, r):
    p = np.exp(log_p_2)
    mass, earned = mdp.subtree_sum(p), mdp.subtree_sum(p * r)
    return earned / mass - (np.sum(earned, axis=2) / np.sum(mass, axis=2))[..., None]


def advantages_by_recursion(mdp, log_pi_2, r):
    ends = {path[-1]: tau for tau, path in enumerate(steps(mdp))}
    nexts = {path[h]: path[h + 1][0] for path in steps(mdp) for h in range(len(path) - 1)}
    out = np.zeros_like(log_pi_2)

    def value(x, s):
        Q = [r[x, ends[s, a]] if (s, a) in ends else value(x, nexts[s, a]) for a in range(mdp.V)]
        V = sum(math.exp(log_pi_2[x, s, a]) * Q[a] for a in range(mdp.V))
        out[x, s] = np.array(Q) - V
        return V

    _ = [value(x, 0) for x in range(mdp.P)]
    return out


def advantages_by_einsum(mdp, log_pi_2, r):
    levels = mdp.levels(np.exp(log_pi_2))
    V, Q = mdp.backup(r, lambda h, Q: np.einsum("xas,xas->xs", levels[h], Q))
    return Q - V[..., np.newaxis]


def last_token_forgotten(mdp, log_pi):
    return np.array([[sum(row[s, a] for s, a in path[:-1]) for path in steps(mdp)] for row in log_pi])


RIGHT |= {
    "count-the-tree": [
        enumerated,
        recursive,
        lambda V, K, H: (H if K == 1 else (K**H - 1) // (K - 1), K**H + (V - K) * sum(K**h for h in range(H))),
    ],
    "log-probability": [
        log_p_by_walking,
        lambda mdp, logits: mdp.path_sum(scipy.special.log_softmax(logits, axis=-1)),
        lambda mdp, pi: np.array([[math.log(math.prod(row[s, a] for s, a in path)) for path in steps(mdp)] for row in pi]),
    ],
    "state-visits": [
        visits_by_walking,
        lambda mdp, log_pi: np.exp(mdp.prefix_sum(log_pi)),
        lambda mdp, log_p: np.einsum("xsa->xs", mdp.subtree_sum(np.exp(log_p))),
    ],
    "policy-of-a-law": [policy_by_walking, policy_in_logs, lambda mdp, p: softmax(np.log(mdp.subtree_sum(p)), axis=-1)],
    "advantages": [advantages_by_masses, advantages_by_recursion, advantages_by_einsum],
}
WRONG |= {
    "count-the-tree": [
        (lambda V, K, H: [recursive(V, K, H)[1], recursive(V, K, H)[0]], "reversed"),
        (lambda V, K, H, P: P * recursive(V, K, H), "number of prompts"),
        (lambda V, K, H: [sum(K**h for h in range(1, H)), recursive(V, K, H)[1]], ""),
        (lambda V, K, H: [int((V**H - 1) / (V - 1)) if V > 1 else H, V**H], "EOS"),
    ],
    "log-probability": [
        (lambda mdp, pi: -mdp.path_sum(np.log(pi)), "sign"),
        (lambda mdp, log_pi, H: mdp.path_sum(log_pi) / H, "mean"),
        (lambda mdp, log_pi_ref: mdp.path_sum(log_pi_ref), "pi_ref for pi"),
        (lambda mdp, log_pi: np.exp(mdp.path_sum(log_pi)), "exp"),
        (last_token_forgotten, ""),
    ],
    "state-visits": [
        (lambda mdp, log_pi_ref: np.exp(mdp.prefix_sum(log_pi_ref)), "d_ref"),
        (lambda mdp, p, mu: mu[:, None] * mdp.subtree_sum(p).sum(-1), "mu"),
        (lambda mdp, p: np.max(mdp.subtree_sum(p), axis=-1), ""),
        (lambda mdp, p: 1 - mdp.subtree_sum(p).sum(-1), "complement"),
    ],
    "policy-of-a-law": [
        (lambda mdp, p: np.log(policy_by_walking(mdp, p)), "logarithm"),
        (lambda mdp, p_ref: policy_by_walking(mdp, p_ref), "reference"),
        (lambda mdp, p: softmax(mdp.subtree_sum(p), axis=-1), ""),
        (lambda mdp, p: mdp.subtree_sum(p) / mdp.subtree_sum(p).max(-1, keepdims=True), ""),
    ],
    "advantages": [
        (lambda mdp, log_p_2, r: -advantages_by_masses(mdp, log_p_2, r), "sign"),
        (lambda mdp, log_p, r: advantages_by_masses(mdp, log_p, r), "of pi"),
        (lambda mdp, log_p_2, r: 0 * mdp.subtree_sum(r) + mdp.subtree_sum(np.exp(log_p_2) * r), ""),
        (lambda mdp, log_p_2, log_pi_2, r: np.exp(log_pi_2) * advantages_by_masses(mdp, log_p_2, r), ""),
    ],
}

# ---------------------------------------------------------------------------------------------------- notebook 02


def quietly_binomial(p_ref, success, draws):
    q = np.minimum(1.0, np.sum(p_ref * success, axis=1))
    return draws * q - sum(math.comb(draws, k) * q**k * (1 - q) ** (draws - k) for k in range(1, draws + 1))


def chain(H, eps):
    """Two states, lost or not: the expected mistakes of each step added up."""
    lost, mistakes = 0.0, 0.0
    for _ in range(H):
        lost += (1 - lost) * eps
        mistakes += lost
    return mistakes


def tilted(p_ref, proxy, beta):
    w = p_ref * np.exp(proxy / beta)
    return w / w.sum(axis=1, keepdims=True)


def slope_by_core(p_ref, proxy, r, beta):
    def earned(b, x):
        w = p_ref[x] * np.exp((proxy[x] - np.max(proxy[x])) / b)
        return np.sum(w * r[x]) / np.sum(w)

    return [grad(lambda b, x=x: earned(b, x))(beta) for x in range(len(r))]


def slope_by_cov(p_ref, proxy, r, beta):
    return (
        np.array([-np.cov(a, b, aweights=w, ddof=0)[0, 1] for a, b, w in zip(proxy, r, tilted(p_ref, proxy, beta), strict=True)]) / beta**2
    )


RIGHT |= {
    "episodes-until-success": [
        lambda p_ref, success: np.array([scipy.stats.geom(min(1.0, q)).mean() for q in np.sum(p_ref * success, axis=1)]),
        lambda log_p_ref, success: np.exp(-logsumexp(log_p_ref, axis=1, b=success)),
        lambda p_ref, success: [1 / sum(q for q, g in zip(*row, strict=True) if g == 1) for row in zip(p_ref, success, strict=True)],
    ],
    "union-bound": [
        quietly_binomial,
        lambda p_ref, success, draws: (
            np.einsum("xi,xi->x", p_ref, success) * draws
            + np.expm1(draws * np.log1p(-np.minimum(1, np.einsum("xi,xi->x", p_ref, success))))
        ),
        lambda p_ref, success, draws: [draws * q - scipy.stats.binom.sf(0, draws, min(1.0, q)) for q in (p_ref * success).sum(1)],
    ],
    "compounding-cost": [
        chain,
        lambda H, eps: H - (1 - eps) * (1 - (1 - eps) ** H) / eps,
        lambda H, eps: sum((1 - eps) ** (k - 1) * eps * (H - k + 1) for k in range(1, H + 1)),
    ],
    "proxy-optimum": [
        lambda p_ref, proxy, beta, r: (tilted(p_ref, proxy, beta) * r).sum(1),
        lambda p_star, proxy, beta, r: np.average(r, axis=1, weights=p_star * np.exp((proxy - r) / beta)),
        lambda log_p_ref, proxy, beta, r: [float(softmax(q + a / beta) @ b) for q, a, b in zip(log_p_ref, proxy, r, strict=True)],
    ],
    "hacking-slope": [
        slope_by_core,
        slope_by_cov,
        lambda p_ref, proxy, r, beta: (
            (
                (tilted(p_ref, proxy, beta) * proxy).sum(1) * (tilted(p_ref, proxy, beta) * r).sum(1)
                - (tilted(p_ref, proxy, beta) * proxy * r).sum(1)
            )
            / beta**2
        ),
    ],
}
WRONG |= {
    "episodes-until-success": [
        (lambda p, success: 1 / (p * success).sum(1), "p for p_ref"),
        (lambda p_ref, success: 1 / (p_ref * success).sum(1) ** 2, "squared"),
        (lambda p_ref, success: 1 / (p_ref * (1 - success)).sum(1), ""),
        (lambda p_ref, success: np.mean(1 / (p_ref * success).sum(1)), ""),
        (lambda p_ref, success: -1 / (p_ref * success).sum(1), "sign"),
    ],
    "union-bound": [
        (lambda p, success, draws: quietly_binomial(p, success, draws), "p for p_ref"),
        (lambda p_ref, success, draws: quietly_binomial(p_ref, success, draws - 1), "draws - 1"),
        (lambda p_ref, success, draws: draws * (p_ref * success).sum(1), ""),
        (lambda p_ref, success, draws: quietly_binomial(p_ref, success, draws) / draws, "mean"),
    ],
    "compounding-cost": [
        (lambda H, eps: chain(H, eps) / H, "mean"),
        (lambda H, eps: H - chain(H, eps), ""),
        (lambda H, eps: chain(H - 1, eps), "n - 1"),
        (lambda H, eps: sum(1 - eps**h for h in range(1, H + 1)), ""),
    ],
    "proxy-optimum": [
        (lambda p_ref, proxy, beta, r: (tilted(p_ref, -proxy, beta) * r).sum(1), "sign of proxy"),
        (lambda p_ref, proxy, beta, r: (tilted(p_ref, proxy, beta**2) * r).sum(1), "beta squared"),
        (lambda p_ref, proxy, beta, r: (p_ref * np.exp(proxy / beta) / np.sum(p_ref * np.exp(proxy / beta)) * r).sum(1), ""),
        (lambda p_ref, proxy, beta: (tilted(p_ref, proxy, beta) * proxy).sum(1), "proxy"),
    ],
    "hacking-slope": [
        (lambda p_ref, proxy, r, beta: beta**2 * slope_by_cov(p_ref, proxy, r, beta), "beta squared"),
        (lambda p_ref, proxy, r, beta: slope_by_cov(p_ref, proxy, r, beta) / beta, "beta"),
        (lambda p_ref, proxy, r, beta: slope_by_cov(p_ref, r, r, beta), "r"),
        (lambda p_ref, proxy, r, beta: np.abs(slope_by_cov(p_ref, proxy, r, beta)), "absolute"),
    ],
}
