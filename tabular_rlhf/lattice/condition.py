r"""A required format: the reference given that the whole response has it, and what masking tokens makes instead.

**Symbols.**  y(s) is the probability that a response through s will have the format, by a backward sweep in logarithms.

    given    pi(a given s) = pi_ref y(s')/y(s)        the reference conditioned on the format: KL(given, p_ref) = -log y(root);
    masked   pi(a given s) ~ pi_ref 1{y(s') > 0}      tokens that lead nowhere are forbidden, the rest renormalized: constrained decoding.

**Theorem** (masking is not conditioning).  Masking looks whether y(s') is 0, conditioning how large it is: a token is taken with its old
probability even if hardly any way from there has the format.  The two agree only where y is the same for all allowed tokens.

>>> from tabular_rlhf.language import Language
>>> from tabular_rlhf.lattice.flow import kl
>>> from tabular_rlhf.machines import lattice, matches, product, uniform
>>> x = Language(("a", "b", "."), 12, eos=".", sep="")
>>> w = lattice(x, product(x, [uniform(x), matches(x, "(a|b)*aa")]), 1.0)
>>> given, masked = Given(w, rewarded(w)), Masked(w, rewarded(w))
>>> round(float(np.exp(given.log_mass[0])), 6), round(float(kl(given, masked)[0]), 6)
(0.111111, 0.82237)
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from tabular_rlhf.errors import InputError
from tabular_rlhf.lattice.policy import Backward, Of
from tabular_rlhf.lattice.world import LatticeWorld
from tabular_rlhf.logspace import Array, logsumexp

Accept = Mapping[int, Any]
"""By id(level), (V, n): whether a response that ends with the edge has the format."""


def rewarded(world: LatticeWorld) -> Accept:
    """The format that pays a reward on the last edge, where nothing else does (`machines.matches`)."""
    return {id(level): (level.child == level.after) & (level.r > 0.0) for level in world.distinct}


class _Ahead(Of):
    """log y of every level, the end's last."""

    def __init__(self, world: LatticeWorld, accept: Accept) -> None:
        super().__init__(world)
        self.accept = accept
        self.log_y = Backward(self._step, np.zeros(1), world.H, 8 * max(level.n for level in world.levels))
        if not np.all(self.log_y[0][world.roots[world.mu > 0]] > -np.inf):
            raise InputError("some possible response must have the format", got="probability 0", remedy="widen it, or lengthen the horizon")

    _same_rows = False

    @property
    def log_mass(self) -> Array:
        """log of the reference's probability of the format, for each prompt: (P,), nats."""
        return np.asarray(self.log_y[0][self.world.roots])

    def _edges(self, h: int, after: Array) -> Array:
        """log y of what an edge leads to, -inf where that cannot have the format."""
        level = self.world.levels[h]
        ahead = level.pull(after)
        dead = (level.child == level.after) & ~self.accept[id(level)]
        return np.where(dead | np.isneginf(level.log_ref), -np.inf, ahead)

    def _step(self, h: int, after: Array) -> Array:
        return np.append(logsumexp(self.world.levels[h].log_ref + self._edges(h, after), axis=0), 0.0)

    @abstractmethod
    def _gain(self, h: int) -> Array:
        """log(pi/pi_ref), -inf where pi is 0; 0 in states that no response of the format reaches."""

    def ratio(self, h: int) -> Array:
        """log(pi/pi_ref), 0 where pi is 0."""
        gain = self._gain(h)
        return np.where(np.isneginf(gain), 0.0, gain)

    def log_pi(self, h: int) -> Array:
        """log pi."""
        return self.world.levels[h].log_ref + self._gain(h)


class Given(_Ahead):
    """The reference given the format.  Raises: InputError where no possible response has it."""

    def _gain(self, h: int) -> Array:
        here = self.log_y[h][:-1]
        lost = np.isneginf(here)
        return np.where(lost, 0.0, self._edges(h, self.log_y[h + 1]) - np.where(lost, 0.0, here))


class Masked(_Ahead):
    """The reference with tokens forbidden that lead nowhere, renormalized.  Raises: as `Given`."""

    def _gain(self, h: int) -> Array:
        level = self.world.levels[h]
        open_ = self._edges(h, self.log_y[h + 1]) > -np.inf
        left = np.sum(np.where(open_, level.ref, 0.0), axis=0)
        lost = left == 0.0
        return np.where(lost, 0.0, np.where(open_, -np.log(np.where(lost, 1.0, left)), -np.inf))
