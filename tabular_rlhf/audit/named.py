r"""The named gradients that a step is regressed on: those of `fields`, and what trainers descend token by token with samples held.

A penalty h of each sampled token, differentiated where it stands, has the expected gradient

    sum over (s, a) of m(s, a) grad h(log pi/pi_ref),     m(s, a) = E[omega 1{(s, a) is said}] held,    omega = 1 or 1/L,

which for omega = 1 is that of a divergence of every state at held visits: k2 that of KL(pi, ref), k3 that of KL(ref, pi).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tabular_rlhf.estimators.record import ESTIMATORS
from tabular_rlhf.fields import Case, Objective, objectives
from tabular_rlhf.logspace import log_softmax

HELD: Mapping[str, str] = {"k2": "KL(pi, ref) at held visits", "k3": "KL(ref, pi) at held visits", "abs": "2 TV at held visits"}


def named(case: Case, G: int) -> dict[str, Objective]:
    """The named objectives of a case, plainest first.

    >>> from tabular_rlhf.world import rational
    >>> len(named(Case(rational(), rational().log_ref), 4))
    22
    """
    world, mdp = case.world, case.world.mdp
    p = world.mu[:, None] * np.exp(mdp.path_sum(log_softmax(case.logits)))
    ref = world.log_ref

    def penalty(h: Any, m: Any) -> Objective:
        return lambda log_pi: np.sum(m * h(log_pi - ref))

    found = objectives(case, G)
    masses = {"": mdp.subtree_sum(p), "/L": mdp.subtree_sum(p / mdp.lengths)}
    for name, words in HELD.items():
        found[words] = penalty(ESTIMATORS[name].h, masses[""])
        found[f"E[sum {name}/L] held"] = penalty(ESTIMATORS[name].h, masses["/L"])
    found["chi2/2 at held visits"] = penalty(ESTIMATORS["k3-inverted"].h, masses[""])
    found["E[sum k1/L] held"] = penalty(ESTIMATORS["k1"].h, masses["/L"])
    d = np.sum(masses[""], axis=-1, keepdims=True)
    found["H of tokens at held visits"] = lambda log_pi: -np.sum(d * np.exp(log_pi) * log_pi)
    return found
