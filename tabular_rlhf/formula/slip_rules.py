r"""The rules of slips: each takes one node, and yields what somebody may write in its place, with the mistake that it makes and mends.

    ("add", into("sub"), "sign of {b} flipped", "the sign of {b} is flipped")        a + b  ->  a - b

What is put in where it is missing has no node of its own: see `slips.missing`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tabular_rlhf.formula.say import say
from tabular_rlhf.formula.tree import Node, index, num, put, sym

Rewrites = Iterator[tuple[Node, str, str]]
Rule = Callable[[Node], Rewrites]
Row = tuple[str, Callable[..., Any], str, str]
"""Ops; what stands in the place of a node with certain kids, or several such; what mistake that makes, and which one it mends."""
RULES: list[tuple[int, Rule]] = []
"""(rank, rule): the mistake of least rank is named first."""
DROP, SIGN, SYMBOL, SHAPE, EXTRA = range(5)
"""Ranks: a part left out, a sign, a wrong letter, a wrong operation, a part put in."""


def slip(rank: int, *rows: Row) -> Callable[[Rule], Rule]:
    """Enter the rule that some rows make into the table; without rows the decorated one."""

    def enter(rule: Rule) -> Rule:
        RULES.append((rank, rule))
        return rule

    if rows:
        enter(of_rows(*rows))
    return enter


def of_rows(*rows: Row) -> Rule:
    """The rule that some rows make."""

    def rule(node: Node) -> Rewrites:
        for ops, after, makes, mends in rows:
            if node.op in ops.split():
                found = after(*node.kids)
                for one in found if isinstance(found, tuple) else (found,):
                    yield one, _said(makes, node), _said(mends, node)

    return rule


def _said(words: str, node: Node) -> str:
    """The words of a row, with the node's op, the node, and its first and last kid, a and b, where they name these."""
    parts = {"node": node, "a": node.kids[0], "b": node.kids[-1]}
    return words.format(op=node.op, **{name: say(part) for name, part in parts.items() if f"{{{name}}}" in words})


def into(op: str) -> Callable[..., Node]:
    """Another op over the same kids."""
    return lambda *kids: Node(op, kids)


# ---------------------------------------------------------------------------------------------------- parts left out, signs

slip(
    DROP,
    ("mul", lambda a, b: b, "{a} dropped", "a factor {a} is too many"),
    ("mul", lambda a, b: a, "{b} dropped", "a factor {b} is too many"),
    ("div", lambda a, b: a, "{b} dropped", "a divisor {b} is too many"),
    ("div", lambda a, b: Node("div", (num(1), b)), "{a} dropped", "a factor {a} is too many"),
)
slip(
    DROP,
    ("add sub", lambda a, b: a, "the term {b} dropped", "the term {b} is too many"),
    ("add", lambda a, b: b, "the term {a} dropped", "the term {a} is too many"),
    ("sub", lambda a, b: Node("neg", (b,)), "the term {a} dropped", "the term {a} is too many"),
)
slip(
    DROP,
    ("log exp sigma sqrt abs", lambda a: a, "{op} dropped", "{op} is too many"),
    ("pow", lambda a, b: a, "the exponent {b} dropped", "the exponent {b} is too many"),
    ("clip", lambda a, low, high: a, "clipping omitted", "nothing is to be clipped"),
    ("max min", lambda *kids: kids, "{op} dropped", "{op} is too many"),
)
slip(
    SIGN,
    ("add", into("sub"), "sign of {b} flipped", "the sign of {b} is flipped (- for + is right)"),
    ("sub", into("add"), "sign of {b} flipped", "the sign of {b} is flipped (+ for - is right)"),
    ("neg", lambda a: a, "sign flipped", "its sign is flipped"),
    ("sigma", lambda a: Node("sigma", (Node("neg", (a,)),)), "sign within sigma flipped", "the sign within sigma is flipped"),
    ("exp", lambda a: Node("exp", (Node("neg", (a,)),)), "sign of the exponent flipped", "the sign of the exponent is flipped"),
)
slip(
    SIGN,
    ("KL", lambda p, q: Node("KL", (q, p)), "arguments of KL swapped", "the arguments of KL are swapped"),
    ("sub", lambda a, b: Node("sub", (b, a)), "arguments of the difference swapped", "the arguments of the difference are swapped"),
    ("div", lambda a, b: Node("div", (b, a)), "{node} inverted", "{node} is upside down"),
    ("beats", lambda i, j: Node("beats", (j, i)), "winner and loser swapped", "winner and loser are swapped"),
)


