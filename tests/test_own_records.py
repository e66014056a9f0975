"""A record of a user's own: settings declared, told or told in part, bound by functools.partial, and no oracle: measured all the same.

The law runs over every kind of record and every command that takes one: what is reported is what the same arithmetic gives as a record of
the tables, `faults` has nothing to say of what is not claimed, and a setting that nothing has is refused with the nearest names.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tabular_rlhf.cli import main
from tabular_rlhf.errors import InputError
from tabular_rlhf.estimators import Estimator, Flag
from tabular_rlhf.estimators import analyse as analyse_flag
from tabular_rlhf.estimators import faults as faults_of_an_estimator
from tabular_rlhf.gibbs import solve
from tabular_rlhf.losses import DirectLoss, traits
from tabular_rlhf.losses.analyse import analyse as analyse_loss
from tabular_rlhf.losses.rewards import RewardLoss, analyse_rewards
from tabular_rlhf.policy_gradient import Advantage, Aggregation, Batch, Correction, PolicyLoss, Recipe, analyse
from tabular_rlhf.policy_gradient.faults import faults
from tabular_rlhf.world import World, coin, rational

FILE = """
import functools
import numpy as np

def advantage(rewards, shift=0.25, scale=2.0):
    return scale * (rewards - shift)

def aggregation(per_token_loss, mask, power=0.0, scale=1.0):
    return scale * np.sum(per_token_loss * mask) / np.sum(mask) ** power

def pair_loss(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta=1.0, gamma=0.0, scale=1.0):
    return scale * np.logaddexp(0.0, gamma - beta * (chosen_logps - ref_chosen_logps - rejected_logps + ref_rejected_logps))

def reward_loss(chosen_rewards, rejected_rewards, gamma=0.0, scale=1.0):
    return scale * np.logaddexp(0.0, gamma - (chosen_rewards - rejected_rewards))

def penalty(logps, ref_logps, scale=1.0, bend=0.5):
    return scale * (logps - ref_logps) + bend * (logps - ref_logps) ** 2

advantage_bound = functools.partial(advantage, shift=1.0)
aggregation_bound = functools.partial(aggregation, power=0.5)
pair_loss_bound = functools.partial(pair_loss, gamma=0.5)
reward_loss_bound = functools.partial(reward_loss, gamma=0.5)
penalty_bound = functools.partial(penalty, scale=3.0)
"""


@dataclass(frozen=True)
class Kind:
    """command, before and after the function's name; first and second setting: name, default, another; told, from the answer's JSON; and
    the same number of a record with no oracle, at given settings."""

    command: tuple[str, str]
    first: tuple[str, float, float]
    second: tuple[str, float, float]
    told: Callable[[Any], float]
    record: Callable[[float, float], float]


def by_advantage(shift: float, scale: float) -> float:
    mine = Advantage("mine", "A", "own", lambda r, shift, scale: scale * (r - shift), defaults={"shift": 0.25, "scale": 2.0})
    assert faults(mine, rng=np.random.default_rng(0)) == []
    found = analyse(coin(), coin().log_ref, Recipe(mine, G=3, shift=shift, scale=scale))
    return float(found.variance or 0.0)


def by_aggregation(power: float, scale: float) -> float:
    mine = Aggregation(
        "mine",
        r"\omega",
        "own",
        lambda lengths, n, power, scale: scale * np.ones_like(lengths) / np.sum(n * lengths, axis=-1, keepdims=True) ** power,
        defaults={"power": 0.0, "scale": 1.0},
    )
    assert faults(mine, rng=np.random.default_rng(0)) == []
    found = analyse(coin(), coin().log_ref, Recipe("none", aggregation=mine, G=3, power=power, scale=scale))
    return float(found.ratio or 0.0)


def by_pair_loss(gamma: float, scale: float) -> float:
    mine = DirectLoss(
        "mine",
        "L",
        "own",
        lambda a, b, beta, gamma, scale: scale * np.logaddexp(0.0, gamma - beta * (a - b)),
        traits=frozenset({"shift-invariant", "convex", "saturates", "bounded-below", "prefers-winner"}),
        defaults={"gamma": 0.0, "scale": 1.0},
    )
    assert [f for f in traits.faults(mine, rng=np.random.default_rng(0)) if "another" in f] == []
    return analyse_loss(mine, coin(), gamma=gamma, scale=scale).optimum.value


def by_reward_loss(gamma: float, scale: float) -> float:
    defaults = {"gamma": 0.0, "scale": 1.0}
    mine = RewardLoss("mine", "L", "own", lambda r_w, r_l, gamma, scale: scale * np.logaddexp(0.0, gamma - (r_w - r_l)), defaults=defaults)
    report = analyse_rewards(mine, coin(), gamma=gamma, scale=scale)
    return float(np.sum(np.square(report.found.s)))


def by_penalty(scale: float, bend: float) -> float:
    mine = Estimator("mine", "h", "own", lambda L: scale * L + bend * L**2, lambda L: scale + 2.0 * bend * L)
    assert faults_of_an_estimator(mine) == []
    world = coin()
    return float(analyse_flag(Flag(mine, "reward"), world, solve(world).log_pi).exact.mean)


KINDS = {
    "advantage": Kind(
        ("advantage", "--group 3"), ("shift", 0.25, 1.5), ("scale", 2.0, 0.5), lambda f: float(f["rows"][0]["variance"]), by_advantage
    ),
    "aggregation": Kind(
        ("advantage", "--group 3"), ("power", 0.0, 1.0), ("scale", 1.0, 0.5), lambda f: float(f["rows"][0]["ratio"]), by_aggregation
    ),
    "pair_loss": Kind(("losses", ""), ("gamma", 0.0, 1.0), ("scale", 1.0, 3.0), lambda f: float(f["losses"][0]["value"]), by_pair_loss),
    "penalty": Kind(
        ("kl --placement reward --samples 50 --estimator", ""),
        ("scale", 1.0, 2.0),
        ("bend", 0.5, 1.5),
        lambda f: float(f["rows"][0]["mean"]),
        by_penalty,
    ),
    "reward_loss": Kind(
        ("losses", ""),
        ("gamma", 0.0, 1.0),
        ("scale", 1.0, 3.0),
        lambda f: float(np.sum(np.square(f["rewards"][0]["fitted"]))),
        by_reward_loss,
    ),
}
BOUND = {"penalty": (3.0, 0.5), "advantage": (1.0, 2.0), "aggregation": (0.5, 1.0), "pair_loss": (0.5, 1.0), "reward_loss": (0.5, 1.0)}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("own") / "own.py"
    path.write_text(FILE)
    return path


def answer(words: str, capsys: pytest.CaptureFixture[str]) -> Any:
    assert main([*words.split(), "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", KINDS)
def test_settings_are_taken_as_declared_told_in_part_or_bound(name: str, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One told and one not, both told, one bound beforehand: the answer is that of a record with these settings and no oracle."""
    kind = KINDS[name]
    (one, a, b), (two, _, d) = kind.first, kind.second
    asked = f"{kind.command[0]} {file}:{name} {kind.command[1]} --world coin"
    for told, settings in ((f"--set {two}={d}", (a, d)), (f"--set {one}={b} --set {two}={d}", (b, d))):
        got, want = kind.told(answer(f"{asked} {told}", capsys)), kind.record(*settings)
        assert got == pytest.approx(want, rel=1e-9, abs=1e-12), told
    bound = kind.told(answer(asked.replace(f":{name}", f":{name}_bound"), capsys))
    assert bound == pytest.approx(kind.record(*BOUND[name]), rel=1e-9, abs=1e-12)
    assert len({round(kind.record(*s), 9) for s in ((a, d), (b, d), BOUND[name])}) == 3, "settings that change nothing show nothing"


