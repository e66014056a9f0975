r"""Chapter 4, continued: the optimum token by token, the KL along the tree, and what beta and the reward do to the free energy."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.autodiff.derivatives import central
from tabular_rlhf.gibbs import log_gibbs
from tabular_rlhf.ledger.record import Approximately, Sampled, claim
from tabular_rlhf.logspace import expect, kl, log_ratio, soft_value
from tabular_rlhf.terms.policies import visited_kl
from tabular_rlhf.terms.sizes import reward_units

# ---------------------------------------------------------------------------------------------------- soft-bellman


claim(
    slug="soft-bellman",
    chapter=4,
    text=r"""
    V(x) = \beta \log \sum_\tau p_{ref}(\tau)\, e^{r(\tau)/\beta}
      slip beta dropped; p_ref(tau) dropped
      not max_tau r(tau)  # per-state greedy for soft
      not E_{p_ref}[r]  # mean for soft maximum
      not log(sum_tau p_ref(tau)*exp(r(tau)))  # beta dropped in both places
    p^*(\tau) = \prod_h \pi_{ref}(a_h \mid s_h)\, e^{(Q(s_h, a_h) - V(s_h))/\beta}
      slip the term V(s_{h}) dropped
    V(s) = \beta \log \sum_a \pi_{ref}(a \mid s)\, e^{Q(s, a)/\beta}
    Q(s, a) = V(s + a)  # with the reward for the value of a whole response: the optimum over responses is a policy of soft values
    """,
    source="Ziebart (2010); Levine (2018), arXiv:1805.00909.",
    parts=("V(x)", "p*"),
    sides={
        "over trajectories": (1, "p_ref*exp(r/beta)/Z"),
        "token by token": ("V(s_0)", 1),
        "sums of weights up the tree": 0,
    },
    scale=lambda r, beta, log_p_star, log_p_ref: (reward_units(r, beta, log_p_star, log_p_ref), 1.0),
)

# ---------------------------------------------------------------------------------------------------- kl-chain-rule


claim(
    slug="kl-chain-rule",
    chapter=4,
    text=r"""
    \mathrm{KL}(p_\pi, p_{ref}) = \sum_s d_\pi(s)\, \mathrm{KL}(\pi(\cdot \mid s), \pi_{ref}(\cdot \mid s))
      slip d_ref for d_pi; d_pi(s) dropped; arguments of KL swapped; pi_2 for pi
      not KL(p, p_ref)/H  # mean over tokens where the sum was due
      not KL(p, p_ref)/log 2  # log base 2
    """,
    source="Cover and Thomas (2006), theorem 2.5.3.",
    sides={
        "over trajectories": 0,
        "over states": 1,
        "over states, in logarithms": lambda d_pi, log_pi, log_pi_ref: visited_kl(d_pi, log_pi, log_pi_ref),
    },
    sampled=Sampled("log_p", lambda log_p, log_p_ref: log_ratio(log_p, log_p_ref), lambda mu, KL: np.sum(mu * KL)),
    scale=lambda log_p, log_p_ref: reward_units(0.0, 1.0, log_p, log_p_ref),
)

# ---------------------------------------------------------------------------------------------------- free-energy-derivatives


def free_energy_by_difference(log_p_ref: Any, r: Any, beta: float) -> Any:
    """Everything from differences of the soft value alone: V in r, and E[r] = V + beta KL, KL = -dV/dbeta ... in beta."""
    h = 1e-3 * beta

    def slope(q: Any) -> Any:
        return central(lambda t: q(log_gibbs(log_p_ref, r, beta + t)), h)

    def along(e: Any) -> tuple[Any, Any]:
        """The derivatives of V and of p* in the reward of one response."""
        return central(lambda t: soft_value(log_p_ref, r + t * e, beta), h), central(
            lambda t: np.exp(log_gibbs(log_p_ref, r + t * e, beta)), h
        )

    d_r, curvature = (np.stack(each, axis=1) for each in zip(*map(along, np.eye(r.shape[1])), strict=True))
    return d_r, curvature, slope(lambda log_p: expect(log_p, r)), slope(lambda log_p: kl(log_p, log_p_ref))


claim(
    slug="free-energy-derivatives",
    chapter=4,
    text=r"""
    \frac{\partial\, \beta \log Z}{\partial r(\tau)} = p^*(\tau)
      slip p_ref for p_star
    \frac{\partial^2\, \beta \log Z}{\partial r(\tau)\, \partial r(\tau')} = \frac{1}{\beta}\, p^*(\tau)\, (1[\tau = \tau'] - p^*(\tau'))
      slip the term p_star(tau') dropped
      not p_star(tau)*(1[tau = tau'] - p_star(tau'))  # beta dropped in the Hessian
    \frac{d}{d\beta}\, \mathbb{E}_{p^*}[r] = -\frac{\mathrm{Var}_{p^*}(r)}{\beta^2}
      slip sign flipped
      not -E_{p_star}[r^2]/beta^2  # second moment for variance
    \frac{d}{d\beta}\, \mathrm{KL}(p^*, p_{ref}) = -\frac{\mathrm{Var}_{p^*}(r)}{\beta^3}
      slip 2 for 3
    """,
    source="Exponential families; Wainwright and Jordan (2008), sec. 3.",
    note="The quotient of the last two is the slope of the reward-KL frontier, dE[r]/dKL = beta.",
    parts=("dV/dr", "d2V/dr2", "dE[r]/dbeta", "dKL/dbeta"),
    sides={
        "closed form": 1,
        "gradient core": 0,
        # fourth-order differences, h = beta/1000: truncation (1e-3)^4 times powers of the spread (in scale), rounding eps/1e-3
        "finite differences": Approximately(free_energy_by_difference, error=1e-9),
    },
    where=lambda r, beta: (np.max(r) - np.min(r)) / beta < 40,
    scale=lambda r, beta, log_p_ref: tuple(
        s * (1 + np.ptp(r) / beta) ** 5
        for s in (1.0, 1 / beta, (1 + np.max(np.abs(r))) ** 2 / beta**2, (1 + np.max(np.abs(r))) ** 2 / beta**3)
    ),
    largest=40,
)
