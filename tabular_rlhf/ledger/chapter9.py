r"""Chapter 9: sampling and selection.  Best-of-n, rejection sampling and expert iteration as exact laws."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf import selection
from tabular_rlhf.gibbs import greedy_limit
from tabular_rlhf.ledger.record import Sampled, claim
from tabular_rlhf.logspace import kl

# ---------------------------------------------------------------------------------------------------- best-of-n


def best_of_n_closed(log_p_ref: Any, r: Any, draws: int, log_p_best_of_n: Any) -> Any:
    reward = []
    for log_p, row in zip(log_p_ref, r, strict=True):
        level = selection.levels(log_p, row)
        reward.append(np.sum(np.exp(selection.level_law(level, draws)[0]) * level.r))
    wins = selection.win_rate(log_p_best_of_n, log_p_ref, r)
    bound = np.full(len(r), selection.best_of_n_bound(draws))
    return np.exp(log_p_best_of_n), selection.best_of_n_kl(log_p_ref, r, draws), np.array(reward), wins, bound


def all_draws(N: int, draws: int) -> Any:
    return np.stack([np.ravel(i) for i in np.indices((N,) * draws)], axis=1)


def best_of_n_by_draws(log_p_ref: Any, r: Any, draws: int) -> Any:
    """Every sequence of n draws, its best members sharing its probability; the KL from that law.  By levels where they are too many."""
    if r.shape[1] ** draws > 3000:
        return best_of_n_closed(log_p_ref, r, draws, selection.best_of_n(log_p_ref, r, draws))
    tau = all_draws(r.shape[1], draws)
    laws = []
    for log_p, row in zip(log_p_ref, r, strict=True):
        best = row[tau] == np.max(row[tau], axis=1, keepdims=True)
        share = np.prod(np.exp(log_p)[tau], axis=1)[:, None] * best / np.sum(best, axis=1, keepdims=True)
        laws.append(np.bincount(np.ravel(tau), np.ravel(share), r.shape[1]))
    law = np.stack(laws)
    with np.errstate(divide="ignore"):
        log_law = np.log(law)
    bound = np.full(len(r), selection.best_of_n_bound(draws))
    return law, kl(log_law, log_p_ref), np.sum(law * r, axis=1), selection.win_rate(log_law, log_p_ref, r), bound


claim(
    slug="best-of-n",
    chapter=9,
    text=r"""
    p_n = p_{ref} \frac{F^n - F_-^n}{F - F_-}
      not F^n - F_-^n  # ties not split
      not p_{ref} \frac{F^{n-1} - F_-^{n-1}}{F - F_-}  # n - 1 draws for n
      not n*p_ref*F^{n-1}  # density of the maximum for its law: no atoms
      not p_{ref} \frac{(1 - F_-)^n - (1 - F)^n}{F - F_-}  # the worst of n
    \mathrm{KL}(p_n, p_{ref}) = \mathbb{E}_{p_n}\Big[\log\frac{F^n - F_-^n}{F - F_-}\Big]
      not log n - (n - 1)/n  # the bound taken for the KL
      not log n  # log n for the KL
      not KL(p_n, p_ref)/log 2  # log base 2
      not KL(p_ref, p_n)  # forward for reverse KL
    \mathbb{E}_{p_n}[r] = \mathbb{E}_{p_{ref}}\Big[r\, \frac{F^n - F_-^n}{F - F_-}\Big]
    \mathbb{E}_{p_n}\Big[\frac{F + F_-}{2}\Big] = \mathbb{E}_{y \sim p_n, y' \sim p_{ref}}\big[1[r(y) > r(y')] + \tfrac12 1[r(y) =
        r(y')]\big]
      not n/(n + 1)  # win rate n/(n + 1)
    \mathrm{KL}(p_n, p_{ref}) \le \log n - \frac{n-1}{n}
        # where F and F- are the probabilities that p_ref draws a reward of at most, and of less than, that of y
      not \log(n - 1) - \frac{n-2}{n-1}  # n - 1 for n
    """,
    source="Stiennon et al. (2020), arXiv:2009.01325; Beirami et al. (2024), arXiv:2401.01879.",
    note="Ties are split in proportion to p_ref.  Win rate against p_ref, ties counting half.  The bound needs no atoms to be met.",
    parts=("law", "KL", "E[r]", "win rate", "bound"),
    sides={"reward levels": best_of_n_closed, "F and F-": 1, "all draws": best_of_n_by_draws},
    sampled=Sampled(
        "log_p_best_of_n",
        lambda r: r,
        lambda mu, log_p_ref, r, draws, log_p_best_of_n: np.sum(mu * best_of_n_closed(log_p_ref, r, draws, log_p_best_of_n)[2]),
    ),
    scale=lambda r, draws: (draws, draws, draws * (1.0 + np.max(np.abs(r))), draws, draws),
    largest=2000,
)

# ---------------------------------------------------------------------------------------------------- rejection-sampling


def best_possible(log_p_ref: Any, r: Any) -> Any:
    return np.max(np.where(np.isneginf(log_p_ref), -np.inf, r), axis=1, keepdims=True)


claim(
    slug="rejection-sampling",
    chapter=9,
    text=r"""
    p^* = \frac{p_{ref}\, a}{\mathbb{E}_{p_{ref}}[a]}, \quad a(y) = e^{(r(y) - \max_{y'} r(y'))/\beta}
      slip beta dropped; sign of the exponent flipped; E_{p_ref}[a] dropped
      not \frac{p_{ref} \min(1, e^{r/\beta})}{\mathbb{E}_{p_{ref}}[\min(1, e^{r/\beta})]}  # max r forgotten: min(1, exp(r/beta))
      not \frac{p_{ref} \min(1, a)}{\mathbb{E}_{p_{ref}}[\min(1, a)]}, \quad a(y) = e^{(r(y) - \mathbb{E}_{p_{ref}}[r])/\beta}
        # mean reward for max r
    \mathbb{E}_{p_{ref}}[a] = Z\, e^{-\max_y r(y)/\beta}  # a draw of p_ref is accepted with probability a
      not e^{\max_y r(y)/\beta}/Z  # 1/Z for Z
      not Z e^{-\max_{x, y} r(x, y)/\beta}  # max over all prompts
    """,
    source="von Neumann (1951); Liu et al. (2023), arXiv:2309.06657 (statistical rejection sampling).",
    note="max r is over the responses that p_ref can make.",
    parts=("law", "share, for each prompt"),
    sides={
        "Gibbs": lambda log_p_star, world: (np.exp(log_p_star), selection.acceptance(world)),
        "by definition": (1, 0),
    },
    sampled=Sampled(
        "log_p_ref",
        lambda log_p_ref, r, beta: np.exp(np.minimum(0.0, r - best_possible(log_p_ref, r)) / beta),
        lambda mu, world: np.sum(mu * selection.acceptance(world)),
    ),
    scale=lambda r, beta: 1.0 + np.max(np.abs(r)) / beta,
    where=lambda r, beta: np.ptp(r) / beta < 500,
)

# ---------------------------------------------------------------------------------------------------- expert-iteration


def imitated(p: Any, earned: Any, rounds: int) -> Any:
    """Round by round, in probability space: imitate the draws, each weighted by what it earned."""
    for _ in range(rounds):
        p = p * earned / np.sum(p * earned, axis=1, keepdims=True)
    return p


claim(
    slug="expert-iteration",
    chapter=9,
    text=r"""
    let chi = success; rho = earned; k = rounds
    \frac{p\, \chi}{\mathbb{E}_p[\chi]} = \frac{p\, 1[\chi = 1]}{p(\chi = 1)}
      slip p(chi = 1) dropped
      not p*exp(chi)/E_p[exp(chi)]  # 0/1 rewards kept with exp(r): a tilt, not a filter
      not p*(1 - chi)  # the failures imitated
    \frac{p\, \rho^k}{\mathbb{E}_p[\rho^k]} = \frac{p\, e^{k \log\rho}}{\mathbb{E}_p[e^{k \log\rho}]}
      not p*rho/E_p[rho]  # one round for k
      not p*k*rho/E_p[k*rho]  # k rho for rho to the k
      not p*exp(k*rho)/E_p[exp(k*rho)]  # exp(rho) for rho
    \frac{p\, 1[\rho = M]}{p(\rho = M)} = \frac{p\, 1[\rho = M]}{\sum_y p(y)\, 1[\rho(y) = M]}, \quad M = \max_y \rho(y)
        # a round weighs p by its rewards: with a 0/1 reward chi it is the law of the successes, at once and for ever; with one rho > 0 in k
        rounds the Gibbs tilt of log rho at beta = 1/k; as k grows p on the best responses
      not \frac{1[\rho = M]}{\sum_y 1[\rho(y) = M]}  # uniform over the best, not p
    """,
    source="Dong et al. (2023), arXiv:2304.06767 (RAFT); Zelikman et al. (2022), arXiv:2203.14465 (STaR); Dayan and Hinton (1997).",
    parts=("0/1 rewards", "k rounds", "limit"),
    sides={
        "closed form": lambda log_p, success, earned, rounds: (
            np.exp(selection.expert_iteration(log_p, success, 1)),
            np.exp(selection.expert_iteration(log_p, earned, rounds)),
            np.exp(selection.expert_iteration(log_p, earned, 1e300)),
        ),
        "conditioning; Gibbs of log rho": 1,
        "round by round; argmax": lambda log_p, p, success, earned, rounds: (
            imitated(p, success, rounds),
            imitated(p, earned, rounds),
            np.exp(greedy_limit(log_p, earned)),
        ),
    },
    sampled=Sampled("log_p", lambda success: success, lambda mu, p, success: np.sum(mu * np.sum(p * success, axis=1))),
    where=lambda log_p, success: np.min(np.sum(np.exp(log_p) * success, axis=1)) > 1e-200,
)
