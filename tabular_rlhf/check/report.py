"""What the reader is told: a verdict in one sentence, the smallest counterexample with every number, and what it looks like."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from html import escape
from typing import Any

import numpy as np

from tabular_rlhf.check.calling import Problem
from tabular_rlhf.check.question import Question
from tabular_rlhf.derivations import RELATIONS
from tabular_rlhf.ledger.explain import instance, labels, meaning, ordered
from tabular_rlhf.ledger.explain_text import columns, world_lines
from tabular_rlhf.symbols import SYMBOLS, Scope, parameters
from tabular_rlhf.told import apart, differing, number

SCHEMA = "tabular-rlhf/check/1"
WIDTH = 118
MOST = 12
"""Entries of an array that are shown."""
STATUS = {
    "right": "right",
    "wrong": "not right",
    "approximate": "right to some digits, but not exact",
    "raises": "raises an exception",
    "nan": "returns nan",
    "shape": "has the wrong shape",
    "mutates": "changes its arguments",
    "random": "is random",
    "stopped": "was stopped",
    "names": "asks for names that are no symbols",
    "unanswered": "not answered yet",
}
OPEN = ("unanswered", "stopped")
"""Neither right nor wrong."""


@dataclass(frozen=True)
class Counterexample:
    """The smallest world found on which the answer fails: the world in words, the symbols used, yours beside the exact value.

    beside: what `exact` is: the exact value, or what a line that yours does not follow from (or that does not follow from yours) has
    there.  view: what of both is compared.
    """

    responses: int
    world: dict[str, Any]
    symbols: dict[str, list[tuple[str, float]]]
    entries: list[str]
    yours: list[float] | None
    exact: list[float]
    beside: str = "exact"
    view: str = "value"


@dataclass(frozen=True)
class Report:
    """The result of a check.  True in a condition if the answer is right; prints as text, renders as HTML in a notebook.

    slug, part; status, a key of STATUS; told, one sentence; worlds, on how many the answer was tried; ruled_out, the wrong answers
    that it is not; notes; diagnosis, what a wrong answer looks like, and on how many worlds that was compared; counterexample;
    share, of the points, of a derivation that breaks: its steps up to there.
    """

    slug: str
    part: str
    status: str
    told: str
    worlds: int = 0
    ruled_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    diagnosis: str | None = None
    compared: int = 0
    counterexample: Counterexample | None = field(default=None, repr=False)
    share: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether the answer is right."""
        return self.status == "right"

    def __bool__(self) -> bool:
        return self.ok

    def require(self) -> None:
        """Raise AssertionError with the whole report unless the answer is right: for graders that count assertions."""
        if not self.ok:
            raise AssertionError(str(self))

    def json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        c = self.counterexample
        found = None if c is None else {**c.__dict__, "symbols": {k: [list(e) for e in v] for k, v in c.symbols.items()}}
        whole = {k: list(v) if isinstance(v, tuple) else v for k, v in self.__dict__.items() if k != "counterexample"}
        return {"schema": SCHEMA, "ok": self.ok, **whole, "counterexample": found}

    def __str__(self) -> str:
        lines = [self.headline]
        for sentence in self._sentences():
            lines += textwrap.wrap(sentence, WIDTH, initial_indent="  ", subsequent_indent="    ")
        if self.counterexample is not None:
            lines += ["", *_counterexample(self.counterexample)]
        return "\n".join(line.rstrip() for line in lines)

    @property
    def headline(self) -> str:
        """One line: mark, name, status."""
        of = f", {self.part}" if self.part else ""
        return f"{'✓' if self.ok else '…' if self.status in OPEN else '✗'} {self.slug}{of}: {STATUS[self.status]}"

    def _sentences(self) -> list[str]:
        lines = [self.told]
        if self.diagnosis:
            found = self.diagnosis.removeprefix("mend it: ")
            what = "It looks like this mistake" + (", which one change mends" if found != self.diagnosis else "")
            lines.append(f"{what}: {found} (agrees with your answer on all {self.compared} worlds compared).")
        if self.ok and self.ruled_out:
            lines.append(f"That rules out: {'; '.join(self.ruled_out)}.")
        return lines + [f"Note: {note}" for note in self.notes]

    def _repr_html_(self) -> str:
        """For a notebook: the sentences, and the counterexample in a block of its own; colors are never the only sign."""
        edge = "#009E73" if self.ok else "#6E6E6E" if self.status in OPEN else "#D55E00"
        body = "".join(f"<div>{escape(s.strip())}</div>" for s in self._sentences())
        if self.counterexample is not None:
            shown = escape("\n".join(line.rstrip() for line in _counterexample(self.counterexample)))
            body += f'<pre style="margin:.5em 0 0;overflow-x:auto">{shown}</pre>'
        return f'<div style="border-left:.3em solid {edge};padding:.2em .8em"><strong>{escape(self.headline)}</strong>{body}</div>'


