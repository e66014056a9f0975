"""Disputes about policies that have moved: ratios, truncation, samplers, clips, constants."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from tabular_rlhf.disputes.record import Claim, Under, of_theme
from tabular_rlhf.formula.indices import incidence
from tabular_rlhf.terms.conditions import full, off_the_edges
from tabular_rlhf.terms.letters import FAIR, OLD, PULL, RATIO
from tabular_rlhf.terms.policies import best_of_gain

dispute = of_theme("moved")

CUT = {**OLD, "C": "cap", "rho": "p/p_2", "Q_old": "E_p_2[r | s, a]", "q": "p_sampler", "pi_q": "pi_sampler", "c": "eta"}
TIS = "E_p_old[min(rho, C)*r*score]"
PREFIX = "E_p_old[sum_h p(s_h + a_h)/p_old(s_h + a_h)*{}*nabla(log(pi(a_h|s_h)))]"


def one_step(H: int, log_p_ref: Any) -> bool:
    return H == 1 and full(log_p_ref)


def covering(log_p_ref: Any, log_p_sampler: Any) -> bool:
    return full(log_p_ref) and bool(np.isfinite(log_p_sampler).all())


def spread(weights: Any, law: Any, pi: Any) -> Any:
    """The summed variance of sum_h w_h score_h under a law, for each prompt: weights (P, N, S, V), 0 where a response does not pass.

    Scores of two states are in unlike logits; those of one state are e_a - pi.
    """
    push = weights - pi[:, None] * np.sum(weights, axis=-1, keepdims=True)
    mean = np.einsum("xn,xnsv->xsv", law, push)
    return np.einsum("xn,xnsv->x", law, np.square(push)) - np.sum(np.square(mean), axis=(1, 2))


def ratios(mdp: Any, log_pi: Any, log_pi_2: Any) -> tuple[Any, Any]:
    """The ratio of a response so far at every token, (P, 1, S, V), and of all of it, (P, N, 1, 1)."""
    gap = log_pi - log_pi_2
    return np.exp(mdp.prefix_sum(gap)[..., None] + gap)[:, None], np.exp(mdp.path_sum(gap))[..., None, None]


def with_outcomes(mdp: Any, log_pi: Any, log_pi_2: Any, log_p_2: Any, pi: Any, r: Any, *, prefix: bool) -> Any:
    so_far, whole = ratios(mdp, log_pi, log_pi_2)
    return spread(incidence(mdp)[None] * (so_far if prefix else whole) * r[..., None, None], np.exp(log_p_2), pi)


def with_advantages(mdp: Any, log_pi: Any, log_pi_2: Any, log_p_2: Any, p: Any, pi: Any, r: Any, *, prefix: bool) -> Any:
    mass = mdp.subtree_sum(p)
    Q = mdp.subtree_sum(p * r) / mass
    A = Q - np.sum(pi * Q, axis=-1, keepdims=True)
    so_far, whole = ratios(mdp, log_pi, log_pi_2)
    return spread(incidence(mdp)[None] * (so_far if prefix else whole) * A[:, None], np.exp(log_p_2), pi)


def returns(mdp: Any, p: Any, pi: Any, r_token: Any, *, to_go: bool) -> Any:
    """The summed variance of the policy gradient with token rewards: of all of them, or of those still to come."""
    total = mdp.path_sum(r_token)[..., None, None]
    past = mdp.prefix_sum(r_token)[:, None, :, None]
    return spread(incidence(mdp)[None] * (total - past if to_go else total), p, pi)


dispute(
    slug="tis-unbiased",
    question="Does truncated importance sampling correct the mismatch between sampler and trainer?",
    claim=Claim("min(rho, C) r score has the gradient of E_p[r] for its mean", TIS, "nabla(E_p[r])", letters=CUT, where=full),
    under=Under("no ratio exceeds C", given={"cap": 1e12}),
    source="the correction of inference engines, adopted by trainers in 2025.",
    links=("verl-project/verl/pull/2953", "huggingface/trl/pull/3867"),
    rows=("truncated-ratio",),
    caught="Two responses, one of which has become twice as likely.",
)
dispute(
    slug="tis-or-masking",
    question="Truncate a large ratio or mask it: is it the same up to noise?",
    claim=Claim("both have the same mean", TIS, "E_p_old[1[rho <= C]*rho*r*score]", letters=CUT, where=full),
    source="asked for TRL, after IcePop.",
    links=("huggingface/trl/issues/4493", "verl-project/verl/pull/3750"),
    rows=("truncated-ratio",),
    caught="Write what each ascends: g(rho) goes on as C + C log(rho/C), or stops at C.",
)
dispute(
    slug="tis-baseline",
    question="Is a baseline still free when ratios are truncated?",
    claim=Claim("taking a constant from r leaves the mean update", "E_p_old[min(rho, C)*(r - 1)*score]", TIS, letters=CUT, where=full),
    under=Under("no ratio exceeds C", given={"cap": 1e12}),
    source="of recipes that center advantages and truncate ratios.",
    links=("verl-project/verl/pull/3694",),
    rows=("truncated-ratio",),
    caught="A reward that is 1 everywhere must push nothing; min(rho, C) score does.",
)
dispute(
    slug="token-ratio",
    question="Ratios of tokens or of the sequence?",
    claim=Claim(
        "ratios of single tokens correct for another sampler",
        "E_p_old[sum_h pi(a_h|s_h)/pi_old(a_h|s_h)*r*nabla(log(pi(a_h|s_h)))]",
        "nabla(E_p[r])",
        letters=CUT,
        where=full,
    ),
    under=Under("responses of one token", where=one_step),
    source="GSPO, arXiv:2507.18071; asked of trainers.",
    links=("huggingface/trl/issues/4493", "huggingface/trl/issues/3811"),
    rows=("sampler-mismatch", "prefix-ratio"),
    caught="Two steps: the visits, and what follows, stay those of the sampler.",
)
dispute(
    slug="sampler-mismatch",
    question="Sampling at another temperature, or with top-p, and training at 1: is it harmless?",
    claim=Claim("E_q[r score] is the gradient of E_p[r]", "E_q[r*score]", "nabla(E_p[r])", letters=CUT, where=full),
    under=Under("with the ratio of the response, and a sampler that can say everything", left="E_q[p/q*r*score]", where=covering),
    source="a bug that several trainers had.",
    links=("huggingface/trl/pull/3029", "huggingface/trl/issues/4159"),
    rows=("sampler-mismatch",),
    caught="A constant reward: its mean update must be 0.",
)
dispute(
    slug="prefix-outcome",
    question="Is the cumulative ratio of tokens unbiased?",
    claim=Claim("with outcome rewards its mean is the gradient of E_p[r]", PREFIX.format("r"), "nabla(E_p[r])", letters=CUT, where=full),
    under=Under("with the advantages of pi", left=PREFIX.format("A_pi(s_h, a_h)")),
    published=True,
    source="Zhang et al. (2026), arXiv:2605.07331, state it for each token-level term; outcome rewards are what trainers have.",
    links=("https://arxiv.org/abs/2605.07331",),
    rows=("prefix-ratio",),
    caught="Two steps: what follows the token is the old policy's, so its value is Q_old.",
)
dispute(
    slug="prefix-variance",
    question="Has the cumulative ratio less variance than that of the sequence?",
    claim=Claim(
        "with outcome rewards its summed variance is never more",
        partial(with_outcomes, prefix=True),
        partial(with_outcomes, prefix=False),
        "<=",
        where=full,
    ),
    under=Under(
        "with the advantages of pi, in the tabular class",
        left=partial(with_advantages, prefix=True),
        right=partial(with_advantages, prefix=False),
    ),
    published=True,
    source="Zhang et al. (2026), arXiv:2605.07331: strictly lower variance than the full sequence ratio.",
    links=("https://arxiv.org/abs/2605.07331",),
    rows=("prefix-ratio",),
    caught="A late ratio that is small where rewards are large makes the sequence's estimate the quieter one.",
)
dispute(
    slug="random-rewards",
    question="Does PPO's clip amplify likely tokens under random rewards?",
    claim=Claim(
        "its mean update moves pi further from the old policy",
        rf"\nabla\, {FAIR}, \quad {RATIO}",
        rf"-\nabla\, ({PULL}), \quad {RATIO}",
        letters={**OLD, "c": "clip"},
        where=off_the_edges,
    ),
    published=True,
    source="Shao et al. (2025), arXiv:2506.10947, explain gains under random rewards by a bias of the clip; arXiv:2512.16912.",
    links=("https://www.alphaxiv.org/overview/2506.10947", "https://qinglinh.com/blog/spurious-rewards/"),
    rows=("random-rewards-clip",),
    caught="Average over the coin first: -1/2 E|rho - clip rho|, a pull back.",
    note="At a pi that does not depend on these rewards.  Further steps on the same batch break this premise, and are not judged.",
)
dispute(
    slug="old-data",
    question="Where does REINFORCE without ratios lead on old data?",
    claim=Claim("to the best response", "p_limit", best_of_gain),
    source="Arnal et al. (2025), arXiv:2506.20520.",
    links=("https://arxiv.org/html/2506.20520v2",),
    rows=("off-policy-reinforce",),
    caught="A baseline far below: the limit is nearly the data's own law.",
)
dispute(
    slug="balance-constant",
    question="Does trajectory balance need the right log Z?",
    claim=Claim(
        "off policy any constant leaves p* at rest",
        "nabla(E_p_2[(c + log(p/p_ref) - r/beta)^2])",
        "0",
        letters={"c": "eta"},
        given={"logits": lambda scope: scope["log_pi_star"]},
        where=lambda log_p_ref, r, beta: full(log_p_ref) and np.ptp(r) < 9 * beta,
    ),
    under=Under(
        "the constant is log Z",
        left="nabla(E_p_2[(log Z + log(p/p_ref) - r/beta)^2])",
        letters={},
        given={"logits": lambda scope: scope["log_pi_star"]},
    ),
    source="Bartoldson et al. (2025), arXiv:2503.18929; arXiv:2605.15417.",
    links=("https://arxiv.org/html/2503.18929v2", "https://tba-llm.github.io"),
    rows=("trajectory-balance",),
    caught="On policy a wrong constant is a baseline; off policy the mean score is not 0.",
)
dispute(
    slug="mean-for-log-z",
    question="May the mean reward stand for beta log Z in mirror descent?",
    claim=Claim(
        "the regression still ends at the Gibbs law",
        "rho_pmd",
        "exp(a)/E_p_2[exp(a)]",
        letters={"a": "(r - E_p_2[r])/beta"},
        where=lambda log_p_ref, r, beta: full(log_p_ref) and 0 < np.min(np.ptp(r, axis=1)) and np.ptp(r) < 9 * beta,
    ),
    source="Xu, Lu, Yu and Zhao (2026), arXiv:2602.05933, who say what it is.",
    links=("https://arxiv.org/html/2602.05933v1",),
    rows=("pmd-mean",),
    caught="Normalize: the law W(lambda e^a)/lambda of one multiplier is more cautious than e^a.",
)
dispute(
    slug="reward-to-go",
    question="Does dropping past rewards lower the variance?",
    claim=Claim(
        "never more summed variance than with the whole return",
        partial(returns, to_go=True),
        partial(returns, to_go=False),
        "<=",
        where=full,
    ),
    under=Under("responses of one token", where=one_step),
    published=True,
    source="said in most courses on policy gradients.",
    rows=("reward-to-go",),
    caught="+1 first, then a certain -1: the whole return is 0 and makes no noise at all.",
)
