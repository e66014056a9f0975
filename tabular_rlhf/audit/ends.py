r"""Where a step leads: its flow in the logits from the reference, and the proof that the place it nears is one of rest.

    d logits/dt = u(logits),        d log pi(a given s)/dt = v(s, a) = u(s, a) - sum_b pi(b given s) u(s, b).

**Ends here** is said only of a place where the policy's velocity pi v is 0 to rounding, computed with what vanished tokens still push (they
stand at a floor, where a push that stays finite as the token vanishes is at its limit), where no vanished token would grow again, and from
which no small departure of the survivors grows.  Where the flow has not come to such a place, it still moves.

**Optima.**  Of which objective a place of rest is the maximizer, by the velocity of ascent there; and the rewards that a reward-model loss
fits.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tabular_rlhf.audit.field import labeled
from tabular_rlhf.audit.handed import Batch, Handed
from tabular_rlhf.audit.verdict import Nearest, named_numbers
from tabular_rlhf.errors import SolveError
from tabular_rlhf.fields import Case
from tabular_rlhf.gibbs import solve
from tabular_rlhf.logspace import Array, log_softmax
from tabular_rlhf.losses.objectives import OBJECTIVES, velocity
from tabular_rlhf.losses.objectives import STILL as AT_REST
from tabular_rlhf.world import World

Step = Callable[[Case], Array]
Mask = np.ndarray[Any, np.dtype[np.bool_]]
LOOKS = np.geomspace(0.3, 3e6, 22)
"""Times at which the flow is looked at, in units of 1/(size of the step at the reference)."""
EVALUATIONS = 500
FLOOR = -40.0
"""Log-probability at which a vanished token stands."""
STILL = 1e-8
"""A velocity below this share of the step's size at the reference is rounding."""
ROUNDING = 1e-13
"""Of a step."""
NEAR = 2e-3
SMALL = 0.02
"""Probabilities: between the flow and the place where it is said to end; of a token that may be vanishing."""


@dataclass(frozen=True, eq=False)
class End:
    """words; log_p (P, N) there, or where the flow had got to; rests, whether that is proved; velocity, as a share; path (T, P, N)."""

    words: str
    log_p: Array
    rests: bool
    velocity: float
    path: Array


def follow(step: Step, world: World, *, evaluations: int = EVALUATIONS) -> End:
    """The flow of a step from the reference.

    >>> from tabular_rlhf.audit.field import with_penalty
    >>> from tabular_rlhf.fields import gradient, objectives
    >>> from tabular_rlhf.world import coin
    >>> found = follow(with_penalty(lambda c: gradient(objectives(c)["E[r]"], c.logits)), coin())
    >>> found.words, np.exp(found.log_p).round(6).tolist()
    ('it ends here', [[0.268941, 0.731059]])
    """

    def at(log_pi: Array) -> Array:
        return step(Case(world, log_pi))

    size = float(np.max(np.abs(at(world.log_ref))))
    path = [world.log_p_ref]
    if size == 0:
        return End("it does not move", world.log_p_ref, False, 0.0, np.stack(path))
    log_pi = np.array(world.log_ref)
    try:
        for log_pi in _flow(at, world, size, evaluations):
            law = np.asarray(world.mdp.path_sum(log_pi))
            moved = float(np.max(np.abs(np.exp(law) - np.exp(path[-1]))))
            path.append(law)
            if moved <= 0.2:
                place = _rest(at, world, log_pi, size)
                if place is not None and float(np.max(np.abs(np.exp(place[0]) - np.exp(law)))) <= NEAR:
                    return _at(world, place, path)
    except SolveError as e:
        return End(f"its flow cannot be followed: {e}", path[-1], False, np.inf, np.stack(path))
    pi = np.exp(log_pi)
    speed = float(np.max(np.abs(pi * _velocity(at(log_pi), pi)))) / size
    return End("it still moves", path[-1], False, speed, np.stack(path))


