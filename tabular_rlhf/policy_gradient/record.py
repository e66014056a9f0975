r"""What makes an on-policy update: an advantage, a policy loss and an aggregation, as three tables of records.

**Symbols.**  A group is G responses tau_1..tau_G to one prompt, drawn from the behavior policy pi_old, with rewards r_i and lengths
L_i.  The update ascends

    sum over i of omega_i  sum over tokens t of  f(rho_{i,t}, A_i),

with A_i the advantage, omega_i the aggregation's weight of a token, and f the policy loss in the ratio rho = pi/pi_old.

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
from typing import Any, TypeVar

import numpy as np

from tabular_rlhf.errors import InputError, as_number, did_you_mean, quoted, whole
from tabular_rlhf.logspace import Array

Function = Callable[..., Any]
GIVEN: Mapping[str, tuple[str, ...]] = {
    "advantage": ("r", "n", "G", "lengths", "greedy", "best"),
    "aggregation": ("lengths", "n", "G", "H"),
    "loss": ("log_pi", "log_old", "log_now", "A"),
}
"""What a record of each kind may ask for by name: rewards, multiplicities, group size, lengths, the reward of the greedy response,
the optimal constant baseline; horizon; log-probabilities of the policy, of the behavior policy, of the policy as a frozen number."""

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
    "scale": (lambda v: v > 0, "positive", "token sums are divided by scale times the horizon"),
}
"""Settings: what must hold, in words, and what they do."""


def parameters(function: Function) -> tuple[str, ...]:
    """The names that a function asks for."""
    code = function.__code__
    return code.co_varnames[: code.co_argcount]


@dataclass(frozen=True, eq=False)
class Part:
    """What the three kinds of record share.

    name; latex; source; fn, vectorised over groups; oracle, the same equation in plain `math` for one group, written from the
    paper; defaults, of settings; remark, what it does, in words.
    """

    name: str
    latex: str
    source: str
    fn: Function
    oracle: Function
    defaults: Mapping[str, float] = field(default_factory=dict, kw_only=True)
    remark: str = field(default="", kw_only=True)
    kind = ""

    def __post_init__(self) -> None:
        def require(holds: bool, must: str, got: Any) -> None:
            if not holds:
                raise InputError(must, got=got, where=f"{self.kind} {self.name!r}", remedy="see policy_gradient/record.py")

        require(bool(self.latex and self.source), "a record must have an equation and a source", self.source or "none")
        require(self.oracle is not self.fn, "the oracle must be written apart from fn", "the same function")
        strange = [p for p in parameters(self.fn) if p not in GIVEN[self.kind] and p not in self.defaults]
        require(not strange, "parameters must be given or have a default", strange)
        require(set(self.defaults) <= set(RANGES), "settings must have a range", sorted(self.defaults))

    def __call__(self, **supply: Any) -> Any:
        """fn on what it asks for, picked from `supply`."""
        return self.fn(*(supply[name] for name in parameters(self.fn)))


@dataclass(frozen=True, eq=False)
class Advantage(Part):
    """A_i from a group.  smallest: the least G for which it exists."""

    smallest: int = field(default=1, kw_only=True)
    kind = "advantage"

    @property
    def alone(self) -> bool:
        """Whether it looks at its own response only."""
        return "n" not in parameters(self.fn)

    @property
    def by_length(self) -> bool:
        """Whether it looks at lengths."""
        return "lengths" in parameters(self.fn)

    def shares(self, G: int, settings: Mapping[str, float]) -> tuple[float, float] | None:
        """(c, d) with A_i = c r_i + d sum of the others' rewards, measured on groups; None where it is not linear like that.

        Then E[A_i given tau_i] = c r_i + (G - 1) d E[r], for any number of reward levels.

        >>> ADVANTAGES["group-mean"].shares(4, {}), ADVANTAGES["grpo"].shares(4, ADVANTAGES["grpo"].defaults)
        ((0.75, -0.25), None)
        """
        return _shares(self, G, tuple((name, settings[name]) for name in self.defaults))


@lru_cache(maxsize=256)
def _shares(advantage: Advantage, G: int, settings: tuple[tuple[str, float], ...]) -> tuple[float, float] | None:
    if not set(parameters(advantage.fn)) <= {"r", "n", "G", *advantage.defaults}:
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
        return "n" in parameters(self.fn)


@dataclass(frozen=True, eq=False)
class PolicyLoss(Part):
    """f, to be ascended, in log_pi; frozen quantities are separate parameters.

    level: "token"; "sequence", the log-probabilities of whole responses; "geometric", those divided by the length.  A term of the
    last two is one number a response, and a sum over tokens counts it once.
    """

    level: str = field(default="token", kw_only=True)
    kind = "loss"

    @cached_property
    def _values(self) -> tuple[Array, Array, Array]:
        """f at A = 1, 2 and -1 for some ratios: what its dependence on A is read from."""
        log_pi, log_old, log_now = -np.random.default_rng(0).exponential(1.0, (3, 64))
        at = {"log_pi": log_pi, "log_old": log_old, "log_now": log_now, **self.defaults}
        return tuple(np.asarray(self(A=np.full(64, a), **at)) for a in (1.0, 2.0, -1.0))  # type: ignore[return-value]

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


Kind = TypeVar("Kind", bound=Part)
ADVANTAGES: dict[str, Advantage] = {}
AGGREGATIONS: dict[str, Aggregation] = {}
LOSSES: dict[str, PolicyLoss] = {}


def register(table: dict[str, Kind], part: Kind) -> Kind:
    """Enter a record, refusing a second one of the same name."""
    if part.name in table:
        raise InputError(f"the {part.kind} must have a name of its own", got=quoted(part.name), remedy="choose another name")
    table[part.name] = part
    return part


def find(table: dict[str, Kind], part: str | Kind) -> Kind:
    """A record by name.  Raises InputError naming those that exist."""
    if isinstance(part, Part):
        return part
    if part not in table:
        kind = next(iter(table.values())).kind
        raise InputError(f"the {kind} must be in the registry", got=quoted(part), remedy=f"use one of {', '.join(table)}")
    return table[part]


@dataclass(frozen=True, eq=False)
class Recipe:
    """One way to turn a group into an update: an advantage, a policy loss, an aggregation, G, and changed settings.

    Raises: InputError for an unknown name or setting, a setting out of range, or a group too small for the advantage.

    >>> Recipe("grpo", G=4).settings["ddof"]
    0
    >>> Recipe("rloo", G=1)
    Traceback (most recent call last):
    tabular_rlhf.errors.InputError: the group must have at least 2 responses: rloo: got G = 1; a baseline from others needs others
    """

    advantage: Advantage
    loss: PolicyLoss
    aggregation: Aggregation
    G: int
    settings: Mapping[str, float]

    def __init__(
        self,
        advantage: str | Advantage = "rloo",
        loss: str | PolicyLoss = "reinforce",
        aggregation: str | Aggregation = "sequence-sum",
        *,
        G: int = 4,
        **changes: float,
    ) -> None:
        parts: tuple[Part, ...] = (find(ADVANTAGES, advantage), find(LOSSES, loss), find(AGGREGATIONS, aggregation))
        if not parts[1].homogeneous:  # type: ignore[attr-defined]
            must = "a policy loss must be positively homogeneous in A"
            raise InputError(must, got="f(2A) is not 2 f(A)", where=parts[1].name, remedy="leave constants and squares of A out")
        known = {name: value for part in parts for name, value in part.defaults.items()}
        for name, value in zip(("advantage", "loss", "aggregation"), parts, strict=True):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "G", _group_size(G, self.advantage))
        object.__setattr__(self, "settings", {**known, **_checked(changes, known)})

    @property
    def name(self) -> str:
        return f"{self.advantage.name}, {self.loss.name}, {self.aggregation.name}, G = {self.G}"


def _group_size(G: Any, advantage: Advantage) -> int:
    whole(G, "G", 1, "G counts the responses of one group", most=MOST)
    if advantage.smallest > G:
        must = f"the group must have at least {advantage.smallest} responses"
        raise InputError(must, got=f"G = {G}", where=advantage.name, remedy="a baseline from others needs others")
    return int(G)


def _checked(changes: Mapping[str, float], known: Mapping[str, float]) -> Mapping[str, float]:
    for name, value in changes.items():
        if name not in known:
            remedy = did_you_mean(name, known, f"use {', '.join(known) or 'none: there are no settings'}")
            raise InputError("a change must be of a setting", got=quoted(name), remedy=remedy)
        holds, must, remedy = RANGES[name]
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float | np.number)
            or not (np.isfinite(as_number(value)) and holds(float(value)))
        ):
            raise InputError(f"{name} must be {must}", got=quoted(value), remedy=remedy)
    return changes
