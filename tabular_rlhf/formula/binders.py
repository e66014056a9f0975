r"""What binds: sums, products, means, extremes."""

from __future__ import annotations

from tabular_rlhf.formula.letters import ANY
from tabular_rlhf.formula.operators import CONDITIONS, Operators
from tabular_rlhf.formula.stream import CLOSED, items, spelled
from tabular_rlhf.formula.tokens import Token
from tabular_rlhf.formula.tree import Node, index, num, sym, walk


def occurs(name: str, node: Node) -> bool:
    """Whether an index occurs freely.

    >>> occurs("tau", Node("at", (sym("p"), index("tau"))))
    True
    """
    if node.op in ("sum", "prod", "maxover", "minover") and any(o.value == name for over in node.kids[1:] for _, o in walk(over)):
        return False
    return (node.op == "index" and node.value == name) or any(occurs(name, kid) for kid in node.kids)


def shared(overs: list[Node]) -> list[Node]:
    """What "i, j in A" says of j holds of i, too."""
    last = overs[-1] if overs else None
    if last is None or last.op != "such" or not (last.kids[1].op in ("gt", "le") and len(last.kids[1].kids[0].kids) == 2):
        return overs
    condition = last.kids[1]
    owner = condition.kids[0].kids[0]
    out = list[Node]()
    for one in overs:
        belongs = Node("at", (owner, Node("index", (), one.value)), None, owner.start, owner.end)
        out.append(Node("such", (one, condition.over(belongs, num(0))), None, one.start, one.end) if one.op == "over" else one)
    return out


