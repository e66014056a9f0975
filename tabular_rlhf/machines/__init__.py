"""Finite automata that speak (a reference policy) and pay (a reward), and their lattice.  The chapter is in `machines.machine`."""

from __future__ import annotations

from tabular_rlhf.lattice.merge import merge
from tabular_rlhf.machines.machine import Machine, lattice, minimize, product, rewards
from tabular_rlhf.machines.regex import matches
from tabular_rlhf.machines.words import constant, length, ngram, phrases, uniform

__all__ = ["Machine", "constant", "lattice", "length", "matches", "merge", "minimize", "ngram", "phrases", "product", "rewards", "uniform"]
