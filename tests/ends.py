"""What the tests of derivations share: worlds, the ends of a derivation held against plain enumeration and against the ledger."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tabular_rlhf.derivations import DERIVATIONS
from tabular_rlhf.ledger.record import LEDGER
from tabular_rlhf.symbols import Scope
from tabular_rlhf.world import coin, fork, random_world, rational
from tests import oracle
from tests.laws import Told, assert_close, tell, tell_policy

SCOPES = [
    Scope(coin(0.5), 1),
    Scope(fork(2.0), 2),
    Scope(rational(), 3),
    Scope(random_world(rng=np.random.default_rng(5), V=3, H=2, P=2, beta=0.7, concentration=5.0), 4),
    Scope(random_world(rng=np.random.default_rng(6), V=2, H=3, P=2, beta=1.5, concentration=5.0), 5),
]
EXACT = 1e-10
"""Of sums of some ten terms of size up to 100: far above rounding, far below any mistake."""
STEP = 1e-4
DIFFERENCE = 1e-5
"""What a central difference of step 1e-4 leaves: its square times a third derivative of at most a few hundred, and rounding / step."""


def line(slug: str, k: int, scope: Scope) -> Any:
    """The value of a line (k from 1; -1 is the last)."""
    lines = DERIVATIONS[slug].lines
    return np.asarray(lines[k - 1 if k > 0 else k](scope))


def prompts(scope: Scope) -> list[Told]:
    return [tell(scope.world, x) for x in range(scope.world.mdp.P)]


def told_law(scope: Scope, x: int, log_pi: str) -> dict[oracle.Prefix, float]:
    """The law of a policy for one prompt, in the oracle's words."""
    return oracle.law_of(tell_policy(scope.world.mdp, scope[log_pi], x), prompts(scope)[x].order)


def table(scope: Scope, name: str, x: int) -> dict[oracle.Prefix, float]:
    """A table of responses for one prompt, in the oracle's words."""
    return {s: float(v) for s, v in zip(prompts(scope)[x].order, scope[name][x], strict=True)}


def rows(scope: Scope, of_prompt: Callable[[int, Told], dict[oracle.Prefix, Any]]) -> Any:
    """One number for every response, from a table for each prompt."""
    return np.array([[of_prompt(x, told)[s] for s in told.order] for x, told in enumerate(prompts(scope))])


def averaged(scope: Scope, of_prompt: Callable[[int, Told], float]) -> float:
    return math.fsum(float(scope["mu"][x]) * of_prompt(x, told) for x, told in enumerate(prompts(scope)))


def optimum(scope: Scope, x: int, told: Told) -> tuple[float, dict[oracle.Prefix, float]]:
    return oracle.tilt(told.ref, told.r, scope["beta"])


def central(f: Callable[[float], float]) -> float:
    return (f(STEP) - f(-STEP)) / (2 * STEP)


def log_sigma(d: float) -> float:
    return -math.log1p(math.exp(-d)) if d > 0 else d - math.log1p(math.exp(d))


def sigma(d: float) -> float:
    return math.exp(log_sigma(d))


def p_star(scope: Scope) -> Any:
    return rows(scope, lambda x, told: optimum(scope, x, told)[1])


Ends = Mapping[int, tuple[Callable[[Scope], Any], float]]


def check_ends(slug: str, ends: Ends) -> None:
    """Lines, by number from 1 (or -1, the last), against what they must be and the relative error that this is known to."""
    for scope in SCOPES:
        assert DERIVATIONS[slug].applies(scope)
        for k, (truth, tol) in ends.items():
            want = np.asarray(truth(scope), dtype=float)
            got = line(slug, k, scope)
            assert_close(got, want, tol * max(1.0, float(np.max(np.abs(want)))), f"{slug}, line {k}, {scope.world.name}")


def check_parts(slug: str, parts: Mapping[int, tuple[str, int]]) -> None:
    """Lines against the parts of rows of the ledger."""
    for scope in SCOPES:
        for k, (row, part) in parts.items():
            want = LEDGER[row].truth(scope)[0][part]
            assert_close(line(slug, k, scope), want, EXACT * max(1.0, float(np.max(np.abs(want)))), f"{slug}, line {k}")
