"""The formula of a row's function, as the book's file has it: the line that is run is the line that is shown."""

from __future__ import annotations

import ast
import linecache
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from tabular_rlhf.formula.printed import Printed
from tabular_rlhf.symbols import parameters


def formula(function: Callable[..., Any]) -> str:
    """A formula as it is read, the body of a lambda, or what a named function is called with and its first line of documentation.

    >>> formula(lambda p, r: sum(p * r))
    'sum(p * r)'
    >>> def twice(r):
    ...     "r, two times."
    ...     return 2 * r
    >>> formula(twice)
    'twice(r): r, two times.'
    """
    if isinstance(function, Printed):
        return str(function)
    if function.__name__ == "<lambda>":
        body = _body(function)
        if body is not None:
            return body
    about = (function.__doc__ or "").partition("\n")[0]
    name = "a function" if function.__name__ == "<lambda>" else function.__name__.lstrip("_")
    return f"{name}({', '.join(parameters(function))})" + (f": {about}" if about else "")


@lru_cache(maxsize=64)
def _lambdas(file: str) -> tuple[tuple[str, ...], dict[int, list[ast.Lambda]]]:
    """The lines of a file, and its lambdas by the line they start on."""
    lines = tuple(linecache.getlines(file))
    found: dict[int, list[ast.Lambda]] = {}
    try:
        tree = ast.parse("".join(lines))
    except SyntaxError:
        return lines, found
    for node in ast.walk(tree):
        if isinstance(node, ast.Lambda):
            found.setdefault(node.lineno, []).append(node)
    return lines, found


def _body(function: Callable[..., Any]) -> str | None:
    """The source of a lambda's body; None where its file cannot be read."""
    code = function.__code__
    lines, lambdas = _lambdas(code.co_filename)
    places = [(line, column) for line, _, column, _ in code.co_positions() if line is not None and column]
    here = lambdas.get(code.co_firstlineno, [])
    inside = [n for n in here if places and _start(n.body) <= max(places) < (n.body.end_lineno, n.body.end_col_offset)]
    if not inside:
        return None
    body = max(inside, key=lambda node: _start(node.body)).body  # the innermost
    one_line = body.lineno == body.end_lineno
    return lines[body.lineno - 1].encode()[body.col_offset : body.end_col_offset].decode() if one_line else ast.unparse(body)


def _start(node: ast.expr) -> tuple[int, int]:
    return node.lineno, node.col_offset
