"""One HTML file that needs nothing: RLHF with sliders, every position computed beforehand by this package.

`tilt`, `flags`, `zoo` and `derivation` compute the sections, `data` puts them together; `page.html`, `page.css` and `page.js` are
what a person sees; `build` writes the last three around the first, by plain replacement of `{{markers}}`.  The script only looks
up and draws.  Bytes depend on nothing but the data.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tabular_rlhf.errors import InputError
from tabular_rlhf.files import read_json
from tabular_rlhf.page.data import as_json, compute
from tabular_rlhf.page.fragments import pieces
from tabular_rlhf.page.numbers import changes

HERE = Path(__file__).parent
MARKER = re.compile(r"\{\{([a-z]+(?::[a-z]+)?)\}\}")
DATA = re.compile(r'(?<=<script type="application/json" id="data">\n).*?(?=\n</script>)', re.DOTALL)


def build(data: Mapping[str, Any] | None = None) -> str:
    """The page, with the given data or with today's."""
    text = as_json(dict(compute() if data is None else data))
    found = {**pieces(), "css": _read("page.css"), "data": text}
    return replaced(_read("page.html"), {**found, "js": replaced(_read("page.js"), found)})


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