def _counterexample(c: Counterexample) -> list[str]:
    lines = ["  The smallest world found on which it fails:", *("  " + line for line in world_lines(c.world))]
    told = ("r", "p_ref", "beta", "p", "p_star", *c.world["drawn"])  # in the lines above, as tables
    shown = {name: entries for name, entries in c.symbols.items() if name not in told}
    for name, entries in shown.items():
        cells = "   ".join(f"{label + ': ' if label else ''}{number(v)}" for label, v in entries[:MOST])
        lines.append(f"    {name} = {cells}" + (f"   … {len(entries)} numbers" if len(entries) > MOST else ""))
    if c.yours is None:
        rows = [(label or "answer", [v]) for label, v in zip(c.entries[:MOST], c.exact[:MOST], strict=True)]
        lines += ["", *("  " + line for line in columns("", [c.beside], rows))]
    else:
        spec = apart(c.yours, c.exact)
        rows = [(c.entries[i] or "answer", [c.yours[i], c.exact[i]]) for i in differing(c.yours, c.exact, MOST)]
        view = "" if c.view == "value" else f"{c.view} of"
        lines += ["", *("  " + line for line in columns(view, ["yours", c.beside], rows, spec))]
    return lines + ([f"    … {len(c.entries)} entries"] if len(c.entries) > MOST else [])


def counterexample(function: Callable[..., Any], scope: Scope, yours: Any, exact: Any) -> Counterexample:
    """Plain numbers of a failure, in the order that people see."""
    axes = meaning([(scope, exact)])
    same = isinstance(yours, np.ndarray) and yours.shape == np.shape(exact)
    alone = isinstance(yours, np.ndarray) and not yours.ndim
    shown = ordered(yours, scope.world.mdp, axes) if same else [float(yours)] * np.size(exact) if alone else None
    return _numbers(function, scope, shown, exact, axes)


def broken_relation(function: Callable[..., Any], scope: Scope, question: Question) -> Counterexample:
    """Plain numbers of a line that breaks a relation: what the relation sees of that line, beside what it sees of the other."""
    assert question.line is not None
    derivation, k = question.line
    j, _ = question.relation(function, scope)
    lines = question.placed(function)
    seen = derivation.seen(j, scope, lines)
    yours, other = (seen.after, seen.before) if j == k else (seen.before, seen.after)
    axes = meaning([(scope, other)])
    shown = ordered(yours, scope.world.mdp, axes) if np.shape(yours) == np.shape(other) else None
    found = _numbers(function, scope, shown, other, axes)
    return replace(found, beside=f"line {j - 1 if j == k else j}", view=RELATIONS[lines[j - 1].relation].view)


def _numbers(function: Callable[..., Any], scope: Scope, yours: list[float] | None, exact: Any, axes: tuple[str, ...]) -> Counterexample:
    mdp = scope.world.mdp
    names = [n for n in parameters(function) if n in SYMBOLS and SYMBOLS[n].level != "tool"]
    return Counterexample(
        scope.world.responses,
        instance(scope, [function]),
        {n: _entries(scope, n) for n in names},
        labels(mdp, np.shape(exact), axes),
        yours,
        ordered(exact, mdp, axes),
    )


def _entries(scope: Scope, name: str) -> list[tuple[str, float]]:
    value = scope[name]
    axes = meaning([(scope, value)])
    return list(zip(labels(scope.world.mdp, np.shape(value), axes), ordered(value, scope.world.mdp, axes), strict=True))


def told_of(problem: Problem) -> str:
    """A problem as a sentence."""
    return problem.told[0].upper() + problem.told[1:] + "."
