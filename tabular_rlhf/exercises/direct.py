"""Exercises on chapter 6: a policy is a reward; DPO's loss on data, its slopes, IPO's target, and what data leave open."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.exercises.record import exercise
from tabular_rlhf.tolerance import largest

# ---------------------------------------------------------------------------------------------------- policy-reward

exercise(
    slug="policy-reward",
    chapter=6,
    notebook="06",
    title="The reward hidden in a policy",
    statement=(
        "Every policy is the optimum of some reward. `log_p` is the logarithm of a policy's law $p$ over responses, `log_p_ref` that "
        "of the reference, both of shape `(P, N)`. Return a reward for which $p$ maximizes "
        "$\\mathbb{E}_p[r] - \\beta\\,\\mathrm{KL}(p, p_{ref})$: shape `(P, N)`, reward units. (A constant for each prompt is free.)"
    ),
    hint="Take the logarithm of the Gibbs optimum p = p_ref exp(r/beta)/Z and solve for r.",
    rows=("reward-inversion",),
    forbidden="refused",
    free="constant per prompt",
    text=r"""
    \beta \log\frac{p}{p_{ref}}
      slip beta dropped
      not \frac{1}{\beta} \log\frac{p}{p_{ref}}  # 1/beta for beta
      not \beta \log\frac{p_{ref}}{p}  # the ratio inverted: sign flipped
      not \beta \log p  # p_ref omitted
      not \beta \frac{p}{p_{ref}}  # the log omitted: beta p/p_ref
      not r  # the reward of p* for that of p
    """,
)

# ---------------------------------------------------------------------------------------------------- dpo-data-loss

OBSERVED = (
    "In $n$ observed comparisons, `log_p_w` and `log_p_l` are the log-probabilities of the winners and of the losers under the policy, "
    "`log_p_ref_w` and `log_p_ref_l` those under the reference, all of shape `(n,)`. "
)
PAIRS = {
    "n": "observed",
    **{name: name for name in ("rhat_w", "rhat_l", "length_w", "length_l")},
    "ell_w": "log_p_w",
    "ell_l": "log_p_l",
    "ell_w^ref": "log_p_ref_w",
    "ell_l^ref": "log_p_ref_l",
    "Delta": "(ell_w - ell_w^ref) - (ell_l - ell_l^ref)",
}
"""What is observed of n pairs: log-probabilities of both, and the gain of the winner over the loser."""
IMPLICIT = OBSERVED + "The implicit reward of a response is $\\hat r = \\beta \\log (p/p_{ref})$. "


exercise(
    slug="dpo-data-loss",
    chapter=6,
    notebook="06",
    title="DPO's loss on data",
    statement=(
        IMPLICIT + "Return DPO's loss, the mean negative log-likelihood of the comparisons under Bradley-Terry with these rewards, "
        "$-\\log \\sigma(\\hat r_w - \\hat r_l)$: a scalar, nats."
    ),
    hint="Four log-probabilities, two signs each way: the winner's log ratio less the loser's, times beta, into -log sigma.",
    rows=("dpo-loss",),
    letters=PAIRS,
    given=("beta", "log_p_w", "log_p_l", "log_p_ref_w", "log_p_ref_l"),
    text=r"""
    -\mathrm{mean}(\log\sigma(\beta \Delta))
      slip beta dropped
      not -\mathrm{mean}(\log\sigma(-\beta \Delta))  # winner and loser swapped
      not -\sum_{draw} \log\sigma(\beta \Delta)  # sum where the mean was due
      not \mathrm{mean}(\log\sigma(\beta \Delta))  # sign flipped: the log-likelihood
      not -\mathrm{mean}(\log\sigma(\frac{\Delta}{\beta}))  # 1/beta for beta
      not -\mathrm{mean}(\log\sigma(\beta (\ell_w - \ell_l)))  # p_ref omitted
      not -\mathrm{mean}(\log\sigma(\beta (\ell_w + \ell_w^{ref} - \ell_l - \ell_l^{ref})))
        # the sign of log p_ref flipped: p times p_ref for p over p_ref
      not -\log \mathrm{mean}(\sigma(\beta \Delta))  # log of the mean for the mean of logs
      not \mathrm{mean}(\sigma(-\beta \Delta))  # the log omitted: mean probability of the other outcome
      not -\mathrm{mean}(\log\sigma(\frac{\beta (\ell_w - \ell_w^{ref})}{length_w} - \frac{\beta (\ell_l - \ell_l^{ref})}{length_l}))
        # mean over tokens where the sum was due
    """,
)

# ---------------------------------------------------------------------------------------------------- dpo-slopes


exercise(
    slug="dpo-slopes",
    chapter=6,
    notebook="06",
    title="How hard DPO pulls",
    statement=(
        IMPLICIT + "Return the slopes of DPO's loss, the mean over the $n$ comparisons of $-\\log \\sigma(\\hat r_w - \\hat r_l)$, in "
        "each entry of `log_p_w` (first row) and of `log_p_l` (second row): shape `(2, n)`."
    ),
    hint="d log sigma(m)/dm = sigma(-m): the pull is large where the implicit reward orders the pair wrongly.",
    rows=("dpo-gradient",),
    letters=PAIRS,
    given=("beta", "rhat_w", "rhat_l"),
    misses={
        "sigma(rhat_w - rhat_l) for sigma(rhat_l - rhat_w)": (
            r"-\frac{\beta}{n}\, \sigma(rhat_w - rhat_l)",
            r"\frac{\beta}{n}\, \sigma(rhat_w - rhat_l)",
        ),
        "sign flipped: winner and loser swapped": (
            r"\frac{\beta}{n}\, \sigma(rhat_l - rhat_w)",
            r"-\frac{\beta}{n}\, \sigma(rhat_l - rhat_w)",
        ),
        "sum where the mean was due": (r"-\beta\, \sigma(rhat_l - rhat_w)", r"\beta\, \sigma(rhat_l - rhat_w)"),
        "beta dropped": (r"-\frac{1}{n}\, \sigma(rhat_l - rhat_w)", r"\frac{1}{n}\, \sigma(rhat_l - rhat_w)"),
        "beta dropped inside sigma": (r"-\frac{\beta}{n}\, \sigma(-\Delta)", r"\frac{\beta}{n}\, \sigma(-\Delta)"),
        "weight omitted: every pair pulls alike": (r"-\frac{\beta}{n}", r"\frac{\beta}{n}"),
        "the loser's slope omitted": (0, "0"),
        "both pushed up: the loser's sign flipped": (0, r"-\frac{\beta}{n}\, \sigma(rhat_l - rhat_w)"),
    },
    text=r"""
    -\frac{\beta}{n}\, \sigma(rhat_l - rhat_w)
    \frac{\beta}{n}\, \sigma(rhat_l - rhat_w)
    """,
)

# ---------------------------------------------------------------------------------------------------- ipo-loss


exercise(
    slug="ipo-loss",
    chapter=6,
    notebook="06",
    title="A target instead of a slope",
    statement=(
        OBSERVED + "IPO wants the gain of a pair, $h = \\log (p/p_{ref})$ of the winner less that of the loser, to be neither less nor "
        "more than $1/(2\\beta)$. Return its loss, the mean over the $n$ comparisons of $(h - \\frac{1}{2\\beta})^2$: a scalar."
    ),
    hint="Here beta does not multiply the gain; it only says where the target is.",
    rows=("ipo-two-arms", "direct-family"),
    letters=PAIRS,
    given=("beta", "log_p_w", "log_p_l", "log_p_ref_w", "log_p_ref_l"),
    scale=lambda log_p, log_p_ref, beta: _square(log_p, log_p_ref, beta),
    text=r"""
    \mathrm{mean}((\Delta - \frac{1}{2 \beta})^2)
      not \mathrm{mean}((\Delta + \frac{1}{2 \beta})^2)  # winner and loser swapped, or the sign of the target flipped
      not \sum_{draw} (\Delta - \frac{1}{2 \beta})^2  # sum where the mean was due
      not \mathrm{mean}((\Delta - \frac{1}{\beta})^2)  # a 2 is missing: 1/beta for 1/(2 beta)
      not \mathrm{mean}((\Delta - \frac{\beta}{2})^2)  # beta for 1/beta: the target beta/2
      not \mathrm{mean}(\Delta^2)  # the target omitted
      not \mathrm{mean}(|\Delta - \frac{1}{2 \beta}|)  # absolute distance for its square
      not (\mathrm{mean}(\Delta) - \frac{1}{2 \beta})^2  # square of the mean for mean of the squares
      not \mathrm{mean}((\ell_w - \ell_l - \frac{1}{2 \beta})^2)  # p_ref omitted
      not \mathrm{mean}((\beta \Delta - \frac{1}{2 \beta})^2)  # beta times the gain: implicit rewards
    """,
)


def _square(log_p: Any, log_p_ref: Any, beta: float) -> float:
    """What a square of log ratios and a target may be made of."""
    return (1.0 + 4.0 * largest(log_p, log_p_ref) + 1.0 / beta) ** 2


# ---------------------------------------------------------------------------------------------------- undetermined


def islands(compared: Any, P: int, N: int) -> list[int]:
    """The number of components of each prompt's comparison graph: each comparison of two components makes them one."""
    label = np.tile(np.arange(N), (P, 1))
    for x, i, j in compared:
        label[x, label[x] == label[x, i]] = label[x, j]
    return [len(set(row.tolist())) for row in label]


