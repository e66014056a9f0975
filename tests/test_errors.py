"""Refusals: each bad input has a message with four parts: what must hold, what was got, where it first fails, the usual remedy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import tabular_rlhf as tr
from tabular_rlhf import (
    InputError,
    LogLinear,
    NGram,
    SolveError,
    Tabular,
    TokenMDP,
    World,
    estimate,
    mdp,
    objective,
    population,
    random_world,
    sample,
    soft_bellman,
    soft_value,
    solve,
)
from tabular_rlhf.divergences import alpha
from tabular_rlhf.errors import as_floats, positive
from tabular_rlhf.gibbs import frontier, policy_gradient
from tabular_rlhf.optimize import monotone_root
from tabular_rlhf.penalties import ptx_optimum
from tabular_rlhf.policy import check_log_pi, dirichlet, forbid, from_text, uniform
from tabular_rlhf.sampling import draw


class Bad(NamedTuple):
    """`call` is refused; the parts of the message contain these words.  Where a whole argument is bad, `must` names it."""

    call: Callable[[], Any]
    must: str
    got: str
    where: str
    remedy: str


M = TokenMDP(("the", "cat", "."), 2, eos=".", prompts=("x", "y"))
REF, R = uniform(M), np.zeros((2, M.N))
RNG = np.random.default_rng(0)


def changed(a: np.ndarray, index: Any, value: float) -> np.ndarray:
    b = np.array(a)
    b[index] = value
    return b


ANYTHING: Any = World  # called with what it must refuse


ANYTHING_5: Any = "5"
NO: Any = 0
FEATURES = np.zeros((2, 3, 3, 5))
REF_P = M.path_sum(REF)


def refuse_beta(beta: Any) -> Bad:
    return Bad(lambda: World(M, REF, R, beta), "beta must be positive", str(beta), "", "pass beta > 0, in reward units per nat")


CASES = {
    # ---- the last bar of the issue
    "logits with nan": Bad(
        lambda: Tabular(M).log_pi(changed(np.zeros((2, 3, 3)), (1, 2, 0), np.nan)), "logits", "nan", "1, 2", "check the computation"
    ),
    "logits with inf": Bad(
        lambda: Tabular(M).log_pi(changed(np.zeros((2, 3, 3)), (1, 2, 0), np.inf)), "logits", "inf", "1, 2", "check the computation"
    ),
    "a reference with nan": Bad(
        lambda: World(M, changed(REF, (1, 2, 0), np.nan), R, 1.0),
        "log_ref must be finite or -inf",
        "nan",
        "(1, 2, 0)",
        "check the computation",
    ),
    "a state where all is forbidden": Bad(
        lambda: World(M, changed(REF, (0, 2), -np.inf), R, 1.0),
        "normalize in every state",
        "sum of 0",
        "prompt 0, state 2 ('x cat')",
        "allow a",
    ),
    "a reference that does not normalize": Bad(
        lambda: World(M, REF - 0.1, R, 1.0), "normalize in every state", "0.904837", "prompt 0, state 0 ('x')", "log_softmax"
    ),
    "beta = 0": refuse_beta(0.0),
    "beta < 0": refuse_beta(-1.5),
    "beta = nan": refuse_beta(float("nan")),
    "beta = inf": refuse_beta(float("inf")),
    "beta is no number": Bad(lambda: ANYTHING(M, REF, R, "big"), "beta must be positive", "'big'", "", "pass beta > 0"),
    "a reward of the wrong shape": Bad(
        lambda: World(M, REF, np.zeros((2, 9)), 1.0), "r must have shape (2, 7)", "shape (2, 9)", "", "N trajectories"
    ),
    "a reward with inf": Bad(
        lambda: World(M, REF, changed(R, (1, 3), np.inf), 1.0), "r must be finite", "inf", "(1, 3)", "check the computation"
    ),
    "a reward of -inf": Bad(lambda: World(M, REF, changed(R, (1, 3), -np.inf), 1.0), "r must be finite", "-inf", "(1, 3)", "check"),
    "a reward of words": Bad(lambda: ANYTHING(M, REF, [["a"]], 1.0), "r must be an array of real numbers", "list", "", "pass floats"),
    "a complex reward": Bad(lambda: ANYTHING(M, REF, R + 1j, 1.0), "r must be an array of real numbers", "complex", "", "pass floats"),
    "an unknown token": Bad(
        lambda: M.find("the dog ."), "every token must be in the vocabulary", "'dog'", "token 1", "use one of 'the', 'cat', '.'"
    ),
    "an empty corpus": Bad(lambda: from_text(M, ""), "the corpus must contain words", "0 sentences", "", "check sep and case"),
    "a corpus of other words": Bad(
        lambda: from_text(M, "le chat"), "the corpus must contain words", "1 sentences", "", "check sep and case"
    ),
    "horizon 0": Bad(lambda: TokenMDP(2, 0), "the horizon must be a whole number", "0", "", "count the tokens"),
    "a negative horizon": Bad(lambda: TokenMDP(2, -1), "the horizon must be a whole number", "-1", "", "count the tokens"),
    "half a horizon": Bad(lambda: TokenMDP(2, 2.5), "the horizon must be a whole number", "2.5", "", "count the tokens"),  # type: ignore[arg-type]
    "a horizon that is True": Bad(lambda: TokenMDP(2, True), "the horizon must be a whole number", "True", "", "count the tokens"),
    "an endless horizon": Bad(lambda: TokenMDP(1, 10_001), "at most 10000", "10001", "", "shorten it"),
    "a tree that does not fit": Bad(
        lambda: TokenMDP(10, 9), "the tree must fit in 2 GiB", "1,000,000,000 trajectories, 5.87e+10 bytes", "", "shorten the horizon"
    ),
    "a tree that fits once but not for every prompt": Bad(
        lambda: TokenMDP(2, 20, prompts=[str(i) for i in range(40)]), "2 GiB", "41,943,040 trajectories, 3.36e+09 bytes", "", "shorten"
    ),
    "a tree that no machine holds": Bad(
        lambda: TokenMDP(50_000, 100), "the tree must fit in 2 GiB", "more than 10^300 trajectories", "", "shorten the horizon"
    ),
    "a tree beyond counting": Bad(lambda: TokenMDP(50_000, 1000), "the tree must fit in memory", "50000^1000", "", "shorten the horizon"),
    # ---- the others
    "two equal tokens": Bad(lambda: TokenMDP(("a", "a"), 2), "distinct non-empty tokens", "['a', 'a']", "", "name each token once"),
    "no vocabulary": Bad(lambda: TokenMDP(0, 2), "distinct non-empty tokens", "[]", "", "name each token once"),
    "EOS in the middle": Bad(lambda: TokenMDP((".", "a"), 2, eos="."), "EOS token must be the last", "'a'", "", "put '.' at the end"),
    "a token with a space": Bad(lambda: TokenMDP(("a", "b c"), 2), "contain no ' '", "'b c'", "token 1", "another sep"),
    "a long character": Bad(lambda: TokenMDP(("a", "bc"), 2, sep=""), "single characters", "'bc'", "token 1", "another sep"),
    "no prompt": Bad(lambda: TokenMDP(2, 2, prompts=()), "prompts must be distinct", "[]", "", "remove the repetition"),
    "two equal prompts": Bad(
        lambda: TokenMDP(2, 2, prompts=("x", "x")), "prompts must be distinct", "['x', 'x']", "", "remove the repetition"
    ),
    "mu of the wrong length": Bad(lambda: TokenMDP(2, 2, mu=[0.5, 0.5]), "mu must have shape (1,)", "shape (2,)", "", "P prompts"),
    "mu that sums to 2": Bad(
        lambda: TokenMDP(2, 2, prompts=("x", "y"), mu=[1, 1]), "mu must be a distribution", "[1.0, 1.0]", "", "divide"
    ),
    "negative mu": Bad(lambda: TokenMDP(2, 2, prompts=("x", "y"), mu=[2, -1]), "mu must be a distribution", "-1.0", "", "divide"),
    "an unfinished response": Bad(lambda: M.find("the"), "must end with '.' or have 2 tokens", "1 tokens ('the')", "", "append the EOS"),
    "a response that goes on after EOS": Bad(
        lambda: M.find(". the"), "at most 2 tokens and nothing after EOS", "'. the'", "", "shorten it"
    ),
    "a response too long": Bad(lambda: M.find("the the the"), "at most 2 tokens", "'the the the'", "", "shorten it"),
    "an unfinished response without EOS": Bad(
        lambda: TokenMDP(2, 3).find("0 1"), "must have 3 tokens", "2 tokens", "", "the whole response"
    ),
    "a state too deep": Bad(lambda: M.find_state("the cat"), "fewer than 2 tokens", "'the cat'", "", "shorten it"),
    "a state after EOS": Bad(lambda: M.find_state("."), "no EOS", "'.'", "", "shorten it"),
    "a trajectory that does not exist": Bad(lambda: M.tokens([7]), "0..6", "[7, 7]", "", "use find(text)"),
    "an empty phrase": Bad(lambda: M.phrase_count(""), "at least one token", "''", "", "remove it"),
    "everything forbidden": Bad(
        lambda: forbid(M, REF, M.vocabulary, states=[1]),
        "every state must allow some token",
        "all forbidden",
        "state 1 ('the')",
        "forbid fewer",
    ),
    "a forbidden unknown": Bad(lambda: forbid(M, REF, ["dog"]), "in the vocabulary", "'dog'", "token 0", "use one of"),
    "a policy of the wrong shape": Bad(lambda: check_log_pi(M, REF[0]), "log_pi must have shape (2, 3, 3)", "(3, 3)", "", "S states"),
    "a negative order": Bad(lambda: NGram(M, -1), "order must be at least 0", "-1", "", "number of context tokens"),
    "negative smoothing": Bad(lambda: from_text(M, "the cat", smoothing=-1.0), "smoothing must be at least 0", "-1.0", "", "0.1 is usual"),
    "features of the wrong shape": Bad(
        lambda: LogLinear(M, np.zeros((2, 3, 4))), "features must have shape", "(2, 3, 4)", "", "one vector"
    ),
    "no concentration": Bad(lambda: dirichlet(M, 0.0, rng=RNG), "concentration must be positive", "0.0", "", "pseudo-counts"),
    "an unknown world": Bad(lambda: tr.named_world("moon"), "must be a named one", "'moon'", "", "coin, fork"),
    "alpha = 1": Bad(lambda: alpha(1.0), "neither 0 nor 1", "1.0", "", "reverse KL record"),
    "a law without mass": Bad(lambda: draw(np.zeros(3), 1, rng=RNG), "positive finite sum", "0.0", "", "normalize the law"),
    "a law with nan": Bad(lambda: draw(np.array([np.nan]), 1, rng=RNG), "positive finite sum", "nan", "", "normalize the law"),
    "gamma < 0": Bad(lambda: ptx_optimum(R[:1], R[:1], 1.0, -1.0, R[:1]), "gamma must be at least 0", "-1.0", "", "pretraining term"),
    "data off the reference": Bad(
        lambda: ptx_optimum(np.array([[0.0, -np.inf]]), np.zeros((1, 2)), 1.0, 1.0, np.log([[0.5, 0.5]])),
        "p_ref must cover D",
        "D > 0 = p_ref",
        "prompt 0, trajectory 1",
        "smooth the reference",
    ),
}


W = random_world(rng=RNG, V=2, H=2)
DATA = sample(W, W.log_p_ref, 10, rng=RNG)
WRONG = {
    "a table for values": (lambda: estimate(DATA, W.r), "one for each trajectory, shape (10,)", "shape (1, 3)", "data[table]"),
    "a number for values": (lambda: estimate(DATA, 1.0), "one for each trajectory", "shape ()", "data[table]"),
    "p for log p": (lambda: sample(W, solve(W).p, 5, rng=RNG), "log_p must be a law", "sum to", "log_softmax"),
    "a population of p": (lambda: population(W, solve(W).p), "log_p must be a law", "sum to", "solve(world).log_p"),
    "a policy for a law": (lambda: sample(W, W.log_ref, 5, rng=RNG), "log_p must have shape (1, 3)", "shape (1, 2, 2)", "N traj"),
    "draws in words": (lambda: sample(W, W.log_p_ref, ANYTHING_5, rng=RNG), "draws must be a whole number", "'5'", "n >= 1"),
    "half a draw": (lambda: sample(W, W.log_p_ref, 2.5, rng=RNG), "draws must be a whole number", "2.5", "n >= 1"),
    "a seed for rng": (lambda: sample(W, W.log_p_ref, 5, rng=NO), "rng must be a random generator", "0", "default_rng(0)"),
    "a seed for a world": (lambda: random_world(rng=NO), "rng must be a random generator", "0", "default_rng(0)"),
    "too many rows": (lambda: NGram(M, 1).log_pi(np.zeros((50, 3))), "theta must have shape (3, 3)", "(50, 3)", "see"),
    "too few rows": (lambda: NGram(M, 1).log_pi(np.zeros((2, 3))), "theta must have shape (3, 3)", "(2, 3)", "see"),
    "tabular of the wrong shape": (lambda: Tabular(M).log_pi(np.zeros((1, 3, 3))), "theta must have shape (2, 3, 3)", "(1, 3, 3)", "see"),
    "two thetas": (lambda: LogLinear(M, FEATURES).log_pi(np.zeros((5, 2))), "theta must have shape (5,)", "(5, 2)", "see"),
    "a short theta": (lambda: LogLinear(M, FEATURES).log_pi(np.zeros(4)), "theta must have shape (5,)", "(4,)", "see"),
    "half an order": (lambda: NGram(M, 1.5), "order must be a whole number", "1.5", "context tokens"),
    "half an order of text": (lambda: from_text(M, "the cat", order=1.5), "order must be a whole number", "1.5", "context tokens"),
    "no text": (lambda: from_text(M, NO), "corpus must be a text", "0", "pass strings"),
    "J at beta < 0": (lambda: objective(REF_P, REF_P, R, -1.0, M.mu), "beta must be positive", "-1.0", "beta > 0"),
    "J at beta = 0": (lambda: objective(REF_P, REF_P, R, 0, M.mu), "beta must be positive", "0", "beta > 0"),
    "soft Bellman at beta < 0": (lambda: soft_bellman(M, REF, R, -1.0), "beta must be positive", "-1.0", "beta > 0"),
    "soft Bellman of a list": (lambda: soft_bellman(M, REF, [[1.0]], 1.0), "r must have shape (2, 7)", "(1, 1)", "N trajectories"),
    "a soft value at beta = 0": (lambda: soft_value(R, R, 0.0), "beta must be positive", "0.0", "beta > 0"),
    "a state too far": (lambda: M.state_text(999), "states must be whole numbers in 0..2", "[999, 999]", "find_state(text)"),
    "a state before the first": (lambda: M.state_text(-1), "states must be whole numbers in 0..2", "[-1, -1]", "find_state(text)"),
    "half a response": (lambda: M.text(1.5), "whole numbers in 0..6", "[1.5, 1.5]", "find(text)"),
    "a prompt too far": (lambda: M.text(0, 5), "a prompt must be a whole number in 0..1", "5", "there are 2 prompts"),
    "no words": (lambda: M.find(None), "a text must be a string or a list", "None", "write the tokens"),
    "numbers for words": (lambda: M.find([0, 1]), "in the vocabulary", "0", "use one of"),
    "a prefix sum of another tree": (lambda: M.prefix_sum(np.zeros((2, 4, 3))), "x must have shape (2, 3, 3)", "(2, 4, 3)", "see"),
    "a path sum of another tree": (lambda: M.path_sum(np.zeros((2, 3, 4))), "x must have shape (2, 3, 3)", "(2, 3, 4)", "see"),
    "a subtree sum of a list": (lambda: M.subtree_sum([1.0, 2.0]), "f must have shape (2, 7)", "(2,)", "see"),
    "a prompt for prompts": (lambda: TokenMDP(2, 1, prompts="Hi:"), "prompts must be a list", "'Hi:'", '("Hi:",)'),
    "no prompts": (lambda: TokenMDP(2, 1, prompts=None), "prompts must be a list", "None", '("Hi:",)'),
    "no separator": (lambda: TokenMDP(2, 1, sep=None), "sep must be a string", "None", '"" for characters'),
    "half a vocabulary": (lambda: TokenMDP(2.0, 1), "the vocabulary must be tokens", "2.0", "or 3"),
    "no tokens": (lambda: TokenMDP(None, 1), "the vocabulary must be tokens", "None", "or 3"),
    "a forbidden state too far": (lambda: forbid(M, REF, ["cat"], states=[99]), "whole numbers in 0..2", "[99, 99]", "find_state"),
    "a world in a list": (lambda: tr.named_world([]), "must be a named one", "[]", "coin"),
    "one beta for a frontier": (lambda: frontier(W, 1.0), "betas must be a list", "1.0", "[0.5, 1.0, 2.0]"),
    "complex logits": (lambda: policy_gradient(W, W.log_ref + 1j), "array of real numbers", "complex", "pass floats"),
    "logits in words": (lambda: policy_gradient(W, "x"), "array of real numbers", "str", "pass floats"),
    "alpha in words": (lambda: alpha("x"), "alpha must be finite", "'x'", "reverse KL record"),
    "kl of words": (lambda: tr.kl(["a"], [0.0]), "array of real numbers", "list", "pass floats"),
}


@pytest.mark.parametrize(("call", "must", "got", "remedy"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_argument_is_refused_not_computed_with(call: Any, must: str, got: str, remedy: str) -> None:
    with pytest.raises(InputError) as caught:
        call()
    for part, words in ((caught.value.must, must), (caught.value.got, got), (caught.value.remedy, remedy)):
        assert words in part, f"{part!r} says nothing of {words!r}"


def test_what_can_be_understood_is_not_refused() -> None:
    assert tr.kl([0.0, -np.inf], [0.0, -np.inf]) == 0.0
    assert tr.kl(np.array([0]), np.array([0])) == 0.0
    assert M.path_sum(np.ones((2, 3, 3), dtype=bool)).dtype == float
    assert forbid(M, REF, ["cat"], states=0)[0, 0, 1] == -np.inf


@pytest.mark.parametrize("bad", CASES.values(), ids=CASES.keys())
def test_bad_input_is_refused_in_four_parts(bad: Bad) -> None:
    with pytest.raises(InputError) as caught:
        bad.call()
    e = caught.value
    for part, words in (("must", bad.must), ("got", bad.got), ("where", bad.where), ("remedy", bad.remedy)):
        assert words in getattr(e, part), f"{part}: {getattr(e, part)!r} says nothing of {words!r}"
    assert e.must
    assert e.got
    assert e.remedy
    assert bool(e.where) is bool(bad.where)
    place = f"{e.where}: " if e.where else ""
    assert str(e) == f"{e.must}: {place}got {e.got}; {e.remedy}"
    assert "np.float64" not in str(e)
    assert "np.int64" not in str(e)


def test_refusals_are_value_errors_and_failures_are_not() -> None:
    assert issubclass(InputError, ValueError)
    assert issubclass(SolveError, RuntimeError)
    assert not issubclass(SolveError, ValueError)


def test_the_limit_on_memory_is_the_one_that_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mdp, "MAX_BYTES", 1000)
    with pytest.raises(InputError, match=r"the tree must fit in 9\.31e-07 GiB: got 16 trajectories, 1,?.* bytes"):
        TokenMDP(2, 4)
    monkeypatch.setattr(mdp, "MAX_BYTES", 10**12)
    assert TokenMDP(10, 9).N == 10**9


def test_good_input_passes_unharmed() -> None:
    assert as_floats([[1, 2]], "x", (1, 2)).tolist() == [[1.0, 2.0]]
    assert as_floats([-np.inf], "x", minus_inf=True).tolist() == [-np.inf]
    assert positive(np.float64(0.5), "x", "nats") == 0.5
    assert positive(5e-324, "x", "nats") == 5e-324


def test_a_root_that_is_not_found_is_an_error_with_its_bracket() -> None:
    with pytest.raises(SolveError, match=r"not found in 3 steps: it lies between"):
        monotone_root(lambda x: (np.cbrt(x - 1 / 3), np.full(1, np.nan)), np.zeros(1), np.ones(1), steps=3)
    root = monotone_root(lambda x: (np.tanh(x - 1 / 3), np.full(2, np.nan)), np.zeros(2), np.ones(2) * 9)
    assert np.max(np.abs(root - 1 / 3)) <= 2**-54 * 4
