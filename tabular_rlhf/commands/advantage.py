"""`tabular-rlhf advantage [NAME]`: what an advantage, aggregation or policy loss really optimizes, beside the true gradient."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tabular_rlhf import tex
from tabular_rlhf.audit.records import advantage_of, aggregation_of
from tabular_rlhf.commands import policies
from tabular_rlhf.commands.answer import answer
from tabular_rlhf.commands.loading import FILE, RUN, handed_in, is_file
from tabular_rlhf.commands.options import declare_json, declare_settings, declare_world, option, require_known, settings
from tabular_rlhf.commands.policies import Situation
from tabular_rlhf.commands.solve import asked_world
from tabular_rlhf.errors import InputError, whole
from tabular_rlhf.fields.verdict import spelled
from tabular_rlhf.layout import table
from tabular_rlhf.policy_gradient import (
    ADVANTAGES,
    AGGREGATIONS,
    BATCHES,
    CORRECTIONS,
    LOSSES,
    Recipe,
    analyse,
    success_objective,
    success_weight,
)
from tabular_rlhf.policy_gradient.analysis import Analysis, Estimate, estimate, silent
from tabular_rlhf.policy_gradient.record import Advantage, Aggregation, Part
from tabular_rlhf.registry import one_of
from tabular_rlhf.told import number, parts, tabled
from tabular_rlhf.world import World

SCHEMA = "tabular-rlhf/advantage/1"
MEAN = ("=recipe", "cosine:.6g", "ratio:.5g")
NOISE = ("variance:.4g", "responses:.4g")
SUCCESS = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)


TABLES: tuple[Mapping[str, Part], ...] = (ADVANTAGES, AGGREGATIONS, LOSSES, CORRECTIONS, BATCHES)
NAMES = [name for table in TABLES for name in table]
KNOWN = list(dict.fromkeys(key for table in TABLES for part in table.values() for key in part.defaults))
"""All settings of all parts."""
PLAIN = ("reinforce", "sequence-ratio")
"""Losses shown beside a named one: no ratio at all, and the ratio that is exact."""
BESIDE = ("none", "group-mean", "grpo")
"""Advantages that a batch is shown with, beside rloo."""
Told = tuple[list[tuple[str, Recipe]], "dict[str, str] | None"]


def configure(parser: argparse.ArgumentParser) -> None:
    names = ", ".join(NAMES)
    parser.epilog = RUN
    parser.add_argument("name", nargs="?", metavar="NAME", help=f"one of {names} (all advantages and aggregations by default), {FILE}")
    option(parser, "--group G", 8, "responses of one group")
    declare_world(parser)
    declare_settings(parser, "ddof=1, epsilon=1e-4, baseline=0.5, ...")
    policies.declare(parser, "reference", "1 for a policy loss, else 0")
    option(parser, "--correction NAME", "uncorrected", f"for the sampler: one of {', '.join(CORRECTIONS)}")
    option(parser, "--batch NAME", "each-group", f"what a batch is: one of {', '.join(BATCHES)}")
    parser.add_argument("--prompts", type=int, metavar="B", help="prompts of one batch, a group each (default: 1, or 2 with a batch)")
    parser.add_argument("--samples", type=int, metavar="N", help="draw N batches where all of them are too many (default: all, exactly)")
    parser.add_argument("--seed", type=int, default=None, help="of the draws of --samples (default: 0)")
    declare_json(parser)


def run(args: argparse.Namespace) -> int:
    world = asked_world(args)
    if not isinstance(world, World):
        from tabular_rlhf.commands import on_lattice

        return on_lattice.advantage(args, world)
    at = policies.situation(args, world, 1.0 if args.name in LOSSES else 0.0)
    drawn = None
    if args.samples is not None:
        args.seed = whole(args.seed or 0, "--seed", 0, "say, --seed 1")
        drawn = (whole(args.samples, "--samples", 2, "10000 is usual"), args.seed)
    elif args.seed is not None:
        raise InputError("--seed must have draws that it is of", got="no --samples", remedy="add --samples 10000, or leave it out")
    found = report(args, world, at, drawn)
    return answer(args, SCHEMA, found, lambda: render(found))


def report(args: argparse.Namespace, world: World, at: Situation, drawn: tuple[int, int] | None) -> dict[str, Any]:
    """Every recipe asked for, analyzed where the policies stand.

    Args: drawn, how many batches are drawn, and the seed, where not all are summed.
    """
    name, G, changes = args.name, args.group, settings(args.set)
    own = handed_in(str(name), changes) if is_file(name) else None
    mine = ADVANTAGES.get(str(name)) if own is None else None if own.kind == "aggregation" else advantage_of(own)
    if own is not None:
        require_known(changes, [*own.settable, *KNOWN], str(name))
        changes = {k: x for k, x in changes.items() if k not in own.settings}
    batch = str(name) if name in BATCHES else BATCHES.find(args.batch).name
    B = args.prompts if args.prompts is not None else 1 if BATCHES[batch].apart else 2
    asked = Asked(changes, args.correction, batch, G, B)
    chosen, about = asked.recipes(aggregation_of(own) if own is not None and mine is None else mine or name)
    require_known(changes, [key for _, recipe in chosen for key in recipe.settings], name or "all advantages")
    found: dict[str, Any] = {
        "schema": SCHEMA,
        "world": world.name,
        "responses": world.responses,
        "reward_levels": len(np.unique(world.r)),
        "lengths": sorted({int(n) for n in world.mdp.lengths}),
        "group": G,
        "prompts": B,
        "batch": batch,
        "samples": None if drawn is None else drawn[0],
        **at.told(world),
        "correction": args.correction,
        "silent": silent(world, world.mdp.path_sum(at.log_sampler), G),
        "about": about,
        "rows": [row(world, label, recipe, at, drawn) for label, recipe in chosen],
    }
    if mine is not None and BATCHES[batch].apart:
        recipe = asked.recipe(mine)
        c, F = success_weight(np.array(SUCCESS), recipe), success_objective(np.array(SUCCESS), recipe)
        found["success"] = [{"q": q, "weight": float(a), "objective": float(b)} for q, a, b in zip(SUCCESS, c, F, strict=True)]
    return found


def row(world: World, label: str, recipe: Recipe, at: Situation, drawn: tuple[int, int] | None = None) -> dict[str, Any]:
    """One recipe's analysis as plain numbers; the reason where it cannot be had."""
    who: dict[str, Any] = {"log_old": at.log_old, "behavior": at.behavior}
    told = dict.fromkeys(("ratio_error", "curl", "ascends", "exact", "terms", "share", "residual"))
    found: Analysis | Estimate
    try:
        if drawn is None:
            found = analyse(world, at.log_pi, recipe, **who)
            v = found.verdict
            told |= {"curl": found.curl, "ascends": v.words, "terms": dict(v.terms), **parts(v, "exact", "share", "residual")}
        else:
            found = estimate(world, at.log_pi, recipe, drawn[0], rng=np.random.default_rng(drawn[1]), **who)
            told["ratio_error"] = found.ratio_error
    except InputError as refusal:
        return {"recipe": label, "refused": str(refusal)}
    return {"recipe": label, "refused": None, **parts(found, "cosine", "ratio", "variance", "responses"), **told}


