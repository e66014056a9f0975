r"""Chapter 4, continued: the optimum token by token, the KL along the tree, and what beta and the reward do to the free energy."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf import gibbs
from tabular_rlhf.autodiff import grad, hessian
from tabular_rlhf.gibbs import log_gibbs
from tabular_rlhf.ledger.chapter4 import reward_units
from tabular_rlhf.ledger.record import Approximately, Miss, Row, Sampled, add
from tabular_rlhf.logspace import expect, kl, log_ratio, logsumexp, soft_value

# ---------------------------------------------------------------------------------------------------- soft-bellman


def hard_values(mdp: Any, log_pi_ref: Any, r: Any) -> Any:
    levels = mdp.levels(log_pi_ref)
    return mdp.backup(r, lambda h, Q: np.max(np.where(np.isneginf(levels[h]), -np.inf, Q), axis=1))[0][:, 0]


def values_without_reference(mdp: Any, r: Any, beta: float) -> Any:
    return mdp.backup(r, lambda h, Q: beta * logsumexp(Q / beta, axis=1))[0][:, 0]


def mean_values(mdp: Any, log_pi_ref: Any, r: Any) -> Any:
    levels = mdp.levels(log_pi_ref)
    return mdp.backup(r, lambda h, Q: np.sum(np.exp(levels[h]) * Q, axis=1))[0][:, 0]


add(
    Row(
        slug="soft-bellman",
        chapter=4,
        statement=(
            r"V(s) = \beta \log \sum_a \pi_{ref}(a \mid s)\, e^{Q(s,a)/\beta},\quad Q(s,a) = V(s + a) \qquad "
            r"\Rightarrow \qquad V(x) = \beta \log Z(x), \quad p_{\pi^*} = p^*"
        ),
        source="Ziebart (2010); Levine (2018), arXiv:1805.00909.",
        parts=("V(x)", "p*"),
        sides={
            "over trajectories": lambda log_p_ref, r, beta: (soft_value(log_p_ref, r, beta), np.exp(log_gibbs(log_p_ref, r, beta))),
            "token by token": lambda mdp, V_soft, log_pi_star: (V_soft[:, 0], np.exp(mdp.path_sum(log_pi_star))),
            "sums of weights up the tree": lambda solution: (solution.V, solution.p),
        },
        misses={
            "per-state greedy for soft": hard_values,
            "mean for soft maximum": mean_values,
            "p_ref omitted": values_without_reference,
            "beta dropped": lambda mdp, log_pi_ref, r: gibbs.soft_bellman(mdp, log_pi_ref, r, 1.0).V[:, 0],
            "Q without V in the soft policy": Miss(
                "Q without V in the soft policy",
                lambda mdp, log_pi_ref, Q_soft, beta: np.exp(mdp.path_sum(log_pi_ref + Q_soft / beta)),
                part=1,
            ),
        },
        scale=lambda r, beta, log_p_star, log_p_ref: (reward_units(r, beta, log_p_star, log_p_ref), 1.0),
    )
)

# ---------------------------------------------------------------------------------------------------- kl-chain-rule


def visited_kl(d: Any, log_pi: Any, log_pi_ref: Any) -> Any:
    return np.sum(d * kl(log_pi, log_pi_ref), axis=1)


add(
    Row(
        slug="kl-chain-rule",
        chapter=4,
        clauses=(r"\mathrm{KL}(p_\pi, p_{ref}) = \sum_s d_\pi(s)\, \mathrm{KL}(\pi(\cdot \mid s), \pi_{ref}(\cdot \mid s))",),
        source="Cover and Thomas (2006), theorem 2.5.3.",
        sides={
            "over trajectories": 0,
            "over states": 1,
            "over states, in logarithms": lambda d_pi, log_pi, log_pi_ref: visited_kl(d_pi, log_pi, log_pi_ref),
        },
        slips=("d_ref for d_pi", "d_pi(s) dropped", "arguments of KL swapped", "pi_2 for pi"),
        misses={
            "mean over tokens where the sum was due": "KL(p, p_ref)/H",
            "log base 2": "KL(p, p_ref)/log 2",
        },
        sampled=Sampled("log_p", lambda log_p, log_p_ref: log_ratio(log_p, log_p_ref), lambda mu, KL: np.sum(mu * KL)),
        scale=lambda log_p, log_p_ref: reward_units(0.0, 1.0, log_p, log_p_ref),
    )
)

# ---------------------------------------------------------------------------------------------------- free-energy-derivatives


def free_energy_closed(log_p_star: Any, r: Any, beta: float) -> Any:
    var = gibbs.reward_variance(log_p_star, r)
    return np.exp(log_p_star), gibbs.free_energy_hessian(log_p_star[0], beta), -var / beta**2, -var / beta**3


def free_energy_core(log_p_ref: Any, r: Any, beta: float) -> Any:
    def reward(b: Any) -> Any:
        return expect(log_gibbs(log_p_ref, r, b), r)

    def distance(b: Any) -> Any:
        return kl(log_gibbs(log_p_ref, r, b), log_p_ref)

    slopes = [np.array([grad(lambda b, x=x, q=q: q(b)[x])(beta) for x in range(len(r))]) for q in (reward, distance)]
    return (
        grad(lambda q: np.sum(soft_value(log_p_ref, q, beta)))(r),
        hessian(lambda q: soft_value(log_p_ref[0], q, beta))(r[0]),
        *slopes,
    )


def free_energy_by_difference(log_p_ref: Any, r: Any, beta: float) -> Any:
    """Everything from differences of the soft value alone: V in r, and E[r] = V + beta KL, KL = -dV/dbeta ... in beta."""
    h = 1e-3 * beta
    tilt = {k: log_gibbs(log_p_ref, r, beta + k * h) for k in (-2, -1, 1, 2)}

    def slope(q: Any) -> Any:
        return (8 * (q(tilt[1]) - q(tilt[-1])) - (q(tilt[2]) - q(tilt[-2]))) / (12 * h)

    def value_of(step: Any) -> Any:
        return soft_value(log_p_ref, r + step, beta)

    d_r = np.empty_like(r)
    for i in range(r.shape[1]):
        e = h * (np.arange(r.shape[1]) == i)
        d_r[:, i] = (8 * (value_of(e) - value_of(-e)) - (value_of(2 * e) - value_of(-2 * e))) / (12 * h)
    curvature = np.empty((r.shape[1], r.shape[1]))
    for i in range(r.shape[1]):
        e = h * (np.arange(r.shape[1]) == i)
        at = {k: np.exp(log_gibbs(log_p_ref[0], r[0] + k * e, beta)) for k in (-2, -1, 1, 2)}
        curvature[i] = (8 * (at[1] - at[-1]) - (at[2] - at[-2])) / (12 * h)
    return d_r, curvature, slope(lambda log_p: expect(log_p, r)), slope(lambda log_p: kl(log_p, log_p_ref))


add(
    Row(
        slug="free-energy-derivatives",
        chapter=4,
        statement=(
            r"\frac{\partial\, \beta \log Z}{\partial r(\tau)} = p^*(\tau), \qquad "
            r"\frac{\partial^2 \beta \log Z}{\partial r\, \partial r'} = \frac{\mathrm{Cov}_{p^*}}{\beta}, \qquad "
            r"\frac{d\,\mathbb{E}_{p^*}[r]}{d\beta} = -\frac{\mathrm{Var}_{p^*}(r)}{\beta^2}, \qquad "
            r"\frac{d\,\mathrm{KL}(p^*, p_{ref})}{d\beta} = -\frac{\mathrm{Var}_{p^*}(r)}{\beta^3}"
        ),
        source="Exponential families; Wainwright and Jordan (2008), sec. 3.",
        note="The quotient of the last two is the slope of the reward-KL frontier, dE[r]/dKL = beta.",
        parts=("dV/dr", "d2V/dr2", "dE[r]/dbeta", "dKL/dbeta"),
        sides={
            "closed form": free_energy_closed,
            "gradient core": free_energy_core,
            # fourth-order differences, h = beta/1000: truncation (1e-3)^4 times powers of the spread (in scale), rounding eps/1e-3
            "finite differences": Approximately(free_energy_by_difference, error=1e-9),
        },
        misses={
            "p_ref for p*": lambda p_ref: p_ref,
            "beta dropped in the Hessian": Miss(
                "beta dropped in the Hessian", lambda log_p_star: gibbs.free_energy_hessian(log_p_star[0], 1.0), 1
            ),
            "second moment for covariance": Miss("second moment for covariance", lambda p_star, beta: np.diag(p_star[0]) / beta, 1),
            "sign flipped": Miss("sign flipped", lambda log_p_star, r, beta: gibbs.reward_variance(log_p_star, r) / beta**2, 2),
            "variance for second moment": Miss(
                "second moment for variance", lambda log_p_star, r, beta: -expect(log_p_star, r**2) / beta**2, 2
            ),
            "beta squared for beta cubed": Miss(
                "beta squared for beta cubed", lambda log_p_star, r, beta: -gibbs.reward_variance(log_p_star, r) / beta**2, 3
            ),
        },
        where=lambda r, beta: (np.max(r) - np.min(r)) / beta < 40,
        scale=lambda r, beta, log_p_ref: tuple(
            s * (1 + np.ptp(r) / beta) ** 5
            for s in (1.0, 1 / beta, (1 + np.max(np.abs(r))) ** 2 / beta**2, (1 + np.max(np.abs(r))) ** 2 / beta**3)
        ),
        largest=40,
    )
)
