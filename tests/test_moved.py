"""Policies that have moved from who samples: every expected update against all groups in plain loops, and the commands that tell of it."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import numpy as np
import pytest

from tabular_rlhf.behavior import Behavior
from tabular_rlhf.cli import main
from tabular_rlhf.commands import gae, policies
from tabular_rlhf.errors import InputError
from tabular_rlhf.estimators import ESTIMATORS, Flag, exact_gradient
from tabular_rlhf.logspace import log_softmax
from tabular_rlhf.losses import LOSSES as LOSS_TABLE
from tabular_rlhf.losses.analyse import analyse as analyse_loss
from tabular_rlhf.policy_gradient import ADVANTAGES, AGGREGATIONS, CORRECTIONS, LOSSES, Recipe, analyse
from tabular_rlhf.policy_gradient import groups as g
from tabular_rlhf.policy_gradient.updates import covariance, expected_update, true_gradient, updates
from tabular_rlhf.registry import parameters
from tabular_rlhf.simulator import CORES, Options, advance, begin
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


# ---------------------------------------------------------------------------------------------------- penalties and pairs


@pytest.mark.parametrize("who", list(SAMPLERS))
def test_a_flag_on_samples_of_anyone_is_the_mean_over_them(who: str) -> None:
    """E_q[w (h + the parts that are differentiated)] of whole responses, by loops; what is never drawn counts nothing."""
    world = tiny(4)
    live, q = log_softmax(moved(world)), SAMPLERS[who].of(world.log_ref)
    law = [math.exp(x) for x in world.mdp.path_sum(q)[0]]
    log_p, log_ref = world.mdp.path_sum(live)[0], world.log_p_ref[0]
    scores = [score_of(world, live, n) for n in range(world.mdp.N)]
    for name, ratio in itertools.product(("k1", "k2", "k3", "abs"), ("none", "sequence")):
        record = ESTIMATORS[name]
        for place in ("loss",) if ratio == "none" else ("loss", "reward", "ratio"):
            flag, want = Flag(name, place, ratio=ratio), np.zeros(live.shape)
            for n in range(world.mdp.N):
                if law[n] > 0:
                    L = float(log_p[n] - log_ref[n])
                    w = 1.0 if ratio == "none" else math.exp(log_p[n]) / law[n]
                    slope = (place != "reward") * float(record.slope(np.array(L))) + (place != "loss") * record.oracle(L)
                    want += law[n] * w * slope * scores[n]
            assert_close(exact_gradient(flag, world, live, q), want, 1e-13, f"{who}, {flag.label}")


def score_of(world: World, live: Any, n: int) -> Any:
    """The score of a response, (1, S, V), state by state."""
    mdp, out = world.mdp, np.zeros(live.shape)
    row = [int(t) for t in mdp.tokens()[n] if t >= 0]
    for h, a in enumerate(row):
        s = mdp.offsets[h] + sum(t * mdp.K**i for i, t in enumerate(row[:h]))
        out[0, s] += [(b == a) - math.exp(float(live[0, s, b])) for b in range(mdp.V)]
    return out


def test_pairs_of_anyone_are_weighed_by_who_drew_them() -> None:
    """The value of a loss at a policy that has moved, pair by pair; the optimum of a Gibbs loss does not depend on who drew."""
    world = tiny(5)
    at = world.mdp.path_sum(log_softmax(moved(world)))
    for behavior in (SAMPLERS["hot"], SAMPLERS["cold"]):
        law = np.exp(world.mdp.path_sum(behavior.of(world.log_ref)))[0]
        total = mass = 0.0
        for w, l in itertools.permutations(range(world.mdp.N), 2):
            D = float((at - world.log_p_ref)[0, w] - (at - world.log_p_ref)[0, l])
            weight = 2 * law[w] * law[l] / (1 + math.exp(float(world.r[0, l] - world.r[0, w])))
            total, mass = total + weight * LOSS_TABLE["dpo"].oracle(a=D, b=0.0, beta=world.beta), mass + weight
        report = analyse_loss("dpo", world, drawn=lambda w, b=behavior: w.mdp.path_sum(b.of(w.log_ref)), at=at)
        assert_close(report.value_at_ref, total / mass, 1e-13)
        assert report.kl_to_gibbs < 1e-12
        assert not report.at_ref


@pytest.mark.parametrize(
    "words", [["kl", "--estimator", "k3", "--samples", "100"], ["losses", "dpo"], ["advantage", "rloo", "--group", "3"]]
)
def test_a_command_says_who_sampled(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--old", "optimum", "--moved", "0.5", "--temperature", "0.7", "--top-p", "0.95"]
    assert main([*words, *options, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["old"], told["moved"], told["sampler"], told["temperature"], told["top_p"]) == ("optimum", 0.5, "optimum", 0.7, 0.95)
    assert main([*words, *options]) == 0
    assert "drawn from the optimum policy at temperature 0.7, top-p 0.95" in " ".join(capsys.readouterr().out.split())


# ---------------------------------------------------------------------------------------------------- runs


@pytest.mark.parametrize("loss", ["reinforce", "truncated", "ppo-clip"])
@pytest.mark.parametrize("correction", ["uncorrected", "masked-sequence"])
def test_a_run_with_a_stale_sampler_is_so_many_expected_updates(loss: str, correction: str) -> None:
    """The exact ascent: three updates on what one sampler draws, the advantages and the sampler held."""
    world = tiny(6)
    told = Options("rloo", steps=2, group=3, lr=0.5, updates=3, temperature=0.7, correction=correction, policy_loss=loss, kl_coef=0.0)
    run, behavior = begin(world, told), Behavior(temperature=0.7)
    logits = np.array(world.log_ref)
    for _ in range(2):
        old = log_softmax(logits)
        for _ in range(3):
            logits = logits + 0.5 * expected_update(
                world, logits, Recipe("rloo", loss, correction=correction, G=3), log_old=old, behavior=behavior
            )
    got = advance(run, 2, exact=True)
    assert_close(got.learner.log_pi, log_softmax(logits), 1e-12)
    assert CORES["rloo"].predict(run.task) is None  # where it leads on policy is not where it leads now


def test_only_cores_that_sample_are_told_who_does() -> None:
    for changes in ({"updates": 2}, {"temperature": 0.5}, {"top_p": 0.5}, {"correction": "truncated-token"}, {"policy_loss": "gspo"}):
        with pytest.raises(InputError):
            Options("dpo", **changes)  # type: ignore[arg-type]
        Options("grpo", **changes)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------- a critic


@pytest.mark.parametrize("lam", [0.0, 0.4, 1.0])
def test_gae_is_the_mean_over_responses_step_by_step(lam: float) -> None:
    """Mean and variance by loops, with A_h written out; unbiased if the critic is exact (to a constant) or lam = 1."""
    world = tiny(7)
    for name, off in itertools.product(gae.CRITICS, (0.0, 0.5)):
        at = policies.situated(world, "reference", 0.6)
        on = policies.situated(world, "optimum")
        V, mdp, mean, square = gae.critic(world, on, name, off), world.mdp, np.zeros(world.log_ref.shape), 0.0
        pi = np.exp(on.log_pi)[0]
        for n, line in enumerate(mdp.tokens()):
            said = [int(t) for t in line if t >= 0]
            states = [mdp.offsets[h] + sum(t * mdp.K**i for i, t in enumerate(said[:h])) for h in range(len(said))]
            values = [*(float(V[0, s]) for s in states), float(world.r[0, n])]
            push = np.zeros(mean.shape)
            for h, (s, a) in enumerate(zip(states, said, strict=True)):
                A = math.fsum(lam ** (l - h) * (values[l + 1] - values[l]) for l in range(h, len(said)))
                push[0, s] += A * ((np.arange(mdp.V) == a) - pi[s])
            chance = math.prod(float(pi[s, a]) for s, a in zip(states, said, strict=True))
            mean, square = mean + chance * push, square + chance * float(np.sum(push**2))
        row = gae.rows(world, on, [name], off, [lam])[0]
        error = float(np.linalg.norm(mean - true_gradient(world, on.log_pi)))
        assert row["bias"] == pytest.approx(error, abs=1e-11)
        assert row["variance"] == pytest.approx(square - float(np.sum(mean**2)), abs=1e-12)
        assert (row["bias"] == 0.0) == (lam == 1.0 or name == "exact")  # off by as much after either token is a baseline
        assert gae.rows(world, at, [name], off, [lam])[0]["bias"] > 1e-3  # on the samples of another policy none is without bias


def test_tables_know_each_other() -> None:
    assert not set(CORRECTIONS) & {*ADVANTAGES, *AGGREGATIONS, *LOSSES}
