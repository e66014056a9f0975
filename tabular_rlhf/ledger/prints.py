"""What a row prints, executed: the sides of a clause must stand to each other as is printed, whichever of them the row's sides take."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tabular_rlhf.errors import InputError
from tabular_rlhf.ledger.record import Row
from tabular_rlhf.ledger.worlds import generic, tiny
from tabular_rlhf.symbols import Scope

CLOSE = 1e-7
"""Values that differ by less than this share of the largest are the same, for a print: a slip is far larger somewhere."""


@dataclass(frozen=True)
class Print:
    """One line as it is printed: whether it agrees with its function (None: it is not executed), and why not."""

    slug: str
    number: int
    tex: str
    agrees: bool | None
    reason: str = ""


@lru_cache(maxsize=4)
def reading(seed: int = 0) -> tuple[Scope, ...]:
    """The worlds on which `verify` executes what is printed: several prompts and tokens, an uneven reference, beta not 1, ties."""
    scopes = generic(seed)
    return scopes[1], scopes[3], scopes[9]


def statement_prints(row: Row, scopes: Iterable[Scope]) -> list[Print]:
    """The clauses of a row: the sides of each must stand to each other as is printed."""
    fit = [scope for scope in scopes if row.applies(scope)] or [scope for scope in tiny() if row.applies(scope)][-3:]
    return [_clause(row, k, text, fit) for k, text in enumerate(row.reading.texts, 1)]


def _clause(row: Row, k: int, text: str, scopes: list[Scope]) -> Print:
    try:
        line = row.reading.line(k)
        if len(line.sides) < 2 or not set(line.relations) <= {"=", "<=", ">="}:
            return Print(row.slug, 0, text, None, "it holds no chain of formulas")
        for scope in scopes:
            values = [np.asarray(side(scope), dtype=np.float64) for side in line.sides]
            for a, relation, b in zip(values, line.relations, values[1:], strict=False):
                with np.errstate(invalid="ignore"):  # where both are the same infinity
                    off = np.where(a == b, 0.0, {"=": np.abs(a - b), "<=": a - b, ">=": b - a}[relation])
                if np.max(off[~np.isnan(off)], initial=0.0) > CLOSE * max(1.0, float(np.max(np.abs(a[np.isfinite(a)]), initial=0.0))):
                    return Print(row.slug, 0, text, False, f"its sides differ on {scope.world.name}")
    except (InputError, ValueError) as e:
        return Print(row.slug, 0, text, None, e.must if isinstance(e, InputError) else "its sides are of other things")
    return Print(row.slug, 0, text, True)
