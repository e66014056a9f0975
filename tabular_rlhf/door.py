"""Imported first: while the package opens for its own command, Ctrl-C ends it quietly, with status 130, and not in a traceback.

A program of somebody else's that imports the package keeps its own ways.
"""

from __future__ import annotations

import os
import sys
from pathlib import PurePath
from types import TracebackType

COMMAND = PurePath(sys.argv[0] if sys.argv else "").stem == "tabular-rlhf"
MODULE = sys.argv[:1] == ["-m"] and "tabular_rlhf" in sys.orig_argv  # what `python -m` says while it looks for the module


def quietly(kind: type[BaseException], fault: BaseException, place: TracebackType | None) -> None:
    """An interruption in one word; everything else as before."""
    if issubclass(kind, KeyboardInterrupt):
        if sys.stderr is not None:
            print("interrupted", file=sys.stderr, flush=True)
        os._exit(130)
    sys.__excepthook__(kind, fault, place)


if COMMAND or MODULE:
    sys.excepthook = quietly
