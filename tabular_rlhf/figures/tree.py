"""The soft values of a small world on its prefix tree, with the mass of p* that flows through as the widths of the branches."""

from __future__ import annotations

import numpy as np

from tabular_rlhf.figures.glyphs import GRAY, line
from tabular_rlhf.figures.marks import mark, write
from tabular_rlhf.figures.record import Data, Figure, Panel, Panels, readable
from tabular_rlhf.gibbs import SoftBellman, soft_bellman
from tabular_rlhf.world import World
from tabular_rlhf.worldfile import EXAMPLE, parse_world

Point = tuple[float, float]
POINTS = 26.0
"""Width of a branch through which all of p* flows."""


def compute(world: World, prompt: int = 0) -> Data:
    """Nodes and edges of the tree that p_ref can reach.  States with a single way on are merged with what follows.

    A node: its text, depth, height (leaves at whole numbers), value (V of a state, reward of a leaf), p* of passing it.
    An edge: its nodes, the tokens along it, pi_ref and pi* of choosing it, and the mass d_p*(s) pi*(a|s) that p* sends along it.
    """
    soft = soft_bellman(world.mdp, world.log_ref, world.r, world.beta)
    tree = Tree(world, soft, prompt)
    tree.grow([], 0, 1.0)
    marks = [*(_edge_mark(tree.nodes, edge) for edge in tree.edges), *(_node_mark(node) for node in tree.nodes)]
    return {"beta": world.beta, "nodes": tree.nodes, "edges": tree.edges, "leaves": tree.leaves, "marks": marks}


def _edge_mark(nodes: list[Data], edge: Data) -> Data:
    """Words on a branch: its tokens, pi_ref -> pi*."""
    start, end = nodes[edge["from"]], nodes[edge["to"]]
    x, y = (start[key] + 0.58 * (end[key] - start[key]) for key in ("depth", "height"))
    return mark(x, y, f"{readable(edge['tokens'])}\n{edge['pi_ref']:.2f} → {edge['pi']:.2f}", beside="on")


def _node_mark(node: Data) -> Data:
    """Words at a node: V of a state; r and p* of a response."""
    if node["leaf"]:
        says = f"{readable(node['text'])}   r = {node['value']:g}\n$p^*$ = {node['p']:.3f}"
        return mark(node["depth"], node["height"], says)
    title = f"“{readable(node['text'])}”" if node["text"] else "start"
    return mark(node["depth"], node["height"], f"{title}\nV = {node['value']:.3f}", beside="on")


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
            self.edges.append({"from": number, "to": child, "tokens": said, "pi_ref": pi_ref, "pi": pi, "mass": p * pi})
            heights.append(self.nodes[child]["height"])
        node["height"] = (heights[0] + heights[-1]) / 2
        return number

    def follow(self, tokens: list[str]) -> list[str]:
        """The prefix as far as p_ref leaves no choice."""
        while not self.ended(tokens) and len(self.choices(tokens)) == 1:
            tokens = [*tokens, self.choices(tokens)[0][0]]
        return tokens


def draw(axes: Panels, data: Data) -> None:
    """From left to right; a branch is as wide as the mass of p* that flows through, its words and pi_ref -> pi* on it."""
    (ax,) = axes
    nodes = data["nodes"]
    for edge in data["edges"]:
        start, end = ((nodes[edge[at]]["depth"], nodes[edge[at]]["height"]) for at in ("from", "to"))
        branch(ax, start, end, edge["mass"])
    branches, states = data["marks"][: len(data["edges"])], data["marks"][len(data["edges"]) :]
    write(axes, branches, bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.0}, linespacing=1.35, zorder=3)
    box = {"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": GRAY}
    for node, m in zip(nodes, states, strict=True):
        write(axes, [m], bbox=None if node["leaf"] else box, zorder=4)
    deepest = max(node["depth"] for node in nodes)
    ax.set(xlim=(-0.25, deepest + 0.75), ylim=(data["leaves"] - 0.4, -0.6))
    ax.axis("off")
    _legend(ax, data["beta"], deepest + 0.72, data["leaves"] - 0.95)


def branch(ax: Panel, start: Point, end: Point, mass: float, *, hair: float = 0.6) -> None:
    """A band as wide as the mass of p* that flows through, and a hair along it, which shows where there is hardly any."""
    x, y = zip(start, end, strict=True)
    look = {"linestyle": "-", "solid_capstyle": "butt"}
    line(ax, "optimum", x, y, alpha=0.45, linewidth=POINTS * mass, zorder=1, **look)
    line(ax, "optimum", x, y, linewidth=hair, zorder=2, **look)


def _legend(ax: Panel, beta: float, x: float, y: float) -> None:
    """What the widths and the numbers mean, and the band through which half of p* flows, up to x at height y."""
    said = [
        r"width of a branch: the mass of $p^*$ that flows through, $d_{p^*}(s)\,\pi^*(a|s)$",
        rf"numbers on it: $\pi_{{\mathrm{{ref}}}}(a|s) \to \pi^*(a|s)$;  $\beta = {beta:g}$",
    ]
    ax.text(x, y + 0.02, "\n".join(said), ha="right", va="top", fontsize=8, color=GRAY, linespacing=1.5)
    line(ax, "optimum", (x - 0.46, x - 0.28), (y - 0.35, y - 0.35), alpha=0.45, linewidth=POINTS * 0.5, solid_capstyle="butt")
    ax.text(x, y - 0.35, "half of $p^*$", ha="right", va="center", fontsize=8, color=GRAY)


FIGURES = (
    Figure(
        name="soft-value-tree",
        title="Token by token, π* leans towards what can still be had",
        caption="Soft values on the prefix tree: V(s) tells the best that can be had after s, and pi* leans towards it, token by token.",
        rows=("soft-bellman",),
        compute=lambda: compute(parse_world(EXAMPLE, name="pets")),
        draw=draw,
        size=(9.0, 4.6),
    ),
)
