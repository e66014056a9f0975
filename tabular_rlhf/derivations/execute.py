"""Executing a derivation: every line evaluated on a world, every relation measured, stopping where the first one breaks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from tabular_rlhf.derivations.record import DERIVATIONS, RELATIONS, Derivation, Gap, Line
from tabular_rlhf.errors import InputError, did_you_mean, quoted, raised
from tabular_rlhf.ledger.audit import standard_worlds, tiny_scopes
from tabular_rlhf.ledger.explain import labels, meaning, ordered
from tabular_rlhf.ledger.record import in_units
from tabular_rlhf.ledger.renamed import today
from tabular_rlhf.ledger.symbols import Scope
from tabular_rlhf.world import NAMED, World, coin, fork, named_world, random_world, rational

Record = dict[str, Any]


@dataclass(frozen=True)
class Step:
    """One executed line.  entries: its value as (label, number).  error: the gap to the line before in units of what is allowed.

    ok: whether the relation holds; None for the first line and for lines after a broken one, which are not read.
    """

    number: int
    tex: str
    mark: str
    relation: str
    reason: str
    entries: tuple[tuple[str, float], ...]
    error: float
    ok: bool | None


@dataclass(frozen=True)
class Derived:
    """An executed derivation.  Prints as text; in a notebook it renders as Markdown; `html()` makes a fragment of a page."""

    slug: str
    title: str
    chapter: int
    source: str
    rows: tuple[str, ...]
    world: str
    steps: tuple[Step, ...]

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
        steps = [{**s.__dict__, "entries": [list(e) for e in s.entries]} for s in self.steps]
        return {**{k: v for k, v in self.__dict__.items() if k != "steps"}, "rows": list(self.rows), "holds": self.holds, "steps": steps}


def find(slug: str) -> Derivation:
    """The derivation of a name.  Raises InputError with the nearest names."""
    slug = today(slug, DERIVATIONS)
    if slug not in DERIVATIONS:
        remedy = did_you_mean(slug, DERIVATIONS, f"use one of {', '.join(DERIVATIONS)}")
        raise InputError("a derivation must be in the table", got=quoted(slug), remedy=remedy)
    return DERIVATIONS[slug]


def derive(slug: str, world: World | str | None = None, *, lines: Mapping[int, Callable[..., Any]] | None = None, seed: int = 0) -> Derived:
    """Execute a derivation line by line on a world.

    Args: slug, its name; world, a World or the name of one (default: the first of rational, fork, coin that fits);
    lines, functions to stand in place of lines, by number from 1: a reader's own, which are tried on tiny worlds too where no world
    is asked for, and shown on the first that refutes them; seed, of what is drawn.
    Returns: a `Derived`, which prints itself.  Raises InputError for an unknown name, line, or a world outside the hypotheses.

    >>> derive("gibbs-optimum").holds
    True
    >>> derive("gibbs-optimum", lines={2: lambda E_r, beta, KL: E_r + beta * KL}).broken
    2
    """
    derivation = find(slug)
    scope = _scope(derivation, world, seed)
    if not lines:
        return _read(derivation, derivation.lines, scope, np.errstate(divide="raise", over="raise", invalid="raise", under="ignore"))
    for k, line in lines.items():
        if k not in range(1, len(derivation.lines) + 1):
            raise InputError(
                f"a line must be one of the numbers 1 to {len(derivation.lines)}", got=quoted(k), where=slug, remedy="count from 1"
            )
        if not callable(line):
            raise InputError("a line must be a function of symbols", got=quoted(line), where=f"{slug}, line {k}", remedy="lambda: ...")
    read = tuple(line.instead(lines[k]) if k in lines else line for k, line in enumerate(derivation.lines, 1))
    found = _read(derivation, read, scope, np.errstate(all="ignore"))  # a reader's line may divide by zero: its value then shows it
    # on one world a wrong line may hold by accident: beta = 1 hides every beta
    elsewhere = tiny_scopes(seed) if found.holds and world is None else []
    with np.errstate(all="ignore"):
        fails = next((s for s in elsewhere if derivation.applies(s) and _breaks(derivation, read, lines, s)), None)
    return found if fails is None else _read(derivation, read, fails, np.errstate(all="ignore"))


def _breaks(derivation: Derivation, read: tuple[Line, ...], lines: Iterable[int], scope: Scope) -> bool:
    """Whether a replaced line clearly breaks its relation to the line before, or the next one's to it."""
    steps = {k for line in lines for k in (line, line + 1) if 2 <= k <= len(read)}
    return any(derivation.step(k, scope, read).clear for k in steps)


def _read(derivation: Derivation, read: tuple[Line, ...], scope: Scope, accidents: np.errstate) -> Derived:
    """Line after line, up to the first that does not follow."""
    steps: list[Step] = []
    with accidents:
        for k, line in enumerate(read, 1):
            if any(s.ok is False for s in steps):
                break
            try:
                steps.append(_step(derivation, k, read, line, scope))
            except (TypeError, ValueError, AttributeError, IndexError, ArithmeticError) as e:
                if line is derivation.lines[k - 1]:
                    raise
                must = f"line {k} must return numbers of the shape of the line that it replaces"
                raise InputError(must, got=raised(e), where=derivation.slug, remedy="try it by itself first") from e
    d = derivation
    return Derived(d.slug, d.title, d.chapter, d.source, d.rows, scope.world.name, tuple(steps))


