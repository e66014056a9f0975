"""Exercises on chapter 10: policies that have moved, entropies that fall, and ties that are halved."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.exercises.record import Exercise, add
from tabular_rlhf.policy_gradient import stale
from tabular_rlhf.tolerance import largest

# ---------------------------------------------------------------------------------------------------- truncated-objective

MOVED = "The policy has the law `p`, the old one `exp(log_p_2)`, both over responses, `(P, N)`, with rewards `r`, `(P, N)`. "


def old_mean(log_p_2: Any, f: Any) -> Any:
    return np.sum(np.exp(log_p_2) * f, axis=1)


def over_old(p: Any, log_p_2: Any) -> Any:
    return p / np.exp(log_p_2)


def moved_size(r: Any, p: Any, log_p_2: Any) -> float:
    return float((1.0 + np.max(np.abs(r))) * (1.0 + np.max(np.abs(log_p_2)) + largest(np.log(p))))


add(
    Exercise(
        slug="truncated-objective",
        chapter=10,
        notebook="11",
        title="What a truncated ratio ascends",
        statement=(
            MOVED
            + "Responses of the old policy push with weight $\\min(\\rho, C)\\, r$ times their score, $\\rho$ the ratio of the two laws "
            "and C = `cap`. For each prompt return the number whose gradient in the policy this is: a mean under the old law that agrees "
            "with the mean reward as long as no ratio exceeds C. Shape `(P,)`, reward units."
        ),
        hint="Above C the weight is constant, and a constant times a score is the slope of a logarithm.",
        rows=("truncated-ratio",),
        forbidden="refused",
        answer=lambda p, log_p_2, r, cap: np.sum(
            np.exp(log_p_2) * r * (np.minimum(p / np.exp(log_p_2), cap) + cap * np.maximum(0.0, np.log(p / np.exp(log_p_2) / cap))),
            axis=1,
        ),
        misses={
            "the mean reward": lambda E_r: E_r,
            "the truncated surrogate itself: masking": lambda p, log_p_2, r, cap: old_mean(
                log_p_2, r * np.minimum(over_old(p, log_p_2), cap)
            ),
            "C forgotten before the logarithm": lambda p, log_p_2, r, cap: old_mean(
                log_p_2, r * (np.minimum(over_old(p, log_p_2), cap) + np.maximum(0.0, np.log(over_old(p, log_p_2) / cap)))
            ),
            "not continuous: log of the ratio, not of the ratio over C": lambda p, log_p_2, r, cap: old_mean(
                log_p_2,
                r * np.where(over_old(p, log_p_2) <= cap, over_old(p, log_p_2), cap + cap * np.log(over_old(p, log_p_2))),
            ),
            "weighted by the policy, not the old one": lambda p, log_p_2, r, cap: np.sum(
                p * r * np.minimum(over_old(p, log_p_2), cap), axis=1
            ),
        },
        scale=moved_size,
    )
)

# ---------------------------------------------------------------------------------------------------- prefix-ratios

add(
    Exercise(
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
        answer=lambda mdp, log_pi, log_pi_2: np.exp(mdp.prefix_sum(log_pi - log_pi_2)[..., None] + log_pi - log_pi_2),
        misses={
            "the ratio of this token alone": lambda log_pi, log_pi_2: np.exp(log_pi - log_pi_2),
            "up to the state, without its own token": lambda mdp, log_pi, log_pi_2: np.exp(
                mdp.prefix_sum(log_pi - log_pi_2)[..., None] + 0.0 * log_pi
            ),
            "upside down": lambda mdp, log_pi, log_pi_2: np.exp(mdp.prefix_sum(log_pi_2 - log_pi)[..., None] + log_pi_2 - log_pi),
            "the logarithm of it": lambda mdp, log_pi, log_pi_2: mdp.prefix_sum(log_pi - log_pi_2)[..., None] + log_pi - log_pi_2,
        },
        scale=lambda log_p, log_p_2: float(np.exp(np.max(log_p - log_p_2))) * 16.0,
    )
)

# ---------------------------------------------------------------------------------------------------- clip-pull


def clipped_away(log_pi: Any, log_pi_2: Any, clip: float) -> Any:
    """rho - clip(rho)."""
    ratio = np.exp(log_pi - log_pi_2)
    return ratio - np.clip(ratio, 1.0 - clip, 1.0 + clip)


def old_tokens(mdp: Any, log_pi_2: Any, f: Any) -> Any:
    """E_old of a sum over tokens, for each prompt."""
    return np.sum(np.exp(mdp.path_sum(log_pi_2)) * mdp.path_sum(f), axis=1)


add(
    Exercise(
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
        answer=lambda mdp, log_pi, log_pi_2, clip: (
            -0.5
            * np.sum(
                np.exp(mdp.path_sum(log_pi_2))
                * mdp.path_sum(np.abs(np.exp(log_pi - log_pi_2) - np.clip(np.exp(log_pi - log_pi_2), 1.0 - clip, 1.0 + clip))),
                axis=1,
            )
        ),
        misses={
            "the coins cancel: 0": lambda P: np.zeros(P),
            "sign flipped: a push away": lambda mdp, log_pi, log_pi_2, clip: (
                0.5 * old_tokens(mdp, log_pi_2, np.abs(clipped_away(log_pi, log_pi_2, clip)))
            ),
            "1/2 forgotten": lambda mdp, log_pi, log_pi_2, clip: -old_tokens(mdp, log_pi_2, np.abs(clipped_away(log_pi, log_pi_2, clip))),
            "responses drawn from the policy": lambda mdp, log_pi, log_pi_2, clip: (
                -0.5 * old_tokens(mdp, log_pi, np.abs(clipped_away(log_pi, log_pi_2, clip)))
            ),
            "signs lost: above less below": lambda mdp, log_pi, log_pi_2, clip: (
                -0.5 * old_tokens(mdp, log_pi_2, clipped_away(log_pi, log_pi_2, clip))
            ),
        },
        scale=lambda H, log_pi, log_pi_2: H * float(np.exp(np.max(log_pi - log_pi_2))),
    )
)

# ---------------------------------------------------------------------------------------------------- where-it-ends


def flooded(gain: Any, level: Any) -> Any:
    return np.maximum(0.0, gain - level) / np.sum(gain, axis=1, keepdims=True)


def poured(log_p_2: Any, r: Any, below: float) -> Any:
    """By halving the water level."""
    m = np.exp(log_p_2)
    gain = m * (r - np.sum(m * r, axis=1, keepdims=True) + below)
    return flooded(gain, stale.water_level(gain)[:, None])


add(
    Exercise(
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
            "clipped, not leveled: it does not sum to one": lambda gain: flooded(gain, 0.0),
            "clipped and normalized": lambda gain: np.maximum(0.0, gain) / np.sum(np.maximum(0.0, gain), axis=1, keepdims=True),
            "the law of the data": lambda log_p_2: np.exp(log_p_2),
            "not clipped: probabilities below 0": lambda gain: gain / np.sum(gain, axis=1, keepdims=True),
        },
        scale=lambda r, below: (1.0 + np.max(np.abs(r))) / below,
    )
)

# ---------------------------------------------------------------------------------------------------- entropy-drift


def token_mean(pi: Any, f: Any) -> Any:
    return np.sum(pi * f, axis=-1)


add(
    Exercise(
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
        answer=lambda pi, log_pi, direction: -np.sum(pi * log_pi * (direction - np.sum(pi * direction, axis=-1, keepdims=True)), axis=-1),
        misses={
            "sign flipped": lambda pi, log_pi, direction: (
                token_mean(pi, log_pi * direction) - token_mean(pi, log_pi) * token_mean(pi, direction)
            ),
            "the mean of the product": lambda pi, log_pi, direction: -token_mean(pi, log_pi * direction),
            "every token counts alike": lambda log_pi, direction: (
                -np.mean(log_pi * (direction - np.mean(direction, axis=-1, keepdims=True)), axis=-1)
            ),
            "the mean velocity": lambda pi, direction: -token_mean(pi, direction),
            "the covariance with pi, not with its logarithm": lambda pi, direction: (
                -(token_mean(pi, pi * direction) - token_mean(pi, pi) * token_mean(pi, direction))
            ),
        },
        scale=lambda log_pi, direction: (1.0 + np.max(np.abs(log_pi))) * (1.0 + np.max(np.abs(direction))),
    )
)

# ---------------------------------------------------------------------------------------------------- halved-ties


def kupper(gaps: Any, tie_bar: float) -> tuple[Any, Any]:
    """Shares of wins and of losses."""
    return 1.0 / (1.0 + tie_bar * np.exp(-gaps)), 1.0 / (1.0 + tie_bar * np.exp(gaps))


add(
    Exercise(
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
        answer=lambda gaps, tie_bar: np.log(
            (1.0 + tie_bar**2 + 2.0 * tie_bar * np.exp(gaps)) / (1.0 + tie_bar**2 + 2.0 * tie_bar * np.exp(-gaps))
        ),
        misses={
            "ties dropped": lambda gaps, tie_bar: np.log(kupper(gaps, tie_bar)[0] / kupper(gaps, tie_bar)[1]),
            "nothing changes: d": lambda gaps: gaps,
            "ties counted as wins": lambda gaps, tie_bar: np.log((1.0 - kupper(gaps, tie_bar)[1]) / kupper(gaps, tie_bar)[1]),
            "ties counted as losses": lambda gaps, tie_bar: np.log(kupper(gaps, tie_bar)[0] / (1.0 - kupper(gaps, tie_bar)[0])),
            "winner and loser swapped": lambda gaps, tie_bar: np.log(
                (1.0 + tie_bar**2 + 2.0 * tie_bar * np.exp(-gaps)) / (1.0 + tie_bar**2 + 2.0 * tie_bar * np.exp(gaps))
            ),
        },
        where=lambda r: float(np.ptp(r)) < 12.0,
        scale=lambda r: np.exp(float(np.ptp(r))),
        largest=100,
    )
)
