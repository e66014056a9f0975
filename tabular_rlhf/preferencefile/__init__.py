r"""A person's own comparisons, in whatever shape they are kept, read and accounted for.

`containers` makes rows of bytes, `roles` says which column plays which part, `SHAPES` is the table of what rows may look like, and
`read_preferences` puts them together.  Every row is used, or listed with a reason; every column that is not read, and every conversion
of what was said into comparisons, is reported.
"""

from __future__ import annotations

import io
import itertools
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tabular_rlhf.errors import InputError
from tabular_rlhf.files import opened
from tabular_rlhf.preferencefile import shapes_lists, shapes_pairs, shapes_sides
from tabular_rlhf.preferencefile.containers import Table, json_lines, table_of
from tabular_rlhf.preferencefile.record import Collector, Fault, Malformed, Preferences, gathered
from tabular_rlhf.preferencefile.roles import Columns, suggestion
from tabular_rlhf.preferencefile.shape import SHAPES, Reader, Shape
from tabular_rlhf.preferencefile.values import as_number

__all__ = ["SHAPES", "Fault", "Malformed", "Preferences", "Shape", "collect", "read_preferences"]

SAMPLE = 1000
"""Rows that are looked at before the shape of a file is decided."""
MUST = "a preference file must compare two responses somewhere"
REMEDY = 'write one JSON object a line: {"prompt": "...", "chosen": "...", "rejected": "..."}'
ORDER = (
    *("trl-explicit", "transcripts", "trl-implicit", "trl-conversational", "winner-loser", "battles", "one-hot", "counts", "strength"),
    *("two-scores", "ranked-list", "choice", "scored-lists", "scored-completions", "trl-unpaired", "scored-rows"),
    *("pairs", "numbers", "table"),
)
"""Shapes in the order in which they are tried."""
assert {*ORDER} == SHAPES.keys(), (shapes_lists, shapes_pairs, shapes_sides)


def read_preferences(path: Path, mapping: Mapping[str, str] | None = None) -> Preferences:
    """Read a file, or standard input if the path is `-`.  Args: mapping, the columns of some roles.

    Raises: InputError if it cannot be read, has no known shape, or holds no usable comparison.
    """
    mapping = {} if mapping is None else mapping
    said = [column for role, column in mapping.items() if not role.endswith("_means")]
    numbered = bool(said) and all(column.isdigit() for column in said)
    with opened(path, "the preference file") as file:
        return _settled(lambda: of_table(table_of(file, numbered), mapping), str(path))


def _settled(read: Any, name: str) -> Preferences:
    """The comparisons, if there are any; refusals say of which file."""
    try:
        found: Preferences = read()
    except InputError as e:
        raise e.at("" if name in e.where or name in e.got else name) from None
    if not len(found.w):
        blank = f"{found.lines} {found.unit}{'s' * (found.lines != 1)}"
        reasons = [*found.faults, *found.idle]
        first = f"{found.unit} {reasons[0].line}: {reasons[0].reason}" if reasons else blank
        raise InputError(MUST, got=first, where=name, remedy=REMEDY)
    return found


def collect(lines: Iterable[bytes], mapping: Mapping[str, str] | None = None) -> Preferences:
    """Comparisons from JSON lines.

    >>> found = collect([b'{"prompt": "hi", "chosen": "hello", "rejected": "what?"}', b"oops"])
    >>> found.responses, found.w.tolist(), found.l.tolist(), [(f.line, f.reason) for f in found.faults]
    (('hello', 'what?'), [0], [1], [(2, 'not JSON: Expecting value at column 1')])
    """
    texts = (line.decode("utf-8", "surrogateescape") for line in lines)
    return of_table(json_lines(texts), {} if mapping is None else mapping)


def parse(data: bytes, mapping: Mapping[str, str] | None = None) -> Preferences:
    """Comparisons from the bytes of a file.

    >>> parse(b"winner,loser\\ntea,coffee\\n").shape
    'winner-loser'
    """
    return _settled(lambda: of_table(table_of(io.BytesIO(data)), {} if mapping is None else mapping), "the data")


