"""`explore.derivation`: read a derivation one executed line at a time, on a world and at a beta of your choice.

What is shown is `derive(slug, world)` itself: the formula, its value on that world, whether the relation to the line before holds,
and the reason for the step.  Changing the world or beta executes all lines again.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tabular_rlhf.explore import bars
from tabular_rlhf.explore.panel import Control, Data, View, panel
from tabular_rlhf.explore.svg import element, spoken
from tabular_rlhf.told import number
from tabular_rlhf.world import NAMED, World, named_world

if TYPE_CHECKING:
    from tabular_rlhf.derivations import Derived

TOO_LARGE = ("zen",)
"""Named worlds that are too large to be read."""
ENTRIES = 4
"""Numbers of a line's value that are written out."""


def data(slug: str, *, world: World | None = None, beta: float | None = None, line: int | None = None) -> Data:
    """An executed derivation, and how far it is read.

    Args: world, the first named one that fits by default; beta, the world's by default; line, the last to be read (default: all).
    Returns: slug, title, source, world, beta, lines (how many were executed), line, steps (number, tex, mark, relation, reason,
    entries, error, ok), and broken, the first line that does not follow, or None.

    >>> shown = data("gibbs-optimum", line=3)
    >>> shown["world"], shown["lines"], shown["line"], [step["ok"] for step in shown["steps"][:3]]
    ('rational', 11, 3, [None, True, True])
    """
    world = fitting(slug)[0] if world is None else world
    return _cut(_derived(slug, world if beta is None else world.at(beta)), world.beta if beta is None else beta, line)


def _derived(slug: str, world: World) -> Derived:
    from tabular_rlhf.derivations import derive

    return derive(slug, world)


def _cut(found: Derived, beta: float, line: int | None) -> Data:
    record = found.json()
    head = {key: record[key] for key in ("slug", "title", "source", "world")}
    lines = len(found.steps)
    return {**head, "beta": beta, "lines": lines, "line": min(line or lines, lines), "steps": record["steps"], "broken": found.broken}


def fitting(slug: str) -> list[World]:
    """The named worlds in which a derivation can be executed and read; rational first, where it fits.  Raises for an unknown slug."""
    from tabular_rlhf.derivations import find
    from tabular_rlhf.symbols import Scope

    derivation = find(slug)
    named = [named_world(name) for name in sorted(NAMED, key=lambda name: name != "rational") if name not in TOO_LARGE]
    return [world for world in named if derivation.applies(Scope(world, 0))]


# ---------------------------------------------------------------------------------------------------- drawing


def html(shown: Data, paper: bool) -> str:
    """The lines as a table, the newest one set off by an arrow and bold; on paper all of them, formulas as plain text."""
    from tabular_rlhf import tex
    from tabular_rlhf.derivations.text import formulas

    title = element("strong", spoken(shown["title"]))
    said = f" on the world {shown['world']}, β = {number(shown['beta'], '.4g')} — {shown['source']}"
    caption = element("caption", title + spoken(said), style=f"{CELL};text-align:left;padding-bottom:8px")
    rows = []
    for step in shown["steps"][: None if paper else shown["line"]]:
        formula = spoken(tex.plain(step["tex"])) if paper else tex.html(step["tex"])
        reason = "".join(
            spoken(piece) if not is_formula else spoken(tex.plain(piece)) if paper else tex.html(piece)
            for is_formula, piece in formulas(step["reason"])
        )
        rows.append(_row(step, formula, reason, newest=step["number"] == shown["line"] and not paper))
    return element("table", caption + element("tbody", "".join(rows)), style="border-collapse:collapse;width:100%;table-layout:fixed")


CELL = "color:inherit;text-align:left;vertical-align:top;white-space:normal"
TICKS = {True: "✓", False: "✗", None: ""}


def _row(step: dict[str, Any], formula: str, reason: str, *, newest: bool) -> str:
    why = element("div", reason, style="margin:2px 0") + element("div", spoken(value(step)), style="margin:2px 0 6px")
    cells = (
        ("▶" if newest else "", "width:1.5em;padding:4px"),
        (str(step["number"]), "width:2em;padding:4px"),
        (spoken(f"{step['mark']} {TICKS[step['ok']]}"), "width:4.5em;padding:4px"),
        (element("div", formula, style="font-size:120%;overflow-x:auto") + why, "padding:4px"),
    )
    weight = "font-weight:bold;border-left:3px solid currentColor" if newest else "border-left:3px solid transparent"
    return element("tr", "".join(element("td", text, style=f"{CELL};{style}") for text, style in cells), style=weight)


def value(step: dict[str, Any]) -> str:
    """A line's value in words: its numbers with their labels, the first few of many."""
    shown = "; ".join(f"{label}: {number(v)}" if label else number(v) for label, v in step["entries"][:ENTRIES])
    return "value: " + shown + (f"; … ({len(step['entries'])} numbers)" if len(step["entries"]) > ENTRIES else "")


def words(shown: Data) -> list[str]:
    """How far one has read, and whether all is well."""
    at = f"Line {shown['line']} of {shown['lines']}."
    if shown["broken"] == shown["line"]:
        return [f"{at} It does not follow from the line before: the reading stops here."]
    worst = max(step["error"] for step in shown["steps"][: shown["line"]])
    return [f"{at} Every line so far follows (largest gap: {worst:.2g} of what rounding allows)."]


# ---------------------------------------------------------------------------------------------------- the panel


def view(slug: str, world: World | None = None) -> View:
    """Back, Next and a slider of lines; the world (yours, and the named ones that fit) and its beta."""
    worlds = [*([world] if world is not None else []), *fitting(slug)]
    by_name = {w.name: w for w in reversed(worlds)}
    first = worlds[0]
    lines = data(slug, world=first, line=1)["lines"]
    controls = (
        Control("line", "line", "how far to read", 1, "step", low=1, high=lines),
        Control("world", "world", "where it is executed", first.name, "choice", options=tuple((n, n) for n in reversed(by_name))),
        bars.beta_control(first),
    )

    @lru_cache(maxsize=256)
    def executed(name: str, beta: float) -> Derived:
        return _derived(slug, by_name[name].at(beta))

    def at(line: int, world: str, beta: float) -> Data:
        return _cut(executed(world, beta), beta, line)

    return View(controls, at, html, words)


def derivation(slug: str, world: World | str | None = None) -> Any:
    """A panel: a derivation, executed and read line by line.

    Args: slug, its name (an unknown one is refused with the nearest); world, or its name, the first one that fits by default.
    Raises: InputError, also for a world outside its hypotheses, or where ipywidgets is not installed.
    """
    return panel(view(slug, None if world is None else bars.a_world(world)))
