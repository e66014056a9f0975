r"""Reading LaTeX: the subset that formulas in running text need.

A run of three or more letters is read as a word (`p_{ref}`), one or two as variables (`n_{ij}`).  What is not in the tables is refused
with its position, for a formula that is half understood is wrong.

>>> parse(r"\frac{1}{G}")
(Fraction(over=(Leaf(kind='number', text='1', drawn='', size=0.0),), under=(Leaf(kind='letter', text='G', drawn='', size=0.0),)),)
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from tabular_rlhf.errors import InputError
from tabular_rlhf.tex.symbols import ACCENTS, ALPHABETS, CHARACTERS, GAP, LEAVES, PRIME, SIZES
from tabular_rlhf.tex.tree import Accent, Brace, Fenced, Fraction, Leaf, Node, Root, Row, Scripts

TOKEN = re.compile(r"\s+|\\[A-Za-z]+|\\.|\d+(?:\.\d+)?|[A-Za-z]{3,}|.", re.DOTALL)
DEEPEST = 40
"""Groups within groups that are read: far more than people write, far less than Python's stack."""


def parse(tex: str) -> Row:
    """The tree of a formula."""
    return Reader(tex).row("")


class Reader:
    """A formula and the place in it that is read next."""

    def __init__(self, tex: str) -> None:
        self.tex, self.at, self.depth = tex, 0, 0

    def refuse(self, must: str, got: str, remedy: str, at: int | None = None) -> InputError:
        return InputError(must, got=got, where=f"at character {self.at if at is None else at} of {self.tex!r}", remedy=remedy)

    def peek(self, *, skip: bool = False) -> str:
        """The next token (`skip`: after any space), "" at the end."""
        if skip and (space := re.compile(r"\s+").match(self.tex, self.at)):
            self.at = space.end()
        found = TOKEN.match(self.tex, self.at)
        return found[0] if found else ""

    def take(self, token: str) -> str:
        self.at += len(token)
        return token

    def row(self, end: str) -> Row:
        """Nodes up to `end`, which is taken too."""
        start, nodes = self.at, list[Node]()
        self.depth += 1
        if self.depth > DEEPEST:
            raise self.refuse(f"groups must be at most {DEEPEST} deep", f"{self.depth} levels", "write a simpler formula")
        while (token := self.peek()) != end:
            if not token:
                raise self.refuse(f"a group must be closed by {end}", "the end of the formula", "balance the braces", start - 1)
            found = self.scripted(self.item())
            start_of = _opening(nodes) if found and isinstance(found[0], Scripts) and _is(found[0].base[-1], "close") else None
            if start_of is not None and isinstance(found[0], Scripts):  # the power of a bracket is that of all that it holds
                found = (replace(found[0], base=(*nodes[start_of:], *found[0].base)),)
                del nodes[start_of:]
            nodes += found
        self.take(end)
        self.depth -= 1
        return tuple(nodes)

    def item(self) -> Row:
        """One token with its arguments; several nodes where it is a group."""
        at, token = self.at, self.take(self.peek())
        if token.isspace():
            return (GAP,)
        if token in CHARACTERS:
            spaced = token == ":" and self.tex[:at][-1:].isspace()  # a set's "such that" has room on both sides
            return (Leaf("rel", ":"),) if spaced else (CHARACTERS[token],)
        if token == "{":
            return self.row("}")
        if token[0] == "\\":
            return self.command(token[1:], at)
        if token[0].isdecimal():
            return (Leaf("number", token),)
        if token.isalpha():
            return (Leaf("word" if len(token) > 2 else "letter", token),)
        what = {"}": "a group must be opened before it is closed", "^": "a script must have a base", "_": "a script must have a base"}
        must = what.get(token, "a formula must be of letters, digits, signs and commands")
        raise self.refuse(must, token, "balance the braces, give each script a base, escape # $ % &", at)

    def command(self, name: str, at: int) -> Row:
        if name in LEAVES:
            return (LEAVES[name],)
        if name not in BUILDERS:
            raise self.refuse("a command must be one of the tables in tabular_rlhf.tex", f"\\{name}", "write it with known ones", at)
        return BUILDERS[name](self, name)

    def scripted(self, base: Row) -> Row:
        """The base with the primes and scripts that follow it, if any do."""
        if base == (GAP,):
            return base
        sub, sup, primes, here = list[Row](), list[Row](), list[Node](), self.at
        while (token := self.peek(skip=True)) in {"'", "^", "_"}:
            if not base or (isinstance(base[-1], Leaf) and base[-1].kind == "space"):
                raise self.refuse("a script must have a base", token, "put the letter before it, or braces around it")
            here = self.at + 1
            self.take(token)
            if token == "'":
                primes.append(PRIME)
                here = self.at
                continue
            side = sub if token == "_" else sup
            if side:
                raise self.refuse("a base must have one script on each side", f"a second {token}", "use braces", here - 1)
            side.append(self.argument(token))
            here = self.at
        self.at = here  # space that no script follows is left for the row
        above = (*primes, *(sup[0] if sup else ()))
        return (Scripts(base, sub[0] if sub else (), above),) if sub or above else base

    def argument(self, of: str) -> Row:
        """A group, a command or one character, as TeX takes it."""
        token = self.peek(skip=True)
        if token in {"", "}", "^", "_", "'", r"\right"}:
            raise self.refuse(f"{of} must have an argument", token or "the end of the formula", f"write {of}{{...}}")
        if token[0] not in "{\\" and len(token) > 1:
            first = self.take(token[0])
            return (Leaf("number" if first.isdecimal() else "letter", first),)
        self.depth += 1
        if self.depth > DEEPEST:
            raise self.refuse(f"groups must be at most {DEEPEST} deep", f"{self.depth} levels", "write a simpler formula")
        found = self.item()
        self.depth -= 1
        return found

    def words(self, of: str) -> str:
        """A braced argument as it stands, but for escaped characters."""
        if self.peek(skip=True) != "{":
            raise self.refuse(f"\\{of} must have an argument in braces", self.peek() or "the end", f"write \\{of}{{...}}")
        found = re.compile(r"\{((?:[^\\{}$]|\\[ #$%&_{}])*)\}").match(self.tex, self.at)
        if not found:
            raise self.refuse(f"\\{of} must hold plain words up to a closing brace", "something else", "end the words before the formula")
        self.take(found[0])
        return re.sub(r"\\(.)", r"\1", found[1])

    def delimiter(self, of: str) -> Leaf | None:
        r"""The bracket, bar or slash after `\left`, `\right` or `\big`; a full stop is none."""
        token = self.peek(skip=True)
        leaf = CHARACTERS.get(token) or LEAVES.get(token.removeprefix("\\") if token[:1] == "\\" else "")
        if token != "." and (leaf is None or (leaf.kind not in {"open", "close", "bar", "slash"} and token not in ("<", ">"))):
            raise self.refuse(f"\\{of} must have a bracket", token or "the end of the formula", f"write \\{of}( or \\{of}.")
        self.take(token)
        return leaf if token != "." else None


