"""A required format: conditioning and masking, against lists of responses."""

from __future__ import annotations

import re
from functools import cache

import numpy as np
import pytest

from tabular_rlhf.errors import InputError
from tabular_rlhf.lattice import Reference
from tabular_rlhf.lattice.condition import Given, Masked, rewarded
from tabular_rlhf.lattice.draws import sample
from tabular_rlhf.lattice.flow import kl, length_law
from tabular_rlhf.machines import lattice, matches, ngram, product
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.path import expect
from tabular_rlhf.policy import from_text

PATTERNS = ("(a|b)*aa", "a*b", "ab|ba.*", ".{2,3}", "(ab)*")


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("eos", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_conditioning_and_masking_are_what_a_list_says(pattern: str, eos: bool, smoothing: float) -> None:
    mdp = TokenMDP(("a", "b", *(["."] if eos else [])), 4, eos="." if eos else None, sep="")
    corpus = ["abab", "aab", "baa", "b"]
    log_ref = from_text(mdp, corpus, 1, smoothing)
    p_ref = np.exp(mdp.path_sum(log_ref))[0]
    has = np.array([bool(re.fullmatch(pattern, mdp.text(i).removesuffix("."))) for i in range(mdp.N)])
    w = lattice(mdp, product(mdp, [ngram(mdp, corpus, 1, smoothing), matches(mdp, pattern)]), 1.0)
    if not np.sum(p_ref[has]) > 0:
        with pytest.raises(InputError, match="must have the format"):
            Given(w, rewarded(w))
        return
    given, masked, reference = Given(w, rewarded(w)), Masked(w, rewarded(w)), Reference(w)
    assert abs(float(given.log_mass[0]) - np.log(np.sum(p_ref[has]))) <= 1e-12
    p = np.where(has, p_ref, 0.0) / np.sum(p_ref[has])
    q = masked_law(mdp, np.exp(log_ref[0]), has & (p_ref > 0))
    for policy, law in ((given, p), (masked, q)):
        lengths = np.bincount(mdp.lengths, law, mdp.H + 1)
        assert np.abs(length_law(policy) - lengths).max() <= 1e-12
        on = law > 0
        assert abs(expect(lambda y: y.log_p_ref, policy) - np.sum(law[on] * np.log(p_ref[on]))) <= 1e-12
        assert abs(float(kl(policy, reference)[0]) - np.sum(law[on] * np.log(law[on] / p_ref[on]))) <= 1e-12
    on = p > 0
    assert abs(float(kl(given, masked)[0]) - np.sum(p[on] * np.log(p[on] / q[on]))) <= 1e-12
    assert abs(float(kl(given, reference)[0]) + float(given.log_mass[0])) <= 1e-12
    assert np.all(sample(masked, 200, rng=np.random.default_rng(0)).r == 1.0)


def masked_law(mdp: TokenMDP, pi: np.ndarray, good: np.ndarray) -> np.ndarray:
    """The law of masked decoding, token by token, on texts."""
    ends = {tuple(mdp.parse(mdp.text(i))) for i in np.flatnonzero(good)}

    @cache
    def row(prefix: tuple[int, ...]) -> np.ndarray:
        weights = np.array([pi[state_of(mdp, prefix), a] * any(e[: len(prefix) + 1] == (*prefix, a) for e in ends) for a in range(mdp.V)])
        return weights / weights.sum() if weights.sum() > 0 else weights

    law = np.zeros(mdp.N)
    for i in range(mdp.N):
        tokens = tuple(mdp.parse(mdp.text(i)))
        law[i] = np.prod([row(tokens[:h])[a] for h, a in enumerate(tokens)])
    return law


def state_of(mdp: TokenMDP, prefix: tuple[int, ...]) -> int:
    return mdp.find_state([mdp.vocabulary[t] for t in prefix])
