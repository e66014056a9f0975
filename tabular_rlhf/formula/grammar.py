r"""The parser of expressions: sums of products of factors, with the habits of printed mathematics.

    sum      term (+|- term)...
    term     -term, or factor (* | / | nothing) factor ...
    factor   primary ^ power
    primary  number, letter, (sum), |sum|, \frac, a function and what it takes

**Habits.**  log and nabla take one factor, but all of a following sum, product or mean.  A sum takes the rest of its term, and goes on over
+ and - while its index occurs there.  E[...] ends with its bracket; E(...)^2 has the square inside.  A letter is followed by `(` as a
function if the bracket holds indices, if the letter is a function, or if a relation stands inside; otherwise it is a product.

What could be read in two ways is refused: `log p / q`, `a / b c`.
"""

from __future__ import annotations

from dataclasses import replace

from tabular_rlhf.formula.binders import Binders
from tabular_rlhf.formula.operators import CONDITIONS
from tabular_rlhf.formula.spellings import FUNCTIONS, KL_KEYS
from tabular_rlhf.formula.tokens import Token
from tabular_rlhf.formula.tree import Node, index, num, sym

CLOSES = {"(": ")", "[": "]", "{": "}", "(abs": "abs)", "(in": "in)", "|": "|"}
ENDS = {")", "]", "}", ",", ";", "|", "||", "abs)", "in)", "quad", "newline", "~", "word", ":", ":=", "=", "", "+", "-", "*", "/"}
ENDS |= {"<", "<=", ">", ">=", "!=", "_", "^", "'"}
RELATION_NAMES = {"propto", "succ", "prec", "in", "notin", "ni", "to", "approx", "where", "with", "at", "for", "if", "let", "and", "up"}
BINDERS = {"sum", "prod", "E", "max", "min", "argmax", "argmin"}


