r"""What makes an update: an advantage, a policy loss, an aggregation, a correction and a batch, as five tables of records.

**Symbols.**  A group is G responses tau_1..tau_G to one prompt, drawn from the sampler, with rewards r_i and lengths
L_i.  The update ascends

    sum over i of omega_i  sum over tokens t of  f(rho_{i,t}, A_i),

with A_i the advantage, omega_i the aggregation's weight of a token, and f the policy loss in the ratio rho = pi/pi_old.  Where another
sampler q drew the group (`behavior`), a correction weighs these terms by a frozen function of pi_old/q.

**Batches.**  A batch is B groups, of prompts drawn from mu.  What its groups know of each other, a record of a fifth kind says: what is
made of advantages over the whole batch, which responses are kept, and what is drawn anew.  It sees a batch as an advantage sees a group.

**Multiplicity.**  A record sees a group as its *distinct kinds* of member with multiplicities n: n = 1 for every response of a drawn
group, counts of reward levels where groups are summed by counts.  One line of code serves both, and sum_j n_j r_j is the sum over
the group.  An advantage that does not ask for n looks at its own response alone.

**Signs.**  Every f here is positively homogeneous in A: f(rho, A) = max(A, 0) f(rho, 1) + max(-A, 0) f(rho, -1).  So all that a
loss needs to know of advantages is how much each response is pushed up, and how much down.  One that is not so is refused.

**Nothing is declared** that can be measured: whether a loss is linear in A, whether an advantage is linear in the rewards, what a recipe
ascends (`analysis`).  What is left of claims, `oracle` and `smallest`, is what `faults` tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from tabular_rlhf.errors import InputError, as_number, quoted, whole
from tabular_rlhf.logspace import Array
from tabular_rlhf.registry import Equation, Registry, one_of, settle

Function = Callable[..., Any]
GIVEN: Mapping[str, tuple[str, ...]] = {
    "advantage": ("r", "n", "G", "lengths", "greedy", "best"),
    "aggregation": ("lengths", "n", "G", "H"),
    "loss": ("log_pi", "log_old", "log_now", "A"),
    "correction": ("rho",),
    "batch": ("A", "r", "n", "lengths", "kept", "mixed", "ended"),
}
"""What a record of each kind may ask for by name: rewards, multiplicities, group size, lengths, the reward of the greedy response,
the optimal constant baseline; horizon; log-probabilities of the policy, of the old policy, of the policy as a frozen number; the
ratio pi_old/q of a correction's level; advantages of the groups, and 1 for what is kept, of a mixed group, or ended."""

MOST = 10**6
"""Responses of one group."""
RANGES: Mapping[str, tuple[Callable[[float], bool], str, str]] = {
    "epsilon": (lambda v: v >= 0, "at least 0", "it is added to a standard deviation, in reward units"),
    "ddof": (lambda v: v in (0, 1), "0 or 1", "0 divides the squares by G, 1 by G - 1"),
    "baseline": (np.isfinite, "finite", "it is subtracted from the reward"),
    "clip": (lambda v: 0 < v < 1, "between 0 and 1", "0.2 is usual: ratios are clipped to [1 - clip, 1 + clip]"),
    "low": (lambda v: 0 < v <= 1, "above 0 and at most 1", "ratios are clipped below at 1 - low; 1 does not clip"),
    "high": (lambda v: v > 0, "positive", "ratios are clipped above at 1 + high"),
    "dual": (lambda v: v > 1, "above 1", "3 is usual: a negative advantage counts at most dual times"),
    "k": (lambda v: v >= 1 and v == int(v), "a whole number of at least 1", "it is k of pass@k, at most the group"),
    "tau_pos": (lambda v: v > 0, "positive", "it is the steepness of the gate where the advantage is positive"),
    "tau_neg": (lambda v: v > 0, "positive", "it is the steepness of the gate where the advantage is negative"),
    "k_pos": (lambda v: v >= 0, "at least 0", "it is the power of a ratio where the advantage is positive"),
    "k_neg": (lambda v: v >= 0, "at least 0", "it is the power of a ratio where the advantage is negative"),
    "lam_pos": (lambda v: v >= 0, "at least 0", "large ratios fall off as exp(-lam ratio) where the advantage is positive"),
    "lam_neg": (lambda v: v >= 0, "at least 0", "large ratios fall off as exp(-lam ratio) where the advantage is negative"),
    "wide": (lambda v: v > 0, "positive", "log-ratios of tokens are clipped to [-wide, wide]; 0.4 is usual"),
    "cap": (lambda v: v > 0, "positive", "a ratio to the sampler counts at most cap, or not at all beyond it; 2 is usual"),
    "floor": (lambda v: v >= 0, "at least 0", "a ratio to the sampler counts at least floor, or not at all below it; IcePop's is 0.5"),
    "cache": (lambda v: v > 0, "positive", "responses longer than the horizon less cache lose up to one reward unit; 1 token is the least"),
    "scale": (lambda v: v > 0, "positive", "token sums are divided by scale times the horizon"),
}
"""Settings: what must hold, in words, and what they do."""
OWN: tuple[Callable[[float], bool], str, str] = (lambda v: True, "a finite number", "it is a setting of a record of one's own")
"""The same of a setting that is not among them."""


