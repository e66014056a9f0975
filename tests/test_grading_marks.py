"""The marks and the reports: one line an answer, the counterexample and the hint, the same each time; and the command."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import tabular_rlhf
from tabular_rlhf.cli import main
from tabular_rlhf.errors import InputError
from tabular_rlhf.exercises import EXERCISES
from tabular_rlhf.grading import Limits
from tabular_rlhf.grading.classroom import fair
from tabular_rlhf.grading.marks import Grades, grade, take
from tabular_rlhf.grading.report import as_html, as_json, as_text
from tabular_rlhf.grading.sheet import read_sheet
from tabular_rlhf.grading.submission import of
from tabular_rlhf.told import in_words
from tests.grading_support import HONEST, QUICK, Verdict, judge

# ---------------------------------------------------------------------------------------------------- one report


def test_what_a_file_defines_is_read_without_running_it(tmp_path: Path) -> None:
    source = f"""
open({str(tmp_path / "run")!r}, "w")
import numpy as np, os.path
from math import exp as tilt
if True:
    def inside(): from secrets import token_hex
else:
    other = lambda x: x
async def later(): pass
class Callable_: pass
a, (b, c.d) = 1, (2, 3)
"""
    found = take({"a.py": source.encode(), "b.py": b"def later(:", "c.py": b"x = 1"}, ["later"], QUICK)
    assert found["a.py"].names == {"np", "os", "tilt", "inside", "other", "later", "Callable_", "a", "b"}
    assert found["a.py"].imports == ("math", "numpy", "os.path", "secrets")
    assert (found["b.py"].fault, found["b.py"].line, found["c.py"].names) == ("SyntaxError: invalid syntax", 1, {"x"})
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="at most 1,000,000 bytes"):
        of("a.py", b"#" * 1_000_001)


def test_marks_come_in_the_order_of_the_exercises_and_add_up() -> None:
    source = f"{HONEST}def wrong_one(x): return x\nnumber = 3\n"
    slugs = {"missing": 1.0, "wrong-one": 2.0, "number": 1.0, "honest": 2.5}
    found = grade(of("a\nb.py", source.encode()), slugs, judge, limits=QUICK)
    assert [(m.slug, m.points, m.out_of, m.status) for m in found.marks] == [
        ("missing", 0.0, 1.0, "unanswered"),
        ("wrong-one", 0.0, 2.0, "wrong"),
        ("number", 0.0, 1.0, "not an answer"),
        ("honest", 2.5, 2.5, "right"),
    ]
    assert (found.points, found.out_of, found.full, found.name) == (2.5, 6.5, False, "a b.py")
    assert re.search(r"^total +2\.5 / 6\.5$", as_text(found), re.MULTILINE)
    again = grade(of("a\nb.py", source.encode()), slugs, judge, limits=QUICK)
    told, once_more = (json.loads(json.dumps(as_json(g, "0"), allow_nan=False)) for g in (found, again))
    digest = hashlib.sha256(source.encode()).hexdigest()
    assert told["submission"] == {"name": "a b.py", "sha256": digest, "read": ["a b.py"], "imports": ["numpy"]}
    assert [row["slug"] for row in told["exercises"]] == ["wrong-one", "number", "honest"]
    assert told["unanswered"] == [{"slug": "missing", "out_of": 1.0, "reason": "no function missing"}]
    for report in (told, once_more):
        assert all(m.pop("seconds") >= 0 for m in report["exercises"])
    assert told == once_more


def test_a_judge_that_fails_on_one_answer_judges_the_others() -> None:
    def fails(slug: str, function: Callable[..., Any]) -> Verdict:
        if slug == "wrong-one":
            raise KeyError("the judge's own mistake")
        return judge(slug, function)

    found = grade(of("a.py", f"{HONEST}def wrong_one(x): return x\n".encode()), {"wrong-one": 1, "honest": 1}, fails, limits=QUICK)
    assert [m.status for m in found.marks] == ["cannot be judged", "right"]
    assert found.points == 1


# ---------------------------------------------------------------------------------------------------- the real judge

MINE = """
from tabular_rlhf.exercises import Exercise, add
for slug in {slugs}:
    add(Exercise(
        slug=slug, chapter=4, notebook="04", title="Mine", statement="Return beta r.", hint="Multiply.", rows=("gibbs-optimum",),
        answer=lambda beta, r: beta * r,
        misses={{"beta dropped": lambda r: r, "sign flipped": lambda beta, r: -beta * r, "1/beta for beta": lambda beta, r: r / beta}},
    ))
