"""Exercises on chapter 7: the policy gradient and its baselines, groups of responses, and the clipped surrogate."""

from __future__ import annotations

import numpy as np

from tabular_rlhf.exercises.record import exercise

GROUPED = {"n": "observed", "xi": "sum_draw sum_i R(i)/(observed*G)", "zeta": "sqrt(sum_draw sum_i (R(i) - xi)^2/(observed*G))"}
"""Of n groups of G rewards R: mean and standard deviation of all of them together."""
SCORES = (
    "`score_rows[x, i, s, a]` is the slope of the log-probability of response $i$ to prompt $x$ in the logit of token $a$ in state $s$ of "
    "that prompt (the score), of shape `(P, N, S, V)`. "
)

# ---------------------------------------------------------------------------------------------------- logit-gradient


exercise(
    slug="logit-gradient",
    chapter=7,
    notebook="07",
    title="The policy gradient",
    statement=(
        SCORES + "Prompts have probabilities `mu`, `(P,)`, responses have probabilities `p` under the policy and rewards `r`, both "
        "`(P, N)`. Return the gradient of the mean reward $\\mathbb{E}_{x \\sim \\mu} \\mathbb{E}_p[r]$ in the logits: shape "
        "`(P, S, V)`, reward units."
    ),
    hint="The slope of p is p times the slope of log p; np.einsum keeps the axes apart.",
    rows=("policy-gradient",),
    given=("mu", "p", "r", "score_rows"),
    largest=200,
    scale=lambda r: 1.0 + np.max(np.abs(r)),
    text=r"""
    \mu \sum_y p(y)\, r(y)\, score_rows(y, s, a)
      slip sign flipped
      not \mu \sum_y r(y)\, score_rows(y, s, a)  # p omitted: every response counts alike
      not \mu \sum_y p_{ref}(y)\, r(y)\, score_rows(y, s, a)  # responses drawn from p_ref
      not \mu \sum_y p(y)\, score_rows(y, s, a)  # r omitted: the mean score
      not \mu \sum_{\tau \ni s + a} p(\tau)\, r(\tau)  # the score without its normalization
      not \mu \sum_y p(y)\, (r(y) - \beta L(y))\, score_rows(y, s, a)  # the gradient of J: a KL penalty that was not asked for
      not \frac{\mu}{N} \sum_y p(y)\, r(y)\, score_rows(y, s, a)  # mean where the sum was due: divided by N
    """,
)

# ---------------------------------------------------------------------------------------------------- best-baseline


exercise(
    slug="best-baseline",
    chapter=7,
    notebook="07",
    title="The quietest baseline",
    statement=(
        SCORES + "A response drawn with probability `p` moves the logits by $(r - b)\\,\\mathrm{score}$; the mean of this does not "
        "depend on the number $b$, its size does. Return the $b$ of each prompt for which the mean of the squared length "
        "$(r - b)^2\\, |\\mathrm{score}|^2$ is smallest: shape `(P,)`, reward units. (`p` and `r` have shape `(P, N)`.)"
    ),
    hint="A parabola in b: set its slope to zero, and read the result as a weighted mean of r.",
    rows=("optimal-baseline",),
    given=("p", "r", "score_rows"),
    largest=100,
    where=lambda p, score_rows: float(np.min(np.sum(p * np.sum(score_rows**2, axis=(2, 3)), axis=1))) > 1e-2,
    scale=lambda r: 100.0 * (1.0 + np.max(np.abs(r))),
    text=r"""
    let k = sum_s sum_a score_rows(tau, s, a)^2
    \frac{\mathbb{E}_p[k r]}{\mathbb{E}_p[k]}
      slip sign flipped
      not \mathbb{E}_p[r]  # the mean reward: |score|^2 omitted
      not \frac{\mathbb{E}_p[\sqrt{k} r]}{\mathbb{E}_p[\sqrt{k}]}  # |score| for |score|^2
      not \frac{\mathbb{E}_{p_{ref}}[k r]}{\mathbb{E}_{p_{ref}}[k]}  # responses drawn from p_ref
      not \frac{1}{N} \sum_y r  # the weights omitted: responses averaged evenly
      not \frac{\sum_y k r}{\sum_y k}  # p omitted: every response counts alike
      not \mathbb{E}_p[k r]  # not normalized: E[|score|^2 r] alone
    """,
)

# ---------------------------------------------------------------------------------------------------- leave-one-out


