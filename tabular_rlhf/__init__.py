r"""tabular_rlhf: the exact laboratory for reinforcement learning from human feedback.

A world gives a token MDP, a reference policy and a reward.  Enumerate every response.  Gibbs is the answer.  Losses and
estimators put noise on everything; the ledger checks that it all adds up; figures and notebooks show it.

>>> import numpy as np
>>> import tabular_rlhf as tr
>>> g = tr.solve(tr.coin(beta=1.0))      # two responses, heads rewarded by 1
>>> round(float(g.p[0, 1]), 6)           # p*(heads) = sigma(1/beta)
0.731059
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from tabular_rlhf import door  # noqa: F401 (before what takes its time)
from tabular_rlhf.errors import InputError, SolveError
from tabular_rlhf.gibbs import Gibbs, objective, regret, soft_bellman, solve
from tabular_rlhf.logspace import expect, kl, log_sigmoid, log_softmax, logsumexp, soft_value
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.policy import LogLinear, NGram, Tabular
from tabular_rlhf.preference_worlds import blind_spot, cycle, length_trap, sure_thing
from tabular_rlhf.world import World, coin, fork, long_tail, named_world, random_world, rational, zen_world

if TYPE_CHECKING:
    from tabular_rlhf.autodiff import check_grad, grad, hessian, hvp, jacobian, value_and_grad, vjp
    from tabular_rlhf.sampling import Estimate, Trajectories, estimate, population, sample

__version__ = "0.1.0"
__all__ = [
    "Estimate",
    "Gibbs",
    "InputError",
    "LogLinear",
    "NGram",
    "SolveError",
    "Tabular",
    "TokenMDP",
    "Trajectories",
    "World",
    "blind_spot",
    "check_grad",
    "coin",
    "cycle",
    "estimate",
    "expect",
    "fork",
    "grad",
    "hessian",
    "hvp",
    "jacobian",
    "kl",
    "length_trap",
    "log_sigmoid",
    "log_softmax",
    "logsumexp",
    "long_tail",
    "named_world",
    "objective",
    "population",
    "random_world",
    "rational",
    "regret",
    "sample",
    "soft_bellman",
    "soft_value",
    "solve",
    "sure_thing",
    "value_and_grad",
    "vjp",
    "zen_world",
]

if not TYPE_CHECKING:
    _LATER = {
        **dict.fromkeys(("check_grad", "grad", "hessian", "hvp", "jacobian", "value_and_grad", "vjp"), "autodiff"),
        **dict.fromkeys(("Estimate", "Trajectories", "estimate", "population", "sample"), "sampling"),
    }

    def __getattr__(name: str) -> Any:
        """What exact answers do not need, gradients and samples, is opened when it is first asked for."""
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"tabular_rlhf.{_LATER[name]}"), name)

    def __dir__() -> list[str]:
        return [*globals(), *_LATER]


if (_shell := getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()) is not None:  # a notebook: `%%derive` is known there
    importlib.import_module("tabular_rlhf.derivations.cell").enter(_shell)
