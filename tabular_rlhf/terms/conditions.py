"""When a claim is asked: the conditions that several records share."""

from __future__ import annotations

from typing import Any

import numpy as np

SMALL = 2**17


def moderate(gaps: Any) -> bool:
    """Rewards whose differences neither floats nor Newton's method find extreme."""
    return bool(np.max(np.abs(gaps)) < 30)


def decided(p: Any, success: Any) -> bool:
    """Whether every prompt can be answered rightly and wrongly, both with at least 1/1000."""
    u = np.sum(p * success, axis=1)
    return bool(np.all((u > 1e-3) & (u < 1.0 - 1e-3)))


def full(log_p_ref: Any) -> bool:
    """Whether the reference forbids nothing."""
    return bool(np.isfinite(log_p_ref).all())


def off_the_edges(log_pi: Any, log_pi_2: Any, clip: float, log_p_ref: Any) -> bool:
    """No ratio sits on a corner, where a slope is a matter of convention."""
    if not full(log_p_ref):
        return False
    ratio = np.exp(log_pi - log_pi_2)
    return min(float(np.min(np.abs(ratio - edge))) for edge in (1.0 - clip, 1.0 + clip)) > 1e-9


def few(P: int, N: int, G: int) -> bool:
    """Whether all groups are few enough to be written out."""
    return P * N**G <= 4000
