"""Problems of policy-gradient courses, in a trainer's tables (B, T): returns, GAE, baselines, means under a mask, importance weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.exercises.record import exercise

PADDED = (
    "A batch holds B responses of at most T tokens, a response a row; `mask`, `(B, T)`, is 1 for its tokens and 0 for the padding at the "
    "right, where the other tables hold numbers that mean nothing. "
)

# ---------------------------------------------------------------------------------------------------- returns-to-go


def summed_back(x: Any, factor: float) -> Any:
    """y_t = x_t + factor y_{t+1}."""
    ahead = np.arange(x.shape[1])[:, None] - np.arange(x.shape[1])
    return x @ np.where(ahead >= 0, float(factor) ** np.maximum(ahead, 0), 0.0)


def summed_ahead(x: Any, factor: float) -> Any:
    return summed_back(x[:, ::-1], factor)[:, ::-1]


exercise(
    slug="returns-to-go",
    chapter=7,
    notebook="",
    title="What is still to come",
    statement=(
        PADDED + "Token t earns `token_rewards`, `(B, T)`, and rewards k steps later count $\\gamma^k$ of themselves, $\\gamma$ = "
        "`discount`. Return the discounted sum of the rewards of each token and of those after it, $\\sum_{k \\ge 0} \\gamma^k "
        "r_{t+k}$, and 0 at padding: shape `(B, T)`, reward units."
    ),
    hint="Go backwards: what comes from here is this reward, and gamma times what comes from the next token on.",
    rows=("reward-to-go",),
    answer=lambda token_rewards, mask, discount: (
        np.einsum(
            "bu,ut->bt",
            token_rewards * mask,
            np.tril(float(discount) ** np.abs(np.subtract.outer(np.arange(mask.shape[1]), np.arange(mask.shape[1])))),
        )
        * mask
    ),
    misses={
        "the mask forgotten": lambda token_rewards, discount: summed_back(token_rewards, discount),
        "no discount": lambda token_rewards, mask: summed_back(token_rewards * mask, 1.0) * mask,
        "the rewards so far, not those to come": lambda token_rewards, mask, discount: summed_ahead(token_rewards * mask, discount) * mask,
        "discounted from the start of the response: gamma^t too many": lambda token_rewards, mask, discount: (
            summed_back(token_rewards * mask, discount) * mask * discount ** np.arange(mask.shape[1])
        ),
        "the whole return for every token": lambda token_rewards, mask, discount: summed_back(token_rewards * mask, discount)[:, :1] * mask,
        "the token's own reward left out": lambda token_rewards, mask, discount: (
            (summed_back(token_rewards * mask, discount) - token_rewards) * mask
        ),
    },
)

# ---------------------------------------------------------------------------------------------------- gae-of-a-batch


def surprises(token_rewards: Any, critic: Any, mask: Any, discount: float) -> Any:
    """delta_t = r_t + gamma V_{t+1} - V_t; nothing follows the last token."""
    after = np.pad((critic * mask)[:, 1:], ((0, 0), (0, 1)))
    return (token_rewards + discount * after - critic) * mask


def leaking(token_rewards: Any, critic: Any, mask: Any, discount: float) -> Any:
    """With the critic's number at padding behind the last token."""
    after = np.pad(critic[:, 1:], ((0, 0), (0, 1)))
    return (token_rewards + discount * after - critic) * mask


exercise(
    slug="gae-of-a-batch",
    chapter=7,
    notebook="",
    title="GAE under a mask",
    statement=(
        PADDED + "`token_rewards` and the `critic`'s values of the states before each token are `(B, T)`; after the last token of a "
        "response the value is 0. With $\\gamma$ = `discount` and $\\lambda$ = `lam`, return the generalized advantage estimates "
        "$A_t = \\sum_{k \\ge 0} (\\gamma \\lambda)^k \\delta_{t+k}$, $\\delta_t = r_t + \\gamma V_{t+1} - V_t$, and 0 at padding: "
        "shape `(B, T)`, reward units."
    ),
    hint="First all deltas, with the mask on the next value; then A_t = delta_t + gamma lambda A_{t+1}, backwards.",
    rows=("gae",),
    minutes=15,
    answer=lambda token_rewards, critic, mask, discount, lam: (
        summed_back(surprises(token_rewards, critic, mask, discount), discount * lam) * mask
    ),
    misses={
        "the next value at padding counted": lambda token_rewards, critic, mask, discount, lam: (
            summed_back(leaking(token_rewards, critic, mask, discount), discount * lam) * mask
        ),
        "lambda forgotten: returns less values": lambda token_rewards, critic, mask, discount: (
            summed_back(surprises(token_rewards, critic, mask, discount), discount) * mask
        ),
        "lambda = 0: one delta": lambda token_rewards, critic, mask, discount: surprises(token_rewards, critic, mask, discount),
        "lambda alone, without gamma": lambda token_rewards, critic, mask, discount, lam: (
            summed_back(surprises(token_rewards, critic, mask, discount), lam) * mask
        ),
        "the critic's targets: its value added back": lambda token_rewards, critic, mask, discount, lam: (
            (summed_back(surprises(token_rewards, critic, mask, discount), discount * lam) + critic) * mask
        ),
        "summed from the start, not to the end": lambda token_rewards, critic, mask, discount, lam: (
            summed_ahead(surprises(token_rewards, critic, mask, discount), discount * lam) * mask
        ),
    },
    scale=lambda: 16.0,
)

