r"""Policies: parameters in, log pi(a given s) out; and the reference policies that fine-tuning starts from.

**Symbols.** log_pi has shape (P, S, V), rows normalized; theta are a class's parameters.

    Tabular     log_pi = log_softmax(theta),                theta (P, S, V): every distribution over responses;
    NGram       log_pi(a given s) = log_softmax(theta)[c(s), a],   c(s) = the last k tokens (and perhaps the depth);
    LogLinear   log_pi = log_softmax(features . theta),     features (P, S, V, F).

**Theorem** (`policies-are-distributions`).  A distribution p over responses is the policy pi(a given s) = p(s+a)/p(s), so the
tabular class is *every* distribution.  The tied classes are not, and that is why projections matter.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn, Protocol

import numpy as np

from tabular_rlhf.errors import InputError, a_generator, as_floats, as_number, floats, positive, quoted, whole
from tabular_rlhf.kernels import masses
from tabular_rlhf.language import Language
from tabular_rlhf.logspace import NORMALIZED, Array, log_of, log_softmax, read_only
from tabular_rlhf.mdp import Indices, TokenMDP, numbers, table
from tabular_rlhf.registry import settle


class PolicyClass(Protocol):
    """What every policy class offers: the shape of its parameters, and the map from them to log_pi."""

    @property
    def mdp(self) -> TokenMDP: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    def log_pi(self, theta: Any) -> Any: ...


def token_major(mdp: TokenMDP) -> Array:
    """An empty (P, S, V) array whose memory runs along states, as sweeps like it."""
    return np.swapaxes(np.zeros((mdp.P, mdp.V, mdp.S)), 1, 2)


def _parameters(policy: PolicyClass, theta: Any) -> Any:
    return table(theta, "theta", policy.shape)


def owned(x: Array) -> Array:
    """`x` as an array that nobody can write into: itself if that is so already, else a copy."""
    base: Any = x
    while isinstance(base, np.ndarray) and not base.flags.writeable:
        base = base.base
    return x if base is None else read_only(np.array(x, order="K"))


@dataclass(frozen=True)
class Tabular:
    """One logit for every prompt, state and token: the class of all distributions over responses.

    Args: mdp.  Its `shape` is that of theta, (P, S, V); `log_pi(theta)` is log_softmax(theta), nats.
    Raises: InputError by `log_pi`, for theta of another shape.

    >>> m = TokenMDP(2, horizon=1)
    >>> Tabular(m).log_pi(np.array([[[0.0, np.log(3.0)]]])).round(4).tolist()
    [[[-1.3863, -0.2877]]]
    """

    mdp: TokenMDP

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.mdp.P, self.mdp.S, self.mdp.V)

    def log_pi(self, theta: Any) -> Any:
        return log_softmax(_parameters(self, theta))


@dataclass(frozen=True)
class NGram:
    """States that share their last k tokens share a row; `log_pi(theta)` (P, S, V), nats, for theta of `shape` (contexts, V).

    Args: mdp; k >= 0, tokens of context; positional, whether the depth belongs to the context; the prompt is never part of it.
    Raises: InputError for a k that is no whole number, or negative; by `log_pi`, for theta of another shape.

    >>> NGram(TokenMDP(2, horizon=3), k=1).shape
    (3, 2)
    """

    mdp: TokenMDP
    k: int
    positional: bool = False

    def __post_init__(self) -> None:
        remedy = "k is the number of context tokens"
        if whole(self.k, "the n-gram order", -(2**62), remedy) < 0:
            raise InputError("the n-gram order must be at least 0", got=self.k, remedy=remedy)

    @cached_property
    def context(self) -> Indices:
        """c(s) for every state: (S,), numbers 0..C-1 in order of first appearance.

        In a level the last token moves slowest, so a suffix of k tokens is the state's number // K^(h-k)."""
        parts, shift = [], 0
        for h in range(self.mdp.H):
            k = min(self.k, h)
            first = shift if self.positional or h <= self.k else shift - self.mdp.width(k)
            parts.append(first + np.arange(self.mdp.width(h)) // max(1, self.mdp.width(h - k)))
            shift = max(shift, first + self.mdp.width(k))
        context: Indices = np.concatenate(parts).astype(np.intp)
        context.setflags(write=False)
        return context

    @cached_property
    def shape(self) -> tuple[int, ...]:
        return (int(self.context.max()) + 1, self.mdp.V)

    def log_pi(self, theta: Any) -> Any:
        rows = np.swapaxes(log_softmax(_parameters(self, theta)), 0, 1)[:, self.context]  # (V, S): token-major
        return np.swapaxes(np.broadcast_to(rows[None], (self.mdp.P, self.mdp.V, self.mdp.S)), 1, 2)


@dataclass(frozen=True, eq=False)
class LogLinear:
    """log_pi = log_softmax(features . theta), (P, S, V), nats, for theta (F,).

    Args: mdp; features phi(x, s, a) of shape (P, S, V, F).
    Raises: InputError for features of another shape, or not finite; by `log_pi`, for theta of another shape.

    >>> m = TokenMDP(2, horizon=1)
    >>> LogLinear(m, np.array([[[[0.0], [1.0]]]])).log_pi(np.array([np.log(3.0)])).round(4).tolist()
    [[[-1.3863, -0.2877]]]
    """

    mdp: TokenMDP
    features: Array

    def __post_init__(self) -> None:
        expected = (self.mdp.P, self.mdp.S, self.mdp.V)
        features = as_floats(self.features, "features")
        if features.ndim != 4 or features.shape[:-1] != expected:
            raise InputError(
                f"features must have shape {(*expected, 'F')}", got=features.shape, remedy="one vector for every prompt, state, token"
            )
        settle(self, features=owned(features))

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.features.shape[-1],)

    def log_pi(self, theta: Any) -> Any:
        return log_softmax(np.matmul(self.features, _parameters(self, theta)))


