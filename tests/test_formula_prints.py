"""The printed lines of the book are executed: what is read agrees with the function that stands beside it, and a slip in a print shows."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from tabular_rlhf.cli import main
from tabular_rlhf.commands.verify import derivation_reasons
from tabular_rlhf.derivations import DERIVATIONS, audit_derivations, derive
from tabular_rlhf.derivations.prints import difference, executed, prints, record_prints, shares
from tabular_rlhf.errors import InputError
from tabular_rlhf.formula import compile, statement
from tabular_rlhf.formula.read import definitions
from tabular_rlhf.formula.reading import Reading, declared
from tabular_rlhf.formula.slips import slips as rewrites
from tabular_rlhf.formula.tree import Node, put, walk
from tabular_rlhf.ledger import LEDGER
from tabular_rlhf.ledger.prints import Print, statement_prints
from tabular_rlhf.ledger.worlds import gaps, generic, tiny
from tabular_rlhf.symbols import Scope
from tabular_rlhf.world import random_world

SCOPES: tuple[Scope, ...] = (*tiny(0)[7::40], *generic(0)[2:4], *generic(0)[8:10], gaps(0)[6], gaps(0)[-2])


@cache
def found() -> list[Print]:
    return [p for derivation in DERIVATIONS.values() for p in prints(derivation, SCOPES)]


def test_most_printed_lines_run_and_agree() -> None:
    agree = sum(p.agrees is True for p in found())
    assert agree >= 0.7 * len(found()), agree


def test_the_first_half_of_the_book_runs_as_it_is_printed() -> None:
    """All but a function that the reader does not know, and a limit that is said in words."""
    lines = [p for p in found() if DERIVATIONS[p.slug].chapter <= 5]
    assert {(p.slug, p.number) for p in lines if not p.agrees} == {("ppo-ptx-optimum", 10), ("ppo-ptx-optimum-removed", 6)}


def test_no_print_differs_from_what_runs() -> None:
    assert [(p.slug, p.number, p.reason) for p in found() if p.agrees is False] == []


def test_statements_that_are_chains_of_formulas_run() -> None:
    made = {slug: statement_prints(row, SCOPES) for slug, row in LEDGER.items()}
    clauses = [p for printed in made.values() for p in printed]
    assert [p for p in clauses if p.agrees is False] == []
    assert {"regret-is-kl", "chain-rule", "k1", "k3", "kl-gradients", "lagrange-multiplier"} <= {p.slug for p in clauses if p.agrees}
    assert all(p.reason for p in clauses if not p.agrees)
    row = LEDGER["regret-is-kl"]
    false = [text.replace("-", "+", 1) for text in row.reading.texts]
    false = replace(row, clauses=(), statement=false[0]) if not row.clauses else replace(row, clauses=tuple(false))
    assert statement_prints(false, SCOPES)[0].agrees is False


def test_what_is_not_executed_has_a_reason() -> None:
    assert all(p.reason for p in found() if p.agrees is None)


def test_every_print_of_the_book_can_be_got_wrong() -> None:
    """The rules of slips take whatever can be read: each yields other formulas, which can be said, and none raises."""
    for derivation in DERIVATIONS.values():
        for k in range(1, len(derivation.lines) + 1):
            with contextlib.suppress(InputError):  # a line that cannot be read
                tree = derivation.reading.sides(k)[-1].tree
                assert all(slip.tree != tree and slip.mends for slip in rewrites(tree))


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


def test_a_line_that_is_not_executed_as_printed_is_marked_wherever_it_is_shown() -> None:
    unread = next(p for p in found() if not p.agrees)
    shown = derive(unread.slug)
    assert [s.printed for s in shown.steps] == [bool(p.agrees) for p in executed(DERIVATIONS[unread.slug])]
    assert str(shown).count(" †") == 1 + sum(not s.printed for s in shown.steps) > 1  # and the legend
    assert "† not executed as it is printed" in " ".join(str(shown).split())
    assert shown._repr_markdown_().count(" †<br>") == shown.html().count(" † ") == sum(not s.printed for s in shown.steps)
    assert " †" not in str(derive("J_x = E_p[r] - beta*KL(p, p_ref)")), "what a reader types is what runs"


def test_a_print_that_lies_fails_the_audit(monkeypatch: pytest.MonkeyPatch) -> None:
    d = DERIVATIONS["regret-is-kl"]
    lie = replace(d.lines[1], tex=d.lines[1].tex.replace("-", "+", 1))
    monkeypatch.setitem(DERIVATIONS, d.slug, replace(d, lines=(d.lines[0], lie, *d.lines[2:])))
    (verdict,) = audit_derivations([DERIVATIONS[d.slug]], worlds=0)
    assert not verdict.holds
    assert "line 2 does not say what runs" in derivation_reasons(verdict)[0]


def test_what_is_not_executed_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--prints", "regret-is-kl", "bt-existence"]) == 0
    out = capsys.readouterr().out
    assert "printed formulas are executed as they are printed" in out
    assert "bt-existence" in out
    assert main(["verify", "--prints", "--json", "regret-is-kl"]) == 0
    found = json.loads(capsys.readouterr().out)["prints"]
    assert found["executed"] == found["of"] > 5
    assert main(["verify", "--explain", "bt-existence"]) == 0
    assert "†" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("formula", "said"),
    [
        ("beta*KL(p, p_star)", "it equals regret-is-kl."),
        ("beta*KL(p_star, p)", "it would equal regret-is-kl: the arguments of KL are swapped."),
        (r"\beta \log \sum_y \pi_{ref}(y|x) \exp(\beta r(x,y))", "it is to be divided by beta"),
        ("E_p[r^3]*17", "no claim and no printed line."),
    ],
)
def test_a_formula_is_told_which_claim_it_is_or_by_which_slip_it_misses_one(
    formula: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["formula", formula]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert said in out
    assert ("With " in out) == ("would" in said or "divided" in said)


@pytest.mark.parametrize("entries", ["mu(x)*d_pi(s)*pi(a | s)*(Q_pi(s, a) - V_pi(s))", "2*mu(x)*d_pi(s)*pi(a | s)*(Q_pi(s, a) - V_pi(s))"])
def test_a_table_of_tokens_beside_a_gradient_is_its_entries(entries: str) -> None:
    """A gradient in the logits and the table of its slopes are compared entry by entry, whichever line stands first."""
    for pair in ((r"\nabla\, \mathbb{E}[r]", entries), (entries, r"\nabla\, \mathbb{E}[r]")):
        first, second = (Reading(pair, (0, 0)).value(k) for k in (1, 2))
        scope = Scope(random_world(rng=np.random.default_rng(3), V=2, H=2, P=2), 0)
        assert np.shape(first(scope)) == np.shape(second(scope)) == scope["pi"].shape
        assert np.allclose(first(scope), second(scope)) == (not entries.startswith("2"))
