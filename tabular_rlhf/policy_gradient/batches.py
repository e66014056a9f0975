r"""Batches of several prompts: what each response is credited with where groups see each other, exactly and from samples.

**Symbols.**  A batch is B groups, each of a prompt x ~ mu and G responses to it.  A group's *state* is its prompt and how many of each
kind it has; a response's *sort* is all that a record of a batch can tell of it: its prompt and kind, the advantage that its group gave it,
whether it is kept.  N_f is how many of sort f are in the batch.

**Theorem** (counts of counts).  All that is made of a batch is a function of N, so that with w_f(N) the weight times advantage of sort f

    E[U] = sum_f E[N_f w_f] m_f,     E[U U^T] = sum_f E[N_f w_f^2] E[v v^T given f] + sum_{f,g} E[(N_f N_g - 1{f=g} N_f) w_f w_g] m_f m_g^T,

v the slope of a response, m_f = E[v given f]: given their sorts the responses of a batch are independent.  Groups are independent, so the
law of N is that of one group, convolved B times with itself; where silent groups are drawn anew it is the law given that they are mixed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from tabular_rlhf import sampling
from tabular_rlhf.errors import InputError
from tabular_rlhf.logspace import Array
from tabular_rlhf.mdp import Indices, TokenMDP
from tabular_rlhf.policy_gradient import groups as g
from tabular_rlhf.policy_gradient.record import Recipe
from tabular_rlhf.world import World

CLOSE = 12
"""Decimals to which the advantages of one sort agree."""


def ended(mdp: TokenMDP) -> Any:
    """Whether a response ended before the horizon cut it off, (N,): all do where there is no EOS."""
    return np.ones(mdp.N, dtype=bool) if mdp.eos is None else np.any(mdp.tokens() == mdp.V - 1, axis=1)


def seen(world: World, recipe: Recipe, reward: Array | None = None) -> Array:
    """The reward that advantages see, (P, N)."""
    r, shaped = world.r if reward is None else reward, recipe.batch.shaped
    if shaped is None:
        return r
    own = {k: recipe.settings[k] for k in recipe.batch.defaults}
    return np.asarray(shaped(r, world.mdp.lengths.astype(float), world.mdp.H, **own))


def often(kept: float, remedy: str = "let some response be better than another") -> float:
    """How often a group is kept, if ever."""
    if not kept > 0:
        raise InputError("some group must be mixed", got="groups whose rewards are all equal", remedy=remedy)
    return kept


# ---------------------------------------------------------------------------------------------------- what is in a batch


@dataclass(frozen=True, eq=False)
class Members:
    """Of sorts (F,), or of the responses of drawn batches (n, B G): advantage of the group, reward, length; 1 where its group is mixed,
    where it ended before the horizon; keeps, which of them count."""

    A: Array
    r: Array
    lengths: Array
    mixed: Array
    ended: Array
    keeps: str

    @property
    def kept(self) -> Array:
        """1 for what is kept."""
        return {"all": np.ones_like(self.A), "mixed": self.mixed, "ended": self.ended}[self.keeps]


@dataclass(frozen=True, eq=False)
class Sorts:
    """of, the sorts; share (F, P, N), of each response in its sort; counts (S, F) and weight (S,), the states of one group."""

    of: Members
    share: Array
    counts: Array
    weight: Array


def worth(recipe: Recipe, of: Members, n: Array, H: int) -> Array:
    """omega_f A'_f: (..., F) for n (..., F) of each in a batch; 0 for what is not kept."""
    kept = of.kept
    A = recipe.batch(A=of.A, r=of.r, n=n, lengths=of.lengths, kept=kept, mixed=of.mixed, ended=of.ended, **recipe.settings)
    left = n * kept
    size = np.sum(left, axis=-1, keepdims=True)
    some = size > 0
    supply = {"lengths": of.lengths, "n": np.where(some, left, 1.0), "G": np.where(some, size, 1.0), "H": H}
    omega = recipe.aggregation(**supply, **recipe.settings)
    return np.where(some & (kept > 0), np.broadcast_to(A, n.shape) * omega, 0.0)


def _by_length(recipe: Recipe) -> bool:
    """Whether anything that happens to a batch depends on lengths."""
    asks = "lengths" in recipe.batch.needs or recipe.batch.shaped is not None
    return asks or recipe.advantage.by_length or recipe.aggregation.by_length


