r"""The pipeline on samples: demonstrations, comparisons, a reward model, and the loop; every stage scored exactly.

    sft   N demonstrations of p* (or p_ref), imitated: pi(a given s) = counts, with KEEP responses of p_ref added so that nothing is lost;
    rm    n comparisons by Bradley-Terry people of pairs of p_ref, rewards by maximum likelihood with a weak Gaussian prior;
    core  steps of one of `algorithms.CORES`.

Rewards are in nats of preference: people compare by the world's own r.  What a prompt was never asked about has reward 0 throughout.
Every run has a generator of its own, spawned from (seed, number), so runs do not depend on how many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar, overload

import numpy as np

from tabular_rlhf import sampling
from tabular_rlhf.errors import InputError
from tabular_rlhf.gibbs import solve
from tabular_rlhf.lattice import LatticeWorld, Reference
from tabular_rlhf.lattice.draws import Drawn
from tabular_rlhf.lattice.pairs import ranges_of
from tabular_rlhf.logspace import Array
from tabular_rlhf.losses.record import find
from tabular_rlhf.preferences import Pairs, bradley_terry, sample_pairs
from tabular_rlhf.preferences.comparisons import wins_of
from tabular_rlhf.preferences.likelihood import fit
from tabular_rlhf.simulator import paths
from tabular_rlhf.simulator.algorithms import imitate, tallied
from tabular_rlhf.simulator.record import CORES, KL_FLAGS, Data, Learner, Options, PathTask, Task, bag, learner, step_of
from tabular_rlhf.simulator.scoring import Score, score, score_of, score_on_paths
from tabular_rlhf.world import World

ONLINE_BATCH = 256
"""Pairs compared at each step of online alignment, if not told otherwise."""


T = TypeVar("T", Task, PathTask)


@dataclass(frozen=True, eq=False)
class Run(Generic[T]):
    """One seed's run: task; learner; rng, its generator; stages, (name, score) before the core; curve, (step, score) of the core."""

    task: T
    learner: Learner
    rng: np.random.Generator
    stages: tuple[tuple[str, Score], ...]
    curve: tuple[tuple[int, Score], ...]

    @property
    def last(self) -> Score:
        """The exact score of the policy as it is now."""
        return score_of(self.task, self.learner)

    @property
    def log_p(self) -> Array:
        """The policy's law, (P, N).  Raises: InputError where responses are not listed."""
        task = self.task
        if isinstance(task, PathTask):
            task.world.refuse("log_p")
        log_p: Array = task.world.mdp.path_sum(self.learner.log_pi)
        return log_p

    def longer(self, steps: int) -> Run[T]:
        """The same run with another goal."""
        return replace(self, task=replace(self.task, options=replace(self.task.options, steps=steps)))


AnyRun = Run[Task] | Run[PathTask]
OnStep = Callable[[Any], object]


# ---------------------------------------------------------------------------------------------------- before the core


def demonstrate(world: World, options: Options, *, rng: np.random.Generator) -> Array:
    """How often each response was demonstrated, (P, N)."""
    shown = solve(world).log_p if options.demonstrator == "optimum" else world.log_p_ref
    drawn = sampling.sample(world, shown, options.demonstrations, rng=rng)
    return bag(drawn.x, drawn.tau, (world.mdp.P, world.mdp.N))


def reward_model(world: World, pairs: Pairs, prior: float) -> Array:
    """Rewards by maximum likelihood with a N(0, prior^2) prior, mean 0 for each prompt: (P, N).

    >>> from tabular_rlhf.world import coin
    >>> pairs = sample_pairs(coin(), bradley_terry(coin().r), 100_000, rng=np.random.default_rng(0))
    >>> abs(float(np.diff(reward_model(coin(), pairs, 10.0))[0, 0]) - 1.0) < 5 * 0.0101  # half of the pairs tell nothing
    True
    """
    r = np.zeros(world.r.shape)
    asked = np.unique(np.broadcast_to(pairs.x, np.shape(pairs.w)))
    for x in asked:
        wins = wins_of(pairs, int(x), world.mdp.N)
        met = np.flatnonzero(np.ravel(wins.compared.sum(axis=1)))  # the prior keeps at 0, the mean, what was never compared
        r[x, met] = fit(wins.only(met), prior=prior**2).r
    return r


