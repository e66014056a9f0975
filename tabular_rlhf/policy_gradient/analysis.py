r"""What a recipe really optimizes: its expected update beside the true gradient, its noise, and its effective objective.

**Theorem** (0/1 rewards).  Let q be the success probability and a_1(n), a_0(n) the advantage of a success and a failure in a group
with n successes.  The expected update is c_G(q) grad q, the gradient of

    F(q) = E[Phi(n)],   n ~ Binomial(G, q),   Phi(n) = (1/G) sum_{m=1}^{n} a_1(m) - a_0(m - 1),

because the derivative of P(n >= m) in q is G times the probability of m - 1 successes among the G - 1 others.
For the group's standard deviation F tends to 2 arcsin sqrt q; with G = 2 (ddof 0) it is q itself.

**Curl.**  From three reward levels on, dividing by the group's standard deviation is the gradient of nothing (`fields.curl`), and where
it leads depends on the way.

**Theorem** (shared baselines).  If b is one symmetric function of the group, sum_i (r_i - b) score_i has mean grad (G E[r] - E[b]),
because E[b sum_i score_i] = grad E[b].  So the group mean ascends (G - 1)/G E[r], and OPO E[r] - E[b]/G.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from tabular_rlhf.behavior import Behavior
from tabular_rlhf.errors import InputError
from tabular_rlhf.fields import Case, Objective, Verdict, cases, measure, objectives
from tabular_rlhf.logspace import Array, log_softmax
from tabular_rlhf.policy_gradient import batches as b
from tabular_rlhf.policy_gradient import groups as g
from tabular_rlhf.policy_gradient.groups import group_sums
from tabular_rlhf.policy_gradient.record import Recipe
from tabular_rlhf.policy_gradient.updates import PLAIN, batch_updates, covariance, expected_update, policies, true_gradient, updates
from tabular_rlhf.world import World

MOST = 2**22
"""Numbers in the sums over counts of groups that a verdict may take."""

TWO = g.Kinds(np.array([0.0, 1.0]), np.ones(2), np.array([0.5, 0.5]), np.arange(2))
"""A failure and a success, of equal length."""


def _two_advantages(recipe: Recipe) -> tuple[Array, Array]:
    """(a_0, a_1) of a failure and a success in a group with 0..G successes: (G + 1,) each."""
    n = g.counts(recipe.G, 2)
    a = np.asarray(g.kind_advantages(n, TWO, recipe, {"greedy": np.zeros(1), "best": np.zeros(1)}, 1))
    own = 1.0 if recipe.aggregation.pooled else recipe.aggregation(lengths=np.ones(1), G=recipe.G, H=1, **recipe.settings)
    successes = np.argsort(n[:, 1])
    failure, success = (own * a)[successes].T
    return failure, success


def success_weight(q: Any, recipe: Recipe) -> Any:
    r"""c_G(q): with 0/1 rewards, one length and success probability q, the expected update is c_G(q) grad q.

    A finite binomial sum, exact on the closed interval: at q = 0 and 1 too.

    >>> [round(float(success_weight(0.2, Recipe("grpo", G=G))), 4) for G in (2, 4, 64)]  # towards 1/sqrt(q (1 - q)) = 2.5
    [1.0, 1.6578, 2.4686]
    """
    q = np.asarray(q, dtype=np.float64)
    if not np.all((q >= 0) & (q <= 1)):
        raise InputError("q must be a probability", got=float(np.ravel(q)[0]), remedy="pass the success probability")
    failure, success = _two_advantages(recipe)
    # E[A given success] - E[A given failure], the others being Binomial(G - 1, q); times G members
    m = np.arange(recipe.G)
    with np.errstate(under="ignore"):
        others = special.binom(recipe.G - 1, m) * q[..., None] ** m * (1.0 - q[..., None]) ** (recipe.G - 1 - m)
    return recipe.G * np.sum(others * (success[1:] - failure[:-1]), axis=-1)


def success_objective(q: Any, recipe: Recipe) -> Any:
    r"""F(q) = E[Phi(n)]: the objective that the recipe ascends with 0/1 rewards, F(0) = 0.

    >>> round(float(success_objective(1.0, Recipe("grpo", G=64))), 4)  # towards 2 arcsin 1 = 3.1416
    2.7761
    """
    failure, success = _two_advantages(recipe)
    m = np.arange(1, recipe.G + 1)
    tail = special.betainc(m, recipe.G - m + 1.0, np.asarray(q, dtype=np.float64)[..., None])  # P(n >= m)
    return np.sum(tail * (success[1:] - failure[:-1]), axis=-1)


@dataclass(frozen=True, eq=False)
class Analysis:
    """One recipe at one policy.

    cosine, of the expected update with the true gradient (None where one of them is 0); ratio, <update, gradient>/|gradient|^2;
    variance, summed over parameters, of one batch's update; responses, how many make its noise as large as its mean:
    B G variance/|update|^2; silent, the probability that a group teaches nothing because its rewards are all equal; verdict, what it
    ascends, measured (`fields`).  variance is None where the world is too large for it.
    """

    recipe: Recipe
    update: Array
    gradient: Array
    cosine: float | None
    ratio: float | None
    variance: float | None
    responses: float | None
    silent: float
    verdict: Verdict

    @property
    def curl(self) -> float | None:
        """max |J - J^T| of the update in logits: 0 where it is the gradient of some function of the policy."""
        return self.verdict.curl

    @property
    def objective(self) -> str:
        """What it ascends, in words, and the residual where these are not all of it."""
        return str(self.verdict)


def analyse(
    world: World,
    logits: Array,
    recipe: Recipe,
    *,
    log_old: Array | None = None,
    reward: Array | None = None,
    behavior: Behavior = PLAIN,
) -> Analysis:
    """The expected update beside grad E[reward] at the policy of these logits, all exact.

    >>> from tabular_rlhf.world import coin
    >>> a = analyse(coin(), np.zeros((1, 1, 2)), Recipe("grpo", G=8)); round(a.ratio, 4), a.objective
    (1.8557, 'F(success probability)')
    """
    log_pi, _, sampler = policies(world, logits, log_old, behavior)
    world = world if reward is None else world.with_reward(reward)
    update = expected_update(world, logits, recipe, log_old=log_old, behavior=behavior)
    if not np.all(np.isfinite(update)):
        raise InputError("an update must be finite", got="nan or inf", where=recipe.name, remedy="mend the record: it divides by zero")
    gradient = true_gradient(world, log_pi)
    along, size, length = float(np.sum(update * gradient)), float(np.sum(gradient**2)), float(np.sum(update**2))
    noise = 1e-13 * (1.0 + float(np.max(np.abs(world.r))))  # what rounding leaves of a gradient that vanishes
    flat, still = np.sqrt(size) <= noise, np.sqrt(length) <= noise
    variance = _variance(world, logits, recipe, log_old, behavior)
    return Analysis(
        recipe=recipe,
        update=update,
        gradient=gradient,
        cosine=None if flat or still else min(1.0, max(-1.0, float(along / np.sqrt(size * length)))),
        ratio=None if flat else along / size,
        variance=variance,
        responses=None if still or variance is None else recipe.B * recipe.G * variance / length,
        silent=silent(world, world.mdp.path_sum(sampler), recipe.G),
        verdict=verdict(world, logits, recipe, log_old, behavior),
    )


@dataclass(frozen=True, eq=False)
class Estimate:
    """One recipe at one policy, from n drawn batches: as `Analysis`; ratio_error, the standard error of the ratio; update (P, S, V)."""

    update: Array
    cosine: float | None
    ratio: float | None
    ratio_error: float | None
    variance: float
    responses: float | None


def estimate(
    world: World,
    logits: Array,
    recipe: Recipe,
    n: int,
    *,
    rng: np.random.Generator,
    log_old: Array | None = None,
    behavior: Behavior = PLAIN,
) -> Estimate:
    """The mean update of n drawn batches beside the exact grad E[r]: where batches are too many to be summed.

    >>> from tabular_rlhf.world import coin
    >>> found = estimate(coin(), np.zeros((1, 1, 2)), Recipe("rloo", G=4), 1000, rng=np.random.default_rng(0))
    >>> abs(found.ratio - 1.0) < 5 * found.ratio_error
    True
    """
    at = policies(world, logits, log_old, behavior)
    log_p = world.mdp.path_sum(at.sampler)
    if recipe.batch.apart:
        drawn = updates(world, g.sample(world, log_p, recipe.G, n, rng=rng), logits, recipe, log_old=log_old, behavior=behavior)
    else:
        some = b.sample(world, log_p, recipe, n, rng=rng)
        drawn = batch_updates(world, some, logits, recipe, log_old=log_old, behavior=behavior)
    gradient, mean = np.ravel(true_gradient(world, at.live)), drawn.mean
    variance = float(np.sum(np.var(drawn.value, axis=0, ddof=1))) / (recipe.B if recipe.batch.apart else 1)
    size, length = float(gradient @ gradient), float(mean @ mean)
    along = drawn.value @ gradient / size if size > 0 else None
    return Estimate(
        update=np.reshape(mean, at.live.shape),
        cosine=None if size == 0 or length == 0 else float(mean @ gradient / np.sqrt(size * length)),
        ratio=None if along is None else float(np.mean(along)),
        ratio_error=None if along is None else float(np.std(along, ddof=1) / np.sqrt(n)),
        variance=variance,
        responses=None if length == 0 else recipe.B * recipe.G * variance / length,
    )


def verdict(world: World, logits: Array, recipe: Recipe, log_old: Array | None = None, behavior: Behavior = PLAIN) -> Verdict:
    """What the recipe ascends near a policy, measured; without its curl, and in fewer cases, where its groups are many."""
    sampler = policies(world, logits, log_old, behavior).sampler
    sums = group_sums(world, world.mdp.path_sum(sampler), recipe) if recipe.batch.apart else b.size(world, sampler, recipe)
    affordable = MOST // max(1, sums)
    at = cases(world, logits, log_old, behavior)[: max(1, affordable)]
    curled = affordable >= 4 * int(np.count_nonzero(np.isfinite(logits)))

    def update(case: Case) -> Array:
        return expected_update(case.world, case.logits, recipe, log_old=case.log_old, behavior=case.behavior)

    return measure(update, at, lambda case: _named(case, recipe), curl=curled)


def _variance(world: World, logits: Array, recipe: Recipe, log_old: Array | None, behavior: Behavior) -> float | None:
    """Summed over parameters; None where the world is too large for it."""
    try:
        found = covariance(world, logits, recipe, log_old=log_old, behavior=behavior)
    except InputError:
        return None
    return float(np.sum(np.maximum(np.diag(found), 0.0)))


def silent(world: World, log_p: Array, G: int) -> float:
    """The probability that all rewards of a group are equal."""
    levels, place = np.unique(world.r, return_inverse=True)
    place = np.reshape(place, world.r.shape)
    mass = np.stack([np.bincount(place[x], np.exp(log_p[x]), len(levels)) for x in range(world.mdp.P)])
    return float(np.sum(world.mu[:, None] * mass**G))


def _named(case: Case, recipe: Recipe) -> dict[str, Objective]:
    """The named objectives, the mean of the group's baseline where the recipe has one that all members share, and what shaping adds."""
    if recipe.batch.shaped is not None:
        named = objectives(case, recipe.G)
        return {"E[r]": named["E[r]"], "E[shaping]": _shaping(case.world, recipe), **named}
    if not recipe.batch.apart:
        return objectives(case, recipe.G)
    shared = None if case.log_sampler is not None else _shared_baseline(case, recipe)
    return objectives(case, recipe.G) | ({} if shared is None else {"E[b]": shared})


