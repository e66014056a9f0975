"""Derivations of chapters 7 to 9: what stands at their ends is what the ledger claims and plain enumeration finds, and no line may slip.

The general laws of derivations are tested over the whole registry elsewhere; here is what belongs to these chapters.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from tabular_rlhf.check.calling import Through
from tabular_rlhf.derivations import DERIVATIONS
from tabular_rlhf.derivations.lines import Line, sampled_z
from tabular_rlhf.ledger import LEDGER, Scope
from tabular_rlhf.logspace import kl
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.policy import uniform
from tabular_rlhf.terms.policies import kl_gradient
from tabular_rlhf.world import World, coin, fork, random_world, rational
from tests import oracle
from tests.laws import assert_close, in_order, tell, tell_policy


def claim(row: str, part: int = 0, side: int = 0) -> Callable[[Scope], Any]:
    """A part of a row's side, by its place."""
    return lambda scope: LEDGER[row].evaluate(scope, list(LEDGER[row].sides)[side])[part]


def over_prompts(row: str, part: int = 0) -> Callable[[Scope], Any]:
    """That part, averaged over prompts."""
    return lambda scope: np.sum(scope["mu"] * claim(row, part)(scope))


def true_kl_gradient(scope: Scope) -> Any:
    return kl_gradient(scope.world, scope["logits"])


def mixture(scope: Scope) -> Any:
    """The same mixture of what k1, k2, k3 and the inverted k3 descend: in the row |L| comes before the last."""
    return sum(scope[f"mix_{k}"] * claim("kl-estimator-theorem", part)(scope) for k, part in ((1, 0), (2, 1), (3, 2), (4, 4)))


ANCHORS: dict[str, dict[tuple[int, ...], Callable[[Scope], Any]]] = {
    "policy-gradient": {(1, 9): claim("policy-gradient", side=3), (4,): claim("policy-gradient")},
    "zero-mean-score": {(1, 5): claim("zero-mean-score"), (6, 8): claim("zero-mean-score", 1)},
    "optimal-baseline": {(8,): claim("optimal-baseline", 1, side=1)},
    "reward-to-go": {(1, 5): claim("reward-to-go"), (6, 9): claim("reward-to-go", 1)},
    "kl-regularized-gradient": {(1, 7): claim("kl-regularized-gradient", side=2), (4,): claim("kl-regularized-gradient")},
    "natural-gradient": {(4, 6): claim("kl-regularized-gradient", side=2), (7, 10): claim("natural-gradient")},
    "rloo": {(1, 5): claim("rloo"), (6, 9): claim("rloo", 1)},
    "grpo": {(1, 3): claim("grpo", side=1), (4, 6): claim("grpo", 1, side=1)},
    "k1": {(1, 4): over_prompts("k1"), (5, 6): claim("k1", 1), (7, 8): claim("k1", 2)},
    "k2": {(1, 3): over_prompts("k2"), (7, 9): claim("k2", 2)},
    "k3": {
        (1, 3): over_prompts("k3", 1),
        (4,): lambda scope: np.sum(scope["mu"] * kl(scope["log_p_short"], scope["log_p_ref"])),
        (7, 9): claim("k3", 2),
    },
    "kl-gradients": {(1, 4): claim("kl-gradients", 3), (5,): claim("kl-gradients", 1), (6, 10): claim("kl-gradients", 2)},
    "kl-estimator-theorem": {(1, 7): mixture},
    "kl-placement": {(1, 5): claim("kl-placement", 2), (6, 9): claim("kl-placement", 5), (10, 11): claim("kl-placement", 4)},
    "token-vs-sequence": {
        (1, 5): over_prompts("token-vs-sequence"),
        (6, 7): true_kl_gradient,
        (8, 11): claim("token-vs-sequence", 1),
    },
    "importance-ratio": {
        (1, 3): over_prompts("importance-ratio"),
        (4, 7): claim("importance-ratio", 1),
        (9,): claim("importance-ratio", 2),
    },
    "best-of-n": {(1, 4): claim("best-of-n"), (5, 7): claim("best-of-n", 1), (9, 10): claim("best-of-n", 4)},
    "rejection-sampling": {(1, 4): claim("rejection-sampling"), (5, 7): over_prompts("rejection-sampling", 1)},
}
SCOPES = [
    Scope(rational(), 3),
    Scope(coin(0.5), 1),
    *(
        Scope(random_world(rng=np.random.default_rng(seed), V=V, H=H, P=P, beta=0.7, forbidden=gaps, concentration=4.0), seed)
        for seed, V, H, P, gaps in (
            (1, 3, 2, 2, 0.4),
            (2, 2, 3, 2, 0.0),
            (3, 4, 1, 1, 0.0),
            (4, 3, 2, 1, 0.3),
            (5, 1, 2, 2, 0.0),
            (6, 2, 2, 1, 0.0),
        )
    ),
]
FORBIDDING = [scope for scope in SCOPES if not np.isfinite(scope["log_p_ref"]).all()]


