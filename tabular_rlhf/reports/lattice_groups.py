r"""Groups of G on a world that is not listed: what advantages credit to each reward, from the law of the reward alone.

    RLOO  E[A_1 given r_1 = x] = x - E[r],      the group's mean  (G - 1)/G of it,      GRPO  `lattice.law.group_advantage`;

silent groups, those of equal rewards, have probability sum_k q_k^G.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tabular_rlhf.lattice import LatticeWorld, Reference, solve
from tabular_rlhf.lattice.law import group_advantage, reward_law
from tabular_rlhf.logspace import Array
from tabular_rlhf.reports.solution import Record

SCHEMA = "tabular-rlhf/advantage-lattice/1"
VANISHING = 1e-12
"""Levels of less probability are left out of GRPO's groups, where they would only cost time."""


def report(world: LatticeWorld, names: list[str], G: int, settings: Mapping[str, float], old: str) -> Record:
    """The advantages by name, level of reward by level.

    Args: names among rloo, group-mean, grpo; settings, ddof and epsilon of grpo; old, who draws: "reference" or "optimum".
    Raises: InputError where rewards have no common step.
    """
    policy = Reference(world) if old == "reference" else solve(world)
    law = reward_law(policy)
    rows = []
    for x, q in enumerate(law.p):
        kept = q > VANISHING
        r, p = law.r[kept], q[kept] / np.sum(q[kept])
        credit = {name: credits(name, r, p, G, settings) for name in names}
        pull = {name: float(np.sum(p * a * r)) for name, a in credit.items()}
        levels = [{"r": float(r[k]), "p": float(p[k]), **{name: float(a[k]) for name, a in credit.items()}} for k in range(len(r))]
        told = {"prompt": world.language.prompts[x], "mu": float(world.mu[x]), "reward": float(np.sum(p * r))}
        rows.append({**told, "silent": float(np.sum(q**G)), "covariance": pull, "levels": levels})
    silent = float(np.sum(world.mu * np.array([row["silent"] for row in rows])))
    head = {"world": world.name, "responses": world.responses, "group": G, "old": old, "silent": silent}
    return {"schema": SCHEMA, **head, "prompts": rows}


def credits(name: str, r: Array, p: Array, G: int, settings: Mapping[str, float]) -> Array:
    """E[A_1 given r_1 = r_k] in a group of G: (K,)."""
    if name == "grpo":
        return group_advantage(r, p, G, **settings)
    centered: Array = r - np.sum(p * r)
    return centered if name == "rloo" else (G - 1) / G * centered
