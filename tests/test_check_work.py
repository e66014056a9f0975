"""Laws of the checker's limits: work is counted and never timed, so that the same answer gets the same report on every machine.

A clock may only stop what does not come back, and what was stopped is neither right nor wrong.
"""

from __future__ import annotations

import ast
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tabular_rlhf.check as checker
from tabular_rlhf.check import calling, check
from tabular_rlhf.check.shrink import WORLDS, smallest
from tabular_rlhf.cli import main
from tests import unseen_first, unseen_fourth, unseen_second, unseen_third
from tests.unseen_support import ANSWERS

TABLES = (unseen_first, unseen_second, unseen_third, unseen_fourth)
EVERY = 23
"""One in so many of the unseen answers: named ones, unnamed ones, right ones."""


def never_ends(value: Any) -> Any:
    while True:
        pass


def waits(value: Any) -> Any:
    time.sleep(1e9)


def ends_where_there_is_no_choice(p: Any) -> Any:
    """Wrong on the first worlds, and without end on larger ones."""
    while p.shape[1] > 4:
        pass
    return p.sum(1) + 1.0


@pytest.mark.parametrize("answer", [never_ends, waits, ends_where_there_is_no_choice])
def test_what_does_not_come_back_is_stopped_and_is_neither_right_nor_wrong(
    answer: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(calling, "CALL", 0.2)
    monkeypatch.setattr(calling, "STILL", 2.0)
    report = check("regret-is-kl", answer)
    assert (report.ok, report.status, report.counterexample) == (False, "stopped", None)
    assert "neither right nor wrong" in report.told
    assert report.headline.startswith("…")
    (tmp_path / "mine.py").write_text("def f(value):\n    while True:\n        pass\n")
    assert main(["check", "regret-is-kl", f"{tmp_path / 'mine.py'}:f"]) == 2  # neither yes nor no
    assert "was stopped" in capsys.readouterr().out


def test_all_calls_together_are_guarded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checker, "ALL", 0.1)

    def dear(value: Any, J_x: Any) -> Any:
        sum(range(200_000))
        return value - J_x

    assert check("regret-is-kl", dear).status == "stopped"


def test_guards_nest() -> None:
    def inside() -> None:
        with calling.guard("outer", VIRTUAL=0.05):
            with calling.guard("inner", VIRTUAL=10.0):
                pass
            never_ends(0.0)

    with pytest.raises(calling.Stopped, match="outer"):
        inside()


def test_the_report_is_the_same_whatever_the_clock_says(monkeypatch: pytest.MonkeyPatch) -> None:
    picked = [a for verdict in ("wrong", "odd", "right") for a in [a for a in ANSWERS if a.verdict == verdict][10:60:20]]
    before = [check(a.slug, a.function, part=a.part) for a in picked]
    for clock in ("process_time", "perf_counter", "monotonic", "time", "thread_time"):
        honest = getattr(time, clock)
        monkeypatch.setattr(time, clock, lambda honest=honest: 1000.0 * honest())
    assert [check(a.slug, a.function, part=a.part).json() for a in picked] == [r.json() for r in before]
    assert {r.status for r in before} == {"wrong", "right"}
    assert {r.diagnosis is None for r in before if not r.ok} == {True, False}


def test_the_checker_knows_no_clock() -> None:
    """Only `guard` does, by a signal."""
    for path in sorted(Path(checker.__file__).parent.glob("*.py")):
        tree = ast.parse(path.read_text())
        names = {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
        names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert not names & {"time", "datetime", "timeit", "hypothesis"}, path
        assert ("signal" in names) == (path.name == "calling.py")


@pytest.mark.parametrize("k", range(0, len(ANSWERS), EVERY))
def test_an_answer_is_called_a_bounded_number_of_times(k: int) -> None:
    answer, calls = ANSWERS[k], 0

    def counting(value: Any) -> Any:
        nonlocal calls
        calls += 1
        return value

    check(answer.slug, calling.Through(answer.function, counting), part=answer.part)
    assert 0 < calls <= 4000


def test_a_search_tries_so_many_worlds_and_no_more() -> None:
    calls = 0

    def fails(answer: Callable[[Any], bool]) -> Callable[[Any], bool]:
        def counted(scope: Any) -> bool:
            nonlocal calls
            calls += 1
            return answer(scope)

        return counted

    rng = np.random.default_rng(1)
    for answer in (lambda s: False, lambda s: True, lambda s: bool(rng.random() < 0.5), lambda s: bool(np.sum(s["logits"]) > 1.0)):
        calls = 0
        smallest(fails(answer), 4)
        assert calls <= WORLDS
