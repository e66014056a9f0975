r"""Where gradient ascent of E[r] - beta times a flag moves nothing: the policy's velocity, with what vanished tokens still push.

**Velocity.**  In a state s that is visited with mass d(s), with m(s, a) the mass through (s, a) times what its score is weighed by
(`evaluate.pushes`, the reward's less beta times the flag's),

    A(s, a) = m(s, a)/d(s) - pi(a given s) sum_b m(s, b)/d(s);       d log pi(a given s)/dt = d(s) (A(s, a) - sum_b pi(b) A(s, b)).

For one token A_i = p_i (u_i - sum_j p_j u_j).

**A token that has vanished** is held at a floor, where m is at its limit: mostly 0, but -beta p_ref under k3 in the reward.  Let F be
minus the sum of these limits in a state with n survivors.  At rest the survivors share F alike, A(s, a) = F/n, so

    X(s, a) = (m(s, a)/d(s) - F/n)/pi(a given s)    is the same for all survivors of a state;

restricted to the survivors, without F, the field has other zeros, which are no places of rest.  Two things may befall a vanished
token: with A - F/n < 0 it falls for ever, exponentially; and where F = 0 it falls slowly, as 1/t, if its own m/(pi d) lies below
X whatever is said after it (`worth`): what comes after it has all the time to become the best that can be.

**Corners.**  Where a slope jumps, any number between its two sides will do: slopes are read on both sides, and X is an interval.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tabular_rlhf.estimators.claims import never_negative
from tabular_rlhf.estimators.evaluate import coefficients, h_of, pushes, slope, state_kl, values
from tabular_rlhf.estimators.record import Flag
from tabular_rlhf.logspace import Array, log_ratio, logsumexp
from tabular_rlhf.world import World

Mask = np.ndarray[Any, np.dtype[np.bool_]]
ALIVE, FLOOR = 500.0, 640.0
"""Nats that a response may fall until it counts as vanished, and where it is then held: exp(-640) is still a normal number."""
LIMIT = float(np.exp(-300.0))
"""A mass times a coefficient below this goes to 0 with the mass; what has a limit is of the size of p_ref."""
ROUNDING = 1e-10
"""Relative to the terms that cancel."""
BESIDE = 1e-9
"""Nats from a corner at which its two slopes are read."""
STEP = 1e-7
NEWTON, FAR, WITHIN = 25, 50.0, 1e-2
"""Steps of Newton's method, nats that one may go, and how much all may change a probability: the place is to be near."""


@dataclass(frozen=True, eq=False)
class Balance:
    """What pushes each token at a policy, in its state's own time.

    log_pi (P, S, V): the policy, vanished tokens at the floor; alive, gone: its tokens; counts (P, S): states that are visited;
    limits (P, S, V): what vanished tokens still push, and share (P, S, 1) what each survivor has of that; X (P, S, V), of the
    survivors.  All in reward units.
    """

    log_pi: Array
    alive: Mask
    gone: Mask
    counts: Mask
    limits: Array
    share: Array
    X: Array

    @property
    def level(self) -> Array:
        """The mean of what survivors should share, (P, S, 1)."""
        return np.asarray(np.sum(np.where(self.alive, np.exp(self.log_pi) * self.X, 0.0), axis=-1, keepdims=True))

    @property
    def off(self) -> Array:
        """By how much each survivor's X differs from that, (P, S, V)."""
        return np.asarray(np.where(self.alive, self.X - self.level, 0.0))


def floored(world: World, log_pi: Array, gone: Mask) -> Array:
    """The policy with every response that begins with a token that is gone held FLOOR nats down, or a little higher if that is
    where it is; the others normalized.

    What is said after such a token is said as the reference does: no push on a token that matters depends on it.
    """
    mdp, forbidden = world.mdp, np.isneginf(world.log_ref)
    kept = np.where(gone | forbidden, -np.inf, log_pi)
    kept = kept - logsumexp(kept, axis=-1, keepdims=True)
    here = reached(world, gone)[..., None]
    kept = np.where(here, kept, world.log_ref)
    before = mdp.prefix_sum(np.where(np.isneginf(kept), 0.0, kept))[..., None]
    return np.asarray(np.where(gone & here, np.maximum(log_pi, -FLOOR - before), kept))


