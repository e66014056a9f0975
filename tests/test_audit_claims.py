"""Every kind of claim is tested: what is claimed truly passes, and a planted lie is told with what was measured; so are users' records."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tabular_rlhf.audit import Audit, audit, hand_in
from tabular_rlhf.audit.claims import CLAIMS, faults
from tabular_rlhf.audit.library import Library
from tabular_rlhf.audit.records import advantage_of, estimator_of, pair_loss_of
from tabular_rlhf.cli import main
from tabular_rlhf.estimators import claims as of_estimators
from tabular_rlhf.estimators.record import ESTIMATORS
from tabular_rlhf.losses import LOSSES, traits
from tabular_rlhf.policy_gradient import ADVANTAGES, Recipe
from tabular_rlhf.policy_gradient import faults as of_parts
from tabular_rlhf.policy_gradient.analysis import analyse
from tabular_rlhf.policy_gradient.updates import expected_update
from tabular_rlhf.world import rational
from tests import audit_numpy


def negated(logps: Any, advantages: Any, mask: Any) -> Any:
    return (logps * advantages[:, None] * mask).sum() / len(mask)


def averaged(logps: Any, advantages: Any, mask: Any) -> Any:
    return -(logps * advantages[:, None] * mask).sum() / mask.sum()


def k3(logps: Any, ref_logps: Any) -> Any:
    return np.expm1(ref_logps - logps) - (ref_logps - logps)


def padded(logps: Any, advantages: Any, mask: Any) -> Any:
    return -(logps * advantages[:, None] * mask).mean()


FUNCTIONS: dict[str, Callable[..., Any]] = {f.__name__: f for f in (negated, averaged, k3, padded)}


@pytest.fixture(scope="module")
def found() -> dict[str, Audit]:
    return {name: audit(hand_in(f, Library())) for name, f in FUNCTIONS.items()}


TRUE = [
    ("negated", "kind", "policy loss"),
    ("padded", "is", "reinforce"),
    ("padded", "ascends", "E[r]"),
    ("negated", "gradient", "something"),
    ("k3", "ends", "a vertex"),
    ("padded", "invariant", "order of responses"),
]
LIES = [
    ("negated", "kind", "aggregation", "policy loss"),
    ("negated", "is", "reinforce", "the sign is flipped"),
    ("negated", "ascends", "E[r]", "-E[r] (graded rewards, cosine with grad E[r] -1.0000)"),
    ("averaged", "ascends", "E[r]", "nothing: it has curl"),
    ("k3", "descends", "KL(pi, ref)", "KL(ref, pi) at held visits"),
    ("averaged", "gradient", "something", "curl 0.0"),
    ("averaged", "ends", "the maximizer of E[r] - 1 KL(p, p_ref)", "total variation"),
    ("padded", "invariant", "more padding", "by a factor 0.5"),
]


def test_every_kind_of_claim_has_a_lie() -> None:
    assert {kind for _, kind, _, _ in LIES} == set(CLAIMS)


@pytest.mark.parametrize(("name", "kind", "claim"), [t for t in TRUE if t[0] != "k3"])
def test_what_is_so_is_no_fault(name: str, kind: str, claim: str, found: dict[str, Audit]) -> None:
    assert faults(found[name], [(kind, claim)]) == []


@pytest.mark.parametrize(("name", "kind", "claim", "measured"), LIES)
def test_a_planted_lie_is_told_with_what_was_measured(name: str, kind: str, claim: str, measured: str, found: dict[str, Audit]) -> None:
    (words,) = faults(found[name], [(kind, claim)])
    assert claim in words.partition("; measured: ")[0]
    assert measured in words.partition("; measured: ")[2]


# ---------------------------------------------------------------------------------------------------- a user's function as a record


@pytest.mark.parametrize("name", [n for n in ADVANTAGES if n not in ("constant", "remax", "optimal", "opo", "opo-others")])
def test_an_advantage_handed_in_is_the_record(name: str) -> None:
    part = ADVANTAGES[name]

    def mine(rewards: Any) -> Any:
        return np.broadcast_to(part(r=rewards, n=np.ones(len(rewards)), G=len(rewards), **part.defaults), rewards.shape)

    record = advantage_of(hand_in(mine, Library()))
    world = rational()
    got, want = (expected_update(world, world.log_ref, Recipe(p, G=4)) for p in (record, part))
    np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-14)
    assert of_parts.faults(record, rng=np.random.default_rng(0)) == []


def test_a_negated_advantage_is_measured_to_descend() -> None:
    def mine(rewards: Any) -> Any:
        return rewards.mean() - rewards

    world = rational()
    report = analyse(world, world.log_ref, Recipe(advantage_of(hand_in(mine, Library())), G=4))
    assert report.cosine == pytest.approx(-1.0)
    assert report.objective == "-0.75 E[r]"


@pytest.mark.parametrize("name", ["k1", "k2", "k3", "abs", "k3-inverted"])
def test_an_estimator_handed_in_is_the_record(name: str) -> None:
    e = ESTIMATORS[name]

    def mine(logps: Any, ref_logps: Any) -> Any:
        return e.h(logps - ref_logps)

    record = estimator_of(hand_in(mine, Library()))
    assert (dict(record.path), dict(record.mean)) == (dict(e.path), dict(e.mean))
    lie = replace(record, path={"chi2/2": 3.0})
    assert [fault.partition(":")[0] for fault in of_estimators.faults(lie)][:1] == ["path"]


@pytest.mark.parametrize("name", ["dpo", "ipo", "cpo"])
def test_a_pair_loss_handed_in_has_the_traits_of_the_record(name: str) -> None:
    loss = LOSSES[name]

    def mine(chosen_logps: Any, rejected_logps: Any, ref_chosen_logps: Any, ref_rejected_logps: Any, beta: Any = 0.1) -> Any:
        a, b = chosen_logps - ref_chosen_logps, rejected_logps - ref_rejected_logps
        return loss(**{**loss.settings(1.0), "p": chosen_logps, "q": rejected_logps, "a": a, "b": b, "beta": beta, "tau": beta})

    record = pair_loss_of(hand_in(mine, Library()))
    assert record.traits == loss.traits
    lie = replace(record, traits=record.traits ^ {"bounded"})
    assert any("bounded" in words for words in traits.faults(lie, rng=np.random.default_rng(0)))


FILE = Path(audit_numpy.__file__)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (f"advantage {FILE}:rloo --group 3", "rloo, sequence-sum"),
        (f"kl --estimator {FILE}:k2_unhalved --world coin --samples 50", "2 KL(pi, ref)"),
        (f"losses {FILE}:dpo --world coin", "recovers-gibbs"),
    ],
)
def test_commands_that_take_a_record_s_name_take_a_function(words: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words.split()) == 0
    assert told in capsys.readouterr().out


def test_a_false_claim_on_the_command_line_is_told_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    words = f"audit {FILE}:agg_with_padding --claim ascends=E[r] --claim invariant=more_padding"
    assert main([*words.split()[:-1], "invariant=more padding", "--json"]) == 1
    (fault,) = json.loads(capsys.readouterr().out)["faults"]
    assert "is said to be invariant to more padding" in fault


def test_a_figure_is_drawn_where_there_is_a_path_and_refused_where_there_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one.svg", "two.svg"):
        assert main(["audit", f"{FILE}:rloo", "--group", "2", "--figure", str(tmp_path / name)]) == 0
    one, two = ((tmp_path / name).read_bytes() for name in ("one.svg", "two.svg"))
    assert one.startswith(b"<?xml")
    assert len(one) == len(two)
    assert main(["audit", f"{FILE}:centered_wrongly", "--figure", str(tmp_path / "none.svg")]) == 2
    assert "a figure must have a path to draw: got reward-model loss" in capsys.readouterr().err
    assert not (tmp_path / "none.svg").exists()
