"""Laws of the house: floors, names, the cost of opening the door, and tests that can fail."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable, Collection, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tabular_rlhf as tr
from tabular_rlhf import cli

PACKAGE = Path(tr.__file__).parent
TESTS = Path(__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))


def floors() -> list[list[str]]:
    """The rooms by floor, ground first, as the README's map has them."""
    table = (PACKAGE.parent / "README.md").read_text().partition("| floor | room |")[2].partition("\n\n")[0]
    found = list[list[str]]()
    for floor, rooms in re.findall(r"^\| ([^|-]*)\| ([^|]*)\|", table, re.MULTILINE):
        found += [[]] if floor.strip() else []
        found[-1] += [name.removesuffix("/") for name in re.findall("`([^`]*)`", rooms)]
    found[-1] += ["__init__", "__main__"]
    return found


FLOORS = floors()
"""A room imports from its own floor or from those below."""


@cache
def tree_of(path: Path) -> ast.Module:
    """A file, parsed once for all that is asked of it."""
    return ast.parse(path.read_text())


def room(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def level(name: str) -> int:
    """The floor of a room: every room has one."""
    (found,) = (i for i, rooms in enumerate(FLOORS) if name in rooms)
    return found


def imports(tree: ast.AST, *, whole: bool) -> set[str]:
    """The modules of the package that are imported: on the first level of the file, or (`whole`) anywhere but for type checkers."""
    found: set[str] = set()
    hidden = {
        id(n) for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test) for n in ast.walk(node)
    }
    for node in ast.walk(tree) if whole else ast.iter_child_nodes(tree):
        if isinstance(node, ast.ImportFrom) and id(node) not in hidden and (node.module or "").startswith("tabular_rlhf"):
            name = (node.module or "").removeprefix("tabular_rlhf").lstrip(".")
            found |= {name.split(".")[0]} if name else {alias.name for alias in node.names}
    return found


def test_rooms_import_only_from_floors_below() -> None:
    for path in MODULES:
        mine = level(room(path))
        for other in imports(tree_of(path), whole=True) - {"__version__"}:
            assert level(other) <= mine, f"{path.relative_to(PACKAGE)} (floor {mine}) imports {other} (floor {level(other)})"


def test_imports_between_rooms_make_no_circle() -> None:
    graph: dict[str, set[str]] = {}
    for path in MODULES:
        graph.setdefault(room(path), set()).update(imports(tree_of(path), whole=True) - {room(path), "__version__"})
    done: list[str] = []

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, f"a circle: {' -> '.join((*path, name))}"
        if name not in done:
            for other in sorted(graph.get(name, ())):
                visit(other, (*path, name))
            done.append(name)

    for name in graph:
        visit(name, ())


def test_nobody_borrows_from_a_chapter_of_the_ledger() -> None:
    """What a derivation, an exercise or another chapter needs as well has a home of its own: `terms`."""
    for path in MODULES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ImportFrom):
                assert not (node.module or "").startswith("tabular_rlhf.ledger.chapter"), (
                    f"{path.relative_to(PACKAGE)}: {ast.unparse(node)}"
                )


BOOK = ("derivations", "formula", "ledger")


