"""`solve --save`, `--horizon` and `--set`: the answers given away are the answers, and overrides are what the file would say."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import tabular_rlhf as tr
from tabular_rlhf.cli import main
from tabular_rlhf.worldfile import EXAMPLE, load_world


@pytest.mark.parametrize("name", ["rational", "cycle", "fork"])
def test_what_is_saved_is_what_was_solved(name: str, tmp_path: Path) -> None:
    world = tr.named_world(name)
    for kind in ("npz", "csv"):
        assert main(["solve", name, "--save", str(tmp_path / f"a.{kind}"), "--samples", "500"]) == 0
    p = np.exp(world.log_p_ref + world.r / world.beta)
    p /= p.sum(axis=1, keepdims=True)
    with np.load(tmp_path / "a.npz") as file:
        held = dict(file)
    np.testing.assert_allclose(np.exp(held["log_p_star"]), p, rtol=1e-12)
    counts = np.zeros_like(p)
    np.add.at(counts, (held["drawn_x"], held["drawn_tau"]), 1)
    assert counts.sum() == 500
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
    responses, states = ([row for row in rows if row["kind"] == kind] for kind in ("response", "state"))
    np.testing.assert_allclose([float(row["p_star"]) for row in responses], p.ravel(), rtol=1e-12)
    assert [int(row["drawn"]) for row in responses] == counts.ravel().tolist()
    assert [row["text"] for row in responses] == held["responses"].tolist() * world.mdp.P
    # V at the empty prefix is beta log Z
    log_z = world.beta * np.log(np.sum(np.exp(world.log_p_ref + world.r / world.beta), axis=1))
    root = [float(row["soft_value"]) for row in states if row["text"] == ""]
    np.testing.assert_allclose(root, log_z, rtol=1e-12)
    np.testing.assert_array_equal(held["V_s"].ravel(), [float(row["soft_value"]) for row in states])


def test_overrides_are_what_the_file_would_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "pets.toml"
    path.write_text(EXAMPLE)
    (tmp_path / "other.toml").write_text(EXAMPLE.replace("horizon = 4", "horizon = 3").replace("size = 9", "size = 7"))
    assert main(["solve", str(path), "--horizon", "3", "--set", "size=7", "--json", "--samples", "100"]) == 0
    told = json.loads(capsys.readouterr().out)
    other = load_world(tmp_path / "other.toml")
    assert told["world"]["vocabulary"] == list(other.mdp.vocabulary)
    assert (told["world"]["horizon"], told["world"]["responses"]) == (3, other.mdp.N)
    assert told["totals"]["kl"]["exact"] == pytest.approx(float(np.sum(other.mu * tr.solve(other).kl)))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("coin --horizon 3", "a named world must stay as it is"),
        ("pets.toml --horizon 0", "horizon must be a whole number of at least 1"),
        ("pets.toml --set size", "--set must be KEY=VALUE"),
        ("pets.toml --set sizes=3", "did you mean size"),
        ("coin --save a.txt", "end it in .csv or .npz"),
        ("coin --save missing/a.csv", "must exist"),
    ],
)
def test_what_cannot_be_is_refused(
    words: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pets.toml").write_text(EXAMPLE)
    assert main(["solve", *words.split()]) == 2
    assert message in capsys.readouterr().err
