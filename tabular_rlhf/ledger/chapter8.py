r"""Chapter 8: KL estimators.  What k1, k2 and k3 estimate, and how noisily."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.autodiff import grad, hessian
from tabular_rlhf.divergences import DIVERGENCES
from tabular_rlhf.estimators import Flag, table
from tabular_rlhf.estimators.evaluate import NEGATIVE
from tabular_rlhf.estimators.record import ESTIMATORS
from tabular_rlhf.ledger.record import Miss, Sampled, claim
from tabular_rlhf.logspace import expect, kl, log_ratio, log_softmax
from tabular_rlhf.terms.conditions import SMALL
from tabular_rlhf.terms.letters import K3
from tabular_rlhf.terms.policies import variance
from tabular_rlhf.terms.sizes import term_scale
from tabular_rlhf.terms.sources import SCHULMAN

K2 = ESTIMATORS["k2"].h


def from_registry(name: str, world: Any, log_pi: Any, log_p: Any) -> Any:
    """(mean, variance, P(negative)) for each prompt, by the package's own evaluation of a flag."""
    g = table(Flag(name, "loss"), world, log_pi)
    return expect(log_p, g), variance(log_p, g), expect(log_p, np.where(g < NEGATIVE, 1.0, 0.0))


def by_cumulants(log_p: Any, f: Any) -> Any:
    """(mean, variance) as the slope and the curvature at 0 of log E_p[exp(t f)], by the gradient core; f scaled to order 1."""
    size = np.maximum(1.0, np.max(np.abs(f), axis=1, where=~np.isneginf(log_p), initial=0.0))
    held = np.where(np.isneginf(log_p), 0.0, f) / size[:, None]

    def generating(t: Any) -> Any:
        return np.sum(np.log(expect(log_p, np.exp(np.expand_dims(t, -1) * held))))

    t = np.zeros(len(size))
    return size * grad(generating)(t), np.square(size) * np.diagonal(hessian(generating)(t))


# ---------------------------------------------------------------------------------------------------- k1

claim(
    slug="k1",
    chapter=8,
    text=r"""
    \mathbb{E}_p[k_1] = \mathrm{KL}(p, p_{ref})
      slip sign flipped; arguments of KL swapped
      not KL(p, p_ref)/log 2  # log base 2
    \mathrm{Var}_p(k_1) = \mathbb{E}_p[k_1^2] - \mathrm{KL}(p, p_{ref})^2
      slip the term KL(p, p_ref)^2 dropped
    p(k_1 < 0) = \sum_y p(y)\, 1[p(y) < p_{ref}(y)]  # k1 is the log-ratio L, and may be negative
      not 0  # a KL estimate is never negative
    """,
    source=SCHULMAN,
    parts=("mean", "variance", "P(negative)"),
    sides={
        "closed form": (1, 1, lambda p, p_ref: np.sum(np.where(p < p_ref * np.exp(NEGATIVE), p, 0.0), axis=1)),
        "the registry's record": lambda world, log_pi, log_p: from_registry("k1", world, log_pi, log_p),
        "cumulants by the gradient core": lambda log_p, L: (
            *by_cumulants(log_p, L),
            expect(log_p, np.where(L < NEGATIVE, 1.0, 0.0)),
        ),
    },
    sampled=Sampled("log_p", lambda L: L, lambda mu, KL: np.sum(mu * KL)),
    scale=lambda log_p, L: (*term_scale(log_p, L), 1.0),
    largest=SMALL,
)

# ---------------------------------------------------------------------------------------------------- k2


def along(log_p_ref: Any, f: Any, distance: Any) -> Any:
    """The second derivative at 0, for each prompt, of the distance from p_ref of p_t proportional to p_ref exp(t f)."""

    def total(t: Any) -> Any:
        return np.sum(distance(log_softmax(log_p_ref + np.expand_dims(t, -1) * f)))

    return np.diagonal(hessian(total)(np.zeros(len(f))))


def k2_mean(log_p_ref: Any) -> Any:
    return lambda log_p: expect(log_p, 0.5 * np.square(log_ratio(log_p, log_p_ref)))


