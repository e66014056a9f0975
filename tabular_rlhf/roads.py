r"""Two roads from comparisons to a policy: a reward first and then its best policy (RLHF), or the policy at once (DPO).

**Symbols.** Pairs (w, l) with weights; a reward class R = {r_omega}; a policy class Pi = {p_theta}; r*, p* the world's reward and answer.

    L(r) = -E[log sigma(r_w - r_l)]                                        the negative log-likelihood of Bradley-Terry;
    RLHF:  r_hat = argmin over R of L(r),   then argmax over Pi of E_p[r_hat] - beta KL(p, p_ref) = reverse projection of its Gibbs law;
    DPO:   argmin over Pi of L(beta log(p_theta/p_ref)):   a likelihood over the rewards R(Pi) = {beta log(pi/pi_ref) : pi in Pi};
    regret(p) = beta E_mu KL(p, p*) >= 0, in reward units, whichever road p came by.

**Theorem** (`all-roads`).  If R = R(Pi) then both roads end at the same policy, for any Pi and any data: the Gibbs law of
beta log(pi/pi_ref) is pi, and Pi holds it.  With a richer R they part: RLHF finds the best policy of Pi for the better reward, DPO the
likeliest reward of the poorer class.

**Errors.**  Both are minimizers of averages over n independent pairs.  With A the Hessian of L, B = E[slope slope^T] of one pair,
sqrt(n) (omega_hat - omega) -> N(0, A^+ B A^+) (the sandwich: right also where the class is wrong), and the second stage moves theta
by the implicit function theorem.  The regret then has, to first order, standard error sqrt(g' C g / n), with g its gradient and C
theta's covariance; where g = 0 (the class holds p*) it is a quadratic form: mean tr(H C)/(2n), variance tr((H C)^2)/(2n^2), H its
Hessian.

Sources: Rafailov et al. (2023), arXiv:2305.18290; Swamy et al. (2025), arXiv:2503.01067; White (1982) and Huber (1967) for the sandwich.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from tabular_rlhf.autodiff import grad, hessian, jacobian
from tabular_rlhf.errors import InputError, SolveError, as_floats
from tabular_rlhf.gibbs import solve
from tabular_rlhf.logspace import Array, log_sigmoid
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.policy import NGram, PolicyClass, Tabular
from tabular_rlhf.preferences import Pairs
from tabular_rlhf.projection import Projection, counted, local_minima, reverse_kl, reverse_projection
from tabular_rlhf.registry import settle
from tabular_rlhf.world import World

RUNAWAY = 3.0
"""Nats that parameters may move after the likelihood has stopped rising; more means that its maximum lies at infinity."""

# ---------------------------------------------------------------------------------------------------- reward classes


class RewardClass(Protocol):
    """A map from parameters omega to a reward table (P, N), in nats of preference; and where to start."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    def r(self, omega: Any) -> Any: ...
    def starts(self, count: int, rng: np.random.Generator) -> Iterable[Array]: ...


@dataclass(frozen=True)
class Table:
    """Every reward table: one number for each prompt and response."""

    mdp: TokenMDP

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.mdp.P, self.mdp.N)

    def r(self, omega: Any) -> Any:
        return omega

    def starts(self, count: int, rng: np.random.Generator) -> Iterable[Array]:
        return [np.zeros(self.shape)]  # convex: one start will do


@dataclass(frozen=True, eq=False)
class Linear:
    """r = features . omega, features (P, N, F)."""

    features: Array

    def __post_init__(self) -> None:
        features = as_floats(self.features, "features")
        if features.ndim != 3:
            raise InputError("features must have shape (P, N, F)", got=features.shape, remedy="one vector for every prompt and response")
        settle(self, features=features)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.features.shape[-1:]

    def r(self, omega: Any) -> Any:
        return np.matmul(self.features, omega)

    def starts(self, count: int, rng: np.random.Generator) -> Iterable[Array]:
        return [np.zeros(self.shape)]