def _step(derivation: Derivation, k: int, read: tuple[Line, ...], line: Line, scope: Scope) -> Step:
    value = line(scope)
    axes = meaning([(scope, value), *_elsewhere(derivation, line, scope.seed)])
    names = labels(scope.world.mdp, np.shape(value), axes)
    entries = tuple(zip(names, ordered(value, scope.world.mdp, axes), strict=True))
    if k == 1:
        return Step(k, line.tex, "", "", line.reason, entries, 0.0, None)
    how = RELATIONS[line.relation]
    error = units(derivation.step(k, scope, read))
    return Step(k, line.tex, how.mark, how.meaning, line.reason, entries, error, bool(error <= 1.0))


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


def units(found: Gap) -> float:
    """The gap in units of what is allowed."""
    return in_units(found.gap, found.allowed)


def _scope(derivation: Derivation, world: World | str | None, seed: int) -> Scope:
    if world is None:
        return next(s for s in (Scope(w, seed) for w in (rational(), fork(), coin())) if derivation.applies(s))
    scope = Scope(named_world(world) if isinstance(world, str) else world, seed)
    if not derivation.applies(scope):
        fits = [name for name in NAMED if name != "zen" and derivation.applies(Scope(named_world(name), seed))]
        must = f"the world must be one in which {derivation.slug} applies (its hypotheses, and at most {derivation.largest} responses)"
        raise InputError(must, got=quoted(scope.world.name), remedy=f"use one of {', '.join(fits)}")
    return scope


# ---------------------------------------------------------------------------------------------------- the audit


@dataclass
class DerivationVerdict:
    """What became of one derivation: worlds, largest error in units of what is allowed, and its wrong lines."""

    slug: str
    lines: int
    worlds: int = 0
    error: float = 0.0
    worst: str = ""
    refuted: dict[str, int | None] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def holds(self) -> bool:
        """Every line follows on every world, and every wrong line is refuted where it stands."""
        return self.worlds > 0 and self.error <= 1.0 and None not in self.refuted.values()


def audit_derivations(
    derivations: Iterable[Derivation], *, worlds: int = 20, seed: int = 0, on_progress: Callable[[int], object] = lambda _: None
) -> list[DerivationVerdict]:
    """Execute derivations on every suitable named world and on generated ones, and refute their wrong lines on tiny worlds."""
    scopes = [Scope(world, seed + i) for i, world in enumerate(standard_worlds(worlds, seed))]
    tiny = tiny_scopes(seed)
    verdicts = []
    for derivation in derivations:
        start = time.perf_counter()
        verdict = DerivationVerdict(derivation.slug, len(derivation.lines))
        for scope in scopes:
            if derivation.applies(scope):
                _execute(derivation, scope, verdict)
        for k, line in enumerate(derivation.lines, 1):
            for diagnosis, wrong in line.wrong.items():
                found = refute_line(derivation, k, wrong, tiny)
                verdict.refuted[f"line {k}: {diagnosis}"] = None if found is None else found.world.mdp.P * found.world.mdp.N
        verdict.seconds = time.perf_counter() - start
        verdicts.append(verdict)
        on_progress(len(scopes))
    return verdicts


def audit_slugs(slugs: Sequence[str], worlds: int, seed: int, on_progress: Callable[[int], object]) -> list[DerivationVerdict]:
    """The audit of derivations by name: what several processes share out."""
    return audit_derivations([find(slug) for slug in slugs], worlds=worlds, seed=seed, on_progress=on_progress)


def _execute(derivation: Derivation, scope: Scope, verdict: DerivationVerdict) -> None:
    verdict.worlds += 1
    for k in range(2, len(derivation.lines) + 1):
        error = units(derivation.step(k, scope))
        if not error <= verdict.error:  # also for nan
            m = scope.world.mdp
            verdict.error, verdict.worst = error, f"line {k}, on {scope.world.name} (V={m.V} H={m.H} P={m.P})"


def refute_line(derivation: Derivation, k: int, wrong: Callable[..., Any], scopes: Iterable[Scope]) -> Scope | None:
    """The first world on which a line in place of line k clearly does not follow from the line before, or None."""
    lines = list(derivation.lines)
    lines[k - 1] = lines[k - 1].instead(wrong)
    for scope in scopes:
        if not derivation.applies(scope):
            continue
        with np.errstate(all="ignore"):  # a wrong formula may divide by zero: that too refutes it
            shapes = [np.shape(scope.call(f)) for f in (wrong, derivation.lines[k - 1].value)]
            found = derivation.step(k, scope, tuple(lines))
        if shapes[0] != shapes[1]:
            must, where = "a wrong line must have the shape of the right one", f"{derivation.slug}, line {k}"
            raise InputError(must, got=f"{shapes[0]} for {shapes[1]}", where=where, remedy="mend it")
        if found.clear:
            return scope
    return None
