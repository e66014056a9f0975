r"""The rules of slips: each takes one node, and yields what somebody may write in its place, with the mistake that it makes and mends.

    @slip(SIGN)
    def sign(node): ...        a + b  ->  a - b,  "sign of b flipped",  "the sign of b is flipped"

What is put in where it is missing has no node of its own: see `slips.missing`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tabular_rlhf.formula.say import say
from tabular_rlhf.formula.tree import Node, index, num, sym

Rewrites = Iterator[tuple[Node, str, str]]
Rule = Callable[[Node], Rewrites]
RULES: list[tuple[int, Rule]] = []
"""(rank, rule): the mistake of least rank is named first."""
DROP, SIGN, SYMBOL, SHAPE, EXTRA = range(5)
"""Ranks: a part left out, a sign, a wrong letter, a wrong operation, a part put in."""


def slip(rank: int) -> Callable[[Rule], Rule]:
    """Enter the decorated rule into the table."""

    def enter(rule: Rule) -> Rule:
        RULES.append((rank, rule))
        return rule

    return enter


# ---------------------------------------------------------------------------------------------------- parts left out


@slip(DROP)
def dropped_factor(node: Node) -> Rewrites:
    if node.op in ("mul", "div"):
        a, b = node.kids
        if node.op == "mul":
            yield b, f"{say(a)} dropped", f"a factor {say(a)} is too many"
        yield a, f"{say(b)} dropped", f"{'a factor' if node.op == 'mul' else 'a divisor'} {say(b)} is too many"
        if node.op == "div":
            yield Node("div", (num(1), b)), f"{say(a)} dropped", f"a factor {say(a)} is too many"


@slip(DROP)
def dropped_term(node: Node) -> Rewrites:
    if node.op in ("add", "sub"):
        a, b = node.kids
        yield a, f"the term {say(b)} dropped", f"the term {say(b)} is too many"
        yield b if node.op == "add" else Node("neg", (b,)), f"the term {say(a)} dropped", f"the term {say(a)} is too many"


@slip(DROP)
def dropped_function(node: Node) -> Rewrites:
    if node.op in ("log", "exp", "sigma", "sqrt", "abs"):
        yield node.kids[0], f"{node.op} dropped", f"{node.op} is too many"
    if node.op == "pow":
        yield node.kids[0], f"the exponent {say(node.kids[1])} dropped", f"the exponent {say(node.kids[1])} is too many"
    if node.op == "clip":
        yield node.kids[0], "clipping omitted", "nothing is to be clipped"
    if node.op in ("max", "min"):
        for kid in node.kids:
            yield kid, f"{node.op} dropped", f"{node.op} is too many"


# ---------------------------------------------------------------------------------------------------- signs


@slip(SIGN)
def sign(node: Node) -> Rewrites:
    if node.op in ("add", "sub"):
        other = "sub" if node.op == "add" else "add"
        word = "+ for -" if other == "add" else "- for +"
        yield (
            Node(other, node.kids),
            f"sign of {say(node.kids[1])} flipped",
            f"the sign of {say(node.kids[1])} is flipped ({word} is right)",
        )
    if node.op == "neg":
        yield node.kids[0], "sign flipped", "its sign is flipped"
    if node.op == "sigma":
        yield Node("sigma", (Node("neg", node.kids),)), "sign within sigma flipped", "the sign within sigma is flipped"
    if node.op == "exp":
        yield Node("exp", (Node("neg", node.kids),)), "sign of the exponent flipped", "the sign of the exponent is flipped"


@slip(SIGN)
def swapped(node: Node) -> Rewrites:
    """Two parts in each other's place."""
    if node.op in ("KL", "sub"):
        a, b = node.kids[:2]
        what = "KL" if node.op == "KL" else "the difference"
        yield node.over(b, a, *node.kids[2:]), f"arguments of {what} swapped", f"the arguments of {what} are swapped"
    if node.op == "div":
        a, b = node.kids
        yield Node("div", (b, a)), f"{say(node)} inverted", f"{say(node)} is upside down"
    if node.op == "beats":
        yield node.over(*reversed(node.kids)), "winner and loser swapped", "winner and loser are swapped"


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
                    new, mean = draw.over(sym(other)), f"a mean under {say(sym(other))}"
                    yield (
                        node.over(*node.kids[:k], new, *node.kids[k + 1 :]),
                        f"{mean} where one under {say(law)} is due",
                        f"{mean} is due, not one under {say(law)}",
                    )


@slip(SYMBOL)
def another_letter(node: Node) -> Rewrites:
    if node.op == "sym":
        for family in KIN:
            for other in family if node.value in family else ():
                if other != node.value:
                    yield sym(other), f"{say(sym(other))} for {say(node)}", f"{say(sym(other))} is due for {say(node)}"


@slip(SYMBOL)
def another_index(node: Node) -> Rewrites:
    """The loser for the winner, one of two responses or states for the other."""
    if node.op == "at":
        for k, kid in enumerate(node.kids[1:], 1):
            other = (
                {"w": "l", "l": "w", "tau": "tau'", "tau'": "tau", "i": "j", "j": "i"}.get(str(kid.value)) if kid.op == "index" else None
            )
            if other:
                new = Node("index", (), other)
                yield node.over(*node.kids[:k], new, *node.kids[k + 1 :]), f"{other} for {kid.value}", f"{other} is due for {kid.value}"


