"""`tabular-rlhf conform FILE.py`: a file's functions against the conformance vectors."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable
from typing import Any

from tabular_rlhf import __version__
from tabular_rlhf.audit.conform import Conformance, conform
from tabular_rlhf.audit.handed import Unfit
from tabular_rlhf.commands.answer import answer
from tabular_rlhf.commands.audit import pairs_of
from tabular_rlhf.commands.loading import RUN, given, load, module_of
from tabular_rlhf.commands.options import declare_json, repeated
from tabular_rlhf.commands.progress import progress
from tabular_rlhf.errors import InputError, quoted
from tabular_rlhf.layout import fold
from tabular_rlhf.told import Column, tabled

SCHEMA = "tabular-rlhf/conform/1"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = fold(RUN)
    parser.add_argument("file", metavar="FILE.py[:FUNCTION]", help="a file, all of whose public functions are tried, or one function")
    repeated(parser, "--map THEIRS=OURS", "what a parameter is: a role of `audit --help`")
    declare_json(parser)


def run(args: argparse.Namespace) -> int:
    functions = functions_of(args.file)
    found = []
    with progress(len(functions), "conform", "function") as bar:
        for name, function in functions.items():
            found.append(tried(name, function, pairs_of(args.map)))
            bar.update(1, name)
    told = {"functions": [vars(f) | {"agrees": list(f.agrees)} for f in found]}
    differs = ("nearest, and where it differs", lambda f: f.problem or (f"{f.nearest}: {f.first}" if f.first else ""), "")
    columns: list[Column] = ["=name", "kind", ("agrees with", lambda f: ", ".join(f.agrees), ""), differs]
    return answer(args, SCHEMA, told, lambda: tabled("CONFORMANCE", found, columns), holds=all(f.agrees for f in found))


def functions_of(where: str) -> dict[str, Callable[..., Any]]:
    """The function that is named, or the public ones of the file, by name."""
    if ":" in where:
        return {where.rpartition(":")[2]: load(where)}
    module = module_of(where)
    found: dict[str, Callable[..., Any]] = {
        n: f for n, f in vars(module).items() if inspect.isfunction(f) and f.__module__ == module.__name__ and not n.startswith("_")
    }
    if not found:
        raise InputError("a file must hold public functions", got="none", where=quoted(where), remedy="name one: file.py:function")
    return found


def tried(name: str, function: Callable[..., Any], roles: dict[str, str]) -> Conformance:
    """The conformance of one function, or why there is none."""
    names = inspect.signature(function).parameters
    try:
        mine = {k: v for k, v in roles.items() if k in names}
        return conform(given(function, name, told_roles=mine), __version__)
    except Unfit as e:
        return Conformance(name, "", (), "", "", f"{e.kind}: {e.words}")
