"""One report of the marks, to hand back: as text, as one HTML file, as JSON.

Each answer that was judged and is not right has its reason, the counterexample, what it looks like, the notes, and the exercise's hint.
Exercises without an answer are counted.  Whatever a submission says is one plain line in it.

**Gradescope.**  The marks as its autograder reads them: `results.json`, a test an exercise, and one for its form where that has points.

    {"tests": [{"name", "score", "max_score", "status", "output", "output_format", "visibility"}, ...], "visibility", "stdout_visibility"}

A score is that of the report, and the whole is their sum.  A mark that is hidden is shown when the grades are published, and until then
Gradescope shows no total.  Source: Gradescope, Autograder Specifications ("Output Format").
"""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import replace
from html import escape
from typing import Any

from tabular_rlhf.grading.marks import Grades, Mark
from tabular_rlhf.grading.sheet import Item, Sheet

SCHEMA = "tabular-rlhf/grade/2"
WIDTH = 118
Hint = Callable[[str], str]
"""The hint of an exercise, by its slug; empty where it has none."""


def no_hint(slug: str) -> str:
    """None for any exercise."""
    return ""


def as_json(grades: Grades, version: str, hint: Hint = no_hint) -> dict[str, Any]:
    """One plain object; the same for the same submission on the same machine but for `seconds`."""
    return {
        "schema": SCHEMA,
        "version": version,
        "submission": {"name": grades.name, "sha256": grades.sha256, "read": list(grades.read), "imports": list(grades.imports)},
        "points": grades.points,
        "out_of": grades.out_of,
        "exercises": [_row(m, hint) for m in grades.answered],
        "unanswered": [{"slug": m.slug, "out_of": m.out_of, "reason": m.reason} for m in grades.marks if m.status == "unanswered"],
        "limits": vars(grades.limits),
        "containment": list(grades.containment),
    }


def _row(mark: Mark, hint: Hint) -> dict[str, Any]:
    told, right = mark.told, mark.status == "right"
    return {
        **{name: value for name, value in vars(mark).items() if name != "report"},
        "diagnosis": mark.diagnosis,
        "counterexample": told.get("counterexample"),
        "notes": list(told.get("notes", ())),
        "hint": "" if right or mark.report is None else hint(mark.slug),
    }


def as_text(grades: Grades, hint: Hint = no_hint) -> str:
    """A line for each answer, the total, what contained the answers; then each answer that was judged and is not right, in full."""
    width = max([len(m.slug) for m in grades.marks], default=0)
    lines = [f"{grades.name}  sha256 {grades.sha256[:16]}", ""]
    lines += [f"{name:<{width}}  {m.points:>4g} / {m.out_of:<4g} {m.status:<15}  {why(m)}".rstrip() for name, m in _rows(grades)]
    lines += [""] if grades.answered else []
    lines += [f"{'total':<{width}}  {grades.points:>4g} / {grades.out_of:g}", *closing(grades)]
    for mark in _faulty(grades):
        lines += ["", f"{mark.slug}: {mark.points:g} of {mark.out_of:g}", *str(mark.report).splitlines()[1:]]
        lines += _wrapped(f"Hint: {hint(mark.slug)}") if hint(mark.slug) else []
    return "\n".join(lines)


def _rows(grades: Grades) -> Iterator[tuple[str, Mark]]:
    """The answers by name; those in a row that were not judged for one and the same reason together."""
    for _, group in itertools.groupby(grades.answered, lambda m: (m.reason, m.status) if m.report is None else m.slug):
        same = list(group)
        yield same[0].slug if len(same) == 1 else f"{same[0].slug} and {len(same) - 1} more", _together(same)


def _together(same: list[Mark]) -> Mark:
    return replace(same[0], points=sum(m.points for m in same), out_of=sum(m.out_of for m in same))


def _faulty(grades: Grades) -> list[Mark]:
    """The answers that were judged, and are not right."""
    return [m for m in grades.answered if m.status != "right" and m.report is not None]


def why(mark: Mark) -> str:
    """The reason in a line: what the answer looks like, if that is known, and where."""
    found = mark.diagnosis
    reason = mark.reason if found is None or mark.points else f"looks like this mistake: {found}"
    where = ", ".join(part for part in (mark.place, f"line {mark.line}" if mark.line else "") if part)
    return f"{reason} ({where})" if where and where not in reason else reason


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="    ")


