r"""Bradley-Terry by maximum likelihood: rewards from comparisons, with their standard errors.

**Symbols.** wins_ij, n_ij as in `comparison_data`; r_i the reward of item i, in nats, of which only differences count: we make
them sum to zero.  e_i = exp(r_i); p_ij = e_i/(e_i + e_j).  s^2 the variance of an optional Gaussian prior, r_i ~ N(0, s^2).

    NLL(r) = -sum_ij wins_ij log p_ij   [ + sum_i r_i^2 / (2 s^2) ],
    its slope in r_i:  sum_j n_ij p_ij - wins_i   [ + r_i/s^2 ],
    its Hessian:       the Laplacian of the graph with weights n_ij p_ij p_ji   [ + I/s^2 ].

The Hessian is also the Fisher information: outcomes do not enter it.  The covariance of r is its pseudo-inverse (its inverse,
with a prior: the posterior covariance in Laplace's approximation).

**Algorithm.**  Newton's method, its equations solved by conjugate gradients preconditioned by the diagonal, since the Laplacian
of many comparisons is close to its diagonal, or by elimination where the graph is long (`laplacian`).  It starts from the log-odds of
each item's win rate, stretched as if opponents were normally spread (Cohen 1979).  One table T = n_ij/(e_i + e_j) gives the slope and
the Hessian: p and p(1-p) are never made.  With R the range of a Newton step, weights p(1-p) change by at most e^R along it, so a step
of R < 1.79 always lowers the NLL; a longer one is kept only if the slope along it has not turned, and is shortened to log(1 + R)/R of
itself otherwise.

Sources: Zermelo (1929); Bradley and Terry (1952); Ford (1957); Cohen (1979), Approximate expressions for parameter estimates
in the Rasch model, on the first guess; Bach (2010), Self-concordant analysis for logistic regression, on the step; Turner and
Firth (2012), Bradley-Terry models in R, on standard errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tabular_rlhf.errors import InputError, SolveError, positive
from tabular_rlhf.logspace import Array, log_sigmoid
from tabular_rlhf.preferences.comparisons import Structure, Wins, structure
from tabular_rlhf.preferences.laplacian import Laplacian

EPS = float(np.finfo(np.float64).eps)
STEPS = 100
SURE = 1.79
"""(e^R - 1 - R)/R^2 < 1 up to here: a Newton step of this range lowers the NLL whatever the data."""
CLOSE = 4e-5
"""A Newton step of range R leaves an error of at most about R^2/2, here 8e-10 nats."""
WIDEST = 600.0
"""Rewards may range over this much before e_i + e_j leaves the range of floats."""


@dataclass(frozen=True, eq=False)
class Fit:
    """A fit.  wins; r (N,), rewards in nats that sum to zero; prior, the variance s^2 or None; steps, Newton steps taken.

    >>> from tabular_rlhf.preferences.comparisons import count_wins
    >>> f = fit(count_wins([0, 0, 0, 1], [1, 1, 1, 0], ("tea", "coffee")))
    >>> round(float(f.r[0] - f.r[1]), 6), round(float(np.log(3)), 6)
    (1.098612, 1.098612)
    """

    wins: Wins
    r: Array
    prior: float | None
    steps: int

    @property
    def log_likelihood(self) -> float:
        """sum_ij wins_ij log p_ij, in nats."""
        i, j, a, b = self.wins.pairs()
        d = self.r[i] - self.r[j]
        return float(np.sum(a * log_sigmoid(d) + b * log_sigmoid(-d)))

    @property
    def deviance(self) -> float:
        """2 sum_ij n_ij KL(observed win rate of the pair, p_ij): twice the nats by which the model misses the rates."""
        i, j, a, b = self.wins.pairs()
        d = self.r[i] - self.r[j]
        return float(2 * np.sum(_nats_missed(a, a + b, log_sigmoid(d)) + _nats_missed(b, a + b, log_sigmoid(-d))))

    @property
    def degrees(self) -> int:
        """Pairs compared, less the differences fitted: where Bradley-Terry holds, the deviance is chi-squared with so many."""
        return len(self.wins.pairs()[0]) - (self.wins.N - 1)

    @cached_property
    def information(self) -> Array:
        """The Fisher information: the Laplacian with weights n_ij p_ij p_ji, plus I/s^2 if there is a prior, (N, N)."""
        n = self.wins.compared.toarray() if self.wins.sparse else self.wins.compared
        d = self.r[:, None] - self.r
        weight = n * np.exp(log_sigmoid(d) + log_sigmoid(-d))
        return np.diag(np.sum(weight, axis=1) + (1.0 / self.prior if self.prior else 0.0)) - weight

    @cached_property
    def covariance(self) -> Array:
        """Of r, (N, N): the pseudo-inverse of the information (whose null vector is the common shift), or its inverse."""
        shift = 0.0 if self.prior else 1.0 / self.wins.N
        scale = np.trace(self.information) / self.wins.N if shift else 1.0
        inverse = np.linalg.inv(self.information + shift * scale)
        return 0.5 * (inverse + inverse.T) - (shift / scale if shift else 0.0)

    @cached_property
    def standard_errors(self) -> Array:
        """Of r in the gauge sum r = 0, (N,)."""
        return np.sqrt(np.maximum(np.diag(self.covariance), 0.0))

    def relative_to(self, item: int) -> tuple[Array, Array]:
        """r_i - r_item and its standard error, (N,) each: the table that statistics packages print."""
        C = self.covariance
        variance = np.diag(C) + C[item, item] - 2.0 * C[:, item]
        return self.r - self.r[item], np.sqrt(np.maximum(variance, 0.0))

    def interval(self, level: float = 0.95) -> tuple[Array, Array]:
        """Ends of the normal confidence interval of each r_i in the gauge sum r = 0."""
        half = normal_quantile(level) * self.standard_errors
        return self.r - half, self.r + half


def normal_quantile(level: float) -> float:
    """z such that a standard normal lies in (-z, z) with probability `level`.

    >>> round(normal_quantile(0.95), 4)
    1.96
    """
    from statistics import NormalDist

    if not 0 < level < 1:
        raise InputError("the level must lie between 0 and 1", got=level, remedy="pass 0.95 for 95 % intervals")
    return NormalDist().inv_cdf(0.5 + 0.5 * level)


def _nats_missed(a: Array, n: Array, log_p: Array) -> Array:
    """a log((a/n)/p), with 0 log 0 = 0."""
    return a * (np.log(np.where(a > 0, a / n, 1.0)) - np.where(a > 0, log_p, 0.0))


def fit(wins: Wins, *, prior: float | None = None) -> Fit:
    """The maximum-likelihood rewards, or with a prior the maximum of the posterior.

    Args: prior, the variance s^2 of r_i ~ N(0, s^2): the penalty is sum r^2/(2 s^2).  Raises: InputError naming the items that
    block a single finite maximum (a prior always allows one); SolveError if the iteration does not end.
    """
    if prior is None:
        structure(wins).require()
        if not wins.total > 0:
            remedy = "name two items in every comparison, or state a prior"
            raise InputError("some comparison must be of two items", got="each item against itself", remedy=remedy)
    else:
        prior = positive(prior, "prior", "squared nats, the variance of a reward")
    r, steps = newton(wins, 1.0 / prior if prior else 0.0)
    return Fit(wins, r - np.mean(r), prior, steps)


def fit_components(found: Structure) -> list[tuple[Any, Fit]]:
    """The fit of every strong component of two items or more, with its items: what can be said without a single finite maximum."""
    return [(items, fit(found.wins.only(items))) for items in found.members() if len(items) > 1]


# ---------------------------------------------------------------------------------------------------- Newton's method


class DenseOdds:
    """T_ij = n_ij/(e_i + e_j) at given rewards, and what follows from it.

    T is symmetric, so only strips of it right of the diagonal are made: rows a to b, columns a to N.  A strip fits in the cache.
    The squares on the diagonal, which hold both orders, are counted half and summed both ways.
    """

    def __init__(self, wins: Wins, rows: int = 64) -> None:
        c, N = wins.counts, wins.N
        self.ranges = [(a, min(a + rows, N)) for a in range(0, N, rows)]
        self.n = [c[a:b, a:] + c[a:, a:b].T for a, b in self.ranges]
        for n, (a, b) in zip(self.n, self.ranges, strict=True):
            n[:, : b - a] *= 0.5
        self.T = [np.empty_like(n) for n in self.n]
        self.room = np.empty_like(self.n[0])

    def slope(self, e: Array) -> Array:
        """sum_j T_ij.  Keeps T/(e_i + e_j), which the Hessian needs, in the place of T."""
        out = np.zeros_like(e)
        for (a, b), n, T in zip(self.ranges, self.n, self.T, strict=True):
            sums = self.room[: b - a, : len(e) - a]
            np.add(e[a:b, None], e[a:], out=sums)
            np.divide(n, sums, out=T)
            out[a:b] += T @ np.ones(len(e) - a)
            out[a:] += np.ones(b - a) @ T
            T /= sums
        return out

    def product(self, v: Array) -> Array:
        """sum_j T_ij/(e_i + e_j) v_j at the rewards of the last `slope`."""
        out = np.zeros_like(v)
        for (a, b), T in zip(self.ranges, self.T, strict=True):
            out[a:b] += T @ v[a:]
            out[a:] += v[a:b] @ T
        return out


class SparseOdds:
    """The same for pairs that were compared, listed in both orders."""

    def __init__(self, wins: Wins) -> None:
        self.n = wins.compared
        self.rows = np.repeat(np.arange(wins.N), np.diff(self.n.indptr))
        self.T = self.n.copy()

    def slope(self, e: Array) -> Array:
        sums = e[self.rows] + e[self.n.indices]
        np.divide(self.n.data, sums, out=self.T.data)
        out: Array = self.T @ np.ones(len(e))
        self.T.data /= sums
        return out

    def product(self, v: Array) -> Array:
        return np.asarray(self.T @ v)


class Likelihood:
    """The NLL's slope, and its Hessian where the slope was last taken, of diagonal D: H v = D v - e (T/(e + e)) (e v)."""

    def __init__(self, wins: Wins, ridge: float) -> None:
        self.odds: DenseOdds | SparseOdds = SparseOdds(wins) if wins.sparse else DenseOdds(wins)
        self.wins, self.won, self.ridge = wins, wins.won, ridge
        self.hessian = Laplacian(self.product, self.weights, held=ridge > 0)
        self.noise = 4.0 * EPS * (self.won + 1e-290)  # what rounding leaves of a slope

    def slope(self, r: Array) -> Array:
        self.e = np.exp(r - 0.5 * (r.max() + r.min()))
        slope: Array = self.e * self.odds.slope(self.e) - self.won + self.ridge * r
        self.diagonal = self.e * self.odds.product(self.e) + self.ridge
        return slope

    def product(self, v: Array) -> Array:
        return np.asarray(self.diagonal * v - self.e * self.odds.product(self.e * v))

    def weights(self) -> Any:
        """n_ij p_ij p_ji, sparse."""
        from scipy.sparse import csr_array

        A = csr_array(self.wins.compared)
        i, j = np.repeat(self.e, np.diff(A.indptr)), self.e[A.indices]
        A.data = A.data * (i / (i + j)) * (j / (i + j))
        return A