def _at(world: World, place: tuple[Array, float], path: list[Array]) -> End:
    log_p, speed = place
    vertex = np.max(log_p, axis=1) > -1e-9
    words = "it goes to a vertex" if vertex.all() else "it ends here"
    return End(words, log_p, True, speed, np.stack([*path, log_p]))


def _velocity(u: Array, pi: Array) -> Array:
    return np.asarray(u - np.sum(pi * u, axis=-1, keepdims=True))


def _flow(at: Callable[[Array], Array], world: World, size: float, evaluations: int) -> Iterator[Array]:
    from scipy.integrate import LSODA

    free = ~np.isneginf(world.log_ref)

    def policy(y: Array) -> Array:
        out = np.full(world.log_ref.shape, -np.inf)
        out[free] = y
        top = np.max(out, axis=-1, keepdims=True)
        out[free] = np.maximum(out, top - 300.0)[free]
        return np.asarray(log_softmax(out))

    def rate(_: float, y: Array) -> Array:
        log_pi = policy(y)
        return _velocity(at(log_pi), np.exp(log_pi))[free] / size

    y0 = world.log_ref[free]
    solver, k = LSODA(rate, 0.0, y0, float(LOOKS[-1]), rtol=1e-4, atol=1e-7, first_step=0.01), 0
    while solver.status == "running" and k < len(LOOKS):
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            message = solver.step()
        if message is not None or not np.isfinite(solver.y).all():
            raise SolveError(message or "it reaches infinity")
        if solver.t >= LOOKS[k]:
            k = int(np.searchsorted(LOOKS, solver.t, side="right"))
            yield policy(solver.y)
        if solver.nfev > evaluations:
            return


def _rest(at: Callable[[Array], Array], world: World, log_pi: Array, size: float) -> tuple[Array, float] | None:
    """A proved place of rest near a policy: its law (P, N), what has vanished at -inf, and the velocity there; None where there is none."""
    pi = np.exp(log_pi)
    v = _velocity(at(log_pi), pi)
    free = ~np.isneginf(world.log_ref)
    gone = free & (pi < SMALL) & (v < -1e-3 * size * pi)
    for dead in [np.zeros_like(gone), gone] if gone.any() else [gone]:
        found = _polished(at, log_pi, free, dead, size)
        if found is not None and _proved(at, found, free, dead, size):
            law = world.mdp.path_sum(np.where(dead, -np.inf, found))
            there = np.exp(found)
            return np.asarray(law), float(np.max(np.abs(there * _velocity(at(found), there)))) / size
    return None


def _polished(at: Callable[[Array], Array], log_pi: Array, free: Mask, dead: Mask, size: float) -> Array | None:
    """Newton's method on the survivors' velocity, from a policy; None where it does not settle nearby."""
    here, alive = np.asarray(log_softmax(np.where(dead, np.minimum(log_pi, FLOOR), log_pi))), free & ~dead

    def velocity(x: Array) -> Array:
        return np.asarray((_velocity(at(x), np.exp(x)) / np.exp(x))[alive]) / size

    for _ in range(12):
        v = velocity(here)
        if np.all(np.abs(v) <= 0.1 * _slack(here[alive], size)):
            return here
        J = _jacobian(velocity, here, alive, v)
        if not np.isfinite(J).all():
            return None
        move = np.zeros(here.shape)
        move[alive] = -np.linalg.lstsq(J, v, rcond=1e-10)[0]
        if np.max(np.abs(np.exp(here) * move)) > 0.2:
            return None
        here = np.asarray(log_softmax(here + move))
    return None


def _slack(log_pi: Array, size: float) -> Array:
    """What of v/pi, as a share of the first step, is rounding: of a rare token, its own rounding over its probability."""
    return np.asarray(STILL + ROUNDING / (np.exp(log_pi) * size))


