"""Marks: every exercise of a set, answered by one submission, each answer in a process of its own.

Judge and truth stay in this process; see `remote` for what crosses.  An answer that ends its process, hangs or talks nonsense costs its
own mark only.  While one answer is judged the process of the next one is started, so that nobody waits.

**Inventory.**  What a submission defines is read without running it: the names of its functions and what it imports (see `reading`).  A
hostile text can exhaust, or crash, even a parser, so the reading happens in a contained process, another one after each that broke.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tabular_rlhf.errors import nearest, raised
from tabular_rlhf.grading.process import Limits
from tabular_rlhf.grading.remote import Child, RemoteError, one_line
from tabular_rlhf.grading.submission import Submission

# ---------------------------------------------------------------------------------------------------- what a submission defines


@dataclass(frozen=True)
class Inventory:
    """Of one file.  names: defined on its first level.  imports: modules, wherever.  fault, line, place: why it is no Python, or a part."""

    names: frozenset[str]
    imports: tuple[str, ...]
    fault: str | None = None
    line: int | None = None
    place: str = ""


def take(files: Mapping[str, bytes], wanted: Iterable[str], limits: Limits, without: Iterable[str] = ()) -> dict[str, Inventory]:
    """What each file defines and imports; of a notebook, what the functions in `wanted` need counts as imported.

    >>> take({"a.py": b"import numpy as np\\ndef regret(p): return p"}, ["regret"], Limits())["a.py"].imports
    ('numpy',)
    """
    found: dict[str, Inventory] = {}
    child = None
    try:
        for name in files:
            if child is None or child.fault is not None:
                child = Child(files, limits, without=without)
            try:
                found[name] = _checked(child.read(name, wanted))
            except (RemoteError, TypeError, ValueError) as e:
                told = f": {e}" if isinstance(e, RemoteError) and e.kind not in ("crashed", "stopped") else ""
                found[name] = Inventory(frozenset(), (), f"it cannot be parsed: the parser gave up{told}")
                child.close()
                child = None
    finally:
        if child is not None:
            child.close()
    return found


def _checked(told: Any) -> Inventory:
    """What came, if it is what `reading.read` returns: a parser that was taken over may say anything."""
    names, imports, fault, line, place = told
    if not all(isinstance(word, str) for word in (*names, *imports, place, fault or "")) or not isinstance(line, int | None):
        raise TypeError("something else than names")
    return Inventory(frozenset(names), tuple(map(one_line, imports)), fault and one_line(fault), line, one_line(place))


Judge = Callable[[str, Callable[..., Any]], Any]
"""(slug, function) -> a report with `ok`, `status`, `told` and `json()`: `check`; with a `share` of the points, where it has one."""
JUDGED = ("wrong", "shape", "nan")
"""The judge has seen a value: that the process failed later, in the search for a smaller counterexample, is not the reason."""


@dataclass(frozen=True)
class Mark:
    """What one answer got.  status: "right", a status of `check`, a kind of `RemoteError`, or "unanswered".

    reason: a line.  place, line: in the submission.  seconds: of computing.  report: the judge's, if the answer came to be judged.
    """

    slug: str
    points: float
    out_of: float
    status: str
    reason: str = ""
    line: int | None = None
    place: str = ""
    seconds: float = 0.0
    report: Any = field(default=None, repr=False)

    @property
    def told(self) -> dict[str, Any]:
        """The judge's report as plain values; empty where there is none."""
        return {} if self.report is None else self.report.json()

    @property
    def diagnosis(self) -> str | None:
        """The mistake that the answer looks like."""
        found = self.told.get("diagnosis")
        return None if not found else one_line(str(found))


@dataclass(frozen=True)
class Grades:
    """The marks of one submission, in the order of the exercises, and what contained its answers (the layers that all had).

    read: the files, what could not be read of them, and functions that are in several.  imports: of all.
    """

    name: str
    sha256: str
    read: tuple[str, ...]
    imports: tuple[str, ...]
    marks: tuple[Mark, ...]
    containment: tuple[dict[str, str], ...]
    limits: Limits

    @property
    def points(self) -> float:
        return sum(m.points for m in self.marks)

    @property
    def out_of(self) -> float:
        return sum(m.out_of for m in self.marks)

    @property
    def answered(self) -> tuple[Mark, ...]:
        """The marks of the answers that there are."""
        return tuple(m for m in self.marks if m.status != "unanswered")

    @property
    def full(self) -> bool:
        return all(m.status == "right" for m in self.marks)


