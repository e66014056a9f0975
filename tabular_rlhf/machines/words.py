r"""Machines of words: the last k tokens, the phrases that are being said, and length.

**Algorithm** (Aho and Corasick 1975).  The state of a set of phrases is the longest suffix of what was read that begins one of them; a
token leads to the longest suffix of state + token that does.  Reading pays for every phrase that ends there.

**A reference from text** needs no state for contexts that never occurred, whose rows are uniform: its states are the beginnings of contexts
that did, read by the same algorithm, with a mark in front of those at the start of a response.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from tabular_rlhf.errors import InputError, quoted
from tabular_rlhf.language import Language
from tabular_rlhf.logspace import Array, log_of
from tabular_rlhf.machines.machine import LARGEST, Machine
from tabular_rlhf.mdp import Indices
from tabular_rlhf.policy import context_length, encoded, occurrences, pseudo_counts, refuse_strange

START = -1
"""The mark in front of what stands at the start of a response."""


def uniform(language: Language) -> Machine:
    """Every token with probability 1/V: one state.

    >>> uniform(Language(2, 3)).n
    1
    """
    return _constant(language, np.full((language.V, 1), -np.log(language.V)), 0.0)


def constant(language: Language, value: float) -> Machine:
    """Pays every response the same: one state.

    >>> constant(Language(2, 3), 0.5).final.tolist()
    [[0.5], [0.5]]
    """
    zeros = np.zeros((language.V, 1))
    return Machine(np.zeros((language.V, 1), dtype=np.intp), zeros, zeros + value)


def length(language: Language, weight: float) -> Machine:
    """Pays `weight` for every token, EOS counted: one state.

    >>> length(Language(2, 3), 0.5).n
    1
    """
    return _constant(language, None, weight)


def _constant(language: Language, log_ref: Array | None, gain: float) -> Machine:
    zeros = np.zeros((language.V, 1))
    return Machine(np.zeros((language.V, 1), dtype=np.intp), zeros + gain, zeros, 0, log_ref)


def phrases(language: Language, weights: Mapping[str | Sequence[str], float]) -> Machine:
    """Pays for every occurrence of every phrase, also where they overlap.  Args: weights, by phrase (text, or tokens), reward units.

    Raises: InputError for a word that is unknown, a phrase that is empty, or that goes on after EOS.

    >>> m = phrases(Language(("a", "b"), 3, sep=""), {"ab": 1.0, "b": 0.5}); m.n, m.gain[1].tolist()
    (2, [0.5, 1.5])
    """
    paid: dict[tuple[int, ...], float] = {}
    for phrase, weight in weights.items():
        tokens = language.parse(phrase)
        if not tokens or any(t >= language.K for t in tokens[:-1]):
            remedy = "remove it" if not tokens else "no response goes on there: shorten it"
            raise InputError("a phrase must have a token, and nothing after EOS", got=quoted(phrase), remedy=remedy)
        paid[tokens] = paid.get(tokens, 0.0) + weight
    states, following = readers(language, [()], paid)
    pay = {s: sum(paid.get(s[i:], 0.0) for i in range(len(s))) for s in {*states, *paid}}
    gain = np.array([[_paid(pay, paid, (*s, a)) for s in states] for a in range(language.V)])
    return Machine(following, gain, np.zeros_like(gain))


def _paid(pay: Mapping[tuple[int, ...], float], paid: Mapping[tuple[int, ...], float], said: tuple[int, ...]) -> float:
    """What all phrases earn that end where these words end."""
    return pay[said] if said in pay else sum(paid.get(said[i:], 0.0) for i in range(len(said)))


def readers(
    language: Language, start: Iterable[tuple[int, ...]], words: Iterable[tuple[int, ...]]
) -> tuple[list[tuple[int, ...]], Indices]:
    """The states of Aho and Corasick's machine for these words, without what EOS would lead to, and where each token leads, (V, n).

    Args: start, further states, the first of them the one to start in.

    >>> states, following = readers(Language(("a", "b"), 3, sep=""), [()], [(0, 1)]); states, following.tolist()
    ([(), (0,)], [[1, 1], [0, 0]])
    """
    known = dict.fromkeys(start)
    for word in words:
        for i in range(len(word)):
            known.setdefault(word[:i], None)
    states = list(known)
    number = {s: i for i, s in enumerate(states)}
    if len(states) * language.V > LARGEST:
        raise InputError(
            f"a machine must have at most {LARGEST // language.V:,} states", got=f"{len(states):,}", remedy="give it fewer or shorter words"
        )
    number.setdefault((), 0)
    following = np.empty((language.V, len(states)), dtype=np.intp)
    fallback: dict[tuple[int, ...], tuple[int, ...]] = {}
    for s in sorted(states, key=len):  # what a state falls back to is shorter, and is done
        shorter = fallback[s] = next((s[i:] for i in range(1, len(s) + 1) if s[i:] in number), ())
        following[:, number[s]] = following[:, number[shorter]] if s else number[()]
        for a in range(language.K):
            if (*s, a) in known:
                following[a, number[s]] = number[(*s, a)]
    return states, following


def ngram(language: Language, corpus: Sequence[str] | str, order: int = 1, smoothing: float = 0.1) -> Machine:
    """The policy of the last k tokens that `policy.from_text` estimates, for any horizon and any k: states are contexts that occurred.

    Args: as of `from_text`.  Raises: InputError.

    >>> m = ngram(Language(("a", "b", "."), 200, eos=".", sep=""), ["ab", "aa"], smoothing=0.0); [m.n]  # start, a, b, other
    [4]
    """
    pseudo_counts(smoothing)
    k, V = context_length(language, order), language.V
    counts: dict[tuple[int, ...], Array] = {}
    for sentence in encoded(language, corpus):
        for context, a in occurrences(language, k, sentence):
            key = (START, *context) if len(context) < k else context
            counts.setdefault(key, np.zeros(V))[a] += 1.0
    if not counts:
        refuse_strange(corpus)
    states, following = readers(language, [(START,), ()] if k else [()], [(*c, 0) for c in counts])
    total = np.array([counts.get(s, np.zeros(V)) for s in states]).T + smoothing
    mass = total.sum(axis=0)
    pi = np.where(mass > 0, total / np.where(mass > 0, mass, 1.0), 1.0 / V)
    zeros = np.zeros_like(pi)
    return Machine(following, zeros, zeros, 0, log_of(pi))
