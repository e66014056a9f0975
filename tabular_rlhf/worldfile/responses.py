"""Explicit tables of a world file: the probability and the reward of each response, by its text."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tabular_rlhf.errors import InputError
from tabular_rlhf.gibbs import log_policy_of
from tabular_rlhf.logspace import Array, log_of
from tabular_rlhf.mdp import TokenMDP


def numbers(mdp: TokenMDP, table: Mapping[str, float]) -> Array:
    """The number of each response, (N,); 0 for those that are not listed.  Raises InputError for a text that no response has.

    >>> numbers(TokenMDP("ab", 1), {"b": 0.25}).tolist()
    [0.0, 0.25]
    """
    found = np.zeros(mdp.N)
    for text, number in table.items():
        found[mdp.find(text)] += number
    return found


def explicit_policy(mdp: TokenMDP, table: Mapping[str, float]) -> Array:
    """log_ref, (P, S, V), of a law that is listed; uniform in states that it never reaches.

    Raises InputError where the numbers are no probabilities.

    >>> np.exp(explicit_policy(TokenMDP("ab", 1), {"a": 0.75, "b": 0.25})).round(4).tolist()
    [[[0.75, 0.25]]]
    """
    p = numbers(mdp, table)
    total = float(np.sum(p))
    if np.any(p < 0) or abs(total - 1.0) > 1e-9:
        least = float(np.min(p))
        got = f"least {least:g}" if least < 0 else f"sum {total:.12g}"
        raise InputError("the probabilities of responses must be at least 0 and sum to 1", got=got, remedy="divide them by their sum")
    return log_policy_of(mdp, np.broadcast_to(log_of(p / total), (mdp.P, mdp.N)))
