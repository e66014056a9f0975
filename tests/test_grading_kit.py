"""The instructor's kit: a class graded, a sheet tried, conventions left open, and the marks as other graders read them."""

from __future__ import annotations

import csv
import inspect
import json
import re
import shlex
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tabular_rlhf.cells import Place
from tabular_rlhf.check import judge
from tabular_rlhf.check.question import of_exercise
from tabular_rlhf.cli import main
from tabular_rlhf.errors import InputError
from tabular_rlhf.exercises import EXERCISES, PROOFS, Exercise
from tabular_rlhf.exercises.conventions import others
from tabular_rlhf.formula.printed import printed
from tabular_rlhf.grading import Limits
from tabular_rlhf.grading.class_report import as_csv, as_page, harmless, page_names
from tabular_rlhf.grading.classroom import Graded, Terms, grade_class
from tabular_rlhf.grading.marks import Grades, Mark
from tabular_rlhf.grading.report import results
from tabular_rlhf.grading.sheet import FORMED, Item, Sheet, examine, read_sheet
from tabular_rlhf.grading.submission import Student, roster
from tabular_rlhf.registry import supplied
from tabular_rlhf.symbols import SYMBOLS, Scope, parameters
from tabular_rlhf.world import rational

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"<!-- example: (\S+) -->\n```\w+\n(.*?)```", README, re.DOTALL))
ALONE, QUICK = Place(jobs=1), Terms(seconds=0.5)


@pytest.fixture(autouse=True)
def tables() -> Iterator[None]:
    """What sheets enter is no part of the course."""
    before = [(table, dict(table)) for table in (EXERCISES, PROOFS, SYMBOLS)]
    yield
    for table, entries in before:
        table.clear()
        table.update(entries)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------- three courses, end to end

RIGHT = {
    "regret": "def regret(value, J_x): return value - J_x",
    "best-value": "def best_value(beta, log_p_ref, r): return beta * np.logaddexp.reduce(log_p_ref + r / beta, axis=1)",
    "policy-reward": "def policy_reward(beta, log_p, log_p_ref): return beta * (log_p - log_p_ref)",
    "penalized": "def penalized(r, penalty, log_p, log_p_ref): return r + penalty * (log_p - log_p_ref)",
    "prove-k3": f"def prove_k3(): return {PROOFS['prove-k3'].solution!r}",
}
HALF = RIGHT | {
    "regret": "def regret(value, J_x): return J_x - value",
    "best-value": "def best_value(beta, log_p_ref, r): return np.logaddexp.reduce(log_p_ref + r / beta, axis=1)",
    "prove-k3": f"def prove_k3(): return {PROOFS['prove-k3'].solution.replace('KL(p, p_ref)', 'KL(p_ref, p)')!r}",
    "penalized": "def penalized(r, log_p, log_p_ref): return r - (log_p - log_p_ref)",
}
HOSTILE = {
    "regret": "def regret(value): raise ValueError('ada@example.org <script>')",
    "best-value": "def best_value(beta):\n    while True: pass",
    "policy-reward": "def policy_reward(beta):\n    import os\n    os._exit(0)",
    "penalized": "def penalized(penalty): raise SystemExit(0)",
    "prove-k3": "def prove_k3(): return open('/etc/shadow').read()",
}
KINDS = {"ada lovelace": RIGHT, "=bob": HALF, "eve": HOSTILE}
COURSES = {
    "sheet.toml": (EXAMPLES["sheet.toml"], {"ada lovelace": 9, "=bob": 0 + 0.5 + 1 + 1.5, "eve": 0}),
    "mine.py": (EXAMPLES["mine.py"] + "POINTS = {'penalized': 2, 'policy-reward': 1}\n", {"ada lovelace": 3, "=bob": 1, "eve": 0}),
    "named.py": (
        "from tabular_rlhf.grading.sheet import Item\nPOINTS = {'regret': Item(2, form=1, hidden=True), 'prove-k3': 3}\n",
        {"ada lovelace": 5, "=bob": 1 + 1.5, "eve": 0},
    ),
}


