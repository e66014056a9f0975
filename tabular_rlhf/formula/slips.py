r"""Slips: the mistakes that people make, as rewrites of a formula.

A rule takes one node and yields what somebody may write in its place:

    ("mul", lambda a, b: a, "{b} dropped", ...)      a b  ->  a

Applied to a right formula it gives wrong ones (near misses); applied to a wrong one, among others, what would mend it.  So every
rewrite has two names: of the mistake that it *makes*, and of the mistake that it *mends*.

>>> from tabular_rlhf.formula.read import read
>>> for s in slips(read("beta*KL(p, p_ref)")):
...     if s.makes in ("beta dropped", "arguments of KL swapped"): print(s.makes, "|", s.mends, "|", s.shown)
beta dropped | a factor beta is too many | KL(p, p_ref)
arguments of KL swapped | the arguments of KL are swapped | beta*KL(p_ref, p)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tabular_rlhf.formula.say import say
from tabular_rlhf.formula.slip_rules import EXTRA, RULES, Rewrites
from tabular_rlhf.formula.tree import Node, Path, names, node_at, num, put, sym, walk


@dataclass(frozen=True)
class Slip:
    """One rewrite of a tree: of the node at `path`, `before` into `after`; what mistake it makes, and which one it mends."""

    rank: int
    makes: str
    mends: str
    path: Path
    before: Node
    after: Node
    tree: Node

    @property
    def cost(self) -> int:
        """How much of the formula it changes: of edits that all mend, the cheapest is the diagnosis."""
        return max(1, abs(size(self.after) - size(self.before)))

    @property
    def shown(self) -> str:
        """The rewritten formula, in plain typing."""
        return say(self.tree)

    @property
    def change(self) -> str:
        """The change alone: what for what, with so much around it that it can be found in the formula."""
        path, after, before = self.path, self.after, self.before
        while path and self.occurs(before) > 1:
            path = path[:-1]
            after, before = node_at(self.tree, path), put(node_at(self.tree, path), self.path[len(path) :], self.before)
        return f"{say(after)} for {say(before)}"

    def occurs(self, part: Node) -> int:
        """How often a part stands in the formula that was rewritten."""
        return sum(node == part for _, node in walk(put(self.tree, self.path, self.before)))


def size(tree: Node) -> int:
    """How many nodes a tree has."""
    return sum(1 for _ in walk(tree))


def slips(tree: Node, letters: tuple[str, ...] = ()) -> Iterator[Slip]:
    """Every rewrite of a tree by one rule, each result once, those of least rank first.

    letters: factors and terms that may be missing, beside beta and those of the tree itself.
    """
    seen = {tree}
    around = dict(walk(tree))
    found = [(path, node) for path, node in around.items() if not is_argument(path, around)]
    for rank, rule in sorted(RULES, key=lambda entry: entry[0]):
        for path, node in found:
            if node.op in ("index", "over", "range", "draw", "given", "let"):
                continue
            for after, makes, mends in rule(node):
                new = put(tree, path, after)
                if new not in seen and not is_left_out(after, around[path[:-1]] if path else None):
                    seen.add(new)
                    yield Slip(rank, makes, mends, path, node, after, new)
    for path, node in found:
        parent = around[path[:-1]] if path else None
        if not is_term(node, parent):
            continue
        for after, makes, mends in missing(node, factors(tree, letters)):
            new = put(tree, path, after)
            if new not in seen:
                seen.add(new)
                yield Slip(EXTRA, makes, mends, path, node, after, new)


def is_argument(path: Path, around: Mapping[Path, Node]) -> bool:
    """Whether a letter is what a definition is of, z in f(z) = z - 1: it is no part of a formula."""
    return bool(path) and around[path[:-1]].op == "let" and path[-1] > 0


def is_left_out(node: Node, parent: Node | None) -> bool:
    """Whether a part is as good as left out, which has a rule of its own: 0 in a formula, 1 as a factor, a divisor, an exponent."""
    return parent is not None and (node == num(0) or (node == num(1) and parent.op in ("mul", "div", "pow")))


WHOLE = {"add", "sub", "neg", "where", "E", "sum", "log", "exp", "sigma", "Var", "grad", "let", "eq", "div"}
"""Ops whose kids are whole formulas, or terms of one."""


def is_term(node: Node, parent: Node | None) -> bool:
    """Whether a factor or a term may be missing here: at a whole formula, a term of a sum, the body of a mean or of a function."""
    if node.op in ("index", "over", "range", "such", "draw", "given", "let", "num", "where"):
        return False
    return parent is None or parent.op in WHOLE


def factors(tree: Node, letters: tuple[str, ...]) -> list[Node]:
    """What people forget to write: the letters that are numbers, 2, and log Z."""
    own = [name for name in names(tree) if name in SCALARS]
    return [sym(name) for name in dict.fromkeys(["beta", *own, *letters])]


SCALARS = {"beta", "eta", "gamma", "eps", "alpha", "lam", "tau", "G", "draws", "n", "H"}


def missing(node: Node, scalars: list[Node]) -> Rewrites:
    """A factor, a divisor or a term that is missing."""
    for factor in scalars:
        name = say(factor)
        yield Node("mul", (factor, node)), f"a factor {name} too many", f"a factor {name} is missing"
        yield Node("div", (node, factor)), f"divided by {name}, which is too much", f"it is to be divided by {name}"
    yield Node("mul", (num(2), node)), "a factor 2 too many", "a factor 2 is missing"
    yield Node("div", (node, num(2))), "a factor 1/2 too many", "a factor 1/2 is missing"
    if node.op not in ("add", "sub"):
        yield Node("neg", (node,)), "sign flipped", "its sign is flipped"
    for term in (num(1), Node("log", (sym("Z"),)), Node("mul", (sym("beta"), Node("log", (sym("Z"),))))):
        for op, word in (("add", "added"), ("sub", "taken away")):
            yield Node(op, (node, term)), f"{say(term)} {word}, which is too much", f"{'-' if op == 'sub' else ''}{say(term)} is missing"