"""
CASES = [
    ("def NAME(r, beta): return beta * r", "right"),
    ("def NAME(r): return r", "wrong"),
    ("def NAME(r, beta): r *= beta; return r", "mutates"),
    ("def NAME(*, r, beta): r *= beta; return r", "mutates"),
    ("def NAME(*, r, beta): return beta * r", "right"),
    ("def NAME(r): return lambda n: n * r", "names"),
    ("def NAME(r, beta): return beta * r + np.random.default_rng().normal()", "random"),
    ("def NAME(r, beta): return (beta * r)[0]", "shape"),
    ("def NAME(r, beta): return (beta * r)[..., None]", "shape"),
    ("def NAME(r, beta): return (beta * r).astype(complex)", "shape"),
    ("def NAME(r, beta): return np.nan * r", "nan"),
    ("def NAME(r, beat): return r", "names"),
    ("def NAME(world): return world.beta * world.r", "refused"),
    ("def NAME(r, beta): return None", "unanswered"),
    ("def NAME(r, beta): raise KeyError('<script>')", "raises"),
    ("def NAME(r, beta):\n  while True: pass", "stopped"),
    ("def NAME(r, beta): import os; os._exit(0)", "crashed"),
    ("calls = []\ndef NAME(r, beta):\n  calls.append(1)\n  if len(calls) > 30: import os; os._exit(0)\n  return beta * r", "crashed"),
    ("def NAME(r): return lambda beta: beta * r", "right"),
    ("def NAME(r, beta): return (beta * r).tolist()", "right"),
    ("NAME = np.multiply", "names|right"),
    ("class R:\n  ok = True\n  status = 'right'\ndef NAME(r, beta): return R()", "not an answer"),
]
SLUGS = [f"mine-{k}" for k in range(len(CASES) + 1)]


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grades]:
    """All cases in one submission, and one exercise that it nearly answers."""
    path = tmp_path_factory.mktemp("graded") / "mine.py"
    path.write_text(MINE.format(slugs=SLUGS))
    bodies = "\n".join(body.replace("NAME", f"mine_{k}") for k, (body, _) in enumerate(CASES))
    source = f"import numpy as np\n{bodies}\ndef mine_{len(CASES)}s(r): return r\n"
    try:
        yield grade(of("<b>.py", source.encode()), read_sheet(path).points, fair, limits=Limits(call=0.3, answer=2.0))
    finally:
        for slug in SLUGS:
            EXERCISES.pop(slug, None)


def hint(slug: str) -> str:
    return f"Multiply, in {slug}."


def test_every_way_to_fail_has_its_status(graded: Grades) -> None:
    for (body, status), mark in zip([*CASES, ("", "unanswered")], graded.marks, strict=True):
        assert mark.status in status.split("|"), (body, mark)
        share = 1.0 if mark.status == "right" else 0.5 if "[..., None]" in body else 0.0
        assert (mark.points, mark.out_of) == (share, 1.0), (body, mark)
        assert mark.seconds < 2.5
    assert graded.points == sum(m.points for m in graded.marks)


def test_each_report_holds_the_counterexample_the_diagnosis_the_note_and_the_hint(graded: Grades) -> None:
    told = json.loads(json.dumps(in_words(as_json(graded, "0", hint)), allow_nan=False))
    text, html = as_text(graded, hint), as_html(graded, hint)
    rows = {row["slug"]: row for row in told["exercises"]}
    assert set(rows) == {m.slug for m in graded.answered}
    assert [row["slug"] for row in told["unanswered"]] == ["mine-13", SLUGS[-1]]
    for mark in graded.answered:
        row, judged = rows[mark.slug], mark.report is not None and mark.status != "right"
        assert (row["status"], row["points"]) == (mark.status, mark.points)
        assert (row["hint"] == hint(mark.slug)) == judged
        assert (hint(mark.slug) in text, hint(mark.slug) in html) == (judged, judged), mark
        assert (row["counterexample"] is not None) == (mark.status in ("wrong", "nan", "shape", "raises"))
    assert rows["mine-1"]["diagnosis"] == "beta dropped"
    assert rows["mine-1"]["counterexample"]["responses"] == 1 == len(rows["mine-1"]["counterexample"]["yours"])
    assert rows["mine-10"]["counterexample"]["yours"][0] == "nan"
    for report in (text, html):
        assert "looks like this mistake: beta dropped" in report
        assert report.count("The smallest world found on which it fails") == 6
        assert "where (P, N) is expected: reshape; the numbers are right." in report
        assert "complex128" in report
        assert re.search(rf"unanswered: 2 of {len(SLUGS)}; no function mine_{len(CASES)}: is it mine_{len(CASES)}s\?", report)
        assert SLUGS[-1] not in report, "what is not answered is counted, not listed"


def test_the_page_is_one_file_and_nothing_of_a_stranger_is_markup(graded: Grades) -> None:
    html = as_html(graded, hint)
    opened: list[str] = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            opened.append(tag)
            assert not {"src", "href", "onclick", "onload"} & {name for name, _ in attrs}

    Tags().feed(html)
    assert not {"script", "link", "img", "iframe", "b"} & set(opened)
    assert "&lt;script&gt;" in html
    assert "&lt;b&gt;.py" in html
    assert html.count("<section") == sum(m.report is not None and m.status != "right" for m in graded.answered)
    assert "http" not in html.split("</style>")[1]


# ---------------------------------------------------------------------------------------------------- the command


def test_the_command_grades_what_is_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.py").write_text(
        "import numpy as np\ndef regret(value, J_x): return value - J_x\ndef best_value(*, beta, log_p_ref, r):\n"
        "    return beta * np.log(np.sum(np.exp(log_p_ref + r / beta), axis=1, keepdims=True))\n"
    )
    words = ["grade", str(tmp_path / "a.py"), "--html", str(tmp_path / "a.html"), "--reshape", "0.25"]
    assert main([*words, "--json", "--notebook", "4"]) == 1
    told, there = json.loads(capsys.readouterr().out), sum(e.notebook == "04" for e in EXERCISES.values())
    assert (told["schema"], told["version"], told["points"], told["out_of"]) == (
        "tabular-rlhf/grade/2",
        tabular_rlhf.__version__,
        1.25,
        there,
    )
    assert {row["slug"]: row["status"] for row in told["exercises"]} == {"regret": "right", "best-value": "shape"}
    assert {"files", "signals", "network", "others", "keys"} <= {layer["layer"] for layer in told["containment"]}
    assert f"1.25 of {there} points" in (tmp_path / "a.html").read_text()
    (tmp_path / "e.py").write_text("POINTS = {'regret': 3, 'arc': 1}")
    assert main([*words, "--chapter", "4", "--exercises", str(tmp_path / "e.py")]) == 0
    assert re.search(r"regret +3 / 3 +right", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("exercises", "message"),
    [
        ("1 / 0", "the exercises must import: .*ZeroDivisionError"),
        ("raise SystemExit", "the exercises must import: .*SystemExit"),
        ("import sys; sys.exit(0)", "the exercises must import: .*SystemExit: 0"),
        ("x = 1", "there must be exercises to grade"),
        ("POINTS = {'no-such': 1}", "POINTS must name exercises: .*'no-such'"),
        ("POINTS = {'regret': -1}", "points must be positive: .*regret: got -1"),
        ("POINTS = {'regret': 'many'}", "points must be positive"),
    ],
)
def test_an_instructors_file_is_checked(exercises: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.py").write_text(HONEST)
    (tmp_path / "e.py").write_text(exercises)
    assert main(["grade", str(tmp_path / "a.py"), "--exercises", str(tmp_path / "e.py")]) == 2
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(
    "words",
    [
        ["no-such.py"],
        ["{d}"],
        ["{a}", "--chapter", "99"],
        ["{a}", "--reshape", "2"],
        ["{a}", "--exercises", "no-such.py"],
        ["{a}", "--seconds", "0"],
        ["{a}", "--memory", "1"],
    ],
)
def test_what_cannot_be_graded_is_bad_usage(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.py").write_text(HONEST)
    (tmp_path / "empty").mkdir()
    assert main(["grade", *(w.format(a=tmp_path / "a.py", d=tmp_path / "empty") for w in words)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
