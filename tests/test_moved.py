"""Policies that have moved from who samples: every expected update against all groups in plain loops, and the commands that tell of it."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from tabular_rlhf.behavior import Behavior
from tabular_rlhf.commands import policies
from tabular_rlhf.errors import InputError
from tabular_rlhf.logspace import log_softmax
from tabular_rlhf.policy_gradient import ADVANTAGES, AGGREGATIONS, CORRECTIONS, LOSSES, Recipe, analyse
from tabular_rlhf.policy_gradient import groups as g
from tabular_rlhf.policy_gradient.updates import covariance, expected_update, true_gradient, updates
from tabular_rlhf.registry import parameters
from tabular_rlhf.world import World, random_world
from tests.laws import EPS, assert_close

SAMPLERS = {
    "hot": Behavior(temperature=2.0),
    "cold": Behavior(temperature=0.6),
    "nucleus": Behavior(top_p=0.7),
    "another": Behavior(temperature=1.5, log_pi=np.log(np.array([[[0.3, 0.7], [0.6, 0.4], [0.5, 0.5]]]))),
}


def tiny(seed: int = 0) -> World:
    """Two tokens, two steps, no EOS: four responses, a state for every prefix."""
    world = random_world(rng=np.random.default_rng(seed), V=2, H=2, eos=False)
    return world.with_reward(np.random.default_rng(seed).choice([0.0, 0.25, 1.0], world.r.shape))


def moved(world: World, seed: int = 3) -> Any:
    return world.log_ref + 0.8 * np.random.default_rng(seed).standard_normal(world.log_ref.shape)


# ---------------------------------------------------------------------------------------------------- by loops over all groups


def log_ratio_of(level: str, steps: list[tuple[int, int]], top: Any, below: Any) -> list[float]:
    """The log-ratio of a correction's level at every token of a response."""
    each = [float(top[s, a] - below[s, a]) for s, a in steps]
    if level == "token":
        return each
    if level == "prefix":
        return list(itertools.accumulate(each))
    return [math.fsum(each) / (len(each) if level == "geometric" else 1)] * len(each)


def by_loops(world: World, recipe: Recipe, live: Any, old: Any, sampler: Any) -> Any:
    """The mean update of groups of two under reinforce, group by group, member by member, token by token."""
    mdp, total = world.mdp, np.zeros(live.shape)
    tokens = mdp.tokens()
    for group in itertools.product(range(mdp.N), repeat=recipe.G):
        said = [[int(t) for t in tokens[n] if t >= 0] for n in group]
        visits = [[(mdp.offsets[h] + sum(t * mdp.K**i for i, t in enumerate(row[:h])), row[h]) for h in range(len(row))] for row in said]
        chance = math.exp(math.fsum(float(sampler[0, s, a]) for steps in visits for s, a in steps))
        rewards = [float(world.r[0, n]) for n in group]
        for i, steps in enumerate(visits):
            names = [k for k in parameters(recipe.advantage.oracle) if k != "i"]
            A = recipe.advantage.oracle(i=i, **{k: {"r": rewards, **recipe.settings}[k] for k in names})
            ratios = log_ratio_of(recipe.correction.level, steps, old[0], sampler[0])
            for (s, a), ratio in zip(steps, ratios, strict=True):
                c = recipe.correction.oracle(
                    **{k: {"rho": math.exp(ratio), **recipe.settings}[k] for k in parameters(recipe.correction.oracle)}
                )
                score = [(b == a) - math.exp(float(live[0, s, b])) for b in range(mdp.V)]
                total[0, s] += chance * c * A / recipe.G * np.array(score)
    return total


@pytest.mark.parametrize("who", list(SAMPLERS))
def test_an_update_under_any_sampler_is_the_mean_over_its_groups(who: str) -> None:
    world = tiny()
    live, old = log_softmax(moved(world)), world.log_ref
    sampler = SAMPLERS[who].of(old)
    for correction in CORRECTIONS:
        recipe = Recipe("rloo", "reinforce", "sequence-sum", correction, G=2)
        got = expected_update(world, live, recipe, log_old=old, behavior=SAMPLERS[who])
        if not np.isneginf(sampler).any():
            assert_close(got, by_loops(world, recipe, live, old, sampler), 1e-13, f"{who}, {correction}")
        else:  # what is never drawn weighs nothing, however large its ratio
            assert np.isfinite(got).all()