class Binders(Operators):
    """Readers of the letters that bind indices or draw from laws."""

    # ------------------------------------------------------------------------------------------------ sums

    def read_sum(self) -> Node:
        at, op = self.at, self.take().text
        overs = self.overs()
        if not overs:
            raise self.refusal("a sum must say over what", r"write sum_tau, or sum_{h=1}^{H}", self.tokens[at], self.peek())
        names = [str(n.value) for over in overs for _, n in walk(over) if n.op in ("over", "range")]
        spelled_ = self.spelled_names(overs)
        self.bound += spelled_
        body = self.term()
        while op == "sum" and self.peek().kind in ("+", "-"):  # goes on while its index is free
            back, sign = self.at, self.take().kind
            more = self.term()
            if not any(occurs(name, more) for name in names):
                self.at = back
                break
            body = self.made("add" if sign == "+" else "sub", body, more)
        del self.bound[len(self.bound) - len(spelled_) :]
        return self.made(op, body, *overs, at=at)

    read_prod = read_sum

    def spelled_names(self, overs: list[Node]) -> list[str]:
        """The indices of a binder as they are written, y and not tau: bare, they are numbers of a range, or nothing."""
        found = [n for over in overs for _, n in walk(over) if n.op in ("over", "range")]
        return [self.text[n.start : n.end].lstrip("\\").partition("=")[0].strip() for n in found]

    def overs(self) -> list[Node]:
        """What stands below and above a sum: its indices, with their ranges or conditions."""
        below: list[Token] = []
        high: Node | None = None
        while self.peek().kind in ("_", "^"):
            if self.take().kind == "_":
                below = self.skip_group() if self.peek().kind in ("{", "(") else [self.take(), *self.primes()]
            else:
                high = self.argument()
        found = list[Node]()
        for item in items([t for t in below if t.kind not in ("(", ")")] if below and below[0].kind == "(" else below):
            found += self.within(item, "over_items", high)
        return shared(found)

    def within(self, tokens: list[Token], reader: str, *given: Node | None) -> list[Node]:
        """What a reader makes of some tokens, all of them."""
        inner = type(self)(self.text, tokens, self.aliases, self.declared)
        inner.bound, inner.functions = self.bound, self.functions
        found: list[Node] = getattr(inner, reader)(*given)
        if inner.peek().kind:
            raise inner.refusal("what stands below must be indices, ranges or conditions", "write tau, h=1, or i != j")
        return found

    def over_items(self, high: Node | None) -> list[Node]:
        found = list[Node]()
        while self.peek().kind:
            one = self.one_index()
            if one is None:
                raise self.refusal("a sum must run over an index", "use x, tau, s, a, h, i or j")
            over = Node("over", (), one.value, one.start, one.end)
            sign = self.peek()
            if sign.kind in (*CONDITIONS, ":") or sign.text in ("ni", "in", "notin"):
                self.take()
            if sign.kind == "=":
                low = self.sum()
                if high is None:
                    raise self.refusal("a range must have an upper end", "write sum_{h=1}^{H}", one, low)
                over = Node("range", (low, high), one.value, one.start, low.end)
            elif sign.kind in CONDITIONS:
                over = self.made("such", over, self.made(CONDITIONS[sign.kind], one, self.index_or_sum()))
            elif sign.kind == ":":
                over = self.made("such", over, self.condition())
            elif sign.text == "ni":
                over = self.made("such", over, self.made("through", one, self.place()))
            elif sign.text in ("in", "notin"):
                belongs = self.made("at", self.letter(), one)
                over = self.made("such", over, self.made("gt" if sign.text == "in" else "le", belongs, num(0)))
            found.append(over)
        return found

    def place(self) -> Node:
        """s, s + a, or (s, a), which is s + a."""
        if self.peek().kind == "(":
            inside = self.skip_group()
            pair = [self.indices_in(item) for item in items(inside)]
            if len(pair) == 2 and pair[0] and pair[1]:
                return Node("add", (pair[0][0], pair[1][0]))
        item = self.index_item()
        if item is None or item is ANY:
            raise self.refusal("a response must go through a state", "write s or s + a")
        return item

    def index_or_sum(self) -> Node:
        start = self.at
        one = self.one_index()
        if one is not None and (self.peek().kind in (*CONDITIONS, ")", "]", "}", ",", "") or self.peek().text in ("in", "notin")):
            return one
        self.at = start
        return self.sum()

    # ------------------------------------------------------------------------------------------------ means

    def read_E(self) -> Node:
        at, name = self.at, self.take().text
        draws = self.draws()
        opening = self.peek()
        if opening.kind == "[" or (opening.kind == "(" and name != "E"):
            kids = self.held()
        elif opening.kind == "{":
            kids = [self.bracketed()]
        elif name == "E":  # E(...)^2 has the square inside; E f g is the mean of all that follows
            kids = [self.factor() if opening.kind == "(" else self.term()]
        else:
            kids = [self.factor()]
        count = 2 if name == "Cov" else 1
        if sum(kid.op != "given" for kid in kids) != count:
            must = f"{name} must be of {'one number' if count == 1 else 'two numbers'}"
            raise self.refusal(must, f"write {name}({'f, g' if count > 1 else 'f'})", opening, self.edge)
        bodies, given = [k for k in kids if k.op != "given"], [k for k in kids if k.op == "given"]
        return self.made(name, *bodies, *draws, *given, at=at)

    read_Var = read_Cov = read_E

    def held(self) -> list[Node]:
        """What a bracket holds: formulas between commas, and what is given behind a bar."""
        opening, bars = self.opening(), self.bars
        self.bars = 0
        kids = [self.sum()]
        while self.peek().kind in (",", "|", ";"):
            if self.take().kind == "|":
                kids.append(self.given())
                break
            kids.append(self.sum())
        self.bars = bars
        self.close(opening)
        return kids

    def draws(self) -> list[Node]:
        """The subscript of a mean: laws, and what is drawn from each."""
        if self.peek().kind != "_":
            return []
        self.take()
        inside = self.skip_group() if self.peek().kind in ("{", "(") else [self.take(), *self.primes()]
        if not inside or inside[0].kind in CLOSED:
            raise self.refusal("a subscript must hold something", "write E_p, or leave it out", self.tokens[self.at - 1], self.edge)
        found, waiting = list[Node](), list[Token]()
        parts = items(inside)
        for part in parts:
            cut = next((k for k, t in enumerate(part) if t.kind == "~"), None)
            if cut is None:
                waiting += [*part, Token(",", ",", 0, 0)]
                continue
            drawn = self.drawn([*waiting, *part[:cut]])
            if not drawn:
                raise self.refusal("a draw must name what is drawn", "write y ~ pi", part[0], part[-1])
            found.append(Node("draw", tuple(self.within(part[cut + 1 :], "law")), drawn, part[0].start, part[-1].end))
            waiting = []
        if waiting and not found:
            bare = [t for t in inside if t.kind not in ("(", ")")]
            names = [self.indices_in(item) for item in items(bare)]
            if any(n.value is None for some in names for n in some or ()):
                raise self.refusal("a mean must be under a law", "write E_p", inside[0], inside[-1])
            law = spelled(bare) in self.aliases or spelled(bare) in self.declared
            if all(n is not None for n in names) and not law:
                value = " ".join(str(n.value) for some in names for n in some or ())
                return [Node("draw", (), value, inside[0].start, inside[-1].end)]
            return [Node("draw", tuple(self.within(inside, "law")), None, inside[0].start, inside[-1].end)]
        return found

    def drawn(self, tokens: list[Token]) -> str:
        """The names that are drawn: "x", "x w l"; a group {o_i}_{i=1}^G is "i"."""
        if tokens and tokens[0].kind == "[":
            tokens = tokens[1 : next(k for k, t in enumerate(tokens) if t.kind == "]")]
        bare = [t for t in tokens if t.kind not in ("(", ")")]
        names = list[str]()
        for item in items(bare):
            found = self.indices_in(item)
            if found is None or any(n.value is None for n in found):
                raise self.refusal("what is drawn must be prompts, responses, states or tokens", "write x ~ mu, y ~ p", item[0], item[-1])
            names += [str(n.value) for n in found]
        return " ".join(names)

    def law(self) -> list[Node]:
        return [self.letter()]

    # ------------------------------------------------------------------------------------------------ extremes and other functions

    def read_max(self) -> Node:
        at, name = self.at, self.take().text
        if name == "arg":
            if self.peek().text not in ("max", "min"):
                raise self.refusal("arg must be of max or min", r"write \arg\max", self.tokens[at], self.peek())
            name = f"arg{self.take().text}"
        overs = self.overs()
        if not overs and name in ("max", "min") and self.peek().kind in ("(", "[", "{") and any(t.kind == "," for t in self.level()):
            return self.made(name, *self.held(), at=at)
        names = self.spelled_names(overs)
        self.bound += names
        body = self.bracketed() if self.peek().kind in ("(", "[") else self.factor()
        del self.bound[len(self.bound) - len(names) :]
        return self.made(name if name.startswith("arg") else f"{name}over", body, *overs, at=at)

    read_min = read_argmax = read_argmin = read_arg = read_max

    def read_std(self) -> Node:
        """std(r), mean(r), std({r_1, ..., r_G}): of a group."""
        at, name = self.at, self.take().text
        if self.peek().kind not in ("(", "["):
            return self.made("std" if name == "std" else "mean", self.factor(), at=at)
        if any(t.kind == "dots" for t in self.tokens[self.at : self.at + 24]) and self.dotted():
            opening = self.at
            inside = [t for t in self.skip_group() if t.kind == "name"]
            if not inside:
                raise self.refusal("a group must be of a letter", r"write std(r_1, \ldots, r_G)", self.tokens[opening], self.edge)
            body = Node("at", (sym(self.name(inside[0].text)), index("i")), None, self.tokens[opening].start, self.peek().start)
            return self.made(name, body, at=at)
        return self.made(name, self.bracketed(), at=at)

    read_mean = read_std

    def dotted(self) -> bool:
        depth = 0
        for token in self.tokens[self.at :]:
            depth += (token.kind in ("(", "[")) - (token.kind in (")", "]"))
            if token.kind == "dots" or depth == 0:
                return token.kind == "dots"
        return False

    def read_clip(self) -> Node:
        return self.of_several("clip", 3, "clip must have a number and two ends", "write clip(x, low, high)")

    def read_binom(self) -> Node:
        r"""\binom{n}{k}; binom(n, k) in plain typing."""
        if self.ahead().kind == "(":
            return self.of_several("binom", 2, "binom must have two numbers", "write binom(n, k)")
        at, _, above = self.at, self.take(), self.argument()
        return self.made("binom", above, self.argument(), at=at)

    def of_several(self, op: str, count: int, must: str, remedy: str) -> Node:
        """A function of several numbers between commas."""
        at, _, kids = self.at, self.take(), self.held()
        if len(kids) != count:
            raise self.refusal(must, remedy, self.tokens[at], self.edge)
        return self.made(op, *kids, at=at)

    def read_inner(self) -> Node:
        r"""\langle f, g \rangle of two gradients; inner(f, g) in plain typing."""
        at = self.at
        if self.peek().kind == "name":
            self.take()
        opening = self.opening()
        first = self.sum()
        self.expect(",")
        second = self.sum()
        self.close(opening)
        return self.made("inner", first, second, at=at)
