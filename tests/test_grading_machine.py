"""What an answer cannot do to the machine: outlive its turn, write, read, send signals, name other processes, leave keys."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

import tabular_rlhf
from tabular_rlhf.grading import Child, Limits, RemoteError
from tabular_rlhf.grading.nursery import environment
from tabular_rlhf.grading.process import remove
from tabular_rlhf.grading.report import as_text
from tests.grading_support import HONEST, QUICK, marks

LINUX = sys.platform.startswith("linux")

MODES: list[tuple[str, ...]] = [(), ("user", "pids"), ("network", "calls")]
"""Layers left out, where the rest must still hold."""


def held(child: Child, *layers: str) -> bool:
    """Whether this machine has all these layers in force."""
    force = {row["layer"]: row["force"] for row in child.layers}
    return all(force[layer] == "full" for layer in layers)


def alive(scratch: str) -> list[int]:
    """Processes that work in a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if os.readlink(path).startswith(scratch):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


FORKS = """
import os, time
def bad(x):
    made = 0
    for _ in range(50):
        try:
            if os.fork() == 0:
                try:
                    os.setsid()
                    os.fork()
                finally:  # where the limit is met here, this process must not answer in the place of the first
                    time.sleep(1000)
            made += 1
        except OSError:
            break
    return float(made)
"""


@pytest.mark.parametrize("without", MODES, ids=str)
def test_no_process_outlives_its_answer(without: tuple[str, ...]) -> None:
    with Child(FORKS.encode(), QUICK, without=without) as child:
        made = child.function("bad")(1.0)
        assert made > 0
        if held(child, "processes"):
            assert made <= QUICK.processes
        if held(child, "orphans"):
            assert len(alive(child.process.scratch)) > made  # they were there
    if held(child, "orphans"):
        assert alive(child.process.scratch) == []
    assert not Path(child.process.scratch).exists()


def test_a_fork_bomb_goes_off_harmlessly() -> None:
    bomb = "import os\ndef bad(x):\n    while True:\n        try: os.fork(); os.setsid()\n        except OSError: pass\n"
    with Child(bomb.encode(), replace(QUICK, call=0.05)) as child:
        bad = child.function("bad")
        if held(child, "processes", "orphans"):  # where nothing would stop it, it is not lit
            with pytest.raises(RemoteError) as e:
                bad(1.0)
            assert e.value.kind in ("stopped", "protocol", "crashed")
    assert not LINUX or alive(child.process.scratch) == []


@pytest.mark.parametrize("without", [*MODES, ("landlock", "user")], ids=str)
def test_nothing_is_written_outside_the_scratch_folder(without: tuple[str, ...], tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o777)  # where anybody might
    there = tmp_path / "there"
    there.write_text("kept")
    os.chmod(there, 0o666)
    source = f"""
import os, shutil
def bad(which):
    if which == 0: open({str(tmp_path / "new")!r}, "w").write("x")
    if which == 1: open({str(there)!r}, "a").write("x")
    if which == 2: os.remove({str(there)!r})
    if which == 3: os.mkdir({str(tmp_path / "folder")!r})
    if which == 4: os.rename({str(there)!r}, {str(tmp_path / "moved")!r})
    if which == 5: os.truncate({str(there)!r}, 0)
    if which == 6: os.symlink({str(tmp_path)!r}, "way"); open("way/new", "w").write("x")
    if which == 7: open("mine", "w").write("x"); return len(open("mine").read())
    if which == 8: return open({str(there)!r}).read()
"""
    with Child(source.encode(), QUICK, without=without) as child:
        bad = child.function("bad")
        for which in range(7):
            with pytest.raises(RemoteError) as e:
                bad(which)
            assert e.value.kind == "raises"
            assert "PermissionError" in e.value.message
        assert bad(7) == 1
        if held(child, "files"):
            with pytest.raises(RemoteError, match="PermissionError"):
                bad(8)
    assert sorted(tmp_path.iterdir()) == [there]
    assert there.read_text() == "kept"


@pytest.mark.parametrize("without", [(), ("user", "pids"), ("landlock", "pids"), ("landlock", "user", "pids")], ids=str)
def test_no_signal_reaches_the_grader(without: tuple[str, ...]) -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
    source = f"""
import os, signal
def bad(which):
    pid = [{os.getpid()}, os.getppid()][int(which)]
    if pid == os.getpid(): raise ProcessLookupError("the grader's number is our own here")
    os.kill(pid, signal.SIGUSR1)
"""
    try:
        with Child(source.encode(), QUICK, without=without) as child:
            for which in (0, 1):
                with pytest.raises(RemoteError, match=r"PermissionError|ProcessLookupError") as e:
                    child.function("bad")(which)
                assert e.value.kind == "raises"
        assert seen == []
    finally:
        signal.signal(signal.SIGUSR1, before)


