r"""Lattices in jax and torch: the same world, a scan (or a loop) over its levels.  As in `peers`.

Answers: `counts` log Z and the expected uses of every (state, token) before the last level; `reward` log Z and E r under the optimum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tabular_rlhf.bench.peers import Peers, Runner, compiled, the_jax, the_torch
from tabular_rlhf.language import Language
from tabular_rlhf.lattice import LatticeWorld
from tabular_rlhf.logspace import Array
from tabular_rlhf.machines import lattice, ngram, phrases, product

LETTERS = "abcdefghijklmnopqrstuvwxyz "
PAID = ("please", "thanks", "sorry", "welcome", "tomorrow", "cold")


@dataclass(frozen=True)
class Letters:
    """Trigrams of V letters over a horizon H, and phrases that are paid for: 775 states for V = 27."""

    V: int = 27
    H: int = 200
    beta: float = 0.3

    @cached_property
    def world(self) -> LatticeWorld:
        rng = np.random.default_rng(0)
        names = (*LETTERS[: self.V - 1], " ")
        likely = np.cumsum(rng.dirichlet(np.full(self.V, 0.3), size=self.V), axis=1)
        text, here = [], 0
        for u, v in rng.random((60_000, 2)):
            here = min(self.V - 1, int(np.searchsorted(likely[here], u / 0.7))) if u < 0.7 else int(v * self.V)
            text.append(names[here])
        x = Language(names, self.H, sep="")
        paid: dict[str | Sequence[str], float] = {p: 1.0 for p in PAID if set(p) <= set(names)} or {"ab": 1.0, "abc": -1.0}
        return lattice(x, product(x, [ngram(x, ["".join(text)], 2, 0.1), phrases(x, paid)]), self.beta)

    @property
    def name(self) -> str:
        return f"V={self.V} H={self.H}"

    @cached_property
    def parts(self) -> tuple[Array, Array, Array, Any, int]:
        """log_ref, r, r of the last level, child (V, n), and the root."""
        first, last = self.world.levels[0], self.world.levels[-1]
        return first.log_ref, first.r, last.r, first.child, int(self.world.roots[0])


def _jax(case: Letters) -> tuple[Any, ...]:
    jax, jnp = the_jax()
    *tables, root = case.parts
    return jax, jnp, *map(jnp.asarray, tables), root


def _log_Z(case: Letters, *, linear: bool) -> Callable[[Any, Any], Any]:
    """log Z from log weights of edges and of those of the last level: a scan of logsumexp, as safe as ours, or (linear) a scan of weights
    that are scaled by their largest at every level, without a look at their range."""
    jax, jnp, _, _, _, child, root = _jax(case)

    def safe(edges: Any, end: Any) -> Any:
        v = jax.nn.logsumexp(end, axis=0)
        v, _ = jax.lax.scan(lambda v, _: (jax.nn.logsumexp(edges + v[child], axis=0), None), v, None, length=case.H - 1)
        return v[root]

    def scaled(edges: Any, end: Any) -> Any:
        weight = jnp.exp(edges)

        def step(carry: Any, _: Any) -> Any:
            z, scale = carry
            z = jnp.sum(weight * z[child], axis=0)
            top = jax.lax.stop_gradient(jnp.max(z))
            return (z / top, scale + jnp.log(top)), None

        (z, scale), _ = jax.lax.scan(step, (jnp.sum(jnp.exp(end), axis=0), 0.0), None, length=case.H - 1)
        return jnp.log(z[root]) + scale

    return scaled if linear else safe


def jax_counts(case: Letters, *, linear: bool = False) -> Runner:
    """log Z in log space; counts are its gradient in log weights."""
    jax, _, log_ref, r, last, *_ = _jax(case)
    log_Z = _log_Z(case, linear=linear)
    return compiled(jax, jax.value_and_grad(lambda edges: log_Z(edges, log_ref + last / case.beta)), log_ref + r / case.beta)


def jax_counts_linear(case: Letters) -> Runner:
    """The same with weights."""
    return jax_counts(case, linear=True)


def jax_reward(case: Letters, *, linear: bool = False) -> Runner:
    """E r = d log Z / d(1/beta), forward, in log space."""
    jax, _, log_ref, r, last, *_ = _jax(case)
    log_Z = _log_Z(case, linear=linear)
    return compiled(jax, lambda b: jax.jvp(lambda b: log_Z(log_ref + r * b, log_ref + last * b), (b,), (1.0,)), 1.0 / case.beta)


def jax_reward_linear(case: Letters) -> Runner:
    """The same with weights."""
    return jax_reward(case, linear=True)


def torch_counts(case: Letters) -> Runner:
    """A loop of logsumexp, and autograd."""
    torch = the_torch()
    log_ref, r, last, child, root = case.parts
    place = torch.tensor(child)
    start = torch.tensor(log_ref + last / case.beta)

    def run() -> Any:
        edges = torch.tensor(log_ref + r / case.beta, requires_grad=True)
        v = torch.logsumexp(start, 0)
        for _ in range(case.H - 1):
            v = torch.logsumexp(edges + v[place], 0)
        return v[root].item(), torch.autograd.grad(v[root], edges)[0]

    return run


COUNTS: Peers = {"jax": (jax_counts, jax_counts_linear), "torch": (torch_counts,)}
REWARD: Peers = {"jax": (jax_reward, jax_reward_linear)}
