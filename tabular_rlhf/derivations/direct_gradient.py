r"""Chapter 6 as a derivation: the gradient of DPO's loss, one use of the chain rule at a time, and what its weight means.

m = rhat_w - rhat_l is the margin of a pair, rhat = beta log(pi/pi_ref); gradients are in the token logits of the policy.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.derivations.direct import rhat
from tabular_rlhf.derivations.record import derivation
from tabular_rlhf.logspace import log_softmax
from tabular_rlhf.terms.comparisons import on_support, own_score, pull
from tabular_rlhf.terms.sizes import size_of
from tabular_rlhf.terms.sources import RAFAILOV

# ---------------------------------------------------------------------------------------------------- dpo-gradient


def margins(world: Any, pairs: Any, logits: Any) -> Any:
    """m of every pair, traced in the logits."""
    return pairs.margin(rhat(world.mdp.path_sum(log_softmax(logits)), world.log_p_ref, world.beta))


def by_tokens(world: Any, log_p: Any, pi: Any, beta: float, centered: bool = True) -> Any:
    """-beta E[sigma(rhat_l - rhat_w)(score_w - score_l)], scores written out: one-hot less pi in every state that a response visits."""
    mdp, out = world.mdp, np.zeros_like(pi)
    weights = pull(world, log_p, beta)
    push = np.sum(weights, axis=2) - np.sum(weights, axis=1)  # what y receives as a winner, less what it loses as a loser
    for y in range(mdp.N):
        score = own_score(mdp, pi if centered else 0.0 * pi, np.arange(mdp.P), np.full(mdp.P, y))
        out -= beta * on_support(world.log_p_ref, push)[:, y, None, None] * score
    return out


def moderate(world: Any, pairs: Any, logits: Any) -> bool:
    """Margins whose exponentials are floats."""
    return bool(np.max(np.abs(margins(world, pairs, logits))) < 300)


derivation(
    slug="dpo-gradient",
    title="The gradient of DPO's loss, and what each factor does",
    chapter=6,
    rows=("dpo-gradient",),
    source=RAFAILOV,
    largest=16,
    where=moderate,
    scale=lambda r, beta, log_p, log_p_ref: (1.0 + beta) * size_of(r, beta, log_p, log_p_ref),
    named={"the_normalizer_forgotten_one_hot": lambda world, log_p, pi, beta: by_tokens(world, log_p, pi, beta, False)},
    text=r"""
    let r_hat = beta*L
    \nabla\, \mathbb{E}\left[ -\log \sigma(m) \right], \quad m = \hat r_w - \hat r_l
        # The gradient of DPO's loss in the token logits, by the gradient core.
    = -\mathbb{E}\left[ \frac{1}{\sigma(m)}\, \nabla \sigma(m) \right]
        # The mean and the gradient change places (pairs and labels do not depend on pi); d log u = du/u.
      slip 1/sigma(m) dropped
      not -\mathbb{E}\left[ \frac{1}{10^{-9} + |m|}\, \nabla \sigma(m) \right]  # 1/m for 1/sigma(m)
    = -\mathbb{E}\left[ \frac{1}{\sigma(m)}\, \sigma(m) (1 - \sigma(m))\, \nabla m \right]
        # sigma = 1/(1 + e^-m) has slope e^-m/(1 + e^-m)^2 = sigma (1 - sigma).
      slip 1 - sigma(m) dropped; sigma(m) dropped
    = -\mathbb{E}\left[ \sigma(-m)\, \nabla m \right]
        # sigma cancels, and 1 - sigma(m) = (1 + e^-m - 1)/(1 + e^-m) = 1/(e^m + 1) = sigma(-m).
      slip sign within sigma flipped; sign flipped
    = -\mathbb{E}\left[ \sigma(\hat r_l - \hat r_w) \left( \nabla \hat r_w - \nabla \hat r_l \right) \right]
        # Write out m: its sign turns in the weight, not in the gradient.
      slip sign of nabla(r_hat(l)) flipped; sign within sigma flipped
    = -\beta\, \mathbb{E}\left[ \sigma(\hat r_l - \hat r_w) \left( \nabla \log \pi(y_w) - \nabla \log \pi(y_l) \right) \right]
        # rhat = beta log pi - beta log pi_ref: beta is a factor, and the reference does not depend on the parameters.
      slip beta dropped; sigma(r_hat(l) - r_hat(w)) dropped; sign flipped
      not -\beta\, \mathbb{E}\left[ \sigma\left( \frac{\hat r_l - \hat r_w}{\beta} \right) \left( \nabla \log \pi(y_w) - \nabla \log
        \pi(y_l) \right) \right]
        # beta dropped inside sigma
    = -\beta\, \mathbb{E}\left[ \sigma(\hat r_l - \hat r_w) \left( s(y_w) - s(y_l) \right) \right], \quad s(y) = \sum_h \nabla \log \pi(a_h
        \mid s_h)
        # A response adds up the scores of its tokens; that of a token in the logits of its state is one-hot less pi.
      not @the_normalizer_forgotten_one_hot  # the normalizer forgotten: one-hot alone
      not -\beta\, \mathbb{E}\left[ \sigma(\hat r_l - \hat r_w) \left( \frac{s(y_w)}{|y_w|} - \frac{s(y_l)}{|y_l|} \right) \right]
        # the mean over tokens for their sum
    so \sigma(\hat r_l - \hat r_w)
        # Its factors: beta is the step per nat, the bracket raises the winner and lowers the loser; the weight, for winner y and loser y',
        is left.
    = \frac{e^{\hat r_l}}{e^{\hat r_w} + e^{\hat r_l}}
        # It is the probability that the policy's own Bradley-Terry law gives to the wrong order: 1/2 at pi_ref, near 1 where the pair is
        misordered.
      not \frac{e^{\hat r_w}}{e^{\hat r_w} + e^{\hat r_l}}  # the probability of the right order
      not \frac{1}{2}  # 1/2 at every policy
    <= e^{-(\hat r_w - \hat r_l)}
        # Leave e^rhat_l out of the denominator: once the pair is ordered well, the weight dies exponentially in the margin.
      not e^{-2 (\hat r_w - \hat r_l)}  # it dies twice as fast
      not \frac{1}{2}  # never more than 1/2
    """,
)
