r"""Rollouts of a trainer, one response a line: what the field's dumps hold, read line by line.

    {"prompt": "2+2=", "tokens": [19, 2], "logp": [-0.1, -0.7], "logp_ref": [-0.2, -0.6], "reward": 1.0}

| key | meaning |
|---|---|
| `prompt` | text, or a list of messages or token numbers: what responses are grouped by |
| `tokens`, `logp`, `logp_ref` | token numbers, and the log-probability of each under the policy that said it, and under the reference |
| `reward` | a number |
| `logp_new` | optional: log-probabilities under a newer policy, for importance ratios |
| `loss_mask` | optional: 0 for tokens that the policy did not say (a tool did); their log-probabilities may be null, and count as 0 |
| `group`, `step` | optional: responses that were compared with each other (those of one prompt and step, if not given) |
| `rewards` | optional: a table of named parts of the reward |
| `advantage` | optional: the advantage that the trainer gave the response |
| `text`, `finish` | optional, `finish` "length" for a response that was cut off |

A line that cannot be used is reported with its number and the reason; the others are used.  A file that ends in the middle of a line (a
dump still being written) loses that line only.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tabular_rlhf.errors import InputError, quoted, shown
from tabular_rlhf.files import read_json
from tabular_rlhf.logspace import Array
from tabular_rlhf.mdp import Indices

ABOVE = 1e-4
"""A log-probability above 0 by more than this is a mistake; less is the rounding of an engine."""


@dataclass(frozen=True, eq=False)
class Rollouts:
    """n responses of at most T tokens.

    prompt, group (n,): numbers; prompts: their texts; tokens (n, T), -1 after the end; logp, logp_ref (n, T), 0 after the end and where
    masked; mask (n, T), whether the policy said the token; logp_new (n, T) or None; reward (n,); lengths (n,); parts, named rewards (n,);
    advantage (n,), as recorded, or None; cut (n,), whether a response was cut off; line (n,), where it stands; malformed, (line, reason)
    of what was not used; lines, how many.
    """

    prompts: list[str]
    prompt: Indices
    group: Indices
    tokens: Indices
    logp: Array
    logp_ref: Array
    logp_new: Array | None
    mask: Any
    reward: Array
    lengths: Indices
    parts: dict[str, Array]
    advantage: Array | None
    cut: Any
    line: Indices
    malformed: list[tuple[int, str]]
    lines: int

    @property
    def n(self) -> int:
        """Responses."""
        return len(self.reward)


def read_rollouts(text: str, tick: Callable[[int], None] = lambda n: None) -> Rollouts:
    """The rollouts of a JSON lines text.  Args: tick, told how many lines are done.

    Raises: InputError where no line can be used.

    >>> r = read_rollouts('{"prompt": "x", "tokens": [3], "logp": [-0.5], "logp_ref": [-0.7], "reward": 1}\\n{"prompt": "x", "tok')
    >>> r.n, r.malformed
    (1, [(2, 'cut off in the middle')])
    """
    rows: list[dict[str, Any]] = []
    malformed: list[tuple[int, str]] = []
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        tick(1)
        if not line.strip():
            continue
        try:
            rows.append(_row(read_json(line), number))
        except json.JSONDecodeError as e:
            last = number == len(lines)
            malformed.append((number, "cut off in the middle" if last else f"no JSON: {shown(e)}"))
        except ValueError as e:
            malformed.append((number, shown(e)))
    if not rows:
        got = f"{len(malformed)} lines, none usable" + (f"; line {malformed[0][0]}: {malformed[0][1]}" if malformed else "")
        raise InputError("a file of rollouts must have a response", got=got, remedy="see `tabular-rlhf rollouts --example`")
    return _together(rows, malformed, len(lines) - (lines[-1] == ""))


def _row(x: Any, number: int) -> dict[str, Any]:
    """One response, checked.  Raises ValueError with the reason."""
    if not isinstance(x, dict):
        raise ValueError("not an object")
    for key in ("prompt", "tokens", "logp", "logp_ref", "reward"):
        if key not in x:
            raise ValueError(f"no {key}")
    tokens = x["tokens"]
    if not isinstance(tokens, list) or not tokens or not all(type(t) is int and 0 <= t < 2**31 for t in tokens):
        raise ValueError("tokens must be a list of token numbers, at least one")
    mask = x.get("loss_mask", [1] * len(tokens))
    if not isinstance(mask, list) or len(mask) != len(tokens) or not all(m in (0, 1) for m in mask):
        raise ValueError(f"loss_mask must be {len(tokens)} zeros and ones")
    row = {
        "line": number,
        "tokens": tokens,
        "mask": mask,
        "prompt": json.dumps(x["prompt"]) if not isinstance(x["prompt"], str) else x["prompt"],
    }
    for key in ("logp", "logp_ref", "logp_new"):
        row[key] = _logs(key, x[key], mask) if key in x and x[key] is not None else None
    if row["logp"] is None or row["logp_ref"] is None:
        raise ValueError("logp and logp_ref must be given for every token")
    row["reward"] = _number("reward", x["reward"])
    parts = x.get("rewards") or {}
    if not isinstance(parts, dict):
        raise ValueError("rewards must be a table of numbers")
    row["parts"] = {str(k): _number(f"rewards[{quoted(k)}]", v) for k, v in parts.items()}
    row["advantage"] = None if x.get("advantage") is None else _number("advantage", x["advantage"])
    row["group"] = (row["prompt"], json.dumps(x.get("step")), json.dumps(x.get("group")))
    row["cut"] = x.get("finish") == "length"
    return row


def _number(name: str, x: Any) -> float:
    if isinstance(x, bool) or not isinstance(x, int | float) or not math.isfinite(x):
        raise ValueError(f"{name} must be a finite number, got {quoted(x)[:60]}")
    return float(x)


def _logs(key: str, x: Any, mask: list[int]) -> list[float]:
    """Log-probabilities, one a token; 0 where masked."""
    if not isinstance(x, list) or len(x) != len(mask):
        raise ValueError(f"{key} must be a list of {len(mask)} numbers, one a token")
    out = [0.0] * len(mask)
    for i, (value, said) in enumerate(zip(x, mask, strict=True)):
        if said:
            if type(value) not in (int, float) or not -math.inf < value <= ABOVE:
                raise ValueError(f"{key}[{i}] must be a finite log-probability, at most 0, got {quoted(value)[:60]}")
            out[i] = min(0.0, float(value))
    return out


def _together(rows: list[dict[str, Any]], malformed: list[tuple[int, str]], lines: int) -> Rollouts:
    n, T = len(rows), max(len(row["tokens"]) for row in rows)
    names = list(dict.fromkeys(row["prompt"] for row in rows))
    number = {p: i for i, p in enumerate(names)}
    groups = {g: i for i, g in enumerate(dict.fromkeys(row["group"] for row in rows))}
    tokens, mask = np.full((n, T), -1, dtype=np.intp), np.zeros((n, T), dtype=bool)
    logs = {key: np.zeros((n, T)) for key in ("logp", "logp_ref", "logp_new")}
    newer = all(row["logp_new"] is not None for row in rows)
    for i, row in enumerate(rows):
        t = len(row["tokens"])
        tokens[i, :t], mask[i, :t] = row["tokens"], row["mask"]
        for key, table in logs.items():
            if row[key] is not None:
                table[i, :t] = row[key]
    parts = sorted({k for row in rows for k in row["parts"]})
    return Rollouts(
        names,
        np.array([number[row["prompt"]] for row in rows]),
        np.array([groups[row["group"]] for row in rows]),
        tokens,
        logs["logp"],
        logs["logp_ref"],
        logs["logp_new"] if newer else None,
        mask,
        np.array([row["reward"] for row in rows]),
        np.array([len(row["tokens"]) for row in rows]),
        {k: np.array([row["parts"].get(k, np.nan) for row in rows]) for k in parts},
        None if any(row["advantage"] is None for row in rows) else np.array([row["advantage"] for row in rows]),
        np.array([row["cut"] for row in rows]),
        np.array([row["line"] for row in rows]),
        malformed,
        lines,
    )