OTHERS = """
import ctypes, os, resource
def set_limit(pid): resource.prlimit(int(pid), resource.RLIMIT_NOFILE, (64, 64)); return 1.0
def set_priority(pid): os.setpriority(os.PRIO_PROCESS, int(pid), 5); return 1.0
def set_processors(pid): os.sched_setaffinity(int(pid), [min(os.sched_getaffinity(int(pid)))]); return 1.0
def set_scheduler(pid): os.sched_setscheduler(int(pid), os.SCHED_BATCH, os.sched_param(0)); return 1.0
def read_memory(pid):  # at an address where nothing is: whether it may at all is decided before
    libc, here = ctypes.CDLL(None, use_errno=True), ctypes.create_string_buffer(8)
    class Piece(ctypes.Structure): _fields_ = [("at", ctypes.c_void_p), ("size", ctypes.c_size_t)]
    mine, theirs = Piece(ctypes.addressof(here), 1), Piece(16, 1)
    libc.process_vm_readv(int(pid), ctypes.byref(mine), 1, ctypes.byref(theirs), 1, 0)
    if ctypes.get_errno() != 14: raise OSError(ctypes.get_errno(), "")
    return 1.0
def may(name, pid):
    try: return globals()[name](pid)
    except OSError: return 0.0
def set_own(pid):
    os.sched_setaffinity(0, os.sched_getaffinity(0))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))
    return 1.0
"""


@pytest.mark.parametrize("without", [(), ("pids",), ("calls",), ("pids", "user"), ("calls", "pids"), ("calls", "pids", "user")], ids=str)
def test_nothing_of_a_bystander_is_changed_where_the_report_says_so(without: tuple[str, ...]) -> None:
    if not LINUX:
        return
    import resource

    bystander = subprocess.Popen(["sleep", "60"], preexec_fn=os.setsid)

    def settings() -> tuple[object, ...]:
        pid = bystander.pid
        limit = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        return limit, os.getpriority(os.PRIO_PROCESS, pid), os.sched_getaffinity(pid), os.sched_getscheduler(pid)

    try:
        before = settings()
        with Child(OTHERS.encode(), QUICK, without=without) as child:
            assert child.function("set_own")(0) == 1.0
            names = ("set_limit", "set_priority", "set_processors", "set_scheduler", "read_memory")
            done = [name for name in names if child.function("may")(name, float(bystander.pid))]
        if held(child, "others"):
            assert done == []
            assert settings() == before
        assert held(child, "others") or set(without) >= {"calls", "pids"}, child.layers
        told = next(row for row in child.layers if row["layer"] == "others")
        assert (told["force"] == "full") == (done == []), told
    finally:
        bystander.kill()
        bystander.wait()


KEYS = """
import ctypes, platform
ADD, KEYCTL = {"x86_64": (248, 250), "aarch64": (217, 219)}.get(platform.machine(), (0, 0))
def call(*args):
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc.syscall(*args)
def leave(ring): return float(call(ADD, b"user", b"tabular-rlhf-test", b"answer", 6, int(ring)) > 0)
def find(ring): return float(call(KEYCTL, 10, int(ring), b"user", b"tabular-rlhf-test", 0) > 0)
def spaces(flag): return float(ctypes.CDLL(None).unshare(int(flag)))
"""


@pytest.mark.parametrize("without", [(), ("calls",)], ids=str)
def test_no_key_is_left_for_the_next_answer(without: tuple[str, ...]) -> None:
    with Child(KEYS.encode(), QUICK, without=without) as first, Child(KEYS.encode(), QUICK, without=without) as second:
        leave, find = first.function("leave"), second.function("find")
        if held(first, "keys"):
            for ring in (-3, -4, -5):  # of the session, of the user, of the user's session
                left = leave(ring)
                assert not left or not held(first, "calls")
                assert find(ring) == 0.0


def test_an_answer_makes_no_namespaces() -> None:
    with Child(KEYS.encode(), QUICK) as child:
        for flag in (0x10000000, 0x20000000, 0x40000000, 0x00020000):
            assert child.function("spaces")(flag) == -1.0 or not held(child, "calls")


def test_no_memory_of_the_grader_and_none_of_its_secrets_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "do-not-tell")
    source = f"""
import os
def environment(x): return " ".join(f"{{k}}={{v}}" for k, v in os.environ.items())
def memory(x): return open("/proc/{os.getpid()}/mem", "rb").read(1)[0]
def parent(x): return open(f"/proc/{{os.getppid()}}/environ").read()
def connect(x):
    import socket
    socket.create_connection(("127.0.0.1", 9), timeout=0.3)
"""
    with Child(source.encode(), QUICK) as child:
        told = child.function("environment")(0)
        assert "do-not-tell" not in told
        assert set(os.environ) - {w.split("=")[0] for w in told.split()}
        if held(child, "files"):
            for name in ("memory", "parent"):
                with pytest.raises(RemoteError, match="PermissionError"):
                    child.function(name)(0)
        if held(child, "network"):
            with pytest.raises(RemoteError, match=r"OSError|PermissionError"):
                child.function("connect")(0)
    told = environment("/scratch")
    assert "SECRET_TOKEN" not in told
    assert {told[name] for name in ("HOME", "TMPDIR", "TEMP")} == {"/scratch"}


