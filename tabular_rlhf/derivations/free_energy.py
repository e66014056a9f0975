r"""Chapter 4 as derivations, continued: what the reward and beta do to the soft value V = beta log Z, and its limits.

V is a cumulant-generating function: its slope in the rewards is the optimum p*, its second derivatives are covariances under p*.
So every sensitivity of the optimum is a covariance, with a power of beta before it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.derivations.record import derivation
from tabular_rlhf.logspace import soft_value
from tabular_rlhf.terms.sources import KORBAK

# ---------------------------------------------------------------------------------------------------- free-energy-derivatives


derivation(
    slug="free-energy-derivatives",
    formerly=("free-energy",),
    title="The derivatives of the soft value: the optimum, covariances, and the price of beta",
    chapter=4,
    rows=("free-energy-derivatives", "reward-hacking"),
    source="Exponential families; Wainwright and Jordan (2008), sec. 3.",
    where=lambda log_p_ref, r, beta: bool(np.max(np.abs(r)) / beta < 60 and not np.isneginf(log_p_ref).any()),
    largest=40,
    scale=lambda r, beta: 4 * (1 + np.max(np.abs(r))) ** 2 * (1 + 1 / beta) ** 2 * (1 + np.ptp(r) / beta) ** 2,
    text=r"""
    \frac{\partial V(x)}{\partial r(\tau)}, \quad V = \beta \log Z, \quad Z = \sum_\tau p_{ref}(\tau)\, e^{r(\tau)/\beta}
        # How the value answers to the reward of one response: by the gradient core.
    = \beta \cdot \frac{1}{Z} \cdot \frac{\partial Z}{\partial r(\tau)}  # The chain rule: the slope of log Z is 1/Z times that of Z.
      slip beta dropped; 1/Z dropped
    = \beta \cdot \frac{1}{Z} \cdot p_{ref}(\tau)\, e^{r(\tau)/\beta} \cdot \frac{1}{\beta}
        # Only the term of tau in Z has r(tau) in it; the inner derivative of r/beta is 1/beta.
      slip beta squared
      not 1  # all terms kept
    = p^*(\tau)  # beta cancels, and what is left is the optimum: the value rises as fast as the response is likely.
      slip p_ref for p_star; divided by beta, which is too much
    so \frac{\partial^2 V(x)}{\partial r(\tau)\, \partial r(\tau')}
        # And how the optimum answers to it: the second derivatives by the gradient core, a matrix for each prompt.
    = \frac{1}{\beta}\, 1[\tau = \tau']\, p^*(\tau) - p^*(\tau) \cdot \frac{1}{Z} \frac{\partial Z}{\partial r(\tau')}
        # Differentiate p_ref e^{r/beta}/Z: its numerator moves only with r(tau) itself, its denominator with every reward.
      slip proxy for r; sign of p_star(tau)*(1/Z)*diff(Z, r(tau')) flipped
    = \frac{1}{\beta} \left( 1[\tau = \tau']\, p^*(\tau) - p^*(\tau)\, p^*(\tau') \right)
        # Lines 2 to 4: the slope of Z over Z is p*(tau')/beta.
      not 1/beta*(1[tau = tau']*p_star(tau) - beta*(p_star(tau)*p_star(tau')))  # 1/beta on the first term alone
      not 1/beta*(1[tau = tau']*p_ref(tau) - p_ref(tau)*p_ref(tau'))  # p_ref for p*
    = \frac{1}{\beta}\, \mathrm{Cov}_{k \sim p^*}(1[k = \tau], 1[k = \tau'])
        # E[1[k = tau] 1[k = tau']] is p*(tau) if they are one, else 0. So a reward given to one response takes from all others.
      slip 1/beta dropped
      not 1/beta*E_{k ~ p_star}[1[k = tau]*1[k = tau']]  # second moments for covariances
    so \frac{d}{d\beta}\, \mathbb{E}_{p^*}[r]  # Now beta, by the gradient core: p* moves, r does not.
    = \sum_\tau r(\tau)\, p^*(\tau)\, \frac{d \log p^*(\tau)}{d\beta}  # The log-derivative trick: dp = p d(log p).
      slip p_star(tau) dropped
      not sum_tau r(tau)*p_star(tau)*(-r(tau)/beta^2)  # Z held fixed
    = \sum_\tau r(\tau)\, p^*(\tau) \left( -\frac{r(\tau)}{\beta^2} + \frac{\mathbb{E}_{p^*}[r]}{\beta^2} \right)
        # log p* = log p_ref + r/beta - log Z: r/beta has the slope -r/beta^2, and log Z the mean of that under p*, as in lines 2 to 4.
      slip a factor beta too many; a mean under p_ref where one under p_star is due
    = -\frac{\mathrm{Var}_{p^*}(r)}{\beta^2}
        # E[r^2] - E[r]^2 is the variance: a smaller beta never earns less, and gains most where the optimum is undecided.
      slip sign flipped; 3 for 2
      not -E_{p_star}[r^2]/beta^2  # second moment for variance
    """,
)

# ---------------------------------------------------------------------------------------------------- beta-limits


def best(log_p_ref: Any, r: Any) -> Any:
    """The best reward of a possible response to each prompt, (P, 1)."""
    return np.max(np.where(np.isneginf(log_p_ref), -np.inf, r), axis=1, keepdims=True)


def among_best(log_p_ref: Any, r: Any) -> Any:
    """p_ref on the best possible responses, 0 elsewhere."""
    return np.where(r == best(log_p_ref, r), np.exp(log_p_ref), 0.0)


SMALL = ("beta", (1.0, 1e-3, 1e-100))
LARGE = ("beta", (1.0, 1e6, 1e18))

derivation(
    slug="beta-limits",
    title="The limits of beta: the reference, and the best of what the reference can say",
    chapter=4,
    rows=("beta-limits",),
    source=KORBAK,
    named={
        "line_6": lambda log_p_ref, r, beta: soft_value(log_p_ref, r, beta),
    },
    text=r"""
    p^*(\tau) = \frac{p_{ref}(\tau)\, e^{r(\tau)/\beta}}{\sum_{\tau'} p_{ref}(\tau')\, e^{r(\tau')/\beta}}
        # The optimum at the world's own beta.
    in the limit p_{ref}(\tau) \quad (\beta \to \infty)
        # r/beta goes to 0 for every response, so every factor goes to 1, above and below: only the KL counts.
      along beta 1 1e+06 1e+18
      not 1/N  # uniform
      not \frac{p_{ref}(\tau)\, 1[r(\tau) = \max r]}{\sum_{\tau'} p_{ref}(\tau')\, 1[r(\tau') = \max r]}
        # the best response: the other limit
    so \frac{p_{ref}(\tau)\, e^{r(\tau)/\beta}}{\sum_{\tau'} p_{ref}(\tau')\, e^{r(\tau')/\beta}}
        # The other way r/beta grows without bound, above and below.
    = \frac{p_{ref}(\tau)\, e^{-(\max r - r(\tau))/\beta}}{\sum_{\tau'} p_{ref}(\tau')\, e^{-(\max r - r(\tau'))/\beta}}
        # So divide above and below by e^{max r/beta}, the maximum over possible responses: no exponent is positive now.
      not p_ref(tau)*exp(-(max(r) - r(tau))/beta)/(sum_{tau'} p_ref(tau')*exp(-(-r(tau'))/beta))  # divided above only
      not \frac{p_{ref}(\tau)\, e^{-|r(\tau) - \mathbb{E}_{p_{ref}}[r]|/\beta}}{\sum_{\tau'} p_{ref}(\tau')\, e^{-|r(\tau') -
        \mathbb{E}_{p_{ref}}[r]|/\beta}}
        # each response compared with the mean
    in the limit \frac{p_{ref}(\tau)\, 1[r(\tau) = \max r]}{\sum_{\tau'} p_{ref}(\tau')\, 1[r(\tau') = \max r]} \quad (\beta \to 0)
        # A factor e^{-gap/beta} goes to 0 if there is a gap and is 1 if there is none: ties keep the reference's odds.
      along beta 1 0.001 1e-100
      not \frac{1[p_{ref}(\tau) > 0]\, 1[r(\tau) = \max r]}{\sum_{\tau'} 1[p_{ref}(\tau') > 0]\, 1[r(\tau') = \max r]}  # ties share equally
      not p_ref(tau)*1[r(tau) = max(r)]  # p_ref not renormalized
    so V(x) = \beta \log \sum_\tau p_{ref}(\tau)\, e^{r(\tau)/\beta}  # And the value:
      value @line_6
    in the limit \mathbb{E}_{p_{ref}}[r] \quad (\beta \to \infty)
        # For large beta e^{r/beta} is nearly 1 + r/beta, and log(1 + E[r]/beta) nearly E[r]/beta: beta cancels, the mean is left.
      along beta 1 1e+06 1e+18
      not 0  # 0, since log Z goes to 0
      not \frac{1}{N} \sum_\tau r(\tau)  # the plain average of the rewards
    so V(x) = \beta \log \sum_\tau p_{ref}(\tau)\, e^{r(\tau)/\beta}  # Once more, the other way:
    in the limit \max r \quad (\beta \to 0)
        # Take e^{max r/beta} out of the log: max r + beta log of a number between p_ref(best) and 1. A soft maximum hardens.
      along beta 1 0.001 1e-100
      not \max r + \log \sum_\tau p_{ref}(\tau)\, 1[r(\tau) = \max r]  # max r plus log p_ref of the best
      not E_{p_ref}[r]  # the mean
    """,
)
