r"""Chapter 10, groups: one theorem over all methods with 0/1 rewards, and what today's estimators make of it.

Every clause has the mean over all N^G groups, one by one, on its left: `pull` times the score of each response.
"""

from __future__ import annotations

import math
from string import Template
from typing import Any

import numpy as np

from tabular_rlhf.autodiff import grad
from tabular_rlhf.ledger.record import claim
from tabular_rlhf.logspace import log_softmax
from tabular_rlhf.policy_gradient import bernstein
from tabular_rlhf.terms.conditions import decided, few
from tabular_rlhf.terms.letters import TABLE, U, pulled
from tabular_rlhf.terms.sizes import table_size


def slope_in_logits(world: Any, logits: Any, success: Any, ascended: Any) -> Any:
    """The gradient of a function of u, for each prompt, in the logits of all: (P, P, S, V); by the gradient core."""
    mdp = world.mdp

    def of(x: int) -> Any:
        return grad(lambda t: ascended(np.sum(np.exp(mdp.path_sum(log_softmax(t))) * success, axis=1)[x], x))(logits)

    return np.stack([of(x) for x in range(mdp.P)])


# ---------------------------------------------------------------------------------------------------- group-bernstein


def ascended_by(world: Any, logits: Any, success: Any, G: int, credit_0: float, credit_1: float, credit_2: float) -> Any:
    """The gradient of E[Phi(m)], m ~ Binomial(G, u), where Phi(m) sums the gains of one more right response."""
    A = [credit_0 + credit_1 * m + credit_2 * m**2 for m in range(1, G)]
    wrong = [0.0, *(-m * a / (G - m) for m, a in enumerate(A, 1))]
    gains = [(a - b) / G for a, b in zip([*A, 0.0], wrong, strict=True)]
    phi = np.concatenate([[0.0], np.cumsum(gains)])
    return slope_in_logits(
        world, logits, success, lambda u, _: sum(math.comb(G, m) * u**m * (1.0 - u) ** (G - m) * phi[m] for m in range(G + 1))
    )


def by_casteljau(world: Any, logits: Any, p: Any, success: Any, G: int, credit_0: float, credit_1: float, credit_2: float) -> Any:
    A = [credit_0 + credit_1 * m + credit_2 * m**2 for m in range(1, G)]
    w = bernstein.weight(A, np.sum(p * success, axis=1))
    return slope_in_logits(world, logits, success, lambda u, x: w[x] * u)


claim(
    slug="group-bernstein",
    chapter=10,
    text=Template(r"""
    g_A = \sum_{m=1}^{G-1} \binom{G-1}{m-1} u^{m-1} (1-u)^{G-1-m} A(m)\, \nabla u = \sum_{m=1}^{G-1} \binom{G-2}{m-1} u^{m-1} (1-u)^{G-1-m}
        \frac{G-1}{G-m} A(m)\, \nabla u, \quad ${TABLE}
        # for each prompt, where g_A is the mean of one group's update (1/G) sum A_i score_i, A(m) the advantage of a right response among
        m, advantages of a group sum to zero, and silent groups are 0
      not sum_{m=1}^{G-1} binom(G-1, m-1)*u^{m-1}*(1-u)^{G-m}*A(m)*nabla(u)  # a polynomial of degree G - 1
      not A(1)*nabla(u)  # REINFORCE times a constant, for G > 2 too
      not sum_{m=1}^{G-1} binom(G-1, m-1)*u^{m-1}*(1-u)^{G-1-m}*A(m)*nabla(u)/max(1-u^G-(1-u)^G, 10^(-300))  # silent groups are drawn again
      not G*g_A  # sum over the group for its mean
      not sum_{m=1}^{G-1} binom(G-1, m-1)*(1-u)^{m-1}*u^{G-1-m}*A(m)*nabla(u)  # right and wrong exchanged
    """).substitute(TABLE=TABLE),
    source="by counts; of the methods that it covers: arXiv:2402.14740 (RLOO), 2402.03300 (GRPO), 2503.20783 (Dr. GRPO), 2602.02710.",
    note="Groups of 2 to 4, for which c_0 + c_1 m + c_2 m^2 is every table.  `bernstein.judge` takes a table of any length.",
    letters={**U, **pulled("A=group_pull"), "c_0": "credit_0", "c_1": "credit_1", "c_2": "credit_2"},
    sides={
        "Bernstein's polynomial": 1,
        "all groups, one by one": 0,
        "its other form": 2,
        "gradient of what is ascended": ascended_by,
        "de Casteljau": by_casteljau,
    },
    where=few,
    scale=lambda H, G: 64.0 * H * G,
    largest=60,
    most=16,
)

