r"""Arithmetic on log-probabilities: the one place that owns what happens at -inf.

**Symbols.** log_p holds log-probabilities, -inf where an event is impossible; x are unnormalised logits.

**Conventions.**  exp(-inf) = 0;  0 log 0 = 0;  0 * anything = 0;  p log(p/q) = +inf where p > 0 = q.
A sum of no possible events has log -inf.  A distribution over no possible events does not exist: it is refused.

All functions take traced arrays as well as plain ones (see `autodiff`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.autodiff import primitive
from tabular_rlhf.errors import InputError

Array = np.ndarray[Any, np.dtype[np.float64]]


def _logsumexp(x: Any, axis: int = -1, keepdims: bool = False) -> Any:
    top = np.max(x, axis=axis, keepdims=True)
    top = np.where(np.isneginf(top), 0.0, top)
    total = np.sum(np.exp(x - top), axis=axis, keepdims=True)
    y = np.log(total, out=np.full_like(total, -np.inf), where=total > 0) + top
    return y if keepdims else np.squeeze(y, axis)


def _pull_logsumexp(g: Any, y: Any, x: Any, axis: int = -1, keepdims: bool = False) -> Any:
    if not keepdims:
        g, y = np.expand_dims(g, axis), np.expand_dims(y, axis)
    return g * np.exp(x - np.where(np.isneginf(y), 0.0, y))


logsumexp = primitive(_logsumexp, _pull_logsumexp)
logsumexp.__doc__ = r"""log of the sum of exponentials: log sum_i exp(x_i), -inf for a sum of impossible events.

Args: x, logits; axis; keepdims.  Gradient: softmax(x).

>>> float(logsumexp(np.log([0.25, 0.25])))
-0.6931471805599453
"""


def _log_softmax(x: Any, axis: int = -1) -> Any:
    top = np.max(x, axis=axis, keepdims=True)
    if np.any(np.isneginf(top)):
        state = tuple(int(i) for i in np.argwhere(np.isneginf(np.squeeze(top, axis)))[0])
        raise InputError(
            "every distribution must allow some event", got="all logits -inf", where=f"at index {state}", remedy="allow a token there"
        )
    y = x - top
    y -= np.log(np.sum(np.exp(y), axis=axis, keepdims=True))
    return y


log_softmax = primitive(_log_softmax, lambda g, y, x, axis=-1: g - np.exp(y) * np.sum(g, axis=axis, keepdims=True))
log_softmax.__doc__ = r"""Normalise logits: x - logsumexp(x), so that exp sums to one along the axis.  Logits of -inf stay -inf.

Args: x, logits; axis.  Raises InputError where all are -inf.

>>> log_softmax(np.array([0.0, 0.0, -np.inf])).round(4).tolist()
[-0.6931, -0.6931, -inf]
"""


def log_sigmoid(m: Any) -> Any:
    """log sigma(m) = -log(1 + exp(-m)), exact for margins of any size; its slope is sigma(-m).

    >>> float(log_sigmoid(-1000.0))
    -1000.0
    """
    return np.minimum(m, 0.0) - np.log1p(np.exp(-np.abs(m)))


def log_ratio(log_p: Any, log_q: Any) -> Any:
    """log(p/q) wherever p > 0, and 0 where p = 0 (it is about to be multiplied by p); +inf where p > 0 = q.

    >>> log_ratio(np.array([0.0, -np.inf]), np.array([-1.0, -np.inf])).tolist()
    [1.0, 0.0]
    """
    impossible = np.isneginf(log_p)
    if not np.any(impossible):
        return log_p - log_q
    return np.where(impossible, 0.0, log_p) - np.where(impossible, 0.0, log_q)


def expect(log_p: Any, f: Any, axis: int | None = -1) -> Any:
    """E_p[f] = sum p f, where f is ignored (even if infinite) on events of probability zero.

    >>> float(expect(np.log([0.5, 0.5]), np.array([1.0, 3.0])))
    2.0
    """
    impossible = np.isneginf(log_p)
    return np.sum(np.exp(log_p) * (np.where(impossible, 0.0, f) if np.any(impossible) else f), axis=axis)


def kl(log_p: Any, log_q: Any, axis: int | None = -1) -> Any:
    """KL(p, q) = sum p log(p/q), in nats; +inf where p puts mass on an event that q forbids.

    >>> float(kl(np.log([0.5, 0.5]), np.log([0.25, 0.75])).round(6))
    0.143841
    """
    return expect(log_p, log_ratio(log_p, log_q), axis=axis)


def soft_value(log_w: Any, q: Any, beta: float, axis: int = -1) -> Any:
    r"""The soft maximum beta log sum_a w(a) exp(q(a)/beta) for weights w that sum to one: between E_w[q] and max q.

    Exact over the whole range of beta: it tends to E_w[q] as beta grows and to the maximum of q over w > 0 as beta
    vanishes.  Where q/beta varies by less than 1/2 we use log1p(sum w expm1(x)), because log(sum w exp(x)) would be
    log(1 + tiny), and beta would multiply its rounding error.

    Args: log_w, normalised log-weights (-inf allowed); q, values in reward units; beta > 0, reward units per nat.
    Returns: reward units, one axis fewer.

    >>> w = np.log([0.5, 0.5]); q = np.array([0.0, 1.0])
    >>> [round(float(soft_value(w, q, b)), 2) for b in (1e-300, 1.0, 1e300)]
    [1.0, 0.62, 0.5]
    """
    possible = np.logical_not(np.isneginf(log_w))
    top = np.max(np.where(possible, q, -np.inf), axis=axis, keepdims=True)
    with np.errstate(over="ignore"):  # (q - top)/beta may fall to -inf, whose exponential is rightly 0
        x = np.where(possible, q - top, 0.0) / beta
    close = np.all(x > -0.5, axis=axis, keepdims=True)
    if np.all(close):
        log_mean = np.log1p(np.sum(np.exp(log_w) * np.expm1(x), axis=axis, keepdims=True))
    elif not np.any(close):
        log_mean = logsumexp(log_w + x, axis=axis, keepdims=True)
    else:
        gain = np.sum(np.exp(log_w) * np.expm1(np.where(close, x, 0.0)), axis=axis, keepdims=True)
        log_mean = np.where(close, np.log1p(gain), logsumexp(log_w + x, axis=axis, keepdims=True))
    return np.squeeze(top + beta * log_mean, axis)
