r"""Letters and indices: p_{ref}(y | x), \hat r_w, Q(s_h, a_h), p(s + a); and what decides whether a bracket is an argument or a factor.

A star, a prime and an accent belong to the letter; then come subscript, bracket, power.  A subscript that is no part of the letter's
name holds indices.
"""

from __future__ import annotations

from tabular_rlhf.formula.spellings import GREEK, INDICES, KL_KEYS, kind
from tabular_rlhf.formula.stream import Stream, items, spelled
from tabular_rlhf.formula.tokens import Token
from tabular_rlhf.formula.tree import Node, index, num, sym

ANY = Node("any")
"""A dot in the place of an index: all of it."""
GIVEN = ("|", ",", ";")
LAWS = ("p", "q", "pi", "Z")
"""Letters that no step of a response is an index of."""
OBJECTIVES = ("J", "J_x")
"""Letters that are functions of a law."""


class Letters(Stream):
    """Names, indices, and letters that are applied to indices."""

    def key(self) -> tuple[str, list[Node]]:
        """A letter's key, with its sub- and superscripts as far as they are parts of its name, and the indices that follow it."""
        at, token = self.at, self.take()
        if token.kind != "name":
            raise self.refusal("a letter must stand here", "write one", token)
        sub, sup, primes, indices = "", "", "", list[Node]()
        while True:
            mark = self.peek().kind
            if mark == "'":
                self.take()
                primes += "'"
            elif mark == "_":
                if sub or indices:
                    raise self.refusal("a letter must have one subscript", "put it in one pair of braces", self.tokens[at], self.peek())
                self.take()
                sub, indices = self.below(token.text + primes)
            elif mark == "^" and not sup and (found := self.above(token.text, sub)):
                sup = "" if found.strip("'") == "" else found
                primes += found if not sup else ""
            else:
                break
        key = token.text + (f"_{sub}" if sub else "") + (f"^{sup}" if sup else "") + primes
        return key, indices

    def below(self, base: str) -> tuple[str, list[Node]]:
        """A subscript: the part of the name, and the indices."""
        primed = self.take() if self.peek().kind != "{" else None
        inside = self.skip_group() if primed is None else [primed, *self.primes()]
        whole = spelled(inside)
        if f"{base}_{whole}" in self.aliases or f"{base}_{whole}" in self.declared:
            return whole, []
        words, found = list[str](), list[Node]()
        for item in items(inside):
            read = self.indices_in(item)
            if base.rstrip("'") in LAWS and read is not None and all(kind(str(i.value)) in ("time", "") for i in read):
                read = None  # p_t, p_n, Z_t: laws of their own
            if read is None and len(item) > 1 and any(t.kind in ("+", "-", "/", "=", "<", ">", "<=", ">=") for t in item):
                raise self.refusal("a subscript must be a name, or indices", "give the letter a name of its own", item[0], item[-1])
            if read is None:
                words.append(spelled(item))
            else:
                found += read
        return ",".join(words), found

    def primes(self) -> list[Token]:
        found = list[Token]()
        while self.peek().kind == "'":
            found.append(self.take())
        return found

    def above(self, base: str, sub: str) -> str:
        """A superscript that belongs to the name: a star, a prime, a word; "" (and nothing taken) for a power."""
        start = self.at
        self.take()
        inside = self.skip_group()
        text = spelled(inside)
        named = text in ("*", "+", "-", "o") or (text and not text.strip("'"))
        whole = base + (f"_{sub}" if sub else "") + f"^{text}"
        word = len(inside) == 1 and inside[0].kind in ("name", "word") and len(text) > 1 and text.isalpha() and text not in GREEK
        kinds = [t.kind for t in inside]
        bracketed = len(kinds) > 2 and (kinds[0], kinds[-1]) == ("(", ")") and set(kinds) <= {"name", "num", "(", ")"}
        known = whole in self.aliases or whole in self.declared or (base in ("y", "pi") and text in ("w", "l", "RL"))
        if named or word or bracketed or known:
            return text
        self.at = start
        return ""

    def indices_in(self, tokens: list[Token]) -> list[Node] | None:
        """The indices of a subscript, or None if it is no such thing: "ij" are two."""
        inner = type(self)(self.text, tokens, self.aliases, self.declared)
        inner.bound = self.bound
        found = list[Node]()
        while inner.peek().kind:
            item = inner.index_item()
            if item is None:
                return None
            found.append(item)
        return found

    # ------------------------------------------------------------------------------------------------ indices

    def index_item(self) -> Node | None:
        """One index, or nothing taken: y', s_{h+1}, s + a, a dot."""
        start = self.at
        token = self.peek()
        if token.kind == "*" or (token.text in ("theta", "phi") and self.ahead().kind in (")", ";", ",")):  # r_t(theta)
            self.take()
            return ANY
        one = self.one_index()
        if one is not None and self.peek().kind == "+" and one.value in ("s", "s'"):
            self.take()
            other = self.one_index()
            one = None if other is None else self.made("add", one, other, at=start)
        elif one is not None and self.peek().kind == "=" and one.kids:  # s_t = s: the name on the right
            self.take()
            one = self.one_index()
        if one is None:
            self.at = start
        return one

    def one_index(self) -> Node | None:
        start = self.at
        if self.peek().kind != "name":
            return None
        base = self.take().text
        name = base + "'" * len(self.primes())
        if name in ("y", "o") and self.peek().kind == "_" and (step := self.token_of_response()) is not None:
            return self.made_at(step, start)
        if self.peek().kind in ("_", "^") and (name in ("s", "a") or self.two_part(name)):
            mark = self.take().kind
            inside = self.skip_group()
            name = f"{name}{mark}{spelled(inside)}"
            if base in ("s", "a") and mark == "_" and name != "s_0":
                time = self.time(inside)
                if time is None:
                    self.at = start
                    return None
                return Node("index", (time,), base, self.tokens[start].start, self.tokens[self.at - 1].end)
            name += "'" * len(self.primes())
        if name not in INDICES:
            self.at = start
            return None
        return self.made_at(index(INDICES[name]), start)

    def token_of_response(self) -> Node | None:
        """y_t is the token a_t of a response, y_{<t} the state s_t before it; None, and nothing taken, for another subscript."""
        start = self.at
        self.take()
        inside = self.skip_group()
        before = bool(inside) and inside[0].kind == "<"
        time = self.time(inside[before:])
        if time is None or time.op == "num":
            self.at = start
            return None
        return Node("index", (time,), "s" if before else "a")

    def two_part(self, name: str) -> bool:
        """Whether what follows makes an index of two parts, like y_w."""
        inside, mark = self.tokens[self.at + 1 : self.at + 3], self.peek().kind
        text = spelled([t for t in inside if t.kind in ("name", "num", "+", "-")][:1])
        return f"{name}{mark}{text}" in INDICES

    def time(self, tokens: list[Token]) -> Node | None:
        """The step of s_h, s_{h+1}, a_0."""
        text = [t for t in tokens if t.kind not in ("{", "}")]
        if len(text) == 1 and text[0].kind == "num":
            return num(int(text[0].text))
        if not text or text[0].text not in ("h", "t", "u", "k") or (len(text) > 1 and spelled(text[1:]) not in ("+1", "-1")):
            return None
        step = index(text[0].text)
        return step if len(text) == 1 else Node("add" if text[1].kind == "+" else "sub", (step, num(1)))

    def arguments(self) -> list[Node] | None:
        """The indices of a bracket; None, and nothing taken, where it holds anything else."""
        start, found = self.at, list[Node]()
        if self.peek().kind != "(":
            return None
        self.take()
        while True:
            if self.peek().kind not in (*GIVEN, ")"):
                item = self.index_item()
                if item is None:
                    break
                found.append(item)
            if self.peek().kind == ")" and found:
                self.take()
                return [item for item in found if item is not ANY]
            if self.peek().kind not in GIVEN:
                break
            self.take()
        self.at = start
        return None

    def length_index(self) -> Node | None:
        """|y| is the length of a response: the letter `lengths` at an index."""
        start = self.at
        item = self.one_index() if self.peek().text not in self.declared else None
        if item is not None and not item.kids and self.peek().kind in ("|", "abs)"):
            return self.made("at", sym("lengths"), item, at=start)
        self.at = start
        return None

    # ------------------------------------------------------------------------------------------------ letters

    def letter(self) -> Node:
        """A letter with what it is applied to."""
        at = self.at
        if self.peek().text in self.bound and not self.applied_ahead():
            return self.made_at(index(self.take().text), at)
        key, indices = self.key()
        if key in KL_KEYS:
            return self.divergence(at, indices)
        if key.partition("_")[0] == "KL" and self.peek().kind in ("(", "["):  # KL_rho(p, q), a mean over prompts
            law = Node("draw", (self.made_at(sym(self.name(key.partition("_")[2])), at),), "x", self.tokens[at].start, self.peek().start)
            return self.made("E", self.divergence(at, []), law, at=at)
        head = self.made_at(sym(self.name(key)), at)
        if self.peek().kind in ("(", "["):
            if self.comparison_ahead():
                return self.probability(at, head)
            if key in self.functions and self.peek().kind == "(":
                self.take()
                given = [self.sum()]
                while self.peek().kind in (",", ";"):
                    self.take()
                    given.append(self.sum())
                self.expect(")")
                return self.made("at", head, *given, at=at)
        if key in OBJECTIVES and self.peek().kind == "(" and self.index_in_bracket() is None:
            return self.made("at", head, self.one_law(), at=at)
        given_ = self.arguments()
        if given_ is None and self.peek().kind == "(" and self.lone_letter():
            must = "a letter in brackets must be an index, or what stands before must be a function"
            raise self.refusal(must, "define the function behind \\quad, or put a sign of multiplication", self.tokens[at], self.peek())
        if given_ is not None:
            return self.made("at", head, *indices, *given_, at=at) if indices or given_ else head
        return self.made("at", head, *indices, at=at) if indices else head

    def lone_letter(self) -> bool:
        """Whether the bracket that opens here holds one letter and nothing else: f(L), p(B)."""
        with self.looking():
            self.take()
            if self.peek().kind != "name" or self.peek().text == "frac":
                return False
            self.key()
            return self.peek().kind == ")"

    def index_in_bracket(self) -> Node | None:
        """The first index of the bracket that opens here, if it begins with one."""
        with self.looking():
            self.take()
            return self.index_item()

    def one_law(self) -> Node:
        """The law of J(p)."""
        self.take()
        law = self.letter()
        self.expect(")")
        return law

    def name(self, key: str) -> str:
        """The letter of a key: by the table; a star is what is best."""
        if key in self.aliases or key in self.declared:
            return key if key in self.declared else self.aliases[key]
        return f"{key[:-2]}_star" if key.endswith("^*") else key

    def applied_ahead(self) -> bool:
        return self.ahead().kind in ("_", "(") and self.tokens[self.at].text not in ("h", "t", "u", "m", "n")

    def comparison_ahead(self) -> bool:
        """Whether the bracket that opens here holds a relation: y > y', r <= r(y)."""
        return any(t.kind in ("<", "<=", ">", ">=", "=", "!=") or t.text in ("succ", "prec") for t in self.level())
