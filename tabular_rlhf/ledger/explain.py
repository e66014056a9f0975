"""One row, explained: the statement, a worked small instance with numbers to check by hand, and the near misses refuted."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

import numpy as np

from tabular_rlhf.ledger.audit import Refutation, refute, tiny_scopes
from tabular_rlhf.ledger.record import Row, roundings
from tabular_rlhf.ledger.symbols import SYMBOLS, Scope, parameters
from tabular_rlhf.world import World, coin, fork, rational

WIDTH = 100


def explain(row: Row, *, seed: int = 0) -> str:
    """Readable text for a terminal of 100 columns."""
    lines = [f"{row.slug}  (chapter {row.chapter})", "=" * (len(row.slug) + 13), ""]
    lines += textwrap.wrap(row.statement, WIDTH, initial_indent="  ", subsequent_indent="  ", break_long_words=False)
    lines += ["", *textwrap.wrap(f"Source: {row.source}", WIDTH)]
    if row.note:
        lines += textwrap.wrap(row.note, WIDTH)
    scope = next(s for s in (Scope(w, seed) for w in (rational(), fork(), coin())) if row.applies(s))
    lines += ["", f"Worked on the world `{scope.world.name}`", "", *describe(scope), *drawn(row, scope), ""]
    lines += list(_sides(row, scope))
    lines += ["", "Near misses (each on the smallest world that refutes it)"]
    tiny = tiny_scopes(seed)
    for miss in row.near_misses:
        lines += _miss(row, miss.diagnosis, refute(row, miss, tiny), miss.part)
    return "\n".join(lines)


def describe(scope: Scope) -> list[str]:
    """The given world in words: sizes, then every response with its reference probability, reward and optimum."""
    w: World = scope.world
    m = w.mdp
    ending = f"EOS {m.eos!r}" if m.eos is not None else "no EOS"
    head = f"  vocabulary {' '.join(map(repr, m.vocabulary))}, horizon {m.H}, {ending}, beta = {w.beta:g}"
    head += "" if m.P == 1 else f", {m.P} prompts with mu = {numbers(w.mu)}"
    lines = [head, f"  {'response':<18}{'p_ref':>12}{'r':>12}{'p*':>12}"]
    for x in range(m.P):
        for i in m.lexicographic.tolist():
            said = m.text(i, x if m.P > 1 else None)
            lines.append(f"  {said:<18}{scope['p_ref'][x, i]:>12.6g}{w.r[x, i]:>12.6g}{scope['p_star'][x, i]:>12.6g}")
    return lines


def drawn(row: Row, scope: Scope) -> list[str]:
    """The values of the drawn symbols that the row's sides use, so that every number can be recomputed."""
    used: list[str] = []

    def visit(names: tuple[str, ...]) -> None:
        for name in names:
            needs = parameters(SYMBOLS[name].compute) if name in SYMBOLS else ()
            if "rng" in needs and name not in used:
                used.append(name)
            visit(tuple(n for n in needs if n != "rng"))

    for function in row.functions:
        visit(parameters(function))
    shown = {"logits": "pi", "log_pi_2": "log_pi_2"}
    return [f"  {shown.get(name, name)} = {numbers(scope[shown.get(name, name)])}   (drawn)" for name in used]


def numbers(x: Any, most: int = 12, *, shape: bool = True) -> str:
    """An array as plain numbers, shortened."""
    a = np.asarray(x, dtype=np.float64)
    if a.ndim == 0:
        return f"{float(a):.6g}"
    flat = [f"{float(v):.6g}" for v in a.ravel()[:most]]
    tail = ", ..." if a.size > most else ""
    suffix = f"   shape {a.shape}" if shape and a.ndim > 1 else ""
    return f"[{', '.join(flat)}{tail}]{suffix}"


def _sides(row: Row, scope: Scope) -> Iterator[str]:
    values = {name: row.evaluate(scope, name) for name in row.sides}
    for k, part in enumerate(row.parts):
        if part:
            yield f"  {part}"
        for name, parts in values.items():
            yield f"    {name:<44} {numbers(parts[k])}"
    worst = max(e for errors in row.errors(scope).values() for e in errors)
    yield f"  largest difference: {worst:.2g} of the rounding bound (about {roundings(scope):.0f} roundings a term)"


def _miss(row: Row, diagnosis: str, found: Refutation | None, part: int) -> list[str]:
    if found is None:
        return [f"  - {diagnosis}: NOT refuted"]
    what = f"{row.parts[part]}: " if row.parts[part] else ""
    m = found.scope.world.mdp
    count = "1 response" if found.responses == 1 else f"{found.responses} responses"
    where = f"{count} (V={m.V}, H={m.H}, P={m.P}{', EOS' if m.eos is not None else ''}), beta = {found.scope.world.beta:g}"
    return [
        f"  - {diagnosis}",
        f"      on {where}",
        f"      {what}right {numbers(found.right, 4, shape=False)}, wrong {numbers(found.wrong, 4, shape=False)}",
    ]
