r"""Whether a field is the gradient of anything: the antisymmetric part of its Jacobian.

    J(i, j) = d u_i / d logits_j,      u = grad F for some F   iff   J = J^T   everywhere,      curl = max |J - J^T|.

By differences of fourth order along every logit: (8 (u(+h) - u(-h)) - (u(+2h) - u(-2h)))/12h, an error of h^4 and of rounding/h.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from tabular_rlhf.autodiff.derivatives import central
from tabular_rlhf.errors import InputError
from tabular_rlhf.logspace import Array

Update = Callable[[Array], Array]
"""logits (P, S, V) -> the update there, of the same shape."""

STEP = 1e-3
"""Nats; the error of a difference is then about 1e-12 of the field."""
MOST = 64
"""Finite logits up to which the Jacobian is computed."""
VISIBLE = 1e-9
"""A difference of J and its transpose below this share of the field is rounding."""


def asymmetry(field: Update, logits: Array) -> Array | None:
    """J - J^T over the finite logits, (D, D); None where they are more than MOST."""
    free = np.isfinite(logits)
    if np.count_nonzero(free) > MOST:
        return None

    def moved(k: int, by: float) -> Array:
        there = np.array(logits, dtype=np.float64)
        there[tuple(where[k])] += by
        return np.asarray(field(there)[free])

    where = np.argwhere(free)
    rows = [central(partial(moved, k), STEP) for k in range(len(where))]
    return np.array(rows).T - np.array(rows)


def curl(field: Update, logits: Array) -> float | None:
    """max |J - J^T|, 0 where that is rounding; None where there are too many logits.

    >>> from tabular_rlhf.world import coin
    >>> round(curl(lambda t: t @ np.array([[0.0, 1.0], [-1.0, 0.0]]), coin().log_ref), 9)
    2.0
    """
    apart = asymmetry(field, logits)
    if apart is None:
        return None
    if not np.isfinite(apart).all():
        raise InputError("a field must be finite near the policy", got="nan or inf", remedy="mend the update")
    size = float(np.max(np.abs(field(logits)), initial=0.0))
    worst = float(np.max(np.abs(apart), initial=0.0))
    return 0.0 if worst <= VISIBLE * max(size, 1e-3) else worst
