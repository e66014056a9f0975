"""Answers by other hands on chapters 7 to 9, and odd ones on all."""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp, softmax

from tests.unseen_support import bon, careless, cov_slope, ev, grad_in, kl, mean_V, odd, outer_gap, right, rows, wrong

right(
    "policy-gradient",
    lambda mdp, mu, d_pi, pi, log_pi, r: (lambda V, Q: mu[:, None, None] * d_pi[..., None] * pi * (Q - V[..., None]))(
        *mean_V(mdp, log_pi, r)
    ),
)
wrong("policy-gradient", "sign (descent)", "sign", lambda mu, p, r, score: -np.einsum("x,xn,xn,xnpsv->psv", mu, p, r, score))
wrong("policy-gradient", "sampled from p_ref", "ref", lambda mu, p_ref, r, score: np.einsum("x,xn,xn,xnpsv->psv", mu, p_ref, r, score))
wrong(
    "policy-gradient",
    "length normalized",
    "length",
    lambda mu, p, r, score, lengths: np.einsum("x,xn,xn,n,xnpsv->psv", mu, p, r, 1 / lengths, score),
)
wrong(
    "policy-gradient",
    "Q times pi without subtracting V (softmax gradient)",
    "without its normalization",
    lambda mdp, mu, d_pi, pi, log_pi, r: mu[:, None, None] * d_pi[..., None] * pi * mean_V(mdp, log_pi, r)[1],
)
right("kl-regularized-gradient", lambda mu, p, r, beta, L, score: grad_in(mu[:, None] * p * (r - beta * L), score))
wrong("kl-regularized-gradient", "beta dropped", "beta", lambda mu, p, r, L, score: grad_in(mu[:, None] * p * (r - L), score))
wrong(
    "kl-regularized-gradient",
    "penalty added",
    "+ KL|sign of beta*log(p/p_ref) flipped",
    lambda mu, p, r, beta, L, score: grad_in(mu[:, None] * p * (r + beta * L), score),
)
wrong(
    "kl-regularized-gradient",
    "k3 as the penalty",
    "k3",
    lambda mu, p, r, beta, L, score: grad_in(mu[:, None] * p * (r - beta * (np.exp(-L) - 1 + L)), score),
)
wrong(
    "kl-regularized-gradient",
    "k2 as the penalty",
    "k2",
    lambda mu, p, r, beta, L, score: grad_in(mu[:, None] * p * (r - beta * L**2 / 2), score),
)
right(
    "optimal-baseline",
    lambda p, r, score_rows: (lambda w: rows(w * r) / np.maximum(rows(w), 1e-300))(p * np.sum(score_rows**2, (2, 3))),
    part=0,
)
wrong(
    "optimal-baseline",
    "norm, not squared",
    "score|the exponent 2 dropped",
    lambda p, r, score_rows: (lambda w: rows(w * r) / np.maximum(rows(w), 1e-300))(p * np.sqrt(np.sum(score_rows**2, (2, 3)))),
    part=0,
)
wrong(
    "zero-mean-score",
    "with it added twice over: a factor 2",
    "a factor 2",
    lambda mu, p, r, b_x, score: 2 * grad_in(mu[:, None] * p * (r + b_x[:, None]), score),
    part=1,
)
wrong(
    "rloo",
    "G/(G-1) instead of (G-1)/G",
    "upside down",
    lambda mu, p, graded, score, G: G / (G - 1) * grad_in(mu[:, None] * p * graded, score),
    part=1,
)
wrong(
    "rloo/9",
    "factor upside down",
    "upside down|(g - 1)/g inverted",
    lambda mu, p, graded, score, G: G / (G - 1) * grad_in(mu[:, None] * p * graded, score),
)
wrong("grpo/9", "inverse: sqrt(q(1-q))", "inverted", lambda p, success: np.sqrt(rows(p * success) * (1 - rows(p * success))))
wrong(
    "natural-gradient",
    "reference dropped",
    "without the penalty|the term beta*k_1 dropped",
    lambda mdp, log_pi, r, eta: softmax(log_pi + eta * mean_V(mdp, log_pi, r)[1], axis=-1),
    part=0,
)
odd("zero-mean-score/2", lambda mu, b_x, p, score: np.einsum("x,x,xnpsv->psv", mu, b_x, score) + 1.0)
right("k1", lambda mu, p, L: np.einsum("xn,xn->x", p, L), part=0)
wrong("k1", "under p_ref", "ref", lambda p_ref, L: rows(p_ref * L), part=0)
wrong("k1", "second moment for variance", "second moment", lambda p, L: rows(p * L**2), part=1)
right("k1", lambda p, L, KL: rows(p * (L - KL[:, None]) ** 2), part=1)
wrong("k1", "P(k1 > 0)", "sign|positive|complement|1 -|other side|wrong side", lambda p, L: rows(p * (L > 1e-09)), part=2)
wrong("k2", "half dropped", "half|2 dropped", lambda p, L: rows(p * L**2), part=0)
wrong("k2", "under p_ref", "ref", lambda p_ref, L: rows(p_ref * L**2) / 2, part=0)
wrong("k2", "KL itself", "KL|unbias|k1|bias", lambda KL: KL, part=0)
right("k3", lambda p, L: rows(p * (np.expm1(-L) + L)), part=0)
wrong("k3", "forgot -1", "-1|1|constant", lambda p, L: rows(p * (np.exp(-L) + L)), part=0)
wrong("k3", "sign of log ratio", "sign", lambda p, L: rows(p * (np.expm1(-L) - L)), part=0)
wrong("k3", "variance of k1", "of k1|k_1 for k_3", lambda p, L: rows(p * L**2) - rows(p * L) ** 2, part=2)
wrong(
    "k3/3",
    "support term forgotten",
    "= 1 always",
    lambda mu, log_p_short, log_p_ref: (
        mu
        @ rows(
            np.where(np.isneginf(log_p_short), 0, np.exp(log_p_short) * (np.where(np.isneginf(log_p_short), 0, log_p_short) - log_p_ref))
        )
    ),
)
wrong(
    "token-vs-sequence",
    "k3 of tokens summed without visits",
    "d_pi omitted|d_pi(s) dropped",
    lambda pi, L_s: np.sum(pi * (np.expm1(-L_s) + L_s), (1, 2)),
    part=0,
)
wrong(
    "token-vs-sequence",
    "full gradient of the sequence KL",
    "visit|frozen|sequence|gradient",
    lambda mu, p, L, score: grad_in(mu[:, None] * p * L, score),
    part=1,
)
wrong("importance-ratio/7", "ratio forgotten", "ratio|rho|import", lambda L, score: L[..., None, None, None] * score)
wrong(
    "importance-ratio/7",
    "ratio upside down",
    "ratio|upside|invert|sign|old",
    lambda log_p, log_p_2, L, score: (np.exp(log_p_2 - log_p) * L)[..., None, None, None] * score,
)
wrong(
    "kl-gradients",
    "E[grad k3] claimed to be grad KL(pi, ref)",
    "forward|revers|direction|k2|k3|KL(pi",
    lambda mu, p, L, score: grad_in(mu[:, None] * p * L, score),
    part=2,
)
wrong("kl-gradients/8", "sign", "sign", lambda p, p_ref, score: (p_ref / p)[..., None, None, None] * score)
wrong(
    "kl-placement/5",
    "forward gradient forgotten",
    "unbiased, so|the term nabla(kl(p_ref, p)) dropped",
    lambda mu, p, L, score: grad_in(mu[:, None] * p * L, score),
)
wrong(
    "kl-estimator-theorem",
    "k3 -> reverse KL",
    "revers|forward|direction|k2|KL(pi",
    lambda mu, p, L, score: grad_in(mu[:, None] * p * L, score),
    part=2,
)
right("kl-estimator-theorem", lambda mu, p, L, score: grad_in(mu[:, None] * p * np.expm1(L), score), part=4)
careless("best-of-n", lambda p_ref, r, draws: bon(p_ref, r, draws), part=0)
wrong("best-of-n", "n - 1 draws", "n - 1 draws", lambda p_ref, r, draws: bon(p_ref, r, draws - 1), part=0)
wrong("best-of-n", "n + 1 draws", "draws - 1 for draws", lambda p_ref, r, draws: bon(p_ref, r, draws + 1), part=0)
wrong(
    "best-of-n",
    "density formula n p F^(n-1)",
    "tie|atom|continu|density",
    lambda p_ref, r, draws: draws * p_ref * np.einsum("xj,xij->xi", p_ref, (r[:, None, :] <= r[:, :, None]) * 1.0) ** (draws - 1),
    part=0,
)
wrong("best-of-n", "bound as the KL", "bound", lambda draws, P: np.full(P, np.log(draws) - (draws - 1) / draws), part=1)
wrong(
    "best-of-n",
    "KL other way",
    "revers|direction|forward|swap|exchang",
    lambda log_p_ref, log_p_best_of_n: kl(log_p_ref, log_p_best_of_n),
    part=1,
)
wrong("best-of-n", "reward under the reference", "draws = 1", lambda p_ref, r: rows(p_ref * r), part=2)
right("best-of-n", lambda log_p_best_of_n, r: ev(log_p_best_of_n, r), part=2)
wrong("best-of-n/10", "(n-1)/n forgotten", "(n|term|log n", lambda r, draws: np.full(len(r), np.log(draws)))
wrong("best-of-n/4", "off by one", "n - 1|one|draws", lambda p_ref, r, draws: bon(p_ref, r, draws - 1))
wrong(
    "rejection-sampling",
    "share inverted: expected tries",
    "invers|recipro|1/|tries",
    lambda log_Z, r, beta: np.exp(r.max(1) / beta - log_Z),
    part=1,
)
wrong("rejection-sampling", "global max", "max over all prompts", lambda log_Z, r, beta: np.exp(log_Z - r.max() / beta), part=1)
wrong(
    "expert-iteration",
    "one round more",
    "rounds + 1",
    lambda p, earned, rounds: (lambda w: w / w.sum(1, keepdims=True))(p * earned ** (rounds + 1)),
    part=1,
)
wrong("expert-iteration", "one round only", "one round", lambda p, earned: (lambda w: w / w.sum(1, keepdims=True))(p * earned), part=1)
right("expert-iteration", lambda p, earned, rounds: softmax(np.log(p) + rounds * np.log(earned), axis=1), part=1)
odd("regret", lambda beta, log_p, log_p_star: beta**2 * kl(log_p_star, log_p) + 1)
odd("regret", lambda beta, p, p_star: np.sqrt(beta) * rows(np.abs(p - p_star)) ** 1.5)
odd("regret", lambda r: r.max(1) - r.min(1))
odd("gibbs-probabilities", lambda p_ref, r: softmax(p_ref * r, axis=1))
odd("gibbs-probabilities", lambda p_ref, r, beta: np.sort(softmax(np.log(p_ref) + r / beta, axis=1), axis=1))
odd("gibbs-probabilities", lambda p_ref, r, beta: np.round(softmax(np.log(p_ref) + r / beta, axis=1), 2))
odd("best-value", lambda beta, p_ref, r: beta * np.log1p(rows(p_ref * r) / beta))
odd("best-value", lambda p_ref, r, beta: rows(p_ref * r) + (rows(p_ref * r**2) - rows(p_ref * r) ** 2) / (2 * beta))
odd("comparison-loss", lambda r_w, r_l: np.mean((1 - (r_w - r_l)) ** 2) / 4)
odd("comparison-loss", lambda r_w, r_l: np.median(np.logaddexp(0, r_l - r_w)))
odd("win-probabilities", lambda r: np.clip(0.5 + outer_gap(r) / 4, 0, 1))
odd("unbiased-loss", lambda r_w, r_l, flip: np.mean((1 - flip) * (r_l - r_w) ** 2))
odd("preference-slope", lambda scores, n_ij, wins_ij: np.sum(n_ij * np.tanh(outer_gap(scores)) - wins_ij / 3, 2))
odd("log-probability", lambda mdp, log_pi: np.sort(mdp.path_sum(log_pi), axis=1)[:, ::-1] - 0.1)
odd("state-visits", lambda mdp, p: mdp.subtree_sum(p**2).sum(-1) + 0.01)
odd("policy-of-a-law", lambda mdp, p: softmax(mdp.subtree_sum(p), axis=-1))
odd("advantages", lambda mdp, log_pi_2, r: (lambda V, Q: (Q - V[..., None]) / (0.001 + Q.std()))(*mean_V(mdp, log_pi_2, r)))
odd("compounding-cost", lambda H, eps: H**1.5 * eps + 0.1)
odd("hacking-slope", lambda log_p_ref, proxy, r, beta: np.sign(cov_slope(log_p_ref, proxy, r, beta)) * 0.5)
odd("token-policy", lambda mdp, log_pi_ref, r, beta: softmax(log_pi_ref + np.tanh(mean_V(mdp, log_pi_ref, r)[1]), axis=-1))
odd("kl-by-states", lambda d_pi, log_pi, log_pi_ref: np.sum(d_pi * np.max(np.abs(log_pi - log_pi_ref), -1), 1))
odd("arc", lambda p_ref, p_star: lambda t: (lambda w: w / w.sum(1, keepdims=True))(np.sqrt(np.abs((1 - t) * p_ref**2 + t * p_star**2))))
odd("k1", lambda p, L: np.sqrt(rows(p * L**2) / 2), part=0)
odd("expert-iteration", lambda p, earned, rounds: softmax(np.log(p) + rounds * earned, axis=1), part=1)
wrong("regret", "summed over prompts", "summed", lambda beta, log_p, log_p_star: np.sum(beta * kl(log_p, log_p_star)))
wrong(
    "regret",
    "keepdims left on",
    "keepdims|axis of length",
    lambda beta, log_p, log_p_star: beta * np.sum(np.exp(log_p) * (log_p - log_p_star), axis=1, keepdims=True),
)
wrong("gibbs-probabilities", "transposed", "transpos", lambda p_ref, r, beta: softmax(np.log(p_ref) + r / beta, axis=1).T)
right("regret", lambda value, E_r, beta, KL: value - (E_r - beta * KL))
careless(
    "regret-is-kl",
    lambda beta, p, log_p, log_p_ref, r, log_Z: np.array(
        [beta * z - sum(p[x] * (r[x] - beta * (log_p[x] - log_p_ref[x]))) for x, z in enumerate(log_Z)]
    ),
)
careless(
    "kl-chain-rule",
    lambda mu, log_p, log_p_ref: np.array([np.dot(np.exp(a), a) - np.exp(a) @ b for a, b in zip(log_p, log_p_ref, strict=True)]),
)
right("gibbs-optimum/9", lambda log_p_star, r, beta, log_p_ref: np.mean(beta - r + beta * (log_p_star - log_p_ref), axis=1))
right("donsker-varadhan", lambda p_ref, f: np.log(np.einsum("xn,xn->x", p_ref, np.exp(f))), part=0)
right("compounding-cost", lambda H, eps: sum((1 - eps) ** h * eps * (H - h) for h in range(H)))
right(
    "compounding-error",
    lambda H, eps: (H - (1 - eps) * (1 - (1 - eps) ** H) / eps, eps * H, H - (1 - eps) * (1 - (1 - eps) ** H) / eps - eps * H),
)
careless("exploration", lambda p_ref, r, V, H: (1 / rows(p_ref * (r == r.max(1, keepdims=True))), V**H))
right(
    "rloo",
    lambda mu, p, graded, score, G: (
        grad_in(mu[:, None] * p * (graded - rows(p * graded)[:, None]), score),
        (1 - 1 / G) * grad_in(mu[:, None] * p * graded, score),
    ),
)
right("tree-counts", lambda mdp: [mdp.S, mdp.N])
right("k2", lambda p_ref, L: rows(p_ref * np.exp(L) * np.square(L)) / 2, part=0)
right("label-noise/4", lambda scores: np.log(1 + np.exp(scores[:, None, :] - scores[:, :, None])))
right("potential-shaping/5", lambda log_p_ref, r, beta, phi: beta * logsumexp(log_p_ref + (r - phi[:, :1]) / beta, axis=1))
