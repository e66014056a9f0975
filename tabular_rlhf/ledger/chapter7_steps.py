r"""Chapter 7, the steps: PPO's clip away from the behavior policy, the natural gradient, the pretraining term."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tabular_rlhf import gibbs
from tabular_rlhf.autodiff import grad
from tabular_rlhf.ledger.chapter7 import loudness, score_mean, values
from tabular_rlhf.ledger.record import Miss, Row, add
from tabular_rlhf.logspace import expect, log_ratio, log_softmax
from tabular_rlhf.penalties import ptx_optimum
from tabular_rlhf.policy_gradient import Recipe
from tabular_rlhf.policy_gradient.flows import natural, penalty
from tabular_rlhf.policy_gradient.groups import Credit
from tabular_rlhf.policy_gradient.updates import paths, surrogate, true_gradient, update_of

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


def ppo_by_tokens(world: Any, mdp: Any, mu: Any, log_pi: Any, log_pi_behavior: Any, f: Any, clip: float) -> Any:
    """Token by token of every response: the value by cases, the slope rho A where nothing is clipped."""
    path, mass = paths(mdp), drawn_mass(mdp, mu, log_pi_behavior)
    ratio = np.exp(log_ratio(log_pi, log_pi_behavior))[:, None]
    A = f[..., None, None]
    free = np.where(A > 0, ratio <= 1.0 + clip, ratio >= 1.0 - clip)
    edge = np.where(A > 0, 1.0 + clip, 1.0 - clip)
    weight = mass[..., None, None] * path
    own = np.sum(weight * free * ratio * A, axis=1)
    slope = own - np.exp(log_pi) * np.sum(own, axis=-1, keepdims=True)
    value = np.sum(weight * np.where(free, ratio, edge) * A)
    return value, slope, np.sum(weight * ~free * (A != 0)), true_gradient(world, log_pi, f)


def clipped_wrongly(mdp: Any, mu: Any, log_pi: Any, log_pi_behavior: Any, f: Any, clip: float, how: str) -> Any:
    """The surrogate's value with one line of it changed."""
    path, mass = paths(mdp), drawn_mass(mdp, mu, log_pi_behavior)
    gap = np.broadcast_to(log_ratio(log_pi, log_pi_behavior)[:, None], (*mass.shape, *path.shape[1:]))
    if how == "sequence":
        gap = np.broadcast_to(np.sum(path * gap, axis=(2, 3), keepdims=True), gap.shape)
    ratio, A = np.exp(gap), f[..., None, None]
    held = np.clip(ratio, 1.0 - clip, 1.0 + clip)
    inner = {"max": np.maximum(ratio * A, held * A), "clip": held * A, "free": ratio * A, "sequence": np.minimum(ratio * A, held * A)}[how]
    return np.sum(mass[..., None, None] * path * inner)


def smooth_at_clip(log_pi: Any, log_pi_behavior: Any, clip: float) -> Any:
    """No ratio sits on a corner, where a slope is a matter of convention."""
    ratio = np.exp(log_ratio(log_pi, log_pi_behavior))
    return min(float(np.min(np.abs(ratio - edge))) for edge in (1.0 - clip, 1.0 + clip)) > 1e-9


PPO_MISSES = {
    "max for min": "max",
    "clipped on both sides, no min": "clip",
    "not clipped": "free",
    "per-sequence for per-token ratio": "sequence",
}

