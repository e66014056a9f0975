r"""Responses as a trie: one node a prefix, one edge a token said there.  What a policy says of an edge it must say each time.

An edge has one log-probability, and siblings' probabilities add up to at most 1.  Where a dump says otherwise, an engine's noise shows (the
same prefix, another batch), or probabilities that were renormalized after top-p or a temperature were written as if they were the policy's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tabular_rlhf.mdp import Indices
from tabular_rlhf.rollouts.read import Rollouts


@dataclass(frozen=True, eq=False)
class Edge:
    """An edge that is said to have several log-probabilities: where (depth, lines of the two that differ most), token, low, high."""

    depth: int
    token: int
    low: float
    high: float
    lines: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Crowd:
    """A node whose children have more than all of the probability: where (depth, the line of a response through it), children, mass."""

    depth: int
    line: int
    children: int
    mass: float


@dataclass(frozen=True, eq=False)
class Trie:
    """nodes, with the roots; edges; response (n,), the number of each response among the distinct ones; shared, edges said more than once;
    differing edges and crowded nodes for each of "logp" and "logp_ref"."""

    nodes: int
    edges: int
    response: Indices
    shared: int
    differing: dict[str, list[Edge]]
    crowded: dict[str, list[Crowd]]


def trie_of(r: Rollouts, *, tolerance: float = 1e-6) -> Trie:
    """The trie of all responses, prompt by prompt.

    Args: tolerance, nats, that an engine's log-probabilities of one edge may differ by, and a mass exceed 1 by.

    >>> from tabular_rlhf.rollouts.read import read_rollouts
    >>> line = '{{"prompt": "x", "tokens": [3, {}], "logp": [-0.5, {}], "logp_ref": [-0.5, -0.1], "reward": 1}}\\n'
    >>> t = trie_of(read_rollouts(line.format(1, -0.1) + line.format(2, -0.2)))
    >>> t.nodes, t.edges, [round(c.mass, 6) for c in t.crowded["logp"]]
    (4, 3, [1.723568])
    """
    T = r.tokens.shape[1]
    node = np.unique(r.prompt, return_inverse=True)[1].astype(np.int64)
    nodes, edges, shared = int(node.max()) + 1, 0, 0
    differing: dict[str, list[Edge]] = {"logp": [], "logp_ref": []}
    crowded: dict[str, list[Crowd]] = {"logp": [], "logp_ref": []}
    done = np.zeros(r.n, dtype=np.int64)
    span = int(r.tokens.max()) + 2
    for t in range(T):
        here = np.flatnonzero(r.tokens[:, t] >= 0)
        if here.size == 0:
            break
        _, first, child = np.unique(node[here] * span + r.tokens[here, t], return_index=True, return_inverse=True)
        count = np.bincount(child)
        edges, nodes, shared = edges + len(first), nodes + len(first), shared + int(np.sum(count > 1))
        for key in differing:
            edges_, crowds = _look(r, key, t, here, first, child, node[here], tolerance)
            differing[key] += edges_
            crowded[key] += crowds
        done[here] = nodes - len(first) + child  # the last node of every response so far
        fresh = np.zeros_like(node)
        fresh[here] = child
        node = fresh
    response = np.unique(done * (int(r.prompt.max()) + 1) + r.prompt, return_inverse=True)[1]
    return Trie(nodes, edges, np.asarray(response), shared, differing, crowded)


def _look(
    r: Rollouts, key: str, t: int, here: Indices, first: Indices, child: Indices, parent: Indices, tolerance: float
) -> tuple[list[Edge], list[Crowd]]:
    """Compare the log-probabilities of one depth: on each edge, and over the edges of each node."""
    x, said = getattr(r, key)[here, t], r.mask[here, t]
    low, high = np.full(len(first), np.inf), np.full(len(first), -np.inf)
    np.minimum.at(low, child[said], x[said])
    np.maximum.at(high, child[said], x[said])
    differing, crowded = [], []
    for e in np.flatnonzero(high > low + tolerance):
        at = np.flatnonzero((child == e) & said)
        lines = (int(r.line[here[at[np.argmin(x[at])]]]), int(r.line[here[at[np.argmax(x[at])]]]))
        differing.append(Edge(t, int(r.tokens[here[first[e]], t]), float(low[e]), float(high[e]), lines))
    known = np.isfinite(low)
    mass = np.bincount(parent[first[known]], np.exp(low[known]))
    children = np.bincount(parent[first[known]])
    for p in np.flatnonzero(mass > 1.0 + tolerance):
        line = int(r.line[here[np.argmax(parent == p)]])
        crowded.append(Crowd(t, line, int(children[p]), float(mass[p])))
    return differing, crowded
