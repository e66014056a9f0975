r"""Symbols that are solved for, or added up one by one: minimizers, equilibria, a step, sums over all groups and all draws.

Symbols of PPO with a pretraining term: the maximizer p^o of E_p[r] - beta KL(p, p_ref) + gamma E_D[log p], and what is taken from it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf import games, gibbs
from tabular_rlhf.losses.optimum import minimize
from tabular_rlhf.penalties import ptx_optimum
from tabular_rlhf.policy_gradient.bernstein import pull
from tabular_rlhf.policy_gradient.flows import natural
from tabular_rlhf.preferences import bradley_terry, population_pairs, sure
from tabular_rlhf.symbols.moved import less_mean
from tabular_rlhf.symbols.table import symbol
from tabular_rlhf.world import coin

# ---------------------------------------------------------------------------------------------------- a pretraining term


symbol("ptx", "the solved objective with a pretraining term", "PenalizedOptimum")(
    lambda log_p_ref, r, beta, gamma, log_D: ptx_optimum(log_p_ref, r, beta, gamma, log_D)
)
symbol("log_p_ptx", "the maximizer p^o of E_p[r] - beta KL(p, p_ref) + gamma E_D[log p]", "(P, N)", "log-probability")(
    lambda ptx: ptx.log_p
)
symbol("lam_ptx", "the multiplier at p^o, for the sum of p being 1", "(P,)", "reward units")(lambda ptx: ptx.lam)
symbol("log_p_ptx_far", "p^o at the KL weight beta/(1 + far)", "(P, N)", "log-probability")(
    lambda log_p_ref, r, beta, gamma, log_D, far: ptx_optimum(log_p_ref, r, beta / (1.0 + far), gamma, log_D).log_p
)
symbol("log_p_ptx_0", "p^o for a reward of 0", "(P, N)", "log-probability")(
    lambda log_p_ref, beta, gamma, log_D: ptx_optimum(log_p_ref, np.zeros_like(log_D), beta, gamma, log_D).log_p
)


# ---------------------------------------------------------------------------------------------------- where losses are least


def least(name: str, world: Any, law: Any) -> Any:
    """The minimizer of a loss on all pairs with the labels of a law, by Newton's method."""
    return np.exp(minimize(name, world, population_pairs(world, law)).log_p)


symbol("p_dpo_bt", "DPO's minimizer with Bradley-Terry labels on all pairs, by Newton's method", "(P, N)", "probability")(
    lambda world, law: least("dpo", world, law)
)
symbol("p_dpo_kappa", "DPO's minimizer with labels of people of decision kappa, by Newton's method", "(P, N)", "probability")(
    lambda world, kappa, r: least("dpo", world, bradley_terry(kappa * r))
)
symbol("p_ipo", "IPO's minimizer with certain labels on all pairs, by Newton's method", "(P, N)", "probability")(
    lambda world, r: least("ipo", world, sure(r))
)
symbol("ipo_arm", "IPO's probability of the better of two arms, even in the reference, by Newton's method", "scalar", "probability")(
    lambda beta: least_of_two(beta)
)


def least_of_two(beta: float) -> float:
    """IPO's minimizer on one pair of two arms."""
    world = coin(beta)
    return float(np.exp(minimize("ipo", world, population_pairs(world, sure(world.r)).distinct()).log_p[0, 1]))


# ---------------------------------------------------------------------------------------------------- games


@symbol("game_value", "what a policy of the game M can win at least, max over p of min over j, by a linear program", "(P,)", "probability")
def _game_value(M: Any) -> Any:
    return np.min(np.sum(games.minimax_winner(M).p[:, :, None] * M, axis=1), axis=1)


symbol("p_eq", "the equilibrium of the game M with a KL of weight tau, by Newton's method", "(P, N)", "probability")(
    lambda M, log_p_ref, tau: games.regularized_equilibrium(M, log_p_ref, tau).p
)

# ---------------------------------------------------------------------------------------------------- a step

symbol("natural_gradient", "F^-1 grad J, by the inverse of the Fisher matrix in every state", "(P, S, V)", "reward units")(
    lambda world, log_pi: natural(world, lambda t: gibbs.policy_gradient(world, t))(log_pi)
)

# ---------------------------------------------------------------------------------------------------- groups, one by one

symbol("graded_rloo_pull", "pull of groups with the graded reward less the mean of the others", "(P, N)")(
    lambda p, graded, G: pull(p, graded, G, lambda x: less_mean(x) * G / (G - 1))
)
symbol("graded_centered_pull", "pull of groups with the graded reward less the group's mean", "(P, N)")(
    lambda p, graded, G: pull(p, graded, G, less_mean)
)


def every(N: int, n: int) -> Any:
    """All sequences of n responses, (N^n, n)."""
    return np.reshape(np.indices((N,) * n), (n, -1)).T


def given_own(p: Any, success: Any, G: int, own: float) -> Any:
    """The mean of A_1 = (r_1 - mean)/std over all groups with r_1 = own, silent ones 0: (P,)."""
    members, out = every(p.shape[1], G), []
    for law, right in zip(p, success, strict=True):
        r = right[members]
        spread = np.std(r, axis=1)
        A = (r[:, 0] - np.mean(r, axis=1)) / np.where(spread > 0, spread, 1.0)
        weight = np.prod(law[members], axis=1) * (r[:, 0] == own)
        out.append(np.sum(weight * A) / np.sum(weight))
    return np.array(out)


symbol("credit_right", "GRPO's mean advantage of a right response, over all groups that it is in", "(P,)")(
    lambda p, success, G: given_own(p, success, G, 1.0)
)
symbol("credit_wrong", "GRPO's mean advantage of a wrong response, over all groups that it is in", "(P,)")(
    lambda p, success, G: given_own(p, success, G, 0.0)
)

# ---------------------------------------------------------------------------------------------------- draws, one by one


@symbol("p_drawn_best", "law of the best of n draws, ties broken at random, by all sequences of draws", "(P, N)", "probability")
def _p_drawn_best(p_ref: Any, r: Any, draws: int) -> Any:
    tau, laws = every(r.shape[1], draws), []
    for law, row in zip(p_ref, r, strict=True):
        best = row[tau] == np.max(row[tau], axis=1, keepdims=True)
        parts = np.prod(law[tau], axis=1)[:, None] * best / np.sum(best, axis=1, keepdims=True)
        laws.append(np.bincount(np.ravel(tau), np.ravel(parts), r.shape[1]))
    return np.stack(laws)


@symbol("best_is", "probability that the best of n draws earns r(tau), by all sequences of draws", "(P, N)", "probability")
def _best_is(p_ref: Any, r: Any, draws: int) -> Any:
    tau = every(r.shape[1], draws)
    rows = zip(p_ref, r, strict=True)
    return np.stack([np.sum(np.prod(law[tau], axis=1) * (np.max(row[tau], axis=1) == row[:, None]), axis=1) for law, row in rows])


@symbol("first_of_level", "1 for the first response of every reward level, 0 for the others", "(P, N)")
def _first_of_level(r: Any) -> Any:
    return (np.argmax(r[:, None, :] == r[:, :, None], axis=2) == np.arange(r.shape[1])) * 1.0