def reached(world: World, gone: Mask) -> Mask:
    """The states of prompts that are asked, (P, S), on the way to which nothing is gone or forbidden."""
    asked: Mask = world.mu[:, None] > 0
    return np.asarray(asked & (world.mdp.prefix_sum(np.where(gone | np.isneginf(world.log_ref), 1.0, 0.0)) == 0))


def vanished(world: World, log_pi: Array) -> Mask:
    """The tokens, (P, S, V), with which a response is ALIVE nats down or more: no number tells them from 0.  One stays in a state."""
    free = ~np.isneginf(world.log_ref)
    finite = np.where(free, np.maximum(log_pi, -FLOOR), 0.0)
    deep = world.mdp.prefix_sum(finite)[..., None] + finite < -ALIVE
    first = np.argmax(np.where(free, finite, -np.inf), axis=-1, keepdims=True)
    return np.asarray(free & deep & (np.arange(world.mdp.V) != first))


@dataclass(frozen=True, eq=False)
class Ascent:
    """Gradient ascent of E[r] - beta times a flag, on its own samples; width, over which jumps of a slope are rounded."""

    flag: Flag
    world: World
    width: float = 0.0

    def balance(self, log_pi: Array, gone: Mask) -> Balance:
        """The balance of pushes at a policy without the tokens that are gone (P, S, V)."""
        world, mdp, free = self.world, self.world.mdp, ~np.isneginf(self.world.log_ref)
        gone, alive = gone & free, free & ~gone
        q, counts = floored(world, log_pi, gone), reached(world, gone)
        m = mdp.subtree_sum(world.mu[:, None] * np.exp(mdp.path_sum(q)) * world.r) - world.beta * pushes(self.flag, world, q, self.width)
        d = np.where(counts, world.mu[:, None] * np.exp(mdp.prefix_sum(np.where(free, q, 0.0))), 1.0)[..., None]
        limits = np.where(gone & (np.abs(m) > LIMIT), m / d, 0.0)
        share = -np.sum(limits, axis=-1, keepdims=True) / np.sum(alive, axis=-1, keepdims=True)
        X = np.where(alive, (m / d - share) / np.exp(np.where(alive, q, 0.0)), 0.0)
        return Balance(q, alive, gone, counts, limits, share, X)

    def sizes(self, at: Balance) -> Array:
        """The magnitude of what is added up in X, of the largest of each state, (P, S): X is known to its rounding."""
        world, mdp, q = self.world, self.world.mdp, at.log_pi
        p = world.mu[:, None] * np.exp(mdp.path_sum(q))
        m = mdp.subtree_sum(p * np.abs(world.r)) + world.beta * pushes(self.flag, world, q, self.width, size=True)
        d = np.where(at.counts, world.mu[:, None] * np.exp(mdp.prefix_sum(np.where(np.isneginf(q), 0.0, q))), 1.0)[..., None]
        return np.asarray(np.max(np.where(at.alive, (m / d + np.abs(at.share)) / np.exp(np.where(at.alive, q, 0.0)), 0.0), axis=-1))

    def still(self, at: Balance) -> bool:
        """Whether no survivor moves, to rounding."""
        most = np.max(np.abs(at.off), axis=-1)
        return bool(np.all(most[at.counts] <= ROUNDING * self.sizes(at)[at.counts]))

    def called(self, at: Balance) -> Mask:
        """The vanished tokens that would grow again, (P, S, V)."""
        slack = ROUNDING * replace(self, width=0.0).sizes(at)[..., None]  # of the slopes as they are
        grows = np.where(at.share != 0, at.limits > at.share, self.worth(at.log_pi) - at.level > slack)
        return np.asarray(at.gone & grows & at.counts[..., None])

    def worth(self, log_pi: Array) -> Array:
        """The most that a token's coefficient can be, whatever is said after it, (P, S, V), where what comes after has no mass.

        By tokens: the best reward that follows, less beta times the token's own h and h', and the h of what came before it; the h of
        what comes after cost at least 0 on average.  inf where that is not so, and where h and h' cancel: there nothing is known.
        """
        flag, world = self.flag, self.world
        mdp, place, e = world.mdp, flag.place, flag.record

        def best(x: Array) -> Array:
            allowed = np.where(np.isneginf(world.log_p_ref), -np.inf, x)
            found = mdp.backup(allowed, lambda h, below: np.max(below, axis=1))[1]
            return np.asarray(np.where(np.isneginf(found), 0.0, found))

        if flag.level == "sequence":
            c, size = (coefficients(flag, world, log_pi, size=size) for size in (False, True))
            return best(np.where((c != 0) & (np.abs(c) <= ROUNDING * size), np.inf, world.r - world.beta * c))
        h, L = values(flag, world, log_pi, log_pi) * place.weight_live, log_ratio(log_pi, world.log_ref)
        phi = (L if e.per_state else slope(flag, L)) * place.value_live
        before = mdp.prefix_sum(h)[..., None] if flag.ratio == "sequence" or (flag.ratio, flag.aggregate) == ("decision", "sum") else 0.0
        own = h + phi + before
        lengths = 1.0 / mdp.lengths + np.zeros((mdp.P, mdp.N)) if flag.aggregate == "mean" else np.ones((mdp.P, mdp.N))
        cost = np.where(own < 0, own * best(lengths), -own * best(-lengths))
        if place.weight_live and flag.ratio != "token" and not never_negative(e):
            return np.full(own.shape, np.inf)
        lost = (own != 0) & (np.abs(own) <= ROUNDING * (np.abs(h) + np.abs(phi)))
        return np.asarray(np.where(lost, np.inf, best(world.r) - world.beta * cost))

    def polish(self, log_pi: Array, gone: Mask) -> tuple[Array, float] | None:
        """The place of rest near a policy, by Newton's method in log pi of the survivors; None where that leads away.

        Returns: log_pi (-inf where gone), and the greatest rate at which a small departure from it grows, relative to the rates that
        are there: where it is positive, the place is not stable.
        """
        world, gone = self.world, gone | vanished(self.world, log_pi)
        y, law = np.where(gone, -np.inf, log_pi), np.exp(world.mdp.path_sum(log_pi))
        at = self.balance(y, gone)
        for _ in range(NEWTON):
            first = np.argmax(at.log_pi, axis=-1, keepdims=True)  # it follows from the others: probabilities add up to one
            moves = at.alive & at.counts[..., None] & (np.arange(world.mdp.V) != first)
            derivative = _jacobian(lambda y: self.balance(y, gone).off, y, at.off, moves)
            if self.still(at):
                stays = not self.called(at).any()
                return (np.where(gone, -np.inf, at.log_pi), _growth(derivative)) if stays else None
            step = np.zeros(y.shape)
            step[moves] = np.linalg.lstsq(derivative, -at.off[moves], rcond=1e-9)[0]
            y = y + step * min(1.0, FAR / max(1e-300, float(np.max(np.abs(step)))))
            at = self.balance(y, gone)
            away = np.max(np.abs(np.exp(world.mdp.path_sum(at.log_pi)) - law))
            if not (np.isfinite(at.off[moves]).all() and away < WITHIN):
                return None
        return None


