"""Options: how one is declared, and those that several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tabular_rlhf.cells import BACKENDS
from tabular_rlhf.commands.printing import show
from tabular_rlhf.errors import InputError, quoted
from tabular_rlhf.files import write_text
from tabular_rlhf.registry import one_of
from tabular_rlhf.world import NAMED


def option(parser: argparse.ArgumentParser, name: str, usual: Any, words: str) -> None:
    """A value that has a default, of whose type it is.  Args: name, perhaps with what is shown for the value, as "--samples N"."""
    flag, _, metavar = name.partition(" ")
    told = f"{usual:g}" if isinstance(usual, float) else usual
    parser.add_argument(flag, type=type(usual), default=usual, metavar=metavar or None, help=f"{words} (default: {told})")


def repeated(parser: argparse.ArgumentParser, name: str, words: str) -> None:
    """A value that may be given several times."""
    flag, _, metavar = name.partition(" ")
    parser.add_argument(flag, action="append", default=[], metavar=metavar, help=words)


def file_option(parser: argparse.ArgumentParser, name: str, words: str) -> None:
    """A file, or a folder, that is read or written."""
    flag, _, metavar = name.partition(" ")
    parser.add_argument(flag, type=Path, metavar=metavar, help=words)


def declare_world(parser: argparse.ArgumentParser) -> None:
    """The world that is asked about."""
    option(parser, "--world WORLD", "rational", f"a TOML file, or one of {', '.join(NAMED)}")


def declare_beta(parser: argparse.ArgumentParser) -> None:
    """Its KL weight."""
    parser.add_argument("--beta", type=float, help="another KL weight than the world's, in reward units per nat")


def declare_json(parser: argparse.ArgumentParser, more: str = "") -> None:
    """The answer as an object."""
    parser.add_argument("--json", action="store_true", help=f"print one JSON object{more}")


def declare_place(parser: argparse.ArgumentParser) -> None:
    """Where cells run."""
    parser.add_argument("--jobs", type=int, metavar="N", help="processes here (default: as many as there are processors)")
    option(parser, "--backend NAME", "processes", " or ".join(BACKENDS))
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of dask, such as tcp://127.0.0.1:8786 (pip install tabular-rlhf[cluster])")


# ---------------------------------------------------------------------------------------------------- KEY=VALUE words


def declare_settings(parser: argparse.ArgumentParser, examples: str) -> None:
    """Numbers by name."""
    repeated(parser, "--set KEY=VALUE", f"a setting: {examples}")


def settings(
    words: Iterable[str], must: str = "a setting must be KEY=VALUE with a number", remedy: str = "say, --set ddof=1"
) -> dict[str, float]:
    """The words as numbers by name.  Args: must, remedy, what is said of a word that is none.

    >>> settings(["eps=.2"])
    {'eps': 0.2}
    """
    out = {}
    for word in words:
        key, _, value = word.partition("=")
        try:
            out[key] = float(value)
        except ValueError:
            raise InputError(must, got=quoted(word), remedy=remedy) from None
    return out


def require_known(changes: Mapping[str, float], known: Iterable[str], where: str) -> None:
    """Refuse a setting that nothing has which is looked at."""
    known = list(dict.fromkeys(known))
    for key in changes:
        one_of(known, key, "a setting must belong to what is compared", where=where)


# ---------------------------------------------------------------------------------------------------- files to be written


def declare_figure(parser: argparse.ArgumentParser, what: str) -> None:
    """A picture beside the answer."""
    file_option(parser, "--figure FILE", f"also draw {what}: FILE ends in .png, .svg or .pdf")


def check_picture(path: Path | None) -> None:
    """Refuse, before the work and not after it, a picture that cannot be written."""
    if path is not None:
        from tabular_rlhf.figures.page import check_path

        check_path(path)


def declare_example(parser: argparse.ArgumentParser, usual: str, what: str) -> None:
    """A small file to start from: with no name of its own the file is `usual`, here."""
    words = f"write {what} to start from, and stop (default FILE: {usual})"
    parser.add_argument("--example", nargs="?", type=Path, const=Path(usual), metavar="FILE", help=words)


def example(path: Path, text: str, command: str) -> int:
    """Write the file, and say what to do with it.  Raises: InputError where there is one."""
    if path.exists():
        raise InputError("an example must not replace a file", got=f"{quoted(str(path))}, which exists", remedy="name another")
    write_text(path, text)
    show(f"{path}: written.  Change it, and try\n  tabular-rlhf {command} {path}")
    return 0