# ---------------------------------------------------------------------------------------------------- baseline-of-a-state


exercise(
    slug="baseline-of-a-state",
    chapter=7,
    notebook="",
    title="The quietest baseline of one state",
    statement=(
        "In every state a token is drawn from `pi` and earns `r_token`, both `(P, S, V)`; it moves the state's logits by (r - b) "
        "times the score, the indicator of the token less `pi`. The mean of this does not depend on b. Return the b of each state "
        "for which the mean squared length of the move is smallest: shape `(P, S)`, reward units."
    ),
    hint="A mean of r with weights pi(a) times the squared length of the score of a.",
    rows=("optimal-baseline",),
    forbidden="refused",
    where=lambda pi: bool(np.max(pi) < 0.99),
    scale=lambda: 100.0,
    given=("pi", "r_token"),
    text=r"""
    let R = r_token
    \frac{\sum_a \pi(a \mid s)\, k(s, a)\, R(s, a)}{\sum_a \pi(a \mid s)\, k(s, a)}, \quad k(s, a) = 1 - 2 \pi(a \mid s) + \sum_b \pi(b \mid
        s)^2
      not \sum_a \pi(a \mid s)\, R(s, a)  # the value of the state
      not \frac{\sum_a k(s, a)\, R(s, a)}{\sum_a k(s, a)}  # pi omitted: tokens count alike
      not \frac{\sum_a \pi(a \mid s)\, \sqrt{k(s, a)}\, R(s, a)}{\sum_a \pi(a \mid s)\, \sqrt{k(s, a)}}  # the length for its square
      not \sum_a \pi(a \mid s)\, k(s, a)\, R(s, a)  # not normalized
      not \frac{\sum_a \pi(a \mid s)\, (1 - \pi(a \mid s))^2\, R(s, a)}{\sum_a \pi(a \mid s)\, (1 - \pi(a \mid s))^2}
        # the score's own entry alone: (1 - pi)^2
    """,
)

# ---------------------------------------------------------------------------------------------------- entropy-bonus-slope


exercise(
    slug="entropy-bonus-slope",
    chapter=7,
    notebook="",
    title="Where an entropy bonus pushes",
    statement=(
        "A trainer adds the entropy $H(s) = -\\sum_a \\pi(a|s) \\log \\pi(a|s)$ of the next token to its objective. Return the slope "
        "of each state's entropy in that state's logits, from `pi` and `log_pi`: shape `(P, S, V)`, nats."
    ),
    hint="The slope of a mean of f under a softmax is pi (f - mean f), and the slope of f itself has mean 0 here.",
    rows=("entropy-covariance",),
    forbidden="refused",
    given=("pi", "log_pi"),
    scale=lambda log_pi: 1.0 + np.max(np.abs(log_pi)),
    text=r"""
    -\pi(a \mid s)\, (\log\pi(a \mid s) - \sum_b \pi(b \mid s) \log\pi(b \mid s))
      not \pi(a \mid s)\, (\log\pi(a \mid s) - \sum_b \pi(b \mid s) \log\pi(b \mid s))  # sign flipped
      not -(\log\pi(a \mid s) + 1)  # the slope in pi, not in the logits
      not -\pi(a \mid s) \log\pi(a \mid s)  # the mean forgotten: pi times -log pi
      not -(\log\pi(a \mid s) - \sum_b \pi(b \mid s) \log\pi(b \mid s))  # pi omitted
      not -\pi(a \mid s)\, (\log\pi(a \mid s) + 1 - \sum_b \pi(b \mid s) \log\pi(b \mid s))  # 1 more: the score not centered
    """,
)

# ---------------------------------------------------------------------------------------------------- token-mean, sequence-mean


