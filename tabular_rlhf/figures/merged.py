"""A lattice of merged states, drawn: depth from left to right, a place for every state, and the mass of p* that flows between them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tabular_rlhf.errors import InputError
from tabular_rlhf.figures import page
from tabular_rlhf.figures.glyphs import GRAY
from tabular_rlhf.figures.marks import mark, write
from tabular_rlhf.figures.record import Data, Figure, Panels, Said, readable
from tabular_rlhf.figures.tree import branch
from tabular_rlhf.lattice import LatticeWorld, Reference, solve
from tabular_rlhf.lattice.flow import visits
from tabular_rlhf.lattice.merge import merge
from tabular_rlhf.logspace import Array
from tabular_rlhf.world import zen_world

SIZE = (9.4, 5.4)
WIDEST, DEEPEST = 16, 6
"""States of one depth, and depths, that a picture has room for: of a longer one the first are drawn."""


def compute(world: LatticeWorld) -> Data:
    """States with their depth, row, name and probability before and after; edges with the mass of p*; responses that end, below.

    A state is named after the tokens that lead to it, the likeliest first.  Raises: InputError for a lattice too wide to be drawn.
    """
    shown = world.levels[:DEEPEST]
    widest = max(level.n for level in shown)
    if widest > WIDEST:
        must, remedy = f"a picture must have at most {WIDEST} states of one depth", "use shorter contexts, or fewer phrases"
        raise InputError(must, got=widest, remedy=remedy)
    flows = [list(itertools.islice(visits(policy), len(shown))) for policy in (Reference(world), solve(world))]
    nodes: list[Data] = [_node(0, int(k), "start", flows[0][0][1][k], flows[1][0][1][k]) for k in np.unique(world.roots)]
    edges: list[Data] = []
    for h, level in enumerate(shown):
        ref, star = flows[0][h][2], flows[1][h][2]
        for child in range(level.after + 1):
            row, into = (child if child < level.after else widest), np.where(level.child == child, 1.0, 0.0)
            before, after = float(np.sum(ref * into)), float(np.sum(star * into))
            if before > 0.0:
                nodes.append(_node(h + 1, row, name_of(world, ref * into, child == level.after), before, after))
                mass = np.sum(star * into, axis=0)
                edges += [{"from": [h, s], "to": [h + 1, row], "mass": float(m)} for s, m in enumerate(mass) if m > 0.0]
    size = {"rows": widest, "depths": len(shown), "horizon": world.H}
    return {"beta": world.beta, **size, "edges": edges, "marks": nodes}


def _node(depth: int, row: int, name: str, before: float, after: float) -> Data:
    """Words at a state: its name, and how likely a response passes it under p_ref and under p*."""
    return mark(depth, row, f"{name}\n{share(before)} → {share(after)}", beside="on")


def share(p: float) -> str:
    """A probability in two digits.

    >>> share(0.987), share(0.001)
    ('0.99', '<0.01')
    """
    return f"{p:.2f}" if p >= 0.005 else "<0.01"


def name_of(world: LatticeWorld, mass: Array, ends: bool) -> str:
    """The likeliest of the tokens that carry mass into a state, and how many more there are.  Args: mass on edges, (V, n).

    >>> from tabular_rlhf.lattice import unmerged
    >>> from tabular_rlhf.world import coin
    >>> name_of(unmerged(coin()), np.array([[0.25], [0.75]]), False)
    'heads +1'
    """
    if ends:
        return "the end"
    said = np.sum(mass, axis=1)
    more = int(np.count_nonzero(said)) - 1
    return readable(world.language.vocabulary[int(np.argmax(said))], 12) + (f" +{more}" if more else "")


def draw(axes: Panels, data: Data) -> None:
    """Branches as wide as the mass of p*, a box for each state."""
    (ax,) = axes
    for edge in sorted(data["edges"], key=lambda e: e["mass"]):
        branch(ax, edge["from"], edge["to"], edge["mass"], hair=0.3)
    box = {"boxstyle": "round,pad=0.3", "facecolor": "white", "edgecolor": GRAY}
    write(axes, data["marks"], bbox=box, fontsize=7, zorder=4)
    ax.set(xlim=(-0.45, data["depths"] + 0.5), ylim=(data["rows"] + 0.5, -1.15))
    ax.axis("off")
    ax.text(-0.4, -1.05, "\n".join(_legend(data)), ha="left", va="top", fontsize=8, color=GRAY, linespacing=1.5)


def _legend(data: Data) -> Iterable[str]:
    which = "tokens" if data["depths"] == data["horizon"] else f"the first {data['depths']} of {data['horizon']:,} tokens"
    yield rf"from left to right: {which}.  width of a branch: the mass of $p^*$ that flows through"
    yield rf"numbers: how likely a response passes here under $p_{{\mathrm{{ref}}}}$ → under $p^*$;  $\beta = {data['beta']:g}$"


def draw_lattice(world: LatticeWorld, path: Path) -> None:
    """Write the picture of a lattice."""
    data = compute(world)
    page.save(draw, data, [path], widths=(1.0,), size=SIZE, said=_said(data))


def _said(data: Data) -> Said:
    what = "all" if data["depths"] == data["horizon"] else f"the first {data['depths']} of {data['horizon']:,}"
    caption = "States from left to right by depth, each with its probability under p_ref and under p*; branches as wide as the mass of p*."
    return Said(f"Where p* flows at β = {data['beta']:.3g}: {what} tokens, states merged", caption)


FIGURES = (
    Figure(
        name="merged-states",
        title="{tree} states of a tree are {merged}, and no number is lost",
        caption="The {tree} states of the zen world's tree merge into {merged}, and nothing is lost: rows of the reference, rewards to "
        "come and where tokens lead are all that matters.",
        rows=("lattice-merging",),
        compute=lambda: compute(merge(zen_world())),
        draw=draw,
        size=SIZE,
        counts=lambda: {"tree": zen_world().mdp.S, "merged": sum(level.n for level in merge(zen_world()).levels)},
    ),
)
