"""The pieces of HTML that come from registries: options of selects, the claims shown, the lines of the derivation, shapes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from html import escape

from tabular_rlhf.estimators import ESTIMATORS, PLACEMENTS
from tabular_rlhf.ledger import LEDGER
from tabular_rlhf.losses import LOSSES
from tabular_rlhf.page import derivation
from tabular_rlhf.page.numbers import greek
from tabular_rlhf.tex import html

SHOWS = {
    "tilt": ("gibbs-optimum", "optimal-value", "regret-is-kl", "beta-limits"),
    "geometry": ("e-geodesic", "m-projection-counts", "mode-seeking", "reverse-kl-projection"),
    "flags": ("kl-estimator-theorem", "kl-placement", "k3"),
    "zoo": ("direct-family", "dpo-loss", "dpo-deterministic-labels", "ipo-two-arms"),
    "derivation": ("gibbs-optimum", "lagrange-multiplier"),
}
"""The claims that each section shows."""

SHAPES = {
    "square": "M-4.5-4.5H4.5V4.5H-4.5Z",
    "star": "M0-8L2.1-2.7 7.6-2.5 3.3.9 4.7 6.5 0 3.3-4.7 6.5-3.3.9-7.6-2.5-2.1-2.7Z",
    "circle": "M-5.5 0A5.5 5.5 0 1 1 5.5 0A5.5 5.5 0 1 1-5.5 0Z",
    "triangle": "M0-6.8L6.2 4.4H-6.2Z",
    "diamond": "M0-7.5L7.5 0 0 7.5-7.5 0Z",
}
"""Marks around the origin: every kind of point has a shape of its own, so none is told by color alone."""


def pieces() -> dict[str, str]:
    """Marker -> HTML, for every marker in the template but style, script and data."""
    return {
        **{f"claims:{section}": links(slugs) for section, slugs in SHOWS.items()},
        **{f"shape:{name}": path for name, path in SHAPES.items()},
        "shapes": json.dumps(SHAPES),
        "options:estimator": options((name, name) for name in ESTIMATORS),
        "options:placement": options((p.name, f"{p.name}: {p.meaning}") for p in PLACEMENTS.values()),
        "options:loss": options((name, name) for name in LOSSES),
        "options:wrong": options((label, label) for label in derivation.compute()["choice"]),
        "claims": claims(),
        "derivation": derivation.lines(),
    }


def options(entries: Iterable[tuple[str, str]]) -> str:
    """Options of a select: (value, what is read).

    >>> options([("k1", "k1 <L>")])
    '<option value="k1">k1 &lt;L&gt;</option>'
    """
    return "".join(f'<option value="{escape(value)}">{escape(text)}</option>' for value, text in entries)


def links(slugs: Iterable[str]) -> str:
    """Links from a section to the claims it shows."""
    return "shows " + " ".join(f'<a href="#claim-{slug}"><code>{slug}</code></a>' for slug in slugs)


def claims() -> str:
    """Every claim shown, once, in the order of the book: its name, its formula, its source."""
    shown = {slug for slugs in SHOWS.values() for slug in slugs}
    return "\n".join(
        f'<article class="claim" id="claim-{slug}" tabindex="-1"><h3><code>{slug}</code></h3>{html(row.statement)}'
        f"<p>Chapter {row.chapter}. {prose(row.source)}</p></article>"
        for slug, row in LEDGER.items()
        if slug in shown
    )


def prose(text: str) -> str:
    """A sentence of the registries as HTML: symbols as letters, and `code` as code.

    >>> prose("beta > 0; see `tabular-rlhf losses`")
    'β &gt; 0; see <code>tabular-rlhf losses</code>'
    """
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(greek(text)))
