"""The worlds on which an answer is tried: tiny ones first, then larger ones, and those that trip up careless arithmetic."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from tabular_rlhf.ledger.audit import tiny_scopes
from tabular_rlhf.ledger.symbols import Scope
from tabular_rlhf.world import World, random_world

SIZES = (
    *((2, 1, 1, False), (3, 1, 2, False), (2, 2, 1, True), (2, 3, 2, True)),
    *((3, 2, 3, False), (4, 2, 1, True), (2, 5, 2, False), (5, 2, 1, False)),
)
"""Vocabulary, horizon, prompts, EOS."""


def _generic(seed: int, forbidden: float) -> list[World]:
    rng = np.random.default_rng([seed, 7])
    betas = np.exp(rng.uniform(np.log(0.3), np.log(3.0), 3 * len(SIZES)))
    shapes = [shape for _ in range(3) for shape in SIZES]
    return [
        random_world(rng=rng, V=V, H=H, P=P, eos=eos, beta=float(b), concentration=2.0, forbidden=forbidden)
        for (V, H, P, eos), b in zip(shapes, betas, strict=True)
    ]


@lru_cache(maxsize=4)
def tiny(seed: int = 0) -> tuple[Scope, ...]:
    """Worlds of at most four responses, fewest first."""
    return tuple(tiny_scopes(seed))


@lru_cache(maxsize=4)
def generic(seed: int = 0) -> tuple[Scope, ...]:
    """Worlds with numbers that are no accident: where two formulas agree on these, they are the same formula."""
    return tuple(Scope(w, seed + 31 * i) for i, w in enumerate(_generic(seed, 0.0)))


@lru_cache(maxsize=4)
def gaps(seed: int = 0) -> tuple[Scope, ...]:
    """Worlds in which the reference forbids some tokens: log-probabilities of -inf."""
    worlds = [w for w in _generic(seed + 1, 0.35) if np.isneginf(w.log_ref).any()]
    return tuple(Scope(w, seed + 77 * i) for i, w in enumerate(worlds[:8]))
