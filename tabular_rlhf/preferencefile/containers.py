"""From bytes to rows: JSON lines, one JSON array or object, CSV (also with tabs or semicolons), parquet; all of them gzipped or piped, too.

What a file is, its first bytes say, not its name.  A row is a dictionary (CSV: of texts), a list, or `Malformed`; None is a blank line.
Rows are made as they are asked for.  A row that cannot be read never takes others with it: a quotation mark that is never closed costs its
own line, and reading goes on with the next one.
"""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from tabular_rlhf.errors import InputError, shown
from tabular_rlhf.files import read_json
from tabular_rlhf.preferencefile.record import Malformed
from tabular_rlhf.preferencefile.roles import SYNONYMS, normal
from tabular_rlhf.preferencefile.values import as_number, kind

LONGEST = 2**30
"""Bytes that one line, or one JSON document, may have."""
CELL = 2**20
"""Characters of a CSV cell; beyond them a quotation mark was never closed."""
HOLDERS = {"data", "rows", "train", "test", "validation", "examples", "records", "comparisons", "battles", "preferences"}
"""Names under which an object keeps all rows."""
Row = dict[str, Any] | list[Any]
Rows = Iterator[tuple[int, Row | Malformed | None]]


@dataclass(frozen=True)
class Table:
    """kind, in words; unit, what the numbers of rows count; columns, where they are known beforehand; rows."""

    kind: str
    unit: str
    columns: tuple[str, ...] | None
    rows: Rows


def table_of(file: BinaryIO, numbered: bool = False) -> Table:
    """The rows of an open file.  Args: numbered, whether columns are told by number, so that a CSV has no line of names.

    >>> table = table_of(io.BytesIO(b"winner,loser\\ntea,coffee\\n"))
    >>> table.kind, list(table.rows)
    ('CSV', [(2, {'winner': 'tea', 'loser': 'coffee'})])
    """
    file = file if isinstance(file, io.BufferedReader) else io.BufferedReader(cast(io.RawIOBase, file))
    with _whole_file(*GZIP):
        start = file.peek(8)[:8]
    if start[:2] == b"\x1f\x8b":
        inner = table_of(io.BufferedReader(gzip.GzipFile(fileobj=file)), numbered)
        return Table(f"gzipped {inner.kind}", inner.unit, inner.columns, _sound(inner.rows))
    if start[:4] == b"PAR1":
        return _parquet(file)
    for mark, what in (
        (b"PK\x03\x04", "a zip or a spreadsheet"),
        (b"BZh", "bzip2"),
        (b"\xfd7zXZ", "xz"),
        (b"\xd0\xcf\x11\xe0", "a spreadsheet"),
    ):
        if start.startswith(mark):
            remedy = "unpack it, or save it as CSV"
            raise InputError("a preference file must be JSON, CSV or parquet, perhaps gzipped", got=what, remedy=remedy)
    texts = _lines(file, "utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8")
    blank, first = _first(texts)
    lines = itertools.chain([""] * blank, [first] if first else [], texts)
    if first.lstrip()[:1] in ("{", "["):
        return _json(blank, first, lines)
    if not first.isprintable() and "\0" in first:
        raise InputError(
            "a preference file must be JSON, CSV or parquet, perhaps gzipped", got="bytes that are no text", remedy="convert it"
        )
    return _csv(blank, first, texts, numbered)


@contextmanager
def _whole_file(kind: str, *faults: type[Exception]) -> Iterator[None]:
    """Faults of reading, said in our own words."""
    try:
        yield
    except faults as e:
        raise InputError(f"a {kind} file must be whole", got=shown(e).split("\n")[0][:200], remedy="fetch it again") from None


GZIP = ("gzipped", EOFError, zlib.error, gzip.BadGzipFile)
"""What a gzipped file that is cut off, or damaged, says."""


def _sound(rows: Rows) -> Rows:
    with _whole_file(*GZIP):
        yield from rows


def _lines(file: BinaryIO, encoding: str) -> Iterator[str]:
    """Lines of text; bytes that are not of the encoding become halves of surrogate pairs, and are refused where they stand."""
    if encoding == "utf-16":
        yield from io.TextIOWrapper(file, encoding, errors="replace", newline="")
        return
    mark = b"\xef\xbb\xbf"
    while line := file.readline(LONGEST):
        yield line.removeprefix(mark).decode("utf-8", "surrogateescape")
        mark = b""


