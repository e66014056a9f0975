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
from tabular_rlhf.reports import lattice_groups, lattice_kl
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


def test_a_command_starts_without_sparse_matrices() -> None:
    """They cost a quarter of a second, and only sweeps of large worlds ask for them."""
    code = "import sys, tabular_rlhf.lattice, tabular_rlhf.lattice.law, tabular_rlhf.lattice.pairs, tabular_rlhf.commands.solve\n"
    code += "from tabular_rlhf.commands import kl, losses, run, on_lattice\nprint('scipy.sparse' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize(
    "words",
    [
        *(["kl", *more] for more in (["--placement", "loss"], ["--aggregate", "mean"], ["--ratio", "none"], ["--clamp", "output=2"])),
        *(["advantage", *more] for more in (["ppo-clip"], ["opo"], ["--moved", "1"], ["--old", "uniform"])),
    ],
)
def test_what_asks_for_each_response_is_refused_by_name(words: list[str], long: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*words, "--world", long]) == 2
    said = capsys.readouterr().err
    assert "which are not listed" in said
    assert "draw samples" in said
