"""How numbers are told: in the text and the tables of every report, and in JSON.

Text has a dash where there is no number, no minus before a zero, and `inf` and `nan` as they are.  JSON has neither: both are strings,
"inf", "-inf" and "nan", and null means that there is none.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tabular_rlhf.layout import table

Column = str | tuple[str, Callable[[Any], Any], str]
LEAST, FULL = 6, 17
"""Significant digits that numbers are printed with: so many by default, and so many at most, when no two floats look alike."""
ROUNDED, SOLVED = 2.0**-50, 1e-13
"""What is left of 0 as a share of the numbers that it is the difference of: after a few roundings, and after a solve."""


def number(value: float | None, spec: str = f".{LEAST}g") -> str:
    """A plain number; a dash where there is none.

    >>> number(-0.0), number(None), number(1 / 3), number(-1e-9, ".2f"), number(1234, ",.0f")
    ('0', '-', '0.333333', '0.00', '1,234')
    """
    if value is None:
        return "-"
    shown = format(float(value), spec)
    return shown.lstrip("-") if float(shown.replace(",", "")) == 0 else shown


def tabled(title: str, records: Iterable[Any], columns: Sequence[Column], **how: Any) -> str:
    """A table with a row a record.

    Args: columns, each "heading=key:format" of a number, "heading=key" of words, which stand to the left (the heading may be left out where
    it is the key), or (heading, function of a record, format); how, as for `table`.

    >>> print(tabled("T", [{"name": "k1", "x": 1.25}], ["=name", "x:.1f", ("2 x", lambda r: 2 * r["x"], "g")]))
    T
            x  2 x
      k1  1.2  2.5
    """
    parsed = [_column(c) if isinstance(c, str) else c for c in columns]
    rows = [[number(of(r), spec) if spec else str(of(r)) for _, of, spec in parsed] for r in records]
    return table(title, [heading for heading, *_ in parsed], rows, [k for k, (*_, spec) in enumerate(parsed) if not spec], **how)


def _column(said: str) -> tuple[str, Callable[[Any], Any], str]:
    what, _, spec = said.partition(":")
    heading, named, key = what.rpartition("=")
    return heading if named else key, lambda r: r[key] if isinstance(r, Mapping) else getattr(r, key), spec


def settled(x: float, size: float = 1.0, share: float = SOLVED) -> float:
    """`x`, or 0 where it is no more than what is left of 0 among numbers of that size.

    >>> settled(1e-14), settled(1e-12), settled(1e-12, 1e3)
    (0.0, 1e-12, 0.0)
    """
    return 0.0 if abs(x) <= share * size else x


def apart(one: Sequence[float], other: Sequence[float]) -> str:
    """A way to print two lists of numbers in which entries that differ look different; differences far smaller than the largest may not.

    >>> apart([0.25, 1.0], [0.5, 1.0 + 1e-16]), apart([0.25], [0.25 + 3e-8])
    ('.6g', '.8g')
    """
    gaps = _gaps(one, other)
    most = max((g for g in gaps if math.isfinite(g)), default=0.0)
    told = [(a, b) for a, b, g in zip(one, other, gaps, strict=True) if g > 0.01 * most or math.isnan(g)]
    specs = (f".{digits}g" for digits in range(LEAST, FULL + 1))
    return next((s for s in specs if all(number(a, s) != number(b, s) for a, b in told if a == a or b == b)), f".{FULL}g")


def differing(one: Sequence[float], other: Sequence[float], most: int) -> list[int]:
    """Places of at most so many entries to show, in order: those that differ come before those that do not.

    >>> differing([0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 2.0], 2)
    [0, 3]
    """
    gaps = _gaps(one, other)
    return sorted(sorted(range(len(gaps)), key=lambda i: math.inf if math.isnan(gaps[i]) else gaps[i], reverse=True)[:most])


def _gaps(one: Sequence[float], other: Sequence[float]) -> list[float]:
    return [abs(a - b) if a != b else 0.0 for a, b in zip(one, other, strict=True)]


def as_csv(rows: Iterable[Iterable[Any]]) -> str:
    """Rows as CSV; what is no text is written as it is printed, None as nothing.

    >>> as_csv([["name", "x"], ["k1, k2", 0.5]])
    'name,x\\n"k1, k2",0.5\\n'
    """
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()


def in_words(found: Any) -> Any:
    """A record of plain values in which an infinity or a nan is a string.

    >>> in_words({"exact": [1.0, float("-inf")], "z": None})
    {'exact': [1.0, '-inf'], 'z': None}
    """
    if isinstance(found, dict):
        return {k: in_words(v) for k, v in found.items()}
    if isinstance(found, list | tuple):
        return [in_words(v) for v in found]
    return str(found) if isinstance(found, float) and not math.isfinite(found) else found


def parts(thing: Any, *names: str) -> dict[str, Any]:
    """Attributes by name.

    >>> parts(3 + 4j, "real", "imag")
    {'real': 3.0, 'imag': 4.0}
    """
    return {name: getattr(thing, name) for name in names}


def as_json(found: Any, *, indent: int | None = None, tight: bool = False, ascii_only: bool = False) -> str:
    """JSON of plain values; tight: without spaces.

    >>> as_json({"x": (1.5, float("nan"))}, tight=True)
    '{"x":[1.5,"nan"]}'
    """
    separators = (",", ":") if tight else None
    return json.dumps(in_words(found), indent=indent, ensure_ascii=ascii_only, allow_nan=False, separators=separators)