# ---------------------------------------------------------------------------------------------------- maxrl-order


def of_order(k: int, world: Any, logits: Any, success: Any) -> Any:
    """The gradient of -sum_{j=1}^{k} (1-u)^j/j, which is log u to order k."""
    return slope_in_logits(world, logits, success, lambda u, _: -sum((1.0 - u) ** j / j for j in range(1, k + 1)))


claim(
    slug="maxrl-order",
    chapter=10,
    text=r"""
    g_r = \sum_{k=1}^{G} (1-u)^{k-1}\, \nabla u
      not nabla(u)/u  # grad log u at finite G
      not nabla(u)  # the success rate itself
    g_c = \sum_{k=1}^{G} (1-u)^{k-1}\, \nabla u
      not g_d  # order G - 1 with the mean score kept
    g_d = \sum_{k=1}^{G-1} (1-u)^{k-1}\, \nabla u
        # where g_r has r_i over the group's mean, g_c that minus the mean score in every group, and g_d minus the mean score only where
        somebody is right, as code that drops silent groups does
      not g_r  # the dropped form has order G
      not g_s  # GRPO's
    """,
    source="Tajwar et al. (2026), arXiv:2602.02710; log u = -sum of (1-u)^k/k.",
    parts=("not centered", "centered everywhere", "silent groups dropped"),
    letters={**U, **pulled("r=maxrl_raw", "c=maxrl_kept", "d=maxrl_dropped", "s=grpo_pull")},
    sides={
        "truncated series": 1,
        "all groups, one by one": 0,
        "gradient of the series": lambda world, logits, success, G: (
            of_order(G, world, logits, success),
            of_order(G, world, logits, success),
            of_order(G - 1, world, logits, success),
        ),
    },
    where=lambda P, N, G, p, success: few(P, N, G) and decided(p, success),
    scale=table_size,
    largest=60,
    most=16,
)

# ---------------------------------------------------------------------------------------------------- pass-at-k


def plain_estimates(p: Any, success: Any, G: int, tries: int) -> Any:
    """E[1 - C(G - m, k)/C(G, k)] in plain Python."""
    out = []
    for u in np.clip(np.sum(p * success, axis=1), 0.0, 1.0).tolist():
        chances = (math.comb(G, m) * u**m * (1.0 - u) ** (G - m) for m in range(G + 1))
        out.append(math.fsum(c * (1.0 - math.comb(G - m, tries) / math.comb(G, tries)) for m, c in enumerate(chances)))
    return np.array(out)


def of_pass(world: Any, logits: Any, success: Any, tries: int) -> Any:
    return slope_in_logits(world, logits, success, lambda u, _: 1.0 - (1.0 - u) ** tries)


