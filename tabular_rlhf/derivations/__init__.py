r"""Derivations executed line by line: `derive(slug)` runs every line of a classical argument on a world and measures every step.

`record` says what a line and a relation are, `execute` runs them, `text` shows them; one or more files a chapter hold the
derivations, named in `CHAPTERS`.
"""

from __future__ import annotations

from importlib import import_module

from tabular_rlhf.derivations.execute import Derived, Step, audit_derivations, derive, find
from tabular_rlhf.derivations.lines import RELATIONS, Line
from tabular_rlhf.derivations.record import DERIVATIONS, Derivation

CHAPTERS = (
    "chapter1",
    *("chapter3", "chapter3_fitting"),
    *("chapter4", "chapter4_tokens", "chapter4_relatives"),
    *("chapter5", "chapter5_tied"),
    *("chapter6", "chapter6_optimum", "chapter6_data"),
    *("chapter7", "chapter7_steps", "chapter7_groups"),
    *("chapter8", "chapter8_gradients", "chapter8_tokens"),
    "chapter9",
    *("chapter10_groups", "chapter10_moved"),
)
"""The modules that hold the derivations, in the order of the book: importing one enters its derivations."""

for _chapter in CHAPTERS:
    import_module(f"{__name__}.{_chapter}")

__all__ = ["CHAPTERS", "DERIVATIONS", "RELATIONS", "Derivation", "Derived", "Line", "Step", "audit_derivations", "derive", "find"]