@dataclass(frozen=True, eq=False)
class _States:
    """Of one prompt: n (M, K); chance (M,); member (M, K, 6), what tells a sort; share (K, N)."""

    n: Array
    chance: Array
    member: Array
    share: Array


def _states(world: World, log_p: Array, recipe: Recipe, plain: Array, shaped: Array, given: dict[str, Any], x: int) -> _States:
    there = np.exp(log_p) >= g.TINY
    lengths = world.mdp.lengths if _by_length(recipe) else np.ones(world.mdp.N)
    over = ended(world.mdp) if recipe.batch.asks("ended") else np.ones(world.mdp.N)
    told, place = np.unique(np.stack([plain, shaped, lengths, over], axis=1)[there], axis=0, return_inverse=True)
    r, K = told[:, 1], len(told)
    share = np.zeros((K, world.mdp.N))
    share[np.ravel(place), np.flatnonzero(there)] = np.exp(log_p[there])
    q = np.sum(share, axis=1)
    n = g.counts(recipe.G, K)
    A = np.broadcast_to(recipe.advantage(r=r, n=n, G=recipe.G, lengths=told[:, 2], **given, **recipe.settings), n.shape)
    low, high = (f(np.where(n > 0, told[:, 0], end), axis=1) for f, end in ((np.min, np.inf), (np.max, -np.inf)))
    mixed = high > low
    chance = g.count_probabilities(n, q / np.sum(q)) * (mixed if recipe.batch.redrawn else 1.0)
    of_mixed = mixed[:, None] if recipe.batch.asks("mixed") else np.ones((1, 1))
    parts = (x * world.mdp.N + np.arange(K), A, r, told[:, 2], of_mixed, told[:, 3])
    member = np.stack([np.broadcast_to(part, n.shape) for part in parts], axis=2)
    there = chance > 0 if recipe.batch.redrawn == "" else mixed & (chance > 0)
    if recipe.batch.redrawn == "same":
        chance = chance / often(float(np.sum(chance)))
    return _States(n[there], chance[there], member[there], share / q[:, None])


