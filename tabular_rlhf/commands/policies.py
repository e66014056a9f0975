"""The options of every command that has a policy: which one is updated, to which ratios are taken, and who samples."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tabular_rlhf.behavior import Behavior, drawn_how
from tabular_rlhf.commands.options import option
from tabular_rlhf.errors import InputError
from tabular_rlhf.gibbs import solve
from tabular_rlhf.logspace import Array, kl, log_ratio, log_softmax
from tabular_rlhf.policy import uniform
from tabular_rlhf.registry import one_of
from tabular_rlhf.told import number, parts
from tabular_rlhf.world import World

NAMES = ("reference", "optimum", "uniform")


def declare(parser: argparse.ArgumentParser, old: str, moved: str) -> None:
    """The options.  Args: old, the policy of the ratios by default; moved, what its distance is by default, in words."""
    known = ", ".join(NAMES)
    option(parser, "--old POLICY", old, f"whom ratios are taken to: {known}")
    far = f"how far the updated policy has moved: pi = pi_old (pi*/pi_ref)^M in each state (default: {moved})"
    parser.add_argument("--moved", type=float, metavar="M", help=far)
    parser.add_argument("--sampler", metavar="POLICY", help="who draws the samples: one of these (default: the old policy)")
    option(parser, "--temperature T", 1.0, "of the sampler")
    option(parser, "--top-p P", 1.0, "mass of the likeliest tokens that the sampler says")


@dataclass(frozen=True, eq=False)
class Situation:
    """Who is updated, whom ratios are taken to, and who samples.

    log_pi (P, S, V); log_old, None where that is the live policy; behavior; names of the old policy and of the sampler; moved.
    """

    log_pi: Array
    log_old: Array | None
    behavior: Behavior
    old: str
    sampler: str
    moved: float

    @property
    def log_sampler(self) -> Array:
        """log pi of the sampler, (P, S, V)."""
        return self.behavior.of(self.log_pi if self.log_old is None else self.log_old)

    @property
    def on_policy(self) -> bool:
        """Whether all three are one."""
        return self.log_old is None and self.behavior.plain

    def told(self, world: World) -> dict[str, Any]:
        """As plain values, with how far the updated policy is from the samples: KL(pi, sampler), inf where it says what they never do."""
        path = world.mdp.path_sum
        far = float(np.sum(world.mu * kl(path(self.log_pi), path(self.log_sampler))))
        return {**parts(self, "old", "moved", "sampler"), **parts(self.behavior, "temperature", "top_p"), "kl_moved": far}


def situation(args: argparse.Namespace, world: World, moved: float = 0.0) -> Situation:
    """What was asked for.  Args: moved, the distance where none is told.  Raises: InputError."""
    return situated(world, args.old, args.moved if args.moved is not None else moved, args.sampler, args.temperature, args.top_p)


def situated(
    world: World, old: str = "reference", moved: float = 0.0, sampler: str | None = None, temperature: float = 1.0, top_p: float = 1.0
) -> Situation:
    """The situation of these settings; the policy `optimum` is that of the world's own beta."""
    if not np.isfinite(moved):
        raise InputError("--moved must be finite", got=moved, remedy="0 is on-policy; 1 moves pi_ref to pi*")
    known: dict[str, Callable[[], Any]] = {
        "reference": lambda: world.log_ref,
        "optimum": lambda: solve(world).log_pi,
        "uniform": lambda: uniform(world.mdp),
    }
    log_old = known[one_of(NAMES, old, "--old must be a policy known by name")]()
    other = None if sampler is None or sampler == old else known[one_of(NAMES, sampler, "--sampler must be a policy known by name")]()
    behavior = Behavior(temperature, top_p, other)
    log_pi = log_softmax(log_old + moved * log_ratio(solve(world).log_pi, world.log_ref)) if moved else log_old
    return Situation(np.asarray(log_pi), log_old if moved else None, behavior, old, sampler or old, moved)


def words(told: dict[str, Any], drawn: str = "Groups") -> str:
    """One sentence: who draws, and where the updated policy stands."""
    how, far = drawn_how(told["temperature"], told["top_p"]), f"{number(told['kl_moved'], '.4g')} nats."
    own = told["sampler"] == told["old"] and not how
    said = f"{drawn} drawn from the {told['sampler']} policy{f' at {how}' if how else ''}"
    if not told["moved"]:
        updated = f"; the {told['old']} policy is updated, KL(pi, sampler) = {far}"
        return said + (", which is also the policy that is updated." if own else updated)
    start = "it" if own else f"the {told['old']} one, to which ratios are taken,"
    moved = f"has moved from {start} by {number(told['moved'])}, KL(pi, {'pi_old' if own else 'sampler'}) = {far}"
    return f"{said}; the updated one {moved}"
