"""Laws of the projections: closed forms against enumeration, descent against closed forms, refusals, and local optima counted."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from tabular_rlhf.derivations import DERIVATIONS
from tabular_rlhf.derivations.lines import RELATIONS
from tabular_rlhf.errors import InputError, SolveError
from tabular_rlhf.gibbs import policy_objective, solve
from tabular_rlhf.logspace import expect, kl, log_of, log_softmax
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.optimize import minimize
from tabular_rlhf.policy import LogLinear, NGram, Tabular, forbid, uniform
from tabular_rlhf.projection import (
    check_law,
    expected_counts,
    forward_kl,
    forward_projection,
    local_minima,
    recession,
    reverse_kl,
    reverse_projection,
    same_mean_law,
    tokens_allowed,
)
from tabular_rlhf.symbols import Scope
from tabular_rlhf.world import World, coin, generated_worlds, random_world, rational
from tests.laws import EPS, WORLDS, assert_close, size, words_of

SMALL = {name: w for name, w in WORLDS.items() if w.mdp.P * w.mdp.N <= 40}
over_worlds = pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS.keys())
over_small = pytest.mark.parametrize("world", SMALL.values(), ids=SMALL.keys())


# ---------------------------------------------------------------------------------------------------- forward


@over_worlds
@pytest.mark.parametrize("k", [0, 1, 3])
def test_counts_are_counts_of_strings(world: World, k: int) -> None:
    """Expected counts, string by string in plain Python; a context is the last k tokens."""
    mdp, p = world.mdp, solve(world).p
    counts: dict[tuple[tuple[int, ...], int], list[float]] = {}
    for x in range(mdp.P):
        for words, q in zip(words_of(mdp.tokens()), p[x].tolist(), strict=True):
            for h, a in enumerate(words):
                counts.setdefault((words[h - min(k, h) : h], a), []).append(float(world.mu[x]) * q)
    tied = NGram(mdp, k)
    got = expected_counts(tied, np.log(p, out=np.full_like(p, -np.inf), where=p > 0))
    for s, c in zip(words_of(mdp.state_tokens()), tied.context.tolist(), strict=True):
        context = s[len(s) - min(k, len(s)) :]
        want = [math.fsum(counts.get((context, a), [0.0])) for a in range(mdp.V)]
        # a count is a sum of at most N H probabilities, each correct to a few roundings of its logarithm
        assert_close(got[c], want, EPS * (mdp.N * mdp.H + 8) * (1 + mdp.H), f"context {context}")


@over_worlds
def test_the_tabular_class_holds_every_target(world: World) -> None:
    target = solve(world).log_p
    for projection in (forward_projection, reverse_projection):
        args = {} if projection is forward_projection else {"rng": np.random.default_rng(0)}
        found = projection(Tabular(world.mdp), target, **args)
        asked = world.mu > 0
        assert_close(np.exp(found.log_p)[asked], np.exp(target)[asked], EPS * (40 + world.mdp.H) * (1 + size(target)))
        assert abs(found.value) <= EPS * 40 * (1 + world.mdp.H) * (1 + size(target)) + EPS * world.mdp.N


@over_small
@pytest.mark.parametrize("k", [0, 1])
def test_no_policy_of_the_class_is_nearer_than_the_forward_projection(world: World, k: int, rng: np.random.Generator) -> None:
    tied, target = NGram(world.mdp, k), solve(world).log_p
    found = forward_projection(tied, target)
    assert math.isfinite(found.value), "maximum likelihood covers what it has seen"
    for _ in range(5):
        rival = world.mdp.path_sum(tied.log_pi(np.where(np.isneginf(found.theta), -4.0, found.theta) + rng.normal(size=tied.shape)))
        assert forward_kl(world.mdp, target, rival) >= found.value - 1e-12


@pytest.mark.parametrize("seed", range(4))
def test_log_linear_forward_matches_moments(seed: int, rng: np.random.Generator) -> None:
    """E_mu sum_s d_q(s) (E_q[phi] - E_pi[phi]) = 0, written with loops; and a class of one feature an entry is the tabular class."""
    world = random_world(rng=np.random.default_rng(seed), V=3, H=2, P=1 + seed % 2, beta=0.6)
    mdp, target = world.mdp, solve(world).log_p
    policy = LogLinear(mdp, rng.standard_normal((mdp.P, mdp.S, mdp.V, 2)))
    found = forward_projection(policy, target)
    mass = mdp.subtree_sum(np.exp(target))
    gap = np.zeros(2)
    for x in range(mdp.P):
        for s in range(mdp.S):
            for a in range(mdp.V):
                gap += world.mu[x] * (mass[x, s, a] - mass[x, s].sum() * np.exp(found.log_pi[x, s, a])) * policy.features[x, s, a]
    assert_close(gap, np.zeros(2), 1e-12)  # Newton stops at slopes of a few roundings; curvatures here are above 1e-2
    entries = mdp.P * mdp.S * mdp.V
    full = forward_projection(LogLinear(mdp, np.eye(entries).reshape(mdp.P, mdp.S, mdp.V, entries)), target)
    assert_close(np.exp(full.log_p), np.exp(target), 1e-9)


def test_log_linear_forward_that_is_not_attained_says_so() -> None:
    mdp = TokenMDP(("a", "b", "c"), 1)
    features = np.array([[[[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]]])
    target = log_softmax(np.array([[0.0, 0.3, -np.inf]]))  # never c: theta = (t, t + 0.3) with t -> inf
    with pytest.raises(SolveError, match=r"not attained.*smooth the target"):
        _ = forward_projection(LogLinear(mdp, features), target)
    way = recession(LogLinear(mdp, features), np.exp(target)[:, None])
    assert way is not None
    assert way[0] == pytest.approx(way[1])
    blunt = np.array([[[[1.0], [-1.0], [0.0]]]])  # c lies between a and b: no direction rules it out
    assert recession(LogLinear(mdp, blunt), np.exp(target)[:, None]) is None
    assert forward_projection(LogLinear(mdp, blunt), target).value > 0


# ---------------------------------------------------------------------------------------------------- reverse


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ["0-gram", "1-gram", "log-linear"])
def test_the_reverse_projection_maximizes_J(seed: int, kind: str) -> None:
    """Stationary by finite differences of J, beta KL = max J - J, and no better near by or from random policies of the class."""
    rng = np.random.default_rng(seed)
    world = random_world(rng=rng, V=3, H=3, P=1 + seed % 2, beta=float(np.exp(rng.uniform(-2, 1))))
    mdp, solution = world.mdp, solve(world)
    policy = LogLinear(mdp, rng.standard_normal((mdp.P, mdp.S, mdp.V, 2))) if kind == "log-linear" else NGram(mdp, int(kind[0]))
    found = reverse_projection(policy, solution.log_p, rng=rng, starts=6)
    J = float(policy_objective(world, found.log_pi))
    assert solution.value - J == pytest.approx(world.beta * found.value, abs=1e-12 * (1 + world.beta + abs(J)))
    assert found.gradient_norm <= 1e-12
    direction, h = rng.standard_normal(policy.shape), 1e-4
    up, down = (float(policy_objective(world, policy.log_pi(found.theta + t * direction))) for t in (h, -h))
    assert abs(up - down) / (2 * h) <= 1e-6 * (1 + world.beta), "a central difference errs by h^2 times a third derivative"
    assert up <= J + 1e-12
    assert down <= J + 1e-12
    for _ in range(50):
        assert policy_objective(world, policy.log_pi(3.0 * rng.standard_normal(policy.shape))) <= J + 1e-9
    assert found.value <= reverse_kl(mdp, solution.log_p, forward_projection(policy, solution.log_p).log_p) + 1e-12
    assert [o.value for o in found.optima] == sorted(o.value for o in found.optima)


@pytest.mark.parametrize("beta", [1e-300, 1e-10, 1e-3, 0.1, 1e3, 1e6, 1e100, 1e300])
@pytest.mark.parametrize("k", [0, 1])
def test_the_reverse_projection_at_every_beta(k: int, beta: float) -> None:
    """Every minimum found is one in probabilities, too, not a plateau of the softmax: no token mixed into a context brings the law
    nearer.  As beta falls it is deterministic, as it grows the projection of p_ref."""
    world = random_world(rng=np.random.default_rng(1), V=3, H=2, P=2, beta=beta)
    mdp, policy, target = world.mdp, NGram(world.mdp, k), solve(world).log_p
    found = reverse_projection(policy, target, rng=np.random.default_rng(0), starts=4 - 2 * k)
    for optimum in found.optima:
        pi = np.exp(log_softmax(optimum.theta))
        for c, a in itertools.product(range(policy.shape[0]), range(mdp.V)):
            mixture = pi.copy()
            mixture[c] = (1 - 1e-5) * pi[c] + 1e-5 * (np.arange(mdp.V) == a)
            rival = reverse_kl(mdp, target, mdp.path_sum(policy.log_pi(log_of(mixture))))
            assert rival >= optimum.value - 1e-8 * (1 + optimum.value), (c, a)
    visited = expected_counts(policy, found.log_p).sum(axis=1) > 1e-9
    if beta <= 1e-3:
        assert np.max(np.exp(log_softmax(found.theta)), axis=1)[visited].min() > 0.9
    if beta >= 1e6:
        of_ref = reverse_projection(policy, world.log_p_ref, rng=np.random.default_rng(0), starts=4 - 2 * k)
        assert_close(np.exp(found.log_p), np.exp(of_ref.log_p), 8 * size(world.r) / beta + 1e-9)


@pytest.mark.parametrize("beta", [0.5, 1e4, 1e6, 1e8, 1e100, 1e300])
def test_one_policy_is_nearest_and_best_at_every_beta(beta: float) -> None:
    """The derivation's last step: the maximizer of -E KL(p, p*), whose terms are of size 1, is that of J, whose terms are of size beta."""
    derivation = DERIVATIONS["reverse-kl-projection"]
    before, after = derivation.lines[-2:]
    for world in [coin(beta), rational(beta), *(w.at(beta) for w in generated_worlds(8, rng=np.random.default_rng(3), largest=16))]:
        scope = Scope(world, 1)
        if derivation.applies(scope):
            seen = RELATIONS["same maximizer"].compare(before, after, scope)
            assert seen.gap <= 1e-5 * seen.scale, world.name


