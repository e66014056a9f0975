"""Laws of how numbers are told: what is printed can be read back, and JSON is JSON."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NoReturn

from hypothesis import example, given
from hypothesis import strategies as st

import tabular_rlhf
from tabular_rlhf.told import apart, as_json, differing, number, settled, tabled

NUMBERS = st.floats()
PLAIN = st.recursive(st.none() | st.booleans() | st.text() | NUMBERS, lambda some: st.lists(some) | st.dictionaries(st.text(), some))
PROTOCOL = {"grading/wire.py", "grading/nursery.py", "simulator/state.py", "preferencefile/containers.py"} | {
    *("preferencefile/reference.py", "preferencefile/values.py", "rollouts/example.py", "rollouts/read.py"),
    *("studies/record.py", "journal.py", "commands/vectors.py"),
}
"""Who writes JSON that is not an answer: between two processes, into a header, of a value that was refused."""


@given(NUMBERS, st.integers(1, 17))
@example(-0.0, 6)
def test_a_number_is_read_back_to_its_digits_and_is_never_minus_zero(x: float, digits: int) -> None:
    shown = number(x, f".{digits}g")
    assert not (shown.startswith("-") and float(shown) == 0.0)
    assert math.isnan(x) == (shown == "nan")
    assert math.isnan(x) or math.isinf(x) or abs(float(shown) - x) <= 0.51 * 10.0 ** (1 - digits) * abs(x) + 1e-323


@given(st.integers(-(10**15), 10**15))
def test_a_count_is_read_back_from_a_column_of_a_table(n: int) -> None:
    header, row = tabled("", [{"name": "k1", "n": n}], ["=name", "how many=n:,.0f"]).splitlines()
    assert header.split() == ["how", "many"]
    assert row.split()[0] == "k1"
    assert int(row.split()[1].replace(",", "")) == n


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1), st.integers(1, 5))
@example([(0.0, 3.0), (0.0, 1.0), (0.0, 2.0)], 1)
def test_what_differs_most_looks_different_and_is_shown(pairs: list[tuple[float, float]], most: int) -> None:
    one, other = map(list, zip(*pairs, strict=True))
    shown = differing(one, other, most)
    assert shown == sorted(set(shown))
    assert len(shown) == min(most, len(pairs))
    gaps = [abs(a - b) for a, b in pairs if a != b and math.isfinite(a - b)]
    if len(gaps) == len(pairs):
        assert max(gaps) in [gaps[i] for i in shown]
    for a, b in pairs:
        if a != b and math.isfinite(a - b) and abs(a - b) == max(gaps):
            assert number(a, apart(one, other)) != number(b, apart(one, other))


@given(NUMBERS.filter(math.isfinite), st.floats(0.0, 1e9))
def test_a_residue_is_zero_and_nothing_else_is_touched(x: float, size: float) -> None:
    assert settled(x, size) in (0.0, x)
    assert settled(2e-13 * size + 1e-300, size) > 0.0


@given(PLAIN)
def test_json_has_no_infinity_and_no_nan(found: Any) -> None:
    def refuse(name: str) -> NoReturn:
        raise AssertionError(name)

    for options in ({}, {"indent": 1}, {"tight": True}, {"ascii_only": True}):
        assert json.loads(as_json(found, **options), parse_constant=refuse) == _words(found)


def _words(x: Any) -> Any:
    if isinstance(x, dict):
        return {k: _words(v) for k, v in x.items()}
    return [*map(_words, x)] if isinstance(x, list) else str(x) if isinstance(x, float) and not math.isfinite(x) else x


def test_every_answer_in_json_is_written_here() -> None:
    room = Path(tabular_rlhf.__file__).parent
    writers = {str(p.relative_to(room)) for p in room.rglob("*.py") if "json.dumps(" in p.read_text()}
    assert writers <= PROTOCOL | {"told.py"}