def closing(grades: Grades) -> list[str]:
    """What is told of the whole: how many exercises have no answer, what was read, what contained it, what it imports."""
    lines = []
    silent = [m for m in grades.marks if m.status == "unanswered"]
    if silent:
        near = [m.reason.removeprefix("no function ") for m in silent if "is it" in m.reason][:8]
        lines.append(f"unanswered: {len(silent)} of {len(grades.marks)}" + (f"; no function {'; '.join(near)}" if near else ""))
    if len(grades.read) > 1 or any(": " in one for one in grades.read):
        lines.append(f"read: {'; '.join(grades.read)}")
    if grades.containment:
        held = [row["layer"] for row in grades.containment if row["force"] == "full"]
        weak = [f"{row['layer']} ({row['how']})" for row in grades.containment if row["force"] != "full"]
        lines.append(f"contained: {', '.join(held) or 'nothing'}" + (f"; not, or weakly: {'; '.join(weak)}" if weak else ""))
    if grades.imports:
        lines.append(f"imports: {', '.join(grades.imports)}")
    return lines


# ---------------------------------------------------------------------------------------------------- HTML

STYLE = """
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff }
table { border-collapse: collapse; width: 100% } td.n, th.n { text-align: right; white-space: nowrap }
td, th { text-align: left; padding: .2rem .6rem; border-bottom: 1px solid #ccc; vertical-align: top }
pre { overflow-x: auto } section { margin: 2rem 0 } .small { color: #666; font-size: .85rem }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #181818 } .small { color: #999 } td, th { border-color: #444 } }
"""


def as_html(grades: Grades, hint: Hint = no_hint) -> str:
    """One file that needs no other: a table of the marks, then each answer that is not right."""
    rows = "".join(_table_row(name, m) for name, m in _rows(grades))
    parts = "".join(_section(m, hint) for m in _faulty(grades))
    told = "".join(f'<p class="small">{escape(line)}</p>\n' for line in (f"sha256 {grades.sha256}", *closing(grades)))
    name, points = escape(grades.name), f"{grades.points:g} of {grades.out_of:g}"
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{name}: {points}</title><style>{STYLE}</style></head>\n<body><h1>{name}</h1>\n"
        f"<p><strong>{points} points</strong></p>\n"
        f'<table><tr><th>exercise</th><th class="n">points</th><th>status</th><th>why</th></tr>\n{rows}</table>\n'
        f"{parts}{told}</body></html>\n"
    )


def _table_row(name: str, mark: Mark) -> str:
    cells = f'<td>{escape(name)}</td><td class="n">{mark.points:g} / {mark.out_of:g}</td>'
    return f"<tr>{cells}<td>{escape(mark.status)}</td><td>{escape(why(mark))}</td></tr>\n"


def _section(mark: Mark, hint: Hint) -> str:
    body = mark.report._repr_html_()
    help_ = f"<p>Hint: {escape(hint(mark.slug))}</p>" if hint(mark.slug) else ""
    return f'<section id="{escape(mark.slug)}"><h2>{escape(mark.slug)}: {mark.points:g} of {mark.out_of:g}</h2>\n{body}{help_}</section>\n'


# ---------------------------------------------------------------------------------------------------- for Gradescope


VISIBLE, HIDDEN = "visible", "after_published"
"""When a student sees a test: at once, or with the grades."""


def results(grades: Grades, sheet: Sheet, hint: Hint = no_hint) -> dict[str, Any]:
    """The object of `results.json`: the points for an answer's form are a test of their own, which is always visible."""
    return {
        "tests": [test for mark in grades.marks for test in _tests(mark, sheet.items[mark.slug], hint)],
        "output": "\n".join(closing(grades)),
        "output_format": "text",
        "visibility": VISIBLE,
        "stdout_visibility": "hidden",
    }


def _tests(mark: Mark, item: Item, hint: Hint) -> Iterator[dict[str, Any]]:
    formed = item.for_form(mark.status)
    if item.form:
        said = "the answer has the right form" if formed else f"{mark.status}: {why(mark)}"
        yield _test(f"{mark.slug}: form", formed, item.form, said, VISIBLE)
    rest = max(0.0, mark.points - formed)
    if item.points > item.form:
        yield _test(mark.slug, rest, item.points - item.form, told(mark, hint), HIDDEN if item.hidden else VISIBLE)


def _test(name: str, score: float, most: float, output: str, visibility: str) -> dict[str, Any]:
    return {
        "name": name,
        "score": score,
        "max_score": most,
        "status": "passed" if score == most else "failed",
        "output": output,
        "output_format": "text",
        "visibility": visibility,
    }


def told(mark: Mark, hint: Hint = no_hint) -> str:
    """What a student reads of a mark, as text: the whole report where the answer was judged, and the hint where it is not right."""
    if mark.report is None or mark.status == "right":
        return f"{mark.status}: {why(mark)}".strip(": ")
    return "\n".join([str(mark.report), *([f"Hint: {hint(mark.slug)}"] if hint(mark.slug) else [])])
