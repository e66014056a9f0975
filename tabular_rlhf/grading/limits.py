"""Containment: what a process that runs a stranger's function may do, layer by layer, and which layers really hold on this machine.

Each layer is a record: what it contains, and a function that puts it in force and tells how, or fails with the reason.  `contain` runs
the table and returns a line for each, so that a report can say what held and what did not.  No layer is trusted alone, and the mark
needs none of them: the process never judges.  They keep the *machine* from harm.

    session      a session, a process group and a session keyring of its own
    network      a network of its own without any connection (Linux; needs root, or user namespaces)
    room         a scratch folder in memory, of limited size in all, which is gone with the process (Linux; as for the network)
    resources    CPU seconds, memory, size of a file, open files, no core dump
    user         another user than the grader, where the grader is root: no signal, no memory, no file of the grader's is its own
    processes    a count that a fork bomb meets
    calls        no system call that an answer has no need of (seccomp)
    files        no write, and little reading, outside the scratch folder (Landlock; else an audit hook, which stops accidents only);
                 with Landlock none of the package's own answers can be read
    signals      none to processes outside
    others       no limit, priority, processor or memory of a process outside is set or read
    keys         none of the kernel's keys is shared with another answer

Three layers are put in force before these, by the `warden`: orphans, users (a user namespace, where the grader is not root) and pids (a
process namespace: there are no processes outside).  The last three above are what follows from the others: the force is theirs.

The module is loaded by its path in the child, before anything else of it runs: it imports nothing of the package.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

FULL, WEAK, NONE = "full", "weak", "none"
NEW_NETWORK, NEW_IPC, NEW_MOUNTS = 0x40000000, 0x08000000, 0x00020000
PRIVATE, NO_SETUID_NO_DEVICES, LAZILY = 0x44000, 0x6, 0x2
KEEP_CAPABILITIES, READ_AND_SEARCH = 8, 1 << 2
WATCHERS = 2
"""Processes of a user namespace beside the answer's: its warden, and the first of its process namespace."""
SYSTEM = ("/usr", "/lib", "/lib64", "/opt", "/nix/store", "/etc/ld.so.cache", "/etc/localtime", "/sys/devices/system/cpu")


class NotHere(Exception):
    """A layer that this platform, or this user, cannot have; the message is the reason."""


@dataclass(frozen=True)
class Layer:
    """One layer: what it contains, and `apply(config, held)`, which puts it in force and says how strongly and by what means."""

    name: str
    contains: str
    apply: Callable[[dict[str, Any], dict[str, str]], tuple[str, str]]


def contain(config: dict[str, Any], held: dict[str, str], landlock: ModuleType, calls: ModuleType) -> list[dict[str, str]]:
    """Every layer in turn; for each its name, its force ("full", "weak", "none") and how or why not.  There is no way back.

    held: the force of layers that hold already.
    """
    config = {**config, "landlock": landlock, "calls": calls}
    told = []
    for layer in LAYERS:
        try:
            if layer.name in config["without"]:
                raise NotHere("left out on request")
            force, how = layer.apply(config, held)
        except (NotHere, OSError, AttributeError, ValueError, ImportError) as e:
            force, how = NONE, str(e)
        held[layer.name] = force
        told.append({"layer": layer.name, "contains": layer.contains, "force": force, "how": how})
    return told


def only_on(*platforms: str) -> None:
    if not sys.platform.startswith(platforms):
        raise NotHere(f"not available on {sys.platform}")


def in_own_users(held: dict[str, str]) -> bool:
    """Whether this process is alone in a user namespace."""
    return os.name == "posix" and os.geteuid() != 0 and held.get("users") == FULL


def session(config: dict[str, Any], held: dict[str, str]) -> tuple[str, str]:
    os.setsid()
    with contextlib.suppress(OSError, AttributeError):
        config["landlock"].prctl(config["landlock"].NO_NEW_PRIVILEGES, 1)
    with contextlib.suppress(OSError, AttributeError):
        config["calls"].join_a_new_keyring(config["landlock"].system_call)
        held["keyring"] = FULL
    return FULL, "a session of its own"


def network(config: dict[str, Any], held: dict[str, str]) -> tuple[str, str]:
    only_on("linux")
    if os.geteuid() != 0 and not in_own_users(held):
        raise NotHere("the kernel gives no user namespace")
    if ctypes.CDLL(None, use_errno=True).unshare(NEW_NETWORK | NEW_IPC):
        raise OSError(ctypes.get_errno(), "the kernel gives no network namespace")
    return FULL, "a network namespace without connections"


