"""`tabular-rlhf losses [NAME]`: the family of direct alignment losses: optima, traits, one loss's report."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from tabular_rlhf.audit.records import pair_loss_of, reward_loss_of
from tabular_rlhf.commands import policies
from tabular_rlhf.commands.answer import answer_json, answer_text
from tabular_rlhf.commands.loading import FILE, RUN, handed_in, is_file
from tabular_rlhf.commands.options import declare_beta, declare_json, declare_settings, option, require_known, settings
from tabular_rlhf.commands.solve import asked_world
from tabular_rlhf.errors import InputError
from tabular_rlhf.gibbs import Gibbs, solve
from tabular_rlhf.layout import table
from tabular_rlhf.logspace import Array
from tabular_rlhf.losses import LOSSES
from tabular_rlhf.losses.analyse import LossReport, analyse, family_table
from tabular_rlhf.losses.record import DirectLoss
from tabular_rlhf.losses.rewards import REWARD_LOSSES, RewardLoss, RewardReport, analyse_rewards, reward_table
from tabular_rlhf.registry import one_of
from tabular_rlhf.reports.solution_text import words
from tabular_rlhf.told import number, parts
from tabular_rlhf.world import World

SCHEMA = "tabular-rlhf/losses/1"
MOST = 64
"""Responses a prompt: pairs and Hessians are of its square."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = RUN
    known = ", ".join([*LOSSES, *REWARD_LOSSES])
    parser.add_argument("name", nargs="?", metavar="NAME", help=f"one of {known} (default: a table of all), {FILE}")
    option(parser, "--world WORLD", "rational", "a TOML file or a named world")
    declare_beta(parser)
    policies.declare(parser, "reference", "0")
    declare_settings(parser, "eps=0.2, gamma=0.5, ... (with a NAME, or for every loss that has it)")
    option(parser, "--samples N", 20_000, "pairs drawn where no list is")
    option(parser, "--seed", 0, "seed of these draws")
    declare_json(parser)


def run(args: argparse.Namespace) -> int:
    changes = settings(args.set)
    pairs, rewards, changes = chosen(args.name, changes)
    known = [key for loss in pairs for key in ("beta", "tau", *loss.defaults)] + [key for r in rewards for key in r.defaults]
    require_known(changes, known, args.name or "all losses")
    world = asked_world(args)
    if not isinstance(world, World):
        from tabular_rlhf.commands import on_lattice

        return on_lattice.losses(args, world, pairs, changes)
    if world.mdp.N > MOST:
        raise InputError(f"the world must have at most {MOST} responses a prompt", got=world.mdp.N, remedy="try --world rational")
    _held, at = solve(world), policies.situation(args, world)  # every loss asks for the solution, which is kept while somebody holds it
    here = np.asarray(world.mdp.path_sum(at.log_pi))

    def drawn(world: World) -> Array:
        return np.asarray(world.mdp.path_sum(policies.situation(args, world).log_sampler))

    if args.json:
        found = [as_dict(analyse(loss, world, drawn=drawn, at=here, **{k: x for k, x in changes.items() if loss.has(k)})) for loss in pairs]
        own = [{k: x for k, x in changes.items() if k in loss.defaults} for loss in rewards]
        reports = (analyse_rewards(loss, world, drawn(world), **some) for loss, some in zip(rewards, own, strict=True))
        fitted = [rewards_as_dict(report) for report in reports]
        answer_json(SCHEMA, args, {"world": world.name, "beta": world.beta, **at.told(world), "losses": found, "rewards": fitted})
        return 0
    told = "".join(f", {key} = {x:g}" for key, x in changes.items())
    who = "" if at.on_policy and at.old == "reference" else f"\n{policies.words(at.told(world), 'Pairs')}"
    head = f"World {world.name}, beta = {world.beta:g}{told}.{who}"
    if args.name is None:
        both = family_table(world, drawn=drawn, at=here, **changes), reward_table(world, drawn(world), **changes)
        answer_text(args, "\n\n".join([head, *both]))
    elif pairs:
        answer_text(args, f"{head}\n\n{one(analyse(pairs[0], world, drawn=drawn, at=here, **changes))}")
    else:
        answer_text(args, f"{head}\n\n{fitted_rewards(analyse_rewards(rewards[0], world, drawn(world), **changes))}")
    return 0


