"""What can be said of an answer that is no known mistake: where it is right, what it lacks, what its shape suggests.

These are facts, found on the same worlds: right except on the diagonal, right up to a factor for each prompt, right only where
no rewards tie, the sum over prompts of what was asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tabular_rlhf.ledger.symbols import Scope

ENOUGH = 5
"""Fewer worlds than this are no evidence."""
Pair = tuple[Scope, Any, Any]
"""A world, the answer's value on it, and the exact one."""


def close(a: Any, b: Any) -> Any:
    """Entry by entry."""
    return (a == b) | (np.abs(a - b) <= 1e-8 * (1e-3 + np.abs(b)))


# ---------------------------------------------------------------------------------------------------- which entries are right


def _diagonal(scope: Scope, shape: Any) -> Any:
    return np.broadcast_to(np.eye(shape[-1], dtype=bool), shape) if len(shape) > 1 and shape[-1] == shape[-2] else None


def _tied(scope: Scope, shape: Any) -> Any:
    r = scope["r"]
    return (r[:, :, None] == r[:, None, :]) if tuple(shape) == (*r.shape, r.shape[1]) else None


def _by_state(where: Callable[[Scope], Any]) -> Callable[[Scope, Any], Any]:
    def mask(scope: Scope, shape: Any) -> Any:
        states = where(scope)
        if len(shape) < 2 or tuple(shape[:2]) != (scope["P"], scope["S"]):
            return None
        return np.broadcast_to(states.reshape(1, -1, *[1] * (len(shape) - 2)), shape)

    return mask


def _by_response(where: Callable[[Scope], Any]) -> Callable[[Scope, Any], Any]:
    return lambda scope, shape: where(scope) if tuple(shape) == (scope["P"], scope["N"]) else None


def _longest(scope: Scope) -> Any:
    return np.broadcast_to(scope["lengths"] == scope["H"], (scope["P"], scope["N"]))


def _entry(k: int) -> Callable[[Scope, Any], Any]:
    def mask(scope: Scope, shape: Any) -> Any:
        if not shape or shape[0] <= k or shape[0] > 6 or shape[0] in (scope["P"], scope["N"]):
            return None
        return np.broadcast_to((np.arange(shape[0]) == k).reshape(-1, *[1] * (len(shape) - 1)), shape)

    return mask


PLACES: tuple[tuple[str, Callable[[Scope, Any], Any]], ...] = (
    *((f"in entry {k + 1}", _entry(k)) for k in range(6)),
    ("where a response meets its equal (i = j, or a tie)", _diagonal),
    ("where rewards tie, or i = j", _tied),
    ("in the first state", _by_state(lambda s: np.arange(s["S"]) == 0)),
    ("in states of the last token", _by_state(lambda s: np.arange(s["S"]) >= s["mdp"].offsets[s["H"] - 1])),
    ("on the best responses (r = max r)", _by_response(lambda s: s["r"] == s["r"].max(axis=1, keepdims=True))),
    ("on responses of full length", _by_response(_longest)),
)


def entry(pairs: Sequence[Pair]) -> int | None:
    """The only entry of a list that is ever wrong."""
    wrong: set[int] = set()
    sizes = {np.shape(right)[:1] for _, _, right in pairs}
    if len(sizes) != 1 or sizes <= {(), (1,)} or all(scope["P"] in next(iter(sizes)) for scope, _, _ in pairs):
        return None
    for _, yours, right in pairs:
        good = close(yours, right).reshape(len(right), -1).all(axis=1)
        wrong |= set(np.flatnonzero(~good).tolist())
    return wrong.pop() if len(wrong) == 1 and len(pairs) >= ENOUGH else None


def places(pairs: Sequence[Pair]) -> str | None:
    """Where alone the answer is wrong, or alone right."""
    good = [close(yours, right) for _, yours, right in pairs]
    for words, mask in PLACES:
        masks = [mask(s, np.shape(right)) for s, _, right in pairs]
        use = [(m, g) for m, g in zip(masks, good, strict=True) if m is not None and m.any() and not m.all()]
        if len(use) < ENOUGH or len(use) < len([1 for _, _, right in pairs if np.size(right) > 1]) // 2:
            continue
        if all(g[~m].all() for m, g in use) and any(not g[m].all() for m, g in use):
            return f"right except {words}"
        if all(g[m].all() for m, g in use) and all(not g[~m].all() for m, g in use) and "state" in words:
            return f"right only {words}"
    return None


# ---------------------------------------------------------------------------------------------------- what normalization lacks


def _constant(a: Any, axis: int) -> bool:
    return bool(np.all(np.isfinite(a)) and np.all(np.ptp(a, axis=axis) <= 1e-8 * np.max(np.abs(a), axis=axis)))


