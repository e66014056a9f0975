r"""Chapter 4 as derivations: what the reward and beta do to the soft value V = beta log Z, and its limits. PPO with a pretraining (ptx)
term, term by term.

V is a cumulant-generating function: its slope in the rewards is the optimum p*, its second derivatives are covariances under p*.
So every sensitivity of the optimum is a covariance, with a power of beta before it.

    F(p) = E_p[r] - beta KL(p, p_ref) + gamma E_D[log p],        p = p^o its maximizer, for each prompt;

D is a data distribution, which need not reach every response; gamma its weight.  Each term pulls in its own way, which one sees best
by taking the others away.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import exp

from tabular_rlhf.derivations.chapter4 import full_support
from tabular_rlhf.derivations.record import derivation
from tabular_rlhf.logspace import soft_value
from tabular_rlhf.optimize import monotone_root
from tabular_rlhf.penalties import ptx_optimum
from tabular_rlhf.terms.sizes import reward_units
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

OUYANG = "Ouyang et al. (2022), arXiv:2203.02155 (the objective); Corless et al. (1996) (Wright's omega)."


def gentle(r: Any, beta: float, log_p_ref: Any) -> bool:
    """Full support, and rewards and references that are not extreme beside beta."""
    return full_support(log_p_ref) and bool(np.ptp(r) / beta < 60 and np.max(np.abs(r)) / beta < 100 and np.min(log_p_ref) > -60)


def share(log_p_ptx: Any, beta: float, gamma: float, log_D: Any) -> Any:
    """u = gamma D/(beta p) at p^o."""
    return gamma * exp(log_D - log_p_ptx) / beta


def omega(z: Any) -> Any:
    """Wright's omega: the w with w + log w = z; 0 at z = -inf."""
    from scipy.special import wrightomega

    return np.where(np.isneginf(z), 0.0, wrightomega(np.where(np.isneginf(z), 0.0, z)))


def exponent(log_p_ref: Any, r: Any, beta: float, gamma: float, log_D: Any, lam: Any) -> Any:
    """log(gamma D/(beta p_ref)) + 1 - (r + lambda)/beta."""
    return np.log(gamma / beta) + log_D - log_p_ref + 1.0 - (r + lam[:, None]) / beta


def size_of_ptx(r: Any, beta: float, log_p_ref: Any, gamma: float, log_D: Any, log_p_ptx: Any) -> Any:
    """The size of a term of the stationarity equation, and of u e^u."""
    u = share(log_p_ptx, beta, gamma, log_D)
    return 8 * reward_units(r, beta, log_p_ref, log_p_ref) * (1 + np.max(u)) * (1 + np.max(u * exp(u))) / min(1.0, beta)


