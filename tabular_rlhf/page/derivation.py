"""A derivation as the page shows it: its lines, the value of each on the page's own world, and what a wrong line does to it.

Numbers that only measure rounding are not printed: they differ between machines.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

from tabular_rlhf.derivations import Derived, derive
from tabular_rlhf.derivations import find as find_derivation
from tabular_rlhf.page import tilt
from tabular_rlhf.page.numbers import fixed, greek
from tabular_rlhf.tex import html
from tabular_rlhf.world import World

SLUG = "gibbs-optimum"


def world() -> World:
    """The world of section 1 as the page opens: beta is not 1, so that a forgotten beta shows."""
    i, j, k = tilt.START
    return tilt.world(tilt.BETAS[i], tilt.REWARDS[j], tilt.REWARDS[k])


def compute(slug: str = SLUG) -> dict[str, Any]:
    """The derivation as it stands, then with each wrong line that this world refutes."""
    w = world()
    found = [("no: every line as it should be", 0, derive(slug, w)), *broken(slug, w)]
    return {"choice": [label for label, _, _ in found], "at": [k for _, k, _ in found], "cells": [cell(d) for _, _, d in found]}


def broken(slug: str, w: World) -> Iterator[tuple[str, int, Derived]]:
    """(label, line number, what happens) of every wrong line refuted here: some need two prompts, or another beta."""
    for k, line in enumerate(find_derivation(slug).lines, 1):
        for diagnosis, wrong in line.wrong.items():
            found = derive(slug, w, lines={k: wrong})
            if found.broken == k:
                yield f"line {k}: {greek(diagnosis)}", k, found


def cell(found: Derived) -> dict[str, Any]:
    """The lines that were read: their values as (label, number), and whether each follows; and where the reading ended."""
    end = "Every line follows from the one before, to rounding."
    if found.broken is not None:
        end = f"Line {found.broken} does not follow from line {found.broken - 1}: the reading stops there."
    steps = [{"value": [[name(label), fixed(v)] for label, v in s.entries], "ok": s.ok} for s in found.steps]
    return {"steps": steps, "end": end}


def name(label: str) -> str:
    """A response in the words of the page.

    >>> name("knock ."), name("")
    ('one knock', '')
    """
    return tilt.NAMES.get(label, label)


def lines(slug: str = SLUG) -> str:
    """The lines as a list, formulas in MathML; values are left to the script, because they depend on the choice."""
    items = [
        f'<li><span class="place">{s.number}</span><span class="mark">{escape(s.mark)}</span>{html(s.tex)}'
        f'<div><p class="reason">{escape(greek(s.reason))}</p><p class="number"></p></div></li>'
        for s in derive(slug, world()).steps
    ]
    return "\n".join(items)
