"""Symbols of chapter 2: a learner on the full tree of V tokens and depth H, who slips off an expert's one path with probability eps."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.policy import uniform
from tabular_rlhf.symbols.table import symbol

symbol("full_tree", "the tree of V tokens and depth H, without EOS", "TokenMDP")(lambda V, H: TokenMDP(V, H))
symbol("depth", "tokens that lead to a state of the full tree", "(S_H,)", level="token")(
    lambda full_tree: np.repeat(np.arange(full_tree.H), np.diff(full_tree.offsets))
)
symbol("d_expert", "1 for the states of the expert, who always says token 0", "(S_H,)", "probability", level="token")(
    lambda full_tree: np.isin(np.arange(full_tree.S), full_tree.offsets[:-1]).astype(float)
)


@symbol("d_learner", "probability that the learner passes through a state", "(S_H,)", "probability", level="token")
def _d_learner(full_tree: TokenMDP, d_expert: Any, eps: float) -> Any:
    V, on_path = full_tree.V, d_expert > 0
    pi = np.exp(uniform(full_tree))
    pi[:, on_path, 0], pi[:, on_path, 1:] = 1.0 - eps, eps / max(V - 1, 1)
    with np.errstate(divide="ignore"):
        return np.exp(full_tree.prefix_sum(np.log(pi)))[0]


symbol("c_learner", "probability that the learner errs in a state: eps on the expert's path, 1 off it", "(S_H,)", level="token")(
    lambda d_expert, eps: np.where(d_expert > 0, eps, 1.0)
)
