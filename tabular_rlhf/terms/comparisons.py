"""Quantities of comparisons and of direct losses that several records compare with the library."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

from tabular_rlhf.gibbs import log_gibbs
from tabular_rlhf.logspace import Array, log_sigmoid
from tabular_rlhf.losses.evaluate import gradient, logit_gradient, weights
from tabular_rlhf.preferences import Pairs, bradley_terry, population_pairs
from tabular_rlhf.preferences.chains import components, finite_data
from tabular_rlhf.preferences.comparisons import Wins
from tabular_rlhf.world import World


def on_support(log_p_ref: Any, table: Any) -> Any:
    """A table where the reference can go, 0 elsewhere."""
    possible = ~np.isneginf(log_p_ref)
    return np.where(possible, np.where(possible, table, 0.0), 0.0)


def implicit_reward(log_p: Any, log_p_ref: Any, beta: float) -> Any:
    """beta log(p/p_ref) on the support of p_ref."""
    possible = ~np.isneginf(log_p_ref)
    return beta * (np.where(possible, log_p, 0.0) - np.where(possible, log_p_ref, 0.0))


def people(world: World) -> Pairs:
    """All pairs under Bradley-Terry labels."""
    return population_pairs(world, bradley_terry(world.r))


def pull(world: World, log_p: Any, beta: float, sign: float = 1.0) -> Any:
    """weight * sigma(rhat_l - rhat_w) for each pair (with sign -1, the wrong way round)."""
    pairs = people(world)
    rhat = implicit_reward(log_p, world.log_p_ref, beta)
    return weights(pairs) * special.expit(-sign * pairs.margin(rhat))


def certain_win_rate(world: World, q: Any) -> Any:
    """P(y beats a response of q) when the better reward always wins."""
    beats = (np.sign(world.r[:, :, None] - world.r[:, None, :]) + 1.0) / 2.0
    return np.einsum("xij,xj->xi", beats, q)


def ipo_closed(world: World, beta: float, q: Any) -> Array:
    return np.exp(log_gibbs(world.log_p_ref, certain_win_rate(world, q), beta))


def borda_winner(M: Any) -> Any:
    """The response of the largest mean win rate, as a law: what Bradley-Terry crowns when all pairs are asked."""
    best = np.argmax(np.mean(M, axis=2), axis=1)
    return np.min(np.take_along_axis(M, best[:, None, None], axis=1)[:, 0], axis=1)


def sigma(d: Any) -> Any:
    return np.exp(log_sigmoid(d))


def softplus(d: Any) -> Any:
    """log(1 + e^d) = -log sigma(-d), written without a kink, so that the core's second derivatives hold at ties too."""
    return np.logaddexp(0.0, d)


def wins_table(counts: Any) -> Wins:
    return Wins(np.asarray(counts, dtype=float), tuple(map(str, range(len(counts)))))


def pair_shares(log_p_ref: Any, mu: Any) -> Any:
    """mu(x) q_i q_j, (P, N, N)."""
    p = np.exp(log_p_ref)
    return mu[:, None, None] * p[:, :, None] * p[:, None, :]


def nll(scores: Any, wins: Any) -> Any:
    """-sum wins_ij log sigma(r_i - r_j), over all prompts; traced."""
    return np.sum(wins * softplus(scores[:, None, :] - scores[:, :, None]))


def score(scores: Any, n_ij: Any, wins_ij: Any) -> Any:
    """sum_j n_ij (sigma(r_i - r_j) - wins_ij/n_ij)."""
    return np.sum(n_ij * sigma(scores[:, :, None] - scores[:, None, :]) - wins_ij, axis=2)


def own_score(mdp: Any, pi: Any, x: Any, y: Any) -> Array:
    """grad log pi(y) in token logits, (P, S, V): one-hot less pi in the states that y visits."""
    out = np.zeros((mdp.P, mdp.S, mdp.V))
    tokens = mdp.tokens(y)
    for row, prompt in enumerate(x):
        state, depth_first = 0, 0
        for h, a in enumerate(t for t in tokens[row] if t >= 0):
            out[prompt, state] = (np.arange(mdp.V) == a) - pi[prompt, state]
            place = state - mdp.offsets[h]
            state = mdp.offsets[h + 1] + place + int(a) * mdp.width(h) if h + 1 < mdp.H and a < mdp.K else depth_first
    return out


def component_sums(world: World, table: Any) -> Array:
    """The sum over the component of each response, (P, N)."""
    label = components(world)
    return np.array([[np.sum(t[row == c]) if c >= 0 else 0.0 for c in row] for row, t in zip(label, table, strict=True)])


def drift(world: World, log_p: Any, name: str) -> Array:
    """How the sums change under one unit of gradient descent on response logits."""
    data = finite_data(world)
    return component_sums(world, -logit_gradient(log_p, gradient(name, world, log_p, data)))


def log_p_rate(world: World, log_p: Any) -> Array:
    slope = logit_gradient(log_p, gradient("dpo", world, log_p, finite_data(world)))
    possible = ~np.isneginf(log_p)
    return np.where(possible, np.sum(np.exp(log_p) * slope, axis=1, keepdims=True) - slope, 0.0)


def pairs_nll(pairs: Any, scores: Any) -> Any:
    return np.sum(pairs.weight * softplus(-pairs.margin(scores)))
