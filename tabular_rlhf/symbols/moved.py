r"""Symbols of chapter 10: what group methods pull at, a sampler that is another one, truncation, a critic, people who are a mixture.

A *pull* is a number for each response, (P, N): the expected update is the sum of pull times score.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.policy_gradient import estimates
from tabular_rlhf.policy_gradient.bernstein import by_table, pull
from tabular_rlhf.symbols.table import symbol

# ---------------------------------------------------------------------------------------------------- groups

for _k in range(3):
    symbol(f"credit_{_k}", f"number {_k} of a table of advantages A(m) = c_0 + c_1 m + c_2 m^2", "scalar")(
        lambda rng: float(rng.choice([-2.0, -1.0, 0.5, 1.0, 1.5, 3.0]))
    )
symbol("tries", "k of pass@k: at most G", "int")(lambda G, rng: int(rng.integers(1, G + 1)))


@symbol("group_pull", "pull of groups with the table A(m) on 0/1 rewards", "(P, N)")
def _group_pull(p: Any, success: Any, G: int, credit_0: float, credit_1: float, credit_2: float) -> Any:
    return pull(p, success, G, by_table(lambda m: credit_0 + credit_1 * m + credit_2 * m**2))


symbol("rloo_pull", "pull of groups with the reward less the mean of the others", "(P, N)")(
    lambda p, r, G: pull(p, r, G, lambda x: (x - np.mean(x, axis=1, keepdims=True)) * G / (G - 1))
)
symbol("centered_pull", "pull of groups with the reward less the group's mean", "(P, N)")(
    lambda p, r, G: pull(p, r, G, lambda x: x - np.mean(x, axis=1, keepdims=True))
)
symbol("grpo_pull", "pull of groups with the 0/1 reward less the group's mean, over its standard deviation", "(P, N)")(
    lambda p, success, G: pull(p, success, G, by_table(lambda m: np.sqrt((G - m) / m)))
)
for _name, _words in (
    ("raw", "1/m for each of the m right responses, nothing where there is none"),
    ("kept", "the same, minus the mean score, in all groups"),
    ("dropped", "the same, minus the mean score, where there is a right response"),
):
    symbol(f"maxrl_{_name}", f"pull of groups, MaxRL: {_words}", "(P, N)")(
        {
            "raw": lambda p, success, G: pull(p, success, G, estimates.over_mean),
            "kept": lambda p, success, G: pull(p, success, G, lambda x: estimates.over_mean(x) - 1.0),
            "dropped": lambda p, success, G: pull(p, success, G, lambda x: estimates.over_mean(x) - np.any(x > 0, axis=1, keepdims=True)),
        }[_name]
    )
symbol("pass_pull", "pull of groups with a share of every k members that hold a right one", "(P, N)")(
    lambda p, success, G, tries: pull(p, success, G, lambda x: G * estimates.subset_shares(x, tries))
)
symbol("pass_centered_pull", "the same, less the group's mean share", "(P, N)")(
    lambda p, success, G, tries: pull(
        p, success, G, lambda x: G * (estimates.subset_shares(x, tries) - np.mean(estimates.subset_shares(x, tries), axis=1, keepdims=True))
    )
)
symbol("redrawn_pull", "pull of RLOO groups, each redrawn for its prompt until it is mixed", "(P, N)")(
    lambda p, success, G: estimates.redrawn(p, success, G)
)
symbol("filled_pull", "pull of RLOO groups, silent ones replaced by groups of other prompts; weighted by the prompts", "(P, N)")(
    lambda mu, p, success, G: estimates.filled(mu, p, success, G)
)
symbol("surviving_pull", "pull of a batch of two RLOO groups, averaged over those that are mixed; weighted by the prompts", "(P, N)")(
    lambda mu, p, success, G: estimates.surviving(mu, p, success, G)
)