def newton(wins: Wins, ridge: float, steps: int = STEPS) -> tuple[Array, int]:
    """Minimize the NLL plus ridge |r|^2/2; returns the rewards and the number of steps."""
    nll, r = Likelihood(wins, ridge), stretched_odds(wins)
    slope, nats = nll.slope(r), np.inf
    for k in range(steps):
        nats = float(np.max(np.abs(slope) / nll.diagonal))
        goal = min(0.05, max(0.1 * nats, 1e-6))
        step = nll.hessian.solve(nll.diagonal, -slope, goal, nll.noise)
        length = float(np.ptp(step)) if not ridge else float(2 * np.max(np.abs(step)))
        if length < CLOSE:
            return r + step, k + 1
        r, slope = _advance(nll, r, step, length)
    raise SolveError(f"Bradley-Terry did not settle in {steps} Newton steps: the last would have moved a reward by {nats:.3g} nats")


def stretched_odds(wins: Wins) -> Array:
    """A first guess: log-odds of win rates (half a win added, half a loss), over sqrt(1 - their variance/2.89), at most doubled."""
    lost = np.asarray(wins.counts.sum(axis=0)).ravel()
    r = np.log(wins.won + 0.5) - np.log(lost + 0.5)
    r = r - np.mean(r)
    return np.asarray(r / np.sqrt(np.maximum(0.25, 1.0 - np.var(r) / 2.89)))


def _advance(nll: Likelihood, r: Array, step: Array, length: float) -> tuple[Array, Array]:
    """The whole step if it surely or visibly descends, else the part of it that surely does."""
    share = min(1.0, 0.5 * WIDEST / length)
    new = nll.slope(r + share * step)
    if length > SURE and np.dot(new, step) > 0:
        share = float(np.log1p(length) / length)
        new = nll.slope(r + share * step)
    r = r + share * step
    if np.ptp(r) > WIDEST:
        raise SolveError(f"rewards range over more than {WIDEST:g} nats: the counts are beyond what floats can weigh")
    return r, new
