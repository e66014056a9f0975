"""The grader against submissions that hang, crash, fork, print, write, lie and forge; and beside them an honest answer, with its mark."""

from __future__ import annotations

import pytest

from tabular_rlhf.grading.report import as_text
from tests.grading_support import HONEST, marks

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
    "loops": ("while True: pass", "stopped", "no answer within 0.3 s of computing"),
    "sleeps": ("import time; time.sleep(1000)", "stopped", "it stood still for 0.4 s"),
    "slow each time": ("import time; time.sleep(0.1); return 3 * x if x.size == 1 else 2 * x", "wrong", ""),
    "never still for long": ("import time\n    for _ in range(100): time.sleep(0.02)", "stopped", "it stood still for 0.4 s"),
    "raises": ("raise ValueError('not today')", "raises", "ValueError: not today (line "),
    "raises line breaks": (r"raise ValueError('a\n\x1b[2Ahonest  1 / 1 right\u202e')", "raises", "ValueError: a [2Ahonest 1 / 1 right"),
    "raises without words": ("class E(Exception):\n        __str__ = None\n    raise E", "raises", "cannot be printed"),
    "exits": ("import sys; sys.exit(0)", "raises", "SystemExit: 0"),
    "ends": ("import os; os._exit(0)", "crashed", "exit status 0"),
    "aborts": ("import os; os.abort()", "crashed", "SIGABRT"),
    "segfaults": ("import ctypes; ctypes.string_at(0)", "crashed", "SIGSEGV"),
    "kills itself": ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "crashed", "SIGKILL"),
    "kills its group": ("import os, signal; os.killpg(0, signal.SIGKILL)", "crashed", "SIGKILL"),
    "recursion": ("f = lambda x: f(x)\n    return f(x)", "raises", "RecursionError"),
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
    "__array__": ("class A:\n        def __array__(s, *a, **k): raise SystemExit\n    return A()", "raises", "SystemExit"),
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
    "prints for ever": ("while True: print('right ' * 1000)", "stopped", ""),
    "reads": ("return x if input() else 2 * x", "raises", "EOFError"),
    "closes all": ("import os; os.closerange(0, 256); return 2 * x", "crashed|raises", ""),
    "forges a reply": (f"{FORGED}    everywhere(frame({{'n': 2, 'ok': True}}))\n    return 2 * x", "wrong|protocol", ""),
    "forges an error": (
        f"{FORGED}    everywhere(frame({{'n': 2, 'bad': 'right', 'text': 'right', 'place': '', 'line': 1}})); return x",
        "protocol",
        "kind",
    ),
    "forges a mark": (f"{FORGED}    everywhere(frame({{'n': 2, 'points': 1, 'status': 'right'}})); return x", "protocol", "parts"),
    "forges a size": (f"{FORGED}    everywhere((10**12).to_bytes(8, 'little')); return x", "protocol", "1,000,000,000,000 bytes"),
    "forges an array": (
        f"{FORGED}    everywhere(frame({{'n': 2, 'ok': {{'a': ['<f8', [10**6, 10**6], True, False]}}, 'changed': []}})); return x",
        "protocol",
        "an array",
    ),
    "forges a nest": (
        f"{FORGED}    everywhere((10**5 + 4).to_bytes(8, 'little') + (10**5).to_bytes(4, 'little') + b'[' * 10**5)",
        "protocol",
        "JSON",
    ),
    "forges for ever": (f"{FORGED}    while True: everywhere(frame({{'n': 2, 'ok': 1.0, 'changed': []}}))", "wrong|protocol|crashed", ""),
    "answers another question": (f"{FORGED}    everywhere(frame({{'n': 99, 'ok': 1.0, 'changed': []}})); return x", "protocol", "another"),
    "noise": (f"{FORGED}    everywhere(os.urandom(4096)); return x", "protocol", ""),
    "fills its disk": ("open('big', 'wb').write(b'x' * 10**8)", "raises", "File too large"),
}


GROUPS = 4


@pytest.mark.parametrize("group", range(GROUPS))
def test_a_hostile_answer_costs_its_own_mark_only(group: int) -> None:
    cases = dict(list(IN_THE_FUNCTION.items())[group::GROUPS])
    slugs = {f"bad-{k}": name for k, name in enumerate(cases)}
    bodies = [f"def bad_{k}(x):\n    {body.lstrip()}\n" for k, (body, _, _) in enumerate(cases.values())]
    found = marks(f"{HONEST}{''.join(bodies)}last = honest\n", "honest", *slugs, "last")
    by_slug = {m.slug: m for m in found.marks}
    for slug in ("honest", "last"):
        assert (by_slug[slug].points, by_slug[slug].status) == (1.0, "right"), by_slug[slug]
    for slug, name in slugs.items():
        _, status, reason = cases[name]
        mark = by_slug[slug]
        assert mark.points == 0.0
        assert mark.status in status.split("|"), (name, mark)
        assert any(part in mark.reason for part in reason.split("|")), (name, mark)
    judged = sum(m.status == "wrong" for m in found.marks)
    assert len(as_text(found).splitlines()) == len(found.marks) + 6 + 3 * judged, "nothing that a submission says adds a line"


AT_IMPORT = {
    "loops": ("while True: pass", "stopped"),
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


def test_an_error_at_import_is_told_with_its_line() -> None:
    assert (marks(f"{HONEST}1 / 0\n", "honest").marks[0].reason) == "ZeroDivisionError: division by zero (line 4)"
