"""What an answer is not marked down for, and what it is told: names, the places of parameters, shapes, kinds of arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tabular_rlhf.check import check
from tabular_rlhf.check.calling import MOST_NEAR
from tabular_rlhf.exercises import EXERCISES
from tabular_rlhf.ledger.symbols import SYMBOLS, Scope, parameters, supplied
from tabular_rlhf.world import coin

Function = Callable[..., Any]


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
    several = [slug for slug, e in EXERCISES.items() if len(parameters(e.answer)) > 1]
    for slug in several:
        changed = spelled_out(list(HEADS.values())[k], EXERCISES[slug].answer)
        assert supplied(changed, Scope(coin(), 0).__getitem__) is not None
        if slug in several[k :: 2 * len(HEADS)]:
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
    for slug, without in guarded[::3]:
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
