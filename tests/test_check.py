"""Laws of the checker: right answers pass however they are written, wrong ones are refuted small and named, nothing else is a verdict."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy import special

from tabular_rlhf.check import Report, check, fault, judge, tried
from tabular_rlhf.check.calling import Problem, as_value, watched
from tabular_rlhf.check.question import find, of_exercise, of_row, opened, questions
from tabular_rlhf.cli import main
from tabular_rlhf.derivations import DERIVATIONS
from tabular_rlhf.errors import InputError
from tabular_rlhf.exercises import EXERCISES
from tabular_rlhf.ledger import LEDGER, worlds
from tabular_rlhf.ledger.record import Approximately
from tabular_rlhf.logspace import kl

# ---------------------------------------------------------------------------------------------------- right answers

RIGHT: dict[str, list[Callable[..., Any]]] = {
    "regret-is-kl": [
        lambda value, J_x: value - J_x,
        lambda beta, log_p, log_p_star: beta * np.sum(np.exp(log_p) * np.where(log_p > -np.inf, log_p - log_p_star, 0.0), axis=1),
        lambda beta, p, p_star: beta * np.sum(p * np.log(np.where(p > 0, p, 1) / np.where(p > 0, p_star, 1)), axis=-1),
        lambda beta, p, p_star: beta * special.rel_entr(p, p_star).sum(axis=1),
        lambda beta, p, p_star: [
            beta * sum(a * math.log(a / b) for a, b in zip(*rows, strict=True) if a) for rows in zip(p, p_star, strict=True)
        ],
        lambda beta, p, r, L, log_Z: beta * log_Z - (p * (r - beta * L)).sum(1),
    ],
    "optimal-value": [
        lambda mu, log_Z, beta: beta * np.dot(mu, log_Z),
        lambda mu, p_ref, r, beta: sum(
            m * beta * math.log(sum(q * math.exp(x / beta) for q, x in zip(a, b, strict=True)))
            for m, a, b in zip(mu, p_ref, r, strict=True)
        ),
        lambda mu, log_p_ref, r, beta: np.average(beta * special.logsumexp(log_p_ref + r / beta, axis=1), weights=mu),
    ],
    "gibbs-optimum": [
        lambda log_p_ref, r, beta: special.softmax(log_p_ref + r / beta, axis=1),
        lambda p_ref, r, beta: (p_ref * np.exp(r / beta)) / (p_ref * np.exp(r / beta)).sum(axis=1)[:, None],
        lambda p_ref, r, beta: np.array(
            [(a * np.exp((b - max(b)) / beta)) / sum(a * np.exp((b - max(b)) / beta)) for a, b in zip(p_ref, r, strict=True)]
        ),
    ],
    "bradley-terry": [
        lambda r: special.expit(r[:, :, None] - r[:, None, :]),
        lambda r: np.exp(r)[:, :, None] / (np.exp(r)[:, :, None] + np.exp(r)[:, None, :]),
        lambda gaps: 1 / (1 + np.exp(-gaps)),
        lambda gaps: (1 + np.tanh(gaps / 2)) / 2,
    ],
    "bt-consistency": [lambda r: r, lambda r: r + 3, lambda r: (r - r.mean(1)[:, None]).tolist()],
    "kl-chain-rule": [
        lambda KL: KL,
        lambda d_pi, pi, L_s: np.einsum("ps,psv->p", d_pi, pi * L_s),
    ],
}


@pytest.mark.parametrize("slug", list(RIGHT))
def test_right_answers_pass_however_they_are_written(slug: str) -> None:
    for answer in RIGHT[slug]:
        report = check(slug, answer)
        assert report.ok, report
        assert report
        assert report.worlds > 90
        assert report.ruled_out


@pytest.mark.parametrize("slug", list(LEDGER))
def test_every_side_of_every_row_is_a_right_answer(slug: str) -> None:
    row = LEDGER[slug]
    questions = [of_row(row, k) for k in range(len(row.parts))]
    for turn, side in enumerate(s for s in row.sides.values() if not isinstance(s, Approximately)):
        for scope in tried(questions[0])[turn % 3 :: 3]:  # another third of the worlds for each
            value = watched(side, scope)
            parts = (value,) if len(questions) == 1 else tuple(value)
            assert [fault(q, side, v, scope) for q, v in zip(questions, parts, strict=True)] == [None] * len(parts), (side, scope.world)


def test_no_right_answer_is_rejected_over_many_cases() -> None:
    """A case is one answer on one world: other worlds than usual, from other seeds."""
    cases = 0
    for slug, answers in RIGHT.items():
        question = find(slug)[0]
        for seed, answer in product(range(1, 3), answers):
            for scope in (*worlds.tiny(seed), *worlds.generic(seed)):
                if question.applies(scope):
                    value = watched(answer, scope)
                    assert not isinstance(value, Problem), (slug, value)
                    assert not question.wrong(value, scope, answer), (slug, scope.world, value)
                    cases += 1
    assert cases > 10_000


def test_an_answer_may_be_a_function_a_list_an_integer_or_all_parts() -> None:
    assert check("regret-is-kl", lambda beta: lambda log_p, log_p_star: beta * kl(log_p, log_p_star)).ok
    assert check("zero-mean-score", lambda logits: np.zeros(logits.shape, dtype=int)).ok
    row = LEDGER["gibbs-optimum"]
    everything = next(iter(row.sides.values()))
    report = check("gibbs-optimum", everything)
    assert report.ok
    assert report.part == "all parts"
    wrong_part = check(
        "gibbs-optimum", lambda log_p_ref, r, beta, logits, J: (special.softmax(log_p_ref + r / beta, axis=1), np.zeros_like(logits), J)
    )
    assert (wrong_part.ok, wrong_part.part) == (False, "max J")
    assert check(
        "gibbs-optimum",
        lambda log_p_star, log_p_ref, r, beta, mu: float(mu @ (beta * special.logsumexp(log_p_ref + r / beta, axis=1))),
        part="max J",
    ).ok


def test_a_value_may_stand_for_itself() -> None:
    assert check("kl-gradients", np.zeros((1, 1, 1)), part="E[grad k1]").status == "shape"  # right on one world, but not a formula
    assert not check("regret-is-kl", 0.0).ok


# ---------------------------------------------------------------------------------------------------- wrong answers


@pytest.mark.parametrize("slug", list(LEDGER))
def test_every_near_miss_is_refuted_on_a_small_world_and_named(slug: str) -> None:
    row = LEDGER[slug]
    tally = []
    for k in range(len(row.parts)):
        question = of_row(row, k)
        for words, wrong in question.misses:
            if row.free.get(row.parts[k]) and words == "r itself, with its shift":
                continue  # a miss only of the centered form: the claim leaves the shift free
            report = judge(question, wrong)
            assert report.status == "wrong", (words, report)
            assert report.counterexample is not None
            assert report.counterexample.responses <= 3, (words, report)
            tally.append(report.diagnosis == words)
    assert sum(tally) >= 0.8 * len(tally)


SLIPS: dict[str, Callable[[Any, float], Any]] = {
    "sign flipped": lambda v, beta: -v,
    "beta dropped": lambda v, beta: v / beta,
    "beta too many": lambda v, beta: v * beta,
    "1/beta for beta": lambda v, beta: v / beta**2,
    "log base 2": lambda v, beta: v / np.log(2.0),
    "factor 2": lambda v, beta: 2.0 * v,
    "squared": lambda v, beta: v * v,
    "plus": lambda v, beta: v + 0.25,
}
SCALED = {
    "regret-is-kl": lambda beta, log_p, log_p_star: beta * kl(log_p, log_p_star),
    "optimal-value": lambda mu, value, beta: np.sum(mu * value),
    "lagrange-multiplier": lambda value, beta: beta - value,
    "kl-chain-rule": lambda KL, beta: KL,
    "donsker-varadhan": lambda log_p_ref, f, beta: special.logsumexp(log_p_ref + f, axis=1),
}


@pytest.mark.parametrize(("slug", "slip"), list(product(SCALED, SLIPS)))
def test_slips_that_no_list_of_the_row_holds_are_named(slug: str, slip: str) -> None:
    import inspect

    right, slips = SCALED[slug], SLIPS[slip]

    def wrong(*args: Any) -> Any:
        return slips(right(*args), dict(zip(names, args, strict=True))["beta"])

    names = list(inspect.signature(right).parameters)
    wrong.__signature__ = inspect.signature(right)  # type: ignore[attr-defined]
    report = check(slug, wrong)
    assert report.status == "wrong"
    assert report.diagnosis is not None
    known = [words for words, _ in find(slug)[0].misses]
    assert slip in report.diagnosis or report.diagnosis in known, report.diagnosis
    assert report.compared >= 5


MENDS: list[tuple[str, Callable[..., Any], str]] = [
    ("kl-chain-rule", lambda d_ref, KL_s: np.sum(d_ref * KL_s, axis=1), "d_ref for d_pi|write d_pi where you write d_ref"),
    ("regret-is-kl", lambda beta, log_p, log_p_star: beta * kl(log_p_star, log_p), "forward for reverse KL|arguments of KL swapped"),
    ("regret-is-kl", lambda beta, log_p, log_p_star: kl(log_p, log_p_star) / beta, "1/beta for beta"),
    ("optimal-value", lambda P, value: np.sum(value) / P, "averaged over prompts evenly|mu"),
    ("gibbs-optimum", lambda log_p_ref, r, beta: special.softmax(r / beta + 0 * log_p_ref, axis=1), "p_ref omitted"),
    ("gibbs-optimum", lambda log_p_ref, r, beta: special.softmax(log_p_ref + beta * r, axis=1), "beta for 1/beta"),
    ("gibbs-optimum", lambda log_p_ref, r, beta: log_p_ref + r / beta, "log_Z"),
    ("gibbs-optimum", lambda log_p_ref, r, beta: special.log_softmax(log_p_ref + r / beta, axis=1), "logarithm"),
    ("bradley-terry", lambda gaps: special.expit(-gaps), "swapped"),
    ("bradley-terry", lambda gaps: special.expit(2 * gaps), "doubled|halved|a factor 2 too many"),
]


@pytest.mark.parametrize(("slug", "wrong", "words"), MENDS)
def test_mistakes_in_one_symbol_are_named(slug: str, wrong: Callable[..., Any], words: str) -> None:
    report = check(slug, wrong)
    assert report.status == "wrong"
    assert report.diagnosis is not None
    assert any(word in report.diagnosis for word in words.split("|")), report.diagnosis


def test_a_line_of_a_derivation_is_judged_by_its_neighbors() -> None:
    assert check("regret-is-kl/6", lambda value: value + 1.0).ok  # a looser bound is a bound
    assert not check("regret-is-kl/6", lambda value: value - 10.0).ok
    assert check("regret-is-kl/2", lambda E_r, beta, KL: E_r - beta * KL).ok
    report = check("regret-is-kl/2", lambda E_r, beta, KL: E_r + beta * KL)
    assert (report.status, report.diagnosis) == ("wrong", "sign of beta*log(p/p_ref) flipped")


# ---------------------------------------------------------------------------------------------------- what is no verdict


def changes_its_argument(p: Any, value: Any, J_x: Any) -> Any:
    p *= 2.0
    return value - J_x


def calls_itself(value: Any) -> Any:
    return calls_itself(value)


PROBLEMS: list[tuple[Any, str, str]] = [
    (lambda value: None, "unanswered", "nothing yet"),
    (lambda value: ..., "unanswered", "nothing yet"),
    (lambda value: 1 / 0, "raises", "ZeroDivisionError"),
    (lambda value: value[17], "raises", "IndexError"),
    (calls_itself, "raises", "RecursionError"),
    (lambda value: value * np.nan, "nan", "nan"),
    (lambda value: np.sum(value), "shape", "is expected"),
    (lambda value: "0.5", "shape", "a str"),
    (lambda value: {"a": 1}, "shape", "a dict"),
    (lambda value: value + 1j, "shape", "an array of complex128"),
    (lambda value: [[1.0], [1.0, 2.0]], "shape", "list"),
    (changes_its_argument, "mutates", "its argument p"),
    (lambda value: value * np.random.default_rng().random(), "random", "different values"),
    (lambda valeu: valeu, "names", "value"),
    (lambda *args: 0.0, "shape", "(1,)"),
]


@pytest.mark.parametrize(("answer", "status", "told"), PROBLEMS)
def test_whatever_a_function_does_becomes_a_plain_report(answer: Any, status: str, told: str) -> None:
    report = check("regret-is-kl", answer)
    assert (report.ok, report.status) == (False, status)
    assert told in str(report)
    assert json.loads(json.dumps(report.json()))["status"] == status
    with pytest.raises(AssertionError, match="regret-is-kl"):
        report.require()


def test_prints_and_warnings_of_the_answer_are_kept_out(capsys: pytest.CaptureFixture[str]) -> None:
    def loud(value: Any, J_x: Any) -> Any:
        print("hello")
        return (value - J_x) + 0.0 * np.log(np.zeros(1) + (value == value))

    assert check("regret-is-kl", loud).ok
    assert capsys.readouterr().out == ""


CARELESS: dict[str, list[Callable[..., Any]]] = {
    "regret-is-kl": [
        lambda beta, log_p, log_p_star: beta * np.sum(np.exp(log_p) * (log_p - log_p_star), axis=1),
        lambda beta, p, p_star: beta * np.sum(p * np.log(p / p_star), axis=-1),
        lambda beta, p, p_star: [
            beta * sum(a * math.log(a / b) for a, b in zip(*rows, strict=True)) for rows in zip(p, p_star, strict=True)
        ],
    ],
    "kl-chain-rule": [lambda d_pi, pi, log_pi, log_pi_ref: np.einsum("ps,psv->p", d_pi, pi * (log_pi - log_pi_ref))],
    "acceptance": [lambda log_Z, r, beta: np.exp(log_Z - r.max(1) / beta)],
    "exploration": [lambda p_ref, r: 1.0 / np.sum(p_ref * (r == r.max(1, keepdims=True)), axis=1)],
}


@pytest.mark.parametrize("slug", list(CARELESS))
def test_an_answer_that_minds_no_zeros_is_wrong_where_the_claim_holds_for_them(slug: str) -> None:
    for answer in CARELESS[slug]:
        report = check(slug, answer, **({"part": 0} if slug == "exploration" else {}))
        assert report.status in ("wrong", "nan", "raises"), report
        assert report.counterexample is not None
        assert report.counterexample.responses <= 3, report
        assert any(row["p_ref"] == 0 for row in report.counterexample.world["responses"])
        assert "0 log 0" in report.notes[-1]
        # it is right where no token is forbidden: no mistake shows there, and none may be named
        assert not (report.diagnosis or "").endswith("(where the reference forbids no token)"), report.diagnosis


def test_zeros_are_not_asked_for_where_the_statement_excludes_them() -> None:
    assert check("regret", lambda beta, log_p, log_p_star: beta * np.sum(np.exp(log_p) * (log_p - log_p_star), axis=1)).notes == ()
    assert check("regret-is-kl", lambda beta, log_p, log_p_star: beta * kl(log_p, log_p_star)).notes == ()


def test_a_default_is_not_supplied_and_the_report_says_so() -> None:
    report = check("regret-is-kl", lambda value, J_x, beta=1.0: value - J_x)
    assert report.ok
    assert "beta has a default" in report.notes[-1]


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match="regret-is-kl"):
        check("regret-is-k", lambda value: value)
    with pytest.raises(InputError, match="max J"):
        check("gibbs-optimum", lambda r: r, part="max")
    assert set(LEDGER) <= set(questions())
    assert all(f"{slug}/1" in set(questions()) for slug in DERIVATIONS)


# ---------------------------------------------------------------------------------------------------- the report


def wrong_regret(log_p: Any, log_p_star: Any) -> Any:
    return kl(log_p, log_p_star)


def test_the_same_answer_gets_the_same_report() -> None:
    assert check("regret-is-kl", wrong_regret).json() == check("regret-is-kl", wrong_regret).json()


def test_the_report_shows_yours_beside_the_exact_value() -> None:
    report = check("regret-is-kl", wrong_regret)
    c = report.counterexample
    assert c is not None
    p, q = (np.exp([v for _, v in c.symbols[name]]) for name in ("log_p", "log_p_star"))
    by_hand = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    assert c.yours is not None
    assert c.yours[0] == pytest.approx(by_hand, rel=1e-12)
    assert c.exact[0] == pytest.approx(c.world["beta"] * by_hand, rel=1e-12)
    text, page = str(report), report._repr_html_()
    assert f"{c.yours[0]:.6g}" in text
    assert f"{c.exact[0]:.6g}" in text
    assert "beta dropped" in text
    assert "beta dropped" in page
    assert "float64" not in text + page
    assert max(map(len, text.splitlines())) <= 120


def test_the_counterexample_has_simple_numbers() -> None:
    """Hypothesis shrinks: not asserted number by number (that varies between its versions), but halves and small weights."""
    c = check("regret-is-kl", wrong_regret).counterexample
    assert c is not None
    assert all(float(2 * row["r"]).is_integer() for row in c.world["responses"])
    assert c.world["beta"] in (0.25, 0.5, 1.0, 2.0)
    assert c.responses == 2


def test_what_is_free_is_free() -> None:
    assert opened([[1.0, 3.0], [5.0, 5.0]], "constant per prompt").tolist() == [[-1.0, 1.0], [0.0, 0.0]]
    assert opened([[1.0, -np.inf]], "constant per prompt").tolist() == [[0.0, -np.inf]]
    assert opened([2.0, -4.0], "positive factor").tolist() == [0.5, -1.0]
    assert opened([2.0, 4.0], "").tolist() == [2.0, 4.0]


def test_values_of_every_kind() -> None:
    assert isinstance(as_value(3), np.ndarray)
    assert isinstance(as_value((1.0, 2.0)), np.ndarray)
    assert isinstance(as_value((np.ones(2), np.ones(3))), tuple)
    assert isinstance(as_value(object()), Problem)
    assert as_value(True).item() == 1.0


def test_dear_questions_are_tried_on_a_spread_of_worlds() -> None:
    assert 4 <= len(tried(find("all-roads")[0])) <= 60
    assert len(tried(find("regret-is-kl")[0])) > 250


# ---------------------------------------------------------------------------------------------------- the command


def test_the_command(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.py"
    file.write_text("import numpy as np\ndef good(value, J_x):\n    return value - J_x\ndef bad(KL):\n    return KL\nx = 3\n")
    assert main(["check", "regret-is-kl", f"{file}:good"]) == 0
    assert capsys.readouterr().out.startswith("✓ regret-is-kl, for each prompt: right")
    assert main(["check", "regret-is-kl", f"{file}:bad", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["status"] == "wrong"
    for where in (f"{file}:none", f"{file}:x", "nowhere:f", f"{tmp_path}/no.py:f", "good"):
        assert main(["check", "regret-is-kl", where]) == 2
        assert "check" in capsys.readouterr().err
    file.write_text("raise ValueError('no')\n")
    assert main(["check", "regret-is-kl", f"{file}:good"]) == 2
    assert "ValueError: no" in capsys.readouterr().err
    assert isinstance(check("regret-is-kl", lambda value: None), Report)


@pytest.mark.parametrize(
    ("slug", "formula", "status", "named"),
    [
        ("regret", r"\beta\, D_{KL}(p \| p^*)", "right", None),
        ("regret", "KL(p, p_star)", "wrong", "beta dropped"),
        ("regret", "beta*KL(p_star, p)", "wrong", "forward for reverse KL"),
        ("best-value", "beta*log Z", "names", None),
        ("best-value", "beta*log(sum_tau p_ref*exp(-r/beta))", "wrong", "sign of the exponent flipped"),
        ("regret", "beta*KL(p, q", "raises", None),
        ("regret-is-kl", "V(x) - J_x", "right", None),
        ("gibbs-optimum/11", "p_ref*exp(r/beta)", "wrong", "Z dropped"),
    ],
)
def test_a_formula_is_an_answer(slug: str, formula: str, status: str, named: str | None) -> None:
    report = check(slug, formula)
    assert report.status == status, str(report)
    assert named is None or named in str(report.diagnosis), str(report)


def test_a_right_answer_rules_out_what_it_is_seen_to_differ_from() -> None:
    """Not a mistake that is none, nor one that cannot be read or run."""
    wrong = {"none": "beta*KL(p, p_star)", "unread": "Foo", "not run": lambda beta: beta["no"], "forward": "beta*KL(p_star, p)"}
    question = of_exercise(replace(EXERCISES["regret"], misses=wrong))
    assert judge(question, lambda value, J_x: value - J_x).ruled_out == ("forward",)
