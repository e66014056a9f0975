"""TOML files with a schema: every key known and of its kind, and every refusal with its line.

A schema is a dictionary of tables, {table: {key: kind}}; the top of the file is the table "".
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from sys import float_info
from typing import Any

from tabular_rlhf.errors import InputError, quoted, shown
from tabular_rlhf.registry import one_of


@dataclass(frozen=True)
class Kind:
    """A type of value: what it is called in messages, and its test."""

    name: str
    holds: Callable[[Any], bool]


def _number(v: Any) -> bool:
    return isinstance(v, int | float) and not isinstance(v, bool) and abs(v) <= float_info.max


def _all(v: Any, kind: type[list[Any]] | type[dict[str, Any]], holds: Callable[[Any], bool]) -> bool:
    return isinstance(v, kind) and all(holds(x) for x in (v.values() if isinstance(v, dict) else v))


TEXT = Kind('a string, such as "text"', lambda v: isinstance(v, str))
NUMBER = Kind("a finite number, such as 0.5", _number)
WHOLE = Kind("a whole number, such as 4", lambda v: isinstance(v, int) and not isinstance(v, bool))
COUNT = Kind("a whole number of at least 1, such as 4", lambda v: WHOLE.holds(v) and v >= 1)
FLAG = Kind("true or false", lambda v: isinstance(v, bool))
TEXTS = Kind('a list of strings, such as ["a", "b"]', lambda v: _all(v, list, TEXT.holds))
DISTINCT = Kind("a list of distinct strings, at least one", lambda v: TEXTS.holds(v) and 0 < len(v) == len(set(v)))
NUMBERS = Kind("a list of numbers, such as [0.5, 0.5]", lambda v: _all(v, list, _number))
WEIGHTS = Kind("a table of numbers, such as { good = 1.0 }", lambda v: _all(v, dict, _number))
TABLE = Kind("a table", lambda v: isinstance(v, dict))
TABLES = Kind("a table of tables, by prompt", lambda v: _all(v, dict, TABLE.holds))
PATTERNS = Kind("a pattern, or a table of patterns and numbers", lambda v: TEXT.holds(v) or WEIGHTS.holds(v))
WORDS = Kind('a list of strings, or "auto"', lambda v: v == "auto" or TEXTS.holds(v))
SEP = Kind('"words" or "characters"', lambda v: v in ("words", "characters"))

Schema = Mapping[str, Mapping[str, Kind]]


# ---------------------------------------------------------------------------------------------------- reading


@dataclass(frozen=True)
class Source:
    """A world file: its text (for line numbers), what to call it in messages, and the folder that its paths start from."""

    text: str
    name: str
    folder: Path

    def place(self, table: str, key: str = "") -> str:
        """Where a key stands: `pets.toml, line 12, [reward] phrases`."""
        line = self.line(table.split(".")[0], key)
        spot = f"[{table}] {key}".strip() if table else key
        return f"{self.name}{f', line {line}' if line else ''}{f', {spot}' if spot else ''}"

    def line(self, table: str, key: str) -> int | None:
        """The first line that seems to set the key, at or below its table's header (which it is for the empty key)."""
        lines = self.text.splitlines()
        header = re.compile(rf"\s*\[?\[\s*{re.escape(table)}\b|\s*{re.escape(table)}\s*[.=]")
        start = next((i for i, line in enumerate(lines) if table and header.match(line)), None)
        if not key:
            return None if start is None else start + 1
        found = re.compile(rf"""(^|[\s\[{{,.])["']?{re.escape(key)}["']?\s*[=.\]]""")
        return next((i + 1 for i, line in enumerate(lines) if i >= (start or 0) and found.search(line)), None)

    @contextmanager
    def locating(self, table: str, key: str = "") -> Iterator[None]:
        """Refusals raised inside say where in the file their cause stands."""
        try:
            yield
        except InputError as e:
            raise e.at(self.place(table, key)) from None

    def parse(self) -> dict[str, Any]:
        """What the file says, as plain values."""
        try:
            return tomllib.loads(self.text)
        except tomllib.TOMLDecodeError as e:
            what, _, spot = str(e).partition(" (at ")
            where = f"{self.name}, {spot.rstrip(')') or 'at its end'}"
            remedy = "check quotes, brackets and = signs on that line"
            raise InputError("a world file must be TOML", got=what, where=where, remedy=remedy) from None
        except (RecursionError, ValueError) as e:  # nested too deeply, or an integer of too many digits
            got = shown(e).split(";")[0]
            raise InputError("a world file must be TOML that can be read", got=got, where=self.name, remedy="shorten it") from None

    def check(self, schema: Schema, table: str, content: Mapping[str, Any]) -> None:
        """Refuse unknown keys, and values of the wrong kind, in one table."""
        known = schema[table]
        for key, value in content.items():
            one_of(known, key, "a world file must use known keys", where=self.place(table, key))
            if not known[key].holds(value):
                raise InputError(
                    f"{key} must be {known[key].name}", got=quoted(value)[:60], where=self.place(table, key), remedy="change it to that"
                )
