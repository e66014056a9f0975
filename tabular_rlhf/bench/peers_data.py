r"""Cases that hold data, and the peers that fit Bradley-Terry to raw comparisons.

An answer: rewards (N,), up to a shift.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tabular_rlhf.bench.peers import Case, Peers, Runner, at_once, prepared, the_torch
from tabular_rlhf.logspace import Array, log_softmax
from tabular_rlhf.preferences import Pairs, bradley_terry, sample_pairs


@dataclass(frozen=True)
class Comparisons:
    """Raw comparisons of items with normal rewards: who won and who lost, index by index."""

    items: int
    n: int

    @cached_property
    def raw(self) -> tuple[Any, Any]:
        """(winners, losers), (n,) each."""
        rng = np.random.default_rng(0)
        r = rng.standard_normal(self.items)
        i = rng.integers(0, self.items, self.n)
        j = (i + rng.integers(1, self.items, self.n)) % self.items
        first = rng.random(self.n) < 1 / (1 + np.exp(r[j] - r[i]))
        return np.where(first, i, j), np.where(first, j, i)

    @cached_property
    def listed(self) -> list[tuple[int, int]]:
        """The same as a list of pairs, which is what choix takes."""
        w, l = self.raw
        return list(zip(w.tolist(), l.tolist(), strict=True))

    @property
    def name(self) -> str:
        return f"N={self.items}"


@dataclass(frozen=True)
class Near(Case):
    """A case with a policy near the reference, and as many pairs as draws."""

    @cached_property
    def logits(self) -> Array:
        """Token-major, (V, S)."""
        return np.ascontiguousarray(self.world.log_ref[0].T) + 0.3 * np.random.default_rng(1).standard_normal((self.V, self.world.mdp.S))

    @cached_property
    def rows(self) -> Array:
        """The same as we take them: (1, S, V)."""
        return np.swapaxes(self.logits, 0, 1)[None]

    @cached_property
    def pairs(self) -> Pairs:
        return sample_pairs(self.world, bradley_terry(self.world.r), self.draws, rng=np.random.default_rng(2))


@dataclass(frozen=True)
class AllPairs(Case):
    """A case with a law on responses some way off the reference."""

    @cached_property
    def log_p(self) -> Array:
        """(1, N)."""
        log_p_ref = self.world.log_p_ref
        return np.asarray(log_softmax(log_p_ref + 1.5 * np.random.default_rng(1).standard_normal(log_p_ref.shape)))

    @property
    def name(self) -> str:
        return f"N={self.V**self.H}"


# ---------------------------------------------------------------------------------------------------- Bradley-Terry


def _counts(case: Comparisons) -> Array:
    """How often i beat j."""
    w, l = case.raw
    return np.bincount(w * case.items + l, minlength=case.items**2).reshape(case.items, case.items).astype(np.float64)


def _counted(case: Comparisons) -> tuple[Array, Array]:
    """(n_ij, wins_i)."""
    counts = _counts(case)
    return counts + counts.T, counts.sum(1)


def _negative_log_likelihood(n: Array, won: Array) -> Callable[[Array], tuple[float, Array]]:
    """Value and slope; e_i + e_j is made once for both."""
    room = np.empty_like(n)

    def f(r: Array) -> tuple[float, Array]:
        r = r - r.mean()
        e = np.exp(r)
        np.add(e[:, None], e, out=room)
        value = 0.5 * np.sum(n * np.log(room)) - won @ r
        np.divide(n, room, out=room)
        return float(value), e * room.sum(1) - won

    return f


def minimize(*args: Any, **how: Any) -> Any:
    """The minimizer of scipy, opened when it is asked for."""
    return importlib.import_module("scipy.optimize").minimize(*args, jac=True, **how).x


@at_once
def scipy_lbfgs(case: Comparisons) -> Any:
    """L-BFGS-B on counts."""
    options = {"gtol": 1e-6, "ftol": 1e-16, "maxcor": 20}
    return minimize(_negative_log_likelihood(*_counted(case)), np.zeros(case.items), method="L-BFGS-B", options=options)


@at_once
def scipy_trust_krylov(case: Comparisons) -> Any:
    """Newton by a Krylov method, Hessian products from one table of weights a point."""
    n, won = _counted(case)
    at: dict[str, Any] = {}

    def product(r: Array, v: Array) -> Array:
        if at.get("r") != r.tobytes():
            e = np.exp(r - r.mean())
            weight = n * np.outer(e, e) / (e[:, None] + e) ** 2
            at.update(r=r.tobytes(), weight=weight, diagonal=weight.sum(1))
        return np.asarray(at["diagonal"] * v - at["weight"] @ v)

    f = _negative_log_likelihood(n, won)
    return minimize(f, np.zeros(case.items), hessp=product, method="trust-krylov", options={"gtol": 1e-6})


def _newton(lib: Any, n: Any, won: Any, solve: Callable[[Any, Any], Any]) -> Any:
    """Newton on the dense Hessian, the first item held, by NumPy or by torch.  Args: solve, of a Hessian and a right side."""
    r = lib.zeros(len(won), dtype=lib.float64)
    for _ in range(30):
        e = lib.exp(r)
        sums = e[:, None] + e
        T = n / sums
        slope = e * T.sum(1) - won
        T /= sums
        T *= e
        T *= e[:, None]
        H = lib.diag(T.sum(1)) - T
        step = solve(H[1:, 1:], -slope[1:])
        r[1:] += step
        if float(abs(step).max()) < 1e-7:
            break
    return r


@at_once
def numpy_newton(case: Comparisons) -> Any:
    """By Cholesky."""
    from scipy.linalg import cho_factor, cho_solve

    return _newton(np, *_counted(case), lambda H, b: cho_solve(cho_factor(H, check_finite=False), b, check_finite=False))


def _torch_counted(case: Comparisons) -> tuple[Any, Callable[[], tuple[Any, Any]]]:
    torch = the_torch()
    w, l = (torch.tensor(k) for k in case.raw)

    def count() -> tuple[Any, Any]:
        counts = torch.bincount(w * case.items + l, minlength=case.items**2).reshape(case.items, case.items).double()
        return counts + counts.T, counts.sum(1)

    return torch, count


@prepared(_torch_counted)
def torch_newton(case: Comparisons, torch: Any, count: Callable[[], tuple[Any, Any]]) -> Any:
    """The same in torch."""
    return _newton(torch, *count(), lambda H, b: torch.cholesky_solve(b[:, None], torch.linalg.cholesky(H))[:, 0]).numpy()


@prepared(_torch_counted)
def torch_lbfgs(case: Comparisons, torch: Any, count: Any) -> Any:
    """L-BFGS on counts, the slope by hand from one table, which is faster than by autograd.

    Whole steps: a line search stops where the rounding of the value hides the descent.
    """
    n, won = count()
    r = torch.zeros(case.items, dtype=torch.float64)
    optimizer = torch.optim.LBFGS([r], max_iter=300, history_size=20, tolerance_grad=1e-7 / case.items, tolerance_change=0.0)
    room, scale = torch.empty_like(n), case.items / case.n

    def closure() -> Any:
        e = torch.exp(r)
        torch.add(e[:, None], e, out=room)
        torch.div(n, room, out=room)
        r.grad = (e * room.sum(1) - won) * scale
        return r.grad.abs().sum()  # without a line search the value decides nothing

    optimizer.step(closure)
    return r.numpy()


def choix_pairs(case: Comparisons) -> Runner:
    """choix on raw pairs, by its fastest solver that takes them."""
    choix, pairs = importlib.import_module("choix"), case.listed
    return lambda: choix.ilsr_pairwise(case.items, pairs)


def choix_dense(case: Comparisons) -> Runner:
    """choix on a table of counts that NumPy has made for it."""
    choix = importlib.import_module("choix")
    return lambda: choix.ilsr_pairwise_dense(_counts(case))


BRADLEY_TERRY: Peers = {
    "numpy": (numpy_newton,),
    "scipy": (scipy_lbfgs, scipy_trust_krylov),
    "torch": (torch_lbfgs, torch_newton),
    "choix": (choix_dense, choix_pairs),
}
