"""Laws of the simulator on lattices: a step is the step of a listed world on the same responses, and its mean is that of all responses."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tabular_rlhf import cli
from tabular_rlhf.errors import InputError
from tabular_rlhf.language import Language
from tabular_rlhf.lattice import LatticeWorld, solve, unmerged
from tabular_rlhf.lattice.depths import ByDepth, offsets_of
from tabular_rlhf.lattice.draws import Drawn
from tabular_rlhf.lattice.flow import kl
from tabular_rlhf.lattice.listing import listing
from tabular_rlhf.lattice.merge import merge
from tabular_rlhf.lattice.tree import over_states
from tabular_rlhf.logspace import Array, log_softmax
from tabular_rlhf.machines import lattice, ngram, phrases, product
from tabular_rlhf.policy_gradient.groups import Groups
from tabular_rlhf.preferences import Pairs
from tabular_rlhf.simulator import Options, advance, algorithms, begin, exact_curve, paths
from tabular_rlhf.simulator.record import CORES, KL_FLAGS, Learner, PathTask, Task, step_of
from tabular_rlhf.simulator.report import report
from tabular_rlhf.simulator.scoring import destination, score, score_of
from tabular_rlhf.simulator.state import load, save
from tabular_rlhf.world import World, named_world, random_world
from tests.test_lattice_commands import LONG


def worlds() -> list[World]:
    """Several prompts, with and without an end, and a token that is forbidden in some states."""
    made = [random_world(rng=np.random.default_rng(k), P=2, V=3, H=3, eos=bool(k % 2), forbidden=0.1 * k) for k in range(3)]
    return [*made, named_world("rational")]


def as_listed(world: World, rows: Array) -> Array:
    """A table of the tree's rows (R, V) as one of (P, S, V)."""
    offsets = offsets_of(unmerged(world))
    return over_states(world, [rows[a:b].T for a, b in itertools.pairwise(offsets)])


def somewhere(tree: LatticeWorld, seed: int = 3) -> Array:
    """Logits that are nobody's own: (R, V)."""
    rows = paths.reference_rows(tree)
    return np.where(np.isneginf(rows), -np.inf, np.random.default_rng(seed).standard_normal(rows.shape))


def learners(world: World, options: Options) -> tuple[Task, Learner, PathTask, Learner]:
    """The same task and policy, of the list and of the tree."""
    tree = unmerged(world)
    listed, on_tree = begin(world, options), begin(tree, options)
    logits = somewhere(tree)
    baseline = np.linspace(-0.5, 0.5, world.mdp.P)
    mine = replace(on_tree.learner, logits=logits, baseline=baseline)
    return listed.task, replace(listed.learner, logits=as_listed(world, logits), baseline=baseline), on_tree.task, mine


def same(a: Array, b: Array, share: float = 1e-12) -> None:
    gap = np.where(np.isneginf(a), 0.0, a) - np.where(np.isneginf(b), 0.0, b)
    assert (np.isneginf(a) == np.isneginf(b)).all()
    assert np.abs(gap).max() <= share * max(1.0, float(np.abs(b[np.isfinite(b)]).max()))


def same_law(world: World, ours: Array, listed: Array, share: float = 1e-12) -> None:
    """Two policies by their laws: of prefixes that nobody can say, no two need to agree."""
    possible = ~np.isneginf(world.log_p_ref)
    same(*(np.where(possible, world.mdp.path_sum(log_softmax(x)), 0.0) for x in (as_listed(world, ours), listed)), share)


def numbers_of(world: World, drawn: Drawn) -> list[int]:
    """The listed world's numbers of drawn responses."""
    return [world.mdp.find([world.mdp.vocabulary[t] for t in row if t >= 0]) for row in drawn.tokens]


PLAIN: dict[str, Any] = {"batch": 6, "group": 3, "lr": 0.7}
SETTINGS: list[dict[str, Any]] = [
    *({"algorithm": core, **PLAIN} for core in ("ppo", "reinforce", "rloo", "grpo")),
    *({"algorithm": "rloo", "kl": flag, "kl_coef": 0.3, **PLAIN} for flag in KL_FLAGS),
    {"algorithm": "rloo", "temperature": 0.6, "top_p": 0.9, "correction": "truncated-token", "policy_loss": "ratio", **PLAIN},
    {"algorithm": "reinforce", "temperature": 1.5, "correction": "ratio-prefix", "policy_loss": "ppo-clip", **PLAIN},
    {"algorithm": "grpo", "updates": 3, "policy_loss": "sequence-clip", "correction": "masked-sequence", **PLAIN},
    {"algorithm": "ppo", "optimizer": "adam", "updates": 2, **PLAIN},
    {"algorithm": "ppo", "policy_loss": "gspo", "reward": False, **PLAIN},
    {"algorithm": "expert-iteration", "batch": 6, "group": 3},
    {"algorithm": "best-of-n", "batch": 6, "group": 3},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: "-".join(str(x) for k, x in s.items() if k not in PLAIN))
