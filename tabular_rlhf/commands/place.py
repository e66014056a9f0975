"""Where work is done: the options of every command that shares it out."""

from __future__ import annotations

import argparse

from tabular_rlhf.cells import BACKENDS


def declare_place(parser: argparse.ArgumentParser) -> None:
    """The options that say where cells run."""
    parser.add_argument("--jobs", type=int, metavar="N", help="processes here (default: as many as there are processors)")
    parser.add_argument("--backend", default="processes", metavar="NAME", help=f"{' or '.join(BACKENDS)} (default: processes)")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of dask, such as tcp://127.0.0.1:8786 (pip install tabular-rlhf[cluster])")
