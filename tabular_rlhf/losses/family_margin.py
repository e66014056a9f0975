r"""Losses of the margin D = a - b alone, and their near relations: DPO, its smoothed, robust, averaged and weighted forms.

Each is written twice: `fn` for arrays, the oracle in plain `math` for one pair.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from tabular_rlhf.gibbs import log_gibbs
from tabular_rlhf.losses import closed
from tabular_rlhf.losses.record import corner, direct

sigma, log_sigma = special.expit, special.log_expit
RAFAILOV = "Rafailov et al. (2023), arXiv:2305.18290"


def ell(z: float) -> float:
    """-log sigma(z) in plain math, without overflow: the oracles' own."""
    return math.log1p(math.exp(-z)) if z > 0 else -z + math.log1p(math.exp(z))


def sig(z: float) -> float:
    """sigma(z) in plain math, without overflow."""
    return 1.0 / (1.0 + math.exp(-z)) if z > 0 else math.exp(z) / (1.0 + math.exp(z))


MARGIN = frozenset({"shift-invariant", "bounded-below", "prefers-winner"})

direct(
    "dpo",
    latex=r"-\log \sigma(\beta D)",
    source=RAFAILOV,
    fn=lambda a, b, beta: -log_sigma(beta * (a - b)),
    oracle=lambda a, b, beta: ell(beta * (a - b)),
    slope=lambda D, beta: -beta * sigma(-beta * D),
    traits=MARGIN | {"convex", "saturates", "recovers-gibbs"},
    optimum=closed.gibbs,
)
direct(
    "dpo-averaged",
    latex=r"-\log \sigma\big(\beta (a / |w| - b / |l|)\big)",
    source=f"{RAFAILOV}, as trainers average it; Meng et al. (2024), arXiv:2405.14734, table 3",
    fn=lambda a, b, len_w, len_l, beta: -log_sigma(beta * (a / len_w - b / len_l)),
    oracle=lambda a, b, len_w, len_l, beta: ell(beta * (a / len_w - b / len_l)),
    traits=frozenset({"convex", "saturates", "bounded-below", "prefers-winner", "length-normalized"}),
    optimum=closed.averaged_gibbs,
    scores=closed.averaged(lambda a, b, beta: -log_sigma(beta * (a - b))),
    variant_of="dpo",
)
direct(
    "rpo",
    latex=r"-\log \sigma(\beta D) - \lambda\, p",
    source="Liu et al. (2024), arXiv:2405.16436, with lambda = 0.005",
    fn=lambda a, b, p, beta, lam: -log_sigma(beta * (a - b)) - lam * p,
    oracle=lambda a, b, p, beta, lam: ell(beta * (a - b)) - lam * p,
    defaults={"lam": 0.005},
    traits=frozenset({"convex", "saturates", "bounded-below", "prefers-winner"}),
)
direct(
    "rpo-averaged",
    latex=r"-\log \sigma(\beta D) - \lambda \frac{p}{|w|}",
    source="Pang et al. (2024), arXiv:2404.19733 (iterative RPO), with lambda = 1",
    fn=lambda a, b, p, len_w, beta, lam: -log_sigma(beta * (a - b)) - lam * p / len_w,
    oracle=lambda a, b, p, len_w, beta, lam: ell(beta * (a - b)) - lam * p / len_w,
    defaults={"lam": 1.0},
    traits=frozenset({"convex", "saturates", "bounded-below", "prefers-winner", "length-normalized"}),
    variant_of="rpo",
)
direct(
    "cdpo",
    latex=r"-(1 - \epsilon) \log \sigma(\beta D) - \epsilon \log \sigma(-\beta D)",
    source=f"Mitchell (2023), A note on DPO with noisy preferences; {RAFAILOV}",
    fn=lambda a, b, beta, eps: -(1.0 - eps) * log_sigma(beta * (a - b)) - eps * log_sigma(-beta * (a - b)),
    oracle=lambda a, b, beta, eps: (1 - eps) * ell(beta * (a - b)) + eps * ell(-beta * (a - b)),
    slope=lambda D, beta, eps: beta * (sigma(beta * D) - (1.0 - eps)),
    defaults={"eps": 0.1},
    traits=MARGIN | {"convex", "finite-under-certainty"},
    optimum=closed.two_arms(lambda win, s: special.logit((1.0 - s["eps"]) * win + s["eps"] * (1.0 - win))),
)
direct(
    "robust-dpo",
    latex=r"\big[-(1 - \epsilon) \log \sigma(\beta D) + \epsilon \log \sigma(-\beta D)\big] / (1 - 2 \epsilon)",
    source="Chowdhury, Kini and Natarajan (2024), arXiv:2403.00409",
    fn=lambda a, b, beta, eps: (-(1.0 - eps) * log_sigma(beta * (a - b)) + eps * log_sigma(-beta * (a - b))) / (1.0 - 2.0 * eps),
    oracle=lambda a, b, beta, eps: ((1 - eps) * ell(beta * (a - b)) - eps * ell(-beta * (a - b))) / (1 - 2 * eps),
    slope=lambda D, beta, eps: -beta * (sigma(-beta * D) + eps / (1.0 - 2.0 * eps)),
    defaults={"eps": 0.1},
    traits=frozenset({"shift-invariant", "convex", "prefers-winner"}),
    # on clean labels; infinite where that is no probability: nothing is attained there
    optimum=closed.two_arms(lambda win, s: special.logit(np.clip((win - s["eps"]) / (1.0 - 2.0 * s["eps"]), 0.0, 1.0))),
)
direct(
    "ipo",
    latex=r"\Big(D - \frac{1}{2 \tau}\Big)^2",
    source="Azar et al. (2023), arXiv:2310.12036",
    fn=lambda a, b, tau: np.square(a - b - 1.0 / (2.0 * tau)),
    oracle=lambda a, b, tau: (a - b - 1 / (2 * tau)) ** 2,
    slope=lambda D, tau: 2.0 * (D - 1.0 / (2.0 * tau)),
    traits=MARGIN | {"convex", "finite-under-certainty"},
    optimum=closed.win_rate_tilt,
)
direct(
    "ipo-averaged",
    latex=r"\Big(\frac{a}{|w|} - \frac{b}{|l|} - \frac{1}{2 \tau}\Big)^2",
    source="Azar et al. (2023), arXiv:2310.12036, as trainers average it",
    fn=lambda a, b, len_w, len_l, tau: np.square(a / len_w - b / len_l - 1.0 / (2.0 * tau)),
    oracle=lambda a, b, len_w, len_l, tau: (a / len_w - b / len_l - 1 / (2 * tau)) ** 2,
    traits=frozenset({"convex", "bounded-below", "prefers-winner", "finite-under-certainty", "length-normalized"}),
    optimum=closed.averaged_win_rate_tilt,
    scores=closed.averaged(lambda a, b, tau: np.square(a - b - 1.0 / (2.0 * tau))),
    variant_of="ipo",
)
direct(
    "exo-pair",
    latex=r"\mathrm{KL}\big((\sigma(\beta D), \sigma(-\beta D)),\ (1 - \epsilon, \epsilon)\big)",
    source="Ji et al. (2024), arXiv:2402.00856",
    fn=lambda a, b, beta, eps: (
        sigma(beta * (a - b)) * (log_sigma(beta * (a - b)) - np.log1p(-eps))
        + sigma(-beta * (a - b)) * (log_sigma(-beta * (a - b)) - np.log(eps))
    ),
    oracle=lambda a, b, beta, eps: (
        sig(beta * (a - b)) * (-ell(beta * (a - b)) - math.log(1 - eps)) + sig(beta * (b - a)) * (-ell(beta * (b - a)) - math.log(eps))
    ),
    slope=lambda D, beta, eps: beta * sigma(beta * D) * sigma(-beta * D) * (beta * D - np.log1p(-eps) + np.log(eps)),
    defaults={"eps": 0.05},
    traits=MARGIN | {"saturates", "bounded", "finite-under-certainty"},
    optimum=closed.two_arms(lambda win, s: (2.0 * win - 1.0) * special.logit(1.0 - s["eps"])),
)
direct(
    "slic",
    latex=r"\max(0, \delta - (p - q)) - \lambda\, p",
    source="Zhao et al. (2023), arXiv:2305.10425",
    fn=lambda p, q, delta, lam, width: corner(delta - (p - q), width) - lam * p,
    oracle=lambda p, q, delta, lam: max(0.0, delta - (p - q)) - lam * p,
    defaults={"delta": 1.0, "lam": 0.1},
    traits=frozenset({"convex", "saturates", "bounded-below", "prefers-winner", "reference-free"}),
    kinks="p - q = delta",
)
direct(
    "slic-reference",
    latex=r"\max(0, 1 - \beta D)",
    source="Zhao et al. (2023), arXiv:2305.10425; Liu et al. (2023), arXiv:2309.06657",
    fn=lambda a, b, beta, width: corner(1.0 - beta * (a - b), width),
    oracle=lambda a, b, beta: max(0.0, 1 - beta * (a - b)),
    slope=lambda D, beta: np.where(beta * D < 1.0, -beta, 0.0),
    traits=MARGIN | {"convex", "saturates", "finite-under-certainty"},
    kinks="D = 1/beta",
    variant_of="slic",
)
direct(
    "discopop",
    latex=r"-(1 - m) \log \sigma(z) + m\, e^{-z}, \quad z = \beta D,\ m = \sigma(z / \tau)",
    source="Lu et al. (2024), arXiv:2406.08414",
    # m e^{-z} as one exponential: for very negative z, e^{-z} alone overflows where the product is small
    fn=lambda a, b, beta, tau: (
        -sigma(-beta * (a - b) / tau) * log_sigma(beta * (a - b)) + np.exp(log_sigma(beta * (a - b) / tau) - beta * (a - b))
    ),
    oracle=lambda a, b, beta, tau: sig(-beta * (a - b) / tau) * ell(beta * (a - b)) + math.exp(-beta * (a - b) - ell(beta * (a - b) / tau)),
    slope=lambda D, beta, tau: (
        beta * sigma(-beta * D / tau) * (-sigma(-beta * D) + sigma(beta * D / tau) * log_sigma(beta * D) / tau)
        + beta * np.exp(log_sigma(beta * D / tau) - beta * D) * (sigma(-beta * D / tau) / tau - 1.0)
    ),
    defaults={"tau": 0.05},
    traits=frozenset({"shift-invariant", "saturates", "bounded-below"}),
)
direct(
    "wpo",
    latex=r"-\pi(y_w)^{1/|w|}\, \pi(y_l)^{1/|l|}\, \log \sigma(\beta D), \quad \text{the weights frozen}",
    source="Zhou et al. (2024), arXiv:2406.11827",
    fn=lambda a, b, p0, q0, len_w, len_l, beta: -np.exp(p0 / len_w + q0 / len_l) * log_sigma(beta * (a - b)),
    oracle=lambda a, b, p0, q0, len_w, len_l, beta: math.exp(p0 / len_w) * math.exp(q0 / len_l) * ell(beta * (a - b)),
    traits=MARGIN | {"convex", "saturates", "recovers-gibbs", "length-normalized"},
    optimum=closed.gibbs,
)
direct(
    "r-dpo",
    latex=r"-\log \sigma\big(\beta D + \alpha (|w| - |l|)\big)",
    source="Park et al. (2024), arXiv:2403.19159",
    fn=lambda a, b, len_w, len_l, beta, alpha: -log_sigma(beta * (a - b) + alpha * (len_w - len_l)),
    oracle=lambda a, b, len_w, len_l, beta, alpha: ell(beta * (a - b) + alpha * (len_w - len_l)),
    defaults={"alpha": 0.2},
    traits=MARGIN | {"convex", "saturates", "length-normalized"},
    optimum=lambda world, s: log_gibbs(world.log_p_ref, world.r - s["alpha"] * world.mdp.lengths, s["beta"]),
)
direct(
    "dpo-positive",
    latex=r"-\log \sigma\big(\beta (D - \lambda \max(0, -a))\big)",
    source="Pal et al. (2024), arXiv:2402.13228",
    fn=lambda a, b, beta, lam, width: -log_sigma(beta * (a - b - lam * corner(-a, width))),
    oracle=lambda a, b, beta, lam: ell(beta * (a - b - lam * max(0.0, -a))),
    defaults={"lam": 5.0},
    traits=frozenset({"convex", "saturates", "bounded-below", "prefers-winner"}),
    kinks="a = 0",
)
