r"""KL estimators: what a "KL flag" estimates, how noisily, what it pushes the policy to do, and where that leads.

`record` says what a flag is (estimator, placement, level, ratio, clamps), `evaluate` runs it over weighted trajectories,
`theorem` names the divergence it descends and the optimum of E[r] - beta times it, `flows` follows it without noise, `normal`
reproduces the published table, `analyse` puts all that into one report.

>>> len(ESTIMATORS), list(PLACEMENTS)
(8, ['loss', 'reward', 'ratio'])
"""

from __future__ import annotations

from tabular_rlhf.estimators.analyse import FlagReport, analyse, measure
from tabular_rlhf.estimators.evaluate import Moments, all_moments, exact_gradient, gradient_noise, moments, score_gradient, table, tally
from tabular_rlhf.estimators.flows import Flow, field, flow
from tabular_rlhf.estimators.normal import normal_table
from tabular_rlhf.estimators.record import ESTIMATORS, PLACEMENTS, Estimator, Flag, flags
from tabular_rlhf.estimators.theorem import Descent, descent, optimum

__all__ = ["ESTIMATORS", "PLACEMENTS", "Descent", "Estimator", "Flag", "FlagReport", "Flow", "Moments", "all_moments", "analyse", "descent"]
__all__ += ["exact_gradient", "field", "flags", "flow", "gradient_noise", "measure", "moments", "normal_table", "optimum"]
__all__ += ["score_gradient", "table", "tally"]
