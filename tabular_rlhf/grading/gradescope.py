"""The marks as Gradescope's autograder reads them: `results.json`, a test an exercise, and one for its form where that has points.

    {"tests": [{"name", "score", "max_score", "status", "output", "output_format", "visibility"}, ...], "visibility", "stdout_visibility"}

A score is that of the report, and the whole is their sum.  A mark that is hidden is shown when the grades are published, and until then
Gradescope shows no total.  Source: Gradescope, Autograder Specifications ("Output Format").
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tabular_rlhf.grading.marks import Grades, Mark
from tabular_rlhf.grading.report import Hint, closing, no_hint, why
from tabular_rlhf.grading.sheet import Item, Sheet

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
