r"""What an estimator's record says of itself, measured against its own h on a grid of L; and the way into the table.

    value      h(0) = 0, and the oracle is h                   slope      h', or the tangent's where there is one
    path       f'(u) = h'(log u)                               rounded    no jump, and the slope as its width goes to 0
    mean       f(u) = u h(log u),  u = e^L                     per state  KL(pi(.given s), pi_ref(.given s)) = sum_a pi h

with f the sum of TERMS that is claimed.  In a state "mass" is 0, so there f counts up to a multiple of u - 1.

A claim that fails is a fault, and so is one that says nothing: a tangent with the estimator's own slope, a rounded slope
where nothing jumps.  Derivatives are the gradient core's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from tabular_rlhf.autodiff import grad
from tabular_rlhf.errors import InputError
from tabular_rlhf.estimators.evaluate import state_kl
from tabular_rlhf.estimators.record import ESTIMATORS, TERMS, UNCLAIMED, Estimator, Flag, Terms
from tabular_rlhf.logspace import Array, log_softmax
from tabular_rlhf.registry import no_oracle

_FAR = np.geomspace(1e-4, 20.0, 41)
GRID = np.concatenate([-_FAR[::-1], _FAR])
"""L in nats, evenly in log |L|; 0 is apart, because slopes may jump there."""
NEAR = 1e-9 * np.array([-1.0, 1.0])
ROUNDING = 1e-9
"""Relative to the terms that are added up."""
Fault = tuple[str, str]
"""(kind, what was measured)."""


def derivative(h: Callable[[Any], Any], x: Array) -> Array:
    """h'(x) of a vectorised function, by the gradient core."""
    return np.asarray(grad(lambda y: np.sum(h(y)))(x))


def _first(what: str, got: Any, want: Any, size: Any, at: Array = GRID) -> Iterator[str]:
    """Where two curves differ most, if they differ; nan differs from everything."""
    got, want, size = (np.broadcast_to(np.asarray(x, dtype=float), at.shape) for x in (got, want, size))
    with np.errstate(all="ignore"):
        off = np.abs(got - want) / (ROUNDING * (size + np.abs(want)) + 1e-12)
    off = np.where(np.isfinite(off), off, np.inf)
    k = int(np.argmax(off))
    if off[k] > 1.0:
        yield f"at L = {at[k]:.4g} {what} {got[k]:.6g}, not {want[k]:.6g}"


def _terms(terms: Terms, L: Array) -> tuple[Array, Array, Array]:
    """f(u), f'(u) at u = e^L, and the size of what is added up in them."""
    u, zero = np.exp(L), np.zeros(L.shape)
    parts = [c * TERMS[name](u) for name, c in terms.items()]
    slopes = [c * derivative(TERMS[name], u) for name, c in terms.items()]
    return sum(parts, zero), sum(slopes, zero), sum(map(np.abs, [*parts, *slopes]), zero)


# ---------------------------------------------------------------------------------------------------- one kind each


def _value(e: Estimator) -> Iterator[str]:
    h = np.asarray(e.h(GRID), dtype=float)
    if h.shape != GRID.shape:
        yield f"h of {GRID.size} values is of shape {h.shape}: it must be vectorised"
    yield from _first("h is", e.h(np.zeros(1)), 0.0, 0.0, np.zeros(1))


def _oracle(e: Estimator) -> Iterator[str]:
    if e.oracle is no_oracle:
        return
    L = np.append(GRID, 0.0)
    yield from _first("the oracle is", [e.oracle(float(x)) for x in L], e.h(L), 1.0 + np.exp(np.abs(L)), L)


def _slope(e: Estimator) -> Iterator[str]:
    yield from _first("the slope is", e.slope(GRID), derivative(e.differentiated.h, GRID), 0.0)


def _tangent(e: Estimator) -> Iterator[str]:
    if e.tangent is None:
        return
    yield from (f"{e.tangent.name}: {kind}: {words}" for kind, words in found(e.tangent))
    if not any(_first("", derivative(e.tangent.h, GRID), derivative(e.h, GRID), 0.0)):
        yield f"the slope of {e.tangent.name} is its own: it has no need of a tangent"


def _path(e: Estimator) -> Iterator[str]:
    if e.path is UNCLAIMED:
        return
    f, f_slope, size = _terms(e.path, GRID)
    if e.per_state:
        yield from _first("f(u) is", f + _masses(f, _summand(e)), _summand(e), size)
    else:
        yield from _first("f'(u) is", f_slope, derivative(e.h, GRID), size)


def _mean(e: Estimator) -> Iterator[str]:
    if e.mean is UNCLAIMED:
        return
    f, _, size = _terms(e.mean, GRID)
    want = _summand(e)
    yield from _first("f(u) is", f + (_masses(f, want) if e.per_state else 0.0), want, size)


def _summand(e: Estimator) -> Array:
    return np.asarray(np.exp(GRID) * e.h(GRID))


def _masses(f: Array, want: Array) -> Array:
    """The multiple of u - 1 that is missing, read off at the largest u."""
    less = np.expm1(GRID)
    return np.asarray((want - f)[-1] / less[-1] * less)


