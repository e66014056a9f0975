"""Refusals: each bad input has a message with four parts: what must hold, what was got, where it first fails, the usual remedy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import tabular_rlhf as tr
from tabular_rlhf import InputError, LogLinear, NGram, SolveError, Tabular, TokenMDP, World, mdp
from tabular_rlhf.divergences import alpha
from tabular_rlhf.errors import as_floats, positive
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
        "normalise in every state",
        "sum of 0",
        "prompt 0, state 2 ('x cat')",
        "allow a",
    ),
    "a reference that does not normalise": Bad(
        lambda: World(M, REF - 0.1, R, 1.0), "normalise in every state", "0.904837", "prompt 0, state 0 ('x')", "log_softmax"
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
    "a law without mass": Bad(lambda: draw(np.zeros(3), 1, rng=RNG), "positive finite sum", "0.0", "", "normalise the law"),
    "a law with nan": Bad(lambda: draw(np.array([np.nan]), 1, rng=RNG), "positive finite sum", "nan", "", "normalise the law"),
    "gamma < 0": Bad(lambda: ptx_optimum(R[:1], R[:1], 1.0, -1.0, R[:1]), "gamma must be at least 0", "-1.0", "", "pretraining term"),
    "data off the reference": Bad(
        lambda: ptx_optimum(np.array([[0.0, -np.inf]]), np.zeros((1, 2)), 1.0, 1.0, np.log([[0.5, 0.5]])),
        "p_ref must cover D",
        "D > 0 = p_ref",
        "prompt 0, trajectory 1",
        "smooth the reference",
    ),
}


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