derivation(
    slug="ppo-ptx-optimum",
    formerly=("ppo-ptx",),
    title="The optimum of PPO with a pretraining term: three slopes that balance",
    chapter=4,
    rows=("ppo-ptx-optimum",),
    source=OUYANG,
    where=lambda r, beta, log_p_ref, gamma, log_D: (
        gentle(r, beta, log_p_ref) and bool(np.max(share(ptx_optimum(log_p_ref, r, beta, gamma, log_D).log_p, beta, gamma, log_D)) < 20)
    ),
    largest=500,
    scale=size_of_ptx,
    named={
        "line_10": lambda log_p_ref, r, beta, gamma, log_D, lam_ptx: omega(exponent(log_p_ref, r, beta, gamma, log_D, lam_ptx)),
        "lambda_of_the_gibbs_optimum": lambda log_p_ref, r, beta, gamma, log_D, log_Z: omega(
            exponent(log_p_ref, r, beta, gamma, log_D, beta * (1.0 - log_Z))
        ),
    },
    text=r"""
    let p^o = p_ptx; lambda = lam_ptx
    \frac{\partial}{\partial p(\tau)} \sum_{\tau'} \left( p(\tau') r(\tau') - \beta\, p(\tau') \log\frac{p(\tau')}{p_{ref}(\tau')} + \gamma
        D(\tau') \log p(\tau') \right)
        # The slope of the objective in one probability, at a policy p that is nowhere 0: by the gradient core.
    = r(\tau) - \beta \left( \log\frac{p(\tau)}{p_{ref}(\tau)} + p(\tau) \cdot \frac{1}{p(\tau)} \right) + \gamma D(\tau) \cdot
        \frac{1}{p(\tau)}
        # Term by term: the reward is linear in p; the KL term needs the product rule; in the data's term only the log moves.
      slip the term p(tau)*(1/p(tau)) dropped; sign of gamma*D(tau)*(1/p(tau)) flipped; beta for gamma
      not r(tau) - beta*(log(p(tau)/p_ref(tau)) + 1) + gamma*D(tau)*(log(p(tau)) + 1)  # the data's term averaged under p: gamma log D
    = r(\tau) - \beta \log\frac{p(\tau)}{p_{ref}(\tau)} - \beta + \frac{\gamma D(\tau)}{p(\tau)}
        # The pull of a reward is what it is; that of the reference is a logarithm; that of data grows as 1/p: none is forgotten.
      not r(tau) - beta*log(p(tau)/p_ref(tau)) - beta/beta + gamma*D(tau)/p(tau)  # 1 for beta
      not r(tau) - beta*log(p(tau)/p_ref(tau)) - beta + gamma*D(tau)  # 1/p forgotten: data as a bonus gamma D
    so r(\tau) - \beta \log\frac{p^o(\tau)}{p_{ref}(\tau)} - \beta + \frac{\gamma D(\tau)}{p^o(\tau)} + \lambda(x)
        # At the maximizer p^o, with a multiplier lambda(x) for the sum of p being 1.
    = 0  # The slope of the Lagrangian vanishes for every response; p > 0 is never in the way.
      error 1e-11
      not -lambda(x)  # lambda itself: the constraint forgotten
      not gamma*D(tau)/p^o(tau)  # the pull of the data
    so u\, e^u, \quad u = \frac{\gamma D(\tau)}{\beta\, p^o(\tau)}
        # p stands outside and inside a logarithm. To solve for it take the pull of the data, in units of beta, as the unknown u.
    = \frac{\gamma D(\tau)}{\beta\, p^o(\tau)} \cdot \frac{p^o(\tau)}{p_{ref}(\tau)}\, e^{1 - (r(\tau) + \lambda(x))/\beta}
        # Line 5 divided by beta says u = log(p/p_ref) + 1 - (r + lambda)/beta: exponentiate.
      error 1e-11
      slip sign of the exponent flipped; the term 1 dropped
    = \frac{\gamma D(\tau)}{\beta\, p_{ref}(\tau)}\, e^{1 - (r(\tau) + \lambda(x))/\beta}
        # The unknown p cancels: the right side is known but for lambda.
      slip beta dropped
      not u*exp(1 - (r(tau) + lambda(x))/beta)  # p_ref cancelled instead
    so u = \frac{\gamma D(\tau)}{\beta\, p^o(\tau)}  # So u is known too:
    = \omega\!\left( \log\frac{\gamma D(\tau)}{\beta\, p_{ref}(\tau)} + 1 - \frac{r(\tau) + \lambda(x)}{\beta} \right)
        # Wright's omega is the solution of w e^w = e^z, here with u = 0 where D = 0; and lambda(x) is the one root of sum p = 1.
      value @line_10
      error 1e-11
      not \frac{\gamma D(\tau)}{\beta\, p_{ref}(\tau)}\, e^{1 - (r(\tau) + \lambda(x))/\beta}  # the exponential: w forgotten beside e^w
      not @lambda_of_the_gibbs_optimum  # lambda of the Gibbs optimum
    """,
)

# ---------------------------------------------------------------------------------------------------- ppo-ptx-optimum-removed


