r"""Peers for the KL estimators: the same tables in torch, weighed by exact probabilities, by counts of draws, or draw by draw.

An answer is a dictionary from (estimator, level) to (mean, variance, probability of a negative value) of what one draw contributes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tabular_rlhf.bench.peers import Peers, prepared, the_torch
from tabular_rlhf.bench.peers_data import Near
from tabular_rlhf.estimators.evaluate import NEGATIVE

Key = tuple[str, str]


class _Tables:
    """L of tokens (V, S) and of responses (N,), and what every estimator makes of them."""

    def __init__(self, case: Near) -> None:
        self.torch, self.widths = the_torch(), case.widths
        self.log_pi = self.torch.log_softmax(self.torch.tensor(case.logits), 0)
        self.log_ref = self.torch.log_softmax(self.torch.tensor(case.world.log_ref[0].T.copy()), 0)

    def path_sum(self, x: Any) -> Any:
        total = self.torch.zeros(1, dtype=self.torch.float64)
        for level in self.torch.split(x, self.widths, dim=1):
            total = (total + level).reshape(-1)
        return total

    def estimates(self, L: Any) -> Iterator[tuple[str, Any]]:
        torch = self.torch
        yield "k1", L
        yield "k2", L * L * 0.5
        yield "k3", torch.expm1(-L).add_(L)
        yield "abs", L.abs()
        yield "k3-inverted", torch.expm1(L).sub_(L)

    def all(self, L_s: Any, L: Any) -> Iterator[tuple[Key, Any]]:
        """Estimates of whole responses from L, by tokens from L_s."""
        for name, g in self.estimates(L):
            yield (name, "sequence"), g
        for name, g in self.estimates(L_s):
            yield (name, "token"), self.path_sum(g)
        here = (self.log_pi.exp() * L_s).sum(0, keepdim=True)
        yield ("full", "token"), self.path_sum(here.expand_as(L_s))


def _moments(g: Any, w: Any, n: int | None) -> tuple[float, float, float]:
    mean = float(w @ g)
    apart = g - mean
    return mean, float(w @ apart.square_()) * (1.0 if n is None else n / (n - 1)), float(w @ (g < NEGATIVE).double())


@prepared(lambda case: [_Tables(case)])
def torch_kl_exact(case: Near, t: _Tables) -> Any:
    """Every estimator under the exact probabilities of all responses."""
    L_s = t.log_pi - t.log_ref
    p = t.path_sum(t.log_pi).exp_()
    return {key: _moments(g, p, None) for key, g in t.all(L_s, t.path_sum(L_s))}


def _seeded(case: Near) -> list[_Tables]:
    t = _Tables(case)
    t.torch.manual_seed(0)
    return [t]


def _drawn(t: _Tables, n: int) -> Any:
    """Inversion with the uniforms sorted: the fastest in the `sample` row; the order of draws does not matter here."""
    c = t.torch.cumsum(t.path_sum(t.log_pi).exp_(), 0)
    u = t.torch.sort(t.torch.rand(n, dtype=t.torch.float64) * c[-1])[0]
    return t.torch.searchsorted(c, u, right=True).clamp_(max=len(c) - 1)


@prepared(_seeded)
def torch_kl_counts(case: Near, t: _Tables) -> Any:
    """Draws, their counts, and every estimator under the counts."""
    tau = _drawn(t, case.draws)
    L_s = t.log_pi - t.log_ref
    L = t.path_sum(L_s)
    w = t.torch.bincount(tau, minlength=len(L)).double().div_(case.draws)
    return {key: _moments(g, w, case.draws) for key, g in t.all(L_s, L)}


@prepared(_seeded)
def torch_kl_draws(case: Near, t: _Tables) -> Any:
    """Draws, and every estimator draw by draw."""
    tau = _drawn(t, case.draws)
    L_s = t.log_pi - t.log_ref
    out = {}
    for key, g in t.all(L_s, t.path_sum(L_s)[tau]):
        g = g if key[1] == "sequence" else g[tau]
        var, mean = t.torch.var_mean(g)
        out[key] = float(mean), float(var), float((g < NEGATIVE).sum()) / case.draws
    return out


KL_EXACT: Peers = {"torch": (torch_kl_exact,)}
KL_SAMPLED: Peers = {"torch": (torch_kl_counts, torch_kl_draws)}
