r"""Policy losses and aggregations.

A policy loss is f(rho, A) with rho = pi/pi_old, of a token or of a whole response, to be *ascended*.  At pi = pi_old and A frozen
they all have the slope A in log pi (gspo: A/L): there nothing is clipped, and all are one policy gradient.  Where pi has moved they
differ: `tabular-rlhf advantage ppo-clip --moved 1`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tabular_rlhf.policy_gradient.record import AGGREGATIONS, LOSSES, Aggregation, PolicyLoss

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


def _cispo(log_pi: Any, log_old: Any, log_now: Any, A: Any, low: float, high: float) -> Any:
    return np.clip(np.exp(log_now - log_old), 1.0 - low, 1.0 + high) * A * log_pi


def _plain_clip(log_pi: float, log_old: float, A: float, low: float, high: float) -> float:
    ratio = math.exp(log_pi) / math.exp(log_old)
    return ratio * A if (ratio <= 1 + high if A > 0 else ratio >= 1 - low) else ((1 + high) if A > 0 else (1 - low)) * A


def _plain_dual(log_pi: float, log_old: float, A: float, clip: float, dual: float) -> float:
    value = _plain_clip(log_pi, log_old, A, clip, clip)
    return max(value, dual * A) if A < 0 else value


def _plain_cispo(log_pi: float, log_old: float, log_now: float, A: float, low: float, high: float) -> float:
    return min(max(math.exp(log_now) / math.exp(log_old), 1 - low), 1 + high) * A * log_pi


PPO = "Schulman et al. (2017), arXiv:1707.06347."
for _loss in (
    PolicyLoss(
        "reinforce",
        r"A \log \pi",
        "Williams (1992).",
        lambda log_pi, A: A * log_pi,
        lambda log_pi, A: A * log_pi,
        remark="No ratio: samples of pi_old count as if they were samples of pi",
    ),
    PolicyLoss(
        "ratio",
        r"\rho A",
        "Kakade and Langford (2002); Schulman et al. (2015), arXiv:1502.05477.",
        lambda log_pi, log_old, A: np.exp(log_pi - log_old) * A,
        lambda log_pi, log_old, A: math.exp(log_pi) / math.exp(log_old) * A,
        remark="Each token weighed by its own ratio; the visits stay those of pi_old",
    ),
    PolicyLoss(
        "sequence-ratio",
        r"\rho(\tau) A",
        "Importance sampling; Ahmadian et al. (2024), arXiv:2402.14740.",
        lambda log_pi, log_old, A: np.exp(log_pi - log_old) * A,
        lambda log_pi, log_old, A: math.exp(log_pi) / math.exp(log_old) * A,
        level="sequence",
        remark="The whole response weighed by its ratio",
    ),
    PolicyLoss(
        "ppo-clip",
        r"\min(\rho A, \mathrm{clip}(\rho, 1 - c, 1 + c) A)",
        PPO,
        _symmetric,
        lambda log_pi, log_old, A, clip: _plain_clip(log_pi, log_old, A, clip, clip),
        defaults={"clip": 0.2},
        remark="No slope where the ratio has already gone the advantage's way beyond the clip",
    ),
    PolicyLoss(
        "sequence-clip",
        r"\min(\rho(\tau) A, \mathrm{clip}(\rho(\tau), 1 - c, 1 + c) A)",
        PPO,
        _symmetric,
        lambda log_pi, log_old, A, clip: _plain_clip(log_pi, log_old, A, clip, clip),
        level="sequence",
        defaults={"clip": 0.2},
        remark="One ratio for the whole response",
    ),
    PolicyLoss(
        "dual-clip",
        r"A < 0:\ \max(\min(\rho A, \mathrm{clip}(\rho) A), d A)",
        "Ye et al. (2020), arXiv:1912.09729.",
        _dual,
        _plain_dual,
        defaults={"clip": 0.2, "dual": 3.0},
        remark="Bad responses whose ratio exceeds d have no slope either",
    ),
    PolicyLoss(
        "clip-higher",
        r"\min(\rho A, \mathrm{clip}(\rho, 1 - c_{low}, 1 + c_{high}) A)",
        "Yu et al. (2025), arXiv:2503.14476.",
        lambda log_pi, log_old, A, low, high: _clipped(log_pi, log_old, A, low, high),
        _plain_clip,
        defaults={"low": 0.2, "high": 0.28},
        remark="Clipped later above than below; DAPO's other three parts are not in it",
    ),
    PolicyLoss(
        "cispo",
        r"\mathrm{clip}(\rho_{frozen}, 1 - c_{low}, 1 + c_{high})\, A \log \pi",
        "MiniMax (2025), arXiv:2506.13585.",
        _cispo,
        _plain_cispo,
        defaults={"low": 1.0, "high": 0.28},
        remark="Clips the weight, and keeps every token's slope",
    ),
    PolicyLoss(
        "gspo",
        r"\min(s A, \mathrm{clip}(s, 1 - c_{low}, 1 + c_{high}) A), \quad s = \rho(\tau)^{1/L}",
        "Zheng et al. (2025), arXiv:2507.18071.",
        lambda log_pi, log_old, A, low, high: _clipped(log_pi, log_old, A, low, high),
        _plain_clip,
        level="geometric",
        defaults={"low": 3e-4, "high": 4e-4},
        remark="The ratio is the geometric mean of the tokens' ratios, so a response's slope is divided by its length",
    ),
):
    LOSSES.add(_loss)

# ---------------------------------------------------------------------------------------------------- aggregations

for _rule in (
    Aggregation(
        "sequence-sum",
        r"\omega_i = 1/G",
        "Ahmadian et al. (2024), arXiv:2402.14740.",
        lambda lengths, G: np.ones_like(lengths, dtype=float) / G,
        lambda i, lengths, G, H: 1.0 / G,
        remark="Every token counts alike",
    ),
    Aggregation(
        "sequence-mean",
        r"\omega_i = 1/(G L_i)",
        "Shao et al. (2024), arXiv:2402.03300.",
        lambda lengths, G: 1.0 / (G * lengths),
        lambda i, lengths, G, H: 1.0 / (G * lengths[i]),
        remark="Every response counts alike: a token of a long one counts less",
    ),
    Aggregation(
        "token-mean",
        r"\omega_i = 1/\sum_j L_j",
        "Yu et al. (2025), arXiv:2503.14476.",
        lambda lengths, n: np.ones_like(lengths, dtype=float) / np.sum(n * lengths, axis=-1, keepdims=True),
        lambda i, lengths, G, H: 1.0 / sum(lengths),
        remark="Every token of the group counts alike: a long response dilutes its own group",
    ),
    Aggregation(
        "constant",
        r"\omega_i = 1/(G C), \quad C = \mathrm{scale} \cdot H",
        "Liu et al. (2025), arXiv:2503.20783.",
        lambda lengths, G, H, scale: np.ones_like(lengths, dtype=float) / (G * scale * H),
        lambda i, lengths, G, H, scale: 1.0 / (G * scale * H),
        defaults={"scale": 1.0},
        remark="The sequence sum at another step size",
    ),
):
    AGGREGATIONS.add(_rule)