@pytest.mark.parametrize("name", KINDS)
def test_a_setting_that_nothing_has_is_refused_with_the_nearest(name: str, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*KINDS[name].command[0].split(), f"{file}:{name}", *KINDS[name].command[1].split(), "--set", "scael=1"]) == 2
    said = capsys.readouterr().err
    assert "a setting must belong to what is compared" in said
    assert "did you mean" in said


@pytest.mark.parametrize("name", KINDS)
def test_an_audit_reads_them_as_they_are(name: str, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kind = answer(f"audit {file}:{name} --group 2", capsys)["kind"]
    words = {"advantage": "group advantage", "pair_loss": "pair loss", "reward_loss": "reward-model loss", "penalty": "KL penalty"}
    assert kind == words.get(name, name)


# ---------------------------------------------------------------------------------------------------- in Python, every kind of part


PARTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "advantage": (
        Advantage("mine", "A", "own", lambda r, n, G, tilt: r - tilt * np.sum(n * r, -1, keepdims=True) / G, defaults={"tilt": 0.5}),
        {},
    ),
    "loss": (PolicyLoss("mine", "f", "own", lambda log_pi, A, tilt: tilt * A * log_pi, defaults={"tilt": 0.5}), {}),
    "aggregation": (Aggregation("mine", "w", "own", lambda lengths, G, tilt: tilt / (G * lengths), defaults={"tilt": 0.5}), {}),
    "correction": (Correction("mine", "c", "own", lambda rho, tilt: rho**tilt, defaults={"tilt": 0.5}), {}),
    "batch": (Batch("mine", "A'", "own", lambda A, n, tilt: A * tilt * np.sum(n, -1, keepdims=True), defaults={"tilt": 0.5}), {"B": 2}),
}
"""One of each kind, with a setting of its own and no oracle."""


@pytest.mark.parametrize("kind", PARTS)
def test_a_part_with_a_setting_of_its_own_and_no_oracle_is_measured(kind: str) -> None:
    part, beside = PARTS[kind]
    world: World = rational()
    assert faults(part, rng=np.random.default_rng(1)) == []
    moved = solve(world).log_pi if kind in ("loss", "correction") else None
    found = [analyse(world, world.log_ref, Recipe(**{kind: part}, G=3, **beside, **told), log_old=moved) for told in ({}, {"tilt": 0.25})]
    assert all(f.objective and f.ratio is not None for f in found)
    if kind != "correction":  # the old policy itself has drawn: there is nothing to be corrected
        assert found[0].ratio != pytest.approx(found[1].ratio)
    with pytest.raises(InputError, match="did you mean tilt"):
        Recipe(**{kind: part}, G=3, **beside, tlit=1.0)
    for wrong in (np.nan, "1", True, None):
        with pytest.raises(InputError, match="tilt must be a finite number"):
            Recipe(**{kind: part}, G=3, **beside, tilt=wrong)