@dataclass(frozen=True, eq=False)
class Part(Equation):
    """What all kinds of record share: an equation, and a remark: what it does, in words."""

    remark: str = field(default="", kw_only=True)

    @property
    def given(self) -> tuple[str, ...]:
        return GIVEN[self.kind]


@dataclass(frozen=True, eq=False)
class Advantage(Part):
    """A_i from a group.  smallest: the least G for which it exists."""

    smallest: int = field(default=1, kw_only=True)
    kind = "advantage"

    @property
    def alone(self) -> bool:
        """Whether it looks at its own response only."""
        return "n" not in self.needs

    @property
    def by_length(self) -> bool:
        """Whether it looks at lengths."""
        return "lengths" in self.needs

    def shares(self, G: int, settings: Mapping[str, float]) -> tuple[float, float] | None:
        """(c, d) with A_i = c r_i + d sum of the others' rewards, measured on groups; None where it is not linear like that.

        Then E[A_i given tau_i] = c r_i + (G - 1) d E[r], for any number of reward levels.

        >>> ADVANTAGES["group-mean"].shares(4, {}), ADVANTAGES["grpo"].shares(4, ADVANTAGES["grpo"].defaults)
        ((0.75, -0.25), None)
        """
        return _shares(self, G, tuple((name, settings[name]) for name in self.defaults))


@lru_cache(maxsize=256)
def _shares(advantage: Advantage, G: int, settings: tuple[tuple[str, float], ...]) -> tuple[float, float] | None:
    if not set(advantage.needs) <= {"r", "n", "G", *advantage.defaults}:
        return None

    def of(r: Array) -> Array:
        return np.broadcast_to(advantage(r=r, n=np.ones(r.shape), G=G, **dict(settings)), r.shape)

    noise = np.random.default_rng(0).standard_normal((8, G))
    one = of(np.eye(G)[0])
    c, d = float(one[0]), float(one[-1]) if G > 1 else 0.0
    linear = c * noise + d * (np.sum(noise, axis=1, keepdims=True) - noise)
    return (c, d) if np.allclose(of(noise), linear, rtol=1e-12, atol=1e-12) else None


@dataclass(frozen=True, eq=False)
class Aggregation(Part):
    """omega_i, the weight of one token of response i."""

    kind = "aggregation"

    @property
    def pooled(self) -> bool:
        """Whether the weight depends on the lengths of the others."""
        return "n" in self.needs

    @property
    def by_length(self) -> bool:
        """Whether responses of different lengths are weighed differently, measured."""
        omega = self(lengths=np.array([1.0, 2.0]), n=np.ones(2), G=2, H=2, **self.defaults)
        return bool(np.ptp(np.broadcast_to(omega, 2)) > 0) or self.pooled


