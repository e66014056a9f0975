r"""The objective of one prompt for Newton's method: a loss of weighted pairs, its gradient and its Hessian in response logits.

**Symbols.**  theta (N,) response logits of one prompt, log p = log_softmax(theta); g and H the gradient and Hessian of the loss in
log p, its entries free.  With A = I - 1 p^T,

    gradient in theta  g - p sum g,        Hessian in theta  A^T H A - (sum g) (diag p - p p^T).

H comes from the second derivatives of the loss in each pair's (p, q), by the gradient core.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tabular_rlhf.autodiff import grad, value_and_grad
from tabular_rlhf.logspace import Array, log_softmax
from tabular_rlhf.losses.evaluate import weights
from tabular_rlhf.losses.record import DirectLoss
from tabular_rlhf.mdp import Indices
from tabular_rlhf.preferences import Pairs
from tabular_rlhf.world import World


@dataclass(frozen=True, eq=False)
class Problem:
    """One prompt's pairs: total, (p, q, width) -> their loss, given log p of both; w, l (M,), which of n responses they are; weight (M,);
    share (n,), how often each response is shown."""

    total: Callable[[Any, Any, float], Any]
    w: Indices
    l: Indices
    weight: Array
    share: Array

    def quadratic(self, theta: Array, width: float) -> tuple[float, Array, Array]:
        """Loss, gradient and Hessian in response logits."""
        log_p, n = log_softmax(theta), len(self.share)
        return chain(log_p, *summed(pair_derivatives(self.total, log_p[self.w], log_p[self.l], width), self.w, self.l, n))

    def moments(self, log_p: Array) -> Array:
        """E[g g^T] of one pair's gradient in response logits (its mean is 0 at the optimum)."""
        _, f_p, f_q, *_ = pair_derivatives(self.total, log_p[self.w], log_p[self.l], 0.0)
        g, pair = np.zeros((len(self.w), len(log_p))), np.arange(len(self.w))
        np.add.at(g, (pair, self.w), f_p)
        np.add.at(g, (pair, self.l), f_q)
        g -= np.exp(log_p) * (f_p + f_q)[:, None]
        return np.asarray(g.T @ (g / self.weight[:, None]))  # each is weighed already


def prompt_problem(
    loss: DirectLoss, world: World, pairs: Pairs, x: int, live: Indices, at: Array, s: Mapping[str, Any], ref: Array | None = None
) -> Problem | None:
    """The problem of one prompt; None without pairs.

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

    # a frozen weight makes a pair count for less: WPO's spans many orders of magnitude
    heard = weight * np.exp(fixed["p0"] / lengths[w] + fixed["q0"] / lengths[l]) if "p0" in loss.needs else weight
    return Problem(total, w, l, weight, np.asarray(np.bincount(w, heard, n) + np.bincount(l, heard, n), dtype=np.float64))


def pair_derivatives(total: Any, p: Array, q: Array, width: float) -> tuple[Any, ...]:
    """Value, first and second derivatives in each pair's (p, q): (f, f_p, f_q, f_pp, f_pq, f_qq)."""
    value, (f_p, f_q) = value_and_grad(total, (0, 1))(p, q, width)
    f_pp, f_pq = grad(lambda p, q: np.sum(grad(total, 0)(p, q, width)), (0, 1))(p, q)
    f_qq = grad(lambda q: np.sum(grad(total, 1)(p, q, width)))(q)
    return float(value), f_p, f_q, f_pp, f_pq, f_qq


def summed(parts: tuple[Any, ...], w: Any, l: Any, n: int) -> tuple[float, Array, Array]:
    """Value, gradient and Hessian over the n responses, each free, from the derivatives of each pair."""
    value, f_p, f_q, f_pp, f_pq, f_qq = parts
    cross = np.bincount(w * n + l, f_pq, n * n).reshape(n, n)
    H = np.diag(np.bincount(w, f_pp, n) + np.bincount(l, f_qq, n)) + cross + cross.T
    return value, np.asarray(np.bincount(w, f_p, n) + np.bincount(l, f_q, n), dtype=np.float64), np.asarray(H, dtype=np.float64)


def chain(log_p: Array, value: float, g: Array, H: Array) -> tuple[float, Array, Array]:
    """The same in theta."""
    p, total = np.exp(log_p), np.sum(g)
    A = np.eye(len(p)) - p
    return value, g - p * total, A.T @ H @ A - total * (np.diag(p) - np.outer(p, p))
