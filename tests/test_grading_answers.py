"""What the project's own solutions get from the grader, the objects they are sent, and answers that ask the package for the solution."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tabular_rlhf
from tabular_rlhf import NGram, TokenMDP
from tabular_rlhf.check import find, supply, tried
from tabular_rlhf.cli import main
from tabular_rlhf.exercises import EXERCISES
from tabular_rlhf.grading import Child, Limits, RemoteError, nursery
from tabular_rlhf.grading.answers import CLOSED
from tabular_rlhf.grading.landlock import around
from tabular_rlhf.grading.marks import function_name, grade
from tabular_rlhf.grading.objects import apart
from tabular_rlhf.grading.submission import of
from tabular_rlhf.grading.wire import Unsendable, Writer
from tabular_rlhf.symbols import Scope
from tabular_rlhf.world import random_world
from tests.grading_support import Verdict

SOLUTIONS = Path(__file__).parent.parent / "notebooks" / "solutions"
PATIENT = Limits(call=10.0)
"""For a first call that imports the package on a busy machine."""
WITH_OBJECTS = [slug for slug, e in EXERCISES.items() if {"mdp", "tied"} & set(e.suggested)]

# ---------------------------------------------------------------------------------------------------- objects


def briefly(slug: str, function: Any) -> Verdict:
    """A judge who tries a few worlds only: what is tested is what is sent."""
    question = find(slug)[0]
    wrong = [s for s in tried(question)[::60] if question.wrong(supply(function, s), s, function)]
    return Verdict(not wrong, "wrong" if wrong else "right")


def test_the_solutions_that_ask_for_an_object_get_their_marks() -> None:
    assert len(WITH_OBJECTS) >= 8
    source = "\n".join(path.read_text() for path in sorted(SOLUTIONS.glob("*.py")))
    found = grade(of("all.py", source.encode()), dict.fromkeys(WITH_OBJECTS, 1.0), briefly, limits=PATIENT)
    assert [(m.slug, m.reason) for m in found.marks if m.status != "right"] == []


LAZY = """
def inside(x):
    from scipy import stats
    import hypothesis.strategies
    return stats.norm.cdf(x)
def objects(mdp): return float(mdp.N)
"""


def test_importing_is_not_answering() -> None:
    """A call's limit is a fraction of what these libraries take to import; whoever does not name them pays himself."""
    limits = Limits(call=0.05, answer=0.1)
    with Child(LAZY.encode(), limits, imports=("scipy.stats", "hypothesis.strategies", "no.such")) as child:
        assert child.function("inside")(0.0) == 0.5
    with Child(LAZY.encode(), limits) as child:
        assert child.function("objects")(MDPS[0]) == 9.0
        with pytest.raises(RemoteError, match=r"no answer within 0\.05 s of computing"):
            child.function("inside")(0.0)


def test_what_the_answers_own_process_imports_is_not_its_answer_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nursery, "HEAVY", ())
    with Child(LAZY.encode(), Limits(call=0.1, answer=0.2), imports=("scipy.stats", "hypothesis.strategies")) as child:
        assert child.function("inside")(0.0) == 0.5
        assert child.computed() > 0.2  # most of it for the libraries


def test_every_parameter_that_an_exercise_suggests_can_be_sent() -> None:
    source = "\n".join(path.read_text() for path in sorted(SOLUTIONS.glob("*.py")))
    assert [slug for slug in EXERCISES if f"def {function_name(slug)}(" not in source] == []
    names = sorted({name for e in EXERCISES.values() for name in e.suggested})
    scope = Scope(random_world(rng=np.random.default_rng(3)), 0)
    for name in names:
        assert Writer(apart=apart).node(scope[name]) is not None, name


SIZES = """
def sizes(mdp): return (mdp.V, mdp.H, mdp.P, mdp.K, mdp.S, mdp.N)
def words(mdp): return (list(mdp.vocabulary), mdp.eos, list(mdp.prompts), mdp.sep, mdp.mu, mdp.text(0))
def shared(tied): return (tied.shape, tied.context, tied.k, tied.positional)
def same(mdp, tied): return tied.mdp is mdp
def gives(mdp): return mdp
"""
MDPS = [
    TokenMDP(3, 2),
    TokenMDP(("the", "cat", "."), 3, eos=".", prompts=("Hi:", "Tell me", ""), mu=(1 / 3, 0.5, 1 / 6)),
    TokenMDP("abc", 4, eos="c", sep="", prompts=("x", "y"), mu=(1.0, 0.0)),
]


def test_an_object_is_built_again_as_it_was() -> None:
    with Child(SIZES.encode(), PATIENT) as child:
        sizes, words, shared, same = map(child.function, ("sizes", "words", "shared", "same"))
        for mdp in MDPS:
            assert sizes(mdp) == (mdp.V, mdp.H, mdp.P, mdp.K, mdp.S, mdp.N)
            vocabulary, eos, prompts, sep, mu, text = words(mdp)
            assert (tuple(vocabulary), eos, tuple(prompts), sep, text) == (mdp.vocabulary, mdp.eos, mdp.prompts, mdp.sep, mdp.text(0))
            assert np.allclose(mu, mdp.mu, rtol=1e-15, atol=0)
            for tied in (NGram(mdp, 0), NGram(mdp, 1), NGram(mdp, 2, positional=True)):
                shape, context, k, positional = shared(tied)
                assert (shape, k, positional) == (tied.shape, tied.k, tied.positional)
                assert np.array_equal(context, tied.context)
                assert same(mdp, tied)


