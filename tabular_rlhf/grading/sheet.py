"""A sheet: what a class is asked, and what each item is worth.  A TOML file, or a Python file that may add exercises of its own.

    [points]                                              POINTS = {
    regret = 3                                                "regret": 3,
    best-value = { points = 2, form = 0.5 }                   "best-value": Item(2, form=0.5),
    prove-regret = { points = 4, hidden = true }              "prove-regret": Item(4, hidden=True),
                                                          }
    [free]                                                FREE = {"prove-regret": ("ddof", "sign of lambda")}
    prove-regret = ["ddof", "sign of lambda"]

A Python file without POINTS asks for the exercises that it adds, a point each.  It is code, and is run: once in a process, and after a
change once more, what it had added taken back first.

**Partial credit.**  `form` points are for an answer of the right form: numbers in the right shape, or a derivation that can be read.  The
others are for what is right; a derivation that breaks gets its share of them.  **Hidden**: the mark for what is right is shown with the
grades only; that for the form at once.

**Tried** before the class sees it: nobody is to lose a point by a fault of what is asked.  Of an exercise: its answer gives numbers on
every world on which answers are tried, is right by its own check, and so is every other answer that a convention leaves open; each declared
mistake is refuted, and under each choice.  Of a derivation: its solution is right.
"""

from __future__ import annotations

import hashlib
import runpy
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tabular_rlhf.check import check, judge
from tabular_rlhf.check.proof import judge_proof
from tabular_rlhf.check.question import Question, of_exercise
from tabular_rlhf.check.report import Report
from tabular_rlhf.check.trial import sound, tried
from tabular_rlhf.errors import InputError, did_you_mean, quoted, raised
from tabular_rlhf.exercises import EXERCISES, PROOFS, Exercise, Proof, every
from tabular_rlhf.files import read_bytes, read_text
from tabular_rlhf.formula.freedoms import choices
from tabular_rlhf.symbols import SYMBOLS

FORMED = ("right", "wrong", "approximate", "nan")
"""Statuses of an answer that has the right form."""
REMEDY = "see exercises/record.py and exercises/proof.py: add(Exercise(...)), add(Proof(...)), or POINTS = {slug: points}"


@dataclass(frozen=True)
class Item:
    """One line of a sheet.  points, in all; form, of these for the right form; hidden: the others are shown with the grades only."""

    points: float = 1.0
    form: float = 0.0
    hidden: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.points, bool) or not isinstance(self.points, int | float) or not 0 < self.points < 1e9:
            raise InputError("points must be positive", got=quoted(self.points), remedy=REMEDY)
        if isinstance(self.form, bool) or not isinstance(self.form, int | float) or not 0 <= self.form <= self.points:
            raise InputError("points for the form must be some of the points", got=quoted(self.form), remedy=f"give 0 to {self.points:g}")
        if not isinstance(self.hidden, bool):
            raise InputError("`hidden` must be true or false", got=quoted(self.hidden), remedy="leave it out for a mark that is shown")

    def for_form(self, status: str) -> float:
        """The points that an answer of a status has for its form."""
        return float(self.form) if status in FORMED else 0.0

    def share(self, status: str, share: float) -> float:
        """Of all points, what an answer gets: its form's, and its share of the others.

        >>> [Item(4, form=1).share(*told) for told in (("right", 1.0), ("wrong", 0.0), ("wrong", 0.5), ("raises", 0.0))]
        [1.0, 0.25, 0.625, 0.0]
        """
        return (self.for_form(status) + share * (self.points - self.form)) / self.points


@dataclass(frozen=True)
class Sheet:
    """items, by slug, in order; digest, of what they were read from."""

    items: Mapping[str, Item]
    digest: str

    @property
    def whole(self) -> float:
        """The points that can be had."""
        return sum(self.points.values())

    @property
    def points(self) -> dict[str, float]:
        """What each exercise is worth."""
        return {slug: float(item.points) for slug, item in self.items.items()}

    def only(self, slugs: set[str]) -> Sheet:
        """The same for some of its exercises."""
        return replace(self, items={slug: item for slug, item in self.items.items() if slug in slugs})


