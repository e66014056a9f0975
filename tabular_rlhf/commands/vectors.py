"""`tabular-rlhf vectors --out DIR`: conformance vectors, plain JSON files for a trainer's own tests."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from tabular_rlhf import __version__
from tabular_rlhf.audit.vectors import FAMILIES, SCHEMA, vectors
from tabular_rlhf.commands.answer import answer
from tabular_rlhf.commands.options import declare_json
from tabular_rlhf.errors import InputError, did_you_mean, quoted
from tabular_rlhf.files import make_folder, write_text
from tabular_rlhf.told import in_words, tabled


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("family", nargs="*", metavar="FAMILY", help=f"some of {', '.join(FAMILIES)} (default: all)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to write to, one file a family")
    declare_json(parser, ": what was written")


def run(args: argparse.Namespace) -> int:
    for name in args.family:
        if name not in FAMILIES:
            remedy = did_you_mean(name, FAMILIES, f"use some of {', '.join(FAMILIES)}")
            raise InputError("a family of vectors must be known", got=quoted(name), remedy=remedy)
    make_folder(args.out)
    written: list[dict[str, Any]] = []
    for family in args.family or FAMILIES:
        file = vectors(family, __version__)
        text = json.dumps(in_words(file), indent=1, allow_nan=False) + "\n"
        place = args.out / f"{family}.json"
        write_text(place, text)
        fractions = sum(bool(case["exact"]) for case in file["cases"])
        written.append({"file": str(place), "cases": len(file["cases"]), "exact": fractions, "bytes": len(text.encode())})
    columns = ["=file", "cases:,.0f", "with fractions=exact:,.0f", "bytes:,.0f"]
    return answer(args, WRITTEN_SCHEMA, {"files": written}, lambda: tabled(f"VECTORS ({SCHEMA})", written, columns))


WRITTEN_SCHEMA = "tabular-rlhf/written/1"
