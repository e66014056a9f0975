"""Exercises on chapter 6: a policy is a reward; DPO's loss on data, its slopes, IPO's target, and what data leave open."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.exercises.record import Exercise, add
from tabular_rlhf.logspace import log_sigmoid
from tabular_rlhf.terms.comparisons import sigma
from tabular_rlhf.tolerance import largest

# ---------------------------------------------------------------------------------------------------- policy-reward

add(
    Exercise(
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
        answer=lambda beta, log_p, log_p_ref: beta * (log_p - log_p_ref),
        free="constant per prompt",
        misses={
            "beta dropped": lambda log_p, log_p_ref: log_p - log_p_ref,
            "1/beta for beta": lambda beta, log_p, log_p_ref: (log_p - log_p_ref) / beta,
            "the ratio inverted: sign flipped": lambda beta, log_p, log_p_ref: beta * (log_p_ref - log_p),
            "p_ref omitted": lambda beta, log_p: beta * log_p,
            "the log omitted: beta p/p_ref": lambda beta, log_p, log_p_ref: beta * np.exp(log_p - log_p_ref),
            "the reward of p* for that of p": lambda r: r,
        },
    )
)

# ---------------------------------------------------------------------------------------------------- dpo-data-loss

OBSERVED = (
    "In $n$ observed comparisons, `log_p_w` and `log_p_l` are the log-probabilities of the winners and of the losers under the policy, "
    "`log_p_ref_w` and `log_p_ref_l` those under the reference, all of shape `(n,)`. "
)
IMPLICIT = OBSERVED + "The implicit reward of a response is $\\hat r = \\beta \\log (p/p_{ref})$. "


def gain(log_p_w: Any, log_p_l: Any, log_p_ref_w: Any, log_p_ref_l: Any) -> Any:
    """log(p/p_ref) of the winners less that of the losers."""
    return (log_p_w - log_p_ref_w) - (log_p_l - log_p_ref_l)


def nll(margin: Any) -> Any:
    return -np.mean(log_sigmoid(margin))


add(
    Exercise(
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
        answer=lambda beta, log_p_w, log_p_l, log_p_ref_w, log_p_ref_l: np.mean(
            np.log1p(np.exp(-beta * ((log_p_w - log_p_ref_w) - (log_p_l - log_p_ref_l))))
        ),
        misses={
            "winner and loser swapped": lambda rhat_w, rhat_l: nll(rhat_l - rhat_w),
            "sum where the mean was due": lambda rhat_w, rhat_l: len(rhat_w) * nll(rhat_w - rhat_l),
            "sign flipped: the log-likelihood": lambda rhat_w, rhat_l: -nll(rhat_w - rhat_l),
            "beta dropped": lambda log_p_w, log_p_l, log_p_ref_w, log_p_ref_l: nll(gain(log_p_w, log_p_l, log_p_ref_w, log_p_ref_l)),
            "1/beta for beta": lambda beta, rhat_w, rhat_l: nll((rhat_w - rhat_l) / beta**2),
            "p_ref omitted": lambda beta, log_p_w, log_p_l: nll(beta * (log_p_w - log_p_l)),
            "the sign of log p_ref flipped: p times p_ref for p over p_ref": lambda beta, log_p_w, log_p_l, log_p_ref_w, log_p_ref_l: nll(
                beta * (log_p_w + log_p_ref_w - log_p_l - log_p_ref_l)
            ),
            "log of the mean for the mean of logs": lambda rhat_w, rhat_l: -np.log(np.mean(sigma(rhat_w - rhat_l))),
            "the log omitted: mean probability of the other outcome": lambda rhat_w, rhat_l: np.mean(sigma(rhat_l - rhat_w)),
            "mean over tokens where the sum was due": lambda rhat_w, rhat_l, length_w, length_l: nll(rhat_w / length_w - rhat_l / length_l),
        },
    )
)

# ---------------------------------------------------------------------------------------------------- dpo-slopes


def slopes(pull: Any) -> Any:
    """A mean loss falls as winners rise and as losers fall."""
    return np.stack([-pull, pull]) / len(pull)


add(
    Exercise(
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
        answer=lambda beta, rhat_w, rhat_l: (
            beta * np.stack([-1.0 / (1.0 + np.exp(rhat_w - rhat_l)), 1.0 / (1.0 + np.exp(rhat_w - rhat_l))]) / len(rhat_w)
        ),
        misses={
            "sigma(rhat_w - rhat_l) for sigma(rhat_l - rhat_w)": lambda beta, rhat_w, rhat_l: slopes(beta * sigma(rhat_w - rhat_l)),
            "sign flipped: winner and loser swapped": lambda beta, rhat_w, rhat_l: slopes(-beta * sigma(rhat_l - rhat_w)),
            "sum where the mean was due": lambda beta, rhat_w, rhat_l: len(rhat_w) * slopes(beta * sigma(rhat_l - rhat_w)),
            "beta dropped": lambda rhat_w, rhat_l: slopes(sigma(rhat_l - rhat_w)),
            "beta dropped inside sigma": lambda beta, rhat_w, rhat_l: slopes(beta * sigma((rhat_l - rhat_w) / beta)),
            "weight omitted: every pair pulls alike": lambda beta, rhat_w: slopes(beta + 0.0 * rhat_w),
            "the loser's slope omitted": lambda beta, rhat_w, rhat_l: slopes(beta * sigma(rhat_l - rhat_w)) * np.array([[1.0], [0.0]]),
            "both pushed up: the loser's sign flipped": lambda beta, rhat_w, rhat_l: -np.abs(slopes(beta * sigma(rhat_l - rhat_w))),
        },
    )
)

# ---------------------------------------------------------------------------------------------------- ipo-loss


def to_target(target: Any) -> Any:
    """The mean squared distance of the gains from a target."""
    return lambda beta, log_p_w, log_p_l, log_p_ref_w, log_p_ref_l: np.mean(
        np.square(gain(log_p_w, log_p_l, log_p_ref_w, log_p_ref_l) - target(beta))
    )


def absolute(beta: float, log_p_w: Any, log_p_l: Any, log_p_ref_w: Any, log_p_ref_l: Any) -> Any:
    return np.mean(np.abs(gain(log_p_w, log_p_l, log_p_ref_w, log_p_ref_l) - 0.5 / beta))


def of_mean(beta: float, log_p_w: Any, log_p_l: Any, log_p_ref_w: Any, log_p_ref_l: Any) -> Any:
    return np.square(np.mean(gain(log_p_w, log_p_l, log_p_ref_w, log_p_ref_l)) - 0.5 / beta)


def swapped(beta: float, log_p_w: Any, log_p_l: Any, log_p_ref_w: Any, log_p_ref_l: Any) -> Any:
    return to_target(lambda beta: 0.5 / beta)(beta, log_p_l, log_p_w, log_p_ref_l, log_p_ref_w)


def summed(beta: float, log_p_w: Any, log_p_l: Any, log_p_ref_w: Any, log_p_ref_l: Any) -> Any:
    return len(log_p_w) * to_target(lambda beta: 0.5 / beta)(beta, log_p_w, log_p_l, log_p_ref_w, log_p_ref_l)


add(
    Exercise(
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
        answer=lambda beta, log_p_w, log_p_l, log_p_ref_w, log_p_ref_l: np.mean(
            ((log_p_w - log_p_ref_w) - (log_p_l - log_p_ref_l) - 1.0 / (2.0 * beta)) ** 2
        ),
        misses={
            "winner and loser swapped, or the sign of the target flipped": swapped,
            "sum where the mean was due": summed,
            "a 2 is missing: 1/beta for 1/(2 beta)": to_target(lambda beta: 1.0 / beta),
            "beta for 1/beta: the target beta/2": to_target(lambda beta: beta / 2.0),
            "the target omitted": to_target(lambda beta: 0.0),
            "absolute distance for its square": absolute,
            "square of the mean for mean of the squares": of_mean,
            "p_ref omitted": lambda beta, log_p_w, log_p_l: np.mean(np.square(log_p_w - log_p_l - 0.5 / beta)),
            "beta times the gain: implicit rewards": lambda beta, rhat_w, rhat_l: np.mean(np.square(rhat_w - rhat_l - 0.5 / beta)),
        },
        scale=lambda log_p, log_p_ref, beta: _square(log_p, log_p_ref, beta),
    )
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


add(
    Exercise(
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
)
