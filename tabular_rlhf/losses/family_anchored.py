r"""Losses that hold each response to its own likelihood: NCA, BCO, SPPO, APO, KTO, Cal-DPO.  None is shift-invariant: log Z does
not cancel, and the level of the implicit reward is learned with its differences."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.logspace import Array, kl
from tabular_rlhf.losses.evaluate import scatter, weights
from tabular_rlhf.losses.family_margin import ell, log_sigma, sig, sigma
from tabular_rlhf.losses.record import DirectLoss, Settings, direct, register
from tabular_rlhf.preferences import Pairs
from tabular_rlhf.world import World


def log_ratios(world: World, log_p: Array) -> Array:
    """log(p/p_ref), 0 where the reference makes nothing."""
    possible = ~np.isneginf(world.log_p_ref)
    return np.where(possible, log_p, 0.0) - np.where(possible, world.log_p_ref, 0.0)


def shares_of(world: World, pairs: Pairs) -> tuple[Array, Array]:
    """How often each response wins, and loses, over all prompts together: (P, N) each, summing to one."""
    weight = weights(pairs)
    return scatter(world, pairs, weight, 0.0), scatter(world, pairs, 0.0, weight)


def mean_implicit_reward(world: World, log_p: Array, pairs: Pairs, s: Settings) -> float:
    """BCO's shift: half of E[beta a + beta b] over the pairs."""
    wins, losses = shares_of(world, pairs)
    shown = wins + losses > 0
    return float(s["beta"] * np.sum(np.where(shown, wins + losses, 0.0) * np.where(shown, log_ratios(world, log_p), 0.0)) / 2.0)


def mismatched_ratio(world: World, log_p: Array, pairs: Pairs, s: Settings) -> float:
    """KTO's z0: beta max(0, E log(pi/pi_ref)(y' given x)), y' a response of the data set drawn without regard to its prompt x."""
    wins, losses = shares_of(world, pairs)
    prompts, responses = np.sum(wins, axis=1), np.sum(wins + losses, axis=0) / 2.0
    weight = prompts[:, None] * responses
    return float(s["beta"] * np.maximum(0.0, np.sum(np.where(weight > 0, weight * log_ratios(world, log_p), 0.0))))


def on_policy_kl(world: World, log_p: Array, pairs: Pairs, s: Settings) -> float:
    """The z0 of the theory: beta E_mu KL(pi, pi_ref)."""
    return float(s["beta"] * np.sum(world.mu * kl(log_p, world.log_p_ref)))


