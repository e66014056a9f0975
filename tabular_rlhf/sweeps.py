r"""The hot sweeps, block by block: the same mathematics as the short forms, in passes over memory that stay in the cache.

**Symbols.** As in `mdp`: level h of the tree is a block (P, V, K^h), token-major; N trajectories, S states.

    shares        f(s) = sum of f over the trajectories through s;   f(s + a)/f(s), which is pi where f = p;
    gibbs_weights u = p_ref exp((r - max r)/beta), or None where u would leave the range of floating point;
    ascend        the gradient of J in tabular logits.

**Why blocks.**  At 2^20 trajectories an array is 8 MiB: every pass over it runs at the speed of memory, and a fresh one costs
page faults on top.  A block of BLOCK elements passes through a dozen operations within the cache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tabular_rlhf.errors import InputError
from tabular_rlhf.kernels import block_of, blocks, room, softmax_block
from tabular_rlhf.logspace import Array, log_ratio

if TYPE_CHECKING:
    from tabular_rlhf.mdp import TokenMDP
    from tabular_rlhf.world import World

WIDEST = 600.0  # nats below the heaviest possible weight: exp(-600) is still a normal number


def shares(mdp: TokenMDP, f: Array, share: Array) -> Array:
    """f of the root, (P,), for positive f (P, N); writes to share (P, V, S) each child's share of its parent, f(s + a)/f(s)."""
    P, V, K = mdp.P, mdp.V, mdp.K
    total = f[:, mdp.last_block :]
    for h in reversed(range(mdp.H)):
        start, width = mdp.offsets[h], K**h
        children = total.reshape(P, V if h == mdp.H - 1 else K, width)  # (a width may be 0: no -1 here)
        if h < mdp.H - 1 and mdp.eos is not None:
            children = np.concatenate([children, f[:, None, start : start + width]], axis=1)
        total, level = np.empty((P, width)), share[:, :, start : start + width]
        for part in blocks((P, V, width)):
            here = np.sum(children[part], axis=1, out=total[part])
            np.divide(children[part], here[:, None], out=level[part])
    return total[:, 0]


def gibbs_weights(log_p_ref: Array, r: Array, r_max: float, beta: float, u: Array) -> bool:
    """Write p_ref exp((r - r_max)/beta) to u, (P, N); False where some weight would underflow (a forbidden response, too)."""
    rate = 1.0 / beta
    for part in blocks(r.shape):
        block = np.subtract(r[part], r_max, out=u[part])
        with np.errstate(over="ignore"):
            block *= rate
        block += log_p_ref[part]
        if not block.min() > -WIDEST:
            return False
        np.exp(block, out=block)
    return True


def ascend(world: World, logits: Array) -> Array:
    """grad J in tabular logits, (P, S, V): down the tree for pi and p, at the leaves p R, up again for what passes through (s, a).

    `grad` first holds pi(a given s) and then, in place, m(s, a) - pi(a given s) sum_b m(s, b): see `gibbs.policy_gradient`.
    """
    mdp, last = world.mdp, world.mdp.H - 1
    if mdp.K == 0:  # one response, whatever the logits
        return np.zeros((mdp.P, mdp.S, mdp.V))
    x, grad = np.moveaxis(logits, 2, 0), np.empty((mdp.V, mdp.P, mdp.S))  # tokens first
    path = np.empty((2, mdp.P, mdp.width(last)))  # p and log p of the states of one level after the other
    path[:, :, 0] = world.mu, np.zeros(mdp.P)
    levels = [(..., slice(mdp.offsets[h], mdp.offsets[h + 1])) for h in range(mdp.H)]
    stops = [_descend(world, h, x[levels[h]], path, grad[levels[h]]) for h in range(last)]
    total = _leaves(world, x[levels[last]], path, grad[levels[last]])
    for h in reversed(range(last)):
        m = np.moveaxis(total.reshape(mdp.P, mdp.K, -1), 1, 0)
        m = np.concatenate([m, stops[h]]) if mdp.eos is not None else m
        total = np.empty((mdp.P, mdp.width(h)))
        for part in blocks(m.shape):
            _centre(grad[levels[h]][part], m[part], total[part])
    return np.moveaxis(grad, 0, 2)


def _descend(world: World, h: int, x: Array, path: Array, pi: Array) -> Array:
    """One level down: write pi, and p and log p of the children over those of the parents; return p R of the responses that stop."""
    mdp, beta, width = world.mdp, world.beta, world.mdp.width(h)
    p, log_p = (np.moveaxis(f.reshape(mdp.P, -1, width), 1, 0) for f in path)
    start, scratch = mdp.offsets[h], None
    stop = np.zeros((mdp.V - mdp.K, mdp.P, width))
    for part in blocks(x.shape):
        scratch = room(pi[part], scratch)
        log_pi = _normalize(block_of(x, part), pi[part], scratch)
        if mdp.eos is not None:
            end, at = stop[part], slice(start + part[-1].start, start + min(width, part[-1].stop))
            np.add(log_pi[mdp.K :], log_p[0][part], out=end)
            _gain(end, pi[part][mdp.K :], p[0][part], world.log_p_ref[:, at], world.r[:, at], beta)
        for a in reversed(range(mdp.K)):  # token 0 last: its children take the parents' place
            np.multiply(p[0][part], pi[part][a], out=p[a][part])
            np.add(log_p[0][part], log_pi[a], out=log_p[a][part])
    return stop


def _leaves(world: World, x: Array, path: Array, pi: Array) -> Array:
    """The last level, where most of the work is: nothing of the size of the leaves is stored but the gradient."""
    mdp = world.mdp
    ref, r = (np.moveaxis(f[:, mdp.last_block :].reshape(mdp.P, mdp.V, -1), 1, 0) for f in (world.log_p_ref, world.r))
    total, scratch = np.empty(path[0].shape), None
    for part in blocks(x.shape):
        scratch = room(pi[part], scratch)
        m = _normalize(block_of(x, part), pi[part], scratch)
        m += path[1][part]
        _gain(m, pi[part], path[0][part], ref[part], r[part], world.beta)
        _centre(pi[part], m, total[part])
    return total


def _normalize(x: Array, pi: Array, scratch: Array) -> Array:
    """Write pi of logits x; return log pi, in the scratch."""
    pi /= softmax_block(x, scratch[2:], pi, scratch[:2])
    return scratch[2:]


def _gain(log_p: Array, pi: Array, p_parent: Array, log_p_ref: Array, r: Array, beta: float) -> None:
    """Write p R over log p, with p = p_parent pi and R = r - beta log(p/p_ref); 0 where p is 0."""
    if min(log_p.min(), log_p_ref.min()) == -np.inf:
        log_p[...] = finite_ratio(log_p, np.broadcast_to(log_p_ref, log_p.shape))
    else:
        log_p -= log_p_ref
    log_p *= -beta
    log_p += r
    log_p *= p_parent
    log_p *= pi


def finite_ratio(log_p: Array, log_p_ref: Array) -> Array:
    """log(p/p_ref), 0 where p is 0."""
    ratio: Array = log_ratio(log_p, log_p_ref)
    if np.max(ratio) == np.inf:
        raise InputError("J must be finite to have a gradient", got="p > 0 = p_ref", remedy="forbid in pi what pi_ref forbids")
    return ratio


def _centre(pi: Array, m: Array, total: Array) -> None:
    """Write m - pi sum_b m over pi, and that sum to total."""
    pi *= np.sum(m, axis=0, out=total)
    np.subtract(m, pi, out=pi)
