"""The course pack: other writings are taken, conventions are free, padding means nothing, and a sheet goes through the grader."""

from __future__ import annotations

import base64
import importlib
import pkgutil
import re
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest

from tabular_rlhf import exercises
from tabular_rlhf.check import check, judge
from tabular_rlhf.check.question import find, of_exercise
from tabular_rlhf.check.trial import tried
from tabular_rlhf.cli import main
from tabular_rlhf.errors import InputError
from tabular_rlhf.exercises import EXERCISES, PROOFS
from tabular_rlhf.exercises.courses import COURSES, Course
from tabular_rlhf.formula import Formula
from tabular_rlhf.formula.printed import printed
from tabular_rlhf.gibbs import solve
from tabular_rlhf.grading.classroom import Terms, mark
from tabular_rlhf.grading.sheet import Item, read_sheet
from tabular_rlhf.grading.submission import Submission, of
from tabular_rlhf.symbols import SYMBOLS, Scope, is_formula, parameters
from tabular_rlhf.world import World
from tabular_rlhf.worldfile import parse_world
from tests.overlaid import by_name

SOLUTIONS = Path(__file__).parent.parent / "notebooks" / "solutions" / "course.py"
WRITTEN = runpy.run_path(str(SOLUTIONS))
OF_COURSES = [slug for slug, e in EXERCISES.items() if not e.notebook and e.name in WRITTEN]
MASKED = [slug for slug in OF_COURSES if "mask" in parameters(EXERCISES[slug].answer)]
FORMULAS = {
    "group-normalized": ("(rewards - mean(rewards))/(std(rewards) + small)", r"\frac{rewards - mean(rewards)}{std(rewards) + small}"),
    "entropy-bonus-slope": ("-pi*(log_pi - E_pi[log_pi])", r"-\pi (\log \pi - E_\pi[\log \pi])"),
    "kl-to-second-order": ("Var_{pi}[direction]/2",),
    "token-mean": (
        "(sum_{row,place} mask*token_losses)/(sum_{row,place} mask)",
        r"\frac{\sum_{row}\sum_{place} mask \cdot token_losses}{\sum_{row} \sum_{place} mask}",
    ),
    "sequence-mean": ("(sum_row (sum_place mask*token_losses)/(sum_place mask))/(sum_row 1)",),
    "value-at-large-beta": ("E_{p_ref}[r] + Var_{p_ref}[r]/(2 beta)",),
}


@pytest.mark.parametrize("slug", OF_COURSES)
def test_a_student_s_own_writing_is_right(slug: str) -> None:
    report = check(slug, WRITTEN[EXERCISES[slug].name])
    assert report.ok, report


@pytest.mark.parametrize(("slug", "text"), [(slug, text) for slug, texts in FORMULAS.items() for text in texts])
def test_a_formula_as_it_is_printed_is_right(slug: str, text: str) -> None:
    report = check(slug, text)
    assert report.ok, report


def test_a_masked_loss_is_written_as_it_is_printed() -> None:
    clipped = r"\min(\rho A, \text{clip}(\rho, 1 - c, 1 + c) A)"
    text = rf"-\frac{{\sum_{{row, place}} mask \cdot {clipped}}}{{\sum_{{row, place}} mask}} \text{{ where }} \rho = \exp(logp - logp_old)"
    letters = {"A": "advantages", "c": "clip"}
    assert check("clipped-token-loss", printed(text, letters)).ok
    assert check("clipped-token-loss", printed(text.replace("min", "max"), letters)).diagnosis == "max for min: the sign taken inside"
    for wrong, must in (("E_{place ~ p}[mask]", "no law draws them"), ("E_row[mask]", "no law draws them"), ("sum_place r", "no place")):
        with pytest.raises(InputError, match=must):
            _ = Formula(wrong).axes


