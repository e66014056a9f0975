r"""Preferences as a game: what to do when no reward explains people.

**Symbols.** M (N, N): M[i, j] = P(i beats j), M + M^T = 1 (for each prompt; arrays (P, N, N)); p, q laws over responses;
M q the win rates against q; tau > 0 the KL weight, in probability per nat.

    exploitability(p) = max over i of P(i beats p) - 1/2 >= 0          what the best reply gains;
    minimax winner    p with P(p beats j) >= 1/2 for every j           von Neumann's: it exists, and its value is 1/2;
    regularized       max over p, min over q of P(p beats q) - tau KL(p, p_ref) + tau KL(q, p_ref):

        p = p_ref exp(M p / tau) / Z:    the Gibbs optimum of the reward "win rate against oneself".

**Theorem.**  The game is symmetric and constant-sum, so its value is 1/2 and both players play alike; with tau > 0 the equilibrium is
unique, and mirror descent with a pull to p_ref converges to it in its *last* iterate,

    p <- (p p_ref^(eta tau) exp(eta M p))^(1/(1 + eta tau)) / norm,     KL(p_eq, p) falls by 1/(1 + eta tau) a step for eta <= 4 tau,

because A = M - 1/2 is antisymmetric with entries of at most 1/2.  (With tau = 0 it need not: around a single winner that plays
every response the flow circles at a constant KL, and steps of any length spiral out.)

**Newton's method** on the fixed point is the independent route.  With y = log p and the gap g = log p_ref + A p/tau - y, which at the
equilibrium is a constant, its step d solves

    d - A (p d)/tau = g - c,     sum p d = 0.

This has one solution at *every* p: with g = c it says sum p d^2 = (p d) A (p d)/tau = 0.  Along d the range of g falls at once, in
proportion, so a step that is halved until it does falls always gets on.

**Bradley-Terry** with a Gibbs policy ranks by one number a response, so on a cycle it is exploitable: compare both.

Sources: von Neumann (1928); Fishburn (1984), maximal lotteries; Munos et al. (2023), arXiv:2312.00886; Swamy et al. (2024),
arXiv:2401.04056; Sokota et al. (2023), arXiv:2206.05825 (last-iterate rate).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from tabular_rlhf.errors import InputError, SolveError, positive
from tabular_rlhf.gibbs import solve
from tabular_rlhf.logspace import Array, log_softmax
from tabular_rlhf.optimize import followed
from tabular_rlhf.preferences import matrix, population_pairs
from tabular_rlhf.roads import Table, fit_reward, tally
from tabular_rlhf.world import World


def win_rates(M: Any, p: Any) -> Any:
    """P(i beats p) for every response i: M p, (..., N, N) and (..., N) to (..., N)."""
    return np.sum(M * p[..., None, :], axis=-1)


def exploitability(M: Any, p: Any) -> Any:
    """max over i of P(i beats p) - 1/2: 0 exactly for a minimax winner.

    >>> from tabular_rlhf.preference_worlds import cycle_preferences
    >>> exploitability(cycle_preferences(), np.array([[0.0, 0.0, 1.0]])).round(6).tolist()  # always scissors
    [0.1]
    """
    return np.max(win_rates(M, p), axis=-1) - 0.5


# ---------------------------------------------------------------------------------------------------- the minimax winner


@dataclass(frozen=True, eq=False)
class MinimaxWinner:
    """p (P, N); value, P(p beats its worst opponent), (P,): 1/2; exploitability (P,); unique (P,), whether it is shown to be the only
    one; message."""

    p: Array
    value: Array
    exploitability: Array
    unique: np.ndarray[Any, np.dtype[np.bool_]]
    message: str


def minimax_winner(M: Any) -> MinimaxWinner:
    """The von Neumann winner of preferences, by linear programming: maximize v such that (p M)_j >= v for every j.

    With several winners it returns a corner of their set (the dual simplex method does), and `unique` is then false.

    Args: M (N, N) or (P, N, N), M + M^T = 1.  Raises SolveError if the program fails.

    >>> from tabular_rlhf.preference_worlds import cycle_preferences
    >>> minimax_winner(cycle_preferences()).p.round(6).tolist()
    [[0.5, 0.166667, 0.333333]]
    """
    tables = check_preferences(M)
    p = np.stack([_program(table) for table in tables])
    gap = exploitability(tables, p)
    if np.max(gap) > 1e-8:
        raise SolveError(f"the linear program left an exploitability of {np.max(gap):.2e}")
    unique = np.array([_unique(table, law) for table, law in zip(tables, p, strict=True)])
    value = np.min(np.sum(p[:, :, None] * tables, axis=1), axis=1)
    return MinimaxWinner(p, value, gap, unique, f"linear programs solved for {len(p)} prompts")


def _program(M: Array) -> Array:
    from scipy.optimize import linprog

    N = len(M)
    A = M - 0.5
    # variables p_1..p_N; feasibility is enough, since the value 1/2 is known: p A >= 0, p >= 0, sum p = 1
    found = linprog(np.zeros(N), A_ub=-A.T, b_ub=np.zeros(N), A_eq=np.ones((1, N)), b_eq=[1.0], bounds=(0, None), method="highs-ds")
    if found.status != 0:
        raise SolveError(f"the linear program of the minimax winner failed: {found.message}")
    p = np.maximum(np.asarray(found.x), 0.0)
    return p / np.sum(p)


def _unique(M: Array, p: Array) -> bool:
    """Whether the winner is shown to be the only one.

    Another winner W may only use responses that draw against p.  If these are the played ones, A W = 0 on them too, so a kernel of
    dimension one leaves no room.  If an unplayed response draws, this argument decides nothing.
    """
    A = M - 0.5
    played, draws = p > 1e-9, np.abs(A @ p) <= 1e-9
    if np.any(draws & ~played):
        return False
    return bool(np.linalg.matrix_rank(A[np.ix_(played, played)], tol=1e-9) == played.sum() - 1)


def check_preferences(M: Any) -> Array:
    """M as (P, N, N) with M + M^T = 1."""
    P, N = matrix(M).shape  # which refuses anything else
    return np.reshape(np.asarray(M, dtype=np.float64), (P, N, N))


# ---------------------------------------------------------------------------------------------------- the regularized game


@dataclass(frozen=True, eq=False)
class Equilibrium:
    """log_p (P, N); residual, the largest difference from the fixed point's other side, nats; nit; message."""

    log_p: Array
    residual: float
    nit: int
    message: str

    @property
    def p(self) -> Array:
        return np.exp(self.log_p)


