"""The worlds on which an answer is tried: tiny ones first, then larger ones, then those in which the reference forbids tokens.

Whatever a formula depends on changes among them, so that no constant can stand for it.

**Tiny worlds** have at most three responses over all prompts, few enough to check by hand, and together no habit.  What a wrong formula
could get away with changes from world to world, each at a pace of its own, so that all combinations occur: beta from 1/64 to 64 (rewards
over beta reach hundreds); the best, the worst or all rewards tied, on references that are uneven; prompts that are equally likely, not so,
or of probability 0; and, in worlds kept apart, tokens that the reference forbids.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from tabular_rlhf.logspace import Array, log_softmax
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.policy import dirichlet, uniform
from tabular_rlhf.symbols import Scope, half_integers
from tabular_rlhf.world import World

# ---------------------------------------------------------------------------------------------------- tiny worlds


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


# ---------------------------------------------------------------------------------------------------- all of them


SIZES = (
    *((2, 1, 1, False), (3, 1, 2, False), (2, 2, 1, True), (2, 3, 2, True)),
    *((3, 2, 3, False), (4, 2, 1, True), (2, 5, 2, False), (5, 2, 1, False)),
)
"""Vocabulary, horizon, prompts, EOS."""


def _round(seed: int, turn: int, betas: tuple[float, float], *, ties: bool = False, forbids: bool = False) -> list[Scope]:
    """A world of every size, beta between two bounds; with ties, prompts have round odds, 0 among them."""
    rng = np.random.default_rng([seed, 7, turn])
    scopes = []
    for k, (V, H, P, eos) in enumerate(SIZES):
        mu = prompt_odds(P, k) if ties else rng.dirichlet(np.ones(P))
        mdp = TokenMDP(V, H, eos=V - 1 if eos else None, prompts=[f"x{i}" for i in range(P)], mu=mu)
        log_ref, r = dirichlet(mdp, 2.0, rng=rng), rng.standard_normal((P, mdp.N))
        beta = float(np.exp(rng.uniform(*np.log(betas))))
        world = World(mdp, with_gaps(log_ref, rng) if forbids else log_ref, np.round(r) if ties else r, beta, name="random")
        scopes.append(Scope(world, seed + 31 * (k + turn * len(SIZES))))
    return scopes


@lru_cache(maxsize=4)
def tiny(seed: int = 0) -> tuple[Scope, ...]:
    """Worlds of at most three responses, fewest first in each round."""
    return tuple(tiny_scopes(seed))


@lru_cache(maxsize=4)
def generic(seed: int = 0) -> tuple[Scope, ...]:
    """Worlds with numbers that are no accident: where two formulas agree on these, they are the same formula.

    A round of moderate ones, and one where rewards tie and beta goes far up and down.
    """
    return (*_round(seed, 0, (0.3, 3.0)), *_round(seed, 1, (0.02, 50.0), ties=True))


@lru_cache(maxsize=4)
def gaps(seed: int = 0) -> tuple[Scope, ...]:
    """Worlds in which the reference forbids some tokens: log-probabilities of -inf."""
    return (*gap_scopes(seed), *_round(seed, 2, (0.1, 10.0), forbids=True))


def everywhere(seed: int = 0) -> tuple[Scope, ...]:
    """All of them, in the order in which an answer is tried."""
    return (*tiny(seed), *generic(seed), *gaps(seed))
