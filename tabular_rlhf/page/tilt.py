r"""The first table of the page: beta and two rewards tilt p_ref, and a policy that remembers nothing projects the result.

**The world.**  Say "knock", or stop; at most two words.  Three responses: silence, one knock, two knocks.  The reference knocks
with probability 0.7 each time, so p_ref = 0.3, 0.21, 0.49.  Silence earns 0 (only differences of reward matter); the reader
chooses beta and what one knock and two knocks earn.

**The class.**  A policy that does not remember whether it has knocked has one probability k of knocking: silence 1 - k, one
knock k(1 - k), two knocks k^2.  It can hold p_ref, and no p* that likes silence and two knocks but not one.  The forward
projection covers both; the reverse has then two local minima, one at each.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from tabular_rlhf.gibbs import Gibbs, log_gibbs, regret, solve
from tabular_rlhf.logspace import Array
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.page.numbers import fixed, says, short
from tabular_rlhf.policy import NGram
from tabular_rlhf.projection import forward_projection, local_minima, mixed, reverse_kl
from tabular_rlhf.world import World

BETAS = (0.25, 0.375, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
"""Reward units per nat, about half an octave apart; many share their ratios r/beta, so their projections are the same."""
REWARDS = tuple(float(r) for r in np.linspace(-2.0, 2.0, 9))
START = (2, 4, 0)
"""Where the controls stand at first: beta 1/2, two knocks earn 0 as silence does, one knock -2: two modes."""
NAMES = {".": "silence", "knock .": "one knock", "knock knock": "two knocks"}
ORDER = (0, 2, 1)
"""Silence, one knock, two: the library lists responses as it enumerates them."""


@cache
def knock() -> TokenMDP:
    """The token MDP of the page."""
    return TokenMDP(("knock", "."), horizon=2, eos=".")


def world(beta: float, two: float, one: float) -> World:
    """The world at a position of the controls.

    >>> w = world(0.5, 0.0, -2.0); [w.mdp.text(i) for i in ORDER], np.exp(w.log_p_ref[0, list(ORDER)]).round(4).tolist()
    (['.', 'knock .', 'knock knock'], [0.3, 0.21, 0.49])
    """
    mdp, r = knock(), {".": 0.0, "knock .": one, "knock knock": two}
    log_ref = np.broadcast_to(np.log([0.7, 0.3]), (1, mdp.S, mdp.V))
    return World(mdp, log_ref, np.array([[r[mdp.text(i)] for i in range(mdp.N)]]), beta, name="knock")


def compute(betas: Sequence[float] = BETAS, rewards: Sequence[float] = REWARDS) -> dict[str, Any]:
    """Everything shown, for every position (beta, two knocks, one knock); the Gibbs arc for every pair of rewards."""
    first = world(1.0, 0.0, 0.0)
    projected: dict[tuple[float, float], dict[str, Any]] = {}

    def cell(beta: float, two: float, one: float) -> dict[str, Any]:
        g = solve(world(beta, two, one))
        ratios = (two / beta, one / beta)  # all that p* depends on
        if ratios not in projected:
            projected[ratios] = projections(g)
        return {**optimum(g), **projected[ratios]}

    return {
        "beta": [short(b) for b in betas],
        "reward": [short(r) for r in rewards],
        "start": list(START),
        "names": [NAMES[first.mdp.text(i)] for i in ORDER],
        "p_ref": shown(np.exp(first.log_p_ref)),
        "class": [shown(row, 3) for row in memoryless(np.linspace(0.0, 1.0, 41))],
        "arcs": [[arc(world(1.0, two, one)) for one in rewards] for two in rewards],
        "cells": [[[cell(b, two, one) for one in rewards] for two in rewards] for b in betas],
    }


def shown(table: Array, digits: int = 4) -> list[str]:
    """A table over responses in the page's order, printed."""
    return says(np.ravel(table)[list(ORDER)], digits)


def optimum(g: Gibbs) -> dict[str, Any]:
    """The tilt of one position: weights exp(r/beta), p*, log p*/p_ref (nats), Z, V, E[r], KL, and what p_ref gives away."""
    w = g.world
    return {
        "weight": shown(np.exp(w.r / w.beta)),
        "p": shown(g.p),
        "gain": shown(g.log_weight),
        "Z": fixed(float(np.exp(g.log_Z[0]))),
        "V": fixed(g.value),
        "reward": fixed(float(g.expected_reward[0])),
        "kl": fixed(float(g.kl[0])),
        "regret": fixed(float(regret(w.log_p_ref, w))),
    }


def projections(g: Gibbs) -> dict[str, Any]:
    """Both projections of p* onto the policies without memory: the probability of a knock, the law, the divergence in nats."""
    mdp = g.world.mdp
    tied = NGram(mdp, 0)

    def law(theta: Any) -> Any:
        return mdp.path_sum(tied.log_pi(theta))

    def point(theta: Array, value: float) -> dict[str, Any]:
        k = float(np.exp(tied.log_pi(theta)[0, 0, 0]))
        return {"knock": fixed(k), "p": shown(np.exp(law(theta))), "kl": fixed(value)}

    ends = [np.array([[2.0, -2.0]]), np.array([[-2.0, 2.0]])]  # the class is a curve: both its ends find whatever minima it has

    def distance(theta: Any) -> Any:
        return reverse_kl(mdp, g.log_p, law(theta))

    minima = local_minima(distance, ends, lambda theta: np.exp(law(theta)), lambda m: mixed(distance, m, True))
    covers = forward_projection(tied, g.log_p)
    return {"forward": point(covers.theta, covers.value), "reverse": [point(m.x, m.fun) for m, _ in minima]}


def memoryless(k: Array) -> list[Array]:
    """The laws of policies that knock with probability k, whatever came before.

    >>> [row.round(2).tolist() for row in memoryless(np.array([0.5]))]  # as the library orders them: silence, two, one
    [[0.5, 0.25, 0.25]]
    """
    mdp = knock()
    tied = NGram(mdp, 0)
    inside = np.clip(k, 1e-12, 1.0 - 1e-12)
    return [np.exp(mdp.path_sum(tied.log_pi(np.log([[q, 1.0 - q]]))))[0] for q in inside]


def arc(w: World) -> list[list[str]]:
    """The Gibbs optima of all beta from infinity down to the smallest of the control, evenly spaced in 1/beta."""
    return [shown(np.exp(log_gibbs(w.log_p_ref, s * w.r, 1.0)), 3) for s in np.linspace(0.0, 1.0 / min(BETAS), 33)]
