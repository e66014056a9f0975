r"""Chapter 4, continued: the limits of the optimum, and what other penalties, prompts, shaping and slow steps do to it."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf import gibbs, penalties
from tabular_rlhf.autodiff import grad
from tabular_rlhf.divergences import DIVERGENCES
from tabular_rlhf.gibbs import log_gibbs
from tabular_rlhf.ledger.record import Miss, Sampled, claim
from tabular_rlhf.logspace import logsumexp
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.optimize import monotone_root
from tabular_rlhf.terms.sizes import reward_units
from tabular_rlhf.terms.sources import KORBAK
from tabular_rlhf.world import World

# ---------------------------------------------------------------------------------------------------- beta-limits


def at_extremes(world: Any) -> Any:
    big = world.with_reward(np.round(world.r * 2.0) / 2.0 * 1e6)  # ties, and rewards of 1e6
    return tuple(gibbs.solve(big.at(b)).p for b in (1e300, 1e-300))


def limits(world: Any) -> Any:
    big = np.round(world.r * 2.0) / 2.0 * 1e6
    return np.exp(world.log_p_ref), np.exp(gibbs.greedy_limit(world.log_p_ref, big))


def uniform_over_best(world: Any) -> Any:
    on = limits(world)[1] > 0
    return on / np.sum(on, axis=1, keepdims=True)


claim(
    slug="beta-limits",
    chapter=4,
    text=r"""
    \frac{p_{ref}\, e^{(r - \max r)/\beta}}{\sum_\tau p_{ref}\, e^{(r - \max r)/\beta}} = p_{ref}, \quad \beta = 10^{300}
    \frac{p_{ref}\, e^{(r - \max r)/\beta}}{\sum_\tau p_{ref}\, e^{(r - \max r)/\beta}} = \frac{p_{ref}\, 1[r = \max r]}{\sum_\tau p_{ref}\,
        1[r = \max r]}, \quad \beta = 10^{-300}
        # are the limits of the optimum: the reference, and the best of it, renormalized: ties keep its odds
    """,
    source=KORBAK,
    note="Evaluated at beta = 1e300 and 1e-300 with rewards of 1e6.",
    parts=("beta -> inf", "beta -> 0"),
    sides={"limits": limits, "solved at 1e300 and 1e-300": at_extremes},
    misses={
        "limits swapped": lambda world: limits(world)[1],
        "uniform for p_ref": lambda p_ref: np.ones_like(p_ref) / p_ref.shape[1],
        "ties share equally": Miss(uniform_over_best, part=1),
        "p_ref not renormalized": Miss(lambda world, p_ref: np.where(limits(world)[1] > 0, p_ref, 0.0), part=1),
    },
)

# ---------------------------------------------------------------------------------------------------- prompts


def one_prompt_at_a_time(world: Any, mdp: Any) -> Any:
    """Each prompt solved as a world of its own."""
    alone = TokenMDP(mdp.vocabulary, mdp.H, mdp.eos)
    solved = [gibbs.solve(World(alone, world.log_ref[x : x + 1], world.r[x : x + 1], world.beta)) for x in range(mdp.P)]
    return np.concatenate([g.V for g in solved]), np.concatenate([np.exp(g.log_p) for g in solved])


claim(
    slug="prompts",
    chapter=4,
    text=r"""
    V(x) = \beta \log \sum_\tau p_{ref}(\tau \mid x)\, e^{r(x, \tau)/\beta}
      not beta*log(E_mu[Z])  # one log Z for all prompts
    p^*(\tau \mid x) = \frac{e^{r(x, \tau)/\beta}}{Z(x)} \prod_h \pi_{ref}(a_h \mid s_h)  # for each prompt by itself
      not p_ref*exp(r/beta)/sum_x Z(x)  # normalized over all prompts together
      not mu*p_star  # joint for conditional
    """,
    source=KORBAK,
    parts=("V(x)", "p*"),
    sides={"all prompts at once": 0, "one prompt at a time": one_prompt_at_a_time, "softmax per prompt": 1},
    scale=lambda r, beta, log_p_star, log_p_ref: (reward_units(r, beta, log_p_star, log_p_ref), 1.0),
)

# ---------------------------------------------------------------------------------------------------- donsker-varadhan

claim(
    slug="donsker-varadhan",
    chapter=4,
    text=r"""
    \mathbb{E}_q[f] - \mathrm{KL}(q, p_{ref}) = \log \mathbb{E}_{p_{ref}}[e^f], \quad q \propto p_{ref}\, e^f
      not E_{p_ref}[f]  # mean of f under p_ref
      not E_q[f] + KL(q, p_ref)  # + KL for - KL
      not log(E_{p_ref}[exp(f)])/log(2)  # log base 2
    \log \mathbb{E}_{p_{ref}}[e^f] - (\mathbb{E}_p[f] - \mathrm{KL}(p, p_{ref})) = \mathrm{KL}(p, q)
      slip arguments of KL swapped
    \mathbb{E}_p[f] - \mathrm{KL}(p, p_{ref}) \le \log \mathbb{E}_{p_{ref}}[e^f]  # for every law p and function f
    """,
    source="Donsker and Varadhan (1975); Boucheron, Lugosi and Massart (2013), section 4.9.",
    parts=("maximum", "gap at a drawn p"),
    sides={
        "log-mean-exp": 1,
        "the bound at its maximizer, and at p": lambda log_p_ref, f, log_p: (
            gibbs.donsker_varadhan(log_gibbs(log_p_ref, f, 1.0), log_p_ref, f),
            logsumexp(log_p_ref + f) - gibbs.donsker_varadhan(log_p, log_p_ref, f),
        ),
        "the bound written out": 0,
    },
    sampled=Sampled("log_p_ref", lambda f: np.exp(f), lambda mu, log_p_ref, f: np.sum(mu * np.exp(logsumexp(log_p_ref + f)))),
    scale=lambda f, log_p, log_p_ref: reward_units(f, 1.0, log_p, log_p_ref),
)

# ---------------------------------------------------------------------------------------------------- potential-shaping


def shaped_solution(world: Any, mdp: Any, phi: Any) -> Any:
    shaped = gibbs.solve(world.with_reward(gibbs.shape_reward(mdp, world.r, phi)))
    return shaped.V, shaped.p


def shaped_but_leaves_keep_phi(world: Any, mdp: Any, phi: Any) -> Any:
    """Phi of the last state carried to the leaf, instead of Phi(leaf) = 0: the reward gains Phi(parent) - Phi(x)."""
    parent = np.zeros((mdp.P, mdp.N))
    for x in range(mdp.P):
        says = mdp.tokens()
        depth = np.sum(says >= 0, axis=1) - 1
        powers = mdp.K ** np.arange(mdp.H)
        before = np.where(np.arange(mdp.H) < depth[:, None], says, 0) @ powers
        parent[x] = phi[x, np.asarray(mdp.offsets)[depth] + before]
    return gibbs.solve(world.with_reward(world.r + parent - phi[:, :1])).p


claim(
    slug="potential-shaping",
    chapter=4,
    text=r"""
    \beta \log \sum_\tau p_{ref}(\tau)\, e^{r'(\tau)/\beta} = V(x) - \Phi(x), \quad r' = r + \sum_h (\Phi(s_{h+1}) - \Phi(s_h))
      slip sign of Phi(x) flipped; the term Phi(x) dropped
    p^* = \frac{p_{ref}\, e^{r'/\beta}}{\sum_\tau p_{ref}\, e^{r'/\beta}}
        # where the potential at the end of a response is 0: the optimum is unchanged
    """,
    source="Ng, Harada and Russell (1999), Policy invariance under reward transformations.",
    parts=("V(x)", "p*"),
    sides={
        "predicted": (1, 0),
        "solved again with the shaped reward": shaped_solution,
    },
    misses={"Phi(leaf) kept at the last state's": Miss(shaped_but_leaves_keep_phi, part=1)},
    scale=lambda r, phi, beta, log_p_star, log_p_ref, H: (
        reward_units(r, beta, log_p_star, log_p_ref) + H * np.max(np.abs(phi)),
        1.0 + H / beta,
    ),
    largest=5000,
)

# ---------------------------------------------------------------------------------------------------- f-divergence-optimum


def penalized(world: Any) -> list[tuple[Any, Any]]:
    return [(d, penalties.f_divergence_optimum(d, world.log_p_ref, world.r, world.beta)) for d in DIVERGENCES.values()]


def primal_and_slack(world: Any) -> Any:
    """For each divergence: the mass, the objective reached, and how far r - beta f'(u) is from lam where p > 0, by the core."""
    mass, value, slack = [], [], []
    for d, best in penalized(world):
        p = np.exp(best.log_p)
        u = np.exp(np.where(p > 0, best.log_p - np.where(p > 0, world.log_p_ref, 0.0), 0.0))
        slope = grad(lambda v, d=d: np.sum(d.f(v)))(u)
        mass.append(np.sum(p, axis=1))
        value.append(np.sum(p * world.r, axis=1) - world.beta * d(best.log_p, world.log_p_ref))
        slack.append(np.max(np.where(p > 0, p * np.abs(world.r - world.beta * slope - best.lam[:, None]), 0.0), axis=1))
    return np.stack(mass), np.stack(value), np.stack(slack)


def dual_value(world: Any) -> Any:
    """lam + beta E_ref[f*((r - lam)/beta)]: by weak duality an upper bound on every p, so equality proves optimality."""
    value = []
    p_ref = np.exp(world.log_p_ref)
    for d, best in penalized(world):
        y = np.where(p_ref > 0, (world.r - best.lam[:, None]) / world.beta, d.slope(np.zeros(1)))
        u = d.inverse(y)
        value.append(
            best.lam + world.beta * np.sum(p_ref * (y * u - d.f(np.where(u > 0, u, 1.0)) - np.where(u > 0, 0.0, d.f(1e-300))), axis=1)
        )
    return np.stack(value)


def gibbs_objectives(world: Any, log_p: Any) -> Any:
    p = np.exp(log_p)
    return np.stack([np.sum(p * world.r, axis=1) - world.beta * d(log_p, world.log_p_ref) for d in DIVERGENCES.values()])


def normalized_slope(world: Any) -> Any:
    """p_ref (f')^{-1}(r/beta) divided by its sum: the multiplier replaced by a normalizer, right only for reverse KL."""
    rows = []
    for d in DIVERGENCES.values():
        y = np.minimum((world.r - world.r.max()) / world.beta + d.slope(np.zeros(1)), d.slope(np.zeros(1)))
        w = np.exp(world.log_p_ref) * d.inverse(y)
        log_p = np.log(np.maximum(w / np.sum(w, axis=1, keepdims=True), 1e-300))
        rows.append(
            np.sum(np.exp(log_p) * world.r, axis=1)
            - world.beta * d(np.where(np.isneginf(world.log_p_ref), -np.inf, log_p), world.log_p_ref)
        )
    return np.stack(rows)


claim(
    slug="f-divergence-optimum",
    chapter=4,
    text=r"""
    \arg\max_p \mathbb{E}_p[r] - \beta D_f(p, p_{ref}) = p_{ref} \max\!\big(0, (f')^{-1}((r - \lambda)/\beta)\big)
    p^* = p_{ref}\, e^{(r - \lambda)/\beta - 1}, \quad \lambda = \beta\, (\log Z - 1)
        # with the multiplier that makes it sum to 1; the second is reverse KL's, where f is u log u
    """,
    source="Wang et al. (2023), arXiv:2309.16240; convex duality.",
    note=f"{'; '.join(d.told for d in DIVERGENCES.values())}.  The dual value bounds that of every p: equality proves optimality.",
    parts=("mass", "objective", "stationarity"),
    sides={
        "one, the dual bound, zero": lambda world, P: (
            np.ones((len(DIVERGENCES), P)),
            dual_value(world),
            np.zeros((len(DIVERGENCES), P)),
        ),
        "reached by the optimum": primal_and_slack,
    },
    misses={
        "reverse KL's optimum for every divergence": Miss(lambda world, log_p_star: gibbs_objectives(world, log_p_star), part=1),
        "normalized instead of the multiplier": Miss(normalized_slope, part=1),
        "no change from p_ref": Miss(lambda world, log_p_ref: gibbs_objectives(world, log_p_ref), part=1),
    },
    where=lambda r, beta, log_p_ref: (
        (np.max(r) - np.min(r)) / beta < 60 and np.min(log_p_ref, where=np.isfinite(log_p_ref), initial=0) > -60
    ),
    scale=lambda r, beta, log_p_ref: tuple(
        s * (1 + np.ptp(r) / beta)
        for s in (4.0, 8 * reward_units(r, beta, log_p_ref, log_p_ref), 8 * reward_units(r, beta, log_p_ref, log_p_ref))
    ),
    largest=500,
)

# ---------------------------------------------------------------------------------------------------- ppo-ptx-optimum


def ptx(world: Any, gamma: float, log_D: Any) -> Any:
    best = penalties.ptx_optimum(world.log_p_ref, world.r, world.beta, gamma, log_D)
    return np.exp(best.log_p), np.sum(np.exp(best.log_p), axis=1)


def ptx_by_roots(world: Any, gamma: float, log_D: Any) -> Any:
    """The same lam, but every response's stationarity equation solved for log p by a scalar root, without Wright's omega."""
    lam = penalties.ptx_optimum(world.log_p_ref, world.r, world.beta, gamma, log_D).lam
    on = ~np.isneginf(world.log_p_ref)
    ref = np.where(on, world.log_p_ref, 0.0)
    D = np.exp(log_D)

    def stationarity(log_p: Any) -> Any:
        pull = gamma * D * np.exp(-log_p)
        return world.beta * (log_p - ref + 1.0) - world.r - lam[:, None] - pull, world.beta + pull

    gibbs_like = ref + (world.r + lam[:, None]) / world.beta - 1.0  # without data; data can only raise it
    p = np.where(on, np.exp(monotone_root(stationarity, gibbs_like, np.maximum(gibbs_like, 0.0) + 1.0)), 0.0)
    return p, np.ones(len(lam))


claim(
    slug="ppo-ptx-optimum",
    chapter=4,
    text=r"""
    \frac{\partial}{\partial p(\tau)} \Big(\sum_\tau p(\tau) \Big(r(\tau) - \beta \log\frac{p(\tau)}{p_{ref}(\tau)}\Big) + \sum_\tau
        \gamma\, D(\tau) \log p(\tau)\Big) = r - \beta \log\frac{p}{p_{ref}} - \beta + \frac{\gamma D}{p}
      not p_star  # ptx term dropped: the Gibbs optimum
      not (p_star + gamma*D)/(1 + gamma)  # mixture of p* and D
    u + \log u = \log\frac{\gamma D}{\beta\, p_{ref}} + 1 - \frac{r + \lambda}{\beta}, \quad u = \frac{\gamma D}{\beta\, p}, \quad \lambda =
        -\Big(r - \beta \log\frac{p}{p_{ref}} - \beta + \frac{\gamma D}{p}\Big)
        # the optimum has one multiplier for all responses, and Wright's omega solves the second
    """,
    source="Ouyang et al. (2022), arXiv:2203.02155 (the objective); Corless et al. (1996) (Wright's omega).",
    note=(
        "Without the ptx term: p*.  Without the reward: between p_ref and D.  Without the KL term: p = gamma D/(lam' - r), which "
        "forgets everything outside the data but the best response."
    ),
    parts=("p", "total"),
    sides={"Wright omega": ptx, "scalar roots of the stationarity equation": ptx_by_roots},
    misses={
        "1/beta for beta": lambda world, gamma, log_D: ptx(world.at(1.0 / world.beta), gamma, log_D)[0],
        "gamma squared": lambda world, gamma, log_D: ptx(world, gamma**2, log_D)[0],
        "reward's sign flipped": lambda world, gamma, log_D: ptx(world.with_reward(-world.r), gamma, log_D)[0],
    },
    where=lambda r, beta, log_p_ref: (
        (np.max(r) - np.min(r)) / beta < 60 and np.min(log_p_ref, where=np.isfinite(log_p_ref), initial=0) > -60
    ),
    scale=lambda gamma, beta: 4.0 * (1.0 + gamma / beta),
    largest=3000,
)

# ---------------------------------------------------------------------------------------------------- mirror-descent


def to_optimum(log_p: Any, log_p_star: Any) -> Any:
    """log(p/p*) centered at its value at the heaviest response of p*: what is left of it up to a constant."""
    on = ~np.isneginf(log_p_star)
    gap = np.where(on, log_p, 0.0) - np.where(on, log_p_star, 0.0)
    return np.where(on, gap - np.take_along_axis(gap, np.argmax(log_p_star, axis=1)[:, None], axis=1), 0.0)


claim(
    slug="mirror-descent",
    chapter=4,
    text=r"""
    \log\frac{q}{p^*} = (1 - \eta \beta) \log\frac{p}{p^*} + \eta V(x) - \log C, \quad q = \frac{p}{C}\, e^{\eta\, (r - \beta
        \log(p/p_{ref}))}, \quad C = \sum_\tau p\, e^{\eta\, (r - \beta \log(p/p_{ref}))}
        # so that a step leaves the same share of what is left, up to a constant for each prompt
    """,
    source="Nemirovski and Yudin (1983); Munos et al. (2023), arXiv:2312.00886, use it for Nash equilibria.",
    free={"": "constant per prompt"},
    sides={
        "(1 - eta beta) log(p/p*)": lambda eta, beta, log_p, log_p_star: (1.0 - eta * beta) * to_optimum(log_p, log_p_star),
        "one step taken": lambda log_p, log_p_ref, r, beta, eta, log_p_star: to_optimum(
            gibbs.mirror_step(log_p, log_p_ref, r, beta, eta), log_p_star
        ),
    },
    misses={
        "sign flipped: 1 + eta beta": lambda eta, beta, log_p, log_p_star: (1.0 + eta * beta) * to_optimum(log_p, log_p_star),
        "beta dropped: 1 - eta": lambda eta, log_p, log_p_star: (1.0 - eta) * to_optimum(log_p, log_p_star),
        "exponential for linear": lambda eta, beta, log_p, log_p_star: np.exp(-eta * beta) * to_optimum(log_p, log_p_star),
        "no contraction": lambda log_p, log_p_star: to_optimum(log_p, log_p_star),
    },
    scale=lambda r, beta, log_p, log_p_ref: 4 * reward_units(r, beta, log_p, log_p_ref) / beta,
)
