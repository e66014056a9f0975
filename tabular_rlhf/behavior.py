r"""Who samples, and who is updated: the three policies of a step.

**Symbols.**  pi, the *live* policy that is updated; pi_old, the one that ratios are taken to, which the trainer believes to have sampled;
q, the *sampler*, who did.  On policy all are one.  An inference engine at temperature T, of the likeliest tokens with mass top_p, is

    q(a given s)  proportional to  pi_old(a given s)^{1/T}  on the smallest set of likeliest tokens with mass top_p,

so that q follows pi_old, and pi_old the live policy unless it is another one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tabular_rlhf.errors import InputError, as_number, positive
from tabular_rlhf.logspace import Array, log_softmax
from tabular_rlhf.told import number


class Policies(NamedTuple):
    """log pi of the live policy, of the old one, and of the sampler: (P, S, V) each."""

    live: Array
    old: Array
    sampler: Array


@dataclass(frozen=True, eq=False)
class Behavior:
    """How the sampler comes from the old policy.  log_pi (P, S, V): another policy than the old one, before temperature and top_p.

    Raises: InputError for a temperature that is not positive, or a top_p outside (0, 1].

    >>> np.exp(Behavior(temperature=0.5).of(np.log([[0.8, 0.2]]))).round(4).tolist()
    [[0.9412, 0.0588]]
    """

    temperature: float = 1.0
    top_p: float = 1.0
    log_pi: Array | None = None

    def __post_init__(self) -> None:
        positive(self.temperature, "the sampler's temperature", "units of the policy's own: 1 samples as it says")
        if not 0.0 < as_number(self.top_p) <= 1.0:
            raise InputError("top_p must be above 0 and at most 1", got=self.top_p, remedy="1 keeps every token")

    @property
    def plain(self) -> bool:
        """Whether the sampler is the old policy itself."""
        return self.log_pi is None and self.temperature == 1.0 and self.top_p == 1.0

    def of(self, log_old: Array) -> Array:
        """log q, (P, S, V)."""
        base = log_old if self.log_pi is None else self.log_pi
        return nucleus(base if self.temperature == 1.0 else np.asarray(log_softmax(base / self.temperature)), self.top_p)


def nucleus(log_pi: Array, top_p: float) -> Array:
    """The policy that says only the likeliest tokens of each state, as few as have `top_p` of its mass.

    >>> np.exp(nucleus(np.log([[0.5, 0.3, 0.2]]), 0.6)).round(4).tolist()
    [[0.625, 0.375, 0.0]]
    """
    if top_p >= 1.0:
        return log_pi
    order = np.argsort(-log_pi, axis=-1, kind="stable")
    p = np.take_along_axis(np.exp(log_pi), order, axis=-1)
    kept = np.cumsum(p, axis=-1) - p < top_p * (1.0 - 1e-12)  # the first is always kept
    there = np.take_along_axis(kept, np.argsort(order, axis=-1), axis=-1)
    return np.asarray(log_softmax(np.where(there, log_pi, -np.inf)))


def drawn_how(temperature: float, top_p: float) -> str:
    """In words, what a sampler does to the policy; "" for nothing.

    >>> drawn_how(0.7, 0.9), drawn_how(1.0, 1.0)
    ('temperature 0.7, top-p 0.9', '')
    """
    of = (("temperature", temperature), ("top-p", top_p))
    return ", ".join(f"{name} {number(x)}" for name, x in of if x != 1)
