"""The command line: `tabular-rlhf COMMAND ...`, the same as `python -m tabular_rlhf`.

Exit status: 0 ok, 1 the answer is "no", 2 bad usage or bad input.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from tabular_rlhf import __version__
from tabular_rlhf.commands.printing import say
from tabular_rlhf.errors import InputError, SolveError, shown

COMMANDS = {
    "verify": "run the ledger: every claim on generated worlds, every near miss refuted",
    "derive": "a derivation executed line by line",
    "check": "a function of your own held against a claim, an exercise or a line of a derivation",
    "exercises": "the exercises of the course",
    "symbols": "the names that a formula may use: meaning, shape, unit",
    "solve": "solve a world of your own from a TOML file (the zen world by default)",
    "losses": "the family of direct alignment losses: optima, traits, one loss's report",
    "fit": "rewards and policies from a preference file of your own (JSON lines)",
    "advantage": "what an advantage, aggregation or policy loss really optimizes, beside the true gradient",
    "kl": "what a KL flag optimizes: estimator by placement, exactly and sampled",
    "run": "RLHF end to end on samples, every stage scored exactly, beside where it is predicted to lead",
    "grade": "mark a file of answers, each run in a process of its own",
    "figures": "draw the figures",
    "page": "write one self-contained HTML page with sliders, or check a committed one",
    "bench": "time the work, against peers where they are installed",
}
"""Each is a module of the same name in `tabular_rlhf.commands`, imported only when it is asked for."""


class Parser(argparse.ArgumentParser):
    """A parser that prints where everything is printed."""

    def _print_message(self, message: str, file: Any = None) -> None:
        say(message.rstrip("\n"), file or sys.stderr)


def build_parser(chosen: str | None) -> argparse.ArgumentParser:
    parser = Parser(
        prog="tabular-rlhf",
        description="The exact laboratory for reinforcement learning from human feedback: every equals sign of RLHF, executed.",
    )
    parser.add_argument("--version", action="version", version=f"tabular-rlhf {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        sub = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        if name == chosen:  # options are declared only for the command at hand: other rooms stay unopened
            importlib.import_module(f"tabular_rlhf.commands.{name}").configure(sub)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    chosen = next((w for w in words if not w.startswith("-")), None)
    args = build_parser(chosen).parse_args(words)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            status: int = importlib.import_module(f"tabular_rlhf.commands.{args.command}").run(args)
        sys.stdout.flush()
        return status
    except (InputError, SolveError) as e:
        say(f"tabular-rlhf {args.command}: {e}", sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output has gone away, as `| head` does
        _drop_output()
        return 0
    except MemoryError as e:
        fault = InputError("the work must fit in memory", got=shown(e) or "no memory left", remedy="ask for less, or a smaller world")
        say(f"tabular-rlhf {args.command}: {fault}", sys.stderr)
        return 2
    except OSError as e:
        if e.filename is None:  # our own output: a full disk
            _drop_output()
        name = "the output" if e.filename is None else repr(str(e.filename))
        fault = InputError(
            "files must be readable and writable", where=name, got=e.strerror or shown(e), remedy="check the path, and its disk"
        )
        say(f"tabular-rlhf {args.command}: {fault}", sys.stderr)
        return 2
    except KeyboardInterrupt:
        say("interrupted", sys.stderr)
        return 130


def _warn(message: Warning | str, category: type[Warning], *_: object) -> None:
    """A warning on one line of stderr, without the place in the source, which is nothing to its reader."""
    say(f"{category.__name__}: {message}", sys.stderr)


def _drop_output() -> None:
    """What is still to be written to stdout goes nowhere: Python would try again, and fail again, as it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
