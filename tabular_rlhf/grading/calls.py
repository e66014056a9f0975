"""System calls that an answer has no need of, refused by the kernel: a seccomp filter, and a keyring of its own.

Every call passes a small program of the kernel's (classic BPF) that sees its number and its plain arguments.  Refused are those that
reach other processes by number or by user (limits, priority, processors, memory, tracing), new namespaces and mounts, the kernel's keys,
and doors that lead past the filter.  What a process may set for itself only (its number given as 0) it may.  A filter cannot be taken
off, and holds in all that the process starts.

Source: Corbet, "Yet another new approach to seccomp" (lwn.net, 2012); Linux kernel documentation, userspace-api/seccomp_filter.
The module is loaded by its path in the child.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import sys
from collections.abc import Callable

REFUSED = {  # name: its number on x86-64, and on the processors that share the newer table
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "move_pages": (279, 239),
    "migrate_pages": (256, 238),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsmount": (432, 432),
    "mount_setattr": (442, 442),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
}
FOR_ITSELF = {
    "prlimit64": (302, 261),
    "sched_setaffinity": (203, 122),
    "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118),
    "sched_setattr": (314, 274),
}
"""Those whose first argument is the number of a process."""
CLONE, CLONE3 = (56, 220), (435, 435)
NAMESPACES = 0x7E020000
"""The flags of `clone` that ask for one."""
PROCESSORS = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1), "riscv64": (0xC00000F3, 1)}
"""How the kernel calls the processor, and which column holds."""
OTHER_TABLE = 0x40000000
"""x86-64 has a second table of calls, from this number on."""

LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER, PROCESSOR, FIRST_ARGUMENT = 0, 4, 16
ALLOW, FAIL_WITH = 0x7FFF0000, 0x00050000
SET_FILTER, FILTER = 22, 2
JOIN_SESSION_KEYRING = 1

Instruction = tuple[int, int, int, int]
"""Code, how many to skip if it holds and if it does not, operand."""


def program(machine: str) -> list[Instruction]:
    """The filter for a processor.

    >>> program("x86_64")[0], len(program("aarch64")) < 255
    ((32, 0, 0, 4), True)
    """
    name, column = PROCESSORS[machine]
    fail = (RETURN, 0, 0, FAIL_WITH | errno.EPERM)
    steps = [(LOAD, 0, 0, PROCESSOR), (EQUAL, 1, 0, name), fail, (LOAD, 0, 0, NUMBER)]
    steps += [(AT_LEAST, 0, 1, OTHER_TABLE), fail] if column == 0 else []
    for numbers in REFUSED.values():
        steps += [(EQUAL, 0, 1, numbers[column]), fail]
    steps += [
        (EQUAL, 0, 1, CLONE3[column]),
        (RETURN, 0, 0, FAIL_WITH | errno.ENOSYS),
    ]  # its flags are out of sight: `clone` is used instead
    argument, allow = (LOAD, 0, 0, FIRST_ARGUMENT), (RETURN, 0, 0, ALLOW)
    steps += [(EQUAL, 0, 4, CLONE[column]), argument, (ANY_BIT, 0, 1, NAMESPACES), fail, allow]
    for numbers in FOR_ITSELF.values():
        steps += [(EQUAL, 0, 4, numbers[column]), argument, (EQUAL, 1, 0, 0), fail, allow]
    return [*steps, allow]


class _Step(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint16), ("yes", ctypes.c_uint8), ("no", ctypes.c_uint8), ("operand", ctypes.c_uint32))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("steps", ctypes.POINTER(_Step)))


def column() -> int:
    """Of the tables above, for this machine; OSError where they do not hold."""
    if not sys.platform.startswith("linux") or platform.machine() not in PROCESSORS or sys.maxsize < 2**32 or sys.byteorder != "little":
        raise OSError(f"no table of system calls for {sys.platform} on {platform.machine()}")
    return PROCESSORS[platform.machine()][1]


def refuse(prctl: Callable[..., None]) -> None:
    """The filter holds from now on; OSError where the kernel has none.  New privileges must have been given up before."""
    column()
    steps = program(platform.machine())
    whole = _Program(len(steps), (_Step * len(steps))(*(_Step(*step) for step in steps)))
    prctl(SET_FILTER, FILTER, ctypes.addressof(whole))


def join_a_new_keyring(system_call: Callable[..., int]) -> None:
    """A session keyring of its own, in the place of the one that it shares with its parent."""
    system_call(REFUSED["keyctl"][column()], ctypes.c_int(JOIN_SESSION_KEYRING), None)