def resting(flag: Flag, world: World, log_pi: Array) -> bool:
    """Whether E[r] - beta times the flag is stationary at a policy, vanished tokens (log pi = -inf) and corners included.

    >>> from tabular_rlhf.estimators.theorem import optimum
    >>> from tabular_rlhf.world import rational
    >>> w = rational(); best = optimum(Flag("k3", "loss"), w)
    >>> resting(Flag("k3", "loss"), w, best.log_pi), resting(Flag("k2", "loss"), w, best.log_pi), resting(Flag("k3", "loss"), w, w.log_ref)
    (True, False, False)
    """
    side = BESIDE if flag.place.value_live and flag.record.rounded is not None else 0.0
    log_p = world.mdp.path_sum(log_pi)
    if flag.level == "sequence":
        return _level(flag, world, log_p, world.log_p_ref, side, world.r, 1.0 / world.mdp.lengths if flag.aggregate == "mean" else 1.0)
    if flag.aggregate == "mean":
        ascent = Ascent(flag, world)
        at = ascent.balance(log_pi, vanished(world, log_pi))
        return ascent.still(at) and not ascent.called(at).any()
    return _level(flag, world, log_pi, world.log_ref, side, _returns(flag, world, log_pi), 1.0)


def _level(flag: Flag, world: World, log_p: Array, log_q: Array, side: float, Q: Array, weight: Any) -> bool:
    """Whether Q - beta phi(log p/q) is the same for all events of positive probability, and no greater for the others."""
    possible = ~np.isneginf(log_q)
    if log_q.ndim == 3:  # tokens of states that can be
        possible &= reached(world, np.zeros(possible.shape, dtype=bool))[..., None]
    held = np.where(possible, np.maximum(log_p, -FLOOR), -np.inf)
    alive, L = possible & (log_p > -FLOOR), np.where(possible, held - np.where(possible, log_q, 0.0), 0.0)
    place, e = flag.place, flag.record
    h = (state_kl(held, log_q) if e.per_state else h_of(flag, L, L)) if place.weight_live else 0.0
    phi = [(L if e.per_state else slope(flag, L + x)) if place.value_live else 0.0 for x in (side, -side)]
    low, high = (Q - world.beta * weight * (h + x) for x in phi)
    slack = ROUNDING * (np.abs(Q) + world.beta * weight * (np.abs(h) + np.abs(phi[0])))
    level = np.min(np.where(alive, high + slack, np.inf), axis=-1, keepdims=True)
    pushes_still = ~alive & (np.abs(np.exp(held) * low) > LIMIT) & (np.abs(low) > slack)
    fails = possible & ((low - slack > level) | pushes_still)
    return not fails[world.mu > 0].any()


