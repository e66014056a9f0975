r"""Other penalties than reverse KL: f-divergences, and PPO's pretraining (ptx) term.  One scalar root a prompt.

**Symbols.** As in `gibbs`; lam(x) is the multiplier of sum p = 1, in reward units; D a data distribution, gamma its weight.

    max_p E_p[r] - beta D_f(p, p_ref)                       p = p_ref max(0, (f')^{-1}((r - lam)/beta));
    max_p E_p[r] - beta KL(p, p_ref) + gamma E_D[log p]     u = gamma D/(beta p) is a Wright omega function.

Sources: Wang et al. (2023), arXiv:2309.16240; Ouyang et al. (2022), arXiv:2203.02155.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from tabular_rlhf.divergences import Divergence
from tabular_rlhf.errors import InputError, as_floats, positive
from tabular_rlhf.gibbs import multiplier
from tabular_rlhf.logspace import Array, log_tilt, logsumexp, soft_value
from tabular_rlhf.mdp import Indices
from tabular_rlhf.optimize import monotone_root

NOISE = 4 * float(np.finfo(float).eps)
"""The rounding of a sum of probabilities."""


@dataclass(frozen=True, eq=False)
class PenalizedOptimum:
    """An optimum with the multiplier of its constraint: log_p (P, N), lam (P,) in reward units."""

    log_p: Array
    lam: Array


def f_divergence_optimum(divergence: Divergence, log_p_ref: Array, r: Array, beta: float) -> PenalizedOptimum:
    r"""argmax_p E_p[r] - beta D_f(p, p_ref), with D_f = E_ref[f(p/p_ref)].

        p = p_ref max(0, (f')^{-1}((r - lam)/beta)),    lam(x) such that p sums to one.

    The root is sought in w = log of one response's weight, the pivot's.  The other weights follow from the gaps (r_pivot - r)/beta
    between their slopes (see `divergences`), in logarithms, so that neither an improbable best response nor a small beta leaves the
    range of floats; and without cancellation, where the pivot is well chosen: the best response if slopes are bounded or logarithmic,
    else the worst one whose weight is above e^LOWEST.

    Args: log_p_ref, r (P, N).  Source: Wang et al. (2023), arXiv:2309.16240.

    >>> from tabular_rlhf.divergences import DIVERGENCES
    >>> best = f_divergence_optimum(DIVERGENCES["chi-squared"], np.array([[0.0, -183.0]]), np.array([[0.0, 1.0]]), 0.1)
    >>> best.log_p.round(6).tolist()  # the best has weight 1 + 1/0.1, the other stays
    [[0.0, -180.602105]]
    """
    beta = positive(beta, "beta", "reward units")
    r = np.where(np.isneginf(log_p_ref), -np.inf, r)
    order = np.argsort(-r, axis=-1, kind="stable")

    def gaps(rank: Indices) -> tuple[Array, Array]:
        """The reward of the pivot of that rank, (P, 1), and (r_pivot - r)/beta, 0 for what is impossible."""
        pivot = np.take_along_axis(r, np.take_along_axis(order, rank[:, None], axis=-1), axis=-1)
        with np.errstate(over="ignore"):
            return pivot, np.where(np.isneginf(r), 0.0, pivot - np.where(np.isneginf(r), 0.0, r)) / beta

    def log_total(w: Array, gap: Array) -> tuple[Array, Array]:
        log_u, steep = divergence.tilt(w[:, None], gap)
        log_u = np.minimum(log_u, 1e300)  # a gap of -inf asks for a weight beyond any float
        total = soft_value(log_p_ref, log_u, 1.0)
        with np.errstate(over="ignore"):  # a weight may leave 0 at an infinite slope
            return total, np.sum(np.exp(log_p_ref + log_u - total[:, None] + steep), axis=-1)

    low, rank = np.zeros(len(r)), np.zeros(len(r), dtype=np.intp)
    if divergence.growth > 0:
        low = low + LOWEST
        rank = _last(lambda rank: log_total(low, gaps(rank)[1])[0] < 0, np.sum(~np.isneginf(r), axis=-1))
    pivot, gap = gaps(rank)
    mass = logsumexp(np.where(gap == 0, log_p_ref, -np.inf), axis=-1) - logsumexp(log_p_ref, axis=-1)
    noise = NOISE * np.minimum(1.0, np.max(np.abs(gap), axis=-1))
    w = monotone_root(lambda w: log_total(w, gap), low, -np.minimum(mass, 0.0), start=np.zeros_like(low), noise=noise)
    log_p = log_p_ref + divergence.tilt(w[:, None], gap)[0]
    # the last bits of the root's rounding are shared out by normalizing
    return PenalizedOptimum(log_p - logsumexp(log_p, axis=-1, keepdims=True), pivot[:, 0] - beta * divergence.slope(w))


LOWEST = -745.0
"""Nats: e^LOWEST is the smallest float."""


def _last(holds: Callable[[Indices], Any], count: Indices) -> Indices:
    """The last index below `count` (P,) at which a condition holds that holds at 0 and, once it fails, fails ever after: by halving."""
    first, beyond = np.zeros_like(count), count
    while np.any(beyond - first > 1):
        middle = (first + beyond) // 2
        held = holds(middle)
        first, beyond = np.where(held, middle, first), np.where(held, beyond, middle)
    return first


def ptx_optimum(log_p_ref: Array, r: Array, beta: float, gamma: float, log_d: Array) -> PenalizedOptimum:
    r"""argmax_p E_p[r] - beta KL(p, p_ref) + gamma E_D[log p]: PPO with a pretraining (ptx) term.

    Stationarity is r - beta log(p/p_ref) - beta + gamma D/p + lam = 0.  With u = gamma D/(beta p) and
    nu = (lam + max r)/beta - 1 it reads  u + log u = log(gamma D/(beta p_ref)) - (r - max r)/beta - nu,  so u is a Wright
    omega function and log p = log p_ref + (r - max r)/beta + nu + u.  nu(x) is a scalar root: the p sum to one.

    Args: log_p_ref, r, log_d (P, N): log D, -inf off its support; gamma >= 0, reward units.  Raises InputError where D puts
    mass on what p_ref forbids (the objective would be -inf everywhere).  Source: Ouyang et al. (2022), arXiv:2203.02155.
    """
    beta = positive(beta, "beta", "reward units per nat")
    if not (gamma >= 0 and np.isfinite(gamma)):
        raise InputError("gamma must be at least 0", got=gamma, remedy="gamma weighs the pretraining term, in reward units")
    if not gamma / beta < 1e300:
        raise InputError("gamma/beta must be below 1e300", got=f"gamma = {gamma:g}, beta = {beta:g}", remedy="the optimum is D itself")
    log_d = as_floats(log_d, "log_d", np.shape(r), minus_inf=True)
    off = np.isneginf(log_p_ref) & ~np.isneginf(log_d)
    if off.any() and gamma > 0:
        x_, t = (int(i) for i in np.argwhere(off)[0])
        raise InputError("p_ref must cover D", got="D > 0 = p_ref", where=f"prompt {x_}, trajectory {t}", remedy="smooth the reference")
    if gamma == 0:
        V = soft_value(log_p_ref, r, beta)
        return PenalizedOptimum(np.asarray(log_tilt(log_p_ref, r, beta)), multiplier(V, beta))
    possible = ~np.isneginf(log_p_ref)
    best = np.max(np.where(possible, r, -np.inf), axis=-1, keepdims=True)
    with np.errstate(over="ignore"):
        x = np.where(possible, r - best, 0.0) / beta
    log_Z = soft_value(log_p_ref, x, 1.0)
    drawn = ~np.isneginf(log_d)
    log_c = np.where(drawn, np.log(gamma) - np.log(beta) + log_d, 0.0)  # log gamma D / beta
    base = np.where(drawn, log_c - np.where(possible, log_p_ref, 0.0), 0.0)

    def log_p_at(nu: Array) -> tuple[Array, Array]:
        """log p and u at a trial nu."""
        tilt = x + nu[:, None]
        u = np.where(drawn, special.wrightomega(base - tilt), 0.0)
        heavy = u > 1.0  # there log p = log c - log u has no cancellation
        log_p = np.where(heavy, log_c - np.log(np.where(heavy, u, 1.0)), log_p_ref + tilt + u)
        return log_p, u

    def excess(nu: Array) -> tuple[Array, Array]:
        log_p, u = log_p_at(nu)
        p = np.exp(log_p)
        return np.sum(p, axis=-1) - 1.0, np.sum(p / (1.0 + u), axis=-1)

    nu = monotone_root(excess, -log_Z - np.log(2.0) - 2.0 * (gamma / beta), -log_Z, noise=NOISE)
    return PenalizedOptimum(np.asarray(log_p_at(nu)[0]), beta * (nu + 1.0) - best[:, 0])
