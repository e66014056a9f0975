"""Laws of the simulator's parts, by independent routes: what a step does with what was drawn, what is remembered, told and kept."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tabular_rlhf.errors import InputError
from tabular_rlhf.gibbs import solve
from tabular_rlhf.logspace import kl, log_of, log_softmax
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.policy_gradient import groups as g
from tabular_rlhf.policy_gradient.updates import score_sum
from tabular_rlhf.selection import best_of_n
from tabular_rlhf.simulator import CORES, Options, Run, begin, simulate
from tabular_rlhf.simulator.algorithms import EPOCHS, compared, graded, imitate
from tabular_rlhf.simulator.chance import noise_of_steps
from tabular_rlhf.simulator.on_policy import ADAM, MEMORY, moved
from tabular_rlhf.simulator.record import KEEP, KL_FLAGS, Data, bag, learner
from tabular_rlhf.simulator.report import FIELDS, closing, report
from tabular_rlhf.simulator.scoring import price_of_comparisons, total_variation
from tabular_rlhf.simulator.stages import curvature, prepare, usual_step
from tabular_rlhf.simulator.state import digest
from tabular_rlhf.world import World, coin, named_world, random_world
from tests.laws import assert_close


def three_prompts(seed: int = 0) -> World:
    """Three prompts, asked unequally often, one of them hardly ever."""
    mdp = TokenMDP(("a", "b", "."), 2, eos=".", prompts=("x", "y", "z"), mu=[0.7, 0.299, 0.001])
    rng = np.random.default_rng(seed)
    return World(mdp, log_softmax(rng.standard_normal((3, mdp.S, 3))), rng.standard_normal((3, mdp.N)) + 2.0, 0.5)


def again(run: Run) -> np.random.Generator:
    """A generator in the state of the run's own."""
    rng = np.random.default_rng()
    rng.bit_generator.state = run.rng.bit_generator.state
    return rng


# ---------------------------------------------------------------------------------------------------- one step on what was drawn


@pytest.mark.parametrize("named", KL_FLAGS)
@pytest.mark.parametrize("ptx", [0.0, 0.7])
def test_a_reinforce_step_is_a_sum_over_draws(named: str, ptx: float) -> None:
    """Update and memory, draw by draw: A = R - the prompt's own remembered mean, scores of whole responses, penalty beside or within,
    demonstrations pulled at; a prompt that was not drawn remembers what it did."""
    world = three_prompts()
    run = begin(world, Options(algorithm="reinforce", kl=named, kl_coef=0.8, ptx=ptx, batch=6, group=2, lr=0.3))
    mdp, task = world.mdp, run.task
    before = replace(run.learner, baseline=np.array([1.0, -2.0, 5.0]), logits=np.array(world.log_ref) + 0.3)
    after = CORES["reinforce"].step(task, before, again(run))
    log_pi = before.log_pi
    log_p = mdp.path_sum(log_pi)
    drawn = g.sample(world, log_p, 2, 6, rng=again(run))
    penalty = 0.8 * KL_FLAGS[named].phi(log_p - world.log_p_ref)
    R = world.r - (penalty if KL_FLAGS[named].in_reward else 0.0)
    update, seen = np.zeros_like(log_pi), {x: [] for x in range(3)}
    for x, row in zip(drawn.x.tolist(), drawn.tau.tolist(), strict=True):
        for tau in row:
            credit = R[x, tau] - before.baseline[x] - (0.0 if KL_FLAGS[named].in_reward else penalty[x, tau])
            update += credit / 12 * score_of(mdp, log_pi, x, tau)
            seen[x].append(R[x, tau])
    if ptx:
        shown = task.data.demonstrations
        for x in range(3):
            law = shown[x] / np.sum(shown[x]) if np.sum(shown[x]) else np.exp(world.log_p_ref[x])
            update += sum(ptx * world.mu[x] * law[tau] * score_of(mdp, log_pi, x, tau) for tau in range(mdp.N))
    assert_close(after.logits, before.logits + 0.3 * update, 1e-12)
    told = [b + MEMORY * (np.mean(seen[x]) - b) if seen[x] else b for x, b in enumerate(before.baseline.tolist())]
    assert_close(after.baseline, told, 1e-12)
    assert not seen[2]  # the rare prompt was not drawn here
    assert after.step == 1


