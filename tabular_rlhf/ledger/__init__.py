r"""The ledger: every claim of the book as a record, executed on worlds, with its near misses refuted.

A chapter's rows stand in one or more modules, named in `CHAPTERS`; `record` says what a row is, `audit` runs rows.
"""

from __future__ import annotations

from importlib import import_module

from tabular_rlhf.ledger.audit import Verdict, audit, refute
from tabular_rlhf.ledger.record import LEDGER, Row
from tabular_rlhf.symbols import SYMBOLS, Scope

CHAPTERS = (
    *("chapter1", "chapter2"),
    *("chapter3", "chapter3_fitting", "chapter3_limits"),
    *("chapter4", "chapter4_tokens", "chapter4_relatives"),
    *("chapter5", "chapter5_roads"),
    *("chapter6", "chapter6_data", "chapter6_family", "chapter6_games"),
    *("chapter7", "chapter7_groups", "chapter7_lengths", "chapter7_steps"),
    *("chapter8", "chapter8_tokens", "chapter8_gradients"),
    "chapter9",
    *("chapter10_groups", "chapter10_moved", "chapter10_tokens", "chapter10_batches", "chapter10_laws", "chapter10_people"),
    *("chapter10_lattice", "chapter10_beyond"),
)
"""The modules that hold the rows, in the order of the book: importing one enters its rows."""

for _chapter in CHAPTERS:
    import_module(f"{__name__}.{_chapter}")

__all__ = ["CHAPTERS", "LEDGER", "SYMBOLS", "Row", "Scope", "Verdict", "audit", "refute"]
