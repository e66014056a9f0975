r"""Chapter 8 as derivations, continued: the theorem that names the divergence which an estimator in the loss descends.

Four estimators go through every line together.  L = log(p_pi/p_ref), u = p_pi/p_ref; E averages over x ~ mu and tau ~ p_pi.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.autodiff import grad
from tabular_rlhf.derivations.estimators_gradients import AFFORDABLE, each_of, kept, of_distance
from tabular_rlhf.derivations.record import Derivation, Line, add
from tabular_rlhf.derivations.scores import each, of_mean, times, weigh
from tabular_rlhf.ledger.chapter8 import K2, K3
from tabular_rlhf.ledger.chapter8_gradients import TANG, chi_squared_half, forward, mean_k2, slope_scale
from tabular_rlhf.logspace import kl, log_ratio

# ---------------------------------------------------------------------------------------------------- four estimators

ESTIMATES = (K2, K3, lambda L: np.expm1(L) - L, lambda L: L)
"""h of k2, k3, the inverted k3, and k1."""
SLOPES = (lambda L: L, lambda L: -np.expm1(-L), np.expm1, lambda L: np.ones_like(L))
"""h' of each, differentiated by hand."""
GENERATORS = (
    lambda u: u * np.log(u) - u + 1.0,
    lambda u: u - 1.0 - np.log(u),
    lambda u: np.square(u - 1.0) / 2.0,
    lambda u: u - 1.0,
)
"""f of each: f(1) = 0 and f'(u) = h'(log u), integrated by hand."""


def four(one: Any, axis: int = 0) -> Any:
    """The same for k2, k3, the inverted k3, and k1."""
    return np.stack([one(i) for i in range(len(ESTIMATES))], axis=axis)


def weighed(mu: Any, w: Any, slopes: Any) -> Any:
    """The sums of weights w(i), (P, N), times the same gradients."""
    return four(lambda i: weigh(mu, w(i), slopes))


def ratio(log_p: Any, log_p_ref: Any) -> Any:
    """u = p_pi/p_ref, 1 where both are 0."""
    return np.exp(log_ratio(log_p, log_p_ref))


def each_ratio(world: Any, logits: Any) -> Any:
    """grad u of every response."""
    return each_of(world, logits, np.exp)


def f_slope(i: int, u: Any) -> Any:
    """f'(u), by the gradient core."""
    return grad(lambda v: np.sum(GENERATORS[i](v)))(u)


def of_f(world: Any, logits: Any, i: int) -> Any:
    """The gradient of E_mu of the sum of p_ref f(p_pi/p_ref)."""
    p_ref = np.exp(world.log_p_ref)
    return of_mean(world, logits, lambda log_p: np.sum(p_ref * GENERATORS[i](np.exp(kept(log_p) - kept(world.log_p_ref))), axis=1))


def no_distance(log_p: Any, log_p_ref: Any) -> Any:
    """0 for every prompt, whatever p."""
    return 0.0 * np.sum(np.exp(log_p), axis=1)


NAMED = (kl, forward, chi_squared_half, no_distance)
MIXED = (mean_k2, kl, lambda log_p, log_p_ref: 2.0 * chi_squared_half(log_p, log_p_ref), kl)
"""What readers take for the divergence of each."""