@pytest.mark.parametrize("who", list(SAMPLERS))
def test_counts_are_all_groups_under_any_sampler(who: str) -> None:
    """Mean and covariance by counts against every group, for every loss and correction that go together."""
    world, behavior = tiny(1), SAMPLERS[who]
    logits, old = moved(world), world.log_ref
    everything = g.population(world, world.mdp.path_sum(behavior.of(old)), 2)
    for loss, correction, rule in itertools.product(LOSSES, CORRECTIONS, ("sequence-sum", "token-mean")):
        if CORRECTIONS[correction].by_token and LOSSES[loss].level != "token":
            with pytest.raises(InputError):
                Recipe("grpo", loss, rule, correction, G=2)
            continue
        recipe = Recipe("group-mean", loss, rule, correction, G=2)
        one_by_one = updates(world, everything, logits, recipe, log_old=old, behavior=behavior)
        assert_close(expected_update(world, logits, recipe, log_old=old, behavior=behavior).ravel(), one_by_one.mean, 1e-12, recipe.name)
        assert_close(covariance(world, logits, recipe, log_old=old, behavior=behavior), one_by_one.covariance, 1e-12, recipe.name)


@pytest.mark.parametrize("name", list(CORRECTIONS))
def test_a_correction_is_its_equation(name: str, rng: np.random.Generator) -> None:
    record = CORRECTIONS[name]
    for rho in (*np.exp(rng.standard_normal(50)), 2.0, 0.0):
        want = record.oracle(**{k: {"rho": rho, **record.defaults}[k] for k in parameters(record.oracle)})
        assert_close(record(rho=np.array(rho), **record.defaults), want, 4 * EPS * (1 + want), name)


def test_only_the_ratio_of_the_response_mends_a_sampler_that_covers() -> None:
    world = tiny(2)
    world = world.with_reward(world.r + 0.1)  # no response is worth nothing
    truth = true_gradient(world, world.log_ref)
    for who, behavior in SAMPLERS.items():
        off = {
            c: np.max(np.abs(expected_update(world, world.log_ref, Recipe("none", correction=c), behavior=behavior) - truth))
            for c in CORRECTIONS
        }
        covers = np.isfinite(behavior.of(world.log_ref)).all()
        assert (off["ratio-sequence"] < 1e-13) == covers, who
        assert min(off[c] for c in ("uncorrected", "ratio-token", "ratio-prefix")) > 1e-4, who


def test_a_verdict_follows_the_sampler() -> None:
    """What is said is measured where the sampler follows the live policy: exact words only where it is so."""
    world = tiny(3)
    said = {c: analyse(world, world.log_ref, Recipe("rloo", correction=c, G=4), behavior=SAMPLERS["hot"]).verdict for c in CORRECTIONS}
    assert said["ratio-sequence"].words == "E[r]"
    assert not said["uncorrected"].exact
    assert not said["ratio-token"].exact


def test_who_samples_is_told_by_one_group_of_options() -> None:
    world = random_world(rng=np.random.default_rng(0), V=2, H=2)
    at = policies.situated(world, "reference", 0.5, "uniform", 0.7, 0.9)
    assert (at.told(world)["old"], at.told(world)["sampler"]) == ("reference", "uniform")
    assert not at.on_policy
    assert policies.situated(world).on_policy
    for wrong in ({"temperature": 0.0}, {"top_p": 0.0}, {"top_p": 1.1}, {"sampler": "nobody"}, {"moved": np.inf}, {"old": "x"}):
        with pytest.raises(InputError):
            policies.situated(world, **wrong)  # type: ignore[arg-type]


def test_tables_know_each_other() -> None:
    assert not set(CORRECTIONS) & {*ADVANTAGES, *AGGREGATIONS, *LOSSES}
