"""The simulator arrives where theory says: sound algorithms at p*, unsound ones at the predicted wrong place, within computed noise.

Tolerances: what vanishes at the destination (leave-one-out advantages with k1 in the reward) is compared to rounding or to the exact
ascent; noisy cores by `noise_of_steps`, whose mean over K runs has a standard error of at most sqrt(2/K) of itself where the noise has one
dimension, and less where it has more: five of these are allowed, both ways.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tabular_rlhf.commands import run as command
from tabular_rlhf.errors import InputError
from tabular_rlhf.logspace import kl
from tabular_rlhf.losses import LOSSES
from tabular_rlhf.policy_gradient import Recipe
from tabular_rlhf.preferences import bradley_terry, sample_pairs
from tabular_rlhf.selection import best_of_n
from tabular_rlhf.simulator import CORES, Options, Run, advance, begin, destination, exact_curve, simulate
from tabular_rlhf.simulator.algorithms import compared, tallied
from tabular_rlhf.simulator.chance import noise_of_steps
from tabular_rlhf.simulator.record import KL_FLAGS, Core
from tabular_rlhf.simulator.scoring import price_of_comparisons, price_of_draws, total_variation
from tabular_rlhf.simulator.stages import reward_model
from tabular_rlhf.simulator.state import load, save
from tabular_rlhf.world import World, named_world, random_world

NAMES = ("coin", "fork", "rational", "length-trap")


def distance(run: Run) -> float:
    """KL from the predicted law, nats."""
    end = destination(run.task)
    assert end is not None
    return float(np.sum(run.task.world.mu * kl(run.log_p, end.log_p)))


def tv(run: Run) -> float:
    end = destination(run.task)
    assert end is not None
    return total_variation(run.task.world, run.log_p, end.log_p)


# ---------------------------------------------------------------------------------------------------- sound


SOUND = [*((name, algorithm, 400) for name in NAMES for algorithm in ("rloo", "reinforce")), ("coin", "ppo", 100), ("rational", "ppo", 100)]


@pytest.mark.parametrize(("name", "algorithm", "steps"), SOUND)
def test_sound_cores_reach_the_optimum(name: str, algorithm: str, steps: int) -> None:
    """On the true reward: no noise is left at p*, so the regret is what the exact ascent still has, but for its path."""
    run = simulate(named_world(name), Options(algorithm=algorithm, steps=steps))[0]
    exact = exact_curve(run)
    assert run.curve[0][1].regret > 0.09
    assert run.last.regret <= 1e-12 + 4.0 * exact.last.regret
    assert exact.last.regret < 2e-5


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("algorithm", ["sft+rm+ppo", "dpo"])
def test_learning_from_comparisons_costs_what_they_cost(name: str, algorithm: str) -> None:
    """The regret left at the destination is the error of the reward fit: mean and deviation by the Fisher information."""
    world = named_world(name)
    runs = [begin(world, Options(algorithm=algorithm, comparisons=4000), k) for k in range(24)]
    ends = [destination(r.task) for r in runs]
    regrets = np.array([e.score.regret for e in ends if e is not None])
    price = price_of_comparisons(world, 4000)
    assert price is not None
    assert len(regrets) == 24
    assert abs(np.mean(regrets) - price.mean) < 5.0 * price.deviation / math.sqrt(24) + 0.1 * price.mean  # the next order in 1/n
    done = advance(runs[0], 200 if algorithm == "dpo" else 80)
    assert tv(done) < 0.005


def test_the_price_of_comparisons_by_hand() -> None:
    """Coin: half of the pairs tell something, each p(1 - p) of information on the one margin; regret p(1 - p) Var/(2 beta)."""
    p = 1.0 / (1.0 + math.exp(-1.0))
    price = price_of_comparisons(named_world("coin"), 100)
    assert price is not None
    assert price.mean == pytest.approx(p * (1 - p) / (2 * 100 * 0.5 * p * (1 - p)), rel=1e-12)
    assert price.deviation == pytest.approx(math.sqrt(2) * price.mean, rel=1e-12)


def test_each_stage_of_the_pipeline_improves() -> None:
    run = simulate(named_world("rational"), Options(demonstrations=256, comparisons=20_000))[0]
    names = [name for name, _ in run.stages]
    assert names == ["reference", "sft", "rm, its p*"]
    reference, sft, _ = (s.regret for _, s in run.stages)
    assert reference > 5 * sft > 5 * run.last.regret


# ---------------------------------------------------------------------------------------------------- noise, computed


NOISY: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("rational", "grpo", {"decay": 30.0}),
    ("coin", "rloo", {"kl": "k2-loss", "decay": 30.0}),
    ("rational", "rloo", {"kl": "k3-loss", "lr": 0.3}),
    ("rational", "dpo", {"online": True, "decay": 20.0}),
    ("rational", "dpo", {"batch": 256, "decay": 20.0}),
)


@pytest.mark.parametrize(("name", "algorithm", "more"), NOISY)
def test_noisy_cores_scatter_about_the_prediction_as_computed(name: str, algorithm: str, more: dict[str, Any]) -> None:
    K = 12
    runs = simulate(named_world(name), Options(algorithm=algorithm, steps=120, seeds=K, **more))
    far = float(np.mean([distance(r) for r in runs]))
    end = destination(runs[0].task)
    assert end is not None
    noise = noise_of_steps(runs[0].task, end.log_p, 120)
    assert noise is not None
    rest = 0.0 if algorithm == "dpo" and "online" not in more else distance(exact_curve(runs[0]))
    assert far < (noise + rest) * (1 + 5 * math.sqrt(2 / K))
    assert far > noise * 0.2  # it is noise, not an arrival


# ---------------------------------------------------------------------------------------------------- unsound


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("algorithm", "more", "wrong"),
    [
        ("grpo", {}, 0.03),
        ("rloo", {"kl": "k3-loss"}, 0.001),
        ("rloo", {"kl_coef": 2.0}, 0.005),
        ("rloo", {"ptx": 1.0, "kl_coef": 0.0, "demonstrator": "reference", "demonstrations": 4000}, 0.0005),
    ],
)
def test_unsound_choices_lead_to_the_predicted_wrong_place(name: str, algorithm: str, more: dict[str, Any], wrong: float) -> None:
    """By the population itself, which has no noise; the sampled runs scatter about it (above)."""
    run = begin(named_world(name), Options(algorithm=algorithm, steps=800, **more))
    done, end = exact_curve(run), destination(run.task)
    assert end is not None
    assert end.score.regret > wrong
    assert distance(done) < 1e-5
    assert abs(done.last.regret - end.score.regret) < 2e-3 * end.score.regret


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("algorithm", "more"), [("rloo", {"kl_coef": 0.0}), ("grpo", {"kl_coef": 0.0}), ("expert-iteration", {})])
def test_without_a_kl_term_the_argmax_is_where_it_ends(name: str, algorithm: str, more: dict[str, Any]) -> None:
    world = named_world(name)
    run = simulate(world, Options(algorithm=algorithm, steps=400, **more))[0]
    end = destination(run.task)
    assert end is not None
    assert np.exp(end.log_p).max() == 1.0
    assert tv(run) < 0.01
    assert run.last.regret > 0.85 * end.score.regret > 0.1


def test_grpo_on_the_coin_by_hand() -> None:
    """0/1 rewards: logit q = c_G(q)/beta at the fixed point; G = 2 has c = 1 and is right, G = 16 is far off."""
    from tabular_rlhf.policy_gradient import success_weight

    for G in (2, 4, 16):
        end = destination(begin(named_world("coin"), Options(algorithm="grpo", group=G)).task)
        assert end is not None
        q = float(np.exp(end.log_p[0, 1]))
        assert math.log(q / (1 - q)) == pytest.approx(float(success_weight(q, Recipe("grpo", G=G))), rel=1e-10)
        assert (end.score.regret < 1e-20) == (G == 2)


def test_length_averaged_dpo_ends_where_the_closed_form_says() -> None:
    """The sampled minimum tends to the population's, which the loss record knows, and prefers the long response."""
    world = named_world("length-trap")
    loss = LOSSES["dpo-averaged"]
    assert loss.optimum is not None
    told = loss.optimum(world, loss.settings(world.beta))
    end = destination(begin(world, Options(algorithm="dpo", loss="dpo-averaged", comparisons=200_000)).task)
    assert end is not None
    assert told is not None
    assert total_variation(world, end.log_p, told) < 0.01
    assert end.score.regret > 0.05


