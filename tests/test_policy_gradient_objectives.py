"""What recipes optimize: effective objectives, curl, population flows, figures, and the command that prints them."""

from __future__ import annotations

import argparse
import json
import math

import numpy as np
import pytest
from matplotlib.figure import Figure as Sheet

from tabular_rlhf.commands import advantage as command
from tabular_rlhf.errors import InputError
from tabular_rlhf.figures import groups as figure
from tabular_rlhf.figures import page
from tabular_rlhf.gibbs import policy_gradient, solve
from tabular_rlhf.logspace import log_softmax
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.policy import uniform
from tabular_rlhf.policy_gradient import (
    ADVANTAGES,
    AGGREGATIONS,
    BATCHES,
    CORRECTIONS,
    LOSSES,
    Recipe,
    analyse,
    success_objective,
    success_weight,
)
from tabular_rlhf.policy_gradient.flows import flow, natural, recipe_direction
from tabular_rlhf.policy_gradient.groups import baselines
from tabular_rlhf.policy_gradient.record import RANGES
from tabular_rlhf.policy_gradient.updates import expected_update
from tabular_rlhf.world import World, coin, random_world, rational
from tests.laws import assert_close


def small_world(seed: int) -> World:
    """Three responses of lengths 1 and 2, rewards of few levels."""
    world = random_world(rng=np.random.default_rng(seed), V=2, H=2)
    return world.with_reward(np.random.default_rng(seed).choice([-1.0, 0.0, 0.1, 0.3], world.r.shape))


# ---------------------------------------------------------------------------------------------------- what is optimized


def test_grpo_tends_to_the_arcsine() -> None:
    """The error of F falls as 1/sqrt G (its ends, where c_G stays at sqrt(G - 1)); that of c_G inside as 1/G."""
    q = np.array([0.2, 0.5, 0.9])
    errors = []
    for G in (256, 1024):
        recipe = Recipe("grpo", G=G)
        inner = np.max(np.abs(success_weight(q, recipe) - 1 / np.sqrt(q * (1 - q))))
        errors.append((inner, np.max(np.abs(success_objective(q, recipe) - 2 * np.arcsin(np.sqrt(q))))))
    assert errors[1][0] < errors[0][0] / 3.5
    assert errors[1][1] < errors[0][1] / 1.9
    assert errors[1][1] < 0.1


def test_the_success_objective_has_the_success_weight_for_slope() -> None:
    for name, G in (("grpo", 2), ("grpo", 7), ("loo-std", 4), ("rloo", 3), ("group-mean", 3)):
        recipe, h = Recipe(name, G=G), 1e-4
        for q in (0.1, 0.5, 0.83):
            slope = (success_objective(q + h, recipe) - success_objective(q - h, recipe)) / (2 * h)
            assert slope == pytest.approx(float(success_weight(q, recipe)), rel=1e-5)


def work_around_a_loop(recipe: Recipe, world: World, steps: int = 200) -> float:
    """The update's work along a closed circle of logits: 0 for every gradient of a function of the policy (trapezoids: spectral)."""
    angle = 2 * np.pi * np.arange(steps) / steps
    at = np.stack([np.cos(angle), np.sin(angle), np.zeros(steps)], axis=1)
    along = np.stack([-np.sin(angle), np.cos(angle), np.zeros(steps)], axis=1) * 2 * np.pi / steps
    return float(sum(np.sum(expected_update(world, a[None, None], recipe)[0, 0] * d) for a, d in zip(at, along, strict=True)))


@pytest.mark.parametrize("name", list(ADVANTAGES))
def test_three_levels_divided_by_their_spread_are_the_gradient_of_nothing(name: str) -> None:
    mdp = TokenMDP(3, 1)
    world, recipe = World(mdp, uniform(mdp), np.array([[0.0, 0.5, 1.0]]), 1.0), Recipe(name, "ppo-clip", G=4)
    twist, work = analyse(world, world.log_ref, recipe).curl, work_around_a_loop(recipe, world)
    assert twist is not None
    assert (twist > 1e-6) == (abs(work) > 1e-6) == (name in ("grpo", "loo-std", "max-rl", "max-rl-raw", "pass-at-k-std")), (twist, work)
    two = world.with_reward(np.array([[0.0, 0.0, 1.0]]))
    assert abs(work_around_a_loop(recipe, two)) < 1e-12, "with 0/1 rewards there is an objective"


def test_a_following_baseline_divided_by_length_is_the_gradient_of_nothing() -> None:
    world = rational()
    following, fixed = (analyse(world, world.log_ref, Recipe(name, aggregation="sequence-mean")) for name in ("rloo", "constant"))
    assert following.objective.startswith("nothing: it has curl; nearest")
    assert (fixed.curl, fixed.objective) == (0.0, "E[r/L] - 0.5 E[1/L]")


