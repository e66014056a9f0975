r"""What a step does not change with, and what it does: each by calling the function twice, on the smallest batch that shows it.

**Pushes** are compared token by token.  A batch counts as smaller the fewer responses it has, then the shorter they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tabular_rlhf.audit.batches import probe, rewarded
from tabular_rlhf.audit.handed import Batch, Handed, Unfit, only
from tabular_rlhf.audit.pairs import at, pair_probes, reward_probes
from tabular_rlhf.audit.roles import LIVE
from tabular_rlhf.audit.verdict import differ, multiple
from tabular_rlhf.logspace import Array

CLOSE = 1e-8
SINGLE = 1e-3
"""Relative: of 64 bits, and of 32."""
TOKENS = ("logp", "old", "sampler", "ref", "mask", "token_reward", "value", "entropy", "table")
ROWS = (*TOKENS, "reward", "advantage", "group", "length")


@dataclass(frozen=True, eq=False)
class Invariance:
    """What was changed; holds; words, what happens; batch, the smallest that shows a change."""

    name: str
    holds: bool
    words: str
    batch: str = ""


Sides = tuple[Array, Array]
Test = Callable[[Handed, Batch], "Sides | None"]


def small_batches(handed: Handed) -> Iterator[Batch]:
    """Random batches with rewards 0, 1, 2, the smallest first."""
    rng = np.random.default_rng(3)
    for P, G, T in ((1, 2, 2), (1, 2, 3), (1, 3, 3), (1, 4, 4), (2, 2, 3), (2, 3, 4), (2, 4, 5)):
        if P == 1 or handed.grouped or handed.kind != "group advantage":
            for _ in range(2):
                yield probe(rng, P=P, G=G, T=T, levels=3)


def described(batch: Batch) -> str:
    """A batch in one line: lengths and rewards, by prompts."""
    rows = [[f"{batch['reward'][i]:g}" for i in np.flatnonzero(batch["group"] == x)] for x in range(batch["P"])]
    lengths = [[str(int(batch["length"][i])) for i in np.flatnonzero(batch["group"] == x)] for x in range(batch["P"])]
    told = [f"rewards {', '.join(r)}, lengths {', '.join(n)}" for r, n in zip(rows, lengths, strict=True)]
    return f"{batch['G']} responses" + (" a prompt: " if batch["P"] > 1 else ": ") + "; ".join(told)


def _push(handed: Handed, batch: Batch) -> Array:
    return np.concatenate([np.atleast_2d(g) for g in handed.push(batch).values()])


def taken(batch: Batch, rows: Any) -> Batch:
    """The batch of some of its rows, in that order."""
    return batch | {k: batch[k][rows] for k in ROWS if k in batch} | {"tokens": int(np.sum(batch["mask"][rows]))}


def padded(batch: Batch, columns: int, value: float = 0.0) -> Batch:
    """The batch with more columns of padding."""
    fill = {k: 0.0 if k in ("mask", "token_reward") else value for k in TOKENS}
    wide = {k: np.pad(batch[k], ((0, 0), (0, columns)), constant_values=fill[k]) for k in TOKENS if k in batch}
    return batch | wide | {"T": batch["T"] + columns}


def _order(handed: Handed, batch: Batch) -> Sides:
    perm = np.concatenate([np.flatnonzero(batch["group"] == x)[::-1] for x in range(batch["P"])])
    return handed.push(taken(batch, perm))["logp"], handed.push(batch)["logp"][perm]


def _padding(handed: Handed, batch: Batch) -> Sides:
    g, wide = handed.push(batch)["logp"], handed.push(padded(batch, 2))["logp"]
    return wide, np.pad(g, ((0, 0), (0, wide.shape[1] - g.shape[1])))


def _under_mask(handed: Handed, batch: Batch) -> Sides | None:
    if not handed.asks("mask"):
        return None
    noise = np.random.default_rng(1).uniform(-2.0, -0.5, batch["mask"].shape) * (1.0 - batch["mask"])
    other = batch | {k: batch[k] + c * noise for c, k in enumerate(("logp", "old", "ref", "value", "table"), 1) if k in batch}
    g = handed.push(other)["logp"]
    return g, handed.push(batch)["logp"] * batch["mask"]


def with_reward(batch: Batch, r: Array) -> Batch:
    """The batch with other rewards, and what follows from them."""
    return batch | rewarded(r, batch["mask"], batch["P"])


def _of_rewards(change: Callable[[Array], Array]) -> Test:
    """Of what takes rewards, the push under changed ones beside that under the batch's own."""

    def test(handed: Handed, batch: Batch) -> Sides | None:
        if handed.kind not in ("whole step", "group advantage"):
            return None
        return handed.push(with_reward(batch, change(batch["reward"])))["logp"], handed.push(batch)["logp"]

    return test


