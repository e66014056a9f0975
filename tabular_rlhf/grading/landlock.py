"""Landlock: a Linux process gives up, for itself and all that it starts, the right to write (and to read) outside named folders.

The kernel offers it to any process, root or not, since Linux 5.13; each later version (its ABI) can refuse more: truncating since 3, TCP
since 4, signals to processes outside since 6.  What is given up cannot be had back.  Three system calls, by number, through ctypes: no
compiled part is needed.  The numbers are the same on x86, ARM, POWER, RISC-V and s390; on alpha
they are other calls, and on MIPS, which adds an offset, none.

Source: Salaün, "Landlock: unprivileged access control", Linux kernel documentation, userspace-api/landlock.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterable

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
NO_NEW_PRIVILEGES = 38
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
FILES_BY_ABI = {1: 2**13 - 1, 2: 2**14 - 1, 3: 2**15 - 1, 5: 2**16 - 1}
"""Every right to files that an ABI knows: each keeps those of the one before."""
TCP, OUTSIDERS = 3, 3
"""bind and connect; abstract sockets and signals."""
DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")


def system_call(number: int, *args: object) -> int:
    """A system call, or the OSError it fails with."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    result = int(libc.syscall(ctypes.c_long(number), *args))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def prctl(option: int, *values: int) -> None:
    """A setting of this process, or the OSError it fails with."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, *(ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)[:4])):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def version() -> int:
    """The ABI of this kernel; 0 where there is none."""
    if not sys.platform.startswith("linux"):
        return 0  # the same number is another call there
    try:
        return system_call(CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    except (OSError, AttributeError):  # an old kernel, or switched off
        return 0


def restrict(scratch: str, readable: Iterable[str], listable: Iterable[str] = ()) -> int:
    """From now on: any use of `scratch`, reading (and running) what lies under `readable`, names under `listable`, no more.

    Returns the ABI in force; raises OSError where the kernel refuses.
    """
    abi = version()
    if not abi:
        raise OSError("the kernel has no Landlock")
    files = FILES_BY_ABI[max(n for n in FILES_BY_ABI if n <= abi)]
    handled = (ctypes.c_uint64 * 3)(files, TCP if abi >= 4 else 0, OUTSIDERS if abi >= 6 else 0)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8  # an older kernel refuses a longer record
    ruleset = system_call(CREATE_RULESET, ctypes.byref(handled), ctypes.c_size_t(size), ctypes.c_uint32(0))
    try:
        _allow(ruleset, [scratch], files)
        _allow(ruleset, readable, EXECUTE | READ_FILE | READ_DIR)
        _allow(ruleset, listable, READ_DIR)
        _allow(ruleset, DEVICES, READ_FILE | WRITE_FILE)
        prctl(NO_NEW_PRIVILEGES, 1)
        system_call(RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)
    return abi


def around(readable: Iterable[str], closed: Iterable[str]) -> tuple[list[str], list[str]]:
    """`readable` less what lies under `closed`, and the folders that were split for it.

    A right to a folder is one to all in it, and cannot be taken back: a folder above a closed one is replaced by its entries, less that.

    >>> here = os.path.dirname(os.path.realpath(__file__))
    >>> whole, split = around([here], [os.path.join(here, "landlock.py")])
    >>> os.path.join(here, "limits.py") in whole, os.path.join(here, "landlock.py") in whole, split == [here]
    (True, False, True)
    """
    ends = [os.path.realpath(path) + os.sep for path in closed]
    whole, split, look = list[str](), list[str](), [os.path.realpath(path) for path in readable]
    seen = set[str]()
    while look:
        path = look.pop()
        inside = path.rstrip(os.sep) + os.sep
        if path in seen or inside.startswith(tuple(ends)):
            continue
        seen.add(path)
        if any(end.startswith(inside) for end in ends):
            split.append(path)
            with contextlib.suppress(OSError):  # what cannot be listed is not readable either
                look += [os.path.realpath(entry.path) for entry in os.scandir(path)]
        else:
            whole.append(path)
    return whole, split


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"  # Python 3.14 wants the layout of a packed record named; it changes nothing for these two fields
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def _allow(ruleset: int, paths: Iterable[str], rights: int) -> None:
    for path in paths:
        try:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue  # what is not there needs no leave
        try:
            of_a_file = rights if os.path.isdir(path) else rights & (EXECUTE | WRITE_FILE | READ_FILE)
            rule = _Beneath(of_a_file, fd)
            system_call(ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(1), ctypes.byref(rule), ctypes.c_uint32(0))
        finally:
            os.close(fd)