# ---------------------------------------------------------------------------------------------------- references


def check_log_pi(mdp: TokenMDP, log_pi: Any, name: str = "log_pi") -> Array:
    """`log_pi` if it is a policy of this MDP: right shape, no nan, every row normalized (-inf forbids a token)."""
    a = floats(log_pi, name, (mdp.P, mdp.S, mdp.V))
    least, most = 1.0 - NORMALIZED, 1.0 + NORMALIZED
    for start, total in masses(a):
        if not (np.min(total) >= least and np.max(total) <= most):
            as_floats(a, name, minus_inf=True)
            x, s = (int(i) for i in np.argwhere((total < least) | (total > most))[0])
            words = mdp.state_text(start + s, x)
            raise InputError(
                f"{name} must normalize in every state",
                got=f"a sum of {total[x, s]:.6g}",
                where=f"prompt {x}, state {start + s} ({words!r})",
                remedy="allow a token there" if total[x, s] == 0 else "pass logits through log_softmax",
            )
    return a


def uniform(mdp: TokenMDP) -> Array:
    """Every token with probability 1/V: log_pi of shape (P, S, V)."""
    return token_major(mdp) - np.log(mdp.V)


def dirichlet(mdp: TokenMDP, concentration: float = 1.0, *, rng: np.random.Generator) -> Array:
    """Rows drawn from a symmetric Dirichlet distribution; a small concentration makes them peaked."""
    alpha = positive(concentration, "concentration", "pseudo-counts")
    a_generator(rng)
    # log of a Gamma(alpha) draw as log Gamma(alpha + 1) + log(U)/alpha, which cannot underflow
    shape = (mdp.P, mdp.V, mdp.S)
    logits = np.log(rng.standard_gamma(alpha + 1.0, shape)) - rng.standard_exponential(shape) / alpha
    log_pi: Array = log_softmax(np.swapaxes(logits, 1, 2))
    return log_pi


def forbid(mdp: TokenMDP, log_pi: Any, tokens: Iterable[str], states: Any = None) -> Array:
    """The policy with some tokens forbidden (log-probability -inf), renormalized.

    Args: tokens, names; states, numbers of the states in question (all by default).

    >>> m = TokenMDP(3, horizon=1)
    >>> np.exp(forbid(m, uniform(m), ["1"])).round(3).tolist()
    [[[0.5, 0.0, 0.5]]]
    """
    out = np.array(as_floats(log_pi, "log_pi", (mdp.P, mdp.S, mdp.V), minus_inf=True), order="K")
    columns = list(mdp.parse(list(tokens)))
    rows = np.arange(mdp.S) if states is None else np.atleast_1d(numbers(states, "states", mdp.S, "find_state"))
    out[:, rows[:, None], columns] = -np.inf
    dead = np.all(np.isneginf(out), axis=-1)
    if dead.any():
        s = int(np.argwhere(dead)[0][1])
        raise InputError(
            "every state must allow some token", got="all forbidden", where=f"state {s} ({mdp.state_text(s)!r})", remedy="forbid fewer"
        )
    log_pi_: Array = log_softmax(out)
    return log_pi_


