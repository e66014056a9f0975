r"""The tree of a formula: one frozen node for everything, so that a rewrite is three lines.

    Node(op, kids, value)         "beta log(p/p_ref)" is  mul(beta, log(div(p, p_ref)))

**Ops.**  `kids` are nodes, `value` is a name or a number (None where the column is empty).

| op | kids | value | what it is |
|---|---|---|---|
| num | | int, float | a number |
| sym | | name | a letter of the subject (`tabular_rlhf.symbols`), or one that is declared or bound: "p_star", "beta", "r_phi" |
| index | | name | an index: tau, tau', x, s, a, h, i, w, l ...; as a value it is a number (of a range: h) |
| at | what, index... | | a letter at indices: p(tau), r(x, tau'), Q(s, a), p(s + a) is at(p, add(s, a)) |
| add, sub, mul, div, pow | a, b | | arithmetic of two; chains associate to the left |
| neg, exp, log, sigma, sqrt, abs | a | | of one; sigma is the logistic function |
| min, max | a, b... | | the least, the largest of several |
| clip | a, low, high | | |
| sum, prod | body, over... | | over each index that an `over` names |
| maxover, minover, argmax, argmin | body, over... | | over an index (none: over the responses) |
| objective | | "max pi" | below a max over policies, as the only `over` of maxover: the objective itself is meant |
| over | | index | one index that is run through: all of it |
| range | low, high | index | an index that runs from low to high, both included |
| such | over, condition | | an index that is run through where a condition holds |
| E, Var | body, draw... , given... | | mean, variance under laws; no draw: the law of the setting |
| mean, std | body | | over a group |
| Cov | a, b, draw..., given... | | |
| draw | law | index or None | what is drawn, and from which law: y ~ pi; None: whatever the law is over |
| given | index... | | what stands to the right of the bar: E[r given s, a] |
| KL | p, q | | sum p log(p/q) |
| H | p | | entropy of a law |
| prob | condition, draw... | | the probability that a condition holds under a law |
| ind | condition | | 1 where it holds, else 0 |
| beats | i, j | | P(i is preferred to j); i and j are indices |
| eq, ne, lt, le, gt, ge | a, b | | a condition (within a formula); between formulas: see `read` |
| through | index, place | | a condition: a response passes through s, or through s + a |
| grad | body | | the gradient in the policy's logits |
| diff | body, sym | | the derivative in one letter |
| where | body, let... | | a formula and the definitions that it uses |
| let | body, index... | name | name(index...) := body |

Where a node came from, `start` and `end` in the text that was read, is no part of what it is: two nodes of the same op, kids and
value are equal, and hash alike.  A *path* is a tuple of positions among kids, () the root.

>>> beta, p = sym("beta"), sym("p")
>>> tree = Node("mul", (beta, Node("log", (p,))))
>>> [(path, node.op) for path, node in walk(tree)]
[((), 'mul'), ((0,), 'sym'), ((1,), 'log'), ((1, 0), 'sym')]
>>> put(tree, (1, 0), sym("q")) == Node("mul", (beta, Node("log", (sym("q"),))))
True
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

Path = tuple[int, ...]


@dataclass(frozen=True)
class Node:
    """One node: an op of the table above, the nodes below it, a name or a number; and its place in the text that was read."""

    op: str
    kids: tuple[Node, ...] = ()
    value: str | int | float | None = None
    start: int = field(default=0, compare=False, repr=False)
    end: int = field(default=0, compare=False, repr=False)

    @cached_property
    def _hash(self) -> int:
        return hash((self.op, self.kids, self.value))

    def __hash__(self) -> int:
        return self._hash  # a tree is looked up far more often than it is made

    def __reduce__(self) -> tuple[Any, ...]:
        return Node, (self.op, self.kids, self.value, self.start, self.end)  # a hash of words holds in one process only

    def over(self, *kids: Node) -> Node:
        """The same node over other kids."""
        return replace(self, kids=kids)


def sym(name: str) -> Node:
    """A letter."""
    return Node("sym", (), name)


def index(name: str) -> Node:
    """An index."""
    return Node("index", (), name)


def num(value: float) -> Node:
    """A number."""
    return Node("num", (), value)


def walk(tree: Node, path: Path = ()) -> Iterator[tuple[Path, Node]]:
    """Every node with its path, parents first, kids from left to right."""
    yield path, tree
    for k, kid in enumerate(tree.kids):
        yield from walk(kid, (*path, k))


def node_at(tree: Node, path: Path) -> Node:
    """The node at a path.

    >>> node_at(Node("neg", (sym("r"),)), (0,)).value
    'r'
    """
    for k in path:
        tree = tree.kids[k]
    return tree


def put(tree: Node, path: Path, new: Node) -> Node:
    """The tree with another node at a path; its parts elsewhere are the same objects."""
    if not path:
        return new
    k, rest = path[0], path[1:]
    return tree.over(*tree.kids[:k], put(tree.kids[k], rest, new), *tree.kids[k + 1 :])


def names(tree: Node) -> tuple[str, ...]:
    """The letters that a tree uses, in the order in which they are read; those that it defines itself are left out.

    >>> names(Node("mul", (sym("beta"), Node("log", (sym("p"),)))))
    ('beta', 'p')
    """
    own = {node.value for _, node in walk(tree) if node.op == "let"}
    used = (str(node.value) for _, node in walk(tree) if node.op == "sym" and node.value not in own)
    return tuple(dict.fromkeys(used))
