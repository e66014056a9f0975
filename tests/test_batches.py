"""Batches of several prompts: counts of counts against every batch, one by one, in plain Python; drawn batches; what is ascended."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tabular_rlhf.cli import main
from tabular_rlhf.errors import InputError
from tabular_rlhf.logspace import log_softmax
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.policy_gradient import ADVANTAGES, AGGREGATIONS, BATCHES, Batch, Recipe, analyse
from tabular_rlhf.policy_gradient import batches as b
from tabular_rlhf.policy_gradient import groups as g
from tabular_rlhf.policy_gradient.faults import faults
from tabular_rlhf.policy_gradient.updates import batch_updates, covariance, expected_update
from tabular_rlhf.registry import parameters
from tabular_rlhf.world import World, coin
from tests.laws import assert_close


def two_prompts(seed: int = 0, *, eos: bool = True) -> World:
    """Two prompts, three responses of two lengths each (four of one length without EOS), rewards with ties."""
    rng = np.random.default_rng(seed)
    mdp = TokenMDP(("a", ".") if eos else 2, 2, eos="." if eos else None, prompts=("x", "y"), mu=[0.4, 0.6])
    log_ref = log_softmax(rng.standard_normal((2, mdp.S, 2)))
    r = rng.permuted(np.resize([0.0, 1.0, 0.5], (2, mdp.N)), axis=1)
    return World(mdp, log_ref, r, 0.8)


def asked(function: Any, supply: dict[str, Any]) -> dict[str, Any]:
    return {k: supply[k] for k in parameters(function) if k != "i"}


def every_batch(world: World, recipe: Recipe) -> Any:
    """(weight, [(x, tau, omega A')]) of all batches: by the oracles of the records, one at a time."""
    mdp, s = world.mdp, recipe.settings
    p = np.exp(world.log_p_ref)
    over = [mdp.eos is None or "." in mdp.text(tau) for tau in range(mdp.N)]
    given = {k: v.tolist() for k, v in g.baselines(world, world.log_ref, b.seen(world, recipe)).items()}

    def seen(x: int, tau: int) -> float:
        if recipe.batch.shaped is None:
            return float(world.r[x, tau])
        return float(world.r[x, tau] - max(0.0, (mdp.lengths[tau] - (mdp.H - s["cache"])) / s["cache"]))

    groups = []
    for x in range(mdp.P):
        for tau in itertools.product(range(mdp.N), repeat=recipe.G):
            mixed = len({float(world.r[x, t]) for t in tau}) > 1
            groups.append((x, tau, mixed, float(np.prod(p[x, list(tau)]))))
    often = {x: math.fsum(w for y, _, mixed, w in groups if y == x and mixed) for x in range(mdp.P)}
    if recipe.batch.redrawn:
        groups = [(x, tau, m, w / (often[x] if recipe.batch.redrawn == "same" else 1.0)) for x, tau, m, w in groups if m]
    whole = math.fsum(float(world.mu[x]) * w for x, _, _, w in groups)
    for batch in itertools.product(groups, repeat=recipe.B):
        weight = math.prod(float(world.mu[x]) * w / whole for x, _, _, w in batch)
        A, r, kept, L, who, mixes, ends = [], [], [], [], [], [], []
        for x, tau, mixed, _ in batch:
            rewards, lengths = [seen(x, t) for t in tau], [int(mdp.lengths[t]) for t in tau]
            supply = {"r": rewards, "lengths": lengths, "greedy": given["greedy"][x][0], "best": given["best"][x][0], **s}
            A += [recipe.advantage.oracle(i=i, **asked(recipe.advantage.oracle, supply)) for i in range(recipe.G)]
            r += rewards
            L += lengths
            kept += [float({"all": True, "mixed": mixed, "ended": over[t]}[recipe.batch.keeps]) for t in tau]
            who += [(x, t) for t in tau]
            mixes += [float(mixed)] * recipe.G
            ends += [float(over[t]) for t in tau]
        supply = {"A": A, "r": r, "kept": kept, "lengths": L, "mixed": mixes, "ended": ends, **s}
        made = [recipe.batch.oracle(i=i, **asked(recipe.batch.oracle, supply)) for i in range(len(A))]
        left = [i for i in range(len(A)) if kept[i]]
        told = {"lengths": [L[i] for i in left], "G": len(left), "H": mdp.H, **s}
        omega = [recipe.aggregation.oracle(i=k, **asked(recipe.aggregation.oracle, told)) for k in range(len(left))]
        yield weight, [(*who[i], omega[k] * made[i]) for k, i in enumerate(left)]


TOGETHER = [name for name, batch in BATCHES.items() if not batch.apart]
CASES = [
    *[("rloo", name, "token-mean") for name in TOGETHER],
    *[("grpo", name, "sequence-mean") for name in TOGETHER],
    ("none", "whitened", "sequence-sum"),
    ("none", "whitened-tokens", "constant"),
    ("group-mean", "over-std", "length-weighted"),
    ("opo", "dapo", "token-mean"),
    ("remax", "together", "token-mean"),
]


@pytest.mark.parametrize(("advantage", "batch", "aggregation"), CASES)
def test_counts_of_counts_are_every_batch(advantage: str, batch: str, aggregation: str) -> None:
    """Credit, and mean and covariance of the update, for slopes at random."""
    world = two_prompts()
    recipe = Recipe(advantage, "ratio", aggregation, batch=batch, G=2, B=2)
    found = b.credit(world, world.log_ref, recipe).plus
    v = np.random.default_rng(1).standard_normal((2, world.mdp.P, world.mdp.N, 3))
    plus, U, UU = np.zeros_like(world.r), np.zeros(6), np.zeros((6, 6))
    for weight, members in every_batch(world, recipe):
        u = np.zeros((2, 3))
        for x, tau, a in members:
            plus[x, tau] += weight * a
            u[x] += a * v[0, x, tau]
        U += weight * np.ravel(u)
        UU += weight * np.outer(u, u)
    assert_close(found, plus, 1e-13)
    mean, second = b.moments(world, world.log_ref, recipe, v)
    assert_close(np.ravel(mean), U, 1e-13)
    assert_close(np.reshape(second, (6, 6)), UU, 1e-12)
    assert np.max(np.abs(plus)) > 1e-3 or advantage == "none"


@pytest.mark.parametrize("batch", TOGETHER)
def test_pushes_up_and_down_are_told_apart(batch: str) -> None:
    """A clipped loss asks for them: their difference is the credit of a linear one, and neither is negative."""
    world = two_prompts(1)
    clipped, linear = (b.credit(world, world.log_ref, Recipe("rloo", f, batch=batch, G=2, B=2)) for f in ("ppo-clip", "ratio"))
    assert_close(clipped.plus - clipped.minus, linear.plus, 1e-14)
    assert min(np.min(clipped.plus), np.min(clipped.minus)) >= 0.0 < np.max(clipped.minus)


@pytest.mark.parametrize("aggregation", list(AGGREGATIONS))
@pytest.mark.parametrize("advantage", ["rloo", "grpo", "none"])
def test_a_batch_of_one_group_that_is_only_added_up_is_that_group(advantage: str, aggregation: str) -> None:
    world = two_prompts(2)
    one, group = (Recipe(advantage, aggregation=aggregation, batch=batch, G=3) for batch in ("together", "each-group"))
    assert_close(expected_update(world, world.log_ref, one), expected_update(world, world.log_ref, group), 1e-14)
    assert_close(covariance(world, world.log_ref, one), covariance(world, world.log_ref, group), 1e-14)


@pytest.mark.parametrize("B", [1, 2, 3])
def test_batches_of_one_prompt_that_are_whitened_are_larger_groups(B: int) -> None:
    """REINFORCE++ of one prompt is GRPO with B G responses, and its token weights those of one length."""
    world = two_prompts(3, eos=False)
    alone = World(TokenMDP(2, 2), world.log_ref[:1], world.r[:1], 1.0)
    want = expected_update(alone, alone.log_ref, Recipe("grpo", G=2 * B))
    for batch in ("whitened", "whitened-tokens"):
        assert_close(expected_update(alone, alone.log_ref, Recipe("none", batch=batch, G=2, B=B)), want, 1e-13)


def test_the_mean_of_groups_is_less_noisy_the_more_there_are() -> None:
    world = two_prompts(4)
    one, many = (Recipe("grpo", G=3, B=B) for B in (1, 3))
    assert_close(covariance(world, world.log_ref, many), covariance(world, world.log_ref, one) / 3.0, 1e-15)
    assert_close(
        covariance(world, world.log_ref, Recipe("grpo", batch="together", G=3, B=3)), covariance(world, world.log_ref, many), 1e-14
    )


@pytest.mark.parametrize("batch", TOGETHER)
def test_drawn_batches_have_the_exact_mean(batch: str) -> None:
    """Within five standard errors of the sample, along the gradient and in every parameter."""
    world = two_prompts(5)
    recipe = Recipe("rloo", aggregation="token-mean", batch=batch, G=3, B=2)
    drawn = b.sample(world, world.log_p_ref, recipe, 20_000, rng=np.random.default_rng(0))
    found = batch_updates(world, drawn, world.log_ref, recipe)
    exact = np.ravel(expected_update(world, world.log_ref, recipe))
    errors = np.sqrt(np.diag(covariance(world, world.log_ref, recipe)) / 20_000)
    assert np.all(np.abs(found.mean - exact) <= 5.0 * errors + 1e-12)


def test_what_batches_ascend() -> None:
    """By the theorem of dynamic sampling: filled has the direction of grad E[r] over prompts, redrawn has not; by groups of two."""
    world = two_prompts(6).with_reward(np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0]]))
    for batch, kept in (("filled", True), ("redrawn", False), ("dropped", True)):
        a = analyse(world, world.log_ref, Recipe("rloo", batch=batch, G=2, B=2))
        assert a.cosine is not None
        assert (a.cosine > 1.0 - 1e-12) == kept, batch
    shaped = analyse(world, world.log_ref, Recipe("rloo", batch="overlong-shaped", G=2, B=2))
    assert shaped.objective == "E[r] + E[shaping]"
    mixed = analyse(world, world.log_ref, Recipe("none", batch="whitened", G=2, B=2))
    assert mixed.curl is not None
    assert "F(" not in mixed.objective or mixed.curl == 0.0


