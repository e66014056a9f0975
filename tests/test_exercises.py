"""Laws of every exercise: its reference passes, its wrong answers are refuted small and named, and it can be read."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from tabular_rlhf import tex
from tabular_rlhf.check import check, find, judge
from tabular_rlhf.check.calling import Overlaid
from tabular_rlhf.cli import main
from tabular_rlhf.errors import InputError
from tabular_rlhf.exercises import EXERCISES, Exercise, add
from tabular_rlhf.formula.printed import Printed
from tabular_rlhf.formula.reading import Clause
from tabular_rlhf.formula.slips import slips
from tabular_rlhf.formula.tree import Node, walk
from tabular_rlhf.gibbs import solve
from tabular_rlhf.ledger import worlds
from tabular_rlhf.logspace import kl
from tabular_rlhf.symbols import SYMBOLS, is_formula, parameters

NOTEBOOKS = [f"{n:02d}" for n in range(1, 13)]


def test_the_course_has_three_exercises_a_notebook_or_more() -> None:
    per = Counter(e.notebook for e in EXERCISES.values())
    assert len(EXERCISES) >= 36
    assert set(per) - {""} == set(NOTEBOOKS)
    assert all(per[n] >= 3 for n in NOTEBOOKS), per
    assert {e.chapter for e in EXERCISES.values()} == set(range(1, 11))


@pytest.mark.parametrize("slug", list(EXERCISES))
def test_the_reference_passes_and_every_wrong_answer_is_refuted_and_named(slug: str) -> None:
    exercise = EXERCISES[slug]
    report = check(slug, exercise.answer)
    assert report.ok, report
    assert report.worlds >= 20
    for words, wrong in exercise.misses.items():
        found = judge(find(slug)[0], wrong)  # a wrong answer may use what an answer may not
        assert found.status == "wrong", (words, found)
        assert found.diagnosis == words, (words, found.diagnosis)
        assert found.counterexample is not None
        assert found.counterexample.responses <= 3, (words, found)


@pytest.mark.parametrize("slug", list(EXERCISES))
def test_an_exercise_reads_well(slug: str) -> None:
    e = EXERCISES[slug]
    for text in (e.statement, e.hint):
        shown = tex.prose(text)
        assert "$" not in shown
        assert "\\" not in shown
        assert text.rstrip().endswith((".", "?", ")", ":"))
    assert tex.plain(r"\beta") == "β"
    assert e.signature.startswith(f"def {e.name}(")
    assert all(name in SYMBOLS or name == "world" for name in (*parameters(e.answer), *e.without))
    assert not set(parameters(e.answer)) & set(e.without)
    assert 1 <= e.minutes <= 60


@pytest.mark.parametrize("slug", list(EXERCISES))
def test_no_symbol_alone_is_the_answer(slug: str) -> None:
    """What would give an answer away is refused: no name that is supplied is itself right on every world."""
    question, e = find(slug)[0], EXERCISES[slug]
    scopes = [s for s in (*worlds.generic()[:6], *worlds.tiny()[200:]) if question.applies(s)][:6]
    cheap = [n for n, s in SYMBOLS.items() if s.level != "tool" and not n.startswith(("p_dpo", "p_rlhf")) and n not in e.without]
    left = [n for n in cheap if all(np.shape(s[n]) == np.shape(question.truth(s)) for s in scopes[:1])]
    for name in left:
        assert any(np.shape(s[name]) != np.shape(question.truth(s)) or question.wrong(s[name], s, lambda: None) for s in scopes), name


def test_an_answer_that_asks_for_what_is_asked_is_refused() -> None:
    report = check("gibbs-probabilities", lambda p_star: p_star)
    assert report.status == "names"
    assert "give the answer away" in report.told
    assert check("gibbs-probabilities", lambda world: solve(world).p).status == "names"  # a world can be solved


def test_records_that_make_no_sense_are_refused() -> None:
    e = EXERCISES["regret"]
    fields = {k: getattr(e, k) for k in e.__dataclass_fields__}
    for change, must in (
        ({"misses": dict(list(e.misses.items())[:2])}, "at least three"),
        ({"slug": "No Good"}, "words joined by -"),
        ({"rows": ("no-such",)}, "in the ledger"),
        ({"free": "everything"}, "must be one of"),
        ({"forbidden": "perhaps"}, "must be one of allowed, refused"),
        ({"hint": ""}, "title, statement, hint"),
        ({"answer": lambda valeu: valeu}, "names of symbols"),
    ):
        with pytest.raises(InputError, match=must):
            Exercise(**(fields | change))
    with pytest.raises(InputError, match="name of its own"):
        add(e)


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["exercises"]) == 0
    out = capsys.readouterr().out
    assert all(slug in out for slug in EXERCISES)
    assert main(["exercises", "regret", "--hint"]) == 0
    out = capsys.readouterr().out
    assert "def regret(beta, log_p, log_p_star):" in out
    assert "Hint:" in out
    assert main(["exercises", "--chapter", "4", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["exercises"]
    assert {e["chapter"] for e in found} == {4}
    assert all("answer" not in e for e in found)
    assert main(["exercises", "regrett"]) == 2
    assert "did you mean regret" in capsys.readouterr().err
    assert main(["exercises", "--chapter", "99"]) == 2
    assert "some exercise must fit" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------------- formulas


def test_an_answer_is_a_formula_a_side_of_its_row_several_of_them_or_a_function() -> None:
    e = EXERCISES["regret"]
    scope = worlds.generic()[1]
    right = scope.call(EXERCISES["regret"].answer)
    fields = {k: getattr(e, k) for k in e.__dataclass_fields__}
    for answer in (1, Clause(1, 1), r"\beta\, \mathrm{KL}(p, p^*)", lambda beta, log_p, log_p_star: beta * kl(log_p, log_p_star)):
        np.testing.assert_allclose(scope.call(Exercise(**(fields | {"answer": answer})).answer), right, rtol=1e-9)
    others = {words: wrong for words, wrong in e.misses.items() if words != "beta dropped"}
    both = Exercise(
        **(fields | {"answer": ("V(x) - J_x", r"\beta\, \mathrm{KL}(p, p^*)"), "slips": {1: ("beta dropped",)}, "misses": others})
    )
    np.testing.assert_allclose(scope.call(both.answer), np.stack([right, right]), rtol=1e-9)
    np.testing.assert_allclose(scope.call(both.misses["beta dropped"]), np.stack([right, right / scope["beta"]]), rtol=1e-9)
    with pytest.raises(InputError, match="name of its own"):
        Exercise(**(fields | {"answer": 1, "slips": ("beta dropped",), "misses": {**e.misses, "beta dropped": "KL(p, p_star)"}}))


def test_most_answers_and_mistakes_are_read() -> None:
    answers = [is_formula(e.answer) for e in EXERCISES.values()]
    misses = [is_formula(wrong) for e in EXERCISES.values() for wrong in e.misses.values()]
    assert sum(answers) > 0.8 * len(answers)
    assert sum(misses) > 0.8 * len(misses)


def test_no_slip_rewrites_what_a_definition_is_of() -> None:
    """f(z) = z - 1 holds for every z: f(2 z) = z - 1 is no mistake that anybody makes, and means nothing."""

    def arguments(tree: Node) -> list[tuple[Node, ...]]:
        return [node.kids[1:] for _, node in walk(tree) if node.op == "let" and node.kids[1:]]

    trees = [e.answer.side.tree for e in EXERCISES.values() if isinstance(e.answer, Printed)]
    defined = [tree for tree in trees if arguments(tree)]
    assert len(defined) >= 4
    for tree in defined:
        assert all(arguments(slip.tree) == arguments(tree) for slip in slips(tree))


@pytest.mark.parametrize(("name", "law"), [("log_p", "p"), ("p", "log_p"), ("log_pi_ref", "pi_ref")])
def test_a_law_and_its_logarithm_are_changed_together(name: str, law: str) -> None:
    scope = worlds.generic()[1]
    seen = Overlaid(scope, {name: scope["log_p_ref" if name == "log_p" else "p_ref" if name == "p" else "log_pi_2"]})
    a, b = (np.exp(seen[name]), seen[law]) if name.startswith("log_") else (np.log(seen[name]), seen[law])
    np.testing.assert_allclose(a, b, rtol=1e-12)
    assert seen["r"] is scope["r"]
