r"""`matches`: a regular expression as a machine that pays a response whose whole text matches.

**Algorithm.**  Python's own parser reads the pattern (one syntax, one set of mistakes); Thompson's construction makes an automaton that may
be in several places at once, and its sets of places, found as tokens are read, are the machine's states (Rabin and Scott 1959).  A pattern
may need 2^n of them: more than `MOST` are refused, with the count.

What no finite automaton reads (backreferences, look-around) is refused by name.  EOS is no part of the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, NoReturn

import numpy as np

from tabular_rlhf.errors import InputError, quoted
from tabular_rlhf.language import Language
from tabular_rlhf.machines.machine import Machine

MOST = 20_000
"""States of the largest machine that a pattern may make."""
PLACES = 100_000
"""Places of the automaton that it is made from: repeats are written out."""
Test = Callable[[str], bool]
CATEGORIES: dict[str, Test] = {
    "CATEGORY_DIGIT": str.isdecimal,
    "CATEGORY_SPACE": str.isspace,
    "CATEGORY_WORD": lambda c: c.isalnum() or c == "_",
}


@dataclass
class _Places:
    """Thompson's automaton: silent moves, and moves that read a character which passes a test."""

    pattern: str
    silent: list[list[int]] = field(default_factory=list)
    reads: list[tuple[Test, int] | None] = field(default_factory=list)

    def new(self) -> int:
        if len(self.silent) >= PLACES:
            self.refuse(f"more than {PLACES:,} places once its repeats are written out", "repeat less")
        self.silent.append([])
        self.reads.append(None)
        return len(self.silent) - 1

    def refuse(self, got: str, remedy: str = "write it without") -> NoReturn:
        raise InputError("a pattern must be one that a small automaton reads", got=f"{quoted(self.pattern)}: {got}", remedy=remedy)

    def reader(self, test: Test, here: int) -> int:
        after = self.new()
        self.reads[here] = (test, after)
        fresh = self.new()
        self.silent[after].append(fresh)
        return fresh

    def sequence(self, items: Iterable[Any], here: int, flags: int) -> int:
        for op, argument in items:
            here = self.item(str(op), argument, here, flags)
        return here

    def item(self, op: str, argument: Any, here: int, flags: int) -> int:
        """The place after reading one item of the parser's, from a place that reads nothing yet."""
        if op in ("LITERAL", "NOT_LITERAL", "ANY", "IN"):
            return self.reader(_test(self, op, argument, flags), here)
        if op == "SUBPATTERN":
            _, add, drop, items = argument
            return self.sequence(items, here, (flags | add) & ~drop)
        if op == "BRANCH":
            return self.join([self.sequence(items, self.fork(here), flags) for items in argument[1]])
        if op in ("MAX_REPEAT", "MIN_REPEAT"):
            return self.repeat(argument, here, flags)
        if op == "AT" and str(argument) in ("AT_BEGINNING_STRING", "AT_BEGINNING", "AT_END_STRING", "AT_END"):
            return self.refuse("an anchor inside: the whole text is matched anyway", "leave ^ and $ out")
        return self.refuse(f"{op.lower().replace('_', ' ')}")

    def fork(self, here: int) -> int:
        branch = self.new()
        self.silent[here].append(branch)
        return branch

    def join(self, ends: list[int]) -> int:
        after = self.new()
        for end in ends:
            self.silent[end].append(after)
        return after

    def repeat(self, argument: Any, here: int, flags: int) -> int:
        least, most, items = argument
        for _ in range(int(least)):
            here = self.sequence(items, here, flags)
        if str(most) == "MAXREPEAT":
            loop = self.fork(here)
            self.silent[self.sequence(items, self.fork(loop), flags)].append(loop)
            return self.fork(loop)
        ends = [here]
        for _ in range(int(most) - int(least)):
            here = self.sequence(items, self.fork(here), flags)
            ends.append(here)
        return self.join(ends)

    def close(self, places: Iterable[int]) -> frozenset[int]:
        """These places and all that silent moves lead to."""
        found, open_ = set(places), list(places)
        while open_:
            for after in self.silent[open_.pop()]:
                if after not in found:
                    found.add(after)
                    open_.append(after)
        return frozenset(p for p in found if self.reads[p] is not None or p == self.end)

    end: int = -1


