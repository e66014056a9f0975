"""`verify --explain`: a reader with the page alone can recompute every number on it."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from tabular_rlhf.cli import main
from tabular_rlhf.ledger import LEDGER, Scope
from tabular_rlhf.ledger.explain import explain, formula, labels, meaning, ordered, worked
from tabular_rlhf.world import random_world, rational


def by_hand(world: dict[str, Any]) -> dict[str, float]:
    """The regret and its near misses from the printed table, in the standard library."""
    beta, rows = world["beta"], world["responses"]
    kl = {(p, q): math.fsum(row[p] * math.log(row[p] / row[q]) for row in rows) for p, q in (("p", "p*"), ("p*", "p"), ("p", "p_ref"))}
    value = beta * math.log(math.fsum(row["p_ref"] * math.exp(row["r"] / beta) for row in rows))
    reward = math.fsum(row["p"] * row["r"] for row in rows)
    J = reward - beta * kl["p", "p_ref"]
    return {
        "right": value - J,
        "beta dropped": kl["p", "p*"],
        "1/beta for beta": kl["p", "p*"] / beta,
        "arguments of KL swapped": beta * kl["p*", "p"],
        "p_ref for p_star": beta * kl["p", "p_ref"],
        "sign flipped": -beta * kl["p", "p*"],
        "beta squared": beta**2 * kl["p", "p*"],
        "log Z omitted": -J,
        "+ KL for - KL in the objective": value - (reward + beta * kl["p", "p_ref"]),
    }


def test_every_near_miss_can_be_checked_by_hand() -> None:
    found = worked(LEDGER["regret-is-kl"])
    for miss in found["near_misses"]:
        expected = by_hand(found["tiny_worlds"][miss["tiny_world"] - 1])
        assert miss["right"] == [pytest.approx(expected["right"], rel=1e-12, abs=1e-15)]
        assert miss["wrong"] == [pytest.approx(expected[miss["diagnosis"]], rel=1e-12)]
    assert len(found["near_misses"]) == len(LEDGER["regret-is-kl"].near_misses)


def test_the_page_shows_each_tiny_world_once_with_what_its_numbers_need() -> None:
    page = explain(LEDGER["regret-is-kl"])
    found = worked(LEDGER["regret-is-kl"])
    assert page.count("\nWorld ") == len(found["tiny_worlds"]) < len(found["near_misses"])
    assert page.count("pi (drawn)") + page.count("pi = ") == 1 + len(found["tiny_worlds"])
    assert "- beta dropped = KL(p, p_star)" in page
    for world in found["tiny_worlds"]:
        for row in world["responses"]:
            assert any(
                line.split() == [row["response"], *(f"{row[n]:.6g}" for n in ("p_ref", "r", "p*", "p"))] for line in page.splitlines()
            )


def test_responses_are_in_one_order_and_entries_have_names() -> None:
    """The order in memory is ".", "a a", "a .": people see the dictionary's, in the table and in every array."""
    found = worked(LEDGER["chain-rule"])
    shown = {row["response"]: math.log(row["p"]) for row in found["world"]["responses"]}
    assert list(shown) == ["a a", "a .", "."]
    log_p = found["parts"][0]
    assert log_p["entries"] == list(shown)
    for values in log_p["values"].values():
        assert values == pytest.approx(list(shown.values()), rel=1e-12)
    lines = explain(LEDGER["chain-rule"]).splitlines()
    assert any(line.split() == ["log", "p", "a", "a", "a", ".", "."] for line in lines)


@pytest.mark.parametrize("eos", [True, False])
def test_labels_name_their_entries(eos: bool) -> None:
    scope = Scope(random_world(rng=np.random.default_rng(0), V=3, H=3, P=2, eos=eos), 0)
    m = scope.world.mdp
    axes = meaning([(scope, scope["log_p"])])
    assert axes == ("P", "N")
    names = labels(m, scope["log_p"].shape, axes)
    assert names == sorted(names, key=lambda n: (m.prompts.index(n.split(" | ")[0]), m.parse(n.split(" | ")[1])))
    for name, value in zip(names, ordered(scope["log_p"], m, axes), strict=True):
        prompt, text = name.split(" | ")
        assert value == scope["log_p"][m.prompts.index(prompt), m.find(text)]
    axes = meaning([(scope, scope["pi"])])
    assert axes == ("P", "S", "V")
    for name, value in zip(labels(m, scope["pi"].shape, axes), ordered(scope["pi"], m, axes), strict=True):
        prompt, state, token = name.split(" | ")
        s = m.find_state("" if state == "start" else state)
        assert value == scope["pi"][m.prompts.index(prompt), s, m.vocabulary.index(token)]


def test_what_axes_mean_is_what_fits_every_example() -> None:
    """(1, 2) may be a number for each state, or parameters of two tokens: a second world tells."""
    here, there = Scope(rational(), 0), Scope(random_world(rng=np.random.default_rng(0), V=3, H=1), 0)
    assert meaning([(here, np.zeros((1, 2)))]) == ("P", "S")
    assert meaning([(here, np.zeros((1, 2))), (there, np.zeros((1, 3)))]) == ("", "V")
    assert meaning([(here, np.zeros((5, 1, 3)))]) == ("", "P", "N")
    assert meaning([(here, 0.0)]) == ()


def test_explain_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    assert main(["verify", "regret-is-kl", "borda", "--explain", "--json"]) == 0
    data = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert data["schema"] == "tabular-rlhf/explain/1"
    assert [row["slug"] for row in data["rows"]] == ["regret-is-kl", "borda"]
    assert data["rows"][0]["statement"] == LEDGER["regret-is-kl"].statement  # LaTeX for programs, a readable line for people
    assert "\n  β log Z - J_x(p) = β KL(p, p*)\n" in explain(LEDGER["regret-is-kl"])
    assert {m["diagnosis"] for m in data["rows"][0]["near_misses"]} == set(LEDGER["regret-is-kl"].misses)


def test_formulas_are_the_lines_that_run() -> None:
    """Two lambdas on one line, a lambda in a lambda, a body over several lines, and a named function."""
    first, second = (lambda r: r + 1), (lambda r: r + 2)
    assert (formula(first), formula(second)) == ("r + 1", "r + 2")
    outer = lambda beta: lambda r: r * 2  # noqa: E731
    assert formula(outer) == "lambda r: r * 2"
    assert formula(outer(1.0)) == "r * 2"
    # fmt: off
    long = lambda beta, r: (  # noqa: E731
        beta  # the weight
        * r
    )
    # fmt: on
    assert formula(long) == "beta * r"
    assert formula(by_hand) == "by_hand(world): The regret and its near misses from the printed table, in the standard library."
    assert formula(eval("lambda r: r")) == "a function(r)"


@pytest.mark.parametrize("slug", list(LEDGER))
def test_every_formula_is_found(slug: str) -> None:
    for function in LEDGER[slug].functions:
        assert "a function" not in formula(function), function
        assert " at 0x" not in formula(function), function


def test_letters_that_a_row_declares_are_printed() -> None:
    """Each row's page says what its letters stand for, as a derivation's does; a row that declares none prints none."""
    declaring = [slug for slug, row in LEDGER.items() if row.letters]
    assert declaring
    for slug in declaring[:3]:
        row = LEDGER[slug]
        page = " ".join(explain(row).split())
        assert all(f"{name} is {what}" in page for name, what in row.letters.items())
        assert worked(row)["letters"] == dict(row.letters)
    assert "letters:" not in explain(LEDGER["regret-is-kl"])
