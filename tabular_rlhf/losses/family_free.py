r"""Losses without a reference (ORPO, SimPO, CPO), and losses whose link is not the logarithm (chi-PO, f-DPO).

f-DPO's margin is beta (f'(u_w) - f'(u_l)) with u = pi/pi_ref: under Bradley-Terry labels beta f'(u) = r + c at the optimum, which
is the stationarity condition of  max E[r] - beta D_f(p, p_ref).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tabular_rlhf.divergences import DIVERGENCES, alpha_divergence
from tabular_rlhf.losses import closed
from tabular_rlhf.losses.family_margin import ell, log_sigma
from tabular_rlhf.losses.record import DirectLoss, corner, direct, register

FREE = frozenset({"convex", "saturates", "bounded-below", "prefers-winner", "reference-free"})


def log_odds(m: Any) -> Any:
    """log(e^m / (1 - e^m)) of a log-probability m; a certain response has odds of e^690, not infinity."""
    return m - np.log(-np.expm1(np.minimum(m, -1e-300)))


def odds(m: float) -> float:
    """The same in plain math."""
    return m - math.log(-math.expm1(m))


direct(
    "orpo",
    latex=r"-\frac{p}{|w|} - \lambda \log \sigma(o_w - o_l), \quad o = \log \frac{e^m}{1 - e^m},\ m = \frac{\log \pi(y)}{|y|}",
    source="Hong, Lee and Thorne (2024), arXiv:2403.07691",
    fn=lambda p, q, len_w, len_l, lam: -p / len_w - lam * log_sigma(log_odds(p / len_w) - log_odds(q / len_l)),
    oracle=lambda p, q, len_w, len_l, lam: -p / len_w + lam * ell(odds(p / len_w) - odds(q / len_l)),
    defaults={"lam": 0.1},
    traits=(FREE - {"convex"}) | {"length-normalized"},
)
SIMPO = "Meng, Xia and Chen (2024), arXiv:2405.14734"
direct(
    "simpo",
    latex=r"-\log \sigma\Big(\beta \Big(\frac{p}{|w|} - \frac{q}{|l|}\Big) - \gamma\Big)",
    source=SIMPO,
    fn=lambda p, q, len_w, len_l, beta, gamma: -log_sigma(beta * (p / len_w - q / len_l) - gamma),
    oracle=lambda p, q, len_w, len_l, beta, gamma: ell(beta * (p / len_w - q / len_l) - gamma),
    defaults={"gamma": 0.5},
    traits=FREE | {"length-normalized"},
    optimum=closed.averaged_free,
    scores=closed.averaged_log_p(lambda a, b, beta, gamma: -log_sigma(beta * (a - b) - gamma)),
)
direct(
    "simpo-ratio",
    latex=r"-\log \sigma\Big(\beta \Big(\frac{p}{|w|} - \frac{q}{|l|} - \gamma\Big)\Big)",
    source=f"{SIMPO}, gamma as trainers set it: in units of beta",
    fn=lambda p, q, len_w, len_l, beta, gamma: -log_sigma(beta * (p / len_w - q / len_l - gamma)),
    oracle=lambda p, q, len_w, len_l, beta, gamma: ell(beta * (p / len_w - q / len_l - gamma)),
    defaults={"gamma": 0.5},
    traits=FREE | {"length-normalized"},
    scores=closed.averaged_log_p(lambda a, b, beta, gamma: -log_sigma(beta * (a - b - gamma))),
    variant_of="simpo",
)
CPO = "Xu et al. (2024), arXiv:2401.08417"
direct(
    "cpo",
    latex=r"-\log \sigma(\beta (p - q)) - \lambda\, p",
    source=CPO,
    fn=lambda p, q, beta, lam: -log_sigma(beta * (p - q)) - lam * p,
    oracle=lambda p, q, beta, lam: ell(beta * (p - q)) - lam * p,
    defaults={"lam": 1.0},
    traits=FREE,
)
direct(
    "cpo-averaged",
    latex=r"-\log \sigma(\beta (p - q)) - \lambda \frac{p}{|w|}",
    source=f"{CPO}, with the mean over tokens that TRL's CPOTrainer takes",
    fn=lambda p, q, len_w, beta, lam: -log_sigma(beta * (p - q)) - lam * p / len_w,
    oracle=lambda p, q, len_w, beta, lam: ell(beta * (p - q)) - lam * p / len_w,
    defaults={"lam": 1.0},
    traits=FREE | {"length-normalized"},
    variant_of="cpo",
)
direct(
    "cpo-simpo",
    latex=r"-\log \sigma\Big(\beta \Big(\frac{p}{|w|} - \frac{q}{|l|}\Big) - \gamma\Big) - \lambda \frac{p}{|w|}",
    source=f"{CPO}, with the margin of {SIMPO}",
    fn=lambda p, q, len_w, len_l, beta, gamma, lam: -log_sigma(beta * (p / len_w - q / len_l) - gamma) - lam * p / len_w,
    oracle=lambda p, q, len_w, len_l, beta, gamma, lam: ell(beta * (p / len_w - q / len_l) - gamma) - lam * p / len_w,
    defaults={"gamma": 0.5, "lam": 1.0},
    traits=FREE | {"length-normalized"},
    variant_of="simpo",
)

# ---------------------------------------------------------------------------------------------------- other links

LINKED = frozenset({"saturates", "bounded-below", "prefers-winner"})
HUANG = "Huang et al. (2024), arXiv:2407.13399"
direct(
    "chi-po",
    latex=r"-\log \sigma\big(\beta (\phi(u_w) - \phi(u_l))\big), \quad \phi(u) = u + \log u,\ u = \pi / \pi_{ref}",
    source=HUANG,
    fn=lambda a, b, beta: -log_sigma(beta * (np.exp(a) + a - np.exp(b) - b)),
    oracle=lambda a, b, beta: ell(beta * (math.exp(a) + a - math.exp(b) - b)),
    traits=LINKED,
    optimum=closed.regularized(closed.CHI_KL),
    scores=closed.linked(lambda a, b, beta: -log_sigma(beta * (a - b)), closed.CHI_KL),
)


def clipped(z: Any, bound: float, width: float) -> Any:
    """z clipped to [-bound, bound], its two corners rounded over `width`."""
    return corner(z + bound, width) - corner(z - bound, width) - bound


direct(
    "chi-po-clipped",
    latex=r"-\log \sigma\big(\mathrm{clip}_{2R}[\beta (\phi(u_w) - \phi(u_l))]\big)",
    source=HUANG,
    fn=lambda a, b, beta, R, width: -log_sigma(clipped(beta * (np.exp(a) + a - np.exp(b) - b), 2.0 * R, width)),
    oracle=lambda a, b, beta, R: ell(min(2 * R, max(-2 * R, beta * (math.exp(a) + a - math.exp(b) - b)))),
    defaults={"R": 2.0},
    traits=LINKED | {"bounded", "finite-under-certainty"},
    kinks="|beta (phi(u_w) - phi(u_l))| = 2 R",
    optimum=closed.regularized_within(closed.CHI_KL),
    scores=closed.linked(lambda a, b, beta, R, width: -log_sigma(clipped(beta * (a - b), 2.0 * R, width)), closed.CHI_KL),
    variant_of="chi-po",
)


def f_dpo(name: str, latex: str, slope: Callable[[Any], Any], oracle_slope: Callable[[float], float], divergence: str) -> DirectLoss:
    """f-DPO for one divergence; `slope` and `oracle_slope` give f' from log u."""
    return DirectLoss(
        name=name,
        latex=rf"-\log \sigma\big(\beta (f'(u_w) - f'(u_l))\big), \quad f'(u) = {latex},\ u = \pi / \pi_{{ref}}",
        source="Wang et al. (2023), arXiv:2309.16240",
        fn=lambda a, b, beta: -log_sigma(beta * (slope(a) - slope(b))),
        oracle=lambda a, b, beta: ell(beta * (oracle_slope(a) - oracle_slope(b))),
        traits=LINKED,
        optimum=closed.regularized(DIVERGENCES[divergence]),
        scores=closed.linked(lambda a, b, beta: -log_sigma(beta * (a - b)), DIVERGENCES[divergence]),
    )


