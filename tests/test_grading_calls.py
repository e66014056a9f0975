"""The filter of system calls, run by a small machine of our own, and the meter that tells computing from waiting."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tabular_rlhf.grading.calls import CLONE, CLONE3, FOR_ITSELF, PROCESSORS, REFUSED, program
from tabular_rlhf.grading.process import Meter

ALLOWED = "allowed"
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
"""Of classic BPF: linux/bpf_common.h."""


def run(steps: list[tuple[int, int, int, int]], number: int, processor: int, first: int = 0) -> str:
    """What a program answers to a call: as the kernel's interpreter would, one instruction after another."""
    data = number.to_bytes(4, "little") + processor.to_bytes(4, "little") + bytes(8) + first.to_bytes(8, "little") + bytes(40)
    at, a = 0, 0
    while True:
        code, yes, no, k = steps[at]
        at += 1
        if code == LOAD:
            a = int.from_bytes(data[k : k + 4], "little")
        elif code == RETURN:
            return ALLOWED if k == 0x7FFF0000 else errno.errorcode[k & 0xFFFF] if k >> 16 == 5 else "?"
        else:
            assert code in (EQUAL, AT_LEAST, ANY_BIT)
            at += yes if {EQUAL: a == k, AT_LEAST: a >= k, ANY_BIT: bool(a & k)}[code] else no


@pytest.mark.parametrize("machine", PROCESSORS)
def test_the_filter_refuses_what_it_names_and_nothing_else(machine: str) -> None:
    steps, (name, column) = program(machine), PROCESSORS[machine]
    refused = {numbers[column] for numbers in REFUSED.values()}
    own = {numbers[column] for numbers in FOR_ITSELF.values()}
    for number in range(600):
        for first in (0, 1, 4242, 2**31, 2**32 - 1):
            told = run(steps, number, name, first)
            if number in refused or (number in own and first):
                assert told == "EPERM", (number, first)
            elif number == CLONE3[column]:
                assert told == "ENOSYS"
            elif number == CLONE[column] and first in (2**31, 4242, 0, 1):
                assert told == ALLOWED  # 2**31 and the low bits ask for no namespace
            elif number != CLONE[column]:
                assert told == ALLOWED, (number, first)
    for flag in (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        assert run(steps, CLONE[column], name, flag | signal.SIGCHLD) == "EPERM"
    for other in {p for p, _ in PROCESSORS.values()} | {0x40000003} - {name}:
        if other != name:
            assert {run(steps, number, other) for number in (0, 1, 39, 435)} == {"EPERM"}
    if machine == "x86_64":
        assert {run(steps, 0x40000000 + number, name) for number in (0, 1, 520)} == {"EPERM"}
    assert all(0 <= jump < 256 for _, yes, no, _ in steps for jump in (yes, no))


def test_the_numbers_are_those_of_the_kernel() -> None:
    """The tables, against the headers of a compiler where there is one."""
    headers = {0: "/usr/include/x86_64-linux-gnu/asm/unistd_64.h", 1: "/usr/include/asm-generic/unistd.h"}
    for column, path in headers.items():
        if Path(path).exists():
            known = {n: int(k) for n, k in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", Path(path).read_text())}
            for name, numbers in {**REFUSED, **FOR_ITSELF, "clone": CLONE, "clone3": CLONE3}.items():
                assert known.get(name, numbers[column]) == numbers[column], name
            assert len(known) > 300


# ---------------------------------------------------------------------------------------------------- the meter

BUSY = "import sys\nprint(1, flush=True)\nsys.stdin.read(1)\nx = 0\nwhile True: x += 1"


def test_a_process_that_computes_does_not_stand_still_and_one_that_waits_computes_nothing() -> None:
    """Whatever else the machine does: four processes share what there is, and none of them stands still."""
    children = [subprocess.Popen([sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(4)]
    try:
        for child in children:
            assert child.stdout is not None
            child.stdout.read(1)
        meters = [Meter(child.pid) for child in children]
        if not meters[0].exact:
            return
        before = [m.computed() for m in meters]
        for m in meters:
            m.begin()
        time.sleep(0.2)  # they wait for a word
        assert all(m.computed() - b < 0.05 for m, b in zip(meters, before, strict=True))
        assert all(m.stood_still() > 0.1 for m in meters)
        for child in children:
            assert child.stdin is not None
            child.stdin.write(b"x")
            child.stdin.flush()
        while min(m.computed() - b for m, b in zip(meters, before, strict=True)) < 0.05:
            time.sleep(0.01)
        for m in meters:
            m.stood_still()
        begun, before = time.monotonic(), [m.computed() for m in meters]
        while min(m.computed() - b for m, b in zip(meters, before, strict=True)) < 0.05:
            time.sleep(0.01)
        passed = time.monotonic() - begun
        assert all(m.stood_still() < 0.2 * passed + 0.02 for m in meters), "waiting for a processor is not standing still"
    finally:
        for child in children:
            child.kill()
            child.communicate()
    last = meters[0].computed()
    assert meters[0].computed() == last, "what an ended process computed stays"


def test_where_nobody_tells_computing_a_tenth_of_the_time_that_passes_counts() -> None:
    nobody = Meter(2**22 + 5)
    assert not nobody.exact
    begun = nobody.computed()
    time.sleep(0.05)
    assert 0.004 < nobody.computed() - begun < 5.0
    assert nobody.stood_still() == 0.0
    assert Meter(os.getpid()).exact == sys.platform.startswith("linux")
