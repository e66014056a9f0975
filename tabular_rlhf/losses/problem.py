r"""The objective of one prompt for Newton's method: a loss of weighted pairs, its gradient and its Hessian in response logits.

**Symbols.**  theta (N,) response logits of one prompt, log p = log_softmax(theta); g and H the gradient and Hessian of the loss in
log p, its entries free.  With A = I - 1 p^T,

    gradient in theta  g - p sum g,        Hessian in theta  A^T H A - (sum g) (diag p - p p^T).

H comes from the second derivatives of the loss in each pair's (p, q), by the gradient core.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.autodiff import grad, value_and_grad
from tabular_rlhf.logspace import Array, log_softmax
from tabular_rlhf.losses.evaluate import weights
from tabular_rlhf.losses.record import DirectLoss
from tabular_rlhf.mdp import Indices
from tabular_rlhf.preferences import Pairs
from tabular_rlhf.world import World


def prompt_problem(
    loss: DirectLoss, world: World, pairs: Pairs, x: int, live: Indices, at: Array, s: dict[str, Any], ref: Array | None = None
) -> tuple[Any, Array] | None:
    """(theta, width) -> loss, gradient, Hessian for one prompt's pairs, and how often each response is shown; None without pairs.

    Args: live, the responses that the reference allows; at (P, N), the policy at which frozen weights are taken; s, settings; ref, what
    log-ratios are relative to: log p_ref if not given.
    """
    weight = weights(pairs)
    mine = (weight > 0) & np.broadcast_to(pairs.x == x, weight.shape)
    if not mine.any():
        return None
    place = np.zeros(world.mdp.N, dtype=np.intp)
    place[live] = np.arange(len(live))
    w, l = (place[np.broadcast_to(k, weight.shape)[mine]] for k in (pairs.w, pairs.l))
    weight, n = weight[mine], len(live)
    ref = world.log_p_ref[x, live] if ref is None else ref
    lengths, p0 = world.mdp.lengths[live].astype(float), at[x, live]
    fixed = {**s, "len_w": lengths[w], "len_l": lengths[l], "p0": p0[w], "q0": p0[l]}

    def total(p: Any, q: Any, width: float) -> Any:
        return np.sum(weight * loss(**{**fixed, "p": p, "q": q, "a": p - ref[w], "b": q - ref[l], "width": width}))

    def quadratic(theta: Array, width: float) -> tuple[float, Array, Array]:
        log_p = log_softmax(theta)
        return chain(log_p, pair_derivatives(total, log_p[w], log_p[l], width), w, l, n)

    # a frozen weight makes a pair count for less: WPO's spans many orders of magnitude
    heard = weight * np.exp(fixed["p0"] / lengths[w] + fixed["q0"] / lengths[l]) if "p0" in loss.needs else weight
    return quadratic, np.asarray(np.bincount(w, heard, n) + np.bincount(l, heard, n), dtype=np.float64)


def pair_derivatives(total: Any, p: Array, q: Array, width: float) -> tuple[Any, ...]:
    """Value, first and second derivatives in each pair's (p, q): (f, f_p, f_q, f_pp, f_pq, f_qq)."""
    value, (f_p, f_q) = value_and_grad(total, (0, 1))(p, q, width)
    f_pp, f_pq = grad(lambda p, q: np.sum(grad(total, 0)(p, q, width)), (0, 1))(p, q)
    f_qq = grad(lambda q: np.sum(grad(total, 1)(p, q, width)))(q)
    return float(value), f_p, f_q, f_pp, f_pq, f_qq


def chain(log_p: Array, parts: tuple[Any, ...], w: Any, l: Any, n: int) -> tuple[float, Array, Array]:
    """Value, gradient and Hessian in theta from the derivatives of each pair."""
    value, f_p, f_q, f_pp, f_pq, f_qq = parts
    g = np.bincount(w, f_p, n) + np.bincount(l, f_q, n)
    cross = np.bincount(w * n + l, f_pq, n * n).reshape(n, n)
    H = np.diag(np.bincount(w, f_pp, n) + np.bincount(l, f_qq, n)) + cross + cross.T
    p, total = np.exp(log_p), np.sum(g)
    A = np.eye(n) - p
    return value, g - p * total, A.T @ H @ A - total * (np.diag(p) - np.outer(p, p))
