"""A function in another process, and what crosses the pipe: values, and nothing that runs."""

from __future__ import annotations

import contextlib
import inspect
import json
import signal
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabular_rlhf.grading import Child, RemoteError, process
from tabular_rlhf.grading.remote import change, one_line, signature_of
from tabular_rlhf.grading.wire import LARGEST, Reader, WireError, Writer
from tabular_rlhf.symbols import parameters
from tests.grading_support import QUICK

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


def test_many_short_rests_are_a_long_one() -> None:
    source = b"import time\ndef rests(x): time.sleep(0.08); return x\n"
    with Child(source, replace(QUICK, still=0.3)) as child:
        rests = child.function("rests")
        with pytest.raises(RemoteError, match=r"it stood still for 0\.3 s"):
            assert [rests(float(k)) for k in range(50)] == []


def test_a_grader_that_was_held_up_does_not_hold_it_against_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """As by a terminal that stops it: much time has passed, and the answer has come meanwhile."""
    source = b"import time\ndef rests(x): time.sleep(0.2); return x\n"
    with Child(source, replace(QUICK, still=0.6)) as child:
        rests, real = child.function("rests"), process.time.monotonic
        started = real()
        monkeypatch.setattr(process.time, "monotonic", lambda: real() + (1000.0 if real() - started > 0.1 else 0.0))
        assert rests(3.0) == 3.0


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


def test_a_strangers_text_is_one_plain_line() -> None:
    assert one_line("a\r\nb\x1b[31m\u202e\u2028c\ud800") == "a b [31m c"
    assert one_line("x" * 10**6) == "x" * 297 + "..."
