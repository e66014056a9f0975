"""`tabular-rlhf run [WORLD.toml]`: RLHF end to end on samples, every stage scored exactly, beside where it is predicted to lead."""

from __future__ import annotations

import argparse
import copy
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tabular_rlhf.commands.answer import answer
from tabular_rlhf.commands.options import check_picture, declare_figure, declare_json
from tabular_rlhf.commands.progress import progress
from tabular_rlhf.commands.solve import asked_world, find_with_notes
from tabular_rlhf.errors import InputError
from tabular_rlhf.policy_gradient import CORRECTIONS
from tabular_rlhf.policy_gradient import LOSSES as POLICY_LOSSES
from tabular_rlhf.simulator.record import CORES, DEMONSTRATORS, KL_FLAGS, OPTIMIZERS, Options
from tabular_rlhf.simulator.report import SCHEMA, render, report
from tabular_rlhf.simulator.stages import AnyRun, advance, begin
from tabular_rlhf.simulator.state import check_path, load, save
from tabular_rlhf.world import NAMED

PAUSE = 2.0
"""Seconds between two savings of a run that goes on."""
VALUES: tuple[tuple[str, Any, str, str], ...] = (
    ("--algorithm", str, "NAME", f"[sft+][rm+] and one of {', '.join(CORES)} (default: sft+rm+ppo)"),
    ("--steps", int, "N", "updates of the policy (default: 200)"),
    ("--batch", int, "N", "groups, or pairs, a step (default: the core's own; dpo: all comparisons)"),
    ("--group", int, "G", "responses a group; the n of best-of-n (default: 4)"),
    ("--comparisons", int, "N", "pairs that people compare (default: 2000)"),
    ("--demonstrations", int, "N", "responses that people show (default: 64)"),
    ("--demonstrator", str, "NAME", f"who shows them: {' or '.join(DEMONSTRATORS)} (default: optimum, p*)"),
    ("--beta", float, "B", "another KL weight than the world's, in reward units per nat"),
    ("--lr", float, "STEP", "length of a step in logits per unit of reward (default: the core's own)"),
    ("--decay", float, "T", "steps shrink as 1/(1 + t/T) (default: 0, they do not)"),
    ("--optimizer", str, "NAME", f"{' or '.join(OPTIMIZERS)} (default: sgd)"),
    ("--kl", str, "FLAG", f"how the KL enters: {', '.join(KL_FLAGS)} (default: the core's own)"),
    ("--kl-coef", float, "C", "weight of the KL term (default: the world's beta)"),
    ("--ptx", float, "GAMMA", "weight of imitating the demonstrations meanwhile (default: 0)"),
    ("--loss", str, "NAME", "loss of direct alignment (default: dpo)"),
    ("--prior", float, "SD", "of the reward model's Gaussian prior, nats (default: 10)"),
    ("--updates", int, "K", "updates for every batch that is drawn: samples grow stale (default: the core's own)"),
    ("--temperature", float, "T", "of who draws (default: 1)"),
    ("--top-p", float, "P", "mass of the likeliest tokens that are drawn (default: 1)"),
    ("--correction", str, "NAME", f"for who draws: one of {', '.join(CORRECTIONS)} (default: uncorrected)"),
    ("--policy-loss", str, "NAME", f"one of {', '.join(POLICY_LOSSES)} (default: the core's own)"),
    ("--seeds", int, "K", "independent runs (default: 1)"),
    ("--seed", int, "S", "seed of the draws (default: 0)"),
)
SWITCHES = (
    ("--no-kl", "switch the KL term off"),
    ("--no-reward", "switch the reward off"),
    ("--no-reward-model", "raise the true reward instead of a fitted one"),
    ("--online", "compare new responses of the policy at every step (dpo)"),
)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("world", nargs="?", metavar="WORLD", help=f"a TOML file, or one of {', '.join(NAMED)} (default: rational)")
    for name, kind, metavar, words in VALUES:
        parser.add_argument(name, type=kind, metavar=metavar, help=words)
    for name, words in SWITCHES:
        parser.add_argument(name, action="store_true", default=None, help=words)
    parser.add_argument("--save", type=Path, metavar="FILE.npz", help="save the run as it goes on, and at its end")
    parser.add_argument("--resume", type=Path, metavar="FILE.npz", help="go on with a saved run, with the options it began with")
    declare_figure(parser, "the learning curves")
    declare_json(parser)


