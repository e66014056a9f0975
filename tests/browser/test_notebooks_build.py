"""The builder with real kernels: the same bytes twice, faults that are not written, and exercises answered inside the notebook.

These stand beside the browser's tests because they need the extra `notebooks`; no browser is opened.
"""

# mypy: disable-error-code="no-untyped-call"
from __future__ import annotations

import ast
import html
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tabular_rlhf.exercises import EXERCISES
from tabular_rlhf.symbols import parameters
from tests.test_notebooks import TWINS, build, only_shows, stub

GOOD = "# %% [markdown]\n# # 1. Good\n\n# %%\nprint('a')\nprint('b')\n{'x': 0.5, 'of': {'b', 'a'} == {'a', 'b'}}\n"
PICTURE = "# %%\nfrom tabular_rlhf.figures import show\n\nshow('tilt')\n"
BAD = {
    "02_raises": ("1 / 0", "ZeroDivisionError"),
    "03_warns": ("import warnings\nwarnings.warn('beware', stacklevel=1)", "beware"),
    "04_numpy": ("import numpy as np\n[np.float64(0.5)]", "numpy's repr"),
    "05_output": ("import ipywidgets\nipywidgets.Output()", "an Output widget"),
    "06_address": ("object()", "a memory address"),
    "07_path": ("import os\nos.__file__", "a path of this machine"),
}


def built_in(folder: Path, *words: str) -> tuple[int, str]:
    """The builder, run on the twins of a folder: its exit status and what it said."""
    shutil.copy(build.HERE / "build.py", folder)
    done = subprocess.run([sys.executable, "build.py", *words], cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout + done.stderr


def test_building_twice_gives_the_same_bytes_and_a_change_is_seen(tmp_path: Path) -> None:
    """Three are built, two again; then one is as it was, one has another twin, and one is gone."""
    for name in ("01_same", "02_changed", "03_gone"):
        (tmp_path / f"{name}.py").write_text(GOOD)
    (tmp_path / "04_picture.py").write_text(PICTURE)
    assert built_in(tmp_path, "--jobs", "2")[0] == 0
    first = {path.name: path.read_bytes() for path in tmp_path.glob("*.ipynb")}
    assert built_in(tmp_path, "01", "04", "--jobs", "2")[0] == 0
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.ipynb")} == first
    (tmp_path / "02_changed.ipynb").write_bytes(first["02_changed.ipynb"].replace(b"0.5", b"0.7"))
    (tmp_path / "03_gone.ipynb").unlink()
    status, told = built_in(tmp_path, "01", "02", "03", "--check", "--jobs", "2")
    same, changed, gone = re.split(r"\n(?=0\d_\w+:)", told)
    assert (status, "the same bytes" in same, "at fault" in changed, "does not exist" in gone) == (1, True, True, True)
    assert not (tmp_path / "03_gone.ipynb").exists()
    assert built_in(tmp_path, "99")[0] == 2


def test_a_notebook_at_fault_is_named_and_not_written(tmp_path: Path) -> None:
    (tmp_path / "01_good.py").write_text(GOOD)
    for name, (source, _) in BAD.items():
        (tmp_path / f"{name}.py").write_text(f"# %%\n{source}\n")
    status, told = built_in(tmp_path, "--jobs", "2")
    assert status == 1
    for name, (_, fault) in BAD.items():
        said = re.split(r"\n(?=0\d_\w+:)", told[told.index(name) :])[0]
        assert fault in said, said
    assert [path.name for path in tmp_path.glob("*.ipynb")] == ["01_good.ipynb"]


def answered(twin: Path, answers: dict[str, str], also: list[str]) -> Any:
    """The notebook with answers for its stubs, and more cells, executed; what only shows is left to the builder and the browser."""
    nb = build.read(twin)
    nb.cells = [cell for cell in nb.cells if cell.cell_type == "code" and not only_shows(cell.source)]
    for cell in nb.cells:
        if function := stub(ast.parse(cell.source)):
            cell.source = f"{answers[function.name]}\n\n\n{cell.source.splitlines()[-1]}"
    nb.cells += [nbformat.v4.new_code_cell(cell) for cell in also]  # in the same kernel: each start of one takes seconds
    return build.execute(nb)


@pytest.mark.parametrize("twin", TWINS, ids=lambda twin: twin.stem)
def test_solutions_pass_and_wrong_answers_are_diagnosed_inside_the_notebook(twin: Path) -> None:
    solutions = ast.parse((twin.parent / "solutions" / twin.name).read_text(encoding="utf-8"))
    helpers = "\n\n".join(ast.unparse(node) for node in solutions.body if not isinstance(node, ast.Expr))
    answers = {node.name: f"{helpers}\n" for node in solutions.body if isinstance(node, ast.FunctionDef)}
    exercises = [e for e in EXERCISES.values() if e.notebook == twin.stem[:2]]
    asked = [(e, [d for d, miss in e.misses.items() if not set(parameters(miss)) & set(e.without)]) for e in exercises]
    wrong = [(e.slug, diagnoses[0]) for e, diagnoses in asked if diagnoses]  # all are judged in tests/test_exercises.py
    code = "from tabular_rlhf.check import check\nfrom tabular_rlhf.exercises import EXERCISES"
    cells = [code, *(f"check({slug!r}, EXERCISES[{slug!r}].misses[{diagnosis!r}])" for slug, diagnosis in wrong)]
    nb = answered(twin, answers, cells)
    told = {
        exercise.slug: [str(build.texts(output)) for output in cell.outputs]
        for exercise in exercises  # those that the lesson asks; others it only names
        for cell in nb.cells
        if cell.source.endswith(f'check("{exercise.slug}", {exercise.name})')
    }
    assert len(told) >= 3
    assert all(len(outputs) == 1 and "✓" in outputs[0] for outputs in told.values())

    reports = [str([build.texts(output) for output in cell.outputs]) for cell in nb.cells[-len(wrong) :]]
    assert [(w, r) for w, r in zip(wrong, reports, strict=True) if "✗" not in r or "It looks like this mistake" not in r] == []
    named = [html.escape(diagnosis) in report for (_, diagnosis), report in zip(wrong, reports, strict=True)]
    assert sum(named) >= 0.9 * len(named), [w for w, is_named in zip(wrong, named, strict=True) if not is_named]
