r"""Token level: the soft Bellman recursion, the policy of any law over responses, and potential shaping.

**Theorem** (`soft-bellman`).  The recursion  V(s) = beta log sum_a pi_ref exp(Q/beta),  Q(s, a) = V(s + a),  V(leaf) = r, has
pi*(a given s) = pi_ref exp((Q - V)/beta) with p_{pi*} = p*: trajectory optimum and token-level soft policy are one thing.

Source: Ziebart (2010), Modeling purposeful adaptive behavior.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tabular_rlhf.logspace import Array, as_beta, log_gain, log_softmax, logsumexp, read_only, soft_value
from tabular_rlhf.mdp import TokenMDP, table


@dataclass(frozen=True, eq=False)
class SoftBellman:
    """Soft values: V (P, S), Q (P, S, V) in reward units; log_pi and log_weight = log(pi*/pi_ref), (P, S, V)."""

    V: Array
    Q: Array
    log_pi: Array
    log_weight: Array


def soft_bellman(mdp: TokenMDP, log_ref: Any, r: Any, beta: float) -> SoftBellman:
    """The soft Bellman recursion, backwards through the tree.

        V(s) = beta log sum_a pi_ref(a given s) exp(Q(s, a)/beta),  Q(s, a) = V(s + a),  V(leaf) = r;
        pi*(a given s) = pi_ref(a given s) exp((Q(s, a) - V(s))/beta).

    Args: mdp; log_ref (P, S, V), nats; r (P, N), reward units; beta > 0, reward units per nat.
    Returns: SoftBellman: V (P, S) and Q (P, S, V) in reward units, log_pi and log_weight = log(pi*/pi_ref) (P, S, V) in nats.
    Raises: InputError for tables of another shape, or beta that is not positive and finite.
    Source: Ziebart (2010); Levine (2018), arXiv:1805.00909.

    >>> from tabular_rlhf.world import fork
    >>> w = fork()
    >>> soft_bellman(w.mdp, w.log_ref, w.r, w.beta).V.round(3).tolist()  # root, "left", "right"
    [[1.855, 1.0, 2.309]]
    """
    as_beta(beta)
    log_ref, r = table(log_ref, "log_ref", (mdp.P, mdp.S, mdp.V)), table(r, "r", (mdp.P, mdp.N))
    ref = mdp.levels(log_ref)
    # V = best + beta * nats, kept as two arrays through the recursion (see `logspace.soft_parts`): ties between branches keep
    # their odds even where beta is too small to be seen beside the rewards
    best, best_of_child = mdp.backup(r, lambda h, Q: np.max(np.where(np.isneginf(ref[h]), -np.inf, Q), axis=1))
    with np.errstate(over="ignore"):
        behind = np.minimum(best_of_child - best[..., None], 0.0) / beta  # forbidden tokens may lead to better things
    behind_levels = mdp.levels(behind)
    nats, nats_of_child = mdp.backup(np.zeros_like(r), lambda h, q: soft_value(ref[h], q + behind_levels[h], 1.0, axis=1))
    log_weight = log_gain(log_ref, nats_of_child + behind, 1.0)
    parts = best + beta * nats, best_of_child + beta * nats_of_child, log_ref + log_weight, log_weight
    return SoftBellman(*(read_only(np.asarray(part)) for part in parts))


def log_policy_of(mdp: TokenMDP, log_p: Any) -> Array:
    """The policy of any distribution over responses: pi(a given s) = p(s + a)/p(s); uniform where p(s) = 0."""
    total, mass = mdp.backup(log_p, lambda h, Q: logsumexp(Q, axis=1))
    log_pi: Array = log_softmax(np.where(np.isneginf(total)[..., None], 0.0, mass))  # mass less total would keep the rounding of both
    return log_pi


def shape_reward(mdp: TokenMDP, r: Any, phi: Any) -> Any:
    """Potential shaping: add Phi(s + a) - Phi(s) at every token, with Phi = 0 at the leaves; phi has shape (P, S).

    The sum telescopes to -Phi(x), so p* is unchanged and V(x) moves by -Phi(x).  Computed token by token, not telescoped.
    Source: Ng, Harada and Russell (1999).
    """
    phi_levels = [phi[:, mdp.offsets[h] : mdp.offsets[h + 1]] for h in range(mdp.H)]
    parts = []
    for h in range(mdp.H):
        after = np.zeros((mdp.P, mdp.V, mdp.width(h)))
        if h < mdp.H - 1:
            after[:, : mdp.K] = phi_levels[h + 1].reshape(mdp.P, mdp.K, mdp.width(h))
        parts.append(after - phi_levels[h][:, None, :])
    return r + mdp.path_sum(np.swapaxes(np.concatenate(parts, axis=2), 1, 2))
