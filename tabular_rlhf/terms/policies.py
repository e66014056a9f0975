"""Quantities of a policy, computed as the book writes them, that several records compare with the library."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from tabular_rlhf import roads
from tabular_rlhf.autodiff import grad
from tabular_rlhf.logspace import expect, kl, log_softmax, logsumexp
from tabular_rlhf.policy_gradient import Recipe
from tabular_rlhf.policy_gradient import groups as g
from tabular_rlhf.policy_gradient.updates import expected_update, update_of
from tabular_rlhf.projection import expected_counts, reverse_projection


def visited(tied: Any, log_p_star: Any) -> Any:
    return np.sum(expected_counts(tied, log_p_star), axis=1, keepdims=True)


def averaged_policy(tied: Any, mu: Any, log_pi_star: Any, visits: Any) -> Any:
    """Rows of pi* averaged over the states of a context with some weights on states."""
    weights = mu[:, None] * visits
    total, mass = np.zeros(tied.shape[0]), np.zeros(tied.shape)
    np.add.at(total, tied.context, np.sum(weights, axis=0))
    np.add.at(mass, tied.context, np.sum(weights[:, :, None] * np.exp(log_pi_star), axis=0))
    return mass / total[:, None]


def token_ratios(mdp: Any, log_pi: Any, log_pi_ref: Any) -> Any:
    """The sum over tokens of log(pi/pi_ref), forbidden tokens counting 0."""
    allowed = ~np.isneginf(log_pi_ref)
    return mdp.path_sum(np.where(allowed, np.where(allowed, log_pi, 0.0) - np.where(allowed, log_pi_ref, 0.0), 0.0))


def without_eos(mdp: Any, *policies: Any) -> list[Any]:
    """Policies whose EOS column counts 0."""
    last = np.arange(mdp.V) == (mdp.V - 1 if mdp.eos is not None else -1)
    return [np.where(last & ~np.isneginf(log_pi), 0.0, log_pi) for log_pi in policies]


def all_together(log_p_ref: Any, r: Any, beta: float) -> Any:
    """The tilt normalized over all prompts together: a joint law, not a conditional one."""
    joint = log_p_ref + r / beta
    return np.exp(joint - logsumexp(np.ravel(joint)))


def spread(p: Any, f: Any) -> Any:
    """The variance of f under p, along the last axis."""
    return np.sum(p * np.square(f - np.sum(p * f, axis=-1, keepdims=True)), axis=-1)


def variance(log_p: Any, f: Any) -> Any:
    return expect(log_p, np.square(f - np.expand_dims(expect(log_p, f), -1)))


def counted_path(mdp: Any, log_pi: Any) -> Any:
    uncounted = np.array(log_pi)
    if mdp.eos is not None:
        uncounted[..., mdp.V - 1] = 0.0
    return mdp.path_sum(uncounted)


def level_totals(mdp: Any, d_pi: Any) -> Any:
    """For every state, the mass of its whole level: the probability of getting that far."""
    masses = [np.sum(d_pi[:, a:b], axis=1, keepdims=True) * np.ones(b - a) for a, b in itertools.pairwise(mdp.offsets)]
    return np.concatenate(masses, axis=1)


def plain_values(mdp: Any, log_pi: Any, reward: Any) -> tuple[Any, Any]:
    """V and Q of a policy for a fixed trajectory reward, by backward sweep."""
    levels = mdp.levels(log_pi)
    return mdp.backup(reward, lambda h, Q: np.sum(np.exp(levels[h]) * Q, axis=1))


def each(update: Any) -> Any:
    """An update of every prompt in the logits of all: (P, S, V) -> (P, P, S, V)."""
    return np.einsum("xsv,xy->xysv", update, np.eye(len(update)))


def visited_kl(d: Any, log_pi: Any, log_pi_ref: Any) -> Any:
    return np.sum(d * kl(log_pi, log_pi_ref), axis=1)


def two_stages(world: Any, policy: Any, pairs: Any, rewards: Any) -> Any:
    """The law at the end of RLHF by way of a reward class."""
    return np.exp(roads.rlhf(world, pairs, rewards, policy, rng=np.random.default_rng(2), starts=2).log_p)


def second_stage(policy: Any, log_law: Any) -> Any:
    """The reverse projection of a law made from a reward."""
    return np.exp(reverse_projection(policy, log_law, rng=np.random.default_rng(3), starts=3).log_p)


def score_mean(mdp: Any, mu: Any, log_p: Any, logits: Any, r: Any) -> Any:
    """E_mu E_p[r score]: r and the law of the draws frozen, log p differentiated."""
    possible = ~np.isneginf(log_p)
    weight = mu[:, None] * np.exp(log_p) * r
    return grad(lambda t: np.sum(weight * np.where(possible, mdp.path_sum(log_softmax(t)), 0.0)))(logits)


def values(mdp: Any, log_pi: Any, leaf: Any, token: Any = None) -> Any:
    """V (P, S) and Q (P, S, V) of a policy, for rewards at the end and perhaps of every token."""
    levels = mdp.levels(log_pi)
    extra = [np.zeros(x.shape) for x in levels] if token is None else mdp.levels(token)
    V, Q = mdp.backup(leaf, lambda h, Q: np.sum(np.exp(levels[h]) * (Q + extra[h]), axis=1))
    return V, Q if token is None else Q + token


def kl_gradient(world: Any, logits: Any) -> Any:
    """grad KL(p_pi, p_ref) by the gradient core."""
    return grad(lambda z: np.sum(world.mu * kl(world.mdp.path_sum(log_softmax(z)), world.log_p_ref)))(logits)


def mean_slope(world: Any, logits: Any, f: Any) -> Any:
    """grad E_p[f] for each prompt in the logits of all, by the gradient core."""
    mdp = world.mdp
    slope = grad(lambda t: np.sum(expect(mdp.path_sum(log_softmax(t)), f)))(logits)
    return np.einsum("xsv,xy->xysv", slope, np.eye(mdp.P))


def best_of_gain(gain: Any) -> Any:
    top = gain == np.max(gain, axis=1, keepdims=True)
    return top / np.sum(top, axis=1, keepdims=True)


def by_counts(world: Any, logits: Any, recipe: Recipe, reward: Any) -> Any:
    return expected_update(world, logits, recipe, reward=reward)


def by_groups(world: Any, logits: Any, recipe: Recipe, reward: Any) -> Any:
    """The mean over all groups, one by one."""
    log_pi = log_softmax(logits)
    everything = g.population(world, world.mdp.path_sum(log_pi), recipe.G)
    return update_of(world, g.credit_of(world, everything, recipe, log_pi, reward), logits, recipe)


def success_probability(p: Any, success: Any) -> Any:
    return np.minimum(1.0, np.sum(p * success, axis=1))
