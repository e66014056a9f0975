"""A class graded: every submission by the same sheet, on several processes, each answer in a contained process of its own as ever.

What is done is kept in a journal, under a key that says all that a mark depends on: the submission, the sheet, the limits, the version.
So an interruption costs only what it interrupts, and a class that is graded again after one student's correction grades that one.  A
submission that cannot be read has no points and a fault, and takes no other with it.

**Partly right.**  An answer that is not right may have some of the points all the same.  Its numbers are right and its shape is not, by
axes of length one only: (P, 1) where (P,) is asked for.  The formula is right and one word of NumPy is missing: `fair` judges as `check`
does, and where the shape is the only fault it says so, and gives a share of the points.  The status stays "shape": the answer is not what
was asked for.  Or a derivation breaks, or a sheet has points for the form.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tabular_rlhf import __version__
from tabular_rlhf.cells import HERE, Place, run_cells
from tabular_rlhf.check import Report, check, find, tried
from tabular_rlhf.check.calling import quietly, watched
from tabular_rlhf.check.facts import spelled
from tabular_rlhf.errors import InputError
from tabular_rlhf.exercises import PROOFS, every
from tabular_rlhf.grading.marks import JUDGED, Grades, grade
from tabular_rlhf.grading.process import Limits
from tabular_rlhf.grading.report import as_html, as_json
from tabular_rlhf.grading.sheet import Sheet, read_sheet
from tabular_rlhf.grading.submission import Student, Submission
from tabular_rlhf.journal import Pen, known
from tabular_rlhf.tex import prose
from tabular_rlhf.told import as_json as plain_json
from tabular_rlhf.told import in_words

# ---------------------------------------------------------------------------------------------------- the judge


SHARE = 0.5
"""Of the points, where only the shape is wrong."""


@dataclass(frozen=True)
class NearlyRight:
    """A report of `check` on an answer that is not right, and the share of the points that it is worth."""

    report: Report
    share: float

    def __getattr__(self, name: str) -> Any:
        return getattr(self.report, name)

    def __str__(self) -> str:
        return str(self.report)


def as_told(status: str, share: float) -> float:
    """The share of the points that a report's own share is, without a sheet that says otherwise."""
    return share


def fair(slug: str, function: Callable[..., Any], share: float = SHARE, worth: Callable[[str, float], float] = as_told) -> Any:
    """A report of `check`; a `NearlyRight` one where the answer is not right, and has a share of the points.

    Args: share, where a reshape would make the answer right on every world it is tried on; worth, of a status and a share, as an item of a
    sheet has it.

    >>> found = fair("regret", lambda value, J_x: (value - J_x)[:, None])
    >>> found.status, found.share, found.told
    ('shape', 0.5, '(P, 1) where (P,) is expected: reshape; the numbers are right.')
    """
    report = check(slug, function)
    if report.ok:
        return report
    reached = report.share
    if slug not in PROOFS and report.status == "shape" and (told := only_the_shape(slug, function)) is not None:
        report, reached = replace(report, told=told), share
    whole = worth(report.status, reached)
    return NearlyRight(report, whole) if whole else report


def only_the_shape(slug: str, function: Callable[..., Any]) -> str | None:
    """What shape came in the place of which, if all else is right; else None."""
    question, pairs = find(slug)[0], []
    function = question.asked(function)
    for scope in tried(question):
        value, right = watched(function, scope), question.truth(scope)
        if not isinstance(value, np.ndarray) or _long_axes(value.shape) != _long_axes(right.shape):
            return None
        with quietly():
            if np.isnan(value).any() or question.wrong(value.reshape(right.shape), scope, function):
                return None
        pairs.append((scope, value.shape, right.shape))
    came, asked = (spelled([(s, shapes[k]) for s, *shapes in pairs]) or str(pairs[-1][1 + k]) for k in (0, 1))
    return f"{came} where {asked} is expected: reshape; the numbers are right."


def _long_axes(shape: tuple[int, ...]) -> list[int]:
    return [n for n in shape if n != 1]


PASSING = ("cannot be judged",)
"""Statuses that say something of the machine or of the grader: such a result is told, and not kept."""


@dataclass(frozen=True)
class Terms:
    """How answers are marked, whoever gave them: seconds of computing, MiB of memory, the share for a wrong shape, modules to preload."""

    seconds: float = Limits.answer
    memory: int = Limits.memory
    reshape: float = SHARE
    preload: tuple[str, ...] = ()

    @property
    def limits(self) -> Limits:
        """Of each answer."""
        return Limits(answer=self.seconds, call=min(self.seconds, Limits.call), memory=self.memory)