@overload
def begin(world: World, options: Options, number: int = 0) -> Run[Task]: ...
@overload
def begin(world: LatticeWorld, options: Options, number: int = 0) -> Run[PathTask]: ...
@overload
def begin(world: World | LatticeWorld, options: Options, number: int = 0) -> AnyRun: ...
def begin(world: World | LatticeWorld, options: Options, number: int = 0) -> AnyRun:
    """The stages before the core, on samples.  Args: number, of the run: its generator is spawned from (seed, number)."""
    rng = np.random.default_rng(np.random.SeedSequence(options.seed, spawn_key=(number,)))
    return _begin_listed(world, options, rng) if isinstance(world, World) else _begin_on_paths(world, options, rng)


def _begin_on_paths(world: LatticeWorld, options: Options, rng: np.random.Generator) -> Run[PathTask]:
    task = prepare_paths(world, options, *paths.asked(world, options, CORES[options.core], rng))
    start = paths.start_of(task)
    log = [("reference", score_on_paths(task, Reference(world)))]
    log += [("sft", score_of(task, learner(world, start)))] if "sft" in options.stages else []
    return Run(task, learner(world, start), rng, tuple(log), ((0, log[-1][1]),))


def _begin_listed(world: World, options: Options, rng: np.random.Generator) -> Run[Task]:
    core = CORES[options.core]
    wanted = "sft" in options.stages or options.ptx > 0
    shown = demonstrate(world, options, rng=rng) if wanted else np.zeros(world.r.shape)
    asked = "rm" in options.stages or (core.compares and not options.online)
    pairs = tallied_or_refused(world, options, rng) if asked else None
    r = world.r if pairs is None or core.compares else reward_model(world, pairs, options.prior)
    task = prepare(world, options, Data(shown, pairs, r if options.reward else np.zeros_like(r)))
    start, log = start_of(task), [("reference", score(world, world.log_p_ref, task.data.reward))]
    if "sft" in options.stages:
        log.append(("sft", score(world, world.mdp.path_sum(start), task.data.reward)))
    if "rm" in options.stages:
        log.append(("rm, its p*", score(world, solve(world.with_reward(r)).log_p, task.data.reward)))
    first = score(world, world.mdp.path_sum(start), task.data.reward)
    return Run(task, learner(world, start), rng, tuple(log), ((0, first),))


def start_of(task: Task) -> Array:
    """log_pi where the core begins: imitated demonstrations, or the reference."""
    world, shown = task.world, task.data.demonstrations
    if "sft" not in task.options.stages:
        return world.log_ref
    n = np.sum(shown, axis=1)
    return imitate(world, shown / np.where(n > 0, n, 1.0)[:, None], n, world.log_p_ref)


def tallied_or_refused(world: World, options: Options, rng: np.random.Generator) -> Pairs:
    """The comparisons, each pair once.  Raises: InputError where every one was of a response against itself."""
    pairs = tallied(sample_pairs(world, bradley_terry(world.r), options.comparisons, rng=rng), world)
    if not len(pairs.w):
        got = f"{options.comparisons} comparisons, all of a response against itself"
        raise InputError("some comparison must be of two responses", got=got, remedy="ask for more --comparisons")
    return pairs


def prepare(world: World, options: Options, data: Data) -> Task:
    """A task, with the core's defaults for what was not told."""
    spread = float(np.ptp(data.reward[~np.isneginf(world.log_p_ref)]))
    return Task(world=world, data=data, **_told(world.beta, options, spread))


def prepare_paths(world: LatticeWorld, options: Options, demonstrations: Array, compared: Drawn | None) -> PathTask:
    """The same on a lattice."""
    low, high = ranges_of(Reference(world), lambda h: world.levels[h].r)
    told = _told(world.beta, options, float(np.max(high) - np.min(low)) * options.reward)
    return PathTask(world=world, demonstrations=demonstrations, compared=compared, **told)