# ---------------------------------------------------------------------------------------------------- wrong letters

KIN = (
    ("p", "p_ref", "p_star", "p_behavior", "p_2"),
    ("pi", "pi_ref", "pi_star", "pi_behavior", "pi_2"),
    ("d_pi", "d_ref", "d_star"),
    ("r", "V_soft", "Q_soft", "proxy"),
    ("V", "Q", "A"),
    ("Q", "Q_pi", "A_pi"),
    ("V", "V_pi"),
    ("beta", "eta", "gamma"),
    ("k_1", "k_2", "k_3"),
    ("log_Z", "value"),
    ("F", "F_-"),
    ("J", "J_x"),
)
"""Letters that are taken for each other."""


@slip(SYMBOL)
def another_law(node: Node) -> Rewrites:
    """A mean under another law."""
    for k, draw in enumerate(node.kids if node.op == "E" else ()):
        law = draw.kids[0] if draw.op == "draw" and draw.kids else num(0)
        for family in KIN[:2]:
            for other in family if law.op == "sym" and law.value in family else ():
                if other != law.value:
                    new, mean = put(node, (k, 0), sym(other)), f"a mean under {say(sym(other))}"
                    yield new, f"{mean} where one under {say(law)} is due", f"{mean} is due, not one under {say(law)}"


@slip(SYMBOL)
def another_letter(node: Node) -> Rewrites:
    if node.op == "sym":
        for family in KIN:
            for other in family if node.value in family else ():
                if other != node.value:
                    yield sym(other), f"{say(sym(other))} for {say(node)}", f"{say(sym(other))} is due for {say(node)}"


OTHER_INDEX = {"w": "l", "l": "w", "tau": "tau'", "tau'": "tau", "i": "j", "j": "i"}


@slip(SYMBOL)
def another_index(node: Node) -> Rewrites:
    """The loser for the winner, one of two responses or states for the other."""
    if node.op == "at":
        for k, kid in enumerate(node.kids[1:], 1):
            other = OTHER_INDEX.get(str(kid.value)) if kid.op == "index" else None
            if other:
                yield put(node, (k,), index(other)), f"{other} for {kid.value}", f"{other} is due for {kid.value}"


@slip(SYMBOL)
def another_number(node: Node) -> Rewrites:
    if node.op == "num" and isinstance(node.value, (int, float)):
        n = node.value
        for other in dict.fromkeys((n + 1, n - 1, 2 * n, n / 2, 0)):
            if other != n:
                shown = num(int(other) if other == int(other) else other)
                yield shown, f"{say(shown)} for {say(node)}", f"{say(shown)} is due for {say(node)}"


# ---------------------------------------------------------------------------------------------------- wrong operations


_by_another = of_rows(
    ("mul", lambda a, b: Node("div", (b, a)), "divided by {a} where one multiplies", "it is to be divided by {a}"),
    ("mul", into("div"), "divided by {b} where one multiplies", "it is to be divided by {b}"),
    ("div", into("mul"), "multiplied by {b} where one divides", "it is to be multiplied by {b}"),
    ("max", into("min"), "min for max", "min is due for max"),
    ("min", into("max"), "max for min", "max is due for min"),
    ("sum", into("prod"), "prod for sum", "a product is due, not a sum"),
    ("prod", into("sum"), "sum for prod", "a sum is due, not a product"),
    ("E", into("Var"), "Var for E", "Var is due for E"),
    ("Var", into("E"), "E for Var", "E is due for Var"),
)


@slip(SHAPE)
def another_operation(node: Node) -> Rewrites:
    yield from _by_another(node)
    if node.op == "pow":
        a, b = node.kids
        if b.op == "num" and isinstance(b.value, int) and b.value > 2:
            yield Node("pow", (a, num(b.value - 1))), f"the exponent {b.value - 1} for {b.value}", f"the exponent is to be {b.value - 1}"


@slip(SHAPE)
def squared(node: Node) -> Rewrites:
    if node.op in ("sym", "log", "sub", "E", "KL"):
        yield Node("pow", (node, num(2))), f"{say(node)} squared", f"{say(node)} is to be squared"


