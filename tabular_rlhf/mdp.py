r"""Language as a Markov decision process: prompts, tokens, and the prefix tree of everything that can be said.

**Symbols.** V tokens, horizon H, P prompts with distribution mu.  A decision state s_h is the prompt and the first h
tokens; choosing token a leads to s_h + a (deterministically).  A trajectory (response) tau ends at EOS or at depth H.
K is the number of tokens after which one may go on: V, or V - 1 if the last token is EOS.

    S = sum over h < H of K^h            decision states per prompt,
    N = sum over h < H - 1 of K^h, plus K^(H-1) V      trajectories per prompt with EOS;   V^H without.

**Layout.**  Level h of the tree is one contiguous block of K^h states.  The state s_h = (a_0, ..., a_{h-1}) has number
sum_i a_i K^i in its level, so that child (s, a) has number  s + a K^h: the children of a level, token by token, *are* the
next level.  A sweep is then a broadcast, a reduction over tokens and a reshape, with no gathers:

    forward   (P, 1, K^h) + (P, V, K^h)  ->  the next level is the live part, reshaped to (P, K^(h+1));
    backward  (P, V, K^h)  ->  reduce over V  ->  (P, K^h).

A finished trajectory that stops with EOS at state s has the number of s; the last level's children come after.
Policy arrays have shape (P, S, V) for people and are stored token-major (P, V, S) in memory; no caller needs to know.

**Theorem.**  Summing x(s, a) along a trajectory (`path_sum`) and summing f(tau) over the trajectories through (s, a)
(`subtree_sum`) are transposes: <path_sum(x), f> = <x, subtree_sum(f)>.  So each is the other's gradient rule.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tabular_rlhf.autodiff import Traced, primitive
from tabular_rlhf.errors import InputError, as_floats, quoted, shown, whole
from tabular_rlhf.language import Language
from tabular_rlhf.logspace import Array

Indices = np.ndarray[Any, np.dtype[np.intp]]
MAX_BYTES = 2 * 2**30
"""Worlds whose working arrays would exceed this are refused."""
NAME = 64
"""Bytes that the name of a token or a prompt takes."""


@dataclass(frozen=True, eq=False, init=False)
class TokenMDP(Language):
    """A vocabulary, a horizon, prompts with their distribution, and perhaps an end-of-sequence token.

    Args:
        vocabulary: token names, the EOS token last; or an integer V, for tokens "0", ..., "V-1".
        horizon: H >= 1, the largest number of tokens.
        eos: name of the EOS token (it must be the last of the vocabulary), or None.
        prompts: their texts.  mu: their distribution (P,), uniform by default.
        sep: what stands between tokens in text: " " for words, "" for characters.
    Raises: InputError, also for a tree that would not fit in memory (it names the count and the bytes).

    >>> m = TokenMDP(("the", "cat", "."), horizon=3, eos=".")
    >>> m.find("cat")
    Traceback (most recent call last):
    ...
    tabular_rlhf.errors.InputError: a response must end with '.' or have 3 tokens: got 1 tokens ('cat'); append the EOS token
    >>> m.S, m.N, m.text(m.find("the cat ."))
    (7, 15, 'the cat .')
    """

    def _require_room(self, V: int, horizon: Any, eos: bool, P: int) -> None:
        check_size(V, horizon, eos, P)

    # ---------------------------------------------------------------- sizes
    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """First state of each level, and S at the end."""
        starts = [0]
        for h in range(self.H):
            starts.append(starts[-1] + self.K**h)
        return tuple(starts)

    @property
    def S(self) -> int:
        """Decision states per prompt."""
        return self.offsets[-1]

    @property
    def last_block(self) -> int:
        """Number of the first trajectory that ends at depth H (before it: those that stop earlier)."""
        return self.offsets[self.H - 1] if self.eos is not None else 0

    @property
    def N(self) -> int:
        """Trajectories per prompt."""
        return self.last_block + self.width(self.H - 1) * self.V

    def width(self, h: int) -> int:
        """States of level h, K^h."""
        return int(self.K**h)

    # ---------------------------------------------------------------- sweeps
    def levels(self, x: Any) -> list[Any]:
        """Split a (P, S, V) array into its levels, each a view of shape (P, V, K^h)."""
        token_major = np.swapaxes(x, 1, 2)
        return [token_major[:, :, start:stop] for start, stop in itertools.pairwise(self.offsets)]

    def path_sum(self, x: Any) -> Any:
        """sum over h of x(s_h, a_h) along every trajectory: (P, S, V) -> (P, N).  With x = log_pi: log p_pi(tau given x).

        >>> m = TokenMDP(2, horizon=2)
        >>> m.path_sum(np.log(np.full((1, 3, 2), 0.5))).round(4).tolist()
        [[-1.3863, -1.3863, -1.3863, -1.3863]]
        """
        return _path_sum(self, table(x, "x", (self.P, self.S, self.V)))

    def subtree_sum(self, f: Any) -> Any:
        """sum of f(tau) over the trajectories through (s, a): (P, N) -> (P, S, V).  With f = p: the mass d(s) pi(a given s)."""
        return _subtree_sum(self, table(f, "f", (self.P, self.N)))

    def prefix_sum(self, x: Any) -> Any:
        """sum of x along the path to every state: (P, S, V) -> (P, S).  With x = log_pi: log d_pi(s), the occupancy."""
        x = table(x, "x", (self.P, self.S, self.V))
        here = np.zeros((self.P, 1))
        parts = [here]
        for level in self.levels(x)[:-1]:
            here = np.reshape(here[:, None, :] + level[:, : self.K], (self.P, -1))
            parts.append(here)
        return np.concatenate(parts, axis=1)

    def backup(self, leaf: Any, reduce: Callable[[int, Any], Any]) -> tuple[Any, Any]:
        """The backward sweep.  Q(s, a) is the value of s + a, a leaf value or V(s + a); V = reduce(h, Q_h).

        Args: leaf, (P, N); reduce, maps (h, (P, V, K^h)) to (P, K^h).  Returns: V of shape (P, S) and Q of shape (P, S, V).
        """
        P, H, K = self.P, self.H, self.K
        leaf = table(leaf, "leaf", (P, self.N))
        values: list[Any] = []
        tables: list[Any] = []
        for h in reversed(range(H)):
            start, width = self.offsets[h], K**h
            if h == H - 1:
                Q = np.reshape(leaf[:, self.last_block :], (P, self.V, width))
            else:
                Q = np.reshape(values[-1], (P, K, width))
                if self.eos is not None:
                    Q = np.concatenate([Q, leaf[:, None, start : start + width]], axis=1)
            tables.append(Q)
            values.append(reduce(h, Q))
        V_all = np.concatenate(values[::-1], axis=1)
        Q_all = np.swapaxes(np.concatenate(tables[::-1], axis=2), 1, 2)
        return V_all, Q_all

    # ---------------------------------------------------------------- words
    @cached_property
    def lengths(self) -> Indices:
        """Number of tokens of every trajectory, EOS counted: (N,)."""
        lengths: Indices = np.rint(self.path_sum(np.ones((self.P, self.S, self.V)))[0]).astype(np.intp)
        lengths.setflags(write=False)
        return lengths

    def state_tokens(self, states: Any = None) -> Indices:
        """Tokens of states: (n,) -> (n, H), padded with -1.  All states by default."""
        s = np.arange(self.S) if states is None else numbers(states, "states", self.S, "find_state")
        level = np.searchsorted(self.offsets, s, side="right") - 1
        return self._digits(s - np.asarray(self.offsets)[level], level)

    def _digits(self, number: Any, length: Any) -> Indices:
        base = max(1, self.K)
        powers = np.array([base**i for i in range(self.H)], dtype=np.intp)
        digits = number[..., None] // powers % base
        return np.asarray(np.where(np.arange(self.H) < np.asarray(length)[..., None], digits, -1), dtype=np.intp)

    def tokens(self, tau: Any = None) -> Indices:
        """Tokens of trajectories: (n,) -> (n, H), padded with -1 after the end.  All trajectories by default."""
        t = np.arange(self.N) if tau is None else numbers(tau, "trajectories", self.N, "find")
        block = self.K ** (self.H - 1)
        full = t >= self.last_block
        parent = np.where(full, self.offsets[self.H - 1] + (t - self.last_block) % max(1, block), t)
        final = np.where(full, (t - self.last_block) // max(1, block), self.V - 1)
        out = self.state_tokens(parent)
        depth = np.sum(out >= 0, axis=-1)
        np.put_along_axis(out, depth[..., None], final[..., None], axis=-1)
        return out

    @cached_property
    def lexicographic(self) -> Indices:
        """The trajectories in dictionary order (by token number): a permutation of 0..N-1."""
        order: Indices = np.lexsort(self.tokens().T[::-1])
        order.setflags(write=False)
        return order

    def find(self, text: str | Sequence[str]) -> int:
        """Number of the trajectory that reads `text`."""
        a = self.parse(text)
        shown = self.sep.join(self.vocabulary[i] for i in a)
        stops = [i for i, t in enumerate(a) if self.eos is not None and t == self.V - 1]
        if len(a) > self.H or (stops and stops[0] != len(a) - 1):
            raise InputError(f"a response has at most {self.H} tokens and nothing after EOS", got=quoted(shown), remedy="shorten it")
        if not stops and len(a) < self.H:
            ending = f"end with {self.eos!r} or " if self.eos is not None else ""
            remedy = "append the EOS token" if self.eos is not None else "write the whole response"
            raise InputError(f"a response must {ending}have {self.H} tokens", got=f"{len(a)} tokens ({shown!r})", remedy=remedy)
        parent = sum(t * self.K**i for i, t in enumerate(a[:-1]))
        return int(self.offsets[len(a) - 1] + parent if len(a) < self.H else self.last_block + parent + a[-1] * self.width(self.H - 1))

    def find_state(self, text: str | Sequence[str]) -> int:
        """Number of the decision state that reads `text` (the empty text is the root)."""
        a = self.parse(text)
        if len(a) >= self.H or any(t >= self.K for t in a):
            raise InputError(f"a decision state has fewer than {self.H} tokens and no EOS", got=quoted(text), remedy="shorten it")
        return int(self.offsets[len(a)] + sum(t * self.K**i for i, t in enumerate(a)))

    def text(self, tau: int, prompt: int | None = None) -> str:
        """Trajectory `tau` in words, after the prompt's text if its number is given."""
        return self._words(self.tokens(np.array([tau]))[0], prompt)

    def state_text(self, state: int, prompt: int | None = None) -> str:
        """State `state` in words."""
        return self._words(self.state_tokens(np.array([state]))[0], prompt)

    def phrase_count(self, phrase: str | Sequence[str]) -> Array:
        """How often each trajectory says the phrase: (N,), by a feature of (state, token) summed along the path.

        >>> m = TokenMDP(("a", "b"), horizon=3, sep="")
        >>> m.phrase_count("ab")[m.find("aab")].item(), m.phrase_count("a")[m.find("aab")].item()
        (1.0, 2.0)
        """
        *before, last = self.parse(phrase) or _refuse_empty_phrase()
        says = np.zeros((1, self.V, self.S))
        k = len(before)
        if all(t < self.K for t in before):
            code = sum(t * self.K**i for i, t in enumerate(before))
            for h in range(k, self.H):
                suffix = np.arange(self.K**h) // max(1, self.K ** (h - k))
                says[0, last, self.offsets[h] : self.offsets[h + 1]] = suffix == code
        one_prompt = says if self.P == 1 else np.broadcast_to(says, (self.P, self.V, self.S))
        counts: Array = self.path_sum(np.swapaxes(one_prompt, 1, 2))[0]
        return counts