def test_a_drawn_step_is_that_of_the_list_on_the_same_responses(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for world in worlds():
        task, s, on_tree, mine = learners(world, Options(**settings))
        seen: list[Drawn] = []
        plain = paths.sample

        def recorded(*args: Any, _seen: list[Drawn] = seen, _plain: Any = plain, **more: Any) -> Drawn:
            _seen.append(_plain(*args, **more))
            return _seen[-1]

        monkeypatch.setattr(paths, "sample", recorded)
        after = step_of(on_tree)(mine, np.random.default_rng(5))
        monkeypatch.setattr(paths, "sample", plain)
        (drawn,) = seen
        tau = np.reshape(numbers_of(world, drawn), (6, 3))
        groups = Groups(drawn.x.reshape(6, 3)[:, 0], tau, np.full(6, 1 / 6), 6)
        monkeypatch.setattr("tabular_rlhf.policy_gradient.groups.sample", lambda *args, _groups=groups, **more: _groups)
        expected = step_of(task)(s, np.random.default_rng(5))
        monkeypatch.undo()
        same_law(world, after.logits, expected.logits, 1e-9 if "optimizer" in settings else 1e-12)  # adam divides by what may be rounding
        assert np.abs(after.baseline - expected.baseline).max() <= 1e-12
        assert (after.step, on_tree.lr) == (expected.step, task.lr)
        for moment in ("first", "second"):
            same(as_listed(world, getattr(after, moment)), getattr(expected, moment))


@pytest.mark.parametrize("loss", ["dpo", "ipo", "simpo", "orpo"])
@pytest.mark.parametrize("online", [False, True])
def test_a_step_on_pairs_is_that_of_the_list_on_the_same_pairs(loss: str, online: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for world in worlds():
        options = Options(algorithm="dpo", loss=loss, online=online, comparisons=7, lr=0.3, **({"batch": 5} if online else {}))
        task, s, on_tree, mine = learners(world, options)
        rng = np.random.default_rng(2)
        given = on_tree.compared if on_tree.compared is not None else paths.compare(on_tree.world, paths.policy_of(on_tree, mine), 5, rng)
        n = len(given.x) // 2
        tau = np.array(numbers_of(world, given))
        pairs = Pairs(given.x[:n], tau[:n], tau[n:], np.full(n, 1.0 / n), n)
        assert (given.x[:n] == given.x[n:]).all()
        monkeypatch.setattr(algorithms, "compared", lambda *args, _pairs=pairs: _pairs)
        after = step_of(on_tree)(mine, np.random.default_rng(2))
        same_law(world, after.logits, step_of(task)(s, np.random.default_rng(2)).logits)
        monkeypatch.undo()


def test_people_prefer_by_bradley_terry() -> None:
    world = named_world("coin")
    drawn = paths.compare(unmerged(world), solve(unmerged(world.at(50.0))), 40_000, np.random.default_rng(0))
    better, worse = drawn.r[:40_000], drawn.r[40_000:]
    differ = better != worse
    share, p = float(np.mean(better[differ] > worse[differ])), 1 / (1 + np.exp(-1))
    assert abs(share - p) < 5 * np.sqrt(p * (1 - p) / np.sum(differ))


# ---------------------------------------------------------------------------------------------------- the population


@pytest.mark.parametrize("core", ["rloo", "reinforce"])
@pytest.mark.parametrize("flag", KL_FLAGS)
@pytest.mark.parametrize("reward", [True, False])
def test_the_mean_update_is_that_of_all_responses(core: str, flag: str, reward: bool) -> None:
    for world in worlds():
        task, s, on_tree, mine = learners(world, Options(algorithm=core, kl=flag, kl_coef=0.4, lr=0.5, reward=reward))
        same(as_listed(world, step_of(on_tree)(mine, None).logits), step_of(task)(s, None).logits)


def test_on_merged_states_the_mean_update_is_the_gradient_of_J() -> None:
    """By central differences in the rows that merged prefixes share."""
    x = Language(("a", "b", "."), 5, eos=".", prompts=("x", "y"), mu=[0.3, 0.7], sep="")
    world = lattice(x, product(x, [ngram(x, ["abba", "aab"], 1, 0.5), phrases(x, {"ab": 1.0, "bb": -0.5})]), 0.8)
    task = begin(world, Options(algorithm="rloo", lr=1.0)).task
    logits = somewhere(world)
    s = replace(begin(world, task.options).learner, logits=logits)
    slope = step_of(task)(s, None).logits - logits
    for i in np.argwhere(np.isfinite(logits)):
        ends = []
        for sign in (1.0, -1.0):
            moved = logits.copy()
            moved[tuple(i)] += sign * 1e-5
            ends.append(score_of(task, replace(s, logits=moved)).J)
        assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(slope[tuple(i)], abs=1e-8)


def test_scores_and_predictions_are_those_of_the_list() -> None:
    for world in worlds():
        for settings in (
            {"algorithm": "rloo"},
            {"algorithm": "ppo", "kl_coef": 2.0},
            {"algorithm": "grpo"},
            {"algorithm": "rloo", "kl": "k1-loss"},
        ):
            task, s, on_tree, mine = learners(world, Options(**settings))
            ours, listed = score_of(on_tree, mine), score(world, world.mdp.path_sum(s.log_pi), task.data.reward)
            assert ours.row == pytest.approx(listed.row, rel=1e-11, abs=1e-12)
            here = destination(on_tree)
            if settings["algorithm"] == "grpo":
                assert here is None
                continue
            there = destination(task)
            assert there is not None
            assert here is not None
            assert here.words == there.words
            assert here.score.row == pytest.approx(there.score.row, rel=1e-9, abs=1e-9)


def test_exact_ascent_goes_to_the_optimum_of_a_merged_world() -> None:
    small = merge(named_world("zen"))
    run = exact_curve(begin(small, Options(algorithm="rloo", steps=150, lr=8.0)))
    assert run.curve[0][1].regret > 0.4
    assert run.last.regret < 2e-2
    assert np.all(np.diff([score.J for _, score in run.curve]) > -1e-9)


@pytest.mark.parametrize("algorithm", ["ppo", "grpo", "dpo", "expert-iteration", "best-of-n"])
def test_what_has_no_exact_ascent_says_so_and_is_drawn(algorithm: str) -> None:
    run = advance(begin(unmerged(named_world("rational")), Options(algorithm=algorithm, steps=3)), 3)
    found = report([run])
    assert found["exact"] == []
    assert found["exact_missing"]
    assert [row["name"] for row in found["rows"]][:2] == ["reference", algorithm]


# ---------------------------------------------------------------------------------------------------- lists, files, commands


def test_a_list_of_draws_has_their_sums_and_gradients_of_copies_add_up() -> None:
    for world in worlds():
        tree = unmerged(world)
        policy = ByDepth(tree, log_softmax(somewhere(tree)))
        drawn = paths.sample(policy, 9, rng=np.random.default_rng(1), tokens=True)
        at = listing(tree, drawn, 1.0)
        assert np.allclose(at.world.mdp.path_sum(at.take(policy.rows))[0], drawn.log_p, rtol=0, atol=1e-12)
        assert (at.world.mdp.lengths == drawn.length).all()
        credit = np.random.default_rng(0).standard_normal(9)
        listed = np.zeros((world.mdp.P, world.mdp.N))
        np.add.at(listed, (drawn.x, numbers_of(world, drawn)), credit)
        same(as_listed(world, at.give(at.world.mdp.subtree_sum(credit[None]))), world.mdp.subtree_sum(listed))
        x = np.random.default_rng(2).standard_normal((1, at.world.mdp.S, world.mdp.V))
        said, T = at.world.mdp.said, at.world.mdp.H
        for i, h in itertools.product(range(9), range(T)):
            if said[i, h] >= 0:
                before = sum(x[0, i * T + k, said[i, k]] for k in range(h))
                assert at.world.mdp.prefix_sum(x)[0, i * T + h] == pytest.approx(before, abs=1e-12)


@pytest.mark.parametrize("algorithm", ["sft+ppo", "dpo"])
def test_a_resumed_run_is_the_uninterrupted_one(algorithm: str, tmp_path: Path) -> None:
    small = merge(named_world("zen"))
    options = Options(algorithm=algorithm, steps=6, batch=4, comparisons=20)
    whole = advance(begin(small, options), 6)
    save(tmp_path / "r.npz", [advance(begin(small, options), 2)], "here")
    (back,), place = load(tmp_path / "r.npz", lambda _: small)
    again = advance(back.longer(6), 6)
    assert place == "here"
    assert (again.learner.logits == whole.learner.logits).all()
    assert again.curve == whole.curve
    with pytest.raises(InputError, match="another world"):
        load(tmp_path / "r.npz", lambda _: merge(named_world("fork")))


def test_the_command_runs_where_no_list_can(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "world.toml"
    path.write_text(LONG.replace("200", "60"))
    words = ["run", str(path), "--algorithm", "rloo", "--steps", "4", "--save", str(tmp_path / "r.npz"), "--json"]
    assert cli.main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["responses"], found["distance"], found["destination"]) == ("10^29", "KL", "Gibbs")
    rows = {row["name"]: row for row in found["rows"]}
    assert list(rows) == ["reference", "rloo", "its exact ascent", "predicted", "p*"]
    assert rows["reference"]["distance"] is None
    assert rows["rloo"]["distance"] > 1.0
    assert rows["predicted"]["J"] == pytest.approx(rows["p*"]["J"], rel=1e-12)
    assert cli.main(["run", "--resume", str(tmp_path / "r.npz"), "--steps", "6"]) == 0
    assert "6 steps, seed 0" in capsys.readouterr().out
    for more, said in (([], "a reward model"), (["--algorithm", "rloo", "--ptx", "0.1"], "imitation beside the reward")):
        assert cli.main(["run", str(path), *more]) == 2
        assert said in capsys.readouterr().err


def test_every_core_runs_on_lattices() -> None:
    assert all(core.over_paths is not None for core in CORES.values())
    small = merge(named_world("zen"))
    for name in CORES:
        run = advance(begin(small, Options(algorithm=name, steps=2, batch=4)), 2)
        policy = ByDepth(small, run.learner.log_pi)
        assert np.isfinite(kl(policy, solve(small))).all()