def _first(lines: Iterator[str]) -> tuple[int, str]:
    """How many blank lines there are, and the first other one ("": there is none)."""
    blank = 0
    for line in lines:
        if line.strip():
            return blank, line
        blank += 1
    return blank, ""


def require_text(line: str) -> None:
    """Refuse bytes that were not UTF-8, by their place in the line."""
    if not line.isascii():
        try:
            line.encode("utf-8")
        except UnicodeEncodeError:
            try:
                line.encode("utf-8", "surrogateescape").decode("utf-8")
            except UnicodeDecodeError as e:
                raise Malformed(f"not UTF-8 at byte {e.start + 1}") from None
            except UnicodeEncodeError:
                raise Malformed("half a surrogate pair: not a character") from None


# ---------------------------------------------------------------------------------------------------- JSON


def _json(blank: int, first: str, lines: Iterator[str]) -> Table:
    """JSON lines if the first line is a value of its own and not the whole; else one document; if that is none, lines again."""
    ahead = list(itertools.islice(lines, blank + 1))
    later, second = _first(lines)
    lines = itertools.chain(ahead, [""] * later, [second] if second else [], lines)
    try:
        value = read_json(first)
        if second or (isinstance(value, dict) and not _inner(value)) or value == []:
            return json_lines(lines)
    except ValueError:
        if second.lstrip()[:1] == first.lstrip()[:1] and _whole(second):
            return json_lines(lines)
    kept = list(itertools.islice(lines, 0, None))
    try:
        document = read_json("".join(kept))
    except ValueError as e:
        if first.lstrip()[0] == "{":
            return json_lines(iter(kept))
        where = f"line {e.lineno}, column {e.colno}" if isinstance(e, json.JSONDecodeError) else ""
        raise InputError(
            "a preference file must be JSON that can be read", got=shown(e).split(":")[0], where=where, remedy="mend it"
        ) from None
    return _document(document)


def _whole(line: str) -> bool:
    try:
        read_json(line)
    except ValueError:
        return False
    return True


def _inner(value: dict[str, Any]) -> bool:
    """Whether an object holds the rows (as one list, or as columns) and is not a row itself."""
    lists = [v for v in value.values() if isinstance(v, list)]
    tables = [v for v in lists if v and all(isinstance(row, dict) for row in v)]
    row = any(normal(key) in SYNONYMS["responses"] for key in value)  # lists beside one another, of one prompt
    columns = not row and len(lists) == len(value) > 1 and len({len(v) for v in lists}) == 1
    named = len(tables) == 1 and (len(value) == 1 or bool(HOLDERS & value.keys()))
    return named or (columns and not tables)


def _document(value: Any) -> Table:
    """The rows of one JSON value: an array of them, an object that holds one, or an object of columns."""
    if isinstance(value, dict) and _inner(value):
        tables = [v for v in value.values() if isinstance(v, list) and v and all(isinstance(row, dict) for row in v)]
        value = tables[0] if tables else [dict(zip(value, row, strict=True)) for row in zip(*value.values(), strict=True)]
    rows = value if isinstance(value, list) else [value]
    return Table("a JSON array", "row", None, ((k, _as_row(row)) for k, row in enumerate(rows, 1)))


def json_lines(lines: Iterable[str]) -> Table:
    """One JSON value a line."""
    return Table("JSON lines", "line", None, ((k, _json_line(line)) for k, line in enumerate(lines, 1)))


def _json_line(line: str) -> Row | Malformed | None:
    if not line.strip():
        return None
    try:
        return _as_row(json_value(line))
    except Malformed as e:
        return e


def json_value(line: str) -> Any:
    """The value of one line.  Raises: Malformed, with the reason."""
    require_text(line)
    try:
        value = read_json(line)
        if "\\ud" in line.lower():
            require_text(json.dumps(value, ensure_ascii=False))
        return value
    except json.JSONDecodeError as e:
        raise Malformed(f"not JSON: {e.msg} at column {e.colno}") from None
    except ValueError as e:  # a key told twice, nested too deeply, or an integer of too many digits
        raise Malformed(f"not JSON that can be read: {shown(e).split(';')[0][:60]}") from None


