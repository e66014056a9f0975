"""Finite data whose comparison graph falls apart: chains of compared responses, and some that were never compared."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy import special

from tabular_rlhf.logspace import Array
from tabular_rlhf.preferences.laws import Pairs
from tabular_rlhf.world import World


def finite_data(world: World) -> Pairs:
    """Some comparisons: in every prompt the likeliest responses alternate between two groups; neighbors within a group are
    compared, each wins some.  What is in no group of two is never compared."""
    rows = []
    for x in range(world.mdp.P):
        live = np.flatnonzero(~np.isneginf(world.log_p_ref[x]))
        groups = (live[: 2 * (len(live) // 3) : 2], live[1 : 2 * (len(live) // 3) : 2]) if len(live) > 3 else (live[:2],)
        for group in groups:
            for i, j in pairwise(group):
                wins = float(special.expit((world.r[x, i] - world.r[x, j]) / 2.0))
                rows += [(x, i, j, wins), (x, j, i, 1.0 - wins)]
    if not rows:
        itself = np.array([np.argmax(world.log_p_ref[0])])  # a response beside itself: a comparison that says nothing
        return Pairs(np.zeros(1, dtype=int), itself, itself, np.ones(1), 0)
    table = np.array(rows)
    prompts, w, l = table[:, :3].astype(np.intp).T
    return Pairs(prompts, w, l, table[:, 3] / np.sum(table[:, 3]), len(rows))


def components(world: World) -> Array:
    """The component of every possible response in the comparison graph of its prompt, (P, N); -1 for impossible ones."""
    label = np.where(np.isneginf(world.log_p_ref), -1, np.arange(world.mdp.N))
    data = finite_data(world)
    for _ in range(world.mdp.N):
        for x, w, l in zip(*np.broadcast_arrays(data.x, data.w, data.l), strict=True):
            label[x, w] = label[x, l] = min(label[x, w], label[x, l])
    return label
