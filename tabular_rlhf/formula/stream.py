"""Tokens one after another: what the parser is built on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from tabular_rlhf.errors import InputError
from tabular_rlhf.formula.tokens import Token, refuse
from tabular_rlhf.formula.tree import Node

OPENS, CLOSED = ("(", "[", "{", "(abs", "(in"), (")", "]", "}", "abs)", "in)")


class Stream:
    """Tokens, and the place among them that is read next."""

    sum: Callable[[], Node]  # of `grammar`, as all but the last two
    condition: Callable[[], Node]
    term: Callable[[], Node]
    factor: Callable[[], Node]
    argument: Callable[[], Node]
    bracketed: Callable[[], Node]
    close: Callable[[Token], None]
    operand: Callable[[], Node]
    starts_factor: Callable[[], bool]
    divergence: Callable[[int, list[Node]], Node]  # of `operators`
    probability: Callable[[int, Node], Node]

    def __init__(self, text: str, tokens: list[Token], aliases: Mapping[str, str], declared: set[str]) -> None:
        self.text, self.tokens, self.at, self.bars = text, [*tokens, Token("", "", len(text), len(text))], 0, 0
        self.aliases, self.declared = aliases, declared
        self.functions: set[str] = set()
        self.bound: list[str] = []

    def peek(self) -> Token:
        return self.tokens[self.at]

    def ahead(self, k: int = 1) -> Token:
        """The token that stands k further on."""
        return self.tokens[min(self.at + k, len(self.tokens) - 1)]

    def take(self) -> Token:
        token = self.tokens[self.at]
        self.at = min(self.at + 1, len(self.tokens) - 1)
        return token

    def opening(self) -> Token:
        """Take an opening bracket."""
        if self.peek().kind not in (*OPENS, "|"):
            raise self.refusal("a bracket must open here", "write one around what is meant")
        return self.take()

    def expect(self, kind: str) -> None:
        if self.peek().kind != kind:
            raise self.refusal(f"{kind} must come here", "balance the brackets")
        self.take()

    def refusal(self, must: str, remedy: str, first: Token | Node | None = None, last: Token | Node | None = None) -> InputError:
        """A refusal that shows a piece of the text: from `first` (the token that is read next) to `last` (the same)."""
        first = first or self.peek()
        return refuse(self.text, first.start, (last or first).end, must, remedy)

    @property
    def edge(self) -> Token:
        """Where the token that is read next begins."""
        return Token("", "", self.peek().start, self.peek().start)

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Looking ahead: what is taken meanwhile is given back."""
        start = self.at
        try:
            yield
        finally:
            self.at = start

    def made(self, op: str, *kids: Node, at: int | None = None, value: str | None = None) -> Node:
        """A node from the token `at` (or its first kid) to the last one taken."""
        start = kids[0].start if at is None else self.tokens[at].start
        return Node(op, kids, value, start, self.tokens[self.at - 1].end)

    def made_at(self, node: Node, at: int) -> Node:
        return Node(node.op, node.kids, node.value, self.tokens[at].start, self.tokens[self.at - 1].end)

    def level(self, at: int | None = None) -> list[Token]:
        """The tokens of the bracket that opens at a token, without those of brackets within."""
        depth, found = 0, list[Token]()
        for token in self.tokens[self.at if at is None else at :]:
            depth += token.kind in OPENS
            depth -= token.kind in CLOSED
            if depth <= 0:
                break
            found += [token] if depth == 1 else []
        return found[1:]

    def skip_group(self) -> list[Token]:
        """Take a group in brackets, or one token; return what it holds."""
        start = self.at
        if self.take().kind not in OPENS:
            return self.tokens[start : self.at]
        depth = 1
        while depth and self.peek().kind:
            kind = self.take().kind
            depth += (kind in OPENS) - (kind in CLOSED)
        if depth:
            raise self.refusal(f"a bracket {self.tokens[start].text} must be closed", "close it", self.tokens[start])
        return self.tokens[start + 1 : self.at - 1]


def spelled(tokens: list[Token]) -> str:
    """A name in one line: "theta_old", "pi'", "h+1"."""
    text = "".join(t.text for t in tokens if t.kind not in ("{", "}"))
    return text.replace("^'", "'")


def cut(tokens: list[Token], ends: Iterable[bool]) -> tuple[list[list[Token]], list[Token]]:
    """The pieces of some tokens, and the tokens that end one: those that may, at the level of the whole."""
    pieces, between, depth = [list[Token]()], list[Token](), 0
    for token, may in zip(tokens, ends, strict=True):
        depth += (token.kind in OPENS) - (token.kind in CLOSED)
        if may and depth == 0:
            between.append(token)
            pieces.append([])
        else:
            pieces[-1].append(token)
    return pieces, between


def items(tokens: list[Token]) -> list[list[Token]]:
    """What commas separate, at the level of the whole."""
    return [item for item in cut(tokens, (t.kind in (",", ";") for t in tokens))[0] if item]
