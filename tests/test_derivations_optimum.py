"""Derivations of chapter 4: what stands at their ends, by plain enumeration, so that none drifts from the claim it proves."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pytest

from tabular_rlhf.derivations import DERIVATIONS, derive
from tabular_rlhf.ledger.record import LEDGER
from tabular_rlhf.symbols import Scope
from tabular_rlhf.world import random_world, rational
from tests import oracle
from tests.ends import (
    DIFFERENCE,
    EXACT,
    SCOPES,
    Ends,
    averaged,
    central,
    check_ends,
    check_parts,
    line,
    optimum,
    p_star,
    prompts,
    rows,
    table,
    told_law,
)
from tests.laws import Told, assert_close


def J(scope: Scope, log_pi: str) -> float:
    return averaged(scope, lambda x, told: oracle.objective(told_law(scope, x, log_pi), told.ref, told.r, scope["beta"]))


def distance_to_optimum(scope: Scope, log_pi: str) -> float:
    return scope["beta"] * averaged(scope, lambda x, told: oracle.kl(told_law(scope, x, log_pi), optimum(scope, x, told)[1]))


def shaped(scope: Scope, x: int, told: Told) -> dict[oracle.Prefix, float]:
    """The reward with the potential's gains, added token by token."""
    phi = {s: float(v) for s, v in zip(told.states, scope["phi"][x], strict=True)}
    return {s: told.r[s] + math.fsum(phi.get(s[: h + 1], 0.0) - phi[s[:h]] for h in range(len(s))) for s in told.order}


def policy_table(scope: Scope) -> Any:
    policies = [oracle.policy_of(optimum(scope, x, told)[1], scope["V"]) for x, told in enumerate(prompts(scope))]
    return np.array([[pi[s] for s in told.states] for pi, told in zip(policies, prompts(scope), strict=True)])


def soft_values(scope: Scope) -> Any:
    found = [oracle.soft_bellman(told.pi, told.r, scope["beta"]) for told in prompts(scope)]
    return np.array([[values[s] for s in told.states] for values, told in zip(found, prompts(scope), strict=True)])


def value_slope(scope: Scope) -> Any:
    """dV/dr(tau) by differences."""

    def of_prompt(x: int, told: Told) -> dict[oracle.Prefix, float]:
        def V(s: oracle.Prefix, h: float) -> float:
            return oracle.tilt(told.ref, {**told.r, s: told.r[s] + h}, scope["beta"])[0]

        return {s: central(partial(V, s)) for s in told.order}

    return rows(scope, of_prompt)


def reward_slope_in_beta(scope: Scope) -> Any:
    def mean_at(told: Told, h: float) -> float:
        return float(oracle.mean(oracle.tilt(told.ref, told.r, scope["beta"] + h)[1], told.r))

    return np.array([central(partial(mean_at, told)) for told in prompts(scope)])


def ptx(scope: Scope, beta: float | None = None, gamma: float | None = None) -> Any:
    beta, gamma = beta or scope["beta"], gamma or scope["gamma"]

    def of_prompt(x: int, told: Told) -> dict[oracle.Prefix, float]:
        D = [math.exp(v) for v in scope["log_D"][x]]
        ref, r = [told.ref[s] for s in told.order], [told.r[s] for s in told.order]
        return dict(zip(told.order, oracle.ptx_optimum(ref, r, beta, gamma, D)[0], strict=True))

    return rows(scope, of_prompt)


def ptx_without_kl(scope: Scope) -> Any:
    """gamma D/(lam - r) by bisection on lam; if even lam = max r leaves it short of 1, the rest goes to the best response."""
    gamma = scope["gamma"]

    def of_prompt(x: int, told: Told) -> dict[oracle.Prefix, float]:
        D = {s: math.exp(v) for s, v in table(scope, "log_D", x).items()}
        best = max(told.order, key=lambda s: told.r[s])
        beyond = [s for s in told.order if s != best]
        assert all(told.r[s] < told.r[best] or D[s] == D[best] for s in beyond), "no ties that the data tell apart"

        def law(lam: float) -> dict[oracle.Prefix, float]:
            return {s: gamma * D[s] / (lam - told.r[s]) if D[s] > 0 else 0.0 for s in told.order}

        low = told.r[best] + 1e-13
        if math.fsum(law(low).values()) < 1:
            p = law(low)
            return {**p, best: 1 - math.fsum(p[s] for s in beyond)}
        return law(oracle.bisect(lambda lam: 1 - math.fsum(law(lam).values()), low, told.r[best] + gamma))

    return rows(scope, of_prompt)