exercise(
    slug="leave-one-out",
    chapter=7,
    notebook="07",
    title="What the others earned",
    statement=(
        "`rewards` holds the rewards of $n$ groups of $G$ responses, a group a row: shape `(n, G)`. RLOO compares each response with "
        "the others of its group: its advantage is its reward less the mean reward of the other $G - 1$. Return the advantages: "
        "shape `(n, G)`, reward units."
    ),
    hint="The total of the others is the total of the group less one's own reward.",
    rows=("rloo", "group-identities"),
    letters={**GROUPED, "R": "rewards"},
    given=("rewards", "G"),
    text=r"""
    R - \frac{G\, \mathrm{mean}(R) - R}{G - 1}
      not R - \mathrm{mean}(R)  # n for n - 1: the group mean including self
      not R - (G\, \mathrm{mean}(R) - R)  # sum for mean of the others
      not R - \frac{G\, \mathrm{mean}(R) - R}{G}  # n for n - 1: the others' total divided by G
      not \frac{G\, \mathrm{mean}(R) - R}{G - 1} - R  # sign flipped
      not R - \frac{n G \xi - R}{n G - 1}  # all groups together
      not R - \max_i R(i)  # the best of the group for the mean of the others
      not \frac{G\, \mathrm{mean}(R) - R}{G - 1}  # own reward omitted: the baseline alone
    """,
)

# ---------------------------------------------------------------------------------------------------- grpo-advantage


exercise(
    slug="grpo-advantage",
    chapter=7,
    notebook="07",
    title="Divided by the group's spread",
    statement=(
        "`successes` holds the 0/1 rewards of $n$ groups of $G$ responses, a group a row, each with a success and a failure: shape "
        "`(n, G)`. GRPO's advantage is the reward less the mean of its group, divided by the group's standard deviation (the "
        "population one, which divides by $G$). Return the advantages: shape `(n, G)`."
    ),
    hint="In every group the squares of the advantages have mean one.",
    rows=("grpo",),
    letters={**GROUPED, "R": "successes"},
    given=("successes",),
    text=r"""
    \frac{R - \mathrm{mean}(R)}{\mathrm{std}(R)}
      not \frac{R - \mathrm{mean}(R)}{\mathrm{std}(R) \sqrt{G/(G - 1)}}  # n - 1 for n: the sample's standard deviation
      not \frac{R - \mathrm{mean}(R)}{\mathrm{std}(R)^2}  # variance for standard deviation
      not R - \mathrm{mean}(R)  # the standard deviation omitted
      not \frac{R}{\mathrm{std}(R)}  # the mean omitted
      not \frac{G (R - \mathrm{mean}(R))}{(G - 1)\, \mathrm{std}(R)}  # the leave-one-out mean for the group's
      not \frac{R - \mathrm{mean}(R)}{\zeta}  # the standard deviation of all groups together
      not \frac{R - \xi}{\zeta}  # all groups together
      not \frac{\mathrm{mean}(R) - R}{\mathrm{std}(R)}  # sign flipped
      not (R - \mathrm{mean}(R))\, \mathrm{std}(R)  # times for divided by the standard deviation
    """,
)

# ---------------------------------------------------------------------------------------------------- clipped-surrogate


exercise(
    slug="clipped-surrogate",
    chapter=7,
    notebook="07",
    title="PPO's clipped surrogate",
    statement=(
        "Of $n$ draws from an old policy, `importance` holds the ratios $\\rho = \\pi/\\pi_{old}$ and `advantage` the advantages $A$, "
        "both of shape `(n,)`. With $c$ = `clip`, a draw is worth the smaller of $\\rho A$ and $\\rho_c A$, where $\\rho_c$ is "
        "$\\rho$ moved into $[1 - c, 1 + c]$. Return the mean over the draws: a scalar, reward units (to be maximized)."
    ),
    hint="Take the smaller one of the two products, not of the two ratios: A may be negative.",
    rows=("ppo-clip",),
    text=r"""
    let rho = importance; A = advantage; c = clip
    \mathrm{mean}(\min(\rho A, \mathrm{clip}(\rho, 1 - c, 1 + c) A))
      slip clipping omitted; max for min
      not \mathrm{mean}(\mathrm{clip}(\rho, 1 - c, 1 + c) A)  # the minimum omitted: always clipped
      not \mathrm{mean}(\min(\rho, \mathrm{clip}(\rho, 1 - c, 1 + c)) A)  # the smaller ratio for the smaller product
      not -\mathrm{mean}(\min(\rho A, \mathrm{clip}(\rho, 1 - c, 1 + c) A))  # sign flipped: the loss
      not \sum_{draw} \min(\rho A, \mathrm{clip}(\rho, 1 - c, 1 + c) A)  # sum where the mean was due
      not \mathrm{mean}(\min(\frac{A}{\rho}, \mathrm{clip}(\frac{1}{\rho}, 1 - c, 1 + c) A))  # the ratio inverted
      not \mathrm{mean}(\min(\rho A, \rho\, \mathrm{clip}(A, 1 - c, 1 + c)))  # the advantage clipped, not the ratio
    """,
)
