r"""Peers for DPO, on sampled pairs and on all pairs of responses.

An answer: the loss and its gradient, (V, S) in token logits for sampled pairs, (N,) in log p for all pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tabular_rlhf.bench.peers import Peers, Runner, _jax, compiled, the_torch
from tabular_rlhf.bench.peers_data import AllPairs, Near
from tabular_rlhf.logspace import Array


def _graded(torch: Any, loss: Callable[[], Any], at: Any) -> Runner:
    def run() -> Any:
        value = loss()
        return value.detach(), torch.autograd.grad(value, at)[0]

    return run


def torch_dpo_tree(case: Near) -> Runner:
    """log p of every response, level by level, then one gather for the winners and one for the losers."""
    torch = the_torch()
    w, l = torch.tensor(case.pairs.w), torch.tensor(case.pairs.l)
    ref = torch.tensor(case.world.log_p_ref[0])
    margin = ref[w] - ref[l]
    logits = torch.tensor(case.logits, requires_grad=True)

    def loss() -> Any:
        log_p = torch.zeros(1, dtype=torch.float64)
        for level in torch.split(torch.log_softmax(logits, 0), case.widths, dim=1):
            log_p = (log_p + level).reshape(-1)
        z = case.world.beta * ((log_p.index_select(0, w) - log_p.index_select(0, l)) - margin)
        return -torch.nn.functional.logsigmoid(z).mean()

    return _graded(torch, loss, logits)


def torch_dpo_tokens(case: Near) -> Runner:
    """log-probabilities of the pairs' tokens gathered, as a trainer would, and added up."""
    torch = the_torch()
    S, ref = case.world.mdp.S, torch.tensor(case.world.log_p_ref[0])
    both = np.concatenate([case.pairs.w, case.pairs.l])
    place, state = [], np.zeros_like(both)
    for h, token in enumerate(case.world.mdp.tokens(both).T):
        place.append(token * S + case.world.mdp.offsets[h] + state)
        state = state + token * case.widths[h]
    index = torch.tensor(np.concatenate(place))
    w, l = torch.tensor(case.pairs.w), torch.tensor(case.pairs.l)
    margin = ref[w] - ref[l]
    logits = torch.tensor(case.logits, requires_grad=True)

    def loss() -> Any:
        log_pi = torch.log_softmax(logits, 0).reshape(-1)
        log_p = log_pi.index_select(0, index).view(case.H, 2, -1).sum(0)
        return -torch.nn.functional.logsigmoid(case.world.beta * ((log_p[0] - log_p[1]) - margin)).mean()

    return _graded(torch, loss, logits)


def _pair_weights(case: AllPairs) -> Array:
    """2 q_i q_j P(i beats j), (N, N)."""
    q, r = np.exp(case.world.log_p_ref[0]), case.world.r[0]
    return np.asarray(2 * (q[:, None] * q) / (1 + np.exp(r - r[:, None])))


def _torch_all_pairs(case: AllPairs, kernel: Callable[[Any, Any], Any]) -> Runner:
    torch = the_torch()
    weight, ref = torch.tensor(_pair_weights(case)), torch.tensor(case.world.log_p_ref[0])
    log_p = torch.tensor(case.log_p[0], requires_grad=True)

    def loss() -> Any:
        m = case.world.beta * (log_p - ref)
        return (weight * kernel(torch, m)).sum()

    return _graded(torch, loss, log_p)


def torch_pairs_logsigmoid(case: AllPairs) -> Runner:
    """The definition."""
    return _torch_all_pairs(case, lambda torch, m: -torch.nn.functional.logsigmoid(m[:, None] - m[None, :]))


def torch_pairs_softplus(case: AllPairs) -> Runner:
    """The same by softplus."""
    return _torch_all_pairs(case, lambda torch, m: torch.nn.functional.softplus(m[None, :] - m[:, None]))


def jax_pairs(case: AllPairs) -> Runner:
    """jit(value_and_grad) of the definition."""
    jax, jnp, _, ref = _jax(case)
    beta = case.world.beta

    def loss(log_p: Any, ref: Any, weight: Any) -> Any:
        m = beta * (log_p - ref)
        return -(weight * jax.nn.log_sigmoid(m[:, None] - m[None, :])).sum()

    return compiled(jax, jax.value_and_grad(loss), jnp.asarray(case.log_p[0]), ref, jnp.asarray(_pair_weights(case)))


DPO_SAMPLED: Peers = {"torch": (torch_dpo_tree, torch_dpo_tokens)}
DPO_POPULATION: Peers = {"torch": (torch_pairs_softplus, torch_pairs_logsigmoid), "jax": (jax_pairs,)}
