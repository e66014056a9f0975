"""Disputes about groups: standard deviations, silent groups, MaxRL, pass at k."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.disputes.record import Claim, Under, of_theme
from tabular_rlhf.policy_gradient.bernstein import by_table, pull
from tabular_rlhf.terms.conditions import decided
from tabular_rlhf.terms.letters import U, pulled

dispute = of_theme("groups")

PULLS = {
    **U,
    **pulled("s=grpo_pull", "c=centered_pull", "l=rloo_pull", "d=maxrl_dropped", "k=maxrl_kept", "p=pass_pull", "q=pass_centered_pull"),
    "g_r": "sum_x sum_tau mu(x)*redrawn_pull(x, tau)*score(x, tau)",
    "g_f": "sum_x sum_tau filled_pull(x, tau)*score(x, tau)",
    "g_v": "sum_x sum_tau surviving_pull(x, tau)*score(x, tau)",
    "k": "tries",
}


def sample_std(p: Any, success: Any, G: int, score: Any) -> Any:
    """GRPO's expected update with the sample's standard deviation, which divides by G - 1."""
    return np.einsum("xn,xnysv->xysv", pull(p, success, G, by_table(lambda m: np.sqrt((G - m) / m * (G - 1) / G))), score)


def mixed_share(p: Any, success: Any, G: int) -> Any:
    """The mean share of a response in groups that are mixed."""
    return pull(p, success, G, lambda r: np.ones_like(r) * (np.ptp(r, axis=1, keepdims=True) > 0))


def masked_kl(p: Any, p_ref: Any, success: Any, G: int, score: Any) -> Any:
    """The gradient of k3 in the loss where groups whose rewards are all equal are masked out."""
    return np.einsum("xn,xnysv->xysv", mixed_share(p, success, G) * (1.0 - p_ref / p), score)


dispute(
    slug="grpo-is-reinforce",
    question="Is dividing by the group's standard deviation only a scale of the step?",
    claim=Claim("GRPO's mean update for 0/1 rewards is that of REINFORCE", "g_s", "nabla(u)", letters=PULLS),
    under=Under("groups of two, standard deviation over n", given={"G": 2}),
    source="Liu et al. (2025), arXiv:2503.20783, and answers to it.",
    links=("sail-sg/understand-r1-zero/issues/26", "huggingface/trl/pull/3256"),
    rows=("group-bernstein", "grpo"),
    caught="Write w(u), a polynomial of degree G - 2: it is constant for G = 2 and for no larger group.",
)
dispute(
    slug="std-over-prompts",
    question="Does the standard deviation change the direction of the update, or only its length?",
    claim=Claim(
        "over prompts GRPO's mean update has the direction of grad E[u]", "E_mu[g_s]", "nabla(E_mu[u])", "direction", letters=PULLS
    ),
    under=Under("groups of two", given={"G": 2}),
    source="asked of TRL's scale_rewards and of Dr. GRPO.",
    links=("thinking-machines-lab/tinker-cookbook/issues/579", "huggingface/trl/pull/3256"),
    rows=("group-bernstein",),
    caught="Two prompts, one easy and one hard: their weights w(u) differ.",
)
dispute(
    slug="ddof",
    question="Does it matter whether the standard deviation divides by n or by n - 1?",
    claim=Claim("with n - 1 the mean update is the same", sample_std, "g_s", letters=PULLS),
    under=Under("only the direction is asked for: it is a constant scale", relation="direction"),
    source="numpy divides by n, torch by n - 1.",
    links=("pytorch/pytorch/issues/50010",),
    rows=("grpo",),
    caught="A group of two: the advantage is 1 with n, and 0.71 with n - 1.",
)
dispute(
    slug="group-mean",
    question="Is the group's mean, which holds the response itself, a free baseline?",
    claim=Claim("r less the group's mean is unbiased", "g_c", "nabla(E_p[r])", letters=PULLS),
    under=Under("the mean of the others", left="g_l"),
    source="of GRPO without a standard deviation, against RLOO, arXiv:2402.14740.",
    links=("redai-studio/Relax/issues/174",),
    rows=("rloo",),
    caught="Multiply out: the response's own reward stays, with a factor 1/G.",
)
dispute(
    slug="maxrl-dropped",
    question="To which order is MaxRL, as coded, the gradient of log u?",
    claim=Claim(
        "its centered advantage with silent groups zeroed has order G",
        "g_d",
        "sum_{k=1}^{G} (1-u)^{k-1}*nabla(u)",
        letters={**U, **pulled("d=maxrl_dropped")},
        where=decided,
    ),
    under=Under("the mean score is subtracted where nobody is right, too", left="g_k", letters={**U, **pulled("k=maxrl_kept")}),
    published=True,
    source="Tajwar et al. (2026), arXiv:2602.02710 (MaxRL).",
    links=("https://zanette-labs.github.io/MaxRL", "https://api.emergentmind.com/papers/2602.02710"),
    rows=("maxrl-order",),
    caught="G = 2: the dropped form is REINFORCE.",
)
dispute(
    slug="redrawn-groups",
    question="Does dynamic sampling keep the direction of the gradient?",
    claim=Claim(
        "redrawing a prompt until its group is mixed keeps the direction of grad E[u]",
        "g_r",
        "nabla(E_mu[u])",
        "direction",
        letters=PULLS,
        where=decided,
    ),
    under=Under("silent groups are replaced by groups of other prompts", left="g_f"),
    source="DAPO, arXiv:2503.14476, and its implementations, which differ.",
    links=("verl-project/verl/issues/3539", "zhaochenyang20/Awesome-ML-SYS-Tutorial/issues/178"),
    rows=("dynamic-sampling",),
    caught="Two prompts of unlike difficulty: given that it is mixed, each counts alike; when filled, by how often it is mixed.",
)
dispute(
    slug="shrunken-batch",
    question="Silent groups are thrown away and the batch is not filled up: does that change anything?",
    claim=Claim("the mean over surviving groups of a batch of two is that of a filled batch", "g_v", "g_f", letters=PULLS, where=decided),
    source="asked of AReaL's filter.",
    links=("areal-project/AReaL/issues/450",),
    rows=("dynamic-sampling",),
    caught="Its factor is 2 - P(mixed) where the filled batch has 1/P(mixed): 1 for a whole batch lies between.",
)
dispute(
    slug="silent-kl",
    question="May the KL term be masked where all rewards of a group are equal?",
    claim=Claim(
        "masking the penalty of silent groups leaves its direction",
        masked_kl,
        lambda p, p_ref, score: np.einsum("xn,xnysv->xysv", p - p_ref, score),
        "direction",
        where=lambda p, success, log_p_ref: decided(p, success) and bool(np.isfinite(log_p_ref).all()),
    ),
    source="asked of TRL's GRPOTrainer: the gradients of silent groups were called spurious.",
    links=("huggingface/trl/issues/5588", "huggingface/trl/pull/7068"),
    rows=("kl-in-grpo",),
    caught="Responses are kept by their group's luck, right and wrong ones unequally often: the penalty is of another law.",
)
dispute(
    slug="pass-at-k-centered",
    question="Is centering free in pass@k training?",
    claim=Claim("subtracting the group's mean share leaves the gradient of pass@k", "g_q", "nabla(1 - (1-u)^k)", letters=PULLS),
    source="Walder and Karkhanis (2025), arXiv:2505.15201, and implementations that center.",
    links=("rllm-org/rllm/pull/743",),
    rows=("pass-at-k",),
    caught="k = n: every member gets the same share, and centering leaves nothing.  The factor is 1 - k/n.",
)
dispute(
    slug="pass-at-k-plugin",
    question="Is 1 - (1 - m/n)^k an estimate of pass@k?",
    claim=Claim("it is unbiased", "sum_{m=0}^{G} binom(G, m)*u^m*(1-u)^{G-m}*(1 - (1 - m/G)^k)", "1 - (1-u)^k", letters=PULLS),
    under=Under("k = 1", given={"tries": 1}),
    source="Chen et al. (2021), arXiv:2107.03374, warn of it.",
    links=("PrimeIntellect-ai/prime-rl/pull/1834",),
    rows=("pass-at-k",),
    caught="Average it over m: draws with replacement find fewer.",
)
