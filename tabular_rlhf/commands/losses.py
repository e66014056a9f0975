"""`tabular-rlhf losses [NAME]`: the family of direct alignment losses on one world, or everything about one of them."""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np

from tabular_rlhf.commands.printing import say
from tabular_rlhf.commands.solve import find_world
from tabular_rlhf.errors import InputError
from tabular_rlhf.losses import LOSSES
from tabular_rlhf.losses.analyse import LossReport, analyse, family_table
from tabular_rlhf.losses.record import find
from tabular_rlhf.world import World

SCHEMA = "tabular-rlhf/losses/1"
MOST = 64
"""Responses a prompt: pairs and Hessians are of its square."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help=f"one of {', '.join(LOSSES)} (default: a table of all)")
    parser.add_argument("--world", default="rational", metavar="WORLD", help="a TOML file or a named world (default: rational)")
    parser.add_argument("--beta", type=float, help="another KL weight than the world's, in reward units per nat")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    if args.name is not None:
        find(args.name)
    world = find_world(args.world)
    world = world if args.beta is None else world.at(args.beta)
    if world.mdp.N > MOST:
        raise InputError(f"the world must have at most {MOST} responses a prompt", got=world.mdp.N, remedy="try --world rational")
    chosen = [args.name] if args.name else list(LOSSES)
    if args.json:
        reports = [as_dict(analyse(name, world)) for name in chosen]
        say(json.dumps({"schema": SCHEMA, "world": world.name, "beta": world.beta, "losses": reports}, indent=1))
    else:
        told = str(analyse(args.name, world)) + "\n\n" + policies(world, args.name) if args.name else family_table(world)
        say(f"world {world.name}, beta = {world.beta:g}\n\n{told}")
    return 0


def policies(world: World, name: str) -> str:
    """p_ref, p* and the loss's optimum, the likeliest responses first."""
    from tabular_rlhf.gibbs import solve

    found = analyse(name, world).optimum
    columns = [np.exp(table) for table in (world.log_p_ref, solve(world).log_p, found.log_p)]
    order = np.argsort(-np.max(np.stack(columns), axis=0), axis=None)[:10]
    lines = [f"{'response':<28}{'reward':>8}{'p_ref':>10}{'p*':>10}{'optimum':>10}"]
    for x, y in zip(*np.unravel_index(order, world.r.shape), strict=True):
        p = "".join(f"{c[x, y]:>10.6f}" for c in columns)
        lines.append(f"{world.mdp.text(int(y), int(x)):<28}{world.r[x, y]:>8.3f}{p}")
    return "\n".join(lines)


def as_dict(report: LossReport) -> dict[str, Any]:
    """A report as JSON's types; infinities become null."""
    m = report.optimum
    return {
        "name": report.loss.name,
        "latex": report.loss.latex,
        "source": report.loss.source,
        "traits": sorted(report.loss.traits),
        "optimum": m.words,
        "attained": m.attained,
        "dimension": m.dimension if m.attained else None,
        "value": _finite(m.value),
        "p": np.exp(m.log_p).tolist(),
        "vanishing": m.vanishing.tolist(),
        "kl_to_gibbs": _finite(report.kl_to_gibbs),
        "regret": _finite(report.regret),
        "tv_to_closed_form": report.tv_to_closed_form,
        "certain": report.certain.words,
        "shift": _finite(report.shift),
        "winner_rate": report.winner_rate,
        "loser_rate": report.loser_rate,
        "noise": report.noise,
    }


def _finite(x: float) -> float | None:
    return x if np.isfinite(x) else None
