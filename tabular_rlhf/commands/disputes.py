"""`tabular-rlhf disputes [SLUG]`: the museum of disputes, each measured as it is shown."""

from __future__ import annotations

import argparse

from tabular_rlhf.commands.answer import answer
from tabular_rlhf.commands.options import declare_json
from tabular_rlhf.disputes import DISPUTES, THEMES, find
from tabular_rlhf.disputes.text import as_list, as_page, measured_json
from tabular_rlhf.errors import InputError

SCHEMA = "tabular-rlhf/disputes/1"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("slug", nargs="?", metavar="SLUG", help="one dispute, in full")
    parser.add_argument("--theme", choices=THEMES, help="only those of a theme")
    parser.add_argument("--published", action="store_true", help="only claims that were published, and are false or lack their condition")
    parser.add_argument("--seed", type=int, default=0, help="seed of the worlds (default 0)")
    declare_json(parser)


def run(args: argparse.Namespace) -> int:
    if args.seed < 0:
        raise InputError("--seed must be at least 0", got=args.seed, remedy="leave it out for the usual one")
    chosen = [find(args.slug)] if args.slug else list(DISPUTES.values())
    chosen = [d for d in chosen if args.theme in (None, d.theme) and (d.published or not args.published)]
    if not chosen:
        raise InputError("some dispute must fit", got=args.slug or "none", remedy="drop --theme or --published")
    found = [d.measured(args.seed) for d in chosen]
    answer(args, SCHEMA, {"disputes": [measured_json(m) for m in found]}, lambda: as_page(found[0]) if args.slug else as_list(found))
    return 0 if all(m.holds for m in found) else 1
