"""Exercises on chapter 3: the Bradley-Terry law, its likelihood and slope, tables of wins, and labels that lie."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.exercises.record import Exercise, add
from tabular_rlhf.logspace import log_sigmoid, log_softmax
from tabular_rlhf.terms.comparisons import score, sigma

# ---------------------------------------------------------------------------------------------------- win-probabilities


def gaps_of(r: Any) -> Any:
    """r_i - r_j."""
    return r[:, :, None] - r[:, None, :]


add(
    Exercise(
        slug="win-probabilities",
        chapter=3,
        notebook="03",
        title="Who beats whom?",
        statement=(
            "Return the Bradley-Terry probability that response $i$ beats response $j$ to the same prompt, "
            "$\\sigma(r_i - r_j)$ with $\\sigma(u) = 1/(1 + e^{-u})$, for every pair: entry `[x, i, j]` of an array of shape `(P, N, N)`."
        ),
        hint="Differences of a row with itself: one copy of r gets an axis behind, the other before.",
        rows=("bradley-terry",),
        answer=lambda r: 1.0 / (1.0 + np.exp(-(r[:, :, None] - r[:, None, :]))),
        without=("P_beats", "law"),
        misses={
            "winner and loser swapped": lambda r: sigma(-gaps_of(r)),
            "beta for one: sigma(beta (r - r'))": lambda r, beta: sigma(beta * gaps_of(r)),
            "sigma of each reward alone": lambda r: sigma(r)[:, :, None] + 0.0 * gaps_of(r),
            "softmax over all responses": lambda r: np.exp(log_softmax(r))[:, :, None] + 0.0 * gaps_of(r),
            "log base 2: powers of 2 for powers of e": lambda r: sigma(gaps_of(r) * np.log(2.0)),
            "the logarithm of the answer": lambda r: log_sigmoid(gaps_of(r)),
        },
        largest=500,
    )
)

# ---------------------------------------------------------------------------------------------------- count-wins

COMPARED = (
    "`compared` holds $n$ observed comparisons, a row each: the numbers of the prompt, of the response that won, and of the one that "
    "lost, of shape `(n, 3)`. "
)


def wins_of(compared: Any, P: int, N: int) -> Any:
    """How often i beat j."""
    wins = np.zeros((P, N, N))
    np.add.at(wins, (compared[:, 0], compared[:, 1], compared[:, 2]), 1.0)
    return wins


add(
    Exercise(
        slug="count-wins",
        chapter=3,
        notebook="03",
        title="From a list of comparisons to a table",
        statement=(
            COMPARED + "Return the table of wins: entry `[x, i, j]` is how often $i$ beat $j$ after prompt $x$, shape `(P, N, N)`. (The "
            "same comparison may stand in several rows. A response may have met itself: that counts on the diagonal.)"
        ),
        hint="Go through the list and add one at a time.",
        rows=("bt-score-hessian", "bt-existence"),
        answer=wins_of,
        misses={
            "winner and loser swapped": lambda compared, P, N: np.swapaxes(wins_of(compared, P, N), 1, 2),
            "wins of both: how often they met": lambda compared, P, N: wins_of(compared, P, N) + np.swapaxes(wins_of(compared, P, N), 1, 2),
            "repeated comparisons counted once": lambda compared, P, N: np.minimum(wins_of(compared, P, N), 1.0),
            "mean where the sum was due: shares for counts": lambda compared, P, N: wins_of(compared, P, N) / len(compared),
            "all prompts together": lambda compared, P, N: np.broadcast_to(np.sum(wins_of(compared, P, N), axis=0), (P, N, N)),
        },
        largest=500,
    )
)

# ---------------------------------------------------------------------------------------------------- comparison-loss


def nll(D: Any) -> Any:
    return -np.mean(log_sigmoid(D))


add(
    Exercise(
        slug="comparison-loss",
        chapter=3,
        notebook="03",
        title="The loss of a reward model",
        statement=(
            "In $n$ observed comparisons the winners have rewards `r_w` and the losers `r_l`, both of shape `(n,)`. Return the mean "
            "negative log-likelihood of these outcomes under Bradley-Terry: a scalar, nats."
        ),
        hint="The likelihood of one outcome is sigma(r_w - r_l); independent outcomes multiply, so their logarithms add.",
        rows=("bradley-terry", "mle-is-forward-kl"),
        answer=lambda r_w, r_l: np.mean(np.log1p(np.exp(-(r_w - r_l)))),
        misses={
            "sum where the mean was due": lambda r_w, r_l: len(r_w) * nll(r_w - r_l),
            "winner and loser swapped": lambda r_w, r_l: nll(r_l - r_w),
            "sign flipped: the log-likelihood": lambda r_w, r_l: -nll(r_w - r_l),
            "log of the mean for the mean of logs": lambda r_w, r_l: -np.log(np.mean(sigma(r_w - r_l))),
            "the log omitted: mean probability of the other outcome": lambda r_w, r_l: np.mean(sigma(r_l - r_w)),
            "beta for one: sigma(beta (r - r'))": lambda r_w, r_l, beta: nll(beta * (r_w - r_l)),
        },
        scale=lambda r: 1.0 + np.max(np.abs(r)),
    )
)

# ---------------------------------------------------------------------------------------------------- preference-slope

add(
    Exercise(
        slug="preference-slope",
        chapter=3,
        notebook="03",
        title="The slope of the likelihood",
        minutes=15,
        statement=(
            "After prompt $x$, responses $i$ and $j$ were compared `n_ij[x, i, j]` times (symmetric), and $i$ won `wins_ij[x, i, j]` of "
            "these. `scores` are the rewards $\\hat r$ of a model, of shape `(P, N)`. Return the slope of the negative log-likelihood "
            "$-\\sum_{i,j} wins_{ij} \\log \\sigma(\\hat r_i - \\hat r_j)$ in each $\\hat r_i$: shape `(P, N)`, comparisons."
        ),
        hint="Each pair pushes i by the wins that the model expects of it, less those that it had.",
        rows=("bt-score-hessian",),
        answer=score,
        misses={
            "sign flipped": lambda scores, n_ij, wins_ij: -score(scores, n_ij, wins_ij),
            "winner and loser swapped": lambda scores, n_ij, wins_ij: score(scores, n_ij, np.swapaxes(wins_ij, 1, 2)),
            "n_ij dropped: rates for counts": lambda scores, n_ij, wins_ij: score(
                scores, (n_ij > 0) * 1.0, wins_ij / np.maximum(n_ij, 1.0)
            ),
            "mean where the sum was due: divided by the comparisons of i": lambda scores, n_ij, wins_ij: (
                score(scores, n_ij, wins_ij) / np.maximum(np.sum(n_ij, axis=2), 1.0)
            ),
            "wins omitted: only what the model expects": lambda scores, n_ij, wins_ij: score(scores, n_ij, 0.0 * wins_ij),
            "r for r^: the slope at other rewards": lambda r, n_ij, wins_ij: score(r, n_ij, wins_ij),
        },
        largest=500,
        scale=lambda n_ij: 1.0 + np.max(np.sum(n_ij, axis=2)),
    )
)

# ---------------------------------------------------------------------------------------------------- unbiased-loss


def loss(D: Any) -> Any:
    return -log_sigmoid(D)


def unbiased(D: Any, flip: float) -> Any:
    """[(1 - e) l(D) - e l(-D)]/(1 - 2 e), a number for each comparison."""
    return ((1.0 - flip) * loss(D) - flip * loss(-D)) / (1.0 - 2.0 * flip)


add(
    Exercise(
        slug="unbiased-loss",
        chapter=3,
        notebook="03",
        title="Labels that lie",
        statement=(
            "Every label was flipped with probability $e$ = `flip`, below one half, so that some of the `r_w` (rewards of those labeled "
            "winners) and `r_l` (losers), both of shape `(n,)`, change places. With $\\ell(D) = -\\log \\sigma(D)$, find the loss "
            "$a\\,\\ell(D) + b\\,\\ell(-D)$ of a comparison with margin $D = r_w - r_l$ whose mean over the flips is $\\ell$ of the "
            "true margin. Return its mean over the $n$ comparisons: a scalar, nats."
        ),
        hint="Two equations for a and b: what multiplies l(true margin) must be one, what multiplies l(-true margin) zero.",
        rows=("label-noise",),
        answer=lambda r_w, r_l, flip: np.mean(unbiased(r_w - r_l, flip)),
        misses={
            "smoothing taken for the unbiased loss": lambda r_w, r_l, flip: np.mean(
                (1.0 - flip) * loss(r_w - r_l) + flip * loss(r_l - r_w)
            ),
            "1 - 2e dropped": lambda r_w, r_l, flip: np.mean((1.0 - 2.0 * flip) * unbiased(r_w - r_l, flip)),
            "flips ignored: the naive loss": lambda r_w, r_l: np.mean(loss(r_w - r_l)),
            "the likelihood of flipped labels": lambda r_w, r_l, flip: (
                -np.mean(np.log((1.0 - flip) * sigma(r_w - r_l) + flip * sigma(r_l - r_w)))
            ),
            "winner and loser swapped": lambda r_w, r_l, flip: np.mean(unbiased(r_l - r_w, flip)),
            "sum where the mean was due": lambda r_w, r_l, flip: np.sum(unbiased(r_w - r_l, flip)),
        },
        scale=lambda r, flip: (1.0 + np.max(np.abs(r))) / (1.0 - 2.0 * flip),
    )
)
