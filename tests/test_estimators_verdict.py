"""What is said of a flag is what was measured: regressions against the theorem's words, and readers' records with false claims."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tabular_rlhf.autodiff import grad
from tabular_rlhf.cli import main
from tabular_rlhf.errors import InputError
from tabular_rlhf.estimators import ESTIMATORS, PLACEMENTS, Estimator, Flag, analyse, descent, end, exact_gradient, flags
from tabular_rlhf.estimators.record import AGGREGATES, LEVELS, RATIOS, TERMS
from tabular_rlhf.estimators.theorem import HELD, NONE, WHOLE, divergence, name_of
from tabular_rlhf.estimators.verdict import Update, policies, regressed, verdict
from tabular_rlhf.gibbs import solve
from tabular_rlhf.logspace import log_softmax
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.world import World, coin, random_world, rational

WORLD = random_world(rng=np.random.default_rng(0), V=3, H=3)
"""Responses of one, two and three tokens, so that no mean over a response is a sum of states by accident."""
K3 = ESTIMATORS["k3"]
UPSIDE = replace(K3, name="mine", latex="e^{-L} - 1 - L", source="mine", h=lambda L: np.exp(-L) - 1 - L)


def every_flag() -> list[Flag]:
    """Every estimator in every placement, level and aggregate, and under every ratio that may go with it."""
    found = []
    for e in ESTIMATORS:
        for place in PLACEMENTS:
            for level in LEVELS:
                for aggregate in AGGREGATES:
                    for ratio in RATIOS:
                        try:
                            found.append(Flag(e, place, level, aggregate, ratio))
                        except InputError:
                            continue
    return found


def test_the_measured_words_are_the_theorem_s() -> None:
    """By regression alone, without regard to what is claimed; "its own mean" is no sum of the named."""
    named = none = 0
    for flag in every_flag():
        if flag.ratio == "none" and flag.placement == "loss":
            continue  # on one's own samples, the same as whole ratios
        claimed, measured = descent(flag), regressed(Update(flag, WORLD))
        if claimed.parts is not None:
            assert measured.words == claimed.name, flag.label
            named += 1
        else:
            assert measured.found is NONE, (flag.label, measured.words)
            assert measured.nearest.startswith("nearest ")
            none += 1
    assert (named, none) > (120, 30)


def test_a_claim_that_holds_is_repeated_and_is_a_gradient() -> None:
    log_pi = solve(WORLD).log_pi
    for flag in every_flag():
        said, claimed = verdict(flag, WORLD, log_pi), descent(flag)
        if claimed.objective is None:
            continue
        assert (said.words, said.claimed) == (claimed.name, True), flag.label


@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_a_false_claim_is_never_repeated(name: str) -> None:
    """A lie of any kind in any record: what is said is what is said of the record without it, in every placement."""
    e = ESTIMATORS[name]
    lies: dict[str, dict[str, Any]] = {
        "path": {"path": {**e.path, "E[k2]": e.path.get("E[k2]", 0.0) + 1.0}},
        "mean": {"mean": {**e.mean, "chi2/2": e.mean.get("chi2/2", 0.0) - 0.5}},
        "both": {"path": {"KL(pi, ref)": 1.0}, "mean": {"KL(pi, ref)": 1.0, "mass": 1.0}},
        "slope": {"slope": lambda L: -3.0 * e.slope(L)},
        "oracle": {"oracle": lambda L: 7.0},
    }
    if e.rounded is not None:
        lies["rounded"] = {"rounded": lambda L, width: 0.0 * L}
    if e.tangent is not None:
        lies["tangent"] = {"tangent": replace(e.tangent, path={"2 TV": 1.0})}
    world = rational()
    for flag in flags(e):
        want = verdict(flag, world, world.log_ref).words
        for kind, lie in lies.items():
            got = verdict(replace(flag, estimator=replace(e, **lie)), world, world.log_ref)
            assert got.words == want, (flag.label, kind, got.words)


def test_a_reader_s_slip_is_told_as_it_is() -> None:
    """k3 with the wrong sign and k3's claims: cosine -1 with grad KL was once said to be KL(pi, ref), Gibbs, regret 0."""
    world = rational()
    said = {}
    for flag in flags(UPSIDE):
        report = analyse(flag, world, solve(world).log_pi)
        said[flag.placement] = report.descends, report.optimum, end(flag, world, report.optimum).words
        if flag.placement == "ratio":
            assert report.cosine == pytest.approx(-1.0)
    assert said["ratio"] == ("-KL(pi, ref)", None, "its flow goes to a vertex")
    assert said["reward"] == ("-KL(pi, ref) - KL(ref, pi)", None, "its flow goes to a vertex")
    assert said["loss"][0] == "KL(ref, pi)"  # its slope is -e^{-L} - 1: that of k3 less 2, and a constant pushes nothing
    negated = replace(K3, name="negated", h=lambda L: -K3.h(L), slope=lambda L: -K3.slope(L))
    assert [verdict(flag, world, world.log_ref).words for flag in flags(negated)] == [
        "-KL(ref, pi)",
        "KL(ref, pi) - KL(pi, ref)",
        "-KL(pi, ref)",
    ]


