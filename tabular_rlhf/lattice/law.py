r"""T5: the law of a reward that is a whole number of steps, and what depends on the law alone: best-of-n, win rates, groups of G.

    f(s, x) = sum_a pi f(s', x - k(s, a)),      f(end, x) = 1{x = 0}:

sparse products of a level's edges, sorted by what they pay, with the laws of the children, shifted.

**Groups.**  Members of a group of G are independent, so a group's normalized advantage needs no listing of groups.  With v the variance of
the group, s = sqrt(v G/(G - ddof)), and completing the square,

    1/(s + eps) = int_0^inf e^{-t^2 v} w(t) dt,     e^{-t^2 v} = (t/sqrt pi) int prod_i e^{-(t^2/G)(r_i - u)^2} du,

so that members come apart: E[A_1 given r_1 = x] is a double integral of one-member sums, at any number of reward levels.  The term of
a member with the same reward as x is 0, and every other group has v >= (1 - 1/G)/G steps^2, so nothing diverges and nothing cancels.  The
inner integral is done by the trapezoidal rule (error exp(-pi^2/(step t)^2)), the outer one by Gauss-Legendre rules on doubling intervals.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from math import gcd, lcm
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import special

from tabular_rlhf.errors import InputError, whole
from tabular_rlhf.lattice.policy import Policy
from tabular_rlhf.lattice.world import Level
from tabular_rlhf.logspace import Array
from tabular_rlhf.mdp import Indices

if TYPE_CHECKING:
    from scipy.sparse import csr_array

MOST = 2**26
"""Numbers in the law of all states of one level."""
DENOMINATOR = 10**4
"""The largest denominator that a reward is read as a fraction with."""
EQUAL = 1e-14
"""The share of a reward that its fraction may differ by: the rounding of a few sums."""


@dataclass(frozen=True, eq=False)
class RewardLaw:
    """Rewards (K,), rising by equal steps, and their probabilities for each prompt, (P, K)."""

    r: Array
    p: Array

    def tilted(self, beta: float) -> RewardLaw:
        """The law of the reward under the Gibbs optimum of this law's policy: p exp(r/beta), normalized."""
        top = np.max(np.where(self.p > 0, self.r, -np.inf), axis=1, keepdims=True)
        with np.errstate(over="ignore"):
            w: Array = self.p * np.exp(np.minimum(self.r - top, 0.0) / beta)
        return RewardLaw(self.r, w / w.sum(axis=1, keepdims=True))


def reward_law(policy: Policy, *, most: float = np.inf) -> RewardLaw:
    """The law of the reward under a policy, where rewards are whole numbers of steps (of any size).

    Args: most, products of edges with values that the sweep may take.
    Raises: InputError where they are no multiples of a common step, or have too many values.

    >>> from tabular_rlhf.lattice import Reference, unmerged
    >>> from tabular_rlhf.world import fork
    >>> law = reward_law(Reference(unmerged(fork()))); law.r[law.p[0] > 0].tolist(), law.p[0][law.p[0] > 0].tolist()
    ([-3.0, 1.0, 3.0], [0.25, 0.5, 0.25])
    """
    world = policy.world
    step, paid = steps(world.distinct)
    ranges = [(0, 0)]
    for level in reversed(world.levels):  # what can still be earned, from any state
        k = paid[id(level)]
        low, high = int(np.min(k, initial=0)), int(np.max(k, initial=0))
        ranges.append((min(low, low + ranges[-1][0]), max(high, high + ranges[-1][1])))
    widest = max((b - a + 1) * level.n for (a, b), level in zip(ranges[1:], reversed(world.levels), strict=True))
    work = sum((b - a + 1) * level.child.size for (a, b), level in zip(ranges[1:], reversed(world.levels), strict=True))
    if widest > MOST or work > most:
        got = f"{ranges[-1][1] - ranges[-1][0] + 1:,} values in {max(x.n for x in world.levels):,} states"
        raise InputError(
            "the law of the reward must fit in memory", got=got, remedy="round rewards to larger steps, or use expect and variance"
        )
    (low, _), f = ranges[0], np.ones((1, 1))
    for level, pi, (new, high) in zip(reversed(world.levels), map(policy.pi, reversed(range(world.H))), ranges[1:], strict=True):
        out = np.zeros((level.n + 1, high - new + 1))
        for amount, part in _by_payment(level, pi, paid[id(level)]):
            out[:-1, low + amount - new : low + amount - new + f.shape[1]] += part @ f
        out[-1, -new] = 1.0
        low, f = new, out
    law = f[world.roots]
    some = np.flatnonzero(law.any(axis=0))
    first, last = int(some[0]), int(some[-1]) + 1
    return RewardLaw(np.asarray(step * np.arange(low + first, low + last), dtype=np.float64), law[:, first:last])


