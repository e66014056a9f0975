r"""Chapter 6 as derivations: where DPO leads when labels are noisy as Bradley-Terry says, and when they are certain.

rhat = beta log(pi/pi_ref); both responses of a pair are drawn from p_ref, for the same prompt; prompts are averaged over mu.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.derivations.direct import between, rhat
from tabular_rlhf.derivations.record import Derivation, Line, add
from tabular_rlhf.gibbs import log_gibbs
from tabular_rlhf.terms.comparisons import on_support
from tabular_rlhf.terms.sizes import size_of
from tabular_rlhf.terms.sources import RAFAILOV

AZAR = "Azar et al. (2023), arXiv:2310.12036."

# ---------------------------------------------------------------------------------------------------- dpo-population-optimum


def margin_of(log_p: Any, log_p_ref: Any, beta: float) -> Any:
    return between(rhat(log_p, log_p_ref, beta))


add(
    Derivation(
        slug="dpo-population-optimum",
        title="With Bradley-Terry labels on all pairs, DPO's minimizer is the Gibbs optimum",
        chapter=6,
        rows=("dpo-population-optimum", "mle-is-forward-kl"),
        source=RAFAILOV,
        largest=40,
        where=lambda mu: bool(np.all(mu > 0)),
        scale=lambda r, beta, log_p, log_p_ref: size_of(r, beta, log_p, log_p_ref),
        lines=(
            Line(
                r"-\mathbb{E} \log \sigma(\hat r_w - \hat r_l)",
                "DPO's loss on all pairs that p_ref can make, for every prompt, labels by Bradley-Terry.",
            ),
            Line(
                r"\mathbb{E}_{i, j} \left[ -P_{ij} \log \sigma(m_{ij}) - (1 - P_{ij}) \log(1 -"
                r" \sigma(m_{ij})) \right], \quad m_{ij} = \hat r_i - \hat r_j",
                "i and j are drawn first, from p_ref, then the label: i wins with P_ij = "
                "sigma(r_i - r_j), else j. A cross entropy of two coins.",
                slips=("a factor 1/2 too many",),
                wrong={
                    "the label's two outcomes exchanged": (
                        r"\mathbb{E}_{i, j} \left[ -P_{ji} \log \sigma(m_{ij}) - (1 - P_{ji}) \log(1 "
                        r"- \sigma(m_{ij})) \right]"
                    )
                },
            ),
            Line(
                r"\mathbb{E}_{i, j} \left[ P_{ij} \log\frac{P_{ij}}{\sigma(m_{ij})} + (1 -"
                r" P_{ij}) \log\frac{1 - P_{ij}}{1 - \sigma(m_{ij})} \right]"
                r" + \mathbb{E}_{i, j}\, \mathcal{H}(P_{ij})",
                "Add and subtract P log P + (1 - P) log(1 - P), which is minus the entropy of the label.",
                slips=("sign of E_{i, j}[H(P(i, j))] flipped",),
                wrong={
                    "the fitted law's entropy for the labels'": (
                        r"\mathbb{E}_{i, j} \left[ P_{ij} \log\frac{P_{ij}}{\sigma(m_{ij})} + (1 - "
                        r"P_{ij}) \log\frac{1 - P_{ij}}{1 - \sigma(m_{ij})} \right] + \mathbb{E}_{i, "
                        r"j}\, \mathcal{H}(\sigma(m_{ij}))"
                    )
                },
            ),
            Line(
                r"\mathbb{E}_{i, j}\, \mathrm{KL}(P_{ij}, \sigma(m_{ij}))",
                "The entropy of the labels does not mention pi; the rest is a KL of two "
                "coins, labels first: maximum likelihood is forward KL.",
                relation="up to a constant",
                slips=("arguments of KL swapped",),
                wrong={
                    "the entropy of sigma(m) taken for a constant": (
                        r"\mathbb{E}_{i, j}\left[ \mathrm{KL}(P_{ij}, \sigma(m_{ij})) + "
                        r"\mathcal{H}(\sigma(m_{ij})) \right]"
                    )
                },
            ),
            Line(r"\mathbb{E}_{i, j}\, \mathcal{H}(P_{ij})", "What is left when that KL is 0 for every pair.", relation="so"),
            Line(
                r"-\mathbb{E} \log \sigma(\hat r_w - \hat r_l)",
                (
                    "The loss. No policy has less, and as little exactly those with "
                    "sigma(rhat_i - rhat_j) = P_ij, that is rhat_i - rhat_j = r_i - r_j, on all "
                    "pairs."
                ),
                relation="<=",
                wrong={"log 2 less": r"-\mathbb{E} \log \sigma(\hat r_w - \hat r_l) - \log 2"},
            ),
            Line(
                r"r_i - r_j",
                "Is there such a policy? It needs these margins, where p_ref allows both.",
                lambda log_p_ref, gaps: on_pairs(log_p_ref, gaps),
                relation="so",
            ),
            Line(
                r"\beta \log\frac{p^*_i}{p_{ref, i}} - \beta \log\frac{p^*_j}{p_{ref, j}}",
                "The Gibbs optimum has them (reward-inversion): Z cancels.",
                lambda log_p_star, log_p_ref, beta: on_pairs(log_p_ref, margin_of(log_p_star, log_p_ref, beta)),
                wrong={
                    "beta dropped": lambda log_p_star, log_p_ref: on_pairs(log_p_ref, margin_of(log_p_star, log_p_ref, 1.0)),
                    "p_ref omitted": lambda log_p_star, log_p_ref, beta: on_pairs(
                        log_p_ref, between(beta * on_support(log_p_ref, log_p_star))
                    ),
                },
            ),
            Line(
                "p_{DPO}(y)",
                "Now the loss is minimized over all policies, by Newton's method: p_DPO is where it is least.",
                relation="so",
            ),
            Line(
                r"p^*(y) = \frac{p_{ref}(y)\, e^{r(y)/\beta}}{Z}",
                "It is p*, and nothing else: the margins leave one c(x) open, and that is fixed because probabilities sum to one.",
                error=1e-8,
                slips=("Z dropped",),
                wrong={
                    "beta dropped": r"\frac{p_{ref}(y)\, e^{r(y)}}{\sum_{y'} p_{ref}(y')\, e^{r(y')}}",
                    "p_ref omitted": r"\frac{e^{r(y)/\beta}}{\sum_{y'} e^{r(y')/\beta}}",
                },
            ),
        ),
        letters={"P": "P_beats", "r_hat": "beta*log(p/p_ref)", "p_DPO": "p_dpo_bt"},
    )
)


def on_pairs(log_p_ref: Any, table: Any) -> Any:
    """(P, N, N), 0 where the reference forbids one of the two."""
    possible = ~np.isneginf(log_p_ref)
    return np.where(possible[:, :, None] & possible[:, None, :], table, 0.0)


# ---------------------------------------------------------------------------------------------------- dpo-deterministic-labels

DECIDED = ("kappa", (1.0, 1e2, 1e4, 1e6))
"""People ever more decided."""


def told_apart(mu: Any, r: Any, log_p_ref: Any, beta: float) -> bool:
    """Every prompt asked, rewards equal or clearly different, and no possible response too rare for Newton's method."""
    gaps = np.abs(between(r))
    clear = np.min(gaps, initial=np.inf, where=gaps > 0) > 1e-4 * (1.0 + beta)
    return (
        bool(clear)
        and bool(np.all(mu > 0))
        and float(np.min(log_p_ref, initial=0.0, where=~np.isneginf(log_p_ref))) > -12.0
        and float(np.ptp(r)) < 8.0
    )