def shared(pairs: Sequence[Pair]) -> str | None:
    """A factor or a term that is the same for all entries of a prompt (or of a state)."""
    rows = [(y, t) for _, y, t in pairs if np.ndim(t) > 1 and np.shape(t)[-1] > 1]
    if len(rows) < ENOUGH:
        return None
    whole = [(np.sum(t, axis=-1), np.sum(y, axis=-1)) for y, t in rows]
    laws = all(np.min(t) >= 0 and np.allclose(total, 1.0) for (_, t), (total, _) in zip(rows, whole, strict=True))
    what = "prompt" if all(np.ndim(t) == 2 for _, t in rows) else "row"
    if all(_constant(y / t, -1) for y, t in rows):
        return f"not normalized: right up to a factor for each {what}" if laws else f"right up to a factor for each {what}"
    if all(_constant(y - t, -1) for y, t in rows):
        return f"right up to a term that is the same for all entries of a {what}"
    if laws:
        return _other_axis([y for y, _ in rows], [tuple(range(np.ndim(y) - 1)) for y, _ in rows])
    return None


def _other_axis(values: list[Any], axes: list[tuple[int, ...]]) -> str | None:
    for axis in range(min(len(a) for a in axes)):
        if all(np.allclose(np.sum(y, axis=axis), 1.0) for y in values) and any(np.shape(y)[axis] > 1 for y in values):
            over = "the prompts" if axis == 0 else "the states"
            return f"normalized over the wrong axis: entries sum to one over {over}, not along the last axis"
    if any(not np.allclose(np.sum(y, axis=-1), 1.0) for y in values):
        negative = any(np.min(y) < 0 for y in values)
        return "not a distribution: " + ("some entries are negative" if negative else "rows do not sum to one")
    return None


# ---------------------------------------------------------------------------------------------------- on which worlds it is right


def _no_ties(s: Scope) -> bool:
    return all(len(set(row)) == len(row) for row in s["r"].tolist())


CONDITIONS: tuple[tuple[str, Callable[[Scope], bool]], ...] = (
    ("beta = 1", lambda s: s["beta"] == 1.0),
    ("there is one prompt", lambda s: s["P"] == 1),
    ("a response has one token (H = 1)", lambda s: s["H"] == 1),
    ("no rewards tie", _no_ties),
    ("all responses are equally long", lambda s: len(set(s["lengths"].tolist())) == 1),
    ("prompts are equally likely", lambda s: bool(np.ptp(s["mu"]) < 1e-12)),
    ("p_ref is uniform", lambda s: bool(np.ptp(s["p_ref"]) < 1e-12)),
)


def condition(tried: Sequence[tuple[Scope, bool]]) -> str | None:
    """A condition under which the answer is always right, and without which it is hardly ever; worlds without a choice say nothing."""
    telling = [(s, fine) for s, fine in tried if s["N"] > 2 and np.ptp(s["r"], axis=1).all()]
    for words, holds in CONDITIONS:
        kept = [(holds(s), fine) for s, fine in telling]
        inside, outside = [f for h, f in kept if h], [f for h, f in kept if not h]
        if min(len(inside), len(outside)) >= ENOUGH and all(inside) and sum(outside) <= 0.1 * len(outside):
            return f"right only where {words}"
    return None


# ---------------------------------------------------------------------------------------------------- what a shape suggests


def spelled(shapes: Sequence[tuple[Scope, tuple[int, ...]]]) -> str | None:
    """A shape in letters, as (P, N), where the same letters fit on every world."""
    ranks = {len(shape) for _, shape in shapes}
    if len(ranks) != 1:
        return None
    names = []
    for axis in range(ranks.pop()):
        fits = [n for n in ("P", "N", "S", "V", "H") if all(s[n] == shape[axis] for s, shape in shapes)]
        sizes = {shape[axis] for _, shape in shapes}
        names.append(str(sizes.pop()) if len(sizes) == 1 else fits[0] if fits else "?")
    return "(" + ", ".join(names) + ("," if len(names) == 1 else "") + ")"


def _reduced(value: Any, scope: Scope) -> Iterator[tuple[str, Any]]:
    """A value with one axis too few or too many, and what was done to it."""
    mu = scope["mu"]
    for axis in range(np.ndim(value) + 1):
        yield "with an axis of length 1 too many (keepdims)", np.expand_dims(value, axis)
    if np.ndim(value) > 1:
        yield "transposed (last two axes)", np.swapaxes(value, -1, -2)
    if np.ndim(value):
        if np.shape(value)[0] == len(mu):
            yield "averaged over prompts, by mu", np.tensordot(mu, value, 1)
            yield "averaged over prompts, evenly", np.mean(value, axis=0)
            yield "summed over prompts", np.sum(value, axis=0)
        yield "summed over the last axis", np.sum(value, axis=-1)
        yield "averaged over the last axis", np.mean(value, axis=-1)
        yield "summed altogether", np.sum(value)


def shape_hint(pairs: Sequence[Pair]) -> str | None:
    """How an answer of the wrong shape relates to the right one, on every world: too much was done, or too little."""
    found: list[list[str]] = []
    for scope, yours, right in pairs:
        done = [f"the right answer {words}" for words, v in _reduced(right, scope) if _equal(v, yours)]
        undone = [f"right once it is {words}" for words, v in _reduced(yours, scope) if _equal(v, right)]
        found.append(done + undone)
    common = [words for words in (found[0] if found else []) if all(words in others for others in found)]
    return common[0] if common else None


def _equal(a: Any, b: Any) -> bool:
    return np.shape(a) == np.shape(b) and bool(np.all(close(np.asarray(a), np.asarray(b))))
