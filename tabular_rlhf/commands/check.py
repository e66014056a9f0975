"""`tabular-rlhf check SLUG module:function`: a function of your own held against a claim, an exercise or a line of a derivation."""

from __future__ import annotations

import argparse

from tabular_rlhf.check import check
from tabular_rlhf.check.report import SCHEMA
from tabular_rlhf.commands.answer import answer
from tabular_rlhf.commands.loading import load
from tabular_rlhf.commands.options import declare_json
from tabular_rlhf.commands.solve import find_world


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "The file is run as a program of your own is: give only files that you trust."
    parser.add_argument("slug", metavar="SLUG", help="an exercise, a row of the ledger, or derivation/line")
    where = "where your function is: my_module:my_function or my_file.py:my_function"
    parser.add_argument("function", metavar="MODULE:FUNCTION", help=where)
    parser.add_argument("--part", help="of a row with several parts: its name (default: the first, or all of them if a tuple is returned)")
    parser.add_argument("--world", metavar="WORLD", help="a TOML file or a named world on which it is tried too, after all others")
    declare_json(parser)


def run(args: argparse.Namespace) -> int:
    world = None if args.world is None else find_world(args.world)  # before the reader's own code runs
    report = check(args.slug, load(args.function), part=args.part, world=world)
    answer(args, SCHEMA, report.json(), lambda: report)
    return 0 if report.ok else 2 if report.status == "stopped" else 1