def of_table(table: Table, mapping: Mapping[str, str]) -> Preferences:
    """The comparisons of a table of rows.  Raises: InputError where its shape is not known, with a suggestion."""
    head = list(itertools.islice(table.rows, SAMPLE))
    sample = [row for _, row in head if isinstance(row, dict | list)]
    names = table.columns if table.columns is not None else tuple(dict.fromkeys(k for row in sample if isinstance(row, dict) for k in row))
    found = _shape(Columns(names, mapping), sample)
    if found is None and sample:
        raise _unknown(names, sample, mapping)
    shape, reader = found or ("none", Reader(frozenset(), (), lambda number, row, out: None))
    out, faults, blank, lines = Collector(), list[Fault](), 0, 0
    seen: Counter[tuple[str, ...]] = Counter()
    for number, row in itertools.chain(head, table.rows):
        lines += 1
        if row is None:
            blank += 1
            continue
        try:
            _take(reader, number, row, out)
        except Malformed as e:
            faults.append(Fault(number, str(e)))
        if table.columns is None and isinstance(row, dict):
            seen[tuple(row)] += 1
    reader.finish(out)
    ignored = Counter({name: lines - blank for name in table.columns or () if name not in reader.used})
    for keys, n in seen.items():
        ignored.update({k: n for k in keys if k not in reader.used})
    told: dict[str, Any] = {"blank": blank, "lines": lines, "container": table.kind, "shape": shape, "ignored": dict(ignored)}
    return gathered(out, faults, table.unit, reader.notes, **told)


def _take(reader: Reader, number: int, row: Any, out: Collector) -> None:
    if isinstance(row, Malformed):
        raise row
    if isinstance(row, list) and reader.used:
        raise Malformed("not an object but an array")
    reader.take(number, row, out)


def _shape(columns: Columns, sample: list[Any]) -> tuple[str, Reader] | None:
    """The shape whose columns most rows have, the first of them that is tried."""
    found = [(name, reader) for name in ORDER if (reader := SHAPES[name].make(columns, sample)) is not None]
    share = [sum(_has(row, reader) for row in sample) for _, reader in found]
    best = max(share, default=0)
    return found[share.index(best)] if best else None


def _has(row: Any, reader: Reader) -> bool:
    return isinstance(row, list) == (not reader.used) and all(name in row for name in reader.needed)


def _unknown(names: tuple[str, ...], sample: list[Any], mapping: Mapping[str, str]) -> InputError:
    """The refusal of a shape that nobody knows, with what to say about it."""
    rows = [row for row in sample if isinstance(row, dict)]
    if not rows:
        return InputError(MUST, got="arrays, and no objects", remedy=REMEDY)
    told = "" if mapping else suggestion(names, rows)
    tried = (
        f"try {told}"
        if told
        else "say which column is what: --map chosen=COLUMN --map rejected=COLUMN (or winner and loser; a, b and winner)"
    )
    undecided = _undecided(names, rows)
    got = f"columns {', '.join(map(repr, names))}"
    return InputError("the columns of a preference file must be known ones", got=got, remedy=undecided or tried)


def _undecided(names: tuple[str, ...], rows: list[dict[str, Any]]) -> str:
    """What to say where two sides and a verdict are there, but nobody knows what its numbers mean."""
    columns = Columns(names, {})
    sides = columns.sides()
    if sides is None:
        return ""
    numbers = [n for n in names if n not in sides and all(as_number(row.get(n)) is not None for row in rows)]
    column = columns.get("winner") or next(iter(numbers), "")
    values = sorted({str(row.get(column)) for row in rows if as_number(row.get(column)) is not None}, key=float)
    if len(values) < 2:
        return ""
    said = "" if columns.get("winner") else f" --map winner={shlex.quote(column)}"
    if said and "0.5" in values:
        return f"try{said}"
    return f"say what {column!r} means:{said} --map a_means={values[-1]} --map b_means={values[0]}, or the other way round"