def never_met(compared: Any, P: int, N: int) -> int:
    """Responses that stand in no comparison."""
    return P * N - len({(x, y) for x, i, j in compared.tolist() for y in (i, j)})


def distinct_pairs(compared: Any) -> int:
    return len({(x, *sorted((i, j))) for x, i, j in compared.tolist() if i != j})


exercise(
    slug="undetermined",
    chapter=6,
    notebook="06",
    title="What the data do not say",
    statement=(
        "`compared` holds $n$ observed comparisons, a row each: the numbers of the prompt, of the response that won, and of the one "
        "that lost, of shape `(n, 3)`. (A response may have met itself: that tells nothing.) DPO's loss depends on $\\log p$ only "
        "through differences within the compared pairs, so that some directions of $\\log p$ do not change it. In how many "
        "independent directions can a policy over all `N` responses to each of the `P` prompts, tabular and still normalized for each "
        "prompt, move while no compared difference changes? Return the number, summed over prompts: a scalar."
    ),
    hint="Responses joined by a chain of comparisons move together; how many such groups are there, and what does normalization take?",
    rows=("dpo-is-bt-mle",),
    answer=lambda compared, P, N: sum(count - 1 for count in islands(compared, P, N)),
    minutes=15,
    misses={
        "n - 1 for n: normalization forgotten": lambda compared, P, N: sum(islands(compared, P, N)),
        "normalization counted once for all prompts": lambda compared, P, N: sum(islands(compared, P, N)) - 1,
        "every comparison taken for news: repetitions and rings counted": lambda compared, P, N: P * (N - 1) - len(compared),
        "every distinct pair taken for news: rings counted": lambda compared, P, N: P * (N - 1) - distinct_pairs(compared),
        "comparisons ignored: every direction": lambda P, N: P * (N - 1),
        "only responses that were never compared counted": never_met,
        "components of all prompts: determined for undetermined": lambda compared, P, N: P * N - sum(islands(compared, P, N)),
        "one minimizer: zero": lambda: 0,
    },
)
