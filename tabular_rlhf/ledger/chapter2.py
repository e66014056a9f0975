r"""Chapter 2: the two challenges of fine-tuning.  Finding reward at all (exploration), and asking for the right thing (reward).

Worlds here are built inside the rows where the claim needs a special shape: an expert's path, a proxy reward.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.autodiff import grad
from tabular_rlhf.gibbs import log_gibbs
from tabular_rlhf.ledger.record import Approximately, Miss, Row, Sampled, add
from tabular_rlhf.logspace import expect, kl, log_sigmoid
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.policy import uniform

# ---------------------------------------------------------------------------------------------------- exploration


def best_set(log_p_ref: Any, r: Any) -> Any:
    """G(x): the possible responses of highest reward."""
    possible = ~np.isneginf(log_p_ref)
    return possible & (r == np.max(np.where(possible, r, -np.inf), axis=1, keepdims=True))


def hit_probability(log_p_ref: Any, r: Any) -> Any:
    return np.sum(np.exp(log_p_ref) * best_set(log_p_ref, r), axis=1)


def waiting_time_by_doubling(q: Any) -> Any:
    """sum over n >= 0 of (1 - q)^n, the mean first-hit time as a sum of survival probabilities, by repeated squaring."""
    total, power = np.ones_like(q), 1.0 - q
    for _ in range(200):
        total, power = total * (1.0 + power), power * power
    return total


def uniform_string_probability(V: int, H: int) -> Any:
    """p of one string under uniform play without EOS, as a product of H factors."""
    return np.prod(np.full(H, 1.0 / V))


add(
    Row(
        slug="exploration",
        chapter=2,
        statement=(
            r"\mathbb{E}[\text{episodes until } \tau \in G] = 1/p(G); \qquad "
            r"V^H \text{ for one string and uniform play}; \qquad "
            r"1/p_{ref}(G) \text{ from } \pi_{ref}"
        ),
        source="Geometric distribution; Sutton and Barto (2018), ch. 2, on exploration.",
        parts=("from pi_ref", "uniform play"),
        sides={
            "1/p(G) and V^H": lambda log_p_ref, r, V, H: (1.0 / hit_probability(log_p_ref, r), float(V) ** H),
            "sum of survival probabilities": lambda log_p_ref, r, V, H: (
                waiting_time_by_doubling(hit_probability(log_p_ref, r)),
                1.0 / uniform_string_probability(V, H),
            ),
        },
        misses={
            "1/(1 - p(G))": lambda log_p_ref, r: 1.0 / np.maximum(1e-9, 1.0 - hit_probability(log_p_ref, r)),
            "log for the inverse: bits, not episodes": lambda log_p_ref, r: -np.log2(hit_probability(log_p_ref, r)),
            "n - 1 for n: failures before the first success": lambda log_p_ref, r: 1.0 / hit_probability(log_p_ref, r) - 1.0,
            "V times H for V to the power H": Miss("V times H for V to the power H", lambda V, H: float(V * H), part=1),
            "horizon and vocabulary swapped: H^V": Miss("H^V for V^H", lambda V, H: float(H) ** V, part=1),
        },
        sampled=Sampled(
            "log_p_ref",
            lambda log_p_ref, r: best_set(log_p_ref, r).astype(float),
            lambda mu, log_p_ref, r: np.sum(mu * hit_probability(log_p_ref, r)),
        ),
        where=lambda log_p_ref, r: np.min(hit_probability(log_p_ref, r)) > 1e-12,
        # 1 - q and its powers lose what q itself is short of 1: a relative error eps/q
        scale=lambda log_p_ref, r, V, H: (np.max(1.0 / hit_probability(log_p_ref, r) ** 2), float(V) ** H),
    )
)

# ---------------------------------------------------------------------------------------------------- compounding-error


def learner_world(V: int, H: int, eps: float) -> tuple[TokenMDP, Any, Any]:
    """An expert who always says token 0, and a learner who slips with probability eps on the expert's path, and is lost
    (errs always) once off it.  Returns the MDP, the learner's log_pi, and the mask of the expert's states."""
    mdp = TokenMDP(V, H)
    on_path = np.zeros(mdp.S, dtype=bool)
    on_path[list(mdp.offsets[:-1])] = True
    pi = np.exp(uniform(mdp))
    pi[:, on_path, 0], pi[:, on_path, 1:] = 1.0 - eps, eps / (V - 1)
    return mdp, np.log(pi), on_path


def costs_by_sweep(V: int, H: int, eps: float) -> Any:
    """Expected mistakes under one's own visits, under the expert's, and their gap as a mismatch of visits."""
    mdp, log_pi, on_path = learner_world(V, H, eps)
    d_pi = np.exp(mdp.prefix_sum(log_pi))[0]
    d_expert = on_path.astype(float)
    cost = np.where(on_path, eps, 1.0)
    return np.sum(d_pi * cost), np.sum(d_expert * cost), np.sum((d_pi - d_expert) * cost)


def costs_in_closed_form(H: int, eps: float) -> Any:
    own = sum(1.0 - (1.0 - eps) ** h for h in range(1, H + 1))
    assert own <= eps * H * (H + 1) / 2 * (1 + 1e-12), "the quadratic bound"
    return own, eps * H, own - eps * H


add(
    Row(
        slug="compounding-error",
        chapter=2,
        statement=(
            r"\sum_s d_{\text{expert}}(s) c(s) = \varepsilon H, \qquad "
            r"\sum_s d_\pi(s) c(s) = \sum_{h=1}^{H} 1 - (1 - \varepsilon)^h \le \varepsilon \tfrac{H (H + 1)}{2}, \qquad "
            r"\text{gap} = \sum_s (d_\pi - d_{\text{expert}})(s)\, c(s)"
        ),
        source="Ross and Bagnell (2010), Efficient reductions for imitation learning, theorem 2.1.",
        parts=("own visits", "expert's visits", "gap"),
        sides={"closed form": costs_in_closed_form, "occupancy sweeps": costs_by_sweep},
        misses={
            "d_ref for d_pi: the expert's visits for one's own": lambda H, eps: eps * H,
            "the bound eps H^2 taken for the cost": lambda H, eps: eps * H**2,
            "n - 1 for n: the first step cannot err": lambda H, eps: sum(1.0 - (1.0 - eps) ** h for h in range(H)),
            "sign flipped": Miss("sign flipped", lambda H, eps: eps * H - sum(1.0 - (1.0 - eps) ** h for h in range(1, H + 1)), part=2),
        },
        where=lambda V, H: V >= 2 and V**H <= 2**16,
        scale=lambda H: float(H),
    )
)

# ---------------------------------------------------------------------------------------------------- reward-hacking


def hacked_means(log_p_ref: Any, proxy: Any, r: Any, beta: Any) -> Any:
    """E[r'] and E[r] at the optimum of the proxy r', for each prompt."""
    log_p = log_gibbs(log_p_ref, proxy, beta)
    return expect(log_p, proxy), expect(log_p, r)


def hacking_slopes(log_p_ref: Any, proxy: Any, r: Any, beta: float) -> Any:
    log_p = log_gibbs(log_p_ref, proxy, beta)
    centered = proxy - expect(log_p, proxy)[:, None]
    return tuple(-expect(log_p, centered * (g - expect(log_p, g)[:, None])) / beta**2 for g in (proxy, r))


def slopes_by_core(log_p_ref: Any, proxy: Any, r: Any, beta: float) -> Any:
    one = [lambda b, x=x, part=part: hacked_means(log_p_ref, proxy, r, b)[part][x] for part in (0, 1) for x in range(len(r))]
    slopes = np.array([grad(f)(beta) for f in one])
    return slopes[: len(r)], slopes[len(r) :]


def slopes_by_difference(log_p_ref: Any, proxy: Any, r: Any, beta: float) -> Any:
    h = 1e-3 * beta
    at = {k: np.stack(hacked_means(log_p_ref, proxy, r, beta + k * h)) for k in (-2, -1, 1, 2)}
    return tuple((8 * (at[1] - at[-1]) - (at[2] - at[-2])) / (12 * h))


def uncentered(log_p_ref: Any, proxy: Any, r: Any, beta: float) -> Any:
    log_p = log_gibbs(log_p_ref, proxy, beta)
    return -expect(log_p, proxy * r) / beta**2


add(
    Row(
        slug="reward-hacking",
        chapter=2,
        statement=(
            r"p \propto p_{ref}\, e^{r'/\beta}: \quad \frac{d\,\mathbb{E}_p[r']}{d\beta} = -\frac{\mathrm{Var}_p(r')}{\beta^2}, \qquad "
            r"\frac{d\,\mathbb{E}_p[r]}{d\beta} = -\frac{\mathrm{Cov}_p(r, r')}{\beta^2}"
        ),
        source="Gao, Schulman and Hilton (2023), Scaling laws for reward model overoptimization, arXiv:2210.10760 (the phenomenon).",
        note="So as beta falls the proxy never falls, and the true reward turns where Cov(r, r') changes sign.",
        parts=("proxy", "true reward"),
        sides={
            "covariances": hacking_slopes,
            "gradient core, in beta": slopes_by_core,
            # fourth-order differences with h = beta/1000: (h/beta)^4 times powers of spread/beta, and rounding/h
            "finite difference": Approximately(slopes_by_difference, error=1e-9),
        },
        misses={
            "sign flipped": lambda log_p_ref, proxy, r, beta: -hacking_slopes(log_p_ref, proxy, r, beta)[0],
            "beta squared dropped to beta": lambda log_p_ref, proxy, r, beta: beta * hacking_slopes(log_p_ref, proxy, r, beta)[0],
            "variance of r' for its covariance with r": Miss(
                "variance of r' for its covariance with r",
                lambda log_p_ref, proxy, r, beta: hacking_slopes(log_p_ref, proxy, r, beta)[0],
                part=1,
            ),
            "second moment for covariance": Miss("second moment for covariance", uncentered, part=1),
        },
        where=lambda log_p_ref, proxy, beta: (np.max(proxy) - np.min(proxy)) / beta < 40,
        scale=lambda r, proxy, beta: (1 + np.max(np.abs(proxy)) + np.max(np.abs(r))) ** 2 / beta**2 * (1 + (np.ptp(proxy) / beta) ** 5),
        largest=2000,
    )
)

# ---------------------------------------------------------------------------------------------------- by hand vs learned


def hand_designed(mdp: Any, r: Any, log_p_ref: Any) -> Any:
    """The best reward that uses only the length and the count of the first token: least squares under p_ref."""
    if not (np.isfinite(r).all() and np.max(log_p_ref) < 1.0):  # a slip that is tried, such as log r: LAPACK would complain aloud
        return np.full_like(r, np.nan)
    features = np.stack([np.ones(mdp.N), mdp.lengths, np.asarray(mdp.tokens() == 0).sum(axis=1)], axis=1).astype(float)
    out = np.empty_like(r)
    for x in range(mdp.P):
        root = np.exp(0.5 * log_p_ref[x])
        weights = np.linalg.lstsq(features * root[:, None], r[x] * root, rcond=None)[0]
        out[x] = features @ weights
    return out


def population_nll(scores: Any, r: Any, log_p_ref: Any) -> Any:
    """Bradley-Terry negative log-likelihood of `scores` when labels follow r and pairs are drawn from p_ref, summed over prompts."""
    weight = np.exp(log_p_ref[:, :, None] + log_p_ref[:, None, :])
    label = np.exp(log_sigmoid(r[:, :, None] - r[:, None, :]))
    return -np.sum(weight * label * log_sigmoid(scores[:, :, None] - scores[:, None, :]))


def hand_regret(mdp: Any, r: Any, log_p_ref: Any, beta: float, value: Any) -> Any:
    log_p = log_gibbs(log_p_ref, hand_designed(mdp, r, log_p_ref), beta)
    return value - expect(log_p, r) + beta * kl(log_p, log_p_ref)


def hand_regret_as_kl(mdp: Any, r: Any, log_p_ref: Any, beta: float, log_p_star: Any, forward: bool = False) -> Any:
    log_p = log_gibbs(log_p_ref, hand_designed(mdp, r, log_p_ref), beta)
    return beta * (kl(log_p_star, log_p) if forward else kl(log_p, log_p_star))


add(
    Row(
        slug="reward-by-hand-vs-learned",
        chapter=2,
        statement=(
            r"\text{reward by hand: regret } \beta\,\mathrm{KL}(p_{\text{hand}}, p^*); \qquad "
            r"\text{preferences: } \nabla_{\hat r}\, \mathrm{NLL}(\hat r)\big|_{\hat r = r} = 0, \text{ so the population MLE is } r"
        ),
        source="Christiano et al. (2017), Deep RL from human preferences, arXiv:1706.03741 (an experiment, made exact here).",
        note="Part 1 is what a feature reward (length, count of one token) costs; part 2 shows that comparisons recover the table.",
        parts=("regret by hand", "slope of the NLL at r"),
        sides={
            "objective, and stationarity": lambda mdp, r, log_p_ref, beta, value: (
                hand_regret(mdp, r, log_p_ref, beta, value),
                np.zeros_like(r),
            ),
            "KL to p*, and gradient core": lambda mdp, r, log_p_ref, beta, log_p_star: (
                hand_regret_as_kl(mdp, r, log_p_ref, beta, log_p_star),
                grad(population_nll)(r, r, log_p_ref),
            ),
        },
        misses={
            "forward for reverse KL": lambda mdp, r, log_p_ref, beta, log_p_star: hand_regret_as_kl(
                mdp, r, log_p_ref, beta, log_p_star, True
            ),
            "beta dropped": lambda mdp, r, log_p_ref, beta, log_p_star: (
                hand_regret_as_kl(mdp, r, log_p_ref, 1.0, log_p_star)
                if beta == 1
                else hand_regret_as_kl(mdp, r, log_p_ref, beta, log_p_star) / beta
            ),
            "log base 2": Miss("log base 2", lambda r, log_p_ref: grad(population_nll)(r * np.log(2.0), r, log_p_ref), part=1),
            "winner and loser swapped": Miss(
                "winner and loser swapped", lambda r, log_p_ref: grad(population_nll)(-r, r, log_p_ref), part=1
            ),
        },
        scale=lambda r, beta, log_p_ref, H: (
            (np.max(np.abs(r)) + beta * np.max(np.abs(log_p_ref), initial=1.0, where=np.isfinite(log_p_ref))) * 10 * H,
            1.0,
        ),
        largest=100,
    )
)