def without_kl(log_p_ref: Any, r: Any, gamma: float, log_D: Any) -> Any:
    """gamma D/(lambda' - r) with lambda' > max r over the data, or, where that falls short of 1, what is missing on the best."""
    D = exp(log_D)
    top = np.max(r, axis=1, keepdims=True)

    def excess(log_gap: Any) -> tuple[Any, Any]:
        gap = exp(log_gap)[:, None] + (top - r)
        return 1.0 - np.sum(gamma * D / gap, axis=1), np.sum(gamma * D / gap**2, axis=1) * exp(log_gap)

    log_gap = monotone_root(excess, np.full(len(r), -80.0), np.full(len(r), np.log(gamma) + 1e-9), noise=1e-15)
    p = gamma * D / (exp(log_gap)[:, None] + (top - r))
    best = np.where(r == top, exp(log_p_ref), 0.0)
    missing = np.maximum(1.0 - np.sum(p, axis=1, keepdims=True), 0.0)
    return p + missing * best / np.sum(best, axis=1, keepdims=True)


derivation(
    slug="ppo-ptx-optimum-removed",
    formerly=("ppo-ptx-removed",),
    title="What each term of PPO with a pretraining term does: take it away",
    chapter=4,
    rows=("ppo-ptx-optimum",),
    source=OUYANG,
    where=lambda r, beta, log_p_ref: gentle(r, beta, log_p_ref) and beta > 0.01,
    largest=100,
    scale=lambda log_p_ref: 1.0 + np.max(np.abs(log_p_ref)),
    named={
        "without_kl": without_kl,
    },
    text=r"""
    let p^o = p_ptx; p_tilde = p_ptx_far; p_bar = p_ptx_0
    p^o(\tau)  # The maximizer of E_p[r] - beta KL(p, p_ref) + gamma E_D[log p], with all three terms.
    in the limit p^* \quad (\gamma \to 0)  # Without the data's term: the Gibbs optimum.
      along gamma 1 1e-06 1e-250
      slip p_ref for p_star
      not D  # D
    so p^o(\tau)  # The other way: nothing but data.
    in the limit D \quad (\gamma \to \infty)
        # E_D[log p] is largest at p = D, the forward-KL projection; what is not in the data is forgotten.
      error 1e-12
      along gamma 1 1e+06 1e+18
      not (D + p_star)/2  # half of D, half of p*
      not p_star  # p*
    so \tilde p(\tau)  # The maximizer at the KL weight beta/k: less and less of the KL term, k = 1 + t.
    in the limit \frac{\gamma D(\tau)}{\lambda' - r(\tau)}, \text{ and what that lacks of } 1 \text{ on the best response} \quad (k \to
        \infty)
        # Without the KL term the slopes are r + gamma D/p + lambda = 0. Responses outside the data are gone but for the best.
      value @without_kl
      error 1e-07
      along far 1 10000 1e+11
      not \frac{p_{ref}(\tau)\, 1[r(\tau) = \max r]}{\sum_{\tau'} p_{ref}(\tau')\, 1[r(\tau') = \max r]}  # the best response alone
      not \frac{D(\tau)\, e^{(r(\tau) - \max r)/\gamma}}{\sum_{\tau'} D(\tau')\, e^{(r(\tau') - \max r)/\gamma}}
        # the data tilted by e^{r/gamma}
    so \mathrm{KL}(\bar p, p_{ref})  # Without the reward, r = 0: how far is the maximizer then from the reference?
    <= \mathrm{KL}(D, p_{ref})  # No farther than D: D has the larger data term, so p^o, which beats it, has the smaller penalty.
      slip a factor 1/2 too many
      not 0  # 0: it stays at the reference
    so \mathrm{KL}(D, \bar p)  # And how far from the data?
    <= \mathrm{KL}(D, p_{ref})
        # No farther than the reference: it pays no penalty, so p^o, which beats it, fits the data better. A compromise of the two.
      slip a factor 1/2 too many
      not 0  # 0: it is D
    """,
)