def _refuse_empty_phrase() -> tuple[int, ...]:
    raise InputError("a phrase must have at least one token", got="''", remedy="remove it")


def _path_sum_plain(mdp: TokenMDP, x: Any) -> Any:
    P, V, K, H = mdp.P, mdp.V, mdp.K, mdp.H
    out = np.empty((P, mdp.N), dtype=x.dtype)
    here = np.zeros((P, 1), dtype=x.dtype)
    for h, level in enumerate(mdp.levels(x)):
        start, width = mdp.offsets[h], K**h
        if h == H - 1:
            np.add(level, here[:, None, :], out=np.reshape(out[:, mdp.last_block :], (P, V, width)))
        else:
            if mdp.eos is not None:
                np.add(here, level[:, K], out=out[:, start : start + width])
            here = (here[:, None, :] + level[:, :K]).reshape(P, K * width)
    return out


def _subtree_sum_plain(mdp: TokenMDP, f: Any) -> Any:
    P, V, K, H = mdp.P, mdp.V, mdp.K, mdp.H
    out = np.empty((P, V, mdp.S), dtype=f.dtype)
    total = np.empty((P, 0))
    for h in reversed(range(H)):
        start, width = mdp.offsets[h], K**h
        level = out[:, :, start : start + width]
        if h == H - 1:
            children = np.reshape(f[:, mdp.last_block :], (P, V, width))
            level[...] = children
            total = np.add.reduce(children, axis=1)
        else:
            level[:, :K] = np.reshape(total, (P, K, width))
            if mdp.eos is not None:
                level[:, K] = f[:, start : start + width]
            total = np.add.reduce(level, axis=1)
    return np.swapaxes(out, 1, 2)


