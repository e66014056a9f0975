"""Symbols of chapters 5 and 6: policy classes that cannot hold p*, their projections, and people who need not be transitive."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf import roads
from tabular_rlhf.gibbs import log_gibbs
from tabular_rlhf.logspace import log_softmax
from tabular_rlhf.policy import LogLinear, NGram
from tabular_rlhf.preferences import matrix, population_pairs
from tabular_rlhf.projection import counted, expected_counts, reverse_projection, same_mean_law
from tabular_rlhf.symbols.table import half_integers, symbol

# ---------------------------------------------------------------------------------------------------- a class too small

symbol("tied", "an n-gram class: no context up to two tokens, one token beyond", "NGram")(lambda mdp: NGram(mdp, 0 if mdp.H <= 2 else 1))
symbol("theta_tied", "parameters of a policy of the tied class", "(C, V)")(lambda tied, rng: half_integers(rng, tied.shape))
symbol("log_pi_tied", "that policy", "(P, S, V)", "log-probability")(lambda tied, theta_tied: tied.log_pi(theta_tied))
symbol("log_p_tied", "its trajectory distribution", "(P, N)", "log-probability")(lambda mdp, log_pi_tied: mdp.path_sum(log_pi_tied))
symbol("theta_hat", "log of the target's expected counts, per context", "(C, V)", "log-probability")(
    lambda tied, log_p_star: counted(tied, log_p_star)
)
symbol("log_pi_hat", "forward projection of p* onto the tied class", "(P, S, V)", "log-probability")(
    lambda tied, theta_hat: tied.log_pi(theta_hat)
)
symbol("log_p_hat", "its trajectory distribution", "(P, N)", "log-probability")(lambda mdp, log_pi_hat: mdp.path_sum(log_pi_hat))
symbol("context", "the context of a state, by its number", "(S,)", level="token")(lambda tied: tied.context)
symbol("log_row_tied", "the row of the tied policy in every context", "(C, V)", "log-probability")(
    lambda theta_tied: log_softmax(theta_tied)
)
symbol("log_row_hat", "the row of the forward projection in every context", "(C, V)", "log-probability")(
    lambda theta_hat: log_softmax(theta_hat)
)
symbol("n_star", "how often p* says a token in a context", "(C, V)")(lambda tied, log_p_star: expected_counts(tied, log_p_star))
symbol("visits_star", "how often p* comes to a context", "(C,)", level="token")(lambda n_star: np.sum(n_star, axis=1))
symbol("visits_hat", "how often p_hat comes to a context", "(C,)", level="token")(
    lambda tied, log_p_hat: np.sum(expected_counts(tied, log_p_hat), axis=1)
)
symbol("d_star", "probability that p* passes through s", "(P, S)", "probability")(
    lambda mdp, p_star: np.sum(mdp.subtree_sum(p_star), axis=-1)
)
symbol("d_hat", "probability that p_hat passes through s", "(P, S)", "probability")(
    lambda mdp, log_pi_hat: np.exp(mdp.prefix_sum(log_pi_hat))
)


@symbol("log_p_level", "a law with the same mean reward as p*", "(P, N)", "log-probability")
def _log_p_level(log_p_star: Any, r: Any, rng: Any) -> Any:
    return same_mean_law(log_p_star, r, half_integers(rng, r.shape))


symbol("phi_tokens", "two features of every state and token", "(P, S, V, 2)")(lambda mdp, rng: half_integers(rng, (mdp.P, mdp.S, mdp.V, 2)))
symbol("log_linear", "the log-linear class of these features", "LogLinear")(lambda mdp, phi_tokens: LogLinear(mdp, phi_tokens))


symbol("t", "a place on the arc from p_ref (0) to p* (1)", "scalar")(lambda rng: float(rng.integers(1, 8)) / 8)

# ---------------------------------------------------------------------------------------------------- people


@symbol("M", "P(i beats j given x), of people who need not be transitive", "(P, N, N)", "probability")
def _M(mdp: Any, rng: Any) -> Any:
    above = np.triu(rng.integers(1, 10, (mdp.P, mdp.N, mdp.N)) / 10.0, 1)
    return above + np.tril(1.0 - np.swapaxes(above, 1, 2), -1) + 0.5 * np.eye(mdp.N)


symbol("pairs_M", "all pairs of these people, responses drawn from p_ref", "Pairs")(lambda world, M: population_pairs(world, matrix(M)))


def _likeliest(world: Any, pairs_M: Any, policy: Any) -> roads.RewardFit:
    return roads.fit_reward(pairs_M, roads.Implicit(policy, world), world.r.shape, rng=np.random.default_rng(1), starts=2)


symbol("fit_tied", "the likeliest reward of R(Pi), Pi the tied class", "RewardFit")(
    lambda world, pairs_M, tied: _likeliest(world, pairs_M, tied)
)
symbol("fit_linear", "the likeliest reward of R(Pi), Pi the log-linear class", "RewardFit")(
    lambda world, pairs_M, log_linear: _likeliest(world, pairs_M, log_linear)
)
symbol("p_rlhf", "RLHF's law: the reward fit_tied + c(x), then its reverse projection onto the tied class", "(P, N)", "probability")(
    lambda log_p_ref, beta, tied, fit_tied, shift: np.exp(
        reverse_projection(tied, log_gibbs(log_p_ref, fit_tied.r + shift, beta), rng=np.random.default_rng(3), starts=3).log_p
    )
)
symbol("p_dpo", "DPO's law in the tied class", "(P, N)", "probability")(
    lambda world, pairs_M, tied: np.exp(roads.dpo(world, pairs_M, tied, rng=np.random.default_rng(0), starts=2).log_p)
)
symbol("p_dpo_linear", "DPO's law in the log-linear class", "(P, N)", "probability")(
    lambda world, pairs_M, log_linear: np.exp(roads.dpo(world, pairs_M, log_linear, rng=np.random.default_rng(0), starts=2).log_p)
)
symbol("tau", "KL weight of the game", "scalar", "probability per nat")(lambda rng: float(rng.integers(2, 9)) / 8)
symbol("log_q_game", "a law to start a game from", "(P, N)", "log-probability")(
    lambda log_p_ref, rng: log_softmax(np.where(np.isneginf(log_p_ref), -np.inf, half_integers(rng, log_p_ref.shape)))
)
