r"""Two fixed points of today's recipes in closed form.

**Theorem** (`pmd-mean`).  The regression E_old[(log(p/p_old) - a)^2] over laws p, a = (r - E_old[r])/beta, is least at

    rho = p/p_old = W(lam e^a)/lam,      W Lambert's function, lam such that E_old[rho] = 1,

because log rho + lam rho = a there: a KL and a chi-squared pull at once.  With beta log Z for the mean reward lam is 0, and p is Gibbs'.

**Theorem** (`kl-in-grpo`).  E_p[r] - beta KL(p_ref, p) is largest at p = beta p_ref/(mu - r), mu > max r such that p sums to one.

Sources: arXiv:2602.05933; chapter 8, `kl-estimator-theorem`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

from tabular_rlhf.logspace import Array

HALVINGS = 200
LARGEST = 700.0
"""Of the logarithm of a multiplier: its exponential is a number."""


def ratio(log_p_old: Any, a: Any, lam: Any) -> Array:
    """W(lam e^a)/lam for a less its mean: Wright's omega of a + log lam, which cannot overflow; e^a where lam is 0."""
    a = a - np.sum(np.exp(log_p_old) * a, axis=-1, keepdims=True)
    lam = np.asarray(lam)[..., None]
    safe = np.where(lam > 0, lam, 1.0)
    return np.asarray(np.where(lam > 0, special.wrightomega(a + np.log(safe)).real / safe, np.exp(np.minimum(a, 700.0))))


def multiplier(log_p_old: Any, a: Any) -> Array:
    """lam of each row, by halving its logarithm: E_old[rho] falls in lam, and is at least 1 at 0.

    >>> log_p = np.log([[0.5, 0.5]]); a = np.array([[0.0, 2.0]])
    >>> round(float(np.sum(np.exp(log_p) * ratio(log_p, a, multiplier(log_p, a)))), 12)
    1.0
    """
    p = np.exp(log_p_old)
    span = np.ptp(a, axis=-1)
    low, high = np.full(span.shape, -80.0), np.minimum(np.maximum(1.0, np.log1p(span)) + span, LARGEST)
    for _ in range(HALVINGS):
        mid = (low + high) / 2.0
        above = np.sum(p * ratio(log_p_old, a, np.exp(mid)), axis=-1) > 1.0
        low, high = np.where(above, mid, low), np.where(above, high, mid)
    return np.asarray(np.exp((low + high) / 2.0))
