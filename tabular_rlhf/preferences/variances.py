r"""Standard errors of very many rewards at once: the diagonal of a Laplacian's pseudo-inverse, without the inverse.

**Symbols.** L = D - A the Fisher information of N items (`likelihood`): A the weights n_ij p_ij p_ji, sparse, D their sums, and a prior's
1/s^2.  P = D^-1 A moves an item's weight to those that it was compared with.

    L^+ = (I + P + P^2 + ...) D^-1     up to the common shift.

Where the graph is narrow, elimination has the diagonal exactly (`laplacian`).  Elsewhere that of (I + P + P^2) D^-1 is known:
(1 + sum_j A_ij^2/(D_i D_j))/D_i.  What is left over is small where items were compared with many others, and its diagonal is estimated:
the mean of z (L^+ z - (I + P + P^2) D^-1 z) over random signs z, each L^+ z by conjugate gradients, all at once.  The scatter over the z
says how far to trust it; the items for which that is least, such as one that met 10^5 others, are solved for one by one.  And no variance
is below (1 - 1/N)^2/D_i, by Cauchy and Schwarz.

Sources: Hutchinson (1990) on the estimator; Bekas, Kokiopoulou and Saad (2007), An estimator for the diagonal of a matrix.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.errors import SolveError, a_generator
from tabular_rlhf.logspace import Array
from tabular_rlhf.preferences.laplacian import Chain, narrow

PROBES = 32
DOUBT, SOLVED = 0.05, 128
"""Estimates that may be off by more than this share are solved for, so many of them at most."""


def laplacian_variances(A: Any, *, rng: np.random.Generator, probes: int = PROBES, ridge: float = 0.0) -> tuple[Array, Array]:
    """Variances of rewards of mean zero, (N,), and the standard errors of these estimates, (N,): zeros where they are exact.

    Args: A, sparse (CSR), symmetric, not negative, with a zero diagonal, of a connected graph; probes, random signs; ridge, of a prior.

    >>> from scipy.sparse import csr_array
    >>> variance, error = laplacian_variances(csr_array(np.ones((3, 3)) - np.eye(3)), rng=np.random.default_rng(0))
    >>> bool(np.all(np.abs(variance - 2 / 9) < 1e-12)), error.tolist()  # L^+ = (I - 1/3)/3
    (True, [0.0, 0.0, 0.0])
    """
    rng = a_generator(rng)
    D = np.asarray(A.sum(axis=1)).ravel() + ridge
    order = narrow(A)
    if len(order):
        return np.maximum(Chain(A, D, order, held=ridge > 0).variances(), 0.0), np.zeros(len(D))
    return _estimated(A, D, rng.choice([-1.0, 1.0], (len(D), probes)))


def _estimated(A: Any, D: Array, z: Array) -> tuple[Array, Array]:
    N = len(D)
    exact = (1.0 + np.asarray(A.multiply(A) @ (1.0 / D)).ravel() / D) / D
    near = z / D[:, None]
    step = (A @ near) / D[:, None]
    near = near + step + (A @ step) / D[:, None]
    far = _solve(A, D, z - np.mean(z, axis=0), 1e-5)
    rest = z * (far - np.mean(far, axis=0) - near)
    error = np.std(rest, axis=1, ddof=1) / np.sqrt(z.shape[1])
    variance = np.maximum(exact + np.mean(rest, axis=1), (1.0 - 1.0 / N) ** 2 / D)
    worst = np.argsort(-error / variance, kind="stable")[:SOLVED]
    worst = worst[error[worst] > DOUBT * variance[worst]]
    if len(worst):
        alone = np.full((N, len(worst)), -1.0 / N)
        alone[worst, range(len(worst))] += 1.0
        variance[worst], error[worst] = np.sum(alone * _solve(A, D, alone, 1e-3), axis=0), 0.0  # a square: off by 1e-6
    return variance, error


def _solve(A: Any, D: Array, b: Array, goal: float, steps: int = 20_000) -> Array:
    """Solve (D - A) x = b for every column of b, which sums to zero: conjugate gradients, scaled by the diagonal."""
    x, residual = np.zeros_like(b), b.copy()
    scaled = residual / D[:, None]
    direction, size = scaled, np.sum(residual * scaled, axis=0)
    enough = goal**2 * size
    for _ in range(steps):
        if np.all(size <= enough):
            return x
        along = D[:, None] * direction - A @ direction
        share = np.divide(size, np.sum(direction * along, axis=0), out=np.zeros_like(size), where=size > 0)
        x = x + share * direction
        residual = residual - share * along
        scaled = residual / D[:, None]
        new = np.sum(residual * scaled, axis=0)
        direction = scaled + np.divide(new, size, out=np.zeros_like(size), where=size > 0) * direction
        size = new
    raise SolveError(f"conjugate gradients did not reach a relative residual of {goal:.3g} in {steps} steps")
