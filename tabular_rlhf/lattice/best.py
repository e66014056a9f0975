r"""The likeliest responses of a policy, by a backward sweep that keeps the k best ways to go on from every state.

best_k(s) = the k largest of  log pi(a given s) + each of best_k(s'),      with the token and the rank that each came from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tabular_rlhf.errors import InputError, whole
from tabular_rlhf.lattice.policy import Policy
from tabular_rlhf.lattice.world import LatticeWorld
from tabular_rlhf.logspace import Array

MOST = 2**26
"""Back pointers that are kept."""


@dataclass(frozen=True, eq=False)
class Path:
    """One response: its prompt, tokens, and log pi."""

    prompt: int
    tokens: tuple[int, ...]
    log_p: float


def likeliest(policy: Policy, k: int) -> list[Path]:
    """The k likeliest (prompt, response), weighed by mu, likeliest first; fewer where fewer are possible.

    Raises: InputError where the way back does not fit in memory.

    >>> from tabular_rlhf.lattice import solve
    >>> from tabular_rlhf.world import rational
    >>> [(p.tokens, round(np.exp(p.log_p) * 19)) for p in likeliest(solve(rational()), 2)]
    [((0, 0), 12), ((0, 1), 4)]
    """
    world = policy.world
    whole(k, "the number of responses", 1, "6 is usual")
    if k * sum(level.n for level in world.levels) > MOST:
        got = f"{k} ways from each of {sum(level.n for level in world.levels):,} states"
        raise InputError("the way back of the likeliest responses must fit in memory", got=got, remedy="ask for fewer, or draw samples")
    best = np.full((1, k), -np.inf)
    best[0, 0] = 0.0
    back = []
    for h in reversed(range(world.H)):
        level = world.levels[h]
        ways = (policy.log_pi(h)[:, :, None] + level.pull(best)).transpose(1, 0, 2).reshape(level.n, k * len(level.child))
        top = np.sort(np.argpartition(-ways, k - 1, axis=1)[:, :k], axis=1)
        top = np.take_along_axis(top, np.argsort(-np.take_along_axis(ways, top, axis=1), axis=1, kind="stable"), axis=1)
        end = np.full((1, k), -np.inf)
        end[0, 0] = 0.0
        best = np.concatenate([np.take_along_axis(ways, top, axis=1), end])
        back.append(top.astype(np.int32))
    back.reverse()
    first: Array = world.language.log_mu[:, None] + best[world.roots]
    order = np.argsort(-np.ravel(first), kind="stable")[:k]
    places = [(int(i) // k, int(i) % k) for i in order if np.ravel(first)[i] > -np.inf]
    return [Path(x, _follow(world, back, int(world.roots[x]), rank), float(best[world.roots[x], rank])) for x, rank in places]


def _follow(world: LatticeWorld, back: list[Any], state: int, rank: int) -> tuple[int, ...]:
    """The tokens of one rank, forward along the pointers."""
    tokens: list[int] = []
    for level, pointers in zip(world.levels, back, strict=True):
        a, rank = divmod(int(pointers[state, rank]), pointers.shape[1])
        tokens.append(a)
        state = int(level.child[a, state])
        if state == level.after:
            break
    return tuple(tokens)
