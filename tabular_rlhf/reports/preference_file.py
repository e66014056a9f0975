r"""A person's own comparisons, read from the field's format: JSON lines with `prompt`, `chosen`, `rejected`, and perhaps `weight`.

Accepted, besides plain strings: lists of messages {"role", "content"}, of which the last assistant message is the response and
those before it the prompt (if none is given); and transcripts "\n\nHuman: ...\n\nAssistant: ..." without a prompt.

Each line that cannot be used is a `Fault` with its number and a reason; nothing is dropped without one.  Blank lines are counted.
A line whose two responses are equal is well formed, but says nothing: it is counted, and listed apart.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tabular_rlhf.errors import InputError, shown
from tabular_rlhf.files import read_bytes, read_json
from tabular_rlhf.logspace import Array
from tabular_rlhf.mdp import Indices

TURN = "\n\nAssistant:"


@dataclass(frozen=True)
class Fault:
    """A line that could not be used, counted from 1, and why."""

    line: int
    reason: str


@dataclass(frozen=True, eq=False)
class Preferences:
    """What a file says.  prompts, in order of appearance; responses, the candidates, prompt after prompt; of (N,), the prompt of
    each; w, l, weight, of each comparison; faults; same, numbers of lines with two equal responses; blank and lines, counts."""

    prompts: tuple[str, ...]
    responses: tuple[str, ...]
    of: Indices
    w: Indices
    l: Indices
    weight: Array
    faults: tuple[Fault, ...]
    same: tuple[int, ...]
    blank: int
    lines: int


class Malformed(Exception):
    """Why a line cannot be used."""


def read_preferences(path: Path) -> Preferences:
    """Read a file.  Raises: InputError if it cannot be read, or holds no usable comparison."""
    lines = read_bytes(path, "the preference file").removeprefix(b"\xef\xbb\xbf").splitlines()
    found = collect(lines)
    if not len(found.w):
        first = f"line {found.faults[0].line}: {found.faults[0].reason}" if found.faults else f"{found.lines} lines"
        remedy = 'write one JSON object a line: {"prompt": "...", "chosen": "...", "rejected": "..."}'
        raise InputError("a preference file must compare two responses somewhere", got=first, where=str(path), remedy=remedy)
    return found


def collect(lines: Iterable[bytes]) -> Preferences:
    """Gather lines into candidates and comparisons.

    >>> found = collect([b'{"prompt": "hi", "chosen": "hello", "rejected": "what?"}', b"oops"])
    >>> found.responses, found.w.tolist(), found.l.tolist(), [(f.line, f.reason) for f in found.faults]
    (('hello', 'what?'), [0], [1], [(2, 'not JSON: Expecting value at column 1')])
    """
    prompts: dict[str, int] = {}
    items: dict[tuple[int, str], int] = {}
    rows: list[tuple[int, int, float]] = []
    faults, same, blank, number = [], [], 0, 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            blank += 1
            continue
        try:
            prompt, chosen, rejected, weight = parse(line)
        except Malformed as e:
            faults.append(Fault(number, str(e)))
            continue
        x = prompts.setdefault(prompt, len(prompts))
        pair = [items.setdefault((x, text), len(items)) for text in (chosen, rejected)]
        if pair[0] == pair[1]:
            same.append(number)
        else:
            rows.append((pair[0], pair[1], weight))
    return _grouped(tuple(prompts), items, rows, (tuple(faults), tuple(same), blank, number))


def _grouped(prompts: tuple[str, ...], items: dict[tuple[int, str], int], rows: list[tuple[int, int, float]], counts: Any) -> Preferences:
    """The same with the candidates of each prompt next to each other."""
    keys = list(items)
    of = np.array([x for x, _ in keys], dtype=np.intp)
    order = np.argsort(of, kind="stable")
    place = np.empty(len(order), dtype=np.intp)
    place[order] = np.arange(len(order))
    table = np.array(rows, dtype=np.float64).reshape(-1, 3)
    w, l = place[table[:, 0].astype(np.intp)], place[table[:, 1].astype(np.intp)]
    return Preferences(prompts, tuple(keys[k][1] for k in order.tolist()), of[order], w, l, table[:, 2], *counts)


# ---------------------------------------------------------------------------------------------------- one line


def parse(line: bytes) -> tuple[str, str, str, float]:
    """prompt, chosen, rejected, weight of one line.  Raises: Malformed, with the reason."""
    row = as_object(line)
    missing = [key for key in ("chosen", "rejected") if key not in row]
    if missing:
        raise Malformed(f"no {' and no '.join(map(repr, missing))}; it has {', '.join(map(repr, row)) or 'nothing'}")
    before_chosen, chosen = response(row["chosen"], "chosen")
    before_rejected, rejected = response(row["rejected"], "rejected")
    if "prompt" in row:
        prompt = before(row["prompt"])
    elif before_chosen is None and before_rejected is None:
        prompt, chosen, rejected = transcript(chosen, rejected)
    elif before_chosen != before_rejected or not before_chosen:
        raise Malformed("no 'prompt', and 'chosen' and 'rejected' do not begin with the same messages")
    else:
        prompt = before_chosen
    try:
        (prompt + chosen + rejected).encode()
    except UnicodeEncodeError:
        raise Malformed("half a surrogate pair: not a character") from None
    return prompt, chosen, rejected, weight_of(row.get("weight", 1.0))


def as_object(line: bytes) -> dict[str, Any]:
    try:
        row = read_json(line.decode("utf-8"))
    except UnicodeDecodeError as e:
        raise Malformed(f"not UTF-8 at byte {e.start + 1}") from None
    except json.JSONDecodeError as e:
        raise Malformed(f"not JSON: {e.msg} at column {e.colno}") from None
    except ValueError as e:  # a key told twice, nested too deeply, or an integer of too many digits
        raise Malformed(f"not JSON that can be read: {shown(e).split(';')[0][:60]}") from None
    if not isinstance(row, dict):
        raise Malformed(f"not an object but {kind(row)}")
    return row


def response(value: Any, key: str) -> tuple[str | None, str]:
    """The messages before a response as text (None: it is a plain string), and the response."""
    if isinstance(value, str):
        return None, value
    turns = messages(value, key)
    if turns[-1][0] != "assistant":
        raise Malformed(f"{key!r} must end with a message of the assistant, not of {turns[-1][0]!r}")
    return said(turns[:-1]), turns[-1][1]


def before(value: Any) -> str:
    """A prompt, a string or messages, as text."""
    return value if isinstance(value, str) else said(messages(value, "prompt"))


def messages(value: Any, key: str) -> list[tuple[str, str]]:
    if not isinstance(value, list):
        raise Malformed(f"{key!r} must be a string or a list of messages, not {kind(value)}")
    good = [m for m in value if isinstance(m, dict) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str)]
    if len(good) < len(value) or not value:
        raise Malformed(f"{key!r} must hold messages with a 'role' and a 'content' in words")
    return [(m["role"], m["content"]) for m in value]


def said(turns: list[tuple[str, str]]) -> str:
    """Messages as one text; a single one of the user is its content."""
    return turns[0][1] if len(turns) == 1 and turns[0][0] == "user" else "\n".join(f"{role}: {content}" for role, content in turns)


def transcript(chosen: str, rejected: str) -> tuple[str, str, str]:
    """The common part of two transcripts up to the last turn of the assistant, and what each says there."""
    (one, mark, a), (other, _, b) = chosen.rpartition(TURN), rejected.rpartition(TURN)
    if not mark or one != other:
        raise Malformed("no 'prompt', and 'chosen' and 'rejected' are not transcripts with one beginning")
    return one.strip(), a.strip(), b.strip()


def weight_of(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1e300:
        raise Malformed(f"'weight' must be a positive finite number, not {json.dumps(value)}")
    return float(value)


def kind(value: Any) -> str:
    """What JSON calls it."""
    names = {str: "a string", list: "an array", dict: "an object", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")


# ---------------------------------------------------------------------------------------------------- a reference


def read_reference(path: Path, found: Preferences) -> Array:
    """log p_ref of every candidate, as given: JSON lines with `prompt`, `response` and `logp`, in nats.

    Raises: InputError for a line that cannot be used, or a candidate without a line.
    """
    number = {(found.prompts[x], text): k for k, (x, text) in enumerate(zip(found.of.tolist(), found.responses, strict=True))}
    log_p = np.full(len(number), np.nan)
    lines = read_bytes(path, "the reference file").removeprefix(b"\xef\xbb\xbf").splitlines()
    for line, text in enumerate(lines, 1):
        if text.strip():
            try:
                row = as_object(text)
                key = before(row.get("prompt")), response(row.get("response"), "response")[1]
                value = row.get("logp")
                if isinstance(value, bool) or not isinstance(value, int | float) or not -float("inf") < value <= 0:
                    raise Malformed(f"'logp' must be a finite log-probability, at most 0, not {json.dumps(value)}")
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
