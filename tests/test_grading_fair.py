"""What an answer is not marked down for, and what it is told: names, the places of parameters, shapes, kinds of arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tabular_rlhf.check import check
from tabular_rlhf.check.calling import MOST_NEAR, Through
from tabular_rlhf.exercises import EXERCISES
from tabular_rlhf.grading import Child, RemoteError
from tabular_rlhf.grading.classroom import SHARE, fair
from tabular_rlhf.symbols import SYMBOLS, Scope, parameters, supplied
from tabular_rlhf.world import coin
from tests import answers_direct, answers_geometry, answers_gradients, answers_language, answers_selection

Function = Callable[..., Any]
OTHERS = answers_direct.RIGHT | answers_geometry.RIGHT | answers_gradients.RIGHT | answers_language.RIGHT | answers_selection.RIGHT


def spelled_out(head: str, function: Function) -> Any:
    """A function of the same names, its first line written in another way."""
    names = ", ".join(parameters(function))
    return eval(head.format(names=names, first=names.split(", ")[0], rest=", ".join(names.split(", ")[1:])), {"f": function})


HEADS = {
    "all by keyword": "lambda *, {names}: f({names})",
    "the rest by keyword": "lambda {first}, *, {rest}: f({names})",
    "some by place only": "lambda {first}, /, *, {rest}: f({names})",
    "a default by keyword": "lambda {names}, *, scale=1.0: f({names})",
    "a function of a function": "lambda *, {first}: lambda {rest}: f({names})",
}


@pytest.mark.parametrize("k", range(len(HEADS)), ids=list(HEADS))
def test_how_parameters_are_given_is_no_part_of_the_answer(k: int) -> None:
    applies = [slug for slug in OTHERS if EXERCISES[slug].applies(Scope(coin(), 0))]
    several = {slug: f for slug in applies for f in OTHERS[slug] if callable(f) and len(parameters(f)) > 1}
    for slug, answer in several.items():
        changed = spelled_out(list(HEADS.values())[k], answer)
        assert supplied(changed, Scope(coin(), 0).__getitem__) is not None
        if slug in list(several)[k :: 4 * len(HEADS)]:
            assert check(slug, changed).ok, (slug, check(slug, changed))


@pytest.mark.parametrize("names", [["n"], ["s"], ["lambd", "N"], ["foo"], [f"x_{i}" for i in range(40)], list("αβγ")], ids=lambda n: n[0])
@pytest.mark.parametrize("nested", [False, True], ids=["asked", "asked by what it returns"])
def test_an_unknown_name_gets_the_nearest_ones_and_no_wall(names: list[str], nested: bool) -> None:
    inner = f"lambda {', '.join(names)}: 0.0"
    report = check("regret", eval(f"lambda r: {inner}" if nested else inner))
    assert report.status == "names"
    offered = [word for word in report.told.replace("?", " ").replace(")", " ").split() if word in SYMBOLS]
    assert len([w for w in offered if w not in names]) <= MOST_NEAR
    assert len(report.told) < 400
    assert names[0] in report.told
    assert "tabular-rlhf symbols" in report.told
    if names[0] in ("n", "s"):
        assert f"{names[0]} (did you mean {names[0].upper()}" in report.told


def test_no_depth_and_no_mood_of_an_answer_gets_what_would_give_it_away() -> None:
    guarded = [(slug, e.without) for slug, e in EXERCISES.items() if e.without]
    assert guarded
    for slug, without in guarded[::6]:
        for away in (*without, *(["world"] if "solution" in without else [])):
            seen: list[Any] = []
            asks: Any = eval(f"lambda {away}: seen.append({away})", {"seen": seen})
            calls: list[int] = []
            for answer in (asks, lambda r, asks=asks: asks, lambda r, asks=asks: lambda beta: asks):
                assert check(slug, eval("lambda *, beta: answer if False else answer", {"answer": answer})).status == "names"

            def moody(r: Any, calls: list[int] = calls, asks: Any = asks) -> Any:
                calls.append(1)
                return asks if len(calls) > 9 else r * np.nan

            assert not check(slug, eval("lambda r: moody(r)", {"moody": moody})).ok
            assert seen == []


@pytest.mark.parametrize("dtype", ["complex64", "complex128", "object", "datetime64[s]", "<U3"])
def test_an_array_that_is_no_array_of_numbers_is_named_by_its_kind(dtype: str) -> None:
    report = check("regret", lambda r: np.zeros(r.shape[0], dtype=dtype))
    assert report.status == "shape"
    assert f"an array of {dtype}," in report.told


# ---------------------------------------------------------------------------------------------------- shapes

LONG = ("regret", "gibbs-probabilities", "token-policy")
"""Exercises whose answers are (P,), (P, N), (P, S, V)."""
RESHAPED: dict[str, tuple[Function, float]] = {
    "an axis at the end": (lambda v: v[..., None], SHARE),
    "an axis at the start": (lambda v: v[None], SHARE),
    "two axes": (lambda v: v[None, ..., None], SHARE),
    "an axis, and wrong numbers": (lambda v: 1.5 * v[..., None], 0.0),
    "an axis, and nan": (lambda v: np.nan * v[..., None], 0.0),
    "repeated": (lambda v: np.stack([v, v]), 0.0),
    "summed": (lambda v: np.sum(v, axis=-1) if np.ndim(v) else np.array([v, v]), 0.0),
}


@pytest.mark.parametrize("how", RESHAPED)
def test_right_numbers_in_a_shape_that_a_reshape_mends_are_told_and_get_a_share(how: str) -> None:
    change, share = RESHAPED[how]
    for slug in LONG[:1] if share == 0.0 else LONG:
        report = fair(slug, Through(EXERCISES[slug].answer, lambda v: change(np.asarray(v))))
        assert (report.ok, report.status, getattr(report, "share", 0.0)) == (False, "shape", share), (slug, report)
        assert report.json()["status"] == "shape"
        assert ("the numbers are right" in report.told) == (share > 0)
        assert report.told in str(report).replace("\n    ", " ")


def test_what_is_told_of_a_shape_names_both() -> None:
    report = fair("regret", lambda value, J_x: (value - J_x)[:, None])
    assert report.told == "(P, 1) where (P,) is expected: reshape; the numbers are right."
    assert fair("regret", lambda value, J_x: value - J_x).ok
    assert fair("regret", lambda value, J_x: (value - J_x)[:, None], share=0.25).share == 0.25


def test_an_answer_of_the_wrong_shape_gets_nothing_that_would_give_it_away() -> None:
    calls: list[int] = []

    def moody(r: Any) -> Any:  # the shape is wrong until the numbers are looked at
        calls.append(1)
        return (lambda value: value[:, None]) if len(calls) > 60 else np.zeros((len(r), 1))

    assert not getattr(fair("best-value", moody), "share", 0.0)


# ---------------------------------------------------------------------------------------------------- arrays of other libraries

TENSORS = """
import numpy as np
class Tensor:
    def __init__(self, a, grad=True, half=False, away=True): self.a, self.grad, self.half, self.away = a, grad, half, away
    def detach(self): return Tensor(self.a, False, self.half, self.away)
    def cpu(self): return Tensor(self.a, self.grad, self.half, False)
    def double(self): return Tensor(self.a, self.grad, False, self.away)
    def __array__(self, dtype=None, copy=None):
        if self.grad: raise RuntimeError("call detach()")
        if self.half or self.away: raise TypeError("no such type")
        return self.a
class Series:
    def __init__(self, a): self.a = a
    def __array__(self, dtype=None, copy=None): return self.a
def plain(x): return Tensor(x, False, False, False)
def learned(x): return Tensor(x)
def half(x): return Tensor(x, half=True)
def series(x): return Series(x)
def several(x): return [Tensor(x), Series(x)], (Tensor(x, half=True),)
def objects(x): return np.array([x, None], dtype=object)
def words(x): return np.array(["a"])
"""


def test_arrays_of_other_libraries_come_as_plain_numbers() -> None:
    x = np.array([[1.0, 2.0], [3.0, 4.0]])
    with Child(TENSORS.encode()) as child:
        for name in ("plain", "learned", "half", "series"):
            got = child.function(name)(x)
            assert type(got) is np.ndarray
            assert got.dtype == np.float64
            assert np.array_equal(got, x)
        (a, b), (c,) = child.function("several")(x)
        assert all(np.array_equal(got, x) for got in (a, b, c))
        for name, dtype in (("objects", "an array of object"), ("words", "an array of <U1")):
            with pytest.raises(RemoteError, match=dtype) as e:
                child.function(name)(x)
            assert e.value.kind == "not an answer"
