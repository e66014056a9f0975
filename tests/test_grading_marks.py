"""A function in another process, what crosses the pipe, and the marks: one report, the same each time, from a command."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tabular_rlhf
from tabular_rlhf.cli import main
from tabular_rlhf.errors import InputError
from tabular_rlhf.exercises import EXERCISES
from tabular_rlhf.grading import Child, RemoteError
from tabular_rlhf.grading.inventory import take
from tabular_rlhf.grading.marks import grade
from tabular_rlhf.grading.remote import change, one_line, signature_of
from tabular_rlhf.grading.report import as_json, as_text
from tabular_rlhf.grading.submission import of
from tabular_rlhf.grading.wire import LARGEST, Reader, WireError, Writer
from tabular_rlhf.ledger.symbols import parameters
from tests.grading_support import HONEST, QUICK, Verdict, judge

# ---------------------------------------------------------------------------------------------------- functions from afar

REMOTE = """
import numpy as np
calls = []
def tilted(p_ref, r, beta=1.0, *, sign=1):
    weights = p_ref * np.exp(sign * r / beta)
    return weights / np.sum(weights, axis=1, keepdims=True)
def maker(a):
    calls.append(a)
    return lambda b, c=1: a * 10 + b * c
def everything(*args): return args
def writes(x, y):
    y[0] = 7.0
    return x[0]
def counts(x):
    calls.append(x)
    return len(calls)
