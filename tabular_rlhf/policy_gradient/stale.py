r"""Policies that have moved: where REINFORCE without ratios leads, and what a critic that is wrong does to GAE.

**Theorem** (`off-policy-reinforce`).  Data from m, baseline b below the mean reward, W = E_m[r] - b > 0, tabular over responses.  The
flow of logits under sum_y m(y) (r(y) - b) grad log p(y) has velocities v_y = m(y) (r(y) - b) - W p(y), which sum to 0, and ends at

    p = max(0, m (r - b) - kappa)/W,      kappa such that p sums to one:

on the support all v are kappa, elsewhere m (r - b) <= kappa.  For b >= E_m[r] nothing holds p back: it collapses.

**Theorem** (`gae`).  With a critic V_pi + e, A^lambda of a step has the mean A_pi(s, a) - e(s) + (1 - lambda) B(s, a), where

    B(s, a) = e(s + a) + lambda sum_b pi(b given s + a) B(s + a, b),      0 where the response ends:

e(s) is a baseline, so the update's bias is (1 - lambda) sum_s d(s) sum_a grad pi(a given s) B(s, a): none at lambda = 1.

Sources: arXiv:2506.20520; Schulman et al. (2016), arXiv:1506.02438.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from tabular_rlhf.errors import InputError
from tabular_rlhf.logspace import Array
from tabular_rlhf.mdp import TokenMDP


def water_level(c: Array) -> Array:
    """kappa with sum of max(0, c - kappa) = sum of c, along the last axis, by sorting: c = m (r - b), of a positive sum.

    >>> water_level(np.array([0.5, 0.5, -0.2])).round(4).tolist()
    0.1
    """
    if not np.all(np.sum(c, axis=-1) > 0):
        raise InputError("the baseline must lie below the mean reward", got=float(np.min(np.sum(c, axis=-1))), remedy="lower b")
    ranked = -np.sort(-c, axis=-1)
    k = np.arange(1, c.shape[-1] + 1)
    levels = (np.cumsum(ranked, axis=-1) - np.sum(c, axis=-1, keepdims=True)) / k
    last = np.sum(ranked > levels, axis=-1, keepdims=True) - 1  # those above the level come first
    return np.asarray(np.take_along_axis(levels, last, axis=-1)[..., 0])


def limit_by_supports(c: Array) -> Array:
    """The same law by trying every support: the one on which all velocities are equal, positive within and too slow without.

    >>> limit_by_supports(np.array([0.5, 0.5, -0.2])).round(4).tolist()
    [0.5, 0.5, 0.0]
    """
    W, N = float(np.sum(c)), len(c)
    best, law = np.inf, np.full(N, np.nan)
    for size in range(1, N + 1):
        for support in itertools.combinations(range(N), size):
            inside = np.isin(np.arange(N), support)
            kappa = (float(np.sum(c[inside])) - W) / size
            off = float(np.max([0.0, np.max(kappa - c[inside]), np.max(c[~inside] - kappa, initial=-np.inf)]))
            if off < best:
                best, law = off, np.where(inside, c - kappa, 0.0) / W
    return law


# ---------------------------------------------------------------------------------------------------- a wrong critic


def critic_bias(mdp: TokenMDP, pi: Array, e: Array, lam: float) -> Array:
    """B(s, a) of the theorem: pi (P, S, V), e (P, S), returns (P, S, V)."""
    out = np.zeros_like(pi)
    for h in reversed(range(mdp.H - 1)):
        start, width = mdp.offsets[h], mdp.K**h
        for a in range(mdp.K):  # the state s + a stands a widths further in the next level
            here, after = slice(start, start + width), slice(mdp.offsets[h + 1] + a * width, mdp.offsets[h + 1] + (a + 1) * width)
            out[:, here, a] = e[:, after] + lam * np.sum(pi[:, after] * out[:, after], axis=-1)
    return out


def gae_pull(mdp: TokenMDP, p: Array, r: Array, V: Array, lam: float) -> Array:
    """sum of p A^lambda of every state and token over the responses that pass, (P, S, V), response by response, step by step.

    Args: p, r (P, N); V (P, S), the critic.  A_h = sum_l lambda^l (V(s_{h+l+1}) - V(s_{h+l})), V of a finished response its reward.
    """
    out = np.zeros((mdp.P, mdp.S, mdp.V))
    for x, n, states, said, A in _steps(mdp, r, V, lam):
        out[x, states, said] += p[x, n] * A
    return out


def _steps(mdp: TokenMDP, r: Array, V: Array, lam: float) -> Iterator[tuple[int, int, list[int], list[int], Array]]:
    """(prompt, response, its states, its tokens, A of every step) of all responses."""
    for n, row in enumerate(mdp.tokens()):
        said = [int(t) for t in row if t >= 0]
        states = [mdp.offsets[h] + sum(t * mdp.K**i for i, t in enumerate(said[:h])) for h in range(len(said))]
        for x in range(mdp.P):
            values = [*(float(V[x, s]) for s in states), float(r[x, n])]
            A = np.diff(values)
            for h in reversed(range(len(said) - 1)):
                A[h] += lam * A[h + 1]
            yield x, n, states, said, A


def gae_noise(mdp: TokenMDP, p: Array, pi: Array, r: Array, V: Array, lam: float) -> Array:
    """E|sum_h A_h score_h|^2 of one response to each prompt, (P,): states of one response are distinct rows of logits."""
    out, size = np.zeros(mdp.P), 1.0 - 2.0 * pi + np.sum(np.square(pi), axis=-1, keepdims=True)  # |e_a - pi|^2
    for x, n, states, said, A in _steps(mdp, r, V, lam):
        out[x] += p[x, n] * float(np.sum(np.square(A) * size[x, states, said]))
    return out


def pulled_tokens(pull: Any, pi: Any) -> Any:
    """The update of a pull of tokens: pull less pi times what is pulled in the state, (P, S, V)."""
    return pull - pi * np.sum(pull, axis=-1, keepdims=True)
