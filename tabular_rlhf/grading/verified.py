"""An instructor's sheet, tried before the class sees it: nobody is to lose a point by a fault of what is asked.

Of an exercise: its answer gives numbers on every world on which answers are tried, is right by its own check, and so is every other answer
that a convention leaves open; each declared mistake is refuted, and under each choice.  Of a derivation: its solution is right.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tabular_rlhf.check import check, judge
from tabular_rlhf.check.proof import judge_proof
from tabular_rlhf.check.question import Question, of_exercise
from tabular_rlhf.check.report import Report
from tabular_rlhf.check.trial import sound, tried
from tabular_rlhf.errors import InputError
from tabular_rlhf.exercises import EXERCISES, PROOFS, Exercise, Proof
from tabular_rlhf.grading.sheet import Sheet

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
