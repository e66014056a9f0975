"""One row, explained: the statement, a worked small instance with numbers to check by hand, and the near misses refuted.

`worked` makes a record of plain values, which the command prints as text (`explain`) or as JSON.  Everything that a number is
computed from stands next to it: the responses with p_ref, r and p*, and what was drawn.  Entries of arrays are labeled, and
responses are in dictionary order everywhere, whatever their order in memory.

**Formulas** of a row's functions are as the book's file has them: the line that is run is the line that is shown.
"""

from __future__ import annotations

import ast
import linecache
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from tabular_rlhf.formula.printed import Printed, Together
from tabular_rlhf.ledger import worlds
from tabular_rlhf.ledger.audit import Refutation, refute
from tabular_rlhf.ledger.explain_text import Record, render
from tabular_rlhf.ledger.record import Row, bare, error_of
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.symbols import SYMBOLS, Scope, parameters
from tabular_rlhf.tolerance import roundings
from tabular_rlhf.world import coin, fork, rational

SCHEMA = "tabular-rlhf/explain/1"
AXES = (("P", "S", "V"), ("P", "N", "N"), ("P", "N"), ("P", "S"), ("N", "N"), ("S", "V"), ("P",), ("V",))
"""What the last axes of a side's value may stand for; see `meaning`."""
SHOWN = {"logits": "pi"}
"""Drawn symbols that read better as another."""


def explain(row: Row, *, seed: int = 0) -> str:
    """Readable text for a terminal of 120 columns."""
    return render(worked(row, seed=seed))


def worked(row: Row, *, seed: int = 0) -> Record:
    """The explanation as plain values: text, numbers, lists, dictionaries."""
    scope = next(s for s in (Scope(w, seed) for w in (rational(), fork(), coin())) if row.applies(s))
    tiny = worlds.tiny(seed)
    refuted = [refute(row, miss, tiny) for miss in row.near_misses]
    scopes = list({id(found.scope): found.scope for found in refuted if found}.values())
    first = next(iter(row.sides))
    values = {name: row.evaluate(scope, name) for name in row.sides}
    axes = []
    for k in range(len(row.parts)):
        examples = [(scope, values[first][k])]
        examples += [(f.scope, f.right) for f, m in zip(refuted, row.near_misses, strict=True) if f and m.part == k]
        axes.append(meaning(examples))
    return {
        "slug": row.slug,
        "chapter": row.chapter,
        "statement": row.statement,
        "letters": dict(row.letters),
        "source": row.source,
        "note": row.note,
        "symbols": legend(row),
        "world": instance(scope, row.functions),
        "sides": {
            name: formula(bare(side)) + (f"   (to {error_of(side):.0e} of its size)" if error_of(side) else "")
            for name, side in row.sides.items()
        },
        "parts": [
            {
                "part": part,
                "entries": labels(scope.world.mdp, np.shape(values[first][k]), axes[k]),
                "values": {name: ordered(parts[k], scope.world.mdp, axes[k]) for name, parts in values.items()},
            }
            for k, part in enumerate(row.parts)
        ],
        "largest_error": max(e for errors in row.errors(scope).values() for e in errors),
        "roundings": roundings(scope),
        "tiny_worlds": [
            instance(s, [bare(row.sides[first]), *(m.wrong for m, f in zip(row.near_misses, refuted, strict=True) if f and f.scope is s)])
            for s in scopes
        ],
        "near_misses": [
            {"diagnosis": m.diagnosis, "formula": formula(m.wrong), "part": row.parts[m.part], **_refutation(f, scopes, axes[m.part])}
            for m, f in zip(row.near_misses, refuted, strict=True)
        ],
    }


def _refutation(found: Refutation | None, scopes: Sequence[Scope], axes: tuple[str, ...]) -> Record:
    if found is None:
        return {"tiny_world": None}
    mdp, right = found.scope.world.mdp, np.asarray(found.right)
    return {
        "tiny_world": 1 + next(i for i, s in enumerate(scopes) if s is found.scope),
        "entries": labels(mdp, right.shape, axes),
        "right": ordered(right, mdp, axes),
        "wrong": ordered(found.wrong, mdp, axes),
    }


# ---------------------------------------------------------------------------------------------------- the world


def legend(row: Row) -> dict[str, str]:
    """The symbols that the sides and the near misses name, with their meaning, shape and unit."""
    functions = [bare(side) for side in row.sides.values()] + [m.wrong for m in row.near_misses]
    names = dict.fromkeys(n for f in functions for n in parameters(f) if n in SYMBOLS)
    return {n: ", ".join(filter(None, (SYMBOLS[n].meaning, SYMBOLS[n].shape, SYMBOLS[n].unit))) for n in names}


