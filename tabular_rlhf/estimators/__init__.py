r"""KL estimators: what a "KL flag" estimates, how noisily, what it pushes the policy to do, and where that leads.

`record` says what a flag is (estimator, placement, level, ratio, clamps), `claims` measures what a record says of itself,
`evaluate` runs a flag over weighted trajectories, `theorem` names the divergence it descends and the optimum of E[r] - beta
times it, `verdict` measures whether that is so, `flows` follows it without noise, `rest` and `ends` prove where that ends,
`normal` reproduces the published table, `analysis` puts all that into one report.

>>> len(ESTIMATORS), list(PLACEMENTS)
(8, ['loss', 'reward', 'ratio'])
"""

from __future__ import annotations

from tabular_rlhf.estimators.analysis import FlagReport, analyse, measure
from tabular_rlhf.estimators.claims import faults, register
from tabular_rlhf.estimators.ends import FOLLOWED, End, end, follow
from tabular_rlhf.estimators.evaluate import Moments, all_moments, exact_gradient, gradient_noise, moments, score_gradient, table, tally
from tabular_rlhf.estimators.flows import Flow, field, flow
from tabular_rlhf.estimators.normal import normal_table
from tabular_rlhf.estimators.record import ESTIMATORS, PLACEMENTS, Estimator, Flag, flags
from tabular_rlhf.estimators.theorem import Descent, descent, optimum

__all__ = ["ESTIMATORS", "FOLLOWED", "PLACEMENTS", "Descent", "End", "Estimator", "Flag", "FlagReport", "Flow", "Moments"]
__all__ += ["all_moments", "analyse", "descent", "end", "exact_gradient", "faults", "field", "flags", "flow", "follow"]
__all__ += ["gradient_noise", "measure", "moments", "normal_table", "optimum", "register", "score_gradient", "table", "tally"]