def sorts(world: World, log_old: Array, recipe: Recipe, reward: Array | None = None) -> Sorts:
    """The states of a group, and the sorts of its responses.

    Raises: InputError where they are too many, or where no group is mixed that is to be drawn anew.
    """
    plain, shaped = (world.r if reward is None else reward), seen(world, recipe, reward)
    log_p, given = world.mdp.path_sum(log_old), g.baselines(world, log_old, shaped)
    asked = np.flatnonzero(world.mu > 0).tolist()
    found = [_states(world, log_p[x], recipe, plain[x], shaped[x], {k: v[x] for k, v in given.items()}, x) for x in asked]
    keys = np.concatenate([f.member[f.n > 0] for f in found])
    _, first, place = np.unique(np.round(keys, CLOSE), axis=0, return_index=True, return_inverse=True)
    weight = np.concatenate([world.mu[x] * f.chance for x, f in zip(asked, found, strict=True)])
    counts, start, row = np.zeros((len(weight), len(first))), 0, 0
    for f in found:
        here = np.argwhere(f.n > 0)
        counts[row + here[:, 0], np.ravel(place)[start : start + len(here)]] = f.n[f.n > 0]
        start, row = start + len(here), row + len(f.n)
    number, A, r, lengths, mixed, over = keys[first].T
    share = np.zeros((len(first), world.mdp.P, world.mdp.N))
    rows = dict(zip(asked, found, strict=True))
    for sort, k in enumerate(number.astype(int).tolist()):
        share[sort, k // world.mdp.N] = rows[k // world.mdp.N].share[k % world.mdp.N]
    return Sorts(Members(A, r, lengths, mixed, over, recipe.batch.keeps), share, counts, weight / often(float(np.sum(weight))))


@lru_cache(maxsize=64)
def _sums(rows: bytes, shape: tuple[int, int], B: int) -> tuple[Array, tuple[Indices, ...]]:
    """All sums of B rows of counts (T, F), each once; and, group by group, which one a sum and a row make.

    They are at least C(B + d, d), d the dimension that the rows span: the sums of d + 1 rows that span it are all different.
    """
    counts = np.frombuffer(rows).reshape(shape)
    d = int(np.linalg.matrix_rank(counts - counts[0]))
    _require_few(math.comb(B + d, d), *shape)
    table, places = counts, list[Indices]()
    for _ in range(B - 1):
        _require_few(len(table), *shape)
        both = np.reshape(table[:, None] + counts, (-1, shape[1]))
        _, first, place = np.unique(_codes(both), return_index=True, return_inverse=True)
        table = both[first]
        places.append(np.ravel(place))
    return table, tuple(places)


def _require_few(batches: int, states: int, sorts: int) -> None:
    if batches * states * sorts > g.LARGEST:
        remedy = "take fewer prompts, a smaller group or rewards of fewer values, or sample batches (--samples 10000)"
        got = f"at least {float(batches):.3g} batches, of groups with {states:,} states"
        raise InputError("the batches that can be told apart must fit in memory", got=got, remedy=remedy)


def _codes(rows: Array) -> Indices:
    """A number for every row of whole numbers, the same for equal rows only: digits, ranked anew before they overflow."""
    base, span = int(np.max(rows)) + 1, 1
    code: Any = np.zeros(len(rows), dtype=np.int64)
    for column in rows.T:
        if span * base >= 2**62:
            code = np.ravel(np.unique(code, return_inverse=True)[1])
            span = int(np.max(code)) + 1
        code, span = code * base + column.astype(np.int64), span * base
    return code


def law(s: Sorts, B: int) -> tuple[Array, Array]:
    """What a batch of B groups may hold, N (T, F), and how likely, (T,).  Raises: InputError where there are too many.

    >>> from tabular_rlhf.world import coin
    >>> N, chance = law(sorts(coin(), coin().log_ref, Recipe("none", batch="whitened", G=2)), 2)
    >>> N.tolist(), chance.tolist()
    ([[0.0, 4.0], [1.0, 3.0], [2.0, 2.0], [3.0, 1.0], [4.0, 0.0]], [0.0625, 0.25, 0.375, 0.25, 0.0625])
    """
    N, places = _sums(np.ascontiguousarray(s.counts).tobytes(), s.counts.shape, B)
    chance = s.weight
    for place in places:
        chance = np.asarray(np.bincount(place, np.ravel(np.multiply.outer(chance, s.weight))), dtype=np.float64)
    return N, chance


# ---------------------------------------------------------------------------------------------------- moments


def credit(world: World, log_old: Array, recipe: Recipe, reward: Array | None = None) -> g.Credit:
    """The exact credit of every response of a batch, (P, N) each: see `groups`.

    >>> from tabular_rlhf.world import coin
    >>> alike = Recipe("none", batch="whitened", G=2, B=3), Recipe("grpo", G=6)  # of one prompt a batch is a group
    >>> a, b = credit(coin(), coin().log_ref, alike[0]), g.expected_credit(coin(), coin().log_ref, alike[1])
    >>> bool(np.allclose(a.plus, b.plus, atol=1e-15))
    True
    """
    s = sorts(world, log_old, recipe, reward)
    N, chance = law(s, recipe.B)
    parts = g.signs(recipe, worth(recipe, s.of, N, world.mdp.H))
    return g.Credit(*(np.einsum("f,fxn->xn", chance @ (N * part), s.share) for part in parts))


def size(world: World, log_old: Array, recipe: Recipe) -> int:
    """Numbers in the sums over batches that one credit takes."""
    s = sorts(world, log_old, recipe)
    return int(law(s, recipe.B)[0].size)


def moments(world: World, log_old: Array, recipe: Recipe, table: Array, reward: Array | None = None) -> tuple[Array, Array]:
    """E[U] (P, D) and E[U U^T] (P, D, P, D) of a batch's update, for slopes (2, P, N, D) of responses."""
    s = sorts(world, log_old, recipe, reward)
    N, chance = law(s, recipe.B)
    return moments_of(N, chance, g.signs(recipe, worth(recipe, s.of, N, world.mdp.H)), s.share, table)


def moments_of(N: Array, chance: Array, parts: tuple[Array, Array], share: Array, table: Array) -> tuple[Array, Array]:
    """The same.  Args: N (T, F), counts of sorts; chance (T,); parts (T, F), what each of a sort is worth, up and down; share (F, P, N), of
    each response in its sort."""
    P, D = table.shape[1], table.shape[-1]
    m = [np.reshape(np.swapaxes(np.matmul(np.swapaxes(share, 0, 1), slope), 0, 1), (len(share), P * D)) for slope in table]
    mean = sum((chance @ (N * a)) @ f for a, f in zip(parts, m, strict=True))
    second = np.zeros((P, D, P, D))
    for i, a in enumerate(parts):
        own = np.tensordot(chance @ (N * np.square(a)), share, 1)
        for x in range(P):
            second[x, :, x] += (table[i, x].T * own[x]) @ table[i, x]
        for j, b in enumerate(parts):
            pairs = (N * a * chance[:, None]).T @ (N * b) - np.diag(chance @ (N * a * b))
            second += np.reshape(m[i].T @ pairs @ m[j], second.shape)
    return np.reshape(mean, (P, D)), second


# ---------------------------------------------------------------------------------------------------- drawn batches


@dataclass(frozen=True, eq=False)
class Batches:
    """n drawn batches: x (n, B), tau (n, B, G)."""

    x: Indices
    tau: Indices


def sample(world: World, log_p: Array, recipe: Recipe, n: int, *, rng: np.random.Generator) -> Batches:
    """n independent batches of responses of law p, log_p (P, N), silent groups drawn anew as the recipe says.

    Raises: InputError where mixed groups do not come.

    >>> from tabular_rlhf.world import coin
    >>> drawn = sample(coin(), coin().log_p_ref, Recipe("rloo", batch="filled", G=2, B=3), 5, rng=np.random.default_rng(0))
    >>> drawn.tau.shape, np.unique(np.sum(drawn.tau, axis=2)).tolist()
    ((5, 3, 2), [1])
    """
    drawn = g.sample(world, log_p, recipe.G, n * recipe.B, rng=rng)
    order = rng.permutation(len(drawn.x))  # they come prompt by prompt
    x, tau = drawn.x[order], drawn.tau[order]
    silent = np.flatnonzero(_silent(world, x, tau) & bool(recipe.batch.redrawn))
    if len(silent):
        mixable = [recipe.G > 1 and np.ptp(world.r[k][np.exp(log_p[k]) >= g.TINY]) > 0 for k in np.flatnonzero(world.mu > 0)]
        often(float(all(mixable) if recipe.batch.redrawn == "same" else any(mixable)))
    while len(silent):
        if recipe.batch.redrawn == "any":
            again = g.sample(world, log_p, recipe.G, len(silent), rng=rng)
            x[silent], tau[silent] = again.x, again.tau
        else:
            for k in np.unique(x[silent]).tolist():
                here = silent[x[silent] == k]
                tau[here] = np.reshape(sampling.draw(np.exp(log_p[k]), here.size * recipe.G, rng=rng), (here.size, recipe.G))
        silent = silent[_silent(world, x[silent], tau[silent])]
    return Batches(np.reshape(x, (n, recipe.B)), np.reshape(tau, (n, recipe.B, recipe.G)))


def _silent(world: World, x: Indices, tau: Indices) -> Any:
    """Whether all rewards of a group are equal, (n,)."""
    return np.ptp(world.r[x[:, None], tau], axis=1) == 0


def drawn_worth(world: World, batches: Batches, recipe: Recipe, log_old: Array, reward: Array | None = None) -> Array:
    """omega A' of every response of drawn batches: (n, B G)."""
    plain, shaped = (world.r if reward is None else reward), seen(world, recipe, reward)
    at = batches.x[..., None]
    r, lengths = shaped[at, batches.tau], world.mdp.lengths[batches.tau].astype(float)
    given = {k: v[batches.x] for k, v in g.baselines(world, log_old, shaped).items()}
    ones = np.ones(r.shape)
    A = np.broadcast_to(recipe.advantage(r=r, n=ones, G=recipe.G, lengths=lengths, **given, **recipe.settings), r.shape)
    mixed = np.ptp(plain[at, batches.tau], axis=2, keepdims=True) > 0
    rows = [
        np.reshape(np.broadcast_to(f, r.shape), (len(r), -1)).astype(float) for f in (A, r, lengths, mixed, ended(world.mdp)[batches.tau])
    ]
    of = Members(rows[0], rows[1], rows[2], rows[3], rows[4], recipe.batch.keeps)
    return worth(recipe, of, np.ones(rows[0].shape), world.mdp.H)
