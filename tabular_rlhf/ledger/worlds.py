"""The worlds on which an answer is tried: tiny ones first, then larger ones, then those in which the reference forbids tokens.

Whatever a formula depends on changes among them, so that no constant can stand for it: see `ledger/tiny.py`.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from tabular_rlhf.ledger.tiny import gap_scopes, prompt_odds, tiny_scopes, with_gaps
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.policy import dirichlet
from tabular_rlhf.symbols import Scope
from tabular_rlhf.world import World

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