def score_of(mdp: TokenMDP, log_pi: Any, x: int, tau: int) -> Any:
    """grad log p(tau) in tabular logits, token by token."""
    out, tokens = np.zeros_like(log_pi), [int(t) for t in mdp.tokens(np.array([tau]))[0] if t >= 0]
    for h, a in enumerate(tokens):
        s = int(mdp.offsets[h] + sum(t * mdp.K**i for i, t in enumerate(tokens[:h])))
        out[x, s] -= np.exp(log_pi[x, s])
        out[x, s, a] += 1.0
    return out


def test_a_score_sum_is_the_sum_of_scores(rng: np.random.Generator) -> None:
    world = three_prompts()
    credit = rng.standard_normal(world.r.shape)
    want = sum(credit[x, tau] * score_of(world.mdp, world.log_ref, x, tau) for x in range(3) for tau in range(world.mdp.N))
    assert_close(score_sum(world, world.log_ref, credit), want, 1e-13)


def test_sgd_and_adam_step_as_written(rng: np.random.Generator) -> None:
    """Adam by hand over three steps; the step size is that of the step's own number; an uncounted step is the first of its number."""
    world = coin()
    updates = rng.standard_normal((3, 1, 1, 2))
    for optimizer in ("sgd", "adam"):
        task = begin(world, Options(algorithm="ppo", optimizer=optimizer, lr=0.2, decay=4.0)).task
        s, z, m, v = learner(world, world.log_ref), np.array(world.log_ref), 0.0, 0.0
        for k, u in enumerate(updates):
            s = moved(task, s, u)
            m, v = ADAM[0] * m + (1 - ADAM[0]) * u, ADAM[1] * v + (1 - ADAM[1]) * u**2
            step = m / (1 - ADAM[0] ** (k + 1)) / (np.sqrt(v / (1 - ADAM[1] ** (k + 1))) + ADAM[2])
            z = z + 0.2 / (1 + k / 4.0) * (u if optimizer == "sgd" else step)
            assert_close(s.logits, z, 1e-14)
        still = moved(task, s, updates[0], counted=False)
        assert (s.step, still.step) == (3, 3)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_ppo_makes_its_epochs_of_one_batch_and_counts_one_step(decay: float) -> None:
    """Short steps: all are the plain policy gradient of rloo, of the size that belongs to the batch's number."""
    world = coin()
    run = begin(world, Options(algorithm="ppo", lr=1e-3, batch=8, decay=decay))
    once = CORES["rloo"].step(begin(world, Options(algorithm="rloo", lr=1e-3, batch=8)).task, run.learner, again(run))
    after = CORES["ppo"].step(run.task, run.learner, again(run))
    assert after.step == 1
    gone, one = after.logits - run.learner.logits, once.logits - run.learner.logits
    assert np.max(np.abs(gone - EPOCHS * one)) < 1e-2 * np.max(np.abs(gone))
    assert np.max(np.abs(gone)) > 0


# ---------------------------------------------------------------------------------------------------- imitation and selection


def test_imitation_is_the_mean_of_counts_and_what_was_known() -> None:
    world = three_prompts()
    rng = np.random.default_rng(2)
    law, n = rng.dirichlet(np.ones(world.mdp.N), 3), np.array([0.0, 1.0, 40.0])
    made = np.exp(world.mdp.path_sum(imitate(world, law, n, world.log_p_ref)))
    want = (n[:, None] * law + KEEP * np.exp(world.log_p_ref)) / (n[:, None] + KEEP)
    assert_close(made, want, 1e-13)


def test_rewards_are_graded_above_the_least_that_is_possible() -> None:
    mdp = TokenMDP(3, 1, prompts=("x", "y"))
    log_ref = log_of(np.array([[[0.5, 0.5, 0.0]], [[0.2, 0.3, 0.5]]]))
    world = World(mdp, log_ref, np.array([[1.0, 3.0, -9.0], [2.0, 2.0, 2.0]]), 1.0)
    task = begin(world, Options(algorithm="expert-iteration")).task
    assert graded(task).tolist() == [[0.0, 2.0, 0.0], [1.0, 1.0, 1.0]]


