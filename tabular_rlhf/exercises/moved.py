"""Exercises on chapter 10: policies that have moved, entropies that fall, and ties that are halved."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.exercises.record import exercise
from tabular_rlhf.formula.reading import Clause
from tabular_rlhf.policy_gradient import stale
from tabular_rlhf.tolerance import largest

# ---------------------------------------------------------------------------------------------------- truncated-objective

MOVED = "The policy has the law `p`, the old one `exp(log_p_2)`, both over responses, `(P, N)`, with rewards `r`, `(P, N)`. "


def moved_size(r: Any, p: Any, log_p_2: Any) -> float:
    return float((1.0 + np.max(np.abs(r))) * (1.0 + np.max(np.abs(log_p_2)) + largest(np.log(p))))


exercise(
    slug="truncated-objective",
    chapter=10,
    notebook="11",
    title="What a truncated ratio ascends",
    statement=(
        MOVED + "Responses of the old policy push with weight $\\min(\\rho, C)\\, r$ times their score, $\\rho$ the ratio of the two laws "
        "and C = `cap`. For each prompt return the number whose gradient in the policy this is: a mean under the old law that agrees "
        "with the mean reward as long as no ratio exceeds C. Shape `(P,)`, reward units."
    ),
    hint="Above C the weight is constant, and a constant times a score is the slope of a logarithm.",
    rows=("truncated-ratio",),
    forbidden="refused",
    given=("p", "log_p_2", "r", "cap"),
    scale=moved_size,
    text=r"""
    let p_old = p_2; pi_old = pi_2; C = cap
    \mathbb{E}_{p_{old}}[r\, (\min(\rho, C) + C \max(0, \log\frac{\rho}{C}))], \quad \rho = \frac{p}{p_{old}}
      not \mathbb{E}_p[r]  # the mean reward
      not \mathbb{E}_{p_{old}}[r \min(\rho, C)]  # the truncated surrogate itself: masking
      not \mathbb{E}_{p_{old}}[r\, (\min(\rho, C) + \max(0, \log\frac{\rho}{C}))]  # C forgotten before the logarithm
      not \mathbb{E}_{p_{old}}[r\, (1[\rho \le C]\, \rho + 1[\rho > C]\, C (1 + \log\rho))]
        # not continuous: log of the ratio, not of the ratio over C
      not \mathbb{E}_p[r \min(\rho, C)]  # weighted by the policy, not the old one
    """,
)

# ---------------------------------------------------------------------------------------------------- prefix-ratios

exercise(
    slug="prefix-ratios",
    chapter=10,
    notebook="11",
    title="The ratio of a response so far",
    statement=(
        "A policy has log-probabilities `log_pi` of tokens, an old one `log_pi_2`, both of shape `(P, S, V)`. For every state and "
        "token return by how much likelier the policy is to get there and say it than the old one: the product of the ratios of all "
        "tokens up to and including this one. Shape `(P, S, V)`."
    ),
    hint="`mdp.prefix_sum` sums a table along the path to every state; the token's own ratio is not in it.",
    rows=("prefix-ratio",),
    forbidden="refused",
    given=("mdp", "log_pi", "log_pi_2"),
    scale=lambda log_p, log_p_2: float(np.exp(np.max(log_p - log_p_2))) * 16.0,
    text=r"""
    let p_old = p_2; pi_old = pi_2
    \frac{p(s + a)}{p_{old}(s + a)}
      not \frac{\pi(a \mid s)}{\pi_{old}(a \mid s)}  # the ratio of this token alone
      not \frac{p(s)}{p_{old}(s)}  # up to the state, without its own token
      not \frac{p_{old}(s + a)}{p(s + a)}  # upside down
      not \log\frac{p(s + a)}{p_{old}(s + a)}  # the logarithm of it
    """,
)

# ---------------------------------------------------------------------------------------------------- clip-pull


exercise(
    slug="clip-pull",
    chapter=10,
    notebook="11",
    title="PPO-clip under coin flips",
    statement=(
        "Responses are drawn from an old policy, `log_pi_2`; the policy has moved to `log_pi`, both log-probabilities of tokens, "
        "`(P, S, V)`. Every response is rewarded with +1 or -1 by a fair coin, which is the advantage of all its tokens. Return the "
        "mean of PPO-clip's surrogate, summed over the tokens of a response, with clipping range `clip`, for each prompt: shape `(P,)`."
    ),
    hint="Average over the coin first: the smaller of two numbers, and the smaller of both negated.",
    rows=("random-rewards-clip",),
    forbidden="refused",
    given=("mdp", "log_pi", "log_pi_2", "clip"),
    scale=lambda H, log_pi, log_pi_2: H * float(np.exp(np.max(log_pi - log_pi_2))),
    text=r"""
    let p_old = p_2; pi_old = pi_2; c = clip
    -\frac{1}{2} \mathbb{E}_{p_{old}}[\sum_h |\rho(s_h, a_h) - k(s_h, a_h)|], \quad \rho(s, a) = \frac{\pi(a \mid s)}{\pi_{old}(a \mid s)},
        \quad k(s, a) = \mathrm{clip}(\rho(s, a), 1 - c, 1 + c)
      not 0  # the coins cancel: 0
      not \frac{1}{2} \mathbb{E}_{p_{old}}[\sum_h |\rho(s_h, a_h) - k(s_h, a_h)|]  # sign flipped: a push away
      not - \mathbb{E}_{p_{old}}[\sum_h |\rho(s_h, a_h) - k(s_h, a_h)|]  # 1/2 forgotten
      not -\frac{1}{2} \mathbb{E}_{p}[\sum_h |\rho(s_h, a_h) - k(s_h, a_h)|]  # responses drawn from the policy
      not -\frac{1}{2} \mathbb{E}_{p_{old}}[\sum_h (\rho(s_h, a_h) - k(s_h, a_h))]  # signs lost: above less below
    """,
)

# ---------------------------------------------------------------------------------------------------- where-it-ends


def flooded(gain: Any, level: Any) -> Any:
    return np.maximum(0.0, gain - level) / np.sum(gain, axis=1, keepdims=True)


def poured(log_p_2: Any, r: Any, below: float) -> Any:
    """By halving the water level."""
    m = np.exp(log_p_2)
    gain = m * (r - np.sum(m * r, axis=1, keepdims=True) + below)
    return flooded(gain, stale.water_level(gain)[:, None])


exercise(
    slug="where-it-ends",
    chapter=10,
    notebook="11",
    title="REINFORCE on old data, without ratios",
    statement=(
        "Data are drawn from a law `exp(log_p_2)` over responses, `(P, N)`, with rewards `r`, `(P, N)`; the baseline lies `below` (a "
        "positive number) under the data's mean reward, for each prompt. The logits of responses follow the mean of (r - b) times the "
        "score, without any ratio. Where does the policy end? Return its probabilities: shape `(P, N)`."
    ),
    hint="Velocities of logits are m (r - b) - W p, W the mean of r - b. At rest those of responses that stay are equal.",
    rows=("off-policy-reinforce",),
    forbidden="refused",
    largest=10,
    minutes=20,
    without=("p_limit", "level"),
    answer=lambda log_p_2, r, below: poured(log_p_2, r, below),
    misses={
        "the best response": lambda gain: 1.0 * (gain == np.max(gain, axis=1, keepdims=True)),
        "clipped, not leveled: it does not sum to one": r"\frac{\max(0, gain)}{\sum_y gain}",
        "clipped and normalized": r"\frac{\max(0, gain)}{\sum_y \max(0, gain)}",
        "the law of the data": "p_2",
        "not clipped: probabilities below 0": r"\frac{gain}{\sum_y gain}",
    },
    scale=lambda r, below: (1.0 + np.max(np.abs(r))) / below,
)

# ---------------------------------------------------------------------------------------------------- entropy-drift


exercise(
    slug="entropy-drift",
    chapter=10,
    notebook="11",
    title="How fast entropy falls",
    statement=(
        "The logits of a policy `pi`, `(P, S, V)`, move with the velocity `direction`, `(P, S, V)`. Return how fast the entropy of the "
        "tokens of each state changes: shape `(P, S)`, nats per unit of time."
    ),
    hint="A covariance under the policy, of the log-probability and of the velocity, with a sign.",
    rows=("entropy-covariance",),
    forbidden="refused",
    answer=1,
    given=("pi", "log_pi", "direction"),
    misses={
        "sign flipped": r"\mathrm{Cov}_a(\log\pi(a \mid s), v(s, a))",
        "the mean of the product": r"-\sum_a \pi(a \mid s) \log\pi(a \mid s)\, v(s, a)",
        "every token counts alike": lambda log_pi, direction: (
            -np.mean(log_pi * (direction - np.mean(direction, axis=-1, keepdims=True)), axis=-1)
        ),
        "the mean velocity": r"-\sum_a \pi(a \mid s)\, v(s, a)",
        "the covariance with pi, not with its logarithm": r"-\mathrm{Cov}_a(\pi(a \mid s), v(s, a))",
    },
    scale=lambda log_pi, direction: (1.0 + np.max(np.abs(log_pi))) * (1.0 + np.max(np.abs(direction))),
)

# ---------------------------------------------------------------------------------------------------- halved-ties


exercise(
    slug="halved-ties",
    chapter=10,
    notebook="11",
    title="Half a win for a tie",
    statement=(
        "Response i beats j with probability $1/(1 + \\theta e^{-d})$, loses with probability $1/(1 + \\theta e^{d})$, and ties "
        "otherwise; d = `gaps`, of shape `(P, N, N)`, are the gaps of their rewards, $\\theta$ = `tie_bar`. Each tie is counted as "
        "half a win for both. Return the gap that Bradley-Terry then fits, the log-odds of a win: shape `(P, N, N)`, nats. It is "
        "smaller than d."
    ),
    hint="Add half of the ties to the wins, and take the log-odds of that.",
    rows=("ties",),
    answer=Clause(4, 1),
    given=("gaps", "tie_bar"),
    misses={
        "ties dropped": r"\log\frac{U(y, y')}{U(y', y)}",
        "nothing changes: d": "d(y, y')",
        "ties counted as wins": r"\log\frac{1 - U(y', y)}{U(y', y)}",
        "ties counted as losses": r"\log\frac{U(y, y')}{1 - U(y, y')}",
        "winner and loser swapped": r"\log\frac{1 + \theta^2 + 2 \theta e^{-d(y, y')}}{1 + \theta^2 + 2 \theta e^{d(y, y')}}",
    },
    where=lambda r: float(np.ptp(r)) < 12.0,
    scale=lambda r: np.exp(float(np.ptp(r))),
    largest=100,
)
