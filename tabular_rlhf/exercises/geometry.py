"""Exercises on chapter 5: two directions of a divergence, the exponential arc, projections, and where Pythagoras fails."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.exercises.record import Exercise, add
from tabular_rlhf.logspace import expect, kl, log_softmax
from tabular_rlhf.projection import expected_counts
from tabular_rlhf.terms.policies import averaged_policy, weighted_gap
from tabular_rlhf.terms.sizes import deepest

# ---------------------------------------------------------------------------------------------------- both-directions

add(
    Exercise(
        slug="both-directions",
        chapter=5,
        notebook="05",
        title="A divergence has two directions",
        statement=(
            "For a policy's law $p$ and the optimum $p^*$, return the reverse divergence $\\mathrm{KL}(p, p^*)$ and the forward one, "
            "$\\mathrm{KL}(p^*, p)$, for each prompt: a row each, shape `(2, P)`, nats. (`log_p` and `log_p_star` have shape `(P, N)`.)"
        ),
        hint="The mean of the log ratio: who stands first is both on top and the one who takes the mean.",
        rows=("mode-seeking", "regret-is-kl"),
        forbidden="refused",
        answer=lambda log_p, log_p_star: np.stack([kl(log_p, log_p_star), kl(log_p_star, log_p)]),
        misses={
            "forward for reverse KL": lambda log_p, log_p_star: np.stack([kl(log_p_star, log_p), kl(log_p, log_p_star)]),
            "the ratio inverted: sign flipped": lambda log_p, log_p_star: -np.stack([kl(log_p, log_p_star), kl(log_p_star, log_p)]),
            "one mean for both: p averages the forward one too": lambda log_p, log_p_star: np.stack(
                [kl(log_p, log_p_star), -kl(log_p, log_p_star)]
            ),
            "KL to p_ref for KL to p*": lambda log_p, log_p_ref: np.stack([kl(log_p, log_p_ref), kl(log_p_ref, log_p)]),
            "p omitted: log ratios averaged evenly": lambda log_p, log_p_star: np.stack(
                [np.mean(log_p - log_p_star, axis=1), np.mean(log_p_star - log_p, axis=1)]
            ),
            "log base 2": lambda log_p, log_p_star: np.stack([kl(log_p, log_p_star), kl(log_p_star, log_p)]) / np.log(2.0),
        },
        scale=lambda log_p, log_p_star: deepest(log_p, log_p_star),
    )
)


# ---------------------------------------------------------------------------------------------------- arc


def on_arc(log_p_ref: Any, log_p_star: Any, t: float) -> Any:
    """(1 - t) log p_ref + t log p*, not normalized."""
    return (1.0 - t) * log_p_ref + t * log_p_star


def all_prompts(logits: Any) -> Any:
    return np.exp(log_softmax(np.ravel(logits))).reshape(logits.shape)


def mixture(log_p_ref: Any, log_p_star: Any, t: float) -> Any:
    return (1.0 - t) * np.exp(log_p_ref) + t * np.exp(log_p_star)


add(
    Exercise(
        slug="arc",
        chapter=5,
        notebook="05",
        title="The road from the reference to the optimum",
        statement=(
            "The exponential arc from $p_{ref}$ to $p^*$ is straight in logarithms: at place $t$, from 0 to 1, it passes the law "
            "proportional to $p_{ref}^{1-t}\\, (p^*)^t$. Return a *function* of `t` that returns this law for each prompt: probabilities "
            "of shape `(P, N)`, every row summing to one. (`log_p_ref` and `log_p_star` have shape `(P, N)`.)"
        ),
        hint="Mix the logarithms, exponentiate, divide each row by its sum; what you return is called with t afterwards.",
        rows=("e-geodesic",),
        forbidden="refused",
        answer=lambda log_p_ref, log_p_star: lambda t: np.exp(log_softmax((1.0 - t) * log_p_ref + t * log_p_star)),
        misses={
            "probabilities mixed for log-probabilities": lambda log_p_ref, log_p_star, t: mixture(log_p_ref, log_p_star, t),
            "log Z omitted: not normalized": lambda log_p_ref, log_p_star, t: np.exp(on_arc(log_p_ref, log_p_star, t)),
            "normalized over all prompts together": lambda log_p_ref, log_p_star, t: all_prompts(on_arc(log_p_ref, log_p_star, t)),
            "the ends swapped: t for 1 - t": lambda log_p_ref, log_p_star, t: np.exp(log_softmax(on_arc(log_p_star, log_p_ref, t))),
            "p_ref omitted: (p*)^t alone": lambda log_p_star, t: np.exp(log_softmax(t * log_p_star)),
            "beta for 1/beta: t upside down": lambda log_p_ref, log_p_star, t: np.exp(log_softmax(on_arc(log_p_ref, log_p_star, 1.0 / t))),
        },
    )
)

# ---------------------------------------------------------------------------------------------------- pythagoras-gap

add(
    Exercise(
        slug="pythagoras-gap",
        chapter=5,
        notebook="05",
        title="By how much Pythagoras fails",
        statement=(
            "For a law $p$ with the mean reward of $p^*$, $\\mathrm{KL}(p, p_{ref}) = \\mathrm{KL}(p, p^*) + \\mathrm{KL}(p^*, p_{ref})$. "
            "For any other $p$ the two sides differ. Return $\\mathrm{KL}(p, p_{ref}) - \\mathrm{KL}(p, p^*) - "
            "\\mathrm{KL}(p^*, p_{ref})$ for each prompt: shape `(P,)`, nats."
        ),
        hint="log(p*/p_ref) is r/beta - log Z: what remains is a difference of two means of it.",
        rows=("i-projection",),
        forbidden="refused",
        answer=lambda log_p, log_p_star, r, beta: np.sum((np.exp(log_p) - np.exp(log_p_star)) * r, axis=1) / beta,
        misses={
            "beta dropped": lambda E_r, log_p_star, r: E_r - expect(log_p_star, r),
            "beta for 1/beta": lambda E_r, log_p_star, r, beta: beta * (E_r - expect(log_p_star, r)),
            "sign flipped": lambda E_r, log_p_star, r, beta: (expect(log_p_star, r) - E_r) / beta,
            "forward for reverse KL: KL(p*, p) in place of KL(p, p*)": lambda KL, log_p, log_p_star, log_p_ref: (
                KL - kl(log_p_star, log_p) - kl(log_p_star, log_p_ref)
            ),
            "the second leg reversed: KL(p_ref, p*)": lambda KL, log_p, log_p_star, log_p_ref: (
                KL - kl(log_p, log_p_star) - kl(log_p_ref, log_p_star)
            ),
            "p_ref for p*: the gain over the reference": lambda E_r, log_p_ref, r, beta: (E_r - expect(log_p_ref, r)) / beta,
        },
        scale=lambda log_p, log_p_star, log_p_ref, r, beta: deepest(log_p, log_p_star, log_p_ref) + np.max(np.abs(r)) / beta,
    )
)

# ---------------------------------------------------------------------------------------------------- forward-projection


def by_counts(tied: Any, log_p_star: Any) -> Any:
    """Expected counts of every token in every context, each row divided by its sum."""
    counts = expected_counts(tied, log_p_star)
    return counts / np.sum(counts, axis=1, keepdims=True)


def conditional_by_prompt(tied: Any, mdp: Any, p: Any, weights: Any) -> Any:
    """Rows of counts, weighted by prompt."""
    counts = np.zeros(tied.shape)
    np.add.at(counts, tied.context, np.sum(weights[:, None, None] * mdp.subtree_sum(p), axis=0))
    return counts / np.sum(counts, axis=1, keepdims=True)


TIED = (
    "In a class of policies that forget, states share rows: `tied.context[s]` is the number of the row of state $s$, its context $c$, "
    "and `tied.shape` is (contexts, V). "
)

add(
    Exercise(
        slug="forward-projection",
        chapter=5,
        notebook="05",
        title="Imitation by counting",
        minutes=15,
        statement=(
            TIED
            + "The policy of the class that minimizes $\\mathbb{E}_\\mu \\mathrm{KL}(p^*, p_\\pi)$ says $a$ in context $c$ as often as "
            "$p^*$ does: expected number of times that $a$ is said in $c$, divided by the expected number of times that one is in $c$. "
            "Prompts are drawn from $\\mu$ = `mu`, of shape `(P,)`, and the class does not see them. Return the policy: probabilities of "
            "shape `(contexts, V)`, rows summing to one."
        ),
        hint="`mdp.subtree_sum(p_star)` holds the mass of every state and token; add up the rows of states that share a context.",
        rows=("m-projection-counts",),
        answer=lambda mdp, tied, mu, p_star: conditional_by_prompt(tied, mdp, p_star, mu),
        without=("theta_hat", "log_pi_hat", "log_p_hat", "d_hat"),
        misses={
            "d_ref for d_p*": lambda tied, mu, log_pi_star, d_ref: averaged_policy(tied, mu, log_pi_star, d_ref),
            "d_pi for d_p*": lambda tied, mu, log_pi_star, d_pi: averaged_policy(tied, mu, log_pi_star, d_pi),
            "states averaged without visits": lambda tied, mu, log_pi_star, d_star: averaged_policy(
                tied, mu, log_pi_star, np.ones_like(d_star)
            ),
            "unconditional for conditional: counts not divided": lambda tied, log_p_star: expected_counts(tied, log_p_star),
            "the reference's counts for those of p*": lambda tied, log_p_ref: by_counts(tied, log_p_ref),
            "the policy's own counts for those of p*": lambda tied, log_p: by_counts(tied, log_p),
        },
        where=lambda tied, log_p_star: bool(np.min(np.sum(expected_counts(tied, log_p_star), axis=1)) > 1e-9),
    )
)

# ---------------------------------------------------------------------------------------------------- covariate-shift

add(
    Exercise(
        slug="covariate-shift",
        chapter=5,
        notebook="05",
        title="Covariate shift, in one number",
        statement=(
            "$\\hat\\pi$ is the forward projection of $p^*$ onto a class whose states share rows, with law $\\hat p$ = `log_p_hat`; $\\pi$ "
            "is another policy of the class, with law `log_p_tied`. (The policies are `log_pi_hat` and `log_pi_tied`, `(P, S, V)`; "
            "`d_star` and `d_hat` are the visits of $p^*$ and $\\hat p$, `(P, S)`.) Return by how much Pythagoras fails, "
            "$\\mathbb{E}_\\mu[\\mathrm{KL}(p^*, p_\\pi) - \\mathrm{KL}(p^*, \\hat p) - \\mathrm{KL}(\\hat p, p_\\pi)]$: a scalar, nats."
        ),
        hint="Each difference is a sum over states of visits times KL(pi_hat, pi) in that state; only the visits differ.",
        rows=("m-projection-gap",),
        forbidden="refused",
        answer=lambda mu, d_star, d_hat, log_pi_hat, log_pi_tied: weighted_gap(mu, d_star - d_hat, log_pi_hat, log_pi_tied),
        misses={
            "the last KL omitted: the gap of imitation": lambda mu, d_star, log_pi_hat, log_pi_tied: weighted_gap(
                mu, d_star, log_pi_hat, log_pi_tied
            ),
            "sign flipped": lambda mu, d_star, d_hat, log_pi_hat, log_pi_tied: weighted_gap(mu, d_hat - d_star, log_pi_hat, log_pi_tied),
            "d_ref for d_p*": lambda mu, d_ref, d_hat, log_pi_hat, log_pi_tied: weighted_gap(mu, d_ref - d_hat, log_pi_hat, log_pi_tied),
            "forward for reverse KL in the states": lambda mu, d_star, d_hat, log_pi_hat, log_pi_tied: weighted_gap(
                mu, d_star - d_hat, log_pi_tied, log_pi_hat
            ),
            "Pythagoras taken to hold: zero": lambda mu: 0.0,
        },
        scale=lambda H, log_p_star, log_p_hat, log_p_tied: H * deepest(log_p_star, log_p_hat, log_p_tied),
    )
)
