"""The package's answers, closed to an answer: whoever is asked may use its tools, but not import the solution.

An import of these packages fails, in the child, with an error that says why; and where Landlock is in force their files cannot be read
(`landlock.around`).  Where it is not, a determined answer can take the refusal away, or read the files: look at what it imports.  The
module is loaded by its path in the child.
"""

from __future__ import annotations

import sys
from pathlib import Path

PACKAGE = "tabular_rlhf"
CLOSED = ("exercises", "ledger", "derivations", "check", "grading")
"""Where reference answers, sides of rows and lines of derivations stand, and what holds them."""


class Closed:
    """A finder that stands before all others and finds nothing: it refuses."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        first, _, rest = name.partition(".")
        if first == PACKAGE and rest.split(".")[0] in CLOSED:
            raise ImportError(f"an answer may use the package's tools, but not its answers: {name} is closed", name=name)


def close() -> None:
    """From now on the packages cannot be imported here.

    >>> Closed.find_spec("tabular_rlhf.exercises.record")
    Traceback (most recent call last):
    ...
    ImportError: an answer may use the package's tools, but not its answers: tabular_rlhf.exercises.record is closed
    """
    sys.meta_path.insert(0, Closed)


def folders(package: Path) -> list[str]:
    """Their folders."""
    return [str(package / name) for name in CLOSED]
