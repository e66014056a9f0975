r"""`derive(text)`: a reader's own derivation tried on all small worlds; where a line breaks, the smallest edit of it that would hold.

An edit is one slip (`slips`) of the broken line.  It is offered only if with it the line follows on every world on which the
derivation is tried, and the edits are tried in a fixed order, so many at most: no clock decides what is said.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from tabular_rlhf.derivations.execute import Derived, execute, follows, small_scopes
from tabular_rlhf.derivations.own_lines import Chain, Side, chain
from tabular_rlhf.derivations.own_text import unread
from tabular_rlhf.derivations.record import Derivation, Line
from tabular_rlhf.errors import InputError, quoted
from tabular_rlhf.formula.slips import Slip, slips
from tabular_rlhf.ledger import worlds
from tabular_rlhf.world import World

EDITS = 1500
"""Edits of a line that are tried."""


def derive_text(text: str, world: World | str | None = None, *, seed: int = 0, bind: Mapping[str, str] | None = None) -> Derived:
    """Execute a derivation that is given as text; see `derive`.

    >>> found = derive_text("J_x = E_p[r] - KL(p, p_ref)")
    >>> found.broken, found.mended
    (2, 'It would hold with beta*KL(p, p_ref) for KL(p, p_ref): a factor beta is missing.')
    """
    read = chain(text, bind)
    found = execute(read.derivation, world, {}, seed)
    mended = "" if found.broken is None else remedy(read, found.broken, seed)
    return replace(found, letters=read.letters, mended=mended, unread=tuple(unread(text)))


def remedy(read: Chain, k: int, seed: int) -> str:
    """What would make line k hold: an inequality turned round, an edit of the line, an inequality for an equals sign; "" if none does."""
    was, derivation = read.steps[k - 1].relation, read.derivation
    line, everywhere = derivation.lines[k - 1], small_scopes(derivation, derivation.lines, [k], seed)

    def holds(relation: str) -> bool:
        lines = (*derivation.lines[: k - 1], replace(line, relation=relation), *derivation.lines[k:])
        return all(follows(derivation, lines, [k], s) for s in everywhere)

    if was in TURNED and holds(TURNED[was]):
        return f"It would hold with {TURNED[was]} for {was}: the inequality points the other way."
    said = in_words(mend(read, k, seed))
    weaker = next((r for r in TURNED if was == "=" and not said and holds(r)), "")
    return f"It would hold with {weaker} for =: the two are not always equal." if weaker else said


TURNED = {"<=": ">=", ">=": "<="}
"""An inequality, the other way round."""


def in_words(slip: Slip | None) -> str:
    """What would make a line hold."""
    return "" if slip is None else f"It would hold with {slip.change}: {slip.mends}."


def mend(read: Chain, k: int, seed: int = 0) -> Slip | None:
    """The first edit of line k (from 1) with which it follows on all small worlds; None if none of one rule does."""
    derivation = read.derivation
    everywhere = small_scopes(derivation, derivation.lines, [k], seed)
    discerning = [s for s in worlds.generic(seed) if derivation.applies(s)][:3]
    for slip, lines in edited(read, k):
        if all(follows(derivation, lines, [k], s) for s in discerning) and all(follows(derivation, lines, [k], s) for s in everywhere):
            return slip
    return None


def edited(read: Chain, k: int) -> Iterator[tuple[Slip, tuple[Line, ...]]]:
    """Line k rewritten by every rule, the smallest edits first, and the lines with it."""
    derivation, side = read.derivation, read.sides[k - 1]
    found = sorted(slips(read.steps[k - 1].tree), key=lambda slip: (slip.cost, slip.rank))
    for slip in found[:EDITS]:
        try:
            other = side.instead(slip.tree)
        except InputError:  # not every rewrite means something
            continue
        yield slip, with_line(derivation, k, other)


def with_line(derivation: Derivation, k: int, side: Side) -> tuple[Line, ...]:
    """The lines with another formula in the place of line k."""
    line = derivation.lines[k - 1]
    return (*derivation.lines[: k - 1], line.instead(side), *derivation.lines[k:])


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
