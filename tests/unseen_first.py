"""Answers by other hands on chapters 1 to 3."""

from __future__ import annotations

import numpy as np
from scipy import special, stats
from scipy.special import expit, softmax

from tests.unseen_support import (
    advantage_by_sums,
    bt_loop,
    cov_slope,
    ev,
    gibbs,
    loop_log_p,
    mean_V,
    odd,
    outer_gap,
    right,
    rows,
    table_of_wins,
    unbiased,
    wrong,
)

wrong(
    "count-the-tree",
    "states up to depth H (off by one)",
    "n for n - 1",
    lambda V, K, H: [sum(K**h for h in range(H + 1)), (sum(K**h for h in range(H - 1)) if K < V else 0) + K ** (H - 1) * V],
)
wrong(
    "count-the-tree",
    "V where K belongs in the states",
    "EOS&entry 1|V for K&entry 1",
    lambda V, K, H: [sum(V**h for h in range(H)), (sum(K**h for h in range(H - 1)) if K < V else 0) + K ** (H - 1) * V],
)
right("log-probability", lambda mdp, log_pi: np.log(mdp.path_sum(log_pi * 0) + np.exp(mdp.path_sum(log_pi))))
right("log-probability", loop_log_p)
wrong(
    "log-probability",
    "mean over tokens instead of the sum",
    "length|mean|averag|divided",
    lambda mdp, log_pi, lengths: mdp.path_sum(log_pi) / lengths,
)
wrong("log-probability", "log base 2", "base 2|bits|log 2|log2", lambda mdp, log_pi: mdp.path_sum(log_pi) / np.log(2))
wrong("log-probability", "the other policy: pi_ref", "ref", lambda log_p_ref: log_p_ref)
right("state-visits", lambda mdp, p: mdp.subtree_sum(p).sum(axis=-1))
wrong("state-visits", "p_ref's visits", "ref", lambda mdp, p_ref: mdp.subtree_sum(p_ref).sum(axis=-1))
wrong("state-visits", "divided by the horizon", "1/H (the horizon)", lambda mdp, p, H: mdp.subtree_sum(p).sum(-1) / H)
wrong("state-visits", "log for probability", "logarithm", lambda mdp, p: np.log(mdp.subtree_sum(p).sum(-1)))
wrong(
    "policy-of-a-law",
    "logits/log of the policy",
    "log",
    lambda mdp, p: np.log(mdp.subtree_sum(p)) - np.log(mdp.subtree_sum(p).sum(-1, keepdims=True)),
)
wrong(
    "policy-of-a-law",
    "normalized over the wrong axis (states)",
    "normal|axis|states",
    lambda mdp, p: (lambda c: c / c.sum(1, keepdims=True))(mdp.subtree_sum(p)),
)
right("advantages", lambda mdp, log_pi_2, r: (lambda V, Q: Q - V[..., None])(*mean_V(mdp, log_pi_2, r)))
right("advantages", advantage_by_sums)
wrong("advantages", "V not subtracted: Q", "Q without V", lambda mdp, log_pi_2, r: mean_V(mdp, log_pi_2, r)[1])
wrong(
    "advantages",
    "the wrong policy, pi",
    "advantages of pi, not of pi'",
    lambda mdp, log_pi, r: (lambda V, Q: Q - V[..., None])(*mean_V(mdp, log_pi, r)),
)
wrong(
    "advantages",
    "plain mean over tokens for V",
    "plain mean",
    lambda mdp, log_pi_2, r: (lambda V, Q: Q - Q.mean(-1, keepdims=True))(*mean_V(mdp, log_pi_2, r)),
)
right("chain-rule", lambda mdp, log_pi: (mdp.path_sum(log_pi), np.ones(mdp.P)))
wrong(
    "chain-rule", "a log of length-normalized", "mean over tokens", lambda mdp, log_pi: (mdp.path_sum(log_pi) / mdp.lengths, np.ones(mdp.P))
)
wrong(
    "performance-difference",
    "visits of pi' in place of pi's",
    "write log_p where you write log_p_2",
    lambda mdp, mu, log_pi, log_pi_2, log_p_2, r: np.sum(
        mu[:, None]
        * mdp.subtree_sum(np.exp(log_p_2)).sum(-1)
        * np.sum(np.exp(log_pi) * (lambda V, Q: Q - V[..., None])(*mean_V(mdp, log_pi_2, r)), -1)
    ),
    part=0,
)
wrong(
    "performance-difference",
    "the other way round: J(pi') - J(pi)",
    "sign|other way|swap|exchang",
    lambda mu, log_p, log_p_2, r: mu @ (ev(log_p_2, r) - ev(log_p, r)),
    part=0,
)
wrong(
    "performance-difference",
    "sum over prompts instead of mean",
    "mu omitted",
    lambda log_p, log_p_2, r: np.sum(ev(log_p, r) - ev(log_p_2, r)),
    part=0,
)
wrong(
    "performance-difference/6",
    "d_ref for d_pi",
    "ref|visit",
    lambda mu, mdp, d_ref, pi, r, log_pi_2: np.sum(
        mu[:, None] * d_ref * np.sum(pi * (lambda V, Q: Q - V[..., None])(*mean_V(mdp, log_pi_2, r)), -1)
    ),
)
right("episodes-until-success", lambda p_ref, success: np.reciprocal(np.einsum("xn,xn->x", p_ref, success)))
wrong(
    "episodes-until-success",
    "first success not counted (1-q)/q",
    "failures before",
    lambda p_ref, success: (1 - rows(p_ref * success)) / rows(p_ref * success),
)
wrong("episodes-until-success", "p for p_ref", "p for p_ref", lambda p, success: 1 / rows(p * success))
right("union-bound", lambda p_ref, success, draws: (lambda q: draws * q - (1 - (1 - q) ** draws))(rows(p_ref * success)))
right(
    "union-bound",
    lambda p_ref, success, draws: (lambda q: draws * q - 1 + stats.binom.pmf(0, draws, np.minimum(q, 1)))(rows(p_ref * success)),
)
wrong(
    "union-bound",
    "off by one in n",
    "draws - 1",
    lambda p_ref, success, draws: (lambda q: draws * q - (1 - (1 - q) ** (draws - 1)))(rows(p_ref * success)),
)
wrong("union-bound", "sign", "sign", lambda p_ref, success, draws: (lambda q: 1 - (1 - q) ** draws - draws * q)(rows(p_ref * success)))
wrong("compounding-cost", "under expert's visits: eps H", "expert|eps H", lambda H, eps: eps * H)
wrong("compounding-cost", "union bound eps H(H+1)/2", "bound", lambda H, eps: eps * H * (H + 1) / 2)
right("proxy-optimum", lambda log_p_ref, proxy, r, beta: rows(softmax(log_p_ref + proxy / beta, axis=1) * r))
wrong(
    "proxy-optimum",
    "the proxy's own value",
    "proxy",
    lambda log_p_ref, proxy, beta: rows(softmax(log_p_ref + proxy / beta, axis=1) * proxy),
)
wrong("proxy-optimum", "beta multiplied", "beta", lambda log_p_ref, proxy, r, beta: rows(softmax(log_p_ref + proxy * beta, axis=1) * r))
wrong("proxy-optimum", "not normalized", "normal|Z", lambda p_ref, proxy, r, beta: rows(p_ref * np.exp(proxy / beta) * r))
right("hacking-slope", lambda log_p_ref, proxy, r, beta: cov_slope(log_p_ref, proxy, r, beta))
wrong("hacking-slope", "sign", "sign", lambda log_p_ref, proxy, r, beta: cov_slope(log_p_ref, proxy, r, beta, sign=1))
wrong("hacking-slope", "variance of the proxy", "variance of r'", lambda log_p_ref, proxy, beta: cov_slope(log_p_ref, proxy, proxy, beta))
wrong(
    "hacking-slope",
    "second moment for covariance",
    "second moment",
    lambda log_p_ref, proxy, r, beta: -rows(np.exp(gibbs(log_p_ref, proxy / beta)) * r * proxy) / beta**2,
)
wrong("exploration", "log for number", "logarithm", lambda p_ref, r: -np.log(rows(p_ref * (r == r.max(1, keepdims=True)))), part=0)
wrong("exploration", "horizon times V, not power", "V times H", lambda V, H: float(V * H), part=1)
right("win-probabilities", lambda r: 0.5 * (1 + np.tanh(outer_gap(r) / 2)))
right("win-probabilities", bt_loop)
wrong("win-probabilities", "log-probability", "log", lambda r: special.log_expit(outer_gap(r)))
wrong("win-probabilities", "temperature beta", "beta", lambda r, beta: expit(outer_gap(r) / beta))
wrong("win-probabilities", "probit for logistic", "probit|normal", lambda r: stats.norm.cdf(outer_gap(r)))
odd("win-probabilities", lambda r: (lambda a: a[:, :, None] / (a[:, :, None] + a[:, None, :]))(np.abs(r) + 0.001))
right("count-wins", table_of_wins)
right(
    "count-wins",
    lambda compared, P, N: [[[sum(1 for c in compared if tuple(c) == (x, i, j)) for j in range(N)] for i in range(N)] for x in range(P)],
)
wrong("count-wins", "losses: transposed", "transpos|loser|loss", lambda compared, P, N: np.swapaxes(table_of_wins(compared, P, N), 1, 2))
wrong(
    "count-wins",
    "comparisons in both directions",
    "both|symmetr",
    lambda compared, P, N: (lambda w: w + np.swapaxes(w, 1, 2))(table_of_wins(compared, P, N)),
)
wrong("count-wins", "share, divided by n", "divid|n |share|mean", lambda compared, P, N: table_of_wins(compared, P, N) / len(compared))
right("comparison-loss", lambda r_w, r_l: stats.logistic.logsf(r_l - r_w).sum() / -len(r_w))
wrong("comparison-loss", "winner and loser swapped", "swap|exchang|loser|transpos|sign", lambda r_w, r_l: np.logaddexp(0, r_w - r_l).mean())
wrong("comparison-loss", "sign: log-likelihood", "sign", lambda r_w, r_l: -np.logaddexp(0, r_l - r_w).mean())
wrong("comparison-loss", "probability, not -log", "log", lambda r_w, r_l: expit(r_w - r_l).mean())
wrong("comparison-loss", "hinge", "hinge", lambda r_w, r_l: np.maximum(0, 1 - (r_w - r_l)).mean())
wrong("comparison-loss", "beta inside", "beta", lambda r_w, r_l, beta: np.logaddexp(0, beta * (r_l - r_w)).mean())
right("preference-slope", lambda scores, n_ij, wins_ij: np.einsum("xij,xij->xi", n_ij, expit(outer_gap(scores))) - wins_ij.sum(2))
right(
    "preference-slope",
    lambda scores, wins_ij: (
        rows(np.swapaxes(wins_ij * expit(-outer_gap(scores)), 1, 2)) * -1 + np.sum(wins_ij * expit(-outer_gap(scores)), axis=1)
    ),
)
wrong(
    "preference-slope", "losses forgotten", "wins_ij for n_ij", lambda scores, wins_ij: -np.sum(wins_ij * expit(-outer_gap(scores)), axis=2)
)
odd(
    "preference-slope",
    lambda scores, n_ij, wins_ij: np.sum(expit(outer_gap(scores)) - np.where(n_ij > 0, wins_ij / np.maximum(n_ij, 1), 0), 2),
)
wrong(
    "preference-slope",
    "transposed sums",
    "transpos|axis|loser|los",
    lambda scores, n_ij, wins_ij: np.sum(n_ij * expit(outer_gap(scores)), 2) - wins_ij.sum(1),
)
wrong(
    "preference-slope",
    "divided by comparisons",
    "divid|mean|number",
    lambda scores, n_ij, wins_ij: (np.sum(n_ij * expit(outer_gap(scores)), 2) - wins_ij.sum(2)) / np.maximum(1, n_ij.sum(2)),
)
right("unbiased-loss", lambda r_w, r_l, flip: np.mean(np.logaddexp(0, r_l - r_w) - flip * (r_w - r_l) / (1 - 2 * flip)))
wrong(
    "unbiased-loss",
    "factor 1/(1-2e) forgotten",
    "1 - 2|1-2e|factor|divis",
    lambda r_w, r_l, flip: np.mean((1 - 2 * flip) * unbiased(r_w, r_l, flip)),
)
wrong("unbiased-loss", "flips ignored", "flip|ignor|naive|noise|clean", lambda r_w, r_l: np.mean(np.logaddexp(0, r_l - r_w)))
wrong("unbiased-loss", "sum, not mean", "sum", lambda r_w, r_l, flip: np.sum(unbiased(r_w, r_l, flip)))
wrong("bradley-terry", "beta multiplies rewards", "beta", lambda r, beta: expit(beta * outer_gap(r)), part=0)
wrong(
    "mle-is-forward-kl",
    "entropy left out: KL only",
    "entropy|the term h(p",
    lambda mu, p_ref, gaps, score_gaps: np.einsum(
        "x,xi,xj,xij->",
        mu,
        p_ref,
        p_ref,
        expit(gaps) * (special.log_expit(gaps) - special.log_expit(score_gaps))
        + expit(-gaps) * (special.log_expit(-gaps) - special.log_expit(-score_gaps)),
    ),
    part=0,
)
right(
    "mle-is-forward-kl",
    lambda mu, p_ref, gaps, score_gaps: -2 * np.einsum("x,xi,xj,xij->", mu, p_ref, p_ref, expit(gaps) * special.log_expit(score_gaps)),
    part=0,
)
wrong(
    "mle-is-forward-kl/4",
    "reverse KL",
    "revers|direction|swap|exchang|other way|arguments of kl swapped",
    lambda mu, p_ref, gaps, score_gaps: np.einsum(
        "x,xi,xj,xij->",
        mu,
        p_ref,
        p_ref,
        special.rel_entr(expit(score_gaps), expit(gaps))
        + special.rel_entr(expit(-score_gaps), expit(-gaps))
        + special.entr(expit(gaps))
        + special.entr(expit(-gaps)),
    ),
)
right("bt-saturation", lambda gaps: 1 / (1 + np.exp(gaps)), part=0)
wrong("bt-saturation", "derivative of sigma, not of log sigma", "deriv|log|sigma", lambda gaps: expit(gaps) * expit(-gaps), part=0)
wrong("bt-saturation/10", "sign dropped", "-1 forgotten|sign", lambda gaps: expit(gaps) * expit(-gaps))
wrong("bt-saturation/6", "bound the wrong way round", "sign|e^D|wrong|transpos", lambda gaps: np.exp(gaps))
wrong("borda", "self included in the mean", "self|itself|own|diagonal|including", lambda people: people.mean(axis=2), part=0)
wrong("borda", "loss rates", "los|transpos", lambda people: (people.sum(1) - 0.5) / (people.shape[1] - 1), part=0)
right("bt-existence", lambda wins_ij: [float(np.all(np.linalg.matrix_power((w > 0) * 1.0 + np.eye(len(w)), len(w)) > 0)) for w in wins_ij])
wrong(
    "bt-existence",
    "every pair compared",
    "every pair",
    lambda wins_ij: [float(np.all((w + w.T > 0) | np.eye(len(w), dtype=bool))) for w in wins_ij],
)
wrong(
    "bt-score-hessian/5",
    "transposed wins",
    "transpos|los",
    lambda scores, n_ij, wins_ij: np.sum(n_ij * expit(outer_gap(scores)) - np.swapaxes(wins_ij, 1, 2), 2),
)
wrong(
    "label-noise/4", "the loss of flipped margin", "other label|sign within sigma flipped", lambda score_gaps: np.logaddexp(0, score_gaps)
)
