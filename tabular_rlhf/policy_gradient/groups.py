r"""Groups of responses, and what a recipe credits each response with: by enumeration, by counts of kinds, or from samples.

**Symbols.**  A group of G responses to one prompt x ~ mu, tau_i ~ p_old(. given x), independent.  The *credit* of a response is

    plus(x, tau)  = E[ sum_i omega_i max(A_i, 0) 1{tau_i = tau} ],      minus with max(-A_i, 0),

so that every expected surrogate is a sum over responses, plus f(rho, 1) + minus f(rho, -1): see `updates`.

**Theorem** (counts).  Advantages and weights look at a response through its *kind*, its reward and perhaps its length.  With K
kinds of mass q_k the counts n of a group are multinomial, so any function of a group is summed exactly over

    C(G + K - 1, K - 1)  counts, of probability  G! prod_k q_k^{n_k} / n_k!,      in place of N^G groups.

A kind's credit is E[n_k omega_k A_k]; its members share it in proportion to p_old.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from tabular_rlhf import sampling
from tabular_rlhf.errors import InputError
from tabular_rlhf.logspace import Array
from tabular_rlhf.mdp import Indices
from tabular_rlhf.policy_gradient.record import Recipe
from tabular_rlhf.world import World

TINY = float(np.finfo(np.float64).tiny)
"""The smallest mass of a response that counts: smaller numbers have few digits."""
LARGEST = 2**23
"""Numbers in the largest array that a sum over groups or counts may make."""


@dataclass(frozen=True, eq=False)
class Groups:
    """Weighted groups: x (n,), tau (n, G), weight (n,) that sums to one; n is the number of draws, None for all groups."""

    x: Indices
    tau: Indices
    weight: Array
    n: int | None


def population(world: World, log_p: Array, G: int) -> Groups:
    """All N^G ordered groups of every prompt, with their exact weights mu(x) prod_i p(tau_i given x).

    Raises: InputError where they would not fit.

    >>> from tabular_rlhf.world import coin
    >>> population(coin(), coin().log_p_ref, 3).weight.tolist()
    [0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125]
    """
    P, N = world.mdp.P, world.mdp.N
    if G * math.log2(max(N, 2)) > 60 or P * N**G * G > LARGEST:
        size = f"{P} x {N}^{G} groups"
        raise InputError("all groups must fit in memory", got=size, remedy="sum over counts (expected_credit), or sample groups")
    tau = np.stack([np.ravel(i) for i in np.indices((N,) * G)], axis=1)
    x = np.repeat(np.arange(P), len(tau))
    weight = np.concatenate([world.mu[i] * np.prod(np.exp(log_p[i])[tau], axis=1) for i in range(P)])
    return Groups(x, np.tile(tau, (P, 1)), weight, None)


def sample(world: World, log_p: Array, G: int, n: int, *, rng: np.random.Generator) -> Groups:
    """n independent groups: a prompt from mu, then G responses from p(. given x).

    >>> from tabular_rlhf.world import coin
    >>> sample(coin(), coin().log_p_ref, 4, 10, rng=np.random.default_rng(0)).tau.shape
    (10, 4)
    """
    if n < 1:
        raise InputError("a sample needs at least one group", got=n, remedy="ask for n >= 1")
    x = np.sort(sampling.draw(world.mu, n, rng=rng))  # prompts in order: each is then drawn from at once
    asked = [(i, int(np.sum(x == i))) for i in range(world.mdp.P)]
    tau = [sampling.draw(np.exp(log_p[i]), k * G, rng=rng) for i, k in asked if k]
    return Groups(x, np.reshape(np.concatenate(tau), (n, G)), np.full(n, 1.0 / n), n)


# ---------------------------------------------------------------------------------------------------- what records ask for


def baselines(world: World, log_old: Array, reward: Array) -> dict[str, Array]:
    """The frozen quantities of advantages, (P, 1): the reward of the greedy response, and the optimal constant baseline."""
    mdp, pi = world.mdp, np.exp(log_old)
    first = np.arange(mdp.V) == np.argmax(log_old, axis=-1)[..., None]  # of equal tokens, the first
    greedy = np.argmax(mdp.path_sum(np.where(first, 0.0, -np.inf)), axis=1)[:, None]
    # |score(tau)|^2 = sum over the states of tau of |e_a - pi|^2: states of one path are distinct parameters
    squares = mdp.path_sum(1.0 - 2.0 * pi + np.sum(np.square(pi), axis=-1, keepdims=True))
    weight = np.exp(_log_p(world, log_old)) * squares
    total = np.sum(weight, axis=1, keepdims=True)
    best = np.sum(weight * reward, axis=1, keepdims=True) / np.where(total > 0, total, 1.0)
    return {"greedy": np.take_along_axis(reward, greedy, axis=1), "best": best}


def _log_p(world: World, log_pi: Array) -> Array:
    log_p: Array = world.mdp.path_sum(log_pi)
    return log_p


@dataclass(frozen=True, eq=False)
class Kinds:
    """The kinds of response of one prompt: r, lengths, q (K,), their reward, length and mass; label (N,), -1 where p_old is 0 or tiny."""

    r: Array
    lengths: Array
    q: Array
    label: Indices


def kinds(world: World, log_p: Array, recipe: Recipe, reward: Array, x: int, by_length: bool = False) -> Kinds:
    """Responses of prompt x that the recipe cannot tell apart: by reward, and by length where it looks at lengths of others."""
    by_length |= recipe.aggregation.pooled or recipe.advantage.by_length
    span = world.mdp.H + 1
    there = np.exp(log_p[x]) >= TINY
    levels, place = np.unique(reward[x][there], return_inverse=True)
    code = np.ravel(place) * span + (world.mdp.lengths[there] if by_length else 1)
    found = np.bincount(code, minlength=len(levels) * span) > 0
    label = np.full(world.mdp.N, -1)
    label[there] = (np.cumsum(found) - 1)[code]
    q = np.bincount(label[there], np.exp(log_p[x][there]))
    which = np.flatnonzero(found)
    return Kinds(levels[which // span], (which % span).astype(float), q / np.sum(q), label)


def counts(G: int, K: int) -> Array:
    """All ways to fill a group of G from K kinds: (M, K), M = C(G + K - 1, K - 1).  Raises InputError where they are too many.

    >>> counts(2, 2).tolist()
    [[0.0, 2.0], [1.0, 1.0], [2.0, 0.0]]
    """
    M = math.comb(G + K - 1, K - 1)
    if M * K > LARGEST:
        raise InputError(
            "counts of kinds must fit in memory",
            got=f"{float(M):.3g} counts of {K} kinds in groups of {G}",
            remedy="use rewards of fewer values, a smaller G, or sample groups",
        )
    bars = itertools.chain.from_iterable(itertools.combinations(range(G + K - 1), K - 1))
    places = np.fromiter(bars, dtype=np.float64, count=M * (K - 1)).reshape(M, K - 1)
    edges = np.concatenate([np.full((M, 1), -1.0), places, np.full((M, 1), G + K - 1.0)], axis=1)
    return np.diff(edges, axis=1) - 1.0


def count_probabilities(n: Array, q: Any) -> Any:
    """The multinomial law of counts (M, K) for masses q (K,): traceable in q."""
    return np.exp(log_count_probabilities(n, q))


def log_count_probabilities(n: Array, q: Any) -> Any:
    """Its logarithm."""
    log_ways = special.gammaln(np.sum(n[0]) + 1.0) - np.sum(special.gammaln(n + 1.0), axis=1)
    return log_ways + np.sum(special.xlogy(n, q), axis=1)


def kind_advantages(n: Array, kind: Kinds, recipe: Recipe, given: dict[str, Any], H: int) -> Array:
    """A_k, times omega_k where weights depend on the others: (M, K) for counts n (M, K)."""
    supply = {"r": kind.r, "n": n, "G": recipe.G, "lengths": kind.lengths, "H": H, **given, **recipe.settings}
    A = recipe.advantage(**supply)
    if recipe.aggregation.pooled:
        A = A * recipe.aggregation(**supply)
    return np.broadcast_to(A, n.shape)


# ---------------------------------------------------------------------------------------------------- credit


@dataclass(frozen=True, eq=False)
class Credit:
    """How much each response is pushed up (plus) and down (minus), (P, N); for a loss linear in A, plus is the signed difference."""

    plus: Array
    minus: Array


def signs(recipe: Recipe, a: Any) -> tuple[Any, Any]:
    """(plus, minus) parts of advantages, as the loss needs them."""
    return (a, np.zeros_like(a)) if recipe.loss.linear else (np.maximum(a, 0.0), np.maximum(-a, 0.0))


def own_weight(world: World, recipe: Recipe) -> Array:
    """omega of every response where it depends on its own length only, else 1: (N,)."""
    if recipe.aggregation.pooled:
        return np.ones(world.mdp.N)
    lengths: Array = world.mdp.lengths.astype(float)
    return np.asarray(recipe.aggregation(lengths=lengths, G=recipe.G, H=world.mdp.H, **recipe.settings))


def expected_credit(world: World, log_old: Array, recipe: Recipe, reward: Array | None = None) -> Credit:
    """The exact credit of every response, by the cheapest exact route.

    Args: log_old (P, S, V), the behavior policy; reward (P, N), the world's by default.
    Raises: InputError where neither the rewards' levels are few nor the advantage is linear in the rewards.
    """
    reward = world.r if reward is None else reward
    log_p = _log_p(world, log_old)
    mass = world.mu[:, None] * np.exp(log_p) * own_weight(world, recipe)
    given = baselines(world, log_old, reward)
    advantage, G = recipe.advantage, recipe.G
    if _alone(recipe):
        A = advantage(r=reward, G=G, **given, **recipe.settings)
    elif (shares := _linear(recipe)) is not None:
        A = shares[0] * reward + (G - 1) * shares[1] * np.sum(np.exp(log_p) * reward, axis=1, keepdims=True)
    else:
        rows = [_by_counts(world, log_p, recipe, reward, given, x) for x in range(world.mdp.P)]
        return Credit(*(mass * np.stack(part) for part in zip(*rows, strict=True)))
    return Credit(*(G * mass * part for part in signs(recipe, A)))


def _alone(recipe: Recipe) -> bool:
    """Whether members of a group do not look at each other."""
    return recipe.advantage.alone and not recipe.aggregation.pooled


def _linear(recipe: Recipe) -> tuple[float, float] | None:
    """The shares of a linear advantage, where the mean advantage of a response is all that matters."""
    return recipe.advantage.shares(recipe.G, recipe.settings) if recipe.loss.linear and not recipe.aggregation.pooled else None


def group_sums(world: World, log_p: Array, recipe: Recipe) -> int:
    """Numbers in the sums over counts that one expected credit takes: 0 where it takes none."""
    if _alone(recipe) or _linear(recipe) is not None:
        return 0
    K = [len(kinds(world, log_p, recipe, world.r, x).r) for x in range(world.mdp.P)]
    return sum(k * math.comb(recipe.G + k - 1, k - 1) for k in K)


def _by_counts(world: World, log_p: Array, recipe: Recipe, reward: Array, given: dict[str, Array], x: int) -> tuple[Array, Array]:
    kind = kinds(world, log_p, recipe, reward, x)
    per_kind = pushes(kind, recipe, {k: v[x] for k, v in given.items()}, world.mdp.H)
    here = kind.label >= 0
    plus, minus = (np.where(here, push[np.maximum(kind.label, 0)], 0.0) for push in per_kind)
    return plus, minus


def pushes(kind: Kinds, recipe: Recipe, given: dict[str, Any], H: int = 1) -> tuple[Any, Any]:
    """E[n_k A_k^plus]/q_k and E[n_k A_k^minus]/q_k, (K,)."""
    n = counts(recipe.G, len(kind.r))
    a = kind_advantages(n, kind, recipe, given, H)
    per_mass = _times(n, log_count_probabilities(n, kind.q)[:, None] - np.log(kind.q))  # n_k P(n)/q_k, however small q_k is
    up, down = (np.sum(per_mass * part, axis=0) for part in signs(recipe, a))
    return up, down


def _times(n: Array, log_p: Array) -> Array:
    """n e^{log_p}, 0 where n is 0, though e^{log_p} may be no float there."""
    return n * np.exp(np.where(n > 0, log_p, 0.0))


def group_advantages(world: World, groups: Groups, recipe: Recipe, log_old: Array, reward: Array | None = None) -> Array:
    """omega_i A_i of every member of every group: (n, G)."""
    reward = world.r if reward is None else reward
    at = groups.x[:, None]
    lengths = world.mdp.lengths[groups.tau].astype(float)
    given = {k: v[groups.x] for k, v in baselines(world, log_old, reward).items()}
    supply = {"r": reward[at, groups.tau], "n": np.ones(groups.tau.shape), "G": recipe.G, "lengths": lengths, "H": world.mdp.H}
    supply |= {**given, **recipe.settings}
    return np.asarray(recipe.advantage(**supply) * recipe.aggregation(**supply))


def credit_of(world: World, groups: Groups, recipe: Recipe, log_old: Array, reward: Array | None = None) -> Credit:
    """The credit of every response on weighted groups: the mean over a sample, or exact over all groups."""
    a = group_advantages(world, groups, recipe, log_old, reward) * groups.weight[:, None]
    index = np.ravel(groups.x[:, None] * world.mdp.N + groups.tau)
    P, N = world.mdp.P, world.mdp.N
    plus, minus = (np.bincount(index, np.ravel(part), P * N).astype(float).reshape(P, N) for part in signs(recipe, a))
    return Credit(plus, minus)
