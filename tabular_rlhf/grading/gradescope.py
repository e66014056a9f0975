"""The marks as Gradescope's autograder reads them: `results.json`, one test an exercise.

    {"tests": [{"name", "score", "max_score", "status", "output", "output_format", "visibility"}, ...], "visibility", "stdout_visibility"}

A score is that of the report, and the whole is their sum.  A mark that is hidden is shown when the grades are published, and until then
Gradescope shows no total.  Source: Gradescope, Autograder Specifications ("Output Format").
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from tabular_rlhf.grading.marks import Grades, Mark
from tabular_rlhf.grading.report import Hint, closing, no_hint, why

VISIBLE, HIDDEN = "visible", "after_published"
"""When a student sees a test: at once, or with the grades."""


def results(grades: Grades, hint: Hint = no_hint, hidden: Collection[str] = ()) -> dict[str, Any]:
    """The object of `results.json`.

    Args: hidden, slugs whose marks are shown with the grades only.
    """
    return {
        "tests": [_test(mark, hint, HIDDEN if mark.slug in hidden else VISIBLE) for mark in grades.marks],
        "output": "\n".join(closing(grades)),
        "output_format": "text",
        "visibility": VISIBLE,
        "stdout_visibility": "hidden",
    }


def _test(mark: Mark, hint: Hint, visibility: str) -> dict[str, Any]:
    return {
        "name": mark.slug,
        "score": mark.points,
        "max_score": mark.out_of,
        "status": "passed" if mark.status == "right" else "failed",
        "output": told(mark, hint),
        "output_format": "text",
        "visibility": visibility,
    }


def told(mark: Mark, hint: Hint = no_hint) -> str:
    """What a student reads of a mark, as text: the whole report where the answer was judged, and the hint where it is not right."""
    if mark.report is None or mark.status == "right":
        return f"{mark.status}: {why(mark)}".strip(": ")
    return "\n".join([str(mark.report), *([f"Hint: {hint(mark.slug)}"] if hint(mark.slug) else [])])
