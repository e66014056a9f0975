"""`tabular-rlhf symbols [NAME...]`: the names that a formula may use: meaning, shape, unit."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from tabular_rlhf.commands.answer import answer
from tabular_rlhf.commands.options import declare_json
from tabular_rlhf.errors import InputError
from tabular_rlhf.registry import one_of
from tabular_rlhf.symbols import LEVELS, SYMBOLS, Symbol
from tabular_rlhf.told import parts, tabled

SCHEMA = "tabular-rlhf/symbols/1"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these")
    parser.add_argument("--level", choices=list(LEVELS), help="only this level")
    declare_json(parser)


def run(args: argparse.Namespace) -> int:
    for name in args.names:
        one_of(SYMBOLS, name, "a name must be a symbol's", remedy="`tabular-rlhf symbols` prints all")
    chosen = [s for s in SYMBOLS.values() if (not args.names or s.name in args.names) and args.level in (None, s.level)]
    if not chosen:
        levels = ", ".join(f"{n} is of level {SYMBOLS[n].level}" for n in args.names)
        raise InputError("some name must be of that level", got=levels, remedy="drop --level, or the names")
    return answer(args, SCHEMA, {"symbols": [as_dict(s) for s in chosen]}, lambda: as_text(chosen), made=False)


def as_dict(s: Symbol) -> dict[str, object]:
    """A symbol as plain values."""
    axes = None if s.axes is None else list(s.axes)
    head = parts(s, "name", "level", "meaning", "shape") | {"axes": axes, "unit": s.unit}
    return {**head, "spellings": list(s.spellings), "drawn": s.drawn}


def as_text(symbols: Sequence[Symbol]) -> str:
    """One line a symbol, under the heading of its level."""
    lines = [
        "P prompts, N responses a prompt, S decision states, V tokens, n observations, G responses of a group.  * drawn, once a world."
    ]
    for level, meaning in LEVELS.items():
        here = [s for s in symbols if s.level == level]
        name = ("", lambda s: s.name + "*" * s.drawn, "")
        lines += ["", tabled(f"{level}: {meaning}", here, [name, "shape", "unit", "meaning"])] if here else []
    return "\n".join(lines)
