r"""Chapter 7, the steps: PPO's clip away from the behavior policy, the natural gradient, the pretraining term."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tabular_rlhf import gibbs
from tabular_rlhf.autodiff import grad
from tabular_rlhf.ledger.record import Miss, claim
from tabular_rlhf.logspace import expect, log_ratio, log_softmax
from tabular_rlhf.penalties import ptx_optimum
from tabular_rlhf.policy_gradient import Recipe
from tabular_rlhf.policy_gradient.flows import natural, penalty
from tabular_rlhf.policy_gradient.groups import Credit
from tabular_rlhf.policy_gradient.updates import surrogate, update_of
from tabular_rlhf.terms.policies import score_mean, values
from tabular_rlhf.terms.sizes import loudness

# ---------------------------------------------------------------------------------------------------- ppo-clip


def drawn_mass(mdp: Any, mu: Any, log_pi_behavior: Any) -> Any:
    """mu p_old, (P, N)."""
    return mu[:, None] * np.exp(mdp.path_sum(log_pi_behavior))


def credit(mass: Any, f: Any) -> Credit:
    """Advantages f, pushed up and down."""
    return Credit(mass * np.maximum(f, 0.0), mass * np.maximum(-f, 0.0))


def clipped_share(mdp: Any, mass: Any, log_pi: Any, log_old: Any, f: Any, clip: float) -> Any:
    """The expected number of tokens without slope: rho > 1 + clip where A > 0, rho < 1 - clip where A < 0."""
    ratio = np.exp(log_ratio(log_pi, log_old))
    up, down = mdp.subtree_sum(mass * (f > 0)), mdp.subtree_sum(mass * (f < 0))
    return np.sum(up * (ratio > 1.0 + clip) + down * (ratio < 1.0 - clip))


def ppo_by_sweeps(world: Any, mdp: Any, mu: Any, logits: Any, log_pi: Any, log_pi_behavior: Any, f: Any, clip: float) -> Any:
    mass, recipe = drawn_mass(mdp, mu, log_pi_behavior), Recipe("none", "ppo-clip", G=1, clip=clip)
    pushed = credit(mass, f)
    on_policy = credit(drawn_mass(mdp, mu, log_pi), f)
    return (
        surrogate(mdp, pushed, recipe, log_pi, log_old=log_pi_behavior, log_now=log_pi),
        update_of(world, pushed, logits, recipe, log_old=log_pi_behavior),
        clipped_share(mdp, mass, log_pi, log_pi_behavior, f, clip),
        update_of(world, on_policy, logits, recipe),
    )


def smooth_at_clip(log_pi: Any, log_pi_behavior: Any, clip: float) -> Any:
    """No ratio sits on a corner, where a slope is a matter of convention."""
    ratio = np.exp(log_ratio(log_pi, log_pi_behavior))
    return min(float(np.min(np.abs(ratio - edge))) for edge in (1.0 - clip, 1.0 + clip)) > 1e-9


claim(
    slug="ppo-clip",
    chapter=7,
    text=r"""
    let A = f; c = clip
    \mathbb{E}_{x \sim \mu, y \sim \pi_{old}}\Big[\sum_t (\rho_t A(y) - |A(y)|\, K_t(y) \max(\rho_t - 1 - c, 1 - c - \rho_t))\Big] =
        \mathbb{E}_{x \sim \mu, y \sim \pi_{old}}\Big[\sum_t \min(\rho_t A(y), \mathrm{clip}(\rho_t, 1 - c, 1 + c) A(y))\Big], \quad \rho_t
        = \frac{\pi(a_t \mid s_t)}{\pi_{old}(a_t \mid s_t)}, \quad K_t(y) = 1[A(y) > 0] 1[\rho_t > 1 + c] + 1[A(y) < 0] 1[\rho_t < 1 - c]
      slip max for min; clipping omitted
      not \mathbb{E}_{x \sim \mu, y \sim \pi_{old}}[\sum_t \mathrm{clip}(\rho_t, 1 - c, 1 + c) A(y)]  # clipped on both sides, no min
      not \mathbb{E}_{x \sim \mu, y \sim \pi_{old}}[|y| \min(R A(y), \mathrm{clip}(R, 1 - c, 1 + c) A(y))], \quad R =
        \frac{p(y)}{p_{old}(y)}
        # per-sequence for per-token ratio
    \nabla\, \mathbb{E}_{x \sim \mu, y \sim \pi_{old}}\Big[\sum_t \min(\rho_t A(y), \mathrm{clip}(\rho_t, 1 - c, 1 + c) A(y))\Big] =
        \mathbb{E}_{x \sim \mu, y \sim \pi_{old}}\Big[\sum_t (1 - K_t(y)) \rho_t A(y)\, \nabla \log \pi(a_t \mid s_t)\Big]
      slip 1 - K(t, tau) dropped
      not \nabla \mathbb{E}[A]  # the policy gradient, at pi_old only
    \mathbb{E}_{x \sim \mu, y \sim \pi_{old}}\Big[\sum_t 1[\rho_t A(y) > \mathrm{clip}(\rho_t, 1 - c, 1 + c) A(y)]\Big] = \mathbb{E}_{x \sim
        \mu, y \sim \pi_{old}}\Big[\sum_t K_t(y)\Big]
    \mathbb{E}[A\, \mathrm{score}] = \nabla\, \mathbb{E}[A]
        # a token that K names has no slope; at pi = pi_old none is, and the step is the policy gradient
    """,
    source="Schulman et al. (2017), arXiv:1707.06347.",
    parts=("surrogate", "gradient", "tokens clipped", "gradient at pi_old"),
    sides={"credit swept up the tree, gradient core": ppo_by_sweeps, "token by token": 1, "by the min": 0},
    where=lambda log_pi, log_pi_behavior, clip, log_p_ref: (
        not np.isneginf(log_p_ref).any() and smooth_at_clip(log_pi, log_pi_behavior, clip)
    ),
    scale=lambda f, H, log_pi, log_pi_behavior: (
        (1.0 + np.max(np.abs(f))) * H**2 * np.exp(np.max(np.abs(log_ratio(log_pi, log_pi_behavior))))
    ),
    largest=300,
)

# ---------------------------------------------------------------------------------------------------- natural-gradient


def soft_step(mdp: Any, log_pi: Any, log_pi_ref: Any, r: Any, beta: float, eta: float) -> Any:
    """pi^(1 - eta beta) (pi_ref exp(Q/beta))^(eta beta), normalized: Q the soft values of pi, after the token's own penalty."""
    Q = values(mdp, log_pi, r, -beta * log_ratio(log_pi, log_pi_ref))[1] + beta * log_ratio(log_pi, log_pi_ref)
    tilt = np.where(np.isneginf(log_pi), 0.0, log_pi_ref) + Q / beta
    return log_softmax((1.0 - eta * beta) * log_pi + eta * beta * tilt)


