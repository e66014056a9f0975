"""Tiny worlds: at most three responses over all prompts, few enough to check by hand, and together without a habit.

What a wrong formula could get away with changes from world to world, each at a pace of its own, so that all combinations occur: beta
from 1/64 to 64 (rewards over beta reach hundreds); the best, the worst or all rewards tied, on references that are uneven; prompts that
are equally likely, not so, or of probability 0; and, in worlds kept apart, tokens that the reference forbids.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tabular_rlhf.logspace import Array, log_softmax
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.policy import dirichlet, uniform
from tabular_rlhf.symbols import Scope, half_integers
from tabular_rlhf.world import World

Shape = tuple[int, int, int, bool]
COUNTS: dict[Shape, int] = {
    (1, 1, 1, False): 1,
    (1, 2, 1, False): 1,
    (1, 3, 1, False): 2,
    (2, 1, 1, False): 14,
    (1, 1, 2, False): 4,
    (1, 2, 2, False): 2,
    (3, 1, 1, False): 16,
    (2, 2, 1, True): 16,
    (1, 1, 3, False): 4,
}
"""Vocabulary, horizon, prompts, EOS; and of how many worlds a round.  Most of them have something to choose."""
GAPS: dict[Shape, int] = {(2, 1, 1, False): 3, (3, 1, 1, False): 6, (2, 2, 1, True): 6}
ROUNDS, ROUNDS_OF_GAPS = 4, 2
BETAS = (0.5, 2.0, 0.25, 1.0, 64.0, 1 / 64, 3.0)
TIES = ("", "best", "", "worst", "all")
EVEN = 6
"""One reference in so many is uniform."""


def tiny_worlds(seed: int, turn: int = 0) -> list[World]:
    """One round of worlds of one to three responses over all prompts, fewest first, in which no token is forbidden."""
    return _ordered(_made(np.random.default_rng([seed, 2, turn]), COUNTS, turn, forbids=False))


def tiny_gaps(seed: int, turn: int = 0) -> list[World]:
    """The same where the reference forbids some token: a response of probability 0, log-probability -inf."""
    return _ordered(_made(np.random.default_rng([seed, 3, turn]), GAPS, turn, forbids=True))


def tiny_scopes(seed: int) -> list[Scope]:
    """The rounds of tiny worlds, fewest responses first in each, with their own draws of policies, counts and people."""
    return [Scope(w, seed + i + 1000 * turn) for turn in range(ROUNDS) for i, w in enumerate(tiny_worlds(seed, turn))]


def gap_scopes(seed: int) -> list[Scope]:
    """The rounds of tiny worlds that forbid a token."""
    return [Scope(w, seed + i + 1000 * turn + 500) for turn in range(ROUNDS_OF_GAPS) for i, w in enumerate(tiny_gaps(seed, turn))]


def _ordered(worlds: Iterator[World]) -> list[World]:
    return sorted(worlds, key=lambda w: w.responses)


def _made(rng: np.random.Generator, counts: dict[Shape, int], turn: int, *, forbids: bool) -> Iterator[World]:
    shapes = [shape for shape, count in counts.items() for _ in range(count)]
    for k, (V, H, P, eos) in enumerate(shapes, 2 * turn):
        mdp = TokenMDP(V, H, eos=V - 1 if eos else None, prompts=[f"x{i}" for i in range(P)], mu=prompt_odds(P, k))
        log_ref = uniform(mdp) if k % EVEN == EVEN - 1 else dirichlet(mdp, 2.0, rng=rng)
        r = tied(half_integers(rng, (P, mdp.N)), TIES[k % len(TIES)])
        yield World(mdp, with_gaps(log_ref, rng) if forbids else log_ref, r, BETAS[k % len(BETAS)], name="tiny")


def prompt_odds(P: int, k: int) -> Array:
    """Prompts in turn equally likely, each likelier than the one before, and the last of probability 0."""
    odds = np.array([np.ones(P), np.arange(1.0, P + 1.0), np.arange(P, 0.0, -1.0) - (P > 1)][k % 3])
    return odds / np.sum(odds)


def tied(r: Array, which: str) -> Array:
    """Rewards of which the best two, the worst two or all of each prompt are made equal, wherever in the list they stand.

    >>> tied(np.array([[3.0, 1.0, 2.0]]), "best").tolist()
    [[2.0, 1.0, 2.0]]
    """
    last = r.shape[1] - 1
    rank = np.argsort(np.argsort(r, axis=1, kind="stable"), axis=1, kind="stable")
    level = {"": rank, "best": np.minimum(rank, last - 1), "worst": np.clip(rank, min(1, last), last), "all": 0 * rank}[which]
    return np.take_along_axis(np.sort(r, axis=1), level, axis=1)


def with_gaps(log_ref: Array, rng: np.random.Generator) -> Array:
    """A reference with some tokens forbidden, one at least kept in every state and one at least forbidden in the first."""
    V = log_ref.shape[-1]
    kept = np.arange(V) == rng.integers(V, size=(*log_ref.shape[:-1], 1))
    banned = ~kept & (rng.random(log_ref.shape) < 0.5)
    banned[:, 0, :] |= np.arange(V) == (np.argmax(kept[:, 0, :], axis=-1)[:, None] + 1) % V
    return log_softmax(np.where(banned, -np.inf, log_ref))
