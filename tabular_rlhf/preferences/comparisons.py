r"""Repeated comparisons, added up: how often each item beat each other one, and what such counts can determine.

**Symbols.** wins_ij, how often i beat j (a weight: halves for ties and probabilities for populations are welcome);
n_ij = wins_ij + wins_ji; the *beats graph* has an arrow i -> j wherever wins_ij > 0.

**Theorem** (`bt-existence`; Ford 1957, Hunter 2004).  The Bradley-Terry likelihood has a finite maximum, unique up to a
shift, if and only if the beats graph is strongly connected: one can walk from any item to any other along wins.

*Why.*  Let S be a set of items with no arrow from outside into it: nobody outside has beaten anyone in S.  Raising all of S by t
then never lowers the likelihood, and raises it if S was ever compared with the rest.  If no such set exists, every direction but
the common shift makes some observed win less and less likely, so the likelihood, which is concave, falls off on all sides.

The strong components are the sets within which scores are determined.  `structure` finds them before anything is fitted.

Sources: Ford (1957), Solution of a ranking problem from binary comparisons; Hunter (2004), MM algorithms for generalized
Bradley-Terry models, Annals of Statistics 32; Kendall and Babington Smith (1940), On the method of paired comparisons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tabular_rlhf.errors import InputError, as_floats
from tabular_rlhf.logspace import Array
from tabular_rlhf.mdp import Indices
from tabular_rlhf.preferences import Pairs

DENSE = 1500
"""Up to this many items the counts are a full table; beyond it they are sparse, unless most pairs were compared."""


@dataclass(frozen=True, eq=False)
class Wins:
    """counts[i, j] = how often i beat j: a full (N, N) array, or a sparse one (CSR).  names: of the items.

    Raises: InputError for negative counts, or nothing to count.

    >>> Wins(np.array([[0.0, 3.0], [1.0, 0.0]]), ("tea", "coffee")).rate.tolist()
    [0.75, 0.25]
    """

    counts: Any
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        stored = self.counts.data if self.sparse else np.asarray(self.counts)
        N = len(self.names)
        if self.counts.shape != (N, N) or N == 0:
            raise InputError("counts must be square, a row and a column an item", got=self.counts.shape, remedy=f"there are {N} names")
        if np.size(stored) and not (np.min(stored) >= 0 and np.isfinite(self.total)):
            raise InputError("counts must be finite and not negative", got=float(np.min(stored)), remedy="count wins, do not score them")

    @property
    def sparse(self) -> bool:
        return not isinstance(self.counts, np.ndarray)

    @property
    def N(self) -> int:
        return len(self.names)

    @cached_property
    def total(self) -> float:
        """Comparisons in all."""
        return float(self.counts.sum())

    @cached_property
    def won(self) -> Array:
        """Wins of each item, (N,)."""
        return np.asarray(self.counts.sum(axis=1), dtype=np.float64).ravel()

    @cached_property
    def compared(self) -> Any:
        """n_ij = n_ji, as the counts are stored."""
        if not self.sparse:
            return self.counts + self.counts.T
        both = (self.counts + self.counts.T).tocsr()
        both.sum_duplicates()
        return both

    @cached_property
    def rate(self) -> Array:
        """Share of its comparisons that each item won, (N,): its Borda score where all pairs are compared equally often."""
        n = np.asarray(self.compared.sum(axis=1)).ravel()
        return np.divide(self.won, n, out=np.full(self.N, 0.5), where=n > 0)

    def pairs(self) -> tuple[Indices, Indices, Array, Array]:
        """i < j, wins_ij, wins_ji of every pair that was compared."""
        if self.sparse:
            upper = self.compared.tocoo()
            keep = upper.row < upper.col
            i, j = upper.row[keep].astype(np.intp), upper.col[keep].astype(np.intp)
            return i, j, np.asarray(self.counts[i, j]).ravel(), np.asarray(self.counts[j, i]).ravel()
        i, j = np.nonzero(np.triu(self.compared, 1))
        return i, j, self.counts[i, j], self.counts[j, i]

    def only(self, items: Any) -> Wins:
        """The comparisons among some of the items."""
        items = np.asarray(items)
        return Wins(self.counts[items][:, items], tuple(self.names[k] for k in items))


def count_wins(w: Any, l: Any, names: int | Sequence[str], weight: Any = None) -> Wins:
    """Add up comparisons.  Args: w, l, indices of winners and losers; names of the items, or their number; weight, of each.

    An item against itself counts for nothing.

    >>> count_wins([0, 0, 1, 2], [1, 1, 0, 2], 3).counts.tolist()
    [[0.0, 2.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    names = tuple(f"item {k}" for k in range(names)) if isinstance(names, int) else tuple(names)
    N = len(names)
    w, l = np.ravel(w), np.ravel(l)
    if len(w) != len(l) or not (len(w) and _below(w, N) and _below(l, N)):
        got = f"{len(w)} winners, {len(l)} losers, {N} items"
        raise InputError("every comparison must name two of the items", got=got, remedy="index items from 0")
    weights = None if weight is None else as_floats(np.ravel(weight), "weight", w.shape)
    if N > DENSE and N * N > 4 * len(w):
        from scipy.sparse import coo_array

        told = np.ones(len(w)) if weights is None else weights
        other = w != l
        return Wins(coo_array((told[other], (w[other], l[other])), shape=(N, N)).tocsr(), names)
    place = np.multiply(w, N, dtype=np.intp)
    place += l
    counts = _as_floats_in_place(np.bincount(place, weights, N * N)).reshape(N, N)
    np.fill_diagonal(counts, 0.0)
    return Wins(counts, names)


def distinct(x: Any) -> Any:
    """The values of x, each once, in order: by sorting, which for a million numbers beats the hashing of np.unique many times.

    >>> distinct(np.array([3, 1, 3])).tolist()
    [1, 3]
    """
    x = np.sort(x)
    return x[np.append(True, x[1:] != x[:-1])] if len(x) else x


def _as_floats_in_place(counts: Any, block: int = 1 << 16) -> Array:
    """Whole numbers as floats in the memory that they have: a second table would cost more than the conversion."""
    if counts.dtype == np.float64 or counts.itemsize != 8:
        return np.asarray(counts, dtype=np.float64)
    floats: Array = counts.view(np.float64)
    for start in range(0, len(counts), block):
        floats[start : start + block] = counts[start : start + block].astype(np.float64)
    return floats


def _below(index: Any, N: int) -> bool:
    """Whether 0 <= index < N: one pass, since negative numbers read as unsigned are the largest."""
    return bool(np.issubdtype(index.dtype, np.integer) and np.max(index.astype(np.int64, copy=False).view(np.uint64)) < N)


def wins_of(pairs: Pairs, x: int, names: int | Sequence[str], scale: float | None = None) -> Wins:
    """The comparisons of one prompt, from weighted pairs.

    Args: scale, what a weight of one counts for: by default the n draws, so that a sample is counted in whole comparisons, and 1
    for a population.
    """
    scale = float(pairs.n or 1) if scale is None else scale
    xs, w, l, weight = np.broadcast_arrays(pairs.x, pairs.w, pairs.l, pairs.weight)
    here = (xs == x) & (weight > 0)
    weights = None if pairs.n == scale and np.size(pairs.weight) == 1 else weight[here] * scale
    if not here.any():
        raise InputError("the prompt must have been asked about", got=f"no pairs for prompt {x}", remedy="draw more, or leave it out")
    return count_wins(w[here], l[here], names, weights)


# ---------------------------------------------------------------------------------------------------- what is determined


@dataclass(frozen=True, eq=False)
class Structure:
    """Who can be compared with whom.

    linked (N,): number of the component that an item is linked to by any comparisons; strong (N,): of its strong component, within
    which its score is determined.  Strong components are numbered from the winners' side.
    """

    wins: Wins
    linked: Indices
    strong: Indices

    @property
    def exists(self) -> bool:
        """Whether the likelihood has a finite maximum, unique up to a shift: one strong component."""
        return bool(np.max(self.strong) == 0)

    def members(self) -> list[Indices]:
        """The strong components, as lists of items."""
        order = np.argsort(self.strong, kind="stable")
        return np.split(order, np.cumsum(np.bincount(self.strong))[:-1])

    @property
    def undetermined(self) -> int:
        """How many differences of scores the data leave open: strong components less one."""
        return int(np.max(self.strong))

    def reasons(self, most: int = 3) -> list[str]:
        """Why there is no single finite maximum, in words that name the items."""
        said = []
        if np.max(self.linked) > 0:
            count = int(np.max(self.linked)) + 1
            groups = [self._list(np.flatnonzero(self.linked == k)) for k in range(min(count, most))]
            said.append("no comparison links " + " with ".join(groups) + (f" or {count - most} more" * (count > most)))
        i, j = self.wins.counts.nonzero()
        i, j = self.strong[i], self.strong[j]
        winners = set(i[i != j].tolist()) - set(j[i != j].tolist())
        losers = set(j[i != j].tolist()) - set(i[i != j].tolist())
        for ends, what in ((winners, "never lost to any other"), (losers, "never beat any other")):
            said += [f"{self._list(np.flatnonzero(self.strong == k))} {what}" for k in sorted(ends)[:most]]
            said += [f"{len(ends) - most} more sets that {what}"] if len(ends) > most else []
        return said

    def _list(self, items: Any, most: int = 4) -> str:
        names = [repr(self.wins.names[k]) for k in items[:most]]
        more = [f"{len(items) - most} more"] if len(items) > most else []
        return " and ".join([", ".join((names + more)[:-1]), (names + more)[-1]] if len(items) > 1 else names)

    def require(self) -> None:
        """Raise InputError, naming the items that block a single finite maximum."""
        if not self.exists:
            raise InputError(
                "a single finite maximum needs a walk along wins from every item to every other",
                got="; ".join(self.reasons()),
                remedy="collect the missing comparisons, fit each strong component alone, or state a prior",
            )


def structure(wins: Wins) -> Structure:
    """The components of the beats graph.

    >>> s = structure(count_wins([0, 1, 2], [1, 0, 0], ("a", "b", "c")))
    >>> s.exists, s.reasons()
    (False, ["'c' never lost to any other", "'a' and 'b' never beat any other"])
    """
    if not wins.sparse and _reaches_all(wins.counts) and _reaches_all(wins.counts.T):
        return Structure(wins, np.zeros(wins.N, dtype=np.intp), np.zeros(wins.N, dtype=np.intp))
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    graph = csr_array(wins.counts)
    linked = connected_components(graph, directed=False)[1]
    strong = connected_components(graph, directed=True, connection="strong")[1]
    return Structure(wins, linked.astype(np.intp), _from_the_top(strong, graph))


def _reaches_all(counts: Array, at_once: int = 16) -> bool:
    """Whether item 0 reaches every item along wins."""
    reached, done = np.zeros(len(counts), dtype=bool), np.zeros(len(counts), dtype=bool)
    reached[0] = True
    while not reached.all():
        ahead = np.flatnonzero(reached & ~done)[:at_once]
        if not ahead.size:
            return False
        done[ahead] = True
        reached |= np.any(counts[ahead] > 0, axis=0)
    return True


def _from_the_top(strong: Any, graph: Any) -> Indices:
    """Number components so that arrows between them go from smaller to larger numbers: by the longest way there, then by the first item."""
    from scipy.sparse import csr_array

    K = int(np.max(strong)) + 1
    i, j = graph.nonzero()
    arrows = distinct(strong[i].astype(np.int64) * K + strong[j])
    up, down = arrows // K, arrows % K
    up, down = up[up != down], down[up != down]
    below = csr_array((np.ones(len(up), dtype=np.int64), (up, down)), shape=(K, K))
    waiting, depth = np.bincount(down, minlength=K), np.zeros(K, dtype=np.int64)
    ready, step = np.flatnonzero(waiting == 0), 0
    while ready.size:
        depth[ready] = step
        freed = below[ready].indices
        np.subtract.at(waiting, freed, 1)
        ready, step = distinct(freed[waiting[freed] == 0]), step + 1
    first = np.full(K, len(strong))
    np.minimum.at(first, strong, np.arange(len(strong)))
    rank = np.empty(K, dtype=np.intp)
    rank[np.lexsort((first, depth))] = np.arange(K)
    return rank[strong]


WEDGES = 10_000_000
"""Two pairs with an item in common: so many are gone through at once."""


def triads(wins: Wins) -> tuple[Indices, Indices]:
    """Triples of items compared with one another and none of them even, each counted at one of its items: those that are circular, and all.

    Each pair is listed at the item that was compared with fewer others.  So an item has at most sqrt(2 M) of the M pairs, and one that met
    10^5 others costs no more than they do.  Returns: (N,), (N,).  Source: Chiba and Nishizeki (1985).

    >>> [int(counts.sum()) for counts in triads(count_wins([0, 1, 2, 0, 1, 2], [1, 2, 0, 3, 3, 3], 4))]
    [1, 4]
    """
    from scipy.sparse import csr_array

    i, j, a, b = wins.pairs()
    i, j, up = i[a != b], j[a != b], (a > b)[a != b]
    met = np.bincount(i, minlength=wins.N) + np.bincount(j, minlength=wins.N)
    turned = (met[i] > met[j]) | ((met[i] == met[j]) & (i > j))
    i, j, up = np.where(turned, j, i), np.where(turned, i, j), up != turned
    won, lost = (csr_array((np.ones(np.sum(s)), (i[s], j[s])), shape=(wins.N, wins.N)) for s in (up, ~up))
    own = np.bincount(i, minlength=wins.N)
    wedges = np.cumsum(np.bincount(i, own[j], wins.N))
    cyclic, every = np.zeros(wins.N, dtype=np.intp), np.zeros(wins.N, dtype=np.intp)
    cuts = np.searchsorted(wedges, np.arange(0.0, wedges[-1] + WEDGES, WEDGES), side="left")
    for rows in (slice(*ends) for ends in zip([0, *cuts[1:-1]], [*cuts[1:-1], wins.N], strict=True)):
        w, l = won[rows], lost[rows]
        cyclic[rows] = ((w @ won).multiply(l) + (l @ lost).multiply(w)).sum(axis=1)
        every[rows] = ((w + l) @ (won + lost)).multiply(w + l).sum(axis=1)
    return cyclic, every


def cyclic_triads(wins: Wins) -> int:
    """How many triples are circular: i usually beats j, j beats k, and k beats i (Kendall and Babington Smith 1940).

    >>> cyclic_triads(count_wins([0, 1, 2], [1, 2, 0], 3))
    1
    """
    return int(np.sum(triads(wins)[0]))
