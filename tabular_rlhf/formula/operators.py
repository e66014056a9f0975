r"""What is said of laws and events, KL(p, q), H(p), P(y > y'), p_ref(r <= r(y)); and what differentiates, \frac{d}{dz} f, \nabla f.

A derivative takes one factor (of a sum or a mean, all of it).  Where that factor stands still and the term goes on, it would be 0 in
silence: it is refused.
"""

from __future__ import annotations

from tabular_rlhf.formula.letters import ANY, Letters
from tabular_rlhf.formula.scopes import depends
from tabular_rlhf.formula.tree import Node, index, sym, walk
from tabular_rlhf.symbols import SYMBOLS

CONDITIONS = {"=": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}


PREFERENCES = {"P", "Pr", "p", "p_star", "p_BT", "P_BT", "p_star_BT"}
"""How the probability of a preference is called; another letter is another law of people."""


def holds(node: Node, letter: Node) -> bool:
    """Whether a letter stands in a formula, at whatever indices."""
    head = letter.kids[0] if letter.op == "at" else letter
    return any(n.op == head.op and n.value == head.value for _, n in walk(node))


class Operators(Letters):
    """Readers of divergences, entropies, preferences, probabilities and derivatives."""

    def divergence(self, at: int, indices: list[Node]) -> Node:
        """KL(p, q), KL(p || q), KL[p | q]; KL(s) of the policies in a state; KL alone is that of the policy."""
        here = indices or self.arguments()
        if here and all(str(i.value).startswith("s") for i in here):
            return self.made("at", sym("KL_s"), *here, at=at)
        if here or (here is None and self.peek().kind not in ("(", "[", "{")):
            if here:
                raise self.refusal("KL must be of two laws, or of a state", "write KL(p, q)", self.tokens[at], self.edge)
            return self.made_at(sym("KL"), at)
        opening, bars = self.opening(), self.bars
        self.bars = 0
        p = self.sum()
        if self.peek().kind not in (",", "||", "|", ";", ":"):
            raise self.refusal("KL must be of two laws", "write KL(p, q)", p, self.peek())
        while self.peek().kind in (",", "||", "|", ";"):
            self.take()
        q = self.sum()
        self.bars = bars
        self.close(opening)
        return self.made("KL", p, q, at=at)

    def read_H(self) -> Node:
        """H(p) is an entropy, H alone the horizon, H (H + 1) a product."""
        at = self.at
        if self.ahead().kind not in ("(", "["):
            return self.letter()
        self.take()
        arithmetic = any(t.kind in ("+", "-", "num") for t in self.level())
        if arithmetic:
            return self.made_at(sym("H"), at)
        law = self.bracketed()
        return self.made("H", law, at=at)

    def read_P(self) -> Node:
        at = self.at
        if self.ahead().kind in ("(", "["):
            self.take()
            if self.comparison_ahead():
                return self.probability(at, self.made_at(sym("P"), at))
            self.at = at
        return self.letter()

    def probability(self, at: int, head: Node) -> Node:
        """P(y > y'), a preference, where both sides are indices or laws; else the probability of a condition under the law in front."""
        opening = self.opening()
        level = self.level(self.at - 1)
        if any(t.text in ("succ", "prec") for t in level) or self.both_indices():
            left = self.side()
            prefers = self.take()
            right = self.side()
            self.behind_bar()
            self.close(opening)
            if prefers.text in ("prec", "<"):
                left, right = right, left
            if head.value not in PREFERENCES:
                return self.made("at", head, left, right, at=at)
            return self.made("beats", left, right, at=at)
        condition = self.condition()
        given = [self.given()] if self.peek().kind == "|" and self.take() else []
        self.close(opening)
        laws = [] if head.value in ("P", "Pr") else [Node("draw", (head,), None, head.start, head.end)]
        return self.made("prob", condition, *laws, *given, at=at)

    def both_indices(self) -> bool:
        """Whether > stands between two indices, so that it is a comparison of responses."""
        with self.looking():
            left = self.one_index()
            between = self.take().kind if left is not None else ""
            right = self.one_index() if between in (">", "<") else None
            return right is not None and self.peek().kind in (")", "|", ",")

    def side(self) -> Node:
        """A side of a preference: an index, a dot, or a law."""
        one = self.index_item()
        if one is ANY:
            return index("tau")
        return self.letter() if one is None else one

    def behind_bar(self) -> None:
        """Pass over "| x"."""
        if self.peek().kind in ("|", ",", ";"):
            self.take()
            self.index_item()

    def given(self) -> Node:
        at, found = self.at, list[Node]()
        while True:
            item = self.index_item()
            if item is None:
                raise self.refusal("what is given must be a prompt, a state, or a state and a token", "write E[f | s, a]")
            found.append(item)
            if self.peek().kind != ",":
                return self.made("given", *found, at=at)
            self.take()

    # ------------------------------------------------------------------------------------------------ derivatives

    def derivative(self, at: int) -> Node | None:
        r"""\frac{d}{dz} f, \frac{\partial f}{\partial z}, \frac{d^2}{dz^2} f."""
        top = self.ahead() if self.peek().kind == "{" else self.peek()
        behind = self.ahead(2 if self.peek().kind == "{" else 1).kind
        if top.text not in ("d", "partial") or "d" in self.declared or behind in ("_", "("):
            return None
        back = self.at
        braced = self.take().kind == "{"
        if braced:
            self.take()
        order = self.order()
        inner = None if not braced or self.peek().kind == "}" else self.sum()
        if braced:
            self.expect("}")
        if self.peek().kind != "{" or self.ahead().text not in ("d", "partial"):
            self.at = back
            return None
        self.take(), self.take()
        variables = [self.letter()]
        if self.peek().text in ("d", "partial"):
            self.take()
            variables.append(self.letter())
        again = self.order()
        self.expect("}")
        if order != again and order != len(variables):
            raise self.refusal("a derivative must name each of its letters", r"write \frac{d^2}{dz^2}", self.tokens[at], self.edge)
        node = inner if inner is not None else self.operand()
        if inner is None and self.goes_on() and not any(holds(node, v) for v in variables):
            must, below = "a derivative takes one factor, and this one must hold its letter", variables[0]
            if self.peek().kind in ("*", "/"):
                self.take()
            fraction = rf"\frac{{\partial\, {self.text[node.start : self.term().end]}}}{{\partial {self.text[below.start : below.end]}}}"
            raise self.refusal(must, f"write {fraction}, or a bracket around what it is of", self.tokens[at], node)
        for variable in (variables * order)[:order]:
            node = self.made("diff", node, variable, at=at)
        return node

    def goes_on(self) -> bool:
        """Whether another factor follows, which an operator that takes one does not reach."""
        return self.peek().kind in ("*", "/") or self.starts_factor()

    def stands_still(self, node: Node) -> bool:
        """Whether a factor is a number, or a symbol that does not move with the policy's logits."""
        head = node.kids[0] if node.op == "at" else node
        known = [n for n in (str(head.value), f"log_{head.value}") if head.op == "sym" and n in SYMBOLS and head.value not in self.declared]
        return head.op == "num" or (bool(known) and not any(depends(n, "logits") for n in known))

    def order(self) -> int:
        if self.peek().kind != "^":
            return 1
        self.take()
        power = self.argument()
        if power.op != "num" or not isinstance(power.value, int) or not 1 <= power.value <= 4:
            raise self.refusal("the order of a derivative must be a small number", "write d^2/dz^2", power)
        return power.value

    def read_nabla(self) -> Node:
        at = self.at
        self.take()
        if self.peek().kind == "_":
            self.take()
            self.skip_group()
        bracketed = self.peek().kind in ("(", "[")
        node = self.bracketed() if bracketed else self.operand()
        if not bracketed and self.goes_on() and self.stands_still(node):
            must = "nabla takes one factor, and this one must depend on the policy"
            raise self.refusal(must, r"put what it is of in brackets: \nabla (f g)", self.tokens[at], self.edge)
        return self.made("grad", node, at=at)

    read_grad = read_nabla

    def read_diff(self) -> Node:
        """diff(f, z), in plain typing."""
        at = self.at
        self.take()
        self.expect("(")
        body = self.sum()
        self.expect(",")
        variable = self.letter()
        self.expect(")")
        return self.made("diff", body, variable, at=at)