def within(slug: str, scopes: list[Scope]) -> list[Scope]:
    return [scope for scope in scopes if DERIVATIONS[slug].applies(scope)]


@pytest.mark.parametrize("slug", ANCHORS)
def test_lines_are_what_the_ledger_claims(slug: str) -> None:
    """Ledger sides have oracles of their own; a tolerance is that of the row's chapter, a millionth of a unit in all of them."""
    scopes = within(slug, SCOPES)
    assert len(scopes) >= 2
    for scope in scopes:
        for numbers, want in ANCHORS[slug].items():
            for k in numbers:
                got = DERIVATIONS[slug].lines[k - 1](scope)
                assert_close(got, want(scope), 1e-9 * max(1.0, float(np.max(np.abs(got), initial=0.0))), f"{slug}, line {k}")


@pytest.mark.parametrize("slug", ANCHORS)
def test_many_wrong_lines_are_at_hand(slug: str) -> None:
    """That each is refuted, and that every line follows, is a law over all derivations (`test_derivations`)."""
    assert sum(len(line.wrong) for line in DERIVATIONS[slug].lines) >= 6


@pytest.mark.parametrize("slug", ANCHORS)
def test_a_line_off_by_a_millionth_is_noticed(slug: str) -> None:
    """Every line, replaced by itself times 1 + 1e-6 plus 1e-6: the relation to the line before must break, unless it is no equality."""
    derivation = DERIVATIONS[slug]
    scope = within(slug, SCOPES)[0]
    for k, line in enumerate(derivation.lines[1:], 2):
        if line.relation in ("so", "<=", "up to a constant", "in the limit"):
            continue
        off = line.instead(_nudged(line))
        lines = (*derivation.lines[: k - 1], off, *derivation.lines[k:])
        assert derivation.step(k, scope, lines).units > 1.0, f"{slug}, line {k}"


def _nudged(line: Line) -> Callable[..., Any]:
    return Through(line.value, lambda value: value * (1 + 1e-6) + 1e-6)


@pytest.mark.parametrize("slug", [s for s in ANCHORS if s not in ("natural-gradient", "grpo")])
def test_it_holds_where_tokens_are_forbidden(slug: str) -> None:
    scopes = within(slug, FORBIDDING)
    assert scopes
    for scope in scopes:
        for k in range(2, len(DERIVATIONS[slug].lines) + 1):
            assert DERIVATIONS[slug].step(k, scope).units <= 1.0, f"line {k}"


# ---------------------------------------------------------------------------------------------------- by hand, and by enumeration


def moved(told: Any, pi: dict[Any, list[float]], state: Any, token: int, step: float) -> dict[Any, float]:
    """The law of the policy whose logit of one token in one state is moved by a step."""
    weights = [q * math.exp(step * (a == token)) for a, q in enumerate(pi[state])]
    at = {**pi, state: [w / math.fsum(weights) for w in weights]}
    return oracle.law_of(at, told.order)


@pytest.mark.parametrize("world", [fork(2.0), rational(), random_world(rng=np.random.default_rng(8), V=2, H=2, beta=0.6)])
def test_gradients_by_moving_one_logit(world: World) -> None:
    """Central differences with step 1e-4 of sums over all strings: they err by its square times a third derivative, below 1e-6."""
    scope, told = Scope(world, 5), tell(world, 0)
    pi, h = tell_policy(world.mdp, scope["log_pi"], 0), 1e-4
    measures: dict[tuple[str, int], Callable[[dict[Any, float]], float]] = {
        ("policy-gradient", -1): lambda law: float(oracle.mean(law, told.r)),
        ("kl-regularized-gradient", -1): lambda law: oracle.objective(law, told.ref, told.r, world.beta),
        ("kl-gradients", 5): lambda law: oracle.kl(law, told.ref),
        ("kl-gradients", -1): lambda law: oracle.kl(told.ref, law),
        ("kl-placement", -1): lambda law: math.fsum(p * math.log(p / told.ref[s]) ** 2 / 2 for s, p in law.items()),
        ("importance-ratio", -1): lambda law: oracle.kl(law, told.ref),
    }
    for (slug, k), measure in measures.items():
        line = DERIVATIONS[slug].lines[k - 1 if k > 0 else k]
        got = line(scope)[0]
        for i, state in enumerate(told.states):
            for token in range(world.mdp.V):
                up, down = (measure(moved(told, pi, state, token, s)) for s in (h, -h))
                assert got[i][token] == pytest.approx((up - down) / (2 * h), abs=1e-6), (slug, k, state, token)


