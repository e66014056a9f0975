"""Answers by other hands on chapters 5 and 6."""

from __future__ import annotations

import functools

import numpy as np
from scipy.special import expit, softmax

from tests.unseen_support import careless, counts, dpo, dpo_grad, ev, grad_in, kl, outer_gap, right, rows, wrong

right("both-directions", lambda log_p, log_p_star: (kl(log_p, log_p_star), kl(log_p_star, log_p)))
wrong("both-directions", "rows exchanged", "forward for reverse", lambda log_p, log_p_star: [kl(log_p_star, log_p), kl(log_p, log_p_star)])
wrong("both-directions", "sign", "sign", lambda log_p, log_p_star: [-kl(log_p, log_p_star), -kl(log_p_star, log_p)])
right("arc", lambda log_p_ref, r, beta: functools.partial(lambda s, t: softmax(log_p_ref + t * s, axis=1), r / beta))
wrong("arc", "mixture", "mix|linear|straight|m-geodesic", lambda p_ref, p_star: lambda t: (1 - t) * p_ref + t * p_star)
wrong("arc", "not normalized", "normal", lambda log_p_ref, log_p_star: lambda t: np.exp((1 - t) * log_p_ref + t * log_p_star))
right("pythagoras-gap", lambda log_p, log_p_star, log_p_ref: kl(log_p, log_p_ref) - kl(log_p, log_p_star) - kl(log_p_star, log_p_ref))
right("pythagoras-gap", lambda p, p_star, log_p_star, log_p_ref: np.einsum("xn,xn->x", p - p_star, log_p_star - log_p_ref))
wrong("pythagoras-gap", "beta not divided", "beta", lambda log_p, log_p_star, r: ev(log_p, r) - ev(log_p_star, r))
wrong("pythagoras-gap", "sign", "sign", lambda log_p, log_p_star, r, beta: (ev(log_p_star, r) - ev(log_p, r)) / beta)
wrong("pythagoras-gap", "mean of p_ref for p*", "ref", lambda log_p, log_p_ref, r, beta: (ev(log_p, r) - ev(log_p_ref, r)) / beta)
wrong(
    "forward-projection",
    "counts under p_ref",
    "ref",
    lambda mdp, tied, mu, p_ref: (lambda n: n / n.sum(1, keepdims=True))(counts(mdp, tied, mu[:, None] * p_ref)),
)
wrong("forward-projection", "not normalized", "normal|divid|count", lambda mdp, tied, mu, p_star: counts(mdp, tied, mu[:, None] * p_star))
wrong(
    "forward-projection",
    "plain mean of pi* over states",
    "visit|weight|plain|mean",
    lambda mdp, tied, mu, log_pi_star: (lambda n: n / n.sum(1, keepdims=True))(
        (lambda n: (np.add.at(n, np.broadcast_to(tied.context, log_pi_star.shape[:2]), np.exp(log_pi_star)), n)[1])(np.zeros(tied.shape))
    ),
)
right(
    "covariate-shift",
    lambda mu, d_star, d_hat, log_pi_hat, log_pi_tied: np.einsum(
        "x,xs,xsa,xsa->", mu, d_star - d_hat, np.exp(log_pi_hat), log_pi_hat - log_pi_tied
    ),
)
right(
    "covariate-shift",
    lambda mu, log_p_star, log_p_tied, log_p_hat: mu @ (kl(log_p_star, log_p_tied) - kl(log_p_star, log_p_hat) - kl(log_p_hat, log_p_tied)),
)
wrong(
    "covariate-shift",
    "only the target's visits: the whole gap",
    "visit|d_star|d_hat|gap",
    lambda mu, d_star, log_pi_hat, log_pi_tied: np.einsum("x,xs,xsa,xsa->", mu, d_star, np.exp(log_pi_hat), log_pi_hat - log_pi_tied),
)
wrong(
    "covariate-shift",
    "mu forgotten",
    "mu|prompts",
    lambda d_star, d_hat, log_pi_hat, log_pi_tied: np.einsum("xs,xsa,xsa->", d_star - d_hat, np.exp(log_pi_hat), log_pi_hat - log_pi_tied),
)
wrong(
    "i-projection/7",
    "1/beta dropped",
    "beta",
    lambda log_p, log_p_star, log_p_ref, r: kl(log_p, log_p_star) + kl(log_p_star, log_p_ref) + ev(log_p, r) - ev(log_p_star, r),
)
wrong(
    "i-projection/7",
    "the correction forgotten",
    "Pythagoras for every p",
    lambda log_p, log_p_star, log_p_ref: kl(log_p, log_p_star) + kl(log_p_star, log_p_ref),
)
wrong("e-geodesic", "velocity centered under p_ref", "ref", lambda log_p_ref, r: r - ev(log_p_ref, r)[:, None], part=1)
wrong("e-geodesic/9", "centered at p_ref", "ref", lambda p_ref, r: r - rows(p_ref * r)[:, None])
careless("reward-inversion", lambda beta, log_p_star, log_p_ref, log_Z: beta * (log_p_star - log_p_ref + log_Z[:, None]), part=0)
wrong("reward-inversion", "log Z dropped", "Z", lambda beta, log_p_star, log_p_ref: beta * (log_p_star - log_p_ref), part=0)
wrong("reward-inversion", "beta dropped", "beta", lambda log_p_star, log_p_ref, log_Z: log_p_star - log_p_ref + log_Z[:, None], part=0)
wrong(
    "reward-inversion/4",
    "sign of log Z",
    "sign|Z",
    lambda beta, log_p_star, log_p_ref, log_Z: beta * (log_p_star - log_p_ref - log_Z[:, None]),
)
wrong("reward-inversion/8", "beta dropped", "beta", lambda log_p_star, log_p_ref: outer_gap(log_p_star - log_p_ref))
wrong("dpo-loss", "beta dropped", "beta", lambda mu, p_ref, P_beats, log_p, log_p_ref: dpo(mu, p_ref, P_beats, log_p - log_p_ref), part=0)
wrong(
    "dpo-loss",
    "length normalized",
    "mean over tokens",
    lambda mu, p_ref, P_beats, log_p, log_p_ref, beta, lengths: dpo(mu, p_ref, P_beats, beta * (log_p - log_p_ref) / lengths),
    part=0,
)
wrong(
    "dpo-loss",
    "pairs weighted uniformly",
    "uniform",
    lambda mu, P_beats, log_p, log_p_ref, beta, N: dpo(mu, np.full_like(log_p, 1 / N), P_beats, beta * (log_p - log_p_ref)),
    part=0,
)
wrong(
    "dpo-loss/4",
    "pi over ref upside down",
    "sign|upside|invert|ref",
    lambda mu, p_ref, P_beats, log_p, log_p_ref, beta: dpo(mu, p_ref, P_beats, beta * (log_p_ref - log_p)),
)
careless(
    "dpo-loss/4",
    lambda pairs, log_p, log_p_ref, beta: np.dot(pairs.weight.ravel(), np.log1p(np.exp(-beta * pairs.margin(log_p - log_p_ref))).ravel()),
)
careless(
    "dpo-gradient",
    lambda mu, p_ref, P_beats, log_p, log_p_ref, beta, score: dpo_grad(mu, p_ref, P_beats, beta * (log_p - log_p_ref), beta, score),
)
wrong(
    "dpo-gradient",
    "sign",
    "winner and loser swapped|sign flipped",
    lambda mu, p_ref, P_beats, log_p, log_p_ref, beta, score: -dpo_grad(mu, p_ref, P_beats, beta * (log_p - log_p_ref), beta, score),
)
wrong(
    "dpo-gradient",
    "beta in front forgotten",
    "beta",
    lambda mu, p_ref, P_beats, log_p, log_p_ref, beta, score: dpo_grad(mu, p_ref, P_beats, beta * (log_p - log_p_ref), 1.0, score),
)
wrong(
    "dpo-gradient",
    "loser's score forgotten",
    "loser|the term nabla(log(p(l))) dropped",
    lambda mu, p_ref, P_beats, log_p, log_p_ref, beta, score: (
        -beta * grad_in(2 * np.einsum("x,xi,xj,xij,xij->xi", mu, p_ref, p_ref, P_beats, expit(-beta * outer_gap(log_p - log_p_ref))), score)
    ),
)
wrong(
    "dpo-gradient/8",
    "sigma(w - l)",
    "sign|wrong|transpos|swap|sigma",
    lambda log_p, log_p_ref, beta: expit(beta * outer_gap(log_p - log_p_ref)),
)
wrong("dpo-deterministic-labels/7", "sign", "sign", lambda p_ref, r: np.log(rows(p_ref * (r == r.max(1, keepdims=True)))))
right("ipo-two-arms", lambda beta: 1 / (1 + np.exp(-0.5 / beta)), part=0)
wrong("ipo-two-arms", "1/tau for 1/(2 tau)", "1/tau for 1/(2 tau)|2 dropped", lambda beta: expit(1 / beta), part=0)
wrong("dpo-population-optimum/8", "beta dropped", "beta", lambda log_p_star, log_p_ref: outer_gap(log_p_star - log_p_ref))
wrong(
    "preference-game/2",
    "half missing",
    "not halved|a factor 2 too many",
    lambda M, p: np.einsum("xi,xj,xij->x", p, p, M) + np.einsum("xj,xi,xji->x", p, p, M),
)
