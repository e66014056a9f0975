r"""T2 and T4: mean and covariance of quantities with a linear recurrence, by one backward sweep in which nothing cancels.

**Symbols.**  A representation is a vector u of functions of the rest of a response, with  u(edge . rest) = b(edge) + A(edge) u(rest), and
u = 0 at the end.  m(s) and C(s) are the mean and the covariance of u given s.

    m(s) = sum_a pi y,     C(s) = sum_a pi [A C' A^T + (y - m)(y - m)^T],      y = b + A m'

(the law of total variance: within the child, and between children).  Both are sums of squares, so a variance of 1e-18 beside a mean of
1 keeps its digits, which E[u^2] - E[u]^2 would lose.  With u = L, A = 1 and b = x(s, a): mean and variance of a sum along the path.

Source: Li and Eisner (2009), First- and second-order expectation semirings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from tabular_rlhf.lattice.policy import Policy
from tabular_rlhf.lattice.world import Level
from tabular_rlhf.logspace import Array

Entries = Mapping[tuple[int, int], Array | float]
"""A(edge) by place (i, j), each (V, n) or one number; j = -1 stands for b."""


@dataclass(frozen=True, eq=False)
class Moments:
    """By prompt: mean (P, d), covariance (P, d, d); None where it was not asked for."""

    mean: Array
    covariance: Array | None


def moments(policy: Policy, size: int, entries: Callable[[int], Entries], *, covariance: bool = True) -> Moments:
    """Mean and covariance of the representation whose entries at level h are entries(h).

    Args: policy; size, d; entries, at places (i, j) with j <= i or j = -1.

    >>> from tabular_rlhf.lattice import Reference, unmerged
    >>> from tabular_rlhf.world import coin
    >>> w = unmerged(coin())
    >>> m = moments(Reference(w), 1, lambda h: {(0, -1): w.levels[h].r, (0, 0): 1.0}); m.mean.tolist(), m.covariance.tolist()
    ([[0.5]], [[[0.25]]])
    """
    world = policy.world
    pairs = [(i, j) for i in range(size) for j in range(i + 1)] if covariance else []
    m, C = np.zeros((size, 1)), {pair: np.zeros(1) for pair in pairs}
    for h in reversed(range(world.H)):
        level, pi, A = world.levels[h], policy.pi(h), entries(h)
        with np.errstate(over="ignore", invalid="ignore"):  # whoever asked looks at what comes out
            below = [level.pull(m[j]) for j in range(size)]
            y = [_row(i, A, below) for i in range(size)]
            m = np.zeros((size, level.n + 1))
            for i in range(size):
                m[i, :-1] = _mean(pi, y[i])
            if covariance:
                C = _covariance(level, pi, A, C, [y[i] - m[i, :-1] for i in range(size)])
    roots = world.roots
    full = None
    if covariance:
        full = np.empty((len(roots), size, size))
        for (i, j), c in C.items():
            full[:, i, j] = full[:, j, i] = c[roots]
    return Moments(m[:, roots].T, full)


def _mean(pi: Array, y: Array) -> Array:
    """sum_a pi y; what has probability 0 does not count, even if infinite."""
    out: Array = np.einsum("vn,vn->n", pi, y)
    return out if np.isfinite(out).all() else np.einsum("vn,vn->n", pi, np.where(pi > 0, y, 0.0))


def _times(a: Array | float, x: Array) -> Array:
    return x if isinstance(a, float) and a == 1.0 else a * x


def _sum(parts: list[Array]) -> Array:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _row(i: int, A: Entries, below: list[Array]) -> Array:
    """y_i = b_i + sum_j A_ij m'_j on every edge."""
    parts = [np.broadcast_to(a, below[0].shape) if j < 0 else _times(a, below[j]) for (k, j), a in A.items() if k == i]
    return _sum(parts) if parts else np.zeros_like(below[0])


def _covariance(level: Level, pi: Array, A: Entries, C: Mapping[tuple[int, int], Array], far: list[Array]) -> dict[tuple[int, int], Array]:
    """C(s) by pairs (i, j), j <= i, with the end's 0 last."""
    below = {pair: level.pull(c) for pair, c in C.items()}
    rows: dict[int, list[tuple[int, Array | float]]] = {i: [] for i in range(len(far))}
    for (i, p), a in A.items():
        if p >= 0:
            rows[i].append((p, a))
    half: dict[tuple[int, int], Array] = {}  # (A C')_iq, for those q that some row asks for
    out = {}
    for i, j in C:
        within = [far[i] * far[j]]
        for q, b in rows[j]:
            if (i, q) not in half:
                terms = [_times(a, below[max(p, q), min(p, q)]) for p, a in rows[i]]
                half[i, q] = _sum(terms) if terms else np.zeros_like(pi)
            within.append(_times(b, half[i, q]))
        out[i, j] = np.append(_mean(pi, _sum(within)), 0.0)
    return out
