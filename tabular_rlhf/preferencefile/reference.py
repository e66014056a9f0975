"""A reference policy on the candidates of a preference file: JSON lines with `prompt`, `response` and `logp`, in nats."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tabular_rlhf.errors import InputError
from tabular_rlhf.files import read_bytes
from tabular_rlhf.logspace import Array
from tabular_rlhf.preferencefile.containers import json_value
from tabular_rlhf.preferencefile.record import Malformed, Preferences
from tabular_rlhf.preferencefile.values import kind, response, text


def read_reference(path: Path, found: Preferences) -> Array:
    """log p_ref of every candidate, as given.  Raises: InputError for a line that cannot be used, or a candidate without a line."""
    number = {(found.prompts[x], y): k for k, (x, y) in enumerate(zip(found.of.tolist(), found.responses, strict=True))}
    log_p = np.full(len(number), np.nan)
    lines = read_bytes(path, "the reference file").removeprefix(b"\xef\xbb\xbf").splitlines()
    for line, raw in enumerate(lines, 1):
        if raw.strip():
            try:
                key, value = _row(raw)
            except Malformed as e:
                remedy = 'write {"prompt": "...", "response": "...", "logp": -12.3}'
                raise InputError("a reference must be well formed", got=str(e), where=f"{path}, line {line}", remedy=remedy) from None
            if key in number:
                log_p[number[key]] = value
    if np.isnan(log_p).any():
        first = int(np.flatnonzero(np.isnan(log_p))[0])
        got = f"nothing for {found.responses[first][:60]!r} after {found.prompts[found.of[first]][:60]!r}"
        raise InputError("the reference must know every response compared", got=got, where=str(path), remedy="add the missing lines")
    return log_p


def _row(raw: bytes) -> tuple[tuple[str, str], float]:
    """(prompt, response) and the log-probability of one line."""
    row = json_value(raw.decode("utf-8", "surrogateescape"))
    if not isinstance(row, dict):
        raise Malformed(f"not an object but {kind(row)}")
    key = text(row.get("prompt"), "prompt"), response(row.get("response"), "response")[1]
    value = row.get("logp")
    if isinstance(value, bool) or not isinstance(value, int | float) or not -float("inf") < value <= 0:
        raise Malformed(f"'logp' must be a finite log-probability, at most 0, not {json.dumps(value)}")
    return key, value
