r"""The Gibbs optimum of a lattice: log Z, soft values and pi* by one backward sweep.

**T1, soft values.**  With beta nats = V - best, best(s) = max over possible a of r + best', the best reward still to be had,

    nats(s) = log sum_a pi_ref exp(q),   q = (r + best' - best)/beta + nats',      pi* = pi_ref exp(q - nats),

which keeps its digits at any beta, because what is tiny is not added to what is large.  Where rewards in nats are of ordinary size, sums
of weights are cheaper: z = W z', W = pi_ref exp(r/beta), and log Z = log z + a scale of the level.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from tabular_rlhf.lattice.policy import Backward, Of
from tabular_rlhf.lattice.world import LatticeWorld
from tabular_rlhf.logspace import Array, logsumexp
from tabular_rlhf.world import World

CLOSE = 0.5
"""Below this many nats of spread, log sum w exp(x) is log1p(sum w expm1(x))."""
WIDE = 300.0
"""Nats of reward within which weights are sure to be floats."""


class Soft(Of):
    """The Gibbs optimum of a lattice: log Z, soft values and pi* by one backward sweep.

    >>> from tabular_rlhf.world import rational
    >>> g = Soft(rational()); round(float(np.exp(g.log_Z[0]) * 9), 9)
    19.0
    """

    def __init__(self, world: World | LatticeWorld) -> None:
        super().__init__(world)
        self._values: _Nats | _Weights = _values(self.world)

    _same_rows = False

    def mean(self, x: Mapping[int, Array]) -> Array:
        return self._values.mean(x) if isinstance(self._values, _Weights) else super().mean(x)

    @cached_property
    def log_Z(self) -> Array:
        """log Z(x), nats: (P,)."""
        with np.errstate(over="ignore"):
            return np.asarray(self._values.nats(0)[self.world.roots] + self._values.best(0)[self.world.roots] / self.world.beta)

    @cached_property
    def V(self) -> Array:
        """beta log Z(x), reward units: (P,)."""
        return np.asarray(self._values.best(0)[self.world.roots] + self.world.beta * self._values.nats(0)[self.world.roots])

    @property
    def value(self) -> float:
        """max J = E_mu[V]."""
        return float(np.sum(self.world.mu * self.V))

    def V_s(self, h: int) -> Array:
        """Soft values of the states of level h, (n_h,), reward units."""
        return np.asarray(self._values.best(h) + self.world.beta * self._values.nats(h))[:-1]

    @property
    def p(self) -> Any:
        """Refused: see `path.expect`."""
        self.world.refuse("p")

    @property
    def log_p(self) -> Any:
        """Refused: see `path.expect`."""
        self.world.refuse("log_p")

    def pi(self, h: int) -> Array:
        return self._values.pi(h)

    def log_pi(self, h: int) -> Array:
        return self.world.levels[h].log_ref + self.ratio(h)

    def ratio(self, h: int) -> Array:
        return self._values.ratio(h)


def solve(world: World | LatticeWorld) -> Soft:
    """The Gibbs optimum of a lattice (of a listed world, of its tree as one).

    >>> from tabular_rlhf.world import coin
    >>> round(solve(coin()).value, 6)
    0.620115
    """
    return Soft(world)


def _values(world: LatticeWorld) -> _Nats | _Weights:
    """Sums of weights where they are as exact as logarithms, and floats: rewards in nats neither tiny nor large."""
    low, high = (max(float(np.max(sign * level.r, initial=0.0)) for level in world.distinct) for sign in (-1.0, 1.0))
    span, largest = low + high, max(low, high)
    plain = not any(level.deep or level.n == 0 for level in world.distinct)
    if plain and CLOSE * world.beta < span and largest < WIDE * world.beta:
        try:
            return _Weights(world)
        except _BeyondFloats:
            pass
    return _Nats(world)


class _BeyondFloats(ArithmeticError):
    """Weights of one level that floats do not hold side by side."""


class _Nats:
    """Soft values in two parts, best and nats, at any beta: (2, n + 1) a level, the end's last."""

    def __init__(self, world: LatticeWorld) -> None:
        self.world = world
        self.hard = Backward(self._best, np.zeros(1), world.H, 8 * max(level.n for level in world.levels))
        self.soft = Backward(self._step, np.zeros(1), world.H, 8 * max(level.n for level in world.levels))

    def best(self, h: int) -> Array:
        return self.hard[h]

    def nats(self, h: int) -> Array:
        return self.soft[h]

    def _best(self, h: int, after: Array) -> Array:
        level = self.world.levels[h]
        q = level.r + level.pull(after)
        if level.forbidden is not None:
            q[level.forbidden] = -np.inf
        return np.append(np.max(q, axis=0), 0.0)

    def _q(self, h: int, after: Array) -> Array:
        """q of every edge, -inf where forbidden."""
        level = self.world.levels[h]
        behind = level.r + level.pull(self.hard[h + 1])
        behind -= self.hard[h][:-1]
        if level.forbidden is not None:
            behind[level.forbidden] = 0.0
        with np.errstate(over="ignore"):
            q: Array = np.minimum(behind, 0.0) / self.world.beta + level.pull(after)
        if level.forbidden is not None:
            q[level.forbidden] = -np.inf
        return q

    def _step(self, h: int, after: Array) -> Array:
        top, spread = self._parts(h, self._q(h, after))
        return np.append(top + spread, 0.0)

    def _parts(self, h: int, q: Array) -> tuple[Array, Array]:
        """The largest q of a state, and log sum pi_ref exp(q - it): (n,) each; q becomes q less the largest."""
        level = self.world.levels[h]
        top = np.max(q, axis=0)
        q -= top
        if level.forbidden is not None:
            q[level.forbidden] = 0.0
        close = np.min(q, axis=0) > -CLOSE
        if close.all():
            return top, np.log1p(np.sum(level.ref * np.expm1(q), axis=0))
        if level.deep:  # what floats do not hold may be all that is left of a state
            spread = np.asarray(logsumexp(level.log_ref + q, axis=0))
        else:
            spread = np.log(np.sum(level.ref * np.exp(q), axis=0))
        if close.any():
            spread[close] = np.log1p(np.sum(level.ref[:, close] * np.expm1(q[:, close]), axis=0))
        return top, spread

    def ratio(self, h: int) -> Array:
        q = self._q(h, self.soft[h + 1])
        q -= self._parts(h, q)[1]  # which leaves q less its largest
        level = self.world.levels[h]
        if level.forbidden is not None:
            q[level.forbidden] = 0.0
        return q

    def pi(self, h: int) -> Array:
        level = self.world.levels[h]
        return np.exp(level.log_ref + self.ratio(h)) if level.deep else level.ref * np.exp(self.ratio(h))


