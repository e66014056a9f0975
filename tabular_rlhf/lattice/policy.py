r"""Policies of a lattice: rows by level, never one table of all levels.  The reference, and rows of one's own.

**Symbols.**  pi(h) is (V, n_h); ratio(h) = log(pi/pi_ref), 0 where pi is 0.

Rows of the optimum follow from the values of two levels.  Of a long horizon's values every so-manieth is kept (`Backward`), the rest is
made again where it is needed.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tabular_rlhf.errors import InputError
from tabular_rlhf.lattice.world import LatticeWorld, as_lattice
from tabular_rlhf.logspace import Array, log_ratio
from tabular_rlhf.world import World

if TYPE_CHECKING:
    from scipy.sparse import csr_array

KEPT = 48 * 2**20
"""Bytes of values that a backward sweep keeps; more are made again from every sqrt(H)-th level."""


class Backward:
    """The values of a backward recurrence, value_h = step(h, value_{h+1}), each at hand for whoever asks.

    >>> x = Backward(lambda h, after: after + h, np.zeros(1), 4); [x[h].item() for h in range(5)]
    [6.0, 6.0, 5.0, 3.0, 0.0]
    """

    def __init__(self, step: Callable[[int, Array], Array], end: Array, H: int, size: int = 0) -> None:
        self.step, self.H = step, H
        self.stride = 1 if size * H <= KEPT else math.isqrt(H) + 1
        self.kept, self.segment = {H: end}, dict[int, Array]()
        here = end
        for h in reversed(range(H)):
            here = step(h, here)
            if h % self.stride == 0:
                self.kept[h] = here

    def __getitem__(self, h: int) -> Array:
        if h in self.kept:
            return self.kept[h]
        if h not in self.segment:
            below = h // self.stride * self.stride
            top = min(self.H, below + self.stride)
            here, self.segment = self.kept[top], {}
            for k in reversed(range(below + 1, top)):
                here = self.segment[k] = self.step(k, here)
        return self.segment[h]


class Policy(Protocol):
    """What every policy of a lattice offers, by level: rows (V, n_h), their logarithms, and log(pi/pi_ref), 0 where pi is 0."""

    @property
    def world(self) -> LatticeWorld: ...
    def pi(self, h: int) -> Array: ...
    def log_pi(self, h: int) -> Array: ...
    def ratio(self, h: int) -> Array: ...
    def mean(self, x: Mapping[int, Array]) -> Array: ...


class Of(ABC):
    """The world that a policy belongs to, a lattice, or a listed world's tree as one; and what follows from its log pi."""

    def __init__(self, world: World | LatticeWorld) -> None:
        self._world = as_lattice(world)

    @property
    def world(self) -> LatticeWorld:
        """The lattice."""
        return self._world

    @abstractmethod
    def log_pi(self, h: int) -> Array:
        """log pi of level h, (V, n_h)."""

    def pi(self, h: int) -> Array:
        """pi."""
        return np.exp(self.log_pi(h))

    def ratio(self, h: int) -> Array:
        """log(pi/pi_ref), 0 where pi is 0."""
        return np.asarray(log_ratio(self.log_pi(h), self.world.levels[h].log_ref))

    def mean(self, x: Mapping[int, Array]) -> Array:
        """E of the sum of x along the path, for each prompt, (P,), where x (V, n) is told by id(level): one sparse product a level."""
        m, known = np.zeros(1), self._same_rows
        here: dict[int, tuple[csr_array, Array]] = {}
        for h in reversed(range(self.world.H)):
            level = self.world.levels[h]
            if id(level) not in here or not known:
                pi = self.pi(h)
                here[id(level)] = level.matrix(pi), np.einsum("vn,vn->n", pi, x[id(level)])
            A, own = here[id(level)]
            m = np.append(own + A @ m, 0.0)
        return np.asarray(m[self.world.roots])

    _same_rows = True
    """Whether the rows are those of the level, whatever the depth."""


class Reference(Of):
    """The reference policy.

    >>> from tabular_rlhf.world import coin
    >>> Reference(coin()).pi(0).tolist()
    [[0.5], [0.5]]
    """

    def pi(self, h: int) -> Array:
        return self.world.levels[h].ref

    def log_pi(self, h: int) -> Array:
        return self.world.levels[h].log_ref

    def ratio(self, h: int) -> Array:
        return np.zeros_like(self.world.levels[h].log_ref)


class Rows(Of):
    """A policy of one's own: log pi of every level that differs, (V, n), in the order of `distinct`.  -inf forbids.

    Raises: InputError for rows that do not normalize, or that say what the reference forbids.
    """

    def __init__(self, world: World | LatticeWorld, rows: Sequence[Any]) -> None:
        super().__init__(world)
        levels = self.world.distinct
        if len(rows) != len(levels):
            raise InputError("rows must be given for each level that differs", got=len(rows), remedy=f"pass {len(levels)} tables")
        self._log, self._pi, self._ratio = {}, {}, {}
        for level, log_pi in zip(levels, rows, strict=True):
            log_pi = np.asarray(log_pi, dtype=np.float64)
            with np.errstate(over="ignore"):
                total = np.sum(np.exp(log_pi), axis=0)
            if log_pi.shape != level.child.shape or np.isnan(total).any() or np.any(np.abs(total - 1.0) > 1e-9):
                raise InputError("rows must normalize in every state", got=log_pi.shape, remedy="pass logits through log_softmax, axis 0")
            if np.any(np.isneginf(level.log_ref) & ~np.isneginf(log_pi)):
                raise InputError("pi_ref must allow what pi says", got="log-probability -inf", remedy="forbid the token in pi too")
            self._log[id(level)], self._pi[id(level)], self._ratio[id(level)] = log_pi, np.exp(log_pi), log_ratio(log_pi, level.log_ref)

    def pi(self, h: int) -> Array:
        return self._pi[id(self.world.levels[h])]

    def log_pi(self, h: int) -> Array:
        return self._log[id(self.world.levels[h])]

    def ratio(self, h: int) -> Array:
        return self._ratio[id(self.world.levels[h])]
