r"""All prompts of a preference file fitted at once, as one block-diagonal problem.

**Symbols.** For each prompt, its observed responses are the candidates y; r the Bradley-Terry rewards of the candidates, in nats, with mean
zero within each *block*: a strong component of the beats graph, or all candidates of a prompt where there is a prior.  A tie counts as half
a win each way.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tabular_rlhf.logspace import Array, log_sigmoid
from tabular_rlhf.mdp import Indices
from tabular_rlhf.preferencefile import Preferences
from tabular_rlhf.preferences.comparisons import Structure, Wins, distinct, structure
from tabular_rlhf.preferences.likelihood import newton
from tabular_rlhf.preferences.variances import laplacian_variances

INVERTED = 2000
"""Candidates of a block up to which its information is inverted; beyond it, standard errors are estimated."""
ROOM = 10_000_000
"""Numbers of the matrices that are inverted at once."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """found, the file; log_ref (N,), of the candidates, normalized for each prompt; prior, the variance of a reward, or None."""

    found: Preferences
    log_ref: Array
    prior: float | None

    @cached_property
    def wins(self) -> Wins:
        from scipy.sparse import coo_array

        f, N = self.found, len(self.found.responses)
        share = np.where(f.tie, 0.5 * f.weight, f.weight)
        tied = np.flatnonzero(f.tie)
        rows, columns = np.concatenate([f.w, f.l[tied]]), np.concatenate([f.l, f.w[tied]])
        return Wins(coo_array((np.concatenate([share, share[tied]]), (rows, columns)), shape=(N, N)).tocsr(), f.responses)

    @cached_property
    def parts(self) -> Structure:
        return structure(self.wins)

    @cached_property
    def blocks(self) -> Indices:
        """The set of candidates within which each one's reward is determined: its prompt's with a prior, else its strong component."""
        return self.found.of if self.prior else self.parts.strong

    @cached_property
    def pairs(self) -> tuple[Indices, Indices, Array, Array]:
        """i, j, wins_ij, wins_ji of the pairs that count: those within a block."""
        i, j, a, b = self.wins.pairs()
        inside = self.blocks[i] == self.blocks[j]
        return i[inside], j[inside], a[inside], b[inside]

    @cached_property
    def inside(self) -> Wins:
        """The comparisons within blocks."""
        from scipy.sparse import coo_array

        i, j, a, b = self.pairs
        both = (np.concatenate([a, b]), (np.concatenate([i, j]), np.concatenate([j, i])))
        return Wins(coo_array(both, shape=self.wins.counts.shape).tocsr(), self.found.responses)

    @cached_property
    def r(self) -> Array:
        """Rewards, with mean zero in each block."""
        if not len(self.pairs[0]):
            return np.zeros(self.wins.N)
        busy = distinct(np.concatenate(self.pairs[:2]))
        r = np.zeros(self.wins.N)
        r[busy] = newton(self.inside.only(busy), 1.0 / self.prior if self.prior else 0.0)[0]
        size = np.bincount(self.blocks)
        return r - (np.bincount(self.blocks, r) / np.maximum(size, 1))[self.blocks]

    @cached_property
    def curvature(self) -> Array:
        """n_ij p_ij p_ji of each of the pairs within blocks."""
        i, j, a, b = self.pairs
        d = self.r[i] - self.r[j]
        return np.asarray((a + b) * np.exp(log_sigmoid(d) + log_sigmoid(-d)))

    @cached_property
    def sizes(self) -> Indices:
        """Candidates of each block."""
        return np.bincount(self.blocks)

    @cached_property
    def estimated(self) -> float | None:
        """How far the standard errors of large blocks may be off, as a share of them (one standard error, the worst item); None: exact."""
        return self._errors[1]

    @property
    def errors(self) -> Array:
        """Standard errors of r."""
        return self._errors[0]

    @cached_property
    def _errors(self) -> tuple[Array, float | None]:
        """Blocks of one size are inverted together, as many as there is room for; those of large ones are estimated, if wide."""
        out, doubt = np.zeros(self.wins.N), None
        order = np.argsort(self.blocks, kind="stable")
        place = np.empty_like(order)
        place[order] = np.arange(len(order)) - np.repeat(np.cumsum(self.sizes) - self.sizes, self.sizes)
        i, j, _, _ = self.pairs
        of_pair = self.sizes[self.blocks[i]] if len(i) else np.zeros(0, dtype=np.intp)
        for k in np.unique(self.sizes[self.sizes > 1]).tolist():
            chosen = np.flatnonzero(self.sizes == k)
            members = order[self.sizes[self.blocks[order]] == k].reshape(len(chosen), k)
            if k <= INVERTED:
                mine = np.flatnonzero(of_pair == k)
                number = np.full(len(self.sizes), -1)
                number[chosen] = np.arange(len(chosen))
                at_once = max(1, ROOM // k**2)
                for first in range(0, len(chosen), at_once):
                    some = members[first : first + at_once]
                    at = number[self.blocks[i[mine]]] - first
                    here = mine[(at >= 0) & (at < len(some))]
                    L = np.zeros((len(some), k, k))
                    at = number[self.blocks[i[here]]] - first
                    np.add.at(L, (at, place[i[here]], place[j[here]]), -self.curvature[here])
                    out[some] = np.sqrt(np.diagonal(covariances(L + np.swapaxes(L, 1, 2), self.prior), axis1=1, axis2=2))
                continue
            for block in members:
                variance, error = self._estimate(block)
                out[block] = np.sqrt(variance)
                doubt = max(doubt or 0.0, float(np.max(error / (2.0 * variance))))
        return out, doubt or None

    def _estimate(self, block: Indices) -> tuple[Array, Array]:
        from scipy.sparse import coo_array

        i, j, _, _ = self.pairs
        N = self.wins.N
        both = (np.concatenate([self.curvature] * 2), (np.concatenate([i, j]), np.concatenate([j, i])))
        A = coo_array(both, shape=(N, N)).tocsr()[block][:, block]
        return laplacian_variances(A, rng=np.random.default_rng(0), ridge=1.0 / self.prior if self.prior else 0.0)

    def covariance(self, items: Indices) -> Array:
        """Of the rewards of one block, (k, k)."""
        i, j, _, _ = self.pairs
        number = np.full(self.wins.N, -1)
        number[items] = np.arange(len(items))
        mine = (number[i] >= 0) & (number[j] >= 0)
        L = np.zeros((1, len(items), len(items)))
        np.add.at(L, (np.zeros(int(np.sum(mine)), dtype=np.intp), number[i[mine]], number[j[mine]]), -self.curvature[mine])
        return np.asarray(covariances(L + np.swapaxes(L, 1, 2), self.prior)[0])

    def log_policy(self, beta: float) -> Array:
        """log pi at one beta, normalized for each prompt; to be believed for prompts of one block."""
        return normalize(self.log_ref + self.r / beta, self.found.of)


def covariances(L: Array, prior: float | None) -> Array:
    """Of rewards in the gauge of mean zero, from (C, k, k) off-diagonal Laplacians: (C, k, k)."""
    k = L.shape[1]
    diagonal = -np.sum(L, axis=2)
    L = L + diagonal[:, :, None] * np.eye(k)
    shift = np.mean(diagonal, axis=1)[:, None, None] / k
    # in this gauge the shift is projected out, also of a prior's covariance
    inverse = np.linalg.inv(L + np.eye(k) / prior) if prior else np.linalg.inv(L + shift) - 1.0 / (k * k * shift)
    inverse = inverse - np.mean(inverse, axis=1, keepdims=True)
    inverse = inverse - np.mean(inverse, axis=2, keepdims=True)
    variance = np.diagonal(inverse, axis1=1, axis2=2)
    return np.asarray(inverse + (np.maximum(variance, 0.0) - variance)[:, :, None] * np.eye(k))


def normalize(logits: Array, of: Indices) -> Array:
    """log_softmax within the groups `of`, which are numbered from 0 and lie next to each other.

    >>> np.exp(normalize(np.log([1.0, 3.0, 5.0]), np.array([0, 0, 1]))).round(6).tolist()
    [0.25, 0.75, 1.0]
    """
    starts = np.flatnonzero(np.diff(of, prepend=-1))
    shifted = logits - np.maximum.reduceat(logits, starts)[of]
    return np.asarray(shifted - np.log(np.add.reduceat(np.exp(shifted), starts))[of])
