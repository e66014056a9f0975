r"""Chapter 2: the two challenges of fine-tuning.  Finding reward at all (exploration), and asking for the right thing (reward).

Worlds here are built inside the rows where the claim needs a special shape: an expert's path, a proxy reward.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.autodiff import grad
from tabular_rlhf.autodiff.derivatives import central
from tabular_rlhf.gibbs import log_gibbs
from tabular_rlhf.ledger.record import Approximately, Sampled, claim
from tabular_rlhf.logspace import expect, kl, log_sigmoid
from tabular_rlhf.world import World

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


claim(
    slug="exploration",
    chapter=2,
    text=r"""
    let V = V
    T = 1 + (1 - q)\, T, \quad T = 1/q, \quad q = p_{ref}(r = \max_\tau r(\tau))
      slip the term 1 dropped
      not 1/(1 - q)  # 1/(1 - p(G))
      not -(\log q) / \log 2  # log for the inverse: bits, not episodes
    1 \Big/ \prod_{h=1}^{H} \frac{1}{V} = V^H
        # are the mean episodes T until a best response is met from the reference, and one string of H of the V words by uniform play
      not V \cdot H  # V times H for V to the power H
      not H^V  # H^V for V^H
    """,
    source="Geometric distribution; Sutton and Barto (2018), ch. 2, on exploration.",
    parts=("from pi_ref", "uniform play"),
    sides={
        "1/p(G) and V^H": (0, 1),
        "a first episode, and those after it; a product of H chances": (1, 0),
        "sum of survival probabilities": lambda log_p_ref, r, V, H: (
            waiting_time_by_doubling(hit_probability(log_p_ref, r)),
            float(V) ** H,
        ),
    },
    sampled=Sampled(
        "log_p_ref",
        lambda log_p_ref, r: best_set(log_p_ref, r).astype(float),
        lambda mu, log_p_ref, r: np.sum(mu * hit_probability(log_p_ref, r)),
    ),
    where=lambda log_p_ref, r: np.min(hit_probability(log_p_ref, r)) > 1e-12,
    scale=lambda log_p_ref, r, V, H: (np.max(1.0 / hit_probability(log_p_ref, r) ** 2), float(V) ** H),
)

# ---------------------------------------------------------------------------------------------------- compounding-error


def costs_by_sweep(d_learner: Any, d_expert: Any, c_learner: Any) -> Any:
    """Expected mistakes under one's own visits, under the expert's, and their gap as a mismatch of visits."""
    return np.sum(d_learner * c_learner), np.sum(d_expert * c_learner), np.sum((d_learner - d_expert) * c_learner)


claim(
    slug="compounding-error",
    chapter=2,
    text=r"""
    H - \frac{1 - \varepsilon}{\varepsilon}\,(1 - (1 - \varepsilon)^H) = \sum_{h=1}^{H} (1 - (1 - \varepsilon)^h)
      not \varepsilon H  # d_ref for d_pi: the expert's visits for one's own
      not \varepsilon H^2  # the bound eps H^2 taken for the cost
      not \sum_{h=1}^{H} (1 - (1 - \varepsilon)^{h - 1})  # n - 1 for n: the first step cannot err
    \varepsilon H = \sum_{h=1}^{H} \varepsilon
    \sum_{h=1}^{H} (1 - (1 - \varepsilon)^h) - \varepsilon H = \sum_{h=1}^{H} (1 - (1 - \varepsilon)^{h - 1})\,(1 - \varepsilon)
      slip sign flipped
    \sum_{h=1}^{H} (1 - (1 - \varepsilon)^h) \le \varepsilon\, \frac{H (H + 1)}{2}
        # are the mean mistakes of a learner who slips with one chance at every step, and is lost from then on: under its own visits, under
        the expert's, the gap (being lost already, times what that costs), and its bound
    """,
    source="Ross and Bagnell (2010), Efficient reductions for imitation learning, theorem 2.1.",
    parts=("own visits", "expert's visits", "gap"),
    sides={"closed form": 0, "step by step": 1, "occupancy sweeps": costs_by_sweep},
    where=lambda V, H: V >= 2 and V**H <= 2**16,
    scale=lambda H: float(H),
)

# ---------------------------------------------------------------------------------------------------- reward-hacking


def slopes_by_difference(log_p_ref: Any, proxy: Any, r: Any, beta: float) -> Any:
    """d E[r']/d beta and d E[r]/d beta at the optimum of the proxy r'."""

    def means(t: float) -> Any:
        log_p = log_gibbs(log_p_ref, proxy, beta + t)
        return np.stack([expect(log_p, proxy), expect(log_p, r)])

    return tuple(central(means, 1e-3 * beta))


claim(
    slug="reward-hacking",
    chapter=2,
    text=r"""
    \frac{d}{d\beta}\, \mathbb{E}_p[r'] = -\frac{\mathrm{Var}_p(r')}{\beta^2}, \quad p \propto p_{ref}\, e^{r'/\beta}
      slip sign flipped; the exponent 2 dropped
    \frac{d}{d\beta}\, \mathbb{E}_p[r] = -\frac{\mathrm{Cov}_p(r, r')}{\beta^2}  # where p is the optimum of a proxy r'
      not -\mathrm{Var}_p(r')/\beta^2  # variance of r' for its covariance with r
      not -\mathbb{E}_p[r\, r']/\beta^2  # second moment for covariance
    """,
    source="Gao, Schulman and Hilton (2023), Scaling laws for reward model overoptimization, arXiv:2210.10760 (the phenomenon).",
    note="So as beta falls the proxy never falls, and the true reward turns where Cov(r, r') changes sign.",
    parts=("proxy", "true reward"),
    sides={
        "covariances": 1,
        "gradient core, in beta": 0,
        # fourth-order differences with h = beta/1000: (h/beta)^4 times powers of spread/beta, and rounding/h
        "finite difference": Approximately(slopes_by_difference, error=1e-9),
    },
    where=lambda log_p_ref, proxy, beta: (np.max(proxy) - np.min(proxy)) / beta < 40,
    scale=lambda r, proxy, beta: (1 + np.max(np.abs(proxy)) + np.max(np.abs(r))) ** 2 / beta**2 * (1 + (np.ptp(proxy) / beta) ** 5),
    largest=2000,
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


def by_hand(world: World) -> Any:
    """The law that a reward by hand leads to."""
    return log_gibbs(world.log_p_ref, hand_designed(world.mdp, world.r, world.log_p_ref), world.beta)


claim(
    slug="reward-by-hand-vs-learned",
    chapter=2,
    text=r"""
    V(x) - J_x(p) = \beta\, \mathrm{KL}(p, p^*)
    -\frac{\partial}{\partial \hat r_i} \sum_{i, j} p_{ref}(i)\, p_{ref}(j)\, P(i \succ j) \log \sigma(\hat r_i - \hat r_j) = p_{ref}(i)
        \sum_j p_{ref}(j)\, (\sigma(\hat r_i - \hat r_j) - P(i \succ j))
        # are what a policy gives away, here the optimum of a reward by hand, and the slope of the likelihood of comparisons, which is 0
        where the scores are r: so the population's fit is r
      not p_{ref}(i) \sum_j p_{ref}(j)\, (\sigma((r_i - r_j) \log 2) - P(i \succ j))  # log base 2
      not p_{ref}(i) \sum_j p_{ref}(j)\, (\sigma(r_j - r_i) - P(i \succ j))  # winner and loser swapped
    """,
    source="Christiano et al. (2017), Deep RL from human preferences, arXiv:1706.03741 (an experiment, made exact here).",
    note="Part 1 is what a feature reward (length, count of one token) costs; part 2 shows that comparisons recover the table.",
    parts=("regret by hand", "slope of the NLL at r"),
    sides={
        "objective, and stationarity": (
            lambda world, log_p_ref, r, beta, value: value - expect(by_hand(world), r) + beta * kl(by_hand(world), log_p_ref),
            lambda r: np.zeros_like(r),
        ),
        "KL to p*, and gradient core": (
            lambda world, beta, log_p_star: beta * kl(by_hand(world), log_p_star),
            lambda r, log_p_ref: grad(population_nll)(r, r, log_p_ref),
        ),
    },
    misses={
        "forward for reverse KL": lambda world, beta, log_p_star: beta * kl(log_p_star, by_hand(world)),
        "beta dropped": lambda world, log_p_star: kl(by_hand(world), log_p_star),
    },
    scale=lambda r, beta, log_p_ref, H: (
        (np.max(np.abs(r)) + beta * np.max(np.abs(log_p_ref), initial=1.0, where=np.isfinite(log_p_ref))) * 10 * H,
        1.0,
    ),
    largest=100,
)
