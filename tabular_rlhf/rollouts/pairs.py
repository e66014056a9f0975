r"""What a file of rollouts says about pairs of responses to one prompt: who wins, what winning goes with, and DPO's loss on them.

**Symbols.**  m_i = beta log(p/p_ref), the implicit reward of the policy that wrote the file; P_ij, the probability that i is preferred to
j; W_i = mean over j != i of P_ij, its win rate.  Over the pairs of a prompt, with softplus(z) = log(1 + e^z),

    DPO = mean of softplus(m_i - m_j)  -  mean of m_i (2 W_i - 1):      a half without labels, and a half of labels.

Labels are those of the reward: the larger one wins (of equal ones either, half of the time), or by Bradley-Terry, P_ij = sigma(r_i - r_j).

All of this is certain of the file's own pairs.  As an estimate for new pairs it is an average over pairs (a U-statistic: unbiased; with n
responses its standard error is 2 std(h_i)/sqrt(n), h_i the mean of the pairs that i is in).  Source: Hoeffding (1948).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tabular_rlhf.logspace import Array, log_sigmoid
from tabular_rlhf.rollouts.read import Rollouts

Record = dict[str, Any]
LABELS = ("larger reward", "Bradley-Terry")
"""Who is preferred."""
ROWS = 256
"""Rows of a prompt's table of pairs that are made at once."""


def pairs(r: Rollouts, each: Mapping[str, Array]) -> Record:
    """Counts of pairs, what goes with the larger reward, and DPO's loss of the policy that wrote the file, by label.

    Args: each, label -> the halves of that loss for each response (`halves`).

    >>> from tabular_rlhf.rollouts.read import read_rollouts
    >>> line = '{{"prompt": "x", "tokens": [{0}], "logp": [-{0}], "logp_ref": [-1], "reward": {0}}}\\n'
    >>> found = pairs(read_rollouts(line.format(1) + line.format(2)), {}); found["pairs"], found["goes_with"][0]
    (1, {'name': 'log p', 'pairs': 1, 'share': 0.0})
    """
    asked = several(r)
    shares = [{"name": name, **goes_with(r.reward, x, asked)} for name, x in measures(r).items()]
    found = {"pairs": sum(len(at) * (len(at) - 1) // 2 for at in asked), "prompts": len(asked)}
    return {**found, "goes_with": shares, "dpo": [dpo(x, asked, label) for label, x in each.items()] if asked else []}


def several(r: Rollouts) -> list[Any]:
    """The responses of every prompt that has more than one."""
    return [at for x in range(len(r.prompts)) if len(at := np.flatnonzero(r.prompt == x)) > 1]


def measures(r: Rollouts) -> dict[str, Array]:
    """What a larger reward may go with: likelihood, log-ratio, length, and the named parts of the reward that all responses have."""
    log_p, log_ref = r.logp.sum(axis=1), r.logp_ref.sum(axis=1)
    found = {"log p": log_p, "log p_ref": log_ref, "log(p/p_ref)": log_p - log_ref, "length": r.lengths.astype(float)}
    return found | {name: x for name, x in r.parts.items() if np.isfinite(x).all()}


def blocks(at: Any) -> Iterator[tuple[Any, Any]]:
    """(some of a prompt's responses, all of them), to be met with each other."""
    for k in range(0, len(at), ROWS):
        yield at[k : k + ROWS, None], at


def goes_with(reward: Array, x: Array, asked: list[Any]) -> Record:
    """Of the pairs that differ in x and in reward, the share in which the one with more x has more reward; None where there are none."""
    alike = differ = 0
    for i, j in (pair for at in asked for pair in blocks(at)):
        sign = np.sign(reward[i] - reward[j]) * np.sign(x[i] - x[j])
        alike, differ = alike + int(np.sum(sign > 0)), differ + int(np.count_nonzero(sign))
    return {"pairs": differ // 2, "share": alike / differ if differ else None}


def terms(m: Array, reward: Array, at: Any, label: str) -> tuple[Array, Array]:
    """Means over the others, for each of a prompt's responses: softplus(m_i - m_j), either way round, and (2 P_ij - 1)(m_i - m_j)/2."""
    free, told = np.zeros(len(at)), np.zeros(len(at))
    for k, (i, j) in enumerate(blocks(at)):
        z, gap = m[i] - m[j], reward[i] - reward[j]
        lead = np.sign(gap) if label == "larger reward" else np.tanh(0.5 * gap)  # 2 sigma(gap) - 1
        here = slice(k * ROWS, k * ROWS + len(i))
        free[here] = np.sum(0.5 * np.abs(z) - log_sigmoid(np.abs(z)), axis=1) - np.log(2.0)  # itself left out
        told[here] = np.sum(0.5 * lead * z, axis=1)
    return free / (len(at) - 1.0), told / (len(at) - 1.0)


def halves(r: Rollouts, beta: float, label: str) -> Array:
    """The two halves of DPO's loss, of the pairs that a response is in, nan for one that is alone: (n, 2)."""
    m, out = beta * np.sum(r.logp - r.logp_ref, axis=1), np.full((r.n, 2), np.nan)
    for at in several(r):
        out[at] = np.stack(terms(m, r.reward, at, label), axis=1)
    return out


def dpo(each: Array, asked: list[Any], label: str) -> Record:
    """DPO's loss and its halves, means over prompts of means over pairs."""
    free, told = np.mean([np.mean(each[at], axis=0) for at in asked], axis=0).tolist()
    return {"labels": label, "label_free": free, "label_half": told, "loss": free - told}
