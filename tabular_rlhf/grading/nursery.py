"""A nursery: one interpreter that has imported what many answers need, and forks a process for each.

To start an interpreter and numpy for every answer takes a fifth of a second, torch two; to fork takes a hundredth.  The nursery runs
nothing of a submission: it imports modules that are installed, some of a list (`HEAVY`) and those that the grader names, and takes orders
on a socket.  Where there is no fork, each answer has an interpreter of its own.

What joins the grader with a child are three pipes and a lifeline (see `process` and `warden`).
"""

from __future__ import annotations

import atexit
import contextlib
import io
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tabular_rlhf.grading.answers import CLOSED, PACKAGE

HERE = Path(__file__).resolve().parent
FORKS = hasattr(os, "fork") and hasattr(socket, "send_fds")
HEAVY = ("matplotlib", "pandas", "scipy", "sklearn", "sympy", "tabular_rlhf", "torch") if sys.platform.startswith("linux") else ()
"""Libraries beside numpy that a nursery imports as soon as a submission names them; all others are left to the answer's own process."""
STATUS = struct.Struct("<i")
FAREWELL = 6.0
"""Seconds that a warden may take to end everything."""


@dataclass
class Started:
    """A child at the grader: where to write requests, read replies and output; the lifeline, or the process where nothing was forked."""

    requests: io.RawIOBase
    replies: io.RawIOBase
    output: io.RawIOBase
    lifeline: socket.socket | None = None
    popen: subprocess.Popen[bytes] | None = None

    def exit_code(self) -> int | None:
        """How the child ended, a signal as its negative; None if that cannot be said, or it has not."""
        if self.popen is not None:
            try:
                return self.popen.wait(FAREWELL)
            except subprocess.TimeoutExpired:
                return None
        told = self._last_words()
        return os.waitstatus_to_exitcode(STATUS.unpack(told)[0]) if len(told) == STATUS.size else None

    def _last_words(self) -> bytes:
        assert self.lifeline is not None
        told = b""
        try:
            self.lifeline.settimeout(FAREWELL)
            while part := self.lifeline.recv(STATUS.size):
                told += part
        except OSError:
            pass
        return told

    def end(self) -> None:
        """End it and all that it started.  Returns when that is done, or cannot be."""
        if self.popen is not None:
            self.popen.kill()
            self.popen.wait()
        elif self.lifeline is not None:
            with contextlib.suppress(OSError):
                self.lifeline.shutdown(socket.SHUT_WR)  # the warden sees it, ends everything, and hangs up
            self._last_words()
            self.lifeline.close()


class Nursery:
    """One interpreter that forks; `modules` are imported first."""

    def __init__(self, modules: Iterable[str] = ()) -> None:
        self.home, self._lock = tempfile.mkdtemp(prefix="nursery-"), threading.Lock()
        self._desk, there = socket.socketpair()
        with there:
            self._popen = subprocess.Popen(
                command({"modules": list(modules), "home": self.home, "alone": None}),
                stdin=there.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env=environment(self.home),
                start_new_session=True,
            )

    @property
    def works(self) -> bool:
        """Whether it can still fork."""
        return self._popen.poll() is None

    def start(self, config: dict[str, Any]) -> Started:
        """A new process, for one submission."""
        pipes = [os.pipe() for _ in range(3)]  # requests, replies, output: (read end, write end)
        lifeline, there = socket.socketpair()
        mine = [pipes[0][1], pipes[1][0], pipes[2][0]]
        theirs = [pipes[0][0], pipes[1][1], pipes[2][1], there.detach()]
        text = json.dumps(config).encode()
        try:
            with self._lock:
                socket.send_fds(self._desk, [len(text).to_bytes(4, "little")], theirs)
                self._desk.sendall(text)
        except OSError:
            pass  # the nursery is gone: so is the child, as soon as somebody listens to it
        finally:
            for fd in theirs:
                os.close(fd)
        requests, replies, output = (io.FileIO(fd, "w" if k == 0 else "r") for k, fd in enumerate(mine))
        return Started(requests, replies, output, lifeline)

    def close(self) -> None:
        """No more forks: it removes its folder and ends; what it forked lives on."""
        self._desk.close()
        try:
            self._popen.wait(FAREWELL)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()


_KEPT: dict[tuple[int, frozenset[str]], Nursery] = {}


def start(config: dict[str, Any], modules: Iterable[str] = ()) -> Started:
    """A new process, from the nursery of this grader that has these modules, or on its own where there is no fork."""
    wanted = frozenset(modules)
    if not FORKS:
        popen = subprocess.Popen(
            command({"modules": sorted(wanted), "home": "", "alone": config}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=config["scratch"],
            env=environment(config["scratch"]),
            bufsize=0,
        )
        pipes: Any = popen  # there are all three, and unbuffered ones are raw
        return Started(pipes.stdin, pipes.stdout, pipes.stderr, popen=popen)
    key = os.getpid(), wanted
    if key not in _KEPT or not _KEPT[key].works:
        _KEPT[key] = Nursery(sorted(wanted))
    return _KEPT[key].start(config)


@atexit.register
def close_all() -> None:
    """End the nurseries that are kept."""
    for (pid, _), nursery in [*_KEPT.items()]:
        if pid == os.getpid():
            nursery.close()
    _KEPT.clear()


def heavy(imports: Iterable[str]) -> list[str]:
    """Those of a submission's imports that a nursery takes over.

    >>> heavy(["math", "scipy.stats", "scipy.stats.__main__", "antigravity"]) if HEAVY else ["scipy.stats"]
    ['scipy.stats']
    """
    known = (name for name in imports if name.split(".")[0] in HEAVY and "__main__" not in name)
    return [name for name in known if not name.startswith(tuple(f"{PACKAGE}.{room}" for room in CLOSED))]


def paths() -> list[str]:
    """Where numpy and this package are."""
    return [str(Path(np.__file__).parent.parent), str(HERE.parent.parent)]


def command(settings: dict[str, Any]) -> list[str]:
    """The child's command line."""
    return [sys.executable, "-P", "-s", "-B", str(HERE / "child.py"), json.dumps({**settings, "paths": paths()})]


def environment(home: str) -> dict[str, str]:
    """All that a child is told of the grader's environment: nothing but what an interpreter needs, one thread, and fixed hashes."""
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OPENBLAS", "OMP", "MKL")} | {"VECLIB_MAXIMUM_THREADS": "1"}
    kept = {name: os.environ[name] for name in ("SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH") if name in os.environ}
    return {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "PYTHONUTF8": "1",
        "MPLBACKEND": "Agg",
        **threads,
        **homes(home),
        **kept,
    }


def homes(folder: str) -> dict[str, str]:
    """The part of the environment that is another for each child."""
    return dict.fromkeys(("HOME", "TMPDIR", "TMP", "TEMP", "MPLCONFIGDIR", "XDG_CACHE_HOME"), folder)