def natural_step(world: Any, log_pi: Any, eta: float) -> Any:
    return log_softmax(log_pi + eta * natural(world, lambda t: gibbs.policy_gradient(world, t))(log_pi))


def walk(step: Any, start: Any, H: int) -> Any:
    """H steps from a policy."""
    for _ in range(H):
        start = step(start)
    return start


def by_fisher_inverse(world: Any, mdp: Any, mu: Any, d_pi: Any, log_pi: Any, eta: float) -> Any:
    """The step with the Fisher matrix of each state inverted numerically: mu d_pi (diag pi - pi pi^T)."""
    pi, U = np.exp(log_pi), gibbs.policy_gradient(world, log_pi)
    F = (mu[:, None] * d_pi)[..., None, None] * (pi[..., None] * np.eye(mdp.V) - pi[..., None] * pi[..., None, :])
    return log_softmax(log_pi + eta * np.einsum("xsab,xsb->xsa", np.linalg.pinv(F, rcond=1e-12, hermitian=True), U))


def probabilities(log_pi: Any, mdp: Any) -> Any:
    return np.exp(mdp.path_sum(log_pi))


claim(
    slug="natural-gradient",
    chapter=7,
    text=r"""
    \frac{\pi(a \mid s)^{1 - \eta\beta} (\pi_{ref}(a \mid s)\, e^{Q(s, a)/\beta})^{\eta\beta}}{\sum_a \pi(a \mid s)^{1 - \eta\beta}
        (\pi_{ref}(a \mid s)\, e^{Q(s, a)/\beta})^{\eta\beta}} = \frac{\pi(a \mid s)\, w(s, a)}{\sum_a \pi(a \mid s)\, w(s, a)}, \quad w(s,
        a) = e^{\eta (Q(s, a) - \beta \log(\pi(a \mid s)/\pi_{ref}(a \mid s)))}, \quad Q(s, a) = \mathbb{E}_p[r - \beta k_1 \mid s, a] +
        \beta \log\frac{p(s + a)}{p_{ref}(s + a)}
      slip the term beta*k_1 dropped; sign of the exponent flipped
      not \frac{\pi(a \mid s)\, w(s, a)^{1/\beta}}{\sum_a \pi(a \mid s)\, w(s, a)^{1/\beta}}  # eta for eta beta
      not \frac{\pi(a \mid s)\, u(s, a)}{\sum_a \pi(a \mid s)\, u(s, a)}, \quad u(s, a) = e^{\eta (\mathbb{E}_p[r - \beta \log p \mid s, a]
        + \beta \log p(s + a) - \beta \log \pi(a \mid s))}
        # p_ref omitted
    \frac{\pi(a \mid s)\, e^{(Q(s, a) - \beta \log(\pi(a \mid s)/\pi_{ref}(a \mid s)))/\beta}}{\sum_a \pi(a \mid s)\, e^{(Q(s, a) - \beta
        \log(\pi(a \mid s)/\pi_{ref}(a \mid s)))/\beta}} = \frac{\pi_{ref}(a \mid s)\, e^{Q(s, a)/\beta}}{\sum_a \pi_{ref}(a \mid s)\,
        e^{Q(s, a)/\beta}}
        # a step of eta; one of 1/beta is soft policy iteration, exact level by level: p* after H of them
    """,
    source="Kakade (2001); Cen et al. (2022), arXiv:2007.06558.",
    note="Q is the soft value of what follows.",
    parts=("one step", "H steps of 1/beta"),
    sides={
        "exponentiated Q": (1, lambda p_star: p_star),
        "gradient over visits": lambda world, mdp, log_pi, eta, beta, H: (
            np.exp(natural_step(world, log_pi, eta)),
            probabilities(walk(lambda at: natural_step(world, at, 1.0 / beta), log_pi, H), mdp),
        ),
        "Fisher matrix inverted": lambda world, mdp, mu, d_pi, log_pi, log_pi_ref, r, eta, beta, H: (
            np.exp(by_fisher_inverse(world, mdp, mu, d_pi, log_pi, eta)),
            probabilities(walk(lambda at: soft_step(mdp, at, log_pi_ref, r, beta, 1.0 / beta), log_pi, H), mdp),
        ),
    },
    misses={
        "the plain gradient": lambda world, log_pi, eta: np.exp(log_softmax(log_pi + eta * gibbs.policy_gradient(world, log_pi))),
        "H - 1 steps for H": Miss(
            lambda mdp, log_pi, log_pi_ref, r, beta, H: probabilities(
                walk(lambda at: soft_step(mdp, at, log_pi_ref, r, beta, 1.0 / beta), log_pi, H - 1), mdp
            ),
            part=1,
        ),
    },
    where=lambda log_p, log_p_ref, log_p_star, mu, r, beta: (
        np.isfinite(log_p_ref).all() and min(mu) > 1e-3 and np.min(log_p) > -12 and np.min(log_p_star) > -12 and np.ptp(r) < 6 * beta
    ),
    scale=lambda mu, log_p, log_p_star, log_p_ref, r, beta, H: (
        loudness(r, beta, log_p, log_p_ref, H) / beta * np.exp(-min(np.min(log_p), np.min(log_p_star))) / np.min(mu)
    ),
    largest=100,
)

