"""Exercises on chapter 9: the law of the best of n and a bound, rejection sampling, imitation of what earned, and a proxy that selects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tabular_rlhf.exercises.record import exercise
from tabular_rlhf.formula.reading import Clause

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


exercise(
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
    answer=1,
    given=("p_ref", "r"),
    without=("log_p_best_of_n", "p_drawn_best", "best_is"),
    minutes=20,
    largest=300,
    misses={
        "n - 1 draws for n": r"p_{ref} \frac{F^{n-1} - F_-^{n-1}}{F - F_-}",
        "sign flipped: the worst of n": r"p_{ref} \frac{(1 - F_-)^n - (1 - F)^n}{F - F_-}",
        "density of the maximum for its law: n p F^(n - 1)": r"n\, p_{ref} F^{n-1}",
        "ties not split: every response gets its whole level": "F^n - F_-^n",
        "ties broken by the order of the list": of_draws(ties_to_the_last),
        "at most for just: F^n": "F^n",
        "p_ref omitted: uniform draws": (
            r"\frac{1}{N} \frac{A^n - B^n}{A - B}, \quad A(y) = \frac{1}{N} \sum_{y'} 1[r(y') \le r(y)], \quad "
            r"B(y) = \frac{1}{N} \sum_{y'} 1[r(y') < r(y)]"
        ),
        "n infinite: only the best": r"\frac{p_{ref}\, 1[r = M]}{\sum_y p_{ref}\, 1[r = M]}, \quad M = \max_y r(y)",
        "n ignored: one draw": "p_{ref}",
    },
)

# ---------------------------------------------------------------------------------------------------- best-of-n-slack


exercise(
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
    given=("draws", "log_p_best_of_n", "log_p_ref"),
    text=r"""
    \log n - \frac{n - 1}{n} - \mathrm{KL}(p_n, p_{ref})
      not \mathrm{KL}(p_n, p_{ref}) - (\log n - \frac{n - 1}{n})  # sign flipped
      not \log n - \frac{n - 1}{n} - \mathrm{KL}(p_{ref}, p_n)  # forward for reverse KL
      not \log n - \mathrm{KL}(p_n, p_{ref})  # log n alone for the bound
      not \log n + \frac{n - 1}{n} - \mathrm{KL}(p_n, p_{ref})  # sign of (n - 1)/n flipped
      not \log(n - 1) - \frac{n - 2}{n - 1} - \mathrm{KL}(p_n, p_{ref})  # n - 1 for n
      not \frac{\log n}{\log 2} - \frac{n - 1}{n} - \frac{\mathrm{KL}(p_n, p_{ref})}{\log 2}  # log base 2
      not \log n - \frac{n - 1}{n} - \frac{1}{N} \sum_y \log\frac{p_n}{p_{ref}}  # p_n omitted: log ratios averaged evenly
      not \log n - \frac{n - 1}{n}  # the KL omitted: the bound alone
      not \log n - \frac{n - 1}{n} - \mathrm{KL}(p, p_{ref})  # KL of p for that of best-of-n
      not 0  # the bound taken for the KL: nothing given away
    """,
)

# ---------------------------------------------------------------------------------------------------- acceptance


def ceiling(p_ref: Any, r: Any) -> Any:
    """The largest reward that p_ref can earn: (P, 1)."""
    return np.max(np.where(p_ref > 0, r, -np.inf), axis=1, keepdims=True)


def accepted(p_ref: Any, r: Any, beta: float, top: Any) -> Any:
    """The share of draws accepted with probability min(1, exp((r - top)/beta))."""
    return np.sum(p_ref * np.exp(np.minimum(0.0, np.where(p_ref > 0, r - top, 0.0) / beta)), axis=1)


exercise(
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
    answer=Clause(2, 0),
    given=("p_ref", "r", "beta"),
    misses={
        "max r omitted: Z": "Z",
        "max r omitted: min(1, exp(r/beta))": r"\mathbb{E}_{p_{ref}}[e^{\min(0, r)/\beta}]",
        "mean reward for max r": r"\mathbb{E}_{p_{ref}}[e^{\min(0, r - \mathbb{E}_{p_{ref}}[r])/\beta}]",
        "inverted: draws for each accepted one": r"\frac{1}{\mathbb{E}_{p_{ref}}[a]}",
        "the share rejected": r"1 - \mathbb{E}_{p_{ref}}[a]",
        "beta dropped": r"\mathbb{E}_{p_{ref}}[e^{r - \max_y r(y)}]",
        "beta for 1/beta": r"\mathbb{E}_{p_{ref}}[e^{\beta (r - \max_y r(y))}]",
        "p_ref omitted: responses averaged evenly": lambda p_ref, r, beta: (
            accepted(np.ones_like(p_ref), r, beta, ceiling(p_ref, r)) / r.shape[1]
        ),
        "p* for p_ref": r"\mathbb{E}_{p^*}[a]",
        "max over all prompts": lambda p_ref, r, beta: accepted(p_ref, r, beta, np.max(ceiling(p_ref, r))),
    },
    where=lambda r, beta: float(np.ptp(r)) / beta < 500.0,
)

# ---------------------------------------------------------------------------------------------------- imitation-round


exercise(
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
    given=("p", "earned"),
    text=r"""
    let rho = earned
    \frac{p \rho}{\sum_y p \rho}
      not \frac{p\, e^\rho}{\sum_y p\, e^\rho}  # exp(r) for r: a tilt
      not \frac{p\, e^{\rho/\beta}}{\sum_y p\, e^{\rho/\beta}}  # exp(r/beta) for r: a tilt
      not p \rho  # not normalized
      not \frac{p \rho}{\sum_x \sum_y p \rho}  # normalized over all prompts together
      not \frac{\rho}{\sum_y \rho}  # p omitted: rewards normalized
      not \frac{p_{ref}\, \rho}{\sum_y p_{ref}\, \rho}  # p_ref for p
      not \frac{p \rho^2}{\sum_y p \rho^2}  # two rounds for one
      not p  # the reward omitted: plain imitation
      not \frac{p\, 1[\rho = M]}{\sum_y p\, 1[\rho = M]}, \quad M = \max_y \rho(y)  # only the best imitated: the limit of many rounds
    """,
)

# ---------------------------------------------------------------------------------------------------- proxy-selection


exercise(
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
    given=("p_ref", "proxy", "r", "draws"),
    minutes=15,
    largest=300,
    scale=lambda r: 1.0 + np.max(np.abs(r)),
    text=r"""
    \sum_y p_{ref}(y) (\frac{A(y)^n - B(y)^n}{A(y) - B(y)} - 1) r(y), \quad A(y) = p_{ref}(r' \le r'(y)), \quad B(y) = p_{ref}(r' < r'(y))
      not \sum_y p_{ref}(y) (\frac{A(y)^n - B(y)^n}{A(y) - B(y)} - 1) r'(y)
        # the proxy reward for the true one: judged by what was measured
      not \mathbb{E}_{p_n}[r] - \mathbb{E}_{p_{ref}}[r]  # selected by the true reward
      not \mathbb{E}_{p_n}[r'] - \mathbb{E}_{p_{ref}}[r']  # the two rewards swapped
      not \sum_y p_{ref}(y) \frac{A(y)^n - B(y)^n}{A(y) - B(y)} r(y)  # the single draw's worth not subtracted
      not \sum_y p_{ref}(y) (\frac{A(y)^{n-1} - B(y)^{n-1}}{A(y) - B(y)} - 1) r(y)  # n - 1 draws for n
      not \sum_y p_{ref}(y) (\frac{(1 - B(y))^n - (1 - A(y))^n}{A(y) - B(y)} - 1) r(y)  # sign flipped: the worst of n
      not \sum_y p_{ref}(y) (1 - \frac{A(y)^n - B(y)^n}{A(y) - B(y)}) r(y)  # sign flipped
    """,
)
