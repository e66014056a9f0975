"""Problems on PPO and GRPO as trainers code them: the clipped loss of tokens, where it is flat, groups, a critic, KL in rewards."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.exercises.batches import PADDED, TWO
from tabular_rlhf.exercises.gradients import GROUPED
from tabular_rlhf.exercises.record import exercise

# ---------------------------------------------------------------------------------------------------- the clipped loss


CLIP = {"rho": "exp(logp - logp_old)", "A": "advantages", "m": "mask", "c": "clip"}
CLIPPED = (
    TWO + "With advantages A, `(B, T)`, and $c$ = `clip`, a token is worth the smaller of $\\rho A$ and $\\rho_c A$, $\\rho$ the ratio of "
    "its probabilities, new over old, and $\\rho_c$ the same moved into $[1 - c, 1 + c]$. (A is `advantages`.) "
)

exercise(
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
    letters=CLIP,
    given=("logp", "logp_old", "advantages", "mask", "clip"),
    scale=lambda logp, logp_old: 4.0 * np.exp(np.max(logp - logp_old)),
    text=r"""
    -\frac{\sum_{row} \sum_{place} m \min(\rho A, \mathrm{clip}(\rho, 1 - c, 1 + c) A)}{\sum_{row} \sum_{place} m}
      slip clipping omitted
      not \frac{\sum_{row} \sum_{place} m \min(\rho A, \mathrm{clip}(\rho, 1 - c, 1 + c) A)}{\sum_{row} \sum_{place} m}
        # sign flipped: the objective
      not -\mathrm{mean}(m \min(\rho A, \mathrm{clip}(\rho, 1 - c, 1 + c) A))  # padding counted in the mean
      not -\mathrm{mean}(\min(\rho A, \mathrm{clip}(\rho, 1 - c, 1 + c) A))  # the mask forgotten
      not -\mathrm{mean}(\frac{\sum_{place} m \min(\rho A, \mathrm{clip}(\rho, 1 - c, 1 + c) A)}{\sum_{place} m})
        # every response counts alike
      not -\frac{\sum_{row} \sum_{place} m \mathrm{clip}(\rho, 1 - c, 1 + c) A}{\sum_{row} \sum_{place} m}
        # the minimum omitted: always clipped
      not \frac{\sum_{row} \sum_{place} m \min(-\rho A, -\mathrm{clip}(\rho, 1 - c, 1 + c) A)}{\sum_{row} \sum_{place} m}
        # max for min: the sign taken inside
      not -\frac{\sum_{row} \sum_{place} m \min(\frac{A}{\rho}, \mathrm{clip}(\frac{1}{\rho}, 1 - c, 1 + c) A)}{\sum_{row} \sum_{place} m}
        # the ratio inverted
    """,
)

# ---------------------------------------------------------------------------------------------------- flat-tokens


exercise(
    slug="flat-tokens",
    chapter=7,
    notebook="",
    title="Where PPO does not push",
    statement=(
        PADDED + CLIPPED + "Return 1 for each token of a response with $A \\ne 0$ whose clipping has switched its gradient off: a small "
        "change of its `logp` does not change its worth. 0 elsewhere and at padding: shape `(B, T)`."
    ),
    hint="Flat is where the clipped product is the smaller one: too likely and good, or too unlikely and bad.",
    rows=("ppo-clip",),
    letters=CLIP,
    given=("logp", "logp_old", "advantages", "mask", "clip"),
    text=r"""
    m (1[A > 0]\, 1[\rho > 1 + c] + 1[A < 0]\, 1[\rho < 1 - c])
      not m\, 1[A \ne 0]\, (1[\rho > 1 + c] + 1[\rho < 1 - c])  # wherever the ratio is out of range
      not m (1[A > 0]\, 1[\rho < 1 - c] + 1[A < 0]\, 1[\rho > 1 + c])  # the wrong way round: good ones below, bad ones above
      not m\, 1[A > 0]\, 1[\rho > 1 + c]  # only above the range
      not m (1 - 1[A > 0]\, 1[\rho > 1 + c] - 1[A < 0]\, 1[\rho < 1 - c])  # the complement: where it does push
      not 1[A > 0]\, 1[\rho > 1 + c] + 1[A < 0]\, 1[\rho < 1 - c]  # the mask forgotten
      not m (1[A > 0]\, 1[\log\rho > 1 + c] + 1[A < 0]\, 1[\log\rho < 1 - c])  # the log-ratio compared, not the ratio
    """,
)

# ---------------------------------------------------------------------------------------------------- clipped-slope


exercise(
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
    letters=CLIP,
    given=("logp", "logp_old", "advantages", "mask", "clip"),
    scale=lambda logp, logp_old: 4.0 * np.exp(np.max(logp - logp_old)),
    text=r"""
    -\frac{m \rho A\, 1[\rho A \le \mathrm{clip}(\rho, 1 - c, 1 + c) A]}{\sum_{row} \sum_{place} m}
      not -\frac{m A\, 1[\rho A \le \mathrm{clip}(\rho, 1 - c, 1 + c) A]}{\sum_{row} \sum_{place} m}
        # the ratio forgotten: the slope of log pi
      not -\frac{m \rho A}{\sum_{row} \sum_{place} m}  # never flat
      not -\frac{m \rho A\, 1[1 - c \le \rho]\, 1[\rho \le 1 + c]}{\sum_{row} \sum_{place} m}  # flat wherever the ratio is out of range
      not -\frac{m \min(\rho A, \mathrm{clip}(\rho, 1 - c, 1 + c) A)}{\sum_{row} \sum_{place} m}  # the ratio held at the border for 0
      not \frac{m \rho A\, 1[\rho A \le \mathrm{clip}(\rho, 1 - c, 1 + c) A]}{\sum_{row} \sum_{place} m}  # sign flipped
      not \mathrm{mean}(m)\, (-\frac{m \rho A\, 1[\rho A \le \mathrm{clip}(\rho, 1 - c, 1 + c) A]}{\sum_{row} \sum_{place} m})
        # divided by B T: padding counted
    """,
)

# ---------------------------------------------------------------------------------------------------- group-normalized


UNBIASED = "the standard deviation divides by G - 1"


def ill_normalized(std: str, of_all: str) -> dict[str, str]:
    """Wrong answers, by either convention: the standard deviation of a group, and of all groups together."""
    centered = r"R - \mathrm{mean}(R)"
    return {
        "epsilon under the root": rf"\frac{{{centered}}}{{\sqrt{{({std})^2 + \epsilon}}}}",
        "all groups together": rf"\frac{{R - \xi}}{{{of_all} + \epsilon}}",
        "variance for standard deviation": rf"\frac{{{centered}}}{{({std})^2 + \epsilon}}",
        "the mean not taken away": rf"\frac{{R}}{{{std} + \epsilon}}",
        "not divided": centered,
        "the group's best for its mean": rf"\frac{{R - \max_i R(i)}}{{{std} + \epsilon}}",
        "epsilon subtracted from the mean": rf"\frac{{{centered} + \epsilon}}{{{std} + \epsilon}}",
    }


exercise(
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
    letters={**GROUPED, "R": "rewards", "epsilon": "small"},
    given=("rewards", "small"),
    also={UNBIASED: r"\frac{R - \mathrm{mean}(R)}{\mathrm{std}(R) \sqrt{G/(G - 1)} + \epsilon}"},
    under={UNBIASED: ill_normalized(r"\mathrm{std}(R) \sqrt{G/(G - 1)}", r"\zeta \sqrt{n G/(n G - 1)}")},
    misses=ill_normalized(r"\mathrm{std}(R)", r"\zeta"),
    scale=lambda: 32.0,
    text=r"""
    \frac{R - \mathrm{mean}(R)}{\mathrm{std}(R) + \epsilon}
    """,
)

# ---------------------------------------------------------------------------------------------------- critic-loss


exercise(
    slug="critic-loss",
    chapter=7,
    notebook="",
    title="A critic that may not move far",
    statement=(
        PADDED + "A `critic` is to say the `targets`; when the batch was drawn it said `critic_old` (all `(B, T)`). The loss of a token "
        "is half of the larger of two squared errors: the critic's, and that of the critic moved to within `clip` of what it said. "
        "Return the mean over all tokens: a scalar."
    ),
    hint="Clip the change of the critic, not the critic; then take the larger square.",
    rows=("gae", "aggregation"),
    given=("critic", "critic_old", "targets", "mask", "clip"),
    scale=lambda: 32.0,
    text=r"""
    let V = critic; V_old = critic_old; R = targets; m = mask; c = clip
    \frac{1}{2} \frac{\sum_{row} \sum_{place} m \max((V - R)^2, (\nu - R)^2)}{\sum_{row} \sum_{place} m}, \quad \nu = V_{old} +
        \mathrm{clip}(V - V_{old}, -c, c)
      not \frac{1}{2} \frac{\sum_{row} \sum_{place} m \min((V - R)^2, (\nu - R)^2)}{\sum_{row} \sum_{place} m}  # min for max
      not \frac{\sum_{row} \sum_{place} m \max((V - R)^2, (\nu - R)^2)}{\sum_{row} \sum_{place} m}  # 1/2 forgotten
      not \frac{1}{2} \frac{\sum_{row} \sum_{place} m (V - R)^2}{\sum_{row} \sum_{place} m}  # clipping omitted
      not \frac{1}{2} \frac{\sum_{row} \sum_{place} m (\nu - R)^2}{\sum_{row} \sum_{place} m}  # the larger omitted: always clipped
      not \frac{1}{2} \frac{\sum_{row} \sum_{place} m \max((V - R)^2, (V_{old} + \mathrm{clip}(V - V_{old}, -c |V_{old}|, c |V_{old}|) -
        R)^2)}{\sum_{row} \sum_{place} m}
        # clipped as a ratio, to 1 - c and 1 + c times the old value
      not \frac{1}{2} \mathrm{mean}(m \max((V - R)^2, (\nu - R)^2))  # padding counted in the mean
    """,
)

# ---------------------------------------------------------------------------------------------------- rewards-with-kl


def last(mask: Any) -> Any:
    """1 for the last token of a response."""
    return mask - np.pad(mask[:, 1:], ((0, 0), (0, 1)))


exercise(
    slug="rewards-with-kl",
    chapter=7,
    notebook="",
    title="The penalty, token by token",
    statement=(
        PADDED + "A response is paid `response_rewards`, `(B,)`, with its last token, and every token costs $\\beta$ = `beta` times its "
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
