"""Shapes with two sides, a and b, and a column that says who won: arena battles, verdicts, counts, scores, strengths of preference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tabular_rlhf.preferencefile.record import Collector, Malformed
from tabular_rlhf.preferencefile.roles import Columns, normal
from tabular_rlhf.preferencefile.shape import Extras, Reader, candidate, prompt_of, reader, shape
from tabular_rlhf.preferencefile.values import as_number, number_of, spelled, verdict_of

Judge = Callable[[Any, str, str], Sequence[tuple[int, float]]]
ITEMS = ("model", "player", "team", "item", "home", "white")
"""Sides that are named so are items of one ranking, whatever the prompt."""
SCORED = ("score", "rating", "overall_score", "reward", "upvotes", "likes", "scores", "avg_score", "mean_score", "helpfulness")
HOT, COUNTED = ("winner", "winner_model", "won"), ("wins", "win", "n_wins", "win_count", "votes")


def sided(columns: Columns, verdicts: Sequence[str], judge: Judge, *notes: str, also: Sequence[str | None] = ()) -> Reader:
    """A reader of two sides.  Args: verdicts, the columns that say who won; judge, (row, a, b) -> (sign, how often) of each outcome."""
    pair = columns.sides()
    assert pair is not None
    about_items = normal(pair[0]).startswith(ITEMS)
    prompt = None if about_items and "prompt" not in columns.mapping else columns.get("prompt")
    prompt = None if prompt in (*pair, *verdicts) else prompt

    def each(number: int, row: Any, out: Collector, extras: Extras) -> None:
        a, b = candidate(row[pair[0]], pair[0]), candidate(row[pair[1]], pair[1])
        weight, who = extras.of(row)
        x = prompt_of(row, prompt)
        for sign, times in judge(row, a, b):
            if sign >= 0:
                out.add(number, x, a, b, weight * times, sign == 0, 1, who)
            else:
                out.add(number, x, b, a, weight * times, False, -1, who)

    return reader(columns, (*pair, *verdicts), each, *notes, also=(prompt, *also))


# ---------------------------------------------------------------------------------------------------- verdicts in words or numbers


def meanings(columns: Columns, column: str, sample: Sequence[Any]) -> dict[str, int] | None:
    """What the values of a winner's column mean; None where they are numbers without a convention."""
    a, b = (normal(name) for name in columns.sides() or ("", ""))
    found = {a: 1, b: -1}
    said = columns.mapping.get("a_means"), columns.mapping.get("b_means")
    if said[0] is not None or said[1] is not None:
        return found | {spelled(v): sign for v, sign in zip(said, (1, -1), strict=True) if v is not None}
    values = {spelled(row.get(column)) for row in sample if isinstance(row, dict)} - {""}
    numbers = {v for v in values if as_number(v) is not None}
    if a[-1:].isdigit() and b[-1:].isdigit() and numbers:
        told = {a[-1]: 1, b[-1]: -1} | ({"0": 0} if (a[-1], b[-1]) == ("1", "2") else {})
        between = {v for v in numbers if 1 < float(v) < 2 and "2" in told}
        if numbers <= told.keys() | between and (b[-1] in numbers or between or a[-1] == "0" or numbers == {a[-1]}):
            return found | told
    if not numbers:
        return found
    if a == "human_ref_a":  # the Stanford Human Preferences data: 1 says that A is better
        return found | {"1": 1, "0": -1}
    if numbers <= {"0", "0.5", "1"} and "0.5" in numbers:  # the score of the first, as in chess
        return found | {"1": 1, "0.5": 0, "0": -1}
    if numbers <= {"-1", "0", "1"} and "-1" in numbers:
        return found | {"1": 1, "0": 0, "-1": -1}
    held = {spelled(row.get(side)) for row in sample if isinstance(row, dict) for side in columns.sides() or ()}
    return found if numbers <= held else None


