r"""Standard errors of very many rewards at once: the diagonal of a Laplacian's pseudo-inverse, without the inverse.

**Symbols.** L = D - A the Fisher information of a connected set of N items (`likelihood`): A the weights n_ij p_ij p_ji, sparse, D their
sums.
P = D^-1 A moves an item's weight to those that it was compared with.

    L^+ = (I + P + P^2 + ...) D^-1     up to the common shift.

The diagonal of (I + P + P^2) D^-1 is known exactly: (1 + sum_j A_ij^2/(D_i D_j))/D_i.  What is left over is small where items were compared
with many others, and its diagonal is estimated: the mean of z (L^+ z - (I + P + P^2) D^-1 z) over random signs z, each L^+ z by conjugate
gradients, all at once.  The scatter over the z says how far to trust it.

Sources: Hutchinson (1990) on the estimator; Bekas, Kokiopoulou and Saad (2007), An estimator for the diagonal of a matrix.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.errors import SolveError, a_generator
from tabular_rlhf.logspace import Array

PROBES = 32


def laplacian_variances(A: Any, *, rng: np.random.Generator, probes: int = PROBES) -> tuple[Array, Array]:
    """Variances of rewards of mean zero, (N,), and the standard errors of these estimates, (N,).

    Args: A, sparse (CSR), symmetric, not negative, with a zero diagonal, of a connected graph; probes, random signs.

    >>> from scipy.sparse import csr_array
    >>> variance, error = laplacian_variances(csr_array(np.ones((3, 3)) - np.eye(3)), rng=np.random.default_rng(0))
    >>> bool(np.all(np.abs(variance - 2 / 9) < 5 * error + 1e-12))  # L^+ = (I - 1/3)/3
    True
    """
    rng = a_generator(rng)
    N = A.shape[0]
    D = np.asarray(A.sum(axis=1)).ravel()
    z = rng.choice([-1.0, 1.0], (N, probes))
    exact = (1.0 + np.asarray(A.multiply(A) @ (1.0 / D)).ravel() / D) / D
    near = z / D[:, None]
    step = (A @ near) / D[:, None]
    near = near + step + (A @ step) / D[:, None]
    centered = z - np.mean(z, axis=0)
    far = _solve(A, D, centered)
    rest = z * (far - np.mean(far, axis=0) - near)
    error = np.std(rest, axis=1, ddof=1) / np.sqrt(probes)
    return np.maximum(exact + np.mean(rest, axis=1), 0.0), error


def _solve(A: Any, D: Array, b: Array, goal: float = 1e-8, steps: int = 20_000) -> Array:
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
