"""Answers by other hands on chapter 4."""

from __future__ import annotations

import numpy as np
from scipy import special, stats
from scipy.special import logsumexp, softmax

from tests.unseen_support import Gibbs, ev, gibbs, kl, mean_V, odd, right, rows, soft_policy, wrong

right(
    "gibbs-probabilities",
    lambda p_ref, r, beta: (lambda w: w / w.sum(1, keepdims=True))(p_ref * np.exp((r - r.max(1, keepdims=True)) / beta)),
)
right("gibbs-probabilities", Gibbs())
wrong("gibbs-probabilities", "multiplied by beta", "beta", lambda p_ref, r, beta: softmax(np.log(p_ref) + beta * r, axis=1))
wrong(
    "gibbs-probabilities",
    "normalized over prompts axis (axis=0)",
    "axis|prompt",
    lambda p_ref, r, beta: (lambda w: w / w.sum(0))(p_ref * np.exp(r / beta)),
)
wrong("gibbs-probabilities", "reference dropped", "ref|the term beta*k_1 dropped", lambda r, beta: softmax(r / beta, axis=1))
wrong(
    "gibbs-probabilities",
    "argmax",
    "argmax|greedy|beta -> 0|best|hard|limit",
    lambda p_ref, r: (lambda w: w / w.sum(1, keepdims=True))(p_ref * (r == r.max(1, keepdims=True))),
)
wrong("gibbs-probabilities", "sign of reward", "sign", lambda p_ref, r, beta: softmax(np.log(p_ref) - r / beta, axis=1))
odd("gibbs-probabilities", lambda p_ref, r, beta: (lambda w: w / w.sum(1, keepdims=True))(p_ref * (1 + np.abs(r) / beta)))
right("regret", lambda beta, log_p, log_p_star: beta * np.sum(special.rel_entr(np.exp(log_p), np.exp(log_p_star)), axis=1))
right("regret", lambda beta, p, p_star: [beta * stats.entropy(a, b) for a, b in zip(p, p_star, strict=True)])
wrong("regret", "forward KL", "forward|revers|direction|swap|exchang", lambda beta, log_p, log_p_star: beta * kl(log_p_star, log_p))
wrong(
    "regret",
    "symmetrized",
    "symmetr|Jeffreys|both",
    lambda beta, log_p, log_p_star: beta * (kl(log_p_star, log_p) + kl(log_p, log_p_star)) / 2,
)
wrong(
    "regret",
    "unweighted mean over responses",
    "weights p omitted",
    lambda beta, log_p, log_p_star: beta * np.mean(log_p - log_p_star, axis=1),
)
wrong("regret", "bits", "bits|base|log2|log 2", lambda beta, p, p_star: beta * rows(p * np.log2(p / p_star)))
wrong("regret", "squared distance", "squared", lambda beta, p, p_star: beta * ((p - p_star) ** 2).sum(1))
wrong("regret", "over beta", "beta", lambda beta, log_p, log_p_star: kl(log_p, log_p_star) / beta)
odd("regret", lambda beta, log_p, log_p_star: beta * np.maximum(np.exp(log_p) * (log_p - log_p_star), 0).sum(1))
right("best-value", lambda beta, log_p_ref, r: beta * logsumexp(r / beta, b=np.exp(log_p_ref), axis=1))
wrong("best-value", "mean reward under p_ref", "E_p_ref[r]", lambda p_ref, r: rows(p_ref * r))
wrong("best-value", "max", "max r|beta -> 0", lambda r: r.max(1))
wrong("best-value", "beta log mean exp unweighted", "ref|uniform", lambda beta, r, N: beta * (logsumexp(r / beta, axis=1) - np.log(N)))
wrong("best-value", "without reference", "ref", lambda beta, r: beta * logsumexp(r / beta, axis=1))
wrong("best-value", "E_{p*}[r], KL forgotten", "E_p*[r]", lambda beta, log_p_ref, r: ev(gibbs(log_p_ref, r / beta), r))
right("token-policy", soft_policy)
right("token-policy", lambda mdp, p_ref, r, beta: (lambda c: c / c.sum(-1, keepdims=True))(mdp.subtree_sum(p_ref * np.exp(r / beta))))
wrong(
    "token-policy",
    "mean backup (one-step improvement)",
    "mean|expect|average|soft",
    lambda mdp, log_pi_ref, r, beta: softmax(log_pi_ref + mean_V(mdp, log_pi_ref, r)[1] / beta, axis=-1),
)
wrong(
    "token-policy",
    "prior forgotten at each token",
    "ref",
    lambda mdp, log_pi_ref, r, beta: softmax(
        mdp.backup(r, lambda h, Q: beta * logsumexp(mdp.levels(log_pi_ref)[h] + Q / beta, axis=1))[1] / beta, axis=-1
    ),
)
wrong("token-policy", "beta multiplies Q", "beta", lambda mdp, log_pi_ref, r, beta: soft_policy(mdp, log_pi_ref, r, 1 / beta))
right("kl-by-states", lambda d_pi, log_pi, log_pi_ref: np.einsum("xs,xsa,xsa->x", d_pi, np.exp(log_pi), log_pi - log_pi_ref))
wrong(
    "kl-by-states",
    "no visit weights",
    "visits omitted",
    lambda log_pi, log_pi_ref: np.einsum("xsa,xsa->x", np.exp(log_pi), log_pi - log_pi_ref),
)
wrong(
    "kl-by-states",
    "forward in each state",
    "forward|revers|direction|swap|exchang|other way",
    lambda d_pi, log_pi, log_pi_ref: np.einsum("xs,xsa,xsa->x", d_pi, np.exp(log_pi_ref), log_pi_ref - log_pi),
)
wrong(
    "kl-by-states",
    "first state only",
    "first|root|prompt|one step",
    lambda log_pi, log_pi_ref: np.sum(np.exp(log_pi[:, 0]) * (log_pi - log_pi_ref)[:, 0], -1),
)
wrong("regret-is-kl/5", "sign of KL", "sign", lambda value, beta, log_p, log_p_star: value + beta * kl(log_p, log_p_star))
wrong(
    "gibbs-optimum/3",
    "the -beta of the product rule",
    "beta&minus it is missing",
    lambda r, beta, log_p, log_p_ref: r - beta * (log_p - log_p_ref),
)
wrong("gibbs-optimum/9", "without beta: 1 - log Z", "beta", lambda log_Z: 1 - log_Z)
wrong("gibbs-optimum", "log instead of probability", "log", lambda log_p_star: log_p_star, part=0)
wrong("lagrange-multiplier", "at beta = 1", "beta", lambda log_Z: 1 - log_Z, part=0)
right("lagrange-multiplier", lambda beta, value: np.subtract(beta, value), part=0)
wrong("optimal-value", "not averaged over prompts", "mu omitted", lambda beta, log_Z: np.sum(beta * log_Z))
wrong("optimal-value", "plain mean over prompts, not mu", "mu|uniform", lambda beta, log_Z: np.mean(beta * log_Z))
wrong("kl-chain-rule", "d_ref", "ref", lambda d_ref, KL_s: rows(d_ref * KL_s))
wrong("kl-chain-rule", "sum without weights", "weight|visit|d_pi(s) dropped", lambda KL_s: rows(KL_s))
wrong(
    "free-energy-derivatives",
    "sign of dE/dbeta",
    "sign",
    lambda p_star, r, beta: (rows(p_star * r**2) - rows(p_star * r) ** 2) / beta**2,
    part=2,
)
wrong(
    "free-energy-derivatives",
    "beta squared for cubed",
    "beta|2 for 3",
    lambda p_star, r, beta: -(rows(p_star * r**2) - rows(p_star * r) ** 2) / beta**2,
    part=3,
)
wrong(
    "free-energy-derivatives",
    "variance under p_ref",
    "ref",
    lambda p_ref, r, beta: -(rows(p_ref * r**2) - rows(p_ref * r) ** 2) / beta**2,
    part=2,
)
right(
    "free-energy-derivatives",
    lambda p_star, r, beta: [-np.cov(u, aweights=w, bias=True) / beta**2 if len(u) > 1 else 0.0 for w, u in zip(p_star, r, strict=True)],
    part=2,
)
wrong(
    "free-energy-derivatives/12",
    "beta missing a power",
    "beta",
    lambda p_star, r, beta: -(rows(p_star * r**2) - rows(p_star * r) ** 2) / beta,
)
wrong("donsker-varadhan", "E[f] (Jensen's lower side)", "log|exp|mean|Jensen", lambda p_ref, f: rows(p_ref * f), part=0)
wrong(
    "donsker-varadhan",
    "gap reversed",
    "revers|direction|forward|swap|arguments of kl swapped",
    lambda log_p_ref, f, log_p: kl(gibbs(log_p_ref, f), log_p),
    part=1,
)
wrong("potential-shaping", "unchanged value", "unchanged|the term phi(x) dropped", lambda value: value, part=0)
wrong("potential-shaping/2", "+ Phi", "+ Phi|sign of phi(x) flipped", lambda r, phi: r + phi[:, :1])
