"""Laws of lines in place of lines: right only on some worlds is wrong, wherever it is tried, and what is shown really differs."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tabular_rlhf.check as checker
from tabular_rlhf.check import Report, check
from tabular_rlhf.derivations import DERIVATIONS, Derivation, Line, derive, execute
from tabular_rlhf.derivations.record import add
from tabular_rlhf.derivations.text import sides
from tabular_rlhf.formula.printed import Printed
from tabular_rlhf.ledger import worlds
from tabular_rlhf.symbols import parameters
from tabular_rlhf.told import apart, differing, number
from tabular_rlhf.tolerance import between, distance, largest
from tests import unseen_first, unseen_fourth, unseen_second, unseen_third
from tests.overlaid import Overlaid
from tests.unseen_support import ANSWERS

TABLES = (unseen_first, unseen_second, unseen_third, unseen_fourth)


def even(x: Any) -> Any:
    return np.full(np.shape(x), 1.0 / np.shape(x)[-1])


SPECIAL: dict[str, dict[str, Callable[[Any], Any]]] = {
    "beta = 1": {"beta": lambda beta: 1.0},
    "a uniform reference": {
        **dict.fromkeys(("p_ref", "pi_ref"), even),
        **dict.fromkeys(("log_p_ref", "log_pi_ref"), lambda x: np.log(even(x))),
    },
    "prompts equally likely": {"mu": even},
    "one token": {"H": lambda H: 1, "lengths": np.ones_like, "d_pi": lambda d: np.where(np.arange(d.shape[-1]) < 1, d, 0.0)},
}
"""What a line may be right only for: the symbols that then have one value, and that value."""


def specialized(line: Line, instead: dict[str, Callable[[Any], Any]]) -> Callable[..., Any] | None:
    """The line's function with some symbols at the values that they have in a special case, or None where it asks for none of them."""
    names = parameters(line.value)
    if not set(names) & set(instead):
        return None

    if isinstance(line.value, Printed):
        return Overlaid.of(line.value, instead)

    def function(*symbols: Any) -> Any:
        return line.value(*(instead.get(name, lambda x: x)(x) for name, x in zip(names, symbols, strict=True)))

    function.__signature__ = inspect.signature(line.value)  # type: ignore[attr-defined]
    return function


def special_lines(derivation: Derivation) -> Iterator[tuple[int, str, Callable[..., Any]]]:
    """Lines tied to a neighbor by an equals sign whose value the special case changes on some world."""
    scopes = [s for s in (*worlds.generic()[:8], *worlds.tiny()[::41]) if derivation.applies(s)]
    ties = [line.relation for line in derivation.lines] + ["so"]
    for k, line in enumerate(derivation.lines, 1):
        for words, instead in SPECIAL.items() if "=" in ((ties[k - 1] if k > 1 else ""), ties[k]) else ():
            function = specialized(line, instead)
            if function is not None and any(changes(line, line.instead(function), s) for s in scopes):
                yield k, words, function


def changes(line: Line, other: Line, scope: Any) -> bool:
    with np.errstate(all="ignore"):
        a, b = line(scope), other(scope)
        return between(distance(a, b), scope, scale=largest(a)).clear


