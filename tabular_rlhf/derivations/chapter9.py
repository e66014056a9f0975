r"""Chapter 9 as derivations: the law of best-of-n and how far it goes, rejection sampling."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.derivations.record import derivation

# ---------------------------------------------------------------------------------------------------- best-of-n


def few_draws(N: int, draws: int) -> bool:
    """Whether all sequences of n draws are few enough to be written out."""
    return N**draws <= 3000


def laguerre(n: int) -> float:
    """log n + (n - 1) times the integral of n t^(n-1) log t from 0 to 1, by t = exp(-y/n) and Gauss-Laguerre's two points."""
    y, w = np.polynomial.laguerre.laggauss(2)
    return float(np.log(n) + (n - 1) * np.sum(w * (-y / n)))


derivation(
    slug="best-of-n",
    title="Best-of-n: its law with ties, and how far from the reference it can go",
    chapter=9,
    rows=("best-of-n",),
    source="Stiennon et al. (2020), arXiv:2009.01325; Beirami et al. (2024), arXiv:2401.01879.",
    largest=60,
    where=few_draws,
    scale=lambda N, draws: max(float(draws), N**draws / 16.0),
    named={
        "line_9": lambda r, draws: np.full(len(r), laguerre(draws)),
    },
    text=r"""
    let q = p_ref(r = r(tau)); p_n = p_drawn_best; P_n = best_is; Lambda = first_of_level
    p_n(\tau)
        # The law of the best of n draws, by all sequences of draws: draw n responses, keep one of the best; a tie is broken at random among
        the draws that share the best reward.
    = P_n(\tau)\, \frac{p_{ref}(\tau)}{q(\tau)}, \quad q(\tau) = p_{ref}(r = r(\tau))
        # P_n is the probability that the best of n rewards is r(tau), again by all sequences. Given that reward, the chosen draw is any
        draw of that level: it is tau with probability p_ref(tau)/q.
      not P_n(\tau)\, 1[p_{ref}(\tau) > 0]  # ties not split: every response gets its whole level
      not \frac{P_n(\tau)}{\sum_{\tau'} 1[r(\tau') = r(\tau)]}  # split alike among the responses of a level
      not P_n(\tau)\, p_{ref}(\tau)  # p_ref for its share of the level
    = \left( F(\tau)^n - F_-(\tau)^n \right) \frac{p_{ref}(\tau)}{q(\tau)}, \quad F = p_{ref}(r \le r(\tau)),\ F_- = p_{ref}(r < r(\tau))
        # The best of n is at most r if all n are, probability F^n; less than r if all n are less, F_-^n.
      slip the term F_-(tau)^{n} dropped
      not \left( F(\tau) - F_-(\tau) \right)^n \frac{p_{ref}(\tau)}{q(\tau)}  # the power of the difference
      not \left( F(\tau)^{n-1} - F_-(\tau)^{n-1} \right) \frac{p_{ref}(\tau)}{q(\tau)}  # n - 1 for n
    = p_{ref}(\tau)\, \frac{F^n - F_-^n}{F - F_-}  # q = F - F_-.
      not n\, p_{ref}(\tau)\, F^{n-1}  # the density of a maximum, n F^(n-1): no atoms
      not p_{ref}(\tau)\, \frac{(1 - F_-)^n - (1 - F)^n}{F - F_-}  # the worst of n
    so \mathrm{KL}(p_n, p_{ref})  # How far it has gone, for each prompt.
    = \sum_\tau p_n(\tau) \log\frac{F^n - F_-^n}{F - F_-}  # The ratio p_n/p_ref is the fraction.
      not \sum_\tau p_{ref}(\tau) \log\frac{F^n - F_-^n}{F - F_-}  # averaged under p_ref
      not \frac{1}{\log 2} \sum_\tau p_n(\tau) \log\frac{F^n - F_-^n}{F - F_-}  # log base 2
      not \log n  # log n for the logarithm
    = \sum_{\tau \in \Lambda} (F - F_-)\, \phi\left( \frac{F^n - F_-^n}{F - F_-} \right), \quad \phi(y) = y \log y
        # The fraction is the same for all responses of a reward level, and p_ref adds up to F - F_- there; Lambda holds one response of
        every level.
      not \sum_\tau (F - F_-)\, \phi\left( \frac{F^n - F_-^n}{F - F_-} \right)  # a level counted once for each of its responses
      not \sum_{\tau \in \Lambda} (F - F_-) \log\frac{F^n - F_-^n}{F - F_-}  # log y for y log y
    <= \sum_{\tau \in \Lambda} \left( \Psi(F) - \Psi(F_-) \right), \quad \Psi(u) = u^n \log n + \frac{n-1}{n} \left( \phi(u^n) - u^n \right)
        # The fraction is the mean of n u^(n-1) over [F_-, F]; phi is convex, so phi of it is at most the mean of phi (Jensen). Psi is the
        integral of phi(n u^(n-1)) from 0 to u.
      not \sum_{\tau \in \Lambda} (F - F_-)\, \phi(n F_-^{n-1})  # the fraction at the lower end
    = \Psi(1) - \Psi(0)
        # The levels fill [0, 1] without gaps: what is left is the integral of phi(n u^(n-1)) from 0 to 1, here log n + (n-1) times that of
        n u^(n-1) log u, by quadrature. With many fine levels nothing was lost.
      value @line_9
      not \sum_{\tau \in \Lambda} (F^n - F_-^n) \log n  # the second term forgotten
      not \sum_{\tau \in \Lambda} (F^n - F_-^n) (\log n - 1)  # n for n - 1
    = \log n - \frac{n-1}{n}  # By parts the integral of n u^(n-1) log u is -1/n.
      slip sign of (n - 1)/n flipped
      not \log(n - 1) - \frac{n-2}{n-1}  # n - 1 for n
    """,
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


derivation(
    slug="rejection-sampling",
    title="Rejection sampling from the reference makes exact samples of the Gibbs optimum",
    chapter=9,
    rows=("rejection-sampling",),
    source="von Neumann (1951); Liu et al. (2023), arXiv:2309.06657 (statistical rejection sampling).",
    largest=256,
    where=tame,
    scale=reward_spread,
    text=r"""
    \frac{p_{ref}(\tau)\, \min\left( 1, e^{(r(\tau) - \max r)/\beta} \right)}{\sum_{\tau'} p_{ref}(\tau')\, \min\left( 1, e^{(r(\tau') -
        \max r)/\beta} \right)}
        # Bayes' rule for P(tau given that it is accepted): a draw tau ~ p_ref is accepted with probability min(1, e^((r - max r)/beta)),
        max r the best reward that p_ref can get for this prompt.
    = \frac{p_{ref}(\tau)\, e^{(r(\tau) - \max r)/\beta}}{\sum_{\tau'} p_{ref}(\tau')\, e^{(r(\tau') - \max r)/\beta}}
        # r is at most max r, so the minimum is never needed.
      slip exp((r(tau') - max(r))/beta) dropped
      not \frac{p_{ref}(\tau)\, \min\left( 1, e^{r(\tau)/\beta} \right)}{\sum_{\tau'} p_{ref}(\tau')\, \min\left( 1, e^{r(\tau')/\beta}
        \right)}
        # max r forgotten: min(1, exp(r/beta))
      not \frac{p_{ref}(\tau)\, \min\left( 1, e^{(r(\tau) - \mathbb{E}_{ref}[r])/\beta} \right)}{\sum_{\tau'} p_{ref}(\tau')\, \min\left( 1,
        e^{(r(\tau') - \mathbb{E}_{ref}[r])/\beta} \right)}
        # mean reward for max r
    = \frac{p_{ref}(\tau)\, e^{r(\tau)/\beta}}{\sum_{\tau'} p_{ref}(\tau')\, e^{r(\tau')/\beta}}
        # exp(-max r/beta) is a constant of the prompt and cancels.
      not \frac{p_{ref}(\tau)\, e^{r(\tau)}}{\sum_{\tau'} p_{ref}(\tau')\, e^{r(\tau')}}  # beta dropped
      not \frac{1[p_{ref}(\tau) > 0]\, e^{r(\tau)/\beta}}{\sum_{\tau'} 1[p_{ref}(\tau') > 0]\, e^{r(\tau')/\beta}}  # p_ref dropped
      not p_ref(tau)*exp(-r(tau)/beta)/(sum_{tau'} p_ref(tau')*exp(-r(tau')/beta))  # sign of the reward
    = p^*(\tau)  # The Gibbs optimum: every accepted draw is an exact sample of it.
      not \frac{p_{ref}(\tau)\, e^{r(\tau)/(2 \beta)}}{\sum_{\tau'} p_{ref}(\tau')\, e^{r(\tau')/(2 \beta)}}  # beta doubled
      not p_{ref}(\tau)\, e^{r(\tau)/\beta}  # not normalized
    so \mathbb{E}_{ref}\left[ e^{(r - \max r)/\beta} \right]  # The share of draws that are accepted, averaged over prompts x ~ mu.
      law log_p_ref
    = \sum_x \mu(x)\, e^{-\max r/\beta} \sum_\tau p_{ref}(\tau)\, e^{r(\tau)/\beta}
        # The mean written out; the constant of the prompt leaves the sum.
      slip exp(-max(r)/beta) dropped; sign of the exponent flipped
    = \sum_x \mu(x)\, Z(x)\, e^{-\max r/\beta}
        # The inner sum is Z.  One sample costs 1/(Z exp(-max r/beta)) draws on average: dear when beta is small.
      slip divided by Z(x) where one multiplies; multiplied by beta where one divides
    """,
)