def test_best_of_n_in_fractions() -> None:
    """The rational world has no ties: p_ref = 1/3, 2/9, 4/9 for rewards log 1, log 2, log 3 rise, so F = 1/3, 5/9, 1."""
    scope = Scope(rational(), 3)
    n, told = scope["draws"], tell(rational(), 0)
    ref = {(1,): Fraction(1, 3), (0, 1): Fraction(2, 9), (0, 0): Fraction(4, 9)}
    law = dict.fromkeys(ref, Fraction(0))
    for group in itertools.product(ref, repeat=n):
        law[max(group, key=lambda s: told.r[s])] += math.prod((ref[s] for s in group), start=Fraction(1))
    assert law[(1,)] == Fraction(1, 3) ** n
    for k in (1, 2, 3, 4):
        assert_close(DERIVATIONS["best-of-n"].lines[k - 1](scope), [in_order(told, law)], 1e-14)
    distance = math.fsum(float(p) * math.log(p / ref[s]) for s, p in law.items())
    for k in (5, 6, 7):
        assert_close(DERIVATIONS["best-of-n"].lines[k - 1](scope), [distance], 1e-13)
    assert distance < math.log(n) - (n - 1) / n == pytest.approx(float(DERIVATIONS["best-of-n"].lines[-1](scope)[0]), abs=1e-15)


def test_ties_are_shared_in_proportion_to_the_reference() -> None:
    """Three responses of 1/2, 1/4, 1/4 earn 1, 1, 0; two draws: the worst is best with 1/16, the tie shares 15/16 as 2 to 1."""
    mdp = TokenMDP(3, 1)
    world = World(mdp, np.log([[[0.5, 0.25, 0.25]]]), np.array([[1.0, 1.0, 0.0]]), 1.0)
    scope = Scope(world, 0).given(draws=2)
    for k in (1, 2, 3, 4):
        assert_close(DERIVATIONS["best-of-n"].lines[k - 1](scope), [[5 / 8, 5 / 16, 1 / 16]], 1e-15)


def grpo_by_hand(q: Fraction, G: int) -> float:
    """E[A_1 given success] - E[A_1 given failure], over all 2^(G - 1) fates of the others."""
    total = 0.0
    for fate in itertools.product((0, 1), repeat=G - 1):
        chance = math.prod((q if r else 1 - q for r in fate), start=Fraction(1))
        for mine, sign in ((1, 1), (0, -1)):
            rewards = (mine, *fate)
            mean = Fraction(sum(rewards), G)
            spread = math.sqrt(sum((r - mean) ** 2 for r in rewards) / G)
            total += sign * float(chance * (mine - mean)) / spread if spread else 0.0
    return total


@pytest.mark.parametrize("G", [2, 3, 4])
def test_the_weight_of_grpo_over_all_fates(G: int) -> None:
    """A coin of which heads is the only success: q is the drawn policy's chance of heads."""
    scope = Scope(coin().with_reward(np.array([[0.0, 2.0]])), 6).given(G=G)
    q = Fraction(float(scope["p"][0, 1]))
    for k in (4, 5, 6):
        assert_close(DERIVATIONS["grpo"].lines[k - 1](scope), [grpo_by_hand(q, G)], 1e-13)
    assert_close(DERIVATIONS["grpo"].lines[8](scope), [1 / math.sqrt(q * (1 - q))], 1e-12)


def test_reward_to_go_may_cost_variance() -> None:
    """Half the responses earn 1 and then -1 for certain.  |score|^2 = 1/2 in both states: 1/2 * 1/2 * (1 - 2) = -1/4."""
    mdp = TokenMDP(2, 2)
    r_token = np.zeros((1, 3, 2))
    r_token[0, 0, 0], r_token[0, mdp.find_state("0"), :] = 1.0, -1.0
    scope = Scope(World(mdp, uniform(mdp), np.zeros((1, 4)), 1.0), 0).given(r_token=r_token, logits=np.zeros((1, 3, 2)))
    for k in (6, 7, 8, 9):
        assert_close(DERIVATIONS["reward-to-go"].lines[k - 1](scope), [-0.25], 1e-15)


def test_b_star_is_where_the_slope_vanishes() -> None:
    lines = DERIVATIONS["optimal-baseline"].lines
    for scope in within("optimal-baseline", SCOPES):
        best = claim("optimal-baseline")(scope)
        there = scope.given(b_x=best)
        assert_close(lines[4](there), np.zeros_like(best), 1e-11)
        assert_close(lines[8](there), lines[7](scope), 1e-11)


def test_one_draw_of_a_rare_response_is_no_evidence() -> None:
    """A chance of 3e-6: about 1 of 80 samples of 4000 has one, nine standard errors off, which Bernstein's inequality allows for."""
    rare = World(TokenMDP(2, 1), np.log([[[1 - 3e-6, 3e-6]]]), np.array([[0.0, 1.0]]), 1.0)
    line = Line("r", value=lambda r: r, law="log_p_ref")
    assert 0.2 < max(sampled_z(line, Scope(rare, seed)) for seed in range(600)) <= 5.0  # some had one
    common = World(TokenMDP(2, 1), np.log([[[0.5, 0.5]]]), np.array([[0.0, 1.0]]), 1.0)
    assert 1.0 < max(sampled_z(line, Scope(common, seed)) for seed in range(60)) <= 5.0
