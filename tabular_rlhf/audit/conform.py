"""A person's functions against the conformance vectors: which members of a family each agrees with, and where it differs first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tabular_rlhf.audit.batches import made
from tabular_rlhf.audit.handed import Batch, Handed, Unfit, lay_out
from tabular_rlhf.audit.vectors import vectors
from tabular_rlhf.audit.verdict import multiple
from tabular_rlhf.logspace import Array

FAMILY: Mapping[str, str] = {
    "group advantage": "advantages",
    "KL penalty": "kl",
    "policy loss": "policy-losses",
    "aggregation": "aggregations",
    "pair loss": "pair-losses",
}
"""The family of vectors for each kind of function."""
CLOSE, SINGLE = 1e-9, 1e-4
"""Relative, of 64 bits and of 32."""


@dataclass(frozen=True, eq=False)
class Conformance:
    """One function: kind; agrees, the members of its family that it is on every case, with their settings; nearest, the one that it is most
    alike, up to a factor; first, where it differs from that first; problem, what stood in the way."""

    name: str
    kind: str
    agrees: tuple[str, ...]
    nearest: str
    first: str
    problem: str = ""


def conform(handed: Handed, version: str = "") -> Conformance:
    """Run the vectors of its family.

    >>> from tabular_rlhf.audit.handed import hand_in
    >>> from tabular_rlhf.audit.library import Library
    >>> def centered(rewards): return rewards - rewards.mean()
    >>> conform(hand_in(centered, Library())).agrees
    ('group-mean',)
    """
    family = FAMILY.get(handed.kind)
    if family is None:
        return Conformance(handed.name, handed.kind, (), "", "", "there are no vectors for this kind: audit it")
    cases = vectors(family, version)["cases"]
    try:
        lay_out(handed, [batch_of(family, case["inputs"]) for case in cases[:1]]) if family != "pair-losses" else None
        compared = {member: [pair for case in mine for pair in _compared(handed, family, case)] for member, mine in _members(cases).items()}
    except Unfit as e:
        return Conformance(handed.name, handed.kind, (), "", "", f"it {e.kind}: {e.words}")
    agrees = tuple(m for m, pairs in compared.items() if not any(_off(*pair) for pair in pairs))
    nearest = min(compared, key=lambda m: _apart(compared[m])[0])
    residual, factor = _apart(compared[nearest])
    scaled = residual <= SINGLE and abs(factor - 1.0) > 1e-6
    told = f"times {factor:.6g}" if scaled else next((words for pair in compared[nearest] if (words := _off(*pair))), "")
    return Conformance(handed.name, handed.kind, agrees, nearest, "" if agrees else told)


Compared = tuple[str, Array, Array]
"""What is compared; the function's; the vector's."""


def _apart(pairs: list[Compared]) -> tuple[float, float]:
    """The residual of the function's numbers on a member's, as a share, and the factor between them."""
    got, want = (np.concatenate([np.ravel(pair[k]) for pair in pairs]) for k in (1, 2))
    return multiple(got, want)[::-1] if np.any(got) and np.any(want) else (1.0, 0.0)


def _off(name: str, got: Array, want: Array) -> str:
    """Where they differ most, in words; empty where they agree."""
    got, want = np.asarray(got), np.asarray(want)
    off, size = np.abs(got - want), max(float(np.max(np.abs(want), initial=0.0)), 1e-12)
    if np.max(off, initial=0.0) <= CLOSE * size:
        return ""
    at = tuple(int(k) for k in np.unravel_index(np.argmax(off), off.shape)) if off.ndim else ()
    near = " (32 bits)" if np.max(off) <= SINGLE * size else ""
    return f"{name}{list(at) if at else ''} is {got[at]:.9g}, not {want[at]:.9g}{near}"


def _members(cases: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Cases by member: name and settings, but for where they are drawn."""
    out: dict[str, list[dict[str, Any]]] = {}
    for case in cases:
        settings = {k: v for k, v in case["settings"].items() if k != "on_policy"}
        told = ", ".join(f"{k} = {v:g}" if isinstance(v, float | int) else str(v) for k, v in settings.items())
        out.setdefault(case["name"] + (f" ({told})" if told else ""), []).append(case)
    return out


def batch_of(family: str, inputs: Mapping[str, Any]) -> Batch:
    """The batch of a case, with everything that a function of the family may ask for."""
    given = {k: np.asarray(v, dtype=float) if isinstance(v, list) else v for k, v in inputs.items()}
    if family == "pair-losses":
        return given | {"margin": np.zeros(len(given["chosen"]))}
    lengths = np.sum(given["mask"], axis=1) if "mask" in given else given["length"]
    shape = given["mask"].shape if "mask" in given else (len(lengths), int(np.max(lengths)))
    roles = ("logp", "old", "sampler", "ref", "value", "entropy")
    old = given.get("old", given.get("logp", np.zeros(shape)))
    tables = {role: given.get(role, old if role in ("old", "sampler") else np.zeros(shape)) for role in roles}
    batch = made(tables, given.get("reward", np.zeros(shape[0])), lengths, int(given.get("P", 1)))
    return batch | {k: given[k] for k in ("advantage", "table") if k in given}


def _compared(handed: Handed, family: str, case: Mapping[str, Any]) -> Iterator[Compared]:
    """Every output that the function has."""
    batch = batch_of(family, case["inputs"])
    want = {k: np.asarray(v, dtype=float) for k, v in case["outputs"].items()}
    if family == "advantages":
        yield "advantage", np.sum(handed.advantages(batch) * batch["mask"], axis=1) / batch["length"], want["advantage"]
    elif family == "kl":
        yield "value", handed.penalty(batch), want["value"]
        yield "slope", -handed.push(batch)["logp"] * len(batch["mask"]) * batch["mask"], want["slope"]
    elif family == "policy-losses":
        yield "gradient", -handed.push(batch)["logp"], want["gradient"]
    elif family == "aggregations":
        value, grads = handed.gradient(batch, ["table"])
        yield "loss", np.asarray(value), want["loss"]
        yield "weight", grads["table"], want["weight"]
    else:
        for k in range(len(batch["margin"])):
            one = {name: x[[k]] for name, x in batch.items()}
            value, grads = handed.gradient(one, ["chosen", "rejected"])
            yield f"loss of pair {k}", np.asarray(value), np.asarray(want["loss"][k])
            for side in ("chosen", "rejected"):
                yield f"gradient of pair {k}, {side}", np.asarray(np.sum(grads[side])), np.asarray(want[f"gradient_{side}"][k])
