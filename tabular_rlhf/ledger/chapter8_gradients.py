r"""Chapter 8, continued: what KL estimators push.  In the loss, in the reward, times a live ratio; and where that leads."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.autodiff import grad
from tabular_rlhf.estimators import Flag, exact_gradient, optimum, score_gradient
from tabular_rlhf.ledger.record import Miss, Sampled, claim
from tabular_rlhf.logspace import log_softmax
from tabular_rlhf.optimize import monotone_root
from tabular_rlhf.terms.conditions import SMALL
from tabular_rlhf.terms.letters import K3
from tabular_rlhf.terms.policies import kl_gradient
from tabular_rlhf.terms.sizes import slope_scale
from tabular_rlhf.terms.sources import TANG

PLAIN = ("k1", "k2", "k3", "abs", "k3-inverted")


def gradient_of(distance: Any) -> Any:
    """grad of E_mu[distance(log p)] in token logits, by the gradient core."""

    def side(world: Any, logits: Any) -> Any:
        return grad(lambda z: np.sum(world.mu * distance(world.mdp.path_sum(log_softmax(z)), world.log_p_ref)))(logits)

    return side


def forward(log_p: Any, log_p_ref: Any) -> Any:
    """KL(ref, p), for p with the support of p_ref."""
    on = ~np.isneginf(log_p_ref)
    return np.sum(np.where(on, np.exp(log_p_ref) * (np.where(on, log_p_ref, 0.0) - np.where(on, log_p, 0.0)), 0.0), axis=1)


forward_gradient = gradient_of(forward)
KL_SLOPE = r"\nabla \mathbb{E}_{x \sim \mu}[\mathrm{KL}(p, p_{ref})]"

# ---------------------------------------------------------------------------------------------------- kl-estimator-theorem


def closed_optima(world: Any) -> Any:
    """p of the optima of E[r] - beta h with h = k2, k3, inverted k3, by the package."""
    found = [optimum(Flag(name, "loss"), world) for name in ("k2", "k3", "k3-inverted")]
    return np.stack([np.exp(best.log_p) for best in found if best is not None])


def optima_by_roots(world: Any) -> Any:
    """The same from the formulas: softmax; beta p_ref/(lam - r); p_ref max(0, 1 + (r - lam)/beta); lam by a scalar root each."""
    beta, p_ref = world.beta, np.exp(world.log_p_ref)
    r = world.r - np.max(np.where(p_ref > 0, world.r, -np.inf), axis=1, keepdims=True)
    r = np.where(p_ref > 0, r, 0.0)

    def forward_law(x: Any) -> Any:
        return beta * p_ref / (x[:, None] - r)

    def chi_law(x: Any) -> Any:
        return p_ref * np.maximum(0.0, 1.0 + (r - x[:, None]) / beta)

    best = np.sum(np.where(r == 0, p_ref, 0.0), axis=1)
    x = monotone_root(
        lambda x: (1.0 - np.sum(forward_law(x), axis=1), np.sum(forward_law(x) / (x[:, None] - r), axis=1)),
        beta * np.maximum(best, 1e-300) * (1 - 1e-12),
        np.full(len(r), beta),
    )
    y = monotone_root(
        lambda y: (1.0 - np.sum(chi_law(y), axis=1), np.sum(np.where(chi_law(y) > 0, p_ref, 0.0), axis=1) / beta),
        np.minimum(0.0, np.sum(p_ref * r, axis=1)) - beta,
        np.zeros(len(r)) + beta,
    )
    return np.stack([np.exp(log_softmax(world.log_p_ref + world.r / beta)), forward_law(x), chi_law(y)])


def no_ties(log_p: Any, L: Any) -> bool:
    """Away from the corner of |L|, whose slope at 0 is a matter of convention (and of rounding)."""
    return bool(np.all((np.abs(L) > 1e-9) | np.isneginf(log_p)))


claim(
    slug="kl-estimator-theorem",
    chapter=8,
    text=r"""
    \mathbb{E}[\nabla k_1] = 0
    \mathbb{E}[\nabla k_2] = \nabla\, \mathbb{E}_{x \sim \mu}[\mathrm{KL}(p, p_{ref})]
      not \nabla \mathbb{E}[k_2]  # k2 descends its own mean
    \mathbb{E}[\nabla k_3] = \nabla\, \mathbb{E}_{x \sim \mu}[\mathrm{KL}(p_{ref}, p)]
      slip arguments of KL swapped
      not \mathbb{E}[\nabla (u - 1 - \log u)], \quad u = p/p_{ref}  # k3 with the ratio inverted
    \mathbb{E}[\nabla |k_1|] = \nabla\, \mathbb{E}_{x \sim \mu}\Big[\sum_y |p(y) - p_{ref}(y)|\Big]
      slip a factor 1/2 too many
    \mathbb{E}[\nabla (u - 1 - \log u)] = \tfrac12 \nabla\, \mathbb{E}_{x \sim \mu}[\mathbb{E}_{p_{ref}}[(u - 1)^2]], \quad u =
        \frac{p}{p_{ref}}
        # in the loss an estimator pushes another divergence than it estimates: nothing, KL, forward KL, twice TV, half of chi^2
      slip 1/2 dropped
    """,
    source=f"{TANG}  Csiszar (1967) (f-divergences).",
    note="The optima of E[r] - beta h: argmax r, Gibbs, beta p_ref/(lam - r), a threshold, p_ref max(0, 1 + (r - lam)/beta).",
    parts=(*PLAIN, "optima of k2, k3, inverted k3"),
    sides={
        "E[h'(L) score]": lambda world, log_pi: (
            *(score_gradient(Flag(name, "loss"), world, log_pi) for name in PLAIN),
            closed_optima(world),
        ),
        "the sampled loss, by the gradient core": lambda world, log_pi: (
            *(exact_gradient(Flag(name, "loss"), world, log_pi) for name in PLAIN),
            optima_by_roots(world),
        ),
        "the named divergence": (lambda logits: np.zeros_like(logits), 1, 1, 1, 1, lambda world: optima_by_roots(world)),
    },
    misses={
        "k1 descends KL": Miss(KL_SLOPE, part=0),
        "Gibbs for every flag": Miss(lambda p_star: np.stack([p_star] * 3), part=5),
    },
    sampled=Sampled(
        "log_p",
        lambda L, score_v: -np.expm1(-L) * score_v,
        lambda world, logits, direction: np.sum(forward_gradient(world, logits) * direction),
    ),
    where=lambda log_p, L, r, beta, log_p_ref: (
        no_ties(log_p, L) and np.ptp(r) / beta < 60 and np.min(log_p_ref, where=np.isfinite(log_p_ref), initial=0) > -60
    ),
    scale=lambda log_p, L, r, beta: (*(slope_scale(log_p, L),) * 5, 16.0 * (1.0 + np.ptp(r) / beta)),
    largest=SMALL,
)

# ---------------------------------------------------------------------------------------------------- kl-placement

PLACED = [Flag(name, place) for place in ("reward", "ratio") for name in ("k1", "k2", "k3")]


claim(
    slug="kl-placement",
    chapter=8,
    text=r"""
    \mathbb{E}[k_1\, \mathrm{score}] = \nabla\, \mathbb{E}_{x \sim \mu}[\mathrm{KL}(p, p_{ref})]
      slip sign flipped
    \mathbb{E}[k_2\, \mathrm{score}] = \nabla\, \mathbb{E}_{x \sim \mu}[\mathbb{E}_p[k_2] - \mathrm{KL}(p, p_{ref})]
    \mathbb{E}[k_3\, \mathrm{score}] = \nabla\, \mathbb{E}_{x \sim \mu}[\mathrm{KL}(p, p_{ref}) - \mathrm{KL}(p_{ref}, p)]
      slip the term KL(p_ref, p) dropped
      not \mathbb{E}[\nabla k_3]  # k3 in the reward as in the loss
    \mathbb{E}[k_1\, \mathrm{score} + \nabla k_1] = \nabla\, \mathbb{E}_{x \sim \mu}[\mathrm{KL}(p, p_{ref})]
    \mathbb{E}[k_2\, \mathrm{score} + \nabla k_2] = \nabla\, \mathbb{E}[k_2]
    \mathbb{E}[k_3\, \mathrm{score} + \nabla k_3] = \nabla\, \mathbb{E}_{x \sim \mu}[\mathrm{KL}(p, p_{ref})]
        # in the reward an estimator h pushes E[h score], times a live ratio the gradient of its mean
      slip arguments of KL swapped
    """,
    source=TANG,
    note=(
        "k3 in the reward: unbiased, quiet near the reference, and wrong: Gibbs is no place of rest, and f'' = 1/u - 1/u^2 < 0 for "
        "u < 1 drives out what has become unlikely."
    ),
    parts=tuple(flag.label for flag in PLACED),
    sides={
        "E[phi(L) score]": lambda world, log_pi: tuple(score_gradient(flag, world, log_pi) for flag in PLACED),
        "the surrogate, by the gradient core": lambda world, log_pi: tuple(exact_gradient(flag, world, log_pi) for flag in PLACED),
        "the named divergences": 1,
    },
    misses={
        "k2 in the reward descends KL": Miss(KL_SLOPE, part=1),
        "k2 with a live ratio descends KL": Miss(KL_SLOPE, part=4),
    },
    sampled=Sampled(
        "log_p",
        lambda L, score_v: K3(L) * score_v,
        lambda world, logits, direction: np.sum((kl_gradient(world, logits) - forward_gradient(world, logits)) * direction),
    ),
    scale=slope_scale,
    largest=SMALL,
)

# ---------------------------------------------------------------------------------------------------- kl-gradients


def by_flags(world: Any, log_pi: Any) -> Any:
    flags = [Flag(name, place) for place in ("loss", "reward") for name in ("k1", "k2", "k3")]
    return tuple(score_gradient(flag, world, log_pi) for flag in [*flags, Flag("k2", "ratio")])


claim(
    slug="kl-gradients",
    chapter=8,
    text=r"""
    \mathbb{E}[\nabla k_1] = 0
    \mathbb{E}[\nabla k_2] = \nabla\, \mathbb{E}_{x \sim \mu}[\mathrm{KL}(p, p_{ref})]
      slip arguments of KL swapped
    \mathbb{E}[\nabla k_3] = \nabla\, \mathbb{E}_{x \sim \mu}[\mathrm{KL}(p_{ref}, p)]
      slip arguments of KL swapped
    \mathbb{E}[k_1\, \mathrm{score}] = \nabla\, \mathbb{E}_{x \sim \mu}[\mathrm{KL}(p, p_{ref})]
    \mathbb{E}[k_2\, \mathrm{score}] = \nabla\, \mathbb{E}_{x \sim \mu}[\mathbb{E}_p[k_2] - \mathrm{KL}(p, p_{ref})]
    \mathbb{E}[k_3\, \mathrm{score}] = \nabla\, \mathbb{E}_{x \sim \mu}[\mathrm{KL}(p, p_{ref}) - \mathrm{KL}(p_{ref}, p)]
      slip the term KL(p_ref, p) dropped
    \nabla\, \mathbb{E}[k_2] = \mathbb{E}[\nabla k_2] + \mathbb{E}[k_2\, \mathrm{score}]
      slip the term E[k_2*score] dropped
    """,
    source=TANG,
    parts=("E[grad k1]", "E[grad k2]", "E[grad k3]", "E[k1 score]", "E[k2 score]", "E[k3 score]", "grad E[k2]"),
    sides={
        "the named divergences": (1, 1, 1, 1, 1, 1, 0),
        "response by response": (0, 0, 0, 0, 0, 0, 1),
        "flags": by_flags,
    },
    misses={"grad k1 descends KL": KL_SLOPE, "k2 in the reward is right": Miss(KL_SLOPE, part=4)},
    sampled=Sampled(
        "log_p",
        lambda L, score_v: L * score_v,
        lambda world, logits, direction: np.sum(kl_gradient(world, logits) * direction),
    ),
    scale=slope_scale,
    largest=40,
)