@pytest.mark.parametrize("name", list(BATCHES))
def test_a_record_of_a_batch_is_what_it_says(name: str) -> None:
    assert faults(BATCHES[name], rng=np.random.default_rng(3)) == []


@pytest.mark.parametrize("name", ["whitened", "over-std", "together"])
def test_a_planted_lie_of_a_batch_is_found(name: str) -> None:
    true = BATCHES[name]
    lies = replace(true, fn=lambda A, n, kept: 2.0 * A), replace(true, smallest=true.smallest + 1)
    assert all(faults(lie, rng=np.random.default_rng(0)) for lie in lies)


def test_what_cannot_be_is_refused() -> None:
    world = two_prompts(7)
    flat = world.with_reward(np.ones_like(world.r))
    for batch in ("filled", "redrawn"):
        with pytest.raises(InputError, match="some group must be mixed"):
            expected_update(flat, flat.log_ref, Recipe("rloo", batch=batch, G=2, B=2))
        with pytest.raises(InputError, match="some group must be mixed"):
            b.sample(
                coin().with_reward(np.ones((1, 2))), coin().log_p_ref, Recipe("rloo", batch=batch, G=2), 2, rng=np.random.default_rng(0)
            )
    with pytest.raises(InputError, match=r"must fit in memory.*--samples"):
        expected_update(world, world.log_ref, Recipe("grpo", batch="whitened", G=8, B=64))
    with pytest.raises(InputError, match="at least 2 responses"):
        Recipe("none", batch="whitened", G=1)
    with pytest.raises(InputError, match="what is kept must be known"):
        Batch("x", "A", "none", lambda A: A, lambda i, A: A[i], keeps="some")
    with pytest.raises(InputError, match="what is redrawn must be known"):
        Batch("x", "A", "none", lambda A: A, lambda i, A: A[i], redrawn="often")
    with pytest.raises(InputError, match="B must be a whole number"):
        Recipe("rloo", B=0)


