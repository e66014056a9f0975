"""The warden: a process between the grader and an answer, whose only work is to see that nothing of the answer outlives it.

    grader  --starts-->  warden  --forks-->  servant (runs the submission)  --may fork-->  whatever it likes

Linux gives the warden every orphan below it (it is their "subreaper"), even those that start a session of their own.  When the servant
ends, or the grader hangs up or asks for the end, the warden kills all that descends from it until nothing is left, and ends in the way
that the servant did, so that the grader sees the servant's own exit status or signal.  It is forked before numpy is imported: it is small.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path

SUBREAPER = 36
PATIENCE = 4.0
"""Seconds after which a process that cannot be killed is left alone."""


def supervise(prctl: Callable[[int, int], None]) -> dict[str, str]:
    """Fork.  Returns in the servant, with the layer's line for the report; never in the warden."""
    layer = {"layer": "orphans", "contains": "processes left behind", "force": "none"}
    if not hasattr(os, "fork"):
        return {**layer, "how": "this platform has no process tree that could be swept"}
    try:
        prctl(SUBREAPER, 1)
        told = {**layer, "force": "full", "how": "a subreaper that kills all its descendants"}
    except (OSError, AttributeError):
        told = {**layer, "force": "weak", "how": "only the process group is killed"}
    signal.signal(signal.SIGTERM, _told_to_end)
    servant = os.fork()
    if servant:
        _end_like(_watch(servant), servant)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return told


def _told_to_end(*_: object) -> None:
    sweep()
    os._exit(0)


def _watch(servant: int) -> int | None:
    """Wait for the servant's end, or for the grader's: its status, or None where the grader hung up first."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (1, 2):
        os.dup2(null, fd)  # so that the grader sees the end of the servant's output, not of ours
    hung_up, events = select.poll(), 0
    hung_up.register(0, events)  # no event is asked for: only the writer's end is told
    pause = 50
    try:
        ended = os.pidfd_open(servant)  # type: ignore[attr-defined,unused-ignore]
        hung_up.register(ended, select.POLLIN)
        pause = 60_000
    except (AttributeError, OSError):
        pass  # an old kernel, or none of Linux: look now and then
    while True:
        seen = hung_up.poll(pause)
        pid, status = os.waitpid(servant, os.WNOHANG)
        if pid:
            return status
        if any(fd == 0 for fd, _ in seen):
            return None


def _end_like(status: int | None, servant: int) -> None:
    """Sweep, then end as the servant did."""
    sweep(servant)
    code = 0 if status is None else os.waitstatus_to_exitcode(status)
    if code < 0:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if -code not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code & 0xFF)


def sweep(group: int = 0) -> None:
    """Kill every descendant, and those that they make meanwhile, until none is left."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        below = descendants(os.getpid()) if Path("/proc/self/stat").exists() else []
        for how in (signal.SIGSTOP, signal.SIGKILL):  # first frozen, so that nobody forks while the others are killed
            for pid in below:
                _send(os.kill, pid, how)
        if group and not below:
            _send(os.killpg, group, signal.SIGKILL)
        if _nobody_left():
            return
        time.sleep(0.002)


def descendants(root: int) -> list[int]:
    """All processes below `root`, by the parents that /proc tells."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                parent = int(Path(f"/proc/{entry}/stat").read_bytes().rpartition(b")")[2].split()[1])
            except (OSError, IndexError):
                continue  # it ended meanwhile
            children.setdefault(parent, []).append(int(entry))
    found, look = list[int](), [root]
    while look:
        below = children.get(look.pop(), [])
        found += below
        look += below
    return found


def _send(send: Callable[[int, int], None], pid: int, what: int) -> None:
    with contextlib.suppress(OSError):  # it ended meanwhile
        send(pid, what)


def _nobody_left() -> bool:
    """Collect the dead; whether there are neither dead nor living children."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return True
    return False