LOGGED = ("Z", *KIN[0], *KIN[1])
"""Letters that stand within a log more often than not."""


@slip(SHAPE)
def logarithm(node: Node) -> Rewrites:
    letter = node.kids[0] if node.op == "at" else node
    if node.op in ("div", "sigma", "sum", "E") or (letter.op == "sym" and letter.value in LOGGED):
        yield Node("log", (node,)), "a log too many", f"log {say(node)} is due"
    if node.op == "sym" and node.value == "Z":
        yield num(1), "Z omitted", "Z is too many"


WEIGHTS = {
    "s": (("d_pi", "s"), ("d_ref", "s")),
    "a": (("pi", "a", "s"), ("pi_ref", "a", "s"), ("pi_star", "a", "s")),
    "tau": (("p_star", "tau"),),
}
"""Laws that a sum over an index is weighted by, and what they stand at."""


@slip(SHAPE)
def mean_or_sum(node: Node) -> Rewrites:
    """A mean under a law, and a plain sum."""
    if node.op == "E" and len(node.kids) > 1 and node.kids[1].op == "draw":
        draw = node.kids[1]
        over = Node("over", (), draw.value or "tau")
        yield Node("sum", (node.kids[0], over)), "a sum where a mean is due", "a sum is due, not a mean"
    if node.op == "sum" and len(node.kids) == 2:
        for law in ("p", "p_ref"):
            mean = Node("E", (node.kids[0], Node("draw", (sym(law),), node.kids[1].value)))
            yield mean, f"a mean under {law} where a sum is due", f"a mean under {law} is due, not a sum"
    if node.op == "sum" and len(node.kids) == 2 and node.kids[1].value in WEIGHTS:
        for law, *given in WEIGHTS[str(node.kids[1].value)]:
            factor = Node("at", (sym(law), *map(index, given)))
            weighted = node.over(Node("mul", (factor, node.kids[0])), node.kids[1])
            yield weighted, f"a factor {say(factor)} too many", f"a factor {say(factor)} is missing"
    if node.op == "E" and any(kid.op == "draw" and kid.value == "x" for kid in node.kids):
        yield node.kids[0], "the mean over prompts dropped", "one prompt is meant, not the mean over prompts"


MOVABLE = ("log", "exp", "sigma", "pow", "grad", "abs")


@slip(SHAPE)
def moved_through(node: Node) -> Rewrites:
    """A function, a power or a gradient taken through a mean or a sum, or out of it."""
    inner = node.kids[0] if node.kids else node
    if node.op in MOVABLE and inner.op in ("E", "sum"):
        due = LAW_TOO.format("all") if node.op == "grad" else f"{_called(node)} is to be taken of each"
        yield _exchanged(node, inner), f"{_called(node)} taken into the mean", due
    if node.op in ("E", "sum"):
        yield from _out_of(node, inner)


LAW_TOO = "the law depends on the policy too: nabla is to be taken of {}"


def _called(node: Node) -> str:
    return {"grad": "nabla", "pow": "the power"}.get(node.op, node.op)


def _exchanged(outer: Node, inner: Node) -> Node:
    """An operation and the one in it in each other's place."""
    return inner.over(outer.over(inner.kids[0], *outer.kids[1:]), *inner.kids[1:])


def _out_of(node: Node, inner: Node) -> Rewrites:
    if inner.op in MOVABLE:
        due = LAW_TOO.format("the whole mean") if inner.op == "grad" else f"{_called(inner)} is to be taken last"
        yield _exchanged(node, inner), f"{_called(inner)} taken out of the mean", due
    if node.op == "sum" and inner.op == "mul" and inner.kids[1].op == "grad":
        whole = Node("grad", (node.over(Node("mul", (inner.kids[0], inner.kids[1].kids[0])), *node.kids[1:]),))
        due = f"{say(inner.kids[0])} depends on the policy too: a term of the product rule is missing"
        yield whole, "nabla taken out of the sum", due
    if inner.op == "mul":
        for a, b in (inner.kids, inner.kids[::-1]):
            split = Node("mul", (node.over(a, *node.kids[1:]), node.over(b, *node.kids[1:])))
            yield split, "the mean of a product split", "the mean is to be taken of each factor"