@pytest.mark.parametrize(("L", "count"), [(1.0, 1), (1.9, 1), (2.1, 2), (3.0, 2), (8.0, 2)])
def test_local_optima_are_counted_as_the_mean_field_equation_counts_them(L: float, count: int) -> None:
    """Two tokens, saying one twice e^L times likelier, no context: 2 pi(a) - 1 = m solves m = tanh(L m/2); forward is 1/2."""
    mdp = TokenMDP(("a", "b"), 2)
    agrees = np.array([[float(len(set(words)) == 1) for words in words_of(mdp.tokens())]])
    target = log_softmax(L * agrees)
    assert np.exp(forward_projection(NGram(mdp, 0), target).log_pi[0, 0]) == pytest.approx([0.5, 0.5], abs=1e-15)
    found = reverse_projection(NGram(mdp, 0), target, rng=np.random.default_rng(1), starts=8)
    assert len(found.optima) == count
    assert sum(o.hits for o in found.optima) == 8
    m = 1.0
    for _ in range(2000):
        m = math.tanh(L * m / 2)
    ms = sorted(float(2 * np.exp(o.log_pi[0, 0, 0]) - 1) for o in found.optima)
    assert ms == pytest.approx([-m, m] if count == 2 else [0.0], abs=1e-8)


def test_what_the_target_forbids_is_forbidden_in_the_class() -> None:
    mdp = TokenMDP(("a", "b", "."), 3, eos=".")
    world = World(mdp, forbid(mdp, uniform(mdp), ["b"]), np.arange(float(mdp.N))[None] / 5, 1.0)
    target = solve(world).log_p
    tied = NGram(mdp, 1)
    found = reverse_projection(tied, target, rng=np.random.default_rng(0))
    assert np.isneginf(found.log_p[np.isneginf(target)]).all()
    assert math.isfinite(found.value)
    assert tokens_allowed(tied, target)[:, 1].tolist() == [False, False, True], "after b, where it never is, nothing is asked"
    with pytest.raises(InputError, match="must avoid what the target forbids"):
        _ = reverse_projection(LogLinear(mdp, np.ones((1, mdp.S, 3, 1))), target, rng=np.random.default_rng(0))
    here = forbid(mdp, forbid(mdp, uniform(mdp), ["a", "b"], [0]), ["."], [1, 2])  # "." at the start, never after: no unigram does both
    dead = mdp.path_sum(log_softmax(np.where(np.isneginf(here), -np.inf, here)))
    assert math.isfinite(reverse_projection(NGram(mdp, 0), dead, rng=np.random.default_rng(0)).value), "states never reached forbid nothing"


