"""The smallest counterexample: Hypothesis draws the world and every number in it, and makes them as simple as they can be.

A `DrawnScope` hands each symbol that is drawn a generator whose numbers come from Hypothesis, so that policies, counts and
potentials shrink with the world: half-integers to 0, sizes to 1, beta to 1.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tabular_rlhf.ledger.symbols import Scope
from tabular_rlhf.logspace import log_of
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.world import World

SHAPES = ((1, 1, 1, False), (2, 1, 1, False), (1, 1, 2, False), (3, 1, 1, False), (2, 2, 1, True), (2, 1, 2, False), (2, 2, 1, False))
"""Vocabulary, horizon, prompts, EOS: fewest responses first."""
BETAS = (1.0, 2.0, 0.5, 0.25, 64.0, 1 / 64)
EXAMPLES = 60
CALLS = 400
"""Worlds that the search may try: a count and not a time, so that the same answer gets the same counterexample."""
SECONDS = 5.0
"""Unless the answer is very slow."""


class _Enough(KeyboardInterrupt):
    """That was enough: Hypothesis has no limit on shrinking, and lets nothing but this through."""


class Stream:
    """What symbols ask of a random generator, answered by Hypothesis."""

    def __init__(self, draw: Callable[[Any], Any]) -> None:
        self.draw = draw

    def integers(self, low: int, high: int | None = None, size: Any = None) -> Any:
        """Whole numbers from low to high - 1, as near 0 as the failure allows."""
        from hypothesis import strategies as st

        low, high = (0, low) if high is None else (low, high)
        return self._shaped(st.integers(int(low), int(high) - 1), size)

    def random(self, size: Any = None) -> Any:
        """Sixteenths from 0 to 15/16."""
        from hypothesis import strategies as st

        return self._shaped(st.integers(0, 15).map(lambda k: k / 16.0), size)

    def _shaped(self, one: Any, size: Any) -> Any:
        if size is None:
            return self.draw(one)
        count = int(np.prod(size))
        return np.array([self.draw(one) for _ in range(count)]).reshape(size)


class DrawnScope(Scope):
    """A scope whose drawn symbols come from Hypothesis while it searches, and are kept afterwards."""

    def __init__(self, world: World, draw: Callable[[Any], Any] | None) -> None:
        super().__init__(world, seed=0)
        self.draw = draw

    def stream(self, name: str) -> Any:
        return super().stream(name) if self.draw is None else Stream(self.draw)

    def _like(self, world: World) -> Scope:
        other = DrawnScope(world, None)
        other._known.update({n: v for n, v in self._known.items() if n in self._drawn_names})
        return other

    @property
    def _drawn_names(self) -> set[str]:
        from tabular_rlhf.ledger.symbols import SYMBOLS

        return {n for n in self._known if n in SYMBOLS and SYMBOLS[n].drawn}


def draw_world(draw: Callable[[Any], Any], most: int, *, gaps: bool = False) -> World:
    """A world of at most `most` responses, with small numbers; with gaps, one whose reference forbids some tokens."""
    from hypothesis import strategies as st

    fits = [s for s in SHAPES if s[2] * TokenMDP(s[0], s[1], eos=s[0] - 1 if s[3] else None).N <= most and (s[0] > 1 or not gaps)]
    V, H, P, eos = draw(st.sampled_from(fits))
    odds = _odds(draw, (P,), zeros=draw(st.booleans())) if P > 1 else np.ones(1)
    mdp = TokenMDP(V, H, eos=V - 1 if eos else None, prompts=[f"x{i}" for i in range(P)], mu=odds)
    beta = draw(st.sampled_from(BETAS))
    half = st.integers(-4, 4).map(lambda k: k / 2.0)
    r = np.array([draw(half) for _ in range(P * mdp.N)]).reshape(P, mdp.N)
    return World(mdp, log_of(_odds(draw, (P, mdp.S, V), zeros=gaps)), r, beta, name="smallest")


def _odds(draw: Callable[[Any], Any], shape: tuple[int, ...], *, zeros: bool) -> Any:
    """Distributions along the last axis made of small whole weights; with zeros, some of them are 0, but never all."""
    from hypothesis import strategies as st

    weights = np.array([draw(st.integers(1, 4)) for _ in range(int(np.prod(shape)))], dtype=float).reshape(shape)
    if zeros:
        none = np.array([draw(st.booleans()) for _ in range(weights.size)]).reshape(shape)
        weights = np.where(none & ~np.all(none, axis=-1, keepdims=True), 0.0, weights)
    return weights / np.sum(weights, axis=-1, keepdims=True)


def smallest(fails: Callable[[Scope], bool], most: int, *, gaps: bool = False) -> Scope | None:
    """The simplest world of at most `most` responses on which the answer fails, or None where the search found none.

    gaps: look among worlds whose reference forbids tokens.
    """
    if "HYPOTHESIS_STORAGE_DIRECTORY" not in os.environ:  # it writes a folder where it is imported, if it is not told where
        os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = os.path.join(tempfile.gettempdir(), "hypothesis")
    from hypothesis import HealthCheck, Phase, Verbosity, given, settings
    from hypothesis import strategies as st
    from hypothesis.errors import HypothesisException

    best: list[Scope] = []
    calls, end = 0, time.process_time() + SECONDS

    class Found(Exception):
        pass

    @settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate, Phase.shrink],
        verbosity=Verbosity.quiet,
        report_multiple_bugs=False,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def search(data: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > CALLS or time.process_time() > end:
            raise _Enough
        scope = DrawnScope(draw_world(data.draw, most, gaps=gaps), data.draw)
        if fails(scope):
            scope.draw = None
            best.append(scope)
            raise Found

    # on a busy machine a call may be too slow once and not again, which Hypothesis takes for an error: what was found stands
    with contextlib.suppress(Found, _Enough, HypothesisException):
        search()
    return min(reversed(best), key=lambda s: s.world.mdp.P * s.world.mdp.N) if best else None
