r"""Chapter 7 as derivations, continued: a natural-gradient step multiplies pi by exp(eta Q), state by state."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf import gibbs
from tabular_rlhf.derivations.gradients import AFFORDABLE
from tabular_rlhf.derivations.record import Derivation, Line, add
from tabular_rlhf.derivations.scores import by_token, times
from tabular_rlhf.ledger.chapter7 import loudness, values
from tabular_rlhf.ledger.chapter7_steps import by_fisher_inverse
from tabular_rlhf.logspace import log_softmax


def centered(pi: Any, v: Any) -> Any:
    """v less its mean under pi, in every state."""
    return v - np.sum(pi * v, axis=-1, keepdims=True)


def soft_Q(mdp: Any, log_pi: Any, r: Any, beta: float, L_s: Any) -> Any:
    """Q(s, a): the mean of r less the penalties of this token and of all that follow."""
    return values(mdp, log_pi, r, -beta * L_s)[1]


def advantage(mdp: Any, log_pi: Any, r: Any, beta: float, L_s: Any) -> Any:
    """A = Q - V."""
    return centered(np.exp(log_pi), soft_Q(mdp, log_pi, r, beta, L_s))


def visited(mu: Any, d: Any, pi: Any) -> Any:
    """mu(x) d_pi(s) pi(a given s)."""
    return mu[:, None, None] * d[..., None] * pi


def mildly(log_p_ref: Any, log_p: Any, mu: Any, r: Any, beta: float) -> bool:
    """Every state is visited often enough for its visits to be divided by."""
    return bool(np.isfinite(log_p_ref).all() and min(mu) > 1e-3 and np.min(log_p) > -12 and np.ptp(r) < 6 * beta)


def step_scale(r: Any, beta: float, log_p: Any, log_p_ref: Any, H: int, mu: Any) -> float:
    """The size of a term, divided by the least visits."""
    return loudness(r, beta, log_p, log_p_ref, H) * max(1.0, 1.0 / beta) * float(np.exp(-np.min(log_p)) / np.min(mu))


add(
    Derivation(
        slug="natural-gradient",
        title="The natural gradient step is exponentiated Q in every state (tabular logits, every response possible)",
        chapter=7,
        rows=("natural-gradient",),
        source="Kakade (2001); Cen et al. (2022), arXiv:2007.06558.",
        largest=AFFORDABLE,
        where=mildly,
        scale=step_scale,
        lines=(
            Line(
                r"F v = \mathbb{E}\left[ \mathrm{score}\, \langle \mathrm{score}, v \rangle \right], \quad "
                r"\mathrm{score} = \nabla \log p_\pi",
                "The Fisher matrix of pi applied to any direction v in the logits.",
                lambda score, score_v: times(score_v, score),
                law="log_p",
            ),
            Line(
                r"\sum_x \mu(x) \sum_s d_\pi(s) \sum_a \pi(a \mid s) \langle \nabla \log \pi(a \mid s), v \rangle\, "
                r"\nabla \log \pi(a \mid s)",
                "Scores of different tokens are uncorrelated: the mean of a later one is 0 given the earlier.  So collect by states.",
                lambda world, logits, d_pi, pi, direction: by_token(world, logits, d_pi[..., None] * pi * centered(pi, direction)),
                wrong={
                    "visits forgotten": lambda world, logits, pi, direction: by_token(world, logits, pi * centered(pi, direction)),
                    "tokens not weighted by pi": lambda world, logits, d_pi, pi, direction: by_token(
                        world, logits, d_pi[..., None] * centered(pi, direction)
                    ),
                },
            ),
            Line(
                r"\mu(x)\, d_\pi(s)\, \pi(a \mid s) \left( v(s, a) - \sum_b \pi(b \mid s)\, v(s, b) \right)",
                "For tabular logits grad log pi(a given s) is the one-hot of a less pi.",
                slips=("the term sum_{b} pi(b | s)*v(s, b) dropped",),
                wrong={
                    "the mean of v over all tokens alike": lambda mu, d_pi, pi, direction: (
                        visited(mu, d_pi, pi) * (direction - np.mean(direction, axis=-1, keepdims=True))
                    )
                },
            ),
            Line(r"\nabla J", "The plain gradient of the KL-regularized objective, by the gradient core.", relation="so"),
            Line(
                r"\mu(x)\, d_\pi(s)\, \pi(a \mid s)\, A(s, a), \quad A = Q - V, \quad "
                r"Q = \mathbb{E}\left[ r - \beta \sum_{u \ge t} L_u \mid s, a \right]",
                "The policy-gradient theorem with the KL penalty of the tokens, L = log(pi/pi_ref).",
                lambda mdp, mu, d_pi, pi, log_pi, r, beta, L_s: visited(mu, d_pi, pi) * advantage(mdp, log_pi, r, beta, L_s),
                wrong={
                    "Q without the penalty": lambda mdp, mu, d_pi, pi, log_pi, r, L_s: (
                        visited(mu, d_pi, pi) * advantage(mdp, log_pi, r, 0.0, L_s)
                    ),
                    "Q without V": lambda mdp, mu, d_pi, pi, log_pi, r, beta, L_s: (
                        visited(mu, d_pi, pi) * soft_Q(mdp, log_pi, r, beta, L_s)
                    ),
                    "d_ref for d_pi": lambda mdp, mu, d_ref, pi, log_pi, r, beta, L_s: (
                        visited(mu, d_ref, pi) * advantage(mdp, log_pi, r, beta, L_s)
                    ),
                },
            ),
            Line(
                r"F A",
                "The mean of A in a state is 0, so this is the formula for F v with v = A: the equation F v = grad J is solved by A.",
                lambda mdp, log_pi, r, beta, L_s, score: times(mdp.path_sum(advantage(mdp, log_pi, r, beta, L_s)), score),
                law="log_p",
                wrong={
                    "V for A: the worth of states, not of tokens": lambda mdp, log_pi, r, beta, L_s, score: times(
                        mdp.path_sum(values(mdp, log_pi, r, -beta * L_s)[0][..., None] + 0.0 * L_s), score
                    ),
                    "sign flipped": lambda mdp, log_pi, r, beta, L_s, score: times(
                        -mdp.path_sum(advantage(mdp, log_pi, r, beta, L_s)), score
                    ),
                },
            ),
            Line(
                r"\pi'(a \mid s) \propto \pi(a \mid s)\, e^{\eta\, (F^{-1} \nabla J)(s, a)}",
                "A step of length eta in the logits, along the natural gradient; the inverse is computed numerically, state by state.",
                lambda world, mdp, mu, d_pi, log_pi, eta: np.exp(by_fisher_inverse(world, mdp, mu, d_pi, log_pi, eta)),
                relation="so",
            ),
            Line(
                r"\frac{\pi(a \mid s)\, e^{\eta A(s, a)}}{\sum_b \pi(b \mid s)\, e^{\eta A(s, b)}}",
                "F^-1 grad J = A: visits and pi cancel, so rarely visited states move as fast as others.",
                wrong={
                    "the plain gradient": lambda world, log_pi, eta: np.exp(
                        log_softmax(log_pi + eta * gibbs.policy_gradient(world, log_pi))
                    ),
                    "visits not canceled": lambda mdp, mu, d_pi, log_pi, r, beta, L_s, eta: np.exp(
                        log_softmax(log_pi + eta * mu[:, None, None] * d_pi[..., None] * advantage(mdp, log_pi, r, beta, L_s))
                    ),
                    "eta for eta beta": lambda mdp, log_pi, r, beta, L_s, eta: np.exp(
                        log_softmax(log_pi + eta / beta * advantage(mdp, log_pi, r, beta, L_s))
                    ),
                },
            ),
            Line(
                r"\frac{\pi(a \mid s)\, e^{\eta Q(s, a)}}{\sum_b \pi(b \mid s)\, e^{\eta Q(s, b)}}",
                "V(s) does not depend on the token: it cancels in the quotient.",
                slips=("arguments of the difference swapped",),
                wrong={
                    "pi dropped: exp(eta Q) alone": lambda mdp, log_pi, r, beta, L_s, eta: np.exp(
                        log_softmax(eta * soft_Q(mdp, log_pi, r, beta, L_s))
                    )
                },
            ),
            Line(
                r"\frac{1}{Z(s)}\, \pi(a \mid s)^{1 - \eta\beta} \left( \pi_{ref}(a \mid s)\, e^{\bar{Q}(s, a)/\beta} \right)^{\eta\beta}, "
                r"\quad \bar{Q} = Q + \beta L(s, a)",
                "Take the token's own penalty out of Q; Z(s) sums over tokens.  With eta = 1/beta pi is forgotten: soft policy iteration.",
                lambda mdp, log_pi, log_pi_ref, r, beta, L_s, eta: np.exp(
                    log_softmax(
                        (1.0 - eta * beta) * log_pi + eta * beta * (log_pi_ref + (soft_Q(mdp, log_pi, r, beta, L_s) + beta * L_s) / beta)
                    )
                ),
                wrong={
                    "Q for what follows: the penalty counted twice": lambda mdp, log_pi, log_pi_ref, r, beta, L_s, eta: np.exp(
                        log_softmax((1.0 - eta * beta) * log_pi + eta * beta * (log_pi_ref + soft_Q(mdp, log_pi, r, beta, L_s) / beta))
                    ),
                    "pi_ref dropped": lambda mdp, log_pi, r, beta, L_s, eta: np.exp(
                        log_softmax((1.0 - eta * beta) * log_pi + eta * (soft_Q(mdp, log_pi, r, beta, L_s) + beta * L_s))
                    ),
                    "pi to the power 1": lambda mdp, log_pi, log_pi_ref, r, beta, L_s, eta: np.exp(
                        log_softmax(log_pi + eta * beta * (log_pi_ref + (soft_Q(mdp, log_pi, r, beta, L_s) + beta * L_s) / beta))
                    ),
                },
            ),
        ),
        letters={"v": "direction"},
    )
)
