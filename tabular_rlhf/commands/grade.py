"""`tabular-rlhf grade SUBMISSION.py`: a whole file of answers, each in a process of its own, and one report.

What it contains.  The mark is safe on every platform: judge and truth never enter the process that runs the submission, and whatever comes
back is read as an answer.  The machine is kept from harm as far as the platform goes, and the report says how far that was:

- Linux as root: another user for each answer, no network, no write and little reading outside a scratch folder (Landlock, kernel 5.13 or
  later), limits on CPU time, memory, files and processes, and no process left behind.
- Linux as anybody else: the same without the other user; no network where the kernel allows user namespaces.
- macOS: limits on CPU time, files and processes, clocks, and an audit hook; that hook stops accidents, not an enemy.
- Windows: clocks and the audit hook.

The package's own answers.  An answer may import what is installed, the tools of this package among it, but not the packages that hold the
solutions (exercises, ledger, derivations, check, grading): importing them fails, and where Landlock is in force their files cannot be read.
Elsewhere (layer "files" weak) this stops the honest only: a determined answer can still find them by reading the source, or a copy of it
in a folder of the system.  So read the report's `imports` line: importlib, runpy, ctypes, inspect and sys have little to do in an answer.

What it does not contain.  Memory is limited for each process, not for their sum; where the scratch folder cannot be in memory
(layer "room"), its size is limited for each file and by time only.  It is no defense against faults of the kernel, nor of this code: for
a class of strangers do not run it as root on a machine that matters, but in a virtual machine or a container that can be thrown away.

Exit status: 0 if every exercise was answered right, 1 if not, 2 if there is nothing to grade.
"""

from __future__ import annotations

import argparse
import json
import runpy
from collections.abc import Mapping
from pathlib import Path

from tabular_rlhf import __version__
from tabular_rlhf.errors import InputError, positive, whole
from tabular_rlhf.grading.process import Limits
from tabular_rlhf.grading.report import as_json, as_text, grade


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "A submission is a Python file whose functions are named after the exercises, - turned into _.  It is never imported here: each "
        "answer runs in a process of its own.  Contained: judge and truth never enter that process, so no answer can forge a mark; and as "
        "far as the platform goes (the report's `contained` line says how far) the network, writing outside a scratch folder, time, "
        "memory and processes.  Importing this package's own answers (exercises, ledger, derivations, check, grading) fails; its tools "
        "may be used.  Not contained: what else is installed may be read, and where the layer `files` is not in force a determined answer "
        "may still find the solutions by reading the source.  So read the `imports` line.  It is no defense against faults of the kernel: "
        "for a class of strangers use a container or a virtual machine."
    )
    parser.add_argument("submission", type=Path, metavar="SUBMISSION.py", help="a file of answers")
    parser.add_argument(
        "--exercises",
        type=Path,
        metavar="FILE",
        help="your own exercises (a Python file that you trust): those that it adds, or those in its POINTS = {slug: points}",
    )
    parser.add_argument(
        "--seconds", type=float, default=Limits.answer, metavar="S", help="for all calls of an answer (default: %(default)g)"
    )
    parser.add_argument("--memory", type=int, default=Limits.memory, metavar="MIB", help="for each process (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    from tabular_rlhf.check import check

    seconds = positive(args.seconds, "--seconds", "seconds")
    memory = whole(args.memory, "--memory", 256, "an interpreter with numpy needs 256 MiB", most=2**20)
    source = args.submission.read_bytes()
    points = exercises(args.exercises)
    found = grade(source, args.submission.name, points, check, limits=Limits(answer=seconds, call=min(seconds, Limits.call), memory=memory))
    print(json.dumps(as_json(found, __version__), indent=1, allow_nan=False) if args.json else as_text(found))
    return 0 if found.full else 1


def exercises(path: Path | None) -> dict[str, float]:
    """The slugs of the set and what each is worth: one point, unless the instructor's file says otherwise."""
    from tabular_rlhf.exercises import EXERCISES

    if path is None:
        return dict.fromkeys(EXERCISES, 1.0)
    before = dict(EXERCISES)
    path.read_bytes()  # a missing file is a missing file, whatever runpy makes of it
    try:
        told = runpy.run_path(str(path))
    except (Exception, SystemExit) as e:  # a file that exits must not pass for one that was graded
        raise InputError(
            "the exercises must import", got=f"{type(e).__name__}: {e}", where=str(path), remedy="run the file by itself"
        ) from e
    points = told.get("POINTS", dict.fromkeys((slug for slug, e in EXERCISES.items() if before.get(slug) is not e), 1.0))
    return _checked(points, path)


def _checked(points: object, path: Path) -> dict[str, float]:
    """What each exercise is worth, if it can be judged: a fault of the exercise must not cost anybody points."""
    from tabular_rlhf.check.question import of_exercise
    from tabular_rlhf.check.trial import sound
    from tabular_rlhf.exercises import EXERCISES

    remedy = "see exercises/record.py: add(Exercise(...)), or POINTS = {slug: points}"
    if not isinstance(points, Mapping) or not points:
        raise InputError("there must be exercises to grade", got=repr(points), where=str(path), remedy=remedy)
    for slug, worth in points.items():
        if slug not in EXERCISES:
            raise InputError("POINTS must name exercises", got=repr(slug), where=str(path), remedy=remedy)
        if not isinstance(worth, int | float) or not 0 < worth < 1e9:
            raise InputError("points must be positive", got=repr(worth), where=f"{path}, {slug}", remedy=remedy)
        sound(of_exercise(EXERCISES[slug]))
    return {slug: float(worth) for slug, worth in points.items()}
