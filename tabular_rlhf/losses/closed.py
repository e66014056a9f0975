r"""Population optima that have a closed form, under Bradley-Terry labels on pairs drawn independently from p_ref.

    DPO            p_ref e^{r/beta} / Z                          R-DPO      the same with r - alpha |y|;
    IPO            p_ref e^{P(y beats p_ref)/tau} / norm         f-DPO      argmax E[r] - beta D_f(p, p_ref);
    averaged log-ratios   log(p/p_ref) = |y| (r/beta + c)        reference-free averages   log p = |y| (r/beta + c),

c a scalar root.  cDPO, robust DPO and EXO fix the *margin* of each pair, which three responses cannot in general agree on:
their closed forms hold for two.

Sources: the papers of the records; the two with averages are ours (stationarity in a/|y| is stationarity of DPO in a).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import special

from tabular_rlhf.divergences import Divergence
from tabular_rlhf.gibbs import log_gibbs
from tabular_rlhf.logspace import Array, log_softmax, logsumexp
from tabular_rlhf.losses.record import Optimum, Scores, Settings
from tabular_rlhf.optimize import monotone_root
from tabular_rlhf.penalties import f_divergence_optimum
from tabular_rlhf.world import World


def win_rate(world: World) -> Array:
    """P(y beats a response of p_ref) under Bradley-Terry labels, (P, N).

    >>> from tabular_rlhf.world import coin
    >>> win_rate(coin()).round(4).tolist()
    [[0.3845, 0.6155]]
    """
    beats = special.expit(world.r[:, :, None] - world.r[:, None, :])
    return np.einsum("xij,xj->xi", beats, np.exp(world.log_p_ref))


def gibbs(world: World, s: Settings) -> Array:
    """The Gibbs optimum, at the loss's own beta."""
    return np.asarray(log_gibbs(world.log_p_ref, world.r, s["beta"]))


def win_rate_tilt(world: World, s: Settings) -> Array:
    """IPO: p_ref exp(P(y beats p_ref)/tau), normalized."""
    return np.asarray(log_gibbs(world.log_p_ref, win_rate(world), s["tau"]))


def length_tilt(log_base: Array, score: Array, lengths: Any) -> Array:
    """log p = log_base + |y| (score + c), with c(x) such that p sums to one.

    >>> np.exp(length_tilt(np.log([[0.5, 0.5]]), np.log([[1.0, 3.0]]), 1)).round(6).tolist()
    [[0.25, 0.75]]
    """
    tilted = log_base + lengths * score

    def log_mass(c: Array) -> tuple[Array, Array]:
        log_w = tilted + lengths * c[:, None]
        return logsumexp(log_w), np.sum(np.exp(log_softmax(log_w)) * lengths, axis=-1)

    excess = logsumexp(tilted)
    ends = np.sort(np.stack([-excess / np.min(lengths), -excess / np.max(lengths)]), axis=0)
    c = monotone_root(log_mass, *ends)
    return np.asarray(log_softmax(tilted + lengths * c[:, None]))


def averaged(base: Callable[..., Any]) -> Scores:
    """Length-averaged log-ratios as scores: s = log(p/p_ref)/|y|."""
    return Scores(base, lambda log_p, log_ref, n: (log_p - log_ref) / n, length_tilt_row)


def averaged_log_p(base: Callable[..., Any]) -> Scores:
    """Length-averaged log-probabilities as scores: s = log p/|y|."""
    return Scores(base, lambda log_p, log_ref, n: log_p / n, lambda s, log_ref, n: length_tilt_row(s, np.zeros_like(log_ref), n))


def linked(base: Callable[..., Any], divergence: Divergence) -> Scores:
    """Slopes of a divergence as scores: s = f'(p/p_ref).  With s as the reward at beta = 1, p is the optimum of E[s] - D_f(p, p_ref)."""
    return Scores(
        base,
        lambda log_p, log_ref, n: np.asarray(divergence.slope(log_p - log_ref)),
        lambda s, log_ref, n: f_divergence_optimum(divergence, log_ref[None], s[None], 1.0).log_p[0],
    )


def length_tilt_row(s: Array, log_base: Array, lengths: Array) -> Array:
    """`length_tilt` of one prompt, (N,)."""
    return length_tilt(log_base[None], s[None], lengths)[0]


