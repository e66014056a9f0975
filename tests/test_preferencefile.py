"""Preferences as people keep them: every shape in every container says the same, nothing is lost, and what is refused says what to do.

Judged against judgments that are written down here by hand, and against generated ones that are put into every shape.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabular_rlhf.cli import main
from tabular_rlhf.errors import InputError
from tabular_rlhf.preferencefile import ORDER, SHAPES, Preferences, parse, read_preferences
from tabular_rlhf.preferencefile.roles import parse_map

Told = list[tuple[str, str, str, float, bool]]


def said(found: Preferences) -> Told:
    """prompt, winner, loser (in the order of their names where neither won), weight, tie."""
    out = []
    for w, l, weight, tie in zip(found.w, found.l, found.weight.tolist(), found.tie.tolist(), strict=True):
        pair = [found.responses[w], found.responses[l]]
        one, other = sorted(pair) if tie else pair
        out.append((found.prompts[found.of[w]], one, other, weight, bool(tie)))
    return sorted(out)


# ---------------------------------------------------------------------------------------------------- every shape


WINS = ("Why?", "So.", "No.", 1.0, False)
EXAMPLES: dict[str, Told] = {
    "trl-explicit": [WINS],
    "transcripts": [("Human: Why?", "So.", "No.", 1.0, False)],
    "trl-implicit": [WINS],
    "trl-conversational": [WINS],
    "winner-loser": [("", "tea", "coffee", 1.0, False)],
    "battles": [("", "x", "y", 1.0, False), ("", "x", "y", 1.0, True)],
    "one-hot": [WINS],
    "counts": [("", "x", "y", 4.0, False), ("", "y", "x", 3.0, False)],
    "strength": [WINS],
    "two-scores": [WINS],
    "ranked-list": [WINS, ("Why?", "So.", "Well.", 1.0, False), ("Why?", "Well.", "No.", 1.0, False)],
    "choice": [WINS],
    "scored-lists": [WINS],
    "scored-completions": [WINS],
    "trl-unpaired": [WINS],
    "scored-rows": [WINS],
    "pairs": [("", "0", "2", 1.0, False), ("", "2", "1", 1.0, False)],
    "numbers": [("", "0", "2", 1.0, False), ("", "2", "1", 1.0, False)],
    "table": [
        ("", *row, False) for row in [("x", "y", 3.0), ("x", "z", 1.0), ("y", "x", 2.0), ("y", "z", 2.0), ("z", "x", 1.0), ("z", "y", 1.0)]
    ],
}


@pytest.mark.parametrize("name", ORDER)
def test_every_shape_says_what_its_example_says(name: str) -> None:
    found = parse(SHAPES[name].example.encode())
    assert found.shape == name
    assert said(found) == sorted(EXAMPLES[name])
    assert not found.faults
    assert not found.ignored


MORE: dict[str, tuple[str, Told]] = {
    "bradley-terry by home": ("home.team,away.team,home.wins,away.wins\nx,y,4,0\n", [("", "x", "y", 4.0, False)]),
    "an arena with tied columns": (
        "model_a,model_b,winner_model_a,winner_model_b,winner_tie\nx,y,0,0,1\nx,y,0,1,0\n",
        [("", "x", "y", 1.0, True), ("", "y", "x", 1.0, False)],
    ),
    "both bad": ("model_a,model_b,winner\nx,y,tie (bothbad)\n", [("", "x", "y", 1.0, True)]),
    "a winner by name": ("left,right,winner\nx,y,y\n", [("", "y", "x", 1.0, False)]),
    "left and right": ("left,right,winner\nx,y,right\nx,y,draw\n", [("", "y", "x", 1.0, False), ("", "x", "y", 1.0, True)]),
    "chess": (
        "white,black,result\nx,y,1\nx,y,0.5\ny,x,0\n",
        [("", "x", "y", 1.0, False), ("", "x", "y", 1.0, True), ("", "x", "y", 1.0, False)],
    ),
    "upvotes": (
        '{"history": "h", "human_ref_A": "a", "human_ref_B": "b", "labels": 0, "score_A": 3, "score_B": 9}',
        [("h", "b", "a", 1.0, False)],
    ),
    "safer": ('{"prompt": "p", "response_0": "a", "response_1": "b", "better_response_id": 1}', [("p", "b", "a", 1.0, False)]),
    "alpaca": (
        '{"instruction": "p", "output_1": "a", "output_2": "b", "preference": 1.2}\n'
        '{"instruction": "p", "output_1": "a", "output_2": "b", "preference": 1.5}',
        [("p", "a", "b", 1.0, False), ("p", "a", "b", 1.0, True)],
    ),
    "HelpSteer 3": (
        '{"context": [{"role": "user", "content": "p"}], "response1": "a", "response2": "b", "overall_preference": 3}',
        [("p", "b", "a", 1.0, False)],
    ),
    "stack exchange": ('{"question": "p", "response_j": "a", "response_k": "b"}', [("p", "a", "b", 1.0, False)]),
    "WebGPT": (
        '{"question": {"full_text": "p"}, "answer_0": "a", "answer_1": "b", "score_0": 0.0, "score_1": 0.0}',
        [("p", "a", "b", 1.0, True)],
    ),
    "Nectar": (
        '{"prompt": "p", "answers": [{"answer": "a", "rank": 2}, {"answer": "b", "rank": 1}]}',
        [("p", "b", "a", 1.0, False)],
    ),
    "ranks beside": ('{"prompt": "p", "responses": ["a", "b"], "ranks": [2, 1]}', [("p", "b", "a", 1.0, False)]),
    "argilla": ('{"input": "p", "generations": ["a", "b"], "rating": [3, 4.5]}', [("p", "b", "a", 1.0, False)]),
    "ShareGPT": (
        '{"conversations": [{"from": "human", "value": "p"}], "chosen": {"from": "gpt", "value": "a"},'
        ' "rejected": {"from": "gpt", "value": "b"}}',
        [("p", "a", "b", 1.0, False)],
    ),
    "a ranking of names": ('[["x", "y"], ["y", "z"]]', [("", "x", "y", 1.0, False), ("", "y", "z", 1.0, False)]),
    "semicolons": ("winner;loser\nx;y\n", [("", "x", "y", 1.0, False)]),
    "tabs": ("winner\tloser\nx\ty\n", [("", "x", "y", 1.0, False)]),
    "columns": (
        '{"prompt": ["p", "q"], "chosen": ["a", "a"], "rejected": ["b", "b"]}',
        [("p", "a", "b", 1.0, False), ("q", "a", "b", 1.0, False)],
    ),
    "within": ('{"data": [{"winner": "x", "loser": "y"}]}', [("", "x", "y", 1.0, False)]),
    "over several lines": ('[\n  {"winner": "x",\n   "loser": "y"}\n]\n', [("", "x", "y", 1.0, False)]),
    "bad equal scores": (
        '{"prompt": "p", "completions": [{"response": "a", "overall_score": 4}, {"response": "b", "overall_score": 4}]}',
        [("p", "a", "b", 1.0, True)],
    ),
    "weights": ("winner,loser,weight\nx,y,2.5\n", [("", "x", "y", 2.5, False)]),
}


@pytest.mark.parametrize("name", MORE)
def test_more_of_the_kind(name: str) -> None:
    text, told = MORE[name]
    found = parse(text.encode())
    assert said(found) == sorted(told)
    assert not found.faults


# ---------------------------------------------------------------------------------------------------- every container


def as_containers(rows: list[dict[str, Any]]) -> dict[str, bytes]:
    """The same flat rows in every container."""
    lines = "\n".join(map(json.dumps, rows)).encode()
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    binary = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), binary)
    return {
        "JSON lines": lines,
        "JSON array": json.dumps(rows, indent=1).encode(),
        "columns": json.dumps({key: [row[key] for row in rows] for key in rows[0]}).encode(),
        "CSV": text.getvalue().encode(),
        "CSV, UTF-16": text.getvalue().encode("utf-16"),
        "CSV, with a mark": b"\xef\xbb\xbf" + text.getvalue().encode(),
        "parquet": binary.getvalue(),
        "gzip": gzip.compress(lines),
        "gzipped CSV": gzip.compress(text.getvalue().encode()),
    }


words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12).filter(
    lambda t: t.strip() == t != ""
)


@given(st.lists(st.tuples(words, words, words, st.integers(1, 9)), min_size=2, max_size=8))
def test_every_container_says_the_same(rows: list[tuple[str, str, str, int]]) -> None:
    dicts = [{"prompt": p, "chosen": a, "rejected": f"{b}!", "weight": n} for p, a, b, n in rows]
    told = {name: parse(data) for name, data in as_containers(dicts).items()}
    expected = sorted((p, a, f"{b}!", float(n), False) for p, a, b, n in rows if a != f"{b}!")
    for name, found in told.items():
        assert said(found) == expected, name
        assert (found.faults, found.lines) == ((), len(rows)), name


def test_standard_input_and_a_pipe_of_parquet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    data = as_containers([{"winner": "x", "loser": "y"}, {"winner": "y", "loser": "x"}])
    for name in ("CSV", "parquet", "gzip"):
        stream = io.TextIOWrapper(io.BytesIO(data[name]))
        monkeypatch.setattr(sys, "stdin", stream)
        assert main(["fit", "-"]) == 0, name
        assert "standard input: 2 " in capsys.readouterr().out


# ---------------------------------------------------------------------------------------------------- nothing is lost


FLAWS = {
    "b,": "'loser' must name",
    "b": "1 fields in place of 2",
    "a,b,c": "3 fields in place of 2",
    ",": None,
    "": None,
    '"a"b,c': "not CSV",
}


@given(st.lists(st.sampled_from(["a,b", "b,a", "a,a", '"a\n",b', *FLAWS]), min_size=1, max_size=30))
def test_every_row_of_a_csv_is_accounted_for(rows: list[str]) -> None:
    """Faults by the number of their line, and used, faulty, equal and blank rows are all rows."""
    text = "winner,loser\n" + "".join(f"{row}\n" for row in ["a,b", *rows])
    found = parse(text.encode())
    assert len(found.w) + len(found.faults) + len(found.same) + found.blank == found.lines == len(rows) + 1
    number, faults = 3, {}
    for row in rows:
        if FLAWS.get(row):
            faults[number] = FLAWS[row]
        number += 1 + row.count("\n")
    assert {f.line for f in found.faults} == faults.keys()
    assert all(str(faults[f.line]) in f.reason for f in found.faults)


def test_an_open_quotation_mark_costs_its_own_line() -> None:
    rows = ["a,b"] * 5 + ['"a,b'] + ["b,a"] * 7
    found = parse(("winner,loser\n" + "\n".join(rows)).encode())
    assert [(f.line, f.reason) for f in found.faults] == [(7, "not CSV: a quotation mark that is never closed")]
    assert len(found.w) == 12


def test_bytes_that_are_no_text_are_told_by_line() -> None:
    found = parse(b"winner,loser\na,b\n\xff,b\nb,a\n")
    assert [(f.line, f.reason) for f in found.faults] == [(3, "not UTF-8 at byte 1")]


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("model_a,model_b,winner\nx,y,model_a\nx,y,maybe\n", 3, "'winner' must say who won, not \"maybe\""),
        (
            '{"prompt": "p", "responses": ["a", "b"], "scores": [1, 2]}\n{"prompt": "p", "responses": ["a", "b"], "scores": [1]}',
            2,
            "list of 2 numbers",
        ),
        ('{"prompt": "p", "ranking": ["a", "b"]}\n{"prompt": "p", "ranking": ["a"]}', 2, "a list of two responses or more"),
        ("a,b,a_wins,b_wins\nx,y,3,0\nx,y,0,0\n", 3, "says that anybody won"),
        ("a,b,a_wins,b_wins\nx,y,3,0\nx,y,-1,2\n", 3, "must count wins, not -1"),
        ("winner,loser,tie\nx,y,true\nx,y,perhaps\n", 3, "'tie' must be true or false"),
        ("[[0, 1], [0, 0]]", 2, "not two or more different items"),
    ],
)
def test_malformed_rows_by_number(text: str, line: int, reason: str) -> None:
    found = parse(text.encode())
    assert [f.line for f in found.faults] == [line]
    assert reason in found.faults[0].reason


def test_what_is_not_read_and_what_is_converted_is_told() -> None:
    rows = [{"prompt": "p", "chosen": "a", "rejected": "b", "score_chosen": 3, "score_rejected": s, "lang": "en"} for s in (1, 3, 4)]
    found = parse("\n".join(map(json.dumps, rows)).encode())
    assert found.ignored == {"lang": 3}
    assert [note.split(":")[0] for note in found.notes] == [
        "the scores of chosen and rejected are not used",
        "chosen and rejected have equal scores",
        "the rejected response has the higher score",
    ]
    alone = parse(b'{"prompt": "p", "completion": "a", "label": true}\n{"prompt": "q", "completion": "a", "label": true}\n'
                  b'{"prompt": "q", "completion": "b", "label": false}')  # fmt: skip
    assert [f.line for f in alone.idle] == [1]


def test_labels_are_weighed_so_that_pairs_count_once() -> None:
    """3 good rows and 2 bad ones of a prompt are two comparisons."""
    rows = [("a", True), ("a", True), ("b", True), ("b", False), ("c", False)]
    found = parse("\n".join(json.dumps({"prompt": "p", "completion": t, "label": v}) for t, v in rows).encode())
    weights = {(w, l): weight for _, w, l, weight, _ in said(found)}
    assert weights == pytest.approx({("a", "b"): 2 / 3, ("a", "c"): 2 / 3, ("b", "c"): 1 / 3})


# ---------------------------------------------------------------------------------------------------- suggestions


def renamed(example: str, names: dict[str, str]) -> str:
    for old, new in names.items():
        example = example.replace(old, new)
    return example


UNKNOWN = {
    "three texts": '{"qu": "Why?", "nice": "So.", "nasty": "No."}\n{"qu": "Who?", "nice": "I.", "nasty": "You."}',
    "named otherwise": '{"q": "Why?", "rejected_answer": "No.", "chosen_answer": "So."}',
    "two names": "victor,victim\ntea,coffee\n",
    "no names": "tea,coffee\nmilk,tea\n",
    "numbers": "0,1,3\n1,2,4\n",
    "a verdict": "one,other,who\nx,y,left\ny,x,tie\n",
    "a verdict by name": "one,other,who\nx,y,x\ny,x,x\nx,z,x\n",
    "lists": '{"q": "Why?", "from_best": ["So.", "No."]}\n{"q": "Who?", "from_best": ["I.", "You."]}',
    "points": "q,said,points\nWhy?,So.,4\nWhy?,No.,1\n",
    "points of the first": "player1,player2,score\nx,y,1\nx,y,0.5\ny,x,0\n",
    "undecided points": "player1,player2,points\nx,y,1\ny,x,0\n",
    "ranks or order": '{"prompt": "q", "responses": ["a", "b", "c"], "ranking": [2, 1, 3]}\n'
    '{"prompt": "r", "responses": ["a", "b", "c"], "ranking": [1, 2, 3]}',
    "undecided numbers": "left,right,winner\nx,y,1\ny,x,0\n",
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_an_unknown_shape_gets_a_suggestion_that_works(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "data"
    path.write_text(UNKNOWN[name])
    with pytest.raises(InputError) as e:
        read_preferences(path)
    told = e.value.remedy[e.value.remedy.index("--map") :].partition(",")[0]
    options = shlex.split(told)
    found = read_preferences(path, parse_map(options[1::2]))
    assert len(found.w)
    assert not found.faults
    assert main(["fit", str(path), *options]) == 0
    assert main(["fit", str(path)]) == 2
    assert told in capsys.readouterr().err


def test_a_map_names_roles_and_columns() -> None:
    for words, message in [(["x"], "ROLE=COLUMN"), (["chose=x"], "did you mean chosen"), (["chosen=goood"], "did you mean good")]:
        with pytest.raises(InputError, match=message):
            parse(b"good,bad\na,b\n", parse_map(words))
    found = parse(b"model_a,model_b,prompt,response_a,response_b,winner\nm,n,p,x,y,model_b\n", parse_map(["a=response_a", "b=response_b"]))
    assert said(found) == [("p", "y", "x", 1.0, False)]
    assert found.ignored == {"model_a": 1, "model_b": 1}


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    for data in (
        b"PK\x03\x04rest",
        b"\x1f\x8bbroken",
        b"PAR1broken",
        b"\0\1\2\3",
        b"",
        b"{}",
        b"[]",
        b"3",
        b'[{"a": 1}',
        b"winner,winner\na,b\n",
    ):
        with pytest.raises(InputError) as e:
            parse(data)
        assert e.value.remedy


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        found = parse(data)
    except InputError:
        return
    assert len(found.w)


# ---------------------------------------------------------------------------------------------------- one table of judgments, every shape


def as_shapes(battles: list[tuple[int, int, int]]) -> dict[str, str]:
    """(a, b, sign) in every shape that can say a tie, items named by letters."""
    name = "abcdefgh"
    words = {1: "model_a", 0: "tie", -1: "model_b"}
    sides = [(name[a], name[b], s) for a, b, s in battles]
    ordered = [(a, b, s) if s >= 0 else (b, a, -s) for a, b, s in sides]
    scores = {1: (9, 1), 0: (4, 4), -1: (1, 9)}

    def lines(rows: list[dict[str, Any]]) -> str:
        return "\n".join(map(json.dumps, rows))

    def cells(head: str, rows: list[tuple[str, str, int]]) -> str:
        """A row with a column for each outcome."""
        return head + "".join(f"{a},{b},{int(s > 0)},{int(s < 0)},{int(not s)}\n" for a, b, s in rows)

    def scored(a: str, b: str, s: int) -> list[dict[str, Any]]:
        return [{"text": text, "score": score} for text, score in zip((a, b), scores[s], strict=True)]

    return {
        "battles": "model_a,model_b,winner\n" + "".join(f"{a},{b},{words[s]}\n" for a, b, s in sides),
        "one-hot": cells("model_a,model_b,winner_model_a,winner_model_b,winner_tie\n", sides),
        "winner-loser": "winner,loser,tie\n" + "".join(f"{a},{b},{str(not s).lower()}\n" for a, b, s in ordered),
        "counts": cells("item1,item2,wins1,wins2,ties\n", sides),
        "strength": lines([{"response_1": a, "response_2": b, "preference_strength": -2 * s} for a, b, s in sides]),
        "two-scores": lines([{"answer_0": a, "answer_1": b, "score_0": scores[s][0], "score_1": scores[s][1]} for a, b, s in sides]),
        "scored-lists": lines([{"responses": [a, b], "scores": scores[s]} for a, b, s in sides]),
        "scored-completions": lines([{"prompt": "", "completions": scored(a, b, s)} for a, b, s in sides]),
        "trl-explicit": lines([{"prompt": "", "chosen": a, "rejected": b, "tie": not s} for a, b, s in ordered]),
    }  # fmt: skip


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(-1, 1)).filter(lambda t: t[0] != t[1]), min_size=1, max_size=12)
)
def test_ties_and_scores_are_never_silently_wins(battles: list[tuple[int, int, int]]) -> None:
    told = {shape: parse(text.encode()) for shape, text in as_shapes(battles).items()}
    expected = said(told["battles"])
    assert sum(tie for *_, tie in expected) == sum(s == 0 for *_, s in battles)
    assert np.sum(told["battles"].weight) == len(battles)
    for shape, found in told.items():
        assert found.shape == shape
        assert said(found) == expected, shape
