r"""Flipped labels: what they do to a naive fit, and which losses undo it.

**Symbols.** D the margin of a pair as labeled; e < 1/2 the probability that a label was flipped; l(D) = -log sigma(D).

    mixture     -log((1 - e) sigma(D) + e sigma(-D)):          the likelihood of the labels as they came;
    unbiased    [(1 - e) l(D) - e l(-D)] / (1 - 2 e):           its mean over flips is l of the true label, whatever D;
    smoothed    (1 - e) l(D) + e l(-D):                         label smoothing, which is the *noise* and not its cure.

**Theorem** (`label-noise`).  Under flips of Bradley-Terry labels the true margins are stationary for the first two.  The naive fit
of two items has the margin logit((1 - e) sigma(D) + e sigma(-D)), of smaller size than D, and smoothing takes the same map of that
once more, since the mean of the smoothed loss over labels q is the plain loss over labels (1 - e) q + e (1 - q).

**Price.**  The unbiased loss of a pair is as convex as l (it has the same second derivative), but it is not bounded below: it falls as
-e D/(1 - 2 e) for D -> inf.
So on finite data the corrected fit may not exist where the naive one does.

Sources: Natarajan et al. (2013), Learning with noisy labels; Chowdhury, Kini and Natarajan (2024), Provably robust DPO,
arXiv:2403.00409; Mitchell (2023), A note on DPO with noisy preferences (smoothing).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.errors import InputError
from tabular_rlhf.logspace import log_sigmoid


def _check(e: float) -> float:
    if not 0 <= e < 0.5:
        raise InputError(
            "the probability of a flip must be below one half", got=e, remedy="at one half labels say nothing, above it swap them"
        )
    return float(e)


def log_flipped(D: Any, e: float) -> Any:
    """log((1 - e) sigma(D) + e sigma(-D)), exact for margins of any size; traced or not.

    >>> float(np.exp(log_flipped(1000.0, 0.1)).round(12)), float(np.exp(log_flipped(-1000.0, 0.1)).round(12))
    (0.9, 0.1)
    """
    e = _check(e)
    # no absolute values: they would put a kink at D = 0, where every fit begins
    either = np.logaddexp(np.log1p(-e), np.log(e) - D) if e > 0 else 0.0
    return either - np.logaddexp(0.0, -D)


def unbiased_loss(D: Any, e: float) -> Any:
    """[(1 - e) l(D) - e l(-D)]/(1 - 2 e), with l(D) = -log sigma(D).

    >>> float(0.9 * unbiased_loss(2.0, 0.1) + 0.1 * unbiased_loss(-2.0, 0.1) + log_sigmoid(2.0)).__abs__() < 1e-15
    True
    """
    e = _check(e)
    return (e * log_sigmoid(-D) - (1.0 - e) * log_sigmoid(D)) / (1.0 - 2.0 * e)


def smoothed_loss(D: Any, e: float) -> Any:
    """(1 - e) l(D) + e l(-D): smallest at D = logit(1 - e) for a pair that is always labeled the same way."""
    e = _check(e)
    return -(1.0 - e) * log_sigmoid(D) - e * log_sigmoid(-D)


def naive_margin(D: Any, e: float, times: int = 1) -> Any:
    """The margin that a plain fit of two items tends to when labels of true margin D are flipped with probability e, `times` over.

    >>> [round(float(naive_margin(2.0, 0.1, k)), 4) for k in (0, 1, 2)]
    [2.0, 1.4155, 1.0653]
    """
    for _ in range(times):
        D = log_flipped(D, e) - log_flipped(-np.asarray(D), e)
    return D