@pytest.mark.parametrize("core", ["expert-iteration", "best-of-n"])
def test_selection_keeps_what_it_says(core: str) -> None:
    """One step on draws made again: weighed by the graded reward, or the first best of each group, added to what was kept before."""
    world = three_prompts()
    run = begin(world, Options(algorithm=core, batch=5, group=3))
    before = replace(run.learner, counts=np.ones(world.r.shape))
    after = CORES[core].step(run.task, before, again(run))
    log_p = world.mdp.path_sum(before.log_pi) if core == "expert-iteration" else world.log_p_ref
    drawn = g.sample(world, log_p, 3, 5, rng=again(run))
    counts = np.zeros(world.r.shape)
    for x, row in zip(drawn.x.tolist(), drawn.tau.tolist(), strict=True):
        kept = row if core == "expert-iteration" else [max(row, key=lambda tau: world.r[x, tau])]
        for tau in kept:
            counts[x, tau] += 1.0
    if core == "best-of-n":
        assert after.counts.tolist() == (1.0 + counts).tolist()
        weighed, n, known = 1.0 + counts, np.sum(1.0 + counts, axis=1), world.log_p_ref
    else:
        weighed, known = counts * graded(run.task), log_p
        n = np.where(np.sum(weighed, axis=1) > 0, np.sum(counts, axis=1), 0.0)
    law = weighed / np.where(np.sum(weighed, axis=1) > 0, np.sum(weighed, axis=1), 1.0)[:, None]
    assert_close(np.exp(world.mdp.path_sum(after.log_pi)), np.exp(world.mdp.path_sum(imitate(world, law, n, known))), 1e-13)
    exact = CORES[core].step(run.task, run.learner, None)
    if core == "best-of-n":
        assert_close(exact.counts, 5 * world.mu[:, None] * np.exp(best_of_n(world.log_p_ref, world.r, 3)), 1e-12)


def test_draws_that_earn_nothing_are_not_imitated() -> None:
    """Only the worse response was drawn: it is worth 0, so nothing is imitated, and the policy stays."""
    world = coin()
    run = begin(world, Options(algorithm="expert-iteration", batch=3, group=2))
    before = replace(run.learner, logits=np.array([[[40.0, 0.0]]]))
    after = CORES["expert-iteration"].step(run.task, before, again(run))
    assert_close(after.log_pi, before.log_pi, 1e-12)


def test_a_batch_of_comparisons_is_drawn_by_their_weights() -> None:
    """Given pairs in the shares in which people gave them, within five exact standard errors; what is drawn has weight one."""
    world = named_world("cycle")
    task = begin(world, Options(algorithm="dpo", batch=40_000, comparisons=500)).task
    given = task.data.pairs
    assert given is not None
    drawn = compared(task, learner(world, world.log_ref), np.random.default_rng(3))
    share = np.zeros((3, 3))
    share[drawn.w, drawn.l] = drawn.weight
    p = given.weight / np.sum(given.weight)
    assert np.max(np.abs(share[given.w, given.l] - p) / np.sqrt(p * (1 - p) / 40_000)) < 5
    assert math.isclose(float(np.sum(drawn.weight)), 1.0)
    assert len(given.w) == np.count_nonzero(share)


# ---------------------------------------------------------------------------------------------------- what is told before the core


def test_stages_are_wanted_by_those_that_need_them() -> None:
    """Demonstrations for sft and ptx, comparisons for a reward model and offline alignment; each proxy is what the core was told."""
    world, n = named_world("rational"), 300
    for algorithm, more, shown, asked, names in (
        ("rloo", {}, False, False, ["reference"]),
        ("rloo", {"ptx": 0.1}, True, False, ["reference"]),
        ("sft+rloo", {}, True, False, ["reference", "sft"]),
        ("rm+rloo", {}, False, True, ["reference", "rm, its p*"]),
        ("sft+rm+ppo", {}, True, True, ["reference", "sft", "rm, its p*"]),
        ("dpo", {}, False, True, ["reference"]),
        ("dpo", {"online": True}, False, False, ["reference"]),
        ("rloo", {"reward": False}, False, False, ["reference"]),
    ):
        run = begin(world, Options(algorithm=algorithm, comparisons=n, demonstrations=50, **more))
        data = run.task.data
        assert (np.sum(data.demonstrations), data.pairs is not None) == (50.0 * shown, asked)
        assert [name for name, _ in run.stages] == names
        told = np.zeros_like(world.r) if more.get("reward") is False else world.r
        assert (data.reward.tolist() == told.tolist()) is ("rm" not in algorithm)
        assert run.curve[0][0] == 0
        assert_close(run.curve[0][1].row, run.last.row, 1e-14)
    fitted = begin(world, Options(algorithm="rm+rloo", comparisons=n))
    best = dict(fitted.stages)["rm, its p*"]
    p = solve(world.with_reward(fitted.task.data.reward)).p
    assert_close([best.reward, best.proxy], [np.sum(p * world.r), np.sum(p * fitted.task.data.reward)], 1e-12)


