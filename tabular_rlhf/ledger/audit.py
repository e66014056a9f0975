"""Running the ledger: what must agree compared on many worlds, averages held against samples, mistakes refuted on tiny worlds.

A row and a derivation are audited alike (`Claim`), and together: on each world the symbols are computed once for all of them.

**In parallel** its work is cells: parts of the worlds, and shares of the mistakes; the verdicts come home and are put together.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from math import isnan
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np

from tabular_rlhf.cells import HERE, Place, run_cells
from tabular_rlhf.errors import InputError, SolveError
from tabular_rlhf.ledger import worlds as usual
from tabular_rlhf.ledger.prints import Print, reading, statement_prints
from tabular_rlhf.ledger.record import LEDGER, Miss, Row, as_parts, today
from tabular_rlhf.registry import one_of
from tabular_rlhf.sampling import estimate, population, sample
from tabular_rlhf.symbols import Scope
from tabular_rlhf.world import NAMED, World, generated_worlds, named_world, random_world

DRAWS = 20_000
PARTS, LARGE = 4, 20_000
"""The worlds are dealt out among so many parts, or more, of so many checks, however many processes there are: the verdicts are the same."""
SAMPLED = 4
"""Worlds on which a claim is sampled."""


@dataclass(frozen=True)
class Verdict:
    """What became of a claim: worlds tried, the largest of them, largest error in units of its tolerance and where, largest |z|.

    refuted: mistake -> responses of the smallest world found on which it is clearly wrong, or None.  prints: what is printed, executed.
    """

    slug: str
    worlds: int = 0
    largest_world: int = 0
    error: float = 0.0
    worst: str = ""
    z: float | None = None
    refuted: dict[str, int | None] = field(default_factory=dict)
    prints: tuple[Print, ...] = ()
    seconds: float = 0.0

    @property
    def holds(self) -> bool:
        """All agrees within rounding, the samples within five standard errors, every mistake is refuted, no print says else."""
        printed = all(p.agrees is not False for p in self.prints)
        sampled = self.z is None or abs(self.z) <= 5.0
        return bool(self.worlds > 0 and self.error <= 1.0 and sampled and printed and None not in self.refuted.values())

    def __add__(self, other: Verdict) -> Verdict:
        """The verdict of both: on the worlds of one and of the other."""
        worse = other if other.error > self.error else self
        zs = [z for z in (self.z, other.z) if z is not None]
        return Verdict(
            self.slug,
            self.worlds + other.worlds,
            max(self.largest_world, other.largest_world),
            worse.error,
            worse.worst,
            max(zs, key=abs, default=None),
            self.refuted | other.refuted,
            self.prints + other.prints,
            self.seconds + other.seconds,
        )


class Audited(Protocol):
    """A row, or a derivation."""

    @property
    def slug(self) -> str: ...
    def applies(self, scope: Scope) -> bool: ...


T = TypeVar("T", bound=Audited)


class Claim(ABC, Generic[T]):
    """What an audit asks of a record.  table: where other processes find it by its slug; most: worlds on which it is tried, at most."""

    table: ClassVar[Mapping[str, Any]]

    def __init__(self, record: T, most: int = 2**62) -> None:
        self.record, self.slug, self.most = record, record.slug, most

    def __reduce__(self) -> Any:
        """Sent to another process by name."""
        return _of_name, (type(self), self.slug)

    @property
    def known(self) -> bool:
        """Whether another process finds it by its name."""
        return self.table.get(self.slug) is self.record

    def applies(self, scope: Scope) -> bool:
        """Whether it can be tried on a world."""
        return self.record.applies(scope)

    @abstractmethod
    def errors(self, scope: Scope) -> Iterator[tuple[str, float]]:
        """Where two things are compared that must agree, and how far they are apart, in units of what is allowed."""

    @abstractmethod
    def mistakes(self, scopes: Sequence[Scope]) -> dict[str, int | None]:
        """Mistake -> responses of the first of the worlds on which it is clearly wrong, or None."""

    @abstractmethod
    def printed(self) -> Sequence[Print]:
        """What is printed, executed."""

    def sampled(self, scope: Scope, seed: int) -> float | None:
        """How many exact standard errors a sample mean lies from the claim; None where nothing is sampled."""
        return None


@dataclass(frozen=True)
class Refutation:
    """The smallest world found on which a near miss differs from the truth, and both values there."""

    scope: Scope
    right: object
    wrong: object

    @property
    def responses(self) -> int:
        """Responses of that world, over all prompts."""
        return self.scope.world.responses


class RowClaim(Claim[Row]):
    """A row: its sides agree, its samples, its near misses do not."""

    table = LEDGER

    def __init__(self, row: Row) -> None:
        super().__init__(row, row.most)

    def errors(self, scope: Scope) -> Iterator[tuple[str, float]]:
        for side, errors in self.record.errors(scope).items():
            for part, error in zip(self.record.parts, errors, strict=True):
                yield side + (f", {part}" if part else ""), error

    def mistakes(self, scopes: Sequence[Scope]) -> dict[str, int | None]:
        found = {miss.diagnosis: refute(self.record, miss, scopes) for miss in self.record.near_misses}
        return {diagnosis: None if at is None else at.responses for diagnosis, at in found.items()}

    def printed(self) -> Sequence[Print]:
        return statement_prints(self.record, reading())

    def sampled(self, scope: Scope, seed: int) -> float | None:
        return sampled_z(self.record, scope, seed) if self.record.sampled else None


def _of_name(kind: Any, slug: str) -> Any:
    return kind(kind.table[slug])


def select(slugs: Sequence[str] = (), chapter: int | None = None) -> list[Row]:
    """Rows by slug (all by default) and chapter, each once.  Raises InputError naming what is unknown."""
    slugs = [today(slug, LEDGER) for slug in slugs]
    for slug in slugs:
        one_of(LEDGER, slug, "a slug must be in the ledger", remedy="verify --list shows all")
    chapters = sorted({row.chapter for row in LEDGER.values()})
    if chapter is not None and chapter not in chapters:
        raise InputError("the chapter must be in the ledger", got=chapter, remedy=f"use one of {', '.join(map(str, chapters))}")
    named = [LEDGER[s] for s in dict.fromkeys(slugs)] or list(LEDGER.values())
    chosen = [row for row in named if chapter is None or row.chapter == chapter]
    if not chosen:
        got = ", ".join(f"{row.slug} of chapter {row.chapter}" for row in named)
        raise InputError(f"some slug must be of chapter {chapter}", got=got, remedy="drop --chapter, or the slugs")
    return chosen


@lru_cache(maxsize=1)  # they take as long to make as a row to be tried on them, and every part is dealt from them
def standard_worlds(count: int, seed: int) -> tuple[World, ...]:
    """`count` generated worlds of varied size, the named ones of one prompt, and one of 2^16 responses; last `zen`, made from real text.

    >>> [w.mdp.N for w in standard_worlds(0, seed=0)[-2:]]
    [65536, 1118481]
    """
    rng = np.random.default_rng([seed, 1])
    named = [named_world(name) for name in NAMED if name != "zen"]
    small = [w for w in named if w.mdp.P == 1]  # several prompts have the generated ones
    large = random_world(rng=rng, V=2, H=16, eos=False, beta=0.7)
    return (*generated_worlds(count, rng=rng), *small, large, named_world("zen"))


def refute(row: Row, miss: Miss, scopes: Iterable[Scope]) -> Refutation | None:
    """The first world on which the near miss is clearly not the truth, or None."""
    for scope in scopes:
        if not row.applies(scope):
            continue
        right, _ = row.truth(scope)
        with np.errstate(all="ignore"):  # a wrong formula may divide by zero: that too refutes it
            wrong = as_parts(scope.call(miss.wrong))[0]
        if np.shape(wrong) != np.shape(right[miss.part]):
            shapes = f"{np.shape(wrong)} for {np.shape(right[miss.part])}"
            raise InputError(
                "a near miss must have the shape of the truth", got=shapes, where=f"{row.slug}: {miss.diagnosis}", remedy="mend it"
            )
        if row.gap(scope, miss.part, wrong).clear:
            return Refutation(scope, right[miss.part], wrong)
    return None


def sampled_z(row: Row, scope: Scope, seed: int) -> float:
    """How many exact standard errors a sample mean lies from the claim; inf where even the population disagrees."""
    s = row.sampled
    assert s is not None
    log_p, table = scope[s.law], scope.call(s.value)
    everything = population(scope.world, log_p)
    exact = estimate(everything, everything[table])
    claim = float(scope.call(s.equals))
    if abs(exact.mean - claim) > 1e-9 * max(1.0, float(np.max(np.abs(table)))):
        return np.inf
    draws = sample(scope.world, log_p, DRAWS, rng=np.random.default_rng([seed, 3]))
    return estimate(draws, draws[table]).z(exact)


# ---------------------------------------------------------------------------------------------------- the audit, in parts


Progress = Callable[[int], object]


def audit(claims: Sequence[Row | Claim[Any]], *, worlds: int = 60, seed: int = 0, on_progress: Progress = lambda _: None) -> list[Verdict]:
    """Try rows, or other claims, on the standard worlds, and their mistakes on tiny ones.

    Args: worlds, how many generated ones; on_progress, called with the number of checks just done.
    Returns: a verdict each, in order.  Deterministic for a seed.
    """
    made = [RowClaim(c) if isinstance(c, Row) else c for c in claims]
    of = parts(made, worlds)
    tried = [compared(made, worlds, seed, k, of, on_progress) for k in range(of)]
    return [sum(found[1:], found[0]) for found in zip(*tried, mistaken(made, seed), strict=True)]


def parts(claims: Sequence[Claim[Any]], worlds: int) -> int:
    """Among how many parts the worlds are dealt out."""
    return PARTS * max(1, worlds * len(claims) // (PARTS * LARGE))


def compared(claims: Sequence[Claim[Any]], worlds: int, seed: int, part: int, of: int, on_progress: Progress) -> list[Verdict]:
    """The verdicts on one part of the standard worlds, of so many."""
    verdicts = [Verdict(c.slug) for c in claims]
    # the large worlds first, so that they are among those sampled: they are the hardest to get right by accident
    for i, world in list(enumerate(reversed(standard_worlds(worlds, seed))))[part::of]:
        scope = Scope(world, seed + i)  # forgotten with its arrays when the next one comes
        for k, claim in enumerate(claims):
            if verdicts[k].worlds < -(-claim.most // of) and claim.applies(scope):
                verdicts[k] += _compare(claim, scope, seed + i, sample=verdicts[k].worlds < -(-SAMPLED // of))
        on_progress(len(claims))
    return verdicts


def _compare(claim: Claim[Any], scope: Scope, seed: int, *, sample: bool) -> Verdict:
    start, mdp = time.perf_counter(), scope.world.mdp
    found = list[tuple[float, str]]()
    try:
        with np.errstate(divide="raise", over="raise", invalid="raise"):  # what gives a nan on the way is no road to a number
            found += [(np.inf if isnan(error) else error, where) for where, error in claim.errors(scope)]
    except FloatingPointError as accident:
        found.append((np.inf, str(accident)))
    error, where = max(found, key=lambda pair: pair[0], default=(0.0, ""))
    worst = f"{where}, on {scope.world.name} (V={mdp.V} H={mdp.H} P={mdp.P})"
    z = claim.sampled(scope, seed) if sample else None
    return Verdict(claim.slug, 1, scope.world.responses, error, worst, z, seconds=time.perf_counter() - start)


def mistaken(claims: Sequence[Claim[Any]], seed: int, on_progress: Progress = lambda _: None) -> list[Verdict]:
    """What is printed, executed, and the mistakes, refuted on tiny worlds."""
    found = []
    for claim in claims:
        start = time.perf_counter()
        verdict = Verdict(claim.slug, refuted=claim.mistakes(usual.tiny(seed)), prints=tuple(claim.printed()))
        found.append(replace(verdict, seconds=time.perf_counter() - start))
    return found


# ---------------------------------------------------------------------------------------------------- on several processes


WORTHWHILE = 8
"""Fewer claims than this are audited at home: starting a process costs more than it saves."""
Cell = Callable[[Progress], list[Verdict]]
"""Told of the checks done -> verdicts."""


def audit_in_parallel(
    claims: Sequence[Row | Claim[Any]], *, worlds: int, seed: int, on_progress: Progress, place: Place = HERE
) -> list[Verdict]:
    """`audit` with the same answers, on several processes.  Raises: SolveError where a cell could not be done."""
    made = [RowClaim(c) if isinstance(c, Row) else c for c in claims]
    here = place == HERE and (HERE.processes == 1 or len(made) < WORTHWHILE)
    if here or not all(c.known for c in made):  # one that only this process knows cannot be sent
        return audit(made, worlds=worlds, seed=seed, on_progress=on_progress)
    of, shares = parts(made, worlds), min(len(made), 2 * place.processes)
    cells: list[Cell] = [partial(compared, made, worlds, seed, k, of) for k in range(of)]
    cells += [partial(mistaken, made[k::shares], seed) for k in range(shares)]
    whose = [range(len(made))] * of + [range(k, len(made), shares) for k in range(shares)]
    found: dict[int, list[Verdict]] = {}
    for done in run_cells(_of_cell, cells, place):
        if done.fault is not None:
            raise SolveError(f"a part of the audit could not be done: {done.fault}")
        found[done.number], checks = done.value
        on_progress(checks)
    total = [Verdict(c.slug) for c in made]
    for number, verdicts in sorted(found.items()):  # in order, so that of equal errors the same is the worst
        for k, verdict in zip(whose[number], verdicts, strict=True):
            total[k] += verdict
    return total


def _of_cell(cell: Cell) -> tuple[list[Verdict], int]:
    """The verdicts of a cell, and how many checks they took."""
    checks: list[int] = []
    return cell(checks.append), sum(checks)