def reply(M: Any, log_p_ref: Any, tau: float, log_q: Any) -> Any:
    """The regularized best reply to q: p_ref exp(M q / tau) / Z, log-probabilities."""
    return log_softmax(log_p_ref + win_rates(M, np.exp(log_q)) / tau)


def mirror_step(M: Any, log_p_ref: Any, tau: float, log_p: Any, eta: float) -> Any:
    """One step of self-play with a pull to the reference: (p p_ref^(eta tau) exp(eta M p))^(1/(1 + eta tau)) / norm."""
    possible = ~np.isneginf(log_p_ref)
    share = 1.0 / (1.0 + eta * tau)  # of what is not the pull: 0 where floats hold no more of it
    mixed = share * (np.where(possible, log_p, 0.0) + eta * win_rates(M, np.exp(log_p))) + (1.0 - share) * np.where(
        possible, log_p_ref, 0.0
    )
    return log_softmax(np.where(possible, mixed, -np.inf))


def mirror_path(M: Any, log_p_ref: Any, tau: float, steps: int, eta: float | None = None) -> Array:
    """All iterates of mirror descent from the reference: (steps + 1, P, N).  eta = 4 tau by default, the largest that is proved."""
    tables, log_p = check_preferences(M), np.asarray(log_p_ref)
    eta = 4.0 * tau if eta is None else eta
    path = [log_p]
    for _ in range(steps):
        path.append(mirror_step(tables, log_p_ref, tau, path[-1], eta))
    return np.stack(path)