def grade(
    submission: Submission,
    points: Mapping[str, float],
    judge: Judge,
    *,
    limits: Limits | None = None,
    without: Iterable[str] = (),
    preload: Iterable[str] = (),
) -> Grades:
    """Mark a submission: `points` by slug; a function answers the slug of its name, `-` turned into `_`.

    Args: without, layers of containment to leave out (for trying them); preload, modules to import once for all answers.
    """
    limits, files = limits or Limits(), submission.files
    known = take(files, [function_name(slug) for slug in points], limits, without)
    where = {slug: _file_of(slug, known) for slug in points}
    answered = [slug for slug, file in where.items() if file is not None]
    imports = sorted({name for one in known.values() for name in one.imports})
    marks: dict[str, Mark] = {}
    layers: list[list[dict[str, str]]] = []

    def begun() -> Child:
        return Child(files, limits, without=without, imports=imports, preload=preload)

    coming = begun() if answered else None
    try:
        for k, slug in enumerate(answered):
            if slug in marks:
                continue
            child, coming = coming or begun(), None
            with child:
                coming = begun() if k + 1 < len(answered) else None
                marks[slug] = _mark(slug, where[slug], points[slug], child, judge)
            layers.append(child.layers)
            if marks[slug].status == "stopped" and not child.opened:  # its first lines have no end: they are the same for all
                marks |= {s: replace(marks[slug], slug=s, out_of=points[s]) for s in answered[k:] if where[s] == where[slug]}
    finally:
        if coming is not None:
            coming.close()
    rest = {slug: _unanswered(slug, points[slug], known) for slug in points if slug not in marks}
    every = tuple((marks | rest)[slug] for slug in points)
    read = (*_read(submission, known), *_twice(points, known))
    return Grades(one_line(submission.name), submission.sha256, read, tuple(imports), every, weakest(layers), limits)


def function_name(slug: str) -> str:
    """The function that answers an exercise.

    >>> function_name("dpo-loss")
    'dpo_loss'
    """
    return slug.replace("-", "_")


def _file_of(slug: str, known: Mapping[str, Inventory]) -> str | None:
    """The first file that answers an exercise."""
    return next((file for file, one in known.items() if function_name(slug) in one.names), None)


def _read(submission: Submission, known: Mapping[str, Inventory]) -> tuple[str, ...]:
    """What was read, file by file, and what could not be."""
    told = []
    for file, one in known.items():
        name = one_line(submission.name if submission.alone else file)
        place = ", ".join(part for part in (one.place, f"line {one.line}" if one.line else "") if part)
        told.append(f"{name}: {one.fault}{f' ({place})' if place else ''}" if one.fault else name)
    return tuple(told)


def _twice(points: Iterable[str], known: Mapping[str, Inventory]) -> Iterator[str]:
    """What is told of functions that several files define."""
    for name in map(function_name, points):
        found = [one_line(file) for file, one in known.items() if name in one.names]
        if len(found) > 1:
            yield f"{name} is in {' and '.join(found)}: the first is graded"


def _unanswered(slug: str, out_of: float, known: Mapping[str, Inventory]) -> Mark:
    """No answer: because no file is Python, or none has a function of that name; one of nearly that name is told."""
    faults = [one for one in known.values() if one.fault and not one.names]
    if len(faults) == len(known):
        return Mark(slug, 0.0, out_of, "does not import", faults[0].fault or "", faults[0].line, faults[0].place)
    name = function_name(slug)
    near = nearest(name, sorted({n for one in known.values() for n in one.names}), 1)
    return Mark(slug, 0.0, out_of, "unanswered", f"no function {name}" + (f": is it {one_line(near[0])}?" if near else ""))


def _mark(slug: str, file: str | None, out_of: float, child: Child, judge: Judge) -> Mark:
    """One answer.  The judge's word counts, unless the process failed it: then what failed."""
    mark = Mark(slug, 0.0, out_of, "cannot be judged")
    try:
        report = judge(slug, child.function(function_name(slug), file))
        share = 1.0 if report.ok is True else float(getattr(report, "share", 0.0))
        status = "right" if report.ok is True else str(report.status)
        mark = replace(mark, points=share * out_of, status=status, reason=one_line(report.told), report=report)
    except RemoteError as e:
        mark = replace(mark, status=e.kind, reason=str(e), line=e.line, place=e.place)
    except Exception as e:  # an answer that the judge cannot even look at is no reason to lose the others
        mark = replace(mark, reason=one_line(raised(e)))
    failed = child.last_error if mark.status == "raises" else None if mark.status in JUDGED else child.fault
    if failed is not None:
        report = mark.report if failed.kind == "raises" else None
        mark = replace(
            mark, points=0.0, status=failed.kind, reason=one_line(str(failed)), line=failed.line, place=failed.place, report=report
        )
    return replace(mark, seconds=round(child.seconds, 3))


def weakest(layers: list[list[dict[str, str]]]) -> tuple[dict[str, str], ...]:
    """Of every layer the weakest force it had for any answer.

    >>> weakest([[{"layer": "files", "force": "full"}], [{"layer": "files", "force": "weak"}], [{"layer": "files", "force": "full"}]])
    ({'layer': 'files', 'force': 'weak'},)
    """
    order = ("none", "weak", "full")
    found: dict[str, dict[str, str]] = {}
    for row in (row for told in layers for row in told):
        seen = found.get(row["layer"])
        if seen is None or order.index(row["force"]) < order.index(seen["force"]):
            found[row["layer"]] = row
    return tuple(found.values())
