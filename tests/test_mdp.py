"""Laws of the token MDP: counts, words, sweeps, each against plain enumeration."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabular_rlhf import TokenMDP, grad
from tabular_rlhf.logspace import logsumexp
from tabular_rlhf.mdp import tree_counts
from tabular_rlhf.world import World, worlds
from tests import oracle
from tests.laws import EPS, WORLDS, assert_close, in_order, nats, size, tell, words_of

over_worlds = pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS.keys())
SHAPES = [(V, H, eos) for V, H, eos in itertools.product(range(1, 6), range(1, 6), (False, True)) if V**H <= 1024]
over_shapes = pytest.mark.parametrize(("V", "H", "eos"), SHAPES)


def build(V: int, H: int, eos: bool, P: int = 1) -> TokenMDP:
    return TokenMDP(V, H, eos=V - 1 if eos else None, prompts=[f"x{i}" for i in range(P)])


# ---------------------------------------------------------------------------------------------------- counts and words


@over_shapes
def test_counts_are_those_of_enumeration(V: int, H: int, eos: bool) -> None:
    responses = oracle.strings(V, H, eos)
    states = oracle.prefixes(responses)
    mdp = build(V, H, eos)
    assert (mdp.S, mdp.N) == tree_counts(V, H, eos) == (len(states), len(responses))
    assert mdp.offsets == tuple(sum(len(s) < h for s in states) for h in range(H + 1))
    assert [mdp.width(h) for h in range(H)] == [sum(len(s) == h for s in states) for h in range(H)]


@over_shapes
def test_trajectories_and_states_are_those_of_enumeration(V: int, H: int, eos: bool) -> None:
    mdp = build(V, H, eos)
    told = words_of(mdp.tokens())
    assert sorted(told) == oracle.strings(V, H, eos)
    assert [told[i] for i in mdp.lexicographic] == oracle.strings(V, H, eos)
    assert sorted(words_of(mdp.state_tokens())) == oracle.prefixes(told)
    assert mdp.lengths.tolist() == [len(s) for s in told]


@over_shapes
def test_text_to_index_and_back(V: int, H: int, eos: bool) -> None:
    mdp = build(V, H, eos)
    assert [mdp.find(mdp.text(i)) for i in range(mdp.N)] == list(range(mdp.N))
    assert [mdp.find_state(mdp.state_text(s)) for s in range(mdp.S)] == list(range(mdp.S))
    assert [mdp.text(i) for i in range(mdp.N)] == [" ".join(map(str, s)) for s in words_of(mdp.tokens())]


def test_text_without_separator_and_with_prompts() -> None:
    mdp = TokenMDP(("a", "b", "<end>"), 3, eos="<end>", prompts=("say:", ""), sep="")
    assert [mdp.find(mdp.text(i)) for i in range(mdp.N)] == list(range(mdp.N))
    i = mdp.find("ab<end>")
    assert (mdp.text(i), mdp.text(i, 0), mdp.text(i, 1)) == ("ab<end>", "say:ab<end>", "ab<end>")
    assert mdp.parse("ab<end>") == mdp.parse(["a", "b", "<end>"]) == (0, 1, 2)
    assert TokenMDP("ab", 2, sep="").vocabulary == ("a", "b")


def test_tokens_of_some_trajectories_are_rows_of_all() -> None:
    mdp = build(4, 4, True)
    some = np.array([17, 0, mdp.N - 1, 5, 5])
    assert mdp.tokens(some).tolist() == mdp.tokens()[some].tolist()
    states = np.array([3, 0, mdp.S - 1])
    assert mdp.state_tokens(states).tolist() == mdp.state_tokens()[states].tolist()


@given(data=st.data(), eos=st.booleans())
def test_phrase_count_is_counting_in_the_string(data: st.DataObject, eos: bool) -> None:
    mdp = build(data.draw(st.integers(1, 3)), data.draw(st.integers(1, 5)), eos, P=data.draw(st.integers(1, 2)))
    phrase = data.draw(st.lists(st.integers(0, mdp.V - 1), min_size=1, max_size=3))
    counts = mdp.phrase_count([str(t) for t in phrase])
    k = len(phrase)
    want = [sum(s[i : i + k] == tuple(phrase) for i in range(len(s))) for s in words_of(mdp.tokens())]
    assert counts.tolist() == want


# ---------------------------------------------------------------------------------------------------- sweeps


@over_worlds
def test_chain_rule(world: World) -> None:
    for x in range(world.mdp.P):
        told = tell(world, x)
        p = np.exp(world.log_p_ref[x])
        assert_close(p, in_order(told, told.ref), 4 * nats(world) * p)
        assert_close(np.sum(p), 1.0, EPS * (world.mdp.N + world.mdp.H * world.mdp.V) + 4 * nats(world))


@over_worlds
def test_occupancy_against_enumeration_and_flow(world: World) -> None:
    mdp = world.mdp
    mass = mdp.subtree_sum(np.exp(world.log_p_ref))
    d = np.exp(mdp.prefix_sum(world.log_ref))
    tol = EPS * mdp.N + 4 * nats(world)
    for x in range(mdp.P):
        told = tell(world, x)
        want = oracle.occupancy(told.ref)
        assert_close(d[x], [want[s] for s in told.states], tol)
    assert_close(np.sum(mass, axis=-1), d, tol, "what leaves a state")
    assert_close(mass, d[..., None] * np.exp(world.log_ref), tol, "d pi")
    for h in range(1, mdp.H):  # inflow: the live children of a level, token by token, are the next level
        parents = mass[:, mdp.offsets[h - 1] : mdp.offsets[h], : mdp.K]
        inflow = np.swapaxes(parents, 1, 2).reshape(mdp.P, -1)
        assert_close(inflow, d[:, mdp.offsets[h] : mdp.offsets[h + 1]], tol, "what enters a state")


@over_worlds
def test_path_sum_and_subtree_sum_are_transposes(world: World) -> None:
    mdp = world.mdp
    rng = np.random.default_rng(mdp.N)
    x, f = rng.standard_normal((mdp.P, mdp.S, mdp.V)), rng.standard_normal((mdp.P, mdp.N))
    paths, sums = mdp.path_sum(x), mdp.subtree_sum(f)
    assert_close(np.sum(paths * f), np.sum(x * sums), EPS * (mdp.H + mdp.P * mdp.N) * float(np.sum(mdp.path_sum(np.abs(x)) * np.abs(f))))
    told = words_of(mdp.tokens())
    states = words_of(mdp.state_tokens())
    number = {s: i for i, s in enumerate(states)}
    by_hand = [sum(x[-1, number[s[:h]], a] for h, a in enumerate(s)) for s in told]
    assert_close(paths[-1], by_hand, EPS * mdp.H**2 * size(x))
    for s in states[:: max(1, len(states) // 7)]:
        for a in range(mdp.V):
            through = sum(f[-1, i] for i, tau in enumerate(told) if tau[: len(s) + 1] == (*s, a))
            assert_close(sums[-1, number[s], a], through, EPS * mdp.N**2 * size(f))


@given(world=worlds())
def test_gradients_of_the_sweeps_are_the_sweeps(world: World) -> None:
    mdp = world.mdp
    rng = np.random.default_rng(3)
    x, f = rng.integers(-4, 5, (mdp.P, mdp.S, mdp.V)).astype(float), rng.integers(-4, 5, (mdp.P, mdp.N)).astype(float)
    # whole numbers: every sum below is exact
    assert np.array_equal(grad(lambda x: np.sum(f * mdp.path_sum(x)))(x), mdp.subtree_sum(f))
    assert np.array_equal(grad(lambda f: np.sum(x * mdp.subtree_sum(f)))(f), mdp.path_sum(x))
    twice = grad(lambda x: np.sum(grad(lambda x: np.sum(mdp.path_sum(x) ** 3))(x) * f[0, 0]))(x)
    assert np.array_equal(twice, mdp.subtree_sum(6 * mdp.path_sum(x) * mdp.path_sum(np.full_like(x, f[0, 0]))))


@given(world=worlds())
def test_prefix_sum_traced_and_plain(world: World) -> None:
    mdp = world.mdp
    w = np.arange(1.0, mdp.P * mdp.S + 1).reshape(mdp.P, mdp.S)
    g = grad(lambda x: np.sum(w * mdp.prefix_sum(x)))(np.zeros((mdp.P, mdp.S, mdp.V)))
    states = words_of(mdp.state_tokens())
    for i, s in enumerate(states):
        for a in range(mdp.V):
            assert g[0, i, a] == sum(w[0, j] for j, t in enumerate(states) if t[: len(s) + 1] == (*s, a))


@over_worlds
def test_backup_with_a_sum_counts_the_leaves_below(world: World) -> None:
    mdp = world.mdp
    V, Q = mdp.backup(np.ones((mdp.P, mdp.N)), lambda h, Q: np.sum(Q, axis=1))
    told = words_of(mdp.tokens())
    assert V[0].tolist() == [sum(t[: len(s)] == s for t in told) for s in words_of(mdp.state_tokens())]
    assert np.array_equal(Q, mdp.subtree_sum(np.ones((mdp.P, mdp.N))))


def test_backup_tells_the_level() -> None:
    mdp = build(2, 4, True)
    seen: list[tuple[int, tuple[int, ...]]] = []

    def reduce(h: int, Q: np.ndarray) -> np.ndarray:
        seen.append((h, Q.shape))
        return np.asarray(logsumexp(Q, axis=1))

    mdp.backup(np.zeros((1, mdp.N)), reduce)
    assert seen == [(h, (1, mdp.V, mdp.width(h))) for h in (3, 2, 1, 0)]


def test_a_tree_of_2_to_24_trajectories_is_allowed_and_is_not_yet_allocated() -> None:
    assert TokenMDP(2, 24).N == 2**24
    assert TokenMDP(16, 6).N == 2**24