builtin = np.add
not_a_function = 3
"""


def test_a_remote_function_is_called_like_the_real_one() -> None:
    here: dict[str, Any] = {}
    exec(REMOTE, here)
    p_ref, r = np.array([[0.25, 0.75], [0.5, 0.5]]), np.array([[1.0, -1.0], [0.0, 2.0]])
    with Child(REMOTE.encode()) as child:
        f = child.function("tilted")
        assert parameters(f) == parameters(here["tilted"]) == ("p_ref", "r")
        assert list(inspect.signature(f).parameters) == ["p_ref", "r", "beta", "sign"]
        for args, named in (((p_ref, r), {}), ((p_ref, r, 2), {}), ((p_ref,), {"r": r, "sign": -1})):
            assert np.array_equal(f(*args, **named), here["tilted"](*args, **named))
        with pytest.raises(TypeError, match="missing a required argument"):
            f(p_ref)
        with pytest.raises(RemoteError, match="`r` cannot be used in a graded answer") as e:
            f(p_ref, object())
        assert e.value.kind == "refused"
        g = child.function("maker")(4)
        assert (parameters(g), g(2), g(2, 3)) == (("b",), 42, 46)
        assert child.function("builtin")(1, 2) == 3
        with pytest.raises(RemoteError, match="int in place of a function"):
            child.function("not_a_function")


def test_values_cross_unchanged_with_their_kinds() -> None:
    values = (
        1,
        True,
        2.5,
        float("inf"),
        "text",
        None,
        (1, (2.0, [3])),
        np.float64(0.1),
        np.arange(6).reshape(2, 3),
        np.zeros((0, 3)),
        1 + 2j,
    )
    with Child(REMOTE.encode()) as child:
        back = child.function("everything")(*values)
    assert [type(b) for b in back[:-1]] == [type(v) for v in values[:-1]]
    assert all(np.array_equal(b, v) for b, v in zip(back, values, strict=True) if isinstance(v, np.ndarray | complex | float))
    assert back[6] == values[6]


def test_what_a_function_writes_on_its_arguments_is_seen_here() -> None:
    x, y, locked = np.array([3.0]), np.zeros(2), np.zeros(2)
    locked.flags.writeable = False
    with Child(REMOTE.encode()) as child:
        assert child.function("writes")(x, y) == 3.0
        assert (x.tolist(), y.tolist()) == ([3.0], [7.0, 0.0])
        with pytest.raises(RemoteError, match="read-only"):
            child.function("writes")(x, locked)
    change(
        {0: x, 1: 1.0}, [(5, y), ("0", y), (True, y), ([], y), (1, y), (0, y), (0, np.array(["a"]))]
    )  # what a stranger may claim to have changed
    assert x.tolist() == [3.0]
    change({0: locked}, [(0, y)])
    assert locked.tolist() == [0.0, 0.0]


def test_each_answer_starts_afresh() -> None:
    for _ in range(2):
        with Child(REMOTE.encode()) as child:
            assert child.function("counts")(0) == 1


def test_a_judge_who_loses_patience_ends_the_answer() -> None:
    class Enough(BaseException):
        pass

    def enough(*_: object) -> None:
        raise Enough

    before = signal.signal(signal.SIGALRM, enough)
    try:
        with Child(b"import time\ndef sleeps(x): time.sleep(0.6); return x\n") as child:
            f = child.function("sleeps")
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(Enough):
                f(1.0)
            with pytest.raises(RemoteError, match="stopped before it answered"):
                f(2.0)  # not the answer to the question before
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


# ---------------------------------------------------------------------------------------------------- what crosses


def read(payload: bytes) -> Any:
    reader = Reader(payload)
    return reader.value(reader.message["v"])


def payload(message: Any, data: bytes = b"") -> bytes:
    header = json.dumps(message).encode()
    return len(header).to_bytes(4, "little") + header + data


@pytest.mark.parametrize(
    "node",
    [
        {"a": ["<f8", [2], True, False]},
        {"a": ["<f8", [2**62, 2**62], True, False]},
        {"a": ["<f8", [-1], True, False]},
        {"a": ["<f8", [True], True, False]},
        {"a": ["<f8", [1.0], True, False]},
        {"a": ["<f8", [1] * 33, True, False]},
        {"a": ["<f8", [0] + [2**23] * 20, True, False]},
        {"a": ["|O", [1], True, False]},
        {"a": ["<U9", [1], True, False]},
        {"a": ["f8,f8", [1], True, False]},
        {"a": [["<f8"], [1], True, False]},
        {"a": None},
        {"t": 3},
        {"h": [0, None]},
        {"o": ["TokenMDP", {"t": [2, 1]}]},
        {"t": [], "l": []},
        {},
        [],
        {"t": [[]]},
    ],
    ids=str,
)
def test_a_frame_that_promises_too_much_or_nonsense_is_refused(node: Any) -> None:
    with pytest.raises(WireError):
        read(payload({"v": node}, b"12345678"))


def nested(depth: int) -> Any:
    return {"t": [nested(depth - 1)]} if depth else 1.0


def test_nests_are_refused() -> None:
    assert read(payload({"v": nested(8)})) == ((((((((1.0,),),),),),),),)
    with pytest.raises(WireError, match="nest"):
        read(payload({"v": nested(9)}))
    with pytest.raises(WireError, match="nest"):
        read(payload({"v": {"l": [0.0] * 20_000}}))


@given(st.binary(max_size=64), st.sampled_from([b"", b'{"v": ', b'{"v": {"a": ["<f8", [']))
def test_bytes_at_random_are_read_or_refused(noise: bytes, start: bytes) -> None:
    header = start + noise
    for data in (header, len(header).to_bytes(4, "little") + header):
        with contextlib.suppress(WireError):
            reader = Reader(data)
            reader.value(reader.message.get("v"))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
        lambda s: st.lists(s, max_size=3),
        max_leaves=6,
    )
)
def test_a_value_comes_back_as_it_was_sent(value: Any) -> None:
    writer = Writer()
    frame = writer.frame({"v": writer.node(value)})
    assert int.from_bytes(frame[:8], "little") == len(frame) - 8
    assert repr(read(frame[8:])) == repr(value)


def test_the_largest_frame_is_the_largest() -> None:
    assert Writer().node(np.zeros(LARGEST // 8))
    with pytest.raises(WireError) as e:
        Writer().node(np.zeros(LARGEST // 8 + 1))
    assert e.value.kind == "too large"


@pytest.mark.parametrize(
    "body",
    [
        3,
        [["x"]],
        [["x", 1, False, 0]],
        [["class", 1, False]],
        [["x y", 1, False]],
        [["x", 9, False]],
        [["x", "1 or 2", False]],
        [["x", 1, True], ["y", 1, False]],
        [["x", 1, False], ["x", 1, False]],
        [["x" * 200, 1, False]],
        [["x", 1, False]] * 101,
        [[None, 1, False]],
    ],
    ids=str,
)
def test_impossible_parameters_are_refused(body: Any) -> None:
    with pytest.raises(WireError, match=r"function|parameter"):
        signature_of(body)


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


def test_a_strangers_text_is_one_plain_line() -> None:
    assert one_line("a\r\nb\x1b[31m\u202e\u2028c\ud800") == "a b [31m c"
    assert one_line("x" * 10**6) == "x" * 297 + "..."


# ---------------------------------------------------------------------------------------------------- the command

MINE = """
import numpy as np
from tabular_rlhf.exercises import Exercise, add
from tabular_rlhf.exercises.record import EXERCISES
EXERCISES.pop("mine-{name}", None)
add(Exercise(
    slug="mine-{name}", chapter=4, notebook="04", title="Mine", statement="Return beta r.", hint="Multiply.", rows=("gibbs-optimum",),
    answer=lambda beta, r: beta * r,
    misses={{"beta dropped": lambda r: r, "sign flipped": lambda beta, r: -beta * r, "1/beta for beta": lambda beta, r: r / beta}},
))
"""


@pytest.fixture
def mine(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "mine.py").write_text(MINE.format(name="own"))
    yield tmp_path / "mine.py"
    EXERCISES.pop("mine-own", None)


def test_the_command_grades_with_the_real_judge(mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = tmp_path / "answers.py"
    words = ["grade", str(answers), "--exercises", str(mine)]
    answers.write_text("def mine_own(r, beta):\n    return beta * r\n")
    assert main(words) == 0
    assert re.search(r"mine-own +1 / 1 +right", capsys.readouterr().out)
    answers.write_text("def mine_own(r):\n    return r\n")
    assert main([*words, "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["schema"], told["version"], told["points"], told["out_of"]) == ("tabular-rlhf/grade/2", tabular_rlhf.__version__, 0, 1)
    [row] = told["exercises"]
    assert (row["slug"], row["status"], row["diagnosis"]) == ("mine-own", "wrong", "beta dropped")
    assert {"files", "signals", "network"} <= {layer["layer"] for layer in told["containment"]}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("def mine_own(r, beta): r *= beta; return r", "mutates"),
        ("def mine_own(*, r, beta): r *= beta; return r", "mutates"),
        ("def mine_own(*, r, beta): return beta * r", "right"),
        ("def mine_own(r): return lambda n: n * r", "names"),
        ("def mine_own(r, beta): return beta * r + np.random.default_rng().normal()", "random"),
        ("def mine_own(r, beta): return (beta * r)[0]", "shape"),
        ("def mine_own(r, beta): return np.nan * r", "nan"),
        ("def mine_own(r, beat): return r", "names"),
        ("def mine_own(world): return world.beta * world.r", "refused"),
        ("def mine_own(r, beta): return None", "unanswered"),
        ("def mine_own(r, beta): raise KeyError(3)", "raises"),
        ("def mine_own(r, beta):\n  while True: pass", "stopped"),
        ("def mine_own(r, beta): import os; os._exit(0)", "crashed"),
        (
            "calls = []\ndef mine_own(r, beta):\n  calls.append(1)\n  if len(calls) > 30: import os; os._exit(0)\n  return beta * r",
            "crashed",
        ),
        ("def mine_own(r): return lambda beta: beta * r", "right"),
        ("def mine_own(r, beta): return (beta * r).tolist()", "right"),
        ("mine_own = np.multiply", "names|right"),
        ("class R:\n  ok = True\n  status = 'right'\ndef mine_own(r, beta): return R()", "not an answer"),
    ],
)
def test_every_way_to_fail_has_its_status(body: str, status: str, mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "answers.py").write_text(f"import numpy as np\n{body}\n")
    code = main(["grade", str(tmp_path / "answers.py"), "--exercises", str(mine), "--json"])
    told = json.loads(capsys.readouterr().out)
    [row] = told["exercises"] or [{"status": "unanswered", "points": 0.0} for _ in told["unanswered"]]
    assert row["status"] in status.split("|"), row
    assert (code, row["points"]) == ((0, 1.0) if row["status"] == "right" else (1, 0.0))


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


def test_points_choose_and_weigh(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "e.py").write_text("POINTS = {'regret': 3}")
    (tmp_path / "a.py").write_text("import numpy as np\ndef regret(value, J_x): return value - J_x\n")
    assert main(["grade", str(tmp_path / "a.py"), "--exercises", str(tmp_path / "e.py")]) == 0
    assert re.search(r"regret +3 / 3 +right", capsys.readouterr().out)


@pytest.mark.parametrize(
    "words", [["no-such.py"], ["."], ["{a}", "--exercises", "no-such.py"], ["{a}", "--seconds", "0"], ["{a}", "--memory", "1"]]
)
def test_what_cannot_be_graded_is_bad_usage(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.py").write_text(HONEST)
    assert main(["grade", *(w.format(a=tmp_path / "a.py") for w in words)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
