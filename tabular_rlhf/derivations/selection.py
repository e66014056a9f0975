r"""Chapter 9 as derivations: the law of best-of-n and how far it goes, rejection sampling."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.derivations.record import Derivation, Line, add
from tabular_rlhf.ledger.chapter9 import all_draws

# ---------------------------------------------------------------------------------------------------- best-of-n


def few_draws(N: int, draws: int) -> bool:
    """Whether all sequences of n draws are few enough to be written out."""
    return N**draws <= 3000


def at_most(p: Any, r: Any) -> Any:
    """F: the probability that a draw earns at most r(tau), (P, N)."""
    return np.sum(p[:, None, :] * (r[:, None, :] <= r[:, :, None]), axis=2)


def less(p: Any, r: Any) -> Any:
    """F-: the probability that a draw earns less than r(tau), (P, N)."""
    return np.sum(p[:, None, :] * (r[:, None, :] < r[:, :, None]), axis=2)


def level_mass(p: Any, r: Any) -> Any:
    """The probability of a draw that earns exactly r(tau), (P, N)."""
    return np.sum(p[:, None, :] * (r[:, None, :] == r[:, :, None]), axis=2)


def share(p: Any, whole: Any) -> Any:
    """p divided by a whole that it is a part of; 0 of nothing."""
    return np.where(whole > 0, p, 0.0) / np.where(whole > 0, whole, 1.0)


def drawn_best(p: Any, r: Any, n: int) -> Any:
    """Every sequence of n draws, its best members sharing its probability alike: (P, N)."""
    tau = all_draws(r.shape[1], n)
    laws = []
    for q, row in zip(p, r, strict=True):
        best = row[tau] == np.max(row[tau], axis=1, keepdims=True)
        parts = np.prod(q[tau], axis=1)[:, None] * best / np.sum(best, axis=1, keepdims=True)
        laws.append(np.bincount(np.ravel(tau), np.ravel(parts), r.shape[1]))
    return np.stack(laws)


def best_is(p: Any, r: Any, n: int) -> Any:
    """The probability that the best of n draws earns exactly r(tau), by counting sequences: (P, N)."""
    tau = all_draws(r.shape[1], n)
    return np.stack(
        [np.sum(np.prod(q[tau], axis=1) * (np.max(row[tau], axis=1) == row[:, None]), axis=1) for q, row in zip(p, r, strict=True)]
    )


def gain(p: Any, r: Any, n: int) -> Any:
    """(F^n - F-^n)/(F - F-), 1 where p_ref has nothing at that level."""
    q = at_most(p, r) - less(p, r)
    some = level_mass(p, r) > 0
    return np.where(some, at_most(p, r) ** n - less(p, r) ** n, 1.0) / np.where(some, q, 1.0)


def safe_log(y: Any) -> Any:
    """log y, and 0 where y = 0: it is about to be multiplied by y."""
    return np.log(np.where(y > 0, y, 1.0))


def phi(y: Any) -> Any:
    """y log y."""
    return y * safe_log(y)


def per_level(r: Any) -> Any:
    """1 for the first response of every reward level, 0 for the others, so that a sum over responses is one over levels."""
    first = np.argmax(r[:, None, :] == r[:, :, None], axis=2)
    return np.where(first == np.arange(r.shape[1]), 1.0, 0.0)


def density_entropy(u: Any, n: int) -> Any:
    """The integral of n t^(n-1) log(n t^(n-1)) from 0 to u: with v = u^n it is v log n + (n - 1)/n (v log v - v)."""
    v = u**n
    return v * np.log(n) + (n - 1) / n * (v * safe_log(v) - v)


def laguerre(n: int) -> float:
    """log n + (n - 1) times the integral of n t^(n-1) log t from 0 to 1, by t = exp(-y/n) and Gauss-Laguerre's two points."""
    y, w = np.polynomial.laguerre.laggauss(2)
    return float(np.log(n) + (n - 1) * np.sum(w * (-y / n)))


