r"""The optimum of a loss over all distributions, for given pairs: attained, flat, or only approached.

**Algorithm.**  Newton's method (`newton`) on the response logits theta of each prompt (`problem`), scaled by how often a response is
shown; where the loss is one of the difference of scores (`record.Scores`), on the scores instead, on which no sum to one weighs.

**How it ends.**  Along an eigenvector whose curvature *and* gradient have both vanished the loss is flat.  Then either theta did not
move that way (a set of minimizers, whose dimension we report) or it ran off (nothing is attained: some responses vanish, and we
report which).  An optimum that is not attained is never returned as a large number.

**Corners.**  Losses with corners are solved with corners rounded over a falling width, which falls as fast as Newton can follow; the
value found is above the minimum by at most width log 2 a corner.

**Frozen parameters** are those of the policy that minimizes the loss at them: the root of f(s) - s, f(s) what the rule makes of the
minimizer at s, is sought by secants inside a bracket.  Each minimum starts from the last, as in training.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from tabular_rlhf.errors import SolveError
from tabular_rlhf.logspace import Array, log_softmax
from tabular_rlhf.losses.evaluate import check_pairs, settings_at
from tabular_rlhf.losses.family_anchored import shares_of
from tabular_rlhf.losses.newton import End, newton
from tabular_rlhf.losses.problem import Problem, prompt_problem
from tabular_rlhf.losses.record import DirectLoss, Scores, find
from tabular_rlhf.mdp import Indices
from tabular_rlhf.optimize import followed
from tabular_rlhf.preferences import Pairs
from tabular_rlhf.world import World

WIDEST, SHARPEST = 0.1, 1e-7
"""Widths of the corners, first and last: see `record`."""
FLAT = 1e-20
"""A slope below any that an exponential tail has where Newton stops (about 1e-14)."""


@dataclass(frozen=True, eq=False)
class Minimum:
    """Where a loss is smallest.

    log_p (P, N): the minimizer, or the limit that is approached (vanishing responses at -inf).  value: the loss there (the
    infimum if it is not attained, -inf if there is none).  attained.  dimension, of the set of minimizers: 0 if unique
    (for a loss with corners, the flat directions found: at least so many).
    vanishing (P, N), the responses whose probability goes to 0.  step: the last Newton step, nats.  iterations.
    """

    log_p: Array
    value: float
    attained: bool
    dimension: int
    vanishing: Array
    step: float
    iterations: int
    corners: bool

    @property
    def words(self) -> str:
        """How the search ended."""
        if self.value == -np.inf:
            return "unbounded below"
        if not self.attained:
            return f"not attained: {int(np.sum(self.vanishing))} responses vanish"
        if self.corners:  # at a corner the loss may be curved on one side and flat on the other
            return f"attained on a set of dimension at least {self.dimension}" if self.dimension else "attained"
        return "attained, unique" if self.dimension == 0 else f"attained on a set of dimension {self.dimension}"


def minimize(
    loss: str | DirectLoss, world: World, pairs: Pairs, *, start: Array | None = None, rounds: int = 500, **changes: float
) -> Minimum:
    """The minimizer of the loss over all distributions on the responses that the reference allows.

    Args: start, log p to begin from (p_ref by default); rounds, of Newton steps and of frozen parameters; changes, of parameters.
    Raises: SolveError where the iteration does not settle.

    >>> from tabular_rlhf.preferences import bradley_terry, population_pairs
    >>> from tabular_rlhf.world import coin
    >>> w = coin(); pairs = population_pairs(w, bradley_terry(w.r)).distinct()
    >>> found = minimize("dpo", w, pairs); found.words, round(float(np.exp(found.log_p[0, 1])), 6)
    ('attained, unique', 0.731059)
    """
    loss = find(loss)
    start = np.array(world.log_p_ref if start is None else start)
    check_pairs(world, start, pairs)
    at, s = start, settings_at(loss, world, start, pairs, changes)  # the policy at which frozen parameters are taken, and they
    ways = [Way.begin(loss.scores_at(s), world, x, start) for x in range(world.mdp.P)]
    roots = {name: Root() for name in loss.frozen if name not in changes}
    for _ in range(rounds):
        found = _at_fixed(loss, world, pairs, ways, at, s, rounds)
        ahead = settings_at(loss, world, found.log_p, pairs, changes)
        settled = all(_near(s[name], ahead[name]) for name in roots)
        by_policy = {"p0", "q0"} & set(loss.needs) and found.attained
        if settled and not (by_policy and np.max(np.abs(np.exp(found.log_p) - np.exp(at))) > 1e-13):
            return found
        if not all(np.isfinite(ahead[name]) for name in roots):  # they run off with the policy
            return found
        at, s = found.log_p, {**ahead, **{name: root.next(s[name], ahead[name]) for name, root in roots.items()}}
    raise SolveError(f"{loss.name}: its frozen parameters {', '.join(loss.frozen)} did not settle in {rounds} rounds")


def _near(a: float, b: float) -> bool:
    return bool(a == b or abs(a - b) <= 1e-12 * max(1.0, abs(a)))


@dataclass
class Root:
    """A root of the gap f(s) - s, which falls through 0: the last point, and the nearest known on either side."""

    last: tuple[float, float] | None = None
    low: float = -np.inf
    high: float = np.inf

    def next(self, s: float, ahead: float) -> float:
        """Where to look after f(s) = ahead: by the secant through the last two, or half-way where that leaves the bracket."""
        gap = ahead - s
        self.low, self.high = (s, self.high) if gap > 0 else (self.low, s)
        secant = ahead
        if self.last is not None and self.last[1] != gap:
            secant = s - gap * (self.last[0] - s) / (self.last[1] - gap)
        self.last = (s, gap)
        if self.low < secant < self.high and abs(secant - s) < 1e3 * abs(gap):
            return secant
        return 0.5 * (self.low + self.high) if np.isfinite(self.high - self.low) else ahead


@dataclass
class Way:
    """One prompt on its way: the loss's scores; the responses that the reference allows; where in the solver's coordinates the reference
    is, and the way has come to."""

    scores: Scores | None
    x: int
    live: Indices
    ref: Array
    lengths: Array
    base: Array
    theta: Array

    @classmethod
    def begin(cls, scores: Scores | None, world: World, x: int, log_p: Array) -> Way:
        live = np.flatnonzero(~np.isneginf(world.log_p_ref[x]))
        ref, lengths = world.log_p_ref[x, live], world.mdp.lengths[live].astype(np.float64)
        base, theta = (row if scores is None else scores.of(row, ref, lengths) for row in (ref, log_p[x, live]))
        return cls(scores, x, live, ref, lengths, base, theta)

    def log_p(self, gone: Array) -> Array:
        """The distribution where theta has come to, in the limit where some responses are gone."""
        row = self.theta
        if self.scores is not None:
            row = self.scores.law(np.where(gone, -1e300, self.theta), self.ref, self.lengths)
        return np.asarray(log_softmax(np.where(gone, -np.inf, row)))


def _at_fixed(loss: DirectLoss, world: World, pairs: Pairs, ways: list[Way], at: Array, s: dict[str, Any], rounds: int) -> Minimum:
    """The minimum at fixed frozen parameters, prompt by prompt (the loss is a sum over prompts), from where each has come to."""
    out, gone = np.array(world.log_p_ref), np.zeros(at.shape, dtype=bool)
    ends, attained = [], True
    for way in ways:
        x, live = way.x, way.live
        plain = loss if way.scores is None else replace(loss, fn=way.scores.base)
        problem = prompt_problem(plain, world, pairs, x, live, at, s, None if plain is loss else np.zeros(len(live)))
        if problem is not None:
            end, moved = _solve(loss, problem, way, s["beta"], rounds)
            way.theta = end.theta
            gone[x, live] = moved < np.max(moved) - min(1.0, 10.0 / s["beta"])
            attained &= not (end.gone or gone[x].any())
            ends.append(end)
        out[x, live] = way.log_p(gone[x, live])
    value = -np.inf if any(e.gone for e in ends) else float(sum(e.value for e in ends))
    dimension = sum(e.dead for e in ends)
    step, iterations = max((e.step for e in ends), default=0.0), sum(e.iterations for e in ends)
    return Minimum(out, value, attained, dimension, gone, step, iterations, bool(loss.kinks))


def _solve(loss: DirectLoss, problem: Problem, way: Way, beta: float, rounds: int) -> tuple[End, Array]:
    """Newton, at falling widths of the corners if there are any, and how far each logit ran off.

    A smooth loss is analytic: where it is flat along a line it is so from end to end, also at the reference.  Along other directions
    in which no curvature is left theta ran off.  A loss with corners may be flat on one side: there the slope that way is 0, not just
    small (pairs past the corner give 0 exactly, the others products of two roundings).
    """
    escape = 1e5 * (1.0 + 1.0 / beta)

    def settle(width: float, theta: Array, steps: int) -> tuple[Array, End]:
        end = newton(partial(problem.quadratic, width=width), theta, problem.share, escape=escape, rounds=steps)
        return end.theta, end

    if loss.kinks:
        _, end = followed(settle, way.theta, WIDEST, SHARPEST, first=rounds)
        value, slope, _ = problem.quadratic(end.theta, 0.0)
        end = replace(end, value=value)
    else:
        _, end = settle(0.0, way.theta, rounds)
    moved = end.theta - way.base if end.gone else end.run_off(way.base, *problem.quadratic(way.base, WIDEST)[1:])
    if loss.kinks and abs(float(slope @ moved)) <= FLAT * float(np.max(np.abs(moved), initial=0.0)):
        moved = np.zeros_like(moved)
    return end, moved


def starts(world: World, pairs: Pairs) -> list[Array]:
    """Where to begin: p_ref, and p_ref tilted by 3/beta nats (but at most 5) towards winners, and towards losers."""
    wins = shares_of(world, pairs)
    shown = wins[0] + wins[1]
    far = min(5.0, 3.0 / world.beta)
    tilt = (wins[0] - wins[1]) / np.where(shown > 0, shown, 1.0)
    return [log_softmax(np.where(np.isneginf(world.log_p_ref), -np.inf, world.log_p_ref + k * tilt)) for k in (0.0, far, -far)]


def minima(loss: str | DirectLoss, world: World, pairs: Pairs, **changes: Any) -> list[Minimum]:
    """What is found from every start, lowest value first and each once; the one reached from p_ref is `minimize`'s own.

    A convex loss of log-ratios has one; others may have more, or an infimum at infinity beside a local minimum.
    """
    found: list[Minimum] = []
    for start in starts(world, pairs):
        m = minimize(loss, world, pairs, start=start, **changes)
        if not any(np.allclose(np.exp(m.log_p), np.exp(k.log_p), rtol=0, atol=1e-7) for k in found):
            found.append(m)
    return sorted(found, key=lambda m: m.value)
