r"""The optimum of a loss over all distributions, for given pairs: attained, flat, or only approached.

**Symbols.**  theta (N,) response logits of one prompt, log p = log_softmax(theta); g and H the gradient and Hessian of the loss in
log p, its entries free.  With A = I - 1 p^T,

    gradient in theta  g - p sum g,        Hessian in theta  A^T H A - (sum g) (diag p - p p^T).

**Algorithm.**  Newton's method (`newton`) on theta, scaled by how often a response is shown.  H comes from the second derivatives
of the loss in each pair's (p, q), by the gradient core.

**How it ends.**  Along an eigenvector whose curvature *and* gradient have both vanished the loss is flat.  Then either theta did not
move that way (a set of minimizers, whose dimension we report) or it ran off (nothing is attained: some responses vanish, and we
report which).  An optimum that is not attained is never returned as a large number.

Losses with corners are solved with corners rounded over a falling width; the value found is above the minimum by at most
width log 2 a corner.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from tabular_rlhf.autodiff import grad, value_and_grad
from tabular_rlhf.errors import SolveError
from tabular_rlhf.logspace import Array, log_softmax
from tabular_rlhf.losses.evaluate import check_pairs, settings_at, weights
from tabular_rlhf.losses.family_anchored import shares_of
from tabular_rlhf.losses.newton import End, newton
from tabular_rlhf.losses.record import DirectLoss, find
from tabular_rlhf.mdp import Indices
from tabular_rlhf.preferences import Pairs
from tabular_rlhf.world import World

WIDTHS = (0.1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
"""Of the corners, falling: see `record`."""
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
    at = start  # the policy at which frozen parameters are taken
    for _ in range(rounds):
        s = settings_at(loss, world, at, pairs, changes)
        found = _at_fixed(loss, world, pairs, start, at, s, rounds)
        ahead = settings_at(loss, world, found.log_p, pairs, changes)
        settled = all(_near(s[name], ahead[name]) for name in loss.frozen)
        by_policy = {"p0", "q0"} & set(loss.needs) and found.attained
        if settled and not (by_policy and np.max(np.abs(np.exp(found.log_p) - np.exp(at))) > 1e-13):
            return found
        if not all(np.isfinite(ahead[name]) for name in loss.frozen):  # they run off with the policy
            return found
        at = found.log_p
    raise SolveError(f"{loss.name}: its frozen parameters {', '.join(loss.frozen)} did not settle in {rounds} rounds")


def _near(a: float, b: float) -> bool:
    return bool(a == b or abs(a - b) <= 1e-12 * max(1.0, abs(a)))


def _at_fixed(loss: DirectLoss, world: World, pairs: Pairs, start: Array, at: Array, s: dict[str, Any], rounds: int) -> Minimum:
    """The minimum at fixed frozen parameters, prompt by prompt (the loss is a sum over prompts)."""
    out, gone = np.array(start), np.zeros(start.shape, dtype=bool)
    ends, attained = [], True
    for x in range(world.mdp.P):
        live = np.flatnonzero(~np.isneginf(world.log_p_ref[x]))
        problem = prompt_problem(loss, world, pairs, x, live, at, s)
        if problem is None:
            continue
        end, moved = _solve(loss, *problem, start[x, live], s["beta"], rounds)
        gone[x, live] = moved < np.max(moved) - 1.0
        attained &= not (end.gone or gone[x].any())
        out[x, live] = log_softmax(np.where(gone[x, live], -np.inf, end.theta))
        ends.append(end)
    value = -np.inf if any(e.gone for e in ends) else float(sum(e.value for e in ends))
    dimension = sum(e.dead for e in ends)
    step, iterations = max((e.step for e in ends), default=0.0), sum(e.iterations for e in ends)
    return Minimum(out, value, attained, dimension, gone, step, iterations, bool(loss.kinks))


def _solve(loss: DirectLoss, quadratic: Any, share: Array, theta: Array, beta: float, rounds: int) -> tuple[End, Array]:
    """Newton at falling widths of the corners, and how far each logit ran off.

    A smooth loss is analytic: where it is flat along a line it is so from end to end, and Newton's steps do not enter; whoever
    moved along a dead direction ran off.  A loss with corners may be flat on one side: there the slope that way is 0, not just
    small (pairs past the corner give 0 exactly, the others products of two roundings).
    """
    first, escape = theta, 1e5 * (1.0 + 1.0 / beta)
    for width in WIDTHS if loss.kinks else (0.0,):
        end = newton(partial(quadratic, width=width), theta, share, escape=escape, rounds=rounds)
        theta = end.theta
    moved = np.asarray(theta - first if end.gone else end.faint @ (theta - first))
    if loss.kinks:
        value, slope, _ = quadratic(theta, 0.0)
        end = replace(end, value=value)
        if abs(float(slope @ moved)) <= FLAT * float(np.max(np.abs(moved), initial=0.0)):
            return end, np.zeros_like(theta)
    return end, moved


def prompt_problem(
    loss: DirectLoss, world: World, pairs: Pairs, x: int, live: Indices, at: Array, s: dict[str, Any]
) -> tuple[Any, Array] | None:
    """(theta, width) -> loss, gradient, Hessian for one prompt's pairs, and how often each response is shown; None without pairs."""
    weight = weights(pairs)
    mine = (weight > 0) & np.broadcast_to(pairs.x == x, weight.shape)
    if not mine.any():
        return None
    place = np.zeros(world.mdp.N, dtype=np.intp)
    place[live] = np.arange(len(live))
    w, l = (place[np.broadcast_to(k, weight.shape)[mine]] for k in (pairs.w, pairs.l))
    weight, n = weight[mine], len(live)
    ref, lengths, p0 = world.log_p_ref[x, live], world.mdp.lengths[live].astype(float), at[x, live]
    fixed = {**s, "len_w": lengths[w], "len_l": lengths[l], "p0": p0[w], "q0": p0[l]}

    def total(p: Any, q: Any, width: float) -> Any:
        return np.sum(weight * loss(**{**fixed, "p": p, "q": q, "a": p - ref[w], "b": q - ref[l], "width": width}))

    def quadratic(theta: Array, width: float) -> tuple[float, Array, Array]:
        log_p = log_softmax(theta)
        return chain(log_p, pair_derivatives(total, log_p[w], log_p[l], width), w, l, n)

    # a frozen weight makes a pair count for less: WPO's spans many orders of magnitude
    heard = weight * np.exp(fixed["p0"] / lengths[w] + fixed["q0"] / lengths[l]) if "p0" in loss.needs else weight
    return quadratic, np.asarray(np.bincount(w, heard, n) + np.bincount(l, heard, n), dtype=np.float64)


