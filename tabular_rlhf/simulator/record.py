r"""What a run is told, what it holds, and what improves a policy: options, tasks, learners and cores.

**Grammar.**  algorithm = [sft+] [rm+] core.  `sft` begins at a policy imitated from demonstrations instead of the reference; `rm` replaces
the true reward r by one fitted to comparisons, r_hat; the core is one of `algorithms.CORES`.

**One step, two sources.**  A core's step takes `rng`: a generator draws a batch, None takes the population itself in its place.  So
the exact curve beside the sampled ones is the same code with the same step sizes.

**KL flags.**  The term -c KL enters by phi(L) of the drawn responses, L = log(p/p_ref), c the coefficient (see `estimators`):

    k1-reward   L            with the reward, before advantages are formed: the gradient of KL(p, p_ref);
    k2-loss     L            beside the advantages, by itself: the same mean;
    k3-loss     1 - e^{-L}   GRPO's: the gradient of KL(p_ref, p);
    k3-reward   e^{-L} - 1 + L   an unbiased value whose gradient is KL(p, p_ref) less KL(p_ref, p)'s;
    k1-loss     0 in the mean (phi = 1): no penalty at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np

from tabular_rlhf.behavior import Behavior
from tabular_rlhf.errors import InputError, as_number, quoted, whole
from tabular_rlhf.estimators.record import Flag
from tabular_rlhf.lattice import LatticeWorld, Soft, solve
from tabular_rlhf.lattice.draws import Drawn
from tabular_rlhf.logspace import Array, log_softmax
from tabular_rlhf.losses.record import LOSSES
from tabular_rlhf.mdp import Indices
from tabular_rlhf.policy_gradient import CORRECTIONS
from tabular_rlhf.policy_gradient import LOSSES as POLICY_LOSSES
from tabular_rlhf.preferences import Pairs
from tabular_rlhf.registry import Registry, one_of
from tabular_rlhf.sampling import MOST
from tabular_rlhf.world import World

FLOOR = -700.0
"""Log-ratios are not exponentiated beyond this."""
STAGES = ("sft", "rm")
DEMONSTRATORS = ("optimum", "reference")
OPTIMIZERS = ("sgd", "adam")
KEEP = 1.0
"""Responses of the old policy that imitation counts beside the drawn ones, so that nothing is forgotten by accident."""


@dataclass(frozen=True)
class KLFlag:
    """How the KL penalty enters: phi of L = log(p/p_ref), with the reward or by itself, and the flag of `estimators` that it is."""

    phi: Callable[[Array], Array]
    in_reward: bool
    flag: Flag


KL_FLAGS: Mapping[str, KLFlag] = {
    "k1-reward": KLFlag(lambda L: L, True, Flag("k1", "reward")),
    "k2-loss": KLFlag(lambda L: L, False, Flag("k2", "loss")),
    "k3-loss": KLFlag(lambda L: -np.expm1(-np.maximum(L, FLOOR)), False, Flag("k3", "loss")),
    "k3-reward": KLFlag(lambda L: np.expm1(-np.maximum(L, FLOOR)) + L, True, Flag("k3", "reward")),
    "k1-loss": KLFlag(lambda L: np.ones_like(L), False, Flag("k1", "loss")),
}

# ---------------------------------------------------------------------------------------------------- options


@dataclass(frozen=True)
class Options:
    """What a run is told.  None: the core's own default.  Raises: InputError for what cannot be.

    Args: algorithm, as above; steps; batch, groups (or pairs, or all comparisons if 0) a step; group, responses a group, and the n of
    best-of-n; comparisons and demonstrations, how many people give; demonstrator, "optimum" (p*) or "reference" (p_ref); lr, the step
    at the start, and decay: lr/(1 + t/decay), constant if 0; kl, a flag, and kl_coef, its weight (the world's beta if None, 0 for none);
    ptx, weight of imitation of the demonstrations; reward, whether there is a reward term; loss, of direct alignment; online, whether
    new responses are compared at every step; prior, standard deviation of the reward model's prior, nats; updates of the policy
    for every batch that is drawn, so that samples grow stale; temperature and top_p of who draws; correction for that, and policy_loss,
    by name; seed and seeds.

    >>> Options(algorithm="sft+rm+rloo").core, Options(algorithm="rm+grpo").stages
    ('rloo', ('rm',))
    >>> Options(algorithm="rloo", group=1)
    Traceback (most recent call last):
    tabular_rlhf.errors.InputError: a group of rloo must have at least 2 responses: got 1; pass --group 2 or more
    """

    algorithm: str = "sft+rm+ppo"
    steps: int = 200
    batch: int | None = None
    group: int = 4
    comparisons: int = 2000
    demonstrations: int = 64
    demonstrator: str = "optimum"
    lr: float | None = None
    decay: float = 0.0
    optimizer: str = "sgd"
    kl: str | None = None
    kl_coef: float | None = None
    ptx: float = 0.0
    reward: bool = True
    loss: str = "dpo"
    online: bool = False
    prior: float = 10.0
    updates: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    correction: str = "uncorrected"
    policy_loss: str | None = None
    seed: int = 0
    seeds: int = 1

    def __post_init__(self) -> None:
        *stages, core = self.algorithm.split("+")
        shape = [s for s in STAGES if s in stages] == stages
        _require(core in CORES and shape, "the algorithm must be [sft+][rm+]core", quoted(self.algorithm), f"cores are {', '.join(CORES)}")
        for name, least, most, unit in COUNTS:
            if getattr(self, name) is not None:
                whole(getattr(self, name), name, least, unit, most)
        for name, holds, must, remedy in NUMBERS:
            value = getattr(self, name)
            _require(value is None or (np.isfinite(as_number(value)) and holds(value)), f"{name} must be {must}", quoted(value), remedy)
        for name, known in (("demonstrator", DEMONSTRATORS), ("optimizer", OPTIMIZERS), ("kl", (None, *KL_FLAGS))):
            if getattr(self, name) is not None or None not in known:
                one_of([k for k in known if k is not None], getattr(self, name), f"{name} must be a known one")
        LOSSES.find(self.loss)
        CORRECTIONS.find(self.correction)
        if self.policy_loss is not None:
            POLICY_LOSSES.find(self.policy_loss)
        CORES[core].check(self)

    @property
    def behavior(self) -> Behavior:
        """Who draws."""
        return Behavior(self.temperature, self.top_p)

    @property
    def off_policy(self) -> bool:
        """Whether batches are drawn, or used, otherwise than the core would."""
        return not (self.behavior.plain and self.updates is None and self.policy_loss is None)

    @property
    def core(self) -> str:
        return self.algorithm.split("+")[-1]

    @property
    def stages(self) -> tuple[str, ...]:
        return tuple(self.algorithm.split("+")[:-1])


def _require(holds: bool, must: str, got: str, remedy: str) -> None:
    if not holds:
        raise InputError(must, got=got, remedy=remedy)


COUNTS = (
    ("steps", 0, 10**9, "steps count updates of the policy; 0 scores the stages before"),
    ("batch", 0, MOST, "a batch counts groups or pairs; 0 takes all comparisons of direct alignment"),
    ("group", 1, MOST, "a group holds the responses to one prompt"),
    ("comparisons", 1, MOST, "people must compare something"),
    ("demonstrations", 1, MOST, "people must show something"),
    ("updates", 1, 10**6, "updates are made of every batch"),
    ("seed", 0, np.inf, "a seed is a whole number"),
    ("seeds", 1, 10**4, "seeds count independent runs"),
)
NUMBERS: tuple[tuple[str, Callable[[float], bool], str, str], ...] = (
    ("lr", lambda v: v > 0, "positive", "it is the length of a step in logits per unit of reward"),
    ("decay", lambda v: v >= 0, "at least 0", "steps shrink as 1/(1 + t/decay); 0 keeps them"),
    ("kl_coef", lambda v: v >= 0, "at least 0", "it weighs the KL term, in reward units per nat; 0 switches it off"),
    ("ptx", lambda v: v >= 0, "at least 0", "it weighs imitation of the demonstrations, in reward units"),
    ("temperature", lambda v: v > 0, "positive", "it is that of who draws; 1 draws as the policy says"),
    ("top_p", lambda v: 0 < v <= 1, "above 0 and at most 1", "it is the mass of the likeliest tokens that are drawn"),
    ("prior", lambda v: v > 0, "positive", "it is a standard deviation, in nats; 10 is weak"),
)

# ---------------------------------------------------------------------------------------------------- what a run holds


@dataclass(frozen=True, eq=False)
class Data:
    """What people gave: demonstrations, counts (P, N); pairs or None; reward (P, N), what the core is told to raise."""

    demonstrations: Array
    pairs: Pairs | None
    reward: Array


@dataclass(frozen=True, eq=False, kw_only=True)
class Told:
    """What any run is told of its steps: options, groups (or pairs) a step, length of a step, the KL flag and its weight."""

    options: Options
    batch: int
    lr: float
    kl: KLFlag
    kl_coef: float

    def step_size(self, t: int) -> float:
        decay = self.options.decay
        return self.lr / (1.0 + t / decay) if decay else self.lr


@dataclass(frozen=True, eq=False, kw_only=True)
class Task(Told):
    """A world, options and data: all that a core's step may look at."""

    world: World
    data: Data

    @cached_property
    def log_d(self) -> Array:
        """log of the demonstrations' empirical law, (P, N): p_ref for a prompt without any."""
        counts = self.data.demonstrations
        total = np.sum(counts, axis=1, keepdims=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(total > 0, np.log(counts) - np.log(np.where(total > 0, total, 1.0)), self.world.log_p_ref)

    @cached_property
    def trained(self) -> World:
        """The world that the core sees: its KL coefficient for beta (where there is one), its reward for r."""
        return self.world.at(self.kl_coef or self.world.beta).with_reward(self.data.reward)


@dataclass(frozen=True, eq=False, kw_only=True)
class PathTask(Told):
    """The same where responses are not listed: a lattice; demonstrations, how often each token was shown in each row, (R, V); compared,
    2 n drawn responses of which the first n were preferred, None where nobody was asked."""

    world: LatticeWorld
    demonstrations: Array
    compared: Drawn | None

    @cached_property
    def optimum(self) -> Soft:
        """p*, and all of its values."""
        return solve(self.world)

    @property
    def paid(self) -> float:
        """1 where there is a reward term, 0 where there is none."""
        return float(self.options.reward)


@dataclass(frozen=True, eq=False)
class Learner:
    """What a core changes: step; logits (P, S, V); first and second moments of updates (adam); baseline (P,) of rewards;
    counts (P, N), what was selected so far.  On a lattice logits and counts are (R, V), as of `lattice.depths`."""

    step: int
    logits: Array
    first: Array
    second: Array
    baseline: Array
    counts: Array

    @property
    def log_pi(self) -> Array:
        log_pi: Array = log_softmax(self.logits)
        return log_pi


def learner(world: World | LatticeWorld, log_pi: Array) -> Learner:
    """A learner that has not learned yet."""
    shape, P = ((world.mdp.P, world.mdp.N), world.mdp.P) if isinstance(world, World) else (log_pi.shape, world.language.P)
    return Learner(0, np.array(log_pi), np.zeros(log_pi.shape), np.zeros(log_pi.shape), np.zeros(P), np.zeros(shape))


Random = np.random.Generator | None
"""What draws; None: the population itself takes the place of draws."""
Step = Callable[[Task, Learner, Random], Learner]
PathStep = Callable[[PathTask, Learner, Random], Learner]
Prediction = tuple[str, Array]
"""Where a core leads, in words and as log p (P, N)."""
Predict = Callable[[Task], Prediction | None]


@dataclass(frozen=True, eq=False)
class Core:
    """What improves a policy.

    name; summary; source; step, one update; predict, where it leads (None where no closed form is known); uses, the options that it
    reads beside those of every run; over_paths, one update where responses are not listed; batch, lr, kl, their defaults; smallest, the
    least group; compares, whether it needs comparisons.
    """

    name: str
    summary: str
    source: str
    step: Step
    predict: Predict
    uses: frozenset[str]
    over_paths: PathStep
    batch: int
    lr: float
    kl: str = "k1-reward"
    smallest: int = 1
    compares: bool = False
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def check(self, options: Options) -> None:
        """Refuse what this core cannot do."""
        least, name = self.smallest, self.name
        must = f"a group of {name} must have at least {least} responses"
        _require(options.group >= least, must, str(options.group), f"pass --group {least} or more")
        for key, off in OPTIONAL.items():
            value = getattr(options, key)
            _require(
                key in self.uses or value == off, f"{name} must not be given {key}", quoted(value), "leave it out, or choose another core"
            )
        _require(
            not (self.compares and "rm" in options.stages), f"{name} must not have a reward model", "rm", f"it replaces one: use {name}"
        )
        beta = not self.compares or options.kl_coef != 0
        _require(beta, f"{name} must have a KL weight", "0", "the loss divides by it: leave --no-kl out")
        everything = options.batch != 0 or (self.compares and not options.online)
        _require(everything, "a batch must have something", "0", "only direct alignment on given comparisons takes all of them")


CORES: Registry[Core] = Registry("core")
"""What improves a policy, by name; `algorithms` enters the records."""
OPTIONAL: dict[str, Any] = {
    name: getattr(Options, name)
    for name in (
        *("kl", "kl_coef", "ptx", "reward", "loss", "online", "lr", "decay"),
        *("updates", "temperature", "top_p", "correction", "policy_loss"),
    )
}
"""Options that only some cores read, and what they are where they are not given."""


def step_of(task: Task | PathTask) -> Callable[[Learner, Random], Learner]:
    """One update of the task's core."""
    core = CORES[task.options.core]
    return partial(core.step, task) if isinstance(task, Task) else partial(core.over_paths, task)


def bag(x: Indices, tau: Indices, shape: tuple[int, int]) -> Array:
    """How often each response was drawn, (P, N)."""
    flat = np.ravel(x * shape[1] + tau)
    return np.bincount(flat, minlength=shape[0] * shape[1]).astype(float).reshape(shape)
