r"""A lattice: the prefix tree with its equal states merged, level by level.  Responses are paths, and there may be 10^100 of them.

**Symbols.**  Level h has n_h states; edge (s, a) leads to a state of level h + 1, or ends the response.  Reference and reward live on
edges: log_ref and r are (V, n_h), token-major; the reward of a response is the sum along its path, its probability the product.

    pull    values of children to edges:  x (n_{h+1} + 1) -> (V, n_h),       push    mass of edges to children:  its transpose.

A response that has ended is one more child, the last: values carry one entry more than there are states, that of the end.

**Theorem.**  Any function of the responses with a recurrence u(edge . rest) = A(edge) u(rest) has its mean and variance by sweeps over
states (`path`): what grows is the number of responses, not the work.  A tree is the lattice in which nothing is merged (`unmerged`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from tabular_rlhf.errors import InputError, as_floats, positive
from tabular_rlhf.language import Language
from tabular_rlhf.logspace import Array
from tabular_rlhf.mdp import Indices
from tabular_rlhf.registry import settle
from tabular_rlhf.world import World

if TYPE_CHECKING:
    from scipy.sparse import csr_array


class NotListed(InputError):
    """What only a list of all responses has, asked of a world that has no list."""

    def __init__(self, responses: str, what: str, remedy: str) -> None:
        super().__init__("responses must be listed", got=f"{responses} of them", where=what, remedy=remedy)
        self.args = (f"{responses} responses are not listed: {remedy}",)


@dataclass(frozen=True, eq=False)
class Level:
    """The edges of one depth.

    child (V, n): the state that an edge leads to, `after` (their number) where it ends the response; log_ref (V, n), -inf where
    forbidden; r (V, n), reward units, 0 where forbidden.
    """

    child: Indices
    log_ref: Array
    r: Array
    after: int

    @property
    def n(self) -> int:
        """States."""
        return self.child.shape[1]

    @cached_property
    def ref(self) -> Array:
        """pi_ref, (V, n)."""
        return np.exp(self.log_ref)

    @cached_property
    def forbidden(self) -> Any:
        """Where the reference forbids, (V, n); None where it forbids nothing."""
        never = np.isneginf(self.log_ref)
        return never if never.any() else None

    @cached_property
    def deep(self) -> bool:
        """Whether some possible token is too improbable for a float to hold."""
        return bool(np.any((self.log_ref < -700.0) & (self.log_ref > -np.inf)))

    @cached_property
    def ends(self) -> bool:
        """Whether some possible edge ends the response."""
        return bool(np.any((self.child == self.after) & (self.log_ref > -np.inf)))

    def pull(self, x: Array) -> Array:
        """Values of children, (after + 1, ...), on edges: (V, n, ...)."""
        return x.take(self.child, axis=0)

    def push(self, mass: Array) -> Array:
        """Mass on edges, (V, n), at the children: (after + 1,), what has ended last."""
        out: Array = np.bincount(np.ravel(self.child), np.ravel(mass), self.after + 1).astype(np.float64, copy=False)
        return out

    def matrix(self, weight: Array) -> csr_array:
        """Weights on edges (V, n) as a sparse matrix (n, after + 1): times values of children, the weighted sum over tokens."""
        from scipy.sparse import csr_array  # a third of a second at start-up, for those who sweep only

        indices, indptr = self._places
        return csr_array((np.ravel(weight.T), indices, indptr), shape=(self.n, self.after + 1))

    @cached_property
    def _places(self) -> tuple[Any, Any]:
        V, n = self.child.shape
        return np.ravel(self.child.T).astype(np.int32), np.arange(0, n * V + 1, V, dtype=np.int32)


@dataclass(frozen=True, eq=False)
class LatticeWorld:
    """A language, the levels of a lattice (H of them; equal ones may be one object), the first state of every prompt (P,), and beta.

    Raises: InputError where levels do not fit together, rows do not normalize, or rewards are no numbers.

    >>> from tabular_rlhf.world import coin
    >>> w = unmerged(coin()); w.levels[0].r.tolist(), w.states
    ([[0.0], [1.0]], 1)
    >>> w.r
    Traceback (most recent call last):
    ...
    tabular_rlhf.lattice.world.NotListed: 2 responses are not listed: use expect, law or sample
    """

    language: Language
    levels: Sequence[Level]
    roots: Indices
    beta: float
    name: str = "world"

    def __post_init__(self) -> None:
        settle(self, beta=positive(self.beta, "beta", "reward units per nat"), roots=np.asarray(self.roots, dtype=np.intp))
        if len(self.levels) != self.H or self.roots.shape != (self.language.P,):
            got = f"{len(self.levels)} levels and {self.roots.shape} roots"
            raise InputError(f"a lattice must have {self.H} levels, and a root for each prompt", got=got, remedy="see `machines.lattice`")
        for level in self.distinct:
            _check(level, self.language)

    # ---------------------------------------------------------------- sizes
    @property
    def H(self) -> int:
        """Horizon."""
        return self.language.H

    @property
    def mu(self) -> Array:
        """The distribution over prompts, (P,)."""
        return self.language.mu

    @cached_property
    def distinct(self) -> list[Level]:
        """The levels that differ, from the first to the last."""
        return list({id(level): level for level in self.levels}.values())

    @property
    def states(self) -> int:
        """States of all levels that differ."""
        return sum(level.n for level in self.distinct)

    @property
    def responses(self) -> str:
        """How many responses there are to a prompt: a power of ten where there are many."""
        digits = self.language.log10_responses
        return f"{round(10**digits):,}" if digits < 15 else f"10^{digits:.0f}"

    def at(self, beta: float) -> LatticeWorld:
        """The same world with another KL weight."""
        return replace(self, beta=beta)

    # ---------------------------------------------------------------- what is not there
    @property
    def r(self) -> Any:
        """Refused: see `lattice.law.reward_law` and `path.expect`."""
        self.refuse("r")

    @property
    def log_p_ref(self) -> Any:
        """Refused: see `path.expect`."""
        self.refuse("log_p_ref")

    @property
    def log_ref(self) -> Any:
        """Refused: the reference stands on the levels."""
        self.refuse("log_ref", "use levels[h].log_ref")

    def refuse(self, what: str, remedy: str = "use expect, law or sample") -> NoReturn:
        """Raise the sentence that says so."""
        raise NotListed(self.responses, what, remedy)


def _check(level: Level, language: Language) -> None:
    """Shapes, rows that normalize, finite rewards."""
    shape = (language.V, level.n)
    log_ref = as_floats(level.log_ref, "log_ref of a level", shape, minus_inf=True)
    as_floats(level.r, "r of a level", shape)
    if level.child.shape != shape or np.min(level.child, initial=0) < 0 or np.max(level.child, initial=0) > level.after:
        raise InputError("edges must lead to states of the next level, or end", got=level.child.shape, remedy="see `Level`")
    total = np.sum(np.exp(log_ref), axis=0)
    bad = np.flatnonzero(np.abs(total - 1.0) > 1e-9)
    if bad.size:
        s = int(bad[0])
        remedy = "allow a token there" if total[s] == 0 else "pass logits through log_softmax"
        raise InputError("log_ref must normalize in every state", got=f"a sum of {total[s]:.6g}", where=f"state {s}", remedy=remedy)


def unmerged(world: World) -> LatticeWorld:
    """A listed world as the lattice in which nothing is merged: level h has the P K^h states of the tree, rewards on the last edges.

    >>> from tabular_rlhf.world import rational
    >>> [level.n for level in unmerged(rational()).levels]
    [1, 1]
    """
    mdp = world.mdp
    P, K, V, H = mdp.P, mdp.K, mdp.V, mdp.H
    levels = []
    for h, rows in enumerate(mdp.levels(world.log_ref)):
        width, last = K**h, h == H - 1
        after = 0 if last else P * width * K
        child = np.full((V, P, width), after, dtype=np.intp)
        r = np.zeros((V, P, width))
        if last:
            r[...] = np.moveaxis(world.r[:, mdp.last_block :].reshape(P, V, width), 1, 0)
        else:
            child[:K] = np.arange(P)[:, None] * (width * K) + np.arange(K)[:, None, None] * width + np.arange(width)
            if mdp.eos is not None:
                r[K] = world.r[:, mdp.offsets[h] : mdp.offsets[h] + width]
        log_ref = np.moveaxis(rows, 1, 0).reshape(V, P * width)
        child, r = child.reshape(V, -1), r.reshape(V, -1)
        never = np.isneginf(log_ref)
        levels.append(Level(np.where(never, after, child), np.ascontiguousarray(log_ref), np.where(never, 0.0, r), after))
    return LatticeWorld(mdp, levels, np.arange(P), world.beta, world.name)


def as_lattice(world: World | LatticeWorld) -> LatticeWorld:
    """The world itself if it is a lattice, else its tree as one."""
    return world if isinstance(world, LatticeWorld) else unmerged(world)