class Grammar(Binders):
    """An expression reader; `letters.py` reads names and indices, `binders.py` sums, means and divergences."""

    # ------------------------------------------------------------------------------------------------ sums and products

    def sum(self) -> Node:
        left = self.term()
        while self.peek().kind in ("+", "-"):
            op = "add" if self.take().kind == "+" else "sub"
            left = self.made(op, left, self.term())
        return left

    def term(self) -> Node:
        at = self.at
        if self.peek().kind == "-":
            self.take()
            return self.made("neg", self.term(), at=at)
        if self.peek().kind == "+":
            self.take()
            return self.term()
        left, slash = self.factor(), False
        while True:
            kind = self.peek().kind
            if kind in ("*", "/"):
                sign = self.take()
                if kind == "/" and left.op == "log" and self.text[left.end - 1 : left.end] not in ")]}":
                    remedy = "write log(p/q), or (log p)/q"
                    raise self.refusal("a logarithm before a slash must show what it is of", remedy, left, sign)
                right = self.signed()
                left, slash = self.made("mul" if kind == "*" else "div", left, right, at=at), kind == "/" and left.op != "num"
            elif self.starts_factor():
                if slash and self.glued():
                    remedy = "write a/(b c), or (a/b) c, or put a sign of multiplication"
                    raise self.refusal("what stands below a slash must be plain", remedy, left, self.peek())
                left = self.made("mul", left, self.factor(), at=at)
            else:
                return left

    def signed(self) -> Node:
        """A factor that may have a sign of its own: a * -b."""
        if self.peek().kind == "-":
            at = self.at
            self.take()
            return self.made("neg", self.signed(), at=at)
        return self.factor()

    def glued(self) -> bool:
        """Whether the next factor would be taken for a part of the denominator: a letter or a bracket right behind it."""
        token = self.peek()
        return token.kind == "name" and token.text not in BINDERS | {"nabla", "frac", "log"} | KL_KEYS

    def starts_factor(self) -> bool:
        token = self.peek()
        if token.kind == "|":
            return self.bars == 0 and self.abs_ahead()
        return token.kind not in ENDS and not (token.kind == "name" and token.text in RELATION_NAMES)

    def abs_ahead(self) -> bool:
        """Whether a bar in the place of a factor opens an absolute value: then another one follows in the same bracket."""
        depth = 0
        for token in self.tokens[self.at + 1 :]:
            depth += (token.kind in ("(", "[", "{", "(abs")) - (token.kind in (")", "]", "}", "abs)"))
            if depth < 0 or (depth == 0 and token.kind in ("quad", "newline", "=", ",")):
                return False
            if depth == 0 and token.kind == "|":
                return True
        return False

    def factor(self) -> Node:
        at = self.at
        base = self.primary()
        while self.peek().kind == "^":
            if base.op == "pow" and self.text[base.end - 1 : base.end] != ")":
                raise self.refusal("a power of a power must show its brackets", "write (a^b)^c", base, self.peek())
            self.take()
            power = self.exponent()
            if base.op == "sym" and power.op == "sym" and power.value == "tau":
                raise self.refusal("a power must be no name", "write (p)^{tau} for a power, or name the letter otherwise", base, power)
            base = self.made("pow", base, power, at=at)
        return base

    def exponent(self) -> Node:
        """What stands above: a letter there takes no bracket behind it, q^k (1 - q)."""
        name, at = self.peek(), self.at
        if self.ahead().kind == "(" and name.text in self.bound:
            return self.made_at(index(self.take().text), at)
        if self.ahead().kind == "(" and name.text in self.functions:
            return self.made_at(sym(self.take().text), at)
        return self.argument()

    def argument(self) -> Node:
        """A group in braces, or one primary: what \\frac, a power and a root take."""
        if self.peek().kind == "{":
            return self.bracketed()
        if self.peek().kind == "-":
            return self.signed()
        return self.primary()

    def bracketed(self) -> Node:
        """A sum in brackets, whatever their kind; the node spans the brackets."""
        at, opening = self.at, self.opening()
        bars, self.bars = self.bars, 0
        inner = self.sum()
        self.bars = bars
        self.close(opening)
        return replace(inner, start=self.tokens[at].start, end=self.tokens[self.at - 1].end)

    def close(self, opening: Token) -> None:
        want = CLOSES[opening.kind]
        if self.peek().kind == want or (opening.kind in "([" and self.peek().kind in (")", "]") and opening.kind != "{"):
            self.take()
            return
        raise self.refusal(f"a bracket {opening.text} must be closed by {want}", "close it, or leave out what stands before")

    # ------------------------------------------------------------------------------------------------ primaries

    def primary(self) -> Node:
        token, at = self.peek(), self.at
        if token.kind == "num":
            self.take()
            if token.text == "1" and ((self.peek().kind == "[" and self.relation_inside()) or self.peek().kind == "_"):
                return self.indicator(at)
            return self.made_at(num(float(token.text) if "." in token.text or "e" in token.text.lower() else int(token.text)), at)
        if token.kind == "infty":
            self.take()
            return self.made_at(num(float("inf")), at)
        if token.kind in ("(", "[", "{"):
            return self.bracketed()
        if token.kind in ("|", "(abs"):
            return self.absolute()
        if token.kind == "(in":
            return self.read_inner()
        if token.kind == "name":
            reader = getattr(self, f"read_{token.text}", None) if token.text in READ else None
            if token.text in FUNCTIONS and token.text not in self.declared:
                return self.function(FUNCTIONS[token.text])
            if reader is not None and token.text not in self.declared:
                return reader()
            return self.letter()
        must = "a formula must go on with a number, a letter or a bracket"
        raise self.refusal(must, "complete it, or leave out what stands before")

    def absolute(self) -> Node:
        at, opening = self.at, self.take()
        self.bars += 1
        length = self.length_index()
        inner = length if length is not None else self.sum()
        self.bars -= 1
        self.close(opening)
        return self.made_at(inner, at) if length is not None else self.made("abs", inner, at=at)

    def function(self, op: str) -> Node:
        """log, exp, sigma ...: of a bracket, of a following sum or mean, else of one factor; log^2 x is (log x)^2."""
        at = self.at
        self.take()
        power = None
        if op == "log" and self.peek().kind == "_":
            self.take()
            if self.peek().kind == "num" or (self.peek().kind == "{" and self.ahead().kind == "num"):
                raise self.refusal("a logarithm must be natural", "divide by log 2")
            return self.made(op, self.argument(), at=at)
        if op == "sigma" and self.peek().kind in ("_", "'"):
            self.at = at
            return self.letter()
        if self.peek().kind == "^":
            self.take()
            power = self.argument()
        if op in ("sigma", "sqrt", "exp", "abs") and self.peek().kind not in ("(", "[", "{"):
            if op == "sigma":
                self.at = at
                return self.letter()
            inner = self.argument()
        elif self.peek().kind in ("(", "[", "{"):
            inner = self.bracketed()
        else:
            inner = self.operand()
        node = self.made(op, inner, at=at)
        return node if power is None else self.made("pow", node, power, at=at)

    def operand(self) -> Node:
        """What log and nabla take: a binder with all that follows, else one factor."""
        if self.peek().kind == "-":
            return self.signed()
        if self.peek().kind == "name" and self.peek().text in ("sum", "prod"):
            return self.term()
        return self.factor()

    def read_frac(self) -> Node:
        at = self.at
        self.take()
        found = self.derivative(at)
        if found is not None:
            return found
        above = self.argument()
        return self.made("div", above, self.argument(), at=at)

    def read_e(self) -> Node:
        """e^x is exp(x), where e is no letter of its own."""
        at = self.at
        if self.ahead().kind != "^":
            return self.letter()
        self.take(), self.take()
        return self.made("exp", self.exponent(), at=at)

    def read_ind(self) -> Node:
        at = self.at
        self.take()
        return self.indicator(at)

    read_I = read_ind

    def indicator(self, at: int) -> Node:
        """1[i = k], 1_{y = w}, 1(r > 0), and 1_A, which is 1 where A holds."""
        if self.peek().kind == "_":
            self.take()
        if self.peek().kind == "name":
            return self.letter()
        if self.peek().kind not in ("[", "(", "{"):
            raise self.refusal("an indicator must hold a condition", "write 1[i = j]", self.tokens[at], self.peek())
        opening = self.take()
        condition = self.condition()
        self.close(opening)
        return self.made("ind", condition, at=at)

    def condition(self) -> Node:
        """i = k, r > 0, p_pi < p_ref, i in A."""
        at = self.at
        left = self.index_or_sum()
        token = self.peek()
        relation = CONDITIONS.get(token.kind)
        if token.text in ("in", "notin"):
            self.take()
            belongs = self.made("at", self.letter(), left, at=at)
            return self.made("gt" if token.text == "in" else "le", belongs, num(0), at=at)
        if relation is None:
            raise self.refusal("a condition must hold a relation", "write i = j, r > 0, or the like")
        self.take()
        return self.made(relation, left, self.index_or_sum(), at=at)

    def relation_inside(self) -> bool:
        """Whether the bracket that opens here holds a relation at its own level."""
        return any(t.kind in CONDITIONS or t.text in ("succ", "prec", "in", "notin") for t in self.level())


READ = {"frac", "nabla", "grad", "e", "ind", "I", "sum", "prod", "max", "min", "argmax", "argmin", "arg", "E", "Var", "Cov", "std", "mean"}
READ |= {"clip", "H", "P", "diff", "inner", "binom"}
