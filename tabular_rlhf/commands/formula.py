"""`tabular-rlhf formula TEXT`: a formula of your own, LaTeX or plain typing: what it is read as, its value on a world, what it equals."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tabular_rlhf.commands.answer import answer
from tabular_rlhf.commands.options import declare_json, declare_world, option, repeated
from tabular_rlhf.commands.solve import check_draws, find_world
from tabular_rlhf.derivations import DERIVATIONS
from tabular_rlhf.derivations.own import bound
from tabular_rlhf.derivations.prints import difference
from tabular_rlhf.errors import InputError
from tabular_rlhf.formula import Formula, compile
from tabular_rlhf.formula.axes import axis_kind
from tabular_rlhf.formula.slips import slips
from tabular_rlhf.layout import table
from tabular_rlhf.ledger import LEDGER, Row
from tabular_rlhf.ledger.worlds import generic
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.symbols import Scope
from tabular_rlhf.told import number

SCHEMA = "tabular-rlhf/formula/1"
SHOWN = 12


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("formula", metavar="FORMULA", help=r"LaTeX, or plain typing: '\beta \log\frac{p}{q}', 'E_p[r]'")
    declare_world(parser)
    repeated(parser, "--bind LETTER=WHAT", "what a letter stands for: mu=p_ref, gamma=0.4")
    option(parser, "--seed", 0, "seed of what is drawn, the policy p among it")
    declare_json(parser)


def run(args: argparse.Namespace) -> int:
    check_draws(1, args.seed)
    formula = Formula(args.formula, bindings(args.bind))
    world = find_world(args.world)
    value = np.asarray(formula.on(world, seed=args.seed, partial=True), dtype=np.float64)
    found = {
        "world": world.name,
        "beta": world.beta,
        "read_as": formula.read_as,
        "latex": formula.latex,
        "axes": list(formula.axes),
        "assumed": formula.assumed,
        "value": value.tolist(),
        "equals": equals(formula),
    }
    found["misses"] = None if found["equals"] else missed(formula)
    return answer(args, SCHEMA, found, lambda: as_text(found, entries(value, formula.axes, world.mdp)))


def bindings(words: Sequence[str]) -> dict[str, Any]:
    """{"gamma": 0.4, "mu": "p_ref"} from ["gamma=0.4", "mu=p_ref"].

    >>> bindings(["gamma=0.4", "mu=p_ref"])
    {'gamma': 0.4, 'mu': 'p_ref'}
    """
    return {letter: _number(what) for letter, what in bound(words).items()}


def _number(what: str) -> Any:
    try:
        return float(what)
    except ValueError:
        return what


@dataclass(frozen=True)
class Book:
    """The claims, and the lines of all derivations, on a few worlds that are unlike: (name, whether it applies, its value)."""

    scopes: tuple[Scope, ...]
    lines: tuple[tuple[str, Callable[[Scope], bool], Callable[[Scope], Any]], ...]

    def like(self, made: Any) -> list[str]:
        """The lines with the value of a formula on every one of the worlds to which they apply, two at least."""
        values = {id(scope): (np.shape(v), worth(v)) for scope in self.scopes for v in [made(scope)]}
        found = []
        for name, applies, value in self.lines:
            fit = [scope for scope in self.scopes if applies(scope)]
            near = len(fit) > 1 and known(name, value, fit[0]) == values[id(fit[0])]
            if near and all(not difference(made, scope, value(scope), strict=True) for scope in fit):
                found.append(name)
        return found


def known(name: str, value: Callable[[Scope], Any], scope: Scope) -> Any:
    """What a claim or a line is worth on a world, computed once."""
    key = ("worth", name)
    if key not in scope.memo:
        found = value(scope)
        scope.memo[key] = np.shape(found), worth(found)
    return scope.memo[key]


def worth(value: Any) -> bytes:
    """A table to nine digits, to find it among many; the same for those of one value."""
    whole = np.asarray(value, dtype=np.float64)
    size = max(1.0, float(np.max(np.abs(whole[np.isfinite(whole)]), initial=0.0)))
    return bytes((np.round(whole / size, 9) + 0.0).tobytes())


def book() -> Book:
    """All claims and derivations, on five worlds."""
    lines: list[Any] = []
    for row in LEDGER.values():
        for k, part in enumerate(row.parts):
            name = f"{row.slug} ({part})" if len(row.parts) > 1 else row.slug
            lines.append((name, row.applies, partial(_side, row, k)))
    lines += [(f"{d.slug}, line {k}", d.applies, line) for d in DERIVATIONS.values() for k, line in enumerate(d.lines, 1)]
    return Book(tuple([s for s in generic(0) if s["N"] <= 16][:5]), tuple(lines))


def _side(row: Row, k: int, scope: Scope) -> Any:
    """One part of a claim, by its first side."""
    return row.evaluate(scope, next(iter(row.sides)))[k]


def equals(formula: Formula) -> list[str]:
    """The claims and printed lines with the same value; none for a lone letter, or a number given."""
    return book().like(compile(formula.tree, formula.bind)) if comparable(formula) else []


def comparable(formula: Formula) -> bool:
    """Whether it is one formula of the subject's own letters, and no lone letter."""
    return all(isinstance(what, str) for what in formula.bind.values()) and bool(formula.tree.kids) and len(formula.trees) == 1