def ptx_slope(scope: Scope) -> Any:
    """The slope of the ptx objective in each probability, by differences of a plain sum."""

    def of_prompt(x: int, told: Told) -> dict[oracle.Prefix, float]:
        law, D = told_law(scope, x, "log_pi"), {s: math.exp(v) for s, v in table(scope, "log_D", x).items()}

        def F(s: oracle.Prefix, h: float) -> float:
            p = law[s] * (1 + h)
            return p * told.r[s] - scope["beta"] * p * math.log(p / told.ref[s]) + scope["gamma"] * D[s] * math.log(p)

        return {s: central(partial(F, s)) / law[s] for s in told.order}

    return rows(scope, of_prompt)


ENDS: dict[str, Ends] = {
    "gibbs-optimum": {-1: (p_star, EXACT)},
    "regret-is-kl": {
        1: (lambda s: [oracle.objective(told_law(s, x, "log_pi"), t.ref, t.r, s["beta"]) for x, t in enumerate(prompts(s))], EXACT),
        -1: (lambda s: [optimum(s, x, told)[0] for x, told in enumerate(prompts(s))], EXACT),
    },
    "reverse-kl-projection": {
        1: (lambda s: distance_to_optimum(s, "log_pi_tied"), EXACT),
        7: (lambda s: -J(s, "log_pi_tied"), EXACT),
        -1: (lambda s: J(s, "log_pi_tied"), EXACT),
    },
    "soft-bellman": {1: (policy_table, EXACT), 8: (soft_values, EXACT), -1: (p_star, EXACT)},
    "kl-chain-rule": {
        k: (lambda s: [oracle.kl(told_law(s, x, "log_pi"), told.ref) for x, told in enumerate(prompts(s))], EXACT) for k in (1, -1)
    },
    "potential-shaping": {
        1: (lambda s: rows(s, lambda x, told: shaped(s, x, told)), EXACT),
        5: (lambda s: [oracle.tilt(told.ref, shaped(s, x, told), s["beta"])[0] for x, told in enumerate(prompts(s))], EXACT),
        -1: (lambda s: rows(s, lambda x, told: oracle.tilt(told.ref, shaped(s, x, told), s["beta"])[1]), EXACT),
    },
    "free-energy-derivatives": {1: (value_slope, DIFFERENCE), 4: (value_slope, DIFFERENCE), -1: (reward_slope_in_beta, DIFFERENCE)},
    "beta-limits": {
        # at 1e8 and 1e-3 the limits are nearer than these, for rewards of a few units with gaps of at least 0.05
        2: (lambda s: rows(s, lambda x, told: oracle.tilt(told.ref, told.r, 1e8)[1]), 1e-6),
        5: (lambda s: rows(s, lambda x, told: oracle.tilt(told.ref, told.r, 1e-3)[1]), 1e-6),
        -1: (lambda s: [oracle.tilt(told.ref, told.r, 1e-4)[0] for told in prompts(s)], 1e-3),
    },
    "ppo-ptx-optimum": {
        1: (ptx_slope, DIFFERENCE),
        9: (lambda s: s["gamma"] * np.exp(s["log_D"]) / (s["beta"] * ptx(s)), 1e-9),
        -1: (lambda s: s["gamma"] * np.exp(s["log_D"]) / (s["beta"] * ptx(s)), 1e-9),
    },
    "ppo-ptx-optimum-removed": {
        1: (ptx, 1e-9),
        6: (lambda s: ptx_without_kl(s), 1e-9),
    },
}