def room(config: dict[str, Any], held: dict[str, str]) -> tuple[str, str]:
    only_on("linux")
    libc, scratch = ctypes.CDLL(None, use_errno=True), Path(config["scratch"])
    if os.geteuid() != 0 and not in_own_users(held):
        raise NotHere("the kernel gives no user namespace")
    files = {scratch / name: (scratch / name).read_bytes() for name in config["files"]}
    owner = f",uid={config['uid']},gid={config['uid']}" if os.geteuid() == 0 else ""
    most = f"mode=700,size={config['room']},nr_inodes=4096{owner}".encode()
    if (
        libc.unshare(NEW_MOUNTS)
        or libc.mount(b"none", b"/", None, ctypes.c_ulong(PRIVATE), None)
        or libc.mount(b"tmpfs", os.fsencode(scratch), b"tmpfs", ctypes.c_ulong(NO_SETUID_NO_DEVICES), most)
    ):
        raise OSError(ctypes.get_errno(), "the kernel gives no folder in memory: an ordinary one, without a limit in all")
    try:
        for path, content in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        os.chdir(scratch)
    except OSError:
        libc.umount2(os.fsencode(scratch), LAZILY)
        raise
    return FULL, f"{config['room'] // 2**20} MiB in memory"


def resources(config: dict[str, Any], held: dict[str, str]) -> tuple[str, str]:
    import resource

    wanted = {"CPU": config["cpu"], "AS": config["memory"] + size(), "FSIZE": config["file"], "NOFILE": config["handles"], "CORE": 0}
    missing = []
    with contextlib.suppress(OSError):  # if memory runs out, the kernel is to take these processes first
        Path("/proc/self/oom_score_adj").write_text("1000")
    for name, most in wanted.items():
        try:
            limit = getattr(resource, f"RLIMIT_{name}")
            resource.setrlimit(limit, (most, most + 1 if name == "CPU" else most))  # SIGXCPU first, SIGKILL a second later
        except (AttributeError, OSError, ValueError):
            missing.append(name)
    if sys.platform == "darwin" and "AS" not in missing:
        missing.append("AS")  # accepted, and not enforced
    return (WEAK, f"without {', '.join(missing)}") if missing else (FULL, "rlimits")


def size() -> int:
    """Bytes of addresses that this process has already: libraries, which are no part of what an answer may use."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


def user(config: dict[str, Any], held: dict[str, str]) -> tuple[str, str]:
    if in_own_users(held):
        set_capabilities(0)  # what the namespace gave, and `room` has used
    if os.name != "posix" or os.geteuid() != 0:
        raise NotHere("only root can change its user: the answer runs as the grader's own")
    uid = config["uid"]
    only_on("linux")
    hidden = [path for path in config["needed"] if not open_to_all(path)]
    if hidden and ("files" in config["without"] or not config["landlock"].version()):
        raise NotHere("the interpreter lies in a folder that only its owner may read")
    if hidden:  # reading anything is kept, for Landlock to narrow; nothing else of root's power is
        config["landlock"].prctl(KEEP_CAPABILITIES, 1)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    set_capabilities(READ_AND_SEARCH if hidden else 0)
    return FULL, "a user that nobody is"


def open_to_all(path: str) -> bool:
    """Whether any user can reach and read it."""
    p = Path(path).resolve()
    return bool(p.stat().st_mode & 0o4) and all(q.stat().st_mode & 0o1 for q in p.parents)


def set_capabilities(kept: int) -> None:
    """Of root's powers, the effective and permitted ones (the first 32 as bits of `kept`); none is inherited by a program."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)(kept, kept, 0, 0, 0, 0)
    if ctypes.CDLL(None, use_errno=True).capset(ctypes.byref(header), ctypes.byref(data)):
        raise OSError(ctypes.get_errno(), "capset")


def processes(config: dict[str, Any], held: dict[str, str]) -> tuple[str, str]:
    import resource

    most = config["processes"]
    if os.geteuid() == 0:
        raise NotHere("the kernel does not count root's processes")
    if held["user"] != FULL:  # the limit counts all of a user's, so it starts from those there are: here, or in the namespace
        most += WATCHERS if in_own_users(held) else sum(count for count in _threads_of(os.getuid()))
    resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
    return FULL, f"at most {config['processes']} more than there were"


