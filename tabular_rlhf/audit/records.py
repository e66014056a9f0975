r"""A person's function as a record of the tables: an advantage, an aggregation, a pair loss, a reward-model loss, an estimator.

NumPy alone, where a record is traced.

Nothing is claimed in such a record: traits are those that hold, a KL estimator's divergences those that its own h is made of.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tabular_rlhf.audit.batches import made
from tabular_rlhf.audit.handed import Batch, Handed, Unfit
from tabular_rlhf.errors import InputError
from tabular_rlhf.estimators.claims import GRID, derivative
from tabular_rlhf.estimators.record import TERMS, Estimator, Terms
from tabular_rlhf.logspace import Array
from tabular_rlhf.losses import traits
from tabular_rlhf.losses.record import DirectLoss
from tabular_rlhf.losses.rewards import RewardLoss
from tabular_rlhf.policy_gradient.record import Advantage, Aggregation

EXACT = 1e-9
SOURCE = "the file that was given"


def _refuse(handed: Handed, kind: str) -> None:
    if handed.kind != kind:
        remedy = "`tabular-rlhf audit` takes every kind"
        raise InputError(f"the function must be a {kind}", got=f"a {handed.kind}", where=handed.name, remedy=remedy)
    if kind not in ("group advantage", "aggregation") and handed.library.name != "numpy":
        remedy = "write it with numpy, or ask `tabular-rlhf audit`, which differentiates it where it is at home"
        raise InputError("a record's function must be of numpy", got=handed.library.name, where=handed.name, remedy=remedy)


def advantage_of(handed: Handed) -> Advantage:
    """The function as an advantage of kinds with multiplicities: it is called on every group as it is.

    >>> from tabular_rlhf.audit.handed import hand_in
    >>> from tabular_rlhf.audit.library import Library
    >>> def centered(rewards): return rewards - rewards.mean()
    >>> advantage_of(hand_in(centered, Library())).shares(4, {})
    (0.75, -0.25)
    """
    _refuse(handed, "group advantage")
    group = _of_groups(handed, "an advantage", lambda b: np.sum(handed.advantages(b) * b["mask"], axis=1) / b["length"])

    def of(r: Any, n: Any, G: int, lengths: Any) -> Any:
        return _of_kinds(group, n, r, lengths)

    fn = of if handed.asks("length", "mask", "token_reward") else lambda r, n, G: of(r, n, G, np.ones(np.shape(r)))
    smallest = next((G for G in (1, 2, 3, 4) if _works(group, G)), 1)
    latex, remark = rf"A = \mathrm{{{handed.name}}}(r)", "A function of your own"

    def one(i: int, r: list[float]) -> float:
        try:
            return float(group(np.array(r), np.ones(len(r)))[i])
        except InputError:  # it has no value for so few
            return np.nan

    return Advantage(handed.name, latex, SOURCE, fn, one, smallest=smallest, remark=remark)


def _of_groups(handed: Handed, what: str, of: Callable[[Batch], Array]) -> Callable[[Array, Array], Array]:
    """What the function makes of one group of responses with certain rewards and lengths, called once for each."""
    known: dict[bytes, Array] = {}

    def group(r: Array, lengths: Array) -> Array:
        key = np.concatenate([r, lengths]).tobytes()
        if key not in known:
            tokens = {k: np.zeros((len(r), int(np.max(lengths)))) for k in ("logp", "old", "sampler", "ref", "value", "entropy")}
            try:
                known[key] = of(made(tokens, r, lengths, 1))
            except Unfit as e:
                raise InputError(f"{what} must be computed", got=str(e), where=handed.name, remedy="audit it") from None
        return known[key]

    return group


def _of_kinds(group: Callable[..., Array], n: Any, *tables: Any) -> Array:
    """The same of groups of kinds with multiplicities n: members of a kind have one value."""
    shape = np.broadcast_shapes(np.shape(tables[0]), np.shape(n))
    rows = [np.reshape(np.broadcast_to(x, shape), (-1, shape[-1])) for x in (n, *tables)]
    out = np.zeros(rows[0].shape)
    for k, (count, *values) in enumerate(zip(*rows, strict=True)):
        members = np.repeat(np.arange(shape[-1]), count.astype(int))
        out[k, members] = group(*(value[members] for value in values))
    return np.reshape(out, shape)


def _works(group: Any, G: int) -> bool:
    """Whether groups of G have advantages, and not all 0."""
    try:
        return bool(np.any(group(np.arange(1.0, G + 1.0), np.ones(G))))
    except InputError:
        return False


def aggregation_of(handed: Handed) -> Aggregation:
    """The function as an aggregation: the weight that it gives to each token of a response, which must be one for all of them.

    >>> from tabular_rlhf.audit.handed import hand_in
    >>> from tabular_rlhf.audit.library import Library
    >>> def mine(per_token_loss, mask): return np.sum(per_token_loss * mask) / np.sum(mask)
    >>> rule = aggregation_of(hand_in(mine, Library())); rule(lengths=np.array([1.0, 3.0]), n=np.ones(2), G=2).round(9).tolist()
    [0.25, 0.25]
    """
    _refuse(handed, "aggregation")

    def weights(batch: Batch) -> Array:
        weight = handed.gradient(batch, ["table"])[1]["table"] * batch["mask"]
        mean = np.sum(weight, axis=1) / batch["length"]
        if np.max(np.abs(weight - mean[:, None] * batch["mask"])) > EXACT * np.max(np.abs(weight)):
            must = "an aggregation of the table must weigh all tokens of a response alike"
            raise InputError(must, got="weights that depend on the place", where=handed.name, remedy="audit it")
        return mean

    group = _of_groups(handed, "an aggregation", weights)

    def fn(lengths: Any, n: Any, G: int) -> Any:
        return _of_kinds(lambda lengths: group(np.zeros(len(lengths)), lengths), n, lengths)

    return Aggregation(handed.name, rf"\omega = \mathrm{{{handed.name}}}", SOURCE, fn, remark="A function of your own")


def estimator_of(handed: Handed) -> Estimator:
    """The function as an estimator h(L), with what its h descends and what its mean is, where they are sums of named divergences.

    >>> from tabular_rlhf.audit.handed import hand_in
    >>> from tabular_rlhf.audit.library import Library
    >>> def mine(logps, ref_logps): return np.exp(ref_logps - logps) - 1 - (ref_logps - logps)
    >>> e = estimator_of(hand_in(mine, Library())); dict(e.path), dict(e.mean)
    ({'KL(ref, pi)': 1.0}, {'KL(pi, ref)': 1.0})
    """
    _refuse(handed, "KL penalty")

    def h(L: Any) -> Any:
        column = np.reshape(L, (-1, 1))
        zero = np.zeros(np.shape(L)).reshape(-1, 1)
        names = {name: column if role == "logp" else zero + (role == "mask") for name, role in handed.roles.items()}
        return np.reshape(handed.called(names, {}), np.shape(L))

    L = GRID[np.abs(GRID) > 0.05]  # nearer to 0 divergences are small differences of large terms
    u = np.exp(L)
    path = _sum(derivative(h, L), {name: derivative(f, u) for name, f in TERMS.items()})
    mean = _sum(u * np.asarray(h(L)), {name: np.asarray(f(u)) for name, f in TERMS.items()})

    def slope(L: Any) -> Any:
        return derivative(h, np.asarray(L))

    def one(L: float) -> float:
        return float(h(np.array([L]))[0])

    return Estimator(handed.name, rf"\mathrm{{{handed.name}}}(L)", SOURCE, h, slope, one, path, mean)


def _sum(want: Array, named: dict[str, Array]) -> Terms:
    """The sum of at most three terms that a curve is; empty where it is none."""
    for k in (1, 2, 3):
        for names in itertools.combinations(named, k):
            size = np.abs(want) + sum(np.abs(named[n]) for n in names) + 1e-12
            X = np.stack([named[n] for n in names], axis=1) / size[:, None]
            c = np.linalg.lstsq(X, want / size, rcond=None)[0]
            if np.max(np.abs(X @ c - want / size)) <= EXACT and np.all(np.abs(c) > EXACT):
                return dict(zip(names, np.round(c, 9).tolist(), strict=True))
    return {}


def pair_loss_of(handed: Handed) -> DirectLoss:
    """The function as a direct alignment loss, with the traits that it is measured to have.

    One with a corner takes `width`, over which it is rounded: see `losses.record`.

    >>> from tabular_rlhf.audit.handed import hand_in
    >>> from tabular_rlhf.audit.library import Library
    >>> def mine(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta=0.1):
    ...     return np.logaddexp(0.0, -beta * ((chosen_logps - ref_chosen_logps) - (rejected_logps - ref_rejected_logps)))
    >>> loss = pair_loss_of(hand_in(mine, Library())); "recovers-gibbs" in loss.traits, "convex" in loss.traits
    (True, True)
    """
    _refuse(handed, "pair loss")
    weight = next((n for n in ("beta", "tau") if n in handed.settings or _has(handed, n)), None)
    cornered = _has(handed, "width") and "width" not in handed.settings

    def fn(a: Any, b: Any, p: Any, q: Any, len_w: Any, len_l: Any, beta: Any, width: Any) -> Any:
        given = {"chosen": p, "rejected": q, "ref_chosen": p - a, "ref_rejected": q - b, "chosen_length": len_w, "rejected_length": len_l}
        tables = {name: given.get(role, 0.0 * p) for name, role in handed.roles.items()}
        fixed = {} if weight is None or weight in handed.settings else {weight: beta}
        return _a_pair(handed, tables, fixed | ({"width": width} if cornered else {}), np.broadcast_shapes(np.shape(p), np.shape(q)))

    def one(a: float, b: float, p: float, q: float, len_w: float, len_l: float, beta: float) -> float:
        a_, b_, p_, q_, w, l = (np.array([x]) for x in (a, b, p, q, len_w, len_l))
        return float(np.asarray(fn(a_, b_, p_, q_, w, l, beta, 0.0))[0])

    def loss(held: frozenset[str]) -> DirectLoss:
        return DirectLoss(handed.name, rf"\mathrm{{{handed.name}}}", SOURCE, fn, one, held, kinks="its own" if cornered else "")

    rng = np.random.default_rng(0)
    return loss(frozenset(t for t in traits.TESTS if traits.measure(loss(frozenset()), t, rng=rng) <= 0))


def reward_loss_of(handed: Handed) -> RewardLoss:
    """The function as a loss of a reward model; its margin, where it asks for one, is how much better the chosen response truly is.

    >>> from tabular_rlhf.audit.handed import hand_in
    >>> from tabular_rlhf.audit.library import Library
    >>> def mine(chosen_rewards, rejected_rewards): return np.logaddexp(0.0, rejected_rewards - chosen_rewards)
    >>> reward_loss_of(hand_in(mine, Library())).needs
    ('r_w', 'r_l', 'gap')
    """
    _refuse(handed, "reward-model loss")

    def fn(r_w: Any, r_l: Any, gap: Any) -> Any:
        given = {"chosen_reward": r_w, "rejected_reward": r_l, "margin": np.maximum(0.0, gap)}
        return _a_pair(handed, {name: given.get(role, 0.0 * r_w) for name, role in handed.roles.items()}, {}, np.shape(r_w))

    return RewardLoss(handed.name, rf"\mathrm{{{handed.name}}}", SOURCE, fn)


def _a_pair(handed: Handed, tables: Mapping[str, Any], fixed: Mapping[str, Any], shape: tuple[int, ...]) -> Any:
    """The function's value for every pair."""
    y = handed.called(tables, fixed)
    if np.shape(y) != shape:
        must, remedy = "a loss of the table must have a value for every pair", "return the pairs' losses, not their mean, or audit it"
        raise InputError(must, got=f"shape {np.shape(y)}", where=handed.name, remedy=remedy)
    return y


def _has(handed: Handed, name: str) -> bool:
    return name in inspect.signature(handed.function).parameters
