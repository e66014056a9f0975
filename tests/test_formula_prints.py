"""The printed lines of the book are executed: what is read agrees with the function that stands beside it, and a slip in a print shows."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np

from tabular_rlhf.derivations import DERIVATIONS
from tabular_rlhf.derivations.prints import Print, difference, prints
from tabular_rlhf.derivations.record import declared
from tabular_rlhf.derivations.records import record_prints, shares
from tabular_rlhf.errors import InputError
from tabular_rlhf.formula import compile, statement
from tabular_rlhf.formula.read import definitions
from tabular_rlhf.formula.tree import Node, put, walk
from tabular_rlhf.ledger.symbols import Scope
from tabular_rlhf.ledger.worlds import gaps, generic, tiny

SCOPES: tuple[Scope, ...] = (*tiny(0)[7::40], *generic(0)[2:4], *generic(0)[8:10], gaps(0)[6], gaps(0)[-2])
DIFFERS = {
    ("mle-is-forward-kl", 6): "it moves the scores at the end of the line, which its letters do not follow",
    ("bt-existence", 10): "its w is of other comparisons than in the lines before",
    ("reward-inversion", 9): "it is compared at the first response only",
    ("reward-inversion", 10): "it is compared at the first response only",
    ("reward-to-go", 5): "its Q is of token rewards",
    ("natural-gradient", 5): "its V is the mean of its Q",
    ("k2", 7): "its f is drawn, and its second derivative is taken otherwise",
    ("kl-estimator-theorem", 1): "it defines four functions at once",
}
"""Printed lines that are read as something else than what stands beside them, and why."""


@cache
def found() -> list[Print]:
    return [p for derivation in DERIVATIONS.values() for p in prints(derivation, SCOPES)]


def test_most_printed_lines_run_and_agree() -> None:
    agree = sum(p.agrees is True for p in found())
    assert agree >= 0.7 * len(found()), agree


def test_a_print_that_differs_is_known_by_name() -> None:
    differ = {(p.slug, p.number): p.reason for p in found() if p.agrees is False}
    assert differ.keys() <= DIFFERS.keys(), {k: v for k, v in differ.items() if k not in DIFFERS}


def test_what_is_not_executed_has_a_reason() -> None:
    assert all(p.reason for p in found() if p.agrees is None)


def test_declarations_are_printed() -> None:
    assert declared(DERIVATIONS["policies-are-distributions"].letters) == ["p is p_star"]


def slips(tree: Node, rng: np.random.Generator) -> Iterator[Node]:
    """The tree with one slip: a sign, a factor, a power, the arguments of KL, another law, drawn over its places."""
    made = []
    for path, node in walk(tree):
        kids = node.kids
        if node.op in ("add", "sub"):
            made.append(put(tree, path, Node("sub" if node.op == "add" else "add", kids)))
        elif node.op == "mul":
            made += [put(tree, path, kids[0]), put(tree, path, kids[1])]
        elif node.op == "div":
            made += [put(tree, path, Node("div", kids[::-1])), put(tree, path, kids[0])]
        elif node.op in ("neg", "exp", "log", "sigma"):
            made.append(put(tree, path, kids[0]))
        elif node.op == "KL":
            made.append(put(tree, path, Node("KL", kids[::-1])))
        elif node.op == "sym" and node.value in ("p", "p_star", "p_ref"):
            made.append(put(tree, path, Node("sym", (), "p_ref" if node.value != "p_ref" else "p")))
    order = rng.permutation(len(made))
    yield from (made[k] for k in order[:2])


def test_a_slip_in_a_print_shows() -> None:
    """Of printed formulas with one slip, drawn anew, at least nine in ten differ from the function that stands beside them."""
    rng, told, missed = np.random.default_rng(17), 0, []
    agreeing = [p for p in found() if p.agrees]
    for k in rng.permutation(len(agreeing))[:110]:
        p = agreeing[k]
        derivation = DERIVATIONS[p.slug]
        letters, before = definitions(derivation.letters)
        side = statement(p.tex, letters=letters, before=before).sides[-1]
        for wrong in slips(side, rng):
            try:
                made = compile(wrong, letters, **derivation.setting)
            except InputError:
                continue  # that it has no meaning is told, too
            fit = [s for s in SCOPES if derivation.applies(s)]
            line = derivation.lines[p.number - 1]
            shown = any(difference(made, scope, line(scope)) for scope in fit)
            told += shown
            missed += [] if shown else [(p.slug, p.number, p.tex)]
    assert told + len(missed) > 60
    assert told >= 0.9 * (told + len(missed)), missed


def test_the_latex_of_records_runs() -> None:
    """Losses, advantages, estimators and divergences: what is read of them agrees with their functions, on numbers drawn twice."""
    for seed in (0, 1):
        agree, differ, unread = shares(record_prints(seed))
        assert differ == 0
        assert agree >= 0.7 * (agree + unread)
    assert all(p.reason for p in record_prints() if not p.agrees)