def _shaping(world: World, recipe: Recipe) -> Objective:
    """log_pi -> the mean of what shaping adds to the reward."""
    added = b.seen(world, recipe) - world.r
    return lambda log_pi: np.sum(world.mu[:, None] * np.exp(world.mdp.path_sum(log_pi)) * added)


def _shared_baseline(case: Case, recipe: Recipe) -> Objective | None:
    """log_pi -> E[b], if what is taken from the rewards of a group is one number b for all its members; None if it is not."""
    world, log_p = case.world, case.world.mdp.path_sum(log_softmax(case.logits))
    if not 0 < group_sums(world, log_p, recipe) <= MOST:  # 0: it does not look at others, or its mean is that of the reward
        return None
    given = g.baselines(world, log_softmax(case.logits), world.r)
    parts: list[tuple[Array, Array, Array]] = []
    for x in range(world.mdp.P):
        kind = g.kinds(world, log_p, recipe, world.r, x)
        n = g.counts(recipe.G, len(kind.r))
        supply = {"r": kind.r, "n": n, "G": recipe.G, "lengths": kind.lengths, **{k: v[x] for k, v in given.items()}}
        taken = np.broadcast_to(kind.r - recipe.advantage(**supply, **recipe.settings), n.shape)
        low, high = (f(np.where(n > 0, taken, end), axis=1) for f, end in ((np.min, np.inf), (np.max, -np.inf)))
        if np.max(high - low) > 1e-9 * (1.0 + np.max(np.abs(high))):
            return None
        parts.append((n, high, (kind.label == np.arange(len(kind.r))[:, None]).astype(float)))

    def mean(log_pi: Any) -> Any:
        p = np.exp(world.mdp.path_sum(log_pi))
        rows = [np.sum(g.count_probabilities(n, np.matmul(member, p[x])) * b) for x, (n, b, member) in enumerate(parts)]
        return sum(m * row for m, row in zip(world.mu.tolist(), rows, strict=True))

    return mean
