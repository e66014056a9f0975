r"""Preferences: what people say about pairs of responses, as laws, and their answers as weighted pairs.

**Symbols.** x a prompt; i, j responses; P(i beats j given x) a preference law, with P(i beats j) + P(j beats i) = 1; r rewards
(P, N); w the preferred and l the rejected response of a pair; q(. given x) the law that responses to compare are drawn from.

    bradley_terry(r)    P(i beats j) = sigma(r_i - r_j) = e^{r_i} / (e^{r_i} + e^{r_j});
    thurstone(r)        P(i beats j) = Phi(r_i - r_j): the same with normal noise;
    sure(r)             the better reward wins always, equal rewards half the time;
    matrix(M)           any table with M + M^T = 1: people may be intransitive;
    noisy(law, e)       the answer is flipped with probability e: (1 - e) P(i beats j) + e P(j beats i).

**Data.**  Draw x from mu and two responses independently from q, and ask.  The pair (w, l) then has probability

    2 mu(x) q(w given x) q(l given x) P(w beats l given x),

where the 2 counts both orders of drawing.  `population_pairs` holds all of them with these weights, `sample_pairs` n draws with
weight 1/n; both are `Pairs`.

**A response against itself** is drawn with probability sum_i q_i^2, and beats itself half the time.  Such a pair is kept, because
the weights are then a product, but it says nothing: its margin is 0 under any reward.  `Pairs.distinct` leaves it out.

**Rankings** (`plackett-luce`).  The next place goes to response i with probability e^{r_i} / sum over those left of e^{r_j}; of
any two responses the order is then Bradley-Terry's.

Sources: Zermelo (1929); Bradley and Terry (1952); Luce (1959); Plackett (1975); Thurstone (1927).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tabular_rlhf.errors import InputError, as_floats
from tabular_rlhf.logspace import Array, log_of, log_sigmoid, logsumexp
from tabular_rlhf.mdp import Indices
from tabular_rlhf.projection import check_law
from tabular_rlhf.sampling import draw
from tabular_rlhf.world import World

LogBeats = Callable[[Any, Any, Any], Array]

# ---------------------------------------------------------------------------------------------------- laws


@dataclass(frozen=True, eq=False)
class Law:
    """A preference law: `log_beats(x, i, j)` = log P(i beats j given x), for index arrays that broadcast.

    name; shape (P, N), prompts and responses.  A response beats itself half the time.
    """

    name: str
    shape: tuple[int, int]
    log_beats: LogBeats

    def table(self) -> Array:
        """P(i beats j given x), (P, N, N).

        >>> bradley_terry(np.log([[1.0, 3.0]])).table().round(6).tolist()
        [[[0.5, 0.25], [0.75, 0.5]]]
        """
        P, N = self.shape
        return np.exp(self.log_beats(np.arange(P)[:, None, None], np.arange(N)[:, None], np.arange(N)))


def bradley_terry(r: Any) -> Law:
    """sigma(r_i - r_j).  Args: r, rewards (P, N), in nats."""
    r = _table(r, "r")
    return Law("Bradley-Terry", r.shape, lambda x, i, j: log_sigmoid(r[x, i] - r[x, j]))


def thurstone(r: Any) -> Law:
    """Phi(r_i - r_j), Phi the normal distribution function.  Args: r, rewards (P, N), in standard deviations of the noise.

    >>> thurstone([[0.0, 1.96]]).table().round(3)[0, 1].tolist()
    [0.975, 0.5]
    """
    from scipy.special import log_ndtr

    r = _table(r, "r")
    return Law("Thurstone", r.shape, lambda x, i, j: np.asarray(log_ndtr(r[x, i] - r[x, j])))


def sure(r: Any) -> Law:
    """The response of higher reward always wins; equal ones win half the time.

    >>> sure([[0.0, 1.0]]).table().tolist()
    [[[0.5, 0.0], [1.0, 0.5]]]
    """
    r = _table(r, "r")
    log_p = np.array([-np.inf, np.log(0.5), 0.0])
    return Law("sure", r.shape, lambda x, i, j: log_p[np.sign(r[x, i] - r[x, j]).astype(np.intp) + 1])


def matrix(M: Any) -> Law:
    """Any preferences at all.  Args: M (P, N, N) or (N, N), M[x, i, j] = P(i beats j given x), with M + M^T = 1.

    >>> rock_paper_scissors = matrix([[0.5, 0.0, 1.0], [1.0, 0.5, 0.0], [0.0, 1.0, 0.5]])
    >>> rock_paper_scissors.shape
    (1, 3)
    """
    M = as_floats(M, "M")
    M = M[None] if M.ndim == 2 else M
    if M.ndim != 3 or M.shape[1] != M.shape[2] or M.size == 0:
        raise InputError("M must be a square table for each prompt", got=f"shape {M.shape}", remedy="pass shape (P, N, N) or (N, N)")
    wrong = (M < 0) | (np.abs(M + np.swapaxes(M, 1, 2) - 1.0) > 1e-12)
    if wrong.any():
        x, i, j = (int(k) for k in np.argwhere(wrong)[0])
        both = f"M[{x}, {i}, {j}] = {M[x, i, j]:g}, M[{x}, {j}, {i}] = {M[x, j, i]:g}"
        raise InputError("one of two responses must win", got=both, remedy="make M + M^T = 1, with 1/2 on the diagonal")
    log_M = log_of(M)
    return Law("matrix", M.shape[:2], lambda x, i, j: log_M[x, i, j])


def noisy(law: Law, flip: float) -> Law:
    """The same people with slips: each answer is flipped with probability `flip`, independently.

    >>> noisy(sure([[0.0, 1.0]]), 0.1).table().round(6).tolist()
    [[[0.5, 0.1], [0.9, 0.5]]]
    """
    if not 0 <= flip <= 1:
        raise InputError("flip must be a probability", got=flip, remedy="pass 0 <= flip <= 1")
    with np.errstate(divide="ignore"):
        keep, turn = np.log1p(-flip), np.log(flip)

    def log_beats(x: Any, i: Any, j: Any) -> Array:
        return np.logaddexp(keep + law.log_beats(x, i, j), turn + law.log_beats(x, j, i))

    return Law(f"{law.name}, flipped with probability {flip:g}", law.shape, log_beats)


def _table(r: Any, name: str) -> Array:
    r = as_floats(r, name)
    if r.ndim != 2 or r.size == 0:
        raise InputError(f"{name} must be a table of prompts and responses", got=f"shape {r.shape}", remedy="pass shape (P, N)")
    return r


# ---------------------------------------------------------------------------------------------------- pairs


@dataclass(frozen=True, eq=False)
class Pairs:
    """Weighted pairs: x (prompt), w (preferred), l (rejected), index arrays that broadcast; weight, sums to one.

    n is the number of draws, or None for the whole population.
    """

    x: Indices
    w: Indices
    l: Indices
    weight: Array
    n: int | None

    def margin(self, table: Any) -> Any:
        """table[x, w] - table[x, l] of a (P, N) table, traced or not.

        >>> from tabular_rlhf.world import coin
        >>> pairs = population_pairs(coin(), sure(coin().r)); float(np.sum(pairs.weight * pairs.margin(coin().r)))
        0.5
        """
        return table[self.x, self.w] - table[self.x, self.l]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of values on these pairs, which `estimate` averages as it does those on trajectories.

        >>> from tabular_rlhf.sampling import estimate
        >>> from tabular_rlhf.world import coin
        >>> pairs = population_pairs(coin(), sure(coin().r)); estimate(pairs, pairs.margin(coin().r)).mean
        0.5
        """
        return np.broadcast_shapes(np.shape(self.x), np.shape(self.w), np.shape(self.l))

    def distinct(self) -> Pairs:
        """The pairs of two different responses, their weights normalized again.  Raises InputError if there are none."""
        weight = np.where(np.equal(self.w, self.l), 0.0, self.weight)
        total = np.sum(weight)
        if not total > 0:
            raise InputError("some pair must hold two responses", got="none", remedy="compare responses that differ")
        return Pairs(self.x, self.w, self.l, weight / total, self.n)