def _is(node: Node, kind: str) -> bool:
    return isinstance(node, Leaf) and node.kind == kind


def _opening(nodes: list[Node]) -> int | None:
    """Where the bracket opens that closes after these nodes, if it does."""
    depth = 1
    for i in reversed(range(len(nodes))):
        depth += _is(nodes[i], "close") - _is(nodes[i], "open")
        if not depth:
            return i
    return None


def _binomial(r: Reader, name: str) -> Row:
    inside = Fraction(r.argument(f"\\{name}"), r.argument(f"\\{name}"), bar=False)
    return (Fenced((Leaf("open", "("), inside, Leaf("close", ")"))),)


def _root(r: Reader, name: str) -> Row:
    degree: Row = ()
    if r.peek(skip=True) == "[":
        r.take("[")
        degree = r.row("]")
    return (Root(r.argument(f"\\{name}"), degree),)


def _brace(r: Reader, name: str) -> Row:
    base, under, note = r.argument(f"\\{name}"), name == "underbrace", list[Row]()
    if r.peek(skip=True) == ("_" if under else "^"):
        note.append(r.argument(r.take(r.peek())))
    return (Brace(base, note[0] if note else (), under),)


def _alphabet(r: Reader, name: str) -> Row:
    letters, (first, elsewhere, shown) = r.words(name).strip(), ALPHABETS[name]
    drawn = "".join(elsewhere.get(c) or (chr(first + ord(c) - ord("A")) if "A" <= c <= "Z" else c) for c in letters)
    return (Leaf("letter" if len(letters) < 2 else "word", drawn if shown else letters, drawn),)


def _sized(r: Reader, name: str) -> Row:
    leaf = r.delimiter(name)
    if leaf is None:
        return ()
    return (replace(leaf, kind="bin" if leaf.kind == "slash" else leaf.kind, size=SIZES[name]),)


def _fenced(r: Reader, name: str) -> Row:
    start = r.delimiter(name)
    inside = r.row(r"\right")
    ends = start and replace(start, kind="open"), (stop := r.delimiter("right")) and replace(stop, kind="close")
    return (Fenced((*((ends[0],) if ends[0] else ()), *inside, *((ends[1],) if ends[1] else ()))),)


def _nothing(r: Reader, name: str) -> Row:
    r.peek(skip=True)
    return ()


BUILDERS: dict[str, Callable[[Reader, str], Row]] = {
    **dict.fromkeys(("frac", "tfrac", "dfrac"), lambda r, name: (Fraction(r.argument(f"\\{name}"), r.argument(f"\\{name}")),)),
    **dict.fromkeys(("binom", "tbinom", "dbinom"), _binomial),
    **dict.fromkeys(ACCENTS, lambda r, name: (Accent(r.argument(f"\\{name}"), name, *ACCENTS[name]),)),
    **dict.fromkeys(("underbrace", "overbrace"), _brace),
    **dict.fromkeys(("text", "textrm", "textbf", "textit", "mbox"), lambda r, name: (Leaf("text", r.words(name)),)),
    "texttt": lambda r, name: (Leaf("code", r.words(name)),),
    **dict.fromkeys(("mathrm", "mathsf", "mathit"), lambda r, name: (Leaf("word", r.words(name).strip()),)),
    "operatorname": lambda r, name: (Leaf("function", r.words(name).strip()),),
    **dict.fromkeys(ALPHABETS, _alphabet),
    **dict.fromkeys(SIZES, _sized),
    **dict.fromkeys(("!", "textstyle", "displaystyle"), _nothing),
    "sqrt": _root,
    "left": _fenced,
}
"""Commands that take arguments, or none and draw nothing; every other command is a leaf."""