def test_all_parts_of_the_tables_are_tried() -> None:
    assert {a for a, _, _ in CASES} <= set(ADVANTAGES)
    assert {c for _, _, c in CASES} == set(AGGREGATIONS)


# ---------------------------------------------------------------------------------------------------- the command


def told(words: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["advantage", *words.split(), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.parametrize("batch", list(BATCHES))
def test_a_batch_is_asked_for_by_name_or_as_an_option(batch: str, capsys: pytest.CaptureFixture[str]) -> None:
    named = told(f"{batch} --world coin --group 2 --prompts 2", capsys)
    option = told(f"rloo --batch {batch} --world coin --group 2 --prompts 2", capsys)
    assert (named["batch"], option["batch"], named["prompts"], option["prompts"]) == (batch, batch, 2, 2)
    assert named["about"]["kind"] == "batch"
    numbers = [{k: v for k, v in found["rows"][0].items() if k != "recipe"} for found in (named, option)]
    assert numbers[0] == numbers[1]


def test_draws_are_told_with_their_error_and_agree_with_the_sum(capsys: pytest.CaptureFixture[str]) -> None:
    exact = told("whitened --world easy-and-hard --group 2 --prompts 2", capsys)["rows"]
    drawn = told("whitened --world easy-and-hard --group 2 --prompts 2 --samples 4000", capsys)
    assert (drawn["samples"], drawn["seed"]) == (4000, 0)
    for a, b_ in zip(exact, drawn["rows"], strict=True):
        assert abs(a["ratio"] - b_["ratio"]) <= 5.0 * b_["ratio_error"]
        assert abs(a["variance"] / b_["variance"] - 1.0) < 0.1
        assert b_["curl"] is b_["ascends"] is None
    many = told("whitened --world rational --group 8 --prompts 64 --samples 200", capsys)["rows"]
    assert all(row["refused"] is None for row in many)


def test_too_many_batches_are_refused_with_the_way_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["advantage", "grpo", "--batch", "whitened", "--prompts", "64"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "the batches that can be told apart must fit in memory" in said
    assert said.count("--samples 10000") == 1, "what is refused alike is said once"
    assert main(["advantage", "grpo", "--seed", "1"]) == 2
    assert "must have draws" in capsys.readouterr().err