add(
    Derivation(
        slug="kl-estimator-theorem",
        title="Which divergence an estimator h(L) in the loss descends: four at once, k2, k3, inverted k3, k1",
        chapter=8,
        rows=("kl-estimator-theorem",),
        source=f"{TANG}  Csiszar (1967) (f-divergences).",
        largest=AFFORDABLE,
        scale=slope_scale,
        lines=(
            Line(
                r"\mathbb{E}\left[ \nabla h(L) \right], \quad h(L) = L^2/2,\ e^{-L} - 1 + L,\ e^L - 1 - L,\ L",
                "The sampled loss h, differentiated draw by draw with the draws held, on average.  #0 to #3: k2, k3, inverted k3, k1.",
                lambda world, logits: four(lambda i: each_of(world, logits, ESTIMATES[i]), axis=2),
                law="log_p",
            ),
            Line(
                r"\mathbb{E}\left[ h'(L)\, \nabla \log p_\pi \right]",
                "The chain rule; L = log p_pi - log p_ref, and p_ref stands still.",
                lambda L, score: four(lambda i: times(SLOPES[i](L), score), axis=2),
                relation="in expectation",
                law="log_p",
                wrong={
                    "h for its slope h'": lambda L, score: four(lambda i: times(ESTIMATES[i](L), score), axis=2),
                    "h' dropped": lambda L, score: four(lambda i: score, axis=2),
                },
            ),
            Line(
                r"\sum_x \mu(x) \sum_\tau h'(\log u)\, \nabla p_\pi, \quad u = \frac{p_\pi}{p_{ref}}",
                "The mean written out, and p grad log p = grad p.",
                lambda world, mu, logits, log_p, log_p_ref: weighed(
                    mu, lambda i: SLOPES[i](np.log(ratio(log_p, log_p_ref))), each(world, logits, np.exp)
                ),
                wrong={
                    "p kept beside its own gradient": lambda world, mu, logits, L, p: weighed(
                        mu, lambda i: p * SLOPES[i](L), each(world, logits, np.exp)
                    ),
                    "h'(u) for h'(log u)": lambda world, mu, logits, log_p, log_p_ref: weighed(
                        mu, lambda i: SLOPES[i](ratio(log_p, log_p_ref)), each(world, logits, np.exp)
                    ),
                },
            ),
            Line(
                r"\sum_x \mu(x) \sum_\tau p_{ref}\, h'(\log u)\, \nabla u",
                "p_pi = p_ref u, and p_ref stands still: grad p = p_ref grad u.",
                lambda world, mu, logits, p_ref, L: weighed(mu, lambda i: p_ref * SLOPES[i](L), each_ratio(world, logits)),
                wrong={
                    "p_pi for p_ref": lambda world, mu, logits, p, L: weighed(mu, lambda i: p * SLOPES[i](L), each_ratio(world, logits)),
                    "p_ref dropped": lambda world, mu, logits, p, L: weighed(
                        mu, lambda i: np.where(p > 0, SLOPES[i](L), 0.0), each_ratio(world, logits)
                    ),
                },
            ),
            Line(
                r"\sum_x \mu(x) \sum_\tau p_{ref}\, f'(u)\, \nabla u, \quad f'(u) = h'(\log u),\ f(1) = 0",
                "f is the integral of h'(log u) from 1: u log u - u + 1, u - 1 - log u, (u - 1)^2/2, u - 1; f' by the gradient core.",
                lambda world, mu, logits, p_ref, log_p, log_p_ref: weighed(
                    mu, lambda i: p_ref * f_slope(i, ratio(log_p, log_p_ref)), each_ratio(world, logits)
                ),
                wrong={
                    "f(u) = h(log u): its own slope h'(log u)/u": lambda world, mu, logits, p_ref, log_p, log_p_ref: weighed(
                        mu, lambda i: p_ref * SLOPES[i](log_ratio(log_p, log_p_ref)) / ratio(log_p, log_p_ref), each_ratio(world, logits)
                    ),
                    "f for f'": lambda world, mu, logits, p_ref, log_p, log_p_ref: weighed(
                        mu, lambda i: p_ref * GENERATORS[i](ratio(log_p, log_p_ref)), each_ratio(world, logits)
                    ),
                },
            ),
            Line(
                r"\nabla \sum_x \mu(x) \sum_\tau p_{ref}\, f(u) = \nabla D_f(p_\pi, p_{ref})",
                "The chain rule backwards: that is the gradient of an f-divergence, by the gradient core.",
                lambda world, logits: four(lambda i: of_f(world, logits, i)),
                wrong={
                    "the mean of h itself descended": lambda world, logits: four(
                        lambda i: of_mean(
                            world, logits, lambda log_p: np.sum(np.exp(log_p) * ESTIMATES[i](kept(log_p) - kept(world.log_p_ref)), axis=1)
                        )
                    ),
                    "the arguments exchanged: D_f(ref, pi)": lambda world, logits: four(
                        lambda i: of_mean(
                            world,
                            logits,
                            lambda log_p: np.sum(np.exp(log_p) * GENERATORS[i](np.exp(kept(world.log_p_ref) - kept(log_p))), axis=1),
                        )
                    ),
                },
            ),
            Line(
                r"\nabla\, \mathrm{KL}(p_\pi, p_{ref}),\quad \nabla\, \mathrm{KL}(p_{ref}, p_\pi), "
                r"\quad \nabla\, \chi^2(p_\pi, p_{ref})/2, \quad 0",
                "Terms linear in u add up to a constant, because the sum of p_ref u is 1; what is left are these four.",
                lambda world, logits: four(lambda i: of_distance(world, logits, NAMED[i])),
                wrong={
                    "k1 descends KL": lambda world, logits: four(lambda i: of_distance(world, logits, MIXED[3] if i == 3 else NAMED[i])),
                    "k2 descends its own mean": lambda world, logits: four(
                        lambda i: of_distance(world, logits, MIXED[0] if i == 0 else NAMED[i])
                    ),
                    "k3: reverse for forward KL": lambda world, logits: four(
                        lambda i: of_distance(world, logits, MIXED[1] if i == 1 else NAMED[i])
                    ),
                    "chi^2 for chi^2/2": lambda world, logits: four(lambda i: of_distance(world, logits, MIXED[2] if i == 2 else NAMED[i])),
                },
            ),
        ),
    )
)