def test_no_other_object_is_sent_and_none_comes_back() -> None:
    class Mine(TokenMDP):
        pass

    world = random_world(rng=np.random.default_rng(0))
    for x in (world, Mine(2, 1), tabular_rlhf.Tabular(MDPS[0]), {"mdp": MDPS[0]}, print):
        with pytest.raises(Unsendable):
            Writer(apart=apart).node(x)
    with pytest.raises(Unsendable):
        Writer().node(MDPS[0])
    with Child(SIZES.encode(), PATIENT) as child, pytest.raises(RemoteError, match="TokenMDP") as e:
        child.function("gives")(MDPS[0])
    assert e.value.kind == "not an answer"


# ---------------------------------------------------------------------------------------------------- the package's own answers

ASKS = {
    "by name": "import importlib\ntruth = importlib.import_module('tabular_rlhf.exercises').EXERCISES['regret'].answer",
    "in a statement": "from tabular_rlhf.exercises.record import EXERCISES\ntruth = EXERCISES['regret'].answer",
    "after the tools": "import tabular_rlhf as tr\nimport tabular_rlhf.exercises\ntruth = tr.exercises.EXERCISES['regret'].answer",
    "as a command": "from tabular_rlhf.commands import exercises\ntruth = exercises.find('regret').answer",
}


@pytest.mark.parametrize("without", [(), ("landlock",)], ids=str)
@pytest.mark.parametrize("how", ASKS)
def test_an_answer_that_imports_the_solution_gets_no_mark(how: str, without: tuple[str, ...]) -> None:
    with Child(f"{ASKS[how]}\nregret = truth\n".encode(), PATIENT, without=without) as child:
        with pytest.raises(RemoteError, match="closed") as e:
            child.function("regret")
        assert e.value.kind == "does not import"
    here: dict[str, Any] = {}
    if how != "as a command":  # it is the solution that is refused, not a mistake of this test
        exec(ASKS[how], here)
        assert here["truth"] is EXERCISES["regret"].answer


def test_every_closed_package_is_closed_and_the_tools_are_open() -> None:
    source = """
import importlib
def opens(name): return importlib.import_module(name).__name__
def reads(path):
    with open(path) as file: return len(file.read())
def undone(name):
    import sys
    del sys.meta_path[0]
    return opens(name)
"""
    package = Path(tabular_rlhf.__file__).parent
    with Child(source.encode(), PATIENT) as child:
        opens, reads, undone = map(child.function, ("opens", "reads", "undone"))
        for name in CLOSED:
            with pytest.raises(RemoteError, match="ImportError: an answer may use the package's tools, but not its answers") as e:
                opens(f"tabular_rlhf.{name}")
            assert e.value.kind == "raises"
        for name in ("mdp", "policy", "gibbs", "losses", "estimators", "divergences", "policy_gradient", "selection"):
            assert opens(f"tabular_rlhf.{name}") == f"tabular_rlhf.{name}"
        assert reads(str(package / "gibbs.py")) == len((package / "gibbs.py").read_text())
        if {row["layer"]: row["force"] for row in child.layers}["files"] == "full":
            for name in CLOSED:
                with pytest.raises(RemoteError, match="PermissionError"):
                    reads(str(package / name / "__init__.py"))
            with pytest.raises(RemoteError, match="PermissionError"):
                undone("tabular_rlhf.exercises")


def test_what_is_readable_around_a_closed_folder(tmp_path: Path) -> None:
    root = Path(os.path.realpath(tmp_path))
    for name in ("lib/package/open", "lib/package/closed/deep", "lib/other", "bin"):
        (root / name).mkdir(parents=True)
    (root / "lib" / "way").symlink_to(root, target_is_directory=True)  # a link upwards ends, and opens nothing
    (root / "lib" / "other" / "file").write_text("x")
    closed = [str(root / "lib" / "package" / "closed")]
    whole, split = around([str(root / "lib"), str(root / "lib" / "package" / "closed" / "deep")], closed)
    assert sorted(whole) == [str(root / name) for name in ("bin", "lib/other", "lib/package/open")]
    assert sorted(split) == [str(root), str(root / "lib"), str(root / "lib" / "package")]
    assert around([str(root / "bin")], closed) == ([str(root / "bin")], [])


def test_the_help_says_what_is_not_contained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["grade", "--help"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert all(part in told for part in ("Contained:", "Not contained:", "a determined answer may still find", "read the `imports` line"))
    assert all(name in told for name in CLOSED)


def test_a_submission_with_an_mdp_through_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "e.py").write_text("POINTS = {'log-probability': 2}")
    (tmp_path / "a.py").write_text("def log_probability(mdp, log_pi):\n    return mdp.path_sum(log_pi)\n")
    assert main(["grade", str(tmp_path / "a.py"), "--exercises", str(tmp_path / "e.py"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert math.isclose(told["points"], 2.0)
