"""`tabular-rlhf study STUDY.toml`: a grid of worlds, algorithms, settings and seeds, told with intervals; resumable, on a cluster too.

Exit status: 0 if every cell is done, 1 if some failed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tabular_rlhf.cells import Place
from tabular_rlhf.commands.answer import answer
from tabular_rlhf.commands.options import declare_example, declare_json, declare_place, example, file_option
from tabular_rlhf.commands.printing import say
from tabular_rlhf.commands.progress import progress
from tabular_rlhf.commands.run import ending
from tabular_rlhf.errors import InputError
from tabular_rlhf.files import check_output, make_folder, write_text
from tabular_rlhf.studies import EXAMPLE, conduct, read_study, render, summarize
from tabular_rlhf.studies.report import SCHEMA, as_csv, report, summary_csv

FILES = ("journal.jsonl", "runs.csv", "summary.csv", "figure.svg")
"""What a study's folder holds."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Cells that are done are kept in the folder's journal.jsonl and never run again: an interrupted study goes on where it was, and "
        "ends with the same bits, on processes or on a cluster.  One cell that fails takes no other with it.  World files may name "
        "functions, which are run."
    )
    parser.add_argument("study", type=Path, nargs="?", metavar="STUDY", help="a TOML file")
    declare_example(parser, "study.toml", "a study")
    file_option(parser, "--out FOLDER", f"where {', '.join(FILES)} go (default: the study's name without .toml)")
    declare_place(parser)
    declare_json(parser)


def run(args: argparse.Namespace) -> int:
    if args.example is not None:
        return example(args.example, EXAMPLE, "study")
    if args.study is None:
        raise InputError("a study must be named", got="none", remedy="`tabular-rlhf study --example` writes one to start from")
    place = Place(args.backend, args.jobs, args.scheduler)
    study = read_study(args.study)
    args.seed = study.seed
    folder = args.out or args.study.with_suffix("")
    if folder == args.study:
        raise InputError("the folder of a study must not be its file", got=str(folder), remedy="name one with --out")
    make_folder(folder)
    paths = [folder / name for name in FILES]
    for path in paths:
        check_output(path)

    with ending(), progress(study.size, "study", "cell") as bar:

        def told(n: int, fault: str | None) -> None:
            bar.update(n)
            if fault is not None:
                say(f"a cell failed: {fault}", sys.stderr)

        ended = conduct(study, paths[0], place, told)
    points = summarize(study, ended)
    write_text(paths[1], as_csv(study, ended))
    write_text(paths[2], summary_csv(points))
    if points:
        from tabular_rlhf.studies.figure import draw_study

        draw_study(study, points, paths[3])
    answer(
        args, SCHEMA, report(study, ended, points), lambda: render(study, ended, points, [str(path) for path in paths[1:] if path.exists()])
    )
    return 1 if ended[1] else 0
