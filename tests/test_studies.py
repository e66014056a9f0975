"""Studies and cells: the same bits on one process, on several, on a cluster that loses a worker, and after any interruption."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student

import tabular_rlhf as tr
from tabular_rlhf.cells import Place, blas_threads, run_cells
from tabular_rlhf.cli import main
from tabular_rlhf.errors import InputError
from tabular_rlhf.ledger import LEDGER
from tabular_rlhf.ledger.audit import audit, audit_in_parallel, select
from tabular_rlhf.simulator import Options, simulate
from tabular_rlhf.simulator.report import FIELDS
from tabular_rlhf.studies import EXAMPLE, Study, as_csv, conduct, summarize
from tabular_rlhf.studies.figure import compute
from tabular_rlhf.studies.read import parse_study
from tabular_rlhf.studies.report import summary_csv
from tests.cell_support import deed

ONE, TWO = Place(jobs=1), Place(jobs=2)


def small(**more: Any) -> Study:
    worlds = {name: tr.named_world(name) for name in ("coin", "rational")}
    return Study(
        "small", worlds, ("rloo", "reinforce"), **{"settings": {"group": (2, 3), "steps": (3,)}, "seeds": 2, "exact": True, **more}
    )


# ---------------------------------------------------------------------------------------------------- cells


def test_a_cell_that_fails_or_dies_takes_no_other_with_it() -> None:
    cells = [("square", k) for k in range(12)]
    cells[3], cells[7], cells[8] = ("die", 3), ("raise", 7), ("threads", 8)
    done = {d.number: d for d in run_cells(deed, cells, TWO)}
    assert sorted(done) == list(range(12))
    assert (done[3].value, done[7].fault) == (None, "ValueError: no 7")
    assert "died" in (done[3].fault or "")
    assert set(done[8].value) == {1}
    assert all(done[k].value == k**2 and done[k].fault is None for k in range(12) if k not in (3, 7, 8))


def test_one_thread_of_linear_algebra_and_as_many_as_before_afterwards() -> None:
    before = blas_threads()
    (done,) = run_cells(deed, [("threads", 0)], ONE)
    assert before, "numpy's OpenBLAS is found"
    assert set(done.value) == {1}
    assert blas_threads() == before


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"backend": "moon"}, "use processes or dask"),
        ({"backend": "dask"}, "--scheduler"),
        ({"scheduler": "tcp://x:1"}, "pass --backend dask"),
        ({"jobs": 0}, "at least 1|in 1"),
    ],
)
def test_places_that_cannot_be(told: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Place(**told)


def test_the_ledger_on_several_processes_says_the_same() -> None:
    rows = select()[:9]
    told: list[int] = []
    ours = audit_in_parallel(rows, worlds=1, seed=0, on_progress=told.append, place=TWO)
    alone = audit(rows, worlds=1, seed=0)
    assert [(v.slug, v.error, v.z, v.worlds) for v in ours] == [(v.slug, v.error, v.z, v.worlds) for v in alone]
    assert sum(told) == sum(v.worlds for v in alone) or sum(told) > 0
    assert all(v.slug in LEDGER for v in ours)


# ---------------------------------------------------------------------------------------------------- the same bits


def test_a_cell_is_a_run_of_the_simulator() -> None:
    study = small()
    rows, faults = conduct(study, None, ONE)
    assert not faults
    assert len(rows) == study.size == 2 * 2 * 2 * 3
    for cell in study.cells():
        if cell.seed is not None:
            (step, *scores), run = rows[cell.number][0], simulate(cell.world, Options(**{**vars(cell.options), "seeds": 2}))[cell.seed]
            assert (step, *scores) == (3, *run.last.row)


def test_two_processes_give_the_bits_of_one() -> None:
    study = small()
    assert as_csv(study, conduct(study, None, TWO)) == as_csv(study, conduct(study, None, ONE))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, bytes, str]:
    """A study, its journal, and its table."""
    path = tmp_path_factory.mktemp("study") / "journal.jsonl"
    study = small()
    ended = conduct(study, path, ONE)
    return study, path.read_bytes(), as_csv(study, ended)


@given(st.data())
@settings(max_examples=15)
def test_an_interruption_at_any_byte_costs_only_what_was_not_done(
    whole: tuple[Study, bytes, str], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    study, journal, table = whole
    cut = data.draw(st.integers(0, len(journal)))
    path = tmp_path_factory.mktemp("cut") / "journal.jsonl"
    path.write_bytes(journal[:cut])
    counts: list[int] = []
    ended = conduct(study, path, ONE, lambda n, fault: counts.append(n))
    assert as_csv(study, ended) == table
    assert counts[0] == journal[:cut].count(b"\n")
    assert sum(counts) == study.size
    assert sorted(path.read_bytes().splitlines()) == sorted(journal.splitlines())


def test_a_changed_study_runs_what_is_new_and_only_that(whole: tuple[Study, bytes, str], tmp_path: Path) -> None:
    _, journal, _ = whole
    path = tmp_path / "journal.jsonl"
    path.write_bytes(journal)
    counts: list[int] = []
    conduct(small(seeds=3), path, ONE, lambda n, fault: counts.append(n))
    assert counts == [24, *[1] * 8]
    path.write_text("{}\n")
    with pytest.raises(InputError, match="journal must be its own"):
        conduct(small(), path, ONE)


# ---------------------------------------------------------------------------------------------------- a cluster


def started(*words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@contextmanager
def cluster(folder: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A scheduler and two workers on loopback: its address, and the workers."""
    file = folder / "scheduler.json"
    usual = ("--scheduler-file", str(file))
    ours = [started("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", *usual)]
    try:
        wait(file.exists)
        worker = ("distributed.cli.dask_worker", *usual, "--nthreads", "1", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1")
        ours += [started(*worker, "--local-directory", str(folder)) for _ in range(2)]
        yield json.loads(file.read_text())["address"], ours[1:]
    finally:
        for process in ours:
            process.kill()
            process.wait()


def wait(holds: Any) -> None:
    """Until something holds; a machine that is busy may take its time."""
    for _ in range(1200):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError("it does not come to pass")


def test_a_cluster_that_loses_a_worker_gives_the_same_bits(tmp_path: Path) -> None:
    """A real scheduler and two workers; one is killed when some cells are done and most are not."""
    text = 'worlds = ["coin"]\nalgorithms = ["rloo"]\nseeds = 60\n[settings]\nsteps = 40\n'
    path = tmp_path / "study.toml"
    path.write_text(text)
    study = parse_study(text, tmp_path)
    with cluster(tmp_path) as (address, workers):
        command = [sys.executable, "-m", "tabular_rlhf", "study", str(path), "--backend", "dask", "--scheduler", address]
        asked = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        journal = tmp_path / "study" / "journal.jsonl"
        wait(lambda: asked.poll() is not None or (journal.exists() and journal.read_bytes().count(b"\n") >= 3))
        left = study.size - journal.read_bytes().count(b"\n")
        workers[0].kill()
        _, told = asked.communicate(timeout=120)
    assert asked.returncode == 0, told.decode()
    assert left > 0
    assert (tmp_path / "study" / "runs.csv").read_text() == as_csv(study, conduct(study, None, ONE))


def test_a_scheduler_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="known one"):
        Place("cluster")
    path = tmp_path / "study.toml"
    path.write_text('worlds = ["coin"]\nseeds = 2\n[settings]\nsteps = 1\n')
    assert main(["study", str(path), "--backend", "dask", "--scheduler", "nonsense://x"]) == 2


