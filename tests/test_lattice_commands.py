"""`kl` and `advantage` on worlds that are not listed: held against lists on small worlds; what asks for a list is refused."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tabular_rlhf import cli
from tabular_rlhf.estimators import analyse, flags
from tabular_rlhf.estimators.record import ESTIMATORS
from tabular_rlhf.gibbs import solve
from tabular_rlhf.lattice import unmerged
from tabular_rlhf.lattice.merge import merge
from tabular_rlhf.logspace import kl as divergence
from tabular_rlhf.losses import LOSSES
from tabular_rlhf.losses.evaluate import ingredients, settings_at, weights
from tabular_rlhf.losses.optimum import minimize
from tabular_rlhf.preferences import bradley_terry, population_pairs
from tabular_rlhf.reports import lattice_groups, lattice_kl, lattice_losses
from tabular_rlhf.world import NAMED, World, named_world, random_world

SMALL = [name for name in NAMED if (w := named_world(name).mdp).P * w.N <= 64]
LONG = (
    'vocabulary = ["a", "b", "c", "."]\neos = "."\nhorizon = 200\nbeta = 0.5\n[reference]\ntext = "a b c a b a c"\nsmoothing = 0.5\n'
    '[reward]\nphrases = { "a b" = 1.0 }\nmatches = { ".* c" = 2.0 }\n'
)
"""10^96 responses."""


def worlds() -> list[World]:
    return [named_world(name) for name in SMALL] + [random_world(rng=np.random.default_rng(k), P=2) for k in range(2)]


@pytest.mark.parametrize("level", ["sequence", "token"])
def test_every_estimator_is_worth_what_a_list_says(level: str) -> None:
    for world in worlds():
        best = solve(world)
        for lattice in (unmerged(world), merge(world)):
            found = lattice_kl.report(lattice, [e for e in ESTIMATORS.values() if e.tangent is None], level, samples=10, seed=0)
            for row in found["rows"]:
                if not row["exact"]:
                    assert (row["estimator"], level) == ("abs", "sequence")
                    continue
                (flag,) = flags(row["estimator"], "loss", level)
                exact = analyse(flag, world, best.log_pi).exact
                size = 1e-9 * max(1.0, abs(exact.mean), exact.std)
                assert abs(row["mean"] - exact.mean) <= size, (world.name, row)
                assert abs(row["std"] - exact.std) <= max(size, 1e-7), (world.name, row)  # a list's variance cancels
                assert abs(row["bias"] - (exact.mean - found["kl"])) <= size


def enumerated(name: str, r: np.ndarray, q: np.ndarray, G: int, ddof: float, epsilon: float) -> np.ndarray:
    """E[A_1 given r_1], all groups one by one."""
    out = np.zeros(len(r))
    for group in itertools.product(range(len(r)), repeat=G):
        x, weight = r[list(group)], float(np.prod(q[list(group[1:])]))
        others = np.mean(x[1:]) if name == "rloo" else np.mean(x)
        scale = np.sqrt(np.sum(np.square(x - np.mean(x))) / (G - ddof)) + epsilon if name == "grpo" else 1.0
        out[group[0]] += weight * ((x[0] - others) / scale if scale > 0 else 0.0)
    return out


@pytest.mark.parametrize("old", ["reference", "optimum"])
@pytest.mark.parametrize(("ddof", "epsilon"), [(0.0, 0.0), (1.0, 0.1)])
def test_groups_are_credited_as_all_groups_say(old: str, ddof: float, epsilon: float) -> None:
    tried = 0
    for world in worlds():
        if len(np.unique(world.r)) > 4 or np.any(4.0 * world.r != np.rint(4.0 * world.r)):
            continue
        p = np.exp(world.log_p_ref if old == "reference" else solve(world).log_p)
        settings = {"ddof": ddof, "epsilon": epsilon}
        for lattice in (unmerged(world), merge(world)):
            found = lattice_groups.report(lattice, ["rloo", "group-mean", "grpo"], 3, settings, old)
            for x, row in enumerate(found["prompts"]):
                r = np.array([level["r"] for level in row["levels"]])
                q = np.array([np.sum(p[x, np.abs(world.r[x] - value) < 1e-9]) for value in r])
                assert np.abs(q - [level["p"] for level in row["levels"]]).max() <= 1e-10
                assert abs(row["silent"] - np.sum(q**3)) <= 1e-10
                for name in ("rloo", "group-mean", "grpo"):
                    told = np.array([level[name] for level in row["levels"]])
                    truth = enumerated(name, r, q, 3, ddof, epsilon)
                    assert np.abs(told - truth).max() <= 1e-9 * max(1.0, np.abs(truth).max()), (world.name, name)
        tried += 1
    assert tried > 2


def in_steps(seed: int) -> World:
    """A world of two prompts with few values of the reward, and responses that share them."""
    world = random_world(rng=np.random.default_rng(seed), P=2, V=3, H=2, eos=bool(seed % 2), beta=0.7)
    return world.with_reward(np.random.default_rng(seed).integers(0, 4, world.r.shape) / 2.0)


@pytest.mark.parametrize("seed", range(3))
def test_losses_of_levels_are_losses_of_all_pairs(seed: int) -> None:
    """Mean and variance of one pair's loss, over all pairs of responses; and the minimum over all laws of responses."""
    world = in_steps(seed)
    pairs, best = population_pairs(world, bradley_terry(world.r)), solve(world)
    w = weights(pairs)
    for small in (unmerged(world), merge(world)):
        p = lattice_losses.Problem(small, 4000, seed)
        assert abs(p.same - np.sum(world.mu[:, None] * np.exp(2 * world.log_p_ref))) <= 1e-12
        rows = {row["name"]: row for row in lattice_losses.report(small, list(LOSSES.values()), {}, samples=4000, seed=seed)["losses"]}
        more = {"p", "q", "p0", "q0", "len_w", "len_l"}
        beyond = {name for name, loss in LOSSES.items() if more & {*loss.needs}} | {"kto"}  # its z0 meets prompts with others' responses
        assert {name for name, row in rows.items() if not row["exact"]} == beyond
        for name, loss in LOSSES.items():
            if name == "kto":
                continue
            truth = []
            for log_p in (world.log_p_ref, best.log_p):
                s = settings_at(loss, world, log_p, pairs, {})
                x = loss(**{**ingredients(world, log_p, pairs), **s})
                truth.append((np.sum(w * x), np.sum(w * np.square(x - np.sum(w * x)))))
            row, n = rows[name], 4000
            assert abs(row["sampled"] - truth[1][0]) <= 5 * np.sqrt(truth[1][1] / n) + 1e-12, name
            if not row["exact"]:
                continue
            scale = 1e-11 * max(1.0, np.sqrt(truth[1][1]), abs(truth[1][0]))
            assert abs(row["at_ref"] - truth[0][0]) <= scale, name
            assert abs(row["at_optimum"] - truth[1][0]) <= scale, name
            assert abs(row["standard_error"] ** 2 * n - truth[1][1]) <= scale * max(1.0, np.sqrt(truth[1][1])), name
            if "convex" in loss.traits and row["attained"] and seed == 1:
                found = minimize(loss, world, pairs)
                far = float(np.sum(world.mu * divergence(found.log_p, best.log_p)))
                assert abs(row["kl_to_gibbs"] - far) <= 1e-6 * max(1.0, far), name