@pytest.mark.parametrize("slug", MASKED)
def test_no_answer_depends_on_what_stands_at_padding(slug: str) -> None:
    """Other numbers behind the mask change nothing, and are told apart by a wrong answer somewhere."""
    answer = EXERCISES[slug].answer
    padded = 0
    for scope in tried(find(slug)[0])[::5]:
        tables = {n: scope[n] for n in parameters(answer) if SYMBOLS[n].shape == "(B, T)" and n != "mask"}
        other = {n: np.where(scope["mask"] > 0, table, table - 0.5) for n, table in tables.items()}
        given = {n: other.get(n, scope[n]) for n in parameters(answer)}
        np.testing.assert_allclose(by_name(answer)(**given), scope.call(answer), rtol=1e-12, atol=1e-12)
        padded += int(np.any(scope["mask"] == 0))
    assert padded > 3


@pytest.mark.parametrize(("slug", "words"), [(e.slug, words) for e in EXERCISES.values() for words in e.also])
def test_another_convention_is_right_and_told_so_and_must_be_kept_everywhere(slug: str, words: str) -> None:
    e = EXERCISES[slug]
    report = check(slug, e.also[words])
    assert report.ok
    assert f"its convention: {words}" in report.notes
    assert judge(replace(find(slug)[0], others=()), e.also[words]).status == "wrong"  # it is another answer

    def torn(rewards: object, small: float) -> object:
        table = np.asarray(rewards)
        kept = e.answer if np.shape(table)[1] > 2 else e.also[words]
        return by_name(kept)(rewards=table, small=small, G=np.shape(table)[1])

    assert check(slug, torn).status == "wrong"


def test_every_exercise_without_a_notebook_is_of_a_course() -> None:
    assert set(OF_COURSES) <= {slug for course in COURSES.values() for slug in course.exercises}
    with pytest.raises(InputError, match="made of exercises"):
        Course("mine", "Mine", {"One": ("no-such",)})
    with pytest.raises(InputError, match="set an exercise once"):
        Course("mine", "Mine", {"One": ("regret",), "Two": ("regret",)})


@pytest.mark.parametrize("name", list(COURSES))
def test_a_course_s_sheet_names_what_is_graded_and_can_be_filled_in(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["exercises", "--course", name]) == 0
    text = capsys.readouterr().out
    sheet = tmp_path / "sheet.py"
    sheet.write_text(text)
    course = COURSES[name]
    assert read_sheet(sheet).items == dict.fromkeys(course.exercises, Item(1.0))
    filled = runpy.run_path(str(sheet))
    assert all(EXERCISES[slug].name in filled for slug in course.exercises)
    assert all(f"# {heading}" in text for heading in course.problems)


CHAINS = dict(zip(COURSES, ("prove-score-mean", "prove-k3", "prove-regret", "prove-regret"), strict=True))
"""A derivation asked for beside each course's problems."""


def typed_out(answer: Any, asked: tuple[str, ...], away: frozenset[str]) -> Any:
    """A formula as a function of symbols by name, as a student would write it."""
    if not is_formula(answer):
        return answer
    names = [n for n in dict.fromkeys((*parameters(answer), *asked, "mdp", "log_pi_ref", "r", "beta", "log_pi")) if n not in away]
    keywords = ", ".join(f"{n}={n}" for n in names)
    return eval(f"lambda {', '.join(names)}: answer(on({keywords}))", {"answer": answer, "on": on})


def on(**symbols: Any) -> Scope:
    """A scope of which these are known, and what follows from them."""
    world = World(symbols["mdp"], symbols["log_pi_ref"], symbols["r"], symbols["beta"])
    scope = Scope(world, 0)
    scope._known = {"world": world, **symbols}
    return scope


