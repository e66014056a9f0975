"""The two objects that an answer may ask for, `mdp` and `tied`, as the plain values that build them again: no pickle crosses the pipe.

    TokenMDP  <->  (vocabulary, horizon, eos, prompts, mu, sep)         NGram  <->  (mdp, k, positional)

The grader takes them apart; the child builds them with the package's own classes, which it imports only then.  The way is one-way: the
grader builds nothing that comes back.  The module is loaded by its path in the child, so it imports nothing of the package at first.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any


def apart(x: Any) -> tuple[str, tuple[Any, ...]] | None:
    """The name of an object's class and what builds it; None for whatever is neither of the two.

    >>> from tabular_rlhf import TokenMDP
    >>> apart(TokenMDP(("a", "."), horizon=2, eos="."))
    ('TokenMDP', (('a', '.'), 2, '.', ('',), (1.0,), ' '))
    """
    from tabular_rlhf.mdp import TokenMDP
    from tabular_rlhf.policy import NGram

    if type(x) is TokenMDP:
        return "TokenMDP", (x.vocabulary, x.horizon, x.eos, x.prompts, tuple(x.mu.tolist()), x.sep)
    if type(x) is NGram:
        return "NGram", (x.mdp, x.k, x.positional)
    return None


@lru_cache(maxsize=16)  # the same values give the same object: what it computes once it keeps, and `tied.mdp is mdp`
def build(name: str, parts: tuple[Any, ...]) -> Any:
    """The object again.

    >>> tied = build("NGram", (build("TokenMDP", (3, 2)), 1))
    >>> tied.shape, tied.mdp is build("TokenMDP", (3, 2))
    ((4, 3), True)
    """
    from tabular_rlhf.mdp import TokenMDP
    from tabular_rlhf.policy import NGram

    classes: dict[str, Any] = {"TokenMDP": TokenMDP, "NGram": NGram}
    return classes[name](*parts)