@pytest.mark.parametrize("name", NAMES)
def test_the_law_of_the_best_of_n(name: str) -> None:
    world, K = named_world(name), 10
    runs = simulate(world, Options(algorithm="best-of-n", steps=50, group=5, seeds=K))
    law = best_of_n(world.log_p_ref, world.r, 5)
    noise = price_of_draws(law, 50 * 64)
    assert float(np.mean([distance(r) for r in runs])) < noise * (1 + 5 * math.sqrt(2 / K))
    assert tv(exact_curve(runs[0])) < 1.0 / (50 * 64)  # one response of the reference in 3201


def test_the_flags_that_keep_nothing_or_run_away() -> None:
    """k1 in the loss is no penalty; k3 in the reward has no closed form, and none is claimed."""
    end = destination(begin(named_world("rational"), Options(algorithm="rloo", kl="k1-loss")).task)
    assert end is not None
    assert end.words == "argmax r"
    assert destination(begin(named_world("rational"), Options(algorithm="rloo", kl="k3-reward")).task) is None
    assert set(KL_FLAGS) == {"k1-reward", "k2-loss", "k3-loss", "k3-reward", "k1-loss"}


# ---------------------------------------------------------------------------------------------------- worlds of all kinds


@pytest.mark.parametrize("algorithm", ["sft+rm+ppo", "reinforce", "grpo", "sft+rm+rloo", "dpo", "expert-iteration", "best-of-n"])
def test_every_core_runs_on_prompts_forbidden_tokens_and_ties(algorithm: str, rng: np.random.Generator) -> None:
    for _ in range(3):
        world = random_world(rng=rng, V=3, H=2, P=2, beta=0.7, forbidden=0.3)
        world = world.with_reward(np.round(world.r))
        run = simulate(world, Options(algorithm=algorithm, steps=12, batch=8, comparisons=500))[0]
        impossible = np.isneginf(world.log_p_ref)
        assert np.all(np.isneginf(run.log_p[impossible]))
        assert np.isfinite(run.last.row).all()
        assert np.sum(np.exp(run.log_p), axis=1) == pytest.approx(1.0, abs=1e-12)


