r"""Direct alignment: losses that turn comparisons into a policy, as a table of records.

`record` says what a loss is, `family_*` hold the losses, `evaluate` gives value and gradient on any weighted pairs, `optimum`
the population optimum, `traits` what a loss does and does not do, `analyse` a report of all that.

>>> len(LOSSES) >= 25
True
"""

from __future__ import annotations

from tabular_rlhf.losses import family_anchored, family_free, family_margin
from tabular_rlhf.losses.record import LOSSES, TRAITS, DirectLoss, find, register

__all__ = ["LOSSES", "TRAITS", "DirectLoss", "family_anchored", "family_free", "family_margin", "find", "register"]
