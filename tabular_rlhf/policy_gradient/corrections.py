r"""Corrections for a sampler that is not the old policy: frozen weights by the ratio rho = pi_old/q, exact, truncated or masked.

Exact are the whole response's ratio, and the prefix's with advantages that are those of pi at every token (`prefix-ratio`); truncation
at C ascends E_q[r g(rho)] with g = C + C log(rho/C) beyond C, masking E_q[r min(rho, C)] (`truncated-ratio`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.policy_gradient.record import CORRECTIONS, Correction

TIS = (
    "Yao et al. (2025), Your efficient RL framework secretly brings you off-policy RL training, https://fengyao.notion.site/off-policy-rl; "
    "with a floor, TRL and OpenRLHF (2025)."
)
MASKED = (
    "IcePop, of tokens, both bounds: Ling team (2025), arXiv:2510.18855; of responses: Liu et al. (2025), When speed kills stability, "
    "https://richardli.xyz/rl-collapse."
)
LEVELS = {"token": "of the token", "prefix": "of the response up to the token", "sequence": "of the whole response"}


def _truncated(rho: Any, cap: float, floor: float) -> Any:
    return np.minimum(np.maximum(rho, floor), cap)


def _masked(rho: Any, cap: float, floor: float) -> Any:
    return np.where((rho <= cap) & (rho >= floor), rho, 0.0)


def _plain_truncated(rho: float, cap: float, floor: float) -> float:
    return floor if rho < floor else rho if rho < cap else cap


BAND = {"cap": 2.0, "floor": 0.0}


CORRECTIONS.add(
    Correction("uncorrected", "1", "No correction.", lambda: 1.0, lambda: 1, level="sequence", remark="Samples count as they are")
)
for _level, _words in LEVELS.items():
    for _name, _latex, _source, _fn, _oracle, _defaults in (
        ("ratio", r"\rho", "Importance sampling.", lambda rho: rho, lambda rho: 1.0 * rho, {}),
        ("truncated", r"\min(\max(\rho, c), C)", TIS, _truncated, _plain_truncated, BAND),
        ("masked", r"1[c \le \rho \le C]\, \rho", MASKED, _masked, lambda rho, cap, floor: rho if floor <= rho <= cap else 0.0, BAND),
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
