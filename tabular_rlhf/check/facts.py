"""What can be said of an answer that is no known mistake: where it is right, what it lacks, what its shape suggests.

These are facts, found on the same worlds: right except on the diagonal, right up to a factor for each prompt, right only where
no rewards tie, the sum over prompts of what was asked for.  Each comes with its claim, which can be tried on other worlds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tabular_rlhf.symbols import Scope

ENOUGH = 5
"""Fewer worlds than this are no evidence."""
Pair = tuple[Scope, Any, Any]
"""A world, the answer's value on it, and the exact one."""
Fact = tuple[str, Callable[[Scope, Any, Any], bool | None]]
"""Words, and of such a triple whether they are so; None where it says nothing of them."""


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
    ("on responses of full length", _by_response(lambda s: np.broadcast_to(s["lengths"] == s["H"], (s["P"], s["N"])))),
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


def places(pairs: Sequence[Pair]) -> Fact | None:
    """Where alone the answer is wrong, or alone right."""
    good = [close(yours, right) for _, yours, right in pairs]
    for words, mask in PLACES:
        masks = [mask(s, np.shape(right)) for s, _, right in pairs]
        use = [(m, g) for m, g in zip(masks, good, strict=True) if m is not None and m.any() and not m.all()]
        if len(use) < ENOUGH or len(use) < len([1 for _, _, right in pairs if np.size(right) > 1]) // 2:
            continue
        if all(g[~m].all() for m, g in use) and any(not g[m].all() for m, g in use):
            return f"right except {words}", _right_in(mask, within=False)
        if all(g[m].all() for m, g in use) and all(not g[~m].all() for m, g in use) and "state" in words:
            return f"right only {words}", _right_in(mask, within=True)
    return None


def _right_in(mask: Callable[[Scope, Any], Any], *, within: bool) -> Callable[[Scope, Any, Any], bool | None]:
    """The claim that all entries of a place, or all others, are right."""

    def claim(scope: Scope, yours: Any, right: Any) -> bool | None:
        here = mask(scope, np.shape(right))
        return None if here is None else bool(close(yours, right)[here if within else ~here].all())

    return claim


# ---------------------------------------------------------------------------------------------------- what normalization lacks


TELLING = 3
"""Distinct entries that a row needs, if a factor or a term in common is to be no accident."""


def _one_factor(yours: Any, right: Any) -> bool:
    """Whether a row of the answer is one number, not 0, times the right row."""
    a = (yours / right)[(yours != 0) | (right != 0)]
    return not a.size or bool(np.isfinite(a).all() and a[0] and np.ptp(a) <= 1e-8 * np.max(np.abs(a)))


def _one_term(yours: Any, right: Any) -> bool:
    """Whether a row of the answer is the right row plus one number."""
    a = yours - right
    return bool(np.isfinite(a).all() and np.ptp(a) <= 1e-8 * max(np.max(np.abs(yours)), np.max(np.abs(right))))


def in_common(relation: Callable[[Any, Any], bool], yours: Any, right: Any) -> bool | None:
    """Whether one number takes the right entries to the answer's all along each row; None where no row could tell."""
    if np.ndim(right) < 2 or np.shape(yours) != np.shape(right):
        return None
    rows = [(y, t) for y, t in zip(_rows(yours), _rows(right), strict=True) if len(t) > 1]
    if not all(relation(y, t) for y, t in rows):
        return False
    return True if any(len(set(t.tolist())) >= TELLING for _, t in rows) else None


def _rows(a: Any) -> Any:
    return np.reshape(a, (-1, np.shape(a)[-1]))


def _of_what(pairs: Sequence[Pair]) -> str:
    """What a row of the answer is."""
    prompts = all(np.shape(right) == (s["P"], s["N"]) for s, _, right in pairs)
    return "prompt" if prompts else "state" if all(np.shape(right) == (s["P"], s["S"], s["V"]) for s, _, right in pairs) else "row"


def _is_law(right: Any) -> bool:
    return bool(np.ndim(right) and np.min(right) >= 0.0 and np.allclose(np.sum(right, axis=-1), 1.0))


def shared(pairs: Sequence[Pair]) -> Fact | None:
    """A factor or a term that is the same for all entries of a prompt (or of a state): in every row, and in two that tell it."""
    laws, what = all(_is_law(right) for _, _, right in pairs), _of_what(pairs)
    for relation, words in (
        (_one_factor, f"{'not normalized: ' if laws else ''}right up to a factor for each {what}"),
        (_one_term, f"right up to a term that is the same for all entries of a {what}"),
    ):
        found = [in_common(relation, yours, right) for _, yours, right in pairs]
        if False not in found and found.count(True) >= 2:
            return words, lambda scope, yours, right, relation=relation: in_common(relation, yours, right)
    return None