# ---------------------------------------------------------------------------------------------------- ppo-ptx-gradient


def ptx_closed(world: Any, mdp: Any, mu: Any, logits: Any, log_pi: Any, gamma: float, log_D: Any) -> Any:
    """grad J and gamma times what D says in every state less what pi says there, as often as D comes there."""
    said = mdp.subtree_sum(mu[:, None] * np.exp(log_D))
    return gibbs.policy_gradient(world, logits) + gamma * (said - np.exp(log_pi) * np.sum(said, axis=-1, keepdims=True))


def ptx_by_draws(world: Any, mdp: Any, mu: Any, log_p: Any, logits: Any, r: Any, gamma: float, log_D: Any) -> Any:
    """The reward's part by the score function, the penalty and ptx as `flows` has them."""
    rest = grad(lambda t: penalty(world, log_softmax(t), gamma=gamma, log_d=log_D))(logits)
    return score_mean(mdp, mu, log_p, logits, r) + rest


def fixed_point(mdp: Any, log_p_ref: Any, r: Any, beta: float, gamma: float, log_D: Any) -> Any:
    """The policy of the closed-form optimum."""
    through = mdp.subtree_sum(np.exp(ptx_optimum(log_p_ref, r, beta, gamma, log_D).log_p))
    return np.log(through / np.sum(through, axis=-1, keepdims=True))


