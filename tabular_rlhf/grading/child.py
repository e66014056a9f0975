"""The child: imports a submission and evaluates its functions on what the grader sends.  It judges nothing and knows no answer.

Run by its path, `python -P -s -B child.py SETTINGS`, so that neither the package nor anything beyond numpy is imported unless it is asked
for.  First it is a *nursery*: it imports once what many answers need, and forks a servant for each that the grader asks for; it never
runs a submission itself.  Where there is no fork it is one servant at once.

A servant's requests come on what was stdin and answers leave on what was stdout; both are moved away before the submission runs, so that
`print` and `input` meet stderr and an empty file.  A submission may still find the pipe and write on it: the grader reads that as this
submission's answer, right or wrong, or as nonsense.

What contains it is in force, and told to the grader, before its first line runs (`limits`); by then the package's own answers are closed
(`answers`).
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

LENGTH = 4
"""Bytes that tell how long a configuration is."""


def sibling(name: str) -> ModuleType:
    """A module of this folder, by its path: its package is not imported."""
    full = f"_grading_{name}"
    if full in sys.modules:
        return sys.modules[full]
    spec = importlib.util.spec_from_file_location(full, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[full] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    settings = json.loads(sys.argv[1])
    sys.path += [path for path in settings["paths"] if path not in sys.path]
    modules = {
        name: sibling(name) for name in ("answers", "calls", "landlock", "limits", "reading", "servant", "warden", "wire", "objects")
    }
    modules["answers"].close()
    modules["servant"].load(settings["modules"])
    if (config := settings["alone"]) is not None:
        layers = [modules["warden"].nobody()]
    else:
        config, lifeline = nurse(settings["home"])
        layers = modules["warden"].supervise(lifeline, config["without"], modules["landlock"].prctl)
    held = {row["layer"]: row["force"] for row in layers}
    requests, replies = private_pipes()
    settle(config)
    servant = modules["servant"].Servant(requests, replies, modules, config)
    me = own_pid()
    servant.tell({"layers": layers + modules["limits"].contain(config, held, modules["landlock"], modules["calls"]), "pid": me})
    servant.serve()


def nurse(home: str) -> tuple[dict[str, Any], int]:
    """Fork a servant for each configuration that comes on the socket; returns in the servant, with its lifeline."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel collects the wardens
    desk = socket.socket(fileno=os.dup(0))
    while (order := receive(desk)) is not None:
        text, pipes = order
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            desk.close()
            for fd, pipe in enumerate(pipes[:3]):
                os.dup2(pipe, fd)
                os.close(pipe)
            return json.loads(text), pipes[3]
        for pipe in pipes:
            os.close(pipe)
    import shutil

    shutil.rmtree(home, ignore_errors=True)
    os._exit(0)


def receive(desk: socket.socket) -> tuple[bytes, list[int]] | None:
    """A configuration, and what comes with it: requests, replies, output, lifeline."""
    try:
        head, pipes, _, _ = socket.recv_fds(desk, LENGTH, 4)
    except OSError:
        return None
    if len(head) < LENGTH or len(pipes) < 4:
        return None
    left, parts = int.from_bytes(head, "little"), list[bytes]()
    while left and (part := desk.recv(left)):
        parts.append(part)
        left -= len(part)
    return None if left else (b"".join(parts), list(pipes))


def settle(config: dict[str, Any]) -> None:
    """In the scratch folder, which is also home."""
    os.environ.update(config["environment"])
    os.chdir(config["scratch"])
    if "tempfile" in sys.modules:
        sys.modules["tempfile"].__dict__["tempdir"] = None  # it remembers the nursery's
    sys.argv = [config["scratch"]]
    config["listed"] = [path for path in sys.path if os.path.isdir(path)]
    config["closed"] = sibling("answers").folders(Path(__file__).resolve().parents[1])


def private_pipes() -> tuple[BinaryIO, BinaryIO]:
    """The two pipes to the grader, moved away from where a program reads and prints."""
    requests, replies = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return os.fdopen(requests, "rb"), os.fdopen(replies, "wb")


def own_pid() -> int:
    """This process's number where the grader lives: /proc was mounted there."""
    try:
        return int(os.readlink("/proc/self"))
    except (OSError, ValueError):
        return os.getpid()


if __name__ == "__main__":
    main()
