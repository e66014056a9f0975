r"""Symbols of comparisons: chapters 3 and 6 speak of pairs of responses, of the laws that order them, and of scores fitted to them."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf import preferences
from tabular_rlhf.autodiff import grad
from tabular_rlhf.logspace import log_sigmoid, log_softmax
from tabular_rlhf.preferences.chains import components, finite_data
from tabular_rlhf.symbols.table import half_integers, symbol
from tabular_rlhf.world import World

symbol("law", "Bradley-Terry preferences under r", "Law")(lambda r: preferences.bradley_terry(r))
symbol("pairs", "all pairs of responses drawn from p_ref, labeled by the law", "Pairs")(
    lambda world, law: preferences.population_pairs(world, law)
)
symbol("scores", "rewards r^ that someone else proposes", "(P, N)", "nats")(lambda r, rng: half_integers(rng, r.shape))
symbol("shift", "a shift c(x) for each prompt", "(P, 1)", "nats")(lambda r, rng: half_integers(rng, (len(r), 1)))
symbol("gaps", "r_i - r_j", "(P, N, N)", "nats")(lambda r: r[:, :, None] - r[:, None, :])
symbol("score_gaps", "r^_i - r^_j", "(P, N, N)", "nats")(lambda scores: scores[:, :, None] - scores[:, None, :])
symbol("P_beats", "P(i beats j given x) under r", "(P, N, N)", "probability")(lambda gaps: np.exp(log_sigmoid(gaps)))


@symbol("n_ij", "how often i and j were compared, symmetric, some never", "(P, N, N)")
def _n_ij(r: Any, rng: Any) -> Any:
    upper = np.triu(rng.integers(0, 5, (*r.shape, r.shape[1])).astype(float), 1)
    return upper + np.swapaxes(upper, 1, 2)


@symbol("wins_ij", "how often i beat j, of n_ij times", "(P, N, N)")
def _wins_ij(n_ij: Any, rng: Any) -> Any:
    upper = np.triu(np.floor(n_ij * rng.random(n_ij.shape) + 0.5), 1)
    return upper + np.tril(n_ij - np.swapaxes(upper, 1, 2), -1)


@symbol("people", "people who need not be transitive: any M with M + M^T = 1", "(P, N, N)", "probability")
def _people(r: Any, rng: Any) -> Any:
    upper = np.triu(rng.integers(1, 10, (*r.shape, r.shape[1])) / 10.0, 1)
    lower = np.tril(1.0 - np.swapaxes(upper, 1, 2), -1)
    return upper + lower + 0.5 * np.eye(r.shape[1])


symbol("flip", "probability that a label is flipped, below 1/2", "scalar", "probability")(lambda rng: float(rng.integers(1, 9)) / 20)


# ---------------------------------------------------------------------------------------------------- designs that are made so


@symbol("group_A", "1 for the first half of the responses, a group A; 0 outside", "(P, N)")
def _group_A(r: Any) -> Any:
    P, N = r.shape
    return np.tile((np.arange(N) < (N + 1) // 2).astype(float), (P, 1))


symbol("wins_A", "how often i beat j, where nobody outside A ever beat one of A", "(P, N, N)")(
    lambda wins_ij, group_A: wins_ij * (1.0 - (1.0 - group_A[:, :, None]) * group_A[:, None, :])
)
symbol("wins_ring", "how often i beat j, with a ring of wins: each beat the next, the last beat the first", "(P, N, N)")(
    lambda wins_ij: wins_ij + np.roll(np.eye(wins_ij.shape[1]), 1, axis=1)
)


@symbol("wins_chain", "share of comparisons that i won of j, in finite data that leave some responses uncompared", "(P, N, N)")
def _wins_chain(world: Any) -> Any:
    data, table = finite_data(world), np.zeros((world.mdp.P, world.mdp.N, world.mdp.N))
    np.add.at(table, (data.x, data.w, data.l), data.weight)
    return table


symbol("component", "number of the component of these comparisons that a response belongs to", "(P, N)")(lambda world: components(world))


@symbol("scores_ring", "the likeliest scores of wins_ring", "(P, N)", "nats")
def _scores_ring(wins_ring: Any) -> Any:
    from tabular_rlhf.preferences.comparisons import Wins
    from tabular_rlhf.preferences.likelihood import fit

    return np.stack([fit(Wins(wins, tuple(map(str, range(len(wins)))))).r for wins in wins_ring])


symbol("far", "how far to go along a direction", "scalar", "nats")(lambda rng: float(rng.integers(1, 7)) / 2)
symbol("kappa", "how decided people are: P(i beats j) = sigma(kappa (r_i - r_j))", "scalar")(lambda rng: float(rng.integers(1, 5)) / 2)

# ---------------------------------------------------------------------------------------------------- one pair a prompt


def best_and_worst(world: World) -> tuple[Any, Any]:
    """One pair a prompt: the best and the worst possible response."""
    possible = ~np.isneginf(world.log_p_ref)
    return np.argmax(np.where(possible, world.r, -np.inf), axis=1), np.argmin(np.where(possible, world.r, np.inf), axis=1)


def features(world: World) -> Any:
    """Two features of each response, for a log-linear class over responses: neighbors are alike."""
    k = np.arange(world.mdp.N)
    return np.stack([k % 3 - 0.25, (k // 2) % 2 + 0.5 * k / world.mdp.N], axis=1)


for _k, _name in enumerate(("best", "worst")):
    symbol(_name, f"1 for the {_name} possible response, 0 for the others: a law", "(P, N)", "probability")(
        lambda world, k=_k: np.eye(world.mdp.N)[best_and_worst(world)[k]]
    )


@symbol(
    "log_p_stepped",
    "p_pi after a step of length eta in the logits, down the DPO loss of one pair a prompt, best over worst",
    "(P, N)",
    "log-probability",
)
def _log_p_stepped(world: Any, logits: Any, eta: float) -> Any:
    x, (w, l) = np.arange(world.mdp.P), best_and_worst(world)

    def loss(t: Any) -> Any:
        ratio = world.mdp.path_sum(log_softmax(t))[x, w] - world.mdp.path_sum(log_softmax(t))[x, l]
        return -np.sum(log_sigmoid(world.beta * (ratio - world.log_p_ref[x, w] + world.log_p_ref[x, l])))

    return world.mdp.path_sum(log_softmax(np.where(np.isneginf(logits), -np.inf, logits - eta * grad(loss)(logits))))


for _k in (1, 2):
    symbol(f"feature_{_k}", f"feature {_k} of a response, for a log-linear class", "(N,)")(lambda world, k=_k: features(world)[:, k - 1])
    symbol(f"theta_{_k}", f"the class's parameter of feature {_k}", "scalar")(lambda mdp, k=_k: (0.3, -0.2)[k - 1])
