"""Executing a derivation: every line evaluated on a world, every relation measured, stopping where the first one breaks.

**As claims** of the ledger's audit: every line follows on every world, every wrong line is refuted where it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np

from tabular_rlhf.derivations.lines import RELATIONS, Kept, Line, Seen
from tabular_rlhf.derivations.record import DERIVATIONS, Derivation
from tabular_rlhf.errors import InputError, quoted, raised
from tabular_rlhf.ledger import worlds
from tabular_rlhf.ledger.audit import Claim, Verdict, audit
from tabular_rlhf.ledger.explain import instance, labels, meaning, ordered
from tabular_rlhf.ledger.prints import Print
from tabular_rlhf.ledger.record import today
from tabular_rlhf.registry import one_of
from tabular_rlhf.symbols import Scope
from tabular_rlhf.world import NAMED, World, coin, fork, named_world, random_world, rational

Record = dict[str, Any]


@dataclass(frozen=True)
class Step:
    """One executed line.  entries: its value as (label, number).  error: the gap to the line before in units of what rounding allows.

    ok: whether the relation holds; None for the first line.  Where it does not hold: verdict, "near" or "different"; view, what the
    relation looks at; seen, that of the line before and of this one as (label, number, number).  source: its line in the reader's text.
    printed: whether what is printed is what runs; else only the function beside it does.
    """

    number: int
    tex: str
    mark: str
    relation: str
    reason: str
    entries: tuple[tuple[str, float], ...]
    error: float
    ok: bool | None
    verdict: str = ""
    view: str = ""
    seen: tuple[tuple[str, float, float], ...] = ()
    source: int = 0
    printed: bool = True


@dataclass(frozen=True)
class Derived:
    """An executed derivation.  Prints as text; in a notebook it renders as Markdown; `html()` makes a fragment of a page.

    world, responses: the one that is shown, and its size.  worlds: on how many every line was tried; the shown one is the smallest on which
    one does not follow, if there is any, and then instance is that world in numbers.  letters: what those mean that are not in `symbols`,
    or in a reader's own derivation all.  Of a reader's own: mended, what would make the first broken line hold; unread, formulas within
    sentences.
    """

    slug: str
    title: str
    chapter: int
    source: str
    rows: tuple[str, ...]
    world: str
    responses: int
    worlds: int
    steps: tuple[Step, ...]
    instance: Record | None = None
    letters: Mapping[str, str] = field(default_factory=dict)
    mended: str = ""
    unread: tuple[str, ...] = ()

    @property
    def broken(self) -> int | None:
        """The number of the first line that does not follow, or None."""
        return next((s.number for s in self.steps if s.ok is False), None)

    @property
    def holds(self) -> bool:
        """Whether every line follows from the one before."""
        return self.broken is None

    def __str__(self) -> str:
        from tabular_rlhf.derivations.text import text

        return text(self)

    def _repr_markdown_(self) -> str:
        from tabular_rlhf.derivations.text import markdown

        return markdown(self)

    def html(self) -> str:
        """A fragment of HTML that needs no script."""
        from tabular_rlhf.derivations.text import html

        return html(self)

    def json(self) -> Record:
        """Plain values for JSON."""
        steps = [{**s.__dict__, "entries": [list(e) for e in s.entries], "seen": [list(e) for e in s.seen]} for s in self.steps]
        return {
            **{k: v for k, v in self.__dict__.items() if k != "steps"},
            "rows": list(self.rows),
            "letters": dict(self.letters),
            "unread": list(self.unread),
            "holds": self.holds,
            "steps": steps,
        }


def find(slug: str) -> Derivation:
    """The derivation of a name.  Raises InputError with the nearest names."""
    slug = today(slug, DERIVATIONS)
    return DERIVATIONS[one_of(DERIVATIONS, slug, "a derivation must be in the table")]


def derive(slug: str, world: World | str | None = None, *, lines: Mapping[int, Callable[..., Any]] | None = None, seed: int = 0) -> Derived:
    """Execute a derivation line by line.

    Args: slug, its name, or the text of a derivation of your own (`own_text`); world, a World or the name of one, on which alone
    it is then tried (default: tried on all small worlds that fit, and shown on the smallest that refutes a line, or else on the first of
    rational, fork, coin that fits); lines, functions to stand in place of lines, by number from 1: a reader's own; seed, of what is drawn.
    Returns: a `Derived`, which prints itself.  Raises InputError for an unknown name, line, or a world outside the hypotheses.

    >>> derive("gibbs-optimum").holds
    True
    >>> derive("gibbs-optimum", lines={2: lambda E_r, beta, KL: E_r + beta * KL}).broken
    2
    """
    if is_text(slug):
        from tabular_rlhf.derivations.own import derive_text  # the reader of formulas is imported only for those who write some

        return derive_text(slug, world, seed=seed)
    return execute(find(slug), world, lines or {}, seed)


def is_text(slug: str) -> bool:
    """Whether it is a derivation itself, and not the name of one.

    >>> is_text("gibbs-optimum"), is_text("J_x = E_p[r]")
    (False, True)
    """
    return isinstance(slug, str) and any(sign in slug for sign in "\n=<>≤≥$\\")


def execute(derivation: Derivation, world: World | str | None, lines: Mapping[int, Callable[..., Any]], seed: int) -> Derived:
    """Try a derivation, and show it on one world; see `derive`."""
    shown, read = _scope(derivation, world, seed), _instead(derivation, lines)
    steps = _related(read, lines)
    scopes = [shown] if world is not None else [*small_scopes(derivation, read, steps, seed), shown]
    count, fails = next(((k, s) for k, s in enumerate(scopes, 1) if not follows(derivation, read, steps, s)), (len(scopes), None))
    # a wrong line may divide by zero: its value then shows it
    accidents = (
        np.errstate(all="ignore")
        if lines or fails or not derivation.rows
        else np.errstate(divide="raise", over="raise", invalid="raise", under="ignore")
    )
    return _read(derivation, read, fails or shown, count, accidents, sought=world is None)


EVALUATIONS = 1500
"""Evaluations of lines that trying one derivation may take: where all worlds would take more, it is tried on an even choice of them."""


def small_scopes(derivation: Derivation, read: tuple[Line, ...], steps: Sequence[int], seed: int = 0) -> list[Scope]:
    """The worlds on which relations are tried, fewest responses first: by accident a wrong line may hold on one, as on one beta."""
    fits = [s for s in worlds.everywhere(seed) if derivation.applies(s)]
    cost = sum(RELATIONS[read[k - 1].relation].cost for k in steps)
    most = min(derivation.most, EVALUATIONS // max(1, cost))
    return sorted(fits, key=lambda s: s.world.responses)[:: (len(fits) // most) | 1]  # odd: betas and ties come in turns


def _instead(derivation: Derivation, lines: Mapping[int, Callable[..., Any]]) -> tuple[Line, ...]:
    """The lines to be read, some of them replaced."""
    for k, line in lines.items():
        if k not in range(1, len(derivation.lines) + 1):
            must = f"a line must be one of the numbers 1 to {len(derivation.lines)}"
            raise InputError(must, got=quoted(k), where=derivation.slug, remedy="count from 1")
        if not callable(line):
            raise InputError(
                "a line must be a function of symbols", got=quoted(line), where=f"{derivation.slug}, line {k}", remedy="lambda: ..."
            )
    return tuple(line.instead(lines[k]) if k in lines else line for k, line in enumerate(derivation.lines, 1))


def _related(read: Sequence[Line], lines: Mapping[int, Any] | None) -> list[int]:
    """The lines whose relation to the line before is in question: all, or those beside a replaced one."""
    steps = [k for k in range(2, len(read) + 1) if read[k - 1].relation != "so"]
    return steps if not lines else [k for k in steps if k in lines or k - 1 in lines]


FAULTS = (TypeError, ValueError, AttributeError, IndexError, KeyError, ArithmeticError)
"""What a reader's line may raise."""