register(f_dpo("f-dpo-forward-kl", "-1/u", lambda a: -np.exp(-a), lambda a: -1 / math.exp(a), "forward-kl"))
register(
    f_dpo(
        "f-dpo-jensen-shannon",
        r"\log \frac{2 u}{1 + u}",
        lambda a: np.log(2.0) + log_sigma(a),
        lambda a: math.log(2 * math.exp(a) / (1 + math.exp(a))),
        "jensen-shannon",
    )
)


def alpha_slope(v: Any, alpha: float) -> Any:
    """f'(u) = (u^(alpha - 1) - 1)/(alpha - 1) of v = log u: log u at alpha = 1, less a constant the forward KL's at alpha = 0."""
    c = alpha - 1.0
    return np.expm1(c * v) / c if c else v


def plain_alpha_slope(v: float, alpha: float) -> float:
    """The same in plain math."""
    return (math.exp(v) ** (alpha - 1) - 1) / (alpha - 1) if alpha != 1 else v


direct(
    "f-dpo-alpha",
    latex=r"-\log \sigma\big(\beta (f'(u_w) - f'(u_l))\big), \quad f'(u) = \frac{u^{\alpha - 1} - 1}{\alpha - 1},\ u = \pi / \pi_{ref}",
    source="Wang et al. (2023), arXiv:2309.16240: its alpha is 1 less ours, which is TRL's",
    fn=lambda a, b, beta, alpha: -log_sigma(beta * (alpha_slope(a, alpha) - alpha_slope(b, alpha))),
    oracle=lambda a, b, beta, alpha: ell(beta * (plain_alpha_slope(a, alpha) - plain_alpha_slope(b, alpha))),
    defaults={"alpha": 0.5},
    traits=LINKED,
    optimum=lambda world, s: closed.regularized(alpha_divergence(s["alpha"]))(world, s),
    scores=lambda s: closed.linked(lambda a, b, beta: -log_sigma(beta * (a - b)), alpha_divergence(s["alpha"])),
)
