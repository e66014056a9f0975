"""Losses of reward models: the equation twice, the fit against other roads, verdicts that are measured, and the command."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import optimize

from tabular_rlhf.cli import main
from tabular_rlhf.errors import InputError
from tabular_rlhf.losses.rewards import REWARD_LOSSES, RewardLoss, analyse_rewards, fit, reward_table
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.policy import uniform
from tabular_rlhf.preferences import bradley_terry, pooled, population_pairs
from tabular_rlhf.registry import parameters
from tabular_rlhf.world import World, coin, easy_and_hard, fork, generated_worlds, rational
from tests.laws import assert_close

EACH = pytest.mark.parametrize("name", list(REWARD_LOSSES))
WORLDS = [w for w in generated_worlds(30, rng=np.random.default_rng(4), largest=9) if w.mdp.N > 1 and np.ptp(w.r) < 6.0][:6]


def pairs_of(world: World) -> Any:
    return population_pairs(world, bradley_terry(world.r)).distinct()


@EACH
def test_code_is_the_equation_in_plain_math(name: str, rng: np.random.Generator) -> None:
    loss = REWARD_LOSSES[name]
    r_w, r_l, gap = 3.0 * rng.standard_normal((3, 200))
    got = loss(r_w=r_w, r_l=r_l, gap=gap, **loss.settings())
    for i, g in enumerate(got):
        s = {"r_w": r_w[i], "r_l": r_l[i], "gap": gap[i], **loss.defaults}
        assert math.isclose(g, loss.oracle(**{k: float(s[k]) for k in parameters(loss.oracle)}), rel_tol=1e-12, abs_tol=1e-12)


@EACH
def test_the_fit_is_lowest_and_flat(name: str, rng: np.random.Generator) -> None:
    """Against pairs summed one by one in plain Python: rewards nearby are no better, along random ways, and the slope is 0."""
    loss = REWARD_LOSSES[name]
    for world in WORLDS:
        pairs, found = pairs_of(world), fit(loss, world, pairs_of(world))
        shape = np.broadcast_shapes(*(np.shape(k) for k in (pairs.x, pairs.w, pairs.l, pairs.weight)))
        rows = list(zip(*(np.ravel(np.broadcast_to(k, shape)).tolist() for k in (pairs.x, pairs.w, pairs.l, pairs.weight)), strict=True))

        def total(s: Any, world: World = world, rows: Any = rows) -> float:
            given = ({"r_w": s[x, w], "r_l": s[x, l], "gap": world.r[x, w] - world.r[x, l], **loss.defaults} for x, w, l, _ in rows)
            return math.fsum(n * loss.oracle(**{k: g[k] for k in parameters(loss.oracle)}) for g, (*_, n) in zip(given, rows, strict=True))

        best = total(found.s)
        assert math.isclose(best, found.value, rel_tol=1e-12)
        for _ in range(5):
            way = np.where(np.isneginf(world.log_p_ref), 0.0, rng.standard_normal(world.r.shape))
            up, down = total(found.s + 1e-4 * way), total(found.s - 1e-4 * way)
            assert min(up, down) >= best - 1e-13
            assert abs(up - down) <= 1e-10


def test_bradley_terry_fits_the_true_gaps_and_the_term_that_centers_shrinks_them() -> None:
    """The latter as `preferences.pooled` solves it where all pairs are compared equally often."""
    for world in WORLDS:
        assert analyse_rewards("reward-bradley-terry", world).verdict.startswith(("the true gaps", "there are no gaps"))
    mdp = TokenMDP(3, 1)
    three = World(mdp, uniform(mdp), np.array([[0.0, 0.7, 2.0]]), 1.0)
    M = 1.0 / (1.0 + np.exp(three.r[0] - three.r[0][:, None]))
    for c in (0.01, 0.3):
        found = fit(REWARD_LOSSES["reward-centered"], three, pairs_of(three), c=c)
        assert_close(found.s[0], pooled.bradley_terry(M, c), 1e-9)
        assert not found.free
    assert analyse_rewards("reward-centered", coin(), c=5.0).verdict.startswith("the true gaps"), "two responses"


@pytest.mark.parametrize("m", [0.25, 1.0, 4.0])
def test_a_margin_on_two_responses_is_a_root(m: float) -> None:
    win = 1.0 / (1.0 + math.exp(-1.0))
    d = optimize.brentq(lambda d: -win / (1 + math.exp(d - m)) + (1 - win) / (1 + math.exp(-d - m)), 0.0, 60.0, xtol=1e-14)
    found = fit(REWARD_LOSSES["reward-margin"], coin(), pairs_of(coin()), m=m)
    assert_close(found.s[0, 1] - found.s[0, 0], d, 1e-9)
    report = analyse_rewards("reward-margin", coin(), m=m)
    assert_close(report.stretch, (d, d), 1e-9)
    assert "the Gibbs optimum of beta/" in report.verdict


def test_certain_labels_and_levels() -> None:
    assert not analyse_rewards("reward-bradley-terry", fork()).certain.attained
    assert not analyse_rewards("reward-margin", rational()).certain.attained
    assert not analyse_rewards("reward-centered", coin()).certain.attained, "two responses may part for ever, their sum 0"
    assert analyse_rewards("reward-centered", rational()).certain.attained
    assert analyse_rewards("reward-margin", easy_and_hard()).level.startswith("open")
    assert analyse_rewards("reward-centered", rational()).level.startswith("fixed")
    falls = RewardLoss("falls", "-r_w", "none", lambda r_w, r_l: -(r_w - r_l))
    assert not fit(falls, coin(), pairs_of(coin())).attained
    with pytest.raises(InputError, match="a change must be of a setting"):
        fit(falls, coin(), pairs_of(coin()), m=1.0)


@EACH
def test_the_command_tells_it(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["losses", name, "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["rewards"]
    report = analyse_rewards(name, rational())
    assert (told["gaps"], told["regret"], told["settings"]) == (report.verdict, report.regret, dict(REWARD_LOSSES[name].defaults))
    assert main(["losses", name]) == 0
    assert report.verdict.split(":")[0] in " ".join(capsys.readouterr().out.split())
    assert name in reward_table(rational())


def test_a_loss_of_ones_own_is_fitted_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import numpy as np\n"
        "def mine(chosen_rewards, rejected_rewards, margin, scale=1.0):\n"
        "    return np.logaddexp(0.0, rejected_rewards - chosen_rewards + scale * margin)\n"
    )
    assert main(["losses", f"{file}:mine", "--set", "scale=0.5", "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["rewards"]
    assert_close(told["fitted"], analyse_rewards("reward-rated", rational(), k=0.5).found.s, 1e-9)