# ---------------------------------------------------------------------------------------------------- what a name stands for


@dataclass(frozen=True)
class Asked:
    """What all recipes share: changed settings, the correction for the sampler, what a batch is, G responses to each of B prompts."""

    changes: Mapping[str, float]
    correction: str = "uncorrected"
    batch: str = "each-group"
    G: int = 8
    B: int = 1

    def recipe(
        self,
        advantage: str | Advantage,
        loss: str = "reinforce",
        aggregation: str | Aggregation = "sequence-sum",
        *,
        correction: str = "",
    ) -> Recipe:
        """The recipe with the changes that its parts know; a change that no part of any kind knows is refused by Recipe."""
        parts = (
            ADVANTAGES.find(advantage),
            LOSSES[loss],
            AGGREGATIONS.find(aggregation),
            CORRECTIONS.find(correction or self.correction),
            BATCHES.find(self.batch),
        )
        own = {key for part in parts for key in part.defaults}
        kept: dict[str, Any] = {key: value for key, value in self.changes.items() if key in own or key not in KNOWN}
        return Recipe(*parts, G=self.G, B=self.B, **kept)

    def recipes(self, name: str | Advantage | Aggregation | None) -> Told:
        """The recipes to compare, with labels, and what the named record is."""
        base = "rloo" if self.G > 1 else "none"
        fits = [a.name for a in ADVANTAGES.values() if a.smallest <= self.G]
        if name is None:
            rows = [(a, self.recipe(a)) for a in fits]
            return rows + [(f"{base}, {a}", self.recipe(base, aggregation=a)) for a in list(AGGREGATIONS)[1:]], None
        if isinstance(name, Advantage) or (isinstance(name, str) and name in ADVANTAGES):
            part = ADVANTAGES.find(name)
            return [(f"{part.name}, {a}", self.recipe(part, aggregation=a)) for a in AGGREGATIONS], _about(part)
        if isinstance(name, Aggregation) or name in AGGREGATIONS:
            rule = AGGREGATIONS.find(name)
            return [(f"{a}, {rule.name}", self.recipe(a, aggregation=rule)) for a in fits], _about(rule)
        one_of(NAMES, name, "the name must be that of a part of an update")
        if name in BATCHES:
            beside = [(f"{a}, {name}", self.recipe(a)) for a in [base, *BESIDE] if a in fits and (a, base) != ("none", "none")]
            more = [(f"{base}, {name}, {a}", self.recipe(base, aggregation=a)) for a in list(AGGREGATIONS)[1:]]
            return beside + more, _about(BATCHES[name])
        if name in CORRECTIONS:
            named = [name, *(other for other in CORRECTIONS if other != name)]
            return [(f"{base}, {c}", self.recipe(base, correction=c)) for c in named], _about(CORRECTIONS[name])
        by_token = CORRECTIONS.find(self.correction).by_token
        others = [other for other in PLAIN if other != name and not (by_token and LOSSES[other].level != "token")]
        losses = [*((a, name) for a in fits), *((base, other) for other in others)]
        return [(f"{a}, {loss}", self.recipe(a, loss)) for a, loss in losses], _about(LOSSES[name])


