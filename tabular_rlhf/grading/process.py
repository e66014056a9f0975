"""The process of an answer: its start in a scratch folder, three pipes that never block the grader, and its end with all that it started.

    requests   grader -> child   written by a thread, so that a child that does not read stops nobody
    replies    child -> grader   read by a thread, one frame for each that is due and not one more
    output     child -> nowhere  read to its end, so that a child that prints does not fill memory or disk; the beginning is kept

Nothing of the grader's environment is passed on.  What holds the process in is in `limits`, and who ends it in `warden`.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from tabular_rlhf.grading.wire import WireError, read_frame

HERE = Path(__file__).resolve().parent
OUT_OF_TURN = "it spoke without being asked"
_NUMBERS = itertools.count()


@dataclass(frozen=True)
class Limits:
    """What one answer may use: seconds a call, seconds in all, MiB of memory, MiB of a file and of all
    files, processes, characters of output kept."""

    call: float = 1.8
    answer: float = 20.0
    memory: int = 1024
    file: int = 16
    room: int = 64
    processes: int = 16
    output: int = 4000


class Process:
    """A child with one submission, from start to end.  output: the beginning of what it printed.  scratch: the folder it may write in."""

    def __init__(self, source: bytes, limits: Limits, without: Iterable[str] = ()) -> None:
        self.limits, self._printed = limits, bytearray()
        self._replies: queue.SimpleQueue[bytes | WireError | None] = queue.SimpleQueue()
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._due = 1  # it begins with a word of its own
        self._weakly_held: int | None = None
        self.scratch = tempfile.mkdtemp(prefix="answer-")
        config = self._config(without)
        Path(config["submission"]).write_bytes(source)
        if config["uid"] is not None:
            for path in (self.scratch, config["submission"]):
                os.chown(path, config["uid"], config["uid"])
        self._popen = subprocess.Popen(
            [sys.executable, "-P", "-s", "-B", str(HERE / "child.py"), json.dumps(config)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.scratch,
            env=environment(self.scratch),
            start_new_session=True,
            bufsize=0,
        )
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._write, self._read, self._drain)]
        for thread in self._threads:
            thread.start()

    def _config(self, without: Iterable[str]) -> dict[str, Any]:
        numpy_home, scratch = str(Path(np.__file__).parent.parent), os.path.realpath(self.scratch)
        return {
            "scratch": scratch,
            "submission": os.path.join(scratch, "submission.py"),
            "paths": [numpy_home, str(HERE.parent.parent)],
            "needed": sorted({sys.base_prefix, sys.prefix, numpy_home, str(HERE.parent)}),
            "uid": unused_user(),
            "cpu": int(self.limits.answer) + 5,
            "memory": self.limits.memory * 2**20,
            "file": self.limits.file * 2**20,
            "room": self.limits.room * 2**20,
            "files": 128,
            "processes": self.limits.processes,
            "without": sorted(without),
        }

    # ------------------------------------------------------------------------------------------------ threads, one a pipe

    def _write(self) -> None:
        assert self._popen.stdin is not None
        with self._popen.stdin as pipe:
            while (frame := self._requests.get()) is not None:
                view = memoryview(frame)
                try:
                    while view:
                        view = view[pipe.write(view) :]
                except OSError:
                    return  # it is gone: the reader tells

    def _read(self) -> None:
        """A frame for each that is due.  One that nobody asked for, or that cannot be read, is the last."""
        assert self._popen.stdout is not None
        with io.BufferedReader(cast(io.FileIO, self._popen.stdout)) as stream:
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
        assert self._popen.stderr is not None
        with self._popen.stderr as pipe:
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
        try:
            code = self._popen.wait(10)
        except subprocess.TimeoutExpired:
            return "crashed", "it closed its pipe"
        if code >= 0:
            return "crashed", f"the process ended with exit status {code}"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        return "timed out" if name == "SIGXCPU" else "crashed", f"the process was ended by {name}"

    def close(self) -> None:
        """End it and all that it started, and remove its folder.  May be called twice."""
        if self._popen.poll() is None:
            self._popen.terminate()  # the warden sweeps, then ends
            try:
                self._popen.wait(6)
            except subprocess.TimeoutExpired:
                self._popen.kill()
                self._popen.wait()
        if self._weakly_held is not None and hasattr(os, "killpg"):
            with contextlib.suppress(OSError):
                os.killpg(self._weakly_held, signal.SIGKILL)
            self._weakly_held = None
        self._requests.put(None)
        for thread in self._threads:
            thread.join(2)
        remove(self.scratch)


def environment(scratch: str) -> dict[str, str]:
    """All that the child is told of the grader's environment: nothing but what an interpreter needs, one thread, and fixed hashes."""
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OPENBLAS", "OMP", "MKL")} | {"VECLIB_MAXIMUM_THREADS": "1"}
    homes = dict.fromkeys(("HOME", "TMPDIR", "TMP", "TEMP", "MPLCONFIGDIR", "XDG_CACHE_HOME"), scratch)
    kept = {name: os.environ[name] for name in ("SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH") if name in os.environ}
    return {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "PYTHONUTF8": "1",
        "MPLBACKEND": "Agg",
        **threads,
        **homes,
        **kept,
    }


def unused_user() -> int | None:
    """A user that nobody is, another for each child, where the grader may make one: it is root, and on Linux."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return None
    return 60578 + (7 * os.getpid() + next(_NUMBERS)) % 606  # between the ranges that systems give to people and to services


def remove(folder: str) -> None:
    """A folder with all that is in it, whatever rights it was given and however deep it is.

    A grader may be root, and a link in the folder, or in its place, may lead anywhere.  So this is left to the system's own tools, which
    follow no link that they meet and stay on one file system; where they cannot do it (macOS, BusyBox: another `rm`; Windows) to the
    standard library, which is as careful but not as deep.
    """
    if os.path.islink(folder):  # `chmod -R` would follow the link that it is given by name
        with contextlib.suppress(OSError):
            os.unlink(folder)
        return
    if os.name == "posix":
        for command in (["chmod", "-R", "u+rwX"], ["rm", "-rf", "--one-file-system"]):
            subprocess.run([*command, "--", folder], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    shutil.rmtree(folder, ignore_errors=True)
