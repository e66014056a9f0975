r"""Worlds that are not listed: sweeps over merged states, beside jax and torch on the same lattice.  As in `workloads`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np

from tabular_rlhf.bench import peers_lattice
from tabular_rlhf.bench.peers import Runner, at_once
from tabular_rlhf.bench.peers_lattice import Letters
from tabular_rlhf.bench.workloads import Bar, Ours, Workload, _error, nobody, workload
from tabular_rlhf.estimators.record import ESTIMATORS
from tabular_rlhf.lattice import Reference, solve
from tabular_rlhf.lattice.flow import expected_counts
from tabular_rlhf.lattice.law import group_advantage, reward_law
from tabular_rlhf.lattice.pairs import pair_softplus
from tabular_rlhf.path import expect, variance
from tabular_rlhf.reports.lattice_solution import of_ratio

STANDARD = (Letters(),)
GROWING = (Letters(H=100), Letters(), Letters(H=400), Letters(V=14))
"""Twice the horizon is twice the work; fewer tokens are fewer states and fewer edges."""
LONG = (Letters(H=20_000),)
QUICK = (Letters(V=5, H=20),)


WORKLOADS: list[Workload] = []
enter = partial(workload, WORKLOADS)


def within(name: str, seconds: float, cases: tuple[Letters, ...] = STANDARD, what: str = "") -> Callable[[Ours], Ours]:
    """Enter what nobody else computes, and how many seconds it may take."""
    return enter(name, {}, nobody, Bar(seconds, "one second"), what=what, cases=cases, quick=QUICK)


def counts_disagreement(case: Letters, ours: Any, theirs: Any) -> float:
    """The gradient in weights of the linear formulation is in log weights here: all answer the same question."""
    log_Z, counts = theirs
    scale = max(1.0, abs(ours[0]))
    return max(abs(ours[0] - float(log_Z)) / (1e-11 * scale), _error(ours[1], np.asarray(counts)))


def reward_disagreement(case: Letters, ours: Any, theirs: Any) -> float:
    return max(abs(a - float(b)) / (1e-11 * max(1.0, abs(a))) for a, b in zip(ours, theirs, strict=True))


@enter("lattice-counts", peers_lattice.COUNTS, counts_disagreement, Bar(1.0, "fastest peer"), cases=STANDARD, quick=QUICK)
@at_once
def our_counts(case: Letters) -> Any:
    """log Z of 10^286 responses and the expected uses of every edge"""
    g = solve(case.world)
    return float(g.log_Z[0]), expected_counts(g)[0]


@enter("lattice-reward", peers_lattice.REWARD, reward_disagreement, Bar(0.5, "jax_reward"), cases=STANDARD, quick=QUICK)
@at_once
def our_reward(case: Letters) -> Any:
    """log Z and E r under the optimum"""
    g = solve(case.world)
    return float(g.log_Z[0]), expect(lambda y: y.r, g)


@within("lattice-solve", 0.3)
@at_once
def our_solution(case: Letters) -> Any:
    """log Z, E r, KL and visits"""
    g = solve(case.world)
    return float(g.log_Z[0]), expect(lambda y: y.r, g), expect(lambda y: y.L, g), expected_counts(g)


growth = "the same: cost is linear in H and in edges a level"
enter("lattice-growth", {}, nobody, what=growth, cases=GROWING, quick=QUICK)(our_solution)
within("lattice-long", 20.0, LONG, "log Z, E r, KL and visits of 10^28,600 responses")(our_solution)


@within("lattice-noise", 1.5)
@at_once
def our_estimators(case: Letters) -> Any:
    """exact variances of k1, k2 and k3"""
    g = solve(case.world)
    return [variance(of_ratio(ESTIMATORS[k].h), g) for k in ("k1", "k2", "k3")]


@within("lattice-law", 3.0, (Letters(H=100), Letters()))
@at_once
def our_law(case: Letters) -> Any:
    """the law of the reward"""
    return reward_law(solve(case.world))


@within("lattice-groups", 6.0)
@at_once
def our_groups(case: Letters) -> Any:
    """GRPO in groups of 8 over all values of the reward"""
    law = reward_law(Reference(case.world))
    there = law.p[0] > 0
    return group_advantage(law.r[there], law.p[0][there], 8)


@within("lattice-pairs", 6.0)
def our_pairs(case: Letters) -> Runner:
    """DPO's label-free loss over all pairs"""

    @cache
    def implicit() -> dict[int, Any]:
        """The implicit reward of a policy: that of the optimum half way, on every level."""
        g, levels = solve(case.world), case.world.levels
        return {id(levels[h]): case.beta * g.ratio(h) for h in (case.H // 2, case.H - 1)}

    return lambda: pair_softplus(Reference(case.world), lambda h: implicit()[id(case.world.levels[h])])