claim(
    slug="k2",
    chapter=8,
    text=r"""
    \mathbb{E}_p[k_2] = \mathbb{E}_{p_{ref}}[u \log^2 u/2], \quad u = \frac{p}{p_{ref}}
      slip 2 dropped
      not KL(p, p_ref)  # unbiased for KL
      not KL(p, p_ref)^2/2  # square of the mean
    \mathrm{Var}_p(k_2) = \mathbb{E}_p[k_2^2] - (\mathbb{E}_p[k_2])^2
      slip the term E_{p}[k_2]^2 dropped
    \mathrm{Var}_{p_{ref}}(f) = \mathbb{E}_{p_{ref}}[f^2] - (\mathbb{E}_{p_{ref}}[f])^2
        # the last is the curvature at p = p_ref, along a tilt by f, of the mean of k2 as of KL, which is something else
      slip the term E_{p_ref}[f]^2 dropped
    """,
    source=SCHULMAN,
    parts=("mean", "variance", "curvature at the reference"),
    sides={
        "closed form": 0,
        "as an f-divergence": (
            1,
            lambda log_p, L: by_cumulants(log_p, K2(L))[1],
            lambda log_p_ref, f: along(log_p_ref, f, k2_mean(log_p_ref)),
        ),
        "the registry's record, and KL": lambda world, log_pi, log_p, log_p_ref, f: (
            *from_registry("k2", world, log_pi, log_p)[:2],
            along(log_p_ref, f, lambda log_p: kl(log_p, log_p_ref)),
        ),
    },
    sampled=Sampled("log_p", lambda L: K2(L), lambda mu, log_p, L: np.sum(mu * expect(log_p, np.square(L) / 2.0))),
    scale=lambda log_p, L, f: (*term_scale(log_p, L), 8.0 + np.max(np.square(f))),
    largest=SMALL,
)

# ---------------------------------------------------------------------------------------------------- second-order

F_OF = {**{name: d.f for name, d in DIVERGENCES.items()}, "k2": lambda u: u * np.square(np.log(u)) / 2.0}
"""f of every f-divergence of the tables, and of E[k2]."""
BEND = {"jensen-shannon": 0.5}
"""f''(1), by hand, where it is not 1."""


def spread_of_states(d_pi: Any, pi: Any, direction: Any) -> Any:
    """v' F v of a tabular policy: sum over states of d(s) Var_a(v)."""
    centered = direction - np.sum(pi * direction, axis=-1, keepdims=True)
    return np.sum(d_pi * np.sum(pi * np.square(centered), axis=-1), axis=1)


def bend_along(mdp: Any, logits: Any, direction: Any, f: Any) -> Any:
    """Half of the second derivative in t, at 0 and for each prompt, of D_f(p_{theta + t v}, p_theta), by the gradient core."""
    log_q = mdp.path_sum(log_softmax(logits))

    def total(t: Any) -> Any:
        moved = mdp.path_sum(log_softmax(logits + np.expand_dims(t, (1, 2)) * direction))
        return np.sum(np.exp(log_q) * f(np.exp(log_ratio(moved, log_q))))

    return np.diagonal(hessian(total)(np.zeros(mdp.P))) / 2.0


