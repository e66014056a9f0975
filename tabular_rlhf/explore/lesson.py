"""What every notebook of the course has in common, written once and put in by `notebooks/build.py`.

INSTALL     behind the title: it brings the package where it is not, and does nothing where it is;
PROGRESS    behind the exercises: which are solved;
glossary    before the last cell: the names that the lesson's functions ask for, from the table of symbols.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from tabular_rlhf.symbols import SYMBOLS
from tabular_rlhf.symbols.table import AXES

INSTALL = """# On Colab this installs the package; where it is installed, as on Binder, nothing happens.
from importlib.util import find_spec

if find_spec("tabular_rlhf") is None:
    get_ipython().run_line_magic("pip", "install --quiet tabular-rlhf[notebooks]")"""
SOLVED = "**How far are you?** Run this cell again after each exercise."
PROGRESS = "explore.progress()"
FOLD, UNFOLD = "<details><summary>{}</summary>", "</details>"
"""What stands before and behind words that are folded, in JupyterLab and on GitHub."""
RUNS_OVER = {"x": "prompts", "tau": "responses", "s": "states", "a": "tokens", "i": "a group's responses", "draw": "draws", "row": "rows"}


def asked(sources: Sequence[str]) -> list[str]:
    """The symbols that the functions of a notebook ask a checker or a derivation for, in the order of the printed table.

    >>> asked(["def regret(beta, log_p, log_p_star):\\n    return ...", "check('regret', regret)", "check('a', lambda H: H)"])
    ['H', 'beta', 'log_p', 'log_p_star']
    """
    trees = [ast.parse(source) for source in sources]
    functions = {node.name: node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    names = {arg.arg for tree in trees for given in _supplied(tree, functions) for arg in given.args.args}
    return [name for name in SYMBOLS if name in names]


def _supplied(tree: ast.AST, functions: dict[str, ast.FunctionDef]) -> Iterator[ast.FunctionDef | ast.Lambda]:
    """Functions that are handed to `check`, or to `derive` in the place of a line: those that get symbols by name."""
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and ast.unparse(call.func) in ("check", "derive"):
            handed = [*call.args, *(v for k in call.keywords if isinstance(k.value, ast.Dict) for v in k.value.values)]
            yield from (arg for arg in handed if isinstance(arg, ast.Lambda))
            yield from (functions[arg.id] for arg in handed if isinstance(arg, ast.Name) and arg.id in functions)


def glossary(sources: Sequence[str]) -> str:
    """A folded table of the symbols that a notebook's functions ask for; "" where they ask for none."""
    names = asked(sources)
    if not names:
        return ""
    rows = [(f"`{s.name}`", s.meaning, f"`{s.shape}`", s.unit) for s in map(SYMBOLS.__getitem__, names)]
    cells = [" | ".join(cell.replace("|", r"\|") for cell in row) for row in [("name", "what it is", "shape", "unit"), ("---",) * 4, *rows]]
    letters = {n for name in names for n in SYMBOLS[name].shape.strip("()").replace(",", " ").split()}
    over = "; ".join(f"${n}$ {RUNS_OVER[AXES[n]]}" for n in ("P", "N", "S", "V", "G", "n", "B") if n in letters)
    said = f"A name that a function of this lesson has as a parameter is supplied by the checker for every world. Shapes count {over}."
    return "\n".join(["## Glossary", "", FOLD.format(f"{len(names)} names"), "", said, "", *(f"| {c} |" for c in cells), "", UNFOLD])


def framed(cells: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """A lesson's cells, each (kind, source), with those that every lesson has; what does not begin with a title is no lesson.

    >>> framed([("markdown", "# 1. A lesson"), ("code", "1 + 1")])[1] == ("code", INSTALL)
    True
    """
    if not cells or cells[0][0] != "markdown":
        return list(cells)
    own = [[cell] for cell in cells]
    own[0].append(("code", INSTALL))
    stubs = [i for i, (kind, source) in enumerate(cells) if kind == "code" and "    return ...\n" in source]
    if stubs:
        own[stubs[-1]] += [("markdown", SOLVED), ("code", PROGRESS)]
    if words := glossary([source for kind, source in cells if kind == "code"]):
        own[-1].insert(0, ("markdown", words))
    return [cell for group in own for cell in group]
