"""Exercises on chapter 9: the law of the best of n and a bound, rejection sampling, imitation of what earned, and a proxy that selects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tabular_rlhf.exercises.record import Exercise, add
from tabular_rlhf.logspace import kl

# ---------------------------------------------------------------------------------------------------- best-of-n-law


def at_most(p_ref: Any, r: Any) -> Any:
    """F: the probability that a draw earns at most r(y)."""
    return np.sum(p_ref[:, None, :] * (r[:, None, :] <= r[:, :, None]), axis=2)


def less(p_ref: Any, r: Any) -> Any:
    """F-: the probability that it earns less."""
    return np.sum(p_ref[:, None, :] * (r[:, None, :] < r[:, :, None]), axis=2)


def best_of(p_ref: Any, r: Any, n: int) -> Any:
    """p_ref (F^n - F-^n)/(F - F-), the quotient as a geometric sum: it is 0/0 where p_ref is 0."""
    F, F_ = at_most(p_ref, r), less(p_ref, r)
    return p_ref * sum(F ** (n - 1 - k) * F_**k for k in range(n))


def of_draws(law: Callable[[Any, Any, int], Any]) -> Callable[[Any, Any], Any]:
    """An answer that is a function of the number of draws."""
    return lambda p_ref, r: lambda draws: law(p_ref, r, draws)


def ties_to_the_last(p_ref: Any, r: Any, n: int) -> Any:
    """Equal rewards, broken by their place in the list."""
    order = np.argsort(r, axis=1, kind="stable")
    rank = np.argsort(order, axis=1).astype(float)
    return best_of(p_ref, rank, n)


add(
    Exercise(
        slug="best-of-n-law",
        chapter=9,
        notebook="09",
        title="The law of the best of n",
        statement=(
            "Draw $n$ responses from `p_ref` and keep the one with the highest reward `r` (both of shape `(P, N)`); where several of the "
            "draws share the highest reward, keep one of them at random. Let $F(y)$ be the probability that a draw earns at most $r(y)$, "
            "and $F_-(y)$ that it earns less. Return a *function* of `draws`, the number $n$, that returns the probability with which "
            "each response is kept: shape `(P, N)`, every row summing to one."
        ),
        hint="The best reward is that of y with probability F^n - F_-^n; responses of equal reward share it in proportion to p_ref.",
        rows=("best-of-n",),
        forbidden="refused",
        answer=of_draws(best_of),
        without=("log_p_best_of_n", "p_drawn_best", "best_is"),
        minutes=20,
        largest=300,
        misses={
            "n - 1 draws for n": of_draws(lambda p_ref, r, n: best_of(p_ref, r, n - 1)),
            "sign flipped: the worst of n": of_draws(lambda p_ref, r, n: best_of(p_ref, -r, n)),
            "density of the maximum for its law: n p F^(n - 1)": of_draws(lambda p_ref, r, n: n * p_ref * at_most(p_ref, r) ** (n - 1)),
            "ties not split: every response gets its whole level": of_draws(
                lambda p_ref, r, n: at_most(p_ref, r) ** n - less(p_ref, r) ** n
            ),
            "ties broken by the order of the list": of_draws(ties_to_the_last),
            "at most for just: F^n": of_draws(lambda p_ref, r, n: at_most(p_ref, r) ** n),
            "p_ref omitted: uniform draws": of_draws(lambda p_ref, r, n: best_of(np.ones_like(r) / r.shape[1], r, n)),
            "n infinite: only the best": of_draws(lambda p_ref, r, n: imitated(p_ref, (r == np.max(r, axis=1, keepdims=True)) * 1.0)),
            "n ignored: one draw": of_draws(lambda p_ref, r, n: p_ref),
        },
    )
)

# ---------------------------------------------------------------------------------------------------- best-of-n-slack


def bound(n: int) -> float:
    return float(np.log(n) - (n - 1) / n)


add(
    Exercise(
        slug="best-of-n-slack",
        chapter=9,
        notebook="09",
        title="A bound, and what it gives away",
        statement=(
            "`log_p_best_of_n` and `log_p_ref`, of shape `(P, N)`, are the log-probabilities of the best of $n$ = `draws` responses and of "
            "one. It is often said that their divergence $\\mathrm{KL}(p_n, p_{ref})$ *is* $\\log n - (n-1)/n$; this is only an upper "
            "bound. Return the bound minus the divergence, for each prompt: shape `(P,)`, nats, never negative."
        ),
        hint="The divergence is a mean of a log ratio under the law that stands first.",
        rows=("best-of-n",),
        forbidden="refused",
        answer=lambda draws, log_p_best_of_n, log_p_ref: np.log(draws) - (draws - 1) / draws - kl(log_p_best_of_n, log_p_ref),
        misses={
            "sign flipped": lambda draws, log_p_best_of_n, log_p_ref: kl(log_p_best_of_n, log_p_ref) - bound(draws),
            "forward for reverse KL": lambda draws, log_p_best_of_n, log_p_ref: bound(draws) - kl(log_p_ref, log_p_best_of_n),
            "log n alone for the bound": lambda draws, log_p_best_of_n, log_p_ref: np.log(draws) - kl(log_p_best_of_n, log_p_ref),
            "sign of (n - 1)/n flipped": lambda draws, log_p_best_of_n, log_p_ref: (
                np.log(draws) + (draws - 1) / draws - kl(log_p_best_of_n, log_p_ref)
            ),
            "n - 1 for n": lambda draws, log_p_best_of_n, log_p_ref: bound(draws - 1) - kl(log_p_best_of_n, log_p_ref),
            "log base 2": lambda draws, log_p_best_of_n, log_p_ref: (
                np.log2(draws) - (draws - 1) / draws - kl(log_p_best_of_n, log_p_ref) / np.log(2.0)
            ),
            "p_n omitted: log ratios averaged evenly": lambda draws, log_p_best_of_n, log_p_ref: (
                bound(draws) - np.mean(log_p_best_of_n - log_p_ref, axis=1)
            ),
            "the KL omitted: the bound alone": lambda draws, mu: bound(draws) + 0.0 * mu,
            "KL of p for that of best-of-n": lambda draws, KL: bound(draws) - KL,
            "the bound taken for the KL: nothing given away": lambda mu: 0.0 * mu,
        },
    )
)

# ---------------------------------------------------------------------------------------------------- acceptance


def ceiling(p_ref: Any, r: Any) -> Any:
    """The largest reward that p_ref can earn: (P, 1)."""
    return np.max(np.where(p_ref > 0, r, -np.inf), axis=1, keepdims=True)


def accepted(p_ref: Any, r: Any, beta: float, top: Any) -> Any:
    """The share of draws accepted with probability min(1, exp((r - top)/beta))."""
    return np.sum(p_ref * np.exp(np.minimum(0.0, np.where(p_ref > 0, r - top, 0.0) / beta)), axis=1)


add(
    Exercise(
        slug="acceptance",
        chapter=9,
        notebook="09",
        title="How many draws are thrown away?",
        statement=(
            "Rejection sampling draws a response from `p_ref`, shape `(P, N)`, and accepts it with probability $e^{(r - \\max r)/\\beta}$, "
            "where the maximum is taken over the responses to the same prompt that have positive probability. What it accepts is "
            "distributed as the Gibbs optimum. Return the share of draws that are accepted, for each prompt: shape `(P,)`."
        ),
        hint="A mean under p_ref of the probability of acceptance; it is Z times a number.",
        rows=("rejection-sampling",),
        answer=lambda p_ref, r, beta: np.sum(
            p_ref * np.exp((r - np.max(np.where(p_ref > 0, r, -np.inf), axis=1, keepdims=True)) / beta) * (p_ref > 0), axis=1
        ),
        misses={
            "max r omitted: Z": lambda log_Z: np.exp(log_Z),
            "max r omitted: min(1, exp(r/beta))": lambda p_ref, r, beta: accepted(p_ref, r, beta, 0.0),
            "mean reward for max r": lambda p_ref, r, beta: accepted(p_ref, r, beta, np.sum(p_ref * r, axis=1, keepdims=True)),
            "inverted: draws for each accepted one": lambda p_ref, r, beta: 1.0 / accepted(p_ref, r, beta, ceiling(p_ref, r)),
            "the share rejected": lambda p_ref, r, beta: 1.0 - accepted(p_ref, r, beta, ceiling(p_ref, r)),
            "beta dropped": lambda p_ref, r: accepted(p_ref, r, 1.0, ceiling(p_ref, r)),
            "beta for 1/beta": lambda p_ref, r, beta: accepted(p_ref, r, 1.0 / beta, ceiling(p_ref, r)),
            "p_ref omitted: responses averaged evenly": lambda p_ref, r, beta: (
                accepted(np.ones_like(p_ref), r, beta, ceiling(p_ref, r)) / r.shape[1]
            ),
            "p* for p_ref": lambda p_ref, p_star, r, beta: accepted(p_star, r, beta, ceiling(p_ref, r)),
            "max over all prompts": lambda p_ref, r, beta: accepted(p_ref, r, beta, np.max(ceiling(p_ref, r))),
        },
        where=lambda r, beta: float(np.ptp(r)) / beta < 500.0,
    )
)

# ---------------------------------------------------------------------------------------------------- imitation-round


def imitated(p: Any, weight: Any) -> Any:
    """p weight, normalized for each prompt."""
    return p * weight / np.sum(p * weight, axis=1, keepdims=True)


add(
    Exercise(
        slug="imitation-round",
        chapter=9,
        notebook="09",
        title="Imitate what earned",
        statement=(
            "One round of expert iteration: draw very many responses from `p`, weigh each by its reward `earned`, which is positive, and "
            "fit the policy to them by maximum likelihood (both of shape `(P, N)`). Return the law that it arrives at: probabilities of "
            "shape `(P, N)`, every row summing to one."
        ),
        hint="The likeliest law of weighted draws gives each response its share of the weight.",
        rows=("expert-iteration",),
        answer=lambda p, earned: p * earned / np.sum(p * earned, axis=1, keepdims=True),
        misses={
            "exp(r) for r: a tilt": lambda p, earned: imitated(p, np.exp(earned)),
            "exp(r/beta) for r: a tilt": lambda p, earned, beta: imitated(p, np.exp(earned / beta)),
            "not normalized": lambda p, earned: p * earned,
            "normalized over all prompts together": lambda p, earned: p * earned / np.sum(p * earned),
            "p omitted: rewards normalized": lambda p, earned: imitated(np.ones_like(p), earned),
            "p_ref for p": lambda p_ref, earned: imitated(p_ref, earned),
            "two rounds for one": lambda p, earned: imitated(p, earned**2),
            "the reward omitted: plain imitation": lambda p: p,
            "only the best imitated: the limit of many rounds": lambda p, earned: imitated(
                p, (earned == np.max(earned, axis=1, keepdims=True)) * 1.0
            ),
        },
    )
)

# ---------------------------------------------------------------------------------------------------- proxy-selection


def earned_by(p_ref: Any, judge: Any, reward: Any, n: int) -> Any:
    """What the best of n by one reward earns of another, less what one draw earns of it."""
    return np.sum((best_of(p_ref, judge, n) - p_ref) * reward, axis=1)


add(
    Exercise(
        slug="proxy-selection",
        chapter=9,
        notebook="09",
        title="Selected by the wrong judge",
        statement=(
            "Draw $n$ = `draws` responses from `p_ref`, keep the one with the highest measured reward `proxy` (of several such draws, one "
            "at random), and look at what it is really worth, `r`; all of shape `(P, N)`. Return how much more it is worth on average than "
            "a single draw from `p_ref`, for each prompt: shape `(P,)`, reward units. (It may be negative.)"
        ),
        hint="One reward makes the law of the best of n, another is averaged under it.",
        rows=("best-of-n", "reward-hacking"),
        forbidden="refused",
        answer=lambda p_ref, proxy, r, draws: np.sum((best_of(p_ref, proxy, draws) - p_ref) * r, axis=1),
        minutes=15,
        largest=300,
        misses={
            "the proxy reward for the true one: judged by what was measured": lambda p_ref, proxy, draws: earned_by(
                p_ref, proxy, proxy, draws
            ),
            "selected by the true reward": lambda p_ref, r, draws: earned_by(p_ref, r, r, draws),
            "the two rewards swapped": lambda p_ref, proxy, r, draws: earned_by(p_ref, r, proxy, draws),
            "the single draw's worth not subtracted": lambda p_ref, proxy, r, draws: np.sum(best_of(p_ref, proxy, draws) * r, axis=1),
            "n - 1 draws for n": lambda p_ref, proxy, r, draws: earned_by(p_ref, proxy, r, draws - 1),
            "sign flipped: the worst of n": lambda p_ref, proxy, r, draws: earned_by(p_ref, -proxy, r, draws),
            "sign flipped": lambda p_ref, proxy, r, draws: -earned_by(p_ref, proxy, r, draws),
        },
        scale=lambda r: 1.0 + np.max(np.abs(r)),
    )
)