_path_sum: Callable[[TokenMDP, Any], Any] = primitive(_path_sum_plain, None, lambda g, y, mdp, x: _subtree_sum(mdp, g))
_subtree_sum: Callable[[TokenMDP, Any], Any] = primitive(_subtree_sum_plain, None, lambda g, y, mdp, f: _path_sum(mdp, g))


# ---------------------------------------------------------------------------------------------------- refusals


def tree_counts(V: int, H: int, eos: bool) -> tuple[int, int]:
    """(S, N) per prompt, in whole numbers of any size.

    >>> tree_counts(3, 3, True), tree_counts(2, 20, False)
    ((7, 15), (1048575, 1048576))
    """
    K = V - eos
    states = [K**h for h in range(H)]
    return sum(states), (sum(states[:-1]) if eos else 0) + states[-1] * V


def check_size(V: int, horizon: Any, eos: bool, P: int) -> None:
    """Refuse a tree that would not fit in memory, with its count and bytes, before anything is made of it."""
    whole(horizon, "the horizon", 1, "count the tokens of the longest response")
    if horizon > 10_000:
        raise InputError("the horizon must be at most 10000", got=horizon, remedy="shorten it")
    if V > 1 and horizon * math.log2(V - eos) > 4096:
        raise InputError("the tree must fit in memory", got=f"about {shown(V - eos)}^{horizon} trajectories", remedy="shorten the horizon")
    S, N = tree_counts(max(V, int(eos)), int(horizon), eos)
    size = 8 * P * (4 * N + 3 * S * V) + NAME * (V + P)
    if size > MAX_BYTES:
        count = f"{P * N:,}" if P * N < 10**15 else f"{float(P * N):.3g}" if P * N < 10**300 else "more than 10^300"
        raise InputError(
            f"the tree must fit in {MAX_BYTES / 2**30:.3g} GiB",
            got=f"{count} trajectories, {float(min(size, 10**300)):.3g} bytes of working arrays",
            remedy="shorten the horizon, shrink the vocabulary, or raise tabular_rlhf.mdp.MAX_BYTES",
        )


def table(x: Any, name: str, shape: tuple[int, ...]) -> Any:
    """`x`, traced or plain, as floats of the given shape; what values they have is left open."""
    if not (isinstance(x, Traced) or (isinstance(x, np.ndarray) and x.dtype.kind == "f")):
        return as_floats(x, name, shape, minus_inf=True)
    if x.shape != shape:
        as_floats(np.broadcast_to(0.0, x.shape), name, shape)
    return x


def numbers(x: Any, name: str, count: int, find: str) -> Indices:
    """`x` as an array of whole numbers from 0 to count - 1."""
    a = np.asarray(x)
    if a.size and (a.dtype.kind not in "iu" or a.min() < 0 or a.max() >= count):
        got = [a.min().item(), a.max().item()] if a.dtype.kind in "iuf" else quoted(x)
        raise InputError(f"{name} must be whole numbers in 0..{count - 1}", got=got, remedy=f"use {find}(text)")
    return a.astype(np.intp)
