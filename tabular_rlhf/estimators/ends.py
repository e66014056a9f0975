r"""Where a flag leads: its closed-form optimum where that is at rest, else the end of its flow from the reference, proved.

**Ends here** is said of a place where the policy's velocity is 0 to rounding, no vanished token would grow again and no small
departure grows (`rest`), and to which the flow has come: it is within NEAR of that place, and nearer than at the look before.
Between two looks time doubles and more, because tokens vanish as 1/t.  Where no such place is found, the flow **still moves**.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tabular_rlhf.errors import SolveError
from tabular_rlhf.estimators.claims import honest
from tabular_rlhf.estimators.flows import CORNER, field, steps_of
from tabular_rlhf.estimators.record import Flag
from tabular_rlhf.estimators.rest import Ascent
from tabular_rlhf.estimators.theorem import FlagOptimum
from tabular_rlhf.logspace import Array
from tabular_rlhf.world import World

FOLLOWED = 32
"""Responses (over all prompts) up to which a flag without a closed form is followed."""
LOOKS = np.concatenate([[0.0], np.geomspace(1e-2, 1e12, 43)])
"""Times at which the flow is looked at, in units of 1/max(1, beta, greatest difference of rewards)."""
EVALUATIONS = 20_000
"""Of the field, at most."""
EARLY = 9
"""The first look at which a flow may have settled; it may also be at rest from the start."""
SETTLED, NEAR, SAME = 2e-3, 1e-3, 1e-9
"""Differences of probabilities: of two looks, before a place of rest is sought; from there to that place; within its rounding."""
FALLING = 0.1
"""A token vanishes if its log-probability falls by more than this as time grows by a factor e."""


@dataclass(frozen=True, eq=False)
class End:
    """Where a flag leads.

    words; log_p (P, N), the law there: None where it is not followed, and where the flow has got to if it still moves; rests,
    whether that is a place of rest; remark, what is known of a flow that is not at rest.
    """

    words: str
    log_p: Array | None
    rests: bool
    remark: str = ""


def end(flag: Flag, world: World, optimum: FlagOptimum | None) -> End:
    """The end of a flag with the given closed-form optimum (None: it is followed).

    >>> from tabular_rlhf.world import rational
    >>> found = end(Flag("k2", "ratio"), rational(), None); print(found.words, np.exp(found.log_p).round(4).tolist())
    its flow ends here [[0.0, 0.73, 0.27]]
    """
    if optimum is not None:
        return End(optimum.name, optimum.log_p, True)
    if world.responses > FOLLOWED:
        return End("none in closed form", None, False, f"more than {FOLLOWED} responses to follow")
    try:
        return follow(flag, world)
    except SolveError as error:
        return End("its flow cannot be followed", None, False, str(error))


def follow(flag: Flag, world: World) -> End:
    """The flow from the reference, until it is seen to end, or for as long as is looked.  Raises SolveError.

    >>> from tabular_rlhf.world import coin
    >>> np.exp(follow(Flag("k2", "loss"), coin()).log_p).round(6).tolist()  # p*(heads) = sigma(1/beta)
    [[0.268941, 0.731059]]
    """
    flag, time = honest(flag), LOOKS / max(1.0, world.beta, float(np.ptp(world.r)))
    ascent, seen = Ascent(flag, world, CORNER), list[tuple[float, Array]]()
    place: Array | None = None
    far = np.inf
    for t, log_pi in steps_of(flag, world, time, rtol=1e-6, evaluations=EVALUATIONS):  # the place itself is found by Newton's method
        law = world.mdp.path_sum(log_pi)
        if place is not None and _apart(world, place, law) < far:
            return _at(world, place)
        if t == 0 and ascent.still(ascent.balance(log_pi, np.isneginf(log_pi))):
            return _at(world, law)
        settles = t >= time[EARLY] and _apart(world, seen[-1][1], law) <= SETTLED
        seen.append((t, law))
        found = arrival(ascent, log_pi, t) if settles else None
        place = None if found is None else world.mdp.path_sum(found)
        far = np.inf if place is None else _apart(world, place, law)
        if place is not None and far <= SAME:
            return _at(world, place)
        place = place if far <= NEAR else None
    return _moving(world, seen)


def _apart(world: World, log_p: Array, log_q: Array) -> float:
    return float(np.max(np.abs(np.exp(log_p) - np.exp(log_q))[world.mu > 0]))


def arrival(ascent: Ascent, log_pi: Array, t: float) -> Array | None:
    """The place of rest that a flow nears at time t, log pi (P, S, V) with -inf for what vanishes; None where there is none."""
    world = ascent.world
    rate = field(ascent.flag, world, log_pi, width=ascent.width)
    rate = t * (rate - np.sum(np.exp(log_pi) * rate, axis=-1, keepdims=True))
    gone = ~np.isneginf(world.log_ref) & (log_pi < -3.0) & (rate < -FALLING)
    back = gone
    while back.any():  # what would grow again has not vanished
        back = ascent.called(ascent.balance(np.where(gone, -np.inf, log_pi), gone))
        gone = gone & ~back
    found = ascent.polish(log_pi, gone)
    return None if found is None or found[1] > 1e-6 else found[0]


def _at(world: World, log_p: Array) -> End:
    vertex = np.max(log_p[world.mu > 0], axis=1) > -1e-12
    return End("its flow goes to a vertex" if vertex.all() else "its flow ends here", log_p, True)


def _moving(world: World, seen: list[tuple[float, Array]]) -> End:
    """The response that has moved most since time was a tenth."""
    t, log_p = seen[-1]
    before = next(log_q for s, log_q in reversed(seen) if s <= 0.1 * t)
    change = np.where(world.mu[:, None] > 0, np.abs(np.exp(log_p) - np.exp(before)), 0.0)
    x, tau = np.unravel_index(np.argmax(change), change.shape)
    moved = f"p({world.mdp.text(int(tau), int(x))}) from {np.exp(before[x, tau]):.6g} to {np.exp(log_p[x, tau]):.6g}"
    if change.max() < SAME:
        moved = "nothing by as much as 1e-9, but what has vanished would grow again"
    return End("its flow still moves", log_p, False, f"still moving after time {t:.2g}: {moved} since time {0.1 * t:.2g}")
