"""Exercises on chapter 7: the policy gradient and its baselines, groups of responses, and the clipped surrogate."""

from __future__ import annotations

import numpy as np

from tabular_rlhf.exercises.record import Exercise, add

GROUPED = {"n": "observed", "xi": "sum_draw sum_i R(i)/(observed*G)", "zeta": "sqrt(sum_draw sum_i (R(i) - xi)^2/(observed*G))"}
"""Of n groups of G rewards R: mean and standard deviation of all of them together."""
SCORES = (
    "`score_rows[x, i, s, a]` is the slope of the log-probability of response $i$ to prompt $x$ in the logit of token $a$ in state $s$ of "
    "that prompt (the score), of shape `(P, N, S, V)`. "
)

# ---------------------------------------------------------------------------------------------------- logit-gradient


add(
    Exercise(
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
        answer=r"\mu \sum_y p(y)\, r(y)\, score_rows(y, s, a)",
        given=("mu", "p", "r", "score_rows"),
        largest=200,
        slips=("sign flipped",),
        misses={
            "p omitted: every response counts alike": r"\mu \sum_y r(y)\, score_rows(y, s, a)",
            "responses drawn from p_ref": r"\mu \sum_y p_{ref}(y)\, r(y)\, score_rows(y, s, a)",
            "r omitted: the mean score": r"\mu \sum_y p(y)\, score_rows(y, s, a)",
            "the score without its normalization": r"\mu \sum_{\tau \ni s + a} p(\tau)\, r(\tau)",
            "the gradient of J: a KL penalty that was not asked for": r"\mu \sum_y p(y)\, (r(y) - \beta L(y))\, score_rows(y, s, a)",
            "mean where the sum was due: divided by N": r"\frac{\mu}{N} \sum_y p(y)\, r(y)\, score_rows(y, s, a)",
        },
        scale=lambda r: 1.0 + np.max(np.abs(r)),
    )
)

# ---------------------------------------------------------------------------------------------------- best-baseline


add(
    Exercise(
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
        answer=r"\frac{\mathbb{E}_p[k r]}{\mathbb{E}_p[k]}",
        letters={"k": "sum_s sum_a score_rows(tau, s, a)^2"},
        given=("p", "r", "score_rows"),
        largest=100,
        slips=("sign flipped",),
        misses={
            "the mean reward: |score|^2 omitted": r"\mathbb{E}_p[r]",
            "|score| for |score|^2": r"\frac{\mathbb{E}_p[\sqrt{k} r]}{\mathbb{E}_p[\sqrt{k}]}",
            "responses drawn from p_ref": r"\frac{\mathbb{E}_{p_{ref}}[k r]}{\mathbb{E}_{p_{ref}}[k]}",
            "the weights omitted: responses averaged evenly": r"\frac{1}{N} \sum_y r",
            "p omitted: every response counts alike": r"\frac{\sum_y k r}{\sum_y k}",
            "not normalized: E[|score|^2 r] alone": r"\mathbb{E}_p[k r]",
        },
        where=lambda p, score_rows: float(np.min(np.sum(p * np.sum(score_rows**2, axis=(2, 3)), axis=1))) > 1e-2,
        # the quotient divides by at least 1/100
        scale=lambda r: 100.0 * (1.0 + np.max(np.abs(r))),
    )
)

# ---------------------------------------------------------------------------------------------------- leave-one-out


add(
    Exercise(
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
        answer=r"R - \frac{G\, \mathrm{mean}(R) - R}{G - 1}",
        letters={**GROUPED, "R": "rewards"},
        given=("rewards", "G"),
        misses={
            "n for n - 1: the group mean including self": r"R - \mathrm{mean}(R)",
            "sum for mean of the others": r"R - (G\, \mathrm{mean}(R) - R)",
            "n for n - 1: the others' total divided by G": r"R - \frac{G\, \mathrm{mean}(R) - R}{G}",
            "sign flipped": r"\frac{G\, \mathrm{mean}(R) - R}{G - 1} - R",
            "all groups together": r"R - \frac{n G \xi - R}{n G - 1}",
            "the best of the group for the mean of the others": r"R - \max_i R(i)",
            "own reward omitted: the baseline alone": r"\frac{G\, \mathrm{mean}(R) - R}{G - 1}",
        },
    )
)

# ---------------------------------------------------------------------------------------------------- grpo-advantage


add(
    Exercise(
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
        answer=r"\frac{R - \mathrm{mean}(R)}{\mathrm{std}(R)}",
        letters={**GROUPED, "R": "successes"},
        given=("successes",),
        misses={
            "n - 1 for n: the sample's standard deviation": r"\frac{R - \mathrm{mean}(R)}{\mathrm{std}(R) \sqrt{G/(G - 1)}}",
            "variance for standard deviation": r"\frac{R - \mathrm{mean}(R)}{\mathrm{std}(R)^2}",
            "the standard deviation omitted": r"R - \mathrm{mean}(R)",
            "the mean omitted": r"\frac{R}{\mathrm{std}(R)}",
            "the leave-one-out mean for the group's": r"\frac{G (R - \mathrm{mean}(R))}{(G - 1)\, \mathrm{std}(R)}",
            "the standard deviation of all groups together": r"\frac{R - \mathrm{mean}(R)}{\zeta}",
            "all groups together": r"\frac{R - \xi}{\zeta}",
            "sign flipped": r"\frac{\mathrm{mean}(R) - R}{\mathrm{std}(R)}",
            "times for divided by the standard deviation": r"(R - \mathrm{mean}(R))\, \mathrm{std}(R)",
        },
    )
)

# ---------------------------------------------------------------------------------------------------- clipped-surrogate


add(
    Exercise(
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
        answer=r"\mathrm{mean}(\min(\rho A, \mathrm{clip}(\rho, 1 - c, 1 + c) A))",
        letters={"rho": "importance", "A": "advantage", "c": "clip"},
        slips=("clipping omitted", "max for min"),
        misses={
            "the minimum omitted: always clipped": r"\mathrm{mean}(\mathrm{clip}(\rho, 1 - c, 1 + c) A)",
            "the smaller ratio for the smaller product": r"\mathrm{mean}(\min(\rho, \mathrm{clip}(\rho, 1 - c, 1 + c)) A)",
            "sign flipped: the loss": r"-\mathrm{mean}(\min(\rho A, \mathrm{clip}(\rho, 1 - c, 1 + c) A))",
            "sum where the mean was due": r"\sum_{draw} \min(\rho A, \mathrm{clip}(\rho, 1 - c, 1 + c) A)",
            "the ratio inverted": r"\mathrm{mean}(\min(\frac{A}{\rho}, \mathrm{clip}(\frac{1}{\rho}, 1 - c, 1 + c) A))",
            "the advantage clipped, not the ratio": r"\mathrm{mean}(\min(\rho A, \rho\, \mathrm{clip}(A, 1 - c, 1 + c)))",
        },
    )
)
