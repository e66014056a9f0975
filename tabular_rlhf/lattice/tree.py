"""Tables of a listed world as policies of its tree, and back: a level has its states by prompt, then in the order of `TokenMDP`."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.lattice.policy import Policy, Rows
from tabular_rlhf.lattice.world import unmerged
from tabular_rlhf.logspace import Array
from tabular_rlhf.world import World


def rows_of(world: World, log_pi: Any) -> Rows:
    """log pi (P, S, V) of a listed world as a policy of its tree.  Raises: as `Rows`.

    >>> from tabular_rlhf.world import rational
    >>> [rows_of(rational(), rational().log_ref).ratio(h).tolist() for h in range(2)]
    [[[0.0], [0.0]], [[0.0], [0.0]]]
    """
    return Rows(unmerged(world), [np.moveaxis(x, 1, 0).reshape(world.mdp.V, -1) for x in world.mdp.levels(np.asarray(log_pi))])


def over_states(world: World, levels: list[Array]) -> Array:
    """Tables on the edges of the tree, (V, n_h) for each level, as one of the listed world: (P, S, V)."""
    V, P = world.mdp.V, world.mdp.P
    return np.concatenate([np.moveaxis(x.reshape(V, P, -1), 0, 2) for x in levels], axis=1)


def log_law(world: World, policy: Policy) -> Array:
    """log p of every response under a policy of the tree, (P, N), nats.

    >>> from tabular_rlhf.lattice import Reference
    >>> from tabular_rlhf.world import coin
    >>> np.exp(log_law(coin(), Reference(coin()))).tolist()
    [[0.5, 0.5]]
    """
    return np.asarray(world.mdp.path_sum(over_states(world, [policy.log_pi(h) for h in range(world.mdp.H)])))
