r"""Chapter 7 as derivations, continued: reward to go.

Past rewards have no covariance with later scores, so they may be dropped.  That this *always* lowers the variance is false: the last
lines say exactly what it saves, and the cross term there may be negative.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.derivations.gradients import AFFORDABLE
from tabular_rlhf.derivations.record import Derivation, Line, add
from tabular_rlhf.derivations.scores import along, by_choice, by_token, summed_variance, weigh
from tabular_rlhf.ledger.chapter7 import earned_before, squared_scores, values
from tabular_rlhf.logspace import expect
from tabular_rlhf.policy_gradient.updates import paths


def past(mdp: Any, r_token: Any) -> Any:
    """G_<t, what was earned before s_t: (P, 1, S, V), the same for every response that passes there."""
    return earned_before(mdp, r_token)[:, None]


def to_come(mdp: Any, r_token: Any) -> Any:
    """G_>=t, what is earned from t on: (P, N, S, V)."""
    return mdp.path_sum(r_token)[..., None, None] - past(mdp, r_token)


def taken_squares(mdp: Any, log_pi: Any, r_token: Any) -> Any:
    """|s_t|^2 G_>=t^2 of every response and every token that it takes: (P, N, S, V)."""
    return paths(mdp) * squared_scores(log_pi)[:, None] * np.square(to_come(mdp, r_token))


def token_terms(r_token: Any, H: int) -> float:
    """The size of a squared update."""
    return float(1.0 + np.max(np.abs(r_token))) ** 2 * H**3


def after(mdp: Any, log_pi: Any, r: Any, r_token: Any) -> Any:
    """Q(s, a): the mean of what is earned from a on."""
    return values(mdp, log_pi, np.zeros_like(r), r_token)[1]


add(
    Derivation(
        slug="reward-to-go",
        title="Reward to go: the past may be dropped, which saves variance unless past and future cancel",
        chapter=7,
        rows=("reward-to-go",),
        source="Sutton et al. (2000); Baxter and Bartlett (2001).",
        largest=AFFORDABLE,
        scale=token_terms,
        lines=(
            Line(
                r"\mathbb{E}\left[ \sum_t s_t\, G \right], \quad s_t = \nabla \log \pi(a_t \mid s_t), \quad G = \sum_t r_t",
                "Every token earns r_t, and at first each is credited with the whole return G.",
                law="log_p",
            ),
            Line(
                r"\mathbb{E}\left[ \sum_t s_t\, (G_{<t} + G_{\ge t}) \right]",
                "Split the return at the token: what was earned before it, and what is earned from it on.",
                lambda mdp, pi, r_token: along(mdp, pi, past(mdp, r_token)) + along(mdp, pi, to_come(mdp, r_token)),
                law="log_p",
                wrong={
                    "the token's own reward lost between past and future": lambda mdp, pi, r_token: (
                        along(mdp, pi, past(mdp, r_token)) + along(mdp, pi, to_come(mdp, r_token) - r_token[:, None])
                    ),
                    "the future subtracted": lambda mdp, pi, r_token: (
                        along(mdp, pi, past(mdp, r_token)) - along(mdp, pi, to_come(mdp, r_token))
                    ),
                },
            ),
            Line(
                r"\sum_x \mu(x) \sum_s d_\pi(s)\, G_{<}(s) \sum_a \pi(a \mid s)\, \nabla \log \pi(a \mid s) "
                r"+ \mathbb{E}\left[ \sum_t s_t\, G_{\ge t} \right]",
                "The past is a function of the state: collect the first part by states, as in the policy-gradient theorem.",
                lambda world, mdp, mu, logits, d_pi, pi, p, r_token: (
                    by_token(world, logits, d_pi[..., None] * earned_before(mdp, r_token) * pi)
                    + weigh(mu, p, along(mdp, pi, to_come(mdp, r_token)))
                ),
                wrong={
                    "the next token not weighted by pi": lambda world, mdp, mu, logits, d_pi, pi, p, r_token: (
                        by_token(world, logits, d_pi[..., None] * earned_before(mdp, r_token) * (pi > 0))
                        + weigh(mu, p, along(mdp, pi, to_come(mdp, r_token)))
                    ),
                },
            ),
            Line(
                r"\mathbb{E}\left[ \sum_t s_t\, G_{\ge t} \right]",
                "In every state sum over a of pi grad log pi = grad 1 = 0: past rewards have no covariance with later scores.",
                lambda mdp, pi, r_token: along(mdp, pi, to_come(mdp, r_token)),
                relation="in expectation",
                law="log_p",
                wrong={
                    "the immediate reward only": lambda mdp, pi, r_token: along(mdp, pi, r_token[:, None]),
                    "G_>t: the token's own reward dropped too": lambda mdp, pi, r_token: along(
                        mdp, pi, to_come(mdp, r_token) - r_token[:, None]
                    ),
                    "sign flipped": lambda mdp, pi, r_token: -along(mdp, pi, to_come(mdp, r_token)),
                },
            ),
            Line(
                r"\sum_x \mu(x) \sum_s d_\pi(s) \sum_a Q(s, a)\, \nabla \pi(a \mid s)",
                "Q(s, a) is the mean of the reward to go: the same theorem, for rewards of tokens.",
                lambda world, mdp, logits, d_pi, log_pi, r, r_token: by_choice(
                    world, logits, d_pi[..., None] * after(mdp, log_pi, r, r_token)
                ),
                wrong={
                    "d_ref for d_pi": lambda world, mdp, logits, d_ref, log_pi, r, r_token: by_choice(
                        world, logits, d_ref[..., None] * after(mdp, log_pi, r, r_token)
                    ),
                },
            ),
            Line(
                r"\sum_k \mathrm{Var}\left( \sum_t \partial_k \log \pi(a_t \mid s_t)\, G \right) "
                r"- \sum_k \mathrm{Var}\left( \sum_t \partial_k \log \pi(a_t \mid s_t)\, G_{\ge t} \right)",
                "Does it save variance?  For each prompt, added up over the coordinates k of theta.",
                lambda mdp, pi, p, r_token: (
                    summed_variance(p, along(mdp, pi, mdp.path_sum(r_token)[..., None, None]))
                    - summed_variance(p, along(mdp, pi, to_come(mdp, r_token)))
                ),
                relation="so",
            ),
            Line(
                r"\mathbb{E}\left| \sum_t s_t\, G \right|^2 - \mathbb{E}\left| \sum_t s_t\, G_{\ge t} \right|^2",
                "Both updates have the same mean, so their squared means cancel.",
                lambda mdp, pi, p, r_token: (
                    np.einsum("xn,xnysv->x", p, np.square(along(mdp, pi, mdp.path_sum(r_token)[..., None, None])))
                    - np.einsum("xn,xnysv->x", p, np.square(along(mdp, pi, to_come(mdp, r_token))))
                ),
                wrong={
                    "the square of the difference for the difference of squares": lambda mdp, pi, p, r_token: np.einsum(
                        "xn,xnysv->x", p, np.square(along(mdp, pi, past(mdp, r_token)))
                    ),
                    "exchanged: what it costs": lambda mdp, pi, p, r_token: (
                        np.einsum("xn,xnysv->x", p, np.square(along(mdp, pi, to_come(mdp, r_token))))
                        - np.einsum("xn,xnysv->x", p, np.square(along(mdp, pi, mdp.path_sum(r_token)[..., None, None])))
                    ),
                },
            ),
            Line(
                r"\mathbb{E}\left[ \sum_t |s_t|^2 \left( G^2 - G_{\ge t}^2 \right) \right]",
                "Tabular logits of different states are different coordinates, so |sum over t|^2 is a sum over t of squares.",
                lambda mdp, log_pi, log_p, r_token: expect(
                    log_p,
                    np.square(mdp.path_sum(r_token)) * mdp.path_sum(squared_scores(log_pi))
                    - np.sum(taken_squares(mdp, log_pi, r_token), axis=(-2, -1)),
                ),
                wrong={
                    "|s_t| for |s_t|^2": lambda mdp, log_pi, log_p, r_token: expect(
                        log_p,
                        np.square(mdp.path_sum(r_token)) * mdp.path_sum(np.sqrt(squared_scores(log_pi)))
                        - np.sum(taken_squares(mdp, log_pi, r_token), axis=(-2, -1)),
                    ),
                },
            ),
            Line(
                r"\mathbb{E}\left[ \sum_t |s_t|^2 \left( G_{<t}^2 + 2\, G_{<t}\, G_{\ge t} \right) \right]",
                "G = G_<t + G_>=t, squared.  Where past and future cancel, the cross term is negative: it costs variance to drop the past.",
                lambda mdp, log_pi, p, r_token: np.einsum(
                    "xn,nsv,xsv,xnsv->x",
                    p,
                    paths(mdp),
                    squared_scores(log_pi),
                    np.square(past(mdp, r_token)) + 2.0 * past(mdp, r_token) * to_come(mdp, r_token),
                ),
                wrong={
                    "the cross term forgotten: never a loss": lambda mdp, log_pi, p, r_token: np.einsum(
                        "xn,nsv,xsv,xnsv->x",
                        p,
                        paths(mdp),
                        squared_scores(log_pi),
                        np.square(past(mdp, r_token)) + 0.0 * p[..., None, None],
                    ),
                    "the 2 forgotten": lambda mdp, log_pi, p, r_token: np.einsum(
                        "xn,nsv,xsv,xnsv->x",
                        p,
                        paths(mdp),
                        squared_scores(log_pi),
                        np.square(past(mdp, r_token)) + past(mdp, r_token) * to_come(mdp, r_token),
                    ),
                },
            ),
        ),
    )
)
