"""The ledger: every row holds, every near miss is refuted by at most three responses, and the audit itself can fail."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from functools import cache, partial
from typing import Any

import numpy as np
import pytest

from tabular_rlhf import gibbs
from tabular_rlhf.cli import main
from tabular_rlhf.errors import InputError
from tabular_rlhf.ledger import LEDGER, SYMBOLS, Scope, audit
from tabular_rlhf.ledger.audit import RowClaim, Verdict, refute, sampled_z, select
from tabular_rlhf.ledger.record import Approximately, Miss, as_parts
from tabular_rlhf.ledger.worlds import tiny_worlds
from tabular_rlhf.symbols import parameters
from tabular_rlhf.tolerance import EPS, ROADS, distance, roundings
from tabular_rlhf.world import coin, random_world, rational, rational_answers

# the slugs of the mathematics' chapters, written out: a row that is lost must fail a test
CHAPTERS = {
    1: "tree-counts chain-rule occupancy policies-are-distributions performance-difference",
    2: "exploration compounding-error reward-hacking reward-by-hand-vs-learned",
    3: "bradley-terry reward-shift-invariance mle-is-forward-kl bt-score-hessian bt-existence bt-consistency bt-saturation borda "
    "plackett-luce label-noise",
    4: "gibbs-optimum lagrange-multiplier optimal-value regret-is-kl reverse-kl-projection soft-bellman kl-chain-rule "
    "free-energy-derivatives beta-limits prompts donsker-varadhan potential-shaping f-divergence-optimum ppo-ptx-optimum mirror-descent",
    5: "i-projection e-geodesic m-projection-counts m-projection-gap mode-seeking all-roads",
    6: "reward-inversion dpo-loss dpo-gradient dpo-population-optimum dpo-is-bt-mle dpo-deterministic-labels likelihood-displacement "
    "logit-conservation shift-invariance-of-losses ipo-two-arms direct-family preference-game",
    7: "policy-gradient zero-mean-score reward-to-go optimal-baseline kl-regularized-gradient rloo grpo group-identities aggregation "
    "ppo-clip natural-gradient ppo-ptx-gradient",
    8: "k1 k2 second-order k3 kl-estimator-theorem kl-placement kl-gradients token-vs-sequence rao-blackwell importance-ratio",
    9: "best-of-n rejection-sampling expert-iteration",
    10: "group-bernstein maxrl-order pass-at-k dynamic-sampling truncated-ratio prefix-ratio random-rewards-clip off-policy-reinforce "
    "sampler-mismatch state-kl-in-reward on-policy-distillation entropy-covariance process-rewards gae padding-and-eos "
    "batch-normalization micro-batch-mean trajectory-balance pmd-mean online-ipo-is-nash sharpening bon-is-gibbs-of-quantile kl-in-grpo "
    "squeezing ties mixture-of-people centering lattice-variance lattice-k3 masking-is-not-conditioning forward-backward lattice-merging "
    "beyond-lists",
}


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_row_of_the_chapter_is_there(chapter: int) -> None:
    assert set(CHAPTERS[chapter].split()) <= {row.slug for row in select(chapter=chapter)}


@cache
def audited() -> dict[str, Verdict]:
    """The whole ledger in one audit: what rows compute of a world alike is then computed once."""
    return {verdict.slug: verdict for verdict in audit(list(LEDGER.values()), worlds=20, seed=11)}


@pytest.mark.parametrize("slug", list(LEDGER))
def test_a_row_holds_and_its_near_misses_do_not(slug: str) -> None:
    verdict = audited()[slug]
    assert verdict.holds, f"{verdict.worst}: {verdict.error} tolerances, z {verdict.z}, {verdict.refuted}"
    for diagnosis, found in verdict.refuted.items():
        assert found is not None
        assert found <= 3, diagnosis


@pytest.mark.parametrize("slug", list(LEDGER))
def test_identities_hold_at_two_to_the_twenty(slug: str, big: Scope) -> None:
    row = LEDGER[slug]
    if row.applies(big):
        for side, errors in row.errors(big).items():
            # three units: the bound counts roundings of a term, and a few terms of equal size meet in one side
            assert max(errors) <= 3.0, (side, errors)


@pytest.fixture(scope="module")
def big() -> Scope:
    return Scope(random_world(rng=np.random.default_rng(5), V=16, H=5, eos=False, beta=0.7), 5)


@pytest.mark.parametrize("slug", list(LEDGER))
def test_breaking_any_side_breaks_the_row(slug: str) -> None:
    """Each side after the first is perturbed by a thousand tolerances in each part: the audit must notice, every time."""
    row = LEDGER[slug]
    scope = next(
        s
        for s in (Scope(w, 1) for w in (rational(), coin(), *(random_world(rng=np.random.default_rng(i), V=3, H=2) for i in range(9))))
        if row.applies(s)
    )
    right = row.evaluate(scope, next(iter(row.sides)))
    units = row.unit(scope, right)
    for name, side in list(row.sides.items())[1:]:
        slack = side.error / (EPS * roundings(scope)) if isinstance(side, Approximately) else 1.0
        for part, (value, unit) in enumerate(zip(row.evaluate(scope, name), units, strict=True)):
            moved = list(row.evaluate(scope, name))
            moved[part] = np.where(np.isfinite(value), value, 0.0) + ROADS * unit * max(1.0, slack)
            broken = replace(row, sides={**row.sides, name: _constant(tuple(moved))})
            assert broken.errors(scope)[name][part] > 1.0


def _constant(value: Any) -> Any:
    return lambda: value


def test_the_worst_error_is_found_wherever_it_is() -> None:
    wrong = replace(
        LEDGER["regret-is-kl"],
        sides={**LEDGER["regret-is-kl"].sides, "a wrong road": lambda beta, log_p, log_p_star, P: beta * np.zeros(P)},
    )
    (verdict,) = audit([wrong], worlds=5)
    assert not verdict.holds
    assert verdict.worst.startswith("a wrong road")


@pytest.mark.parametrize("error", [np.nan, np.inf, 2.0])
@pytest.mark.parametrize("at", range(4))
def test_an_error_on_one_world_is_never_forgotten(error: float, at: int) -> None:
    """Whichever part of the worlds it is in, whatever comes after it: also where it is no number."""

    class Once(RowClaim):
        seen = 0

        def errors(self, scope: Scope) -> Iterator[tuple[str, float]]:
            yield "here", error if self.seen == 3 * at else 0.5
            self.seen += 1

    (verdict,) = audit([Once(LEDGER["regret-is-kl"])], worlds=6)
    assert not verdict.holds
    assert verdict.error > 1.0
    assert verdict.worst.startswith("here, on")


def test_an_accident_of_numbers_on_the_way_is_no_agreement() -> None:
    """A side that comes to the right number through 0/0 is not a road to it."""
    through = {**LEDGER["regret-is-kl"].sides, "through 0/0": lambda value, J_x: value - J_x + np.nan_to_num(0.0 * np.log(0.0 * J_x))}
    (verdict,) = audit([replace(LEDGER["regret-is-kl"], sides=through)], worlds=2)
    assert not verdict.holds
    assert verdict.worst.startswith("divide by zero")


def test_a_near_miss_that_is_right_is_reported() -> None:
    row = replace(LEDGER["regret-is-kl"], misses={**LEDGER["regret-is-kl"].misses, "not a mistake": lambda value, J_x: value - J_x})
    (verdict,) = audit([row], worlds=2)
    assert verdict.refuted["not a mistake"] is None
    assert not verdict.holds


def test_a_wrong_average_is_caught_by_the_population_not_by_luck() -> None:
    row = LEDGER["regret-is-kl"]
    assert row.sampled is not None
    slightly = replace(row, sampled=replace(row.sampled, equals=lambda mu, value, J_x: np.sum(mu * (value - J_x)) + 1e-6))
    assert sampled_z(slightly, Scope(rational(), 0), 0) == np.inf


def test_the_audit_is_deterministic() -> None:
    rows = select(["regret-is-kl", "optimal-value"])
    one, two = (audit(rows, worlds=10, seed=3) for _ in range(2))
    assert [(v.error, v.z, v.worlds) for v in one] == [(v.error, v.z, v.worlds) for v in two]


@pytest.mark.parametrize("slug", ["regret-is-kl", "soft-bellman", "optimal-value"])
def test_rational_answers_are_exact(slug: str) -> None:
    """On the rational world the closed form equals the fraction to the last bits, not only to its own bound."""
    answers = rational_answers()
    g = gibbs.solve(rational())
    for i, text in ((0, "."), (1, "a a"), (2, "a .")):
        assert rational().mdp.text(i) == text
        assert abs(Fraction(float(g.p[0, i])) - answers[f"p*({text})"]) <= 4 * EPS * float(answers[f"p*({text})"])
    assert abs(np.exp(g.V[0]) - float(answers["Z"])) <= 4 * EPS * float(answers["Z"])
    (verdict,) = audit([LEDGER[slug]], worlds=0)
    assert verdict.error <= 1.0


# ---------------------------------------------------------------------------------------------------- records and symbols


def test_a_row_refuses_what_is_missing() -> None:
    good = LEDGER["regret-is-kl"]
    for change, must in (
        ({"sides": {"one": lambda J: J}}, "two sides"),
        ({"misses": {"one": lambda J: J}}, "near misses"),
        ({"slips": ("beta dropped",), "misses": {"beta dropped": lambda J: J}}, "a name of its own.*'beta dropped'"),
        ({"source": ""}, "source"),
        ({"sides": {"one": lambda J: J, "two": lambda no_such_symbol: 0.0}}, "names of symbols"),
        ({"sides": {"one": lambda J: J, "two": np.sum}}, "plain one of named symbols, as lambda r: np.sum"),
        ({"sides": {"one": lambda J: J, "two": Approximately(partial(np.sum, axis=1), 0.1)}}, "plain one of named symbols"),
        ({"sides": {"one": lambda J: J, "two": lambda *, J: J}}, "plain one of named symbols"),
        ({"sides": {"one": lambda J: J, "two": lambda *J: J}}, "plain one of named symbols"),
        ({"misses": {"one": Miss(lambda J: J, part=1), "two": lambda J: J}}, "one of the 1 parts.*'one'"),
    ):
        with pytest.raises(InputError, match=must):
            replace(good, **change)
    with pytest.raises(InputError, match="name of its own"):
        LEDGER.add(good)


@pytest.mark.parametrize(
    ("change", "must"),
    [
        ({"sides": {"one": lambda J: (J, J), "two": lambda J: J}}, "side 'one' must return 1 parts: row 'regret-is-kl': got 2"),
        ({"sides": {"one": lambda J: J, "two": lambda J: (J, J)}}, "side 'two' must return 1 parts: row 'regret-is-kl': got 2"),
        ({"parts": ("a", "b"), "sides": {"one": lambda J: (J, J), "two": lambda J: J}}, "side 'two' must return 2 parts"),
        ({"scale": lambda J: (J, J, J)}, "the scale must return 1 parts: row 'regret-is-kl': got 3"),
    ],
)
def test_a_miscount_of_parts_is_refused(change: dict[str, Any], must: str) -> None:
    with pytest.raises(InputError, match=must):
        audit([replace(LEDGER["regret-is-kl"], **change)], worlds=0)


def test_a_number_is_that_side_of_the_clause_of_every_part() -> None:
    row = replace(
        LEDGER["regret-is-kl"],
        clauses=("J_x = E_p[r] - beta*KL(p, p_ref)", "V(x) = beta*log(Z)"),
        parts=("J", "V", "one"),
        sides={"left": (0, 0, "1"), "right": (1, 1, lambda: 1.0), "both": lambda J_x, value: (J_x, value, 1.0)},
        misses={"one": "J_x - 1", "two": Miss("log Z", part=1)},
    )
    assert max(map(max, row.errors(Scope(rational(), 0)).values())) <= 1
    two = replace(row, parts=("J", "V"), sides={"left": 0, "right": 1})
    assert max(map(max, two.errors(Scope(rational(), 0)).values())) <= 1


def test_a_true_row_without_scale_holds_and_a_false_one_does_not() -> None:
    """Where all terms are zero no rounding is allowed, and none is needed."""
    row = replace(LEDGER["regret-is-kl"], sampled=None, scale=lambda: 0.0)
    scope = Scope(rational(), 0)
    zero = {"zero": lambda P: np.zeros(P)}
    assert replace(row, sides={**zero, "also": lambda P: np.zeros(P)}).errors(scope) == {"also": [0.0]}
    assert replace(row, sides={**zero, "tiny": lambda P: np.full(P, 1e-300)}).errors(scope) == {"tiny": [np.inf]}


def test_slugs_are_chosen_once_and_misspellings_are_answered() -> None:
    assert [row.slug for row in select(["prompts", "borda", "prompts"])] == ["prompts", "borda"]
    for wrong, right in (("regert-is-kl", "regret-is-kl"), ("gibbs", "gibbs-optimum"), ("soft-belman", "soft-bellman")):
        with pytest.raises(InputError, match=f"got '{wrong}'; did you mean {right}"):
            select([wrong])
    with pytest.raises(InputError, match=r"got 'qqqq'; verify --list shows all"):
        select(["qqqq"])
    with pytest.raises(InputError, match="some slug must be of chapter 1: got regret-is-kl of chapter 4"):
        select(["regret-is-kl"], chapter=1)


def test_a_near_miss_of_another_shape_is_an_error_not_a_refutation() -> None:
    row = replace(LEDGER["regret-is-kl"], misses={"scalar": lambda beta: beta, "other": lambda value: value})
    with pytest.raises(InputError, match="shape of the truth"):
        refute(row, row.near_misses[0], [Scope(rational(), 0)])


@pytest.mark.parametrize("name", list(SYMBOLS))
def test_a_symbol_is_computed_without_nan_and_says_what_it_is(name: str) -> None:
    for world in (rational(), random_world(rng=np.random.default_rng(1), V=3, H=2, P=2, forbidden=0.3)):
        if np.isneginf(world.log_ref).any() and _needs_full_support(name):
            with pytest.raises(InputError, match="reference must allow"):
                print(Scope(world, 3)[name])
            continue
        value = Scope(world, 3)[name]
        shape = SYMBOLS[name].shape
        if isinstance(value, np.ndarray):
            assert not np.isnan(value).any()
            scope = Scope(world, 3)
            sizes = {
                **{letter: scope[letter] for letter in "PNSVG"},
                "n": scope["observed"],
                **dict(zip("BT", scope["mask"].shape, strict=True)),
            }
            sizes["S_H"] = sum(scope["V"] ** h for h in range(scope["H"]))  # states of a tree without EOS
            letters = shape.strip("(),").replace(",", " ").split() if shape.startswith("(") else []
            assert len(value.shape) == len(letters), name
            for letter, size in zip(letters, value.shape, strict=True):  # C: contexts of an n-gram
                assert letter == "C" or size == (int(letter) if letter.isdigit() else sizes[letter]), name
    assert SYMBOLS[name].meaning


def _needs_full_support(name: str) -> bool:
    """Whether a symbol is made from a fit that has no answer where the reference forbids a response."""
    return name in {"fit_tied", "fit_linear", "p_dpo", "p_dpo_linear", "p_rlhf"}


def test_draws_do_not_depend_on_the_order_of_asking() -> None:
    one, two = Scope(rational(), 4), Scope(rational(), 4)
    a = (one["logits"], one["phi"])
    b = (two["phi"], two["logits"])
    assert np.array_equal(a[0], b[1])
    assert np.array_equal(a[1], b[0])


def test_an_unknown_symbol_lists_the_known() -> None:
    with pytest.raises(InputError, match="tabular-rlhf symbols"):
        Scope(rational(), 0).call(lambda nonsense: nonsense)


def test_parameters_with_defaults_are_not_asked_for() -> None:
    assert parameters(lambda a, b, c=1: None) == ("a", "b")


def test_distance_owns_infinities() -> None:
    assert distance([-np.inf, 1.0], [-np.inf, 1.0]) == 0.0
    assert distance([np.inf], [-np.inf]) == np.inf
    assert distance([np.nan], [np.nan]) == np.inf
    assert distance([1.0], [1.0, 1.0]) == np.inf
    assert as_parts(3) == (3,)


def test_tiny_worlds_are_tiny_and_come_smallest_first() -> None:
    sizes = [w.mdp.P * w.mdp.N for w in tiny_worlds(0)]
    assert sizes == sorted(sizes)
    assert max(sizes) == 3


# ---------------------------------------------------------------------------------------------------- the command


def test_verify_prints_a_line_a_row_and_a_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "regret-is-kl", "tree-counts", "--worlds", "3"]) == 0
    out = capsys.readouterr().out
    assert "regret-is-kl" in out
    assert "8/8" in out
    assert "VERDICT: every equals sign holds." in out
    assert "float64" not in out


def test_verify_json_is_one_object_with_a_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--chapter", "1", "--worlds", "3", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["schema"] == "tabular-rlhf/verify/1"
    assert data["holds"]
    assert [row["slug"] for row in data["rows"]] == CHAPTERS[1].split()
    assert all(max(row["near_misses"].values()) <= 3 for row in data["rows"])


def test_verify_says_no_with_status_one(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    row = LEDGER["optimal-value"]
    monkeypatch.setitem(LEDGER, "optimal-value", replace(row, sides={**row.sides, "wrong": lambda mu, value: np.sum(mu * value) + 1.0}))
    assert main(["verify", "optimal-value", "--worlds", "2"]) == 1
    out = capsys.readouterr().out
    assert "FAILS" in out
    assert "wrong" in out
    assert "VERDICT: 1 of 1 fail: optimal-value." in out
    assert main(["verify", "optimal-value", "--worlds", "2", "--json"]) == 1
    data = json.loads(capsys.readouterr().out)
    assert (data["holds"], [row["holds"] for row in data["rows"]]) == (False, [False])
    assert data["rows"][0]["reasons"]


def test_verify_lists_and_explains(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--list"]) == 0
    assert set(LEDGER) <= set(capsys.readouterr().out.split())
    assert main(["verify", "gibbs-optimum", "--explain"]) == 0
    out = capsys.readouterr().out
    assert "0.631579" in out  # p*(a a) = 12/19 of the rational world
    assert f"{12 / 19:.6g}" == "0.631579"
    assert "beta squared" in out


@pytest.mark.parametrize("slug", list(LEDGER))
def test_every_row_can_be_explained(slug: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", slug, "--explain"]) == 0
    out = capsys.readouterr().out
    assert "NOT refuted" not in out
    assert "largest difference" in out
    assert "float64" not in out
    assert max(map(len, out.splitlines())) <= 120


def test_a_repeated_slug_is_run_once(capsys: pytest.CaptureFixture[str]) -> None:
    once, twice = (
        [main(["verify", *slugs, "--worlds", "3", "--json"]), json.loads(capsys.readouterr().out)["rows"]]
        for slugs in (["prompts"], ["prompts"] * 2)
    )
    assert [row["worlds"] for row in once[1]] == [row["worlds"] for row in twice[1]]


@pytest.mark.parametrize("words", [["verify", "no-such-row"], ["verify", "--chapter", "99"], ["verify", "--worlds", "-1"]])
def test_a_malformed_question_has_status_two(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("tabular-rlhf verify: ")


FALSE = {
    "lagrange-multiplier": (r"(1 - \log Z)", r"(1 + \log Z)"),
    "optimal-value": (r"\beta\, \mathbb{E}_{x \sim \mu}[\log Z(x)]", r"\mathbb{E}_{x \sim \mu}[\log Z(x)]"),
}
"""A side of a clause that no side of the row takes, or that one does, falsified in print."""


@pytest.mark.parametrize("slug", list(FALSE))
def test_a_row_that_prints_something_else_fails_wherever_it_is_run(slug: str) -> None:
    row, (said, false) = LEDGER[slug], FALSE[slug]
    clauses = tuple(clause.replace(said, false) for clause in row.clauses)
    assert clauses != row.clauses
    (verdict,) = audit([replace(row, clauses=clauses)], worlds=4, seed=1)
    assert not verdict.holds
    assert [p.tex for p in verdict.prints if p.agrees is False] == [c for c, r in zip(clauses, row.clauses, strict=True) if c != r]
