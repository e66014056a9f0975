r"""KL-regularized RL, exactly: the Gibbs optimum, its soft values, its limits and its relatives.

**Symbols.** p_ref the reference over responses, r the reward, beta > 0, all given the prompt x; mu over prompts.

    J(p) = E_mu [ E_p[r] - beta KL(p, p_ref) ]                         the objective;
    p*   = p_ref exp(r/beta) / Z,   Z(x) = sum p_ref exp(r/beta)       its optimum over all distributions;
    V(x) = beta log Z(x)                                                its value: max J = E_mu[V];
    V(x) - J(p given x) = beta KL(p, p*)                                the regret of any other p.

**Numbers.**  The soft value V is primary, not Z: it stays finite where log Z overflows (beta = 1e-300, rewards of 1e6).

Sources: Ziebart (2010), Modeling purposeful adaptive behavior; Levine (2018), arXiv:1805.00909; Korbak et al. (2022),
arXiv:2205.11275; Wang et al. (2023), arXiv:2309.16240 (f-divergences); Ouyang et al. (2022), arXiv:2203.02155 (the ptx term).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from tabular_rlhf.autodiff import plain
from tabular_rlhf.autodiff.table import SMALL
from tabular_rlhf.bellman import SoftBellman as SoftBellman
from tabular_rlhf.bellman import log_policy_of as log_policy_of
from tabular_rlhf.bellman import shape_reward as shape_reward
from tabular_rlhf.bellman import soft_bellman as soft_bellman
from tabular_rlhf.errors import InputError, as_floats
from tabular_rlhf.kernels import NoDistribution, refuse_logits, softmax_pull
from tabular_rlhf.logspace import (
    Array,
    as_beta,
    expect,
    has_zeros,
    kl,
    log_gain,
    log_ratio,
    log_softmax,
    log_tilt,
    mean_gain,
    mean_log_ratio,
    read_only,
    soft_value,
)
from tabular_rlhf.sweeps import WIDEST, ascend, finite_ratio, gibbs_weights, shares
from tabular_rlhf.world import World

# ---------------------------------------------------------------------------------------------------- objective


def objective(log_p: Any, log_p_ref: Any, r: Any, beta: float, mu: Any) -> Any:
    """J(p) = E_mu[E_p[r] - beta KL(p, p_ref)], the objective of KL-regularized RL; differentiable.

    Args: log_p, log_p_ref (P, N), nats; r (P, N), reward units; beta > 0, reward units per nat; mu (P,), the weights of prompts.
    Returns: a scalar, in reward units: -inf where p puts mass on what p_ref forbids.
    Raises: InputError for beta that is not positive and finite.
    Source: Korbak et al. (2022), arXiv:2205.11275.

    >>> float(objective(np.log([[0.5, 0.5]]), np.log([[0.5, 0.5]]), np.array([[0.0, 1.0]]), 1.0, np.ones(1)))
    0.5
    """
    as_beta(beta)
    mu, log_p, log_p_ref, r = asked(mu, log_p, log_p_ref, r)
    if has_zeros(log_p):
        r = np.where(np.isneginf(log_p), 0.0, r)
    return np.sum(mu * mean_gain(np.exp(log_p), log_ratio(log_p, log_p_ref), r, beta))


def asked(mu: Any, *tables: Any) -> tuple[Any, ...]:
    """mu and the tables without the prompts of probability zero: nothing there counts, even if infinite."""
    known = plain(mu)
    return (mu, *tables) if np.minimum.reduce(known) > 0.0 else tuple(table[np.greater(known, 0.0)] for table in (mu, *tables))


def policy_objective(world: World, log_pi: Any) -> Any:
    """J of a token policy log_pi (P, S, V), through its trajectory distribution; traceable, so grad(J) is the gradient."""
    return objective(world.mdp.path_sum(log_pi), world.log_p_ref, world.r, world.beta, world.mu)


def policy_gradient(world: World, logits: Array) -> Array:
    r"""grad J in tabular logits by one backward sweep, in closed form: (P, S, V).

        dJ/dlogits(s, a) = mu(x) [ m(s, a) - pi(a given s) sum_b m(s, b) ],   m(s, a) = sum of p(tau) R(tau) through (s, a),

    with R = r - beta log(p/p_ref): the policy-gradient theorem with m = d(s) pi(a given s) Q(s, a).
    """
    shape = (world.mdp.P, world.mdp.S, world.mdp.V)
    if not (isinstance(logits, np.ndarray) and logits.dtype == np.float64 and logits.shape == shape):
        logits = as_floats(logits, "logits", shape, minus_inf=True)
    if np.min(world.mu) == 0.0:  # whatever is done where nobody asks
        logits = np.where(world.mu[:, None, None] > 0, logits, world.log_ref)
    if logits.size <= SMALL:  # the formula as it is written: in place it is no quicker there
        log_pi = log_softmax(logits)
        log_p = world.mdp.path_sum(log_pi)
        R = world.r - world.beta * finite_ratio(log_p, world.log_p_ref)
        return np.asarray(softmax_pull(world.mdp.subtree_sum(world.mu[:, None] * np.exp(log_p) * R), log_pi, -1))
    try:
        return ascend(world, logits)
    except NoDistribution:
        refuse_logits(np.max(logits, axis=-1))


# ---------------------------------------------------------------------------------------------------- the optimum


@dataclass(frozen=True, eq=False)
class Gibbs:
    """The solution of a world, as `solve` makes it: everything else is computed from it when it is first asked for.

        V (P,), reward units: beta log Z(x), and V_s (P, S) of states;   value: max J = E_mu[V];   log_Z (P,)
        p, log_p (P, N) and pi, log_pi (P, S, V): the optimum p* and its token policy, nats;   kl (P,), nats;   expected_reward (P,)

    Args: world; V (P,), reward units.
    Raises: ValueError by `regret`, for a law of a shape that does not fit.

    >>> from tabular_rlhf.world import rational
    >>> g = solve(rational())
    >>> [float(q) for q in (g.p * 19).round(9)[0]]  # of ".", "a a", "a ."
    [3.0, 12.0, 4.0]
    """

    world: World
    V: Array

    @cached_property
    def log_Z(self) -> Array:
        """log Z(x), (P,): overflows to inf only where V/beta does."""
        with np.errstate(over="ignore"):
            return read_only(self.V / self.world.beta)

    @cached_property
    def log_weight(self) -> Array:
        """log p*/p_ref = (r - V)/beta, (P, N), to relative precision also where it is far below log p*; 0 where p_ref is 0."""
        w = self.world
        return read_only(log_gain(w.log_p_ref, w.r, w.beta))

    @cached_property
    def log_p(self) -> Array:
        """log p* = log p_ref + (r - V)/beta, (P, N)."""
        return read_only(self.world.log_p_ref + self.log_weight)

    @cached_property
    def p(self) -> Array:
        """p*, (P, N)."""
        return read_only(self._tree[0] if self._tree is not None else np.exp(self.log_p))

    @cached_property
    def pi(self) -> Array:
        """pi*(a given s), (P, S, V)."""
        return read_only(self._tree[1] if self._tree is not None else np.exp(self.log_pi))

    @cached_property
    def log_pi(self) -> Array:
        """log pi*(a given s), (P, S, V), by the soft Bellman recursion."""
        return self._soft.log_pi

    @cached_property
    def V_s(self) -> Array:
        """Soft value of every state, (P, S)."""
        return self._soft.V

    @cached_property
    def value(self) -> float:
        """max J = E_mu[V]."""
        return float(np.sum(self.world.mu * self.V))

    @cached_property
    def expected_reward(self) -> Array:
        """E_{p*}[r] for every prompt, (P,)."""
        return read_only(np.asarray(expect(self.log_p, self.world.r)))

    @cached_property
    def kl(self) -> Array:
        """KL(p*, p_ref) for every prompt, (P,), nats: to relative precision, from 0 at beta = inf."""
        return read_only(np.maximum(0.0, mean_log_ratio(np.exp(self.log_p), self.log_weight)))

    def regret(self, log_p: Any) -> Any:
        """beta E_mu KL(p, p*) = E_mu[V] - J(p), in reward units: see the function of this name."""
        w = self.world
        mu, log_p, log_p_ref, log_weight, r, V = asked(w.mu, log_p, w.log_p_ref, self.log_weight, w.r, self.V)
        p, nats = np.exp(log_p), log_ratio(log_p, log_p_ref)
        lost = w.beta * mean_log_ratio(p, nats - np.where(np.isneginf(log_p), 0.0, log_weight))
        if np.any(np.isinf(plain(lost))):  # log(p*/p_ref) may be beyond floats where V and J are not
            lost = V - mean_gain(p, nats, r, w.beta)
        return np.sum(mu * np.maximum(0.0, lost))

    @cached_property
    def _soft(self) -> SoftBellman:
        return soft_bellman(self.world.mdp, self.world.log_ref, self.world.r, self.world.beta)

    _tree: tuple[Array, Array] | None = None


def solve(world: World) -> Gibbs:
    """The Gibbs optimum of a world: p* = p_ref exp(r/beta) / Z.

    Where the weights p_ref exp(r/beta) stay within the range of floating point (one global test), they are exponentiated
    once, summed up the tree, and p* and pi* are ratios of those sums; else the recursion in log space does it.

    Args: world.
    Returns: Gibbs, whose arrays are read-only: the same one for the same world, as long as somebody holds it.
    Raises: nothing: every world that can be made has its optimum.
    Source: Korbak et al. (2022), arXiv:2205.11275.

    >>> from tabular_rlhf.world import coin
    >>> solve(coin()).log_p.round(4).tolist()
    [[-1.3133, -0.3133]]
    """
    known = _SOLVED.get(id(world))
    return solve_anew(world) if known is None else known


_SOLVED: WeakValueDictionary[int, Gibbs] = WeakValueDictionary()
"""Solutions that somebody holds, by their worlds, which they hold in turn: a world is solved once, however many ask."""


def solve_anew(world: World) -> Gibbs:
    """`solve`, computed whether or not somebody holds the solution: what a clock should time."""
    tree = _by_weights(world)
    if tree is None:
        found = Gibbs(world, read_only(np.asarray(soft_value(world.log_p_ref, world.r, world.beta))))
    else:
        V, p, pi = tree
        found = Gibbs(world, read_only(V), (p, pi))
    _SOLVED[id(world)] = found
    return found


def _by_weights(world: World) -> tuple[Array, Array, Array] | None:
    """(V, p*, pi*) from sums of weights up the tree, or None where weights would under- or overflow."""
    r_max = float(world.r.max())
    span = r_max - float(world.r.min())
    if not 0.5 * world.beta < span < WIDEST * world.beta:  # a narrow span needs expm1, a wide one logarithms: see soft_parts
        return None
    mdp = world.mdp
    both = np.empty(mdp.P * (mdp.N + mdp.V * mdp.S))  # one piece of memory for p* and pi*: it is handed back and reused as one
    p, pi = both[: mdp.P * mdp.N].reshape(mdp.P, mdp.N), both[mdp.P * mdp.N :].reshape(mdp.P, mdp.V, mdp.S)
    if not gibbs_weights(world.log_p_ref, world.r, r_max, world.beta, p):
        return None
    Z = shares(mdp, p, pi)
    p *= 1.0 / Z[:, None]
    return r_max + world.beta * np.log(Z), p, np.swapaxes(pi, 1, 2)


def log_gibbs(log_p_ref: Any, r: Any, beta: Any) -> Any:
    """log p* = log p_ref + r/beta - log Z, normalized for each prompt: (..., N).

    >>> np.exp(log_gibbs(np.log([0.5, 0.5]), np.log([1.0, 3.0]), 1.0)).round(6).tolist()
    [0.25, 0.75]
    """
    return log_tilt(log_p_ref, r, beta)


def regret(log_p: Any, world: World) -> Any:
    """How much J a distribution gives away: E_mu[V] - J(p) = beta E_mu KL(p, p*), never negative; differentiable.

    log(p/p*) is taken as log(p/p_ref) - log(p*/p_ref), because beta multiplies its rounding: at large beta both are tiny.

    Args: log_p (P, N), normalized, in nats; world.
    Returns: a scalar, in reward units: inf where p puts mass on what p_ref forbids.
    Raises: ValueError for a table of a shape that does not fit.

    >>> from tabular_rlhf.world import coin
    >>> w = coin(beta=1e15)
    >>> float(regret(w.log_p_ref, w))  # Var(r)/(2 beta)
    1.25e-16
    """
    return solve(world).regret(log_p)


def multiplier(V: Any, beta: float) -> Any:
    """The Lagrange multiplier of sum p = 1:  r - beta log(p/p_ref) - beta + lam = 0  gives  lam* = beta - V = beta (1 - log Z)."""
    return beta - V


# ---------------------------------------------------------------------------------------------------- changing beta


@dataclass(frozen=True, eq=False)
class Frontier:
    """The reward-KL frontier: for each beta, E_mu E_{p*}[r] (reward units), E_mu KL(p*, p_ref) (nats) and E_mu V."""

    beta: Array
    reward: Array
    kl: Array
    value: Array


def frontier(world: World, betas: Sequence[float] | Array) -> Frontier:
    """The best reward at every KL: its slope dE[r]/dKL is beta (`free-energy-derivatives`)."""
    if np.ndim(betas) != 1:
        raise InputError("betas must be a list of numbers", got=betas, remedy="pass [0.5, 1.0, 2.0]")
    solutions = [solve(world.at(float(b))) for b in betas]
    mu = world.mu
    rows = [(np.sum(mu * g.expected_reward), np.sum(mu * g.kl), g.value) for g in solutions]
    reward, kl_, value = np.array(rows, dtype=np.float64).reshape(-1, 3).T
    return Frontier(np.asarray(betas, dtype=np.float64), reward, kl_, value)


def reward_variance(log_p: Any, r: Any) -> Any:
    """Var_p(r) for each prompt: -beta^2 dE_{p*}[r]/dbeta = -beta^3 dKL/dbeta at p = p*."""
    mean = np.expand_dims(expect(log_p, r), -1)
    return expect(log_p, np.square(r - mean))


def free_energy_hessian(log_p: Array, beta: float) -> Array:
    """d^2 V / dr dr' = Cov_{p*}/beta = (diag(p) - p p^T)/beta, for one prompt: (N, N)."""
    p = np.exp(log_p)
    return (np.diag(p) - np.outer(p, p)) / beta