def chosen(name: str | None, changes: dict[str, float]) -> tuple[list[DirectLoss], list[RewardLoss], dict[str, float]]:
    """The pair losses and the reward-model losses that are asked for, and the changes that are not a handed-in function's own."""
    if name is None:
        return list(LOSSES.values()), list(REWARD_LOSSES.values()), changes
    if is_file(name):
        own = handed_in(name, changes)
        require_known(changes, [*own.settable, "beta", "tau"], name)
        left = {k: x for k, x in changes.items() if k not in own.settings}
        reward = own.kind == "reward-model loss"
        return ([], [reward_loss_of(own)], left) if reward else ([pair_loss_of(own)], [], left)
    one_of([*LOSSES, *REWARD_LOSSES], name, "the loss must be a known one")
    return ([LOSSES[name]], [], changes) if name in LOSSES else ([], [REWARD_LOSSES[name]], changes)


def fitted_rewards(report: RewardReport) -> str:
    """Everything about one loss of a reward model: the likeliest responses, their true and their fitted rewards."""
    return f"{report}\n\n{likeliest(report.gibbs, 'its policy', report.log_p, fitted=report.found.s)}"


def likeliest(gibbs: Gibbs, name: str, log_p: Array, **more: Array) -> str:
    """The table of the ten likeliest responses: p_ref, p*, the named law, the reward, and what else there is of each."""
    world, rewards = gibbs.world, {"r": gibbs.world.r, **more}
    laws = {"p_ref": np.exp(world.log_p_ref), "p*": np.exp(gibbs.log_p), name: np.exp(log_p)}
    order = np.argsort(-np.max(np.stack([*laws.values()]), axis=0), axis=None)[:10]
    rows = [
        [*(f"{p[x, y]:.6f}" for p in laws.values()), *(number(float(r[x, y]), ".4g") for r in rewards.values())]
        + [words(world.mdp.prompts[x], world.mdp.text(y, x))]
        for x, y in zip(*(index.tolist() for index in np.unravel_index(order, world.r.shape)), strict=True)
    ]
    header = [*laws, *rewards, "response"]
    return table("RESPONSES", header, rows, left=(len(header) - 1,), tallest=1)


def rewards_as_dict(report: RewardReport) -> dict[str, Any]:
    """A report of a reward model as plain values."""
    return {
        **parts(report.loss, "name", "latex", "source"),
        "settings": report.settings,
        "r": report.gibbs.world.r.tolist(),
        "fitted": report.found.s.tolist(),
        "attained": report.found.attained,
        "level_is_open": report.found.free,
        "gaps": report.verdict,
        "stretch": report.stretch,
        "p": np.exp(report.log_p).tolist(),
        **parts(report, "kl_to_gibbs", "regret"),
        "certain": report.certain.attained,
    }


def one(report: LossReport) -> str:
    """Everything about one loss: p_ref, p* and the loss's optimum last, the likeliest responses first."""
    return f"{report}\n\n{likeliest(report.gibbs, 'optimum', report.optimum.log_p)}"


def as_dict(report: LossReport) -> dict[str, Any]:
    """A report as plain values."""
    m = report.optimum
    return {
        **parts(report.loss, "name", "latex", "source"),
        "traits": sorted(report.loss.traits),
        "optimum": m.words,
        "attained": m.attained,
        "settings": {k: float(v) for k, v in report.settings.items() if np.ndim(v) == 0},
        "dimension": m.dimension if m.attained else None,
        "value": m.value,
        "p": np.exp(m.log_p).tolist(),
        "vanishing": m.vanishing.tolist(),
        **parts(report, "kl_to_gibbs", "regret", "tv_to_closed_form"),
        "certain": report.certain.words,
        **parts(report, "shift", "winner_rate", "loser_rate", "noise"),
    }