@dataclass(frozen=True, eq=False)
class Implicit:
    """R(Pi) = {beta log(p_theta/p_ref)}: the rewards that the class's policies stand for.  omega = beta theta, so that it is in nats.

    The reference must allow every response: a forbidden one has no implicit reward.
    """

    policy: PolicyClass
    world: World

    def __post_init__(self) -> None:
        forbidden = np.isneginf(self.world.log_p_ref)
        if forbidden.any():
            x, t = (int(i) for i in np.argwhere(forbidden)[0])
            where = f"prompt {x}, response {self.world.mdp.text(t)!r}"
            raise InputError(
                "the reference must allow every response", got="p_ref = 0", where=where, remedy="leave it out of the vocabulary"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        return self.policy.shape

    def r(self, omega: Any) -> Any:
        return self.world.beta * (self.policy.mdp.path_sum(self.policy.log_pi(omega / self.world.beta)) - self.world.log_p_ref)

    def starts(self, count: int, rng: np.random.Generator) -> Iterable[Array]:
        """The reference (as the class can hold it) first: what the data do not determine stays there."""
        yield self.world.beta * _imitated(self.policy, self.world)
        for _ in range(0 if isinstance(self.policy, Tabular) else count - 1):  # a table's likelihood is convex in the log-ratios
            yield rng.normal(size=self.shape) * max(1.0, self.world.beta)


LOWEST = -745.0
"""Nats: e^LOWEST is the smallest float, and what the reference allows may be less likely."""


def _imitated(policy: PolicyClass, world: World) -> Array:
    if isinstance(policy, Tabular):
        return np.array(world.log_ref)
    return np.maximum(counted(policy, world.log_p_ref), LOWEST) if isinstance(policy, NGram) else np.zeros(policy.shape)


# ---------------------------------------------------------------------------------------------------- likelihood


def tally(pairs: Pairs, shape: tuple[int, int]) -> Array:
    """The weight of every (prompt, preferred, rejected): (P, N, N).  A response against itself says nothing and is left out."""
    P, N = shape
    x, w, l, weight = np.broadcast_arrays(pairs.x, pairs.w, pairs.l, pairs.weight)
    place = np.ravel((x * N + w) * N + l)
    table: Array = np.reshape(np.bincount(place, np.ravel(weight), P * N * N), (P, N, N)).astype(np.float64)
    table[:, np.arange(N), np.arange(N)] = 0.0
    return table


def negative_log_likelihood(r: Any, table: Any) -> Any:
    """L(r) = -sum of weight log sigma(r_w - r_l), nats per pair; table as `tally` gives it."""
    return -np.sum(table * log_sigmoid(r[:, :, None] - r[:, None, :]))


@dataclass(frozen=True, eq=False)
class RewardFit:
    """A maximum-likelihood reward: omega; r (P, N), up to c(x); nll, nats per pair (pairs of two different responses);
    covariance of sqrt(n) omega_hat, over the flattened omega; undetermined, the dimension of what the data leave open (in r, up to c(x));
    n, pairs, or None for the population; optima, how many local minima were found; status."""

    rewards: RewardClass
    omega: Array
    r: Array
    nll: float
    covariance: Array
    undetermined: int
    n: int | None
    optima: int
    status: str


def fit_reward(pairs: Pairs, rewards: RewardClass, shape: tuple[int, int], *, rng: np.random.Generator, starts: int = 6) -> RewardFit:
    """argmin over the class of -E[log sigma(r_w - r_l)].

    Args: shape (P, N).  Raises SolveError where the maximum of the likelihood lies at infinity (some response, or direction, always wins).

    >>> from tabular_rlhf.preferences import bradley_terry, population_pairs
    >>> from tabular_rlhf.world import coin
    >>> fit = fit_reward(population_pairs(coin(), bradley_terry(coin().r)), Table(coin().mdp), (1, 2), rng=np.random.default_rng(0))
    >>> round(float(fit.r[0, 1] - fit.r[0, 0]), 9)
    1.0
    """
    table = tally(pairs, shape)

    def loss(omega: Any) -> Any:
        return negative_log_likelihood(rewards.r(omega), table)

    found = local_minima(loss, rewards.starts(starts, rng), lambda omega: _centered(np.asarray(rewards.r(omega))))
    best = found[0][0]
    if best.drift > RUNAWAY:
        raise SolveError(
            f"the likelihood has no maximum: parameters still moved by {best.drift:.1f} nats after it had stopped rising; "
            "some response (or direction of the class) always wins; gather more comparisons, or add a prior"
        )
    r = np.asarray(rewards.r(best.x))
    slopes = np.reshape(jacobian(rewards.r)(best.x), (*shape, best.x.size))
    covariance, undetermined = _sandwich(best.hess, slopes, r, table)
    return RewardFit(rewards, best.x, r, best.fun, covariance, undetermined, pairs.n, len(found), best.message)


def _centered(r: Array) -> Array:
    return r - np.mean(r, axis=1, keepdims=True)


def _sandwich(A: Array, slopes: Array, r: Array, table: Array) -> tuple[Array, int]:
    """A^+ B A^+ with B = sum of weight sigma(-m)^2 (G_w - G_l)(G_w - G_l)^T, a weighted Laplacian; and how much A leaves open."""
    push = table * np.exp(2.0 * log_sigmoid(r[:, None, :] - r[:, :, None]))
    push = push + np.swapaxes(push, 1, 2)
    laplacian = np.sum(push, axis=2)[:, :, None] * np.eye(r.shape[1]) - push
    B = np.einsum("xif,xij,xjg->fg", slopes, laplacian, slopes, optimize=True)
    inverse, null = pseudo_inverse(A)
    left_open = np.reshape(slopes - np.mean(slopes, axis=1, keepdims=True), (-1, slopes.shape[2])) @ null
    undetermined = int(np.linalg.matrix_rank(left_open, tol=1e-6)) if null.size else 0
    return inverse @ B @ inverse, undetermined


def pseudo_inverse(A: Array) -> tuple[Array, Array]:
    """The pseudo-inverse of a symmetric matrix, curvatures below 1e-11 of the largest counted as zero; and the axes of those."""
    values, axes = np.linalg.eigh(0.5 * (A + A.T))
    curved = np.abs(values) > 1e-11 * np.max(np.abs(values), initial=0.0)
    return (axes[:, curved] / values[curved]) @ axes[:, curved].T, axes[:, ~curved]


# ---------------------------------------------------------------------------------------------------- the two roads


@dataclass(frozen=True, eq=False)
class Arrival:
    """A policy and how it was reached: road ("RLHF" or "DPO"); theta; log_pi (P, S, V); covariance of sqrt(n) theta_hat;
    reward, the fitted reward; n, pairs, or None; status."""

    world: World
    road: str
    policy: PolicyClass
    theta: Array
    log_pi: Array
    covariance: Array
    reward: RewardFit
    n: int | None
    status: str

    @property
    def log_p(self) -> Array:
        log_p: Array = self.world.mdp.path_sum(self.log_pi)
        return log_p

    def estimate(self, f: Callable[[Any], Any]) -> Asymptotics:
        """A quantity f(log_p) of the policy with its asymptotic error; f takes log_p (P, N), traced or not, and returns a number."""

        def at(theta: Any) -> Any:
            return f(self.world.mdp.path_sum(self.policy.log_pi(theta)))

        g = np.ravel(grad(at)(self.theta))
        HC = np.reshape(hessian(at)(self.theta), (g.size, g.size)) @ self.covariance
        first = float(np.sqrt(np.maximum(0.0, g @ self.covariance @ g)))
        spread = float(np.sqrt(np.maximum(0.0, 0.5 * np.sum(HC * HC.T))))  # tr((H C)^2)/2
        return Asymptotics(float(at(self.theta)), first, 0.5 * float(np.trace(HC)), spread, self.n)

    @property
    def regret(self) -> Asymptotics:
        """beta E_mu KL(p, p*) under the world's own reward, in reward units, with its error."""
        log_p_star = solve(self.world).log_p
        found = self.estimate(lambda log_p: self.world.beta * reverse_kl(self.world.mdp, log_p_star, log_p))
        return replace(found, value=float(np.maximum(0.0, found.value)))  # rounding may leave it at -1e-17


@dataclass(frozen=True)
class Asymptotics:
    """A quantity at an estimate and how it scatters: deviation/sqrt(n) to first order; where its gradient vanishes, mean
    curvature/n and deviation spread/n.  n None: the limit itself, without error."""

    value: float
    deviation: float
    curvature: float
    spread: float
    n: int | None

    @property
    def standard_error(self) -> float:
        """sqrt(deviation^2/n + spread^2/n^2): both orders; 0 for the population."""
        return self.at(self.n) if self.n is not None else 0.0

    def at(self, n: int) -> float:
        """The standard error with n pairs."""
        return math.hypot(self.deviation / math.sqrt(n), self.spread / n)


def dpo(world: World, pairs: Pairs, policy: PolicyClass, *, rng: np.random.Generator, starts: int = 6) -> Arrival:
    """One stage: the likeliest policy of the class.

    >>> from tabular_rlhf.preferences import bradley_terry, population_pairs
    >>> from tabular_rlhf.world import coin
    >>> w = coin(); there = dpo(w, population_pairs(w, bradley_terry(w.r)), Tabular(w.mdp), rng=np.random.default_rng(0))
    >>> np.exp(there.log_p).round(6).tolist()  # p* = sigma(1)
    [[0.268941, 0.731059]]
    """
    fit = fit_reward(pairs, Implicit(policy, world), (world.mdp.P, world.mdp.N), rng=rng, starts=starts)
    theta = fit.omega / world.beta
    covariance = _moved(fit.covariance, np.eye(theta.size) / world.beta, world)
    return Arrival(world, "DPO", policy, theta, np.asarray(policy.log_pi(theta)), covariance, fit, pairs.n, fit.status)


def _moved(covariance: Array, slope: Array, world: World) -> Array:
    """The covariance of what moves by `slope` times theta.  Raises InputError where it is no float: it goes as 1/beta^2."""
    with np.errstate(over="ignore", invalid="ignore"):
        moved = slope @ covariance @ slope.T
    if not np.all(np.isfinite(moved)):
        raise InputError("the covariance of the policy's parameters must be a float", got=f"beta = {world.beta:g}", remedy="raise beta")
    return np.asarray(moved)


def rlhf(world: World, pairs: Pairs, rewards: RewardClass, policy: PolicyClass, *, rng: np.random.Generator, starts: int = 6) -> Arrival:
    """Two stages: the likeliest reward of one class, then the policy of another that is best for it (the world's own plays no part)."""
    fit = fit_reward(pairs, rewards, (world.mdp.P, world.mdp.N), rng=rng, starts=starts)
    target = solve(world.with_reward(fit.r)).log_p
    found = reverse_projection(policy, target, rng=rng, starts=starts)
    moved = _second_stage(world, fit, found, target)
    status = f"reward: {fit.status}; policy: {found.status}"
    covariance = _moved(fit.covariance, moved, world)
    return Arrival(world, "RLHF", policy, found.theta, found.log_pi, covariance, fit, pairs.n, status)


def _second_stage(world: World, fit: RewardFit, found: Projection, target: Array) -> Array:
    """d theta/d omega = (beta Hessian of KL)^+ (d p/d theta)^T mu (d r/d omega), by the implicit function theorem."""
    policy, mdp, size = found.policy, world.mdp, fit.omega.size

    def law(theta: Any) -> Any:
        return np.exp(mdp.path_sum(policy.log_pi(theta)))

    second = hessian(lambda theta: reverse_kl(mdp, target, mdp.path_sum(policy.log_pi(theta))))(found.theta)
    second = world.beta * np.reshape(second, (found.theta.size, found.theta.size))
    towards = np.reshape(jacobian(law)(found.theta), (mdp.P * mdp.N, -1))
    slopes = np.reshape(jacobian(fit.rewards.r)(fit.omega), (mdp.P, mdp.N, size)) * mdp.mu[:, None, None]
    return pseudo_inverse(second)[0] @ towards.T @ np.reshape(slopes, (-1, size))
