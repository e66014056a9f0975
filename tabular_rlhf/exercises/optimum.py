"""Exercises on chapter 4: the Gibbs optimum, its value, and what other policies give away."""

from __future__ import annotations

import numpy as np

from tabular_rlhf.exercises.record import Exercise, add
from tabular_rlhf.ledger.chapter4 import all_together
from tabular_rlhf.logspace import kl, log_softmax, logsumexp

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
