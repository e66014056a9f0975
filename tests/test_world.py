"""Laws of worlds: what they check, what they freeze, and what the named ones know."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import HealthCheck, find, given, settings

from tabular_rlhf import TokenMDP, World, named_world, random_world, solve
from tabular_rlhf.gibbs import frontier, soft_bellman
from tabular_rlhf.policy import uniform, zen
from tabular_rlhf.world import NAMED, RATIONAL_ODDS, RATIONAL_PI_A, coin, fork, generated_worlds, long_tail, rational_answers, worlds
from tests import oracle
from tests.laws import EPS, WORLDS, assert_close, tell, words_of

# ---------------------------------------------------------------------------------------------------- a world is a fact


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS.keys())
def test_worlds_are_well_posed(world: World) -> None:
    mdp = world.mdp
    assert world.log_ref.shape == (mdp.P, mdp.S, mdp.V)
    assert world.r.shape == world.log_p_ref.shape == (mdp.P, mdp.N)
    assert_close(np.sum(np.exp(world.log_ref), axis=-1), 1.0, EPS * (mdp.V + 8))
    assert_close(math.fsum(world.mu), 1.0, EPS * (mdp.P + 1))


def test_a_world_is_read_only_and_the_caller_s_arrays_stay_his() -> None:
    log_ref, r = np.log([[[0.5, 0.5]]]), np.array([[0.0, 1.0]])
    world = World(TokenMDP(2, 1), log_ref, r, 1.0)
    for array in (world.log_ref, world.r, world.log_p_ref):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0.0
    with pytest.raises(FrozenInstanceError):
        world.beta = 2.0  # type: ignore[misc]
    assert log_ref.flags.writeable
    assert r.flags.writeable


def test_at_and_with_reward_change_only_that() -> None:
    world = coin()
    assert world.at(2.0).beta == 2.0
    assert np.shares_memory(world.at(2.0).r, world.r)
    assert world.with_reward([[1, 2]]).r.tolist() == [[1.0, 2.0]]
    assert world.with_reward([[1, 2]]).beta == world.beta


# ---------------------------------------------------------------------------------------------------- generated worlds


def test_the_seed_decides_the_world() -> None:
    a, b, c = (random_world(rng=np.random.default_rng(s), forbidden=0.3) for s in (1, 1, 2))
    assert np.array_equal(a.log_ref, b.log_ref)
    assert np.array_equal(a.r, b.r)
    assert not np.array_equal(a.r, c.r)


def test_generated_worlds_vary_in_every_way() -> None:
    some = generated_worlds(200, rng=np.random.default_rng(0))
    assert len(some) == 200
    assert max(w.mdp.N for w in some) <= 64
    for kind in (
        lambda w: w.mdp.V == 1,
        lambda w: w.mdp.H == 1,
        lambda w: w.mdp.K == 0,
        lambda w: w.mdp.P > 1,
        lambda w: w.mdp.eos is None,
        lambda w: w.mdp.eos is not None,
        lambda w: np.isneginf(w.log_ref).any(),
        lambda w: len(np.unique(w.r)) < w.r.size,
        lambda w: w.beta < 0.1,
        lambda w: w.beta > 10,
    ):
        assert sum(map(kind, some)) >= 5


@given(world=worlds())
def test_drawn_worlds_are_of_textbook_size(world: World) -> None:
    assert world.mdp.N <= 16
    assert np.array_equal(world.r * 2, np.round(world.r * 2))


def test_drawn_worlds_shrink_to_few_responses() -> None:
    calm = settings(derandomize=True, database=None, deadline=None, max_examples=300, suppress_health_check=list(HealthCheck))
    smallest = find(worlds(), lambda w: bool(solve(w).V.max() > 1.0), settings=calm)
    assert (smallest.mdp.P, smallest.mdp.N) == (1, 1)  # one response that earns more than 1 is the simplest such world


# ---------------------------------------------------------------------------------------------------- named worlds


@pytest.mark.parametrize("name", NAMED)
def test_named_worlds_carry_their_names(name: str) -> None:
    assert named_world(name).name == name


@pytest.mark.parametrize("beta", [0.1, 1.0, 7.0])
def test_coin_is_one_sigmoid(beta: float) -> None:
    heads = 1 / (1 + math.exp(-1 / beta))
    assert_close(solve(coin(beta)).p, [[1 - heads, heads]], 8 * EPS * (1 + 1 / beta))


def test_fork_turns_where_it_says() -> None:
    """V(right) = beta log cosh(3/beta) exceeds V(left) = 1 below beta = 4.156, while the plain average prefers left always."""
    for beta, right in ((4.15, True), (4.16, False), (1e-3, True), (1e6, False)):
        _, left_value, right_value = soft_bellman(fork(beta).mdp, fork(beta).log_ref, fork(beta).r, beta).V[0]
        assert bool(right_value > left_value) is right
        assert left_value == 1.0
    w = fork()
    average = {s: np.mean([w.r[0, w.mdp.find(f"{s} {t}")] for t in ("left", "right")]) for s in ("left", "right")}
    assert average == {"left": 1.0, "right": 0.0}


def test_rational_is_a_computation_in_fractions() -> None:
    """Z, p*, pi* and exp(V/beta), each from the oracle's enumeration in exact arithmetic."""
    q = RATIONAL_PI_A
    pi = {(): [q, 1 - q], (0,): [q, 1 - q]}
    responses = oracle.strings(2, 2, True)
    names = {(1,): ".", (0, 1): "a .", (0, 0): "a a"}
    weight = {s: Fraction(RATIONAL_ODDS[names[s]]) for s in responses}
    Z, law = oracle.gibbs(oracle.law_of(pi, responses), weight)
    best = oracle.policy_of(law, 2)
    values = oracle.exact_values(pi, weight)
    answers = rational_answers()
    assert answers == {
        "Z": Z,
        **{f"p*({names[s]})": p for s, p in law.items()},
        "pi*(a given root)": best[()][0],
        "pi*(a given a)": best[(0,)][0],
        "exp V(a)": values[(0,)],
    }
    assert Z == values[()] == Fraction(19, 9)  # spec/design.md, named worlds: Z = 19/9, weights 3, 4, 12 over 19


