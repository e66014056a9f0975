r"""Batches: of every group of responses of a world, with exact weights, and random ones on which functions are compared.

**Symbols.**  A batch of a world of P prompts holds G responses to each.  Its responses are drawn independently from the sampler q, so a
multiset with counts n of one prompt's responses has weight G! prod_k q_k^{n_k} / n_k!, and N responses make C(N + G - 1, G) of them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from tabular_rlhf.audit.handed import Batch
from tabular_rlhf.behavior import Behavior
from tabular_rlhf.errors import InputError
from tabular_rlhf.fields import Case
from tabular_rlhf.logspace import Array, log_softmax
from tabular_rlhf.mdp import TokenMDP

MOST = 20_000
"""Batches of one world."""


@lru_cache(maxsize=64)
def paths(mdp: TokenMDP) -> Array:
    """The place s V + a of every token of every response, -1 after its end: (N, H)."""
    size = mdp.S * mdp.V
    through = np.zeros((mdp.N, size), dtype=bool)
    for k in range(size):
        one = np.zeros((mdp.P, size))
        one[:, k] = 1.0
        through[:, k] = mdp.path_sum(np.reshape(one, (mdp.P, mdp.S, mdp.V)))[0] > 0
    out = np.full((mdp.N, mdp.H), -1)
    for tau in range(mdp.N):  # states are numbered level by level
        places = np.flatnonzero(through[tau])
        out[tau, : len(places)] = places
    return out


@dataclass(frozen=True, eq=False)
class Tables:
    """What a case says of every token of every response, (P, N, H): live, old, sampler, ref, value, entropy; r (P, N)."""

    case: Case
    temperature: float = 1.0
    top_p: float = 1.0

    @property
    def policies(self) -> dict[str, Array]:
        """log pi of each role, (P, S, V)."""
        live = log_softmax(self.case.logits)
        old = live if self.case.log_old is None else self.case.log_old
        sampler = Behavior(self.temperature, self.top_p).of(old)
        return {"logp": live, "old": old, "sampler": sampler, "ref": self.case.world.log_ref}

    def of_tokens(self) -> dict[str, Array]:
        world, mdp = self.case.world, self.case.world.mdp
        where = paths(mdp)
        known = {role: np.reshape(table, (mdp.P, -1))[:, where] for role, table in self.policies.items()}
        pi = np.exp(log_softmax(self.case.logits))
        V = mdp.backup(world.r, lambda h, Q: np.sum(mdp.levels(pi)[h] * Q, axis=1))[0]
        H = -np.sum(pi * np.where(pi > 0, log_softmax(self.case.logits), 0.0), axis=-1)
        return known | {"value": V[:, where // mdp.V], "entropy": H[:, where // mdp.V]}


def rloo(r: Array, P: int) -> Array:
    """The rewards of P groups less the mean of the others of the group; of groups of one, the rewards."""
    rows = np.reshape(r, (P, -1))
    G = rows.shape[1]
    return np.ravel(rows if G == 1 else rows - (np.sum(rows, axis=1, keepdims=True) - rows) / (G - 1))


def made(tables: dict[str, Array], r: Array, lengths: Any, P: int) -> Batch:
    """The batch of these token tables (B, T), rewards (B,) and lengths (B,): padding is 0."""
    B, T = tables["logp"].shape
    mask = (np.arange(T) < np.asarray(lengths)[:, None]).astype(float)
    batch: Batch = {k: np.where(mask > 0, v, 0.0) for k, v in tables.items()}
    batch |= rewarded(r, mask, P) | {"mask": mask, "group": np.repeat(np.arange(P), B // P), "length": mask.sum(1)}
    return batch | {"G": B // P, "P": P, "T": T, "limit": T, "tokens": int(np.sum(mask))}


def rewarded(r: Array, mask: Array, P: int) -> Batch:
    """Rewards (B,), and what a batch has because of them."""
    last, advantage = np.arange(mask.shape[1]) == mask.sum(1)[:, None] - 1, rloo(r, P)
    token = np.where(last, np.asarray(r)[:, None], 0.0)
    return {"reward": np.array(r, dtype=float), "token_reward": token, "advantage": advantage, "table": -advantage[:, None] * mask}


@lru_cache(maxsize=64)
def groups(N: int, G: int, ordered: bool) -> tuple[Array, Array]:
    """The groups of G of N responses, (n, G), and in how many orders each may be drawn, (n,).

    >>> groups(2, 2, False)[0].tolist(), groups(2, 2, False)[1].tolist()
    ([[0, 0], [0, 1], [1, 1]], [1.0, 2.0, 1.0])
    """
    every = itertools.product(range(N), repeat=G) if ordered else itertools.combinations_with_replacement(range(N), G)
    index = np.array(list(every))
    ways = [1.0 if ordered else math.factorial(G) / math.prod(math.factorial(g.count(k)) for k in set(g)) for g in index.tolist()]
    return index, np.array(ways)


def chances(case: Case, G: int, *, temperature: float = 1.0, top_p: float = 1.0, ordered: bool = False) -> Array:
    """The probability of every batch, in the order of `population`.  Raises: InputError where they are too many."""
    mdp = case.world.mdp
    count = (mdp.N**G if ordered else math.comb(mdp.N + G - 1, G)) ** mdp.P
    if count > MOST:
        raise InputError("all batches must be few", got=f"{count:,} of {mdp.P} x {G}", remedy="take a smaller --group")
    index, ways = groups(mdp.N, G, ordered)
    q = np.exp(mdp.path_sum(Tables(case, temperature, top_p).policies["sampler"]))
    found = np.ones(1)
    for x in range(mdp.P):
        found = np.ravel(found[:, None] * (ways * np.prod(q[x][index], axis=1)))
    return found


def population(
    case: Case, G: int, *, temperature: float = 1.0, top_p: float = 1.0, ordered: bool = False
) -> Iterator[tuple[float, Array, Batch]]:
    """(weight, responses (B,), batch) of every batch of G responses to each prompt.

    Args: ordered: every ordered group, for a function to which the order matters.  Raises: InputError where they are too many.

    >>> from tabular_rlhf.world import rational
    >>> weights = [w for w, _, _ in population(Case(rational(), rational().log_ref), 4)]; len(weights), round(sum(weights), 12)
    (15, 1.0)
    """
    world, mdp = case.world, case.world.mdp
    weights = chances(case, G, temperature=temperature, top_p=top_p, ordered=ordered)
    tokens, index = Tables(case, temperature, top_p).of_tokens(), groups(mdp.N, G, ordered)[0]
    prompts = np.repeat(np.arange(mdp.P), G)
    for w, which in zip(weights.tolist(), itertools.product(range(len(index)), repeat=mdp.P), strict=True):
        tau = np.concatenate([index[k] for k in which])
        rows = {role: t[prompts, tau] for role, t in tokens.items()}
        yield w, tau, made(rows, world.r[prompts, tau], mdp.lengths[tau], mdp.P)


# ---------------------------------------------------------------------------------------------------- random ones


def probe(rng: np.random.Generator, *, P: int = 1, G: int = 4, T: int = 5, moved: float = 0.6, levels: int = 0) -> Batch:
    """A random batch of ragged responses.  moved: how far, in nats, the live policy is from the old one; levels: how many different
    rewards, 0 for no ties.  Two columns more would be allowed."""
    B = P * G
    logp, away = -rng.exponential(1.0, (2, B, T)) - 0.05
    old, ref = logp + rng.uniform(-moved, moved, (B, T)), logp + rng.uniform(-1.5, 1.5, (B, T))
    r = rng.standard_normal(B) if levels == 0 else rng.integers(0, levels, B).astype(float)
    lengths = np.concatenate([rng.permutation(np.arange(G) % T + 1) for _ in range(P)])
    tables = {"logp": logp, "old": old, "sampler": old, "ref": ref, "value": rng.standard_normal((B, T)), "entropy": -away}
    return made(tables, r, lengths, P) | {"limit": T + 2}
