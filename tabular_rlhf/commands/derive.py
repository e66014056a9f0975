"""`tabular-rlhf derive SLUG [--world NAME]`: a derivation executed line by line; without a slug, the list of them."""

from __future__ import annotations

import argparse
import json

from tabular_rlhf.commands.numbers import in_words
from tabular_rlhf.commands.printing import say
from tabular_rlhf.commands.solve import find_world
from tabular_rlhf.derivations import DERIVATIONS, derive
from tabular_rlhf.errors import whole

SCHEMA = "tabular-rlhf/derive/1"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("slug", nargs="?", metavar="SLUG", help="the derivation (leave it out for the list)")
    parser.add_argument("--world", metavar="WORLD", help="a named world or a TOML file (default: the first small one that fits)")
    parser.add_argument("--beta", type=float, help="another KL weight than the world's, in reward units per nat")
    parser.add_argument("--seed", type=int, default=0, help="seed of the drawn policies and counts (default 0)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    if args.slug is None:
        listed = [{"slug": d.slug, "chapter": d.chapter, "title": d.title, "lines": len(d.lines)} for d in DERIVATIONS.values()]
        say(json.dumps({"schema": SCHEMA, "derivations": listed}, indent=1) if args.json else as_list())
        return 0
    whole(args.seed, "--seed", 0, "0 is usual")
    world = None if args.world is None else find_world(args.world)
    if args.beta is not None:
        world = (find_world("rational") if world is None else world).at(args.beta)
    found = derive(args.slug, world, seed=args.seed)
    say(json.dumps(in_words({"schema": SCHEMA, **found.json()}), indent=1, allow_nan=False) if args.json else found)
    return 0 if found.holds else 1


def as_list() -> str:
    """Chapter, slug, lines and title of every derivation."""
    rows = sorted(DERIVATIONS.values(), key=lambda d: d.chapter)
    return "\n".join(f"{d.chapter}  {d.slug:<28}{len(d.lines):>3} lines   {d.title}" for d in rows)
