"""A class as a whole: one line a student as CSV, one page without names, one page a student, and the same in text and as plain values.

The page of the class says of each item how many had it right, and which mistakes were made most, each by its diagnosis.  It holds no name
and no word of a submission: what it shows of an answer are our words for it, and numbers.
"""

from __future__ import annotations

import builtins
import csv
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from tabular_rlhf.check.report import STATUS
from tabular_rlhf.exercises import PROOFS, every
from tabular_rlhf.grading.classroom import Graded
from tabular_rlhf.grading.remote import KINDS
from tabular_rlhf.grading.report import STYLE
from tabular_rlhf.grading.sheet import Sheet
from tabular_rlhf.layout import table

SCHEMA = "tabular-rlhf/class/1"
MOST = 3
"""Mistakes of an item that are told."""
BINS = 10
"""Bars of the histogram of points."""


@dataclass(frozen=True)
class Mistake:
    """In words; how many made it; and what `check` says of one such answer, or nothing."""

    words: str
    count: int
    seen: str = ""


@dataclass(frozen=True)
class Summary:
    """One item over a class.  right, answered: students; mean: of the points; mistakes: the most frequent first."""

    slug: str
    out_of: float
    right: int
    answered: int
    mean: float
    mistakes: tuple[Mistake, ...]


def summarize(found: Sequence[Graded], sheet: Sheet) -> list[Summary]:
    """Every item of a sheet, over all who handed something in that could be read."""
    return [_summary(slug, worth, [one for one in found if one.report is not None]) for slug, worth in sheet.points.items()]


def _summary(slug: str, worth: float, found: Sequence[Graded]) -> Summary:
    rows = [(one, one.rows[slug]) for one in found]
    wrong = [(mistake(row), one.seen.get(slug, "")) for one, row in rows if row["status"] not in ("right", "unanswered")]
    counts = Counter(words for words, _ in wrong)
    seen = {words: text for words, text in reversed(wrong) if text}
    mistakes = tuple(Mistake(words, n, seen.get(words, "")) for words, n in counts.most_common())
    right = sum(row["status"] == "right" for _, row in rows)
    answered = sum(row["status"] != "unanswered" for _, row in rows)
    return Summary(slug, worth, right, answered, sum(row["points"] for _, row in rows) / max(1, len(rows)), mistakes)


def mistake(row: Mapping[str, Any]) -> str:
    """What is wrong with an answer, in words of ours: its diagnosis, else its status, with the kind of an error that Python knows.

    >>> mistake({"status": "wrong", "diagnosis": "beta dropped"})
    'beta dropped'
    >>> mistake({"status": "raises", "diagnosis": None, "reason": "ValueError: a secret (line 3)"})
    'raises an exception: ValueError'
    """
    if row.get("diagnosis"):
        return str(row["diagnosis"]).removeprefix("mend it: ")
    status, reason = row["status"], row.get("reason") or ""
    if status == "wrong" and row.get("slug") in PROOFS:
        broken = re.match(r"Line \d+", reason)
        return f"{broken[0].lower()} does not follow" if broken else reason.split(":")[0]
    words = STATUS.get(status) or KINDS.get(status) or status
    kind = re.match(r"(?:It raises )?(\w+)", reason)
    known = kind is not None and isinstance(getattr(builtins, kind[1], None), type)
    return f"{words}: {kind[1]}" if status in ("raises", "does not import") and kind is not None and known else words


# ---------------------------------------------------------------------------------------------------- for programs


def as_csv(found: Sequence[Graded], sheet: Sheet, pages: Mapping[str, str] | None = None) -> str:
    """One line a student: name, points, points that can be had, those of each item, the status of each, why nothing was read, the page."""
    slugs = list(sheet.items)
    out = io.StringIO()
    pen = csv.writer(out, lineterminator="\n")
    pen.writerow(["student", "points", "out_of", *slugs, *(f"{slug}: status" for slug in slugs), "fault", *(["page"] if pages else [])])
    for one in found:
        rows = one.rows
        points = [f"{rows[slug]['points']:g}" if rows else "0" for slug in slugs]
        statuses = [rows[slug]["status"] if rows else "" for slug in slugs]
        page = [pages.get(one.student.name, "")] if pages else []
        cells = [one.student.name, f"{one.points:g}", f"{sheet.whole:g}", *points, *statuses, one.fault, *page]
        pen.writerow([harmless(cell) for cell in cells])
    return out.getvalue()


def harmless(cell: str) -> str:
    """A cell that a spreadsheet does not take for a formula: names of files are strangers' words.

    >>> harmless("=1+1"), harmless("ada")
    ("'=1+1", 'ada')
    """
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


def as_plain(found: Sequence[Graded], sheet: Sheet) -> dict[str, Any]:
    """The class as plain values."""
    return {
        "out_of": sheet.whole,
        "students": [
            {
                "name": one.student.name,
                "points": one.points,
                "fault": one.fault or None,
                "exercises": {slug: {k: row.get(k) for k in ("points", "status", "diagnosis")} for slug, row in one.rows.items()},
            }
            for one in found
        ],
        "items": [
            {**vars(item), "mistakes": [{"mistake": m.words, "count": m.count} for m in item.mistakes]} for item in summarize(found, sheet)
        ],
    }


# ---------------------------------------------------------------------------------------------------- for people


