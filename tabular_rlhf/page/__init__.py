"""One HTML file that needs nothing: RLHF as an instrument, with pictures that move and tables that Python wrote.

The pictures are computed while they are dragged, by the exact core (`CORE`, scripts that know of no screen): the tests hold it to this
package at random states.  So is the first table: `tilt` says where it begins.  The others are computed beforehand: `flags`, `zoo` and
`derivation` make them, `compute` puts them together, `tables.js` shows them.  `page.html` and the style sheets are what a person sees;
`build` puts all into one file, by plain replacement of `{{markers}}`.  Bytes depend on nothing but the data.

| scripts | what they do |
|---|---|
| `core_*.js` | laws, flags, flows and their ends, pairs, clicks, groups, a line (by `lexicon`), a class without memory, best-of-n |
| `names`, `kit`, `triangle`, `state` | words and formats, drawing, the simplex and its handles, what the address says |
| `act_*.js` | one moving picture each |
| `tables`, `begin` | the tables of Python; the controls, and the first drawing |
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tabular_rlhf import told
from tabular_rlhf.errors import InputError
from tabular_rlhf.files import read_json
from tabular_rlhf.page import derivation, flags, lexicon, tilt, zoo
from tabular_rlhf.page.fragments import pieces
from tabular_rlhf.page.numbers import changes

SCHEMA = "tabular-rlhf/page/1"
HERE = Path(__file__).parent
CORE = ("laws", "flags", "flow", "ends", "pairs", "clicks", "groups", "read", "line", "memory", "best")
"""The exact core, in the order in which its scripts build on one another; the last names what they offer."""
DRAWN = (
    "names",
    "tables",
    "state",
    "kit",
    "triangle",
    *(f"act_{a}" for a in ("path", "policy", "pair", "annotator", "best", "groups", "line")),
    "begin",
)
"""What draws with it."""
MARKER = re.compile(r"\{\{([a-z]+(?::[a-z]+)?)\}\}")
DATA = re.compile(r'(?<=<script type="application/json" id="data">\n).*?(?=\n</script>)', re.DOTALL)


def compute() -> dict[str, Any]:
    """Everything that the page can show: some fifteen seconds of work, most of it projections and flows."""
    return {"schema": SCHEMA, "tilt": tilt.compute(), "flags": flags.compute(), "zoo": zoo.compute(), "derivation": derivation.compute()}


def as_json(data: dict[str, Any]) -> str:
    r"""The text inside the page's script element: one line a section, and no "</" that would end the element.

    >>> print(as_json({"tilt": {"p": ["0.5"]}, "math": "<mi>x</mi>"}))
    {
    "tilt":{"p":["0.5"]},
    "math":"<mi>x<\/mi>"
    }
    """
    lines = [f"{_dump(key)}:{_dump(value)}" for key, value in data.items()]
    return "{\n" + ",\n".join(lines) + "\n}"


def _dump(value: Any) -> str:
    return told.as_json(value, tight=True).replace("</", r"<\/")


def build(data: Mapping[str, Any] | None = None) -> str:
    """The page, with the given data or with today's."""
    text = as_json(dict(compute() if data is None else data))
    found = {**pieces(), "css": _read("page.css") + _read("acts.css"), "data": text}
    drawn = "".join(replaced(_read(f"{name}.js"), found) for name in DRAWN)
    return replaced(_read("page.html"), {**found, "js": f'"use strict";\n(() => {{\nconst C = {core()};\n{drawn}}})();\n'})


def core() -> str:
    """The exact core alone, as an expression of JavaScript: an object of functions."""
    scripts = "".join(_read(f"core_{name}.js") for name in CORE)
    return "(() => {\n" + replaced(scripts, {"lexicon": told.as_json(lexicon.lines(), tight=True)}) + "})()"


def laws() -> str:
    """Of the core, the laws alone: what a smaller picture needs, and what seldom changes."""
    return "(() => {\n" + _read("core_laws.js") + "return { sum, dot, exp, log, kl, gibbs, value, regret };\n})()"


def replaced(template: str, found: Mapping[str, str]) -> str:
    """A template with its markers replaced, each once and not again inside what replaced it.

    >>> replaced("a {{js}} c", {"js": "{{css}}"})
    'a {{css}} c'
    """
    return MARKER.sub(lambda m: found[m[1]], template)


def embedded(page: str) -> dict[str, Any]:
    """The data inside a page.  Raises InputError where there are none."""
    inside = DATA.search(page)
    try:
        data: dict[str, Any] = read_json(inside[0] if inside else "")
    except ValueError:
        raise InputError("a page must hold its data as JSON", got="none that can be read", remedy="write it anew") from None
    return data


def check(page: str, data: Mapping[str, Any] | None = None) -> list[str]:
    """Where a page differs from today's: numbers by more than a unit of the last printed digit, all else at all."""
    today = build(data)
    old, new = (DATA.sub("", text, count=1).splitlines() for text in (page, today))
    changed = [i for i, pair in enumerate(zip(old, new, strict=False), 1) if pair[0] != pair[1]]
    around = [f"line {changed[0]}: {old[changed[0] - 1].strip()[:60]!r} is not today's"] if changed else []
    around += [f"{len(old)} lines beside the data, {len(new)} today"] if len(old) != len(new) else []
    return [*around, *changes(embedded(page), embedded(today), "data")]


def _read(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")
