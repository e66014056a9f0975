"""Shapes that name who won: chosen and rejected, in the ways of TRL; winner and loser; bare pairs and rankings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tabular_rlhf.preferencefile.record import Collector, Malformed
from tabular_rlhf.preferencefile.roles import Columns
from tabular_rlhf.preferencefile.shape import ALL_PAIRS, Extras, Make, Reader, candidate, prompt_of, reader, shape
from tabular_rlhf.preferencefile.values import FIRST, SECOND, TURN, as_number, common_beginning, response, spelled, text, truth_of

SCORES = ("score_{}", "{}_score", "{}_rating", "rating_{}", "{}_avg_rating")
MARGINS = tuple((name.format("chosen"), name.format("rejected")) for name in SCORES)


def position_of(value: Any, column: str) -> int:
    """1 where the winner was shown first, -1 where it was not, 0 where nobody says."""
    if value is None:
        return 0
    word = spelled(value)
    return 1 if word in FIRST else -1 if word in SECOND | {"2"} else 1 if truth_of(value, column) else -1


def split(row: Any, prompt: str | None, chosen: str, rejected: str) -> tuple[str, str, str]:
    """prompt, chosen, rejected of one row, as texts."""
    before_chosen, good = response(row[chosen], chosen)
    before_rejected, bad = response(row[rejected], rejected)
    if prompt is not None and prompt in row:
        return text(row[prompt], prompt), good, bad
    if before_chosen is None and before_rejected is None:
        return common_beginning(good, bad)
    if before_chosen != before_rejected or not before_chosen:
        raise Malformed("no 'prompt', and 'chosen' and 'rejected' do not begin with the same messages")
    return before_chosen, good, bad


def chosen_rejected(columns: Columns) -> Reader | None:
    """The reader of all files that have a chosen and a rejected response."""
    prompt, chosen, rejected = (columns.get(role) for role in ("prompt", "chosen", "rejected"))
    if chosen is None or rejected is None or chosen == rejected:
        return None
    tie, position, margin = (columns.get(role) for role in ("tie", "position", "margin"))
    pair = next(((columns.spelled[a], columns.spelled[b]) for a, b in MARGINS if {a, b} <= columns.spelled.keys()), None)

    def each(number: int, row: Any, out: Collector, extras: Extras) -> None:
        x, good, bad = split(row, prompt, chosen, rejected)
        weight, judge = extras.of(row)
        tied = tie is not None and row.get(tie) is not None and truth_of(row[tie], tie)
        first = 0 if position is None else position_of(row.get(position), position)
        if pair is not None:
            _compare(as_number(row.get(pair[0])), as_number(row.get(pair[1])), out, tied)
        if margin is not None and row.get(margin) is not None:
            out.notes[f"{margin!r} is not used: Bradley-Terry asks who won, not by how much"] += 1
        out.add(number, x, good, bad, weight, tied, first, judge)

    return reader(columns, (chosen, rejected), each, also=(prompt, tie, position, margin, *(pair or ())))


def _compare(high: float | None, low: float | None, out: Collector, tied: bool) -> None:
    """What the two scores of a pair have to say about its label."""
    if high is None or low is None:
        return
    out.notes["the scores of chosen and rejected are not used: Bradley-Terry asks who won, not by how much"] += 1
    if high < low:
        out.notes["the rejected response has the higher score: kept as labeled"] += 1
    if high == low and not tied:
        out.notes["chosen and rejected have equal scores: kept as labeled, say `--map tie=COLUMN` if they tie"] += 1


def told(said: Callable[[Any], bool] = lambda first: isinstance(first, str), *, asked: bool | None = None) -> Make:
    """Chosen and rejected, where the first chosen one is `said` so, and prompts have a column, or not."""

    def make(columns: Columns, sample: Sequence[Any]) -> Reader | None:
        chosen = columns.get("chosen")
        first = next((row[chosen] for row in sample if isinstance(row, dict) and chosen in row), None)
        return chosen_rejected(columns) if said(first) and asked in (None, columns.get("prompt") is not None) else None

    return make


shape("trl-explicit", "prompt, chosen, rejected", '{"prompt": "Why?", "chosen": "So.", "rejected": "No."}', told(asked=True))
shape(
    "transcripts",
    "chosen and rejected transcripts, Human and Assistant in turn",
    '{"chosen": "\\n\\nHuman: Why?\\n\\nAssistant: So.", "rejected": "\\n\\nHuman: Why?\\n\\nAssistant: No."}',
    told(lambda first: isinstance(first, str) and TURN in first, asked=False),
)
shape("trl-implicit", "chosen and rejected that begin with the prompt", '{"chosen": "Why? So.", "rejected": "Why? No."}', told(asked=False))
shape(
    "trl-conversational",
    "chosen and rejected lists of messages, with a prompt or without",
    '{"chosen": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}],'
    ' "rejected": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "No."}]}',
    told(lambda first: True),
)

# ---------------------------------------------------------------------------------------------------- winner and loser


def _winner_loser(columns: Columns, sample: Sequence[Any]) -> Reader | None:
    winner, loser, prompt, tie = (columns.get(role) for role in ("winner", "loser", "prompt", "tie"))
    if winner is None or loser is None:
        return None

    def each(number: int, row: Any, out: Collector, extras: Extras) -> None:
        weight, judge = extras.of(row)
        tied = tie is not None and row.get(tie) is not None and truth_of(row[tie], tie)
        out.add(number, prompt_of(row, prompt), candidate(row[winner], winner), candidate(row[loser], loser), weight, tied, 0, judge)

    return reader(columns, (winner, loser), each, also=(prompt, tie))


shape("winner-loser", "a winner and a loser", "winner,loser\ntea,coffee\n", _winner_loser)

# ---------------------------------------------------------------------------------------------------- bare lists


def _bare(columns: Columns, sample: Sequence[Any]) -> Reader | None:
    if not sample or not isinstance(sample[0], list):
        return None

    def take(number: int, row: Any, out: Collector) -> None:
        if not isinstance(row, list):
            raise Malformed("not an array but an object")
        names = [candidate(v, "item") for v in row]
        if len(names) < 2 or len(set(names)) < len(names):
            raise Malformed("not two or more different items, the best first")
        for k, name in enumerate(names):
            for other in names[k + 1 :]:
                out.add(number, "", name, other)

    longer = any(isinstance(row, list) and len(row) > 2 for row in sample)
    return Reader(frozenset(), (), take, notes=(ALL_PAIRS,) if longer else ())


shape("pairs", "pairs of items, the winner first, as choix has them; or rankings, the best first", "[[0, 2], [2, 1]]", _bare)


def _numbered(columns: Columns, sample: Sequence[Any]) -> Reader | None:
    """A CSV of two columns of numbers, without names."""
    if columns.names != ("1", "2") or columns.mapping:
        return None

    def take(number: int, row: Any, out: Collector) -> None:
        out.add(number, "", candidate(row["1"], "1"), candidate(row["2"], "2"))

    return Reader(frozenset(columns.names), columns.names, take, notes=("two columns of numbers: the winner first",))


shape("numbers", "two columns of numbers, the winner first", "0,2\n2,1\n", _numbered)