# ---------------------------------------------------------------------------------------------------- tables and figures


def test_the_summary_is_means_with_student_s_intervals() -> None:
    study = small(seeds=4, curve=True)
    ended = conduct(study, None, ONE)
    rows = list(csv.DictReader(io.StringIO(as_csv(study, ended))))
    for line in csv.DictReader(io.StringIO(summary_csv(summarize(study, ended)))):
        mine = [
            float(row[line["measure"]])
            for row in rows
            if all(row[k] == line[k] for k in ("world", "algorithm", "group", "steps", "kind", "step"))
        ]
        assert float(line["mean"]) == pytest.approx(np.mean(mine), abs=1e-15)
        if line["kind"] == "exact":
            assert line["low"] == ""
        else:
            half = student.ppf(0.975, 3) * np.std(mine, ddof=1) / 2
            assert float(line["high"]) - float(line["mean"]) == pytest.approx(half, abs=1e-12)
    assert set(FIELDS) <= rows[0].keys()


def test_the_figure_has_a_line_for_what_is_not_on_its_axis() -> None:
    study = small(x="group")
    data = compute(study, summarize(study, conduct(study, None, ONE)))
    names = [f"{w}, {a}{e}" for w in ("coin", "rational") for a in ("rloo", "reinforce") for e in ("", ", exact")]
    assert list(data["lines"]) == names
    assert all(line["x"] == [2, 3] for line in data["lines"].values())
    curves = small(curve=True, x="step")
    assert compute(curves, summarize(curves, conduct(curves, None, ONE)))["lines"]["coin, rloo, group 2"]["x"] == [0, 1, 2, 3]


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["study", "--example"]) == 0
    assert Path("study.toml").read_text() == EXAMPLE
    Path("study.toml").write_text(
        EXAMPLE.replace("seeds = 8", "seeds = 2").replace("steps = 40", "steps = 4").replace("[2, 4, 8]", "[1, 2]")
    )
    assert main(["study", "study.toml"]) == 2
    assert "a group of rloo must have at least 2" in capsys.readouterr().err
    Path("study.toml").write_text(EXAMPLE.replace("seeds = 8", "seeds = 2").replace("steps = 40", "steps = 4"))
    assert main(["study", "study.toml", "--jobs", "1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["done"], told["cells"], told["faults"]) == (36, 36, [])
    assert {path.name for path in Path("study").iterdir()} == {"journal.jsonl", "runs.csv", "summary.csv", "figure.svg"}
    before = Path("study/runs.csv").read_bytes()
    assert main(["study", "study.toml", "--jobs", "1"]) == 0
    assert "36 of 36 cells are done" in capsys.readouterr().out
    assert Path("study/runs.csv").read_bytes() == before


def test_a_failed_cell_is_told_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "study.toml"
    path.write_text('worlds = ["coin"]\nalgorithms = ["rloo"]\nseeds = 3\n[settings]\nsteps = 1\n')
    real = tr.simulator.stages.begin

    def broken(world: Any, options: Any, number: int = 0) -> Any:
        if number == 1:
            raise ValueError("a bad seed")
        return real(world, options, number)

    monkeypatch.setattr("tabular_rlhf.studies.record.begin", broken)
    assert main(["study", str(path), "--jobs", "1"]) == 1
    out, err = capsys.readouterr()
    assert "seed 1: ValueError: a bad seed" in out
    assert "a cell failed: ValueError: a bad seed" in err
    monkeypatch.undo()
    assert main(["study", str(path), "--jobs", "1"]) == 0
    assert "3 of 3 cells are done" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("worlds = [", "must be TOML"),
        ("wolrds = ['coin']", "did you mean worlds"),
        ("worlds = ['nowhere']", "a named one or a file"),
        ("algorithms = ['dance']", "cores are"),
        ("seeds = 0", "seeds must be a whole number"),
        ("seeds = true", "seeds must be a whole number"),
        ("[settings]\nlerning = 1", "an option of `run`"),
        ("[settings]\ngroup = [[1]]", "a list of values"),
        ("measure = 'joy'", "measure must be a known one"),
        ("x = 'step'", "curve = true"),
        ("seeds = 2000000", "at most 1,000,000 cells|in 1"),
    ],
)
def test_a_study_is_refused_in_words(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        parse_study(text, tmp_path)
