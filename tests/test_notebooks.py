"""The notebooks as they lie there: sources that equal their twins, outputs fit to be seen, cells and lessons of one form.

Nothing is executed here (`notebooks/build.py --check` does that, and tests/browser in JupyterLab).  The rules are functions that
list what is wrong, so that each is also tried on a cell that breaks it.
"""

# mypy: disable-error-code="no-untyped-call"
from __future__ import annotations

import ast
import importlib.util
import re
import runpy
import sys
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tabular_rlhf.check import check
from tabular_rlhf.exercises import EXERCISES
from tabular_rlhf.explore import lesson
from tabular_rlhf.symbols import SYMBOLS

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
_spec = importlib.util.spec_from_file_location("notebooks_build", NOTEBOOKS / "build.py")
assert _spec is not None
build: Any = importlib.util.module_from_spec(_spec)
sys.modules["notebooks_build"] = build
_spec.loader.exec_module(build)  # type: ignore[union-attr]

TWINS = build.twins()
LESSONS = pytest.mark.parametrize("twin", TWINS, ids=lambda twin: twin.stem)


@cache
def built(twin: Path) -> Any:
    """The notebook as it lies there: read by all, changed by none."""
    return nbformat.read(twin.with_suffix(".ipynb"), as_version=4)


@cache
def read(twin: Path) -> Any:
    """The notebook that a twin makes, not executed: read by all, changed by none."""
    return build.read(twin)


# ---------------------------------------------------------------------------------------------------- what a cell may hold

LINES, COLUMNS = 16, 95
PLOTTING = re.compile(r"\b(plt|pyplot|matplotlib|IPython|savefig|display)\b")


def called(tree: ast.AST) -> list[str]:
    """The names of the functions that are called, `check` as `check` and `explore.tilt` as `explore.tilt`."""
    return [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]


def only_shows(source: str) -> bool:
    """Whether a cell binds nothing: a picture, a table, a derivation, on which no other cell can depend."""
    return source.startswith("%%") or all(isinstance(node, ast.Expr) for node in ast.parse(source).body)


