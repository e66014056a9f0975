r"""A study: a grid of worlds, algorithms, settings and seeds, each cell a run of the simulator, into one tidy table with intervals.

`record` says what a study is, makes its cells, and keeps what is done so that an interruption costs nothing, `read` reads one from a TOML
file, `report` makes the tables, `figure` the picture.  A cell's numbers depend on the cell alone: one process, several, a cluster
and a resumed study give the same bits.
"""

from __future__ import annotations

from tabular_rlhf.studies.read import EXAMPLE, read_study
from tabular_rlhf.studies.record import Cell, Study, conduct
from tabular_rlhf.studies.report import as_csv, render, summarize

__all__ = ["EXAMPLE", "Cell", "Study", "as_csv", "conduct", "read_study", "render", "summarize"]
