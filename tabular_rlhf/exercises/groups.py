"""Exercises on chapter 10: groups of right and wrong responses, and the success rates that come of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tabular_rlhf.exercises.record import Exercise, add
from tabular_rlhf.terms.conditions import decided

RIGHT = "Responses have probabilities `p` under the policy and rewards `success`, 1 for a right one and 0 for a wrong one, both of shape "
"`(P, N)`. "
GROUPS = RIGHT + "Groups of `G` responses are drawn for each prompt. "


def chance(p: Any, success: Any) -> Any:
    """u of each prompt."""
    return np.sum(p * success, axis=1)


# ---------------------------------------------------------------------------------------------------- pass-share


def of_counts(successes: Any, share: Any) -> Any:
    """A function of how many of each group are right."""
    return np.array([share(int(m), successes.shape[1]) for m in np.sum(successes, axis=1)])


add(
    Exercise(
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
        answer=lambda successes, tries: (
            1.0 - np.array([math.comb(int(g), tries) for g in np.sum(1 - successes, axis=1)]) / math.comb(successes.shape[1], tries)
        ),
        misses={
            "plug-in: with replacement": lambda successes, tries: of_counts(successes, lambda m, G: 1.0 - (1.0 - m / G) ** tries),
            "the share of right ones": lambda successes: np.mean(successes, axis=1),
            "the chance that nobody is right": lambda successes, tries: of_counts(
                successes, lambda m, G: math.comb(G - m, tries) / math.comb(G, tries)
            ),
            "the chance that all k are right": lambda successes, tries: of_counts(
                successes, lambda m, G: math.comb(m, tries) / math.comb(G, tries)
            ),
        },
    )
)

# ---------------------------------------------------------------------------------------------------- group-weight


def weighted(p: Any, success: Any, G: int, A: Any, ways: Any = None, up: int = 0) -> Any:
    """sum over m of ways(m) u^(m-1) (1-u)^(G-1-m+up) A(m)."""
    u = chance(p, success)
    ways = ways or (lambda m: math.comb(G - 1, m - 1))
    return sum(ways(m) * u ** (m - 1) * (1.0 - u) ** (G - 1 - m + up) * A(m) for m in range(1, G))


def table(credit_0: float, credit_1: float, credit_2: float) -> Any:
    return lambda m: credit_0 + credit_1 * m + credit_2 * m**2


add(
    Exercise(
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
        answer=lambda p, success, G, credit_0, credit_1, credit_2: sum(
            math.comb(G - 1, m - 1)
            * np.sum(p * success, axis=1) ** (m - 1)
            * (1.0 - np.sum(p * success, axis=1)) ** (G - 1 - m)
            * (credit_0 + credit_1 * m + credit_2 * m**2)
            for m in range(1, G)
        ),
        misses={
            "one power too many: of degree G - 1": lambda p, success, G, credit_0, credit_1, credit_2: weighted(
                p, success, G, table(credit_0, credit_1, credit_2), up=1
            ),
            "all groups counted, not those of the others": lambda p, success, G, credit_0, credit_1, credit_2: weighted(
                p, success, G, table(credit_0, credit_1, credit_2), lambda m: math.comb(G, m)
            ),
            "sum over the group for its mean": lambda p, success, G, credit_0, credit_1, credit_2: (
                G * weighted(p, success, G, table(credit_0, credit_1, credit_2))
            ),
            "right and wrong exchanged": lambda p, success, G, credit_0, credit_1, credit_2: weighted(
                p, 1.0 - success, G, table(credit_0, credit_1, credit_2)
            ),
        },
    )
)

# ---------------------------------------------------------------------------------------------------- max-rl-weight


def series(p: Any, success: Any, terms: int) -> Any:
    return sum((1.0 - chance(p, success)) ** k for k in range(terms))


add(
    Exercise(
        slug="max-rl-weight",
        chapter=10,
        notebook="11",
        title="MaxRL as it is coded",
        statement=(
            GROUPS
            + "MaxRL's advantage is r divided by the group's mean, minus 1; code leaves out groups in which nobody is right. The mean "
            "of one group's update is $w(u)\\, \\nabla u$. Return w(u) for each prompt: shape `(P,)`."
        ),
        hint="Count to which power of 1 - u the series of 1/u gets. It is not G.",
        rows=("maxrl-order",),
        where=decided,
        scale=lambda G: 1.0 * G,
        answer=lambda p, success, G: sum((1.0 - np.sum(p * success, axis=1)) ** k for k in range(G - 1)),
        misses={
            "one order too many": lambda p, success, G: series(p, success, G),
            "the limit of large groups: 1/u": lambda p, success: 1.0 / chance(p, success),
            "REINFORCE: 1": lambda p, success: np.ones(len(p)),
            "powers of u": lambda p, success, G: sum(chance(p, success) ** k for k in range(G - 1)),
            "pass at G": lambda p, success, G: G * (1.0 - chance(p, success)) ** (G - 1),
        },
    )
)

# ---------------------------------------------------------------------------------------------------- filled-step

add(
    Exercise(
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
        answer=lambda mu, p, success, G: (
            1.0 / np.sum(mu * (1.0 - np.sum(p * success, axis=1) ** G - (1.0 - np.sum(p * success, axis=1)) ** G))
        ),
        misses={
            "upside down: the chance to be mixed": lambda mu, p, success, G: np.sum(
                mu * (1.0 - chance(p, success) ** G - (1.0 - chance(p, success)) ** G)
            ),
            "only groups of wrong ones are silent": lambda mu, p, success, G: 1.0 / np.sum(mu * (1.0 - (1.0 - chance(p, success)) ** G)),
            "nothing changes: 1": lambda: 1.0,
            "over the chance of silence": lambda mu, p, success, G: (
                1.0 / np.sum(mu * (chance(p, success) ** G + (1.0 - chance(p, success)) ** G))
            ),
        },
    )
)

# ---------------------------------------------------------------------------------------------------- sharpened-success


def log_odds(u: Any) -> Any:
    return np.log(u) - np.log1p(-u)


def squashed(z: Any) -> Any:
    return np.exp(-np.logaddexp(0.0, -z))


add(
    Exercise(
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
        answer=lambda p_ref, success, beta: (
            1.0 / (1.0 + np.exp(-1.0 / beta) * np.sum(p_ref * (1.0 - success), axis=1) / np.sum(p_ref * success, axis=1))
        ),
        misses={
            "beta for 1/beta": lambda p_ref, success, beta: squashed(log_odds(chance(p_ref, success)) + beta),
            "the reference's own": lambda p_ref, success: chance(p_ref, success),
            "u for its odds": lambda p_ref, success, beta: squashed(chance(p_ref, success) + 1.0 / beta),
            "sign flipped": lambda p_ref, success, beta: squashed(log_odds(chance(p_ref, success)) - 1.0 / beta),
            "not normalized": lambda p_ref, success, beta: chance(p_ref, success) * np.exp(1.0 / beta),
        },
    )
)
