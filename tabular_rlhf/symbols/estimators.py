r"""Symbols of chapter 8: log-ratios of tokens and responses, a policy that falls short of the reference, a direction."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.gibbs import log_policy_of
from tabular_rlhf.logspace import kl, log_ratio, log_softmax, logsumexp
from tabular_rlhf.symbols.table import half_integers, symbol

symbol("L", "log(p_pi/p_ref) of every response, 0 where p_pi = 0", "(P, N)", "nats")(lambda log_p, log_p_ref: log_ratio(log_p, log_p_ref))
symbol("L_s", "log(pi/pi_ref) of every token, 0 where pi = 0", "(P, S, V)", "nats")(
    lambda log_pi, log_pi_ref: log_ratio(log_pi, log_pi_ref)
)
symbol("KL_s", "KL(pi(.given s), pi_ref(.given s))", "(P, S)", "nats")(lambda log_pi, log_pi_ref: kl(log_pi, log_pi_ref))


@symbol("log_p_cut", "p_ref restricted to a drawn set of responses and renormalized", "(P, N)", "log-probability")
def _log_p_cut(log_p_ref: Any, rng: Any) -> Any:
    heaviest = np.arange(log_p_ref.shape[1]) == np.argmax(log_p_ref, axis=1)[:, None]
    cut = np.where((rng.random(log_p_ref.shape) < 0.6) | heaviest, log_p_ref, -np.inf)
    return cut - logsumexp(cut, axis=1, keepdims=True)


@symbol("log_p_short", "a policy on that set, otherwise free", "(P, N)", "log-probability")
def _log_p_short(log_p_cut: Any, rng: Any) -> Any:
    return log_softmax(np.where(np.isneginf(log_p_cut), -np.inf, half_integers(rng, log_p_cut.shape)))


symbol("direction", "a direction v in tabular logits", "(P, S, V)")(lambda log_pi_ref, rng: half_integers(rng, log_pi_ref.shape))


@symbol("score_v", "<score(tau), v>, the slope of log p_pi(tau) along v", "(P, N)")
def _score_v(mdp: Any, pi: Any, direction: Any) -> Any:
    return mdp.path_sum(direction - np.sum(pi * direction, axis=-1, keepdims=True))


@symbol("log_pi_cut", "the policy of p_ref restricted to that set; pi_ref where it never comes", "(P, S, V)", "log-probability")
def _log_pi_cut(mdp: Any, log_p_cut: Any, log_pi_ref: Any) -> Any:
    reached = np.sum(mdp.subtree_sum(np.exp(log_p_cut)), axis=-1, keepdims=True) > 0
    return np.where(reached, log_policy_of(mdp, log_p_cut), log_pi_ref)


@symbol("KL_to_come", "the KL still to come after a token, KL_s of the states behind it added up, a mean", "(P, S, V)", "nats")
def _KL_to_come(mdp: Any, log_pi: Any, KL_s: Any) -> Any:
    pi = [np.exp(level) for level in mdp.levels(log_pi)]
    here = mdp.levels(np.broadcast_to(KL_s[..., None], log_pi.shape))
    return mdp.backup(np.zeros((mdp.P, mdp.N)), lambda h, Q: np.sum(pi[h] * (Q + here[h]), axis=1))[1]


symbol("log_p_held", "p_pi once more, held where p_pi is differentiated", "(P, N)", "log-probability")(lambda log_p: log_p)

for _k, _name in enumerate(("k1", "k2", "k3", "the inverted k3"), 1):
    symbol(f"mix_{_k}", f"weight of {_name} in an estimator that is a mixture of four", "scalar")(
        lambda rng: float(rng.choice([-1.0, 0.5, 1.0, 2.0]))
    )