def drawn(functions: Iterable[Callable[..., Any]]) -> list[str]:
    """The drawn symbols that the functions use, directly or through other symbols."""
    used: dict[str, None] = {}

    def visit(names: tuple[str, ...]) -> None:
        for name in names:
            needs = parameters(SYMBOLS[name].compute) if name in SYMBOLS else ()
            if "rng" in needs:
                used[SHOWN.get(name, name)] = None
            visit(tuple(n for n in needs if n != "rng"))

    for function in functions:
        visit(parameters(function))
    return list(used)


def instance(scope: Scope, functions: Sequence[Callable[..., Any]]) -> Record:
    """A world with every response in dictionary order, and the drawn symbols that the functions use."""
    w, m = scope.world, scope.world.mdp
    names = drawn(functions)
    columns = {"p_ref": scope["p_ref"], "r": w.r, "p*": scope["p_star"]} | ({"p": scope["p"]} if "pi" in names else {})
    responses = [
        {"response": label, **{name: float(column[x, i]) for name, column in columns.items()}}
        for label, (x, i) in zip(_labels(m, ("P", "N")), ((x, i) for x in range(m.P) for i in m.lexicographic.tolist()), strict=True)
    ]
    tables = {}
    for name in names:
        value, axes = scope[name], _declared(SYMBOLS[name].shape)
        tables[name] = {
            "rows": labels(m, np.shape(value)[:-1], axes[:-1]),
            "columns": labels(m, np.shape(value)[-1:], axes[-1:]),
            "values": ordered(value, m, axes),
        }
    sizes: Record = {"name": w.name, "vocabulary": list(m.vocabulary), "horizon": m.H, "eos": m.eos, "beta": w.beta}
    return sizes | {"prompts": list(m.prompts), "mu": w.mu.tolist(), "responses": responses, "drawn": tables}


def _declared(shape: str) -> tuple[str, ...]:
    """The axes of a symbol from its shape as text.

    >>> _declared("(P, S, V)"), _declared("(P,)"), _declared("scalar")
    (('P', 'S', 'V'), ('P',), ())
    """
    return tuple(shape.strip("()").replace(",", " ").split()) if shape.startswith("(") else ()


# ---------------------------------------------------------------------------------------------------- entries of arrays


def meaning(examples: Sequence[tuple[Scope, Any]]) -> tuple[str, ...]:
    """What the axes of a value stand for: the longest reading of its last axes that fits all of its shapes; "" for no reading."""
    ndim = np.ndim(examples[0][1])
    for axes in AXES:
        start = ndim - len(axes)
        if start >= 0 and all(np.shape(value)[start:] == tuple(int(scope[a]) for a in axes) for scope, value in examples):
            return ("",) * start + axes
    return ("",) * ndim


def _axis(mdp: TokenMDP, axis: str, size: int) -> tuple[Any, list[str]]:
    """The order in which people see an axis, and the names of its entries."""
    if axis == "N":
        return mdp.lexicographic, [mdp.text(i) for i in mdp.lexicographic.tolist()]
    if axis == "S":
        order = np.lexsort(mdp.state_tokens().T[::-1])
        return order, [mdp.state_text(i) or "start" for i in order.tolist()]
    names = {"V": list(mdp.vocabulary), "P": list(mdp.prompts) if mdp.P > 1 else [""]}
    return np.arange(size), names.get(axis) or ([f"#{i}" for i in range(size)] if size > 1 else [""])


def labels(mdp: TokenMDP, shape: tuple[int, ...], axes: tuple[str, ...]) -> list[str]:
    """A name for every entry, first axis slowest: the words of its axes, one space and a bar between them."""
    names = [""]
    for axis, size in zip(axes, shape, strict=True):
        names = [" | ".join(filter(None, (a, b))) for a in names for b in _axis(mdp, axis, size)[1]]
    return names


def _labels(mdp: TokenMDP, axes: tuple[str, ...]) -> list[str]:
    return labels(mdp, tuple({"P": mdp.P, "N": mdp.N}[a] for a in axes), axes)


def ordered(value: Any, mdp: TokenMDP, axes: tuple[str, ...]) -> list[float]:
    """The entries of an array in the order of their labels."""
    a = np.asarray(value, dtype=np.float64)
    for k, axis in enumerate(axes):
        a = np.take(a, _axis(mdp, axis, a.shape[k])[0], axis=k)
    return [float(v) for v in a.ravel()]


# ---------------------------------------------------------------------------------------------------- formulas as the file has them


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
    if isinstance(function, Together):
        return ", ".join(map(formula, function.parts))
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