def read_sheet(path: Path | None) -> Sheet:
    """The sheet in a file; without one, every exercise of the course, a point each.  Raises InputError, and names the line at fault."""
    if path is None:
        return Sheet(dict.fromkeys(EXERCISES, Item()), "the course")
    digest = hashlib.sha256(read_bytes(path, "the file of exercises")).hexdigest()  # a missing file is missing, whatever runpy makes of it
    points = _once(path, digest).get("POINTS")
    if not isinstance(points, Mapping) or not points:
        raise InputError("there must be exercises to grade", got=quoted(points), where=str(path), remedy=REMEDY)
    return Sheet({slug: _item(slug, worth, path) for slug, worth in points.items()}, digest)


def _item(slug: str, worth: Any, path: Path) -> Item:
    if slug not in every():
        raise InputError("POINTS must name exercises", got=quoted(slug), where=str(path), remedy=_nearest_exercise(slug))
    try:
        if isinstance(worth, Mapping):
            strange = [str(name) for name in worth if name not in Item.__dataclass_fields__]
            if strange:
                remedy = f"an item has {', '.join(Item.__dataclass_fields__)}"
                raise InputError("an item must be told in known words", got=", ".join(strange), remedy=remedy)
            return Item(**worth)
        return worth if isinstance(worth, Item) else Item(worth)
    except InputError as e:
        raise e.at(f"{path}, {slug}") from None


def _nearest_exercise(slug: object) -> str:
    return did_you_mean(str(slug), every(), REMEDY)


# ---------------------------------------------------------------------------------------------------- what a file does to the tables


@dataclass
class _Run:
    """A file as it was read: its digest, what it told, and the entries of the tables that are another's since: table, name, before, now."""

    digest: str
    told: dict[str, Any]
    changes: list[tuple[dict[str, Any], str, Any, Any]]

    @property
    def stands(self) -> bool:
        """Whether all that it entered is still there."""
        return all(table.get(name) is now for table, name, _, now in self.changes)

    def take_back(self) -> None:
        """The tables as they were, but for what others changed meanwhile."""
        for table, name, before, now in self.changes:
            if table.get(name) is not now:
                continue
            if before is None:
                del table[name]
            else:
                table[name] = before


_RUN: dict[Path, _Run] = {}


def _once(path: Path, digest: str) -> dict[str, Any]:
    """What a file says, read if it was not, or if it changed."""
    place = path.resolve()
    last = _RUN.get(place)
    if last is not None and last.digest == digest and last.stands:
        return last.told
    if last is not None:
        last.take_back()
    tables: tuple[dict[str, Any], ...] = (EXERCISES, PROOFS, SYMBOLS)
    before = [dict(table) for table in tables]
    run = _RUN[place] = _Run(digest, {}, [])
    try:
        run.told = _of_toml(path) if path.suffix == ".toml" else _of_python(path)
    except BaseException:
        del _RUN[place]
        _Run(digest, {}, _changed(tables, before)).take_back()
        raise
    run.changes = _changed(tables, before)
    added = [name for table, name, old, _ in run.changes if table is not SYMBOLS and old is None]
    run.told.setdefault("POINTS", dict.fromkeys(added, 1.0))
    return run.told


def _changed(tables: tuple[dict[str, Any], ...], before: list[dict[str, Any]]) -> list[tuple[dict[str, Any], str, Any, Any]]:
    return [
        (table, name, old.get(name), now)
        for table, old in zip(tables, before, strict=True)
        for name, now in table.items()
        if old.get(name) is not now
    ]


def _of_toml(path: Path) -> dict[str, Any]:
    try:
        told = tomllib.loads(read_text(path, "the sheet"))
    except tomllib.TOMLDecodeError as e:
        raise InputError("a sheet must be TOML", got=str(e), where=str(path), remedy="see the top of grading/sheet.py") from None
    strange = sorted(told.keys() - {"points", "free"})
    if strange:
        raise InputError("a sheet must have known tables", got=", ".join(strange), where=str(path), remedy="there are [points] and [free]")
    _leave_free(told.get("free", {}), path)
    return {"POINTS": told.get("points")}