def test_a_class_that_would_have_to_forbid_everything_is_refused() -> None:
    mdp = TokenMDP(("a", "b"), 2)
    target = log_softmax(np.where([[mdp.text(i) in ("a b",) for i in range(4)]], 0.0, -np.inf))
    with pytest.raises(InputError, match="left in every context"):
        _ = reverse_projection(NGram(mdp, 0), target, rng=np.random.default_rng(0))


def test_laws_that_do_not_normalize_are_refused() -> None:
    with pytest.raises(InputError, match="log_q must normalize"):
        _ = forward_projection(NGram(rational().mdp, 0), np.zeros((1, 3)))


def test_prompts_never_asked_do_not_matter(rng: np.random.Generator) -> None:
    mdp = TokenMDP(2, 2, prompts=("x", "y"), mu=[1.0, 0.0])
    target = log_softmax(np.array([[0.0, 1.0, -1.0, 0.5], [0.0, -np.inf, -np.inf, -np.inf]]))
    alone = TokenMDP(2, 2)
    both = reverse_projection(NGram(mdp, 0), target, rng=np.random.default_rng(0))
    one = reverse_projection(NGram(alone, 0), target[:1], rng=np.random.default_rng(0))
    assert both.value == pytest.approx(one.value, abs=1e-14)
    assert math.isfinite(forward_projection(NGram(mdp, 0), target).value)