def pair_derivatives(total: Any, p: Array, q: Array, width: float) -> tuple[Any, ...]:
    """Value, first and second derivatives in each pair's (p, q): (f, f_p, f_q, f_pp, f_pq, f_qq)."""
    value, (f_p, f_q) = value_and_grad(total, (0, 1))(p, q, width)
    f_pp, f_pq = grad(lambda p, q: np.sum(grad(total, 0)(p, q, width)), (0, 1))(p, q)
    f_qq = grad(lambda q: np.sum(grad(total, 1)(p, q, width)))(q)
    return float(value), f_p, f_q, f_pp, f_pq, f_qq


def chain(log_p: Array, parts: tuple[Any, ...], w: Any, l: Any, n: int) -> tuple[float, Array, Array]:
    """Value, gradient and Hessian in theta from the derivatives of each pair."""
    value, f_p, f_q, f_pp, f_pq, f_qq = parts
    g = np.bincount(w, f_p, n) + np.bincount(l, f_q, n)
    cross = np.bincount(w * n + l, f_pq, n * n).reshape(n, n)
    H = np.diag(np.bincount(w, f_pp, n) + np.bincount(l, f_qq, n)) + cross + cross.T
    p, total = np.exp(log_p), np.sum(g)
    A = np.eye(n) - p
    return value, g - p * total, A.T @ H @ A - total * (np.diag(p) - np.outer(p, p))


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