@pytest.mark.parametrize("beta", [0.25, 1.0, 3.0])
def test_rational_in_floating_point_is_the_fractions(beta: float) -> None:
    """The tolerance: log and exp of numbers below 3, a product of three and a sum of three, each rounded once or twice."""
    world = NAMED["rational"](beta)
    answers, g = rational_answers(), solve(world)
    tol = 16 * EPS
    assert_close(np.exp(g.V[0] / beta), float(answers["Z"]), tol)
    for text in RATIONAL_ODDS:
        assert_close(g.p[0, world.mdp.find(text)], float(answers[f"p*({text})"]), tol)
    assert_close(g.pi[0, :, 0], [float(answers["pi*(a given root)"]), float(answers["pi*(a given a)"])], tol)
    assert_close(np.exp(g.V_s[0, 1] / beta), float(answers["exp V(a)"]), tol)


def test_long_tail_has_a_tame_mean_and_an_explosive_second_moment() -> None:
    def moment(horizon: int, power: int) -> float:
        w = long_tail(horizon=horizon)
        return math.fsum(np.exp(w.log_p_ref[0] + power * w.r[0] / w.beta))

    grows = [moment(h + 1, 2) / moment(h, 2) for h in (8, 16, 32)]
    settles = [moment(h + 1, 1) / moment(h, 1) for h in (8, 16, 32)]
    assert_close(grows[-1], 1.62, 1e-4)  # 1.8^2/2 a word, up to a correction of order 1.62^-32
    assert all(s < 1.1 for s in settles)
    assert settles[-1] < settles[0]


def test_zen_is_estimated_from_its_sentences() -> None:
    """Recount the sentences with the oracle and compare every state's row."""
    world = named_world("zen")
    mdp = world.mdp
    sentences = [s.split() for s in zen() if s.split()[1:4] == ["is", "better", "than"] and len(s.split()) == 5]
    counts = oracle.ngram_counts(sentences, mdp.vocabulary, 1, ".")
    assert (mdp.V, mdp.H) == (17, 5)
    assert mdp.N > 2**20
    pi = np.exp(world.log_ref[0])
    for s, row in zip(words_of(mdp.state_tokens(np.arange(300))), pi[:300], strict=True):
        seen = counts.get(s[-1:], [0] * mdp.V)
        assert_close(row, [(c + 0.02) / (sum(seen) + 0.02 * mdp.V) for c in seen], 16 * EPS)
    longest = np.where(mdp.lengths == 5, world.log_p_ref[0], -np.inf)
    assert mdp.text(int(np.argmax(longest))).split()[1:4] == ["is", "better", "than"]


def test_a_frontier_of_a_named_world_is_increasing() -> None:
    front = frontier(coin(), [10.0, 1.0, 0.1])
    assert np.all(np.diff(front.reward) > 0)
    assert np.all(np.diff(front.kl) > 0)


def test_told_worlds_are_the_worlds() -> None:
    world = World(TokenMDP(2, 2, prompts=("x", "y")), uniform(TokenMDP(2, 2, prompts=("x", "y"))), np.arange(8.0).reshape(2, 4), 1.0)
    told = tell(world, 1)
    assert [told.r[s] for s in told.order] == [4.0, 5.0, 6.0, 7.0]
