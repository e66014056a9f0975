"""The size of the terms of a sum: what cancellation may leave of rounding is relative to it."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.logspace import expect, kl, log_ratio
from tabular_rlhf.tolerance import largest


def deepest(*logs: Any) -> float:
    """The largest finite log-probability, in size: a KL is a mean of these."""
    return 1.0 + largest(*logs)


def slope_scale(log_p: Any, L: Any) -> float:
    """The size of the terms of an expected gradient: a score is at most 1 in any entry, times what is added up in h and h'."""
    return float(np.max(expect(log_p, 1.0 + np.abs(L) + np.square(L) + np.exp(L) + np.exp(-L))))


def size_of(r: Any, beta: float, log_p: Any, log_p_ref: Any) -> float:
    return 1.0 + reward_units(r, beta, log_p, log_p_ref)


def reward_units(r: Any, beta: float, log_p: Any, log_p_ref: Any) -> float:
    """The largest term of J: what cancellation between terms can leave of rounding is relative to this."""
    return float(np.max(np.abs(r))) + beta * (1.0 + largest(log_p, log_p_ref))


def term_scale(log_p: Any, L: Any) -> tuple[float, float]:
    """The size of the terms of a mean and of a variance: E_p of what is added up inside an estimator, and of its square."""
    inside = 1.0 + np.abs(L) + np.square(L) + np.exp(-L)
    return float(np.max(expect(log_p, inside))), float(np.max(expect(log_p, np.square(inside))))


def reward_size(r: Any, H: int) -> float:
    return float((1.0 + np.max(np.abs(r))) * H)


def table_size(H: int, G: int) -> float:
    """Advantages are as large as G, a gradient sums H scores."""
    return 4.0 * H * G


def loudness(r: Any, beta: float, log_p: Any, log_p_ref: Any, H: int) -> float:
    """The largest term of a KL-regularized gradient."""
    return (float(np.max(np.abs(r))) + beta * (1.0 + largest(log_p, log_p_ref))) * (1.0 + H)


def full_table(mdp: Any, log_pi: Any, log_pi_ref: Any) -> Any:
    """sum over the states of a response of the exact KL there, (P, N)."""
    return mdp.path_sum(np.expand_dims(kl(log_pi, log_pi_ref), -1) + np.zeros(log_pi.shape))


def gain_scale(mdp: Any, log_pi: Any, log_pi_ref: Any) -> float:
    """The size of the squares of which the variances are made."""
    size = 1.0 + mdp.path_sum(np.abs(log_ratio(log_pi, log_pi_ref))) + full_table(mdp, log_pi, log_pi_ref)
    return float(np.max(expect(mdp.path_sum(log_pi), np.square(size))))


def moved_size(r: Any, H: int, log_p: Any, log_p_2: Any) -> float:
    """Rewards times the largest ratio, a sum of H scores."""
    return float((1.0 + np.max(np.abs(r))) * H * max(1.0, np.exp(np.max(log_ratio(log_p, log_p_2)))))


def update_size(H: int) -> float:
    """Advantages are of the update_size of rewards, a gradient sums H scores."""
    return 4.0 * H


def nats(H: int, log_p: Any, log_p_ref: Any) -> float:
    """What a sum of H log-ratios can be."""
    return float(H * (1.0 + np.max(np.abs(log_p)) + np.max(np.abs(log_p_ref))))
