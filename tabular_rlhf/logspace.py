r"""Arithmetic on log-probabilities: the one place that owns what happens at -inf.

**Symbols.** log_p holds log-probabilities, -inf where an event is impossible; x are unnormalized logits.

**Conventions.**  exp(-inf) = 0;  0 log 0 = 0;  0 * anything = 0;  p log(p/q) = +inf where p > 0 = q.
A sum of no possible events has log -inf.  A distribution over no possible events does not exist: it is refused.
What is infinite has no gradient: it is refused, too.

All functions take traced arrays as well as plain ones (see `autodiff`); `kernels` has the passes over large ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tabular_rlhf import kernels
from tabular_rlhf.autodiff import Traced, plain, primitive
from tabular_rlhf.autodiff.table import elementwise
from tabular_rlhf.errors import InputError, as_floats, positive

Array = np.ndarray[Any, np.dtype[np.float64]]


def log_of(p: Any) -> Array:
    """log p of plain weights; -inf where p = 0, without an accident; what is no number stays none.

    >>> log_of(np.array([1.0, 0.0, np.nan])).tolist()
    [0.0, -inf, nan]
    """
    return np.log(p, out=np.full_like(p, -np.inf), where=np.logical_not(np.less_equal(p, 0)))


def _logsumexp(x: Any, axis: int = -1, keepdims: bool = False) -> Any:
    top = np.max(x, axis=axis, keepdims=True)
    if not np.isfinite(top).all():
        top = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(over="ignore"):  # beside an infinite one, all others may be as large as they like
        total = np.sum(np.exp(x - top), axis=axis, keepdims=True)
    y = log_of(total) + top
    return y if keepdims else np.squeeze(y, axis)


def _pull_logsumexp(g: Any, y: Any, x: Any, axis: int = -1, keepdims: bool = False) -> Any:
    if not keepdims:
        g, y = np.expand_dims(g, axis), np.expand_dims(y, axis)
    if np.max(plain(y), initial=0.0) == np.inf:
        raise _no_gradient("logsumexp", "a logit of inf")
    return g * np.exp(x - np.where(np.isneginf(y), 0.0, y))


logsumexp = primitive(_logsumexp, _pull_logsumexp)
logsumexp.__doc__ = """log of the sum of exponentials: log sum_i exp(x_i), -inf for a sum of impossible events; its gradient is softmax(x).

Args: x, logits, nats; axis, over which is summed; keepdims, whether it stays as an axis of length 1.
Returns: one axis fewer, in nats.
Raises: InputError for the gradient where a logit is inf.

>>> float(logsumexp(np.log([0.25, 0.25])))
-0.6931471805599453
"""


_pull_log_softmax = primitive(
    kernels.softmax_pull,
    lambda c, _, g, y, axis, overwrite=False: c - np.sum(c * np.exp(y), axis=axis, keepdims=True),
    lambda c, _, g, y, axis, overwrite=False: -c * np.exp(y) * np.sum(g, axis=axis, keepdims=True),
)
log_softmax = primitive(
    kernels.log_softmax, lambda g, y, x, axis=-1, overwrite=False: _pull_log_softmax(g, y, axis, overwrite), keeps="out", overwrites=True
)
log_softmax.__doc__ = """Normalize logits: x - logsumexp(x), so that exp sums to one along the axis.  Logits of -inf stay -inf.

Args: x, logits, nats; axis, along which they are normalized.
Returns: log-probabilities of the shape of x, nats.
Raises: InputError where all are -inf, or one is inf or nan.

>>> log_softmax(np.array([0.0, 0.0, -np.inf])).round(4).tolist()
[-0.6931, -0.6931, -inf]
"""


def _log_sigmoid(m: Any) -> Any:
    return np.minimum(m, 0.0) - np.log1p(np.exp(-np.abs(m)))


# the stable formula has a kink in each of its two terms at 0, where the function is smooth: hence a rule of its own
log_sigmoid: Callable[[Any], Any] = primitive(_log_sigmoid, lambda g, y, m: g * np.exp(log_sigmoid(-m)))
log_sigmoid.__doc__ = """log sigma(m) = -log(1 + exp(-m)), exact for margins of any size; its slope is sigma(-m).

