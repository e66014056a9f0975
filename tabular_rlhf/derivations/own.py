r"""`derive(text)`: a reader's own derivation tried on all small worlds; where a line breaks, the smallest edit of it that would hold.

An edit is one slip (`slips`) of the broken line, or of a definition that it uses, or else two of the line.  It is offered only if with it
the line follows on every world on which the derivation is tried, and the edits are tried in a fixed order, so many at most: no clock
decides what is said.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import islice

from tabular_rlhf.derivations.execute import Derived, execute, follows, small_scopes
from tabular_rlhf.derivations.lines import Line
from tabular_rlhf.derivations.own_lines import Chain, chain
from tabular_rlhf.derivations.own_text import unread
from tabular_rlhf.errors import InputError, quoted
from tabular_rlhf.formula.freedoms import mapped
from tabular_rlhf.formula.slip_rules import EXTRA, SYMBOL
from tabular_rlhf.formula.slips import Slip, slips
from tabular_rlhf.formula.tree import Node, names, walk
from tabular_rlhf.ledger import worlds
from tabular_rlhf.world import World

EDITS = 1500
"""Edits of a line that are tried."""
PAIRED = 40
"""Edits that are joined with a second one."""


def derive_text(
    text: str, world: World | str | None = None, *, seed: int = 0, bind: Mapping[str, str] | None = None, free: Iterable[str] = ()
) -> Derived:
    """Execute a derivation that is given as text, under the first choice of its free conventions under which it holds; see `derive`.

    >>> found = derive_text("J_x = E_p[r] - KL(p, p_ref)")
    >>> found.broken, found.mended
    (2, 'It would hold with beta*KL(p, p_ref) for KL(p, p_ref): a factor beta is missing.')
    """
    read, found = executed(chain(text, bind, free), world, seed)
    mended = "" if found.broken is None else remedy(read, found.broken, seed)
    return replace(found, letters=read.letters, mended=mended, unread=tuple(unread(text)))


def executed(read: Chain, world: World | str | None = None, seed: int = 0) -> tuple[Chain, Derived]:
    """A chain, executed; of the choices of what is free the first under which it holds, or else as it stands."""
    found = [(read, execute(read.derivation, world, {}, seed))]
    for other in read.readings()[1:]:
        if found[-1][1].holds:
            return found[-1]
        found.append((other, execute(other.derivation, world, {}, seed)))
    return found[-1] if found[-1][1].holds else found[0]


def remedy(read: Chain, k: int, seed: int) -> str:
    """What would make line k hold, the first of: an inequality turned round, an edit of the line, an edit of a definition, an inequality
    for an equals sign, two edits of the line; "" if none does.
    """
    was, derivation = read.steps[k - 1].relation, read.derivation
    line, everywhere = derivation.lines[k - 1], small_scopes(derivation, derivation.lines, [k], seed)

    def holds(relation: str) -> bool:
        lines = (*derivation.lines[: k - 1], replace(line, relation=relation), *derivation.lines[k:])
        return all(follows(derivation, lines, [k], s) for s in everywhere)

    if was in TURNED and holds(TURNED[was]):
        return f"It would hold with {TURNED[was]} for {was}: the inequality points the other way."
    if said := in_words(mend(read, k, seed)) or _of_definition(read, k, seed):
        return said
    if was == "=" and (weaker := next((r for r in TURNED if holds(r)), "")):
        return f"It would hold with {weaker} for =: the two are not always equal."
    return _of_two(read, k, seed) if was == "=" else ""


TURNED = {"<=": ">=", ">=": "<="}
"""An inequality, the other way round."""


def in_words(*edits: Slip | None) -> str:
    """What would make a line hold."""
    made = [slip for slip in edits if slip is not None]
    if not made:
        return ""
    changes, words = (" and ".join(getattr(slip, what) for slip in made) for what in ("change", "mends"))
    return f"It would hold with {changes}: {words}."


def mend(read: Chain, k: int, seed: int = 0) -> Slip | None:
    """The first edit of line k (from 1) with which it follows on all small worlds; None if none of one rule does."""
    holds = judge(read, k, seed)
    return next((slip for slip, lines in edited(read, k) if holds(lines)), None)


def judge(read: Chain, k: int, seed: int) -> Callable[[tuple[Line, ...]], bool]:
    """Whether line k follows on all small worlds, in lines given; tried first where a slip shows most."""
    derivation = read.derivation
    everywhere = small_scopes(derivation, derivation.lines, [k], seed)
    discerning = [s for s in worlds.generic(seed) if derivation.applies(s)][:3]
    return lambda lines: all(follows(derivation, lines, [k], s) for s in (*discerning, *everywhere))


def edited(read: Chain, k: int) -> Iterator[tuple[Slip, tuple[Line, ...]]]:
    """Line k rewritten by every rule, the smallest edits first, and the lines with it."""
    for slip in _smallest(read.steps[k - 1].tree, EDITS):
        if lines := _with_line(read, k, slip.tree):
            yield slip, lines


def _of_definition(read: Chain, k: int, seed: int) -> str:
    """The first edit of a definition with which every line up to k follows, in words."""
    used = {node.value for step in read.steps[max(0, k - 2) : k] for _, node in walk(step.tree) if node.op == "let"}
    for name, let in read.lets.items():
        for slip in _smallest(let.kids[0], EDITS // 10) if name in used else ():
            new = let.over(slip.tree, *let.kids[1:])
            try:
                other = read.rewritten(partial(_replaced, let, new))
                found = execute(other.derivation, None, {}, seed)
            except InputError:  # not every rewrite means something
                continue
            if found.broken is None or found.broken > k:
                return f"It would hold if {name} were {slip.shown}, that is with {slip.change}: {slip.mends}."
    return ""


def _replaced(let: Node, new: Node, tree: Node) -> Node:
    """A tree with another definition in the place of one."""
    return mapped(tree, lambda node: new if node == let else node)


def _of_two(read: Chain, k: int, seed: int) -> str:
    """The first two edits of line k with which it follows, in words."""
    holds = judge(read, k, seed)
    letters = {name for step in read.steps for name in names(step.tree)}
    once = _likely(read.steps[k - 1].tree, letters)
    twice = ((a, b) for a in once for b in _likely(a.tree, letters) if b.path != a.path)
    for first, second in islice(sorted(twice, key=lambda pair: pair[0].cost + pair[1].cost), EDITS):
        if (lines := _with_line(read, k, second.tree)) and holds(lines):
            return in_words(first, second)
    return ""


def _likely(tree: Node, letters: Container[object]) -> list[Slip]:
    """The rewrites of a tree that are joined with a second one: a part left out, a sign, beta, a letter for another that occurs."""

    def likely(slip: Slip) -> bool:
        if slip.rank == EXTRA:
            return "beta" in slip.mends and "log" not in slip.mends
        return slip.rank < SYMBOL or (slip.rank == SYMBOL and slip.after.op == "sym" and slip.after.value in letters)

    return [slip for slip in _smallest(tree, EDITS) if likely(slip)][:PAIRED]


def _smallest(tree: Node, most: int) -> list[Slip]:
    """The rewrites of a tree, the smallest first."""
    return sorted(slips(tree), key=lambda slip: (slip.cost, slip.rank))[:most]


def _with_line(read: Chain, k: int, tree: Node) -> tuple[Line, ...]:
    """The lines with another formula in the place of line k; none where it means nothing."""
    lines = read.derivation.lines
    try:
        side = read.sides[k - 1].instead(tree)
    except InputError:  # not every rewrite means something
        return ()
    return (*lines[: k - 1], lines[k - 1].instead(side), *lines[k:])


def bound(pairs: Iterable[str]) -> dict[str, str]:
    """Letters and what they stand for, from LETTER=WHAT.

    >>> bound(["mu=pi_behavior"])
    {'mu': 'pi_behavior'}
    """
    found = {}
    for pair in pairs:
        letter, sign, meaning = pair.partition("=")
        if not (letter.strip() and sign and meaning.strip()):
            raise InputError("a binding must be LETTER=WHAT", got=quoted(pair), remedy="say, --bind mu=p_ref")
        found[letter.strip()] = meaning.strip()
    return found
