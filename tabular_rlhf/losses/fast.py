r"""DPO at speed: on sampled pairs through the tree, and on all N^2 pairs without forming them.

**Symbols.**  m = beta log(p/p_ref) (N,), the implicit reward; q (N,) the law that responses are drawn from; P_ij the probability that
i beats j; W_i = sum_j q_j P_ij, its win rate;  S_i = sum_j q_j sigma(m_i - m_j),  the win rate that m predicts.

**Theorem.**  The population loss over all pairs is, with softplus(z) = log(1 + e^z),

    L = sum_ij q_i q_j softplus(m_i - m_j) - sum_i q_i m_i (2 W_i - sum q),         dL/dm_i = 2 q_i (S_i - W_i),

so the labels enter through N win rates only, and the gradient vanishes where predicted win rates are the observed ones.

**Algorithm.**  S(x) = sum_j q_j sigma(x - m_j) and T(x) = sum_j q_j softplus(x - m_j) are analytic for |Im x| < pi, in every m_j as in x.
We cut the range of m into cells, each with n Chebyshev nodes; hand the weight q_j to the nodes of its cell, to each as much as its value
counts in the polynomial through them; sum over all pairs of nodes; and interpolate both sums back: O(N n) in place of O(N^2).

**Error.**  On the Bernstein ellipse of parameter rho a function bounded by M is interpolated within 4 M rho^-n/(rho - 1).  We take the
ellipse whose half-height is 0.9 pi; there |sigma| <= 1/sin(0.9 pi) and |softplus| <= |Re| + |log sin(0.9 pi)| + log 2 + pi, with |Re| no
more than the ellipse is long: beyond it, softplus is a line, which is interpolated exactly, and a softplus on its other side.  Interpolated
back, the sums at the nodes bring their own error along, up to Lebesgue's constant times: at most 1 + (2/pi) log n, for n < 100 less than 4.

Sources: Trefethen (2013), Approximation Theory and Approximation Practice, theorems 8.2 and 15.2; Fong and Darve (2009), The black-box fast
multipole method.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from tabular_rlhf.errors import InputError
from tabular_rlhf.kernels import softmax_pull
from tabular_rlhf.logspace import Array, log_softmax
from tabular_rlhf.preferences import Law, Pairs
from tabular_rlhf.world import World

HEIGHT = 0.9 * math.pi
WIDEST = 300.0
"""Half the range of m over which e^m may be formed."""
ROWS = 64
"""Rows of the pair matrix that are worked on at once: they stay in the cache."""
CELL = 0.5
"""Nats of m to a cell: a shorter one needs fewer nodes, but then there are more cells."""
POINTS = 1 << 13
"""Responses whose polynomials are worked on at once: they stay in the cache."""


def nodes_needed(tolerance: float) -> int:
    """How many Chebyshev nodes to a cell bring both sums within `tolerance`, for weights that sum to one.

    >>> nodes_needed(1e-13)
    11
    """
    h = CELL / 2.0
    t = HEIGHT / h
    rho = t + math.hypot(t, 1.0)
    length = h * math.hypot(t, 1.0)
    M = max(1.0 / math.sin(HEIGHT), length - math.log(math.sin(HEIGHT)) + math.log(2.0) + math.pi)
    once, lebesgue = 4.0 * M / (rho - 1.0), 4.0
    return max(4, math.ceil(math.log((1.0 + lebesgue) * once / tolerance) / math.log(rho)))


def logistic_sums(m: Array, q: Array, *, tolerance: float | None = 1e-13) -> tuple[Array, Array]:
    """(S, T): S_i = sum_j q_j sigma(m_i - m_j), T_i = sum_j q_j softplus(m_i - m_j), each (N,).

    Args: tolerance, of the interpolation, in units of sum q; None for the sums over all pairs themselves.

    >>> logistic_sums(np.array([0.0, 1.0]), np.array([0.5, 0.5]))[0].round(6).tolist()
    [0.384471, 0.615529]
    """
    if tolerance is None:
        return _all_pairs(m, q)
    place, n = (m - np.min(m)) / CELL, nodes_needed(tolerance)
    cells = int(np.max(place)) + 1
    if 2 * cells * n >= len(m):
        return _all_pairs(m, q)
    angle = np.pi * (np.arange(n) + 0.5) / n
    nodes = CELL * (np.arange(cells)[:, None] + 0.5 + 0.5 * np.cos(angle))
    own = np.cos(angle[:, None] * np.arange(n)) * np.where(np.arange(n) == 0, 1.0, 2.0) / n  # (node, k): 1 there, 0 at the others
    weight = np.zeros((cells, n))
    for part, cell, T in _polynomials(place, n):
        weight += np.stack([np.bincount(cell, q[part] * T_k, cells) for T_k in T], axis=1)
    sums = _all_pairs(np.ravel(nodes), np.ravel(weight @ own.T))
    series = np.stack([f.reshape(cells, n) @ own for f in sums])
    out = np.empty((2, len(m)))
    for part, cell, T in _polynomials(place, n):
        np.einsum("fbk,kb->fb", series[:, cell], T, out=out[:, part])
    return out[0], out[1]


def _polynomials(place: Array, n: int) -> Iterator[tuple[slice, Any, Array]]:
    """Some points after the others: which, in what cells, and Chebyshev's T_k, k < n, of where they are in them, (n, points)."""
    for start in range(0, len(place), POINTS):
        part = slice(start, start + POINTS)
        cell = place[part].astype(np.intp)
        t = 2.0 * (place[part] - cell) - 1.0
        T = np.empty((n, len(t)))
        T[0], T[1] = 1.0, t
        t *= 2.0
        for k in range(2, n):
            np.multiply(t, T[k - 1], out=T[k])
            T[k] -= T[k - 2]
        yield part, cell, T


