"""`tabular-rlhf grade SUBMISSION`: mark a file of answers, each run in a process of its own.

What is graded.  SUBMISSION is a Python file, a notebook, a folder or a zip of them (of one student).  A function answers the exercise of
its name, `-` turned into `_`.  Of a notebook run the statements that these functions need; one that fails costs only what it would have
defined.

The marks.  A right answer gets its points.  One that would be right if an axis of length one were taken out or put in, (P, 1) for (P,), has
the status "shape" and gets the share `--reshape` of them (half).  All others get none.  Limits are on computing, not on time that passes,
and what libraries take to import is counted apart: so a mark does not depend on what else the machine does.  "stopped" means that a limit
was met before there was an answer.

What it contains.  The mark is safe on every platform: judge and truth never enter the process that runs the submission, and whatever comes
back is read as an answer.  The machine is kept from harm as far as the platform goes, and the report says how far that was:

- Linux as root: another user for each answer, a process namespace (an answer can name no process outside), no network, no write and little
  reading outside a scratch folder (Landlock, kernel 5.13 or later), a filter of system calls (no other process's limits, priority or
  processors, no namespaces, mounts or keys), limits on CPU time, memory, files and processes, and no process left behind.
- Linux as anybody else: the same without the other user; what needs namespaces (pids, network, room) where the kernel allows user
  namespaces.  Where it does not, and has no filter of system calls, an answer may change the limits of any process of this user, and so end
  the grader: the layer "others" says so.
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
import runpy
from collections.abc import Mapping
from pathlib import Path

from tabular_rlhf import __version__
from tabular_rlhf.commands.answer import answer_json, answer_text
from tabular_rlhf.errors import InputError, positive, quoted, raised, whole
from tabular_rlhf.files import read_bytes, write_text
from tabular_rlhf.grading.gradescope import results
from tabular_rlhf.grading.process import Limits
from tabular_rlhf.grading.report import SCHEMA, as_html, as_json, as_text
from tabular_rlhf.told import as_json as plain_json


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "A submission is a Python file, a notebook, or a folder or zip of one student's; its functions are named after the exercises, - "
        "turned into _.  It is never imported here: each answer runs in a process of its own.  Marks: a right answer gets its points; one "
        "whose numbers are right but for axes of length one (status shape) gets the share --reshape; any other none.  Limits are on "
        "computing, not on time that passes, so no mark depends on what else the machine does.  Contained: judge and truth never enter "
        "that process, so no answer can forge a mark; and as far as the platform goes (the report's `contained` line says how far) the "
        "network, writing outside a scratch folder, other processes, time, memory and processes.  Importing this package's own answers "
        "(exercises, ledger, derivations, check, grading) fails; its tools may be used.  Not contained: what else is installed may be "
        "read, and where the layer `files` is not in force a determined answer may still find the solutions by reading the source.  So "
        "read the `imports` line.  It is no defense against faults of the kernel: for a class of strangers use a container or a virtual "
        "machine.  Without one, give only files that you trust."
    )
    parser.add_argument("submission", type=Path, metavar="SUBMISSION", help="a .py or .ipynb file, or a folder or .zip of them")
    parser.add_argument(
        "--exercises",
        type=Path,
        metavar="FILE",
        help="your own exercises (a Python file that you trust): those that it adds, or those in its POINTS = {slug: points}",
    )
    parser.add_argument("--chapter", type=int, help="only this chapter's exercises")
    parser.add_argument("--notebook", help="only this notebook's exercises, as 04")
    parser.add_argument(
        "--seconds", type=float, default=Limits.answer, metavar="S", help="of computing, for all calls of an answer (default: %(default)g)"
    )
    parser.add_argument(
        "--memory", type=int, default=Limits.memory, metavar="MIB", help="for each process, beyond its libraries (default: %(default)s)"
    )
    parser.add_argument(
        "--reshape", type=float, default=0.5, metavar="SHARE", help="of the points, where only the shape is wrong (default: %(default)g)"
    )
    parser.add_argument(
        "--preload", default="", metavar="MODULES", help="import these once for all answers, as torch,scipy.stats (known ones are found)"
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the report as one HTML file, too")
    parser.add_argument("--gradescope", type=Path, metavar="FILE", help="write the marks as Gradescope's results.json, too")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    from tabular_rlhf.commands.exercises import plain_text
    from tabular_rlhf.exercises import every
    from tabular_rlhf.grading.marks import grade
    from tabular_rlhf.grading.shapes import fair
    from tabular_rlhf.grading.submission import read

    seconds = positive(args.seconds, "--seconds", "seconds")
    memory = whole(args.memory, "--memory", 64, "numbers and arrays need 64 MiB", most=2**20)
    if not 0 <= args.reshape <= 1:
        raise InputError("--reshape must be a share", got=args.reshape, remedy="give a number from 0 to 1")
    submission = read(args.submission)
    points = chosen(exercises(args.exercises), args.chapter, args.notebook)
    found = grade(
        submission,
        points,
        lambda slug, function: fair(slug, function, args.reshape),
        limits=Limits(answer=seconds, call=min(seconds, Limits.call), memory=memory),
        preload=[name for name in args.preload.split(",") if name],
    )

    def hint(slug: str) -> str:
        return plain_text(every()[slug].hint)

    if args.html is not None:
        write_text(args.html, as_html(found, hint))
    if args.gradescope is not None:
        write_text(args.gradescope, plain_json(results(found, hint), indent=1))
    if args.json:
        answer_json(SCHEMA, args, as_json(found, __version__, hint))
    else:
        answer_text(args, as_text(found, hint))
    return 0 if found.full else 1


def chosen(points: dict[str, float], chapter: int | None, notebook: str | None) -> dict[str, float]:
    """The exercises of a chapter and of a notebook, where these are named."""
    from tabular_rlhf.commands.exercises import selected
    from tabular_rlhf.exercises import every

    return {e.slug: points[e.slug] for e in selected([every()[slug] for slug in points], chapter, notebook)}


def exercises(path: Path | None) -> dict[str, float]:
    """The slugs of the set and what each is worth: one point, unless the instructor's file says otherwise."""
    from tabular_rlhf.exercises import EXERCISES, every

    if path is None:
        return dict.fromkeys(EXERCISES, 1.0)
    before = every()
    _ = read_bytes(path, "the file of exercises")  # a missing file is a missing file, whatever runpy makes of it
    try:
        told = runpy.run_path(str(path))
    except (Exception, SystemExit) as e:  # a file that exits must not pass for one that was graded
        raise InputError("the exercises must import", got=raised(e), where=str(path), remedy="run the file by itself") from e
    points = told.get("POINTS", dict.fromkeys((slug for slug, e in every().items() if before.get(slug) is not e), 1.0))
    return _checked(points, path)


