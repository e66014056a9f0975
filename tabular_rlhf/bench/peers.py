r"""The peers: the same workloads in torch, jax and HIPS autograd, each in the best formulations that we found.

A peer is a function of a `Case` that returns a call without arguments; the library is imported inside it, so that nobody
needs what is not installed.  Trees are token-major, (V, K^h) a level, for peers as for us: it is the fastest layout for all.
Answers: `gibbs` log Z, p*, and the levels of pi*; `gradient` an array (V, S); `sample` the draws and their log-probabilities.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial, wraps
from typing import Any

import numpy as np

from tabular_rlhf.logspace import Array
from tabular_rlhf.world import World, random_world


@dataclass(frozen=True)
class Case:
    """One shape: a random world without EOS, one prompt, and the logits of a policy, all in float64."""

    V: int
    H: int
    draws: int = 10**6

    @cached_property
    def world(self) -> World:
        world = random_world(rng=np.random.default_rng(0), V=self.V, H=self.H, eos=False)
        return world if np.isfinite(world.log_p_ref).all() else world.at(1.0)

    @cached_property
    def logits(self) -> Array:
        """Token-major, (V, S)."""
        return np.random.default_rng(1).standard_normal((self.V, self.world.mdp.S))

    @property
    def widths(self) -> list[int]:
        return [self.V**h for h in range(self.H)]

    @property
    def name(self) -> str:
        return f"V={self.V} H={self.H}"


Runner = Callable[[], Any]


def prepared(made: Callable[[Any], Sequence[Any]]) -> Callable[[Callable[..., Any]], Callable[[Any], Runner]]:
    """A formulation of a case and of what is made of it beforehand, which is not timed."""
    return lambda f: wraps(f)(lambda case: partial(f, case, *made(case)))


at_once = prepared(lambda case: ())
"""A formulation with nothing to prepare: all that it does is timed."""


def available() -> dict[str, str]:
    """Version of each peer, "absent" where it is not installed."""
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    found = {}
    for library in ("torch", "jax", "autograd", "choix"):
        installed = importlib.util.find_spec(library) is not None
        found[library] = importlib.metadata.version(library) if installed else "absent"
    return found


# ---------------------------------------------------------------------------------------------------- torch


def the_torch() -> Any:
    """torch, on one thread."""
    import torch

    torch.set_num_threads(1)
    return torch


def _torch(case: Case) -> tuple[Any, Any, Any]:
    torch = the_torch()
    return torch, torch.tensor(case.world.r[0]), torch.tensor(case.world.log_p_ref[0])


@prepared(_torch)
def torch_gibbs(case: Case, torch: Any, r: Any, log_p_ref: Any) -> Any:
    """Weights exponentiated once, in place, and summed up the tree."""
    shift = float(r.max()) / case.world.beta  # without it, exp may overflow
    u = torch.add(log_p_ref, r, alpha=1.0 / case.world.beta).sub_(shift).exp_()
    total, pi = u, []
    for width in reversed(case.widths):
        children = total.view(case.V, width)
        total = children.sum(0)
        pi.append(children / total)
    return torch.log(total) + shift, u.div_(total), pi[::-1]


@prepared(_torch)
def torch_gibbs_log(case: Case, torch: Any, r: Any, log_p_ref: Any) -> Any:
    """The textbook: log-softmax over responses, logsumexp up the tree."""
    q = log_p_ref + r / case.world.beta
    total, pi = q, []
    for width in reversed(case.widths):
        children = total.view(case.V, width)
        pi.append(torch.softmax(children, 0))
        total = torch.logsumexp(children, 0)
    return total, torch.exp(q - total), pi[::-1]


def torch_gradient(case: Case) -> Runner:
    """Eager autograd, one split of the logits."""
    torch, r, log_p_ref = _torch(case)
    logits, beta = torch.tensor(case.logits, requires_grad=True), case.world.beta

    def run() -> Any:
        log_p = torch.zeros(1, dtype=torch.float64)
        for level in torch.split(torch.log_softmax(logits, 0), case.widths, dim=1):
            log_p = (log_p + level).reshape(-1)
        J = torch.sum(torch.exp(log_p) * (r - beta * (log_p - log_p_ref)))
        return torch.autograd.grad(J, logits)[0]

    return run


def torch_gradient_levels(case: Case) -> Runner:
    """Eager autograd, log-softmax level by level, the constant part of J precomputed."""
    torch, r, log_p_ref = _torch(case)
    logits, beta = torch.tensor(case.logits, requires_grad=True), case.world.beta
    score = r / beta + log_p_ref

    def run() -> Any:
        log_p = torch.zeros(1, dtype=torch.float64)
        for level in torch.split(logits, case.widths, dim=1):
            log_p = (log_p + torch.log_softmax(level, 0)).reshape(-1)
        J = torch.dot(torch.exp(log_p), score - log_p) * beta
        return torch.autograd.grad(J, logits)[0]

    return run


@prepared(_torch)
def torch_sample(case: Case, torch: Any, _: Any, log_p: Any) -> Any:
    """Cumulative sum and binary search."""
    c = torch.cumsum(torch.exp(log_p), 0)
    tau = torch.searchsorted(c, torch.rand(case.draws, dtype=torch.float64) * c[-1], right=True).clamp_(max=len(c) - 1)
    return tau, log_p[tau]


@prepared(_torch)
def torch_sample_sorted(case: Case, torch: Any, _: Any, log_p: Any) -> Any:
    """The same with the uniforms sorted, so that the search stays in the cache, and the answers put back in order."""
    c = torch.cumsum(torch.exp(log_p), 0)
    u, order = torch.sort(torch.rand(case.draws, dtype=torch.float64) * c[-1])
    found = torch.searchsorted(c, u, right=True).clamp_(max=len(c) - 1)
    tau = torch.empty_like(found).scatter_(0, order, found)
    return tau, log_p[tau]


@prepared(_torch)
def torch_sample_multinomial(case: Case, torch: Any, _: Any, log_p: Any) -> Any:
    tau = torch.multinomial(torch.exp(log_p), case.draws, replacement=True)
    return tau, log_p[tau]


def torch_sample_tokens(case: Case) -> Runner:
    """Token by token: Gumbel-max over each drawn state's row."""
    torch, _, _ = _torch(case)
    levels = torch.split(torch.tensor(np.ascontiguousarray(case.world.log_ref[0].T)), case.widths, dim=1)

    def run() -> Any:
        tau, log_p = torch.zeros(case.draws, dtype=torch.int64), torch.zeros(case.draws, dtype=torch.float64)
        for level, width in zip(levels, case.widths, strict=True):
            rows = level[:, tau]
            a = torch.argmax(rows - torch.log(torch.empty_like(rows).exponential_()), 0)
            log_p += level[a, tau]
            tau += a * width
        return tau, log_p

    return run


