r"""A reader's own derivation, executed: a text becomes a `Derivation`, whose lines are formulas that were read.

    chain("J_x = E_p[r] - beta*KL(p, p_ref)\n = E_p[r - beta*log(p/p_ref)]").derivation

Every relation is tried on all small worlds, as those of the book are.  A letter that nobody knows on the left of a first line is
defined by that line; a definition holds in the whole text.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from tabular_rlhf.derivations.lines import RELATIONS, Line
from tabular_rlhf.derivations.own_text import ASIDE, Piece, pieces
from tabular_rlhf.derivations.record import Derivation
from tabular_rlhf.errors import InputError, quoted
from tabular_rlhf.formula.axes import merged
from tabular_rlhf.formula.compiled import Compiled, compile
from tabular_rlhf.formula.freedoms import choices
from tabular_rlhf.formula.letters import OBJECTIVES
from tabular_rlhf.formula.lexicon import Lexicon
from tabular_rlhf.formula.printed import Side
from tabular_rlhf.formula.read import Statement, statement
from tabular_rlhf.formula.say import say
from tabular_rlhf.formula.tree import Node, sym, walk
from tabular_rlhf.symbols import SYMBOLS, Scope

UNKNOWN = "a letter must mean something"
TITLE = "A derivation of your own"


@dataclass(frozen=True)
class Step:
    """One line that was read: how it stands to the line before ("so" where it begins a chain), its tree, its definitions written out."""

    relation: str
    tree: Node
    piece: Piece

    @property
    def shown(self) -> Node:
        """The line as it was written, without the definitions."""
        return self.tree.kids[0] if self.tree.op == "where" else self.tree


@dataclass(frozen=True)
class Chain:
    """A text that was read.  title; steps; lets, definitions by letter; free, conventions left open; letters, what each was taken for."""

    title: str
    steps: tuple[Step, ...]
    lets: Mapping[str, Node] = field(default_factory=dict)
    free: tuple[str, ...] = ()
    chosen: str = ""

    def rewritten(self, rewrite: Callable[[Node], Node], chosen: str = "") -> Chain:
        """Every line, and every definition, rewritten; chosen, the convention that is then followed."""
        steps = tuple(replace(step, tree=rewrite(step.tree)) for step in self.steps)
        return replace(self, steps=steps, lets={name: rewrite(let) for name, let in self.lets.items()}, chosen=chosen)

    def readings(self) -> list[Chain]:
        """The chain under every choice of what is free, as it stands first."""
        return [self.rewritten(choice.rewrite, choice.words) if choice.words else self for choice in choices(self.free)]

    @cached_property
    def sides(self) -> tuple[Side, ...]:
        """The lines, compiled, each with the axes of its chain."""
        made = [_compiled(step) for step in self.steps]
        starts = [k for k, step in enumerate(self.steps) if step.relation == "so"] + [len(made)]
        found: list[Side] = []
        for first, last in pairwise(starts):
            kin = tuple(made[first:last])
            axes = merged(*kin)
            found += [Side(one, axes, kin) for one in kin]
        return tuple(found)

    @cached_property
    def derivation(self) -> Derivation:
        """The lines as a derivation, which `derive` executes."""
        lines = tuple(
            Line(say(step.shown, latex=True), step.piece.about, side, step.relation, source=step.piece.line)
            for step, side in zip(self.steps, self.sides, strict=True)
        )
        return Derivation("yours", self.title, 0, (), "your text", lines, self.defined, largest=64, scale=self.steep)

    @property
    def steep(self) -> Any:
        """The size of the terms that cancel in a slope in beta: those of r/beta, differentiated as often; None where there is none."""
        slopes = [sum(n.op == "diff" and n.kids[1] == sym("beta") for _, n in walk(step.tree)) for step in self.steps]
        times = max(slopes)
        return (lambda r, beta: np.max(np.abs(r)) / beta ** (times + 1)) if times else None

    @property
    def defined(self) -> Any:
        """The hypothesis: only worlds on which no line is 0/0 that needs not be."""
        return Defined(self.sides)

    @property
    def letters(self) -> dict[str, str]:
        """What each letter was taken for, definitions of the text among them."""
        own = {name: f"{say(let.kids[0])} (defined here)" for name, let in self.lets.items()}
        chosen = {"free": self.chosen or "as it stands"} if self.free else {}
        return own | {name: what for side in self.sides for name, what in side.compiled.assumed.items() if name not in own} | chosen


@dataclass(frozen=True, eq=False)
class Defined:
    """Whether what a chain begins with is defined on a world, and no line is undefined where the reference forbids something."""

    sides: tuple[Side, ...]
    on_scope = True
    __signature__ = inspect.Signature()

    def __call__(self, scope: Scope) -> bool:
        forbids = np.isneginf(scope["log_p_ref"]).any()
        with np.errstate(all="ignore"):
            return not any(np.isnan(side(scope)).any() for side in self.sides if forbids or side.begins)


def chain(text: str, bind: Mapping[str, str] | None = None, free: Iterable[str] = ()) -> Chain:
    r"""Read a derivation.

    Args: text, as `own_text` says; bind, letters and the letters or formulas that they stand for; free, conventions (`freedoms`) that are
    left open beside those that the text declares.
    Raises: InputError with the line and the place, for what cannot be read.

    >>> found = chain("let u = p_ref/p\nE_p[u - 1 - log u] = KL(p, p_ref)")
    >>> [(step.relation, say(step.tree)) for step in found.steps][1]
    ('=', 'KL(p, p_ref)')
    """
    reader = Reader(bind or {}, free)
    for piece in sorted(pieces(text), key=lambda piece: piece.relation not in ASIDE):  # "where u = ..." comes behind what it is for
        reader.take(piece)
    if len(reader.steps) < 2:
        raise InputError("a chain must hold a relation", got="one formula", remedy="write what it is equal to, one relation a line")
    choices(reader.free)  # what is no convention is refused before anything is executed
    return Chain(heading(text) or TITLE, tuple(reader.steps), reader.lets, tuple(reader.free))


def heading(text: str) -> str:
    """The first words of a text, if it begins with a comment."""
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return first.lstrip("#%/ ").strip() if first.startswith(("#", "%", "//")) else ""


class Reader:
    """Takes one piece after the other, and keeps what was defined."""

    def __init__(self, bind: Mapping[str, str], free: Iterable[str] = ()) -> None:
        self.steps: list[Step] = []
        self.free = list(free)
        self.lets: dict[str, Node] = {}
        for letter, meaning in bind.items():
            self.take(Piece("let", f"{letter} = {meaning}", 0))

    def take(self, piece: Piece) -> None:
        if piece.relation == "free":
            self.free += [convention.strip() for convention in piece.formula.split(",")]
            return
        said = self.statement(piece)
        for let in said.lets:
            self.define(let, piece)
        if said.conditions:
            must = "what follows a formula must define a letter"
            raise InputError(must, got=quoted(piece.formula), where=f"line {piece.line}", remedy="write with u = p/p_ref")
        if piece.relation == "let":
            self.definition(said, piece)
            return
        sides, relations = list(said.sides), list(said.relations)
        if not piece.relation and len(sides) > 1 and (self.is_new(sides[0]) or self.is_functional(said)):
            self.define(_let(sides[0], sides[-1], piece), piece)
        starts = piece.relation or "so"
        for relation, side in zip([starts, *relations], sides, strict=True):
            if relation not in RELATIONS:
                remedy = f"use one of {', '.join(r for r in RELATIONS if r not in ('in expectation', 'in the limit'))}"
                must = "a relation must be one that can be executed"
                raise InputError(must, got=quoted(relation), where=f"line {piece.line}", remedy=remedy)
            self.steps.append(Step(relation, self.whole(side), piece))

    def statement(self, piece: Piece) -> Statement:
        formula = spelled_out(piece.formula) if piece.relation == "let" else piece.formula
        try:
            return statement(formula, letters=self.lets, before=tuple(let for let in self.lets.values() if is_function(let)))
        except InputError as e:
            raise e.at(f"line {piece.line}") from None

    def definition(self, said: Statement, piece: Piece) -> None:
        if len(said.sides) != 2 or said.relations != ("=",):
            remedy = "write let u = p/p_ref"
            raise InputError("a definition must say what a letter is", got=quoted(piece.formula), where=f"line {piece.line}", remedy=remedy)
        self.define(_let(said.sides[0], said.sides[1], piece), piece)

    def define(self, let: Node, piece: Piece) -> None:
        name = str(let.value)
        if name in self.lets and self.lets[name] != let:
            got = f"{name} = {say(self.lets[name].kids[0])}, and {name} = {say(let.kids[0])}"
            raise InputError("a letter must not stand for two laws", got=got, where=f"line {piece.line}", remedy="take another letter")
        self.lets[name] = let

    def is_functional(self, said: Statement) -> bool:
        r"""Whether the left side is written as a functional of the policy, L(theta) or \mathcal{L}, and so is no table of that letter."""
        side = said.sides[0]
        written = said.text[side.start : side.end]
        return side.op == "sym" and side.value not in (*self.lets, *OBJECTIVES) and ("(" in written or "mathcal" in written)

    def is_new(self, side: Node) -> bool:
        """Whether the left side is a letter that nobody knows: this line then says what it is."""
        head = side.kids[0] if side.op == "at" else side
        return head.op == "sym" and head.value not in self.lets and not Lexicon().knows(str(head.value))

    def whole(self, tree: Node) -> Node:
        """A tree with the definitions that it uses."""
        return Statement("", (tree,), (), tuple(self.lets.values())).with_lets(tree)


def spelled_out(formula: str) -> str:
    """A definition in words: "mu be pi_behavior" is mu = pi_behavior."""
    letter, be, meaning = formula.partition(" be ")
    if not be:
        return formula
    words = meaning.strip().removeprefix("the ").removeprefix("a ")
    named = next((n for n, s in SYMBOLS.items() if s.meaning.removeprefix("the ").removeprefix("a ") == words), meaning)
    return f"{letter} = {named.removeprefix('log_')}"


def _let(head: Node, body: Node, piece: Piece) -> Node:
    what, *given = head.kids if head.op == "at" else (head,)
    if what.op != "sym":
        must = "a definition must begin with a letter"
        raise InputError(must, got=quoted(piece.formula), where=f"line {piece.line}", remedy="write let u = p/p_ref")
    return Node("let", (body, *given), what.value)


def is_function(let: Node) -> bool:
    """Whether a definition is of a function, f(t) = t log t, and not of a letter at indices."""
    return any(kid.op == "sym" for kid in let.kids[1:])


def _compiled(step: Step) -> Compiled:
    try:
        return compile(step.tree, None, step.piece.formula)
    except InputError as e:
        better = "say what it is on a line of its own: let b = E_p[r]" if e.must == UNKNOWN and "bind it" in e.remedy else None
        raise e.at(f"line {step.piece.line}", better) from None
