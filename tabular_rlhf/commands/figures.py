"""`tabular-rlhf figures [NAME...]`: draw the figures."""

from __future__ import annotations

import argparse
from pathlib import Path

from tabular_rlhf.commands.options import file_option
from tabular_rlhf.commands.printing import say, show
from tabular_rlhf.figures import all_figures
from tabular_rlhf.figures.page import check, write
from tabular_rlhf.figures.record import Figure
from tabular_rlhf.files import make_folder


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help="figures to draw (default: all)")
    file_option(parser, "--out DIR", "where the files go (default: ./figures if it exists, else here)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--list", action="store_true", help="list the figures and what they show")
    what.add_argument("--check", action="store_true", help="compute the data anew and compare with the files; exit status 1 if they differ")


def run(args: argparse.Namespace) -> int:
    figures = chosen(args.names)
    if args.list:
        show("\n".join(f"{f.name:<24}{f.said.caption}\n{'':<24}shows {', '.join(f.rows)}" for f in figures))
        return 0
    folder = args.out or (Path("figures") if Path("figures").is_dir() else Path())
    if args.check:
        return compare(figures, folder)
    make_folder(folder)
    for figure in figures:
        say(f"{figure.name:<24}{', '.join(str(path) for path in write(figure, folder))}")
    return 0


def chosen(names: list[str]) -> list[Figure]:
    """The figures asked for, each once; all by default."""
    known = all_figures()
    return [known.find(name) for name in dict.fromkeys(names or known)]


def compare(figures: list[Figure], folder: Path) -> int:
    """Say which figures still hold; 1 if some do not."""
    status = 0
    for figure in figures:
        faults = check(figure, folder)
        say(f"{figure.name:<24}{'holds' if not faults else 'DIFFERS'}")
        for fault in faults[:5]:
            say(f"{'':<24}{fault}")
        status = status or int(bool(faults))
    return status