claim(
    slug="pass-at-k",
    chapter=10,
    text=r"""
    \sum_{m=0}^{G} \binom{G}{m} u^m (1-u)^{G-m} \left(1 - \frac{\binom{G-m}{k}}{\binom{G}{k}}\right) = 1 - (1-u)^k
      not sum_{m=0}^{G} binom(G, m)*u^m*(1-u)^{G-m}*(1 - (1 - m/G)^k)  # plug-in 1 - (1 - m/G)^k is unbiased
    g_k = \nabla (1 - (1-u)^k)
      not k*g_k  # every member is credited with the whole set
      not nabla(u)  # the gradient of u
    g_c = \left(1 - \frac{k}{G}\right) \nabla (1 - (1-u)^k)
        # where g_k credits each member with its share of the k-subsets that hold a right one, and g_c takes off the group's mean
      not g_k  # centering is free
      not (1 - 1/G)*nabla(1 - (1-u)^k)  # (G - 1)/G, as without k
    """,
    source="Chen et al. (2021), arXiv:2107.03374; Walder and Karkhanis (2025), arXiv:2505.15201.",
    parts=("value", "gradient", "gradient, centered"),
    letters={**U, **pulled("k=pass_pull", "c=pass_centered_pull"), "k": "tries"},
    sides={
        "closed form": 1,
        "all groups and subsets, one by one": 0,
        "plain Python, gradient core": lambda world, logits, p, success, G, tries: (
            plain_estimates(p, success, G, tries),
            of_pass(world, logits, success, tries),
            (1.0 - tries / G) * of_pass(world, logits, success, tries),
        ),
    },
    where=few,
    scale=table_size,
    largest=60,
    most=16,
)

# ---------------------------------------------------------------------------------------------------- dynamic-sampling


def by_logit(world: Any, logits: Any, p: Any, success: Any, mu: Any, G: int) -> Any:
    """The three, by the gradient core and binomial sums of mixed groups."""
    u = np.sum(p * success, axis=1)
    mixed = np.array([math.fsum(math.comb(G, m) * q**m * (1 - q) ** (G - m) for m in range(1, G)) for q in u.tolist()])
    slopes = slope_in_logits(world, logits, success, lambda u, _: u)
    mean = np.einsum("x,xysv->ysv", mu, slopes)
    kept = float(np.sum(mu * mixed))
    return slopes / mixed[:, None, None, None], mean / kept, (2.0 - kept) * mean


claim(
    slug="dynamic-sampling",
    chapter=10,
    text=r"""
    g_r = \frac{\nabla u}{1 - u^G - (1-u)^G}
      not nabla(u)  # unconditional: the gradient of u
      not nabla(u)/(1 - (1-u)^G)  # only groups of failures are silent
    g_f = \frac{\nabla\, \mathbb{E}_{x \sim \mu}[u]}{\mathbb{E}_{x \sim \mu}[1 - u^G - (1-u)^G]}
      not nabla(E_mu[u])  # filling does nothing
      not g_s  # a filled batch taken for its survivors
    g_s = (1 + \mathbb{E}_{x \sim \mu}[u^G + (1-u)^G])\, \nabla\, \mathbb{E}_{x \sim \mu}[u]
        # for RLOO groups: g_r, each prompt's group redrawn until it is mixed; g_f, the batch filled with mixed groups of any prompts; g_s,
        the mean over those groups that are mixed, of a batch of two
      not g_f  # the survivors taken for a filled batch
      not nabla(E_mu[u])  # the survivors taken for the whole batch
    """,
    source="Yu et al. (2025), arXiv:2503.14476.",
    note=(
        "Filling keeps the direction over prompts, redrawing does not.  For G = 2, g_r is half the gradient of logit u.  In a "
        "batch of one group a prompt the last is neither: with u = .1 and .5, G = 4, the prompts' gradients weigh .5625 and .8281."
    ),
    parts=("redrawn", "filled", "those that survive"),
    letters={
        **U,
        **pulled("r=redrawn_pull"),
        "g_f": "sum_x sum_tau filled_pull(x, tau)*score(x, tau)",
        "g_s": "sum_x sum_tau surviving_pull(x, tau)*score(x, tau)",
    },
    sides={"closed form": 1, "all groups, one by one": 0, "binomial sums, gradient core": by_logit},
    where=lambda P, N, G, p, success: few(P, N, G) and decided(p, success),
    scale=lambda H, p, success: 4.0 * H / np.min(np.sum(p * success, axis=1) * (1 - np.sum(p * success, axis=1))),
    largest=60,
    most=16,
)