def as_text(found: Sequence[Graded], sheet: Sheet) -> str:
    """A line a student, then a line an item."""
    whole = sheet.whole
    rows = [[one.student.name, f"{one.points:g} / {whole:g}", one.fault or "; ".join(_statuses(one))] for one in found]
    read = sum(one.report is not None for one in found)
    items = [[s.slug, f"{s.right} of {read}", f"{s.mean:.3g} / {s.out_of:g}", _told(s)] for s in summarize(found, sheet)]
    return "\n\n".join(
        (
            table("", ["student", "points", "not right"], rows, left=(0, 2)),
            table("", ["item", "right", "mean", "most frequent mistakes"], items, left=(0, 3)),
        )
    )


def _statuses(one: Graded) -> list[str]:
    silent = sum(row["status"] == "unanswered" for row in one.rows.values())
    wrong = [f"{slug}: {mistake(row)}" for slug, row in one.rows.items() if row["status"] not in ("right", "unanswered")]
    return [*wrong, *([f"{silent} without an answer"] if silent else [])]


def _told(item: Summary) -> str:
    return "; ".join(f"{m.count} {m.words}" for m in item.mistakes[:MOST])


MORE_STYLE = """
.bar { display: inline-block; width: 8rem; height: .7rem; border: 1px solid #888; vertical-align: middle }
.bar i { display: block; height: 100%; background: #0072B2 }
.bins { display: flex; align-items: flex-end; gap: 2px; height: 8rem; border-bottom: 1px solid #888; max-width: 40rem }
.bins div { flex: 1; background: #0072B2; color: inherit; position: relative }
.bins span { position: absolute; bottom: 100%; width: 100%; text-align: center; font-size: .85rem }
.under { display: flex; gap: 2px; max-width: 40rem; font-size: .85rem } .under span { flex: 1; text-align: center }
ul { margin: 0; padding-left: 1.1rem } summary { cursor: pointer } .wide { overflow-x: auto; margin-top: 1.5rem }
td pre { max-width: 28rem; font-size: .85rem } td:first-child { min-width: 11rem }
@media (prefers-color-scheme: dark) { .bar i, .bins div { background: #56B4E9 } }
"""


def as_page(found: Sequence[Graded], sheet: Sheet, title: str = "The class") -> str:
    """The page of a class, without names: how the points lie, and a row for each item."""
    read, whole = [one for one in found if one.report is not None], sheet.whole
    rows = "".join(_row(item, len(read)) for item in summarize(found, sheet))
    missing = len(found) - len(read)
    lost = f"; {missing} submission{'s' if missing > 1 else ''} could not be read" if missing else ""
    mean = sum(one.points for one in read) / max(1, len(read))
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{STYLE}{MORE_STYLE}</style></head>\n<body><h1>{escape(title)}</h1>\n"
        f"<p>{len(read)} submissions{lost}; {mean:.3g} of {whole:g} points in the mean</p>\n{_histogram(read, whole)}"
        '<div class="wide"><table><tr><th>exercise</th><th>right</th><th class="n">mean</th><th>most frequent mistakes</th></tr>\n'
        f"{rows}</table></div>\n</body></html>\n"
    )


def _histogram(read: Sequence[Graded], whole: float) -> str:
    """How many students have how many points, in bars."""
    counts = Counter(min(BINS - 1, int(BINS * one.points / whole + 1e-9)) for one in read)
    most = max(counts.values(), default=1)
    bars = "".join(f'<div style="height:{85 * counts[k] / most:.1f}%"><span>{counts[k] or ""}</span></div>' for k in range(BINS))
    under = "".join(f"<span>{whole * k / BINS:.3g}-{whole * (k + 1) / BINS:.3g}</span>" for k in range(BINS))
    label = "how many have how many points"
    return f'<div class="bins" role="img" aria-label="{label}">{bars}</div><div class="under">{under}</div><p class="small">{label}</p>\n'


def _row(item: Summary, students: int) -> str:
    share = 100.0 * item.right / max(1, students)
    bar = f'<span class="bar"><i style="width:{share:.0f}%"></i></span>'
    told = "".join(_mistake(m) for m in item.mistakes[:MOST])
    others = sum(m.count for m in item.mistakes[MOST:])
    told += f"<li>{others} other</li>" if others else ""
    silent = students - item.answered
    told += f"<li>{silent} without an answer</li>" if silent else ""
    name = f"<strong>{escape(item.slug)}</strong><br>{escape(every()[item.slug].title)}"
    cells = f'<td>{name}</td><td>{item.right} of {students}<br>{bar}</td><td class="n">{item.mean:.3g} / {item.out_of:g}</td>'
    return f"<tr>{cells}<td>{f'<ul>{told}</ul>' if told else ''}</td></tr>\n"


def _mistake(m: Mistake) -> str:
    words = f"{m.count} &times; {escape(m.words)}"
    if not m.seen:
        return f"<li>{words}</li>"
    return f"<li><details><summary>{words}</summary><pre>{escape(m.seen)}</pre></details></li>"


def page_names(found: Sequence[Graded]) -> dict[str, str]:
    """A file name for each student's page, by the student's name: letters, digits and -._ only, no two alike.

    A name that would be another's is numbered.
    """
    told: dict[str, str] = {}
    taken: set[str] = set()
    for one in found:
        stem = re.sub(r"[^\w.-]+", "_", one.student.name).strip("._")[:80] or "student"
        name, k = f"{stem}.html", 2
        while name.casefold() in taken:
            name, k = f"{stem}-{k}.html", k + 1
        taken.add(name.casefold())
        told[one.student.name] = name
    return told
