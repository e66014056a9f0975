r"""Corrections for a sampler that is not the old policy: frozen weights by the ratio rho = pi_old/q, exact, truncated or masked.

Exact are the whole response's ratio, and the prefix's with advantages that are those of pi at every token (`prefix-ratio`); truncation
at C ascends E_q[r g(rho)] with g = C + C log(rho/C) beyond C, masking E_q[r min(rho, C)] (`truncated-ratio`).
"""

from __future__ import annotations

import numpy as np

from tabular_rlhf.policy_gradient.record import CORRECTIONS, Correction
from tabular_rlhf.registry import entered

TIS = (
    "Yao et al. (2025), Your efficient RL framework secretly brings you off-policy RL training, https://fengyao.notion.site/off-policy-rl; "
    "with a floor, TRL and OpenRLHF (2025)."
)
MASKED = (
    "IcePop, of tokens, both bounds: Ling team (2025), arXiv:2510.18855; of responses: Liu et al. (2025), When speed kills stability, "
    "https://richardli.xyz/rl-collapse."
)
LEVELS = {"token": "of the token", "prefix": "of the response up to the token", "sequence": "of the whole response"}


BAND = {"cap": 2.0, "floor": 0.0}

correction = entered(Correction, CORRECTIONS.add)
correction("uncorrected", "1", "No correction.", lambda: 1.0, lambda: 1, level="sequence", remark="Samples count as they are")
for _level, _words in LEVELS.items():
    _told = f"rho is pi_old/q {_words}"
    correction(f"ratio-{_level}", r"\rho", "Importance sampling.", lambda rho: rho, lambda rho: 1.0 * rho, level=_level, remark=_told)
    correction(
        f"truncated-{_level}",
        r"\min(\max(\rho, c_{low}), c_{high})",
        TIS,
        lambda rho, cap, floor: np.minimum(np.maximum(rho, floor), cap),
        lambda rho, cap, floor: floor if rho < floor else rho if rho < cap else cap,
        defaults=BAND,
        level=_level,
        remark=_told,
    )
    correction(
        f"masked-{_level}",
        r"1[\rho \ge c_{low}]\, 1[\rho \le c_{high}]\, \rho",
        MASKED,
        lambda rho, cap, floor: np.where((rho <= cap) & (rho >= floor), rho, 0.0),
        lambda rho, cap, floor: rho if floor <= rho <= cap else 0.0,
        defaults=BAND,
        level=_level,
        remark=_told,
    )