def _test(places: _Places, op: str, argument: Any, flags: int) -> Test:
    """What one character must be."""
    if op == "ANY":
        return (lambda c: True) if flags & re.DOTALL else (lambda c: c != "\n")
    if op == "IN":
        positive = [_member(places, str(o), a) for o, a in argument if str(o) != "NEGATE"]
        wanted = len(positive) == len(argument)
        test: Test = lambda c: any(t(c) for t in positive) == wanted  # noqa: E731
    else:
        code, wanted_ = argument, op == "LITERAL"
        test = lambda c: (ord(c) == code) == wanted_  # noqa: E731
    if not flags & re.IGNORECASE:
        return test
    either = any if op == "LITERAL" or (op == "IN" and wanted) else all
    return lambda c: either(test(x) for x in {c, *(y for y in (c.lower(), c.upper()) if len(y) == 1)})


def _member(places: _Places, op: str, argument: Any) -> Test:
    if op == "LITERAL":
        return lambda c: ord(c) == argument
    if op == "RANGE":
        return lambda c: argument[0] <= ord(c) <= argument[1]
    name = str(argument)
    plain = CATEGORIES.get(name.replace("_NOT_", "_"))
    if plain is None:
        places.refuse(name.lower())
    return plain if plain is CATEGORIES.get(name) else lambda c: not plain(c)


def matches(language: Language, pattern: str, weight: float = 1.0) -> Machine:
    """Pays `weight` where the whole text of a response, EOS left out, matches the pattern.

    Raises: InputError for what is no regular expression, what no automaton reads, and patterns that need too many states.

    >>> x = Language(("a", "b", "."), 9, eos=".", sep=""); m = matches(x, "a+b"); m.n
    4
    """
    places, start = _automaton(pattern)
    first = places.close([start])
    known: dict[tuple[frozenset[int], bool], int] = {(first, True): 0}  # a state: the places, and whether nothing was read
    order, following = [(first, True)], []
    for here, fresh in order:
        row = []
        for a in range(language.K):
            text = language.vocabulary[a] if fresh else language.sep + language.vocabulary[a]
            state = (_read(places, here, text), False)
            if state not in known:
                known[state] = len(order)
                order.append(state)
                if len(order) > MOST:
                    places.refuse(f"more than {MOST:,} states", "write a simpler one")
            row.append(known[state])
        row += [known[here, fresh]] * (language.V - language.K)
        following.append(row)
    accepts = np.array([places.end in here for here, _ in order], dtype=float)
    after = np.array(following, dtype=np.intp).T
    return Machine(after, np.zeros(after.shape), weight * accepts[after])


def _automaton(pattern: str) -> tuple[_Places, int]:
    try:
        tree = import_module("re._parser").parse(pattern)
    except (re.error, RecursionError, OverflowError, TypeError) as e:
        raise InputError("a pattern must be a regular expression", got=f"{quoted(pattern)} ({e})", remedy="see Python's `re`") from None
    places = _Places(pattern)
    items = list(tree)
    while items and str(items[0][0]) == "AT" and "BEGINNING" in str(items[0][1]):
        items = items[1:]
    while items and str(items[-1][0]) == "AT" and "END" in str(items[-1][1]):
        items = items[:-1]
    start = places.new()
    try:
        places.end = places.sequence(items, start, tree.state.flags)
    except RecursionError:
        places.refuse("nested too deeply", "write a simpler one")
    return places, start


def _read(places: _Places, here: frozenset[int], text: str) -> frozenset[int]:
    for c in text:
        here = places.close([move[1] for p in here if (move := places.reads[p]) is not None and move[0](c)])
    return here