def test_the_score_is_the_definition(rng: np.random.Generator) -> None:
    world = random_world(rng=rng, V=3, H=2, P=2)
    run = simulate(world, Options(algorithm="rm+rloo", steps=3, batch=8))[0]
    p, ref, s = np.exp(run.log_p), np.exp(world.log_p_ref), run.last
    V = [world.beta * math.log(math.fsum(q * math.exp(r / world.beta) for q, r in zip(ref[x], world.r[x], strict=True))) for x in (0, 1)]
    J = [math.fsum(a * (r - world.beta * math.log(a / q)) for a, q, r in zip(p[x], ref[x], world.r[x], strict=True)) for x in (0, 1)]
    assert s.J == pytest.approx(float(world.mu @ J), rel=1e-12)
    assert s.regret == pytest.approx(float(world.mu @ np.subtract(V, J)), rel=1e-9)
    assert s.proxy == pytest.approx(float(np.sum(world.mu[:, None] * p * run.task.data.reward)), rel=1e-12)


def test_steps_shrink_as_told() -> None:
    task = begin(named_world("coin"), Options(algorithm="rloo", lr=0.5, decay=20.0)).task
    assert [task.step_size(t) for t in (0, 20, 60)] == [0.5, 0.25, 0.125]
    assert begin(named_world("coin"), Options(algorithm="rloo", lr=0.5)).task.step_size(1000) == 0.5


def test_the_reward_model_solves_its_score_equations_and_says_nothing_of_the_rest(rng: np.random.Generator) -> None:
    """At the maximum: wins - expected wins = r/s^2 for every response to every prompt, hence 0 for those never compared."""
    world = random_world(rng=rng, V=4, H=3, P=2)
    pairs = tallied(sample_pairs(world, bradley_terry(world.r), 25, rng=rng), world)
    r, s = reward_model(world, pairs, 3.0), np.zeros(world.r.shape)
    met = np.zeros(world.r.shape, dtype=bool)
    for x, w, l, n in zip(pairs.x, pairs.w, pairs.l, pairs.weight * 25, strict=True):
        missed = n / (1.0 + np.exp(r[x, w] - r[x, l]))
        s[x, w], s[x, l] = s[x, w] + missed, s[x, l] - missed
        met[x, [w, l]] = True
    np.testing.assert_allclose(s, r / 9.0, atol=1e-7)
    assert not met.all()
    assert not r[~met].any()


def test_online_comparisons_are_of_the_policy_itself(rng: np.random.Generator) -> None:
    run = begin(named_world("cycle"), Options(algorithm="dpo", online=True))
    rare = replace(run.learner, logits=np.array([[[0.0, 0.0, -60.0]]]))
    pairs = compared(run.task, rare, rng)
    assert not np.any((pairs.w == 2) | (pairs.l == 2))


@pytest.mark.parametrize("algorithm", ["expert-iteration", "best-of-n"])
def test_imitation_forgets_nothing_by_accident(algorithm: str) -> None:
    """After one response drawn, every possible response is still possible."""
    run = simulate(named_world("length-trap"), Options(algorithm=algorithm, steps=1, batch=1, group=1))[0]
    assert np.isfinite(run.log_p).all()


