r"""What a direct alignment loss is: its equation twice, its slope, its traits, and what it is the loss *of*.

**Symbols.**  For one pair: p, q = log pi(y_w), log pi(y_l), sums over tokens; a = p - log pi_ref(y_w), b = q - log pi_ref(y_l);
D = a - b, the margin in nats; len_w, len_l token counts, EOS counted; beta the world's KL weight, tau the same where a paper
writes tau.  Anything else is a parameter with a default.

A record gives `fn`, vectorised plain NumPy that asks for what it needs *by name* and is differentiated by the gradient core,
and `oracle`, the same equation in plain `math` for one pair, written from the paper and not from `fn`.

**Frozen quantities.**  Some papers weigh a pair by the policy itself and do not differentiate that (KTO's z0, WPO's weights).
Here such a quantity is a parameter of `fn` with a rule that computes it from the policy, so a finite difference at fixed
parameters is a valid witness of the gradient.  `p0`, `q0` are the frozen p and q.

**Not here.**  LD-DPO (Liu et al. 2024, arXiv:2409.06411) weighs by alpha the log-probabilities of tokens beyond the length of the
shorter response: no function of sums over whole responses, but of the masses of prefixes, which a table log p spreads over many rows.

**Kinks.**  A loss with a corner asks for `width`: 0 is the paper's loss; with a positive width corners are rounded so that the
loss rises by at most width log 2 a corner, which is how its optimum is found (`optimum`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from tabular_rlhf.logspace import Array
from tabular_rlhf.registry import Equation, Registry, entered, no_oracle, one_of, settle
from tabular_rlhf.world import World

TRAITS: Mapping[str, str] = MappingProxyType(
    {
        "shift-invariant": "unchanged when the log-ratios of both responses move by the same amount, so log Z cancels",
        "convex": "convex in (log pi(y_w), log pi(y_l)), so every local minimum over log-ratios is global",
        "saturates": "lets go of a loser that is already improbable: the slope in log pi(y_l) vanishes as it falls",
        "bounded-below": "cannot fall for ever, whatever the margin",
        "bounded": "lies between two numbers, whatever the margin",
        "prefers-winner": "its first step from the reference raises the margin",
        "finite-under-certainty": "has a minimizer inside the simplex when one response always wins, for every beta",
        "recovers-gibbs": "has the Gibbs optimum as its population optimum under Bradley-Terry labels",
        "reference-free": "does not look at the reference policy",
        "length-normalized": "looks at the lengths of the responses",
    }
)
"""The closed vocabulary of traits.  `traits.measure` tests each of them; a trait that is not claimed must fail somewhere."""

GIVEN = ("a", "b", "p", "q", "len_w", "len_l", "p0", "q0", "beta", "tau", "width")
"""What every loss may ask for by name."""

Settings = Mapping[str, Any]
Frozen = Callable[..., float]
"""(world, log_p, pairs, settings) -> the value of a frozen parameter at a policy."""
Rescale = Callable[[Array, Array, Array], Array]
"""(log p or scores, log p_ref, lengths) of one prompt, (N,) each -> the other."""
Optimum = Callable[[World, Settings], "Array | None"]
"""(world, settings) -> log p (P, N) of the population optimum under Bradley-Terry labels, responses drawn from p_ref; None where
the closed form does not reach."""


@dataclass(frozen=True)
class Scores:
    """A loss of the difference of two scores s(y), which rise with log p(y): its minimizers are those of `base` in s, made a distribution.

    base, the loss as a function of a = s(y_w) and b = s(y_l) alone; of, (log p, log p_ref, lengths) -> s; law, (s, log p_ref, lengths) ->
    log p: the one distribution whose scores are s up to a constant.
    """

    base: Callable[..., Any]
    of: Rescale
    law: Rescale


@dataclass(frozen=True, eq=False)
class DirectLoss(Equation):
    """One loss: the equation of one pair, and what is known of it.

    traits; slope, dL/dD by hand where the loss depends on the margin alone; frozen, rules for parameters that depend on the policy;
    kinks, margins or log-ratios at a corner, in words; optimum, the closed form of the population optimum where one is known;
    scores, where the loss is one of their difference, perhaps by settings; variant_of, the paper form of which this is a variant.
    All that it claims is tested by `traits.faults`.

    >>> from tabular_rlhf.losses import LOSSES
    >>> dpo = LOSSES["dpo"]; round(dpo.oracle(a=0.0, b=0.0, beta=1.0), 6), sorted(dpo.needs)
    (0.693147, ['a', 'b', 'beta'])
    """

    traits: frozenset[str] = frozenset()
    slope: Callable[..., Any] | None = None
    frozen: Mapping[str, Frozen] = field(default_factory=dict)
    kinks: str = ""
    optimum: Optimum | None = None
    scores: Scores | Callable[[Settings], Scores] | None = None
    variant_of: str = ""
    kind = "loss"

    def __post_init__(self) -> None:
        super().__post_init__()
        settle(self, traits=frozenset(self.traits))
        unknown = sorted(self.traits - TRAITS.keys())
        self.require(not unknown, "traits must be of the vocabulary", unknown, f"use some of {', '.join(TRAITS)}")

    @property
    def given(self) -> tuple[str, ...]:
        return (*GIVEN, "D", *self.frozen)

    @property
    def equations(self) -> tuple[Callable[..., Any], ...]:
        by_hand = (self.slope,) if self.slope is not None else ()
        return (self.fn, *([] if self.oracle is no_oracle else [self.oracle]), *by_hand)

    def has(self, name: str) -> bool:
        """Whether a parameter is one of this loss's."""
        return name in {"beta", "tau", "width", *self.defaults, *self.frozen}

    def scores_at(self, s: Settings) -> Scores | None:
        """The scores at these settings."""
        return self.scores if self.scores is None or isinstance(self.scores, Scores) else self.scores(s)

    def settings(self, beta: float, /, **changes: float) -> dict[str, Any]:
        """Parameters by name: beta and tau of the world, the paper's defaults, then `changes`.

        Raises: InputError for a change of what is no parameter of this loss.
        """
        known = {"beta": beta, "tau": beta, "width": 0.0, **self.defaults}
        for name in changes:
            one_of([*known, *self.frozen], name, "a change must be of a parameter", where=self.name)
        return {**known, **changes}


LOSSES: Registry[DirectLoss] = Registry("loss")
find = LOSSES.find


def register(loss: DirectLoss) -> DirectLoss:
    """Enter a loss into the registry, refusing a second one of the same name, and a variant of none.

    >>> from tabular_rlhf.losses import LOSSES
    >>> register(LOSSES["dpo"])
    Traceback (most recent call last):
    tabular_rlhf.errors.InputError: the loss must have a name of its own: got 'dpo'; choose another name
    """
    if loss.variant_of:
        one_of(LOSSES, loss.variant_of, "a variant must name a registered loss", where=loss.name, remedy="register that first")
    return LOSSES.add(loss)


direct = entered(DirectLoss, register)
"""A loss, made and entered."""


def corner(x: Any, width: float) -> Any:
    """max(0, x), its corner rounded over `width`: width log(1 + e^{x/width}), above max(0, x) by at most width log 2."""
    return np.maximum(0.0, x) if width == 0.0 else width * np.logaddexp(0.0, x / width)
