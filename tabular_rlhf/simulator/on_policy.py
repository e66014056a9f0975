r"""Steps in logits, and the cores that ascend from groups drawn from the policy itself: one code, wherever the responses come from.

**A batch** is a list of responses with what is asked of them: all responses of a listed world (with their groups, or with none: then the
population takes the place of groups), or those drawn from a lattice, in rows of their own (`lattice.listing`, `paths`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tabular_rlhf.logspace import Array, log_ratio, log_softmax
from tabular_rlhf.policy_gradient import Recipe
from tabular_rlhf.policy_gradient import groups as g
from tabular_rlhf.policy_gradient.updates import score_sum, update_of
from tabular_rlhf.simulator.record import Learner, Random, Task, Told, bag
from tabular_rlhf.world import World

MEMORY = 0.1
"""Share of the newest rewards in reinforce's running baseline."""
ADAM = (0.9, 0.999, 1e-8)


def moved(task: Told, s: Learner, update: Array, counted: bool = True) -> Learner:
    """The learner after one ascent along `update`, by sgd or adam."""
    eta, n = task.step_size(s.step), s.step + counted
    if task.options.optimizer == "sgd":
        return replace(s, step=n, logits=s.logits + eta * update)
    a, b, tiny = ADAM
    first, second, k = a * s.first + (1 - a) * update, b * s.second + (1 - b) * np.square(update), s.step + 1
    step = eta * (first / (1 - a**k)) / (np.sqrt(second / (1 - b**k)) + tiny)
    return replace(s, step=n, logits=s.logits + step, first=first, second=second)


@dataclass(frozen=True, eq=False)
class Batch:
    """Responses, and what is asked of them.

    world, whose responses they are; reward (P, N); groups, None where the population is meant; beside (P, N), what is credited to each
    response without a reward (imitation); take and give, from the learner's logits to rows of the world, and from gradients there back;
    prompt, the number of each response's prompt, to index a table of prompts with; total, sums (P, N) by prompt.
    """

    world: World
    reward: Array
    groups: g.Groups | None
    beside: Any
    take: Callable[[Array], Array]
    give: Callable[[Array], Array]
    prompt: Any
    total: Callable[[Array], Array]


def on_policy(task: Task, s: Learner, rng: Random, *, advantage: str, loss: str = "reinforce", epochs: int = 1) -> Learner:
    """One batch of groups from the policy, or from the sampler that it is asked to be, and the updates made of it."""
    world, recipe = task.world, recipe_of(task, advantage, loss)
    log_p = world.mdp.path_sum(task.options.behavior.of(s.log_pi))
    groups = None if rng is None else g.sample(world, log_p, recipe.G, task.batch, rng=rng)
    imitated = task.options.ptx * world.mu[:, None] * np.exp(task.log_d) if task.options.ptx else 0.0
    prompt = np.arange(world.mdp.P)[:, None]
    at = Batch(world, task.data.reward, groups, imitated, _same, _same, prompt, lambda x: np.asarray(np.sum(x, axis=1)))
    return ascend(task, s, at, recipe, task.options.updates or epochs)


def recipe_of(task: Told, advantage: str, loss: str) -> Recipe:
    """A core's recipe, with what was told instead."""
    return Recipe(advantage, task.options.policy_loss or loss, correction=task.options.correction, G=task.options.group)


def _same(x: Array) -> Array:
    return x


def ascend(task: Told, s: Learner, at: Batch, recipe: Recipe, epochs: int) -> Learner:
    """The updates that are made of one batch."""
    world, behavior = at.world, task.options.behavior
    log_old: Array = log_softmax(at.take(s.logits))
    sampler = behavior.of(log_old)
    penalty = task.kl_coef * task.kl.phi(log_ratio(world.mdp.path_sum(log_old), world.log_p_ref))
    R = at.reward - (penalty if task.kl.in_reward else 0.0)
    pushed = R - s.baseline[at.prompt] if recipe.advantage.name == "none" else R
    if at.groups is None:
        share = world.mu[:, None] * np.exp(world.mdp.path_sum(sampler))
        credit = g.expected_credit(world, sampler, recipe, pushed)
    else:
        share = bag(at.groups.x[:, None], at.groups.tau, R.shape) / at.groups.tau.size
        credit = g.credit_of(world, at.groups, recipe, sampler, pushed)
    beside = at.beside + (-share * penalty if not task.kl.in_reward else np.zeros_like(share))
    plain = recipe.loss.name == "reinforce" and task.options.correction == "uncorrected"  # then the credit is all of it
    for k in range(epochs):
        logits = at.take(s.logits)
        own = score_sum(world, log_softmax(logits), beside + (credit.plus if plain else 0.0))
        own = own if plain else own + update_of(world, credit, logits, recipe, log_old=log_old, behavior=behavior)
        s = moved(task, s, at.give(own), counted=k == epochs - 1)
    return replace(s, baseline=remembered(s.baseline, at.total(share), at.total(share * R)))


def remembered(baseline: Array, seen: Array, earned: Array) -> Array:
    """The running mean of each prompt's rewards, of what was drawn: its share, and its share of the rewards, (P,) each."""
    mean = earned / np.where(seen > 0, seen, 1.0)
    return np.where(seen > 0, baseline + MEMORY * (mean - baseline), baseline)