def mirror_descent(M: Any, log_p_ref: Any, tau: float, *, tol: float = 1e-12, steps: int = 200_000) -> Equilibrium:
    """The regularized equilibrium as the last iterate of mirror descent with eta = 4 tau.

    It needs about (1 + 4 tau^2)/(4 tau^2) steps for every factor e of accuracy.  Raises SolveError when steps run out.
    """
    tables, tau = check_preferences(M), positive(tau, "tau", "probability per nat")
    log_p = np.asarray(log_p_ref)
    possible = ~np.isneginf(log_p)
    for nit in range(steps):
        new = mirror_step(tables, log_p_ref, tau, log_p, 4.0 * tau)
        moved = float(np.max(np.where(possible, np.abs(np.exp(new) - np.exp(log_p)), 0.0)))
        log_p = new
        if moved <= tol * 4.0 * tau * tau:
            return Equilibrium(
                log_p, _residual(tables, log_p_ref, tau, log_p), nit + 1, f"mirror descent stood still after {nit + 1} steps"
            )
    raise SolveError(f"mirror descent still moves by {moved:.2e} after {steps} steps: raise tau ({tau:g}) or use regularized_equilibrium")


def regularized_equilibrium(M: Any, log_p_ref: Any, tau: float, *, steps: int = 20_000) -> Equilibrium:
    """The regularized equilibrium by Newton's method, with tau lowered by stages: by as much as Newton can follow in a few steps.

    Args: M (N, N) or (P, N, N); log_p_ref (P, N), -inf allowed; tau; steps, of Newton, for each prompt.
    Raises: InputError for a tau so small that rounding of win rates hides it; SolveError where steps run out.

    >>> from tabular_rlhf.preference_worlds import cycle, cycle_preferences
    >>> regularized_equilibrium(cycle_preferences(), cycle().log_p_ref, 0.01).p.round(3).tolist()
    [[0.487, 0.161, 0.352]]
    """
    tables, tau = check_preferences(M), positive(tau, "tau", "probability per nat")
    log_p = np.array(log_p_ref, dtype=np.float64)
    nit = stages = 0
    for x, table in enumerate(tables):
        on = np.flatnonzero(~np.isneginf(log_p[x]))
        log_p[x, on], used, passed = _followed(table[np.ix_(on, on)] - 0.5, log_p[x, on], tau, steps)
        nit, stages = nit + used, stages + passed
    residual = _residual(tables, log_p_ref, tau, log_p)
    return Equilibrium(log_p, residual, nit, f"fixed point to {residual:.1e} nats after {nit} Newton steps over {stages} values of tau")


def _residual(M: Array, log_p_ref: Any, tau: float, log_p: Any) -> float:
    """How far p is from its own best reply, in nats."""
    possible = ~np.isneginf(log_p)
    return float(np.max(np.abs(np.where(possible, reply(M, log_p_ref, tau, log_p), 0.0) - np.where(possible, log_p, 0.0))))


def _followed(A: Array, log_ref: Array, tau: float, steps: int) -> tuple[Array, int, int]:
    """The equilibrium on the support of the reference; Newton steps and values of tau used."""
    if _rounding(A, log_ref, tau) > 1e-3:
        got, remedy = f"tau = {tau:g}", "use minimax_winner, the limit of tau -> 0"
        raise InputError("win rates must be known to better than 0.001 tau", got=got, remedy=remedy)
    taken: list[int] = []

    def settle(lower: float, log_p: Array, most: int) -> tuple[Array, None]:
        left = steps - sum(taken)
        log_p, used, near = _newton(A, log_ref, lower, log_p, min(most, left))
        taken.append(used)
        if not near:
            raise SolveError(f"the fixed point at tau = {lower:g} was not found in {used} Newton steps")
        return log_p, None

    log_p, _ = followed(settle, log_softmax(log_ref), max(tau, 1.0), tau, first=100)
    return log_p, sum(taken), len(taken)


