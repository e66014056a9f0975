"""`--example`: a small file to start from, written where none is yet."""

from __future__ import annotations

import argparse
from pathlib import Path

from tabular_rlhf.commands.printing import show
from tabular_rlhf.errors import InputError, quoted
from tabular_rlhf.files import write_text


def declare_example(parser: argparse.ArgumentParser, usual: str, what: str) -> None:
    """The option: with no name of its own the file is `usual`, here."""
    words = f"write {what} to start from, and stop (default FILE: {usual})"
    parser.add_argument("--example", nargs="?", type=Path, const=Path(usual), metavar="FILE", help=words)


def example(path: Path, text: str, command: str) -> int:
    """Write the file, and say what to do with it.  Raises: InputError where there is one."""
    if path.exists():
        raise InputError("an example must not replace a file", got=f"{quoted(str(path))}, which exists", remedy="name another")
    write_text(path, text)
    show(f"{path}: written.  Change it, and try\n  tabular-rlhf {command} {path}")
    return 0
