r"""Policy losses and aggregations.

A policy loss is f(rho, A) with rho = pi/pi_old, of a token or of a whole response, to be *ascended*.  At pi = pi_old and A frozen
they all have the slope A in log pi (gspo: A/L): there nothing is clipped, and all are one policy gradient.  Where pi has moved they
differ: `tabular-rlhf advantage ppo-clip --moved 1`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import special

from tabular_rlhf.policy_gradient.record import AGGREGATIONS, LOSSES, Aggregation, PolicyLoss
from tabular_rlhf.registry import entered

# ---------------------------------------------------------------------------------------------------- losses


def _clipped(log_pi: Any, log_old: Any, A: Any, low: Any, high: Any) -> Any:
    ratio = np.exp(log_pi - log_old)
    return np.minimum(ratio * A, np.clip(ratio, 1.0 - low, 1.0 + high) * A)


def _symmetric(log_pi: Any, log_old: Any, A: Any, clip: float) -> Any:
    return _clipped(log_pi, log_old, A, clip, clip)


def _dual(log_pi: Any, log_old: Any, A: Any, clip: float, dual: float) -> Any:
    """Below -dual |A| a bad response counts no more, however far its ratio has risen."""
    inner = _clipped(log_pi, log_old, A, clip, clip)
    return np.where(A < 0, np.maximum(inner, dual * A), inner)


def _sapo(log_pi: Any, log_old: Any, A: Any, tau_pos: float, tau_neg: float) -> Any:
    tau = np.where(A > 0, tau_pos, tau_neg)
    return 4.0 / tau * special.expit(tau * np.expm1(log_pi - log_old)) * A


def _vespo(log_pi: Any, log_old: Any, log_now: Any, A: Any, k_pos: float, lam_pos: float, k_neg: float, lam_neg: float) -> Any:
    k, lam, L = np.where(A > 0, k_pos, k_neg), np.where(A > 0, lam_pos, lam_neg), log_now - log_old
    return np.exp(k * L - lam * np.expm1(L)) * A * log_pi


def _ratio(log_pi: float, log_old: float) -> float:
    return math.exp(log_pi) / math.exp(log_old)


def _plain_sapo(log_pi: float, log_old: float, A: float, tau_pos: float, tau_neg: float) -> float:
    tau = tau_pos if A > 0 else tau_neg
    return 4 / tau / (1 + math.exp(-tau * (_ratio(log_pi, log_old) - 1))) * A


def _plain_vespo(
    log_pi: float, log_old: float, log_now: float, A: float, k_pos: float, lam_pos: float, k_neg: float, lam_neg: float
) -> float:
    ratio, k, lam = _ratio(log_now, log_old), k_pos if A > 0 else k_neg, lam_pos if A > 0 else lam_neg
    return ratio**k * math.exp(lam * (1 - ratio)) * A * log_pi


def _plain_clip(log_pi: float, log_old: float, A: float, low: float, high: float) -> float:
    ratio = _ratio(log_pi, log_old)
    return ratio * A if (ratio <= 1 + high if A > 0 else ratio >= 1 - low) else ((1 + high) if A > 0 else (1 - low)) * A


def _plain_dual(log_pi: float, log_old: float, A: float, clip: float, dual: float) -> float:
    value = _plain_clip(log_pi, log_old, A, clip, clip)
    return max(value, dual * A) if A < 0 else value


PPO = "Schulman et al. (2017), arXiv:1707.06347."
loss = entered(PolicyLoss, LOSSES.add)
loss(
    "reinforce",
    r"A \log \pi",
    "Williams (1992).",
    lambda log_pi, A: A * log_pi,
    lambda log_pi, A: A * log_pi,
    remark="No ratio: samples of pi_old count as if they were samples of pi",
)
loss(
    "ratio",
    r"\rho A",
    "Kakade and Langford (2002); Schulman et al. (2015), arXiv:1502.05477.",
    lambda log_pi, log_old, A: np.exp(log_pi - log_old) * A,
    lambda log_pi, log_old, A: _ratio(log_pi, log_old) * A,
    remark="Each token weighed by its own ratio; the visits stay those of pi_old",
)
loss(
    "sequence-ratio",
    r"\rho(\tau) A",
    "Importance sampling; Ahmadian et al. (2024), arXiv:2402.14740.",
    lambda log_pi, log_old, A: np.exp(log_pi - log_old) * A,
    lambda log_pi, log_old, A: _ratio(log_pi, log_old) * A,
    level="sequence",
    remark="The whole response weighed by its ratio",
)
loss(
    "ppo-clip",
    r"\min(\rho A, \mathrm{clip}(\rho, 1 - c, 1 + c) A)",
    PPO,
    _symmetric,
    lambda log_pi, log_old, A, clip: _plain_clip(log_pi, log_old, A, clip, clip),
    defaults={"clip": 0.2},
    remark="No slope where the ratio has already gone the advantage's way beyond the clip",
)
loss(
    "sequence-clip",
    r"\min(\rho(\tau) A, \mathrm{clip}(\rho(\tau), 1 - c, 1 + c) A)",
    PPO,
    _symmetric,
    lambda log_pi, log_old, A, clip: _plain_clip(log_pi, log_old, A, clip, clip),
    level="sequence",
    defaults={"clip": 0.2},
    remark="One ratio for the whole response",
)
loss(
    "dual-clip",
    r"A < 0:\ \max(\min(\rho A, \mathrm{clip}(\rho) A), d A)",
    "Ye et al. (2020), arXiv:1912.09729.",
    _dual,
    _plain_dual,
    defaults={"clip": 0.2, "dual": 3.0},
    remark="Bad responses whose ratio exceeds d have no slope either",
)
loss(
    "clip-higher",
    r"\min(\rho A, \mathrm{clip}(\rho, 1 - c_{low}, 1 + c_{high}) A)",
    "Yu et al. (2025), arXiv:2503.14476.",
    _clipped,
    _plain_clip,
    defaults={"low": 0.2, "high": 0.28},
    remark="Clipped later above than below; DAPO's other three parts are not in it",
)
loss(
    "cispo",
    r"\mathrm{clip}(\rho_{frozen}, 1 - c_{low}, 1 + c_{high})\, A \log \pi",
    "MiniMax (2025), arXiv:2506.13585.",
    lambda log_pi, log_old, log_now, A, low, high: np.clip(np.exp(log_now - log_old), 1.0 - low, 1.0 + high) * A * log_pi,
    lambda log_pi, log_old, log_now, A, low, high: min(max(_ratio(log_now, log_old), 1 - low), 1 + high) * A * log_pi,
    defaults={"low": 1.0, "high": 0.28},
    remark="Clips the weight, and keeps every token's slope",
)
loss(
    "gspo",
    r"\min(s A, \mathrm{clip}(s, 1 - c_{low}, 1 + c_{high}) A), \quad s = \rho(\tau)^{1/L}",
    "Zheng et al. (2025), arXiv:2507.18071.",
    _clipped,
    _plain_clip,
    level="geometric",
    defaults={"low": 3e-4, "high": 4e-4},
    remark="The ratio is the geometric mean of the tokens' ratios, so a response's slope is divided by its length",
)
loss(
    "sapo",
    r"\frac{4}{\tau_{pos}} \sigma(\tau_{pos} (\rho - 1)) \max(A, 0) - \frac{4}{\tau_{neg}} \sigma(\tau_{neg} (\rho - 1)) \max(-A, 0)",
    "Gao et al. (2025), arXiv:2511.20347.",
    _sapo,
    _plain_sapo,
    defaults={"tau_pos": 1.0, "tau_neg": 1.05},
    remark="A soft gate for the clip: the slope is largest at ratio 1 and falls off on either side",
)
loss(
    "gmpo",
    r"(\prod_t \hat\rho_t)^{1/L} A, \quad \hat\rho_t = \min(\rho_t, e^{w}) \text{ if } A > 0 \text{ else } \max(\rho_t, e^{-w})",
    "Zhao et al. (2025), arXiv:2507.20673, with its token-level clip.",
    lambda log_pi, log_old, A, wide: np.exp(log_pi - log_old) * A,
    lambda log_pi, log_old, A, wide: _ratio(log_pi, log_old) * A,
    level="geometric",
    inside=lambda log_ratio, sign, wide: np.where(sign > 0, np.minimum(log_ratio, wide), np.maximum(log_ratio, -wide)),
    defaults={"wide": 0.4},
    remark="The geometric mean of the tokens' ratios, each clipped before",
)
loss(
    "vespo",
    r"\phi(\rho_{frozen})\, A \log p, \quad \phi(\rho) = \rho^k e^{\lambda (1 - \rho)}, \quad (k, \lambda) \text{ by the sign of } A",
    "Shen et al. (2026), arXiv:2602.10693; k and lambda of the authors' runs and of TRL.",
    _vespo,
    _plain_vespo,
    level="sequence",
    defaults={"k_pos": 2.0, "lam_pos": 3.0, "k_neg": 3.0, "lam_neg": 2.0},
    remark="A soft kernel of the response's ratio, 1 at ratio 1, that forgets what has become rare or frequent",
)
loss(
    "truncated",
    r"\min(\rho_{frozen}, C)\, A \log \pi",
    "Munos et al. (2016), arXiv:1606.02647; Espeholt et al. (2018), arXiv:1802.01561.",
    lambda log_pi, log_old, log_now, A, cap: np.minimum(np.exp(log_now - log_old), cap) * A * log_pi,
    lambda log_pi, log_old, log_now, A, cap: min(_ratio(log_now, log_old), cap) * A * log_pi,
    level="sequence",
    defaults={"cap": 2.0},
    remark="The response's ratio, at most C, as a frozen weight",
)
loss(
    "masked",
    r"1[\rho_{frozen} \le C]\, \rho_{frozen}\, A \log \pi",
    "Liu et al. (2025), When speed kills stability, https://richardli.xyz/rl-collapse.",
    lambda log_pi, log_old, log_now, A, cap: np.where(log_now - log_old <= np.log(cap), np.exp(log_now - log_old), 0.0) * A * log_pi,
    lambda log_pi, log_old, log_now, A, cap: 0.0 if log_now - log_old > math.log(cap) else _ratio(log_now, log_old) * A * log_pi,
    level="sequence",
    defaults={"cap": 2.0},
    remark="Responses whose ratio exceeds C are left out",
)

# ---------------------------------------------------------------------------------------------------- aggregations

aggregation = entered(Aggregation, AGGREGATIONS.add)
aggregation(
    "sequence-sum",
    r"\omega_i = 1/G",
    "Ahmadian et al. (2024), arXiv:2402.14740.",
    lambda lengths, G: np.ones_like(lengths, dtype=float) / G,
    lambda i, lengths, G, H: 1.0 / G,
    remark="Every token counts alike",
)
aggregation(
    "sequence-mean",
    r"\omega_i = 1/(G L_i)",
    "Shao et al. (2024), arXiv:2402.03300.",
    lambda lengths, G: 1.0 / (G * lengths),
    lambda i, lengths, G, H: 1.0 / (G * lengths[i]),
    remark="Every response counts alike: a token of a long one counts less",
)
aggregation(
    "token-mean",
    r"\omega_i = 1/\sum_j L_j",
    "Yu et al. (2025), arXiv:2503.14476.",
    lambda lengths, n: np.ones_like(lengths, dtype=float) / np.sum(n * lengths, axis=-1, keepdims=True),
    lambda i, lengths, G, H: 1.0 / sum(lengths),
    remark="Every token of the group counts alike: a long response dilutes its own group",
)
aggregation(
    "constant",
    r"\omega_i = 1/(G C), \quad C = \mathrm{scale} \cdot H",
    "Liu et al. (2025), arXiv:2503.20783.",
    lambda lengths, G, H, scale: np.ones_like(lengths, dtype=float) / (G * scale * H),
    lambda i, lengths, G, H, scale: 1.0 / (G * scale * H),
    defaults={"scale": 1.0},
    remark="The sequence sum at another step size",
)
aggregation(
    "length-weighted",
    r"\omega_i = L_i/G",
    "Liu et al. (2026), arXiv:2602.05261 (LUSPO, with gspo).",
    lambda lengths, G: lengths / G,
    lambda i, lengths, G, H: lengths[i] / G,
    remark="Every response counts by its length: with a term that is divided by it, every token counts alike",
)
