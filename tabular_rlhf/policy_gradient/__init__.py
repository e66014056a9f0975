r"""Surrogates: advantages, policy losses, aggregations and corrections as tables of records, and their exact expected updates.

`record` says what the parts are, `advantages`, `losses`, `corrections` and `pooled` hold them, `groups` has groups and what they credit
each response with, `batches` the same of batches of groups that see each other, `updates` the update and its covariance, exact and
sampled, `analysis` what a choice really optimizes, `flows` where it leads.

>>> round(float(success_weight(0.5, Recipe("grpo", G=2))), 6)  # c_2 = 1
1.0
"""

from __future__ import annotations

from tabular_rlhf.policy_gradient import advantages, corrections, losses, pooled  # enter the records
from tabular_rlhf.policy_gradient.analysis import Analysis, analyse, success_objective, success_weight
from tabular_rlhf.policy_gradient.record import (
    ADVANTAGES,
    AGGREGATIONS,
    BATCHES,
    CORRECTIONS,
    LOSSES,
    Advantage,
    Aggregation,
    Batch,
    Correction,
    PolicyLoss,
    Recipe,
)

__all__ = ["ADVANTAGES", "AGGREGATIONS", "BATCHES", "CORRECTIONS", "LOSSES", "Advantage", "Aggregation", "Analysis", "Batch"]
__all__ += ["Correction", "PolicyLoss", "Recipe", "advantages", "analyse", "corrections", "losses", "pooled"]
__all__ += ["success_objective", "success_weight"]
