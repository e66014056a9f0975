r"""What does this function really optimize?  A trainer's own function, in its own signature and library, measured on every batch.

`roles` reads parameters by name, `handed` calls the function and says what stands in the way, `library` differentiates it where it is
at home; `batches` and `field` make its exact expected step of pushes, and name the gradients that it may be; `forms`, `records_near`
and `pairs` say what it is and what is wrong with it; `invariance` what it does not change with, `ends` where it leads; `report` puts it
together.

>>> from tabular_rlhf.audit.library import Library
>>> def loss(logps, old_logps, advantages, mask, eps=0.2):
...     import numpy as np
...     ratio = np.exp(logps - old_logps)
...     best = np.maximum(ratio * advantages[:, None], np.clip(ratio, 1 - eps, 1 + eps) * advantages[:, None])
...     return -(best * mask).sum() / mask.sum()
>>> print(nearest(hand_in(loss, Library())))
the advantages given, ppo-clip (0.2), token-mean, but the larger of clipped and unclipped is taken, not the smaller
"""

from __future__ import annotations

from tabular_rlhf.audit.handed import Handed, Unfit, hand_in
from tabular_rlhf.audit.library import library_of
from tabular_rlhf.audit.records_near import nearest
from tabular_rlhf.audit.report import Audit, audit
from tabular_rlhf.audit.verdict import Nearest

__all__ = ["Audit", "Handed", "Nearest", "Unfit", "audit", "hand_in", "library_of", "nearest"]
