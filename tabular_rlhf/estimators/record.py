r"""KL estimators, placements and the flags made of them: what "my KL flag" is, as records.

**Symbols.**  L = log(pi/pi_ref), of a token or of a whole response, in nats; u = e^L.  An estimator is a function h(L), equal to
0 at L = 0, that is averaged over samples.  A *flag* is an estimator, where it is placed, and how it is added up:

    g(tau) = w(tau) h(tau),     w = p_pi/p_old, the importance ratio (1 on samples of one's own);

    placement   what is live (differentiated)     its expected gradient on one's own samples
    loss        h                                 E[h'(L) score]
    reward      w                                 E[h(L) score]
    ratio       w and h                           the sum of the two, by the product rule

Nothing is stopped: what is not live is computed from a policy that is a separate argument (`evaluate`).

**Terms.**  Each record names what its h descends in the loss (`path`) and what its mean is (`mean`), as sums of divergences
of the table TERMS; `theorem` derives every other placement from these two.

Sources: Schulman (2020), Approximating KL divergence, joschu.net/blog/kl-approx.html; Tang and Munos (2025),
arXiv:2506.09477 (gradients); Shao et al. (2024), arXiv:2402.03300 (k3 in the loss); Amini et al. (2025), arXiv:2504.10637.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from tabular_rlhf.errors import InputError, positive
from tabular_rlhf.registry import Registry, no_oracle, one_of

Terms = Mapping[str, float]

TERMS: Mapping[str, Callable[[Any], Any]] = {
    "mass": lambda u: u - 1.0,
    "KL(pi, ref)": lambda u: u * np.log(u) - u + 1.0,
    "KL(ref, pi)": lambda u: u - 1.0 - np.log(u),
    "2 TV": lambda u: np.abs(u - 1.0),
    "chi2/2": lambda u: 0.5 * np.square(u - 1.0),
    "E[k2]": lambda u: 0.5 * u * np.square(np.log(u)),
    "E|L|": lambda u: u * np.abs(np.log(u)),
}
"""f(u) of the divergences D_f = E_ref[f(pi/ref)] of which flags are made; all have f(1) = 0.
"mass" is total mass less one: 0 for distributions, but not once responses are weighed by length, or L is clamped."""


UNCLAIMED: Terms = MappingProxyType({})
"""The path or the mean of an estimator of which nobody says what it is."""


@dataclass(frozen=True, eq=False)
class Estimator:
    """One estimator.

    h, slope: h(L) and h'(L), vectorised; oracle: the same h in plain `math`; path, mean: what h descends in the loss, and its
    mean over pi, as sums of TERMS; tangent: the estimator whose gradient it has instead of its own (straight-through);
    per_state: the exact KL of every state visited, not a function of L; rounded: for a slope that jumps, the slope with its
    corner rounded over a width, which is what a flow can follow.

    >>> k3 = ESTIMATORS["k3"]; round(float(k3.h(np.log(2.0))), 6), k3.path
    (0.193147, {'KL(ref, pi)': 1.0})
    """

    name: str
    latex: str
    source: str
    h: Callable[[Any], Any]
    slope: Callable[[Any], Any]
    oracle: Callable[[float], float] = no_oracle
    path: Terms = field(default_factory=lambda: UNCLAIMED)
    mean: Terms = field(default_factory=lambda: UNCLAIMED)
    tangent: Estimator | None = None
    per_state: bool = False
    rounded: Callable[[Any, float], Any] | None = None

    def __post_init__(self) -> None:
        unknown = sorted({*self.path, *self.mean} - TERMS.keys())
        if unknown or not self.source or not self.latex:
            remedy = f"use {', '.join(TERMS)}, and cite the source"
            raise InputError(
                "an estimator must be cited and made of known terms", got=unknown or "no source", where=self.name, remedy=remedy
            )

    @property
    def differentiated(self) -> Estimator:
        """The estimator whose slope it has: itself, or its tangent."""
        return self.tangent or self

    def value(self, L: Any, L_0: Any) -> Any:
        """h at the live L; a straight-through one is h(L_0) with the slope of its tangent."""
        return self.h(L) if self.tangent is None else self.tangent.h(L) - self.tangent.h(L_0) + self.h(L_0)


SCHULMAN = "Schulman (2020), Approximating KL divergence."
_K1 = Estimator("k1", "L", SCHULMAN, lambda L: L, lambda L: np.ones_like(L), lambda L: L, {"mass": 1.0}, {"KL(pi, ref)": 1.0, "mass": 1.0})
_K2 = Estimator(
    "k2", "L^2/2", SCHULMAN, lambda L: 0.5 * np.square(L), lambda L: L, lambda L: L * L / 2, {"KL(pi, ref)": 1.0}, {"E[k2]": 1.0}
)
_K3 = Estimator(
    "k3",
    "e^{-L} - 1 + L",
    SCHULMAN,
    lambda L: np.expm1(-L) + L,
    lambda L: -np.expm1(-L),
    lambda L: math.exp(-L) - 1 + L,
    {"KL(ref, pi)": 1.0},
    {"KL(pi, ref)": 1.0},
)
_ABS = Estimator(
    "abs",
    "|L|",
    "Common in trainers; total variation.",
    np.abs,
    np.sign,
    lambda L: max(L, -L),
    {"2 TV": 1.0},
    {"E|L|": 1.0},
    rounded=lambda L, width: np.tanh(L / width),
)
_INVERTED = Estimator(
    "k3-inverted",
    "e^L - 1 - L",
    "k3 with its ratio upside down.",
    lambda L: np.expm1(L) - L,
    np.expm1,
    lambda L: math.exp(L) - 1 - L,
    {"chi2/2": 1.0},
    {"chi2/2": 2.0, "KL(pi, ref)": -1.0},
)


def straight_through(value: Estimator, tangent: Estimator) -> Estimator:
    """The value of one estimator with the gradient of another."""
    latex = rf"{value.latex} \ (\nabla: {tangent.latex})"
    name = f"{value.name}-straight-through"
    source = "verl (2025), whose names are k1+ and k3+."
    return Estimator(name, latex, source, value.h, tangent.slope, value.oracle, value.path, value.mean, tangent, rounded=tangent.rounded)


_FULL = Estimator(
    "full",
    r"\mathrm{KL}(\pi(\cdot \mid s), \pi_{ref}(\cdot \mid s))",
    "Amini et al. (2025), arXiv:2504.10637 (Rao-Blackwell).",
    lambda L: L,
    lambda L: np.ones_like(L),
    lambda L: L,
    {"KL(pi, ref)": 1.0},
    {"KL(pi, ref)": 1.0},
    per_state=True,
)
ESTIMATORS: Registry[Estimator] = Registry("estimator")
for _estimator in (_K1, _K2, _K3, _ABS, _INVERTED, straight_through(_K1, _K2), straight_through(_K3, _K2), _FULL):
    ESTIMATORS.add(_estimator)
find = ESTIMATORS.find


@dataclass(frozen=True)
class Placement:
    """Where an estimator stands: which factor of w h is differentiated."""

    name: str
    value_live: bool
    weight_live: bool
    meaning: str


PLACEMENTS: Mapping[str, Placement] = {
    p.name: p
    for p in (
        Placement("loss", True, False, "added to the loss and differentiated, the samples held"),
        Placement("reward", False, True, "subtracted from the reward, detached; the policy gradient does the rest"),
        Placement("ratio", True, True, "in the loss times a live ratio pi/pi_old, so that both are differentiated"),
    )
}
RATIOS: Mapping[str, str] = {
    "none": "samples of pi_old are taken as they are",
    "token": "every token weighed by its own ratio",
    "decision": "every token weighed by the product of ratios up to it",
    "sequence": "every response weighed by its whole ratio",
}
LEVELS: Mapping[str, str] = {"sequence": "h of the response's L", "token": "h of every token's L, added up"}
AGGREGATES: Mapping[str, str] = {"sum": "over tokens", "mean": "divided by the response's length"}
CLAMPS: Mapping[str, str] = {"input": "L is clipped to [-c, c] before h", "output": "h is clipped to [-c, c]"}


@dataclass(frozen=True, eq=False)
class Flag:
    """One KL flag.

    Args: estimator, a registered name or a record; placement; level, sequence or token; aggregate, sum or mean; ratio; clamps,
    in nats.  Raises: InputError for what does not exist or cannot go together.

    >>> Flag("k3", "loss").label, Flag("k3", "loss", level="token", aggregate="mean", clamps={"output": 10.0}).label
    ('k3 loss', 'k3 loss token mean output<10')
    """

    estimator: str | Estimator
    placement: str
    level: str = "sequence"
    aggregate: str = "sum"
    ratio: str = "sequence"
    clamps: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _ = find(self.estimator)  # an unknown name first, then names that do not go together
        for value, known, what in (
            (self.placement, PLACEMENTS, "placement"),
            (self.level, LEVELS, "level"),
            (self.aggregate, AGGREGATES, "aggregate"),
            (self.ratio, RATIOS, "ratio"),
        ):
            one_of(known, value, f"the {what} must be a known one")
        for name, c in self.clamps.items():
            one_of(CLAMPS, name, "the clamp must be a known one")
            positive(c, f"clamp {name!r}", "nats")
        self._refuse_contradictions()

    def _refuse_contradictions(self) -> None:
        def require(holds: bool, must: str, got: str, remedy: str) -> None:
            if not holds:
                raise InputError(must, got=got, where=f"flag {self.label!r}", remedy=remedy)

        require(
            self.level == "token" or not self.record.per_state,
            "the full KL of a state is a token-level estimator",
            f"level {self.level!r}",
            "use level='token'; a response has no next token to sum over",
        )
        require(
            "input" not in self.clamps or not self.record.per_state,
            "an input clamp must have a sampled L to clip",
            "the exact KL of a state",
            "clamp the output, or choose a sampled estimator",
        )
        require(
            self.level == "token" or self.ratio in ("none", "sequence"),
            "one number a response must be weighed by one ratio",
            f"ratio {self.ratio!r}",
            "use ratio='sequence', or level='token'",
        )
        require(
            self.ratio != "none" or not self.place.weight_live,
            "a live ratio must exist to be differentiated",
            "ratio 'none'",
            "use ratio='sequence', or placement='loss'",
        )

    @property
    def record(self) -> Estimator:
        return find(self.estimator)

    @property
    def name(self) -> str:
        """The estimator's name."""
        return self.record.name

    @property
    def place(self) -> Placement:
        return PLACEMENTS[self.placement]

    @property
    def label(self) -> str:
        """The flag in a few words; what is usual is left out."""
        parts = [self.name, self.placement]
        parts += ["token"] if self.level == "token" else []
        parts += ["mean"] if self.aggregate == "mean" else []
        parts += [f"per-{self.ratio}"] if self.ratio != "sequence" else []
        return " ".join([*parts, *(f"{name}<{c:g}" for name, c in self.clamps.items())])


def flags(estimator: str | Estimator | None = None, placement: str | None = None, level: str = "sequence", **settings: Any) -> list[Flag]:
    """The table's flags: every estimator in every placement, or those asked for; `full` always by tokens.

    >>> len(flags()), [f.label for f in flags("k1", level="token")]
    (24, ['k1 loss token', 'k1 reward token', 'k1 ratio token'])
    """
    asked = list(ESTIMATORS) if estimator is None else [estimator]
    places = list(PLACEMENTS) if placement is None else [placement]
    return [Flag(e, p, "token" if find(e).per_state else level, **settings) for e in asked for p in places]
