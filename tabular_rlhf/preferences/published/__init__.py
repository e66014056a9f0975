r"""Published comparisons with their published fits, each with its provenance: what `bradley_terry` must reproduce to the digits printed.

A `Published` record holds the comparisons as rows (winner, loser, how often), and the estimates and standard errors that were
printed, relative to the item that the source took as zero (`against`; None: the scores of each component sum to zero).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tabular_rlhf.errors import InputError, quoted
from tabular_rlhf.preferences.comparisons import Wins, count_wins
from tabular_rlhf.preferences.published import fits as published

__all__ = ["DATASETS", "Published", "load"]


@dataclass(frozen=True)
class Published:
    """names of the items; rows (winner, loser, count); estimates and errors by name, as printed; digits after the point."""

    title: str
    source: str
    names: tuple[str, ...]
    rows: tuple[tuple[str, str, float], ...]
    against: str | None
    estimates: dict[str, float]
    errors: dict[str, float]
    digits: int
    deviance: float | None = None

    def indices(self) -> tuple[Any, Any, Any]:
        """w, l, weight of the rows."""
        number = {name: k for k, name in enumerate(self.names)}
        w, l = [number[row[0]] for row in self.rows], [number[row[1]] for row in self.rows]
        return np.array(w), np.array(l), np.array([row[2] for row in self.rows], dtype=np.float64)

    def wins(self) -> Wins:
        """The counts, added up."""
        w, l, weight = self.indices()
        return count_wins(w, l, self.names, weight)


DATASETS = {name: Published(**record) for name, record in published.RECORDS.items()}


def load(name: str) -> Published:
    """A data set by name.

    >>> load("citations").wins().total
    3727.0
    """
    if name not in DATASETS:
        raise InputError("the data set must be one of the published ones", got=quoted(name), remedy=f"use one of {', '.join(DATASETS)}")
    return DATASETS[name]
