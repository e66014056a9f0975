r"""What is made of a batch of groups: advantages in units of the whole batch, groups dropped or drawn anew, long responses cut out.

A, r, n, lengths, kept, mixed and ended have shape (..., K): the K kinds of response of a batch, the advantages that their groups gave
them, their rewards, how many there are, their lengths, and 1 for those that are kept, of a mixed group, or ended by themselves.

**Overlong shaping** (DAPO): r loses (|y| - (H - c))/c for a response that is longer than H - c tokens, c the setting `cache`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tabular_rlhf.policy_gradient.record import BATCHES, Batch
from tabular_rlhf.policy_gradient.spread import all_equal, over_spread, spread, total, whitened
from tabular_rlhf.registry import entered


def _over_std(A: Any, r: Any, n: Any, kept: Any, ddof: float, epsilon: float) -> Any:
    w = n * kept
    return over_spread(A, spread(r, w, ddof)[1], all_equal(r, w), epsilon)


def overlong(r: Any, lengths: Any, H: int, cache: float) -> Any:
    """The reward less what it loses by its length.

    >>> overlong(np.ones(3), np.array([2.0, 3.0, 4.0]), 4, 2.0).tolist()
    [1.0, 0.5, 0.0]
    """
    return r - np.maximum(0.0, lengths - (H - cache)) / cache


# ---------------------------------------------------------------------------------------------------- one batch in plain Python


def _plain_spread(f: list[float], w: list[float], ddof: float) -> tuple[float, float]:
    total = math.fsum(w)
    mean = math.fsum(x * v for x, v in zip(f, w, strict=True)) / total
    squares = math.fsum(v * (x - mean) ** 2 for x, v in zip(f, w, strict=True))
    return mean, math.sqrt(squares / (total - ddof)) if total > ddof else 0.0


def _plain_whitened(i: int, A: list[float], kept: list[float], ddof: float, epsilon: float) -> float:
    if len({a for a, k in zip(A, kept, strict=True) if k}) < 2:
        return 0.0
    mean, spread = _plain_spread(A, kept, ddof)
    return (A[i] - mean) / (spread + epsilon)


def _plain_over_std(i: int, A: list[float], r: list[float], kept: list[float], ddof: float, epsilon: float) -> float:
    if len({x for x, k in zip(r, kept, strict=True) if k}) < 2:
        return 0.0
    return A[i] / (_plain_spread(r, kept, ddof)[1] + epsilon)


DAPO = "Yu et al. (2025), arXiv:2503.14476 (DAPO)"
STD = {"ddof": 0, "epsilon": 0.0}
batch = entered(Batch, BATCHES.add)


def _as_given(name: str, latex: str, source: str, **told: Any) -> Batch:
    """A record that leaves advantages as their groups gave them."""
    return batch(name, latex, source, lambda A: A, lambda i, A: A[i], **told)


_as_given(
    "each-group",
    r"A'_i = A_i",
    "Shao et al. (2024), arXiv:2402.03300.",
    apart=True,
    remark="The mean over groups that do not see each other",
)
_as_given(
    "together",
    r"A'_i = A_i",
    f"{DAPO}: its token mean is that of the batch.",
    remark="Weights that look at others look at the whole batch",
)
batch(
    "whitened",
    r"A'_i = (A_i - \bar A)/(s + \epsilon), \quad \bar A, s \text{ of the batch's responses}",
    "Hu et al. (2025), arXiv:2501.03262 (REINFORCE++: of rewards; its baseline form: of rewards less their group's mean).",
    lambda A, n, kept, ddof, epsilon: whitened(A, n * kept, ddof, epsilon),
    _plain_whitened,
    defaults=STD,
    smallest=2,
    remark="Advantages in units of the batch's standard deviation",
)
batch(
    "whitened-tokens",
    r"A'_i = (A_i - \bar A)/(s + \epsilon), \quad \bar A, s \text{ of the batch's tokens}",
    "verl and OpenRLHF (2025), which normalize advantages of tokens.",
    lambda A, n, kept, lengths, ddof, epsilon: whitened(A, n * kept * lengths, ddof, epsilon),
    lambda i, A, kept, lengths, ddof, epsilon: _plain_whitened(i, A, [k * n for k, n in zip(kept, lengths, strict=True)], ddof, epsilon),
    defaults=STD,
    smallest=2,
    remark="A long response counts by its length in mean and standard deviation",
)
batch(
    "over-std",
    r"A'_i = A_i/(s + \epsilon), \quad s \text{ of the batch's rewards}",
    'Liu et al. (2025), arXiv:2508.08221 (Lite PPO); TRL\'s scale_rewards="batch".',
    _over_std,
    _plain_over_std,
    defaults=STD,
    smallest=2,
    remark="One standard deviation for all groups of a batch",
)
_as_given(
    "dropped",
    r"A'_i = A_i, \quad \text{mean over the groups that are mixed}",
    "Chu et al. (2025), arXiv:2504.02546 (GPG): its alpha is the batch's size over what is left of it.",
    keeps="mixed",
    remark="Silent groups are left out, and the rest counts for more",
)
batch(
    "by-rewarded",
    r"A'_i = A_i\, B G / \max(1, |\{j: r_j \ne 0\}|)",
    "verl (2025), its gpg: where GPG counts responses of mixed groups it counts rewards that are not 0.",
    lambda A, r, n: A * total(n, 1.0) / np.maximum(1.0, total(n, r != 0.0)),
    lambda i, A, r: A[i] * len(r) / max(1, sum(x != 0 for x in r)),
    remark="The fewer right responses a batch has, the more it counts",
)
_as_given(
    "filled",
    r"A'_i = A_i, \quad \text{silent groups replaced by groups of other prompts}",
    f"{DAPO}: dynamic sampling.",
    keeps="mixed",
    redrawn="any",
    remark="Prompts count by how often their groups are mixed",
)
_as_given(
    "redrawn",
    r"A'_i = A_i, \quad \text{silent groups drawn anew, of the same prompt}",
    f"{DAPO}, as some trainers read it.",
    keeps="mixed",
    redrawn="same",
    remark="Every prompt counts alike, however seldom its groups are mixed",
)
_as_given(
    "overlong-filtered",
    r"A'_i = A_i, \quad \text{mean over what ended before the horizon}",
    f"{DAPO}: overlong filtering; TRL's mask_truncated_completions.",
    keeps="ended",
    remark="Responses that the horizon cut off teach nothing, though their rewards are in their group's baseline",
)
batch(
    "overlong-diluted",
    r"A'_i = A_i\, 1[i \text{ ended}], \quad \text{mean over all}",
    "TRL's mask_truncated_completions until 2026 (its issue 6369): masked above, counted below.",
    lambda A, ended: A * ended,
    lambda i, A, ended: A[i] * ended[i],
    remark="Responses that the horizon cut off teach nothing, but their tokens are counted",
)
_as_given(
    "overlong-shaped",
    r"A'_i = A_i, \quad A \text{ of } r - \max(0, (L - (H - c))/c)",
    f"{DAPO}: soft overlong punishment, its cache c in tokens.",
    shaped=overlong,
    defaults={"cache": 1.0},
    remark="The last c tokens before the horizon cost up to one reward unit",
)
_as_given(
    "dapo",
    r"A'_i = A_i, \quad \text{filled, and overlong responses shaped}",
    f"{DAPO}: two of its four parts; the others are clip-higher and a token mean.",
    keeps="mixed",
    redrawn="any",
    shaped=overlong,
    defaults={"cache": 1.0},
    remark="Mixed is a group by its rewards before they are shaped",
)
