"""`tabular-rlhf gae`: generalized advantage estimation with an exact or a wrong critic: exact bias and variance by lambda."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tabular_rlhf.commands import policies
from tabular_rlhf.commands.answer import answer
from tabular_rlhf.commands.options import declare_json, declare_world, option
from tabular_rlhf.commands.solve import find_world
from tabular_rlhf.errors import InputError
from tabular_rlhf.estimators.analysis import against
from tabular_rlhf.logspace import Array
from tabular_rlhf.policy_gradient.stale import gae_noise, gae_pull, pulled_tokens
from tabular_rlhf.policy_gradient.updates import true_gradient
from tabular_rlhf.registry import one_of
from tabular_rlhf.told import number, tabled
from tabular_rlhf.world import World

SCHEMA = "tabular-rlhf/gae/1"
CRITICS = ("exact", "zero", "mean", "reference")
LAMBDAS = (0.0, 0.5, 0.9, 0.95, 1.0)
MOST = 4096
"""Responses a prompt: each is walked."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--lam", type=float, action="append", metavar="LAMBDA", help="may be repeated (default: 0, 0.5, 0.9, 0.95, 1)")
    words = "V of the updated policy, 0, its mean reward in every state, V of the reference"
    parser.add_argument("--critic", metavar="NAME", help=f"one of {', '.join(CRITICS)}: {words} (default: all)")
    option(parser, "--off E", 0.0, "what the critic is off by in every state but the first")
    policies.declare(parser, "reference", "0")
    declare_world(parser)
    declare_json(parser)


def run(args: argparse.Namespace) -> int:
    world = find_world(args.world)
    if world.mdp.N > MOST:
        raise InputError(f"the world must have at most {MOST} responses a prompt", got=world.mdp.N, remedy="try --world rational")
    lambdas = LAMBDAS if args.lam is None else tuple(args.lam)
    if not all(0.0 <= lam <= 1.0 for lam in lambdas) or not np.isfinite(args.off):
        raise InputError("--lam must be in [0, 1], and --off finite", got=f"{lambdas}, {args.off}", remedy="0.95 is usual")
    names = CRITICS if args.critic is None else (one_of(CRITICS, args.critic, "--critic must be a known one"),)
    at = policies.situation(args, world)
    found: dict[str, Any] = {"world": world.name, **at.told(world), "off": args.off, "rows": rows(world, at, names, args.off, lambdas)}
    return answer(args, SCHEMA, found, lambda: render(found))


def critic(world: World, at: policies.Situation, name: str, off: float) -> Array:
    """V of every state, (P, S), in reward units: the named one, and `off` more in all but the first."""
    values: dict[str, Callable[[], Array]] = {
        "exact": lambda: values_of(world, at.log_pi),
        "zero": lambda: np.zeros((world.mdp.P, world.mdp.S)),
        "mean": lambda: np.repeat(values_of(world, at.log_pi)[:, :1], world.mdp.S, axis=1),
        "reference": lambda: values_of(world, world.log_ref),
    }
    return np.asarray(values[name]() + off * (np.arange(world.mdp.S) > 0))


def values_of(world: World, log_pi: Array) -> Array:
    """V_pi of every state, (P, S), by one backward sweep."""
    pi = np.exp(log_pi)
    return np.asarray(world.mdp.backup(world.r, lambda h, Q: np.sum(world.mdp.levels(pi)[h] * Q, axis=1))[0])


def rows(world: World, at: policies.Situation, names: Sequence[str], off: float, lambdas: Sequence[float]) -> list[dict[str, Any]]:
    """A row for each critic and lambda."""
    law, truth = np.exp(world.mdp.path_sum(at.log_sampler)), true_gradient(world, at.log_pi)
    critics = [(name, critic(world, at, name, off)) for name in names]
    return [{"critic": name, "lam": lam, **row(world, np.exp(at.log_pi), law, truth, V, lam)} for name, V in critics for lam in lambdas]


def row(world: World, pi: Array, law: Array, truth: Array, V: Array, lam: float) -> dict[str, float | None]:
    """The exact mean update of one response to a prompt of mu beside the true gradient, and its variance summed over logits.

    Args: pi (P, S, V), the policy that is updated; law (P, N), of who draws; truth (P, S, V); V (P, S), the critic's.
    """
    mdp = world.mdp
    u = pulled_tokens(gae_pull(mdp, law, world.r, V, lam), pi) * world.mu[:, None, None]
    cosine, share = against(u, truth)
    noise = float(np.sum(world.mu * gae_noise(mdp, law, pi, world.r, V, lam))) - float(np.sum(u * u))
    bias = float(np.linalg.norm(u - truth))
    said = bias if bias > 1e-12 * (1.0 + float(np.max(np.abs(world.r)))) else 0.0
    return {"bias": said, "cosine": cosine, "share": share, "variance": max(0.0, noise)}


def render(found: dict[str, Any]) -> str:
    """The table for a terminal."""
    off = f"  The critic is off by {number(found['off'])} in all states but the first." if found["off"] else ""
    columns = ["critic", "lambda=lam:g", "|bias|=bias:.4g", "cosine:.6f", "share:.5f", "variance:.4g"]
    parts = [
        f"World {found['world']}.  {policies.words(found, 'Responses')}{off}",
        tabled("GENERALIZED ADVANTAGE ESTIMATION: the mean update beside the gradient of E[r]", found["rows"], columns),
        "bias, cosine, share: of the expected update of one response with grad E[r]; variance: summed over logits.  All numbers are exact.",
    ]
    return "\n\n".join(parts)
