"""Running the ledger: sides compared on many worlds, averages held against samples, near misses refuted on tiny worlds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from tabular_rlhf.errors import InputError
from tabular_rlhf.ledger.prints import Print, reading, statement_prints
from tabular_rlhf.ledger.record import LEDGER, Miss, Row, as_parts
from tabular_rlhf.ledger.renamed import today
from tabular_rlhf.ledger.tiny import tiny_scopes as tiny_scopes
from tabular_rlhf.registry import one_of
from tabular_rlhf.sampling import estimate, population, sample
from tabular_rlhf.symbols import Scope
from tabular_rlhf.world import NAMED, World, generated_worlds, named_world, random_world

DRAWS = 20_000


@dataclass
class Verdict:
    """What became of one row: worlds tried, largest error in units of its tolerance, largest |z|, its near misses, and its prints."""

    slug: str
    worlds: int = 0
    largest_world: int = 0
    error: float = 0.0
    worst: str = ""
    z: float | None = None
    refuted: dict[str, Refutation | None] = field(default_factory=dict)
    prints: list[Print] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def holds(self) -> bool:
        """Every side agrees within rounding, the samples within five standard errors, every near miss is refuted, no print says else."""
        printed = all(p.agrees is not False for p in self.prints)
        sampled = self.z is None or abs(self.z) <= 5.0
        return bool(self.worlds > 0 and self.error <= 1.0 and sampled and printed and all(self.refuted.values()))


@dataclass(frozen=True)
class Refutation:
    """The smallest world found on which a near miss differs from the truth, and both values there."""

    scope: Scope
    right: object
    wrong: object

    @property
    def responses(self) -> int:
        """Responses of that world, over all prompts."""
        return self.scope.world.mdp.P * self.scope.world.mdp.N


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


def standard_worlds(count: int, seed: int) -> list[World]:
    """`count` generated worlds of varied size, the named ones of one prompt, and one of 2^16 responses; last `zen`, made from real text.

    >>> [w.mdp.N for w in standard_worlds(0, seed=0)[-2:]]
    [65536, 1118481]
    """
    rng = np.random.default_rng([seed, 1])
    named = [named_world(name) for name in NAMED if name != "zen"]
    small = [w for w in named if w.mdp.P == 1]  # several prompts have the generated ones
    large = random_world(rng=rng, V=2, H=16, eos=False, beta=0.7)
    return [*generated_worlds(count, rng=rng), *small, large, named_world("zen")]


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


def audit(
    rows: Sequence[Row],
    *,
    worlds: int = 60,
    seed: int = 0,
    on_progress: Callable[[int], object] = lambda _: None,
) -> list[Verdict]:
    """Run rows over the standard worlds.

    Args: worlds, how many generated ones; on_progress, called with the number of checks just done.
    Returns: a verdict a row, in order.  Deterministic for a seed.
    """
    verdicts = {row.slug: Verdict(row.slug) for row in rows}
    sampled_on: dict[str, int] = dict.fromkeys(verdicts, 0)
    # the large worlds first, so that they are among those sampled: they are the hardest to get right by accident
    for i, world in enumerate(reversed(standard_worlds(worlds, seed))):
        scope = Scope(world, seed + i)  # forgotten with its arrays when the next one comes
        for row in rows:
            start = time.perf_counter()
            _compare(row, scope, verdicts[row.slug], sampled_on, seed + i)
            verdicts[row.slug].seconds += time.perf_counter() - start
        on_progress(len(rows))
    tiny = tiny_scopes(seed)
    for row in rows:
        start = time.perf_counter()
        verdicts[row.slug].prints = statement_prints(row, reading())
        verdicts[row.slug].refuted = {m.diagnosis: refute(row, m, tiny) for m in row.near_misses}
        verdicts[row.slug].seconds += time.perf_counter() - start
    return list(verdicts.values())


def _compare(row: Row, scope: Scope, verdict: Verdict, sampled_on: dict[str, int], seed: int) -> None:
    if verdict.worlds >= row.most or not row.applies(scope):
        return
    verdict.worlds += 1
    verdict.largest_world = max(verdict.largest_world, scope.world.mdp.P * scope.world.mdp.N)
    for side, errors in row.errors(scope).items():
        for part, error in zip(row.parts, errors, strict=True):
            if not error <= verdict.error:  # also for nan
                verdict.error = error
                verdict.worst = f"{side}{', ' + part if part else ''}, on {scope.world.name} (V={scope['V']} H={scope['H']} P={scope['P']})"
    if row.sampled and sampled_on[row.slug] < 4:
        sampled_on[row.slug] += 1
        z = sampled_z(row, scope, seed)
        verdict.z = z if verdict.z is None or abs(z) > abs(verdict.z) else verdict.z
