"""The grader against submissions that hang, crash, fork, print, write, lie and forge; and beside them an honest answer, with its mark."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tabular_rlhf
from tabular_rlhf.grading import Child, Limits, RemoteError
from tabular_rlhf.grading.process import environment, remove
from tabular_rlhf.grading.report import as_text
from tests.grading_support import HONEST, QUICK, marks

LINUX = sys.platform.startswith("linux")

FORGED = """
    import json, os
    def frame(message):
        header = json.dumps(message).encode()
        payload = len(header).to_bytes(4, "little") + header
        return len(payload).to_bytes(8, "little") + payload
    def everywhere(data):
        for fd in range(1, 64):
            try: os.write(fd, data)
            except OSError: pass
"""

IN_THE_FUNCTION: dict[str, tuple[str, str, str]] = {
    # name: (body of the function, status, what the reason must hold)
    "loops": ("while True: pass", "timed out", "no answer within 0.7 s for a call"),
    "sleeps": ("import time; time.sleep(1000)", "timed out", "0.7 s"),
    "slow each time": ("import time; time.sleep(0.6); return 3 * x if x.size == 1 else 2 * x", "wrong", ""),
    "raises": ("raise ValueError('not today')", "raises", "ValueError: not today (line 5)"),
    "raises line breaks": (r"raise ValueError('a\n\x1b[2Ahonest  1 / 1 right\u202e')", "raises", "ValueError: a [2Ahonest 1 / 1 right"),
    "raises without words": ("class E(Exception):\n        __str__ = None\n    raise E", "raises", "cannot be printed"),
    "exits": ("import sys; sys.exit(0)", "raises", "SystemExit: 0"),
    "ends": ("import os; os._exit(0)", "crashed", "exit status 0"),
    "aborts": ("import os; os.abort()", "crashed", "SIGABRT"),
    "segfaults": ("import ctypes; ctypes.string_at(0)", "crashed", "SIGSEGV"),
    "kills itself": ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "crashed", "SIGKILL"),
    "kills its group": ("import os, signal; os.killpg(0, signal.SIGKILL)", "crashed", "SIGKILL"),
    "recursion": ("return bad(x)", "raises", "RecursionError"),
    "memory": ("a = [np.empty(10**7) for _ in range(1000)]; return 2 * x", "memory", "Unable to allocate"),
    "more memory": ("return bytearray(10**11)", "memory", "MemoryError"),
    "huge answer": ("return np.zeros(10**7)", "too large", "80,000,000 bytes"),
    "huge for nothing": ("return np.broadcast_to(0.0, (10**6, 10**6))", "too large", "8,000,000,000,000 bytes"),
    "deep answer": ("t = 2 * x\n    for _ in range(500): t = (t,)\n    return t", "too large", "nest"),
    "endless answer": ("t = []; t.append(t); return t", "too large", "nest"),
    "many answers": ("return [0.0] * 10**6", "too large", "nest"),
    "long text": ("return 'x' * 10**7", "too large", "text"),
    "long number": ("return 1 << 10**6", "too large", "digits"),
    "generator": ("yield 2 * x", "not an answer", "generator"),
    "a dict": ("return {'right': True}", "not an answer", "dict"),
    "objects": ("return np.array([x, None], dtype=object)", "not an answer", "an array of object"),
    "nan": ("return x * np.nan", "wrong", "not twice"),
    "shape": ("return (2 * x)[None]", "wrong", "not twice"),
    "text": ("return 'right'", "wrong", "not twice"),
    "a report": ("class R:\n        ok = True; status = 'right'\n    return R()", "not an answer", "R"),
    "equal to all": ("class A(np.ndarray):\n        def __eq__(s, o): return True\n    return x.view(A)", "wrong", "not twice"),
    "__array__": ("class A:\n        def __array__(s, *a, **k): raise SystemExit\n    return A()", "not an answer", "A"),
    "__del__": (
        "class A:\n        def __del__(s): import os; os._exit(3)\n    a = A()\n    del a\n    return 2 * x",
        "crashed",
        "exit status 3",
    ),
    "a hostile type": ("class M(type):\n        def __call__(s): return 1\n    return M('f', (float,), {})(3)", "raises", "TypeError"),
    "patches numpy": ("np.allclose = np.array_equal = lambda *a, **k: True; return x", "wrong", "not twice"),
    "patches builtins": (
        "import builtins; builtins.len = builtins.isinstance = lambda *a: True; return x",
        "wrong|crashed|raises|protocol",
        "",
    ),
    "patches json": ("import json; json.dumps = lambda m: '{\"ok\": true}'; return x", "protocol", "parts|another"),
    "a handler at exit": ("import atexit, time; atexit.register(time.sleep, 1000); return x", "wrong", ""),
    "a thread that stays": ("import threading, time; threading.Thread(target=time.sleep, args=(1000,)).start(); return x", "wrong", ""),
    "prints": ("print('y' * 10**8); return x", "wrong", ""),
    "prints for ever": ("while True: print('right ' * 1000)", "timed out", ""),
    "reads": ("return x if input() else 2 * x", "raises", "EOFError"),
    "closes all": ("import os; os.closerange(0, 256); return 2 * x", "crashed|raises", ""),
    "forges a reply": (f"{FORGED}    everywhere(frame({{'n': 1, 'ok': True}}))\n    return 2 * x", "wrong|protocol", ""),
    "forges an error": (
        f"{FORGED}    everywhere(frame({{'n': 1, 'bad': 'right', 'text': 'right', 'line': 1}})); return x",
        "protocol",
        "kind",
    ),
    "forges a mark": (f"{FORGED}    everywhere(frame({{'n': 1, 'points': 1, 'status': 'right'}})); return x", "protocol", "parts"),
    "forges a size": (f"{FORGED}    everywhere((10**12).to_bytes(8, 'little')); return x", "protocol", "1,000,000,000,000 bytes"),
    "forges an array": (
        f"{FORGED}    everywhere(frame({{'n': 1, 'ok': {{'a': ['<f8', [10**6, 10**6], True, False]}}, 'changed': []}})); return x",
        "protocol",
        "an array",
    ),
    "forges a nest": (
        f"{FORGED}    everywhere((10**5 + 4).to_bytes(8, 'little') + (10**5).to_bytes(4, 'little') + b'[' * 10**5)",
        "protocol",
        "JSON",
    ),
    "forges for ever": (f"{FORGED}    while True: everywhere(frame({{'n': 1, 'ok': 1.0, 'changed': []}}))", "wrong|protocol|crashed", ""),
    "answers another question": (f"{FORGED}    everywhere(frame({{'n': 99, 'ok': 1.0, 'changed': []}})); return x", "protocol", "another"),
    "noise": (f"{FORGED}    everywhere(os.urandom(4096)); return x", "protocol", ""),
    "fills its disk": ("open('big', 'wb').write(b'x' * 10**8)", "raises", "File too large"),
}


def source_of(body: str) -> str:
    return f"{HONEST}def bad(x):\n    {body.lstrip()}\n"


@pytest.mark.parametrize("name", IN_THE_FUNCTION)
def test_a_hostile_answer_costs_its_own_mark_only(name: str) -> None:
    body, status, reason = IN_THE_FUNCTION[name]
    found = marks(source_of(body), "bad", "honest")
    bad, honest = found.marks
    assert (honest.points, honest.status) == (1.0, "right")
    assert bad.points == 0.0
    assert bad.status in status.split("|"), bad
    assert any(part in bad.reason for part in reason.split("|")), bad.reason
    assert len(as_text(found).splitlines()) == 7 + bool(found.imports), "nothing that a submission says adds a line"


AT_IMPORT = {
    "loops": ("while True: pass", "timed out"),
    "raises": ("1 / 0", "does not import"),
    "exits": ("import sys; sys.exit()", "does not import"),
    "ends": ("import os; os._exit(0)", "crashed"),
    "is not Python": ("def f(:", "does not import"),
    "needs what is not there": ("import no_such_module", "does not import"),
    "nests": ("x = " + "(" * 100_000, "does not import"),
    "chains": ("x = 1" + "+1" * 200_000, "does not import|crashed"),
    "negates": ("x = " + "-" * 300_000 + "1", "does not import"),
    "a null": ("x = '\0'", "does not import"),
}


@pytest.mark.parametrize("name", AT_IMPORT)
def test_a_file_that_does_not_import_gets_no_mark_and_says_why(name: str) -> None:
    line, status = AT_IMPORT[name]
    found = marks(f"{HONEST}{line}\n", "honest", "other")
    assert found.points == 0.0
    assert found.marks[0].status in status.split("|"), found.marks[0]
    assert found.marks[0].reason
    assert marks(HONEST, "honest").full


def test_an_error_at_import_is_told_with_its_line() -> None:
    assert (marks(f"{HONEST}1 / 0\n", "honest").marks[0].reason) == "ZeroDivisionError: division by zero (line 4)"


# ---------------------------------------------------------------------------------------------------- the machine

MODES: list[tuple[str, ...]] = [(), ("user",), ("network",)]
"""Layers left out, where the rest must still hold."""


def held(child: Child, *layers: str) -> bool:
    """Whether this machine has all these layers in force."""
    force = {row["layer"]: row["force"] for row in child.layers}
    return all(force[layer] == "full" for layer in layers)


def alive(mark: str) -> list[int]:
    """Processes that carry a mark in their arguments."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark.encode() in path.read_bytes():
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
    with Child(bomb.encode(), QUICK) as child:
        bad = child.function("bad")
        if held(child, "processes", "orphans"):  # where nothing would stop it, it is not lit
            with pytest.raises(RemoteError) as e:
                bad(1.0)
            assert e.value.kind in ("timed out", "protocol", "crashed")
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


@pytest.mark.parametrize("without", [(), ("user",), ("landlock",), ("landlock", "user")], ids=str)
def test_no_signal_reaches_the_grader(without: tuple[str, ...]) -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
    source = f"""
import os, signal
def bad(which):
    os.kill([{os.getpid()}, os.getppid()][int(which)], signal.SIGUSR1)
"""
    try:
        with Child(source.encode(), QUICK, without=without) as child:
            for which in (0, 1):
                with pytest.raises(RemoteError, match="PermissionError") as e:
                    child.function("bad")(which)
                assert e.value.kind == "raises"
        assert seen == []
    finally:
        signal.signal(signal.SIGUSR1, before)


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
    for _ in range(1300):
        os.mkdir("d"); open("f", "w").close(); os.symlink({str(outside)!r}, "up"); os.chdir("d")
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
