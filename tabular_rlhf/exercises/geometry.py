"""Exercises on chapter 5: two directions of a divergence, the exponential arc, projections, and where Pythagoras fails."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.exercises.record import exercise
from tabular_rlhf.formula.reading import Clause
from tabular_rlhf.projection import expected_counts
from tabular_rlhf.terms.policies import averaged_policy
from tabular_rlhf.terms.sizes import deepest

# ---------------------------------------------------------------------------------------------------- both-directions

exercise(
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
    misses={
        "forward for reverse KL": (r"\mathrm{KL}(p^*, p)", r"\mathrm{KL}(p, p^*)"),
        "the ratio inverted: sign flipped": (r"-\mathrm{KL}(p, p^*)", r"-\mathrm{KL}(p^*, p)"),
        "one mean for both: p averages the forward one too": (0, r"-\mathrm{KL}(p, p^*)"),
        "KL to p_ref for KL to p*": (r"\mathrm{KL}(p, p_{ref})", r"\mathrm{KL}(p_{ref}, p)"),
        "p omitted: log ratios averaged evenly": (r"\frac{1}{N} \sum_y \log\frac{p}{p^*}", r"\frac{1}{N} \sum_y \log\frac{p^*}{p}"),
        "log base 2": (r"\frac{1}{\log 2} \mathrm{KL}(p, p^*)", r"\frac{1}{\log 2} \mathrm{KL}(p^*, p)"),
    },
    scale=lambda log_p, log_p_star: deepest(log_p, log_p_star),
    text=r"""
    \mathrm{KL}(p, p^*)
    \mathrm{KL}(p^*, p)
    """,
)


# ---------------------------------------------------------------------------------------------------- arc


exercise(
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
    given=("log_p_ref", "log_p_star"),
    text=r"""
    let t = t
    \frac{p_{ref}^{1 - t}\, (p^*)^t}{\sum_y p_{ref}^{1 - t}\, (p^*)^t}
      not (1 - t)\, p_{ref} + t\, p^*  # probabilities mixed for log-probabilities
      not p_{ref}^{1 - t}\, (p^*)^t  # log Z omitted: not normalized
      not \frac{p_{ref}^{1 - t}\, (p^*)^t}{\sum_x \sum_y p_{ref}^{1 - t}\, (p^*)^t}  # normalized over all prompts together
      not \frac{(p^*)^{1 - t}\, p_{ref}^t}{\sum_y (p^*)^{1 - t}\, p_{ref}^t}  # the ends swapped: t for 1 - t
      not \frac{(p^*)^t}{\sum_y (p^*)^t}  # p_ref omitted: (p*)^t alone
      not \frac{p_{ref}^{1 - 1/t}\, (p^*)^{1/t}}{\sum_y p_{ref}^{1 - 1/t}\, (p^*)^{1/t}}  # beta for 1/beta: t upside down
    """,
)

# ---------------------------------------------------------------------------------------------------- pythagoras-gap

exercise(
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
    given=("log_p", "log_p_star", "r", "beta"),
    scale=lambda log_p, log_p_star, log_p_ref, r, beta: deepest(log_p, log_p_star, log_p_ref) + np.max(np.abs(r)) / beta,
    text=r"""
    \frac{\mathbb{E}_p[r] - \mathbb{E}_{p^*}[r]}{\beta}
      slip beta dropped
      not \beta (\mathbb{E}_p[r] - \mathbb{E}_{p^*}[r])  # beta for 1/beta
      not \frac{\mathbb{E}_{p^*}[r] - \mathbb{E}_p[r]}{\beta}  # sign flipped
      not \mathrm{KL}(p, p_{ref}) - \mathrm{KL}(p^*, p) - \mathrm{KL}(p^*, p_{ref})
        # forward for reverse KL: KL(p*, p) in place of KL(p, p*)
      not \mathrm{KL}(p, p_{ref}) - \mathrm{KL}(p, p^*) - \mathrm{KL}(p_{ref}, p^*)  # the second leg reversed: KL(p_ref, p*)
      not \frac{\mathbb{E}_p[r] - \mathbb{E}_{p_{ref}}[r]}{\beta}  # p_ref for p*: the gain over the reference
    """,
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

exercise(
    slug="forward-projection",
    chapter=5,
    notebook="05",
    title="Imitation by counting",
    minutes=15,
    statement=(
        TIED + "The policy of the class that minimizes $\\mathbb{E}_\\mu \\mathrm{KL}(p^*, p_\\pi)$ says $a$ in context $c$ as often as "
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

# ---------------------------------------------------------------------------------------------------- covariate-shift

exercise(
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
    answer=Clause(2, 1),
    given=("mu", "d_star", "d_hat", "log_pi_hat", "log_pi_tied"),
    misses={
        "the last KL omitted: the gap of imitation": (
            r"\mathbb{E}_{x \sim \mu}[\sum_s d_{p^*}(s)\, \mathrm{KL}(\hat\pi(\cdot \mid s), \pi(\cdot \mid s))]"
        ),
        "sign flipped": (
            r"\mathbb{E}_{x \sim \mu}[\sum_s (d_{\hat\pi}(s) - d_{p^*}(s))\, \mathrm{KL}(\hat\pi(\cdot \mid s), \pi(\cdot \mid s))]"
        ),
        "d_ref for d_p*": (
            r"\mathbb{E}_{x \sim \mu}[\sum_s (d_{ref}(s) - d_{\hat\pi}(s))\, \mathrm{KL}(\hat\pi(\cdot \mid s), \pi(\cdot \mid s))]"
        ),
        "forward for reverse KL in the states": (
            r"\mathbb{E}_{x \sim \mu}[\sum_s (d_{p^*}(s) - d_{\hat\pi}(s))\, \mathrm{KL}(\pi(\cdot \mid s), \hat\pi(\cdot \mid s))]"
        ),
        "Pythagoras taken to hold: zero": "0",
    },
    scale=lambda H, log_p_star, log_p_hat, log_p_tied: H * deepest(log_p_star, log_p_hat, log_p_tied),
)
