r"""Ancestral sampling on a lattice: responses of a policy with the sums that path quantities are made of.

One uniform a token: the token is how many of the cumulative probabilities of the state's row it exceeds.  A sample is averaged by the same
f that `path.expect` averages exactly, and the standard error of that mean is exact too (`path.variance`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from tabular_rlhf.errors import InputError, a_generator, whole
from tabular_rlhf.lattice.policy import Policy
from tabular_rlhf.logspace import Array, log_sigmoid
from tabular_rlhf.mdp import Indices

MOST = 2**27
"""Tokens drawn at once."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """n responses: x (n,) their prompts, first (n,) their first tokens, L, log_p_ref, r, length (n,), and tokens (n, H), -1 after the end,
    or None."""

    x: Indices
    first: Indices
    L: Array
    log_p_ref: Array
    r: Array
    length: Array
    tokens: Any

    @property
    def log_p(self) -> Array:
        """log p of every response."""
        return self.log_p_ref + self.L

    def only(self, at: Any) -> Drawn:
        """Some of them, or all in another order.  Args: at, their numbers."""
        told = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: x[at] for name, x in told.items() if x is not None})


def sample(policy: Policy, n: int, *, rng: np.random.Generator, tokens: bool = False, x: Indices | None = None) -> Drawn:
    """n independent responses, x from mu, tokens from the policy.

    Args: tokens, whether to keep them; x (n,), the prompts, where they are given.  Raises: InputError for draws that do not fit.

    >>> from tabular_rlhf.lattice import Reference
    >>> from tabular_rlhf.world import coin
    >>> d = sample(Reference(coin()), 10_000, rng=np.random.default_rng(0)); bool(abs(d.r.mean() - 0.5) < 5 * 0.5 / 100)
    True
    """
    a_generator(rng)
    world = policy.world
    whole(n, "the number of draws", 1, "ask for n >= 1, and for so many as fit in memory", most=MOST // (world.H if tokens else 1))
    x = prompts(world.mu, n, rng=rng) if x is None else x
    L, log_p_ref, r, length = (np.zeros(n) for _ in range(4))
    said = np.full((n, world.H), -1, dtype=np.int32) if tokens else None
    live, state, first = np.arange(n), world.roots[x], np.zeros(0, dtype=np.intp)
    for h in range(world.H):
        level, pi = world.levels[h], policy.pi(h)
        a = _tokens(pi, state, rng)
        first = a if h == 0 else first
        edge = a * level.n + state
        L[live] += np.ravel(policy.ratio(h))[edge]
        log_p_ref[live] += np.ravel(level.log_ref)[edge]
        r[live] += np.ravel(level.r)[edge]
        length[live] += 1.0
        if said is not None:
            said[live, h] = a
        state = np.ravel(level.child)[edge]
        on = state < level.after
        live, state = live[on], state[on]
        if live.size == 0:
            break
    return Drawn(x, first, L, log_p_ref, r, length, said)


def preferred_first(pairs: Drawn, rng: np.random.Generator) -> Drawn:
    """2 n responses, i and n + i to one prompt, in the order that Bradley-Terry people put them: n preferred ones, then the others."""
    n = len(pairs.x) // 2
    here, first = np.arange(n), np.log(rng.random(n)) < log_sigmoid(pairs.r[:n] - pairs.r[n:])
    return pairs.only(np.concatenate([np.where(first, here, n + here), np.where(first, n + here, here)]))


def prompts(mu: Array, n: int, *, rng: np.random.Generator) -> Indices:
    """n prompts from mu, in order: (n,).

    >>> prompts(np.array([0.0, 1.0]), 3, rng=np.random.default_rng(0)).tolist()
    [1, 1, 1]
    """
    return np.sort(rng.choice(len(mu), size=n, p=mu)) if len(mu) > 1 else np.zeros(n, dtype=np.intp)


def _tokens(pi: Array, state: Indices, rng: np.random.Generator) -> Indices:
    """A token for every state: the first whose cumulative probability exceeds a uniform, in rows laid end to end."""
    V, n = pi.shape
    c = np.cumsum(pi.T, axis=1)
    c /= c[:, -1:]
    u = rng.random(len(state))
    at = np.searchsorted(np.ravel(c + np.arange(n)[:, None]), state + u, side="right") - state * V
    at = np.clip(at, 0, V - 1)
    bad = np.flatnonzero(pi[at, state] <= 0)  # s + u has fewer digits than u: where that leads to an impossible token, ask the row itself
    at[bad] = [int(np.argmax(c[state[i]] > u[i])) for i in bad]
    return np.asarray(at)


def texts(policy: Policy, drawn: Drawn) -> list[str]:
    """Drawn responses in words.  Raises: InputError where their tokens were not kept."""
    if drawn.tokens is None:
        raise InputError("tokens must be kept to be read", got="none", remedy="sample(..., tokens=True)")
    language: Any = policy.world.language
    return [language.sep.join(language.vocabulary[t] for t in row if t >= 0) for row in drawn.tokens]
