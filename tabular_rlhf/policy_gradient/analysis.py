r"""What a recipe really optimizes: its expected update beside the true gradient, its noise, and its effective objective.

**Theorem** (0/1 rewards).  Let q be the success probability and a_1(n), a_0(n) the advantage of a success and a failure in a group
with n successes.  The expected update is c_G(q) grad q, the gradient of

    F(q) = E[Phi(n)],   n ~ Binomial(G, q),   Phi(n) = (1/G) sum_{m=1}^{n} a_1(m) - a_0(m - 1),

because the derivative of P(n >= m) in q is G times the probability of m - 1 successes among the G - 1 others.
For the group's standard deviation F tends to 2 arcsin sqrt q; with G = 2 (ddof 0) it is q itself.

**Theorem** (more kinds).  With kind k's mass q_k and E[sum of its omega A]/q_k = w_k(q), the update is sum_k w_k grad q_k: the
gradient of a function of the policy iff the form sum_k w_k dq_k is closed on the simplex, that is

    C_kl = dw_l/dq_k - dw_k/dq_l = E[n_k n_l (omega_l A_l - omega_k A_k)]/(q_k q_l)

satisfies  C_kl + C_lm + C_mk = 0  for all kinds k, l, m.  (w_k is G times the mean of omega_k A_k over the G - 1 others; its slope in
q_l makes one of them a member of kind l.)  The largest of these is the *curl*.  Dividing by the group's standard deviation has curl from
three reward levels on: then it is the gradient of nothing, and where it leads depends on the way.

**Theorem** (shared baselines).  If b is one symmetric function of the group, sum_i (r_i - b) score_i has mean grad (G E[r] - E[b]),
because E[b sum_i score_i] = grad E[b].  So the group mean ascends (G - 1)/G E[r], and OPO E[r] - E[b]/G.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from tabular_rlhf.errors import InputError
from tabular_rlhf.logspace import Array
from tabular_rlhf.policy_gradient import groups as g
from tabular_rlhf.policy_gradient.record import Recipe
from tabular_rlhf.policy_gradient.updates import covariance, expected_update, policies, true_gradient
from tabular_rlhf.world import World

MOST = 2**22
"""Largest product of counts and squared kinds for which the curl is computed."""

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


def curl(world: World, log_old: Array, recipe: Recipe, x: int, reward: Array | None = None) -> float:
    """How far the update at prompt x is from being the gradient of a function of the policy: 0 where it is one.

    Raises: InputError where the kinds are too many for a sum over counts to be differentiated.
    """
    reward = world.r if reward is None else reward
    by_length = len(set(np.ravel(recipe.aggregation(lengths=np.array([1.0, 2.0]), n=np.ones(2), G=recipe.G, H=2, **recipe.settings)))) > 1
    kind = g.kinds(world, world.mdp.path_sum(log_old), recipe, reward, x, by_length)
    given = {k: v[x] for k, v in g.baselines(world, log_old, reward).items()}
    own = 1.0 if recipe.aggregation.pooled else recipe.aggregation(lengths=kind.lengths, G=recipe.G, H=world.mdp.H, **recipe.settings)
    if len(kind.q) < 3 or (recipe.advantage.alone and not recipe.aggregation.pooled):
        return 0.0
    if math.comb(recipe.G + len(kind.q) - 1, recipe.G) * len(kind.q) ** 2 > MOST:
        got = f"{len(kind.q)} kinds in groups of {recipe.G}"
        raise InputError("counts of kinds must be few for the curl", got=got, remedy="use rewards of fewer values, or a smaller G")

    n = g.counts(recipe.G, len(kind.q))
    a = own * g.kind_advantages(n, kind, recipe, given, world.mdp.H)
    C = np.sum(g.pair_masses(n, kind.q) * (a[:, None, :] - a[:, :, None]), axis=0)
    return float(np.max(np.abs(C[:, :, None] + C[None, :, :] + C.T[:, None, :])))


@dataclass(frozen=True, eq=False)
class Analysis:
    """One recipe at one policy.

    cosine, of the expected update with the true gradient (None where one of them is 0); ratio, <update, gradient>/|gradient|^2;
    variance, summed over parameters, of one group's update; responses, how many make its noise as large as its mean:
    G variance/|update|^2; silent, the probability that a group teaches nothing because its rewards are all equal; curl, as above,
    the largest over prompts; objective, in words.  variance and curl are None where the world is too large for them.
    """

    recipe: Recipe
    update: Array
    gradient: Array
    cosine: float | None
    ratio: float | None
    variance: float | None
    responses: float | None
    silent: float
    curl: float | None
    objective: str


def analyse(world: World, logits: Array, recipe: Recipe, *, log_old: Array | None = None, reward: Array | None = None) -> Analysis:
    """The expected update beside grad E[reward] at the policy of these logits, all exact.

    >>> from tabular_rlhf.world import coin
    >>> a = analyse(coin(), np.zeros((1, 1, 2)), Recipe("grpo", G=8)); round(a.ratio, 4), a.objective
    (1.8557, 'F(success probability)')
    """
    log_pi, old = policies(world, logits, log_old)
    reward = world.r if reward is None else reward
    update = expected_update(world, logits, recipe, log_old=log_old, reward=reward)
    gradient = true_gradient(world, log_pi, reward)
    along, size, length = float(np.sum(update * gradient)), float(np.sum(gradient**2)), float(np.sum(update**2))
    noise = 1e-13 * (1.0 + float(np.max(np.abs(reward))))  # what rounding leaves of a gradient that vanishes
    flat, still = np.sqrt(size) <= noise, np.sqrt(length) <= noise
    variance = _affordable(lambda: np.trace(covariance(world, logits, recipe, log_old=log_old, reward=reward)))
    twist = _affordable(lambda: np.max([curl(world, old, recipe, x, reward) for x in range(world.mdp.P)]))
    return Analysis(
        recipe=recipe,
        update=update,
        gradient=gradient,
        cosine=None if flat or still else _cosine(update, gradient),
        ratio=None if flat else along / size,
        variance=variance,
        responses=None if still or variance is None else recipe.G * variance / length,
        silent=_all_equal_share(world, world.mdp.path_sum(old), reward, recipe.G),
        curl=twist,
        objective=_objective(world, recipe, reward, twist),
    )


def _cosine(a: Array, b: Array) -> float:
    a, b = a / np.max(np.abs(a)), b / np.max(np.abs(b))
    return float(np.clip(np.sum(a * b) / np.sqrt(np.sum(a**2) * np.sum(b**2)), -1.0, 1.0))


def _affordable(compute: Callable[[], float]) -> float | None:
    """A number that is never negative, or None where the world is too large for it."""
    try:
        return float(np.maximum(0.0, compute()))
    except InputError:
        return None


def _all_equal_share(world: World, log_p: Array, reward: Array, G: int) -> float:
    """The probability that all rewards of a group are equal."""
    levels, place = np.unique(reward, return_inverse=True)
    place = np.reshape(place, reward.shape)
    mass = np.stack([np.bincount(place[x], np.exp(log_p[x]), len(levels)) for x in range(len(reward))])
    return float(np.sum(world.mu[:, None] * mass**G))


def _objective(world: World, recipe: Recipe, reward: Array, twist: float | None) -> str:
    """The function whose gradient the expected on-policy update is, in words."""
    omega = np.ravel(recipe.aggregation(lengths=world.mdp.lengths.astype(float), n=np.ones(world.mdp.N), G=1, H=1, **recipe.settings))
    one_length = np.ptp(world.mdp.lengths) == 0
    by_length = (not one_length) and (np.ptp(omega) > 0 or recipe.aggregation.pooled or recipe.loss.level == "geometric")
    if not by_length and recipe.advantage.baseline == "free":
        return "E[r]"
    if not by_length and recipe.advantage.baseline == "shared":
        return "E[r] - E[b]/G"
    if not by_length and recipe.advantage.baseline == "free, scaled":
        return "E[r] at varying speed"
    if recipe.loss.level == "geometric" and not one_length:
        return "as ppo-clip, sequence-mean"
    if twist is None:
        return "not known: too many kinds"
    if twist > 1e-9 * (1.0 + float(np.max(np.abs(reward)))):
        return "nothing: it has curl"
    if not by_length and all(len(np.unique(row)) <= 2 for row in reward):
        return "F(success probability)"
    if recipe.advantage.alone and not recipe.aggregation.pooled:
        return "E[(r - b)/L] at this b"
    return "some function of masses"