def follows(derivation: Derivation, read: tuple[Line, ...], steps: Iterable[int], scope: Scope) -> bool:
    """Whether some lines follow from those before them on one world."""
    read = kept(read, scope)
    try:
        with np.errstate(all="ignore"):
            return all(derivation.step(k, scope, read).same for k in steps)
    except FAULTS:
        return False


def kept(lines: Iterable[Line], scope: Scope) -> tuple[Line, ...]:
    """The lines, each computed once on one world."""
    return tuple(Kept(**line.__dict__, at=scope) for line in lines)


def _read(derivation: Derivation, read: tuple[Line, ...], scope: Scope, count: int, accidents: np.errstate, *, sought: bool) -> Derived:
    """Line after line, up to the first that does not follow; sought: on a world that was looked for, so that it must be shown."""
    steps: list[Step] = []
    with accidents:
        for k, line in enumerate(read, 1):
            if any(s.ok is False for s in steps):
                break
            try:
                steps.append(_step(derivation, k, read, line, scope))
            except FAULTS as e:
                if not line.foreign:
                    raise
                must = f"line {k} must return numbers of the shape of the line that it replaces"
                raise InputError(must, got=raised(e), where=derivation.slug, remedy="try it by itself first") from e
    d, size = derivation, scope.world.responses
    if found := printed(derivation):
        steps = [replace(s, printed=read[s.number - 1].foreign or found[s.number - 1].agrees is True) for s in steps]
    broken = [f.value for k, f in enumerate(read, 1) for s in steps if s.ok is False and k in (s.number - 1, s.number)]
    where = instance(scope, broken) if broken and sought else None
    return Derived(d.slug, d.title, d.chapter, d.source, d.rows, scope.world.name, size, count, tuple(steps), where, d.declared)


def printed(derivation: Derivation) -> tuple[Print, ...]:
    """What a derivation of the book prints, executed; of any other nothing: what a reader types is what runs."""
    from tabular_rlhf.derivations.prints import executed  # the reader of formulas is opened only where lines are shown

    return executed(derivation) if DERIVATIONS.get(derivation.slug) is derivation else ()


