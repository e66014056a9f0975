r"""Chapter 10, beyond lists: a world of 10^100 responses, by sweeps over its few states, against powers of a listed one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tabular_rlhf.language import Language
from tabular_rlhf.lattice import LatticeWorld, Level, Reference, solve, unmerged
from tabular_rlhf.lattice.flow import kl
from tabular_rlhf.ledger.record import Miss, claim
from tabular_rlhf.logspace import expect
from tabular_rlhf.path.sweep import by_prompt
from tabular_rlhf.terms.conditions import full
from tabular_rlhf.terms.policies import spread

DIGITS = 100
"""A world of 10^DIGITS responses, at least."""


def repeats(world: Any) -> int:
    """How often a world is said to get there."""
    return math.ceil(DIGITS / math.log10(world.mdp.N))


def repeated(world: Any) -> LatticeWorld:
    """The world said n times, after the same prompt: N^n responses, the rewards added.  States of one round are those of the tree."""
    tree, n = unmerged(world), repeats(world)
    x, P = tree.language, tree.language.P
    last = tree.levels[-1]
    prompt = np.broadcast_to(np.repeat(np.arange(P), last.n // P), last.child.shape)
    again = Level(prompt, last.log_ref, last.r, P)  # instead of an end, the same prompt once more
    rounds = [*tree.levels[:-1], again] * (n - 1) + list(tree.levels)
    return LatticeWorld(Language(x.vocabulary, x.H * n, None, x.prompts, x.mu, x.sep), rounds, tree.roots, tree.beta)


def of_repeated(world: Any) -> Any:
    """log Z and KL(p*, p_ref), the mean and the variance of the reward under p*, by sweeps."""
    g = solve(repeated(world))
    mean, variance = by_prompt(lambda y: y.r, g)
    return g.log_Z, kl(g, Reference(g.world)), mean, variance


def drawn(world: Any, r: Any, beta: float, p_ref: Any) -> Any:
    """log Z as samples see it: the mean of 256 draws' weights, by the seed 0."""
    n, rng = repeats(world), np.random.default_rng(0)
    total = np.stack([np.sum(reward[rng.choice(len(p), p=p, size=(256, n))], axis=1) for reward, p in zip(r, p_ref, strict=True)])
    top = np.max(total, axis=1, keepdims=True)
    return np.log(np.mean(np.exp((total - top) / beta), axis=1)) + top[:, 0] / beta


claim(
    slug="beyond-lists",
    chapter=10,
    text=r"""
    \log \mathbb{E}_{y, y' \sim p_{ref}}[e^{(r(y) + r(y'))/\beta}] = 2 \log Z
    \mathbb{E}_{y, y' \sim p^*}\left[\log \frac{p^*(y)\, p^*(y')}{p_{ref}(y)\, p_{ref}(y')}\right] = 2\, \mathrm{KL}(p^*, p_{ref})
    \mathbb{E}_{y, y' \sim p^*}[r(y) + r(y')] = 2\, \mathbb{E}_{p^*}[r]
    \mathrm{Var}_{y, y' \sim p^*}(r(y) + r(y')) = 2\, \mathrm{Var}_{p^*}(r)
        # for a world said twice; and n times, until it has 10^100 responses: exact by sweeps over its few states
    """,
    source="Rounds are independent; nothing is listed but one of them.",
    note="Its law of reward has a tail that draws do not see: the mean of 256 weights is off.",
    parts=("log Z", "divergence", "mean", "variance"),
    sides={
        "one round, listed, times n": lambda world, log_Z, p_star, p_ref, log_p_star, log_p_ref, r: tuple(
            repeats(world) * x for x in (log_Z, expect_kl(p_star, log_p_star, log_p_ref), expect(log_p_star, r), spread(p_star, r))
        ),
        "sweeps over 10^100 responses": of_repeated,
    },
    misses={
        "256 draws show log Z": drawn,
        "the mean reward over beta": lambda world, p_ref, r, beta: repeats(world) * np.sum(p_ref * r, axis=1) / beta,
        "deviations add": Miss(lambda world, p_star, r: np.square(repeats(world) * np.sqrt(spread(p_star, r))), part=3),
        "the reference's reward": Miss(lambda world, p_ref, r: repeats(world) * np.sum(p_ref * r, axis=1), part=2),
    },
    where=lambda world, log_p_ref, N: world.mdp.eos is None and N > 1 and full(log_p_ref),
    scale=lambda world, r, beta, log_p_star, log_p_ref: tuple(
        levels(world) * (1.0 + size * (1.0 + float(np.max(np.abs(r))) / beta))
        for size in (1.0, 1.0 + float(np.max(np.abs(log_p_ref))), float(np.max(np.abs(r))), float(np.max(np.abs(r))) ** 2)
    ),
    largest=300,
    most=2,
)


def levels(world: Any) -> float:
    """What a sum over the rounds can be, in terms: each level of the sweep rounds the running total once more."""
    n = repeats(world)
    return n * (1.0 + n * world.mdp.H / 16.0)


def expect_kl(p_star: Any, log_p_star: Any, log_p_ref: Any) -> Any:
    return np.sum(p_star * (log_p_star - log_p_ref), axis=1)
