r"""What can be said: a vocabulary, a horizon, prompts with their distribution, and perhaps an end-of-sequence token.

**Symbols.** V tokens, horizon H, P prompts with distribution mu; K tokens after which one may go on: V, or V - 1 if the last token is
EOS.  Nothing here is of the size of the tree: a lattice speaks the same language as the tree of all responses (`mdp.TokenMDP`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from tabular_rlhf.errors import InputError, as_floats, quoted, whole
from tabular_rlhf.logspace import Array, log_of, read_only
from tabular_rlhf.registry import settle


@dataclass(frozen=True, eq=False)
class Language:
    """A vocabulary, a horizon, prompts with their distribution, and perhaps an end-of-sequence token: of any size.

    Args: as of `TokenMDP`.  Raises: InputError.

    >>> round(Language(("a", "b", "."), horizon=200, eos=".").log10_responses, 6)
    60.507029
    """

    vocabulary: tuple[str, ...]
    horizon: int
    eos: str | None = None
    prompts: tuple[str, ...] = ("",)
    mu: Array = field(default_factory=lambda: np.ones(1))
    sep: str = " "

    def __init__(
        self,
        vocabulary: int | Sequence[str],
        horizon: int,
        eos: str | int | None = None,
        prompts: Sequence[str] = ("",),
        mu: Any = None,
        sep: str = " ",
    ) -> None:
        check_words(sep, prompts)
        self._require_room(how_many(vocabulary), horizon, eos is not None, len(prompts))  # before anything of that size is made
        prompts = tuple(str(x) for x in prompts)
        names = _names(vocabulary, sep, None if eos is None else str(eos))
        if not prompts or len(set(prompts)) != len(prompts):
            raise InputError("prompts must be distinct and at least one", got=list(prompts), remedy="remove the repetition")
        settle(self, vocabulary=names, horizon=int(horizon), eos=None if eos is None else str(eos), prompts=prompts, sep=sep)
        settle(self, mu=_distribution(mu, len(prompts)))

    def _require_room(self, V: int, horizon: Any, eos: bool, P: int) -> None:
        """Refuse a horizon that is no number, and what has no room (here anything has)."""
        whole(horizon, "the horizon", 1, "count the tokens of the longest response")

    # ---------------------------------------------------------------- sizes
    @property
    def V(self) -> int:
        """Tokens."""
        return len(self.vocabulary)

    @property
    def H(self) -> int:
        """Horizon."""
        return self.horizon

    @property
    def P(self) -> int:
        """Prompts."""
        return len(self.prompts)

    @property
    def K(self) -> int:
        """Tokens after which the response may go on."""
        return self.V - (self.eos is not None)

    @cached_property
    def log_mu(self) -> Array:
        """log mu, (P,), -inf for prompts of probability zero."""
        return read_only(log_of(self.mu))

    @property
    def log10_responses(self) -> float:
        """log10 of the number of responses to a prompt."""
        K, ends = self.K, int(self.eos is not None)
        if K <= 1:
            return math.log10(1 + self.H * K * ends)
        return (self.H - 1) * math.log10(K) + math.log10(self.V + ends * (1.0 - float(K) ** (1 - self.H)) / (K - 1.0))

    # ---------------------------------------------------------------- words
    def parse(self, text: str | Sequence[str]) -> tuple[int, ...]:
        """Token numbers of a text.  Raises InputError naming an unknown token."""
        if isinstance(text, str):
            words = list(text) if self.sep == "" else [w for w in text.split(self.sep) if w]
            if self.sep == "" and self.eos and text.endswith(self.eos):
                words = [*text[: -len(self.eos)], self.eos]
        elif isinstance(text, Sequence):
            words = list(text)
        else:
            raise InputError(
                "a text must be a string or a list of tokens", got=quoted(text), remedy="write the tokens, with sep between them"
            )
        for i, w in enumerate(words):
            if not isinstance(w, str) or w not in self._number:
                known = ", ".join(map(repr, self.vocabulary[:8])) + (", ..." if self.V > 8 else "")
                raise InputError("every token must be in the vocabulary", got=quoted(w), where=f"token {i}", remedy=f"use one of {known}")
        return tuple(self._number[w] for w in words)

    @cached_property
    def _number(self) -> dict[str, int]:
        return {w: i for i, w in enumerate(self.vocabulary)}

    def _words(self, tokens: Any, prompt: int | None) -> str:
        if prompt is not None:
            whole(prompt, "the number of a prompt", 0, f"there are {self.P} prompts, from 0", self.P - 1)
        said = [self.vocabulary[t] for t in tokens if t >= 0]
        asked = [self.prompts[prompt]] if prompt is not None and self.prompts[prompt] else []
        return self.sep.join(asked + said)


# ---------------------------------------------------------------------------------------------------- refusals


def check_words(sep: Any, prompts: Any) -> None:
    """Refuse a separator that is no string, and prompts that are no list."""
    if not isinstance(sep, str):
        raise InputError("sep must be a string", got=quoted(sep), remedy='pass " " for words, "" for characters')
    if isinstance(prompts, str) or not isinstance(prompts, Collection):
        raise InputError("prompts must be a list of texts", got=quoted(prompts), remedy='pass ("Hi:",), or nothing for one empty prompt')


def how_many(vocabulary: int | Sequence[str]) -> int:
    if isinstance(vocabulary, int | np.integer) and not isinstance(vocabulary, bool):
        return int(vocabulary)
    if not isinstance(vocabulary, Collection):
        raise InputError("the vocabulary must be tokens, or how many", got=quoted(vocabulary), remedy='pass ("yes", "no", "."), or 3')
    return len(vocabulary)


def _names(vocabulary: int | Sequence[str], sep: str, eos: str | None) -> tuple[str, ...]:
    names = tuple(str(w) for w in (range(int(vocabulary)) if isinstance(vocabulary, int | np.integer) else vocabulary))
    if not names or len(set(names)) != len(names) or "" in names:
        raise InputError(
            "the vocabulary must be distinct non-empty tokens, at least one", got=list(names)[:20], remedy="name each token once"
        )
    if eos is not None and names[-1] != eos:
        raise InputError(
            "the EOS token must be the last of the vocabulary", got=f"last token {names[-1]!r}", remedy=f"put {eos!r} at the end"
        )
    for w in names[: len(names) - (eos is not None)]:
        if (sep and sep in w) or (not sep and len(w) != 1):
            what = f"contain no {sep!r}" if sep else "be single characters where sep is empty"
            raise InputError(f"tokens must {what}", got=quoted(w), where=f"token {names.index(w)}", remedy="choose another sep")
    return names


def _distribution(mu: Any, P: int) -> Array:
    if mu is None:
        return read_only(np.full(P, 1.0 / P))
    m = as_floats(mu, "mu", (P,))
    if (m < 0).any() or not math.isclose(math.fsum(m), 1.0, rel_tol=1e-9):
        raise InputError("mu must be a distribution over prompts", got=m.tolist(), remedy="divide non-negative weights by their sum")
    return read_only(m / math.fsum(m))
