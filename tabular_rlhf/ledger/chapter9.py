r"""Chapter 9: sampling and selection.  Best-of-n, rejection sampling and expert iteration as exact laws."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf import selection
from tabular_rlhf.gibbs import greedy_limit, log_gibbs
from tabular_rlhf.ledger.record import Miss, Row, Sampled, add
from tabular_rlhf.logspace import expect, kl, logsumexp

# ---------------------------------------------------------------------------------------------------- best-of-n


def best_of_n_closed(log_p_ref: Any, r: Any, draws: int, log_p_best_of_n: Any) -> Any:
    reward = []
    for log_p, row in zip(log_p_ref, r, strict=True):
        level = selection.levels(log_p, row)
        reward.append(np.sum(np.exp(selection.level_law(level, draws)[0]) * level.r))
    wins = selection.win_rate(log_p_best_of_n, log_p_ref, r)
    bound = np.full(len(r), selection.best_of_n_bound(draws))
    return np.exp(log_p_best_of_n), selection.best_of_n_kl(log_p_ref, r, draws), np.array(reward), wins, bound


def best_of_n_by_responses(log_p_ref: Any, r: Any, draws: int) -> Any:
    """F and F- of every response by comparing it with all others; the law, and everything else from the law."""
    p = np.exp(log_p_ref)
    at_most = np.stack([np.sum(p[x] * (r[x] <= r[x][:, None]), axis=1) for x in range(len(r))])
    less = np.stack([np.sum(p[x] * (r[x] < r[x][:, None]), axis=1) for x in range(len(r))])
    law = p * sum(at_most ** (draws - 1 - k) * less**k for k in range(draws))  # (F^n - F-^n)/(F - F-), as a sum
    with np.errstate(divide="ignore"):
        log_law = np.log(law)
    far = kl(log_law, log_p_ref)
    wins = np.sum(law * (less + 0.5 * (at_most - less)), axis=1)
    return law, far, np.sum(law * r, axis=1), wins, np.maximum(far, selection.best_of_n_bound(draws))


def all_draws(N: int, draws: int) -> Any:
    return np.stack([np.ravel(i) for i in np.indices((N,) * draws)], axis=1)


def best_of_n_by_draws(log_p_ref: Any, r: Any, draws: int) -> Any:
    """Every sequence of n draws, its best members sharing its probability; the KL from that law."""
    if r.shape[1] ** draws > 3000:
        return best_of_n_by_responses(log_p_ref, r, draws)
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


def without_atoms(log_p_ref: Any, r: Any, draws: int) -> Any:
    """n p F^{n-1}: the density of the maximum, which forgets that equal rewards share a draw."""
    p = np.exp(log_p_ref)
    F = np.stack([np.sum(p[x] * (r[x] <= r[x][:, None]), axis=1) for x in range(len(r))])
    return draws * p * F ** (draws - 1)


def unsplit(log_p_ref: Any, r: Any, draws: int) -> Any:
    """Ties not split: every response of a level gets the whole level."""
    out = np.zeros_like(r)
    for x in range(len(r)):
        level = selection.levels(log_p_ref[x], r[x])
        here = level.label >= 0
        out[x, here] = np.exp(selection.level_law(level, draws)[0])[level.label[here]]
    return out


add(
    Row(
        slug="best-of-n",
        chapter=9,
        statement=(
            r"p_n = p_{ref} \frac{F^n - F_-^n}{F - F_-}, \qquad "
            r"\mathrm{KL}(p_n, p_{ref}) = \sum_{\text{levels}} (F^n - F_-^n) \log\frac{F^n - F_-^n}{F - F_-} \le \log n - \frac{n-1}{n}"
        ),
        source="Stiennon et al. (2020), arXiv:2009.01325; Beirami et al. (2024), arXiv:2401.01879.",
        note="Ties are split in proportion to p_ref.  Win rate against p_ref, ties counting half.  The bound needs no atoms to be met.",
        parts=("law", "KL", "E[r]", "win rate", "bound"),
        sides={"reward levels": best_of_n_closed, "by responses": best_of_n_by_responses, "all draws": best_of_n_by_draws},
        misses={
            "ties not split": unsplit,
            "n - 1 draws for n": lambda log_p_ref, r, draws: np.exp(selection.best_of_n(log_p_ref, r, draws - 1)),
            "density of the maximum for its law: no atoms": without_atoms,
            "sign flipped: the worst of n": lambda log_p_ref, r, draws: np.exp(selection.best_of_n(log_p_ref, -r, draws)),
            "the bound taken for the KL": Miss(
                "the bound taken for the KL", lambda r, draws: np.full(len(r), selection.best_of_n_bound(draws)), part=1
            ),
            "log n for the KL": Miss("log n for the KL", lambda r, draws: np.full(len(r), np.log(draws)), part=1),
            "log base 2": Miss("log base 2", lambda log_p_ref, r, draws: selection.best_of_n_kl(log_p_ref, r, draws) / np.log(2.0), part=1),
            "forward for reverse KL": Miss(
                "forward for reverse KL", lambda log_p_ref, log_p_best_of_n: kl(log_p_ref, log_p_best_of_n), part=1
            ),
            "win rate n/(n + 1)": Miss("win rate n/(n + 1)", lambda r, draws: np.full(len(r), draws / (draws + 1)), part=3),
            "log n - (n - 1)/n with n - 1 for n": Miss(
                "log n - (n - 1)/n with n - 1 for n", lambda r, draws: np.full(len(r), selection.best_of_n_bound(draws - 1)), part=4
            ),
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


def accepted_law(log_p_ref: Any, r: Any, beta: float, ceiling: Any) -> Any:
    """The law of accepted draws and the share accepted, by the definition: probability min(1, exp((r - ceiling)/beta))."""
    accept = np.exp(np.minimum(0.0, np.where(np.isneginf(log_p_ref), 0.0, r - ceiling) / beta))
    kept = np.exp(log_p_ref) * accept
    share = np.sum(kept, axis=1)
    return kept / share[:, None], share


def rejection_in_logs(log_p_ref: Any, r: Any, beta: float) -> Any:
    log_kept = log_p_ref + np.where(np.isneginf(log_p_ref), 0.0, r - best_possible(log_p_ref, r)) / beta
    log_share = logsumexp(log_kept)
    return np.exp(log_kept - log_share[:, None]), np.exp(log_share)


add(
    Row(
        slug="rejection-sampling",
        chapter=9,
        statement=(
            r"\Pr(\text{accept}) = e^{(r - \max r)/\beta}: \quad \text{accepted draws} \sim p^*, \qquad "
            r"\text{share accepted} = Z e^{-\max r/\beta}"
        ),
        source="von Neumann (1951); Liu et al. (2023), arXiv:2309.06657 (statistical rejection sampling).",
        note="max r is over the responses that p_ref can make.",
        parts=("law", "share, for each prompt"),
        sides={
            "Gibbs": lambda log_p_star, world: (np.exp(log_p_star), selection.acceptance(world)),
            "by definition": lambda log_p_ref, r, beta: accepted_law(log_p_ref, r, beta, best_possible(log_p_ref, r)),
            "in logarithms": rejection_in_logs,
        },
        misses={
            "max r forgotten: min(1, exp(r/beta))": lambda log_p_ref, r, beta: accepted_law(log_p_ref, r, beta, 0.0)[0],
            "mean reward for max r": lambda log_p_ref, r, beta: accepted_law(log_p_ref, r, beta, expect(log_p_ref, r)[:, None])[0],
            "beta dropped": lambda log_p_ref, r: accepted_law(log_p_ref, r, 1.0, best_possible(log_p_ref, r))[0],
            "sign flipped": lambda log_p_ref, r, beta: accepted_law(log_p_ref, -r, beta, best_possible(log_p_ref, -r))[0],
            "1/Z for Z": Miss("1/Z for Z", lambda log_p_ref, r, beta: 1.0 / rejection_in_logs(log_p_ref, r, beta)[1], part=1),
            "max over all prompts": Miss(
                "max over all prompts", lambda log_p_ref, r, beta: accepted_law(log_p_ref, r, beta, np.max(r))[1], part=1
            ),
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


def conditioned(p: Any, success: Any) -> Any:
    return p * success / np.sum(p * success, axis=1, keepdims=True)


def imitated(p: Any, earned: Any, rounds: int) -> Any:
    """Round by round, in probability space: imitate the draws, each weighted by what it earned."""
    for _ in range(rounds):
        p = p * earned / np.sum(p * earned, axis=1, keepdims=True)
    return p


add(
    Row(
        slug="expert-iteration",
        chapter=9,
        statement=(
            r"p \leftarrow \frac{p\, r}{\mathbb{E}_p[r]}: \quad r \in \{0, 1\}:\ p(\cdot \mid \text{success}) \text{ at once, for ever}; "
            r"\quad "
            r"k \text{ rounds}: p\, r^k / \mathbb{E}_p[r^k]; \quad k \to \infty: p(\cdot \mid \arg\max r)"
        ),
        source="Dong et al. (2023), arXiv:2304.06767 (RAFT); Zelikman et al. (2022), arXiv:2203.14465 (STaR); Dayan and Hinton (1997).",
        note="k rounds are the Gibbs tilt of log r with beta = 1/k.",
        parts=("0/1 rewards", "k rounds", "limit"),
        sides={
            "closed form": lambda log_p, success, earned, rounds: (
                np.exp(selection.expert_iteration(log_p, success, 1)),
                np.exp(selection.expert_iteration(log_p, earned, rounds)),
                np.exp(selection.expert_iteration(log_p, earned, 1e300)),
            ),
            "round by round; argmax": lambda log_p, p, success, earned, rounds: (
                imitated(p, success, rounds),
                imitated(p, earned, rounds),
                np.exp(greedy_limit(log_p, earned)),
            ),
            "conditioning; Gibbs of log r": lambda log_p, p, success, earned, rounds: (
                conditioned(p, success),
                np.exp(log_gibbs(log_p, np.log(earned), 1.0 / rounds)),
                np.exp(log_gibbs(log_p, np.log(earned), 1e-300)),
            ),
        },
        misses={
            "0/1 rewards kept with exp(r): a tilt, not a filter": lambda log_p, success: np.exp(log_gibbs(log_p, success, 1.0)),
            "not normalized": lambda p, success: p * success,
            "the failures imitated": lambda p, success: p * (1.0 - success),
            "one round for k": Miss("one round for k", lambda p, earned: imitated(p, earned, 1), part=1),
            "k r for r to the k": Miss("k r for r to the k", lambda p, earned, rounds: imitated(p, rounds * earned, 1), part=1),
            "exp(r) for r": Miss("exp(r) for r", lambda log_p, earned, rounds: np.exp(log_gibbs(log_p, earned, 1.0 / rounds)), part=1),
            "uniform over the best, not p": Miss(
                "uniform over the best, not p",
                lambda log_p, earned: np.exp(greedy_limit(np.where(np.isneginf(log_p), log_p, 0.0), earned)),
                part=2,
            ),
        },
        sampled=Sampled("log_p", lambda success: success, lambda mu, p, success: np.sum(mu * np.sum(p * success, axis=1))),
        # p(success) may be small: dividing by it divides its relative rounding only
        where=lambda log_p, success: np.min(np.sum(np.exp(log_p) * success, axis=1)) > 1e-200,
    )
)
