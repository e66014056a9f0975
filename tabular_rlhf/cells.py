"""Many cells of work, on processes here or on a dask cluster, by joblib: each is done once, and one that fails takes no other with it.

A cell's answer depends on the cell alone: it is computed with one BLAS thread wherever it runs, so it is the same to the bit on one
process, on several and on a cluster.  Answers come home as they are ready; whoever wants an order has the numbers.
"""

from __future__ import annotations

import ctypes
import os
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tabular_rlhf.errors import InputError, quoted, raised, whole

BACKENDS = ("processes", "dask")
Work = Callable[[Any], Any]
"""A function of a module, of one cell: both are sent to where they run."""


@dataclass(frozen=True)
class Done:
    """One cell's end: its number; its value, or the fault in words (None: it is well)."""

    number: int
    value: Any
    fault: str | None


@dataclass(frozen=True)
class Place:
    """Where cells run: backend, one of BACKENDS; jobs, processes (None: as many as there are processors); scheduler, dask's address.

    Raises: InputError for what cannot be.

    >>> Place("dask")
    Traceback (most recent call last):
    tabular_rlhf.errors.InputError: dask must be told where its scheduler is: got no address; pass --scheduler tcp://HOST:8786
    """

    backend: str = "processes"
    jobs: int | None = None
    scheduler: str | None = None

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise InputError("the backend must be a known one", got=quoted(self.backend), remedy=f"use {' or '.join(BACKENDS)}")
        if self.backend == "dask" and not self.scheduler:
            remedy = "pass --scheduler tcp://HOST:8786"
            raise InputError("dask must be told where its scheduler is", got="no address", remedy=remedy)
        if self.backend != "dask" and self.scheduler:
            raise InputError("only dask has a scheduler", got=quoted(self.scheduler), remedy="pass --backend dask too")
        if self.jobs is not None:
            whole(self.jobs, "--jobs", 1, "leave it out for as many as there are processors", most=1024)

    @property
    def processes(self) -> int:
        """How many processes work here."""
        return self.jobs or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else self.jobs or os.cpu_count() or 1


HERE = Place()


def run_cells(work: Work, cells: Sequence[Any], place: Place = HERE) -> Iterator[Done]:
    """The end of every cell, as they come.

    A cell that raises has a fault.  Where a process dies, the cells that were not done are tried again, at last each in turn by itself:
    the one that kills its process is then known, and only it has a fault.

    >>> sorted((d.number, d.value, d.fault) for d in run_cells(abs, [-1, "x"], Place(jobs=1)))
    [(0, 1, None), (1, None, "TypeError: bad operand type for abs(): 'str'")]
    """
    waiting = dict(enumerate(cells))
    if place.backend == "processes" and (place.processes == 1 or len(waiting) < 2):
        yield from (_cell(work, k, cell) for k, cell in waiting.items())
        return
    with _backend(place) as dead:
        for _ in range(2):
            try:
                for done in _parallel(work, waiting):
                    del waiting[done.number]
                    yield done
            except dead:
                continue
            return
        for k, cell in list(waiting.items()):
            try:
                yield from _parallel(work, {k: cell})
            except dead as e:
                yield Done(k, None, f"its process died: {type(e).__name__}")


def _parallel(work: Work, waiting: dict[int, Any]) -> Iterator[Done]:
    from joblib import Parallel, delayed

    task = delayed(_cell)
    yield from Parallel(return_as="generator_unordered")(task(work, k, cell) for k, cell in list(waiting.items()))


def _cell(work: Work, number: int, cell: Any) -> Done:
    try:
        with one_thread():
            return Done(number, work(cell), None)
    except Exception as e:  # whatever it is, the other cells go on
        return Done(number, None, raised(e))


@contextmanager
def _backend(place: Place) -> Iterator[tuple[type[Exception], ...]]:
    """joblib's backend for a while; gives the exceptions that say that a process died."""
    from joblib import parallel_config
    from joblib.externals.loky.process_executor import BrokenProcessPool

    if place.backend == "processes":
        with parallel_config(backend="loky", n_jobs=place.processes, inner_max_num_threads=1):
            yield (BrokenProcessPool,)
        return
    try:
        import distributed
    except ImportError:
        remedy = 'install it with pip install "tabular-rlhf[cluster]"'
        raise InputError("a cluster needs the extra `cluster`", got="no dask", remedy=remedy) from None
    connect: Any = distributed.Client
    try:
        client = connect(place.scheduler, set_as_default=False, timeout=30)
    except (OSError, ValueError, TimeoutError) as e:
        remedy = "check the address, and that `dask scheduler` runs there"
        raise InputError("dask's scheduler must answer", got=raised(e).split("\n")[0], where=str(place.scheduler), remedy=remedy) from None
    with client, parallel_config(backend="dask", client=client, n_jobs=-1):
        yield (distributed.KilledWorker,)


# ---------------------------------------------------------------------------------------------------- one thread of linear algebra


SETTERS = ("scipy_openblas_{}_num_threads64_", "scipy_openblas_{}_num_threads", "openblas_{}_num_threads64_", "openblas_{}_num_threads")
"""What OpenBLAS calls the functions that get and set the number of its threads, in the wheels of numpy and scipy and outside of them."""


@cache
def _libraries() -> tuple[tuple[Any, Any], ...]:
    """(get, set) of every OpenBLAS that numpy and scipy bring along."""
    site = Path(sysconfig.get_paths()["platlib"])
    import numpy as np

    folders = {site, Path(np.__file__).parent.parent}
    found = []
    for path in sorted({p for folder in folders for kind in ("numpy", "scipy") for p in folder.glob(f"{kind}.libs/*openblas*")}):
        try:
            library = ctypes.CDLL(str(path))
        except OSError:
            continue
        name = next((n for n in SETTERS if hasattr(library, n.format("set"))), None)
        if name is not None:
            found.append((getattr(library, name.format("get")), getattr(library, name.format("set"))))
    return tuple(found)


def blas_threads() -> list[int]:
    """How many threads each OpenBLAS of this process may use."""
    return [int(get()) for get, _ in _libraries()]


@contextmanager
def one_thread() -> Iterator[None]:
    """One BLAS thread, and as many as before afterwards.

    >>> with one_thread():
    ...     set(blas_threads()) <= {1}
    True
    """
    before = blas_threads()
    for _, put in _libraries():
        put(1)
    try:
        yield
    finally:
        for (_, put), n in zip(_libraries(), before, strict=True):
            put(n)
