r"""The simulator: RLHF run end to end on samples, every stage scored exactly, beside what the theory predicts.

`record` says what a run is told and holds, `algorithms` is the registry of what improves a policy, `stages` does demonstrations,
comparisons, the reward model and the loop, `scoring` the exact scores and the predicted destinations, `state` saves and resumes.

>>> from tabular_rlhf.simulator import Options, simulate
>>> from tabular_rlhf.world import coin
>>> run = simulate(coin(), Options(algorithm="rloo", steps=60, batch=16))[0]
>>> bool(run.last.regret < 1e-3)
True
"""

from __future__ import annotations

from tabular_rlhf.simulator import algorithms  # enters the records
from tabular_rlhf.simulator.record import CORES, Options
from tabular_rlhf.simulator.scoring import destination
from tabular_rlhf.simulator.stages import Run, advance, begin, exact_curve, simulate

__all__ = ["CORES", "Options", "Run", "advance", "algorithms", "begin", "destination", "exact_curve", "simulate"]
