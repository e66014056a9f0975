"""Marks: every exercise of a set, answered by one file, each answer in a process of its own; and one report.

Judge and truth stay in this process; see `remote` for what crosses.  An answer that ends its process, hangs or talks nonsense costs its
own mark only.  While one answer is judged the process of the next one is started, so that nobody waits for interpreters.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tabular_rlhf.grading.inventory import Inventory, take
from tabular_rlhf.grading.process import Limits
from tabular_rlhf.grading.remote import Child, RemoteError, one_line

SCHEMA = "tabular-rlhf/grade/1"
Judge = Callable[[str, Callable[..., Any]], Any]
"""(slug, function) -> a report with `ok`, `status` and `json()`: `check`."""

JUDGED = ("wrong", "shape", "nan")
"""The judge has seen a value: that the process failed later, in the search for a smaller counterexample, is not the reason."""


@dataclass(frozen=True)
class Mark:
    """What one answer got.  status: "right", a status of `check`, a kind of `RemoteError`, or "unanswered"."""

    slug: str
    points: float
    out_of: float
    status: str
    reason: str = ""
    diagnosis: str | None = None
    line: int | None = None
    notes: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class Grades:
    """The marks of one submission, in the order of the exercises, and what contained its answers (the layers that all had)."""

    name: str
    sha256: str
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
    def full(self) -> bool:
        return all(m.status == "right" for m in self.marks)


def grade(
    source: bytes, name: str, points: Mapping[str, float], judge: Judge, *, limits: Limits | None = None, without: tuple[str, ...] = ()
) -> Grades:
    """Mark a submission: `points` by slug; a function answers the slug of its name, `-` turned into `_`.

    without: layers of containment to leave out (for trying them).
    """
    limits = limits or Limits()
    known = take(source)
    answered = [] if known.fault else [slug for slug in points if function_name(slug) in known.names]
    marks: dict[str, Mark] = {}
    layers: list[list[dict[str, str]]] = []
    coming = Child(source, limits, without=without) if answered else None
    try:
        for k, slug in enumerate(answered):
            child, coming = coming, None
            assert child is not None
            with child:
                if k + 1 < len(answered):
                    coming = Child(source, limits, without=without)
                marks[slug] = _mark(slug, points[slug], child, judge)
            layers.append(child.layers)
    finally:
        if coming is not None:
            coming.close()
    rest = {slug: _unanswered(slug, points[slug], known) for slug in points if slug not in marks}
    every = tuple((marks | rest)[slug] for slug in points)
    return Grades(one_line(name), hashlib.sha256(source).hexdigest(), tuple(map(one_line, known.imports)), every, weakest(layers), limits)


def function_name(slug: str) -> str:
    """The function that answers an exercise.

    >>> function_name("dpo-loss")
    'dpo_loss'
    """
    return slug.replace("-", "_")


def _unanswered(slug: str, out_of: float, known: Inventory) -> Mark:
    if known.fault:
        return Mark(slug, 0.0, out_of, "does not import", one_line(known.fault), line=known.line)
    return Mark(slug, 0.0, out_of, "unanswered", f"no function {function_name(slug)}")


def _mark(slug: str, out_of: float, child: Child, judge: Judge) -> Mark:
    """One answer.  The judge's word counts, unless the process failed it: then what failed."""
    begun = time.monotonic()
    try:
        report = judge(slug, child.function(function_name(slug)))
        found = {"status": str(report.status), **_told(report)}
        right = report.ok is True
    except RemoteError as e:
        found, right = {"status": e.kind, "reason": str(e), "line": e.line}, False
    except Exception as e:  # an answer that the judge cannot even look at is no reason to lose the others
        found, right = {"status": "cannot be judged", "reason": f"{type(e).__name__}: {e}"}, False
    failed = child.last_error if found["status"] == "raises" else None if found["status"] in JUDGED else child.fault
    if failed is not None:
        found, right = {"status": failed.kind, "reason": str(failed), "line": failed.line}, False
    found = {**found, "status": "right"} if right else found
    found["reason"] = one_line(found.get("reason") or "")
    return Mark(slug, out_of if right else 0.0, out_of, seconds=round(time.monotonic() - begun, 3), **found)


def _told(report: Any) -> dict[str, Any]:
    """The judge's reason, diagnosis and notes, a line each."""
    told = report.json()
    diagnosis = told.get("diagnosis")
    return {
        "reason": told.get("reason") or told.get("told") or "",
        "diagnosis": None if not diagnosis else one_line(str(diagnosis)),
        "notes": tuple(one_line(str(note)) for note in told.get("notes") or ()),
    }


def weakest(layers: list[list[dict[str, str]]]) -> tuple[dict[str, str], ...]:
    """Of every layer the weakest force it had for any answer."""
    order = ("none", "weak", "full")
    found: dict[str, dict[str, str]] = {}
    for row in (row for told in layers for row in told):
        seen = found.get(row["layer"])
        if seen is None or order.index(row["force"]) < order.index(seen["force"]):
            found[row["layer"]] = row
    return tuple(found.values())


def as_json(grades: Grades, version: str) -> dict[str, Any]:
    """One plain object; the same for the same submission on the same machine but for `seconds`."""
    return {
        "schema": SCHEMA,
        "version": version,
        "submission": {"name": grades.name, "sha256": grades.sha256, "imports": list(grades.imports)},
        "points": grades.points,
        "out_of": grades.out_of,
        "exercises": [vars(m) for m in grades.marks],
        "limits": vars(grades.limits),
        "containment": list(grades.containment),
    }


def as_text(grades: Grades) -> str:
    """One line an exercise, the total, and what contained the answers."""
    width = max([len(m.slug) for m in grades.marks], default=0)
    lines = [f"{grades.name}  sha256 {grades.sha256[:16]}", ""]
    lines += [f"{m.slug:<{width}}  {m.points:>4g} / {m.out_of:<4g} {m.status:<15}  {_why(m)}".rstrip() for m in grades.marks]
    lines += ["", f"{'total':<{width}}  {grades.points:>4g} / {grades.out_of:g}"]
    held = [row["layer"] for row in grades.containment if row["force"] == "full"]
    weak = [f"{row['layer']} ({row['how']})" for row in grades.containment if row["force"] != "full"]
    if grades.containment:
        lines += [f"contained: {', '.join(held) or 'nothing'}" + (f"; not, or weakly: {'; '.join(weak)}" if weak else "")]
    if grades.imports:
        lines += [f"imports: {', '.join(grades.imports)}"]
    return "\n".join(lines)


def _why(mark: Mark) -> str:
    reason = mark.reason if mark.diagnosis is None else f"looks like this mistake: {mark.diagnosis}"
    reason = f"{reason} (line {mark.line})" if mark.line and f"line {mark.line}" not in reason else reason
    return "; ".join([reason.rstrip("."), *mark.notes]) if mark.notes else reason