def greedy_limit(log_p_ref: Array, r: Array) -> Array:
    """The limit of p* as beta -> 0: p_ref restricted to the best possible reward and renormalized (ties keep their odds)."""
    possible = ~np.isneginf(log_p_ref)
    best = np.max(np.where(possible, r, -np.inf), axis=-1, keepdims=True)
    if np.isneginf(best).any():
        refuse_logits(best[..., 0])
    kept = np.where(possible & (r == best), log_p_ref, -np.inf)
    return np.asarray(log_softmax(kept))


# ---------------------------------------------------------------------------------------------------- identities as tools


def donsker_varadhan(log_p: Any, log_p_ref: Any, f: Any) -> Any:
    """The lower bound E_p[f] - KL(p, p_ref) on log E_ref[exp f], attained at p proportional to p_ref exp f: (...,)."""
    return expect(log_p, f) - kl(log_p, log_p_ref)


def mirror_step(log_p: Any, log_p_ref: Any, r: Any, beta: float, eta: float) -> Any:
    """One step of mirror ascent on J: p <- p exp(eta (r - beta log(p/p_ref))) / norm.

    log(p/p*) shrinks, up to a constant, by exactly 1 - eta beta.  Raises InputError where p has not p_ref's support.
    """
    possible = ~np.isneginf(log_p_ref)
    differs = possible == np.isneginf(log_p)
    if np.any(differs):
        place = tuple(int(i) for i in np.argwhere(np.atleast_1d(differs))[0])
        got = "p = 0 < p_ref" if np.atleast_1d(np.broadcast_to(possible, differs.shape))[place] else "p > 0 = p_ref"
        raise InputError("p must have the support of p_ref", got=got, where=f"at index {place}", remedy="start from p_ref itself")
    step = eta * (r - beta * (np.where(possible, log_p, 0.0) - np.where(possible, log_p_ref, 0.0)))
    return log_softmax(np.where(possible, log_p + step, -np.inf))
