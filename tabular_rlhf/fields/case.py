r"""Where a field is measured: the policy and world that are asked about, policies near them, and worlds of the same kind.

On one world too much agrees by accident: on `rational` r/L is r/2, and three responses have room for two objectives only.  So a world of
few responses is joined by others with its tree, its ties and its range of rewards, but other references and other values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from tabular_rlhf.behavior import Behavior
from tabular_rlhf.logspace import Array, log_softmax
from tabular_rlhf.world import World

SPREAD = 0.7
"""How far apart the policies lie, in nats of logit."""
NEAR, ALIKE = 2, 3
"""Policies near the one that is asked about, and other worlds."""
FEW = 64
"""Responses, over all prompts, up to which other worlds are asked too."""


@dataclass(frozen=True, eq=False)
class Case:
    """One place: a world whose reward is the one that is ascended; logits (P, S, V) of the live policy; log_old (P, S, V), the policy of
    the ratios, None where that is the live one; behavior, how the sampler comes from it."""

    world: World
    logits: Array
    log_old: Array | None = None
    behavior: Behavior = field(default_factory=Behavior)

    @property
    def log_held(self) -> Array | None:
        """The sampler's, where it stays as it is when the live policy moves; None where it follows."""
        return None if self.log_old is None and self.behavior.log_pi is None else self.log_sampler

    @property
    def log_sampler(self) -> Array | None:
        """log pi of the sampler, (P, S, V); None where that is the live policy."""
        if self.log_old is None and self.behavior.plain:
            return None
        return self.behavior.of(np.asarray(log_softmax(self.logits)) if self.log_old is None else self.log_old)


Field = Callable[[Case], Array]
"""A case -> the expected update there, (P, S, V)."""


def cases(world: World, logits: Array, log_old: Array | None = None, behavior: Behavior | None = None) -> list[Case]:
    """The case asked about, first, and those that join it: the same each time.

    >>> from tabular_rlhf.world import coin
    >>> [round(float(case.world.r.max()), 3) for case in cases(coin(), coin().log_ref)]  # rewards of 0 and 1 stay so
    [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    """
    rng = np.random.default_rng(1)
    asked = Case(world, np.asarray(logits, dtype=np.float64), log_old, behavior or Behavior())
    near = [replace(asked, logits=_moved(asked.logits, rng)) for _ in range(NEAR)]
    alike = [_alike(asked, rng) for _ in range(ALIKE)] if world.r.size <= FEW else []
    return [asked, *near, *alike]


def _moved(logits: Array, rng: np.random.Generator) -> Array:
    """Logits nearby; what is forbidden stays so."""
    return np.asarray(logits + SPREAD * rng.standard_normal(logits.shape))


def _alike(case: Case, rng: np.random.Generator) -> Case:
    world = case.world
    levels, place = np.unique(world.r, return_inverse=True)
    if not set(levels.tolist()) <= {0.0, 1.0}:
        levels = rng.uniform(levels[0], levels[-1], len(levels)) if len(levels) > 1 else levels
    r = rng.permuted(levels[np.reshape(place, world.r.shape)], axis=1)
    other = replace(world, log_ref=log_softmax(_moved(world.log_ref, rng)), r=r)
    old = None if case.log_old is None else log_softmax(_moved(case.log_old, rng))
    return Case(other, _moved(case.logits, rng), old, case.behavior)
