r"""Comparisons with one parameter more: ties as an outcome (Davidson; Rao and Kupper), and an advantage of the one shown first.

**Symbols.** d = r_i - r_j; a, b, t how often i won, j won, neither did; n = a + b + t; eta the additional parameter.

    Davidson      P(i) : P(j) : P(tie)  =  e^{d/2} : e^{-d/2} : e^eta,                        nu = e^eta: odds of a tie between equals
    Rao-Kupper    P(i) = sigma(d - eta), P(j) = sigma(-d - eta), P(tie) = (e^{2 eta} - 1) P(i) P(j),      theta = e^eta > 1: a threshold
    order         P(i) = sigma(d + eta) where i is the one shown first (ties count as half a win each)

All three log-likelihoods are concave in (r, eta).  A finite maximum exists if the graph of wins, with a tie as an arrow both ways, is
strongly connected, and there are ties and decisions both (order: firsts that won and that lost, beyond what rewards explain).

**Algorithm.**  Newton's method.  The Hessian is the Laplacian H of the pairs, bordered by eta's row (h, c):  with H x = -slope and H y = h,
eta moves by (-slope_eta - h x)/(c - h y), and r by x - y times that; both are solved by conjugate gradients, so pairs may be 10^6.  The
variance of eta is 1/(c - h y).

Sources: Davidson (1970), On extending the Bradley-Terry model to accommodate ties, JASA 65; Rao and Kupper (1967), Ties in
paired-comparison experiments, JASA 62; Davidson and Beaver (1977), On extending the Bradley-Terry model to incorporate within-pair
order effects.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tabular_rlhf.errors import InputError, SolveError
from tabular_rlhf.logspace import Array, log_sigmoid
from tabular_rlhf.mdp import Indices
from tabular_rlhf.preferences.laplacian import Laplacian
from tabular_rlhf.preferences.likelihood import EPS

STEPS = 100
Terms = tuple[Array, Array, Array, Array, Array, Array]
"""Of every pair: log-likelihood, its slopes in d and eta, and (with the sign changed) its second derivatives dd, d eta, eta eta."""


@dataclass(frozen=True)
class Model:
    """name; symbol of e^eta or eta; source; terms, (d, eta, a, b, t) -> Terms; start, of eta; least, which eta must exceed."""

    name: str
    symbol: str
    source: str
    terms: Callable[[Array, float, Array, Array, Array], Terms]
    start: Callable[[float, float, float], float]
    least: float = -np.inf


def davidson(d: Array, eta: float, a: Array, b: Array, t: Array) -> Terms:
    """Davidson's terms."""
    n = a + b + t
    top = np.maximum(np.abs(d) / 2, eta)
    log_D = top + np.log(np.exp(d / 2 - top) + np.exp(-d / 2 - top) + np.exp(eta - top))
    p, q, s = np.exp(d / 2 - log_D), np.exp(-d / 2 - log_D), np.exp(eta - log_D)
    half = (p - q) / 2
    value = (a - b) * d / 2 + t * eta - n * log_D
    return value, (a - b) / 2 - n * half, t - n * s, n * ((p + q) / 4 - half**2), -n * half * s, n * s * (1 - s)


def rao_kupper(d: Array, eta: float, a: Array, b: Array, t: Array) -> Terms:
    """Rao and Kupper's terms: cumulative logits with thresholds -eta and eta."""
    log_p, log_q = log_sigmoid(d - eta), log_sigmoid(-d - eta)
    u, v = -np.expm1(log_p), -np.expm1(log_q)
    A, B = (a + t) * u * (1 - u), (b + t) * v * (1 - v)
    shut = -np.expm1(-2 * eta)
    value = (a + t) * log_p + (b + t) * log_q + t * (2 * eta + np.log(shut))
    d_eta = -(a + t) * u - (b + t) * v + 2 * t / shut
    return value, (a + t) * u - (b + t) * v, d_eta, A + B, B - A, A + B + 4 * t * np.exp(-2 * eta) / shut**2


def order(d: Array, eta: float, a: Array, b: Array, t: Array) -> Terms:
    """The terms of an advantage of the first; ties are halves."""
    a, b = a + t / 2, b + t / 2
    log_p, log_q = log_sigmoid(d + eta), log_sigmoid(-d - eta)
    p = np.exp(log_p)
    slope, curve = a - (a + b) * p, (a + b) * p * np.exp(log_q)
    return a * log_p + b * log_q, slope, slope, curve, curve, curve


MODELS = {
    "davidson": Model("davidson", "nu", "Davidson (1970)", davidson, lambda a, b, t: float(np.log(2 * t / (a + b)))),
    "rao-kupper": Model("rao-kupper", "theta", "Rao and Kupper (1967)", rao_kupper, lambda a, b, t: float(np.log1p(2 * t / (a + b))), 0.0),
    "order": Model("order", "gamma", "Davidson and Beaver (1977)", order, lambda a, b, t: float(np.log((a + t / 2) / (b + t / 2)))),
}


@dataclass(frozen=True, eq=False)
class OutcomeFit:
    """model; r (N,), rewards of mean zero in each linked set; eta and its standard_error; log_likelihood, in nats; steps."""

    model: str
    r: Array
    eta: float
    standard_error: float
    log_likelihood: float
    steps: int


