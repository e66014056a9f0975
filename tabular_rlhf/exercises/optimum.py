"""Exercises on chapter 4: the Gibbs optimum, its value, and what other policies give away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tabular_rlhf.exercises.record import GIBBS, exercise
from tabular_rlhf.logspace import log_softmax, logsumexp
from tabular_rlhf.terms.policies import all_together
from tabular_rlhf.tolerance import largest

exercise(
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
    letters=GIBBS,
    without=("p_star", "log_p_star", "solution", "soft", "log_pi_star", "log_Z", "value", "V_soft", "Q_soft"),
    misses={"normalized over all prompts together": all_together},
    text=r"""
    \frac{p_{ref}\, e^{r/\beta}}{\sum_y p_{ref}\, e^{r/\beta}}
      not \frac{e^{r/\beta}}{\sum_y e^{r/\beta}}  # p_ref omitted: softmax of r alone
      not gibbs(beta*r)  # beta for 1/beta
      not gibbs(r)  # beta dropped
      not gibbs(-r/beta)  # sign flipped
      not p_{ref}\, e^{r/\beta}  # log Z omitted: not normalized
    """,
)

exercise(
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
    answer=1,
    given=("beta", "log_p", "log_p_star"),
    slips=("beta dropped", "sign flipped"),
    misses={"forward for reverse KL": r"\beta\, \mathrm{KL}(p^*, p)", "KL to p_ref for KL to p*": r"\beta\, \mathrm{KL}(p, p_{ref})"},
)

exercise(
    slug="best-value",
    chapter=4,
    notebook="04",
    title="The value of the optimum",
    statement="Return the largest possible value of the objective for each prompt, $\\beta \\log Z(x)$: shape `(P,)`, reward units.",
    hint="log Z is the log of a mean of exp(r/beta) under the reference; use a log-sum-exp so that it cannot overflow.",
    rows=("optimal-value",),
    given=("beta", "log_p_ref", "r"),
    without=("value", "log_Z", "solution", "soft", "V_soft", "Q_soft"),
    text=r"""
    \beta \log \sum_y p_{ref}\, e^{r/\beta}
      slip beta dropped; sign flipped
      not \beta \log \sum_y e^{r/\beta}  # p_ref omitted
      not \frac{\beta}{\log 2} \log \sum_y p_{ref}\, e^{r/\beta}  # log base 2
    """,
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


exercise(
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
        "Q without V in the soft policy": r"\pi_{ref}(a \mid s)\, e^{Q(s, a)/\beta}",
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

# ---------------------------------------------------------------------------------------------------- kl-by-states

exercise(
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
    answer=1,
    given=("d_pi", "log_pi", "log_pi_ref"),
    without=("KL", "J_x", "J", "log_p", "p", "L", "log_p_ref", "p_ref"),
    slips=("d_ref for d_pi", "sign flipped"),
    misses={
        "visits omitted: every state counts alike": r"\sum_s \mathrm{KL}(\pi(\cdot \mid s), \pi_{ref}(\cdot \mid s))",
        "mean over tokens where the sum was due": r"\frac{1}{H} \mathrm{KL}(p, p_{ref})",
        "forward for reverse KL": r"\mathrm{KL}(p_{ref}, p)",
        "forward for reverse KL in each state": r"\sum_s d_\pi(s)\, \mathrm{KL}(\pi_{ref}(\cdot \mid s), \pi(\cdot \mid s))",
        "log base 2": r"\frac{1}{\log 2} \mathrm{KL}(p, p_{ref})",
    },
    scale=lambda log_p, log_p_ref: 1.0 + largest(log_p, log_p_ref),
)
