r"""Chapter 5, continued: what the reverse projection seeks, and why RLHF and DPO meet or part."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from tabular_rlhf import roads
from tabular_rlhf.gibbs import solve
from tabular_rlhf.ledger.record import Approximately, Miss, claim
from tabular_rlhf.logspace import log_softmax
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.optimize import monotone_root
from tabular_rlhf.policy import NGram
from tabular_rlhf.preferences import Pairs
from tabular_rlhf.projection import reverse_projection
from tabular_rlhf.terms.policies import second_stage, two_stages

# ---------------------------------------------------------------------------------------------------- mode-seeking


@lru_cache(maxsize=512)
def reverse_modes(L: float) -> tuple[float, float, float]:
    """Descent: (smallest and largest pi(a) over the local optima, their number) for the two-token world in which saying the same
    token twice has e^L times the probability of saying different ones, and a class without context."""
    mdp = TokenMDP(("a", "b"), horizon=2)
    same = np.array([[float(mdp.text(i)[0] == mdp.text(i)[2]) for i in range(4)]])
    found = reverse_projection(NGram(mdp, 0), log_softmax(L * same), rng=np.random.default_rng(0), starts=8)
    pi = [float(np.exp(o.log_pi[0, 0, 0])) for o in found.optima]
    return min(pi), max(pi), float(len(pi))


def mean_field(L: float) -> tuple[float, float, float]:
    """The same from m = tanh(L m/2), m = 2 pi(a) - 1: two solutions beside 0 exactly if L > 2."""
    if L <= 2:
        return 0.5, 0.5, 1.0
    # x = L m/2 solves x/tanh(x) = L/2, which increases from 1
    x = monotone_root(lambda x: (x - 0.5 * L * np.tanh(x), 1 - 0.5 * L / np.cosh(x) ** 2), [1e-3 * (L - 2) ** 0.5], [0.5 * L])[0]
    return float(1 / (1 + np.exp(2 * x))), float(1 / (1 + np.exp(-2 * x))), 2.0


def by_scanning(L: float) -> tuple[float, float, float]:
    """The same from the divergence of the four strings, written out, and a search for a minimum on each half."""
    from scipy.optimize import minimize_scalar

    def divergence(q: float) -> float:
        log_Z = np.log(2 * np.exp(L) + 2)
        return float(sum(p * (np.log(p) - t + log_Z) for p, t in ((q * q, L), ((1 - q) ** 2, L), (q * (1 - q), 0), (q * (1 - q), 0))))

    low = float(minimize_scalar(divergence, bounds=(1e-300, 0.5), method="bounded", options={"xatol": 1e-13}).x)
    return (low, 1 - low, 2.0) if low < 0.499 else (0.5, 0.5, 1.0)


def ratio(beta: float) -> float:
    """L of a bonus of 3 reward units for saying the same token twice."""
    return 3.0 / beta


claim(
    slug="mode-seeking",
    chapter=5,
    text=r"""
    \frac{d}{du}(2 u \log u + 2 (1 - u) \log(1 - u) - L\, (u^2 + (1 - u)^2)) = 2 \log\frac{u}{1 - u} - 2 L\, (2 u - 1), \quad L = 3/\beta,
        \quad u = t
    \frac{2 e^L + 2}{2\, (2 e^L + 2)} = \frac{1}{2}
        # where one law speaks two tokens, and equal ones are to be e^L times as likely: the slope of the reverse KL in a token's chance is
        0 at 1/2 and, if L is over 2, at two more, (1 + m)/2 with m = tanh(L m/2); the forward projection is the second
    """,
    most=20,
    source="Minka (2005), Divergence measures and message passing; the equation is the mean-field Ising model's.",
    note="L = 3/beta for a bonus of 3 for saying one token twice; the forward projection covers both modes at any L.",
    parts=("smallest pi(a)", "largest pi(a)", "local optima"),
    sides={
        "mean-field equation": lambda beta: mean_field(ratio(beta)),
        "projection by descent from eight starts": Approximately(lambda beta: reverse_modes(ratio(beta)), error=1e-8),
        "four strings, scanned": Approximately(lambda beta: by_scanning(ratio(beta)), error=1e-6),
    },
    misses={
        "forward for reverse: it covers": lambda: 0.5,
        "beta dropped": lambda: mean_field(ratio(1.0))[0],
        "beta for 1/beta": lambda beta: mean_field(3.0 * beta)[0],
        "one start, one mode": Miss(lambda: 1.0, part=2),
        "L for L/2 in the equation": lambda beta: mean_field(2.0 * ratio(beta))[0],
    },
    where=lambda beta: abs(ratio(beta) - 2.0) > 0.2 and ratio(beta) < 30,
    largest=6,
)

# ---------------------------------------------------------------------------------------------------- all-roads


def shifted(world: Any, r: Any) -> Any:
    """Gibbs of a reward that is known up to c(x): so add one."""
    return solve(world.with_reward(r + 1.0 + np.arange(len(r))[:, None])).log_p


claim(
    slug="all-roads",
    chapter=5,
    text=r"""
    let p_pi = p_tied
    p_{rlhf} = p_{dpo}
    p_\pi = \frac{p_{ref}\, e^{\hat r/\beta}}{\sum_\tau p_{ref}\, e^{\hat r/\beta}}, \quad \hat r = \beta \log\frac{p_\pi}{p_{ref}}
        # for a class of policies and the rewards of these: each of its policies is the optimum of its own reward, so the likeliest reward
        leads by reinforcement to the policy that DPO fits
    """,
    most=6,
    source="Swamy et al. (2025), arXiv:2503.01067; Rafailov et al. (2023), arXiv:2305.18290.",
    note="On people who need not be transitive.  With a richer reward class the roads part: that is a near miss here.",
    parts=("n-gram", "log-linear"),
    sides={
        "DPO": (1, lambda p_dpo_linear: p_dpo_linear),
        "reward MLE over R(Pi) shifted by c(x), then reverse projection": Approximately(
            lambda world, tied, log_linear, fit_tied, fit_linear: (
                second_stage(tied, shifted(world, fit_tied.r)),
                second_stage(log_linear, shifted(world, fit_linear.r)),
            ),
            error=1e-10,
        ),
        "both stages from other starts": Approximately(
            lambda world, tied, log_linear, pairs_M: (
                two_stages(world, tied, pairs_M, roads.Implicit(tied, world)),
                two_stages(world, log_linear, pairs_M, roads.Implicit(log_linear, world)),
            ),
            error=1e-10,
        ),
    },
    misses={
        "a richer reward class: all tables": lambda world, tied, pairs_M: two_stages(world, tied, pairs_M, roads.Table(world.mdp)),
        "winner and loser swapped": lambda world, tied, pairs_M: two_stages(
            world, tied, Pairs(pairs_M.x, pairs_M.l, pairs_M.w, pairs_M.weight, None), roads.Implicit(tied, world)
        ),
        "another beta in the second stage": lambda world, tied, fit_tied: second_stage(
            tied, solve(world.with_reward(fit_tied.r).at(2.0 * world.beta)).log_p
        ),
        "p_ref omitted: softmax of r alone": lambda world, tied, fit_tied: second_stage(tied, log_softmax(fit_tied.r / world.beta)),
    },
    where=lambda log_p_ref, N: N > 1 and not np.isneginf(log_p_ref).any(),
    largest=4,
)