def _of_python(path: Path) -> dict[str, Any]:
    try:
        told = runpy.run_path(str(path))
    except (Exception, SystemExit) as e:  # a file that exits must not pass for one that was graded
        raise InputError("the exercises must import", got=raised(e), where=str(path), remedy="run the file by itself") from e
    _leave_free(told.get("FREE", {}), path)
    return {name: told[name] for name in ("POINTS",) if name in told}


def _leave_free(free: object, path: Path) -> None:
    """Enter the exercises anew with the conventions that a sheet leaves open."""
    if not isinstance(free, Mapping):
        raise InputError("what is free must be told by exercise", got=quoted(free), where=str(path), remedy='write slug = ["ddof"]')
    for slug, words in free.items():
        where = f"{path}, {slug}"
        if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
            raise InputError("what is free must be a list of conventions", got=quoted(words), where=where, remedy='write ["ddof"]')
        if slug not in every():
            raise InputError("what is free must be told of an exercise", got=quoted(slug), where=where, remedy=_nearest_exercise(slug))
        try:
            if slug in PROOFS:
                choices(words)
                PROOFS[slug] = replace(PROOFS[slug], free=tuple(words))
            else:
                EXERCISES[slug] = replace(EXERCISES[slug], conventions=tuple(words))
        except InputError as e:
            raise e.at(where) from None


# ---------------------------------------------------------------------------------------------------- tried before the class sees it


SCHEMA = "tabular-rlhf/sheet/1"


@dataclass(frozen=True)
class Finding:
    """What was found of one part of an exercise: whether it is well, and in words."""

    part: str
    ok: bool
    told: str


def verified(sheet: Sheet, path: Path | None) -> None:
    """Raise InputError where an answer of a sheet of one's own fails on a world: what `grade` asks before it marks."""
    if path is None:
        return
    for slug in sheet.items:
        if slug not in PROOFS:
            sound(of_exercise(EXERCISES[slug]))
        elif not (report := judge_proof(PROOFS[slug], PROOFS[slug].solution)).ok:
            raise InputError("a proof's solution must be right", got=report.told, where=slug, remedy="mend it, or what it is asked for")


def examine(slug: str) -> list[Finding]:
    """All that is asked of one exercise before a class is."""
    return list(_of_proof(PROOFS[slug]) if slug in PROOFS else _of_exercise(EXERCISES[slug]))


def _of_proof(proof: Proof) -> Iterator[Finding]:
    report = judge_proof(proof, proof.solution)
    yield Finding("solution", report.ok, report.told)


def _of_exercise(exercise: Exercise) -> Iterator[Finding]:
    question = of_exercise(exercise)
    try:
        worlds = len(tried(question))
        for asked in (question, *(other for _, other in question.chosen)):
            sound(asked)
    except InputError as e:
        yield Finding("answer", False, str(e))
        return
    yield _right("answer", check(exercise.slug, exercise.answer), worlds)
    for words, other in question.chosen:
        yield _right(f"convention: {words}", judge(question, other.truths[0]), worlds)
        if judge(_alone(question), other.truths[0]).ok:
            yield Finding(f"convention: {words}", False, "it changes nothing on any world: leave it out")
    for words, wrong in exercise.misses.items():
        yield _refuted(words, judge(question, wrong))


def _alone(question: Question) -> Question:
    """What is asked without its conventions."""
    return replace(question, others=())


def _right(part: str, report: Report, worlds: int) -> Finding:
    return Finding(part, report.ok, f"right on {worlds} worlds" if report.ok else report.told)


def _refuted(words: str, report: Report) -> Finding:
    """A declared mistake: it must be wrong somewhere, and is best known by its own name."""
    part = f"mistake: {words}"
    if report.ok:
        return Finding(part, False, f"it is right on all {report.worlds} worlds: it is no mistake")
    size = f", on {report.counterexample.responses} responses" if report.counterexample else ""
    if report.status != "wrong":
        return Finding(part, report.status in ("nan", "shape"), f"it {report.told[:1].lower()}{report.told[1:]}")
    known = "" if report.diagnosis in (words, None) else f"; it is told as: {report.diagnosis}"
    return Finding(part, True, f"refuted{size}{known}")