# ---------------------------------------------------------------------------------------------------- Pythagoras


@over_worlds
def test_a_law_of_the_same_mean_has_it_and_the_triangle_is_right(world: World, rng: np.random.Generator) -> None:
    star = solve(world).log_p
    law = same_mean_law(star, world.r, rng.standard_normal(world.r.shape))
    tol = EPS * (40 + world.mdp.N) * (1 + size(world.r))
    assert_close(expect(law, world.r), expect(star, world.r), tol)
    assert_close(np.sum(np.exp(law), axis=1), 1.0, EPS * (8 + world.mdp.N) * (1 + size(star)))
    left, right = kl(law, world.log_p_ref), kl(law, star) + kl(star, world.log_p_ref)
    assert_close(left, right, tol / world.beta + EPS * (40 + world.mdp.N) * (1 + size(star) + size(world.log_p_ref)))


def test_rational_projection_in_fractions() -> None:
    """p* = (3, 12, 4)/19: "a" is said 28/19 times and "." 7/19 times, so the best unigram says "a" with probability 4/5."""
    world = rational()
    answer = float(Fraction(28, 28 + 7))
    found = forward_projection(NGram(world.mdp, 0), solve(world).log_p)
    assert float(np.exp(found.log_pi[0, 0, 0])) == pytest.approx(answer, abs=4 * EPS)


