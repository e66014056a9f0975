"""Real responses with their log-probabilities: a trie, and what is certain, exact for the candidates only, or estimated.  See `tiers`."""

from __future__ import annotations

from tabular_rlhf.rollouts.read import Rollouts, read_rollouts
from tabular_rlhf.rollouts.tiers import analyse
from tabular_rlhf.rollouts.trie import Trie, trie_of

__all__ = ["Rollouts", "Trie", "analyse", "read_rollouts", "trie_of"]
