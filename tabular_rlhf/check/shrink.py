"""The smallest counterexample: a world and every number in it are drawn, and then made as simple as the failure allows.

Every number is a *choice*: a place in a list of values whose first is the simplest.  The search draws choices until the answer fails, on
the smallest shape first, and lowers them one after another as long as it still fails.  A `DrawnScope` hands each symbol that is drawn a
generator of choices, so that policies, counts and potentials shrink with the world: half-integers to 0, sizes to 1, beta to 1.

What limits the search is a number of worlds, so that the same answer gets the same counterexample on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from tabular_rlhf.logspace import log_of
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.symbols import SYMBOLS, Scope
from tabular_rlhf.world import World

Shape = tuple[int, int, int, bool]
SHAPES: tuple[Shape, ...] = (
    (1, 1, 1, False),
    (2, 1, 1, False),
    (1, 1, 2, False),
    (3, 1, 1, False),
    (2, 2, 1, True),
    (2, 1, 2, False),
    (2, 2, 1, False),
)
"""Vocabulary, horizon, prompts, EOS: fewest responses first."""
BETAS = (1.0, 2.0, 0.5, 0.25, 64.0, 1 / 64)
REWARDS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5, 1.5, -1.5)
DRAWS = 16
"""Worlds that are drawn of each shape."""
WORLDS = 300
"""Worlds that one search may try in all."""
Place = tuple[str, int]
"""What a choice is for: a name, and which of its numbers."""


@dataclass
class Choices:
    """Choices by place: those that are known, the others drawn.  made: all that were asked for, in order."""

    known: dict[Place, int]
    rng: np.random.Generator
    made: dict[Place, int] = field(default_factory=dict)

    def one(self, place: Place, values: Sequence[Any]) -> Any:
        """The value chosen for a place."""
        known = self.known.get(place)
        self.made[place] = int(self.rng.integers(len(values))) if known is None else min(known, len(values) - 1)
        return values[self.made[place]]

    def several(self, name: str, count: int, values: Sequence[Any]) -> list[Any]:
        """The values chosen for the numbers of one name."""
        return [self.one((name, k), values) for k in range(count)]


class Stream:
    """What a symbol asks of a random generator, answered by choices."""

    def __init__(self, choices: Choices, name: str) -> None:
        self.choices, self.name, self.asked = choices, name, 0

    def integers(self, low: int, high: int | None = None, size: Any = None) -> Any:
        """Whole numbers from low to high - 1, those nearest to 0 first."""
        low, high = (0, low) if high is None else (low, high)
        return self._shaped(sorted(range(int(low), int(high)), key=lambda v: (abs(v), v < 0)), size)

    def random(self, size: Any = None) -> Any:
        """Sixteenths from 0 to 15/16."""
        return self._shaped([k / 16.0 for k in range(16)], size)

    def _shaped(self, values: Sequence[Any], size: Any) -> Any:
        start, count = self.asked, 1 if size is None else int(np.prod(size))
        self.asked += count
        numbers = [self.choices.one((self.name, start + k), values) for k in range(count)]
        return numbers[0] if size is None else np.array(numbers).reshape(size)


class DrawnScope(Scope):
    """A scope whose drawn symbols are choices while it is searched, and are kept afterwards."""

    def __init__(self, world: World, choices: Choices | None) -> None:
        super().__init__(world, seed=0)
        self.choices = choices

    def stream(self, name: str) -> Any:
        return super().stream(name) if self.choices is None else Stream(self.choices, name)

    def _like(self, world: World) -> Scope:
        other = DrawnScope(world, None)
        other._known.update({n: v for n, v in self._known.items() if n in SYMBOLS and SYMBOLS[n].drawn})
        return other


def chosen_world(choices: Choices, shape: Shape, *, gaps: bool) -> World:
    """A world of a shape with small numbers; with gaps, one whose reference forbids some tokens."""
    V, H, P, eos = shape
    mu = odds(choices, "mu", (P,), zeros=choices.one(("mu is zero somewhere", 0), (False, True))) if P > 1 else np.ones(1)
    mdp = TokenMDP(V, H, eos=V - 1 if eos else None, prompts=[f"x{i}" for i in range(P)], mu=mu)
    beta = choices.one(("beta", 0), BETAS)
    r = np.array(choices.several("r", P * mdp.N, REWARDS)).reshape(P, mdp.N)
    return World(mdp, log_of(odds(choices, "reference", (P, mdp.S, V), zeros=gaps)), r, beta, name="smallest")


def odds(choices: Choices, name: str, shape: tuple[int, ...], *, zeros: bool) -> Any:
    """Distributions along the last axis made of small whole weights; with zeros, some of them are 0, but never all."""
    count = int(np.prod(shape))
    weights = np.array(choices.several(name, count, range(1, 5)), dtype=float).reshape(shape)
    if zeros:
        none = np.array(choices.several(f"{name} is zero", count, (False, True))).reshape(shape)
        weights = np.where(none & ~np.all(none, axis=-1, keepdims=True), 0.0, weights)
    return weights / np.sum(weights, axis=-1, keepdims=True)


@cache
def responses(shape: Shape) -> int:
    """Responses of a shape, over all prompts."""
    V, H, P, eos = shape
    return P * TokenMDP(V, H, eos=V - 1 if eos else None).N


class Search:
    """The worlds on which an answer fails.  gaps: of references that forbid tokens.  left: how many may still be tried."""

    def __init__(self, fails: Callable[[Scope], bool], gaps: bool, left: int) -> None:
        self.fails, self.gaps, self.left = fails, gaps, left

    def failing(self, shape: Shape, known: dict[Place, int], seed: int) -> tuple[Scope, dict[Place, int]] | None:
        """The world of some choices with what was chosen, if the answer fails there."""
        if not self.left:
            return None
        self.left -= 1
        choices = Choices(known, np.random.default_rng([seed, 11]))
        scope = DrawnScope(chosen_world(choices, shape, gaps=self.gaps), choices)
        if not self.fails(scope):
            return None
        scope.choices = None
        return scope, choices.made

    def lowered(self, shape: Shape, found: tuple[Scope, dict[Place, int]]) -> Scope:
        """The same failure with simpler choices: all of one name at once first, then one after another, until none can be lowered."""
        scope, made = found
        before: dict[Place, int] = {}
        while before != made:
            before = made
            for name in dict.fromkeys(name for name, _ in before):
                zero = {place: 0 if place[0] == name else c for place, c in made.items()}
                scope, made = (zero != made and self.failing(shape, zero, 0)) or (scope, made)
            for place in before:
                for lower in range(made.get(place, 0)):
                    simpler = self.failing(shape, {**made, place: lower}, 0)
                    if simpler is not None:
                        scope, made = simpler
                        break
        return scope


def smallest(fails: Callable[[Scope], bool], most: int, *, gaps: bool = False) -> Scope | None:
    """The simplest world of at most `most` responses on which the answer fails, or None where the search found none.

    gaps: look among worlds whose reference forbids tokens.
    """
    search = Search(fails, gaps, WORLDS)
    for shape in (s for s in SHAPES if responses(s) <= most and (s[0] > 1 or not gaps)):
        for seed in range(DRAWS):
            found = search.failing(shape, {}, seed)
            if found is not None:
                return search.lowered(shape, found)
    return None