# ---------------------------------------------------------------------------------------------------- the optimizer


def test_minimize_finds_exact_minima_and_says_how() -> None:
    target = np.array([[1.0, -2.0], [0.5, 3.0]])
    found = minimize(lambda x: np.sum(np.exp(x - target) + np.exp(target - x)) / 2, np.zeros((2, 2)))
    assert_close(found.x, target, 1e-9)
    assert found.fun == pytest.approx(4.0)
    assert_close(found.hess, np.eye(4), 1e-9)
    assert "stationary" in found.message


@pytest.mark.parametrize("scale", [2.0, 1e3, 1e6, 1e12, 1e100, 1e300])
def test_the_unit_of_the_objective_does_not_matter(scale: float) -> None:
    """A minimum, a saddle at the start, a minimum beside a ramp that softmax does not see: the same x for f and for scale f."""
    objectives = [
        (lambda x: np.sum((x - 1.0) ** 2) + x[0] ** 4, np.zeros(2)),
        (lambda x: x[0] ** 4 / 4 - x[0] ** 2 / 2 + x[1] ** 2, np.zeros(2)),
        (lambda x: -np.sum(np.array([0.2, 0.3, 0.5]) * log_softmax(x)), np.array([3.0, -2.0, 0.0])),
    ]
    for f, start in objectives:
        one, many = minimize(f, start), minimize(lambda x, f=f: scale * f(x), start)
        assert_close(np.abs(log_softmax(many.x)), np.abs(log_softmax(one.x)), 1e-7)
        assert many.fun == pytest.approx(scale * one.fun, rel=1e-12)
        assert many.gradient_norm <= 1e-12 * scale
        assert_close(many.hess / scale, one.hess, 1e-6)


def test_minimize_leaves_saddles() -> None:
    found = minimize(lambda x: x[0] ** 4 / 4 - x[0] ** 2 / 2 + x[1] ** 2, np.zeros(2))
    assert abs(found.x[0]) == pytest.approx(1.0)


def test_minimize_tells_of_minima_at_infinity() -> None:
    away = minimize(lambda x: np.log1p(np.exp(-x[0])) + x[1] ** 2, np.zeros(2))
    assert away.drift > 3.0
    assert minimize(lambda x: np.sum(np.square(x - 3.0)), np.zeros(2)).drift < 1e-3


def test_minimize_refuses_to_return_a_point_that_still_moves() -> None:
    with pytest.raises(SolveError, match="no minimum was found in 3 Newton steps"):
        _ = minimize(lambda x: -x[0], np.zeros(1), steps=3)


def test_minimize_of_nothing() -> None:
    assert minimize(lambda x: np.sum(x) + 2.0, np.zeros(0)).fun == 2.0


def test_local_minima_merge_what_is_the_same() -> None:
    found = local_minima(lambda x: (x[0] ** 2 - 1) ** 2, [np.array([s]) for s in (-2.0, -0.5, 0.7, 3.0)], lambda x: x)
    assert [hits for _, hits in found] == [2, 2]
    assert sorted(float(m.x[0]) for m, _ in found) == pytest.approx([-1.0, 1.0])


def test_a_law_must_normalize_for_every_prompt_not_only_for_one() -> None:
    world = random_world(rng=np.random.default_rng(0), V=2, H=1, P=2)
    log_q = world.log_p_ref.copy()
    log_q[1] += 0.1
    with pytest.raises(InputError, match="must normalize for each prompt"):
        check_law(world.mdp, log_q)
    assert check_law(world.mdp, world.log_p_ref) is not None
