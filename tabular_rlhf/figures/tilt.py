"""How p_ref becomes p* as beta falls: the probability of the likeliest responses, one panel a beta."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

import numpy as np

from tabular_rlhf.figures.glyphs import GLYPHS
from tabular_rlhf.figures.marks import mark, write
from tabular_rlhf.figures.record import Data, Figure, Panels, ceiling, readable
from tabular_rlhf.gibbs import solve
from tabular_rlhf.logspace import Array
from tabular_rlhf.reports.solution import largest
from tabular_rlhf.reports.solution_text import words
from tabular_rlhf.world import World
from tabular_rlhf.worldfile import EXAMPLE, parse_world

BETAS = (None, 1.0, 0.5, 0.2, 0.05)


def compute(world: World, betas: Sequence[float | None] = BETAS, top: int = 8, *, given: bool = False) -> Data:
    """Probabilities mu(x) p(tau given x) of the likeliest responses, one row a beta (None: p_ref); `given`: p(tau given x) of the same.

    A response is among them if it is among the `top` for the most betas that fit; ordered by reward, best first.
    """
    mdp = world.mdp
    laws = [world.mu[:, None] * (np.exp(world.log_p_ref) if b is None else solve(world.at(b)).p) for b in betas]
    kept = _likeliest(laws, top)
    r = np.ravel(world.r)
    order = sorted(kept, key=lambda i: (-r[i], i))
    rows = [[float(p) for p in np.ravel(law)[order]] for law in laws]
    others = int(np.sum(laws[0] > 0)) - len(order)
    texts = [mdp.text(i % mdp.N, i // mdp.N) for i in order]
    if given and mdp.P > 1:  # what is left of several laws is no number
        rows = [[p / float(world.mu[i // mdp.N]) for p, i in zip(row, order, strict=True)] for row in rows]
        texts = [words(mdp.prompts[i // mdp.N], text) for text, i in zip(texts, order, strict=True)]
        others = 0
    scale = ceiling(max(map(max, rows)))
    rest = [max(0.0, 1.0 - sum(row)) if others else 0.0 for row in rows]
    marks = [mark(p, y, _value(p, scale), panel=k) for k, row in enumerate(rows) for y, p in enumerate(row)]
    marks += [mark(0.0, len(texts), f"{p:.2f} together", panel=k) for k, p in enumerate(rest) if others > 0]
    return {
        "beta": list(betas),
        "response": texts,
        "reward": [float(r[i]) for i in order],
        "p": rows,
        "scale": scale,
        "rest": rest,
        "rest_count": others,
        "marks": marks,
    }


def _likeliest(laws: Sequence[Array], top: int) -> list[int]:
    """Places in turn from every law, its likeliest first, until `top` are found; impossible ones never."""
    ranked = [[x * law.shape[1] + tau for x, tau in largest(law, 4 * top)] for law in laws]
    in_turn = dict.fromkeys(place for places in zip_longest(*ranked) for place in places if place is not None)
    return list(in_turn)[:top]


def draw(axes: Panels, data: Data) -> None:
    """Bars side by side: responses from the top down, best reward first."""
    names = [f"{readable(text)}   r = {r:.3g}" for text, r in zip(data["response"], data["reward"], strict=True)]
    others = [f"{data['rest_count']:,} others"] if data["rest_count"] > 0 else []
    places, scale = list(range(len(names) + len(others))), data["scale"]
    for ax, beta, p in zip(axes, data["beta"], data["p"], strict=True):
        bars = ax.barh(places[: len(p)], p, **_look(beta))
        for k, bar in enumerate(bars):
            bar.set_gid(f"{'reference' if beta is None else 'optimum'}.{axes.index(ax)}.{k}")
        ax.set_title(r"$p_{\mathrm{ref}}$  ($\beta = \infty$)" if beta is None else rf"$p^*$ at $\beta = {beta:g}$")
        ax.set(xlim=(0, 1.32 * scale), ylim=(len(places) - 0.4, -0.6))
        ax.set_xticks([0, scale / 2, scale], ["0", f"{scale / 2:g}", f"{scale:g}"])
        ax.set_yticks(places, [*names, *others] if ax is axes[0] else [""] * len(places))
        ax.tick_params(axis="y", length=0)
    axes[len(axes) // 2].set_xlabel("probability")
    write(axes, data["marks"], fontsize=7.5)


def _look(beta: float | None) -> Data:
    """Hollow bars of p_ref, full ones of p*."""
    if beta is None:
        return {"facecolor": "white", "edgecolor": GLYPHS["reference"].color, "linewidth": 1.0}
    return {"facecolor": GLYPHS["optimum"].color, "linewidth": 0.0}


def _value(p: float, scale: float) -> str:
    """The number at the end of a bar, with two digits of the scale."""
    digits = 2 + sum(scale < limit for limit in (0.2, 0.02))
    least = 10.0**-digits
    return "0" if p == 0 else f"<{least:.{digits}f}" if p < least / 2 else f"{p:.{digits}f}"


FIGURES = (
    Figure(
        name="tilt",
        title="As β falls, mass moves to what is rewarded: first the likely good answer, then the best",
        caption="As beta falls, p_ref becomes p*: first the likely good response gains, then the best one, however rare it was.",
        rows=("gibbs-optimum", "beta-limits"),
        compute=lambda: compute(parse_world(EXAMPLE, name="pets")),
        draw=draw,
        widths=(1.0,) * len(BETAS),
        size=(9.6, 3.4),
    ),
)