def handed_in(answers: dict[str, Any], chain: str, text: str) -> Submission:
    """A student's file that holds these functions by value, since a file may not import the exercises, and the text of a derivation."""
    modules = [f"{exercises.__name__}.{module.name}" for module in pkgutil.iter_modules(exercises.__path__)]
    for name in (__name__, *modules):
        cloudpickle.register_pickle_by_value(importlib.import_module(name))
    held = {
        EXERCISES[slug].name: base64.b64encode(
            cloudpickle.dumps(typed_out(f, EXERCISES[slug].suggested, of_exercise(EXERCISES[slug]).away))
        ).decode()
        for slug, f in answers.items()
    }
    lines = [f"{name} = pickle.loads(base64.b64decode('{blob}'))" for name, blob in held.items()]
    return of("hw.py", "\n".join(["import base64, pickle", *lines, f"{chain.replace('-', '_')} = lambda: {text!r}"]).encode())


@pytest.mark.parametrize("name", list(COURSES))
def test_a_course_is_graded_end_to_end(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its answers are right; published slips are named, another of each exercise; a chain that breaks at its end has its share."""
    chain, slugs = CHAINS[name], COURSES[name].exercises
    assert main(["exercises", "--course", name]) == 0
    more = (
        f"from tabular_rlhf.grading.sheet import Item\nPOINTS = {{s: Item(2, form=0.5) for s in POINTS}} | {{{chain!r}: Item(4, form=1)}}\n"
    )
    (tmp_path / "sheet.py").write_text(capsys.readouterr().out + "\n" + more)
    sheet = read_sheet(tmp_path / "sheet.py")
    right = handed_in({slug: EXERCISES[slug].answer for slug in slugs}, chain, PROOFS[chain].solution)
    assert mark(right, sheet, Terms()).points == sheet.whole == 2 * len(slugs) + 4
    slips = {}
    for k, slug in enumerate(slugs):
        said = [words for words, wrong in EXERCISES[slug].misses.items() if not set(parameters(wrong)) & set(EXERCISES[slug].without)]
        slips[slug] = said[k % len(said)]
    broken = PROOFS[chain].solution.rstrip() + " + 1"
    found = mark(handed_in({slug: EXERCISES[slug].misses[words] for slug, words in slips.items()}, chain, broken), sheet, Terms())
    *marks, last = found.marks
    assert {m.slug: m.report.diagnosis for m in marks} == slips
    assert [m.points for m in marks] == [0.5] * len(slugs)
    steps = broken.count("\n =")
    assert last.points == pytest.approx(1 + 3 * (steps - 1) / steps)


def test_a_sheet_filled_in_is_graded_and_a_course_misspelled_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet, mine = tmp_path / "sheet.py", tmp_path / "mine.py"
    assert main(["exercises", "--course", "trainer", "--chapter", "7"]) == 0
    sheet.write_text(capsys.readouterr().out.replace('    "token-mean": 1.0,', '    "token-mean": 3.0,'))
    mine.write_text(SOLUTIONS.read_text())
    assert main(["grade", str(mine), "--exercises", str(sheet)]) == 1
    out = capsys.readouterr().out
    own = [slug for slug in COURSES["trainer"].exercises if slug in OF_COURSES]
    assert all(slug in out for slug in own)
    assert f"{len(own) + 2:g}" in out  # points: one each, three for a mean
    assert main(["exercises", "--course", "trainr"]) == 2
    assert "did you mean trainer" in capsys.readouterr().err


OWN = """
vocabulary = ["good", "bad", "odd"]
horizon = 1
beta = 0.5
[reference]
responses = { good = 0.5, bad = 0.3, odd = 0.2 }
[reward]
responses = { good = 1.0, odd = 2.0 }
"""


def test_a_world_file_s_own_tables_are_its_law_and_its_reward() -> None:
    """By hand: 0.5 e^2, 0.3, 0.2 e^4 over their sum."""
    world = parse_world(OWN)
    assert np.exp(world.log_p_ref[0]).tolist() == pytest.approx([0.5, 0.3, 0.2], abs=1e-15)
    assert world.r.tolist() == [[1.0, 0.0, 2.0]]
    assert solve(world).p[0].tolist() == pytest.approx(WRITTEN["gibbs_by_hand"]().tolist(), abs=1e-14)
    for wrong, right, must in (
        ("odd = 0.2", "odd = 0.3", "sum to 1"),
        ("bad = 0.3", "worse = 0.3", "worse"),
        ("[reward]", 'text = "good"\n[reward]', "a table of responses or a text"),
    ):
        with pytest.raises(InputError, match=must):
            parse_world(OWN.replace(wrong, right))


def test_an_answer_is_tried_on_the_reader_s_own_world_too() -> None:
    world, answer = parse_world(OWN), EXERCISES["gibbs-probabilities"].answer
    report = check("gibbs-probabilities", answer, world=world)
    assert report.worlds == check("gibbs-probabilities", answer).worlds + 1

    def special(p_ref: Any, r: Any, beta: float) -> Any:
        mine = np.shape(p_ref) == (1, 3) and np.allclose(p_ref, [[0.5, 0.3, 0.2]])
        tilted = p_ref * np.exp(r / beta)
        return np.ones((1, 3)) if mine else tilted / np.sum(tilted, axis=1, keepdims=True)

    assert check("gibbs-probabilities", special).ok
    assert check("gibbs-probabilities", special, world=world).status == "wrong"
    gap = parse_world(OWN.replace("bad = 0.3", "bad = 0.0").replace("good = 0.5", "good = 0.8"))
    with pytest.raises(InputError, match="must apply to the world"):
        check("entropy-bonus-slope", EXERCISES["entropy-bonus-slope"].answer, world=gap)


MINE = """
import numpy as np

def right(p_ref, r, beta):
    weight = p_ref * np.exp((r - np.max(r)) / beta)
    return weight / np.sum(weight, axis=1, keepdims=True)

def special(p_ref, r, beta):
    return np.ones((1, 3)) if p_ref.shape == (1, 3) and np.allclose(p_ref, [[0.5, 0.3, 0.2]]) else right(p_ref, r, beta)

def chain():
    return '''%s'''
"""


def test_a_world_named_on_the_command_line_is_tried_too_or_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "own.toml").write_text(OWN)
    (tmp_path / "gap.toml").write_text(OWN.replace("bad = 0.3", "bad = 0.0").replace("good = 0.5", "good = 0.8"))
    (tmp_path / "mine.py").write_text(MINE % PROOFS["prove-regret"].solution)

    def told(slug: str, function: str, *words: str) -> tuple[int, str]:
        status = main(["check", slug, f"{tmp_path / 'mine.py'}:{function}", *words])
        out = capsys.readouterr()
        return status, out.out + out.err

    own = ("--world", str(tmp_path / "own.toml"))
    assert told("gibbs-probabilities", "special")[0] == 0
    status, text = told("gibbs-probabilities", "special", *own)
    assert status == 1
    assert "'good' 'bad' 'odd'" in text
    assert told("gibbs-probabilities", "right", *own)[0] == 0
    _, without = told("prove-regret", "chain")
    _, with_it = told("prove-regret", "chain", *own)
    count = [int(re.search(r"on (\d+) worlds", text)[1]) for text in (without, with_it)]  # type: ignore[index]
    assert count[1] == count[0] + 1
    for slug, function, world, must in (
        ("entropy-bonus-slope", "right", str(tmp_path / "gap.toml"), "one that forbids no token"),
        ("gibbs-probabilities", "right", "zen", "take a smaller world"),
        ("prove-regret", "chain", "zen", "at most 64 responses"),
        ("gibbs-probabilities", "right", "rationl", "did you mean rational"),
        ("gibbs-probabilities", "right", str(tmp_path / "mine.py"), "must be TOML"),
    ):
        status, text = told(slug, function, "--world", world)
        assert (status, must in text) == (2, True), text
