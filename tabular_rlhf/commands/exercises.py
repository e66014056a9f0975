"""`tabular-rlhf exercises [SLUG] [--chapter N] [--notebook NN]`: the exercises of the course, or one with its statement and hint."""

from __future__ import annotations

import argparse
import json
import re
import textwrap
from collections.abc import Sequence
from typing import Any

from tabular_rlhf.errors import InputError
from tabular_rlhf.exercises import EXERCISES, Exercise
from tabular_rlhf.exercises.record import find
from tabular_rlhf.ledger.symbols import SYMBOLS, parameters
from tabular_rlhf.tex import plain

SCHEMA = "tabular-rlhf/exercises/1"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("slug", nargs="?", metavar="SLUG", help="one exercise, in full")
    parser.add_argument("--chapter", type=int, help="only this chapter's")
    parser.add_argument("--notebook", help="only this notebook's, as 04")
    parser.add_argument("--hint", action="store_true", help="with the hint")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    chosen = [find(args.slug)] if args.slug else list(EXERCISES.values())
    chosen = [e for e in chosen if args.chapter in (None, e.chapter) and (args.notebook is None or args.notebook.zfill(2) == e.notebook)]
    if not chosen:
        chapters = ", ".join(map(str, sorted({e.chapter for e in EXERCISES.values()})))
        asked = {"chapter": args.chapter, "notebook": args.notebook}
        got = ", ".join(f"{name} {value}" for name, value in asked.items() if value is not None)
        notebooks = ", ".join(sorted({e.notebook for e in EXERCISES.values()}))
        remedy = f"there are exercises of chapters {chapters} and of notebooks {notebooks}"
        raise InputError("some exercise must fit", got=got, remedy=remedy)
    if args.json:
        print(json.dumps({"schema": SCHEMA, "exercises": [as_dict(e) for e in chosen]}, indent=1))
    else:
        print(as_text(chosen[0], args.hint) if args.slug else as_list(chosen))
    return 0


def as_dict(e: Exercise) -> dict[str, Any]:
    """An exercise as plain values, without its answers."""
    fields = ("slug", "chapter", "notebook", "title", "statement", "forbidden", "signature", "hint", "free", "minutes")
    return {k: getattr(e, k) for k in fields} | {"statement": e.asked, "rows": list(e.rows), "without": list(e.without)}


def plain_text(markdown: str) -> str:
    r"""Prose with formulas between dollars, for a terminal.

    >>> plain_text(r"Return $\beta \log Z$ for each prompt.")
    'Return β log Z for each prompt.'
    """
    return re.sub(r"\$([^$]+)\$", lambda found: plain(found[1]), markdown)


def as_list(exercises: Sequence[Exercise]) -> str:
    """One line an exercise."""
    lines = [f"{'':2}{'exercise':<32}{'notebook':>9}{'minutes':>9}  title"]
    lines += [f"{e.chapter} {e.slug:<32}{e.notebook:>9}{e.minutes:>9}  {e.title}" for e in exercises]
    return "\n".join([*lines, "", f"{len(exercises)} exercises.  `tabular-rlhf exercises SLUG` shows one in full."])


def as_text(e: Exercise, hint: bool) -> str:
    """Title, statement, signature, symbols, and the hint if it is asked for."""
    lines = [f"{e.title}  ({e.slug}, chapter {e.chapter}, notebook {e.notebook}, about {e.minutes} minutes)", ""]
    lines += textwrap.wrap(plain_text(e.asked), 110, initial_indent="  ", subsequent_indent="  ")
    lines += ["", f"    {e.signature}", "        return ...", ""]
    for name in parameters(e.answer):
        s = SYMBOLS[name]
        lines.append(f"  {name:<18} {s.meaning}{', ' + s.shape if s.shape else ''}{', ' + s.unit if s.unit else ''}")
    lines += [f"  any answer that is right up to a {e.free} is right"] if e.free else []
    lines += ["", *textwrap.wrap(f"Hint: {plain_text(e.hint)}", 110, initial_indent="  ", subsequent_indent="  ")] if hint else []
    lines += ["", f"  Rows of the ledger: {', '.join(e.rows)}.  Check it: tabular-rlhf check {e.slug} my_file.py:{e.name}"]
    return "\n".join(lines)
