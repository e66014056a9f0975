r"""Corrections for a sampler that is not the old policy: frozen weights by the ratio rho = pi_old/q, exact, truncated or masked.

Exact are the whole response's ratio, and the prefix's with advantages that are those of pi at every token (`prefix-ratio`); truncation
at C ascends E_q[r g(rho)] with g = C + C log(rho/C) beyond C, masking E_q[r min(rho, C)] (`truncated-ratio`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.policy_gradient.record import CORRECTIONS, Correction

TIS = "Yao et al. (2025), Your efficient RL framework secretly brings you off-policy RL training; verl, TRL (2025)"
MASKED = "Ling team (2025), IcePop; Liu et al. (2025), When speed kills stability; verl, TRL (2025)"
LEVELS = {"token": "of the token", "prefix": "of the response up to the token", "sequence": "of the whole response"}


def _truncated(rho: Any, cap: float) -> Any:
    return np.minimum(rho, cap)


def _masked(rho: Any, cap: float) -> Any:
    return np.where(rho <= cap, rho, 0.0)


CORRECTIONS.add(
    Correction("uncorrected", "1", "No correction.", lambda: 1.0, lambda: 1, level="sequence", remark="Samples count as they are")
)
for _level, _words in LEVELS.items():
    for _name, _latex, _source, _fn, _oracle, _defaults in (
        ("ratio", r"\rho", "Importance sampling.", lambda rho: rho, lambda rho: 1.0 * rho, {}),
        ("truncated", r"\min(\rho, C)", TIS, _truncated, lambda rho, cap: rho if rho < cap else cap, {"cap": 2.0}),
        ("masked", r"1[\rho \le C]\, \rho", MASKED, _masked, lambda rho, cap: 0.0 if rho > cap else rho, {"cap": 2.0}),
    ):
        CORRECTIONS.add(
            Correction(
                f"{_name}-{_level}",
                _latex,
                _source,
                _fn,
                _oracle,
                defaults=_defaults,
                level=_level,
                remark=f"rho is pi_old/q {_words}",
            )
        )