def population_pairs(world: World, law: Law, log_q: Any = None) -> Pairs:
    """Every ordered pair with its exact weight 2 mu(x) q(w) q(l) P(w beats l): x (P, 1, 1), w (1, N, 1), l (1, 1, N).

    Args: law, of the world's shape; log_q (P, N), the law of the responses compared, p_ref by default.

    >>> from tabular_rlhf.world import coin
    >>> float(np.sum(population_pairs(coin(), bradley_terry(coin().r)).weight).round(12))
    1.0
    """
    log_q = _check(world, law, log_q)
    P, N = law.shape
    x, w, l = np.arange(P)[:, None, None], np.arange(N)[None, :, None], np.arange(N)[None, None, :]
    q = np.exp(log_q)
    weight = np.exp(law.log_beats(x, w, l))
    weight *= q[:, :, None]
    weight *= q[:, None, :]
    weight *= 2.0 * world.mu[:, None, None]
    return Pairs(x, w, l, weight, None)


def sample_pairs(world: World, law: Law, n: int, *, rng: np.random.Generator, log_q: Any = None) -> Pairs:
    """n independent pairs: x from mu, two responses from q(. given x), the answer from the law; each has weight 1/n.

    >>> from tabular_rlhf.world import coin
    >>> pairs = sample_pairs(coin(), sure(coin().r), 10_000, rng=np.random.default_rng(0))
    >>> abs(float(np.sum(pairs.weight * pairs.margin(coin().r))) - 0.5) < 5 * 0.5 / 100
    True
    """
    if n < 1:
        raise InputError("a sample needs at least one draw", got=n, remedy="ask for n >= 1")
    q = np.exp(_check(world, law, log_q))
    x = draw(world.mu, n, rng=rng) if world.mdp.P > 1 else np.zeros(n, dtype=np.intp)
    first, second = _two_each(q, x, rng)
    wins = np.log1p(-rng.random(n)) < law.log_beats(x, first, second)
    w, l = np.where(wins, first, second), np.where(wins, second, first)
    return Pairs(x, w, l, np.full(1, 1.0 / n), n)


