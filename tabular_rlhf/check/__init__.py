r"""A reader's own answer, checked: a formula, a gradient, an estimator, a line of a derivation.

    check("regret", lambda beta, log_p, log_p_star: beta * np.sum(np.exp(log_p) * (log_p - log_p_star), axis=1))

The answer's parameters are symbols by name (`tabular-rlhf symbols`).  It is tried on some three hundred worlds, smallest first.  Where it
fails, the failure is shrunk to the simplest world and numbers, and the answer is compared with known mistakes on other worlds.

**What is guarded.**  Exceptions, nan, wrong shapes, changed arguments and randomness are reported as what they are.
The same answer gets the same report every time, on every machine: what limits the search is a number of worlds, of calls, of candidates.

**What is right.**  What agrees to rounding, in the numbers that the answer is made of (`tolerance.py`).  An answer that is right to
six digits or more and no further is told so ("approximate"): a difference quotient, a search that stopped early.  It is not `ok`, and gets
no mark where answers are graded, unless the exercise itself asks for so many decimals.

A clock only ever stops an answer that does not come back, and then the report says that it was stopped: neither right nor wrong.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from tabular_rlhf.check.calling import (
    ALL,
    STILL,
    BadNames,
    Problem,
    Stopped,
    Through,
    constant,
    limited,
    quietly,
    repeats,
    supply,
    watched,
)
from tabular_rlhf.check.calling import told as told_error
from tabular_rlhf.check.candidates import called
from tabular_rlhf.check.diagnose import diagnosis, one_mistake
from tabular_rlhf.check.facts import spelled
from tabular_rlhf.check.question import Question, find
from tabular_rlhf.check.report import Counterexample, Report, broken_relation, counterexample, told_of
from tabular_rlhf.check.shrink import smallest
from tabular_rlhf.check.trial import comparable, fault, first_world, forbids, tried
from tabular_rlhf.derivations import RELATIONS
from tabular_rlhf.errors import InputError
from tabular_rlhf.exercises.proof import PROOFS
from tabular_rlhf.formula.printed import printed
from tabular_rlhf.symbols import SYMBOLS, Scope
from tabular_rlhf.tolerance import Gap
from tabular_rlhf.world import World

CARELESS = "right wherever p_ref > 0, but here the reference forbids a token (log p = -inf): it counts for nothing, and 0 log 0 = 0"


def check(slug: str, answer: Any, *, part: int | str | None = None, world: World | None = None) -> Report:
    """Check an answer.

    Args: slug, an exercise, a row of the ledger, "derivation/line", or a proof that is asked for; answer, the text of a proof, or a
    function that returns it; else a formula as text, a function of symbols by name (it may return a scalar, an array, a tuple with one
    entry a part, or a function of symbols), or the value itself; part, of a row with several; world, one of
    your own on which it is tried too.
    Returns: a `Report`, true in a condition where the answer is right.  Raises InputError for an unknown slug or part, or a
    world that the question does not apply to.

    >>> check("regret-is-kl", lambda value, J_x: value - J_x).ok
    True
    >>> report = check("regret-is-kl", lambda log_p, log_p_star: np.sum(np.exp(log_p) * (log_p - log_p_star), axis=1))
    >>> report.status, report.diagnosis
    ('wrong', 'beta dropped')
    >>> check("regret", r"\\beta\\, \\mathrm{KL}(p \\| p^*)").ok
    True
    """
    if slug in PROOFS:
        from tabular_rlhf.check.proof import judge_proof  # the reader of formulas is opened for those who ask for it

        return judge_proof(PROOFS[slug], answer, world)
    asked = find(slug, part) if world is None else [_on_world_too(question, world) for question in find(slug, part)]
    if isinstance(answer, str):
        answer = printed(answer)
    function: Callable[..., Any] = answer if callable(answer) else constant(answer)
    try:
        function = asked[0].asked(function)
        first = watched(function, first_world(asked[0]))
    except Stopped as e:
        return stopped(asked[0], e)
    except InputError as e:
        return Report(asked[0].slug, asked[0].part, "raises", f"It cannot be read: {e}.")
    except BadNames as e:
        return Report(asked[0].slug, asked[0].part, "names", f"{e}.")
    except (TypeError, ValueError) as e:
        return Report(asked[0].slug, asked[0].part, "names", f"Its parameters cannot be read: {e}.")
    if isinstance(first, Problem) and first.kind == "unanswered":
        return Report(asked[0].slug, asked[0].part, first.kind, told_of(first))
    if len(asked) > 1 and _in_parts(first, asked):
        return _all_parts(asked, function)
    return judge(asked[0], Through(function, _as_rows) if isinstance(first, tuple) else function)


def _on_world_too(question: Question, world: World) -> Question:
    """The question, tried on this world too.  Raises InputError where it does not apply there."""
    scope = Scope(world, 0)
    if not question.applies(scope):
        must, remedy = "what is asked must apply to the world", "take a smaller world, or one that forbids no token: see the statement"
        raise InputError(must, got=f"{world.name} of {world.responses} responses", where=question.slug, remedy=remedy)
    return replace(question, own=scope)


def _in_parts(first: Any, asked: list[Question]) -> bool:
    """Whether what came back is one entry a part: a tuple of arrays, or as many numbers as there are parts."""
    numbers = isinstance(first, np.ndarray) and first.shape == (len(asked),)
    return isinstance(first, tuple) or (numbers and np.shape(asked[0].truth(first_world(asked[0]))) != (len(asked),))


def _all_parts(asked: list[Question], function: Callable[..., Any]) -> Report:
    """A tuple with one entry a part: the first part that is wrong, or all right."""
    reports = []
    for k, question in enumerate(asked):
        reports.append(judge(question, Through(function, one_part(k, len(asked)))))
        if not reports[-1].ok:
            return reports[-1]
    ruled = tuple(dict.fromkeys(r for report in reports for r in report.ruled_out))
    told = f"All {len(asked)} parts are right, on {min(r.worlds for r in reports)} worlds each."
    return Report(asked[0].slug, "all parts", "right", told, reports[0].worlds, ruled, reports[0].notes)


def one_part(k: int, parts: int) -> Callable[[Any], Any]:
    """Takes one entry of what a function returns, if there are as many as parts."""

    def entry(value: Any) -> Any:
        count = len(value) if isinstance(value, tuple | list) or np.ndim(value) else 1
        if count != parts:
            raise ValueError(f"{parts} parts are asked for, {count} came back")
        return value[k]

    return entry


def _as_rows(value: Any) -> Any:
    """A tuple where one array is asked for: its entries as rows."""
    return list(value) if isinstance(value, tuple) else value


# ---------------------------------------------------------------------------------------------------- one question


def judge(question: Question, function: Callable[..., Any]) -> Report:
    """Try an answer to one question on every world that it applies to; stop at the first failure and explain it."""
    try:
        with limited(function, f"all calls together took {ALL:g} seconds of the processor", PROF=ALL, REAL=STILL * ALL):
            words, chosen = _choice(question, function)
            report = _judged(chosen, function)
            told = "its convention" if report.ok else "told by the nearest convention"
            return replace(report, notes=(*report.notes, f"{told}: {words}")) if words else report
    except Stopped as e:
        return stopped(question, e)


def _choice(question: Question, function: Callable[..., Any]) -> tuple[str, Question]:
    """What is asked, by the choice under which an answer is right on all worlds, of those that are left open; else by the nearest."""
    if not question.chosen:
        return "", question
    choices, scopes = [("", question), *question.chosen], tried(question)
    values = [watched(function, scope) for scope in scopes]
    faults = [[(fault(other, function, v, s), s) for v, s in zip(values, scopes, strict=True)] for _, other in choices]
    for choice, found in zip(choices, faults, strict=True):
        if all(kind is None for kind, _ in found):
            return choice
    if any(kind not in (None, "wrong", "approximate") for found in faults for kind, _ in found) or not repeats(function, scopes[0]):
        return choices[0]
    return choices[_nearest(choices, faults, values, function)]


def _nearest(
    choices: list[tuple[str, Question]], faults: list[list[tuple[str | None, Scope]]], values: list[Any], function: Callable[..., Any]
) -> int:
    """The number of the choice next to which a wrong answer is a mistake that comes with the question; else any one mistake; else of that
    from which it is least far on most worlds.
    """
    known: list[int] = []
    for k, ((_, question), found) in enumerate(zip(choices, faults, strict=True)):
        failed = next((scope for kind, scope in found if kind == "wrong"), None)
        seen = None if failed is None else one_mistake(question, function, failed)
        if seen is not None and seen.words in dict(question.misses):
            return k
        known += [k] * (seen is not None)
    if known:
        return known[0]
    apart = [[question.gap(v, s, function).units for _, question in choices] for v, (_, s) in zip(values, faults[0], strict=True)]
    return int(np.argmax(np.bincount([int(np.argmin(row)) for row in apart], minlength=len(choices))))


def stopped(question: Question, why: Stopped) -> Report:
    """The report on an answer that a guard stopped."""
    told = f"It was stopped, and is neither right nor wrong: {why}."
    return Report(question.slug, question.part, "stopped", told)


def _judged(question: Question, function: Callable[..., Any]) -> Report:
    scopes = tried(question)
    if not repeats(function, first_world(question)):
        told = "Called eight times with the same arguments, it returns different values. Compute the expectation exactly, or fix the draws."
        return Report(question.slug, question.part, "random", told)
    near: list[tuple[Gap, Scope]] = []
    for count, scope in enumerate(scopes):
        value = watched(function, scope)
        kind = fault(question, function, value, scope)
        if kind == "approximate":  # and wrong, perhaps, on another
            near.append((question.gap(value, scope, function), scope))
        elif kind is not None:
            return _explained(question, function, scope, kind, count)
    return _approximate(question, function, near, len(scopes)) if near else _right(question, function, scopes)


def _approximate(question: Question, function: Callable[..., Any], near: list[tuple[Gap, Scope]], count: int) -> Report:
    """Right to some digits on every world, and on some of them no more."""
    digits = min(gap.digits for gap, _ in near)
    told = (
        f"It is right to {digits} digits on all {count} worlds, but not exact: on {len(near)} it is off by more than rounding explains, as "
        "a difference quotient is, or a search that stops early. The exact answer is asked for, and this does not count as one."
    )
    scope = min(near, key=lambda found: (found[1].world.responses, -found[0].units))[1]
    value = watched(function, scope)
    shown = _shown(question, function, scope, value)
    return Report(question.slug, question.part, "approximate", told, count, (), tuple(_notes(function, value)), None, 0, shown)


def _right(question: Question, function: Callable[..., Any], scopes: list[Scope]) -> Report:
    notes = _notes(function, watched(function, scopes[0]))
    largest = max(s.world.responses for s in scopes)
    does = "agrees with the exact answer" if question.line is None else "stands as it should to the lines before and after"
    told = f"It {does} on {len(scopes)} worlds of up to {largest} responses."
    ruled = tuple(words for words, wrong in question.misses if _is_another(question, called(wrong, None), scopes))
    return Report(question.slug, question.part, "right", told, len(scopes), ruled, tuple(notes))


def _is_another(question: Question, wrong: Callable[[Scope], Any], scopes: list[Scope]) -> bool:
    """Whether a mistake is seen to be one: on some world it is not the right answer."""
    for scope in scopes:
        with np.errstate(all="ignore"), suppress(Exception):  # what cannot be read, or run, rules nothing out; `exercises --check` says why
            if question.differs(wrong(scope), scope):
                return True
    return False


def _notes(function: Callable[..., Any], value: Any) -> list[str]:
    """Notes on symbols that have defaults, and on coarse numbers."""
    defaults = [n for n in _defaults(function) if n in SYMBOLS]
    notes = [f"{', '.join(defaults)} has a default, so it is not supplied"] if defaults else []
    coarse = isinstance(value, np.ndarray) and value.dtype.itemsize < 8
    return notes + ([f"it is in {value.dtype}, and compared to within the rounding of that (at most 1e-4)"] if coarse else [])


def _defaults(function: Callable[..., Any]) -> list[str]:
    return [p.name for p in inspect.signature(function).parameters.values() if p.default is not inspect.Parameter.empty]


FAULTS = ("wrong", "nan", "shape")
"""What is shrunk and diagnosed."""


def _explained(question: Question, function: Callable[..., Any], scope: Scope, kind: str, count: int) -> Report:
    """A failure, shrunk and diagnosed."""
    scope = _shrunk(question, function, scope, kind) if kind in FAULTS else scope
    value = watched(function, scope)
    if kind == "unanswered":
        return Report(question.slug, question.part, kind, told_of(value), count)
    told = _told(question, function, value, scope, kind, count)
    found = diagnosis(question, function, scope) if kind in FAULTS else None
    shown = _shown(question, function, scope, value) if kind in (*FAULTS, "raises") else None
    words, compared = (found.words, found.worlds) if found else (None, 0)
    notes = _notes(function, value)
    notes += [CARELESS] if forbids(scope) and not all(map(forbids, tried(question))) else []  # those come last
    return Report(question.slug, question.part, kind, told, count, (), tuple(notes), words, compared, shown)


def _shown(question: Question, function: Callable[..., Any], scope: Scope, value: Any) -> Counterexample:
    """The numbers of a failure: beside the exact value, or beside the line of which a line is at odds."""
    if question.line is None or fault(question, function, value, scope) not in ("wrong", "approximate"):
        return counterexample(function, scope, value, question.truth(scope))
    with quietly():
        return broken_relation(function, scope, question)


def _told(question: Question, function: Callable[..., Any], value: Any, scope: Scope, kind: str, count: int) -> str:
    right = question.truth(scope)
    if isinstance(value, Problem):
        return told_of(value)
    if kind == "shape":
        sizes = " ".join(f"{n}={scope[n]}" for n in "PNSV")
        letters = spelled([(s, np.shape(question.truth(s))) for s in comparable() if question.applies(s)])
        expected = f"{np.shape(right)}{f', which is {letters},' if letters and letters != str(np.shape(right)) else ''}"
        return f"It returns shape {np.shape(value)} where {expected} is expected, in a world of {sizes}."
    if kind == "nan":
        return "It returns nan (not a number) where the exact answer is a number."
    if kind == "raises":  # what is compared of a line, and not the line itself
        try:
            question.gap(value, scope, function)
        except Exception as e:
            return told_of(Problem(kind, told_error(e)))
    after = f" (after {count} worlds on which it was right)" if count else ""
    if question.line is not None:
        j, k = question.relation(function, scope)[0], question.line[1]
        which = f"It does not follow from line {k - 1}" if j == k else f"Line {j} does not follow from it"
        meaning = RELATIONS[question.line[0].lines[j - 1].relation].meaning
        return f"{which} ({meaning}), on a world of {_responses(scope)}{after}."
    return f"It differs from the exact answer on a world of {_responses(scope)}{after}."


def _responses(scope: Scope) -> str:
    n = scope.world.responses
    return f"{n} response{'s' if n > 1 else ''}"


def _shrunk(question: Question, function: Callable[..., Any], scope: Scope, kind: str) -> Scope:
    """The simplest world on which the answer fails in the same way."""
    if question.most < 2**62:  # each world is dear: the first failure must do
        return scope

    def fails(s: Scope) -> bool:
        try:
            return question.applies(s) and fault(question, function, watched(function, s), s) == kind
        except Exception:  # a world too odd for the question itself
            return False

    most = scope.world.responses
    found = smallest(fails, most, gaps=forbids(scope))
    return found if found is not None and found.world.responses <= most else scope


__all__ = ["Report", "check", "fault", "find", "judge", "supply", "tried"]
