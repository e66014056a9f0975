"""`tabular-rlhf advantage [NAME]`: what an advantage, aggregation or policy loss really optimizes, beside the true gradient."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from tabular_rlhf import tex
from tabular_rlhf.audit.records import advantage_of
from tabular_rlhf.commands import policies
from tabular_rlhf.commands.answer import answer_json, answer_text
from tabular_rlhf.commands.loading import FILE, RUN, handed_in, is_file
from tabular_rlhf.commands.policies import Situation
from tabular_rlhf.commands.settings import declare, require_known, settings
from tabular_rlhf.commands.solve import find_with_notes
from tabular_rlhf.errors import InputError
from tabular_rlhf.fields.verdict import spelled
from tabular_rlhf.layout import table
from tabular_rlhf.policy_gradient import ADVANTAGES, AGGREGATIONS, CORRECTIONS, LOSSES, Recipe, analyse, success_objective, success_weight
from tabular_rlhf.policy_gradient.analysis import silent
from tabular_rlhf.policy_gradient.record import Advantage, Part
from tabular_rlhf.registry import one_of
from tabular_rlhf.told import number
from tabular_rlhf.world import NAMED, World

SCHEMA = "tabular-rlhf/advantage/1"
HEADER = ["", "cosine", "ratio", "variance", "responses", "curl"]
PLAIN = ("reinforce", "sequence-ratio")
"""Losses shown beside a named one: no ratio at all, and the ratio that is exact."""
SUCCESS = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)


def configure(parser: argparse.ArgumentParser) -> None:
    names = ", ".join([*ADVANTAGES, *AGGREGATIONS, *LOSSES, *CORRECTIONS])
    parser.epilog = RUN
    parser.add_argument("name", nargs="?", metavar="NAME", help=f"one of {names} (all advantages and aggregations by default), {FILE}")
    parser.add_argument("--group", type=int, default=8, metavar="G", help="responses of one group (default: 8)")
    parser.add_argument(
        "--world", default="rational", metavar="WORLD", help=f"a TOML file, or one of {', '.join(NAMED)} (default: rational)"
    )
    declare(parser, "ddof=1, epsilon=1e-4, baseline=0.5, ...")
    policies.declare(parser, "reference", "1 for a policy loss, else 0")
    parser.add_argument(
        "--correction",
        default="uncorrected",
        metavar="NAME",
        help=f"for the sampler: one of {', '.join(CORRECTIONS)} (default: uncorrected)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    world, _ = find_with_notes(args.world)
    if not isinstance(world, World):
        from tabular_rlhf.commands import on_lattice

        return on_lattice.advantage(args, world)
    at = policies.situation(args, world, 1.0 if args.name in LOSSES else 0.0)
    found = report(world, args.name, args.group, settings(args.set), at, args.correction)
    if args.json:
        answer_json(SCHEMA, args, found)
    else:
        answer_text(args, render(found))
    return 0


def report(
    world: World, name: str | None, G: int, changes: dict[str, float], at: Situation, correction: str = "uncorrected"
) -> dict[str, Any]:
    """Every recipe asked for, analyzed where the policies stand; each with this correction for the sampler."""
    log_p = world.mdp.path_sum(at.log_sampler)
    own = handed_in(str(name), changes) if is_file(name) else None
    mine = ADVANTAGES.get(str(name)) if own is None else advantage_of(own)
    changes = changes if own is None else {k: x for k, x in changes.items() if k not in own.settings}
    recipes, about = choose(mine or name, G, changes, correction)
    require_known(changes, [key for _, recipe in recipes for key in recipe.settings], name or "all advantages")
    found: dict[str, Any] = {
        "schema": SCHEMA,
        "world": world.name,
        "responses": world.responses,
        "reward_levels": len(np.unique(world.r)),
        "lengths": sorted({int(n) for n in world.mdp.lengths}),
        "group": G,
        **at.told(world),
        "correction": correction,
        "silent": silent(world, log_p, G),
        "about": about,
        "rows": [row(world, label, recipe, at) for label, recipe in recipes],
    }
    if mine is not None:
        recipe = _with(changes, correction, mine, "reinforce", "sequence-sum", G=G)
        c, F = success_weight(np.array(SUCCESS), recipe), success_objective(np.array(SUCCESS), recipe)
        found["success"] = [{"q": q, "weight": float(a), "objective": float(b)} for q, a, b in zip(SUCCESS, c, F, strict=True)]
    return found


def choose(
    name: str | Advantage | None, G: int, changes: dict[str, float], correction: str = "uncorrected"
) -> tuple[list[tuple[str, Recipe]], dict[str, str] | None]:
    """The recipes to compare, with labels, and what the named record is."""
    base = "rloo" if G > 1 else "none"
    if name is None:
        fits = [a for a in ADVANTAGES.values() if a.smallest <= G]
        rows = [(a.name, _with(changes, correction, a.name, "reinforce", "sequence-sum", G=G)) for a in fits]
        return rows + [(f"{base}, {a}", _with(changes, correction, base, "reinforce", a, G=G)) for a in list(AGGREGATIONS)[1:]], None
    if isinstance(name, Advantage):
        return [(f"{name.name}, {a}", _with(changes, correction, name, "reinforce", a, G=G)) for a in AGGREGATIONS], _about(name)
    one_of([*ADVANTAGES, *AGGREGATIONS, *LOSSES, *CORRECTIONS], name, "the name must be that of a part of an update")
    if name in CORRECTIONS:
        named = [name, *(other for other in CORRECTIONS if other != name)]
        return [(f"{base}, {c}", _with(changes, c, base, "reinforce", "sequence-sum", G=G)) for c in named], _about(CORRECTIONS[name])
    if name in ADVANTAGES:
        return [(f"{name}, {a}", _with(changes, correction, name, "reinforce", a, G=G)) for a in AGGREGATIONS], _about(ADVANTAGES[name])
    fits_names = [a.name for a in ADVANTAGES.values() if a.smallest <= G]
    if name in AGGREGATIONS:
        return [(f"{a}, {name}", _with(changes, correction, a, "reinforce", name, G=G)) for a in fits_names], _about(AGGREGATIONS[name])
    beside = [other for other in PLAIN if other != name and not (CORRECTIONS.find(correction).by_token and LOSSES[other].level != "token")]
    losses = [*((a, name) for a in fits_names), *((base, other) for other in beside)]
    return [(f"{a}, {loss}", _with(changes, correction, a, loss, "sequence-sum", G=G)) for a, loss in losses], _about(LOSSES[name])


def _with(changes: dict[str, float], correction: str, advantage: str | Advantage, loss: str, aggregation: str, *, G: int) -> Recipe:
    """The recipe with the changes that its parts know; a change that no part of any kind knows is refused by Recipe."""
    parts = (ADVANTAGES.find(advantage), LOSSES[loss], AGGREGATIONS[aggregation], CORRECTIONS.find(correction))
    everywhere = {key for table_ in (ADVANTAGES, LOSSES, AGGREGATIONS, CORRECTIONS) for part in table_.values() for key in part.defaults}
    own = {key for part in parts for key in part.defaults}
    kept: dict[str, Any] = {key: value for key, value in changes.items() if key in own or key not in everywhere}
    return Recipe(*parts, G=G, **kept)


def _about(part: Part) -> dict[str, str]:
    return {"name": part.name, "kind": part.kind, "latex": part.latex, "source": part.source, "remark": part.remark}


def row(world: World, label: str, recipe: Recipe, at: Situation) -> dict[str, Any]:
    """One recipe's analysis as plain numbers; the reason where it cannot be had."""
    try:
        a = analyse(world, at.log_pi, recipe, log_old=at.log_old, behavior=at.behavior)
    except InputError as refusal:
        return {"recipe": label, "refused": str(refusal)}
    keys = ("cosine", "ratio", "variance", "responses", "curl")
    v = a.verdict
    told = {"ascends": v.words, "exact": v.exact, "terms": dict(v.terms), "share": v.share, "residual": v.residual}
    return {"recipe": label, "refused": None, **{key: getattr(a, key) for key in keys}, **told}


