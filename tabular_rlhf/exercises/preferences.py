"""Exercises on chapter 3: the Bradley-Terry law, its likelihood and slope, tables of wins, and labels that lie."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.exercises.record import exercise

# ---------------------------------------------------------------------------------------------------- win-probabilities


exercise(
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
    answer=2,
    without=("P_beats", "law"),
    misses={
        "winner and loser swapped": r"\sigma(r_j - r_i)",
        "beta for one: sigma(beta (r - r'))": r"\sigma(\beta (r_i - r_j))",
        "sigma of each reward alone": r"\sigma(r_i)",
        "softmax over all responses": r"\frac{e^{r_i}}{\sum_k e^{r_k}}",
        "log base 2: powers of 2 for powers of e": r"\sigma(\log 2 \cdot (r_i - r_j))",
        "the logarithm of the answer": r"\log\sigma(r_i - r_j)",
    },
    largest=500,
)

# ---------------------------------------------------------------------------------------------------- count-wins

OBSERVED = {"r_w": "r_w", "r_l": "r_l"}
"""The rewards of observed winners and losers."""
COMPARED = (
    "`compared` holds $n$ observed comparisons, a row each: the numbers of the prompt, of the response that won, and of the one that "
    "lost, of shape `(n, 3)`. "
)


def wins_of(compared: Any, P: int, N: int) -> Any:
    """How often i beat j."""
    wins = np.zeros((P, N, N))
    np.add.at(wins, (compared[:, 0], compared[:, 1], compared[:, 2]), 1.0)
    return wins


exercise(
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

# ---------------------------------------------------------------------------------------------------- comparison-loss


exercise(
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
    letters=OBSERVED,
    scale=lambda r: 1.0 + np.max(np.abs(r)),
    text=r"""
    -\mathrm{mean}(\log\sigma(r_w - r_l))
      slip sign flipped
      not -\sum_{draw} \log\sigma(r_w - r_l)  # sum where the mean was due
      not -\mathrm{mean}(\log\sigma(r_l - r_w))  # winner and loser swapped
      not -\log \mathrm{mean}(\sigma(r_w - r_l))  # log of the mean for the mean of logs
      not \mathrm{mean}(\sigma(r_l - r_w))  # the log omitted: mean probability of the other outcome
      not -\mathrm{mean}(\log\sigma(\beta (r_w - r_l)))  # beta for one: sigma(beta (r - r'))
    """,
)

# ---------------------------------------------------------------------------------------------------- preference-slope

exercise(
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
    given=("scores", "n_ij", "wins_ij"),
    largest=500,
    scale=lambda n_ij: 1.0 + np.max(np.sum(n_ij, axis=2)),
    text=r"""
    let n = n_ij; w = wins_ij
    \sum_j (n_{ij}\, \sigma(\hat r_i - \hat r_j) - w_{ij})
      not \sum_j (w_{ij} - n_{ij}\, \sigma(\hat r_i - \hat r_j))  # sign flipped
      not \sum_j (n_{ij}\, \sigma(\hat r_i - \hat r_j) - w_{ji})  # winner and loser swapped
      not \sum_j (1[n_{ij} > 0]\, \sigma(\hat r_i - \hat r_j) - \frac{w_{ij}}{\max(n_{ij}, 1)})  # n_ij dropped: rates for counts
      not \frac{\sum_j (n_{ij}\, \sigma(\hat r_i - \hat r_j) - w_{ij})}{\max(\sum_j n_{ij}, 1)}
        # mean where the sum was due: divided by the comparisons of i
      not \sum_j n_{ij}\, \sigma(\hat r_i - \hat r_j)  # wins omitted: only what the model expects
      not \sum_j (n_{ij}\, \sigma(r_i - r_j) - w_{ij})  # r for r^: the slope at other rewards
    """,
)

# ---------------------------------------------------------------------------------------------------- unbiased-loss


exercise(
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
    letters={**OBSERVED, "ell(z)": "-log(sigma(z))", "epsilon": "flip"},
    given=("r_w", "r_l", "flip"),
    scale=lambda r, flip: (1.0 + np.max(np.abs(r))) / (1.0 - 2.0 * flip),
    text=r"""
    \mathrm{mean}(\frac{(1 - \epsilon)\, \ell(r_w - r_l) - \epsilon\, \ell(r_l - r_w)}{1 - 2 \epsilon})
      not \mathrm{mean}((1 - \epsilon)\, \ell(r_w - r_l) + \epsilon\, \ell(r_l - r_w))  # smoothing taken for the unbiased loss
      not \mathrm{mean}((1 - \epsilon)\, \ell(r_w - r_l) - \epsilon\, \ell(r_l - r_w))  # 1 - 2e dropped
      not \mathrm{mean}(\ell(r_w - r_l))  # flips ignored: the naive loss
      not -\mathrm{mean}(\log((1 - \epsilon)\, \sigma(r_w - r_l) + \epsilon\, \sigma(r_l - r_w)))  # the likelihood of flipped labels
      not \mathrm{mean}(\frac{(1 - \epsilon)\, \ell(r_l - r_w) - \epsilon\, \ell(r_w - r_l)}{1 - 2 \epsilon})  # winner and loser swapped
      not \sum_{draw} \frac{(1 - \epsilon)\, \ell(r_w - r_l) - \epsilon\, \ell(r_l - r_w)}{1 - 2 \epsilon}  # sum where the mean was due
    """,
)