def steps(levels: list[Level]) -> tuple[float, dict[int, Any]]:
    """The largest step that all rewards are multiples of, and what every edge pays in steps, by level."""
    values = np.unique(np.concatenate([np.ravel(level.r) for level in levels]))
    fractions = [Fraction(float(x)).limit_denominator(DENOMINATOR) for x in values if x != 0] if values.size <= MOST else []
    exact = [f for f, x in zip(fractions, values[values != 0], strict=False) if abs(float(f) - x) <= EQUAL * abs(x)]
    if len(exact) < np.count_nonzero(values):
        bad = next((x for f, x in zip(fractions, values[values != 0], strict=False) if abs(float(f) - x) > EQUAL * abs(x)), values[0])
        raise InputError(
            "rewards must be whole numbers of steps to have a law", got=float(bad), remedy="round them, or use expect and variance"
        )
    common = reduce(lcm, (f.denominator for f in exact), 1)
    step = reduce(gcd, (abs(int(f * common)) for f in exact), 0)
    size = step / common if step else 1.0
    return size, {id(level): np.rint(level.r / size).astype(np.intp) for level in levels}


def _by_payment(level: Level, pi: Array, paid: Indices) -> list[tuple[int, csr_array]]:
    """The edges of a level as sparse matrices (n, after + 1), one for every amount paid."""
    from scipy.sparse import csr_array

    at = np.flatnonzero(pi)
    state = at % level.n
    k = np.ravel(paid)[at]
    out = []
    for amount in np.unique(k):
        here = k == amount
        where = (state[here], np.ravel(level.child)[at[here]])
        out.append((int(amount), csr_array((np.ravel(pi)[at[here]], where), shape=(level.n, level.after + 1))))
    return out


# ---------------------------------------------------------------------------------------------------- groups


TAIL = 37.0
"""Nats below which a Gaussian is rounding."""
WIDEST = 100_000
"""Times the smallest difference of rewards that they may range over in a group: the work grows with it."""
NODES = 16
"""Gauss-Legendre nodes on every interval that doubles."""


def group_advantage(r: Array, q: Array, G: int, *, ddof: float = 0.0, epsilon: float = 0.0) -> Array:
    r"""E[A_1 given r_1 = r_k] of GRPO, A = (r - mean)/(s + eps), in a group of G draws from the law q of rewards: (K,).

    Args: r (K,), reward levels, distinct; q (K,), their probabilities; ddof, epsilon as of the recipe "grpo".
    Equal to the sum over all counts of levels (`policy_gradient.groups`), which has C(G + K - 1, K - 1) terms.
    Source: Shao et al. (2024), arXiv:2402.03300.

    >>> group_advantage(np.array([0.0, 1.0]), np.array([0.5, 0.5]), 2).round(9).tolist()  # the other one differs half of the time
    [-0.5, 0.5]
    """
    whole(G, "the size of a group", 2, "8 is usual")
    if not 0 <= ddof < G:
        raise InputError("ddof must be at least 0 and less than the size of the group", got=ddof, remedy="0 or 1")
    values = np.sort(r)
    gap, span = (float(np.min(np.diff(values))), float(values[-1] - values[0])) if len(r) > 1 else (1.0, 0.0)
    if span == 0.0:
        return np.zeros(len(r))
    if not 0 < gap * WIDEST >= span:
        remedy = "round rewards to larger steps, or leave out those of probability 0"
        raise InputError(
            f"rewards must be distinct, and range over at most {WIDEST:,} times their smallest difference",
            got=span / gap if gap else 0.0,
            remedy=remedy,
        )
    r, span = (r - values[0]) / gap, span / gap  # in steps of the smallest difference
    scale = np.sqrt(G / (G - ddof))  # s = scale sqrt v
    own = epsilon / gap / scale
    out = np.zeros(len(r))
    high, least = float(np.sqrt(TAIL / ((1.0 - 1.0 / G) / G))), 1e-3 / span
    x, w = np.polynomial.legendre.leggauss(NODES)
    while high > 0.0:
        low = high / 2.0 if high > least else 0.0
        for t, weight in zip(low + (high - low) * (x + 1.0) / 2.0, w * (high - low) / 2.0, strict=True):
            kernel = 2.0 / np.sqrt(np.pi) - 2.0 * t * own * special.erfcx(own * t)
            out += weight * kernel / scale * t / np.sqrt(np.pi) * _inner(r, q, G, float(t), span)
        high = low
    return (G - 1.0) / G * out


def _inner(r: Array, q: Array, G: int, t: float, span: float) -> Array:
    """int e(x) sum_k q_k (x - r_k) e(r_k) S^(G-2) du for every level x, with e(r) = e^{-(t^2/G)(r - u)^2} S = sum_k q_k e(r_k): (K,)."""
    h = 0.5 / t
    reach = np.sqrt(TAIL) / t
    count = int((span + 2.0 * reach) / h) + 2
    out = np.zeros(len(r))
    block = max(1, 2**18 // len(r))
    for start in range(0, count, block):
        u = h * np.arange(start, min(count, start + block)) - reach
        e = np.exp(-np.square((t / np.sqrt(G)) * (r[:, None] - u)))  # (K, nodes)
        S, T = q @ e, (q * r) @ e
        common = S ** (G - 2)
        out += r * (e @ (common * S)) - e @ (common * T)
    return h * out
