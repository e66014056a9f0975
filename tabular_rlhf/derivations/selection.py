r"""Chapter 9 as derivations: the law of best-of-n and how far it goes, rejection sampling."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.derivations.record import Derivation, Line, add

# ---------------------------------------------------------------------------------------------------- best-of-n


def few_draws(N: int, draws: int) -> bool:
    """Whether all sequences of n draws are few enough to be written out."""
    return N**draws <= 3000


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
                r"p_n(\tau)",
                (
                    "The law of the best of n draws, by all sequences of draws: draw n "
                    "responses, keep one of the best; a tie is broken at random among the draws "
                    "that share the best reward."
                ),
            ),
            Line(
                r"P_n(\tau)\, \frac{p_{ref}(\tau)}{q(\tau)}, \quad q(\tau) = p_{ref}(r = r(\tau))",
                (
                    "P_n is the probability that the best of n rewards is r(tau), again by all "
                    "sequences. Given that reward, the chosen draw is any draw of that level: "
                    "it is tau with probability p_ref(tau)/q."
                ),
                wrong={
                    "ties not split: every response gets its whole level": r"P_n(\tau)\, 1[p_{ref}(\tau) > 0]",
                    "split alike among the responses of a level": r"\frac{P_n(\tau)}{\sum_{\tau'} 1[r(\tau') = r(\tau)]}",
                    "p_ref for its share of the level": r"P_n(\tau)\, p_{ref}(\tau)",
                },
            ),
            Line(
                r"\left( F(\tau)^n - F_-(\tau)^n \right) \frac{p_{ref}(\tau)}{q(\tau)}, \quad "
                r"F = p_{ref}(r \le r(\tau)),\ F_- = p_{ref}(r < r(\tau))",
                "The best of n is at most r if all n are, probability F^n; less than r if all n are less, F_-^n.",
                slips=("the term F_-(tau)^{n} dropped",),
                wrong={
                    "the power of the difference": r"\left( F(\tau) - F_-(\tau) \right)^n \frac{p_{ref}(\tau)}{q(\tau)}",
                    "n - 1 for n": (
                        r"\left( F(\tau)^{n-1} - F_-(\tau)^{n-1} \right) "
                        r"\frac{p_{ref}(\tau)}{q(\tau)}"
                    ),
                },
            ),
            Line(
                r"p_{ref}(\tau)\, \frac{F^n - F_-^n}{F - F_-}",
                "q = F - F_-.",
                wrong={
                    "the density of a maximum, n F^(n-1): no atoms": r"n\, p_{ref}(\tau)\, F^{n-1}",
                    "the worst of n": r"p_{ref}(\tau)\, \frac{(1 - F_-)^n - (1 - F)^n}{F - F_-}",
                },
            ),
            Line(r"\mathrm{KL}(p_n, p_{ref})", "How far it has gone, for each prompt.", relation="so"),
            Line(
                r"\sum_\tau p_n(\tau) \log\frac{F^n - F_-^n}{F - F_-}",
                "The ratio p_n/p_ref is the fraction.",
                wrong={
                    "averaged under p_ref": r"\sum_\tau p_{ref}(\tau) \log\frac{F^n - F_-^n}{F - F_-}",
                    "log base 2": r"\frac{1}{\log 2} \sum_\tau p_n(\tau) \log\frac{F^n - F_-^n}{F - F_-}",
                    "log n for the logarithm": r"\log n",
                },
            ),
            Line(
                r"\sum_{\tau \in \Lambda} (F - F_-)\, \phi\left( \frac{F^n - F_-^n}{F - F_-} \right), \quad \phi(y) = y "
                r"\log y",
                (
                    "The fraction is the same for all responses of a reward level, and p_ref "
                    "adds up to F - F_- there; Lambda holds one response of every level."
                ),
                wrong={
                    "a level counted once for each of its responses": r"\sum_\tau (F - F_-)\, \phi\left( \frac{F^n "
                    r"- F_-^n}{F - F_-} \right)",
                    "log y for y log y": r"\sum_{\tau \in \Lambda} (F - F_-) \log\frac{F^n - F_-^n}{F - F_-}",
                },
            ),
            Line(
                r"\sum_{\tau \in \Lambda} \left( \Psi(F) - \Psi(F_-) \right), \quad \Psi(u) = u^n \log n + \frac{n-1}{n} "
                r"\left( \phi(u^n) - u^n \right)",
                (
                    "The fraction is the mean of n u^(n-1) over [F_-, F]; phi is convex, so phi "
                    "of it is at most the mean of phi (Jensen). Psi is the integral of phi(n "
                    "u^(n-1)) from 0 to u."
                ),
                relation="<=",
                wrong={"the fraction at the lower end": r"\sum_{\tau \in \Lambda} (F - F_-)\, \phi(n F_-^{n-1})"},
            ),
            Line(
                r"\Psi(1) - \Psi(0)",
                (
                    "The levels fill [0, 1] without gaps: what is left is the integral of phi(n "
                    "u^(n-1)) from 0 to 1, here log n + (n-1) times that of n u^(n-1) log u, by "
                    "quadrature. With many fine levels nothing was lost."
                ),
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
                wrong={"n - 1 for n": r"\log(n - 1) - \frac{n-2}{n-1}"},
            ),
        ),
        letters={"q": "p_ref(r = r(tau))", "p_n": "p_drawn_best", "P_n": "best_is", "Lambda": "first_of_level"},
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
