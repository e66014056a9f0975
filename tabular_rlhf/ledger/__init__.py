r"""The ledger: every claim of the book as a record, executed on worlds, with its near misses refuted.

One file a chapter; `record` says what a row is, `symbols` which names a row may use, `audit` runs rows.
"""

from __future__ import annotations

from tabular_rlhf.ledger import chapter1, chapter2, chapter4, chapter4_relatives  # enters the rows
from tabular_rlhf.ledger.audit import Verdict, audit, refute
from tabular_rlhf.ledger.record import LEDGER, Row
from tabular_rlhf.ledger.symbols import SYMBOLS, Scope

__all__ = ["LEDGER", "SYMBOLS", "Row", "Scope", "Verdict", "audit", "chapter1", "chapter2", "chapter4", "chapter4_relatives", "refute"]