def test_a_sum_of_terms_is_found_with_its_coefficients_and_what_is_none_by_its_nearest() -> None:
    mixed = Estimator("mixed", "x", "mine", lambda L: 0.25 * L**2 - 0.7 * np.expm1(-L), lambda L: 0.5 * L + 0.7 * np.exp(-L), float, {}, {})
    assert verdict(Flag(mixed, "loss"), WORLD, WORLD.log_ref).words == "0.5 KL(pi, ref) - 0.7 KL(ref, pi)"
    quartic = Estimator("quartic", "L^4", "mine", lambda L: L**4, lambda L: 4 * L**3, lambda L: L**4, {}, {})
    said = verdict(Flag(quartic, "loss"), WORLD, WORLD.log_ref)
    assert said.words == "none of the named"
    words = said.nearest.split(", ")
    cosine, residual = (float(w.split()[-1]) for w in words[-2:])
    assert cosine**2 + residual**2 == pytest.approx(1.0, abs=0.02)
    g = np.ravel([exact_gradient(Flag(quartic, "loss"), WORLD, x) for x in policies(WORLD)])
    best = max(abs(cosine_of(g, term)) for term in TERMS if term != "mass")
    assert cosine == pytest.approx(best, abs=0.006)


def cosine_of(g: Any, term: str) -> float:
    objective = divergence(TERMS[term], WHOLE)
    d = np.ravel([grad(lambda z, x=x: objective(WORLD, log_softmax(z), x))(x) for x in policies(WORLD)])
    return float(g @ d / np.linalg.norm(g) / np.linalg.norm(d))


def test_parts_of_several_kinds_are_told_apart() -> None:
    """By tokens, whole returns: E[h] by state, live, less what its own slope would descend, the visits held."""
    assert descent(Flag("full", "reward", "token")).name == "KL(pi, ref) - (KL(pi, ref) by state, visits held)"
    assert name_of({WHOLE: {"KL(pi, ref)": 1.0}, HELD: {"KL(ref, pi)": -1.0, "2 TV": 1.0}}) == (
        "KL(pi, ref) + (2 TV - KL(ref, pi) by state, visits held)"
    )


def test_where_nothing_pushes_nothing_is_descended() -> None:
    for world in (rational(), coin()):
        assert verdict(Flag("k1", "loss"), world, world.log_ref).words == "nothing"
    one_token = World(TokenMDP(("a", "b", "c"), 1), np.log([[[0.5, 0.3, 0.2]]]), np.zeros((1, 3)), 1.0)
    said = analyse(Flag("full", "reward", "token"), one_token.with_reward(np.array([[0.0, 0.6, 1.0]])), one_token.log_ref)
    assert (said.descends, said.optimum.name if said.optimum else "") == ("nothing", "argmax r")  # no token comes before or after
    alone = World(coin().mdp, np.log([[[0.5, 0.5]]]), np.zeros((1, 2)), 1.0)
    assert verdict(Flag("abs", "loss"), alone, alone.log_ref).words == "2 TV"  # at the reference |L| has its corner: not measured there


def test_the_command_weighs_by_any_ratio_and_names_the_levels(capsys: pytest.CaptureFixture[str]) -> None:
    def told(*words: str) -> str:
        assert main(["kl", "--samples", "100", *words]) == 0
        return capsys.readouterr().out

    assert "Flags of whole responses.\n" in told("--estimator", "k1", "--placement", "reward")
    both = told("--placement", "loss")
    assert "Flags of whole responses; full token by token.\n" in both
    assert "Flags token by token.\n" in told("--estimator", "full", "--placement", "loss")
    per_token = told("--estimator", "k1", "--placement", "reward", "--level", "token", "--ratio", "token")
    assert "Flags token by token, ratio token.\n" in per_token
    assert "KL(pi, ref) by state, visits held" in per_token
    plain = told("--estimator", "k2", "--ratio", "none")
    assert plain.count("\n  k2 ") == 2  # the loss alone: without a ratio nothing can be weighed
    assert main(["kl", "--ratio", "token"]) == 2
    assert "one number a response must be weighed by one ratio" in capsys.readouterr().err
    assert main(["kl", "--ratio", "all"]) == 2
    assert "the ratio must be a known one" in capsys.readouterr().err
