"""Conformance vectors, by routes that do not know how they were made: fractions, plain `math`, differences; and functions held to them."""

from __future__ import annotations

import importlib
import json
import re
import sys
import types
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tabular_rlhf import __version__
from tabular_rlhf.audit import hand_in
from tabular_rlhf.audit.conform import conform
from tabular_rlhf.audit.library import Library, library_of
from tabular_rlhf.audit.vectors import FAMILIES, SCHEMA, policy_loss, vectors
from tabular_rlhf.estimators.record import ESTIMATORS
from tabular_rlhf.losses import LOSSES as PAIR_LOSSES
from tabular_rlhf.policy_gradient import ADVANTAGES, AGGREGATIONS, LOSSES
from tabular_rlhf.registry import parameters
from tests.foreign import require

FILES = {family: vectors(family, __version__) for family in FAMILIES}
README = (Path(__file__).parent.parent / "README.md").read_text()


def cases(family: str) -> list[dict[str, Any]]:
    return FILES[family]["cases"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_file_is_plain_json_that_gives_the_same_doubles_again(family: str) -> None:
    file = FILES[family]
    assert list(file) == ["schema", "version", "kind", "about", "provenance", "cases"]
    assert file["schema"] == SCHEMA
    assert json.loads(json.dumps(file, allow_nan=False)) == file
    for case in file["cases"]:
        assert list(case) == ["name", "settings", "inputs", "outputs", "exact"]


def fractions(x: Any) -> Any:
    return [fractions(v) for v in x] if isinstance(x, list) else float(Fraction(x))


@pytest.mark.parametrize("family", FAMILIES)
def test_fractions_are_the_numbers(family: str) -> None:
    for case in cases(family):
        for key in set(case["exact"]) & set(case["outputs"]):
            np.testing.assert_allclose(fractions(case["exact"][key]), case["outputs"][key], rtol=1e-15, atol=1e-16)


def test_advantages_are_those_of_plain_math() -> None:
    for case in cases("advantages"):
        part, i = ADVANTAGES[case["name"]], case["inputs"]
        plain = {"r": i["reward"], "lengths": [int(n) for n in i["length"]], "G": i["G"], **part.defaults, **case["settings"]}
        want = [part.oracle(i=k, **{n: plain[n] for n in parameters(part.oracle) if n != "i"}) for k in range(i["G"])]
        np.testing.assert_allclose(case["outputs"]["advantage"], want, rtol=1e-12, atol=1e-14)


def test_kl_values_are_those_of_plain_math_and_slopes_their_differences() -> None:
    for case in cases("kl"):
        e, mask = ESTIMATORS[case["name"]], np.array(case["inputs"]["mask"])
        L = np.array(case["inputs"]["logp"]) - np.array(case["inputs"]["ref"])
        want = [[e.oracle(float(x)) if m else 0.0 for x, m in zip(*rows, strict=True)] for rows in zip(L, mask, strict=True)]
        np.testing.assert_allclose(case["outputs"]["value"], want, rtol=1e-12, atol=1e-15)
        h = e.differentiated.h
        slope = (h(L + 1e-5) - h(L - 1e-5)) / 2e-5 * mask
        np.testing.assert_allclose(case["outputs"]["slope"], slope, rtol=1e-8, atol=1e-8)


def test_gradients_of_policy_losses_are_differences() -> None:
    for case in cases("policy-losses"):
        settings = {k: v for k, v in case["settings"].items() if k not in ("aggregation", "on_policy")}
        t = {k: np.array(v) for k, v in case["inputs"].items()}
        loss, rule = LOSSES[case["name"]], AGGREGATIONS[case["settings"]["aggregation"]]
        assert case["outputs"]["loss"] == pytest.approx(float(policy_loss(loss, rule, t["logp"], t, **settings)), rel=1e-14)
        for at in [(0, 0), (1, 3), (3, 1)]:
            e = np.zeros(t["logp"].shape)
            e[at] = 1e-6
            up, down = (float(policy_loss(loss, rule, t["logp"] + s * e, t, **settings)) for s in (1.0, -1.0))
            assert case["outputs"]["gradient"][at[0]][at[1]] == pytest.approx((up - down) / 2e-6, rel=1e-5, abs=1e-8)


def test_pair_losses_are_those_of_plain_math() -> None:
    for case in cases("pair-losses"):
        loss, t = PAIR_LOSSES[case["name"]], case["inputs"]
        for k in range(len(t["chosen"])):
            p, q = t["chosen"][k], t["rejected"][k]
            a, b = p - t["ref_chosen"][k], q - t["ref_rejected"][k]
            plain = {"p": p, "q": q, "a": a, "b": b, "D": a - b, "len_w": t["chosen_length"][k], "len_l": t["rejected_length"][k]}
            plain |= {"width": 0.0, "tau": case["settings"]["beta"], **case["settings"]}
            want = loss.oracle(**{n: plain[n] for n in parameters(loss.oracle)})
            assert case["outputs"]["loss"][k] == pytest.approx(want, rel=1e-10, abs=1e-12)


# ---------------------------------------------------------------------------------------------------- functions held against them


@pytest.mark.parametrize(
    ("library", "name", "member"),
    [
        ("torch", "rloo_outcome_advantage", "rloo"),
        ("torch", "opo_advantage", "opo"),
        ("torch", "dual_clip_loss", "dual-clip (clip = 0.2, dual = 3, token-mean)"),
        ("torch", "cispo_loss", "cispo (low = 1, high = 0.28, token-mean)"),
        ("torch", "kl_low_variance", "k3"),
        ("torch", "agg_sequence_mean", "sequence-mean"),
        ("torch", "dpo_loss", "dpo (beta = 0.1)"),
        ("torch", "ipo_loss", "ipo (beta = 0.1)"),
        ("torch", "clip_inverted", None),
        ("torch", "others_over_g", None),
        ("torch", "dpo_swapped", None),
        ("torch", "kl_straight_through", "k3-straight-through"),
        ("numpy", "rloo", "rloo"),
        ("numpy", "k1", "k1"),
        ("numpy", "k2_unhalved", None),
        ("numpy", "ppo", "ppo-clip (clip = 0.2, token-mean)"),
    ],
)
def test_a_function_agrees_with_what_it_is_and_with_nothing_else(library: str, name: str, member: str | None) -> None:
    require(library)
    module = importlib.import_module(f"tests.audit_{library}")
    assert module.__file__ is not None
    found = conform(hand_in(getattr(module, name), library_of(Path(module.__file__).read_text())))
    assert found.problem == ""
    assert found.agrees == (() if member is None else (member,))
    assert bool(found.first) == (member is None)


@pytest.mark.parametrize("factor", [0.5, 1.0001, 1.0 + 1e-7])
def test_a_factor_is_told_however_near_to_one(factor: float) -> None:
    def scaled(rewards: Any) -> Any:
        return (rewards - rewards.mean()) * factor

    found = conform(hand_in(scaled, Library()))
    assert (found.agrees, found.nearest) == ((), "group-mean")
    assert found.first == f"times {factor:.6g}" or (factor - 1.0 < 1e-6 and "(32 bits)" in found.first)


MINE = {
    "numpy": """
def rloo_advantage(rewards, size):
    r = rewards.reshape(-1, size)
    return (r - (r.sum(1, keepdims=True) - r) / (size - 1)).ravel()
""",
    "torch": """
def ppo_loss(logp, old, advantage, mask):
    ratio, a = (logp - old).exp(), advantage[:, None]
    return -((ratio * a).minimum(ratio.clamp(0.8, 1.2) * a) * mask).sum() / mask.sum()
""",
}
WRONG = {"numpy": MINE["numpy"].replace("(size - 1)", "size"), "torch": MINE["torch"].replace("minimum", "maximum")}


@pytest.mark.parametrize("library", MINE)
def test_the_examples_of_the_readme_pass_what_is_right_and_fail_what_is_wrong(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require(library)
    example = re.findall(rf"<!-- pytest: {library} -->\n```py\n(.*?)```", README, re.DOTALL)[0]
    assert sum(bool(line.strip()) for line in example.splitlines()) <= 10
    (tmp_path / "vectors").mkdir()
    for family, file in FILES.items():
        (tmp_path / "vectors" / f"{family}.json").write_text(json.dumps(file))
    monkeypatch.chdir(tmp_path)
    for text, right in ((MINE[library], True), (WRONG[library], False)):
        mine = types.ModuleType("my_trainer")
        exec(text, mine.__dict__)
        monkeypatch.setitem(sys.modules, "my_trainer", mine)
        scope: dict[str, Any] = {}
        exec(example, scope)
        test = next(f for n, f in scope.items() if n.startswith("test_"))
        fails = 0
        for case in test.pytestmark[0].args[1]:
            try:
                test(case)
            except AssertionError:
                fails += 1
        assert (fails == 0) == right
