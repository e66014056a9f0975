r"""Value and gradient of any loss on any weighted pairs, over any policy.

    L(log p) = sum over pairs of weight * loss(a, b, p, q, ...),   a = log p(w) - log p_ref(w), ...

The gradient is taken in the table log p (P, N), its entries free; chains lead from there to response logits (log p =
log_softmax(theta)) or to token logits (log p = path_sum(log_softmax(logits))).  Frozen parameters are held fixed.

For a loss of the margin alone the gradient is the hand slope scattered over the pairs: + to the winner, - to the loser.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tabular_rlhf.autodiff import grad, plain, value_and_grad
from tabular_rlhf.errors import InputError
from tabular_rlhf.logspace import Array, log_softmax
from tabular_rlhf.losses.record import DirectLoss, find
from tabular_rlhf.preferences import Pairs
from tabular_rlhf.registry import supplied
from tabular_rlhf.world import World


def weights(pairs: Pairs) -> Array:
    """The weights in the shape to which the indices broadcast."""
    shape = np.broadcast_shapes(*(np.shape(k) for k in (pairs.x, pairs.w, pairs.l, pairs.weight)))
    return np.broadcast_to(pairs.weight, shape)


def scatter(world: World, pairs: Pairs, to_w: Any, to_l: Any) -> Array:
    """The table (P, N) that holds the sum of to_w at the winners and of to_l at the losers."""
    shape = weights(pairs).shape
    N = world.mdp.N

    def count(y: Any, g: Any) -> Any:
        where = np.ravel(np.broadcast_to(pairs.x * N + y, shape))
        return np.bincount(where, np.ravel(np.broadcast_to(g, shape)), world.mdp.P * N)

    return (count(pairs.w, to_w) + count(pairs.l, to_l)).reshape(world.mdp.P, N)


def check_pairs(world: World, log_p: Any, pairs: Pairs) -> None:
    """Refuse pairs that show a response which the reference or the policy cannot make: their loss has no meaning."""
    for name, table in (("the reference", world.log_p_ref), ("the policy", plain(log_p))):
        dead = np.isneginf(table)
        if not dead.any():
            continue
        shown = (weights(pairs) > 0) & (dead[pairs.x, pairs.w] | dead[pairs.x, pairs.l])
        if shown.any():
            at = tuple(int(i) for i in np.argwhere(shown)[0])
            remedy = "compare responses that it can make"
            raise InputError(f"{name} must be able to make what is shown", got="log-probability -inf", where=f"pair {at}", remedy=remedy)


def ingredients(world: World, log_p: Any, pairs: Pairs) -> dict[str, Any]:
    """What a loss may ask for, on these pairs: a, b, p, q, p0, q0 and lengths.  Pairs of weight zero may hold placeholders."""
    check_pairs(world, log_p, pairs)
    x, w, l = pairs.x, pairs.w, pairs.l
    dead = np.isneginf(world.log_p_ref) | np.isneginf(plain(log_p))
    if dead.any():
        log_p, log_ref = np.where(dead, -1.0, log_p), np.where(dead, -1.0, world.log_p_ref)
    else:
        log_ref = world.log_p_ref
    p, q, p0 = log_p[x, w], log_p[x, l], plain(log_p)
    lengths = world.mdp.lengths.astype(np.float64)
    fixed = {"p0": p0[x, w], "q0": p0[x, l], "len_w": lengths[w], "len_l": lengths[l]}
    return {"p": p, "q": q, "a": p - log_ref[x, w], "b": q - log_ref[x, l], **fixed}


def settings_at(loss: DirectLoss, world: World, log_p: Any, pairs: Pairs, changes: Mapping[str, float]) -> dict[str, Any]:
    """Parameters by name, the frozen ones computed at this policy unless `changes` gives them."""
    s = loss.settings(world.beta, **changes)
    return {**s, **{name: rule(world, plain(log_p), pairs, s) for name, rule in loss.frozen.items() if name not in changes}}


def value(loss: str | DirectLoss, world: World, log_p: Any, pairs: Pairs, **changes: float) -> Any:
    """The loss of a distribution log_p (P, N) on weighted pairs; traceable in log_p.

    Args: changes, of the loss's parameters.  Raises InputError for a pair that shows an impossible response.

    >>> from tabular_rlhf.preferences import bradley_terry, population_pairs
    >>> from tabular_rlhf.world import coin
    >>> w = coin(); pairs = population_pairs(w, bradley_terry(w.r))
    >>> float(value("dpo", w, w.log_p_ref, pairs).round(6))
    0.693147
    """
    loss = find(loss)
    s = settings_at(loss, world, log_p, pairs, changes)
    with np.errstate(over="ignore", invalid="ignore"):
        return _told(loss, np.sum(weights(pairs) * loss(**{**ingredients(world, log_p, pairs), **s})))


def _told(loss: DirectLoss, y: Any) -> Any:
    """`y`, a value or a gradient, which may be infinite, but not inf - inf."""
    if np.any(np.isnan(plain(y))):
        remedy = "take a policy nearer to the reference, or a moderate beta"
        raise InputError("a loss must be made of floats", got="inf - inf, or 0 inf", where=loss.name, remedy=remedy)
    return y


def gradient(loss: str | DirectLoss, world: World, log_p: Any, pairs: Pairs, **changes: float) -> Array:
    """d value / d log_p, (P, N), its entries free and frozen parameters held, by the gradient core."""
    loss = find(loss)
    s = settings_at(loss, world, log_p, pairs, changes)
    p0 = np.array(log_p)

    def held(q: Any) -> Any:
        supply = {**ingredients(world, q, pairs), **s}
        fixed = ingredients(world, p0, pairs)
        return np.sum(weights(pairs) * loss(**{**supply, "p0": fixed["p0"], "q0": fixed["q0"]}))

    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(_told(loss, grad(held)(p0)))


def slope_gradient(loss: str | DirectLoss, world: World, log_p: Any, pairs: Pairs, **changes: float) -> Array:
    """The same for a loss of the margin alone, from its hand slope.  Raises InputError where it has none."""
    loss = find(loss)
    if loss.slope is None:
        raise InputError("the loss must depend on the margin alone", got=loss.name, remedy="use gradient")
    s = settings_at(loss, world, log_p, pairs, changes)
    i = ingredients(world, log_p, pairs)
    with np.errstate(over="ignore", invalid="ignore"):
        pull = _told(loss, weights(pairs) * supplied(loss.slope, {**s, "D": i["a"] - i["b"]}.__getitem__))
    return scatter(world, pairs, pull, -pull)


def logit_gradient(log_p: Array, g: Array) -> Array:
    """From the gradient in log p to that in response logits: g - p sum g."""
    return np.asarray(g - np.exp(log_p) * np.sum(g, axis=-1, keepdims=True))


def token_gradient(loss: str | DirectLoss, world: World, logits: Any, pairs: Pairs, **changes: float) -> tuple[float, Array]:
    """Value and gradient in token logits (P, S, V)."""

    def of(theta: Any) -> Any:
        return value(loss, world, world.mdp.path_sum(log_softmax(theta)), pairs, **changes)

    v, g = value_and_grad(of)(logits)
    return float(v), np.asarray(g)