def test_an_analysis_says_what_is_known_by_hand() -> None:
    """A fair coin, G = 2: RLOO's A is +-1 or 0; the update of one group is A (e - 1/2) with |.|^2 = 1/2, half of the time."""
    a = analyse(coin(), np.zeros((1, 1, 2)), Recipe("rloo", G=2))
    assert (a.cosine, a.ratio, a.silent, a.objective) == (1.0, 1.0, 0.5, "E[r]")
    assert a.variance == pytest.approx(0.5 * 0.5 - 0.125)
    assert a.responses == pytest.approx(2 * 0.125 / 0.125)
    flat = analyse(coin().with_reward(np.ones((1, 2))), np.zeros((1, 1, 2)), Recipe("grpo", G=2))
    assert (flat.cosine, flat.ratio, flat.silent) == (None, None, 1.0)


def test_the_optimal_constant_has_the_least_variance() -> None:
    world = small_world(9)
    logits = world.log_ref + 0.5 * np.random.default_rng(1).standard_normal(world.log_ref.shape)
    least = analyse(world, logits, Recipe("optimal", G=1)).variance
    assert least is not None
    best = float(baselines(world, log_softmax(logits), world.r)["best"][0, 0])
    for b in (best - 0.01, best + 0.01, -0.5, 0.0, 0.2, 1.0):
        other = analyse(world, logits, Recipe("constant", G=1, baseline=b)).variance
        assert other is not None
        assert least < other - 1e-7


def test_remax_compares_with_the_response_of_likeliest_tokens() -> None:
    """Token by token "a" then ".": p("a .") = 0.6 * 0.55; "." alone, the likeliest response, is not the greedy one."""
    mdp = TokenMDP(("a", "."), 2, eos=".")
    log_pi = np.log([[[0.6, 0.4], [0.45, 0.55]]])
    world = World(mdp, log_pi, np.array([[{".": 5.0, "a .": 7.0, "a a": 11.0}[mdp.text(i)] for i in range(3)]]), 1.0)
    assert baselines(world, log_pi, world.r)["greedy"].tolist() == [[7.0]]


# ---------------------------------------------------------------------------------------------------- flows


def test_a_sound_flow_arrives_at_gibbs_and_a_scaled_one_at_its_own_optimum() -> None:
    """0/1 rewards: the scaled flow rests where log odds against p_ref are c_G(q)/beta, not 1/beta."""
    world = coin(0.5)
    sound = flow(world, np.zeros((1, 1, 2)), recipe_direction(world, Recipe("rloo")), [0.0, 20.0, 400.0])
    assert sound.regret[-1] < 1e-12
    assert sound.reward[-1] == pytest.approx(float(solve(world).p[0, 1]), abs=1e-7)
    recipe = Recipe("grpo", G=8)
    scaled = flow(world, np.zeros((1, 1, 2)), natural(world, recipe_direction(world, recipe)), [0.0, 40.0])
    q = scaled.reward[-1]
    assert np.log(q / (1 - q)) == pytest.approx(float(success_weight(q, recipe)) / 0.5, abs=1e-4)
    assert scaled.regret[-1] > 0.05


def test_the_natural_flow_contracts_at_rate_beta() -> None:
    """With one token, log(p/p*) falls as exp(-beta t) up to a constant, so log odds do exactly."""
    world = coin(0.5)
    path = flow(world, np.zeros((1, 1, 2)), natural(world, lambda t: policy_gradient(world, t)), [0.0, 1.0, 3.0])
    odds = np.log(path.reward / (1 - path.reward))
    assert_close(2.0 - odds, 2.0 * np.exp(-0.5 * path.time), 1e-6)


def test_a_flow_tells_each_quantity_by_its_name() -> None:
    """At its last time reward, KL and regret are those of the policy where it ended, by plain sums; J + regret = V throughout."""
    world = random_world(rng=np.random.default_rng(4), V=3, H=2, P=2, beta=0.4)
    f = flow(world, 0.3 * np.array(world.log_ref), recipe_direction(world, Recipe("rloo")), [0.0, 0.7, 2.0])
    p, q, best = (np.exp(x) for x in (world.mdp.path_sum(log_softmax(f.logits)), world.log_p_ref, solve(world).log_p))
    told = [math.fsum(np.ravel(world.mu[:, None] * x)) for x in (p * world.r, p * np.log(p / q), world.beta * p * np.log(p / best))]
    assert_close([f.reward[-1], f.kl[-1], f.regret[-1]], told, 1e-12)
    assert_close(f.reward - world.beta * f.kl + f.regret, solve(world).value, 1e-12)
    assert len({round(x, 6) for x in told}) == 3
    assert_close(f.time, [0.0, 0.7, 2.0], 0.0)


