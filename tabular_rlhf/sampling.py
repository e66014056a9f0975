r"""Sampling, and the exact expectation as the same code on the weighted population.

**Symbols.** A data set of trajectories is index arrays x (prompts), tau (trajectories) and weights w that sum to one.

    population:  every (x, tau), w = mu(x) p(tau given x);       sample of n:  n draws, w = 1/n.

One function f(x, tau) and one sum, sum w f, serve both, so exact and sampled cannot drift apart; and the exact variance of
any one-draw estimator is  sum w f^2 - (sum w f)^2.

**Algorithm** (guide table; Chen and Asau 1974).  To invert the cumulative sum c at a uniform u, look up the first index
of the cell j = floor(u M), then search within the cell: one index on average.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from tabular_rlhf.errors import InputError, a_generator, as_floats, whole
from tabular_rlhf.kernels import blocks
from tabular_rlhf.logspace import Array
from tabular_rlhf.mdp import Indices
from tabular_rlhf.world import World

MOST = 2**27
"""Draws at once: their indices alone take a GiB."""


class Weighted(Protocol):
    """What can be averaged over: things with weights that sum to one; n draws, or None for the whole population."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def weight(self) -> Array: ...
    @property
    def n(self) -> int | None: ...


@dataclass(frozen=True, eq=False)
class Trajectories:
    """Weighted trajectories; data[table] is a (P, N) table on them.

    Args: x, tau, prompts and responses by number, index arrays that broadcast to the shape of the data; log_p, nats, of the law that they
    stand for; weight, which sums to one; n, the number of draws, or None for the whole population.
    Raises: IndexError in data[table] for a table that is smaller than the world.

    >>> from tabular_rlhf.world import coin
    >>> data = population(coin(), coin().log_p_ref)
    >>> data.shape, data.n, data[coin().r].tolist()
    ((1, 2), None, [[0.0, 1.0]])
    """

    x: Indices
    tau: Indices
    log_p: Array
    weight: Array
    n: int | None

    def __getitem__(self, table: Any) -> Any:
        """The values of a (P, N) table on these trajectories."""
        return table[self.x, self.tau]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of values on these trajectories."""
        return np.broadcast_shapes(self.x.shape, self.tau.shape)


def population(world: World, log_p: Any) -> Trajectories:
    """All trajectories with their exact weights mu(x) p(tau given x).

    Args: world; log_p (P, N), normalized, in nats.
    Returns: Trajectories of shape (P, N), n = None.
    Raises: InputError for a table of another shape, or one that is not a law.

    >>> from tabular_rlhf.world import coin
    >>> w = coin(); data = population(w, w.log_p_ref)
    >>> estimate(data, data[w.r]).mean
    0.5
    """
    log_p, p = _law(world, log_p)
    x = np.arange(world.mdp.P)[:, None]
    tau = np.arange(world.mdp.N)[None, :]
    return Trajectories(x, tau, log_p, world.mu[:, None] * p, None)


def _law(world: World, log_p: Any) -> tuple[Array, Array]:
    """log p and p of a law on the responses of every prompt, checked."""
    log_p = as_floats(log_p, "log_p", (world.mdp.P, world.mdp.N), minus_inf=True)
    with np.errstate(over="ignore"):
        p = np.exp(log_p)
        total = np.sum(p, axis=-1)
    bad = np.abs(total - 1.0) > 1e-6
    if bad.any():
        x = int(np.argmax(bad))
        remedy = "pass log-probabilities (not probabilities), for example log_softmax(...) or solve(world).log_p"
        raise InputError("log_p must be a law", got=f"probabilities that sum to {total[x]:.6g}", where=f"prompt {x}", remedy=remedy)
    return log_p, p


def sample(world: World, log_p: Any, n: int, *, rng: np.random.Generator) -> Trajectories:
    """n independent trajectories: x from mu, tau from p(. given x); each draw comes with its log-probability.

    Args: world; log_p (P, N), normalized, in nats; n, at least 1; rng, the only source of chance.
    Returns: Trajectories of shape (n,), each of weight 1/n.
    Raises: InputError for n < 1, for a table that is not a law, and for an rng that is no generator.
    Source: Chen and Asau (1974), the guide table by which the law is inverted.

    >>> from tabular_rlhf.world import coin
    >>> w = coin(); data = sample(w, w.log_p_ref, 10_000, rng=np.random.default_rng(0))
    >>> abs(estimate(data, data[w.r]).mean - 0.5) < 5 * 0.5 / 100
    True
    """
    whole(n, "the number of draws", 1, "ask for n >= 1, and for so many as fit in memory", most=MOST)
    log_p, weight = _law(world, log_p)
    if world.mdp.P > 1:
        weight = world.mu[:, None] * weight
    flat = draw(np.ravel(weight), n, rng=rng)
    if world.mdp.P == 1:
        x, tau = np.zeros(1, dtype=np.intp), flat
    else:
        x, tau = np.divmod(flat, world.mdp.N)
    return Trajectories(x, tau, np.ravel(log_p)[flat], np.full(1, 1.0 / n), n)


def draw(weights: Array, n: int, *, rng: np.random.Generator) -> Indices:
    """n independent indices with probabilities proportional to `weights` (M,): by a guide table, about O(M + n).

    >>> draw(np.array([0.0, 1.0, 0.0]), 3, rng=np.random.default_rng(0)).tolist()
    [1, 1, 1]
    """
    a_generator(rng)
    whole(n, "the number of draws", 0, "ask for so many as fit in memory", most=MOST)
    c = np.cumsum(weights)
    total = float(c[-1])
    if not (0 < total < np.inf):
        raise InputError("sampling weights must have a positive finite sum", got=total, remedy="normalize the law")
    rate = len(c) / total  # cells per unit of mass
    cells = np.empty(len(c), dtype=np.intp)
    for part in blocks(c.shape):
        np.multiply(c[part], rate, out=cells[part], casting="unsafe")
    guide = np.zeros(len(c) + 2, dtype=np.int32)
    np.cumsum(np.bincount(cells, minlength=len(c) + 1), out=guide[1:])
    index = np.empty(n, dtype=np.intp)
    for part in blocks(index.shape):
        index[part] = _invert(c, guide, rate, rng.random(len(index[part])) * total)
    last = int(np.searchsorted(c, total))  # the first index that reaches the whole mass: rounding may not go beyond it
    return np.minimum(index, last, out=index)


def _invert(c: Array, guide: Any, rate: float, x: Array) -> Indices:
    """The first index with c > x: look up the first of x's cell, then jump over those with c <= x by falling powers of two.

    No jump overshoots, because beyond the answer every c is larger than x.
    """
    cell = (x * rate).astype(np.int32)
    index: Indices = guide.take(cell)
    behind = np.flatnonzero(c.take(index, mode="clip") <= x)
    if behind.size:
        at, x = index[behind], x[behind]
        crowd = int((guide[cell[behind] + 1] - at).max())
        for k in reversed(range(crowd.bit_length())):
            at += (c.take(at + ((1 << k) - 1), mode="clip") <= x).astype(np.int32) << np.int32(k)
        index[behind] = at
    return index


TINY = 1e-290
"""Below this squares lose their digits."""
ROUNDING = 1e-12
"""Means that differ by less than this share of the values averaged are the same: thousands of roundings."""


@dataclass(frozen=True)
class Estimate:
    """A mean with what is known of its error: standard_error = sqrt(variance / n), and 0 for the population.

    Args: mean, in the unit of the values; variance, of one draw, in its square (inf where one draw is all there is); n, draws (None:
    exact); size, the mean magnitude of the values, which their rounding is relative to; spread, sqrt(variance) where the variance itself
    is too small or too large a number.
    Raises: nothing; `estimate` checks what it is made of.

    >>> Estimate(mean=0.4, variance=0.25, n=100).standard_error
    0.05
    """

    mean: float
    variance: float
    n: int | None
    size: float = 0.0
    spread: float | None = None

    def error_of(self, n: int | None) -> float:
        """The standard error of the mean of n such draws; 0 for the population (n None)."""
        spread = np.sqrt(self.variance) if self.spread is None else self.spread
        return 0.0 if n is None else float(spread / np.sqrt(n))

    @property
    def standard_error(self) -> float:
        return self.error_of(self.n)

    def z(self, exact: Estimate) -> float:
        """Distance from the exact mean in *exact* standard errors; 0 where both agree and nothing varies."""
        difference = self.mean - exact.mean
        error = exact.error_of(self.n)
        # a constant is estimated without error, up to the rounding of its values and of their mean
        if abs(difference) <= ROUNDING * max(abs(exact.mean), exact.size, self.size):
            return 0.0
        return difference / error if error > 0 else float(np.copysign(np.inf, difference))


def estimate(data: Weighted, values: Any) -> Estimate:
    """The mean sum w f and the variance of one draw, sum w f^2 - (sum w f)^2; on the population both are exact.

    Args: data, trajectories (or pairs of `preferences`); values, f on each of them, of the shape of the data; where the weight is zero they
    are ignored, even if infinite.
    Returns: Estimate, in the unit of the values; a sample's variance is unbiased (n - 1), and inf for a single draw.
    Raises: InputError for values of another shape, or not finite.

    >>> from tabular_rlhf.world import coin
    >>> w = coin(); data = population(w, w.log_p_ref)
    >>> estimate(data, data[w.r]).variance
    0.25
    """
    f = np.asarray(values)
    if f.shape != data.shape:
        remedy = "pass data[table] for a (P, N) table, or a function of data.log_p"
        raise InputError(f"values must be one for each trajectory, shape {data.shape}", got=f"shape {f.shape}", remedy=remedy)
    w = np.broadcast_to(data.weight, f.shape)
    f = np.where(w > 0, as_floats(np.where(w > 0, f, 0.0), "values", f.shape), 0.0)
    mean = np.sum(w * f)
    variance, spread = (np.inf, None) if data.n == 1 else _variance(w, f, mean, 1.0 if data.n is None else data.n / (data.n - 1))
    return Estimate(float(mean), float(variance), data.n, float(np.sum(w * np.abs(f))), spread)


def _variance(w: Array, f: Array, mean: Any, unbiased: float) -> tuple[Any, float | None]:
    """The variance; and its root, in units of the largest value, where squares of the values are no floats, or too few digits."""
    with np.errstate(over="ignore"):
        variance = unbiased * np.sum(w * np.square(f - mean))
    unit = 0.0 if TINY < variance < np.inf else float(np.max(np.abs(f), initial=0.0))
    return variance, unit * float(np.sqrt(unbiased * np.sum(w * np.square(f / unit - mean / unit)))) if unit > 0 else None