def _two_each(q: Array, x: Indices, rng: np.random.Generator) -> tuple[Indices, Indices]:
    """Two independent responses for each prompt in x."""
    out = np.empty((len(x), 2), dtype=np.intp)
    order = np.argsort(x, kind="stable")
    for prompt, here in enumerate(np.split(order, np.cumsum(np.bincount(x, minlength=len(q)))[:-1])):
        if len(here):
            out[here] = draw(q[prompt], 2 * len(here), rng=rng).reshape(-1, 2)
    return out[:, 0], out[:, 1]


def _check(world: World, law: Law, log_q: Any) -> Array:
    shape = (world.mdp.P, world.mdp.N)
    if law.shape != shape:
        raise InputError(f"the law must speak of the world's responses, {shape}", got=law.shape, remedy="make it from a (P, N) table")
    return world.log_p_ref if log_q is None else check_law(world.mdp, log_q)


# ---------------------------------------------------------------------------------------------------- rankings


def log_plackett_luce(r: Any, rankings: Any) -> Any:
    """log P(ranking) under rewards r: sum over places k of r_(k) - log sum over places m >= k of e^{r_(m)}.

    Args: r (N,), traced or not; rankings (..., K), indices of responses, best first; K <= N, the rest are not ranked (and were
    not offered).  Returns: (...).

    >>> float(np.exp(log_plackett_luce(np.log([1.0, 2.0, 3.0]), [2, 1, 0])).round(6))
    0.333333
    """
    scores = r[np.asarray(rankings)]
    K = np.shape(rankings)[-1]
    at_or_after = np.where(np.arange(K)[:, None] <= np.arange(K), 0.0, -np.inf)
    return np.sum(scores - logsumexp(scores[..., None, :] + at_or_after, axis=-1), axis=-1)


def sample_rankings(r: Any, n: int, *, rng: np.random.Generator) -> Indices:
    """n rankings of all responses, (n, N), best first: sort r + Gumbel noise (Yellott 1977).

    >>> sample_rankings(np.array([0.0, 1000.0]), 2, rng=np.random.default_rng(0)).tolist()
    [[1, 0], [1, 0]]
    """
    r = as_floats(r, "r")
    return np.argsort(-(r + rng.gumbel(size=(n, len(r)))), axis=1)