def _per_state(e: Estimator) -> Iterator[str]:
    if e.per_state:
        log_pi, log_ref = log_softmax(2.0 * np.random.default_rng(0).standard_normal((2, GRID.size, 4)))
        own = np.sum(np.exp(log_pi) * e.h(log_pi - log_ref), axis=-1)
        yield from _first("a state's sum of pi h is", own, state_kl(log_pi, log_ref)[:, 0], 1.0)


def _jump(e: Estimator) -> float:
    """By how much the slope jumps at L = 0; inf where that is no number."""
    below, above = np.broadcast_to(e.slope(NEAR), 2)
    jump = abs(float(above) - float(below))
    return 0.0 if jump <= 1e-6 * (1.0 + abs(float(below))) else jump if np.isfinite(jump) else np.inf


def _rounded(e: Estimator) -> Iterator[str]:
    jumps = bool(_jump(e))
    if (e.rounded is None) != (not jumps):
        yield (
            "the slope jumps at L = 0, and no rounded one is given" if jumps else "the slope does not jump: it has no need of a rounded one"
        )
    if e.rounded is not None:
        close = np.array([e.rounded(np.array([x]), 1e-9 * abs(x))[0] for x in GRID])
        yield from _first("the rounded slope tends to", close, e.slope(GRID), 1e3)
        inside = np.broadcast_to(e.rounded(NEAR, 1e-3), 2)
        yield from _first("across the corner it is", inside[1:], inside[:1], 1e4 * _jump(e), NEAR[1:])


KINDS: dict[str, Callable[[Estimator], Iterator[str]]] = {
    "value": _value,
    "oracle": _oracle,
    "slope": _slope,
    "tangent": _tangent,
    "path": _path,
    "mean": _mean,
    "per state": _per_state,
    "rounded": _rounded,
}
"""What can be false of a record, and how that is measured."""


# ---------------------------------------------------------------------------------------------------- all of them


@lru_cache(maxsize=256)
def found(e: Estimator) -> tuple[Fault, ...]:
    """Every fault of a record, with its kind; a function of the record's that cannot be called at all is a fault, too."""
    out: list[Fault] = []
    for kind, measure in KINDS.items():
        try:
            with np.errstate(all="ignore"):
                out += [(kind, words) for words in measure(e)]
        except Exception as error:  # a reader's function may raise anything
            out.append((kind, f"it cannot be measured: {type(error).__name__}: {error}"))
    return tuple(out)


def faults(estimator: Estimator) -> list[str]:
    """What a record says of itself that is not so, one sentence a fault; none for every record of the table.

    >>> faults(ESTIMATORS["k3"])
    []
    >>> for fault in faults(replace(ESTIMATORS["k3"], path={"KL(pi, ref)": 1.0})): print(fault)
    path: at L = -20 f'(u) is -20, not -4.85165e+08
    """
    return [f"{kind}: {words}" for kind, words in found(estimator)]


def register(estimator: Estimator) -> Estimator:
    """Enter an estimator into the table, where `Flag` and the commands find it by name.

    Raises: InputError for a name that is taken, and for a record with faults, which it lists.

    >>> register(ESTIMATORS["k3"])
    Traceback (most recent call last):
    tabular_rlhf.errors.InputError: the estimator must have a name of its own: got 'k3'; choose another name
    """
    wrong = faults(estimator)
    if wrong and estimator.name not in ESTIMATORS:
        remedy = "mend the record, or pass it to Flag as it is: what is said of a flag is measured"
        raise InputError("an estimator must be what its record says", got="; ".join(wrong), where=estimator.name, remedy=remedy)
    return ESTIMATORS.add(estimator)


@lru_cache(maxsize=256)
def never_negative(e: Estimator) -> bool:
    """Whether E_pi[h] >= 0 for all pi: h is nowhere negative, or u h(log u) lies above its tangent at u = 1 (Jensen)."""
    f = np.exp(GRID) * e.h(GRID)
    above = f - derivative(e.h, np.zeros(1)) * np.expm1(GRID)
    return bool(np.max([np.min(f / (1.0 + np.abs(f))), np.min(above / (1.0 + np.abs(f)))]) >= -ROUNDING)


def trustworthy(estimator: Estimator) -> Estimator:
    """The record, its slopes taken from h itself where the ones it gives are not that; a jump is rounded to the mean within a width."""
    if not {kind for kind, _ in found(estimator)} & {"slope", "rounded", "tangent"}:
        return estimator
    h = estimator.differentiated.h
    honest = replace(estimator, slope=lambda L: derivative(h, np.asarray(L)), rounded=None)
    mean = replace(honest, rounded=lambda L, width: (h(L + width) - h(L - width)) / (2.0 * width))
    return mean if _jump(honest) else honest


def honest(flag: Flag) -> Flag:
    """The flag with a record whose slopes may be trusted."""
    record = trustworthy(flag.record)
    return flag if record is flag.record else replace(flag, estimator=record)