def averaged_gibbs(world: World, s: Settings) -> Array:
    """DPO on length-averaged log-ratios: log(p/p_ref) = |y| (r/beta + c)."""
    return length_tilt(world.log_p_ref, _nats_below(world, s["beta"]), world.mdp.lengths)


def _nats_below(world: World, beta: float) -> Array:
    """(r - max r)/beta of what the reference allows, 0 elsewhere: c(x) takes up what is common to all."""
    possible = ~np.isneginf(world.log_p_ref)
    best = np.max(np.where(possible, world.r, -np.inf), axis=1, keepdims=True)
    with np.errstate(over="ignore"):
        return np.where(possible, world.r - best, 0.0) / beta


def averaged_win_rate_tilt(world: World, s: Settings) -> Array:
    """IPO on length-averaged log-ratios: log(p/p_ref) = |y| (P(y beats p_ref)/tau + c)."""
    return length_tilt(world.log_p_ref, win_rate(world) / s["tau"], world.mdp.lengths)


def averaged_free(world: World, s: Settings) -> Array | None:
    """SimPO without a target margin: log p = |y| (r/beta + c) on the responses that the reference allows."""
    allowed = np.where(np.isneginf(world.log_p_ref), -np.inf, 0.0)
    return length_tilt(allowed, _nats_below(world, s["beta"]), world.mdp.lengths) if s["gamma"] == 0 else None


def regularized(divergence: Divergence) -> Optimum:
    """argmax E[r] - beta D_f(p, p_ref), as an optimum."""
    return lambda world, s: f_divergence_optimum(divergence, world.log_p_ref, world.r, s["beta"]).log_p


def regularized_within(divergence: Divergence) -> Optimum:
    """The same where no two rewards that a prompt allows differ by more than 2 R; else None."""

    def optimum(world: World, s: Settings) -> Array | None:
        allowed = ~np.isneginf(world.log_p_ref)
        spread = np.max(world.r, axis=1, where=allowed, initial=-np.inf) - np.min(world.r, axis=1, where=allowed, initial=np.inf)
        return regularized(divergence)(world, s) if np.all(spread <= 2.0 * s["R"]) else None

    return optimum


def two_arms(margin: Callable[[Array, Settings], Any]) -> Optimum:
    """The optimum for two responses, from the margin beta D that `margin` gives for the probability that the first wins."""

    def optimum(world: World, s: Settings) -> Array | None:
        if world.mdp.N != 2 or np.isneginf(world.log_p_ref).any():
            return None
        z = margin(special.expit(world.r[:, 0] - world.r[:, 1]), s)
        if not np.all(np.isfinite(z)):
            return None
        return np.asarray(log_gibbs(world.log_p_ref, np.stack([z, np.zeros_like(z)], axis=1), s["beta"]))

    return optimum


def _chi_kl_tilt(v: Any, gap: Any) -> tuple[Array, Array]:
    """u + log u = e^v + v - gap: u is a Wright omega function, whose last digits carry a small gap: there three of Newton's steps on
    e^v (e^d - 1) + d + gap = 0,  d = log u - v,  find it."""
    top, small = np.exp(np.minimum(v, 709.0)), np.abs(gap) < 0.01
    near = np.where(small, gap, 0.0)
    d = -near / (1.0 + top)
    for _ in range(3):
        d = d - (top * np.expm1(d) + d + near) / (top * np.exp(d) + 1.0)
    y = top + v - gap
    u = special.wrightomega(y)
    log_u = np.where(small, v + d, np.where(u > 1.0, np.log(np.maximum(u, 1.0)), y - u))
    return log_u, np.logaddexp(0.0, v) - np.logaddexp(0.0, log_u)


CHI_KL = Divergence(
    "chi-kl",
    r"u \log u - u + \tfrac{1}{2} u^2 + \tfrac{1}{2}",
    f=lambda u: special.xlogy(u, u) - u + np.square(u) / 2.0 + 0.5,
    slope=lambda v: np.exp(v) + v,
    inverse=special.wrightomega,
    tilt=_chi_kl_tilt,
    tail=lambda v: 0.5 + np.exp(-v) * (v - 1.0 + 0.5 * np.exp(-v)),
    growth=1.0,
)
"""The penalty of chi-PO: f' = u + log u, half of chi^2 and reverse KL together."""