def hand_in(folder: Path, slugs: list[str]) -> None:
    for name, answers in KINDS.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "hw.py").write_text("import numpy as np\n" + "\n".join(answers[slug] for slug in slugs if slug in answers))
    cell = {
        "cell_type": "code",
        "source": "import numpy as np\n" + "\n".join(RIGHT[slug] for slug in slugs if slug in RIGHT),
        "outputs": [],
    }
    (folder / "grace.ipynb").write_text(json.dumps({"nbformat": 4, "cells": [cell]}))
    (folder / "zoe.zip").write_bytes(b"no archive")


@pytest.mark.parametrize("name", COURSES)
def test_a_course_is_graded_end_to_end(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, points = COURSES[name]
    (tmp_path / name).write_text(text)
    sheet = read_sheet(tmp_path / name)
    hand_in(tmp_path / "class", list(sheet.items))
    students = roster([str(tmp_path / "class")], each=True)
    journal, counts = tmp_path / "journal.jsonl", list[int]()

    def graded() -> list[Graded]:
        counts.clear()
        return grade_class(students, tmp_path / name, QUICK, journal=journal, place=ALONE, on_done=lambda n, _: counts.append(n))

    found = graded()
    whole = sum(sheet.points.values())
    got = {one.student.name: one.points for one in found}
    assert got == pytest.approx(points | {"grace": whole, "zoe": 0})
    assert "zip that opens" in found[-1].fault
    page, pages = as_page(found, sheet), page_names(found)
    assert not [word for word in ("ada", "bob", "eve", "grace", "script") if word in page.split("</style>")[1]]
    assert "4 submissions; 1 submission could not be read" in page
    lines = list(csv.DictReader(as_csv(found, sheet, pages).splitlines()))
    assert [line["student"] for line in lines] == [harmless(one.student.name) for one in found]
    assert [float(line["points"]) for line in lines] == pytest.approx([one.points for one in found])
    for one in found[:-1]:
        shown = [row for row in one.rows.values() if row.get("counterexample") and row["status"] != "right"]
        assert one.page.count("The smallest world found on which it fails") == len(shown)
    half = next(one for one in found if one.student.name == "=bob")
    assert "The smallest world found on which it fails" in half.page
    # what is done is not done again, and an interruption anywhere costs only what was not written
    told = journal.read_bytes()
    assert told.count(b"\n") == 4
    assert as_csv(graded(), sheet) == as_csv(found, sheet)
    assert counts == [5]
    journal.write_bytes(told[: told.rindex(b"\n", 0, -1) + 9])
    assert [one.report and one.points for one in graded()] == [one.report and one.points for one in found]
    assert counts == [4, 1]
    (tmp_path / "class" / "eve" / "hw.py").write_text("import numpy as np\n")
    assert [one.points for one in graded()] == [one.points for one in found]
    assert counts == [4, 1]


def test_several_processes_grade_as_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.py").write_text(COURSES["mine.py"][0])
    hand_in(tmp_path / "class", ["penalized", "policy-reward"])
    words = ["grade", str(tmp_path / "class" / "*"), "--exercises", str(tmp_path / "mine.py"), "--seconds", "0.5", "--json"]
    told = []
    for jobs in ("1", "2"):
        assert main([*words, "--jobs", jobs, "--page", str(tmp_path / jobs), "--csv", str(tmp_path / f"{jobs}.csv")]) == 1
        told.append(json.loads(capsys.readouterr().out))
    assert told[0]["schema"] == "tabular-rlhf/class/1"
    assert told[0]["items"] == told[1]["items"]
    assert told[0]["students"] == told[1]["students"]
    assert (tmp_path / "1.csv").read_bytes() == (tmp_path / "2.csv").read_bytes()
    assert {path.name for path in (tmp_path / "2").iterdir()} == {"class.html", "journal.jsonl", "students"}
    assert (tmp_path / "2" / "students" / "bob.html").exists()
    assert main([*words, "--html", str(tmp_path / "a.html")]) == 2
    assert "of one submission" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------------- who is who

PARTS = st.sampled_from(("a", "b", "hw", "A", "ä b"))
FILES = st.sampled_from(("hw.py", "a.py", "hw.ipynb", "b.py"))


@settings(max_examples=40)
@given(st.sets(st.tuples(PARTS, FILES).map("/".join) | FILES, min_size=1, max_size=8))
def test_every_student_is_named_once_and_a_zip_of_a_class_is_its_folder(inside: set[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "class")
        with zipfile.ZipFile(Path(folder, "class.zip"), "w") as archive:
            for inner in sorted(inside):
                path = root / inner
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"# {inner}")
                archive.writestr(f"class/{inner}", f"# {inner}")
        for students in (roster([str(path) for path in root.rglob("*.*")]), roster([str(root)], each=True)):
            names = [one.name for one in students]
            assert len({name.casefold() for name in names}) == len(names)
            pages = page_names([Graded(one) for one in students])
            assert len({page.casefold() for page in pages.values()}) == len(names)
            assert all(re.fullmatch(r"[\w.-]+\.html", page) for page in pages.values())
        if len({inner.split("/")[0] for inner in inside}) > 1:
            zipped = roster([str(Path(folder, "class.zip"))], each=True)
            plain = roster([str(root)], each=True)
            assert sorted(one.name for one in zipped) == sorted(one.name for one in plain)
            read = {one.name: sorted(one.read().files.values()) for one in zipped}
            assert read == {one.name: sorted(one.read().files.values()) for one in plain}


@given(st.sets(st.text("aAb _/=.<é", min_size=1, max_size=4), max_size=12))
def test_every_page_has_a_file_of_its_own_on_any_system(names: set[str]) -> None:
    pages = page_names([Graded(Student(name, Path(name))) for name in sorted(names)])
    assert len({page.casefold() for page in pages.values()}) == len(names)
    assert all(re.fullmatch(r"\w[\w.-]*\.html", page) for page in pages.values())


@pytest.mark.parametrize(
    ("words", "must"),
    [
        (["{d}/no*.py"], "a pattern must fit"),
        (["{d}", "--each"], "a class must hold"),
        (["{d}/a.txt", "--each"], "a class must be a folder"),
    ],
)
def test_what_is_no_class_is_refused(words: list[str], must: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.txt").write_text("")
    assert main(["grade", *(w.format(d=tmp_path) for w in words)]) == 2
    assert must in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------------- sheets


@pytest.mark.parametrize(
    ("name", "text", "must"),
    [
        ("s.toml", "points", "a sheet must be TOML"),
        ("s.toml", "", "there must be exercises to grade"),
        ("s.toml", "[points]\nregert = 1", r"POINTS must name exercises: .*did you mean regret\?"),
        ("s.toml", "[point]\nregret = 1", "known tables: .*got point"),
        ("s.toml", "[points]\nregret = { point = 1 }", "an item must be told in known words: .*regret: got point"),
        ("s.toml", "[points]\nregret = { points = 1, form = 2 }", "points for the form must be some of the points: .*regret"),
        ("s.toml", "[points]\nregret = { points = 1, hidden = 2 }", "must be true or false"),
        ("s.toml", "[points]\nregret = true", "points must be positive: .*regret: got True"),
        ("s.toml", "[points]\nregret = 1\n[free]\nregret = 'ddof'", "must be a list of conventions"),
        ("s.toml", "[points]\nregret = 1\n[free]\nregret = ['sign of gamma']", "must change the answer: .*regret.*: got gamma has"),
        ("s.toml", "[points]\nregret = 1\n[free]\nregret = ['ddof']", "must change the answer: .*regret.*: got std divides by n - 1"),
        (
            "s.toml",
            "[points]\ntoken-policy = 1\n[free]\ntoken-policy = ['ddof']",
            "must be about its parameters: .*token-policy: got std divides by",
        ),
        ("s.toml", "[points]\nregret = 1\n[free]\nregert = ['ddof']", "must be told of an exercise"),
        ("s.toml", "[points]\nprove-k3 = 1\n[free]\nprove-k3 = ['all']", "what is free must be a convention"),
        ("s.py", EXAMPLES["mine.py"].replace("beta, log_p,", "bata, log_p,"), r"names of symbols: .*bata \(did you mean .*beta"),
        ("s.py", EXAMPLES["mine.py"].replace("\nexercise(", "\n1 / 0\nexercise("), "must import: .*ZeroDivisionError"),
    ],
)
def test_a_sheet_at_fault_is_refused_with_the_place_and_leaves_nothing_behind(name: str, text: str, must: str, tmp_path: Path) -> None:
    before = [dict(table) for table in (EXERCISES, PROOFS, SYMBOLS)]
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=must):
        read_sheet(tmp_path / name)
    assert before[1:] == [PROOFS, SYMBOLS]
    assert {slug for slug, e in EXERCISES.items() if before[0].get(slug) is not e} <= {"regret"}


def test_a_file_is_run_once_and_a_changed_one_anew(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(EXAMPLES["mine.py"])
    assert read_sheet(path).points == {"penalized": 1.0}
    first = EXERCISES["penalized"]
    assert read_sheet(path).points == {"penalized": 1.0}
    assert EXERCISES["penalized"] is first
    path.write_text(EXAMPLES["mine.py"] + "FREE = {'regret': ('sign of beta',)}\nPOINTS = {'regret': 2}")
    before = EXERCISES["regret"]
    assert read_sheet(path).points == {"regret": 2.0}
    assert EXERCISES["penalized"] is not first
    assert EXERCISES["regret"].conventions == ("sign of beta",)
    path.write_text("POINTS = {'regret': 2}")
    read_sheet(path)
    assert "penalized" not in EXERCISES
    assert "penalty" not in SYMBOLS
    assert EXERCISES["regret"] is before


def faulty(**changes: Any) -> list[str]:
    """What is found wrong with an exercise that is right but for a change, part by part."""
    EXERCISES["changed"] = replace(EXERCISES["policy-reward"], slug="changed", **changes)
    return [finding.part for finding in examine("changed") if not finding.ok]


def test_every_fault_of_an_exercise_is_found() -> None:
    e = EXERCISES["policy-reward"]
    assert faulty() == []
    assert faulty(answer=lambda log_p, log_p_ref: np.nan * (log_p - log_p_ref)) == ["answer"]
    assert faulty(answer=lambda log_p: log_p[0, 99]) == ["answer"]
    assert faulty(answer=lambda log_p, solution: solution.log_p, without=("solution",)) == ["answer"]
    assert faulty(misses={**e.misses, "none": e.answer}) == ["mistake: none"]
    assert faulty(misses={**e.misses, "none": lambda r: r["no"]}) == ["mistake: none"]
    assert faulty(also={"the same": lambda beta, log_p, log_p_ref: beta * (log_p - log_p_ref)}) == ["convention: the same"]
    assert faulty(also={"an error": lambda beta: np.nan * beta}) == ["answer"]
    wrong = {"the other sign": lambda beta, log_p, log_p_ref: -beta * (log_p - log_p_ref)}
    assert faulty(misses={**e.misses, **wrong}, conventions=("sign of beta",)) == [
        "mistake: the ratio inverted: sign flipped",
        "mistake: the other sign",
    ]
    assert faulty(where=lambda N: N > 10**6) == ["answer"]
    proof = PROOFS["changed-proof"] = replace(PROOFS["prove-k3"], slug="changed-proof")
    assert [f.ok for f in examine("changed-proof")] == [True]
    for fault in ({"end": "KL(p_ref, p)"}, {"fewest": 9}, {"without": ("p",)}, {"solution": "p\n = 2*p"}, {"relation": ">=", "end": "0"}):
        PROOFS["changed-proof"] = replace(proof, **fault)  # type: ignore[arg-type]
        assert [f.ok for f in examine("changed-proof")] == [False], fault


@pytest.mark.parametrize("slug", [*list(EXERCISES)[::16], *PROOFS])
def test_the_course_is_well(slug: str) -> None:
    assert [f for f in examine(slug) if not f.ok] == []


def test_a_sheet_is_tried_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.py").write_text(EXAMPLES["mine.py"])
    assert main(["exercises", "--check", str(tmp_path / "mine.py")]) == 0
    told = capsys.readouterr().out
    assert "✓ convention: penalty has the other sign: right on" in told
    assert "all is well" in told
    (tmp_path / "mine.py").write_text(
        EXAMPLES["mine.py"].replace("lambda r, beta,", "lambda r, penalty,").replace("r - beta *", "r + penalty *")
    )
    assert main(["exercises", "--check", str(tmp_path / "mine.py"), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert not found["holds"]
    assert [f["part"] for f in found["exercises"][0]["findings"] if not f["ok"]] == ["mistake: beta for the penalty"]
    assert main(["exercises", "regret", "--check", str(tmp_path / "mine.py")]) == 2


# ---------------------------------------------------------------------------------------------------- conventions

CONVENTIONS: dict[str, tuple[Any, tuple[str, ...], int]] = {
    "a function": (lambda beta, r: r - beta, ("sign of beta",), 2),
    "a function, two at once": (lambda beta, r, value: r - beta + value[:, None], ("sign of beta", "value -> 0"), 4),
    "by keyword": (lambda r, *, beta: r - beta, ("sign of beta",), 2),
    "a formula": (printed(r"r - \beta"), ("sign of beta", "beta -> 0"), 4),
    "ddof": (printed("std(r)", {"r": "rewards"}), ("ddof",), 2),
}


@pytest.mark.parametrize("name", CONVENTIONS)
def test_each_choice_is_right_and_no_mixture_of_two(name: str) -> None:
    """A choice holds on all worlds: an answer that changes its mind with beta is wrong, whatever it changes it to."""
    answer, free, count = CONVENTIONS[name]
    e = replace(EXERCISES["policy-reward"], answer=answer, conventions=free, forbidden="refused", free="", misses=MISSES)
    question = of_exercise(e)
    asked = [answer, *(other.answer for other in others(answer, {}, free, {}, {}))]
    assert len(asked) == count
    value = [np.asarray(Scope(rational(), 1).call(one)) for one in asked]
    for k, one in enumerate(asked):
        report = judge(question, one)
        assert report.ok, report
        first = next(j for j in range(k + 1) if np.allclose(value[j], value[k]))  # two choices may say the same
        assert [note for note in report.notes if "convention" in note] == [f"its convention: {e.others[first - 1].words}"] * (first > 0)
    if not hasattr(answer, "side"):
        mixed = Mixed(asked[0], asked[1])
        assert judge(question, mixed).status == "wrong"
    assert not judge(of_exercise(replace(e, conventions=())), asked[1]).ok


SIGNED = [replace(e, conventions=("sign of beta",)) for e in EXERCISES.values() if {"beta", "log_p"} <= set(parameters(e.answer))]
FREE = [
    *((e, words, k) for e in EXERCISES.values() for words in e.under for k in range(len(e.misses))),
    *((e, "beta has the other sign", k) for k, e in enumerate(SIGNED)),
]
"""An exercise, a choice that it leaves, and the number of one of its slips."""


@pytest.mark.parametrize(("e", "words", "number"), FREE, ids=lambda x: getattr(x, "slug", str(x)))
def test_a_slip_is_known_beside_any_choice(e: Exercise, words: str, number: int) -> None:
    """A wrong answer is told as what it is in its own convention: not as two mistakes, nor as none, because the default is another."""
    other = next(other for other in e.others if other.words == words)
    assert list(other.misses) == list(e.misses)
    slip, miss = list(other.misses.items())[number % len(e.misses)]
    question = of_exercise(e)
    report = judge(question, miss)
    itself = judge(replace(question, others=()), e.misses[slip])
    assert itself.diagnosis == slip
    if report.ok:  # the slip is what another choice makes of the answer
        assert any("its convention" in note for note in report.notes) or judge(replace(question, others=()), miss).ok
        return
    assert report.diagnosis == slip
    by_default = judge(replace(question, others=()), miss)
    assert (f"told by the nearest convention: {words}" in report.notes) == (by_default.diagnosis not in e.misses)


def test_a_mistake_that_nobody_knows_is_shown_beside_the_nearest_answer() -> None:
    e = replace(EXERCISES["policy-reward"], conventions=("sign of beta",))
    question = replace(of_exercise(e), most=24)  # few worlds, and no mistakes in pairs
    report = judge(question, lambda beta, log_p, log_p_ref: 1e-3 * beta * log_p**2 - beta * (log_p - log_p_ref))
    assert report.status == "wrong"
    assert "told by the nearest convention: beta has the other sign" in report.notes


MISSES: dict[str, Callable[..., Any]] = {"a": lambda r: r * np.pi, "b": lambda r: r * 7, "c": lambda r: r * 9}


class Mixed:
    """One answer where beta is small, and another elsewhere."""

    def __init__(self, one: Callable[..., Any], other: Callable[..., Any]) -> None:
        self.both = one, other

    def __call__(self, beta: float, r: Any, value: Any) -> Any:
        scope = {"beta": beta, "r": r, "value": value}
        return supplied(self.both[beta > 1.0], scope.__getitem__)

    @property
    def __signature__(self) -> Any:
        return inspect.signature(lambda beta, r, value: None)


# ---------------------------------------------------------------------------------------------------- other graders


@given(st.lists(st.tuples(st.floats(0.5, 8), st.floats(0, 1), st.booleans(), st.sampled_from([*FORMED, "raises", "unanswered", "shape"]))))
def test_gradescope_gets_every_point_and_no_hidden_mark_is_seen(marks: list[tuple[float, float, bool, str]]) -> None:
    items = {f"e-{k}": Item(points, form * points, hidden) for k, (points, form, hidden, _) in enumerate(marks)}
    made = []
    for (slug, item), (*_, status) in zip(items.items(), marks, strict=True):
        share = item.share(status, 1.0 if status == "right" else 0.25 if status in ("wrong", "shape") else 0.0)
        assert 0.0 <= share <= 1.0 + 1e-12
        assert (status == "right") <= (abs(share - 1.0) < 1e-12)
        made.append(Mark(slug, share * item.points, item.points, status))
    found = results(Grades("a", "0", (), (), tuple(made), (), Limits()), Sheet(items, ""))
    tests = found["tests"]
    assert sum(t["score"] for t in tests) == pytest.approx(sum(m.points for m in made))
    assert sum(t["max_score"] for t in tests) == pytest.approx(sum(m.out_of for m in made))
    for t in tests:
        slug, form = t["name"].removesuffix(": form"), t["name"].endswith(": form")
        assert t["visibility"] == ("after_published" if items[slug].hidden and not form else "visible")
        assert t["status"] == ("passed" if t["score"] == t["max_score"] else "failed")


def test_the_readmes_autograder_writes_results(tmp_path: Path) -> None:
    for folder in ("submission", "source", "results"):
        (tmp_path / folder).mkdir()
    (tmp_path / "submission" / "hw.py").write_text("import numpy as np\n" + "\n".join(HALF.values()))
    (tmp_path / "source" / "sheet.toml").write_text(EXAMPLES["sheet.toml"])
    words = shlex.split(EXAMPLES["run_autograder"].replace("/autograder", str(tmp_path)).split("||")[0])
    assert words.pop(0) == "tabular-rlhf"
    assert main(words) == 1
    tests = json.loads((tmp_path / "results" / "results.json").read_text())["tests"]
    assert [(t["name"], t["score"], t["max_score"], t["visibility"]) for t in tests] == [
        ("regret", 0, 3, "visible"),
        ("best-value: form", 0.5, 0.5, "visible"),
        ("best-value", 0, 1.5, "visible"),
        ("prove-k3: form", 1, 1, "visible"),
        ("prove-k3", 1.5, 3, "after_published"),
    ]
    assert "The smallest world found on which it fails" in tests[0]["output"]


def regret_of(kind: dict[str, str]) -> Callable[..., Any]:
    told: dict[str, Any] = {}
    exec(kind["regret"], told)
    return told["regret"]  # type: ignore[no-any-return]


def test_the_readmes_otter_file_gives_the_visible_and_the_hidden_points(monkeypatch: pytest.MonkeyPatch) -> None:
    cases: list[tuple[dict[str, Any], Callable[..., None]]] = []
    otter: Any = ModuleType("otter.test_files")
    otter.test_case = lambda **options: lambda f: cases.append((options, f)) or f
    monkeypatch.setitem(sys.modules, "otter", ModuleType("otter"))
    monkeypatch.setitem(sys.modules, "otter.test_files", otter)
    told: dict[str, Any] = {}
    exec(EXAMPLES["q1.py"], told)
    assert sum(options["points"] for options, _ in cases) == told["points"]
    for kind, passed in ((RIGHT, [True, True]), (HALF, [True, False]), (HOSTILE, [False, False])):
        assert [passes(lambda f=f, kind=kind: f(regret_of(kind))) for _, f in cases] == passed
    assert [options["hidden"] for options, _ in cases] == [False, True]


def test_the_readmes_nbgrader_cell_passes_and_fails() -> None:
    cell = compile(EXAMPLES["nbgrader"], "cell", "exec")
    for kind, passed in ((RIGHT, True), (HALF, False), (HOSTILE, False)):
        assert passes(lambda kind=kind: exec(cell, {"regret": regret_of(kind)})) == passed


def passes(run: Callable[[], Any]) -> bool:
    try:
        run()
    except AssertionError:
        return False
    return True