def _verdict(columns: Columns, sample: Sequence[Any]) -> Reader | None:
    column = columns.get("winner")
    if columns.sides() is None or column is None or column in (columns.sides() or ()):
        return None
    names = meanings(columns, column, sample)
    if names is None:
        return None
    between = names.get("1") == 1 and names.get("2") == -1  # 1.27 is nearer to the first

    def judge(row: Any, a: str, b: str) -> Sequence[tuple[int, float]]:
        return [(verdict_of(row[column], column, a, b, names), 1.0)]

    def graded(row: Any, a: str, b: str) -> Sequence[tuple[int, float]]:
        number = as_number(row[column])
        if number is not None and 1 < number < 2:
            return [((number < 1.5) - (number > 1.5), 1.0)]
        return judge(row, a, b)

    numbers = {spelled(row.get(column)) for row in sample if isinstance(row, dict)}
    means = {1: "the first won", 0: "a tie", -1: "the second won"}
    told = [f"{word} says {means[sign]}" for word, sign in sorted(names.items()) if word in numbers and as_number(word) is not None]
    return sided(columns, (column,), graded if between else judge, *([f"of {column!r}: {', '.join(told)}"] if told else []))


shape("battles", "two sides and who won, as arenas keep them", "model_a,model_b,winner\nx,y,model_a\ny,x,tie\n", _verdict)

# ---------------------------------------------------------------------------------------------------- strengths, counts, scores


def _strength(columns: Columns, sample: Sequence[Any]) -> Reader | None:
    column = columns.get("strength")
    if columns.sides() is None or column is None:
        return None

    def judge(row: Any, a: str, b: str) -> Sequence[tuple[int, float]]:
        value = number_of(row[column], column)
        return [((value < 0) - (value > 0), 1.0)]

    return sided(columns, (column,), judge, f"of {column!r} only the sign is used: negative says that the first is better, 0 a tie")


shape(
    "strength",
    "two responses and a signed strength of preference, as in HelpSteer",
    '{"prompt": "Why?", "response_1": "So.", "response_2": "No.", "preference_strength": -2}',
    _strength,
)


def _tallied(columns: Columns, words: Sequence[str], roles: tuple[str, str]) -> Reader | None:
    pair = columns.beside(words, roles)
    if columns.sides() is None or pair is None:
        return None
    tie = columns.get("tie")

    def judge(row: Any, a: str, b: str) -> Sequence[tuple[int, float]]:
        told = [(1, row[pair[0]]), (-1, row[pair[1]]), *([(0, row[tie])] if tie is not None and tie in row else [])]
        found = [(sign, _count(value, pair[0])) for sign, value in told if value is not None]
        if not any(times for _, times in found):
            raise Malformed(f"neither {pair[0]!r} nor {pair[1]!r} says that anybody won")
        return [(sign, times) for sign, times in found if times]

    return sided(columns, pair, judge, also=(tie,))


def _count(value: Any, column: str) -> float:
    number = float(value) if isinstance(value, bool) else number_of({"true": 1, "false": 0}.get(spelled(value), value), column)
    if number < 0:
        raise Malformed(f"{column!r} must count wins, not {number:g}")
    return number


shape(
    "one-hot",
    "two sides and a column for each outcome, as in arena competitions",
    "prompt,response_a,response_b,winner_model_a,winner_model_b,winner_tie\nWhy?,So.,No.,1,0,0\n",
    lambda columns, sample: _tallied(columns, HOT, ("a_won", "b_won")),
)
shape(
    "counts",
    "two sides and how often each won",
    "home_team,away_team,home_wins,away_wins\nx,y,4,3\n",
    lambda columns, sample: _tallied(columns, COUNTED, ("a_wins", "b_wins")),
)


def _scores(columns: Columns, sample: Sequence[Any]) -> Reader | None:
    pair = columns.beside(SCORED, ("a_score", "b_score"))
    if columns.sides() is None or pair is None:
        return None

    def judge(row: Any, a: str, b: str) -> Sequence[tuple[int, float]]:
        high, low = number_of(row[pair[0]], pair[0]), number_of(row[pair[1]], pair[1])
        return [((high > low) - (high < low), 1.0)]

    return sided(columns, pair, judge, f"the higher of {pair[0]!r} and {pair[1]!r} wins, equal scores are a tie")


shape(
    "two-scores",
    "two responses with a score each, as in WebGPT",
    '{"question": "Why?", "answer_0": "So.", "answer_1": "No.", "score_0": 1.0, "score_1": -1.0}',
    _scores,
)