def _kernels(z: Array) -> tuple[Array, Array]:
    """sigma(z) and softplus(z) from one exponential of -|z|."""
    e = np.exp(-np.abs(z))
    one = 1.0 + e
    sigma = np.where(z >= 0, 1.0, e) / one
    softplus = np.log1p(e)  # log(one) would lose the tail
    softplus += np.maximum(z, 0.0)
    return sigma, softplus


def _all_pairs(m: Array, q: Array) -> tuple[Array, Array]:
    """Both sums over half of the pair matrix, a few rows at a time.  With u = e^m, u_i + u_j serves a pair both ways round:

    sigma(m_i - m_j) = u_i/(u_i + u_j),      softplus(m_i - m_j) = log(u_i + u_j) - m_j.
    """
    middle = 0.5 * (float(np.min(m)) + float(np.max(m)))
    if float(np.max(m)) - middle > WIDEST:
        rows = [[kernel @ q for kernel in _kernels(m[k : k + ROWS, None] - m)] for k in range(0, len(m), ROWS)]
        return np.concatenate([S for S, _ in rows]), np.concatenate([T for _, T in rows])
    m = m - middle
    u, S, T = np.exp(m), np.zeros_like(m), np.full_like(m, -float(q @ m))
    for start in range(0, len(m), ROWS):
        stop = min(start + ROWS, len(m))
        both = u[start:stop, None] + u[start:]
        odds = np.reciprocal(both)
        log_both = np.log(both, out=both)
        S[start:stop] += odds @ q[start:]
        T[start:stop] += log_both @ q[start:]
        S[stop:] += q[start:stop] @ odds[:, stop - start :]
        T[stop:] += q[start:stop] @ log_both[:, stop - start :]
    return u * S, T


def win_rates(law: Law, log_q: Array) -> Array:
    """W (P, N): the probability that each response beats one drawn from q, a few rows of the preference matrix at a time."""
    P, N = law.shape
    q, out = np.exp(log_q), np.empty((P, N))
    for x in range(P):
        for start in range(0, N, ROWS):
            i = np.arange(start, min(start + ROWS, N))
            out[x, i] = np.exp(law.log_beats(np.array(x), i[:, None], np.arange(N))) @ q[x]
    return out


def population_dpo(
    world: World, log_p: Array, wins: Array, *, log_q: Array | None = None, tolerance: float | None = 1e-13
) -> tuple[float, Array]:
    """DPO's loss over all pairs of responses and its gradient in log p (P, N), from win rates alone.

    Args: wins (P, N), from `win_rates`; log_q, the law of the responses compared (p_ref).  `tolerance` as in `logistic_sums`.
    Equal to `evaluate.value` and `gradient` of "dpo" on `population_pairs`.

    >>> from tabular_rlhf.preferences import bradley_terry
    >>> from tabular_rlhf.world import coin
    >>> w = coin(); loss, slope = population_dpo(w, w.log_p_ref, win_rates(bradley_terry(w.r), w.log_p_ref))
    >>> round(loss, 6), slope.round(6).tolist()
    (0.693147, [[0.115529, -0.115529]])
    """
    q = np.exp(world.log_p_ref if log_q is None else log_q)
    loss, slope = 0.0, np.zeros_like(q)
    for x in range(len(q)):
        on = np.flatnonzero(q[x] > 0)
        m = world.beta * (log_p[x, on] - world.log_p_ref[x, on])
        if not np.all(np.isfinite(m)):
            raise InputError("the policy must be able to make what is shown", got="-inf", where=f"prompt {x}", remedy="see evaluate")
        own, won = q[x, on], wins[x, on]
        S, T = logistic_sums(m, own, tolerance=tolerance)
        loss += world.mu[x] * float(own @ T - (own * m) @ (2.0 * won - np.sum(own)))
        slope[x, on] = 2.0 * world.mu[x] * world.beta * own * (S - won)
    return float(loss), slope


def token_dpo(world: World, logits: Array, pairs: Pairs) -> tuple[float, Array]:
    """DPO's loss on sampled pairs and its gradient in token logits (P, S, V): two sweeps of the tree, one gather, one scatter.

    Equal to `evaluate.token_gradient("dpo", ...)`; the pairs' responses must be possible.
    """
    mdp, N = world.mdp, world.mdp.N
    log_pi = log_softmax(logits)
    ratio = np.ravel(mdp.path_sum(log_pi))
    w, l = (np.ravel(pairs.x * N + y) if mdp.P > 1 else np.ravel(y) for y in (pairs.w, pairs.l))
    ref = np.ravel(world.log_p_ref)
    z = world.beta * ((ratio[w] - ratio[l]) - (ref[w] - ref[l]))
    wrong, loss = _kernels(-z)
    wrong *= -world.beta * pairs.weight
    table = np.bincount(w, wrong, mdp.P * N)
    np.subtract.at(table, l, wrong)  # not a second table of the size of the tree
    through = mdp.subtree_sum(table.reshape(mdp.P, N))
    return float(np.sum(pairs.weight * loss)), softmax_pull(through, log_pi, -1)