def _threads_of(uid: int) -> Iterator[int]:
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if entry.stat().st_uid == uid:
                yield sum(1 for _ in (entry / "task").iterdir())
        except OSError:
            continue  # it ended meanwhile


def files(config: dict[str, Any], held: dict[str, str]) -> tuple[str, str]:
    try:
        if "landlock" in config["without"]:
            raise OSError("left out on request")
        readable, opened = config["landlock"].around((*SYSTEM, *config["needed"]), config["closed"])
        abi = config["landlock"].restrict(config["scratch"], readable, (*config["listed"], *opened))
    except (OSError, AttributeError) as e:
        forbid(config["scratch"])
        held["audit"] = WEAK
        return WEAK, f"an audit hook, which stops accidents and no enemy ({e})"
    held["abi"] = str(abi)
    return FULL, f"Landlock, ABI {abi}"


def calls(config: dict[str, Any], held: dict[str, str]) -> tuple[str, str]:
    config["calls"].refuse(config["landlock"].prctl)
    return FULL, "a seccomp filter"


def signals(config: dict[str, Any], held: dict[str, str]) -> tuple[str, str]:
    outside = _no_processes_outside(held)
    if outside:
        return FULL, outside
    if int(held.get("abi", 0)) >= 6:
        return FULL, "Landlock"
    if held.get("audit"):
        return WEAK, "the audit hook"
    raise NotHere("the answer runs as the grader's own user")


def others(config: dict[str, Any], held: dict[str, str]) -> tuple[str, str]:
    outside = _no_processes_outside(held)
    if outside or held["calls"] == FULL:
        return FULL, outside or "the calls are refused"
    raise NotHere("an answer may change the limits, the priority and the processors of any process of this user, and so end it")


def _no_processes_outside(held: dict[str, str]) -> str:
    """Why it can do nothing to a process outside, if so."""
    return "a process namespace" if held.get("pids") == FULL else "another user" if held["user"] == FULL else ""


def keys(config: dict[str, Any], held: dict[str, str]) -> tuple[str, str]:
    if held["calls"] == FULL:
        return FULL, "the calls are refused"
    if held.get("keyring") != FULL:
        raise NotHere("the kernel gives no keyring")
    if held["user"] == FULL or in_own_users(held):
        return FULL, "keyrings of its own"
    return WEAK, "a session keyring of its own; the user's is shared"


LAYERS = (
    Layer("session", "signals to its group", session),
    Layer("network", "connections", network),
    Layer("room", "files that fill the disk, in all", room),
    Layer("resources", "CPU time, memory, size of a file, open files, core dumps", resources),
    Layer("user", "the grader's own files, memory and processes", user),
    Layer("processes", "fork bombs", processes),
    Layer("calls", "namespaces, mounts, keys, tracing, and settings of other processes", calls),
    Layer("files", "writing, and most reading, outside the scratch folder", files),
    Layer("signals", "signals to the grader and to anyone else", signals),
    Layer("others", "limits, priority, processors and memory of other processes", others),
    Layer("keys", "keys that one answer leaves for another", keys),
)

SPAWNS = {f"os.{name}" for name in ["fork", "posix_spawn", "exec", "spawn", "system", "startfile", "kill"]}
NEVER = ("subprocess.", "pty.", "socket.", "ctypes.dlopen", *SPAWNS)
PATHS = {f"os.{name}" for name in ["remove", "rename", "mkdir", "rmdir", "link", "symlink", "truncate", "chmod", "chown", "setxattr"]}


def forbid(scratch: str) -> None:
    """Refuse, inside this interpreter, writes outside `scratch`, other programs, signals and sockets.  ctypes already here can undo it."""
    home, real, flags = os.path.realpath(scratch), os.path.realpath, os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

    def outside(path: Any) -> bool:
        if isinstance(path, int):
            return False  # a descriptor that was opened before
        return not (real(os.fsdecode(path)) + os.sep).startswith(home + os.sep)

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event.startswith(NEVER):
            raise PermissionError(f"{event} is not allowed in an answer")
        if event == "open":
            writes = isinstance(args[2], int) and args[2] & flags
            if writes and outside(args[0]) and args[0] != os.devnull:
                raise PermissionError(f"an answer may write in its scratch folder only, not {args[0]!r}")
        elif event in PATHS and any(outside(p) for p in args[:2] if isinstance(p, str | bytes)):
            raise PermissionError(f"an answer may change files in its scratch folder only, not {args[0]!r}")

    sys.addaudithook(hook)