@dataclass(frozen=True, eq=False)
class PolicyLoss(Part):
    """f, to be ascended, in log_pi; frozen quantities are separate parameters.

    level: "token"; "sequence", the log-probabilities of whole responses; "geometric", those divided by the length.  A term of the
    last two is one number a response, and a sum over tokens counts it once.  inside: what is made of each token's log-ratio before it is
    added up, of (log-ratio, sign of A) and settings; None where nothing is.
    """

    level: str = field(default="token", kw_only=True)
    inside: Callable[..., Any] | None = field(default=None, kw_only=True)
    kind = "loss"

    def of_tokens(self, log_pi: Any, log_old: Any, sign: Any, settings: Mapping[str, float]) -> Any:
        """log pi of tokens as the loss adds them up: log pi_old and what is made of each log-ratio."""
        if self.inside is None:
            return log_pi
        given = {name: settings[name] for name in self.defaults}
        return log_old + self.inside(log_pi - log_old, sign, **given)

    @cached_property
    def _values(self) -> tuple[Array, Array, Array]:
        """f at A = 1, 2 and -1 for some ratios: what its dependence on A is read from."""
        log_pi, log_old, log_now = -np.random.default_rng(0).exponential(1.0, (3, 64))
        at = {"log_pi": log_pi, "log_old": log_old, "log_now": log_now, **self.defaults}
        one, two, minus = (np.asarray(self(A=np.full(64, a), **at)) for a in (1.0, 2.0, -1.0))
        return one, two, minus

    @property
    def homogeneous(self) -> bool:
        """Whether f(rho, 2A) = 2 f(rho, A), measured: what makes it enough to know how much each response is pushed up and down."""
        one, two, _ = self._values
        return bool(np.allclose(two, 2.0 * one, rtol=1e-9))

    @property
    def linear(self) -> bool:
        """Whether also f(rho, -A) = -f(rho, A), measured."""
        one, _, minus = self._values
        return bool(np.allclose(minus, -one, rtol=1e-12, atol=0.0))


@dataclass(frozen=True, eq=False)
class Correction(Part):
    """c, the frozen weight of a term by the ratio pi_old/q.

    level, of the ratio: "token"; "prefix", the product of those up to the token; "sequence", of all; "geometric", its root by the length.
    """

    level: str = field(default="token", kw_only=True)
    kind = "correction"

    @property
    def by_token(self) -> bool:
        """Whether tokens of one response are weighed differently."""
        return bool(self.needs) and self.level in ("token", "prefix")


KEPT, REDRAWN = ("all", "mixed", "ended"), ("", "any", "same")


@dataclass(frozen=True, eq=False)
class Batch(Part):
    """A of a batch's responses, from the advantages of their groups.

    keeps: "all" responses, those of "mixed" groups (whose rewards are not all equal), or those that "ended" before the horizon cut them
    off: weights are shared among what is kept.  redrawn: whether a silent group is drawn anew, "" not, of "any" prompt, or of the "same".
    shaped: the reward that advantages see, of r, lengths, ended, H and settings; None for r itself.  apart: groups do not see each other.
    smallest: the least number of responses for which it exists.
    """

    keeps: str = field(default="all", kw_only=True)
    redrawn: str = field(default="", kw_only=True)
    shaped: Callable[..., Any] | None = field(default=None, kw_only=True)
    apart: bool = field(default=False, kw_only=True)
    smallest: int = field(default=1, kw_only=True)
    kind = "batch"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.keeps in KEPT, "what is kept must be known", quoted(self.keeps), f"use one of {', '.join(KEPT)}")
        self.require(self.redrawn in REDRAWN, "what is redrawn must be known", quoted(self.redrawn), "use any or same, or leave it out")

    def asks(self, name: str) -> bool:
        """Whether it matters which responses are of a mixed group, or ended."""
        return name == self.keeps or name in self.needs


ADVANTAGES: Registry[Advantage] = Registry("advantage")
AGGREGATIONS: Registry[Aggregation] = Registry("aggregation")
LOSSES: Registry[PolicyLoss] = Registry("policy loss")
CORRECTIONS: Registry[Correction] = Registry("correction")
BATCHES: Registry[Batch] = Registry("batch")
PARTS = ("advantage", "loss", "aggregation", "correction", "batch")


