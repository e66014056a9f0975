r"""Drawn responses of a lattice as a list of their own: a small world on which everything that wants a list runs as it stands.

n responses have n T states, one for each response and depth, T the length of the longest: copies of the lattice's states.  What is computed
in rows of copies belongs to the rows that they are copies of, and gradients in copies add up (`Listing.give`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tabular_rlhf.autodiff import primitive
from tabular_rlhf.errors import InputError
from tabular_rlhf.language import Language
from tabular_rlhf.lattice.depths import offsets_of
from tabular_rlhf.lattice.draws import Drawn
from tabular_rlhf.lattice.world import LatticeWorld
from tabular_rlhf.logspace import Array
from tabular_rlhf.mdp import Indices, TokenMDP
from tabular_rlhf.registry import settle
from tabular_rlhf.world import World

MOST = 2**25
"""Numbers in the rows of one list."""


class Said(TokenMDP):
    """The tree of n responses that share nothing: tokens (n, T), -1 after the end; state i T + h is that of response i at depth h."""

    def __init__(self, language: Language, tokens: Indices) -> None:
        n, T = tokens.shape
        if n * T * language.V > MOST:
            got = f"{n:,} responses of {T:,} tokens"
            raise InputError("a batch must fit in memory", got=got, remedy="take smaller batches, or shorten the horizon")
        super().__init__(language.vocabulary, T, language.eos, sep=language.sep)
        settle(self, said=tokens, at=np.flatnonzero(np.ravel(tokens) >= 0))

    def _require_room(self, V: int, horizon: Any, eos: bool, P: int) -> None:
        """A list is as large as its responses, not as a tree."""

    said: Indices
    at: Indices

    @property
    def S(self) -> int:
        return int(self.said.size)

    @property
    def N(self) -> int:
        return len(self.said)

    @cached_property
    def lengths(self) -> Indices:
        return np.asarray(np.sum(self.said >= 0, axis=1))

    @cached_property
    def edges(self) -> Indices:
        """Where a token that was said stands in a flat (S, V) table."""
        return self.at * self.V + np.ravel(self.said)[self.at]

    def path_sum(self, x: Any) -> Any:
        return _path_sum(self, x)

    def subtree_sum(self, f: Any) -> Any:
        return _subtree_sum(self, f)

    def prefix_sum(self, x: Any) -> Any:
        n, T = self.said.shape
        here = np.zeros(n * T)
        here[self.at] = np.ravel(x)[self.edges]
        return np.reshape(np.cumsum(here.reshape(n, T), axis=1) - here.reshape(n, T), (1, -1))


def _along(mdp: Said, x: Any) -> Any:
    return np.bincount(mdp.at // mdp.H, np.ravel(x)[mdp.edges], mdp.N)[None].astype(np.float64, copy=False)


def _through(mdp: Said, f: Any) -> Any:
    out = np.zeros(mdp.S * mdp.V)
    out[mdp.edges] = np.ravel(f)[mdp.at // mdp.H]
    return out.reshape(1, mdp.S, mdp.V)


_path_sum: Callable[[Said, Any], Any] = primitive(_along, None, lambda g, y, mdp, x: _subtree_sum(mdp, g))
_subtree_sum: Callable[[Said, Any], Any] = primitive(_through, None, lambda g, y, mdp, f: _path_sum(mdp, g))


@dataclass(frozen=True, eq=False)
class Listing:
    """A list of responses: its world (one prompt, for all of them), the lattice's row that each of its rows copies, and R."""

    world: World
    rows: Indices
    R: int

    def take(self, table: Array) -> Array:
        """The lattice's rows (R, V), as the list has them: (1, S, V)."""
        return np.asarray(table[self.rows][None])

    def give(self, x: Array) -> Array:
        """Rows of the list (1, S, V) added up where they are copies of one: (R, V)."""
        V = x.shape[-1]
        code = self.rows[:, None] * V + np.arange(V)
        return np.asarray(np.bincount(np.ravel(code), np.ravel(x), self.R * V), dtype=np.float64).reshape(self.R, V)


def listing(world: LatticeWorld, drawn: Drawn, beta: float) -> Listing:
    """Drawn responses, with their tokens, as a list with the lattice's reference and reward, and this beta.

    >>> from tabular_rlhf.lattice import Reference
    >>> from tabular_rlhf.lattice.draws import sample
    >>> from tabular_rlhf.world import rational
    >>> drawn = sample(Reference(rational()), 3, rng=np.random.default_rng(0), tokens=True)
    >>> made = listing(Reference(rational()).world, drawn, 1.0); bool(np.allclose(made.world.log_p_ref, drawn.log_p_ref))
    True
    """
    tokens = np.asarray(drawn.tokens[:, : max(1, int(drawn.length.max()))], dtype=np.intp)
    mdp, offsets, first = Said(world.language, tokens), offsets_of(world), world.levels[0].log_ref.T[0]
    rows, log_ref = np.zeros(tokens.shape, dtype=np.intp), np.empty((*tokens.shape, mdp.V))
    state = world.roots[drawn.x]
    for h in range(tokens.shape[1]):  # after the end all copy the first row
        level, on = world.levels[h], tokens[:, h] >= 0
        here = np.where(on, state, 0)
        rows[:, h] = np.where(on, offsets[h] + here, 0)
        log_ref[:, h] = np.where(on[:, None], level.log_ref.T[here], first)
        state = np.where(on, level.child[np.where(on, tokens[:, h], 0), here], 0)
    at = World(mdp, log_ref.reshape(1, -1, mdp.V), drawn.r[None], beta, world.name)
    return Listing(at, np.ravel(rows), int(offsets[-1]))
