"""Exercises on chapter 10: groups of right and wrong responses, and the success rates that come of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.exercises.record import exercise
from tabular_rlhf.terms.conditions import decided

RIGHT = "Responses have probabilities `p` under the policy and rewards `success`, 1 for a right one and 0 for a wrong one, both of shape "
"`(P, N)`. "
GROUPS = RIGHT + "Groups of `G` responses are drawn for each prompt. "


CHANCE = {"u": "sum_tau p*success"}
"""The chance of a right response."""


def chance(p: Any, success: Any) -> Any:
    """u of each prompt."""
    return np.sum(p * success, axis=1)


# ---------------------------------------------------------------------------------------------------- pass-share


exercise(
    slug="pass-share",
    chapter=10,
    notebook="11",
    title="Pass at k from a few tries",
    statement=(
        "`successes`, of shape `(n, G)`, holds n groups of `G` tries, 1 for a right one. For each group return the unbiased estimate "
        "of $1 - (1 - u)^k$, the chance that at least one of k = `tries` fresh tries is right: shape `(n,)`."
    ),
    hint="Choose k of the G tries without replacement: what share of these choices holds nobody who is right?",
    rows=("pass-at-k",),
    given=("successes", "tries"),
    text=r"""
    let m = sum_i successes(i); k = tries
    1 - \frac{\binom{G - m}{k}}{\binom{G}{k}}
      not 1 - (1 - \frac{m}{G})^k  # plug-in: with replacement
      not \frac{m}{G}  # the share of right ones
      not \frac{\binom{G - m}{k}}{\binom{G}{k}}  # the chance that nobody is right
      not \frac{\binom{m}{k}}{\binom{G}{k}}  # the chance that all k are right
    """,
)

# ---------------------------------------------------------------------------------------------------- group-weight


exercise(
    slug="group-weight",
    chapter=10,
    notebook="11",
    title="What a table of advantages ascends",
    statement=(
        GROUPS + "If m of a group are right, 0 < m < G, a right response has the advantage A(m) = `credit_0` + `credit_1` m + "
        "`credit_2` m^2, and wrong ones share what makes the sum zero; groups of one kind push nothing. The mean of one group's "
        "update, averaged over its members, is $w(u)\\, \\nabla u$, with u the chance of a right response. Return w(u) for each "
        "prompt: shape `(P,)`."
    ),
    hint="Given m, a right response's mean score is the gradient of log u, a wrong one's that of log(1 - u).",
    rows=("group-bernstein",),
    where=decided,
    scale=lambda: 100.0,
    letters={**CHANCE, "A(m)": "c_0 + c_1*m + c_2*m^2", "c_0": "credit_0", "c_1": "credit_1", "c_2": "credit_2"},
    given=("p", "success", "G", "credit_0", "credit_1", "credit_2"),
    text=r"""
    \sum_{m=1}^{G-1} \binom{G-1}{m-1} u^{m-1} (1 - u)^{G-1-m} A(m)
      not \sum_{m=1}^{G-1} \binom{G-1}{m-1} u^{m-1} (1 - u)^{G-m} A(m)  # one power too many: of degree G - 1
      not \sum_{m=1}^{G-1} \binom{G}{m} u^{m-1} (1 - u)^{G-1-m} A(m)  # all groups counted, not those of the others
      not G \sum_{m=1}^{G-1} \binom{G-1}{m-1} u^{m-1} (1 - u)^{G-1-m} A(m)  # sum over the group for its mean
      not \sum_{m=1}^{G-1} \binom{G-1}{m-1} (1 - u)^{m-1} u^{G-1-m} A(m)  # right and wrong exchanged
    """,
)

# ---------------------------------------------------------------------------------------------------- max-rl-weight


exercise(
    slug="max-rl-weight",
    chapter=10,
    notebook="11",
    title="MaxRL as it is coded",
    statement=(
        GROUPS + "MaxRL's advantage is r divided by the group's mean, minus 1; code leaves out groups in which nobody is right. The mean "
        "of one group's update is $w(u)\\, \\nabla u$. Return w(u) for each prompt: shape `(P,)`."
    ),
    hint="Count to which power of 1 - u the series of 1/u gets. It is not G.",
    rows=("maxrl-order",),
    where=decided,
    scale=lambda G: 1.0 * G,
    letters=CHANCE,
    given=("p", "success", "G"),
    text=r"""
    \sum_{k=0}^{G-2} (1 - u)^k
      not \sum_{k=0}^{G-1} (1 - u)^k  # one order too many
      not \frac{1}{u}  # the limit of large groups: 1/u
      not 1  # REINFORCE: 1
      not \sum_{k=0}^{G-2} u^k  # powers of u
      not G (1 - u)^{G-1}  # pass at G
    """,
)

# ---------------------------------------------------------------------------------------------------- filled-step

exercise(
    slug="filled-step",
    chapter=10,
    notebook="11",
    title="A batch without silent groups",
    statement=(
        GROUPS
        + "Prompts have probabilities `mu`, `(P,)`. Groups whose rewards are all equal are thrown away, and the batch is filled with "
        "groups of other prompts until all are mixed. With RLOO advantages the mean update is then a number times "
        "$\\nabla\\, \\mathbb{E}_{x \\sim \\mu}[u]$, u the chance of a right response. Return that number: a scalar."
    ),
    hint="How often is a group mixed, over all prompts? Silent groups pushed nothing before, either.",
    rows=("dynamic-sampling",),
    where=decided,
    scale=lambda p, success, mu: 1.0 / (mu @ (chance(p, success) * (1 - chance(p, success)))),
    letters=CHANCE,
    given=("mu", "p", "success", "G"),
    text=r"""
    \frac{1}{\mathbb{E}_{x \sim \mu}[1 - u^G - (1 - u)^G]}
      not \mathbb{E}_{x \sim \mu}[1 - u^G - (1 - u)^G]  # upside down: the chance to be mixed
      not \frac{1}{\mathbb{E}_{x \sim \mu}[1 - (1 - u)^G]}  # only groups of wrong ones are silent
      not 1  # nothing changes: 1
      not \frac{1}{\mathbb{E}_{x \sim \mu}[u^G + (1 - u)^G]}  # over the chance of silence
    """,
)

# ---------------------------------------------------------------------------------------------------- sharpened-success


exercise(
    slug="sharpened-success",
    chapter=10,
    notebook="11",
    title="How often the tuned model is right",
    statement=(
        "Responses have probabilities `p_ref` under the reference, and rewards `success`, 1 for a right one and 0 for a wrong one, "
        "both of shape `(P, N)`. Return the chance of a right response under the optimum with KL weight `beta`, for each prompt: shape "
        "`(P,)`."
    ),
    hint="Write log-odds: what does the tilt do to them?",
    rows=("sharpening",),
    where=lambda p_ref, success, beta: decided(p_ref, success) and beta > 0.02,
    scale=lambda beta: 1.0 + 1.0 / beta,
    answer=1,
    given=("p_ref", "success", "beta"),
    misses={
        "beta for 1/beta": r"\sigma(\log\frac{u}{1 - u} + \beta)",
        "the reference's own": "u",
        "u for its odds": r"\sigma(u + \frac{1}{\beta})",
        "sign flipped": r"\sigma(\log\frac{u}{1 - u} - \frac{1}{\beta})",
        "not normalized": r"u\, e^{1/\beta}",
    },
)