add(
    Derivation(
        slug="dpo-deterministic-labels",
        title="Certain labels: DPO runs to the best response, whatever beta",
        chapter=6,
        rows=("dpo-deterministic-labels",),
        source=AZAR,
        largest=12,
        where=told_apart,
        lines=(
            Line(
                r"P_\kappa(i \succ j) = \sigma(\kappa (r_i - r_j))",
                "People who follow the reward r with decision kappa: Bradley-Terry labels for kappa r.",
            ),
            Line(
                r"1_{r_i > r_j} + \frac{1}{2}\, 1_{r_i = r_j}",
                "As kappa grows the better response always wins; of two equal ones either does.",
                relation="in the limit",
                along=DECIDED,
                slips=("2 for 1",),
                wrong={"winner and loser swapped": "1[r(j) > r(i)] + 1/2*1[r(i) = r(j)]"},
            ),
            Line(
                "p_{DPO}(y)",
                "Before the limit DPO's loss has a minimizer, p_DPO, by Newton's method.",
                relation="so",
            ),
            Line(
                r"\frac{p_{ref}(y)\, e^{\kappa r(y)/\beta}}{Z_\kappa}",
                "It is the Gibbs optimum of kappa r (dpo-population-optimum): decision and beta enter only as kappa/beta.",
                lambda log_p_ref, kappa, r, beta: np.exp(log_gibbs(log_p_ref, kappa * r, beta)),
                error=1e-8,
                wrong={
                    "decision taken for noise: 1/kappa": (
                        r"\frac{p_{ref}(y)\, e^{r(y)/(\kappa \beta)}}{\sum_{y'} p_{ref}(y')\, "
                        r"e^{r(y')/(\kappa \beta)}}"
                    ),
                    "kappa not seen: p*": "p_star(y)",
                },
            ),
            Line(
                r"p_\infty(y) = \frac{p_{ref}(y)\, 1[r(y) = \max r]}{\sum_{y'} p_{ref}(y')\, 1[r(y') = \max r]}",
                "The tilt beats every finite beta: the best possible responses are left, with p_ref's odds. Certain labels "
                "themselves have no minimizer, unless all tie: the loss falls for ever towards this law.",
                relation="in the limit",
                along=DECIDED,
                wrong={
                    "p*, as if beta still counted": "p_star(y)",
                    "ties share equally": (
                        r"\frac{1[p_{ref}(y) > 0]\, 1[r(y) = \max r]}{\sum_{y'} 1[p_{ref}(y') > 0]\, "
                        r"1[r(y') = \max r]}"
                    ),
                },
            ),
            Line(
                r"\mathrm{KL}(p_\infty, p_{ref})",
                "How far the policy has gone from the reference, for each prompt.",
                relation="so",
            ),
            Line(
                r"-\log p_{ref}(r = \max r)",
                (
                    "p_infinity/p_ref is 1 over the probability of the best responses. There is "
                    "no beta in it: the KL term has lost its hold."
                ),
                slips=(
                    "divided by beta, which is too much",
                    "sign flipped",
                ),
            ),
        ),
        letters={"Z_kappa": "sum_y p_ref(y)*exp(kappa*r(y)/beta)", "p_DPO": "p_dpo_kappa"},
    )
)