def _about(part: Part) -> dict[str, str]:
    return parts(part, "name", "kind", "latex", "source", "remark")


# ---------------------------------------------------------------------------------------------------- text


def render(found: dict[str, Any]) -> str:
    """The report for a terminal of 100 columns."""
    lengths = ", ".join(map(str, found["lengths"][:8])) + (", ..." if len(found["lengths"]) > 8 else "")
    B, G = found["prompts"], found["group"]
    drawn = f"Batches of {B} prompts, a group of {G} each, are" if B > 1 else f"Groups of {G}"
    head = [
        f"World {found['world']}: {found['responses']:,} responses, {found['reward_levels']:,} reward levels, lengths {lengths}.",
        policies.words(found, drawn),
        *([f"A batch is {found['batch']}: {BATCHES[found['batch']].remark.lower()}."] if found["batch"] != "each-group" else []),
        *([f"Every term is weighed by {found['correction']}."] if found["correction"] != "uncorrected" else []),
        f"All rewards of a group are equal with probability {number(found['silent'], '.3g')}.",
    ]
    about = found["about"]
    if about:
        head += ["", f"{about['name']} ({about['kind']}): {tex.plain(about['latex'])}", f"Source: {about['source']}", f"{about['remark']}."]
    rows = [r for r in found["rows"] if r["refused"] is None]
    parts = ["\n".join(head)]
    if found["samples"]:
        title = f"UPDATE of {found['samples']:,} drawn batches beside the gradient of E[r]"
        parts.append(tabled(title, rows, [*MEAN, "+-=ratio_error:.2g", *NOISE]))
    else:
        verdicts = [
            [r["recipe"], r["ascends"], "" if r["exact"] else spelled(r["terms"]), "" if r["exact"] else number(r["residual"], ".3g")]
            for r in rows
        ]
        title = "WHAT IT ASCENDS, measured on this world and others like it"
        parts.append(tabled("EXPECTED UPDATE beside the gradient of E[r]", rows, [*MEAN, *NOISE, "curl:.3g"]))
        parts.append(table(title, ["", "ascends", "nearest", "residual"], verdicts, left=(0, 1, 2)))
    refused: dict[str, list[str]] = {}
    for r in found["rows"]:
        if r["refused"] is not None:
            refused.setdefault(r["refused"], []).append(r["recipe"])
    parts += [f"{'; '.join(names)}: {why}" for why, names in refused.items()]
    if "success" in found:
        title = "0/1 REWARDS: the update is c(q) grad q = grad F(q), q the success probability"
        parts.append(tabled(title, found["success"], ["q:.6g", "c(q)=weight:.6g", "F(q)=objective:.6g"]))
    return "\n\n".join([*parts, DRAWN if found["samples"] else CLOSING])


DRAWN = " ".join(
    (
        "cosine, ratio: of the mean update with grad E[r], which is exact.  +-: the standard error of the ratio.  variance: of one",
        "batch's update, summed over parameters.  responses: how many make the noise as large as the mean.  Of draws no objective is told.",
    )
)
CLOSING = " ".join(
    (
        "cosine, ratio: of the expected update with grad E[r].  variance: of one batch's update, summed over parameters.  responses: how",
        "many make the noise as large as the mean.  curl: max |J - J^T| of the update's Jacobian in the logits, 0 where it is the gradient",
        "of some function of the policy.  residual: |u - c g|/|u|, empty where the words are all of it.  b: the group's baseline.  H: the",
        "entropy.  E_old: under the law that drew the samples.  All numbers are exact.",
    )
)
