r"""Operators that differentiate: \frac{d}{dz} f, \frac{\partial f}{\partial z}, \nabla f.

An operator takes one factor (of a sum or a mean, all of it).  Where that factor stands still and the term goes on, it would be 0 in
silence: it is refused.
"""

from __future__ import annotations

from abc import abstractmethod

from tabular_rlhf.formula.binders import Binders
from tabular_rlhf.formula.scopes import depends
from tabular_rlhf.formula.tree import Node, walk
from tabular_rlhf.symbols import SYMBOLS


def holds(node: Node, letter: Node) -> bool:
    """Whether a letter stands in a formula, at whatever indices."""
    head = letter.kids[0] if letter.op == "at" else letter
    return any(n.op == head.op and n.value == head.value for _, n in walk(node))


class Operators(Binders):
    """Readers of derivatives."""

    @abstractmethod
    def sum(self) -> Node:
        """See `grammar`."""

    @abstractmethod
    def operand(self) -> Node:
        """See `grammar`."""

    @abstractmethod
    def starts_factor(self) -> bool:
        """See `grammar`."""

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
            raise self.refusal(
                "a derivative must name each of its letters", r"write \frac{d^2}{dz^2}", self.tokens[at].start, self.peek().start
            )
        node = inner if inner is not None else self.operand()
        if inner is None and self.goes_on() and not any(holds(node, v) for v in variables):
            must, end, below = "a derivative takes one factor, and this one must hold its letter", node.end, variables[0]
            if self.peek().kind in ("*", "/"):
                self.take()
            whole = self.text[node.start : self.term().end]
            remedy = (
                rf"write \frac{{\partial\, {whole}}}{{\partial {self.text[below.start : below.end]}}}, or a bracket around what it is of"
            )
            raise self.refusal(must, remedy, self.tokens[at].start, end)
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
            raise self.refusal("the order of a derivative must be a small number", "write d^2/dz^2", power.start, power.end)
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
            raise self.refusal(must, r"put what it is of in brackets: \nabla (f g)", self.tokens[at].start, self.peek().start)
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
