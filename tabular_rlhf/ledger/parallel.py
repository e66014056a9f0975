"""The audit on several processes: rows are dealt out, each process runs its own on the same worlds, and the verdicts come home."""

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
"""Fewer rows than this are run at home: starting a process costs more than it saves."""
_done: Any = None  # in a worker: the shared count of checks done


def audit_on_all_cores(rows: Sequence[Row], *, worlds: int, seed: int, on_progress: Callable[[int], object]) -> list[Verdict]:
    """`audit` with the same answers, on at most two processes."""
    jobs = min(2, os.cpu_count() or 1)
    if jobs == 1 or len(rows) < WORTHWHILE or any(LEDGER.get(row.slug) is not row for row in rows):
        return audit(rows, worlds=worlds, seed=seed, on_progress=on_progress)
    done = multiprocessing.Value("q", 0)
    with ProcessPoolExecutor(jobs, initializer=_count_in, initargs=(done,)) as pool:
        hands = [pool.submit(_audit_slugs, [row.slug for row in rows[k::jobs]], worlds, seed) for k in range(jobs)]
        found = {v.slug: v for hand in hands for v in _wait(hand, done, on_progress)}
    return [found[row.slug] for row in rows]


def _wait(hand: Any, done: Any, on_progress: Callable[[int], object]) -> list[Verdict]:
    """The result of one process, telling of progress while it works."""
    while True:
        try:
            result: list[Verdict] = hand.result(timeout=0.1)
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


def _audit_slugs(slugs: list[str], worlds: int, seed: int) -> list[Verdict]:
    def count(n: int) -> None:
        with _done.get_lock():
            _done.value += n

    return audit(select(slugs), worlds=worlds, seed=seed, on_progress=count)
