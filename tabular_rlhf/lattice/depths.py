r"""Policies with a row of their own for every state of every depth of a lattice: a trainer's logits, where prefixes are not listed.

**Parameters.**  R = sum over depths of the states there; a table (R, V) has the rows of level h at offsets[h], ..., offsets[h + 1].  The
optimum p* is such a policy: soft values depend on depth and state.  Prefixes that a lattice merges share their row, so a step of
ascent is not that of a tree's own rows, but where it leads is the same.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tabular_rlhf.errors import InputError
from tabular_rlhf.lattice.policy import Of
from tabular_rlhf.lattice.world import LatticeWorld
from tabular_rlhf.logspace import Array
from tabular_rlhf.mdp import Indices

MOST = 2**24
"""Parameters."""


def offsets_of(world: LatticeWorld) -> Indices:
    """The first row of every level, and R at the end: (H + 1,).  Raises: InputError where the table would not fit.

    >>> from tabular_rlhf.lattice import unmerged
    >>> from tabular_rlhf.world import rational
    >>> offsets_of(unmerged(rational())).tolist()
    [0, 1, 2]
    """
    offsets = np.concatenate([[0], np.cumsum([level.n for level in world.levels])])
    if int(offsets[-1]) * world.language.V > MOST:
        got = f"{int(offsets[-1]):,} states of all depths, {world.language.V} tokens"
        raise InputError(f"a policy must have at most {MOST:,} parameters", got=got, remedy="shorten the horizon, or merge more states")
    return offsets


def flat(levels: Iterable[Array]) -> Array:
    """Tables (V, n_h) of all levels, one after the other, as one of rows: (R, V)."""
    return np.concatenate([np.asarray(x).T for x in levels])


class ByDepth(Of):
    """The policy of rows log pi (R, V), -inf where the reference forbids.

    >>> from tabular_rlhf.lattice import Reference
    >>> from tabular_rlhf.world import rational
    >>> w = Reference(rational()).world
    >>> ByDepth(w, flat(Reference(w).log_pi(h) for h in range(w.H))).ratio(1).tolist()
    [[0.0], [0.0]]
    """

    _same_rows = False

    def __init__(self, world: LatticeWorld, log_pi: Array) -> None:
        super().__init__(world)
        self.rows, self.offsets = log_pi, offsets_of(world)

    def log_pi(self, h: int) -> Array:
        return np.ascontiguousarray(self.rows[self.offsets[h] : self.offsets[h + 1]].T)