def test_ties_are_split_as_the_reference_splits_them(rng: np.random.Generator) -> None:
    world = random_world(rng=rng, V=3, H=2).with_reward(np.array([[0.0, 1.0, 1.0, 1.0, 0.0, 1.0, 0.0]]))
    runs = simulate(world, Options(algorithm="best-of-n", steps=40, group=3, seeds=10))
    noise = price_of_draws(best_of_n(world.log_p_ref, world.r, 3), 40 * 64)
    assert float(np.mean([distance(r) for r in runs])) < noise * (1 + 5 * math.sqrt(2 / 10))


# ---------------------------------------------------------------------------------------------------- bits, saving and resuming


def same(a: Run, b: Run) -> bool:
    arrays = ("logits", "first", "second", "baseline", "counts")
    learned = all(np.array_equal(getattr(a.learner, n), getattr(b.learner, n)) for n in arrays)
    return learned and a.curve == b.curve and a.stages == b.stages and a.rng.bit_generator.state == b.rng.bit_generator.state


ALL = [
    Options(algorithm="sft+rm+ppo", steps=12, optimizer="adam", lr=0.05, ptx=0.1),
    Options(algorithm="reinforce", steps=12),
    Options(algorithm="grpo", steps=12, decay=5.0),
    Options(algorithm="dpo", steps=12, batch=16),
    Options(algorithm="dpo", steps=12, online=True),
    Options(algorithm="expert-iteration", steps=12),
    Options(algorithm="best-of-n", steps=12),
]


@pytest.mark.parametrize("options", ALL, ids=lambda o: o.algorithm)
def test_resumed_gives_the_bits_of_uninterrupted(options: Options, tmp_path: Path) -> None:
    world, path = named_world("rational"), tmp_path / "run.npz"
    whole = simulate(world, options)[0]
    save(path, [advance(begin(world, options), 5)], "rational")
    (half,), place = load(path, named_world)
    assert place == "rational"
    assert half.learner.step == 5
    assert same(advance(half, 12), whole)
    assert same(simulate(world, options)[0], whole)
    assert not same(simulate(world, replace(options, seed=1))[0], whole)


def test_runs_do_not_depend_on_how_many_there_are() -> None:
    options = Options(algorithm="rm+rloo", steps=3)
    three = simulate(named_world("coin"), replace(options, seeds=3))
    alone = advance(begin(named_world("coin"), options, 2), 3)
    assert same(three[2], alone)
    assert not np.array_equal(three[0].learner.logits, three[1].learner.logits)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "run.npz"
    save(path, simulate(named_world("coin"), Options(algorithm="rloo", steps=2)), "coin")
    return path


def _flip(path: Path, at: float) -> None:
    data = bytearray(path.read_bytes())
    data[int(at * len(data))] ^= 1
    path.write_bytes(data)


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "cut": lambda p: p.write_bytes(p.read_bytes()[:-200]),
    "empty": lambda p: p.write_bytes(b""),
    "text": lambda p: p.write_text("hello"),
    "flipped": lambda p: _flip(p, 0.3),
    "flipped later": lambda p: _flip(p, 0.6),
    "missing": lambda p: p.unlink(),
    "foreign": lambda p: np.savez(p, logits=np.zeros(3)),
    "edited": lambda p: np.savez(p, **{**dict(np.load(p)), "0.logits": np.zeros((1, 1, 2))}),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_or_foreign_file_is_refused_by_name(how: str, saved: Path) -> None:
    DAMAGE[how](saved)
    with pytest.raises(InputError) as refused:
        load(saved, named_world)
    assert saved.name in str(refused.value)
    assert refused.value.remedy


def test_every_flipped_bit_is_noticed(saved: Path, rng: np.random.Generator) -> None:
    """Wherever the bit is: in the data, or in the archive's own tables where it may not matter; then the run must be the same."""
    (before,), _ = load(saved, named_world)
    whole = saved.read_bytes()
    for place in rng.integers(0, len(whole), 60):
        data = bytearray(whole)
        data[place] ^= 1 << int(rng.integers(8))
        saved.write_bytes(data)
        try:
            (after,), _ = load(saved, named_world)
        except InputError:
            continue
        assert same(before, after)


def test_another_world_is_refused(saved: Path) -> None:
    with pytest.raises(InputError, match="the world it began in"):
        load(saved, lambda name: World(named_world(name).mdp, named_world(name).log_ref, 2 * named_world(name).r, 1.0))


