"""The bench runs, its formulations agree, its arithmetic is right, and a peer that disagrees is not timed."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tabular_rlhf.bench import peers, timing, workloads
from tabular_rlhf.bench.peers import Case
from tabular_rlhf.cli import main
from tabular_rlhf.commands import bench
from tabular_rlhf.errors import InputError, SolveError

CASE = Case(3, 4, 5_000)
NO_PEERS = dict.fromkeys(("torch", "jax", "autograd", "choix"), "absent")


def numpy_gibbs(case: Case) -> Any:
    """A peer that is always there: the definition."""
    u = np.exp(case.world.log_p_ref[0] + case.world.r[0] / case.world.beta)
    pi, total = [], u
    for width in reversed(case.widths):
        children = total.reshape(case.V, width)
        total = children.sum(0)
        pi.append(children / total)
    answer = np.log(total), u / u.sum(), pi[::-1]
    return lambda: answer


def test_our_gradients_agree_with_each_other() -> None:
    a, b = workloads.our_gradient(CASE)(), workloads.our_closed_form(CASE)()
    assert workloads.gradient_disagreement(CASE, a, b) <= 1.0


def test_a_definition_agrees_with_our_optimum_and_a_wrong_one_does_not() -> None:
    ours = workloads.our_gibbs(CASE)()
    log_Z, p, pi = numpy_gibbs(CASE)()
    assert workloads.gibbs_disagreement(CASE, ours, (log_Z, p, pi)) <= 1.0
    for wrong in ((log_Z + 1e-6, p, pi), (log_Z, p[::-1], pi), (log_Z, p, [level[::-1] for level in pi])):
        assert workloads.gibbs_disagreement(CASE, ours, wrong) > 1.0


def test_a_biased_sampler_and_a_wrong_log_probability_are_noticed() -> None:
    ours = workloads.our_sample(CASE)()
    tau, log_p = ours.tau, ours.log_p
    assert workloads.sample_disagreement(CASE, ours, (tau, log_p)) <= 1.0
    best = np.full_like(tau, np.argmax(CASE.world.r[0]))
    assert workloads.sample_disagreement(CASE, ours, (best, CASE.world.log_p_ref[0][best])) > 1.0
    assert workloads.sample_disagreement(CASE, ours, (tau, log_p + 1e-6)) > 1.0


@pytest.mark.parametrize("library", ["torch", "jax", "autograd"])
def test_every_formulation_of_an_installed_peer_agrees(library: str) -> None:
    """An absent library has no formulations to check: the bench reports it as absent (see below)."""
    installed = peers.available()[library] != "absent"
    checked = 0
    for workload in workloads.WORKLOADS:
        answer = workload.ours(CASE)()
        for make in workload.peers.get(library, ()) if installed else ():
            assert workload.disagreement(CASE, answer, make(CASE)()) <= 1.0, make.__name__
            checked += 1
    assert (checked > 0) == installed


def test_a_peer_that_disagrees_is_not_timed() -> None:
    def wrong(case: Case) -> Any:
        log_Z, p, pi = numpy_gibbs(case)()
        return lambda: (log_Z, 2 * p, pi)

    workload = dataclasses.replace(workloads.WORKLOADS[0], peers={"torch": (wrong,)})
    with pytest.raises(SolveError, match="wrong disagrees with us: gibbs"):
        bench._row(workload, CASE, {"torch": "1"}, 1, lambda: None)


def test_a_row_without_peers_says_absent_and_its_bar_is_not_raced() -> None:
    row = bench._row(workloads.WORKLOADS[0], CASE, NO_PEERS, 1, lambda: None)
    bench._judge([row])
    assert row["absent"] == ["torch", "jax"]
    assert row["ratio"] == {}
    assert [bar["ratio"] for bar in row["bars"]] == [None]


def test_ratios_and_bars_are_ours_over_theirs() -> None:
    def row(name: str, seconds: dict[str, float], limits: dict[str, float]) -> dict[str, Any]:
        return {
            "workload": name,
            "case": "c",
            "seconds": seconds,
            "formulation_seconds": {"jax_b": 8.0},
            "bars": [{"over": over, "limit": limit} for over, limit in limits.items()],
        }

    limits = {"fastest peer": 0.5, "jax": 1.0, "jax_b": 0.5, "base": 3.0}
    rows = [row("base", {"ours": 1.0}, {}), row("work", {"ours": 4.0, "torch": 2.0, "jax": 5.0}, limits)]
    bench._judge(rows)
    assert rows[1]["ratio"] == {"torch": 2.0, "jax": 0.8}
    assert [(bar["ratio"], bar["cleared"]) for bar in rows[1]["bars"]] == [(2.0, False), (0.8, True), (0.5, True), (4.0, False)]


def test_runners_take_turns_and_the_best_time_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    clock = iter(float(t) for t in (0, 9, 10, 14, 20, 23, 30, 35, 40, 41, 50, 57))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    ticks: list[int] = []
    best = timing.race({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2, 100.0, lambda: ticks.append(1))
    assert order == ["a", "b"] * 3  # calls of many seconds: no untimed ones
    assert best == {"a": 1.0, "b": 4.0}
    assert len(ticks) == 2


def test_a_turn_starts_with_a_call_that_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    clock = iter(0.01 * t for t in (0, 9, 10, 14))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    assert timing.race({"a": lambda: calls.append("a")}, 1, 100.0, lambda: None) == {"a": pytest.approx(0.04)}
    assert len(calls) == 3


def test_peak_memory_sees_a_large_temporary() -> None:
    peak = timing.peak_memory(lambda: np.ones(2**22).sum())
    assert peak is None or 0.8 * 2**25 < peak < 3 * 2**25


def test_the_command_prints_a_page_and_writes_json(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any) -> None:
    monkeypatch.setattr(timing, "available", lambda: NO_PEERS)
    monkeypatch.setattr(timing, "import_times", lambda first, then, repeats: (0.2, 0.03))
    monkeypatch.setattr(workloads, "SMALL", (CASE,))
    out = tmp_path / "bench.json"
    assert main(["bench", "--quick", "--repeats", "1", "--out", str(out)]) == 0
    page = capsys.readouterr().out
    assert "one thread for all" in page
    assert "torch absent" in page
    assert "no bars" in page
    result = json.loads(out.read_text())
    assert result["schema"] == bench.SCHEMA
    assert {row["workload"] for row in result["rows"]} == {w.name for w in bench.every_workload()}
    monkeypatch.setattr(bench, "every_workload", lambda: workloads.WORKLOADS[:1])  # the words are the same for any
    assert main(["bench", "--quick", "--repeats", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["schema"] == bench.SCHEMA


def test_repeats_must_be_positive() -> None:
    with pytest.raises(InputError, match="repeats must be at least 1"):
        bench.run(argparse.Namespace(json=False, quick=True, repeats=0, out=None))


def test_no_peer_is_imported_by_the_bench_itself() -> None:
    names = ("torch", "jax", "autograd", "choix")
    code = f"import sys, tabular_rlhf.bench.workloads_data; print([m for m in {names} if m in sys.modules])"
    assert timing.in_subprocess(code) == "[]", sys.executable