# ---------------------------------------------------------------------------------------------------- text


def render(found: dict[str, Any]) -> str:
    """The report for a terminal of 100 columns."""
    lengths = ", ".join(map(str, found["lengths"][:8])) + (", ..." if len(found["lengths"]) > 8 else "")
    head = [
        f"World {found['world']}: {found['responses']:,} responses, {found['reward_levels']:,} reward levels, lengths {lengths}.",
        policies.words(found, f"Groups of {found['group']}"),
        *([f"Every term is weighed by {found['correction']}."] if found["correction"] != "uncorrected" else []),
        f"All rewards of a group are equal with probability {number(found['silent'], '.3g')}.",
    ]
    about = found["about"]
    if about:
        head += ["", f"{about['name']} ({about['kind']}): {tex.plain(about['latex'])}", f"Source: {about['source']}", f"{about['remark']}."]
    rows = [r for r in found["rows"] if r["refused"] is None]
    verdicts = [
        [r["recipe"], r["ascends"], "" if r["exact"] else spelled(r["terms"]), "" if r["exact"] else number(r["residual"], ".3g")]
        for r in rows
    ]
    parts = [
        "\n".join(head),
        table("EXPECTED UPDATE beside the gradient of E[r]", HEADER, map(cells, rows), left=(0,)),
        table(
            "WHAT IT ASCENDS, measured on this world and others like it", ["", "ascends", "nearest", "residual"], verdicts, left=(0, 1, 2)
        ),
    ]
    parts += [f"{r['recipe']}: {r['refused']}" for r in found["rows"] if r["refused"] is not None]
    if "success" in found:
        success = [[number(r["q"]), number(r["weight"]), number(r["objective"])] for r in found["success"]]
        parts.append(table("0/1 REWARDS: the update is c(q) grad q = grad F(q), q the success probability", ["q", "c(q)", "F(q)"], success))
    return "\n\n".join([*parts, CLOSING])


def cells(r: dict[str, Any]) -> list[str]:
    keys = (("cosine", ".6g"), ("ratio", ".5g"), ("variance", ".4g"), ("responses", ".4g"), ("curl", ".3g"))
    return [r["recipe"], *(number(r[key], spec) for key, spec in keys)]


CLOSING = """\
cosine, ratio: of the expected update with grad E[r].  variance: of one group's update, summed over parameters.
responses: how many make the noise as large as the mean.  curl: max |J - J^T| of the update's Jacobian in the logits,
0 where it is the gradient of some function of the policy.  residual: |u - c g|/|u|, empty where the words are all of it.
b: the group's baseline.  H: the entropy.  E_old: under the law that drew the samples.  All numbers are exact."""
