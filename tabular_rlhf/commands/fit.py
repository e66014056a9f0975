"""`tabular-rlhf fit PREFS.jsonl`: rewards and policies from a preference file of your own (JSON lines).

Exit status: 0 if every line was used; 2 if some line was malformed (the report on the others is printed all the same), unless
--lenient; 2 too if the file cannot be used at all.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tabular_rlhf.commands.answer import answer_json, answer_text
from tabular_rlhf.commands.example import declare_example, example
from tabular_rlhf.commands.printing import say
from tabular_rlhf.errors import InputError
from tabular_rlhf.reports.preference_file import Preferences, read_preferences, read_reference
from tabular_rlhf.reports.preferences import SCHEMA, analyse
from tabular_rlhf.reports.preferences_text import render


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        'One JSON object a line: {"prompt": ..., "chosen": ..., "rejected": ...}, perhaps with "weight".  Responses are strings, or '
        "lists of messages that end with the assistant's.  Malformed lines are reported with their numbers, and the exit status is 2."
    )
    parser.add_argument("file", type=Path, nargs="?", metavar="PREFS", help="a file of comparisons, JSON lines")
    declare_example(parser, "prefs.jsonl", "a small preference file")
    parser.add_argument(
        "--beta", type=float, action="append", metavar="B", help="KL weight of a policy; may be repeated (default: 0.1, 0.5, 1)"
    )
    parser.add_argument(
        "--reference", type=Path, metavar="FILE", help='JSON lines {"prompt", "response", "logp"} for every response (default: uniform)'
    )
    parser.add_argument("--prior", type=float, metavar="S2", help="variance of a Gaussian prior on rewards, in nats^2 (default: none)")
    parser.add_argument("--level", type=float, default=0.95, help="of the intervals (default: 0.95)")
    parser.add_argument("--top", type=int, default=5, metavar="K", help="prompts to print (default: 5); --json has all")
    parser.add_argument("--lenient", action="store_true", help="exit with 0 in spite of malformed lines")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    parser.add_argument(
        "--figure", type=Path, metavar="FILE", help="also draw the prompt with most comparisons: FILE ends in .png, .svg or .pdf"
    )


EXAMPLE = """\
{"prompt": "Name a bird.", "chosen": "The heron.", "rejected": "The bat.", "comment": "only prompt, chosen, rejected, weight are read"}
{"prompt": "Name a bird.", "chosen": "The wren.", "rejected": "The bat.", "comment": "the responses of a prompt are its candidates"}
{"prompt": "Name a bird.", "chosen": "The heron.", "rejected": "The wren.", "weight": 2, "comment": "as if it were said twice"}
{"prompt": "Name a bird.", "chosen": "The wren.", "rejected": "The heron.", "comment": "people may disagree"}
{"prompt": "Name a bird.", "chosen": "The bat.", "rejected": "The wren.", "comment": "without this one the bat always loses: no finite fit"}
{"prompt": "What is 2 + 2?", "chosen": "4", "rejected": "5", "comment": "one comparison: its reward has no finite maximum"}
"""
"""A file to start from.  JSON has no comments, but may say more than is read."""


def run(args: argparse.Namespace) -> int:
    if args.example is not None:
        return example(args.example, EXAMPLE, "fit")
    if args.file is None:
        raise InputError("a preference file must be named", got="none", remedy="`tabular-rlhf fit --example` writes one to start from")
    if args.figure is not None:
        from tabular_rlhf.figures.page import check_path

        check_path(args.figure)  # before the work, not after it
    found = read_preferences(args.file)
    complain(found)
    log_ref = None if args.reference is None else read_reference(args.reference, found)
    report = analyse(found, betas=args.beta or (0.1, 0.5, 1.0), log_ref=log_ref, prior=args.prior, level=args.level)
    if args.json:
        answer_json(SCHEMA, args, report)
    else:
        answer_text(args, render(report, str(args.file), top=max(0, args.top)))
    if args.figure is not None:
        from tabular_rlhf.figures.fitted import draw_report

        draw_report(report, args.figure)
    return 2 if found.faults and not args.lenient else 0


def complain(found: Preferences) -> None:
    """Every malformed line, with its number, on stderr."""
    for fault in found.faults:
        say(f"line {fault.line}: {fault.reason}", sys.stderr)