def stub(tree: ast.Module) -> ast.FunctionDef | None:
    """The function that a reader is to fill in: its body is `return ...`."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and ast.unparse(node.body[-1]) == "return ...":
            return node
    return None


def cell_faults(source: str) -> list[str]:
    """Why a cell of code is more than one call, one slider, or one exercise with one check."""
    if source == lesson.INSTALL:
        return []
    if re.search(r"^\s*[%!]", source, re.MULTILINE):
        return ["magic commands"]
    tree = ast.parse(source)
    shown = [node for node in tree.body if isinstance(node, ast.Expr)]
    calls = called(tree)
    imports = all(isinstance(node, ast.Import | ast.ImportFrom) for node in tree.body)
    rules = {
        "code that draws": PLOTTING.search(source),
        f"wider than {COLUMNS} columns": any(len(line) > COLUMNS for line in source.splitlines()),
        f"more than {LINES} lines": len(source.splitlines()) > LINES and not imports,
        "shows more than one thing": len(shown) > 1,
        "shows something before its last line": shown and shown[-1] is not tree.body[-1],
        "a loop or a branch outside a function": any(isinstance(n, ast.For | ast.While | ast.If | ast.With | ast.Try) for n in tree.body),
        "more than one check": calls.count("check") > 1,
        "prints": "print" in calls,
        "a slider that is not alone": any(name.startswith("explore.") for name in calls) and len(tree.body) > 1,
        "an exercise without its check": stub(tree) and calls.count("check") != 1,
        "imports among other things": not imports and any(isinstance(n, ast.Import | ast.ImportFrom) for n in ast.walk(tree)),
    }
    return [what for what, broken in rules.items() if broken]


@LESSONS
def test_a_cell_holds_one_thing(twin: Path) -> None:
    for cell in read(twin).cells:
        assert cell.cell_type in ("code", "markdown"), cell.source
        assert cell.cell_type == "markdown" or not cell_faults(cell.source), f"{cell_faults(cell.source)} in\n{cell.source}"


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("import matplotlib.pyplot as plt", "code that draws"),
        ("\n".join(f"a{i} = {i}" for i in range(17)), "more than 16 lines"),
        (f"a = '{'b' * 95}'", "wider than 95 columns"),
        ("1\n2", "shows more than one thing"),
        ("1\na = 2", "shows something before its last line"),
        ("for i in range(3):\n    i", "a loop or a branch outside a function"),
        ("check('a', f) and check('b', g)", "more than one check"),
        ("print(1)", "prints"),
        ("world = tr.coin()\nexplore.tilt(world)", "a slider that is not alone"),
        ("def regret(beta):\n    return ...", "an exercise without its check"),
        ("import numpy as np\nnp.ones(2)", "imports among other things"),
        ("%timeit 1", "magic commands"),
    ],
)
def test_a_cell_that_holds_more_is_refused(source: str, fault: str) -> None:
    assert fault in cell_faults(source)
    assert cell_faults("def regret(beta):\n    'Nats.'\n    return ...\n\n\ncheck('regret', regret)") == []


# ---------------------------------------------------------------------------------------------------- what a lesson must have

PAPER = re.compile(r"^- .*\b(19|20)\d\d\b", re.MULTILINE)


def lesson_faults(nb: Any, number: str) -> list[str]:
    """What a lesson lacks, or has in the wrong place."""
    prose = [cell.source if cell.cell_type == "markdown" else "" for cell in nb.cells]
    trees = [ast.parse(cell.source if cell.cell_type == "code" else "") for cell in nb.cells]
    calls = [called(tree) for tree in trees]

    def after(words: str) -> int:
        return next((i for i, text in enumerate(prose) if words in text), len(prose))

    def follows(words: str, name: str) -> bool:
        """Whether a cell that calls `name` comes after the words, before five more cells have gone by."""
        start = after(words)
        return any(called.startswith(name) for c in calls[start : start + 6] for called in c)

    stubs = [i for i, tree in enumerate(trees) if stub(tree)]
    refuted = [i for i, c in enumerate(calls) if "check" in c and i not in stubs]
    rules = {
        f"a title '# {int(number)}. ...' first": re.match(rf"# {int(number)}\. \S", prose[0]),
        "a question in the first cell": re.search(r"\*\*The question\.\*\*[^#]*\?", prose[0]),
        "**The derivation.** and derive(...)": follows("**The derivation.**", "derive"),
        "**Exact numbers.** and what shows them": after("**Exact numbers.**") < len(prose),
        "**The sampled check.** and tr.sample(...)": follows("**The sampled check.**", "tr.sample"),
        "**A near miss.** and check(...)": follows("**A near miss.**", "check") and refuted,
        "a section 'Explore' and explore....(...)": re.search(r"^## .*Explore", prose[min(after("Explore"), len(prose) - 1)], re.MULTILINE)
        and follows("Explore", "explore."),
        "a section 'Exercises' with three to five of them": after("Exercises\n") < min(stubs, default=0) and 3 <= len(stubs) <= 5,
        "a last cell 'Further reading' with three dated papers or more": "Further reading" in prose[-1]
        and len(PAPER.findall(prose[-1])) >= 3,
    }
    return [what for what, holds in rules.items() if not holds]


@LESSONS
def test_a_lesson_is_whole(twin: Path) -> None:
    assert lesson_faults(read(twin), twin.stem[:2]) == []


@LESSONS
def test_a_lesson_that_lacks_something_is_refused(twin: Path) -> None:
    """Take any one thing away, and it is missed."""
    whole = twin.read_text(encoding="utf-8")
    script = lambda text: build.jupytext.reads(text, fmt="py:percent")  # noqa: E731
    cuts = {
        "a question": ("**The question.**", "**Welcome.**"),
        "**The derivation.**": ("derive(", "str("),
        "**Exact numbers.**": ("**Exact numbers.**", "Numbers"),
        "**The sampled check.**": ("tr.sample(", "tr.population("),
        "**A near miss.**": ("**A near miss.**", "By the way."),
        "a section 'Explore'": ("explore.", "explain."),
        "a section 'Exercises'": ("    return ...\n", "    return 0\n"),
        "a last cell 'Further reading'": ("Further reading", "The end"),
    }
    for what, (part, other) in cuts.items():
        assert part in whole
        assert any(fault.startswith(what) for fault in lesson_faults(script(whole.replace(part, other)), twin.stem[:2])), what
    assert lesson_faults(script(whole), "99")[0].startswith("a title")


# ---------------------------------------------------------------------------------------------------- what is seen, and what is folded

FIRST = 5
"""Cells before which something must be seen."""
FOLDED = re.compile(r"<details><summary>[^<\n]+</summary>\n\n(?:(?!</?details>).)+?\n\n</details>", re.DOTALL)
"""Words that unfold: with blank lines around them, without which Markdown inside would not be read."""


def picture_at(nb: Any) -> int:
    """The place of the first picture or control."""
    shown = ("<svg", "<img", "image/svg+xml", "image/png")
    outputs = [str([o.get("data", "") for o in cell.get("outputs", [])]) for cell in nb.cells]
    return next((i for i, text in enumerate(outputs) if any(mark in text for mark in shown)), len(outputs))


def unfolded(nb: Any) -> list[str]:
    """What asks for a guess and then gives it away: predictions without a fold, answers in plain sight, folds that would not unfold."""
    wrong, after_control = [], False
    for i, cell in enumerate(nb.cells):
        source = cell.source
        if cell.cell_type == "code":
            after_control = source.startswith("explore.") and not source.startswith("explore.folded")
            continue
        apart = FOLDED.sub("", source)
        follows = nb.cells[i + 1].source if i + 1 < len(nb.cells) else ""
        folds = len(FOLDED.findall(source)) + follows.startswith("explore.folded(")
        wrong += [f"a prediction without a folded answer: {source[:60]}"] if source.count("**Predict.**") > folds else []
        wrong += [f"a fold that does not unfold: {apart[:60]}"] if re.search("</?(details|summary)", apart) else []
        wrong += [f"an answer in plain sight: {source[:60]}"] if after_control and source.startswith("(") else []
        after_control = False
    predictions = sum(cell.source.count("**Predict.**") for cell in nb.cells)
    return wrong + ([f"{predictions} predictions"] if predictions < 2 else [])


@LESSONS
def test_something_is_seen_within_five_cells(twin: Path) -> None:
    assert picture_at(built(twin)) < FIRST


@LESSONS
def test_answers_are_folded_and_say_why(twin: Path) -> None:
    nb = built(twin)
    assert unfolded(nb) == []
    for cell in nb.cells:  # every picture, and every prediction, has its because
        for answer in [
            *FOLDED.findall(cell.source if "**Predict.**" in cell.source else ""),
            *re.findall(r"\*\*First, .*", cell.source, re.DOTALL),
        ]:
            assert re.search(r"\b(because|why)\b", answer), answer


def test_what_gives_an_answer_away_is_found() -> None:
    def lesson_of(*sources: str) -> Any:
        new = {True: nbformat.v4.new_code_cell, False: nbformat.v4.new_markdown_cell}
        return nbformat.v4.new_notebook(cells=[new[source.startswith("explore")](source) for source in sources])

    fold = "<details><summary>Unfold</summary>\n\nNo, because.\n\n</details>"
    good = f"**Predict.** A?\n\n{fold}\n\n**Predict.** B?\n\n{fold}"
    assert (
        unfolded(lesson_of(good))
        == unfolded(lesson_of("**Predict.** A?", "explore.folded(a)", "**Predict.** B?", "explore.folded(b)"))
        == []
    )
    for bad in (
        [good, "**Predict.** C?"],
        [good.replace("\n\nNo", "No")],
        [good, "explore.tilt(world)", "(At 3.)"],
        [good[: len(good) // 2]],
    ):
        assert unfolded(lesson_of(*bad))


@LESSONS
def test_every_lesson_has_what_all_have(twin: Path) -> None:
    """How to install, where one stands in the exercises, and a glossary: just the names that its functions ask for."""
    nb = built(twin)
    sources = [cell.source for cell in nb.cells]
    code = [cell.source for cell in nb.cells if cell.cell_type == "code"]
    assert sources[1] == lesson.INSTALL
    last = max(i for i, cell in enumerate(nb.cells) if cell.cell_type == "code" and stub(ast.parse(cell.source)))
    assert sources[last + 2] == lesson.PROGRESS
    assert "0 of " in str(build.texts(nb.cells[last + 2].outputs[0]))
    named = set(re.findall(r"^\| `(\w+)` \|", sources[-2], re.MULTILINE))
    asked = {arg.arg for slug, function, _ in exercises(twin) for arg in function.args.args}
    assert asked <= named <= SYMBOLS.keys()
    assert all(re.search(rf"\b{name}\b", " ".join(code)) for name in named)
    assert all(SYMBOLS[name].meaning.replace("|", r"\|") in sources[-2] for name in named)


# ---------------------------------------------------------------------------------------------------- exercises and their solutions


def functions(path: Path) -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)}


def exercises(twin: Path) -> list[tuple[str, ast.FunctionDef, Any]]:
    """The exercises of a lesson: the slug that is checked, the stub, and the executed cell."""
    found = []
    for cell in built(twin).cells:
        tree = ast.parse(cell.source if cell.cell_type == "code" else "")
        if function := stub(tree):
            asked = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and ast.unparse(n.func) == "check"]
            found.append((ast.literal_eval(asked[0].args[0]), function, cell))
    return found


@LESSONS
def test_the_exercises_of_a_lesson_are_those_of_the_table_and_solved(twin: Path) -> None:
    solved = functions(twin.parent / "solutions" / twin.name)
    namespace = runpy.run_path(str(twin.parent / "solutions" / twin.name))
    asked = exercises(twin)
    prose = " ".join(cell.source for cell in built(twin).cells if cell.cell_type == "markdown")
    own = {slug for slug, exercise in EXERCISES.items() if exercise.notebook == twin.stem[:2]}
    stubs = {slug for slug, *_ in asked}
    assert stubs <= own
    assert all(f" {EXERCISES[slug].title.rstrip('.?')}" in prose for slug in stubs)
    for slug in own - stubs:  # asked by name alone, for another day
        assert f"`{slug}`" in prose
        assert check(slug, namespace[EXERCISES[slug].name]).ok
    for slug, function, cell in asked:
        assert function.name == EXERCISES[slug].name
        assert function.name in solved
        assert ast.unparse(solved[function.name].args) == ast.unparse(function.args)
        assert check(slug, namespace[function.name]).ok
        assert "not answered" in " ".join(" ".join(build.texts(output).values()) for output in cell.outputs).lower()


# ---------------------------------------------------------------------------------------------------- the built notebooks


def test_every_twin_is_built_and_every_notebook_has_a_twin() -> None:
    names = {path.stem for path in NOTEBOOKS.glob("*.ipynb")}
    assert names == {twin.stem for twin in TWINS}
    assert names
    assert all(re.fullmatch(r"\d\d_[a-z][a-z0-9_]*", name) for name in names)
    assert len({name[:2] for name in names}) == len(names)
    assert {path.stem for path in (NOTEBOOKS / "solutions").glob("*.py")} == names | {"course"}  # of no notebook: tests/test_course.py


@LESSONS
def test_the_notebook_says_what_its_twin_says_and_nothing_of_the_machine(twin: Path) -> None:
    nb = built(twin)
    nbformat.validate(nb)
    assert build.sources(nb) == build.sources(read(twin))
    assert len({cell.id for cell in nb.cells}) == len(nb.cells)
    assert nb.metadata == build.METADATA
    assert all(cell.metadata == {} for cell in nb.cells)
    code = [cell for cell in nb.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert twin.with_suffix(".ipynb").read_text(encoding="utf-8") == nbformat.writes(nb) + "\n"


@LESSONS
def test_the_outputs_are_fit_to_be_seen(twin: Path) -> None:
    nb = built(twin)
    assert build.faults(nb) == []
    shows = [cell for cell in nb.cells if cell.cell_type == "code" and isinstance(ast.parse(cell.source).body[-1], ast.Expr)]
    assert all(cell.outputs for cell in shows)
    assert not any("widget-view" in kind for cell in shows for output in cell.outputs for kind in build.texts(output))


# ---------------------------------------------------------------------------------------------------- the builder's own rules


def notebook(*outputs: Any, source: str = "f()") -> Any:
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source, id="a", outputs=list(outputs))])


def says(text: str, name: str = "stdout") -> Any:
    return nbformat.v4.new_output("stream", name=name, text=text)


def shows(**data: str) -> Any:
    return nbformat.v4.new_output("execute_result", {kind.replace("_", "/", 1): text for kind, text in data.items()}, execution_count=1)


@pytest.mark.parametrize(
    "output",
    [
        says("0.5", "stderr"),
        says("UserWarning: beware"),
        says("Traceback (most recent call last)"),
        shows(text_plain="[np.float64(0.5)]"),
        shows(text_plain="<function f at 0x7f32a1b2>"),
        shows(text_html="<p>see /usr/lib/python3</p>"),
        nbformat.v4.new_output("error", ename="ValueError", evalue="no", traceback=[]),
    ],
)
def test_an_output_that_should_not_be_seen_is_named(output: Any) -> None:
    assert build.faults(notebook(says("0.5 reward units / nat, J/KL/Z, and 1/2/3"), output)) != []
    assert build.faults(notebook(says("0.5 reward units / nat, J/KL/Z, and 1/2/3"))) == []


def test_pieces_of_a_stream_are_one_and_of_two_forms_the_richer_is_kept() -> None:
    widget = shows(text_plain="Panel()", text_html="<p>1</p>", **{"application_vnd.jupyter.widget-view+json": "{}"})
    settled = build.settle([says("a"), says("b"), says("c", "stderr"), widget, says("d")])
    assert [build.texts(output) for output in settled] == [
        {"text of stdout": "ab"},
        {"text of stderr": "c"},
        {"text/html": "<p>1</p>"},
        {"text of stdout": "d"},
    ]


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("KL = 0.6844 nats", "KL = 0.6843 nats", True),
        ("KL = 0.6844 nats", "KL = 0.6842 nats", False),
        ("KL = 0.6844 nats", "KL = 0.6844 bits", False),
        ("n = 12", "n = 13", False),
        ("gap 1.1e-16", "gap 0.0", True),
        ("gap 1.1e-6", "gap 0.0", False),
        ("0.30000000000000004", "0.3", True),
        ("3/19", "4/19", False),
        ("<p>1 <svg>2</svg></p>", "<p>1 <svg>3</svg></p>", True),
        ("<p>1 <svg>2</svg></p>", "<p>2 <svg>2</svg></p>", False),
        ("1 <iframe srcdoc='a'> </iframe>", "1 <iframe srcdoc='b'> </iframe>", True),
    ],
)
def test_outputs_are_the_same_up_to_last_digits_and_pictures(a: str, b: str, same: bool) -> None:
    assert build.same_text(a, b) is same
    assert (build.differences(notebook(says(a)), notebook(says(b))) == []) is same
    assert build.differences(notebook(says(a)), notebook()) != []
    assert build.differences(notebook(says(a), source="g()"), notebook(says(a))) != []


def test_an_image_must_be_there_whatever_it_shows() -> None:
    one, other = shows(image_png="aa"), shows(image_png="bb")
    assert build.differences(notebook(one), notebook(other)) == []
    assert build.differences(notebook(one), notebook(shows(text_plain="aa"))) != []


def test_an_inserted_cell_leaves_the_others_their_names(tmp_path: Path) -> None:
    twin = tmp_path / "01_try.py"
    twin.write_text("# %%\na = 1\n\n# %%\na\n\n# %%\na\n")
    before = [cell.id for cell in build.read(twin).cells]
    twin.write_text("# %%\na = 1\n\n# %% [markdown]\n# Now look.\n\n# %%\na\n\n# %%\na\n")
    after = [cell.id for cell in build.read(twin).cells]
    assert len(set(before)) == 3
    assert [i for i in after if i in before] == before
