"""Problems on PPO and GRPO as trainers code them: the clipped loss of tokens, where it is flat, groups, a critic, KL in rewards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tabular_rlhf.exercises.batches import PADDED, TWO, of_responses, of_tokens
from tabular_rlhf.exercises.record import Exercise, add

# ---------------------------------------------------------------------------------------------------- the clipped loss


def kept(ratio: Any, clip: float) -> Any:
    return np.clip(ratio, 1.0 - clip, 1.0 + clip)


def worth(logp: Any, logp_old: Any, advantages: Any, clip: float) -> Any:
    """min(rho A, clip(rho) A) of every token."""
    ratio = np.exp(logp - logp_old)
    return np.minimum(ratio * advantages, kept(ratio, clip) * advantages)


CLIPPED = (
    TWO + "With advantages A, `(B, T)`, and $c$ = `clip`, a token is worth the smaller of $\\rho A$ and $\\rho_c A$, $\\rho$ the ratio of "
    "its probabilities, new over old, and $\\rho_c$ the same moved into $[1 - c, 1 + c]$. (A is `advantages`.) "
)

add(
    Exercise(
        slug="clipped-token-loss",
        chapter=7,
        notebook="",
        title="PPO's loss of a padded batch",
        statement=(
            PADDED + CLIPPED + "Return the loss, to be minimized: minus the mean worth of the tokens, all tokens of the batch counted "
            "alike. A scalar."
        ),
        hint="Compute the worth of every place, then the masked mean, then the sign.",
        rows=("ppo-clip", "aggregation"),
        answer=lambda logp, logp_old, advantages, mask, clip: (
            -np.sum(
                np.minimum(np.exp(logp - logp_old) * advantages, np.clip(np.exp(logp - logp_old), 1.0 - clip, 1.0 + clip) * advantages)
                * mask
            )
            / np.sum(mask)
        ),
        misses={
            "sign flipped: the objective": lambda logp, logp_old, advantages, mask, clip: of_tokens(
                worth(logp, logp_old, advantages, clip), mask
            ),
            "padding counted in the mean": lambda logp, logp_old, advantages, mask, clip: (
                -np.mean(worth(logp, logp_old, advantages, clip) * mask)
            ),
            "the mask forgotten": lambda logp, logp_old, advantages, clip: -np.mean(worth(logp, logp_old, advantages, clip)),
            "every response counts alike": lambda logp, logp_old, advantages, mask, clip: (
                -of_responses(worth(logp, logp_old, advantages, clip), mask)
            ),
            "the minimum omitted: always clipped": lambda logp, logp_old, advantages, mask, clip: (
                -of_tokens(kept(np.exp(logp - logp_old), clip) * advantages, mask)
            ),
            "clipping omitted": lambda logp, logp_old, advantages, mask: -of_tokens(np.exp(logp - logp_old) * advantages, mask),
            "max for min: the sign taken inside": lambda logp, logp_old, advantages, mask, clip: of_tokens(
                worth(logp, logp_old, -advantages, clip), mask
            ),
            "the ratio inverted": lambda logp, logp_old, advantages, mask, clip: -of_tokens(worth(logp_old, logp, advantages, clip), mask),
        },
        scale=lambda logp, logp_old: 4.0 * np.exp(np.max(logp - logp_old)),
    )
)

# ---------------------------------------------------------------------------------------------------- flat-tokens


def outside(logp: Any, logp_old: Any, clip: float) -> tuple[Any, Any]:
    """Above the range, and below it."""
    ratio = np.exp(logp - logp_old)
    return ratio > 1.0 + clip, ratio < 1.0 - clip


add(
    Exercise(
        slug="flat-tokens",
        chapter=7,
        notebook="",
        title="Where PPO does not push",
        statement=(
            PADDED
            + CLIPPED
            + "Return 1 for each token of a response with $A \\ne 0$ whose clipping has switched its gradient off: a small "
            "change of its `logp` does not change its worth. 0 elsewhere and at padding: shape `(B, T)`."
        ),
        hint="Flat is where the clipped product is the smaller one: too likely and good, or too unlikely and bad.",
        rows=("ppo-clip",),
        answer=lambda logp, logp_old, advantages, mask, clip: (
            mask
            * np.where(
                advantages > 0,
                np.exp(logp - logp_old) > 1.0 + clip,
                (advantages < 0) & (np.exp(logp - logp_old) < 1.0 - clip),
            )
        ),
        misses={
            "wherever the ratio is out of range": lambda logp, logp_old, advantages, mask, clip: (
                mask * (advantages != 0) * (outside(logp, logp_old, clip)[0] | outside(logp, logp_old, clip)[1])
            ),
            "the wrong way round: good ones below, bad ones above": lambda logp, logp_old, advantages, mask, clip: (
                mask * np.where(advantages > 0, outside(logp, logp_old, clip)[1], (advantages < 0) & outside(logp, logp_old, clip)[0])
            ),
            "only above the range": lambda logp, logp_old, advantages, mask, clip: (
                mask * (advantages > 0) * outside(logp, logp_old, clip)[0]
            ),
            "the complement: where it does push": lambda logp, logp_old, advantages, mask, clip: (
                mask
                * (1.0 - np.where(advantages > 0, outside(logp, logp_old, clip)[0], (advantages < 0) & outside(logp, logp_old, clip)[1]))
            ),
            "the mask forgotten": lambda logp, logp_old, advantages, clip: (
                1.0 * np.where(advantages > 0, outside(logp, logp_old, clip)[0], (advantages < 0) & outside(logp, logp_old, clip)[1])
            ),
            "the log-ratio compared, not the ratio": lambda logp, logp_old, advantages, mask, clip: (
                mask * np.where(advantages > 0, logp - logp_old > 1.0 + clip, (advantages < 0) & (logp - logp_old < 1.0 - clip))
            ),
        },
    )
)

# ---------------------------------------------------------------------------------------------------- clipped-slope


def pushes(logp: Any, logp_old: Any, advantages: Any, clip: float) -> Any:
    """1 where the unclipped product is the one that counts."""
    above, below = outside(logp, logp_old, clip)
    return 1.0 - np.where(advantages > 0, above, (advantages < 0) & below)


add(
    Exercise(
        slug="clipped-slope",
        chapter=7,
        notebook="",
        title="How hard PPO pushes a token",
        statement=(
            PADDED + CLIPPED + "The loss is minus the mean worth over all tokens of the batch. Return its slope in each entry of `logp`: "
            "shape `(B, T)`."
        ),
        hint="The slope of the ratio in logp is the ratio itself; where the clipped product counts, there is none.",
        rows=("ppo-clip",),
        answer=lambda logp, logp_old, advantages, mask, clip: (
            -mask
            * np.exp(logp - logp_old)
            * advantages
            * (np.exp(logp - logp_old) * advantages <= np.clip(np.exp(logp - logp_old), 1.0 - clip, 1.0 + clip) * advantages)
            / np.sum(mask)
        ),
        misses={
            "the ratio forgotten: the slope of log pi": lambda logp, logp_old, advantages, mask, clip: (
                -mask * advantages * pushes(logp, logp_old, advantages, clip) / np.sum(mask)
            ),
            "never flat": lambda logp, logp_old, advantages, mask: -mask * np.exp(logp - logp_old) * advantages / np.sum(mask),
            "flat wherever the ratio is out of range": lambda logp, logp_old, advantages, mask, clip: (
                -mask
                * np.exp(logp - logp_old)
                * advantages
                * (1.0 - (outside(logp, logp_old, clip)[0] | outside(logp, logp_old, clip)[1]))
                / np.sum(mask)
            ),
            "the ratio held at the border for 0": lambda logp, logp_old, advantages, mask, clip: (
                -mask * worth(logp, logp_old, advantages, clip) / np.sum(mask)
            ),
            "sign flipped": lambda logp, logp_old, advantages, mask, clip: (
                mask * np.exp(logp - logp_old) * advantages * pushes(logp, logp_old, advantages, clip) / np.sum(mask)
            ),
            "divided by B T: padding counted": lambda logp, logp_old, advantages, mask, clip: (
                -mask * np.exp(logp - logp_old) * advantages * pushes(logp, logp_old, advantages, clip) / mask.size
            ),
        },
        scale=lambda logp, logp_old: 4.0 * np.exp(np.max(logp - logp_old)),
    )
)

# ---------------------------------------------------------------------------------------------------- group-normalized


def normalized(rewards: Any, small: float, ddof: int = 0, axis: int | None = 1) -> Any:
    return (rewards - np.mean(rewards, axis=axis, keepdims=True)) / (np.std(rewards, axis=axis, ddof=ddof, keepdims=True) + small)


UNBIASED = "the standard deviation divides by G - 1"


def ill_normalized(ddof: int) -> dict[str, Callable[..., Any]]:
    """Wrong answers, by either convention."""

    def mean(rewards: Any) -> Any:
        return np.mean(rewards, axis=1, keepdims=True)

    def spread(rewards: Any) -> Any:
        return np.std(rewards, axis=1, ddof=ddof, keepdims=True)

    return {
        "epsilon under the root": lambda rewards, small: (rewards - mean(rewards)) / np.sqrt(spread(rewards) ** 2 + small),
        "all groups together": lambda rewards, small: normalized(rewards, small, ddof, axis=None),
        "variance for standard deviation": lambda rewards, small: (rewards - mean(rewards)) / (spread(rewards) ** 2 + small),
        "the mean not taken away": lambda rewards, small: rewards / (spread(rewards) + small),
        "not divided": lambda rewards: rewards - mean(rewards),
        "the group's best for its mean": lambda rewards, small: (
            (rewards - np.max(rewards, axis=1, keepdims=True)) / (spread(rewards) + small)
        ),
        "epsilon subtracted from the mean": lambda rewards, small: (rewards - mean(rewards) + small) / (spread(rewards) + small),
    }


add(
    Exercise(
        slug="group-normalized",
        chapter=7,
        notebook="",
        title="A group's rewards, normalized as trainers do",
        statement=(
            "`rewards`, `(n, G)`, holds n groups of G rewards. Return the advantages: each reward less its group's mean, over the group's "
            "standard deviation plus $\\epsilon$ = `small`: shape `(n, G)`. The deviation may divide by G or by G - 1, as libraries do, "
            "but by the same in all groups."
        ),
        hint="keepdims=True keeps a group's mean beside its rewards; epsilon is added to the deviation, outside its root.",
        rows=("grpo",),
        answer=lambda rewards, small: (
            (rewards - np.mean(rewards, axis=1, keepdims=True)) / (np.std(rewards, axis=1, keepdims=True) + small)
        ),
        also={UNBIASED: lambda rewards, small: normalized(rewards, small, ddof=1)},
        under={UNBIASED: ill_normalized(1)},
        misses=ill_normalized(0),
        scale=lambda: 32.0,
    )
)

# ---------------------------------------------------------------------------------------------------- critic-loss


def moved_little(critic: Any, critic_old: Any, clip: float) -> Any:
    return critic_old + np.clip(critic - critic_old, -clip, clip)


add(
    Exercise(
        slug="critic-loss",
        chapter=7,
        notebook="",
        title="A critic that may not move far",
        statement=(
            PADDED
            + "A `critic` is to say the `targets`; when the batch was drawn it said `critic_old` (all `(B, T)`). The loss of a token "
            "is half of the larger of two squared errors: the critic's, and that of the critic moved to within `clip` of what it said. "
            "Return the mean over all tokens: a scalar."
        ),
        hint="Clip the change of the critic, not the critic; then take the larger square.",
        rows=("gae", "aggregation"),
        answer=lambda critic, critic_old, targets, mask, clip: (
            np.sum(np.maximum((critic - targets) ** 2, (critic_old + np.clip(critic - critic_old, -clip, clip) - targets) ** 2) * mask)
            / (2.0 * np.sum(mask))
        ),
        misses={
            "min for max": lambda critic, critic_old, targets, mask, clip: (
                0.5 * of_tokens(np.minimum((critic - targets) ** 2, (moved_little(critic, critic_old, clip) - targets) ** 2), mask)
            ),
            "1/2 forgotten": lambda critic, critic_old, targets, mask, clip: of_tokens(
                np.maximum((critic - targets) ** 2, (moved_little(critic, critic_old, clip) - targets) ** 2), mask
            ),
            "clipping omitted": lambda critic, targets, mask: 0.5 * of_tokens((critic - targets) ** 2, mask),
            "the larger omitted: always clipped": lambda critic, critic_old, targets, mask, clip: (
                0.5 * of_tokens((moved_little(critic, critic_old, clip) - targets) ** 2, mask)
            ),
            "clipped as a ratio, to 1 - c and 1 + c times the old value": lambda critic, critic_old, targets, mask, clip: (
                0.5
                * of_tokens(
                    np.maximum(
                        (critic - targets) ** 2,
                        (critic_old + np.clip(critic - critic_old, -clip * np.abs(critic_old), clip * np.abs(critic_old)) - targets) ** 2,
                    ),
                    mask,
                )
            ),
            "padding counted in the mean": lambda critic, critic_old, targets, mask, clip: (
                0.5 * np.mean(np.maximum((critic - targets) ** 2, (moved_little(critic, critic_old, clip) - targets) ** 2) * mask)
            ),
        },
        scale=lambda: 32.0,
    )
)

# ---------------------------------------------------------------------------------------------------- rewards-with-kl


def last(mask: Any) -> Any:
    """1 for the last token of a response."""
    return mask - np.pad(mask[:, 1:], ((0, 0), (0, 1)))


add(
    Exercise(
        slug="rewards-with-kl",
        chapter=7,
        notebook="",
        title="The penalty, token by token",
        statement=(
            PADDED
            + "A response is paid `response_rewards`, `(B,)`, with its last token, and every token costs $\\beta$ = `beta` times its "
            "log-ratio of the policy that drew it to the reference, `logp_old` and `logp_ref`. Return the rewards of the tokens, 0 at "
            "padding: shape `(B, T)`, reward units. Their sum over a response is r - beta log(p/p_ref)."
        ),
        hint="The last token of a row is where the mask ends, not the last place.",
        rows=("kl-regularized-gradient",),
        answer=lambda response_rewards, logp_old, logp_ref, mask, beta: (
            (mask - np.pad(mask[:, 1:], ((0, 0), (0, 1)))) * response_rewards[:, None] - beta * (logp_old - logp_ref) * mask
        ),
        misses={
            "sign of the penalty flipped": lambda response_rewards, logp_old, logp_ref, mask, beta: (
                last(mask) * response_rewards[:, None] + beta * (logp_old - logp_ref) * mask
            ),
            "paid with every token": lambda response_rewards, logp_old, logp_ref, mask, beta: (
                (response_rewards[:, None] - beta * (logp_old - logp_ref)) * mask
            ),
            "paid at the last place, padding or not": lambda response_rewards, logp_old, logp_ref, mask, beta: (
                (np.arange(mask.shape[1]) == mask.shape[1] - 1) * response_rewards[:, None] - beta * (logp_old - logp_ref) * mask
            ),
            "beta dropped": lambda response_rewards, logp_old, logp_ref, mask: (
                last(mask) * response_rewards[:, None] - (logp_old - logp_ref) * mask
            ),
            "the mask forgotten in the penalty": lambda response_rewards, logp_old, logp_ref, mask, beta: (
                last(mask) * response_rewards[:, None] - beta * (logp_old - logp_ref)
            ),
            "k3 for the log-ratio": lambda response_rewards, logp_old, logp_ref, mask, beta: (
                last(mask) * response_rewards[:, None] - beta * (np.expm1(logp_ref - logp_old) - (logp_ref - logp_old)) * mask
            ),
        },
        scale=lambda beta: 2.0 + 2.0 * beta,
    )
)
