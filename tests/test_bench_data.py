"""The workloads on data: every formulation agrees on the quick sizes, and wrong answers are noticed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tabular_rlhf.bench import timing, workloads_data
from tabular_rlhf.bench.peers_data import AllPairs, Comparisons, Near
from tabular_rlhf.commands import bench
from tabular_rlhf.errors import SolveError
from tabular_rlhf.estimators import moments, table
from tabular_rlhf.logspace import log_softmax
from tabular_rlhf.losses.evaluate import gradient, token_gradient, value
from tabular_rlhf.preferences import bradley_terry, population_pairs
from tabular_rlhf.preferences.comparisons import count_wins
from tabular_rlhf.sampling import population

BY_NAME = {w.name: w for w in workloads_data.WORKLOADS}
NEAR = Near(3, 3, 500)
FEW = AllPairs(2, 9)
ITEMS = Comparisons(12, 2_000)


@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.filterwarnings("default")  # what other libraries warn of is not ours to mend
def test_every_formulation_of_what_is_installed_agrees(name: str) -> None:
    workload, facts = BY_NAME[name], timing.machine()
    for case in workload.quick:
        answer = workload.ours(case)()
        for library, formulations in workload.peers.items():
            for make in formulations if facts[library] != "absent" else ():
                assert workload.disagreement(case, answer, make(case)()) <= 1.0, make.__name__


def test_quick_cases_stand_in_for_the_full_ones() -> None:
    for workload in workloads_data.WORKLOADS:
        assert bench._shrunk(workload) == workload.quick != ()
        assert [type(c) for c in workload.quick] == [type(c) for c in workload.cases]
    assert all(w in bench.every_workload() for w in workloads_data.WORKLOADS)


def test_other_rewards_are_not_the_same_optimum() -> None:
    r = workloads_data.our_bradley_terry(ITEMS)()
    counts = count_wins(*ITEMS.raw, ITEMS.items).counts
    p = 1 / (1 + np.exp(r - r[:, None]))
    np.testing.assert_allclose(np.sum((counts + counts.T) * p, axis=1), counts.sum(1), atol=1e-6)  # the slope vanishes
    assert workloads_data.bradley_terry_disagreement(ITEMS, r, r + 3.0) <= 1.0  # rewards are known up to a shift
    off = r.copy()
    off[0] += 3e-7
    assert workloads_data.bradley_terry_disagreement(ITEMS, r, off) > 1.0


def test_our_dpo_on_sampled_pairs_is_the_definition_and_a_flipped_pair_is_noticed() -> None:
    loss, slope = token_gradient("dpo", NEAR.world, NEAR.rows, NEAR.pairs)
    ours = workloads_data.our_dpo_sampled(NEAR)()
    assert workloads_data.dpo_disagreement(NEAR, ours, (loss, slope[0].T)) <= 1.0
    w, l = (np.broadcast_to(k, NEAR.draws).copy() for k in (NEAR.pairs.w, NEAR.pairs.l))
    k = int(np.argmax(w != l))
    w[k], l[k] = l[k], w[k]
    loss, slope = token_gradient("dpo", NEAR.world, NEAR.rows, dataclasses.replace(NEAR.pairs, w=w, l=l))
    assert workloads_data.dpo_disagreement(NEAR, ours, (loss, slope[0].T)) > 1.0


def test_our_dpo_on_all_pairs_is_the_definition_by_both_routes() -> None:
    pairs = population_pairs(FEW.world, bradley_terry(FEW.world.r))
    loss, slope = value("dpo", FEW.world, FEW.log_p, pairs), gradient("dpo", FEW.world, FEW.log_p, pairs)[0]
    for ours in (workloads_data.our_dpo_population(FEW)(), workloads_data.our_dpo_chebyshev(FEW)()):
        assert workloads_data.dpo_disagreement(FEW, ours, (loss, slope)) <= 1.0
        assert workloads_data.dpo_disagreement(FEW, ours, (loss + 1e-9, slope)) > 1.0
        assert workloads_data.dpo_disagreement(FEW, ours, (loss, slope * (1 + 1e-9))) > 1.0


def by_definition(case: Near) -> dict[Any, tuple[float, float, float]]:
    """A peer that is always there: every flag's own table."""
    log_pi = log_softmax(case.rows)
    data = population(case.world, case.world.mdp.path_sum(log_pi))
    found = {(f.name, f.level): moments(data, table(f, case.world, log_pi)) for f in workloads_data.FLAGS}
    return {key: (x.mean, x.variance, x.negative) for key, x in found.items()}


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_wrong_moment_of_one_estimator_is_noticed(part: int) -> None:
    theirs, exact = by_definition(NEAR), workloads_data.our_kl_exact(NEAR)()
    sampled = workloads_data.our_kl_sampled(NEAR)()
    assert len(theirs) == 15  # 8 estimators, 7 of them at both levels
    assert workloads_data.kl_exact_disagreement(NEAR, exact, theirs) <= 1.0
    assert workloads_data.kl_sampled_disagreement(NEAR, sampled, theirs) <= 1.0
    wrong = [x * (1 + 1e-6) + 1e-6 * (k == part) if k == part else x for k, x in enumerate(theirs["k3", "token"])]
    assert workloads_data.kl_exact_disagreement(NEAR, exact, {**theirs, ("k3", "token"): tuple(wrong)}) > 1.0
    far = [x + 0.5 * (k == part) for k, x in enumerate(theirs["k3", "token"])]
    noticed = workloads_data.kl_sampled_disagreement(NEAR, sampled, {**theirs, ("k3", "token"): tuple(far)}) > 1.0
    assert noticed == (part != 1)  # variances are left to the exact workload


def test_a_peer_that_stops_early_is_not_timed() -> None:
    def early(case: Comparisons) -> Any:
        r = workloads_data.our_bradley_terry(case)()
        return lambda: 0.999 * r

    workload = dataclasses.replace(BY_NAME["bradley-terry"], peers={"scipy": (early,)})
    with pytest.raises(SolveError, match="early disagrees with us: bradley-terry"):
        bench._row(workload, ITEMS, {"scipy": "1"}, 1, lambda: None)


def test_a_bar_in_seconds_is_our_time() -> None:
    row: dict[str, Any] = {"workload": "w", "case": "c", "seconds": {"ours": 0.6, "torch": 9.0}, "formulation_seconds": {}}
    row["bars"] = [{"over": "one second", "limit": limit} for limit in (0.5, 1.0)]
    bench._judge([row])
    assert [(bar["ratio"], bar["cleared"]) for bar in row["bars"]] == [(0.6, False), (0.6, True)]


def test_every_openblas_that_is_loaded_is_told_to_use_one_thread() -> None:
    maps = Path("/proc/self/maps")
    loaded = maps.exists() and "openblas" in maps.read_text()
    assert (timing.one_blas_thread() > 0) == loaded
