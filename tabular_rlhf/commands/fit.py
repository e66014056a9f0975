"""`tabular-rlhf fit PREFS`: rewards, ranks and policies from preferences of your own, in the shape they have, and what they are about.

Exit status: 0 if every row was used; 2 if some row was malformed (the report on the others is printed all the same), unless
--lenient; 2 too if the file cannot be used at all.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tabular_rlhf.commands.answer import answer
from tabular_rlhf.commands.loading import load
from tabular_rlhf.commands.options import (
    check_picture,
    declare_example,
    declare_figure,
    declare_json,
    example,
    file_option,
    option,
    repeated,
)
from tabular_rlhf.commands.printing import say, show
from tabular_rlhf.errors import InputError
from tabular_rlhf.layout import table
from tabular_rlhf.preferencefile import SHAPES, Preferences, read_preferences
from tabular_rlhf.preferencefile.record import Collector, gathered
from tabular_rlhf.preferencefile.reference import read_reference
from tabular_rlhf.preferencefile.roles import parse_map
from tabular_rlhf.preferences.published import DATASETS
from tabular_rlhf.preferences.published import load as published
from tabular_rlhf.reports.preferences import SCHEMA, analyse
from tabular_rlhf.reports.preferences_text import render


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        'JSON lines, a JSON array, CSV or parquet, perhaps gzipped: {"prompt": ..., "chosen": ..., "rejected": ...}, lists of messages, '
        "winner and loser, arena battles with ties, scores, ranked lists ...: `fit --shapes` lists what is read.  Every column that is not "
        "read and every conversion is reported.  Malformed rows are reported with their numbers, and the exit status is 2."
    )
    parser.add_argument(
        "file", type=Path, nargs="?", metavar="PREFS", help=f"a file of comparisons, - for standard input, or one of {', '.join(DATASETS)}"
    )
    declare_example(parser, "prefs.jsonl", "a small preference file")
    parser.add_argument("--shapes", action="store_true", help="list the shapes of files that are read, with an example each, and stop")
    repeated(parser, "--map ROLE=COLUMN", "which column is what, such as chosen=good; may be repeated")
    parser.add_argument(
        "--beta", type=float, action="append", metavar="B", help="KL weight of a policy; may be repeated (default: 0.1, 0.5, 1)"
    )
    file_option(parser, "--reference FILE", 'JSON lines {"prompt", "response", "logp"} for every response (default: uniform)')
    parser.add_argument("--prior", type=float, metavar="S2", help="variance of a Gaussian prior on rewards, in nats^2 (default: none)")
    option(parser, "--level", 0.95, "of the intervals")
    parser.add_argument("--against", metavar="RESPONSE", help="also tell rewards relative to this response, as published tables do")
    parser.add_argument("--covariance", action="store_true", help="also tell the covariance of the rewards")
    parser.add_argument(
        "--features",
        metavar="FILE.py:FUNCTION",
        help="your own features of a response: function(prompt, response) returns a number, or a dictionary of numbers (it is run)",
    )
    parser.add_argument("--top", type=int, default=5, metavar="K", help="prompts to print (default: 5); --json has all")
    parser.add_argument("--lenient", action="store_true", help="exit with 0 in spite of malformed lines")
    declare_json(parser, " instead of text")
    declare_figure(parser, "the prompt with most comparisons, or what single pairs are about")


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
    if args.shapes:
        show(shapes())
        return 0
    if args.file is None:
        raise InputError("a preference file must be named", got="none", remedy="`tabular-rlhf fit --example` writes one to start from")
    check_picture(args.figure)  # before the work, not after it
    features = None if args.features is None else load(args.features)
    found = find(args.file, args.map)
    complain(found)
    report = analyse(
        found,
        betas=args.beta or (0.1, 0.5, 1.0),
        log_ref=None if args.reference is None else read_reference(args.reference, found),
        top=None if args.json else max(1, args.top),
        features=features,
        prior=args.prior,
        level=args.level,
        against=args.against,
        covariance=args.covariance,
    )
    name = "standard input" if str(args.file) == "-" else str(args.file)
    answer(args, SCHEMA, report, lambda: render(report, name, top=max(0, args.top)))
    if args.figure is not None:
        from tabular_rlhf.figures.fitted import draw_report

        draw_report(report, args.figure)
    return 2 if found.faults and not args.lenient else 0


def find(path: Path, words: list[str]) -> Preferences:
    """A file's comparisons, or published ones (a file of that name goes first)."""
    if str(path) in DATASETS and not path.is_file():
        return of_published(str(path))
    return read_preferences(path, parse_map(words))


def of_published(name: str) -> Preferences:
    """The comparisons of a published data set.

    >>> of_published("baseball").notes
    ('seven baseball teams in 1987; Agresti (2002), p. 438; fit: Firth (2005)',)
    """
    data, out = published(name), Collector()
    for number, (winner, loser, times) in enumerate(data.rows, 1):
        if times and winner != loser:
            out.add(number, "", winner, loser, times)
    note = f"{data.title}; {data.source.rstrip('.')}"
    told = {"blank": 0, "lines": len(data.rows), "container": "published data", "shape": "winner-loser", "ignored": dict[str, int]()}
    return gathered(out, [], "row", (note,), **told)


def shapes() -> str:
    """The table of shapes, each with its example."""
    rows = [[name, shape.title, shape.example.strip().replace("\n", "  ")] for name, shape in SHAPES.items()]
    return table("SHAPES OF PREFERENCE FILES", ["shape", "what a row has", "example"], rows, left=(0, 1, 2), labels=(0,), tallest=4)


def complain(found: Preferences) -> None:
    """Every malformed row, with its number, on stderr."""
    for fault in found.faults:
        say(f"{found.unit} {fault.line}: {fault.reason}", sys.stderr)
