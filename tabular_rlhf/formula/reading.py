r"""Printed lines read all together, those of a derivation or the clauses of a claim: a definition holds from its line to the end.

    Reading(texts, chains, letters, setting).value(k)          line k as a function of a scope

A line that prints several sides, a = b, has the value of the last one; `verify` executes the others beside it (`prints`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from tabular_rlhf.errors import InputError, did_you_mean, quoted
from tabular_rlhf.formula.axes import merged
from tabular_rlhf.formula.compiled import Compiled, compile
from tabular_rlhf.formula.lexicon import Lexicon
from tabular_rlhf.formula.printed import Printed, Side, Together
from tabular_rlhf.formula.read import Statement, definitions, statement
from tabular_rlhf.formula.slips import slips
from tabular_rlhf.formula.slopes import LOGITS
from tabular_rlhf.formula.tree import Node, sym

Slips = tuple[str, ...] | Mapping[int, tuple[str, ...]]
"""Mistakes by the names of their rules: of the first line, or by the number of the line."""


@dataclass(frozen=True)
class Clause:
    """Where a formula stands: the number of the line, from 1, and of its side, from 0 (the last)."""

    number: int
    side: int = -1


@dataclass(frozen=True)
class Printing:
    """One line: its sides, the relations between them, the definitions that hold from it on; fault, why it cannot be read."""

    sides: tuple[Compiled, ...]
    relations: tuple[str, ...]
    before: tuple[Node, ...]
    fault: InputError | None = None


@dataclass(frozen=True, eq=False)
class Reading:
    """texts, LaTeX of every line; chains, which lines are compared with each other: the number of the chain that a line stands in, None for
    a line whose value is a function of its own; letters, what is declared; setting, the laws of means that name none.
    tables, the lines that are a mean of which the table is wanted; averaged, whether what is over prompts is averaged over them.
    name, what a line is called in a refusal: "row 'mine', clause".
    """

    texts: tuple[str, ...]
    chains: tuple[int | None, ...]
    letters: Mapping[str, str] = field(default_factory=dict)
    setting: Mapping[str, str] = field(default_factory=dict)
    tables: frozenset[int] = frozenset()
    averaged: bool = False
    name: str = ""

    @cached_property
    def _letters(self) -> tuple[dict[str, str], tuple[Node, ...]]:
        return definitions(self.letters)

    @cached_property
    def _lines(self) -> list[Printing]:
        letters, before = self._letters
        known, found = Lexicon(letters), list[Printing]()
        for text in self.texts:
            try:
                said = statement(text, letters=letters, before=before)
                trees, before = _sides(said, known)
                made = tuple(self._meant(tree, said.text) for tree in trees)
                found.append(Printing(made, said.relations[len(said.sides) - len(made) :], before))
            except InputError as e:
                found.append(Printing((), (), before, e))
        return found

    def line(self, k: int) -> Printing:
        """What line k (from 1) prints.  Raises InputError where it cannot be read."""
        found = self._lines[k - 1]
        if found.fault is not None:
            raise self._told(found.fault, k)
        return found

    def _told(self, fault: InputError, k: int) -> InputError:
        """A refusal, with the line that it is of."""
        return fault.at(f"{self.name} {k}" if k else self.name.rpartition(",")[0]) if self.name else fault

    def sides(self, k: int) -> tuple[Compiled, ...]:
        """The sides of line k."""
        return self.line(k).sides

    def _compiled(self, tree: Node, text: str) -> Compiled:
        return compile(tree, self._letters[0], text, **self.setting)

    def _meant(self, tree: Node, text: str) -> Compiled:
        """A side as it is meant: where all is averaged over prompts, its mean."""
        made = self._compiled(tree, text)
        return self._compiled(_within(tree, _over_prompts), text) if self.averaged and "x" in made.axes else made

    def kin(self, k: int) -> tuple[Compiled, ...]:
        """The sides that the chain of line k prints, as far as they are read; none where no line does (k = 0)."""
        alike = [j for j, chain in enumerate(self.chains, 1) if k and chain is not None and chain == self.chains[k - 1]]
        return tuple(side for j in alike for side in self._lines[j - 1].sides)

    def value(self, k: int, side: int = -1) -> Printed:
        """Line k (from 1) as a function of a scope, or one side of it, from 0; the last side goes on where there are fewer."""

        def make() -> Side:
            sides, most = self.sides(k), max(len(line.sides) for line in self._lines)
            if not -1 <= side < most:
                fault = InputError("a side must be one that is printed", got=side, remedy=f"count from 0: there are {most}")
                raise self._told(fault, k)
            return self._side(k, sides[min(side, len(sides) - 1)].tree)

        return Printed(make)

    def other(self, k: int, text: str) -> Printed:
        """Another formula in the place of line k (0: of none), with the same letters and definitions."""

        def make() -> Side:
            try:
                said = statement(text, letters=self._letters[0], before=self._lines[k - 1].before if k else self._letters[1])
                return self._side(k, said.value, text)
            except InputError as fault:
                raise self._told(fault, k) from None

        return Printed(make)

    def function(self, what: Any, k: int = 0, several: type[Together] = Together) -> Any:
        """What a record writes for its mathematics, as a function: a number is a side of line k (0: of the first), a `Clause` any side,
        a text another formula in the place of line k; of several there is one for each line; a function is what it is."""
        at = max(k, 1)
        if isinstance(what, tuple):
            return several(tuple(self.function(part, j) for j, part in enumerate(what, 1)))
        if isinstance(what, int):
            return self.value(at, what)
        if isinstance(what, Clause):
            return self.value(what.number, what.side)
        return self.other(at if at <= len(self.texts) else 0, what) if isinstance(what, str) else what

    def slipped(self, k: int, mistake: str, side: int = -1) -> Printed:
        """Line k, one side of it, with a mistake, by the name that its rule gives it (`slips`)."""

        def make() -> Side:
            made = self._misprints(k, side)
            if mistake not in made:
                remedy = did_you_mean(mistake, made, "`formula.slips` names them")
                raise self._told(InputError("a slip must be one of the formula", got=quoted(mistake), remedy=remedy), k)
            return self._side(k, made[mistake])

        return Printed(make)

    def mistakes(self, slips: Slips, names: Sequence[str] = (), lines: Sequence[Clause] = ()) -> Iterator[tuple[str, int, Printed]]:
        """Every slip: what it is called, of which formula it is, from 0, and the formula with it.

        slips: of the first formula, or those of a formula by its number; names: of the formulas, by which the same mistake in several is
        told apart; lines: where the formulas stand (default: each is a line).
        """
        named = [(k, mistake) for k, mistakes in (slips.items() if isinstance(slips, Mapping) else [(0, slips)]) for mistake in mistakes]
        often = Counter(mistake for _, mistake in named)
        for k, mistake in named:
            line = lines[k] if lines else Clause(k + 1)
            yield f"{mistake} ({names[k]})" if often[mistake] > 1 else mistake, k, self.slipped(line.number, mistake, line.side)

    def _misprints(self, k: int, side: int) -> dict[str, Node]:
        """Line k with every slip, by the name of the mistake, the first of a name: made once, though several are asked for."""
        if (k, side) not in self._made:
            tree = self.sides(k)[side].tree
            found = slips(_within(tree, _body) if k in self.tables else tree)
            self._made[k, side] = {slip.makes: slip.tree for slip in reversed(list(found))}
        return self._made[k, side]

    @cached_property
    def _made(self) -> dict[tuple[int, int], dict[str, Node]]:
        return {}

    def _side(self, k: int, tree: Node, text: str = "") -> Side:
        text = text or (self.texts[k - 1] if k else "")
        if k in self.tables:
            made = self._compiled(_within(tree, _body), text)
            return Side(made, merged(made, RESPONSES), (made, RESPONSES))
        made, *kin = in_logits(self._meant(tree, text), *self.kin(k))
        return Side(made, merged(*kin, made), tuple(kin) or (made,))


def told_apart(wrong: Iterable[tuple[str, Any]], where: str) -> dict[str, Any]:
    """Near misses by their names.  Raises InputError for two of one name."""
    found: dict[str, Any] = {}
    for words, what in wrong:
        if words in found:
            raise InputError("a near miss must have a name of its own", got=quoted(words), where=where, remedy="rename it")
        found[words] = what
    return found


def declared(letters: Mapping[str, str]) -> list[str]:
    """What is printed beside formulas: which letter stands for what.

    >>> declared({"p": "p_star"})
    ['p is p_star']
    """
    return [f"{name} is {what}" for name, what in letters.items()]


RESPONSES = compile(sym("p"))
"""A table over responses."""


def in_logits(*sides: Compiled) -> list[Compiled]:
    """Sides that are compared: beside a gradient in the logits a table of tokens is the table of its entries."""
    of = tuple(LOGITS.values())
    if not any(set(of) <= set(side.axes) for side in sides):
        return list(sides)
    return [replace(side, axes=of) if side.axes == tuple(LOGITS) else side for side in sides]


def _within(tree: Node, change: Callable[[Node], Node]) -> Node:
    """A tree changed within its definitions."""
    return tree.over(change(tree.kids[0]), *tree.kids[1:]) if tree.op == "where" else change(tree)


def _body(tree: Node) -> Node:
    """What a mean is a mean of."""
    return _body(tree.kids[0]) if tree.op == "E" else tree


def _over_prompts(tree: Node) -> Node:
    return Node("E", (tree, Node("draw", (sym("mu"),), "x")))


def _sides(said: Statement, known: Lexicon) -> tuple[list[Node], tuple[Node, ...]]:
    """The sides that are executed, and the definitions that hold from here on."""
    sides, lets = list(said.sides), said.lets
    head = sides[0]
    name = str((head.kids[0] if head.op == "at" else head).value)
    own = {let.value for let in lets}
    new = head.op in ("sym", "at") and name not in own and not known.knows(name)
    if len(sides) > 1 and new:
        let = Node("let", (sides[-1], *(head.kids[1:] if head.op == "at" else ())), name)
        sides, lets = sides[1:], (*lets, let)
    return [said.with_lets(side) for side in sides], lets
