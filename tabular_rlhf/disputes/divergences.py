"""Disputes about KL: which estimator, where it stands, what it pushes, and distillation."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.disputes.record import Claim, Under, of_theme
from tabular_rlhf.logspace import Array
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.policy import uniform
from tabular_rlhf.terms.conditions import full
from tabular_rlhf.world import World

dispute = of_theme("divergences")

STATE = "KL(pi(.|s), pi_ref(.|s))"
TEACHER = {"pi_T": "pi_2", "p_T": "p_2"}


def one_step(H: int, log_p_ref: Any) -> bool:
    return H == 1 and full(log_p_ref)


def covers(log_p_short: Any, log_p_ref: Any) -> bool:
    return bool(np.all(np.isfinite(log_p_short) | np.isneginf(log_p_ref)))


def three_of_four() -> Array:
    """Logits of a policy that is uniform on three of four responses of two tokens, nearly: the last is 1e-6 as likely."""
    logits = np.zeros((1, 3, 2))
    logits[0, 0] = np.log([2.0, 1.0])
    logits[0, 2] = [0.0, np.log(1e-6)]
    return logits


FOUR = World((_mdp := TokenMDP(2, 2)), uniform(_mdp), np.zeros((1, 4)), 1.0, name="four leaves")

dispute(
    slug="rao-blackwell",
    question="Has the exact KL of each step, summed along samples, never more variance than the sampled log-ratio?",
    claim=Claim(
        "so for sequences, too",
        "Var_p(sum_h KL(pi(.|s_h), pi_ref(.|s_h)))",
        "Var_p(log(p/p_ref))",
        "<=",
        given={"logits": lambda scope: three_of_four()},
        on=(FOUR,),
    ),
    under=Under("responses of one token", where=one_step),
    published=True,
    source="Amini, Vieira and Cotterell (2025), arXiv:2504.10637: provably less than or equal.",
    links=("https://arxiv.org/html/2504.10637v2", "https://www.emergentmind.com/papers/2504.10637"),
    rows=("rao-blackwell",),
    caught="A policy uniform on three of four leaves: the log-ratio of every response is log 4/3, with no variance at all.",
)
dispute(
    slug="k3-in-loss",
    question="Which divergence does k3 in the loss, differentiated, pull back?",
    claim=Claim("the gradient of KL(pi, ref) is its mean", "E_p[(1 - p_ref/p)*score]", "nabla(KL(p, p_ref))", where=full),
    source="Shao et al. (2024), arXiv:2402.03300; disputed in trainers.",
    links=("huggingface/trl/issues/4967", "huggingface/trl/issues/2608"),
    rows=("kl-gradients", "kl-in-grpo"),
    caught="It is the forward divergence KL(ref, pi): compare the two gradients at one policy.",
)
dispute(
    slug="k1-in-loss",
    question="Does k1 in the loss regularize?",
    claim=Claim("differentiated, it has the gradient of KL(pi, ref) for its mean", "E_p[score]", "nabla(KL(p, p_ref))", where=full),
    source="options of trainers for the penalty's estimator.",
    links=("huggingface/trl/issues/4967",),
    rows=("kl-gradients",),
    caught="Its slope is the score, whose mean is 0.",
)
dispute(
    slug="k3-in-reward",
    question="May the penalty in the reward be k3, which has less variance?",
    claim=Claim("it pushes like the gradient of KL(pi, ref)", "E_p[k_3*score]", "nabla(KL(p, p_ref))", where=full),
    under=Under("k1, the log-ratio", left="E_p[k_1*score]"),
    source="a comparison of estimators, arXiv:2512.21852, as it is quoted in the thread.",
    links=("huggingface/trl/issues/4967", "https://xihuai18.github.io/reinforcement-learning/2025/12/01/kl-estimators-en.html"),
    rows=("kl-placement",),
    caught="An unbiased value is not an unbiased gradient: k3 less k1 is ratio - 1, whose mean moves with the policy.",
)
dispute(
    slug="k3-unbiased",
    question="Is k3 unbiased?",
    claim=Claim("its mean is KL(p, p_ref)", "E_p_short[p_ref/p_short - 1 - log(p_ref/p_short)]", "KL(p_short, p_ref)"),
    under=Under("p can say all that p_ref can", where=covers),
    published=True,
    source="Schulman (2020).",
    links=("http://joschu.net/blog/kl-approx.html",),
    rows=("k3",),
    caught="A policy without one of the reference's responses, as with top-p: the mean of the ratio is below 1.",
)
dispute(
    slug="state-kl-same-token",
    question="The exact KL of each state is taken from that token's advantage: does it regularize?",
    claim=Claim(
        "its mean update is that of KL(p, p_ref)",
        f"sum_s d_pi(s)*{STATE}*sum_a pi(a|s)*nabla(log(pi(a|s)))",
        "nabla(KL(p, p_ref))",
        where=full,
    ),
    under=Under(
        "as part of the return, and with the loss term beside it", left=f"(sum_s {STATE}*nabla(d_pi(s))) + (sum_s d_pi(s)*nabla({STATE}))"
    ),
    source="a bug report on distillation with the top-k divergence as a reward.",
    links=("radixark/miles/issues/2362",),
    rows=("state-kl-in-reward",),
    caught="A number that does not depend on the token is a baseline of its state: exactly 0.",
)
dispute(
    slug="distillation",
    question="Does on-policy distillation, token by token, descend KL(student, teacher)?",
    claim=Claim(
        "its mean update is the gradient of KL(p, teacher)",
        "E_p[sum_h log(pi(a_h|s_h)/pi_T(a_h|s_h))*nabla(log(pi(a_h|s_h)))]",
        "nabla(KL(p, p_T))",
        letters=TEACHER,
        where=full,
    ),
    under=Under("responses of one token", where=one_step),
    published=True,
    source="recipes after arXiv:2306.13649; what they optimize, arXiv:2605.16826.",
    links=("THUDM/slime/issues/1068", "THUDM/slime/pull/2254"),
    rows=("on-policy-distillation",),
    caught="Two steps: the visits are held, so a token is not charged for where it leads.",
)
dispute(
    slug="entropy-sum",
    question="Does the entropy of responses follow the mean entropy of tokens?",
    claim=Claim(
        "its slope is the visited sum of the tokens' slopes",
        "-Cov_p(log(p), score_v)",
        "-(sum_s d_pi(s)*Cov_a(log(pi(a|s)), v(s,a)))",
        letters={"v": "direction"},
        where=full,
    ),
    under=Under("responses of one token", where=one_step),
    source="of entropy as it is logged by trainers; Cui et al. (2025), arXiv:2505.22617.",
    rows=("entropy-covariance",),
    caught="Visits move, too: all tokens' entropies may rise while that of the responses falls.",
)
