r"""Chapter 7 as derivations: the policy gradient by the log-derivative trick, from responses to tokens to states; then the KL term.

E averages over prompts x ~ mu and responses tau ~ p_pi(. given x); theta are the logits of pi in every state.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.derivations.record import Derivation, Line, add
from tabular_rlhf.derivations.scores import along, by_choice, by_token, each, of_mean, times, weigh
from tabular_rlhf.ledger.chapter7 import WILLIAMS, by_states, loudness, paid, values
from tabular_rlhf.logspace import expect
from tabular_rlhf.policy_gradient.updates import paths

AFFORDABLE = 40
"""Responses over all prompts: tables of gradients hold P N P S V numbers."""


def reward_term(r: Any, H: int) -> float:
    """The largest term of a gradient of E[r]: a reward times a sum of H scores."""
    return float(1.0 + np.max(np.abs(r))) * (1.0 + H)


# ---------------------------------------------------------------------------------------------------- policy-gradient


def mean_after(mdp: Any, log_pi: Any, r: Any) -> Any:
    """Q(s, a): the mean reward of the responses that take a in s."""
    return values(mdp, log_pi, r)[1]


def lengthwise(mdp: Any, pi: Any, r: Any) -> Any:
    """A wrong line: the scores of a response averaged over its tokens."""
    return times(r / mdp.lengths, along(mdp, pi, 1.0))


add(
    Derivation(
        slug="policy-gradient",
        title="The policy-gradient theorem by the log-derivative trick",
        chapter=7,
        rows=("policy-gradient",),
        source=WILLIAMS,
        largest=AFFORDABLE,
        scale=reward_term,
        lines=(
            Line(
                r"\nabla_\theta\, \mathbb{E}[r] = \nabla_\theta \sum_x \mu(x) \sum_\tau p_\pi(\tau \mid x)\, r(x, \tau)",
                "The gradient, in the logits of pi, of the mean reward over prompts x ~ mu and responses tau ~ p_pi, by the gradient core.",
                lambda world, logits, r: of_mean(world, logits, lambda log_p: expect(log_p, r)),
            ),
            Line(
                r"\sum_x \mu(x) \sum_\tau r(x, \tau)\, \nabla p_\pi(\tau \mid x)",
                "The gradient of a finite sum is the sum of the gradients; mu and r do not depend on theta.",
                lambda world, mu, logits, r: weigh(mu, r, each(world, logits, np.exp)),
                wrong={
                    "r dropped because its own gradient is 0": lambda world, mu, logits, r: weigh(
                        mu, np.ones_like(r), each(world, logits, np.exp)
                    ),
                    "p kept beside its own gradient": lambda world, mu, logits, r, p: weigh(mu, p * r, each(world, logits, np.exp)),
                },
            ),
            Line(
                r"\sum_x \mu(x) \sum_\tau r(x, \tau)\, p_\pi(\tau \mid x)\, \nabla \log p_\pi(\tau \mid x)",
                "The log-derivative trick: grad log p = grad p / p, so grad p = p grad log p.  An impossible response stays impossible.",
                lambda world, mu, logits, r, p: weigh(mu, r * p, each(world, logits, lambda log_p: log_p)),
                wrong={
                    "grad log p taken for grad p": lambda world, mu, logits, r: weigh(mu, r, each(world, logits, lambda log_p: log_p)),
                    "p twice": lambda world, mu, logits, r, p: weigh(mu, r * p * p, each(world, logits, lambda log_p: log_p)),
                    "drawn from p_ref": lambda world, mu, logits, r, p_ref: weigh(mu, r * p_ref, each(world, logits, lambda log_p: log_p)),
                },
            ),
            Line(
                r"\mathbb{E}\left[ r(x, \tau)\, \nabla \log p_\pi(\tau \mid x) \right]",
                "A sum with weights mu p is a mean: draws estimate it, and that is what makes the trick useful.",
                lambda r, score: times(r, score),
                relation="in expectation",
                law="log_p",
                wrong={
                    "p left inside the mean": lambda r, p, score: times(r * p, score),
                    "sign flipped: descent for ascent": lambda r, score: times(-r, score),
                    "the reward forgotten": lambda score: score,
                },
            ),
            Line(
                r"\mathbb{E}\left[ r(x, \tau) \sum_t \nabla \log \pi(a_t \mid s_t) \right]",
                "The chain rule of probability: log p_pi is the sum of log pi along the response, EOS counted.",
                law="log_p",
                slips=("log dropped",),
                wrong={
                    "the mean over tokens where the sum was due": lengthwise,
                    "the score of a token without the normalization of pi": lambda mdp, r: times(
                        r, np.einsum("xnsv,xy->xnysv", np.broadcast_to(paths(mdp), (mdp.P, mdp.N, mdp.S, mdp.V)), np.eye(mdp.P))
                    ),
                },
            ),
            Line(
                r"\sum_x \mu(x) \sum_s \sum_a \left( \sum_{\tau \ni (s, a)} p_\pi(\tau \mid x)\, r(x, \tau) \right) "
                r"\nabla \log \pi(a \mid s)",
                "Exchange the sums: collect, for each state s and token a, all responses that take a in s.",
                lambda world, mdp, logits, p, r: by_token(world, logits, mdp.subtree_sum(p * r)),
                wrong={
                    "rewards not weighted by p": lambda world, mdp, logits, r: by_token(world, logits, mdp.subtree_sum(r)),
                    "only p collected, r forgotten": lambda world, mdp, logits, p: by_token(world, logits, mdp.subtree_sum(p)),
                },
            ),
            Line(
                r"\sum_x \mu(x) \sum_s d_\pi(s) \sum_a \pi(a \mid s)\, Q(s, a)\, \nabla \log \pi(a \mid s)",
                "p_pi passes (s, a) with probability d_pi(s) pi(a given s); Q(s, a) is the mean reward of what passes there.",
                lambda world, mdp, logits, d_pi, pi, log_pi, r: by_token(world, logits, d_pi[..., None] * pi * mean_after(mdp, log_pi, r)),
                wrong={
                    "d_ref for d_pi": lambda world, mdp, logits, d_ref, pi, log_pi, r: by_token(
                        world, logits, d_ref[..., None] * pi * mean_after(mdp, log_pi, r)
                    ),
                    "states not weighted by visits": lambda world, mdp, logits, pi, log_pi, r: by_token(
                        world, logits, pi * mean_after(mdp, log_pi, r)
                    ),
                    "V for Q": lambda world, mdp, logits, d_pi, pi, log_pi, r: by_token(
                        world, logits, d_pi[..., None] * pi * values(mdp, log_pi, r)[0][..., None]
                    ),
                },
            ),
            Line(
                r"\sum_x \mu(x) \sum_s d_\pi(s) \sum_a Q(s, a)\, \nabla \pi(a \mid s)",
                "The trick backwards, state by state: pi grad log pi = grad pi.  No gradient of d_pi or of Q is needed.",
                lambda world, mdp, logits, d_pi, log_pi, r: by_choice(world, logits, d_pi[..., None] * mean_after(mdp, log_pi, r)),
                wrong={
                    "pi kept beside its own gradient": lambda world, mdp, logits, d_pi, pi, log_pi, r: by_choice(
                        world, logits, d_pi[..., None] * pi * mean_after(mdp, log_pi, r)
                    ),
                    "d_pi dropped": lambda world, mdp, logits, log_pi, r: by_choice(world, logits, mean_after(mdp, log_pi, r)),
                },
            ),
            Line(
                r"\mu(x)\, d_\pi(s)\, \pi(a \mid s) \left( Q(s, a) - V(s) \right), \quad V(s) = \sum_b \pi(b \mid s)\, Q(s, b)",
                "For tabular logits the slope of pi(b given s) in the logit of a is pi(a)(1 - pi(a)) for b = a and -pi(a) pi(b) otherwise.",
                lambda mdp, mu, d_pi, log_pi, r: by_states(mdp, mu, d_pi, log_pi, r),
                wrong={
                    "the normalization of pi forgotten: Q without V": lambda mdp, mu, d_pi, pi, log_pi, r: (
                        mu[:, None, None] * d_pi[..., None] * pi * mean_after(mdp, log_pi, r)
                    ),
                    "pi dropped": lambda mdp, mu, d_pi, log_pi, r: (
                        mu[:, None, None] * d_pi[..., None] * (mean_after(mdp, log_pi, r) - values(mdp, log_pi, r)[0][..., None])
                    ),
                },
            ),
        ),
        letters={"Q": "E_p[r | s, a]"},
    )
)

# ---------------------------------------------------------------------------------------------------- kl-regularized-gradient


def kept(log_p: Any) -> Any:
    """log p, and 0 for impossible responses."""
    return np.where(np.isneginf(log_p), 0.0, log_p)


def penalties_to_come(mdp: Any, L_s: Any) -> Any:
    """sum over u >= t of L_u, for every response and every token that it takes: (P, N, S, V)."""
    return mdp.path_sum(L_s)[..., None, None] - mdp.prefix_sum(L_s)[:, None, :, None] + np.zeros((1, 1, 1, mdp.V))


add(
    Derivation(
        slug="kl-regularized-gradient",
        formerly=("kl-regularised-gradient",),
        title="The gradient of the KL-regularized objective",
        chapter=7,
        rows=("kl-regularized-gradient",),
        source="Ziegler et al. (2019), arXiv:1909.08593; Stiennon et al. (2020), arXiv:2009.01325.",
        largest=AFFORDABLE,
        scale=loudness,
        lines=(
            Line(
                r"\nabla J = \nabla \sum_x \mu(x) \sum_\tau p_\pi \left( r - \beta \log\frac{p_\pi}{p_{ref}} \right)",
                "pi stands in two places: in the law of the draws, and inside the penalty.",
            ),
            Line(
                r"\sum_x \mu(x) \sum_\tau \left( r - \beta \log\frac{p_\pi}{p_{ref}} \right) \nabla p_\pi "
                r"- \beta \sum_x \mu(x) \sum_\tau p_\pi \nabla \log p_\pi",
                "The product rule: first the law moves, then the penalty; r and p_ref do not.",
                slips=("p_ref for p", "sign of beta*log(p/p_ref) flipped"),
                wrong={
                    "p dropped in the second sum": (
                        "sum_{x} mu(x)*sum_{tau} (r - beta*log(p/p_ref))*nabla(p) - beta*sum_{x} mu(x)*sum_{tau} nabla(log(p))"
                    )
                },
            ),
            Line(
                r"\mathbb{E}\left[ \left( r - \beta \log\frac{p_\pi}{p_{ref}} \right) \nabla \log p_\pi \right] "
                r"- \beta\, \mathbb{E}\left[ \nabla \log p_\pi \right]",
                "grad p = p grad log p in the first sum; both sums are means.",
                slips=("beta dropped",),
                wrong={
                    "drawn from p_ref": lambda mu, p_ref, r, beta, L, score: (
                        weigh(mu, p_ref * (r - beta * L), score) - beta * weigh(mu, p_ref, score)
                    )
                },
            ),
            Line(
                r"\mathbb{E}\left[ \left( r - \beta \log\frac{p_\pi}{p_{ref}} \right) \nabla \log p_\pi \right]",
                "E[grad log p_pi] = sum of grad p_pi = grad 1 = 0: the penalty may be frozen, as if it were a reward.",
                lambda r, beta, log_p, log_p_ref, score: times(paid(r, beta, log_p, log_p_ref), score),
                relation="in expectation",
                law="log_p",
                wrong={
                    "the vanishing term kept as -beta": lambda r, beta, L, score: times(r - beta * L, score) - beta,
                    "the penalty without p_ref": lambda r, beta, log_p, score: times(r - beta * kept(log_p), score),
                    "log base 2": lambda r, beta, L, score: times(r - beta * L / np.log(2.0), score),
                },
            ),
            Line(
                r"\mathbb{E}\left[ \sum_t \left( r - \beta \sum_u \log\frac{\pi(a_u \mid s_u)}{\pi_{ref}(a_u \mid s_u)} \right) "
                r"\nabla \log \pi(a_t \mid s_t) \right]",
                "Both logarithms are sums along the response.",
                lambda mdp, pi, r, beta, L_s: along(mdp, pi, (r - beta * mdp.path_sum(L_s))[..., None, None]),
                law="log_p",
                wrong={
                    "the penalty of the token itself only": lambda mdp, pi, r, beta, L_s: along(
                        mdp, pi, r[..., None, None] - beta * L_s[:, None]
                    ),
                    "the mean penalty of the tokens": lambda mdp, pi, r, beta, L_s: along(
                        mdp, pi, (r - beta * mdp.path_sum(L_s) / mdp.lengths)[..., None, None]
                    ),
                },
            ),
            Line(
                r"\mathbb{E}\left[ \sum_t \left( r - \beta \sum_{u \ge t} \log\frac{\pi(a_u \mid s_u)}{\pi_{ref}(a_u \mid s_u)} \right) "
                r"\nabla \log \pi(a_t \mid s_t) \right]",
                "Penalties paid before s_t are known there, and the mean of the next score is 0: a token answers for what follows.",
                lambda mdp, pi, r, beta, L_s: along(mdp, pi, r[..., None, None] - beta * penalties_to_come(mdp, L_s)),
                relation="in expectation",
                law="log_p",
                wrong={
                    "the token's own penalty left out: u > t": lambda mdp, pi, r, beta, L_s: along(
                        mdp, pi, r[..., None, None] - beta * (penalties_to_come(mdp, L_s) - L_s[:, None])
                    ),
                    "the reward spread over the tokens": lambda mdp, pi, r, beta, L_s: along(
                        mdp, pi, (r / mdp.lengths)[..., None, None] - beta * penalties_to_come(mdp, L_s)
                    ),
                },
            ),
            Line(
                r"\sum_x \mu(x) \sum_s d_\pi(s) \sum_a Q(s, a)\, \nabla \pi(a \mid s), \quad "
                r"Q = \mathbb{E}\left[ r - \beta \sum_{u \ge t} \log\frac{\pi}{\pi_{ref}} \mid s_t = s, a_t = a \right]",
                "Collected by states, as in the policy-gradient theorem.",
                lambda world, mdp, logits, d_pi, log_pi, r, beta, L_s: by_choice(
                    world, logits, d_pi[..., None] * values(mdp, log_pi, r, -beta * L_s)[1]
                ),
                wrong={
                    "Q without the penalty": lambda world, mdp, logits, d_pi, log_pi, r: by_choice(
                        world, logits, d_pi[..., None] * values(mdp, log_pi, r)[1]
                    ),
                    "d_ref for d_pi": lambda world, mdp, logits, d_ref, log_pi, r, beta, L_s: by_choice(
                        world, logits, d_ref[..., None] * values(mdp, log_pi, r, -beta * L_s)[1]
                    ),
                },
            ),
        ),
    )
)
