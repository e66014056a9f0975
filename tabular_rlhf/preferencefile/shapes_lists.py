"""Shapes with more than two responses a prompt: scored, ranked or chosen from, in one row or in a row each; labels good and bad; tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tabular_rlhf.errors import InputError
from tabular_rlhf.preferencefile.record import Collector, Fault, Malformed
from tabular_rlhf.preferencefile.roles import SYNONYMS, Columns, normal
from tabular_rlhf.preferencefile.shape import ALL_PAIRS, EQUAL, Extras, Reader, candidate, each_pair, prompt_of, reader, shape
from tabular_rlhf.preferencefile.values import as_number, kind, number_of, text, truth_of

MOST = 5 * 10**6
"""Comparisons that rows of one prompt may become."""
GRADES = (("score", 1.0, "the higher"), ("rank", -1.0, "the lower"))
"""What says how good a response is: the role of its column, the sign by which more is better, and that in words."""
Values = Callable[[Any, list[Any]], list[float | None]]
"""(row, responses) -> how good each response is, None where nobody says."""


def listed(row: Any, column: str) -> list[Any]:
    """The list of a column, of two entries or more."""
    value = row[column]
    if not isinstance(value, list) or len(value) < 2:
        raise Malformed(
            f"{column!r} must be a list of two responses or more, not {kind(value)}{' of one or none' * isinstance(value, list)}"
        )
    return value


def parallel(row: Any, column: str, n: int) -> list[float | None]:
    """Numbers beside n responses; null where there is none."""
    value = row[column]
    if not isinstance(value, list) or len(value) != n:
        raise Malformed(f"{column!r} must be a list of {n} numbers, one a response")
    return [None if v is None else number_of(v, column) for v in value]


def responses_reader(columns: Columns, column: str, used: Sequence[str], values: Values, *notes: str) -> Reader:
    """A reader of rows that hold all responses of a prompt."""
    prompt = columns.get("prompt")
    prompt = None if prompt in (column, *used) else prompt

    def each(number: int, row: Any, out: Collector, extras: Extras) -> None:
        texts = listed(row, column)
        found = [(candidate(t, column), v) for t, v in zip(texts, values(row, texts), strict=True)]
        known = [(name, v) for name, v in found if v is not None]
        if len(known) < 2:
            raise Malformed(f"{len(known)} of {len(found)} responses of {column!r} with a value")
        if len(known) < len(found):
            out.notes["responses without a value are left out"] += 1
        weight, who = extras.of(row)
        each_pair(out, number, prompt_of(row, prompt), known, weight, who)

    return reader(columns, (column, *used), each, ALL_PAIRS, *notes, also=(prompt,))


def _lists(columns: Columns, sample: Sequence[Any], role: str) -> str | None:
    """The column of a role, if it holds lists."""
    name = columns.get(role)
    holds = any(isinstance(row, dict) and isinstance(row.get(name), list) for row in sample)
    return name if name is not None and holds else None


# ---------------------------------------------------------------------------------------------------- one row a prompt


def _ranked(columns: Columns, sample: Sequence[Any]) -> Reader | None:
    order = _lists(columns, sample, "order")
    if order is None or _lists(columns, sample, "responses") not in (None, order):
        return None
    return responses_reader(
        columns, order, (), lambda row, texts: [-float(k) for k in range(len(texts))], f"{order!r}: the best comes first"
    )


shape("ranked-list", "a prompt and its responses, the best first", '{"prompt": "Why?", "ranking": ["So.", "Well.", "No."]}', _ranked)


def _chosen_of(columns: Columns, sample: Sequence[Any]) -> Reader | None:
    names, choice = _lists(columns, sample, "responses"), columns.get("choice")
    if names is None or choice is None or _lists(columns, sample, "choice"):
        return None

    prompt = columns.get("prompt")

    def each(number: int, row: Any, out: Collector, extras: Extras) -> None:
        texts, value = listed(row, names), number_of(row[choice], choice)
        if value not in range(len(texts)):
            raise Malformed(f"{choice!r} must number one of {len(texts)} responses from 0, not {value:g}")
        best = int(value)
        weight, who = extras.of(row)
        for k, other in enumerate(texts):
            if k != best:
                first = (1 if best < k else -1) if len(texts) == 2 else 0
                x = prompt_of(row, prompt)
                out.add(number, x, candidate(texts[best], names), candidate(other, names), weight, False, first, who)

    return reader(columns, (names, choice), each, f"{choice!r} numbers the best response, from 0", also=(prompt,))


shape(
    "choice",
    "responses and the number of the best one, as in learning to summarize",
    '{"info": {"post": "Why?"}, "summaries": [{"text": "So."}, {"text": "No."}], "choice": 0, "worker": "w1"}',
    _chosen_of,
)


def _beside(columns: Columns, sample: Sequence[Any]) -> Reader | None:
    """Scores, or ranks, in a list beside the responses."""
    names = _lists(columns, sample, "responses")
    if names is None:
        return None
    for role, sign, better in (("scores", 1.0, "the higher"), ("ranks", -1.0, "the lower")):
        beside = _lists(columns, sample, role)
        if beside is not None and beside != names:

            def values(row: Any, texts: list[Any], beside: str = beside, sign: float = sign) -> list[float | None]:
                return [None if v is None else sign * v for v in parallel(row, beside, len(texts))]

            return responses_reader(columns, names, (beside,), values, f"{better} of {beside!r} is better, {EQUAL}")
    return None


shape(
    "scored-lists",
    "a prompt, its responses, and a list of scores or ranks beside them",
    '{"prompt": "Why?", "responses": ["So.", "No."], "scores": [5, 1]}',
    _beside,
)


def _inside(columns: Columns, sample: Sequence[Any]) -> Reader | None:
    """Responses that are objects with a score, or a rank, of their own."""
    names = _lists(columns, sample, "responses")
    cells = [cell for row in sample if isinstance(row, dict) and names in row and isinstance(row[names], list) for cell in row[names]]
    keys = {normal(key): key for cell in cells if isinstance(cell, dict) for key in cell}
    said = columns.mapping.get("score"), columns.mapping.get("rank")
    for role, sign, better in GRADES:
        key = next((keys[s] for s in SYNONYMS[role] if s in keys), None)
        if names is not None and key is not None and not any(said):

            def values(row: Any, texts: list[Any], key: str = key, sign: float = sign) -> list[float | None]:
                told = [cell.get(key) if isinstance(cell, dict) else None for cell in texts]
                return [None if v is None or spelled_none(v) else sign * number_of(v, key) for v in told]

            return responses_reader(columns, names, (), values, f"{better} {key!r} is better, {EQUAL}")
    return None


def spelled_none(value: Any) -> bool:
    """Whether a score says that there is none.

    >>> [spelled_none(v) for v in ("N/A", "3", 3)]
    [True, False, False]
    """
    return isinstance(value, str) and value.strip().lower() in ("", "n/a", "na", "none", "nan")


shape(
    "scored-completions",
    "a prompt and a list of responses, each with a score or a rank, as in UltraFeedback and Nectar",
    '{"instruction": "Why?", "completions": [{"response": "So.", "overall_score": 9}, {"response": "No.", "overall_score": 2}]}',
    _inside,
)

# ---------------------------------------------------------------------------------------------------- one row a response


def _grouped(columns: Columns, response: str, column: str, read: Callable[[Any], float], pairs: Any, *notes: str) -> Reader:
    """A reader of rows with one response each: those of one prompt (and annotator) are compared when all have been read."""
    prompt = columns.get("prompt")
    groups: dict[tuple[str, str | None], list[tuple[int, str, float, float]]] = {}

    def each(number: int, row: Any, out: Collector, extras: Extras) -> None:
        weight, who = extras.of(row)
        x = prompt_of(row, prompt)
        groups.setdefault((x, who), []).append((number, candidate(row[response], response), read(row[column]), weight))

    def finish(out: Collector) -> None:
        if sum(len(rows) ** 2 for rows in groups.values()) > 2 * MOST:
            got = f"{max(map(len, groups.values())):,} rows of one prompt"
            raise InputError(f"rows of a prompt must become at most {MOST:,} comparisons", got=got, remedy="compare fewer at once")
        for (x, who), rows in groups.items():
            if not pairs(out, x, who, rows):
                out.idle += [Fault(row[0], "nothing of its prompt to compare it with") for row in rows]

    return reader(columns, (response, column), each, *notes, also=(prompt,), finish=finish)


def _by_value(out: Collector, x: str, who: str | None, rows: list[tuple[int, str, float, float]]) -> bool:
    for k, (number, name, value, weight) in enumerate(rows):
        for _, other, low, second in rows[:k]:
            each_pair(out, number, x, [(other, low), (name, value)], min(weight, second), who)
    return len(rows) > 1


def _scored_rows(columns: Columns, sample: Sequence[Any]) -> Reader | None:
    response, prompt = columns.get("response"), columns.get("prompt")
    for role, sign, better in GRADES:
        column = columns.get(role)
        if response is None or column is None or prompt is None or len({response, column, prompt}) < 3:
            continue
        if not any(isinstance(row, dict) and as_number(row.get(column)) is not None for row in sample):
            continue

        def read(value: Any, column: str = column, sign: float = sign) -> float:
            return sign * number_of(value, column)

        told = f"responses of a prompt are compared by {column!r}, {better} is better, {EQUAL}"
        return _grouped(columns, response, column, read, _by_value, told, ALL_PAIRS)
    return None


def _by_label(out: Collector, x: str, who: str | None, rows: list[tuple[int, str, float, float]]) -> bool:
    """Each good response beats each bad one; a prompt counts for as many comparisons as it has pairs of a good and a bad row."""
    mass: tuple[dict[str, float], dict[str, float]] = ({}, {})
    where: dict[str, int] = {}
    for number, name, good, weight in rows:
        side = mass[0 if good else 1]
        side[name] = side.get(name, 0.0) + weight
        where.setdefault(name, number)
    totals = [sum(side.values()) for side in mass]
    for name, times in mass[0].items():
        for other, against in mass[1].items():
            if name != other:
                out.add(where[name], x, name, other, times * against / max(totals), False, 0, who)
    return bool(mass[0] and mass[1])


def _unpaired(columns: Columns, sample: Sequence[Any]) -> Reader | None:
    response, label, prompt = columns.get("response"), columns.get("label"), columns.get("prompt")
    if response is None or label is None or label in (response, prompt):
        return None
    told = "each good response of a prompt beats each bad one, weighed so that a good and a bad row make one comparison"
    return _grouped(columns, response, label, lambda v: float(truth_of(v, label)), _by_label, told)


shape(
    "trl-unpaired",
    "a prompt, a completion, and whether it is good",
    '{"prompt": "Why?", "completion": "So.", "label": true}\n{"prompt": "Why?", "completion": "No.", "label": false}',
    _unpaired,
)
shape(
    "scored-rows",
    "a prompt, one response and its score or rank, as in HelpSteer",
    "prompt,response,helpfulness\nWhy?,So.,4\nWhy?,No.,1\n",
    _scored_rows,
)

# ---------------------------------------------------------------------------------------------------- tables of wins


def _table(columns: Columns, sample: Sequence[Any]) -> Reader | None:
    """Names in the first column and in the first row: how often the row's beat the column's."""
    head, *others = columns.names or ("",)
    rows = [row for row in sample if isinstance(row, dict) and row.keys() == set(columns.names)]
    if len(others) < 2 or {str(row[head]) for row in rows} != set(others):
        return None

    def each(number: int, row: Any, out: Collector, extras: Extras) -> None:
        name = text(row[head], head)
        for other in others:
            times = 0.0 if row[other] is None or other == name else number_of(row[other], other)
            if times < 0:
                raise Malformed(f"{other!r} must count wins, not {times:g}")
            if times:
                out.add(number, "", name, other, times)

    return reader(columns, columns.names, each, "a row's item beat a column's so often")


shape("table", "a table of wins, names in the first row and column", ",x,y,z\nx,0,3,1\ny,2,0,2\nz,1,1,0\n", _table)