ENDS = {
    "epsilon": ([0.0, 1e-300, 1e3], [-1e-300, -1.0]),
    "ddof": ([0.0, 1.0], [-1.0, 0.5, 2.0]),
    "baseline": ([-1e300, 0.0, 1e300], []),
    "clip": ([1e-9, 0.999], [0.0, 1.0, -0.1]),
    "low": ([1e-9, 1.0], [0.0, 1.000001, -1.0]),
    "high": ([1e-9, 100.0], [0.0, -1.0]),
    "dual": ([1.000001, 1e3], [1.0, 0.0]),
    "scale": ([1e-9, 1e3], [0.0, -1.0]),
    "k": ([1.0, 4.0], [0.0, 1.5, 5.0]),
    **{name: ([1e-9, 1e3], [0.0, -1.0]) for name in ("tau_pos", "tau_neg", "wide", "cap", "cache")},
    "floor": ([0.0, 2.0], [-1e-9, 2.000001]),
    **{name: ([0.0, 1e3], [-1e-9]) for name in ("k_pos", "k_neg", "lam_pos", "lam_neg")},
}
"""Of every setting: numbers at the ends of what it may be, and the first beyond."""


@pytest.mark.parametrize("name", RANGES)
def test_a_setting_is_taken_up_to_its_ends_and_no_further(name: str) -> None:
    registries = (
        ("advantage", ADVANTAGES),
        ("loss", LOSSES),
        ("aggregation", AGGREGATIONS),
        ("correction", CORRECTIONS),
        ("batch", BATCHES),
    )
    kind, part = next((kind, p.name) for kind, table in registries for p in table.values() if name in p.defaults)
    for value in ENDS[name][0]:
        assert Recipe(G=4, **{kind: part, name: value}).settings[name] == value
    for value in [*ENDS[name][1], np.nan, np.inf, -np.inf, "1", True, None, 10**400]:
        with pytest.raises(InputError, match=name):
            Recipe(G=4, **{kind: part, name: value})


def test_a_ptx_term_needs_data() -> None:
    with pytest.raises(InputError, match="data distribution"):
        recipe_direction(coin(), Recipe("rloo"), gamma=1.0)
    with pytest.raises(InputError, match="increase from 0"):
        flow(coin(), np.zeros((1, 1, 2)), lambda t: t, [1.0, 2.0])


# ---------------------------------------------------------------------------------------------------- figures


def test_group_weights_in_their_figure() -> None:
    shown = figure.compute_weight(points=21)
    assert shown["weight"][0] == pytest.approx([1.0] * 21), "c_2 = 1"
    assert shown["objective"][0] == pytest.approx(shown["q"])
    for weight in shown["weight"][1:]:
        assert weight == pytest.approx(weight[::-1])
        assert min(weight) == weight[10]
    assert all(a <= b + 1e-12 for a, b in zip(shown["objective"][-1], shown["arcsine"], strict=True))


def test_only_token_means_move_the_length_in_its_figure() -> None:
    """By hand, first step of the sequence mean when all are right: grad E[1/L], with P(L = k) = 2^-k."""
    shown = figure.compute_length(horizon=3, steps=20)
    start = 1 * 0.5 + 2 * 0.25 + 3 * 0.25
    for rule, curve in shown["curves"].items():
        assert curve["right"][0] == curve["wrong"][0] == pytest.approx(start)
        moved = rule in ("sequence-mean", "token-mean")
        assert (curve["right"][-1] < start - 0.01) == moved
        assert (curve["wrong"][-1] > start + 0.01) == moved
        if not moved:
            assert curve["right"] == pytest.approx([start] * 21)


def test_artists_show_the_data() -> None:
    for record in figure.FIGURES:
        data = page.rounded(record.compute())
        panels = list(Sheet().subplots(1, len(record.widths), squeeze=False)[0])
        record.draw(panels, data)
        drawn = [line.get_ydata().tolist() for ax in panels for line in ax.lines]
        wanted = data["weight"] if "weight" in data else [curve["wrong"] for curve in data["curves"].values()]
        assert all(row in drawn for row in wanted)


# ---------------------------------------------------------------------------------------------------- the command


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    command.configure(parser)
    return command.run(parser.parse_args(words))


def test_the_command_prints_a_row_a_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--group", "4") == 0
    out = capsys.readouterr().out
    assert all(name in out for name in [*ADVANTAGES, "token-mean"])
    assert "nothing: it has curl" in out
    assert run("grpo", "--json", "--world", "coin", "--set", "ddof=1") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["about"]["source"].startswith("Shao")
    at_half = next(row for row in found["success"] if row["q"] == 0.5)
    assert at_half["weight"] == pytest.approx(float(success_weight(0.5, Recipe("grpo", G=8, ddof=1))))
    assert found["rows"][0]["ratio"] == pytest.approx(at_half["weight"])
    assert max(map(len, out.splitlines())) <= 130


def test_the_command_refuses_what_it_does_not_know() -> None:
    for words in (
        ("nonsense",),
        ("grpo", "--set", "ddof"),
        ("rloo", "--set", "ddof=1"),
        ("grpo", "--set", "beta=1"),
        ("--world", "nowhere"),
    ):
        with pytest.raises(InputError):
            run(*words)


def test_the_command_says_why_a_number_cannot_be_had(capsys: pytest.CaptureFixture[str]) -> None:
    """long-tail has 17 reward levels: groups of 16 have too many counts for a standard deviation."""
    assert run("--world", "long-tail", "--group", "16") == 0
    assert "counts of kinds must fit in memory" in capsys.readouterr().out
