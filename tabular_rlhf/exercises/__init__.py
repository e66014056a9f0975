"""The graded exercises: a table of records, one module a subject, in the order of the course.

>>> print(EXERCISES["regret"].signature)
def regret(beta, log_p, log_p_star):
"""

from __future__ import annotations

from importlib import import_module

from tabular_rlhf.exercises.proof import PROOFS, Proof
from tabular_rlhf.exercises.record import EXERCISES, Exercise, add, exercise

CHAPTERS = (
    "language",
    "challenges",
    "preferences",
    "optimum",
    "geometry",
    "direct",
    "gradients",
    "estimators",
    "selection",
    "capstone",
    "groups",
    "moved",
    "batches",
    "beyond",
    "trainer",
    "inference",
)
"""The modules that hold the exercises: importing one enters its exercises."""

for _chapter in CHAPTERS:
    import_module(f"{__name__}.{_chapter}")


def every() -> dict[str, Exercise | Proof]:
    """All that can be asked: answers that are functions, and derivations."""
    return {**EXERCISES, **PROOFS}


__all__ = ["CHAPTERS", "EXERCISES", "PROOFS", "Exercise", "Proof", "add", "every", "exercise"]