@pytest.mark.parametrize(("turn", "slug"), list(enumerate(DERIVATIONS)))
def test_a_line_right_in_a_special_case_is_refuted_where_it_fails(turn: int, slug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line of each derivation, and another special case each time."""
    monkeypatch.setattr(execute, "EVALUATIONS", 500)
    derivation = DERIVATIONS[slug]
    tried = execute.small_scopes(derivation, derivation.lines, range(2, len(derivation.lines) + 1))
    lines = ((k, derivation.lines[k - 1], function) for k, _, function in special_lines(derivation))
    many = [(k, function) for k, line, function in lines if any(changes(line, line.instead(function), s) for s in tried)]
    if not many:
        return  # no line of it changes its value in a special case
    k, line = many[(5 * turn) % len(many)]
    found = derive(slug, lines={k: line})
    assert found.broken in (k, k + 1), str(found)
    shown = sides(found.steps[-1])
    assert len({values for _, values in shown}) == 2, shown
    assert all("".join(values.split()) in "".join(str(found).split()) for _, values in shown)  # lines may be broken anywhere
    monkeypatch.setattr(checker, "diagnosis", lambda *_: None)
    report = check(f"{slug}/{k}", line)
    assert report.status in ("wrong", "approximate", "nan"), str(report)
    assert report.counterexample is not None
    assert report.status == "nan" or differ_in_print(report), str(report)


def differ_in_print(report: Report) -> bool:
    """Whether some entry of both columns is printed with two different numbers."""
    c = report.counterexample
    assert c is not None
    if c.yours is None:
        return True
    spec = apart(c.yours, c.exact)
    pairs = [(number(c.yours[i], spec), number(c.exact[i], spec)) for i in differing(c.yours, c.exact, 12)]
    assert all(a in str(report) and b in str(report) for a, b in pairs)
    return any(a != b for a, b in pairs)


def test_the_special_cases_are_many() -> None:
    found = {slug: {words for _, words, _ in special_lines(d)} for slug, d in list(DERIVATIONS.items())[::3]}
    assert sum(map(bool, found.values())) >= 0.7 * len(found)
    assert set().union(*found.values()) == set(SPECIAL)


@pytest.mark.parametrize("k", range(3, len(ANSWERS), 31))
def test_yours_and_exact_differ_in_print(k: int) -> None:
    report = check(ANSWERS[k].slug, ANSWERS[k].function, part=ANSWERS[k].part)
    assert report.counterexample is None or report.status == "raises" or differ_in_print(report)


FLOATS = st.floats(-1e9, 1e9, allow_nan=False)


@given(st.lists(st.tuples(FLOATS, FLOATS), min_size=1, max_size=4), FLOATS, st.integers(0, 3))
def test_numbers_that_differ_look_different(many: list[tuple[float, float]], a: float, ulps: int) -> None:
    b = a
    for _ in range(ulps):
        b = math.nextafter(b, math.inf)
    for pairs in (many, [(a, b)]):
        one, other = [p for p, _ in pairs], [q for _, q in pairs]
        spec, gaps = apart(one, other), [abs(p - q) for p, q in pairs]
        worst = gaps.index(max(gaps))
        assert (number(one[worst], spec) != number(other[worst], spec)) == (gaps[worst] > 0)
        assert worst in differing(one, other, 1) or not gaps[worst] or gaps.count(max(gaps)) > 1 or min(gaps) > 0


@pytest.fixture
def mine() -> Iterator[Derivation]:
    """A reader's own derivation: two of its lines are right only where beta is 1."""
    d = DERIVATIONS["regret-is-kl"]

    def careless(log_Z: Any, log_p: Any, log_p_star: Any) -> Any:
        return log_Z - np.sum(np.exp(log_p) * (log_p - log_p_star), axis=1)

    lines = [Line(line.tex, line.reason, careless, line.relation, line.wrong) if k in (4, 5) else line for k, line in enumerate(d.lines, 1)]
    yield add(Derivation("regret-is-kl-mine", "Mine", 4, d.rows, "me", tuple(lines), d.where, d.largest, d.scale))
    del DERIVATIONS["regret-is-kl-mine"]


def test_a_derivation_of_ones_own_is_tried_where_beta_is_not_one(mine: Derivation) -> None:
    found = derive("regret-is-kl-mine")
    assert (found.broken, found.responses) == (4, 1)
    assert found.instance is not None
    assert found.instance["beta"] != 1.0
    assert "line 3 = " in str(found)
    assert derive("regret-is-kl-mine", "rational").holds
    assert "on this world" in str(derive("regret-is-kl-mine", "rational"))
    report = check("regret-is-kl-mine/4", mine.lines[3].value)
    assert report.status == "wrong"
    assert "It does not follow from line 3 (equal)" in report.told
    assert report.counterexample is not None
    assert report.counterexample.beside == "line 3"
    assert differ_in_print(report)
    assert "Line 6 does not follow from it" in check("regret-is-kl-mine/5", mine.lines[4].value).told


def test_how_many_worlds_is_said() -> None:
    found = derive("regret-is-kl")
    assert found.worlds > 200
    assert f"Every line follows, on {found.worlds} worlds" in str(found)
    assert f"on {found.worlds} worlds" in found._repr_markdown_()
    assert found.json()["worlds"] == found.worlds


def test_a_line_without_a_gradient_raises_and_is_told() -> None:
    from scipy import special

    slug, k = next((d.slug, j) for d in DERIVATIONS.values() for j, line in enumerate(d.lines, 1) if line.relation == "same gradient")

    def opaque(logits: Any, J: Any) -> Any:
        return J + 0.0 * np.sum(special.expit(np.asarray(logits, dtype=np.float64)))

    report = check(f"{slug}/{k}", opaque)
    assert report.status in ("raises", "wrong", "shape")
    assert str(report)
