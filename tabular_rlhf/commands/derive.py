"""`tabular-rlhf derive SLUG [--world NAME]`: a derivation executed line by line; without a slug, the list of them."""

from __future__ import annotations

import argparse

from tabular_rlhf.commands.answer import answer_json, answer_text
from tabular_rlhf.commands.printing import show
from tabular_rlhf.commands.solve import find_world
from tabular_rlhf.derivations import DERIVATIONS, derive
from tabular_rlhf.errors import whole
from tabular_rlhf.layout import table

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
        if args.json:
            answer_json(SCHEMA, args, {"derivations": listed})
        else:
            show(as_list())
        return 0
    whole(args.seed, "--seed", 0, "0 is usual")
    world = None if args.world is None else find_world(args.world)
    if args.beta is not None:
        world = (find_world("rational") if world is None else world).at(args.beta)
    found = derive(args.slug, world, seed=args.seed)
    if args.json:
        answer_json(SCHEMA, args, found.json())
    else:
        answer_text(args, found)
    return 0 if found.holds else 1


def as_list() -> str:
    """Chapter, slug, lines and title of every derivation."""
    rows = [[str(d.chapter), d.slug, str(len(d.lines)), d.title] for d in sorted(DERIVATIONS.values(), key=lambda d: d.chapter)]
    return (
        table("", ["", "derivation", "lines", "title"], rows, left=(0, 1, 3)) + "\n\n`tabular-rlhf derive SLUG` executes one, line by line."
    )
