"""What the tests of the grader share: a judge who asks for twice x, an honest answer, and short limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tabular_rlhf.grading import Limits
from tabular_rlhf.grading.marks import Grades, grade
from tabular_rlhf.grading.submission import of

QUICK = Limits(call=0.3, answer=0.8, first_lines=0.4, still=0.4, memory=700)
HONEST = "import numpy as np\ndef honest(x):\n    return 2.0 * x\n"


@dataclass
class Verdict:
    ok: bool
    status: str
    told: str = ""

    def json(self) -> dict[str, Any]:
        return {"reason": self.told}

    def __str__(self) -> str:
        return f"{self.status}\n  {self.told}"

    def _repr_html_(self) -> str:
        return f"<p>{self.told}</p>"


def judge(slug: str, function: Callable[..., Any]) -> Verdict:
    """Every exercise of these tests asks for 2x."""
    for x in (np.arange(3.0), np.array([[1.5, -2.0]]), np.array(-0.25)):
        answer = np.asarray(function(x))
        if answer.dtype.kind not in "fiu" or answer.shape != x.shape or not np.array_equal(answer, 2.0 * x):
            return Verdict(False, "wrong", f"it is not twice x at {x.tolist()}")
    return Verdict(True, "right")


def marks(source: str, *slugs: str, without: tuple[str, ...] = ()) -> Grades:
    return grade(of("answers.py", source.encode()), dict.fromkeys(slugs, 1.0), judge, limits=QUICK, without=without)