def mark(submission: Submission, sheet: Sheet, terms: Terms) -> Grades:
    """The marks of one submission."""

    def judge(slug: str, function: Callable[..., Any]) -> Any:
        return fair(slug, function, terms.reshape, sheet.items[slug].share)

    return grade(submission, sheet.points, judge, limits=terms.limits, preload=terms.preload)


def hint(slug: str) -> str:
    """An exercise's hint, as text."""
    return prose(every()[slug].hint)


# ---------------------------------------------------------------------------------------------------- one student


@dataclass(frozen=True)
class Task:
    """One student's submission, and all that its marks depend on: it is sent to where it is graded.  digest: of what was handed in."""

    student: Student
    digest: str
    sheet: Path | None
    slugs: tuple[str, ...]
    terms: Terms

    def key(self, sheet: Sheet) -> str:
        """What the marks depend on, in 32 digits."""
        items = {slug: asdict(sheet.items[slug]) for slug in self.slugs}
        told = [__version__, self.student.name, self.digest, sheet.digest, items, asdict(self.terms)]
        return hashlib.sha256(plain_json(told).encode()).hexdigest()[:32]


def digest(submission: Submission) -> str:
    """Of a submission with the names of its files."""
    return hashlib.sha256(plain_json([submission.sha256, sorted(submission.files)]).encode("utf-8", "surrogateescape")).hexdigest()


def grade_one(task: Task) -> dict[str, Any]:
    """What is kept of a student, as the fields of `Graded`.  Raises InputError where the submission changed meanwhile."""
    submission = task.student.read()
    if digest(submission) != task.digest:
        raise InputError("a submission must not change while it is graded", got="another", remedy="grade it again", where=task.student.name)
    sheet = read_sheet(task.sheet).only(set(task.slugs))
    found = mark(replace(submission, name=task.student.name), sheet, task.terms)
    seen = {m.slug: str(m.report) for m in found.marks if m.status in JUDGED and m.slug not in PROOFS}
    return {"report": in_words(as_json(found, __version__, hint)), "page": as_html(found, hint), "seen": seen}


# ---------------------------------------------------------------------------------------------------- all of them


@dataclass(frozen=True)
class Graded:
    """One student's result.  report: as of `grade --json`; page: to hand back; seen: what `check` says of each value that is not right,
    which is all its own words and numbers; fault: why there is none of these."""

    student: Student
    report: dict[str, Any] | None = None
    page: str = ""
    seen: Mapping[str, str] = field(default_factory=dict)
    fault: str = ""

    @property
    def points(self) -> float:
        """Reached."""
        return 0.0 if self.report is None else float(self.report["points"])

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        """What is told of each exercise, by slug."""
        told = self.report or {"exercises": [], "unanswered": []}
        silent = {row["slug"]: {"points": 0.0, "status": "unanswered", **row} for row in told["unanswered"]}
        return {row["slug"]: row for row in told["exercises"]} | silent


def grade_class(
    students: Sequence[Student],
    path: Path | None,
    terms: Terms,
    *,
    slugs: Sequence[str] | None = None,
    journal: Path | None = None,
    place: Place = HERE,
    on_done: Callable[[int, str], object] = lambda n, name: None,
) -> list[Graded]:
    """Every student's result, in order; those in the journal are not graded again.

    Args: path, of the sheet, which was checked; slugs, of its exercises (None: all); on_done, told how many are done now, and whose.
    """
    sheet = read_sheet(path)
    chosen = tuple(sheet.items if slugs is None else slugs)
    before = known(journal, "a class's journal")
    found: dict[int, Graded] = {}
    tasks: dict[int, Task] = {}
    for k, student in enumerate(students):
        try:
            tasks[k] = Task(student, digest(student.read()), path, chosen, terms)
        except InputError as e:
            found[k] = Graded(student, fault=str(e))
    keys = {k: task.key(sheet) for k, task in tasks.items()}
    found |= {k: Graded(tasks[k].student, **before[key]) for k, key in keys.items() if key in before}
    on_done(len(found), "")
    left = [k for k in tasks if k not in found]
    with Pen(journal) as pen:
        for done in run_cells(grade_one, [tasks[k] for k in left], place):
            k = left[done.number]
            student = tasks[k].student
            found[k] = Graded(student, fault=done.fault) if done.fault is not None else Graded(student, **done.value)
            if done.fault is None and is_settled(done.value["report"]):
                pen.write(keys[k], done.value)
            on_done(1, student.name)
    return [found[k] for k in range(len(students))]


def is_settled(report: dict[str, Any]) -> bool:
    """Whether a report would be the same again: it tells of the submission, and not of a grader in trouble."""
    return all(row["status"] not in PASSING and "did not start" not in row["reason"] for row in report["exercises"])
