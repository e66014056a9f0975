r"""Symbols of chapter 8: log-ratios of tokens and responses, a policy that falls short of the reference, a direction.

And of chapters 7 and 9: groups, token rewards, a behavior policy, 0/1 rewards, selection.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf import selection
from tabular_rlhf.behavior import Policies
from tabular_rlhf.gibbs import log_policy_of
from tabular_rlhf.logspace import kl, log_ratio, log_softmax, logsumexp
from tabular_rlhf.policy_gradient import Recipe
from tabular_rlhf.policy_gradient.updates import slopes
from tabular_rlhf.symbols.table import half_integers, symbol

# ---------------------------------------------------------------------------------------------------- of policies and groups


symbol("G", "responses of a group", "int")(lambda rng: int(rng.integers(2, 5)))
symbol("draws", "draws that best-of-n chooses from", "int")(lambda rng: int(rng.integers(2, 6)))
symbol("rounds", "rounds of expert iteration", "int")(lambda rng: int(rng.integers(2, 5)))
symbol("clip", "clipping range of the ratio", "scalar")(lambda rng: float(rng.integers(1, 5)) / 10)
symbol("r_token", "a reward of every token", "(P, S, V)", "reward units")(lambda log_pi_ref, rng: half_integers(rng, log_pi_ref.shape))
symbol("b_x", "a baseline of every prompt", "(P,)", "reward units")(lambda mu, rng: half_integers(rng, mu.shape))


@symbol("log_pi_behavior", "the behavior policy, near pi", "(P, S, V)", "log-probability")
def _log_pi_behavior(logits: Any, rng: Any) -> Any:
    return log_softmax(logits + half_integers(rng, logits.shape) / 2.0)


@symbol("success", "a 0/1 reward with a possible success in every prompt", "(P, N)")
def _success(log_p_ref: Any, r: Any) -> Any:
    best = np.max(np.where(np.isneginf(log_p_ref), -np.inf, r), axis=1, keepdims=True)
    return np.where(np.isneginf(log_p_ref), 0.0, r >= best - 1.0)


@symbol("graded", "a reward of at most three levels", "(P, N)")
def _graded(f: Any) -> Any:
    return np.clip(np.round(f / 2.0), -1.0, 1.0)


symbol("earned", "a positive reward", "(P, N)")(lambda f: f + 2.5)


@symbol("score_rows", "grad log p(tau) in the logits of its prompt, a row a response", "(P, N, S, V)")
def _score(world: Any, log_pi: Any) -> Any:
    mdp = world.mdp
    return np.reshape(slopes(world, Policies(log_pi, log_pi, log_pi), Recipe("none", G=1))[0], (mdp.P, mdp.N, mdp.S, mdp.V))


symbol("score", "grad log p(tau) in the logits of every prompt (0 in those of others)", "(P, N, P, S, V)")(
    lambda score_rows: np.einsum("xnsv,xy->xnysv", score_rows, np.eye(len(score_rows)))
)


@symbol("log_p_best_of_n", "law of the best of n draws", "(P, N)", "log-probability")
def _log_p_best_of_n(log_p_ref: Any, r: Any, draws: int) -> Any:
    return selection.best_of_n(log_p_ref, r, draws)


# ---------------------------------------------------------------------------------------------------- of estimators


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