def module(path: Path) -> str:
    return ".".join(["tabular_rlhf", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")


def modules(nodes: Iterable[ast.AST], known: Collection[str]) -> set[str]:
    """The modules of the package that these nodes import."""
    found = [n for n in nodes if isinstance(n, ast.ImportFrom) and (n.module or "").startswith("tabular_rlhf")]
    names = {(n.module or "", f"{n.module}.{alias.name}") for n in found for alias in n.names}
    return {inner if inner in known else outer for outer, inner in names}


def test_no_circle_of_modules_hides_in_a_function() -> None:
    trees = {module(path): tree_of(path) for path in MODULES}
    first = {name: modules(ast.iter_child_nodes(tree), trees) for name, tree in trees.items()}

    def reached(name: str, seen: set[str]) -> set[str]:
        for other in first.get(name, set()) - seen:
            seen.add(other)
            reached(other, seen)
        return seen

    for name, tree in trees.items():
        functions = [n for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for n in ast.walk(f)]
        hidden = {other for other in modules(functions, trees) if name in reached(other, {other})}
        assert not hidden or name.split(".")[1] in BOOK, f"{name} imports {hidden}, from where it is imported"


def test_no_module_is_hidden_by_a_function_of_its_name() -> None:
    for path in PACKAGE.rglob("__init__.py"):
        if path.parent.name in BOOK:
            continue
        own = {p.stem for p in path.parent.glob("*.py")}
        for node in ast.iter_child_nodes(tree_of(path)):
            if isinstance(node, ast.ImportFrom) and node.module != module(path):
                assert own.isdisjoint(alias.asname or alias.name for alias in node.names), f"{path}: {ast.unparse(node)}"
            assert not isinstance(node, ast.FunctionDef) or node.name not in own, f"{path}: {node.name}"


def run(*words: str, code: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code] if code else [sys.executable, "-m", "tabular_rlhf", *words]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")])}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)


HEAVY = ("matplotlib", "hypothesis", "scipy.optimize", "scipy.stats", "tqdm", "difflib", "tabular_rlhf.ledger")
LATER = ("tabular_rlhf.autodiff.rules", "tabular_rlhf.autodiff.derivatives", "tabular_rlhf.sampling")
"""Rooms that no exact answer needs."""


def test_importing_the_package_opens_only_what_is_needed() -> None:
    solved = "import sys, tabular_rlhf as tr; tr.solve(tr.named_world('cycle')).kl"
    assert run(code=f"{solved}; print([m for m in {HEAVY + LATER} if m in sys.modules])").stdout.strip() == "[]"
    linear = "import sys, scipy.special; before = set(sys.modules); import tabular_rlhf; print(sorted(set(sys.modules) - before))"
    assert "scipy" not in run(code=linear).stdout  # nothing of scipy that scipy.special does not open itself


def test_the_front_door() -> None:
    shown = run("--version")
    assert (shown.returncode, shown.stdout) == (0, f"tabular-rlhf {tr.__version__}\n")
    nothing = run()
    assert nothing.returncode == 0
    assert "COMMAND" in nothing.stdout
    unknown = run("dance")
    assert unknown.returncode == 2
    assert "a command must be known: got 'dance'" in unknown.stderr
    help_ = run("--help")
    assert help_.returncode == 0
    assert all(name in help_.stdout for name in cli.COMMANDS)


def test_every_public_name_exists_is_sorted_and_has_a_docstring() -> None:
    assert tr.__all__ == sorted(tr.__all__)
    assert set(tr.__all__) <= set(dir(tr))
    assert not hasattr(tr, "nothing")
    assert not hasattr(tr.autodiff, "nothing")
    assert all(getattr(tr.autodiff, name) is not None for name in tr.autodiff.__all__)
    everything: dict[str, object] = {}
    exec("from tabular_rlhf import *", everything)
    assert set(tr.__all__) <= everything.keys()
    for name in tr.__all__:
        assert getattr(tr, name).__doc__, f"{name} has no docstring"


def sections(name: str) -> dict[str, str]:
    """The docstring of an exported name, cut at its headings; "" is what stands before them."""
    text = inspect.cleandoc(getattr(tr, name).__doc__).split(">>> ")[0]
    head, *parts = re.split(r"^(Args|Returns|Raises|Source):\s", text, flags=re.M)
    return {"": head, **dict(zip(parts[::2], parts[1::2], strict=True))}


@pytest.mark.parametrize("name", tr.__all__)
def test_an_exported_name_says_what_it_takes_returns_and_refuses(name: str) -> None:
    it, said = getattr(tr, name), sections(name)
    assert ">>> " in it.__doc__, "an example, which the doctests run"
    assert re.search(r"Error|nothing", said["Raises"])
    assert isinstance(it, type) or len(said["Returns"]) > 3
    if it is tr.SolveError:  # takes what any error takes
        return
    asked = [p for p in inspect.signature(it).parameters if not p.startswith("_")]
    untold = [p for p in asked if not re.search(rf"\b{p}\b", said["Args"])]
    assert not untold, f"its arguments {untold} are not told"


C, RNG = tr.coin(), np.random.default_rng(0)
WRONG: dict[str, Callable[[], Any]] = {
    "TokenMDP": lambda: tr.TokenMDP(2, horizon=99),
    "World": lambda: tr.World(C.mdp, np.zeros((1, 1, 2)), C.r, 1.0),
    "NGram": lambda: tr.NGram(C.mdp, k=-1),
    "LogLinear": lambda: tr.LogLinear(C.mdp, np.zeros(2)),
    "Tabular": lambda: tr.Tabular(C.mdp).log_pi(np.zeros(3)),
    "Gibbs": lambda: tr.solve(C).regret(np.zeros((2, 3))),
    "Trajectories": lambda: tr.population(tr.fork(), tr.fork().log_p_ref)[C.r],
    **{name: lambda name=name: getattr(tr, name)(beta=0.0) for name in ("coin", "fork", "rational", "long_tail", "zen_world")},
    **{name: lambda name=name: getattr(tr, name)(beta=0.0) for name in ("cycle", "sure_thing", "blind_spot", "length_trap")},
    "named_world": lambda: tr.named_world("moon"),
    "random_world": lambda: tr.random_world(rng=RNG, V=9, H=99),
    "objective": lambda: tr.objective(C.log_p_ref, C.log_p_ref, C.r, -1.0, C.mu),
    "regret": lambda: tr.regret(np.zeros((2, 3)), C),
    "soft_bellman": lambda: tr.soft_bellman(C.mdp, C.log_ref, C.r[0], 1.0),
    "soft_value": lambda: tr.soft_value(C.log_p_ref, C.r, 0.0),
    "expect": lambda: tr.expect(C.log_p_ref, np.array([[np.inf, -np.inf]])),
    "kl": lambda: tr.kl([np.nan, 0.0], [0.0, 0.0]),
    "logsumexp": lambda: tr.grad(tr.logsumexp)(np.array([np.inf, 0.0])),
    "log_softmax": lambda: tr.log_softmax(np.full(2, -np.inf)),
    "population": lambda: tr.population(C, C.r),
    "sample": lambda: tr.sample(C, C.log_p_ref, 0, rng=RNG),
    "estimate": lambda: tr.estimate(tr.population(C, C.log_p_ref), np.zeros(3)),
    "vjp": lambda: tr.vjp(np.linalg.svd, np.eye(2)),
    "grad": lambda: tr.grad(lambda x: x)(np.zeros(2)),
    "value_and_grad": lambda: tr.value_and_grad(lambda x: x)(np.zeros(2)),
    "jacobian": lambda: tr.jacobian(lambda x, y: x, argnums=(0, 1))(1.0, 1.0),  # type: ignore[arg-type]
    "hessian": lambda: tr.hessian(lambda x: x)(np.zeros(2)),
    "hvp": lambda: tr.hvp(np.sum)(np.zeros(2), np.zeros(3)),
    "check_grad": lambda: tr.check_grad(np.sum, np.zeros(2), rng=RNG, method="guess"),
}
"""A call that each exported name refuses."""


@pytest.mark.parametrize("name", [name for name in tr.__all__ if not sections(name)["Raises"].startswith("nothing")])
def test_an_exported_name_raises_what_it_says(name: str) -> None:
    with pytest.raises(Exception, match=r".") as refused:
        WRONG[name]()
    assert type(refused.value).__name__ in sections(name)["Raises"]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_every_module_opens_with_its_chapter(path: Path) -> None:
    text = path.read_text()
    assert ast.get_docstring(tree_of(path)), "a module opens with a docstring"
    assert not re.search(r"\b(TODO|FIXME|XXX)\b", text)
    assert len(text.splitlines()) <= 450


VAIN = {"allclose", "isclose", "array_equal", "all", "any", "isfinite", "isnan"}


@pytest.mark.parametrize("path", sorted(TESTS.rglob("*.py")), ids=lambda p: p.name)
def test_no_assertion_asserts_nothing(path: Path) -> None:
    """A comparison whose answer is thrown away, an assertion of a constant or of a tuple, a skipped or an expected failure."""
    text = path.read_text()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr):
            assert not isinstance(node.value, ast.Compare | ast.BoolOp), f"line {node.lineno}: a comparison is thrown away"
            called = node.value.func if isinstance(node.value, ast.Call) else None
            name = getattr(called, "attr", getattr(called, "id", ""))
            assert name not in VAIN, f"line {node.lineno}: the answer of {name} is thrown away"
        if isinstance(node, ast.Assert):
            assert not isinstance(node.test, ast.Constant | ast.Tuple), f"line {node.lineno}: an assertion that cannot fail"
    may_skip = path.name in (Path(__file__).name, "foreign.py")  # a library of the user's that is not installed is the one reason
    assert may_skip or not re.search(r"pytest\.(mark\.)?(skip|xfail)|importorskip", text)


def test_running_the_tests_leaves_no_folder_behind() -> None:
    assert not (TESTS.parent / ".hypothesis").exists()
    assert not (TESTS / ".hypothesis").exists()
