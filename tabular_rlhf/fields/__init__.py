r"""What an update really ascends, measured: the field u(logits) beside the gradients of named objectives.

`case` says where a field is measured, `terms` names objectives that it might ascend, `curl` says whether it is a gradient of anything,
`verdict` says which of them it is, with sign, share and residual.  Nothing here asks a record what it claims to be.

>>> from tabular_rlhf.world import rational
>>> world = rational()
>>> downhill = lambda case: -3.0 * gradient(objectives(case)["E[r]"], case.logits)
>>> str(measure(downhill, cases(world, world.log_ref), objectives))
'-3 E[r]'
"""

from __future__ import annotations

from tabular_rlhf.fields.case import Case, Field, cases
from tabular_rlhf.fields.terms import Objective, gradient, objectives
from tabular_rlhf.fields.verdict import Verdict, measure

__all__ = ["Case", "Field", "Objective", "Verdict", "cases", "gradient", "measure", "objectives"]
