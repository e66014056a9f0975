"""The soft values of a small world on its prefix tree, with the optimum's choices as the widths of the branches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tabular_rlhf.figures.record import BLUE, GRAY, Data, Figure, readable
from tabular_rlhf.gibbs import SoftBellman, soft_bellman
from tabular_rlhf.world import World
from tabular_rlhf.worldfile import EXAMPLE, parse_world

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes


def compute(world: World, prompt: int = 0) -> Data:
    """Nodes and edges of the tree that p_ref can reach.  States with a single way on are merged with what follows.

    A node: its text, depth, height (leaves at whole numbers), value (V of a state, reward of a leaf), p* of passing it.
    An edge: its nodes, the tokens along it, pi_ref and pi* of choosing it.
    """
    soft = soft_bellman(world.mdp, world.log_ref, world.r, world.beta)
    tree = Tree(world, soft, prompt)
    tree.grow([], 0, 1.0)
    return {"beta": world.beta, "nodes": tree.nodes, "edges": tree.edges, "leaves": tree.leaves}


class Tree:
    """The tree as it grows, depth first."""

    def __init__(self, world: World, soft: SoftBellman, prompt: int) -> None:
        self.world, self.soft, self.x = world, soft, prompt
        self.nodes: list[Data] = []
        self.edges: list[Data] = []
        self.leaves = 0

    def choices(self, tokens: list[str]) -> list[tuple[str, float, float]]:
        """(token, pi_ref, pi*) of every token that p_ref allows."""
        s = self.world.mdp.find_state(tokens)
        pi_ref, pi = np.exp(self.world.log_ref[self.x, s]), np.exp(self.soft.log_pi[self.x, s])
        return [(w, float(a), float(b)) for w, a, b in zip(self.world.mdp.vocabulary, pi_ref, pi, strict=True) if a > 0]

    def ended(self, tokens: list[str]) -> bool:
        mdp = self.world.mdp
        return len(tokens) == mdp.H or bool(tokens and tokens[-1] == mdp.eos)

    def grow(self, tokens: list[str], depth: int, p: float) -> int:
        """Add the node of a prefix and all below it; returns its number."""
        number, mdp = len(self.nodes), self.world.mdp
        node: Data = {"text": mdp.sep.join(tokens), "depth": depth, "leaf": self.ended(tokens), "p": p}
        self.nodes.append(node)
        if node["leaf"]:
            node["value"], node["height"] = float(self.world.r[self.x, mdp.find(tokens)]), self.leaves
            self.leaves += 1
            return number
        node["value"] = float(self.soft.V[self.x, mdp.find_state(tokens)])
        heights = []
        for token, pi_ref, pi in self.choices(tokens):
            further = self.follow([*tokens, token])
            child = self.grow(further, depth + 1, p * pi)
            said = mdp.sep.join(further[len(tokens) :])
            self.edges.append({"from": number, "to": child, "tokens": said, "pi_ref": pi_ref, "pi": pi})
            heights.append(self.nodes[child]["height"])
        node["height"] = (heights[0] + heights[-1]) / 2
        return number

    def follow(self, tokens: list[str]) -> list[str]:
        """The prefix as far as p_ref leaves no choice."""
        while not self.ended(tokens) and len(self.choices(tokens)) == 1:
            tokens = [*tokens, self.choices(tokens)[0][0]]
        return tokens


def draw(axes: list[Axes], data: Data) -> list[Artist]:
    """From left to right; a branch is as wide as pi*, its words and pi_ref -> pi* beside it."""
    (ax,) = axes
    nodes, artists = data["nodes"], []
    for edge in data["edges"]:
        artists += _branch(ax, nodes[edge["from"]], nodes[edge["to"]], edge)
    artists += [_node(ax, node) for node in nodes]
    deepest = max(node["depth"] for node in nodes)
    ax.set_xlim(-0.25, deepest + 0.75)
    ax.set_ylim(data["leaves"] - 0.4, -0.6)
    note = rf"branches: $\pi_{{\mathrm{{ref}}}} \to \pi^*$, as wide as $\pi^*$;  $\beta = {data['beta']:g}$"
    artists.append(ax.text(1.0, 0.02, note, transform=ax.transAxes, ha="right", fontsize=8, color=GRAY))
    ax.axis("off")
    return artists


def _branch(ax: Axes, start: Data, end: Data, edge: Data) -> list[Artist]:
    x, y = (start["depth"], end["depth"]), (start["height"], end["height"])
    band = ax.plot(x, y, color=BLUE, alpha=0.45, linewidth=1 + 13 * edge["pi"], solid_capstyle="butt", linestyle="-", zorder=1)
    hair = ax.plot(x, y, color=BLUE, linewidth=0.8, linestyle="-", zorder=2)
    spot = (x[0] + 0.58 * (x[1] - x[0]), y[0] + 0.58 * (y[1] - y[0]))
    text = f"{readable(edge['tokens'])}\n{edge['pi_ref']:.2f} → {edge['pi']:.2f}"
    words = ax.text(*spot, text, ha="center", va="center", fontsize=8, zorder=3, linespacing=1.35)
    words.set_bbox({"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.0})
    return [*band, *hair, words]


def _node(ax: Axes, node: Data) -> Artist:
    if node["leaf"]:
        text = f"{readable(node['text'])}   r = {node['value']:g}\n$p^*$ = {node['p']:.3f}"
        return ax.text(node["depth"] + 0.04, node["height"], text, ha="left", va="center", fontsize=8, zorder=3)
    box = {"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": GRAY}
    title = f"“{readable(node['text'])}”" if node["text"] else "start"
    return ax.text(
        node["depth"], node["height"], f"{title}\nV = {node['value']:.3f}", ha="center", va="center", fontsize=8, bbox=box, zorder=4
    )


FIGURES = (
    Figure(
        name="soft-value-tree",
        caption="Soft values on the prefix tree: V(s) tells the best that can be had after s, and pi* leans towards it, token by token.",
        rows=("soft-bellman",),
        compute=lambda: compute(parse_world(EXAMPLE, name="pets")),
        draw=draw,
        size=(9.0, 4.6),
    ),
)
