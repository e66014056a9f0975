"""`tabular-rlhf page`: write one self-contained HTML page to drag and click, or check a committed one."""

from __future__ import annotations

import argparse
from pathlib import Path

from tabular_rlhf.commands.printing import say
from tabular_rlhf.files import check_output, read_text, write_text

SHOWN = 5
"""Differences that are printed."""


def configure(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--out", type=Path, metavar="FILE.html", help="write the page here")
    what.add_argument("--check", type=Path, metavar="FILE.html", help="compare a page with today's; exit status 1 if they differ")


def run(args: argparse.Namespace) -> int:
    from tabular_rlhf.page import build, check

    if args.check is not None:
        faults = check(read_text(args.check, "the page"))
        say(f"{args.check}: {'DIFFERS' if faults else 'holds'}")
        for fault in faults[:SHOWN]:
            say(f"  {fault}")
        if len(faults) > SHOWN:
            say(f"  and {len(faults) - SHOWN} more")
        return int(bool(faults))
    check_output(args.out)
    text = build()
    write_text(args.out, text)
    say(f"{args.out}: {len(text.encode()):,} bytes")
    return 0