def _jacobian(velocity: Callable[[Array], Array], here: Array, alive: Mask, v: Array) -> Array:
    columns = []
    for k in np.argwhere(alive):
        there = np.array(here)
        there[tuple(k)] += 1e-5
        columns.append((velocity(np.asarray(log_softmax(there))) - v) / 1e-5)
    return np.stack(columns, axis=1)


def _proved(at: Callable[[Array], Array], here: Array, free: Mask, dead: Mask, size: float) -> bool:
    """Still, in probability, with every vanished token's push; nothing vanished grows again; no departure grows."""
    pi = np.exp(here)
    v = _velocity(at(here), pi) / size
    if not (np.max(np.abs(pi * v)[free]) <= STILL and np.all((np.abs(v / pi) <= _slack(here, size))[free & ~dead])):
        return False
    if dead.any() and not (np.max(v[dead]) <= STILL and np.max((v / pi)[dead]) <= 1e-3):
        return False
    alive = free & ~dead
    J = _jacobian(lambda x: np.asarray(_velocity(at(x), np.exp(x))[alive]) / size, here, alive, v[alive])
    return bool(np.max(np.linalg.eigvals(J).real, initial=0.0) <= 1e-4)


# ---------------------------------------------------------------------------------------------------- which objective is largest there


def maximized(handed: Handed, nearest: Nearest | None, world: World, end: End) -> str:
    """The named objective that is largest where a step ends, or how far that is from the Gibbs optimum, in words."""
    if not end.rests:
        return ""
    beta = _beta(handed, nearest)
    if np.isneginf(end.log_p).any() or np.min(end.log_p) < -36.0:
        best = np.max(world.r, axis=1)
        there = np.sum(np.exp(end.log_p) * world.r, axis=1)
        return "the best response" if np.allclose(there, best, atol=1e-9) else "not the best response"
    settings = {"beta": beta, "tau": beta, "alpha": 0.0}
    found = next((name for name, f in OBJECTIVES.items() if velocity(f, world, settings, end.log_p) <= AT_REST), None)
    if found is not None:
        return f"the maximizer of {found.replace('beta', f'{beta:g}').replace('tau', f'{beta:g}')}"
    p = solve(world.at(beta)).p
    return f"total variation {0.5 * float(np.sum(np.abs(np.exp(end.log_p) - p))):.3g} from p* at beta = {beta:g}"


def _beta(handed: Handed, nearest: Nearest | None) -> float:
    """The weight of the penalty that it says: its own setting; 1 where the penalty is ours."""
    if handed.kind == "KL penalty" or (
        handed.kind != "pair loss" and (nearest is None or (nearest.penalty is None and " of r - " not in nearest.words))
    ):
        return 1.0
    said = [v for n, v in named_numbers(handed).items() if n.lower() in ("beta", "tau") or n.lower().startswith("kl")]
    return said[0] if said and said[0] > 0 else 1.0


def fitted_rewards(handed: Handed, world: World) -> list[tuple[float, float]]:
    """(true, fitted) reward of every response, where the loss of all pairs labeled by Bradley-Terry is stationary.  Raises SolveError."""
    from scipy.optimize import root

    pairs = labeled(world)

    def step(flat: Array) -> Array:
        rho = np.reshape(flat, world.r.shape)
        out = np.zeros(world.r.shape)
        for x, w, l, weight in pairs:
            batch: Batch = {"chosen_reward": rho[x, [w]], "rejected_reward": rho[x, [l]], "margin": np.zeros(1)}
            push = handed.push(batch)
            out[x, w] += weight * float(push["chosen_reward"][0])
            out[x, l] += weight * float(push["rejected_reward"][0])
        return np.ravel(out)

    found = root(step, np.zeros(world.r.size), method="lm", tol=1e-12)
    if not np.max(np.abs(step(found.x))) < 1e-8:
        raise SolveError("no rewards at which the loss of all pairs is stationary were found: it may have no minimum")
    return list(zip(np.ravel(world.r).tolist(), found.x.tolist(), strict=True))
