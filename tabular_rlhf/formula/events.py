r"""What is said of laws and events: KL(p, q), H(p), P(y > y'), p_ref(r <= r(y))."""

from __future__ import annotations

from abc import abstractmethod

from tabular_rlhf.formula.letters import ANY, Letters
from tabular_rlhf.formula.tokens import Token
from tabular_rlhf.formula.tree import Node, index, sym

CONDITIONS = {"=": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}


PREFERENCES = {"P", "Pr", "p", "p_star", "p_BT", "P_BT", "p_star_BT"}
"""How the probability of a preference is called; another letter is another law of people."""


class Events(Letters):
    """Readers of divergences, entropies, preferences and probabilities."""

    @abstractmethod
    def bracketed(self) -> Node:
        """See `grammar`."""

    @abstractmethod
    def close(self, opening: Token) -> None:
        """See `grammar`."""

    def divergence(self, at: int, indices: list[Node]) -> Node:
        """KL(p, q), KL(p || q), KL[p | q]; KL(s) of the policies in a state; KL alone is that of the policy."""
        here = indices or self.arguments()
        if here and all(str(i.value).startswith("s") for i in here):
            return self.made("at", sym("KL_s"), *here, at=at)
        if here or (here is None and self.peek().kind not in ("(", "[", "{")):
            if here:
                raise self.refusal("KL must be of two laws, or of a state", "write KL(p, q)", self.tokens[at].start, self.peek().start)
            return self.made_at(sym("KL"), at)
        opening, bars = self.opening(), self.bars
        self.bars = 0
        p = self.sum()
        if self.peek().kind not in (",", "||", "|", ";", ":"):
            raise self.refusal("KL must be of two laws", "write KL(p, q)", p.start, self.peek().end)
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
        start = self.at
        left = self.one_index()
        between = self.take().kind if left is not None else ""
        right = self.one_index() if between in (">", "<") else None
        closed = self.peek().kind in (")", "|", ",")
        self.at = start
        return right is not None and closed

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
                token = self.peek()
                raise self.refusal(
                    "what is given must be a prompt, a state, or a state and a token", "write E[f | s, a]", token.start, token.end
                )
            found.append(item)
            if self.peek().kind != ",":
                return self.made("given", *found, at=at)
            self.take()
