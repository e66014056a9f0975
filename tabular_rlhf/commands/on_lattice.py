"""`kl`, `advantage`, `losses` where responses are not listed: what is exact there; the rest is refused by name, with the way out."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tabular_rlhf.commands.answer import answer
from tabular_rlhf.commands.options import require_known, settings
from tabular_rlhf.errors import InputError, whole
from tabular_rlhf.estimators.record import ESTIMATORS, Estimator
from tabular_rlhf.lattice import LatticeWorld
from tabular_rlhf.losses.record import DirectLoss
from tabular_rlhf.registry import one_of
from tabular_rlhf.reports import lattice_groups, lattice_kl, lattice_losses
from tabular_rlhf.told import Column, number, tabled

GROUPS = ("rloo", "group-mean", "grpo")
"""Advantages that the law of the reward determines."""
Told = tuple[str, Any, tuple[Any, ...]]
SHOWN = 12
"""Levels of reward of one prompt that a text shows."""


def refuse(world: LatticeWorld, option: str, got: Any, answers: str) -> None:
    """Raise: the option asks for a list of responses."""
    remedy = f"{answers}; for the rest shorten the horizon, or draw samples (`lattice.draws.sample`)"
    raise InputError(f"{option} asks for each of {world.responses} responses, which are not listed", got=got, remedy=remedy)


def refuse_others(world: LatticeWorld, answers: str, told: Iterable[Told]) -> None:
    """Refuse the first (option, value, values that can be answered) whose value is another."""
    for option, value, usual in told:
        if value not in usual:
            refuse(world, option, value, answers)


def on_policy(args: argparse.Namespace, world: LatticeWorld, answers: str) -> None:
    """Refuse a policy that has moved, and a sampler that is another."""
    told = [
        ("--moved", args.moved, (None, 0.0)),
        ("--sampler", args.sampler, (None, args.old)),
        ("--temperature", args.temperature, (1.0,)),
        ("--top-p", args.top_p, (1.0,)),
    ]
    refuse_others(world, answers, told)


# ---------------------------------------------------------------------------------------------------- kl


def kl(args: argparse.Namespace, world: LatticeWorld, chosen: Sequence[Estimator]) -> int:
    """Estimators of the optimum's divergence; flags' gradients and ends are refused."""
    answers = "without it, `kl` gives each estimator's mean, bias and std"
    told: list[Told] = [
        ("--placement", args.placement, (None,)),
        ("--aggregate mean", args.aggregate, ("sum",)),
        ("--ratio", args.ratio, ("sequence",)),
        ("--clamp", args.clamp, ([],)),
        ("--old", args.old, ("optimum",)),
    ]
    refuse_others(world, answers, told)
    on_policy(args, world, answers)
    found = lattice_kl.report(world, chosen, args.level, samples=args.samples, seed=args.seed)
    return answer(args, found["schema"], found, lambda: kl_text(found))


def estimators(name: str | None) -> list[Estimator]:
    """All whose value is their own, or the named one."""
    if name is not None:
        return [ESTIMATORS.find(name)]
    return [e for e in ESTIMATORS.values() if e.tangent is None]


def kl_text(found: dict[str, Any]) -> str:
    unit = found["kl"] if found["kl"] > 0 else 1.0
    shares = ("bias/KL", lambda r: r["bias"] / unit, ".4g"), ("std/KL", lambda r: r["std"] / unit, ".4g")
    columns: list[Column] = ["estimator", "level", "mean:.6g", *shares, "drawn=sampled:.6g", "z:.1f", "=remark"]
    head = f"World {found['world']}, {found['responses']} responses (not listed: states are merged), beta = {number(found['beta'])}."
    return "\n\n".join(
        [
            f"{head}\nAt the optimum pi = p*, KL(pi, ref) = {number(found['kl'])} nats.",
            tabled("WHAT EACH ESTIMATES, one draw of p*", found["rows"], columns),
            f"mean, bias, std: exact, by sweeps.  drawn: the mean of {found['samples']:,} draws; z: how far off, in exact standard "
            "errors.\n"
            "Not told here, because they ask for each response: P(<0), cosine, what a flag descends, where it leads.",
        ]
    )


# ---------------------------------------------------------------------------------------------------- advantage


def advantage(args: argparse.Namespace, world: LatticeWorld) -> int:
    """What group advantages credit to each reward; losses, aggregations, and moved policies are refused."""
    answers = f"without it, `advantage` gives {', '.join(GROUPS)} from the law of the reward"
    on_policy(args, world, answers)
    told: list[Told] = [
        ("--correction", args.correction, ("uncorrected",)),
        ("--batch", args.batch, ("each-group",)),
        ("--prompts", args.prompts, (None,)),
        ("--samples", args.samples, (None,)),
        ("--old", args.old, ("reference", "optimum")),
        ("the advantage", args.name, (None, *GROUPS)),
    ]
    refuse_others(world, answers, told)
    changes = settings(args.set)
    require_known(changes, ["ddof", "epsilon"] if args.name in (None, "grpo") else [], args.name or "all advantages")
    names = [one_of(GROUPS, args.name, "an advantage must be known")] if args.name else list(GROUPS)
    whole(args.group, "--group", 2, "8 is usual")
    found = lattice_groups.report(world, names, args.group, changes, args.old)
    return answer(args, found["schema"], found, lambda: advantage_text(found, names))


def advantage_text(found: dict[str, Any], names: list[str]) -> str:
    parts = [
        f"World {found['world']}, {found['responses']} responses (not listed: states are merged); groups of {found['group']}, "
        f"drawn from the {found['old']}.\nProbability that all rewards of a group are equal: {number(found['silent'], '.6g')}."
    ]
    for row in found["prompts"]:
        kept = sorted(sorted(row["levels"], key=lambda level: -level["p"])[:SHOWN], key=lambda level: level["r"])
        title = f"WHAT IS CREDITED TO A REWARD{', prompt ' + row['prompt'] if row['prompt'] else ''}: E[A given r]"
        title += f" (the {SHOWN} likeliest of {len(row['levels'])})" if len(kept) < len(row["levels"]) else ""
        parts.append(tabled(title, kept, ["r:.6g", "p:.4g", *(f"{name}:.5g" for name in names)]))
    parts.append("Exact, from the law of the reward; cosine, variance and curl of the update ask for each response.")
    return "\n\n".join(parts)


# ---------------------------------------------------------------------------------------------------- losses


def losses(args: argparse.Namespace, world: LatticeWorld, chosen: Sequence[DirectLoss], changes: Mapping[str, float]) -> int:
    """Losses of pairs at p_ref and at p*, and where they lead, from the law of the reward; other policies and samplers are refused."""
    answers = "without it, `losses` answers for pairs of p_ref"
    on_policy(args, world, answers)
    refuse_others(world, answers, [("--old", args.old, ("reference",))])
    if not chosen:
        refuse(world, "a reward model's loss", args.name, "losses of pairs are answered")
    whole(args.samples, "--samples", 1, "20000 is usual", most=10**6)
    whole(args.seed, "--seed", 0, "0 is usual")
    found = lattice_losses.report(world, chosen, changes, samples=args.samples, seed=args.seed)
    return answer(args, found["schema"], found, lambda: losses_text(found))


def losses_text(found: dict[str, Any]) -> str:
    exact = [row for row in found["losses"] if row["exact"]]
    other = [row for row in found["losses"] if not row["exact"]]
    head = (
        f"World {found['world']}, {found['responses']} responses (not listed: states are merged), beta = {number(found['beta'])}.\n"
        f"Pairs of p_ref, labels by Bradley-Terry: {found['levels']} levels of reward, the rarest of probability "
        f"{number(found['rarest'], '.2g')};\none response is drawn twice with probability {number(found['same'], '.3g')}.  "
        f"KL(p*, p_ref) = {number(found['kl'])} nats."
    )
    parts = [head]
    if exact:
        title = "LOSSES OF LOG-RATIOS, exactly: they see a response through its reward"
        optimum = ("population optimum", lambda row: row["optimum"] if row["attained"] is not None else "-", "")
        sides = ["=name", "at p_ref=at_ref:.6g", "at p*=at_optimum:.6g", "drawn=sampled:.6g", "z:.1f"]
        parts.append(tabled(title, exact, [*sides, "KL to p*=kl_to_gibbs:.3g", "regret:.3g", optimum]))
        parts += [f"{row['name']}: no optimum: {row['optimum']}" for row in exact if row["attained"] is None][:1]
    if other:
        title = "LOSSES THAT ASK FOR MORE than levels have: their mean at p* is that of draws"
        asks = ("asks for", lambda row: ", ".join(row["lacks"]), "")
        parts.append(tabled(title, other, ["=name", "drawn=sampled:.6g", "s.e.=standard_error:.2g", asks]))
    closing = f"drawn: at p*, {found['samples']:,} pairs; z: how far off, in exact standard errors; s.e.: the draws' own.\n"
    closing += "population optimum: of a loss that is not convex, the best that looks at the reward alone.\n"
    return "\n\n".join([*parts, closing + "Not told here, because they ask for each response: slopes, descent, noise of n comparisons."])
