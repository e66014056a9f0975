"""Work on several processes: slugs are dealt out, each process runs its own on the same worlds, and the verdicts come home."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from typing import Any

from tabular_rlhf.ledger.audit import Verdict, audit, select
from tabular_rlhf.ledger.record import LEDGER, Row

WORTHWHILE = 8
"""Fewer slugs than this are run at home: starting a process costs more than it saves."""
Progress = Callable[[int], object]
Work = Callable[[Sequence[str], int, int, Progress], list[Any]]
"""(slugs, worlds, seed, told of the checks done) -> a verdict each, with a `slug`.  A function of a module, so that it can be sent."""
_done: Any = None  # in a worker: the shared count of checks done


def audit_in_parallel(rows: Sequence[Row], *, worlds: int, seed: int, on_progress: Progress) -> list[Verdict]:
    """`audit` with the same answers, on at most two processes."""
    if any(LEDGER.get(row.slug) is not row for row in rows):  # a row that only this process knows
        return audit(rows, worlds=worlds, seed=seed, on_progress=on_progress)
    return in_parallel(_audit_slugs, [row.slug for row in rows], worlds, seed, on_progress)


def _audit_slugs(slugs: Sequence[str], worlds: int, seed: int, on_progress: Progress) -> list[Verdict]:
    return audit(select(slugs) if slugs else [], worlds=worlds, seed=seed, on_progress=on_progress)


def in_parallel(work: Work, slugs: Sequence[str], worlds: int, seed: int, on_progress: Progress) -> list[Any]:
    """The verdicts of `work` on every slug, in order, from at most two processes."""
    jobs = min(2, os.cpu_count() or 1)
    if jobs == 1 or len(slugs) < WORTHWHILE:
        return work(slugs, worlds, seed, on_progress)
    done = multiprocessing.Value("q", 0)
    with ProcessPoolExecutor(jobs, initializer=_count_in, initargs=(done,)) as pool:
        hands = [pool.submit(_counted, work, slugs[k::jobs], worlds, seed) for k in range(jobs)]
        found = {v.slug: v for hand in hands for v in _wait(hand, done, on_progress)}
    return [found[slug] for slug in slugs]


def _wait(hand: Any, done: Any, on_progress: Progress) -> list[Any]:
    """The result of one process, telling of progress while it works."""
    while True:
        try:
            result: list[Any] = hand.result(timeout=0.1)
        except NotYet:
            result = []
        with done.get_lock():
            news, done.value = done.value, 0
        on_progress(news)
        if hand.done():
            return result or hand.result()


def _count_in(done: Any) -> None:
    global _done
    _done = done


def _counted(work: Work, slugs: Sequence[str], worlds: int, seed: int) -> list[Any]:
    def count(n: int) -> None:
        with _done.get_lock():
            _done.value += n

    return work(slugs, worlds, seed, count)