def _checked(points: object, path: Path) -> dict[str, float]:
    """What each exercise is worth, if it can be judged: a fault of the exercise must not cost anybody points."""
    from tabular_rlhf.check.proof import judge_proof
    from tabular_rlhf.check.question import of_exercise
    from tabular_rlhf.check.trial import sound
    from tabular_rlhf.exercises import EXERCISES, PROOFS, every

    remedy = "see exercises/record.py and exercises/proof.py: add(Exercise(...)), add(Proof(...)), or POINTS = {slug: points}"
    if not isinstance(points, Mapping) or not points:
        raise InputError("there must be exercises to grade", got=quoted(points), where=str(path), remedy=remedy)
    for slug, worth in points.items():
        if slug not in every():
            raise InputError("POINTS must name exercises", got=quoted(slug), where=str(path), remedy=remedy)
        if not isinstance(worth, int | float) or not 0 < worth < 1e9:
            raise InputError("points must be positive", got=quoted(worth), where=f"{path}, {slug}", remedy=remedy)
        if slug not in PROOFS:
            sound(of_exercise(EXERCISES[slug]))
        elif not (report := judge_proof(PROOFS[slug], PROOFS[slug].solution)).ok:
            raise InputError("a proof's solution must be right", got=report.told, where=slug, remedy="mend it, or what it is asked for")
    return {slug: float(worth) for slug, worth in points.items()}
