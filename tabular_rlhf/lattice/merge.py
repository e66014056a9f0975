r"""The smallest lattice of a world: rewards pushed towards the root, then equal states merged, from the last level to the first.

**Symbols.**  phi(s) = max over possible ways to go on of the reward still to come.  Pushing moves it forward: the edge (s, a) earns
r + phi(s') - phi(s), so that sums along paths stay what they are, and states that differ in what was earned before look alike.

**Theorem.**  After pushing, two states of one depth have the same laws of everything to come exactly if their rows of pi_ref, their pushed
rewards, and the classes of their children agree: merging those, level by level, gives the fewest states.

Numbers within a few roundings of each other are one (`STEPS`).  That no reward is lost is not taken for granted: every edge of the merged
lattice is held against the edges that it stands for.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.errors import InputError
from tabular_rlhf.lattice.world import LatticeWorld, Level, as_lattice
from tabular_rlhf.logspace import Array
from tabular_rlhf.mdp import Indices
from tabular_rlhf.world import World

STEPS = 64.0 * float(np.finfo(float).eps)
"""Numbers nearer than this share of the largest are equal, up to the rounding of the sums that made them."""
NEAR = 1e-12
"""What merging may move a log-probability or a reward by, as a share of the largest."""


def merge(world: World | LatticeWorld) -> LatticeWorld:
    """The smallest lattice that has the same responses, probabilities and rewards.

    Raises: InputError where numbers lie so densely that merging equal ones would change others.

    >>> from tabular_rlhf.world import long_tail
    >>> merge(long_tail()).states, long_tail().mdp.S
    (16, 16)
    """
    lattice = as_lattice(world)
    scale = max(float(np.max(np.abs(level.r), initial=0.0)) for level in lattice.levels)
    levels: list[Level] = []
    classes, phi, after = np.zeros(1, dtype=np.intp), np.zeros(1), 0
    for h in reversed(range(lattice.H)):
        level = lattice.levels[h]
        child = classes[level.child]
        r = level.r + level.pull(phi)
        if level.forbidden is not None:
            child, r = np.where(level.forbidden, after, child), np.where(level.forbidden, -np.inf, r)
        top = np.max(r, axis=0) if h > 0 else np.zeros(level.n)  # the roots keep what was pushed to them
        r = r - top
        if level.forbidden is not None:
            r[level.forbidden] = 0.0
        label, first = classes_of(np.concatenate([grid(level.log_ref, 1.0), grid(r, max(scale, STEPS)), child]))
        _refuse_loss(level, label, first, level.log_ref, 1.0)
        _refuse_loss(level, label, first, r, scale)
        levels.append(_shared(Level(child[:, first], level.log_ref[:, first], r[:, first], after), levels))
        after = len(first)
        classes, phi = np.append(label, after), np.append(top, 0.0)
    levels.reverse()
    return LatticeWorld(lattice.language, levels, classes[lattice.roots], lattice.beta, lattice.name)


def grid(x: Array, scale: float) -> Indices:
    """Whole numbers that are equal where values agree to a few roundings: sorted, a gap begins a new one."""
    flat = np.ravel(x)
    order = np.argsort(flat)
    rising = flat[order]
    with np.errstate(invalid="ignore"):  # -inf less -inf
        gap = np.diff(rising) > STEPS * np.maximum(scale, np.abs(rising[1:]))
    number = np.empty(flat.size, dtype=np.intp)
    number[order] = np.concatenate([[0], np.cumsum(gap)]) if flat.size else 0
    return number.reshape(x.shape)


def classes_of(keys: Indices) -> tuple[Indices, Indices]:
    """Columns that are equal: the class of every column, in order of first appearance, and the first of each class."""
    columns = np.ascontiguousarray(keys.T)
    flat = columns.view(np.dtype((np.void, columns.dtype.itemsize * columns.shape[1])))[:, 0]
    _, first, label = np.unique(flat, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.intp)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[label], np.sort(first)


def _refuse_loss(level: Level, label: Indices, first: Indices, x: Array, scale: float) -> None:
    """Refuse classes whose members differ by more than rounding."""
    merged = x[:, first[label]]
    with np.errstate(invalid="ignore"):
        lost = np.max(np.where(x == merged, 0.0, np.abs(x - merged)), initial=0.0)
    if lost > NEAR * max(scale, 1e-300):
        got = f"values that differ by {lost:.3g} in one class of {level.n:,} states"
        raise InputError(
            "merging must lose no reward and no probability", got=got, remedy="keep the world unmerged: its numbers lie too densely"
        )


def _shared(level: Level, others: list[Level]) -> Level:
    """The level after it, if it is the same: one object for a stretch of equal levels."""
    if others and others[-1].after == level.after:
        last = others[-1]
        if all(a.shape == b.shape and np.array_equal(a, b) for a, b in zip(_arrays(last), _arrays(level), strict=True)):
            return last
    return level


def _arrays(level: Level) -> tuple[Any, ...]:
    return level.child, level.log_ref, level.r