def _step(derivation: Derivation, k: int, read: tuple[Line, ...], line: Line, scope: Scope) -> Step:
    value = line(scope)
    axes = meaning([(scope, value), *_elsewhere(derivation, line, scope.seed)])
    names = labels(scope.world.mdp, np.shape(value), axes)
    entries = tuple(zip(names, ordered(value, scope.world.mdp, axes), strict=True))
    if k == 1:
        return Step(k, line.tex, "", "", line.reason, entries, 0.0, None, source=line.source)
    how, gap = RELATIONS[line.relation], derivation.step(k, scope, read)
    if gap.same:
        return Step(k, line.tex, how.mark, how.meaning, line.reason, entries, gap.units, True, source=line.source)
    seen = pairs(derivation.seen(k, scope, read), scope)
    return Step(k, line.tex, how.mark, how.meaning, line.reason, entries, gap.units, False, gap.verdict, how.view, seen, line.source)


def pairs(seen: Seen, scope: Scope) -> tuple[tuple[str, float, float], ...]:
    """What a relation sees of two lines, entry by entry with its label; nothing where the two have different shapes."""
    if np.shape(seen.before) != np.shape(seen.after):
        return ()
    axes, mdp = meaning([(scope, seen.before)]), scope.world.mdp
    names = labels(mdp, np.shape(seen.before), axes)
    return tuple(zip(names, ordered(seen.before, mdp, axes), ordered(seen.after, mdp, axes), strict=True))


def _elsewhere(derivation: Derivation, line: Line, seed: int) -> list[tuple[Scope, Any]]:
    """The line on a world of other sizes, where there is one: by one shape alone states might be taken for tokens."""
    for world in (_other(), coin(), fork()):
        scope = Scope(world, seed)
        if derivation.applies(scope):
            return [(scope, line(scope))]
    return []


@cache
def _other() -> World:
    return random_world(rng=np.random.default_rng(8), V=3, H=1, P=2, eos=False)


def _scope(derivation: Derivation, world: World | str | None, seed: int) -> Scope:
    if world is None:
        shown = next((s for s in (Scope(w, seed) for w in (rational(), fork(), coin())) if derivation.applies(s)), None)
        if shown is None:
            must = "a derivation must begin with what is a number on some world"
            raise InputError(must, got="0/0, or a log or a root of what is negative", where="line 1", remedy="mend its first line")
        return shown
    scope = Scope(named_world(world) if isinstance(world, str) else world, seed)
    if not derivation.applies(scope):
        fits = [name for name in NAMED if name != "zen" and derivation.applies(Scope(named_world(name), seed))]
        must = f"the world must be one in which {derivation.slug} applies (its hypotheses, and at most {derivation.largest} responses)"
        raise InputError(must, got=quoted(scope.world.name), remedy=f"use one of {', '.join(fits)}")
    return scope


# ---------------------------------------------------------------------------------------------------- as claims of the audit


class DerivationClaim(Claim[Derivation]):
    """A derivation: each line follows from the one before, and no wrong line does."""

    table = DERIVATIONS

    def errors(self, scope: Scope) -> Iterator[tuple[str, float]]:
        lines = kept(self.record.lines, scope)
        for k in range(2, len(lines) + 1):
            yield f"line {k}", self.record.step(k, scope, lines).units

    def mistakes(self, scopes: Sequence[Scope]) -> dict[str, int | None]:
        fit = [(scope, kept(self.record.lines, scope)) for scope in scopes if self.applies(scope)]
        return {
            f"line {k}: {diagnosis}": next((s.world.responses for s, lines in fit if self._wrong(k, wrong, s, lines)), None)
            for k, line in enumerate(self.record.lines, 1)
            for diagnosis, wrong in line.wrong.items()
        }

    def _wrong(self, k: int, wrong: Callable[..., Any], scope: Scope, lines: tuple[Line, ...]) -> bool:
        """Whether a line in place of line k clearly does not follow from the line before, on one world."""
        (instead,) = kept((self.record.lines[k - 1].instead(wrong),), scope)
        with np.errstate(all="ignore"):  # a wrong formula may divide by zero: that too refutes it
            shapes = [np.shape(line(scope)) for line in (instead, lines[k - 1])]
            if shapes[0] != shapes[1]:
                must, where = "a wrong line must have the shape of the right one", f"{self.slug}, line {k}"
                raise InputError(must, got=f"{shapes[0]} for {shapes[1]}", where=where, remedy="mend it")
            return self.record.step(k, scope, (*lines[: k - 1], instead, *lines[k:])).clear

    def printed(self) -> Sequence[Print]:
        return printed(self.record)


def audit_derivations(
    derivations: Sequence[Derivation], *, worlds: int = 20, seed: int = 0, on_progress: Callable[[int], object] = lambda _: None
) -> list[Verdict]:
    """Execute derivations on every suitable named world and on generated ones, and refute their wrong lines on tiny worlds."""
    return audit([DerivationClaim(d) for d in derivations], worlds=worlds, seed=seed, on_progress=on_progress)
