r"""The update of a recipe: its exact mean and covariance, and the same on sampled groups.

**Symbols.**  theta: tabular logits (P, S, V); pi the policy they give; pi_old the one that ratios are taken to; q the sampler that drew
the groups, pi_old itself unless `behavior` says otherwise; c the frozen correction by pi_old/q, 1 where the recipe has none.

    surrogate(pi) = sum over (x, tau) of c (plus f(rho, 1) + minus f(rho, -1)),      rho = pi/pi_old of a token or a response,
    E[update]     = its gradient in theta, everything else frozen.

A token-level term needs the credit that passes through (s, a) only, a backward sweep; so the mean costs O(N).  There is no
stop-gradient: pi_old, the frozen policy of CISPO's weights, c and the credit are arguments, and the gradient is taken in one of them.
The surrogate takes log_pi, so the expected update in *any* policy class is grad(lambda t: surrogate(..., policy.log_pi(t), ...)).

**Theorem** (covariance by counts).  With v_i the slope of member i, U = sum_i a_i v_i.  Given their kinds the responses of a
group are independent, so

    E[U U^T] = sum_k E[n_k a_k^2] E[v v^T given k] + sum_{k,l} E[(n_k n_l - 1{k=l} n_k) a_k a_l] m_k m_l^T,   m_k = E[v given k],

with a and v each in a plus and a minus part where the loss treats them differently.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tabular_rlhf.autodiff import grad
from tabular_rlhf.behavior import Behavior, Policies
from tabular_rlhf.errors import InputError
from tabular_rlhf.logspace import Array, log_softmax
from tabular_rlhf.mdp import Indices, TokenMDP
from tabular_rlhf.policy_gradient import batches as b
from tabular_rlhf.policy_gradient import groups as g
from tabular_rlhf.policy_gradient.record import PolicyLoss, Recipe
from tabular_rlhf.world import World

PLAIN = Behavior()
"""The old policy samples."""
LARGEST = 2**24
"""Numbers in the largest array that a covariance may make."""


def _term(loss: PolicyLoss, log_pi: Any, log_old: Any, log_now: Any, sign: float, settings: Any) -> Any:
    """f(rho, sign) wherever pi_old may go; 0 elsewhere, where nothing is credited."""
    drawn = ~np.isneginf(log_old)
    old, now, pi = (np.where(drawn, f, 0.0) for f in (log_old, log_now, log_pi))
    return np.where(drawn, loss(log_pi=pi, log_old=old, log_now=now, A=np.full(np.shape(old), sign), **settings), 0.0)


def _possible(log_old: Array) -> Array:
    """log pi_old, 0 where it never comes: there nothing is credited."""
    return np.where(np.isneginf(log_old), 0.0, log_old)


def _at_level(mdp: TokenMDP, loss: PolicyLoss, log_pi: Any) -> Any:
    """log_pi of tokens (P, S, V), or of responses (P, N), perhaps divided by their length."""
    if loss.level == "token":
        return log_pi
    return mdp.path_sum(log_pi) / (mdp.lengths if loss.level == "geometric" else 1.0)


def correction_of(mdp: TokenMDP, recipe: Recipe, log_old: Array, log_sampler: Array) -> Array:
    """c of every token (P, S, V), or of every response (P, N); 1 where the sampler never comes, and for no correction (P, 1)."""
    level = recipe.correction.level
    if not recipe.correction.needs:
        return np.ones((mdp.P, 1))
    drawn = ~np.isneginf(log_sampler)
    gap = np.where(drawn, log_old, 0.0) - np.where(drawn, log_sampler, 0.0)
    if level == "prefix":
        gap = mdp.prefix_sum(gap)[..., None] + gap
    elif level != "token":
        gap = mdp.path_sum(gap) / (mdp.lengths if level == "geometric" else 1.0)
    with np.errstate(over="ignore"):
        return np.asarray(recipe.correction(rho=np.exp(gap), **recipe.settings))


def surrogate(
    mdp: TokenMDP, credit: g.Credit, recipe: Recipe, log_pi: Any, *, log_old: Array, log_now: Array, log_sampler: Array | None = None
) -> Any:
    """The expected surrogate of given credits, to be ascended in log_pi (P, S, V): a scalar, in units of the advantage.

    Args: log_old, the policy of the ratios; log_now, the live one as a frozen number (CISPO's weights); log_sampler, the one that drew,
    log_old by default.
    """
    loss, by_token = recipe.loss, recipe.correction.by_token
    c = correction_of(mdp, recipe, log_old, log_old if log_sampler is None else log_sampler)
    old, now = (_at_level(mdp, loss, f) for f in (log_old, log_now))
    total = 0.0
    for weight, sign in ((credit.plus, 1.0), (credit.minus, -1.0)):
        if np.any(weight):
            weight = weight if by_token else weight * c
            through = mdp.subtree_sum(weight) if loss.level == "token" else weight
            through = through * c if by_token else through
            pi = _at_level(mdp, loss, loss.of_tokens(log_pi, _possible(log_old), sign, recipe.settings))
            total = total + np.sum(through * _term(loss, pi, old, now, sign, recipe.settings))
    return total


def policies(world: World, logits: Array, log_old: Array | None, behavior: Behavior = PLAIN) -> Policies:
    """Who is updated, whom ratios are taken to (pi by default), and who draws.  Raises InputError where another forbids what is drawn."""
    log_pi: Array = log_softmax(np.asarray(logits, dtype=np.float64))
    old = log_pi if log_old is None else log_old
    sampler = behavior.of(old)
    for name, other in (("pi", log_pi), ("pi_old", old)):
        gone = np.isneginf(other) & ~np.isneginf(sampler)
        if gone.any():
            x, s, a = (int(i) for i in np.argwhere(gone)[0])
            where = f"prompt {x}, state {s}, token {world.mdp.vocabulary[a]!r}"
            must, got = f"{name} must allow what the sampler draws", f"{name} = 0 < the sampler's"
            raise InputError(must, got=got, where=where, remedy="give the token a finite logit")
    return Policies(log_pi, old, sampler)


def update_of(
    world: World, credit: g.Credit, logits: Array, recipe: Recipe, *, log_old: Array | None = None, behavior: Behavior = PLAIN
) -> Array:
    """The update that given credits make: (P, S, V)."""
    log_pi, old, sampler = policies(world, logits, log_old, behavior)
    free = np.where(np.isneginf(log_pi), -np.inf, logits)

    def ascended(theta: Any) -> Any:
        return surrogate(world.mdp, credit, recipe, log_softmax(theta), log_old=old, log_now=log_pi, log_sampler=sampler)

    return np.asarray(grad(ascended)(free)) if np.any(credit.plus) or np.any(credit.minus) else np.zeros_like(log_pi)


def expected_update(
    world: World,
    logits: Array,
    recipe: Recipe,
    *,
    log_old: Array | None = None,
    reward: Array | None = None,
    behavior: Behavior = PLAIN,
) -> Array:
    """The exact expected update in tabular logits, (P, S, V), when groups are drawn from pi_old (pi itself by default), or as told.

    >>> from tabular_rlhf.world import coin
    >>> expected_update(coin(), np.zeros((1, 1, 2)), Recipe("rloo", G=4)).round(6).tolist()
    [[[-0.25, 0.25]]]
    """
    sampler = policies(world, logits, log_old, behavior).sampler
    credit = (g.expected_credit if recipe.batch.apart else b.credit)(world, sampler, recipe, reward)
    return update_of(world, credit, logits, recipe, log_old=log_old, behavior=behavior)


def true_gradient(world: World, log_pi: Array, reward: Array | None = None) -> Array:
    """grad E_mu E_p[reward] in tabular logits with the reward frozen: (P, S, V), by one backward sweep."""
    return score_sum(world, log_pi, world.mu[:, None] * np.exp(world.mdp.path_sum(log_pi)) * (world.r if reward is None else reward))


def score_sum(world: World, log_pi: Array, credit: Array) -> Array:
    """sum over responses of credit (P, N) times the score, in tabular logits: (P, S, V)."""
    m = world.mdp.subtree_sum(credit)
    return np.asarray(m - np.exp(log_pi) * np.sum(m, axis=-1, keepdims=True))


# ---------------------------------------------------------------------------------------------------- one group's update


def slopes(world: World, at: Policies, recipe: Recipe) -> Array:
    """The slope of the summed term of every response in tabular logits, for A = 1 and A = -1: (2, P, N, S V).

    Raises: InputError where the table would not fit.
    """
    mdp = world.mdp
    if 2 * mdp.P * mdp.N * mdp.S * mdp.V > LARGEST:
        size = f"2 x {mdp.P} x {mdp.N} x {mdp.S * mdp.V}"
        raise InputError("the slopes of all responses must fit in memory", got=size, remedy="use a smaller world, or the mean only")
    path, along = paths(mdp), [_slope_of_tokens(mdp, recipe, at, sign) for sign in (1.0, -1.0)]
    along = [path * (f[:, None] if f.ndim == 3 else f) for f in along]
    c = correction_of(mdp, recipe, at.old, at.sampler)
    own = np.stack(along) * (c[:, None] if recipe.correction.by_token else c[..., None, None])  # d/dlog_pi(s, a); then the softmax
    return np.reshape(own - np.exp(at.live)[:, None] * np.sum(own, axis=-1, keepdims=True), (2, mdp.P, mdp.N, -1))


def _slope_of_tokens(mdp: TokenMDP, recipe: Recipe, at: Policies, sign: float) -> Array:
    """What one term rises by a nat of each token's log-probability: (P, S, V), or (P, N, S, V) where it depends on the whole response."""
    loss, settings = recipe.loss, recipe.settings
    base, log_pi = _possible(at.old), np.where(np.isneginf(at.old), 0.0, at.live)
    inner = np.asarray(grad(lambda y: np.sum(loss.of_tokens(y, base, sign, settings) + 0.0 * y))(log_pi))
    pi = _at_level(mdp, loss, loss.of_tokens(at.live, base, sign, settings))
    old, now = (_at_level(mdp, loss, f) for f in (at.old, at.live))
    outer = np.asarray(grad(lambda y: np.sum(_term(loss, y, old, now, sign, settings)))(np.where(np.isneginf(old), 0.0, pi)))
    if loss.level == "token":
        return outer * inner
    share = outer / (mdp.lengths if loss.level == "geometric" else 1.0)
    return np.asarray(share[..., None, None] * inner[:, None])


def paths(mdp: TokenMDP) -> Array:
    """1 where the response takes token a in state s: (N, S, V)."""
    tokens = mdp.tokens()
    before = np.cumsum(np.where(tokens >= 0, tokens, 0) * mdp.K ** np.arange(mdp.H), axis=1)
    out = np.zeros((mdp.N, mdp.S, mdp.V))
    for h in range(mdp.H):
        at = np.flatnonzero(tokens[:, h] >= 0)
        number = before[at, h - 1] if h else np.zeros(len(at), dtype=int)
        out[at, mdp.offsets[h] + number, tokens[at, h]] = 1.0
    return out


@dataclass(frozen=True, eq=False)
class Updates:
    """Updates of weighted groups: value (n, P S V); mean and covariance over them (unbiased for a sample)."""

    value: Array
    weight: Array
    n: int | None

    @property
    def mean(self) -> Array:
        return np.asarray(self.weight @ self.value)

    @property
    def covariance(self) -> Array:
        centered = self.value - self.mean
        spread = np.asarray((centered * self.weight[:, None]).T @ centered)
        return spread if self.n is None else spread * (self.n / max(1, self.n - 1))


def batch_updates(
    world: World, batches: b.Batches, logits: Array, recipe: Recipe, *, log_old: Array | None = None, behavior: Behavior = PLAIN
) -> Updates:
    """The update of every drawn batch, in flattened tabular logits.  Raises InputError where they would not fit."""
    at = policies(world, logits, log_old, behavior)
    table, (n, B, G) = slopes(world, at, recipe), batches.tau.shape
    if n * world.mdp.P * table.shape[-1] > LARGEST:
        size = f"{n:,} x {world.mdp.P * table.shape[-1]:,}"
        raise InputError("the updates of all batches must fit in memory", got=size, remedy="take fewer samples")
    parts = g.signs(recipe, b.drawn_worth(world, batches, recipe, at.sampler))
    return Updates(_added(np.repeat(batches.x, G, axis=1), batches.tau.reshape(n, B * G), parts, table), np.full(n, 1.0 / n), n)


def _added(x: Indices, tau: Indices, parts: tuple[Array, Array], table: Array) -> Array:
    """What responses tau to prompts x add up to, each with its parts: (n, members) to (n, P S V)."""
    n, members = tau.shape
    value, rows = np.zeros((n, table.shape[1], table.shape[-1])), np.arange(n)
    for k in range(members):
        for part, slope in zip(parts, table, strict=True):
            value[rows, x[:, k]] += part[:, k, None] * slope[x[:, k], tau[:, k]]
    return np.reshape(value, (n, -1))


def updates(
    world: World,
    groups: g.Groups,
    logits: Array,
    recipe: Recipe,
    *,
    log_old: Array | None = None,
    reward: Array | None = None,
    behavior: Behavior = PLAIN,
) -> Updates:
    """The update of every group, in flattened tabular logits: of all groups, or of sampled ones."""
    at = policies(world, logits, log_old, behavior)
    table = slopes(world, at, recipe)
    a = g.group_advantages(world, groups, recipe, at.sampler, reward)
    x = np.broadcast_to(groups.x[:, None], groups.tau.shape)
    return Updates(_added(x, groups.tau, g.signs(recipe, a), table), groups.weight, groups.n)


# ---------------------------------------------------------------------------------------------------- covariance, exactly


def covariance(
    world: World,
    logits: Array,
    recipe: Recipe,
    *,
    log_old: Array | None = None,
    reward: Array | None = None,
    behavior: Behavior = PLAIN,
) -> Array:
    """The exact covariance of one batch's update (of one group's, where B is 1), (P S V, P S V), summed over counts of kinds.

    >>> from tabular_rlhf.world import coin
    >>> covariance(coin(), np.zeros((1, 1, 2)), Recipe("none", G=1)).round(6).tolist()
    [[0.0625, -0.0625], [-0.0625, 0.0625]]
    """
    at = policies(world, logits, log_old, behavior)
    reward = world.r if reward is None else reward
    table, log_p = slopes(world, at, recipe), world.mdp.path_sum(at.sampler)
    if not recipe.batch.apart:
        one, both = b.moments(world, at.sampler, recipe, table, reward)
        return np.reshape(both, (one.size, one.size)) - np.outer(one, one)
    table = table * g.own_weight(world, recipe)[:, None]
    given = g.baselines(world, at.sampler, reward)
    P, D = world.mdp.P, table.shape[-1]
    mean, second = np.zeros((P, D)), np.zeros((P, D, P, D))
    for x in range(P):
        here = {k: v[x] for k, v in given.items()}
        moments = _alone(world, log_p, recipe, reward, here, x, table) or _together(world, log_p, recipe, reward, here, x, table)
        mean[x], second[x, :, x] = world.mu[x] * moments[0], world.mu[x] * moments[1]
    return (np.reshape(second, (P * D, P * D)) - np.outer(mean, mean)) / recipe.B


def _alone(world: World, log_p: Array, recipe: Recipe, reward: Array, given: Any, x: int, table: Array) -> tuple[Array, Array] | None:
    """E[U] and E[U U^T] of one prompt when members do not look at each other: G independent terms."""
    if recipe.aggregation.pooled or not recipe.advantage.alone:
        return None
    p, G = np.exp(log_p[x]), recipe.G
    A = recipe.advantage(r=reward[x], G=G, **given, **recipe.settings)
    v = sum(part[:, None] * slope for part, slope in zip(g.signs(recipe, A), table[:, x], strict=True))
    one = p @ v
    return G * one, G * (v.T * p) @ v + G * (G - 1) * np.outer(one, one)


def _together(world: World, log_p: Array, recipe: Recipe, reward: Array, given: Any, x: int, table: Array) -> tuple[Array, Array]:
    kind = g.kinds(world, log_p, recipe, reward, x)
    n = g.counts(recipe.G, len(kind.r))
    prob = g.count_probabilities(n, kind.q)
    parts = g.signs(recipe, g.kind_advantages(n, kind, recipe, given, world.mdp.H))
    member = (kind.label == np.arange(len(kind.r))[:, None]) * np.exp(log_p[x]) / kind.q[:, None]  # (K, N)
    one, both = b.moments_of(n, prob, parts, member[:, None], table[:, x : x + 1])
    return one[0], both[0, :, 0]
