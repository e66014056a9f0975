"""The recipes that a name stands for: a part of an update, with what it is shown beside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tabular_rlhf.policy_gradient import ADVANTAGES, AGGREGATIONS, BATCHES, CORRECTIONS, LOSSES, Recipe
from tabular_rlhf.policy_gradient.record import Advantage, Aggregation, Part
from tabular_rlhf.registry import one_of
from tabular_rlhf.told import parts

TABLES: tuple[Mapping[str, Part], ...] = (ADVANTAGES, AGGREGATIONS, LOSSES, CORRECTIONS, BATCHES)
NAMES = [name for table in TABLES for name in table]
KNOWN = list(dict.fromkeys(key for table in TABLES for part in table.values() for key in part.defaults))
"""All settings of all parts."""
PLAIN = ("reinforce", "sequence-ratio")
"""Losses shown beside a named one: no ratio at all, and the ratio that is exact."""
BESIDE = ("none", "group-mean", "grpo")
"""Advantages that a batch is shown with, beside rloo."""
Told = tuple[list[tuple[str, Recipe]], "dict[str, str] | None"]


@dataclass(frozen=True)
class Asked:
    """What all recipes share: changed settings, the correction for the sampler, what a batch is, G responses to each of B prompts."""

    changes: Mapping[str, float]
    correction: str = "uncorrected"
    batch: str = "each-group"
    G: int = 8
    B: int = 1

    def recipe(
        self,
        advantage: str | Advantage,
        loss: str = "reinforce",
        aggregation: str | Aggregation = "sequence-sum",
        *,
        correction: str = "",
    ) -> Recipe:
        """The recipe with the changes that its parts know; a change that no part of any kind knows is refused by Recipe."""
        parts = (
            ADVANTAGES.find(advantage),
            LOSSES[loss],
            AGGREGATIONS.find(aggregation),
            CORRECTIONS.find(correction or self.correction),
            BATCHES.find(self.batch),
        )
        own = {key for part in parts for key in part.defaults}
        kept: dict[str, Any] = {key: value for key, value in self.changes.items() if key in own or key not in KNOWN}
        return Recipe(*parts, G=self.G, B=self.B, **kept)

    def recipes(self, name: str | Advantage | Aggregation | None) -> Told:
        """The recipes to compare, with labels, and what the named record is."""
        base = "rloo" if self.G > 1 else "none"
        fits = [a.name for a in ADVANTAGES.values() if a.smallest <= self.G]
        if name is None:
            rows = [(a, self.recipe(a)) for a in fits]
            return rows + [(f"{base}, {a}", self.recipe(base, aggregation=a)) for a in list(AGGREGATIONS)[1:]], None
        if isinstance(name, Advantage) or (isinstance(name, str) and name in ADVANTAGES):
            part = ADVANTAGES.find(name)
            return [(f"{part.name}, {a}", self.recipe(part, aggregation=a)) for a in AGGREGATIONS], _about(part)
        if isinstance(name, Aggregation) or name in AGGREGATIONS:
            rule = AGGREGATIONS.find(name)
            return [(f"{a}, {rule.name}", self.recipe(a, aggregation=rule)) for a in fits], _about(rule)
        one_of(NAMES, name, "the name must be that of a part of an update")
        if name in BATCHES:
            beside = [(f"{a}, {name}", self.recipe(a)) for a in [base, *BESIDE] if a in fits and (a, base) != ("none", "none")]
            more = [(f"{base}, {name}, {a}", self.recipe(base, aggregation=a)) for a in list(AGGREGATIONS)[1:]]
            return beside + more, _about(BATCHES[name])
        if name in CORRECTIONS:
            named = [name, *(other for other in CORRECTIONS if other != name)]
            return [(f"{base}, {c}", self.recipe(base, correction=c)) for c in named], _about(CORRECTIONS[name])
        by_token = CORRECTIONS.find(self.correction).by_token
        others = [other for other in PLAIN if other != name and not (by_token and LOSSES[other].level != "token")]
        losses = [*((a, name) for a in fits), *((base, other) for other in others)]
        return [(f"{a}, {loss}", self.recipe(a, loss)) for a, loss in losses], _about(LOSSES[name])


def _about(part: Part) -> dict[str, str]:
    return parts(part, "name", "kind", "latex", "source", "remark")
