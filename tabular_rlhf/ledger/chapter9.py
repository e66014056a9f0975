r"""Chapter 9: sampling and selection.  Best-of-n, rejection sampling and expert iteration as exact laws."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf import selection
from tabular_rlhf.gibbs import greedy_limit
from tabular_rlhf.ledger.record import Miss, Row, Sampled, add
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


add(
    Row(
        slug="best-of-n",
        chapter=9,
        clauses=(
            r"p_n = p_{ref} \frac{F^n - F_-^n}{F - F_-}",
            r"\mathrm{KL}(p_n, p_{ref}) = \mathbb{E}_{p_n}\Big[\log\frac{F^n - F_-^n}{F - F_-}\Big]",
            r"\mathbb{E}_{p_n}[r] = \mathbb{E}_{p_{ref}}\Big[r\, \frac{F^n - F_-^n}{F - F_-}\Big]",
            r"\mathbb{E}_{p_n}\Big[\frac{F + F_-}{2}\Big] = \mathbb{E}_{y \sim p_n, y' \sim p_{ref}}\big["
            r"1[r(y) > r(y')] + \tfrac12 1[r(y) = r(y')]\big]",
            r"\mathrm{KL}(p_n, p_{ref}) \le \log n - \frac{n-1}{n}",
        ),
        words="where F and F- are the probabilities that p_ref draws a reward of at most, and of less than, that of y",
        source="Stiennon et al. (2020), arXiv:2009.01325; Beirami et al. (2024), arXiv:2401.01879.",
        note="Ties are split in proportion to p_ref.  Win rate against p_ref, ties counting half.  The bound needs no atoms to be met.",
        parts=("law", "KL", "E[r]", "win rate", "bound"),
        sides={"reward levels": best_of_n_closed, "F and F-": 1, "all draws": best_of_n_by_draws},
        misses={
            "ties not split": "F^n - F_-^n",
            "n - 1 draws for n": r"p_{ref} \frac{F^{n-1} - F_-^{n-1}}{F - F_-}",
            "density of the maximum for its law: no atoms": "n*p_ref*F^{n-1}",
            "the worst of n": r"p_{ref} \frac{(1 - F_-)^n - (1 - F)^n}{F - F_-}",
            "the bound taken for the KL": Miss("the bound taken for the KL", "log n - (n - 1)/n", part=1),
            "log n for the KL": Miss("log n for the KL", "log n", part=1),
            "log base 2": Miss("log base 2", "KL(p_n, p_ref)/log 2", part=1),
            "forward for reverse KL": Miss("forward for reverse KL", "KL(p_ref, p_n)", part=1),
            "win rate n/(n + 1)": Miss("win rate n/(n + 1)", "n/(n + 1)", part=3),
            "n - 1 for n": Miss("n - 1 for n", r"\log(n - 1) - \frac{n-2}{n-1}", part=4),
        },
        sampled=Sampled(
            "log_p_best_of_n",
            lambda r: r,
            lambda mu, log_p_ref, r, draws, log_p_best_of_n: np.sum(mu * best_of_n_closed(log_p_ref, r, draws, log_p_best_of_n)[2]),
        ),
        scale=lambda r, draws: (draws, draws, draws * (1.0 + np.max(np.abs(r))), draws, draws),
        largest=2000,
    )
)

# ---------------------------------------------------------------------------------------------------- rejection-sampling


def best_possible(log_p_ref: Any, r: Any) -> Any:
    return np.max(np.where(np.isneginf(log_p_ref), -np.inf, r), axis=1, keepdims=True)


add(
    Row(
        slug="rejection-sampling",
        chapter=9,
        clauses=(
            r"p^* = \frac{p_{ref}\, a}{\mathbb{E}_{p_{ref}}[a]}, \quad a(y) = e^{(r(y) - \max_{y'} r(y'))/\beta}",
            r"\mathbb{E}_{p_{ref}}[a] = Z\, e^{-\max_y r(y)/\beta}",
        ),
        words="a draw of p_ref is accepted with probability a",
        source="von Neumann (1951); Liu et al. (2023), arXiv:2309.06657 (statistical rejection sampling).",
        note="max r is over the responses that p_ref can make.",
        parts=("law", "share, for each prompt"),
        sides={
            "Gibbs": lambda log_p_star, world: (np.exp(log_p_star), selection.acceptance(world)),
            "by definition": (1, 0),
        },
        slips=("beta dropped", "sign of the exponent flipped", "E_{p_ref}[a] dropped"),
        misses={
            "max r forgotten: min(1, exp(r/beta))": r"\frac{p_{ref} \min(1, e^{r/\beta})}{\mathbb{E}_{p_{ref}}[\min(1, e^{r/\beta})]}",
            "mean reward for max r": r"\frac{p_{ref} \min(1, a)}{\mathbb{E}_{p_{ref}}[\min(1, a)]}, "
            r"\quad a(y) = e^{(r(y) - \mathbb{E}_{p_{ref}}[r])/\beta}",
            "1/Z for Z": Miss("1/Z for Z", r"e^{\max_y r(y)/\beta}/Z", part=1),
            "max over all prompts": Miss("max over all prompts", r"Z e^{-\max_{x, y} r(x, y)/\beta}", part=1),
        },
        sampled=Sampled(
            "log_p_ref",
            lambda log_p_ref, r, beta: np.exp(np.minimum(0.0, r - best_possible(log_p_ref, r)) / beta),
            lambda mu, world: np.sum(mu * selection.acceptance(world)),
        ),
        scale=lambda r, beta: 1.0 + np.max(np.abs(r)) / beta,
        where=lambda r, beta: np.ptp(r) / beta < 500,
    )
)

# ---------------------------------------------------------------------------------------------------- expert-iteration


def imitated(p: Any, earned: Any, rounds: int) -> Any:
    """Round by round, in probability space: imitate the draws, each weighted by what it earned."""
    for _ in range(rounds):
        p = p * earned / np.sum(p * earned, axis=1, keepdims=True)
    return p


add(
    Row(
        slug="expert-iteration",
        chapter=9,
        clauses=(
            r"\frac{p\, \chi}{\mathbb{E}_p[\chi]} = \frac{p\, 1[\chi = 1]}{p(\chi = 1)}",
            r"\frac{p\, \rho^k}{\mathbb{E}_p[\rho^k]} = \frac{p\, e^{k \log\rho}}{\mathbb{E}_p[e^{k \log\rho}]}",
            r"\frac{p\, 1[\rho = M]}{p(\rho = M)} = \frac{p\, 1[\rho = M]}{\sum_y p(y)\, 1[\rho(y) = M]}, \quad M = \max_y \rho(y)",
        ),
        words=(
            "a round weighs p by its rewards: with a 0/1 reward chi it is the law of the successes, at once and for ever; with one rho > 0 "
            "in k rounds the Gibbs tilt of log rho at beta = 1/k; as k grows p on the best responses"
        ),
        letters={"chi": "success", "rho": "earned", "k": "rounds"},
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
        slips=("p(chi = 1) dropped",),
        misses={
            "0/1 rewards kept with exp(r): a tilt, not a filter": "p*exp(chi)/E_p[exp(chi)]",
            "the failures imitated": "p*(1 - chi)",
            "one round for k": Miss("one round for k", "p*rho/E_p[rho]", part=1),
            "k rho for rho to the k": Miss("k rho for rho to the k", "p*k*rho/E_p[k*rho]", part=1),
            "exp(rho) for rho": Miss("exp(rho) for rho", "p*exp(k*rho)/E_p[exp(k*rho)]", part=1),
            "uniform over the best, not p": Miss("uniform over the best, not p", r"\frac{1[\rho = M]}{\sum_y 1[\rho(y) = M]}", part=2),
        },
        sampled=Sampled("log_p", lambda success: success, lambda mu, p, success: np.sum(mu * np.sum(p * success, axis=1))),
        # p(success) may be small: dividing by it divides its relative rounding only
        where=lambda log_p, success: np.min(np.sum(np.exp(log_p) * success, axis=1)) > 1e-200,
    )
)
