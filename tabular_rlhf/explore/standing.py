"""`explore.progress`: which exercises of the lesson are solved, judged anew from the functions that stand in the notebook.

Nothing is remembered: what counts is what is there now, and a restarted kernel forgets only what was not run again.

`explore.folded`: an answer that is not seen before one has made up one's mind, where a notebook runs and where it is only read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from tabular_rlhf.errors import InputError, quoted
from tabular_rlhf.explore.svg import element

MARKS = {True: "✓", False: "✗", None: "…"}
"""Solved, not right, and still open."""


@dataclass(frozen=True)
class Progress:
    """Where the exercises stand: a row each of slug, title, whether it is solved (None: open), and what the checker says."""

    rows: tuple[tuple[str, str, bool | None, str], ...]

    @property
    def solved(self) -> int:
        """How many are solved."""
        return sum(ok is True for _, _, ok, _ in self.rows)

    @property
    def headline(self) -> str:
        """A bar and two numbers.

        >>> Progress((("a", "A", True, "right"), ("b", "B", None, "not answered yet"))).headline
        '■□ 1 of 2 solved'
        """
        return f"{'■' * self.solved}{'□' * (len(self.rows) - self.solved)} {self.solved} of {len(self.rows)} solved"

    def __str__(self) -> str:
        return "\n".join([self.headline, *(f"{MARKS[ok]} {title} {slug}: {told}" for slug, title, ok, told in self.rows)])

    def _repr_html_(self) -> str:
        cells = [(MARKS[ok], escape(title), f"<code>{slug}</code>", escape(told)) for slug, title, ok, told in self.rows]
        rows = "".join(element("tr", "".join(element("td", c, style="text-align:left") for c in row)) for row in cells)
        return element("strong", self.headline) + element("table", element("tbody", rows))


def progress(notebook: str | None = None, answers: Mapping[str, Any] | None = None) -> Progress:
    """The exercises of a lesson, each judged as it stands.

    Args: notebook, a lesson's number, as "04" (default: every lesson of which an exercise stands in the notebook); answers, functions
    by name (default: all that the notebook defines).
    Returns: a `Progress`, which shows itself.  Raises: InputError outside a notebook, or for a lesson that asks nothing.

    >>> print(progress("09", {"rejection_rate": lambda: ...}).rows[0][:2])
    ('best-of-n-law', 'The law of the best of n')
    """
    from tabular_rlhf.check import check
    from tabular_rlhf.check.report import OPEN, STATUS
    from tabular_rlhf.exercises import EXERCISES

    found = _defined() if answers is None else answers
    lessons = {e.notebook for e in EXERCISES.values() if e.notebook and (e.name in found if notebook is None else e.notebook == notebook)}
    if not lessons:
        what = "no function named after an exercise" if notebook is None else quoted(notebook)
        raise InputError("progress must be of a lesson with exercises", got=what, remedy='run their cells, or name it, as "04"')
    rows = []
    for slug, exercise in EXERCISES.items():
        if exercise.notebook in lessons and (notebook is not None or exercise.name in found):
            status = check(slug, found[exercise.name]).status if exercise.name in found else "unanswered"
            rows.append((slug, exercise.title, None if status in OPEN else status == "right", STATUS[status]))
    return Progress(tuple(rows))


def _defined() -> Mapping[str, Any]:
    """What the running notebook has defined."""
    import sys

    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is None:
        raise InputError("answers must be given outside a notebook", got="none", remedy="progress(notebook, answers=globals())")
    names: Mapping[str, Any] = shell.user_ns
    return names


# ---------------------------------------------------------------------------------------------------- an answer, folded


@dataclass(frozen=True)
class Folded:
    """Something behind a line that unfolds; `shown` is the thing itself."""

    shown: Any
    line: str

    def __str__(self) -> str:
        return str(self.shown)

    def _repr_html_(self) -> str:
        form = getattr(self.shown, "_repr_html_", None)
        inside = form() if form is not None else element("pre", escape(str(self.shown), quote=False))
        return element("details", element("summary", escape(self.line, quote=False)) + inside)


def folded(shown: Any, line: str = "Have you written down your bet? Then unfold.") -> Folded:
    """What a cell shows, folded.

    Args: shown, anything that can be displayed; line, what is seen of it at first.  Raises: InputError where the line says nothing.

    >>> folded(1 / 2, "A half?")._repr_html_()
    '<details><summary>A half?</summary><pre>0.5</pre></details>'
    """
    if not line.strip():
        raise InputError("the line of what is folded must say something", got=quoted(line), remedy="leave it out")
    return Folded(shown, line)