def not_a_law(pairs: Sequence[Pair]) -> Fact | None:
    """What an answer that should be a distribution sums to one over instead, or that it does so nowhere."""
    if len(pairs) < ENOUGH or not all(_is_law(right) for _, _, right in pairs):
        return None
    values = [yours for _, yours, _ in pairs]
    for axis in range(min(map(np.ndim, values)) - 1):
        if all(_sums_to_one(y, axis) for y in values) and any(np.shape(y)[axis] > 1 for y in values):
            over = "the prompts" if axis == 0 else "the states"
            words = f"normalized over the wrong axis: entries sum to one over {over}, not along the last axis"
            return words, lambda scope, yours, right, axis=axis: _sums_to_one(yours, axis)
    if any(np.min(y) < 0 for y in values):
        return "not a distribution: some entries are negative", _says_nothing
    return None if all(_sums_to_one(y, -1) for y in values) else ("not a distribution: rows do not sum to one", _says_nothing)


def _sums_to_one(y: Any, axis: int) -> bool:
    return bool(np.allclose(np.sum(y, axis=axis), 1.0))


def _says_nothing(scope: Scope, yours: Any, right: Any) -> None:
    """What is so on some worlds is not claimed of any other."""


# ---------------------------------------------------------------------------------------------------- on which worlds it is right

CHANCE = 7.0
"""A condition under which an answer never fails is no accident if so many failures would have met it by chance."""
SIZES = (("observed", "n"), ("G", "G"), ("draws", "draws"), ("rounds", "rounds"))
"""Sizes of data for which a formula may have a number of its own."""


Holds = Callable[[Scope], bool]
CONDITIONS: tuple[tuple[str, Holds], ...] = (
    ("the reference forbids no token", lambda s: not np.isneginf(s["log_p_ref"]).any()),
    ("beta = 1", lambda s: s["beta"] == 1.0),
    ("there is one prompt", lambda s: s["P"] == 1),
    ("a response has one token (H = 1)", lambda s: s["H"] == 1),
    ("no rewards tie", lambda s: all(len(set(row)) == len(row) for row in s["r"].tolist())),
    ("all responses are equally long", lambda s: len(set(s["lengths"].tolist())) == 1),
    ("prompts are equally likely", lambda s: bool(np.ptp(s["mu"]) < 1e-12)),
    ("p_ref is uniform", lambda s: bool(np.ptp(s["p_ref"]) < 1e-12)),
    *((f"{words} = {k}", lambda s, name=name, k=k: bool(s[name] == k)) for name, words in SIZES for k in range(2, 6)),
)


def condition(tried: Sequence[tuple[Scope, bool]]) -> tuple[str, Holds] | None:
    """A condition under which the answer is always right, and without which it is often wrong: the one that explains most failures.

    "Only" is said where it is hardly ever right without it.
    """
    telling = [(s, fine) for s, fine in tried if s["N"] > 1]
    failures = sum(not fine for _, fine in telling)
    best: tuple[float, str, Holds] | None = None
    for words, holds in CONDITIONS:
        kept = [(holds(s), fine) for s, fine in telling]
        inside, outside = [f for h, f in kept if h], [f for h, f in kept if not h]
        if outside and all(inside) and len(inside) * failures >= CHANCE * len(telling):
            wrong = failures / len(outside)
            best = (wrong, words, holds) if best is None or wrong > best[0] else best
    if best is None:
        return None
    only = f"right only where {best[1]}" if best[0] >= 0.9 else f"right where {best[1]}, but not always elsewhere"
    return only, best[2]


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


def shape_claim(pairs: Sequence[Pair]) -> Fact | None:
    """How an answer of the wrong shape relates to the right one, on every world: too much was done, or too little."""
    found = [_relations(*pair) for pair in pairs]
    common = [words for words in (found[0] if found else []) if all(words in others for others in found)]
    return (common[0], lambda scope, yours, right: common[0] in _relations(scope, yours, right)) if common else None


def _relations(scope: Scope, yours: Any, right: Any) -> list[str]:
    done = [f"the right answer {words}" for words, v in _reduced(right, scope) if _equal(v, yours)]
    return done + [f"right once it is {words}" for words, v in _reduced(yours, scope) if _equal(v, right)]


def _equal(a: Any, b: Any) -> bool:
    return np.shape(a) == np.shape(b) and bool(np.all(close(np.asarray(a), np.asarray(b))))
