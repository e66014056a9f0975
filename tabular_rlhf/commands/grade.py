"""`tabular-rlhf grade SUBMISSION...`: mark a file of answers, or a class of them, each answer run in a process of its own.

What is graded.  SUBMISSION is a Python file, a notebook, a folder or a zip of them (of one student).  A function answers the exercise of
its name, `-` turned into `_`.  Of a notebook run the statements that these functions need; one that fails costs only what it would have
defined.

A class.  Several submissions, a pattern, or with `--each` a folder or a zip that holds one file or folder a student.  They are graded on
several processes of this machine; what is done is kept beside the tables (`journal.jsonl` of `--page`, or the CSV's name with .jsonl), and
is not graded again where submission, sheet, limits and version are the same.  The CSV and the students' pages hold names; `class.html` does
not.

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
from typing import TYPE_CHECKING

from tabular_rlhf import __version__
from tabular_rlhf.cells import Place
from tabular_rlhf.commands.answer import answer
from tabular_rlhf.commands.options import declare_json, file_option, option
from tabular_rlhf.commands.progress import progress
from tabular_rlhf.commands.run import ending
from tabular_rlhf.errors import InputError, positive, whole
from tabular_rlhf.files import check_output, make_folder, write_text
from tabular_rlhf.grading.process import Limits
from tabular_rlhf.grading.report import SCHEMA, as_html, as_json, as_text, results
from tabular_rlhf.grading.sheet import read_sheet
from tabular_rlhf.told import as_json as plain_json

if TYPE_CHECKING:
    from tabular_rlhf.grading.classroom import Terms
    from tabular_rlhf.grading.sheet import Sheet
    from tabular_rlhf.grading.submission import Student


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
    parser.add_argument("submission", nargs="+", metavar="SUBMISSION", help="a .py or .ipynb file, a folder or .zip of them, or a pattern")
    parser.add_argument("--each", action="store_true", help="SUBMISSION is a folder or .zip of a class, each entry a student's")
    file_option(parser, "--csv FILE", "write a line a student")
    file_option(parser, "--page DIR", "write class.html, without names, and students/NAME.html to hand back")
    parser.add_argument("--jobs", type=int, metavar="N", help="processes for a class (default: as many as there are processors)")
    own = "your own sheet: a .toml file, or a Python file that you trust and that may add exercises (see the README)"
    file_option(parser, "--exercises FILE", own)
    parser.add_argument("--chapter", type=int, help="only this chapter's exercises")
    parser.add_argument("--notebook", help="only this notebook's exercises, as 04")
    option(parser, "--seconds S", Limits.answer, "of computing, for all calls of an answer")
    option(parser, "--memory MIB", Limits.memory, "for each process, beyond its libraries")
    option(parser, "--reshape SHARE", 0.5, "of the points, where only the shape is wrong")
    parser.add_argument(
        "--preload", default="", metavar="MODULES", help="import these once for all answers, as torch,scipy.stats (known ones are found)"
    )
    file_option(parser, "--html FILE", "write the report as one HTML file, too")
    file_option(parser, "--gradescope FILE", "write the marks as Gradescope's results.json, too")
    declare_json(parser)


def run(args: argparse.Namespace) -> int:
    from tabular_rlhf.grading.classroom import Terms
    from tabular_rlhf.grading.sheet import verified
    from tabular_rlhf.grading.submission import roster

    seconds = positive(args.seconds, "--seconds", "seconds")
    memory = whole(args.memory, "--memory", 64, "numbers and arrays need 64 MiB", most=2**20)
    if not 0 <= args.reshape <= 1:
        raise InputError("--reshape must be a share", got=args.reshape, remedy="give a number from 0 to 1")
    students = roster(args.submission, args.each)
    for path in (args.csv, args.html, args.gradescope):
        if path is not None:
            check_output(path)
    sheet = chosen(read_sheet(args.exercises), args.chapter, args.notebook)
    verified(sheet, args.exercises)
    terms = Terms(seconds, memory, args.reshape, tuple(name for name in args.preload.split(",") if name))
    if len(students) > 1 or args.each or args.csv or args.page:
        return run_class(args, students, sheet, terms)
    return run_one(args, students[0], sheet, terms)


def run_one(args: argparse.Namespace, student: Student, sheet: Sheet, terms: Terms) -> int:
    from tabular_rlhf.grading.classroom import hint, mark

    found = mark(student.read(), sheet, terms)
    if args.html is not None:
        write_text(args.html, as_html(found, hint))
    if args.gradescope is not None:
        write_text(args.gradescope, plain_json(results(found, sheet, hint), indent=1))
    return answer(args, SCHEMA, as_json(found, __version__, hint), lambda: as_text(found, hint), holds=found.full)


def run_class(args: argparse.Namespace, students: list[Student], sheet: Sheet, terms: Terms) -> int:
    from tabular_rlhf.grading import class_report
    from tabular_rlhf.grading.classroom import grade_class

    for name in ("html", "gradescope"):
        if getattr(args, name) is not None:
            raise InputError(f"--{name} must be of one submission", got=f"{len(students)} students", remedy="use --page and --csv")
    if args.page is not None:
        make_folder(args.page / "students")
    journal = args.page / "journal.jsonl" if args.page is not None else args.csv.with_suffix(".jsonl") if args.csv is not None else None
    with ending(), progress(len(students), "class", "submission") as bar:
        found = grade_class(
            students,
            args.exercises,
            terms,
            slugs=list(sheet.items),
            journal=journal,
            place=Place(jobs=args.jobs),
            on_done=lambda n, name: bar.update(n),
        )
    pages: dict[str, str] = {}
    if args.page is not None:
        pages = {name: f"students/{page}" for name, page in class_report.page_names(found).items()}
        for one in found:
            if one.page:
                write_text(args.page / pages[one.student.name], one.page)
        write_text(args.page / "class.html", class_report.as_page(found, sheet))
    if args.csv is not None:
        write_text(args.csv, class_report.as_csv(found, sheet, pages))
    answer(args, class_report.SCHEMA, class_report.as_plain(found, sheet), lambda: class_report.as_text(found, sheet))
    return 0 if all(one.report is not None and one.points == sheet.whole for one in found) else 1


def chosen(sheet: Sheet, chapter: int | None, notebook: str | None) -> Sheet:
    """The exercises of a chapter and of a notebook, where these are named."""
    from tabular_rlhf.commands.exercises import selected
    from tabular_rlhf.exercises import every

    return sheet.only({e.slug for e in selected([every()[slug] for slug in sheet.items], chapter, notebook)})
