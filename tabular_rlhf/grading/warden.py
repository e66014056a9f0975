"""The warden: a process between the grader and an answer, whose only work is to see that nothing of the answer outlives it.

    nursery  --forks-->  warden  --forks-->  first  --forks-->  servant (runs the submission)  --may fork-->  whatever it likes

Where the kernel gives a process namespace, `first` is its process number 1: the servant sees none outside, can name none, and when `first`
ends the kernel ends all the others.  Elsewhere there is no `first`: Linux gives the warden every orphan below it (it is their "subreaper"),
even those that start a session of their own, and it kills all that descends from it until nothing is left.

A socket, the lifeline, joins warden and grader.  When the grader hangs up, or the servant ends, the warden ends everything; then it says
how the servant ended, and hangs up.  The servant does not hold that socket.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import struct
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NoReturn

NEW_USER, NEW_PROCESSES = 0x10000000, 0x20000000
DIE_WITH_PARENT, SUBREAPER = 1, 36
PATIENCE = 4.0
"""Seconds after which a process that cannot be killed is left alone."""
STATUS = struct.Struct("<i")
"""How the servant ended, on the lifeline: as `waitpid` tells it."""


def supervise(lifeline: int, without: Iterable[str], prctl: Callable[..., None]) -> list[dict[str, str]]:
    """Fork.  Returns in the servant, with the lines of three layers for the report; never in the warden."""
    os.setsid()
    layers = [users(without), pids(without)]
    enclosed = layers[1]["force"] == "full"
    orphans = nobody() | ({"force": "full", "how": "the namespace ends with its first process"} if enclosed else _adopt(prctl))
    child = os.fork()
    if child:
        _keep(child, lifeline, tell=not enclosed)
    if enclosed:
        prctl(DIE_WITH_PARENT, signal.SIGKILL)
        servant = os.fork()
        if servant:
            _be_first(servant, lifeline)
    os.close(lifeline)
    return [orphans, *layers]


def nobody() -> dict[str, str]:
    """The line of the report where there is no warden."""
    return {"layer": "orphans", "contains": "processes left behind", "force": "none", "how": "this platform has no processes that fork"}


def users(without: Iterable[str]) -> dict[str, str]:
    """A user namespace, where the grader is not root: in it a process may make the other kinds, and be limited by itself."""
    layer = {"layer": "users", "contains": "what the namespaces below need", "force": "none"}
    if sys.platform.startswith("linux") and os.geteuid() == 0:
        return {**layer, "force": "full", "how": "none is needed: the grader is root"}
    uid, gid = os.getuid(), os.getgid()
    try:
        _unshare(NEW_USER, "users" in without)
        for name, text in (("uid_map", f"{uid} {uid} 1"), ("setgroups", "deny"), ("gid_map", f"{gid} {gid} 1")):
            Path(f"/proc/self/{name}").write_text(text)
    except (OSError, AttributeError) as e:
        return {**layer, "how": f"the kernel gives no user namespace ({e})"}
    return {**layer, "force": "full", "how": "a user namespace"}


def pids(without: Iterable[str]) -> dict[str, str]:
    """A process namespace: from the next fork on."""
    layer = {"layer": "pids", "contains": "naming a process outside", "force": "none"}
    try:
        _unshare(NEW_PROCESSES, "pids" in without)
    except (OSError, AttributeError) as e:
        return {**layer, "how": f"the kernel gives no process namespace ({e})"}
    return {**layer, "force": "full", "how": "a process namespace"}


def _unshare(kind: int, left_out: bool) -> None:
    if left_out:
        raise OSError("left out on request")
    if not sys.platform.startswith("linux"):
        raise OSError(f"not available on {sys.platform}")
    if ctypes.CDLL(None, use_errno=True).unshare(kind):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _adopt(prctl: Callable[..., None]) -> dict[str, str]:
    with contextlib.suppress(OSError, AttributeError):
        prctl(SUBREAPER, 1)
        if numbers_hold():
            return {"force": "full", "how": "a subreaper that kills all its descendants"}
    return {"force": "weak", "how": "only the process group is killed"}


def _be_first(servant: int, lifeline: int) -> NoReturn:
    """The first process of the namespace: collects the dead until the servant's turn, and takes all others along."""
    _let_go_of_the_pipes()
    while True:
        pid, status = os.wait()
        if pid == servant:
            _send_status(lifeline, status)
            os._exit(0)


def _keep(child: int, lifeline: int, *, tell: bool) -> NoReturn:
    """The warden: waits for the child's end, or for the grader to hang up; ends everything; tells how the child ended."""
    _let_go_of_the_pipes()
    status = _watch(child, lifeline)
    if tell:
        sweep(child)
    elif status is None:  # the first process of a namespace, which the kernel ends with it
        _send(os.kill, child, signal.SIGKILL)
        os.waitpid(child, 0)
    if tell and status is not None:
        _send_status(lifeline, status)
    os._exit(0)


def _send_status(lifeline: int, status: int) -> None:
    with contextlib.suppress(OSError):  # the grader hung up
        os.write(lifeline, STATUS.pack(status))


def _let_go_of_the_pipes() -> None:
    """So that the grader sees the end of the servant's words, not of ours."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)


def _watch(child: int, lifeline: int) -> int | None:
    """Wait for the child's end, or for the grader's: the status, or None where the grader hung up first."""
    events, pause = select.poll(), 50
    events.register(lifeline, select.POLLIN)
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError, OSError):  # an old kernel, as anywhere else: look now and then
            events.register(os.pidfd_open(child), select.POLLIN)
            pause = 60_000
    while True:
        seen = events.poll(pause)
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status
        if any(fd == lifeline for fd, _ in seen):
            return None


def sweep(group: int = 0) -> None:
    """Kill every descendant, and those that they make meanwhile, until none is left."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        below = descendants(os.getpid()) if numbers_hold() else []
        for how in (signal.SIGSTOP, signal.SIGKILL):  # first frozen, so that nobody forks while the others are killed
            for pid in below:
                _send(os.kill, pid, how)
        if group and not below:
            _send(os.killpg, group, signal.SIGKILL)
        if _nobody_left():
            return
        time.sleep(0.002)


def numbers_hold() -> bool:
    """Whether /proc is there, and numbers processes as this one does: not where it was mounted in another namespace."""
    try:
        return int(os.readlink("/proc/self")) == os.getpid()
    except (OSError, ValueError):
        return False


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