SMALL = 3
"""Nodes that a slip may change, for a formula to be called another with that slip."""


def missed(formula: Formula) -> dict[str, Any] | None:
    """By which slip it misses which printed lines, the cheapest slip first; None if no small one makes it equal any."""
    if not comparable(formula):
        return None
    whole = book()
    for slip in sorted(slips(formula.tree), key=lambda slip: (slip.cost, slip.rank)):
        if slip.cost > SMALL or not slip.tree.kids:
            continue
        try:
            made = compile(slip.tree, formula.bind)
        except InputError:  # not every rewrite means something
            continue
        found = whole.like(made) if np.any(made(whole.scopes[0])) else []
        if found:
            return {"change": slip.change, "slip": slip.mends, "equals": found}
    return None


def entries(value: Any, axes: Sequence[str], mdp: TokenMDP) -> list[tuple[str, float]]:
    """The first entries of a table, each with the prompt, response, state or token that it belongs to."""
    if value.ndim != len(axes):  # several formulas: the first axis counts them
        axes = ("", *axes)
    shown = list(np.ndindex(value.shape))[:SHOWN]
    return [(", ".join(filter(None, (label(a, i, mdp) for a, i in zip(axes, index, strict=True)))), float(value[index])) for index in shown]


def label(axis: str, i: int, mdp: TokenMDP) -> str:
    """What an index stands for: a prompt if there are several, a response, a state, a token."""
    of = axis_kind(axis.rstrip("."))
    if of == "x":
        return mdp.prompts[i] if mdp.P > 1 else ""
    if of == "tau":
        return repr(mdp.text(i)) if axis != "i" or i < mdp.N else str(i)
    return f"s = {mdp.state_text(i)!r}" if of == "s" else f"a = {mdp.vocabulary[i]}" if of == "a" else str(i)


def as_text(found: dict[str, Any], rows: Sequence[tuple[str, float]]) -> str:
    """What was read, what was assumed, the value, and what it equals."""
    axes = found["axes"]
    size = int(np.size(found["value"]))
    over = f"over ({', '.join(axes)}), {size} numbers" if axes else "one number"
    more = f"\n   ... {size - len(rows)} more" if size > len(rows) else ""
    values = table("", ["", ""], [[name, number(value)] for name, value in rows], left=(0,)) if axes else number(rows[0][1])
    assumed = "\n".join(f"  {name}: {what}" for name, what in found["assumed"].items())
    same = "; ".join(found["equals"][:6]) or "no claim and no printed line"
    near = found["misses"]
    misses = [f"With {near['change']} it would equal {'; '.join(near['equals'][:3])}: {near['slip']}."] if near else []
    return "\n".join(
        [
            f"read as  {found['read_as']}",
            f"It is {over}; on the world {found['world']}, beta = {number(found['beta'])}:",
            f"{values}{more}",
            "",
            "What the letters were taken for:",
            assumed or "  nothing",
            "",
            f"On every world that was tried it equals {same}.",
            *misses,
        ]
    )
