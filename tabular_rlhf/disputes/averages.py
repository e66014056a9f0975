"""Disputes about averages: tokens against responses, micro-batches, padding, EOS, and critics."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.disputes.record import Claim, Under, of_theme
from tabular_rlhf.terms.conditions import full

dispute = of_theme("averages")

POOLED = "E_{y~p}[f(y)*score(y)*E_{y'~p}[2/(lengths(y) + lengths(y'))]]"
EACH = "E_p[f*score/lengths]"


def even(lengths: Any, log_p_ref: Any) -> bool:
    """All responses are of one length."""
    return bool(np.ptp(lengths) == 0) and full(log_p_ref)


dispute(
    slug="token-mean",
    question="Is the mean over a batch's tokens the same as a mean over responses?",
    claim=Claim("up to a scale: both have one direction", POOLED, "nabla(E_p[f])", "direction", where=full),
    under=Under("all responses are of one length", where=even),
    source="asked of TRL's and verl's loss types for a year.",
    links=("huggingface/trl/issues/2995", "huggingface/trl/issues/5375", "allenai/open-instruct/issues/636"),
    rows=("batch-normalization", "aggregation"),
    caught="A batch of two: a response counts the less the longer its neighbor is.",
)
dispute(
    slug="micro-batch",
    question="Is the mean of micro-batch means the mean of the batch?",
    claim=Claim("for means over tokens, too", EACH, POOLED, where=full),
    under=Under("all responses are of one length", where=even),
    source="the gradient accumulation bug of 2024.",
    links=("huggingface/transformers/pull/34191", "meta-pytorch/torchtune/pull/1875"),
    rows=("micro-batch-mean",),
    caught="x1/n1 + x2/n2 is not (x1 + x2)/(n1 + n2).",
)
dispute(
    slug="counted-twice",
    question="The loss is divided by the batch's tokens in each micro-batch, and then averaged: what is lost?",
    claim=Claim("nothing", "E_{y~p}[f(y)*score(y)*E_{y'~p}[1/(lengths(y) + lengths(y'))]]", POOLED, where=full),
    under=Under("only the direction is asked for: the step is halved", relation="direction"),
    source="asked of transformers' num_items_in_batch.",
    links=("huggingface/transformers/issues/35203",),
    rows=("micro-batch-mean",),
    caught="A batch of two that is the same response twice.",
)
dispute(
    slug="fixed-denominator",
    question="Is dividing by the padded length, whatever a response's own is, only a scale?",
    claim=Claim("it has the direction of the gradient", "E_p[r/H*score]", "nabla(E_p[r])", "direction", where=full),
    settled="true",
    source="Dr. GRPO, arXiv:2503.20783; asked of TRL.",
    links=("huggingface/trl/pull/3231", "huggingface/trl/pull/3138"),
    rows=("padding-and-eos",),
    caught="It holds: one number divides all.",
)
dispute(
    slug="length-mean",
    question="A mean over each response's own tokens: does it leave the objective?",
    claim=Claim("it has the direction of the gradient", "E_p[r/lengths*score]", "nabla(E_p[r])", "direction", where=full),
    under=Under("all responses are of one length", where=even),
    source="Dr. GRPO, arXiv:2503.20783, and an argument that it would undo a bias.",
    links=("sail-sg/understand-r1-zero/issues/25",),
    rows=("aggregation",),
    caught="It ascends E[r/length]: a wrong long answer costs less than a wrong short one.",
)
dispute(
    slug="k1-token-mean",
    question="k1 in the loss with a mean over tokens: a pull to the reference?",
    claim=Claim("it pushes nothing, as a sum does", "E_p[score/lengths]", "0", where=full),
    under=Under("all responses are of one length", where=even),
    source="by enumeration; of the options of trainers.",
    links=("huggingface/trl/issues/4967",),
    rows=("kl-in-grpo",),
    caught="It is the gradient of E[1/length], a bonus on length that no reference enters.",
)
dispute(
    slug="eos-masked",
    question="Padding is EOS, and EOS is masked out of the loss: is that only a scale?",
    claim=Claim(
        "the update keeps its direction",
        "sum_s sum_a 1[a < K]*p(s + a)*Q_pi(s, a)*nabla(log(pi(a|s)))",
        "nabla(E_p[r])",
        "direction",
        where=full,
    ),
    under=Under("no response ends by EOS", where=lambda K, V, log_p_ref: K == V and full(log_p_ref)),
    source="models that never stop.",
    links=("NVIDIA-NeMo/Megatron-Bridge/pull/4660", "huggingface/blog/issues/1302"),
    rows=("padding-and-eos",),
    caught="A reward for stopping has no gradient left.",
)
dispute(
    slug="gae-unbiased",
    question="Is GAE unbiased?",
    claim=Claim("for every lambda", "g", "nabla(E_p[r])", letters={"g": "gae_update"}, where=full),
    under=Under("lambda = 1", given={"lam": 1.0}),
    source="Schulman et al. (2016), arXiv:1506.02438, say when.",
    rows=("gae",),
    caught="A critic that is wrong in one state: the bias has the factor 1 - lambda.",
)
dispute(
    slug="gae-exact",
    question="With an exact critic, does lambda matter for the mean?",
    claim=Claim("it does not: GAE is unbiased for every lambda", "g", "nabla(E_p[r])", letters={"g": "gae_exact"}, where=full),
    settled="true",
    source="Schulman et al. (2016), arXiv:1506.02438.",
    rows=("gae",),
    caught="It holds; lambda only moves the variance.",
)