def test_an_interrupted_saving_leaves_the_old_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def fails(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", fails)
    with pytest.raises(KeyboardInterrupt):
        save(saved, simulate(named_world("coin"), Options(algorithm="rloo", steps=3)), "coin")
    assert saved.read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


# ---------------------------------------------------------------------------------------------------- refusals and the command


@pytest.mark.parametrize(
    "bad",
    [
        {"algorithm": "rloo", "group": 1},
        {"algorithm": "grpo", "group": 1},
        {"algorithm": "grpo", "group": 0},
        {"algorithm": "dance"},
        {"algorithm": "rm+sft+ppo"},
        {"algorithm": "sft+sft+ppo"},
        {"algorithm": "rm+dpo"},
        {"steps": -1},
        {"steps": 1.5},
        {"batch": 0},
        {"seeds": 0},
        {"lr": 0.0},
        {"lr": math.nan},
        {"decay": -1.0},
        {"ptx": -0.1},
        {"kl": "k9"},
        {"kl_coef": -1.0},
        {"prior": 0.0},
        {"comparisons": 0},
        {"optimizer": "magic"},
        {"algorithm": "dpo", "loss": "magic"},
        {"algorithm": "dpo", "kl_coef": 0.0},
        {"algorithm": "dpo", "ptx": 0.5},
        {"algorithm": "best-of-n", "kl_coef": 0.5},
        {"algorithm": "rloo", "online": True},
        {"algorithm": "dpo", "online": True, "batch": 0},
    ],
)
def test_bad_options_are_refused_in_four_parts(bad: dict[str, Any]) -> None:
    with pytest.raises(InputError) as refused:
        Options(**bad)
    e = refused.value
    assert "must" in e.must
    assert e.got
    assert e.remedy


def test_a_registry_refuses_a_second_core_of_the_same_name() -> None:
    with pytest.raises(InputError, match="a name of its own"):
        CORES.add(CORES["dpo"])
    assert all(isinstance(core, Core) and core.source and core.summary for core in CORES.values())


def told(*words: str) -> int:
    parser = argparse.ArgumentParser()
    command.configure(parser)
    return command.run(parser.parse_args(words))


def test_the_command_says_where_it_led(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "curves.svg"
    words = ("coin", "--algorithm", "sft+rm+rloo", "--steps", "20", "--seeds", "2", "--seed", "3")
    assert told(*words, "--figure", str(picture)) == 0
    text = capsys.readouterr().out
    assert "Predicted to lead to: Gibbs." in text
    assert max(map(len, text.splitlines())) <= 100
    assert picture.stat().st_size > 5000
    assert told(*words, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "tabular-rlhf/run/1"
    assert len(found["curves"]) == 2
    assert found["curves"][0]["step"] == list(range(21))


def test_the_command_resumes_to_the_same_bits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    half, whole, done = (tmp_path / f"{n}.npz" for n in ("half", "whole", "done"))
    words = ("fork", "--algorithm", "rm+grpo", "--seeds", "2", "--beta", "2")
    assert told(*words, "--steps", "4", "--save", str(half)) == 0
    assert told("--resume", str(half), "--steps", "9", "--save", str(done)) == 0
    resumed = capsys.readouterr().out
    assert told(*words, "--steps", "9", "--save", str(whole)) == 0
    assert done.read_bytes() == whole.read_bytes()
    assert resumed.endswith(capsys.readouterr().out)
    for wrong in (("--lr", "1"), ("--steps", "2"), ("--online",)):
        with pytest.raises(InputError):
            told("--resume", str(half), *wrong)


def test_an_interrupted_command_can_be_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, whole = tmp_path / "run.npz", tmp_path / "whole.npz"
    words = ("coin", "--algorithm", "reinforce", "--steps", "9")
    step, calls = CORES["reinforce"].step, iter(range(100))

    def stops(*given: Any) -> Any:
        learned = step(*given)  # the draws are made, the learner is lost
        if next(calls) == 5:
            raise KeyboardInterrupt
        return learned

    monkeypatch.setitem(CORES, "reinforce", replace(CORES["reinforce"], step=stops))
    with pytest.raises(KeyboardInterrupt):
        told(*words, "--save", str(path))
    monkeypatch.undo()
    assert load(path, named_world)[0][0].learner.step == 5
    assert told("--resume", str(path), "--save", str(path)) == 0
    assert told(*words, "--save", str(whole)) == 0
    assert path.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("words", [("--save", "run.txt"), ("--no-kl", "--kl-coef", "1"), ("--figure", "x.doc"), ("nowhere.toml",)])
def test_bad_words_are_refused_before_the_work(words: tuple[str, ...]) -> None:
    with pytest.raises(InputError):
        told(*words, "--steps", "1")
