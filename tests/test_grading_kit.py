"""The instructor's kit: a class graded, a sheet checked, and the marks as other graders read them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tabular_rlhf.cli import main

ANSWERS = """
import numpy as np
def regret(value, J_x): return value - J_x
def best_value(beta, log_p_ref, r): return beta * np.log(np.sum(np.exp(log_p_ref + r / beta), axis=1, keepdims=True))
def arc(): raise ValueError("no")
"""


def test_gradescope_reads_the_marks_of_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.py").write_text(ANSWERS)
    (tmp_path / "sheet.py").write_text("POINTS = {'regret': 3, 'best-value': 2, 'arc': 1, 'pythagoras-gap': 1}")
    words = ["grade", str(tmp_path / "a.py"), "--exercises", str(tmp_path / "sheet.py"), "--json"]
    assert main([*words, "--gradescope", str(tmp_path / "results.json")]) == 1
    report, found = json.loads(capsys.readouterr().out), json.loads((tmp_path / "results.json").read_text())
    assert sum(test["score"] for test in found["tests"]) == report["points"] == 4
    assert sum(test["max_score"] for test in found["tests"]) == report["out_of"]
    assert [test["status"] for test in found["tests"]] == ["passed", "failed", "failed", "failed"]
    assert all(test["output"] and test["visibility"] == "visible" for test in found["tests"])
    assert "ValueError: no" in found["tests"][2]["output"]
