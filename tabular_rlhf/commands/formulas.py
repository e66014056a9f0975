"""`tabular-rlhf formulas [WORD]`: the notation that formulas are read in, every entry executed."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from tabular_rlhf.commands.answer import answer
from tabular_rlhf.commands.options import declare_json
from tabular_rlhf.formula import Formula
from tabular_rlhf.formula.examples import EXAMPLES
from tabular_rlhf.registry import one_of
from tabular_rlhf.told import number
from tabular_rlhf.world import fork

SCHEMA = "tabular-rlhf/formulas/1"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", nargs="?", metavar="KIND", help=f"only these: {', '.join(EXAMPLES)}")
    declare_json(parser)


def run(args: argparse.Namespace) -> int:
    if args.kind is not None:
        one_of(EXAMPLES, args.kind, "a kind of notation must be known")
    found = [entry(kind, text, about) for kind, some in EXAMPLES.items() if args.kind in (None, kind) for text, about in some]
    return answer(args, SCHEMA, {"world": fork(0.5).name, "formulas": found}, lambda: as_text(found), made=False)


def entry(kind: str, text: str, about: str) -> dict[str, Any]:
    """One formula, executed on the world `fork`."""
    formula = Formula(text)
    value = np.asarray(formula.on(fork(0.5), partial=True), dtype=np.float64)
    return {
        "kind": kind,
        "latex": text,
        "about": about,
        "read_as": formula.read_as,
        "axes": list(formula.axes),
        "value": value.tolist(),
    }


def as_text(found: list[dict[str, Any]]) -> str:
    """Under the heading of its kind every formula, as it is typed, as it is read, and its first numbers."""
    lines = ["What formulas are read as; executed on the world fork, the policy p drawn.  `tabular-rlhf symbols` lists the letters."]
    for kind in dict.fromkeys(e["kind"] for e in found):
        lines += ["", kind.upper()]
        for e in (e for e in found if e["kind"] == kind):
            numbers = np.ravel(e["value"])
            shown = "  ".join(number(float(v), ".4g") for v in numbers[:4]) + (f"  ... {numbers.size} numbers" if numbers.size > 4 else "")
            over = f"over ({', '.join(e['axes'])})" if e["axes"] else "one number"
            lines += [f"  {e['latex']}", f"      {e['about']}", f"      {e['read_as']}", f"      {over}: {shown}"]
    return "\n".join(lines)