def ptx_slope(world: Any, mdp: Any, mu: Any, log_p_ref: Any, r: Any, beta: float, gamma: float, log_D: Any) -> Any:
    """The gradient at the optimum by the gradient core."""

    def total(t: Any) -> Any:
        log_p = mdp.path_sum(log_softmax(t))
        return gibbs.objective(log_p, log_p_ref, r, beta, mu) + gamma * np.sum(mu * expect(log_D, log_p))

    return grad(total)(fixed_point(mdp, log_p_ref, r, beta, gamma, log_D))


claim(
    slug="ppo-ptx-gradient",
    formerly=("ppo-ptx",),
    chapter=7,
    text=r"""
    \nabla\, \mathbb{E}_{x \sim \mu}[J_x(p)] + \gamma\, \nabla\, \mathbb{E}_{x \sim \mu, y \sim D}[\log p(y)] = \mathbb{E}\Big[\Big(r -
        \beta \log\frac{p}{p_{ref}}\Big)\, \mathrm{score}\Big] + \gamma\, \mathbb{E}_{x \sim \mu, y \sim D}[\mathrm{score}]
        # and it is 0 at the law of ppo-ptx-optimum
      slip gamma dropped; the term gamma*E_{x ~ mu, tau ~ D}[score] dropped; sign of gamma*E_{x ~ mu, tau ~ D}[score] flipped
      not \mathbb{E}[(r - \beta k_1)\, \mathrm{score}] + \gamma\, \mathbb{E}_{x \sim \mu, y \sim p_{ref}}[\mathrm{score}]
        # draws of p_ref for data
    """,
    source="Ouyang et al. (2022), arXiv:2203.02155.",
    parts=("gradient", "at the optimum"),
    sides={
        "closed form": lambda world, mdp, mu, logits, log_pi, gamma, log_D: (
            ptx_closed(world, mdp, mu, logits, log_pi, gamma, log_D),
            np.zeros_like(logits),
        ),
        "gradient core": (0, ptx_slope),
        "score function": lambda world, mdp, mu, log_p, logits, log_p_ref, r, beta, gamma, log_D: (
            ptx_by_draws(world, mdp, mu, log_p, logits, r, gamma, log_D),
            ptx_closed(world, mdp, mu, *(fixed_point(mdp, log_p_ref, r, beta, gamma, log_D),) * 2, gamma, log_D),
        ),
    },
    misses={
        "at p*, which forgets the data": Miss(
            lambda world, mdp, mu, log_pi_star, gamma, log_D: ptx_closed(world, mdp, mu, log_pi_star, log_pi_star, gamma, log_D), part=1
        )
    },
    where=lambda log_p_ref, log_p_star: np.isfinite(log_p_ref).all() and np.min(log_p_star) > -200,
    scale=lambda r, beta, log_p, log_p_ref, log_p_star, gamma, H: (
        loudness(r, beta, log_p, log_p_ref, H) + gamma * H,
        # r - beta log(p/p_ref) cancels at the optimum, where log p is as large as that of p*
        math.fsum([loudness(r, beta, log_p_star, log_p_ref, H), gamma * H]) * 16,
    ),
    largest=2000,
)