def _returns(flag: Flag, world: World, log_pi: Array) -> Array:
    """Q of token-level flags, (P, S, V): the reward to come, less beta times the h to come where whole returns are weighed."""
    mdp, free = world.mdp, ~np.isneginf(world.log_ref)
    q = np.where(free, np.maximum(log_pi, -FLOOR), -np.inf)
    moving = flag.place.weight_live and flag.ratio != "token"
    cost = world.beta * values(flag, world, q, q) if moving else np.zeros(q.shape)
    pi, cost = mdp.levels(np.exp(q)), mdp.levels(cost)
    return np.asarray(mdp.backup(world.r, lambda h, Q: np.sum(pi[h] * (Q - cost[h]), axis=1))[1])


# ---------------------------------------------------------------------------------------------------- Newton


def _jacobian(f: Callable[[Array], Array], y: Array, here: Array, moves: Mask) -> Array:
    """The derivative, by differences, of the entries that move in themselves, of a table f that is `here` at y."""
    columns = []
    for place in np.argwhere(moves):
        moved = y.copy()
        moved[tuple(place)] += STEP
        columns.append((f(moved) - here)[moves] / STEP)
    return np.stack(columns, axis=1) if columns else np.zeros((0, 0))


def _growth(derivative: Array) -> float:
    if not derivative.size:
        return 0.0
    return float(np.max(np.linalg.eigvals(derivative).real) / max(1e-300, np.max(np.abs(derivative))))
