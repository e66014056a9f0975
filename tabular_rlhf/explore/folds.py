"""`explore.folded`: an answer that is not seen before one has made up one's mind, where a notebook runs and where it is only read."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

from tabular_rlhf.errors import InputError, quoted
from tabular_rlhf.explore.svg import element


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
