"""The front door: whatever goes wrong is one line on stderr and exit status 2, never a traceback."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tabular_rlhf
from tabular_rlhf import cli, commands
from tabular_rlhf.cli import COMMANDS, build_parser, main
from tabular_rlhf.commands import bench, verify
from tabular_rlhf.reports.solution_text import passed
from tabular_rlhf.simulator.record import Options


def ask(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a refused command says."""
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"tabular-rlhf {words[0]}: ")
    assert said.err.count("\n") == 1
    assert re.search(r": got .+; \S+", said.err), "four parts"
    return said.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("solve coin --figure folder.png", "must not be a folder: got 'folder.png'; name a file in it"),
        ("bench --out .", "must not be a folder: got '.'; name a file in it"),
        ("bench --out missing/x.json", "must exist: got 'missing'; make it"),
        ("figures tilt --out file", "must not be a file: got 'file'; choose another"),
        ("figures tilt --out file/below", "must not be a file: got 'file/below'; choose another"),
        ("figures tlit", "got 'tlit'; did you mean tilt"),
        ("verify --worlds -1", "--worlds must be at least 0: got -1; leave it out"),
        ("verify --seed -1", "--seed must be at least 0: got -1; leave it out"),
    ],
)
def test_places_and_numbers_are_checked_before_the_work(
    words: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bench, "measure", None)
    monkeypatch.setattr(verify, "_audit_with_bar", None)
    assert message in ask(words.split(), capsys)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (MemoryError("Unable to allocate 745 GiB"), "must fit in memory: got Unable to allocate 745 GiB; ask for less"),
        (MemoryError(), "must fit in memory: got no memory left"),
        (PermissionError(13, "Permission denied", "x.json"), "readable and writable: 'x.json': got Permission denied; check"),
    ],
)
def test_the_machine_s_own_refusals(
    fault: Exception, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> None:
        raise fault

    monkeypatch.setattr(verify, "select", fail)
    assert message in ask(["verify"], capsys)


@pytest.mark.parametrize("words", ["verify --list", "verify prompts --explain", "solve coin --samples 10"])
def test_a_full_disk_is_told_without_a_traceback(words: str) -> None:
    """/dev/full refuses every write; where a system has none there is nothing to see, but the command runs."""
    full = Path("/dev/full")
    place = {**os.environ, "PYTHONPATH": str(Path(tabular_rlhf.__file__).parent.parent)}
    place.pop("PYTHONUNBUFFERED", None)  # with a buffer Python would write once more as it ends
    with open(full if full.exists() else os.devnull, "w") as out:
        ran = subprocess.run(
            [sys.executable, "-m", "tabular_rlhf", *words.split()], stdout=out, stderr=subprocess.PIPE, text=True, env=place
        )
    assert ran.returncode == (2 if full.exists() else 0)
    assert ran.stderr.count("\n") == int(full.exists())
    assert not full.exists() or "the output: got No space left on device; check" in ran.stderr


@pytest.mark.parametrize(("worst", "status"), [(None, True), (5.0, True), (5.1, False), (math.inf, False), (math.nan, False)])
def test_solve_says_no_beyond_five_standard_errors(worst: float | None, status: bool) -> None:
    assert passed({"checks": {"count": 1, "largest_z": worst}}) is status


def test_a_checked_file_may_define_dataclasses_and_its_nan_is_a_word_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass Half:\n    of: float\n"
        "def mine(value, J_x):\n    return (value - J_x) * float('nan')\n"
    )
    assert main(["check", "regret-is-kl", f"{file}:mine", "--json"]) == 1

    def refused(word: str) -> float:
        raise ValueError(f"{word} is no JSON")

    told = json.loads(capsys.readouterr().out, parse_constant=refused)
    assert (told["status"], set(told["counterexample"]["yours"])) == ("nan", {"nan"})


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_read(name: str) -> None:
    """What a command declares it also asks for: in its own file, or in one that this imports; `run` asks for all that `Options` holds."""
    folder, files, text = Path(commands.__file__).parent, [name], Path(cli.__file__).read_text()
    for file in files:  # grows
        said = (folder / f"{file}.py").read_text()
        text += said
        files += [f for f in re.findall(r"commands(?:\.| import )(\w+)", said) if f not in files and (folder / f"{f}.py").exists()]
    asked = {*re.findall(r"\bargs\.(\w+)", text), *(Options.__dataclass_fields__ if name == "run" else ())}
    assert {a.dest for a in build_parser(name)[1]._actions} - asked <= {"help"}
