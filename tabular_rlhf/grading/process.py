"""The process of an answer: its start in a scratch folder, three pipes that never block the grader, and its end with all that it started.

    requests   grader -> child   written by a thread, so that a child that does not read stops nobody
    replies    child -> grader   read by a thread, one frame for each that is due and not one more
    output     child -> nowhere  read to its end, so that a child that prints does not fill memory or disk; the beginning is kept

Where it comes from is in `nursery`, what holds it in is in `limits`, and who ends it in `warden`.

**Time.**  `Meter` tells how long another process has computed, and how long it has waited for a processor: what a busy machine does to it
is not its own time.  A clock on the wall runs on while a process waits for its turn.  So a process is measured by the CPU time of all its
threads, and stands still while it neither computes nor waits for a processor: it sleeps, or waits for another.

Where the platform tells no CPU time of another process, a tenth of the time that passes is taken for it.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tabular_rlhf.grading import nursery
from tabular_rlhf.grading.wire import WireError, read_frame

# ---------------------------------------------------------------------------------------------------- how long it has computed


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


OUT_OF_TURN = "it spoke without being asked"
_NUMBERS = itertools.count()


@dataclass(frozen=True)
class Limits:
    """What one answer may use.

    In seconds of computing, which do not depend on what else the machine does: for a call, for all calls, for the first lines of its
    file, for the libraries that it imports.  still: seconds in all that it may neither compute nor wait for a processor.
    memory: MiB beyond its libraries.  file, room: MiB of a file, and of all files.  processes.  output: characters that are kept.
    """

    call: float = 2.0
    answer: float = 18.0
    first_lines: float = 20.0
    libraries: float = 60.0
    still: float = 20.0
    memory: int = 1024
    file: int = 16
    room: int = 64
    processes: int = 16
    output: int = 4000


class Process:
    """A child with one submission, from start to end.  output: the beginning of what it printed.  scratch: the folder it may write in."""

    def __init__(self, files: Mapping[str, bytes], limits: Limits, without: Iterable[str] = (), modules: Iterable[str] = ()) -> None:
        self.limits, self._printed, self._files = limits, bytearray(), list(files)
        self._replies: queue.SimpleQueue[bytes | WireError | None] = queue.SimpleQueue()
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._due = 1  # it begins with a word of its own
        self._weakly_held: int | None = None
        self.scratch = os.path.realpath(tempfile.mkdtemp(prefix="answer-"))
        config = self._config(without)
        for name, content in files.items():
            path = Path(self.scratch, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        if config["uid"] is not None:
            for path in (Path(self.scratch), *Path(self.scratch).rglob("*")):
                os.chown(path, config["uid"], config["uid"])
        self._started = nursery.start(config, modules)
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._write, self._read, self._drain)]
        for thread in self._threads:
            thread.start()

    def _config(self, without: Iterable[str]) -> dict[str, Any]:
        most = self.limits
        return {
            "scratch": self.scratch,
            "files": self._files,
            "environment": nursery.homes(self.scratch),
            "needed": sorted({sys.base_prefix, sys.prefix, nursery.paths()[0], str(nursery.HERE.parent)}),
            "uid": unused_user(),
            "cpu": int(most.answer + most.first_lines + most.libraries) + 5,
            "memory": most.memory * 2**20,
            "file": most.file * 2**20,
            "room": most.room * 2**20,
            "handles": 128,
            "processes": most.processes,
            "without": sorted(without),
        }

    # ------------------------------------------------------------------------------------------------ threads, one a pipe

    def _write(self) -> None:
        with self._started.requests as pipe:
            while (frame := self._requests.get()) is not None:
                view = memoryview(frame)
                try:
                    while view:
                        view = view[pipe.write(view) or 0 :]
                except OSError:
                    return  # it is gone: the reader tells

    def _read(self) -> None:
        """A frame for each that is due.  One that nobody asked for, or that cannot be read, is the last."""
        with io.BufferedReader(cast(io.FileIO, self._started.replies)) as stream:
            for count in itertools.count():
                try:
                    frame: bytes | WireError | None = read_frame(stream)
                except (WireError, OSError) as e:
                    frame = e if isinstance(e, WireError) else None
                if isinstance(frame, bytes) and count >= self._due:
                    frame = WireError(OUT_OF_TURN)
                self._replies.put(frame)
                if not isinstance(frame, bytes):
                    return

    def _drain(self) -> None:
        with self._started.output as pipe:
            while some := pipe.read(65536):
                self._printed += some[: max(0, self.limits.output - len(self._printed))]

    @property
    def output(self) -> str:
        return self._printed.decode("utf-8", "replace")

    # ------------------------------------------------------------------------------------------------ for the grader

    def send(self, frame: bytes) -> None:
        """A request; one reply more is due."""
        self._due += 1
        self._requests.put(frame)

    @property
    def has_spoken(self) -> bool:
        """Whether there is a reply that nobody has taken."""
        return not self._replies.empty()

    def receive(self, seconds: float) -> bytes | WireError | None:
        """The next reply; a fault of the pipe; None at its end.  Raises queue.Empty after some seconds."""
        return self._replies.get(timeout=seconds)

    def is_held_by(self, layers: list[dict[str, str]], pid: int) -> None:
        """What contains it.  Where it could end its own warden, the end must not rest on the warden alone."""
        if any(row["layer"] in ("orphans", "signals") and row["force"] != "full" for row in layers):
            self._weakly_held = pid

    def how_it_ended(self) -> tuple[str, str]:
        """Why there are no more replies: a kind of error, and words."""
        code = self._started.exit_code()
        if code is None:
            return "crashed", "it was ended, or closed its pipe"
        if code >= 0:
            return "crashed", f"the process ended with exit status {code}"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        return "stopped" if name == "SIGXCPU" else "crashed", f"the process was ended by {name}"

    def close(self) -> None:
        """End it and all that it started, and remove its folder.  May be called twice."""
        self._started.end()
        if self._weakly_held is not None and hasattr(os, "killpg"):
            with contextlib.suppress(OSError):
                os.killpg(self._weakly_held, signal.SIGKILL)
        self._weakly_held = None
        self._requests.put(None)
        for thread in self._threads:
            thread.join(2)
        remove(self.scratch, self._files)


def unused_user() -> int | None:
    """A user that nobody is, another for each child, where the grader may make one: it is root, and on Linux."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return None
    return 60578 + (7 * os.getpid() + next(_NUMBERS)) % 606  # between the ranges that systems give to people and to services


def remove(folder: str, files: Iterable[str] = ()) -> None:
    """A folder with all that is in it, whatever rights it was given and however deep it is.

    files: what was put there.  Mostly that is all, since an answer writes in memory: these are unlinked by name, and the folder is empty.
    A grader may be root, and a link in the folder, or in its place, may lead anywhere.  So all else is left to the system's tools, which
    follow no link that they meet and stay on one file system; where they cannot do it (macOS, BusyBox: another `rm`; Windows) to the
    standard library, which is as careful but not as deep.
    """
    if os.path.islink(folder):  # `chmod -R` would follow the link that it is given by name
        with contextlib.suppress(OSError):
            os.unlink(folder)
        return
    with contextlib.suppress(OSError):
        for name in files:
            if os.sep not in name:
                os.unlink(os.path.join(folder, name))
        os.rmdir(folder)
        return
    if os.name == "posix":
        for command in (["chmod", "-R", "u+rwX"], ["rm", "-rf", "--one-file-system"]):
            subprocess.run([*command, "--", folder], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    shutil.rmtree(folder, ignore_errors=True)