def test_nothing_outlives_a_grader_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "answers.py").write_text(FORKS + "def sleeps(x): bad(x); time.sleep(1000)\n")
    grader = f"""
import os, signal, threading
from pathlib import Path
from tabular_rlhf.grading import Child
child = Child(Path({str(tmp_path / "answers.py")!r}).read_bytes())
f = child.function("sleeps")
print(child.process.scratch, flush=True)
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGKILL)).start()
f(1.0)
"""
    package = str(Path(tabular_rlhf.__file__).parent.parent)
    place = {**os.environ, "PYTHONPATH": os.pathsep.join([package, os.environ.get("PYTHONPATH", "")])}
    ran = subprocess.run([sys.executable, "-c", grader], capture_output=True, text=True, env=place, timeout=60, check=False)
    scratch = ran.stdout.strip()
    assert scratch, ran.stderr
    until = time.monotonic() + 10
    while LINUX and alive(scratch) and time.monotonic() < until:
        time.sleep(0.05)
    assert not LINUX or alive(scratch) == []
    remove(scratch)


def test_a_link_in_the_place_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "closed").write_text("x")
    (kept / "closed").chmod(0)
    link = tmp_path / "answer"
    link.symlink_to(kept, target_is_directory=True)
    remove(str(link))
    assert not link.is_symlink()
    assert stat.S_IMODE((kept / "closed").stat().st_mode) == 0


def test_a_folder_goes_even_where_the_system_has_another_rm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tools").mkdir()
    for name in ("rm", "chmod"):
        (tmp_path / "tools" / name).write_text("#!/bin/sh\nexit 64\n")
        (tmp_path / "tools" / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "tools"))
    (tmp_path / "answer" / "inner").mkdir(parents=True)
    (tmp_path / "answer" / "inner" / "link").symlink_to(tmp_path / "tools", target_is_directory=True)
    remove(str(tmp_path / "answer"))
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["chmod", "rm", "tools"]


def test_a_child_holds_numpy_and_little_else() -> None:
    source = "import sys\ndef modules(x): return ' '.join(sys.modules)\n"
    with Child(source.encode()) as child:
        loaded = {name.split(".")[0] for name in child.function("modules")(0).split()}
    assert "numpy" in loaded
    assert not loaded & {"tabular_rlhf", "scipy", "matplotlib", "hypothesis", "tqdm"}


def test_an_answer_may_import_the_package_and_scipy() -> None:
    source = f"{HONEST}import scipy.optimize, scipy.special, tabular_rlhf as tr\ndef value(x): return tr.solve(tr.coin()).value\n"
    with Child(source.encode(), Limits(call=20.0)) as child:
        assert round(child.function("value")(0.0), 4) == 0.6201


@pytest.mark.parametrize("without", [("landlock",), ("landlock", "user", "network", "processes")], ids=str)
def test_what_is_not_in_force_is_named(without: tuple[str, ...]) -> None:
    found = marks(HONEST, "honest", without=without)
    assert found.full
    force = {row["layer"]: row["force"] for row in found.containment}
    assert force["files"] == "weak"
    assert all(force[layer] == "none" for layer in without if layer != "landlock")
    assert "files (an audit hook, which stops accidents and no enemy" in as_text(found)
    assert "files" not in as_text(found).split("contained: ")[1].split(";")[0]


@pytest.mark.parametrize("without", [(), ("room",)], ids=str)
def test_a_folder_however_filled_is_removed(without: tuple[str, ...], tmp_path: Path) -> None:
    outside = tmp_path / "outside"  # of no value to anyone: were links followed, this is all that would be lost
    (outside / "folder").mkdir(parents=True)
    (outside / "folder" / "kept").write_text("kept")
    source = f"""
import os
def deep(x):
    for k in range(1100):  # deeper than Python's own recursion
        os.mkdir("d")
        if k % 100 == 0: open("f", "w").close(); os.symlink({str(outside)!r}, "up")
        os.chdir("d")
    os.chmod(".", 0)
    return 1.0
def full(x):
    count = 0
    try:
        for count in range(80): open("f" + str(count), "wb").write(bytes(2**20))
    except OSError: pass
    return float(count)
"""
    with Child(source.encode(), Limits(call=10.0), without=without) as child:
        assert child.function("deep")(0) == 1.0
        assert os.path.isdir(child.process.scratch)
    assert not os.path.exists(child.process.scratch)
    with Child(source.encode(), Limits(call=10.0), without=without) as child:
        count = child.function("full")(0)
        assert (count <= 64) == held(child, "room")
    assert not os.path.exists(child.process.scratch)
    assert (outside / "folder" / "kept").read_text() == "kept"
