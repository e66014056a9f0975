r"""Reading a formula: sides between relations, and the definitions that come with it.

    J_x(p) = \mathbb{E}_p[r] - \beta \mathrm{KL}(p, p_{ref})          two sides, and "="
    \mathbb{E}[\rho L], \quad \rho = \frac{p}{p_{old}}              one side, and what rho is
    beta*log(p/p_ref)                                               one side

What follows `\quad`, "where", "with" or "at" defines; so does a list of equations whose first one is a definition itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tabular_rlhf.errors import InputError
from tabular_rlhf.formula.grammar import Grammar
from tabular_rlhf.formula.spellings import ALIASES, FUNCTIONS, INDICES, SEPARATORS
from tabular_rlhf.formula.stream import cut, spelled
from tabular_rlhf.formula.tokens import Token, expand, refuse, tokens
from tabular_rlhf.formula.tree import Node, index, names, sym

END = Token("", "", 0, 0)
RELATIONS = {"=": "=", ":=": "=", "<=": "<=", ">=": ">=", "<": "<", ">": ">", "propto": "propto", "approx": "approx", "~": "~", "to": "to"}


NO_LETTERS = {"frac", "sum", "prod", "E", "log", "nabla", "exp", "max", "min", "KL", "argmax", *FUNCTIONS}
"""Names that no definition begins with."""
PARAMETERS = ("theta", "phi")
"""What stands for a policy: L(theta) is the letter L, and no function of a number."""


@dataclass(frozen=True)
class Statement:
    """What one formula says: its sides and the relations between them, its definitions, and conditions that are no definitions."""

    text: str
    sides: tuple[Node, ...]
    relations: tuple[str, ...] = ()
    lets: tuple[Node, ...] = ()
    conditions: tuple[Statement, ...] = ()

    @property
    def value(self) -> Node:
        """The last side, with the definitions that it uses."""
        return self.with_lets(self.sides[-1])

    @property
    def values(self) -> tuple[Node, ...]:
        """What stands to the right of every equation, where the definitions are a list of such; else the value alone."""
        if len(self.sides) > 1 and self.lets and not self.used(self.sides[-1]):
            return (self.sides[-1], *(self.with_lets(let.kids[0]) for let in self.lets))
        return (self.value,)

    def used(self, side: Node) -> tuple[Node, ...]:
        """The definitions that a side uses, also through others, in the order in which they can be made."""
        wanted, found = set(names(side)), list[Node]()
        for let in reversed(self.in_order()):
            if let.value in wanted:
                found.insert(0, let)
                wanted |= set(names(let.kids[0]))
        return tuple(found)

    def in_order(self) -> list[Node]:
        """The definitions, each behind those that it uses."""
        left, done = list(self.lets), list[Node]()
        while left:
            free = [let for let in left if not any(o is not let and o.value in names(let.kids[0]) for o in left)]
            if not free:
                raise refuse(self.text, left[0].start, left[0].end, "a letter must not be defined by itself", "define it by others")
            done += free
            left = [let for let in left if all(let is not f for f in free)]
        return done

    def with_lets(self, side: Node) -> Node:
        lets = self.used(side)
        return Node("where", (side, *lets), None, side.start, side.end) if lets else side


def read(text: str, aliases: Mapping[str, str] | None = None, letters: Iterable[str] = ()) -> Node:
    r"""The tree of a formula: LaTeX or plain typing; of a chain of sides the last one.

    Args: text; aliases, keys of letters and the letters that they are (see `spellings`), beside the table; letters, names of one's own.
    Raises: InputError with the place, for what cannot be read, or could be read in two ways.

    >>> read(r"\beta \log\frac{p}{p_{ref}}") == read("beta*log(p/p_ref)")
    True
    """
    return statement(text, aliases, letters).value


def statement(text: str, aliases: Mapping[str, str] | None = None, letters: Iterable[str] = (), before: tuple[Node, ...] = ()) -> Statement:
    r"""What a formula says: `Statement`.  before: definitions that were made before it, and still hold.

    >>> s = statement(r"J_x = \mathbb{E}_p[\rho], \quad \rho = p/q")
    >>> len(s.sides), s.relations, [let.value for let in s.lets]
    (2, ('=',), ['rho'])
    """
    if not isinstance(text, str):
        raise InputError("a formula must be text", got=type(text).__name__, remedy="pass LaTeX, or beta*log(p/p_ref)")
    text = expand(text)
    table, declared = {**ALIASES, **(aliases or {})}, set(letters)
    try:
        return Reader(text, tokens(text), table, declared, before).statement()
    except RecursionError:
        raise refuse(text, 0, 1, "a formula must not nest so deep", "write a simpler one") from None


def definitions(bound: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[Node, ...]]:
    """What is bound, apart: letters, and functions, whose names show what they are of.

    >>> letters, lets = definitions({"r": "f", "J(q)": "E_q[r]"})
    >>> letters, [(let.value, [kid.value for kid in let.kids[1:]]) for let in lets]
    ({'r': 'f'}, [('J', ['q'])])
    """
    letters = {name: what for name, what in bound.items() if "(" not in name}
    texts = [f"0, where {name} = {what}" for name, what in bound.items() if "(" in name]
    return letters, tuple(placeless(let) for text in texts for let in statement(text, letters=letters).lets)


def key_of(text: str) -> str:
    r"""The key of a letter that is spelled in LaTeX or plainly; of one at an index, that of the letter.

    >>> key_of(r"\pi_\phi^{RL}"), key_of("p_ref")
    ('pi_phi^RL', 'p_ref')
    """
    if "(" in text and "=" not in text and not text.lstrip().startswith("("):
        return text
    reader = Grammar(text, tokens(expand(text)), {}, set())
    key, indices = reader.key()
    if reader.peek().kind:
        token = reader.peek()
        raise refuse(text, token.start, token.end, "a letter must stand alone", "give its name")
    return reader.name(key) if indices else key


def placeless(tree: Node) -> Node:
    """A tree that stands in another text."""
    return Node(tree.op, tuple(map(placeless, tree.kids)), tree.value)


class Reader:
    """The tokens of a statement, cut into sides and definitions."""

    def __init__(
        self, text: str, found: list[Token], aliases: Mapping[str, str], declared: set[str], before: tuple[Node, ...] = ()
    ) -> None:
        self.text, self.aliases, self.before = text, aliases, before
        self.declared = declared | {str(let.value) for let in before}
        self.functions = {str(let.value) for let in before if let.kids[1:] and let.kids[1].op == "sym"}
        self.parts = self.cut(found)

    def cut(self, found: list[Token]) -> list[list[Token]]:
        """The formula and its definitions, without what separates them."""
        words = ((t.kind in ("name", "word") and t.text in SEPARATORS) or t.kind in ("quad", ",", ";") for t in found)
        ends = (word or (found[k].kind == "newline" and self.line_ends(found, k)) for k, word in enumerate(words))
        parts = ([t for t in part if t.kind not in ("newline", "quad")] for part in cut(found, ends)[0])
        return [part for part in parts if part]

    def line_ends(self, found: list[Token], k: int) -> bool:
        """Whether a line break ends an equation: the next line has a left side of its own."""
        before, behind = (found[k - 1] if k else None), found[k + 1 :]
        if not behind or behind[0].kind in RELATIONS or behind[0].text in RELATIONS or behind[0].kind in ("+", "-", "*"):
            return False
        return before is not None and before.kind not in ("+", "-", "*", "=")

    def grammar(self, part: list[Token]) -> Grammar:
        reader = Grammar(self.text, part, self.aliases, self.declared)
        reader.functions = self.functions
        reader.tokens[-1] = Token("", "", part[-1].end if part else len(self.text), part[-1].end if part else len(self.text))
        return reader

    def statement(self) -> Statement:
        if not self.parts:
            raise refuse(self.text, 0, 1, "a formula must hold something", "write one")
        for part in self.parts:
            self.note_function(part)
        heads = [self.header(part) for part in self.parts[1:]]
        self.declared |= {str((h[0].kids[0] if h[0].op == "at" else h[0]).value) for h in heads if h is not None}
        lets, conditions = list[Node](), list[Statement]()
        for part in self.parts[1:]:
            head = self.header(part)
            if head is None:
                conditions.append(self.condition(part))
                continue
            sides, relations = self.sides(part)
            if relations == ("propto",):  # a law, once it is normalized
                total = Node("sum", (sides[-1], Node("over", (), "tau")), None, sides[-1].start, sides[-1].end)
                sides, relations = (Node("div", (sides[-1], total), None, total.start, total.end),), ()
            if any(r != "=" for r in relations):
                conditions.append(Statement(self.text, sides, relations))
                continue
            lets.append(replace(self.let(head[0], sides[-1]), start=part[0].start))
            chain = [self.header(p) for p in self.pieces(part)[0][1:-1]]
            lets += [self.let(h[0], sides[-1]) for h in chain if h is not None]
        sides, relations = self.sides(self.parts[0])
        own = {let.value for let in lets}
        lets += [placeless(let) for let in self.before if let.value not in own]
        return Statement(self.text, sides, relations, tuple(lets), tuple(conditions))

    def condition(self, part: list[Token]) -> Statement:
        """A relation that stands behind a formula and defines nothing: E_q[r] = E_{p*}[r], beta -> 0."""
        sides, relations = self.sides(part)
        if not relations:
            must = "what follows a comma or \\quad must define something, or hold a relation"
            raise refuse(self.text, part[0].start, part[-1].end, must, "leave it out, or write u = ...")
        return Statement(self.text, sides, relations)

    def let(self, head: Node, body: Node) -> Node:
        what, *given = head.kids if head.op == "at" else (head,)
        if any(g.op == "add" for g in given):
            raise refuse(self.text, head.start, head.end, "a definition must be at plain indices", "define it at s, or at s and a")
        return Node("let", (body, *given), what.value, head.start, body.end)

    def pieces(self, part: list[Token]) -> tuple[list[list[Token]], list[str]]:
        """What stands between the relations of a part, and these."""
        pieces, signs = cut(part, (t.kind in RELATIONS or t.text in RELATIONS for t in part))
        return pieces, [RELATIONS[sign.kind if sign.kind in RELATIONS else sign.text] for sign in signs]

    def sides(self, part: list[Token]) -> tuple[tuple[Node, ...], tuple[str, ...]]:
        pieces, found = self.pieces(part)
        if part[0].kind == "(" and part[-1].kind == ")" and not found and any(t.text == "to" for t in part):  # (beta -> 0)
            return self.sides(part[1:-1])
        if found and not pieces[0]:  # a line that goes on: "= ..."
            pieces, found = pieces[1:], found[1:]
        return tuple(self.side(piece, k == 0 and bool(found)) for k, piece in enumerate(pieces)), tuple(found)

    def side(self, piece: list[Token], first: bool) -> Node:
        head = self.header([*piece, Token("=", "=", 0, 0)]) if first else None
        if head is not None:
            return head[0]
        reader = self.grammar(piece)
        objective = self.objective(reader)
        tree = reader.sum()
        token = reader.peek()
        if token.kind:
            must, remedy = "a formula must be read to its end", "put a sign, a bracket or \\quad where it is missing"
            if token.kind == "word":
                must, remedy = "words must stand outside a formula", "leave them out, or put them behind \\quad"
            raise refuse(self.text, token.start, token.end, must, remedy)
        return tree if objective is None else Node("maxover", (tree, objective), None, piece[0].start, tree.end)

    def objective(self, reader: Grammar) -> Node | None:
        r"""What stands below a \max that begins a side, where it is a policy: the formula is the objective of it."""
        start = reader.at
        if reader.peek().text in ("max", "min"):
            name = reader.take().text
            if reader.peek().kind == "_":
                reader.take()
                inside = reader.skip_group()
                key = spelled(inside[:-1] if inside and inside[-1].kind == "'" else inside)
                if key in ("theta", "phi") or key.startswith("pi"):
                    return Node("objective", (), f"{name} {key}", reader.tokens[start].start, reader.peek().start)
        reader.at = start
        return None

    def header(self, part: list[Token]) -> tuple[Node, list[str]] | None:
        """The letter that a part defines, with its indices or names of arguments; None if it begins otherwise."""
        reader = self.grammar(part)
        primed = reader.ahead().kind == "'"  # sigma' is no function's name
        if reader.peek().kind != "name" or (reader.peek().text in NO_LETTERS and not primed) or self.operates(part):
            return None
        try:
            key, indices = reader.key()
        except InputError:
            return None
        given: list[str] = []
        if reader.peek().kind == "(":
            if reader.comparison_ahead():
                return None
            read = None if key in self.functions else reader.arguments()
            if read is not None:
                indices = [*indices, *read]
            else:
                inside = reader.skip_group()
                if any(t.text in ("+", "-", "*", "/", "succ", "prec") for t in inside):  # P(y > y') is no letter with arguments
                    return None
                given = [spelled([t]) for t in inside if t.kind == "name"]
        if reader.peek().kind not in ("=", ":=") and reader.peek().text not in RELATIONS:
            return None
        head = sym(reader.name(key))
        kids = [*indices, *(sym(g) for g in given)] if key in self.functions or not given else indices
        node = Node("at", (head, *kids)) if kids else head
        return Node(node.op, node.kids, node.value, part[0].start, reader.tokens[reader.at - 1].end), given

    def operates(self, part: list[Token]) -> bool:
        """Whether a part begins with an operator at work, H(p) or Var_p(r), and not with the letter of that name."""
        try:
            found = self.grammar(part).factor()
        except InputError:
            return False
        return found.op in ("H", "Var", "Cov", "std", "mean", "prob", "beats", "ind", "exp")

    def note_function(self, part: list[Token]) -> None:
        """Whether a part defines a function of letters that are no indices: f(y) = y log y counts, if y is used as a number."""
        reader = self.grammar(part)
        if reader.peek().kind != "name":
            return
        try:
            key, _ = reader.key()
        except InputError:
            return
        if reader.peek().kind != "(":
            return
        inside = reader.level()
        if not inside or not all(t.kind in ("name", ",", ";") for t in inside) or all(t.text in PARAMETERS for t in inside):
            return
        reader.skip_group()
        if reader.peek().kind in ("=", ":=") and self.of_numbers([t.text for t in inside if t.kind == "name"], part[reader.at + 1 :]):
            self.functions.add(key)

    def of_numbers(self, letters: list[str], body: list[Token]) -> bool:
        """Whether a function's letters are numbers: some is no index, or stands neither below a letter nor among its indices."""
        if any(letter not in INDICES for letter in letters):
            return True
        reader = self.grammar(body)
        while reader.peek().kind:
            before = reader.tokens[reader.at - 1] if reader.at else END
            starred = before.kind == "*" and reader.at > 1 and reader.tokens[reader.at - 2].kind == "^"  # pi^*(y | x)
            applied = starred or (before.kind in ("name", "'", "}") and before.text not in FUNCTIONS)
            if reader.peek().kind == "_":
                reader.take()
                reader.skip_group()
            elif applied and reader.arguments() is not None:
                continue
            elif reader.peek().kind == "|":  # what is given
                reader.take()
                while reader.index_item() is not None and reader.peek().kind == ",":
                    reader.take()
            elif reader.take().text in letters:
                return True
        return False


__all__ = ["INDICES", "Statement", "index", "key_of", "read", "statement"]