def _as_row(value: Any) -> Row | Malformed:
    return value if isinstance(value, dict | list) else Malformed(f"not an object but {kind(value)}")


# ---------------------------------------------------------------------------------------------------- CSV


class _Remembered:
    """Lines for a CSV reader, with those that it has taken for the present record."""

    def __init__(self, lines: Iterator[str]) -> None:
        self.lines, self.taken = lines, list[str]()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self.lines)
        self.taken.append(line)
        return line


def _records(lines: Iterator[str], delimiter: str, number: int) -> Iterator[tuple[int, list[str] | Malformed]]:
    """Number of the first line, and fields, of every record."""
    csv.field_size_limit(CELL)
    source = _Remembered(lines)
    reader = csv.reader(source, delimiter=delimiter, strict=True)
    while True:
        try:
            fields: list[str] | Malformed = next(reader)
            used = len(source.taken)
            source.taken.clear()
        except StopIteration:
            return
        except csv.Error as e:
            fields, used = Malformed(f"not CSV: {_csv_reason(e)}"), 1
            source = _Remembered(itertools.chain(source.taken[1:], source.lines))
            reader = csv.reader(source, delimiter=delimiter, strict=True)
        yield number, fields
        number += used


def _csv_reason(e: csv.Error) -> str:
    never = "unexpected end of data" in str(e) or "field larger" in str(e)
    return "a quotation mark that is never closed" if never else str(e)


def _csv(blank: int, first: str, lines: Iterator[str], numbered: bool) -> Table:
    delimiter = max(",\t;|", key=first.count) if first else ","
    records = _records(itertools.chain([first] if first else [], lines), delimiter, blank + 1)
    number, head = next(records, (1, []))
    if isinstance(head, Malformed):
        raise InputError(
            "a CSV file must begin with the names of its columns", got=str(head), where=f"line {number}", remedy="mend that line"
        )
    if numbered or all(as_number(cell) is not None for cell in head):
        columns = tuple(str(k) for k in range(1, len(head) + 1))
        records = itertools.chain([(number, head)], records)
    else:
        columns = tuple(cell.strip() for cell in head)
        twice = [name for name in columns if name and columns.count(name) > 1]
        if twice:
            raise InputError("a column must be named once", got=f"{twice[0]!r} twice", where=f"line {number}", remedy="rename one of them")
    return Table("CSV", "line", columns, _csv_rows(blank, records, columns))


def _csv_rows(blank: int, records: Iterator[tuple[int, list[str] | Malformed]], columns: tuple[str, ...]) -> Rows:
    width = len(columns)
    yield from ((k, None) for k in range(1, blank + 1))
    for number, fields in records:
        if isinstance(fields, Malformed):
            yield number, fields
        elif not (line := "".join(fields)).strip():
            yield number, None
        elif len(fields) == width:
            row: dict[str, Any] = dict(zip(columns, fields, strict=True))
            if "" in fields:  # an empty cell says nothing
                row = {name: cell or None for name, cell in row.items()}
            try:
                require_text(line)
                yield number, row
            except Malformed as e:
                yield number, e
        else:
            yield number, Malformed(f"{len(fields)} fields in place of {width}")


# ---------------------------------------------------------------------------------------------------- parquet


def _parquet(file: BinaryIO) -> Table:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        remedy = 'install it with pip install "tabular-rlhf[data]", or save the file as CSV'
        raise InputError("parquet needs the extra `data`", got="no pyarrow", remedy=remedy) from None
    with _whole_file("parquet", pa.ArrowException, OSError, ValueError):
        source = pq.ParquetFile(file if file.seekable() else io.BytesIO(file.read(LONGEST)))
        columns = tuple(source.schema_arrow.names)
    return Table("parquet", "row", columns, _parquet_rows(source, pa.ArrowException))


def _parquet_rows(source: Any, fault: type[Exception]) -> Rows:
    numbers = itertools.count(1)
    with _whole_file("parquet", fault, OSError):
        for batch in source.iter_batches(batch_size=1 << 14):
            for row in batch.to_pylist():
                yield next(numbers), row