Args: m, margins of any shape, nats.
Returns: nats, of the shape of m.
Raises: nothing; nan stays nan.

>>> float(log_sigmoid(-1000.0))
-1000.0
"""


def log_ratio(log_p: Any, log_q: Any) -> Any:
    """log(p/q) wherever p > 0, and 0 where p = 0 (it is about to be multiplied by p); +inf where p > 0 = q.

    >>> log_ratio(np.array([0.0, -np.inf]), np.array([-1.0, -np.inf])).tolist()
    [1.0, 0.0]
    """
    if not has_zeros(log_p):
        return log_p - log_q
    impossible = np.isneginf(log_p)
    return np.where(impossible, 0.0, log_p) - np.where(impossible, 0.0, log_q)


def has_zeros(log_p: Any) -> bool:
    """Whether some event is impossible: one pass, no mask."""
    return bool(np.min(plain(log_p), initial=0.0) == -np.inf)


def read_only(x: Array) -> Array:
    """`x`, which nobody may write into from now on."""
    x.setflags(write=False)
    return x


def as_array(x: Any, name: str) -> Any:
    """`x` itself if it is an array (traced or plain), else the array of its numbers, checked."""
    return x if isinstance(x, (np.ndarray, np.generic, Traced)) else as_floats(x, name, minus_inf=True)


def as_beta(beta: Any) -> Any:
    """`beta`, a number, an array or traced, if it is positive and finite throughout."""
    if not (type(beta) is float and 0.0 < beta < np.inf):
        values = np.ravel(plain(beta))
        positive(values[np.argmin(values)] if values.size else 1.0, "beta", "reward units per nat")
        positive(np.max(values, initial=1.0), "beta", "reward units per nat")
    return beta


def _no_gradient(what: str, got: str) -> InputError:
    return InputError(f"{what} must be finite to have a gradient", got=got, remedy="forbid in p what q forbids, and keep values finite")


def expect(log_p: Any, f: Any, axis: int | None = -1) -> Any:
    """E_p[f] = sum p f, where f is ignored (even if infinite) on events of probability zero; differentiable.

    Args: log_p (..., N), nats; f, of a shape that broadcasts with it; axis, over which is summed (None: all).
    Returns: one axis fewer, in the unit of f: inf or -inf where f is that on a possible event.
    Raises: InputError where f is inf and -inf on possible events, and for the gradient of what is infinite.

    >>> float(expect(np.log([0.5, 0.5]), np.array([1.0, 3.0])))
    2.0
    """
    log_p, f = as_array(log_p, "log_p"), as_array(f, "f")
    f = np.where(np.isneginf(log_p), 0.0, f) if has_zeros(log_p) else f
    with np.errstate(invalid="ignore"):  # 0 times inf, where exp underflows
        mean = np.sum(np.exp(log_p) * f, axis=axis)
    return mean if np.all(np.isfinite(plain(mean))) else _infinite_mean(mean, f, axis)


def _infinite_mean(mean: Any, f: Any, axis: int | None) -> Any:
    """The mean where some f is infinite on possible events, however small their probability."""
    if type(mean) is Traced:
        raise _no_gradient("an expectation", "f infinite on a possible event")
    rises, falls = np.any(f == np.inf, axis=axis), np.any(f == -np.inf, axis=axis)
    if np.any(rises & falls):
        raise InputError("an expectation must exist", got="f both inf and -inf on possible events", remedy="keep one sign finite")
    return np.where(rises, np.inf, np.where(falls, -np.inf, mean))


def kl(log_p: Any, log_q: Any, axis: int | None = -1) -> Any:
    """KL(p, q) = sum p log(p/q); +inf where p puts mass on an event that q forbids; differentiable.

    Right to relative precision also where p and q nearly agree, as far as the log-probabilities tell: see `mean_log_ratio`.

    Args: log_p, log_q (..., N), normalized, in nats; axis, over which is summed (None: all).
    Returns: one axis fewer, in nats.
    Raises: InputError for nan or +inf, and for the gradient of what is infinite.
    Source: Kullback and Leibler (1951).

    >>> float(kl(np.log([0.5, 0.5]), np.log([0.25, 0.75])).round(6))
    0.143841
    """
    log_p, log_q = as_array(log_p, "log_p"), as_array(log_q, "log_q")
    return mean_log_ratio(np.exp(log_p), log_ratio(log_p, log_q), axis)


CANCELS = 16.0
"""A sum is formed without cancellation where its terms, without their signs, add up to more than this many times as much."""
NORMALIZED = 1e-9
"""Sums of probabilities that differ by less are the same: a policy is accepted as normalized to that."""


def _mean_log_ratio(p: Any, x: Any, axis: int | None = -1) -> Any:
    with np.errstate(over="ignore", invalid="ignore"):  # 0 times inf is mended, what overflows is not used
        mean, total = kernels.sums(p, x, axis)
        safe = total <= CANCELS * mean
        return mean if safe.all() else np.where(safe, mean, _cancelling_mean(p, x, axis, mean))


def _cancelling_mean(p: Any, x: Any, axis: int | None, mean: Any) -> Any:
    """sum p x where it is inf (though p may underflow to 0), or where its terms cancel; x = -inf says that p is 0."""
    if has_zeros(x):
        p, x = np.where(np.isneginf(x), 0.0, p), np.where(np.isneginf(x), 0.0, x)
        mean = np.add.reduce(p * x, axis=axis)
    mean = np.where(np.any(np.equal(x, np.inf), axis=axis), np.inf, mean)
    surplus = np.expm1(-np.maximum(x, -700.0))  # q/p - 1
    near = np.abs(x) < 0.5
    excess = np.where(near, remainder(-np.where(near, x, 0.0), 2), x + surplus)
    same = np.isfinite(mean) & (np.abs(np.sum(p * surplus, axis=axis)) <= NORMALIZED)
    return np.where(same, np.sum(p * excess, axis=axis), mean)


def _mean_gain(p: Any, x: Any, r: Any, beta: Any) -> Any:
    reward = kernels.sums(p, r, -1)[0] if p.size > kernels.BLOCK else np.add.reduce(p * r, axis=-1)
    return reward - beta * _mean_log_ratio(p, x)


def _spread(g: Any, axis: int | None = -1) -> Any:
    return g if axis is None else np.expand_dims(g, axis)


def _finite(y: Any, x: Any) -> Any:
    """x, if the mean y of it is finite."""
    if not np.all(np.isfinite(plain(y))):
        raise _no_gradient("KL(p, q)", "p > 0 = q")
    return x


mean_log_ratio: Callable[..., Any] = primitive(_mean_log_ratio)
elementwise(
    mean_log_ratio,
    lambda g, y, p, x, axis=-1: _spread(g, axis) * _finite(y, x),
    lambda g, y, p, x, axis=-1: _spread(g, axis) * p,
)
mean_log_ratio.__doc__ = r"""sum p x for x = log(p/q), as KL(p, q) = sum p (x + exp(-x) - 1) where sum p x would cancel.

