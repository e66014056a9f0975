"""The command line: `tabular-rlhf COMMAND ...`, the same as `python -m tabular_rlhf`.

Exit status: 0 ok, 1 the answer is "no", 2 bad usage or bad input.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

from tabular_rlhf import __version__
from tabular_rlhf.commands import known
from tabular_rlhf.commands.answer import in_markdown
from tabular_rlhf.commands.printing import say, show
from tabular_rlhf.errors import InputError, SolveError, nearest, shown
from tabular_rlhf.layout import fold
from tabular_rlhf.registry import one_of

COMMANDS = known()
"""By name, what each does; its module is imported only when it is asked for."""


TRY = """\
Three things to try:
  tabular-rlhf verify regret-is-kl --explain
      a claim, worked out by hand on a small world, and the mistakes that it is taken for
  tabular-rlhf solve coin
      a world of two responses, every number exact, beside its estimate from samples
  tabular-rlhf derive regret-is-kl
      a derivation in which every line is evaluated, and every equals sign measured

`tabular-rlhf index WORD` finds what there is about a word; `tabular-rlhf solve --example` writes a world file to start from."""
UNTRUSTED = (
    "Give `solve` (a world with a reward function), `check`, `audit`, `conform` and `grade` only files that you trust: their code is run."
)


class Parser(argparse.ArgumentParser):
    """A parser that prints where everything is printed, and knows the nearest word to one that it does not know."""

    def _print_message(self, message: str, file: Any = None) -> None:
        if file is None or file is sys.stderr:
            say(message.rstrip("\n"), sys.stderr)
        else:
            show(message.rstrip("\n"))

    def error(self, message: str) -> NoReturn:
        unknown = re.match(r"unrecognized arguments: (-\S+)", message)
        close = nearest(unknown[1].partition("=")[0], self._option_string_actions) if unknown else []
        self.exit(2, f"{self.format_usage()}{self.prog}: {message}{f'; did you mean {close[0]}?' if close else ''}\n")


def build_parser(chosen: str | None) -> tuple[Parser, Parser]:
    """The parser, and that of the chosen command."""
    parser = Parser(
        prog="tabular-rlhf",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=fold(
            "The exact laboratory for reinforcement learning from human feedback: every equals sign of RLHF, executed.\n\n"
            "`tabular-rlhf COMMAND --help` shows a command's options."
        ),
        epilog=fold(f"{TRY}\n\n{UNTRUSTED}"),
    )
    parser.add_argument("--version", action="version", version=f"tabular-rlhf {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    mine = parser
    for name, summary in COMMANDS.items():
        sub = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        if name == chosen:  # options are declared only for the command at hand: other rooms stay unopened
            importlib.import_module(f"tabular_rlhf.commands.{name}").configure(sub)
            sub.add_argument("--markdown", action="store_true", help="print the report as Markdown, to paste into an issue thread")
            mine = sub
    return parser, mine


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    chosen = next((w for w in words if not w.startswith("-")), None)
    name = f"tabular-rlhf {chosen}" if chosen in COMMANDS else "tabular-rlhf"
    try:
        status = _run(words, chosen)
    except (InputError, SolveError) as e:
        status = _refuse(name, e)
    except BrokenPipeError:  # the reader of our output has gone away, as `| head` does
        _drop_output()
        return 0
    except MemoryError as e:
        remedy = "ask for less, or a smaller world"
        status = _refuse(name, InputError("the work must fit in memory", got=shown(e) or "no memory left", remedy=remedy))
    except OSError as e:
        status = _refuse(name, _of_the_system(e))
    except KeyboardInterrupt:
        say("interrupted", sys.stderr)
        status = 130
    return status


def _run(words: list[str], chosen: str | None) -> int:
    """The command's own exit status; argparse's, which has said all there is to say, too."""
    if chosen is not None:
        one_of(COMMANDS, chosen, "a command must be known", remedy="`tabular-rlhf --help` lists them")
    parser, mine = build_parser(chosen)
    status = 0
    try:
        if not words:
            parser.print_help()
        else:
            args, unknown = parser.parse_known_args(words)
            if unknown:
                mine.error(f"unrecognized arguments: {' '.join(unknown)}")
            args.words = words
            with warnings.catch_warnings():
                warnings.showwarning = _warn
                run = importlib.import_module(f"tabular_rlhf.commands.{args.command}").run
                status = in_markdown(run, args) if args.markdown else run(args)
    except SystemExit as e:
        status = e.code if isinstance(e.code, int) else int(e.code is not None)
    if sys.stdout is not None:
        sys.stdout.flush()
    return status


def _refuse(name: str, fault: Exception) -> int:
    say(f"{name}: {fault}", sys.stderr)
    return 2


def _of_the_system(e: OSError) -> InputError:
    if e.filename is None:  # our own output: a full disk
        _drop_output()
    where = "the output" if e.filename is None else repr(str(e.filename))
    return InputError("files must be readable and writable", where=where, got=e.strerror or shown(e), remedy="check the path, and its disk")


def _warn(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    """A warning on one line of stderr, without the place in the source, which is nothing to its reader."""
    say(f"{category.__name__}: {message}", sys.stderr)


def _drop_output() -> None:
    """What is still to be written to stdout goes nowhere: Python would try again, and fail again, as it ends."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
