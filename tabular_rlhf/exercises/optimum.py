"""Exercises on chapter 4: the Gibbs optimum, its value, and what other policies give away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tabular_rlhf.exercises.record import Exercise, add
from tabular_rlhf.logspace import kl, log_softmax, logsumexp
from tabular_rlhf.terms.policies import all_together, visited_kl
from tabular_rlhf.tolerance import largest

add(
    Exercise(
        slug="gibbs-probabilities",
        chapter=4,
        notebook="04",
        title="The Gibbs optimum",
        statement=(
            "Return the distribution over responses that maximizes $\\mathbb{E}_p[r] - \\beta\\,\\mathrm{KL}(p, p_{ref})$ for each prompt: "
            "probabilities of shape `(P, N)`, every row summing to one."
        ),
        hint="Tilt the reference by exp(r/beta), then divide each row by its own sum.",
        rows=("gibbs-optimum",),
        answer=lambda p_ref, r, beta: p_ref * np.exp(r / beta) / np.sum(p_ref * np.exp(r / beta), axis=1, keepdims=True),
        without=("p_star", "log_p_star", "solution", "soft", "log_pi_star", "log_Z", "value", "V_soft", "Q_soft"),
        misses={
            "p_ref omitted: softmax of r alone": lambda r, beta: np.exp(log_softmax(r / beta)),
            "beta for 1/beta": lambda log_p_ref, r, beta: np.exp(log_softmax(log_p_ref + r * beta)),
            "beta dropped": lambda log_p_ref, r: np.exp(log_softmax(log_p_ref + r)),
            "sign flipped": lambda log_p_ref, r, beta: np.exp(log_softmax(log_p_ref - r / beta)),
            "log Z omitted: not normalized": lambda p_ref, r, beta: p_ref * np.exp(r / beta),
            "normalized over all prompts together": all_together,
        },
    )
)

add(
    Exercise(
        slug="regret",
        chapter=4,
        notebook="04",
        title="What a policy gives away",
        statement=(
            "A policy $p$ is not the optimum $p^*$. Return what it gives away of the objective, $\\beta \\log Z - J(p)$, for each prompt: "
            "shape `(P,)`, reward units."
        ),
        hint="It is a divergence between p and p*. Which direction, and in which unit?",
        rows=("regret-is-kl",),
        forbidden="refused",
        answer=lambda beta, log_p, log_p_star: beta * kl(log_p, log_p_star),
        misses={
            "beta dropped": lambda log_p, log_p_star: kl(log_p, log_p_star),
            "forward for reverse KL": lambda beta, log_p, log_p_star: beta * kl(log_p_star, log_p),
            "KL to p_ref for KL to p*": lambda beta, KL: beta * KL,
            "sign flipped": lambda value, J_x: J_x - value,
        },
    )
)

add(
    Exercise(
        slug="best-value",
        chapter=4,
        notebook="04",
        title="The value of the optimum",
        statement="Return the largest possible value of the objective for each prompt, $\\beta \\log Z(x)$: shape `(P,)`, reward units.",
        hint="log Z is the log of a mean of exp(r/beta) under the reference; use a log-sum-exp so that it cannot overflow.",
        rows=("optimal-value",),
        answer=lambda beta, log_p_ref, r: beta * logsumexp(log_p_ref + r / beta),
        without=("value", "log_Z", "solution", "soft", "V_soft", "Q_soft"),
        misses={
            "beta dropped": lambda beta, log_p_ref, r: logsumexp(log_p_ref + r / beta),
            "p_ref omitted": lambda beta, r: beta * logsumexp(r / beta),
            "log base 2": lambda beta, log_p_ref, r: beta * logsumexp(log_p_ref + r / beta) / np.log(2.0),
            "sign flipped": lambda beta, log_p_ref, r: -beta * logsumexp(log_p_ref + r / beta),
        },
    )
)

# ---------------------------------------------------------------------------------------------------- token-policy


def swept(mdp: Any, log_pi_ref: Any, r: Any, worth: Callable[[Any, Any], Any]) -> tuple[Any, Any]:
    """V, (P, S, 1), and Q, (P, S, V), where worth(log pi_ref, Q) turns the Q of a level into its V."""
    levels = mdp.levels(log_pi_ref)
    V, Q = mdp.backup(r, lambda h, Q: worth(levels[h], Q))
    return V[:, :, None], Q


def soft(beta: float) -> Callable[[Any, Any], Any]:
    return lambda log_ref, Q: beta * logsumexp(log_ref + Q / beta, axis=1)


def chosen(log_pi_ref: Any, Q: Any, beta: float) -> Any:
    """pi_ref exp(Q/beta), normalized in every state."""
    return np.exp(log_softmax(log_pi_ref + Q / beta))


def soft_policy(mdp: Any, log_pi_ref: Any, r: Any, beta: float) -> Any:
    """pi_ref exp((Q - V)/beta), with V the soft maximum of Q."""
    V, Q = swept(mdp, log_pi_ref, r, soft(beta))
    return np.exp(log_pi_ref + (Q - V) / beta)


add(
    Exercise(
        slug="token-policy",
        chapter=4,
        notebook="04",
        title="The optimum, token by token",
        minutes=15,
        statement=(
            "Return the policy $\\pi^*(a \\mid s)$ whose law over responses is the Gibbs optimum $p^*$: probabilities of shape "
            "`(P, S, V)`, every row summing to one. (`log_pi_ref`, of shape `(P, S, V)`, is the reference policy. "
            "`mdp.backup(r, reduce)` sweeps from the ends to the root and returns $V$ and $Q$, where $Q(s, a)$ is the $V$ of $s + a$, or "
            "the reward if the response ends there; `reduce(h, Q)` gets the $Q$ of level $h$, of shape `(P, V, states of the level)`, and "
            "returns its $V$; `mdp.levels(x)` cuts a table of shape `(P, S, V)` into such levels.)"
        ),
        hint="V(s) is beta log of the mean of exp(Q/beta) under pi_ref, and pi* tilts pi_ref by Q - V.",
        rows=("soft-bellman",),
        forbidden="refused",
        answer=soft_policy,
        without=("log_pi_star", "V_soft", "Q_soft", "soft", "solution"),
        misses={
            "Q without V in the soft policy": lambda log_pi_ref, Q_soft, beta: np.exp(log_pi_ref + Q_soft / beta),
            "per-state greedy for soft: V the best continuation": lambda mdp, log_pi_ref, r, beta: chosen(
                log_pi_ref, swept(mdp, log_pi_ref, r, lambda log_ref, Q: np.max(Q, axis=1))[1], beta
            ),
            "mean for soft maximum: V the mean continuation": lambda mdp, log_pi_ref, r, beta: chosen(
                log_pi_ref, swept(mdp, log_pi_ref, r, lambda log_ref, Q: np.sum(np.exp(log_ref) * Q, axis=1))[1], beta
            ),
            "p_ref omitted: softmax of Q alone": lambda mdp, r, beta, log_pi_ref: soft_policy(mdp, 0.0 * log_pi_ref, r, beta),
            "beta dropped": lambda mdp, log_pi_ref, r: soft_policy(mdp, log_pi_ref, r, 1.0),
            "sign flipped": lambda mdp, log_pi_ref, r, beta: soft_policy(mdp, log_pi_ref, -r, beta),
        },
    )
)

# ---------------------------------------------------------------------------------------------------- kl-by-states

add(
    Exercise(
        slug="kl-by-states",
        chapter=4,
        notebook="04",
        title="The divergence, state by state",
        statement=(
            "Return $\\mathrm{KL}(p_\\pi, p_{ref})$ for each prompt, shape `(P,)`, nats, without touching the responses: from the policies "
            "`log_pi` and `log_pi_ref`, of shape `(P, S, V)`, and the visits `d_pi` and `d_ref` of both, of shape `(P, S)`."
        ),
        hint="In every state a KL between two rows; how much it counts is how often one gets there. Which one?",
        rows=("kl-chain-rule",),
        forbidden="refused",
        answer=lambda d_pi, log_pi, log_pi_ref: np.sum(d_pi * kl(log_pi, log_pi_ref), axis=1),
        without=("KL", "J_x", "J", "log_p", "p", "L", "log_p_ref", "p_ref"),
        misses={
            "d_ref for d_pi": lambda d_ref, log_pi, log_pi_ref: visited_kl(d_ref, log_pi, log_pi_ref),
            "visits omitted: every state counts alike": lambda d_pi, log_pi, log_pi_ref: visited_kl(np.ones_like(d_pi), log_pi, log_pi_ref),
            "mean over tokens where the sum was due": lambda KL, H: KL / H,
            "forward for reverse KL": lambda d_ref, log_pi, log_pi_ref: visited_kl(d_ref, log_pi_ref, log_pi),
            "forward for reverse KL in each state": lambda d_pi, log_pi, log_pi_ref: visited_kl(d_pi, log_pi_ref, log_pi),
            "sign flipped": lambda KL: -KL,
            "log base 2": lambda KL: KL / np.log(2.0),
        },
        scale=lambda log_p, log_p_ref: 1.0 + largest(log_p, log_p_ref),
    )
)