def _told(beta: float, options: Options, spread: float) -> dict[str, Any]:
    """What is told of steps.  Args: spread, of the rewards that are possible."""
    core = CORES[options.core]
    size = options.batch if options.batch is not None else ONLINE_BATCH if options.online else core.batch
    coefficient = beta if options.kl_coef is None else options.kl_coef
    lr = usual_step(options, spread, coefficient) if options.lr is None else options.lr
    return {"options": options, "batch": size, "lr": lr, "kl": KL_FLAGS[options.kl or core.kl], "kl_coef": coefficient}


def usual_step(options: Options, spread: float, coefficient: float) -> float:
    """The step where none is told: the core's own over the curvature of what it ascends, or over the spread of its rewards.

    In a state the ptx term curves by at most half its weight, and so does the KL at the reference (away from it by more: by once its
    weight at 9 nats of logit); a loss of margins by twice its second derivative, as two logits move.
    """
    core = CORES[options.core]
    if core.compares:
        return core.lr / (2.0 * curvature(options.loss, coefficient))
    push = spread / 6.0 if options.core != "grpo" else 1.0  # grpo's advantages have a spread of 1
    return core.lr / max(coefficient + options.ptx, push, 1e-12)


def curvature(loss: str, beta: float, width: float = 0.1) -> float:
    """The second derivative of a loss in the margin at the reference, or a share of its slope where that is larger.

    >>> round(curvature("dpo", 2.0), 2), round(curvature("ipo", 1.0), 2)
    (1.0, 2.0)
    """
    record = find(loss)
    fixed = {"p0": -1.0, "q0": -1.0, "len_w": 1.0, "len_l": 1.0, **record.settings(beta), **dict.fromkeys(record.frozen, 0.0)}

    def at(D: float) -> float:
        return float(record(**fixed, p=D / 2 - 1.0, q=-D / 2 - 1.0, a=D / 2, b=-D / 2))

    low, middle, high = at(-width), at(0.0), at(width)
    return max(abs(high - 2.0 * middle + low) / width**2, 0.1 * abs(high - low) / (2.0 * width), 1e-12)


# ---------------------------------------------------------------------------------------------------- the loop


def scored(t: int) -> bool:
    """Whether step t is scored: each up to 128, then 64 to 128 in every doubling.  How far a run will go does not matter.

    >>> [t for t in range(250, 270) if scored(t)]
    [250, 252, 254, 256, 260, 264, 268]
    """
    return t % max(1, 2 ** (t.bit_length() - 7)) == 0


@overload
def advance(run: Run[T], steps: int, *, exact: bool = False, on_step: OnStep = ...) -> Run[T]: ...
@overload
def advance(run: AnyRun, steps: int, *, exact: bool = False, on_step: OnStep = ...) -> AnyRun: ...
def advance(run: Any, steps: int, *, exact: bool = False, on_step: OnStep = lambda run: None) -> Any:
    """The run after so many steps in all, scored exactly along the way.

    Args: exact, whether the population takes the place of every batch; on_step, called after each step.
    """
    step = step_of(run.task)
    for t in range(run.learner.step + 1, steps + 1):
        run = replace(run, learner=step(run.learner, None if exact else run.rng))
        if scored(t):
            run = replace(run, curve=(*run.curve, (t, run.last)))
        on_step(run)
    return run


def simulate(world: World, options: Options, *, on_step: Callable[[Run[Task]], object] = lambda run: None) -> Sequence[Run[Task]]:
    """All seeds, from the first stage to the last step."""
    return [advance(begin(world, options, k), options.steps, on_step=on_step) for k in range(options.seeds)]


def exact_curve(run: Run[T]) -> Run[T]:
    """The same task from the same start with the population in place of every batch: what the noise is around.

    It keeps the run's own reward model, but not its comparisons: direct alignment descends the loss of all pairs of p_ref.
    Raises: InputError where a population would not fit (groups of many reward levels, pairs of many responses), or has no sweep.
    """
    start = begun(run.task)
    whole = replace(run, learner=start, curve=((0, score_of(run.task, start)),))
    return advance(whole, run.task.options.steps, exact=True)


def begun(task: Task | PathTask) -> Learner:
    """The learner before the core's first step."""
    return learner(task.world, start_of(task) if isinstance(task, Task) else paths.start_of(task))
