r"""The clock: turns, best times, peak memory, and what machine this is."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tabular_rlhf.bench.peers import Runner, available


@contextlib.contextmanager
def one_core() -> Iterator[bool]:
    """Pin this process, and what it starts, to one core; yields whether that was possible."""
    if not hasattr(os, "sched_setaffinity"):
        yield False
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield True
    finally:
        os.sched_setaffinity(0, allowed)


def one_blas_thread() -> int:
    """Tell every OpenBLAS that is loaded to use one thread: several on one core wait for each other.  How many were told."""
    try:
        maps = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return 0
    told = 0
    for path in {line.split(maxsplit=5)[5] for line in maps if "openblas" in line and line.count("/")}:
        with contextlib.suppress(OSError):
            library = ctypes.CDLL(path)
            for name in ("openblas_set_num_threads", "openblas_set_num_threads64_"):
                for found in (getattr(library, prefix + name, None) for prefix in ("", "scipy_")):
                    if found is not None:
                        found(1)
                        told += 1
    return told


def seconds(run: Runner, calls: int = 1) -> float:
    """Time of one call, averaged over a few where one is too short to be timed."""
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) / calls


SLOW = 0.5  # seconds: beyond, what the runner before has left behind does not matter


def race(runners: dict[Any, Runner], repeats: int, patience: float, tick: Callable[[], Any]) -> dict[Any, float]:
    """Best time of each runner; they take turns.  One that has used up its patience (in seconds) steps aside.

    A turn starts with a call that is not timed: it meets the heap and the caches as the runner before has left them.
    """
    first = {name: seconds(run) for name, run in runners.items()}
    calls = {name: max(1, int(1e-3 / t)) for name, t in first.items()}
    best, spent = dict(first), dict(first)
    for _ in range(repeats):
        for name, run in runners.items():
            if spent[name] < patience:
                if first[name] < SLOW:
                    run()
                t = seconds(run, calls[name])
                spent[name] += t * calls[name]
                best[name] = min(best[name], t)
        tick()
    return best


def _status(field: str) -> int | None:
    """A field of /proc/self/status in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return 1024 * int(line.split()[1])
    return None


def peak_memory(run: Runner) -> int | None:
    """Bytes by which the resident set grew at its highest during one call; None where the system does not say."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what earlier calls left in the allocator would hide what this one needs
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts afresh
        before = _status("VmRSS")
        run()
        peak = _status("VmHWM")
    except (OSError, AttributeError):
        return None
    return None if before is None or peak is None else max(0, peak - before)


def in_subprocess(code: str) -> str:
    """What a fresh Python prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


_IMPORT = """
import time
start = time.perf_counter()
import {}
middle = time.perf_counter()
import {}
print(middle - start, time.perf_counter() - middle)
"""


def import_times(first: str, then: str, repeats: int) -> tuple[float, float]:
    """Seconds that a first import takes, and what another costs on top of it; best of a few fresh processes."""
    times = [[float(t) for t in in_subprocess(_IMPORT.format(first, then)).split()] for _ in range(repeats)]
    return min(t[0] for t in times), min(t[1] for t in times)


_LARGEST = """
import resource
import numpy as np
from tabular_rlhf import TokenMDP, World, solve
from tabular_rlhf.gibbs import policy_objective
from tabular_rlhf.policy import dirichlet
mdp = TokenMDP(2, horizon=24)
rng = np.random.default_rng(0)
world = World(mdp, dirichlet(mdp, rng=rng), rng.standard_normal((1, mdp.N)), beta=1.0)
g = solve(world)
facts = [g.log_Z[0], g.V[0], g.p.sum(), g.pi.shape[1], float(policy_objective(world, world.log_ref))]
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(peak * 1024, *facts)
"""


def largest_world() -> int:
    """Peak resident bytes of a process that makes a world of 2^24 responses, solves it, and evaluates J of its reference."""
    peak, log_Z, V, mass, _, _ = in_subprocess(_LARGEST).split()
    if not (abs(float(mass) - 1.0) < 1e-9 and float(log_Z) == float(V)):
        raise AssertionError("the largest world was not solved")
    return int(peak)


def machine() -> dict[str, Any]:
    """Facts that a reader needs to place the numbers."""
    import scipy

    simd = np.show_config(mode="dicts")["SIMD Extensions"]
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "simd": [*simd.get("baseline", []), *simd.get("found", [])],
        **available(),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"
