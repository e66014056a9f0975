"""Disputes about people and laws: ties, pooled preferences, centering, squeezing, best-of-n, and what sharpens."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.disputes.record import Claim, Under, of_theme
from tabular_rlhf.preferences import pooled
from tabular_rlhf.terms.conditions import decided, full

dispute = of_theme("people")

RAO = {
    "U": "1/(1 + theta*exp(-gaps(tau, tau')))",
    "R": "1/(1 + theta*exp(gaps(tau, tau')))",
    "W": "exp(gaps(tau, tau')/2)",
    "L": "exp(-gaps(tau, tau')/2)",
    "theta": "tie_bar",
    "nu": "tie_weight",
    "d": "gaps(tau, tau')",
}


def centered(r: Any) -> Any:
    return r - np.mean(r, axis=1, keepdims=True)


def risen(log_p: Any) -> Any:
    """The least slope of any response but the one that is pushed down, over all of those, for each prompt."""
    slopes = pooled.pushed_down(log_p)
    return np.min(np.where(np.eye(slopes.shape[-1]) > 0, np.inf, slopes), axis=(1, 2))


def odds_slope(log_p: Any, success: Any) -> Any:
    """How fast the log-odds of two right responses move under the gradient flow of the success rate, for all pairs."""
    p = np.exp(log_p)
    v = p * (success - np.sum(p * success, axis=1, keepdims=True))
    return success[:, :, None] * success[:, None, :] * (v[:, :, None] - v[:, None, :])


dispute(
    slug="ties-halved",
    question="Is a tie half a win?",
    claim=Claim("under Davidson's law half a win each keeps the gaps of scores", "log((W + nu/2)/(L + nu/2))", "d", letters=RAO),
    source="as win rates and leaderboards count.",
    links=("OpenEuroLLM/JudgeArena/issues/1", "stanford-crfm/helm/pull/3001"),
    rows=("ties",),
    caught="Every gap shrinks, under both laws of ties.",
)
dispute(
    slug="ties-dropped",
    question="May ties be dropped before Bradley-Terry is fitted?",
    claim=Claim("under Rao and Kupper's law dropping keeps the gaps", "log(U/R)", "d", letters=RAO),
    under=Under("people tie by Davidson's law", left="log(W/L)"),
    source="Davidson (1970); Rao and Kupper (1967).",
    links=("hturner/BradleyTerry2/issues/18",),
    rows=("ties",),
    caught="Under Rao and Kupper a gap of .9 becomes 1.12 or so.",
)
dispute(
    slug="mixed-people",
    question="Does a reward model of many people learn their mean utility?",
    claim=Claim(
        "pooled Bradley-Terry scores are the mean utility, centered",
        "s",
        lambda r, proxy, share_of_proxy: centered((1.0 - share_of_proxy) * r + share_of_proxy * proxy),
        letters={"s": "pooled_scores"},
        where=lambda r, proxy: max(float(np.ptp(r)), float(np.ptp(proxy))) < 9.0,
    ),
    under=Under("all people are of one kind", where=lambda r: float(np.ptp(r)) < 9.0, given={"share_of_proxy": 0.0}),
    source="Siththaranjan, Laidlaw and Hadfield-Menell (2023), arXiv:2312.08358.",
    links=("https://arxiv.org/html/2312.08358v2",),
    rows=("mixture-of-people",),
    caught="Win rates are squashed before they are averaged: the scores rank by Borda's count.",
)
dispute(
    slug="centering-term",
    question="Does the term (r_w + r_l)^2 only center a reward model?",
    claim=Claim(
        "the fitted rewards are the centered ones", "s", centered, letters={"s": "centered_scores"}, where=lambda r: float(np.ptp(r)) < 7.0
    ),
    under=Under("there are two responses", where=lambda N, r: N == 2 and float(np.ptp(r)) < 7.0),
    source="Eisenstein et al. (2023), arXiv:2312.09244; an option of TRL and axolotl.",
    links=("huggingface/trl/pull/1932", "axolotl-ai-cloud/axolotl/pull/3124"),
    rows=("centering",),
    caught="Three responses: no three numbers have all pairwise sums 0 but zeros, so gaps shrink.",
)
dispute(
    slug="pushed-down",
    question="A rejected response is pushed down: do all others rise?",
    claim=Claim("with free logits every other response rises", risen, "0", ">=", where=lambda N: N > 1),
    under=Under("there are two responses", where=lambda N: N == 2),
    source="Ren and Sutherland (2024), arXiv:2407.10490; asked of DPO.",
    links=("huggingface/trl/issues/800", "Joshua-Ren/Learning_dynamics_LLM/issues/2"),
    rows=("squeezing",),
    caught="Three responses, .6, .3, .1: only those above sum p^2 - p_l rise.",
)
dispute(
    slug="best-of-n-law",
    question="Is best-of-n the law n p_ref F^(n-1)?",
    claim=Claim("exactly, ties or not", "p_n", "n*p_ref*F^(n-1)", where=full),
    under=Under("as a bound that it never exceeds", relation="<="),
    published=True,
    source="Amini et al. (2024), arXiv:2407.06057, without ties; quoted with them.",
    rows=("bon-is-gibbs-of-quantile", "best-of-n"),
    caught="It does not sum to one where a level has mass.",
)
dispute(
    slug="gibbs-loses-pass-at-k",
    question="Does reinforcement learning with a KL penalty lose pass@k to its reference?",
    claim=Claim(
        "its optimum has at most the reference's pass@k",
        "1 - (1 - E_q[r])^k",
        "1 - (1 - E_p_ref[r])^k",
        "<=",
        letters={"r": "success", "q": "p_ref*exp(success/beta)/E_p_ref[exp(success/beta)]", "k": "tries"},
        where=lambda p_ref, success, beta: decided(p_ref, success) and beta > 0.05,
    ),
    source="asked after Yue et al. (2025), arXiv:2504.13837, who measured trained models.",
    links=("https://limit-of-rlvr.github.io/",),
    rows=("sharpening",),
    caught="Prompt by prompt the log-odds of success move up by 1/beta.",
    note="The claim here is of the optimum; what a run of finitely many steps on finitely many prompts does is another question.",
)
dispute(
    slug="sharpening-flow",
    question="Does reward alone sharpen among right answers?",
    claim=Claim("the gradient flow on logits keeps the odds of right responses", odds_slope, "0", where=full),
    under=Under(
        "the way to the Gibbs law: the tilt multiplies all right ones alike",
        left="r*q/E_q[r]",
        right="r*p_ref/E_p_ref[r]",
        letters={"r": "success", "q": "p_ref*exp(success/beta)/E_p_ref[exp(success/beta)]"},
        where=lambda p_ref, success, beta: decided(p_ref, success) and beta > 0.05,
    ),
    source="by the flow; of entropy collapse under 0/1 rewards, arXiv:2504.13837.",
    links=("https://limit-of-rlvr.github.io/",),
    rows=("sharpening",),
    caught="From (.3, .1, .6), the last one wrong: the odds 3 : 1 become 24 : 1 at 99 %, and grow without end.",
)
dispute(
    slug="process-sum",
    question="May process rewards be summed?",
    claim=Claim(
        "a sum of prefix values has the optimum of the outcome",
        "p_ref*exp(S/beta)/E_p_ref[exp(S/beta)]",
        "p_star",
        letters={"S": "sum_h Q_pi(s_h, a_h)"},
        where=lambda log_p_ref, r, beta: full(log_p_ref) and float(np.ptp(r)) / beta < 30.0,
    ),
    under=Under("their differences are summed", letters={"S": "sum_h (Q_pi(s_h, a_h) - V_pi(s_h))"}),
    source="of summed credit, arXiv:2504.15275.",
    rows=("process-rewards",),
    caught="Longer responses have more terms.",
)
