"""`tabular-rlhf advantage [NAME]`: what an advantage, aggregation or policy loss really optimizes, beside the true gradient."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from tabular_rlhf import tex
from tabular_rlhf.audit.records import advantage_of
from tabular_rlhf.commands.answer import answer_json, answer_text
from tabular_rlhf.commands.loading import FILE, RUN, handed_in, is_file
from tabular_rlhf.commands.settings import declare, require_known, settings
from tabular_rlhf.commands.solve import find_with_notes
from tabular_rlhf.errors import InputError
from tabular_rlhf.fields.verdict import spelled
from tabular_rlhf.gibbs import solve
from tabular_rlhf.layout import table
from tabular_rlhf.logspace import Array, kl, log_ratio, log_softmax
from tabular_rlhf.policy import uniform
from tabular_rlhf.policy_gradient import ADVANTAGES, AGGREGATIONS, LOSSES, Recipe, analyse, success_objective, success_weight
from tabular_rlhf.policy_gradient.analysis import silent
from tabular_rlhf.policy_gradient.record import Advantage, Part
from tabular_rlhf.registry import one_of
from tabular_rlhf.told import number
from tabular_rlhf.world import NAMED, World

SCHEMA = "tabular-rlhf/advantage/1"
HEADER = ["", "cosine", "ratio", "variance", "responses", "curl"]
SAMPLERS = ("reference", "optimum", "uniform")
PLAIN = ("reinforce", "sequence-ratio")
"""Losses shown beside a named one: no ratio at all, and the ratio that is exact."""
SUCCESS = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)


def configure(parser: argparse.ArgumentParser) -> None:
    names = ", ".join([*ADVANTAGES, *AGGREGATIONS, *LOSSES])
    parser.epilog = RUN
    parser.add_argument("name", nargs="?", metavar="NAME", help=f"one of {names} (all advantages and aggregations by default), {FILE}")
    parser.add_argument("--group", type=int, default=8, metavar="G", help="responses of one group (default: 8)")
    parser.add_argument(
        "--world", default="rational", metavar="WORLD", help=f"a TOML file, or one of {', '.join(NAMED)} (default: rational)"
    )
    declare(parser, "ddof=1, epsilon=1e-4, baseline=0.5, ...")
    parser.add_argument(
        "--old", default="reference", metavar="POLICY", help=f"who draws the groups: {', '.join(SAMPLERS)} (default: reference)"
    )
    parser.add_argument(
        "--moved",
        type=float,
        metavar="M",
        help="how far the updated policy has moved: pi = pi_old (pi*/pi_ref)^M in each state (default: 1 for a policy loss, else 0)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    world, _ = find_with_notes(args.world)
    if not isinstance(world, World):
        from tabular_rlhf.commands import on_lattice

        return on_lattice.advantage(args, world)
    moved = (1.0 if args.name in LOSSES else 0.0) if args.moved is None else args.moved
    found = report(world, args.name, args.group, settings(args.set), args.old, moved)
    if args.json:
        answer_json(SCHEMA, args, found)
    else:
        answer_text(args, render(found))
    return 0


def sampler(world: World, old: str, moved: float) -> tuple[Array, Array | None]:
    """(log pi, log pi_old): the live policy, and the one that draws the groups, None where that is the live one."""
    if not np.isfinite(moved):
        raise InputError("--moved must be finite", got=moved, remedy="0 is on-policy; 1 moves pi_ref to pi*")
    best = solve(world).log_pi
    policies = {"reference": world.log_ref, "optimum": best, "uniform": uniform(world.mdp)}
    log_old = policies[one_of(SAMPLERS, old, "--old must be a policy known by name")]
    return (log_softmax(log_old + moved * log_ratio(best, world.log_ref)), log_old) if moved else (log_old, None)


def report(world: World, name: str | None, G: int, changes: dict[str, float], old: str = "reference", moved: float = 0.0) -> dict[str, Any]:
    """Every recipe asked for, analyzed at a policy with groups drawn from it, or from the one that it was before it moved."""
    log_pi, log_old = sampler(world, old, moved)
    log_p = world.mdp.path_sum(log_pi if log_old is None else log_old)
    mine = advantage_of(handed_in(str(name))) if is_file(name) else ADVANTAGES.get(str(name))
    recipes, about = choose(mine or name, G, changes)
    require_known(changes, [key for _, recipe in recipes for key in recipe.settings], name or "all advantages")
    found: dict[str, Any] = {
        "schema": SCHEMA,
        "world": world.name,
        "responses": world.mdp.P * world.mdp.N,
        "reward_levels": len(np.unique(world.r)),
        "lengths": sorted({int(n) for n in world.mdp.lengths}),
        "group": G,
        "old": old,
        "moved": moved,
        "kl_moved": float(np.sum(world.mu * kl(world.mdp.path_sum(log_pi), log_p))),
        "silent": silent(world, log_p, G),
        "about": about,
        "rows": [row(world, label, recipe, log_pi, log_old) for label, recipe in recipes],
    }
    if mine is not None:
        recipe = _with(changes, mine, "reinforce", "sequence-sum", G=G)
        c, F = success_weight(np.array(SUCCESS), recipe), success_objective(np.array(SUCCESS), recipe)
        found["success"] = [{"q": q, "weight": float(a), "objective": float(b)} for q, a, b in zip(SUCCESS, c, F, strict=True)]
    return found


def choose(name: str | Advantage | None, G: int, changes: dict[str, float]) -> tuple[list[tuple[str, Recipe]], dict[str, str] | None]:
    """The recipes to compare, with labels, and what the named record is."""
    if name is None:
        fits = [a for a in ADVANTAGES.values() if a.smallest <= G]
        rows = [(a.name, _with(changes, a.name, "reinforce", "sequence-sum", G=G)) for a in fits]
        base = "rloo" if G > 1 else "none"
        return rows + [(f"{base}, {a}", _with(changes, base, "reinforce", a, G=G)) for a in list(AGGREGATIONS)[1:]], None
    if isinstance(name, Advantage):
        return [(f"{name.name}, {a}", _with(changes, name, "reinforce", a, G=G)) for a in AGGREGATIONS], _about(name)
    one_of([*ADVANTAGES, *AGGREGATIONS, *LOSSES], name, "the name must be an advantage, an aggregation or a policy loss")
    if name in ADVANTAGES:
        return [(f"{name}, {a}", _with(changes, name, "reinforce", a, G=G)) for a in AGGREGATIONS], _about(ADVANTAGES[name])
    fits_names = [a.name for a in ADVANTAGES.values() if a.smallest <= G]
    if name in AGGREGATIONS:
        return [(f"{a}, {name}", _with(changes, a, "reinforce", name, G=G)) for a in fits_names], _about(AGGREGATIONS[name])
    losses = [*((a, name) for a in fits_names), *(("rloo" if G > 1 else "none", other) for other in PLAIN if other != name)]
    return [(f"{a}, {loss}", _with(changes, a, loss, "sequence-sum", G=G)) for a, loss in losses], _about(LOSSES[name])


def _with(changes: dict[str, float], advantage: str | Advantage, loss: str, aggregation: str, *, G: int) -> Recipe:
    """The recipe with the changes that its parts know; a change that no part of any kind knows is refused by Recipe."""
    parts = (ADVANTAGES.find(advantage), LOSSES[loss], AGGREGATIONS[aggregation])
    everywhere = {key for table_ in (ADVANTAGES, LOSSES, AGGREGATIONS) for part in table_.values() for key in part.defaults}
    own = {key for part in parts for key in part.defaults}
    kept: dict[str, Any] = {key: value for key, value in changes.items() if key in own or key not in everywhere}
    return Recipe(*parts, G=G, **kept)


def _about(part: Part) -> dict[str, str]:
    return {"name": part.name, "kind": part.kind, "latex": part.latex, "source": part.source, "remark": part.remark}


def row(world: World, label: str, recipe: Recipe, log_pi: Array, log_old: Array | None) -> dict[str, Any]:
    """One recipe's analysis as plain numbers; the reason where it cannot be had."""
    try:
        a = analyse(world, log_pi, recipe, log_old=log_old)
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
    drawn = f"Groups of {found['group']} drawn from the {found['old']} policy"
    moved = f"; the updated one has moved from it by {number(found['moved'])}, KL(pi, pi_old) = {number(found['kl_moved'], '.4g')} nats."
    head = [
        f"World {found['world']}: {found['responses']:,} responses, {found['reward_levels']:,} reward levels, lengths {lengths}.",
        drawn + (moved if found["moved"] else ", which is also the policy that is updated."),
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
b: the group's baseline.  H: the entropy.  All numbers are exact."""
