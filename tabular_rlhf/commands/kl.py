"""`tabular-rlhf kl`: what a KL flag optimizes: estimator by placement, exactly and sampled."""

from __future__ import annotations

import argparse
import textwrap
from typing import Any

import numpy as np

from tabular_rlhf.audit.records import estimator_of
from tabular_rlhf.commands import policies
from tabular_rlhf.commands.answer import answer
from tabular_rlhf.commands.loading import FILE, RUN, handed_in, is_file
from tabular_rlhf.commands.options import declare_beta, declare_json, declare_settings, declare_world, option, repeated, require_known
from tabular_rlhf.commands.options import settings as numbers
from tabular_rlhf.commands.solve import asked_world
from tabular_rlhf.errors import InputError
from tabular_rlhf.estimators import ESTIMATORS, PLACEMENTS, End, FlagReport, analyse, end, flags, measure
from tabular_rlhf.estimators.record import AGGREGATES, CLAMPS, LEVELS, RATIOS
from tabular_rlhf.gibbs import Gibbs, solve
from tabular_rlhf.told import number, parts, tabled
from tabular_rlhf.world import World

SCHEMA = "tabular-rlhf/kl/1"
FLAG = ("estimator", "placement")
WIDE, CELL = 100, 36
"""Letters of a line, and of what a flag descends; longer words stand below the table."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = RUN
    parser.add_argument("--estimator", metavar="NAME", help=f"one of {', '.join(ESTIMATORS)} (default: all), {FILE}")
    parser.add_argument("--placement", metavar="NAME", help=f"one of {', '.join(PLACEMENTS)} (default: all)")
    declare_world(parser)
    declare_beta(parser)
    option(parser, "--level NAME", "sequence", f"one of {', '.join(LEVELS)}")
    option(parser, "--aggregate NAME", "sum", f"one of {', '.join(AGGREGATES)} over tokens")
    option(parser, "--ratio NAME", "sequence", f"how samples are weighed, one of {', '.join(RATIOS)}")
    policies.declare(parser, "optimum", "0")
    declare_settings(parser, "of a function of your own: scale=2, ...")
    repeated(parser, "--clamp END=C", f"clip {' or '.join(CLAMPS)} to [-C, C]")
    option(parser, "--samples N", 100_000, "draws of the sampled check")
    option(parser, "--seed", 0, "seed of the draws")
    declare_json(parser)


def run(args: argparse.Namespace) -> int:
    placement = "loss" if args.placement is None and args.ratio == "none" else args.placement  # without a ratio there is no other
    settings = {
        "aggregate": args.aggregate,
        "ratio": args.ratio,
        "clamps": numbers(args.clamp, "a clamp must be END=C", f"for example {next(iter(CLAMPS))}=20"),
    }
    changes = numbers(args.set)
    own = handed_in(args.estimator, changes) if is_file(args.estimator) else None
    require_known(changes, own.settable if own is not None else [], args.estimator or "all estimators")
    estimator = args.estimator if own is None else estimator_of(own)
    chosen = flags(estimator, placement, args.level, **settings)
    if args.samples < 1 or args.seed < 0:
        got = f"{args.samples} draws, seed {args.seed}"
        raise InputError("a check needs draws and a seed", got=got, remedy="ask for N >= 1, seed >= 0")
    world = asked_world(args)
    if not isinstance(world, World):
        from tabular_rlhf.commands import on_lattice

        return on_lattice.kl(args, world, on_lattice.estimators(args.estimator) if isinstance(estimator, str | None) else [estimator])
    best, at = solve(world), policies.situation(args, world)
    drawn = None if at.on_policy else at.log_sampler
    found = [analyse(f, world, at.log_pi, drawn, draws=args.samples, rng=np.random.default_rng(args.seed)) for f in chosen]
    rows = [row(report, world, at.on_policy) for report in found]
    told = {"world": world.name, "beta": world.beta, **at.told(world), "samples": args.samples, "kl": found[0].kl, "rows": rows}
    return answer(args, SCHEMA, told, lambda: as_text(best, at, found[0].kl, rows, args))


def row(report: FlagReport, world: World, on_policy: bool = True) -> dict[str, Any]:
    """One flag as plain numbers."""
    held = End("none in closed form", None, False, "not followed on samples of another policy")
    there = held if report.optimum is None and not on_policy else end(report.flag, world, report.optimum)
    reward, distance, regret = (None, None, None) if there.log_p is None or not there.rests else measure(world, there.log_p)
    sampled = report.sampled
    return {
        "estimator": report.flag.name,
        **parts(report.flag, "placement", "level"),
        "mean": report.exact.mean,
        "sampled": None if sampled is None else sampled.mean,
        **parts(report, "z", "bias"),
        **parts(report.exact, "std", "negative"),
        **parts(report, "cosine", "share", "noise", "descends", "nearest"),
        "optimum": there.words,
        **parts(there, "remark", "rests"),
        "reward_there": reward,
        "kl_there": distance,
        "regret_there": regret,
    }


def as_text(best: Gibbs, at: policies.Situation, kl: float, rows: list[dict[str, Any]], args: argparse.Namespace) -> str:
    """Two tables: what each flag is worth as an estimate and as a push; what it descends and where that leads."""
    world, unit = best.world, kl if kl > 0 else 1.0
    shares = ("bias/KL", lambda r: r["bias"] / unit, ".4f"), ("std/KL", lambda r: r["std"] / unit, ".4f")
    descends = ("descends", lambda r: r["descends"] if len(r["descends"]) <= CELL else "(below)", "")
    head = f"{_stands(at, world, kl)}\nFlags {_levels(rows)}"
    settings = "".join(f", {word}" for word in ([] if args.ratio == "sequence" else [f"ratio {args.ratio}"]) + args.clamp)
    parts = [
        f"{head}{', divided by length' if args.aggregate == 'mean' else ''}{settings}.",
        tabled(
            "WHAT IT ESTIMATES, HOW ITS UPDATE COMPARES WITH grad KL(pi, ref), AND THE REGRET WHERE IT LEADS",
            rows,
            [*FLAG, "mean:.5g", "z:.1f", *shares, "P(<0)=negative:.4f", "cosine:.4f", "share:.4f", "regret=regret_there:.4f"],
        ),
        tabled("WHAT IT DESCENDS, AND THE OPTIMUM OF E[r] - beta TIMES IT", rows, [*FLAG, descends, "optimum"]),
        *_notes(rows),
        f"The optimum p* itself: E[r] = {number(float(np.sum(world.mu * best.expected_reward)), '.4f')}, "
        f"KL = {number(float(np.sum(world.mu * best.kl)), '.4f')}, regret 0.\n"
        f"z: distance of {args.samples:,} draws from the mean, in exact standard errors.\ncosine and share 1: the true gradient.",
    ]
    return "\n\n".join(parts)


def _stands(at: policies.Situation, world: World, kl: float) -> str:
    """Where the flags are measured, and on whose samples."""
    usual = at.on_policy and at.old == "optimum"
    said = f"World {world.name}, beta = {number(world.beta)}; {'at the optimum pi = p*, ' * usual}KL(pi, ref) = {number(kl)} nats."
    return said if usual else f"{said}\n{policies.words(at.told(world), 'Samples')}"


def _levels(rows: list[dict[str, Any]]) -> str:
    """The levels of the flags that are shown; of two, which is whose."""
    by_token = list(dict.fromkeys(r["estimator"] for r in rows if r["level"] == "token"))
    if len(by_token) == len({r["estimator"] for r in rows}):
        return "token by token"
    return "of whole responses" + (f"; {', '.join(by_token)} token by token" if by_token else "")


def _notes(rows: list[dict[str, Any]]) -> list[str]:
    """What does not fit the table: long sums, the nearest named divergence where there is none, flows that still move."""
    lines = []
    for r in rows:
        said = [f"descends {r['descends']}"] if len(r["descends"]) > CELL else []
        said += [f"{r['descends']}: {r['nearest']}"] if r["nearest"] else []
        said += [r["remark"]] if r["remark"] else []
        lines += textwrap.wrap(f"{r['estimator']} {r['placement']}: {'; '.join(said)}.", WIDE, subsequent_indent="  ") if said else []
    return ["\n".join(lines)] if lines else []