add(
    Row(
        slug="ppo-clip",
        chapter=7,
        statement=(
            r"\mathbb{E}_{old} \sum_t \min(\rho_t A, \mathrm{clip}(\rho_t, 1 - c, 1 + c) A): \quad "
            r"\nabla = \mathbb{E}_{old} \sum_t \rho_t A\, 1\{\text{not clipped}\}\, \mathrm{score}_t, \qquad "
            r"\nabla = \mathbb{E}[A\, \mathrm{score}] \text{ at } \pi = \pi_{old}"
        ),
        source="Schulman et al. (2017), arXiv:1707.06347.",
        parts=("surrogate", "gradient", "tokens clipped", "gradient at pi_old"),
        sides={"credit swept up the tree, gradient core": ppo_by_sweeps, "token by token": ppo_by_tokens},
        misses={
            **{
                diagnosis: (
                    lambda mdp, mu, log_pi, log_pi_behavior, f, clip, how=how: clipped_wrongly(
                        mdp, mu, log_pi, log_pi_behavior, f, clip, how
                    )
                )
                for diagnosis, how in PPO_MISSES.items()
            },
            "slopes kept where clipped": Miss(
                "slopes kept where clipped",
                lambda world, mdp, mu, logits, log_pi_behavior, f: update_of(
                    world, credit(drawn_mass(mdp, mu, log_pi_behavior), f), logits, Recipe("none", "ratio", G=1), log_old=log_pi_behavior
                ),
                part=1,
            ),
            "the policy gradient, at pi_old only": Miss(
                "the policy gradient, at pi_old only", lambda world, log_pi, f: true_gradient(world, log_pi, f), part=1
            ),
        },
        where=lambda log_pi, log_pi_behavior, clip, log_p_ref: (
            not np.isneginf(log_p_ref).any() and smooth_at_clip(log_pi, log_pi_behavior, clip)
        ),
        scale=lambda f, H, log_pi, log_pi_behavior: (
            (1.0 + np.max(np.abs(f))) * H**2 * np.exp(np.max(np.abs(log_ratio(log_pi, log_pi_behavior))))
        ),
        largest=300,
    )
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


add(
    Row(
        slug="natural-gradient",
        chapter=7,
        statement=(
            r"\pi' \propto \pi\, e^{\eta (Q - \beta \log(\pi/\pi_{ref}))} = \pi^{1 - \eta\beta} (\pi_{ref}\, e^{Q/\beta})^{\eta\beta}, "
            r"\eta = 1/\beta:\ p^* \text{ after } H \text{ steps}"
        ),
        source="Kakade (2001); Cen et al. (2022), arXiv:2007.06558.",
        note="Q is the soft value of what follows.  With eta = 1/beta a step is soft policy iteration, exact level by level.",
        parts=("one step", "H steps of 1/beta"),
        sides={
            "exponentiated Q": lambda mdp, log_pi, log_pi_ref, r, beta, eta, p_star: (
                np.exp(soft_step(mdp, log_pi, log_pi_ref, r, beta, eta)),
                p_star,
            ),
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
            "Q without the penalty": lambda mdp, log_pi, r, eta: np.exp(log_softmax(log_pi + eta * values(mdp, log_pi, r)[1])),
            "eta for eta beta": lambda mdp, log_pi, log_pi_ref, r, beta, eta: np.exp(
                soft_step(mdp, log_pi, log_pi_ref, r, beta, eta / beta)
            ),
            "sign flipped": lambda mdp, log_pi, log_pi_ref, r, beta, eta: np.exp(soft_step(mdp, log_pi, log_pi_ref, r, beta, -eta)),
            "p_ref omitted": lambda mdp, log_pi, r, beta, eta: np.exp(soft_step(mdp, log_pi, np.zeros_like(log_pi), r, beta, eta)),
            "H - 1 steps for H": Miss(
                "H - 1 steps for H",
                lambda mdp, log_pi, log_pi_ref, r, beta, H: probabilities(
                    walk(lambda at: soft_step(mdp, at, log_pi_ref, r, beta, 1.0 / beta), log_pi, H - 1), mdp
                ),
                part=1,
            ),
        },
        # dividing by a visit divides the rounding of the sum it came from; the bound keeps both in range
        where=lambda log_p, log_p_ref, log_p_star, mu, r, beta: (
            np.isfinite(log_p_ref).all() and min(mu) > 1e-3 and np.min(log_p) > -12 and np.min(log_p_star) > -12 and np.ptp(r) < 6 * beta
        ),
        scale=lambda mu, log_p, log_p_star, log_p_ref, r, beta, H: (
            loudness(r, beta, log_p, log_p_ref, H) / beta * np.exp(-min(np.min(log_p), np.min(log_p_star))) / np.min(mu)
        ),
        largest=100,
    )
)

# ---------------------------------------------------------------------------------------------------- ppo-ptx-gradient


def ptx_closed(world: Any, mdp: Any, mu: Any, logits: Any, log_pi: Any, gamma: float, log_D: Any) -> Any:
    """grad J and gamma times what D says in every state less what pi says there, as often as D comes there."""
    said = mdp.subtree_sum(mu[:, None] * np.exp(log_D))
    return gibbs.policy_gradient(world, logits) + gamma * (said - np.exp(log_pi) * np.sum(said, axis=-1, keepdims=True))


def ptx_core(world: Any, mdp: Any, mu: Any, logits: Any, gamma: float, log_D: Any) -> Any:
    def total(t: Any) -> Any:
        log_p = mdp.path_sum(log_softmax(t))
        return gibbs.objective(log_p, world.log_p_ref, world.r, world.beta, mu) + gamma * np.sum(mu * expect(log_D, log_p))

    return grad(total)(logits)


def ptx_by_draws(world: Any, mdp: Any, mu: Any, log_p: Any, logits: Any, r: Any, gamma: float, log_D: Any) -> Any:
    """The reward's part by the score function, the penalty and ptx as `flows` has them."""
    rest = grad(lambda t: penalty(world, log_softmax(t), gamma=gamma, log_d=log_D))(logits)
    return score_mean(mdp, mu, log_p, logits, r) + rest


def fixed_point(mdp: Any, log_p_ref: Any, r: Any, beta: float, gamma: float, log_D: Any) -> Any:
    """The policy of the closed-form optimum."""
    through = mdp.subtree_sum(np.exp(ptx_optimum(log_p_ref, r, beta, gamma, log_D).log_p))
    return np.log(through / np.sum(through, axis=-1, keepdims=True))


def ptx_slope(world: Any, mdp: Any, mu: Any, log_p_ref: Any, r: Any, beta: float, gamma: float, log_D: Any, how: Any) -> Any:
    at = fixed_point(mdp, log_p_ref, r, beta, gamma, log_D)
    return how(world, mdp, mu, at, gamma, log_D)


add(
    Row(
        slug="ppo-ptx-gradient",
        formerly=("ppo-ptx",),
        chapter=7,
        statement=(
            r"\nabla\, \mathbb{E}_\pi\Big[r - \beta \log\frac{p_\pi}{p_{ref}}\Big] + \gamma \nabla\, \mathbb{E}_D[\log p_\pi] = 0 "
            r"\ \text{ at } \ \texttt{ppo-ptx-optimum}"
        ),
        source="Ouyang et al. (2022), arXiv:2203.02155.",
        parts=("gradient", "at the optimum"),
        sides={
            "closed form": lambda world, mdp, mu, logits, log_pi, gamma, log_D: (
                ptx_closed(world, mdp, mu, logits, log_pi, gamma, log_D),
                np.zeros_like(logits),
            ),
            "gradient core": lambda world, mdp, mu, logits, log_p_ref, r, beta, gamma, log_D: (
                ptx_core(world, mdp, mu, logits, gamma, log_D),
                ptx_slope(world, mdp, mu, log_p_ref, r, beta, gamma, log_D, ptx_core),
            ),
            "score function": lambda world, mdp, mu, log_p, logits, log_p_ref, r, beta, gamma, log_D: (
                ptx_by_draws(world, mdp, mu, log_p, logits, r, gamma, log_D),
                ptx_slope(world, mdp, mu, log_p_ref, r, beta, gamma, log_D, lambda w, m, q, at, c, D: ptx_closed(w, m, q, at, at, c, D)),
            ),
        },
        misses={
            "gamma dropped": lambda world, mdp, mu, logits, log_pi, log_D: ptx_closed(world, mdp, mu, logits, log_pi, 1.0, log_D),
            "ptx forgotten": lambda world, logits: gibbs.policy_gradient(world, logits),
            "sign flipped": lambda world, mdp, mu, logits, log_pi, gamma, log_D: ptx_closed(world, mdp, mu, logits, log_pi, -gamma, log_D),
            "draws of p_ref for data": lambda world, mdp, mu, logits, log_pi, gamma, log_p_ref: ptx_closed(
                world, mdp, mu, logits, log_pi, gamma, log_p_ref
            ),
            "at p*, which forgets the data": Miss(
                "at p*, which forgets the data",
                lambda world, mdp, mu, log_pi_star, gamma, log_D: ptx_closed(world, mdp, mu, log_pi_star, log_pi_star, gamma, log_D),
                part=1,
            ),
        },
        where=lambda log_p_ref, log_p_star: np.isfinite(log_p_ref).all() and np.min(log_p_star) > -200,
        scale=lambda r, beta, log_p, log_p_ref, log_p_star, gamma, H: (
            loudness(r, beta, log_p, log_p_ref, H) + gamma * H,
            # r - beta log(p/p_ref) cancels at the optimum, where log p is as large as that of p*
            math.fsum([loudness(r, beta, log_p_star, log_p_ref, H), gamma * H]) * 16,
        ),
        largest=2000,
    )
)
