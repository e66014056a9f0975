"""`tabular-rlhf check SLUG module:function`: a function of your own held against a claim, an exercise or a line of a derivation."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tabular_rlhf.check import check
from tabular_rlhf.check.report import SCHEMA
from tabular_rlhf.commands.answer import answer_json, answer_text
from tabular_rlhf.errors import InputError, quoted, raised


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "The file is run as a program of your own is: give only files that you trust."
    parser.add_argument("slug", metavar="SLUG", help="an exercise, a row of the ledger, or derivation/line")
    parser.add_argument(
        "function", metavar="MODULE:FUNCTION", help="where your function is: my_module:my_function or my_file.py:my_function"
    )
    parser.add_argument("--part", help="of a row with several parts: its name (default: the first, or all of them if a tuple is returned)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    report = check(args.slug, load(args.function), part=args.part)
    if args.json:
        answer_json(SCHEMA, args, report.json())
    else:
        answer_text(args, report)
    return 0 if report.ok else 2 if report.status == "stopped" else 1


def load(where: str) -> Callable[..., Any]:
    """The function at "module:function" or "file.py:function".  Raises InputError with what stands in the way."""
    source, _, name = where.rpartition(":")
    if not source or not name:
        raise InputError(
            "a function must be given as module:function", got=quoted(where), remedy="for example answers:regret, or answers.py:regret"
        )
    module = _module(source)
    function = getattr(module, name, None)
    if not callable(function):
        there = [n for n, f in vars(module).items() if callable(f) and getattr(f, "__module__", None) == module.__name__]
        got = "nothing of that name" if function is None else f"a {type(function).__name__}"
        raise InputError(f"{source} must hold a function {name}", got=got, remedy=f"it holds {', '.join(there) or 'no functions'}")
    return function


def _module(source: str) -> Any:
    try:
        if source.endswith(".py") or os.sep in source:
            path = Path(source)
            if not path.is_file():
                raise InputError("the file must exist", got=quoted(source), remedy="check the path")
            spec = importlib.util.spec_from_file_location("submission", path)  # the name that it has where it is graded
            assert spec is not None
            assert spec.loader is not None
            module = sys.modules["submission"] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
        sys.path.insert(0, os.getcwd())  # as `python -m` does
        return importlib.import_module(source)
    except InputError:
        raise
    except (Exception, SystemExit) as e:
        raise InputError(f"{source} must import", got=raised(e), remedy="run it by itself first") from e
