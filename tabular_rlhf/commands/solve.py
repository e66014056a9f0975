"""`tabular-rlhf solve [WORLD.toml]`: solve a world of your own from a TOML file (the zen world by default).

Exit status 1 if some sampled number lies more than five exact standard errors from the exact one.
"""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tabular_rlhf.commands.answer import answer
from tabular_rlhf.commands.options import (
    check_picture,
    declare_beta,
    declare_example,
    declare_figure,
    declare_json,
    example,
    file_option,
    option,
    repeated,
)
from tabular_rlhf.errors import InputError, as_number, quoted
from tabular_rlhf.lattice import LatticeWorld
from tabular_rlhf.mdp import MAX_BYTES
from tabular_rlhf.registry import one_of
from tabular_rlhf.reports.saved import check_saved, save_solution
from tabular_rlhf.reports.solution import report
from tabular_rlhf.reports.solution_text import passed, render
from tabular_rlhf.world import NAMED, World, named_world
from tabular_rlhf.worldfile import EXAMPLE, open_world

BYTES_A_DRAW = 96
"""Two laws are drawn, each with response, prompt and log-probability, and a few passes over them."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "world", nargs="?", default="zen", metavar="WORLD", help=f"a TOML file, or one of {', '.join(NAMED)} (default: zen)"
    )
    declare_example(parser, "world.toml", "a world file with comments")
    parser.epilog = 'A world whose reward is a function (function = "module:name") runs that code: give only files that you trust.'
    declare_beta(parser)
    parser.add_argument("--horizon", type=int, metavar="H", help="another horizon than the world file's")
    repeated(parser, "--set KEY=VALUE", "another value of a key of the world file, as in it: --set size=20")
    option(parser, "--samples N", 100_000, "draws for each check")
    option(parser, "--seed", 0, "seed of the draws")
    option(parser, "--top K", 6, "responses and first tokens to list")
    declare_json(parser, " instead of text")
    file_option(parser, "--save FILE", "also write p*, soft values and samples: FILE ends in .csv or .npz (which has the tables)")
    declare_figure(parser, "tilt and frontier, or the lattice")


def run(args: argparse.Namespace) -> int:
    if args.example is not None:
        return example(args.example, EXAMPLE, "solve")
    check_picture(args.figure)  # before the work, not after it
    check_draws(args.samples, args.seed)
    if args.save is not None:
        check_saved(args.save)
    world, notes = find_with_notes(args.world, overrides(args))
    if args.beta is not None:
        world = world.at(args.beta)
    if isinstance(world, World):
        found = report(world, samples=args.samples, seed=args.seed, top=args.top)
    else:
        from tabular_rlhf.reports import lattice_solution

        found = lattice_solution.report(world, samples=args.samples, seed=args.seed, top=args.top)
    found |= {"notes": list(notes)}
    if args.save is not None:
        save_solution(listed(world), args.save, samples=args.samples, seed=args.seed)
    if args.figure is not None:
        from tabular_rlhf.figures.merged import draw_lattice
        from tabular_rlhf.figures.solved import draw_world

        draw_world(world, args.figure) if isinstance(world, World) else draw_lattice(world, args.figure)
    return answer(args, found["schema"], found, lambda: render(found), holds=passed(found))


def check_draws(samples: int, seed: int) -> None:
    """Refuse a seed that is none, and samples that would not fit in memory."""
    if seed < 0:
        raise InputError("--seed must be at least 0", got=seed, remedy="0 is usual")
    if samples * BYTES_A_DRAW > MAX_BYTES:
        got = f"{samples:,} draws, {as_number(samples * BYTES_A_DRAW):.3g} bytes of working arrays"
        remedy = f"pass at most --samples {MAX_BYTES // BYTES_A_DRAW}"
        raise InputError(f"the samples must fit in {MAX_BYTES / 2**30:.3g} GiB", got=got, remedy=remedy)


def find_world(name: str) -> World:
    """A TOML file's world, or a named one (a file of that name goes first).  Raises: InputError where its responses are not listed."""
    return listed(find_with_notes(name)[0])


def listed(world: World | LatticeWorld) -> World:
    """The world, if all of its responses are listed: what asks for each of them."""
    if not isinstance(world, World):
        world.refuse(world.name, "`tabular-rlhf solve` answers without a list; here, shorten the horizon, or shrink the vocabulary")
    return world


def overrides(args: argparse.Namespace) -> dict[str, Any]:
    """What the command line says instead of the world file.  Raises: InputError for what is no TOML."""
    told = {} if args.horizon is None else {"horizon": args.horizon}
    for word in args.set:
        try:
            told |= tomllib.loads(word.replace("=", " = ", 1))
        except (tomllib.TOMLDecodeError, RecursionError, ValueError):
            remedy = 'write it as in the file, such as size=20 or name="mine"'
            raise InputError("--set must be KEY=VALUE", got=quoted(word), remedy=remedy) from None
    return told


def asked_world(args: argparse.Namespace) -> World | LatticeWorld:
    """The world that is asked about, listed or not, at the beta that is asked for."""
    world, _ = find_with_notes(args.world)
    return world if getattr(args, "beta", None) is None else world.at(args.beta)


def find_with_notes(name: str, instead: Mapping[str, Any] | None = None) -> tuple[World | LatticeWorld, tuple[str, ...]]:
    """`find_world`, and what there is to say about how a file was read.  Args: instead, other values of keys of the file."""
    path = Path(name)
    if name in NAMED and not path.is_file():
        if instead:
            remedy = "write a file: `tabular-rlhf solve --example`"
            raise InputError("a named world must stay as it is", got=", ".join(instead), remedy=remedy)
        return named_world(name), ()
    if not path.exists():
        one_of(NAMED, name, "the world file must exist", remedy=f"check its path, or name one of {', '.join(NAMED)}")
    return open_world(path, instead)