def run(args: argparse.Namespace) -> int:
    check_picture(args.figure)  # before the work, not after it
    if args.save is not None:
        check_path(args.save)
    runs, place = started(args) if args.resume is None else resumed(args)
    runs = go_on(runs, args.save, place)
    found = report(runs)
    if args.figure is not None:
        from tabular_rlhf.figures.of_run import draw_curves

        draw_curves(found, args.figure)
    args.seed = runs[0].task.options.seed  # a resumed run has the one it began with
    return answer(args, SCHEMA, found, lambda: render(found))


def started(args: argparse.Namespace) -> tuple[list[AnyRun], str]:
    """New runs, up to where their core begins."""
    args.world = args.world or "rational"
    options, world = options_of(args), asked_world(args)
    return [begin(world, options, k) for k in range(options.seeds)], args.world


def options_of(args: argparse.Namespace) -> Options:
    """The options that were given; the others have their defaults."""
    if args.no_kl and args.kl_coef:
        raise InputError("the KL term must be on or off", got="--no-kl and --kl-coef", remedy="drop one of them")
    given = {name: getattr(args, name) for name in Options.__dataclass_fields__ if getattr(args, name, None) is not None}
    given |= {"kl_coef": 0.0} if args.no_kl else {}
    given |= {"reward": False} if args.no_reward else {}
    if args.no_reward_model:
        words = given.get("algorithm", Options.algorithm).split("+")
        given["algorithm"] = "+".join(w for w in words if w != "rm")
    return Options(**given)


def resumed(args: argparse.Namespace) -> tuple[list[AnyRun], str]:
    """Saved runs, perhaps with a farther goal."""
    changed = [name for name, *_ in (*VALUES, *SWITCHES) if name != "--steps" and getattr(args, name[2:].replace("-", "_")) is not None]
    changed = [*(["WORLD"] if args.world is not None else []), *changed]
    if changed:
        remedy = "give only --steps, --save, --json and --figure with --resume"
        raise InputError("a resumed run must keep the options it began with", got=", ".join(changed), remedy=remedy)
    runs, place = load(args.resume, lambda place: find_with_notes(place)[0])
    steps = runs[0].task.options.steps if args.steps is None else args.steps
    done = max(r.learner.step for r in runs)
    if steps < done:
        raise InputError(f"--steps must be at least the {done} already done", got=steps, where=str(args.resume), remedy="ask for more")
    return [r.longer(steps) for r in runs], place


def go_on(runs: list[AnyRun], path: Path | None, place: str) -> list[AnyRun]:
    """All runs to their last step, saved every few seconds, at the end, and where they are interrupted."""
    steps, now, saved = runs[0].task.options.steps, list(runs), time.monotonic()
    left = sum(max(0, steps - r.learner.step) for r in runs)
    with ending(), progress(left, "run", "step") as bar:

        def on_step(k: int, run: AnyRun) -> None:
            nonlocal saved
            now[k] = replace(run, rng=_copy(run)) if path is not None else run
            bar.update()
            if path is not None and time.monotonic() - saved > PAUSE:
                save(path, now, place)
                saved = time.monotonic()

        try:
            for k, begun in enumerate(runs):
                now[k] = advance(begun, steps, on_step=partial(on_step, k))
        finally:
            if path is not None:
                save(path, now, place)
    return now


@contextmanager
def ending() -> Iterator[None]:
    """SIGTERM, with which machines end a job, ends this one as Ctrl-C does: what was done is saved.  The status is 143."""

    def end(*_: object) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    if threading.current_thread() is not threading.main_thread():  # no other may set it
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _copy(run: AnyRun) -> Any:
    """The generator as it is now: the run's own goes on drawing."""
    return copy.deepcopy(run.rng)