def twice(batch: Batch, grouped: bool) -> Batch:
    """Every response twice: other prompts of the same rewards, where prompts are told apart; else one larger group."""
    B, P = len(batch["mask"]), batch["P"]
    double = taken(batch, np.tile(np.arange(B), 2))
    if not grouped:
        return double | {"G": 2 * batch["G"]}
    return double | {"P": 2 * P, "group": np.concatenate([batch["group"], batch["group"] + P])}


def _doubled(handed: Handed, batch: Batch) -> Sides:
    B = len(batch["mask"])
    g = handed.push(twice(batch, handed.grouped))["logp"]
    return g[:B] + g[B:], handed.push(batch)["logp"]


def _prompts(handed: Handed, batch: Batch) -> Sides | None:
    if batch["P"] < 2 or not handed.grouped:
        return None
    whole = handed.push(batch)["logp"]
    alone = [handed.push(only(batch, x))["logp"] for x in range(batch["P"])]
    return whole, np.concatenate(alone) / batch["P"]


def _micro(handed: Handed, batch: Batch) -> Sides | None:
    B = len(batch["mask"])
    if handed.kind not in ("policy loss", "aggregation", "KL penalty") or B % 2 or B < 4:
        return None
    halves = [
        taken(batch, np.arange(k * B // 2, (k + 1) * B // 2)) | {"G": batch["G"] // 2 if batch["P"] == 1 else batch["G"]} for k in (0, 1)
    ]
    parts = [h | {"P": max(1, batch["P"] // 2), "group": h["group"] - h["group"][0]} for h in halves]
    return handed.push(batch)["logp"], np.concatenate([handed.push(h)["logp"] for h in parts]) / 2.0


def _width(handed: Handed, batch: Batch) -> Sides:
    wide = handed.push(batch)["logp"]
    handed.library.width = np.float32
    try:
        return handed.push(batch)["logp"], wide
    finally:
        handed.library.width = np.float64


def _eos(handed: Handed, batch: Batch) -> Sides | None:
    """Whether the last token of a response is pushed where the one before it is, by a policy that has not moved."""
    batch = batch | {"old": batch["logp"], "sampler": batch["logp"]}
    g, L = handed.push(batch)["logp"], batch["length"].astype(int)
    rows = np.flatnonzero((L >= 2) & (np.abs(g[np.arange(len(L)), np.maximum(L - 2, 0)]) > 0))
    if not len(rows) or not handed.asks("mask") or handed.kind not in ("policy loss", "whole step", "aggregation"):
        return None
    return (np.abs(g[rows, L[rows] - 1]) > 0).astype(float), np.ones(len(rows))


def _silent(handed: Handed, batch: Batch) -> Sides | None:
    """Whether a group of equal rewards is pushed at all, by a policy that is not the reference."""
    if handed.kind != "whole step" or not handed.asks("ref"):
        return None
    equal = with_reward(batch, np.ones_like(batch["reward"]))
    return np.array([float(np.any(handed.push(equal)["logp"]))]), np.ones(1)


TESTS: Mapping[str, tuple[Test, str, str]] = {
    "order of responses": (_order, "does not matter", "matters"),
    "more padding": (_padding, "does not matter", "matters"),
    "values under the mask": (_under_mask, "do not matter", "matter"),
    "EOS": (_eos, "is trained on", "is not trained on"),
    "groups of equal rewards": (_silent, "pay the penalty", "lose their penalty, too"),
    "rewards + 1": (_of_rewards(lambda r: r + 1.0), "changes nothing", "changes the step"),
    "rewards x 3": (_of_rewards(lambda r: 3.0 * r), "changes nothing", "changes the step"),
    "batch twice": (_doubled, "the same step", "another step"),
    "other prompts in the batch": (_prompts, "do not matter: the mean of the prompts' steps", "matter"),
    "micro-batches": (_micro, "their mean is the step of the batch", "their mean is not the step of the batch"),
    "32 bits": (_width, "suffice", "do not suffice"),
}


def invariances(handed: Handed) -> list[Invariance]:
    """Every test that applies; a test in which the function fails is told as such.

    >>> from tabular_rlhf.audit.handed import hand_in
    >>> from tabular_rlhf.audit.library import Library
    >>> def centered(rewards): return rewards - rewards.mean()
    >>> [i.name for i in invariances(hand_in(centered, Library())) if not i.holds]
    ['rewards x 3']
    """
    if handed.kind in ("pair loss", "reward-model loss"):
        return _of_pairs(handed)
    found = [_tried(handed, name, *test) for name, test in TESTS.items()]
    return [i for i in found if i is not None] + unused(handed)


def _tried(handed: Handed, name: str, test: Test, holds: str, fails: str) -> Invariance | None:
    tolerance, applies = (SINGLE if name == "32 bits" else CLOSE), False
    for batch in small_batches(handed):
        try:
            sides = test(handed, batch)
        except Unfit as e:
            return Invariance(name, False, f"it {e.kind}: {e.words}", described(batch))
        if sides is None:
            continue
        applies = True
        got, want = sides
        if got.shape != want.shape or differ(got, want, tolerance):
            return Invariance(name, False, fails + _factor(got, want), described(batch))
    return Invariance(name, True, holds) if applies else None


def _factor(got: Array, want: Array) -> str:
    """By what factor, where it is one."""
    if got.shape != want.shape or not np.any(want):
        return ""
    c, residual = multiple(got, want)
    if residual <= 1e-6:
        return f": by a factor {c:.6g}"
    cosine = float(np.sum(got * want) / max(float(np.linalg.norm(got) * np.linalg.norm(want)), 1e-300))
    return f": cosine {cosine:.3f}"


def unused(handed: Handed) -> list[Invariance]:
    """Tables that it takes, and that change nothing."""
    batch = probe(np.random.default_rng(4), P=2 if handed.grouped else 1, G=4, T=5)
    before, out = _push(handed, batch), []
    rng = np.random.default_rng(6)
    for name, role in handed.roles.items():
        if role in LIVE or np.ndim(batch[role]) == 0 or role == "group":
            continue
        value = 1.0 - batch[role] if role == "mask" else batch[role] * rng.uniform(0.5, 1.5, np.shape(batch[role])) + 0.1
        try:
            same = np.array_equal(before, _push(handed, batch | {role: value}))
        except Unfit:
            same = False
        if same:
            out.append(Invariance(name, True, f"is asked for, and changes nothing ({role})"))
    return out


# ---------------------------------------------------------------------------------------------------- pairs


def _pair(handed: Handed, batch: Batch) -> Array:
    return np.array([float(np.sum(g)) for g in handed.push(batch).values()])


SHIFTS: Mapping[str, tuple[tuple[str, ...], float, str, str]] = {
    "both + 1": (
        ("chosen", "rejected", "chosen_reward", "rejected_reward"),
        1.0,
        "changes nothing: a constant cancels",
        "changes the step",
    ),
    "both references + 1": (("ref_chosen", "ref_rejected"), 1.0, "changes nothing: log Z cancels", "changes the step"),
    "longer responses": (("chosen_length", "rejected_length"), 2.0, "change nothing", "change the step"),
}
"""Changes of pairs: which roles, by how much, and what is said where the step stays the same, and where it does not."""


def _of_pairs(handed: Handed) -> list[Invariance]:
    reward = handed.kind == "reward-model loss"
    batch = reward_probes() if reward else pair_probes()
    sides = ("chosen_reward", "rejected_reward") if reward else ("chosen", "rejected")
    out = []
    for name, (roles, by, holds, fails) in SHIFTS.items():
        moved = batch | {k: batch[k] + by for k in roles if k in batch}
        if roles[0] in batch or roles[-1] in batch:
            pairs = ((_pair(handed, at(batch, k)), _pair(handed, at(moved, k))) for k in range(len(batch[sides[0]])))
            worst = next((k for k, both in enumerate(pairs) if differ(*both, CLOSE)), None)
            where = "" if worst is None else ", ".join(f"{s} {batch[s][worst]:.3g}" for s in sides)
            out.append(Invariance(name, worst is None, holds if worst is None else fails, where))
    both = {k: x[:2] for k, x in batch.items()}
    together = np.stack([np.ravel(g) for g in handed.push(both).values()])
    alone = np.stack([np.concatenate([np.ravel(handed.push(at(batch, k))[side]) for k in (0, 1)]) for side in handed.push(both)])
    mean, total = not differ(together, alone / 2.0, CLOSE), not differ(together, alone, CLOSE)
    words = "do not matter: the mean of the pairs' losses" if mean else "do not matter: the sum of the pairs' losses" if total else "matter"
    return [*out, Invariance("other pairs in the batch", mean or total, words)]
