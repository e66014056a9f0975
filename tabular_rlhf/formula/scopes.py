r"""Where letters get their arrays: a scope with some symbols replaced, and whatever is computed from them following.

A derivative in a symbol is a derivative through this: the symbol is replaced by a traced array, and all that depends on it is
computed anew from it, the Gibbs optimum among the rest (by the formulas of `FREE`, because a solver takes no traced numbers).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from tabular_rlhf.autodiff import Traced
from tabular_rlhf.errors import InputError
from tabular_rlhf.logspace import logsumexp
from tabular_rlhf.symbols import SYMBOLS, parameters

FREE: Mapping[str, Callable[..., Any]] = {
    "log_Z": lambda log_p_ref, r, beta: logsumexp(log_p_ref + r / beta),
    "value": lambda beta, log_Z: beta * log_Z,
    "log_p_star": lambda log_p_ref, r, beta, log_Z: log_p_ref + r / beta - log_Z[:, None],
    "p": lambda log_p: np.exp(log_p),
    "world": lambda beta, r, log_pi_ref: None,
}
"""How a symbol depends on others where its own function hides it in a solver; of the world only that it does."""


def needs(name: str) -> tuple[str, ...]:
    """The symbols that one is computed from."""
    if name in FREE:
        return parameters(FREE[name])
    return () if name in GIVEN or name not in SYMBOLS else parameters(SYMBOLS[name].compute)


GIVEN = ("beta", "r", "log_pi_ref", "mu", "mdp", "log_p_ref", "log_pi_behavior", "log_p_held")
"""What depends on nothing; the behavior policy, which is drawn near pi, does not move with it: it is the one that the data are of."""


@lru_cache(maxsize=4096)
def depends(name: str, on: str) -> bool:
    """Whether one symbol is computed from another, through however many steps.

    >>> depends("p", "logits"), depends("p_star", "beta"), depends("p_ref", "logits")
    (True, True, False)
    """
    return any(need == on or depends(need, on) for need in needs(name))


class Varied:
    """A scope in which some names have other values: {"logits": traced}, {"r_phi": a table}."""

    def __init__(self, base: Any, values: Mapping[str, Any]) -> None:
        self.base, self.values, self.known = base, dict(values), dict[str, Any]()

    def __getitem__(self, name: str) -> Any:
        if name in self.values:
            return self.values[name]
        if name not in SYMBOLS or not any(depends(name, on) for on in self.values):
            return self.base[name]
        if name not in self.known:
            self.known[name] = self.computed(name)
        return self.known[name]

    def computed(self, name: str) -> Any:
        if name in FREE:
            return FREE[name](*(self[need] for need in parameters(FREE[name])))
        compute = SYMBOLS[name].compute
        return compute(*(self.stream(need, name) for need in parameters(compute)))

    def stream(self, need: str, name: str) -> Any:
        if need == "rng":
            return self.random(name)
        return self.world if need == "world" else self[need]

    def random(self, name: str) -> Any:
        """The generator that a symbol is drawn with, of the scope at the bottom."""
        return self.base.random(name) if isinstance(self.base, Varied) else self.base.stream(name)

    @property
    def world(self) -> Any:
        """The world with another reward or KL weight; what is solved for has no derivative but by `FREE`."""
        world = self.base.world
        for name, value in self.values.items():
            if name not in ("beta", "r"):
                continue
            if type(value) is Traced:
                remedy = "write what it is: log Z, p^* and V(x) have one"
                raise InputError("a derivative must be of what is written", got=f"a solver that depends on {name}", remedy=remedy)
            world = world.at(value) if name == "beta" else world.with_reward(value)
        return world