def test_the_usual_step_is_one_over_the_curvature() -> None:
    world = three_prompts()
    data = Data(np.zeros(world.r.shape), None, world.r)
    spread = float(np.ptp(world.r)) / 6
    for coefficient in (1e-3, 50.0):
        for core, ptx in (("rloo", 0.0), ("rloo", 7.0), ("grpo", 0.0)):
            options = Options(algorithm=core, ptx=ptx)
            most = max(coefficient + ptx, 1.0 if core == "grpo" else spread)
            assert_close(usual_step(options, 6 * spread, coefficient), CORES[core].lr / most, 1e-12)
    # of a loss: f'' in the margin, twice; dpo beta^2/4, ipo 2; slic is straight at 0 and has a tenth of its slope
    for loss, curve in (("dpo", 0.25 * 0.6**2), ("ipo", 2.0), ("slic-reference", 0.1 * 0.6)):
        assert_close(curvature(loss, 0.6) / curve, 1.0, 1e-2)
        told = usual_step(Options(algorithm="dpo", loss=loss), 6 * spread, 0.6)
        assert_close(told * 2 * curvature(loss, 0.6), CORES["dpo"].lr, 1e-12)
    assert prepare(world, Options(algorithm="rloo", lr=3.0, kl_coef=0.0), data).kl_coef == 0.0
    assert prepare(world, Options(algorithm="dpo", online=True), data).batch == 256


# ---------------------------------------------------------------------------------------------------- what is told after it


def test_total_variation_by_hand() -> None:
    world = three_prompts()
    p, q = np.exp(world.log_p_ref), solve(world).p
    want = math.fsum(world.mu[x] * sum(max(0.0, a - b) for a, b in zip(p[x], q[x], strict=True)) for x in range(3))
    assert_close(total_variation(world, world.log_p_ref, solve(world).log_p), want, 1e-13)


def test_reports_are_means_and_deviations_over_seeds() -> None:
    runs = simulate(named_world("coin"), Options(algorithm="rm+rloo", steps=4, seeds=3, comparisons=200, batch=4))
    found = report(runs)
    rows = {row["name"]: row for row in found["rows"]}
    assert list(rows) == ["reference", "rm, its p*", "rloo", "its exact ascent", "predicted", "p*"]
    last = np.array([r.last.row for r in runs])
    assert_close([rows["rloo"][k] for k in FIELDS], np.mean(last, axis=0), 1e-15)
    assert_close(rows["rloo"]["sd"], np.std(last[:, -1], ddof=1), 1e-15)
    assert rows["reference"]["sd"] == 0.0
    assert len(found["exact"]) == 3  # every seed has its own reward model
    assert found["steps_done"] == 4
    assert [c["step"] for c in found["curves"]] == [[0, 1, 2, 3, 4]] * 3
    assert_close(rows["p*"]["regret"], 0.0, 1e-15)
    assert_close(rows["p*"]["J"], solve(coin()).value, 1e-12)
    text = closing(found)
    assert "200 comparisons cost a regret of" in text
    shared = report(simulate(named_world("coin"), Options(algorithm="rloo", steps=2, seeds=3, batch=4)))
    assert len(shared["exact"]) == 1
    assert "comparisons cost" not in closing(shared)


def test_the_noise_of_no_steps_or_of_no_ascent_is_not_told() -> None:
    run = begin(named_world("coin"), Options(algorithm="rloo", lr=0.1))
    inside = run.task.world.log_p_ref
    assert noise_of_steps(run.task, inside, 0) is None
    assert noise_of_steps(run.task, np.array([[0.0, -800.0]]), 5) is None
    assert noise_of_steps(begin(named_world("coin"), Options(algorithm="best-of-n")).task, inside, 5) is None
    assert noise_of_steps(begin(named_world("coin"), Options(algorithm="rloo", optimizer="adam")).task, inside, 5) is None
    assert noise_of_steps(begin(named_world("coin"), Options(algorithm="dpo")).task, inside, 5) == 0.0
    one, many = (noise_of_steps(run.task, inside, n) for n in (1, 50))
    assert one is not None
    assert many is not None
    assert 0 < one < many