The two are one, because p and q sum to one; but every term of the second is positive.  Where KL is of order x^2, sum p x errs
by the rounding of x.  Where p and q do not sum to the same, sum p x is meant and returned.

Args: p (not its logarithm); x, 0 or -inf where p is 0, inf where p > 0 = q; axis.  Gradient: that of sum p x.

>>> x = np.log1p([-1e-9, 1e-9])
>>> p = np.exp(x) / 2
>>> f"{mean_log_ratio(p, x):.9g} {np.sum(p * x):.9g}"
'5e-19 4.99999971e-19'
"""
mean_gain: Callable[..., Any] = primitive(_mean_gain)
elementwise(
    mean_gain,
    lambda g, y, p, x, r, beta: _spread(g) * (r - beta * _finite(y, x)),
    lambda g, y, p, x, r, beta: _spread(-beta * g) * p,
    lambda g, y, p, x, r, beta: _spread(g) * p,
    lambda g, y, p, x, r, beta: -g * mean_log_ratio(p, x),
)
mean_gain.__doc__ = """sum p (r - beta x) along the last axis, for x = log(p/q): `mean_log_ratio` and a reward in one pass.

>>> float(mean_gain(np.array([0.5, 0.5]), np.zeros(2), np.array([1.0, 3.0]), 1.0))
2.0
"""


def soft_parts(log_w: Any, q: Any, beta: Any, axis: int = -1) -> tuple[Any, Any]:
    r"""(best, nats): the maximum of q over w > 0, and log sum_a w(a) exp((q(a) - best)/beta); the soft value is best + beta nats.

    Where q/beta varies by less than 1/2 we use log1p(sum w expm1(x)), because log(sum w exp(x)) would be log(1 + tiny), and
    beta would multiply its rounding error.
    """
    as_beta(beta)
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
    return np.squeeze(top, axis), np.squeeze(log_mean, axis)


def soft_value(log_w: Any, q: Any, beta: Any, axis: int = -1) -> Any:
    """The soft maximum beta log sum_a w(a) exp(q(a)/beta) for weights w that sum to one: between E_w[q] and max q.

    Exact over the whole range of beta: it tends to E_w[q] as beta grows and to the maximum of q over w > 0 as beta vanishes.

    Args: log_w (..., N), normalized log-weights (-inf allowed); q, values in reward units; beta > 0, reward units per nat; axis.
    Returns: reward units, one axis fewer.
    Raises: InputError for beta that is not positive and finite.
    Source: Ziebart (2010).

    >>> w = np.log([0.5, 0.5]); q = np.array([0.0, 1.0])
    >>> [round(float(soft_value(w, q, b)), 2) for b in (1e-300, 1.0, 1e300)]
    [1.0, 0.62, 0.5]
    """
    best, log_mean = soft_parts(log_w, q, beta, axis)
    return best + beta * log_mean


def log_tilt(log_w: Any, q: Any, beta: Any, axis: int = -1) -> Any:
    """log of w exp(q/beta) / sum w exp(q/beta): the Gibbs tilt of weights that sum to one, -inf where w is 0.

    >>> np.exp(log_tilt(np.log([0.5, 0.5]), np.log([1.0, 3.0]), 1.0)).round(6).tolist()
    [0.25, 0.75]
    """
    return log_w + log_gain(log_w, q, beta, axis)


def log_gain(log_w: Any, q: Any, beta: Any, axis: int = -1) -> Any:
    """log of exp(q/beta) / sum w exp(q/beta): what the tilt multiplies w by, to relative precision; 0 or -inf where w is 0.

    >>> np.exp(log_gain(np.log([0.5, 0.5]), np.log([1.0, 3.0]), 1.0)).round(6).tolist()
    [0.5, 1.5]
    """
    best, log_mean = soft_parts(log_w, q, beta, axis)
    possible = np.logical_not(np.isneginf(log_w))
    with np.errstate(over="ignore"):
        x = np.where(possible, q - np.expand_dims(best, axis), 0.0) / beta
    return np.where(possible, x - np.expand_dims(log_mean, axis), 0.0)


def remainder(t: Any, k: int) -> Array:
    """E_k(t) = e^t less the first k terms of its series, to relative precision.

    >>> float(remainder(np.array(1e-9), 2))  # t^2/2
    5.000000001666667e-19
    """
    if k <= 1:
        with np.errstate(over="ignore"):
            return np.exp(t) if k == 0 else np.expm1(t)
    edge, terms = REMAINDERS[min(k, 4)]
    near = np.abs(t) < edge
    series, s = np.ones_like(t), np.where(near, t, 0.0)
    for j in range(k + terms, k, -1):
        series *= s
        series /= j
        series += 1.0
    series *= s**k / math.factorial(k) if k > 2 else 0.5 * s * s
    with np.errstate(over="ignore"):
        far = np.expm1(t) - t if k == 2 else np.exp(t) - sum(t**j / math.factorial(j) for j in range(k))
    return np.where(near, series, far)


REMAINDERS = {2: (0.1, 9), 3: (0.5, 14), 4: (1.0, 18)}
"""By k: where the series is used, because e^t less its first terms has fewer digits there; and how many terms it takes."""
