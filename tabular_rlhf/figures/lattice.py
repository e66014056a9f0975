"""What no list and no sample shows: estimators of the KL hundreds of nats away, and constrained decoding against conditioning."""

from __future__ import annotations

from functools import cache

import numpy as np

from tabular_rlhf.estimators.record import ESTIMATORS
from tabular_rlhf.figures.glyphs import GLYPHS, dotted, line, points
from tabular_rlhf.figures.marks import mark, name_ends, write
from tabular_rlhf.figures.record import Data, Figure, Panels
from tabular_rlhf.language import Language
from tabular_rlhf.lattice import LatticeWorld, Reference, solve
from tabular_rlhf.lattice.condition import Given, Masked, rewarded
from tabular_rlhf.lattice.draws import sample
from tabular_rlhf.lattice.flow import kl, length_law
from tabular_rlhf.machines import lattice, matches, phrases, product, uniform
from tabular_rlhf.path import variance
from tabular_rlhf.reports.lattice_solution import of_ratio

THREE = ("k1", "k2", "k3")
BETAS = np.concatenate([np.geomspace(10.0, 1.1, 13), np.geomspace(1.0, 0.1, 48)])
DRAWS = 2_000


@cache
def pairs() -> LatticeWorld:
    """10^100 responses: 100 tokens of ten, each as likely, and a reward for each "ab"."""
    x = Language(tuple("abcdefghij"), 100, sep="")
    return lattice(x, product(x, [uniform(x), phrases(x, {"ab": 1.0})]), 1.0)


def compute_far() -> Data:
    """Over the KL of the optimum as beta falls: the exact deviation of one draw of k1, k2, k3, and what draws show of it."""
    rows: Data = {"kl": [], **{f"{kind} {name}": [] for kind in ("exact", "drawn") for name in THREE}}
    for k, beta in enumerate(BETAS):
        g = solve(pairs().at(float(beta)))
        rows["kl"].append(float(kl(g, Reference(g.world))[0]))
        drawn = sample(g, DRAWS, rng=np.random.default_rng(k)).L if k % 6 == 0 else None
        for name in THREE:
            h = ESTIMATORS[name].h
            rows[f"exact {name}"].append(float(np.sqrt(variance(of_ratio(h), g))))
            if drawn is not None:
                rows[f"drawn {name}"].append(float(np.std(h(drawn))))
    rows["drawn at"] = rows["kl"][::6]
    return {"responses": pairs().responses, "draws": DRAWS, **rows}


def draw_far(axes: Panels, data: Data) -> None:
    """Lines: exact.  Markers: the same from draws."""
    (ax,) = axes
    for size, name in zip((14, 9, 5), THREE, strict=True):
        line(ax, name, data["kl"], data[f"exact {name}"], label=GLYPHS[name].label)
        points(ax, name, data["drawn at"], data[f"drawn {name}"], markersize=size, markeredgecolor="white", zorder=4)
    ax.set(xscale="log", yscale="log", xlabel=r"$\mathrm{KL}(p^*, p_{\mathrm{ref}})$, nats", ylabel="standard deviation of one draw, nats")
    told = f"lines: exact\nmarks: what {data['draws']:,} draws show"
    ax.text(0.03, 0.97, told, transform=ax.transAxes, va="top", fontsize=8, linespacing=1.5)
    name_ends(ax)


# ---------------------------------------------------------------------------------------------------- masking


@cache
def ended() -> LatticeWorld:
    """Up to 100 tokens a, b, c, d or the end; required: the last one before the end is the second "a" in a row."""
    x = Language((*"abcd", "."), 100, eos=".", sep="")
    return lattice(x, product(x, [uniform(x), matches(x, "(a|b|c|d)*aa")]), 1.0)


LAWS = {
    "reference": ("reference", "the reference", 36, "below left"),
    "given": ("optimum", "given the format", 36, "above right"),
    "masked": ("policy", "dead ends masked", 56, "above right"),
}
"""Of each law its glyph, its name, and the length at which it stands, on which side of the curve."""


def compute_masked() -> Data:
    """The length of a response under the reference, given the format, and with dead ends masked."""
    w = ended()
    given, masked = Given(w, rewarded(w)), Masked(w, rewarded(w))
    laws = {"reference": length_law(Reference(w)), "given": length_law(given), "masked": length_law(masked)}
    found: Data = {name: law[1:].tolist() for name, law in laws.items()}
    found["mean"] = {name: float(law @ np.arange(len(law))) for name, law in laws.items()}
    found["kl"] = {"given, masked": float(kl(given, masked)[0]), "masked, reference": float(kl(masked, Reference(w))[0])}
    found["kl"]["given, reference"] = -float(given.log_mass[0])
    said = {name: f"{label}\nmean length {found['mean'][name]:.1f}" for name, (_, label, _, _) in LAWS.items()}
    return {**found, "marks": [mark(at, found[name][at - 1], said[name], beside=side) for name, (_, _, at, side) in LAWS.items()]}


def draw_masked(axes: Panels, data: Data) -> None:
    """The probability of each length."""
    (ax,) = axes
    for k, (name, (glyph, *_)) in enumerate(LAWS.items()):
        shown = {"markevery": (2 + 3 * k, 11), "markersize": 5}
        dotted(ax, glyph, range(1, len(data[name]) + 1), np.maximum(data[name], 1e-12).tolist(), **shown)
    ax.set(yscale="log", ylim=(1e-7, 5.0), xlabel="length, tokens", ylabel="probability")
    write(axes, data["marks"])


FIGURES = (
    Figure(
        name="far-from-reference",
        title="Far from the reference k3's true deviation explodes, and draws do not see it",
        caption="Far from the reference, in a world too large to be listed, k3's exact deviation explodes, and draws do not see it.",
        rows=("lattice-k3", "beyond-lists"),
        compute=compute_far,
        draw=draw_far,
    ),
    Figure(
        name="masking",
        title="Masking dead ends keeps the format, but talks on far longer: it is not conditioning",
        caption="Forbidding tokens that lead nowhere is not conditioning: it keeps the format, and talks on far longer.",
        rows=("masking-is-not-conditioning",),
        compute=compute_masked,
        draw=draw_masked,
    ),
)