LOSSES = {"ell": "token_losses", "m": "mask"}
RATIOS = {"ell": "logp", "ell_old": "logp_old", "m": "mask"}
MEANS = {
    "padding counted in the mean": r"\mathrm{mean}(m \ell)",
    "the mask forgotten": r"\mathrm{mean}(\ell)",
    "summed over the tokens, averaged over responses": r"\mathrm{mean}(\sum_{place} m \ell)",
    "the sum of all": r"\sum_{row} \sum_{place} m \ell",
}

exercise(
    slug="token-mean",
    chapter=7,
    notebook="",
    title="Every token counts alike",
    statement=(
        PADDED + "Return the mean of `token_losses`, `(B, T)`, over the tokens of the whole batch: a scalar. A long response then "
        "weighs more than a short one."
    ),
    hint="Divide the masked sum by the number of tokens, not by that of places.",
    rows=("aggregation",),
    letters=LOSSES,
    given=("token_losses", "mask"),
    misses={**MEANS},
    scale=lambda: 4.0,
    text=r"""
    \frac{\sum_{row} \sum_{place} m \ell}{\sum_{row} \sum_{place} m}
      not \mathrm{mean}(\frac{\sum_{place} m \ell}{\sum_{place} m})  # every response counts alike
    """,
)

exercise(
    slug="sequence-mean",
    chapter=7,
    notebook="",
    title="Every response counts alike",
    statement=(
        PADDED + "Return the mean over the responses of each one's mean of `token_losses`, `(B, T)`, over its own tokens: a scalar. A "
        "token of a long response then weighs less than one of a short response."
    ),
    hint="Two means, one after the other: along the row by the mask, then over the rows.",
    rows=("aggregation",),
    letters=LOSSES,
    given=("token_losses", "mask"),
    misses={**MEANS},
    scale=lambda: 4.0,
    text=r"""
    \mathrm{mean}(\frac{\sum_{place} m \ell}{\sum_{place} m})
      not \frac{\sum_{row} \sum_{place} m \ell}{\sum_{row} \sum_{place} m}  # every token counts alike
    """,
)

# ---------------------------------------------------------------------------------------------------- three ratios


TWO = "The policy gives the tokens the log-probabilities `logp`, the one that drew them `logp_old`, both `(B, T)`. "

exercise(
    slug="response-ratios",
    chapter=7,
    notebook="",
    title="The importance weight of a response",
    statement=(
        PADDED + TWO + "Return by how much likelier each response is under the policy than under the old one: shape `(B,)`. A mean "
        "with these weights over old responses is a mean over new ones."
    ),
    hint="Probabilities of tokens multiply; padding is no token.",
    rows=("importance-ratio",),
    letters=RATIOS,
    given=("logp", "logp_old", "mask"),
    text=r"""
    e^{\sum_{place} m (\ell - \ell_{old})}
      not e^{\sum_{place} (\ell - \ell_{old})}  # the mask forgotten
      not e^{-\sum_{place} m (\ell - \ell_{old})}  # upside down
      not \frac{\sum_{place} m e^{\ell - \ell_{old}}}{\sum_{place} m}  # the mean of the tokens' ratios
      not e^{\sum_{place} m (\ell - \ell_{old})/\sum_{place} m}  # the geometric mean of the tokens' ratios
      not \sum_{place} m e^{\ell - \ell_{old}}  # the sum of the tokens' ratios
      not \sum_{place} m (\ell - \ell_{old})  # the logarithm of it
    """,
)

exercise(
    slug="geometric-ratios",
    chapter=7,
    notebook="",
    title="A ratio that does not grow with length",
    statement=(
        PADDED + TWO + "Return for each response the geometric mean of the ratios of its tokens, new over old: shape `(B,)`. It stays "
        "near 1 however long the response is, and is no importance weight of anything."
    ),
    hint="The exponential of the mean log-ratio of the response's own tokens.",
    rows=("importance-ratio",),
    letters=RATIOS,
    given=("logp", "logp_old", "mask"),
    misses={"divided by T, padding counted": lambda logp, logp_old, mask: np.exp(np.mean((logp - logp_old) * mask, axis=1))},
    text=r"""
    e^{\sum_{place} m (\ell - \ell_{old})/\sum_{place} m}
      not e^{\sum_{place} m (\ell - \ell_{old})}  # the product: not normalized by length
      not \frac{\sum_{place} m e^{\ell - \ell_{old}}}{\sum_{place} m}  # the arithmetic mean of the tokens' ratios
      not e^{-\sum_{place} m (\ell - \ell_{old})/\sum_{place} m}  # upside down
      not \frac{e^{\sum_{place} m (\ell - \ell_{old})}}{\sum_{place} m}  # the product over the length
    """,
)
