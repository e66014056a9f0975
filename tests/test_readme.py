"""The README tells the truth: its Python runs, its console output is what the command prints, its commands are the real ones."""

from __future__ import annotations

import doctest
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from tabular_rlhf.cli import COMMANDS, main
from tabular_rlhf.exercises import EXERCISES

README = Path(__file__).parent.parent / "README.md"
TEXT = README.read_text(encoding="utf-8")
CONSOLE = re.findall(r"```console\n\$ tabular-rlhf (.*)\n((?:.*\n)*?)```", TEXT)


def test_the_python_of_the_readme_runs_and_prints_what_it_shows() -> None:
    python = "\n".join(re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL))
    examples = doctest.DocTestParser().get_doctest(python, {}, "README", str(README), 0)
    assert len(examples.examples) > 15
    told: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    known = dict(EXERCISES)
    runner.run(examples, out=told.append)
    for added in set(EXERCISES) - set(known):  # the README's own exercise is no part of the course
        del EXERCISES[added]
    assert runner.failures == 0, "".join(told)


@pytest.mark.parametrize(("words", "shown"), CONSOLE)
def test_the_console_output_of_the_readme_is_real(words: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(shlex.split(words)) == 0
    printed = capsys.readouterr().out
    assert doctest.OutputChecker().check_output(shown, printed, doctest.ELLIPSIS), printed


def test_every_command_is_in_the_readme() -> None:
    for name in COMMANDS:
        assert f"`tabular-rlhf {name}" in TEXT


def test_every_room_is_on_the_map() -> None:
    package = README.parent / "tabular_rlhf"
    rooms = {p.stem for p in package.glob("*.py")} | {p.parent.name + "/" for p in package.glob("*/__init__.py")}
    missing = [room for room in rooms - {"__init__", "__main__"} if f"`{room}`" not in TEXT]
    assert not missing


def test_the_two_commands_are_marked_for_the_machine() -> None:
    for name in ("main", "tests"):
        assert re.search(rf"<!-- command: {name} -->\n```sh\n\S.*\n```", TEXT)


def test_the_hand_computation_is_right() -> None:
    assert np.isclose(3 / 9 * 1 + 2 / 9 * 2 + 4 / 9 * 3, 19 / 9, rtol=1e-15)


def test_the_syllabus_is_the_course() -> None:
    """Every notebook and every exercise of the course stands in the syllabus, in the notebook's own row."""
    rows = {m[1].zfill(2): m[0] for m in re.finditer(r"^\| (\d+) \| \[.*$", TEXT, re.MULTILINE)}
    twins = {path.name[:2]: path.name for path in (README.parent / "notebooks").glob("[0-9]*.ipynb")}
    assert set(rows) == set(twins) == {e.notebook for e in EXERCISES.values()} - {""}
    for number, row in rows.items():
        assert twins[number] in row
        listed = re.findall(r"`([a-z0-9-]+)`", row)
        own = [e for e in EXERCISES.values() if e.notebook == number]
        assert listed == [e.slug for e in own]
        assert f"+ {sum(e.minutes for e in own)} min" in row


def test_every_picture_of_the_readme_is_there() -> None:
    pictures = re.findall(r"!\[([^\]]+)\]\(([^)]+)\)", TEXT)
    assert pictures
    assert all((README.parent / path).is_file() and len(words) > 30 for words, path in pictures)


def test_the_workflow_names_what_there_is() -> None:
    """Every path that the forge's workflow runs: tests by pattern, rooms, and the script of the whole."""
    root = README.parent
    text = (root / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    named = re.findall(r"(?:tests|tabular_rlhf|\.ci)/[\w*./]+", text)
    assert len(named) > 10
    assert [path for path in named if not list(root.glob(path))] == []
