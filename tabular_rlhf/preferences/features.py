r"""Log-linear rewards by maximum likelihood: r_i = phi_i . theta, and effects of the comparison itself, such as playing at home.

**Symbols.** phi (N, k) features of items; w, l winners and losers; z (M, m) features of each comparison, seen from its winner;
the margin of comparison c is X_c . theta with X_c = (phi_w - phi_l, z_c); its probability is sigma of that.

    NLL(theta) = -sum_c weight_c log sigma(X_c theta)   [ + |theta|^2/(2 s^2) ].

**Theorem** (Albert and Anderson 1984).  A finite maximum exists if and only if no direction d has X_c d >= 0 for every comparison
and X_c d > 0 for some: the features must not separate winners from losers.  It is unique if and only if X has rank k + m.
A Newton iteration that settles at a finite theta proves both; where it does not, a rank and a linear program say why.

**Robust errors.**  Comparisons of one group (a prompt, a person) may depend on one another.  With H the Fisher information and s_g the
sum of the slopes of group g, the covariance is H^-1 (sum_g s_g s_g^T) H^-1, which asks for independence of groups only
(Liang and Zeger 1986).

Sources: Albert and Anderson (1984), On the existence of maximum likelihood estimates in logistic regression models, Biometrika 71;
Springall (1973), Response surface fitting using a generalization of the Bradley-Terry paired comparison model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tabular_rlhf.errors import InputError, SolveError, as_floats, positive
from tabular_rlhf.logspace import Array, log_sigmoid


@dataclass(frozen=True, eq=False)
class FeatureFit:
    """theta (k + m,), features of items first; covariance, the inverse Fisher information; nll, in nats; steps taken."""

    theta: Array
    covariance: Array
    nll: float
    steps: int

    @property
    def standard_errors(self) -> Array:
        return np.sqrt(np.diag(self.covariance))


def fit_features(
    w: Any, l: Any, phi: Any, *, weight: Any = None, z: Any = None, prior: float | None = None, group: Any = None
) -> FeatureFit:
    """Maximum likelihood over theta, or with a prior theta ~ N(0, s^2 I) the maximum of the posterior.

    Args: w, l (M,) indices; phi (N, k); weight (M,), one each by default; z (M, m); prior, the variance s^2; group (M,), whole numbers:
    the covariance is then the robust one.  Raises: InputError where no finite or no unique maximum exists.

    >>> fit = fit_features([0, 0, 0, 1], [1, 1, 1, 0], [[1.0], [0.0]])  # three wins of four: log 3
    >>> [round(float(x), 6) for x in (fit.theta[0], np.log(3), fit.standard_errors[0])]
    [1.098612, 1.098612, 1.154701]
    """
    phi = as_floats(phi, "phi")
    X = phi[np.asarray(w)] - phi[np.asarray(l)]
    X = X if z is None else np.hstack([X, as_floats(z, "z").reshape(len(X), -1)])
    n = np.ones(len(X)) if weight is None else as_floats(weight, "weight", (len(X),))
    of = None if group is None else np.asarray(group)[n > 0]
    X, n = X[n > 0], n[n > 0]
    ridge = 1.0 / positive(prior, "prior", "squared nats, the variance of a coefficient") if prior is not None else 0.0
    if not ridge:
        _require_rank(X)
    try:
        theta, hessian, steps = _newton(X, n, ridge)
    except (SolveError, np.linalg.LinAlgError):
        if not ridge:
            _require_maximum(X)
        raise
    inverse = np.asarray(np.linalg.inv(hessian), dtype=np.float64)
    covariance = inverse if of is None else inverse @ _spread(X, n, theta, of) @ inverse
    return FeatureFit(theta, covariance, -float(n @ log_sigmoid(X @ theta)), steps)


def _spread(X: Array, n: Array, theta: Array, of: Any) -> Array:
    """sum_g s_g s_g^T of the slopes of groups."""
    slopes = (n * np.exp(log_sigmoid(-(X @ theta))))[:, None] * X
    place = np.unique(of, return_inverse=True)[1]
    s = np.stack([np.bincount(place, column) for column in slopes.T], axis=1)
    return np.asarray(s.T @ s)


def _require_rank(X: Array) -> None:
    rank, k = int(np.linalg.matrix_rank(X)) if X.size else 0, X.shape[1]
    if rank < k:
        remedy = "drop a feature, such as a constant, or state a prior"
        raise InputError("differences of features must span them all", got=f"rank {rank} of {k}", remedy=remedy)


def _require_maximum(X: Array) -> None:
    from scipy.optimize import linprog

    X = np.unique(X, axis=0)
    found = linprog(-np.sum(X, axis=0), A_ub=np.vstack([-X, X]), b_ub=np.repeat([0.0, 1.0], len(X)), bounds=(None, None))
    if found.x is None or found.fun is None:
        raise SolveError(f"the linear program that decides existence failed: {found.message}")
    if -found.fun > 1e-7:
        direction = ", ".join(f"{d:.3g}" for d in found.x)
        raise InputError(
            "a finite maximum needs some comparison against every direction of theta",
            got=f"none against ({direction})",
            remedy="collect more comparisons, drop a feature, or state a prior",
        )


def _newton(X: Array, n: Array, ridge: float, steps: int = 200) -> tuple[Array, Array, int]:
    theta = np.zeros(X.shape[1])
    for k in range(steps):
        margin = X @ theta
        miss = np.exp(log_sigmoid(-margin))
        hessian = X.T @ ((n * miss * np.exp(log_sigmoid(margin)))[:, None] * X) + ridge * np.eye(len(theta))
        step = np.linalg.solve(hessian, X.T @ (n * miss) - ridge * theta)
        reach = float(np.max(np.abs(X @ step)))
        # weights change by at most e^reach along the step, so this much of it always descends (see `bradley_terry`)
        theta = theta + step * (1.0 if reach < 1.79 else np.log1p(reach) / reach)
        if reach < 1e-8:
            return theta, hessian, k + 1
    raise SolveError(f"log-linear rewards did not settle in {steps} Newton steps: the last moved a margin by {reach:.3g} nats")