@pytest.fixture
def long(tmp_path: Path) -> str:
    path = tmp_path / "world.toml"
    path.write_text(LONG)
    return str(path)


def test_commands_answer_where_no_list_can(long: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["kl", "--world", long, "--samples", "500", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["schema"], found["responses"]) == (lattice_kl.SCHEMA, "10^96")
    rows = {row["estimator"]: row for row in found["rows"]}
    assert abs(rows["k1"]["bias"]) <= 1e-9 * found["kl"]
    assert "np.absolute" in rows["abs"]["remark"]
    assert cli.main(["advantage", "--world", long]) == 0
    assert "10^96 responses (not listed" in capsys.readouterr().out
    assert cli.main(["losses", "dpo", "--world", long, "--samples", "500", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["schema"], found["responses"], found["losses"][0]["optimum"]) == (lattice_losses.SCHEMA, "10^96", "closed form")
    assert cli.main(["losses", "--world", long, "--samples", "500"]) == 0
    shown = capsys.readouterr().out
    assert "LOSSES THAT ASK FOR MORE" in shown
    assert "the rarest of probability 3.2e-71" in shown


def test_a_command_starts_without_sparse_matrices() -> None:
    """They cost a quarter of a second, and only sweeps of large worlds ask for them."""
    code = "import sys, tabular_rlhf.lattice, tabular_rlhf.lattice.law, tabular_rlhf.lattice.pairs, tabular_rlhf.commands.solve\n"
    code += "from tabular_rlhf.commands import kl, losses, run, on_lattice\nprint('scipy.sparse' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize(
    "words",
    [
        *(["kl", *more] for more in (["--placement", "loss"], ["--aggregate", "mean"], ["--ratio", "none"], ["--clamp", "output=2"])),
        *(["losses", "dpo", *more] for more in (["--moved", "1"], ["--old", "optimum"], ["--top-p", "0.5"])),
        *(["advantage", *more] for more in (["ppo-clip"], ["opo"], ["--moved", "1"], ["--old", "uniform"])),
    ],
)
def test_what_asks_for_each_response_is_refused_by_name(words: list[str], long: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*words, "--world", long]) == 2
    said = capsys.readouterr().err
    assert "which are not listed" in said
    assert "draw samples" in said
