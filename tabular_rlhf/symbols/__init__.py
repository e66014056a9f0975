r"""The names a claim may use: each symbol of the subject with its meaning, shape and unit, computed for a world on demand.

A function says what it needs by naming its parameters, and a `Scope` supplies the values:

    def regret(value, J_x): return value - J_x          # both (P,), reward units

A symbol is itself such a function, so the table below reads like the notation page of a book.  What is *drawn* (a policy, a
second policy, a test function) is drawn once per world from a generator of its own, so that no answer depends on the order
in which names are looked up.

`table` holds the symbols of a world and of a policy; the other modules those of samples, pairs, laws, groups and estimators.
"""

from __future__ import annotations

from tabular_rlhf.symbols import table

# in the order of the printed table
from tabular_rlhf.symbols import samples, pairs, geometry, estimators, moved, solved, batch  # isort: skip
from tabular_rlhf.symbols.table import (
    LEVELS,
    SPELLINGS,
    SYMBOLS,
    Scope,
    Symbol,
    half_integers,
    is_formula,
    parameters,
    supplied,
    symbol,
    unknown_names,
)

__all__ = [
    "LEVELS",
    "SPELLINGS",
    "SYMBOLS",
    "Scope",
    "Symbol",
    "batch",
    "estimators",
    "geometry",
    "half_integers",
    "is_formula",
    "moved",
    "pairs",
    "parameters",
    "samples",
    "solved",
    "supplied",
    "symbol",
    "table",
    "unknown_names",
]