def fit_outcomes(model: str, i: Indices, j: Indices, a: Array, b: Array, t: Array, N: int, start: Array | None = None) -> OutcomeFit:
    """Maximum likelihood of one of MODELS.

    Args: i, j (M,), items of each pair (order: i was shown first); a, b, t (M,), how often i won, j won, neither did; N, items; start (N,),
    rewards to begin from, 0 by default.  Items must be strongly connected within each linked set (`structure`, a tie an arrow both ways).
    Raises: InputError where the data decide nothing about eta; SolveError if it does not settle.

    >>> two = [np.array([k]) for k in (0, 1)]
    >>> f = fit_outcomes("davidson", *two, *(np.array([x]) for x in (8.0, 2.0, 4.0)), 2)  # nu = 4/sqrt(16), e^d = 8/2
    >>> round(float(np.exp(f.eta)), 6), round(float(np.exp(f.r[0] - f.r[1])), 6)
    (1.0, 4.0)
    """
    record = MODELS[model]
    totals = float(np.sum(a)), float(np.sum(b)), float(np.sum(t))
    _require(record, totals)
    r = np.zeros(N) if start is None else np.array(start, dtype=np.float64)
    eta = record.start(*totals)
    value, terms = _at(record, i, j, a, b, t, r, eta)
    hessian = _Hessian(i, j, N)
    for k in range(STEPS):
        move, shift, spread = _newton_step(hessian, terms)
        share = 1.0
        while not (share < 1e-12):
            new, new_terms = _at(record, i, j, a, b, t, r + share * move, eta + share * shift)
            if new >= value - 1e-13 * abs(value):
                break
            share /= 2
        r, eta, value, terms = r + share * move, eta + share * shift, new, new_terms
        if max(float(np.max(np.abs(move), initial=0.0)), abs(shift)) < 1e-9:
            return OutcomeFit(model, r, eta, float(np.sqrt(spread)), value, k + 1)
    raise SolveError(f"{model} did not settle in {STEPS} Newton steps: the last moved eta by {shift:.3g}")


def _require(record: Model, totals: tuple[float, float, float]) -> None:
    a, b, t = totals
    if record.name == "order":
        if not (a + t > 0 and b + t > 0):
            raise InputError("some first must win, and some lose", got=f"{a:g} won, {b:g} lost", remedy="collect more comparisons")
    elif not (t > 0 and a + b > 0):
        raise InputError("there must be ties and decisions", got=f"{t:g} ties, {a + b:g} decisions", remedy="leave the model of ties out")


def _at(record: Model, i: Indices, j: Indices, a: Array, b: Array, t: Array, r: Array, eta: float) -> tuple[float, Terms]:
    if not eta > record.least:
        return -np.inf, (a, a, a, a, a, a)
    terms = record.terms(r[i] - r[j], eta, a, b, t)
    return float(np.sum(terms[0])), terms


class _Hessian:
    """The Laplacian of the pairs, at the curvatures of the moment."""

    def __init__(self, i: Indices, j: Indices, N: int) -> None:
        rows = np.concatenate([i, j])
        self.i, self.j, self.N, self.by_row = i, j, N, np.argsort(rows, kind="stable")
        self.indices = np.concatenate([j, i])[self.by_row]
        self.starts = np.append(0, np.cumsum(np.bincount(rows, minlength=N)))
        self.equations = Laplacian(lambda v: np.asarray(self.diagonal * v - self.A @ v), lambda: self.A)

    def gathered(self, of_pairs: Array) -> Array:
        return np.asarray(np.bincount(self.i, of_pairs, self.N) - np.bincount(self.j, of_pairs, self.N))

    def totals(self, of_pairs: Array) -> Array:
        return np.asarray(np.bincount(self.i, of_pairs, self.N) + np.bincount(self.j, of_pairs, self.N), dtype=np.float64)

    def measure(self, curve: Array) -> None:
        from scipy.sparse import csr_array

        self.A = csr_array((np.concatenate([curve, curve])[self.by_row], self.indices, self.starts), shape=(self.N, self.N))
        total = self.totals(curve)
        self.diagonal: Array = np.where(total > 0, total, 1.0)

    def solved(self, of_pairs: Array, size: Array) -> Array:
        """x for what pairs add up to, of which rounding may leave as much as of `size`."""
        noise = 4 * EPS * self.totals(size) + 1e-305
        return self.equations.solve(self.diagonal, self.gathered(of_pairs), 1e-10, noise)


def _newton_step(hessian: _Hessian, terms: Terms) -> tuple[Array, float, float]:
    """How r and eta move, and the variance of eta."""
    _, slope, slope_eta, curve, mixed, curve_eta = terms
    hessian.measure(curve)
    h = hessian.gathered(mixed)
    x, y = hessian.solved(slope, np.abs(slope) + curve), hessian.solved(mixed, np.abs(mixed) + curve)
    left = float(np.sum(curve_eta) - np.dot(h, y))
    if not left > 1e-12 * float(np.sum(curve_eta)):
        raise InputError("the data must tell the additional parameter from the rewards", got="none does", remedy="compare in both orders")
    shift = float((np.sum(slope_eta) - np.dot(h, x)) / left)
    return x - y * shift, shift, 1.0 / left
