r"""Bradley-Terry scores of a table of win rates, asked about all pairs alike, with a term that centers; ties by two laws.

**Fit.**  Scores s (N,) minimize, for win rates M with M + M^T = 1,

    sum over pairs i < j of  -M_ij log sigma(s_i - s_j) - M_ji log sigma(s_j - s_i) + c (s_i + s_j)^2,

whose stationarity says, response by response,  sum_{j != i} (M_ij - sigma(s_i - s_j)) = 2 c sum_{j != i} (s_i + s_j).
With c = 0 the scores rank as the mean win rates do (Borda), and are centered.

**Ties**, at a gap d of scores.  Davidson: win e^{d/2}, loss e^{-d/2}, tie nu, normalized.  Rao and Kupper: win 1/(1 + theta e^{-d}), loss
1/(1 + theta e^d), tie the rest.

Sources: arXiv:2312.08358 (hidden context and Borda); Davidson (1970); Rao and Kupper (1967); the centering term: arXiv:2312.09244.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

from tabular_rlhf.errors import SolveError
from tabular_rlhf.logspace import Array

STEPS = 200


def bradley_terry(M: Any, c: float = 0.0) -> Array:
    """The scores that fit win rates M (N, N), for each of any leading axes; centered where c = 0.  Raises SolveError where none do.

    >>> bradley_terry(np.array([[0.5, 0.75], [0.25, 0.5]])).round(4).tolist()  # log 3 apart
    [0.5493, -0.5493]
    """
    M = np.asarray(M, dtype=np.float64)
    if M.ndim > 2:
        return np.stack([bradley_terry(m, c) for m in M])
    N = len(M)
    others = 1.0 - np.eye(N)
    s = np.zeros(N)
    for _ in range(STEPS):
        P = special.expit(s[:, None] - s[None, :])
        slope = np.sum(others * (P - M), axis=1) + 2.0 * c * (others @ s + (N - 1) * s)
        spread = others * P * (1.0 - P)
        H = np.diag(np.sum(spread, axis=1)) - spread + 2.0 * c * (others + (N - 1) * np.eye(N))
        step = np.linalg.lstsq(H, slope, rcond=None)[0]  # the shortest: with c = 0 nothing says where the scores' mean is
        step *= min(1.0, 2.0 / max(1e-300, float(np.max(np.abs(step)))))
        s = s - step
        if np.max(np.abs(step)) <= 1e-14 * (1.0 + np.max(np.abs(s))):
            return s
    raise SolveError("Newton's steps do not end: some response never loses, or never wins")


def pushed_down(log_p: Any) -> Array:
    """d p_i/dt as -log p_j is descended in the logits of responses: [..., i, j]; by the Jacobian of the softmax.

    >>> pushed_down(np.log([0.5, 0.3, 0.2]))[:, 2].round(4).tolist()  # the last one is pushed down
    [0.16, 0.036, -0.196]
    """
    p = np.exp(np.asarray(log_p))
    J = p[..., :, None] * (np.eye(p.shape[-1]) - p[..., None, :])  # of p in logits
    up = np.eye(p.shape[-1]) - p[..., :, None]  # of log p_j in logits, a column a response
    return np.asarray(-np.matmul(J, up))


def mixture(r: Any, proxy: Any, share: float) -> Array:
    """Win rates of two kinds of people, each Bradley-Terry in a utility of its own: (..., N, N)."""
    one, two = (special.expit(u[..., :, None] - u[..., None, :]) for u in (np.asarray(r), np.asarray(proxy)))
    return np.asarray((1.0 - share) * one + share * two)