direct(
    "nca-pair",
    latex=r"-\log \sigma(\beta a) - \tfrac{1}{2} \big[\log \sigma(-\beta a) + \log \sigma(-\beta b)\big]",
    source="Chen et al. (2024), arXiv:2402.05369",
    fn=lambda a, b, beta: -log_sigma(beta * a) - 0.5 * (log_sigma(-beta * a) + log_sigma(-beta * b)),
    oracle=lambda a, b, beta: ell(beta * a) + (ell(-beta * a) + ell(-beta * b)) / 2,
    traits=frozenset({"convex", "saturates", "bounded-below", "prefers-winner"}),
)
BCO_TRAITS = frozenset({"convex", "saturates", "bounded-below", "prefers-winner"})
direct(
    "bco-pair",
    latex=r"-\log \sigma(\beta a - \delta) - \log \sigma(\delta - \beta b), \ \delta = \mathbb{E}[\beta (a + b)] / 2 \text{ frozen}",
    source="Jung et al. (2024), arXiv:2404.04656",
    fn=lambda a, b, beta, delta: -log_sigma(beta * a - delta) - log_sigma(delta - beta * b),
    oracle=lambda a, b, beta, delta: ell(beta * a - delta) + ell(-(beta * b - delta)),
    frozen={"delta": mean_implicit_reward},
    traits=BCO_TRAITS,
)
direct(
    "bco-pair-unshifted",
    latex=r"-\log \sigma(\beta a) - \log \sigma(-\beta b)",
    source="Jung et al. (2024), arXiv:2404.04656, with delta = 0",
    fn=lambda a, b, beta: -log_sigma(beta * a) - log_sigma(-beta * b),
    oracle=lambda a, b, beta: ell(beta * a) + ell(-beta * b),
    traits=BCO_TRAITS,
    variant_of="bco-pair",
)
direct(
    "sppo-hard",
    latex=r"\Big(a - \frac{1}{2 \beta}\Big)^2 + \Big(b + \frac{1}{2 \beta}\Big)^2",
    source="Wu et al. (2024), arXiv:2405.00675",
    fn=lambda a, b, beta: np.square(a - 0.5 / beta) + np.square(b + 0.5 / beta),
    oracle=lambda a, b, beta: (a - 1 / (2 * beta)) ** 2 + (b + 1 / (2 * beta)) ** 2,
    traits=frozenset({"convex", "bounded-below", "prefers-winner", "finite-under-certainty"}),
)
APO = "D'Oosterlinck et al. (2024), arXiv:2408.06266"
direct(
    "apo-zero",
    latex=r"1 - \sigma(\beta a) + \sigma(\beta b)",
    source=APO,
    fn=lambda a, b, beta: 1.0 - sigma(beta * a) + sigma(beta * b),
    oracle=lambda a, b, beta: 1 - sig(beta * a) + sig(beta * b),
    traits=frozenset({"saturates", "bounded-below", "bounded", "prefers-winner"}),
)
direct(
    "apo-down",
    latex=r"\sigma(\beta a) + 1 - \sigma(\beta D)",
    source=APO,
    fn=lambda a, b, beta: sigma(beta * a) + 1.0 - sigma(beta * (a - b)),
    oracle=lambda a, b, beta: sig(beta * a) + 1 - sig(beta * (a - b)),
    traits=frozenset({"saturates", "bounded-below", "bounded", "prefers-winner"}),
)


def kto(name: str, z0: Any, words: str, variant_of: str = "") -> DirectLoss:
    """KTO with a rule for its reference point z0."""
    return DirectLoss(
        name=name,
        latex=rf"\lambda_D (1 - \sigma(\beta a - z_0)) + \lambda_U (1 - \sigma(z_0 - \beta b)), \quad z_0 = {words} \text{{ frozen}}",
        source="Ethayarajh et al. (2024), arXiv:2402.01306",
        fn=lambda a, b, beta, z0, lam_D, lam_U: lam_D * sigma(z0 - beta * a) + lam_U * sigma(beta * b - z0),
        oracle=lambda a, b, beta, z0, lam_D, lam_U: lam_D * (1 - sig(beta * a - z0)) + lam_U * (1 - sig(z0 - beta * b)),
        frozen={"z0": z0},
        defaults={"lam_D": 1.0, "lam_U": 1.0},
        traits=frozenset({"saturates", "bounded-below", "bounded", "prefers-winner"}),
        variant_of=variant_of,
    )


register(kto("kto", mismatched_ratio, r"\beta \max(0, \mathbb{E}_{x, y'} \log \tfrac{\pi}{\pi_{ref}}(y' \mid x))"))
register(kto("kto-on-policy", on_policy_kl, r"\beta\, \mathrm{KL}(\pi, \pi_{ref})", variant_of="kto"))
direct(
    "cal-dpo",
    latex=r"-\log \sigma(D) + \Big(a - \frac{1}{2 \beta}\Big)^2 + \Big(b + \frac{1}{2 \beta}\Big)^2",
    source="Xiao et al. (2024), arXiv:2412.14516",
    fn=lambda a, b, beta: -log_sigma(a - b) + np.square(a - 0.5 / beta) + np.square(b + 0.5 / beta),
    oracle=lambda a, b, beta: ell(a - b) + (a - 1 / (2 * beta)) ** 2 + (b + 1 / (2 * beta)) ** 2,
    traits=frozenset({"convex", "bounded-below", "prefers-winner", "finite-under-certainty"}),
)
