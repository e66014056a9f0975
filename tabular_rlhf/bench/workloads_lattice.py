r"""Worlds that are not listed: sweeps over merged states, beside jax and torch on the same lattice.  As in `workloads`."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from tabular_rlhf.bench import peers_lattice
from tabular_rlhf.bench.peers import Runner
from tabular_rlhf.bench.peers_lattice import Letters
from tabular_rlhf.bench.workloads import Bar, Workload, _error
from tabular_rlhf.bench.workloads_own import nobody
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


def our_counts(case: Letters) -> Runner:
    def run() -> Any:
        g = solve(case.world)
        return float(g.log_Z[0]), expected_counts(g)[0]

    return run


def our_reward(case: Letters) -> Runner:
    def run() -> Any:
        g = solve(case.world)
        return float(g.log_Z[0]), expect(lambda y: y.r, g)

    return run


def our_solution(case: Letters) -> Runner:
    """log Z, E r, KL, and visits."""

    def run() -> Any:
        g = solve(case.world)
        return float(g.log_Z[0]), expect(lambda y: y.r, g), expect(lambda y: y.L, g), expected_counts(g)

    return run


def our_estimators(case: Letters) -> Runner:
    """Variances of k1, k2 and k3 under the optimum."""

    def run() -> Any:
        g = solve(case.world)
        return [variance(of_ratio(ESTIMATORS[k].h), g) for k in ("k1", "k2", "k3")]

    return run


def our_law(case: Letters) -> Runner:
    return lambda: reward_law(solve(case.world))


def our_groups(case: Letters) -> Runner:
    """The law of the reward, and GRPO's expected advantage at each of its values in groups of 8."""

    def run() -> Any:
        law = reward_law(Reference(case.world))
        there = law.p[0] > 0
        return group_advantage(law.r[there], law.p[0][there], 8)

    return run


class _Tilted:
    """The implicit reward of a policy: that of the optimum half way, on every level."""

    def __init__(self, case: Letters) -> None:
        self.case = case

    @cached_property
    def m(self) -> dict[int, Any]:
        g, levels = solve(self.case.world), self.case.world.levels
        return {id(levels[h]): self.case.beta * g.ratio(h) for h in (self.case.H // 2, self.case.H - 1)}


def our_pairs(case: Letters) -> Runner:
    tilted = _Tilted(case)
    return lambda: pair_softplus(Reference(case.world), lambda h: tilted.m[id(case.world.levels[h])])


def counts_disagreement(case: Letters, ours: Any, theirs: Any) -> float:
    """The gradient in weights of the linear formulation is in log weights here: all answer the same question."""
    log_Z, counts = theirs
    scale = max(1.0, abs(ours[0]))
    return max(abs(ours[0] - float(log_Z)) / (1e-11 * scale), _error(ours[1], np.asarray(counts)))


def reward_disagreement(case: Letters, ours: Any, theirs: Any) -> float:
    return max(abs(a - float(b)) / (1e-11 * max(1.0, abs(a))) for a, b in zip(ours, theirs, strict=True))


def _within(name: str, what: str, ours: Any, seconds: float, cases: tuple[Letters, ...]) -> Workload:
    return Workload(name, what, ours, {}, nobody, (Bar(seconds, "one second"),), cases, QUICK)


WORKLOADS: tuple[Workload, ...] = (
    Workload(
        "lattice-counts",
        "log Z of 10^286 responses and the expected uses of every edge",
        our_counts,
        peers_lattice.COUNTS,
        counts_disagreement,
        (Bar(1.0, "fastest peer"),),
        STANDARD,
        QUICK,
    ),
    Workload(
        "lattice-reward",
        "log Z and E r under the optimum",
        our_reward,
        peers_lattice.REWARD,
        reward_disagreement,
        (Bar(0.5, "jax_reward"),),
        STANDARD,
        QUICK,
    ),
    _within("lattice-solve", "log Z, E r, KL and visits", our_solution, 0.3, STANDARD),
    Workload("lattice-growth", "the same: cost is linear in H and in edges a level", our_solution, {}, nobody, (), GROWING, QUICK),
    _within("lattice-long", "log Z, E r, KL and visits of 10^28,600 responses", our_solution, 20.0, LONG),
    _within("lattice-noise", "exact variances of k1, k2 and k3", our_estimators, 1.5, STANDARD),
    _within("lattice-law", "the law of the reward", our_law, 3.0, (Letters(H=100), Letters())),
    _within("lattice-groups", "GRPO in groups of 8 over all values of the reward", our_groups, 6.0, STANDARD),
    _within("lattice-pairs", "DPO's label-free loss over all pairs", our_pairs, 6.0, STANDARD),
)
