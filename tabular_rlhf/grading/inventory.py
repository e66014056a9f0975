"""What a submission defines, read without running it: the names of its functions and what it imports (see `reading`).

A hostile text can exhaust, or crash, even a parser, so the reading happens in a contained process, another one after each that broke.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tabular_rlhf.grading.process import Limits
from tabular_rlhf.grading.remote import Child, RemoteError, one_line


@dataclass(frozen=True)
class Inventory:
    """Of one file.  names: defined on its first level.  imports: modules, wherever.  fault, line, place: why it is no Python, or a part."""

    names: frozenset[str]
    imports: tuple[str, ...]
    fault: str | None = None
    line: int | None = None
    place: str = ""


def take(files: Mapping[str, bytes], wanted: Iterable[str], limits: Limits, without: Iterable[str] = ()) -> dict[str, Inventory]:
    """What each file defines and imports; of a notebook, what the functions in `wanted` need counts as imported.

    >>> take({"a.py": b"import numpy as np\\ndef regret(p): return p"}, ["regret"], Limits())["a.py"].imports
    ('numpy',)
    """
    found: dict[str, Inventory] = {}
    child = None
    try:
        for name in files:
            if child is None or child.fault is not None:
                child = Child(files, limits, without=without)
            try:
                found[name] = _checked(child.read(name, wanted))
            except (RemoteError, TypeError, ValueError) as e:
                told = f": {e}" if isinstance(e, RemoteError) and e.kind not in ("crashed", "stopped") else ""
                found[name] = Inventory(frozenset(), (), f"it cannot be parsed: the parser gave up{told}")
                child.close()
                child = None
    finally:
        if child is not None:
            child.close()
    return found


def _checked(told: Any) -> Inventory:
    """What came, if it is what `reading.read` returns: a parser that was taken over may say anything."""
    names, imports, fault, line, place = told
    if not all(isinstance(word, str) for word in (*names, *imports, place, fault or "")) or not isinstance(line, int | None):
        raise TypeError("something else than names")
    return Inventory(frozenset(names), tuple(map(one_line, imports)), fault and one_line(fault), line, one_line(place))