def test_the_noise_of_one_step_is_the_mean_kl_after_it() -> None:
    """E KL over a thousand single steps from p*; either side has a relative error of about sqrt(2/400), and steps are short."""
    world = named_world("fork")
    run = begin(world, Options(algorithm="rloo", kl="k2-loss", lr=0.02, batch=4))
    best = solve(world)
    told = noise_of_steps(run.task, best.log_p, 1)
    at, rng = learner(world, best.log_pi), np.random.default_rng(5)
    ends = [world.mdp.path_sum(CORES["rloo"].step(run.task, at, rng).log_pi) for _ in range(1000)]
    assert told is not None
    assert float(np.mean([np.sum(world.mu * kl(end, best.log_p)) for end in ends])) == pytest.approx(told, rel=0.4)


CHANGES: dict[str, World] = {
    "beta": coin(2.0),
    "reward": coin().with_reward([[0.0, 1.5]]),
    "reference": World(coin().mdp, log_softmax(np.array([[[0.0, 1.0]]])), coin().r, 1.0),
    "words": World(TokenMDP(("tails", "hands"), 1), coin().log_ref, coin().r, 1.0),
    "prompts": World(TokenMDP(("tails", "heads"), 1, prompts=("x",)), coin().log_ref, coin().r, 1.0),
    "sep": World(TokenMDP(("tails", "heads"), 1, sep="-"), coin().log_ref, coin().r, 1.0),
    "eos": World(TokenMDP(("tails", "heads"), 1, eos="heads"), coin().log_ref, coin().r, 1.0),
}


def test_a_digest_tells_worlds_apart() -> None:
    assert digest(coin()) == digest(coin())
    told = {name: digest(world) for name, world in CHANGES.items()}
    assert len({digest(coin()), *told.values()}) == len(CHANGES) + 1
    two = [random_world(rng=np.random.default_rng(0), P=2, V=2, H=1)]
    two += [World(replace_mu(two[0].mdp), two[0].log_ref, two[0].r, two[0].beta)]
    assert digest(two[0]) != digest(two[1])


def replace_mu(mdp: TokenMDP) -> TokenMDP:
    return TokenMDP(mdp.vocabulary, mdp.H, mdp.eos, mdp.prompts, mdp.mu[::-1])


def test_a_bag_counts_and_an_empty_comparison_is_refused() -> None:
    assert bag(np.array([0, 1, 1]), np.array([2, 0, 0]), (2, 3)).tolist() == [[0.0, 0.0, 1.0], [2.0, 0.0, 0.0]]
    one = World(TokenMDP(1, 1), np.zeros((1, 1, 1)), np.zeros((1, 1)), 1.0)
    with pytest.raises(InputError, match="of two responses"):
        begin(one, Options(algorithm="dpo"))


def test_the_frontier_of_a_report_is_of_gibbs_laws_and_a_mean_over_prompts() -> None:
    from tabular_rlhf.simulator.report import _frontier

    world = random_world(rng=np.random.default_rng(2), V=3, H=1, P=3)
    found = _frontier(prepare(world, Options(algorithm="rloo"), Data(np.zeros(world.r.shape), None, world.r)))
    for nats, reward, k in list(zip(found["kl"], found["reward"], np.geomspace(0.05, 50.0, 61), strict=True))[::20]:
        p = np.exp(world.log_p_ref + world.r / (world.beta * k))
        p /= p.sum(axis=1, keepdims=True)
        assert nats == pytest.approx(float(world.mu @ np.sum(p * (np.log(p) - world.log_p_ref), axis=1)))
        assert reward == pytest.approx(float(world.mu @ np.sum(p * world.r, axis=1)))


def test_the_price_of_comparisons_of_two_responses_by_hand() -> None:
    """The fitted difference of rewards varies by 1/(n w), w = 2 q q' s s'; the regret is beta KL = p p'/(2 beta) of its square."""
    beta = 0.5
    world = coin(beta=beta).with_reward(np.array([[0.3, 1.7]]))
    q, (p, p_other) = 0.5, np.exp(solve(world).log_p[0])
    s = 1.0 / (1.0 + math.exp(-1.4))
    varies = 1.0 / (50.0 * 2.0 * q * q * s * (1.0 - s))
    assert price_of_comparisons(world, 50).mean == pytest.approx(p * p_other / (2.0 * beta) * varies)  # type: ignore[union-attr]