@slip(SYMBOL)
def another_number(node: Node) -> Rewrites:
    if node.op == "num" and isinstance(node.value, (int, float)):
        n = node.value
        for other in dict.fromkeys((n + 1, n - 1, 2 * n, n / 2, 0)):
            if other != n:
                shown = num(int(other) if other == int(other) else other)
                yield shown, f"{say(shown)} for {say(node)}", f"{say(shown)} is due for {say(node)}"


# ---------------------------------------------------------------------------------------------------- wrong operations


NAMED = {"sum": "sum", "prod": "product"}


@slip(SHAPE)
def another_operation(node: Node) -> Rewrites:
    if node.op == "mul":
        a, b = node.kids
        yield Node("div", (b, a)), f"divided by {say(a)} where one multiplies", f"it is to be divided by {say(a)}"
        yield Node("div", (a, b)), f"divided by {say(b)} where one multiplies", f"it is to be divided by {say(b)}"
    if node.op == "div":
        a, b = node.kids
        yield Node("mul", (a, b)), f"multiplied by {say(b)} where one divides", f"it is to be multiplied by {say(b)}"
    if node.op == "pow":
        a, b = node.kids
        if b.op == "num" and isinstance(b.value, int) and b.value > 2:
            yield Node("pow", (a, num(b.value - 1))), f"the exponent {b.value - 1} for {b.value}", f"the exponent is to be {b.value - 1}"
    if node.op in ("max", "min"):
        other = "min" if node.op == "max" else "max"
        yield Node(other, node.kids), f"{other} for {node.op}", f"{other} is due for {node.op}"
    if node.op in ("sum", "prod"):
        other = "prod" if node.op == "sum" else "sum"
        yield Node(other, node.kids), f"{other} for {node.op}", f"a {NAMED[other]} is due, not a {NAMED[node.op]}"
    if node.op in ("E", "Var"):
        other = "Var" if node.op == "E" else "E"
        yield Node(other, node.kids), f"{other} for {node.op}", f"{other} is due for {node.op}"


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
            draw = Node("draw", (sym(law),), node.kids[1].value)
            yield (
                Node("E", (node.kids[0], draw)),
                f"a mean under {law} where a sum is due",
                f"a mean under {say(sym(law))} is due, not a sum",
            )
    if node.op == "sum" and len(node.kids) == 2 and node.kids[1].value in WEIGHTS:
        for law, *given in WEIGHTS[str(node.kids[1].value)]:
            factor = Node("at", (sym(law), *map(index, given)))
            weighted = node.over(Node("mul", (factor, node.kids[0])), node.kids[1])
            yield weighted, f"a factor {say(factor)} too many", f"a factor {say(factor)} is missing"
    if node.op == "E" and any(kid.op == "draw" and kid.value == "x" for kid in node.kids):
        yield node.kids[0], "the mean over prompts dropped", "one prompt is meant, not the mean over prompts"


@slip(SHAPE)
def moved_through(node: Node) -> Rewrites:
    """A function, a power or a gradient taken through a mean or a sum, or out of it."""
    inner = node.kids[0] if node.kids else node
    if node.op in ("log", "exp", "sigma", "pow", "grad", "abs") and inner.op in ("E", "sum"):
        through = inner.over(node.over(inner.kids[0], *node.kids[1:]), *inner.kids[1:])
        what = {"grad": "nabla", "pow": "the power"}.get(node.op, node.op)
        due = "the law depends on the policy too: nabla is to be taken of all" if node.op == "grad" else f"{what} is to be taken of each"
        yield through, f"{what} taken into the mean", due
    if node.op in ("E", "sum"):
        yield from _out_of(node, inner)


def _out_of(node: Node, inner: Node) -> Rewrites:
    if inner.op in ("log", "exp", "sigma", "pow", "grad", "abs"):
        what = {"grad": "nabla", "pow": "the power"}.get(inner.op, inner.op)
        out = inner.over(node.over(inner.kids[0], *node.kids[1:]), *inner.kids[1:])
        due = (
            "the law depends on the policy too: nabla is to be taken of the whole mean"
            if inner.op == "grad"
            else f"{what} is to be taken last"
        )
        yield out, f"{what} taken out of the mean", due
    if node.op == "sum" and inner.op == "mul" and inner.kids[1].op == "grad":
        whole = Node("grad", (node.over(Node("mul", (inner.kids[0], inner.kids[1].kids[0])), *node.kids[1:]),))
        due = f"{say(inner.kids[0])} depends on the policy too: a term of the product rule is missing"
        yield whole, "nabla taken out of the sum", due
    if inner.op in ("mul", "div"):
        for k in (0, 1):
            a, b = inner.kids[k], inner.kids[1 - k]
            if inner.op == "mul":
                split = Node("mul", (node.over(a, *node.kids[1:]), node.over(b, *node.kids[1:])))
                yield split, "the mean of a product split", "the mean is to be taken of each factor"
