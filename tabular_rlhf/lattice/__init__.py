"""Worlds whose equal states are merged: exact where responses are too many to be listed.  The chapter is in `lattice.world`."""

from __future__ import annotations

from tabular_rlhf.lattice.optimum import Soft, solve
from tabular_rlhf.lattice.policy import Policy, Reference, Rows
from tabular_rlhf.lattice.world import LatticeWorld, Level, NotListed, as_lattice, unmerged

__all__ = ["LatticeWorld", "Level", "NotListed", "Policy", "Reference", "Rows", "Soft", "as_lattice", "solve", "unmerged"]
