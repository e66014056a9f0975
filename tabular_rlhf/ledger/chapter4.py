r"""Chapter 4: KL-regularized RL.  The Gibbs optimum, its value, its token-level form, its limits and its relatives."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf import gibbs
from tabular_rlhf.autodiff import grad
from tabular_rlhf.ledger.record import Sampled, claim
from tabular_rlhf.logspace import expect, kl, log_ratio, log_softmax
from tabular_rlhf.policy import NGram
from tabular_rlhf.terms.sizes import reward_units
from tabular_rlhf.terms.sources import KORBAK

# ---------------------------------------------------------------------------------------------------- gibbs-optimum


def gradient_at_optimum(world: Any, log_pi_star: Any) -> Any:
    """grad J in tabular logits at pi*, by the gradient core."""
    return grad(lambda logits: gibbs.policy_objective(world, log_softmax(logits)))(log_pi_star)


def optimum_objective(log_p_star: Any, log_p_ref: Any, r: Any, beta: float, mu: Any) -> Any:
    return gibbs.objective(log_p_star, log_p_ref, r, beta, mu)


def per_state_greedy(mdp: Any, log_pi_ref: Any, r: Any) -> Any:
    """A policy that takes the best continuation in every state: the soft maximum replaced by a hard one."""
    levels = mdp.levels(log_pi_ref)
    V, Q = mdp.backup(r, lambda h, Q: np.max(np.where(np.isneginf(levels[h]), -np.inf, Q), axis=1))
    best = (Q == V[..., None]) & ~np.isneginf(log_pi_ref)
    with np.errstate(divide="ignore"):
        return mdp.path_sum(np.log(best / np.sum(best, axis=-1, keepdims=True)))


claim(
    slug="gibbs-optimum",
    chapter=4,
    text=r"""
    let gibbs(z) = p_ref*exp(z)/sum_tau p_ref*exp(z)
    p^* = \frac{p_{ref}\, e^{r/\beta}}{Z}
      slip Z dropped
      not exp(r/beta)/sum_tau exp(r/beta)  # p_ref omitted: softmax of r alone
      not gibbs(r/beta^2)  # beta squared
      not gibbs(beta*r)  # beta for 1/beta
      not gibbs(r)  # beta dropped
      not gibbs(-r/beta)  # sign flipped
      not p_ref*exp(r/beta)/sum_x Z(x)  # normalized over all prompts together
      not gibbs(r*log(2)/beta)  # log base 2
    \nabla\, \mathbb{E}_{x \sim \mu}[J_x(p)] = -\beta\, \nabla\, \mathbb{E}_{x \sim \mu}[\mathrm{KL}(p, p^*)]
    \mathbb{E}_{x \sim \mu}[J_x(p)] \le \mathbb{E}_{x \sim \mu}[J_x(p^*)]
        # for every policy: the first law is the optimum, and the slope vanishes there
      not E_mu[E_{p_star}[r] + beta*KL(p_star, p_ref)]  # + KL for - KL
    """,
    source=KORBAK,
    note="Part 2: the gradient of J in tabular logits vanishes at p*.  Part 3: no drawn policy does better.",
    parts=("p*", "gradient of J there", "max J"),
    sides={
        "closed form": (0, lambda logits: np.zeros_like(logits), 1),
        "tilt, gradient core, a rival": (1, gradient_at_optimum, r"\max(\mathbb{E}_\mu[J_x(p)], \mathbb{E}_\mu[J_x(p^*)])"),
        "soft recursion": (
            lambda mdp, log_pi_star: np.exp(mdp.path_sum(log_pi_star)),
            lambda logits: np.zeros_like(logits),
            optimum_objective,
        ),
        "mirror ascent with eta = 1/beta": (
            lambda log_p, log_p_ref, r, beta: np.exp(gibbs.mirror_step(log_p, log_p_ref, r, beta, 1.0 / beta)),
            lambda logits: np.zeros_like(logits),
            optimum_objective,
        ),
    },
    misses={"per-state greedy for soft": lambda mdp, log_pi_ref, r: np.exp(per_state_greedy(mdp, log_pi_ref, r))},
    scale=lambda r, beta, log_p_star, log_p_ref: (
        1.0,
        reward_units(r, beta, log_p_star, log_p_ref),
        reward_units(r, beta, log_p_star, log_p_ref),
    ),
)

# ---------------------------------------------------------------------------------------------------- lagrange-multiplier


def lagrangian_slope(log_p_star: Any, log_p_ref: Any, r: Any, beta: float, mu: Any) -> Any:
    """d/dp of E_p[r] - beta KL(p, p_ref) at p*, by the gradient core, on the support; 0 elsewhere."""
    on = ~np.isneginf(log_p_ref) & (np.exp(log_p_star) > 0)

    def inner(p: Any) -> Any:
        log_p = np.log(np.where(on, p, 1.0))
        return np.sum(p * np.where(on, r - beta * (log_p - np.where(on, log_p_ref, 0.0)), 0.0))

    return np.where(on, grad(inner)(np.exp(log_p_star)), np.nan)


def multiplier_by_slope(log_p_star: Any, log_p_ref: Any, r: Any, beta: float, mu: Any) -> Any:
    """lam from the heaviest response, and what remains of the stationarity equation at all others."""
    slope = lagrangian_slope(log_p_star, log_p_ref, r, beta, mu)
    lam = -np.take_along_axis(slope, np.argmax(log_p_star, axis=1)[:, None], axis=1)
    return lam[:, 0], np.where(np.isnan(slope), 0.0, slope + lam)


claim(
    slug="lagrange-multiplier",
    chapter=4,
    text=r"""
    \lambda^* = \beta\, (1 - \log Z) = \beta - V(x)
      slip arguments of the difference swapped; the term beta dropped
      not 1 - log(Z)  # beta dropped: 1 - log Z
      not beta*(1 - log(Z)/log(2))  # log base 2
    \frac{\partial}{\partial p^*(\tau)} \Big(\sum_\tau p^*(\tau) (r(\tau) - \beta \log\frac{p^*(\tau)}{p_{ref}(\tau)})\Big) + \lambda^* = r
        - \beta \log\frac{p^*}{p_{ref}} - \beta + \lambda^* = 0
    1[\log p^* = -\infty] = 1[\log p_{ref} = -\infty]  # so that no probability is at the edge that was not there before
    """,
    source="Lagrange; for beta = 1, lam* = 1 - log Z.  The constraint p >= 0 is inactive: p* > 0 exactly where p_ref > 0.",
    parts=("lam*", "stationarity on the support", "support"),
    sides={
        "closed form": (1, 2, 1),
        "gradient core": lambda log_p_star, log_p_ref, r, beta, mu: (
            *multiplier_by_slope(log_p_star, log_p_ref, r, beta, mu),
            np.isneginf(log_p_star).astype(float),
        ),
    },
    scale=lambda r, beta, log_p_star, log_p_ref: reward_units(r, beta, log_p_star, log_p_ref),
)

# ---------------------------------------------------------------------------------------------------- optimal-value

claim(
    slug="optimal-value",
    chapter=4,
    text=r"""
    \mathbb{E}_{x \sim \mu}[J_x(p^*)] = \beta\, \mathbb{E}_{x \sim \mu}[\log Z(x)]  # is the largest J
      slip beta dropped; sign flipped
      not E_mu[log Z]/beta  # 1/beta for beta
      not beta*log(E_mu[Z])  # normalized over all prompts together: log E Z
      not beta*E_mu[log Z]/log 2  # log base 2
      not beta*E_mu[log(sum_tau exp(r/beta))]  # p_ref omitted: log sum exp
    """,
    source=KORBAK,
    sides={
        "beta E log Z": 1,
        "J at p*": 0,
        "J at p*, in logarithms": optimum_objective,
        "soft Bellman at the root": lambda mu, V_soft: np.sum(mu * V_soft[:, 0]),
    },
    sampled=Sampled(
        "log_p_ref",
        lambda r, beta: np.exp((r - np.max(r)) / beta),
        lambda mu, r, beta, value: np.sum(mu * np.exp((value - np.max(r)) / beta)),
    ),
    scale=lambda r, beta, log_p_star, log_p_ref: reward_units(r, beta, log_p_star, log_p_ref),
)

# ---------------------------------------------------------------------------------------------------- regret-is-kl

claim(
    slug="regret-is-kl",
    chapter=4,
    text=r"""
    \beta \log Z - J_x(p) = \beta\, \mathrm{KL}(p, p^*)
      slip beta dropped; arguments of KL swapped; p_ref for p_star; sign flipped; beta squared
      not KL(p, p_star)/beta  # 1/beta for beta
      not -J_x  # log Z omitted
      not beta*log Z - (E_p[r] + beta*KL(p, p_ref))  # + KL for - KL in the objective
    """,
    source=KORBAK,
    parts=("for each prompt",),
    sides={
        "value given away": 0,
        "KL to the optimum": 1,
        "in logarithms": lambda beta, log_p, log_p_star: beta * kl(log_p, log_p_star),
    },
    sampled=Sampled(
        "log_p", lambda beta, log_p, log_p_star: beta * log_ratio(log_p, log_p_star), lambda mu, value, J_x: np.sum(mu * (value - J_x))
    ),
    scale=lambda r, beta, log_p, log_p_ref: reward_units(r, beta, log_p, log_p_ref),
)

# ---------------------------------------------------------------------------------------------------- reverse-kl-projection


def tied_logits(mdp: Any) -> Any:
    """Parameters of a bigram policy: a class that cannot hold p*."""
    tied = NGram(mdp, 1)
    theta = np.arange(np.prod(tied.shape), dtype=float).reshape(tied.shape)
    return tied, np.mod(theta, 5.0) / 4.0 - 0.5


def gradient_of_minus_J(world: Any, mdp: Any) -> Any:
    tied, theta = tied_logits(mdp)
    return grad(lambda t: -gibbs.policy_objective(world, tied.log_pi(t)))(theta)


def gradient_of_kl(mdp: Any, mu: Any, beta: float, log_p_star: Any, forward: bool = False) -> Any:
    tied, theta = tied_logits(mdp)

    def reverse(t: Any) -> Any:
        log_p = mdp.path_sum(tied.log_pi(t))
        gap = expect(log_p_star, log_p_star - log_p) if forward else kl(log_p, log_p_star)
        return beta * np.sum(mu * gap)

    return grad(reverse)(theta)


def sweep_gradient_of_minus_J(world: Any, mdp: Any) -> Any:
    """The closed-form tabular gradient, summed over the states that share a row."""
    tied, theta = tied_logits(mdp)
    tabular = -gibbs.policy_gradient(world, np.array(tied.log_pi(theta)))
    out = np.zeros_like(theta)
    np.add.at(out, tied.context, np.sum(tabular, axis=0))
    return out


def gradient_at_frozen_visits(mdp: Any, mu: Any, beta: float, log_pi_star: Any, d_ref: Any) -> Any:
    tied, theta = tied_logits(mdp)
    return grad(lambda t: beta * np.sum(mu[:, None] * d_ref * kl(tied.log_pi(t), log_pi_star)))(theta)


claim(
    slug="reverse-kl-projection",
    chapter=4,
    text=r"""
    \beta\, \mathrm{KL}(p_\theta, p^*) = V(x) - J_x(p_\theta)
    \beta\, \nabla_\theta\, \mathbb{E}_{x \sim \mu}[\mathrm{KL}(p_\theta, p^*)] = -\nabla_\theta\, \mathbb{E}_{x \sim \mu}[J_x(p_\theta)]
        # in any policy class: the best of a class is the one nearest to the optimum
    """,
    source=KORBAK,
    note="Checked in a bigram class, whose best policy is not p*.",
    sides={
        "gradient of -J, by the core": gradient_of_minus_J,
        "gradient of beta KL(p, p*), by the core": gradient_of_kl,
        "backward sweep, summed over ties": sweep_gradient_of_minus_J,
    },
    misses={
        "forward for reverse KL": lambda mdp, mu, beta, log_p_star: gradient_of_kl(mdp, mu, beta, log_p_star, True),
        "beta dropped": lambda mdp, mu, log_p_star: gradient_of_kl(mdp, mu, 1.0, log_p_star),
        "sign flipped": lambda world, mdp: -gradient_of_minus_J(world, mdp),
        "d_ref for d_pi: visits frozen at the reference": gradient_at_frozen_visits,
    },
    where=lambda log_p_ref: not np.isneginf(log_p_ref).any(),
    scale=lambda mdp, r, beta, log_p_star, log_p_ref: reward_units(r, beta, log_p_star, log_p_ref) * (1 + mdp.H),
)