add(
    Derivation(
        slug="best-of-n",
        title="Best-of-n: its law with ties, and how far from the reference it can go",
        chapter=9,
        rows=("best-of-n",),
        source="Stiennon et al. (2020), arXiv:2009.01325; Beirami et al. (2024), arXiv:2401.01879.",
        largest=60,
        where=few_draws,
        # the sequences are added up one after another; the ledger counts at least 16 roundings already
        scale=lambda N, draws: max(float(draws), N**draws / 16.0),
        lines=(
            Line(
                r"p_n(\tau) = \sum_{\tau_1, \ldots, \tau_n} p_{ref}(\tau_1) \cdots p_{ref}(\tau_n)\, "
                r"P(\tau \text{ is chosen} \mid \tau_1, \ldots, \tau_n)",
                "Draw n responses, keep one of the best; a tie is broken at random among the draws that share the best reward.",
                lambda p_ref, r, draws: drawn_best(p_ref, r, draws),
            ),
            Line(
                r"P\left( \max_k r(\tau_k) = r(\tau) \right) \frac{p_{ref}(\tau)}{q(\tau)}, \quad q(\tau) = p_{ref}(r = r(\tau))",
                "Given the best reward, the chosen draw is any draw of that level: it is tau with probability p_ref(tau)/q.",
                lambda p_ref, r, draws: best_is(p_ref, r, draws) * share(p_ref, level_mass(p_ref, r)),
                wrong={
                    "ties not split: every response gets its whole level": lambda p_ref, r, draws: (
                        best_is(p_ref, r, draws) * np.where(p_ref > 0, 1.0, 0.0)
                    ),
                    "split alike among the responses of a level": lambda p_ref, r, draws: (
                        best_is(p_ref, r, draws) / np.sum(r[:, None, :] == r[:, :, None], axis=2)
                    ),
                    "p_ref for its share of the level": lambda p_ref, r, draws: best_is(p_ref, r, draws) * p_ref,
                },
            ),
            Line(
                r"\left( F(\tau)^n - F_-(\tau)^n \right) \frac{p_{ref}(\tau)}{q(\tau)}, \quad "
                r"F = p_{ref}(r \le r(\tau)),\ F_- = p_{ref}(r < r(\tau))",
                "The best of n is at most r if all n are, probability F^n; less than r if all n are less, F_-^n.",
                slips=("the term F_-(tau)^{n} dropped",),
                wrong={
                    "the power of the difference": lambda p_ref, r, draws: (
                        (at_most(p_ref, r) - less(p_ref, r)) ** draws * share(p_ref, level_mass(p_ref, r))
                    ),
                    "n - 1 for n": lambda p_ref, r, draws: (
                        (at_most(p_ref, r) ** (draws - 1) - less(p_ref, r) ** (draws - 1)) * share(p_ref, level_mass(p_ref, r))
                    ),
                },
            ),
            Line(
                r"p_{ref}(\tau)\, \frac{F^n - F_-^n}{F - F_-}",
                "q = F - F_-.",
                wrong={
                    "the density of a maximum, n F^(n-1): no atoms": lambda p_ref, r, draws: (
                        draws * p_ref * at_most(p_ref, r) ** (draws - 1)
                    ),
                    "the worst of n": lambda p_ref, r, draws: p_ref * gain(p_ref, -r, draws),
                },
            ),
            Line(r"\mathrm{KL}(p_n, p_{ref})", "How far it has gone, for each prompt.", relation="so"),
            Line(
                r"\sum_\tau p_n(\tau) \log\frac{F^n - F_-^n}{F - F_-}",
                "The ratio p_n/p_ref is the fraction.",
                wrong={
                    "averaged under p_ref": lambda p_ref, r, draws: np.sum(p_ref * safe_log(gain(p_ref, r, draws)), axis=1),
                    "log base 2": lambda p_ref, r, draws: (
                        np.sum(p_ref * gain(p_ref, r, draws) * safe_log(gain(p_ref, r, draws)), axis=1) / np.log(2.0)
                    ),
                    "log n for the logarithm": lambda r, draws: np.full(len(r), np.log(draws)),
                },
            ),
            Line(
                r"\sum_{\text{levels}} (F - F_-)\, \phi\left( \frac{F^n - F_-^n}{F - F_-} \right), \quad \phi(y) = y \log y",
                "The fraction is the same for all responses of a reward level, and p_ref adds up to F - F_- there.",
                lambda p_ref, r, draws: np.sum(
                    per_level(r) * level_mass(p_ref, r) * gain(p_ref, r, draws) * safe_log(gain(p_ref, r, draws)), axis=1
                ),
                wrong={
                    "a level counted once for each of its responses": lambda p_ref, r, draws: np.sum(
                        level_mass(p_ref, r) * gain(p_ref, r, draws) * safe_log(gain(p_ref, r, draws)), axis=1
                    ),
                    "log y for y log y": lambda p_ref, r, draws: np.sum(
                        per_level(r) * level_mass(p_ref, r) * safe_log(gain(p_ref, r, draws)), axis=1
                    ),
                },
            ),
            Line(
                r"\sum_{\text{levels}} \int_{F_-}^{F} \phi\left( n u^{n-1} \right) du",
                "The fraction is the mean of n u^(n-1) over [F_-, F]; phi is convex, so phi of it is at most the mean of phi (Jensen).",
                lambda p_ref, r, draws: np.sum(
                    per_level(r) * (density_entropy(at_most(p_ref, r), draws) - density_entropy(less(p_ref, r), draws)), axis=1
                ),
                relation="<=",
                wrong={
                    "the fraction at the lower end": lambda p_ref, r, draws: np.sum(
                        per_level(r) * level_mass(p_ref, r) * phi(draws * less(p_ref, r) ** (draws - 1)), axis=1
                    ),
                },
            ),
            Line(
                r"\int_0^1 \phi\left( n u^{n-1} \right) du = \log n + (n-1) \int_0^1 n u^{n-1} \log u\, du",
                "The levels fill [0, 1] without gaps; and the integral of n u^(n-1) is 1.  With many fine levels nothing was lost.",
                lambda r, draws: np.full(len(r), laguerre(draws)),
                wrong={
                    "the second term forgotten": lambda r, draws: np.full(len(r), np.log(draws)),
                    "n for n - 1": lambda r, draws: np.full(len(r), np.log(draws) - 1.0),
                },
            ),
            Line(
                r"\log n - \frac{n-1}{n}",
                "By parts the integral of n u^(n-1) log u is -1/n.",
                slips=("sign of (n - 1)/n flipped",),
                wrong={"n - 1 for n": lambda r, draws: np.full(len(r), np.log(draws - 1) - (draws - 2) / (draws - 1))},
            ),
        ),
        letters={"q": "p_ref(r = r(tau))"},
    )
)

