"""What a formula's tree means, by loops over responses, states and tokens, in plain `math`: no arrays, no axes, nothing of the package.

A tree is evaluated at one assignment of numbers to indices.  A world is dictionaries: responses as tuples of tokens, made by itertools.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

Node = Any
Place = dict[str, Any]


def kind(name: str) -> str:
    base = name.rstrip("'").split("_")[0].split("@")[0]
    return {"x": "x", "tau": "tau", "w": "tau", "l": "tau", "i": "tau", "j": "tau", "s": "s", "a": "a", "b": "a", "h": "h", "t": "h"}[base]


class World:
    """Prompts 0..P-1; responses and states are tuples of tokens."""

    def __init__(self, V: int, H: int, eos: bool, mu: list[float], beta: float) -> None:
        self.V, self.H, self.mu, self.beta = V, H, mu, beta
        self.live = range(V - 1) if eos else range(V)
        self.states = [s for h in range(H) for s in itertools.product(self.live, repeat=h)]
        self.responses = [s + (a,) for s in self.states for a in range(V) if self.ends(s + (a,))]
        self.tables: dict[str, Any] = {}

    def ends(self, tokens: tuple[int, ...]) -> bool:
        return len(tokens) == self.H or tokens[-1] not in self.live

    def law(self, policy: dict[Any, float]) -> dict[Any, float]:
        """{(x, tau): product of the policy's tokens} of {(x, s, a): probability}."""
        return {
            (x, tau): math.prod(policy[x, tau[:h], tau[h]] for h in range(len(tau))) for x in range(len(self.mu)) for tau in self.responses
        }


def product(a: float, b: float) -> float:
    return 0.0 if a == 0 or b == 0 else a * b


def quotient(a: float, b: float) -> float:
    if b == 0:
        return math.nan if a == 0 or math.isnan(a) else math.copysign(math.inf, a)
    return a / b


def power(a: float, b: float) -> float:
    try:
        return a**b
    except OverflowError:
        return math.inf
    except ZeroDivisionError:
        return math.inf


def log(a: float) -> float:
    return -math.inf if a == 0 else math.nan if math.isnan(a) or a < 0 else math.log(a)


def exp(a: float) -> float:
    return math.inf if a > 700 else math.exp(a)


class Walker:
    """Evaluates trees on one world."""

    def __init__(self, world: World) -> None:
        self.world = world

    def __call__(self, node: Node, place: Place) -> float:
        return float(getattr(self, f"do_{node.op}")(node, place))

    def run(self, name: str) -> Iterator[Any]:
        w = self.world
        yield from {"x": range(len(w.mu)), "tau": w.responses, "s": w.states, "a": range(w.V)}[kind(name)]

    # -------------------------------------------------------------------------------------------- letters

    def do_num(self, node: Node, place: Place) -> float:
        return node.value

    def do_sym(self, node: Node, place: Place) -> float:
        axes, table = self.world.tables[node.value]
        return table[tuple(place[a] for a in axes)]

    def do_at(self, node: Node, place: Place) -> float:
        head, *given = node.kids
        axes, table = self.world.tables[head.value]
        if given[-1].op == "add" or (kind(given[-1].value) == "s" and "tau" in axes):  # the mass of a state, of s + a
            prefix = (
                self.read(given[-1].kids[0], place) + (self.read(given[-1].kids[1], place),)
                if given[-1].op == "add"
                else self.read(given[-1], place)
            )
            return sum(table[place["x"], tau] for tau in self.world.responses if tau[: len(prefix)] == prefix)
        named = {kind(g.value): self.read(g, place) for g in given}
        if axes == ("x", "s", "a") and "tau" in named:
            tau = named["tau"]
            return math.prod(table[place["x"], tau[:h], tau[h]] for h in range(len(tau)))
        if axes == ("x", "tau", "tau'"):
            first, second = (self.read(g, place) for g in given)
            return table[place["x"], first, second]
        return table[tuple(named.get(kind(a), place.get(a)) for a in axes)]

    def read(self, index: Node, place: Place) -> Any:
        if not index.kids:
            return place[index.value]
        step = place[index.kids[0].value]
        return place["tau"][:step] if index.value == "s" else place["tau"][step]

    # -------------------------------------------------------------------------------------------- arithmetic

    def two(self, node: Node, place: Place) -> tuple[float, float]:
        return self(node.kids[0], place), self(node.kids[1], place)

    def do_add(self, node: Node, place: Place) -> float:
        return sum(self.two(node, place))

    def do_sub(self, node: Node, place: Place) -> float:
        a, b = self.two(node, place)
        return a - b

    def do_mul(self, node: Node, place: Place) -> float:
        return product(*self.two(node, place))

    def do_div(self, node: Node, place: Place) -> float:
        return quotient(*self.two(node, place))

    def do_pow(self, node: Node, place: Place) -> float:
        return power(*self.two(node, place))

    def one(self, node: Node, place: Place) -> float:
        return self(node.kids[0], place)

    def do_neg(self, node: Node, place: Place) -> float:
        return -self.one(node, place)

    def do_exp(self, node: Node, place: Place) -> float:
        return exp(self.one(node, place))

    def do_log(self, node: Node, place: Place) -> float:
        inner = node.kids[0]
        if inner.op == "div":  # the logarithm of a quotient is a difference
            return log(self(inner.kids[0], place)) - log(self(inner.kids[1], place))
        return log(self.one(node, place))

    def do_sigma(self, node: Node, place: Place) -> float:
        x = self.one(node, place)
        return 1 / (1 + exp(-x)) if x > -700 else 0.0 if x < 0 else x

    def do_abs(self, node: Node, place: Place) -> float:
        return abs(self.one(node, place))

    def do_sqrt(self, node: Node, place: Place) -> float:
        return math.sqrt(self.one(node, place))

    def do_arcsin(self, node: Node, place: Place) -> float:
        return math.asin(self.one(node, place))

    def do_min(self, node: Node, place: Place) -> float:
        return min(self(k, place) for k in node.kids)

    def do_max(self, node: Node, place: Place) -> float:
        return max(self(k, place) for k in node.kids)

    def do_clip(self, node: Node, place: Place) -> float:
        x, low, high = (self(k, place) for k in node.kids)
        return min(max(x, low), high)

    def do_ind(self, node: Node, place: Place) -> float:
        return self.holds(node.kids[0], place)

    def holds(self, node: Node, place: Place) -> bool:
        if node.op == "through":
            tau, prefix = self.read(node.kids[0], place), node.kids[1]
            prefix = (
                self.read(prefix.kids[0], place) + (self.read(prefix.kids[1], place),) if prefix.op == "add" else self.read(prefix, place)
            )
            return tau[: len(prefix)] == prefix
        a, b = (place[k.value] if k.op == "index" else self(k, place) for k in node.kids)
        return {"eq": a == b, "ne": a != b, "lt": a < b, "le": a <= b, "gt": a > b, "ge": a >= b}[node.op]

    # -------------------------------------------------------------------------------------------- sums and means

    def do_sum(self, node: Node, place: Place) -> float:
        body, *overs = node.kids
        return self.summed(body, overs, place)

    def summed(self, body: Node, overs: list[Node], place: Place) -> float:
        if not overs:
            return self(body, place)
        over, rest = overs[0], overs[1:]
        condition = None
        if over.op == "such":
            over, condition = over.kids
        name = over.value
        if over.op == "range":
            values: Any = range(round(self(over.kids[0], place)), round(self(over.kids[1], place)) + 1)
        elif kind(name) == "h":
            values = range(len(place["tau"]))
        else:
            values = self.run(name)
        total = 0.0
        for value in values:
            inside = {**place, name: value}
            if condition is None or self.holds(condition, inside):
                total += self.summed(body, rest, inside)
        return total

    def do_prod(self, node: Node, place: Place) -> float:
        """Along a response."""
        return math.prod(self(node.kids[0], {**place, node.kids[1].value: h}) for h in range(len(place["tau"])))

    def do_index(self, node: Node, place: Place) -> float:
        return place[node.value]

    def do_maxover(self, node: Node, place: Place) -> float:
        allowed = [tau for tau in self.world.responses if self.world.tables["p_ref"][1][place["x"], tau] > 0]
        return max(self(node.kids[0], {**place, "tau": tau}) for tau in allowed)

    def do_E(self, node: Node, place: Place) -> float:
        return self.drawn(node.kids[0], list(node.kids[1:]), place)

    def drawn(self, body: Node, draws: list[Node], place: Place) -> float:
        if not draws:
            return self(body, place)
        law = draws[0].kids[0]
        name = draws[0].value or ("x" if law.value == "mu" else "tau")
        total = 0.0
        for value in self.run(name):
            inside = {**place, name: value}
            total += product(self(law, {**inside, kind(name): value}), self.drawn(body, draws[1:], inside))
        return total

    def do_Var(self, node: Node, place: Place) -> float:
        return self.rests(node.kids[0], node.kids[0], node.kids[1], place)

    def do_Cov(self, node: Node, place: Place) -> float:
        return self.rests(node.kids[0], node.kids[1], node.kids[2], place)

    def rests(self, a: Node, b: Node, draw: Node, place: Place) -> float:
        responses = [{**place, "tau": tau} for tau in self.world.responses]
        weight = [self(draw.kids[0], at) for at in responses]
        means = [sum(product(p, self(f, at)) for p, at in zip(weight, responses, strict=True)) for f in (a, b)]
        return sum(product(p, (self(a, at) - means[0]) * (self(b, at) - means[1])) for p, at in zip(weight, responses, strict=True))

    def do_KL(self, node: Node, place: Place) -> float:
        total = 0.0
        for tau in self.world.responses:
            p, q = (self(k, {**place, "tau": tau}) for k in node.kids)
            total += math.inf if p > 0 and q == 0 else product(p, log(p) - log(q))
        return total

    def do_H(self, node: Node, place: Place) -> float:
        laws = (self(node.kids[0], {**place, "tau": tau}) for tau in self.world.responses)
        return -sum(product(p, log(p)) for p in laws)

    def do_prob(self, node: Node, place: Place) -> float:
        """Of a condition "r <= r(tau)": the left side is drawn, the right side stands."""
        condition, draw = node.kids
        total = 0.0
        for tau in self.world.responses:
            drawn, stands = self(condition.kids[0], {**place, "tau": tau}), self(condition.kids[1], place)
            total += self(draw.kids[0], {**place, "tau": tau}) * {"le": drawn <= stands, "lt": drawn < stands}[condition.op]
        return total

    def do_beats(self, node: Node, place: Place) -> float:
        first, second = (place[k.value] for k in node.kids)
        return self.world.tables["P_beats"][1][place["x"], first, second]
