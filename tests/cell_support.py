"""What cells do in the tests: a module of its own, since each process that works on them must open it."""

from __future__ import annotations

import os
import signal
from typing import Any

from tabular_rlhf.cells import blas_threads


def deed(cell: tuple[str, int]) -> Any:
    """What a cell may do, good and bad."""
    kind, k = cell
    if kind == "raise":
        raise ValueError(f"no {k}")
    if kind == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return blas_threads() if kind == "threads" else k**2
