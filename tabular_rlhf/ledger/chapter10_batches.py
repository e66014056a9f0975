r"""Chapter 10, batches: what padding, a masked EOS and the mean over a batch's tokens do to the update."""

from __future__ import annotations

from string import Template
from typing import Any

import numpy as np

from tabular_rlhf.ledger.record import claim
from tabular_rlhf.policy_gradient import stale
from tabular_rlhf.terms.conditions import full
from tabular_rlhf.terms.policies import each, mean_slope
from tabular_rlhf.terms.sizes import reward_size

PAIR = r"\mathbb{E}_{y \sim p, y' \sim p}"

# ---------------------------------------------------------------------------------------------------- padding-and-eos


def ending(mdp: Any, p: Any, r: Any, pi: Any) -> Any:
    """sum over tokens that end a response of their mass, times reward, times the score of that token."""
    mass = mdp.subtree_sum(p * r) * (np.arange(mdp.V) >= mdp.K)
    return stale.pulled_tokens(mass, pi)


claim(
    slug="padding-and-eos",
    chapter=10,
    text=r"""
    \sum_s \sum_a 1[a < K]\, p(s + a)\, Q_\pi(s, a)\, \nabla \log\pi(a \mid s) = \nabla\, \mathbb{E}_p[r] - \sum_s \sum_a 1[a \ge K]\, p(s +
        a)\, Q_\pi(s, a)\, \nabla \log\pi(a \mid s)
      not nabla(E_p[r])  # masking EOS is only a scale: nothing changes
      not nabla(E_p[1[lengths(tau) >= H]*r])  # masking EOS takes away the EOS's reward
      not nabla(E_p[r]) + sum_s sum_a 1[a >= K]*p(s + a)*Q_pi(s, a)*nabla(log(pi(a|s)))  # the EOS's share added
    \mathbb{E}_p[\frac{r}{H}\, \mathrm{score}] = \frac{1}{H}\, \nabla\, \mathbb{E}_p[r]
        # an EOS (a token that is not among the first K) masked out of the loss takes its share of the gradient away; a fixed denominator,
        the padded length H, is only a scale
      not E_p[r/lengths(tau)*score]  # the padded length taken for each response's own
      not nabla(E_p[r])  # no scale
    """,
    source="by the policy gradient, token by token; the fixed denominator is that of arXiv:2503.20783.",
    parts=("EOS masked", "padded length"),
    sides={
        "gradient less the EOS's share": 1,
        "tokens that go on; responses": 0,
        "gradient core, masses": lambda world, logits, mdp, p, r, pi, H: (
            mean_slope(world, logits, r) - each(ending(mdp, p, r, pi)),
            mean_slope(world, logits, r / H),
        ),
    },
    where=full,
    scale=reward_size,
    largest=40,
    most=16,
)

# ---------------------------------------------------------------------------------------------------- batch-normalization


def pooled(p: Any, f: Any, score: Any, lengths: Any, scale: float = 1.0) -> Any:
    """All pairs of responses, one by one: the mean of their pushes over the tokens of both."""
    inverse = scale / (lengths[:, None] + lengths[None, :])
    weight = np.einsum("xi,xj,ij->xij", p, p, inverse)
    push = np.einsum("xij,xi->xi", weight, f) + np.einsum("xji,xi->xi", weight, f)
    return np.einsum("xi,xiysv->xysv", push, score)


claim(
    slug="batch-normalization",
    formerly=("batch-normalisation",),
    chapter=10,
    text=Template(r"""
    ${PAIR}[\frac{f(y)\, \mathrm{score}(y) + f(y')\, \mathrm{score}(y')}{|y| + |y'|}] = \mathbb{E}_{y \sim p}[f(y)\, \mathrm{score}(y)\,
        \mathbb{E}_{y' \sim p}[\frac{2}{|y| + |y'|}]]
        # a mean over the tokens of a batch of two: a response counts the less the longer its neighbors are
      not E_p[f*score]/E_p[lengths]  # only a scale: over the mean length
      not E_p[f*score/lengths]  # the mean of each response's own tokens
      not 2*E_p[f*score]  # sum for mean
      not E_p[f*score]  # a mean over responses
      not E_{y~p}[f(y)*score(y)*E_{y'~p}[1/(lengths(y) + lengths(y'))]]  # half of it
    """).substitute(PAIR=PAIR),
    source="by linearity; the token mean is that of arXiv:2503.14476.",
    sides={
        "each response by its neighbors": 1,
        "pairs": 0,
        "all pairs, one by one": lambda p, f, score, lengths: pooled(p, f, score, lengths),
    },
    where=full,
    scale=lambda f, H: (1.0 + np.max(np.abs(f))) * H,
    largest=40,
    most=12,
)

# ---------------------------------------------------------------------------------------------------- micro-batch-mean


claim(
    slug="micro-batch-mean",
    chapter=10,
    text=Template(r"""
    ${PAIR}[\frac{1}{2} (\frac{f(y)\, \mathrm{score}(y)}{|y|} + \frac{f(y')\, \mathrm{score}(y')}{|y'|})] = \nabla\,
        \mathbb{E}_p[\frac{f}{|y|}]
      not E_{y~p}[f(y)*score(y)*E_{y'~p}[2/(lengths(y) + lengths(y'))]]  # the mean of means is the mean over all tokens
      not nabla(E_p[f])/E_p[lengths]  # only a scale
      not 2*nabla(E_p[f/lengths])  # 1/2 forgotten
    ${PAIR}[\frac{f(y)\, \mathrm{score}(y) + f(y')\, \mathrm{score}(y')}{2 (|y| + |y'|)}] = \mathbb{E}_{y \sim p}[f(y)\, \mathrm{score}(y)\,
        \mathbb{E}_{y' \sim p}[\frac{1}{|y| + |y'|}]]
        # two micro-batches of one response: the mean of their token means is another update than the token mean of both; and a count of
        tokens that is taken twice halves the step exactly
      not E_{y~p}[f(y)*score(y)*E_{y'~p}[2/(lengths(y) + lengths(y'))]]  # counting twice changes nothing
      not nabla(E_p[f/lengths])  # counting twice is the mean of means
    """).substitute(PAIR=PAIR),
    source="by linearity; of the accumulation bug in trainers, 2024.",
    parts=("mean of means", "counted twice"),
    sides={
        "closed form": 1,
        "pairs": 0,
        "gradient core, all pairs": lambda world, logits, p, f, score, lengths: (
            mean_slope(world, logits, f / lengths),
            pooled(p, f, score, lengths, 0.5),
        ),
    },
    where=full,
    scale=lambda f, H: (1.0 + np.max(np.abs(f))) * H,
    largest=40,
    most=12,
)