claim(
    slug="second-order",
    chapter=8,
    text=r"""
    let v = direction
    \frac{1}{2}\, \mathbb{E}_p[\mathrm{score}_v^2] = \frac{1}{2} \sum_s d_\pi(s)\, \mathrm{Var}_a(v(s, a))
        # for small t an f-divergence of the policy moved by t v from the policy is this, v'Fv with the Fisher matrix F, by half of f''(1)
        t^2, up to t^3
      slip 1/2 dropped; d_pi(s) dropped
      not \frac{1}{2} \sum_s d_\pi(s) \sum_a \pi(a \mid s)\, v(s, a)^2  # second moment for variance
    """,
    source="Csiszar and Shields (2004), Information theory and statistics: a tutorial, section 4.",
    note=(
        "f''(1) = 1 for both KLs, chi^2/2, 4 H^2 and E[k2], 1/2 for 2 JSD: near p_ref they are one penalty, up to beta.  f'(1) has no "
        "part in it: f + c (u - 1) has another slope and is the same divergence."
    ),
    parts=tuple(F_OF),
    sides={
        "f''(1)/2 E[score_v^2]": tuple(f"{BEND.get(name, 1)}/2*E_p[score_v^2]" for name in F_OF),
        "f'' by the gradient core, over states": lambda d_pi, pi, direction: tuple(
            grad(grad(f))(1.0) / 2.0 * spread_of_states(d_pi, pi, direction) for f in F_OF.values()
        ),
        "half the second derivative of D_f": lambda mdp, logits, direction: tuple(
            bend_along(mdp, logits, direction, f) for f in F_OF.values()
        ),
    },
    misses={
        "f'(1) for f''(1)": Miss("-E_p[score_v^2]/2", part=1),
        "f'(1) for f''(1): no chi-squared near p": Miss("0*E_p[score_v^2]", part=2),
        "f''(1) = 1 for all": Miss("E_p[score_v^2]/2", part=3),
        "k2 is nothing near p": Miss("0*E_p[score_v^2]", part=5),
    },
    sampled=Sampled(
        "log_p",
        lambda score_v: np.square(score_v),
        lambda mu, d_pi, pi, direction: np.sum(mu * spread_of_states(d_pi, pi, direction)),
    ),
    scale=lambda mdp, direction: float(np.max(np.square(2.0 * mdp.H * np.max(np.abs(direction), initial=1.0)))),
    largest=SMALL,
)

# ---------------------------------------------------------------------------------------------------- k3


def short_mean(log_p_short: Any, log_p_ref: Any) -> Any:
    """E[k3] of a policy on fewer responses, one response at a time, by the plain-math oracle."""
    oracle = np.vectorize(ESTIMATORS["k3"].oracle, otypes=[float])
    return expect(log_p_short, oracle(log_ratio(log_p_short, log_p_ref)))


claim(
    slug="k3",
    chapter=8,
    text=r"""
    let p_S = p_short
    \mathbb{E}_p[k_3] = \mathrm{KL}(p, p_{ref})
      not E_p[p/p_ref - 1 - log(p/p_ref)]  # ratio inverted
      not E_p[p_ref/p - 1 + k_2]  # k2's square
      not E_p[p_ref/p - 1 + log(p_ref/p)]  # log's sign flipped
    \mathbb{E}_{p_S}\Big[\frac{p_{ref}}{p_S} - 1 - \log\frac{p_{ref}}{p_S}\Big] = \mathrm{KL}(p_S, p_{ref}) + \sum_y p_{ref}(y)\, 1[p_S(y) >
        0] - 1
      not KL(p_S, p_ref)  # unbiased off the support
    \mathrm{Var}_p(k_3) = \mathbb{E}_p[k_3^2] - (\mathbb{E}_p[k_3])^2
      slip the term E_{p}[k_3]^2 dropped
    p(k_3 < 0) = 0  # k3 is unbiased for KL if and only if the policy covers the support of the reference, which p_S does not
    """,
    source=SCHULMAN,
    parts=("mean", "mean on fewer responses", "variance", "P(negative)"),
    sides={
        "closed form": 1,
        "the registry's record, the oracle": lambda world, log_pi, log_p, log_p_short, log_p_ref: (
            from_registry("k3", world, log_pi, log_p)[0],
            short_mean(log_p_short, log_p_ref),
            *from_registry("k3", world, log_pi, log_p)[1:],
        ),
        "cumulants by the gradient core": lambda log_p, L, log_p_short, log_p_ref: (
            by_cumulants(log_p, K3(L))[0],
            by_cumulants(log_p_short, K3(log_ratio(log_p_short, log_p_ref)))[0],
            by_cumulants(log_p, K3(L))[1],
            expect(log_p, np.where(K3(L) < NEGATIVE, 1.0, 0.0)),
        ),
    },
    sampled=Sampled("log_p", lambda L: K3(L), lambda mu, KL: np.sum(mu * KL)),
    scale=lambda log_p, L, log_p_short, log_p_ref: (
        term_scale(log_p, L)[0],
        term_scale(log_p_short, log_ratio(log_p_short, log_p_ref))[0],
        term_scale(log_p, L)[1],
        1.0,
    ),
    largest=SMALL,
)
