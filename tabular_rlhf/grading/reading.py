"""What a submission's file defines and imports, read without running it; and of a notebook, the statements that a function needs.

A notebook is a list of cells, most of which only show something.  Of its code cells those lines that are not Python (magics, shell lines,
questions) are left out, and so is every cell of another language.  A function needs the statements that define the names it uses, or that
act on them, and whatever these need in turn.

A hostile text can exhaust, or crash, even a parser: this runs in a contained process.  The module is loaded by its path in the child.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MOST = 500
"""Names, and imports, that are told of a file."""
ALSO_PYTHON = ("%%time", "%%timeit", "%%capture", "%%prun")
"""Magics of a cell whose other lines are Python all the same."""
NOT_PYTHON = re.compile(r"\s*([%!?]|[\w., ]+=\s*[%!])|.*\?\s*$")

Statement = tuple[int, ast.stmt]
"""With the number of its cell, from 1; 0 in a Python file."""


class NotANotebook(ValueError):
    """It is no notebook of Python cells; the message says why."""


def read(path: Path, wanted: list[str]) -> list[Any]:
    """[names that are defined on the first level, modules that are imported anywhere, why it is not Python, line, place].

    Of a notebook, only what the functions in `wanted` need counts as imported.
    """
    try:
        if path.suffix == ".ipynb":
            found, fault, line, place = statements(path)
            kept = list(_needed(found, wanted))
        else:
            found = kept = [(0, node) for node in ast.parse(path.read_bytes()).body]
            fault, line, place = None, None, ""
    except SyntaxError as e:
        return [[], [], f"SyntaxError: {e.msg}", e.lineno, ""]
    except NotANotebook as e:
        return [[], [], str(e), None, ""]
    except (ValueError, RecursionError, MemoryError) as e:
        return [[], [], f"it cannot be parsed: {str(e) or type(e).__name__}", None, ""]
    names = set(defined([node for _, node in found]))
    imports = sorted({name for _, node in kept for name in imported(node)})
    return [sorted(names & set(wanted)) + sorted(names - set(wanted))[:MOST], imports[:MOST], fault, line, place]


# ---------------------------------------------------------------------------------------------------- statements


def defined(body: list[Any]) -> Iterator[str]:
    """The names that statements define on the first level, whichever way they run.

    >>> sorted(defined(ast.parse("import numpy as np\\nif x: y, z = 1, 2\\ndef f(a): b = a").body))
    ['f', 'np', 'y', 'z']
    """
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((a.asname or a.name).split(".")[0] for a in node.names)
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            yield from (n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))
        else:
            for part in ("body", "orelse", "finalbody", "handlers"):
                inner = getattr(node, part, [])
                for below in inner if isinstance(inner, list) else []:
                    yield from defined(below.body if isinstance(below, ast.ExceptHandler) else [below])


def imported(tree: ast.AST) -> Iterator[str]:
    """The modules that are imported, wherever and however, if their names stand there.

    >>> sorted(imported(ast.parse("import a.b; from c import d; importlib.import_module('e'); x = __import__('f')")))
    ['a.b', 'c', 'e', 'f']
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")
        elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in ("import_module", "__import__"):
            yield from (a.value for a in node.args[:1] if isinstance(a, ast.Constant) and isinstance(a.value, str))


def touched(node: ast.AST) -> Iterator[str]:
    """The names that a statement defines, writes into, or calls a method of; "*" where it may define any.

    >>> [sorted(touched(s)) for s in ast.parse("t[0].x = a\\nt.sort(key=b)\\nfrom m import *").body]
    [['t'], ['t'], ['*']]
    """
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom):
        yield from defined([node])
        return
    writes = isinstance(node, ast.Name | ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store)
    acts = node.value.func if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) else None
    target: Any = node if writes else acts if isinstance(acts, ast.Attribute) else None
    while isinstance(target, ast.Attribute | ast.Subscript):
        target = target.value
    if isinstance(target, ast.Name):
        yield target.id
    for child in ast.iter_child_nodes(node):
        yield from touched(child)


def _needed(found: list[Statement], wanted: list[str]) -> Iterator[Statement]:
    """The statements that functions need, in their order."""
    touches = [set(touched(node)) for _, node in found]
    need, kept, grown = {"*", *wanted}, set[int](), True
    while grown:
        new = {k for k, names in enumerate(touches) if k not in kept and names & need}
        need |= {n.id for k in new for n in ast.walk(found[k][1]) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
        kept, grown = kept | new, bool(new)
    yield from (found[k] for k in sorted(kept))


# ---------------------------------------------------------------------------------------------------- notebooks


def needed(path: Path, name: str) -> list[Statement]:
    """The statements of a notebook that a function needs."""
    return list(_needed(statements(path)[0], [name]))


def statements(path: Path) -> tuple[list[Statement], str | None, int | None, str]:
    """All statements of a notebook's code cells; and of the first cell that is not Python: why, line, and place."""
    found = list[Statement]()
    fault: tuple[str | None, int | None, str] = None, None, ""
    for number, cell in enumerate(code_cells(path.read_bytes()), 1):
        try:
            found += [(number, node) for node in ast.parse(python_of(cell)).body]
        except SyntaxError as e:
            fault = fault if fault[0] else (f"SyntaxError: {e.msg}", e.lineno, f"code cell {number}")
    return (found, *fault)


def code_cells(content: bytes) -> list[str]:
    """The text of every code cell.

    >>> code_cells(b'{"cells": [{"cell_type": "code", "source": ["x = 1"]}, {"cell_type": "markdown", "source": "y"}]}')
    ['x = 1']
    """
    try:
        whole = json.loads(content)
        language = whole.get("metadata", {}).get("language_info", {}).get("name", "python")
        cells = [cell for sheet in [whole, *whole.get("worksheets", [])] for cell in sheet.get("cells", [])]
        sources = [cell.get("source", cell.get("input", "")) for cell in cells if cell.get("cell_type") == "code"]
        texts = ["".join(source) for source in sources]
    except (ValueError, TypeError, AttributeError, RecursionError) as e:
        raise NotANotebook(f"it is no notebook: {e}") from None
    if language != "python":
        raise NotANotebook(f"it is a notebook of {language}, not of Python")
    return texts


def python_of(cell: str) -> str:
    """A cell with what is not Python taken out, its other lines where they were; raises SyntaxError where that does not help.

    >>> python_of("%matplotlib inline\\nx = (3\\n     % 2)\\nif x:\\n    !ls")
    'pass\\nx = (3\\n     % 2)\\nif x:\\n    pass'
    """
    lines = cell.split("\n")
    first = next((k for k, line in enumerate(lines) if line.strip()), 0)
    if lines[first].startswith("%%"):
        if lines[first].split()[0] not in ALSO_PYTHON:
            return ""
        lines[first] = ""
    while True:
        try:
            ast.parse("\n".join(lines))
            return "\n".join(lines)
        except SyntaxError as e:
            k = (e.lineno or 0) - 1
            if not 0 <= k < len(lines) or not NOT_PYTHON.match(lines[k]):
                raise
            lines[k] = lines[k][: len(lines[k]) - len(lines[k].lstrip())] + "pass"