# ---------------------------------------------------------------------------------------------------- rejection-sampling


def tame(r: Any, beta: float) -> bool:
    """exp(r/beta) stays in range."""
    return bool(np.max(np.abs(r)) < 300.0 * beta)


def tilted(p_ref: Any, r: Any, beta: float) -> Any:
    return p_ref * np.exp(r / beta)


def reward_spread(p_ref: Any, r: Any, beta: float) -> float:
    """The size of a term, and what dividing by a small Z may do to it."""
    return 1.0 + float(np.max(np.abs(r))) / beta + float(np.max(tilted(p_ref, r, beta)))


add(
    Derivation(
        slug="rejection-sampling",
        title="Rejection sampling from the reference makes exact samples of the Gibbs optimum",
        chapter=9,
        rows=("rejection-sampling",),
        source="von Neumann (1951); Liu et al. (2023), arXiv:2309.06657 (statistical rejection sampling).",
        largest=256,
        where=tame,
        scale=reward_spread,
        lines=(
            Line(
                r"\frac{p_{ref}(\tau)\, \min\left( 1, e^{(r(\tau) - \max r)/\beta} \right)}{\sum_{\tau'} p_{ref}(\tau')\, "
                r"\min\left( 1, e^{(r(\tau') - \max r)/\beta} \right)}",
                (
                    "Bayes' rule for P(tau given that it is accepted): a draw tau ~ p_ref is "
                    "accepted with probability min(1, e^((r - max r)/beta)), max r the best "
                    "reward that p_ref can get for this prompt."
                ),
            ),
            Line(
                r"\frac{p_{ref}(\tau)\, e^{(r(\tau) - \max r)/\beta}}{\sum_{\tau'} p_{ref}(\tau')\, e^{(r(\tau') - \max r)/\beta}}",
                "r is at most max r, so the minimum is never needed.",
                slips=("exp((r(tau') - max(r))/beta) dropped",),
                wrong={
                    "max r forgotten: min(1, exp(r/beta))": (
                        r"\frac{p_{ref}(\tau)\, \min\left( 1, e^{r(\tau)/\beta} "
                        r"\right)}{\sum_{\tau'} p_{ref}(\tau')\, \min\left( 1, e^{r(\tau')/\beta} "
                        r"\right)}"
                    ),
                    "mean reward for max r": (
                        r"\frac{p_{ref}(\tau)\, \min\left( 1, e^{(r(\tau) - "
                        r"\mathbb{E}_{ref}[r])/\beta} \right)}{\sum_{\tau'} p_{ref}(\tau')\, "
                        r"\min\left( 1, e^{(r(\tau') - \mathbb{E}_{ref}[r])/\beta} \right)}"
                    ),
                },
            ),
            Line(
                r"\frac{p_{ref}(\tau)\, e^{r(\tau)/\beta}}{\sum_{\tau'} p_{ref}(\tau')\, e^{r(\tau')/\beta}}",
                "exp(-max r/beta) is a constant of the prompt and cancels.",
                wrong={
                    "beta dropped": (
                        r"\frac{p_{ref}(\tau)\, e^{r(\tau)}}{\sum_{\tau'} p_{ref}(\tau')\, "
                        r"e^{r(\tau')}}"
                    ),
                    "p_ref dropped": (
                        r"\frac{1[p_{ref}(\tau) > 0]\, e^{r(\tau)/\beta}}{\sum_{\tau'} "
                        r"1[p_{ref}(\tau') > 0]\, e^{r(\tau')/\beta}}"
                    ),
                    "sign of the reward": "p_ref(tau)*exp(-r(tau)/beta)/(sum_{tau'} p_ref(tau')*exp(-r(tau')/beta))",
                },
            ),
            Line(
                r"p^*(\tau)",
                "The Gibbs optimum: every accepted draw is an exact sample of it.",
                wrong={
                    "beta doubled": (
                        r"\frac{p_{ref}(\tau)\, e^{r(\tau)/(2 \beta)}}{\sum_{\tau'} p_{ref}(\tau')\, "
                        r"e^{r(\tau')/(2 \beta)}}"
                    ),
                    "not normalized": r"p_{ref}(\tau)\, e^{r(\tau)/\beta}",
                },
            ),
            Line(
                r"\mathbb{E}_{ref}\left[ e^{(r - \max r)/\beta} \right]",
                "The share of draws that are accepted, averaged over prompts x ~ mu.",
                relation="so",
                law="log_p_ref",
            ),
            Line(
                r"\sum_x \mu(x)\, e^{-\max r/\beta} \sum_\tau p_{ref}(\tau)\, e^{r(\tau)/\beta}",
                "The mean written out; the constant of the prompt leaves the sum.",
                slips=("exp(-max(r)/beta) dropped", "sign of the exponent flipped"),
            ),
            Line(
                r"\sum_x \mu(x)\, Z(x)\, e^{-\max r/\beta}",
                "The inner sum is Z.  One sample costs 1/(Z exp(-max r/beta)) draws on average: dear when beta is small.",
                slips=("divided by Z(x) where one multiplies", "multiplied by beta where one divides"),
            ),
        ),
    )
)