# ---------------------------------------------------------------------------------------------------- jax


def the_jax() -> tuple[Any, Any]:
    """jax in float64, and its NumPy."""
    import jax

    settings: Any = jax.config  # typed in some versions of jax only
    settings.update("jax_enable_x64", True)
    return jax, jax.numpy


def _jax(case: Case) -> tuple[Any, Any, Any, Any]:
    jax, jnp = the_jax()
    return jax, jnp, jnp.asarray(case.world.r[0]), jnp.asarray(case.world.log_p_ref[0])


def compiled(jax: Any, f: Callable[..., Any], *args: Any) -> Runner:
    """A function of jax as a call without arguments, compiled as a whole."""
    whole = jax.jit(f)
    return lambda: jax.block_until_ready(whole(*args))


def jax_gibbs(case: Case) -> Runner:
    """Weights exponentiated once and summed up the tree, compiled as a whole."""
    jax, jnp, r, log_p_ref = _jax(case)
    beta = case.world.beta

    def gibbs(r: Any, log_p_ref: Any) -> Any:
        shift = r.max() / beta
        u = jnp.exp(log_p_ref + (r * (1.0 / beta) - shift))
        total, pi = u, []
        for width in reversed(case.widths):
            children = total.reshape(case.V, width)
            total = children.sum(0)
            pi.append(children / total)
        return jnp.log(total) + shift, u / total, pi[::-1]

    return compiled(jax, gibbs, r, log_p_ref)