class _Weights:
    """Sums of weights: z, largest 1 in each level, the end's weight, log of the level's scale, and z's largest before: (n + 3,)."""

    def __init__(self, world: LatticeWorld) -> None:
        self.world = world
        self.gain = {id(level): level.r / world.beta for level in world.distinct}
        self.weight = {id(level): level.ref * np.exp(self.gain[id(level)]) for level in world.distinct}
        self.matrix = {id(level): level.matrix(self.weight[id(level)]) for level in world.distinct}
        self.z = Backward(self._step, np.array([1.0, 0.0, 1.0]), world.H, 8 * max(level.n for level in world.levels))

    def _step(self, h: int, after: Array) -> Array:
        z = self.matrix[id(self.world.levels[h])] @ after[:-2]
        top = float(z.max())
        scale = after[-2] + math.log(top)
        ends = h > 0 and self.world.levels[h - 1].ends
        if z.min() < math.exp(-WIDE) * top or (ends and abs(scale) > WIDE):
            raise _BeyondFloats
        return np.concatenate([z / top, [math.exp(-scale) if ends else 0.0, scale, top]])

    def mean(self, x: Mapping[int, Array]) -> Array:
        """a = z m has the recurrence of z:  a = (W a' + (W x) z')/its scale."""
        paid = {id(level): level.matrix(self.weight[id(level)] * x[id(level)]).copy() for level in self.world.distinct}
        for A in paid.values():
            A.eliminate_zeros()  # few edges pay; in place, so of a copy: a level's matrices share where their entries are
        a = np.zeros(1)
        for h in reversed(range(self.world.H)):
            level, after, out = id(self.world.levels[h]), self.z[h + 1], np.zeros(self.world.levels[h].n + 1)
            np.add(self.matrix[level] @ a, paid[level] @ after[:-2], out=out[:-1])
            out /= self.z[h][-1]
            a = out
        return np.asarray(a[self.world.roots] / self.z[0][self.world.roots])

    def best(self, h: int) -> Array:
        return np.zeros(1 if h == self.world.H else self.world.levels[h].n + 1)

    def nats(self, h: int) -> Array:
        z = self.z[h]
        return np.append(np.log(z[:-3]) + z[-2], 0.0)

    def ratio(self, h: int) -> Array:
        """The scale of a long horizon's level is large, and would round what it is added to: one step of it is not."""
        level = self.world.levels[h]
        here, after = self.z[h], self.z[h + 1]
        out: Array = self.gain[id(level)] + level.pull(np.append(np.log(after[:-3]), -after[-2]))
        out -= np.log(here[:-3] * here[-1])
        if level.forbidden is not None:
            out[level.forbidden] = 0.0
        return out

    def pi(self, h: int) -> Array:
        level = self.world.levels[h]
        here, after = self.z[h], self.z[h + 1]
        out: Array = self.weight[id(level)] * level.pull(after[:-2])
        out *= 1.0 / (here[:-3] * here[-1])
        return out