@dataclass(frozen=True, eq=False)
class Recipe:
    """One way to turn groups into an update: an advantage, a policy loss, an aggregation, a correction, what a batch of B groups of G
    responses is (`Batch`), and changed settings.

    Raises: InputError for an unknown name or setting, a setting out of range, a group too small for the advantage, or a correction of
    tokens for a loss of whole responses.

    >>> Recipe("grpo", G=4).settings["ddof"]
    0
    >>> Recipe("rloo", G=1)
    Traceback (most recent call last):
    tabular_rlhf.errors.InputError: the group must have at least 2 responses: rloo: got G = 1; a baseline from others needs others
    """

    advantage: Advantage
    loss: PolicyLoss
    aggregation: Aggregation
    correction: Correction
    batch: Batch
    G: int
    B: int
    settings: Mapping[str, float]

    def __init__(
        self,
        advantage: str | Advantage = "rloo",
        loss: str | PolicyLoss = "reinforce",
        aggregation: str | Aggregation = "sequence-sum",
        correction: str | Correction = "uncorrected",
        batch: str | Batch = "each-group",
        *,
        G: int = 4,
        B: int = 1,
        **changes: float,
    ) -> None:
        parts: tuple[Part, ...] = (
            ADVANTAGES.find(advantage),
            LOSSES.find(loss),
            AGGREGATIONS.find(aggregation),
            CORRECTIONS.find(correction),
            BATCHES.find(batch),
        )
        known = {name: value for part in parts for name, value in part.defaults.items()}
        settle(self, **dict(zip(PARTS, parts, strict=True)))
        if not self.loss.homogeneous:
            must = "a policy loss must be positively homogeneous in A"
            raise InputError(must, got="f(2A) is not 2 f(A)", where=self.loss.name, remedy="leave constants and squares of A out")
        if self.correction.by_token and self.loss.level != "token":
            must = "a correction of tokens must have a loss of tokens to weigh"
            raise InputError(must, got=f"{self.correction.name} for {self.loss.name}", remedy="correct the whole response")
        settle(self, G=_group_size(G, self.advantage), B=int(whole(B, "B", 1, "B counts the prompts of one batch", most=MOST)))
        if self.G * self.B < self.batch.smallest:
            must = f"the batch must have at least {self.batch.smallest} responses"
            raise InputError(must, got=f"G = {self.G}, B = {self.B}", where=self.batch.name, remedy="take more prompts, or a larger group")
        settle(self, settings={**known, **_checked(changes, known)})
        if self.settings.get("floor", 0.0) > self.settings.get("cap", np.inf):
            got = f"floor = {self.settings['floor']:g}, cap = {self.settings['cap']:g}"
            raise InputError("floor must be at most cap", got=got, where=self.correction.name, remedy="lower the floor")
        if self.settings.get("k", 1) > self.G:
            must = "sets must not be larger than the group"
            raise InputError(must, got=f"k = {self.settings['k']:g}, G = {self.G}", where=self.advantage.name, remedy="take a smaller k")

    @property
    def name(self) -> str:
        corrected = f", {self.correction.name}" if self.correction.needs else ""
        batch = "" if self.batch.apart else f", {self.batch.name}"
        prompts = f", B = {self.B}" if self.B > 1 else ""
        return f"{self.advantage.name}, {self.loss.name}, {self.aggregation.name}{corrected}{batch}, G = {self.G}{prompts}"


def _group_size(G: Any, advantage: Advantage) -> int:
    whole(G, "G", 1, "G counts the responses of one group", most=MOST)
    if advantage.smallest > G:
        must = f"the group must have at least {advantage.smallest} responses"
        raise InputError(must, got=f"G = {G}", where=advantage.name, remedy="a baseline from others needs others")
    return int(G)


def _checked(changes: Mapping[str, float], known: Mapping[str, float]) -> Mapping[str, float]:
    for name, value in changes.items():
        one_of(known, name, "a change must be of a setting")
        holds, must, remedy = RANGES.get(name, OWN)
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float | np.number)
            or not (np.isfinite(as_number(value)) and holds(float(value)))
        ):
            raise InputError(f"{name} must be {must}", got=quoted(value), remedy=remedy)
    return changes