def jax_gradient(case: Case, *, by_level: bool = False) -> Runner:
    """jit(grad), one log-softmax of all logits."""
    jax, jnp, r, log_p_ref = _jax(case)
    bounds, beta = np.cumsum(case.widths)[:-1].tolist(), case.world.beta

    def J(logits: Any, r: Any, log_p_ref: Any) -> Any:
        log_p = jnp.zeros(1)
        for level in jnp.split(logits if by_level else jax.nn.log_softmax(logits, axis=0), bounds, axis=1):
            log_p = (log_p + (jax.nn.log_softmax(level, axis=0) if by_level else level)).reshape(-1)
        return jnp.sum(jnp.exp(log_p) * (r - beta * (log_p - log_p_ref)))

    return compiled(jax, jax.grad(J), jnp.asarray(case.logits), r, log_p_ref)


def jax_gradient_levels(case: Case) -> Runner:
    """jit(grad), log-softmax level by level."""
    return jax_gradient(case, by_level=True)


def jax_sample(case: Case, method: str = "scan_unrolled") -> Runner:
    """Cumulative sum and binary search, compiled."""
    jax, jnp, _, log_p = _jax(case)

    def draw(key: Any, log_p: Any) -> Any:
        c = jnp.cumsum(jnp.exp(log_p))
        u = jax.random.uniform(key, (case.draws,), dtype=jnp.float64) * c[-1]
        tau = jnp.minimum(jnp.searchsorted(c, u, side="right", method=method), len(log_p) - 1)
        return tau, log_p[tau]

    return compiled(jax, draw, jax.random.key(0), log_p)


def jax_sample_sort(case: Case) -> Runner:
    """The same with searchsorted by sorting."""
    return jax_sample(case, "sort")


def jax_sample_choice(case: Case) -> Runner:
    """jax.random.choice with probabilities."""
    jax, jnp, _, log_p = _jax(case)

    def draw(key: Any, log_p: Any) -> Any:
        tau = jax.random.choice(key, len(log_p), (case.draws,), p=jnp.exp(log_p))
        return tau, log_p[tau]

    return compiled(jax, draw, jax.random.key(0), log_p)


# ---------------------------------------------------------------------------------------------------- HIPS autograd


def autograd_gradient(case: Case) -> Runner:
    """The same plain NumPy, traced by HIPS autograd."""
    import autograd
    import autograd.numpy as anp

    r, log_p_ref, beta = case.world.r[0], case.world.log_p_ref[0], case.world.beta
    bounds = np.cumsum(case.widths)[:-1]

    def J(logits: Any) -> Any:
        x = logits - anp.max(logits, axis=0)
        log_pi = x - anp.log(anp.sum(anp.exp(x), axis=0))
        log_p = anp.zeros(1)
        for level in anp.split(log_pi, bounds, axis=1):
            log_p = anp.reshape(log_p + level, (-1,))
        return anp.sum(anp.exp(log_p) * (r - beta * (log_p - log_p_ref)))

    gradient = autograd.grad(J)
    return lambda: gradient(case.logits)


Peers = dict[str, tuple[Callable[[Any], Runner], ...]]
GIBBS: Peers = {"torch": (torch_gibbs, torch_gibbs_log), "jax": (jax_gibbs,)}
GRADIENT: Peers = {
    "torch": (torch_gradient, torch_gradient_levels),
    "jax": (jax_gradient, jax_gradient_levels),
    "autograd": (autograd_gradient,),
}
SAMPLE: Peers = {
    "torch": (torch_sample, torch_sample_sorted, torch_sample_multinomial, torch_sample_tokens),
    "jax": (jax_sample, jax_sample_sort, jax_sample_choice),
}
