r"""The museum of disputes: what people argue about, each settled by a measurement that is made again whenever it is asked.

`record` says what a dispute is; one module a theme holds the records, named in `THEMES`.

>>> find("tis-unbiased").measured().verdict
'true under a condition'
"""

from __future__ import annotations

from importlib import import_module

from tabular_rlhf.disputes.record import DISPUTES, VERDICTS, Claim, Dispute, Measured, find

THEMES = ("groups", "batches", "moved", "divergences", "averages", "people")
"""The modules that hold the disputes: importing one enters them."""

CHAPTER = 10
"""The chapter that disputes belong to."""

for _theme in THEMES:
    import_module(f"{__name__}.{_theme}")

__all__ = ["CHAPTER", "DISPUTES", "THEMES", "VERDICTS", "Claim", "Dispute", "Measured", "find"]
