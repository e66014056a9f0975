"""`tabular-rlhf rollouts FILE`: real responses with their log-probabilities, in three tiers (see `rollouts.tiers`).

Exit status: 0; 1 if log-probabilities contradict each other; 2 if some line was malformed (the report on the others is printed all the
same), unless --lenient.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tabular_rlhf.commands.answer import answer
from tabular_rlhf.commands.options import declare_example, declare_json, example, option
from tabular_rlhf.commands.printing import say
from tabular_rlhf.commands.progress import progress
from tabular_rlhf.errors import InputError, positive
from tabular_rlhf.files import read_text


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        'One JSON object a line: {"prompt": ..., "tokens": [ids], "logp": [...], "logp_ref": [...], "reward": x}, perhaps with '
        '"logp_new", "loss_mask", "group", "step", "rewards", "finish".  Nothing is drawn: the file is all there is.'
    )
    parser.add_argument("file", type=Path, nargs="?", metavar="FILE", help="responses, JSON lines")
    declare_example(parser, "rollouts.jsonl", "a small file, made by a seeded script of ours from a bigram policy")
    option(parser, "--beta B", 1.0, "KL weight, reward units per nat")
    parser.add_argument("--tolerance", type=float, default=1e-6, metavar="T", help="an engine's noise, in nats (default: 1e-6)")
    parser.add_argument("--lenient", action="store_true", help="exit with 0 in spite of malformed lines")
    declare_json(parser, " instead of text")


def run(args: argparse.Namespace) -> int:
    from tabular_rlhf.reports.rollouts_text import render
    from tabular_rlhf.rollouts.example import example_text
    from tabular_rlhf.rollouts.read import read_rollouts
    from tabular_rlhf.rollouts.tiers import SCHEMA, analyse, consistent

    if args.example is not None:
        return example(args.example, example_text(), "rollouts")
    if args.file is None:
        raise InputError(
            "a file of rollouts must be named", got="none", remedy="`tabular-rlhf rollouts --example` writes one to start from"
        )
    positive(args.beta, "--beta", "reward units per nat")
    positive(args.tolerance, "--tolerance", "nats")
    text = read_text(args.file, "the file of rollouts")
    with progress(text.count("\n") + 1, "rollouts", "line") as bar:
        rollouts = read_rollouts(text, bar.update)
    found = analyse(rollouts, beta=args.beta, tolerance=args.tolerance)
    answer(args, SCHEMA, found, lambda: render(found))
    if rollouts.malformed and not args.lenient:
        say(f"{len(rollouts.malformed)} malformed lines: see the report, or pass --lenient", sys.stderr)
        return 2
    return 0 if consistent(found) else 1
