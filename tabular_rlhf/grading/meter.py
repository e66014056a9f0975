"""How long another process has computed, and how long it has waited for a processor: what a busy machine does to it is not its own time.

A clock on the wall runs on while a process waits for its turn.  So a process is measured by the CPU time of all its threads, and stands
still while it neither computes nor waits for a processor: it sleeps, or waits for another.

Where the platform tells no CPU time of another process, a tenth of the time that passes is taken for it.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

CPU_OF_A_PROCESS = 2
"""How the kernel numbers that clock: Linux, include/linux/posix-timers.h."""
NEARLY_STILL = 0.01
"""The share of time below which a process counts as standing still, where nobody tells how long it has waited."""


class Meter:
    """One process, from now on.  exact: whether its CPU time is told.

    >>> import os
    >>> meter = Meter(os.getpid())
    >>> before = meter.computed()
    >>> _ = sum(range(10**5))
    >>> meter.computed() > before
    True
    """

    def __init__(self, pid: int) -> None:
        self._tasks, self._clock, self._last = Path(f"/proc/{pid}/task"), (~pid << 3) | CPU_OF_A_PROCESS, 0.0
        try:
            self._last = time.clock_gettime(self._clock)
            self.exact = self._tasks.is_dir()
        except (OSError, AttributeError, OverflowError):
            self.exact = False
        self._told, self._waited = self.computed(), self._in_line()
        self._since = time.monotonic()

    def computed(self) -> float:
        """CPU seconds until now, or until its end."""
        if not self.exact:
            return time.monotonic() / 10
        with contextlib.suppress(OSError):  # it has ended
            self._last = time.clock_gettime(self._clock)
        return self._last

    def begin(self) -> None:
        """What it did until now is nobody's concern: cheap, and generous, since how long it had waited is not asked again."""
        self._told, self._since = self.computed(), time.monotonic()

    def stood_still(self) -> float:
        """Seconds since `begin`, or since this was asked last, in which it neither computed nor waited for a processor.

        Never too many: the time that is spent on asking is not counted.
        """
        passed = time.monotonic() - self._since
        computed, waited = self.computed() - self._told, self._in_line() - self._waited
        self._told, self._waited, self._since = self._told + computed, self._waited + waited, time.monotonic()
        if not self.exact:
            return 0.0
        if not self._waited:
            return passed if computed < NEARLY_STILL * passed else 0.0
        return max(0.0, passed - computed - max(0.0, waited))

    def _in_line(self) -> float:
        """Seconds that its living threads have waited for a processor; 0 where nobody tells."""
        total = 0
        try:
            for task in self._tasks.iterdir():
                total += int((task / "schedstat").read_text().split()[1])
        except (OSError, IndexError, ValueError):
            return 0.0
        return total * 1e-9