@pytest.mark.parametrize("slug", ENDS)
def test_the_ends_are_what_enumeration_says(slug: str) -> None:
    check_ends(slug, ENDS[slug])


@pytest.mark.parametrize("slug", ENDS)
def test_the_rows_that_are_proved_are_in_the_ledger_and_of_the_chapter(slug: str) -> None:
    assert DERIVATIONS[slug].chapter in {LEDGER[row].chapter for row in DERIVATIONS[slug].rows}


SAME_AS_THE_LEDGER: dict[str, dict[int, tuple[str, int]]] = {
    "gibbs-optimum": {-1: ("gibbs-optimum", 0), 9: ("lagrange-multiplier", 0)},
    "soft-bellman": {-1: ("soft-bellman", 1)},
    "kl-chain-rule": {1: ("kl-chain-rule", 0), -1: ("kl-chain-rule", 0)},
    "potential-shaping": {5: ("potential-shaping", 0), -1: ("potential-shaping", 1)},
    "free-energy-derivatives": {1: ("free-energy-derivatives", 0), -1: ("free-energy-derivatives", 2)},
}


@pytest.mark.parametrize("slug", SAME_AS_THE_LEDGER)
def test_lines_are_the_parts_of_the_rows_that_they_prove(slug: str) -> None:
    check_parts(slug, SAME_AS_THE_LEDGER[slug])


def test_the_regret_is_what_the_ledger_says_is_given_away() -> None:
    for scope in SCOPES:
        regret = LEDGER["regret-is-kl"].truth(scope)[0][0]
        assert_close(line("regret-is-kl", -1, scope) - line("regret-is-kl", 1, scope), regret, EXACT * 100)


@pytest.mark.parametrize("slug", ["gibbs-optimum", "reverse-kl-projection", "soft-bellman", "free-energy-derivatives", "ppo-ptx-optimum"])
def test_worlds_with_forbidden_tokens_are_outside_the_hypotheses_that_say_so(slug: str) -> None:
    gaps = random_world(rng=np.random.default_rng(0), V=3, H=2, forbidden=0.5)
    assert np.isneginf(gaps.log_p_ref).any()
    assert not DERIVATIONS[slug].applies(Scope(gaps, 0))


@pytest.mark.parametrize("slug", ["kl-chain-rule", "potential-shaping", "beta-limits", "regret-is-kl"])
def test_worlds_with_forbidden_tokens_are_inside_the_others(slug: str) -> None:
    gaps = random_world(rng=np.random.default_rng(0), V=3, H=2, P=2, forbidden=0.5)
    assert derive(slug, gaps).holds


@pytest.mark.parametrize("slug", [*ENDS])
def test_one_token_and_one_step_are_no_exception(slug: str) -> None:
    for V, H in ((1, 1), (1, 2), (2, 1)):
        world = random_world(rng=np.random.default_rng(V + H), V=V, H=H, P=2, eos=False)
        assert derive(slug, world).holds, (slug, V, H)


def test_ties_keep_the_odds_of_the_reference_in_the_limit() -> None:
    world = rational().with_reward([[1.0, 1.0, 0.0]])
    limit = line("beta-limits", 5, Scope(world, 0))[0]
    p_ref = np.exp(world.log_p_ref[0])
    assert limit[2] == 0.0
    assert abs(limit[0] / limit[1] - p_ref[0] / p_ref[1]) < 1e-14


def test_the_limits_of_the_ptx_optimum_are_approached_by_enumeration() -> None:
    for scope in SCOPES:
        D, free = np.exp(scope["log_D"]), line("ppo-ptx-optimum-removed", 6, scope)
        near, nearer = (np.max(np.abs(ptx(scope, gamma=k * scope["beta"]) - D)) for k in (10.0, 80.0))
        assert nearer < 0.3 * near
        near, nearer = (np.max(np.abs(ptx(scope, beta=k * scope["gamma"]) - free)) for k in (0.4, 0.05))
        assert nearer < 0.5 * near
