"""Chapter 10 beyond its rows: the theorem on groups in exact fractions, estimators as they are coded, and what was published too widely."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabular_rlhf.errors import InputError
from tabular_rlhf.formula.printed import printed
from tabular_rlhf.formula.read import read
from tabular_rlhf.formula.say import say
from tabular_rlhf.ledger import LEDGER, Scope
from tabular_rlhf.ledger.audit import select
from tabular_rlhf.policy_gradient import Recipe, stale, success_weight
from tabular_rlhf.policy_gradient import bernstein as b
from tabular_rlhf.policy_gradient import estimates as e
from tabular_rlhf.tex import plain
from tabular_rlhf.world import random_world

numbers = st.fractions(min_value=-5, max_value=5, max_denominator=7)
inside = st.fractions(min_value=Fraction(1, 50), max_value=Fraction(49, 50), max_denominator=50)


def power_sum(powers: tuple[b.Number, ...], u: Fraction) -> b.Number:
    return sum(c * u**k for k, c in enumerate(powers))


# ---------------------------------------------------------------------------------------------------- group-bernstein


@pytest.mark.parametrize("G", range(2, 13))
def test_all_groups_agree_with_bernstein_in_exact_fractions(G: int) -> None:
    rng = np.random.default_rng(G)
    A = [Fraction(int(n), 7) for n in rng.integers(-20, 20, G - 1)]
    for u in (Fraction(1, 3), Fraction(9, 10)):
        exact = b.enumerated(A, u)
        assert exact == power_sum(b.polynomial(A), u)
        assert abs(float(exact) - float(b.weight(A, float(u)))) <= 1e-12 * max(1.0, *map(abs, map(float, b.coefficients(A))))


@given(st.lists(numbers, min_size=1, max_size=5), inside)
def test_any_table_ascends_its_polynomial_and_no_other_table_does(A: list[Fraction], u: Fraction) -> None:
    judged = b.judge(A)
    assert b.enumerated(A, u) == power_sum(judged.weight, u)
    assert b.advantages_of(judged.c) == tuple(A)
    assert judged.degree <= max(0, len(A) - 1)
    F = judged.objective
    assert tuple(k * c for k, c in enumerate(F))[1:] == judged.weight


@pytest.mark.parametrize("G", [2, 3, 5, 9])
def test_named_tables_are_the_recipes(G: int) -> None:
    u = np.array([0.0, 0.125, 0.5, 0.9, 1.0])
    for name, recipe in (("rloo", "rloo"), ("group-mean", "group-mean"), ("grpo", "grpo")):
        np.testing.assert_allclose(b.weight(b.table(name, G), u), success_weight(u, Recipe(recipe, G=G)), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(b.weight(b.table("max-rl", G), u), sum((1 - u) ** (k - 1) for k in range(1, G)), rtol=1e-12)


def test_with_two_members_every_method_is_reinforce_times_a_constant() -> None:
    assert {b.judge(b.table(name, 2)).degree for name in b.METHODS} == {0}
    assert {b.judge(b.table(name, 3)).degree for name in b.METHODS} == {0, 1}


@pytest.mark.parametrize("G", [3, 6])
def test_no_table_has_the_weight_of_log_u_or_of_the_logit(G: int) -> None:
    """The error of the best polynomial of degree G - 2 is not 0: no interpolation at G points is exact."""
    u = np.linspace(0.05, 0.95, 40)
    basis = u[:, None] ** np.arange(G - 1)
    for target in (1 / u, 1 / (u * (1 - u))):
        rest = target - basis @ np.linalg.lstsq(basis, target, rcond=None)[0]
        assert np.max(np.abs(rest)) > 1e-3


def test_a_table_that_pushes_right_responses_down_is_told_where() -> None:
    harmful = b.judge([1, -4, 1]).harmful
    assert harmful is not None
    low, high = harmful
    assert np.all(b.weight([1, -4, 1], np.linspace(low, high, 50)) < 0)
    assert b.judge(b.table("grpo", 8)).harmful is None
    with pytest.raises(InputError, match="finite"):
        b.judge([1.0, math.nan])
    with pytest.raises(InputError, match="G - 1"):
        b.judge([])
    with pytest.raises(InputError, match="known"):
        b.table("grp", 3)


# ---------------------------------------------------------------------------------------------------- estimators


@given(st.integers(1, 7), st.data())
def test_pass_at_k_is_the_mean_over_subsets(n: int, data: st.DataObject) -> None:
    k, m = data.draw(st.integers(1, n)), data.draw(st.integers(0, n))
    right = [1] * m + [0] * (n - m)
    subsets = list(itertools.combinations(right, k))
    assert e.pass_at_k(m, n, k) == pytest.approx(sum(map(max, subsets)) / len(subsets))
    shares = e.subset_shares(np.array([right], dtype=float), k)
    assert np.sum(shares) == pytest.approx(k * e.pass_at_k(m, n, k))


def test_the_survivors_of_a_batch_of_two_are_those_of_all_batches() -> None:
    """Every pair of groups, written out: two prompts, u = .1 and .5, groups of three."""
    p, right, mu, G = np.array([[0.1, 0.9], [0.5, 0.5]]), np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([0.4, 0.6]), 3
    one = [(x, g) for x in (0, 1) for g in itertools.product((0, 1), repeat=G)]
    out = np.zeros((2, 2))
    for pair in itertools.product(one, repeat=2):
        chance = math.prod(mu[x] * math.prod(p[x][i] for i in g) for x, g in pair)
        kept = [(x, g) for x, g in pair if len(set(g)) > 1]
        for x, g in kept:
            r = [right[x][i] for i in g]
            for i in g:
                out[x, i] += chance * (right[x][i] - (sum(r) - right[x][i]) / (G - 1)) / G / len(kept)
    np.testing.assert_allclose(e.surviving(mu, p, right, G), out, atol=1e-15)


def test_a_batch_of_one_group_a_prompt_is_neither_filled_nor_redrawn() -> None:
    """u = .1 and .5, G = 4: the mean over those that survive weighs the gradients of u by .5625 and .8281."""
    silent = [u**4 + (1 - u) ** 4 for u in (0.1, 0.5)]
    found = [silent[1 - x] + (1 - silent[1 - x]) / 2 for x in (0, 1)]
    assert [round(f, 4) for f in found] == [0.5625, 0.8281]


# ---------------------------------------------------------------------------------------------------- the rows, where they are not trivial


@pytest.mark.parametrize("slug", [row.slug for row in select(chapter=10)])
def test_a_row_holds_with_several_prompts_and_steps(slug: str) -> None:
    row, tried = LEDGER[slug], 0
    for i in range(8):
        rng = np.random.default_rng([10, i])
        world = random_world(rng=rng, V=2, H=3 if i % 4 > 1 else 2, P=2, eos=bool(i % 2), beta=float(rng.uniform(0.5, 2.0)))
        scope = Scope(world, i)
        if row.applies(scope):
            tried += 1
            for side, errors in row.errors(scope).items():
                assert max(errors) <= 1.0, (side, errors)
    assert tried >= 2


def test_the_limit_of_reinforce_without_ratios_is_where_its_flow_ends() -> None:
    rng = np.random.default_rng(3)
    for _ in range(4):
        c = rng.normal(size=4) * 0.3
        c += max(0.0, 0.2 - float(np.sum(c))) / 4
        z = rng.normal(size=4)
        for _ in range(200_00):
            z += 0.2 * (c - np.sum(c) * np.exp(z - np.logaddexp.reduce(z)))
        p = np.exp(z - np.logaddexp.reduce(z))
        np.testing.assert_allclose(p, stale.limit_by_supports(c), atol=2e-3)
        np.testing.assert_allclose(np.maximum(0, c - stale.water_level(c)) / np.sum(c), stale.limit_by_supports(c), atol=1e-12)


# ---------------------------------------------------------------------------------------------------- how many ways there are to choose


def test_a_binomial_is_read_said_and_drawn() -> None:
    for text in (r"\binom{G}{2} + \tbinom{4}{k}", "binom(G, 2) + binom(4, k)"):
        tree = read(text, letters={"k": "1"})
        assert read(say(tree), letters={"k": "1"}) == tree == read(say(tree, latex=True), letters={"k": "1"})
    scope = Scope(random_world(rng=np.random.default_rng(0), V=2, H=1), 0)
    for n, k in itertools.product(range(6), range(6)):
        assert float(printed(rf"\binom{{{n}}}{{{k}}}")(scope)) == math.comb(n, k)
    assert plain(r"\binom{G}{m}") == "(G over m)"
    with pytest.raises(InputError, match="two numbers"):
        read("binom(3)")