def _newton(A: Array, log_ref: Array, tau: float, log_p: Array, steps: int) -> tuple[Array, int, bool]:
    """Newton from log p; how many steps it took, and whether the gap became constant up to rounding."""
    enough, gap = _rounding(A, log_ref, tau), log_ref + A @ np.exp(log_p) / tau - log_p
    for nit in range(steps):
        if np.ptp(gap) <= enough:
            return log_p, nit, True
        step, t = _newton_step(A, tau, np.exp(log_p), gap), 1.0
        while True:
            new = log_softmax(log_p + t * step)
            after = log_ref + A @ np.exp(new) / tau - new
            if np.ptp(after) < (1.0 - 0.1 * t) * np.ptp(gap) or t < 1e-9:
                break
            t *= 0.5
        log_p, gap = new, after
    return log_p, steps, bool(np.ptp(gap) <= enough)


def _newton_step(A: Array, tau: float, p: Array, gap: Array) -> Array:
    """d of the module's equation, from w = p d: so improbable responses, whose d may be huge, do not spoil the others' digits."""
    N = len(p)
    g = gap - p @ gap
    K = np.block([[np.eye(N) - p[:, None] * A / tau, -p[:, None]], [np.ones((1, N)), np.zeros((1, 1))]])
    w = np.linalg.solve(K, np.append(p * g, 0.0))
    return np.asarray(g + A @ w[:N] / tau + w[N])


def _rounding(A: Array, log_ref: Array, tau: float) -> float:
    """The rounding of a gap, nats."""
    return float(4 * np.finfo(float).eps * (len(A) + 8) * (1.0 + np.max(np.abs(log_ref)) + 1.0 / tau))


# ---------------------------------------------------------------------------------------------------- against Bradley-Terry


@dataclass(frozen=True, eq=False)
class Contest:
    """What three answers to the same people are worth: laws over responses (P, N), and what a best reply gains on each, (P,).

    gibbs: the Gibbs law of Bradley-Terry's reward r; equilibrium: of the game with the same KL weight; winner: of the game without.
    misfit: how far people are from Bradley-Terry, nats per comparison.
    """

    r: Array
    gibbs: Array
    equilibrium: Array
    winner: Array
    exploitability: dict[str, Array]
    misfit: float


def contest(world: World, M: Any) -> Contest:
    """Bradley-Terry and Gibbs against the game, at the world's reference and KL weight (in probability per nat for the game); every
    pair of different responses is asked equally often.  The world's own reward plays no part.

    >>> from tabular_rlhf.preference_worlds import cycle, cycle_preferences
    >>> found = contest(cycle(beta=0.1), cycle_preferences())
    >>> {name: round(float(gap[0]), 4) for name, gap in found.exploitability.items()}
    {'gibbs': 0.0933, 'equilibrium': 0.0222, 'winner': 0.0}
    """
    tables = check_preferences(M)
    uniform = np.full(world.r.shape, -np.log(world.mdp.N))
    pairs = population_pairs(world, matrix(tables), uniform).distinct()
    fit = fit_reward(pairs, Table(world.mdp), (world.mdp.P, world.mdp.N), rng=np.random.default_rng(0))
    laws = {
        "gibbs": solve(world.with_reward(fit.r)).p,
        "equilibrium": regularized_equilibrium(tables, world.log_p_ref, world.beta).p,
        "winner": minimax_winner(tables).p,
    }
    gaps = {name: exploitability(tables, p) for name, p in laws.items()}
    table = tally(pairs, (world.mdp.P, world.mdp.N))
    entropy = -float(np.sum(special.xlogy(table, np.where(tables > 0, tables, 1.0))))
    return Contest(fit.r, laws["gibbs"], laws["equilibrium"], laws["winner"], gaps, fit.nll - entropy)
