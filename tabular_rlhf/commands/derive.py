"""`tabular-rlhf derive SLUG|FILE [--world NAME]`: a derivation executed line by line."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tabular_rlhf.commands.answer import answer
from tabular_rlhf.commands.options import declare_beta, declare_json, repeated
from tabular_rlhf.commands.solve import find_world
from tabular_rlhf.derivations import DERIVATIONS, derive
from tabular_rlhf.derivations.own import bound, derive_text
from tabular_rlhf.errors import InputError, quoted, whole
from tabular_rlhf.files import read_text
from tabular_rlhf.told import Column, parts, tabled

SCHEMA = "tabular-rlhf/derive/1"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "slug",
        nargs="?",
        metavar="SLUG|FILE",
        help="a derivation, or a file that holds your own (plain typing, Markdown, LaTeX; - for standard input); without it, the list",
    )
    repeated(parser, "--bind LETTER=WHAT", "in your own: what a letter means, as in --bind mu=pi_behavior")
    repeated(parser, "--free CONVENTION", 'in your own: what is left open: ddof, "sign of LETTER", "LETTER -> 0"')
    parser.add_argument("--world", metavar="WORLD", help="a named world or a TOML file (default: the first small one that fits)")
    declare_beta(parser)
    parser.add_argument("--seed", type=int, default=0, help="seed of the drawn policies and counts (default 0)")
    declare_json(parser)


def run(args: argparse.Namespace) -> int:
    if args.slug is None:
        listed = [{**parts(d, "slug", "chapter", "title"), "lines": len(d.lines)} for d in DERIVATIONS.values()]
        return answer(args, SCHEMA, {"derivations": listed}, as_list, made=False)
    whole(args.seed, "--seed", 0, "0 is usual")
    world = None if args.world is None else find_world(args.world)
    if args.beta is not None:
        world = (find_world("rational") if world is None else world).at(args.beta)
    text = own_text(args.slug)
    bind = bound(args.bind)
    if text is None and (bind or args.free):
        raise InputError("--bind and --free must go with a derivation of your own", got=quoted(args.slug), remedy="give a file")
    found = (
        derive(args.slug, world, seed=args.seed) if text is None else derive_text(text, world, seed=args.seed, bind=bind, free=args.free)
    )
    return answer(args, SCHEMA, found.json(), lambda: found, holds=found.holds)


def own_text(named: str) -> str | None:
    """The text of a derivation in a file, or of standard input; None for the name of one of ours."""
    if named == "-":
        return sys.stdin.read()
    path = Path(named)
    if named in DERIVATIONS or not (path.suffix or "/" in named or path.exists()):
        return None
    return read_text(path, "a derivation")


def as_list() -> str:
    """Chapter, slug, lines and title of every derivation."""
    columns: list[Column] = ["=chapter", "derivation=slug", ("lines", lambda d: len(d.lines), ".0f"), "title"]
    listed = tabled("", sorted(DERIVATIONS.values(), key=lambda d: d.chapter), columns)
    return f"{listed}\n\n`tabular-rlhf derive SLUG` executes one, line by line."