def from_text(mdp: TokenMDP, corpus: str | Sequence[str], order: int = 1, smoothing: float = 0.1) -> Array:
    r"""The order-k Markov policy estimated from text, with additive smoothing.

        pi(a given c) = (count(c, a) + smoothing) / (count(c) + smoothing V),     c = the last k tokens.

    Every sentence (string of the sequence, or line of the text) starts afresh and, if the vocabulary has EOS, ends with
    it (once, if the text writes it).  A word outside the vocabulary interrupts the context: nothing is counted across it.

    Args: corpus; order k >= 0; smoothing >= 0, pseudo-counts.  Raises InputError for a corpus with no known word.

    >>> m = TokenMDP(("a", "b", "."), horizon=2, eos=".", sep="")
    >>> np.exp(from_text(m, ["ab", "aa"], order=1, smoothing=0.0))[0].round(3).tolist()
    [[1.0, 0.0, 0.0], [0.333, 0.333, 0.333], [0.0, 0.0, 1.0]]
    """
    pseudo_counts(smoothing)
    tied = NGram(mdp, order)
    counts = np.zeros(tied.shape)
    for sentence in encoded(mdp, corpus):
        for context, a in occurrences(mdp, context_length(mdp, order), sentence):
            state = mdp.offsets[len(context)] + sum(t * mdp.K**i for i, t in enumerate(context))
            counts[tied.context[state], a] += 1
    if not counts.any():
        refuse_strange(corpus)
    total = counts.sum(axis=1, keepdims=True) + smoothing * mdp.V
    pi = np.where(total > 0, (counts + smoothing) / np.where(total > 0, total, 1.0), 1.0 / mdp.V)
    log_pi: Array = tied.log_pi(log_of(pi))
    return log_pi


def pseudo_counts(smoothing: float) -> None:
    """Refuse a smoothing that is no number of counts."""
    if not 0 <= as_number(smoothing) < np.inf:
        raise InputError("smoothing must be at least 0", got=smoothing, remedy="0.1 is usual; 0 leaves unseen contexts uniform")


def context_length(language: Language, order: int) -> int:
    """How many tokens of context are ever seen: the order, or all but one of the horizon.  Raises: InputError for no order.

    >>> context_length(TokenMDP(2, horizon=2), 3)
    1
    """
    remedy = "k is the number of context tokens"
    if whole(order, "the n-gram order", -(2**62), remedy) < 0:
        raise InputError("the n-gram order must be at least 0", got=order, remedy=remedy)
    return min(int(order), language.H - 1)


def encoded(language: Language, corpus: str | Sequence[str]) -> list[list[int]]:
    """The sentences of a corpus as token numbers, -1 for an unknown word.

    >>> encoded(TokenMDP(("a", "b"), horizon=2, sep=""), ["ab", "bc"])
    [[0, 1], [1, -1]]
    """
    if not isinstance(corpus, str) and not (isinstance(corpus, Iterable) and all(isinstance(s, str) for s in corpus)):
        raise InputError("the corpus must be a text or a list of sentences", got=quoted(corpus)[:80], remedy="pass strings")
    sentences = [s for s in (corpus.splitlines() if isinstance(corpus, str) else corpus) if s.strip()]
    number = {w: i for i, w in enumerate(language.vocabulary)}
    return [[number.get(w, -1) for w in (list(s) if language.sep == "" else s.split(language.sep))] for s in sentences]


def refuse_strange(corpus: str | Sequence[str]) -> NoReturn:
    """Raise: no word of the corpus is in the vocabulary."""
    count = len([s for s in (corpus.splitlines() if isinstance(corpus, str) else corpus) if s.strip()])
    raise InputError("the corpus must contain words of the vocabulary", got=f"{count} sentences without any", remedy="check sep and case")


def occurrences(language: Language, k: int, sentence: Sequence[int]) -> Iterator[tuple[tuple[int, ...], int]]:
    """(context, token) wherever all of the context is known: its last k tokens, or all since the sentence began; -1 is an unknown word.

    >>> list(occurrences(TokenMDP(("a", "b", "."), horizon=3, eos=".", sep=""), 1, [0, 1]))
    [((), 0), ((0,), 1), ((1,), 2)]
    """
    eos = language.V - 1 if language.eos is not None else None
    known: list[int] = []  # the tokens since the start, or since an unknown word
    complete = True  # whether `known` reaches back to the start
    for a in [*sentence, *([] if eos is None or list(sentence[-1:]) == [eos] else [eos])]:
        if a >= 0 and (complete or len(known) >= k):
            yield tuple(known[max(0, len(known) - k) :]), a
        known, complete = ([*known, a][-max(1, k) :], complete) if a >= 0 and a != eos else ([], False)


def zen() -> list[str]:
    """The sentences of the text that ships in Python's own `this` module, read without importing (that would print it)."""
    import ast
    from importlib.abc import InspectLoader
    from importlib.util import find_spec

    spec = find_spec("this")
    source = spec.loader.get_source("this") if spec is not None and isinstance(spec.loader, InspectLoader) else None
    for node in ast.walk(ast.parse(source or "")):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines = codecs.decode(node.value.value, "rot13").splitlines()
            return [line.strip().rstrip(".!").lower() for line in lines[2:]]
    raise InputError("Python's `this` module must hold its text", got="none", remedy="use a Python with its standard library's sources")
