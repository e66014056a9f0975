"""The pieces of HTML that come from registries: options of selects, the claims shown, the lines of the derivation, shapes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape
from itertools import groupby

from tabular_rlhf import __version__, told
from tabular_rlhf.disputes import DISPUTES, Dispute
from tabular_rlhf.estimators import ESTIMATORS, PLACEMENTS
from tabular_rlhf.figures.glyphs import GLYPHS
from tabular_rlhf.ledger import LEDGER
from tabular_rlhf.losses import LOSSES
from tabular_rlhf.page import derivation
from tabular_rlhf.page.numbers import greek
from tabular_rlhf.tex import html

SHOWS = {
    "path": ("kl-gradients", "kl-placement"),
    "policy": ("gibbs-optimum", "regret-is-kl", "beta-limits"),
    "pair": ("dpo-gradient", "likelihood-displacement", "logit-conservation"),
    "annotator": ("bradley-terry", "bt-existence", "dpo-is-bt-mle"),
    "chosen": ("best-of-n", "reward-hacking"),
    "groups": ("grpo", "group-bernstein"),
    "tilt": ("gibbs-optimum", "optimal-value", "regret-is-kl", "beta-limits"),
    "geometry": ("e-geodesic", "m-projection-counts", "mode-seeking", "reverse-kl-projection"),
    "flags": ("kl-estimator-theorem", "kl-placement", "k3"),
    "zoo": ("direct-family", "dpo-loss", "dpo-deterministic-labels", "ipo-two-arms"),
    "derivation": ("gibbs-optimum", "lagrange-multiplier"),
}
"""The claims that each section shows."""

PATHS = {
    "D": "M0-7L7 0 0 7-7 0Z",
    "*": "M0-8L2.1-2.7 7.6-2.5 3.3.9 4.7 6.5 0 3.3-4.7 6.5-3.3.9-7.6-2.5-2.1-2.7Z",
    "P": "M-2.2-6.5H2.2V-2.2H6.5V2.2H2.2V6.5H-2.2V2.2H-6.5V-2.2H-2.2Z",
    "h": "M0-6.5L5.6-3.2V3.2L0 6.5-5.6 3.2V-3.2Z",
    "X": "M-6-3L-3-6 0-3 3-6 6-3 3 0 6 3 3 6 0 3-3 6-6 3-3 0Z",
}
"""Markers of the figures' table of glyphs, around the origin."""
SHAPES = {name: PATHS[GLYPHS[name].marker] for name in ("reference", "optimum", "forward", "reverse", "end")}
"""One glyph an object, here as in every figure: none is told by color alone."""


def pieces() -> dict[str, str]:
    """Marker -> HTML, for every marker in the template but style, script and data."""
    return {
        **{f"claims:{section}": links(slugs) for section, slugs in SHOWS.items()},
        **{f"shape:{name}": path for name, path in SHAPES.items()},
        "shapes": told.as_json(SHAPES),
        "options:estimator": options((name, name) for name in ESTIMATORS),
        "options:placement": options((p.name, f"{p.name}: {p.meaning}") for p in PLACEMENTS.values()),
        "options:loss": options((name, name) for name in LOSSES),
        "options:wrong": options((label, label) for label in derivation.compute()["choice"]),
        "claims": claims(),
        "disputes": disputes(),
        "version": __version__,
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


def disputes() -> str:
    """Every dispute by its theme: the question, and behind it the claim, its verdict, and the condition or what catches it."""
    found: list[str] = []
    for theme, held in groupby(DISPUTES.values(), key=lambda d: d.theme):
        found += [f'<h3 class="theme">{theme}</h3>', *map(dispute, held)]
    return "\n".join(found)


def dispute(d: Dispute) -> str:
    """One dispute, folded.  The verdict is the one that every run of `tabular-rlhf verify` measures again."""
    under = f" It holds under a condition: {d.under.says}." if d.under is not None else ""
    return (
        f'<details id="dispute-{d.slug}"><summary>{prose(d.question)}</summary>'
        f"<p><b>{d.settled}</b> is the claim that {prose(d.claim.says)}.{prose(under)} {prose(d.note)} <code>{d.slug}</code></p></details>"
    )


def prose(text: str) -> str:
    """A sentence of the registries as HTML: symbols as letters, and `code` as code.

    >>> prose("beta > 0; see `tabular-rlhf losses`")
    'β &gt; 0; see <code>tabular-rlhf losses</code>'
    """
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(greek(text)))
