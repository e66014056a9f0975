"""Symbols of chapters 7 and 9: groups, token rewards, a behavior policy, 0/1 rewards, selection."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf import selection
from tabular_rlhf.behavior import Policies
from tabular_rlhf.logspace import log_softmax
from tabular_rlhf.policy_gradient import Recipe
from tabular_rlhf.policy_gradient.updates import slopes
from tabular_rlhf.symbols.table import half_integers, symbol

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
